"""Silver tables at pinned versions, whole or empty: what every job of a night after ingest reads."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

from conf.tables import (
    ACCOUNT_MONTH,
    BORROWER,
    COMPANY,
    CREDIT_INQUIRY,
    CREDIT_LINE,
    CREDIT_REPORT,
    FILING,
    LOAN,
    MARKET_INDICATOR,
    REPAYMENT,
    STATEMENT_ITEM,
    Table,
)
from spark_jobs.lake import Lake, MissingTable

FEATURE_SOURCES: tuple[Table, ...] = (
    BORROWER, CREDIT_REPORT, CREDIT_LINE, CREDIT_INQUIRY, ACCOUNT_MONTH, LOAN, REPAYMENT,
)
REQUIRED = (BORROWER, LOAN)
"""Without these there is nobody to score; each of the others a source may lack."""
COMPANY_SOURCES: tuple[Table, ...] = (COMPANY, FILING, STATEMENT_ITEM, MARKET_INDICATOR)


def read_silver(lake: Lake, versions: Mapping[str, int]) -> dict[str, DataFrame]:
    """The silver tables that features read, by name, each at its pinned version.

    A table that is not pinned was never written by this source: it is empty. Raises MissingTable for borrower and loan.
    """
    for table in REQUIRED:
        if table.name not in versions:
            raise MissingTable(f"no version of silver table {table.name} is pinned: run the job {table.owner} first")
    return {
        table.name: lake.read(table, versions[table.name])
        if table.name in versions
        else lake.spark.createDataFrame([], StructType.fromDDL(table.ddl))
        for table in FEATURE_SOURCES
    }


def read_company_silver(lake: Lake, versions: Mapping[str, int]) -> dict[str, DataFrame]:
    """The silver tables that company features read, by name, each at its pinned version.

    Raises MissingTable where one is not pinned.
    """
    for table in COMPANY_SOURCES:
        if table.name not in versions:
            raise MissingTable(f"no version of silver table {table.name} is pinned: run the job ingest first")
    return {table.name: lake.read(table, versions[table.name]) for table in COMPANY_SOURCES}
