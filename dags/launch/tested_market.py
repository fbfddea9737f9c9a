"""A market of its own for a test of a source: emptied, then its files landed and mapped as on any night.

``make evaluate`` and ``make backtest`` have theirs, each below a home and on a port of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from conf.settings import ROOT, Settings, load_settings
from conf.source import load_source
from conf.spark import JOBS_PYTHON
from dags.launch.jars import lend_set_up
from dags.launch.processes import Stopped, uninterrupted

# A test leaves a market's own files, lake, database and registry alone.
_OF_A_MARKET = ("MOSAIC_DATA", "MOSAIC_LAKE", "MOSAIC_DATABASE_DSN", "MOSAIC_MLFLOW_TRACKING_URI", "MOSAIC_SPARK__MASTER")


@dataclass(frozen=True)
class TestedMarket:
    """What a test of a source starts from. data: the folder of its files; null for a market that is drawn."""

    source: str
    home: Path
    port: int
    data: Path | None

    def environment(self) -> dict[str, str]:
        """The environment of the market's jobs."""
        kept = {key: value for key, value in os.environ.items() if key not in _OF_A_MARKET}
        own = {"MOSAIC_SOURCE": self.source, "MOSAIC_HOME": str(self.home), "MOSAIC_PORTS__POSTGRES": str(self.port)}
        return kept | own | ({"MOSAIC_DATA": str(self.data)} if self.data else {})

    def empty(self, settings: Settings) -> None:
        """Remove what an earlier test has left, as what was mapped by an earlier mapping would not be mapped again."""
        shutil.rmtree(self.home / self.source, ignore_errors=True)
        lend_set_up(settings, self.home)

    def run_jobs(self, jobs: list[list[str]], day: date, **more: str) -> None:
        """Run jobs one after the other beside the market's database; more: variables of their environment.

        Raises subprocess.CalledProcessError.
        """
        for job in jobs:
            arguments = ["-m", "dags.launch.database", JOBS_PYTHON, "-m", "spark_jobs", *job, "--as-of-date", day.isoformat()]
            run_python(arguments, self.environment() | more)


def last_day(source: str, asked: date | None, target: str) -> date:
    """The last day whose knowledge tells outcomes: the one asked for, else the source's."""
    mapping = load_source(source)
    day = asked or mapping.evaluation.known_on or load_settings(source=source).night.first_as_of_date
    if day is None:
        raise SystemExit(f"make {target}: {mapping.line('settings')}: name AS_OF=, the last day whose knowledge tells outcomes")
    return day


def run_python(arguments: list[str], environment: dict[str, str]) -> None:
    """Run the jobs environment's Python and wait for its end.

    Raises subprocess.CalledProcessError.
    """
    command = [JOBS_PYTHON, *arguments]
    with subprocess.Popen(command, env=environment, cwd=ROOT) as step:
        try:
            code = step.wait()
        except Stopped:
            # Its job ends, and the database that it started.
            with uninterrupted():
                step.terminate()
                step.wait()
            raise
    if code:
        raise subprocess.CalledProcessError(code, command)
