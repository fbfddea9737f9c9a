"""How good scores are: weighted discrimination and calibration, in NumPy.

All arrays have shape (rows,): outcomes 0 or 1, weights above 0, probabilities or any score that grows with risk.
"""

from __future__ import annotations

import numpy as np

CALIBRATION_BINS = 10


def roc_curve(score: np.ndarray, is_default: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates from (0, 0) to (1, 1), one point per distinct score; nan without both classes."""
    order = np.argsort(-score, kind="stable")
    bad = (weight * is_default)[order].cumsum()
    good = (weight * (1 - is_default))[order].cumsum()
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    with np.errstate(invalid="ignore"):
        true_rate, false_rate = bad[last_of_tie] / bad[-1], good[last_of_tie] / good[-1]
    return np.append(0.0, false_rate), np.append(0.0, true_rate)


def auc(score: np.ndarray, is_default: np.ndarray, weight: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half; nan without both classes."""
    false_rate, true_rate = roc_curve(score, is_default, weight)
    return float(np.trapezoid(true_rate, false_rate))


def kolmogorov_smirnov(score: np.ndarray, is_default: np.ndarray, weight: np.ndarray) -> float:
    """Largest distance between the scores' distributions of defaults and of the others."""
    false_rate, true_rate = roc_curve(score, is_default, weight)
    return float(np.max(np.abs(true_rate - false_rate)))


def calibration_table(
    prob: np.ndarray, is_default: np.ndarray, weight: np.ndarray, bins: int = CALIBRATION_BINS
) -> np.ndarray:
    """Mean probability, default rate and weight per bin, of shape (bins used, 3), by rising risk.

    Bins have about equal weight; equal probabilities share a bin.
    """
    _, tie = np.unique(prob, return_inverse=True)
    of_tie = np.bincount(tie, weight)
    middle = of_tie.cumsum() - of_tie / 2
    place = np.minimum((middle / weight.sum() * bins).astype(int), bins - 1)[tie]
    total = np.bincount(place, weight, bins)
    predicted = np.bincount(place, weight * prob, bins)
    observed = np.bincount(place, weight * is_default, bins)
    used = total > 0
    return np.column_stack([predicted[used] / total[used], observed[used] / total[used], total[used]])


def expected_calibration_error(prob: np.ndarray, is_default: np.ndarray, weight: np.ndarray) -> float:
    """Weighted mean distance between probability and default rate over ten bins (Naeini et al. 2015)."""
    predicted, observed, total = calibration_table(prob, is_default, weight).T
    return float(np.average(np.abs(predicted - observed), weights=total))


def score_metrics(prob: np.ndarray, is_default: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    """auc, ks, brier, log_loss, ece, and the mean probability and default rate beside the counts."""
    inside = np.clip(prob, 1e-12, 1 - 1e-12)
    entropy = -(is_default * np.log(inside) + (1 - is_default) * np.log1p(-inside))
    return {
        "auc": auc(prob, is_default, weight),
        "ks": kolmogorov_smirnov(prob, is_default, weight),
        "brier": float(np.average((prob - is_default) ** 2, weights=weight)),
        "log_loss": float(np.average(entropy, weights=weight)),
        "ece": expected_calibration_error(prob, is_default, weight),
        "mean_prob_default": float(np.average(prob, weights=weight)),
        "default_rate": float(np.average(is_default, weights=weight)),
        "rows": float(len(prob)),
        "defaults": float(is_default.sum()),
    }
