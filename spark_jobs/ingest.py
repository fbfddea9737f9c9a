"""ingest: landed files into bronze, new bronze rows into silver or quarantine, orders out of intake; then the gates.

Only files that have not been mapped yet are mapped, and they count as mapped when the gates have held: a night that
failed, or was killed, is simply run again. A row is known by file and number, so mapping it again adds nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from conf.settings import Gates, Settings
from conf.source import Source, load_source
from conf.tables import (
    ACCOUNT_MONTH,
    BORROWER,
    CREDIT_INQUIRY,
    CREDIT_LINE,
    CREDIT_REPORT,
    INVESTOR_ORDER,
    LOAN,
    QUARANTINE,
    REPAYMENT,
    SILVER,
    Table,
)
from expectations.measures import Bound
from spark_jobs.gates import Checked, check_tables
from spark_jobs.lake import Lake
from spark_jobs.landing import Landed, bronze_rows, land_files, mark_mapped, order_files
from spark_jobs.manifest import Night, current_night, pin_silver_versions, record_ingested
from spark_jobs.mapping import BROKEN, build_checked, build_quarantine, with_known_keys
from spark_jobs.orders import ingest_orders, load_order_files

logger = logging.getLogger(__name__)

# Parents before children; the tables of one rank do not look at each other and are mapped side by side.
RANKS: tuple[tuple[Table, ...], ...] = (
    (BORROWER,), (CREDIT_REPORT, CREDIT_LINE, CREDIT_INQUIRY, ACCOUNT_MONTH, LOAN), (REPAYMENT,),
)
_SIDE_BY_SIDE = 3


def run(spark: SparkSession, settings: Settings, as_of_date: date) -> None:
    """Bring silver to the as-of date and pin its versions for the night.

    Raises LandingError for files that cannot be taken in, and GateFailed where a table does not hold; what was
    quarantined is written before.
    """
    night = current_night(settings, as_of_date)
    source = load_source(settings.source)
    lake = Lake(spark, settings)

    orders = order_files(lake, source, night)
    load_order_files(settings, source, orders, as_of_date)
    pending, mapped_before = land_files(lake, source, night)
    for table in (*SILVER, QUARANTINE):
        lake.create(table)
    map_files(lake, source, pending, night)
    ingest_orders(lake, source, as_of_date)

    files = [*pending, *mapped_before]
    tables = [table for rank in RANKS for table in rank if table.name in source.tables]
    counts = landed_counts(lake, source, tables, files)
    record_ingested(settings, night, {name: (landed, broken) for name, (landed, broken, _, _) in counts.items()})
    checks = [Checked(table, more={"broken_share": broken_share(settings.gates, table, *counts[table.name])}) for table in tables]
    check_tables(lake, [*checks, Checked(INVESTOR_ORDER)], as_of_date, night.batch_id)
    mark_mapped(lake, [*pending, *(landed for landed, _ in orders)], night)
    pin_silver_versions(settings, night, {table.name: lake.version(table) for table in SILVER})


def map_files(lake: Lake, source: Source, files: list[Landed], night: Night) -> None:
    """Append the rows of landed files to silver, those that break a rule to quarantine in one commit at the end."""
    kinds: dict[str, list[Landed]] = {}
    for file in files:
        kinds.setdefault(file.kind, []).append(file)
    raw = {kind: bronze_rows(lake, kind, landed) for kind, landed in kinds.items()}
    checked: list[DataFrame] = []
    broken: list[DataFrame] = []
    for rank in RANKS:
        tables = [table for table in rank if any(mapping.from_file in raw for mapping in source.tables.get(table.name, ()))]
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            for frame, quarantine in pool.map(lambda table: _map_table(lake, source, table, raw, night), tables):
                checked.append(frame)
                broken.append(quarantine)
    if broken:
        found = reduce(DataFrame.unionByName, broken)
        there = lake.read(QUARANTINE).select(*QUARANTINE.key)
        lake.append(QUARANTINE, found.join(there, list(QUARANTINE.key), "left_anti"))
    for frame in checked:
        frame.unpersist()


def _map_table(lake: Lake, source: Source, table: Table, raw: Mapping[str, DataFrame], night: Night) -> tuple[DataFrame, DataFrame]:
    """Append a table's good rows to silver; returns all its rows, persisted, and the broken ones as quarantine rows."""
    silver = {parent.name: lake.read(parent) for parent in (BORROWER, LOAN)}
    checked = with_known_keys(build_checked(source, table, raw, silver), table, lake.read(table)).persist()
    lake.append(table, checked.where((F.size(BROKEN) == 0) & ~F.col("already_there")))
    of_table = {kind: frame for kind, frame in raw.items() if kind in {mapping.from_file for mapping in source.tables[table.name]}}
    broken = checked.where((F.size(BROKEN) > 0) & ~F.col("already_there"))
    return checked, build_quarantine(broken, of_table, table, night.batch_id)


def landed_counts(
    lake: Lake, source: Source, tables: list[Table], files: list[Landed]
) -> dict[str, tuple[int, int, int, int]]:
    """By table: raw rows of these files, how many of them are in quarantine, and both over all files ever.

    A raw row of which a table function makes several counts once. One Spark job.
    """
    paths: dict[str, list[str]] = {}
    for file in files:
        paths.setdefault(file.kind, []).append(file.path)
    parts = []
    for table in tables:
        mappings = source.tables[table.name]
        own = [path for mapping in mappings for path in paths.get(mapping.from_file, [])]
        is_own = F.col("source_file").isin(own) if own else F.lit(False)
        rows = lake.read(table).select("source_file", "row_number")
        rows = rows.distinct() if any(mapping.function for mapping in mappings) else rows
        broken = lake.read(QUARANTINE).where(F.col("table_name") == table.name)
        parts += [_counted(table, "good", rows, is_own), _counted(table, "broken", broken, is_own)]
    found = {(row["name"], row["what"]): row for row in reduce(DataFrame.unionByName, parts).toLocalIterator()}
    return {
        table.name: (
            found[table.name, "good"]["own"] + found[table.name, "broken"]["own"], found[table.name, "broken"]["own"],
            found[table.name, "good"]["ever"] + found[table.name, "broken"]["ever"], found[table.name, "broken"]["ever"],
        )
        for table in tables
    }


def _counted(table: Table, what: str, rows: DataFrame, is_own: Column) -> DataFrame:
    return rows.agg(F.count_if(is_own).alias("own"), F.count(F.lit(1)).alias("ever")).select(
        F.lit(table.name).alias("name"), F.lit(what).alias("what"), "own", "ever"
    )


def broken_share(
    gates: Gates, table: Table, landed: int, broken: int, landed_ever: int, broken_ever: int
) -> tuple[float | None, Bound]:
    """The share of a night's rows that broke a rule, and its limit; None where nothing landed.

    So few rows that a single broken one is over the limit are judged together with all before them, unless all of
    several are broken.
    """
    limit = gates.max_broken_share_by_table.get(table.name, gates.max_broken_share)
    bound = Bound(None, limit, f"share of the night's rows of {table.name} in quarantine")
    if landed == 0:
        return None, bound
    if landed * limit >= 1 or limit == 0 or 1 < landed == broken:
        return broken / landed, bound
    return broken_ever / landed_ever, bound
