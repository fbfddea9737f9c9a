"""Job ``simulate``: lands the simulated market's raw files up to the as-of date, and its true default probabilities.

Files lie in ``<data folder>/<table>/<day>/part-*.csv``. The first landing is one folder per table, named by its as-of
date, with the history; every later day has a folder of its own. A table without records on a day has no folder; the
orders' folder comes last, so where it stands the day is complete. Days that are there are left alone.
Tasks write their parts themselves (one pass over the process makes all tables), so on a cluster the data folder is one
that every executor sees under the same path.
"""

from __future__ import annotations

import io
import os
import shutil
from calendar import monthrange
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import ceil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf.settings import Settings, Simulation
from conf.tables import TRUTH_DEFAULT
from models.simulated_companies import COMPANY_LAYOUTS, companies_of, export_companies
from models.simulated_export import LAYOUTS, Window, customer_no, export, indicator_records, order_records
from models.simulated_market import (
    TAIL_MONTHS,
    Book,
    day_number,
    month_of,
    months_of_days,
    tenures,
    true_default_probability,
    walk,
)
from spark_jobs.lake import Lake
from spark_jobs.landed_answers import replace_file

# Borrowers per task, and so files per table: a history takes a task about a minute, a night some twenty seconds.
HISTORY_TASK_BORROWERS = 50_000
NIGHT_TASK_BORROWERS = 100_000
# Below this a history is not split further, however many cores there are.
MIN_TASK_BORROWERS = 5_000
# Seats drawn at once: a history of 2,500 seats needs some 330 MB in a Python worker, one of 10,000 needs 600.
BATCH_BORROWERS = 2_500
# Companies per task: one is a few hundred numbers.
TASK_COMPANIES = 20_000
# Statements told by the first landing: those that a company model learns from, those that it is calibrated and judged by, and their outcomes.
COMPANY_HISTORY_YEARS = 12
INDICATOR_MONTHS = 240
# In the order in which they are moved to where they belong: a day whose orders are there is complete.
TABLES = (*LAYOUTS, *COMPANY_LAYOUTS, "investor_order")

# What some seats have told: table to rows, each with the number of the day on which it was recorded.
Drawn = Mapping[str, tuple[pa.Table, np.ndarray]]


class BeforeTheMarket(ValueError):
    """A day was asked for that lies before the first one that has landed."""


class AnotherMarket(ValueError):
    """The files that are there were drawn with other settings: a day of another market would not fit to them."""


def run(spark: SparkSession, settings: Settings, as_of_date: date) -> None:
    """Land what is missing up to as_of_date, then the truth of that day; running it again changes nothing.

    Raises BeforeTheMarket and AnotherMarket.
    """
    landing, simulation = Landing(settings.data_folder), settings.simulation
    landing.clear()
    first_day = min(landing.days(), default=as_of_date)
    if as_of_date < first_day:
        raise BeforeTheMarket(
            f"the simulated market in {landing.folder} begins on {first_day}, {as_of_date} lies before: choose a later AS_OF=, "
            "or begin anew after `make clean SOURCE=simulated`"
        )
    missing = [day for day in _days(first_day, as_of_date) if not landing.is_complete(day)]
    landing.belongs_to(simulation)
    if first_day in missing:
        land_history(spark, landing, simulation, first_day)
    later = [day for day in missing if day != first_day]
    if later:
        land_days(spark, landing, simulation, later)
    landing.clear()
    landing.write_indicators(indicator_records(simulation, max(as_of_date, *landing.days()), INDICATOR_MONTHS))

    lake = Lake(spark, settings)
    if not lake.exists(TRUTH_DEFAULT) or lake.read_as_of(TRUTH_DEFAULT, as_of_date).isEmpty():
        lake.replace(TRUTH_DEFAULT, build_truth(spark, simulation, as_of_date), as_of_date)


def land_history(spark: SparkSession, landing: Landing, simulation: Simulation, day: date) -> None:
    """Land everything that was recorded by a day, reaching history_months back, in folders of that day."""
    window = Window(day_number(day), day_number(months_before(day, simulation.history_months)), day_number(date(2000, 1, 1)))
    most = max(1, simulation.borrowers // MIN_TASK_BORROWERS)
    tasks = max(min(spark.sparkContext.defaultParallelism, most), ceil(simulation.borrowers / HISTORY_TASK_BORROWERS))
    # Who left before the history is not part of it.
    _land(spark, landing, simulation.borrowers, tasks, _borrowers(simulation, window, gone_for_months=0), one_folder=day)
    statements = Window(window.until, day_number(months_before(day, 12 * COMPANY_HISTORY_YEARS)), 0)
    _land(spark, landing, simulation.companies, _company_tasks(simulation), _companies(simulation, statements), one_folder=day)
    landing.publish(day, order_records(simulation, day))


def land_days(spark: SparkSession, landing: Landing, simulation: Simulation, days: Sequence[date]) -> None:
    """Land the records of single days, each in folders of its own; one pass draws all of them."""
    before = day_number(days[0]) - 1
    folders = {day_number(day): day for day in days}
    tasks = ceil(simulation.borrowers / NIGHT_TASK_BORROWERS)
    window = Window(day_number(days[-1]), before, before)
    # Who left before a night may still have records to come.
    _land(spark, landing, simulation.borrowers, tasks, _borrowers(simulation, window, gone_for_months=TAIL_MONTHS), folders=folders)
    _land(spark, landing, simulation.companies, _company_tasks(simulation), _companies(simulation, window), folders=folders)
    for day in days:
        landing.publish(day, order_records(simulation, day))


def _land(
    spark: SparkSession, landing: Landing, seats: int, tasks: int, draw: Callable[[np.ndarray], Drawn], *,
    one_folder: date | None = None, folders: Mapping[int, date] | None = None,
) -> None:
    """Draw what some seats have told in tasks over them, each writing its own part files into the unfinished landing.

    Every record goes to one_folder, or else to the folder of the day on which it was recorded; days that folders does
    not name are dropped.
    """

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        task = TaskContext.get()
        parts = _Parts(landing.unfinished, task.partitionId(), task.taskAttemptId())
        for some in seat_batches(batches):
            for table, (rows, recorded_on) in draw(some).items():
                if one_folder is not None:
                    parts.append(table, one_folder, rows)
                    continue
                for number in np.unique(recorded_on).tolist():
                    if number in folders:
                        parts.append(table, folders[number], rows.filter(pa.array(recorded_on == number)))
        yield pa.record_batch({"rows": pa.array([parts.finish()], pa.int64())})

    if seats:
        # One number per task reaches the driver: counting makes the tasks write.
        spark.range(0, seats, 1, tasks).mapInArrow(write, "rows BIGINT").agg(F.sum("rows")).first()


def seat_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[np.ndarray]:
    """The seats of a task, a few at a time."""
    for batch in batches:
        seats = batch.column(0).to_numpy()
        yield from (seats[start : start + BATCH_BORROWERS] for start in range(0, len(seats), BATCH_BORROWERS))


def _borrowers(simulation: Simulation, window: Window, gone_for_months: int) -> Callable[[np.ndarray], Drawn]:
    """Draws the raw records of a window, of borrowers not gone for more than so many months before it."""
    first, last = months_of_days(np.array([window.after, window.until])).tolist()

    def draw(seats: np.ndarray) -> Drawn:
        borrowers = tenures(seats, simulation.seed, first - gone_for_months, last, simulation.two_ids_rate)
        # A payment may come a few days before its due date in the next month.
        return export(walk(borrowers, simulation.seed, last + 1), simulation, window)

    return draw


def _companies(simulation: Simulation, window: Window) -> Callable[[np.ndarray], Drawn]:
    """Draws the raw records of a window; a company that has been sold tells its last year in the year after."""
    first, last = (2000 + months_of_days(np.array([window.after, window.until])) // 12).tolist()
    return lambda seats: export_companies(companies_of(seats, simulation, first - 1, last), simulation, window)


def _company_tasks(simulation: Simulation) -> int:
    return ceil(simulation.companies / TASK_COMPANIES)


def build_truth(spark: SparkSession, simulation: Simulation, as_of_date: date) -> DataFrame:
    """True 12-month default probabilities: one row per performing borrower (see true_default_probability)."""

    def truth(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        month = month_of(as_of_date)
        for seats in seat_batches(batches):
            borrowers = tenures(seats, simulation.seed, month - TAIL_MONTHS, month, simulation.two_ids_rate)
            book = walk(borrowers, simulation.seed, month + 1)
            probability = true_default_probability(book, simulation.seed, as_of_date)
            yield from truth_rows(book, as_of_date, probability).to_batches()

    tasks = max(spark.sparkContext.defaultParallelism, ceil(simulation.borrowers / NIGHT_TASK_BORROWERS))
    return spark.range(0, simulation.borrowers, 1, tasks).mapInArrow(truth, TRUTH_DEFAULT.ddl)


def truth_rows(book: Book, as_of_date: date, probability: np.ndarray) -> pa.Table:
    """The true probabilities of a book's borrowers as rows of TRUTH_DEFAULT, without those that have none."""
    known = ~np.isnan(probability)
    return pa.table({
        "borrower_id": customer_no(book.borrowers.number[known]),
        "as_of_date": pa.array([as_of_date] * int(known.sum()), pa.date32()),
        "prob_default_12m": pa.array(probability[known]),
    })


@dataclass(frozen=True)
class Landing:
    """The folder in which files land. What is being written lies under ``.landing`` and is moved as whole folders."""

    folder: Path

    @property
    def unfinished(self) -> Path:
        """Where parts are written before their day is complete."""
        return self.folder / ".landing"

    def clear(self) -> None:
        """Drop what is unfinished: of this run at its end, of a killed one before it."""
        shutil.rmtree(self.unfinished, ignore_errors=True)

    def days(self) -> list[date]:
        """The days of which anything has landed."""
        return sorted({date.fromisoformat(path.name) for table in TABLES
                       for path in (self.folder / table).glob("????-??-??")})

    def is_complete(self, day: date) -> bool:
        """Whether everything of a day has landed."""
        return (self.folder / "investor_order" / day.isoformat()).is_dir()

    def belongs_to(self, simulation: Simulation) -> None:
        """Write down, before the first day lands, what the market is drawn with.

        Raises AnotherMarket where that was something else.
        """
        file, drawn = self.folder / "simulation.json", simulation.model_dump_json()
        if not file.exists():
            replace_file(file, drawn.encode())
        before = Simulation.model_validate_json(file.read_text())
        other = [f"{name} {getattr(before, name)}" for name in Simulation.model_fields if getattr(before, name) != getattr(simulation, name)]
        if other:
            raise AnotherMarket(
                f"the simulated market in {self.folder} was drawn with {', '.join(other)}: keep that (BORROWERS= and "
                "MOSAIC_SIMULATION__… set it), or begin anew after `make clean SOURCE=simulated`"
            )

    def publish(self, day: date, orders: pa.Table) -> None:
        """Move a day's folders to where they belong, the orders' last; folders that are there stay as they are."""
        parts = _Parts(self.unfinished, 0, 0)
        parts.append("investor_order", day, orders)
        parts.finish()
        for table in TABLES:
            source, target = (root / table / day.isoformat() for root in (self.unfinished, self.folder))
            if source.is_dir() and not target.is_dir():
                for abandoned in source.glob(".part-*"):  # of a task that failed and was tried again
                    abandoned.unlink()
                target.parent.mkdir(parents=True, exist_ok=True)
                source.rename(target)

    def write_indicators(self, rows: pa.Table) -> None:
        """Replace the file of the simulated economy's indicators, as a statistical office does every month."""
        replace_file(self.folder / "macro" / "fred_md_simulated.csv", _csv(rows, header=True))


class _Parts:
    """The part files of one task: written beside each other, named when the task has ended."""

    def __init__(self, root: Path, number: int, attempt: int) -> None:
        self.root, self.name, self.attempt = root, f"part-{number:05d}.csv", attempt
        self.written: dict[Path, int] = {}

    def append(self, table: str, day: date, rows: pa.Table) -> None:
        """Append rows to the part of a table and day; nothing is made for no rows, but for orders."""
        if not rows.num_rows and table != "investor_order":
            return
        path = self.root / table / day.isoformat() / f".{self.name}.{self.attempt}"
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = path not in self.written
        with path.open("wb" if is_new else "ab") as stream:
            stream.write(_csv(rows, header=is_new))
        self.written[path] = self.written.get(path, 0) + rows.num_rows

    def finish(self) -> int:
        """Give the parts their names; a second attempt of the task replaces the same rows. Returns how many rows."""
        for path in self.written:
            os.replace(path, path.with_name(self.name))
        return sum(self.written.values())


def _csv(rows: pa.Table, *, header: bool) -> bytes:
    sink = io.BytesIO()
    options = pa.csv.WriteOptions(include_header=header, quoting_style="none")
    pa.csv.write_csv(rows, sink, options)
    return sink.getvalue()


def months_before(day: date, months: int) -> date:
    """The same day so many months earlier, or that month's last day."""
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def _days(first: date, last: date) -> Iterable[date]:
    return (first + timedelta(days=number) for number in range((last - first).days + 1))
