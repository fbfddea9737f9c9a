"""Airflow of one market on one machine: its folder, secrets, environment and components."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
from contextlib import closing
from pathlib import Path

import psycopg2

from conf.database import airflow_dsn
from conf.settings import ROOT, Settings

BINARY = ROOT / ".venv" / "airflow" / "bin" / "airflow"
COMPONENTS = ("api-server", "dag-processor", "scheduler")
USER = "admin"


class AirflowProblem(RuntimeError):
    """Airflow cannot be set up or does not answer; the message says what to do."""


def home(settings: Settings) -> Path:
    """Airflow's folder."""
    return settings.market / "airflow"


def url(settings: Settings) -> str:
    """Where the UI and the REST API answer."""
    return f"http://127.0.0.1:{settings.ports.airflow}"


def password(settings: Settings) -> str:
    """The password of the user admin."""
    return json.loads(_passwords_file(settings).read_text())[USER]


def environment(settings: Settings, follow_schedules: bool) -> dict[str, str]:
    """What Airflow's components run in: this process's environment without another Airflow's, plus this market's.

    follow_schedules: whether DAGs start by the clock; else they wait to be triggered.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    secret = _secrets(settings)
    return own | {
        # The Spark provider runs nothing but a binary called spark-submit: the jobs environment's must come first.
        "PATH": f"{ROOT / '.venv' / 'jobs' / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        # Components talk to each other over loopback, whatever proxy the machine uses.
        "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1,localhost"])),
        "AIRFLOW_HOME": str(home(settings)),
        "AIRFLOW_CONN_MOSAIC_SPARK": json.dumps({"conn_type": "spark", "host": settings.spark.master}),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        # Gates and waiting go on beside the one Spark job that the pool lets run.
        "AIRFLOW__CORE__PARALLELISM": "3",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url(settings)}/execution/",
        "AIRFLOW__CORE__FERNET_KEY": secret["fernet_key"],
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(_passwords_file(settings)),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": airflow_dsn(settings).replace("postgresql://", "postgresql+psycopg2://", 1),
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(settings.ports.airflow),
        "AIRFLOW__API__BASE_URL": url(settings),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": secret["secret_key"],
        "AIRFLOW__API_AUTH__JWT_SECRET": secret["jwt_secret"],
        "AIRFLOW__API__INSTANCE_NAME": f"MosaicLoan {settings.source}",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home(settings) / "logs"),
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": str(follow_schedules),
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        # The DAGs change with a commit, not while they run.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def commands() -> dict[str, list[str]]:
    """The components by name. Logs are read from this disk, so none is served on a port of its own."""
    options = {"scheduler": ["--skip-serve-logs"]}
    return {name: [str(BINARY), name, *options.get(name, [])] for name in COMPONENTS}


def prepare(settings: Settings, environment: dict[str, str]) -> None:
    """Bring Airflow's own tables up to date; its version and the database's revision are kept to skip it next time.

    Raises AirflowProblem.
    """
    kept = home(settings) / "migrated.json"
    now = [_version(), _revision(settings)]
    if kept.exists() and json.loads(kept.read_text()) == now and now[1]:
        return
    answer = subprocess.run([str(BINARY), "db", "migrate"], env=environment, capture_output=True, text=True, cwd=ROOT)
    if answer.returncode:
        raise AirflowProblem(f"airflow db migrate failed:\n{(answer.stdout + answer.stderr)[-3000:]}")
    write_private(kept, [_version(), _revision(settings)])


def _version() -> str:
    from importlib.metadata import version

    return version("apache-airflow")


def _revision(settings: Settings) -> str | None:
    with closing(psycopg2.connect(airflow_dsn(settings))) as connection, connection.cursor() as cursor:
        cursor.execute("select to_regclass('alembic_version') is not null")
        if not cursor.fetchone()[0]:
            return None
        cursor.execute("select version_num from alembic_version")
        return cursor.fetchone()[0]


def _passwords_file(settings: Settings) -> Path:
    return home(settings) / "passwords.json"


def _secrets(settings: Settings) -> dict[str, str]:
    """Keys that the components share, and the log-in; made once, readable by their owner only."""
    path = home(settings) / "secrets.json"
    home(settings).mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_private(path, {
            "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "secret_key": secrets.token_urlsafe(32),
            "jwt_secret": secrets.token_urlsafe(64),
        })
    if not _passwords_file(settings).exists():
        write_private(_passwords_file(settings), {USER: secrets.token_urlsafe(12)})
    return json.loads(path.read_text())


def write_private(path: Path, content: object) -> None:
    """Write JSON that only its owner reads, whole or not at all."""
    unfinished = path.with_suffix(".unfinished")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
