"""``make evaluate``: scores held against outcomes and peers, on each data set, from its files to one page.

Each data set has a market of its own under ``<home>/evaluation``: its files land and are mapped as on any night, then
the job evaluate trains and tests by the protocol of the source's mapping.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

from conf.settings import ROOT, Settings, load_settings
from conf.source import load_source
from conf.spark import JOBS_PYTHON
from dags.launch.jars import lend_set_up
from dags.launch.processes import Stopped, stopped_by_signals, uninterrupted

DATA_SETS = ("uci_credit_card", "lendingclub", "berka", "simulated")
PORT = 54_401
# An evaluation leaves a market's own files, lake, database and registry alone.
_OF_A_MARKET = ("MOSAIC_DATA", "MOSAIC_LAKE", "MOSAIC_DATABASE_DSN", "MOSAIC_MLFLOW_TRACKING_URI", "MOSAIC_SPARK__MASTER")


def main() -> int:
    """Exit code: 1 where a step failed or no data set was there."""
    parser = argparse.ArgumentParser(prog="make evaluate", description=__doc__)
    parser.add_argument("--data-sets", nargs="*", choices=DATA_SETS, default=None, help="some of the shipped ones")
    parser.add_argument("--source", help="a source of your own instead; its files are in MOSAIC_DATA")
    parser.add_argument("--folder", type=Path, default=ROOT.parent / "shared" / "data", help="holds a folder of each shipped data set")
    parser.add_argument("--full", action="store_true", help="the studies too: without gender and age, walk-forward, the AUC loss over seeds")
    parser.add_argument("--as-of-date", type=date.fromisoformat, help="the last day whose knowledge tells outcomes; by default the source's")
    options = parser.parse_args()
    settings = load_settings()
    names = [options.source] if options.source else options.data_sets or DATA_SETS
    evaluated = []
    try:
        with stopped_by_signals():
            for name in names:
                data = settings.data if options.source else options.folder / name
                if load_source(name).evaluation.drawn:
                    data = None
                elif data is None or not data.is_dir():
                    print(f"{name}: no folder {data}, left out; DATA= names the folder", file=sys.stderr)
                    continue
                evaluate(settings, name, data, options.as_of_date, options.full)
                evaluated.append(name)
            if not evaluated:
                return 1
            _run(["-m", "spark_jobs.evaluation_report", str(settings.home / "reports"), *evaluated], environment(settings, evaluated[0]))
    except subprocess.CalledProcessError as problem:
        print(f"make evaluate: {' '.join(problem.cmd[1:])} ended with code {problem.returncode}", file=sys.stderr)
        return 1
    return 0


def environment(settings: Settings, name: str) -> dict[str, str]:
    """The environment of a data set's market."""
    kept = {key: value for key, value in os.environ.items() if key not in _OF_A_MARKET}
    return kept | {"MOSAIC_SOURCE": name, "MOSAIC_HOME": str(_home(settings)), "MOSAIC_PORTS__POSTGRES": str(PORT)}


def _home(settings: Settings) -> Path:
    return settings.home / "evaluation"


def evaluate(settings: Settings, name: str, data: Path | None, as_of_date: date | None, full: bool) -> None:
    """Land, map and evaluate one data set, from an empty market; without data it is drawn.

    Raises subprocess.CalledProcessError.
    """
    source = load_source(name)
    day = as_of_date or source.evaluation.known_on or load_settings(source=name).night.first_as_of_date
    if day is None:
        raise SystemExit(f"make evaluate: {source.line('settings')}: name AS_OF=, the last day whose knowledge tells outcomes")
    # What was mapped by an earlier mapping would not be mapped again.
    shutil.rmtree(_home(settings) / name, ignore_errors=True)
    lend_set_up(settings, _home(settings))
    of_market = environment(settings, name)
    steps = [["open_night", "--training"], ["ingest", "--training"], ["evaluate", *(["--full"] if full else [])]]
    if drawn := source.evaluation.drawn:
        of_market |= {"MOSAIC_SIMULATION__BORROWERS": str(drawn.borrowers), "MOSAIC_SIMULATION__HISTORY_MONTHS": str(drawn.history_months)}
        steps = [["simulate"], *steps]
    else:
        of_market["MOSAIC_DATA"] = str(data)
    for step in steps:
        _run(["-m", "dags.launch.database", JOBS_PYTHON, "-m", "spark_jobs", *step, "--as-of-date", day.isoformat()], of_market)


def _run(arguments: list[str], of_market: dict[str, str]) -> None:
    command = [JOBS_PYTHON, *arguments]
    with subprocess.Popen(command, env=of_market, cwd=ROOT) as step:
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


if __name__ == "__main__":
    sys.exit(main())
