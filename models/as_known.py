"""Histories of silver rows as they were known at the end of one day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def newest_known(history: DataFrame, as_of_date: date, key: Sequence[str], columns: Sequence[str]) -> DataFrame:
    """One row per key that was known by the as-of date: its columns as its last row of then tells them, nulls too."""
    return (
        history.where(F.col("known_from") <= F.lit(as_of_date))
        .groupBy(*key)
        .agg(F.max_by(F.struct(*columns), "known_from").alias("newest"))
        .select(*key, "newest.*")
    )
