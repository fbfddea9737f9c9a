"""The tier program against the full Rockafellar-Uryasev program, and against what is known without a solver."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from models.scenarios import DefaultCorrelation, Exposures, conditional_losses, tail_weights
from models.tier_program import MAX_GAP, SolverFailed, Tail, TierProblem, excess_values, most_return, solve_tier
from spark_jobs.time_allocation import full_program


def problem(available, returns, group, risk_group, **changes) -> TierProblem:
    return TierProblem(**{
        "available": np.array(available, dtype=float), "expected_net_return": np.array(returns, dtype=float),
        "group": np.array(group), "risk_group": np.array(risk_group), "notes": 100.0, "orders": 1, "group_cap": 100.0,
        "risk_caps": np.full(2, 100.0), "target_return": 0.0, "solver_seconds": 10.0, **changes,
    })


def market(listings: int, scenarios: int, seed: int) -> tuple[TierProblem, Tail]:
    random = np.random.default_rng(seed)
    prob_default = random.uniform(0.01, 0.3, listings)
    exposures = Exposures(
        prob_default, prob_default * random.uniform(0.3, 0.8, listings), random.integers(0, listings * 9 // 10, listings),
        random.integers(1, 3, listings),
    )
    correlation = DefaultCorrelation((0.12, 0.05), 0.5)
    losses = conditional_losses(exposures, correlation, correlation.factors(scenarios, seed, "optimise"))
    returns = 0.03 + 0.3 * exposures.expected_loss + random.normal(0, 0.01, listings)
    drawn = problem(
        random.uniform(0, 10, listings), returns, exposures.party, exposures.risk_group, group_cap=5.0,
        risk_caps=np.array([70.0, 50.0]), target_return=float(np.quantile(returns, 0.7)),
    )
    return drawn, Tail(losses, exposures.severity)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_cuts_find_the_full_programs_optimum(seed):
    tier, tail = market(60, 200, seed)
    # Without severity beyond the mean loss nothing is idiosyncratic: the value is the CVaR alone.
    tail.severity = np.zeros(60)
    found = solve_tier(tier, tail)
    optimum = full_program(tier, tail)
    assert found.reached and found.gap <= MAX_GAP
    assert found.lower_bound <= optimum * (1 + 1e-6)
    assert optimum * (1 - 1e-6) <= found.value <= optimum * (1 + MAX_GAP)
    losses = tail.of(found.notes)
    assert tail_weights(losses) @ losses == pytest.approx(found.value, rel=1e-5)


def test_tiers_share_cuts_and_find_the_same():
    tier, tail = market(60, 200, 4)
    first = solve_tier(tier, tail)
    cuts = len(tail.cuts)
    again = solve_tier(tier, tail)
    assert again.value == pytest.approx(first.value, rel=2 * MAX_GAP)
    # What the first has found is not found anew: only the solves that set the price of variance cut once more.
    assert len(tail.cuts) - cuts <= cuts


def test_value_is_what_the_solution_costs():
    tier, tail = market(200, 300, 5)
    found = solve_tier(tier, tail)
    losses = tail.of(found.notes)
    systematic = tail_weights(losses) @ losses
    assert systematic < found.value < 3 * systematic
    # At the optimum no listing with room costs less than one that is held, but for the gap.
    price = found.marginal_risk - found.return_price * tier.expected_net_return
    of_group = np.bincount(tier.group, found.notes)
    alone = np.bincount(tier.group)[tier.group] == 1
    for code in (1, 2):
        mine = (tier.risk_group == code) & alone
        room = mine & (found.notes < np.minimum(1.0, tier.available) - 1e-6) & (of_group[tier.group] < 1)
        held = mine & (found.notes > 1e-6) & (found.notes <= 1)
        if room.any() and held.any():
            assert price[held].min() <= price[room].max()


def test_excess_is_no_less_than_the_distance_to_the_optimum():
    tier, tail = market(60, 200, 6)
    found = solve_tier(tier, tail)
    # What a higher target asks for is a portfolio of this tier too, and a dearer one; half of each lies between.
    higher = solve_tier(replace(tier, target_return=tier.target_return * 1.1), tail)
    assert higher.reached and higher.notes.sum() == pytest.approx(found.notes.sum())
    weights = np.stack([found.notes, higher.notes, (found.notes + higher.notes) / 2]) / found.notes.sum()
    own, dearer, between = excess_values(csr_matrix(weights), tier, found, tail)
    assert own == pytest.approx((found.value - found.lower_bound) / found.notes.sum(), abs=1e-6)
    assert dearer > 0.001
    assert -1e-6 < between < dearer


def test_what_is_held_of_a_party_is_valued_whole():
    # Nothing is systematic. Listings 0 and 1 are one party's; a second note of a party costs what the chord of the square says.
    tail = Tail(np.full((3, 100), 0.1), np.full(3, 0.5))
    tier = problem([10, 10, 10], [0.05, 0.05, 0.05], [0, 0, 1], [1, 1, 1], notes=4.0, group_cap=4.0)
    found = solve_tier(tier, tail)
    weights = csr_matrix(np.array([[0.5, 0, 0.5], [0.25, 0.25, 0.5], [0.75, 0, 0.25]]))
    spread, shared, heaped = excess_values(weights, tier, found, tail)
    assert spread == shared == pytest.approx(0, abs=1e-4)
    # Squares of 3 and 1 notes in place of 2 and 2; that of 3 by the chord from 2 to 4.
    price = found.variance_price[0] / 4 / 4
    assert heaped - spread == pytest.approx(price * ((4 + 16) / 2 + 1 - (4 + 4)))


def test_one_solution_of_hedged_scenarios():
    # Two listings that never lose together: half of each loses .1 in every scenario, either alone .2 in the tail.
    losses = np.array([[0.2, 0.0] * 50, [0.0, 0.2] * 50])
    found = solve_tier(problem([100, 100], [0.05, 0.05], [0, 1], [1, 2]), Tail(losses, np.zeros(2)))
    np.testing.assert_allclose(found.notes, [50, 50], atol=0.01)
    assert found.value == pytest.approx(10)


def test_bounds_that_do_not_close_are_said(monkeypatch):
    monkeypatch.setattr("models.tier_program.MAX_CUTS", 1)
    tier, tail = market(60, 200, 1)
    with pytest.raises(SolverFailed, match="1 cuts leave the value between"):
        solve_tier(tier, tail)


def test_balance_holds_a_mean():
    # Alone the least loss is all of the first; a mean characteristic of 0 asks for two of it to one of the second.
    losses = np.tile([[0.01], [0.05], [0.06]], 100)
    free = problem([100, 100, 100], [0.05] * 3, [0, 1, 2], [1, 1, 1])
    assert solve_tier(free, Tail(losses, np.zeros(3))).notes == pytest.approx([100, 0, 0])
    balanced = problem([100, 100, 100], [0.05] * 3, [0, 1, 2], [1, 1, 1], balance=np.array([[-0.01, 0.02, 0.02]]))
    found = solve_tier(balanced, Tail(losses, np.zeros(3)))
    assert found.notes == pytest.approx([200 / 3, 100 / 3, 0], abs=1e-4)
    assert found.value == pytest.approx(200 / 3 * 0.01 + 100 / 3 * 0.05, rel=1e-4)


def test_balance_that_listings_cannot_hold_places_what_it_can():
    # Ten notes of the second balance ten of the first.
    found = solve_tier(
        problem([100, 10], [0.05] * 2, [0, 1], [1, 1], balance=np.array([[-1.0, 1.0]])),
        Tail(np.tile([[0.01], [0.05]], 100), np.zeros(2)),
    )
    assert found.notes == pytest.approx([10, 10], abs=1e-4)


def test_a_hair_over_the_end_of_a_slice_is_placed_too():
    """The second listing ends 5e-6 of a note over the slice that ends at 8."""
    tier = problem([7.23809524, 8.00000495], [0.07, 0.09], [1, 0], [1, 2], notes=40.0, group_cap=23.0)
    volume, mean = most_return(tier)
    assert volume == pytest.approx(15.23810019)
    assert mean == pytest.approx((7.23809524 * 0.07 + 8.00000495 * 0.09) / volume)


def test_a_solver_that_loses_its_way_begins_anew():
    # From the greedy vertex of this market HiGHS's primal simplex method ends with neither an optimum nor a proof of none.
    tier = problem(
        [1 / 9] * 10, [0.05032259, 0.05978623, 0.1488441, 0.00416057, 0.1317852, 0.0472925, 0.22415717, 0.1282037, 0.10303132, 0.11868708],
        [4, 0, 5, 6, 7, 2, 0, 3, 1, 6], [3, 2, 3, 1, 1, 5, 5, 4, 2, 1], notes=1.0, group_cap=1.0, risk_caps=np.ones(5), target_return=0.08,
    )
    volume, highest = most_return(tier)
    # All but the lowest of ten ninths.
    assert volume == pytest.approx(1) and highest == pytest.approx((tier.expected_net_return.sum() - 0.00416057) / 9)
