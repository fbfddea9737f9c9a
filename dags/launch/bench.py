"""``make bench``: wall time and peak memory of each nightly task at several sizes, cost of reason codes and of look-ups, and of
allocating at 100,000 listings, 1,000 scenarios and 20 tiers.

Each size has a market of its own under ``<home>/bench``, with its history in silver; the night after that is
measured, the first of a month, which brings a month of every account. A market of 200 borrowers tells the fixed cost,
which no amount of data changes. The model is trained once, at the first size, and scores the others: the night is
measured, not the training.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import httpx

from conf.settings import ROOT, Settings, load_settings
from conf.spark import JOBS_PYTHON
from dags.launch.jars import lend_set_up
from dags.launch.processes import descendants, stopped_by_signals, supervised

FIXED_COST_BORROWERS = 200
SIZES = (20_000, 200_000)
HISTORY_UNTIL = date(2025, 6, 30)
MEASURED = HISTORY_UNTIL + timedelta(days=1)
NIGHT = ("open_night", "ingest", "build_features", "score", "allocate", "publish")
PORTS = (54_400, 18_400)
LOOK_UPS = 2_000


@dataclass(frozen=True)
class Cost:
    """What one task took: seconds, and the largest memory of its process tree in bytes, shared pages counted once."""

    seconds: float
    bytes: int


def main() -> int:
    """Print the tables; exit code 1 where a task failed."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--borrowers", type=int, help="one size instead of 20,000 and 200,000")
    chosen = parser.parse_args().borrowers
    sizes = (chosen,) if chosen else SIZES
    settings = load_settings()
    costs: dict[int, dict[str, Cost]] = {}
    look_ups: dict[str, list[float]] = {}
    reasons = allocation = ""
    try:
        with stopped_by_signals():
            for size in (sizes[0], FIXED_COST_BORROWERS, *sizes[1:]):
                # What an earlier run has taken in would not be measured again.
                shutil.rmtree(home_of(settings, size), ignore_errors=True)
                environment = market_environment(settings, size)
                if size != sizes[0]:
                    lend_models(settings, sizes[0], size)
                with server(environment):
                    costs[size] = run_night(environment, train=size == sizes[0])
                    if size == sizes[0]:
                        reasons = told(environment, "time_reasons", "reason codes:")
                        allocation = told(environment, "time_allocation", "allocation:")
                        look_ups = measure_look_ups(settings, environment)
    except subprocess.CalledProcessError as problem:
        print(f"make bench: {' '.join(problem.cmd[2:])} ended with code {problem.returncode}", file=sys.stderr)
        return 1
    print(f"\n{night_table(costs, sizes)}\n\n{reasons}\n\n{allocation}\n\n{look_up_table(look_ups)}")
    return 0


def home_of(settings: Settings, size: int) -> Path:
    """The home of the market of one size."""
    return settings.home / "bench" / str(size)


def lend_models(settings: Settings, trained: int, size: int) -> None:
    """Have the market of a size score with the model of the one that has trained."""
    market = home_of(settings, size) / "simulated"
    market.mkdir()
    (market / "mlflow").symlink_to(home_of(settings, trained) / "simulated" / "mlflow")


def market_environment(settings: Settings, size: int) -> dict[str, str]:
    """The environment of a market of one size, with the project's jars."""
    home = home_of(settings, size)
    lend_set_up(settings, home)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MOSAIC_")}
    return kept | {
        "MOSAIC_SOURCE": "simulated", "MOSAIC_HOME": str(home), "MOSAIC_SIMULATION__BORROWERS": str(size),
        "MOSAIC_PORTS__POSTGRES": str(PORTS[0]), "MOSAIC_PORTS__API": str(PORTS[1]),
    }


@contextmanager
def server(environment: dict[str, str]) -> Iterator[None]:
    """The market's PostgreSQL, set up, stopped in the end."""
    command = [JOBS_PYTHON, "-m", "spark_jobs.database_server"]
    subprocess.run([*command, "ensure"], env=environment, cwd=ROOT, check=True)
    try:
        yield
    finally:
        subprocess.run([*command, "stop"], env=environment, cwd=ROOT, start_new_session=True)


def run_night(environment: dict[str, str], train: bool) -> dict[str, Cost]:
    """Take a market's history in, train a model if asked to, and return what the tasks of the night after cost.

    Raises subprocess.CalledProcessError.
    """
    history = [["simulate"], ["open_night", "--training"], ["ingest", "--training"]]
    for step in [*history, ["train_credit"], ["promote_credit"]] if train else history:
        measure(step, HISTORY_UNTIL, environment)
    measure(["simulate"], MEASURED, environment)
    return {job: measure([job], MEASURED, environment) for job in NIGHT}


def measure(step: Sequence[str], as_of_date: date, environment: dict[str, str]) -> Cost:
    """Run one job, looking at its memory twice a second; its output goes to a file beside the market.

    Raises subprocess.CalledProcessError.
    """
    log = log_of(step[0], environment)
    command = [JOBS_PYTHON, "-m", "spark_jobs", *step, "--as-of-date", as_of_date.isoformat()]
    began, most = time.monotonic(), 0
    with log.open("wb") as output, subprocess.Popen(command, env=environment, cwd=ROOT, stdout=output, stderr=output) as job:
        while True:
            with suppress(subprocess.TimeoutExpired):
                job.wait(0.5)
                break
            most = max(most, sum(map(proportional_memory, [job.pid, *descendants(job.pid)])))
    cost = Cost(time.monotonic() - began, most)
    print(f"{environment['MOSAIC_SIMULATION__BORROWERS']:>8} borrowers  {as_of_date}  {step[0]:<16}{cost.seconds:7.1f} s", flush=True)
    if job.returncode:
        print(log.read_text(errors="replace")[-3000:], file=sys.stderr)
        raise subprocess.CalledProcessError(job.returncode, command)
    return cost


def told(environment: dict[str, str], job: str, opening: str) -> str:
    """What a job that times something has found, in words, with its peak memory: its lines that begin with opening.

    Raises subprocess.CalledProcessError.
    """
    cost = measure([job], MEASURED, environment)
    lines = log_of(job, environment).read_text(errors="replace").splitlines()
    return "\n".join([*(line for line in lines if line.startswith(opening)), f"{opening} {cost.bytes / 1e9:.1f} GB at most"])


def log_of(job: str, environment: dict[str, str]) -> Path:
    """The output of a market's last run of a job."""
    return Path(environment["MOSAIC_HOME"]) / f"{job}.log"


def proportional_memory(pid: int) -> int:
    """A process's memory in bytes, pages that it shares counted by its share; 0 for one that has ended."""
    with suppress(OSError):
        for line in Path("/proc", str(pid), "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def night_table(costs: dict[int, dict[str, Cost]], sizes: Sequence[int]) -> str:
    """Seconds and peak memory by task, and by how much the data-bound time grows from the first size to the last."""
    fixed = costs[FIXED_COST_BORROWERS]
    head = ["task", f"fixed s ({FIXED_COST_BORROWERS})", *(f"{size:,}: s | GB" for size in sizes), "data-bound time ×"]
    rows = []
    for job in (*NIGHT, "whole night"):
        picked = NIGHT if job == "whole night" else (job,)
        base = sum(fixed[name].seconds for name in picked)
        totals = [sum(costs[size][name].seconds for name in picked) for size in sizes]
        peaks = [max(costs[size][name].bytes for name in picked) for size in sizes]
        # Within a second of the fixed cost a ratio says nothing.
        growth = f"{(totals[-1] - base) / (totals[0] - base):.1f}" if len(sizes) > 1 and totals[0] - base > 1 else "–"
        cells = [f"{seconds:.0f} | {peak / 1e9:.1f}" for seconds, peak in zip(totals, peaks, strict=True)]
        rows.append([job, f"{base:.0f}", *cells, growth])
    return _table(head, rows)


def measure_look_ups(settings: Settings, environment: dict[str, str]) -> dict[str, list[float]]:
    """Seconds of look-ups one after the other: a no-op endpoint, scores by borrower, the first of each included."""
    query = f"select borrower_id from publication.latest_borrower_score order by md5(borrower_id) limit {LOOK_UPS}"
    found = subprocess.run(
        [JOBS_PYTHON, "-m", "spark_jobs.database_shell", "--sql", query],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=True,
    )
    borrowers = found.stdout.split()[1:]
    with supervised(Path(environment["MOSAIC_HOME"]) / "logs") as processes:
        processes.start("api", [JOBS_PYTHON, "-m", "serving"], environment, ROOT)
        with httpx.Client(base_url=f"http://127.0.0.1:{PORTS[1]}", trust_env=False) as client:
            _await_answer(client, processes.check)
            return {
                "no-op (/health)": [_seconds(client, "/health") for _ in borrowers],
                "score, first time": [_seconds(client, f"/v1/borrowers/{borrower}/score") for borrower in borrowers],
                "score, again (cached)": [_seconds(client, f"/v1/borrowers/{borrower}/score") for borrower in borrowers],
            }


def look_up_table(look_ups: dict[str, list[float]]) -> str:
    """p50 and p99 in milliseconds by endpoint."""
    rows = []
    for name, seconds in look_ups.items():
        cuts = statistics.quantiles(seconds, n=100)
        rows.append([name, str(len(seconds)), f"{cuts[49] * 1000:.2f}", f"{cuts[98] * 1000:.2f}"])
    return _table(["look-up", "requests", "p50 ms", "p99 ms"], rows)


def _seconds(client: httpx.Client, path: str) -> float:
    began = time.perf_counter()
    client.get(path).raise_for_status()
    return time.perf_counter() - began


def _await_answer(client: httpx.Client, check) -> None:
    while True:
        with suppress(httpx.HTTPError):
            client.get("/health").raise_for_status()
            return
        check()
        time.sleep(0.2)


def _table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
