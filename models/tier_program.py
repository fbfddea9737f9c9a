"""The program of one tier: how much of each listing the orders with one target take together. HiGHS.

It minimises the conditional value at risk of the loss over scenarios (Rockafellar and Uryasev 2000) plus the price of
what is idiosyncratic. Amounts are in notes, fractional here.

**Cuts instead of scenarios.** CVaR is the largest of all means of the scenarios' losses under weights that add up to 1
and are nowhere above 1 / ((1 - level) scenarios) (Rockafellar and Uryasev 2002). So the full program's row and column
per scenario give way to one column for the tail loss and one row, a cut, for each weighting that has been the worst of
some solution (Kuenzi-Bay and Mayer 2006). Each solve is a lower bound of the optimum, each solution's own CVaR an upper
one; cuts are added until the two are within MAX_GAP. A cut is a column of mean losses by listing that holds for every
tier, so tiers share them.

**Slices instead of squares.** What one party adds to the variance grows with the square of what is held of it. An order
holds whole notes, so it is priced linearly up to one note of each order (of large orders, up to FIRST_SLICE of the
cap), and from there by chords of the square over slices that double in width: exact at the slices' ends, and nowhere
more than an eighth above the square.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import highspy
import numpy as np
from scipy.sparse import csc_matrix

from models.scenarios import tail_weights, variance_price

# Of the program's value: lower and upper bound of a tier may differ by as much.
MAX_GAP = 1e-4
# Notes: bounds that are closer agree, whatever the value; HiGHS's own tolerances tell no less apart.
VALUE_TOLERANCE = 1e-6
# A cut too many means that bounds do not close: some 20 do in markets of 100,000 listings.
MAX_CUTS = 200
# Solves whose solution sets the price of variance anew, before it is held fixed.
PRICING_SOLVES = 3
# Of the cap per party: 640 parties at a cap of 5%. To price finer spreading would only multiply the columns.
FIRST_SLICE = 1 / 32
# Slack on a bound that an earlier solve has shown to be reachable: above HiGHS's own feasibility tolerance of 1e-7.
RELATIVE_SLACK = 1e-7
# What is narrower cannot become a note: it only slows the solver down.
LEAST_NOTES = 1e-4


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
    group; target_return: mean over the notes taken.
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


@dataclass(frozen=True)
class TierSolution:
    """notes per listing; reached: whether the mean return meets the target; best_return: the most that this volume
    can return (None where the target is met).

    marginal_risk: what a first note of each listing adds to the value, at the optimum; return_price: value per unit of
    return there. value: CVaR plus the price of variance, in notes; lower_bound: what no feasible portfolio's value is
    below.
    """

    notes: np.ndarray
    reached: bool
    best_return: float | None
    marginal_risk: np.ndarray
    return_price: float
    value: float
    lower_bound: float

    @property
    def gap(self) -> float:
        """How far the value may lie above the optimum, as a fraction of it."""
        above = self.value - self.lower_bound
        return above / self.value if above > VALUE_TOLERANCE else 0.0


def _slice_ends(first: float, last: float) -> np.ndarray:
    """first, and on by doubling to last."""
    doublings = int(np.ceil(np.log2(max(1.0, last / first)) - 1e-9))
    return np.minimum(first * 2.0 ** np.arange(doublings + 1), last)


class _Program:
    """One HiGHS model of a tier, solved for volume, return and tail loss in turn.

    Columns: slices of listings that are alone in their identity group; other listings whole; slices of groups of
    several; last the tail loss. Rows: volume, return, one per risk group, one per group of several listings (the
    listings' sum within the slices'), then cuts.
    """

    def __init__(self, problem: TierProblem) -> None:
        self.problem = problem
        self.first_slice = max(float(problem.orders), FIRST_SLICE * problem.group_cap)
        upper = np.minimum(problem.available, problem.group_cap)
        upper = np.where(upper > LEAST_NOTES, upper, 0.0)
        open_listings = np.flatnonzero(upper)
        codes, group, members = np.unique(problem.group[open_listings], return_inverse=True, return_counts=True)
        several = np.flatnonzero(members > 1)
        alone = members[group] == 1
        whole = open_listings[~alone]

        sliced, width, weight = self._slices(upper[open_listings[alone]])
        of_group, group_width, group_weight = self._slices(np.full(len(several), problem.group_cap))
        infinite = highspy.kHighsInf
        self.listing = np.concatenate([open_listings[alone][sliced], whole])
        self.columns = len(self.listing) + len(of_group) + 1
        self.upper = np.concatenate([width, upper[whole], group_width, [infinite]])
        # The slope of the squared weight on each slice, and whose variance it is.
        self.slope = np.concatenate([weight, np.zeros(len(whole)), group_weight, [0.0]])
        self.members = np.split(whole[np.argsort(group[~alone], kind="stable")], np.cumsum(members[several])[:-1])
        self.group_of_slice = of_group
        self.tail = self.columns - 1

        self.net_return = np.zeros(self.columns)
        self.net_return[: len(self.listing)] = problem.expected_net_return[self.listing]
        first_group_row = 2 + len(problem.risk_caps)
        listings = np.arange(len(self.listing))
        in_groups = np.arange(len(sliced), len(self.listing))
        of_slices = np.arange(len(self.listing), self.tail)
        row_of_group = np.full(len(codes), -1)
        row_of_group[several] = first_group_row + np.arange(len(several))
        row, column, value = (np.concatenate(parts) for parts in zip(
            (np.zeros(len(listings), dtype=int), listings, np.ones(len(listings))),
            (np.ones(len(listings), dtype=int), listings, self.net_return[listings]),
            (1 + problem.risk_group[self.listing], listings, np.ones(len(listings))),
            (row_of_group[group[~alone]], in_groups, np.ones(len(in_groups))),
            (first_group_row + of_group, of_slices, -np.ones(len(of_slices))),
            strict=True,
        ))
        rows = first_group_row + len(several)
        matrix = csc_matrix((value, (row, column)), shape=(rows, self.columns))
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = self.columns, rows
        model.col_cost_ = np.zeros(self.columns)
        model.col_lower_ = np.concatenate([np.zeros(self.tail), [-infinite]])
        model.col_upper_ = self.upper
        model.row_lower_ = np.full(rows, -infinite)
        model.row_upper_ = np.concatenate([[problem.notes, infinite], problem.risk_caps, np.zeros(len(several))])
        model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        model.a_matrix_.start_ = matrix.indptr.astype(np.int32)
        model.a_matrix_.index_ = matrix.indices.astype(np.int32)
        model.a_matrix_.value_ = matrix.data
        self.solver = highspy.Highs()
        for option, given in (
            ("output_flag", False), ("threads", 1), ("random_seed", 0), ("time_limit", problem.solver_seconds),
        ):
            self.solver.setOptionValue(option, given)
        self.solver.passModel(model)
        self.cut_rows: list[int] = []

    def _slices(self, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Slices of holdings up to upper: whose (position), width in notes and mean slope of the squared weight."""
        problem = self.problem
        ends = _slice_ends(self.first_slice, problem.group_cap)
        starts = np.concatenate([[0.0], ends[:-1]])
        width = np.clip(upper[:, None] - starts, 0, ends - starts)
        whose, which = np.nonzero(width > LEAST_NOTES)
        return whose, width[whose, which], (starts + ends)[which] / max(problem.notes, 1.0)

    @property
    def empty(self) -> bool:
        return len(self.listing) == 0 or self.problem.notes <= 0

    def solve(self, cost: np.ndarray, volume: float, least_return: float) -> np.ndarray | None:
        """Minimise the cost with at least this volume (notes) and sum of return over notes; None when infeasible."""
        infinite = highspy.kHighsInf
        self.solver.changeColsCost(self.columns, np.arange(self.columns, dtype=np.int32), cost)
        self.solver.changeRowBounds(0, volume, self.problem.notes)
        self.solver.changeRowBounds(1, least_return, infinite)
        self.solver.run()
        status = self.solver.getModelStatus()
        if status == highspy.HighsModelStatus.kInfeasible:
            return None
        if status != highspy.HighsModelStatus.kOptimal:
            raise SolverFailed(
                f"HiGHS ended with {self.solver.modelStatusToString(status)} on {self.columns} columns for target "
                f"{self.problem.target_return:.4f}: raise allocation.solver_seconds (now {self.problem.solver_seconds})"
            )
        return np.clip(np.array(self.solver.getSolution().col_value), np.append(np.zeros(self.tail), -infinite), self.upper)

    def by_listing(self, columns: np.ndarray) -> np.ndarray:
        return np.bincount(self.listing, columns[: len(self.listing)], len(self.problem.available))

    def by_column(self, of_listings: np.ndarray) -> np.ndarray:
        """A cost of listings as one of columns."""
        cost = np.zeros(self.columns)
        cost[: len(self.listing)] = of_listings[self.listing]
        return cost

    def most_volume(self) -> float:
        """Notes that can be placed under the caps, at most those to invest."""
        if self.empty:
            return 0.0
        cost = self.by_column(np.full(len(self.problem.available), -1.0))
        return -float(cost[: self.tail] @ self.solve(cost, -highspy.kHighsInf, -highspy.kHighsInf)[: self.tail])

    def most_return(self, volume: float) -> float:
        """The highest sum of return over this volume."""
        best = self.solve(-self.net_return, volume * (1 - RELATIVE_SLACK), -highspy.kHighsInf)
        return float(best[: self.tail] @ self.net_return[: self.tail])

    def add_cut(self, mean_losses: np.ndarray) -> None:
        """The tail loss is at least the loss under one weighting of the scenarios."""
        listings = len(self.listing)
        self.cut_rows.append(self.solver.getNumRow())
        self.solver.addRow(
            -highspy.kHighsInf, 0.0, listings + 1,
            np.append(np.arange(listings), self.tail).astype(np.int32), np.append(mean_losses[self.listing], -1.0),
        )

    def variance_cost(self, variance: np.ndarray) -> np.ndarray:
        """Cost of each column for a price of 1 on variance; variance: of each listing, per unit squared weight."""
        of_groups = np.array([variance[members].max() for members in self.members if len(members)])
        return self.slope * np.concatenate([variance[self.listing], of_groups[self.group_of_slice], [0.0]])

    def marginal_tail_loss(self, cuts: list[np.ndarray]) -> np.ndarray:
        """What a note of each listing adds to the tail loss, at the optimum found last."""
        dual = np.array(self.solver.getSolution().row_dual)
        return sum(-dual[row] * cut for row, cut in zip(self.cut_rows, cuts, strict=True))

    def return_price(self) -> float:
        return max(0.0, float(np.array(self.solver.getSolution().row_dual)[1]))


def solve_tier(problem: TierProblem, tail: Tail) -> TierSolution:
    """The tier's amounts: invest all that the caps allow, reach the target or come nearest, then risk least.

    Variance is priced at the portfolios that the first solves find, then held fixed: value and lower_bound are of the
    program with that price. Cuts that it finds are added to tail. Raises SolverFailed when HiGHS finds no optimum in
    solver_seconds and when MAX_CUTS do not close the gap.
    """
    program = _Program(problem)
    start = None if program.empty else _start(program, tail.cuts[0])
    if start is None:
        count = len(problem.available)
        return TierSolution(np.zeros(count), False, None, np.zeros(count), 0.0, 0.0, 0.0)
    for cut in tail.cuts:
        program.add_cut(cut)
    columns = found = start.columns
    value, lower_bound = np.inf, -np.inf
    for solves in range(MAX_CUTS):
        losses = tail.of(program.by_listing(columns))
        cut = tail.under(tail_weights(losses))
        if solves < PRICING_SOLVES:
            variance = np.clip(cut * (tail.severity - cut), 0, None)
            variance_cost = program.variance_cost(variance)
            per_variance = variance_price(losses / problem.notes, float(variance_cost @ columns) / problem.notes)
            cost = per_variance * variance_cost
            cost[program.tail] = 1.0
            value, lower_bound = np.inf, -np.inf
        own = float((program.by_column(cut) + cost)[: program.tail] @ columns[: program.tail])
        if own < value:
            found, value = columns, own
        if value - lower_bound <= max(MAX_GAP * abs(value), VALUE_TOLERANCE):
            first_note = per_variance * variance * program.first_slice / problem.notes
            return TierSolution(
                program.by_listing(found), start.best_return is None, start.best_return,
                program.marginal_tail_loss(tail.cuts) + first_note, program.return_price(), value, lower_bound,
            )
        tail.cuts.append(cut)
        program.add_cut(cut)
        columns = program.solve(cost, start.volume, start.least_return)
        if columns is None:
            raise SolverFailed(f"target {problem.target_return:.4f}: a portfolio that had been found was lost to rounding")
        lower_bound = program.solver.getObjectiveValue()
    raise SolverFailed(f"target {problem.target_return:.4f}: {MAX_CUTS} cuts leave the value between {lower_bound} and {value} notes")


@dataclass(frozen=True)
class _Start:
    """A first portfolio, and the volume and sum of return that all must have. best_return: as in TierSolution."""

    columns: np.ndarray
    volume: float
    least_return: float
    best_return: float | None


def _start(program: _Program, mean_loss: np.ndarray) -> _Start | None:
    """The portfolio of least mean loss that reaches the target or comes nearest; None where nothing can be placed."""
    problem, cost = program.problem, program.by_column(mean_loss)
    columns = program.solve(cost, problem.notes, problem.target_return * problem.notes)
    if columns is not None:
        return _Start(columns, problem.notes, problem.target_return * problem.notes, None)
    volume = program.most_volume()
    if volume <= 1e-6:
        return None
    best, goal = program.most_return(volume), problem.target_return * volume
    best_return = None if best >= goal * (1 - RELATIVE_SLACK) else best / volume
    least_volume = volume * (1 - 2 * RELATIVE_SLACK)
    least_return = min(goal, best) - RELATIVE_SLACK * max(1.0, abs(best))
    columns = program.solve(cost, least_volume, least_return)
    if columns is None:
        raise SolverFailed(f"target {problem.target_return:.4f}: the nearest portfolio of {volume:.1f} notes was lost to rounding")
    return _Start(columns, least_volume, least_return, best_return)


def most_return(problem: TierProblem) -> tuple[float, float]:
    """Notes that can be placed under the caps, and the highest mean return over as many (0 where none can)."""
    program = _Program(problem)
    volume = program.most_volume()
    return (volume, program.most_return(volume) / volume) if volume > 1e-6 else (0.0, 0.0)


RELAXATIONS = ("identity_group_cap", "risk_group_cap", "listing_remaining")


def volume_constraint(problem: TierProblem) -> str:
    """Which family of constraints, dropped alone, would let most notes more be placed; the first on a tie."""
    volumes = {name: _Program(_without(problem, name)).most_volume() for name in RELAXATIONS}
    return max(RELAXATIONS, key=lambda name: round(volumes[name], 6))


def return_constraint(problem: TierProblem) -> str | None:
    """Which family of constraints, dropped alone, would raise the highest mean return most; the first on a tie.

    The volume stays what it is with all constraints. None where no single family stands in the way.
    """
    program = _Program(problem)
    volume = program.most_volume()
    if volume <= 1e-6:
        return None
    best = program.most_return(volume)
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
