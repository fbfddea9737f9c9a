"""Lifetime of a loan: a discrete-time hazard of default and prepayment by months on book, fitted on censored histories.

Month m on book runs from m - 1 (exclusive) to m (inclusive) whole months after origination. Default is 90 days past
due or charge-off, whichever comes first, so the last instalment's default shows three months after the term.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

DEFAULT_LAG_MONTHS = 3  # 90 days past due show three monthly instalments after the first missed one
LEVEL_MONTHS = 12  # of defaults that tell the level of today
_BATCH = 50_000  # loans whose curves are in memory at once
EXPOSURE_COLUMNS = ("term_months", "risk_group", "months_on_book", "month", "at_risk", "defaults", "prepaid")


class NoHistory(ValueError):
    """No default has been watched: a hazard cannot be fitted."""


def months_since(origin: Column, day: Column) -> Column:
    """Months from origin to day, fractional; same day of month, or both the month's last day, is a whole number."""
    return F.months_between(day, origin, roundOff=True)


def event_month(on: Column, ends_months: Column) -> Column:
    """The month on book in which a day after originated_on lies, 1 to ends_months; null where on is null."""
    month = F.ceil(months_since(F.col("originated_on"), on)).cast("int")
    # greatest and least skip nulls, which here must stay null.
    return F.when(on.isNotNull(), F.least(F.greatest(month, F.lit(1)), ends_months))


def build_outcomes(loan: DataFrame, repayment: DataFrame, as_of_date: date, default_days: int | None) -> DataFrame:
    """What had become of each originated loan, as known by the as-of date.

    One row per loan_id: term_months, originated_on, entered_months (whole months on book when the platform first knew
    of it: earlier months were not watched, as loans that ended then could not be seen), watched_months (complete months
    until the as-of date), event (default, prepaid, null: neither within the complete months) and event_month. A loan
    repaid in or after its term's last month has ended, not prepaid: it leaves the risk set without an event.
    default_days: days past due that are a default; None where only a charge-off is.
    """
    day = F.lit(as_of_date)
    # Who was ever told to be in default has defaulted, whatever a later row says.
    is_default = F.lit(False) if default_days is None else F.col("days_past_due") >= default_days
    past_due = (
        repayment.where((F.col("known_from") <= day) & is_default)
        .groupBy("loan_id")
        .agg(F.min(F.date_add("due_on", default_days or 0)).alias("past_due_on"))
    )
    charged_off_on = F.when(F.col("status") == "charged_off", F.coalesce("closed_on", "known_from"))
    newest = (
        loan.where(F.col("known_from") <= day)
        .groupBy("loan_id")
        .agg(
            F.max_by(F.struct("term_months", "originated_on", "status", "closed_on"), "known_from").alias("loan"),
            F.min("known_from").alias("first_known_on"),
            F.min(charged_off_on).alias("charged_off_on"),
        )
        .select("loan_id", "loan.*", "first_known_on", "charged_off_on")
        .where(F.col("originated_on") <= day)
    )
    repaid_on = F.when(F.col("status") == "paid", F.col("closed_on"))
    ends_months = F.col("term_months") + DEFAULT_LAG_MONTHS
    return (
        newest.join(past_due, on="loan_id", how="left")
        .withColumn("default_month", event_month(F.least("past_due_on", "charged_off_on"), ends_months))
        .withColumn("repaid_month", event_month(repaid_on, ends_months))
        .withColumn("watched_months", F.floor(months_since(F.col("originated_on"), day)).cast("int"))
        .withColumn(
            "event",
            F.when(F.col("default_month") <= F.col("watched_months"), "default")
            .when(F.col("default_month").isNotNull(), None)
            .when(
                (F.col("repaid_month") <= F.col("watched_months")) & (F.col("repaid_month") < F.col("term_months")),
                "prepaid",
            ),
        )
        .select(
            "loan_id",
            "term_months",
            "originated_on",
            F.greatest(F.ceil(months_since(F.col("originated_on"), F.col("first_known_on"))), F.lit(0))
            .cast("int").alias("entered_months"),
            F.least("watched_months", ends_months, "default_month", "repaid_month").alias("watched_months"),
            "event",
            F.when(F.col("event") == "default", F.col("default_month"))
            .when(F.col("event") == "prepaid", F.col("repaid_month")).alias("event_month"),
        )
    )


def build_exposure(outcomes: DataFrame, grouped: DataFrame | None = None) -> DataFrame:
    """Loans at risk, defaults and prepayments, as known by the day that outcomes (as of build_outcomes) are told of.

    One row per term_months, risk_group (null: unknown), months_on_book and month (first day of the calendar month in which
    that month on book ends). grouped: risk_group of loans by loan_id; without it all are unknown. A loan counts as at risk
    in each complete month on book from the first that the platform watched to the one of its default or repayment; months
    not complete on that day count for nobody, so that loans that end early are not seen more than others.
    """
    if grouped is None:
        outcomes = outcomes.withColumn("risk_group", F.lit(None).cast("int"))
    else:
        outcomes = outcomes.join(grouped.select("loan_id", "risk_group"), on="loan_id", how="left")
    histories = (
        outcomes.where(F.col("watched_months") > F.col("entered_months"))
        # Loans with the same history are counted once and only then spread over their months: the data grow by a
        # few hundred, not by loans times months.
        .groupBy(
            "term_months", "risk_group", F.trunc("originated_on", "month").alias("originated_month"),
            "entered_months", "watched_months", "event", "event_month",
        )
        .agg(F.count(F.lit(1)).alias("loans"))
    )
    happened = lambda event: F.when(  # noqa: E731
        (F.col("event") == event) & (F.col("event_month") == F.col("months_on_book")), F.col("loans")
    ).otherwise(0)
    return (
        histories.withColumn(
            "months_on_book", F.explode(F.sequence(F.col("entered_months") + 1, F.col("watched_months")))
        )
        .groupBy(
            "term_months", "risk_group", "months_on_book",
            F.add_months("originated_month", F.col("months_on_book")).alias("month"),
        )
        .agg(
            F.sum("loans").alias("at_risk"),
            F.sum(happened("default")).alias("defaults"),
            F.sum(happened("prepaid")).alias("prepaid"),
        )
        .select(*EXPOSURE_COLUMNS)
    )


def term_bucket(term_months: np.ndarray) -> np.ndarray:
    """The bucket of a term: its length rounded up to whole years, in months."""
    return np.ceil(np.asarray(term_months, dtype=float) / 12).astype(int) * 12


@dataclass(frozen=True)
class Curves:
    """Monthly probabilities given survival: element m - 1 is for month m on book."""

    default: np.ndarray
    prepayment: np.ndarray


@dataclass(frozen=True)
class Hazard:
    """Baseline curves over all terms (pooled) and per term bucket, what each risk group's are a multiple of them, and what
    comes back after a default.

    A term without history takes the pooled curve, a risk group without one the multiple 1; months beyond a curve's end take
    its last value. recoveries: element k is what comes back k months after the month of the default, as a fraction of what was
    owed; null where none were told. level: recent defaults over what the scores let expect (fit_level); curves that agree with a
    score are a multiple of it higher.
    """

    pooled: Curves
    terms: Mapping[int, Curves]
    groups: Mapping[int, Curves] = field(default_factory=dict)
    recoveries: np.ndarray | None = None
    level: float = 1.0

    def to_json(self) -> str:
        """The curves as JSON; from_json gives the same hazard back, bit by bit."""
        return json.dumps({
            "pooled": _told(self.pooled),
            **{str(term): _told(curves) for term, curves in sorted(self.terms.items())},
            **{f"group {group}": _told(curves) for group, curves in sorted(self.groups.items())},
            **({} if self.recoveries is None else {"recoveries": self.recoveries.tolist()}),
            "level": self.level,
        })

    @staticmethod
    def from_json(text: str) -> Hazard:
        """The hazard that to_json wrote."""
        parts = json.loads(text)
        recoveries, level = parts.pop("recoveries", None), parts.pop("level", 1.0)
        curves = {name: Curves(np.array(one["default"]), np.array(one["prepayment"])) for name, one in parts.items()}
        pooled = curves.pop("pooled")
        groups = {int(name.split()[1]): one for name, one in curves.items() if name.startswith("group ")}
        terms = {int(name): one for name, one in curves.items() if not name.startswith("group ")}
        return Hazard(pooled, terms, groups, None if recoveries is None else np.array(recoveries), level)

    def baseline(
        self, months_on_book: np.ndarray, term_months: np.ndarray, risk_group: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Default and prepayment probabilities of the months ahead, before scaling to a score.

        Two arrays of shape (loans, months): column j is month months_on_book + j + 1. There are as many columns as
        the longest remaining term has months, and DEFAULT_LAG_MONTHS more; beyond a loan's own end all is 0. No
        prepayment in or after a term's last month: that is repayment. risk_group: null for loans of no known group.
        """
        months_on_book = np.asarray(months_on_book, dtype=int)
        term_months = np.asarray(term_months, dtype=int)
        ends = term_months + DEFAULT_LAG_MONTHS
        ahead = int(max(1, np.max(ends - months_on_book, initial=1)))
        month = months_on_book[:, None] + 1 + np.arange(ahead)[None, :]
        default = np.zeros(month.shape)
        prepayment = np.zeros(month.shape)
        buckets = term_bucket(term_months)
        for bucket in np.unique(buckets):
            curves, rows = self.terms.get(int(bucket), self.pooled), buckets == bucket
            default[rows], prepayment[rows] = (_at(curve, month[rows]) for curve in (curves.default, curves.prepayment))
        for group, multiple in self.groups.items() if risk_group is not None else ():
            rows = np.asarray(risk_group) == group
            default[rows] = _probability(default[rows] * _at(multiple.default, month[rows]))
            prepayment[rows] = _probability(prepayment[rows] * _at(multiple.prepayment, month[rows]))
        default[month > ends[:, None]] = 0.0
        prepayment[month >= term_months[:, None]] = 0.0
        return default, prepayment

    def default_curve(
        self,
        prob_default: np.ndarray,
        horizon_months: int | None,
        months_on_book: np.ndarray,
        term_months: np.ndarray,
        risk_group: np.ndarray | None = None,
    ) -> np.ndarray:
        """Monthly conditional default probabilities over the remaining term that agree with the scores, at the hazard's level.

        Shape (loans, months) as in baseline. Grouped proportional hazards (Prentice and Gloeckler 1978): the
        probability of month t is 1 - (1 - h_t)^theta, with one theta per loan such that the cumulative incidence of
        default over the score's horizon, with prepayment as the competing event (in a month default comes first),
        equals prob_default, at level 1; another level multiplies theta. horizon_months None, or longer than what remains: the whole remaining term. A prob_default
        of 0 gives zeros, 1 gives certain default in the first month.

        Raises ValueError for a probability outside 0 to 1 (or null) and a loan beyond its term.
        """
        prob_default = np.asarray(prob_default, dtype=float)
        if not np.all((prob_default >= 0) & (prob_default <= 1)):
            raise ValueError("prob_default must lie between 0 and 1")
        if np.any(np.asarray(months_on_book) >= np.asarray(term_months)):
            raise ValueError("months_on_book must be less than term_months")
        default, prepayment = self.baseline(months_on_book, term_months, risk_group)
        theta = self.level * _proportional_factor(prob_default, default, prepayment, horizon_months)
        with np.errstate(over="ignore"):
            curve = -np.expm1(theta[:, None] * np.log1p(-default))
        certain = prob_default >= 1
        curve[certain] = 0.0
        curve[certain, 0] = 1.0
        return curve


NO_LIFETIME = Hazard(Curves(np.zeros(1), np.zeros(1)), {})
"""Of a model that values no loan."""


def _told(curves: Curves) -> dict[str, list[float]]:
    return {"default": curves.default.tolist(), "prepayment": curves.prepayment.tolist()}


def _at(curve: np.ndarray, month: np.ndarray) -> np.ndarray:
    """The curve's values in these months on book, beyond its end the last one."""
    return curve[np.minimum(month, len(curve)) - 1]


def cumulative_incidence(default: np.ndarray, prepayment: np.ndarray) -> np.ndarray:
    """Probability of default up to each month, with prepayment competing (Kalbfleisch and Prentice 2002, ch. 8).

    default and prepayment are monthly conditional probabilities of shape (loans, months); default comes first.
    """
    stays = np.cumprod((1 - default) * (1 - prepayment), axis=1)
    before = np.hstack([np.ones((len(stays), 1)), stays[:, :-1]])
    return np.cumsum(before * default, axis=1)


def _proportional_factor(
    prob_default: np.ndarray, default: np.ndarray, prepayment: np.ndarray, horizon_months: int | None
) -> np.ndarray:
    """theta per loan that makes the cumulative incidence within the horizon equal prob_default; 0 for 0 and for 1.

    With A_t = prod (1 - h_s)^theta and P_t = prod (1 - p_s) the incidence is 1 - sum_t c_t A_t, where
    c_t = P_{t-1} - P_t and c_H = P_{H-1}: increasing and concave in theta. So Newton's steps from the left never
    overshoot, and without prepayment the start solves it already.
    """
    horizon = default.shape[1] if horizon_months is None else min(horizon_months, default.shape[1])
    exponent = -np.cumsum(np.log1p(-default[:, :horizon]), axis=1)
    kept = np.cumprod(1 - prepayment[:, :horizon], axis=1)
    kept_before = np.hstack([np.ones((len(kept), 1)), kept[:, :-1]])
    share = kept_before - kept
    share[:, -1] = kept_before[:, -1]
    solvable = (prob_default > 0) & (prob_default < 1)
    goal = np.where(solvable, prob_default, 0.0)
    theta = -np.log1p(-goal) / exponent[:, -1]
    for _ in range(200):
        survived = share * np.exp(-theta[:, None] * exponent)
        gap = goal - (1 - survived.sum(axis=1))
        slope = (survived * exponent).sum(axis=1)
        step = np.where(solvable & (gap > 0) & (slope > 0), gap / np.where(slope > 0, slope, 1.0), 0.0)
        theta = theta + step
        if np.all(step <= 1e-12 * theta):
            break
    return theta


def fit_hazard(counts: pd.DataFrame, *, bandwidth_months: int = 2, prior_events: float = 10.0) -> Hazard:
    """Curves from the counts of build_exposure.

    Counts are smoothed over neighbouring months on book by a triangular kernel (bandwidth_months to each side). The
    pooled curve shrinks to the overall monthly rate, which alone stands in months that nobody has been watched in yet;
    each term bucket's curve shrinks to the pooled curve times the bucket's own level, and the level to 1: posterior
    means of a Gamma-Poisson model whose prior weighs as much as prior_events events (Clayton and Kaldor 1987). A risk group's
    multiples of what its loans' terms let expect shrink in the same way, to the group's own level and that to 1; loans of no
    known group (null, or no column risk_group) count for the other curves alone.

    Raises NoHistory where no default is among the counts and ValueError, naming them, for missing columns.
    """
    needed = ["term_months", "months_on_book", "at_risk", "defaults", "prepaid"]
    missing = [column for column in needed if column not in counts.columns]
    if missing:
        raise ValueError(f"hazard counts: missing columns {missing}; the frame has {list(counts.columns)}")
    counts = counts.assign(bucket=term_bucket(counts["term_months"].to_numpy()))
    if counts["defaults"].sum() <= 0:
        raise NoHistory(
            f"no default among {int(counts['at_risk'].sum())} watched loan months: check loan and repayment in silver"
        )
    months = int(max(counts["bucket"].max() + DEFAULT_LAG_MONTHS, counts["months_on_book"].max()))
    # A month in which a loan cannot be prepaid (its last, and those after) is no exposure to prepayment.
    counts = counts.assign(
        at_risk_prepayment=np.where(counts["months_on_book"] < counts["term_months"], counts["at_risk"], 0)
    )
    kernel = _kernel(months, bandwidth_months)

    def smoothed(frame: pd.DataFrame, column: str) -> np.ndarray:
        by_month = np.bincount(frame["months_on_book"].to_numpy() - 1, frame[column].to_numpy(float), months)
        return kernel @ by_month

    curves: dict[int, dict[str, np.ndarray]] = {}
    groups: dict[int, dict[str, np.ndarray]] = {}
    pooled: dict[str, np.ndarray] = {}
    for event, at_risk, kind in (("defaults", "at_risk", "default"), ("prepaid", "at_risk_prepayment", "prepayment")):

        def multiple(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
            level = (observed.sum() + prior_events) / (expected.sum() + prior_events)
            return (observed + prior_events * level) / (expected + prior_events)

        overall = counts[event].sum() / max(counts[at_risk].sum(), 1)
        weight = prior_events / overall if overall > 0 else 1.0
        pooled[kind] = _probability((smoothed(counts, event) + weight * overall) / (smoothed(counts, at_risk) + weight))
        for bucket, of_term in counts.groupby("bucket"):
            expected = smoothed(of_term, at_risk) * pooled[kind]
            curve = pooled[kind] * multiple(smoothed(of_term, event), expected)
            curves.setdefault(int(bucket), {})[kind] = _probability(curve[: int(bucket) + DEFAULT_LAG_MONTHS])
        if "risk_group" not in counts:
            continue
        known = counts.dropna(subset="risk_group")
        rate = np.zeros(len(known))
        for bucket in known["bucket"].unique():
            rows = (known["bucket"] == bucket).to_numpy()
            rate[rows] = _at(curves[int(bucket)][kind], known["months_on_book"].to_numpy(int)[rows])
        expecting = known.assign(expected=rate * known[at_risk])
        for group, of_group in expecting.groupby("risk_group"):
            found = multiple(smoothed(of_group, event), smoothed(of_group, "expected"))
            groups.setdefault(int(group), {})[kind] = found
    return Hazard(
        Curves(**pooled), {term: Curves(**of_term) for term, of_term in curves.items()},
        {group: Curves(**of_group) for group, of_group in groups.items()},
    )


def fit_level(
    histories: pd.DataFrame, hazard: Hazard, horizon_months: int | None, *, window_months: int = LEVEL_MONTHS, prior_events: float = 10.0
) -> float:
    """Defaults of the last window_months over those that the scores let expect of the same loans in the same months, by the
    hazard's curves at level 1.

    An actual-to-expected ratio, as actuaries carry recent experience into a table (its credibility as in fit_hazard: it
    shrinks to 1, which weighs as much as prior_events expected defaults). Scores learn from all past years alike; when loans
    have come to default less, or more, than those years' did, it shows here first. histories: of loans scored on their listing
    by a model that has not seen them, prob_default and risk_group, with the columns of build_outcomes and age_months, complete
    months from origination to the day of knowledge. 1 without any.
    """
    actual = expected = 0.0
    for start in range(0, len(histories), _BATCH):
        rows = histories.iloc[start : start + _BATCH]
        curve = replace(hazard, level=1.0).default_curve(
            rows["prob_default"].to_numpy(float), horizon_months, np.zeros(len(rows), dtype=int),
            rows["term_months"].to_numpy(int), rows["risk_group"].to_numpy(int),
        )
        first = np.maximum(rows["entered_months"], rows["age_months"] - window_months).to_numpy(int)
        month = np.arange(1, curve.shape[1] + 1)
        is_watched = (month > first[:, None]) & (month <= rows["watched_months"].to_numpy(int)[:, None])
        expected += float(curve[is_watched].sum())
        actual += float(((rows["event"] == "default") & (rows["event_month"] > first)).sum())
    return (actual + prior_events) / (expected + prior_events)


def _kernel(months: int, bandwidth: int) -> np.ndarray:
    """Triangular weights between months, of shape (months, months); each column adds up to 1, so events are kept."""
    distance = np.abs(np.subtract.outer(np.arange(months), np.arange(months)))
    weights = np.maximum(bandwidth + 1 - distance, 0.0)
    return weights / weights.sum(axis=0)


def _probability(rate: np.ndarray) -> np.ndarray:
    """A monthly probability within bounds that proportional hazards can scale: never exactly 0 nor 1."""
    return np.clip(rate, 1e-7, 0.5)
