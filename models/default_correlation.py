"""How strongly defaults move together: the stated asset correlations, scaled by what realised defaults say of them. NumPy and SciPy.

All loans as one portfolio under one factor a quarter (Vasicek 2002): given the factor a quarter's defaults are Poisson. The scale
of the stated correlations has an exponential prior of mean 1 and becomes its posterior's mean: without history the stated ones
stand, and each quarter that defaults as the hazard lets expect speaks for lower ones. A quarter's factor stands for that of a loan's
whole life; were quarters independent, a life's correlation would be lower still.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri
from scipy.stats import norm, poisson

# Beyond, an exponential prior of mean 1 holds a thousandth.
LARGEST_SCALE = 7.0
LARGEST_CORRELATION = 0.95
_SCALES = 281
_FACTORS = np.linspace(-6, 6, 1201)


def fit_correlations(months: pd.DataFrame, stated: Sequence[float]) -> tuple[float, ...]:
    """The stated asset correlations of risk groups times the posterior mean of their scale.

    months: month (first day), at_risk (loans), defaults and expected, as of ``models.risk_caps.realised_and_expected``; a quarter
    counts when it has all of its months. The portfolio's correlation is the mean of the groups'.
    """
    quarters = quarterly(months)
    if quarters.empty or max(stated) == 0:
        return tuple(stated)
    scales = np.linspace(0, min(LARGEST_SCALE, LARGEST_CORRELATION / max(stated)), _SCALES)
    log_posterior = -scales + [log_likelihood(quarters, scale * float(np.mean(stated))) for scale in scales]
    weight = np.exp(log_posterior - log_posterior.max())
    scale = float(weight @ scales / weight.sum())
    return tuple(scale * one for one in stated)


def quarterly(months: pd.DataFrame) -> pd.DataFrame:
    """One row per quarter with all of its months: loans (the mean at risk), defaults and expected; none without anything expected."""
    quarter = pd.PeriodIndex(pd.to_datetime(months["month"]), freq="Q")
    found = months.groupby(quarter).agg(
        loans=("at_risk", "mean"), defaults=("defaults", "sum"), expected=("expected", "sum"), months=("month", "nunique")
    )
    return found[(found["months"] == 3) & (found["expected"] > 0)].drop(columns="months")


def log_likelihood(quarters: pd.DataFrame, correlation: float) -> float:
    """Of the quarters' defaults, independent of each other, under an asset correlation from 0 to under 1."""
    loans, defaults, expected = (quarters[name].to_numpy(float)[:, None] for name in ("loans", "defaults", "expected"))
    threshold = ndtri(np.clip(expected / loans, 1e-12, 1 - 1e-12))
    given = ndtr((threshold - np.sqrt(correlation) * _FACTORS) / np.sqrt(1 - correlation))
    weight = norm.pdf(_FACTORS) * (_FACTORS[1] - _FACTORS[0])
    of_quarter = poisson.logpmf(defaults, np.maximum(loans * given, 1e-300))
    largest = of_quarter.max(axis=1, keepdims=True)
    return float(np.sum(largest[:, 0] + np.log(np.exp(of_quarter - largest) @ weight)))
