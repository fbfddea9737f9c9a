"""The behaviour block: bank and card account over the twelve newest complete months that can be known on the as-of date.

Formulas are aggregates over the known account months of one spine row, with the column ``months_ago``: 1 for the last
complete month, 12 for the oldest. A month that is not known, or a null in it, is left out of means and sums. Slopes
are ordinary least squares in closed form, cov(t, y) / var(t) over the known months t, from two months on; standard
deviations are those of a sample, from two months on.

Sums are exact, over decimals and whole numbers: a sum of doubles would depend on the order in which Spark's shuffled
rows arrive, and the same night would not score the same twice. Doubles begin at the division.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from features.point_in_time import SPINE_KEY, WINDOW_MONTHS, known_on, next_month

# Holds a number of months, and a sum of month indices, of a window.
_MONTHS = "decimal(3,0)"


def in_months(column: str, months: int) -> Column:
    """The value of a monthly column, exact, where its month is one of the last so many, null elsewhere."""
    return F.when(F.col("months_ago") <= months, F.col(column))


def total(value: Column) -> Column:
    """Sum of a value over the known months, a double; null without one."""
    return F.sum(value).cast("double")


def mean(value: Column) -> Column:
    """Mean of a value over the known months; null without one."""
    return F.try_divide(total(value), F.count(value))


def slope(value: Column) -> Column:
    """Least-squares slope of a value a month, over the month index; null for fewer than two months."""
    month = F.when(value.isNotNull(), -F.col("months_ago"))
    months, index = F.count(value).cast(_MONTHS), F.sum(month).cast(_MONTHS)
    above = months * F.sum(month * value) - index * F.sum(value)
    return F.try_divide(above.cast("double"), months * F.sum(month * month) - index * index)


def volatility(value: Column) -> Column:
    """Standard deviation of a value with at most two decimals; null for fewer than two months."""
    months = F.count(value).cast(_MONTHS)
    above = months * F.sum(value * value) - F.sum(value) * F.sum(value)
    return F.sqrt(F.try_divide(above.cast("double"), months * (months - 1)))


def relative_slope(value: Column) -> Column:
    """Slope over mean; null where the mean is 0 or there are fewer than two months."""
    return F.try_divide(slope(value), mean(value))


def relative_volatility(value: Column) -> Column:
    """Standard deviation over mean; null where the mean is 0 or there are fewer than two months."""
    return F.try_divide(volatility(value), mean(value))


def months_with(value: Column) -> Column:
    """Number of months with a value above 0; null where no month's value is known."""
    return F.sum((value > 0).cast("int"))


def behavior() -> dict[str, Column]:
    """The formulas of the block by feature name: aggregates over the account months of a spine row."""
    # Spending is what is known of both; an unknown part makes a month's sum unknown.
    spend_and_withdrawals = in_months("card_spend", 3) + in_months("withdrawals", 3)
    advances_6m = total(in_months("cash_advances", 6))
    known_balance = F.when(F.col("balance_end").isNotNull(), F.col("months_ago"))
    known_utilisation = F.when(F.col("utilisation").isNotNull(), F.col("months_ago"))
    return {
        "card_spend_mean_3m": mean(in_months("card_spend", 3)),
        "card_spend_mean_12m": mean(in_months("card_spend", 12)),
        "card_spend_trend_6m": relative_slope(in_months("card_spend", 6)),
        "card_spend_volatility_12m": relative_volatility(in_months("card_spend", 12)),
        "cash_advance_mean_3m": mean(in_months("cash_advances", 3)),
        "cash_advance_share_6m": F.try_divide(advances_6m, total(in_months("card_spend", 6)) + advances_6m),
        "cash_advance_months_12m": months_with(in_months("cash_advances", 12)),
        "deposit_mean_3m": mean(in_months("deposits", 3)),
        "deposit_mean_12m": mean(in_months("deposits", 12)),
        "deposit_trend_6m": relative_slope(in_months("deposits", 6)),
        "withdrawal_mean_3m": mean(in_months("withdrawals", 3)),
        "withdrawal_mean_12m": mean(in_months("withdrawals", 12)),
        "withdrawal_to_deposit_6m": F.try_divide(total(in_months("withdrawals", 6)), total(in_months("deposits", 6))),
        "balance_mean_3m": mean(in_months("balance_mean", 3)),
        "balance_mean_12m": mean(in_months("balance_mean", 12)),
        "balance_min_3m": F.min(in_months("balance_min", 3)),
        "balance_min_12m": F.min(in_months("balance_min", 12)),
        "balance_end_last": F.min_by("balance_end", known_balance),
        "balance_trend_6m": slope(in_months("balance_mean", 6)),
        "balance_volatility_12m": volatility(in_months("balance_mean", 12)),
        "overdraft_days_3m": F.sum(in_months("overdraft_days", 3)),
        "overdraft_days_12m": F.sum(in_months("overdraft_days", 12)),
        "overdraft_months_12m": months_with(in_months("overdraft_days", 12)),
        "transactions_mean_3m": mean(in_months("transactions", 3)),
        "transactions_trend_6m": relative_slope(in_months("transactions", 6)),
        "utilisation_last": F.min_by(F.col("utilisation"), known_utilisation),
        "utilisation_mean_6m": mean(in_months("utilisation", 6)),
        "utilisation_max_12m": F.max(in_months("utilisation", 12)),
        "utilisation_trend_6m": slope(in_months("utilisation", 6)),
        "balance_to_spend_3m": F.try_divide(mean(in_months("balance_mean", 3)), mean(spend_and_withdrawals)),
        "months_observed_12m": F.count("*"),
    }


def build_account_totals(
    spine: DataFrame, account_month: DataFrame, totals: Mapping[str, Column], lag_days: int = 0
) -> DataFrame:
    """Aggregates over the account months as known; one row per spine row with a known month among the last twelve.

    The last month is the one that had ended lag_days before the as-of date: whether a borrower is looked at in the
    first days of a month or at its end, as many months count. account_month has known_until; its utilisation counts
    to eight decimals.
    """
    end = F.col("end")
    window = F.col("month").between(F.add_months(end, -WINDOW_MONTHS), F.add_months(end, -1))
    return (
        spine.select(*SPINE_KEY, next_month(F.date_sub("as_of_date", lag_days)).alias("end"))
        .join(account_month, on="borrower_id", how="inner")
        .where(window & known_on(F.col("as_of_date")))
        .withColumn("months_ago", F.months_between(end, F.col("month")).cast("int"))
        .withColumn("utilisation", F.col("utilisation").cast("decimal(12,8)"))
        .groupBy(*SPINE_KEY)
        .agg(*[total.alias(name) for name, total in totals.items()])
    )
