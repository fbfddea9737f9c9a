"""Rows from Spark executors into PostgreSQL by COPY, each partition once, however often its task is tried."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import reduce
from typing import NamedTuple

import psycopg2
import pyarrow as pa
from psycopg2 import sql
from pyarrow import csv
from pyspark import TaskContext
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from conf.tables import Table
from spark_jobs.publication import Content, spark_row_hash

_CHUNK_BYTES = 1 << 20


class Measured(NamedTuple):
    """What a table holds, and the batches that made it."""

    content: Content
    batch_ids: frozenset[str]


def contents_of(frames: Mapping[Table, DataFrame]) -> dict[str, Measured]:
    """What each table holds, by name, asked in one Spark job."""
    measured = [
        frame.select("batch_id", F.expr(spark_row_hash(table)).alias("row_hash")).agg(
            F.lit(table.name).alias("table_name"),
            F.count("*").alias("row_count"),
            F.coalesce(F.sum("row_hash"), F.lit(0)).cast("string").alias("digest"),
            F.collect_set("batch_id").alias("batch_ids"),
        )
        for table, frame in frames.items()
    ]
    rows = reduce(DataFrame.unionAll, measured).collect()
    return {
        row.table_name: Measured(Content(row.row_count, int(row.digest)), frozenset(row.batch_ids)) for row in rows
    }


def copy_rows(frame: DataFrame, table: Table, dsn: str, staging: str) -> None:
    """Copy a frame with the table's columns into a staging table of schema publication, as the role of dsn.

    A partition is one transaction, which begins by claiming the partition in ops.copied_part: a task that is tried
    again, or runs twice at once, finds its rows there and copies nothing.
    """
    texts = frame.select(*(_copy_text(column, kind).alias(column) for column, kind in table.types.items()))
    texts.mapInArrow(_partition_copier(dsn, staging, table.columns), "row_count BIGINT").agg(F.sum("row_count")).collect()


def _copy_text(column: str, kind: str) -> Column:
    """A column as COPY's CSV format reads it; null stays null."""
    if kind != "ARRAY<STRING>":
        return F.col(column).cast("string")
    quoted = F.transform(
        column,
        lambda text: F.coalesce(
            F.concat(F.lit('"'), F.replace(F.replace(text, F.lit("\\"), F.lit("\\\\")), F.lit('"'), F.lit('\\"')), F.lit('"')),
            F.lit("NULL"),
        ),
    )
    return F.concat(F.lit("{"), F.array_join(quoted, ","), F.lit("}"))


def _partition_copier(
    dsn: str, staging: str, columns: tuple[str, ...]
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def copy_partition(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = _CsvRows(batches)
        name = f"mosaic copy {staging}"[:63]
        with closing(psycopg2.connect(dsn, application_name=name)) as session, session, session.cursor() as cursor:
            # Waits for another attempt that holds the claim; it goes to this one if the other fails.
            cursor.execute(
                "INSERT INTO ops.copied_part (staging_table, part, row_count) VALUES (%s, %s, 0) ON CONFLICT DO NOTHING",
                (staging, TaskContext.get().partitionId()),
            )
            if cursor.rowcount:
                command = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
                    sql.Identifier("publication", staging), sql.SQL(", ").join(map(sql.Identifier, columns))
                )
                cursor.copy_expert(command, rows, size=_CHUNK_BYTES)
                cursor.execute(
                    "UPDATE ops.copied_part SET row_count = %s WHERE staging_table = %s AND part = %s",
                    (rows.count, staging, TaskContext.get().partitionId()),
                )
        yield pa.RecordBatch.from_pydict({"row_count": pa.array([rows.count], pa.int64())})

    return copy_partition


class _CsvRows(io.RawIOBase):
    """Arrow batches of text columns read as CSV, a batch in memory at a time; null is nothing, empty text is quoted."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._rest = memoryview(b"")
        self.count = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._rest:
            batch = next(self._batches, None)
            if batch is None:
                return b""
            self.count += batch.num_rows
            sink = pa.BufferOutputStream()
            csv.write_csv(batch, sink, csv.WriteOptions(include_header=False, quoting_style="all_valid"))
            self._rest = memoryview(sink.getvalue())
        size = len(self._rest) if size < 0 else size
        chunk, self._rest = self._rest[:size], self._rest[size:]
        return bytes(chunk)
