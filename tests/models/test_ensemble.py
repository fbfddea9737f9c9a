"""The network 4-32-16-1: its loss, its training, and its NumPy forward pass against Keras."""

from __future__ import annotations

import io
import os
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

from models.ensemble import MARGIN, Ensemble, StackedRows, fit_ensemble, network_weights, ranking_loss
from models.metrics import auc


@pytest.fixture(scope="module")
def rows() -> StackedRows:
    """900 rows in 3 folds; only the first input tells anything about default (about one in five)."""
    draw = np.random.default_rng(11)
    inputs = draw.normal(-1.5, 1.0, size=(900, 4))
    is_default = (draw.random(900) < 1 / (1 + np.exp(-inputs[:, 0]))).astype(float)
    return StackedRows(inputs, is_default, draw.uniform(0.5, 1, 900), np.arange(900) % 3)


@pytest.fixture(scope="module")
def ensemble(rows) -> Ensemble:
    return fit_ensemble(rows, folds=3, networks=2, epochs=40, auc_weight=0.5, seed=5)


def loss_of(auc_weight, outcome, weight, log_odds, base=0.0):
    import tensorflow as tf

    target = tf.constant(np.column_stack([outcome, weight]), dtype="float32")
    output = tf.Variable(np.array(log_odds, dtype="float32")[:, None])
    with tf.GradientTape() as tape:
        loss = ranking_loss(auc_weight, base)(target, output)
    return float(loss), tape.gradient(loss, output).numpy()[:, 0]


def test_the_surrogate_by_hand():
    # One default at probability 1/2, non-defaults at 1/2 and far below: the first pair misses the whole margin, the
    # second keeps it. Weights 1 and 3 count the pairs 1 to 3.
    loss, _ = loss_of(1.0, [1, 0, 0], [1, 1, 3], [0.0, 0.0, -20.0])
    assert loss == pytest.approx(MARGIN**2 / 4, rel=1e-6)


def test_cross_entropy_by_hand():
    loss, _ = loss_of(0.0, [1, 0], [2, 1], [0.0, 0.0])
    assert loss == pytest.approx(np.log(2), rel=1e-6)


def test_the_gradient_raises_defaults_and_lowers_the_others():
    _, gradient = loss_of(1.0, [1, 0], [1, 1], [-0.2, 0.2])
    assert gradient[0] < 0 < gradient[1]
    assert gradient.sum() == pytest.approx(0, abs=1e-7)


def test_the_gradient_is_that_of_finite_differences():
    outcome, weight, log_odds = [1, 0, 1, 0], [1, 0.5, 0.7, 1], np.array([-0.5, 0.3, 0.1, -1.0])
    _, gradient = loss_of(0.5, outcome, weight, log_odds, base=-0.5)
    for place in range(4):
        step = np.eye(4)[place] * 1e-2
        above, below = (loss_of(0.5, outcome, weight, log_odds + sign * step, base=-0.5)[0] for sign in (1, -1))
        assert gradient[place] == pytest.approx((above - below) / 2e-2, abs=1e-3)


def test_a_batch_of_one_class_has_no_pairs():
    loss, gradient = loss_of(1.0, [0, 0], [1, 1], [0.4, -0.4])
    assert loss == 0
    assert not gradient.any()


def test_numpy_equals_keras(ensemble, rows, tmp_path):
    import keras

    for number, archive in enumerate(ensemble.archives):
        file = tmp_path / f"{number}.keras"
        file.write_bytes(archive)
        stored = keras.saving.load_model(file, compile=False)
        assert [layer.units for layer in stored.layers] == [32, 16, 1]
        inputs = ensemble.standardised(rows.inputs)
        by_keras = stored.predict(inputs.astype("float32"), verbose=0)[:, 0]
        by_numpy = ensemble.networks[number].log_odds(inputs)
        np.testing.assert_allclose(1 / (1 + np.exp(-by_numpy)), 1 / (1 + np.exp(-by_keras)), rtol=0, atol=1e-6)


def test_the_network_learns_and_the_same_seed_gives_the_same_weights(ensemble, rows):
    again = fit_ensemble(rows, folds=3, networks=2, epochs=40, auc_weight=0.5, seed=5)

    np.testing.assert_array_equal(again.log_odds(rows.inputs), ensemble.log_odds(rows.inputs))
    by_first_input = auc(rows.inputs[:, 0], rows.is_default, rows.weight)
    by_mean = auc(rows.inputs.mean(axis=1), rows.is_default, rows.weight)
    assert by_mean < by_first_input - 0.1
    assert auc(ensemble.log_odds(rows.inputs), rows.is_default, rows.weight) > by_first_input - 0.02


def test_before_it_learns_a_network_is_the_mean_of_its_inputs(rows):
    drawn = fit_ensemble(rows, folds=3, networks=1, epochs=0, auc_weight=0.5, seed=5)
    rate = np.average(rows.is_default, weights=rows.weight)
    expected = np.log(rate / (1 - rate)) + (rows.inputs - rows.inputs.mean(axis=0)).mean(axis=1)
    np.testing.assert_allclose(drawn.log_odds(rows.inputs), expected, rtol=0, atol=1e-5)


def test_held_out_rows_are_scored_by_networks_that_have_not_seen_them(ensemble, rows):
    held_out = ensemble.held_out_log_odds(rows, folds=3)

    for fold, network in enumerate(ensemble.networks):
        inside = rows.fold == fold
        expected = network.log_odds(ensemble.standardised(rows.inputs[inside]))
        np.testing.assert_array_equal(held_out[inside], expected)
    # Two networks, three folds: the third fold has no network that held it out.
    np.testing.assert_array_equal(held_out[rows.fold == 2], ensemble.log_odds(rows.inputs)[rows.fold == 2])


def test_another_shape_is_refused(tmp_path):
    import keras

    keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(1)]).save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="must be 4-32-16-1"):
        network_weights((tmp_path / "other.keras").read_bytes())


def test_archives_hold_no_code(ensemble):
    for archive in ensemble.archives:
        names = zipfile.ZipFile(io.BytesIO(archive)).namelist()
        assert sorted(names) == ["config.json", "metadata.json", "model.weights.h5"]
