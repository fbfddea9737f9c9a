"""What loans have really paid, month by month, and the principal that was lost: the other side of models.valuation.

Made from silver's repayments, so from what each instalment was told to be last. Where a source tells totals only, its
instalments are rebuilt (features.repayment_history): amounts are then exact, months are those of the rebuilding.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from models.as_known import newest_known
from models.hazard import event_month

MAX_MONTHS = 600
"""Months on book beyond it count as it."""


def build_received(loan: DataFrame, repayment: DataFrame, as_of_date: date) -> DataFrame:
    """What came in of each originated loan, as known by the as-of date.

    One row per loan_id and month on book (as in models.hazard, from 1) in which anything was paid: paid, the sum of its
    instalments as told last, on the day of each one's last payment. Recoveries are payments like others.
    """
    originated = newest_known(loan.where("originated_on IS NOT NULL"), as_of_date, ["loan_id"], ["originated_on"])
    return (
        newest_known(repayment, as_of_date, ["loan_id", "installment_no"], ["paid_on", "paid_amount"])
        .where((F.col("paid_amount") > 0) & F.col("paid_on").isNotNull())
        .join(originated, on="loan_id", how="inner")
        .groupBy("loan_id", event_month(F.col("paid_on"), F.lit(MAX_MONTHS)).alias("month"))
        .agg(F.sum("paid_amount").cast("double").alias("paid"))
    )


def cash_matrix(received: pd.DataFrame, loan_id: pd.Series, amount: np.ndarray) -> np.ndarray:
    """Cash of shape (loans, months) per unit of amount, in the order of loan_id; column 0 is month 1.

    received: as of build_received; its other loans do not count. A loan without a row has paid nothing.
    """
    place = pd.Index(loan_id).get_indexer(received["loan_id"])
    ours = received.assign(place=place)[place >= 0]
    cash = np.zeros((len(loan_id), int(ours["month"].max()) if len(ours) else 1))
    np.add.at(cash, (ours["place"].to_numpy(), ours["month"].to_numpy(int) - 1), ours["paid"].to_numpy(float))
    return cash / np.asarray(amount, dtype=float)[:, None]


def owed_at_default(cash: np.ndarray, interest_rate: np.ndarray, default_month: np.ndarray) -> np.ndarray:
    """Principal owed when a loan defaulted, as a fraction of the amount, from what it had paid in the months before.

    A payment goes to the interest that has run up at the loan's own rate, then to principal; interest bears no interest.
    default_month: the month on book of the default, null (nan) for none, where the answer is what is owed after all cash.
    """
    monthly = np.asarray(interest_rate, dtype=float) / 12
    before = np.where(np.isnan(default_month), np.inf, default_month)
    owed, interest = np.ones(len(cash)), np.zeros(len(cash))
    for month in range(1, cash.shape[1] + 1):
        is_before = month < before
        interest = interest + np.where(is_before, monthly * owed, 0.0)
        paid = np.where(is_before, cash[:, month - 1], 0.0)
        to_interest = np.minimum(paid, interest)
        interest = interest - to_interest
        owed = np.maximum(owed - (paid - to_interest), 0.0)
    return owed


def recovered(cash: np.ndarray, default_month: np.ndarray) -> np.ndarray:
    """What came in from the month of the default on, as a fraction of the amount; 0 without a default (nan)."""
    month = np.arange(1, cash.shape[1] + 1)
    return np.where(month[None, :] >= np.asarray(default_month, dtype=float)[:, None], cash, 0.0).sum(axis=1)


def principal_lost(cash: np.ndarray, interest_rate: np.ndarray, default_month: np.ndarray) -> np.ndarray:
    """Principal that never came back, as a fraction of the amount: of a defaulted loan what it owed, less recoveries.

    0 for loans without a default (nan), and where more was recovered than owed.
    """
    lost = np.maximum(owed_at_default(cash, interest_rate, default_month) - recovered(cash, default_month), 0.0)
    return np.where(np.isnan(default_month), 0.0, lost)


def stacked_cash(cash: pd.Series) -> np.ndarray:
    """Lists of cash as a matrix of shape (loans, longest), 0 beyond a list's end; one column at least. The inverse of ``listed_cash``."""
    stacked = np.zeros((len(cash), max(1, *map(len, cash))))
    for place, flow in enumerate(cash):
        stacked[place, : len(flow)] = flow
    return stacked


def listed_cash(cash: np.ndarray) -> list[list[float]]:
    """The rows of a matrix as lists, each up to its last payment."""
    lengths = np.where(cash.any(axis=1), cash.shape[1] - (cash[:, ::-1] > 0).argmax(axis=1), 0)
    return [row[:length].tolist() for row, length in zip(cash, lengths, strict=True)]
