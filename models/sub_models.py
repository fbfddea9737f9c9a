"""The three sub-models: time series (LightGBM), behaviour (gradient boosted trees) and credit record (logistic).

Each sees its own block beside the shared context, and gives log-odds of default, to which the offset of the loan's term is
added. A block that a source does not offer leaves its sub-model with the shared context; without any known feature it is
the base rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal, get_args

from pyspark.ml.classification import GBTClassificationModel, GBTClassifier, LogisticRegression, LogisticRegressionModel
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from conf.features import FEATURES, Block, block_features, shared_context
from conf.settings import Training
from models.lightgbm_spark import LightGBMClassifier, LightGBMModel, monotone_constraints
from models.preparation import Preparation
from models.term_offset import TERM, TermOffset
from models.trees import SPARK_TREES_FACTOR

SubModelName = Literal["timeseries", "behavior", "record"]
SUB_MODELS: tuple[SubModelName, ...] = get_args(SubModelName)
BLOCK_OF: dict[SubModelName, Block] = {"timeseries": "timeseries", "behavior": "behavior", "record": "credit_record"}
LOG_ODDS: tuple[str, ...] = tuple(f"{name}_log_odds" for name in SUB_MODELS)

# Beyond this a log-odds says nothing more (odds of 1 to 3 million) and would only strain the network.
MAX_LOG_ODDS = 15.0
KEYS = ("borrower_id", "as_of_date")
# Few, large partitions: they follow the rows, not the machine, and two sums add up the same in either order.
ROWS_PER_PARTITION = 250_000

NativeModel = LightGBMModel | GBTClassificationModel | LogisticRegressionModel


@dataclass(frozen=True)
class SubModel:
    """One fitted sub-model.

    features: what it sees, own block first. model is None where no feature is known: it then gives base_log_odds.
    """

    name: SubModelName
    features: tuple[str, ...]
    base_log_odds: float
    model: NativeModel | None

    def with_log_odds(self, frame: DataFrame) -> DataFrame:
        """The frame, which ``with_inputs`` has prepared, with the column ``<name>_log_odds``."""
        column = f"{self.name}_log_odds"
        if self.model is None:
            return frame.withColumn(column, _with_offset(F.lit(self.base_log_odds)))
        scored = self.model.transform(frame)
        if self.name == "timeseries":
            return scored.withColumn(column, _with_offset(F.col(column)))
        factor = SPARK_TREES_FACTOR if self.name == "behavior" else 1.0
        log_odds = F.lit(factor) * vector_to_array(_OUTPUTS["rawPredictionCol"])[1]
        return scored.withColumn(column, _with_offset(log_odds)).drop(*_OUTPUTS.values())

    def columns_read(self) -> Column:
        """What it reads of a frame that ``with_inputs`` has prepared, as an array of doubles; last the term's offset."""
        read = doubles(self.features) if self.name == "timeseries" else vector_to_array(_VECTOR_OF[self.name])
        return F.array_append(read, F.col(TERM_OFFSET))

    def features_read(self, preparation: Preparation) -> list[tuple[str, ...]]:
        """Of which features each column that it reads tells: its values, then null indicators, then the term's offset."""
        values = [(feature,) for feature in self.features]
        patterns = [] if self.name == "timeseries" else preparation.null_patterns(self.features)
        return [*values, *patterns, (TERM,)]


TREE_INPUT, LINEAR_INPUT, TERM_OFFSET = PREPARED = "_tree_input", "_linear_input", "_term_offset"
LABEL, WEIGHT = "label", "label_weight"
_VECTOR_OF: dict[SubModelName, str] = {"behavior": TREE_INPUT, "record": LINEAR_INPUT}
_OUTPUTS = {"rawPredictionCol": "_raw", "probabilityCol": "_probability", "predictionCol": "_prediction"}


def _with_offset(log_odds: Column) -> Column:
    """Log-odds of the row's own term, bounded."""
    return F.least(F.greatest(log_odds + F.col(TERM_OFFSET), F.lit(-MAX_LOG_ODDS)), F.lit(MAX_LOG_ODDS))


def with_inputs(frame: DataFrame, preparation: Preparation, term_offset: TermOffset) -> DataFrame:
    """The frame with the vectors that the behaviour and the record model read, and the offset of each row's term; nulls among the
    features are allowed.

    Trees get filled values, as they split wherever the scale; the linear model standardised ones, so that an outlier
    does not turn it. Both get the null indicators. Empty vectors where no feature is known.
    """
    behavior, record = (sub_model_features(name, preparation) for name in ("behavior", "record"))
    tree = [*map(preparation.filled, behavior), *preparation.indicators(behavior)]
    linear = [*map(preparation.standardised, record), *preparation.indicators(record)]
    return frame.withColumns({TREE_INPUT: _vector(tree), LINEAR_INPUT: _vector(linear), TERM_OFFSET: term_offset.column()})


def doubles(columns: Iterable[Column | str]) -> Column:
    """The columns as one array of doubles, empty without any."""
    return F.array(*columns).cast("array<double>")


def _vector(values: Sequence[Column]) -> Column:
    return array_to_vector(doubles(values))


def sub_model_features(name: SubModelName, preparation: Preparation) -> tuple[str, ...]:
    """The known features of the sub-model's block, then those of the shared context that lie outside it."""
    block = BLOCK_OF[name]
    own = [feature.name for feature in block_features(block)]
    context = [feature.name for feature in shared_context() if feature.block != block]
    return preparation.known([*own, *context])


def training_partitions(rows: int) -> int:
    """How many partitions training rows lie in; by their number, never by the machine's."""
    return max(2, math.ceil(rows / ROWS_PER_PARTITION))


def place_for_training(frame: DataFrame, rows: int) -> DataFrame:
    """The rows placed by a hash of their key and sorted, so that seeded sampling and sums do not depend on the input."""
    return frame.repartition(training_partitions(rows), *KEYS).sortWithinPartitions(*KEYS)


def with_examples(rows: DataFrame) -> DataFrame:
    """The rows as examples, with label (1 for a default within the horizon, else 0) and label_weight, above 0.

    A row is one example, weighted as in models.metrics.label_weight; an indeterminate is two, of half the weight: one of a
    default, one of none. Reads is_default, is_indeterminate, watched_share and term_share.
    """
    bad = F.when(F.col("is_default"), 1.0).when(F.col("is_indeterminate"), 0.5).otherwise(0.0)
    good = (1.0 - bad) * F.col("watched_share") * F.col("term_share")
    both = F.array(*(F.struct(F.lit(label).alias(LABEL), weight.alias(WEIGHT)) for label, weight in ((1.0, bad), (0.0, good))))
    return rows.select("*", F.inline(F.filter(both, lambda example: example[WEIGHT] > 0)))


def fit_sub_models(frame: DataFrame, preparation: Preparation, training: Training) -> tuple[SubModel, ...]:
    """The three sub-models fitted on a training frame: one row per (borrower_id, as_of_date).

    The frame has what ``with_examples`` reads, the features and what ``with_inputs`` adds.
    """
    examples = with_examples(frame)
    totals = examples.agg(F.sum(WEIGHT).alias("weight"), F.sum(F.col(WEIGHT) * F.col(LABEL)).alias("defaults")).first()
    # Half a default more on either side keeps the base rate inside (0, 1).
    base = math.log((totals["defaults"] + 0.5) / (totals["weight"] - totals["defaults"] + 0.5))
    fits: dict[SubModelName, Callable[..., NativeModel]] = {
        "timeseries": _fit_timeseries, "behavior": _fit_behavior, "record": _fit_record,
    }
    models = []
    for name in SUB_MODELS:
        features = sub_model_features(name, preparation)
        model = fits[name](examples, features, training) if features else None
        models.append(SubModel(name, features, base, model))
    return tuple(models)


def with_log_odds(frame: DataFrame, models: Sequence[SubModel]) -> DataFrame:
    """The frame, which ``with_inputs`` has prepared, with the three sub-models' log-odds."""
    return reduce(lambda scored, model: model.with_log_odds(scored), models, frame)


def _fit_timeseries(examples: DataFrame, features: tuple[str, ...], training: Training) -> LightGBMModel:
    return LightGBMClassifier(
        inputCols=list(features), keyCols=[*KEYS, LABEL], labelCol=LABEL, weightCol=WEIGHT,
        outputCol="timeseries_log_odds", seed=training.seed,
        parameters={**training.lightgbm, "monotone_constraints": monotone_constraints(features, FEATURES)},
        singleTaskRows=training.lightgbm_single_task_rows,
    ).fit(examples)


def _fit_behavior(examples: DataFrame, features: tuple[str, ...], training: Training) -> GBTClassificationModel:
    classifier = GBTClassifier(
        featuresCol=TREE_INPUT, labelCol=LABEL, weightCol=WEIGHT, seed=training.seed, **training.gbt
    )
    return classifier._set(**_OUTPUTS).fit(examples.select(TREE_INPUT, LABEL, WEIGHT))


def _fit_record(examples: DataFrame, features: tuple[str, ...], training: Training) -> LogisticRegressionModel:
    return LogisticRegression(
        featuresCol=LINEAR_INPUT, labelCol=LABEL, weightCol=WEIGHT, **_OUTPUTS, **training.logistic
    ).fit(examples.select(LINEAR_INPUT, LABEL, WEIGHT))


def fold(folds: int, seed: int) -> Column:
    """The fold of a row, 0 to folds - 1, by a hash of its identity group: linked parties share a fold."""
    return F.pmod(F.xxhash64(F.col("identity_group_id"), F.lit(seed)), F.lit(folds)).cast("int")


def out_of_fold(
    frame: DataFrame, folds: int, fit: Callable[[DataFrame], Callable[[DataFrame], DataFrame]]
) -> DataFrame:
    """Each row scored by what was fitted on the other folds only.

    The frame has ``fold``; fit takes training rows and returns what scores others. Source: Wolpert 1992, stacking.
    """
    scored = [
        fit(frame.where(F.col("fold") != number))(frame.where(F.col("fold") == number)) for number in range(folds)
    ]
    return reduce(DataFrame.unionByName, scored)
