"""What loans have really paid, and how expected and realised returns compare: by hand."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from models.backtest_valuation import pooled_return, return_calibration
from models.realised_cash import cash_matrix, listed_cash, owed_at_default, principal_lost, recovered, stacked_cash
from models.valuation import level_installment, outstanding_balance

NEVER = np.array([np.nan])


def test_cash_is_per_unit_in_its_month():
    received = pd.DataFrame({"loan_id": ["b", "b", "other", "a"], "month": [1, 3, 2, 2], "paid": [50.0, 25.0, 9.0, 10.0]})
    cash = cash_matrix(received, pd.Series(["a", "b", "silent"]), np.array([100.0, 50.0, 10.0]))
    np.testing.assert_allclose(cash, [[0, 0.1, 0], [1, 0, 0.5], [0, 0, 0]])
    assert listed_cash(cash) == [[0, 0.1], [1, 0, 0.5], []]
    np.testing.assert_array_equal(stacked_cash(pd.Series(listed_cash(cash))), cash)


def test_default_by_hand():
    # 12% a year; half is due with interest: 0.51 pays 0.01 of interest and 0.5 of principal, then 0.002 of the 0.005 due.
    cash = np.array([[0.51, 0.002, 0.0, 0.0, 0.1]])
    # In default from month 4: half is owed, a tenth comes back.
    month = np.array([4.0])
    assert owed_at_default(cash, [0.12], month)[0] == pytest.approx(0.5)
    assert recovered(cash, month)[0] == pytest.approx(0.1)
    assert principal_lost(cash, [0.12], month)[0] == pytest.approx(0.4)
    # The same cash without a default: 0.003 + 0.005 × 3 of interest run up by month 5, when 0.1 pays it and 0.082 of principal.
    assert owed_at_default(cash, [0.12], NEVER)[0] == pytest.approx(0.418)
    assert principal_lost(cash, [0.12], NEVER)[0] == 0 == recovered(cash, NEVER)[0]
    # More than was owed comes back: nothing is lost.
    assert principal_lost(np.array([[0.0, 0.0, 0.0, 1.2]]), [0.12], month)[0] == 0


@hypothesis_settings(max_examples=40, deadline=None)
@given(rate=st.floats(0, 0.4), term=st.integers(1, 60), paid=st.integers(0, 60))
def test_level_instalments_leave_the_scheduled_balance(rate, term, paid):
    paid = min(paid, term)
    cash = np.zeros((1, term + 5))
    cash[0, :paid] = level_installment(np.array([rate]), np.array([term]))[0]
    owed = owed_at_default(cash, np.array([rate]), np.array([paid + 1.0]))
    assert owed[0] == pytest.approx(outstanding_balance([rate], [term], term)[0, paid], abs=1e-9)


def listings(**changes) -> pd.DataFrame:
    # Ten loans of one month each: nine bring 2% within the month, the one expected to bring least pays nothing.
    frame = pd.DataFrame({
        "month": date(2010, 5, 1), "loan_id": [str(number) for number in range(10)], "amount": 100.0,
        "expected_net_return": np.arange(10) / 100, "expected_loss": 0.05, "prob_default_lifetime": 0.1, "duration_years": 1 / 12,
        "is_default": [True, *[False] * 9], "cash": [[], *[[1.02]] * 9], "principal_lost": [1.0, *[0.0] * 9],
    })
    return frame.assign(**changes)


def test_calibration_by_tenths_and_years():
    found = pd.DataFrame(return_calibration(pd.concat([listings(), listings(month=date(2011, 1, 1), amount=1.0)])))
    assert list(found["year"]) == [2010] * 11 + [2011] * 11 and found["listings"].tolist() == [10, *[1] * 10] * 2
    whole = found[found["tenth"].isna()].iloc[0]
    assert (whole["expected_net_return"], whole["expected_loss"], whole["realised_loss"]) == pytest.approx((0.045, 0.05, 0.1))
    assert (whole["expected_default"], whole["realised_default"]) == pytest.approx((0.1, 0.1))
    assert whole["realised_net_return"] == pytest.approx(0.918**12 - 1)
    worst, best = found[found["tenth"] == 1].iloc[0], found[found["tenth"] == 10].iloc[1]
    assert (worst["realised_net_return"], worst["realised_loss"]) == (-1, 1)
    assert best["realised_net_return"] == pytest.approx(1.02**12 - 1) and best["expected_net_return"] == pytest.approx(0.09)


def test_a_pool_weighs_by_amount():
    two = listings().iloc[:2].assign(amount=[1.0, 3.0])
    assert pooled_return(two) == pytest.approx((0.75 * 1.02) ** 12 - 1)


@hypothesis_settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_order_of_listings_changes_nothing(seed):
    frame = pd.concat([listings(), listings(month=date(2011, 2, 1), loan_id=[f"x{number}" for number in range(10)])], ignore_index=True)
    shuffled = frame.sample(frac=1, random_state=seed)
    pd.testing.assert_frame_equal(pd.DataFrame(return_calibration(shuffled)), pd.DataFrame(return_calibration(frame)))
