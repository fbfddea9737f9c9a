"""One clear line for each thing that a machine lacks, and exit code 1."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from conf.settings import ROOT
from dags.launch import preflight

SCRIPT = ROOT / "dags" / "launch" / "preflight.py"


@pytest.fixture
def java(tmp_path, monkeypatch):
    """Puts a java on an otherwise empty PATH that answers what it is told to."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)

    def answering(answer: str, code: int = 0) -> Path:
        path = folder / "java"
        path.write_text(f"#!/bin/sh\necho '{answer}' >&2\nexit {code}\n")
        path.chmod(0o755)
        return path

    return answering


def test_no_java(java):
    assert preflight.java_problem().startswith("no Java found: install Java 17")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ('openjdk version "17.0.15" 2025-04-15', None),
        ('openjdk version "17-ea" 2021-09-14', None),
        ('openjdk version "21.0.2" 2024-01-16', "Java 21.0.2 from the PATH, but Java 17 is needed"),
        # Java 8 called itself 1.8.
        ('java version "1.8.0_402"', "Java 1.8.0_402 from the PATH, but Java 17 is needed"),
    ],
)
def test_java_version(java, answer, problem):
    java(answer)
    found = preflight.java_problem()
    assert found is None if problem is None else found.startswith(problem)


def test_java_that_does_not_start(java):
    java("error while loading shared libraries", code=127)
    assert preflight.java_problem().startswith("Java from the PATH does not start")


def test_java_home_goes_before_the_path(java, tmp_path, monkeypatch):
    # spark-submit takes JAVA_HOME first, so a good java on the PATH does not help.
    java('openjdk version "17.0.15"')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "gone"))
    assert preflight.java_problem().startswith(f"Java from JAVA_HOME={tmp_path / 'gone'} does not start")


def test_too_little_disk(monkeypatch):
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: SimpleNamespace(free=1.24e9))
    assert preflight.disk_problem().startswith(f"1.2 GB free in {ROOT}, ")


def test_folders(tmp_path, monkeypatch):
    empty, file, full = tmp_path / "empty", tmp_path / "file.csv", tmp_path / "full"
    empty.mkdir()
    full.mkdir()
    (full / "a.csv").touch()
    file.touch()
    for folder, problem in {
        tmp_path / "gone": "is not a folder", file: "is not a folder", empty: "is empty", full: None, "": None,
    }.items():
        monkeypatch.setenv("MOSAIC_DATA", str(folder))
        found = preflight.folder_problem("DATA")
        assert found is None if problem is None else problem in found, folder


def test_an_unknown_source_is_told_with_those_that_there_are(monkeypatch):
    assert preflight.source_problem() is None
    monkeypatch.setenv("MOSAIC_SOURCE", "lendingclob")
    assert preflight.source_problem().startswith("no source lendingclob: known are ")
    assert "lendingclub" in preflight.source_problem()


def test_a_lender_without_files(tmp_path, monkeypatch):
    monkeypatch.setenv("MOSAIC_HOME", str(tmp_path))
    assert preflight.data_problem() is None, "the simulated market writes its own"
    monkeypatch.setenv("MOSAIC_SOURCE", "lendingclub")
    assert preflight.data_problem().startswith("no files of lendingclub: name the folder that holds them with DATA=")
    (tmp_path / "lendingclub" / "landing").mkdir(parents=True)
    assert preflight.data_problem() is None


def test_unreadable_folder(tmp_path, monkeypatch):
    # Root may read anything, so the refusal itself is put in place.
    monkeypatch.setenv("MOSAIC_MACRO", str(tmp_path))
    monkeypatch.setattr(preflight.Path, "iterdir", lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert preflight.folder_problem("MACRO") == f"MACRO={tmp_path} cannot be read (Permission denied): give this user read access"


@pytest.fixture
def taken_port(monkeypatch):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        for name in ("POSTGRES", "AIRFLOW"):
            monkeypatch.setenv(f"MOSAIC_PORTS__{name}", str(port))
        yield port


def test_taken_port(taken_port):
    assert preflight.port_problem("airflow") == (
        f"port {taken_port} for Airflow is taken: stop what listens there (`ss -ltnp`)"
        f" or choose another with MOSAIC_PORTS__AIRFLOW={taken_port + 1}"
    )


def test_a_real_database_needs_no_port_here(taken_port, monkeypatch):
    monkeypatch.setenv("MOSAIC_DATABASE_DSN", "postgresql://u@h/db")
    assert preflight.port_problem("postgres") is None


def test_own_database_server_on_the_port_is_fine(taken_port, tmp_path, monkeypatch):
    monkeypatch.setenv("MOSAIC_HOME", str(tmp_path))
    assert "PostgreSQL is taken" in preflight.port_problem("postgres")
    data = tmp_path / "simulated" / "postgres"
    data.mkdir(parents=True)
    # As PostgreSQL writes it: process, folder, start time, port.
    (data / "postmaster.pid").write_text(f"{os.getpid()}\n{data}\n1700000000\n{taken_port}\n")
    assert preflight.port_problem("postgres") is None
    # A process file that outlived its process.
    (data / "postmaster.pid").write_text(f"4194305\n{data}\n1700000000\n{taken_port}\n")
    assert "PostgreSQL is taken" in preflight.port_problem("postgres")


def test_own_airflow_on_the_port_is_fine_while_its_owner_lives(taken_port, tmp_path, monkeypatch):
    monkeypatch.setenv("MOSAIC_HOME", str(tmp_path))
    market = tmp_path / "simulated"
    market.mkdir()
    (market / "servers.lock").write_text("")
    assert "Airflow is taken" in preflight.port_problem("airflow")
    with (market / "servers.lock").open("r+") as lock:
        preflight.fcntl.flock(lock, preflight.fcntl.LOCK_EX)
        assert preflight.port_problem("airflow") is None


def test_settings_are_read_without_yaml(monkeypatch):
    assert preflight.setting("source") == "simulated"
    assert preflight.setting("ports__mlflow") == "5000"
    monkeypatch.setenv("MOSAIC_PORTS__MLFLOW", "5001")
    assert preflight.setting("ports__mlflow") == "5001"


def test_script_says_all_and_ends_with_1(tmp_path, taken_port):
    # With a bare Python and nothing of ours on its path.
    answer = subprocess.run(
        [sys.executable, "-I", SCRIPT, "airflow"],
        env={"PATH": str(tmp_path), "MOSAIC_DATA": str(tmp_path / "gone"), "MOSAIC_PORTS__AIRFLOW": str(taken_port)},
        capture_output=True, text=True,
    )
    assert answer.returncode == 1
    lines = answer.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == ["make"] * 3
    assert "no Java" in lines[0]
    assert "gone is not a folder" in lines[1]
    assert f"port {taken_port}" in lines[2]
