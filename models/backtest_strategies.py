"""What each strategy would have bought of one month's listings: whole notes, the same money for all. NumPy and pandas.

A month's listings are a frame with one row per loan: loan_id, identity_group_id, risk_group, notes (whole ones that the loan
has room for), interest_rate, term_months, grade, prob_default_lifetime, expected_loss and expected_net_return, sorted by
loan_id so that the order of the input plays no part. Every function returns notes per listing, in the frame's order.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from models.allocation import Listings, Orders, Rules, allocate
from models.whole_notes import apportion

EQUAL, BY_VOLUME, MOSAIC, MATCHED = "equal", "by_volume", "mosaic", "mosaic_matched"
GRADES = "ABCDEFG"
# Of one order: an investor of 2,500 dollars in notes of 25, as many of them as a month's money makes.
ORDER_NOTES = 100
_CURRENCY = "USD"


def level_shares(weights: np.ndarray, room: np.ndarray, notes: int) -> np.ndarray:
    """Notes in proportion to positive weights, none beyond its room: what overflows goes to the others by the same weights."""
    full_at = room / weights
    by_level = np.argsort(full_at, kind="stable")
    filled, rising = np.cumsum(room[by_level]), np.cumsum(weights[by_level][::-1])[::-1]
    # Notes placed when the level reaches the point at which each listing is full, in rising order.
    placed = filled - room[by_level] + full_at[by_level] * rising
    first = min(int(np.searchsorted(placed, notes)), len(room) - 1)
    level = (notes - (filled[first] - room[by_level[first]])) / rising[first]
    return apportion(notes, np.minimum(room, level * weights), room)


def in_order(by_rank: np.ndarray, room: np.ndarray, notes: int) -> np.ndarray:
    """Whole listings by rank until the notes are placed."""
    taken = np.zeros(len(room), dtype=np.int64)
    before = np.cumsum(room[by_rank]) - room[by_rank]
    taken[by_rank] = np.clip(notes - before, 0, room[by_rank])
    return taken


def naive_picks(listings: pd.DataFrame, notes: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """What those without an allocation would have bought.

    random: whole listings as drawn; equal: the same of every listing, by_volume: of each in proportion to its amount,
    by_grade: in proportion to 7 for grade A to 1 for G, left out where a grade is missing; the others take whole listings, best first, ties by loan_id.
    """
    room, ones = listings["notes"].to_numpy(np.int64), np.ones(len(listings))
    of_grade = listings["grade"].map({grade: len(GRADES) - rank for rank, grade in enumerate(GRADES)}).to_numpy(float)

    def best(value: pd.Series) -> np.ndarray:
        return in_order(np.argsort(value.to_numpy(float), kind="stable"), room, notes)

    graded = {} if np.isnan(of_grade).any() else {"by_grade": level_shares(of_grade, room, notes)}
    return {
        "random": in_order(random.permutation(len(room)), room, notes),
        EQUAL: level_shares(ones, room, notes),
        BY_VOLUME: level_shares(room.astype(float), room, notes),
        **graded,
        "lowest_rate": best(listings["interest_rate"]),
        "lowest_pd": best(listings["prob_default_lifetime"]),
        "highest_return": best(-listings["expected_net_return"]),
    }


def allocated_notes(
    listings: pd.DataFrame, notes: int, target_return: float, rules: Rules, seed: int, like: np.ndarray | None = None
) -> np.ndarray:
    """What the product's allocation buys for equal orders of some ORDER_NOTES notes that add up to so many.

    like: notes of another portfolio whose average interest rate and mix of terms this one must have; None for any.
    """
    note = rules.note[_CURRENCY]
    count = len(listings)
    market = Listings(
        loan_id=listings["loan_id"].to_numpy(object),
        identity_group_id=listings["identity_group_id"].to_numpy(object),
        risk_group=listings["risk_group"].to_numpy(int),
        remaining=listings["notes"].to_numpy(np.int64) * note,
        expected_net_return=listings["expected_net_return"].to_numpy(float),
        prob_default_lifetime=listings["prob_default_lifetime"].to_numpy(float),
        expected_loss=listings["expected_loss"].to_numpy(float),
        currency=np.full(count, _CURRENCY, dtype=object),
    )
    investors = max(1, notes // ORDER_NOTES)
    each, larger = divmod(notes, investors)
    orders = Orders(
        order_id=np.arange(investors), amount=(each + (np.arange(investors) < larger)) * note,
        target_return=np.full(investors, target_return), currency=np.full(investors, _CURRENCY, dtype=object),
    )
    balance = None if like is None else characteristics(listings) - mix(listings, like)[:, None]
    found = allocate(orders, market, rules, seed, balance=balance)
    return np.rint(np.bincount(found.listing, found.amount // note, count)).astype(np.int64)


def characteristics(listings: pd.DataFrame) -> np.ndarray:
    """Interest rate, and 1 for each term but the shortest: shape (characteristics, listings)."""
    term = listings["term_months"].to_numpy(int)
    return np.vstack([listings["interest_rate"].to_numpy(float), *(term == one for one in np.unique(term)[1:])]).astype(float)


def mix(listings: pd.DataFrame, notes: np.ndarray) -> np.ndarray:
    """Mean characteristics of a portfolio, weighted by notes."""
    return characteristics(listings) @ notes / notes.sum()


def best_half_within(listings: pd.DataFrame) -> np.ndarray:
    """Half of the notes of each cell of interest rate and term, lowest expected loss first; ties by loan_id.

    Within a month a platform's sub-grade is its interest rate, so cells are sub-grades by term. A cell of one listing
    gives half of it.
    """
    taken = np.zeros(len(listings), dtype=np.int64)
    room = listings["notes"].to_numpy(np.int64)
    for rows in listings.groupby(["interest_rate", "term_months"]).indices.values():
        by_loss = np.argsort(listings["expected_loss"].to_numpy(float)[rows], kind="stable")
        taken[rows] = in_order(by_loss, room[rows], int(room[rows].sum()) // 2)
    return taken
