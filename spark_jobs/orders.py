"""Investors' orders: from files into intake, from intake into silver; a bad one is refused and hurts no other."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from psycopg2.extras import execute_values
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from conf.settings import Settings
from conf.source import Orders, Source
from conf.spark import hadoop_path, is_local
from conf.tables import INVESTOR_ORDER, MAX_ID
from spark_jobs.database import connect
from spark_jobs.lake import Lake
from spark_jobs.landing import Landed, LandingError, checked_columns, csv_rows, readable, sha256_of, text_encoding

_INTAKE_COLUMNS = ("order_id", "investor_id", "amount", "currency", "target_return", "placed_at", "status")
# What intake.orders_as_of tells beside them; all times come as UTC.
_TIMES = ("placed_at", "known_at", "status_changed_at")
_KNOWN_COLUMNS = (*_INTAKE_COLUMNS, "known_at", "status_changed_at")
_KNOWN_SCHEMA = ", ".join(f"{column} STRING" for column in _KNOWN_COLUMNS)
# Nobody means more than half their money back within a year as a return on loans.
MAX_TARGET_RETURN = 0.5
_PAGE_ROWS = 1000


def load_order_files(settings: Settings, source: Source, files: list[tuple[Landed, Path]], as_of_date: date) -> None:
    """Insert the orders of CSV files into intake.investor_order; an order that is there stays as it is.

    An order without a time counts as placed when its file landed; one whose time cannot be read comes without, and is
    refused for it. A line that is no whole row, or has no id, is refused by its place in the file. Read as a stream.
    Raises LandingError for a file that cannot be read, or that is not the one the night was opened with.
    """
    for landed, path in files:
        if sha256_of(path) != landed.sha256:
            raise LandingError(f"{path}: has changed since the night was opened: open the night again")
        day = source.files[landed.kind].day(landed.path)
        landed_at, untold = (
            midnight and datetime.combine(midnight, time.min, ZoneInfo(source.timezone)) for midnight in (day, day or as_of_date)
        )
        refusals: list[_Refusal] = []
        with closing(connect(settings, "intake")) as session, session, session.cursor() as cursor:
            inserted = execute_values(
                cursor,
                f"INSERT INTO intake.investor_order ({', '.join(_INTAKE_COLUMNS)}, source_file, landed_at) VALUES %s "
                "ON CONFLICT (order_id) DO NOTHING RETURNING order_id",
                ((*row, landed.path, landed_at) for row in _order_rows(source, landed, path, untold, refusals)),
                page_size=_PAGE_ROWS,
                fetch=True,
            )
        # An order that was there before is not refused for what a later file says of it.
        new = {order_id for (order_id,) in inserted}
        refuse(settings, [
            (refusal.order_id, refusal.reasons) if refusal.order_id in new
            else (refusal.place, [*([f"order {refusal.order_id}"] if refusal.order_id else []), *refusal.reasons])
            for refusal in refusals
        ])


@dataclass(frozen=True)
class _Refusal:
    """A row of an order file that is refused. order_id: null where the row has none that can be read; place: file and row."""

    order_id: str | None
    place: str
    reasons: list[str]


def _order_rows(
    source: Source, landed: Landed, path: Path, untold: datetime, refusals: list[_Refusal]
) -> Iterator[tuple[str | datetime | None, ...]]:
    """The rows of an order file in _INTAKE_COLUMNS; those that are no rows go to refusals.

    untold: when an order was placed that does not tell.
    """
    orders: Orders = source.orders
    written = source.files[landed.kind].csv
    (names,) = checked_columns(source, landed.kind, [path])
    opened = gzip.open if path.suffix == ".gz" else open
    with readable(path, written), opened(path, "rb") as stream:
        lines = filter(str.strip, io.TextIOWrapper(stream, text_encoding(written), newline=""))
        if written.header:
            next(lines, None)
        for number, line in enumerate(lines, 1):
            place = f"{landed.path}:{number}"
            # Line by line: a quote that nobody closes must not swallow the orders after it.
            try:
                (fields,) = csv_rows([line], written, strict=True)
            except csv.Error as error:
                refusals.append(_Refusal(None, place, [f"not readable as CSV: {error}"]))
                continue
            row = dict(zip(names, fields, strict=False))
            order = {field: row.get(column, "").strip() or None for field, column in orders.columns.items()}
            problem = (
                f"{len(fields)} fields instead of {len(names)}" if len(fields) != len(names)
                else "a NUL character" if any("\0" in field for field in fields)
                else "no order id" if not order["order_id"]
                else f"an id of more than {MAX_ID} characters" if any(len(order[field] or "") > MAX_ID for field in ("order_id", "investor_id"))
                else None
            )
            if problem:
                refusals.append(_Refusal(None, place, [problem]))
                continue
            placed_at, broken = _placed_at(order.get("placed_at"), untold)
            if broken:
                refusals.append(_Refusal(order["order_id"], place, broken))
            yield (
                order["order_id"], order["investor_id"], order["amount"], order.get("currency"), order["target_return"], placed_at, "open",
            )


def _placed_at(text: str | None, untold: datetime) -> tuple[datetime | None, list[str]]:
    """When an order was placed, null with what is wrong with the text; a time without zone is in the source's zone."""
    if text is None:
        return untold, []
    try:
        placed = datetime.fromisoformat(text)
    except ValueError:
        return None, [f"placed_at {text} is not a time"]
    return (placed if placed.tzinfo else placed.replace(tzinfo=untold.tzinfo)), []


def refuse(settings: Settings, refusals: Iterator[tuple[str, list[str]]] | list[tuple[str, list[str]]]) -> None:
    """Write refused orders with their reasons; the first refusal of an order stands."""
    with closing(connect(settings, "publisher")) as session, session, session.cursor() as cursor:
        execute_values(
            cursor,
            "INSERT INTO intake.order_refusal (order_id, reasons) VALUES %s ON CONFLICT (order_id) DO NOTHING",
            refusals,
            page_size=_PAGE_ROWS,
        )


def ingest_orders(lake: Lake, source: Source, as_of_date: date) -> None:
    """Take the orders placed by the end of the as-of date from intake into silver, and refuse the bad ones.

    An order comes once, and again when the front end has changed its status by then. What happened after the as-of date
    has no part in it, so that a night that is run again, however late, finds the same.
    """
    lake.create(INVESTOR_ORDER)
    with _exchanged(lake, as_of_date, source.timezone) as url:
        placed = lake.spark.read.csv(url, schema=_KNOWN_SCHEMA, header=True, multiLine=True, escape='"', mode="FAILFAST")
        silver = lake.read(INVESTOR_ORDER)
        judged = with_refusal_reasons(build_new_orders(placed, silver, as_of_date), source.currency, lake.settings.night.currency_decimals)
        judged.persist()
        refuse(lake.settings, (
            (row["order_id"], list(row["reasons"]))
            for row in judged.where(F.size("reasons") > 0).select("order_id", "reasons").toLocalIterator()
        ))
        good = build_orders(judged.where(F.size("reasons") == 0), source.currency, source.timezone)
        # A change that is known from the day after this one is told again when this day is run again.
        lake.append(INVESTOR_ORDER, good.join(silver, list(INVESTOR_ORDER.key), "left_anti"))
        judged.unpersist()


def build_new_orders(placed: DataFrame, silver: DataFrame, as_of_date: date) -> DataFrame:
    """The orders of intake that silver does not have, or has with another status on the as-of date.

    Adds last_known: since when silver has the order, null for a new one.
    """
    told = F.when(F.col("known_from") <= F.lit(as_of_date), F.col("known_from"))
    newest = silver.groupBy("order_id").agg(
        F.max_by("status", told).alias("known_status"), F.coalesce(F.max(told), F.min("known_from")).alias("last_known")
    )
    is_changed = F.coalesce(_text("status"), F.lit("open")) != F.col("known_status")
    return placed.join(newest, "order_id", "left").where(F.col("last_known").isNull() | is_changed).drop("known_status")


@contextmanager
def _exchanged(lake: Lake, as_of_date: date, timezone: str) -> Iterator[str]:
    """The URL of a CSV file with the orders of intake, where driver and executors can read it; removed in the end."""
    settings = lake.settings
    file = settings.market / "exchange" / f"investor_order_{as_of_date}.csv"
    _copy_intake(settings, file, day_end(as_of_date, timezone))
    try:
        if is_local(settings):
            yield file.as_uri()
            return
        path, system = hadoop_path(lake.spark, f"{lake.settings.lake_url}/_exchange/{file.name}")
        system.copyFromLocalFile(False, True, hadoop_path(lake.spark, file.as_uri())[0], path)
        try:
            yield path.toString()
        finally:
            system.delete(path, True)
    finally:
        file.unlink()


def day_end(as_of_date: date, timezone: str) -> datetime:
    """The moment at which a day of the source's time zone is over."""
    return datetime.combine(as_of_date + timedelta(days=1), time.min, ZoneInfo(timezone))


def _copy_intake(settings: Settings, file: Path, moment: datetime) -> None:
    """Copy orders as they were known before a moment, but for those that have been refused, to a CSV file, by PostgreSQL's
    COPY: never through this process's memory."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(connect(settings, "publisher")) as session, session, session.cursor() as cursor, file.open("wb") as target:
        columns = ", ".join(f"{column} AT TIME ZONE 'UTC' AS {column}" if column in _TIMES else column for column in _KNOWN_COLUMNS)
        query = cursor.mogrify(
            f"SELECT {columns} FROM intake.orders_as_of(%s) AS placed "
            "WHERE order_id <> '' AND NOT EXISTS (SELECT FROM intake.order_refusal WHERE order_refusal.order_id = placed.order_id) "
            "ORDER BY order_id",
            (moment.astimezone(UTC),),
        ).decode()
        cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT csv, HEADER)", target)


def with_refusal_reasons(orders: DataFrame, market_currency: str, currency_decimals: int) -> DataFrame:
    """Orders with reasons: why each is refused, empty for a good one. Amount and target return are all that is required.

    currency_decimals: how many the market's currency has.
    """
    amount, target = _number("amount"), _number("target_return")
    reasons = F.array(
        F.when(_text("amount").isNull(), "no amount"),
        F.when(_text("amount").isNotNull() & amount.isNull(), F.concat(F.lit("amount is no number: "), F.col("amount"))),
        F.when(amount <= 0, F.concat(F.lit("amount is not positive: "), F.col("amount"))),
        F.when(
            amount != F.round(amount, currency_decimals),
            F.concat(F.lit(f"amount has more than {currency_decimals} decimals: "), F.col("amount")),
        ),
        F.when(amount >= 1e15, F.concat(F.lit("amount is absurd: "), F.col("amount"))),
        F.when(_text("target_return").isNull(), "no target return"),
        F.when(_text("target_return").isNotNull() & target.isNull(), F.concat(F.lit("target return is no number: "), F.col("target_return"))),
        F.when(
            ~target.between(0, MAX_TARGET_RETURN),
            F.concat(F.lit(f"target return is a fraction a year between 0 and {MAX_TARGET_RETURN}, not "), F.col("target_return")),
        ),
        F.when(
            _text("currency") != market_currency,
            F.concat(F.lit("unknown currency "), F.col("currency"), F.lit(f": this market's is {market_currency}")),
        ),
        F.when(~F.coalesce(_text("status"), F.lit("open")).isin("open", "filled", "cancelled"), F.concat(F.lit("unknown status "), F.col("status"))),
        F.when(_text("placed_at").isNull(), "no time of placing"),
        F.when(_text("placed_at").isNotNull() & _time("placed_at").isNull(), F.concat(F.lit("time of placing is no time: "), F.col("placed_at"))),
    )
    return orders.withColumn("reasons", F.array_compact(reasons))


def _text(column: str) -> Column:
    text = F.trim(F.col(column))
    return F.when(text != "", text)


def _time(column: str) -> Column:
    # PostgreSQL knows times that Spark does not: -infinity, and those before Christ.
    return F.try_to_timestamp(F.col(column))


def _number(column: str) -> Column:
    return _text(column).try_cast("decimal(38,6)")


def build_orders(orders: DataFrame, market_currency: str, timezone: str) -> DataFrame:
    """silver.investor_order from good orders (see build_new_orders), known from the day, in the market's time zone, on
    which the order was placed and had landed; with another status from the day of its change, a day later where the
    order was told with the former status on that very day.

    An order without an investor is an investor of its own; one without a currency is in the market's.
    """

    def day(column: str) -> Column:
        return F.from_utc_timestamp(_time(column), timezone).cast("date")

    changed_on = F.greatest(day("status_changed_at"), F.date_add("last_known", 1))
    return orders.select(
        "order_id",
        F.coalesce(_text("investor_id"), F.col("order_id")).alias("investor_id"),
        _number("amount").cast("decimal(18,2)").alias("amount"),
        F.coalesce(_text("currency"), F.lit(market_currency)).alias("currency"),
        _number("target_return").cast("double").alias("target_return"),
        _time("placed_at").alias("placed_at"),
        F.coalesce(_text("status"), F.lit("open")).alias("status"),
        F.when(F.col("last_known").isNull(), day("known_at")).otherwise(changed_on).alias("known_from"),
        F.lit("intake.investor_order").alias("source_file"),
        # A database row has no number; its order_id finds it.
        F.lit(0).cast("bigint").alias("row_number"),
    )
