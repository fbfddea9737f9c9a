"""Hand-made silver tables: rows as dictionaries, what is not said is null or the plain default of its table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import DateType, DecimalType, DoubleType, StructType

from conf.tables import (
    ACCOUNT_MONTH,
    BORROWER,
    CREDIT_INQUIRY,
    CREDIT_LINE,
    CREDIT_REPORT,
    LOAN,
    REPAYMENT,
    Table,
)

TABLES = (BORROWER, CREDIT_REPORT, CREDIT_LINE, CREDIT_INQUIRY, ACCOUNT_MONTH, LOAN, REPAYMENT)
DEFAULTS: dict[str, dict[str, object]] = {
    "borrower": {"borrower_type": "person", "identity_group_id": "g1"},
    "credit_report": {},
    "credit_line": {"kind": "card", "status": "open"},
    "credit_inquiry": {"purpose": "loan"},
    "account_month": {},
    "loan": {"amount": 1200, "term_months": 12, "interest_rate": 0.12, "within_policy": True, "status": "current"},
    "repayment": {"due_amount": 100, "paid_amount": 0, "days_past_due": 0},
}


def typed(value: object, kind: object) -> object:
    """A plain value as the column's type: days as ISO text, amounts as numbers."""
    if value is None:
        return None
    if isinstance(kind, DateType):
        return date.fromisoformat(value) if isinstance(value, str) else value
    if isinstance(kind, DecimalType):
        return Decimal(str(value))
    return float(value) if isinstance(kind, DoubleType) else value


def silver_frame(spark: SparkSession, table: Table, rows: Iterable[Mapping[str, object]]) -> DataFrame:
    """A silver table of the given rows; raises KeyError for a column that it does not have."""
    schema = StructType.fromDDL(table.ddl)
    filled = []
    for number, row in enumerate(rows, start=1):
        if unknown := set(row) - set(schema.fieldNames()):
            raise KeyError(f"{table.name} has no columns {sorted(unknown)}")
        values = {"borrower_id": "b1", "currency": "USD", "source_file": "hand.csv", "row_number": number}
        values |= DEFAULTS[table.name] | dict(row)
        if table.name == "loan" and "funded_amount" not in row:
            values["funded_amount"] = 0 if values["status"] == "listed" else values["amount"]
        filled.append(tuple(typed(values.get(field.name), field.dataType) for field in schema))
    return spark.createDataFrame(filled, schema)


@pytest.fixture(scope="session")
def silver(spark):
    """Makes a silver mapping of all tables that features read; tables that are not given are empty."""

    def make(**rows: Iterable[Mapping[str, object]]) -> dict[str, DataFrame]:
        if unknown := set(rows) - {table.name for table in TABLES}:
            raise KeyError(f"no such silver tables: {sorted(unknown)}")
        return {table.name: silver_frame(spark, table, rows.get(table.name, ())) for table in TABLES}

    return make


@pytest.fixture(scope="session")
def spine(spark):
    """Makes a spine of (borrower_id, as_of_date, loan_id) rows."""

    def make(*rows: tuple[str, str, str]) -> DataFrame:
        schema = "borrower_id STRING, as_of_date DATE, loan_id STRING"
        return spark.createDataFrame([(one, date.fromisoformat(day), loan) for one, day, loan in rows], schema)

    return make
