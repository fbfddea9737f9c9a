"""Null filling, clipping and scaling of features, learnt on training rows and stored with the model as JSON.

Trees of LightGBM take nulls as they are; the Spark trees, the logistic model and K-Means need a number in each place.
No outcome is used here, so one preparation serves every fold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from conf.features import Feature

# Quantiles are exact, and so found in one task.
SAMPLE_ROWS = 100_000
LOW_SHARE, HIGH_SHARE = 0.005, 0.995


@dataclass(frozen=True)
class Spread:
    """How one feature lies in the training rows, in the feature's own unit.

    fill replaces a null; low and high clip outliers; mean and scale are those of the filled and clipped values, of an
    amount those of their signed logarithms, scale being 1 for a constant. nulls_like: the first feature that is null in
    the same rows as this one, itself perhaps; None where no value is null. Features with the same nulls share one
    indicator column.
    """

    fill: float
    is_amount: bool
    nulls_like: str | None
    low: float
    high: float
    mean: float
    scale: float


@dataclass(frozen=True)
class Preparation:
    """Spreads of the features with at least one known value in the training rows, in their declared order."""

    spreads: dict[str, Spread]

    def known(self, names: Iterable[str]) -> tuple[str, ...]:
        """The names that have a known value; a feature that a source never offers is left out of every model."""
        return tuple(name for name in names if name in self.spreads)

    def filled(self, name: str) -> Column:
        """The feature with nulls filled."""
        return F.coalesce(F.col(name), F.lit(self.spreads[name].fill))

    def standardised(self, name: str) -> Column:
        """The filled and clipped feature, amounts as signed logarithms, with mean 0 and variance 1 over the training rows."""
        spread = self.spreads[name]
        clipped = F.least(F.greatest(self.filled(name), F.lit(spread.low)), F.lit(spread.high))
        # Amounts are skewed: what doubles them counts alike for the poor and the rich.
        value = F.signum(clipped) * F.log1p(F.abs(clipped)) if spread.is_amount else clipped
        return (value - F.lit(spread.mean)) / F.lit(spread.scale)

    def null_patterns(self, names: Iterable[str]) -> list[tuple[str, ...]]:
        """The sets of names that are null together; a name that is never null stands in none."""
        patterns: dict[str, list[str]] = {}
        for name in reversed(list(names)):
            if (like := self.spreads[name].nulls_like) is not None:
                patterns.setdefault(like, []).insert(0, name)
        return [tuple(pattern) for pattern in reversed(patterns.values())]

    def indicators(self, names: Iterable[str]) -> list[Column]:
        """For each set of names that are null together, 1 where they are null and 0 elsewhere."""
        return [F.col(pattern[0]).isNull().cast("double") for pattern in self.null_patterns(names)]

    def to_json(self) -> dict[str, dict[str, float | bool | str | None]]:
        """The spreads as plain values."""
        return {name: asdict(spread) for name, spread in self.spreads.items()}

    @classmethod
    def from_json(cls, values: dict[str, dict[str, float | bool | str | None]]) -> Preparation:
        """The inverse of ``to_json``."""
        return cls({name: Spread(**spread) for name, spread in values.items()})


def hash_share(keys: Sequence[str], rows: int, limit: int) -> Column:
    """A condition that keeps about limit of the rows, the same ones however the rows are partitioned."""
    if rows <= limit:
        return F.lit(True)
    return F.pmod(F.xxhash64(*keys), F.lit(1_000_003)) < F.lit(int(1_000_003 * limit / rows))


def learn_on_sample(
    frame: DataFrame,
    keys: Sequence[str],
    rows: int,
    limit: int,
    learn: Callable[[pd.DataFrame], Iterator[dict[str, object]]],
    schema: str,
) -> list[Row]:
    """What learn yields, in rows of the schema, for about limit rows of a frame of so many, sorted by the keys, in one task.

    All its columns are handed on, so select those that are read; the keys are among them.
    """

    def learnt(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        sample = pd.concat(batches, ignore_index=True).sort_values(list(keys), ignore_index=True)
        yield from (pd.DataFrame([found]) for found in learn(sample))

    return frame.where(hash_share(keys, rows, limit)).repartition(1).mapInPandas(learnt, schema).collect()


def fit_preparation(frame: DataFrame, features: Sequence[Feature], keys: Sequence[str], rows: int) -> Preparation:
    """The preparation of the features for a training frame of so many rows, learnt on a bounded sample in one task.

    A declared fill of "median" is the median of the known values in the sample.
    """

    def learn(sample: pd.DataFrame) -> Iterator[dict[str, object]]:
        first_with: dict[bytes, str] = {}
        for feature in features:
            values = sample[feature.name].to_numpy(dtype="float64")
            missing = np.isnan(values)
            like = first_with.setdefault(np.packbits(missing).tobytes(), feature.name) if missing.any() else None
            if not missing.all():
                yield {"name": feature.name, **asdict(spread_of(values, feature, like))}

    read = frame.select(*keys, *(feature.name for feature in features))
    learnt = learn_on_sample(read, keys, rows, SAMPLE_ROWS, learn, _SPREADS)
    return Preparation({row["name"]: Spread(**{key: row[key] for key in Spread.__annotations__}) for row in learnt})


_SPREADS = "name string, fill double, is_amount boolean, nulls_like string, low double, high double, mean double, scale double"


def spread_of(values: np.ndarray, feature: Feature, nulls_like: str | None) -> Spread:
    """The spread of a feature's values (rows,), nan where null; at least one is known."""
    known = values[~np.isnan(values)]
    low, median, high = (float(value) for value in np.quantile(known, [LOW_SHARE, 0.5, HIGH_SHARE]))
    fill = median if feature.fill == "median" else float(feature.fill)
    if nulls_like is not None:
        # A fill outside the range of the known values was declared for a reason, and is not clipped.
        low, high = min(low, fill), max(high, fill)
    clipped = np.clip(np.where(np.isnan(values), fill, values), low, high)
    values = np.sign(clipped) * np.log1p(np.abs(clipped)) if feature.is_amount else clipped
    scale = float(values.std())
    is_constant = scale <= 1e-12 * max(abs(low), abs(high))
    return Spread(fill, feature.is_amount, nulls_like, low, high, float(values.mean()), 1.0 if is_constant else scale)
