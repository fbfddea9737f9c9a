"""How long a look-up takes beside an endpoint that does nothing: p50 and p99 over HTTP, from one client.

``python -m tests.bench_serving`` measures the published market of the settings; ``make bench`` prints its table.
"""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager

import httpx
import numpy as np

from conf.settings import ROOT, Settings, load_settings
from spark_jobs.database import connect

WARM_UP = 200
REQUESTS = 5000


def measure(settings: Settings, requests: int = REQUESTS) -> dict[str, tuple[float, float]]:
    """p50 and p99 in milliseconds by kind of request; a first look-up reads the database, a repeated one the cache."""
    borrowers, orders = _published(settings, "borrower_score", "borrower_id"), _published(settings, "allocation_summary", "order_id")
    with _served(settings) as client:
        kinds = {
            "no-op (/health)": ["/health"],
            "score, first look": [f"/v1/borrowers/{borrower}/score" for borrower in borrowers],
            "score, again": [f"/v1/borrowers/{borrower}/score" for borrower in borrowers],
            "portfolio, first look": [f"/v1/orders/{order}/portfolio" for order in orders],
        }
        _times(client, ["/health"], WARM_UP)
        _times(client, ["/ready"], WARM_UP)
        return {
            kind: tuple(np.percentile(_times(client, paths, len(paths) if kind.endswith("first look") else requests), [50, 99]))
            for kind, paths in kinds.items() if paths
        }


def print_table(measured: dict[str, tuple[float, float]]) -> None:
    """One line per kind of request."""
    print(f"{'request':<24}{'p50 ms':>10}{'p99 ms':>10}")
    for kind, (p50, p99) in measured.items():
        print(f"{kind:<24}{p50:>10.2f}{p99:>10.2f}")


def _published(settings: Settings, table: str, key: str) -> list[str]:
    with closing(connect(settings, "reader")) as session, session.cursor() as cursor:
        cursor.execute(f"SELECT {key} FROM publication.latest_{table} ORDER BY md5({key}) LIMIT {REQUESTS}")
        return [row[0] for row in cursor.fetchall()]


@contextmanager
def _served(settings: Settings):
    """A client of an API of its own, in a process of its own, as in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "MOSAIC_SOURCE": settings.source, "MOSAIC_HOME": str(settings.home), "MOSAIC_PORTS__API": str(port),
        "MOSAIC_PORTS__POSTGRES": str(settings.ports.postgres),
    }
    if settings.database_dsn:
        environment["MOSAIC_DATABASE_DSN"] = settings.database_dsn.get_secret_value()
    api = subprocess.Popen([sys.executable, "-m", "serving"], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    key = {"X-API-Key": settings.api_key.get_secret_value()} if settings.api_key else {}
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=key) as client:
            _wait(client, api)
            yield client
    finally:
        api.terminate()
        api.wait()


def _wait(client: httpx.Client, api: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and api.poll() is None:
        try:
            if client.get("/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError("the API did not become ready: is something published? (`make run`)")


def _times(client: httpx.Client, paths: list[str], requests: int) -> list[float]:
    """Milliseconds of each request, going round the paths."""
    times = []
    for path in itertools.islice(itertools.cycle(paths), requests):
        begun = time.perf_counter()
        client.get(path).raise_for_status()
        times.append((time.perf_counter() - begun) * 1000)
    return times


if __name__ == "__main__":
    print_table(measure(load_settings()))
