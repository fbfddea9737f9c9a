"""Holds the company model's scores against distress that it has not seen, beside its peers on the same filings.

The part of the job evaluate for a market of companies: the same findings, for the same page.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from conf.settings import Company, Settings
from conf.source import OutOfTime
from features.company_labels import distressed_within, with_periods
from models.company_model import KEYS, PROBABILITIES, fit_company_model
from models.credit_model import Origin, TooFewDefaults
from models.metrics import against_ensemble, auc, loss_difference, ranking, ranking_against_ensemble, score_metrics
from models.peers import PEERS, peer_scores
from spark_jobs.train_company import with_first_year

ALTMAN = "altman_z"
_OTHERS = (ALTMAN, *PEERS)


def company_predictions(
    rows: DataFrame, protocol: OutOfTime, settings: Settings, of: Origin
) -> tuple[pd.DataFrame, dict[str, str]]:
    """One row per tested filing among rows (of COMPANY_TRAINING_SET): KEYS, is_default (distress within a year), watched_share (1: all are
    final), is_unseen (nobody of its party in training or calibration), default_2y and default_3y (null: not seen), a column per scorer; and the peers that could not be fitted, each with why.

    By the protocol's days: ``parts_known_on`` trained_on train and calibrate, filings from tested_from to tested_until are tested.
    """
    day = F.col("as_of_date")
    training, calibration = parts_known_on(rows, protocol.trained_on, settings.company)
    model = fit_company_model(training, calibration, settings.company, settings.training.seed, of)
    tested = with_first_year(rows.where(day.between(F.lit(protocol.tested_from), F.lit(protocol.tested_until))))
    seen = rows.where(day < F.lit(protocol.trained_on)).select("identity_group_id").distinct().withColumn("seen", F.lit(True))
    later = {f"default_{years}y": distressed_within(years).cast("double") for years in (2, 3)}
    scored = (
        model.score(tested.join(seen, on="identity_group_id", how="left")).withColumns(later)
        .select(*KEYS, "is_distress", F.col("seen").isNull().alias("is_unseen"), *later, *PROBABILITIES, "grade", *model.features)
        .toPandas().sort_values(list(KEYS), ignore_index=True)
    )
    learnt = training.where("years_ahead = 1").select(*KEYS, "is_distress", *model.features)
    learnt = learnt.toPandas().sort_values(list(KEYS), ignore_index=True)
    is_distress, final = learnt["is_distress"].to_numpy(dtype=float), np.ones(len(learnt))
    of_peers, unfitted = peer_scores(learnt[list(model.features)], is_distress, final, scored, settings.training.seed % 2**31)
    columns = {"ensemble": scored[PROBABILITIES[0]], ALTMAN: riskier_by_altman(scored), **of_peers}
    told = scored[[*KEYS, "is_unseen", *later, *PROBABILITIES[1:], "grade"]].assign(is_default=scored["is_distress"] > 0)
    return told.assign(watched_share=1.0, repeat=1, **columns), unfitted


def parts_known_on(rows: DataFrame, day: date, company: Company) -> tuple[DataFrame, DataFrame]:
    """The periods that train and those that calibrate a model of that day.

    Filings before the company.recent_years train, with what was known when these began; those of these years calibrate, with
    what was known on the day.
    """
    calibrated_from = (pd.Timestamp(day) - pd.DateOffset(years=company.recent_years)).date()
    of = F.col("as_of_date")
    recent = rows.where((of >= F.lit(calibrated_from)) & (of < F.lit(day)))
    return with_periods(rows.where(of < F.lit(calibrated_from)), calibrated_from), with_periods(recent, day)


def company_walk_forward(rows: DataFrame, protocol: OutOfTime, settings: Settings, of: Origin) -> dict[str, object]:
    """``ranking`` and mean probability of a model trained anew each year, from walk_forward_from to tested_until, on the filings of
    that year; of each year and of all together.
    """
    tested, left_out = {}, {}
    start = pd.Timestamp(protocol.walk_forward_from)
    while start.date() <= protocol.tested_until:
        day, start = start.date(), start + pd.DateOffset(years=1)
        print(f"{settings.source}: walk-forward, trained on {day}", flush=True)
        try:
            model = fit_company_model(*parts_known_on(rows, day, settings.company), settings.company, settings.training.seed, of)
        except TooFewDefaults as problem:
            left_out[str(day)] = str(problem)
            continue
        last = min((start - pd.DateOffset(days=1)).date(), protocol.tested_until)
        of_year = with_first_year(rows.where(F.col("as_of_date").between(F.lit(day), F.lit(last))))
        scored = model.score(of_year).select("is_distress", PROBABILITIES[0], ALTMAN).toPandas()
        if scored.empty:
            left_out[str(day)] = "no filings to test"
            continue
        tested[day] = scored

    def found(scored: pd.DataFrame) -> dict[str, object]:
        scorers = {"ensemble": scored[PROBABILITIES[0]].to_numpy(dtype=float), ALTMAN: riskier_by_altman(scored)}
        is_distress = scored["is_distress"].to_numpy(dtype=float)
        return ranking(scorers, is_distress, np.ones(len(scored))) | {"mean_prob_default": float(scored[PROBABILITIES[0]].mean())}

    return {
        "years": [{"period": "all"} | found(pd.concat(tested.values()))] if tested else [],
        "periods": [{"period": f"year from {day}", "trained_on": str(day)} | found(scored) for day, scored in tested.items()],
        "left_out": left_out,
    }


def riskier_by_altman(rows: pd.DataFrame) -> np.ndarray:
    """Altman's Z'' the other way round, so that higher is riskier; where it is unknown the median."""
    return -rows[ALTMAN].fillna(rows[ALTMAN].median()).to_numpy(dtype=float)


def company_findings(
    rows: pd.DataFrame, protocol: Mapping[str, object], unfitted: Mapping[str, str], forward: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The figures of a market of companies, as evaluation.json has them; rows as of ``company_predictions``, forward as of
    ``company_walk_forward``.

    by_year: the tested filings by calendar year, what was told of them beside what came. longer: distress within two and three years, told by the probability of that horizon, its peers by their one score. unseen: the
    filings of parties that neither trained nor calibrated.
    """
    scorers = {name: rows[name].to_numpy(dtype=float) for name in ("ensemble", *_OTHERS) if name in rows}
    is_default, final = rows["is_default"].to_numpy(dtype=float), np.ones(len(rows))
    peers = [name for name in PEERS if name not in unfitted]
    whole = ranking(scorers, is_default, final)
    unseen, longer = rows["is_unseen"].to_numpy(dtype=bool), {}
    for years in (2, 3):
        outcome, prob = rows[f"default_{years}y"].to_numpy(dtype=float), rows[f"prob_distress_{years}y"].to_numpy(dtype=float)
        told = ~np.isnan(outcome)
        all_final = np.ones(told.sum())
        held = {name: score[told] for name, score in (scorers | {"ensemble": prob}).items()}
        longer[str(12 * years)] = ranking_against_ensemble(held, outcome[told], all_final) | {
            "calibration": score_metrics(prob[told], outcome[told], all_final),
        }
    return {
        **score_metrics(scorers["ensemble"], is_default, final),
        "auc_interval": whole["auc_interval"]["ensemble"],
        "sub_models": {}, "left_out": {}, "auc_loss": None, "walk_forward": forward, "out_of_fold_auc": {},
        "single_features": {ALTMAN: {"auc": auc(scorers[ALTMAN], is_default, final)}},
        "peers": {name: score_metrics(scorers[name], is_default, final) for name in peers},
        "unfitted_peers": dict(unfitted),
        "fairness": None,
        **against_ensemble(scorers, is_default, final),
        "loss_difference": {name: loss_difference(scorers["ensemble"], scorers[name], is_default, final) for name in peers},
        "within_months": longer,
        "by_year": [
            {"year": int(year), "rows": len(of_year), "defaults": int(of_year["is_default"].sum()), "mean_prob_default": float(of_year["ensemble"].mean())}
            for year, of_year in rows.groupby(pd.to_datetime(rows["as_of_date"]).dt.year)
        ],
        "unseen": ranking({name: score[unseen] for name, score in scorers.items()}, is_default[unseen], final[unseen]),
        "reasons": None,
        "protocol": dict(protocol),
    }
