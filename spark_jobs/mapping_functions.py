"""The named functions that a source's mapping may refer to, for what columns, codes and units cannot say.

A column function takes the parsed value and its arguments: ``Column -> Column``. A table function takes the mapped
rows and returns rows of the table, each with the source_file and row_number of the row it was made of:
``DataFrame -> DataFrame``. Both are registered here, explicitly.
"""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from features.account_statements import build_account_months
from features.card_statements import build_card_months, build_card_repayments
from features.repayment_history import build_loan_statuses, build_repayments
from features.statement_items import build_statement_items, build_wide_statement_items


def previous_month_end(day: Column) -> Column:
    """The last day of the month before a day."""
    return F.date_sub(F.trunc(day, "month"), 1)


def months_before(months: Column, day: Column) -> Column:
    """The day that lies so many months before a day."""
    return F.add_months(day, -months)


def months_after(months: Column, day: Column) -> Column:
    """The day that lies so many months after a day."""
    return F.add_months(day, months)


def month_end(day: Column) -> Column:
    """The last day of a day's month."""
    return F.last_day(day)


def year_end(year: Column) -> Column:
    """The last day of a calendar year."""
    return F.make_date(year, F.lit(12), F.lit(31))


def joined_with(text: Column, other: Column) -> Column:
    """Two values as one text, a hyphen between them; null where one is."""
    return F.concat(text, F.lit("-"), other.cast("string"))


def later_of(day: Column, other: Column) -> Column:
    """The later of two days; a null one does not count."""
    return F.greatest(day, other)


def at_least_zero(amount: Column) -> Column:
    """An amount owed, which is nothing where the lender owes the borrower; null where it is unknown."""
    return F.when(amount < 0, F.lit(0)).otherwise(amount)


def keep_first(rows: DataFrame, key: str, by: str) -> DataFrame:
    """Of the mapped rows of each key the one with the lowest value of another column; the first one landed among equals."""
    return _kept(rows, key, F.col(by).asc())


def keep_last(rows: DataFrame, key: str, by: str) -> DataFrame:
    """Of the mapped rows of each key the one with the highest value of another column; the first one landed among equals."""
    return _kept(rows, key, F.col(by).desc())


def _kept(rows: DataFrame, key: str, order: Column) -> DataFrame:
    place = F.row_number().over(Window.partitionBy(key).orderBy(order, "landed_on", "source_file", "row_number"))
    return rows.withColumn("_place", place).where("_place = 1").drop("_place")


COLUMN_FUNCTIONS: dict[str, Callable[..., Column]] = {
    function.__name__: function
    for function in (previous_month_end, months_before, months_after, month_end, year_end, joined_with, later_of, at_least_zero)
}
TABLE_FUNCTIONS: dict[str, Callable[..., DataFrame]] = {
    function.__name__: function
    for function in (
        build_loan_statuses, build_repayments, build_card_months, build_card_repayments, build_account_months,
        build_statement_items, build_wide_statement_items, keep_first, keep_last,
    )
}
