"""Trains the credit model on past cohorts, judges it on the newest, and registers it as challenger with what the rules say.

Whether it becomes champion is the job promote_credit's to decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf.settings import Settings, Training
from conf.source import Source, load_source
from conf.tables import BORROWER, LOAN, REPAYMENT, TRAINING_SET
from features.training_set import build_training_set, cohort_months, group_share, with_region
from models.credit_model import CreditModel, Origin, TrainingReport, fit_credit_model
from models.ensemble import MAX_ROWS
from models.fairness import build_attributes, fairness_table
from models.hazard import NO_LIFETIME, Hazard, build_exposure, build_outcomes, fit_hazard, fit_level, months_since
from models.judged import Judged
from models.model_document import Facts, document
from models.model_plots import calibration_plot, risk_group_plot, roc_plot
from models.preparation import hash_share
from models.promotion import decide, not_older, promotion_rules
from models.recovery import build_recoveries, fit_recoveries
from models.registry import (
    CHAMPION,
    find_version,
    load_model,
    log_model,
    log_texts,
    trained_on,
)
from models.sub_models import KEYS, SUB_MODELS
from spark_jobs.challenger import judged_champion, let_challenge
from spark_jobs.gates import Checked, check_tables, withdraw_results
from spark_jobs.lake import Lake
from spark_jobs.leak_gate import leak_measures, sides_apart
from spark_jobs.manifest import Night, code_version, current_night
from spark_jobs.silver import read_silver


class TooFewCohorts(ValueError):
    """There is no cohort to train on, or none to judge on."""


@dataclass(frozen=True)
class Cohorts:
    """Cohorts by month end: those that train, that calibrate and that judge."""

    training: tuple[date, ...]
    calibration: tuple[date, ...]
    judging: tuple[date, ...]


def run(spark: SparkSession, settings: Settings, as_of_date: date) -> None:
    """Write training_set and register a challenger, with the verdict of every promotion rule and its model document.

    as_of_date is the training date. Raises NoOpenNight before a night is opened, GateFailed where the training set
    breaks its rules or looks ahead, TooFewCohorts, and TooFewDefaults where there is too little to learn from.
    """
    lake, source = Lake(spark, settings), load_source(settings.source)
    night = current_night(settings, as_of_date, training=True)
    withdraw_results(settings, "train_credit", night.batch_id)
    cohorts = split_cohorts(cohort_months(settings.training, label_horizon(source), as_of_date), settings.training)
    rows = _training_set(lake, source, night, cohorts)

    versions = {**night.silver_versions, TRAINING_SET.name: lake.version(TRAINING_SET)}
    origin = Origin(
        settings.source, as_of_date.isoformat(), source.horizon_months, code_version(settings.source), versions
    )
    training_rows, calibration_rows, judging_rows = part_rows(rows, cohorts, settings.training)
    model, report = fit_credit_model(training_rows, calibration_rows, settings.training, origin, NO_LIFETIME)
    silver = read_silver(lake, night.silver_versions)
    model = replace(model, hazard=fit_lifetime(silver, source, settings, as_of_date, report.placed))

    judging = with_region(judging_rows, silver[BORROWER.name]).persist()
    judged = judge(model, judging, settings)
    champion = find_version(settings, CHAMPION)
    champion_judged = judge_champion(spark, settings, champion, judging) if champion else None
    against_champion = judged.less(champion_judged) if champion_judged else None
    score_psi = judged.score_psi(champion_judged) if champion_judged else None
    groups = fairness_table(judged.prob["ensemble"], judged.is_default, judged.watched, judged.attributes, settings.fairness)
    rules = promotion_rules(
        judged.metrics, report.out_of_fold_auc["ensemble"], against_champion, score_psi, groups, settings.training, settings.fairness
    )
    if champion:
        rules.append(not_older(as_of_date, trained_on(settings, champion)))
    decision = decide(rules)

    version = _register(spark, settings, model, report, judged, cohorts)
    calibration = calibration_rows.agg(F.count("*"), F.count_if("is_default")).first()
    facts = Facts(
        settings, source, version, model, report, vars(cohorts), tuple(calibration), judged, champion, against_champion, groups, decision
    )
    log_texts(settings, version, {"model_document.html": document(facts), "fairness.json": groups.to_json(orient="records", indent=1)})
    let_challenge(settings, version, champion, model.origin, decision)
    tell(judged, report)


def label_horizon(source: Source) -> int | None:
    """The months that a label looks ahead; None where it is open-ended."""
    return source.horizon_months if source.outcome == "default_within_horizon" else None


def split_cohorts(months: Sequence[date], training: Training) -> Cohorts:
    """Month ends, oldest first, into training, calibration and judging cohorts; see Training.judged_on.

    Raises TooFewCohorts where no cohort is left for training, or none to judge on.
    """
    if training.judged_on == "all_months":
        return Cohorts(tuple(months), tuple(months), tuple(months))
    calibration, judging = training.calibration_cohorts, training.judging_cohorts
    first_judging, first_calibration = len(months) - judging, len(months) - judging - calibration
    if first_calibration < 1 or judging < 1:
        raise TooFewCohorts(
            f"{len(months)} cohorts cannot be split into training, {calibration} for calibration and {judging} for "
            "judging: set training.training_cohorts and training.judging_cohorts to at least 1"
        )
    return Cohorts(
        tuple(months[:first_calibration]), tuple(months[first_calibration:first_judging]), tuple(months[first_judging:])
    )


def of_cohorts(rows: DataFrame, months: Sequence[date]) -> DataFrame:
    """The rows of these cohorts; none for no cohort."""
    return rows.where(F.col("cohort_month").isin([F.lit(month) for month in months])) if months else rows.limit(0)


def part_rows(rows: DataFrame, cohorts: Cohorts, training: Training) -> tuple[DataFrame, DataFrame, DataFrame]:
    """The rows that train, that calibrate and that judge: each part in its cohorts, and no party in two of them.

    Which parties calibrate and judge depends on their id alone, so a champion of another day has not seen them either.
    """
    share, judging_from = group_share("reserve"), training.calibration_share
    training_from = judging_from + training.judging_share
    return (
        of_cohorts(rows, cohorts.training).where(share >= training_from),
        of_cohorts(rows, cohorts.calibration).where(share < judging_from),
        of_cohorts(rows, cohorts.judging).where((share >= judging_from) & (share < training_from)),
    )


def _training_set(lake: Lake, source: Source, night: Night, cohorts: Cohorts) -> DataFrame:
    """The training set, written and checked; the table holds the newest training's rows, its versions earlier ones."""
    silver, training = read_silver(lake, night.silver_versions), lake.settings.training
    lake.replace_where(TRAINING_SET, build_training_set(silver, source, training, night.as_of_date), "true")
    rows = lake.read(TRAINING_SET)
    leaks = leak_measures(rows, silver, source, lake.settings, night.as_of_date)
    leaks |= sides_apart(dict(zip(vars(cohorts), part_rows(rows, cohorts, training), strict=True)))
    check_tables(lake, [Checked(TRAINING_SET, more=leaks)], night.as_of_date, night.batch_id)
    return rows


def fit_lifetime(
    silver: Mapping[str, DataFrame], source: Source, settings: Settings, as_of_date: date, placed: pd.DataFrame
) -> Hazard:
    """Hazard by term and risk group, its recent level and recoveries, from the loans' histories as known by the as-of date.

    placed: see TrainingReport; a loan's group is that of its first row. Says so where no recoveries are known, so that the
    settings' stand. Raises NoHistory.
    """
    loan, repayment = silver[LOAN.name], silver[REPAYMENT.name]
    first = placed.sort_values("as_of_date").drop_duplicates("loan_id")
    columns = {"loan_id": "string", "risk_group": "int", "prob_default": "double", "months_on_book": "int"}
    ddl = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    scored = F.broadcast(loan.sparkSession.createDataFrame(first[list(columns)], ddl))
    # A few thousand counts, whatever the number of loans.
    outcomes = build_outcomes(loan, repayment, as_of_date, source.default_days).persist()
    hazard = fit_hazard(build_exposure(outcomes, scored).toPandas())
    # At most models.ensemble.MAX_ROWS, as many as are placed.
    histories = outcomes.join(scored.where("months_on_book = 0"), on="loan_id", how="inner")
    age = F.floor(months_since(F.col("originated_on"), F.lit(as_of_date))).cast("int")
    histories = histories.withColumn("age_months", age).toPandas().sort_values("loan_id")
    hazard = replace(hazard, level=fit_level(histories, hazard, label_horizon(source)))
    rules = settings.allocation
    recoveries = fit_recoveries(
        build_recoveries(outcomes, loan, repayment, as_of_date).toPandas(),
        recovery_rate=rules.recovery_rate, recovery_lag_months=rules.recovery_lag_months,
    )
    outcomes.unpersist()
    if recoveries is None:
        print(
            f"{source.name} tells of no recovery after a default by {as_of_date}: loans are valued with allocation.recovery_rate "
            f"{rules.recovery_rate}, after allocation.recovery_lag_months {rules.recovery_lag_months}"
        )
    return replace(hazard, recoveries=recoveries)


def judge(model: CreditModel, rows: DataFrame, settings: Settings) -> Judged:
    """Calibrated and sub-models' outputs on at most MAX_ROWS of the rows, which have region beside the columns of TRAINING_SET.

    Raises TooFewCohorts where there are none.
    """
    columns = {f"{name}_log_odds": name for name in SUB_MODELS} | {"prob_default": "ensemble"}
    count = rows.count()
    if not count:
        raise TooFewCohorts("the judging cohorts hold no rows: see training.judging_cohorts, training.judging_share and the table training_set")
    outputs = (
        model.score(rows.where(hash_share(KEYS, count, MAX_ROWS)), settings.scores)
        .select(
            *KEYS, *columns, F.col("is_default").cast("double").alias("is_default"), "watched_share", "standing",
            "age_years", "is_female", "region",
        )
        .toPandas()
        .sort_values(list(KEYS), ignore_index=True)
    )
    return Judged(
        {name: outputs[column].to_numpy() for column, name in columns.items()},
        outputs["is_default"].to_numpy(),
        outputs["watched_share"].to_numpy(),
        outputs["standing"].to_numpy(),
        build_attributes(outputs["age_years"], outputs["is_female"], outputs["region"]),
    )


def judge_champion(spark: SparkSession, settings: Settings, champion: str, rows: DataFrame) -> Judged | None:
    """The champion judged on the same rows, see ``judged_champion``."""
    return judged_champion(champion, lambda: judge(load_model(spark, settings, champion), rows, settings))


def _register(
    spark: SparkSession, settings: Settings, model: CreditModel, report: TrainingReport, judged: Judged, cohorts: Cohorts
) -> str:
    """The version under which the model is registered."""
    judging_metrics = {f"judging_{name}": value for name, value in judged.metrics.items()}
    judging_metrics |= {f"judging_auc_{standing}": value for standing, value in judged.auc_by_standing().items()}
    out_of_fold = {f"out_of_fold_auc_{name}": value for name, value in report.out_of_fold_auc.items()}
    counts = {"training_rows": float(report.rows), "training_defaults": float(report.defaults)}
    curves = (judged.prob, judged.is_default, judged.watched)
    return log_model(
        spark,
        settings,
        model,
        run_name=f"{settings.source} {model.origin.trained_on}",
        parameters={
            **settings.training.model_dump(),
            **{f"fairness_{name}": value for name, value in settings.fairness.model_dump().items()},
            "horizon_months": model.origin.horizon_months,
            **{f"cohorts_{part}": " ".join(map(str, months)) for part, months in vars(cohorts).items()},
        },
        metrics=judging_metrics | out_of_fold | counts,
        tags=model.origin.tags() | {"calibration_basis": report.calibration_basis},
        figures={
            "roc": roc_plot(*curves, "Judging cohort: ROC"),
            "calibration": calibration_plot(
                judged.prob["ensemble"], judged.is_default, judged.watched, "Judging cohort: calibration"
            ),
            "risk_groups": risk_group_plot(report.groups),
        },
    )


def tell(judged: Judged, report: TrainingReport) -> None:
    """Print what judging and training showed."""
    metrics = judged.metrics
    print(
        f"judging cohort: AUC {metrics['auc']:.4f}, KS {metrics['ks']:.4f}, Brier {metrics['brier']:.4f}, "
        f"calibration error {metrics['ece']:.4f}; AUC of "
        + ", ".join(f"{standing} rows {value:.4f}" for standing, value in judged.auc_by_standing().items())
        + "; out of fold: "
        + ", ".join(f"{name} {value:.4f}" for name, value in report.out_of_fold_auc.items())
    )
