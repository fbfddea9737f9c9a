"""The demographic block: the borrower's record as known on the as-of date.

Formulas read the struct ``borrower`` (the record) and the column ``region_median`` beside it.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from features.point_in_time import known_on, next_month

EDUCATION_LEVELS = {"none": 0, "primary": 1, "secondary": 2, "bachelor": 3, "postgraduate": 4}
HOME_OWNERSHIP_LEVELS = {"rent": 0, "mortgage": 1, "own": 2}
DAYS_PER_YEAR = 365.25
SIGNIFICANT_DIGITS = 3


def level(code: Column, levels: dict[str, int]) -> Column:
    """The number that stands for a code; null for an unknown one."""
    return F.create_map(*[F.lit(part) for pair in levels.items() for part in pair])[code]


def flag(condition: Column) -> Column:
    """1 where a condition holds, 0 where not, null where unknown."""
    return condition.cast("int")


def years_until(day: Column, since: Column) -> Column:
    """Years from a day to another; null where it lies ahead."""
    years = F.datediff(day, since) / F.lit(DAYS_PER_YEAR)
    return F.when(years >= 0, years)


def total_income(main_income: Column, other_income: Column) -> Column:
    """Main and other income a year, as a double; no other income known counts as none, an unknown main income as unknown."""
    return main_income.cast("double") + F.coalesce(other_income.cast("double"), F.lit(0.0))


def rounded_to_digits(amount: Column, digits: int) -> Column:
    """A positive amount rounded to its first digits; null for nothing and less."""
    step = F.pow(F.lit(10.0), F.floor(F.log10(amount)) - F.lit(digits - 1))
    return F.when(amount > 0, F.round(amount / step) * step)


def build_region_medians(month_ends: DataFrame, borrower: DataFrame) -> DataFrame:
    """Median total income per region among the borrowers known at month ends.

    month_ends: one column median_on. borrower: with known_until. One row per median_on and region. The median is over
    incomes rounded to three digits: that bounds what it has to keep to some thousand values a region, and is exact and
    the same in any order.
    """
    income = total_income(F.col("main_income"), F.col("other_income"))
    return (
        borrower.where(F.col("region").isNotNull())
        .join(F.broadcast(month_ends), on=known_on(F.col("median_on")), how="inner")
        .groupBy("median_on", F.col("region").alias("median_region"))
        .agg(F.percentile(rounded_to_digits(income, SIGNIFICANT_DIGITS), F.lit(0.5)).alias("region_median"))
    )


def with_region_median(spine: DataFrame, borrower: DataFrame) -> DataFrame:
    """Adds region_median, the median income of the borrower's region at the last month end up to the as-of date.

    spine has the struct borrower; borrower is the history with known_until. Month ends, because a median per region
    and day of application would cross all borrowers with all days.
    """
    median_on = F.date_sub(next_month(F.col("as_of_date")), 1)
    medians = build_region_medians(spine.select(median_on.alias("median_on")).distinct(), borrower)
    same = (median_on == F.col("median_on")) & (F.col("borrower.region") == F.col("median_region"))
    return spine.join(F.broadcast(medians), on=same, how="left").drop("median_on", "median_region")


def demographic() -> dict[str, Column]:
    """The formulas of the block by feature name."""
    record = {name: F.col(f"borrower.{name}") for name in (
        "birth_date", "gender", "marital_status", "dependents", "education", "home_ownership", "employment_started_on",
        "occupation", "main_income", "other_income", "income_verified",
    )}
    as_of_date = F.col("as_of_date")
    income = total_income(record["main_income"], record["other_income"])
    is_person = F.col("borrower.borrower_type") == "person"
    return {
        # A company's birth is its founding: no age of a person.
        "age_years": F.when(is_person, years_until(as_of_date, record["birth_date"])),
        "is_female": flag(record["gender"] == "female"),
        "is_married": flag(record["marital_status"] == "married"),
        "dependents": record["dependents"],
        "education_level": level(record["education"], EDUCATION_LEVELS),
        "home_ownership_level": level(record["home_ownership"], HOME_OWNERSHIP_LEVELS),
        "employment_years": years_until(as_of_date, record["employment_started_on"]),
        "is_self_employed": flag(record["occupation"] == "self_employed"),
        "main_income": record["main_income"],
        "other_income": record["other_income"],
        "total_income_log": F.log1p(income),
        "income_verified": flag(record["income_verified"]),
        "income_to_region_median": F.try_divide(income, F.col("region_median")),
        "income_per_head": income / (F.lit(1.0) + F.coalesce(record["dependents"], F.lit(0))),
    }
