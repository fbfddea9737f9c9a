"""The program of one tier: how much of each listing the orders with one target take together. HiGHS.

It minimises the conditional value at risk of the loss over scenarios (Rockafellar and Uryasev 2000) plus the price of
what is idiosyncratic. Amounts are in notes, fractional here.

**Cuts instead of scenarios.** CVaR is the largest of all means of the scenarios' losses under weights that add up to 1
and are nowhere above 1 / ((1 - level) scenarios) (Rockafellar and Uryasev 2002). So the full program's row and column
per scenario give way to one column for the tail loss and one row, a cut, for each weighting that has been the worst of
some solution (Kuenzi-Bay and Mayer 2006). Each solve is a lower bound of the optimum, each solution's own CVaR an upper
one; cuts are added until the two are within MAX_GAP. A cut is a mean loss by listing that holds for every tier, so tiers
share them. Columns are generated too: HiGHS sees those that a greedy portfolio of highest return suggests, then those
whose reduced cost has asked for them.

**Slices instead of squares.** What one party adds to the variance grows with the square of what is held of it. An order
holds whole notes, so it is priced linearly up to one note of each order (of large orders, up to FIRST_SLICE of the
cap), and from there by chords of the square over slices that double in width: exact at the slices' ends, and nowhere
more than an eighth above the square.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import highspy
import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csc_matrix, csr_matrix, vstack

from models.scenarios import tail_means, tail_weights, variance_price

# Of the program's value: lower and upper bound of a tier may differ by as much.
MAX_GAP = 1e-4
# Notes: bounds that are closer agree, whatever the value; HiGHS's own tolerances tell no less apart.
VALUE_TOLERANCE = 1e-6
# A cut too many means that bounds do not close: some 20 do in markets of 100,000 listings.
MAX_CUTS = 200
# Of the cuts that earlier orders needed, those that one that comes alone begins with: 77 orders in half the time.
KEPT_CUTS = 20
# Solves whose solution sets the price of variance anew, before it is held fixed.
PRICING_SOLVES = 3
# Of the cap per party: 640 parties at a cap of 5%. To price finer spreading would only multiply the columns.
FIRST_SLICE = 1 / 32
# Columns whose reduced cost per note is nearer to 0 do not enter; those that do, at least so many at once.
PRICE_TOLERANCE = 1e-7
LEAST_ENTERING = 2_000
# Of the notes that a risk group may take: listings of highest return of so many are the first columns.
SEEDED = 1.2
# Of HiGHS's simplex_strategy.
DUAL, PRIMAL = 1, 4
# Slack on a bound that an earlier solve has shown to be reachable: above HiGHS's own feasibility tolerance of 1e-7.
RELATIVE_SLACK = 1e-7
# What is narrower cannot become a note: it only slows the solver down.
LEAST_NOTES = 1e-4
# Portfolios that are valued at once: tens of MB at 1,000 scenarios.
BLOCK_PORTFOLIOS = 8_192


class SolverFailed(RuntimeError):
    """HiGHS ended without an optimum, or the bounds did not close."""


@dataclass
class Tail:
    """What can be lost on the listings, and the cuts that tiers have found so far.

    losses: mean loss given each scenario, fractions, shape (listings, scenarios); severity: loss on a listing that
    defaults. cuts: mean losses by listing under one weighting of the scenarios each; the first, which no CVaR is below,
    weighs all alike.
    """

    losses: np.ndarray
    severity: np.ndarray
    cuts: list[np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        scenarios = self.losses.shape[1]
        self.cuts = [self.under(np.full(scenarios, 1 / scenarios))]

    def forget_old_cuts(self) -> None:
        """Keep the first cut and the newest: what problems far from the next one needed only slows it down."""
        del self.cuts[1:-KEPT_CUTS]

    def under(self, weights: np.ndarray) -> np.ndarray:
        """Mean loss of each listing under weights of the scenarios."""
        return (self.losses @ weights.astype(self.losses.dtype)).astype(float)

    def of(self, notes: np.ndarray) -> np.ndarray:
        """Losses in each scenario of a portfolio in notes."""
        return (notes.astype(self.losses.dtype) @ self.losses).astype(float)


@dataclass(frozen=True)
class TierProblem:
    """One tier: arrays over listings, and the limits of its orders together.

    available: notes of each listing that this tier may take; group: code of the identity group, risk_group: 1 to the
    number of caps; notes: to invest, by so many orders; group_cap and risk_caps: notes per identity group and per risk
    group; target_return: mean over the notes taken. balance: shape (conditions, listings), values of which the sum over
    the notes taken must be 0 (a characteristic less the mean that it must have); None for no condition.
    """

    available: np.ndarray
    expected_net_return: np.ndarray
    group: np.ndarray
    risk_group: np.ndarray
    notes: float
    orders: int
    group_cap: float
    risk_caps: np.ndarray
    target_return: float
    solver_seconds: float
    balance: np.ndarray | None = None

    @property
    def conditions(self) -> np.ndarray:
        """balance, of shape (0, listings) where there is no condition."""
        return np.zeros((0, len(self.available))) if self.balance is None else self.balance

    @property
    def slice_ends(self) -> np.ndarray:
        """Where the slices of what is held of one party end, in notes; the last is the cap."""
        first, last = max(float(self.orders), FIRST_SLICE * self.group_cap), self.group_cap
        doublings = int(np.ceil(np.log2(max(1.0, last / first)) - 1e-9))
        return np.minimum(first * 2.0 ** np.arange(doublings + 1), last)


@dataclass(frozen=True)
class TierSolution:
    """notes per listing; reached: whether the mean return meets the target; best_return: the most that this volume
    can return (None where the target is met).

    marginal_risk: what a first note of each listing adds to the value, at the optimum; return_price: value per unit of
    return there. value: CVaR plus the price of variance, in notes; lower_bound: what no feasible portfolio's value is
    below. variance_price: of each listing, per unit of squared weight.
    """

    notes: np.ndarray
    reached: bool
    best_return: float | None
    marginal_risk: np.ndarray
    return_price: float
    value: float
    lower_bound: float
    variance_price: np.ndarray

    @property
    def gap(self) -> float:
        """How far the value may lie above the optimum, as a fraction of it."""
        above = self.value - self.lower_bound
        return above / self.value if above > VALUE_TOLERANCE else 0.0


class _Program:
    """One HiGHS model of a tier, solved for volume, return and tail loss in turn.

    Columns: slices of listings that are alone in their identity group; other listings whole; slices of groups of
    several. Rows: volume, return, one per risk group, one per condition of balance, one per group of several listings (the
    listings' sum within the slices'), then cuts. HiGHS holds the tail loss as its column 0 and, after it, the active columns.
    """

    def __init__(self, problem: TierProblem) -> None:
        self.problem = problem
        upper = np.minimum(problem.available, problem.group_cap)
        open_listings = np.flatnonzero(upper > LEAST_NOTES)
        codes, group, members = np.unique(problem.group[open_listings], return_inverse=True, return_counts=True)
        alone, several = members[group] == 1, np.flatnonzero(members > 1)
        whole = open_listings[~alone]
        sliced, width, slope = self._slices(upper[open_listings[alone]])
        self.group_of_slice, group_width, group_slope = self._slices(np.full(len(several), problem.group_cap))
        self.listing = np.concatenate([open_listings[alone][sliced], whole])
        self.upper = np.concatenate([width, upper[whole], group_width])
        # Of the squared weight.
        self.slope = np.concatenate([slope, np.zeros(len(whole)), group_slope])
        self.columns = len(self.upper)
        by_group, ends = np.argsort(group[~alone], kind="stable"), np.cumsum(members[several])[:-1]
        self.members = np.split(whole[by_group], ends)
        self.columns_of_group = np.split(len(sliced) + by_group, ends)

        balance = problem.conditions
        first_balance_row = 2 + len(problem.risk_caps)
        first_group_row = first_balance_row + len(balance)
        row_of_group = np.zeros(len(codes), dtype=int)
        row_of_group[several] = first_group_row + np.arange(len(several))
        listings, of_groups = np.arange(len(self.listing)), np.arange(len(self.listing), self.columns)
        ones = np.ones(len(listings))
        row, column, value = (np.concatenate(parts) for parts in zip(
            (np.zeros(len(listings), dtype=int), listings, ones),
            (np.ones(len(listings), dtype=int), listings, problem.expected_net_return[self.listing]),
            (1 + problem.risk_group[self.listing], listings, ones),
            (
                np.repeat(np.arange(first_balance_row, first_group_row), len(listings)), np.tile(listings, len(balance)),
                balance[:, self.listing].ravel(),
            ),
            (row_of_group[group[~alone]], listings[len(sliced) :], np.ones(len(whole))),
            (first_group_row + self.group_of_slice, of_groups, -np.ones(len(of_groups))),
            strict=True,
        ))
        rows = first_group_row + len(several)
        self.matrix = csc_matrix((value, (row, column)), shape=(rows, self.columns))
        self.active = np.zeros(0, dtype=int)
        self.cuts: list[np.ndarray] = []
        self.solver = highspy.Highs()
        for option, given in (
            ("output_flag", False), ("threads", 1), ("random_seed", 0), ("time_limit", problem.solver_seconds),
        ):
            self.solver.setOptionValue(option, given)
        infinite = highspy.kHighsInf
        self.solver.addVar(-infinite, infinite)
        bounds = np.full((rows, 2), [-infinite, 0.0])
        bounds[:first_balance_row, 1] = problem.notes, infinite, *problem.risk_caps
        bounds[first_balance_row:first_group_row, 0] = 0.0
        for least, most in bounds:
            self.solver.addRow(least, most, 0, np.zeros(0, dtype=np.int32), np.zeros(0))

    def _slices(self, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Slices of holdings up to upper: whose (position), width in notes and mean slope of the squared weight.

        A slice narrower than LEAST_NOTES is part of the one below: without it the program could not place all that there is."""
        ends = self.problem.slice_ends
        starts = np.concatenate([[0.0], ends[:-1]])
        width = np.clip(upper[:, None] - starts, 0, ends - starts)
        width[:, :-1] += np.where(width[:, 1:] > LEAST_NOTES, 0.0, width[:, 1:])
        whose, which = np.nonzero(width > LEAST_NOTES)
        return whose, width[whose, which], (starts + ends)[which] / max(self.problem.notes, 1.0)

    def solve(
        self, cost: np.ndarray, tail_cost: float, volume: float, least_return: float
    ) -> tuple[np.ndarray, float]:
        """The columns of least cost with at least this volume (notes) and sum of return, and a lower bound of the cost.

        Columns enter as their reduced costs ask for it (Gilmore and Gomory 1961), all where those that are active have no
        solution. Raises SolverFailed where all have none.
        """
        infinite = highspy.kHighsInf
        self.solver.changeColsCost(
            1 + len(self.active), np.arange(1 + len(self.active), dtype=np.int32), np.append(tail_cost, cost[self.active])
        )
        self.solver.changeRowBounds(0, volume, self.problem.notes)
        self.solver.changeRowBounds(1, least_return, infinite)
        anew = False
        while True:
            self.solver.run()
            status = self.solver.getModelStatus()
            if status == highspy.HighsModelStatus.kInfeasible and len(self.active) < self.columns:
                self._enter(np.setdiff1d(np.arange(self.columns), self.active), cost)
                continue
            if status == highspy.HighsModelStatus.kUnknown and not anew:
                # Begun at a vertex of ours, the primal simplex method may lose its way.
                self.solver.clearSolver()
                self.solver.setOptionValue("simplex_strategy", DUAL)
                anew = True
                continue
            if status != highspy.HighsModelStatus.kOptimal:
                raise SolverFailed(
                    f"HiGHS ended with {self.solver.modelStatusToString(status)} on {len(self.active)} columns for target "
                    f"{self.problem.target_return:.4f}: allocation.solver_seconds is {self.problem.solver_seconds}"
                )
            reduced = cost - self.by_column(self.marginal_cuts()) - self.matrix.T @ self.duals()[: self.matrix.shape[0]]
            reduced[self.active] = 0.0
            entering = np.flatnonzero(reduced < -PRICE_TOLERANCE)
            if len(entering) == 0:
                break
            promise = reduced[entering] * self.upper[entering]
            most = max(LEAST_ENTERING, len(self.active))
            self._enter(entering[np.sort(np.argsort(promise, kind="stable")[:most])], cost)
        found = np.zeros(self.columns)
        found[self.active] = np.array(self.solver.getSolution().col_value)[1:]
        # What has not entered could lower the cost by no more: listings, and again slices of groups, add up to the notes.
        unpriced = 2 * self.problem.notes * float(reduced.min(initial=0.0))
        return np.clip(found, 0, self.upper), self.solver.getObjectiveValue() + unpriced

    def _enter(self, columns: np.ndarray, cost: np.ndarray) -> None:
        """Hand columns over to HiGHS, with their part in the cuts."""
        in_cuts = np.zeros((len(self.cuts), len(columns)))
        for number, cut in enumerate(self.cuts):
            in_cuts[number] = self.by_column(cut)[columns]
        entries = vstack([self.matrix[:, columns], csc_matrix(in_cuts)]).tocsc()
        self.solver.addCols(
            len(columns), cost[columns], np.zeros(len(columns)), self.upper[columns], entries.nnz,
            entries.indptr[:-1].astype(np.int32), entries.indices.astype(np.int32), entries.data,
        )
        self.active = np.append(self.active, columns)

    def duals(self) -> np.ndarray:
        """Of the rows, at the optimum found last."""
        return np.array(self.solver.getSolution().row_dual)

    def marginal_cuts(self) -> np.ndarray:
        """Of each listing, its part in the cuts at their duals: less what a note of it adds to the tail loss."""
        duals = self.duals()[self.matrix.shape[0] :]
        return sum((dual * cut for dual, cut in zip(duals, self.cuts, strict=True)), np.zeros(len(self.problem.available)))

    def return_price(self) -> float:
        return max(0.0, float(self.duals()[1]))

    def by_column(self, of_listings: np.ndarray) -> np.ndarray:
        """Values of listings as ones of columns, 0 for slices of groups."""
        values = np.zeros(self.columns)
        values[: len(self.listing)] = of_listings[self.listing]
        return values

    def by_listing(self, columns: np.ndarray) -> np.ndarray:
        return np.bincount(self.listing, columns[: len(self.listing)], len(self.problem.available))

    def most_return(self, volume: float) -> float:
        """The highest sum of return over this volume, the most that can be placed. The first of all solves."""
        cost = -self.by_column(self.problem.expected_net_return)
        self._begin(cost)
        self.solver.setOptionValue("simplex_strategy", PRIMAL)
        found = -float(cost @ self.solve(cost, 0.0, volume * (1 - RELATIVE_SLACK), -highspy.kHighsInf)[0])
        self.solver.setOptionValue("simplex_strategy", DUAL)
        return found

    def _begin(self, cost: np.ndarray) -> None:
        """Hand over the first columns, and the vertex that taking the cheapest listings whole leads to.

        That vertex is feasible but for volume and balance, and next to the optimum: the primal simplex method needs a few pivots
        where, from nothing, thousands of bounds would have to be flipped.
        """
        problem, listings = self.problem, np.arange(len(self.listing))
        of_groups = np.arange(len(listings), self.columns)
        by_cost = listings[np.argsort(cost[listings], kind="stable")]
        risk_group = problem.risk_group[self.listing[by_cost]] - 1
        taken, seeds = np.ones(self.columns, dtype=bool), [of_groups]
        for number, cap in enumerate(problem.risk_caps):
            mine = by_cost[risk_group == number]
            total = np.cumsum(self.upper[mine])
            seeds.append(mine[total - self.upper[mine] < SEEDED * min(cap, problem.notes)])
            taken[mine] = total <= cap
        for members in self.columns_of_group:
            taken[members] &= self.upper[members].sum() <= problem.group_cap
        total = np.cumsum(np.where(taken[by_cost], self.upper[by_cost], 0.0))
        taken[by_cost] &= total <= problem.notes
        self._enter(np.concatenate(seeds), cost)
        basis, status = highspy.HighsBasis(), highspy.HighsBasisStatus
        basis.col_status = [status.kZero, *np.where(taken[self.active], status.kUpper, status.kLower)]
        basis.row_status = [status.kBasic] * self.matrix.shape[0]
        self.solver.setBasis(basis)

    def add_cut(self, mean_losses: np.ndarray) -> None:
        """The tail loss is at least the loss under one weighting of the scenarios."""
        self.cuts.append(mean_losses)
        self.solver.addRow(
            -highspy.kHighsInf, 0.0, 1 + len(self.active), np.arange(1 + len(self.active), dtype=np.int32),
            np.append(-1.0, self.by_column(mean_losses)[self.active]),
        )

    def variance_cost(self, variance: np.ndarray) -> np.ndarray:
        """Cost of each column for a price of 1 on variance; variance: of each listing, per unit squared weight."""
        of_groups = np.array([variance[members].max() for members in self.members if len(members)])
        return self.slope * np.concatenate([variance[self.listing], of_groups[self.group_of_slice]])


def most_volume(problem: TierProblem) -> float:
    """Notes that can be placed under the caps, at most those to invest.

    Listings of one party and risk group count together, and so do parties that lie in one risk group only: what is left
    is a program of the few that lie in several.
    """
    upper = np.minimum(problem.available, problem.group_cap)
    offered = np.flatnonzero(upper > LEAST_NOTES)
    if len(offered) == 0 or problem.notes <= 0:
        return 0.0
    risk_groups = len(problem.risk_caps)
    balance = problem.conditions
    # Conditions of balance are of single listings, which then do not count together.
    key = offered if len(balance) else problem.group[offered] * risk_groups + problem.risk_group[offered] - 1
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    room = np.minimum(np.bincount(which, upper[offered]), problem.group_cap)
    first = offered[first]
    _, party, spread = np.unique(problem.group[first], return_inverse=True, return_counts=True)
    risk_group = problem.risk_group[first] - 1
    several = np.ones(len(first), dtype=bool) if len(balance) else spread[party] > 1
    alone = np.bincount(risk_group[~several], room[~several], risk_groups)
    _, party = np.unique(party[several], return_inverse=True)
    room = np.concatenate([alone, room[several]])
    risk_group = np.concatenate([np.arange(risk_groups), risk_group[several]])
    column = np.arange(len(room))
    caps = [problem.notes, *problem.risk_caps, *np.full(party.max(initial=-1) + 1, problem.group_cap)]
    row = np.concatenate([np.zeros(len(room), dtype=int), 1 + risk_group, 1 + risk_groups + party])
    within = csc_matrix(
        (np.ones(len(row)), (row, np.concatenate([column, column, column[risk_groups:]]))), shape=(len(caps), len(room))
    )
    balanced = np.hstack([np.zeros((len(balance), risk_groups)), balance[:, first[several]]])
    found = linprog(
        -np.ones(len(room)), within, caps, balanced, np.zeros(len(balance)),
        bounds=np.column_stack([np.zeros(len(room)), room]),
    )
    if found.status != 0:
        raise SolverFailed(f"most volume of {len(room)} parties and risk groups: {found.message}")
    return -float(found.fun)


def solve_tier(problem: TierProblem, tail: Tail) -> TierSolution:
    """The tier's amounts: invest all that the caps allow, reach the target or come nearest, then risk least.

    Variance is priced at the portfolios that the first solves find, then held fixed: value and lower_bound are of the
    program with that price. Cuts that it finds are added to tail. Raises SolverFailed when HiGHS finds no optimum in
    solver_seconds and when MAX_CUTS do not close the gap.
    """
    volume = most_volume(problem)
    if volume <= 1e-6:
        count = len(problem.available)
        return TierSolution(np.zeros(count), False, None, np.zeros(count), 0.0, 0.0, 0.0, np.zeros(count))
    program = _Program(problem)
    best, goal = program.most_return(volume), problem.target_return * volume
    best_return = None if best >= goal * (1 - RELATIVE_SLACK) else best / volume
    slack = RELATIVE_SLACK * max(1.0, abs(best))
    bounds = volume * (1 - 2 * RELATIVE_SLACK), goal if best > goal + slack else min(goal, best) - slack
    # The portfolio of least mean loss is the first to cut at.
    columns, _ = program.solve(program.by_column(tail.cuts[0]), 0.0, *bounds)
    for cut in tail.cuts:
        program.add_cut(cut)
    found, value, lower_bound = columns, np.inf, -np.inf
    for solves in range(MAX_CUTS):
        losses = tail.of(program.by_listing(columns))
        cut = tail.under(tail_weights(losses))
        if solves < PRICING_SOLVES:
            variance = np.clip(cut * (tail.severity - cut), 0, None)
            cost = program.variance_cost(variance)
            per_variance = variance_price(losses / problem.notes, float(cost @ columns) / problem.notes)
            cost *= per_variance
            value, lower_bound = np.inf, -np.inf
        own = float((program.by_column(cut) + cost) @ columns)
        if own < value:
            found, value = columns, own
        if value - lower_bound <= max(MAX_GAP * abs(value), VALUE_TOLERANCE):
            first_note = per_variance * variance * problem.slice_ends[0] / problem.notes
            return TierSolution(
                program.by_listing(found), best_return is None, best_return, first_note - program.marginal_cuts(),
                program.return_price(), value, lower_bound, per_variance * variance,
            )
        tail.cuts.append(cut)
        program.add_cut(cut)
        columns, lower_bound = program.solve(cost, 1.0, *bounds)
    raise SolverFailed(f"target {problem.target_return:.4f}: {MAX_CUTS} cuts leave the value between {lower_bound} and {value} notes")


def excess_values(portfolios: csr_matrix, problem: TierProblem, solution: TierSolution, tail: Tail) -> np.ndarray:
    """How far each portfolio's value lies above the least that the tier's program allows, as a fraction of what is invested.

    portfolios: one a row, weights of the listings that add up to 1. Each is blown up to what the tier invests and valued
    as the tier's own solution is, chords included, so the excess over lower_bound is at least the distance to the
    optimum. Negative for a portfolio that the tier itself could not hold: it returns less than the tier's target, or
    has more of a listing than the tier's share. Null (nan) where the tier's solution holds nothing.
    """
    volume = solution.notes.sum()
    if volume <= 1e-6:
        return np.full(portfolios.shape[0], np.nan)
    listings = np.arange(len(problem.group))
    parties = csr_matrix((np.ones(len(listings)), (listings, problem.group)))
    dearest = np.zeros(parties.shape[1])
    np.maximum.at(dearest, problem.group, np.where(problem.available > LEAST_NOTES, solution.variance_price, 0.0))
    ends = np.append(0.0, problem.slice_ends)
    of_parties = (portfolios @ parties).tocsr()
    held = of_parties.data * volume
    chords = np.where(held > ends[-1], held**2, np.interp(held, ends, ends**2))
    of_parties.data = dearest[of_parties.indices] * chords / problem.notes
    systematic = [
        tail_means(portfolios[start : start + BLOCK_PORTFOLIOS].astype(tail.losses.dtype) @ tail.losses)
        for start in range(0, portfolios.shape[0], BLOCK_PORTFOLIOS)
    ]
    idiosyncratic = np.asarray(of_parties.sum(axis=1)).ravel()
    return np.concatenate(systematic) + (idiosyncratic - solution.lower_bound) / volume


def most_return(problem: TierProblem) -> tuple[float, float]:
    """Notes that can be placed under the caps, and the highest mean return over as many (0 where none can)."""
    volume = most_volume(problem)
    return (volume, _Program(problem).most_return(volume) / volume) if volume > 1e-6 else (0.0, 0.0)


RELAXATIONS = ("identity_group_cap", "risk_group_cap", "listing_remaining")


def volume_constraint(problem: TierProblem) -> str | None:
    """Which family of constraints, dropped alone, would let most notes more be placed; the first on a tie.

    None where only several together keep notes from being placed.
    """
    volume = most_volume(problem)
    volumes = {name: most_volume(_without(problem, name)) for name in RELAXATIONS}
    binds = max(RELAXATIONS, key=lambda name: round(volumes[name], 6))
    return binds if volumes[binds] > volume + 1e-6 * max(1.0, volume) else None


def return_constraint(problem: TierProblem) -> str | None:
    """Which family of constraints, dropped alone, would raise the highest mean return most; the first on a tie.

    The volume stays what it is with all constraints. None where only several together stand in the way, or none does.
    """
    volume = most_volume(problem)
    if volume <= 1e-6:
        return None
    best = _Program(problem).most_return(volume)
    returns = {name: _Program(_without(problem, name)).most_return(volume) for name in RELAXATIONS}
    binds = max(RELAXATIONS, key=lambda name: round(returns[name], 6))
    return binds if returns[binds] > best + 1e-6 * max(1.0, abs(best)) else None


def _without(problem: TierProblem, constraint: str) -> TierProblem:
    """The problem with one family of constraints dropped."""
    if constraint == "identity_group_cap":
        return replace(problem, group_cap=max(problem.group_cap, problem.notes))
    if constraint == "risk_group_cap":
        return replace(problem, risk_caps=np.full(len(problem.risk_caps), problem.notes))
    return replace(problem, available=np.where(problem.available > 0, problem.notes, 0.0))
