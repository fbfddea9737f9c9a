"""Scores of companies: a restatement counts from the day on which it is told, and an earlier day's replay stays what it was."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import lightgbm
import numpy as np
import pytest

from conf.tables import COMPANY, FILING, MARKET_INDICATOR, STATEMENT_ITEM
from features.company_ratios import build_company_features
from models.calibration import Calibrator
from models.company_model import PROBABILITIES, CompanyModel
from models.credit_model import Origin
from spark_jobs.score_company import build_active

LAST_MONTH, TODAY = date(2011, 8, 31), date(2011, 9, 30)
RESTATED_ON = date(2011, 9, 15)
ACCOUNTS = {"total_assets": 100, "current_assets": 40, "current_liabilities": 20, "total_liabilities": 50, "equity": 50, "net_income": 5, "revenue": 120}


@pytest.fixture(scope="module")
def model():
    """Of 400 filings those fail whose liabilities are more than 0.7 of their assets."""
    debt = np.linspace(0, 1.4, 400)
    data = lightgbm.Dataset(np.column_stack([debt, np.ones(400)]), (debt > 0.7).astype(float))
    booster = lightgbm.train({"objective": "binary", "num_leaves": 8, "verbosity": -1, "num_threads": 1, "seed": 1}, data, 5)
    origin, calibrator = Origin("simulated", "2011-06-30", 12, "code"), Calibrator(1.0, 1.0, 0.0, "calibration_cohort")
    return CompanyModel(origin, ("liabilities_to_assets",), booster.model_to_string(), calibrator, {"A": 0.5, "B": 1.0}, {})


def filing(company, year, known_from, filing_id=None, restates=None):
    name, form = filing_id or f"{company}-{year}", "amendment" if restates else "annual_report"
    return (name, company, date(year, 12, 31), 12, year, known_from, form, restates, True, "USD", known_from, "f", 1)


def items(filing_id, known_from, accounts=ACCOUNTS):
    return [(filing_id, account, Decimal(value), account, known_from, "f", 1) for account, value in accounts.items()]


# Two companies that tell the same; the amounts of a third were broken and came again a day after the filing.
TOLD = [(name, year, date(year + 1, 4, 30)) for name in ("restates", "stands", "late") for year in (2008, 2009)]
TOLD += [("restates", 2010, date(2011, 4, 30)), ("stands", 2010, date(2011, 4, 30)), ("late", 2010, LAST_MONTH)]
FILINGS = [filing(*one) for one in TOLD]
ITEMS = [item for name, year, day in TOLD for item in items(f"{name}-{year}", date(2011, 9, 1) if day == LAST_MONTH else day)]
# Half of the assets were never there.
WRONG = ACCOUNTS | {"total_assets": 55, "current_assets": 20, "equity": 5, "net_income": -40}


@pytest.fixture(scope="module")
def scored(spark, model):
    """Features and scores of both days by day and company, from these filings and items."""

    def score(filings, told_items):
        known = [(name, None, name, None, "US", "active", None, "USD", date(2009, 1, 1), "f", 1) for name in ("restates", "stands", "late")]
        company = spark.createDataFrame(known, COMPANY.ddl)
        silver = {
            "company": company, "filing": spark.createDataFrame(filings, FILING.ddl),
            "statement_item": spark.createDataFrame(told_items, STATEMENT_ITEM.ddl), "market_indicator": spark.createDataFrame([], MARKET_INDICATOR.ddl),
        }
        spine = build_active(company, LAST_MONTH).union(build_active(company, TODAY))
        rows = build_company_features(spine, silver, "USD")
        return {(row.as_of_date, row.company_id): row.asDict() for row in model.score(rows).collect()}

    return score


def test_a_restatement_changes_todays_score_and_leaves_the_replay_of_last_month_alone(scored):
    before = scored(FILINGS, ITEMS)
    amendment = filing("restates", 2010, RESTATED_ON, "restates-2010-A", restates="restates-2010")
    after = scored([*FILINGS, amendment], ITEMS + items("restates-2010-A", RESTATED_ON, WRONG))
    # Amounts count from the day on which they are known, whenever their filing was.
    assert set(before) == set(after) == {(LAST_MONTH, "restates"), (LAST_MONTH, "stands"), *((TODAY, name) for name in ("restates", "stands", "late"))}
    assert {key for key in before if before[key] != after[key]} == {(TODAY, "restates")}

    old, new = (found[TODAY, "restates"] for found in (before, after))
    assert (old["filing_id"], new["filing_id"]) == ("restates-2010", "restates-2010-A")
    assert (old["liabilities_to_assets"], new["liabilities_to_assets"]) == (0.5, 50 / 55)
    assert (old["altman_z"], old["net_income_to_assets"]) != (new["altman_z"], new["net_income_to_assets"])
    assert old[PROBABILITIES[0]] < 0.5 < new[PROBABILITIES[0]] and (old["grade"], new["grade"]) == ("A", "B")
