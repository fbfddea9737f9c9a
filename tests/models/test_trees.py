"""Shapley values of trees: by hand, as LightGBM's own, and of Spark's trees in LightGBM's text."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest
from pyspark.ml.classification import GBTClassifier
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.functions import vector_to_array
from pyspark.sql import functions as F

from models import trees
from models.trees import Trees, leaf_table, spark_trees


def test_two_inputs_by_hand():
    # A leaf worth 8 that a row reaches by two conditions, which half and a quarter of the rows meet: on average it counts 1.
    table = leaf_table(8.0, [0.5, 0.25])
    # Both met: known alone they make 2 and 4, together 8.
    assert table[:, 0b11].tolist() == pytest.approx([(2 - 1 + 8 - 4) / 2, (4 - 1 + 8 - 2) / 2])
    # The first alone: 2 when known alone, nothing with the second.
    assert table[:, 0b01].tolist() == pytest.approx([(2 - 1 + 0 - 0) / 2, (0 - 1 + 0 - 2) / 2])


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """3,000 rows of 8 inputs; in the last two every ninth value is missing."""
    draw = np.random.default_rng(3)
    values = draw.normal(size=(3000, 8))
    values[:, 6:][draw.random((3000, 2)) < 1 / 9] = np.nan
    return values


@pytest.fixture(scope="module")
def text(rows) -> str:
    draw = np.random.default_rng(4)
    log_odds = rows[:, 0] * rows[:, 1] + rows[:, 2] - np.isnan(rows[:, 6])
    is_default = draw.random(len(rows)) < 1 / (1 + np.exp(-log_odds))
    parameters = {"objective": "binary", "num_leaves": 15, "num_iterations": 20, "verbosity": -1, "num_threads": 1}
    return lightgbm.train(parameters, lightgbm.Dataset(rows, label=is_default)).model_to_string()


@pytest.mark.parametrize(("most", "left"), [(trees.MAX_TABLE_INPUTS, {False}), (5, {True, False})], ids=["none", "some"])
def test_contributions_are_those_of_lightgbm(text, rows, most, left, monkeypatch):
    monkeypatch.setattr(trees, "MAX_TABLE_INPUTS", most)
    model = Trees.from_text(text)
    assert {tree is None for tree in model.trees} == left, "which trees are left to LightGBM"
    # A value may be missing where none was in training.
    told = rows.copy()
    told[::7, :6] = np.nan
    booster = lightgbm.Booster(model_str=text)
    expected = booster.predict(told, pred_contrib=True)
    found = model.contributions(told)
    np.testing.assert_allclose(found, expected[:, :-1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1) + model.base, booster.predict(told, raw_score=True), rtol=0, atol=1e-12)


def test_sparks_trees_are_told_in_lightgbms_text(spark, rows):
    values = np.nan_to_num(rows[:600])
    draw = np.random.default_rng(5)
    is_default = (draw.random(600) < 1 / (1 + np.exp(-values[:, 0] - values[:, 1]))).astype(float)
    names = [f"x{column}" for column in range(values.shape[1])]
    frame = spark.createDataFrame(np.column_stack([values, is_default]).tolist(), ", ".join(f"{name} double" for name in [*names, "label"]))
    frame = VectorAssembler(inputCols=names, outputCol="features").transform(frame).coalesce(1)
    model = GBTClassifier(maxIter=4, maxDepth=3, seed=1).fit(frame)
    scored = model.transform(frame).select(*names, (2 * vector_to_array("rawPrediction")[1]).alias("log_odds")).toPandas()

    told = spark_trees(model)
    inputs = scored[names].to_numpy()
    booster = lightgbm.Booster(model_str=told.text)
    np.testing.assert_allclose(booster.predict(inputs, raw_score=True), scored["log_odds"], rtol=0, atol=1e-12)
    expected = booster.predict(inputs, pred_contrib=True)
    np.testing.assert_allclose(told.contributions(inputs), expected[:, :-1], rtol=0, atol=1e-12)
    assert told.base == pytest.approx(expected[0, -1], abs=1e-12)

    # Where nothing tells the labels apart, a tree has no split.
    alike = GBTClassifier(maxIter=1, seed=1).fit(frame.withColumn("label", F.lit(1.0)))
    assert not spark_trees(alike).contributions(inputs).any()
