"""Features of companies: one company by hand, and what was knowable on the day."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from math import log, sqrt

import pytest

from conf.company_features import COMPANY_FEATURES, COMPANY_REASON_OF
from conf.tables import COMPANY, FILING, MARKET_INDICATOR, STATEMENT_ITEM
from features.company_industry import MEDIANS
from features.company_ratios import build_company_features, build_unscored, company_ratios

# In the order of years: two losses, then liabilities above assets. 2009 tells equity in place of liabilities, 2010 the parts of
# what makes EBIT EBITDA.
YEARS = {
    2008: {"total_assets": 100, "current_assets": 40, "current_liabilities": 20, "total_liabilities": 50, "retained_earnings": 10, "ebit": 8,
           "net_income": 5, "revenue": 120, "market_value": 50},
    2009: {"total_assets": 100, "current_assets": 40, "current_liabilities": 25, "equity": 35, "mezzanine_equity": 5, "retained_earnings": 5, "ebit": 4,
           "net_income": -5, "revenue": 110, "market_value": 40},
    2010: {"total_assets": 80, "current_assets": 30, "current_liabilities": 40, "total_liabilities": 100, "retained_earnings": -10, "ebit": -8,
           "net_income": -15, "revenue": 0, "market_value": 25, "depreciation": 3, "amortization": 1, "inventory": 10},
}


def filing(company, year, known_from, filing_id=None, months=12):
    name = filing_id or f"{company}-{year}"
    return (name, company, date(year, 12, 31), months, year, known_from, "annual_report", None, True, "USD", known_from, "f", 1)


def items(name, accounts, known_from):
    return [(name, account, Decimal(value), account, known_from, "f", 1) for account, value in accounts.items()]


@pytest.fixture(scope="module")
def told(spark):
    """Features, and why there are none, by company and as-of date."""
    filings, told_items = [], []
    for year, accounts in YEARS.items():
        for company in ("a", "young"):
            if company == "young" and year == 2008:
                continue
            known = date(year + 1, 4, 30)
            filings.append(filing(company, year, known))
            told_items += items(f"{company}-{year}", accounts, known)
    # A half year's report is no year; the restatement of 2010 becomes known in September.
    filings.append(filing("a", 2010, date(2010, 8, 1), "a-half", months=6))
    told_items += items("a-half", {"total_assets": 1}, date(2010, 8, 1))
    filings.append(filing("silent", 2010, date(2010, 8, 1), "silent-half", months=6))
    told_items += items("silent-half", {"total_assets": 1}, date(2010, 8, 1))
    filings.append(filing("a", 2010, date(2011, 9, 1), "a-2010-restated"))
    told_items += items("a-2010-restated", YEARS[2010] | {"total_liabilities": 110}, date(2011, 9, 1))
    indicators = [
        ("BAAFFM", date(2011, 1, 1), 3.0, date(2011, 2, 28), "f", 1), ("BAAFFM", date(2011, 3, 1), 4.0, date(2011, 4, 30), "f", 1),
        ("BAAFFM", date(2011, 4, 1), 9.0, date(2011, 5, 31), "f", 1), ("BAAFFM", date(2011, 1, 1), 5.0, date(2011, 6, 30), "f", 1),
        ("UNRATE", date(2010, 2, 1), 9.0, date(2010, 3, 31), "f", 1), ("UNRATE", date(2011, 2, 1), 9.5, date(2011, 3, 31), "f", 1),
        ("UNRATE", date(2010, 2, 1), 10.0, date(2011, 4, 30), "f", 1), ("UNRATE", date(2011, 7, 1), 9.25, date(2011, 9, 1), "f", 1),
    ]
    days = [date(2011, 4, 29), date(2011, 4, 30), date(2011, 8, 31), date(2011, 9, 1), date(2013, 1, 31)]
    spine = spark.createDataFrame([(company, day) for company in ("a", "young", "silent") for day in days], "company_id STRING, as_of_date DATE")
    filing_rows, item_rows = spark.createDataFrame(filings, FILING.ddl), spark.createDataFrame(told_items, STATEMENT_ITEM.ddl)
    rows = build_company_features(spine, {
        "company": spark.createDataFrame([], COMPANY.ddl), "filing": filing_rows, "statement_item": item_rows,
        "market_indicator": spark.createDataFrame(indicators, MARKET_INDICATOR.ddl),
    }, "USD")
    unscored = build_unscored(spine, rows, filing_rows, item_rows)
    found = {(row.company_id, row.as_of_date): row.asDict() for row in rows.collect()}
    return found, {(row.company_id, row.as_of_date): row.reason for row in unscored.collect()}


def test_every_feature_is_declared_has_a_formula_and_a_reason(spark):
    names = {feature.name for feature in COMPANY_FEATURES}
    assert len(names) == len(COMPANY_FEATURES)
    of_others = {feature.name for feature in COMPANY_FEATURES if feature.family in ("industry", "economy")}
    assert set(company_ratios()) == names - of_others - {f"{name}_over_industry" for name in MEDIANS}
    assert set(COMPANY_REASON_OF) == names


def test_one_company_by_hand(told):
    row = told[0]["a", date(2011, 4, 30)]
    assert (row["filing_id"], row["period_end"]) == ("a-2010", date(2010, 12, 31))
    expected = {
        "current_ratio": 30 / 40, "quick_ratio": 20 / 40, "working_capital_to_assets": -10 / 80, "liabilities_to_assets": 100 / 80,
        "negative_equity": 1, "market_leverage": 100 / 125, "log_market_value": log(25), "net_income_to_assets": -15 / 80,
        "two_years_of_losses": 1, "net_income_change": (-15 + 5) / 20, "asset_turnover": 0, "assets_growth": log(80 / 100),
        "market_value_growth": log(25 / 40), "liabilities_to_assets_change_1y": 1.25 - 0.6, "liabilities_to_assets_change_2y": 1.25 - 0.5,
        "asset_turnover_change_2y": 0 - 1.2, "ebitda_to_liabilities": -4 / 100, "depreciation_to_assets": 4 / 80,
        "liabilities_to_assets_volatility": sqrt(((1.25 - 2.35 / 3) ** 2 + (0.6 - 2.35 / 3) ** 2 + (0.5 - 2.35 / 3) ** 2) / 3),
        # 6.56 x -10/80 + 3.26 x -10/80 + 6.72 x -8/80 + 1.05 x -20/100
        "altman_z": -0.82 - 0.4075 - 0.672 - 0.21,
        "ohlson_o": -1.32 - 0.407 * log(0.8) + 6.03 * 1.25 + 1.43 * 0.125 + 0.0757 * 40 / 30 - 1.72 + 2.37 * 15 / 80 + 1.83 * 0.04 + 0.285 + 0.521 * 0.5,
        # What was known last of the newest month known, revisions of older months aside.
        "credit_spread": 4.0, "unemployment_change": -0.5,
        # By rule: no revenue, no equity and an account that is not told have no ratio.
        "operating_margin": None, "revenue_growth": None, "market_to_book": None, "cash_ratio": None, "policy_rate": None,
        # Nobody told of an industry.
        "industry_distress_rate": None, "net_income_to_assets_over_industry": None,
    }
    assert {name: row[name] for name in expected} == {name: value if value is None else pytest.approx(value) for name, value in expected.items()}


def test_only_what_was_known_on_the_day_counts(told):
    # The statements of 2010 are told on 30 April; the day before, two years are too few.
    features, _ = told
    assert ("a", date(2011, 4, 29)) not in features
    before, after = features["a", date(2011, 8, 31)], features["a", date(2011, 9, 1)]
    assert (before["filing_id"], before["liabilities_to_assets"]) == ("a-2010", 100 / 80)
    assert (after["filing_id"], after["liabilities_to_assets"]) == ("a-2010-restated", 110 / 80)
    # The newest month's rate is known, that of a year before is not.
    assert (before["unemployment_change"], after["unemployment_change"]) == (-0.5, None)


def test_too_few_or_too_old_statements_give_no_row_but_a_reason(told):
    features, unscored = told
    assert not [key for key in features if key[0] in ("young", "silent")]
    assert ("a", date(2013, 1, 31)) not in features
    days = (date(2011, 4, 29), date(2011, 4, 30), date(2011, 8, 31), date(2011, 9, 1))
    # Half a year's report is no year's statement.
    assert unscored == {
        ("a", days[0]): "too_few_statements", **{("young", day): "too_few_statements" for day in days},
        **{(company, date(2013, 1, 31)): "stale_statements" for company in ("a", "young")},
        **{("silent", day): "no_statements" for day in (*days, date(2013, 1, 31))},
    }
