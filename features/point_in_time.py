"""What a row may know: histories of silver rows, looked at from the as-of date of each row of a spine.

A spine has one row per (borrower_id, as_of_date), with any number of as-of dates. Histories meet it by borrower_id
alone and by dates within the join, so that each history is shuffled once, whatever the number of as-of dates.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

SPINE_KEY = ("borrower_id", "as_of_date")
WINDOW_MONTHS = 12
"""The longest window of months that a feature looks back over."""


def with_known_until(history: DataFrame, *key: str, order: str = "known_from", on: str = "borrower_id") -> DataFrame:
    """Adds known_until, the day from which a later row of the same key replaces a row; null for the newest.

    Rows known from the same day on are ordered by the column order; the last of them replaces the others at once. The
    history must have the column on, and a key never changes its value there.
    """
    # Partitioned by that column alone first: window, join and aggregation by it then all use this one shuffle.
    partitioned = history.repartition(on)
    later = Window.partitionBy(on, *key).orderBy("known_from", order)
    return partitioned.withColumn("known_until", F.lead("known_from").over(later))


def with_newest_until(history: DataFrame, order: str) -> DataFrame:
    """The rows of a history that were ever a borrower's newest by the column order, with known_until.

    A row that arrives later than one with a higher order (a late correction of the past) was never the newest.
    """
    arrival = Window.partitionBy("borrower_id").orderBy("known_from", order)
    before = arrival.rowsBetween(Window.unboundedPreceding, -1)
    newest = (
        history.repartition("borrower_id")
        .withColumn("newest_before", F.max(order).over(before))
        .where(F.col("newest_before").isNull() | (F.col(order) >= F.col("newest_before")))
        .drop("newest_before")
    )
    return newest.withColumn("known_until", F.lead("known_from").over(arrival))


def known_on(day: Column) -> Column:
    """Whether a row with known_from and known_until is what was known at the end of a day."""
    until = F.col("known_until")
    return (F.col("known_from") <= day) & (until.isNull() | (day < until))


def with_row_as_known(spine: DataFrame, history: DataFrame, name: str, *, on: str = "borrower_id") -> DataFrame:
    """Adds the one row of a history that was known on each row's as-of date, as a struct called name.

    history has known_until, and of each value of the column on at most one row is known on any day. The struct is
    null where nothing was known.
    """
    fields = [column for column in history.columns if column not in (on, "known_from", "known_until")]
    record = history.select(F.col(on).alias("record_of"), "known_from", "known_until", F.struct(*fields).alias(name))
    matches = (F.col(on) == F.col("record_of")) & known_on(F.col("as_of_date"))
    return spine.join(record, on=matches, how="left").drop("record_of", "known_from", "known_until")


def with_totals(spine: DataFrame, totals: DataFrame, name: str) -> DataFrame:
    """Adds the columns of a frame with at most one row per spine row, as a struct called name; null without a row."""
    fields = [column for column in totals.columns if column not in SPINE_KEY]
    return spine.join(totals.select(*SPINE_KEY, F.struct(*fields).alias(name)), on=list(SPINE_KEY), how="left")


def next_month(as_of_date: Column) -> Column:
    """First day of the month after the last complete one: on the last day of a month that month is complete."""
    return F.trunc(F.date_add(as_of_date, 1), "month")


def whole_months(since: Column, day: Column) -> Column:
    """Whole months from a day to a later one; negative where it is not later."""
    return F.floor(F.months_between(day, since)).cast("int")


def narrowed(silver: Mapping[str, DataFrame], earliest: date, latest: date) -> dict[str, DataFrame]:
    """The silver tables without rows that no as-of date from earliest to latest may use; features stay the same."""
    known = {name: frame.where(F.col("known_from") <= F.lit(latest)) for name, frame in silver.items()}
    # One month more: a source may tell of a month some days after its end.
    first_month = F.add_months(F.trunc(F.lit(earliest), "month"), -WINDOW_MONTHS - 1)
    return known | {"account_month": known["account_month"].where(F.col("month") >= first_month)}
