"""The publication protocol: stage, verify, attach, wait, flip; and back. Readers always see one whole batch.

A batch is copied into standalone tables, compared with what it was made from, and attached to the live tables in one
transaction. A statement that was planned before that transaction knows nothing of the new partitions but may take its
snapshot after the pointer has moved, and would find nothing. So the pointer moves in a second transaction, after
every transaction that held a lock on the live tables when the partitions were attached has ended. A publication that
is killed anywhere leaves the readers where they were, and running it again finishes it.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Literal

from psycopg2 import errors, sql
from psycopg2.extensions import connection, cursor
from psycopg2.extras import Json

from conf.settings import Product, Settings
from conf.tables import PUBLISHED, PUBLISHED_BY_PRODUCT, Table
from spark_jobs.database import alone

CHANNEL = "mosaic_publication"
Outcome = Literal["published", "backfilled", "unchanged"]

_POSTGRES_TYPE = {
    "STRING": "text", "INT": "integer", "BIGINT": "bigint", "DOUBLE": "double precision", "BOOLEAN": "boolean",
    "DATE": "date", "DECIMAL(18,2)": "numeric(18,2)", "ARRAY<STRING>": "text[]",
}
# A column as text without a double's digits: fractions and rates as whole billionths, amounts as whole cents. Both
# sides multiply, add and cut the same IEEE doubles, so the whole numbers are equal, whatever either prints.
_SPARK_TEXT = {
    "STRING": "{0}", "INT": "CAST({0} AS STRING)", "BIGINT": "CAST({0} AS STRING)",
    "DOUBLE": "CAST(floor({0} * 1e9D + 0.5D) AS STRING)", "BOOLEAN": "CAST(CAST({0} AS INT) AS STRING)",
    "DATE": "CAST(unix_date({0}) AS STRING)", "DECIMAL(18,2)": "CAST(CAST({0} * 100 AS DECIMAL(20,0)) AS STRING)",
    "ARRAY<STRING>": "array_join({0}, char(31), char(30))",
}
_POSTGRES_TEXT = {
    "STRING": "{0}", "INT": "{0}::text", "BIGINT": "{0}::text",
    "DOUBLE": "floor({0} * 1e9::float8 + 0.5::float8)::bigint::text", "BOOLEAN": "{0}::int::text",
    "DATE": "({0} - DATE '1970-01-01')::text", "DECIMAL(18,2)": "({0} * 100)::numeric(20,0)::text",
    "ARRAY<STRING>": "array_to_string({0}, chr(31), chr(30))",
}


class PublicationRefused(RuntimeError):
    """The batch may not be published; the message says why and what to do."""


class PublicationFailed(RuntimeError):
    """What arrived in PostgreSQL is not what was sent; nothing was published."""


@dataclass(frozen=True)
class Batch:
    """A night's results to publish, of which product, and what they were made from."""

    batch_id: str
    as_of_date: date
    data_contract_version: str
    manifest: Mapping[str, object]
    product: Product = "lending"


@dataclass(frozen=True)
class Content:
    """What a table holds: its rows, and the sum over them of each row's 60-bit hash, which no order changes."""

    rows: int
    digest: int


def postgres_types(table: Table) -> dict[str, str]:
    """Each column's type in PostgreSQL."""
    return {column: _POSTGRES_TYPE[kind] for column, kind in table.types.items()}


def spark_row_hash(table: Table) -> str:
    """Spark SQL: a row's hash, 0 to 2^60 - 1; the same number as ``postgres_row_hash``."""
    fields = ", ".join(
        f"coalesce(concat(length({text}), ':', {text}), '~')"
        for text in (_SPARK_TEXT[kind].format(column) for column, kind in table.types.items())
    )
    return f"CAST(conv(substr(md5(concat({fields})), 1, 15), 16, 10) AS DECIMAL(20,0))"


def postgres_row_hash(table: Table) -> str:
    """PostgreSQL: a row's hash; each column's text with its length before it, so that no two rows read the same."""
    fields = " || ".join(
        f"coalesce(char_length({text}) || ':' || {text}, '~')"
        for text in (_POSTGRES_TEXT[kind].format(column) for column, kind in table.types.items())
    )
    return f"('x' || substr(md5({fields}), 1, 15))::bit(60)::bigint"


def publish_batch(
    settings: Settings,
    batch: Batch,
    contents: Mapping[str, Content],
    copy: Callable[[Table, str], None],
    tables: Sequence[Table] = PUBLISHED,
) -> Outcome:
    """Publish a batch: readers go over to it, whole, unless they already read a later as-of date (a backfill).

    contents says by table name what the batch holds; copy(table, staging) fills the staging table of schema
    publication, by any number of writers. A batch that has been published before is left as it is.
    Raises PublicationFailed where the copy differs from contents, and PublicationRefused where the batch is there with
    other contents or another publication does not end.
    """
    with alone(settings, "publish", batch.batch_id) as session:
        known = _attached(session, batch.product, batch.batch_id)
        if known is None:
            _drop_leftovers(session, tables)
            staging = {table: _stage(session, table, batch) for table in tables}
            for table in tables:
                copy(table, staging[table])
                _verify(session, table, staging[table], contents[table.name])
            _attach(session, batch, contents, staging)
        elif known != dict(contents):
            raise PublicationRefused(_other_content(batch, known, contents))
        elif _was_published(session, batch.product, batch.batch_id):
            return "unchanged"
        waited = _drain(session, tables, settings.publication.drain_seconds)
        outcome = _flip(session, batch, waited)
        prune(
            session, tables, settings.publication.keep_batches, settings.publication.drain_seconds, batch.batch_id, product=batch.product
        )
        return outcome


def rollback(settings: Settings, batch_id: str | None) -> str | None:
    """Move the pointer of its product to an attached batch, on a person's word; gives the batch that was current before.

    Raises PublicationRefused, listing the batches that are there, for one that is not, and for none.
    """
    with alone(settings, "publish", batch_id or "") as session:
        with session, session.cursor() as cursor:
            cursor.execute("SELECT batch_id, product FROM publication.batch ORDER BY product DESC, as_of_date DESC, attached_at DESC")
            product_of: dict[str, Product] = dict(cursor.fetchall())
        if batch_id not in product_of:
            there = ", ".join(f"{name} ({product})" for name, product in product_of.items()) or "none"
            problem = f"batch {batch_id} is not attached" if batch_id else "name the batch with BATCH="
            raise PublicationRefused(f"{problem}; batches to go back to: {there}")
        product = product_of[batch_id]
        waited = _drain(session, PUBLISHED_BY_PRODUCT[product], settings.publication.drain_seconds)
        with session, session.cursor() as cursor:
            return _move_pointer(cursor, product, batch_id, "rollback", waited)


def prune(
    session: connection, tables: Sequence[Table], keep: int, wait_seconds: int, *always: str, product: Product = "lending"
) -> None:
    """Drop the batches older than the newest ones by as-of date; the current one and those in always stay.

    A batch first leaves the list that a rollback can choose from, then its partitions are detached without stopping
    readers. What a long reader holds on to is left for the next publication.
    """
    with session, session.cursor() as cursor:
        cursor.execute(
            """
            WITH gone AS (
                DELETE FROM publication.batch WHERE product = %(product)s AND batch_id IN (
                    SELECT batch_id FROM publication.batch WHERE product = %(product)s
                    ORDER BY as_of_date DESC, attached_at DESC OFFSET %(keep)s
                ) AND batch_id <> ALL (%(always)s)
                AND batch_id NOT IN (SELECT batch_id FROM publication.current_batch WHERE product = %(product)s)
                RETURNING batch_id
            )
            INSERT INTO publication.publication_log (product, action, batch_id, who)
            SELECT %(product)s, 'prune', batch_id, %(who)s FROM gone
            """,
            {"product": product, "keep": max(keep, 2), "always": list(always), "who": who()},
        )
    parents = [table.name for table in tables]
    with session, session.cursor() as cursor:
        cursor.execute(
            """
            SELECT parent.relname, part.relname, inhdetachpending FROM pg_inherits
            JOIN pg_class parent ON parent.oid = inhparent JOIN pg_class part ON part.oid = inhrelid
            WHERE parent.relnamespace = 'publication'::regnamespace AND parent.relname = ANY (%s)
            AND parent.relkind = 'p' AND split_part(part.relname, '__', 2) NOT IN (
                SELECT batch_id FROM publication.batch WHERE product = %s)
            ORDER BY inhdetachpending DESC, part.relname
            """,
            (parents, product),
        )
        orphans = cursor.fetchall()
    # Detaching without stopping readers runs outside a transaction; one cut short must be finished before the next.
    session.autocommit = True
    try:
        with session.cursor() as cursor:
            cursor.execute("SET statement_timeout = %s", (f"{max(wait_seconds, 1)}s",))
            for parent, part, pending in orphans:
                detach = sql.SQL("ALTER TABLE {} DETACH PARTITION {} {}").format(
                    _name(parent), _name(part), sql.SQL("FINALIZE" if pending else "CONCURRENTLY")
                )
                try:
                    cursor.execute(detach)
                    cursor.execute(sql.SQL("DROP TABLE {}").format(_name(part)))
                except (errors.QueryCanceled, errors.LockNotAvailable, errors.ObjectInUse):
                    print(f"a reader still uses {part}: it is dropped by the next publication")
                    break
            cursor.execute("RESET statement_timeout")
    finally:
        session.autocommit = False


def _attached(session: connection, product: Product, batch_id: str) -> dict[str, Content] | None:
    """What an attached batch holds, None for a batch that is not attached."""
    with session, session.cursor() as cursor:
        cursor.execute(
            "SELECT content FROM publication.batch WHERE product = %s AND batch_id = %s", (product, batch_id)
        )
        found = cursor.fetchone()
    return {name: Content(**content) for name, content in found[0].items()} if found else None


def _was_published(session: connection, product: Product, batch_id: str) -> bool:
    """Whether the batch's publication came to its end; one that was rolled back since is not published again."""
    with session, session.cursor() as cursor:
        cursor.execute(
            """
            SELECT FROM publication.publication_log WHERE product = %s AND batch_id = %s
            AND action IN ('publish', 'backfill') AND entry > (
                SELECT max(entry) FROM publication.publication_log
                WHERE product = %s AND batch_id = %s AND action = 'attach')
            """,
            (product, batch_id, product, batch_id),
        )
        return cursor.fetchone() is not None


def _other_content(batch: Batch, known: Mapping[str, Content], contents: Mapping[str, Content]) -> str:
    differing = [name for name in contents if known.get(name) != contents[name]]
    return (
        f"batch {batch.batch_id} is published with other contents of {', '.join(differing)}: the same files, model, "
        "settings and code gave other results, or a table was changed by hand; readers keep what was published"
    )


def _drop_leftovers(session: connection, tables: Sequence[Table]) -> None:
    """Remove what killed publications left: writers that still copy, and staging tables."""
    names = [table.name for table in tables]
    with session, session.cursor() as cursor:
        cursor.execute(
            """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE usename = current_user AND datname = current_database() AND application_name LIKE 'mosaic copy %'
            """
        )
        cursor.execute("SET LOCAL lock_timeout = '30s'")
        cursor.execute(
            """
            SELECT relname FROM pg_class WHERE relnamespace = 'publication'::regnamespace AND relkind = 'r'
            AND NOT relispartition AND split_part(relname, '__', 1) = ANY (%s) AND relname LIKE '%%\\_\\_%%'
            """,
            (names,),
        )
        for (leftover,) in cursor.fetchall():
            cursor.execute(sql.SQL("DROP TABLE {}").format(_name(leftover)))
        cursor.execute("DELETE FROM ops.copied_part")


def _stage(session: connection, table: Table, batch: Batch) -> str:
    """Make a table that can become the batch's partition; its name is new, so that no late writer of an earlier,
    killed publication finds it."""
    name = f"{table.name}__{batch.batch_id}__{secrets.token_hex(3)}"
    with session, session.cursor() as cursor:
        cursor.execute(
            sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING DEFAULTS, CONSTRAINT one_batch CHECK (batch_id = {}))").format(
                _name(name), _name(table.name), sql.Literal(batch.batch_id)
            )
        )
    return name


def _verify(session: connection, table: Table, staging: str, wanted: Content) -> None:
    """Hold the staging table against what was sent, then index it.

    Raises PublicationFailed, naming table and difference.
    """
    with session, session.cursor() as cursor:
        try:
            cursor.execute(
                sql.SQL("SELECT count(*), coalesce(sum({}), 0) FROM {}").format(
                    sql.SQL(postgres_row_hash(table)), _name(staging)
                )
            )
            found = Content(*(int(value) for value in cursor.fetchone()))
            if found != wanted:
                raise PublicationFailed(f"{table.name}: {wanted} was sent but {found} arrived; nothing was published")
            key = [*(column for column in table.key if column != "as_of_date"), "batch_id"]
            cursor.execute(
                sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(
                    _name(staging), sql.SQL(", ").join(map(sql.Identifier, key))
                )
            )
        except (errors.NumericValueOutOfRange, errors.UniqueViolation) as problem:
            reason = problem.diag.message_detail or problem.diag.message_primary
            raise PublicationFailed(f"{table.name}: {reason}; nothing was published") from problem
        cursor.execute(sql.SQL("ANALYZE {}").format(_name(staging)))


def _attach(
    session: connection, batch: Batch, contents: Mapping[str, Content], staging: Mapping[Table, str]
) -> None:
    """Make the staging tables partitions of the live ones and write the batch down, in one transaction."""
    with session, session.cursor() as cursor:
        for table, name in staging.items():
            cursor.execute(
                sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES IN ({})").format(
                    _name(table.name), _name(name), sql.Literal(batch.batch_id)
                )
            )
            cursor.execute(
                sql.SQL("ALTER TABLE {} RENAME TO {}").format(
                    _name(name), sql.Identifier(f"{table.name}__{batch.batch_id}")
                )
            )
        cursor.execute("DELETE FROM ops.copied_part WHERE staging_table = ANY (%s)", (list(staging.values()),))
        cursor.execute(
            """
            INSERT INTO publication.batch (product, batch_id, as_of_date, data_contract_version, manifest, content)
            VALUES (%s, %s, %s, %s, %s, %s)
            """,
            (
                batch.product, batch.batch_id, batch.as_of_date, batch.data_contract_version, Json(dict(batch.manifest)),
                Json({name: asdict(content) for name, content in contents.items()}),
            ),
        )
        _log(cursor, batch.product, "attach", batch.batch_id, None, {})


def _drain(session: connection, tables: Sequence[Table], drain_seconds: int) -> dict[str, object]:
    """Wait until the transactions that now hold a lock on a live table have ended, at most drain_seconds.

    A statement takes its snapshot right after it is planned, so one that is older than the wait has its snapshot
    already: the pointer moves then too, and what was not waited for stands in the log.
    """
    started = time.monotonic()
    older = _lock_holders(session, tables)
    waiting = older
    while waiting and time.monotonic() - started < drain_seconds:
        time.sleep(0.02)
        waiting = older & _lock_holders(session, tables)
    return {"waited_seconds": round(time.monotonic() - started, 3), "not_waited_for": len(waiting)}


def _lock_holders(session: connection, tables: Sequence[Table]) -> set[str]:
    with session, session.cursor() as cursor:
        cursor.execute(
            """
            SELECT virtualtransaction FROM pg_locks
            WHERE locktype = 'relation' AND pid <> pg_backend_pid()
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND relation IN (SELECT oid FROM pg_class WHERE relname = ANY (%s)
                             AND relnamespace = 'publication'::regnamespace)
            """,
            ([table.name for table in tables],),
        )
        return {row[0] for row in cursor.fetchall()}


def _flip(session: connection, batch: Batch, waited: Mapping[str, object]) -> Outcome:
    """Move the pointer to the batch unless it stands at a later as-of date."""
    with session, session.cursor() as cursor:
        cursor.execute("SELECT as_of_date FROM publication.current_batch WHERE product = %s FOR UPDATE", (batch.product,))
        current = cursor.fetchone()
        if current and current[0] > batch.as_of_date:
            _log(cursor, batch.product, "backfill", batch.batch_id, None, {"current_as_of_date": current[0].isoformat()})
            return "backfilled"
        _move_pointer(cursor, batch.product, batch.batch_id, "publish", waited)
    return "published"


def _move_pointer(cursor: cursor, product: Product, batch_id: str, action: str, waited: Mapping[str, object]) -> str | None:
    """Point to an attached batch, write it down and tell the listeners; gives the batch that was current before."""
    cursor.execute("SELECT batch_id FROM publication.current_batch WHERE product = %s FOR UPDATE", (product,))
    current = cursor.fetchone()
    cursor.execute(
        """
        INSERT INTO publication.current_batch (product, batch_id, as_of_date, data_contract_version)
        SELECT product, batch_id, as_of_date, data_contract_version FROM publication.batch
        WHERE product = %s AND batch_id = %s
        ON CONFLICT (product) DO UPDATE SET batch_id = excluded.batch_id, as_of_date = excluded.as_of_date,
            data_contract_version = excluded.data_contract_version, moved_at = clock_timestamp()
        RETURNING as_of_date
        """,
        (product, batch_id),
    )
    as_of_date = cursor.fetchone()[0]
    _log(cursor, product, action, batch_id, current[0] if current else None, waited)
    told = json.dumps({"product": product, "batch_id": batch_id, "as_of_date": as_of_date.isoformat()})
    cursor.execute("SELECT pg_notify(%s, %s)", (CHANNEL, told))
    return current[0] if current else None


def _log(
    cursor: cursor, product: Product, action: str, batch_id: str, previous: str | None, detail: Mapping[str, object]
) -> None:
    cursor.execute(
        """
        INSERT INTO publication.publication_log (product, action, batch_id, previous_batch_id, who, manifest, detail)
        SELECT %(product)s, %(action)s, %(batch_id)s, %(previous)s, %(who)s,
            (SELECT manifest FROM publication.batch WHERE product = %(product)s AND batch_id = %(batch_id)s), %(detail)s
        """,
        {
            "product": product, "action": action, "batch_id": batch_id, "previous": previous, "who": who(),
            "detail": Json(dict(detail)),
        },
    )


def who() -> str:
    """Who runs this and where; a container's user may have a number only."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _name(table: str) -> sql.Identifier:
    return sql.Identifier("publication", table)
