"""Mappings of sources: the shipped ones load, and a mistake is named with file, line and key."""

from __future__ import annotations

from datetime import date

import pytest

from conf.settings import load_settings
from conf.source import SOURCES, Csv, LandedFile, SourceError, load_source, products_of, require_note

GOOD = """name: shop
title: A shop that lends
currency: EUR
horizon_months: 12
outcome: default_within_horizon
blocks: [demographic]
files:
  people: {path: people.csv, landed_on: '(2024-..-..)'}
tables:
  borrower:
    - from: people
      columns:
        borrower_id: nr
        borrower_type: {constant: person}
        identity_group_id: nr
        gender: {column: sex, codes: {01: male, no: female}}
"""


@pytest.mark.parametrize("name", sorted(path.stem for path in SOURCES.glob("*.yaml")))
def test_shipped_sources_load(name):
    source = load_source(name)
    assert source.name == name
    for kind in source.files:
        assert source.raw_columns(kind), f"nothing reads {kind}"


def test_what_a_good_mapping_says(tmp_path):
    (tmp_path / "shop.yaml").write_text(GOOD)
    source = load_source("shop", tmp_path)
    assert source.raw_columns("people") == {"nr": f"{tmp_path}/shop.yaml:13", "sex": f"{tmp_path}/shop.yaml:16"}
    # A code is its text: no octal number, no truth value.
    assert source.tables["borrower"][0].columns["gender"].codes == {"01": "male", "no": "female"}
    assert source.files["people"].day("in/2024-03-01.csv") == date(2024, 3, 1)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("currency: EUR", "curency: EUR", r"shop\.yaml:1: currency: Field required"),
        ("currency: EUR", "curency: EUR", r"shop\.yaml:3: curency: Extra inputs are not permitted"),
        ("gender:", "gander:", r"shop\.yaml:16: tables\.borrower\.0\.columns\.gander: borrower has no such column"),
        ("        identity_group_id: nr\n", "", r"shop\.yaml:12: .*borrower needs \['identity_group_id'\], which nothing fills"),
        ("from: people", "from: peple", r"shop\.yaml:11: tables\.borrower\.0\.from: no file peple; files are \['people'\]"),
        ("constant: person}", "constant: person, column: x}", r"shop\.yaml:14: .*a raw column or is a constant, not both"),
        ("constant: person}", "unit: dozens, column: x}", r"shop\.yaml:14: .*unit: Input should be 'one', 'percent'"),
        ("blocks: [demographic]\n", "", r"blocks: a source of borrowers offers at least one feature block"),
        ("title: A", "name: A", r"key name stands twice"),
        ("  borrower:\n", "  borower:\n", r"shop\.yaml:10: tables\.borower: no such table; a source can fill \['borrower'"),
        (", landed_on: '(2024-..-..)'", "", r"borrower needs \['known_from'\], which nothing fills"),
        ("landed_on: '(2024-..-..)'", "landed_on: '2024'", r"shop\.yaml:8: .*landed_on needs exactly one group"),
        ("currency: EUR", "currency: EUR\ndefault_days: 60\nindeterminate_days: 60", r"shop\.yaml:5: indeterminate_days: 60 is not below default_days, 60"),
        ("currency: EUR", "currency: EUR\ndefault_days: null\nindeterminate_days: 30", r"indeterminate_days: 30 is not below default_days, None"),
        ("name: shop", "name: shed", r"shop\.yaml:1: name is shed, the file says shop"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_key(tmp_path, old, new, says):
    (tmp_path / "shop.yaml").write_text(GOOD.replace(old, new, 1))
    with pytest.raises(SourceError, match=says):
        load_source("shop", tmp_path)


@pytest.mark.parametrize(
    ("join", "says"),
    [
        ("{file: towns, on: town}", r"shop\.yaml:15: tables\.borrower\.0\.join\.0\.file: no file towns; files are \["),
        ("{file: people, on: nr}", r"shop\.yaml:15: .*people is read already; each file stands once in a mapping"),
        ("{file: daily, on: nr}", r"shop\.yaml:15: .*daily lands day by day; only a file without landed_on can be joined"),
        ("{file: cities, on: {loans.city: nr}}, {file: loans, on: nr}", r"shop\.yaml:15: .*join\.0\.on: loans is not joined yet"),
        ("{file: loans, on: nr, where: [{column: state, is_in: paid}]}", r"shop\.yaml:15: .*join\.0\.where\.0: state is realised"),
        ("{file: loans, on: nr}]\n      where: [{column: loans.state, is_in: paid}", r"shop\.yaml:16: .*where\.0: state is realised"),
    ],
)
def test_a_join_reads_what_is_known(tmp_path, join, says):
    files = """
  daily: {path: daily.csv, landed_on: '(2024-..-..)'}
  cities: {path: cities.csv}
  loans: {path: loans.csv, realised: state}
tables:"""
    text = GOOD.replace("\ntables:", files).replace("      columns:", f"      join: [{join}]\n      columns:")
    (tmp_path / "shop.yaml").write_text(text)
    with pytest.raises(SourceError, match=says):
        load_source("shop", tmp_path)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ("tested_from: 2023-12-30", r"shop\.yaml:\d+: .*must follow each other"),
        ("walk_forward_from: 2024-07-01", r"shop\.yaml:\d+: .*walk_forward_from lies after tested_until"),
        ("also_within_months: [6, 12]", r"shop\.yaml:\d+: evaluation\.also_within_months: outcomes look 12 months ahead; name fewer"),
        ("also_within_months: [0]", r"shop\.yaml:\d+: .*also_within_months\.0: Input should be greater than or equal to 1"),
    ],
)
def test_an_evaluation_that_tests_nothing_is_named(tmp_path, changed, says):
    key, _, value = changed.partition(": ")
    good = {"protocol": "out_of_time", "trained_on": "2023-12-31", "tested_from": "2023-12-31", "tested_until": "2024-06-30"}
    lines = "".join(f"  {name}: {text}\n" for name, text in (good | {key: value}).items())
    (tmp_path / "shop.yaml").write_text(f"{GOOD}evaluation:\n{lines}")
    with pytest.raises(SourceError, match=says):
        load_source("shop", tmp_path)


def test_a_currency_without_a_note_is_named_with_its_line(tmp_path):
    (tmp_path / "shop.yaml").write_text(GOOD.replace("currency: EUR", "currency: GBP"))
    source = load_source("shop", tmp_path)
    require_note(source, {"GBP": 20})
    with pytest.raises(SourceError, match=r"shop\.yaml:\d+: no note in GBP: add .*note_amount: \{GBP: 25\}"):
        require_note(source, {"EUR": 25})


def test_an_unknown_source_lists_the_known_ones(tmp_path):
    (tmp_path / "shop.yaml").write_text(GOOD)
    with pytest.raises(SourceError, match=r"no source shed: .* known sources are \['shop'\]"):
        load_source("shed", tmp_path)


def test_a_path_without_its_day_is_an_error():
    with pytest.raises(ValueError, match=r"no landing day in today"):
        LandedFile(path="x", landed_on="(2024-..-..)").day("today.csv")


def test_a_file_without_header_needs_its_column_names():
    with pytest.raises(ValueError, match="give column_names if, and only if, header is false"):
        Csv(header=False)


def test_each_product_takes_in_its_own_tables_and_files():
    both, settings = load_source("simulated"), load_settings()
    lending, company = both.of_product("lending"), both.of_product("company")
    assert set(company.tables) == {"company", "filing", "statement_item"} and set(company.files) == {"company", "filing"}
    assert not set(company.tables) & set(lending.tables) and set(company.tables) | set(lending.tables) == set(both.tables)
    assert "investor_order" in lending.files and lending.orders and not company.orders
    assert company.line("tables", "filing") == both.line("tables", "filing")
    assert products_of(settings) == ("lending", "company")
    none = settings.model_copy(update={"simulation": settings.simulation.model_copy(update={"companies": 0})})
    assert products_of(none) == ("lending",)
    panel = load_source("american_bankruptcy")
    assert panel.of_product("company") == panel and products_of(load_settings(source="american_bankruptcy")) == ("company",)
    with pytest.raises(SourceError, match=r"american_bankruptcy\.yaml:\d+: no table of the product lending"):
        panel.of_product("lending")
