"""Outcomes of a spine as they were knowable on the training date, and what each of them weighs.

Two kinds of outcome (conf.source): ``default_within_horizon`` asks whether a default came within so many months and is
only asked of rows whose horizon has passed. ``default_ever`` asks whether it ever comes; where it has not come yet the
row was watched for a part of its risk only, and weighs that part.
"""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

LIFE_STEPS = 36
"""Steps into which a loan's term is cut for the cumulative incidence: months, for the most common term of 36."""


def known_default_days(training_date: date) -> Column:
    """The days of the borrower's defaults known on the training date, sorted; reads default_events."""
    known = F.filter("default_events", lambda event: event["known_from"] <= F.lit(training_date))
    return F.array_sort(F.transform(known, lambda event: event["default_on"]))


def with_outcome(spine: DataFrame, training_date: date, horizon_months: int | None) -> DataFrame:
    """The rows whose outcome can be told, with is_default and default_on (null without a default).

    The outcome window is (as_of_date, as_of_date + horizon_months], open-ended for None. Without a row is who turned
    out to have been in default on the as-of date already, before the platform knew: neither good nor yet to default.
    """
    day = F.col("as_of_date")
    last_day = F.lit(training_date) if horizon_months is None else F.add_months(day, horizon_months)
    days = known_default_days(training_date)
    return (
        spine.where(~F.exists(days, lambda default_on: default_on <= day))
        .withColumn("default_on", F.get(F.filter(days, lambda default_on: default_on <= last_day), F.lit(0)))
        .withColumn("is_default", F.col("default_on").isNotNull())
    )


def with_live_obligation(spine: DataFrame, loan: DataFrame, training_date: date, horizon_months: int | None) -> DataFrame:
    """The rows of borrowers who owed something on a day of the outcome window, as known on the training date.

    An application that was never funded, of someone without another loan, could not default: it has no outcome.
    """
    last_day = F.lit(training_date) if horizon_months is None else F.add_months(F.col("as_of_date"), horizon_months)
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


def life_step(months: Column, term_months: Column) -> Column:
    """The step of a loan's life, 0 to LIFE_STEPS, that a number of months on book reaches; rounds up."""
    step = F.ceil(months * F.lit(float(LIFE_STEPS)) / term_months).cast("int")
    return F.least(F.greatest(step, F.lit(0)), F.lit(LIFE_STEPS))


def build_incidence(loan: DataFrame, events: DataFrame, training_date: date) -> DataFrame:
    """Cumulative incidence of default by step of a loan's life, as knowable on the training date.

    One row per step from 0 to LIFE_STEPS: step, incidence (a fraction, never falling). Of each originated loan the day
    it would be censored is known, so a prepaid loan stays at risk until then, and the incidence is that of the
    subdistribution (Fine & Gray, JASA 94, 1999, section 3.1, censoring-complete data):
    1 - prod(1 - defaults / at risk). A default after the end of the term counts in its last step; a step that no loan
    has reached yet adds nothing.
    """
    known = F.col("known_from") <= F.lit(training_date)
    first_default = events.where(known).groupBy("loan_id").agg(F.min("default_on").alias("default_on"))
    terms = loan.where(known).groupBy("loan_id").agg(
        F.max_by(F.struct("originated_on", "term_months"), "known_from").alias("newest")
    )

    def step_on(day: Column) -> Column:
        """Steps count from 1 here: the month in which something happens is part of it."""
        months = F.months_between(day, F.col("newest.originated_on"))
        return F.greatest(life_step(months, F.col("newest.term_months")), F.lit(1))

    lives = (
        terms.where(F.col("newest.originated_on") <= F.lit(training_date))
        .join(first_default, on="loan_id", how="left")
        .select(
            F.when(F.col("default_on").isNotNull(), step_on(F.col("default_on"))).alias("default_step"),
            step_on(F.lit(training_date)).alias("watched_step"),
        )
        .groupBy("default_step", "watched_step")
        .agg(F.count("*").alias("loans"))
    )
    counts = (
        lives.withColumn("step", F.explode(F.sequence(F.lit(0), F.coalesce("default_step", "watched_step"))))
        .groupBy("step")
        .agg(
            F.sum("loans").alias("at_risk"),
            F.sum(F.when(F.col("default_step") == F.col("step"), F.col("loans")).otherwise(0)).alias("defaults"),
        )
    )
    steps = counts.sparkSession.range(LIFE_STEPS + 1).select(F.col("id").cast("int").alias("step"))
    hazard = F.coalesce(F.col("defaults") / F.col("at_risk"), F.lit(0.0))
    # The product as an array fold: a hazard of 1 ends it at 0, which a sum of logarithms could not say.
    before = Window.orderBy("step").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    survival = F.aggregate(F.collect_list(F.lit(1.0) - hazard).over(before), F.lit(1.0), lambda product, one: product * one)
    return steps.join(counts, on="step", how="left").select("step", (F.lit(1.0) - survival).alias("incidence"))


def with_exposure_weight(spine: DataFrame, incidence: DataFrame, training_date: date) -> DataFrame:
    """Adds label_weight to rows with is_default, months_on_book and term_months; rows watched for no risk are left out.

    A default weighs 1. Without one the weight is (F(m + w) - F(m)) / (F(T) - F(m)), with F the incidence, m the months
    on book, w the months from as-of to training date, rounded, and T the term: the share of the remaining risk that the
    row was watched for, so that weighted cross-entropy is, to first order, the Poisson likelihood with that exposure as
    offset. A loan that ended well weighs the same, as its incidence counts ended loans too. A term watched to its end
    weighs 1; where no risk was ever seen after m the share is that of the months.
    """
    table = incidence.agg(F.map_from_entries(F.collect_list(F.struct("step", "incidence"))).alias("curve"))
    term, held = F.col("term_months"), F.col("months_on_book")
    watched = F.round(F.months_between(F.lit(training_date), F.col("as_of_date")))

    def reached(months: Column) -> Column:
        return F.element_at("curve", life_step(months, term))

    share_of_risk = F.try_divide(reached(held + watched) - reached(held), reached(term) - reached(held))
    share_of_months = F.try_divide(watched, (term - held).cast("double"))
    weight = F.when(held + watched >= term, F.lit(1.0)).otherwise(F.coalesce(share_of_risk, share_of_months))
    return (
        spine.crossJoin(F.broadcast(table))
        .withColumn("label_weight", F.when(F.col("is_default"), F.lit(1.0)).otherwise(weight))
        .drop("curve")
        .where(F.col("label_weight") > 0)
    )
