"""Servers as children of one supervisor that leaves none of them behind, however they or their children behave."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from conf.settings import ROOT
from conf.spark import JOBS_PYTHON

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None, use_errno=True)
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ProcessDied(RuntimeError):
    """A server ended by itself; the message has the end of its log."""


class Stopped(SystemExit):
    """The supervisor was told to stop by a signal."""


def run_job(*arguments: str, **options: Any) -> int:
    """Run ``python -m`` in the jobs environment, its output on this terminal; returns its exit code.

    It has a session of its own, so that Ctrl-C reaches this process only, which then decides.
    """
    return subprocess.run([JOBS_PYTHON, "-m", *arguments], cwd=ROOT, start_new_session=True, **options).returncode


class Processes:
    """Children that are started in groups of their own, watched, and stopped together.

    The supervisor adopts whatever its children orphan, so that everything below it is found by parentage alone,
    also what has left its group or session.
    """

    def __init__(self, logs: Path, grace_seconds: float = 20) -> None:
        self._logs = logs
        self._grace_seconds = grace_seconds
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, command: list[str], environment: Mapping[str, str], folder: Path) -> None:
        """Start a server whose output goes to ``<logs>/<name>.log``."""
        with self.log(name).open("wb") as log:
            self._children[name] = subprocess.Popen(
                command, env=dict(environment), cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=_end_with_parent,
            )

    def log(self, name: str) -> Path:
        """Where a server's output goes."""
        return self._logs / f"{name}.log"

    def check(self) -> None:
        """Raise ProcessDied, with the end of its log, when a server has ended."""
        for name, child in self._children.items():
            if child.poll() is not None:
                tail = "\n".join(self.log(name).read_text(errors="replace").splitlines()[-15:])
                raise ProcessDied(f"{name} ended with code {child.returncode}; the end of {self.log(name)}:\n{tail}")
        _reap(known={child.pid for child in self._children.values()})

    def stop(self) -> None:
        """End every descendant: asked first, killed when it has not gone within the grace."""
        for child in self._children.values():
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + self._grace_seconds
        while remaining := self._remaining():
            if time.monotonic() > deadline:
                for pid in remaining:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        self._children.clear()

    def _remaining(self) -> list[int]:
        for child in self._children.values():
            child.poll()
        _reap(known=set())
        return descendants(os.getpid())


@contextmanager
def supervised(logs: Path, grace_seconds: float = 20) -> Iterator[Processes]:
    """Processes that are gone when the block is left."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    processes = Processes(logs, grace_seconds)
    try:
        yield processes
    finally:
        with uninterrupted():
            processes.stop()
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Turns SIGINT, SIGTERM and SIGHUP into Stopped, so that what the block has opened is closed."""
    with _handling(_raise_stopped):
        yield


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Signals to stop are not heard: impatience must not leave processes behind."""
    with _handling(signal.SIG_IGN):
        yield


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in STOPPING}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def descendants(pid: int) -> list[int]:
    """All living processes below a process, nearest first; the dead that nobody has waited for do not count."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name in brackets may hold spaces and brackets.
            state, parent = stat.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state not in "ZX":
                children.setdefault(int(parent), []).append(int(stat.parent.name))
    found, level = [], children.get(pid, [])
    while level:
        found += level
        level = [below for process in level for below in children.get(process, [])]
    return found


def _end_with_parent() -> None:
    """In a child: be told to end when the supervisor is killed outright."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _reap(known: set[int]) -> None:
    """Wait for the dead that were adopted; known children are waited for by who started them."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ChildProcessError):
            state, parent = stat.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state == "Z" and int(parent) == os.getpid() and int(stat.parent.name) not in known:
                os.waitpid(int(stat.parent.name), os.WNOHANG)


def _raise_stopped(number: int, frame: FrameType | None) -> None:
    del frame
    print(file=sys.stderr)
    raise Stopped(128 + number)
