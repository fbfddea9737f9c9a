"""Outcomes of a spine as they were knowable on the training date, and how much of each row's risk had been watched.

Two kinds of outcome (conf.source): ``default_within_horizon`` asks whether a default came within so many months and is
only asked of rows whose horizon has passed. ``default_ever`` asks whether it ever comes; where it has not come yet the
row was watched for a part of its risk only: the chance to have seen a default by then is that share of the eventual one. And
a longer loan is at risk for longer: that share of the risk over the horizon is known before anything is learnt.
"""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

MAX_MONTHS = 480
"""The longest term of a loan, and with it the end of the cumulative incidence."""
DEFAULT_LAG_MONTHS = 3
"""How long after an instalment its default shows: 90 days past due."""
TAIL_MONTHS = 12
"""So many of the last months on book that were watched tell the hazard of those that no loan has reached yet."""


def known_default_days(training_date: date, events: str = "default_events") -> Column:
    """The days of the borrower's defaults known on the training date, sorted; reads a column of events."""
    known = F.filter(events, lambda event: event["known_from"] <= F.lit(training_date))
    return F.array_sort(F.transform(known, lambda event: event["default_on"]))


def with_outcome(spine: DataFrame, training_date: date, horizon_months: int | None) -> DataFrame:
    """The rows whose outcome can be told, with is_default and default_on (null without a default).

    The outcome window is (as_of_date, as_of_date + horizon_months], open-ended for None. Without a row is who turned
    out to have been in default on the as-of date already, before the platform knew: neither good nor yet to default.
    """
    day = F.col("as_of_date")
    last_day = _last_day(training_date, horizon_months)
    days = known_default_days(training_date)
    return (
        spine.where(~F.exists(days, lambda default_on: default_on <= day))
        .withColumn("default_on", F.get(F.filter(days, lambda default_on: default_on <= last_day), F.lit(0)))
        .withColumn("is_default", F.col("default_on").isNotNull())
    )


def with_indeterminate(rows: DataFrame, training_date: date, horizon_months: int | None) -> DataFrame:
    """Adds is_indeterminate: no default, but an event of late_events in the outcome window (with_outcome).

    late_events: as default_events, of fewer days past due. Scorecards call them neither good nor bad (Siddiqi 2006, "Credit
    risk scorecards", indeterminates).
    """
    late = F.exists(
        known_default_days(training_date, "late_events"), lambda on: (on > F.col("as_of_date")) & (on <= _last_day(training_date, horizon_months))
    )
    return rows.withColumn("is_indeterminate", ~F.col("is_default") & late)


def _last_day(training_date: date, horizon_months: int | None) -> Column:
    """The end of a row's outcome window."""
    return F.lit(training_date) if horizon_months is None else F.add_months("as_of_date", horizon_months)


def with_live_obligation(spine: DataFrame, loan: DataFrame, training_date: date, horizon_months: int | None) -> DataFrame:
    """The rows of borrowers who owed something on a day of the outcome window, as known on the training date.

    An application that was never funded, of someone without another loan, could not default: it has no outcome.
    """
    last_day = _last_day(training_date, horizon_months)
    owed = (
        loan.where(F.col("known_from") <= F.lit(training_date))
        .groupBy("borrower_id", "loan_id")
        .agg(F.max_by(F.struct("originated_on", "closed_on"), "known_from").alias("newest"))
        .where(F.col("newest.originated_on").isNotNull())
        .groupBy("borrower_id")
        .agg(F.collect_list("newest").alias("obligations"))
    )
    in_window = F.exists(
        "obligations",
        lambda one: (one["originated_on"] <= last_day)
        & (one["closed_on"].isNull() | (one["closed_on"] > F.col("as_of_date"))),
    )
    return spine.join(owed, on="borrower_id", how="inner").where(in_window).drop("obligations")


def build_lives(loan: DataFrame, events: DataFrame, as_of_date: date) -> DataFrame:
    """Loans originated by the as-of date, as known then: originated_on, watched and default_month.

    One row per loan. watched: complete months on book, up to the end of those in which a default can show. default_month:
    the month on book, from 1, of its first default; null without one in the complete months.
    """
    known = F.col("known_from") <= F.lit(as_of_date)
    first_default = events.where(known).groupBy("loan_id").agg(F.min("default_on").alias("default_on"))
    terms = loan.where(known).groupBy("loan_id").agg(
        F.max_by(F.struct("originated_on", "term_months"), "known_from").alias("newest")
    )

    def months_until(day: Column) -> Column:
        return F.months_between(day, F.col("newest.originated_on"))

    ends = F.least(F.col("newest.term_months") + DEFAULT_LAG_MONTHS, F.lit(MAX_MONTHS))
    return (
        terms.where(F.col("newest.originated_on") <= F.lit(as_of_date))
        .join(first_default, on="loan_id", how="left")
        .select(
            "newest.originated_on",
            F.least(F.floor(months_until(F.lit(as_of_date))), ends).cast("int").alias("watched"),
            F.when(
                F.col("default_on").isNotNull(), F.least(F.greatest(F.ceil(months_until(F.col("default_on"))), F.lit(1)), ends)
            ).cast("int").alias("default_month"),
        )
        # A default in the month that is not complete yet is a loan still at risk in those that are.
        .withColumn("default_month", F.when(F.col("default_month") <= F.col("watched"), F.col("default_month")))
    )


def build_incidence(loan: DataFrame, events: DataFrame, training_date: date) -> DataFrame:
    """Cumulative incidence of default by months on book, as knowable on the training date.

    One row per month from 0 to MAX_MONTHS: month, incidence (a fraction, never falling). By months, not by shares of the
    term: on LendingClub loans of 36 and of 60 months default at much the same ages. Of each originated loan the day it
    would be censored is known, so a prepaid loan stays at risk until then or until its term has passed, and the incidence
    is that of the subdistribution (Fine & Gray, JASA 94, 1999, section 3.1, censoring-complete data):
    1 - prod(1 - defaults / at risk). Only complete months count. Months that no loan has reached yet go on with the
    hazard of the last TAIL_MONTHS that were watched.
    """
    lives = build_lives(loan, events, training_date).groupBy("default_month", "watched").agg(F.count("*").alias("loans"))
    counts = (
        lives.withColumn("month", F.explode(F.sequence(F.lit(0), F.coalesce("default_month", "watched"))))
        .groupBy("month")
        .agg(
            F.sum("loans").alias("at_risk"),
            F.sum(F.when(F.col("default_month") == F.col("month"), F.col("loans")).otherwise(0)).alias("defaults"),
        )
    )
    total = lambda field: F.aggregate("recent", F.lit(0).cast("bigint"), lambda sum_, one: sum_ + one[field])  # noqa: E731
    hazard = lambda one: F.coalesce(F.try_divide(one["defaults"], one["at_risk"]), F.lit(0.0))  # noqa: E731
    # A single row of arrays: no loan's history is longer than MAX_MONTHS.
    watched = (
        counts.agg(F.array_sort(F.collect_list(F.struct("month", "at_risk", "defaults"))).alias("months"))
        .withColumn("recent", F.filter("months", lambda one: one["month"] >= F.size("months") - TAIL_MONTHS))
        .withColumn("tail", F.coalesce(F.try_divide(total("defaults"), total("at_risk")), F.lit(0.0)))
    )
    steps = F.transform(
        F.sequence(F.lit(0), F.lit(MAX_MONTHS)),
        lambda month: F.struct(
            month.alias("month"),
            F.when(month < F.size("months"), hazard(F.get("months", month))).otherwise(F.col("tail")).alias("hazard"),
        ),
    )
    # The product as an array fold: a hazard of 1 ends it at 0, which a sum of logarithms could not say.
    before = Window.orderBy("month").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    survival = F.aggregate(
        F.collect_list(F.lit(1.0) - F.col("hazard")).over(before), F.lit(1.0), lambda product, one: product * one
    )
    return watched.select(F.inline(steps)).select("month", (F.lit(1.0) - survival).alias("incidence"))


def with_exposure(spine: DataFrame, incidence: DataFrame, training_date: date, horizon_months: int) -> DataFrame:
    """Adds watched_share and term_share to rows with is_default, months_on_book, originated_on and term_months; rows without
    a default that were watched for no risk are left out.

    watched_share is (F(u) - F(m)) / (F(T) - F(m)), with F the incidence, m the months on book on the as-of date, u those on
    the training date, in complete months, and T the months at whose end no default can show any more, DEFAULT_LAG_MONTHS
    after the term. Someone whose eventual probability is p was seen to default by then with probability watched_share x p
    (Farewell, Biometrics 38, 1982, with a latency that is the same for all). A loan that ended well has the same share,
    as the incidence counts ended loans too. A term watched to its end has 1; where no risk was ever seen after m the share
    is that of the months. originated_on is null for a listing that was never funded: u then counts from the as-of date.

    term_share is F(T) over that of a term of horizon_months; where no risk was ever seen by T, T over the months of that.
    """
    table = incidence.agg(F.array_sort(F.collect_list(F.struct("month", "incidence"))).alias("curve"))
    held = F.col("months_on_book")
    end = F.col("term_months") + DEFAULT_LAG_MONTHS
    since = lambda day: F.floor(F.months_between(F.lit(training_date), F.col(day)))  # noqa: E731
    until = F.coalesce(since("originated_on"), held + since("as_of_date"))

    def reached(months: Column) -> Column:
        return F.get("curve", F.least(F.greatest(months, F.lit(0)), F.lit(MAX_MONTHS)).cast("int"))["incidence"]

    horizon = F.lit(horizon_months + DEFAULT_LAG_MONTHS)
    share_of_risk = F.try_divide(reached(until) - reached(held), reached(end) - reached(held))
    share_of_horizon = F.try_divide(reached(end), reached(horizon))
    share_of_months = F.try_divide(until - held, (end - held).cast("double"))
    share = F.when(until >= end, F.lit(1.0)).otherwise(F.coalesce(share_of_risk, share_of_months))
    return (
        spine.crossJoin(F.broadcast(table))
        .withColumn("watched_share", F.greatest(F.least(share, F.lit(1.0)), F.lit(0.0)))
        .withColumn("term_share", F.coalesce(F.nullif(share_of_horizon, F.lit(0.0)), end / horizon))
        .drop("curve")
        .where(F.col("is_default") | (F.col("watched_share") > 0))
    )
