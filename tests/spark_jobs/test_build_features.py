"""The job build_features on a lake of four borrowers: what it writes, what its gates hold, that a rerun changes nothing."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from pyspark.sql.types import DecimalType, StructType

from conf.tables import BORROWER, CREDIT_INQUIRY, FEATURE_TABLES, GATE_RESULT, LOAN, POPULATION, UNSCORED
from spark_jobs import build_features
from spark_jobs.gates import GateFailed
from spark_jobs.lake import Lake, MissingTable
from spark_jobs.manifest import Night

AS_OF = date(2024, 6, 30)
JANUARY = date(2024, 1, 1)


def append(lake: Lake, table, *rows: dict[str, object]) -> int:
    """Append rows, null where nothing is said, and tell the table's version."""
    schema = StructType.fromDDL(table.ddl)
    plain = {"currency": "USD", "source_file": "hand.csv", "row_number": 1, "known_from": JANUARY}
    values = [
        tuple(
            Decimal(str(value)) if isinstance(field.dataType, DecimalType) and value is not None else value
            for field in schema
            for value in [(plain | row).get(field.name)]
        )
        for row in rows
    ]
    lake.append_new(table, lake.spark.createDataFrame(values, schema))
    return lake.version(table)


def loan(borrower: str, **values: object) -> dict[str, object]:
    """A live loan of January."""
    return {"loan_id": f"loan of {borrower}", "borrower_id": borrower, "amount": 1000, "funded_amount": 1000,
            "term_months": 12, "interest_rate": 0.1, "within_policy": True, "listed_on": JANUARY,
            "originated_on": JANUARY, "status": "current"} | values


@pytest.fixture
def night(spark, settings, monkeypatch, gates_without_database):
    """A lake with two borrowers to score, one in default and one of whom nothing is known, and two companies of whom nothing is known
    either, but that the statements of one are scored; the job's night."""
    lake = Lake(spark, settings)
    borrowers, firms = ("good", "applicant", "charged_off", "thin"), ("firm", "silent firm")
    versions = {
        "borrower": append(lake, BORROWER, *(
            {"borrower_id": one, "borrower_type": kind, "identity_group_id": one, "main_income": 5000}
            for kind, those in (("person", borrowers), ("company", firms)) for one in those
        )),
        "loan": append(
            lake, LOAN,
            loan("good"),
            loan("applicant", status="listed", originated_on=None, funded_amount=0),
            loan("charged_off", loan_id="old", status="charged_off", closed_on=JANUARY),
            loan("charged_off"),
            loan("thin"),
            *map(loan, firms),
        ),
        # The only evidence beyond the demographic block here; account months and the rest were never written.
        "credit_inquiry": append(lake, CREDIT_INQUIRY, *(
            {"borrower_id": one, "inquired_on": JANUARY, "purpose": "loan"} for one in borrowers if one != "thin"
        )),
    }
    opened = Night("2024-06-30-abc", AS_OF, "1", {}, versions)
    monkeypatch.setattr(build_features, "current_night", lambda settings, as_of_date: opened)
    # A person of a scored company's group is no company.
    told = lake.spark.createDataFrame(
        [("firm", 0.1, ["company_leverage_raised_risk"]), ("thin", 0.1, [])],
        "identity_group_id STRING, company_prob DOUBLE, company_reason_codes ARRAY<STRING>",
    )
    monkeypatch.setattr(build_features, "read_company_scores", lambda lake, night: told)
    return lake, opened


def rows(lake: Lake, table) -> list:
    return sorted(lake.read(table).collect(), key=lambda row: row["borrower_id"])


def test_job_writes_population_unscored_and_blocks(night, settings):
    lake, _ = night
    # Three of six: over the 30% of the settings.
    with pytest.raises(GateFailed, match=r"gate build_features\.unscored failed .*unscored_share = 0\.5 .*at most 0\.3"):
        build_features.run(lake.spark, settings, AS_OF)

    population = rows(lake, POPULATION)
    assert [(row["borrower_id"], row["standing"], row["months_on_book"]) for row in population] == [
        ("applicant", "applicant", 0), ("firm", "performing", 5), ("good", "performing", 5),
    ]
    assert [(row["borrower_id"], row["reason"], row["batch_id"]) for row in rows(lake, UNSCORED)] == [
        ("charged_off", "defaulted", "2024-06-30-abc"), ("silent firm", "too_thin", "2024-06-30-abc"), ("thin", "too_thin", "2024-06-30-abc"),
    ]
    for table in FEATURE_TABLES.values():
        assert [row["borrower_id"] for row in rows(lake, table)] == ["applicant", "firm", "good"]
    assert [row["live_loans"] for row in rows(lake, FEATURE_TABLES["credit_record"])] == [0.0, 1.0, 1.0]

    # What becomes known on the next night's table version is not read: the night is pinned. Run again, it writes the same.
    append(lake, LOAN, loan("good", loan_id="another"))
    tables = (POPULATION, UNSCORED, *FEATURE_TABLES.values())
    before = {table.name: rows(lake, table) for table in tables}
    generous = settings.model_copy(update={"gates": settings.gates.model_copy(update={"max_unscored_share": 0.5})})
    build_features.run(lake.spark, generous, AS_OF)
    assert {table.name: rows(lake, table) for table in tables} == before
    gates = {row["gate"]: row["success"] for row in lake.read(GATE_RESULT).orderBy("checked_at").collect()}
    assert gates == {f"build_features.{table.name}": True for table in tables}


def test_without_pinned_loans_the_job_says_what_to_run(night, settings, monkeypatch):
    lake, opened = night
    versions = {name: version for name, version in opened.silver_versions.items() if name != "loan"}
    unpinned = Night(opened.batch_id, AS_OF, "1", {}, versions)
    monkeypatch.setattr(build_features, "current_night", lambda settings, as_of_date: unpinned)
    with pytest.raises(MissingTable, match="silver table loan is pinned: run the job ingest first"):
        build_features.run(lake.spark, settings, AS_OF)
