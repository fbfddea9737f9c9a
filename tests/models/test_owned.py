"""Topping up: hand-solved second nights, and what holds over any number of nights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from models.allocation import Allocation, Listings, Orders, Rules, allocate
from models.owned import Owned, OwnedParties, party_rooms, target_of_new_money
from models.scenarios import DefaultCorrelation

RULES = Rules(
    note={"USD": 100}, identity_group_cap=0.5, risk_group_caps=(1.0, 1.0, 0.5), target_step=0.0025,
    correlation=DefaultCorrelation((0.1, 0.1, 0.1), 0.5), scenarios=100, evaluation_scenarios=100, solver_seconds=10,
)


@dataclasses.dataclass
class Held:
    """One holding of the tests' own ledger; principal in cents."""

    order: str
    investor: str
    loan: str
    party: str
    risk_group: int
    principal: int
    net_return: float


def listings(*rows: tuple) -> Listings:
    """Rows of loan id, party, risk group, remaining (whole units), net return, loss (certain)."""
    loan, party, group, remaining, net, loss = zip(*rows, strict=True) if rows else [()] * 6
    return Listings(
        np.array(loan, dtype=object), np.array(party, dtype=object), np.array(group, dtype=int),
        np.array(remaining, dtype=np.int64) * 100, np.array(net, dtype=float), np.full(len(rows), 1.0),
        np.array(loss, dtype=float), np.full(len(rows), "USD", dtype=object),
    )


def orders(*rows: tuple) -> Orders:
    """Rows of order id, amount (whole units), target."""
    order, amount, target = zip(*rows, strict=True)
    return Orders(
        np.array(order, dtype=object), np.array([round(one * 100) for one in amount], dtype=np.int64),
        np.array(target, dtype=float), np.full(len(rows), "USD", dtype=object),
    )


def owned(book: Orders, held: list[Held], investors: dict[str, str] | None = None, risk_groups: int = 3) -> Owned:
    """What the ledger says of the open orders; investors: by order, each its own where it is not told."""
    place = {order: position for position, order in enumerate(book.order_id)}
    count = len(place)
    investor = np.array([(investors or {}).get(order, order) for order in book.order_id], dtype=object)
    principal, loans, closed = (np.zeros(count, dtype=np.int64) for _ in range(3))
    returns, of_risk = np.zeros(count), np.zeros((count, risk_groups), dtype=np.int64)
    for one in held:
        if one.order in place:
            at = place[one.order]
            principal[at] += one.principal
            loans[at] += 1
            returns[at] += one.principal * one.net_return
            of_risk[at, one.risk_group - 1] += one.principal
        else:
            closed[investor == one.investor] += one.principal
    parties = OwnedParties(
        np.array([place.get(one.order, -1) for one in held], dtype=np.int64),
        np.array([one.investor for one in held], dtype=object), np.array([one.party for one in held], dtype=object),
        np.array([one.principal for one in held], dtype=np.int64), np.full(len(held), "USD", dtype=object),
    )
    return Owned(investor, principal, np.where(principal > 0, returns / np.maximum(principal, 1), 0.0), loans, of_risk, closed, parties)


def bought(result: Allocation, book: Orders, market: Listings) -> dict[tuple[str, str], int]:
    """Whole units by order and loan id."""
    return {
        (book.order_id[order], market.loan_id[listing]): int(amount) // 100
        for order, listing, amount in zip(result.order, result.listing, result.amount, strict=True)
    }


def test_only_the_rest_is_invested_and_a_party_at_its_cap_is_left_alone():
    # 50 of 100 are held of a, which is the cap: only b's loan is bought, though a's is the better one.
    market = listings(("l1", "a", 1, 1000, 0.10, 0.01), ("l2", "b", 1, 1000, 0.06, 0.02))
    book = orders(("o", 100.75, 0.05))
    held = [Held("o", "o", "l0", "a", 1, 50_37, 0.08)]
    result = allocate(book, market, RULES, 1, owned(book, held))
    # 50.38 is to be invested: 50 notes.
    assert bought(result, book, market) == {("o", "l2"): 50}
    assert result.owned_net_return[0] == pytest.approx((50.37 * 0.08 + 50 * 0.06) / 100.37)
    assert (result.status[0], result.binding_constraint[0]) == ("on_target", None)
    assert result.message[0] == (
        "1 loan for 50 USD beside 50.37 USD in 1 held, together expected to return 7.00% a year net; the target is 5.00%. "
        "0.38 USD is left: less than a note of 1 USD."
    )


def test_a_holding_over_its_cap_is_kept_and_nothing_is_added():
    market = listings(("l1", "a", 1, 1000, 0.10, 0.01), ("l2", "b", 3, 1000, 0.10, 0.01), ("l3", "c", 1, 1000, 0.06, 0.02))
    book = orders(("o", 100, 0.05))
    # 60 of a party that may have 50, in risk group 3 that may have 50.
    held = [Held("o", "o", "l0", "a", 3, 60_00, 0.08)]
    assert bought(allocate(book, market, RULES, 1, owned(book, held)), book, market) == {("o", "l3"): 40}


def test_new_money_must_earn_what_the_old_falls_short_of():
    market = listings(("rich", "a", 1, 1000, 0.12, 0.05), ("poor", "b", 1, 1000, 0.06, 0.01), ("more", "c", 1, 1000, 0.06, 0.02))
    book = orders(("old", 100, 0.08), ("new", 50, 0.08))
    held = [Held("old", "old", "l0", "z", 1, 50_00, 0.07)]
    result = allocate(book, market, RULES, 1, owned(book, held))
    # 50 at 7% and 50 at 9% make 8%: half rich, half poor; the other order needs a third of rich alone.
    got = bought(result, book, market)
    assert (got["old", "rich"], got["old", "poor"]) == (25, 25)
    assert result.status.tolist() == ["on_target", "on_target"]
    assert result.owned_net_return[0] == pytest.approx(0.08)
    assert target_of_new_money(np.array([0.08]), np.array([5000]), np.array([0.07]), np.array([5000])) == pytest.approx(0.09)


@pytest.mark.parametrize(("old", "status", "binding"), [(0.08, "on_target", "fully_invested"), (0.03, "below_target", "fully_invested")])
def test_an_order_that_is_invested_buys_nothing_and_keeps_its_status(old, status, binding):
    market, book = listings(("l1", "a", 1, 1000, 0.10, 0.01)), orders(("o", 100, 0.05))
    result = allocate(book, market, RULES, 1, owned(book, [Held("o", "o", "l0", "b", 1, 99_50, old)]))
    assert result.allocated[0] == 0 and np.isnan(result.expected_net_return[0])
    assert (result.status[0], result.binding_constraint[0]) == (status, binding)
    assert result.owned_net_return[0] == pytest.approx(old)
    assert "0.50 USD is left to invest" in result.message[0] and "1 loan holds 99.50 USD" in result.message[0]


def test_most_return_is_told_of_old_and_new_together():
    market, book = listings(("l1", "a", 1, 1000, 0.10, 0.01)), orders(("o", 100, 0.2))
    result = allocate(book, market, RULES, 1, owned(book, [Held("o", "o", "l0", "b", 1, 50_00, 0.06)]))
    assert (result.status[0], result.binding_constraint[0]) == ("below_target", "expected_return")
    assert "8.00% is the most tonight" in result.message[0]


def test_a_party_counts_over_all_orders_of_an_investor():
    # One cap over both orders and what a closed one still owns: half of 100 + 100 + 60, of which 120 is owned: 10 are left.
    book = orders(("x", 100, 0.05), ("y", 100, 0.05), ("other", 100, 0.05))
    investors = {"x": "i", "y": "i", "other": "j"}
    held = [Held("gone", "i", "l0", "a", 1, 60_00, 0.08), Held("x", "i", "l0", "a", 1, 60_00, 0.08)]
    rooms = party_rooms(owned(book, held, investors), np.arange(3), book.amount, np.array(["b", "a"], dtype=object), "USD", 0.5, 100)
    # Code 0 is party a; x is over its own cap, y has the investor's room, j owns nothing.
    assert {order: (codes.tolist(), room.tolist()) for order, (codes, room) in rooms.items()} == {0: ([0], [0]), 1: ([0], [10])}
    market = listings(("l1", "a", 1, 1000, 0.10, 0.01), ("l2", "b", 1, 1000, 0.06, 0.02), ("l3", "c", 1, 1000, 0.06, 0.02))
    got = bought(allocate(book, market, RULES, 1, owned(book, held, investors)), book, market)
    assert ("x", "l1") not in got and got.get(("y", "l1"), 0) <= 10
    assert sum(amount for (order, _), amount in got.items() if order == "y") == 100


@hypothesis_settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.05, 0.1, 0.3]), st.sampled_from([(1.0, 1.0, 1.0), (1.0, 0.4, 0.2)]))
def test_over_several_nights_caps_hold_over_all_that_is_owned(seed, cap, risk_caps):
    random = np.random.default_rng(seed)
    rules = dataclasses.replace(RULES, identity_group_cap=cap, risk_group_caps=risk_caps)
    book = orders(*((f"o{one}", random.integers(5, 400) + random.integers(0, 100) / 100, random.choice([0.03, 0.08, 0.1])) for one in range(5)))
    investors = {order: f"i{random.integers(0, 3)}" for order in book.order_id}
    amount_of = dict(zip(book.order_id, book.amount, strict=True))
    ledger: list[Held] = []
    for night in range(4):
        # Principal comes back or is lost; an order is closed, and what it owns stays its investor's.
        for one in ledger:
            one.principal = int(one.principal * random.choice([0.0, 0.6, 0.93, 1.0]))
        ledger = [one for one in ledger if one.principal > 0]
        if night == 2:
            book = Orders(*(getattr(book, field.name)[1:] for field in dataclasses.fields(Orders)))
        many = random.integers(0, 25)
        market = listings(*(
            (f"n{night}l{one}", f"g{random.integers(0, 12)}", random.integers(1, 4), random.integers(0, 200), random.uniform(-0.01, 0.15),
             random.uniform(0, 0.1)) for one in range(many)
        ))
        before = owned(book, ledger, investors)
        result = allocate(book, market, rules, 1, before)
        # The same night again, and with its orders in another order.
        turned = Orders(*(getattr(book, field.name)[::-1] for field in dataclasses.fields(Orders)))
        again = allocate(turned, market, rules, 1, owned(turned, ledger, investors))
        got = bought(result, book, market)
        assert bought(again, turned, market) == got
        np.testing.assert_array_equal(again.owned_net_return[::-1], result.owned_net_return)

        at = {loan: position for position, loan in enumerate(market.loan_id)}
        assert all(sum(units for (_, one), units in got.items() if one == loan) * 100 <= market.remaining[at[loan]] for loan in at)
        new = [
            Held(order, investors[order], loan, market.identity_group_id[at[loan]], int(market.risk_group[at[loan]]), units * 100,
                 float(market.expected_net_return[at[loan]]))
            for (order, loan), units in got.items()
        ]
        everything = ledger + new
        for position, order in enumerate(book.order_id):
            mine = [one for one in everything if one.order == order]
            total = sum(one.principal for one in mine)
            # To the cent, and never more than the order.
            assert total == before.principal[position] + result.allocated[position] <= amount_of[order]
            assert (result.status[position] == "unfilled") == (total == 0)
            if total:
                mean = sum(one.principal * one.net_return for one in mine) / total
                assert result.owned_net_return[position] == pytest.approx(mean)
                assert (result.status[position] == "on_target") == (mean >= book.target_return[position] - 1e-8) or abs(
                    mean - book.target_return[position]) < 1e-7
            assert result.message[position]
            for one in (one for one in new if one.order == order):
                of_party = sum(other.principal for other in mine if other.party == one.party)
                assert of_party <= cap * amount_of[order] + 1e-6
                of_group = sum(other.principal for other in mine if other.risk_group == one.risk_group)
                assert of_group <= risk_caps[one.risk_group - 1] * amount_of[order] + 1e-6
        for one in new:
            theirs = [other for other in everything if other.investor == one.investor]
            money = sum(amount_of[order] for order in book.order_id if investors[order] == one.investor) + sum(
                other.principal for other in theirs if other.order not in book.order_id
            )
            assert sum(other.principal for other in theirs if other.party == one.party) <= cap * money + 1e-6
        ledger = everything
