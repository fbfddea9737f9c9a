"""Answers kept by batch, and the listener that knows which batch is current: a flip makes every older answer unfindable."""

from __future__ import annotations

import logging
import select
import threading
from dataclasses import dataclass
from typing import Protocol

import psycopg2
from cachetools import LRUCache

from conf.settings import Product
from serving.reader import CONNECT_SECONDS, GIVE_UP

CHANNEL = "mosaic_publication"
# A connection that died without a word is found by asking; until then an answer may be this old.
HEARTBEAT_SECONDS = 5
RECONNECT_SECONDS = 1
# Redis keeps the answers of a batch that nobody asks for any more no longer than this.
REDIS_SECONDS = 86400

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CachedAnswer:
    """An HTTP status and its JSON body."""

    status: int
    body: bytes


class Cache(Protocol):
    """Answers by batch, kind and id; a miss is None."""

    def get(self, batch_id: str, kind: str, identifier: str) -> CachedAnswer | None: ...

    def put(self, batch_id: str, kind: str, identifier: str, answer: CachedAnswer) -> None: ...


class ProcessCache:
    """The answers asked for last, in this process."""

    def __init__(self, entries: int) -> None:
        self._answers: LRUCache[tuple[str, str, str], CachedAnswer] = LRUCache(entries)
        self._lock = threading.Lock()

    def get(self, batch_id: str, kind: str, identifier: str) -> CachedAnswer | None:
        with self._lock:
            return self._answers.get((batch_id, kind, identifier))

    def put(self, batch_id: str, kind: str, identifier: str, answer: CachedAnswer) -> None:
        with self._lock:
            self._answers[batch_id, kind, identifier] = answer


class RedisCache:
    """Answers shared by several processes. Redis being away costs speed, never an answer."""

    def __init__(self, url: str, source: str) -> None:
        import redis

        self._source = source
        self._errors = redis.RedisError
        self._redis = redis.Redis.from_url(url, socket_timeout=0.2, socket_connect_timeout=0.2)

    def get(self, batch_id: str, kind: str, identifier: str) -> CachedAnswer | None:
        try:
            found = self._redis.get(self._key(batch_id, kind, identifier))
        except self._errors as problem:
            log.warning("Redis does not answer: %s", problem)
            return None
        return CachedAnswer(int(found[:3]), found[3:]) if found else None

    def put(self, batch_id: str, kind: str, identifier: str, answer: CachedAnswer) -> None:
        try:
            self._redis.set(
                self._key(batch_id, kind, identifier), b"%03d" % answer.status + answer.body, ex=REDIS_SECONDS
            )
        except self._errors as problem:
            log.warning("Redis does not answer: %s", problem)

    def _key(self, batch_id: str, kind: str, identifier: str) -> str:
        return f"mosaic:{self._source}:{batch_id}:{kind}:{identifier}"


class CurrentBatch:
    """Follows a product's pointer by NOTIFY. batch_id is None while it is not known, and then nothing is taken from a cache."""

    def __init__(self, dsn: str, product: Product) -> None:
        self.batch_id: str | None = None
        self._dsn = dsn
        self._product = product
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="publication listener", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """End the listener."""
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen()
            except psycopg2.Error as problem:
                self.batch_id = None
                log.warning("not listening to publications: %s", str(problem).strip())
                self._stop.wait(RECONNECT_SECONDS)

    def _listen(self) -> None:
        session = psycopg2.connect(
            self._dsn, connect_timeout=CONNECT_SECONDS, application_name="mosaic api listener",
            options=f"-c statement_timeout={HEARTBEAT_SECONDS}s", **GIVE_UP,
        )
        try:
            session.autocommit = True
            with session.cursor() as cursor:
                cursor.execute(f"LISTEN {CHANNEL}")
                silent = HEARTBEAT_SECONDS
                while not self._stop.is_set():
                    if silent >= HEARTBEAT_SECONDS:
                        # First question after LISTEN, so that no flip falls between the two.
                        cursor.execute(
                            "SELECT batch_id FROM publication.latest_publication WHERE product = %s", (self._product,)
                        )
                        found = cursor.fetchone()
                        self.batch_id = found[0] if found else None
                        silent = 0
                    silent += 0 if select.select([session], [], [], 1)[0] else 1
                    session.poll()
                    if session.notifies:
                        # Asked for rather than taken from the message, which a later flip may have overtaken.
                        session.notifies.clear()
                        silent = HEARTBEAT_SECONDS
        finally:
            session.close()
