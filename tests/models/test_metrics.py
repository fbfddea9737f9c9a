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
