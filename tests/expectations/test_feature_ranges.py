"""Range rules of feature columns come from their declarations; NaN and infinity break every one of them."""

from __future__ import annotations

import pytest
from pyspark.sql import functions as F

from conf.features import BLOCKS, FEATURES, block_features
from conf.tables import FEATURE_TABLES, POPULATION, TRAINING_SET
from expectations.rules import feature_range, row_rules

by_name = {feature.name: feature for feature in FEATURES}


def test_each_feature_column_has_its_rule():
    for block in BLOCKS:
        names = [rule.name for rule in row_rules(FEATURE_TABLES[block])]
        assert names == [f"range_{feature.name}" for feature in block_features(block)]
    ranges = [rule.name for rule in row_rules(TRAINING_SET) if rule.name.startswith("range_")]
    assert ranges == [f"range_{feature.name}" for feature in FEATURES]
    assert not [rule for rule in row_rules(POPULATION) if rule.name.startswith("range_")]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("age_years", [None, 0.0, 150.0], [-0.1, 150.1, float("nan"), float("inf")]),
        ("main_income", [None, 0.0, 1e12], [-0.1, float("nan"), float("inf")]),  # no upper bound
        ("balance_mean_3m", [None, -1e12, 1e12], [float("nan"), float("inf"), float("-inf")]),  # no bound at all
    ],
)
def test_values_within_and_without(spark, name, good, bad):
    frame = spark.createDataFrame([(value,) for value in (*good, *bad)], f"{name} DOUBLE")
    held = frame.select(F.coalesce(F.expr(feature_range(by_name[name]).sql), F.lit(True)).alias("held"))
    assert [row["held"] for row in held.collect()] == [True] * len(good) + [False] * len(bad)
