"""What reason codes cost: the scoring of an as-of date timed without and with them, in one process; nothing is written."""

from __future__ import annotations

import time
from datetime import date

from pyspark.sql import SparkSession

from conf.settings import Settings
from models.registry import load_champion
from spark_jobs.lake import Lake
from spark_jobs.manifest import current_night
from spark_jobs.score import read_features


def run(spark: SparkSession, settings: Settings, as_of_date: date) -> None:
    """Print one line, which begins with ``reason codes:``.

    Raises NoOpenNight before a night is opened, and MissingTable before build_features has run.
    """
    lake = Lake(spark, settings)
    model = load_champion(spark, settings, current_night(settings, as_of_date).model_version)
    features = read_features(lake, as_of_date).persist()
    rows = features.count()

    def seconds(reasons: bool) -> float:
        began = time.monotonic()
        model.score(features, settings.scores, reasons=reasons).write.format("noop").mode("overwrite").save()
        return time.monotonic() - began

    # The first pass of each compiles its plan.
    without, told = [(seconds(False), seconds(True)) for _ in range(2)][1]
    print(f"reason codes: {rows:,} scores take {without:.1f} s without them, {told:.1f} s with them (× {told / without:.1f})")
