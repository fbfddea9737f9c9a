"""The linear program of one tier: how much of each listing the orders with one target take together. HiGHS.

Amounts are in notes, fractional here. A later form may replace the objective (conditional value at risk over
scenarios) or add columns as they price out; what goes in and what comes out stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import highspy
import numpy as np

# Holdings are priced in slices, so that the quadratic cost of concentration stays linear: ends as shares of the cap.
SLICE_ENDS = (0.125, 0.25, 0.5, 1.0)
# Slack on a bound that an earlier solve has shown to be reachable: above HiGHS's own feasibility tolerance of 1e-7.
RELATIVE_SLACK = 1e-7


class SolverFailed(RuntimeError):
    """HiGHS ended without an optimum."""


@dataclass(frozen=True)
class TierProblem:
    """One tier: arrays over listings, and the limits of its orders together.

    available: notes of each listing that this tier may take; group: code of the identity group, risk_group: 1 to the
    number of caps; notes: to invest; group_cap and risk_caps: notes per identity group and per risk group;
    target_return: mean over the notes taken.
    """

    available: np.ndarray
    expected_net_return: np.ndarray
    expected_loss: np.ndarray
    group: np.ndarray
    risk_group: np.ndarray
    notes: float
    group_cap: float
    risk_caps: np.ndarray
    target_return: float
    concentration_penalty: float
    solver_seconds: float


@dataclass(frozen=True)
class TierSolution:
    """notes per listing; reached: whether the mean return meets the target; best_return: the most that this volume
    can return (None where the target is met); return_price: expected loss per unit of return at the optimum."""

    notes: np.ndarray
    reached: bool
    best_return: float | None
    return_price: float


class _Program:
    """One HiGHS model of a tier, solved for volume, return and cost in turn."""

    def __init__(self, problem: TierProblem) -> None:
        self.problem = problem
        upper = np.minimum(problem.available, problem.group_cap)
        starts = np.concatenate([[0.0], np.array(SLICE_ENDS[:-1])]) * problem.group_cap
        ends = np.array(SLICE_ENDS) * problem.group_cap
        width = np.clip(upper[:, None] - starts, 0, ends - starts)
        # A slice narrower than a ten-thousandth of a note cannot become a note: it only slows the solver down.
        width[:, 0] = np.where(upper > 1e-4, width[:, 0], 0.0)
        width[:, 1:] = np.where(width[:, 1:] > 1e-4, width[:, 1:], 0.0)
        self.listing, slice_no = np.nonzero(width)
        self.upper = width[self.listing, slice_no]
        weight = (starts + ends)[slice_no] / max(problem.notes, 1.0)
        self.cost = problem.expected_loss[self.listing] + problem.concentration_penalty * weight
        self.net_return = problem.expected_net_return[self.listing]
        self.columns = len(self.listing)
        self.solver = highspy.Highs()
        for option, value in (
            ("output_flag", False), ("threads", 1), ("random_seed", 0), ("time_limit", problem.solver_seconds),
        ):
            self.solver.setOptionValue(option, value)
        self._build()

    def _build(self) -> None:
        """Rows: volume, return, one per risk group, one per identity group of several listings."""
        problem, listing = self.problem, self.listing
        risk_groups = len(problem.risk_caps)
        members = np.bincount(problem.group[np.unique(listing)], minlength=problem.group.max(initial=-1) + 1)
        shared = np.flatnonzero(members > 1)
        row_of_group = np.full(len(members) + 1, -1)
        row_of_group[shared] = 2 + risk_groups + np.arange(len(shared))
        group_row = row_of_group[problem.group[listing]]
        in_group = group_row >= 0
        entries = 3 + in_group
        start = np.concatenate([[0], np.cumsum(entries)])
        index = np.empty(start[-1], dtype=np.int32)
        value = np.ones(start[-1])
        index[start[:-1]] = 0
        index[start[:-1] + 1] = 1
        value[start[:-1] + 1] = self.net_return
        index[start[:-1] + 2] = 1 + problem.risk_group[listing]
        index[start[:-1][in_group] + 3] = group_row[in_group]

        model = highspy.HighsLp()
        model.num_col_ = self.columns
        model.num_row_ = 2 + risk_groups + len(shared)
        model.col_cost_ = self.cost
        model.col_lower_ = np.zeros(self.columns)
        model.col_upper_ = self.upper
        model.row_lower_ = np.full(model.num_row_, -highspy.kHighsInf)
        model.row_upper_ = np.concatenate([
            [problem.notes, highspy.kHighsInf], problem.risk_caps, np.full(len(shared), problem.group_cap)
        ])
        model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        model.a_matrix_.start_ = start.astype(np.int32)
        model.a_matrix_.index_ = index
        model.a_matrix_.value_ = value
        self.solver.passModel(model)

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
        return np.clip(np.array(self.solver.getSolution().col_value), 0, self.upper)

    def by_listing(self, columns: np.ndarray) -> np.ndarray:
        return np.bincount(self.listing, columns, len(self.problem.available))

    def most_volume(self) -> float:
        """Notes that can be placed under the caps, at most those to invest."""
        if self.columns == 0 or self.problem.notes <= 0:
            return 0.0
        return float(self.solve(-np.ones(self.columns), -highspy.kHighsInf, -highspy.kHighsInf).sum())

    def most_return(self, volume: float) -> float:
        """The highest sum of return over this volume."""
        best = self.solve(-self.net_return, volume * (1 - RELATIVE_SLACK), -highspy.kHighsInf)
        return float(best @ self.net_return)

    def return_price(self) -> float:
        return max(0.0, float(np.array(self.solver.getSolution().row_dual)[1]))


def solve_tier(problem: TierProblem) -> TierSolution:
    """The tier's amounts: invest all that the caps allow, reach the target or come nearest, then lose least.

    The objective of the last step is expected loss plus concentration_penalty times the sum of squared weights
    (piecewise linear in SLICE_ENDS). Raises SolverFailed when HiGHS finds no optimum in solver_seconds.
    """
    program = _Program(problem)
    nothing = TierSolution(np.zeros(len(problem.available)), False, None, 0.0)
    if program.columns == 0 or problem.notes <= 0:
        return nothing
    columns = program.solve(program.cost, problem.notes, problem.target_return * problem.notes)
    if columns is not None:
        return TierSolution(program.by_listing(columns), True, None, program.return_price())
    volume = program.most_volume()
    if volume <= 1e-6:
        return nothing
    best = program.most_return(volume)
    goal = problem.target_return * volume
    reached = best >= goal * (1 - RELATIVE_SLACK)
    slack = RELATIVE_SLACK * max(1.0, abs(best))
    columns = program.solve(program.cost, volume * (1 - 2 * RELATIVE_SLACK), min(goal, best) - slack)
    if columns is None:
        raise SolverFailed(f"target {problem.target_return:.4f}: the nearest portfolio of {volume:.1f} notes was lost to rounding")
    return TierSolution(
        program.by_listing(columns), reached, None if reached else best / volume, program.return_price()
    )


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
