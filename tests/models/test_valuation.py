"""Valuation of listings against answers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from models.hazard import Curves, Hazard
from models.recovery import lump
from models.valuation import (
    expected_cash_flows,
    internal_rate_of_return,
    level_installment,
    outstanding_balance,
    value_loans,
)

NO_COSTS = {"recoveries": lump(0.0, 1), "platform_fee_rate": 0.0}


def never(term: int, loans: int = 1) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((loans, term + 3)), np.zeros((loans, term + 3))


def test_installment_and_balance():
    # 12% a year over 2 months: r = 0.01, annuity = 0.01 / (1 - 1.01^-2) = 0.5075124; owed after one: a / 1.01.
    np.testing.assert_allclose(level_installment([0.12, 0.0], [2, 4]), [0.507512438, 0.25], rtol=1e-8)
    np.testing.assert_allclose(
        outstanding_balance([0.12, 0.0], [2, 4], 4), [[1, 0.502487562, 0, 0, 0], [1, 0.75, 0.5, 0.25, 0]], atol=1e-8
    )


def test_loan_without_risk_returns_its_effective_rate():
    default, prepayment = never(36)
    value = value_loans([0.12], [36], default, prepayment, **NO_COSTS)
    assert value.expected_net_return[0] == pytest.approx(1.01**12 - 1, abs=1e-12)
    assert value.expected_loss[0] == 0 and value.prob_default_lifetime[0] == 0
    # Macaulay duration of a level annuity at its own rate, in closed form: (1 + r) / r - n / ((1 + r)^n - 1) months.
    assert value.duration_years[0] == pytest.approx((101 - 36 / (1.01**36 - 1)) / 12, abs=1e-9)


def test_prepayment_at_par_leaves_the_return_and_shortens_the_duration():
    default, prepayment = never(36)
    prepayment[:, :35] = 0.05
    value = value_loans([0.12], [36], default, prepayment, **NO_COSTS)
    assert value.expected_net_return[0] == pytest.approx(1.01**12 - 1, abs=1e-12)
    assert value.duration_years[0] < 1.2


def test_default_by_hand():
    # Rate 0, four instalments of 0.25. Default in month 5 with probability 0.2 means: instalment 1 was paid, 2 missed.
    default, prepayment = never(4)
    default[0, 4] = 0.2
    cash, defaulting, in_default = expected_cash_flows(
        [0.0], [4], default, prepayment, recoveries=lump(0.5, 2), platform_fee_rate=0.1
    )
    assert defaulting[0].tolist() == [0, 0, 0, 0, 0.2, 0, 0]
    np.testing.assert_allclose(in_default[0], [0, 0, 0, 0, 0.2 * 0.75, 0, 0])
    # 0.25 from all, then from 80%; half of the 0.15 in default comes back in month 7; 10% of each payment is the fee.
    np.testing.assert_allclose(cash[0], np.array([0.25, 0.2, 0.2, 0.2, 0, 0, 0.075, 0, 0]) * 0.9)
    value = value_loans(
        [0.0], [4], default, prepayment, recoveries=lump(0.5, 2), platform_fee_rate=0.1
    )
    assert value.expected_loss[0] == pytest.approx(0.075)
    assert value.prob_default_lifetime[0] == pytest.approx(0.2)


def test_last_installment_missed_is_a_default_after_the_term():
    default, prepayment = never(4)
    default[0, 6] = 1.0
    cash, _, in_default = expected_cash_flows([0.0], [4], default, prepayment, **NO_COSTS)
    np.testing.assert_allclose(cash[0, :4], [0.25, 0.25, 0.25, 0])
    assert in_default.sum() == pytest.approx(0.25)


def test_certain_default_at_once_loses_everything_but_the_recovery():
    default, prepayment = never(12)
    default[0, 0] = 1.0
    value = value_loans(
        [0.2], [12], default, prepayment, recoveries=lump(0.1, 12), platform_fee_rate=0.0
    )
    assert value.expected_loss[0] == pytest.approx(0.9)
    # A tenth comes back after 13 months.
    assert value.expected_net_return[0] == pytest.approx(0.1 ** (12 / 13) - 1, abs=1e-12)
    nothing = value_loans([0.2], [12], default, prepayment, **NO_COSTS)
    assert nothing.expected_net_return[0] == -1 and nothing.duration_years[0] == 0


def test_loans_of_several_terms_in_one_array_are_valued_as_alone():
    hazard = Hazard(Curves(np.full(70, 0.01), np.full(70, 0.02)), {})
    rate, term, prob = np.array([0.1, 0.2, 0.15]), np.array([12, 60, 36]), np.array([0.05, 0.2, 0.0])
    costs = {"recoveries": lump(0.1, 12), "platform_fee_rate": 0.01}

    def value(rows):
        on_book = np.zeros(len(rate[rows]), dtype=int)
        curve = hazard.default_curve(prob[rows], 12, on_book, term[rows])
        return value_loans(rate[rows], term[rows], curve, hazard.baseline(on_book, term[rows])[1], **costs)

    together = value(slice(None))
    for loan in range(3):
        alone = value([loan])
        for name in ("expected_net_return", "expected_loss", "duration_years", "prob_default_lifetime"):
            assert getattr(alone, name)[0] == pytest.approx(getattr(together, name)[loan], abs=1e-12)
    assert together.prob_default_lifetime[1] > 0.2  # money is valued over the term, not over the score's 12 months


@hypothesis_settings(max_examples=80, deadline=None)
@given(
    cash=st.lists(st.floats(0, 1e3).map(lambda x: 0.0 if x < 1e-9 else x), min_size=1, max_size=80),
)
def test_present_value_at_the_rate_of_return_is_one(cash):
    yearly, duration = internal_rate_of_return(np.array([cash]))
    if sum(cash) == 0:
        assert yearly[0] == -1
        return
    assume(sum(cash) > 0.5)  # below, the yearly rate is -1 to within a double
    month = np.arange(1, len(cash) + 1)
    log_present = np.log(np.array(cash)[np.array(cash) > 0]) - month[np.array(cash) > 0] * np.log1p(yearly[0]) / 12
    assert np.exp(log_present).sum() == pytest.approx(1, rel=1e-6)
    assert 0 < duration[0] <= len(cash) / 12 + 1e-9


@hypothesis_settings(max_examples=60, deadline=None)
@given(rate=st.floats(0, 0.6), term=st.integers(1, 72), low=st.floats(0, 0.98), more=st.floats(0.001, 0.02))
def test_more_default_is_more_loss_and_less_return(rate, term, low, more):
    hazard = Hazard(Curves(np.full(80, 0.01), np.full(80, 0.02)), {})
    curve = hazard.default_curve([low, low + more], None, [0, 0], [term, term])
    value = value_loans(
        [rate, rate], [term, term], curve, hazard.baseline([0, 0], [term, term])[1],
        recoveries=lump(0.1, 12), platform_fee_rate=0.01,
    )
    assert value.expected_loss[1] > value.expected_loss[0]
    assert value.expected_net_return[1] < value.expected_net_return[0]
    assert 0 <= value.expected_loss[0] <= value.prob_default_lifetime[0] <= 1
