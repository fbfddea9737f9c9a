"""Publishes a night: all that the market's product tells goes live together, or not at all."""

from __future__ import annotations

from contextlib import closing
from datetime import date

from pyspark.sql import DataFrame, SparkSession

from conf.database import role_dsn
from conf.settings import Settings
from conf.tables import ALLOCATION, PUBLISHED_BY_PRODUCT, Table
from spark_jobs.database import connect
from spark_jobs.lake import Lake
from spark_jobs.manifest import Night, current_night, manifest_of
from spark_jobs.postgres_copy import contents_of, copy_rows
from spark_jobs.publication import Batch, Content, PublicationRefused, publish_batch

_OUTCOMES = {
    "published": "published; readers see it now",
    "backfilled": "attached, but readers stay with the later as-of date that they read already",
    "unchanged": "has been published before; nothing changed",
}


def run(spark: SparkSession, settings: Settings, as_of_date: date) -> None:
    """Publish the current night of the as-of date.

    Raises PublicationRefused where a gate is closed or a table holds another night's rows.
    """
    night = current_night(settings, as_of_date)
    check_gates(settings, night)
    lake, tables = Lake(spark, settings), PUBLISHED_BY_PRODUCT[settings.product]
    # Later nights own what this version holds, whatever a later run of the day writes.
    versions = {ALLOCATION: lake.version(ALLOCATION)} if ALLOCATION in tables else {}
    frames = {table: lake.read_as_of(table, as_of_date, versions.get(table)) for table in tables}
    contents = night_contents(frames, night)
    manifest = manifest_of(settings, night) | {f"{table.name}_version": version for table, version in versions.items()}
    batch = Batch(night.batch_id, as_of_date, settings.publication.contract_version, manifest, settings.product)
    dsn = role_dsn(settings, "publisher")
    outcome = publish_batch(
        settings, batch, contents, lambda table, staging: copy_rows(frames[table], table, dsn, staging), tables
    )
    print(f"batch {night.batch_id} {_OUTCOMES[outcome]}")


def check_gates(settings: Settings, night: Night) -> None:
    """Let the batch pass only when every published table went through its gate and no gate of the night is closed.

    Raises PublicationRefused, naming gates, rules and pages.
    """
    with closing(connect(settings, "publisher")) as session, session, session.cursor() as cursor:
        cursor.execute(
            "SELECT gate, table_name, success, message, data_docs FROM ops.gate_result WHERE batch_id = %s ORDER BY gate",
            (night.batch_id,),
        )
        results = cursor.fetchall()
    published = PUBLISHED_BY_PRODUCT[settings.product]
    closed = [f"{gate}: {message}{f' ({page})' if page else ''}" for gate, _, success, message, page in results if not success]
    checked = {table for _, table, success, _, _ in results if success}
    unchecked = [table.name for table in published if table.name not in checked]
    if closed:
        raise PublicationRefused(f"batch {night.batch_id} is not published, its gates are closed: {'; '.join(closed)}")
    if unchecked:
        raise PublicationRefused(
            f"batch {night.batch_id} is not published, {', '.join(unchecked)} went through no gate: run the jobs that "
            f"make them ({', '.join(sorted({table.owner for table in published if table.name in unchecked}))})"
        )


def night_contents(frames: dict[Table, DataFrame], night: Night) -> dict[str, Content]:
    """What each table holds, by name, where all its rows are of the night.

    Raises PublicationRefused for rows that another night of the same as-of date made, naming table, batch and the job
    to run.
    """
    contents = contents_of(frames)
    for table in frames:
        others = contents[table.name].batch_ids - {night.batch_id}
        if others:
            raise PublicationRefused(
                f"{table.name} holds rows of batch {min(others)} for {night.as_of_date}, the night is {night.batch_id}: "
                f"run the job {table.owner} again"
            )
    return {name: measured.content for name, measured in contents.items()}
