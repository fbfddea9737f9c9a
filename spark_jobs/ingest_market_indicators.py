"""ingest_market_indicators: macro series from files into silver, each value known from its publication on.

Layouts: FRED-MD (wide, monthly; the line below the header holds transformation codes), the Bank of Korea's base
rate (date, RATE), and what fetch_indicators makes (series_id, observed_on, known_from, value). Where known_from is told, as
for vintages of FRED, each row stands as it is. Else files hold today's revised values, so a value's first publication is
taken from the lags below; a value that a later file changes is a second row, known from the day on which the change was seen.
"""

from __future__ import annotations

import logging
from datetime import date
from functools import reduce
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from conf.settings import Settings
from conf.source import Csv
from conf.tables import GATE_RESULT, MARKET_INDICATOR, QUARANTINE
from spark_jobs.gates import check_table
from spark_jobs.lake import Lake
from spark_jobs.landed_answers import SERIES_COLUMNS
from spark_jobs.landing import LandingError, read_columns, read_files, sha256_of
from spark_jobs.mapping import BROKEN, build_broken, build_quarantine, spoken, with_row_rules
from spark_jobs.open_night import refuse_future

logger = logging.getLogger(__name__)

BASE_RATE = "BOK_BASE_RATE"
# Whole months from a value's own month until the end of the month in which it is published. FRED-MD shows a month at
# the end of the next one.
FRED_LAG_MONTHS = 1
# Series whose last month is still empty in a FRED-MD file of the next month: they come a month later.
_LATE = ("CMRMTSPLx", "HWI", "HWIURATIO", "ACOGNO", "BUSINVx", "ISRATIOx", "NONREVSL", "CONSPI", "S&P div yield", "S&P PE ratio",
         "DTCOLNVHFNM", "DTCTHFNM")
# Prices and rates of markets, and what a central bank decides, are known when their month ends.
_AT_ONCE = ("FEDFUNDS", "CP3Mx", "TB3MS", "TB6MS", "GS1", "GS5", "GS10", "AAA", "BAA", "COMPAPFFx", "TB3SMFFM", "TB6SMFFM", "T1YFFM",
            "T5YFFM", "T10YFFM", "AAAFFM", "BAAFFM", "TWEXAFEGSMTHx", "EXSZUSx", "EXJPUSx", "EXUSUKx", "EXCAUSx", "OILPRICEx",
            "S&P 500", "VIXCLSx", BASE_RATE)
LAG_MONTHS: dict[str, int] = dict.fromkeys(_LATE, 2) | dict.fromkeys(_AT_ONCE, 0)


def run(spark: SparkSession, settings: Settings, as_of_date: date) -> None:
    """Bring silver.market_indicator to the files of the macro folder; without a folder caps are static.

    Raises LandingError for a folder or a file that cannot be read, or whose layout is unknown, GateFailed, and FutureNight.
    """
    refuse_future(settings, as_of_date)
    lake = Lake(spark, settings)
    batch_id = f"market-indicators-{as_of_date}"
    lake.create(MARKET_INDICATOR)
    lake.create(QUARANTINE)
    if settings.macro_folder is None:
        logger.warning("no folder of market indicators (MACRO=): caps per risk group are static")
    else:
        raw = [read_layout(spark, file) for file in indicator_files(settings.macro_folder)]
        append_indicators(lake, raw, seen_on(lake, as_of_date), batch_id)
    check_table(lake, MARKET_INDICATOR, as_of_date, batch_id, job="ingest_market_indicators")


def seen_on(lake: Lake, as_of_date: date) -> date:
    """The day on which this run sees changes: its as-of date, but no day that a run before has already told of.

    A run for a past date reads today's files; what they revise must not change what the nights since then knew.
    """
    if not lake.exists(GATE_RESULT):
        return as_of_date
    told = lake.read(GATE_RESULT).where(F.col("table_name") == MARKET_INDICATOR.name).agg(F.max("as_of_date")).first()[0]
    return max(as_of_date, told or as_of_date)


def indicator_files(folder: Path) -> list[Path]:
    """The CSV files of a macro folder.

    Raises LandingError where there is no such folder or no file in it.
    """
    if not folder.is_dir():
        raise LandingError(f"cannot read the folder of market indicators {folder}: set MACRO= to a folder")
    files = sorted([*folder.glob("*.csv"), *folder.glob("*.csv.gz")])
    if not files:
        raise LandingError(f"no CSV file in the folder of market indicators {folder}")
    return files


def read_layout(spark: SparkSession, file: Path) -> DataFrame:
    """One row per cell of a file: origin, day, series_id, value and known_from as text, and the malformed line where there is
    one. known_from is null where the file does not tell it.

    Raises LandingError for an unknown layout.
    """
    names = read_columns(file, Csv())
    rows = read_files(spark, [(file.name, file, sha256_of(file), names)], Csv())
    untold = F.lit(None).cast("string").alias("known_from")
    origin = (F.col("_source_file"), F.col("_row_number"), F.col("_malformed"))
    if names[0] == "sasdate":
        values = rows.where(~F.coalesce("sasdate", F.lit("")).ilike("transform%")).unpivot(
            [*origin, F.col("sasdate")], [F.col(f"`{name}`") for name in names[1:]], "series_id", "value"
        )
        # A malformed line has no cells of its own: it is told once.
        values = values.where(F.col("_malformed").isNull() | (F.col("series_id") == names[1]))
        return values.select(*origin, F.col("sasdate").alias("day"), "series_id", "value", untold)
    if [name.lower() for name in names] == ["date", "rate"]:
        series_id = F.lit(BASE_RATE).alias("series_id")
        return rows.select(*origin, F.col(names[0]).alias("day"), series_id, F.col(names[1]).alias("value"), untold)
    if names == list(SERIES_COLUMNS):
        told_on = F.nullif("known_from", F.lit("")).alias("known_from")
        return rows.select(*origin, F.col("observed_on").alias("day"), "series_id", "value", told_on)
    raise LandingError(
        f"{file}: unknown layout, columns {names[:6]}: known are FRED-MD (sasdate, …), Bank of Korea (date, RATE) and "
        f"{', '.join(SERIES_COLUMNS)}"
    )


def publication_day(series_id: Column, observed_on: Column) -> Column:
    """The last day of the month in which a value is first published, by its series' lag."""
    lags = F.create_map(*(F.lit(part) for pair in LAG_MONTHS.items() for part in pair))
    months = F.coalesce(F.try_element_at(lags, series_id), F.lit(FRED_LAG_MONTHS))
    return F.last_day(F.add_months(observed_on, months))


def build_indicators(cells: DataFrame) -> DataFrame:
    """Cells as rows of silver.market_indicator with the rules they break; an empty cell is no value, hence no row.

    is_vintage: whether the file itself told since when the value is known.
    """
    text, day = F.trim("value"), F.trim("day")
    observed_on = F.coalesce(F.try_to_date(day, "M/d/yyyy"), F.try_to_date(day, "yyyy-MM-dd"))
    value = text.try_cast("double")
    told_on, is_vintage = F.try_to_date("known_from"), F.col("known_from").isNotNull()
    malformed = F.col("_malformed").isNotNull()
    broken = (
        F.when(malformed, "malformed_row"),
        F.when(~malformed & observed_on.isNull(), "parse:observed_on"),
        F.when(~malformed & value.isNull(), "parse:value"),
        F.when(~malformed & is_vintage & told_on.isNull(), "parse:known_from"),
    )
    is_cell = malformed | ((F.coalesce(text, F.lit("")) != "") & (F.coalesce(day, F.lit("")) != ""))
    rows = cells.where(is_cell).select(
        "series_id", F.trunc(observed_on, "month").alias("observed_on"), value.alias("value"),
        F.col("_source_file").alias("source_file"), F.col("_row_number").alias("row_number"), spoken(*broken).alias(BROKEN),
        told_on.alias("told_on"), is_vintage.alias("is_vintage"),
    ).withColumn("known_from", F.coalesce("told_on", publication_day(F.col("series_id"), F.col("observed_on"))))
    return with_row_rules(rows.select(*MARKET_INDICATOR.columns, "is_vintage", BROKEN), MARKET_INDICATOR)


def build_new_values(values: DataFrame, silver: DataFrame, as_of_date: date) -> DataFrame:
    """The values that silver does not have: new ones, and revisions, known from the as-of date at the earliest.

    Of two files with the same month the one with the later name counts: they are named by their date. Of a series whose
    vintages are told, these alone count, each known from its own day.
    """
    vintages = values.where("is_vintage")
    untold = values.where("NOT is_vintage").join(F.broadcast(vintages.select("series_id").distinct()), "series_id", "left_anti")
    new_vintages = vintages.dropDuplicates(list(MARKET_INDICATOR.key)).join(silver, list(MARKET_INDICATOR.key), "left_anti")
    newest = Window.partitionBy("series_id", "observed_on").orderBy(F.col("known_from").desc())
    before = silver.withColumn("place", F.row_number().over(newest)).where("place = 1").select(
        "series_id", "observed_on", F.col("value").alias("value_before"), F.col("known_from").alias("known_before")
    )
    first = Window.partitionBy("series_id", "observed_on").orderBy(F.col("source_file").desc(), "row_number")
    new_values = (
        untold.withColumn("place", F.row_number().over(first)).where("place = 1")
        .join(before, ["series_id", "observed_on"], "left")
        .where(F.col("known_before").isNull() | (F.col("value") != F.col("value_before")))
        .withColumn("known_from", F.when(F.col("known_before").isNull(), F.col("known_from")).otherwise(
            F.greatest("known_from", F.lit(as_of_date), F.date_add("known_before", 1))
        ))
    )
    columns = MARKET_INDICATOR.columns
    return new_values.select(*columns).unionByName(new_vintages.select(*columns))


def append_indicators(lake: Lake, raw: list[DataFrame], as_of_date: date, batch_id: str) -> None:
    """Append new values and revisions to silver, and rows that break a rule to quarantine."""
    cells = reduce(DataFrame.unionByName, raw).withColumn("_batch_id", F.lit(batch_id)).persist()
    indicators = build_indicators(cells).persist()
    good = indicators.where(F.size(BROKEN) == 0)
    lake.append(MARKET_INDICATOR, build_new_values(good, lake.read(MARKET_INDICATOR), as_of_date))
    broken = build_quarantine(build_broken(indicators, MARKET_INDICATOR), {"macro": cells}, MARKET_INDICATOR)
    there = lake.read(QUARANTINE).select(*QUARANTINE.key)
    # A wide row has many cells; its first broken one speaks for it.
    lake.append(QUARANTINE, broken.dropDuplicates(list(QUARANTINE.key)).join(there, list(QUARANTINE.key), "left_anti"))
    indicators.unpersist()
    cells.unpersist()
