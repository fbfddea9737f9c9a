"""A small market of made-up borrowers: every feature drawn, four of them telling something about default."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from conf.features import FEATURES
from conf.tables import TRAINING_SET

COHORTS = ("2010-01-31", "2010-02-28", "2010-03-31")


def drawn_rows(borrowers: int, seed: int = 1, absent: tuple[str, ...] = ()) -> pd.DataFrame:
    """Rows of TRAINING_SET: borrowers in three cohorts, two borrowers per identity group.

    Each feature is normal around 1; every eleventh value is null. Features named in absent are null throughout.
    """
    draw = np.random.default_rng(seed)
    number = np.tile(np.arange(borrowers), len(COHORTS))
    day = pd.to_datetime(np.repeat(COHORTS, borrowers)).date
    count = len(number)
    features = {feature.name: draw.normal(1, 1, count) for feature in FEATURES}
    log_odds = (
        -2.2
        + 1.0 * (features["days_past_due_max_6m"] - 1)
        + 0.8 * (features["overdraft_days_12m"] - 1)
        - 0.9 * (features["bureau_score"] - 1)
        + 0.6 * (features["loan_interest_rate"] - 1)
    )
    is_default = draw.random(count) < 1 / (1 + np.exp(-log_odds))
    keys = {
        "borrower_id": [f"b{one:05d}" for one in number],
        "as_of_date": day,
        "cohort_month": day,
        "identity_group_id": [f"g{one // 2:05d}" for one in number],
        "standing": "performing",
        "loan_id": [f"l{one:05d}" for one in number],
        "months_on_book": 6,
        "is_default": is_default,
        "default_on": None,
        "label_weight": 1.0,
    }
    unknown = {name: np.where(np.arange(count) % 11 == place % 11, np.nan, values)
               for place, (name, values) in enumerate(features.items())}
    rows = pd.DataFrame(keys | unknown).replace({np.nan: None})
    for name in absent:
        rows[name] = None
    return rows


@pytest.fixture(scope="session")
def training_rows():
    """Makes Spark frames of drawn rows, with the columns and types of TRAINING_SET."""

    def make(spark, borrowers: int, **changes):
        rows = drawn_rows(borrowers, **changes)
        return spark.createDataFrame(rows[list(TRAINING_SET.columns)].values.tolist(), TRAINING_SET.ddl)

    return make
