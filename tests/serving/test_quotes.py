"""Standard orders scaled to an amount: whole notes, within the amount's own caps, and plain words where nothing answers."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from serving.quotes import NoQuote, chosen_point, quote, scaled, standard_order
from tests.published_night import DAY, make_batch, make_rows

NOTE = Decimal("25.00")
POINTS = make_rows(make_batch(DAY))["frontier"]
ROOMY = {group: 1.0 for group in range(1, 6)}


def holding(loan_id: str, notes: int, party: str | None = None, risk_group: int = 1, net_return: float = 0.07) -> dict:
    return {
        "loan_id": loan_id, "borrower_id": f"b-{loan_id}", "identity_group_id": party or f"g-{loan_id}", "risk_group": risk_group,
        "amount": notes * NOTE, "expected_net_return": net_return, "expected_loss": 0.03,
    }


@pytest.mark.parametrize(
    ("amount", "target", "point"),
    [
        ("250", 0.06, 1), ("250", -0.5, 1), ("250", 0.0601, 2), ("250", 0.07 + 1e-9, 2),
        # Between two sizes it is the larger; a target between two is rounded up.
        ("250.01", 0.06, 3), ("1000", 0.0, 3),
        # Too small, too large, too much to ask for.
        ("249.99", 0.06, None), ("1000.01", 0.06, None), ("250", 0.071, None), ("300", 0.071, None),
    ],
)
def test_the_next_larger_standard_order_answers(amount, target, point):
    assert chosen_point(POINTS, Decimal(amount), target) == point


@pytest.mark.parametrize(
    ("points", "amount", "target", "words"),
    [
        ([], "250", 0.06, "nothing that may be bought is left after that night's orders"),
        (POINTS, "100", 0.06, "with notes of 25 USD and at most 10% per borrower an order needs 250 USD: this one has 100 USD"),
        (POINTS, "1000.50", 0.06, "left is one of 1000 USD: this one has 1000.50 USD"),
        (POINTS, "300", 0.0825, "8.25% a year is out of reach for an order of up to 1000 USD: With at most 10% per borrower, 7.00% is"),
    ],
)
def test_what_nothing_answers_is_said_with_what_would(points, amount, target, words):
    with pytest.raises(NoQuote) as refused:
        standard_order(points, Decimal(amount), target)
    assert words in str(refused.value)


def test_a_scaled_order_adds_up_to_the_cent():
    # Of 40 notes, 4 each of ten loans; 510.50 is 20 notes: 2 of each, which is all that 10% per borrower leaves.
    loans = [holding(f"l{number}", 4, risk_group=1 + number % 2, net_return=0.05 + number / 100) for number in range(10)]
    point = POINTS[2] | {"allocated_amount": Decimal("1000.00")}
    told = quote([*POINTS[:2], point], loans, ROOMY, Decimal("510.50"), 0.07)
    assert [(one.amount, one.weight) for one in told.holdings] == [(2 * NOTE, pytest.approx(50 / 510.5))] * 10
    assert (told.allocated_amount, told.unallocated_amount) == (Decimal("500.00"), Decimal("10.50"))
    assert told.expected_net_return == pytest.approx(0.095) and told.status == "on_target"
    # 250 at 7% has a tail of .4, 1,000 one of .2: who holds fewer loans than the larger is told the worse.
    assert told.cvar95 == 0.4
    assert told.message == (
        "10 loans, expected to return 9.50% a year net; the target is 7.00%. 10.50 USD is left: less than a note of 25 USD."
    )


def test_a_target_that_whole_notes_miss_is_said():
    loans = [holding("low", 21, net_return=0.06), holding("high", 19, net_return=0.08, risk_group=2)]
    point = POINTS[2] | {"identity_group_cap": 1.0, "target_return": 0.0695}
    told = quote([point], loans, ROOMY, Decimal("1000"), 0.0695)
    assert told.status == "on_target" and told.expected_net_return == pytest.approx(0.0695)
    told = quote([point | {"amount": Decimal("100"), "identity_group_cap": 1.0}, point], loans, ROOMY, Decimal("125"), 0.0695)
    # 5 notes: 2.6 and 2.4 become 3 and 2.
    assert (told.status, told.expected_net_return) == ("below_target", pytest.approx(0.068))
    assert "in whole notes of 25 USD this is as near as the portfolio of an order of 1000 USD comes to the target of 6.95%" in told.message


@hypothesis_settings(max_examples=100, deadline=None)
@given(
    loans=st.lists(st.tuples(st.integers(1, 40), st.integers(0, 5), st.integers(1, 3)), min_size=1, max_size=30),
    share=st.floats(0.01, 1.0), cap=st.sampled_from([0.05, 0.3, 1.0]), unplaced=st.integers(0, 50),
)
def test_scaling_keeps_every_cap_and_loses_no_note_that_has_room(loans, share, cap, unplaced):
    rows = [holding(f"l{number}", notes, f"g{party}", group) for number, (notes, party, group) in enumerate(loans)]
    of_notes = sum(notes for notes, _, _ in loans) + unplaced
    notes, party_cap = max(1, int(share * of_notes)), int(cap * share * of_notes)
    risk_caps = {1: notes, 2: notes // 2, 3: notes // 3}
    taken = scaled(rows, NOTE, notes, of_notes, party_cap, risk_caps)

    def given_to(name: str, value: object) -> int:
        return sum(count for row, count in zip(rows, taken, strict=True) if row[name] == value)

    assert all(0 <= count <= row["amount"] / NOTE for row, count in zip(rows, taken, strict=True))
    assert all(given_to("identity_group_id", row["identity_group_id"]) <= party_cap for row in rows)
    assert all(given_to("risk_group", group) <= most for group, most in risk_caps.items())
    wanted = round((of_notes - unplaced) * notes / of_notes)
    assert sum(taken) <= wanted + 1
    if sum(taken) < wanted - 1:
        for row, count in zip(rows, taken, strict=True):
            assert (
                count == row["amount"] / NOTE
                or given_to("identity_group_id", row["identity_group_id"]) == party_cap
                or given_to("risk_group", row["risk_group"]) == risk_caps[row["risk_group"]]
            )


def test_an_order_of_the_standard_size_gets_the_standard_portfolio():
    rows = [holding("a", 3), holding("b", 1, risk_group=2), holding("c", 7, risk_group=3)]
    assert scaled(rows, NOTE, 40, 40, 7, dict.fromkeys(range(1, 6), 40)) == [3, 1, 7]
