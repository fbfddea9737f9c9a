"""ingest: landed files into bronze, new bronze rows into silver or quarantine, orders out of intake; then the gates.

Only files that have not been mapped yet are mapped, and they count as mapped when the gates have held: a night that
failed, or was killed, is simply run again. A row is known by file and number, so mapping it again adds nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import reduce

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from conf.settings import Gates, Settings
from conf.source import Source, load_source
from conf.tables import (
    ACCOUNT_MONTH,
    BORROWER,
    COMPANY,
    CREDIT_INQUIRY,
    CREDIT_LINE,
    CREDIT_REPORT,
    FILING,
    INGEST_RECORDS,
    LOAN,
    MARKET_INDICATOR,
    OF_COMPANIES,
    QUARANTINE,
    REPAYMENT,
    SILVER,
    STATEMENT_ITEM,
    TABLES,
    Table,
)
from expectations.measures import Bound
from spark_jobs.database import alone, still_alone
from spark_jobs.gates import Checked, check_tables, withdraw_results
from spark_jobs.lake import Lake
from spark_jobs.landing import (
    Landed,
    bronze_rows,
    land_files,
    mark_mapped,
    mark_mapping,
    order_files,
    origin_of,
    versions_before_failure,
)
from spark_jobs.manifest import Night, current_night, pin_silver_versions, record_ingested
from spark_jobs.mapping import BROKEN, PARENTS, build_broken, build_checked, build_quarantine, with_known_keys
from spark_jobs.orders import ingest_orders, load_order_files

logger = logging.getLogger(__name__)

# Parents before children; the tables of one rank do not look at each other and are mapped side by side.
RANKS: tuple[tuple[Table, ...], ...] = (
    (BORROWER, COMPANY), (CREDIT_REPORT, CREDIT_LINE, CREDIT_INQUIRY, ACCOUNT_MONTH, LOAN, FILING), (REPAYMENT, STATEMENT_ITEM),
)
_SIDE_BY_SIDE = 3


def run(spark: SparkSession, settings: Settings, as_of_date: date, training: bool = False) -> None:
    """Bring silver to the as-of date and pin its versions for the night, or for the training of that day.

    Raises LandingError for files that cannot be taken in, and GateFailed where a table does not hold; what was
    quarantined is written before.
    """
    with alone(settings, "ingest") as session:
        night = current_night(settings, as_of_date, training)
        source = load_source(settings.source).of_product(settings.product)
        _ingest(Lake(spark, settings), source, night, lambda: still_alone(session, "ingest"))


def _ingest(lake: Lake, source: Source, night: Night, make_sure: Callable[[], None]) -> None:
    """make_sure raises where another ingest may have begun meanwhile."""
    settings, as_of_date = lake.settings, night.as_of_date
    withdraw_results(settings, "ingest", night.batch_id)
    orders = order_files(lake, source, night)
    load_order_files(settings, source, orders, as_of_date)
    landing = land_files(lake, source, night)
    of_companies = settings.product == "company"
    tables = [table for table in SILVER if table is MARKET_INDICATOR or (table in OF_COMPANIES) == of_companies]
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        list(pool.map(lake.create, (*tables, QUARANTINE)))
    take_back(lake)
    mapped_tables = [table for rank in RANKS for table in rank if table.name in source.tables]
    mark_mapping(lake, landing.pending, night, versions(lake, mapped_tables) if landing.pending else {})
    map_files(lake, source, landing.pending, landing.ever)
    if not of_companies:
        ingest_orders(lake, source, as_of_date)

    per_file = landed_counts(lake, source, mapped_tables)
    of_night = {table: count_rows(per_file[table.name], landing.of_batch(night.batch_id)) for table in mapped_tables}
    record_ingested(settings, night, {table.name: counts for table, counts in of_night.items()})
    shares = {
        table: broken_share(settings.gates, table, counts, count_rows(per_file[table.name], landing.ever))
        for table, counts in of_night.items()
    }
    checks = [Checked(table, more={"broken_share": share}) for table, share in shares.items()]
    checks += [Checked(table) for table in INGEST_RECORDS[settings.product]]
    check_tables(lake, checks, as_of_date, night.batch_id)
    make_sure()
    mark_mapped(lake, [*landing.pending, *(landed for landed, _ in orders)], night)
    pin_silver_versions(settings, night, versions(lake, tables))


def versions(lake: Lake, tables: Sequence[Table]) -> dict[str, int]:
    """The current Delta version of each table, by name."""
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        return dict(zip((table.name for table in tables), pool.map(lake.version, tables), strict=True))


def take_back(lake: Lake) -> None:
    """Bring silver back to what it was before files whose gates did not hold, or whose ingest was killed.

    Their rows would stand in the way of the same files delivered right, and a later night would score on them.
    """
    for name, version in versions_before_failure(lake).items():
        if lake.version(TABLES[name]) != version:
            logger.warning("silver table %s goes back to version %s: an ingest after it did not end well", name, version)
            lake.restore(TABLES[name], version)


def map_files(lake: Lake, source: Source, files: list[Landed], ever: list[Landed]) -> None:
    """Append the rows of landed files to silver, those that break a rule to quarantine in one commit at the end.

    ever: all files that have landed, these included, for what mappings join. What an earlier attempt at the same files
    left in quarantine is replaced.
    """
    raw = _rows_by_kind(lake, files)
    joined = {join.file for mappings in source.tables.values() for mapping in mappings for join in mapping.join}
    landed = _rows_by_kind(lake, [file for file in ever if file.kind in joined])
    kept: list[DataFrame] = []
    quarantine: list[DataFrame] = []
    for rank in RANKS:
        tables = [table for table in rank if any(mapping.from_file in raw for mapping in source.tables.get(table.name, ()))]
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            for checked, broken, rows in pool.map(lambda table: _map_table(lake, source, table, raw, landed), tables):
                kept += [checked, broken]
                quarantine += rows
    if files:
        nothing = lake.read(QUARANTINE).limit(0)
        lake.replace_where(QUARANTINE, reduce(DataFrame.unionByName, quarantine, nothing), origin_of(files))
    for frame in kept:
        frame.unpersist()


def _rows_by_kind(lake: Lake, files: list[Landed]) -> dict[str, DataFrame]:
    kinds: dict[str, list[Landed]] = {}
    for file in files:
        kinds.setdefault(file.kind, []).append(file)
    return {kind: bronze_rows(lake, kind, of_kind) for kind, of_kind in kinds.items()}


def _map_table(
    lake: Lake, source: Source, table: Table, raw: Mapping[str, DataFrame], landed: Mapping[str, DataFrame]
) -> tuple[DataFrame, DataFrame, list[DataFrame]]:
    """Append a table's good rows to silver; returns all its rows and the broken ones, both persisted, and the latter
    as quarantine rows, if there are any."""
    silver = {parent.name: lake.read(parent) for parent in PARENTS.get(table.name, ())}
    rows = build_checked(source, table, raw, silver, landed).persist()
    checked = with_known_keys(rows, table, _of_same_days(lake.read(table), table, rows)).persist()
    lake.append(table, checked.where((F.size(BROKEN) == 0) & ~F.col("already_there")))
    rows.unpersist()
    of_table = {kind: frame for kind, frame in raw.items() if kind in {mapping.from_file for mapping in source.tables[table.name]}}
    # Counted, its size is known to Spark: where it is small, raw rows need not be shuffled to meet it.
    broken = build_broken(checked.where(~F.col("already_there")), table).persist()
    return checked, broken, [build_quarantine(broken, of_table, table)] if broken.count() else []


def _of_same_days(silver: DataFrame, table: Table, rows: DataFrame) -> DataFrame:
    """The rows of silver that can have a key of the given ones: files of earlier nights are not even opened."""
    if "known_from" not in table.key:
        return silver
    # As texts: a file may hold days that Python has no date for.
    first, last = rows.agg(F.min("known_from").cast("string"), F.max("known_from").cast("string")).first()
    return silver.where(F.col("known_from").between(F.lit(first).cast("date"), F.lit(last).cast("date")))


def landed_counts(lake: Lake, source: Source, tables: list[Table]) -> dict[str, list[Row]]:
    """By table, for each file: how many raw rows are in silver, and how many in quarantine by the batch that landed them.

    A raw row of which a table function makes several counts once. One Spark job; as many rows as there are files.
    """
    parts = []
    for table in tables:
        rows = lake.read(table).select("source_file", "row_number")
        rows = rows.distinct() if any(mapping.function for mapping in source.tables[table.name]) else rows
        parts.append(_per_file(table, rows.withColumn("batch_id", F.lit(None).cast("string"))))
        parts.append(_per_file(table, lake.read(QUARANTINE).where(F.col("table_name") == table.name)))
    found: dict[str, list[Row]] = {table.name: [] for table in tables}
    for row in reduce(DataFrame.unionByName, parts).toLocalIterator():
        found[row["name"]].append(row)
    return found


def _per_file(table: Table, rows: DataFrame) -> DataFrame:
    return rows.groupBy("source_file", "batch_id").agg(F.count(F.lit(1)).alias("rows")).withColumn("name", F.lit(table.name))


def count_rows(per_file: list[Row], files: list[Landed]) -> tuple[int, int]:
    """The raw rows of some files, and how many of them are in quarantine.

    A file that was delivered again, repaired, has left the broken rows of its first version there: they do not count.
    """
    paths = {file.path for file in files}
    versions = {(file.path, file.batch_id) for file in files}
    good = sum(row["rows"] for row in per_file if row["batch_id"] is None and row["source_file"] in paths)
    broken = sum(row["rows"] for row in per_file if (row["source_file"], row["batch_id"]) in versions)
    return good + broken, broken


def broken_share(gates: Gates, table: Table, of_night: tuple[int, int], ever: tuple[int, int]) -> tuple[float | None, Bound]:
    """The share of a night's rows that broke a rule, and its limit; None where nothing landed.

    Rows so few that a single broken one is over the limit are judged together with all before them, unless all of
    several are broken.
    """
    limit = gates.max_broken_share_by_table.get(table.name, gates.max_broken_share)
    bound = Bound(None, limit, f"share of the night's rows of {table.name} in quarantine")
    landed, broken = of_night
    if landed == 0:
        return None, bound
    if landed * limit >= 1 or limit == 0 or 1 < landed == broken:
        return broken / landed, bound
    return ever[1] / ever[0], bound
