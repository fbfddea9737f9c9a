"""The supervisor leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conf.settings import ROOT
from dags.launch.processes import ProcessDied, descendants, supervised

# Ignores SIGTERM, and has a child in a session of its own that ignores it too.
STUBBORN = """
trap '' TERM
setsid sh -c 'trap "" TERM; while :; do sleep 1; done' &
echo ready
while :; do sleep 1; done
"""
# Ends at once but leaves a child behind, as a server that runs in the background does.
ORPHANING = "setsid sh -c 'while :; do sleep 1; done' & echo ready"


def await_text(path: Path, text: str) -> None:
    deadline = time.monotonic() + 20
    while text not in (path.read_text() if path.exists() else ""):
        assert time.monotonic() < deadline, f"no {text} in {path}"
        time.sleep(0.05)


@pytest.mark.parametrize("script", [STUBBORN, ORPHANING], ids=["stubborn", "orphaning"])
def test_children_that_do_not_go_are_gone_afterwards(tmp_path, script):
    before = descendants(os.getpid())
    with supervised(tmp_path, grace_seconds=0.5) as processes:
        processes.start("server", ["sh", "-c", script], os.environ, tmp_path)
        await_text(tmp_path / "server.log", "ready")
        assert len(descendants(os.getpid())) > len(before)
    assert descendants(os.getpid()) == before


def test_a_server_that_dies_is_told_with_the_end_of_its_log(tmp_path):
    with supervised(tmp_path) as processes:
        processes.start("server", ["sh", "-c", "echo no such port; exit 3"], os.environ, tmp_path)
        await_text(tmp_path / "server.log", "port")
        with pytest.raises(ProcessDied, match=r"server ended with code 3; .*\nno such port"):
            for _ in range(100):
                processes.check()
                time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_supervisor_stops_all(tmp_path, number):
    program = f"""
import os, sys, time
from pathlib import Path
from dags.launch.processes import stopped_by_signals, supervised
with stopped_by_signals(), supervised(Path({str(tmp_path)!r}), grace_seconds=0.5) as processes:
    processes.start("server", ["sh", "-c", {STUBBORN!r}], os.environ, Path("/"))
    while True:
        processes.check()
        time.sleep(0.05)
"""
    supervisor = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.DEVNULL)
    await_text(tmp_path / "server.log", "ready")
    below = descendants(supervisor.pid)
    assert len(below) >= 2
    supervisor.send_signal(number)
    assert supervisor.wait(timeout=30) == 128 + number
    assert not [pid for pid in below if Path("/proc", str(pid)).exists()]


def test_a_killed_supervisor_takes_its_servers_with_it(tmp_path):
    program = f"""
import os, time
from pathlib import Path
from dags.launch.processes import supervised
with supervised(Path({str(tmp_path)!r})) as processes:
    processes.start("server", ["sh", "-c", "echo ready; exec sleep 60"], os.environ, Path("/"))
    time.sleep(60)
"""
    supervisor = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    await_text(tmp_path / "server.log", "ready")
    (server,) = descendants(supervisor.pid)
    supervisor.kill()
    supervisor.wait()
    deadline = time.monotonic() + 20
    # Whoever adopts it may take a while to bury it.
    while Path("/proc", str(server)).exists() and " Z " not in Path("/proc", str(server), "stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
