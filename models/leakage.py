"""Signs that rows which train or test a model know the outcome: a feature that ranks too well, an id on two sides."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from models.metrics import ERRORS_95, auc
from models.preparation import learn_on_sample

# Ranks are exact, and so found in one task.
SAMPLE_ROWS = 50_000
LEAST_OUTCOMES = 20
"""Of defaults and of others: an AUC on fewer says nothing."""
SIDE_IDS = ("identity_group_id", "borrower_id", "loan_id")


class LeakFound(ValueError):
    """Rows know what they must not; the message names columns and rows."""


def auc_low_end(area: float, bad: int, good: int) -> float:
    """The low end of an AUC's 95% interval for so many defaults and others. Source: Hanley and McNeil 1982, eq. 2."""
    two_bad, two_good = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (bad - 1) * (two_bad - area**2) + (good - 1) * (two_good - area**2)
    return area - ERRORS_95 * math.sqrt(max(variance, 0.0) / (bad * good))


def rank_strength(score: np.ndarray, is_default: np.ndarray, watched: np.ndarray) -> float:
    """How well a score ranks outcomes in either direction: its AUC's low end, from some 0.5 to 1.

    All of shape (rows,), without nan. nan with fewer than LEAST_OUTCOMES defaults or others.
    """
    bad = int(is_default.sum())
    if min(bad, len(score) - bad) < LEAST_OUTCOMES:
        return math.nan
    area = auc(score, is_default, watched)
    return auc_low_end(max(area, 1 - area), bad, len(score) - bad)


def rank_strengths(rows: DataFrame, names: Sequence[str], keys: Sequence[str], count: int) -> pd.DataFrame:
    """How well each feature alone ranks outcomes, on a bounded sample of so many rows, in one task.

    One row per name, the index: by_value (among the rows where it is known) and by_null (whether it is known),
    ``rank_strength`` each, nan where too few outcomes tell. rows: is_default, watched_share, the features and the keys.
    """

    def measure(sample: pd.DataFrame) -> Iterator[dict[str, object]]:
        is_default, watched = (sample[column].to_numpy(dtype="float64") for column in ("is_default", "watched_share"))
        for name in names:
            values = sample[name].to_numpy(dtype="float64")
            known = ~np.isnan(values)
            by_value = rank_strength(values[known], is_default[known], watched[known])
            yield {"name": name, "by_value": by_value, "by_null": rank_strength(known * 1.0, is_default, watched)}

    columns = rows.select(*keys, "is_default", "watched_share", *names)
    found = learn_on_sample(columns, keys, count, SAMPLE_ROWS, measure, "name string, by_value double, by_null double")
    return pd.DataFrame([row.asDict() for row in found]).set_index("name")


def shared_ids(rows: DataFrame) -> tuple[int, str | None]:
    """How many parties, borrowers and loans stand on more than one side, and the first of them in words, null for none.

    rows: the columns SIDE_IDS and side.
    """
    ids = F.array(*(F.struct(F.lit(column).alias("kind"), F.col(column).cast("string").alias("id")) for column in SIDE_IDS))
    side = F.col("side").cast("string")
    both = (
        rows.select(F.inline(ids), side.alias("side"))
        .groupBy("kind", "id")
        .agg(F.min("side").alias("one"), F.max("side").alias("other"))
        .where(F.col("one") != F.col("other"))
    )
    words = F.concat_ws(" ", "kind", "id", F.lit("in"), "one", F.lit("and"), "other")
    return tuple(both.agg(F.count("*"), F.min(words)).first())
