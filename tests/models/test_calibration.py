"""Calibration keeps the ranking and gives back the true rates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from models.calibration import Calibrator, fit_calibrator
from models.metrics import (
    auc,
    calibration_error_by_chance,
    calibration_table,
    expected_calibration_error,
    kolmogorov_smirnov,
    score_metrics,
)

BASIS = "calibration_cohort"


def test_a_network_that_exaggerates_is_brought_back():
    draw = np.random.default_rng(2)
    true_log_odds = draw.normal(-2, 1, 40_000)
    outcome = (draw.random(40_000) < expit(true_log_odds)).astype(float)
    watched = np.ones(40_000)

    calibrator = fit_calibrator(2.5 * true_log_odds + 1.5, outcome, watched, BASIS)

    prob = calibrator.prob_default(2.5 * true_log_odds + 1.5)
    assert expected_calibration_error(expit(2.5 * true_log_odds + 1.5), outcome, watched) > 0.03
    assert expected_calibration_error(prob, outcome, watched) < 0.005
    assert prob.mean() == pytest.approx(outcome.mean(), abs=1e-4)


@pytest.mark.parametrize("upside_down", [False, True])
def test_calibration_is_strictly_increasing_even_where_the_outcomes_are_not(upside_down):
    draw = np.random.default_rng(3)
    log_odds = draw.normal(-1, 1, 500)
    outcome = (draw.random(500) < expit(-log_odds if upside_down else log_odds)).astype(float)

    calibrator = fit_calibrator(log_odds, outcome, np.ones(500), BASIS)

    prob = calibrator.prob_default(np.linspace(-6, 6, 300))
    assert (np.diff(prob) > 0).all()
    assert prob.min() > 0 and prob.max() < 1


def test_outcomes_watched_in_part_give_back_the_eventual_probability():
    draw = np.random.default_rng(4)
    true_log_odds = draw.normal(-1.5, 1, 60_000)
    watched = draw.uniform(0.05, 1.0, 60_000)
    # Seen so far is only a part of what will come: half of it, on average.
    outcome = (draw.random(60_000) < watched * expit(true_log_odds)).astype(float)

    prob = fit_calibrator(1.3 * true_log_odds + 0.4, outcome, watched, BASIS).prob_default(1.3 * true_log_odds + 0.4)

    truth = expit(true_log_odds)
    risky = truth > np.quantile(truth, 0.9)
    assert prob.mean() == pytest.approx(truth.mean(), rel=0.02)
    assert prob[risky].mean() == pytest.approx(truth[risky].mean(), rel=0.04)
    metrics = score_metrics(prob, outcome, watched)
    assert metrics["mean_prob_default"] == pytest.approx(metrics["default_rate"], rel=0.01)
    assert metrics["ece"] < 0.01
    assert score_metrics(truth, outcome, watched)["log_loss"] < score_metrics(outcome.mean() + 0 * truth, outcome, watched)["log_loss"]


def test_nothing_is_certain():
    prob = Calibrator(1.0, 1.0, 0.0, BASIS).prob_default(np.array([-1000.0, 1000.0]))
    assert 0 < prob[0] < prob[1] < 1


def test_metrics_by_hand():
    # Pairs (default, other): .8 beats .6 and .2; .4 beats .2 alone: three of four.
    score, outcome, even = np.array([0.2, 0.4, 0.6, 0.8]), np.array([0.0, 1.0, 0.0, 1.0]), np.ones(4)
    assert auc(score, outcome, even) == 0.75
    assert auc(np.full(4, 0.5), outcome, even) == 0.5
    # The beaten pair (.4 against .6) counts three of six.
    assert auc(score, outcome, np.array([1.0, 1.0, 3.0, 1.0])) == pytest.approx((1 + 1 + 3) / 8)
    assert kolmogorov_smirnov(score, outcome, even) == 0.5
    assert np.isnan(auc(score, np.zeros(4), even))

    metrics = score_metrics(np.full(4, 0.25), outcome, even)
    assert metrics["brier"] == pytest.approx((2 * 0.25**2 + 2 * 0.75**2) / 4)
    assert metrics["ece"] == pytest.approx(0.25)
    assert metrics["defaults"] == 2


def test_calibration_error_by_chance_by_hand():
    # Ten rows with a bin each miss by a half, whatever is drawn; three in one bin by .5 in a quarter of draws, else by 1/6.
    assert calibration_error_by_chance(np.linspace(0.4999, 0.5001, 10), np.ones(10)) == pytest.approx(0.5, abs=1e-3)
    assert calibration_error_by_chance(np.full(3, 0.5), np.ones(3)) == pytest.approx(0.5)


def test_one_of_a_hundred_exact_scores_has_a_larger_error_than_chance_and_a_wrong_one_has():
    draw = np.random.default_rng(5)
    prob, watched = expit(draw.normal(-2, 1, 300)), draw.uniform(0.2, 1.0, 300)
    by_chance = calibration_error_by_chance(prob, watched)
    assert by_chance > 0.03, "such an error is no proof on 300 rows"
    outcomes = draw.random((1000, 300)) < watched * prob
    larger = np.mean([expected_calibration_error(prob, outcome, watched) > by_chance for outcome in outcomes])
    assert 0.002 < larger < 0.02
    wrong = expit(draw.normal(-2, 1, 300) + 1.5)
    assert expected_calibration_error(wrong, outcomes[0], watched) > calibration_error_by_chance(wrong, watched)
    # A hundred times the rows, a tenth of the error.
    many = calibration_error_by_chance(np.tile(prob, 100), np.tile(watched, 100))
    assert many == pytest.approx(by_chance / 10, rel=0.15)


def test_calibration_bins_hold_equal_shares():
    table = calibration_table(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.0, 0.0, 1.0, 1.0]), np.ones(4), bins=2)
    np.testing.assert_allclose(table, [[0.15, 0, 2], [0.35, 1, 2]])
