"""The real LendingClub file through landing and mapping: every row in silver or in quarantine, sums to the cent."""

from __future__ import annotations

from datetime import date

import pytest
from pyspark.sql import functions as F

from conf.source import load_source
from conf.tables import BORROWER, CREDIT_REPORT, LOAN, REPAYMENT
from spark_jobs.lake import Lake
from spark_jobs.landing import bronze_rows, land_files, landed_files
from spark_jobs.manifest import Night
from spark_jobs.mapping import BROKEN, build_checked

pytestmark = pytest.mark.usefixtures("compiled_plans")
AS_OF = date(2011, 6, 30)
FILE_ROWS = 42_535


@pytest.fixture(scope="module")
def raw(spark, shared_data, tmp_path_factory):
    from conf.settings import load_settings

    home = tmp_path_factory.mktemp("lendingclub")
    settings = load_settings(source="lendingclub", home=home, data=shared_data / "lendingclub")
    source, lake = load_source("lendingclub"), Lake(spark, settings)
    night = Night("2011-06-30-test", AS_OF, "1", landed_files(settings, source, AS_OF))
    return bronze_rows(lake, "accepted", land_files(lake, source, night).pending)


def checked(raw, table, **parents):
    return build_checked(load_source("lendingclub"), table, {"accepted": raw}, parents)


def borrowers(raw):
    return raw.select(F.col("id").alias("borrower_id"))


def test_every_row_lands_and_only_two_reports_break_a_rule(raw):
    assert raw.where("_malformed IS NULL").agg(F.count("*"), F.max("_row_number")).first() == (FILE_ROWS, FILE_ROWS)
    people = checked(raw, BORROWER).agg(F.count("*"), F.count_if(F.size(BROKEN) > 0)).first()
    assert tuple(people) == (FILE_ROWS, 0)
    # Two borrowers of 2007 have more lines open than they ever had.
    reports = checked(raw, CREDIT_REPORT, borrower=borrowers(raw)).where(F.size(BROKEN) > 0).collect()
    assert [(row.borrower_id, row[BROKEN]) for row in sorted(reports, key=lambda row: row.borrower_id)] == [
        ("124624", ["open_lines_within_total"]), ("127213", ["open_lines_within_total"]),
    ]


def test_loans_tell_their_status_over_time(raw):
    loans = checked(raw, LOAN, borrower=borrowers(raw)).where(F.size(BROKEN) == 0)
    told = {row.status: row for row in loans.groupBy("status").agg(
        F.count("*").alias("rows"), F.count_if(~F.col("within_policy")).alias("outside"), F.min("known_from").alias("first"),
    ).collect()}
    assert {status: row.rows for status, row in told.items()} == {
        "listed": FILE_ROWS, "current": FILE_ROWS, "paid": 36_104, "charged_off": 6_431,
    }
    assert told["listed"].outside == FILE_ROWS - 39_786
    assert told["charged_off"].rows - told["charged_off"].outside == 5_670
    assert (told["listed"].first, told["current"].first) == (date(2007, 5, 31), date(2007, 6, 30))


def test_rebuilt_repayments_add_up_to_what_was_paid(raw):
    repayments = checked(
        raw, REPAYMENT, borrower=borrowers(raw), loan=raw.select(F.col("id").alias("loan_id"))
    )
    # What was told last of each instalment counts.
    instalments = repayments.groupBy("loan_id", "installment_no").agg(
        F.max_by("paid_amount", "known_from").alias("paid"), F.count_if(F.size(BROKEN) > 0).alias("broken"),
        F.count_if(F.col("known_from") < F.coalesce("paid_on", "due_on")).alias("told_early"),
    )
    paid = instalments.groupBy("loan_id").agg(*(F.sum(name).alias(name) for name in ("paid", "broken", "told_early")))
    reached = F.col("total_pymnt").cast("double") - F.col("collection_recovery_fee").cast("double")
    off = F.abs(F.col("paid").cast("double") - reached)
    total = raw.select(F.col("id").alias("loan_id"), "total_pymnt", "collection_recovery_fee").join(paid, "loan_id", "left").agg(
        F.count("paid").alias("loans"), F.max(off).alias("off"), F.sum("broken").alias("broken"), F.sum("told_early").alias("told_early")
    ).first()
    assert (total.loans, total.broken, total.told_early) == (FILE_ROWS, 0, 0)
    # The file's totals and fees have more decimals than a cent.
    assert total.off <= 0.01
