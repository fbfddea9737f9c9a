"""Risk groups: K-Means with k = 5 over the shared context and the sub-models' log-odds, ordered by realised default.

K-Means over the context alone parts people by income and age, hardly by risk; over the log-odds alone it would only
cut one line into pieces. So both enter with the same total variance: a group is similar people of similar risk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pyspark.ml.clustering import KMeans
from pyspark.ml.functions import array_to_vector
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from conf.features import shared_context
from models.preparation import Preparation
from models.sub_models import LOG_ODDS

GROUPS = 5
# A group's rate is held towards the overall rate as if so many more rows had been seen in it.
PRIOR_ROWS = 20.0
MAX_ITERATIONS = 30


@dataclass(frozen=True)
class RiskGroups:
    """Centres in order of default rate: row 0 is group 1, the safest.

    context: the standardised features that enter, in order; log_odds_mean and log_odds_scale have shape (3,);
    centres has shape (groups, context + 3); group_log_odds (groups,) is the log-odds of each group's default rate.
    """

    context: tuple[str, ...]
    log_odds_mean: np.ndarray
    log_odds_scale: np.ndarray
    centres: np.ndarray
    group_log_odds: np.ndarray

    def assign(self, context: np.ndarray, log_odds: np.ndarray) -> np.ndarray:
        """The group, 1 to 5, of the nearest centre; context has shape (rows, context), log_odds (rows, 3)."""
        points = np.column_stack([context, (log_odds - self.log_odds_mean) / self.log_odds_scale])
        # |x - c|² without |x|², which is the same for every centre.
        distance = (self.centres**2).sum(axis=1) - 2 * points @ self.centres.T
        return distance.argmin(axis=1) + 1

    def to_json(self) -> dict[str, object]:
        """The groups as plain values."""
        return {
            "context": list(self.context),
            **{
                name: getattr(self, name).tolist()
                for name in ("log_odds_mean", "log_odds_scale", "centres", "group_log_odds")
            },
        }

    @classmethod
    def from_json(cls, values: dict[str, object]) -> RiskGroups:
        """The inverse of ``to_json``."""
        return cls(tuple(values["context"]), *(
            np.array(values[name]) for name in ("log_odds_mean", "log_odds_scale", "centres", "group_log_odds")
        ))


def context_columns(preparation: Preparation) -> tuple[str, ...]:
    """The known features of the shared context; null indicators stay out, rare ones would make groups of their own."""
    return preparation.known(feature.name for feature in shared_context())


def group_points(preparation: Preparation, context: Sequence[str], mean: np.ndarray, scale: np.ndarray) -> Column:
    """A row's place among the groups, as a vector."""
    log_odds = [
        (F.col(name) - F.lit(float(centre))) / F.lit(float(spread))
        for name, centre, spread in zip(LOG_ODDS, mean, scale, strict=True)
    ]
    return array_to_vector(F.array(*map(preparation.standardised, context), *log_odds))


def log_odds_moments(frame: DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the three log-odds, to twelve digits; both have shape (3,)."""
    row = frame.agg(*(moment(name) for name in LOG_ODDS for moment in (F.avg, F.stddev_pop))).first()
    values = np.array([float(f"{value:.12g}") for value in row]).reshape(len(LOG_ODDS), 2)
    return values[:, 0], values[:, 1]


def fit_centres(
    frame: DataFrame, preparation: Preparation, seed: int
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray]:
    """Context, the log-odds' mean and scale, and K-Means centres in no particular order.

    The frame has out-of-fold log-odds beside the features. Fewer than five distinct rows give fewer centres.
    """
    context = context_columns(preparation)
    mean, spread = log_odds_moments(frame)
    # Three columns with as much variance together as all the context has: its columns have variance 1 each.
    share = np.sqrt(len(LOG_ODDS) / max(len(context), 1))
    scale = np.where(spread > 0, spread * share, 1.0)
    points = frame.select(group_points(preparation, context, mean, scale).alias("features"))
    model = KMeans(k=GROUPS, seed=seed, maxIter=MAX_ITERATIONS).fit(points)
    return context, mean, scale, np.array(model.clusterCenters())


def rate_log_odds(defaults: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Log-odds of each group's default rate, held towards the overall rate; empty groups take that rate.

    defaults and rows are sums per group, of the same shape; a row counts as far as it was watched.
    """
    overall = (defaults.sum() + 0.5) / (rows.sum() + 1.0)
    rate = np.clip((defaults + PRIOR_ROWS * overall) / (rows + PRIOR_ROWS), 1e-6, 1 - 1e-6)
    return np.log(rate) - np.log1p(-rate)


def ordered_groups(
    context: tuple[str, ...],
    mean: np.ndarray,
    scale: np.ndarray,
    centres: np.ndarray,
    defaults: np.ndarray,
    rows: np.ndarray,
) -> tuple[RiskGroups, np.ndarray]:
    """The groups by realised default rate, and the place of each centre among them (0 the safest).

    defaults and rows are sums per centre over the training rows, as for ``rate_log_odds``.
    """
    log_odds = rate_log_odds(defaults, rows)
    order = np.argsort(log_odds, kind="stable")
    place = np.empty(len(order), dtype=int)
    place[order] = np.arange(len(order))
    return RiskGroups(context, mean, scale, centres[order], log_odds[order]), place


def out_of_fold_group_log_odds(
    group: np.ndarray, fold: np.ndarray, is_default: np.ndarray, watched: np.ndarray, groups: int
) -> np.ndarray:
    """Each row's group's log-odds as counted in the other folds; all arrays have shape (rows,), groups count from 1."""
    result = np.empty(len(group))
    for number in np.unique(fold):
        others = fold != number
        rows = np.bincount(group[others] - 1, watched[others], groups)
        defaults = np.bincount(group[others] - 1, is_default[others], groups)
        result[~others] = rate_log_odds(defaults, rows)[group[~others] - 1]
    return result
