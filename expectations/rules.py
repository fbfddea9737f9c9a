"""Rules, read from ``expectations/<table>.yaml``; each is declared once for row check, constraint and suite."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from conf.accounts import chart_of_accounts
from conf.company_features import COMPANY_FEATURES, COMPANY_REASON_WORDS, CompanyFeature
from conf.features import FEATURES, Feature, block_features
from conf.reasons import REASON_WORDS
from conf.tables import (
    BORROWER_SCORE,
    COMPANY_FEATURE,
    COMPANY_SCORE,
    COMPANY_TRAINING_SET,
    FEATURE_TABLES,
    STATEMENT_ITEM,
    TRAINING_SET,
    Table,
)


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


def feature_range(feature: Feature | CompanyFeature) -> RowRule:
    """The rule that a feature lies in its declared range; NaN and infinity break it, unbounded sides included."""
    # Spark holds NaN greater than everything, so an upper bound is what keeps it out.
    low = f">= {feature.low}" if feature.low is not None else "> CAST('-Infinity' AS DOUBLE)"
    high = f"<= {feature.high}" if feature.high is not None else "< CAST('Infinity' AS DOUBLE)"
    bounds = f"[{'…' if feature.low is None else feature.low}, {'…' if feature.high is None else feature.high}]"
    return RowRule(
        name=f"range_{feature.name}",
        sql=f"{feature.name} {low} AND {feature.name} {high}",
        meaning=f"{feature.name} ({feature.meaning}) lies in {bounds}{f' {feature.unit}' if isinstance(feature, Feature) else ''}",
    )


def feature_ranges(name: str) -> list[RowRule]:
    """One range rule per feature column of a table; none for a table without features."""
    blocks = {table.name: block_features(block) for block, table in FEATURE_TABLES.items()}
    features = FEATURES if name == TRAINING_SET.name else blocks.get(name, ())
    if name in (COMPANY_FEATURE.name, COMPANY_TRAINING_SET.name):
        features = COMPANY_FEATURES
    return [feature_range(feature) for feature in features]


def known_reasons(name: str) -> list[TableRule]:
    """The rule that every code of a score stands in the catalogue of reasons; none for a table without codes.

    No row rule: a table keeps the constraints that it was made with, and the catalogue grows.
    """
    words = {BORROWER_SCORE.name: REASON_WORDS | COMPANY_REASON_WORDS, COMPANY_SCORE.name: COMPANY_REASON_WORDS}.get(name)
    if words is None:
        return []
    codes = ", ".join(f"'{code}'" for code in words)
    unknown = f"count_if(size(array_except(reason_codes, array({codes}))) > 0)"
    meaning = "scores with a reason code that is not in the catalogue"
    return [TableRule(name="unknown_reasons", sql=unknown, high=0, meaning=meaning)]


def account_rules(name: str) -> list[RowRule]:
    """The rules that an item's account stands in the chart and has the chart's sign; none for a table without accounts."""
    if name != STATEMENT_ITEM.name:
        return []
    accounts = chart_of_accounts().accounts
    listed = ", ".join(f"'{account}'" for account in accounts)
    positive = ", ".join(f"'{account}'" for account, found in accounts.items() if found.sign == "positive")
    return [
        RowRule(name="account_in_chart", sql=f"account IN ({listed})", meaning="an account stands in the chart of accounts"),
        RowRule(
            name="sign_of_account", sql=f"account NOT IN ({positive}) OR value >= 0",
            meaning="an account that the chart calls positive is not below zero",
        ),
    ]


@cache
def table_rules(name: str) -> Rules:
    """The rules in ``expectations/<name>.yaml``, the ranges of feature columns, the signs of accounts and the codes of reasons, as ``conf`` has them.

    Raises FileNotFoundError for a table without rules and pydantic.ValidationError for an unknown key.
    """
    written = Rules.model_validate(yaml.safe_load((Path(__file__).parent / f"{name}.yaml").read_text()) or {})
    more = {"rows": [*written.rows, *feature_ranges(name), *account_rules(name)], "table": [*written.table, *known_reasons(name)]}
    return written.model_copy(update=more)


def row_rules(table: Table) -> list[RowRule]:
    """The row rules of a table."""
    return table_rules(table.name).rows
