"""``make up``: Airflow's UI, MLflow's UI and the API of a market, until Ctrl-C."""

from __future__ import annotations

import os
import socket
import sys
import time

from conf.settings import ROOT, Settings, load_settings
from conf.spark import JOBS_PYTHON
from dags.launch import airflow_home
from dags.launch.airflow_home import AirflowProblem
from dags.launch.database import DatabaseProblem, database
from dags.launch.market import airflow, owner, say
from dags.launch.processes import ProcessDied, Processes, Stopped, stopped_by_signals


def start_beside(settings: Settings, processes: Processes) -> None:
    """Start the API, and MLflow's UI unless a tracking server has its own."""
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT)}
    processes.start("api", [JOBS_PYTHON, "-m", "serving"], environment, ROOT)
    if settings.mlflow_tracking_uri is None:
        (settings.market / "mlflow").mkdir(parents=True, exist_ok=True)
        server = [
            JOBS_PYTHON, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(settings.ports.mlflow),
            "--backend-store-uri", settings.tracking_uri, "--workers", "1",
        ]
        processes.start("mlflow", server, environment, settings.market / "mlflow")


def wait_for_ports(settings: Settings, processes: Processes) -> None:
    """Wait until the API and MLflow's UI take connections.

    Raises ProcessDied.
    """
    ports = [settings.ports.api] + ([settings.ports.mlflow] if settings.mlflow_tracking_uri is None else [])
    while ports:
        processes.check()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", ports[0])) == 0:
                ports.pop(0)
            else:
                time.sleep(0.5)


def addresses(settings: Settings) -> str:
    """What runs where, and how to log in."""
    mlflow = settings.mlflow_tracking_uri or f"http://127.0.0.1:{settings.ports.mlflow}"
    key = "with header X-API-Key" if settings.api_key else "no key set"
    return (
        f"\n  Airflow   {airflow_home.url(settings)}   user {airflow_home.USER}, password {airflow_home.password(settings)}"
        f"\n  MLflow    {mlflow}"
        f"\n  API       http://127.0.0.1:{settings.ports.api}/docs   {key}"
        "\n\n  Ctrl-C stops them all."
    )


def main() -> int:
    """Exit code: 0 when told to stop."""
    settings = load_settings()
    try:
        with stopped_by_signals(), owner(settings) as is_owner:
            if not is_owner:
                print(f"make up: the {settings.source} market is up already, or a run is going on; stop that first", file=sys.stderr)
                return 1
            with database(settings), airflow(settings, follow_schedules=True) as (_, processes):
                start_beside(settings, processes)
                wait_for_ports(settings, processes)
                print(addresses(settings), flush=True)
                while True:
                    processes.check()
                    time.sleep(1)
    except Stopped:
        say("stopped")
        return 0
    except (DatabaseProblem, AirflowProblem, ProcessDied) as problem:
        print(f"make up: {problem}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
