"""Asset correlations: the stated ones without history, and those of made-up histories found again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import norm, poisson

from models.default_correlation import fit_correlations, log_likelihood, quarterly

STATED = (0.12, 0.06, 0.03)  # 0.07 in the mean


def history(correlation: float, quarters: int, loans: int = 20_000, yearly: float = 0.06) -> pd.DataFrame:
    """Months of loans that default at that rate under one factor a quarter."""
    factor = np.random.default_rng(7).normal(size=quarters)
    monthly = ndtr((ndtri(yearly / 4) - np.sqrt(correlation) * factor) / np.sqrt(1 - correlation)) / 3
    months = pd.period_range("2001-01", periods=3 * quarters, freq="M")
    return pd.DataFrame({
        "month": [month.start_time.date() for month in months], "at_risk": loans, "expected": loans * yearly / 12,
        "defaults": np.random.default_rng(8).poisson(loans * np.repeat(monthly, 3)),
    })


def test_without_history_the_stated_correlations_stand():
    assert fit_correlations(history(0.1, 4).iloc[:0], STATED) == STATED
    # Two months are no quarter; a quarter of a few loans says next to nothing.
    assert fit_correlations(history(0.1, 1).iloc[:2], STATED) == STATED
    assert fit_correlations(history(0.1, 1, loans=3), STATED) == pytest.approx(STATED, rel=0.1)
    assert fit_correlations(history(0.1, 4), (0.0, 0.0)) == (0.0, 0.0)


@pytest.mark.parametrize("correlation", [0.01, 0.07, 0.15])
def test_the_correlation_of_a_long_history_is_found_whatever_was_stated(correlation):
    found = fit_correlations(history(correlation, 160), STATED)
    assert np.mean(found) == pytest.approx(correlation, rel=0.25)
    # All groups alike.
    assert np.array(found) / np.array(STATED) == pytest.approx(np.full(3, found[0] / STATED[0]))


def test_quarters_that_default_as_expected_speak_for_lower_correlations():
    calm = history(0.0, 12).assign(defaults=lambda months: months["expected"].round())
    scales = [fit_correlations(calm.iloc[: 3 * quarters], STATED)[0] / STATED[0] for quarters in (1, 4, 12)]
    assert 1 > scales[0] > scales[1] > scales[2] > 0


def test_a_quarter_counts_with_all_of_its_months():
    months = history(0.05, 3).drop(index=[4]).assign(at_risk=lambda rows: 100.0 * (1 + rows.index))
    found = quarterly(months)
    assert [str(quarter) for quarter in found.index] == ["2001Q1", "2001Q3"]
    assert list(found["loans"]) == [200, 800] and found["expected"].iloc[0] == pytest.approx(3 * 100)
    assert list(found["defaults"]) == [months["defaults"].iloc[:3].sum(), months["defaults"].iloc[5:].sum()]


def test_the_likelihood_is_that_of_poisson_defaults_given_the_factor():
    quarters = pd.DataFrame({"loans": [1000.0, 1000.0], "defaults": [12.0, 31.0], "expected": [20.0, 20.0]})
    assert log_likelihood(quarters, 0.0) == pytest.approx(poisson.logpmf([12, 31], 20).sum(), abs=1e-6)
    draws = norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    rate = 1000 * ndtr((ndtri(0.02) - np.sqrt(0.1) * draws) / np.sqrt(0.9))
    by_draws = sum(np.log(poisson.pmf(defaults, rate).mean()) for defaults in (12, 31))
    assert log_likelihood(quarters, 0.1) == pytest.approx(by_draws, abs=1e-4)
