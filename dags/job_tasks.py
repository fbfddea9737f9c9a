"""Tasks out of jobs: what every DAG of this project is made of. Holds retries and resources, no data logic."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pendulum
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.providers.standard.operators.python import PythonOperator, ShortCircuitOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import (
    Asset,
    BaseOperator,
    BaseSensorOperator,
    CronTriggerTimetable,
    Param,
    RetryDecision,
    RetryPolicy,
    TriggerRule,
)
from airflow.sdk.exceptions import AirflowException, AirflowSensorTimeout, AirflowSkipException

from conf.settings import ROOT, Product, load_settings
from conf.source import load_source
from conf.spark import JOBS_PYTHON, is_local, packages_zip, spark_conf, spark_environment
from conf.tables import TABLES, Table
from dags.drift import asks_training, training_run_id
from dags.gates import Work, require_gates
from dags.landed_files import missing_files
from dags.notify import notify_failure

SPARK_POOL = "spark"
SPARK_CONNECTION = "mosaic_spark"
AS_OF_DATE = "{{ as_of_date(params, dag_run) }}"
# The next weekly training waits behind a question that nobody answers.
APPROVAL_WAIT = timedelta(days=6)

# Errors that are the same at the next attempt: a person has to look at the data, the mapping or the registry.
LASTING_ERRORS = (
    "GateFailed", "SourceError", "MappingError", "LandingError", "WrongColumns", "MissingTable", "NoChampion", "NoOpenNight",
    "FutureNight", "BeforeTheMarket", "AnotherMarket", "NoPassword", "WrongSetting", "ModuleNotFoundError", "TooFewDefaults",
    "TooFewCohorts", "NoCohort", "NoHistory", "TooManyRows", "PublicationRefused", "NoChallenger",
    "FetchRefused", "NoVintages", "ReplacedScores", "LeakFound",
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


def training_defaults() -> dict[str, Any]:
    """What the DAGs that train have in common: the rest's, and with approval the patience for a person's answer."""
    patience = {"dagrun_timeout": timedelta(days=1) + APPROVAL_WAIT} if load_settings().training.approval else {}
    return dag_defaults("credit-risk") | patience


def silver_tables(product: Product) -> tuple[Table, ...]:
    """The silver tables that the source maps for a product."""
    return tuple(TABLES[name] for name in load_source(load_settings().source).of_product(product).tables)


def asset(table: Table) -> Asset:
    """The asset that stands for a table of the market, wherever its lake lies: one that moved would be inactive, and fail its task."""
    source = load_settings().source
    return Asset(f"{source}.{table.layer}.{table.name}", uri=f"mosaic://{source}/{table.layer}/{table.name}", group=source)


def publication(product: Product = "lending") -> Asset:
    """The asset that stands for what readers see of a product."""
    source = load_settings().source
    return Asset(f"publication.{product}", uri=f"mosaic://{source}/publication/{product}", group=source)


def registered_model(product: Product) -> Asset:
    """The asset that stands for the market's registered model of a product."""
    settings = load_settings(product=product)
    return Asset(f"model.{settings.model_name}", uri=f"mosaic://models/{settings.model_name}", group=settings.source)


def _arguments(job: str, options: tuple[str, ...], product: Product) -> list[str]:
    """A job's command line. Lending, where a market has it, is the market's own product and need not be said."""
    return [job, "--as-of-date", AS_OF_DATE, *(("--product", product) if product != "lending" else ()), *options]


def submit_job(
    job: str, doc_md: str, outlets: tuple[Asset, ...] = (), *options: str, product: Product = "lending"
) -> SparkSubmitOperator:
    """The task that submits one Spark job; where it runs is the connection, how is ``conf/``."""
    settings = load_settings()
    return SparkSubmitOperator(
        task_id=job,
        doc_md=doc_md,
        name=f"{settings.source} {job}",
        application=str(ROOT / "dags" / "launch" / "job.py"),
        application_args=_arguments(job, options, product),
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


class JobOperator(BashOperator):
    """Runs a job that needs no JVM; where it fails, the error is what the job said last: its own error's name and words.

    Exit code 99 is no failure: this task and those behind it are skipped.
    """

    def execute(self, context: Any) -> str:
        """The job's last line; raises AirflowException, or AirflowSkipException, with that line."""
        command = ["bash", "-c", self.bash_command]
        result = self.subprocess_hook.run_command(command, env=self.get_env(context), cwd=self.cwd)
        if result.exit_code in self.skip_on_exit_code:
            raise AirflowSkipException(result.output)
        if result.exit_code:
            raise AirflowException(f"{result.output} (exit code {result.exit_code})")
        return result.output


def run_job(
    job: str, doc_md: str, *options: str, outlets: tuple[Asset, ...] = (), product: Product = "lending", **arguments: Any
) -> JobOperator:
    """The task that runs one job that needs no Spark session, without starting a JVM."""
    return JobOperator(
        task_id=job,
        doc_md=doc_md,
        bash_command=" ".join([JOBS_PYTHON, "-m", "spark_jobs", *_arguments(job, options, product)]),
        cwd=str(ROOT),
        outlets=list(outlets),
        **arguments,
    )


def approval_tasks(product: Product = "lending") -> tuple[BaseOperator, ...]:
    """With the setting training.approval what tells of the challenger, and who is asked and sees it; none without."""
    if not load_settings().training.approval:
        return ()
    told = "Tells version and rules of the challenger to the person who is asked."
    return run_job("check_challenger", told, product=product), approve_credit(product)


def approve_credit(product: Product) -> ApprovalOperator:
    """The task that asks a person about what ``check_challenger`` has told: no answer in time fails it, no skips what follows."""
    told = "macros.json.loads(ti.xcom_pull(task_ids='check_challenger'))"
    return ApprovalOperator(
        task_id="approve_credit",
        doc_md="Asks a person whether the challenger may become champion (in the UI: *Required Actions*). Rejected, it stays a challenger.",
        subject=f"May version {{{{ {told}['version'] }}}} of {load_settings(product=product).model_name} become champion?",
        body=f"{{{{ {told}['rules'] }}}}\n\nThe model's document lies in MLflow, as model_document.html of the version's run.",
        response_timeout=APPROVAL_WAIT,
        execution_timeout=None,
        retries=0,
    )


def promote_credit(product: Product = "lending") -> JobOperator:
    """The task that lets the challenger be champion; with approval, the version that was approved, and by whom."""
    told = ("promote_credit", "Lets the challenger be champion when every rule passes, else says which does not.")
    if not load_settings().training.approval:
        return run_job(*told, outlets=(registered_model(product),), product=product)
    # By the environment, not in the command: a user's name is text that somebody typed.
    answered = {
        "MODEL": "{{ macros.json.loads(ti.xcom_pull(task_ids='check_challenger'))['version'] }}",
        "APPROVED_BY": "{{ ti.xcom_pull(task_ids='approve_credit')['responded_by_user']['name'] }}",
    }
    return run_job(
        *told, "--model", '"$MODEL"', "--approved-by", '"$APPROVED_BY"', outlets=(registered_model(product),), product=product,
        env=answered, append_env=True,
    )


class LandedFilesSensor(BaseSensorOperator):
    """Waits for the files that the source's mapping calls required or daily; in the end fails with their names."""

    template_fields = ("as_of_date",)

    def __init__(self, *, as_of_date: str, product: Product, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.as_of_date, self.product = as_of_date, product

    def poke(self, context: Any) -> bool:
        """Whether every awaited file is there; says which are not."""
        missing = self._missing()
        for name in missing:
            print(f"still missing: {name}")
        return not missing

    def execute(self, context: Any) -> Any:
        """Waits; raises AirflowSensorTimeout that names the files, their folder and how long they were awaited."""
        try:
            return super().execute(context)
        except AirflowSensorTimeout:
            late = "; ".join(self._missing()) or "landed just now: run the night again"
            raise AirflowSensorTimeout(f"late files, awaited for {self.timeout / 60:.0f} minutes: {late}") from None

    def _missing(self) -> list[str]:
        settings = load_settings()
        source = load_source(settings.source).of_product(self.product)
        return missing_files(source, settings.data_folder, date.fromisoformat(self.as_of_date))


def await_files(product: Product = "lending") -> LandedFilesSensor:
    """The task that waits for the source's files of the as-of date that a product is made of."""
    return LandedFilesSensor(
        task_id="await_files",
        doc_md=LandedFilesSensor.__doc__,
        as_of_date=AS_OF_DATE,
        product=product,
        mode="reschedule",
        poke_interval=60,
        timeout=load_settings().night.file_wait_minutes * 60,
        retries=0,
    )


def gate(task_id: str, job: str, tables: tuple[Table, ...], work: Work = "night", product: Product = "lending") -> PythonOperator:
    """The task that reads from PostgreSQL what the job's gates found, and lets nothing pass a failed or missing one.

    It also runs when the job has failed, which a closed gate makes it do: the gate then says which rules were broken.
    work, product: what the job belongs to, see dags.gates.
    """
    return PythonOperator(
        task_id=task_id,
        doc_md=f"Reads the gate results of `{job}`: {', '.join(table.name for table in tables)}. Starts no JVM.",
        python_callable=require_gates,
        op_kwargs={
            "job": job, "tables": [table.name for table in tables], "as_of_date": AS_OF_DATE, "work": work, "product": product,
        },
        trigger_rule=TriggerRule.ONE_DONE,
    )


def chain_gated(*steps: BaseOperator | tuple[BaseOperator, PythonOperator]) -> None:
    """Steps one after the other; a step is a task, or a job with its gate, both of which must let the next one start.

    Airflow judges a run by its last task alone. A gate that runs after a failed job too must not be it: a last step with a
    gate is followed by a task that only comes when both have succeeded.
    """
    before: tuple[BaseOperator, ...] = ()
    if isinstance(steps[-1], tuple):
        steps = (*steps, EmptyOperator(task_id="passed", doc_md="Comes when the last job and its gate have both succeeded."))
    for step in steps:
        tasks = step if isinstance(step, tuple) else (step,)
        for task in before:
            task >> tasks[0]
        if len(tasks) == 2:
            tasks[0] >> tasks[1]
        before = tasks


def train_on_drift(publish: BaseOperator, product: Product = "lending") -> None:
    """Behind the publication: a training of the product's model for the same as-of date, where the night's drift asks for one.

    Airflow judges a run by its last task alone, and drift is information: that task comes as soon as the night is
    published, whatever becomes of the others.
    """
    of_product = load_settings(product=product)
    drift = ShortCircuitOperator(
        task_id="drift",
        doc_md="Whether the night's drift asks for training; says which columns moved, and the limits. Starts no JVM.",
        python_callable=asks_training,
        op_kwargs={"as_of_date": AS_OF_DATE, "product": product},
        ignore_downstream_trigger_rules=False,
    )
    train = TriggerDagRunOperator(
        task_id="train_on_drift",
        doc_md=f"Starts {of_product.training_dag} for the same as-of date, and does not wait for it.",
        trigger_dag_id=of_product.training_dag,
        trigger_run_id=training_run_id(AS_OF_DATE),
        conf={"as_of_date": AS_OF_DATE},
        logical_date=None,
        skip_when_already_exists=True,
    )
    published = EmptyOperator(
        task_id="published", doc_md="Comes when the night is published.", trigger_rule=TriggerRule.ONE_SUCCESS
    )
    publish >> drift >> train
    [publish, train] >> published
