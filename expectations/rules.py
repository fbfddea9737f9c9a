"""Rules, read from ``expectations/<table>.yaml``; each is declared once for row check, constraint and suite."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from conf.tables import Table


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


@cache
def table_rules(name: str) -> Rules:
    """The rules in ``expectations/<name>.yaml``.

    Raises FileNotFoundError for a table without rules and pydantic.ValidationError for an unknown key.
    """
    return Rules.model_validate(yaml.safe_load((Path(__file__).parent / f"{name}.yaml").read_text()) or {})


def row_rules(table: Table) -> list[RowRule]:
    """The row rules of a table."""
    return table_rules(table.name).rows
