"""What an order would get tonight: the portfolio of a published standard order, scaled to the amount in whole notes.

The standard order is the smallest that is no smaller than the amount, at the lowest of its targets that is no lower than
the one asked for. Its loans are looked up; what is worked out here is only how many notes of each make up the amount.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from decimal import Decimal

from serving.answers import Holding, Quote
from serving.reader import Row

# As the allocation sees it: a return this close to the target has reached it.
RETURN_TOLERANCE = 1e-8


class NoQuote(LookupError):
    """Nothing that is published answers; the message says what would."""


def chosen_point(points: Sequence[Row], amount: Decimal, target_return: float) -> int | None:
    """The number of the standard order that answers, None where none does."""
    with suppress(NoQuote):
        return standard_order(points, amount, target_return)["point"]
    return None


def standard_order(points: Sequence[Row], amount: Decimal, target_return: float) -> Row:
    """The standard order that answers; points: of one currency, by amount and target.

    Raises NoQuote where the amount is smaller or larger than any, or no target of its size is as high.
    """
    if not points:
        raise NoQuote("nothing that may be bought is left after that night's orders")
    least, largest = points[0], points[-1]
    if amount < least["amount"]:
        raise NoQuote(
            f"with notes of {money(least['note_amount'], least)} and at most {least['identity_group_cap'] * 100:g}% per borrower "
            f"an order needs {money(least['amount'], least)}: this one has {money(amount, least)}"
        )
    if amount > largest["amount"]:
        raise NoQuote(
            f"the largest order that was tried on what that night's orders left is one of {money(largest['amount'], largest)}: "
            f"this one has {money(amount, largest)}"
        )
    size = min(point["amount"] for point in points if point["amount"] >= amount)
    of_size = [point for point in points if point["amount"] == size]
    if target_return > of_size[-1]["target_return"] + RETURN_TOLERANCE:
        raise NoQuote(
            f"{target_return:.2%} a year is out of reach for an order of up to {money(size, largest)}: {of_size[-1]['message']}"
        )
    return _first_reaching(of_size, target_return)


def _first_reaching(points: Sequence[Row], target_return: float) -> Row:
    """Of one size by target: the first that is high enough, else the last."""
    return next((point for point in points if point["target_return"] >= target_return - RETURN_TOLERANCE), points[-1])


def quote(
    points: Sequence[Row], holdings: Sequence[Row], caps: Mapping[int, float], amount: Decimal, target_return: float
) -> Quote:
    """The answer out of the standard order's holdings and the caps per risk group (shares of an order).

    The tail loss is the larger one of the standard orders around the amount: a smaller order spreads over fewer loans.
    Raises NoQuote as ``standard_order`` does.
    """
    point = standard_order(points, amount, target_return)
    note = point["note_amount"]
    share = float(amount / note)
    by_kind = sorted(holdings, key=lambda row: (row["risk_group"], row["expected_net_return"], row["loan_id"]))
    notes = scaled(
        by_kind, note, int(amount // note), int(point["amount"] // note),
        # A share that is a whole number of notes must not lose one to binary fractions.
        int(point["identity_group_cap"] * share + 1e-9), {group: int(cap * share + 1e-9) for group, cap in caps.items()},
    )
    held = sorted(
        ((row, count) for row, count in zip(by_kind, notes, strict=True) if count), key=lambda one: (-one[1], one[0]["loan_id"])
    )
    total = sum(notes)
    if total == 0:
        raise NoQuote(f"none of the notes of an order of {money(point['amount'], point)} is left for one of {money(amount, point)}")
    net_return, loss = (
        round(sum(count * row[name] for row, count in held) / total, 10) for name in ("expected_net_return", "expected_loss")
    )
    reached = net_return >= target_return - RETURN_TOLERANCE
    smaller = max(one["amount"] for one in points if one["amount"] <= amount)
    below = _first_reaching([one for one in points if one["amount"] == smaller], target_return)
    return Quote(
        as_of_date=point["as_of_date"], currency=point["currency"], amount=amount, target_return=target_return,
        allocated_amount=total * note, unallocated_amount=amount - total * note, expected_net_return=net_return,
        expected_loss=loss, cvar95=max(point["cvar95"], below["cvar95"]), loan_count=len(held),
        status="on_target" if reached else "below_target",
        message=_told(point, len(held), net_return, target_return, reached) + _left_over(point, amount - total * note),
        standard_amount=point["amount"], standard_target_return=point["target_return"], batch_id=point["batch_id"],
        holdings=[
            Holding(
                loan_id=row["loan_id"], borrower_id=row["borrower_id"], identity_group_id=row["identity_group_id"],
                risk_group=row["risk_group"], amount=count * note, weight=round(float(count * note / amount), 10),
                expected_net_return=row["expected_net_return"],
            )
            for row, count in held
        ],
    )


def scaled(
    holdings: Sequence[Row], note: Decimal, notes: int, of_notes: int, party_cap: int, risk_caps: Mapping[int, int]
) -> list[int]:
    """Notes of each holding when an order of of_notes is scaled to one of notes, within the smaller one's own caps.

    Systematic: every stretch of the holdings keeps its share to within a note. What a cap refuses goes to the next in the
    list, in the end to whoever has room.
    """
    held = [int(row["amount"] // note) for row in holdings]
    taken = [0] * len(held)
    party_room, risk_room = {row["identity_group_id"]: party_cap for row in holdings}, dict(risk_caps)
    given = seen = 0

    def take(position: int, wanted: int) -> int:
        party, group = holdings[position]["identity_group_id"], holdings[position]["risk_group"]
        count = max(0, min(wanted, held[position] - taken[position], party_room[party], risk_room[group]))
        taken[position] += count
        party_room[party] -= count
        risk_room[group] -= count
        return count

    for position, of_holding in enumerate(held):
        seen += of_holding
        given += take(position, (2 * seen * notes + of_notes) // (2 * of_notes) - given)
    for position in range(len(held)):
        given += take(position, (2 * seen * notes + of_notes) // (2 * of_notes) - given)
    return taken


def money(amount: Decimal, point: Row) -> str:
    """An amount in words, without cents where there are none."""
    return f"{amount.quantize(Decimal(1)) if amount == amount.to_integral_value() else amount} {point['currency']}"


def _told(point: Row, loans: int, net_return: float, target_return: float, reached: bool) -> str:
    held = f"{loans} {'loan' if loans == 1 else 'loans'}, expected to return {net_return:.2%} a year net"
    if reached:
        return f"{held}; the target is {target_return:.2%}."
    return (
        f"{held}; in whole notes of {money(point['note_amount'], point)} this is as near as the portfolio of an order of "
        f"{money(point['amount'], point)} comes to the target of {target_return:.2%}."
    )


def _left_over(point: Row, left: Decimal) -> str:
    if left == 0:
        return ""
    if left < point["note_amount"]:
        return f" {money(left, point)} is left: less than a note of {money(point['note_amount'], point)}."
    return f" {money(left, point)} is left: the caps and what is open tonight leave no room for it."
