"""What return can be had tonight at what tail loss: portfolios of standard orders over what is left. No Spark.

Left after tonight's orders: who asks what an order would get tonight must not be shown notes that another order has been
given, so the listings handed in here have what those orders leave of them. Each standard order is allocated as if it came
alone, by the same programs and the same rounding as tonight's orders (``allocate_alone``). So two quotes of one night do
not add up, and none promises the next night, whose listings and orders nobody knows.

A grid per currency: sizes from the smallest order that may hold a note of one party to the largest that can be placed, or
that is tried, evenly spaced in their logarithm; per size, targets by multiples of target_step, from what the portfolio of least tail loss
returns to the most that can be had. Whatever the market, there are no more than so many sizes by so many targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, hstack, vstack

from models.allocation import (
    MOST_RETURN,
    RETURN_TOLERANCE,
    SOLVER_FAILED,
    Allocation,
    Listings,
    Orders,
    Rules,
    allocate_alone,
)
from models.tier_program import SolverFailed

# Of the published targets: a return is rounded down to as many decimals.
TARGET_DECIMALS = 8


@dataclass(frozen=True)
class Frontier:
    """Points, one element each, by currency, amount and target. amount: of the standard order, in minor units;
    target_return: fraction a year, of the last point of an amount the most that it can return.

    allocation: what the points' orders get, in the points' order. left_out: standard orders that have no point as HiGHS found no
    optimum in time, each with why.
    """

    currency: np.ndarray
    amount: np.ndarray
    target_return: np.ndarray
    allocation: Allocation
    left_out: tuple[str, ...]


def frontier(left: Listings, rules: Rules, seed: int, *, amounts: int, targets: int, most_notes: int) -> Frontier:
    """Portfolios of standard orders in each currency: at most so many amounts, at most so many targets of each.

    left: listings with what tonight's orders leave of them. seed: of the scenarios. most_notes: of the largest order that is
    tried, but the smallest always is. Amounts of which nothing can be placed have no points, nor have those of which HiGHS does
    not find the least or the most return; a target alone that it fails at leaves the others. Raises ValueError as ``allocate``
    does.
    """
    standard: list[tuple[str, int]] = []
    left_out: list[str] = []
    for currency in map(str, np.unique(left.currency)):
        try:
            sizes = _standard_amounts(currency, left, rules, amounts, most_notes) if currency in rules.note else ()
            standard += [(currency, int(amount)) for amount in sizes]
        except SolverFailed as problem:
            left_out.append(f"all in {currency}: {problem}")
    # The ends of each amount's range: the least tail loss whatever it returns, and the most return whatever it risks.
    ends_of = _orders([(*one, target) for one in standard for target in (0.0, MOST_RETURN)])
    ends = allocate_alone(ends_of, left, rules, seed)
    lowest, highest = ends.expected_net_return.reshape(-1, 2).T
    orders = _orders([
        (*one, target)
        for one, low, high in zip(standard, lowest, highest, strict=True) if np.isfinite(low) and high > 0
        for target in (*_targets(low, high, rules.target_step, targets - 1), MOST_RETURN)
    ])
    found = allocate_alone(orders, left, rules, seed)
    failed, is_most = found.binding_constraint == SOLVER_FAILED, orders.target_return == MOST_RETURN
    sizes = [*zip(orders.currency, orders.amount, strict=True)]
    lost = {sizes[point] for point in np.flatnonzero(failed & is_most)}
    kept = np.array([point for point, size in enumerate(sizes) if not failed[point] and size not in lost], dtype=np.int64)
    left_out += [*_failures(ends_of, ends), *_failures(orders, found)]
    found, is_most, scale = found.of(kept), is_most[kept], 10**TARGET_DECIMALS
    told = np.where(is_most, np.floor(found.expected_net_return * scale) / scale, orders.target_return[kept])
    return Frontier(orders.currency[kept], orders.amount[kept], told, found, tuple(left_out))


def _failures(orders: Orders, found: Allocation) -> list[str]:
    """The orders that HiGHS failed at, each with why."""
    return [
        f"{orders.amount[one]} {orders.currency[one]} (minor units) at {orders.target_return[one]:.2%}: {found.message[one]}"
        for one in np.flatnonzero(found.binding_constraint == SOLVER_FAILED)
    ]


def _orders(points: list[tuple[str, int, float]]) -> Orders:
    """Rows of currency, amount and target as orders; their ids sort as they stand."""
    currency, amount, target = zip(*points, strict=True) if points else ((), (), ())
    return Orders(
        order_id=np.array([f"{number:06d}" for number in range(len(points))], dtype=object),
        amount=np.array(amount, dtype=np.int64),
        target_return=np.array(target, dtype=float),
        currency=np.array(currency, dtype=object),
    )


def _targets(low: float, high: float, step: float, most: int) -> np.ndarray:
    """Multiples of step from the last that is no higher than low to the last that is lower than high; every second, third, …
    of them where there are more than most."""
    first, last = np.floor(low / step + 1e-9), np.ceil((high - RETURN_TOLERANCE) / step) - 1
    stride = max(1, int(np.ceil((last - first + 1) / most)))
    return np.round(np.arange(first, last + 1, stride) * step, TARGET_DECIMALS)


def _standard_amounts(currency: str, left: Listings, rules: Rules, amounts: int, most_notes: int) -> np.ndarray:
    """Amounts in minor units, whole notes each; none where nothing may or can be bought."""
    note = rules.note[currency]
    notes = left.remaining // note
    bought = np.flatnonzero((left.currency == currency) & (notes > 0) & (left.expected_net_return > 0))
    if len(bought) == 0 or rules.identity_group_cap == 0:
        return np.zeros(0, dtype=np.int64)
    least = int(np.ceil(1 / rules.identity_group_cap - 1e-9))
    party = np.unique(left.identity_group_id[bought].astype(str), return_inverse=True)[1]
    largest = min(_largest_order(notes[bought], party, left.risk_group[bought], rules) + 1e-6, most_notes)
    spaced = np.geomspace(least, max(least, int(largest)), amounts)
    return np.unique(np.round(spaced).astype(np.int64)) * note


def _largest_order(notes: np.ndarray, party: np.ndarray, risk_group: np.ndarray, rules: Rules) -> float:
    """The most notes that an order can ask for and still have as large a share of them placed as the smallest order has:
    all of them, unless there are too few borrowers or risk groups for its caps."""
    kind, member = np.unique(party * len(rules.risk_group_caps) + risk_group - 1, return_inverse=True)
    of_party, of_risk_group = np.divmod(kind, len(rules.risk_group_caps))
    every = np.arange(len(kind))
    classes = vstack([
        csr_matrix((np.ones(len(kind)), (of_party, every))),
        csr_matrix((np.ones(len(kind)), (of_risk_group, every)), shape=(len(rules.risk_group_caps), len(kind))),
    ])
    caps = np.append(np.full(party.max() + 1, rules.identity_group_cap), rules.risk_group_caps)
    everything = csr_matrix(np.ones(len(kind)))
    options = {"time_limit": rules.solver_seconds}

    placed = linprog(-np.ones(len(kind)), vstack([classes, everything]), np.append(caps, 1.0), options=options)
    if placed.status != 0:
        raise SolverFailed(f"the share of an order that can be placed: {placed.message}")
    share = -placed.fun * (1 - 1e-9)
    if share <= 0:
        return 0.0
    # The size is the last column: caps grow with it, and so does what is to be placed.
    rows = vstack([hstack([classes, -caps[:, None]]), hstack([-everything, csr_matrix([[share]])])])
    bounds = [*((0, most) for most in np.bincount(member, notes)), (0, None)]
    largest = linprog(np.append(np.zeros(len(kind)), -1.0), rows, np.zeros(rows.shape[0]), bounds=bounds, options=options)
    if largest.status != 0:
        raise SolverFailed(f"the largest order: {largest.message}")
    return -largest.fun
