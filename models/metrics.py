"""How good scores are: discrimination and calibration of outcomes that may have been watched in part, in NumPy.

All arrays have shape (rows,): outcomes 0 or 1, probabilities or any score that grows with risk, and watched: the share
of a row's risk that had been watched (features.labels), 1 where the outcome is final. Of someone whose probability is p a
default had been seen with probability watched x p: that is what outcomes are held against.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

CALIBRATION_BINS = 10
# An exact score's calibration error is larger by chance in one of a hundred draws. Not in one of twenty: a calibrator that was
# fitted on as few rows is off by chance too, which is not in the draws.
CHANCE_QUANTILE, CHANCE_DRAWS, CHANCE_SEED = 0.99, 500, 20261125
# Standard errors to either end of a 95% interval, and to the end of a one-sided one.
ERRORS_95, _ERRORS_ONE_SIDED_95 = 1.96, 1.645


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


def delong(scores: np.ndarray, is_default: np.ndarray, watched: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """AUCs of several scores of the same rows and their covariance, of shape (scores,) and (scores, scores).

    scores has shape (scores, rows). Rows count by ``label_weight``; without watched outcomes are final. The rows are the
    draws, not their weights: a row of weight 2 moves the AUC as two rows do and the variance by twice its distance from the
    mean, as one. Source: DeLong, DeLong and Clarke-Pearson 1988, with the sums over sorted scores that Sun and Xu 2014
    count. nan with fewer than two rows of a class.
    """
    is_bad = is_default > 0.5
    weight = np.ones((~is_bad).sum()) if watched is None else watched[~is_bad]
    bads, total = is_bad.sum(), weight.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        # For each default the share of the others below it, for each of the others the share of defaults above it.
        above = np.stack([_sum_below(score[is_bad], score[~is_bad], weight) for score in scores]) / total
        below = 1 - np.stack([_sum_below(score[~is_bad], score[is_bad], np.ones(bads)) for score in scores]) / bads
        areas = above.mean(axis=1)
        # The weighted mean's linearisation: what each of the others adds to it, times as many rows as there are.
        distances = (below - areas[:, None]) * weight / weight.mean()
        covariance = np.cov(above) / bads + np.cov(distances) / len(weight)
    return areas, np.atleast_2d(covariance)


def _sum_below(score: np.ndarray, others: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """For each score the weight of the others below it, of its equals half."""
    order = np.argsort(others, kind="stable")
    sums = np.append(0.0, weight[order].cumsum())
    return (sums[np.searchsorted(others[order], score, "left")] + sums[np.searchsorted(others[order], score, "right")]) / 2


def auc_interval(score: np.ndarray, is_default: np.ndarray, watched: np.ndarray | None = None) -> tuple[float, float]:
    """The 95% interval of an AUC, by DeLong's variance.

    score of shape (repeats, rows): of the mean AUC of the repeats, whose covariance counts, as all rest on the same rows.
    """
    areas, covariance = delong(np.atleast_2d(score), is_default, watched)
    reach = ERRORS_95 * np.sqrt(covariance.mean())
    return float(areas.mean() - reach), float(areas.mean() + reach)


@dataclass(frozen=True)
class AucDifference:
    """One score's AUC less another's on the same rows: low and high end a 95% interval, p is two-sided.

    at_least: the lower end of the one-sided 95% interval.
    """

    difference: float
    low: float
    high: float
    p: float
    at_least: float


def auc_difference(
    score: np.ndarray, other: np.ndarray, is_default: np.ndarray, watched: np.ndarray | None = None
) -> AucDifference:
    """How two scores of the same rows differ in AUC, by DeLong's paired test; p is 1 for scores that rank alike.

    Both of shape (repeats, rows): how their mean AUCs differ, as in ``auc_interval``.
    """
    score, other = np.atleast_2d(score), np.atleast_2d(other)
    areas, covariance = delong(np.vstack([score, other]), is_default, watched)
    contrast = np.repeat([1.0, -1.0], len(score)) / len(score)
    difference = float(contrast @ areas)
    error = float(np.sqrt(max(contrast @ covariance @ contrast, 0.0)))
    p = 2 * float(norm.sf(abs(difference) / error)) if error > 0 else float(difference == 0)
    reach = ERRORS_95 * error
    return AucDifference(difference, difference - reach, difference + reach, p, difference - _ERRORS_ONE_SIDED_95 * error)


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
    place = _places(prob, watched, bins)
    total = np.bincount(place, watched, bins)
    predicted = np.bincount(place, watched * prob, bins)
    observed = np.bincount(place, is_default, bins)
    used = total > 0
    return np.column_stack([predicted[used] / total[used], observed[used] / total[used], total[used]])


def _places(prob: np.ndarray, watched: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each row."""
    _, tie = np.unique(prob, return_inverse=True)
    of_tie = np.bincount(tie, watched)
    middle = of_tie.cumsum() - of_tie / 2
    return np.minimum((middle / watched.sum() * bins).astype(int), bins - 1)[tie]


def expected_calibration_error(prob: np.ndarray, is_default: np.ndarray, watched: np.ndarray) -> float:
    """Mean distance between probability and default rate over ten bins (Naeini et al. 2015), by share watched."""
    predicted, observed, total = calibration_table(prob, is_default, watched).T
    return float(np.average(np.abs(predicted - observed), weights=total))


def calibration_error_by_chance(prob: np.ndarray, watched: np.ndarray) -> float:
    """The ``expected_calibration_error`` that these probabilities, were they exact, would stay below in 99 of 100 draws.

    Drawn are the outcomes, each row's by itself, with the seed fixed. Source: consistency resampling, Bröcker and Smith 2007,
    for this error Vaicenavicius et al. 2019.
    """
    draw, seen = np.random.default_rng(CHANCE_SEED), watched * prob
    place = _places(prob, watched, CALIBRATION_BINS)
    expected = np.bincount(place, seen, CALIBRATION_BINS)
    drawn = (np.bincount(place, draw.random(len(prob)) < seen, CALIBRATION_BINS) for _ in range(CHANCE_DRAWS))
    errors = [np.abs(observed - expected).sum() / watched.sum() for observed in drawn]
    return float(np.quantile(errors, CHANCE_QUANTILE))


def row_losses(prob: np.ndarray, is_default: np.ndarray, watched: np.ndarray) -> dict[str, np.ndarray]:
    """brier and log_loss of each row, those of a default seen so far; of probabilities of shape (…, rows) in that shape."""
    seen = prob * watched
    inside = np.clip(seen, 1e-12, 1 - 1e-12)
    return {
        "brier": (seen - is_default) ** 2,
        "log_loss": -(is_default * np.log(inside) + (1 - is_default) * np.log1p(-inside)),
    }


def loss_difference(
    prob: np.ndarray, other: np.ndarray, is_default: np.ndarray, watched: np.ndarray
) -> dict[str, tuple[float, float, float]]:
    """By brier and log_loss, one's mean over the rows less another's, between the ends of its 95% interval (paired, normal).

    prob, other: of shape (repeats, rows) or (rows,); a row's loss is the mean of its repeats', as the rows are the draws.
    """
    found, of_other = {}, row_losses(np.atleast_2d(other), is_default, watched)
    for name, losses in row_losses(np.atleast_2d(prob), is_default, watched).items():
        differences = (losses - of_other[name]).mean(axis=0)
        mean, reach = float(differences.mean()), ERRORS_95 * float(differences.std(ddof=1)) / len(differences) ** 0.5
        found[name] = (mean - reach, mean, mean + reach)
    return found


def score_metrics(prob: np.ndarray, is_default: np.ndarray, watched: np.ndarray) -> dict[str, float]:
    """auc, ks, brier, log_loss, ece, and the mean probability and default rate beside the counts.

    brier and log_loss are means of ``row_losses``; mean_prob_default and default_rate are of the whole risk.
    """
    return {
        "auc": auc(prob, is_default, watched),
        "ks": kolmogorov_smirnov(prob, is_default, watched),
        **{name: float(losses.mean()) for name, losses in row_losses(prob, is_default, watched).items()},
        "ece": expected_calibration_error(prob, is_default, watched),
        "mean_prob_default": float(np.average(prob, weights=watched)),
        "default_rate": float(is_default.sum() / watched.sum()),
        "rows": float(len(prob)),
        "defaults": float(is_default.sum()),
    }


def ranking(scores: Mapping[str, np.ndarray], is_default: np.ndarray, watched: np.ndarray) -> dict[str, object]:
    """rows, defaults, auc and auc_interval, these by scorer and empty with fewer than two rows of a class.

    scores: of shape (rows,), as is_default and watched.
    """
    defaults = int(is_default.sum())
    ranked = scores if min(defaults, len(is_default) - defaults) >= 2 else {}
    return {
        "rows": len(is_default), "defaults": defaults,
        "auc": {name: auc(score, is_default, watched) for name, score in ranked.items()},
        "auc_interval": {name: auc_interval(score, is_default, watched) for name, score in ranked.items()},
    }


def against_ensemble(
    scores: Mapping[str, np.ndarray], is_default: np.ndarray, watched: np.ndarray
) -> dict[str, dict[str, object]]:
    """delong_p and auc_difference by other scorer: the score called ensemble less the other, paired, between the ends of its 95%
    interval. scores as for ``auc_difference``, by scorer."""
    found = {name: auc_difference(scores["ensemble"], score, is_default, watched) for name, score in scores.items() if name != "ensemble"}
    return {
        "delong_p": {name: one.p for name, one in found.items()},
        "auc_difference": {name: [one.low, one.difference, one.high] for name, one in found.items()},
    }


def ranking_against_ensemble(
    scores: Mapping[str, np.ndarray], is_default: np.ndarray, watched: np.ndarray
) -> dict[str, object]:
    """``ranking``, with the auc_difference of ``against_ensemble`` between those that are ranked."""
    found = ranking(scores, is_default, watched)
    ranked = {name: scores[name] for name in found["auc"]}
    return found | {"auc_difference": against_ensemble(ranked, is_default, watched)["auc_difference"]}
