"""Drift: how far a night's population lies from the rows that a model was trained on, by the population stability index.

PSI is the sum over bins of (share now - share in training) x ln(share now / share in training). Source: Siddiqi 2006,
"Credit risk scorecards", monitoring. Two samples of one population have a PSI of some (bins - 1) x (1 / rows now + 1 / rows in
training) by chance alone (Yurdakul 2018), which is why few rows tell nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from conf.settings import Drift
from models.preparation import SAMPLE_ROWS, learn_on_sample

SCORE = "prob_default"
Level = Literal["stable", "watch", "shifted", "too_few_rows"]
# Smoothing: no share counts as less, in training or now, so that a bin that was or is empty has a logarithm.
MIN_SHARE = 1e-4
_DECILES = np.arange(1, 10) / 10
# Just below a value, relative to it: what lies nearer is the value.
_BELOW = 1e-9


@dataclass(frozen=True)
class Bins:
    """One column in the training rows.

    edges: upper ends of the bins of known values, ends included; beyond the last one lies one bin more. shares: of the
    training rows in each bin, the nulls' last; empty where only rows are counted.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...] = ()

    def counts(self, values: np.ndarray) -> np.ndarray:
        """Rows per bin, the nulls' last, of values (rows,), nan where null."""
        known = values[~np.isnan(values)]
        inside = np.bincount(np.searchsorted(self.edges, known, side="left"), minlength=len(self.edges) + 1)
        return np.append(inside, len(values) - len(known))

    def psi(self, counts: np.ndarray) -> float:
        """The population stability index of rows per bin, of which there is at least one."""
        now = np.maximum(counts / counts.sum(), MIN_SHARE)
        then = np.maximum(self.shares, MIN_SHARE)
        return float(np.sum((now - then) * np.log(now / then)))

    @classmethod
    def from_json(cls, stored: Mapping[str, Sequence[float]]) -> Bins:
        """The inverse of ``dataclasses.asdict``."""
        return cls(tuple(stored["edges"]), tuple(stored["shares"]))


def bins_of(values: np.ndarray) -> Bins:
    """The bins of training values (rows,), nan where null: tenths of the known values.

    Equal edges merge, and a value that holds more than one of them has a bin of its own: of a constant, rows below it
    and above it are told apart. Without a known value there is one bin for whatever appears, and the nulls'.
    """
    known = values[~np.isnan(values)]
    edges = np.empty(0)
    if len(known):
        edges, times = np.unique(np.quantile(known, _DECILES, method="inverted_cdf"), return_counts=True)
        heavy = edges[times > 1]
        edges = np.unique(np.append(edges, heavy - _BELOW * np.maximum(np.abs(heavy), 1.0)))
    bins = Bins(tuple(edges.tolist()))
    return Bins(bins.edges, tuple((bins.counts(values) / len(values)).tolist()))


def learn_bins(frame: DataFrame, names: Sequence[str], keys: Sequence[str], rows: int) -> dict[str, Bins]:
    """The bins of each column of a training frame of so many rows, learnt on a bounded sample in one task."""

    def learn(sample: pd.DataFrame) -> Iterator[dict[str, object]]:
        return ({"name": name, **asdict(bins_of(sample[name].to_numpy(dtype="float64")))} for name in names)

    schema = "name string, edges array<double>, shares array<double>"
    learnt = learn_on_sample(frame.select(*keys, *names), keys, rows, SAMPLE_ROWS, learn, schema)
    return {row["name"]: Bins(tuple(row["edges"]), tuple(row["shares"])) for row in learnt}


def build_counts(frame: DataFrame, columns: Mapping[str, Bins]) -> DataFrame:
    """Rows of the frame per column and bin: column_name, bin (from 0, the nulls' last), row_count; no row for none.

    One pass for all columns, in Arrow batches; what leaves a task are its counts.
    """

    def count(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            counted = {name: bins.counts(batch[name].to_numpy(dtype="float64")) for name, bins in columns.items()}
            yield pd.concat(
                pd.DataFrame({"column_name": name, "bin": found.nonzero()[0], "row_count": found[found > 0]})
                for name, found in counted.items()
            )

    counts = frame.select(*columns).mapInPandas(count, "column_name string, bin int, row_count bigint")
    return counts.groupBy("column_name", "bin").agg(F.sum("row_count").alias("row_count"))


def level(psi: float, rows: int, limits: Drift) -> Level:
    """What a column's PSI over so many rows says; a limit itself belongs to the worse level."""
    if rows < limits.min_rows:
        return "too_few_rows"
    return "shifted" if psi >= limits.shifted_psi else "watch" if psi >= limits.watch_psi else "stable"


@dataclass(frozen=True)
class ColumnDrift:
    """One row of the table drift, less model and batch."""

    column_name: str
    psi: float
    null_share: float
    training_null_share: float
    row_count: int
    level: Level


def column_drift(name: str, bins: Bins, counts: np.ndarray, limits: Drift) -> ColumnDrift:
    """The drift of one column, of which counts has the night's rows per bin."""
    rows, psi = int(counts.sum()), bins.psi(counts)
    return ColumnDrift(name, psi, float(counts[-1] / rows), bins.shares[-1], rows, level(psi, rows, limits))


@dataclass(frozen=True)
class DriftVerdict:
    """Whether a night's drift asks for training, as far as the limits say, and why or why not, in one sentence."""

    asks_training: bool
    message: str


def verdict(columns: Sequence[ColumnDrift], limits: Drift, score_name: str = SCORE) -> DriftVerdict:
    """The verdict over the score, which is the column of that name, and the features.

    A feature that neither the training rows nor the night knows has no part in the share of features.
    """
    by_name = {column.column_name: column for column in columns}
    score = by_name.pop(score_name)
    if score.level == "too_few_rows":
        return DriftVerdict(False, f"Too few rows to tell: {score.row_count:,} scored, drift.min_rows is {limits.min_rows:,}.")
    known = [column for column in by_name.values() if min(column.null_share, column.training_null_share) < 1]
    shifted = sorted((column for column in known if column.level == "shifted"), key=lambda column: (-column.psi, column.column_name))
    by_score = score.psi >= limits.shifted_psi
    by_features = bool(shifted) and len(shifted) >= limits.shifted_feature_share * len(known)
    names = ", ".join(f"{column.column_name} {column.psi:.2f}" for column in shifted)
    return DriftVerdict(
        by_score or by_features,
        f"{'Shifted' if by_score or by_features else 'Within limits'}: score PSI {score.psi:.3f} (limit {limits.shifted_psi:g}); "
        f"{len(shifted)} of {len(known)} features at or above {limits.shifted_psi:g} (limit {limits.shifted_feature_share:.0%} of them)"
        + (f": {names}." if names else "."),
    )
