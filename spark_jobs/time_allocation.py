"""What allocating costs, on a drawn market: the tier program beside the full one and the one of least expected loss, many
tiers, and many orders' notes.

Needs no night; nothing is written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from typing import TypeVar

import highspy
import numpy as np
from pyspark.sql import DataFrame, SparkSession
from scipy.sparse import csc_matrix, hstack, identity, vstack

from conf.settings import Settings
from models.allocation import Listings, Orders, Rules, solve
from models.order_notes import Part, Totals, tail_of
from models.scenarios import CVAR_LEVEL, Exposures, tail_weights
from models.tier_program import SolverFailed, Tail, TierProblem, solve_tier
from spark_jobs.allocate import rules_of
from spark_jobs.order_notes import give_notes, holdings_of, totals_of

LISTINGS, TIERS, ORDERS = 100_000, 20, 100_000
FULL_LISTINGS = 5_000
# The middle of the risk groups' yearly probabilities of default; rates cover a three-year loss in the mean, and a return.
YEARLY_DEFAULT, RATE_OVER_LOSS = (0.01, 0.02, 0.04, 0.08, 0.16), 0.05

Answer = TypeVar("Answer")


def run(spark: SparkSession, settings: Settings, as_of_date: date) -> None:
    """Print lines that begin with ``allocation:``. The date seeds the market."""
    rules = rules_of(settings, settings.allocation.risk_group_caps, settings.allocation.asset_correlations)
    random = np.random.default_rng(as_of_date.toordinal())

    small, small_tail, _ = drawn(FULL_LISTINGS, rules, random)
    # As nothing idiosyncratic stands in the full program.
    small_tail.severity = np.zeros(FULL_LISTINGS)
    full_seconds, full = timed(lambda: full_program(small, small_tail))
    seconds, cut = timed(lambda: solve_tier(small, small_tail))
    mean_seconds, of_mean = timed(lambda: least_expected_loss(small, small_tail))
    size = f"{FULL_LISTINGS:,} listings × {rules.scenarios:,} scenarios"
    print(
        f"allocation: one tier, {size}: full program {full_seconds:.1f} s, cuts {seconds:.1f} s (value {cut.value / full - 1:+.4%}, "
        f"certified gap {cut.gap:.4%}), least expected loss instead {mean_seconds:.1f} s (value {of_mean / full - 1:+.1%})"
    )

    scenario_seconds, (problem, tail, market) = timed(lambda: drawn(LISTINGS, rules, random))
    targets = np.quantile(problem.expected_net_return, np.linspace(0.1, 0.9, TIERS))
    timings, gaps = [], []
    for target in targets:
        seconds, found = timed(partial(solve_tier, replace(problem, target_return=target), tail))
        timings.append(seconds)
        gaps.append(found.gap)
    size = f"{LISTINGS:,} listings × {rules.scenarios:,} scenarios × {TIERS} tiers"
    print(
        f"allocation: {size}: market and scenarios {scenario_seconds:.1f} s, programs {sum(timings):.1f} s (slowest "
        f"{max(timings):.1f} s), {len(tail.cuts)} cuts, largest certified gap {max(gaps):.4%}"
    )
    book = Orders(
        order_id=np.arange(ORDERS).astype(str).astype(object),
        amount=random.integers(20, 120, ORDERS) * rules.note["USD"],
        target_return=random.choice(targets, ORDERS),
        currency=np.full(ORDERS, "USD", dtype=object),
    )
    del tail
    solve_seconds, solved = timed(lambda: solve(book, market, rules, seed=1))
    seconds, (given, totals) = timed(lambda: given_notes(spark, solved.parts))
    tell_seconds, outcomes = timed(lambda: solved.outcomes([totals]))
    print(
        f"allocation: {ORDERS:,} orders, {LISTINGS:,} listings: programs {solve_seconds:.1f} s, notes in Spark {seconds:.1f} s "
        f"({len(solved.parts)} parts), outcomes {tell_seconds:.1f} s; {holdings_of(given).count():,} holdings, "
        f"{np.mean(outcomes.status == 'on_target'):.0%} of the orders on target"
    )


def given_notes(spark: SparkSession, parts: Sequence[Part]) -> tuple[DataFrame, Totals]:
    """All that it takes on the way: parts sent to workers, which are started, and totals back."""
    given = give_notes(spark, parts).persist()
    return given, totals_of(given)


def timed(work: Callable[[], Answer]) -> tuple[float, Answer]:
    """Seconds, and what came of it."""
    began = time.monotonic()
    answer = work()
    return time.monotonic() - began, answer


def drawn(listings: int, rules: Rules, random: np.random.Generator) -> tuple[TierProblem, Tail, Listings]:
    """A market of three-year loans, the problem of one tier of orders of 100 notes, and what can be lost.

    Three in a hundred listings are another's party's.
    """
    risk_group = random.integers(1, len(YEARLY_DEFAULT) + 1, listings)
    yearly = np.array(YEARLY_DEFAULT)[risk_group - 1] * random.lognormal(0, 0.3, listings)
    prob_default = 1 - np.exp(-2.5 * yearly)
    expected_loss = prob_default * random.uniform(0.4, 0.7, listings)
    party = np.arange(listings)
    party = np.where(random.random(listings) < 0.03, random.permutation(party), party)
    net_return = RATE_OVER_LOSS + 0.1 * expected_loss + random.normal(0, 0.015, listings)
    exposures = Exposures(prob_default, expected_loss, party, risk_group)
    remaining = random.integers(1, 400, listings)
    # A tier asks for as many notes as there are listings: a tenth of its share of what is open.
    notes = float(listings)
    problem = TierProblem(
        available=remaining / TIERS, expected_net_return=net_return, group=party, risk_group=risk_group, notes=notes,
        orders=listings // 100, group_cap=rules.identity_group_cap * notes, risk_caps=np.array(rules.risk_group_caps) * notes,
        target_return=float(np.quantile(net_return, 0.7)), solver_seconds=rules.solver_seconds,
    )
    market = Listings(
        loan_id=np.arange(listings).astype(str).astype(object), identity_group_id=party.astype(str).astype(object),
        risk_group=risk_group, remaining=remaining * rules.note["USD"], expected_net_return=net_return,
        prob_default_lifetime=prob_default, expected_loss=expected_loss, currency=np.full(listings, "USD", dtype=object),
    )
    return problem, tail_of(exposures, rules.correlation, rules.scenarios, seed=1), market


def full_program(problem: TierProblem, tail: Tail) -> float:
    """The least CVaR of a tier, in notes, by Rockafellar and Uryasev's program (2000, section 3): a column and a row per
    scenario, nothing for what is idiosyncratic.

    Raises SolverFailed where the target cannot be had."""
    listings, scenarios = tail.losses.shape
    # Loss less the bound less the excess over it is at most 0.
    excess = hstack([csc_matrix(-np.ones((scenarios, 1))), -identity(scenarios)])
    of_excess = np.append(1.0, np.full(scenarios, 1 / ((1 - CVAR_LEVEL) * scenarios)))
    return _solved(problem, np.zeros(listings), of_excess, hstack([csc_matrix(tail.losses.T.astype(float)), excess])).getObjectiveValue()


def least_expected_loss(problem: TierProblem, tail: Tail) -> float:
    """The CVaR of a tier, in notes, that has the least expected loss instead. Raises SolverFailed as full_program does."""
    listings = len(problem.group)
    solver = _solved(problem, tail.losses.mean(axis=1), np.zeros(0), csc_matrix((0, listings)))
    losses = tail.of(np.array(solver.getSolution().col_value))
    return float(losses @ tail_weights(losses))


def _solved(problem: TierProblem, cost: np.ndarray, more_cost: np.ndarray, more_rows: csc_matrix) -> highspy.Highs:
    """The tier's constraints under this cost of its listings; more columns, the first of which is free, and more rows, at
    most 0."""
    listings, more = len(cost), len(more_cost)
    groups = csc_matrix((np.ones(listings), (problem.group, np.arange(listings))))
    of_risk_group = csc_matrix((np.ones(listings), (problem.risk_group - 1, np.arange(listings))))
    rows = vstack([np.ones(listings), problem.expected_net_return, of_risk_group, groups])
    matrix = vstack([hstack([rows, csc_matrix((rows.shape[0], more))]), more_rows]).tocsc()
    infinite = highspy.kHighsInf
    model = highspy.HighsLp()
    model.num_row_, model.num_col_ = matrix.shape
    model.col_cost_ = np.concatenate([cost, more_cost])
    model.col_lower_ = np.concatenate([np.zeros(listings), [-infinite][:more], np.zeros(max(0, more - 1))])
    model.col_upper_ = np.concatenate([problem.available, np.full(more, infinite)])
    model.row_lower_ = np.concatenate([
        [problem.notes, problem.target_return * problem.notes], np.full(model.num_row_ - 2, -infinite)
    ])
    model.row_upper_ = np.concatenate([
        [problem.notes, infinite], problem.risk_caps, np.full(groups.shape[0], problem.group_cap), np.zeros(more_rows.shape[0])
    ])
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_ = matrix.indptr.astype(np.int32)
    model.a_matrix_.index_ = matrix.indices.astype(np.int32)
    model.a_matrix_.value_ = matrix.data
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    solver.passModel(model)
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        raise SolverFailed(solver.modelStatusToString(solver.getModelStatus()))
    return solver
