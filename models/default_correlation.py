"""How strongly defaults move together: the stated asset correlations, scaled by what realised defaults say of them. NumPy and SciPy.

All loans are one portfolio under one factor. A quarter's defaults are Poisson, their rate what the hazard expects times
exp(level + b z): z is a stationary AR(1) of unit variance by quarters, b what an asset correlation makes of it at the quarter's
probability of default (the first order of Vasicek 2002). The hazard learnt its level from these very defaults, and a few years may
be one downturn: so the level is unknown, with a flat prior, and the persistence of z has a uniform one. What correlates whole lives
of loans is the mean of z over LIFE_QUARTERS of them. The scale of that correlation over the stated one has an exponential prior of
mean 1: without history the stated ones stand. Its posterior is by Laplace's approximation (Rasmussen and Williams 2006, Gaussian
processes for machine learning, section 3.4), on a grid of scale and persistence.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import gammaln, ndtri
from scipy.stats import norm

LIFE_QUARTERS = 12
# Evenly spaced in their root, as low scales are told apart best. Beyond 7 an exponential prior of mean 1 holds a thousandth.
_ROOTS = np.linspace(0, np.sqrt(7), 71)
_PERSISTENCES = np.linspace(0.05, 0.95, 10)
LARGEST_CORRELATION = 0.95
# Variance of the level's prior: flat, as far as a rate may be wrong.
_LEVEL_VARIANCE = 100.0
_NEWTON_STEPS = 50


def fit_correlations(months: pd.DataFrame, stated: Sequence[float]) -> tuple[float, ...]:
    """The stated asset correlations of risk groups times their scale's posterior mean over its prior's.

    months: month (first day), at_risk (loans), defaults and expected, as of ``models.risk_caps.realised_and_expected``; a quarter
    counts when it has all of its months. The portfolio's correlation is the mean of the groups'. None exceeds
    LARGEST_CORRELATION.
    """
    quarters = quarterly(months)
    if quarters.empty or max(stated) == 0:
        return tuple(stated)
    root, persistence = (grid.ravel() for grid in np.meshgrid(_ROOTS, _PERSISTENCES))
    scale = root**2
    correlation = np.minimum(scale * float(np.mean(stated)) / variance_of_life(persistence), LARGEST_CORRELATION)
    evidence = log_evidence(quarters, correlation, persistence)
    # A step of the root is one of the scale by as much as the root.
    prior = root * np.exp(-scale)
    weight = prior * np.exp(evidence - evidence.max())
    # Over the mean of the prior on the same grid, so that what says nothing changes nothing.
    found = (weight @ scale / weight.sum()) / (prior @ scale / prior.sum())
    return tuple(min(float(found) * one, LARGEST_CORRELATION) for one in stated)


def quarterly(months: pd.DataFrame) -> pd.DataFrame:
    """One row per quarter with all of its months: loans (the mean at risk), defaults and expected; none without anything expected."""
    quarter = pd.PeriodIndex(pd.to_datetime(months["month"]), freq="Q")
    found = months.groupby(quarter).agg(
        loans=("at_risk", "mean"), defaults=("defaults", "sum"), expected=("expected", "sum"), months=("month", "nunique")
    )
    return found[(found["months"] == 3) & (found["expected"] > 0)].drop(columns="months")


def variance_of_life(persistence: np.ndarray) -> np.ndarray:
    """Of the mean of LIFE_QUARTERS successive factors, each of unit variance."""
    apart = np.arange(1, LIFE_QUARTERS)
    return (1 + 2 * ((1 - apart / LIFE_QUARTERS) * persistence[:, None] ** apart).sum(axis=1)) / LIFE_QUARTERS


def log_evidence(quarters: pd.DataFrame, correlation: np.ndarray, persistence: np.ndarray) -> np.ndarray:
    """Of the quarters' defaults, for each asset correlation of a quarter (0 to under 1) with its persistence."""
    loans, defaults, expected = (quarters[name].to_numpy(float) for name in ("loans", "defaults", "expected"))
    prob = np.clip(expected / loans, 1e-12, 1 - 1e-12)
    sensitivity = norm.pdf(ndtri(prob)) / prob * np.sqrt(correlation / (1 - correlation))[:, None]
    number = quarters.index.year.to_numpy() * 4 + quarters.index.quarter.to_numpy()
    together = persistence[:, None, None] ** np.abs(number[:, None] - number)
    covariance = sensitivity[:, :, None] * together * sensitivity[:, None, :] + _LEVEL_VARIANCE
    log_expected, every = np.log(expected), np.eye(len(quarters))
    latent = np.zeros_like(sensitivity)
    for _ in range(_NEWTON_STEPS):
        rate = np.exp(latent + log_expected)
        gradient = defaults - rate
        # (K^-1 + W)^-1 (W f + gradient) without K's inverse; a step of at most 1 keeps exp in range.
        goal = np.linalg.solve(every + covariance * rate[:, None, :], (covariance @ (rate * latent + gradient)[:, :, None]))[:, :, 0]
        step = np.clip(goal - latent, -1, 1)
        latent = latent + step
        if np.abs(step).max() < 1e-9:
            break
    rate = np.exp(latent + log_expected)
    root = np.sqrt(rate)
    inner = every + root[:, :, None] * covariance * root[:, None, :]
    # At the mode K^-1 f is the gradient.
    fit = (defaults * (latent + log_expected) - rate - gammaln(defaults + 1)).sum(axis=1) - ((defaults - rate) * latent).sum(axis=1) / 2
    return fit - np.linalg.slogdet(inner)[1] / 2
