"""Performance before labels mature: what calibrated probabilities themselves let expect of a night's scores.

Confidence-based performance estimation (CBPE; NannyML 2022, Białek et al. 2024): of borrowers with probability p a share p
is expected to default, so expected defaults and non-defaults stand in for labels. It sees a changed population; it
cannot see that the calibration itself no longer holds, which only outcomes tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from models.drift import Bins

# Bins of 0.02 in log-odds, from below to above any published probability: within one, odds differ by 2%.
_LOG_ODDS = np.linspace(-14.0, 14.0, 1401)
_MIDDLES = expit(np.append(_LOG_ODDS - 0.01, _LOG_ODDS[-1] + 0.01))
HISTOGRAM = Bins(tuple(expit(_LOG_ODDS).tolist()))


@dataclass(frozen=True)
class ExpectedPerformance:
    """Expected AUC, Brier score, and default rate within the horizon."""

    expected_auc: float
    expected_brier: float
    expected_default_rate: float


def expected_performance(counts: np.ndarray) -> ExpectedPerformance:
    """From rows per bin of HISTOGRAM, nulls last, of which there are none."""
    rows = counts[:-1]
    bad, good = rows * _MIDDLES, rows * (1 - _MIDDLES)
    # From the riskiest bin down; equal probabilities count half.
    true_rate = np.append(0.0, bad[::-1].cumsum() / bad.sum())
    false_rate = np.append(0.0, good[::-1].cumsum() / good.sum())
    return ExpectedPerformance(
        float(np.trapezoid(true_rate, false_rate)),
        float((bad * (1 - _MIDDLES)).sum() / rows.sum()),
        float(bad.sum() / rows.sum()),
    )
