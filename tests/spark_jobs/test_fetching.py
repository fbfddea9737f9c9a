"""How services are asked: rate, back-off, Retry-After, what is tried again and what is not, and that no key is told."""

from __future__ import annotations

import logging

import pytest

from conf.settings import load_settings
from spark_jobs.fetching import NOT_MODIFIED, Busy, FetchRefused, FetchUnavailable, Service
from tests.public_services import KEY, MAINTENANCE, Reply, as_json, serve


class Clock:
    """Time that passes by waiting only; waited: each wait, in seconds."""

    def __init__(self) -> None:
        self.now, self.waited = 1000.0, []

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds

    def __call__(self) -> float:
        return self.now


def service(url, clock, per_second=1000.0, **changes):
    fetching = load_settings().fetching
    rates = dict.fromkeys(fetching.requests_per_second, per_second)
    fetching = fetching.model_copy(update={"attempts": 3, "requests_per_second": rates, **changes})
    return Service("dart", url, fetching, {}, clock.wait, clock)


def take_all(answer):
    if answer.content == MAINTENANCE:
        raise Busy("a web page instead of data")
    if answer.status == 400:
        raise FetchRefused("HTTP 400")


def test_requests_are_evenly_spaced():
    clock = Clock()
    with serve(lambda request: as_json({})) as server:
        asked = service(server.url, clock, per_second=4)
        for _ in range(3):
            asked.get("list.json", shown="list.json", judge=take_all)
    assert clock.waited == [0.25, 0.25]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_is_tried_again_after_a_random_wait(status):
    clock = Clock()
    with serve(lambda request: as_json({"fine": True})) as server:
        server.first = [Reply(b"", status), Reply(MAINTENANCE)]
        answer = service(server.url, clock).get("list.json", shown="list.json", judge=take_all)
        assert len(server.requests) == 3
    assert answer.content == b'{"fine": true}'
    first, second = [seconds for seconds in clock.waited if seconds > 0.01]
    assert 0 < first <= 1 and 0 < second <= 2


@pytest.mark.parametrize(
    ("asked_for", "waits"),
    [("7", 7), ("Thu, 01 Jan 1970 00:00:00 GMT", 0)],  # seconds, or a day, which may have passed
)
def test_a_service_that_says_how_long_to_wait_is_heard(asked_for, waits):
    clock = Clock()
    with serve(lambda request: as_json({})) as server:
        server.first = [Reply(b"", 429, {"Retry-After": asked_for})]
        service(server.url, clock).get("list.json", shown="list.json", judge=take_all)
    assert waits in clock.waited


def test_a_refusal_is_not_tried_again():
    with serve(lambda request: as_json({}, 400)) as server:
        with pytest.raises(FetchRefused, match=r"^dart list\.json: HTTP 400$"):
            service(server.url, Clock()).get("list.json", shown="list.json", judge=take_all)
        assert len(server.requests) == 1


def test_no_key_is_told(caplog):
    caplog.set_level(logging.DEBUG)
    with serve(lambda request: Reply(b"", 500)) as server:
        with pytest.raises(FetchUnavailable, match=r"^dart list\.json: HTTP 500, after 3 attempts$"):
            service(server.url, Clock()).get("list.json", {"crtfc_key": KEY}, shown="list.json", judge=take_all)
        assert server.requests[0].query["crtfc_key"] == KEY
    # Nobody listens any more: the connection is refused.
    with pytest.raises(FetchUnavailable, match="ConnectError, after 3 attempts"):
        service(server.url, Clock()).get(f"path/{KEY}", {"crtfc_key": KEY}, shown="path", judge=take_all)
    assert "again in" in caplog.text and KEY not in caplog.text


def test_what_is_here_already_is_asked_for_by_its_validators():
    def answer(request):
        return Reply(b"", 304) if request.headers.get("If-None-Match") == '"v1"' else as_json({}, ETag='"v1"')

    with serve(answer) as server:
        asked = service(server.url, Clock())
        first = asked.get("facts.json", shown="facts.json", judge=take_all)
        again = asked.get("facts.json", shown="facts.json", judge=take_all, validators=first.validators)
    assert (first.status, again.status, again.content) == (200, NOT_MODIFIED, b"")
