"""The credit record block: bureau report, credit lines and inquiries elsewhere, and loans on the platform.

Formulas read the structs ``report`` (newest report as known), ``lines``, ``inquiries`` and ``loans`` (totals of what
was known), each null where nothing was known.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from features.demographic import total_income
from features.point_in_time import SPINE_KEY, known_on, whole_months

REVOLVING = ("card", "overdraft")
LATE_DAYS = 30
INQUIRY_MONTHS = 6


def is_open_line() -> Column:
    """Whether a credit line is open on the as-of date."""
    closed_on = F.col("closed_on")
    return (F.col("status") == "open") & (closed_on.isNull() | (closed_on > F.col("as_of_date")))


def build_line_totals(spine: DataFrame, credit_line: DataFrame) -> DataFrame:
    """Totals over the credit lines as known; one row per spine row with a line. credit_line has known_until."""
    revolves = is_open_line() & F.col("kind").isin(*REVOLVING)
    repaid_by_instalments = is_open_line() & ~F.col("kind").isin(*REVOLVING)
    return (
        spine.select(*SPINE_KEY)
        .join(credit_line, on="borrower_id", how="inner")
        .where(known_on(F.col("as_of_date")))
        .groupBy(*SPINE_KEY)
        .agg(
            F.count("*").alias("total_lines"),
            F.count_if(is_open_line()).alias("open_lines"),
            F.count_if(F.col("worst_days_past_due_24m") >= LATE_DAYS).alias("delinquencies_24m"),
            F.min("opened_on").alias("oldest_on"),
            F.max("opened_on").alias("newest_on"),
            F.sum(F.when(revolves, F.col("balance"))).alias("revolving_balance"),
            F.sum(F.when(revolves, F.col("credit_limit"))).alias("revolving_limit"),
            F.sum(F.when(repaid_by_instalments, F.col("balance"))).alias("installment_balance"),
            F.sum(F.when(is_open_line(), F.col("credit_limit"))).alias("total_credit_limit"),
            F.sum("past_due_amount").alias("past_due_amount"),
            F.max("worst_days_past_due_24m").alias("worst_days_past_due_24m"),
        )
    )


def build_inquiry_totals(spine: DataFrame, credit_inquiry: DataFrame) -> DataFrame:
    """Inquiries within 6 months; one row per spine row of a borrower of whom any inquiry was known, however old."""
    recent = F.col("inquired_on") > F.add_months(F.col("as_of_date"), -INQUIRY_MONTHS)
    return (
        spine.select(*SPINE_KEY)
        .join(credit_inquiry, on="borrower_id", how="inner")
        .where((F.col("known_from") <= F.col("as_of_date")) & (F.col("inquired_on") <= F.col("as_of_date")))
        .groupBy(*SPINE_KEY)
        .agg(F.count_if(recent).alias("inquiries_6m"))
    )


def build_loan_totals(spine: DataFrame, loan: DataFrame) -> DataFrame:
    """Live loans as known, and the terms of the spine row's own loan; one row per spine row with a loan.

    loan has known_until. live_loan_ids: loans with status current, for the instalments. A loan's principal is taken as
    repaid in equal parts over its term, straight line.
    """
    is_live = F.col("status") == "current"
    is_own = F.col("loan_id") == F.col("own_loan_id")
    elapsed = whole_months(F.col("originated_on"), F.col("as_of_date")) / F.col("term_months")
    left = F.greatest(F.lit(1.0) - F.greatest(elapsed, F.lit(0.0)), F.lit(0.0))
    # To the cent, so that the sum does not depend on the order of loans.
    owed = (F.col("funded_amount").cast("double") * left).cast("decimal(18,2)")
    return (
        spine.select(*SPINE_KEY, F.col("loan_id").alias("own_loan_id"))
        .join(loan, on="borrower_id", how="inner")
        .where(known_on(F.col("as_of_date")))
        .groupBy(*SPINE_KEY)
        .agg(
            F.count_if(is_live).alias("live_loans"),
            F.coalesce(F.sum(F.when(is_live, owed)), F.lit(0)).alias("debt"),
            F.max(F.when(is_own, F.col("amount"))).alias("amount"),
            F.max(F.when(is_own, F.col("term_months"))).alias("term_months"),
            F.max(F.when(is_own, F.col("interest_rate"))).alias("interest_rate"),
            F.max(F.when(is_own, F.col("purpose") == "business")).alias("for_business"),
            F.collect_set(F.when(is_live, F.col("loan_id"))).alias("live_loan_ids"),
        )
    )


def months_ago(day: Column) -> Column:
    """Whole months from a day to the as-of date; null where it lies ahead."""
    months = whole_months(day, F.col("as_of_date"))
    return F.when(months >= 0, months)


def as_reported(months: Column) -> Column:
    """Months since an event, on the as-of date: as reported, plus the months since the report."""
    return months + F.greatest(months_ago(F.col("report.reported_on")), F.lit(0))


def credit_record() -> dict[str, Column]:
    """The formulas of the block by feature name."""

    def reported_or_counted(name: str) -> Column:
        return F.coalesce(F.col(f"report.{name}").cast("double"), F.col(f"lines.{name}").cast("double"))

    income = total_income(F.col("borrower.main_income"), F.col("borrower.other_income"))
    utilisation = F.try_divide(
        F.col("lines.revolving_balance").cast("double"), F.col("lines.revolving_limit").cast("double")
    )
    return {
        "bureau_score": (F.col("report.score_low") + F.col("report.score_high")) / F.lit(2.0),
        "debt_to_income": F.col("report.debt_to_income"),
        "delinquencies_24m": reported_or_counted("delinquencies_24m"),
        "months_since_delinquency": as_reported(F.col("report.months_since_delinquency")),
        "months_since_public_record": as_reported(F.col("report.months_since_public_record")),
        "public_records": F.col("report.public_records"),
        "inquiries_6m": F.coalesce(F.col("report.inquiries_6m"), F.col("inquiries.inquiries_6m")),
        "open_lines": reported_or_counted("open_lines"),
        "total_lines": reported_or_counted("total_lines"),
        "credit_history_months": months_ago(F.coalesce(F.col("report.earliest_line_on"), F.col("lines.oldest_on"))),
        "revolving_balance": reported_or_counted("revolving_balance"),
        "revolving_utilisation": F.coalesce(F.col("report.revolving_utilisation"), utilisation),
        "total_credit_limit": F.col("lines.total_credit_limit"),
        "past_due_amount": reported_or_counted("past_due_amount"),
        "worst_days_past_due_24m": F.col("lines.worst_days_past_due_24m"),
        "installment_balance": F.col("lines.installment_balance"),
        "newest_line_age_months": months_ago(F.col("lines.newest_on")),
        "live_loans": F.col("loans.live_loans"),
        "platform_debt": F.col("loans.debt"),
        "loan_amount_to_income": F.try_divide(F.col("loans.amount").cast("double"), income),
        "loan_term_months": F.col("loans.term_months"),
        "loan_interest_rate": F.col("loans.interest_rate"),
        "loan_for_business": F.col("loans.for_business"),
    }
