"""Holds the credit model's scores against outcomes that it has not seen, beside its peers on the same rows.

Needs the training night of the as-of date: outcomes are those known by then. Writes evaluation.json and predictions
into the market's reports; ``make evaluate`` puts the markets' findings on one page.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from scipy.special import expit, logit
from sklearn.model_selection import StratifiedGroupKFold

from conf.features import FEATURES
from conf.settings import Fairness, Settings
from conf.source import CrossValidation, OutOfTime, Source, load_source
from features.training_set import build_training_set, month_end, months_between, with_region
from models.attainable import beside_truth
from models.auc_loss import compare_losses, probabilities_by_seed
from models.credit_model import CreditModel, Origin, TooFewDefaults, TrainingReport, fit_credit_model
from models.ensemble import INPUTS
from models.fairness import ATTRIBUTES, GENDER_AND_AGE, build_attributes, fairness_table
from models.hazard import NO_LIFETIME
from models.metrics import (
    against_ensemble,
    auc,
    auc_interval,
    label_weight,
    loss_difference,
    ranking,
    ranking_against_ensemble,
    score_metrics,
)
from models.peers import PEERS, peer_scores
from models.reason_check import first_reason_holds
from models.sub_models import KEYS, LOG_ODDS, SUB_MODELS
from models.term_offset import TERM
from spark_jobs.allocate import bounded
from spark_jobs.attainable import with_attainable
from spark_jobs.evaluate_company import company_findings, company_predictions, company_walk_forward
from spark_jobs.lake import Lake
from spark_jobs.leak_gate import leak_measures, require_no_leak, sides_apart
from spark_jobs.manifest import Night, code_version, current_night
from spark_jobs.silver import read_company_silver, read_silver
from spark_jobs.train_company import build_company_training_set

MAX_ROWS = 500_000
"""Peers learn on one machine: more rows of a data set are an error."""
REASON_ROWS = 500
"""Of each split, whose reasons are checked."""
WITHOUT = "without_gender_and_age"


@dataclass(frozen=True)
class Split:
    """Rows that train and rows that are tested, both with the columns of TRAINING_SET; name says which.

    repeat: from 1, which of the protocol's passes over all rows this is part of.
    """

    name: str
    training: DataFrame
    test: DataFrame
    repeat: int = 1


def run(spark: SparkSession, settings: Settings, as_of_date: date, full: bool = False) -> None:
    """Write ``reports/evaluation.json`` and ``reports/predictions.parquet`` of this market.

    as_of_date: the last day whose knowledge tells outcomes. full: the studies too: a second training without gender and age
    and the AUC loss against cross-entropy, both of a first repeat, and the protocol's walk-forward. Raises NoOpenNight before its training night is opened.
    """
    lake, source = Lake(spark, settings), load_source(settings.source)
    night = current_night(settings, as_of_date, training=True)
    if settings.product == "company":
        _evaluate_companies(lake, source, night, full)
        return
    silver = read_silver(lake, night.silver_versions)
    protocol = source.evaluation
    of = origin(settings, source, night)
    splits = cross_validation if isinstance(protocol, CrossValidation) else out_of_time
    tested, learnt, unfitted = [], [], {}
    for split in splits(silver, source, settings, as_of_date):
        print(f"{settings.source}: {split.name}", flush=True)
        split = replace(split, test=with_region(split.test, silver["borrower"]))
        found, out_of_fold_auc, failed = predictions(split, settings, of, protocol.single_features, full)
        learnt.append(out_of_fold_auc)
        if protocol.drawn:
            found, reference = with_attainable(lake, source, split.training, split.test, found)
        tested.append(found)
        unfitted = failed | unfitted
    rows = pd.concat(tested, ignore_index=True)
    how = {
        **protocol.model_dump(mode="json"), "known_on": as_of_date.isoformat(),
        "within_policy_only": settings.training.within_policy_only, "auc_weight": settings.training.auc_weight,
        "indeterminate_days": source.indeterminate_days, "outcome": source.outcome, "horizon_months": source.horizon_months,
        "blocks": source.blocks, "code_version": of.code_version,
    }
    walks = full and isinstance(protocol, OutOfTime) and protocol.walk_forward_from
    forward = walk_forward(silver, source, settings, as_of_date, of) if walks else None
    found = findings(rows, how, settings.fairness, unfitted, forward)
    found["out_of_fold_auc"] = pd.DataFrame(learnt).mean().to_dict()
    if protocol.drawn:
        found["attainable"] = beside_truth(rows) | {"reference": reference}
    _write(settings, rows, found)


def _write(settings: Settings, rows: pd.DataFrame, found: Mapping[str, object]) -> None:
    folder = settings.market / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(folder / "predictions.parquet", index=False)
    (folder / "evaluation.json").write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


def _evaluate_companies(lake: Lake, source: Source, night: Night, full: bool) -> None:
    settings, protocol, of = lake.settings, source.evaluation, origin(lake.settings, source, night)
    silver = read_company_silver(lake, night.silver_versions)
    rows = build_company_training_set(silver, source.currency, night.as_of_date).persist()
    told, unfitted = company_predictions(rows, protocol, settings, of)
    how = {
        **protocol.model_dump(mode="json"), "known_on": night.as_of_date.isoformat(), "within_policy_only": False,
        "recent_years": settings.company.recent_years, "code_version": of.code_version,
    }
    forward = company_walk_forward(rows, protocol, settings, of) if full and protocol.walk_forward_from else None
    _write(settings, told, company_findings(told, how, unfitted, forward))


def origin(settings: Settings, source: Source, night: Night) -> Origin:
    """Where the models of an evaluation come from; none of them is registered."""
    return Origin(
        settings.source, night.as_of_date.isoformat(), source.horizon_months, code_version(settings.source), night.silver_versions
    )


def cross_validation(silver: Mapping[str, DataFrame], source: Source, settings: Settings, as_of_date: date) -> Iterator[Split]:
    """One split per fold and repeat. Parties stay together, and every fold has its share of defaults."""
    protocol: CrossValidation = source.evaluation
    rows = build_training_set(silver, source, settings.training, as_of_date).persist()
    require_no_leak(leak_measures(rows, silver, source, settings, as_of_date), "the rows of the folds")
    parties = rows.select(*KEYS, "identity_group_id", "is_default").toPandas().sort_values(list(KEYS), ignore_index=True)
    for repeat in range(protocol.repeats):
        folds = StratifiedGroupKFold(protocol.folds, shuffle=True, random_state=protocol.seed + repeat)
        place = np.zeros(len(parties), dtype=int)
        for number, (_, test) in enumerate(folds.split(parties, parties["is_default"], parties["identity_group_id"])):
            place[test] = number
        tested_in = rows.sparkSession.createDataFrame(parties[list(KEYS)].assign(tested_in=place))
        placed = rows.join(F.broadcast(tested_in), on=list(KEYS), how="inner").persist()
        of_repeat = f"repeat {repeat + 1} of {protocol.repeats}, " if protocol.repeats > 1 else ""
        for number in range(protocol.folds):
            is_tested = F.col("tested_in") == number
            name = f"{of_repeat}fold {number + 1} of {protocol.folds}"
            split = Split(name, placed.where(~is_tested), placed.where(is_tested), repeat + 1)
            require_no_leak(sides_apart({"training": split.training, "test": split.test}), f"the rows of {split.name}")
            yield split
        placed.unpersist()


@dataclass(frozen=True)
class Period:
    """Days to test, both ends included, and the day whose knowledge trains."""

    trained_on: date
    first: date
    last: date

    @property
    def quarter(self) -> str:
        """The calendar quarter in which it ends, such as 2010 Q1."""
        return f"{self.last.year} Q{(self.last.month + 2) // 3}"


def out_of_time(silver: Mapping[str, DataFrame], source: Source, settings: Settings, as_of_date: date) -> Iterator[Split]:
    """One split: what was knowable on the training date, and rows of the days to test that are not among it."""
    protocol: OutOfTime = source.evaluation
    period = Period(protocol.trained_on, protocol.tested_from, protocol.tested_until)
    return _splits_of([period], silver, source, settings, as_of_date)


def quarters(first: date, last: date) -> list[Period]:
    """Three months each, from the first day to the last, which may cut the last one short; trained on their own first day."""
    # All from the first day: 31 December, 31 March, 30 June, 30 September, 31 December.
    starts = [(pd.Timestamp(first) + pd.DateOffset(months=months)).date() for months in range(0, months_between(first, last) + 4, 3)]
    return [Period(start, start, min(after - timedelta(days=1), last)) for start, after in pairwise(starts) if start <= last]


def _splits_of(
    periods: Sequence[Period], silver: Mapping[str, DataFrame], source: Source, settings: Settings, as_of_date: date
) -> Iterator[Split]:
    """One split per period, in order of time. What the session has cached is dropped after each."""
    monthly = settings.training.model_copy(update={"cohort_step_months": 1})
    for period in periods:
        month_ends = [month_end(period.first, month) for month in range(months_between(period.first, period.last) + 1)]
        # Both are kept before anything is asked of them: the optimizer would carry a condition into 80 formulas without end.
        later = build_training_set(silver, source, monthly, as_of_date, month_ends).persist()
        require_no_leak(leak_measures(later, silver, source, settings, as_of_date), "the rows to test")
        known = build_training_set(silver, source, settings.training, period.trained_on).persist()
        require_no_leak(
            leak_measures(known, silver, source, settings, period.trained_on), f"the training rows of {period.trained_on}"
        )
        in_time = F.col("as_of_date").between(F.lit(period.first), F.lit(period.last))
        test = later.where(in_time).join(known, on=list(KEYS), how="left_anti")
        yield Split(f"trained on {period.trained_on}, tested on {period.first} to {period.last}", known, test)
        # Not these two alone: what they were made from is cached too, each with some dozen broadcast tables of megabytes in
        # its plan, which after eight quarters had filled a driver of 4 GiB.
        known.sparkSession.catalog.clearCache()


def predictions(
    split: Split, settings: Settings, of: Origin, single_features: Sequence[str], full: bool = False
) -> tuple[pd.DataFrame, Mapping[str, float], dict[str, str]]:
    """One row per tested row: keys, split, repeat, is_default, default_on, watched_share, is_unseen (nobody of its party trained),
    in the first repeat reason_holds (null: not among the rows that are checked), the attributes of fairness, and a column per scorer: probabilities,
    for sub-models log-odds, for a single feature its value, unknown ones as 0; under full, in the first repeat, WITHOUT and those of
    ``probabilities_by_seed`` too. Then the AUCs of the stack on its training rows, out of fold; and the peers that could not be
    fitted, each with why.

    split.test has region beside the columns of TRAINING_SET. Raises TooManyRows.
    """
    model, report = fit_credit_model(split.training, split.training.limit(0), settings.training, of, NO_LIFETIME)
    names = list(model.features)
    trained = split.training.select("identity_group_id").distinct().withColumn("trained", F.lit(True))
    scored = _sorted(
        model.score(split.test.join(trained, on="identity_group_id", how="left"), settings.scores).select(
            *KEYS, "is_default", "default_on", "watched_share", F.col("trained").isNull().alias("is_unseen"), "prob_default", "risk_group",
            "region", *INPUTS, *(feature.name for feature in FEATURES),
        )
    )
    known = split.training.select(*KEYS, "is_default", "watched_share", *dict.fromkeys([*names, TERM]))
    rows = bounded(known, MAX_ROWS, "training rows (training.max_training_rows)").to_pandas()
    rows = rows.sort_values(list(KEYS), ignore_index=True)
    is_default = rows["is_default"].to_numpy(dtype=float)
    # Peers learn of a default within the horizon, of no indeterminates, and have the sub-models' offset for each row's own term.
    learnt_offset, offset = (model.term_offset.of(frame[TERM].to_numpy(dtype=float)) for frame in (rows, scored))
    weight = label_weight(is_default, rows["watched_share"].to_numpy() * np.exp(learnt_offset))
    of_peers, unfitted = peer_scores(rows[names], is_default, weight, scored, settings.training.seed % 2**31)
    of_peers = {name: expit(logit(prob) + offset) for name, prob in of_peers.items()}
    columns = _of_stack(scored, single_features) | of_peers
    unfitted = {name: f"{split.name}: {why}" for name, why in unfitted.items()}
    if full and split.repeat == 1:
        columns |= probabilities_by_seed(report.stacked, scored[list(INPUTS)].to_numpy(), settings.training)
        blind = settings.training.model_copy(update={"left_out_features": [*settings.training.left_out_features, *GENDER_AND_AGE]})
        without, _ = fit_credit_model(split.training, split.training.limit(0), blind, of, NO_LIFETIME)
        columns[WITHOUT] = _sorted(without.score(split.test, settings.scores).select(*KEYS, "prob_default"))["prob_default"]
    attributes = build_attributes(scored["age_years"], scored["is_female"], scored["region"])
    tested = scored[[*KEYS, "is_default", "default_on", "watched_share", "is_unseen", "risk_group"]].join(attributes)
    tested = tested.assign(split=split.name, repeat=split.repeat, **columns)
    if split.repeat == 1:
        tested = tested.merge(checked_reasons(model, split.test, settings), "left", list(KEYS))
    return tested, report.out_of_fold_auc, unfitted


def checked_reasons(model: CreditModel, test: DataFrame, settings: Settings) -> pd.DataFrame:
    """KEYS and reason_holds (``first_reason_holds``) of up to REASON_ROWS of the tested rows, the same each time."""
    some = test.orderBy(F.xxhash64(*KEYS), *KEYS).limit(REASON_ROWS)
    told = _sorted(
        model.score(some, settings.scores, reasons=True)
        .select(*KEYS, "raw_prob_default", "reason_codes", *dict.fromkeys([*model.features, TERM]))
    )
    told = told[told["reason_codes"].map(len) > 0].reset_index(drop=True)
    return told[list(KEYS)].assign(reason_holds=first_reason_holds(model, told, test.sparkSession) if len(told) else None)


def _of_stack(scored: pd.DataFrame, single_features: Sequence[str]) -> dict[str, pd.Series]:
    """The scorers that need no training of their own, by name."""
    of_sub_models = {name: scored[column] for name, column in zip(SUB_MODELS, LOG_ODDS, strict=True)}
    return {"ensemble": scored["prob_default"], **of_sub_models, **{name: scored[name].fillna(0.0) for name in single_features}}


def _sorted(rows: DataFrame) -> pd.DataFrame:
    return bounded(rows, MAX_ROWS, "rows to test").to_pandas().sort_values(list(KEYS), ignore_index=True)


@dataclass(frozen=True)
class Step:
    """One period of a walk-forward. fitted: the model trained for it and what its training showed; null where there is none,
    and left_out says why."""

    period: Period
    split: Split
    fitted: tuple[CreditModel, TrainingReport] | None
    left_out: str | None = None


def walked(
    silver: Mapping[str, DataFrame], source: Source, settings: Settings, as_of_date: date, of: Origin
) -> Iterator[Step]:
    """The whole stack trained anew for each quarter from walk_forward_from to tested_until, in order of time.

    What a step holds may be asked until the next one is.
    """
    protocol: OutOfTime = source.evaluation
    periods = quarters(protocol.walk_forward_from, protocol.tested_until)
    for period, split in zip(periods, _splits_of(periods, silver, source, settings, as_of_date), strict=True):
        print(f"{settings.source}: walk-forward, {period.quarter}: {split.name}", flush=True)
        if split.test.isEmpty():
            yield Step(period, split, None, "no rows to test")
            continue
        try:
            fitted = fit_credit_model(split.training, split.training.limit(0), settings.training, of, NO_LIFETIME)
        except TooFewDefaults as problem:
            yield Step(period, split, None, str(problem))
            continue
        yield Step(period, split, fitted)


def walk_forward(
    silver: Mapping[str, DataFrame], source: Source, settings: Settings, as_of_date: date, of: Origin
) -> dict[str, object]:
    """``walk_forward_findings`` of the steps of ``walked``; without peers."""
    single_features = source.evaluation.single_features
    tested, left_out = {}, {}
    for step in walked(silver, source, settings, as_of_date, of):
        if step.fitted is None:
            left_out[step.period.quarter] = step.left_out
            continue
        model, _ = step.fitted
        columns = ("is_default", "watched_share", "prob_default", *LOG_ODDS, *single_features)
        scored = _sorted(model.score(step.split.test, settings.scores).select(*KEYS, *columns))
        tested[step.period] = scored[["is_default", "watched_share"]].assign(**_of_stack(scored, single_features))
    return walk_forward_findings(tested, left_out)


def walk_forward_findings(tested: Mapping[Period, pd.DataFrame], left_out: Mapping[str, str]) -> dict[str, object]:
    """``ranking`` of the scorers and mean probability by calendar year, its quarters pooled, and by quarter.

    tested: in order of time, is_default, watched_share and a column per scorer, one row per tested row. left_out: quarters without a model,
    each with why.
    """

    def found(rows: pd.DataFrame) -> dict[str, object]:
        outcome = ("is_default", "watched_share")
        scores = {name: rows[name].to_numpy(dtype=float) for name in rows.columns.drop([*outcome])}
        found = ranking(scores, *(rows[name].to_numpy(dtype=float) for name in outcome))
        return found | {"mean_prob_default": float(rows["ensemble"].mean())}

    years = groupby(tested, key=lambda period: period.last.year)
    return {
        "years": [{"period": str(year)} | found(pd.concat([tested[period] for period in periods])) for year, periods in years],
        "periods": [
            {
                "period": period.quarter, "trained_on": str(period.trained_on), "tested_from": str(period.first),
                "tested_until": str(period.last),
            } | found(rows)
            for period, rows in tested.items()
        ],
        "left_out": dict(left_out),
    }


def within_months(rows: pd.DataFrame, scores: Mapping[str, np.ndarray], months: int, known_on: str) -> dict[str, object]:
    """``ranking_against_ensemble`` of the same scores by another outcome: a default within so many months of the as-of date.

    rows: as_of_date and default_on; scores: by scorer, in their order. Rows whose months had not passed on known_on are left
    out.
    """
    end = pd.to_datetime(rows["as_of_date"]) + pd.DateOffset(months=months)
    passed = (end <= pd.Timestamp(known_on)).to_numpy()
    is_default = (pd.to_datetime(rows["default_on"]) <= end).to_numpy(dtype=float)[passed]
    scores = {name: score[passed] for name, score in scores.items()}
    return ranking_against_ensemble(scores, is_default, np.ones(passed.sum()))


def findings(
    rows: pd.DataFrame, protocol: Mapping[str, Any], fairness: Fairness, unfitted: Mapping[str, str],
    forward: Mapping[str, Any] | None = None,
) -> dict[str, object]:
    """The figures of one data set, as evaluation.json has them; protocol: how it was tested, as JSON has it.

    unfitted: the peers that some split could not fit, each with why; they have no figures. Of several repeats figures are
    means, each repeat's being those of all its rows pooled; groups and studies are of the first. unseen: the rows of parties that did not
    train, null where these are all. forward: ``walk_forward_findings``.
    """
    rows = rows.sort_values(["repeat", *KEYS])
    repeats = rows["repeat"].nunique()
    is_default = rows["is_default"].to_numpy(dtype=float).reshape(repeats, -1)[0]
    watched = rows["watched_share"].to_numpy().reshape(repeats, -1)[0]
    peers = [name for name in PEERS if name not in unfitted]
    others = (*SUB_MODELS, *protocol["single_features"], *peers)
    # Of shape (repeats, rows), the rows in the same order in each repeat.
    scores = {name: rows[name].to_numpy(dtype=float).reshape(repeats, -1) for name in ("ensemble", *others)}

    def figures(name: str) -> dict[str, float]:
        return pd.DataFrame([score_metrics(prob, is_default, watched) for prob in scores[name]]).mean(skipna=False).to_dict()

    def mean_auc(name: str) -> dict[str, float]:
        return {"auc": float(np.mean([auc(score, is_default, watched) for score in scores[name]]))}

    first = rows[rows["repeat"] == 1]
    studied = {name: first[name].to_numpy(dtype=float) for name in ("ensemble", WITHOUT) if name in rows}
    paired = against_ensemble(scores, is_default, watched)
    of_study = against_ensemble(studied, is_default, watched)
    unseen, checked = first["is_unseen"].to_numpy(dtype=bool), rows["reason_holds"].dropna().astype(bool)
    groups = fairness_table(scores["ensemble"][0], is_default, watched, first[list(ATTRIBUTES)], fairness)
    return {
        **figures("ensemble"),
        "auc_interval": auc_interval(scores["ensemble"], is_default, watched),
        "sub_models": {name: mean_auc(name) for name in SUB_MODELS},
        "single_features": {name: mean_auc(name) for name in protocol["single_features"]},
        "peers": {name: figures(name) for name in peers},
        "unfitted_peers": dict(unfitted),
        "left_out": {name: score_metrics(prob, is_default, watched) for name, prob in studied.items() if name == WITHOUT},
        "fairness": {"limits": fairness.model_dump(), "groups": json.loads(groups.to_json(orient="records"))},
        **{what: paired[what] | of_study[what] for what in paired},
        "loss_difference": {name: loss_difference(scores["ensemble"], scores[name], is_default, watched) for name in peers},
        "unseen": None if unseen.all() else ranking(
            {name: scores[name][0][unseen] for name in ("ensemble", *SUB_MODELS, *peers)}, is_default[unseen], watched[unseen]
        ),
        "reasons": {"rows": len(checked), "hold": float(checked.mean()) if len(checked) else None},
        "within_months": {
            str(months): within_months(first, {name: score[0] for name, score in scores.items()} | studied, months, protocol["known_on"])
            for months in protocol.get("also_within_months", ())
        },
        "auc_loss": compare_losses(first),
        "walk_forward": forward,
        "protocol": protocol,
    }
