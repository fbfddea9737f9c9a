"""Spread tonight's orders over tonight's listings: linear programs on HiGHS, then whole notes. No Spark.

All orders of a currency together:

1. Orders with the same target, rounded up to a multiple of target_step, form a tier; orders of a tier are equals.
2. Each listing is offered to the tiers pro rata to their money. Each tier's program places all it can under the caps,
   reaches its target or comes nearest, and then has the least conditional value at risk over scenarios
   (``models.tier_program``, ``models.scenarios``).
3. Tiers short of their target get a second solve in which what the others did not take is offered too, pro rata. Those
   whose target is still beyond reach become one tier that takes the most return to be had.
4. The tier's amounts become whole notes per order (``models.order_notes``), in parts of many orders that are independent
   of each other; caps and remainders hold exactly.
5. Each order's CVaR is told from fresh scenarios with drawn defaults, which no program has seen.

What an order owns already counts (``models.owned``): only the rest of its amount is invested, at the return that old and
new money together need for the target, under what room is left. Orders that own something form tiers of their own, as
their rooms differ; an order's own rooms then project its tier's proportions.

A listing that is expected to lose money is not bought for anyone. Input order never matters: everything is sorted by
id first, and ties go to the smaller id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from models.order_notes import Holdings, Market, Part, Tier, Totals, joined, parts_of
from models.owned import Owned, party_rooms, target_of_new_money, whole_notes_of
from models.scenarios import DefaultCorrelation, Exposures
from models.tier_program import (
    SolverFailed,
    Tail,
    TierProblem,
    most_return,
    return_constraint,
    solve_tier,
    volume_constraint,
)
from models.whole_notes import OrderLimits

ON_TARGET, BELOW_TARGET, UNFILLED = "on_target", "below_target", "unfilled"
# The binding constraint of an order whose program found no optimum; only where each order is alone.
SOLVER_FAILED = "solver_failed"
# The binding constraint where no family of constraints, dropped alone, would make a difference.
SEVERAL = "several_constraints"
# A mean return within a hundred-millionth of the target has reached it: the target is typed with four decimals.
RETURN_TOLERANCE = 1e-8
# The target of who asks for as much return as is to be had; orders have finite ones.
MOST_RETURN = np.inf


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
class Outcomes:
    """What became of each order, in input order.

    allocated (minor units), expected_net_return and expected_loss (weighted by amount, nan when unfilled), cvar95 (of the
    loss, from fresh scenarios; nan when unfilled), loan_count, status (on_target, below_target, unfilled),
    binding_constraint (a name or None) and message. All of these but status, which is that of all that the order owns
    (unfilled: nothing), are of what is bought tonight; owned_net_return is of old and new together. rounding_gap: at most
    so far does the tail loss of the order's whole notes lie above that of its tier's continuous optimum, both as the
    programs value it (``excess_values``, also for when it is negative), a fraction of what is allocated; nan when unfilled
    or where the optimum holds nothing. largest_gap: of any tier's program, how far its value may lie above the optimum, as
    a fraction.
    """

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


@dataclass(frozen=True)
class Allocation(Outcomes):
    """Outcomes and holdings: order and listing (positions in the input), and amount in minor units, sorted by order and
    loan id."""

    order: np.ndarray
    listing: np.ndarray
    amount: np.ndarray

    def of(self, orders: np.ndarray) -> Allocation:
        """These orders (rising positions) alone."""
        place = np.full(len(self.allocated), -1)
        place[orders] = np.arange(len(orders))
        kept = place[self.order] >= 0
        holdings = {"order": place[self.order[kept]], "listing": self.listing[kept], "amount": self.amount[kept]}
        per_order = {one.name for one in fields(self)} - {*holdings, "largest_gap"}
        return replace(self, **holdings, **{name: getattr(self, name)[orders] for name in per_order})


def allocate(
    orders: Orders, listings: Listings, rules: Rules, seed: int, owned: Owned | None = None, balance: np.ndarray | None = None
) -> Allocation:
    """Holdings for every order, whole notes each, and what became of the order in words. seed: of the scenarios; owned:
    before tonight, None where no order owns anything.

    balance: values of the listings, shape (conditions, listings), of which each tier's mean is 0 before its notes are
    made whole; None for no condition. A portfolio is so held to the mix of another: a characteristic less its mean there.

    Raises ValueError for an order or listing id that stands twice, a null or infinite number, a probability that is none
    or does not go with its expected loss, a risk group without a cap or a currency without a note, and more notes in a
    tier than can be dealt; SolverFailed when HiGHS finds no optimum in time.
    """
    solved = solve(orders, listings, rules, seed, owned, balance)
    given = [part.give() for part in solved.parts]
    held = [(part.market, holdings) for part, (_, holdings) in zip(solved.parts, given, strict=True)]
    return _with_holdings(solved.outcomes(totals for totals, _ in given), held, orders, listings)


def solve(
    orders: Orders, listings: Listings, rules: Rules, seed: int, owned: Owned | None = None, balance: np.ndarray | None = None
) -> Solved:
    """The programs of ``allocate``, with its arguments and errors; the parts of what is found give orders their notes."""
    _refuse_bad_input(orders, listings, rules)
    solved = Solved(orders, listings, rules, owned or Owned.nothing(orders.order_id, len(rules.risk_group_caps)))
    for market, book in solved.markets(seed, balance):
        tiers = _solve_tiers(market, market.tail(), book, rules)
        solved.books.append((market, tiers))
        solved.parts += parts_of(market, tiers)
    return solved


def allocate_alone(orders: Orders, listings: Listings, rules: Rules, seed: int) -> Allocation:
    """What each order would get if it were tonight's only one; a target may be MOST_RETURN. Else as ``allocate``, but an
    order of which HiGHS finds no optimum in time is unfilled: its binding constraint is SOLVER_FAILED, its message says why.
    """
    finite = np.where(orders.target_return == MOST_RETURN, 0.0, orders.target_return)
    _refuse_bad_input(replace(orders, target_return=finite), listings, rules)
    solved = Solved(orders, listings, rules, Owned.nothing(orders.order_id, len(rules.risk_group_caps)))
    given: list[tuple[Market, Holdings]] = []
    for market, book in solved.markets(seed, None):
        own, tail = [], market.tail()
        for position in book:
            try:
                tiers = _solve_tiers(market, tail, position[None], rules)
                totals, held = parts_of(market, tiers)[0].give(tail, with_cvar=False)
                solved.record(totals)
                solved.explain(market, tiers)
            except SolverFailed as problem:
                solved.fail(market.orders[position], str(problem))
            else:
                own.append(held)
        if own:
            held = joined(own)
            solved.cvar95[market.orders[book]] = market.cvar95(book, held)
            given.append((market, held))
    return _with_holdings(solved.outcomes(()), given, orders, listings)


def _with_holdings(
    outcomes: Outcomes, given: Sequence[tuple[Market, Holdings]], orders: Orders, listings: Listings
) -> Allocation:
    order, listing, amount = (
        np.concatenate([np.zeros(0, dtype=np.int64), *parts]) for parts in (
            [market.orders[held.order] for market, held in given],
            [market.listings[held.listing] for market, held in given],
            [held.notes * market.note for market, held in given],
        )
    )
    # Ranks once per id, not strings once per holding: there may be millions of these.
    by_id = np.lexsort((_rank(listings.loan_id)[listing], _rank(orders.order_id)[order]))
    return Allocation(**vars(outcomes), order=order[by_id], listing=listing[by_id], amount=amount[by_id])


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


class Solved:
    """Orders, and what is known of what becomes of them. books: markets, and tiers whose orders are allocated together;
    parts: of all books, which give orders their notes, each by itself. From what these add up to, the outcomes are told."""

    def __init__(self, orders: Orders, listings: Listings, rules: Rules, owned: Owned) -> None:
        count = len(orders.order_id)
        self.orders, self.listings, self.rules, self.owned = orders, listings, rules, owned
        self.books: list[tuple[Market, Sequence[Tier]]] = []
        self.parts: list[Part] = []
        self.allocated = np.zeros(count, dtype=np.int64)
        self.loan_count = np.zeros(count, dtype=np.int64)
        self.expected_net_return, self.expected_loss, self.rounding_gap, self.cvar95 = np.full((4, count), np.nan)
        self.status = np.full(count, UNFILLED, dtype=object)
        self.binding_constraint = np.full(count, None, dtype=object)
        self.message = np.full(count, "", dtype=object)
        self.largest_gap = 0.0

    def markets(self, seed: int, balance: np.ndarray | None) -> Iterator[tuple[Market, np.ndarray]]:
        """A market of each currency in which something may be bought, and the orders (positions in it) that may buy; the
        others are told why not."""
        orders, listings = self.orders, self.listings
        for currency in map(str, np.unique(orders.currency)):
            mine = np.flatnonzero(orders.currency == currency)
            offered = np.flatnonzero(listings.currency == currency)
            mine = mine[np.argsort(orders.order_id[mine].astype(str), kind="stable")]
            offered = offered[np.argsort(listings.loan_id[offered].astype(str), kind="stable")]
            note, words = self.rules.note[currency], self._words(currency)
            notes = listings.remaining[offered] // note
            buyable = (notes > 0) & (listings.expected_net_return[offered] > 0)
            if not buyable.any():
                reason = words.nothing_to_buy(len(offered), bool((notes > 0).any()))
                for order in mine:
                    self._buy_nothing(order, "listing_remaining", reason, words)
                continue
            market = self._market(currency, mine, offered[buyable], seed, balance)
            large_enough = (market.limits.notes > 0) & (market.limits.group_cap > 0)
            for order in mine[~large_enough]:
                amount, principal = int(orders.amount[order]), int(self.owned.principal[order])
                if principal > 0:
                    self._buy_nothing(order, "fully_invested", words.fully_invested(max(amount - principal, 0)), words)
                else:
                    self._buy_nothing(order, "note_amount", words.too_small(amount), words)
            if large_enough.any():
                yield market, np.flatnonzero(large_enough)

    def _market(
        self, currency: str, orders: np.ndarray, offered: np.ndarray, seed: int, balance: np.ndarray | None
    ) -> Market:
        rules, listings, note = self.rules, self.listings, self.rules.note[currency]
        notes = (listings.remaining[offered] // note).astype(np.int64)
        parties = listings.identity_group_id[offered]
        exposures = Exposures(
            prob_default=listings.prob_default_lifetime[offered].astype(float),
            expected_loss=listings.expected_loss[offered].astype(float),
            party=np.unique(parties.astype(str), return_inverse=True)[1],
            risk_group=listings.risk_group[offered].astype(np.int64),
        )
        rooms = party_rooms(
            self.owned, orders, self.orders.amount[orders], parties, currency, rules.identity_group_cap, note
        )
        return Market(
            orders, offered, note, notes, listings.expected_net_return[offered].astype(float), exposures.expected_loss,
            exposures.at_level(rules.default_level), self._order_limits(orders, note, int(notes.sum()), rooms),
            None if balance is None else balance[:, offered], rules.correlation, rules.scenarios,
            rules.evaluation_scenarios, seed,
        )

    def _order_limits(
        self, orders: np.ndarray, note: int, offered: int, rooms: Mapping[int, tuple[np.ndarray, np.ndarray]]
    ) -> OrderLimits:
        """Whole notes that each order may buy, in all, per identity group and per risk group; offered: notes for sale
        tonight. rooms: for parties of which something is owned."""
        rules, owned = self.rules, self.owned
        amount, principal = self.orders.amount[orders], owned.principal[orders]
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
                self.orders.target_return[orders].astype(float), principal, owned.net_return[orders], notes * note
            ),
            owns=principal > 0,
            party_rooms=rooms,
        )

    def record(self, totals: Totals) -> None:
        """Take down what some orders buy."""
        for one in fields(totals):
            if one.name != "order":
                getattr(self, one.name)[totals.order] = getattr(totals, one.name)

    def explain(self, market: Market, tiers: Sequence[Tier]) -> None:
        """Tell why the orders of a book buy what they buy. Raises SolverFailed."""
        words = self._words(str(self.orders.currency[market.orders[0]]))
        highest_return = float(market.expected_net_return.max())
        for tier in tiers:
            self.largest_gap = max(self.largest_gap, tier.solution.gap)
            explanation = _Explanation(tier, highest_return, words)
            for position in tier.orders:
                order = market.orders[position]
                if self.allocated[order] == 0:
                    binding = explanation.volume_binds
                    self._buy_nothing(order, binding, f"No note could be placed: {words.room(binding)}.", words)
                else:
                    told = explanation.of(self._outcome(order, float(market.limits.target_return[position])))
                    self.status[order], self.binding_constraint[order], self.message[order] = told

    def fail(self, order: int, why: str) -> None:
        """Leave an order unfilled, whatever had been bought for it."""
        self.allocated[order] = self.loan_count[order] = 0
        for of_order in (self.expected_net_return, self.expected_loss, self.rounding_gap):
            of_order[order] = np.nan
        self.status[order], self.binding_constraint[order], self.message[order] = UNFILLED, SOLVER_FAILED, why

    def outcomes(self, given: Iterable[Totals]) -> Outcomes:
        """What became of the orders, once every part has given its notes: these totals. Raises SolverFailed, and ValueError
        where an order's are missing."""
        recorded = np.zeros(len(self.allocated), dtype=bool)
        for totals in given:
            self.record(totals)
            recorded[totals.order] = True
        missing = sum(int((~recorded[part.market.orders[part.orders]]).sum()) for part in self.parts)
        if missing:
            raise ValueError(f"{missing} orders have not been given their notes")
        for market, tiers in self.books:
            self.explain(market, tiers)
        told = {one.name: getattr(self, one.name) for one in fields(Outcomes) if one.name != "owned_net_return"}
        together = np.array([self._together(order) for order in range(len(self.allocated))])
        return Outcomes(**told, owned_net_return=together)

    def _words(self, currency: str) -> _Words:
        return _Words(currency, self.rules.note[currency], self.rules)

    def _outcome(self, order: int, target_of_new: float) -> _Outcome:
        owned = self.owned
        principal = int(owned.principal[order])
        return _Outcome(
            max(int(self.orders.amount[order]) - principal, 0), int(self.allocated[order]), int(self.loan_count[order]),
            float(self.expected_net_return[order]), float(self.orders.target_return[order]), target_of_new,
            principal, int(owned.loans[order]), float(owned.net_return[order]),
        )

    def _together(self, order: int) -> float:
        """Mean expected net return of what the order owned before and buys; nan where that is nothing."""
        owned, bought = int(self.owned.principal[order]), int(self.allocated[order])
        if bought == 0:
            return float(self.owned.net_return[order]) if owned else np.nan
        if owned == 0:
            return float(self.expected_net_return[order])
        return float((owned * self.owned.net_return[order] + bought * self.expected_net_return[order]) / (owned + bought))

    def _buy_nothing(self, order: int, binding: str, message: str, words: _Words) -> None:
        """Tell why nothing is bought for an order; its status is that of what it owns."""
        self.binding_constraint[order], self.message[order] = binding, message
        if self.owned.principal[order] > 0:
            target = float(self.orders.target_return[order])
            reaches = self._together(order) >= target - RETURN_TOLERANCE
            self.status[order] = ON_TARGET if reaches else BELOW_TARGET
            holds = words.holds(int(self.owned.loans[order]), int(self.owned.principal[order]), self._together(order))
            self.message[order] = f"{message} {holds}; the target is {target:.2%}."


def _rank(ids: np.ndarray) -> np.ndarray:
    return np.unique(ids.astype(str), return_inverse=True)[1]


def _solve_tiers(market: Market, tail: Tail, orders: np.ndarray, rules: Rules) -> list[Tier]:
    """Tiers by rising target, solved: first on their own share of every listing, then those short of it once more."""
    tail.forget_old_cuts()
    limits, step, highest = market.limits, rules.target_step, float(market.expected_net_return.max())
    # Targets above every listing are one tier, and those that any portfolio reaches another.
    number = np.ceil(np.clip(limits.target_return[orders], 0, highest + step) / step - 1e-9).astype(np.int64)
    owns = limits.owns[orders]
    targets = {
        (bool(more), float(one * step)): orders[(number == one) & (owns == more)]
        for more in np.unique(owns) for one in np.unique(number[owns == more])
    }
    offered = market.notes.astype(float)
    first = _solve_round(targets, offered, market, tail, rules)
    if not first.beyond and all(tier.solution.reached for tier in first.tiers):
        return first.tiers
    reached = [tier for tier in first.tiers if tier.solution.reached]
    short = {
        (bool(limits.owns[tier.orders[0]]), tier.problem.target_return): tier.orders
        for tier in first.tiers if not tier.solution.reached
    } | first.beyond
    left = offered - sum((tier.solution.notes for tier in reached), np.zeros(len(offered)))
    second = _solve_round(short, np.clip(left, 0, None), market, tail, rules)
    if not second.beyond:
        return reached + second.tiers
    # All that is to be had: a target above every listing.
    tiers = [*reached, *second.tiers]
    for more in sorted({owns for owns, _ in second.beyond}):
        beyond = np.sort(np.concatenate([mine for (owns, _), mine in second.beyond.items() if owns == more]))
        problem = _problem(beyond, highest + step, second.offered_per_note, market, rules)
        tiers.append(Tier(beyond, problem, solve_tier(problem, tail)))
    return tiers


@dataclass(frozen=True)
class _Round:
    """What one round of solving found: tiers solved, and orders by whether they own something and target, where that is
    beyond what all of their kind together can return. offered_per_note: of each listing, for each note to invest."""

    tiers: list[Tier]
    beyond: dict[tuple[bool, float], np.ndarray]
    offered_per_note: np.ndarray


def _solve_round(
    targets: Mapping[tuple[bool, float], np.ndarray],
    offered: np.ndarray,
    market: Market,
    tail: Tail,
    rules: Rules,
) -> _Round:
    """Offer listings (in notes) to the tiers pro rata to their money and solve each tier within reach."""
    limits, everyone = market.limits, np.sort(np.concatenate(list(targets.values())))
    per_note = offered / limits.notes[everyone].sum()
    # Shares and caps of a tier are in proportion to those of all of its kind together, so one solve tells what is within
    # reach; nearly so where something is owned, and a tier that misses its target for it comes nearest.
    ceilings = {
        more: most_return(_problem(everyone[limits.owns[everyone] == more], 0.0, per_note, market, rules))[1]
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
        problem = _problem(mine, target, per_note, market, rules)
        tiers.append(Tier(mine, problem, solve_tier(problem, tail)))
    return _Round(tiers, beyond, per_note)


def _problem(
    orders: np.ndarray, target: float, offered_per_note: np.ndarray, market: Market, rules: Rules
) -> TierProblem:
    """The program's data for these orders (positions) together."""
    limits = market.limits
    notes = float(limits.notes[orders].sum())
    return TierProblem(
        available=offered_per_note * notes,
        expected_net_return=market.expected_net_return,
        group=market.exposures.party,
        risk_group=market.exposures.risk_group,
        notes=notes,
        orders=len(orders),
        group_cap=float(limits.group_cap[orders].sum()),
        risk_caps=limits.risk_caps[orders].sum(axis=0).astype(float),
        target_return=target,
        solver_seconds=rules.solver_seconds,
        balance=market.balance,
    )


class _Explanation:
    """Status, binding constraint and message of a tier's orders; what binds is only asked when something does."""

    def __init__(self, tier: Tier, highest_return: float, words: _Words) -> None:
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
