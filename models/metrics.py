"""How good scores are: discrimination and calibration of outcomes that may have been watched in part, in NumPy.

All arrays have shape (rows,): outcomes 0 or 1, probabilities or any score that grows with risk, and watched: the share
of a row's risk that had been watched (features.labels), 1 where the outcome is final. Of someone whose probability is p a
default had been seen with probability watched x p: that is what outcomes are held against.
"""

from __future__ import annotations

import numpy as np

CALIBRATION_BINS = 10


def label_weight(is_default: np.ndarray, watched: np.ndarray) -> np.ndarray:
    """What a row counts as an example: a default is one, no default so far is one as far as it was watched."""
    return np.where(is_default > 0.5, 1.0, watched)


def roc_curve(score: np.ndarray, is_default: np.ndarray, watched: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates from (0, 0) to (1, 1), one point per distinct score; nan without both classes.

    Rows count by ``label_weight``.
    """
    order = np.argsort(-score, kind="stable")
    bad = is_default[order].cumsum()
    good = (watched * (1 - is_default))[order].cumsum()
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    with np.errstate(invalid="ignore"):
        true_rate, false_rate = bad[last_of_tie] / bad[-1], good[last_of_tie] / good[-1]
    return np.append(0.0, false_rate), np.append(0.0, true_rate)


def auc(score: np.ndarray, is_default: np.ndarray, watched: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half; nan without both classes."""
    false_rate, true_rate = roc_curve(score, is_default, watched)
    return float(np.trapezoid(true_rate, false_rate))


def kolmogorov_smirnov(score: np.ndarray, is_default: np.ndarray, watched: np.ndarray) -> float:
    """Largest distance between the scores' distributions of defaults and of the others."""
    false_rate, true_rate = roc_curve(score, is_default, watched)
    return float(np.max(np.abs(true_rate - false_rate)))


def calibration_table(
    prob: np.ndarray, is_default: np.ndarray, watched: np.ndarray, bins: int = CALIBRATION_BINS
) -> np.ndarray:
    """Mean probability, default rate and share of risk watched per bin, of shape (bins used, 3), by rising risk.

    The default rate is defaults over the rows' shares. Bins have about equal shares; equal probabilities share a bin.
    """
    _, tie = np.unique(prob, return_inverse=True)
    of_tie = np.bincount(tie, watched)
    middle = of_tie.cumsum() - of_tie / 2
    place = np.minimum((middle / watched.sum() * bins).astype(int), bins - 1)[tie]
    total = np.bincount(place, watched, bins)
    predicted = np.bincount(place, watched * prob, bins)
    observed = np.bincount(place, is_default, bins)
    used = total > 0
    return np.column_stack([predicted[used] / total[used], observed[used] / total[used], total[used]])


def expected_calibration_error(prob: np.ndarray, is_default: np.ndarray, watched: np.ndarray) -> float:
    """Mean distance between probability and default rate over ten bins (Naeini et al. 2015), by share watched."""
    predicted, observed, total = calibration_table(prob, is_default, watched).T
    return float(np.average(np.abs(predicted - observed), weights=total))


def score_metrics(prob: np.ndarray, is_default: np.ndarray, watched: np.ndarray) -> dict[str, float]:
    """auc, ks, brier, log_loss, ece, and the mean probability and default rate beside the counts.

    brier and log_loss are those of a default seen so far; mean_prob_default and default_rate are of the whole risk.
    """
    seen = np.clip(prob * watched, 1e-12, 1 - 1e-12)
    entropy = -(is_default * np.log(seen) + (1 - is_default) * np.log1p(-seen))
    return {
        "auc": auc(prob, is_default, watched),
        "ks": kolmogorov_smirnov(prob, is_default, watched),
        "brier": float(np.mean((prob * watched - is_default) ** 2)),
        "log_loss": float(np.mean(entropy)),
        "ece": expected_calibration_error(prob, is_default, watched),
        "mean_prob_default": float(np.average(prob, weights=watched)),
        "default_rate": float(is_default.sum() / watched.sum()),
        "rows": float(len(prob)),
        "defaults": float(is_default.sum()),
    }
