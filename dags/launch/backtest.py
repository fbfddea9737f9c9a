"""``make backtest``: past listings scored, valued and bought as on their day, and what they really paid.

The market has a home of its own, ``<home>/backtest``: its files land and are mapped as on any night, then the job backtest
walks forward through the quarters that the source's mapping names, and the report invests in what it has scored.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from datetime import date
from pathlib import Path

from conf.settings import ROOT, load_settings
from dags.launch.processes import stopped_by_signals
from dags.launch.tested_market import TestedMarket, last_day, run_python

DATA_SET = "lendingclub"
PORT = 54_402


def main() -> int:
    """Exit code: 1 where a step failed or the data were not there."""
    parser = argparse.ArgumentParser(prog="make backtest", description=__doc__)
    parser.add_argument("--source", help="a source of your own instead; its files are in MOSAIC_DATA")
    parser.add_argument("--folder", type=Path, default=ROOT.parent / "shared" / "data", help="holds a folder of the data set, and macro")
    parser.add_argument("--as-of-date", type=date.fromisoformat, help="the last day whose knowledge tells outcomes; by default the source's")
    options = parser.parse_args()
    settings, name = load_settings(), options.source or DATA_SET
    data = settings.data if options.source else options.folder / DATA_SET
    if data is None or not data.is_dir():
        print(f"make backtest: no folder {data}; DATA= names the folder", file=sys.stderr)
        return 1
    market = TestedMarket(name, settings.home / "backtest", PORT, data)
    macro = settings.macro or options.folder / "macro"
    indicators = {"MOSAIC_MACRO": str(macro)} if macro.is_dir() else {}
    day = last_day(name, options.as_of_date, "backtest")
    # Indicators before ingest, which pins the versions of all tables.
    jobs = [["open_night", "--training"], ["ingest_market_indicators"], ["ingest", "--training"], ["backtest"]]
    try:
        with stopped_by_signals():
            market.empty(settings)
            market.run_jobs(jobs, day, **indicators)
            run_python(["-m", "spark_jobs.backtest_report", str(settings.home / "reports")], market.environment())
    except subprocess.CalledProcessError as problem:
        print(f"make backtest: {' '.join(problem.cmd[1:])} ended with code {problem.returncode}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
