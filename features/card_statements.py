"""Card accounts by month, where a source tells all months of an account side by side in one row.

The input has one row per account with bill_1 … bill_n, paid_1 … paid_n and months_late_1 … months_late_n, 1 the newest
month: what the month's statement billed, what was paid in that month, and how many months behind the account was at its
end. A month is known from its last day on.
"""

from __future__ import annotations

from itertools import pairwise

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

# A limit that was cut after the card was drawn leaves a multiple of it, which says no more than this.
_MAX_UTILISATION = 10.0
_DAYS_PER_MONTH = 30


def _by_month(accounts: DataFrame, months: int, values: dict[str, list[Column]]) -> DataFrame:
    """One row per account and month, with month (its first day), known_from (its last), place (1 for the newest)."""
    told = F.array(*(
        F.struct(F.lit(place).alias("place"), *(columns[place - 1].alias(name) for name, columns in values.items()))
        for place in range(1, months + 1)
    ))
    return (
        accounts.withColumn("told", F.explode(told))
        .select("*", "told.*")
        .withColumn("month", F.add_months(F.trunc("newest_month", "month"), 1 - F.col("place")))
        .withColumn("known_from", F.last_day("month"))
    )


def _columns(name: str, months: int) -> list[Column]:
    return [F.col(f"{name}_{place}") for place in range(1, months + 1)]


def build_card_months(accounts: DataFrame, months: int) -> DataFrame:
    """One row per borrower and month (see silver.account_month).

    Reads borrower_id, credit_limit, newest_month, bill_* and paid_*. What is owed is a balance below zero, and the
    statement's is the only one told. Card spend is what a bill grew by, and what was paid beside that; unknown for the
    oldest month, nothing where a bill fell by more than was paid (fees waived, goods returned).
    """
    bill, paid = _columns("bill", months), _columns("paid", months)
    grown = [now - before for now, before in pairwise(bill)]
    spent = [F.greatest(growth + payment, F.lit(0)) for growth, payment in zip(grown, paid[:-1], strict=True)]
    rows = _by_month(accounts, months, {"bill": bill, "deposits": paid, "card_spend": [*spent, F.lit(None).cast("decimal(18,2)")]})
    used = F.try_divide(F.col("bill").cast("double"), F.col("credit_limit").cast("double"))
    owed = -F.col("bill")
    return rows.withColumns({
        "balance_min": owed, "balance_mean": owed, "balance_end": owed,
        # greatest and least skip nulls, which here must stay null.
        "utilisation": F.when(used.isNotNull(), F.least(F.greatest(used, F.lit(0.0)), F.lit(_MAX_UTILISATION))),
    })


def build_card_repayments(accounts: DataFrame, months: int) -> DataFrame:
    """One row per account and month (see silver.repayment): the bill of the month before, due on the month's last day.

    Reads loan_id, borrower_id, newest_month, bill_*, paid_* and months_late_*. In the oldest month nothing is due, as
    no bill before it is told. How far behind the account was at the month's end is told as days of 30 a month, and each
    month stands as settled on that day: what became of one month's bill later, nobody tells.
    """
    bill, paid, late = (_columns(name, months) for name in ("bill", "paid", "months_late"))
    due = [F.greatest(amount, F.lit(0)) for amount in bill[1:]]
    rows = _by_month(accounts, months, {"due_amount": [*due, F.lit(0).cast("decimal(18,2)")], "paid_amount": paid, "months_late": late})
    return rows.withColumns({
        "installment_no": F.lit(months + 1) - F.col("place"),
        "due_on": F.last_day("month"),
        "paid_on": F.last_day("month"),
        "days_past_due": F.greatest(F.col("months_late"), F.lit(0)) * _DAYS_PER_MONTH,
    })
