"""What a gate measures of a table, all in one aggregation."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from conf.tables import Table
from expectations.rules import table_rules

ROW_COUNT = "row_count"


@dataclass(frozen=True)
class Bound:
    """Between what a number must lie, ends included; no bound at all: reported only."""

    low: float | None
    high: float | None
    meaning: str


@dataclass(frozen=True)
class Measure:
    """One aggregate of a table, in Spark SQL, and its bound."""

    sql: str
    bound: Bound


def measures(table: Table) -> dict[str, Measure]:
    """The measures of a table by name: rows, nulls where none may be, keys that stand twice, row and table rules."""
    rules = table_rules(table.name)
    found = {ROW_COUNT: Measure("count(1)", Bound(None, None, "rows"))}
    for column in table.required:
        found[f"null_{column}"] = Measure(f"count_if({column} IS NULL)", Bound(None, 0, f"rows without {column}"))
    found["duplicate_keys"] = Measure(
        f"count(1) - count(DISTINCT struct({', '.join(table.key)}))",
        Bound(None, 0, f"rows whose {', '.join(table.key)} stands twice"),
    )
    for rule in rules.rows:
        found[rule.name] = Measure(f"count_if(NOT ({rule.sql}))", Bound(None, 0, f"rows that break: {rule.meaning}"))
    for rule in rules.table:
        found[rule.name] = Measure(rule.sql, Bound(rule.low, rule.high, rule.meaning))
    return found


def build_measured(table: Table, frame: DataFrame) -> DataFrame:
    """One row: the table's name and its measures as a map from name to number (null: nothing to measure)."""
    # One text rather than a hundred columns: each call into the JVM costs.
    named = ", ".join(f"'{name}', CAST({measure.sql} AS DOUBLE)" for name, measure in measures(table).items())
    return frame.agg(F.expr(f"map({named})").alias("measured")).select(F.lit(table.name).alias("table_name"), "measured")
