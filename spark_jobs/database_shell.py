"""``make psql``: psql as mosaic_reader on the publication, interactive or one query as CSV."""

from __future__ import annotations

import argparse
import os
from urllib.parse import unquote, urlsplit, urlunsplit

from conf.database import role_dsn
from conf.settings import load_settings
from spark_jobs.database_server import binary


def main(arguments: list[str] | None = None) -> None:
    """Become psql; the password goes by the environment, where other users do not see it."""
    parser = argparse.ArgumentParser(prog="python -m spark_jobs.database_shell", description=__doc__)
    parser.add_argument("--sql", help="a query whose answer is printed as CSV")
    query = parser.parse_args(arguments).sql
    settings = load_settings()
    dsn = urlsplit(role_dsn(settings, "reader"))
    place = urlunsplit(dsn._replace(netloc=f"{dsn.username}@{dsn.netloc.rpartition('@')[2]}"))
    environment = os.environ | {"PGPASSWORD": unquote(dsn.password or ""), "PGOPTIONS": "-c search_path=publication"}
    psql = str(binary(settings, "psql"))
    options = ["--no-psqlrc", "--csv", "--set=ON_ERROR_STOP=1", "--command", query] if query else []
    os.execve(psql, [psql, *options, place], environment)


if __name__ == "__main__":
    main()
