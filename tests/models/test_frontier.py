"""The frontier: standard orders whose portfolios can be worked out by hand, and what holds in any market."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from models import allocation
from models.allocation import allocate
from models.frontier import frontier
from models.tier_program import SolverFailed
from tests.models.test_allocation import PLAIN, held, listings, markets, orders

ROOMY = replace(PLAIN, identity_group_cap=1.0)
TWO = listings(("risky", "a", 3, 100, 0.10, 0.05), ("safe", "b", 1, 100, 0.06, 0.01))


def test_from_the_least_loss_to_the_most_return():
    # One note: all of one loan. 200: everything there is.
    found = frontier(TWO, ROOMY, 1, amounts=2, targets=5, most_notes=1000)
    # 6% and then every fourth multiple of .25%, so that they are no more than four, and the most.
    assert found.amount.tolist() == [100] * 5 + [200_00]
    assert found.target_return.tolist() == pytest.approx([0.06, 0.07, 0.08, 0.09, 0.10, 0.08])
    assert [held(found.allocation, TWO, point) for point in (0, 4, 5)] == [{"safe": 1}, {"risky": 1}, {"risky": 100, "safe": 100}]
    # Half a loan of each would be 8%: one note is all or nothing.
    assert found.allocation.status[2] == "on_target" and found.allocation.expected_net_return[2] == pytest.approx(0.10)
    assert found.allocation.binding_constraint[5] == "listing_remaining"


def test_the_most_is_said_with_what_stands_in_its_way():
    market = listings(("risky", "a", 3, 1000, 0.10, 0.05), ("safe", "b", 1, 100, 0.06, 0.01))
    found = frontier(market, PLAIN, 1, amounts=2, targets=5, most_notes=1000)
    # Half of each is all that the cap leaves: from two notes to all that is open, one portfolio.
    assert found.amount.tolist() == [200, 200_00] and found.target_return.tolist() == pytest.approx([0.08, 0.08])
    assert found.allocation.binding_constraint.tolist() == ["identity_group_cap"] * 2
    assert found.allocation.message[0] == (
        "With at most 50% per borrower, 8.00% is the most tonight: 2 loans, expected to return 8.00% a year net."
    )


def test_orders_that_no_market_could_fill_are_tried_up_to_where_less_of_them_is_placed():
    # One borrower may take half of an order, whatever its size, as long as 60 suffices for the half.
    found = frontier(listings(("only", "a", 1, 60, 0.08, 0.01)), PLAIN, 1, amounts=3, targets=2, most_notes=1000)
    assert found.amount.tolist() == [200, 15_00, 120_00]
    assert found.allocation.allocated.tolist() == [100, 7_00, 60_00]
    assert "is left: too few borrowers for at most 50% each." in found.allocation.message[0]


@pytest.mark.parametrize(
    ("left", "rules"),
    [
        (listings(), PLAIN),
        (listings(("given out", "a", 1, 0, 0.08, 0.01)), PLAIN),
        (listings(("loses", "a", 5, 100, -0.02, 0.4)), PLAIN),
        (TWO, replace(PLAIN, identity_group_cap=0.0)),
        (TWO, replace(PLAIN, risk_group_caps=(0.0,) * 5)),
        (listings(("l", "a", 1, 100, 0.08, 0.01), currency="XXX"), PLAIN),
    ],
)
def test_nothing_to_be_had_has_no_points(left, rules):
    found = frontier(left, rules, 1, amounts=3, targets=4, most_notes=1000)
    assert len(found.amount) == len(found.target_return) == len(found.allocation.order) == 0


def test_no_larger_order_is_tried_than_the_most_notes():
    found = frontier(TWO, ROOMY, 1, amounts=3, targets=2, most_notes=20)
    assert np.unique(found.amount).tolist() == [100, 400, 20_00]
    # The smallest is tried all the same: two notes, half of them of one party at most.
    assert np.unique(frontier(TWO, PLAIN, 1, amounts=3, targets=2, most_notes=1).amount).tolist() == [200]


def failing_at(monkeypatch, amount: int, target: float) -> None:
    """HiGHS finds no optimum for orders of that many notes with a target, told by what the tier's program is asked for."""
    solve = allocation.solve_tier

    def solved(problem, tail):
        if problem.notes == amount and problem.target_return == pytest.approx(target):
            raise SolverFailed("too slow")
        return solve(problem, tail)

    monkeypatch.setattr(allocation, "solve_tier", solved)


def test_a_point_whose_program_fails_is_left_out_and_said(monkeypatch):
    failing_at(monkeypatch, 1, 0.08)
    found = frontier(TWO, ROOMY, 1, amounts=2, targets=5, most_notes=1000)
    assert found.amount.tolist() == [100] * 4 + [200_00] and found.target_return[:4].tolist() == pytest.approx([0.06, 0.07, 0.09, 0.10])
    assert [held(found.allocation, TWO, point) for point in (0, 3, 4)] == [{"safe": 1}, {"risky": 1}, {"risky": 100, "safe": 100}]
    assert found.left_out == ("100 USD (minor units) at 8.00%: too slow",)


def test_an_amount_of_which_the_most_is_not_known_has_no_points(monkeypatch):
    # The program that asks for more than any listing returns gives the most.
    failing_at(monkeypatch, 1, 0.10 + PLAIN.target_step)
    found = frontier(TWO, ROOMY, 1, amounts=2, targets=5, most_notes=1000)
    assert found.amount.tolist() == [200_00] and found.left_out == ("100 USD (minor units) at inf%: too slow",)


@hypothesis_settings(max_examples=25, deadline=None)
@given(markets())
def test_each_point_is_what_an_order_alone_gets(drawn):
    _, left, rules = drawn
    found = frontier(left, rules, 1, amounts=3, targets=4, most_notes=1000)
    got, note = found.allocation, rules.note["USD"]
    assert len(found.amount) <= 3 * 4 and np.all(found.amount % note == 0) and np.all(got.allocated > 0)
    for amount in np.unique(found.amount):
        assert np.all(np.diff(found.target_return[found.amount == amount]) >= -1e-8)
    for point in range(len(found.amount)):
        mine = got.order == point
        listing, notes = got.listing[mine], got.amount[mine]
        assert np.all(notes <= left.remaining[listing]) and np.all(notes % note == 0)
        for party in set(left.identity_group_id[listing]):
            held_of_party = notes[left.identity_group_id[listing] == party].sum()
            assert held_of_party <= rules.identity_group_cap * found.amount[point] + 1e-6
        for group in set(left.risk_group[listing]):
            assert notes[left.risk_group[listing] == group].sum() <= rules.risk_group_caps[group - 1] * found.amount[point] + 1e-6
    if np.sum(found.amount == found.amount[:1]) > 1:  # the last of a size has no target
        alone = allocate(orders(("o", found.amount[0] / 100, found.target_return[0])), left, rules, 1)
        assert held(alone, left) == held(got, left, 0) and alone.message[0] == got.message[0]
