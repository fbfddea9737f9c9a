"""What comes back after a default: counts from hand-made loans, shares worked out by hand, and the settings where nothing is told."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from models.hazard import build_outcomes
from models.recovery import build_recoveries, fit_recoveries, lump
from models.valuation import outstanding_balance

AS_OF = date(2020, 12, 31)
LOAN = """loan_id string, term_months int, originated_on date, status string, closed_on date, funded_amount decimal(18,2),
interest_rate double, known_from date"""
REPAYMENT = "loan_id string, installment_no int, due_on date, paid_on date, paid_amount decimal(18,2), days_past_due int, known_from date"
STATED = {"recovery_rate": 0.1, "recovery_lag_months": 2}


def paid(loan: str, number: int, due: date, on: date | None, amount: int, days: int, known: date):
    return (loan, number, due, on, Decimal(amount), days, known)


def test_recoveries_count_by_complete_months_since_default(spark):
    opened = date(2020, 1, 31)
    loans = [
        (name, 12, opened, "current", None, Decimal(1200), rate, opened) for name, rate in (("back", 0.12), ("gone", 0.0), ("good", 0.1))
    ]
    repayments = [
        # Two instalments paid; the third, due 30 April, is 90 days late on 29 July: a default in month 6.
        paid("back", 1, date(2020, 2, 29), date(2020, 2, 29), 100, 0, date(2020, 2, 29)),
        paid("back", 2, date(2020, 3, 31), date(2020, 3, 31), 100, 0, date(2020, 3, 31)),
        paid("back", 3, date(2020, 4, 30), None, 0, 90, date(2020, 7, 29)),
        # 60 come back two months later; what comes in January 2021 nobody knows yet.
        paid("back", 3, date(2020, 4, 30), date(2020, 9, 15), 60, 138, date(2020, 9, 15)),
        paid("back", 4, date(2020, 5, 31), date(2021, 1, 10), 500, 224, date(2021, 1, 10)),
        # Never pays: the first instalment is 90 days late on 29 May, in month 4. Nothing comes back.
        paid("gone", 1, date(2020, 2, 29), None, 0, 90, date(2020, 5, 29)),
        paid("good", 1, date(2020, 2, 29), date(2020, 2, 29), 105, 0, date(2020, 2, 29)),
    ]
    silver = spark.createDataFrame(loans, LOAN), spark.createDataFrame(repayments, REPAYMENT)
    counts = build_recoveries(build_outcomes(*silver, AS_OF, 90), *silver, AS_OF).toPandas().sort_values("months_since_default", ignore_index=True)
    assert counts["loans"].tolist() == [2, 2, 2, 2, 2, 2, 1, 1]  # months 6 and 4 of 11
    owed = 1200 * outstanding_balance([0.12], [12], 2)[0, 2]
    assert counts["owed"].tolist() == pytest.approx([1200 + owed] * 6 + [1200] * 2)
    assert counts["recovered"].tolist() == [0, 0, 60, 0, 0, 0, 0, 0]


def counts_of(owed: list[float], recovered: list[float], loans: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"months_since_default": range(len(owed)), "loans": loans, "owed": owed, "recovered": recovered})


def test_shares_are_of_loans_that_completed_the_month():
    # Of 1,000 owed 50 came in month 0; of the 400 that were watched longer 40 came in month 1: 5% and 10%.
    counts = counts_of([1000, 400], [50, 40], [10, 4])
    np.testing.assert_allclose(fit_recoveries(counts, **STATED, prior_loans=1e-9), [0.05, 0.1, 0.1], rtol=1e-6)


def test_few_defaults_are_drawn_to_the_settings():
    counts = counts_of([100.0] * 4, [0, 50, 0, 0], [1] * 4)
    # One loan against a prior of 19 of the same size: 19/20 of the stated tenth in month 2, 1/20 of a half in month 1.
    np.testing.assert_allclose(fit_recoveries(counts, **STATED, prior_loans=19), [0, 0.025, 0.095, 0])


def test_a_source_that_tells_none_leaves_it_to_the_settings():
    assert fit_recoveries(counts_of([100.0], [0.0], [1]), **STATED) is None
    assert fit_recoveries(counts_of([], [], []), **STATED) is None
    np.testing.assert_array_equal(lump(0.1, 2), [0, 0, 0.1])


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    recovered=st.lists(st.floats(0, 3), min_size=1, max_size=20),
    rate=st.floats(0, 1), lag=st.integers(0, 24),
)
def test_never_more_than_was_owed(recovered, rate, lag):
    counts = counts_of([1.0] * len(recovered), recovered, [1] * len(recovered))
    found = fit_recoveries(counts, recovery_rate=rate, recovery_lag_months=lag)
    if sum(recovered) == 0:
        assert found is None
    else:
        assert (found >= 0).all() and found.sum() <= 1 + 1e-12
