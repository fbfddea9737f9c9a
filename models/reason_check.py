"""Whether reasons hold: without the features of its first reason a score moves back the way the reason says.

Without is: taken from other rows, several times, and the log-odds averaged, as the reference of a reason is the average over
rows (models.attribution).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from pyspark.sql import SparkSession

from conf.reasons import REASONS
from models.credit_model import CreditModel
from models.sub_models import KEYS
from models.term_offset import TERM

OTHERS, SEED = 32, 20261129


def first_reason_holds(model: CreditModel, scored: pd.DataFrame, spark: SparkSession) -> np.ndarray:
    """Whether each row's first reason holds, (rows,): that it raised (lowered) the risk, and without it the risk is lower (higher).

    scored: KEYS, the model's features, the term, raw_prob_default and reason_codes of ``CreditModel.score``; every row has a
    reason. Features come from the other rows of the frame; the seed is fixed.
    """
    columns, first = list(dict.fromkeys([*model.features, TERM])), scored["reason_codes"].map(lambda codes: codes[0])
    draw = np.random.default_rng(SEED)

    def without(other: pd.DataFrame) -> pd.DataFrame:
        changed = scored[[*KEYS, *columns]].copy()
        for reason in REASONS:
            of_reason, names = first.isin(reason.codes), [name for name in reason.features if name in columns]
            changed.loc[of_reason, names] = other.loc[of_reason.to_numpy(), names].to_numpy()
        return changed

    frame = spark.createDataFrame(pd.concat(without(scored.iloc[draw.permutation(len(scored))]) for _ in range(OTHERS)))
    moved = model.raw_log_odds(frame).select(*KEYS, "raw_log_odds").toPandas().groupby(list(KEYS))["raw_log_odds"].mean()
    raw = scored.set_index(list(KEYS))["raw_prob_default"]
    has_fallen = moved.reindex(raw.index) < np.log(raw / (1 - raw))
    return has_fallen.to_numpy() == first.str.endswith("_raised_risk").to_numpy()
