"""LightGBM in Spark against plain LightGBM, however its rows are partitioned, alone and in a barrier stage."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import lightgbm
import numpy as np
import pandas as pd
import pytest

from conf.settings import ROOT
from models.lightgbm_spark import (
    LightGBMClassifier,
    LightGBMModel,
    NotEnoughSlots,
    free_port,
    training_tasks,
)

FEATURES = ["late", "income"]
PARAMETERS = {"num_leaves": 7, "learning_rate": 0.1, "num_iterations": 20, "min_data_in_leaf": 20}


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """1,200 rows; default grows with `late`, falls with `income`; every seventh income is unknown."""
    draw = np.random.default_rng(7)
    late, income = draw.normal(size=1200), draw.normal(size=1200)
    chance = 1 / (1 + np.exp(-(late - income - 1)))
    return pd.DataFrame(
        {
            "key": [f"b{number:05d}" for number in range(1200)],
            "late": late,
            "income": np.where(np.arange(1200) % 7 == 0, np.nan, income),
            "label": (draw.random(1200) < chance).astype(float),
            "weight": draw.uniform(0.2, 1.0, size=1200),
        }
    )


@pytest.fixture(scope="module")
def frame(spark, rows):
    return spark.createDataFrame(rows.replace({np.nan: None})).repartition(3).cache()


def classifier(**changes) -> LightGBMClassifier:
    return LightGBMClassifier(
        **{
            "inputCols": FEATURES, "keyCols": ["key"], "weightCol": "weight", "outputCol": "log_odds",
            "parameters": PARAMETERS, "seed": 3, **changes,
        }
    )


def scored(model: LightGBMModel, frame) -> np.ndarray:
    return model.transform(frame).orderBy("key").toPandas()["log_odds"].to_numpy()


def test_one_task_is_plain_lightgbm(frame, rows):
    fixed = {"objective": "binary", "seed": 3, "deterministic": True, "force_row_wise": True, "verbosity": -1}
    data = lightgbm.Dataset(rows[FEATURES].to_numpy(), label=rows["label"], weight=rows["weight"])
    plain = lightgbm.train(PARAMETERS | fixed, data)

    expected = plain.predict(rows[FEATURES].to_numpy(), raw_score=True)

    np.testing.assert_allclose(scored(classifier().fit(frame), frame), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("tasks", [1, 2])
def test_the_partitioning_of_the_rows_does_not_matter(frame, tasks):
    first = classifier(numTasks=tasks).fit(frame.repartition(5, "late"))
    second = classifier(numTasks=tasks).fit(frame.coalesce(1))

    assert first.booster == second.booster


def test_two_tasks_of_a_barrier_stage_learn_from_all_rows(frame, rows):
    alone, together = (scored(classifier(numTasks=tasks).fit(frame), frame) for tasks in (1, 2))

    # Bins are found on parts of the rows, so trees differ a little; half the rows would give far more than that.
    assert np.corrcoef(alone, together)[0, 1] > 0.98
    booster = lightgbm.Booster(model_str=classifier(numTasks=2).fit(frame).booster)
    assert booster.dump_model()["tree_info"][0]["tree_structure"]["internal_count"] == len(rows)


def test_weights_count(frame):
    assert classifier().fit(frame).booster != classifier(weightCol=None).fit(frame).booster


def test_a_saved_model_scores_the_same_in_a_fresh_process(frame, rows, tmp_path):
    model = classifier().fit(frame)
    model.write().overwrite().save(f"file://{tmp_path}/model")

    reloaded = LightGBMModel.load(f"file://{tmp_path}/model")
    assert (reloaded.getInputCols(), reloaded.booster) == (FEATURES, model.booster)
    np.testing.assert_array_equal(scored(reloaded, frame), scored(model, frame))

    program = (
        "import json, lightgbm, pathlib, sys\n"
        "booster = lightgbm.Booster(model_str=pathlib.Path(sys.argv[1]).read_text())\n"
        "print(json.dumps(booster.predict(json.loads(sys.argv[2]), raw_score=True).tolist()))"
    )
    few = rows[rows["income"].notna()].head(5)
    fresh = subprocess.run(
        [sys.executable, "-c", program, f"{tmp_path}/model/booster.txt", str(few[FEATURES].to_numpy().tolist())],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )
    expected = scored(model, frame)[few.index]
    np.testing.assert_allclose(json.loads(fresh.stdout), expected, rtol=0, atol=1e-12)


def test_an_estimator_is_saved_with_its_parameters(spark, tmp_path):
    classifier().write().save(f"file://{tmp_path}/estimator")

    reloaded = LightGBMClassifier.load(f"file://{tmp_path}/estimator")

    assert reloaded.getOrDefault(reloaded.parameters) == PARAMETERS
    assert reloaded.getInputCols() == FEATURES


@pytest.mark.parametrize(("rows_there", "slots", "tasks"), [(100, 8, 1), (101, 8, 2), (201, 8, 3), (10_000, 8, 8)])
def test_tasks_follow_the_rows(rows_there, slots, tasks):
    assert training_tasks(rows_there, 100, slots) == tasks


def test_more_tasks_than_slots_is_an_error_that_names_both(frame):
    with pytest.raises(NotEnoughSlots, match="asks for 64 tasks at once, the cluster has 2 slots"):
        classifier(numTasks=64).fit(frame)


def test_a_taken_port_is_passed_over():
    with socket.socket() as taken:
        taken.bind(("", 0))
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="no free port"):
            free_port(port, port)
        with free_port(port, port + 20) as held:
            assert held.getsockname()[1] != port
