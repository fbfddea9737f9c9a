"""The class archive: what a job's JVM loads when it starts, kept ready in one file, so that each job starts sooner.

Java's application class-data sharing (JEP 350). A JVM that the archive does not fit, or that finds none, loads its
classes one by one: nothing else changes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from conf.settings import ROOT, Settings, load_settings
from conf.spark import class_archive

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_EXIT_SECONDS = 300


def write(settings: Settings) -> None:
    """Write the archive, unless there is one for the environment as it was installed last."""
    archive, installed = class_archive(settings), ROOT / ".venv" / "jobs" / ".synced"
    if archive.exists() and (not installed.exists() or archive.stat().st_mtime > installed.stat().st_mtime):
        return
    # Every make target comes by here, and nearly all find the archive written: Spark is imported after that.
    from pyspark import SparkContext

    from spark_jobs.session import open_session

    print(f"writing Spark's class archive {archive}", flush=True)
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix="classes-") as scratch:
        fresh = Path(scratch, archive.name)
        options = {"spark.driver.extraJavaOptions": f"-XX:+UseParallelGC -XX:ArchiveClassesAtExit={fresh} -Xlog:cds=off -Xlog:cds+dynamic=off"}
        spark_settings = settings.spark.model_copy(update={"conf": settings.spark.conf | options, "master": "local[*]"})
        spark = open_session(settings.model_copy(update={"spark": spark_settings}), "class archive")
        load_classes(spark, Path(scratch, "lake"))
        spark.stop()
        # The JVM writes the archive when it ends, which is when nothing holds it any more.
        gateway = SparkContext._gateway
        gateway.shutdown()
        gateway.proc.stdin.close()
        gateway.proc.wait(_EXIT_SECONDS)
        fresh.rename(archive)


def load_classes(spark: SparkSession, folder: Path) -> None:
    """Do a little of what every job does: make, append to, replace in and read a Delta table; join, group and sort."""
    from pyspark.sql import functions as F

    table = f"delta.`{folder}`"
    spark.sql(
        f"CREATE TABLE {table} (day DATE, name STRING, amount DECIMAL(18,2)) USING delta PARTITIONED BY (day) "
        "TBLPROPERTIES ('delta.constraints.positive' = 'coalesce(amount >= 0, true)')"
    )
    rows = spark.range(100).select(
        F.lit("2020-01-31").cast("date").alias("day"), F.concat(F.lit("n"), F.col("id") % 7).alias("name"),
        F.col("id").cast("decimal(18,2)").alias("amount"),
    )
    rows.write.format("delta").mode("append").save(str(folder))
    rows.write.format("delta").mode("overwrite").option("replaceWhere", "day = DATE'2020-01-31'").save(str(folder))
    there = spark.read.format("delta").load(str(folder)).where("day = DATE'2020-01-31'").persist()
    totals = there.groupBy("name").agg(F.sum("amount").alias("total"), F.collect_set("day").alias("days"))
    joined = there.join(totals, "name").withColumn("place", F.expr("row_number() OVER (PARTITION BY name ORDER BY amount)"))
    joined.mapInArrow(lambda batches: batches, joined.schema).toArrow()


if __name__ == "__main__":
    write(load_settings())
