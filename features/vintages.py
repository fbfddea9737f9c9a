"""Vintages: loans by the quarter of their origination, and how many of each had defaulted by months on book."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.labels import build_lives

QUARTERS = 20


def build_vintages(loan: DataFrame, events: DataFrame, as_of_date: date) -> DataFrame:
    """The QUARTERS newest quarters of origination, as known on the as-of date.

    One row per quarter (its first day) and default_month (months on book of the first default; null: none so far): loans,
    and reached, the complete months on book that each of these loans has behind it.
    """
    first = F.add_months(F.trunc(F.lit(as_of_date), "quarter"), -3 * (QUARTERS - 1))
    return (
        build_lives(loan, events, as_of_date)
        .where(F.col("originated_on") >= first)
        .groupBy(F.trunc("originated_on", "quarter").alias("quarter"), "default_month")
        .agg(
            F.count("*").alias("loans"),
            F.floor(F.months_between(F.lit(as_of_date), F.max("originated_on"))).cast("int").alias("reached"),
        )
    )


def vintage_curves(vintages: pd.DataFrame) -> dict[date, np.ndarray]:
    """Cumulative incidence of default by months on book from 0, per quarter, oldest first; rows as of ``build_vintages``.

    A curve ends with the last month that every loan of its quarter has reached; a quarter that has none is left out.
    """
    curves = {}
    for quarter, rows in vintages.groupby("quarter"):
        reached, seen = int(rows["reached"].min()), rows.dropna(subset="default_month")
        if reached < 1:
            continue
        defaults = np.bincount(seen["default_month"].astype(int), seen["loans"], reached + 1)[: reached + 1]
        curves[quarter] = defaults.cumsum() / rows["loans"].sum()
    return curves
