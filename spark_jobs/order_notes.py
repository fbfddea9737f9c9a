"""Orders are given their notes on the executors: a task for each part of the night's books."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from models.order_notes import Part, Totals

_ROWS = (
    "order bigint, allocated bigint, loan_count bigint, expected_net_return double, expected_loss double, "
    "rounding_gap double, cvar95 double, holdings array<struct<listing: bigint, amount: bigint>>"
)


def give_notes(spark: SparkSession, parts: Sequence[Part]) -> DataFrame:
    """One row per order: its ``models.order_notes.Totals``, and holdings of listing (position in the input) and amount
    (minor units). The same rows whenever and wherever a part is computed."""
    sent = spark.sparkContext.broadcast(parts)

    def give(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                yield _batch_of(sent.value[number])

    return spark.range(0, len(parts), 1, max(1, len(parts))).mapInArrow(give, _ROWS)


def _batch_of(part: Part) -> pa.RecordBatch:
    totals, held = part.give()
    ends = np.searchsorted(held.order, part.orders, side="right")
    holdings = pa.ListArray.from_arrays(
        pa.array(np.append(0, ends), pa.int32()),
        pa.StructArray.from_arrays(
            [part.market.listings[held.listing], held.notes * part.market.note], names=["listing", "amount"]
        ),
    )
    return pa.record_batch(
        [*(pa.array(getattr(totals, one.name)) for one in fields(totals)), holdings],
        names=[*(one.name for one in fields(totals)), "holdings"],
    )


def totals_of(given: DataFrame) -> Totals:
    """What ``give_notes`` has given, an element per order on the driver."""
    table = given.drop("holdings").toArrow()
    return Totals(*(table[one.name].to_numpy() for one in fields(Totals)))


def holdings_of(given: DataFrame) -> DataFrame:
    """What ``give_notes`` has given: one row per order and listing (positions in the input), with amount (minor units)."""
    return given.select("order", F.inline("holdings"))
