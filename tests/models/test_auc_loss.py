"""The AUC loss against cross-entropy: what is fitted on what, and figures over seeds."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import create_autospec

import numpy as np
import pandas as pd
import pytest

from conf.settings import load_settings
from models import auc_loss
from models.ensemble import StackedRows


def test_each_network_is_calibrated_on_the_fold_that_it_has_not_seen(monkeypatch):
    fitted = []

    def fit(rows, *, folds, networks, epochs, auc_weight, seed):
        fitted.append((auc_weight, seed, networks))
        return SimpleNamespace(log_odds=lambda inputs: inputs[:, 0])

    monkeypatch.setattr(auc_loss, "fit_ensemble", create_autospec(auc_loss.fit_ensemble, side_effect=fit))
    monkeypatch.setattr(auc_loss, "SEEDS", 2)
    # The unseen fold has one default in ten, the others nine.
    is_default = np.concatenate([np.arange(1000) < 100, np.arange(1000) < 900]).astype(float)
    rows = StackedRows(np.zeros((2000, 4)), is_default, np.ones(2000), np.repeat([0, 1], 1000))
    training = load_settings().training.model_copy(update={"auc_weight": 0.3})
    found = auc_loss.probabilities_by_seed(rows, np.zeros((1, 4)), training)
    assert fitted == [(0.3, 0, 1), (0.3, 1, 1), (0.0, 0, 1), (0.0, 1, 1)]
    assert list(found) == ["auc_loss_0", "auc_loss_1", "cross_entropy_0", "cross_entropy_1"]
    # A pseudo-row of penalty holds the slopes.
    assert np.concatenate(list(found.values())) == pytest.approx([0.1] * 4, abs=0.002)
    assert auc_loss.probabilities_by_seed(rows, np.zeros((1, 4)), training.model_copy(update={"auc_weight": 0.0})) == {}


def test_differences_are_paired_by_seed():
    rows = pd.DataFrame({
        "watched_share": 1.0, "is_default": [True, True, False, False],
        "auc_loss_0": [0.9, 0.8, 0.2, 0.1], "auc_loss_1": [0.9, 0.2, 0.3, 0.1],        # AUC 1 and 3/4
        "cross_entropy_0": [0.9, 0.2, 0.3, 0.1], "cross_entropy_1": [0.9, 0.2, 0.3, 0.1],  # 3/4 twice
    })
    found = auc_loss.compare_losses(rows)
    assert found["seeds"] == 2
    assert found["auc_loss"]["auc"]["by_seed"] == pytest.approx([1, 0.75])
    assert found["cross_entropy"]["auc"]["mean"] == pytest.approx(0.75) and found["cross_entropy"]["auc"]["sd"] == 0
    # 1/4 and 0: a standard deviation of 1/4 / sqrt(2), over sqrt(2) the error; t with one degree of freedom: 12.706.
    difference = found["difference"]["auc"]
    assert (difference["mean"], difference["standard_error"]) == pytest.approx((0.125, 0.125))
    assert difference["interval"] == pytest.approx([0.125 - 12.7062 * 0.125, 0.125 + 12.7062 * 0.125], rel=1e-4)
    # Brier: (0.01 + 0.04 + 0.04 + 0.01) / 4 less (0.01 + 0.64 + 0.09 + 0.01) / 4, and nothing.
    assert found["difference"]["brier"]["by_seed"] == pytest.approx([0.025 - 0.1875, 0])


def test_without_the_study_there_is_nothing():
    assert auc_loss.compare_losses(pd.DataFrame({"is_default": [True, False], "watched_share": 1.0, "ensemble": 0.5})) is None
