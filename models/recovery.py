"""What comes back after a default, and when: fitted on realised repayments of defaulted loans, as known at a date."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from models.as_known import newest_known
from models.hazard import DEFAULT_LAG_MONTHS, months_since
from models.realised_cash import build_received

PRIOR_LOANS = 20.0
"""What the settings state weighs as much as so many defaulted loans of mean size."""


def scheduled_balance(amount: Column, interest_rate: Column, term_months: Column, paid_installments: Column) -> Column:
    """Principal owed after so many level instalments; ``models.valuation.outstanding_balance`` as a Column."""
    monthly = interest_rate / 12
    left = F.greatest(term_months - paid_installments, F.lit(0))
    annuity = lambda months: F.when(monthly == 0, months).otherwise(1 - F.pow(1 + monthly, -months))  # noqa: E731
    return amount.cast("double") * annuity(left) / annuity(term_months)


def build_recoveries(outcomes: DataFrame, loan: DataFrame, repayment: DataFrame, as_of_date: date) -> DataFrame:
    """Recoveries by months since default, as known by the as-of date.

    One row per months_since_default (0 is the month of the default) that some defaulted loan has completed: loans, owed (the
    scheduled balance before the first instalment missed, as the valuation has it, of those loans) and recovered (what they
    paid in that month). A loan counts in each month that it has completed, and in no other. outcomes: as of build_outcomes.
    """
    day = F.lit(as_of_date)
    terms = newest_known(loan, as_of_date, ["loan_id"], ["funded_amount", "interest_rate"])
    defaulted = (
        outcomes
        .where(F.col("event") == "default")
        .join(terms, on="loan_id", how="inner")
        .select(
            "loan_id",
            F.col("event_month").alias("default_month"),
            (F.floor(months_since(F.col("originated_on"), day)) - F.col("event_month")).cast("int").alias("completed"),
            scheduled_balance(
                F.col("funded_amount"), F.col("interest_rate"), F.col("term_months"),
                F.greatest(F.col("event_month") - 1 - DEFAULT_LAG_MONTHS, F.lit(0)),
            ).alias("owed"),
        )
    )
    since = F.col("month") - F.col("default_month")
    came_back = (
        build_received(loan, repayment, as_of_date)
        .join(defaulted.select("loan_id", "default_month", "completed"), on="loan_id", how="inner")
        .where((since >= 0) & (since <= F.col("completed")))
        .groupBy(since.alias("months_since_default"))
        .agg(F.sum("paid").alias("recovered"))
    )
    watched = (
        defaulted.withColumn("months_since_default", F.explode(F.sequence(F.lit(0), F.col("completed"))))
        .groupBy("months_since_default")
        .agg(F.count("*").alias("loans"), F.sum("owed").alias("owed"))
    )
    return watched.join(came_back, on="months_since_default", how="left").select(
        "months_since_default", "loans", "owed", F.coalesce("recovered", F.lit(0.0)).alias("recovered")
    )


def lump(rate: float, lag_months: int) -> np.ndarray:
    """Recoveries of a single payment, so many months after the default."""
    return np.append(np.zeros(lag_months), rate)


def fit_recoveries(
    counts: pd.DataFrame, *, recovery_rate: float, recovery_lag_months: int, prior_loans: float = PRIOR_LOANS
) -> np.ndarray | None:
    """What comes back k months after a default, as a fraction of what was owed: element k. Null where nothing ever was told
    to come back, so that the source may tell no recoveries.

    counts: as of build_recoveries. Each month's share is of the loans that have completed it, so that young defaults do not
    count as never recovered (the chain-ladder view of workout losses). It shrinks to what the settings state, which weighs as
    much as prior_loans defaulted loans and alone stands in months that no default has completed. All months together at most 1.
    """
    if counts["recovered"].sum() <= 0:
        return None
    stated = lump(recovery_rate, recovery_lag_months)
    months = max(len(stated), int(counts["months_since_default"].max()) + 1)
    at = counts["months_since_default"].to_numpy(int)
    owed, came_back = (np.bincount(at, counts[name].to_numpy(float), months) for name in ("owed", "recovered"))
    weight = prior_loans * counts["owed"].sum() / counts["loans"].sum()
    share = (came_back + weight * np.append(stated, np.zeros(months - len(stated)))) / (owed + weight)
    return share / max(1.0, share.sum())
