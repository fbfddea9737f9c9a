"""Companies that borrow: which batch of company scores a night reads, and what of it a borrower gets."""

from __future__ import annotations

import math
from datetime import date, timedelta

import pytest

from conf.settings import load_settings
from conf.tables import COMPANY, COMPANY_SCORE
from spark_jobs import borrowing_companies
from spark_jobs.borrowing_companies import (
    IS_SCORED_COMPANY,
    ReplacedScores,
    companies_by_their_score,
    read_company_scores,
    with_company_scores,
)
from spark_jobs.lake import Lake
from spark_jobs.manifest import Night, newest_company_batch
from spark_jobs.publication import rollback
from tests.published_night import make_company_batch, publish_companies

DAY = date(2024, 6, 30)
COMPANY_BATCH = "2024-06-28-company"
LEVERAGE, SOUNDNESS = ["company_leverage_raised_risk"], ["company_soundness_lowered_risk"]
GROUP_LOG_ODDS = [-5.0, -4.0, -3.0, -2.0, -1.0]


def test_a_night_reads_what_was_published_of_companies_by_then(empty_market):
    days = [DAY - timedelta(days=days) for days in (40, 10, 2)]
    batches = [make_company_batch(day) for day in days]
    market = empty_market.model_copy(update={"product": "company"})
    assert newest_company_batch(empty_market, DAY) is None
    for batch in batches:
        publish_companies(market, batch)
    old, recent, newest = (batch.batch_id for batch in batches)
    assert newest_company_batch(empty_market, DAY) == newest
    # A past date, scored today, and a day on which the scores are just not too old.
    assert newest_company_batch(empty_market, days[2] - timedelta(days=1)) == recent
    assert newest_company_batch(empty_market, days[0]) == old
    assert newest_company_batch(empty_market, days[2] + timedelta(days=31)) == newest
    assert newest_company_batch(empty_market, days[2] + timedelta(days=32)) is None
    # Scores that were taken back stand for nobody.
    rollback(market, recent)
    assert newest_company_batch(empty_market, DAY) == recent


@pytest.fixture
def companies(spark, settings, monkeypatch):
    """A lake with the scores of four companies, two of one group; and the night of borrowers that reads them."""
    lake = Lake(spark, settings)
    parties = [("a", "one", 1), ("b", "one", 1), ("c", "two", 1), ("d", "three", 1), ("d", "two", 29)]
    lake.append(COMPANY, spark.createDataFrame(
        [(company, None, group, None, None, "active", None, "USD", date(2024, 6, day), "f", 1) for company, group, day in parties], COMPANY.ddl
    ))
    told = {"a": (0.02, LEVERAGE), "b": (0.30, SOUNDNESS), "c": (0.0005, SOUNDNESS), "d": (0.04, LEVERAGE)}
    lake.replace(COMPANY_SCORE, spark.createDataFrame(
        [
            (company, date(2024, 6, 28), prob, 0.4, 0.5, "D", 1.0, reasons, prob, "filing", date(2023, 12, 31), "1", COMPANY_BATCH)
            for company, (prob, reasons) in told.items()
        ], COMPANY_SCORE.ddl,
    ), date(2024, 6, 28))
    nights = {
        batch: Night(batch, date(2024, 6, 28), "1", {}, {COMPANY.name: lake.version(COMPANY)}) for batch in (COMPANY_BATCH, "another")
    }
    monkeypatch.setattr(borrowing_companies, "night_of", lambda settings, batch_id: nights[batch_id])
    return lake, Night("2024-06-30-abc", DAY, "1", {}, {}, company_batch=COMPANY_BATCH)


def test_of_a_group_the_company_most_likely_to_fail_counts(companies):
    lake, night = companies
    found = {row["identity_group_id"]: (row["company_prob"], row["company_reason_codes"]) for row in read_company_scores(lake, night).collect()}
    # d moved to group two after its company was scored.
    assert found == {"one": (0.30, SOUNDNESS), "two": (0.0005, SOUNDNESS), "three": (0.04, LEVERAGE)}


def test_scores_that_were_written_anew_stop_the_night(companies):
    lake, night = companies
    with pytest.raises(ReplacedScores, match=r"no longer holds 2024-06-28 of batch another.*run company_scoring of that day to its end"):
        read_company_scores(lake, Night(night.batch_id, DAY, "1", {}, {}, company_batch="another"))
    assert read_company_scores(lake, Night(night.batch_id, DAY, "1", {}, {})) is None


def test_a_source_of_another_horizon_cannot_use_them(companies):
    lake, night = companies
    lending = Lake(lake.spark, load_settings(source="lendingclub", home=lake.settings.home))
    with pytest.raises(ValueError, match="companies are scored for 12, 24, 36 months, borrowers of lendingclub for"):
        read_company_scores(lending, night)


@pytest.mark.parametrize("has_companies", [True, False])
def test_only_companies_get_the_score_of_their_statements(companies, has_companies):
    lake, night = companies
    rows = lake.spark.createDataFrame(
        [("owner", "one", "person"), ("firm", "one", "company"), ("sound", "two", "company"), ("silent", "four", "company")],
        "borrower_id STRING, identity_group_id STRING, borrower_type STRING",
    ).selectExpr("*", "0.1D AS prob_default", "500 AS score_points", "4 AS risk_group", "array('late_payments_raised_risk') AS reason_codes")
    joined = with_company_scores(rows, read_company_scores(lake, night) if has_companies else None)
    scored = {row["borrower_id"]: row for row in companies_by_their_score(joined, GROUP_LOG_ODDS, lake.settings.scores).collect()}

    assert {name for name, row in scored.items() if row[IS_SCORED_COMPANY]} == ({"firm", "sound"} if has_companies else set())
    assert scored.keys() == {"owner", "firm", "sound", "silent"}
    for name in ("owner", "silent"):
        assert (scored[name]["prob_default"], scored[name]["score_points"], scored[name]["risk_group"]) == (0.1, 500, 4)
    if has_companies:
        # Log-odds of -0.85 and -7.6.
        assert (scored["firm"]["prob_default"], scored["firm"]["risk_group"], scored["firm"]["reason_codes"]) == (0.30, 5, SOUNDNESS)
        assert (scored["sound"]["prob_default"], scored["sound"]["risk_group"]) == (0.0005, 1)
        scores = lake.settings.scores
        odds = math.log(0.7 / 0.3) - math.log(scores.base_odds)
        points = round(scores.base_points + scores.points_to_double / math.log(2) * odds)
        assert scored["firm"]["score_points"] == points < scored["sound"]["score_points"]
