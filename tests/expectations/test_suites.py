"""Every table has rules that Spark understands, and a suite with an expectation for each of them."""

from __future__ import annotations

from functools import reduce

import pytest
from pyspark.sql import DataFrame

from conf.tables import GATE_RESULT, GOLD, LANDED_FILE, LOAN, QUARANTINE, SILVER, TABLES
from expectations.measures import build_measured, measures
from expectations.rules import table_rules

# Other tables are gated beside columns of their own; the tests of their jobs see to them.
GATED = (LANDED_FILE, *SILVER, QUARANTINE, GATE_RESULT)


@pytest.mark.parametrize("table", (*GATED, *GOLD), ids=lambda table: table.name)
def test_every_table_has_rules_with_names_of_their_own(table):
    rules = table_rules(table.name)
    names = [rule.name for rule in (*rules.rows, *rules.table)]
    assert len(names) == len(set(names))
    for rule in rules.rows:
        # It stands in double quotes where a table is made with its constraints.
        assert '"' not in rule.sql, rule.name


def test_every_rule_is_sql_over_its_tables_columns(spark):
    empty = [
        build_measured(table, spark.createDataFrame([], table.ddl.replace(" NOT NULL", ""))) for table in GATED
    ]
    measured = {row.table_name: row.measured for row in reduce(DataFrame.unionByName, empty).collect()}
    assert set(measured) == {table.name for table in GATED}
    for table in GATED:
        assert set(measured[table.name]) == set(measures(TABLES[table.name]))
        assert measured[table.name]["row_count"] == 0


def test_a_suite_has_one_expectation_per_bounded_measure():
    from expectations.suites import suite

    expectations = {one.column: one for one in suite(LOAN).expectations}
    assert set(expectations) == set(measures(LOAN)) - {"row_count"}
    assert (expectations["amount_positive"].min_value, expectations["amount_positive"].max_value) == (None, 0)
    assert expectations["has_loans"].min_value == 1
    assert suite(LOAN).name == "ingest.loan"
