"""Spread tonight's orders over tonight's listings: linear programs on HiGHS, then whole notes. No Spark.

All orders of a currency together:

1. Orders with the same target, rounded up to a multiple of target_step, form a tier; orders of a tier are equals.
2. Each listing is offered to the tiers pro rata to their money. Each tier's program places all it can under the caps,
   reaches its target or comes nearest, and then has the least conditional value at risk over scenarios
   (``models.tier_program``, ``models.scenarios``).
3. Tiers short of their target get a second solve in which what the others did not take is offered too, pro rata. Those
   whose target is still beyond reach become one tier that takes the most return to be had.
4. The tier's amounts become whole notes per order (``models.whole_notes``); caps and remainders hold exactly.
5. Each order's CVaR is told from fresh scenarios with drawn defaults, which no program has seen.

What an order owns already counts (``models.owned``): only the rest of its amount is invested, at the return that old and
new money together need for the target, under what room is left. Orders that own something form tiers of their own, as
their rooms differ; an order's own rooms then project its tier's proportions.

A listing that is expected to lose money is not bought for anyone. Input order never matters: everything is sorted by
id first, and ties go to the smaller id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix

from models.owned import Owned, party_rooms, target_of_new_money, whole_notes_of
from models.scenarios import DefaultCorrelation, Exposures, conditional_losses, cvar_of_holdings
from models.tier_program import (
    SolverFailed,
    Tail,
    TierProblem,
    TierSolution,
    excess_values,
    most_return,
    return_constraint,
    solve_tier,
    volume_constraint,
)
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

ON_TARGET, BELOW_TARGET, UNFILLED = "on_target", "below_target", "unfilled"
# The binding constraint of an order whose program found no optimum; only where each order is alone.
SOLVER_FAILED = "solver_failed"
# The binding constraint where no family of constraints, dropped alone, would make a difference.
SEVERAL = "several_constraints"
# A mean return within a hundred-millionth of the target has reached it: the target is typed with four decimals.
RETURN_TOLERANCE = 1e-8
# The target of who asks for as much return as is to be had; orders have finite ones.
MOST_RETURN = np.inf
# Notes of one tier are dealt one by one in memory, some 60 bytes each.
MAX_TIER_NOTES = 20_000_000


@dataclass(frozen=True)
class Listings:
    """Open listings, one element each. remaining: minor units (cents); returns, losses and the probability of default
    over the whole term as fractions."""

    loan_id: np.ndarray
    identity_group_id: np.ndarray
    risk_group: np.ndarray
    remaining: np.ndarray
    expected_net_return: np.ndarray
    prob_default_lifetime: np.ndarray
    expected_loss: np.ndarray
    currency: np.ndarray


@dataclass(frozen=True)
class Orders:
    """Open orders, one element each. amount: minor units (cents); target_return: fraction a year."""

    order_id: np.ndarray
    amount: np.ndarray
    target_return: np.ndarray
    currency: np.ndarray


@dataclass(frozen=True)
class Rules:
    """What holds for every order. note: size in minor units by currency; caps are shares of the order's amount;
    risk_group_caps: of group 1, 2, …, as is correlation; default_level: how many times the listings' hazard of default scenarios
    see; scenarios: that programs minimise over; evaluation_scenarios: fresh ones that the CVaR is told from; minor_units: in one
    unit of currency."""

    note: Mapping[str, int]
    identity_group_cap: float
    risk_group_caps: tuple[float, ...]
    target_step: float
    correlation: DefaultCorrelation
    scenarios: int
    evaluation_scenarios: int
    solver_seconds: float
    minor_units: int = 100
    default_level: float = 1.0


@dataclass(frozen=True)
class Allocation:
    """Holdings: order and listing (positions in the input), and amount in minor units, sorted by order and loan id.

    Per order, in input order: allocated (minor units), expected_net_return and expected_loss (weighted by amount, nan
    when unfilled), cvar95 (of the loss, from fresh scenarios; nan when unfilled), loan_count, status (on_target,
    below_target, unfilled), binding_constraint (a name or None) and message. All of these but status, which is that of all
    that the order owns (unfilled: nothing), are of what is bought tonight; owned_net_return is of old and new together. rounding_gap: at most so far does the tail
    loss of the order's whole notes lie above that of its tier's continuous optimum, both as the programs value it
    (``excess_values``, also for when it is negative), a fraction of what is allocated; nan when unfilled or where the
    optimum holds nothing. largest_gap: of any tier's program, how far its value may lie above the optimum, as a fraction.
    """

    order: np.ndarray
    listing: np.ndarray
    amount: np.ndarray
    allocated: np.ndarray
    expected_net_return: np.ndarray
    expected_loss: np.ndarray
    cvar95: np.ndarray
    loan_count: np.ndarray
    status: np.ndarray
    binding_constraint: np.ndarray
    message: np.ndarray
    rounding_gap: np.ndarray
    owned_net_return: np.ndarray
    largest_gap: float

    def of(self, orders: np.ndarray) -> Allocation:
        """These orders (rising positions) alone."""
        place = np.full(len(self.allocated), -1)
        place[orders] = np.arange(len(orders))
        kept = place[self.order] >= 0
        holdings = {"order": place[self.order[kept]], "listing": self.listing[kept], "amount": self.amount[kept]}
        per_order = {one.name for one in fields(self)} - {*holdings, "largest_gap"}
        return replace(self, **holdings, **{name: getattr(self, name)[orders] for name in per_order})


@dataclass
class _Tier:
    """Orders (positions) with one target, their problem and its solution."""

    orders: np.ndarray
    problem: TierProblem
    solution: TierSolution


def allocate(
    orders: Orders, listings: Listings, rules: Rules, seed: int, owned: Owned | None = None, balance: np.ndarray | None = None
) -> Allocation:
    """Holdings for every order, whole notes each, and what became of the order in words. seed: of the scenarios; owned:
    before tonight, None where no order owns anything.

    balance: values of the listings, shape (conditions, listings), of which each tier's mean is 0 before its notes are
    made whole; None for no condition. A portfolio is so held to the mix of another: a characteristic less its mean there.

    Raises ValueError for an order or listing id that stands twice, a null or infinite number, a probability that is none
    or does not go with its expected loss, a risk group without a cap or a currency without a note, and more notes in a
    tier than MAX_TIER_NOTES; SolverFailed when HiGHS finds no optimum in time.
    """
    _refuse_bad_input(orders, listings, rules)
    owned = owned or Owned.nothing(orders.order_id, len(rules.risk_group_caps))
    return _allocated(_Results(orders, listings, rules, seed, owned, balance), alone=False)


def allocate_alone(orders: Orders, listings: Listings, rules: Rules, seed: int) -> Allocation:
    """What each order would get if it were tonight's only one; a target may be MOST_RETURN. Else as ``allocate``, but an
    order of which HiGHS finds no optimum in time is unfilled: its binding constraint is SOLVER_FAILED, its message says why.
    """
    finite = np.where(orders.target_return == MOST_RETURN, 0.0, orders.target_return)
    _refuse_bad_input(replace(orders, target_return=finite), listings, rules)
    nothing = Owned.nothing(orders.order_id, len(rules.risk_group_caps))
    return _allocated(_Results(orders, listings, rules, seed, nothing, None), alone=True)


def _allocated(results: _Results, *, alone: bool) -> Allocation:
    orders, listings = results.orders, results.listings
    for currency in np.unique(orders.currency):
        mine = np.flatnonzero(orders.currency == currency)
        offered = np.flatnonzero(listings.currency == currency)
        mine = mine[np.argsort(orders.order_id[mine].astype(str), kind="stable")]
        offered = offered[np.argsort(listings.loan_id[offered].astype(str), kind="stable")]
        _allocate_currency(str(currency), mine, offered, results, alone)
    return results.finished()


def _refuse_bad_input(orders: Orders, listings: Listings, rules: Rules) -> None:
    for name, ids in (("order_id", orders.order_id), ("loan_id", listings.loan_id)):
        values, counts = np.unique(ids.astype(str), return_counts=True)
        if np.any(counts > 1):
            raise ValueError(f"{name} {values[counts > 1][0]} stands {counts.max()} times: each may stand once")
    for name, values in (
        ("target_return", orders.target_return),
        ("expected_net_return", listings.expected_net_return),
        ("prob_default_lifetime", listings.prob_default_lifetime),
        ("expected_loss", listings.expected_loss),
    ):
        if not np.all(np.isfinite(np.asarray(values, dtype=float))):
            raise ValueError(f"{name} holds a null or infinite value")
    probability, loss = listings.prob_default_lifetime, listings.expected_loss
    if np.any((probability < 0) | (probability > 1) | (loss < 0) | (loss > probability)):
        raise ValueError("prob_default_lifetime must lie between 0 and 1, expected_loss between 0 and it")
    if len(listings.risk_group) and not (
        listings.risk_group.min() >= 1 and listings.risk_group.max() <= len(rules.risk_group_caps)
    ):
        raise ValueError(f"risk groups must be 1 to {len(rules.risk_group_caps)}, as many as there are caps")
    if len(rules.correlation.asset_correlations) != len(rules.risk_group_caps):
        raise ValueError("allocation.asset_correlations and allocation.risk_group_caps must name as many risk groups")
    without_note = sorted({str(currency) for currency in orders.currency} - set(rules.note))
    if without_note:
        raise ValueError(f"no note for {', '.join(without_note)}: add it to allocation.note_amount")


def _rank(ids: np.ndarray) -> np.ndarray:
    return np.unique(ids.astype(str), return_inverse=True)[1]


class _Results:
    """Per-order results and holdings while they are collected."""

    def __init__(
        self, orders: Orders, listings: Listings, rules: Rules, seed: int, owned: Owned, balance: np.ndarray | None
    ) -> None:
        count = len(orders.order_id)
        self.orders, self.listings, self.rules, self.seed = orders, listings, rules, seed
        self.owned, self.balance = owned, balance
        self.holdings: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.allocated = np.zeros(count, dtype=np.int64)
        self.net_return = np.full(count, np.nan)
        self.loss = np.full(count, np.nan)
        self.loans = np.zeros(count, dtype=np.int64)
        self.status = np.full(count, UNFILLED, dtype=object)
        self.binding = np.full(count, None, dtype=object)
        self.message = np.full(count, "", dtype=object)
        self.rounding_gap = np.full(count, np.nan)
        self.largest_gap = 0.0

    def together(self, order: int) -> float:
        """Mean expected net return of what the order owned before and buys; nan where that is nothing."""
        owned, bought = int(self.owned.principal[order]), int(self.allocated[order])
        if bought == 0:
            return float(self.owned.net_return[order]) if owned else np.nan
        if owned == 0:
            return float(self.net_return[order])
        return float((owned * self.owned.net_return[order] + bought * self.net_return[order]) / (owned + bought))

    def buy_nothing(self, order: int, binding: str, message: str, words: _Words) -> None:
        """Tell why nothing is bought for an order; its status is that of what it owns."""
        self.binding[order], self.message[order] = binding, message
        if self.owned.principal[order] > 0:
            target = float(self.orders.target_return[order])
            reaches = self.together(order) >= target - RETURN_TOLERANCE
            self.status[order] = ON_TARGET if reaches else BELOW_TARGET
            holds = words.holds(int(self.owned.loans[order]), int(self.owned.principal[order]), self.together(order))
            self.message[order] = f"{message} {holds}; the target is {target:.2%}."

    def hold(self, order: int, listing: np.ndarray, amount: np.ndarray) -> None:
        self.holdings.append((np.full(len(listing), order), listing, amount))
        total = int(amount.sum())
        self.allocated[order], self.loans[order] = total, len(listing)
        self.net_return[order] = float(amount @ self.listings.expected_net_return[listing] / total)
        self.loss[order] = float(amount @ self.listings.expected_loss[listing] / total)

    def fail(self, order: int, why: str) -> None:
        """Leave an order unfilled, whatever had been bought for it."""
        self.holdings = [holding for holding in self.holdings if holding[0][0] != order]
        self.allocated[order] = self.loans[order] = 0
        self.net_return[order] = self.loss[order] = self.rounding_gap[order] = np.nan
        self.status[order], self.binding[order], self.message[order] = UNFILLED, SOLVER_FAILED, why

    def finished(self) -> Allocation:
        parts = list(zip(*self.holdings, strict=True)) or [[np.zeros(0, dtype=np.int64)]] * 3
        order, listing, amount = (np.concatenate(part) for part in parts)
        # Ranks once per id, not strings once per holding: there may be millions of these.
        rank = _rank(self.listings.loan_id)
        by_id = np.lexsort((rank[listing], _rank(self.orders.order_id)[order]))
        order, listing, amount = order[by_id], listing[by_id], amount[by_id]
        # Draws go to listings by id, so that the order of the input does not matter here either.
        tail = cvar_of_holdings(
            order, rank[listing], amount, len(self.allocated), _exposures(self.listings, np.argsort(rank), self.rules),
            self.rules.correlation, scenarios=self.rules.evaluation_scenarios, seed=self.seed,
        )
        return Allocation(
            order, listing, amount, self.allocated, self.net_return, self.loss, tail, self.loans, self.status,
            self.binding, self.message, self.rounding_gap, np.array([self.together(one) for one in range(len(self.allocated))]),
            self.largest_gap,
        )


def tail_of(exposures: Exposures, rules: Rules, seed: int) -> Tail:
    """What programs minimise over: the listings' conditional mean losses in the rules' scenarios."""
    factors = rules.correlation.factors(rules.scenarios, seed, "optimise")
    return Tail(conditional_losses(exposures, rules.correlation, factors), exposures.severity)


def _exposures(listings: Listings, chosen: np.ndarray, rules: Rules) -> Exposures:
    """What the chosen listings (positions) can lose tonight."""
    exposures = Exposures(
        prob_default=listings.prob_default_lifetime[chosen].astype(float),
        expected_loss=listings.expected_loss[chosen].astype(float),
        party=np.unique(listings.identity_group_id[chosen].astype(str), return_inverse=True)[1],
        risk_group=listings.risk_group[chosen].astype(np.int64),
    )
    return exposures.at_level(rules.default_level)


def _allocate_currency(currency: str, orders: np.ndarray, offered: np.ndarray, results: _Results, alone: bool) -> None:
    """Allocate the orders (positions, by id) of one currency over its listings (positions, by id): together, or each
    as if it came alone."""
    rules, listings = results.rules, results.listings
    note = rules.note[currency]
    amount, owned = results.orders.amount[orders], results.owned
    words = _Words(currency, note, rules)
    to_invest = np.clip(amount - owned.principal[orders], 0, None)

    notes = listings.remaining[offered] // note
    buyable = (notes > 0) & (listings.expected_net_return[offered] > 0)
    if not buyable.any():
        reason = words.nothing_to_buy(len(offered), bool((notes > 0).any()))
        for order in orders:
            results.buy_nothing(order, "listing_remaining", reason, words)
        return
    offered, notes = offered[buyable], notes[buyable]
    exposures = _exposures(listings, offered, rules)
    stock = Stock(
        notes=notes.astype(np.int64),
        expected_net_return=listings.expected_net_return[offered].astype(float),
        group=exposures.party,
        risk_group=exposures.risk_group,
        balance=None if results.balance is None else results.balance[:, offered],
    )
    rooms = party_rooms(owned, orders, amount, listings.identity_group_id[offered], currency, rules.identity_group_cap, note)
    limits = _order_limits(orders, results, note, int(notes.sum()), rooms)
    large_enough = (limits.notes > 0) & (limits.group_cap > 0)
    for position in np.flatnonzero(~large_enough):
        order = orders[position]
        if owned.principal[order] > 0:
            results.buy_nothing(order, "fully_invested", words.fully_invested(int(to_invest[position])), words)
        else:
            results.buy_nothing(order, "note_amount", words.too_small(int(amount[position])), words)
    tail = tail_of(exposures, rules, results.seed)
    together = np.flatnonzero(large_enough)
    for book in together[:, None] if alone else [together]:
        try:
            _allocate_book(book, orders, offered, replace(stock, notes=stock.notes.copy()), limits, to_invest, tail, results, words)
        except SolverFailed as problem:
            if not alone:
                raise
            results.fail(orders[book[0]], str(problem))


def _allocate_book(
    book: np.ndarray, orders: np.ndarray, offered: np.ndarray, stock: Stock, limits: OrderLimits, to_invest: np.ndarray,
    tail: Tail, results: _Results, words: _Words,
) -> None:
    """Allocate a book together: positions in orders, which like offered are positions in the input. Uses up the stock."""
    note, rules = words.note, results.rules
    highest_return = float(stock.expected_net_return.max())
    tail.forget_old_cuts()
    tiers = _solve_tiers(stock, limits, tail, book, rules)
    results.largest_gap = max([results.largest_gap, *(tier.solution.gap for tier in tiers)])
    holdings = _whole_notes(tiers, stock, limits)
    for tier in tiers:
        explanation = _Explanation(tier, highest_return, words)
        results.rounding_gap[orders[tier.orders]] = _rounding_gaps(tier, holdings, tail)
        for position in tier.orders:
            order, (listing, held) = orders[position], holdings[position]
            if len(listing) == 0:
                binding = explanation.volume_binds
                results.buy_nothing(order, binding, f"No note could be placed: {words.room(binding)}.", words)
                continue
            results.hold(order, offered[listing], held * note)
            status, binding, message = explanation.of(
                _Outcome.of(results, order, int(to_invest[position]), float(limits.target_return[position]))
            )
            results.status[order], results.binding[order], results.message[order] = status, binding, message


def _order_limits(
    orders: np.ndarray, results: _Results, note: int, offered: int, rooms: Mapping[int, tuple[np.ndarray, np.ndarray]]
) -> OrderLimits:
    """Whole notes that each order may buy, in all, per identity group and per risk group; offered: notes for sale tonight.

    rooms: for parties of which something is owned."""
    rules, owned = results.rules, results.owned
    amount, principal = results.orders.amount[orders], owned.principal[orders]
    # No order counts for more than there is: an absurd amount must not take every listing from all others.
    notes = np.minimum(np.clip(amount - principal, 0, None) // note, offered).astype(np.int64)
    return OrderLimits(
        notes=notes,
        group_cap=whole_notes_of(rules.identity_group_cap, amount, np.zeros(len(amount), dtype=np.int64), note),
        risk_caps=np.stack([
            whole_notes_of(cap, amount, owned.of_risk_groups[orders, group], note)
            for group, cap in enumerate(rules.risk_group_caps)
        ], axis=1),
        target_return=target_of_new_money(
            results.orders.target_return[orders].astype(float), principal, owned.net_return[orders], notes * note
        ),
        owns=principal > 0,
        party_rooms=rooms,
    )


def _solve_tiers(stock: Stock, limits: OrderLimits, tail: Tail, orders: np.ndarray, rules: Rules) -> list[_Tier]:
    """Tiers by rising target, solved: first on their own share of every listing, then those short of it once more."""
    if len(orders) == 0:
        return []
    step, highest = rules.target_step, float(stock.expected_net_return.max())
    # Targets above every listing are one tier, and those that any portfolio reaches another.
    number = np.ceil(np.clip(limits.target_return[orders], 0, highest + step) / step - 1e-9).astype(np.int64)
    owns = limits.owns[orders]
    targets = {
        (bool(more), float(one * step)): orders[(number == one) & (owns == more)]
        for more in np.unique(owns) for one in np.unique(number[owns == more])
    }
    offered = stock.notes.astype(float)
    first = _solve_round(targets, offered, stock, limits, tail, rules)
    if not first.beyond and all(tier.solution.reached for tier in first.tiers):
        return first.tiers
    reached = [tier for tier in first.tiers if tier.solution.reached]
    short = {
        (bool(limits.owns[tier.orders[0]]), tier.problem.target_return): tier.orders
        for tier in first.tiers if not tier.solution.reached
    } | first.beyond
    left = offered - sum((tier.solution.notes for tier in reached), np.zeros(len(offered)))
    second = _solve_round(short, np.clip(left, 0, None), stock, limits, tail, rules)
    if not second.beyond:
        return reached + second.tiers
    # All that is to be had: a target above every listing.
    tiers = [*reached, *second.tiers]
    for more in sorted({owns for owns, _ in second.beyond}):
        beyond = np.sort(np.concatenate([mine for (owns, _), mine in second.beyond.items() if owns == more]))
        problem = _problem(beyond, highest + step, second.offered_per_note, stock, limits, rules)
        tiers.append(_Tier(beyond, problem, solve_tier(problem, tail)))
    return tiers


@dataclass(frozen=True)
class _Round:
    """What one round of solving found: tiers solved, and orders by whether they own something and target, where that is
    beyond what all of their kind together can return. offered_per_note: of each listing, for each note to invest."""

    tiers: list[_Tier]
    beyond: dict[tuple[bool, float], np.ndarray]
    offered_per_note: np.ndarray


def _solve_round(
    targets: Mapping[tuple[bool, float], np.ndarray],
    offered: np.ndarray,
    stock: Stock,
    limits: OrderLimits,
    tail: Tail,
    rules: Rules,
) -> _Round:
    """Offer listings (in notes) to the tiers pro rata to their money and solve each tier within reach."""
    everyone = np.sort(np.concatenate(list(targets.values())))
    per_note = offered / limits.notes[everyone].sum()
    # Shares and caps of a tier are in proportion to those of all of its kind together, so one solve tells what is within
    # reach; nearly so where something is owned, and a tier that misses its target for it comes nearest.
    ceilings = {
        more: most_return(_problem(everyone[limits.owns[everyone] == more], 0.0, per_note, stock, limits, rules))[1]
        for more in {owns for owns, _ in targets}
    }
    tiers, beyond = [], {}
    for (owns, target), mine in sorted(targets.items(), key=lambda item: item[0]):
        ceiling = ceilings[owns]
        if target > ceiling + RETURN_TOLERANCE:
            own = limits.target_return[mine]
            if (own > ceiling).any():
                beyond[owns, target] = mine[own > ceiling]
            # Rounding up must not put a target out of reach: those within reach share the highest of their own.
            mine = mine[own <= ceiling]
            if len(mine) == 0:
                continue
            target = float(limits.target_return[mine].max())
        problem = _problem(mine, target, per_note, stock, limits, rules)
        tiers.append(_Tier(mine, problem, solve_tier(problem, tail)))
    return _Round(tiers, beyond, per_note)


def _problem(
    orders: np.ndarray, target: float, offered_per_note: np.ndarray, stock: Stock, limits: OrderLimits, rules: Rules
) -> TierProblem:
    """The program's data for these orders (positions) together."""
    notes = float(limits.notes[orders].sum())
    return TierProblem(
        available=offered_per_note * notes,
        expected_net_return=stock.expected_net_return,
        group=stock.group,
        risk_group=stock.risk_group,
        notes=notes,
        orders=len(orders),
        group_cap=float(limits.group_cap[orders].sum()),
        risk_caps=limits.risk_caps[orders].sum(axis=0).astype(float),
        target_return=target,
        solver_seconds=rules.solver_seconds,
        balance=stock.balance,
    )


def _whole_notes(
    tiers: list[_Tier], stock: Stock, limits: OrderLimits
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Listings and whole notes per order (positions); what is given out leaves the stock.

    Every tier's share is set aside before any order is repaired, so that no tier loses to an earlier one.
    """
    list_order = np.lexsort((np.arange(len(stock.notes)), stock.expected_net_return, stock.risk_group))
    shares = []
    for number, tier in enumerate(tiers):
        amounts = tier.solution.notes[list_order]
        # The solver's sums are exact to one in ten million.
        total = min(int(limits.notes[tier.orders].sum()), int(amounts.sum() * (1 + 1e-6) + 1e-6))
        share = round_systematically(amounts, total, offset=(number * GOLDEN) % 1.0)
        if total > MAX_TIER_NOTES:
            raise ValueError(
                f"{total} notes for the orders with a target of {tier.problem.target_return:.2%}, at most "
                f"{MAX_TIER_NOTES} fit: raise allocation.note_amount"
            )
        share = np.minimum(share, stock.notes[list_order])
        stock.notes[list_order] -= share
        shares.append(share)

    holdings: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for tier, share in zip(tiers, shares, strict=True):
        wanted = limits.notes[tier.orders]
        notes = apportion(int(share.sum()), share.sum() * wanted / wanted.sum(), wanted)
        order, listing, held = deal(share, notes)
        ends = np.searchsorted(order, np.arange(len(tier.orders) + 1))
        for rank, position in enumerate(tier.orders):
            mine = slice(ends[rank], ends[rank + 1])
            holdings[position] = list_order[listing[mine]], held[mine]

    groups = np.arange(stock.group.max() + 1)
    repairs = sorted(((position, tier) for tier in tiers for position in tier.orders), key=lambda repair: repair[0])
    prices = {id(tier): _prices(tier, stock) for tier in tiers}
    for position, tier in repairs:
        if _breaks_a_cap(*holdings[position], stock, limits, position):
            holding = _open(holdings[position], stock, limits)
            give_back_excess(stock, holding, limits.group_caps(position, groups), limits.risk_caps[position], prices[id(tier)])
            holdings[position] = _closed(holding)
    by_price = {name: np.argsort(price, kind="stable") for name, price in prices.items()}
    for position, tier in repairs:
        missing = int(limits.notes[position] - holdings[position][1].sum())
        if missing > 0:
            holding = _open(holdings[position], stock, limits)
            fill(stock, holding, missing, limits.group_caps(position, groups), limits.risk_caps[position], by_price[id(tier)])
            holdings[position] = _closed(holding)
    for position, tier in repairs:
        listing, held = holdings[position]
        target = float(limits.target_return[position])
        reachable = tier.solution.reached or target <= (tier.solution.best_return or 0.0)
        if reachable and held @ stock.expected_net_return[listing] < target * held.sum():
            holding = _open(holdings[position], stock, limits)
            swap_to_target(
                stock, holding, target, limits.group_caps(position, groups), limits.risk_caps[position],
                tier.solution.marginal_risk,
            )
            holdings[position] = _closed(holding)
    return holdings


def _rounding_gaps(tier: _Tier, holdings: Mapping[int, tuple[np.ndarray, np.ndarray]], tail: Tail) -> np.ndarray:
    """Of each order of the tier, how far the value of its notes lies above the optimum's; nan where it holds none."""
    own = [holdings[position] for position in tier.orders]
    count = np.array([len(listing) for listing, _ in own])
    total = np.array([held.sum() for _, held in own])
    row = np.repeat(np.arange(len(own)), count)
    weight = np.concatenate([held for _, held in own]) / total[row]
    weights = csr_matrix(
        (weight, (row, np.concatenate([listing for listing, _ in own]))), shape=(len(own), len(tier.solution.notes))
    )
    return np.where(total > 0, excess_values(weights, tier.problem, tier.solution, tail), np.nan)


def _prices(tier: _Tier, stock: Stock) -> np.ndarray:
    """What a note costs the tier: the risk that it adds less its return at the program's price."""
    return tier.solution.marginal_risk - tier.solution.return_price * stock.expected_net_return


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


class _Explanation:
    """Status, binding constraint and message of a tier's orders; what binds is only asked when something does."""

    def __init__(self, tier: _Tier, highest_return: float, words: _Words) -> None:
        self.tier, self.highest_return, self.words = tier, highest_return, words

    @cached_property
    def volume_binds(self) -> str:
        """What keeps the tier from investing more."""
        placed, problem = self.tier.solution.notes.sum() * (1 + 1e-6), self.tier.problem
        if placed > problem.notes:
            return "listing_remaining" if placed > problem.available.sum() else "whole_notes"
        return volume_constraint(self.tier.problem) or SEVERAL

    @cached_property
    def return_binds(self) -> str:
        """What keeps the tier from a higher return."""
        return return_constraint(self.tier.problem) or SEVERAL

    def of(self, one: _Outcome) -> tuple[str, str | None, str]:
        """Status, binding constraint and message of an order for which something is bought."""
        left = one.to_invest - one.bought
        volume_binds = self.volume_binds if left >= self.words.note else None
        rest = self.words.left_over(left, volume_binds)
        loans = f"{one.loans} {'loan' if one.loans == 1 else 'loans'}"
        if one.owned:
            held = (
                f"{loans} for {self.words.money(one.bought)} beside {self.words.money(one.owned)} in {one.owned_loans} held, "
                f"together expected to return {one.together(one.net_return):.2%} a year net"
            )
        else:
            held = f"{loans}, expected to return {one.net_return:.2%} a year net"
        if one.together(one.net_return) >= one.target - RETURN_TOLERANCE:
            return ON_TARGET, volume_binds, f"{held}; the target is {one.target:.2%}.{rest}"
        best = self.tier.solution.best_return
        so_much = " for so much money" if left >= self.words.note else ""
        if one.target == MOST_RETURN:
            binds = self.return_binds
            why = f"{self.words.limit(binds, self.highest_return)}, {one.net_return:.2%} is the most tonight{so_much}"
            return ON_TARGET, binds, f"{why[0].upper()}{why[1:]}: {held}.{rest}"
        if best is None or best >= one.target_of_new:
            why = f"in whole notes of {self.words.money(self.words.note)} this is the nearest to the target of {one.target:.2%}"
            return BELOW_TARGET, "whole_notes", f"{held}; {why}.{rest}"
        binds = "expected_return" if self.highest_return < one.target_of_new else self.return_binds
        most = one.together(max(best, one.net_return))
        why = f"{self.words.limit(binds, one.target_of_new)}, {most:.2%} is the most tonight{so_much}"
        return BELOW_TARGET, binds, f"{why[0].upper()}{why[1:]}: {held}; the target is {one.target:.2%}.{rest}"


@dataclass(frozen=True)
class _Outcome:
    """What became of an order for which something is bought; amounts in minor units. target: of all that it owns;
    target_of_new: what the new money had to return for it; net_return: what that does return."""

    to_invest: int
    bought: int
    loans: int
    net_return: float
    target: float
    target_of_new: float
    owned: int
    owned_loans: int
    owned_return: float

    @staticmethod
    def of(results: _Results, order: int, to_invest: int, target_of_new: float) -> _Outcome:
        owned = results.owned
        return _Outcome(
            to_invest, int(results.allocated[order]), int(results.loans[order]), float(results.net_return[order]),
            float(results.orders.target_return[order]), target_of_new,
            int(owned.principal[order]), int(owned.loans[order]), float(owned.net_return[order]),
        )

    def together(self, net_return: float) -> float:
        """Mean return of old and new money, were this the new money's."""
        if self.owned == 0:
            return net_return
        return (self.owned * self.owned_return + self.bought * net_return) / (self.owned + self.bought)


@dataclass(frozen=True)
class _Words:
    """Reasons in words for the orders of one currency."""

    currency: str
    note: int
    rules: Rules

    def money(self, amount: int) -> str:
        whole, minor = divmod(amount, self.rules.minor_units)
        digits = len(str(self.rules.minor_units)) - 1
        return f"{whole}.{minor:0{digits}d} {self.currency}" if minor else f"{whole} {self.currency}"

    def nothing_to_buy(self, offered: int, with_room: bool) -> str:
        if offered == 0:
            return f"No listing in {self.currency} is open tonight."
        if not with_room:
            return f"None of tonight's {offered} listings in {self.currency} has room for a note of {self.money(self.note)}."
        return f"Each of tonight's {offered} listings in {self.currency} with room for a note is expected to lose money."

    def holds(self, loans: int, principal: int, net_return: float) -> str:
        return (
            f"{loans} {'loan holds' if loans == 1 else 'loans hold'} {self.money(principal)}, expected to return "
            f"{net_return:.2%} a year net"
        )

    def fully_invested(self, left: int) -> str:
        """Why an order that owns something buys nothing: what is not at work is no note."""
        return "Nothing is left to invest." if left == 0 else (
            f"{self.money(left)} is left to invest: less than a note of {self.money(self.note)}."
        )

    def too_small(self, amount: int) -> str:
        if amount < self.note:
            return f"{self.money(amount)} is less than a note of {self.money(self.note)}."
        least = int(np.ceil(self.note / self.rules.identity_group_cap)) if self.rules.identity_group_cap else None
        needs = f"an order needs {self.money(least)}" if least else "nothing can be bought"
        return (
            f"With notes of {self.money(self.note)} and at most {self.rules.identity_group_cap * 100:g}% per borrower "
            f"{needs}: this one has {self.money(amount)}."
        )

    def room(self, binds: str) -> str:
        """Why there was no room for more."""
        return {
            "identity_group_cap": f"too few borrowers for at most {self.rules.identity_group_cap * 100:g}% each",
            "risk_group_cap": f"the caps per risk group ({self._caps()}) leave no more room",
            "listing_remaining": "tonight's listings have no more room for all orders together",
            SEVERAL: f"what {self._everything()} leave together is used up",
            "whole_notes": f"what is left fits no whole note of {self.money(self.note)} under the caps",
        }[binds]

    def limit(self, binds: str, target: float) -> str:
        """What stands between the order and its target."""
        return {
            "identity_group_cap": f"with at most {self.rules.identity_group_cap * 100:g}% per borrower",
            "risk_group_cap": f"with the caps per risk group ({self._caps()})",
            "listing_remaining": "with tonight's listings shared over all orders",
            SEVERAL: f"with what {self._everything()} leave together",
            "expected_return": f"with no set of open listings that is expected to return {target:.2%}",
        }[binds]

    def left_over(self, left: int, volume_binds: str | None) -> str:
        if left == 0:
            return ""
        if volume_binds is None:
            return f" {self.money(left)} is left: less than a note of {self.money(self.note)}."
        return f" {self.money(left)} is left: {self.room(volume_binds)}."

    def _everything(self) -> str:
        return (
            f"the cap of {self.rules.identity_group_cap * 100:g}% per borrower, the caps per risk group ({self._caps()}) and "
            "tonight's listings"
        )

    def _caps(self) -> str:
        return ", ".join(f"{number}: {cap * 100:.3g}%" for number, cap in enumerate(self.rules.risk_group_caps, start=1))
