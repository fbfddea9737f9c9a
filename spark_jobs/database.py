"""Connections to the publication database, one role each."""

from __future__ import annotations

from urllib.parse import urlsplit

import psycopg2
from psycopg2.extensions import connection

from conf.database import Role, role_dsn, role_name
from conf.settings import Settings


class DatabaseUnreachable(ConnectionError):
    """The database does not answer or refuses the role; the message says what to do."""


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
            else f"start it with `MOSAIC_SOURCE={settings.source} python -m spark_jobs.database_server ensure`"
        )
        place = urlsplit(dsn).netloc.rpartition("@")[2]
        raise DatabaseUnreachable(
            f"{role_name(role)} cannot connect to PostgreSQL at {place}: {str(problem).strip()}; {remedy}"
        ) from problem
