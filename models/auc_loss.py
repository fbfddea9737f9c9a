"""Whether the AUC loss earns its place: the network learnt with it and with cross-entropy alone, seed by seed.

Both learn from the same out-of-fold rows, are calibrated on the fold that they have not seen, and score the same tested rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import t

from conf.settings import Training
from models.calibration import fit_calibrator
from models.ensemble import StackedRows, fit_ensemble
from models.metrics import score_metrics

SEEDS = 10
LOSSES = ("auc_loss", "cross_entropy")
METRICS = ("auc", "log_loss", "brier")


def probabilities_by_seed(stacked: StackedRows, inputs: np.ndarray, training: Training) -> dict[str, np.ndarray]:
    """Calibrated probabilities (rows,) for inputs (rows, 4), by ``<loss>_<seed>``: of one network each, seeds 0 to SEEDS - 1.

    auc_loss has the settings' auc_weight, cross_entropy 0. Empty where that weight is 0 too.
    """
    if not training.auc_weight:
        return {}
    # A single network stops by fold 0, and learns from the others.
    unseen = stacked.fold == 0
    found = {}
    for loss, auc_weight in zip(LOSSES, (training.auc_weight, 0.0), strict=True):
        for seed in range(SEEDS):
            network = fit_ensemble(
                stacked, folds=training.folds, networks=1, epochs=training.ensemble_epochs, auc_weight=auc_weight, seed=seed
            )
            calibrator = fit_calibrator(
                network.log_odds(stacked.inputs[unseen]), stacked.is_default[unseen], stacked.watched[unseen], "out_of_fold"
            )
            found[f"{loss}_{seed}"] = calibrator.prob_default(network.log_odds(inputs))
    return found


def compare_losses(rows: pd.DataFrame) -> dict[str, object] | None:
    """Each loss's metrics and their difference, auc_loss less cross_entropy; null where rows hold no such probabilities.

    rows: one per tested row, with is_default, watched_share and the columns of ``probabilities_by_seed``. by_seed: one value per seed; sd is over seeds. interval: 95%, of the mean paired difference over seeds
    on these rows (Student's t): that other borrowers would be tested is not in it.
    """
    seeds = sum(name.startswith(f"{LOSSES[0]}_") for name in rows)
    if not seeds:
        return None
    is_default, watched = rows["is_default"].to_numpy(dtype=float), rows["watched_share"].to_numpy()

    def metrics(column: str) -> dict[str, float]:
        return score_metrics(rows[column].to_numpy(), is_default, watched)

    by_loss = {
        loss: pd.DataFrame([metrics(f"{loss}_{seed}") for seed in range(seeds)])[list(METRICS)] for loss in LOSSES
    }
    difference = by_loss[LOSSES[0]] - by_loss[LOSSES[1]]
    return {"seeds": seeds, **{loss: _over_seeds(table) for loss, table in by_loss.items()}, "difference": _over_seeds(difference)}


def _over_seeds(table: pd.DataFrame) -> Mapping[str, dict[str, object]]:
    """By metric; table: one row per seed, one column per metric."""
    reach = t.ppf(0.975, len(table) - 1) * table.sem()
    return {
        name: {
            "mean": float(values.mean()), "sd": float(values.std()), "standard_error": float(values.sem()),
            "interval": [float(values.mean() - reach[name]), float(values.mean() + reach[name])], "by_seed": values.tolist(),
        }
        for name, values in table.items()
    }
