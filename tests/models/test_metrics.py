"""AUCs of the same rows compared: a case by hand, and against what resampling finds."""

from __future__ import annotations

import numpy as np
import pytest

from models.metrics import auc, auc_difference, delong


def test_auc_and_variance_by_hand():
    # Defaults score 3 and 1, the others 2 and 0. The default at 3 lies above both others, that at 1 above one: 1 and ½.
    # Above the other at 2 lies one default, above that at 0 both: ½ and 1. Variances of 1/8 each, over two rows each.
    (found,), covariance = delong(np.array([[3.0, 1.0, 2.0, 0.0]]), np.array([1.0, 1.0, 0.0, 0.0]))
    assert found == 0.75
    assert covariance[0, 0] == pytest.approx(1 / 8 / 2 + 1 / 8 / 2)


def test_difference_agrees_with_resampling():
    draw = np.random.default_rng(20261125)
    is_default = (draw.random(800) < 0.2).astype(float)
    good = draw.normal(size=800) + is_default
    worse = good + draw.normal(size=800)
    found = auc_difference(good, worse, is_default)
    final = np.ones(800)
    assert found.difference == pytest.approx(auc(good, is_default, final) - auc(worse, is_default, final))
    resampled = []
    for _ in range(1000):
        rows = draw.integers(0, 800, 800)
        resampled.append(auc(good[rows], is_default[rows], final) - auc(worse[rows], is_default[rows], final))
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(np.std(resampled), rel=0.1)
    assert found.p < 0.01
    back = auc_difference(worse, good, is_default)
    assert (back.difference, back.p) == (pytest.approx(-found.difference), pytest.approx(found.p))


def test_ties_count_half_and_the_same_ranking_differs_in_nothing():
    is_default = np.array([1.0, 0.0, 1.0, 0.0, 0.0])
    score = np.array([2.0, 2.0, 1.0, 0.0, 0.0])
    (found,), _ = delong(score[None, :], is_default)
    assert found == pytest.approx(auc(score, is_default, np.ones(5)))
    same = auc_difference(score, 10 * score + 1, is_default)
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_weighted_auc_and_variance_by_hand():
    # As in the first case, but the other at 2 weighs 3 and that at 0 weighs 1. The default at 3 lies above all 4, that at 1 above
    # 1 of 4: 1 and ¼, mean 5/8, variance 9/32 over two rows. Above the other at 2 lies ½ of the defaults, above that at 0 all:
    # the distances from 5/8 are -1/8 and 3/8, by weight over mean weight -3/16 and 3/16, variance 9/128 over two rows.
    scores, is_default = np.array([[3.0, 1.0, 2.0, 0.0]]), np.array([1.0, 1.0, 0.0, 0.0])
    (found,), covariance = delong(scores, is_default, np.array([1.0, 1.0, 3.0, 1.0]))
    assert found == 0.625
    assert covariance[0, 0] == pytest.approx(9 / 32 / 2 + 9 / 128 / 2)


def test_weights_of_one_change_nothing_and_whole_ones_repeat_rows():
    draw = np.random.default_rng(20261125)
    is_default = (draw.random(300) < 0.2).astype(float)
    scores = np.round(np.stack([draw.normal(size=300) + is_default, draw.normal(size=300)]), 1)
    plain, weight = delong(scores, is_default), draw.integers(1, 4, 300)
    for one, other in zip(delong(scores, is_default, np.ones(300)), plain, strict=True):
        np.testing.assert_array_equal(one, other)
    # A common factor of all weights is none.
    np.testing.assert_allclose(delong(scores, is_default, np.full(300, 0.25))[1], plain[1])
    weighted, covariance = delong(scores, is_default, weight.astype(float))
    repeated = np.repeat(np.arange(300), np.where(is_default > 0.5, 1, weight))
    np.testing.assert_allclose(weighted, delong(scores[:, repeated], is_default[repeated])[0])
    np.testing.assert_allclose(weighted, [auc(score, is_default, weight.astype(float)) for score in scores])
    # The rows are the draws: what resampling them finds is the variance, and not what twice as many rows would have.
    resampled = []
    for _ in range(1000):
        rows = draw.integers(0, 300, 300)
        resampled.append(auc(scores[0, rows], is_default[rows], weight[rows].astype(float)))
    assert covariance[0, 0] == pytest.approx(np.var(resampled), rel=0.15)


def test_the_one_sided_end_lies_inside_the_interval():
    draw = np.random.default_rng(7)
    is_default = (draw.random(200) < 0.3).astype(float)
    found = auc_difference(draw.normal(size=200) + is_default, draw.normal(size=200), is_default)
    assert (found.difference - found.at_least) / (found.difference - found.low) == pytest.approx(1.645 / 1.96)
