"""What orders own before tonight, and what room that leaves them under their caps. NumPy, no Spark.

An order is an instruction to keep its amount at work: what it owns counts, repaid and defaulted principal does not.
Caps are shares of an order's amount and hold for what it owns and what it buys together; what is over a cap is kept, and
nothing more of that party or risk group is bought. Where an investor owns a party's loans through several orders, that
party's cap also holds for them together: a share of the amounts of the investor's open orders and of what the closed
ones still own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.whole_notes import apportion


@dataclass(frozen=True)
class OwnedParties:
    """What investors own of parties that may be bought tonight, one element per order and identity group.

    order: position of an open order, -1 for one that is closed; investor: id; principal: outstanding, minor units.
    """

    order: np.ndarray
    investor: np.ndarray
    identity_group_id: np.ndarray
    principal: np.ndarray
    currency: np.ndarray


@dataclass(frozen=True)
class Owned:
    """What each open order owns before tonight, in the orders' order; principal outstanding in minor units.

    investor: whose order it is; net_return: mean expected net return as it was bought, weighted by principal, 0 where
    nothing is owned; of_risk_groups: principal, shape (orders, risk groups); closed: what the investor's closed orders own.
    """

    investor: np.ndarray
    principal: np.ndarray
    net_return: np.ndarray
    loans: np.ndarray
    of_risk_groups: np.ndarray
    closed: np.ndarray
    parties: OwnedParties

    @staticmethod
    def nothing(order_id: np.ndarray, risk_groups: int) -> Owned:
        """Orders of as many investors that own nothing."""
        zero, empty = np.zeros(len(order_id), dtype=np.int64), np.zeros(0, dtype=np.int64)
        none = OwnedParties(empty, empty.astype(object), empty.astype(object), empty, empty.astype(object))
        return Owned(
            np.asarray(order_id, dtype=object), zero, zero.astype(float), zero, np.zeros((len(zero), risk_groups), dtype=np.int64),
            zero, none,
        )


def whole_notes_of(share: float, amount: np.ndarray, owned: np.ndarray, note: int) -> np.ndarray:
    """Whole notes that fit under a share of an amount beside what is owned; 0 where that is over it already."""
    # A share of an amount that is a whole number of notes must not lose one to binary fractions.
    return np.floor(np.clip(share * amount - owned, 0, None) / note + 1e-9).astype(np.int64)


def target_of_new_money(target: np.ndarray, principal: np.ndarray, net_return: np.ndarray, new: np.ndarray) -> np.ndarray:
    """What the new money must return for old and new together to return the target; the target where there is no new."""
    topped_up, needed = (new > 0) & (principal > 0), np.array(target, dtype=float)
    old, more = principal[topped_up], new[topped_up]
    needed[topped_up] = (needed[topped_up] * (old + more) - old * net_return[topped_up]) / more
    return needed


def party_rooms(
    owned: Owned, orders: np.ndarray, amount: np.ndarray, party_of_listing: np.ndarray, currency: str, cap: float, note: int
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Room, in notes, for parties of which something is owned: by rank in orders, codes of parties (ascending) and rooms.

    orders: positions of the currency's orders; amount: of these, minor units; party_of_listing: identity group id of
    each listing, whose sorted distinct values the codes count. A party that is not told has the order's whole cap as
    room: nothing is owned of it, and then the investor's cap follows from the orders'.
    """
    codes_of = np.unique(party_of_listing.astype(str))
    theirs = owned.parties
    code = np.searchsorted(codes_of, theirs.identity_group_id.astype(str))
    known = np.flatnonzero(
        (theirs.currency == currency) & np.isin(theirs.identity_group_id.astype(str), codes_of)
    )
    if len(known) == 0:
        return {}
    rank_of_position = np.full(len(owned.principal), -1)
    rank_of_position[orders] = np.arange(len(orders))
    # Pairs of investor and party, and everything that the investor owns of it.
    investors, investor = np.unique(np.concatenate([theirs.investor[known], owned.investor[orders]]).astype(str), return_inverse=True)
    of_known, of_order = investor[: len(known)], investor[len(known) :]
    pair, pair_of_known = np.unique(of_known * len(codes_of) + code[known], return_inverse=True)
    pair_investor, pair_code = pair // len(codes_of), pair % len(codes_of)
    owned_of_pair = np.bincount(pair_of_known, theirs.principal[known], len(pair))
    money = np.bincount(of_order, amount, len(investors))
    closed = np.zeros(len(investors))
    closed[of_order] = owned.closed[orders]
    most_of_pair = whole_notes_of(cap, (money + closed)[pair_investor], owned_of_pair, note)

    # Each pair with each of the investor's open orders.
    by_investor = np.argsort(of_order, kind="stable")
    count = np.bincount(of_order, minlength=len(investors))
    first = np.cumsum(count) - count
    row_pair = np.repeat(np.arange(len(pair)), count[pair_investor])
    within = np.arange(len(row_pair)) - np.repeat(np.cumsum(count[pair_investor]) - count[pair_investor], count[pair_investor])
    rank = by_investor[first[pair_investor[row_pair]] + within]
    own = np.zeros(len(row_pair), dtype=np.int64)
    if len(row_pair):
        open_rows = known[theirs.order[known] >= 0]
        key, inverse = np.unique(rank_of_position[theirs.order[open_rows]] * len(codes_of) + code[open_rows], return_inverse=True)
        sums = np.bincount(inverse, theirs.principal[open_rows], len(key)).astype(np.int64)
        wanted = rank * len(codes_of) + pair_code[row_pair]
        at = np.minimum(np.searchsorted(key, wanted), max(len(key) - 1, 0))
        if len(key):
            own = np.where(key[at] == wanted, sums[at], 0)
    rooms = whole_notes_of(cap, amount[rank], own, note)
    together = np.bincount(row_pair, rooms, len(pair)).astype(np.int64)
    for tight in np.flatnonzero(together > most_of_pair):
        rows = np.flatnonzero(row_pair == tight)
        most = int(most_of_pair[tight])
        rooms[rows] = apportion(most, most * rooms[rows] / together[tight], rooms[rows])
    by_rank = np.lexsort((pair_code[row_pair], rank))
    starts = np.flatnonzero(np.diff(rank[by_rank], prepend=-1))
    return {
        int(rank[rows[0]]): (pair_code[row_pair[rows]], rooms[rows])
        for rows in np.split(by_rank, starts[1:]) if len(rows)
    }
