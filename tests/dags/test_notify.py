"""A failure reaches the web hook that the settings name."""

from __future__ import annotations

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from dags.notify import notify_failure

CONTEXT = {
    "ti": SimpleNamespace(dag_id="nightly_scoring", task_id="ingest", run_id="r1", try_number=3),
    "exception": RuntimeError("first line\nGateFailed: loan"),
}
TEXT = "nightly_scoring.ingest failed in run r1 (attempt 3): GateFailed: loan"


@pytest.fixture
def hook():
    """A server that keeps what is posted to it."""
    posted = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            del arguments

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}", posted=posted)
    server.shutdown()


def test_failure_is_posted(hook, monkeypatch):
    monkeypatch.setenv("MOSAIC_NOTIFY_URL", hook.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    notify_failure(CONTEXT)
    assert hook.posted == [{"text": TEXT}]


def test_without_a_hook_it_is_logged(caplog):
    with caplog.at_level(logging.ERROR):
        notify_failure(CONTEXT)
    assert TEXT in caplog.text


def test_unreachable_hook_is_logged_and_nothing_else_breaks(monkeypatch, caplog):
    monkeypatch.setenv("MOSAIC_NOTIFY_URL", "http://127.0.0.1:1/")
    with caplog.at_level(logging.ERROR):
        notify_failure(CONTEXT)
    assert TEXT in caplog.text
