"""The job build_features: who is to be scored on the as-of date, who is not and why, and the four feature blocks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from conf.settings import Settings
from conf.source import load_source
from conf.tables import FEATURE_TABLES, POPULATION, UNSCORED
from expectations.measures import Bound
from features.blocks import split_blocks, with_features
from features.point_in_time import narrowed
from features.population import build_night_candidates, build_unscored, is_too_thin
from spark_jobs.borrowing_companies import IS_SCORED_COMPANY, read_company_scores, with_company_scores
from spark_jobs.gates import Checked, check_tables, withdraw_results
from spark_jobs.lake import Lake
from spark_jobs.manifest import current_night
from spark_jobs.silver import read_silver

SIDE_BY_SIDE = 3


def run(spark: SparkSession, settings: Settings, as_of_date: date) -> None:
    """Replace the as-of date in population, unscored and the feature tables, from the silver versions of the night.

    Raises NoOpenNight before a night is opened and GateFailed where a table breaks its rules.
    """
    lake, source = Lake(spark, settings), load_source(settings.source)
    night = current_night(settings, as_of_date)
    withdraw_results(settings, "build_features", night.batch_id)
    silver = narrowed(read_silver(lake, night.silver_versions), as_of_date, as_of_date)

    # Each is the ground of several tables; small beside the histories that they are made from.
    candidates = build_night_candidates(silver, as_of_date, source.default_days)
    candidates = with_company_scores(candidates, read_company_scores(lake, night)).persist()
    assessed = with_features(
        candidates.where(~F.col("is_defaulted")), silver, source.account_month_lag_days
    ).persist()
    # A company's statements tell enough of it.
    population = assessed.where(~is_too_thin() | F.col(IS_SCORED_COMPANY))
    unscored = build_unscored(candidates.where("is_defaulted"), assessed.where(~F.col(IS_SCORED_COMPANY)))
    blocks = split_blocks(population)

    lake.replace(POPULATION, population, as_of_date)
    # The first write has filled what is persisted; the others wait for commits more than for cores.
    frames = {UNSCORED: unscored.withColumn("batch_id", F.lit(night.batch_id))}
    frames |= {table: blocks[block] for block, table in FEATURE_TABLES.items()}
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        list(pool.map(lambda table: lake.replace(table, frames[table], as_of_date), frames))

    scored, left_out = (lake.read_as_of(table, as_of_date).count() for table in (POPULATION, UNSCORED))
    share = Bound(None, settings.gates.max_unscored_share, "unscored borrowers over all candidates")
    check_tables(
        lake,
        [
            Checked(POPULATION),
            Checked(UNSCORED, more={"unscored_share": (left_out / max(scored + left_out, 1), share)}),
            *(
                Checked(table, lake.read_as_of(table, as_of_date).withColumn("population_count", F.lit(scored)))
                for table in FEATURE_TABLES.values()
            ),
        ],
        as_of_date,
        night.batch_id,
    )
