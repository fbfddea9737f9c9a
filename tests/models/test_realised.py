"""What portfolios lost and returned: three loans in two months by hand, and what holds for any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from models.realised import (
    BLOCK_MONTHS,
    Outcomes,
    block_counts,
    bootstrapped_losses,
    build_cohorts,
    cvar95,
    effective_loans,
    reduction,
)

# Two loans of the first month, one of which loses half after one payment; one of the second that pays on the day.
THREE = Outcomes(
    month=np.array([0, 0, 1]), principal_lost=np.array([0.5, 0.0, 0.0]), is_default=np.array([True, False, False]),
    cash=np.array([[0.5, 0.0], [0.0, 1.21], [1.1, 0.0]]),
)


def test_three_loans_in_two_months():
    cohorts = build_cohorts(THREE, np.array([1, 3, 4]), np.array([5, 5]))
    assert cohorts.invested.tolist() == [4, 4] and cohorts.lost.tolist() == [0.5, 0] and cohorts.defaulted.tolist() == [1, 0]
    rows = np.array([[1, 0], [0, 1], [1, 1]])
    assert cohorts.loss_rates(rows) == pytest.approx([0.125, 0, 0.0625])
    # The second month alone pays 1.1 after a month; both months (.5 + 4.4) / 8 and then 3.63 / 8.
    monthly = (0.6125 + np.sqrt(0.6125**2 + 4 * 0.45375)) / 2
    assert cohorts.net_returns(rows)[1:] == pytest.approx([1.1**12 - 1, monthly**12 - 1])


def test_nothing_bought_has_no_rate():
    cohorts = build_cohorts(THREE, np.array([0, 0, 4]), np.array([5, 5]))
    assert np.isnan(cohorts.loss_rates(np.array([[1, 0]]))[0]) and np.isnan(cohorts.net_returns(np.array([[1, 0]]))[0])


def test_cash_drag_is_what_idle_money_costs():
    # 1.1 after a month on four fifths of the money: 1.08 on all of it.
    one = build_cohorts(Outcomes(np.array([0]), np.zeros(1), np.zeros(1), np.array([[1.1]])), np.array([4]), np.array([5]))
    assert one.cash_drag() == pytest.approx(1.1**12 - 1.08**12)
    full = build_cohorts(Outcomes(np.array([0]), np.zeros(1), np.zeros(1), np.array([[1.1]])), np.array([5]), np.array([5]))
    assert full.cash_drag() == pytest.approx(0, abs=1e-12)


def test_half_the_loss_is_a_reduction_of_a_half_in_every_draw():
    outcomes = Outcomes(np.arange(12), np.full(12, 0.1), np.ones(12), np.full((12, 1), 0.95))
    safe = Outcomes(np.arange(12), np.full(12, 0.05), np.ones(12), np.full((12, 1), 1.0))
    notes, capital = np.arange(1, 13), np.arange(1, 13)
    found = reduction(build_cohorts(safe, notes, capital), build_cohorts(outcomes, notes, capital))
    assert found["loss_rate_reduction"] == pytest.approx(0.5) and found["ci"] == pytest.approx([0.5, 0.5])
    assert found["net_return_difference"] == pytest.approx(1 - 0.95**12)


def test_blocks_keep_neighbours_together():
    counts = block_counts(12, draws=400, seed=1)
    assert (counts.sum(axis=1) == 12).all() and counts.mean(axis=0) == pytest.approx(np.ones(12), abs=0.2)
    # A block that holds a month holds the next one two times in three, and one half a year later never.
    together = np.corrcoef(counts.T)
    assert together[3, 4] > 0.4 and together[3, 9] < 0.1
    assert BLOCK_MONTHS == 3
    # Three months are drawn one by one: not every draw is all of them.
    assert (block_counts(3, draws=50) > 1).any()


def test_tail_falls_with_notes_to_what_months_have_in_common():
    # Three bad months in which every second loan is lost, nine in which one of ten is.
    random = np.random.default_rng(5)
    month = np.repeat(np.arange(12), 200)
    lost = (random.random(2400) < np.where(month < 3, 0.5, 0.1)).astype(float)
    outcomes = Outcomes(month, lost, lost, np.zeros((2400, 0)))
    ones = np.ones(2400)
    few, many = (bootstrapped_losses(outcomes, ones, notes, by_months=False) for notes in (5, 500))
    assert few.mean() == pytest.approx(many.mean(), abs=0.02) and cvar95(few) > 0.5 > 0.3 > cvar95(many)
    by_months = bootstrapped_losses(outcomes, ones, 500, by_months=True)
    assert by_months.mean() == pytest.approx(many.mean(), abs=0.02) and cvar95(by_months) == pytest.approx(0.5, abs=0.06)


def test_only_what_was_bought_is_drawn():
    outcomes = Outcomes(np.array([0, 1, 2, 3]), np.array([1.0, 0.0, 1.0, 1.0]), np.ones(4), np.zeros((4, 0)))
    for by_months in (True, False):
        assert bootstrapped_losses(outcomes, np.array([0, 7, 0, 0]), 5, by_months=by_months, draws=50).max() == 0


def test_effective_loans_of_equal_and_unequal_holdings():
    assert effective_loans(THREE, np.array([2, 2, 5])) == pytest.approx((2 + 1) / 2)
    assert effective_loans(THREE, np.array([3, 1, 0])) == pytest.approx(16 / 10)


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.floats(0, 1)), min_size=1, max_size=20), st.randoms())
def test_money_adds_up_in_any_order(loans, shuffle):
    def cohorts(rows):
        month, notes, lost = (np.array(column) for column in zip(*rows, strict=True))
        outcomes = Outcomes(month, lost, lost > 0, np.column_stack([lost, 1 - lost]))
        return build_cohorts(outcomes, notes, np.full(4, 200))

    shuffled = list(loans)
    shuffle.shuffle(shuffled)
    one, other = cohorts(loans), cohorts(shuffled)
    assert one.invested.sum() == sum(notes for _, notes, _ in loans)
    assert one.cash.sum() == pytest.approx(one.invested.sum())
    for field in ("invested", "lost", "defaulted", "cash"):
        np.testing.assert_allclose(getattr(one, field), getattr(other, field))
