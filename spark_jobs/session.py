"""The Spark session, the same by hand, under spark-submit and in tests."""

from __future__ import annotations

import os
import sys

from pyspark.sql import SparkSession

from conf.settings import Settings
from conf.spark import is_local, packages_zip, spark_conf, spark_environment


def open_session(settings: Settings, name: str) -> SparkSession:
    """The running session, or a new one called name."""
    for key, value in (spark_environment(settings) | {"PYSPARK_PYTHON": sys.executable}).items():
        os.environ.setdefault(key, value)
    builder = SparkSession.builder.appName(name)
    # Under spark-submit the JVM runs already, where the connection said: its master and memory are not ours to set.
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        builder = builder.master(settings.spark.master).config("spark.driver.memory", settings.spark.driver_memory)
        if not is_local(settings):
            builder = builder.config("spark.submit.pyFiles", str(packages_zip(settings)))
    for key, value in spark_conf(settings).items():
        builder = builder.config(key, value)
    return builder.getOrCreate()
