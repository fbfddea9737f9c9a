"""Connections to the publication database, one role each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import psycopg2
from psycopg2.extensions import connection

from conf.database import Role, role_dsn, role_name
from conf.settings import Settings


class DatabaseUnreachable(ConnectionError):
    """The database does not answer or refuses the role; the message says what to do."""


class AlreadyRunning(RuntimeError):
    """The same work runs elsewhere and does not end; the message says where to look."""


# How long work waits for the same work that runs elsewhere.
LOCK_SECONDS = 60


def connect(settings: Settings, role: Role, purpose: str = "job") -> connection:
    """A connection as one of the four roles; the caller closes it.

    purpose shows in ``pg_stat_activity``. Raises DatabaseUnreachable, and NoPassword before set-up.
    """
    dsn = role_dsn(settings, role)
    try:
        return psycopg2.connect(dsn, connect_timeout=10, application_name=f"mosaic {purpose}"[:63])
    except psycopg2.OperationalError as problem:
        remedy = (
            "check MOSAIC_DATABASE_DSN" if settings.database_dsn
            else f"`make job SOURCE={settings.source} JOB=… AS_OF=…` starts it for a job, `make up SOURCE={settings.source}` until Ctrl-C"
        )
        place = urlsplit(dsn).netloc.rpartition("@")[2]
        raise DatabaseUnreachable(
            f"{role_name(role)} cannot connect to PostgreSQL at {place}: {str(problem).strip()}; {remedy}"
        ) from problem


@contextmanager
def alone(settings: Settings, work: str, detail: str = "") -> Iterator[connection]:
    """A publisher's session that alone in the market does some work; a killed one frees it by dying.

    Raises AlreadyRunning where another does the same for longer than LOCK_SECONDS.
    """
    with closing(connect(settings, "publisher", f"{work} {detail}".strip())) as session:
        deadline = time.monotonic() + LOCK_SECONDS
        while not _got_lock(session, work):
            if time.monotonic() > deadline:
                raise AlreadyRunning(
                    f"another {work} of the market {settings.source} has been running for {LOCK_SECONDS} s: wait for it to "
                    f"end, or end it (select pid, application_name from pg_stat_activity where application_name like 'mosaic {work}%')"
                )
            time.sleep(0.5)
        yield session


def still_alone(session: connection, work: str) -> None:
    """Raise AlreadyRunning where the session of ``alone`` has ended: PostgreSQL has freed its lock then, maybe to another."""
    try:
        with session, session.cursor() as cursor:
            cursor.execute("SELECT 1")
    except psycopg2.Error as problem:
        raise AlreadyRunning(
            f"the database has dropped the session that kept other {work} jobs out ({str(problem).strip()}): run {work} again"
        ) from problem


def _got_lock(session: connection, work: str) -> bool:
    with session, session.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtext('mosaic work'), hashtext(%s))", (work,))
        return cursor.fetchone()[0]
