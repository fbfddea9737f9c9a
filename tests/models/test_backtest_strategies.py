"""Strategies on three loans by hand, and what holds for any month of listings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from models.allocation import Rules
from models.backtest_strategies import (
    allocated_notes,
    best_half_within,
    characteristics,
    in_order,
    level_shares,
    mix,
    naive_picks,
)
from models.scenarios import DefaultCorrelation

RULES = Rules(
    note={"USD": 2500}, identity_group_cap=0.5, risk_group_caps=(1.0, 1.0), target_step=0.0025,
    correlation=DefaultCorrelation((0.1, 0.1), 0.5), scenarios=200, evaluation_scenarios=100, solver_seconds=10,
)


def month(*rows: tuple) -> pd.DataFrame:
    """Rows of loan id, notes, interest rate, term, grade, lifetime probability of default, expected net return; half is
    lost on default."""
    frame = pd.DataFrame(
        rows, columns=["loan_id", "notes", "interest_rate", "term_months", "grade", "prob_default_lifetime", "expected_net_return"]
    )
    return frame.assign(identity_group_id=frame["loan_id"], risk_group=1, expected_loss=frame["prob_default_lifetime"] / 2)


THREE = month(
    ("a", 10, 0.06, 36, "A", 0.05, 0.04), ("b", 20, 0.10, 36, "B", 0.04, 0.05), ("c", 30, 0.14, 60, "D", 0.20, 0.07),
)


def test_three_loans_by_hand():
    picks = naive_picks(THREE, 24, np.random.default_rng(1))
    assert picks["equal"].tolist() == [8, 8, 8]
    assert picks["by_volume"].tolist() == [4, 8, 12]
    assert picks["lowest_rate"].tolist() == [10, 14, 0]
    assert picks["lowest_pd"].tolist() == [4, 20, 0]
    assert picks["highest_return"].tolist() == [0, 0, 24]
    # Weights 7, 6 and 4 of 17: A would have 9.9, B 8.5, D 5.6.
    assert picks["by_grade"].tolist() == [10, 8, 6]
    # 40 notes: A is full at 10, and the other two share 30.
    assert naive_picks(THREE, 40, np.random.default_rng(1))["equal"].tolist() == [10, 15, 15]


def test_ranks_take_whole_listings():
    assert in_order(np.array([2, 0, 1]), np.array([10, 20, 30]), 45).tolist() == [10, 5, 30]


def test_best_half_of_each_cell():
    cell = month(
        ("a", 10, 0.06, 36, "A", 0.05, 0.04), ("b", 4, 0.06, 36, "A", 0.01, 0.05), ("c", 9, 0.06, 60, "A", 0.90, 0.07)
    )
    assert best_half_within(cell).tolist() == [3, 4, 4]


def drawn(listings: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    rate, prob_default = random.uniform(0.06, 0.2, listings).round(2), random.uniform(0.01, 0.3, listings)
    return month(*(
        (f"l{i:03d}", int(random.integers(20, 200)), rate[i], int(random.choice([36, 60])), "ABCDEFG"[random.integers(7)], prob_default[i], 0.9 * rate[i])
        for i in range(listings)
    ))


def test_matched_allocation_has_the_mix_and_expects_less_loss():
    listings = drawn(150, 3)
    notes = int(listings["notes"].sum()) // 5
    equal = naive_picks(listings, notes, np.random.default_rng(1))["equal"]
    matched = allocated_notes(listings, notes, float(equal @ listings["expected_net_return"] / notes) - 0.001, RULES, 7, equal)
    assert matched.sum() == notes and (matched <= listings["notes"]).all()
    assert mix(listings, matched) == pytest.approx(mix(listings, equal), abs=2e-3)
    assert matched @ listings["expected_loss"] < 0.6 * (equal @ listings["expected_loss"])
    free = allocated_notes(listings, notes, 0.0, RULES, 7)
    assert abs(mix(listings, free) - mix(listings, equal)).max() > 0.02
    assert free @ listings["expected_loss"] < matched @ listings["expected_loss"]


def test_characteristics_are_the_rate_and_longer_terms():
    np.testing.assert_allclose(characteristics(THREE), [[0.06, 0.10, 0.14], [0, 0, 1]])
    assert mix(THREE, np.array([1, 1, 2])) == pytest.approx([0.11, 0.5])


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.floats(0.1, 9)), min_size=1, max_size=20), st.floats(0, 1), st.integers(0, 99)
)
def test_money_adds_up_and_no_listing_overflows(rows, share, seed):
    room, weights = np.array([notes for notes, _ in rows]), np.array([weight for _, weight in rows])
    notes = int(share * room.sum())
    order = np.random.default_rng(seed).permutation(len(room))
    for taken in (level_shares(weights, room, notes), in_order(order, room, notes)):
        assert taken.sum() == notes and (taken >= 0).all() and (taken <= room).all()
