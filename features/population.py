"""Who is to be scored: performing borrowers and applicants, and who is left out with a reason.

A candidate has a live loan (status current) or an open listing (status listed) on the as-of date. Of a candidate with
both, the listing decides: standing is applicant and loan_id the newest listing, for that is what investors are asked
to fund. Defaulted is who was ever seen default_days past due (90) or charged off by then, on any loan; a row that told
so counts even where a later row tells another story, as scores before the correction were not given either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from conf.features import FEATURES
from features.point_in_time import SPINE_KEY, whole_months, with_known_until, with_row_as_known

MAX_MONTHS_ON_BOOK = 600
LOAN_TERMS = (
    "live_loans", "platform_debt", "loan_amount_to_income", "loan_term_months", "loan_interest_rate", "loan_for_business",
)
"""Features of the credit record that every candidate has by having asked for a loan; they say nothing of the past."""


def build_default_events(loan: DataFrame, repayment: DataFrame, default_days: int | None) -> DataFrame:
    """Every telling of a default: loan_id, borrower_id, default_on, known_from.

    default_on is the day on which an instalment became default_days past due, or the loan was charged off; for None
    only the latter. A loan may be told of many times.
    """
    charged_off = loan.where(F.col("status") == "charged_off").select(
        "loan_id", "borrower_id", F.coalesce("closed_on", "known_from").alias("default_on"), "known_from"
    )
    if default_days is None:
        return charged_off
    past_due = repayment.where(F.col("days_past_due") >= default_days).select(
        "loan_id", "borrower_id", F.date_add("due_on", default_days).alias("default_on"), "known_from"
    )
    return past_due.unionByName(charged_off)


def with_default_events(spine: DataFrame, events: DataFrame, column: str = "default_events") -> DataFrame:
    """Adds a column of all the borrower's events, as an array of (default_on, known_from); empty for none."""
    by_borrower = events.groupBy("borrower_id").agg(
        F.sort_array(F.collect_set(F.struct("default_on", "known_from"))).alias("events")
    )
    none = F.array().cast("array<struct<default_on:date,known_from:date>>")
    return (
        spine.join(by_borrower, on="borrower_id", how="left")
        .withColumn(column, F.coalesce("events", none))
        .drop("events")
    )


def was_defaulted() -> Column:
    """Whether a default was known on the row's as-of date; reads default_events."""
    return F.exists("default_events", lambda event: event["known_from"] <= F.col("as_of_date"))


def with_party(spine: DataFrame, borrower: DataFrame) -> DataFrame:
    """Adds borrower_type and identity_group_id as known on the as-of date; null where the party was unknown.

    borrower has known_until.
    """
    party = borrower.select("borrower_id", "known_from", "known_until", "borrower_type", "identity_group_id")
    return with_row_as_known(spine, party, "party").select(*spine.columns, "party.*")


def loans_within_policy(loan: DataFrame) -> DataFrame:
    """loan_id of each loan that lay within the credit policy when it was first told of."""
    first = loan.groupBy("loan_id").agg(F.min_by("within_policy", "known_from").alias("within_policy"))
    return first.where("within_policy").select("loan_id")


def build_candidates(loan: DataFrame, as_of_dates: Sequence[date]) -> DataFrame:
    """Borrowers with a live loan or an open listing on each of the as-of dates.

    One row per (borrower_id, as_of_date): standing, loan_id (the newest by listing date), months_on_book (0 to
    MAX_MONTHS_ON_BOOK).
    """
    days = F.array(*[F.lit(day) for day in as_of_dates])
    until = F.col("known_until")
    known_days = F.filter(days, lambda day: (F.col("known_from") <= day) & (until.isNull() | (day < until)))
    standing = F.when(F.col("status") == "listed", "applicant").otherwise("performing")
    terms = F.struct("listed_on", "loan_id", "originated_on")
    newest_listing = F.max(F.when(F.col("standing") == "applicant", terms))
    newest_live = F.max(F.when(F.col("standing") == "performing", terms))
    held = whole_months(F.col("live.originated_on"), F.col("as_of_date"))
    return (
        with_known_until(loan, "loan_id")
        .where(F.col("status").isin("listed", "current"))
        .withColumn("standing", standing)
        .withColumn("as_of_date", F.explode(known_days))
        .groupBy(*SPINE_KEY)
        .agg(newest_listing.alias("listing"), newest_live.alias("live"))
        .select(
            *SPINE_KEY,
            F.when(F.col("listing").isNotNull(), "applicant").otherwise("performing").alias("standing"),
            F.coalesce("listing.loan_id", "live.loan_id").alias("loan_id"),
            F.when(F.col("listing").isNotNull(), 0)
            .otherwise(F.greatest(F.least(held, F.lit(MAX_MONTHS_ON_BOOK)), F.lit(0)))
            .alias("months_on_book"),
        )
    )


def build_night_candidates(silver: Mapping[str, DataFrame], as_of_date: date, default_days: int | None) -> DataFrame:
    """The candidates of one as-of date, with borrower_type, identity_group_id and is_defaulted.

    silver: tables by name; rows known later than the as-of date do not count. default_days: as in build_default_events.
    """
    loan, repayment = silver["loan"], silver["repayment"]
    candidates = with_party(build_candidates(loan, [as_of_date]), with_known_until(silver["borrower"], "borrower_id"))
    told = with_default_events(candidates, build_default_events(loan, repayment, default_days))
    return told.withColumn("is_defaulted", was_defaulted()).drop("default_events")


def build_applications(loan: DataFrame, first_day: date, last_day: date) -> DataFrame:
    """The listings that opened from first_day to last_day, each as a row on its own day.

    One row per (borrower_id, as_of_date), of two listings on a day the newer by loan_id: standing, loan_id,
    months_on_book 0. as_of_date is listed_on, or the day on which the platform first knew of the listing if later.
    """
    return (
        loan.where(F.col("status") == "listed")
        .groupBy("borrower_id", "loan_id")
        .agg(F.greatest(F.min("listed_on"), F.min("known_from")).alias("as_of_date"))
        .where(F.col("as_of_date").between(F.lit(first_day), F.lit(last_day)))
        .groupBy(*SPINE_KEY)
        .agg(F.max("loan_id").alias("loan_id"))
        .select(*SPINE_KEY, F.lit("applicant").alias("standing"), "loan_id", F.lit(0).alias("months_on_book"))
    )


def is_too_thin() -> Column:
    """Whether nothing is known of a borrower but the demographic block and the terms of the loan asked for.

    That is: no credit report, line or inquiry, no account month within a year, no instalment due; or no borrower
    record at all. Reads the feature columns and borrower_type.
    """
    told = [feature.name for feature in FEATURES if feature.block != "demographic" and feature.name not in LOAN_TERMS]
    return F.col("borrower_type").isNull() | F.coalesce(*told).isNull()


def build_unscored(defaulted: DataFrame, assessed: DataFrame) -> DataFrame:
    """Candidates without a score: borrower_id, as_of_date, reason (defaulted or too_thin)."""
    return defaulted.select(*SPINE_KEY, F.lit("defaulted").alias("reason")).unionByName(
        assessed.where(is_too_thin()).select(*SPINE_KEY, F.lit("too_thin").alias("reason"))
    )
