"""Scores every company that can be scored on an as-of date, with the model version that the night has fixed."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf.settings import Settings
from conf.source import load_source
from conf.tables import COMPANY, COMPANY_FEATURE, COMPANY_SCORE, COMPANY_UNSCORED, FILING
from expectations.measures import Bound
from features.company_ratios import build_company_features, build_unscored
from models.company_model import PROBABILITIES
from models.registry import load_company_model
from spark_jobs.gates import Checked, check_tables, withdraw_results
from spark_jobs.lake import Lake
from spark_jobs.manifest import current_night
from spark_jobs.monitoring import monitor_companies
from spark_jobs.silver import read_company_silver

# The last bits of a sum over trees do not matter; ten decimals do not depend on them.
DECIMALS = 10


def run(spark: SparkSession, settings: Settings, as_of_date: date) -> None:
    """Replace the as-of date in company_feature, company_unscored and company_score; once its gates have let the scores pass, in company_drift.

    Raises NoOpenNight before a night is opened, NoChampion, and GateFailed where features or scores break their rules, a company
    has features and no score, or the years of too many companies have a gap.
    """
    lake, night, source = Lake(spark, settings), current_night(settings, as_of_date), load_source(settings.source)
    withdraw_results(settings, "score_company", night.batch_id)
    silver = read_company_silver(lake, night.silver_versions)
    spine = build_active(silver[COMPANY.name], as_of_date)
    features = build_company_features(spine, silver, source.currency)
    lake.replace(COMPANY_FEATURE, features, as_of_date)

    rows = lake.read_as_of(COMPANY_FEATURE, as_of_date)
    unscored = build_unscored(spine, rows, silver[FILING.name], silver["statement_item"])
    lake.replace(COMPANY_UNSCORED, unscored.withColumn("batch_id", F.lit(night.batch_id)), as_of_date)
    model = load_company_model(settings, night.model_version)
    scored = model.score(rows).withColumns({
        "model_version": F.lit(night.model_version), "batch_id": F.lit(night.batch_id),
        **{name: F.round(name, DECIMALS) for name in (*PROBABILITIES, "raw_hazard", "altman_z")},
    })
    lake.replace(COMPANY_SCORE, scored, as_of_date)

    companies, gaps = _gap_share(silver[FILING.name], as_of_date)
    scores = lake.read_as_of(COMPANY_SCORE, as_of_date).select("company_id", PROBABILITIES[0])
    without = rows.join(scores, on="company_id", how="left_anti").count()
    told = "share of companies with a year missing between two that they told"
    more = {"gap_share": (gaps, Bound(None, settings.company.max_gap_share, told))}
    missing = {"features_without_score": (float(without), Bound(None, 0, "companies with features and without a score"))}
    check_tables(
        lake, [Checked(COMPANY_FEATURE, more=more), Checked(COMPANY_UNSCORED), Checked(COMPANY_SCORE, more=missing)], as_of_date, night.batch_id
    )
    monitor_companies(lake, night, model, rows.join(scores, on="company_id", how="inner"))
    print(f"{scores.count()} companies scored, of {spine.count()} active and {companies} that ever told a year's statements")


def build_active(company: DataFrame, as_of_date: date) -> DataFrame:
    """A spine of the companies that are active as known on the as-of date."""
    known = company.where(F.col("known_from") <= F.lit(as_of_date)).groupBy("company_id")
    newest = known.agg(F.max_by("status", "known_from").alias("status"))
    return newest.where("status = 'active'").select("company_id", F.lit(as_of_date).alias("as_of_date"))


def _gap_share(filing: DataFrame, as_of_date: date) -> tuple[int, float | None]:
    """How many companies have told a year's statements by then, and the share of them whose fiscal years have a gap."""
    known = filing.where("period_months = 12").where(F.col("known_from") <= F.lit(as_of_date)).groupBy("company_id")
    years = known.agg((F.max("fiscal_year") - F.min("fiscal_year") + 1 > F.count_distinct("fiscal_year")).alias("has_gap"))
    return tuple(years.agg(F.count("*"), F.avg(F.col("has_gap").cast("double"))).first())
