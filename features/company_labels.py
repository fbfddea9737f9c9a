"""Outcomes of companies as they were knowable: who failed when, and until when the others were watched.

A filing's three years are three periods of a discrete-time hazard (Shumway 2001, "Forecasting bankruptcy more accurately: a simple
hazard model", Journal of Business 74(1)). A company is at risk in a period when it had not failed before. A period is an example
once its end has been seen, whatever came of it: one that counted as soon as the company failed would stand beside no survivors.
A period in which the company went unobserved is none.
"""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

HORIZON_YEARS = (1, 2, 3)


def build_outcomes(company: DataFrame, known_on: date) -> DataFrame:
    """One row per company known by then: identity_group_id, distressed_on (null: none known), watched_until.

    watched_until: the day on which it went unobserved without having failed, else known_on.
    """
    gone = F.min(F.when(F.col("status") == "gone", F.col("known_from")))
    known = company.where(F.col("known_from") <= F.lit(known_on))
    return known.groupBy("company_id").agg(
        F.max_by("identity_group_id", "known_from").alias("identity_group_id"),
        F.min("distressed_on").alias("distressed_on"),
        F.when(F.coalesce(F.min("distressed_on") <= gone, gone.isNull()), F.lit(known_on)).otherwise(gone).alias("watched_until"),
    )


def build_filing_spine(filing: DataFrame, outcomes: DataFrame, known_on: date) -> DataFrame:
    """One row per company and day on which it first told a year's statements, with its outcome; not of one that had failed."""
    days = filing.where(f"period_months = 12 AND known_from <= DATE'{known_on}'").groupBy("company_id", "period_end")
    first_told = days.agg(F.min("known_from").alias("as_of_date")).select("company_id", "as_of_date").distinct()
    return first_told.join(outcomes, on="company_id", how="inner").where("distressed_on IS NULL OR distressed_on > as_of_date")


def distressed_within(years: int) -> Column:
    """Whether distress came within so many years of the as-of date; null where their end had not been seen."""
    end = F.add_months("as_of_date", 12 * years)
    return F.when(F.col("watched_until") >= end, F.coalesce(F.col("distressed_on") <= end, F.lit(False)))


def with_periods(rows: DataFrame, known_on: date) -> DataFrame:
    """One row per filing and period that was seen by known_on: years_ahead (1 to 3) and is_distress, whether it came in it."""
    until = F.add_months("as_of_date", 12 * F.col("years_ahead").cast("int"))
    since = F.add_months("as_of_date", 12 * (F.col("years_ahead").cast("int") - 1))
    at_risk = F.coalesce(F.col("distressed_on") > since, F.lit(True))
    seen_through = until <= F.least(F.col("watched_until"), F.lit(known_on))
    return (
        rows.withColumn("years_ahead", F.explode(F.array(*(F.lit(float(years)) for years in HORIZON_YEARS))))
        .where(at_risk & seen_through)
        .withColumn("is_distress", F.coalesce(F.col("distressed_on") <= until, F.lit(False)).cast("double"))
    )
