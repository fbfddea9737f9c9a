"""Spark's configuration, the same for a session opened by hand, a ``spark-submit`` and a test. Needs no Spark."""

from __future__ import annotations

from pathlib import Path

from conf.settings import ROOT, Settings

# The jobs environment's Python: Spark's workers must run it, whatever Python submits the job.
JOBS_PYTHON = str(ROOT / ".venv" / "jobs" / "bin" / "python")
# What the executors of a cluster import: the project's packages, zipped (a wheel imports on the driver only).
PACKAGES = ("conf", "expectations", "features", "models", "spark_jobs")


def spark_conf(settings: Settings) -> dict[str, str]:
    """Everything but master and driver memory, which a running JVM cannot change: ``conf/mosaic.yaml`` plus Delta.

    Raises FileNotFoundError where the pinned jars have not been resolved.
    """
    jars = sorted((settings.home / "jars").glob("*.jar"))
    if not jars:
        raise FileNotFoundError(f"no jars in {settings.home / 'jars'}: run `make setup`")
    return {
        "spark.jars": ",".join(str(jar) for jar in jars),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.warehouse.dir": str(settings.market / "warehouse"),
        # Threads of native libraries in Python workers wait without spinning: cores are shared with the JVM.
        "spark.executorEnv.OMP_WAIT_POLICY": "passive",
        **settings.spark.conf,
    }


def is_local(settings: Settings) -> bool:
    """Whether executors run in the driver's process, on this machine's files."""
    return settings.spark.master.startswith("local")


def packages_zip(settings: Settings) -> Path:
    """Where the zip of the packages lies, for the executors of a cluster."""
    return settings.home / "dist" / "mosaicloan.zip"
