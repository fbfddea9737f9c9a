"""The training set: cohorts of borrowers as they stood at past month ends and on their days of application."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from conf.settings import Training
from conf.source import Source
from conf.tables import TRAINING_SET
from features.blocks import with_features
from features.labels import build_incidence, with_exposure, with_indeterminate, with_live_obligation, with_outcome
from features.point_in_time import SPINE_KEY, narrowed, with_known_until, with_row_as_known
from features.population import (
    build_applications,
    build_candidates,
    build_default_events,
    is_too_thin,
    loans_within_policy,
    was_defaulted,
    with_default_events,
    with_party,
)

HASH_SHARES = 1_000_000


class NoCohort(ValueError):
    """No cohort can be made: the settings ask for none."""


def month_end(day: date, months: int) -> date:
    """Last day of the month that lies so many months from a day's month."""
    years, month = divmod(day.month - 1 + months, 12)
    return date(day.year + years, month + 1, monthrange(day.year + years, month + 1)[1])


def months_between(first: date, last: date) -> int:
    """How many calendar months the last day's month lies after the first one's."""
    return (last.year - first.year) * 12 + last.month - first.month


def cohort_months(training: Training, horizon_months: int | None, training_date: date) -> list[date]:
    """The month ends of the cohorts, oldest first.

    The newest is the last one whose horizon has passed on the training date; for an open-ended outcome (None), the
    last one before it. Raises NoCohort where the settings ask for none.
    """
    count = training.training_cohorts + training.calibration_cohorts + training.judging_cohorts
    if count < 1:
        raise NoCohort("training: training_cohorts, calibration_cohorts and judging_cohorts are all 0")
    newest = month_end(training_date, -(horizon_months or 0))
    # The month end itself counts where its horizon ends on the training date; with no horizon it must lie before.
    if month_end(newest, horizon_months or 0) > training_date or (horizon_months is None and newest >= training_date):
        newest = month_end(newest, -1)
    return [month_end(newest, -training.cohort_step_months * back) for back in reversed(range(count))]


def performing_months(months: list[date], training: Training) -> list[date]:
    """The cohorts in which performing borrowers stand: the newest, and every so many months before it; none for 0."""
    every = training.performing_every_months
    distance = [months_between(month, months[-1]) for month in months]
    return [month for month, back in zip(months, distance, strict=True) if every and back % every == 0]


def cohort_month(months: list[date]) -> Column:
    """The first cohort month end on or after a row's as-of date."""
    listed = F.array(*[F.lit(month) for month in months])
    return F.get(F.filter(listed, lambda month: F.col("as_of_date") <= month), F.lit(0))


def build_spine(loan: DataFrame, months: list[date], training: Training) -> DataFrame:
    """One row per (borrower_id, as_of_date): performing borrowers at month ends and the applications up to each.

    A cohort takes the applications since the month end of the cohort before it. Performing borrowers with an open
    listing stand in their application, as they do on a night. Columns as in ``build_candidates``, and cohort_month.
    """
    first_day = month_end(months[0], -training.cohort_step_months) + timedelta(days=1)
    applications = build_applications(loan, first_day, months[-1])
    at_month_ends = performing_months(months, training)
    if not at_month_ends:
        spine = applications
    else:
        performing = build_candidates(loan, at_month_ends).where(F.col("standing") == "performing")
        spine = applications.unionByName(performing.join(applications, on=list(SPINE_KEY), how="left_anti"))
    return spine.withColumn("cohort_month", cohort_month(months))


def group_share(salt: str) -> Column:
    """A number from 0 to below 1 for each identity group, evenly spread: the same on every machine, another for each salt."""
    return F.pmod(F.xxhash64(F.lit(salt), "identity_group_id"), F.lit(HASH_SHARES)) / F.lit(float(HASH_SHARES))


def with_sampled_groups(spine: DataFrame, max_rows: int, seed: int) -> DataFrame:
    """The rows of so many whole identity groups that about max_rows remain; the same groups on every machine."""
    total = spine.agg(F.count("*").alias("spine_rows"))
    return (
        spine.crossJoin(F.broadcast(total))
        .where(group_share(f"sample {seed}") * F.col("spine_rows") < F.lit(float(max_rows)))
        .drop("spine_rows")
    )


def build_training_set(
    silver: Mapping[str, DataFrame], source: Source, training: Training, as_of_date: date, months: list[date] | None = None
) -> DataFrame:
    """The cohorts with features, each known on the row's own day, and outcomes, known on the training date.

    as_of_date is the training date: nothing known later enters. One row per (borrower_id, as_of_date), columns of
    TRAINING_SET. Left out, as on a night, is who was known to be in default or is too thin; and who has no outcome
    (``features.labels``). months: the month ends of the cohorts, oldest first; by default the newest ones that the
    settings ask for. Raises NoCohort where they ask for none.
    """
    horizon_months = source.horizon_months if source.outcome == "default_within_horizon" else None
    months = months or cohort_months(training, horizon_months, as_of_date)
    first_day = month_end(months[0], -training.cohort_step_months) + timedelta(days=1)
    known = {name: frame.where(F.col("known_from") <= F.lit(as_of_date)) for name, frame in silver.items()}
    loan, repayment = known["loan"], known["repayment"]
    events = build_default_events(loan, repayment, source.default_days)

    spine = with_default_events(build_spine(loan, months, training), events).where(~was_defaulted())
    if training.within_policy_only:
        spine = spine.join(loans_within_policy(loan), on="loan_id", how="left_semi")
    spine = with_party(spine, with_known_until(known["borrower"], "borrower_id")).where(F.col("borrower_type").isNotNull())
    # Folds keep a party together by what is known of it on the training date: two ids may turn out to be one.
    party = known["borrower"].groupBy("borrower_id").agg(F.max_by("identity_group_id", "known_from").alias("identity_group_id"))
    spine = spine.drop("identity_group_id").join(party, on="borrower_id", how="inner")
    labelled = with_live_obligation(spine, loan, as_of_date, horizon_months)
    labelled = with_outcome(labelled, as_of_date, horizon_months).drop("default_events")
    if source.indeterminate_days:
        late = build_default_events(loan, repayment, source.indeterminate_days)
        labelled = with_indeterminate(with_default_events(labelled, late, "late_events"), as_of_date, horizon_months).drop("late_events")
    else:
        labelled = labelled.withColumn("is_indeterminate", F.lit(False))
    if horizon_months is None:
        newest = F.max_by(F.struct("term_months", "originated_on"), "known_from").alias("newest")
        terms = loan.groupBy("loan_id").agg(newest).select("loan_id", "newest.*")
        labelled = with_exposure(
            labelled.join(terms, on="loan_id", how="inner"), build_incidence(loan, events, as_of_date), as_of_date, source.horizon_months
        ).drop("term_months", "originated_on")
    else:
        labelled = labelled.withColumns({"watched_share": F.lit(1.0), "term_share": F.lit(1.0)})
    # Kept while the caller's session lives: the ground of a join with each silver table, and of the sample's size.
    sampled = with_sampled_groups(labelled.persist(), training.max_training_rows, training.seed)
    features = with_features(sampled, narrowed(known, first_day, months[-1]), source.account_month_lag_days)
    return features.where(~is_too_thin()).select(*TRAINING_SET.columns)


def with_region(rows: DataFrame, borrower: DataFrame) -> DataFrame:
    """Adds region, as the borrower's record told on each row's own day; null where it did not. No feature tells it."""
    history = with_known_until(borrower.select("borrower_id", "known_from", "region"), "borrower_id")
    return with_row_as_known(rows, history, "record").withColumn("region", F.col("record.region")).drop("record")
