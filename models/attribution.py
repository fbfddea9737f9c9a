"""Which reasons moved a score: the network's log-odds less those of the reference, told by reason.

Exact Shapley values over the network's four inputs (Shapley 1953), each carried on to the features behind it by the rescale
rule (DeepLIFT: Shrikumar et al. 2017; as DeepSHAP uses it: Lundberg and Lee 2017): in proportion to each feature's share of
the input's own change. The reference is the average over the training rows: of what the trees give there, of each column that
the linear model reads, and the risk group of such a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import factorial
from typing import Protocol

import numpy as np
from pyspark.ml.classification import GBTClassificationModel, LogisticRegressionModel

from conf.reasons import REASON_OF, REASONS, REASONS_TOLD
from models.ensemble import INPUTS, Ensemble
from models.lightgbm_spark import LightGBMModel
from models.preparation import Preparation
from models.risk_groups import RiskGroups
from models.sub_models import SubModel
from models.trees import Trees, spark_trees

# The last bits of a sum depend on how rows fall into batches; ten decimals do not. An effect on the log-odds that rounds to nothing is
# none.
DECIMALS = 10
_CODES = np.array([list(reason.codes) for reason in REASONS], dtype=object)
_COALITIONS = np.array(list(product([False, True], repeat=len(INPUTS))))


class Contributions(Protocol):
    """What each column that a sub-model reads adds to its log-odds, (rows, columns), against its base log-odds."""

    base: float

    def contributions(self, inputs: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class LinearTerms:
    """A linear model's terms; coefficients and reference, the mean of each column, have shape (columns,)."""

    coefficients: np.ndarray
    reference: np.ndarray
    base: float

    def contributions(self, inputs: np.ndarray) -> np.ndarray:
        """Terms (rows, columns) against those of the reference: Shapley values of a linear model."""
        return (inputs - self.reference) * self.coefficients


@dataclass(frozen=True)
class Constant:
    """A sub-model that knows no feature."""

    base: float

    def contributions(self, inputs: np.ndarray) -> np.ndarray:
        """Nothing: inputs have no column."""
        return inputs


@dataclass(frozen=True)
class WithOffset:
    """A sub-model's own contributions, and last that of the offset against the reference's."""

    own: Contributions
    reference: float

    @property
    def base(self) -> float:
        """The log-odds at the reference."""
        return self.own.base + self.reference

    def contributions(self, inputs: np.ndarray) -> np.ndarray:
        """Contributions (rows, columns); the last column is the offset."""
        return np.column_stack([self.own.contributions(inputs[:, :-1]), inputs[:, -1] - self.reference])


@dataclass(frozen=True)
class Attribution:
    """What tells the effects of reasons, in NumPy.

    sub_models in the order of INPUTS; reasons has a matrix (columns, reasons) for each of them and, last, for the context:
    which share of a column each reason has.
    """

    risk_groups: RiskGroups
    ensemble: Ensemble
    sub_models: tuple[Contributions, ...]
    reasons: tuple[np.ndarray, ...]

    def reference(self) -> np.ndarray:
        """The network's inputs (4,) at the reference."""
        base = np.array([model.base for model in self.sub_models])
        group = self.risk_groups.assign(np.zeros((1, len(self.risk_groups.context))), base[None, :])
        return np.append(base, self.risk_groups.group_log_odds[group - 1])

    def effects(self, context: np.ndarray, log_odds: np.ndarray, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """Effects (rows, reasons) on the network's log-odds, in the order of REASONS.

        context has shape (rows, context features), standardised; log_odds (rows, 3); inputs has what each sub-model reads
        (rows, columns). A row's effects add up to its log-odds less those of the reference.
        """
        reference = self.reference()
        groups = self.risk_groups
        group = groups.assign(context, log_odds)
        values = np.column_stack([log_odds, groups.group_log_odds[group - 1]])
        of_input = shapley_values(self.ensemble, values, reference)

        change = log_odds - reference[:-1]
        # A row is drawn from the reference's group to its own by what brings it nearer to the one centre than to the other.
        own = groups.assign(np.zeros((1, context.shape[1])), reference[None, :-1])
        toward = (groups.centres[group - 1] - groups.centres[own - 1]) / np.append(
            np.ones(context.shape[1]), groups.log_odds_scale
        )
        draw = toward * np.column_stack([context, change])
        per_draw = _ratio(of_input[:, -1], draw.sum(axis=1))
        drawn = draw * per_draw[:, None]

        result = drawn[:, : context.shape[1]] @ self.reasons[-1]
        carried = of_input[:, :-1] + drawn[:, context.shape[1] :]
        for place, (model, matrix) in enumerate(zip(self.sub_models, inputs, strict=True)):
            parts = model.contributions(matrix)
            result += _ratio(carried[:, place], parts.sum(axis=1))[:, None] * (parts @ self.reasons[place])
        return result

    def codes(self, effects: np.ndarray) -> np.ndarray:
        """Codes (rows, REASONS_TOLD) of the strongest effects, strongest first; None where no further reason moved the score.

        Effects of the same size are told in the order of REASONS.
        """
        rounded = effects.round(DECIMALS)
        strongest = np.argsort(-np.abs(rounded), axis=1, kind="stable")[:, :REASONS_TOLD]
        effect = np.take_along_axis(rounded, strongest, axis=1)
        return np.where(effect == 0, None, _CODES[strongest, (effect < 0).astype(int)])


def shapley_values(ensemble: Ensemble, values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Shapley values (rows, 4) of the network's inputs (rows, 4) against a reference (4,), from all 16 coalitions."""
    worth = np.column_stack([ensemble.log_odds(np.where(known, values, reference)) for known in _COALITIONS])
    size, count = _COALITIONS.sum(axis=1), len(INPUTS)
    inside = np.array([factorial(max(n - 1, 0)) * factorial(count - n) / factorial(count) for n in size])
    outside = np.array([factorial(n) * factorial(max(count - n - 1, 0)) / factorial(count) for n in size])
    return worth @ np.where(_COALITIONS, inside[:, None], -outside[:, None])


def attribution_of(
    sub_models: Sequence[SubModel], risk_groups: RiskGroups, ensemble: Ensemble, preparation: Preparation,
    offset: float, null_shares: Mapping[str, float],
) -> Attribution:
    """What tells the effects of the reasons on a model's scores; offset: of the reference's term; null_shares: of each feature in
    the training rows."""
    contributions, reasons = [], []
    for model in sub_models:
        told_of = model.features_read(preparation)
        contributions.append(WithOffset(_contributions(model, told_of, null_shares), offset))
        reasons.append(_reason_shares(told_of))
    context = _reason_shares([(name,) for name in risk_groups.context])
    return Attribution(risk_groups, ensemble, tuple(contributions), (*reasons, context))


def _contributions(model: SubModel, told_of: Sequence[tuple[str, ...]], null_shares: Mapping[str, float]) -> Contributions:
    match model.model:
        case LightGBMModel():
            return Trees.from_text(model.model.booster)
        case GBTClassificationModel():
            return spark_trees(model.model)
        case LogisticRegressionModel():
            coefficients = model.model.coefficients.toArray()
            # Standardised values have mean 0; the null indicators come after them.
            indicators = [null_shares[features[0]] for features in told_of[len(model.features) : -1]]
            reference = np.append(np.zeros(len(model.features)), indicators)
            return LinearTerms(coefficients, reference, float(model.model.intercept + coefficients @ reference))
    return Constant(model.base_log_odds)


def _reason_shares(told_of: Sequence[tuple[str, ...]]) -> np.ndarray:
    """Which share of each column each reason has (columns, reasons): a null indicator tells of its features alike."""
    shares = np.zeros((len(told_of), len(REASONS)))
    for column, features in enumerate(told_of):
        for feature in features:
            shares[column, REASON_OF[feature]] += 1 / len(features)
    return shares


def _ratio(effect: np.ndarray, change: np.ndarray) -> np.ndarray:
    """effect over change, both (rows,); 0 where as good as nothing changed, and so as good as nothing had an effect."""
    return np.divide(effect, change, out=np.zeros_like(effect), where=np.abs(change) > 1e-9)
