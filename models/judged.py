"""A model's scores on the judging rows, and what they are worth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from models.drift import bins_of
from models.metrics import AucDifference, auc, auc_difference, calibration_error_by_chance, score_metrics


@dataclass(frozen=True)
class Judged:
    """Scores on the judging cohort; all arrays have shape (rows,), prob by model output's name.

    attributes: as of ``build_attributes``, a row for each of theirs. Two models judged on the same rows have them in the same
    order.
    """

    prob: dict[str, np.ndarray]
    is_default: np.ndarray
    watched: np.ndarray
    standing: np.ndarray
    attributes: pd.DataFrame

    @cached_property
    def metrics(self) -> dict[str, float]:
        """``score_metrics`` of the calibrated probability, and ece_by_chance: ``calibration_error_by_chance``."""
        prob = self.prob["ensemble"]
        found = score_metrics(prob, self.is_default, self.watched)
        return found | {"ece_by_chance": calibration_error_by_chance(prob, self.watched)}

    def less(self, other: Judged) -> AucDifference:
        """This one's AUC less another's on the same rows."""
        return auc_difference(self.prob["ensemble"], other.prob["ensemble"], self.is_default, self.watched)

    def score_psi(self, other: Judged) -> float:
        """The population stability index of this one's scores against another's on the same rows."""
        bins = bins_of(other.prob["ensemble"])
        return bins.psi(bins.counts(self.prob["ensemble"]))

    def auc_by_standing(self) -> dict[str, float]:
        """The AUC among applicants, who are all that investors are offered, and among performing borrowers.

        Without a standing that has not both outcomes.
        """
        found = {
            standing: auc(*(values[self.standing == standing] for values in (self.prob["ensemble"], self.is_default, self.watched)))
            for standing in np.unique(self.standing)
        }
        return {standing: value for standing, value in found.items() if np.isfinite(value)}
