"""Whole notes for the orders of one book, once its programs are solved: part by part, wherever that is done. NumPy, no Spark.

Each tier's share is set aside in whole notes and dealt to parts of the book, and what no tier has taken is split evenly
between them, before any order gets a note. So parts give their orders notes independently of each other, on one machine or
on many, with the same result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix

from models.scenarios import DefaultCorrelation, Exposures, conditional_losses, cvar_of_holdings
from models.tier_program import Tail, TierProblem, TierSolution, excess_values
from models.whole_notes import (
    GOLDEN,
    Holding,
    OrderLimits,
    Stock,
    apportion,
    deal,
    fill,
    give_back_excess,
    round_systematically,
    swap_to_target,
)

# Orders of one part: a number of its own, as what orders get must not depend on how many executors there are. However few
# orders it has, a part draws all listings' losses anew.
PART_ORDERS = 25_000
# Notes of one tier are dealt one by one in memory, some 100 bytes each.
MAX_TIER_NOTES = 20_000_000


def tail_of(exposures: Exposures, correlation: DefaultCorrelation, scenarios: int, seed: int) -> Tail:
    """What programs minimise over: the listings' conditional mean losses in so many scenarios."""
    factors = correlation.factors(scenarios, seed, "optimise")
    return Tail(conditional_losses(exposures, correlation, factors), exposures.severity)


@dataclass(frozen=True)
class Market:
    """The orders of one currency and what they buy from. orders and listings: positions in the input, by id, which all other
    arrays follow; positions elsewhere in this module are those in these two.

    note: in minor units; notes: that each listing has left; expected_loss: as valued, where exposures are at the scenarios'
    level of default; correlation, scenarios and evaluation_scenarios as in ``models.allocation.Rules``, seed and balance as
    in ``models.allocation.allocate``.
    """

    orders: np.ndarray
    listings: np.ndarray
    note: int
    notes: np.ndarray
    expected_net_return: np.ndarray
    expected_loss: np.ndarray
    exposures: Exposures
    limits: OrderLimits
    balance: np.ndarray | None
    correlation: DefaultCorrelation
    scenarios: int
    evaluation_scenarios: int
    seed: int

    def tail(self) -> Tail:
        """What programs minimise over, made anew at each call."""
        return tail_of(self.exposures, self.correlation, self.scenarios, self.seed)

    @cached_property
    def along(self) -> np.ndarray:
        """Listings by risk group and return: the list that notes are rounded and dealt along."""
        return np.lexsort((np.arange(len(self.notes)), self.expected_net_return, self.exposures.risk_group))

    def cvar95(self, orders: np.ndarray, held: Holdings) -> np.ndarray:
        """Of these orders (positions, rising), from fresh scenarios; null (nan) for who holds nothing."""
        return cvar_of_holdings(
            np.searchsorted(orders, held.order), held.listing, held.notes, len(orders), self.exposures, self.correlation,
            scenarios=self.evaluation_scenarios, seed=self.seed,
        )


@dataclass(frozen=True)
class Tier:
    """Orders (positions) with one target, their problem and its solution."""

    orders: np.ndarray
    problem: TierProblem
    solution: TierSolution

    @cached_property
    def prices(self) -> np.ndarray:
        """What a note of each listing costs: the risk that it adds less its return at the program's price."""
        return self.solution.marginal_risk - self.solution.return_price * self.problem.expected_net_return


@dataclass(frozen=True)
class Holdings:
    """What is bought, by order and listing: order, listing (positions), notes."""

    order: np.ndarray
    listing: np.ndarray
    notes: np.ndarray


def joined(held: Sequence[Holdings]) -> Holdings:
    """Holdings of several orders, at least one, one after the other."""
    return Holdings(*(np.concatenate([getattr(one, name.name) for one in held]) for name in fields(Holdings)))


@dataclass(frozen=True)
class Totals:
    """What orders buy, one element each: order (position in the input), the rest as in ``models.allocation.Outcomes``."""

    order: np.ndarray
    allocated: np.ndarray
    loan_count: np.ndarray
    expected_net_return: np.ndarray
    expected_loss: np.ndarray
    rounding_gap: np.ndarray
    cvar95: np.ndarray


@dataclass(frozen=True)
class Part:
    """Orders (positions, rising) of a market that get their notes together. shares: by tier, of its notes those of this
    part's orders, as places in ``Market.along``, rising, and notes; left: its part of what no tier has taken."""

    market: Market
    tiers: Sequence[Tier]
    shares: Sequence[tuple[np.ndarray, np.ndarray]]
    orders: np.ndarray
    left: np.ndarray

    def give(self, tail: Tail | None = None, *, with_cvar: bool = True) -> tuple[Totals, Holdings]:
        """Whole notes for each order: of its tier's, then none over a cap, none missing that could be had of what the part
        has, and the target reached where that lets it. What another part has left is not offered: in books of several
        parts an order can so stay a note short of what all listings had room for.

        tail: the market's, None to make it. with_cvar: False leaves cvar95 null (nan), which takes as long for one order as
        for thousands."""
        limits, along = self.market.limits, self.market.along
        stock = Stock(
            self.left.copy(), self.market.expected_net_return, self.market.exposures.party, self.market.exposures.risk_group
        )
        tier_of: dict[int, Tier] = {}
        holdings: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for tier, (places, share) in zip(self.tiers, self.shares, strict=True):
            own = tier.orders[np.isin(tier.orders, self.orders)]
            order, place, held = deal(share, _notes_of(share.sum(), limits.notes[own]))
            ends = np.searchsorted(order, np.arange(len(own) + 1))
            for rank, position in enumerate(own):
                mine = slice(ends[rank], ends[rank + 1])
                tier_of[position] = tier
                holdings[position] = along[places[place[mine]]], held[mine]

        groups = np.arange(stock.group.max() + 1)
        for position in self.orders:
            if _breaks_a_cap(*holdings[position], stock, limits, position):
                holding = _open(holdings[position], stock, limits)
                give_back_excess(
                    stock, holding, limits.group_caps(position, groups), limits.risk_caps[position], tier_of[position].prices
                )
                holdings[position] = _closed(holding)
        by_price = {id(tier): np.argsort(tier.prices, kind="stable") for tier in self.tiers}
        for position in self.orders:
            missing = int(limits.notes[position] - holdings[position][1].sum())
            if missing > 0:
                holding = _open(holdings[position], stock, limits)
                fill(
                    stock, holding, missing, limits.group_caps(position, groups), limits.risk_caps[position],
                    by_price[id(tier_of[position])],
                )
                holdings[position] = _closed(holding)
        for position in self.orders:
            listing, held = holdings[position]
            solution, target = tier_of[position].solution, float(limits.target_return[position])
            reachable = solution.reached or target <= (solution.best_return or 0.0)
            if reachable and held @ stock.expected_net_return[listing] < target * held.sum():
                holding = _open(holdings[position], stock, limits)
                swap_to_target(
                    stock, holding, target, limits.group_caps(position, groups), limits.risk_caps[position],
                    solution.marginal_risk,
                )
                holdings[position] = _closed(holding)
        return self._added_up(holdings, tail or self.market.tail(), with_cvar)

    def _added_up(
        self, holdings: Mapping[int, tuple[np.ndarray, np.ndarray]], tail: Tail, with_cvar: bool
    ) -> tuple[Totals, Holdings]:
        own, market = [holdings[position] for position in self.orders], self.market
        row = np.repeat(np.arange(len(own)), [len(listing) for listing, _ in own])
        listing, notes = (np.concatenate(one) for one in zip(*own, strict=True))
        by_listing = np.lexsort((listing, row))
        listing, notes = listing[by_listing], notes[by_listing]
        total = np.bincount(row, notes, len(own))
        weights = csr_matrix((notes / total[row], (row, listing)), shape=(len(own), len(self.left)))
        rounding_gap = np.full(len(own), np.nan)
        for tier in self.tiers:
            rows = np.flatnonzero(np.isin(self.orders, tier.orders) & (total > 0))
            if len(rows):
                rounding_gap[rows] = excess_values(weights[rows], tier.problem, tier.solution, tail)

        def mean(values: np.ndarray) -> np.ndarray:
            return np.where(total > 0, weights @ values, np.nan)

        held = Holdings(self.orders[row], listing, notes)
        totals = Totals(
            market.orders[self.orders], np.rint(total).astype(np.int64) * market.note, np.bincount(row, minlength=len(own)),
            mean(market.expected_net_return), mean(market.expected_loss), rounding_gap,
            market.cvar95(self.orders, held) if with_cvar else np.full(len(own), np.nan),
        )
        return totals, held


def parts_of(market: Market, tiers: Sequence[Tier]) -> list[Part]:
    """The tiers' orders in parts of PART_ORDERS by id, with the notes that are theirs.

    Raises ValueError for more notes in a tier than MAX_TIER_NOTES.
    """
    orders = np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *(tier.orders for tier in tiers)]))
    count = -(-len(orders) // PART_ORDERS)
    left, along = market.notes.copy(), market.along
    shares: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in range(count)]
    for number, tier in enumerate(tiers):
        amounts, wanted = tier.solution.notes[along], market.limits.notes[tier.orders]
        # The solver's sums are exact to one in ten million.
        total = min(int(wanted.sum()), int(amounts.sum() * (1 + 1e-6) + 1e-6))
        if total > MAX_TIER_NOTES:
            raise ValueError(
                f"{total} notes for the orders with a target of {tier.problem.target_return:.2%}, at most "
                f"{MAX_TIER_NOTES} fit: raise allocation.note_amount"
            )
        share = np.minimum(round_systematically(amounts, total, offset=(number * GOLDEN) % 1.0), left[along])
        left[along] -= share
        part_of = np.searchsorted(orders, tier.orders) // PART_ORDERS
        of_parts = np.bincount(part_of, _notes_of(share.sum(), wanted), count).astype(np.int64)
        part, place, notes = deal(share, of_parts)
        ends = np.searchsorted(part, np.arange(count + 1))
        for one in range(count):
            mine = slice(ends[one], ends[one + 1])
            shares[one].append((place[mine], notes[mine]))
    # The notes that are over when a listing's are split evenly go to another part with each listing.
    turn = np.arange(len(left))
    return [
        Part(
            market, tiers, shares[number], orders[number * PART_ORDERS : (number + 1) * PART_ORDERS],
            left // count + ((number - turn) % count < left % count),
        )
        for number in range(count)
    ]


def _notes_of(share: int, wanted: np.ndarray) -> np.ndarray:
    """A share of notes split over orders in proportion to the notes that they want."""
    return apportion(int(share), share * wanted / max(1, wanted.sum()), wanted)


def _breaks_a_cap(
    listing: np.ndarray, held: np.ndarray, stock: Stock, limits: OrderLimits, position: int
) -> bool:
    groups, group = np.unique(stock.group[listing], return_inverse=True)
    if len(held) and np.any(np.bincount(group, held) > limits.group_caps(position, groups)):
        return True
    risk_caps = limits.risk_caps[position]
    return bool(np.any(np.bincount(stock.risk_group[listing] - 1, held, len(risk_caps)) > risk_caps))


def _open(holding: tuple[np.ndarray, np.ndarray], stock: Stock, limits: OrderLimits) -> Holding:
    return Holding.of(stock, *holding, risk_groups=limits.risk_caps.shape[1])


def _closed(holding: Holding) -> tuple[np.ndarray, np.ndarray]:
    listing = np.flatnonzero(holding.notes)
    return listing, holding.notes[listing]
