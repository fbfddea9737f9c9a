"""``make evaluate``: scores held against outcomes and peers, on each data set, from its files to one page.

Each data set has a market of its own under ``<home>/evaluation``: its files land and are mapped as on any night, then
the job evaluate trains and tests by the protocol of the source's mapping.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from datetime import date
from pathlib import Path

from conf.settings import ROOT, Settings, load_settings
from conf.source import load_source
from dags.launch.processes import stopped_by_signals
from dags.launch.tested_market import TestedMarket, last_day, run_python

DATA_SETS = ("uci_credit_card", "lendingclub", "berka", "american_bankruptcy", "simulated")
PORT = 54_401


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
                market = TestedMarket(name, settings.home / "evaluation", PORT, data)
                evaluate(settings, market, options.as_of_date, options.full)
                evaluated.append(market)
            if not evaluated:
                return 1
            names = [market.source for market in evaluated]
            run_python(["-m", "spark_jobs.evaluation_report", str(settings.home / "reports"), *names], evaluated[0].environment())
    except subprocess.CalledProcessError as problem:
        print(f"make evaluate: {' '.join(problem.cmd[1:])} ended with code {problem.returncode}", file=sys.stderr)
        return 1
    return 0


def evaluate(settings: Settings, market: TestedMarket, as_of_date: date | None, full: bool) -> None:
    """Land, map and evaluate one data set, from an empty market; without data it is drawn.

    Raises subprocess.CalledProcessError.
    """
    day = last_day(market.source, as_of_date, "evaluate")
    market.empty(settings)
    among_files = market.data is not None and (market.data / "macro").is_dir()
    indicators = [["ingest_market_indicators"]] if settings.macro or among_files else []
    jobs = [["open_night", "--training"], *indicators, ["ingest", "--training"], ["evaluate", *(["--full"] if full else [])]]
    drawn, more = load_source(market.source).evaluation.drawn, {}
    if drawn:
        over = {
            "SIMULATION__BORROWERS": drawn.borrowers, "SIMULATION__HISTORY_MONTHS": drawn.history_months,
            "TRAINING__TRAINING_COHORTS": drawn.training_cohorts, "TRAINING__COHORT_STEP_MONTHS": drawn.cohort_step_months,
            # The tested day judges, and calibration is out of fold: every cohort trains.
            "TRAINING__CALIBRATION_COHORTS": 0, "TRAINING__JUDGING_COHORTS": 0,
        }
        more = {f"MOSAIC_{name}": str(value) for name, value in over.items()}
        jobs = [["simulate"], *jobs]
    market.run_jobs(jobs, day, **more)


if __name__ == "__main__":
    sys.exit(main())
