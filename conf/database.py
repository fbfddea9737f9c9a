"""Where PostgreSQL is and who connects: one DSN per role. Pure look-ups, no connection is opened here."""

from __future__ import annotations

import os
from typing import Literal
from urllib.parse import quote, urlsplit, urlunsplit

from conf.settings import Settings

Role = Literal["owner", "publisher", "reader", "intake"]
ROLES: tuple[Role, ...] = ("owner", "publisher", "reader", "intake")
# The model_version in ops.run_manifest of a night that training opens for itself.
NO_MODEL = "none"


class NoPassword(LookupError):
    """A database role has no password yet."""


def role_name(role: Role) -> str:
    """The role's name in PostgreSQL."""
    return f"mosaic_{role}"


def admin_dsn(settings: Settings) -> str:
    """DSN with which set-up makes roles: the given server's, else the embedded server's own user and password."""
    if settings.database_dsn:
        return settings.database_dsn.get_secret_value()
    password = _passwords(settings).get("MOSAIC_ADMIN_PASSWORD", "")
    return f"postgresql://mosaic_admin:{quote(password, safe='')}@127.0.0.1:{settings.ports.postgres}/mosaic"


def role_dsn(settings: Settings, role: Role) -> str:
    """DSN of one of the four roles on the same server and database.

    Raises NoPassword before set-up has made the roles.
    """
    variable = f"MOSAIC_{role.upper()}_PASSWORD"
    password = os.environ.get(variable) or _passwords(settings).get(variable)
    if not password:
        raise NoPassword(f"no password for {role_name(role)}: set {variable} or run `make setup SOURCE={settings.source}`")
    parts = urlsplit(admin_dsn(settings))
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{role_name(role)}:{quote(password, safe='')}@{host}"))


def airflow_dsn(settings: Settings) -> str:
    """DSN of Airflow's metadata: its own database and role beside the market's, made by ``ensure_database``.

    On a given server the database is called <database>_airflow, as several markets may share that server.
    Raises NoPassword before set-up has made the role.
    """
    password = os.environ.get("MOSAIC_AIRFLOW_PASSWORD") or _passwords(settings).get("MOSAIC_AIRFLOW_PASSWORD")
    if not password:
        raise NoPassword(f"no password for Airflow's database: set MOSAIC_AIRFLOW_PASSWORD or run `make setup SOURCE={settings.source}`")
    parts = urlsplit(admin_dsn(settings))
    host = parts.netloc.rpartition("@")[2]
    name = airflow_database(settings)
    return urlunsplit(parts._replace(netloc=f"{name}:{quote(password, safe='')}@{host}", path=f"/{name}"))


def airflow_database(settings: Settings) -> str:
    """Name of the database, and of its role, that holds Airflow's metadata."""
    return f"{urlsplit(admin_dsn(settings)).path.lstrip('/')}_airflow" if settings.database_dsn else "airflow"


def _passwords(settings: Settings) -> dict[str, str]:
    if not settings.secrets_file.exists():
        return {}
    lines = settings.secrets_file.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)
