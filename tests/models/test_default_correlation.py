"""Asset correlations: the stated ones without history, and those of made-up histories found again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.special import ndtr, ndtri
from scipy.stats import norm, poisson

from models.default_correlation import (
    LIFE_QUARTERS,
    fit_correlations,
    log_evidence,
    quarterly,
    variance_of_life,
)

STATED = (0.12, 0.06, 0.03)  # 0.07 in the mean


def history(correlation: float, persistence: float, quarters: int, loans: int = 20_000, yearly: float = 0.06, seed: int = 7) -> pd.DataFrame:
    """Months of loans that default at that rate under an AR(1) of unit variance by quarters; correlation: of a quarter."""
    shocks, factor = np.random.default_rng(seed).normal(size=quarters), np.zeros(quarters)
    for quarter in range(quarters):
        before = factor[quarter - 1] if quarter else shocks[0]
        factor[quarter] = persistence * before + np.sqrt(1 - persistence**2) * shocks[quarter]
    monthly = ndtr((ndtri(yearly / 4) - np.sqrt(correlation) * factor) / np.sqrt(1 - correlation)) / 3
    months = pd.period_range("2001-01", periods=3 * quarters, freq="M")
    return pd.DataFrame({
        "month": [month.start_time.date() for month in months], "at_risk": loans, "expected": loans * yearly / 12,
        "defaults": np.random.default_rng(8).poisson(loans * np.repeat(monthly, 3)),
    })


def test_without_history_the_stated_correlations_stand():
    nothing = history(0.1, 0.5, 4)
    assert fit_correlations(nothing.iloc[:0], STATED) == STATED
    # Two months are no quarter, and of one quarter the level is all that there is to learn.
    assert fit_correlations(nothing.iloc[:2], STATED) == STATED
    for one_quarter in (nothing.iloc[:3], history(0.1, 0.5, 1, loans=3)):
        assert fit_correlations(one_quarter, STATED) == pytest.approx(STATED, rel=0.1)
    assert fit_correlations(nothing, (0.0, 0.0)) == (0.0, 0.0)
    assert fit_correlations(history(0.1, 0.5, 1, loans=3), (0.9, 0.5)) == pytest.approx((0.9, 0.5), rel=0.1)


@pytest.mark.parametrize(("correlation", "persistence"), [(0.02, 0.0), (0.05, 0.8), (0.15, 0.8)])
def test_the_correlation_of_lives_is_found_in_a_long_history(correlation, persistence):
    found = [fit_correlations(history(correlation, persistence, 60, seed=seed), STATED) for seed in range(8)]
    of_lives = correlation * variance_of_life(np.array([persistence]))[0]
    # Fifteen years leave persistence open, and with it what lives have in common: found within a factor of two, never further than stated.
    assert of_lives / 2 < np.mean(found) < 2 * of_lives + 0.002
    # All groups alike.
    assert np.array(found[0]) / np.array(STATED) == pytest.approx(np.full(3, found[0][0] / STATED[0]))


def test_a_wrong_level_is_no_correlation():
    calm = history(0.0, 0.0, 24)
    doubled = calm.assign(expected=2 * calm["expected"])
    assert fit_correlations(calm, STATED)[0] < 0.25 * STATED[0]
    assert fit_correlations(doubled, STATED) == pytest.approx(fit_correlations(calm, STATED), abs=0.1 * STATED[0])


def test_a_short_history_of_one_phase_leaves_most_to_the_prior():
    # Six quarters of a slow factor lie close together; they must not be taken for independence of loans.
    scales = [fit_correlations(history(0.07, 0.9, 6, seed=seed), STATED)[0] / STATED[0] for seed in range(20)]
    assert 0.4 < np.mean(scales) < 1.6


def test_a_quarter_counts_with_all_of_its_months():
    months = history(0.05, 0.5, 3).drop(index=[4]).assign(at_risk=lambda rows: 100.0 * (1 + rows.index))
    found = quarterly(months)
    assert [str(quarter) for quarter in found.index] == ["2001Q1", "2001Q3"]
    assert list(found["loans"]) == [200, 800] and found["expected"].iloc[0] == pytest.approx(3 * 100)
    assert list(found["defaults"]) == [months["defaults"].iloc[:3].sum(), months["defaults"].iloc[5:].sum()]


def test_the_variance_of_a_life():
    assert variance_of_life(np.array([0.0, 1.0])) == pytest.approx([1 / LIFE_QUARTERS, 1])


def test_the_evidence_is_the_likelihood_integrated_over_level_and_factor():
    quarters = pd.DataFrame({"loans": [1000.0], "defaults": [12.0], "expected": [20.0]}, index=pd.PeriodIndex(["2001Q1"], freq="Q"))
    # Of one quarter level and factor add up to one normal of their variances.
    variance = (norm.pdf(ndtri(0.02)) / 0.02) ** 2 * 0.1 / 0.9 + 100
    whole, _ = quad(lambda shift: poisson.pmf(12, 20 * np.exp(shift)) * norm.pdf(shift, scale=np.sqrt(variance)), -4, 4)
    assert log_evidence(quarters, np.array([0.1]), np.array([0.5]))[0] == pytest.approx(np.log(whole), abs=0.02)
