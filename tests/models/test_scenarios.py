"""Scenarios: what the formulas say, what simulation says, and that a batch gives the same ones again."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from models.scenarios import (
    DefaultCorrelation,
    Exposures,
    conditional_losses,
    cvar_of_holdings,
    drawn_losses,
    seed_of,
    tail_weights,
    variance_price,
)

CORRELATION = DefaultCorrelation((0.12, 0.05), 0.5)


def exposures(*rows: tuple) -> Exposures:
    """Rows of probability of default, expected loss, party, risk group."""
    columns = list(zip(*rows, strict=True))
    return Exposures(
        np.array(columns[0], dtype=float), np.array(columns[1], dtype=float), np.array(columns[2]), np.array(columns[3])
    )


def test_conditional_losses_are_vasiceks_and_average_to_the_expected_loss():
    # The last two cannot and must default: no factor changes that.
    market = exposures((0.05, 0.03, 0, 1), (0.2, 0.1, 1, 2), (0.0, 0.0, 2, 1), (1.0, 0.4, 3, 1))
    factors = CORRELATION.factors(4000, 1, "optimise")
    losses = conditional_losses(market, CORRELATION, factors)
    by_hand = 0.6 * norm.cdf((norm.ppf(0.05) - np.sqrt(0.12) * factors[0]) / np.sqrt(0.88))
    np.testing.assert_allclose(losses[0], by_hand, rtol=1e-4)
    np.testing.assert_allclose(losses.mean(axis=1), market.expected_loss, rtol=0.01)
    np.testing.assert_array_equal(losses[2:], np.broadcast_to(np.float32([[0], [0.4]]), (2, 4000)))


def test_level_multiplies_the_hazard_and_leaves_the_cost_of_a_default():
    market = exposures((0.05, 0.03, 0, 1), (0.0, 0.0, 2, 1), (1.0, 0.4, 3, 1))
    worse = market.at_level(2.0)
    # Surviving twice the hazard is surviving twice.
    np.testing.assert_allclose(worse.prob_default, [1 - 0.95**2, 0, 1])
    np.testing.assert_allclose(worse.severity, market.severity)
    np.testing.assert_allclose(market.at_level(1.0).prob_default, market.prob_default)


def test_factors_correlate_as_stated_and_come_again_from_the_seed():
    factors = CORRELATION.factors(4000, seed_of("2020-06-30-0123456789ab"), "optimise")
    assert factors.shape == (2, 4000)
    assert np.corrcoef(factors)[0, 1] == pytest.approx(0.5, abs=0.03)
    np.testing.assert_allclose(factors.std(axis=1), 1, atol=0.02)
    np.testing.assert_array_equal(factors, CORRELATION.factors(4000, seed_of("2020-06-30-0123456789ab"), "optimise"))
    # Another stream and another batch give others.
    for other in (CORRELATION.factors(4000, seed_of("2020-06-30-0123456789ab"), "evaluate"),
                  CORRELATION.factors(4000, seed_of("2020-07-01-0123456789ab"), "optimise")):
        assert abs(np.corrcoef(factors[0], other[0])[0, 1]) < 0.06


def test_drawn_defaults_have_the_conditional_means_and_one_draw_per_party():
    market = exposures((0.1, 0.05, 7, 1), (0.1, 0.05, 7, 1), (0.1, 0.05, 8, 1))
    drawn = np.hstack(list(drawn_losses(market, CORRELATION, 20_000, 3)))
    assert set(np.unique(drawn)) == {np.float32(0), np.float32(0.5)}
    np.testing.assert_allclose(drawn.mean(axis=1), 0.05, rtol=0.05)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    # Probability that both of two parties default: the bivariate normal at the asset correlation.
    threshold = norm.ppf(0.1)
    expected = multivariate_normal.cdf([threshold, threshold], cov=[[1, 0.12], [0.12, 1]])
    assert np.mean((drawn[0] > 0) & (drawn[2] > 0)) == pytest.approx(expected, rel=0.1)


def test_tail_weights_give_the_mean_of_the_worst():
    # The worst fifth of eight is 1.6 of them: the worst, and 0.6 of the next.
    losses = np.array([3.0, 1.0, 8.0, 2.0, 5.0, 4.0, 7.0, 6.0])
    weights = tail_weights(losses, level=0.8)
    assert weights.sum() == pytest.approx(1)
    assert weights @ losses == pytest.approx((8 + 0.6 * 7) / 1.6)


def test_variance_price_is_how_much_more_the_tail_weighs():
    # A normal systematic loss: CVaR is 2.0627 standard deviations of the whole, so its slope is known.
    systematic, own = 0.03, 0.02
    mean_losses = 0.1 + systematic * norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    expected = norm.pdf(norm.ppf(0.95)) / 0.05 / (2 * np.hypot(systematic, own))
    assert variance_price(mean_losses, own**2) == pytest.approx(expected, rel=0.005)
    # Nothing systematic at all.
    assert variance_price(np.full(100, 0.1), own**2) == pytest.approx(norm.pdf(norm.ppf(0.95)) / 0.05 / (2 * own), rel=0.005)
    assert variance_price(mean_losses, 0.0) == 0


def test_cvar_of_holdings():
    # No systematic risk and 400 equal parties: binomial, of which the worst 5% are close to normal.
    independent = DefaultCorrelation((0.0,), 0.0)
    count = 400
    market = exposures(*((0.1, 0.05, party, 1) for party in range(count)))
    order = np.concatenate([np.zeros(count, dtype=int), [1]])
    listing = np.concatenate([np.arange(count), [5]])
    amount = np.concatenate([np.full(count, 2500), [2500]])
    found = cvar_of_holdings(order, listing, amount, 3, market, independent, scenarios=4000, seed=1)
    assert found[0] == pytest.approx(0.05 + 2.0627 * 0.5 * np.sqrt(0.09 / count), rel=0.02)
    # One loan that defaults in a tenth of the scenarios: lost in all of the worst twentieth. The third order holds nothing.
    assert found[1] == pytest.approx(0.5) and np.isnan(found[2])
    again = cvar_of_holdings(order, listing, amount, 3, market, independent, scenarios=4000, seed=1)
    np.testing.assert_array_equal(found, again)
