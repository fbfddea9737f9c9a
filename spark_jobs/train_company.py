"""Trains the company model on past filings, judges it on the newest, and registers it as challenger with what the rules say.

Whether it becomes champion is the job promote_credit's to decide, as for every model of a market.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf.settings import Settings
from conf.source import load_source
from conf.tables import COMPANY_TRAINING_SET
from features.company_labels import build_filing_spine, build_outcomes, distressed_within, with_periods
from features.company_ratios import build_company_features
from features.training_set import group_share
from models.company_document import Facts, Part, document
from models.company_model import KEYS, PROBABILITIES, CompanyModel, fit_company_model
from models.credit_model import Origin
from models.judged import Judged
from models.metrics import auc
from models.model_plots import calibration_plot, roc_plot
from models.promotion import decide, not_older, promotion_rules
from models.registry import (
    CHAMPION,
    find_version,
    load_company_model,
    log_model,
    log_texts,
    trained_on,
)
from spark_jobs.challenger import judged_champion, let_challenge
from spark_jobs.gates import Checked, check_tables, withdraw_results
from spark_jobs.lake import Lake
from spark_jobs.manifest import code_version, current_night
from spark_jobs.silver import read_company_silver

# Companies have no gender and no age.
NO_GROUPS = pd.DataFrame({"attribute": [], "is_judged": []})


def run(spark: SparkSession, settings: Settings, as_of_date: date) -> None:
    """Write company_training_set and register a challenger with the verdict of every promotion rule and its model document.

    as_of_date is the training date. Raises NoOpenNight before a night is opened, GateFailed where the training set breaks its
    rules, and TooFewDefaults where there is too little to learn from.
    """
    lake, night, source = Lake(spark, settings), current_night(settings, as_of_date, training=True), load_source(settings.source)
    withdraw_results(settings, "train_company", night.batch_id)
    silver = read_company_silver(lake, night.silver_versions)
    lake.replace_where(COMPANY_TRAINING_SET, build_company_training_set(silver, source.currency, as_of_date), "true")
    rows = lake.read(COMPANY_TRAINING_SET)
    check_tables(lake, [Checked(COMPANY_TRAINING_SET)], as_of_date, night.batch_id)

    versions = {**night.silver_versions, COMPANY_TRAINING_SET.name: lake.version(COMPANY_TRAINING_SET)}
    origin = Origin(settings.source, as_of_date.isoformat(), 12, code_version(settings.source), versions)
    training, calibration, judging = part_filings(rows, settings, as_of_date)
    model = fit_company_model(training, calibration, settings.company, settings.training.seed, origin)
    told = calibration.where("years_ahead = 1").select(*model.features, "is_distress").toPandas()
    calibration_auc = _auc(model, told)

    judging = judging.persist()
    judged = judge(model, judging)
    champion = find_version(settings, CHAMPION)
    before = judged_champion(champion, lambda: judge(load_company_model(settings, champion), judging)) if champion else None
    against_champion = judged.less(before) if before else None
    rules = promotion_rules(
        judged.metrics, calibration_auc, against_champion, judged.score_psi(before) if before else None,
        NO_GROUPS, settings.training, settings.fairness.model_copy(update={"attributes": []}),
    )
    if champion:
        rules.append(not_older(as_of_date, trained_on(settings, champion)))
    decision = decide(rules)
    version = _register(spark, settings, model, judged, calibration_auc)
    parts = [told_of(name, part) for name, part in (("training", training), ("calibration", calibration), ("judging", judging))]
    facts = Facts(settings, source, version, model, parts, judged, champion, against_champion, decision)
    log_texts(settings, version, {"model_document.html": document(facts)})
    let_challenge(settings, version, champion, model.origin, decision)
    print(", ".join(f"judging filings: {name} {value:.4f}" for name, value in judged.metrics.items()))


def build_company_training_set(silver: Mapping[str, DataFrame], of_currency: str, known_on: date) -> DataFrame:
    """Rows of COMPANY_TRAINING_SET: every day on which a company told a year's statements, known by known_on, that can be scored."""
    outcomes = build_outcomes(silver["company"], known_on)
    spine = build_filing_spine(silver["filing"], outcomes, known_on)
    features = build_company_features(spine, silver, of_currency)
    return features.join(outcomes, on="company_id", how="inner")


def part_filings(rows: DataFrame, settings: Settings, as_of_date: date) -> tuple[DataFrame, DataFrame, DataFrame]:
    """Periods that train, periods that calibrate, and filings that judge, with is_distress: within a year.

    The filings of settings.company.recent_years whose first year has passed calibrate and judge, each party one of the two,
    always the same. Earlier ones train, with what had been seen when these years began: no outcome stands on two sides.
    """
    recent_from = (pd.Timestamp(as_of_date) - pd.DateOffset(years=settings.company.recent_years + 1)).date()
    recent = rows.where(F.col("as_of_date") >= F.lit(recent_from))
    share = group_share("reserve")
    return (
        with_periods(rows.where(F.col("as_of_date") < F.lit(recent_from)), recent_from),
        with_periods(recent.where(share < settings.company.calibration_share), as_of_date),
        with_first_year(recent.where(share >= settings.company.calibration_share)),
    )


def told_of(name: str, rows: DataFrame) -> Part:
    """What the model document tells of a part's rows, which have as_of_date and is_distress."""
    found = rows.agg(F.min("as_of_date"), F.max("as_of_date"), F.count("*"), F.sum("is_distress")).first()
    return Part(name, found[0], found[1], found[2], int(found[3]))


def with_first_year(rows: DataFrame) -> DataFrame:
    """The filings whose first year was seen, with is_distress as a number."""
    return rows.withColumn("is_distress", distressed_within(1).cast("double")).where("is_distress IS NOT NULL")


def _auc(model: CompanyModel, rows: pd.DataFrame) -> float:
    is_distress = rows["is_distress"].to_numpy(dtype=float)
    return auc(model.probabilities(rows[list(model.features)].to_numpy(dtype=float))[:, 0], is_distress, np.ones(len(rows)))


def judge(model: CompanyModel, rows: DataFrame) -> Judged:
    """One-year probabilities of these filings, which have is_distress."""
    told = rows.select(*KEYS, "is_distress", *model.features).toPandas().sort_values(list(KEYS), ignore_index=True)
    prob = model.probabilities(told[list(model.features)].to_numpy(dtype=float))[:, 0]
    count = len(told)
    return Judged({"ensemble": prob}, told["is_distress"].to_numpy(), np.ones(count), np.full(count, "filing"), pd.DataFrame(index=told.index))


def _register(spark: SparkSession, settings: Settings, model: CompanyModel, judged: Judged, calibration_auc: float) -> str:
    curves = (judged.prob, judged.is_default, judged.watched)
    return log_model(
        spark, settings, model,
        run_name=f"{settings.source} {model.origin.trained_on}",
        parameters={**settings.company.model_dump(), "horizons": " ".join(PROBABILITIES)},
        metrics={f"judging_{name}": value for name, value in judged.metrics.items()} | {"calibration_auc": calibration_auc},
        tags=model.origin.tags(),
        figures={
            "roc": roc_plot(*curves, "Judging filings: ROC"),
            "calibration": calibration_plot(judged.prob["ensemble"], judged.is_default, judged.watched, "Judging filings: calibration"),
        },
    )
