"""Industries of companies: rates and medians by hand, and what was known before the month."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from conf.tables import COMPANY, FILING, MARKET_INDICATOR, STATEMENT_ITEM
from features.company_industry import MIN_COMPANIES, build_industries, with_industry
from features.company_ratios import build_company_features

STATEMENTS = """company_id STRING, filing_id STRING, period_end DATE, known_from DATE, is_consolidated BOOLEAN,
net_income_to_assets DOUBLE, liabilities_to_assets DOUBLE"""


def company(name, industry, known_from=date(2000, 1, 1), distressed_on=None):
    return (name, None, name, industry, "US", "distressed" if distressed_on else "active", distressed_on, "USD", known_from, "f", 1)


def told(name, year, known_from, earned, owed=0.5, filing_id=None):
    return (name, filing_id or f"{name}-{year}", date(year, 12, 31), known_from, True, earned, owed)


@pytest.fixture(scope="module")
def industries(spark):
    """Industries of June and July 2011 by month and name."""
    software = [f"s{number}" for number in range(MIN_COMPANIES)]
    companies = [company(name, "6201" if number % 2 else "6209") for number, name in enumerate(software)]
    companies += [company("shop", "4711"), company("untold", None), company("old", "6201")]
    # Two failures were known before June, two in June, one more than three years before; of a failure that is told twice, the
    # first; one is of a company that told no statements.
    for name, known in (
        ("s0", date(2011, 5, 31)), ("s0", date(2011, 6, 20)), ("s1", date(2008, 6, 1)), ("s2", date(2011, 6, 1)), ("s3", date(2008, 5, 31)),
        ("s4", date(2011, 6, 30)), ("silent", date(2011, 5, 1)),
    ):
        companies.append(company(name, "6201", known, known))
    statements = [told(name, 2010, date(2011, 4, 30), number / 100, number / 10) for number, name in enumerate(software)]
    statements += [told(name, 2009, date(2010, 4, 30), -1.0) for name in software]
    # A restatement takes the place of what was told first; one of June counts in July.
    statements.append(told("s0", 2010, date(2011, 5, 31), -0.5, filing_id="s0-A"))
    statements.append(told("s19", 2010, date(2011, 6, 1), -0.5, filing_id="s19-A"))
    statements += [told("shop", 2010, date(2011, 4, 30), 0.3), told("untold", 2010, date(2011, 4, 30), 0.3), told("old", 2008, date(2009, 11, 30), 9.0)]
    months = spark.createDataFrame([(date(2011, 6, 1),), (date(2011, 7, 1),)], "month DATE")
    found = build_industries(months, spark.createDataFrame(companies, COMPANY.ddl), spark.createDataFrame(statements, STATEMENTS)).collect()
    assert len(found) == len({(row.month, row.industry) for row in found})
    return {(row.month, row.industry): row.asDict() for row in found}


def test_rates_and_medians_are_of_what_was_known_before_the_month(industries):
    june, july = industries[date(2011, 6, 1), "62"], industries[date(2011, 7, 1), "62"]
    # Of the twenty and the one that tells no longer, s0 and s1 failed.
    assert june["industry_distress_rate"] == pytest.approx(2 / (MIN_COMPANIES + 1))
    # s0 tells -0.5 in place of 0: the middle of -0.5, 0.01, … 0.19 is that of 0.09 and 0.10. What was told 18 months ago is too old.
    assert june["industry_net_income_to_assets"] == pytest.approx(0.095)
    assert june["industry_liabilities_to_assets"] == pytest.approx(0.95)
    # s2 and s4 are known, s1 no longer counts; s19 tells -0.5 in place of 0.19.
    assert july["industry_distress_rate"] == pytest.approx(3 / (MIN_COMPANIES + 1))
    assert july["industry_net_income_to_assets"] == pytest.approx(0.085)


def test_an_industry_of_few_companies_tells_nothing(industries):
    assert {month.month for month, industry in industries if industry == "47"} == {6, 7}
    assert {value for (_, industry), row in industries.items() if industry == "47" for name, value in row.items() if name.startswith("industry_")} == {None}
    assert {industry for _, industry in industries} == {"62", "47"}


def test_an_industry_is_the_one_known_on_the_day(spark):
    companies = [company("a", "6201"), company("a", "4711", date(2011, 5, 1)), company("a", None, date(2011, 6, 1)), company("b", None)]
    rows = spark.createDataFrame(
        [(name, day) for name in ("a", "b", "c") for day in (date(2011, 4, 30), date(2011, 5, 1), date(2011, 7, 1))], "company_id STRING, as_of_date DATE"
    )
    found = with_industry(rows, spark.createDataFrame(companies, COMPANY.ddl)).collect()
    assert {(row.company_id, row.as_of_date.month): row.industry for row in found} == {
        ("a", 4): "62", ("a", 5): "47", ("a", 7): "47", **{(name, month): None for name in ("b", "c") for month in (4, 5, 7)},
    }


def test_a_company_stands_where_it_stood_when_it_told_its_statements(spark):
    """Peers that tell theirs later move nothing of it; who failed since does."""
    names = ["early", *(f"p{number}" for number in range(MIN_COMPANIES))]
    filings, items = [], []
    for name in names:
        for year, earned in ((2008, 4), (2009, 4), (2010, -5)):
            known, filing_id = date(year + 1, 3, 31) if name == "early" else date(year + 1, 4, 30), f"{name}-{year}"
            filings.append((filing_id, name, date(year, 12, 31), 12, year, known, "annual_report", None, True, "USD", known, "f", 1))
            accounts = {"total_assets": 100, "total_liabilities": 60, "net_income": earned}
            items += [(filing_id, account, Decimal(value), account, known, "f", 1) for account, value in accounts.items()]
    companies = [company(name, "6201") for name in names] + [company("p0", "6201", date(2011, 6, 15), date(2011, 6, 10))]
    days = (date(2011, 3, 31), date(2011, 8, 31))
    silver = {
        "company": spark.createDataFrame(companies, COMPANY.ddl), "filing": spark.createDataFrame(filings, FILING.ddl),
        "statement_item": spark.createDataFrame(items, STATEMENT_ITEM.ddl), "market_indicator": spark.createDataFrame([], MARKET_INDICATOR.ddl),
    }
    spine = spark.createDataFrame([("early", day) for day in days], "company_id STRING, as_of_date DATE")
    found = {row.as_of_date: row for row in build_company_features(spine, silver, "USD").collect()}
    for day in days:
        # -5% against the 4% that its peers had told by February.
        assert found[day].net_income_to_assets_over_industry == pytest.approx(-0.09) and found[day].industry_net_income_to_assets == 0.04
        assert found[day].liabilities_to_assets_over_industry == 0
    assert [found[day].industry_distress_rate for day in days] == [0, pytest.approx(1 / len(names))]
