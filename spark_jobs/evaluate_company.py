"""Holds the company model's scores against distress that it has not seen, beside its peers on the same filings.

The part of the job evaluate for a market of companies: the same findings, for the same page.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from conf.settings import Settings
from conf.source import OutOfTime, Source
from features.company_labels import distressed_within, with_periods
from models.company_model import KEYS, PROBABILITIES, fit_company_model
from models.credit_model import Origin
from models.metrics import against_ensemble, auc, ranking, ranking_against_ensemble, score_metrics
from models.peers import PEERS, peer_scores
from spark_jobs.train_company import build_company_training_set, with_first_year

ALTMAN = "altman_z"
_OTHERS = (ALTMAN, *PEERS)


def company_predictions(
    silver: Mapping[str, DataFrame], source: Source, settings: Settings, of: Origin, known_on: pd.Timestamp
) -> tuple[pd.DataFrame, dict[str, str]]:
    """One row per tested filing: KEYS, is_default (distress within a year), is_unseen (nobody of its party in training or calibration),
    default_2y and default_3y (null: not seen), a column per scorer; and the peers that could not be fitted, each with why.

    By the protocol's days: filings before the recent years train, those of the recent years before trained_on calibrate, those
    from tested_from to tested_until are tested; what trains was known when the recent years began, what calibrates on trained_on.
    """
    protocol: OutOfTime = source.evaluation
    calibrated_from = (pd.Timestamp(protocol.trained_on) - pd.DateOffset(years=settings.company.recent_years)).date()
    rows = build_company_training_set(silver, source.currency, known_on.date()).persist()
    day = F.col("as_of_date")
    training = rows.where(day < F.lit(calibrated_from))
    calibration = rows.where((day >= F.lit(calibrated_from)) & (day < F.lit(protocol.trained_on)))
    model = fit_company_model(
        with_periods(training, calibrated_from), with_periods(calibration, protocol.trained_on), settings.company, settings.training.seed, of
    )
    tested = with_first_year(rows.where(day.between(F.lit(protocol.tested_from), F.lit(protocol.tested_until))))
    seen = rows.where(day < F.lit(protocol.trained_on)).select("identity_group_id").distinct().withColumn("seen", F.lit(True))
    later = {f"default_{years}y": distressed_within(years).cast("double") for years in (2, 3)}
    scored = (
        model.score(tested.join(seen, on="identity_group_id", how="left")).withColumns(later)
        .select(*KEYS, "is_distress", F.col("seen").isNull().alias("is_unseen"), *later, *PROBABILITIES, "grade", *model.features)
        .toPandas().sort_values(list(KEYS), ignore_index=True)
    )
    learnt = with_periods(training, calibrated_from).where("years_ahead = 1").select(*KEYS, "is_distress", *model.features)
    learnt = learnt.toPandas().sort_values(list(KEYS), ignore_index=True)
    is_distress, final = learnt["is_distress"].to_numpy(dtype=float), np.ones(len(learnt))
    of_peers, unfitted = peer_scores(learnt[list(model.features)], is_distress, final, scored, settings.training.seed % 2**31)
    columns = {"ensemble": scored[PROBABILITIES[0]], ALTMAN: -scored["altman_z"].fillna(scored["altman_z"].median()), **of_peers}
    told = scored[[*KEYS, "is_unseen", *later, *PROBABILITIES[1:], "grade"]].assign(is_default=scored["is_distress"] > 0)
    return told.assign(repeat=1, **columns), unfitted


def company_findings(rows: pd.DataFrame, protocol: Mapping[str, object], unfitted: Mapping[str, str]) -> dict[str, object]:
    """The figures of a market of companies, as evaluation.json has them; rows as of ``company_predictions``.

    longer: distress within two and three years, told by the probability of that horizon, its peers by their one score. unseen: the
    filings of parties that neither trained nor calibrated.
    """
    scorers = {name: rows[name].to_numpy(dtype=float) for name in ("ensemble", *_OTHERS) if name in rows}
    is_default, final = rows["is_default"].to_numpy(dtype=float), np.ones(len(rows))
    peers = [name for name in PEERS if name not in unfitted]
    whole = ranking(scorers, is_default)
    unseen, longer = rows["is_unseen"].to_numpy(dtype=bool), {}
    for years in (2, 3):
        outcome, prob = rows[f"default_{years}y"].to_numpy(dtype=float), rows[f"prob_distress_{years}y"].to_numpy(dtype=float)
        told = ~np.isnan(outcome)
        held = {name: score[told] for name, score in (scorers | {"ensemble": prob}).items()}
        longer[str(12 * years)] = ranking_against_ensemble(held, outcome[told]) | {
            "calibration": score_metrics(prob[told], outcome[told], np.ones(told.sum())),
        }
    return {
        **score_metrics(scorers["ensemble"], is_default, final),
        "auc_interval": whole["auc_interval"]["ensemble"],
        "sub_models": {}, "left_out": {}, "auc_loss": None, "walk_forward": None, "out_of_fold_auc": {},
        "single_features": {ALTMAN: {"auc": auc(scorers[ALTMAN], is_default, final)}},
        "peers": {name: score_metrics(scorers[name], is_default, final) for name in peers},
        "unfitted_peers": dict(unfitted),
        "fairness": None,
        **against_ensemble(scorers, is_default),
        "within_months": longer,
        "unseen": ranking({name: score[unseen] for name, score in scorers.items()}, is_default[unseen]),
        "protocol": dict(protocol),
    }
