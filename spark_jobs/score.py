"""Scores everyone in the population of an as-of date with the model version that the night has fixed."""

from __future__ import annotations

from datetime import date
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf.reasons import REASONS_TOLD
from conf.settings import Settings
from conf.tables import BORROWER_SCORE, FEATURE_TABLES, POPULATION
from expectations.measures import Bound
from models.attribution import DECIMALS
from models.credit_model import CreditModel
from models.registry import load_champion
from spark_jobs.borrowing_companies import (
    IS_SCORED_COMPANY,
    companies_by_their_score,
    read_company_scores,
    with_company_scores,
)
from spark_jobs.gates import Checked, check_tables, withdraw_results
from spark_jobs.lake import Lake
from spark_jobs.manifest import Night, current_night
from spark_jobs.monitoring import monitor

# A borrower like the training rows' mean in all but a few things has few reasons; many such borrowers there are not.
MAX_FEW_REASONS = 0.01
DOUBLES = ("prob_default", "raw_prob_default", "timeseries_log_odds", "behavior_log_odds", "record_log_odds")


def run(spark: SparkSession, settings: Settings, as_of_date: date) -> None:
    """Replace the as-of date in borrower_score; once its gate has let the scores pass, in drift and expected_performance.

    Raises NoOpenNight before a night is opened, MissingTable before build_features has run, and GateFailed where the
    scores break their rules, someone of the population has none or too many have too few reasons.
    """
    lake = Lake(spark, settings)
    night = current_night(settings, as_of_date)
    withdraw_results(settings, "score", night.batch_id)
    model = load_champion(spark, settings, night.model_version)
    features = read_features(lake, as_of_date)
    of_companies = read_company_scores(lake, night)
    by_model = with_company_scores(model.score(features, settings.scores, reasons=True), of_companies)
    scored = companies_by_their_score(by_model, model.scorer.risk_groups.group_log_odds, settings.scores)
    lake.replace(BORROWER_SCORE, build_borrower_score(scored, model, night), as_of_date)

    scores = lake.read_as_of(BORROWER_SCORE, as_of_date)
    population = lake.read_as_of(POPULATION, as_of_date).select("borrower_id", "identity_group_id", "borrower_type")
    everyone = with_company_scores(population, of_companies).join(scores.drop("borrower_type"), on="borrower_id", how="left")
    told = min(REASONS_TOLD, len(model.reasons))
    is_scored, has_few = F.col("prob_default").isNotNull(), F.coalesce(F.size("reason_codes"), F.lit(0)) < told
    # A company's reasons are those of its statements.
    few_of_model = F.avg(F.when(is_scored & ~F.col(IS_SCORED_COMPANY), has_few.cast("double")))
    is_silent = (F.col("borrower_type") == "company") & ~F.col(IS_SCORED_COMPANY)
    unscored, few, companies, silent = everyone.agg(
        F.count_if(~is_scored), few_of_model, F.count_if(IS_SCORED_COMPANY), F.count_if(is_silent)
    ).first()
    more = {
        "population_without_score": (unscored, Bound(None, 0, "borrowers of the population without a score")),
        "few_reasons_share": (few, Bound(None, MAX_FEW_REASONS, f"share of scores with fewer reasons than {told}")),
    }
    check_tables(lake, [Checked(BORROWER_SCORE, more=more)], as_of_date, night.batch_id)
    if night.company_batch:
        print(f"{companies} companies carry their score of batch {night.company_batch}; {silent} have none and are scored as any borrower")
    monitor(lake, night, model, features.join(scores.select("borrower_id", "prob_default"), on="borrower_id", how="inner"))


def read_features(lake: Lake, as_of_date: date) -> DataFrame:
    """The population of the date with the features of all blocks, null where a block has no row for a borrower."""
    population = lake.read_as_of(POPULATION, as_of_date)
    blocks = (lake.read_as_of(table, as_of_date).drop("as_of_date") for table in FEATURE_TABLES.values())
    return reduce(lambda frame, block: frame.join(block, on="borrower_id", how="left"), blocks, population)


def build_borrower_score(scored: DataFrame, model: CreditModel, night: Night) -> DataFrame:
    """Rows of BORROWER_SCORE from what ``CreditModel.score`` gave, reasons included."""
    return scored.select(
        "borrower_id",
        "as_of_date",
        "borrower_type",
        "score_points",
        "risk_group",
        *(F.round(name, DECIMALS).alias(name) for name in DOUBLES),
        F.lit(model.origin.horizon_months).alias("horizon_months"),
        "reason_codes",
        F.lit(night.model_version).alias("model_version"),
        F.lit(night.batch_id).alias("batch_id"),
    )
