"""Why an order gets a listing tonight, or does not. NumPy, no Spark."""

from __future__ import annotations

import numpy as np

from models.allocation import BELOW_TARGET, Allocation, Listings, Orders, Rules
from models.owned import Owned, party_rooms, whole_notes_of

REASONS = {
    "bought": "bought",
    "return_too_low": "it is expected to lose money, or to return less than all that an order short of its target buys",
    "nothing_left": "less than a note is left of it, after others and tonight's orders",
    "party_at_cap": "the order, or all orders of its investor, own as much of this party as the cap allows",
    "risk_group_at_cap": "the order owns as much of this risk group as the cap of the night allows",
    "nothing_to_invest": "the order has no whole note to invest",
    "not_needed": "what is bought reaches the target, or comes nearest, at less loss in the tail",
    "other_currency": "it is in another currency than the order",
}


def purchase_reasons(
    order: int, result: Allocation, orders: Orders, listings: Listings, rules: Rules, owned: Owned
) -> tuple[np.ndarray, np.ndarray]:
    """Of each listing what the order (a position) buys, in minor units, and the reason, one of REASONS.

    result: of ``models.allocation.allocate`` with the same input. Of several reasons the first that holds, as they are
    asked for below.
    """
    currency, amount = str(orders.currency[order]), int(orders.amount[order])
    note, mine = rules.note[currency], result.order == order
    bought = np.bincount(result.listing[mine], result.amount[mine], len(listings.loan_id)).astype(np.int64)
    given = np.bincount(result.listing, result.amount, len(listings.loan_id)).astype(np.int64)

    party = np.unique(listings.identity_group_id.astype(str), return_inverse=True)[1]
    book = np.flatnonzero(orders.currency == orders.currency[order])
    rooms = party_rooms(
        owned, book, orders.amount[book], listings.identity_group_id, currency, rules.identity_group_cap, note
    )
    of_party = np.full(party.max(initial=-1) + 1, whole_notes_of(rules.identity_group_cap, np.array(amount), np.array(0), note))
    codes, room = rooms.get(int(np.searchsorted(book, order)), (np.zeros(0, dtype=int), np.zeros(0, dtype=int)))
    of_party[codes] = room
    of_risk_group = np.array([
        whole_notes_of(cap, np.array(amount), owned.of_risk_groups[order, group], note)
        for group, cap in enumerate(rules.risk_group_caps)
    ])
    notes = bought // note
    party_full = np.bincount(party, notes, len(of_party)) >= of_party
    risk_group_full = np.bincount(listings.risk_group - 1, notes, len(of_risk_group)) >= of_risk_group
    least = listings.expected_net_return[bought > 0].min(initial=np.inf)
    short = result.status[order] == BELOW_TARGET and bool(mine.any())
    reason = np.select(
        [
            bought > 0,
            listings.currency != orders.currency[order],
            listings.expected_net_return <= 0,
            listings.remaining - given < note,
            np.full(len(party), amount - owned.principal[order] < note),
            party_full[party],
            risk_group_full[listings.risk_group - 1],
            short & (listings.expected_net_return < least),
        ],
        [
            "bought", "other_currency", "return_too_low", "nothing_left", "nothing_to_invest", "party_at_cap",
            "risk_group_at_cap", "return_too_low",
        ],
        "not_needed",
    )
    return bought, reason
