"""Airflow's scheduler, from an empty home: a market's files and indicators, a night that finds no champion, training, and
the night, published."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import closing, suppress
from datetime import date, timedelta
from pathlib import Path

import psycopg2
import pytest

from conf.database import role_dsn
from conf.settings import ROOT, Settings, load_settings
from conf.spark import JOBS_PYTHON
from dags.launch.database import database
from dags.launch.market import airflow
from dags.launch.run import RunFailed, next_as_of_date, run_dag

DAY = date(2025, 6, 30)
# A market so small that all is done in minutes; what it learns is nothing to judge a model by. Eleven defaults train it, and the
# four that judge it are fewer than MIN_DEFAULTS, so that they decide nothing.
SMALL = {
    "SIMULATION__BORROWERS": "300", "SIMULATION__HISTORY_MONTHS": "18", "SIMULATION__COMPANIES": "0",
    "TRAINING__FOLDS": "2", "TRAINING__TRAINING_COHORTS": "1", "TRAINING__MIN_DEFAULTS": "8",
    "TRAINING__MIN_AUC": "0", "TRAINING__ENSEMBLE_EPOCHS": "3", "TRAINING__ENSEMBLE_SEEDS": "1",
    "TRAINING__LIGHTGBM": '{"num_leaves": 5, "num_iterations": 10, "min_data_in_leaf": 5, "learning_rate": 0.1}',
    "TRAINING__GBT": '{"maxIter": 2, "maxDepth": 2, "stepSize": 0.3}',
    "ALLOCATION__FRONTIER_AMOUNTS": "2", "ALLOCATION__FRONTIER_TARGETS": "2",
    # Plans for a few rows are not worth compiling; tests/test_whole_way.py compiles them.
    "SPARK__CONF": '{"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}',
}


@pytest.fixture
def small_market(monkeypatch, free_port):
    """Settings of an empty, small market; its home is not pytest's, which another user, whom the database server runs as
    under root, could not enter."""
    home = Path(tempfile.mkdtemp(prefix="mosaic-scheduler-"))
    home.chmod(0o755)
    for name in ("jars", "classes.jsa"):
        (home / name).symlink_to(load_settings().home / name)
    monkeypatch.setenv("MOSAIC_HOME", str(home))
    for name, value in SMALL.items():
        monkeypatch.setenv(f"MOSAIC_{name}", value)
    for name in ("POSTGRES", "AIRFLOW"):
        monkeypatch.setenv(f"MOSAIC_PORTS__{name}", str(free_port()))
    try:
        yield load_settings()
    finally:
        subprocess.run([JOBS_PYTHON, "-m", "spark_jobs.database_server", "stop"], cwd=ROOT)
        shutil.rmtree(home)


def servers_of(settings: Settings) -> list[str]:
    """The running processes that the market's home was handed to, by argument or environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes()
            if str(settings.home).encode() in command + (process / "environ").read_bytes():
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


def asked(settings: Settings, sql: str) -> list[tuple]:
    with closing(psycopg2.connect(role_dsn(settings, "publisher"))) as session, session.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def test_the_scheduler_brings_a_market_from_files_to_a_publication(small_market, capfd):
    settings = small_market
    with database(settings):
        with airflow(settings, follow_schedules=False) as (api, processes):
            assert servers_of(settings)
            run_dag(api, processes, "simulated_market", DAY)
            run_dag(api, processes, "market_indicators", DAY)
            with pytest.raises(RunFailed, match="nightly_scoring failed for 2025-06-30: check_champion"):
                run_dag(api, processes, "nightly_scoring", DAY)
            assert asked(settings, "SELECT gate, success, row_count > 0 FROM ops.gate_result") == [
                ("ingest_market_indicators.market_indicator", True, True)
            ]
            assert asked(settings, "SELECT count(*) FROM publication.batch") == [(0,)]
            run_dag(api, processes, "credit_training", DAY)
            run_dag(api, processes, "nightly_scoring", DAY)
        assert asked(settings, "SELECT as_of_date FROM publication.current_batch") == [(DAY,)]
        ((scored, all_in_range),) = asked(
            settings, "SELECT count(*), bool_and(prob_default > 0 AND prob_default < 1) FROM publication.borrower_score"
        )
        assert scored > 100 and all_in_range
        assert asked(settings, "SELECT count(*) > 0 FROM publication.allocation_summary") == [(True,)]
        assert asked(settings, "SELECT bool_and(success) FROM ops.gate_result") == [(True,)]
        assert next_as_of_date(settings) == DAY + timedelta(days=1)
    told = capfd.readouterr().out
    for task in ("simulate", "ingest_market_indicators", "gate_indicators", "passed", "train_credit", "promote_credit", "publish"):
        assert any(line.split()[1:3] == [task, "success"] for line in told.splitlines()), f"{task}\n{told}"
    assert "run the DAG credit_training" in told
    assert not servers_of(settings)
