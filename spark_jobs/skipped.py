"""A job that has nothing to do: Airflow skips its task and those behind it, and shows why."""

from __future__ import annotations

from typing import NoReturn

SKIPPED = 99
"""The exit code by which Airflow skips a task and those behind it."""


def skip(reason: str) -> NoReturn:
    """End the process with SKIPPED; the reason is its last line."""
    print(reason)
    raise SystemExit(SKIPPED)
