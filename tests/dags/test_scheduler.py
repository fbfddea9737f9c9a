"""Airflow's scheduler, from an empty home: a market's files and indicators, and a night that finds no champion."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import closing, suppress
from datetime import date
from pathlib import Path

import psycopg2
import pytest

from conf.database import role_dsn
from conf.settings import ROOT, Settings, load_settings
from conf.spark import JOBS_PYTHON
from dags.launch.database import database
from dags.launch.market import airflow
from dags.launch.run import RunFailed, run_dag

DAY = date(2025, 6, 30)


@pytest.fixture
def small_market(monkeypatch, free_port):
    """Settings of an empty market of 300 borrowers; its home is not pytest's, which another user, whom the database
    server runs as under root, could not enter."""
    home = Path(tempfile.mkdtemp(prefix="mosaic-scheduler-"))
    home.chmod(0o755)
    for name in ("jars", "classes.jsa"):
        (home / name).symlink_to(load_settings().home / name)
    monkeypatch.setenv("MOSAIC_HOME", str(home))
    monkeypatch.setenv("MOSAIC_SIMULATION__BORROWERS", "300")
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


def test_the_scheduler_runs_jobs_gates_and_stops_at_a_missing_champion(small_market, capfd):
    settings = small_market
    with database(settings):
        with airflow(settings, follow_schedules=False) as (api, processes):
            assert servers_of(settings)
            run_dag(api, processes, "simulated_market", DAY)
            run_dag(api, processes, "market_indicators", DAY)
            with pytest.raises(RunFailed, match="nightly_scoring failed for 2025-06-30: check_champion"):
                run_dag(api, processes, "nightly_scoring", DAY)
        with closing(psycopg2.connect(role_dsn(settings, "publisher"))) as session, session.cursor() as cursor:
            cursor.execute("SELECT gate, success, row_count > 0 FROM ops.gate_result")
            assert cursor.fetchall() == [("ingest_market_indicators.market_indicator", True, True)]
            cursor.execute("SELECT count(*) FROM publication.batch")
            assert cursor.fetchone() == (0,)
    told = capfd.readouterr().out
    for task in ("simulate", "ingest_market_indicators", "gate_indicators"):
        assert any(line.split()[1:3] == [task, "success"] for line in told.splitlines()), f"{task}\n{told}"
    assert "run the DAG credit_training" in told
    assert not servers_of(settings)
