"""What make run and make up are made of, without starting a server."""

from __future__ import annotations

import json
import os
import signal
import stat
from contextlib import ExitStack
from datetime import date
from types import SimpleNamespace

import pytest

from conf.settings import load_settings
from dags.launch import airflow_home, bench, evaluate, run
from dags.launch import database as launch_database
from dags.launch.airflow_api import AirflowApi, TaskState, _exception_lines
from dags.launch.airflow_home import AirflowProblem
from dags.launch.market import dag_ids, owner, refuse_other_settings, tell_settings
from dags.launch.run import progress


@pytest.fixture
def market(tmp_path, monkeypatch):
    """Settings of a market whose database roles have their passwords."""
    monkeypatch.setenv("MOSAIC_AIRFLOW_PASSWORD", "secret")
    return load_settings(home=tmp_path)


def test_environment_is_this_markets_and_no_other_airflows(market, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", "/somewhere/else")
    monkeypatch.setenv("AIRFLOW__CELERY__BROKER_URL", "redis://other")
    environment = airflow_home.environment(market, follow_schedules=False)
    assert environment["AIRFLOW__CORE__DAGS_FOLDER"].endswith("/dags")
    assert "AIRFLOW__CELERY__BROKER_URL" not in environment
    assert environment["AIRFLOW_HOME"] == str(market.market / "airflow")
    assert environment["AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE"] == "False"
    # The provider takes the first spark-submit of the PATH.
    assert environment["PATH"].split(":")[0].endswith(".venv/jobs/bin")
    assert "127.0.0.1" in environment["NO_PROXY"]


def test_connection_carries_the_master(market):
    cluster = market.model_copy(update={"spark": market.spark.model_copy(update={"master": "spark://host:7077"})})
    connection = json.loads(airflow_home.environment(cluster, True)["AIRFLOW_CONN_MOSAIC_SPARK"])
    assert connection == {"conn_type": "spark", "host": "spark://host:7077"}


def test_secrets_are_made_once_and_are_private(market):
    first = airflow_home.environment(market, True)
    assert airflow_home.environment(market, True) == first
    assert len(airflow_home.password(market)) >= 12
    for path in (market.market / "airflow").glob("*.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_only_the_simulated_market_has_a_dag_that_simulates(market):
    assert "simulated_market" in dag_ids(market)
    assert "simulated_market" not in dag_ids(market.model_copy(update={"source": "lendingclub"}))


def test_a_run_goes_through_a_night_of_each_product_and_trains_where_no_champion_is(market, monkeypatch):
    began = []
    monkeypatch.setattr(run, "run_dag", lambda api, processes, dag_id, day: began.append(dag_id))
    monkeypatch.setattr(run, "has_champion", lambda settings, day: settings.product == "lending" or settings.training_dag in began)
    run.run_night(market, None, None, date(2026, 1, 31))
    assert began == ["simulated_market", "nightly_scoring", "company_training", "company_scoring"]
    assert set(began) <= set(dag_ids(market))
    began.clear()
    none = market.model_copy(update={"simulation": market.simulation.model_copy(update={"companies": 0})})
    run.run_night(none, None, None, date(2026, 1, 31))
    assert began == ["simulated_market", "nightly_scoring"] and "company_scoring" not in dag_ids(none)


def test_an_airflow_that_was_started_with_other_settings_is_not_used(market, tmp_path):
    market.market.mkdir()
    tell_settings(market)
    assert stat.S_IMODE((market.market / "servers.json").stat().st_mode) == 0o600, "Spark's settings may hold the keys of a lake"
    refuse_other_settings(market)
    simulation = market.simulation.model_copy(update={"borrowers": 7})
    asked = market.model_copy(update={"data": tmp_path, "simulation": simulation, "api_key": "secret"})
    with pytest.raises(AirflowProblem, match="another MOSAIC_DATA, MOSAIC_SIMULATION__BORROWERS: stop it"):
        refuse_other_settings(asked)


def test_a_market_has_one_owner_at_a_time(market):
    with owner(market) as first:
        assert first
        assert (market.market / "servers.lock").read_text() == str(os.getpid())
        with owner(market) as second:
            assert not second
        # Looking at a lock that is held leaves its owner's name there.
        assert (market.market / "servers.lock").read_text() == str(os.getpid())
    with owner(market) as third:
        assert third


@pytest.mark.parametrize(
    ("task", "line"),
    [
        (TaskState("ingest", "running", 1, None), "  ingest                    running"),
        (TaskState("ingest", "running", 2, None), "  ingest                    running             attempt 2"),
        (TaskState("ingest", "success", 1, 34.4), "  ingest                    success               34 s"),
    ],
)
def test_progress(task, line):
    assert progress(task) == line


def test_log_tail_leaves_out_what_only_repeats():
    # A failed spark-submit repeats its whole command, and what the job said, which stands above already.
    event = {"error_detail": [{"exc_type": "AirflowException", "exc_value": "Cannot execute: spark-submit --master local[*] …"}]}
    assert _exception_lines(event) == ["AirflowException: Cannot execute: "]
    assert _exception_lines({"event": "x"}) == []


def test_airflow_that_is_down_is_not_ready():
    assert not AirflowApi("http://127.0.0.1:1", "admin", "x").is_ready(("nightly_scoring",))


@pytest.fixture
def server(monkeypatch):
    """A server that is up or not, as a stand-in for PostgreSQL's; what it was told is in calls."""
    state = SimpleNamespace(is_up=False, calls=[])

    def answer(job, action, **options):
        state.calls.append(action)
        if action == "status":
            return 0 if state.is_up else 3
        state.is_up = action == "ensure"
        return 0

    monkeypatch.setattr(launch_database, "run_job", answer)
    return state


def test_the_database_goes_with_its_last_user(market, server):
    # A psql that started it and is closed first must not take it from a run that has joined.
    with ExitStack() as users:
        with launch_database.database(market):
            users.enter_context(launch_database.database(market))
        assert server.is_up
    assert not server.is_up
    assert server.calls.count("stop") == 1


def test_a_database_that_was_up_stays_up(market, server):
    server.is_up = True
    with launch_database.database(market):
        pass
    assert server.is_up


def test_a_command_runs_beside_the_database_and_keeps_its_exit_code(market, server, monkeypatch):
    monkeypatch.setattr(launch_database, "load_settings", lambda: market)
    monkeypatch.setattr("sys.argv", ["database", "sh", "-c", "exit 7"])
    assert launch_database.main() == 7
    assert server.calls == ["status", "ensure", "stop"]


def test_who_ends_the_command_beside_the_database_ends_both(market, server, monkeypatch):
    monkeypatch.setattr(launch_database, "load_settings", lambda: market)
    monkeypatch.setattr("sys.argv", ["database", "sh", "-c", f"sleep 0.5; kill {os.getpid()}; exec sleep 60"])
    assert launch_database.main() == -signal.SIGTERM
    assert server.calls == ["status", "ensure", "stop"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_benchmarks_other_markets_score_with_the_model_of_the_first(market, monkeypatch):
    markets = []
    for size in (20, 10):
        for name, value in bench.market_environment(market, size).items():
            monkeypatch.setenv(name, value)
        markets.append(load_settings())
    bench.lend_models(market, 20, 10)
    registries = [settings.market / "mlflow" / "mlflow.db" for settings in markets]
    registries[0].parent.mkdir(parents=True)
    registries[0].touch()
    assert [settings.tracking_uri for settings in markets] == [f"sqlite:///{registry}" for registry in registries]
    assert registries[1].samefile(registries[0])


def test_an_own_source_is_evaluated_from_its_files_and_a_drawn_one_from_none(market, tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(evaluate, "load_settings", lambda: market.model_copy(update={"data": tmp_path / "files"}))
    monkeypatch.setattr(evaluate.TestedMarket, "empty", lambda self, settings: None)
    monkeypatch.setattr(evaluate.TestedMarket, "run_jobs", lambda self, jobs, day, **more: ran.append((self.source, self.data, jobs, day, more)))
    monkeypatch.setattr(evaluate, "run_python", lambda arguments, environment: ran.append(arguments))
    (tmp_path / "files").mkdir()
    monkeypatch.setattr("sys.argv", ["evaluate", "--source", "berka", "--full", "--as-of-date", "2001-12-31"])
    assert evaluate.main() == 0
    jobs = [["open_night", "--training"], ["ingest", "--training"], ["evaluate", "--full"]]
    assert ran[0] == ("berka", tmp_path / "files", jobs, date(2001, 12, 31), {})
    assert ran[1] == ["-m", "spark_jobs.evaluation_report", str(market.home / "reports"), "berka"]

    monkeypatch.setattr("sys.argv", ["evaluate", "--data-sets", "uci_credit_card", "simulated", "--folder", str(tmp_path)])
    assert evaluate.main() == 0
    # There is no folder of the one.
    (source, data, jobs, day, more), report = ran[2:]
    assert (source, data, jobs[0], jobs[-1], day) == ("simulated", None, ["simulate"], ["evaluate"], date(2025, 6, 30))
    assert (more["MOSAIC_SIMULATION__BORROWERS"], more["MOSAIC_TRAINING__JUDGING_COHORTS"]) == ("10000", "0")
    assert report[-1] == "simulated"

    (tmp_path / "files").rmdir()
    monkeypatch.setattr("sys.argv", ["evaluate", "--source", "berka"])
    assert evaluate.main() == 1 and len(ran) == 4
