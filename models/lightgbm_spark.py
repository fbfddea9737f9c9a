"""LightGBM as a Spark ML estimator: its own distributed learner, one worker per task of a barrier stage.

Rows are placed by a hash of their key and sorted before training, so a model depends on the rows and on the number of
tasks, never on how the input was partitioned. The booster is stored as LightGBM's own text, parameters as JSON.
Source: Ke et al. 2017, "LightGBM: a highly efficient gradient boosting decision tree"; parallel learning as in its
guide (data-parallel, one machine list, synchronised bins).
"""

from __future__ import annotations

import math
import random
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd
from pyspark.ml import Estimator, Model
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasInputCols, HasLabelCol, HasOutputCol, HasSeed, HasWeightCol
from pyspark.ml.util import (
    DefaultParamsReadable,
    DefaultParamsReader,
    DefaultParamsWritable,
    DefaultParamsWriter,
    MLReadable,
    MLReader,
    MLWritable,
    MLWriter,
)
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.functions import pandas_udf

# Below the range from which systems draw ports for outgoing connections, so a free one stays free.
FIRST_PORT, LAST_PORT = 12_400, 32_000
PORT_ATTEMPTS = 3
NETWORK_TIMEOUT_MINUTES = 10
_OF_THE_MACHINE = ("[machines:", "[local_listen_port:", "[num_threads:")


class NotEnoughSlots(RuntimeError):
    """A barrier stage cannot get all its tasks at once."""


def training_tasks(rows: int, single_task_rows: int, slots: int) -> int:
    """How many tasks train together: one up to single_task_rows rows, then one more per as many, at most the slots."""
    return max(1, min(math.ceil(rows / single_task_rows), slots))


def free_port(first: int = FIRST_PORT, last: int = LAST_PORT) -> socket.socket:
    """A bound socket on a free port of the range, ends included; the caller closes it.

    Raises OSError where every port of the range is taken.
    """
    ports = list(range(first, last + 1))
    random.SystemRandom().shuffle(ports)
    for port in ports:
        held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            held.bind(("", port))
            return held
        except OSError:
            held.close()
    raise OSError(f"no free port between {first} and {last} for distributed LightGBM training")


class Signed(Protocol):
    """A feature that says which way it moves risk: 1 where more of it raises it, -1 lowers, 0 where either is plausible."""

    name: str
    raises_risk: Literal[-1, 0, 1]


def monotone_constraints(columns: Iterable[str], features: Iterable[Signed]) -> str:
    """LightGBM's constraints in the order of the columns; a column that is none of the features is free."""
    signs = {feature.name: feature.raises_risk for feature in features}
    return ",".join(str(signs.get(column, 0)) for column in columns)


class LightGBMModel(Model, HasInputCols, HasOutputCol, MLWritable, MLReadable):
    """A trained booster; transform adds the log-odds of default in outputCol.

    A null feature is LightGBM's missing value. Rows are scored in Arrow batches, one thread per task.
    """

    def __init__(self, booster: str = "") -> None:
        super().__init__()
        self.booster = booster

    def _transform(self, dataset: DataFrame) -> DataFrame:
        text = dataset.sparkSession.sparkContext.broadcast(self.booster)

        @pandas_udf("double")
        def log_odds(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
            import lightgbm

            booster = lightgbm.Booster(model_str=text.value)
            for columns in batches:
                matrix = np.column_stack([column.to_numpy(dtype="float64") for column in columns])
                yield pd.Series(booster.predict(matrix, raw_score=True, num_threads=1))

        return dataset.withColumn(self.getOutputCol(), log_odds(*self.getInputCols()))

    def write(self) -> MLWriter:
        """A writer of metadata (JSON) and booster (LightGBM text) to any file system that Spark knows."""
        return _LightGBMWriter(self)

    @classmethod
    def read(cls) -> MLReader[LightGBMModel]:
        """A reader of what ``write`` wrote."""
        return _LightGBMReader()


class _LightGBMWriter(MLWriter):
    def __init__(self, model: LightGBMModel) -> None:
        super().__init__()
        self._model = model

    def saveImpl(self, path: str) -> None:  # noqa: N802 (Spark's name)
        DefaultParamsWriter.saveMetadata(self._model, path, self.sparkSession)
        system, file = _hadoop_file(self.sparkSession, f"{path}/booster.txt")
        stream = system.create(file, True)
        try:
            stream.write(bytearray(self._model.booster.encode()))
        finally:
            stream.close()


class _LightGBMReader(MLReader[LightGBMModel]):
    def load(self, path: str) -> LightGBMModel:
        metadata = DefaultParamsReader.loadMetadata(path, self.sparkSession)
        booster = self.sparkSession.read.text(f"{path}/booster.txt", wholetext=True).first()["value"]
        model = LightGBMModel(booster)
        model._resetUid(metadata["uid"])
        DefaultParamsReader.getAndSetParams(model, metadata)
        return model


def _hadoop_file(spark: SparkSession, path: str) -> tuple[Any, Any]:
    """Hadoop's file system and path objects of a path."""
    file = spark._jvm.org.apache.hadoop.fs.Path(path)
    return file.getFileSystem(spark._jsc.hadoopConfiguration()), file


class LightGBMClassifier(
    Estimator[LightGBMModel], HasInputCols, HasLabelCol, HasWeightCol, HasOutputCol, HasSeed,
    DefaultParamsWritable, DefaultParamsReadable,
):
    """Trains a binary LightGBM model on labels 0 and 1.

    keyCols identify a row (unique together); parameters are LightGBM's own, under its names; numTasks 0 lets the
    number of rows decide. Weights of 0 are allowed; nulls in features are LightGBM's missing values.
    """

    keyCols = Param(Params._dummy(), "keyCols", "columns that are unique together", TypeConverters.toListString)  # noqa: N815
    parameters = Param(Params._dummy(), "parameters", "LightGBM's parameters by name")
    singleTaskRows = Param(Params._dummy(), "singleTaskRows", "rows up to which one task trains", TypeConverters.toInt)  # noqa: N815
    numTasks = Param(Params._dummy(), "numTasks", "tasks that train together; 0: by rows", TypeConverters.toInt)  # noqa: N815

    def __init__(
        self,
        *,
        inputCols: list[str] | None = None,  # noqa: N803 (Spark's names)
        keyCols: list[str] | None = None,  # noqa: N803
        labelCol: str = "label",  # noqa: N803
        weightCol: str | None = None,  # noqa: N803
        outputCol: str = "log_odds",  # noqa: N803
        parameters: dict[str, int | float | str | bool] | None = None,
        seed: int = 0,
        singleTaskRows: int = 200_000,  # noqa: N803
        numTasks: int = 0,  # noqa: N803
    ) -> None:
        super().__init__()
        self._setDefault(
            labelCol="label", outputCol="log_odds", parameters={}, seed=0, singleTaskRows=200_000, numTasks=0
        )
        given = {
            "inputCols": inputCols, "keyCols": keyCols, "labelCol": labelCol, "weightCol": weightCol,
            "outputCol": outputCol, "parameters": parameters, "seed": seed, "singleTaskRows": singleTaskRows,
            "numTasks": numTasks,
        }
        self._set(**{name: value for name, value in given.items() if value is not None})

    def _fit(self, dataset: DataFrame) -> LightGBMModel:
        features, keys = self.getInputCols(), self.getOrDefault(self.keyCols)
        weight = F.col(self.getWeightCol()) if self.isSet(self.weightCol) else F.lit(1.0)
        rows = dataset.select(
            *keys,
            F.col(self.getLabelCol()).cast("double").alias("_label"),
            weight.cast("double").alias("_weight"),
            *(F.col(name).cast("double").alias(f"_{position}") for position, name in enumerate(features)),
        )
        tasks, threads = self._tasks_and_threads(dataset.sparkSession, rows)
        placed = rows.repartition(tasks, *keys).sortWithinPartitions(*keys).drop(*keys)
        train = _trainer(self._lightgbm_parameters(threads), len(features), distributed=tasks > 1)
        boosters = placed.mapInPandas(train, "booster string", barrier=tasks > 1).collect()
        model = LightGBMModel(boosters[0]["booster"])
        return model._set(inputCols=features, outputCol=self.getOutputCol())

    def _tasks_and_threads(self, spark: SparkSession, rows: DataFrame) -> tuple[int, int]:
        context = spark.sparkContext
        task_cores = int(context.getConf().get("spark.task.cpus", "1"))
        slots = max(1, context.defaultParallelism // task_cores)
        asked = self.getOrDefault(self.numTasks)
        tasks = asked or training_tasks(rows.count(), self.getOrDefault(self.singleTaskRows), slots)
        if tasks > 1 and context.getConf().get("spark.dynamicAllocation.enabled", "false") == "true":
            raise NotEnoughSlots(
                "distributed LightGBM training needs all its tasks at once, which dynamic allocation does not promise: "
                "set spark.dynamicAllocation.enabled to false for this job, or raise training.lightgbm_single_task_rows"
            )
        if tasks > slots:
            raise NotEnoughSlots(
                f"distributed LightGBM training asks for {tasks} tasks at once, the cluster has {slots} slots: "
                "add executors or cores, or ask for fewer tasks"
            )
        # A single task on one machine may use every core of it; elsewhere a task keeps to its own cores.
        alone = tasks == 1 and context.master.startswith("local")
        return tasks, context.defaultParallelism if alone else task_cores

    def _lightgbm_parameters(self, threads: int) -> dict[str, int | float | str | bool]:
        return {
            "verbosity": -1,
            **self.getOrDefault(self.parameters),
            "objective": "binary",
            "seed": self.getSeed() % 2**31,
            # Same model from any number of threads; row-wise histograms, since the automatic choice is by timing.
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": threads,
        }


def _trainer(
    parameters: dict[str, int | float | str | bool], width: int, *, distributed: bool
) -> Callable[[Iterator[pd.DataFrame]], Iterator[pd.DataFrame]]:
    """The function that each task runs: trains on its partition, alone or together; the first task tells the model."""

    def train(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        frames = list(batches)
        rows = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
        if not distributed:
            if rows.empty:
                raise ValueError("LightGBM has no rows to train on")
            yield pd.DataFrame({"booster": [_train_alone(rows, parameters, width)]})
            return
        from pyspark import BarrierTaskContext

        context = BarrierTaskContext.get()
        sizes = [int(size) for size in context.allGather(str(len(rows)))]
        if min(sizes) == 0:
            raise ValueError(f"a task of distributed LightGBM training has no rows (rows per task: {sizes}): use fewer")
        text = _train_together(rows, parameters, width, context)
        if context.partitionId() == 0:
            yield pd.DataFrame({"booster": [text]})

    return train


def _train_alone(rows: pd.DataFrame, parameters: dict[str, Any], width: int) -> str:
    import lightgbm

    matrix = rows[[f"_{position}" for position in range(width)]].to_numpy(dtype="float64")
    data = lightgbm.Dataset(matrix, label=rows["_label"].to_numpy(), weight=rows["_weight"].to_numpy())
    text = lightgbm.train(parameters, data).model_to_string(num_iteration=-1)
    # Where a model was trained is no part of it: the same trees are the same text on any machine.
    return "\n".join(line for line in text.split("\n") if not line.startswith(_OF_THE_MACHINE))


def _train_together(rows: pd.DataFrame, parameters: dict[str, Any], width: int, context: Any) -> str:
    """The model that all tasks train together; every task gets the same text.

    A port can be taken between choosing and using it: then all tasks choose again. Raises RuntimeError with what each
    task met when that has not helped.
    """
    from lightgbm.basic import LightGBMError

    hosts = [info.address.rsplit(":", 1)[0] for info in context.getTaskInfos()]
    own = hosts[context.partitionId()]
    address = "127.0.0.1" if len(set(hosts)) == 1 else socket.gethostbyname(own)
    for _ in range(PORT_ATTEMPTS):
        held = free_port()
        port = held.getsockname()[1]
        machines = context.allGather(f"{address}:{port}")
        held.close()
        network = {
            "tree_learner": "data", "pre_partition": True, "machines": ",".join(machines),
            "num_machines": len(machines), "local_listen_port": port, "time_out": NETWORK_TIMEOUT_MINUTES,
        }
        text = problem = ""
        try:
            text = _train_alone(rows, parameters | network, width)
        except LightGBMError as error:
            problem = str(error)
        # Also the common end: a task that left early would close connections that others still read from.
        problems = context.allGather(problem)
        if not any(problems):
            return text
        if not any("bind" in problem.lower() for problem in problems):
            break
    raise RuntimeError(f"distributed LightGBM training failed; tasks on {machines} met {problems}")
