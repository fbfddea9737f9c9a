"""How a company's industry fares and where the company stands in it.

An industry is the first INDUSTRY_DIGITS characters of the source's code: a major group of SIC, a division of KSIC or ISIC, or the
section's letter where a source tells no more. What is known of an industry is made once for every month, of what was known
before the month's first day.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from features.point_in_time import with_known_until, with_row_as_known

INDUSTRY_DIGITS = 2
# Failures are rare, so they are counted over some years; medians are of the newest statements, told a year ago or, late, some more.
RATE_MONTHS = 36
MEDIAN_MONTHS = 18
MIN_COMPANIES = 20
"""Companies that a rate and a median rest on, at least; below, they are null."""
MEDIANS = ("net_income_to_assets", "liabilities_to_assets")


def with_industry(rows: DataFrame, company: DataFrame) -> DataFrame:
    """The rows (company_id, as_of_date) with their company's industry as known on that day; null where none was told.

    A service that tells today's industry alone is taken to have told it from a company's first filing on.
    """
    told = company.where("industry IS NOT NULL").select("company_id", "known_from", F.substring("industry", 1, INDUSTRY_DIGITS).alias("industry"))
    as_known = with_row_as_known(rows, with_known_until(told, on="company_id"), "told", on="company_id")
    return as_known.withColumn("industry", F.col("told.industry")).drop("told")


def build_industries(months: DataFrame, company: DataFrame, statements: DataFrame) -> DataFrame:
    """One row per month (its first day) and industry of which something is known: industry_distress_rate, and the medians
    industry_<name> of MEDIANS.

    months: month. statements: company_id, filing_id, period_end, known_from, is_consolidated and MEDIANS. Distress rate: of the
    companies that told a year's statements in the RATE_MONTHS before, the share that became known to have failed in them.
    Medians: of the newest statements of each company, where these were told in the MEDIAN_MONTHS before.
    """
    failed = company.where("distressed_on IS NOT NULL").groupBy("company_id").agg(F.min("known_from").alias("failure_known_from"))
    since = F.add_months("month", -RATE_MONTHS)
    on_their_day = with_industry(statements.withColumnRenamed("known_from", "as_of_date"), company).where("industry IS NOT NULL")
    told = on_their_day.withColumnRenamed("as_of_date", "known_from")
    newest = F.max_by(F.struct("industry", "known_from", *MEDIANS), F.struct("period_end", "is_consolidated", "known_from", "filing_id"))
    companies = (
        told.join(F.broadcast(months), on=(F.col("known_from") < F.col("month")) & (F.col("known_from") >= since), how="inner")
        .groupBy("month", "company_id").agg(newest.alias("newest")).select("month", "company_id", "newest.*")
        .join(failed, on="company_id", how="left")
    )
    has_failed = F.coalesce((F.col("failure_known_from") < F.col("month")) & (F.col("failure_known_from") >= since), F.lit(False))
    is_recent = F.col("known_from") >= F.add_months("month", -MEDIAN_MONTHS)

    def of_enough(value: Column, of: Column) -> Column:
        return F.when(F.count(of) >= MIN_COMPANIES, value)

    medians = {name: F.when(is_recent, F.col(name)) for name in MEDIANS}
    return companies.groupBy("month", "industry").agg(
        of_enough(F.avg(has_failed.cast("double")), F.lit(1)).alias("industry_distress_rate"),
        *(of_enough(F.median(value), value).alias(f"industry_{name}") for name, value in medians.items()),
    )
