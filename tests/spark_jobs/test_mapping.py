"""Mapping on hand-made raw rows: what becomes a value, what becomes a broken rule, and that none hides another."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

import pytest
from pyspark.sql import functions as F

from conf.source import load_source
from conf.tables import BORROWER, CREDIT_INQUIRY, LOAN, QUARANTINE
from spark_jobs.landing import LandingError, checked_columns
from spark_jobs.mapping import (
    BROKEN,
    MappingError,
    build_broken,
    build_checked,
    build_quarantine,
    parsed,
    with_known_keys,
)
from spark_jobs.mapping_functions import at_least_zero

SHOP = r"""
name: shop
title: A shop that lends
currency: EUR
horizon_months: 12
outcome: default_within_horizon
blocks: [demographic]
files:
  people:
    path: 'people/*/*.csv'
    landed_on: 'people/(\d{4}-\d{2}-\d{2})/'
    csv: {null_values: ['-']}
  asks: {path: 'asks.csv', required: false}
tables:
  borrower:
    - from: people
      where: [{column: kind, is_not_in: test}]
      columns:
        borrower_id: nr
        borrower_type: {constant: person}
        identity_group_id: nr
        birth_date: {column: born, format: [dd.MM.yyyy, MMM-yyyy]}
        gender: {column: sex, codes: {1: male, 2: female, 9: null}}
        dependents: {column: children, default: 0}
        main_income: {column: salary, unit: thousands}
        income_verified: {column: proof, codes: {yes: true, no: false}}
        employment_started_on: {column: years, parse: integer, unit: years, function: months_before, arguments: {day: {of: known_from}}}
  credit_inquiry:
    - from: asks
      columns:
        borrower_id: nr
        inquired_on: day
        purpose: {column: why, default: other}
        known_from: day
"""
RAW = "_source_file STRING, _row_number BIGINT, _malformed STRING, {}"
PEOPLE = RAW.format("nr STRING, kind STRING, born STRING, sex STRING, children STRING, salary STRING, proof STRING, years STRING")
FILE = "people/2024-03-01/a.csv"


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "shop.yaml").write_text(SHOP)
    return load_source("shop", tmp_path)


def test_values_in_their_canonical_units(spark):
    cases = [
        # text, parse, formats, unit, type, value worked out by hand
        ("13.35", "double", (), "percent", "double", 0.1335),
        ("13.35%", "double", (), "percent", "double", 0.1335),
        ("250", "double", (), "bps", "double", 0.025),
        ("12345", "decimal", (), "cents", "decimal(18,2)", Decimal("123.45")),
        ("1.005", "decimal", (), "one", "decimal(18,2)", Decimal("1.01")),  # half up
        ("60", "decimal", (), "thousands", "decimal(18,2)", Decimal("60000.00")),
        ("5", "decimal", (), "ten_thousands", "decimal(18,2)", Decimal("50000.00")),
        ("3", "integer", (), "years", "int", 36),
        ("3.0", "integer", (), "one", "int", 3),
        ("3.5", "integer", (), "one", "int", None),
        ("99999999999", "integer", (), "one", "int", None),  # does not fit
        ("abc", "decimal", (), "one", "decimal(18,2)", None),
        ("NaN", "double", (), "one", "double", None),
        ("Infinity", "double", (), "one", "double", None),
        ("2024-02-29", "date", (), "one", "date", date(2024, 2, 29)),
        ("2023-02-29", "date", (), "one", "date", None),  # no such day
        ("Feb-1994", "date", ("dd.MM.yyyy", "MMM-yyyy"), "one", "date", date(1994, 2, 1)),
        ("2024-03-01 10:00", "timestamp", ("yyyy-MM-dd HH:mm",), "one", "timestamp", datetime(2024, 3, 1, 10)),
        ("true", "boolean", (), "one", "boolean", True),
        ("perhaps", "boolean", (), "one", "boolean", None),
    ]
    row = spark.range(1).select(*(
        parsed(F.lit(text), parse, formats, unit, to_type).alias(f"c{number}")
        for number, (text, parse, formats, unit, to_type, _) in enumerate(cases)
    )).first()
    assert [(case[0], case[3], value) for case, value in zip(cases, row, strict=True)] == [
        (case[0], case[3], case[-1]) for case in cases
    ]


def test_every_rule_that_a_row_breaks_is_recorded(spark, shop):
    people = spark.createDataFrame(
        [
            (FILE, 1, None, " 7 ", "", "01.02.1980", "1", "", "60", "yes", "2"),  # good; trimmed, default, units
            (FILE, 2, None, "7", "", "01.02.1980", "2", "1", "50", "no", "-"),  # the key of row 1 again
            (FILE, 3, None, "8", "", "31.02.1980", "5", "two", "-1", "no", ""),  # four rules at once
            (FILE, 4, None, "", "", "Feb-1980", "9", "", "", "", ""),  # no id; a code that stands for null
            (FILE, 5, "9,too,few", None, None, None, None, None, None, None, None),
            (FILE, 6, None, "10", "test", "x", "x", "x", "x", "x", "x"),  # filtered: not a row of this table
            (FILE, 7, None, "11", "", "", "2", "99", "10", "maybe", ""),  # a row rule and a code
            (FILE, 8, None, "11", "", "", "2", "1", "10", "no", ""),  # same key as the broken row 7: this one is good
            (FILE, 9, None, "12\0", "", "", "2", "1", "10", "no", ""),  # padded by a mainframe
            (FILE, 10, None, "1" * 201, "", "", "2", "1", "10", "no", ""),  # no index takes such a key
            (FILE, 11, None, "13", "", "", "2", "1", "10", "no", "200"),  # employed since long before anybody was born
        ],
        PEOPLE,
    )
    checked = build_checked(shop, BORROWER, {"people": people}, {})
    assert checked.columns == [*BORROWER.columns, BROKEN]
    broken = {row.row_number: sorted(row[BROKEN]) for row in checked.collect()}
    assert broken == {
        1: [],
        2: ["unique_key"],
        3: ["code:gender", "income_not_negative", "parse:birth_date", "parse:dependents"],
        4: ["required:borrower_id", "required:identity_group_id"],
        5: ["malformed_row"],
        7: ["code:income_verified", "dependents_plausible", "unique_key"],
        8: [],
        9: ["text:borrower_id", "text:identity_group_id"],
        10: ["text:borrower_id", "text:identity_group_id"],
        11: ["employment_begun"],
    }
    good = checked.where("row_number = 1").first()
    assert (good.borrower_id, good.gender, good.dependents, good.main_income) == ("7", "male", 0, Decimal("60000.00"))
    assert (good.birth_date, good.income_verified, good.currency) == (date(1980, 2, 1), True, "EUR")
    # Known from the day its file landed; the employment began two years before.
    assert (good.known_from, good.employment_started_on) == (date(2024, 3, 1), date(2022, 3, 1))

    quarantine = build_quarantine(build_broken(checked, BORROWER), {"people": people.withColumn("_batch_id", F.lit("b-1"))}, BORROWER)
    assert quarantine.columns == list(QUARANTINE.columns)
    rows = {row.row_number: row for row in quarantine.collect()}
    assert rows[3].row_key == "8|2024-03-01"
    assert rows[3].raw == (
        '{"nr":"8","kind":"","born":"31.02.1980","sex":"5","children":"two","salary":"-1","proof":"no","years":""}'
    )
    assert (rows[5].raw, rows[5].broken_rules, rows[5].batch_id) == ("9,too,few", ["malformed_row"], "b-1")


def test_every_rule_is_recorded_of_a_row_that_a_function_never_sees(spark):
    source = load_source("lendingclub")
    columns = list(source.raw_columns("accepted"))
    row = dict.fromkeys(columns) | {
        "id": "1", "loan_amnt": "-5", "int_rate": "abc", "term": "36 months", "issue_d": "Dec-2010", "loan_status": "Fully Paid",
    }
    raw = spark.createDataFrame([("accepted.csv", 1, None, *row.values())], RAW.format(", ".join(f"`{name}` STRING" for name in columns)))
    borrowers = spark.createDataFrame([("1",)], "borrower_id STRING")
    (checked,) = build_checked(source, LOAN, {"accepted": raw}, {"borrower": borrowers}).collect()
    assert sorted(checked[BROKEN]) == ["amount_positive", "parse:interest_rate", "required:funded_on_issue"]


def test_a_child_without_its_parent_is_an_orphan(spark, shop):
    asks = spark.createDataFrame(
        [("asks.csv", 1, None, "7", "2024-03-01", ""), ("asks.csv", 2, None, "8", "2024-03-01", "car"), ("asks.csv", 3, None, "", "x", "")],
        RAW.format("nr STRING, day STRING, why STRING"),
    )
    borrowers = spark.createDataFrame([("7",), ("7",)], "borrower_id STRING")  # two rows over time are one borrower
    checked = build_checked(shop, CREDIT_INQUIRY, {"asks": asks}, {"borrower": borrowers})
    assert {row.row_number: sorted(row[BROKEN]) for row in checked.collect()} == {
        1: [],
        2: ["orphan:borrower"],
        3: ["parse:inquired_on", "parse:known_from", "required:borrower_id"],
    }


def test_rows_are_held_against_what_silver_has(spark):
    schema = CREDIT_INQUIRY.ddl.replace(" NOT NULL", "")
    day = date(2024, 3, 1)
    silver = spark.createDataFrame([("7", day, "car", day, "a.csv", 1), ("8", day, "car", day, "a.csv", 2)], schema)
    rows = spark.createDataFrame(
        [
            ("7", day, "car", day, "a.csv", 1),  # the very same row: mapped before, by a night that was killed
            ("8", day, "car", day, "b.csv", 1),  # its key came in another file before
            ("9", day, "car", day, "b.csv", 2),  # new
        ],
        schema,
    ).withColumn(BROKEN, F.array().cast("array<string>"))
    held = {row.borrower_id: (row.already_there, row[BROKEN]) for row in with_known_keys(rows, CREDIT_INQUIRY, silver).collect()}
    assert held == {"7": (True, []), "8": (False, ["unique_key"]), "9": (False, [])}


def test_a_row_of_a_file_delivered_again_is_already_there_wherever_it_stands(spark):
    schema = CREDIT_INQUIRY.ddl.replace(" NOT NULL", "")
    day = date(2024, 3, 1)
    silver = spark.createDataFrame([("7", day, "car", day, "a.csv", 1)], schema)
    rows = spark.createDataFrame(
        [
            ("7", day, "car", day, "a.csv", 2, []),  # a row was put in before it
            ("7", day, "car", day, "a.csv", 3, ["unique_key"]),  # its double within the file stays a double
        ],
        f"{schema}, {BROKEN} ARRAY<STRING>",
    )
    held = {row.row_number: (row.already_there, row[BROKEN]) for row in with_known_keys(rows, CREDIT_INQUIRY, silver).collect()}
    assert held == {2: (True, []), 3: (False, ["unique_key"])}


def test_nobody_tells_what_will_be_known_later(spark, tmp_path):
    (tmp_path / "shop.yaml").write_text(
        SHOP.replace("{path: 'asks.csv', required: false}", r"{path: 'asks-*.csv', landed_on: 'asks-(.*)\.csv'}")
    )
    asks = spark.createDataFrame(
        [("asks-2024-03-02.csv", 1, None, "7", "2024-03-02", ""), ("asks-2024-03-02.csv", 2, None, "7", "2911-03-01", "")],
        RAW.format("nr STRING, day STRING, why STRING"),
    )
    borrowers = spark.createDataFrame([("7",)], "borrower_id STRING")
    checked = build_checked(load_source("shop", tmp_path), CREDIT_INQUIRY, {"asks": asks}, {"borrower": borrowers})
    assert {row.row_number: row[BROKEN] for row in checked.collect()} == {1: [], 2: ["known_after_landing"]}


JOINED = SHOP.partition("files:")[0] + """files:
  asks: {path: 'asks.csv'}
  cards: {path: 'cards.csv', csv: {null_values: ['-']}}
  people: {path: 'people.csv'}
tables:
  credit_inquiry:
    - from: asks
      where: [{column: cards.kind, is_not_in: test}]
      join:
        - {file: cards, on: card}
        - {file: people, on: {cards.owner: nr}, where: [{column: role, is_in: owner}]}
      columns:
        borrower_id: people.nr
        inquired_on: day
        purpose: {column: cards.kind, default: other}
        known_from: day
"""


def test_a_row_has_the_columns_of_the_rows_that_it_belongs_to(spark, tmp_path):
    (tmp_path / "shop.yaml").write_text(JOINED)
    source = load_source("shop", tmp_path)

    def bronze(columns, rows, ingested_at="_row_number"):
        names = ", ".join(f"{column} STRING" for column in columns)
        numbered = [("x.csv", number, None, *row) for number, row in enumerate(rows, 1)]
        return spark.createDataFrame(numbered, RAW.format(names)).withColumn("_ingested_at", F.expr(ingested_at))

    asks = bronze(["card", "day"], [(card, "2024-03-01") for card in (" c1 ", "c2", "c3", "c4", "c5", "", "c6")])
    cards = bronze(["card", "owner", "kind"], [
        ("c1", "7", "gold"), ("c2", "8", "-"), ("c3", "9", ""), ("c4", "7", "test"), ("c6", "10", "gold"), ("", "7", "gold"),
        ("c1", " 7", "silver"),  # delivered later than the first c1: it counts
    ])
    # All delivered at once: 8 stands twice, but once as an owner; 9 twice as one.
    people = bronze(["nr", "role"], [("7", "owner"), ("8", "owner"), ("8", "guest"), ("9", "owner"), ("9", "owner"), ("10", "guest")], "0")
    borrowers = spark.createDataFrame([("7",), ("8",), ("9",)], "borrower_id STRING")
    # Only the rows of asks are new; cards and people landed some night before.
    checked = build_checked(
        source, CREDIT_INQUIRY, {"asks": asks}, {"borrower": borrowers}, {"asks": asks, "cards": cards, "people": people}
    ).collect()
    assert {row.row_number: (row.borrower_id, row.purpose, row[BROKEN]) for row in checked} == {
        1: ("7", "silver", []),
        2: ("8", "other", []),
        3: ("9", "other", ["ambiguous:people"]),
        # No such card, a row without one, and a card of nobody who is an owner; the fourth is filtered.
        **dict.fromkeys((5, 6), (None, "other", ["required:borrower_id"])),
        7: (None, "gold", ["required:borrower_id"]),
    }
    missing = build_checked(source, CREDIT_INQUIRY, {"asks": asks}, {"borrower": borrowers}, {"asks": asks})
    assert {row[BROKEN][0] for row in missing.collect()} == {"required:borrower_id"}, "what never landed has no rows"


def test_a_missing_key_column_is_named_with_the_join_that_asks_for_it(tmp_path):
    (tmp_path / "shop.yaml").write_text(JOINED)
    (tmp_path / "people.csv").write_text("number,role\n7,owner\n")
    with pytest.raises(LandingError, match=r"people\.csv: missing column nr \(asked for by .*shop\.yaml:18\); the file has \['number', 'role'\]"):
        checked_columns(load_source("shop", tmp_path), "people", [tmp_path / "people.csv"])


def test_an_unknown_function_is_named_with_its_line(spark, tmp_path):
    (tmp_path / "shop.yaml").write_text(SHOP.replace("months_before", "months_befor"))
    people = spark.createDataFrame([], PEOPLE)
    with pytest.raises(MappingError, match=r"shop\.yaml:27: no column function months_befor; there are \["):
        build_checked(load_source("shop", tmp_path), BORROWER, {"people": people}, {})


def test_an_unknown_amount_owed_stays_unknown(spark):
    amounts = spark.createDataFrame([(-5.0,), (0.0,), (7.0,), (None,)], "amount DOUBLE")
    assert [row.owed for row in amounts.select(at_least_zero(F.col("amount")).alias("owed")).collect()] == [0, 0, 7, None]
