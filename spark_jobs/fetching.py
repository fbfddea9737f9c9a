"""Public services over HTTP, politely: a rate limit, back-off with jitter, Retry-After, conditional requests.

Answers are handed on as bytes, as received. A key never stands in a log or an error: those name the service and the path
that the client shows.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from conf.settings import Fetching

logger = logging.getLogger(__name__)

# httpx writes the whole URL of each request, and with it the key, at the level INFO, httpcore its headers at DEBUG.
for name in ("httpx", "httpcore"):
    logging.getLogger(name).setLevel(logging.WARNING)

NOT_MODIFIED = 304
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
# One more than any wait in between would be no back-off but a stop.
_FIRST_WAIT_SECONDS = 1


class FetchRefused(ValueError):
    """A service refuses the request itself: a wrong key, series or company. Another attempt would end the same."""


class FetchUnavailable(ConnectionError):
    """A service gave no usable answer in all attempts; later it may."""


class LimitReached(RuntimeError):
    """The service gives no more answers today; what has landed stays, and the next run goes on from there."""


@dataclass(frozen=True)
class Answer:
    """content: the bytes as received, empty where status is NOT_MODIFIED. validators: the request headers that ask for
    whatever is newer than this answer; empty where the service names none."""

    status: int
    content: bytes
    validators: Mapping[str, str]


class Busy(Exception):
    """This attempt failed in a way that may pass. after_seconds: how long the service asks to wait, None where it does not say."""

    def __init__(self, reason: str, after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.after_seconds = after_seconds


@dataclass
class Service:
    """One service. base_url and headers may hold a key, and are never told. wait and clock: seconds, as time's."""

    name: str
    base_url: str
    fetching: Fetching
    headers: Mapping[str, str]
    wait: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._client = httpx.Client(
            headers={"Accept-Encoding": "gzip, deflate", **self.headers}, timeout=self.fetching.timeout_seconds, follow_redirects=False
        )
        self._free_at = self.clock()

    def get(
        self,
        path: str,
        parameters: Mapping[str, str | int] | None = None,
        *,
        shown: str,
        judge: Callable[[Answer], None],
        validators: Mapping[str, str] | None = None,
    ) -> Answer:
        """The answer to one request; shown: what stands for it in logs and errors, without a key.

        judge looks at an answer and raises Busy where another attempt may help, or FetchRefused or LimitReached. validators:
        of the answer that is here already. Raises FetchUnavailable after the last attempt.
        """
        attempts = Retrying(
            stop=stop_after_attempt(self.fetching.attempts),
            retry=retry_if_exception_type(Busy),
            wait=self._pause,
            sleep=self.wait,
            before_sleep=partial(self._tell, shown),
            reraise=True,
        )
        try:
            return attempts(self._ask, path, parameters or {}, validators or {}, judge)
        except Busy as busy:
            raise FetchUnavailable(f"{self.name} {shown}: {busy}, after {self.fetching.attempts} attempts") from None
        except (FetchRefused, LimitReached) as refused:
            raise type(refused)(f"{self.name} {shown}: {refused}") from None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(
        self, path: str, parameters: Mapping[str, str | int], validators: Mapping[str, str], judge: Callable[[Answer], None]
    ) -> Answer:
        self._take_turn()
        try:
            response = self._client.get(f"{self.base_url.rstrip('/')}/{path}", params=parameters or None, headers=validators)
        except httpx.HTTPError as error:
            # Its own words may hold the URL, and __cause__ would bring them back.
            raise Busy(type(error).__name__) from None
        if response.status_code in _TRANSIENT:
            raise Busy(f"HTTP {response.status_code}", _retry_after(response.headers.get("Retry-After"), datetime.now(UTC)))
        told = {"If-None-Match": response.headers.get("ETag"), "If-Modified-Since": response.headers.get("Last-Modified")}
        answer = Answer(response.status_code, response.content, {name: value for name, value in told.items() if value})
        if answer.status != NOT_MODIFIED:
            judge(answer)
        return answer

    def _take_turn(self) -> None:
        """Wait until a request is due; requests are evenly spaced."""
        now = self.clock()
        if now < self._free_at:
            self.wait(self._free_at - now)
        self._free_at = max(now, self._free_at) + 1 / self.fetching.requests_per_second[self.name]

    def _pause(self, state: RetryCallState) -> float:
        """What the service asks for, else a random time below a bound that doubles (full jitter), within the longest wait."""
        asked = getattr(state.outcome.exception(), "after_seconds", None) if state.outcome else None
        longest = self.fetching.longest_wait_seconds
        if asked is not None and asked <= longest:
            return asked
        return wait_random_exponential(multiplier=_FIRST_WAIT_SECONDS, max=longest)(state)

    def _tell(self, shown: str, state: RetryCallState) -> None:
        logger.warning("%s %s: %s, again in %.0f s", self.name, shown, state.outcome.exception(), state.next_action.sleep)


def _retry_after(text: str | None, now: datetime) -> float | None:
    """The seconds of a Retry-After header, a number or a date (RFC 9110, 10.2.3); None where it says neither."""
    if text is None:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - now).total_seconds())
    except (TypeError, ValueError):
        return None


def refuse_web_page(answer: Answer) -> None:
    """Raise Busy for a web page, which services put in place of data while they are maintained."""
    start = answer.content.lstrip()[:200].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise Busy("a web page instead of data, as during maintenance")


def parsed_json(answer: Answer) -> Any:
    """What an answer holds as JSON; raises Busy where it is none."""
    try:
        return json.loads(answer.content)
    except ValueError:
        raise Busy("no JSON") from None
