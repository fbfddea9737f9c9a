"""Scores beside what is attainable: Ginis on outcomes and on the truth, and their ratio."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from models.attainable import beside_truth, gini, gini_ratio


def test_a_gini_on_the_truth_is_the_mean_over_outcomes():
    assert gini(np.array([1.0, 0.0]), np.array([1.0, 0.0])) == 1
    draw = np.random.default_rng(1)
    truth = 1 / (1 + np.exp(3 - draw.normal(size=4000)))
    score = np.log(truth) + draw.normal(size=4000)
    drawn = [gini(score, (draw.random(4000) < truth).astype(float)) for _ in range(50)]
    assert gini(score, truth) == pytest.approx(np.mean(drawn), abs=3 * np.std(drawn) / np.sqrt(50) + 0.002)


def test_ratios_are_paired():
    draw = np.random.default_rng(2)
    truth = 1 / (1 + np.exp(3 - 1.5 * draw.normal(size=3000)))
    is_default = (draw.random(3000) < truth).astype(float)
    low, ratio, high = gini_ratio(truth, np.log(truth), is_default)
    assert (low, ratio, high) == (1, 1, 1)
    low, ratio, high = gini_ratio(np.log(truth) + draw.normal(size=3000), truth, is_default)
    assert low < ratio < high < 1
    assert gini_ratio(np.log(truth) + 0.1, truth, is_default) == pytest.approx((1, 1, 1))


def test_the_truth_is_the_yardstick():
    draw = np.random.default_rng(3)
    truth = 1 / (1 + np.exp(3 - 1.5 * draw.normal(size=2000)))
    rows = pd.DataFrame({
        "ensemble": 1.2 * truth, "attainable": truth, "truth": truth, "is_default": draw.random(2000) < truth,
        "risk_group": 1 + (truth > np.median(truth)),
    })
    found = beside_truth(rows)
    assert found["gini"]["truth"]["ensemble"] == found["gini"]["truth"]["truth"] == pytest.approx(found["gini"]["truth"]["attainable"])
    assert found["ratio"]["truth"] == (1, 1, 1)
    # A fifth too much, everywhere.
    assert found["ece"]["truth"] == pytest.approx({"ensemble": 0.2 * truth.mean(), "attainable": 0, "truth": 0})
    safer, riskier = found["risk_groups"]
    assert safer["rows"] == riskier["rows"] == 1000
    assert safer["prob_default"] == pytest.approx(1.2 * safer["truth"]) and safer["truth"] < riskier["truth"]
