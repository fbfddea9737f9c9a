"""What market indicators do to an allocation, by a relation fitted on realised defaults: caps per risk group, and how much default scenarios see.

Stress is the mean of standardised indicators, point in time. A default rate that is exp(sensitivity x stress) times
its normal level would, at unchanged shares, raise what the risky groups lose by as much; the caps of groups 2 and up
are divided by it, so that the loss they may bring stays what it is in normal times. Scenarios see more, or less, default than
the listings' probabilities tell as far as stress has moved since the defaults that these rest on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from models.hazard import DEFAULT_LAG_MONTHS, LEVEL_MONTHS, Hazard

TRAILING_MONTHS = 120
LEAST_MONTHS = 24       # of an indicator, and of stress beside defaults
LEAST_DEFAULTS = 100
MOST_MONTHS_OLD = 6     # an indicator whose newest month lies further back says nothing about tonight
LARGEST_SCORE = 4.0     # an indicator further out (spring 2020) counts as this many standard deviations
Basis = Literal["fitted", "stated", "static"]


@dataclass(frozen=True)
class Indicator:
    """One sign of strain, higher is worse. change: level as it is, or its change (or log change) over 12 months."""

    series_id: str
    change: Literal["level", "difference", "log_difference"]
    currency: str
    meaning: str


INDICATORS: tuple[Indicator, ...] = (
    Indicator("UNRATE", "difference", "USD", "unemployment rate, change over a year"),
    Indicator("CLAIMSx", "log_difference", "USD", "initial jobless claims, growth over a year"),
    Indicator("BAAFFM", "level", "USD", "yield of Baa bonds over the federal funds rate"),
    Indicator("BOK_BASE_RATE", "difference", "KRW", "Bank of Korea base rate, change over a year: dearer debt service"),
)


def build_indicator_history(market_indicator: DataFrame, as_of_date: date) -> DataFrame:
    """Every value of the INDICATORS that was known by the as-of date, revisions included.

    One row per series_id, observed_on and known_from, with value.
    """
    series = [indicator.series_id for indicator in INDICATORS]
    return market_indicator.where(
        F.col("series_id").isin(series) & (F.col("known_from") <= F.lit(as_of_date))
    ).select("series_id", "observed_on", "known_from", "value")


def market_stress(history: pd.DataFrame, on: date, currency: str) -> float | None:
    """Stress on a day, in standard deviations; null where no indicator has LEAST_MONTHS of history and a month that is
    at most MOST_MONTHS_OLD.

    The mean, over the indicators of the currency's own economy (of any economy, where there are none), of the newest
    value less the mean of the last TRAILING_MONTHS, over their standard deviation. Only values known on the day count,
    each as last told by then. history has the columns of build_indicator_history.
    """
    known = history[pd.to_datetime(history["known_from"]) <= pd.Timestamp(on)]
    known = known.sort_values("known_from", kind="stable").drop_duplicates(["series_id", "observed_on"], keep="last")
    newest = pd.to_datetime(known["observed_on"]).groupby(known["series_id"]).max()
    fresh = set(newest.index[newest >= pd.Timestamp(on) - pd.DateOffset(months=MOST_MONTHS_OLD)])
    at_hand = [indicator for indicator in INDICATORS if indicator.series_id in fresh]
    own = [indicator for indicator in at_hand if indicator.currency == currency]
    scores = [_score(known[known["series_id"] == one.series_id], one.change) for one in own or at_hand]
    scores = [score for score in scores if score is not None]
    return float(np.mean(scores)) if scores else None


def _score(series: pd.DataFrame, change: str) -> float | None:
    """The newest value in standard deviations from the trailing mean; null with too few months or no variation."""
    months = pd.PeriodIndex(pd.to_datetime(series["observed_on"]), freq="M")
    values = pd.Series(series["value"].to_numpy(float), index=months).sort_index()
    if change == "log_difference":
        values = np.log(values[values > 0])
    if change != "level":
        # By calendar month, so that a gap in a series is not taken for a year.
        year_before = pd.Series(values.to_numpy(), index=values.index + 12)
        values = (values - year_before.reindex(values.index)).dropna()
    values = values.iloc[-TRAILING_MONTHS:]
    if len(values) < LEAST_MONTHS or values.std() < 1e-9:
        return None
    return float(np.clip((values.iloc[-1] - values.mean()) / values.std(), -LARGEST_SCORE, LARGEST_SCORE))


@dataclass(frozen=True)
class Sensitivity:
    """Log change of the default rate per unit of stress, and what it rests on."""

    value: float
    basis: Basis


def realised_and_expected(counts: pd.DataFrame, hazard: Hazard) -> pd.DataFrame:
    """Loans at risk and defaults by calendar month beside what the hazard expects; counts as of build_exposure."""
    if counts.empty:
        return nothing_expected()
    # The hazard's curves already hold the months' average; what is left over months is the market.
    on_book = counts["months_on_book"].to_numpy(int)
    default, _ = hazard.baseline(np.zeros(len(counts), dtype=int), counts["term_months"].to_numpy(int))
    rate = default[np.arange(len(counts)), np.minimum(on_book, default.shape[1]) - 1]
    frame = counts.assign(expected=rate * counts["at_risk"].to_numpy(float))
    return frame.groupby("month", as_index=False)[["at_risk", "defaults", "expected"]].sum().sort_values("month", ignore_index=True)


def nothing_expected() -> pd.DataFrame:
    """No month, in the columns of ``realised_and_expected``."""
    return pd.DataFrame({"month": [], "at_risk": [], "defaults": [], "expected": []})


def fit_sensitivity(months: pd.DataFrame, history: pd.DataFrame, currency: str, *, stated: float) -> Sensitivity:
    """How defaults have followed stress: Poisson regression of a month's defaults on the stress known
    DEFAULT_LAG_MONTHS before (the first missed instalment), with the hazard's expectation as exposure.

    months: as of ``realised_and_expected``.

    The estimate and the stated value are weighted by precision (the stated one with a standard deviation of its own
    size), the estimate's variance being inflated for overdispersion (McCullagh and Nelder 1989, section 6.2) and for
    first-order autocorrelation (Bartlett 1946). Never below 0: stress does not loosen caps. With fewer than
    LEAST_MONTHS months or LEAST_DEFAULTS defaults, or stress that never moved, the stated value stands.
    """
    months = months[months["expected"] > 0]
    stress = _stress_behind(pd.PeriodIndex(pd.to_datetime(months["month"]), freq="M"), history, currency)
    watched = np.isfinite(stress)
    defaults = months["defaults"].to_numpy(float)[watched]
    enough = watched.sum() >= LEAST_MONTHS and defaults.sum() >= LEAST_DEFAULTS
    if not enough or np.std(stress[watched]) < 1e-6:
        return Sensitivity(stated, "stated")
    slope, variance = _poisson_slope(defaults, months["expected"].to_numpy(float)[watched], stress[watched])
    precision, stated_precision = 1 / variance, 1 / max(stated, 1e-3) ** 2
    mean = (precision * slope + stated_precision * stated) / (precision + stated_precision)
    return Sensitivity(max(0.0, float(mean)), "fitted")


def stress_behind_level(history: pd.DataFrame, on: date, currency: str) -> float | None:
    """The mean of the stress that was known when the defaults of the LEVEL_MONTHS up to a day began, which set the level that
    listings are valued at (models.hazard.fit_level); null where none was."""
    stress = _stress_behind(pd.period_range(end=pd.Period(on, freq="M"), periods=LEVEL_MONTHS), history, currency)
    return None if np.isnan(stress).all() else float(np.nanmean(stress))


def _stress_behind(months: pd.PeriodIndex, history: pd.DataFrame, currency: str) -> np.ndarray:
    """The stress known DEFAULT_LAG_MONTHS before each month, when its defaults missed their first instalment; nan where none was."""
    # Dates are parsed once, not once a month.
    dated = history.assign(**{name: pd.to_datetime(history[name]) for name in ("observed_on", "known_from")})
    stress = [market_stress(dated, month.end_time.date(), currency) for month in months - DEFAULT_LAG_MONTHS]
    return np.array([np.nan if one is None else one for one in stress], dtype=float)


def _poisson_slope(defaults: np.ndarray, expected: np.ndarray, stress: np.ndarray) -> tuple[float, float]:
    """Slope and its variance, by iteratively reweighted least squares on log(expected) + level + slope x stress."""
    design = np.column_stack([np.ones(len(stress)), stress])
    coefficients = np.array([np.log(defaults.sum() / expected.sum()), 0.0])
    for _ in range(100):
        mean = expected * np.exp(np.clip(design @ coefficients, -30, 30))
        information = design.T @ (design * mean[:, None])
        step = np.linalg.solve(information, design.T @ (defaults - mean))
        # Half-steps keep a first wild step from running away; near the optimum steps are whole.
        coefficients = coefficients + step * min(1.0, 1.0 / max(np.abs(step).max(), 1e-300))
        if np.abs(step).max() < 1e-10:
            break
    mean = expected * np.exp(np.clip(design @ coefficients, -30, 30))
    residuals = (defaults - mean) / np.sqrt(mean)
    dispersion = max(1.0, float(residuals @ residuals) / (len(stress) - 2))
    correlation = float(np.clip(np.corrcoef(residuals[1:], residuals[:-1])[0, 1], 0, 0.9)) if np.std(residuals) > 0 else 0
    inflation = (1 + correlation) / (1 - correlation)
    return float(coefficients[1]), float(np.linalg.inv(information)[1, 1] * dispersion * inflation)


def risk_group_caps(
    base_caps: Sequence[float],
    stress: float | None,
    stress_before: float | None,
    sensitivity: Sensitivity | None,
    *,
    min_factor: float,
    max_factor: float,
) -> pd.DataFrame:
    """Tonight's caps: one row per risk_group (1, 2, …) with cap, base_cap, market_stress, sensitivity, basis, is_static and
    default_level, the same for all: how many times the hazard that listings are valued at tonight's scenarios see.

    The base caps of groups 2 and up times exp(-sensitivity x stress), the factor within min_factor and max_factor, a
    cap at most 1; group 1 keeps its own. default_level: exp(sensitivity x (stress - stress_before)), within the inverse of these
    bounds; stress_before as of ``stress_behind_level``, null for no change. Without stress (then sensitivity is not asked for) all
    caps are static, stress and sensitivity null, and default_level 1.
    """
    base = np.array(base_caps, dtype=float)
    static = stress is None or sensitivity is None

    def factor_of(moved: float) -> float:
        return float(np.clip(np.exp(-sensitivity.value * moved), min_factor, max_factor))

    factor = 1.0 if static else factor_of(stress)
    level = 1.0 if static or stress_before is None else 1 / factor_of(stress - stress_before)
    return pd.DataFrame({
        "risk_group": np.arange(1, len(base) + 1),
        "cap": np.where(np.arange(len(base)) == 0, base, np.minimum(1.0, base * factor)).round(10),
        "base_cap": base,
        "market_stress": [None if static else round(stress, 10)] * len(base),
        "sensitivity": [None if static else round(sensitivity.value, 10)] * len(base),
        "basis": "static" if static else sensitivity.basis,
        "is_static": static,
        "default_level": round(level, 10),
    })
