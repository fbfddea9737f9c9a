"""Gates as tasks of their own: what a job's checks found, read from PostgreSQL without starting a JVM."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Literal

import psycopg2
from airflow.sdk.exceptions import AirflowFailException

from conf.database import NO_MODEL, role_dsn
from conf.settings import Product, load_settings


@dataclass(frozen=True)
class GateResult:
    """What one gate found on one table."""

    table: str
    success: bool
    row_count: int
    failed_expectations: tuple[str, ...]
    message: str
    data_docs: str | None


# A job works in a night, in the night that training opens for itself (no model in its manifest), or in neither. In a
# night only the current one's results count: an earlier night of the same day, from other files, proves nothing.
Work = Literal["night", "training", "no night"]
_RESULTS = """
select distinct on (table_name) table_name, success, row_count, failed_expectations, message, data_docs
from ops.gate_result
where gate like %(job)s || '.%%' and as_of_date = %(as_of_date)s
  and (%(work)s = 'no night' or batch_id = (
    select batch_id from ops.run_manifest
    where as_of_date = %(as_of_date)s and (manifest ->> 'model_version' = %(no_model)s) = (%(work)s = 'training')
      and coalesce(manifest ->> 'product', %(product)s) = %(product)s
    order by opened_at desc limit 1
  ))
order by table_name, checked_at desc
"""


def refusal(job: str, tables: Iterable[str], results: Iterable[GateResult]) -> str | None:
    """Why nothing may pass, naming table, rules and where to look, or None where every table's gate let it pass."""
    found = {result.table: result for result in results}
    reasons = [
        f"{result.table}: {', '.join(result.failed_expectations) or 'failed'} ({result.row_count} rows). {result.message}"
        + (f" See {result.data_docs}" if result.data_docs else "")
        for result in found.values()
        if not result.success
    ]
    unchecked = sorted(set(tables) - set(found))
    if unchecked:
        reasons.append(f"no gate result for {', '.join(unchecked)}: {job} ended before its checks, its log says why")
    return "\n".join(reasons) or None


def read_results(job: str, as_of_date: date, work: Work, product: Product) -> list[GateResult]:
    """The newest gate results of a job for the as-of date, one per table; product: whose night it is."""
    with psycopg2.connect(role_dsn(load_settings(), "publisher")) as connection, connection.cursor() as cursor:
        cursor.execute(_RESULTS, {"job": job, "as_of_date": as_of_date, "work": work, "no_model": NO_MODEL, "product": product})
        rows = cursor.fetchall()
    connection.close()
    return [GateResult(table, success, count, tuple(failed), message, docs) for table, success, count, failed, message, docs in rows]


def require_gates(job: str, tables: list[str], as_of_date: str, work: Work, product: Product) -> None:
    """Let the run go on only when each table's gate has let it pass.

    Raises AirflowFailException, which is not retried.
    """
    results = read_results(job, date.fromisoformat(as_of_date), work, product)
    reason = refusal(job, tables, results)
    if reason:
        raise AirflowFailException(f"gate of {job} closed for {as_of_date}\n{reason}")
    for result in results:
        print(f"{result.table}: {result.row_count} rows passed")
