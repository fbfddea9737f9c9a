"""Calibration: the network's log-odds to a probability of default that means what it says.

Beta calibration (Kull, Silva Filho and Flach 2017) with both slopes above zero: strictly increasing, so the ranking
stays as it is. With equal slopes it is Platt's logistic calibration.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

MIN_SLOPE = 0.01
# Published probabilities stay strictly inside (0, 1): nothing is certain, and log-odds stay finite.
MIN_PROBABILITY = 1e-6


@dataclass(frozen=True)
class Calibrator:
    """log-odds = slope_low * log(p) - slope_high * log(1 - p) + intercept, of the network's probability p.

    basis: calibration_cohort, or out_of_fold where that cohort had too few defaults.
    """

    slope_low: float
    slope_high: float
    intercept: float
    basis: Literal["calibration_cohort", "out_of_fold"]

    def prob_default(self, log_odds: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, strictly increasing in the log-odds and strictly inside (0, 1)."""
        log_prob, log_rest = _log_probabilities(log_odds)
        prob = expit(self.slope_low * log_prob - self.slope_high * log_rest + self.intercept)
        return np.clip(prob, MIN_PROBABILITY, 1 - MIN_PROBABILITY)

    def to_json(self) -> dict[str, float | str]:
        """The calibrator as plain values."""
        return asdict(self)


def _log_probabilities(log_odds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log(p) and log(1 - p), exact however large the log-odds."""
    return -np.logaddexp(0, -log_odds), -np.logaddexp(0, log_odds)


def fit_calibrator(
    log_odds: np.ndarray,
    is_default: np.ndarray,
    watched: np.ndarray,
    basis: Literal["calibration_cohort", "out_of_fold"],
) -> Calibrator:
    """The calibrator of greatest likelihood; all arrays have shape (rows,).

    watched: the share of a row's risk that had been watched (features.labels). A default had been seen with probability
    watched x p, so a row without one says 1 - watched x p: less than 1 - p, but not watched rows' worth of it, which would
    hold probabilities down where they are high. One pseudo-row of penalty holds the slopes near 1, so that few defaults
    cannot turn them round.
    """
    log_prob, log_rest = _log_probabilities(log_odds)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        low, high, intercept = parameters
        scores = low * log_prob - high * log_rest + intercept
        prob = expit(scores)
        unseen = np.maximum(1 - watched * prob, 1e-300)
        error = np.where(is_default > 0.5, prob - 1, watched * prob * (1 - prob) / unseen)
        lost = np.where(is_default > 0.5, np.logaddexp(0, -scores), -np.log(unseen))
        value = lost.sum() + 0.5 * ((low - 1) ** 2 + (high - 1) ** 2)
        return value, np.array([error @ log_prob + (low - 1), -(error @ log_rest) + (high - 1), error.sum()])

    found = minimize(
        loss, np.array([1.0, 1.0, 0.0]), jac=True, method="L-BFGS-B",
        bounds=[(MIN_SLOPE, None), (MIN_SLOPE, None), (None, None)], options={"maxiter": 500},
    )
    low, high, intercept = (float(value) for value in found.x)
    return Calibrator(low, high, intercept, basis)
