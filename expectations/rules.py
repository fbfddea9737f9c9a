"""Rules, read from ``expectations/<table>.yaml``; each is declared once for row check, constraint and suite."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from conf.features import FEATURES, Feature, block_features
from conf.tables import FEATURE_TABLES, TRAINING_SET, Table


class RowRule(BaseModel):
    """What every row of a table must satisfy.

    sql is a Spark SQL condition over the row's columns; a row breaks the rule where it is false (null holds, as in a
    CHECK constraint).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    sql: str
    meaning: str


class TableRule(BaseModel):
    """What a whole table or one as-of date of it must satisfy.

    sql is a Spark SQL aggregate; its value must lie within low and high, ends included (null: unbounded).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    sql: str
    low: float | None = None
    high: float | None = None
    meaning: str


class Rules(BaseModel):
    """All rules of one table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: list[RowRule] = []
    table: list[TableRule] = []


def feature_range(feature: Feature) -> RowRule:
    """The rule that a feature lies in its declared range; NaN and infinity break it, unbounded sides included."""
    # Spark holds NaN greater than everything, so an upper bound is what keeps it out.
    low = f">= {feature.low}" if feature.low is not None else "> CAST('-Infinity' AS DOUBLE)"
    high = f"<= {feature.high}" if feature.high is not None else "< CAST('Infinity' AS DOUBLE)"
    bounds = f"[{'…' if feature.low is None else feature.low}, {'…' if feature.high is None else feature.high}]"
    return RowRule(
        name=f"range_{feature.name}",
        sql=f"{feature.name} {low} AND {feature.name} {high}",
        meaning=f"{feature.name} ({feature.meaning}) lies in {bounds} {feature.unit}",
    )


def feature_ranges(name: str) -> list[RowRule]:
    """One range rule per feature column of a table; none for a table without features."""
    blocks = {table.name: block_features(block) for block, table in FEATURE_TABLES.items()}
    features = FEATURES if name == TRAINING_SET.name else blocks.get(name, ())
    return [feature_range(feature) for feature in features]


@cache
def table_rules(name: str) -> Rules:
    """The rules in ``expectations/<name>.yaml`` and, for feature columns, the ranges that ``conf.features`` declares.

    Raises FileNotFoundError for a table without rules and pydantic.ValidationError for an unknown key.
    """
    written = Rules.model_validate(yaml.safe_load((Path(__file__).parent / f"{name}.yaml").read_text()) or {})
    return written.model_copy(update={"rows": [*written.rows, *feature_ranges(name)]})


def row_rules(table: Table) -> list[RowRule]:
    """The row rules of a table."""
    return table_rules(table.name).rows
