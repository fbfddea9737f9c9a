"""What every DAG must have, and what its tasks run: rendered commands equal their checked-in text."""

from __future__ import annotations

import ast
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.standard.operators import hitl
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, TriggerRule
from airflow.sdk.exceptions import AirflowException, AirflowSensorTimeout, AirflowSkipException, TaskAwaitingInput
from airflow.sdk.execution_time import macros

from conf.settings import ROOT, load_settings
from dags import job_tasks
from dags.job_tasks import FailOnLastingErrors, JobOperator, LandedFilesSensor, as_of_date, by_clock

COMPANY_DAG_IDS = ("company_scoring", "company_training")
DAG_IDS = ("nightly_scoring", "credit_training", "market_indicators", "simulated_market", "rollback_publication", *COMPANY_DAG_IDS)
COMMANDS = Path(__file__).parent / "commands"


@pytest.fixture(scope="module")
def company_dags() -> DagBag:
    """The DAGs of a market of companies alone, on a machine with two cores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.cpu_count", lambda: 2)
        patch.setenv("MOSAIC_SOURCE", "american_bankruptcy")
        return DagBag(str(ROOT / "dags"))


def test_all_dags_are_read(dag_bag):
    assert dag_bag.import_errors == {}
    assert sorted(dag_bag.dags) == sorted(DAG_IDS)


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_dag_says_whose_it_is_and_what_it_does(dag_bag, dag_id):
    dag = dag_bag.dags[dag_id]
    assert dag.doc_md.startswith("# ")
    assert dag.tags
    assert not dag.catchup
    assert dag.max_active_runs == 1
    assert dag.params.get_param("batch" if dag_id == "rollback_publication" else "as_of_date").description
    for task in dag.tasks:
        if task.task_id not in ("check_champion", "await_files", "rollback_publication"):
            assert task.retries == 2 and task.retry_exponential_backoff, task.task_id
        assert task.pool == ("spark" if isinstance(task, SparkSubmitOperator) else "default_pool"), task.task_id
        assert task.owner != "airflow", task.task_id
        assert task.doc_md, task.task_id
        assert task.execution_timeout, task.task_id
        assert task.on_failure_callback, task.task_id


def rendered_commands(dag: DAG) -> str:
    """What the DAG's tasks run for one as-of date, an option a line; paths of this machine are replaced."""
    context = {
        "params": {"as_of_date": "2011-06-30", "batch": "2011-06-30-0123456789ab"},
        "dag_run": SimpleNamespace(data_interval_start=None, run_after=datetime(2026, 1, 2, tzinfo=UTC)),
        **dag.user_defined_macros,
    }
    lines = []
    for task in dag.topological_sort():
        if not isinstance(task, SparkSubmitOperator | BashOperator):
            continue
        task.render_template_fields(context)
        if isinstance(task, SparkSubmitOperator):
            command, environment = task._get_hook()._build_spark_submit_command(task.application), task.env_vars
        else:
            command, environment = [task.bash_command], task.env or {}
        lines += [f"# {task.task_id}", *(f"{name}={value}" for name, value in environment.items())]
        lines += [part if part.startswith("-") else f"    {part}" for part in command]
        lines.append("")
    return "\n".join(lines).replace(str(load_settings().home), "<home>").replace(str(ROOT), "<project>")


@pytest.mark.parametrize("dag_id", [name for name in DAG_IDS if name not in COMPANY_DAG_IDS])
def test_commands_are_as_checked_in(dag_bag, dag_id):
    rendered, path = rendered_commands(dag_bag.dags[dag_id]), COMMANDS / f"{dag_id}.txt"
    assert rendered == path.read_text(), f"if this change is wanted, {path} becomes:\n{rendered}"


@pytest.mark.parametrize("dag_id", COMPANY_DAG_IDS)
def test_a_market_of_companies_has_a_night_and_a_training_of_its_own(dag_bag, company_dags, dag_id):
    assert company_dags.import_errors == {}
    dag, path = company_dags.dags[dag_id], COMMANDS / f"{dag_id}.txt"
    assert rendered_commands(dag) == path.read_text(), f"if this change is wanted, {path} becomes:\n{rendered_commands(dag)}"
    assert dag.doc_md.startswith("# ") and dag.tags and not dag.catchup and dag.max_active_runs == 1
    assert all(task.owner != "airflow" and task.doc_md and task.execution_timeout and task.on_failure_callback for task in dag.tasks)
    # A market of borrowers that tells of companies too has the same beside its own.
    assert rendered_commands(dag_bag.dags[dag_id]) == rendered_commands(dag).replace("american_bankruptcy", "simulated")
    # What scores and trains borrowers does not start by the clock here, and this does.
    assert dag.timetable.can_be_scheduled
    assert not any(company_dags.dags[other].timetable.can_be_scheduled for other in ("nightly_scoring", "credit_training"))


def test_nothing_passes_a_job_or_a_gate_of_companies(company_dags):
    night, training = map(company_dags.dags.get, COMPANY_DAG_IDS)
    for dag, job, gate, after in (
        (night, "ingest", "gate_silver", "score_company"), (night, "score_company", "gate_scores", "publish"),
        (training, "ingest", "gate_silver", "train_company"), (training, "train_company", "gate_training", "promote_credit"),
    ):
        assert dag.get_task(gate).upstream_task_ids == {job} and dag.get_task(gate).trigger_rule == TriggerRule.ONE_DONE
        assert dag.get_task(after).upstream_task_ids == {job, gate} and dag.get_task(after).trigger_rule == TriggerRule.ALL_SUCCESS
    assert [task.task_id for task in night.roots] == ["check_champion"] and [task.task_id for task in night.leaves] == ["published"]
    outlets = {asset.name for task in night.tasks for asset in task.outlets}
    assert {"american_bankruptcy.silver.filing", "american_bankruptcy.gold.company_score", "publication.company"} <= outlets


def test_night_submits_at_most_five_spark_jobs(dag_bag):
    tasks = dag_bag.dags["nightly_scoring"].tasks
    assert [task.task_id for task in tasks if isinstance(task, SparkSubmitOperator)] == [
        "ingest", "build_features", "score", "allocate", "publish",
    ]
    assert all(task.pool == "spark" for task in tasks if isinstance(task, SparkSubmitOperator))


def test_night_asks_for_a_champion_first(dag_bag):
    assert [task.task_id for task in dag_bag.dags["nightly_scoring"].roots] == ["check_champion"]


def test_nothing_passes_a_job_or_a_gate(dag_bag):
    # Both stand before the next job: the gate runs after a failed job too, to say why, and must not open the way then.
    night = dag_bag.dags["nightly_scoring"]
    for job, gate, after in (
        ("ingest", "gate_silver", "build_features"),
        ("build_features", "gate_features", "score"),
        ("score", "gate_scores", "allocate"),
        ("allocate", "gate_allocations", "publish"),
    ):
        assert night.get_task(gate).upstream_task_ids == {job}
        assert night.get_task(gate).trigger_rule == TriggerRule.ONE_DONE
        assert night.get_task(after).upstream_task_ids == {job, gate}
        assert night.get_task(after).trigger_rule == TriggerRule.ALL_SUCCESS


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_a_run_is_green_only_when_every_job_was(dag_bag, dag_id):
    # Airflow looks at the last tasks alone, and a gate that runs after a failed job may be green.
    dag = dag_bag.dags[dag_id]
    # What drift does is no job of the night: see the next test.
    beside = ("drift", "train_on_drift", "published")
    for task in dag.leaves:
        assert task.trigger_rule == TriggerRule.ALL_SUCCESS or task.task_id in beside, task.task_id
    for task in dag.tasks:
        if task.task_id in beside:
            continue
        after = [dag.get_task(name) for name in task.downstream_task_ids]
        # What follows a task that may be skipped still fails with it.
        follows = (TriggerRule.ALL_SUCCESS, TriggerRule.NONE_FAILED)
        assert not after or any(one.trigger_rule in follows for one in after), task.task_id


@pytest.mark.parametrize(
    ("dag_id", "product", "training"), [("nightly_scoring", "lending", "credit_training"), ("company_scoring", "company", "company_training")]
)
def test_drift_trains_behind_the_publication_and_cannot_fail_the_night(dag_bag, dag_id, product, training):
    night = dag_bag.dags[dag_id]
    drift, train, published = map(night.get_task, ("drift", "train_on_drift", "published"))
    assert drift.upstream_task_ids == {"publish"} and train.upstream_task_ids == {"drift"}
    # No drift skips the training, and not the last task, which one success lets come: the publication's.
    assert not drift.ignore_downstream_trigger_rules
    assert [task.task_id for task in night.leaves] == ["published"]
    assert published.upstream_task_ids == {"publish", "train_on_drift"} and published.trigger_rule == TriggerRule.ONE_SUCCESS
    assert drift.trigger_rule == train.trigger_rule == TriggerRule.ALL_SUCCESS

    run = SimpleNamespace(data_interval_start=None, run_after=datetime(2026, 1, 2, tzinfo=UTC))
    train.render_template_fields({"params": {"as_of_date": "2011-06-30"}, "dag_run": run, **night.user_defined_macros})
    assert (train.trigger_dag_id, train.trigger_run_id, train.conf) == (
        training, "drift__2011-06-30", {"as_of_date": "2011-06-30"}
    )
    assert drift.op_kwargs["product"] == product
    assert train.logical_date is None and train.skip_when_already_exists and not train.wait_for_completion


def test_tables_are_assets(dag_bag):
    outlets = {asset.name: asset.uri for dag in dag_bag.dags.values() for task in dag.tasks for asset in task.outlets}
    tables = {f"simulated.{name}" for name in ("silver.loan", "silver.market_indicator", "gold.population", "gold.borrower_score", "gold.allocation")}
    assert tables | {"publication.lending", "model.simulated-credit"} <= set(outlets)
    # Not where it lies: a market that moves keeps its assets.
    assert outlets["simulated.silver.loan"] == "mosaic://simulated/silver/loan"


def test_a_plain_job_fails_with_what_it_said_last():
    says = "import sys; print('working', flush=True); sys.exit('spark_jobs.landing.LandingError: loans.csv is empty')"
    task = JobOperator(task_id="open_night", bash_command=f'{sys.executable} -c "{says}"', cwd=str(ROOT))
    with pytest.raises(AirflowException, match=r"LandingError: loans\.csv is empty \(exit code 1\)") as failure:
        task.execute({})
    assert FailOnLastingErrors().evaluate(failure.value, 1, 3).action.value == "fail"
    assert JobOperator(task_id="summary", bash_command="echo done", cwd=str(ROOT)).execute({}) == "done"


def test_a_late_file_fails_by_its_name(tmp_path, monkeypatch):
    lender = load_settings(source="lendingclub", data=tmp_path)
    monkeypatch.setattr(job_tasks, "load_settings", lambda: lender)
    sensor = LandedFilesSensor(task_id="await_files", as_of_date="2011-06-30", product="lending", timeout=0, poke_interval=0.01, mode="poke")
    with pytest.raises(AirflowSensorTimeout, match=rf"late files, awaited for 0 minutes: accepted \(accepted.*in {tmp_path}\)"):
        sensor.execute({})
    (tmp_path / "accepted_2007.csv.gz").touch()
    sensor.execute({})


def test_indicators_come_from_files_too_where_nothing_is_fetched(dag_bag):
    indicators = dag_bag.dags["market_indicators"]
    ingest = indicators.get_task("ingest_market_indicators")
    assert ingest.upstream_task_ids == {"fetch_indicators"} and ingest.trigger_rule == TriggerRule.NONE_FAILED


def test_a_job_without_its_key_is_skipped_with_what_to_set():
    says = "import sys; print('fetch_filings is skipped: set MOSAIC_KEYS__DART'); sys.exit(99)"
    task = JobOperator(task_id="fetch_filings", bash_command=f'{sys.executable} -c "{says}"', cwd=str(ROOT))
    with pytest.raises(AirflowSkipException, match="set MOSAIC_KEYS__DART"):
        task.execute({})


@pytest.mark.parametrize("source", ["opendart", "edgar"])
def test_a_source_of_filings_fetches_them_daily(monkeypatch, source):
    monkeypatch.setenv("MOSAIC_SOURCE", source)
    bag = DagBag(str(ROOT / "dags" / "company_filings.py"))
    assert bag.import_errors == {}
    filings = bag.dags["company_filings"]
    assert filings.doc_md.startswith("# ") and filings.tags == {"landing", source} and filings.max_active_runs == 1
    assert rendered_commands(filings) == (COMMANDS / "company_filings.txt").read_text()


def test_training_needs_no_champion(dag_bag):
    training = dag_bag.dags["credit_training"]
    assert "check_champion" not in training.task_ids
    assert "--training" in training.get_task("open_night").bash_command
    assert "--training" in training.get_task("ingest").application_args
    for name in ("gate_silver", "gate_training"):
        assert training.get_task(name).op_kwargs["work"] == "training"


def test_without_approval_the_rules_alone_promote(dag_bag):
    training = dag_bag.dags["credit_training"]
    assert {"check_challenger", "approve_credit"}.isdisjoint(training.task_ids)
    assert training.get_task("promote_credit").upstream_task_ids == {"train_credit", "gate_training"}
    changes = {task.task_id for task in training.tasks for outlet in task.outlets if outlet.name == "model.simulated-credit"}
    assert changes == {"promote_credit"}


@pytest.fixture
def asking(monkeypatch) -> DAG:
    """Credit training with approval."""
    monkeypatch.setenv("MOSAIC_TRAINING__APPROVAL", "true")
    bag = DagBag(str(ROOT / "dags" / "credit_training.py"))
    assert bag.import_errors == {}
    return bag.dags["credit_training"]


def test_with_approval_a_person_stands_before_a_company_model_too(monkeypatch):
    monkeypatch.setenv("MOSAIC_TRAINING__APPROVAL", "true")
    monkeypatch.setenv("MOSAIC_SOURCE", "american_bankruptcy")
    bag = DagBag(str(ROOT / "dags" / "company_training.py"))
    assert bag.import_errors == {}
    training = bag.dags["company_training"]
    assert training.get_task("check_challenger").upstream_task_ids == {"train_company", "gate_training"}
    assert training.get_task("promote_credit").upstream_task_ids == {"approve_credit"}
    assert training.get_task("approve_credit").subject.endswith("of american_bankruptcy-company become champion?")


def rendered(task, told, answer=None):
    """The task as Airflow renders it after check_challenger has told and, where there is one, a person has answered."""
    pulled = {"check_challenger": json.dumps(told), "approve_credit": answer}
    run = SimpleNamespace(data_interval_start=None, run_after=datetime(2026, 1, 2, tzinfo=UTC))
    task.render_template_fields({
        "params": {"as_of_date": "2011-06-30"}, "dag_run": run, "as_of_date": as_of_date, "macros": macros,
        "ti": SimpleNamespace(xcom_pull=lambda task_ids: pulled[task_ids]),
    })
    return task


def test_with_approval_a_person_stands_between_training_and_promotion(asking):
    assert asking.get_task("check_challenger").upstream_task_ids == {"train_credit", "gate_training"}
    assert asking.get_task("approve_credit").upstream_task_ids == {"check_challenger"}
    assert asking.get_task("promote_credit").upstream_task_ids == {"approve_credit"}
    assert [task.task_id for task in asking.leaves] == ["promote_credit"]
    approval = asking.get_task("approve_credit")
    assert approval.retries == 0 and approval.on_failure_callback
    # Nobody's silence is a yes; and the run lasts as long as the question.
    assert approval.defaults is None and approval.response_timeout < asking.dagrun_timeout
    assert approval.execution_timeout is None


def test_who_is_asked_sees_the_rules_and_what_was_approved_is_promoted(asking, monkeypatch):
    asked = {}
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **detail: asked.update(detail))
    told = {"version": "7", "rules": "- passed: AUC 0.8 on the judging cohort"}
    approval = rendered(asking.get_task("approve_credit"), told)
    with pytest.raises(TaskAwaitingInput):
        approval.execute({"task_instance": SimpleNamespace(id="one")})
    assert asked["subject"] == "May version 7 of simulated-credit become champion?"
    assert asked["body"].startswith("- passed: AUC 0.8 on the judging cohort\n")
    answer = approval.execute_complete({}, {
        "chosen_options": ["Approve"], "params_input": None, "responded_at": datetime(2026, 1, 3, tzinfo=UTC),
        "responded_by_user": {"id": "1", "name": "admin; rm -rf /"},
    })
    promotion = rendered(asking.get_task("promote_credit"), told, answer)
    assert promotion.env == {"MODEL": "7", "APPROVED_BY": "admin; rm -rf /"} and promotion.append_env
    assert promotion.bash_command.endswith('promote_credit --as-of-date 2011-06-30 --model "$MODEL" --approved-by "$APPROVED_BY"')


def test_a_challenger_that_broke_a_rule_skips_what_follows_with_the_reason():
    task = JobOperator(task_id="check_challenger", bash_command="echo AUC 0.5, at least 0.55 asked for; exit 99")
    with pytest.raises(AirflowSkipException, match=r"AUC 0\.5, at least 0\.55 asked for"):
        task.execute({})


@pytest.mark.parametrize(
    ("params", "interval_start", "expected"),
    [
        ({"as_of_date": "2011-06-30"}, None, "2011-06-30"),
        # The night of 2 January, 02:00, scores the first.
        ({}, datetime(2026, 1, 1, 2, tzinfo=UTC), "2026-01-01"),
        # An asset or a hand started the run: no logical date, so the day before it was made.
        ({"as_of_date": None}, None, "2026-01-04"),
    ],
)
def test_as_of_date(params, interval_start, expected):
    run = SimpleNamespace(data_interval_start=interval_start, run_after=datetime(2026, 1, 5, 9, tzinfo=UTC))
    assert as_of_date(params, run) == expected


def test_as_of_date_follows_the_time_zone_of_the_schedule(monkeypatch):
    monkeypatch.setenv("MOSAIC_NIGHT__TIMEZONE", "Asia/Seoul")
    # 02:00 in Seoul is 17:00 UTC the day before.
    run = SimpleNamespace(data_interval_start=datetime(2026, 1, 1, 17, tzinfo=UTC), run_after=None)
    assert as_of_date({}, run) == "2026-01-02"


def test_as_of_date_must_be_a_date():
    with pytest.raises(ValueError, match="Invalid isoformat"):
        as_of_date({"as_of_date": "2026-01-01; rm -rf /"}, None)


def test_schedule_can_be_manual():
    assert by_clock("manual") is None
    assert by_clock("0 2 * * *") is not None


@pytest.mark.parametrize(
    ("message", "action"),
    [
        ("spark_jobs.gates.GateFailed: loan: 3 rows", "fail"),
        ("conf.source.SourceError: no column", "fail"),
        ("java.net.ConnectException: Connection refused", "default"),
        # A word about gates in a log is not the error itself.
        ("GateFailed was not raised", "default"),
    ],
)
def test_only_what_may_pass_is_tried_again(message, action):
    assert FailOnLastingErrors().evaluate(RuntimeError(message), 1, 3).action.value == action


def test_dags_import_no_job_code_beyond_conf():
    for path in (ROOT / "dags").rglob("*.py"):
        if path.name == "job.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            own = {name.split(".")[0] for name in names} & {"spark_jobs", "features", "models", "expectations", "serving"}
            assert not own, f"{path} imports {own}"


def test_a_simulated_market_without_companies_has_no_dags_of_theirs(monkeypatch):
    monkeypatch.setenv("MOSAIC_SIMULATION__COMPANIES", "0")
    bag = DagBag(str(ROOT / "dags"))
    assert bag.import_errors == {} and not set(COMPANY_DAG_IDS) & set(bag.dags) and "nightly_scoring" in bag.dags
