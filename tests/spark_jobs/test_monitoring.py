"""The monitoring of hand-made nights: tables, the verdict that Airflow reads, the page."""

from __future__ import annotations

from datetime import date
from types import SimpleNamespace

import pytest
from pyspark.sql import functions as F

from conf.tables import COMPANY_DRIFT, DRIFT, EXPECTED_PERFORMANCE, LOAN, REPAYMENT
from dags.drift import NightDrift, read_drift, record_asked
from models.credit_model import Origin
from models.drift import Bins, DriftVerdict
from spark_jobs import monitoring
from spark_jobs.lake import Lake
from spark_jobs.manifest import build_manifest, open_manifest

FIRST, SECOND = date(2024, 3, 30), date(2024, 3, 31)
MODEL = SimpleNamespace(
    origin=Origin("simulated", "2024-03-01", 12, "0123"),
    reference={
        "age_years": Bins((40.0,), (0.5, 0.5, 0.0)),
        "bureau_score": Bins((), (0.0, 1.0)),  # unknown in training
        "prob_default": Bins((0.1,), (0.5, 0.5, 0.0)),
    },
)


@pytest.fixture
def market(empty_market, spark, monkeypatch):
    """A market in which four rows are enough, and whose silver is empty."""
    silver = {table.name: spark.createDataFrame([], table.ddl) for table in (LOAN, REPAYMENT)}
    monkeypatch.setattr(monitoring, "read_silver", lambda lake, versions: silver)
    return empty_market.model_copy(update={"drift": empty_market.drift.model_copy(update={"min_rows": 4})})


def scored(spark, *scores):
    """One borrower per score, aged 30, 50, 30 …, without a bureau score."""
    rows = [(f"b{number}", "performing", 30.0 + 20 * (number % 2), None, score) for number, score in enumerate(scores)]
    return spark.createDataFrame(rows, "borrower_id string, standing string, age_years double, bureau_score double, prob_default double")


def test_a_night_is_measured_told_and_shown(spark, market):
    lake = Lake(spark, market)
    nights = {day: open_manifest(market, build_manifest(market, day, {}, "3")) for day in (FIRST, SECOND)}
    html = market.market / "reports" / "monitoring.html"

    def monitor(day, *scores):
        monitoring.monitor(lake, nights[day], MODEL, scored(spark, *scores))
        return html.read_text()

    calm = monitor(FIRST, 0.05, 0.2, 0.05, 0.2)
    shifted = monitor(SECOND, 0.2, 0.2, 0.2, 0.2, 0.05)
    assert monitor(FIRST, 0.05, 0.2, 0.05, 0.2) == shifted, "a past night replaces its rows, not the page of a newer one"

    rows = {(row["as_of_date"], row["column_name"]): row for row in lake.read(DRIFT).collect()}
    assert len(rows) == lake.read(DRIFT).count() == 2 * 3
    # (0.2 - 0.5) ln 0.4 + (0.8 - 0.5) ln 1.6; of five, three are 30 and two are 50: 0.1 ln 1.2 - 0.1 ln 0.8.
    assert rows[SECOND, "prob_default"]["psi"] == pytest.approx(0.415888, abs=1e-6)
    assert rows[SECOND, "age_years"]["psi"] == pytest.approx(0.040547, abs=1e-6)
    assert {key[1]: rows[key]["level"] for key in rows if key[0] == SECOND} == {
        "prob_default": "shifted", "age_years": "stable", "bureau_score": "stable"
    }
    unknown = rows[FIRST, "bureau_score"]
    assert (unknown["psi"], unknown["null_share"], unknown["training_null_share"], unknown["row_count"]) == (0, 1, 1, 4)
    assert (unknown["model_version"], unknown["batch_id"]) == ("3", nights[FIRST].batch_id)
    expected = {row["as_of_date"]: row for row in lake.read(EXPECTED_PERFORMANCE).collect()}
    assert expected[FIRST]["expected_default_rate"] == pytest.approx(0.125, rel=0.01)

    said = "Shifted: score PSI 0.416 (limit 0.25); 0 of 1 features at or above 0.25 (limit 10% of them)."
    assert said in shifted
    assert "Within limits: score PSI 0.000" in calm


def test_where_only_applicants_trained_only_they_are_held_against_the_training_rows(spark, market):
    market = market.model_copy(update={"training": market.training.model_copy(update={"performing_every_months": 0})})
    lake = Lake(spark, market)
    night = open_manifest(market, build_manifest(market, FIRST, {}, "3"))
    applicants = scored(spark, 0.05, 0.2, 0.05, 0.2).withColumn("standing", F.lit("applicant"))
    monitoring.monitor(lake, night, MODEL, applicants.union(scored(spark, *[0.9] * 40)))
    measured = {row["column_name"]: (row["row_count"], row["psi"]) for row in lake.read(DRIFT).collect()}
    assert measured["prob_default"] == (4, pytest.approx(0.0, abs=1e-12)) and lake.read(EXPECTED_PERFORMANCE).first()["row_count"] == 4

    nobody = open_manifest(market, build_manifest(market, SECOND, {}, "3"))
    monitoring.monitor(lake, nobody, MODEL, scored(spark, 0.9))
    told = read_drift(market, SECOND)
    assert not told.asks_training and told.message.startswith("Nothing to tell by")
    assert {row["as_of_date"] for row in lake.read(DRIFT).collect()} == {FIRST}


def test_where_policy_bounds_training_it_bounds_what_is_held_against_it(spark, market, monkeypatch):
    market = market.model_copy(update={"training": market.training.model_copy(update={"within_policy_only": True})})
    told = {"known_from": FIRST, "borrower_id": "b0", "currency": "USD", "source_file": "f", "row_number": 1}
    values = [told | {"loan_id": loan, "within_policy": inside} for loan, inside in (("in", True), ("out", False))]
    loans = spark.createDataFrame([tuple(row.get(column) for column in LOAN.columns) for row in values], LOAN.ddl.replace(" NOT NULL", ""))
    silver = {LOAN.name: loans, REPAYMENT.name: spark.createDataFrame([], REPAYMENT.ddl)}
    monkeypatch.setattr(monitoring, "read_silver", lambda lake, versions: silver)
    monkeypatch.setattr(monitoring, "_vintages", lambda *_: {})
    night = open_manifest(market, build_manifest(market, FIRST, {}, "3"))
    rows = scored(spark, 0.05, 0.2, 0.05, 0.2, 0.9).withColumn("loan_id", F.when(F.col("prob_default") < 0.5, "in").otherwise("out"))
    monitoring.monitor(Lake(spark, market), night, MODEL, rows)
    assert {row["row_count"] for row in Lake(spark, market).read(DRIFT).collect()} == {4}


def test_companies_are_measured_beside_borrowers(spark, market):
    companies = market.model_copy(update={"product": "company"})
    lake = Lake(spark, companies)
    reference = {"liabilities_to_assets": Bins((0.5,), (0.5, 0.5, 0.0)), "prob_distress_1y": Bins((0.02,), (0.5, 0.5, 0.0))}
    model = SimpleNamespace(origin=Origin("simulated", "2024-03-01", 12, "0123"), reference=reference)
    night = open_manifest(companies, build_manifest(companies, SECOND, {}, "7"))
    rows = [("c1", 0.4, 0.03), ("c2", 0.6, 0.03), ("c3", 0.4, 0.03), ("c4", None, 0.01)]
    scored = spark.createDataFrame(rows, "company_id string, liabilities_to_assets double, prob_distress_1y double")
    for _ in range(2):
        monitoring.monitor_companies(lake, night, model, scored)

    found = {row["column_name"]: row for row in lake.read(COMPANY_DRIFT).collect()}
    # (0.25 - 0.5) ln 0.5 + (0.75 - 0.5) ln 1.5
    assert found["prob_distress_1y"]["psi"] == pytest.approx(0.274653, abs=1e-6) and lake.read(COMPANY_DRIFT).count() == 2
    assert (found["liabilities_to_assets"]["null_share"], found["liabilities_to_assets"]["model_version"]) == (0.25, "7")
    assert "4 companies of the kind" in (market.market / "reports" / "monitoring_companies.html").read_text()
    told = read_drift(companies, SECOND)
    assert told.asks_training and told.message.startswith("Shifted: score PSI 0.275 (limit 0.25); 1 of 1 features")
    record_asked(companies, night.batch_id)
    # Of borrowers the same day nothing was measured yet, and companies' asking holds no training of theirs back.
    assert read_drift(market, SECOND) is None
    borrowers = open_manifest(market, build_manifest(market, FIRST, {}, "3"))
    monitoring.record_verdict(market, borrowers, date(2024, 3, 1), DriftVerdict(True, "Shifted: score PSI 0.310."))
    assert read_drift(market, FIRST).asked_on is None


def test_airflow_reads_the_verdict_of_the_current_night(empty_market):
    def open_night(day, **files):
        return open_manifest(empty_market, build_manifest(empty_market, day, files, "3"))

    def record(night):
        monitoring.record_verdict(empty_market, night, date(2024, 3, 1), DriftVerdict(True, "Shifted: score PSI 0.310."))

    assert read_drift(empty_market, SECOND) is None
    first, second = open_night(FIRST), open_night(SECOND)
    record(first)
    record(second)
    assert read_drift(empty_market, SECOND) == NightDrift(
        second.batch_id, True, "Shifted: score PSI 0.310.", "3", date(2024, 3, 1), asked_on=None
    )
    record_asked(empty_market, second.batch_id)
    record(second)
    assert read_drift(empty_market, SECOND).asked_on is None, "its own asking holds no night back"
    assert read_drift(empty_market, FIRST).asked_on == SECOND, "a job that is run again does not forget that training was asked for"

    open_night(SECOND, loans="another file")
    assert read_drift(empty_market, SECOND) is None, "an earlier batch of the same day tells nothing"
