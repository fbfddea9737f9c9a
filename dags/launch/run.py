"""``make run``: the next night of a market, through Airflow's scheduler, from raw files to a publication."""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import httpx
import psycopg2

from conf.database import role_dsn
from conf.settings import Settings, load_settings
from conf.source import SourceError, load_source, products_of
from dags.drift import training_run_id
from dags.landed_files import missing_files
from dags.launch import airflow_home
from dags.launch.airflow_api import AirflowApi, TaskState
from dags.launch.airflow_home import AirflowProblem
from dags.launch.database import DatabaseProblem, database
from dags.launch.market import (
    JobFailed,
    airflow,
    connect,
    dag_ids,
    has_champion,
    of_each_product,
    owner,
    refuse_other_settings,
    say,
    wait_until_ready,
)
from dags.launch.processes import ProcessDied, Processes, run_job, stopped_by_signals

# What a run shows of each task; the states between are Airflow's own business.
SHOWN = ("running", "up_for_retry", "up_for_reschedule", "awaiting_input", "success", "failed")
LOG_LINES = 30


class RunFailed(RuntimeError):
    """A DAG run ended without success; what its failing task said last has been printed."""


def next_as_of_date(settings: Settings) -> date:
    """The day after the last published one; for a market without publication where its settings say it begins."""
    with closing(psycopg2.connect(role_dsn(settings, "publisher"))) as connection, connection.cursor() as cursor:
        cursor.execute("select max(as_of_date) from publication.batch join publication.publication_log using (product, batch_id)"
                       " where product = %s and action in ('publish', 'backfill')", (settings.product,))
        last = cursor.fetchone()[0]
    if last:
        return last + timedelta(days=1)
    return settings.night.first_as_of_date or datetime.now(UTC).date() - timedelta(days=1)


def refuse_missing_files(settings: Settings, as_of_date: date) -> None:
    """Raise RunFailed, naming the files, where a night would wait for files in vain: who runs it by hand is there to see it.

    The simulated market writes its files first.
    """
    if settings.source == "simulated":
        return
    source = load_source(settings.source)
    missing = [
        file for product in products_of(settings) for file in missing_files(source.of_product(product), settings.data_folder, as_of_date)
    ]
    if missing:
        raise RunFailed(f"missing files: {'; '.join(missing)}: name their folder with DATA=, or put them there")


def run_dag(api: AirflowApi, processes: Processes | None, dag_id: str, as_of_date: date) -> None:
    """Trigger a DAG and follow its run.

    Raises RunFailed.
    """
    say(f"{dag_id}  as of {as_of_date}")
    follow_run(api, processes, dag_id, api.trigger(dag_id, as_of_date), as_of_date)


def follow_run(api: AirflowApi, processes: Processes | None, dag_id: str, run_id: str, as_of_date: date) -> None:
    """Show the tasks of a run as they go.

    Raises RunFailed, having printed the end of the failing tasks' logs.
    """
    shown: dict[str, tuple[str | None, int]] = {}
    while True:
        if processes:
            processes.check()
        state = api.run_state(dag_id, run_id)
        # What has ended between two looks is told before what began after it.
        tasks = sorted(api.task_states(dag_id, run_id), key=lambda task: task.state == "running")
        for task in tasks:
            if shown.get(task.task_id) != (task.state, task.attempt) and task.state in SHOWN:
                say(progress(task))
            shown[task.task_id] = (task.state, task.attempt)
        if state == "success":
            return
        if state == "failed":
            break
        time.sleep(1)
    for task in tasks:
        if task.state == "failed":
            print(f"\n--- the end of the log of {dag_id}.{task.task_id}")
            print("\n".join(api.log_tail(dag_id, run_id, task, LOG_LINES)), flush=True)
    raise RunFailed(f"{dag_id} failed for {as_of_date}: {', '.join(task.task_id for task in tasks if task.state == 'failed')}")


def progress(task: TaskState) -> str:
    """A task's state as a line of the table that a run prints."""
    attempt = f"  attempt {task.attempt}" if task.attempt > 1 and task.state == "running" else ""
    seconds = f"{task.seconds:6.0f} s" if task.state in ("success", "failed") and task.seconds else ""
    return f"  {task.task_id:<26}{task.state:<18}{seconds}{attempt}".rstrip()


def run_night(settings: Settings, api: AirflowApi, processes: Processes | None, as_of_date: date) -> None:
    """What a night needs and is not there, then the night itself."""
    if settings.source == "simulated":
        run_dag(api, processes, "simulated_market", as_of_date)
    if settings.macro_folder:
        run_dag(api, processes, "market_indicators", as_of_date)
    elif settings.product == "lending":
        say("no MACRO= folder: caps per risk group are static")
    if settings.training.approval:
        where = f"{airflow_home.url(settings)}, user {airflow_home.USER}, password {airflow_home.password(settings)}"
        say(f"a model that is trained waits for a person's approval: {where}")
    for of_product in of_each_product(settings):
        if not has_champion(of_product, as_of_date):
            say(f"no champion among {of_product.model_name} yet: training first")
            run_dag(api, processes, of_product.training_dag, as_of_date)
            # A person's no leaves the training green and the market without a champion; without one to ask, it would have failed.
            if settings.training.approval and not has_champion(of_product, as_of_date):
                raise RunFailed(f"nobody approved the {of_product.model_name} that was trained: the log of its training's approve_credit says more")
        run_dag(api, processes, of_product.night_dag, as_of_date)
        by_drift = training_run_id(as_of_date.isoformat())
        # An Airflow that stays up goes on by itself.
        if processes and api.has_run(of_product.training_dag, by_drift):
            say("the night is published; its drift asks for training")
            try:
                follow_run(api, processes, of_product.training_dag, by_drift, as_of_date)
            except RunFailed as problem:
                say(f"{problem}; the night stays published")


def main() -> int:
    """Exit code: 0 when the night has been published."""
    parser = argparse.ArgumentParser(prog="make run", description=__doc__)
    parser.add_argument("--as-of-date", type=date.fromisoformat, help="the night to run; the next one if not given")
    chosen = parser.parse_args().as_of_date
    settings = load_settings()
    for name in ("data", "macro"):
        # Tasks work in folders of their own.
        if folder := getattr(settings, name):
            os.environ[f"MOSAIC_{name.upper()}"] = str(folder)
    began = time.monotonic()
    try:
        with stopped_by_signals(), owner(settings) as is_owner, database(settings):
            as_of_date = chosen or next_as_of_date(settings)
            refuse_missing_files(settings, as_of_date)
            if is_owner:
                say(f"starting Airflow for the {settings.source} market")
                with airflow(settings, follow_schedules=False) as (api, processes):
                    for dag_id in dag_ids(settings):
                        for run_id in api.fail_unfinished(dag_id):
                            say(f"{dag_id} run {run_id} was interrupted: marked as failed")
                    run_night(settings, api, processes, as_of_date)
            else:
                say("using the Airflow that is up")
                refuse_other_settings(settings)
                api = connect(settings)
                wait_until_ready(settings, api)
                run_night(settings, api, None, as_of_date)
            print(flush=True)
            if run_job("spark_jobs", "summary", "--as-of-date", as_of_date.isoformat()):
                raise JobFailed("the summary failed")
    except (RunFailed, JobFailed, DatabaseProblem, AirflowProblem, ProcessDied, SourceError, httpx.HTTPError) as problem:
        print(f"\nmake run: {problem}", file=sys.stderr)
        return 1
    say(f"done in {(time.monotonic() - began) / 60:.1f} minutes; make up shows the run, make psql the publication")
    return 0


if __name__ == "__main__":
    sys.exit(main())
