"""Scores beside what is attainable: Ginis on outcomes and on the truth, and their ratio."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from models.attainable import beside_truth, gini, gini_ratio, safest, selection


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
        "risk_group": 1 + (truth > np.median(truth)), "interest_rate": 0.05 + 0.2 * truth, "is_unseen": np.arange(2000) < 500,
    })
    found = beside_truth(rows)
    assert found["gini"]["truth"]["ensemble"] == found["gini"]["truth"]["truth"] == pytest.approx(found["gini"]["truth"]["attainable"])
    assert found["ratio"]["truth"] == (1, 1, 1)
    assert found["unseen"] == {"rows": 500, "ratio": (1, 1, 1)}
    # A fifth too much, everywhere.
    assert found["ece"]["truth"] == pytest.approx({"ensemble": 0.2 * truth.mean(), "attainable": 0, "truth": 0})
    safer, riskier = found["risk_groups"]
    assert safer["rows"] == riskier["rows"] == 1000
    assert safer["prob_default"] == pytest.approx(1.2 * safer["truth"]) and safer["truth"] < riskier["truth"]


def test_picks_are_the_safest_at_the_mean_interest_rate():
    # Two rates, the risky half dearer; half of the picks must come from each.
    truth = np.array([0.01, 0.02, 0.03, 0.04, 0.11, 0.12, 0.13, 0.14])
    rate = np.repeat([0.05, 0.15], 4)
    assert safest(truth, rate, 0.5) == pytest.approx([1, 1, 0, 0, 1, 1, 0, 0])
    upside_down, blind = truth.copy(), np.full(8, 0.1)
    upside_down[4:] = truth[:3:-1]
    found = selection({"truth": truth, "upside_down": upside_down}, truth, rate)
    assert found["all"] == pytest.approx(0.075)
    # A fifth of eight: 0.8 of the best of each half.
    assert found["truth"] == {"truth": pytest.approx(0.06), "of_oracle": 1}
    assert found["upside_down"] == {"truth": pytest.approx((0.01 + 0.14) / 2), "of_oracle": pytest.approx(0)}
    assert safest(blind, rate, 0.25) @ rate == pytest.approx(2 * rate.mean())
