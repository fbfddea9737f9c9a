"""Spark's configuration, the same for a session opened by hand, a ``spark-submit`` and a test. Needs no Spark."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.settings import ROOT, Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

JOBS_PYTHON = str(ROOT / ".venv" / "jobs" / "bin" / "python")
# What the executors of a cluster import: the project's packages, zipped (a wheel imports on the driver only).
PACKAGES = ("conf", "expectations", "features", "models", "spark_jobs")


def spark_conf(settings: Settings) -> dict[str, str]:
    """Everything but master and driver memory, which a running JVM cannot change: ``conf/mosaic.yaml``, Delta, and
    what follows from the machine.

    Raises FileNotFoundError where the pinned jars have not been resolved.
    """
    jars = sorted((settings.home / "jars").glob("*.jar"))
    if not jars:
        raise FileNotFoundError(f"no jars in {settings.home / 'jars'}: run `make setup`")
    cores = {"spark.sql.shuffle.partitions": str(2 * (os.cpu_count() or 1))} if is_local(settings) else {}
    return {
        **cores,
        "spark.jars": ",".join(str(jar) for jar in jars),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.warehouse.dir": str(settings.market / "warehouse"),
        "spark.executorEnv.OMP_WAIT_POLICY": "passive",
        # Where the archive is missing or does not fit, the JVM starts without it and says nothing.
        # The parallel collector stops longer and works less than Java's default: a batch job waits for the sum.
        "spark.driver.extraJavaOptions": "-XX:+UseParallelGC "
        f"-XX:SharedArchiveFile={class_archive(settings)} -Xlog:cds=off -Xlog:cds+dynamic=off",
        **settings.spark.conf,
    }


def class_archive(settings: Settings) -> Path:
    """The JVM's classes ready to load, see spark_jobs.class_archive."""
    return settings.home / "classes.jsa"


def is_local(settings: Settings) -> bool:
    """Whether executors run in the driver's process, on this machine's files."""
    return settings.spark.master.startswith("local")


def spark_environment(settings: Settings) -> dict[str, str]:
    """Environment of a driver and, in local mode, of its Python workers."""
    environment = {
        # Spark's workers must run the jobs environment's Python, whatever Python submits the job.
        "PYSPARK_PYTHON": JOBS_PYTHON,
        # Workers import features and models by name.
        "PYTHONPATH": str(ROOT),
        # Threads of native libraries wait without spinning: cores are shared with the JVM.
        "OMP_WAIT_POLICY": "passive",
    }
    # On one machine nobody else is to reach the driver or its UI, and the machine's name need not resolve.
    return environment | {"SPARK_LOCAL_IP": "127.0.0.1"} if is_local(settings) else environment


def hadoop_path(spark: SparkSession, url: str) -> tuple[Any, Any]:
    """Hadoop's path and file system of a URL, for files that pass between the driver and the executors of a cluster."""
    path = spark._jvm.org.apache.hadoop.fs.Path(url)
    return path, path.getFileSystem(spark._jsc.hadoopConfiguration())


def packages_zip(settings: Settings) -> Path:
    """Where the zip of the packages lies, for the executors of a cluster."""
    return settings.home / "dist" / "mosaicloan.zip"
