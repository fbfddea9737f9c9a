"""Lifetime of a loan: a discrete-time hazard of default and prepayment by months on book, fitted on censored histories.

Month m on book runs from m - 1 (exclusive) to m (inclusive) whole months after origination. Default is 90 days past
due or charge-off, whichever comes first, so the last instalment's default shows three months after the term.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

DEFAULT_LAG_MONTHS = 3  # 90 days past due show three monthly instalments after the first missed one
EXPOSURE_COLUMNS = ("term_months", "months_on_book", "month", "at_risk", "defaults", "prepaid")


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


def build_exposure(loan: DataFrame, repayment: DataFrame, as_of_date: date, default_days: int | None) -> DataFrame:
    """Loans at risk, defaults and prepayments, as known by the as-of date.

    One row per term_months, months_on_book and month (first day of the calendar month in which that month on book
    ends). A loan counts as at risk in each complete month on book from the first that the platform watched to the one
    of its default or repayment; months not complete on the as-of date count for nobody, so that loans that end early
    are not seen more than others.
    """
    histories = (
        build_outcomes(loan, repayment, as_of_date, default_days)
        .where(F.col("watched_months") > F.col("entered_months"))
        # Loans with the same history are counted once and only then spread over their months: the data grow by a
        # few hundred, not by loans times months.
        .groupBy(
            "term_months", F.trunc("originated_on", "month").alias("originated_month"),
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
            "term_months", "months_on_book",
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
    """Baseline curves over all terms (pooled) and per term bucket.

    A term without history takes the pooled curve; months beyond a curve's end take its last value.
    """

    pooled: Curves
    terms: Mapping[int, Curves]

    def to_json(self) -> str:
        """The curves as JSON; from_json gives the same hazard back, bit by bit."""
        curves = {"pooled": self.pooled, **{str(term): of_term for term, of_term in sorted(self.terms.items())}}
        return json.dumps({
            name: {"default": one.default.tolist(), "prepayment": one.prepayment.tolist()} for name, one in curves.items()
        })

    @staticmethod
    def from_json(text: str) -> Hazard:
        """The hazard that to_json wrote."""
        curves = {
            name: Curves(np.array(one["default"]), np.array(one["prepayment"])) for name, one in json.loads(text).items()
        }
        pooled = curves.pop("pooled")
        return Hazard(pooled, {int(term): of_term for term, of_term in curves.items()})

    def baseline(self, months_on_book: np.ndarray, term_months: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Default and prepayment probabilities of the months ahead, before scaling to a score.

        Two arrays of shape (loans, months): column j is month months_on_book + j + 1. There are as many columns as
        the longest remaining term has months, and DEFAULT_LAG_MONTHS more; beyond a loan's own end all is 0. No
        prepayment in or after a term's last month: that is repayment.
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
            curves = self.terms.get(int(bucket), self.pooled)
            rows = buckets == bucket
            default[rows] = curves.default[np.minimum(month[rows], len(curves.default)) - 1]
            prepayment[rows] = curves.prepayment[np.minimum(month[rows], len(curves.prepayment)) - 1]
        default[month > ends[:, None]] = 0.0
        prepayment[month >= term_months[:, None]] = 0.0
        return default, prepayment

    def default_curve(
        self,
        prob_default: np.ndarray,
        horizon_months: int | None,
        months_on_book: np.ndarray,
        term_months: np.ndarray,
    ) -> np.ndarray:
        """Monthly conditional default probabilities over the remaining term that agree with the scores.

        Shape (loans, months) as in baseline. Grouped proportional hazards (Prentice and Gloeckler 1978): the
        probability of month t is 1 - (1 - h_t)^theta, with one theta per loan such that the cumulative incidence of
        default over the score's horizon, with prepayment as the competing event (in a month default comes first),
        equals prob_default. horizon_months None, or longer than what remains: the whole remaining term. A prob_default
        of 0 gives zeros, 1 gives certain default in the first month.

        Raises ValueError for a probability outside 0 to 1 (or null) and a loan beyond its term.
        """
        prob_default = np.asarray(prob_default, dtype=float)
        if not np.all((prob_default >= 0) & (prob_default <= 1)):
            raise ValueError("prob_default must lie between 0 and 1")
        if np.any(np.asarray(months_on_book) >= np.asarray(term_months)):
            raise ValueError("months_on_book must be less than term_months")
        default, prepayment = self.baseline(months_on_book, term_months)
        theta = _proportional_factor(prob_default, default, prepayment, horizon_months)
        with np.errstate(over="ignore"):
            curve = -np.expm1(theta[:, None] * np.log1p(-default))
        certain = prob_default >= 1
        curve[certain] = 0.0
        curve[certain, 0] = 1.0
        return curve


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
    means of a Gamma-Poisson model whose prior weighs as much as prior_events events (Clayton and Kaldor 1987).

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

    curves: dict[int | str, dict[str, np.ndarray]] = {}
    for event, at_risk, kind in (("defaults", "at_risk", "default"), ("prepaid", "at_risk_prepayment", "prepayment")):
        overall = counts[event].sum() / max(counts[at_risk].sum(), 1)
        events, exposed = smoothed(counts, event), smoothed(counts, at_risk)
        weight = prior_events / overall if overall > 0 else 1.0
        pooled = _probability((events + weight * overall) / (exposed + weight))
        curves.setdefault("pooled", {})[kind] = pooled
        for bucket, of_term in counts.groupby("bucket"):
            events, exposed = smoothed(of_term, event), smoothed(of_term, at_risk)
            expected = exposed * pooled
            level = (events.sum() + prior_events) / (expected.sum() + prior_events)
            curve = pooled * (events + prior_events * level) / (expected + prior_events)
            curves.setdefault(int(bucket), {})[kind] = _probability(curve[: int(bucket) + DEFAULT_LAG_MONTHS])
    fitted = {name: Curves(of["default"], of["prepayment"]) for name, of in curves.items()}
    pooled_curves = fitted.pop("pooled")
    return Hazard(pooled_curves, fitted)


def _kernel(months: int, bandwidth: int) -> np.ndarray:
    """Triangular weights between months, of shape (months, months); each column adds up to 1, so events are kept."""
    distance = np.abs(np.subtract.outer(np.arange(months), np.arange(months)))
    weights = np.maximum(bandwidth + 1 - distance, 0.0)
    return weights / weights.sum(axis=0)


def _probability(rate: np.ndarray) -> np.ndarray:
    """A monthly probability within bounds that proportional hazards can scale: never exactly 0 nor 1."""
    return np.clip(rate, 1e-7, 0.5)
