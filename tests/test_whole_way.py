"""The whole way twice in one Spark session, at about 2,000 borrowers: from an empty home each time, and the same tables."""

from __future__ import annotations

from contextlib import closing
from datetime import date

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from conf.settings import Settings
from conf.tables import BORROWER_SCORE, GATE_RESULT, GOLD, OF_COMPANIES, PUBLISHED, QUARANTINE, SILVER, TRUTH_DEFAULT
from models.metrics import auc
from spark_jobs import (
    allocate,
    build_features,
    check_champion,
    ingest,
    ingest_market_indicators,
    open_night,
    promote_credit,
    publish,
    score,
    simulate,
    summary,
    train_credit,
)
from spark_jobs.database import connect
from spark_jobs.lake import Lake
from spark_jobs.manifest import current_night

DAY = date(2025, 6, 30)


@pytest.fixture
def small_market(make_empty_market, small_training, tmp_path):
    """Makes an empty market of 2,000 borrowers in a home of its own, the database emptied; all read the same landed files.

    Its history holds the year of the outcome, the three cohorts, and a few months before them.
    """

    def make(name: str):
        market = make_empty_market(name)
        simulation = market.simulation.model_copy(update={"borrowers": 2_000, "history_months": 18, "companies": 0})
        allocation = market.allocation.model_copy(update={"frontier_amounts": 3, "frontier_targets": 3})
        files = tmp_path / "landed"
        return market.model_copy(
            update={"simulation": simulation, "training": small_training, "allocation": allocation, "data": files}
        )

    return make


def train(spark: SparkSession, settings: Settings, day: date) -> None:
    """What make run does before the first night: files, if they are not there, market indicators, silver, a champion."""
    simulate.run(spark, settings, day)
    ingest_market_indicators.run(spark, settings, day)
    open_night.run(settings, day, training=True)
    ingest.run(spark, settings, day, training=True)
    train_credit.run(spark, settings, day)
    promote_credit.run(settings, day)
    # What a job has persisted goes with its process.
    spark.catalog.clearCache()


def run_night(spark: SparkSession, settings: Settings, day: date) -> None:
    """The night's tasks, in the DAG's order."""
    check_champion.run(settings, day)
    open_night.run(settings, day)
    for job in (ingest, build_features, score, allocate, publish):
        job.run(spark, settings, day)
        spark.catalog.clearCache()


def contents(spark, settings) -> dict[str, tuple[int, str]]:
    """Of each table that a night leaves: rows and a digest of all of them, doubles to their last bit, whatever their order."""
    lake = Lake(spark, settings)
    # When a gate looked, and in which home, is no content.
    left_out = {GATE_RESULT: {"checked_at", "message", "data_docs"}}
    found = {}
    for table in (table for table in (*SILVER, QUARANTINE, *GOLD) if table not in OF_COMPANIES):
        columns = [name for name in table.columns if name not in left_out.get(table, ())]
        digest = F.sum(F.xxhash64(*columns).cast("decimal(38,0)")).cast("string")
        found[table.name] = tuple(lake.read(table).agg(F.count("*"), digest).first())
    return found


def published(settings) -> dict:
    with closing(connect(settings, "publisher")) as session, session, session.cursor() as cursor:
        cursor.execute("SELECT batch_id, content FROM publication.batch")
        return dict(cursor.fetchall())


@pytest.mark.usefixtures("compiled_plans")
def test_the_same_files_make_the_same_tables(spark, small_market, capsys):
    seen, batches = [], []
    for name in ("first", "second"):
        market = small_market(name)
        train(spark, market, DAY)
        run_night(spark, market, DAY)
        seen.append(contents(spark, market))
        batches.append(published(market))
    first, second = seen
    assert second == first
    # A first night owns nothing yet, and its orders may leave nothing to standard ones.
    assert {table for table, (rows, _) in first.items() if rows == 0} <= {"unscored", "holding", "frontier", "frontier_holding"}
    night = current_night(market, DAY)
    assert batches[0] == batches[1]
    assert list(batches[0]) == [night.batch_id]
    assert set(batches[0][night.batch_id]) == {table.name for table in PUBLISHED}

    capsys.readouterr()
    summary.run(market, DAY)
    told = capsys.readouterr().out
    assert f"Batch {night.batch_id} of lending: published" in told
    assert "rows in" in told, "what training took in counts as the night's"
    assert "on target" in told

    lake = Lake(spark, market)
    scores = lake.read(BORROWER_SCORE).join(lake.read(TRUTH_DEFAULT).drop("as_of_date"), "borrower_id").toPandas()
    truth = scores["prob_default_12m"]
    assert auc(scores["prob_default"].to_numpy(), (truth > truth.median()).to_numpy(), (truth * 0 + 1).to_numpy()) > 0.7
