"""Firm years of the American panel through landing and mapping: hand-made rows in its layout."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from conf.settings import load_settings
from conf.source import load_source
from conf.tables import TABLES
from spark_jobs.lake import Lake
from spark_jobs.landing import bronze_rows, land_files, landed_files
from spark_jobs.manifest import Night
from spark_jobs.mapping import BROKEN, build_checked

AS_OF = date(2012, 4, 30)
ACCOUNTS = {
    "current_assets": 50, "total_assets": 100, "cost_of_goods_sold": 70, "total_long_term_debt": 20, "depreciation_and_amortization": 5,
    "ebit": 15.5, "ebitda": 20.5, "gross_profit": 30, "inventory": 10, "total_current_liabilities": 25, "net_income": -8.25,
    "retained_earnings": -12, "total_receivables": 12, "total_revenue": 100, "market_value": 40, "total_liabilities": 60, "net_sales": 100,
    "total_operating_expenses": 80,
}
ROWS = [
    # Fails: the rows say so from the first year on; nobody knew.
    ("7", 2008, "failed", {}),
    ("7", 2009, "failed", {"total_assets": 90}),
    # Merges away after 2010.
    ("8", 2010, "alive", {}),
    # Each rule of a filing, and more than one at once.
    ("9", 2009, "alive", {"gross_profit": 20}),
    ("9", 2010, "alive", {"current_assets": -1, "total_current_liabilities": 61, "ebit": 30}),
    # The same year twice: the first one counts.
    ("10", 2010, "alive", {}),
    ("10", 2010, "alive", {"total_assets": 101}),
]


@pytest.fixture(scope="module")
def silver(spark, tmp_path_factory):
    """The silver rows that the source makes of the file, by table, with the rules that they break."""
    folder = tmp_path_factory.mktemp("panel")
    lines = [",".join(["firm_id", "fyear", "status_label", *ACCOUNTS])]
    lines += [",".join(map(str, [firm, year, label, *(ACCOUNTS | changed).values()])) for firm, year, label, changed in ROWS]
    (folder / "firm_years.csv").write_text("\n".join(lines) + "\n")
    settings = load_settings(source="american_bankruptcy", home=tmp_path_factory.mktemp("home"), data=folder)
    source, lake = load_source("american_bankruptcy"), Lake(spark, settings)
    night = Night("2012-04-30-test", AS_OF, "1", landed_files(settings, source, AS_OF))
    raw = {"firm_years": bronze_rows(lake, "firm_years", land_files(lake, source, night).pending)}
    tables = {}
    for name in ("company", "filing", "statement_item"):
        tables[name] = build_checked(source, TABLES[name], raw, tables).persist()
    return {name: rows.collect() for name, rows in tables.items()}


def test_a_failure_is_known_a_year_after_the_last_statements_and_no_earlier(silver):
    told = sorted((row.company_id, row.known_from, row.status, row.distressed_on) for row in silver["company"])
    assert told == [
        ("10", date(2011, 4, 30), "active", None), ("10", date(2012, 4, 30), "gone", None),
        ("7", date(2009, 4, 30), "active", None), ("7", date(2010, 12, 31), "distressed", date(2010, 12, 31)),
        ("8", date(2011, 4, 30), "active", None), ("8", date(2012, 4, 30), "gone", None),
        ("9", date(2010, 4, 30), "active", None), ("9", date(2012, 4, 30), "gone", None),
    ]
    assert all(row[BROKEN] == [] for row in silver["company"])


def test_a_row_is_a_filing_and_an_item_for_each_account(silver):
    filing = next(row for row in silver["filing"] if row.filing_id == "7-2008")
    assert (filing.company_id, filing.fiscal_year, filing.period_end, filing.filed_on, filing.known_from, filing.currency) == (
        "7", 2008, date(2008, 12, 31), date(2009, 4, 30), date(2009, 4, 30), "USD",
    )
    items = {row.account: row for row in silver["statement_item"] if row.filing_id == "7-2008"}
    # total_revenue repeats net_sales and is not mapped.
    assert len(items) == len(ACCOUNTS) - 1
    assert (items["ebit"].value, items["ebit"].code) == (Decimal("15500000.00"), "ebit")
    assert (items["cost_of_sales"].value, items["cost_of_sales"].code) == (Decimal("70000000.00"), "cost_of_goods_sold")
    assert items["net_income"].value == Decimal("-8250000.00") and items["net_income"].known_from == date(2009, 4, 30)


def test_a_filing_that_does_not_add_up_is_kept_out_whole_with_all_its_reasons(silver):
    broken = {}
    for row in silver["statement_item"]:
        broken.setdefault((row.filing_id, row.row_number), set()).add(tuple(sorted(row[BROKEN])))
    by_filing = {filing: reasons for (filing, _), reasons in broken.items() if filing.startswith(("7", "8", "9"))}
    assert by_filing == {
        "7-2008": {()}, "7-2009": {()}, "8-2010": {()}, "9-2009": {("gross_profit_adds_up",)},
        "9-2010": {("current_liabilities_within_total", "ebitda_adds_up", "sign_of_account")},
    }


def test_the_same_year_twice_is_one_filing(silver):
    assert sorted(row[BROKEN] for row in silver["filing"] if row.company_id == "10") == [[], ["unique_key"]]
    rows = sorted((row.row_number, row[BROKEN]) for row in silver["statement_item"] if row.filing_id == "10-2010" and row.account == "total_assets")
    assert [reasons for _, reasons in rows] == [[], ["unique_key"]]
