"""A market's servers on this machine: started together, stopped together, one owner at a time."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path

import httpx

from conf.settings import ROOT, Settings
from conf.source import products_of
from conf.spark import JOBS_PYTHON
from dags.launch import airflow_home
from dags.launch.airflow_api import AirflowApi
from dags.launch.airflow_home import AirflowProblem
from dags.launch.processes import Processes, supervised

# Of a source whose files the platform draws or fetches itself.
SOURCE_DAGS = {"simulated": ("simulated_market",), "opendart": ("company_filings",), "edgar": ("company_filings",)}
START_SECONDS = 300


class JobFailed(RuntimeError):
    """A job that was run directly ended with an error, which it has printed."""


def dag_ids(settings: Settings) -> tuple[str, ...]:
    """The DAGs of the market."""
    of_products = [dag_id for one in of_each_product(settings) for dag_id in (one.night_dag, one.training_dag)]
    return (*of_products, "market_indicators", "rollback_publication", *SOURCE_DAGS.get(settings.source, ()))


def of_each_product(settings: Settings) -> list[Settings]:
    """The settings as those of each product that the market publishes."""
    return [settings.model_copy(update={"product": product}) for product in products_of(settings)]


def has_champion(settings: Settings, as_of_date: date) -> bool:
    """Whether a champion is registered among the models of the settings' product.

    Raises JobFailed where that cannot be told.
    """
    command = [JOBS_PYTHON, "-m", "spark_jobs", "check_champion", "--as-of-date", as_of_date.isoformat(), "--product", settings.product]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, start_new_session=True)
    if answer.returncode and "NoChampion" not in answer.stderr:
        raise JobFailed(f"check_champion failed:\n{answer.stderr}")
    return answer.returncode == 0


@contextmanager
def owner(settings: Settings) -> Iterator[bool]:
    """Whether this process now owns the market's servers; False where another one does already."""
    settings.market.mkdir(parents=True, exist_ok=True)
    with (settings.market / "servers.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield True
        with suppress(OSError):
            lock.truncate(0)


@contextmanager
def airflow(settings: Settings, follow_schedules: bool) -> Iterator[tuple[AirflowApi, Processes]]:
    """Airflow's components, ready to run DAGs, gone when the block is left.

    Raises AirflowProblem or ProcessDied.
    """
    environment = airflow_home.environment(settings, follow_schedules)
    airflow_home.prepare(settings, environment)
    tell_settings(settings)
    with supervised(airflow_home.home(settings) / "logs") as processes:
        for name, command in airflow_home.commands().items():
            processes.start(name, command, environment, ROOT)
        api = connect(settings)
        wait_until_ready(settings, api, processes)
        api.ensure_pool("spark", 1)
        yield api, processes


def tell_settings(settings: Settings) -> None:
    """Write down what the market's Airflow runs with, for those who will use it."""
    # Spark's settings may hold the keys of a lake.
    airflow_home.write_private(_settings_file(settings), _told_settings(settings))


def refuse_other_settings(settings: Settings) -> None:
    """Raise AirflowProblem where the Airflow that is up was started with other settings: its tasks would run with those."""
    theirs, ours = json.loads(_settings_file(settings).read_text()), _told_settings(settings)
    other = sorted(f"MOSAIC_{name.upper()}" for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
    if other:
        raise AirflowProblem(
            f"the Airflow that is up was started with another {', '.join(other)}: stop it (Ctrl-C in make up), or give it the same"
        )


def _settings_file(settings: Settings) -> Path:
    return settings.market / "servers.json"


def _told_settings(settings: Settings) -> dict[str, object]:
    """Every setting but secrets, by its name in the environment."""
    told = settings.model_dump(mode="json", exclude={"database_dsn", "redis_url", "notify_url", "api_key"})
    sections = {name: value for name, value in told.items() if isinstance(value, dict)}
    flat = {f"{section}__{key}": value for section, values in sections.items() for key, value in values.items()}
    return flat | {name: value for name, value in told.items() if name not in sections}


def connect(settings: Settings) -> AirflowApi:
    """A session at the market's Airflow, wherever it was started."""
    return AirflowApi(airflow_home.url(settings), airflow_home.USER, airflow_home.password(settings))


def wait_until_ready(settings: Settings, api: AirflowApi, processes: Processes | None = None) -> None:
    """Wait for the components and the DAGs.

    Raises AirflowProblem where they are not there in time, with the reason why DAG files cannot be read.
    """
    began, deadline = datetime.now(UTC), time.monotonic() + START_SECONDS
    while not api.is_ready(dag_ids(settings)):
        if processes:
            processes.check()
        with suppress(httpx.HTTPError, ValueError, KeyError):
            if reasons := api.import_errors(since=began):
                raise AirflowProblem("Airflow cannot read the DAGs\n" + "\n".join(reasons))
        if time.monotonic() > deadline:
            raise AirflowProblem(f"Airflow was not ready after {START_SECONDS} s: its logs are in {airflow_home.home(settings) / 'logs'}")
        time.sleep(0.5)


def say(text: str) -> None:
    """One line of progress with the time of day."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)
    sys.stdout.flush()
