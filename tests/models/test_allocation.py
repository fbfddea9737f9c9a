"""Allocation: hand-solved markets, degenerate ones, and properties that hold for any market."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from models import allocation, order_notes
from models.allocation import Allocation, Listings, Orders, Rules
from models.scenarios import DefaultCorrelation

PLAIN = Rules(
    note={"USD": 100, "KRW": 1_000_000}, identity_group_cap=0.5, risk_group_caps=(1.0, 1.0, 1.0, 1.0, 1.0),
    target_step=0.0025, correlation=DefaultCorrelation((0.1, 0.1, 0.1, 0.1, 0.1), 0.5), scenarios=200,
    evaluation_scenarios=200, solver_seconds=10,
)


def allocate(orders: Orders, listings: Listings, rules: Rules, part_orders: int = order_notes.PART_ORDERS) -> Allocation:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order_notes, "PART_ORDERS", part_orders)
        return allocation.allocate(orders, listings, rules, seed=7)


def listings(*rows: tuple, currency: str = "USD", prob_default: float = 1.0) -> Listings:
    """Rows of loan id, identity group, risk group, remaining (whole units), net return, loss.

    By default the loss is certain, so that the tail is the mean and answers can be worked out by hand.
    """
    columns = list(zip(*rows, strict=True)) if rows else [()] * 6
    return Listings(
        loan_id=np.array(columns[0], dtype=object),
        identity_group_id=np.array(columns[1], dtype=object),
        risk_group=np.array(columns[2], dtype=int),
        remaining=np.array(columns[3], dtype=np.int64) * 100,
        expected_net_return=np.array(columns[4], dtype=float),
        prob_default_lifetime=np.full(len(rows), prob_default),
        expected_loss=np.array(columns[5], dtype=float),
        currency=np.full(len(rows), currency, dtype=object),
    )


def orders(*rows: tuple, currency: str = "USD") -> Orders:
    """Rows of order id, amount (whole units), target."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * 3
    return Orders(
        order_id=np.array(columns[0], dtype=object),
        amount=np.array([round(amount * 100) for amount in columns[1]], dtype=np.int64),
        target_return=np.array(columns[2], dtype=float),
        currency=np.full(len(rows), currency, dtype=object),
    )


def held(result: Allocation, market: Listings, order: int = 0) -> dict[str, int]:
    """Whole units by loan id."""
    mine = result.order == order
    return dict(zip(market.loan_id[result.listing[mine]], (result.amount[mine] // 100).tolist(), strict=True))


def test_rounding_a_target_up_does_not_put_it_out_of_reach():
    # The most is half risky, half middling: 9%. 8.5% would be rounded up to 10%; 9.5% is beyond reach in any case.
    market = listings(
        ("risky", "a", 3, 1000, 0.10, 0.05), ("middling", "b", 2, 1000, 0.08, 0.02), ("safe", "c", 1, 1000, 0.06, 0.01)
    )
    rules = dataclasses.replace(PLAIN, target_step=0.02)
    result = allocate(orders(("near", 400, 0.085), ("far", 400, 0.095)), market, rules)
    assert list(result.status) == ["on_target", "below_target"]
    # The least loss that brings 8.5%.
    assert held(result, market, 0) == {"risky": 150, "middling": 200, "safe": 50}


RISKY_AND_SAFE = listings(("risky", "a", 3, 1000, 0.10, 0.05), ("safe", "b", 1, 1000, 0.06, 0.01))


def test_reaches_the_target_at_the_least_loss():
    # The safe loan returns 6%, so 8% needs half of each; more of the risky one would only lose more.
    market = listings(
        ("risky", "a", 3, 1000, 0.10, 0.05), ("safe", "b", 1, 1000, 0.06, 0.01), ("worse", "c", 3, 1000, 0.10, 0.07)
    )
    result = allocate(orders(("o", 100, 0.08)), market, PLAIN)
    assert held(result, market) == {"risky": 50, "safe": 50}
    assert result.status[0] == "on_target" and result.binding_constraint[0] is None
    assert result.expected_net_return[0] == pytest.approx(0.08)
    assert result.expected_loss[0] == pytest.approx(0.03)
    assert result.message[0] == "2 loans, expected to return 8.00% a year net; the target is 8.00%."


def test_low_target_takes_the_safest():
    result = allocate(orders(("o", 100, 0.01)), RISKY_AND_SAFE, dataclasses.replace(PLAIN, identity_group_cap=1.0))
    assert held(result, RISKY_AND_SAFE) == {"safe": 100}


def test_cap_per_borrower_is_named_when_it_keeps_the_target_away():
    result = allocate(orders(("o", 100, 0.09)), RISKY_AND_SAFE, PLAIN)
    assert held(result, RISKY_AND_SAFE) == {"risky": 50, "safe": 50}
    assert (result.status[0], result.binding_constraint[0]) == ("below_target", "identity_group_cap")
    assert result.message[0].startswith("With at most 50% per borrower, 8.00% is the most tonight: 2 loans")


def test_cap_per_risk_group_is_named():
    rules = dataclasses.replace(PLAIN, identity_group_cap=1.0, risk_group_caps=(1.0, 1.0, 0.25, 0.1, 0.1))
    result = allocate(orders(("o", 100, 0.09)), RISKY_AND_SAFE, rules)
    assert held(result, RISKY_AND_SAFE) == {"risky": 25, "safe": 75}
    assert (result.status[0], result.binding_constraint[0]) == ("below_target", "risk_group_cap")
    assert "3: 25%" in result.message[0] and "7.00% is the most tonight" in result.message[0]


def test_no_listing_returns_the_target():
    result = allocate(orders(("o", 100, 0.5)), RISKY_AND_SAFE, PLAIN)
    assert held(result, RISKY_AND_SAFE) == {"risky": 50, "safe": 50}
    assert (result.status[0], result.binding_constraint[0]) == ("below_target", "expected_return")


def test_scarce_listing_is_named():
    market = listings(("risky", "a", 3, 20, 0.10, 0.05), ("safe", "b", 1, 1000, 0.06, 0.01))
    result = allocate(orders(("o", 100, 0.09)), market, dataclasses.replace(PLAIN, identity_group_cap=1.0))
    assert held(result, market) == {"risky": 20, "safe": 80}
    assert (result.status[0], result.binding_constraint[0]) == ("below_target", "listing_remaining")


def test_constraints_that_only_bind_together_are_named_together():
    # Half the order may go to the risky borrower, and half the order is what is open there: dropping one of the two changes nothing.
    market = listings(("risky", "a", 3, 50, 0.10, 0.05), ("safe", "b", 1, 1000, 0.06, 0.01))
    result = allocate(orders(("o", 100, 0.09)), market, PLAIN)
    assert held(result, market) == {"risky": 50, "safe": 50}
    assert (result.status[0], result.binding_constraint[0]) == ("below_target", "several_constraints")
    assert result.message[0].startswith("With what the cap of 50% per borrower, the caps per risk group (1: 100%, ")
    assert "and tonight's listings leave together, 8.00% is the most tonight: 2 loans" in result.message[0]
    # Money that finds no place: the party's other listing has room, but lies in a group of which none may be held.
    market = listings(("small", "a", 1, 50, 0.10, 0.05), ("barred", "a", 3, 1000, 0.10, 0.05))
    result = allocate(orders(("o", 100, 0.09)), market, dataclasses.replace(PLAIN, risk_group_caps=(1.0, 1.0, 0.0, 0.0, 0.0)))
    assert (result.status[0], result.binding_constraint[0]) == ("on_target", "several_constraints")
    assert result.message[0].endswith("and tonight's listings leave together is used up.")


def test_rounding_gap_is_what_whole_notes_lose_more_than_fractions_would():
    # 7.5% needs 3.75 notes of the risky loan, which lose 2.5%; 4 of 10 lose 2.6%.
    rules = dataclasses.replace(PLAIN, identity_group_cap=1.0)
    result = allocate(orders(("o", 10, 0.075), ("tiny", 0.5, 0.075)), RISKY_AND_SAFE, rules)
    assert held(result, RISKY_AND_SAFE) == {"risky": 4, "safe": 6}
    assert result.rounding_gap[0] == pytest.approx(0.001, abs=1e-6)
    assert np.isnan(result.rounding_gap[1])
    # Two equals share 7 risky notes for 6.75: who has three loses less than the tier's fractions, and returns less than its 7.5%.
    both = allocate(orders(("x", 9, 0.07), ("y", 9, 0.0725)), RISKY_AND_SAFE, dataclasses.replace(rules, target_step=0.025))
    risky = np.array([held(both, RISKY_AND_SAFE, order)["risky"] for order in (0, 1)])
    assert sorted(risky) == [3, 4]
    np.testing.assert_allclose(both.rounding_gap, (0.01 * (9 - risky) + 0.05 * risky) / 9 - 0.025, atol=1e-6)


def test_one_party_under_two_ids_counts_once():
    # Two listings of one party, each below the cap alone, and the best there are.
    market = listings(
        ("one", "party", 1, 1000, 0.10, 0.01), ("two", "party", 2, 1000, 0.10, 0.01), ("other", "b", 1, 1000, 0.05, 0.02)
    )
    result = allocate(orders(("o", 100, 0.09)), market, PLAIN)
    amounts = held(result, market)
    assert amounts.get("one", 0) + amounts.get("two", 0) == 50
    assert amounts["other"] == 50
    assert result.binding_constraint[0] == "identity_group_cap"


@pytest.mark.parametrize("target", [0.03, 0.09, 0.5])
def test_a_ring_of_many_ids_gets_no_more_than_one_borrower(target):
    # The best loans there are, cut into sixty small ones over all risk groups: each is below the cap, all of them are one party's.
    ring = [(f"r{i:02d}", "ring", 1 + i % 5, 3, 0.12 - i / 10_000, 0.001) for i in range(60)]
    others = [(f"o{i:02d}", f"g{i:02d}", 1 + i % 5, 60, 0.04 + i / 1000, 0.03 + i / 1000) for i in range(50)]
    market = listings(*ring, *others)
    book = orders(("a", 100, target), ("b", 59, target), ("c", 20.5, target + 0.001), ("d", 300, target))
    rules = dataclasses.replace(PLAIN, identity_group_cap=0.05, risk_group_caps=(1.0, 0.6, 0.4, 0.25, 0.1))
    result = allocate(book, market, rules)
    in_ring = np.where(market.identity_group_id[result.listing] == "ring", result.amount, 0)
    # Whole units of 5% of 100, 59, 20.5 and 300; nobody does without what is best and safest, but for a note of rounding.
    of_ring, most = np.bincount(result.order, in_ring), np.array([5_00, 2_00, 1_00, 15_00])
    assert np.all(of_ring <= most) and np.all(of_ring >= most - 1_00) and of_ring.sum() >= most.sum() - 1_00
    assert result.allocated.tolist() == [100_00, 59_00, 20_00, 300_00]


def test_equal_orders_share_a_scarce_listing_equally():
    market = listings(("only", "a", 1, 10, 0.08, 0.01))
    rules = dataclasses.replace(PLAIN, identity_group_cap=1.0)
    result = allocate(orders(("x", 10, 0.05), ("y", 10, 0.05)), market, rules)
    assert result.allocated.tolist() == [500, 500]
    assert result.binding_constraint.tolist() == ["listing_remaining"] * 2
    assert result.message[0].endswith("5 USD is left: tonight's listings have no more room for all orders together.")


def test_impossible_target_takes_nothing_from_a_possible_one():
    # Both would need the risky loan's whole remainder; the one who asks for 50% may not starve the one who asks for 8%.
    market = listings(("risky", "a", 3, 100, 0.10, 0.05), ("safe", "b", 1, 1000, 0.06, 0.01))
    result = allocate(orders(("greedy", 100, 0.5), ("modest", 100, 0.08)), market, PLAIN)
    assert result.status.tolist() == ["below_target", "on_target"]
    assert held(result, market, 1) == {"risky": 50, "safe": 50}


def test_what_is_held_of_one_party_has_a_price():
    # Equal loans: only what is idiosyncratic tells portfolios apart, and 400 spread over 40 has the least of it.
    market = listings(*((f"l{i:02d}", f"g{i}", 1, 1000, 0.08, 0.03) for i in range(40)), prob_default=0.05)
    result = allocate(orders(("o", 400, 0.05)), market, PLAIN)
    assert result.loan_count[0] == 40
    # The cap is 200 notes. The square is priced by a chord from a 32nd to a 16th of it, 6.25 to 12.5 notes, on which any
    # holding costs alike; rounding moves one note.
    assert result.amount.min() >= 5_00 and result.amount.max() <= 14_00
    # The same loans, two to a party: a party's holding counts, not a listing's.
    pairs = dataclasses.replace(market, identity_group_id=np.array([f"g{i // 2}" for i in range(40)], dtype=object))
    result = allocate(orders(("o", 400, 0.05)), pairs, PLAIN)
    of_party = np.bincount(result.listing // 2, result.amount)
    assert len(of_party) == 20 and of_party.min() >= 11_00 and of_party.max() <= 26_00


def test_risk_that_cannot_be_spread_has_a_price():
    # Twins of equal loss and return: the group that moves with the market more is the worse tail.
    market = listings(
        *((f"{name}{i}", f"{name}{i}", group, 1000, 0.08, 0.03) for name, group in (("calm", 1), ("wild", 2)) for i in range(40)),
        prob_default=0.05,
    )
    rules = dataclasses.replace(PLAIN, correlation=DefaultCorrelation((0.01, 0.3, 0.1, 0.1, 0.1), 1.0), evaluation_scenarios=2000)
    result = allocate(orders(("o", 400, 0.05)), market, rules)
    calm = result.amount[market.risk_group[result.listing] == 1].sum()
    assert calm > 300_00
    only_wild = dataclasses.replace(rules, risk_group_caps=(0.0, 1.0, 1.0, 1.0, 1.0))
    assert allocate(orders(("o", 400, 0.05)), market, only_wild).cvar95[0] > 1.5 * result.cvar95[0]


def test_scenarios_at_a_higher_level_lose_more_and_expect_the_same():
    market = listings(*((f"l{i:02d}", f"g{i}", 1, 1000, 0.08, 0.03) for i in range(40)), prob_default=0.05)
    calm = allocate(orders(("o", 400, 0.05)), market, dataclasses.replace(PLAIN, evaluation_scenarios=2000))
    strained = allocate(orders(("o", 400, 0.05)), market, dataclasses.replace(PLAIN, evaluation_scenarios=2000, default_level=2.0))
    assert strained.cvar95[0] > 1.2 * calm.cvar95[0]
    assert (strained.expected_loss[0], strained.expected_net_return[0]) == (calm.expected_loss[0], calm.expected_net_return[0])


def test_certain_loss_is_its_own_tail():
    market = listings(("a", "a", 1, 1000, 0.08, 0.03), ("b", "b", 2, 1000, 0.08, 0.01))
    result = allocate(orders(("o", 100, 0.05), ("tiny", 0.5, 0.05)), market, PLAIN)
    assert result.cvar95[0] == pytest.approx(0.02)
    assert np.isnan(result.cvar95[1])


def test_currencies_do_not_mix():
    dollars, won = listings(("usd", "a", 1, 1000, 0.08, 0.01)), listings(("krw", "b", 1, 9_000_000, 0.08, 0.01), currency="KRW")
    market = Listings(**{
        field.name: np.concatenate([getattr(dollars, field.name), getattr(won, field.name)])
        for field in dataclasses.fields(Listings)
    })
    both = Orders(
        np.array(["d", "w"], dtype=object), np.array([100_00, 400_000_00]), np.array([0.05, 0.05]),
        np.array(["USD", "KRW"], dtype=object),
    )
    result = allocate(both, market, PLAIN)
    assert held(result, market, 0) == {"usd": 50}
    assert held(result, market, 1) == {"krw": 200_000}
    assert "at most 50% each" in result.message[0]


@pytest.mark.parametrize(
    ("market", "order", "binding", "message"),
    [
        (listings(), ("o", 100, 0.05), "listing_remaining", "No listing in USD is open tonight."),
        # A listing with less than a note left.
        (listings(("l", "a", 1, 0, 0.08, 0.01)), ("o", 100, 0.05), "listing_remaining", "has room for a note of 1 USD"),
        # Everything loses money: cash is better, whatever the target.
        (listings(("l", "a", 5, 100, -0.02, 0.4)), ("o", 100, -1.0), "listing_remaining", "expected to lose money"),
        # Smaller than a note, and one note would be over the cap.
        (RISKY_AND_SAFE, ("o", 0.5, 0.05), "note_amount", "0.50 USD is less than a note of 1 USD."),
        (RISKY_AND_SAFE, ("o", 1.5, 0.05), "note_amount", "an order needs 2 USD: this one has 1.50 USD."),
    ],
)
def test_nothing_to_place_is_unfilled_with_the_reason(market, order, binding, message):
    result = allocate(orders(order), market, PLAIN)
    assert len(result.order) == 0 and result.allocated[0] == 0
    assert (result.status[0], result.binding_constraint[0]) == ("unfilled", binding)
    assert message in result.message[0]
    assert np.isnan(result.expected_net_return[0])


def test_no_orders():
    result = allocate(orders(), RISKY_AND_SAFE, PLAIN)
    assert len(result.order) == len(result.status) == 0


def test_more_notes_than_fit_are_refused_by_name():
    market = listings(("l", "a", 1, 100_000_000, 0.08, 0.01))
    with pytest.raises(ValueError, match=r"raise allocation\.note_amount"):
        allocate(orders(("o", 100_000_000, 0.05)), market, PLAIN)


def test_one_listing_takes_its_cap_and_the_rest_is_said():
    result = allocate(orders(("o", 100.75, 0.05)), listings(("l", "a", 1, 1000, 0.08, 0.01)), PLAIN)
    assert result.allocated.tolist() == [50_00]
    assert result.message[0] == (
        "1 loan, expected to return 8.00% a year net; the target is 5.00%. "
        "50.75 USD is left: too few borrowers for at most 50% each."
    )


def test_million_in_a_market_of_thousands():
    market = listings(*((f"l{i}", f"g{i}", 1 + i % 5, 100 + i, 0.06 + i / 1000, 0.02) for i in range(50)))
    result = allocate(orders(("huge", 1_000_000, 0.07), ("small", 100, 0.07)), market, PLAIN)
    assert result.allocated.sum() == market.remaining.sum()
    assert result.binding_constraint.tolist() == ["listing_remaining"] * 2
    assert result.allocated[1] > 0  # pro rata: the small one is not crowded out


def test_target_below_zero_and_above_every_loan_are_answered():
    market = listings(*((f"l{i}", f"g{i}", 1, 1000, 0.05 + i / 100, 0.01 * i) for i in range(5)))
    result = allocate(orders(("low", 100, -0.3), ("high", 100, 4.0)), market, PLAIN)
    assert result.status.tolist() == ["on_target", "below_target"]
    assert set(held(result, market, 1)) == {"l3", "l4"}


@pytest.mark.parametrize(
    ("market", "order", "message"),
    [
        (listings(("l", "a", 1, 10, 0.08, 0.01), ("l", "b", 1, 10, 0.08, 0.01)), orders(("o", 10, 0.05)), "loan_id l stands 2"),
        (listings(("l", "a", 1, 10, 0.08, 0.01)), orders(("o", 10, 0.05), ("o", 10, 0.05)), "order_id o stands 2"),
        (listings(("l", "a", 1, 10, np.nan, 0.01)), orders(("o", 10, 0.05)), "expected_net_return"),
        (listings(("l", "a", 1, 10, 0.08, 0.01), prob_default=0.0), orders(("o", 10, 0.05)), "prob_default_lifetime must lie"),
        (listings(("l", "a", 1, 10, 0.08, 0.01), prob_default=1.1), orders(("o", 10, 0.05)), "prob_default_lifetime must lie"),
        (listings(("l", "a", 6, 10, 0.08, 0.01)), orders(("o", 10, 0.05)), "risk groups must be 1 to 5"),
        (listings(("l", "a", 1, 10, 0.08, 0.01)), orders(("o", 10, 0.05), currency="XXX"), "no note for XXX"),
    ],
)
def test_bad_input_is_refused_by_name(market, order, message):
    with pytest.raises(ValueError, match=message):
        allocate(order, market, PLAIN)


@st.composite
def markets(draw) -> tuple[Orders, Listings, Rules]:
    """Any small market: scarce or ample, with shared identity groups, odd amounts, tiny and absurd orders."""
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    many, loans = draw(st.integers(1, 12)), draw(st.integers(0, 30))
    probability = np.where(random.random(loans) < 0.1, random.integers(0, 2, loans), random.uniform(0, 0.3, loans))
    market = Listings(
        loan_id=random.permutation([f"l{i}" for i in range(loans)]).astype(object),
        identity_group_id=np.array([f"g{i}" for i in random.integers(0, max(1, loans), loans)], dtype=object),
        risk_group=random.integers(1, 6, loans),
        remaining=random.integers(0, draw(st.sampled_from([5_000, 100_000, 2_000_000])), loans),
        expected_net_return=random.uniform(-0.02, 0.25, loans),
        prob_default_lifetime=probability,
        expected_loss=probability * random.choice([0.1, 0.5, 0.9, 1.0], loans),
        currency=np.full(loans, "USD", dtype=object),
    )
    book = Orders(
        order_id=random.permutation([f"o{i}" for i in range(many)]).astype(object),
        amount=random.integers(1, draw(st.sampled_from([10_000, 500_000, 5_000_000])), many),
        target_return=np.round(random.choice([-0.1, 0.03, 0.08, 0.081, 0.12, 0.2, 5.0], many), 4),
        currency=np.full(many, "USD", dtype=object),
    )
    rules = Rules(
        note={"USD": draw(st.sampled_from([100, 2500]))},
        identity_group_cap=draw(st.sampled_from([0.05, 0.07, 0.3, 1.0])),
        risk_group_caps=draw(st.sampled_from([(1.0, 0.6, 0.4, 0.25, 0.1), (1.0,) * 5, (0.3, 0.0, 0.3, 0.1, 0.05)])),
        target_step=0.0025,
        correlation=DefaultCorrelation(
            draw(st.sampled_from([(0.12, 0.1, 0.06, 0.04, 0.03), (0.0,) * 5])), draw(st.sampled_from([0.0, 0.5, 1.0]))
        ),
        scenarios=100,
        evaluation_scenarios=100,
        solver_seconds=10,
    )
    return book, market, rules


@hypothesis_settings(max_examples=150, deadline=None)
@given(markets(), st.sampled_from([1, 2, order_notes.PART_ORDERS]))
def test_every_rule_holds_in_any_market(drawn, part_orders):
    book, market, rules = drawn
    result = allocate(book, market, rules, part_orders)
    assert 0 <= result.largest_gap <= 1e-4
    note = rules.note["USD"]
    # Whole notes, once per order and listing, of listings that are expected to earn.
    assert np.all(result.amount > 0) and np.all(result.amount % note == 0)
    pairs = list(zip(result.order.tolist(), result.listing.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    assert np.all(market.expected_net_return[result.listing] > 0)
    # No listing gives more than it has, and everything adds up to the cent.
    given_out = np.bincount(result.listing, result.amount, len(market.loan_id)).astype(np.int64)
    assert np.all(given_out <= market.remaining)
    np.testing.assert_array_equal(
        np.bincount(result.order, result.amount, len(book.order_id)).astype(np.int64), result.allocated
    )
    assert np.all((result.allocated >= 0) & (result.allocated <= book.amount))
    for order in range(len(book.order_id)):
        mine = result.order == order
        amount, listing = result.amount[mine], result.listing[mine]
        # Caps per identity group and risk group, as shares of the order's amount.
        for classes, cap_of in (
            (market.identity_group_id, lambda _: rules.identity_group_cap),
            (market.risk_group, lambda group: rules.risk_group_caps[group - 1]),
        ):
            for one in set(classes[listing]):
                assert amount[classes[listing] == one].sum() <= cap_of(one) * book.amount[order] + 1e-6
        # The summary tells the truth.
        assert result.loan_count[order] == len(listing)
        assert result.message[order]
        if len(listing) == 0:
            assert result.status[order] == "unfilled" and np.isnan(result.expected_net_return[order])
            assert np.isnan(result.cvar95[order]) and np.isnan(result.rounding_gap[order])
            assert result.binding_constraint[order]
            continue
        mean = amount @ market.expected_net_return[listing] / amount.sum()
        assert result.expected_net_return[order] == pytest.approx(mean)
        assert 0 <= result.cvar95[order] <= 1
        assert (result.status[order] == "on_target") == (mean >= book.target_return[order] - 1e-8)
        assert result.status[order] == "on_target" or result.binding_constraint[order]
        if book.amount[order] - result.allocated[order] >= note:
            assert result.binding_constraint[order]


@hypothesis_settings(max_examples=60, deadline=None)
@given(markets(), st.integers(0, 2**32 - 1), st.sampled_from([2, order_notes.PART_ORDERS]))
def test_order_of_the_input_does_not_matter(drawn, seed, part_orders):
    book, market, rules = drawn
    random = np.random.default_rng(seed)
    of_orders, of_listings = random.permutation(len(book.order_id)), random.permutation(len(market.loan_id))
    shuffled_book = Orders(*(getattr(book, field.name)[of_orders] for field in dataclasses.fields(Orders)))
    shuffled_market = Listings(*(getattr(market, field.name)[of_listings] for field in dataclasses.fields(Listings)))
    first, second = (
        allocate(*one, rules, part_orders) for one in ((book, market), (shuffled_book, shuffled_market))
    )

    def told(result, orders_in, listings_in):
        return list(zip(
            orders_in.order_id[result.order], listings_in.loan_id[result.listing], result.amount.tolist(), strict=True
        ))

    assert told(first, book, market) == told(second, shuffled_book, shuffled_market)
    assert first.message[of_orders].tolist() == second.message.tolist()
    assert first.status[of_orders].tolist() == second.status.tolist()
    np.testing.assert_array_equal(first.cvar95[of_orders], second.cvar95)
    np.testing.assert_allclose(first.rounding_gap[of_orders], second.rounding_gap, atol=1e-9)


@hypothesis_settings(max_examples=60, deadline=None)
@given(markets())
def test_no_room_is_left_that_an_order_could_still_use(drawn):
    """Money left over means that no open listing could still take a note of it under the order's caps; of books of one part,
    as others may leave a note in another part."""
    book, market, rules = drawn
    result = allocate(book, market, rules)
    note = rules.note["USD"]
    left = market.remaining - np.bincount(result.listing, result.amount, len(market.loan_id)).astype(np.int64)
    for order in range(len(book.order_id)):
        if book.amount[order] - result.allocated[order] < note:
            continue
        mine = result.order == order
        amount, listing = result.amount[mine], result.listing[mine]
        for candidate in np.flatnonzero((left >= note) & (market.expected_net_return > 0)):
            of_group = amount[market.identity_group_id[listing] == market.identity_group_id[candidate]].sum()
            of_risk = amount[market.risk_group[listing] == market.risk_group[candidate]].sum()
            assert (
                of_group + note > rules.identity_group_cap * book.amount[order] + 1e-6
                or of_risk + note > rules.risk_group_caps[market.risk_group[candidate] - 1] * book.amount[order] + 1e-6
            )


def test_parts_share_what_no_tier_has_taken():
    """Three orders that ask for all notes of three listings; rounding gives each of two parts its share of what is left."""
    market = listings(*((f"l{number}", f"g{number}", 1, 5, 0.08, 0.01) for number in range(3)))
    book = orders(("a", 5, 0.05), ("b", 5, 0.05), ("c", 5, 0.05))
    whole, parted = (allocate(book, market, dataclasses.replace(PLAIN, identity_group_cap=1.0), size) for size in (3, 2))
    assert whole.allocated.tolist() == parted.allocated.tolist() == [500, 500, 500]
    solved = allocation.solve(book, market, PLAIN, seed=7)
    part, = solved.parts
    for left in (np.array([7, 0, 1]), np.array([2, 3, 4])):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(order_notes, "PART_ORDERS", 1)
            empty = dataclasses.replace(part.market, notes=left)
            nothing = [dataclasses.replace(tier, solution=dataclasses.replace(tier.solution, notes=np.zeros(3))) for tier in part.tiers]
            parts = order_notes.parts_of(empty, nothing)
        assert len(parts) == 3
        np.testing.assert_array_equal(sum(one.left for one in parts), left)
        assert max(np.ptp([one.left[place] for one in parts]) for place in range(3)) <= 1
