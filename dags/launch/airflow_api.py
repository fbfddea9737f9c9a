"""The few calls of Airflow's REST API that start a run and follow it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import httpx


@dataclass(frozen=True)
class TaskState:
    """How a task of a run stands; state is None before it is scheduled."""

    task_id: str
    state: str | None
    attempt: int
    seconds: float | None


class AirflowApi:
    """A session of one user."""

    def __init__(self, url: str, user: str, password: str) -> None:
        # Loopback: a proxy of the machine must not see it.
        self._http = httpx.Client(base_url=url, timeout=60, trust_env=False)
        self._user, self._password = user, password

    def is_ready(self, dag_ids: tuple[str, ...]) -> bool:
        """Whether the components answer and the DAGs have been read."""
        try:
            health = self._http.get("/api/v2/monitor/health").json()
            if any(health[part]["status"] != "healthy" for part in ("metadatabase", "scheduler", "dag_processor")):
                return False
            self._log_in()
            return all(self._http.get(f"/api/v2/dags/{dag_id}").is_success for dag_id in dag_ids)
        except (httpx.HTTPError, ValueError, KeyError):
            return False

    def import_errors(self, since: datetime) -> list[str]:
        """Why DAG files could not be read, as found since a moment: what was wrong in an earlier run stands there too."""
        errors = self._get("/api/v2/importErrors")["import_errors"]
        return [
            f"{error['filename']}: {error['stack_trace']}" for error in errors if datetime.fromisoformat(error["timestamp"]) >= since
        ]

    def ensure_pool(self, name: str, slots: int) -> None:
        """Make the pool, or leave it as it is."""
        answer = self._request("POST", "/api/v2/pools", json={"name": name, "slots": slots})
        if answer.status_code != httpx.codes.CONFLICT:
            answer.raise_for_status()

    def trigger(self, dag_id: str, as_of_date: date) -> str:
        """Start a run for an as-of date; returns its run id."""
        self._request("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False}).raise_for_status()
        run_id = f"{as_of_date}__{datetime.now():%Y-%m-%dT%H:%M:%S}"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": {"as_of_date": as_of_date.isoformat()}}
        self._request("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body).raise_for_status()
        return run_id

    def fail_unfinished(self, dag_id: str) -> list[str]:
        """Mark runs that nothing works on any more as failed; a DAG has one run at a time and would wait for them.

        Returns their run ids.
        """
        path = f"/api/v2/dags/{dag_id}/dagRuns"
        runs = [run["dag_run_id"] for run in self._get(f"{path}?state=running&state=queued")["dag_runs"]]
        for run_id in runs:
            self._request("PATCH", f"{path}/{run_id}", json={"state": "failed"}).raise_for_status()
        return runs

    def has_run(self, dag_id: str, run_id: str) -> bool:
        """Whether a DAG has a run of this name."""
        answer = self._request("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return False
        answer.raise_for_status()
        return True

    def run_state(self, dag_id: str, run_id: str) -> str:
        """queued, running, success or failed."""
        return self._get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"]

    def task_states(self, dag_id: str, run_id: str) -> list[TaskState]:
        """How the run's tasks stand."""
        tasks = self._get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return [TaskState(task["task_id"], task["state"], task["try_number"], task["duration"]) for task in tasks]

    def log_tail(self, dag_id: str, run_id: str, task: TaskState, lines: int) -> list[str]:
        """The last lines of a task's last attempt."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task.task_id}/logs/{max(task.attempt, 1)}"
        answer = self._request("GET", path, params={"full_content": "true"}, headers={"Accept": "application/json"})
        if not answer.is_success:
            return [f"(no log: {answer.status_code})"]
        said: list[str] = []
        for event in answer.json()["content"]:
            said += [event] if isinstance(event, str) else [event["event"], *_exception_lines(event)]
        return [line for text in said for line in text.splitlines() if line.strip() and not line.startswith("::")][-lines:]

    def _get(self, path: str) -> dict[str, Any]:
        answer = self._request("GET", path)
        answer.raise_for_status()
        return answer.json()

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer = self._http.request(method, path, **options)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            self._log_in()
            answer = self._http.request(method, path, **options)
        return answer

    def _log_in(self) -> None:
        answer = self._http.post("/auth/token", json={"username": self._user, "password": self._password})
        answer.raise_for_status()
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"


def _exception_lines(event: dict[str, Any]) -> list[str]:
    """The exceptions of an event; a failed spark-submit only repeats its command and what the job said before."""
    errors = event.get("error_detail") or []
    return [f"{error['exc_type']}: {error['exc_value'].partition('spark-submit --master')[0]}" for error in errors]
