"""Bank accounts by month, out of their single transactions.

The input has one row per transaction: borrower_id, day, amount (not negative), direction (in or out), kind (card, salary,
or null for any other) and told_until, the day before which the borrower's transactions are told, from the account's
opening on. What an account holds is what came in less what went out: transactions of one day stand in no order, so that
none of the balances told with them need be the day's last.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F


def build_account_months(transactions: DataFrame) -> DataFrame:
    """One row per borrower and month (see silver.account_month), from the month of the first transaction on.

    Only months that are over by told_until, each known from its last day; the first one begins with its first
    transaction. Salary stands in the deposits too, card spend does not in the withdrawals. A balance holds from the end
    of its day until the next transaction: means are over days, and a month without a transaction goes on with what was
    there. source_file and row_number are those of the last row that tells of the month's balance. A month must land
    whole: a second landing breaks its unique key.
    """
    month_of_day = F.trunc("day", "month")
    last_month = F.trunc(F.date_sub("held_until", 1), "month")
    held = (
        _with_balance(_by_day(transactions))
        .withColumn("month", F.explode(F.sequence(month_of_day, last_month, F.expr("INTERVAL 1 MONTH"))))
        .where(F.last_day("month") < F.col("told_until"))
    )
    flows = [
        F.sum(F.when(F.col("month") == month_of_day, F.col(name)).otherwise(0)).alias(name)
        for name in ("deposits", "withdrawals", "card_spend", "salary_in", "transactions")
    ]
    days_held = F.datediff(F.least("held_until", F.date_add(F.last_day("month"), 1)), F.greatest("day", "month"))
    balance = F.col("balance")
    return (
        held.groupBy("borrower_id", "month")
        .agg(
            *flows,
            F.min(balance).alias("balance_min"),
            (F.sum(balance * days_held) / F.sum(days_held)).alias("balance_mean"),
            F.max_by(balance, "day").alias("balance_end"),
            F.sum(F.when(balance < 0, days_held).otherwise(0)).alias("overdraft_days"),
            F.max_by(F.struct("source_file", "row_number", "landed_on"), "day").alias("origin"),
        )
        .select("*", "origin.*", F.last_day("month").alias("known_from"))
        .drop("origin")
    )


def _by_day(transactions: DataFrame) -> DataFrame:
    """One row per borrower and day: totals, and the last row's origin."""
    amount, is_in = F.col("amount"), F.col("direction") == "in"
    is_card, is_salary = (F.col("kind").eqNullSafe(kind) for kind in ("card", "salary"))

    def total(condition: Column) -> Column:
        return F.sum(F.when(condition, amount).otherwise(0))

    return transactions.groupBy("borrower_id", "day").agg(
        total(is_in).alias("deposits"),
        total(~is_in & ~is_card).alias("withdrawals"),
        total(~is_in & is_card).alias("card_spend"),
        total(is_in & is_salary).alias("salary_in"),
        F.count("*").alias("transactions"),
        F.max("told_until").alias("told_until"),
        F.max(F.struct("source_file", "row_number", "landed_on")).alias("origin"),
    ).select("*", "origin.*").drop("origin")


def _with_balance(days: DataFrame) -> DataFrame:
    """Adds the balance at the end of each day, and held_until, the day of the next transaction or told_until."""
    in_turn = Window.partitionBy("borrower_id").orderBy("day")
    so_far = in_turn.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    return days.withColumns({
        "balance": F.sum(F.col("deposits") - F.col("withdrawals") - F.col("card_spend")).over(so_far),
        "held_until": F.coalesce(F.lead("day").over(in_turn), "told_until"),
    })
