"""Tasks out of jobs: what every DAG of this project is made of. Holds retries and resources, no data logic."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pendulum
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.providers.standard.sensors.python import PythonSensor
from airflow.sdk import (
    Asset,
    BaseOperator,
    CronTriggerTimetable,
    Param,
    RetryDecision,
    RetryPolicy,
    TriggerRule,
)

from conf.settings import ROOT, Settings, load_settings
from conf.source import load_source
from conf.spark import JOBS_PYTHON, is_local, packages_zip, spark_conf, spark_environment
from conf.tables import Table
from dags.gates import Work, require_gates
from dags.landed_files import missing_files
from dags.notify import notify_failure

SPARK_POOL = "spark"
SPARK_CONNECTION = "mosaic_spark"
AS_OF_DATE = "{{ as_of_date(params, dag_run) }}"

# Errors that are the same at the next attempt: a person has to look at the data, the mapping or the registry.
LASTING_ERRORS = (
    "GateFailed", "SourceError", "MappingError", "LandingError", "WrongColumns", "MissingTable", "NoChampion", "NoOpenNight",
    "FutureNight", "NoPassword", "ValidationError", "ModuleNotFoundError", "TooFewDefaults", "TooFewCohorts", "NoCohort",
    "NoHistory", "TooManyRows", "PublicationRefused",
)


class FailOnLastingErrors(RetryPolicy):
    """Retries what may pass (a lost executor, a busy database), and fails at once where the next attempt cannot differ."""

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> RetryDecision:
        """The decision by the name of the error in what the job said last."""
        found = next((name for name in LASTING_ERRORS if f"{name}:" in str(exception)), None)
        return RetryDecision.fail(f"{found}: another attempt would end the same") if found else RetryDecision.default()


def as_of_date(params: dict[str, Any], dag_run: Any) -> str:
    """The day whose knowledge a run may use, ISO.

    It is the parameter, else the day in the schedule's time zone on which the run's data interval began (a night
    scores the day that has just ended), else, for a run without logical date, the day before it was made.
    """
    if params.get("as_of_date"):
        return date.fromisoformat(params["as_of_date"]).isoformat()
    began = dag_run.data_interval_start or dag_run.run_after - timedelta(days=1)
    return pendulum.instance(began).in_timezone(load_settings().night.timezone).to_date_string()


def by_clock(schedule: str) -> CronTriggerTimetable | None:
    """A configured schedule: a cron expression in the configured time zone, or manual, which is None."""
    if schedule == "manual":
        return None
    return CronTriggerTimetable(
        schedule,
        timezone=load_settings().night.timezone,
        interval=timedelta(days=1),
        # The first run waits for its hour: switching a DAG on must not start yesterday's night.
        run_immediately=timedelta(0),
    )


def dag_defaults(owner: str) -> dict[str, Any]:
    """What the DAGs have in common: one run at a time, no catching up, an as-of date to choose, failures told."""
    night = load_settings().night
    return {
        "catchup": False,
        "max_active_runs": 1,
        "dagrun_timeout": timedelta(days=1),
        "params": {
            "as_of_date": Param(
                None, type=["null", "string"], format="date",
                description="The day whose knowledge the run may use; empty: the day before the run.",
            )
        },
        "user_defined_macros": {"as_of_date": as_of_date},
        "default_args": {
            "owner": owner,
            "retries": night.retries,
            "retry_delay": timedelta(seconds=30),
            "retry_exponential_backoff": True,
            "max_retry_delay": timedelta(minutes=15),
            "retry_policy": FailOnLastingErrors(),
            "execution_timeout": timedelta(minutes=night.task_timeout_minutes),
            "on_failure_callback": notify_failure,
        },
    }


def asset(table: Table) -> Asset:
    """The asset that stands for a table."""
    settings = load_settings()
    url = settings.lake_url if "://" in settings.lake_url else f"file://{settings.lake_url}"
    return Asset(f"{table.layer}.{table.name}", uri=f"{url}/{table.layer}/{table.name}", group=settings.source)


def publication() -> Asset:
    """The asset that stands for what readers see."""
    return Asset("publication.lending", uri=f"mosaic://{load_settings().source}/publication/lending", group=load_settings().source)


def credit_model() -> Asset:
    """The asset that stands for the registered credit model."""
    return Asset(f"model.{load_settings().model_name}", uri=f"mosaic://models/{load_settings().model_name}", group=load_settings().source)


def submit_job(job: str, doc_md: str, outlets: tuple[Asset, ...] = (), *options: str) -> SparkSubmitOperator:
    """The task that submits one Spark job; where it runs is the connection, how is ``conf/``."""
    settings = load_settings()
    return SparkSubmitOperator(
        task_id=job,
        doc_md=doc_md,
        name=f"{settings.source} {job}",
        application=str(ROOT / "dags" / "launch" / "job.py"),
        application_args=[job, "--as-of-date", AS_OF_DATE, *options],
        conn_id=SPARK_CONNECTION,
        conf=spark_conf(settings),
        driver_memory=settings.spark.driver_memory,
        # Executors of a cluster do not see this folder; those of local mode do.
        py_files=None if is_local(settings) else str(packages_zip(settings)),
        # Settings reach the driver by the environment that Airflow runs in; secrets are kept out of the rendered task.
        env_vars=spark_environment(settings),
        pool=SPARK_POOL,
        outlets=list(outlets),
    )


def run_job(job: str, doc_md: str, *options: str, outlets: tuple[Asset, ...] = (), **arguments: Any) -> BashOperator:
    """The task that runs one job that needs no Spark session, without starting a JVM."""
    return BashOperator(
        task_id=job,
        doc_md=doc_md,
        bash_command=" ".join([JOBS_PYTHON, "-m", "spark_jobs", job, "--as-of-date", AS_OF_DATE, *options]),
        cwd=str(ROOT),
        outlets=list(outlets),
        **arguments,
    )


def await_files() -> PythonSensor:
    """The task that waits for the source's files of the as-of date and, in the end, fails with their names."""
    settings = load_settings()
    return PythonSensor(
        task_id="await_files",
        doc_md="Waits for the files that the source's mapping calls required or daily; a late one fails by its name.",
        python_callable=files_have_landed,
        op_kwargs={"as_of_date": AS_OF_DATE},
        mode="reschedule",
        poke_interval=60,
        timeout=settings.night.file_wait_minutes * 60,
        retries=0,
    )


def files_have_landed(as_of_date: str) -> bool:
    """Whether every awaited file is there; says which are not."""
    settings: Settings = load_settings()
    missing = missing_files(load_source(settings.source), settings.data_folder, date.fromisoformat(as_of_date))
    for name in missing:
        print(f"still missing in {settings.data_folder}: {name}")
    return not missing


def gate(task_id: str, job: str, tables: tuple[Table, ...], work: Work = "night") -> PythonOperator:
    """The task that reads from PostgreSQL what the job's gates found, and lets nothing pass a failed or missing one.

    It also runs when the job has failed, which a closed gate makes it do: the gate then says which rules were broken.
    work: what the job belongs to, see dags.gates.
    """
    return PythonOperator(
        task_id=task_id,
        doc_md=f"Reads the gate results of `{job}`: {', '.join(table.name for table in tables)}. Starts no JVM.",
        python_callable=require_gates,
        op_kwargs={
            "job": job, "tables": [table.name for table in tables], "as_of_date": AS_OF_DATE, "work": work,
        },
        trigger_rule=TriggerRule.ONE_DONE,
    )


def chain_gated(*steps: BaseOperator | tuple[BaseOperator, PythonOperator]) -> None:
    """Steps one after the other; a step is a task, or a job with its gate, both of which must let the next one start."""
    before: tuple[BaseOperator, ...] = ()
    for step in steps:
        tasks = step if isinstance(step, tuple) else (step,)
        for task in before:
            task >> tasks[0]
        if len(tasks) == 2:
            tasks[0] >> tasks[1]
        before = tasks
