"""The ensemble: a Keras network 4-32-16-1 over the sub-models' and the risk group's log-odds.

Its loss mixes cross-entropy with a surrogate of the area under the ROC curve. Networks of several seeds have the same
shape and inputs; their outputs (log-odds) are averaged. Scoring runs the stored weights as NumPy and never imports
Keras or TensorFlow.
"""

from __future__ import annotations

import io
import math
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.metrics import label_weight

INPUTS = ("timeseries_log_odds", "behavior_log_odds", "record_log_odds", "group_log_odds")
HIDDEN = (32, 16)
# Training is on the driver, from four columns: 500,000 rows are 16 MB, and say all that 700 weights can learn.
MAX_ROWS = 500_000
MAX_BATCH, STEPS_PER_EPOCH = 4096, 24
# So small, with so patient a stop, that few rows move the networks little from where they start.
LEARNING_RATE, PATIENCE = 0.0005, 8
# Yan et al. 2003 advise a margin of 0.1 to 0.7 and a power of 2 or 3.
MARGIN, POWER = 0.3, 2


@dataclass(frozen=True)
class StackedRows:
    """What the ensemble learns from: out-of-fold inputs (rows, 4) in the order of INPUTS, and, each of shape (rows,),
    the outcome (0 or 1), the share of its risk that had been watched and the fold."""

    inputs: np.ndarray
    is_default: np.ndarray
    watched: np.ndarray
    fold: np.ndarray

    @property
    def weight(self) -> np.ndarray:
        """What each row counts as an example."""
        return label_weight(self.is_default, self.watched)


@dataclass(frozen=True)
class Network:
    """The weights of one network: kernel (in, out) and bias (out,) per layer."""

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]

    def log_odds(self, inputs: np.ndarray) -> np.ndarray:
        """The forward pass: (rows, 4) standardised inputs to (rows,) log-odds."""
        values = inputs
        for kernel, bias in self.layers[:-1]:
            values = np.maximum(values @ kernel + bias, 0.0)
        kernel, bias = self.layers[-1]
        return (values @ kernel + bias)[:, 0]


@dataclass(frozen=True)
class Ensemble:
    """Networks with the mean and scale (4,) of their inputs; archives are their ``.keras`` files, byte by byte."""

    mean: np.ndarray
    scale: np.ndarray
    networks: tuple[Network, ...]
    archives: tuple[bytes, ...]

    @classmethod
    def from_archives(cls, mean: np.ndarray, scale: np.ndarray, archives: Sequence[bytes]) -> Ensemble:
        """The ensemble of stored networks."""
        return cls(mean, scale, tuple(map(network_weights, archives)), tuple(archives))

    def standardised(self, inputs: np.ndarray) -> np.ndarray:
        """Inputs (rows, 4) as the networks see them."""
        return (inputs - self.mean) / self.scale

    def log_odds(self, inputs: np.ndarray) -> np.ndarray:
        """Mean of the networks' log-odds of default (rows,), for inputs (rows, 4) in the order of INPUTS."""
        standardised = self.standardised(inputs)
        return np.mean([network.log_odds(standardised) for network in self.networks], axis=0)

    def held_out_log_odds(self, rows: StackedRows, folds: int) -> np.ndarray:
        """Log-odds (rows,) from the networks that did not train on the row's fold.

        With fewer networks than folds, a fold that no network held out gets the mean of all.
        """
        standardised = self.standardised(rows.inputs)
        result = self.log_odds(rows.inputs)
        for fold in range(min(folds, len(self.networks))):
            inside = rows.fold == fold
            held_out = [network.log_odds(standardised[inside]) for network in self.networks[fold::folds]]
            result[inside] = np.mean(held_out, axis=0)
        return result


def network_weights(archive: bytes) -> Network:
    """The weights inside a ``.keras`` file, without importing Keras.

    Raises ValueError where the file does not hold dense layers 4-32-16-1.
    """
    import h5py

    with zipfile.ZipFile(io.BytesIO(archive)) as files, h5py.File(io.BytesIO(files.read("model.weights.h5"))) as stored:
        names = sorted(stored["layers"], key=lambda name: (len(name), name))
        layers = tuple(
            tuple(np.asarray(stored[f"layers/{name}/vars/{part}"], dtype="float64") for part in (0, 1)) for name in names
        )
    shapes = [kernel.shape for kernel, _ in layers]
    if shapes != [(len(INPUTS), HIDDEN[0]), HIDDEN, (HIDDEN[1], 1)]:
        raise ValueError(f"the ensemble must be 4-32-16-1, the stored network has layers of shapes {shapes}")
    return Network(layers)


def ranking_loss(auc_weight: float, base_log_odds: float) -> Callable[[Any, Any], Any]:
    """auc_weight x the Wilcoxon-Mann-Whitney surrogate + (1 - auc_weight) x cross-entropy, both weighted by row.

    The surrogate is the mean over pairs (default i, non-default j) of max(0, margin - (q_i - q_j))², Yan, Dodier, Mozer
    and Wolniewicz 2003. q is the sigmoid of log-odds less those of the base rate: where defaults are rare, plain
    probabilities would all lie near 0 and no pair could keep the margin. A batch without one of the classes has no
    pairs, and counts 0. Targets have columns outcome and weight.
    """
    import tensorflow as tf

    def loss(target: tf.Tensor, log_odds: tf.Tensor) -> tf.Tensor:
        outcome, weight, output = target[:, 0], target[:, 1], log_odds[:, 0]
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=outcome, logits=output)
        cross_entropy = tf.math.divide_no_nan(tf.reduce_sum(weight * entropy), tf.reduce_sum(weight))
        ranked = tf.sigmoid(output - base_log_odds)
        bad = outcome > 0.5
        gap = tf.boolean_mask(ranked, bad)[:, None] - tf.boolean_mask(ranked, ~bad)[None, :]
        pair_weight = tf.boolean_mask(weight, bad)[:, None] * tf.boolean_mask(weight, ~bad)[None, :]
        shortfall = tf.nn.relu(MARGIN - gap) ** POWER
        surrogate = tf.math.divide_no_nan(tf.reduce_sum(pair_weight * shortfall), tf.reduce_sum(pair_weight))
        return auc_weight * surrogate + (1 - auc_weight) * cross_entropy

    return loss


def fit_ensemble(
    rows: StackedRows, *, folds: int, networks: int, epochs: int, auc_weight: float, seed: int
) -> Ensemble:
    """An ensemble of so many networks; network n stops by the loss on fold n (modulo folds), which it does not see."""
    mean = rows.inputs.mean(axis=0)
    spread = rows.inputs.std(axis=0)
    scale = np.where(spread > 1e-9, spread, 1.0)
    standardised = ((rows.inputs - mean) / scale).astype("float32")
    target = np.column_stack([rows.is_default, rows.weight]).astype("float32")
    base = np.clip(np.average(rows.is_default, weights=rows.weight), 1e-6, 1 - 1e-6)
    base_log_odds = float(np.log(base) - np.log1p(-base))
    archives = [
        _train_network(
            standardised, target, rows.fold == number % folds, scale, epochs=epochs, auc_weight=auc_weight,
            base_log_odds=base_log_odds, seed=seed + number,
        )
        for number in range(networks)
    ]
    return Ensemble.from_archives(mean, scale, archives)


def _starting_weights(drawn: list[np.ndarray], scale: np.ndarray) -> list[np.ndarray]:
    """The drawn weights, changed so that a network starts as the plain mean of its inputs' log-odds, about the base rate.

    Two units of each layer carry the mean on, as relu(x) - relu(-x) = x; the others count for nothing yet.
    """
    first, first_bias, second, second_bias, last, base = drawn
    first[:, 0], first[:, 1] = scale / len(INPUTS), -scale / len(INPUTS)
    second[:, :2], last[:] = 0, 0
    second[0, 0] = second[1, 1] = last[0] = 1
    last[1] = -1
    return [first, first_bias, second, second_bias, last, base]


def _train_network(
    inputs: np.ndarray, target: np.ndarray, held_out: np.ndarray, scale: np.ndarray, *, epochs: int, auc_weight: float,
    base_log_odds: float, seed: int,
) -> bytes:
    """The ``.keras`` file of one trained network."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    network = keras.Sequential(
        [
            keras.Input((len(INPUTS),)),
            *(keras.layers.Dense(units, activation="relu") for units in HIDDEN),
            keras.layers.Dense(1, bias_initializer=keras.initializers.Constant(base_log_odds)),
        ]
    )
    network.set_weights(_starting_weights(network.get_weights(), scale))
    network.compile(
        optimizer=keras.optimizers.AdamW(LEARNING_RATE, weight_decay=1e-3),
        loss=ranking_loss(auc_weight, base_log_odds),
        # Pairs make shapes that change from batch to batch; XLA would compile each anew.
        jit_compile=False,
    )
    seen = ~held_out
    batch = int(np.clip(2 ** math.ceil(math.log2(max(seen.sum() / STEPS_PER_EPOCH, 1))), 64, MAX_BATCH))
    stopping = keras.callbacks.EarlyStopping(patience=PATIENCE, restore_best_weights=True)
    network.fit(
        inputs[seen], target[seen], batch_size=batch, epochs=epochs, verbose=0,
        validation_data=(inputs[held_out], target[held_out]), validation_batch_size=MAX_BATCH, callbacks=[stopping],
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.keras"
        network.save(file)
        archive = file.read_bytes()
    keras.backend.clear_session()
    return archive
