"""Statement items: what a filing's accounts are called in the chart, and whether they add up.

Rows go in with filing_id, code, value, known_from, source_file and row_number, one per account as filed, or with one column
per account; they come out one per filing and account of the chart.
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from conf.accounts import Chart, chart_of_accounts

_OF_FILING = ("filing_id", "known_from", "landed_on", "source_file", "row_number")


def build_statement_items(rows: DataFrame, standard: str) -> DataFrame:
    """Rows of statement_item with broken_rules: the balances and limits of the chart that their filing does not keep.

    rows: one per filing and code. A code that the chart does not know for this standard, and an empty value, make no item; of
    several codes of one account the preferred one counts. Rows of one filing that differ otherwise stay apart: they break
    unique_key.
    """
    chart = chart_of_accounts()
    codes = chart.of_standard(standard)
    known = F.create_map(*(
        part for code, (account, rank) in codes.items()
        for part in (F.lit(code), F.struct(F.lit(account).alias("account"), F.lit(rank).alias("rank")))
    ))
    told = rows.withColumn("_known", F.try_element_at(known, F.col("code"))).where("_known IS NOT NULL AND value IS NOT NULL")
    best = Window.partitionBy("filing_id", "account")
    items = (
        told.withColumn("account", F.col("_known.account"))
        .withColumn("_best", F.min("_known.rank").over(best))
        .where(F.col("_known.rank") == F.col("_best"))
    )
    return with_balances(items, chart).drop("_known", "_best")


def build_wide_statement_items(rows: DataFrame, standard: str) -> DataFrame:
    """``build_statement_items`` of rows with one column per account, each called as the standard calls it."""
    codes = [code for code in chart_of_accounts().of_standard(standard) if code in rows.columns]
    told = F.explode(F.array(*(F.struct(F.lit(code).alias("code"), F.col(code).alias("value")) for code in codes)))
    return build_statement_items(rows.select(*_OF_FILING, told.alias("item")).select(*_OF_FILING, "item.*"), standard)


def with_balances(items: DataFrame, chart: Chart) -> DataFrame:
    """The items with broken_rules: all that their filing, taken whole, breaks of the chart's balances and limits.

    A balance or limit of which an account is not told is not broken.
    """
    whole = Window.partitionBy("filing_id")

    def value(account: str) -> Column:
        return F.max(F.when(F.col("account") == account, F.col("value").cast("double"))).over(whole)

    broken = []
    for name, balance in chart.balances.items():
        optional = [F.coalesce(value(account), F.lit(0.0)) for account in balance.optional]
        total, parts = value(balance.total), reduce(Column.__add__, [*map(value, balance.parts), *optional])
        broken.append(F.when(F.abs(total - parts) > chart.tolerance * F.greatest(F.abs(total), F.abs(parts)), F.lit(name)))
    for name, limit in chart.limits.items():
        part, of = value(limit.part), value(limit.whole)
        broken.append(F.when(part - of > chart.tolerance * F.abs(of), F.lit(name)))
    return items.withColumn("broken_rules", F.array_compact(F.array(*broken)))
