"""The Spark session, the same by hand, under spark-submit and in tests."""

from __future__ import annotations

import os
import sys

from pyspark.sql import SparkSession

from conf.settings import Settings


def spark_conf(settings: Settings) -> dict[str, str]:
    """Spark configuration of every session and every spark-submit: ``conf/mosaic.yaml`` plus Delta.

    Raises FileNotFoundError where the pinned jars have not been resolved.
    """
    jars = sorted((settings.home / "jars").glob("*.jar"))
    if not jars:
        raise FileNotFoundError(f"no jars in {settings.home / 'jars'}: run `make setup`")
    return {
        "spark.master": settings.spark.master,
        "spark.driver.memory": settings.spark.driver_memory,
        "spark.jars": ",".join(str(jar) for jar in jars),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.warehouse.dir": str(settings.market / "warehouse"),
        # Threads of native libraries in Python workers wait without spinning: cores are shared with the JVM.
        "spark.executorEnv.OMP_WAIT_POLICY": "passive",
        **settings.spark.conf,
    }


def open_session(settings: Settings, name: str) -> SparkSession:
    """The running session, or a new one called name."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    builder = SparkSession.builder.appName(name)
    for key, value in spark_conf(settings).items():
        builder = builder.config(key, value)
    return builder.getOrCreate()
