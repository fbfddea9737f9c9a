"""Loans and their monthly repayments over time, rebuilt where a source tells only how each loan ended.

The input says when a loan was issued, its instalment, the month and amount of its last payment, all that was ever
paid, and how it ended. What is unknown is placed as late as it can be, so that no row tells anything early: a loan is
issued and payments are made on the last day of their month, level instalments run from the first month, and whatever the
totals show beyond them or short of them is told when the loan is over. An instalment that was missed and made up for
leaves no trace in totals; so what is missed for good must not be told earlier than a lender would write it down as late,
30 days past due, and whoever learns from such rows should know that all of them end in a default.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

# Days past due at which an unpaid instalment is told.
_DAYS_TOLD = (30, 60, 90)
# Totals miss whole instalments by up to this share of one, from rounding in the source.
_ROUNDING_SHARE = 0.1


def last_payment_day(issued_on: Column, last_paid_on: Column) -> Column:
    """The last day of the month of the last payment; of the issue month where nothing was ever paid."""
    return F.last_day(F.coalesce(F.greatest(last_paid_on, issued_on), issued_on))


def closing_day(outcome: Column, issued_on: Column, last_paid_on: Column, charge_off_days: int) -> Column:
    """The day a loan ended: its last payment, or its charge-off so many days later; null while it runs."""
    last = last_payment_day(issued_on, last_paid_on)
    return F.when(outcome == "paid", last).when(outcome == "charged_off", F.date_add(last, charge_off_days))


def build_loan_statuses(loans: DataFrame, charge_off_days: int = 150) -> DataFrame:
    """One row per loan and status, from one row per loan: listed, current from its origination, and how it ended.

    Reads the columns of silver.loan that do not change, with issued_on (first day of the issue month), funded_on_issue
    (the amount that was funded), outcome (paid, charged_off, current) and last_paid_on (null: nothing was ever paid).
    The listing is known from the last day of the month before, and nothing is funded then. A loan that is over on the day
    of its issue has no row of its running.
    """
    closed_on = closing_day(F.col("outcome"), F.col("issued_on"), F.col("last_paid_on"), charge_off_days)
    nothing = F.lit(None).cast("date")
    listed_on = F.date_sub(F.trunc("issued_on", "month"), 1)

    def told(status: Column, known_from: Column, originated_on: Column, funded: Column, closed: Column) -> Column:
        return F.struct(
            status.alias("status"), known_from.alias("known_from"), originated_on.alias("originated_on"),
            funded.cast("decimal(18,2)").alias("funded_amount"), closed.alias("closed_on"),
        )

    issued, funded = F.last_day("issued_on"), F.col("funded_on_issue")
    statuses = F.array(
        told(F.lit("listed"), listed_on, nothing, F.lit(0), nothing),
        F.when(closed_on.isNull() | (closed_on > issued), told(F.lit("current"), issued, issued, funded, nothing)),
        F.when(closed_on.isNotNull(), told(F.col("outcome"), closed_on, issued, funded, closed_on)),
    )
    return (
        loans.withColumn("listed_on", listed_on)
        .withColumn("told", F.explode(F.array_compact(statuses)))
        .select("*", "told.*")
        .drop("told", "issued_on", "funded_on_issue", "outcome", "last_paid_on")
    )


def build_repayments(loans: DataFrame, charge_off_days: int = 150) -> DataFrame:
    """One row per loan, instalment and telling (see silver.repayment), from one row per loan.

    Reads loan_id, borrower_id, issued_on, last_paid_on, installment, last_paid_amount, total_paid, recoveries (part of
    total_paid), collection_fee (what collecting them cost), outcome.
    Month k after the issue month is instalment k, due on the last day of that month. Level instalments are paid from the
    first month on, as many as the total holds; the last payment stands in its own month; months in between tell nothing,
    since nobody knows whether they were late or paid ahead. The last payment of a charged-off loan is told as one more
    level instalment, since what is left of the total says how the loan ends, and again on the day of the charge-off, with
    that amount. After it every instalment stays unpaid, told at 30, 60 and 90 days, and recoveries stand in the first of
    them on the day of the charge-off, less the fee. What was told last of a loan's instalments adds up to total_paid less the
    fee, to the cent. A loan without any instalment yet has no row.
    """
    # A loan that pays within its issue month pays ahead of its first instalment.
    months_paid = F.months_between(F.trunc("last_paid_on", "month"), F.trunc("issued_on", "month"))
    last_month = F.when(F.col("last_paid_on").isNull(), 0).otherwise(F.greatest(F.lit(1), months_paid)).cast("int")
    paid_by_borrower = (F.col("total_paid") - F.col("recoveries")).cast("decimal(18,2)")
    before_last = (paid_by_borrower - F.coalesce("last_paid_amount", F.lit(0))).cast("double")
    installment = F.col("installment").cast("double")
    level_months = F.greatest(F.lit(0), F.least(
        F.col("last_month") - 1,
        F.floor(before_last / installment + _ROUNDING_SHARE),
        F.floor(paid_by_borrower.cast("double") / installment),
    )).cast("int")
    # The last instalment that falls due before a charge-off: 28 days are the shortest month.
    last_due = F.when(F.col("outcome") == "charged_off", F.col("last_month") + 1 + charge_off_days // 28).otherwise(F.col("last_month"))
    number = F.col("installment_no")
    return (
        loans.withColumn("last_month", last_month)
        .withColumn("level_months", level_months)
        .withColumn("last_day", last_payment_day(F.col("issued_on"), F.col("last_paid_on")))
        .withColumn("closed_on", closing_day(F.col("outcome"), F.col("issued_on"), F.col("last_paid_on"), charge_off_days))
        .withColumn("last_payment", (paid_by_borrower - F.col("level_months") * F.col("installment")).cast("decimal(18,2)"))
        .withColumn("installment_no", F.explode(F.when(last_due >= 1, F.sequence(F.lit(1), last_due))))
        .where((number <= F.col("level_months")) | (number >= F.col("last_month")))
        .withColumn("due_on", F.last_day(F.add_months(F.trunc("issued_on", "month"), number)))
        .where((number <= F.col("last_month")) | (F.col("due_on") < F.col("closed_on")))
        .withColumn("due_amount", _due_amount())
        .withColumn("told", F.explode(_tellings()))
        .select(
            "loan_id", "borrower_id", "installment_no", "due_on", "due_amount", "told.*",
            "source_file", "row_number", "landed_on", *(["currency"] if "currency" in loans.columns else []),
        )
    )


def _due_amount() -> Column:
    """The level instalment; the final one of a loan paid in full is not more than what was left to pay."""
    is_final = (F.col("installment_no") == F.col("last_month")) & (F.col("outcome") == "paid")
    return F.when(is_final, F.least("installment", "last_payment")).otherwise(F.col("installment"))


def _tellings() -> Column:
    """An array of what was known of an instalment, and from when on."""
    due, closed, last_day, number = (F.col(name) for name in ("due_on", "closed_on", "last_day", "installment_no"))

    def told(known_from: Column, paid_on: Column | None, paid: Column, days: Column) -> Column:
        return F.struct(
            known_from.alias("known_from"), (F.lit(None).cast("date") if paid_on is None else paid_on).alias("paid_on"),
            paid.cast("decimal(18,2)").alias("paid_amount"), days.cast("int").alias("days_past_due"),
        )

    unpaid = [
        F.when(F.date_add(due, days) < closed, told(F.date_add(due, days), None, F.lit(0), F.lit(days))) for days in _DAYS_TOLD
    ]
    # What reaches the lender.
    recovered_amount = F.col("recoveries") - F.col("collection_fee")
    recovered = F.when(
        (number == F.col("last_month") + 1) & (recovered_amount > 0),
        told(closed, closed, recovered_amount, F.datediff(closed, due)),
    )
    is_lost = F.col("outcome") == "charged_off"
    last = F.array(
        told(last_day, last_day, F.when(is_lost, F.col("installment")).otherwise(F.col("last_payment")), F.lit(0)),
        F.when(is_lost, told(closed, last_day, F.col("last_payment"), F.lit(0))),
    )
    return (
        F.when(number <= F.col("level_months"), F.array(told(due, due, F.col("installment"), F.lit(0))))
        .when(number == F.col("last_month"), F.array_compact(last))
        .otherwise(F.array_compact(F.array(*unpaid, recovered)))
    )
