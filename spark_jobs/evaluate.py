"""Holds the credit model's scores against outcomes that it has not seen, beside its peers on the same rows.

Needs the training night of the as-of date: outcomes are those known by then. Writes evaluation.json and predictions
into the market's reports; ``make evaluate`` puts the markets' findings on one page.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from sklearn.model_selection import StratifiedGroupKFold

from conf.features import FEATURES
from conf.settings import Fairness, Settings
from conf.source import CrossValidation, OutOfTime, Source, load_source
from features.training_set import build_training_set, month_end, with_region
from models.credit_model import Origin, fit_credit_model
from models.fairness import ATTRIBUTES, GENDER_AND_AGE, build_attributes, fairness_table
from models.hazard import Curves, Hazard
from models.metrics import auc, auc_difference, auc_interval, label_weight, score_metrics
from models.peers import PEERS, known_features
from models.sub_models import KEYS, SUB_MODELS
from spark_jobs.allocate import bounded
from spark_jobs.lake import Lake
from spark_jobs.leak_gate import leak_measures, require_no_leak, sides_apart
from spark_jobs.manifest import Night, code_version, current_night
from spark_jobs.silver import read_silver

# An evaluation values no loan.
_NO_LIFETIME = Hazard(Curves(np.zeros(1), np.zeros(1)), {})
MAX_ROWS = 500_000
"""Peers learn on one machine: more rows of a data set are an error."""
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

    as_of_date: the last day whose knowledge tells outcomes. full: train a second time, without gender and age.
    Raises NoOpenNight before its training night is opened.
    """
    lake, source = Lake(spark, settings), load_source(settings.source)
    night = current_night(settings, as_of_date, training=True)
    silver = read_silver(lake, night.silver_versions)
    protocol = source.evaluation
    of = origin(settings, source, night)
    splits = cross_validation if isinstance(protocol, CrossValidation) else out_of_time
    tested, unfitted = [], {}
    for split in splits(silver, source, settings, as_of_date):
        print(f"{settings.source}: {split.name}", flush=True)
        split = replace(split, test=with_region(split.test, silver["borrower"]))
        found, failed = predictions(split, settings, of, protocol.single_features, full)
        tested.append(found)
        unfitted = failed | unfitted
    rows = pd.concat(tested, ignore_index=True)
    folder = settings.market / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(folder / "predictions.parquet", index=False)
    how = {**protocol.model_dump(mode="json"), "within_policy_only": settings.training.within_policy_only}
    found = findings(rows, how, settings.fairness, unfitted)
    (folder / "evaluation.json").write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


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


def out_of_time(silver: Mapping[str, DataFrame], source: Source, settings: Settings, as_of_date: date) -> Iterator[Split]:
    """One split: what was knowable on the training date, and rows of the days to test that are not among it."""
    protocol: OutOfTime = source.evaluation
    first, last = protocol.tested_from, protocol.tested_until
    count = (last.year - first.year) * 12 + last.month - first.month + 1
    monthly = settings.training.model_copy(update={"cohort_step_months": 1})
    # Both are kept before anything is asked of them: the optimizer would carry a condition into 80 formulas without end.
    later = build_training_set(silver, source, monthly, as_of_date, [month_end(first, month) for month in range(count)]).persist()
    known = build_training_set(silver, source, settings.training, protocol.trained_on).persist()
    require_no_leak(leak_measures(known, silver, source, settings, protocol.trained_on), "the training rows")
    require_no_leak(leak_measures(later, silver, source, settings, as_of_date), "the rows to test")
    in_time = F.col("as_of_date").between(F.lit(first), F.lit(last))
    test = later.where(in_time).join(known, on=list(KEYS), how="left_anti")
    yield Split(f"trained on {protocol.trained_on}, tested on {first} to {last}", known, test)


def predictions(
    split: Split, settings: Settings, of: Origin, single_features: Sequence[str], full: bool = False
) -> tuple[pd.DataFrame, dict[str, str]]:
    """One row per tested row: keys, split, repeat, is_default, the attributes of fairness, and a column per scorer:
    probabilities, for sub-models log-odds, for a single feature its value, unknown ones as 0. Then the peers that could not
    be fitted, each with why.

    split.test has region beside the columns of TRAINING_SET. Raises TooManyRows.
    """
    model, _ = fit_credit_model(split.training, split.training.limit(0), settings.training, of, _NO_LIFETIME)
    names = list(model.features)
    scored = _sorted(
        model.score(split.test, settings.scores).select(
            *KEYS, "is_default", "prob_default", "risk_group", "region", *(f"{name}_log_odds" for name in SUB_MODELS),
            *(feature.name for feature in FEATURES),
        )
    )
    known = split.training.select(*KEYS, "is_default", "watched_share", *names)
    rows = bounded(known, MAX_ROWS, "training rows (training.max_training_rows)").to_pandas()
    rows = rows.sort_values(list(KEYS), ignore_index=True)
    used = known_features(rows[names])
    is_default = rows["is_default"].to_numpy(dtype=float)
    weight = label_weight(is_default, rows["watched_share"].to_numpy())
    columns = {"ensemble": scored["prob_default"], **{name: scored[f"{name}_log_odds"] for name in SUB_MODELS}}
    unfitted = {}
    for name, fit in PEERS.items():
        try:
            columns[name] = fit(rows[used], is_default, weight, settings.training.seed % 2**31)(scored[used])
        except ImportError:
            raise
        except Exception as problem:  # each library has errors of its own for rows that it cannot learn from
            unfitted[name] = f"{split.name}: {type(problem).__name__}: {problem}"
    columns |= {name: scored[name].fillna(0.0) for name in single_features}
    if full:
        blind = settings.training.model_copy(update={"left_out_features": [*settings.training.left_out_features, *GENDER_AND_AGE]})
        without, _ = fit_credit_model(split.training, split.training.limit(0), blind, of, _NO_LIFETIME)
        columns[WITHOUT] = _sorted(without.score(split.test, settings.scores).select(*KEYS, "prob_default"))["prob_default"]
    attributes = build_attributes(scored["age_years"], scored["is_female"], scored["region"])
    tested = scored[[*KEYS, "is_default", "risk_group"]].join(attributes)
    return tested.assign(split=split.name, repeat=split.repeat, **columns), unfitted


def _sorted(rows: DataFrame) -> pd.DataFrame:
    return rows.toPandas().sort_values(list(KEYS), ignore_index=True)


def findings(
    rows: pd.DataFrame, protocol: Mapping[str, Any], fairness: Fairness, unfitted: Mapping[str, str]
) -> dict[str, object]:
    """The figures of one data set, as evaluation.json has them; protocol: how it was tested, as JSON has it.

    unfitted: the peers that some split could not fit, each with why; they have no figures. Of several repeats figures are
    means, each repeat's being those of all its rows pooled; groups are those of the first.
    """
    rows = rows.sort_values(["repeat", *KEYS])
    repeats = rows["repeat"].nunique()
    is_default = rows["is_default"].to_numpy(dtype=float).reshape(repeats, -1)[0]
    final = np.ones(len(is_default))
    left_out = [name for name in (WITHOUT,) if name in rows]
    peers = [name for name in PEERS if name not in unfitted]
    others = (*SUB_MODELS, *protocol["single_features"], *left_out, *peers)
    # Of shape (repeats, rows), the rows in the same order in each repeat.
    scores = {name: rows[name].to_numpy(dtype=float).reshape(repeats, -1) for name in ("ensemble", *others)}

    def figures(name: str) -> dict[str, float]:
        return pd.DataFrame([score_metrics(prob, is_default, final) for prob in scores[name]]).mean(skipna=False).to_dict()

    def ranking(name: str) -> dict[str, float]:
        return {"auc": float(np.mean([auc(score, is_default, final) for score in scores[name]]))}

    differences = {name: auc_difference(scores["ensemble"], scores[name], is_default) for name in others}
    first = rows[rows["repeat"] == 1]
    groups = fairness_table(scores["ensemble"][0], is_default, final, first[list(ATTRIBUTES)], fairness)
    return {
        **figures("ensemble"),
        "auc_interval": auc_interval(scores["ensemble"], is_default),
        "sub_models": {name: ranking(name) for name in SUB_MODELS},
        "single_features": {name: ranking(name) for name in protocol["single_features"]},
        "peers": {name: figures(name) for name in peers},
        "unfitted_peers": dict(unfitted),
        "left_out": {name: figures(name) for name in left_out},
        "fairness": {"limits": fairness.model_dump(), "groups": json.loads(groups.to_json(orient="records"))},
        "delong_p": {name: found.p for name, found in differences.items()},
        "auc_difference": {name: [found.low, found.difference, found.high] for name, found in differences.items()},
        "protocol": protocol,
    }
