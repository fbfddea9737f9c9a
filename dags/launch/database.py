"""A market's database while somebody uses it: set up by the first, an embedded server stopped by the last.

``python -m dags.launch.database <command> …`` runs one command so.
"""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from conf.settings import Settings, load_settings
from dags.launch.processes import run_job, stopped_by_signals, uninterrupted

SERVER = "spark_jobs.database_server"


class DatabaseProblem(RuntimeError):
    """The database could not be set up; what was wrong has been printed."""


@contextmanager
def database(settings: Settings) -> Iterator[None]:
    """PostgreSQL, set up. An embedded server that was down is stopped when its last user leaves, whoever that is.

    Raises DatabaseProblem.
    """
    settings.market.mkdir(parents=True, exist_ok=True)
    with (settings.market / "postgres.users").open("a+") as users:
        # Shared by all users; who is about to stop the server holds it alone.
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            if not settings.database_dsn and run_job(SERVER, "status", stdout=subprocess.DEVNULL):
                users.truncate(0)
                users.write("stop it")
                users.flush()
            if run_job(SERVER, "ensure"):
                raise DatabaseProblem("the database could not be set up")
            yield
        finally:
            with suppress(BlockingIOError), uninterrupted():
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                users.seek(0)
                if users.read():
                    run_job(SERVER, "stop")
                    users.truncate(0)


def main() -> int:
    """The command's exit code; 1 where the database could not be set up."""
    try:
        with stopped_by_signals(), database(load_settings()), subprocess.Popen(sys.argv[1:]) as command:
            # Ctrl-C is the command's: psql only drops a line by it. Who ends this process ends the command first.
            signal.signal(signal.SIGINT, lambda *_: None)
            signal.signal(signal.SIGTERM, lambda *_: command.terminate())
            return command.wait()
    except DatabaseProblem as problem:
        print(problem, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
