"""Delta tables hold what they declare, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from conf.settings import ROOT
from conf.tables import ALLOCATION_SUMMARY, BORROWER_SCORE, CREDIT_INQUIRY, LOAN, TRUTH_DEFAULT
from spark_jobs.lake import Lake, MissingTable, WrongColumns

DAY = date(2024, 1, 31)
# Delta's own errors come as they are in the JVM.
REFUSED = (PySparkException, Py4JJavaError)
LOAN_ROW = {
    "loan_id": "l1", "borrower_id": "b1", "amount": 1000, "term_months": 36, "interest_rate": 0.1, "purpose": None, "grade": None,
    "within_policy": True, "listed_on": DAY, "originated_on": None, "funded_amount": 0, "status": "listed", "closed_on": None,
    "currency": "EUR", "known_from": DAY, "source_file": "loans.csv", "row_number": 1,
}


@pytest.fixture
def lake(spark, settings):
    return Lake(spark, settings)


def loans(lake: Lake, **values):
    ddl = LOAN.ddl.replace("DECIMAL(18,2)", "INT").replace(" NOT NULL", "")
    return lake.spark.createDataFrame([tuple((LOAN_ROW | values).values())], ddl)


def test_a_table_is_made_as_it_is_declared(lake):
    lake.append(LOAN, loans(lake))
    found = {field.name: (field.dataType, field.nullable) for field in lake.read(LOAN).schema}
    assert found == {field.name: (field.dataType, field.nullable) for field in StructType.fromDDL(LOAN.ddl)}
    assert lake.read(LOAN).count() == 1
    (kept,) = lake.spark.sql(f"SHOW TBLPROPERTIES delta.`{lake.path(LOAN)}` ('delta.logRetentionDuration')").collect()
    assert kept["value"] == "interval 3650 days", "a night of last year is pinned to a version of then"


@pytest.mark.parametrize(
    "broken",
    [{"amount": -5}, {"interest_rate": 13.5}, {"status": "lost"}, {"listed_on": date(2024, 2, 1)}, {"listed_on": date(1900, 1, 1)}, {"loan_id": None}],
    ids=lambda broken: " ".join(map(str, *broken.items())),
)
def test_a_constraint_refuses_a_row_that_the_checks_have_let_pass(lake, broken):
    with pytest.raises(REFUSED, match=r"(?i)constraint"):
        lake.append(LOAN, loans(lake, **broken))
    assert lake.read(LOAN).count() == 0


def test_a_score_outside_its_range_is_refused(lake):
    row = (
        "b1", DAY, "person", 1.5, 12, 600, 1, None, -2.0, -1.5, -0.25, 0.1, "7", "2024-01-31-x",
    )
    values = dict(zip(
        ("borrower_id", "as_of_date", "borrower_type", "prob_default", "horizon_months", "score_points", "risk_group", "reason_codes",
         "timeseries_log_odds", "behavior_log_odds", "record_log_odds", "raw_prob_default", "model_version", "batch_id"), row, strict=True,
    ))
    frame = lake.spark.createDataFrame([tuple(values[column] for column in BORROWER_SCORE.columns)], BORROWER_SCORE.ddl)
    with pytest.raises(REFUSED, match=r"(?i)constraint"):
        lake.replace(BORROWER_SCORE, frame, DAY)


def test_a_column_declared_later_is_null_in_the_rows_from_before(lake):
    values = dict.fromkeys(ALLOCATION_SUMMARY.columns) | {
        "order_id": "o", "as_of_date": DAY, "investor_id": "i", "amount": 100, "allocated_amount": 0, "unallocated_amount": 100,
        "target_return": 0.05, "loan_count": 0, "status": "unfilled", "binding_constraint": "note_amount", "message": "too small",
        "currency": "EUR", "batch_id": "b",
    }
    earlier = replace(ALLOCATION_SUMMARY, ddl=ALLOCATION_SUMMARY.ddl.removesuffix(", rounding_gap DOUBLE"))
    nullable = ALLOCATION_SUMMARY.ddl.replace("DECIMAL(18,2)", "INT").replace(" NOT NULL", "")
    frame = lake.spark.createDataFrame([tuple(values.values())], nullable)
    lake.spark.sql(f"CREATE TABLE delta.`{lake.path(earlier)}` ({earlier.ddl}) USING delta PARTITIONED BY (as_of_date)")
    lake.replace(earlier, frame, DAY)
    lake.replace(ALLOCATION_SUMMARY, frame.withColumn("as_of_date", F.lit(DAY.replace(year=2025))), DAY.replace(year=2025))
    found = lake.read(ALLOCATION_SUMMARY)
    assert found.columns == list(ALLOCATION_SUMMARY.columns)
    assert [row["rounding_gap"] for row in found.collect()] == [None, None]


def test_missing_columns_are_named_with_those_that_are_there(lake):
    frame = lake.spark.createDataFrame([("b1", DAY)], "borrower_id STRING, inquired_on DATE")
    with pytest.raises(WrongColumns, match=r"credit_inquiry: missing columns \['purpose', .*; the frame has \['borrower_id', 'inquired_on'\]"):
        lake.append(CREDIT_INQUIRY, frame)


def test_a_table_that_nobody_has_written_says_which_job_to_run(lake):
    with pytest.raises(MissingTable, match=r"gold table borrower_score does not exist at .*: run the job score first"):
        lake.read(BORROWER_SCORE)


def test_nothing_that_makes_scores_reads_the_truth():
    texts = {
        path.relative_to(ROOT).as_posix(): path.read_text()
        for folder in ("features", "models", "spark_jobs", "dags", "serving", "expectations")
        for path in (ROOT / folder).rglob("*.py")
    }
    readers = {path for path, text in texts.items() if TRUTH_DEFAULT.name in text or "TRUTH_DEFAULT" in text}
    assert readers == {"spark_jobs/simulate.py", "spark_jobs/attainable.py"}
    assert {path for path, text in texts.items() if "spark_jobs.attainable" in text} == {"spark_jobs/evaluate.py"}
