"""Null filling, clipping and scaling of features, learnt on training rows and stored with the model as JSON.

Trees of LightGBM take nulls as they are; the Spark trees, the logistic model and K-Means need a number in each place.
No outcome is used here, so one preparation serves every fold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from conf.features import Feature

# Percentiles are exact, hence over a bounded sample; a hash of the keys draws the same rows on every machine.
SAMPLE_ROWS = 200_000
LOW_SHARE, HIGH_SHARE = 0.005, 0.995


@dataclass(frozen=True)
class Spread:
    """How one feature lies in the training rows, in the feature's own unit.

    fill replaces a null; low and high clip outliers; mean and scale are those of the filled and clipped values, scale
    being 1 for a constant. has_nulls: an indicator column stands beside the filled value.
    """

    fill: float
    has_nulls: bool
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
        """The filled and clipped feature with mean 0 and variance 1 over the training rows."""
        spread = self.spreads[name]
        clipped = F.least(F.greatest(self.filled(name), F.lit(spread.low)), F.lit(spread.high))
        return (clipped - F.lit(spread.mean)) / F.lit(spread.scale)

    def indicators(self, names: Iterable[str]) -> list[Column]:
        """For each name with nulls among the training rows, 1 where it is null and 0 elsewhere."""
        return [F.col(name).isNull().cast("double") for name in names if self.spreads[name].has_nulls]

    def to_json(self) -> dict[str, dict[str, float | bool]]:
        """The spreads as plain values."""
        return {name: asdict(spread) for name, spread in self.spreads.items()}

    @classmethod
    def from_json(cls, values: dict[str, dict[str, float | bool]]) -> Preparation:
        """The inverse of ``to_json``."""
        return cls({name: Spread(**spread) for name, spread in values.items()})


def hash_share(keys: Sequence[str], rows: int, limit: int) -> Column:
    """A condition that keeps about limit of the rows, the same ones however the rows are partitioned."""
    if rows <= limit:
        return F.lit(True)
    return F.pmod(F.xxhash64(*keys), F.lit(1_000_003)) < F.lit(int(1_000_003 * limit / rows))


def fit_preparation(frame: DataFrame, features: Sequence[Feature], keys: Sequence[str], rows: int) -> Preparation:
    """The preparation of the features for a training frame of so many rows; two aggregations over a bounded sample.

    A declared fill of "median" is the median of the known values in the sample.
    """
    sample = frame.where(hash_share(keys, rows, SAMPLE_ROWS))
    shares = F.array(F.lit(LOW_SHARE), F.lit(0.5), F.lit(HIGH_SHARE))
    counts = [F.count(feature.name).alias(f"known_{feature.name}") for feature in features]
    percentiles = [F.percentile(feature.name, shares).alias(f"at_{feature.name}") for feature in features]
    first = sample.agg(F.count("*").alias("rows"), *counts, *percentiles).first()
    known = [feature for feature in features if first[f"known_{feature.name}"] > 0]
    if not known:
        return Preparation({})

    unscaled = {}
    for feature in known:
        low, median, high = first[f"at_{feature.name}"]
        fill = median if feature.fill == "median" else float(feature.fill)
        has_nulls = first[f"known_{feature.name}"] < first["rows"]
        # A fill outside the range of the known values is kept as it is: it was declared for a reason.
        low, high = (min(low, fill), max(high, fill)) if has_nulls else (low, high)
        unscaled[feature.name] = Spread(fill, has_nulls, low, high, 0.0, 1.0)
    clipped = Preparation(unscaled)
    moments = [
        moment(clipped.standardised(name)).alias(f"{moment.__name__}_{name}")
        for name in unscaled
        for moment in (F.avg, F.stddev_pop)
    ]
    second = sample.agg(*moments).first()
    return Preparation(
        {
            name: Spread(
                spread.fill, spread.has_nulls, spread.low, spread.high,
                _rounded(second[f"avg_{name}"]), _rounded(second[f"stddev_pop_{name}"]) or 1.0,
            )
            for name, spread in unscaled.items()
        }
    )


def _rounded(value: float) -> float:
    """Twelve significant digits: partial sums arrive in any order, and their last bits must not reach a model."""
    rounded = float(f"{value:.12g}")
    return 0.0 if abs(rounded) < 1e-12 else rounded
