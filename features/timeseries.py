"""The time-series block: instalments due up to the as-of date on every loan of the borrower, and monthly income.

Formulas read the struct ``installments`` (totals over loans), the struct ``accounts`` (the income aggregates of
``income``) and the struct ``borrower``.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from features.behavior import in_months, mean, relative_slope, relative_volatility
from features.credit_record import LATE_DAYS, months_ago
from features.demographic import total_income
from features.point_in_time import SPINE_KEY, known_on


def income() -> dict[str, Column]:
    """Aggregates of salary over the account months of a spine row (see ``features.behavior``)."""
    return {
        "income_mean_3m": mean(in_months("salary_in", 3)),
        "income_mean_6m": mean(in_months("salary_in", 6)),
        "income_trend_6m": relative_slope(in_months("salary_in", 6)),
        "income_volatility_12m": relative_volatility(in_months("salary_in", 12)),
    }


def days_late() -> Column:
    """How late an instalment is or was on the as-of date, as known: until it was paid, else until the as-of date.

    What a row tells as days_past_due is the least: part of an instalment may be late after a first payment.
    """
    until = F.coalesce(F.col("paid_on"), F.col("as_of_date"))
    return F.greatest(F.col("days_past_due"), F.datediff(until, F.col("due_on")), F.lit(0))


def build_installment_totals(spine: DataFrame, repayment: DataFrame) -> DataFrame:
    """Totals over the instalments due, as known; one row per spine row with an instalment due.

    spine has the struct loans with live_loan_ids; repayment has known_until.
    """

    def within(months: int, value: Column) -> Column:
        return F.when(F.col("due_on") > F.add_months(F.col("as_of_date"), -months), value)

    late = F.col("days_late")
    is_late = late >= LATE_DAYS
    due, paid = F.col("due_amount"), F.col("paid_amount")
    by_loan = (
        spine.select(*SPINE_KEY, F.col("loans.live_loan_ids").alias("live_loan_ids"))
        .join(repayment, on="borrower_id", how="inner")
        .where((F.col("due_on") <= F.col("as_of_date")) & known_on(F.col("as_of_date")))
        .withColumn("days_late", days_late())
        .groupBy(*SPINE_KEY, "loan_id")
        .agg(
            F.any_value(F.array_contains("live_loan_ids", F.col("loan_id"))).alias("is_live"),
            F.sum(within(3, due)).alias("due_3m"),
            F.sum(within(3, paid)).alias("paid_3m"),
            F.sum(within(12, due)).alias("due_12m"),
            F.sum(within(12, paid)).alias("paid_12m"),
            F.max_by(late, "installment_no").alias("late_last"),
            F.max(within(6, late)).alias("late_max_6m"),
            F.max(within(12, late)).alias("late_max_12m"),
            F.count_if(within(12, is_late)).alias("late_12m"),
            F.max(F.when(is_late, F.coalesce("paid_on", "as_of_date"))).alias("late_on"),
            F.count("paid_on").alias("paid"),
        )
    )
    return by_loan.groupBy(*SPINE_KEY).agg(
        *[F.sum(name).alias(name) for name in ("due_3m", "paid_3m", "due_12m", "paid_12m", "late_12m")],
        *[F.max(name).alias(name) for name in ("late_last", "late_max_6m", "late_max_12m", "late_on")],
        F.sum(F.when(F.col("is_live"), F.col("paid")).otherwise(0)).alias("paid_on_live_loans"),
    )


def timeseries() -> dict[str, Column]:
    """The formulas of the block by feature name."""
    totals = {name: F.col(f"installments.{name}").cast("double") for name in ("due_3m", "paid_3m", "due_12m", "paid_12m")}
    stated = total_income(F.col("borrower.main_income"), F.col("borrower.other_income")) / F.lit(12.0)
    return {
        "paid_to_due_3m": F.try_divide(totals["paid_3m"], totals["due_3m"]),
        "paid_to_due_12m": F.try_divide(totals["paid_12m"], totals["due_12m"]),
        "days_past_due_last": F.col("installments.late_last"),
        "days_past_due_max_6m": F.col("installments.late_max_6m"),
        "days_past_due_max_12m": F.col("installments.late_max_12m"),
        "late_installments_12m": F.col("installments.late_12m"),
        "months_since_late": months_ago(F.col("installments.late_on")),
        "installments_paid": F.col("installments.paid_on_live_loans"),
        "installment_to_income_3m": F.try_divide(
            totals["due_3m"] / F.lit(3.0), F.coalesce(F.col("accounts.income_mean_3m"), stated)
        ),
        "income_mean_6m": F.col("accounts.income_mean_6m"),
        "income_trend_6m": F.col("accounts.income_trend_6m"),
        "income_volatility_12m": F.col("accounts.income_volatility_12m"),
    }
