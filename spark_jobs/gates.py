"""Gates: nothing reads a table before its suite has held.

All tables of a job are measured in one Spark job, judged by Great Expectations, shown in Data Docs, and recorded in
Delta (``gate_result``) and PostgreSQL (``ops.gate_result``), where Airflow's gate tasks read them without a JVM.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from functools import reduce
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame

from conf.settings import Settings
from conf.tables import GATE_RESULT, Table
from expectations.measures import ROW_COUNT, Bound, build_measured, measures
from spark_jobs.lake import Lake

if TYPE_CHECKING:
    from expectations.suites import Measured, Verdict


class GateFailed(RuntimeError):
    """A table does not satisfy its suite; nothing may read it."""


@dataclass(frozen=True)
class Checked:
    """A table to check. frame: its rows in question (default: gold, the as-of date; else the whole table).

    job: who wrote it, if not the table's owner. more: numbers beyond the table's own measures, with their bounds.
    """

    table: Table
    frame: DataFrame | None = None
    job: str | None = None
    more: Mapping[str, tuple[float | None, Bound]] = field(default_factory=dict)


@dataclass(frozen=True)
class GateResult:
    """One row of gate_result."""

    gate: str
    table_name: str
    as_of_date: date
    success: bool
    row_count: int
    expectation_count: int
    failed_expectations: list[str]
    message: str
    data_docs: str
    batch_id: str
    checked_at: datetime


def check_table(
    lake: Lake, table: Table, as_of_date: date, batch_id: str, frame: DataFrame | None = None, job: str | None = None
) -> None:
    """Pass one table through its gate; see check_tables."""
    check_tables(lake, [Checked(table, frame, job)], as_of_date, batch_id)


def check_tables(lake: Lake, checks: Sequence[Checked], as_of_date: date, batch_id: str) -> None:
    """Pass tables through their gates, all measured in one Spark job, and record what each found.

    Raises GateFailed, naming each failed gate, its rules, counts and the page to look at, after all are recorded.
    """
    # Great Expectations takes some four seconds to import; Spark measures meanwhile.
    with ThreadPoolExecutor(1) as pool:
        suites = pool.submit(importlib.import_module, "expectations.suites")
        values = _measure(lake, checks, as_of_date)
        module = suites.result()
    measured: list[Measured] = [
        module.Measured(
            check.table,
            check.job or check.table.owner,
            values[check.table.name] | {name: value for name, (value, _) in check.more.items()},
            {name: bound for name, (_, bound) in check.more.items()},
        )
        for check in checks
    ]
    verdicts = module.judge(measured, as_of_date, lake.settings.market / "reports")
    results = [_result(*judged, as_of_date, batch_id) for judged in zip(measured, verdicts, strict=True)]
    _record(lake, results, as_of_date)
    publish_results(lake.settings, results)
    failed = [result.message for result in results if not result.success]
    if failed:
        raise GateFailed("\n".join(failed))


def withdraw_results(settings: Settings, job: str, batch_id: str) -> None:
    """Forget what a job's gates found in an earlier attempt at the batch; before the job writes its first row again.

    Whoever reads the results then waits for those of the rows that are there.
    """
    from spark_jobs.database import connect

    with closing(connect(settings, "publisher")) as session, session, session.cursor() as cursor:
        cursor.execute("DELETE FROM ops.gate_result WHERE batch_id = %s AND gate LIKE %s || '.%%'", (batch_id, job))


def _measure(lake: Lake, checks: Iterable[Checked], as_of_date: date) -> dict[str, dict[str, float | None]]:
    frames = [
        build_measured(check.table, rows_in_question(lake, check.table, as_of_date) if check.frame is None else check.frame)
        for check in checks
    ]
    return {row["table_name"]: dict(row["measured"]) for row in reduce(DataFrame.unionByName, frames).toLocalIterator()}


def rows_in_question(lake: Lake, table: Table, as_of_date: date) -> DataFrame:
    """What a gate looks at by default: one as-of date of a table that is replaced by as-of date, else all of it."""
    return lake.read_as_of(table, as_of_date) if table.partition_by == "as_of_date" else lake.read(table)


def _result(measured: Measured, verdict: Verdict, as_of_date: date, batch_id: str) -> GateResult:
    rows = int(measured.values[ROW_COUNT] or 0)
    message = f"gate {measured.gate} of {as_of_date}: {verdict.expectation_count} expectations hold on {rows} rows"
    if not verdict.success:
        bounds = {name: measure.bound for name, measure in measures(measured.table).items()} | dict(measured.more)
        broken = "; ".join(f"{name} = {measured.values[name]:g} ({_words(bounds[name])})" for name in verdict.failed)
        message = (
            f"gate {measured.gate} failed on {as_of_date} (batch {batch_id}), {len(verdict.failed)} of "
            f"{verdict.expectation_count} expectations on {rows} rows: {broken}. Nothing after it may run. Look at "
            f"{verdict.page}, and at the table quarantine for rows of {measured.table.name} that were kept out"
        )
    return GateResult(
        gate=measured.gate,
        table_name=measured.table.name,
        as_of_date=as_of_date,
        success=verdict.success,
        row_count=rows,
        expectation_count=verdict.expectation_count,
        failed_expectations=list(verdict.failed),
        message=message,
        data_docs=str(verdict.page),
        batch_id=batch_id,
        checked_at=datetime.now(UTC),
    )


def _words(bound: Bound) -> str:
    limits = [f"at least {bound.low:g}"] if bound.low is not None else []
    limits += [f"at most {bound.high:g}"] if bound.high is not None else []
    return f"{bound.meaning}; must be {' and '.join(limits)}"


def _record(lake: Lake, results: Sequence[GateResult], as_of_date: date) -> None:
    """Replace the results of these gates for the as-of date; those of other jobs stay."""
    rows = lake.spark.createDataFrame([tuple(asdict(result).values()) for result in results], GATE_RESULT.ddl)
    gates = ", ".join(f"'{result.gate}'" for result in results)
    lake.replace_where(GATE_RESULT, rows, f"as_of_date = DATE'{as_of_date}' AND gate IN ({gates})")


def publish_results(settings: Settings, results: Sequence[GateResult]) -> None:
    """Write the results to ops.gate_result, where the gate tasks read them."""
    from psycopg2.extras import execute_values

    from spark_jobs.database import connect

    columns = list(asdict(results[0]))
    update = ", ".join(f"{column} = excluded.{column}" for column in columns)
    connection = connect(settings, "publisher")
    try:
        with connection, connection.cursor() as cursor:
            execute_values(
                cursor,
                f"INSERT INTO ops.gate_result ({', '.join(columns)}) VALUES %s "
                f"ON CONFLICT (gate, table_name, as_of_date, batch_id) DO UPDATE SET {update}",
                [tuple(asdict(result).values()) for result in results],
            )
    finally:
        connection.close()
