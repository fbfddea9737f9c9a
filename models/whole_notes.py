"""From a tier's fractional amounts to whole notes per order, exactly: integers only, nothing over a cap or a remainder.

Three steps. Rounding: the tier's amounts, along the listings sorted by risk group and return, become whole notes by
systematic rounding, so that every stretch of the list keeps its total to within one note. Dealing: each order draws
its notes at even spacing along the same list, so its mix of risk groups and returns is the tier's. Repair: notes that
break an order's own caps go back, missing notes are filled in the order of price, and an order that rounding has put
below its target swaps single notes with what is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# Fractional parts of multiples of these spread evenly (the golden ratio and the plastic number; Roberts 2018).
GOLDEN = 0.6180339887498949
PLASTIC = 0.7548776662466927
MAX_SWAPS = 200


@dataclass
class Stock:
    """Listings as arrays: what is left in notes (changed as notes are given out), and what a note is worth."""

    notes: np.ndarray
    expected_net_return: np.ndarray
    group: np.ndarray
    risk_group: np.ndarray


@dataclass(frozen=True)
class OrderLimits:
    """Per order, in notes to buy: in all, per identity group, and per risk group (orders, risk groups).

    target_return: of the notes to buy; owns: whether the order owns something before. party_rooms: by order, ascending
    identity groups and the notes that it may buy of each, where that is not group_cap.
    """

    notes: np.ndarray
    group_cap: np.ndarray
    risk_caps: np.ndarray
    target_return: np.ndarray
    owns: np.ndarray
    party_rooms: Mapping[int, tuple[np.ndarray, np.ndarray]]

    def group_caps(self, order: int, groups: np.ndarray) -> np.ndarray:
        """Notes that an order may buy of each of these identity groups."""
        caps = np.full(len(groups), self.group_cap[order])
        if order in self.party_rooms:
            known, rooms = self.party_rooms[order]
            at = np.minimum(np.searchsorted(known, groups), len(known) - 1)
            caps = np.where(known[at] == groups, rooms[at], caps)
        return caps


def apportion(total: int, shares: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Whole numbers near shares that add up to total (or to the sum of limits), none above its limit.

    Largest remainder (Hamilton's method); ties go to the earlier element.
    """
    parts = np.minimum(np.floor(shares + 1e-9).astype(np.int64), limits)
    while (missing := int(min(total, limits.sum()) - parts.sum())) > 0:
        by_remainder = np.argsort(-(shares - parts), kind="stable")
        open_parts = by_remainder[parts[by_remainder] < limits[by_remainder]][:missing]
        parts[open_parts] += 1
    while (excess := int(parts.sum() - total)) > 0:
        by_remainder = np.argsort(shares - parts, kind="stable")
        parts[by_remainder[parts[by_remainder] > 0][:excess]] -= 1
    return parts


def round_systematically(amounts: np.ndarray, total: int, offset: float) -> np.ndarray:
    """Whole notes that add up to total, in proportion to amounts; every prefix is within one of its exact share."""
    if total == 0 or amounts.sum() <= 0:
        return np.zeros(len(amounts), dtype=np.int64)
    ends = np.cumsum(amounts)
    ends = ends / ends[-1] * total
    ends[-1] = total
    # At the end of the list offset alone is left over: the sum is total whatever the offset in [0, 1).
    marks = np.floor(ends + offset).astype(np.int64)
    # A list that ends in zeros reaches its full sum before its end, up to rounding of the sum.
    return np.diff(np.minimum(marks, total), prepend=0)


def deal(listing_notes: np.ndarray, order_notes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the listings' notes, in their order, to orders at even spacing: order, listing (positions) and notes.

    Where there are fewer notes than the orders ask for, every order goes short along the whole list alike.
    """
    order = np.repeat(np.arange(len(order_notes)), order_notes)
    draw = np.arange(len(order)) - np.repeat(np.cumsum(order_notes) - order_notes, order_notes)
    jitter = ((order + 1) * GOLDEN + draw * PLASTIC) % 1.0
    queue = order[np.argsort((draw + jitter) / order_notes[order], kind="stable")]
    listing = np.repeat(np.arange(len(listing_notes)), listing_notes)
    taken = min(len(queue), len(listing))
    if taken == 0:
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, nothing, nothing
    served = ((np.arange(taken) * 2 + 1) * len(queue)) // (2 * taken)
    given = ((np.arange(taken) * 2 + 1) * len(listing)) // (2 * taken)
    pair, notes = np.unique(queue[served] * len(listing_notes) + listing[given], return_counts=True)
    return pair // len(listing_notes), pair % len(listing_notes), notes


def clip_by_class(wanted: np.ndarray, classes: np.ndarray, room: np.ndarray) -> np.ndarray:
    """wanted, cut so that each class stays within its room; earlier elements are served first."""
    by_class = np.argsort(classes, kind="stable")
    ordered = wanted[by_class]
    total = np.cumsum(ordered)
    first = np.searchsorted(classes[by_class], classes[by_class], side="left")
    before = total - ordered - (total[first] - ordered[first])
    clipped = np.empty_like(wanted)
    clipped[by_class] = np.clip(room[classes[by_class]] - before, 0, ordered)
    return clipped


@dataclass
class Holding:
    """One order's notes while they are repaired: listing positions with notes, dense over all listings."""

    notes: np.ndarray
    group_notes: np.ndarray
    risk_notes: np.ndarray

    @staticmethod
    def of(stock: Stock, listing: np.ndarray, notes: np.ndarray, risk_groups: int) -> Holding:
        dense = np.bincount(listing, notes, len(stock.notes)).astype(np.int64)
        return Holding(
            dense,
            np.bincount(stock.group[listing], notes, stock.group.max(initial=0) + 1).astype(np.int64),
            np.bincount(stock.risk_group[listing] - 1, notes, risk_groups).astype(np.int64),
        )

    def move(self, stock: Stock, listing: int | np.ndarray, notes: int | np.ndarray) -> None:
        """Take notes (back, where negative) from the stock; listings stand once in an array."""
        self.notes[listing] += notes
        stock.notes[listing] -= notes
        np.add.at(self.group_notes, stock.group[listing], notes)
        np.add.at(self.risk_notes, stock.risk_group[listing] - 1, notes)


def give_back_excess(
    stock: Stock, holding: Holding, group_caps: np.ndarray, risk_caps: np.ndarray, price: np.ndarray
) -> None:
    """Return the notes over a cap, of identity groups and of risk groups, to the stock, dearest first."""
    held = np.flatnonzero(holding.notes)
    held = held[np.argsort(price[held], kind="stable")]
    kept = clip_by_class(holding.notes[held], stock.group[held], group_caps)
    kept = clip_by_class(kept, stock.risk_group[held] - 1, risk_caps)
    holding.move(stock, held, kept - holding.notes[held])


def fill(
    stock: Stock, holding: Holding, missing: int, group_caps: np.ndarray, risk_caps: np.ndarray, by_price: np.ndarray
) -> None:
    """Add up to missing notes, cheapest listings first, widely before deeply."""
    most_each = 1
    while missing > 0:
        open_groups = group_caps > holding.group_notes
        open_risk_groups = risk_caps > holding.risk_notes
        open_listings = (
            (stock.notes[by_price] > 0)
            & open_groups[stock.group[by_price]]
            & open_risk_groups[stock.risk_group[by_price] - 1]
        )
        candidates = by_price[open_listings][:missing]
        if len(candidates) == 0:
            return
        wanted = np.minimum(stock.notes[candidates], most_each)
        wanted = clip_by_class(wanted, stock.group[candidates], group_caps - holding.group_notes)
        wanted = clip_by_class(wanted, stock.risk_group[candidates] - 1, risk_caps - holding.risk_notes)
        wanted = clip_by_class(wanted, np.zeros(len(wanted), dtype=np.int64), np.array([missing]))
        holding.move(stock, candidates, wanted)
        missing -= int(wanted.sum())
        most_each *= 2


def swap_to_target(
    stock: Stock, holding: Holding, target: float, group_caps: np.ndarray, risk_caps: np.ndarray, risk: np.ndarray
) -> None:
    """Exchange single notes with the stock until the mean return reaches the target or nothing better is left.

    Each exchange gives up the note of lowest return for the one of lowest risk that closes the gap, else for
    the one of highest return.
    """
    returns = stock.expected_net_return
    for _ in range(MAX_SWAPS):
        gap = target * holding.notes.sum() - holding.notes @ returns
        if gap <= 1e-12 * max(1, holding.notes.sum()):
            return
        held = np.flatnonzero(holding.notes)
        given_up = held[np.argmin(returns[held])]
        holding.move(stock, given_up, -1)
        allowed = (
            (stock.notes > 0)
            & (holding.group_notes[stock.group] < group_caps[stock.group])
            & (holding.risk_notes[stock.risk_group - 1] < risk_caps[stock.risk_group - 1])
        )
        closing = np.flatnonzero(allowed & (returns >= returns[given_up] + gap))
        if len(closing):
            taken = closing[np.argmin(risk[closing])]
        else:
            taken = int(np.argmax(np.where(allowed, returns, -np.inf)))
        if returns[taken] <= returns[given_up] + 1e-12:
            holding.move(stock, given_up, 1)
            return
        holding.move(stock, taken, 1)
