"""The real files of the Czech bank through reading and mapping: all loans, one of them by hand."""

from __future__ import annotations

from datetime import date

import pytest
from pyspark.sql import functions as F

from conf.source import load_source
from conf.tables import TABLES
from features.population import build_default_events
from spark_jobs.landing import checked_columns, read_files, sha256_of
from spark_jobs.mapping import BROKEN, build_checked

LOANS, DEFAULTS, OWNERS, CARDS = 682, 76, 4500, 892


@pytest.fixture(scope="module")
def silver(spark, shared_data):
    """The silver tables that the bank's files fill, with the rules that rows break."""
    source, raw = load_source("berka"), {}
    for kind, file in source.files.items():
        ((name, path),) = file.landed_in(shared_data / "berka").items()
        (columns,) = checked_columns(source, kind, [path])
        rows = read_files(spark, [(name, path, sha256_of(path), columns)], file.csv)
        raw[kind] = rows.withColumn("_ingested_at", F.lit(0)).persist()
    tables = {}
    for name in ("borrower", "credit_line", "account_month", "loan"):
        tables[name] = build_checked(source, TABLES[name], raw, tables).persist()
    return tables


def test_every_loan_is_told_on_its_day_and_at_the_end(silver):
    told = {name: tuple(rows.agg(F.count("*"), F.count_if(F.size(BROKEN) > 0)).first()) for name, rows in silver.items()}
    assert told == {"borrower": (OWNERS, 0), "credit_line": (CARDS, 0), "account_month": (8918, 0), "loan": (2 * LOANS, 0)}
    by_status = silver["loan"].groupBy("status").agg(F.count("*"), F.min("known_from"), F.max("known_from")).collect()
    end = date(1998, 12, 31)
    assert {status: told for status, *told in by_status} == {
        "listed": [LOANS, date(1993, 7, 5), date(1998, 12, 8)], "current": [403, end, end], "paid": [203, end, end],
        "charged_off": [DEFAULTS, end, end],
    }
    events = build_default_events(silver["loan"], silver["loan"].limit(0), None)
    assert tuple(events.agg(F.countDistinct("borrower_id"), F.max("default_on")).first()) == (DEFAULTS, end)


def test_months_of_an_account_are_over_before_its_loan(silver):
    listed = silver["loan"].where("status = 'listed'").select("borrower_id", "listed_on", "loan_id")
    months = silver["account_month"].join(listed, "borrower_id", "inner")
    late = F.count_if(F.col("known_from") >= F.col("listed_on"))
    assert tuple(months.agg(F.count("*"), F.countDistinct("borrower_id"), late).first()) == (8918, LOANS, 0)
    # Loan 6594 of 28 September 1994, not paid back: an account since 17 May, into which its owner paid 600 that month and
    # 11500, 6900 and 1300 in those after it; what September brought is not known before its end.
    rows = months.where("loan_id = '6594'").orderBy("month").collect()
    assert [(row.month.month, row.deposits, row.withdrawals, row.balance_end) for row in rows] == [
        (5, 600, 0, 600), (6, 11_500, 0, 12_100), (7, 6_900, 0, 19_000), (8, 1_300, 0, 20_300),
    ]
    assert {(row.borrower_id, row.listed_on) for row in rows} == {("9675", date(1994, 9, 28))}
