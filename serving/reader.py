"""Questions to the ``latest_`` views: a small pool of connections as mosaic_reader that outlives a server's restart."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg2
from psycopg2.extensions import connection
from psycopg2.extras import RealDictCursor

from conf.settings import Product

CONNECT_SECONDS = 3
WAIT_SECONDS = 5
STATEMENT_SECONDS = 5
# A host that vanishes without a word is given up after some seconds; by TCP's own defaults it would be a quarter of an hour.
GIVE_UP = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 5000}

Answer = TypeVar("Answer")
Row = dict[str, object]

_CURRENT = "SELECT current.batch_id AS current_batch_id, current.as_of_date AS current_as_of_date"
_FROM = "FROM publication.latest_publication current"
_WHERE = "WHERE current.product = '{product}'"
# By name, $1 being the id, or the currency and $2 the point. Each asks for the current batch in the same statement as for the row, so that "not there"
# has a batch too.
_QUESTIONS = {
    "score": f"""{_CURRENT}, unscored.reason, score.* {_FROM}
        LEFT JOIN publication.latest_borrower_score score ON score.borrower_id = $1
        LEFT JOIN publication.latest_unscored unscored ON unscored.borrower_id = $1 {_WHERE}""",
    "valuation": f"""{_CURRENT}, valuation.* {_FROM}
        LEFT JOIN publication.latest_loan_valuation valuation ON valuation.loan_id = $1 {_WHERE}""",
    "summary": f"""{_CURRENT}, summary.* {_FROM}
        LEFT JOIN publication.latest_allocation_summary summary ON summary.order_id = $1 {_WHERE}""",
    "company_score": f"""{_CURRENT}, unscored.reason, score.* {_FROM}
        LEFT JOIN publication.latest_company_score score ON score.company_id = $1
        LEFT JOIN publication.latest_company_unscored unscored ON unscored.company_id = $1 {_WHERE}""",
    "holdings": """SELECT loan_id, borrower_id, identity_group_id, risk_group, amount, weight, expected_net_return
        FROM publication.latest_allocation WHERE order_id = $1 ORDER BY amount DESC, loan_id""",
    "frontier": f"""{_CURRENT}, frontier.* {_FROM}
        LEFT JOIN publication.latest_frontier frontier ON frontier.currency = $1 {_WHERE}
        ORDER BY frontier.amount, frontier.target_return, frontier.point""",
    "frontier_holdings": "SELECT * FROM publication.latest_frontier_holding WHERE currency = $1 AND point = $2",
    "risk_group_caps": "SELECT risk_group, cap FROM publication.latest_risk_group_cap WHERE $1 IS NOT NULL",
    "publication": f"SELECT current.* {_FROM} {_WHERE} AND $1 IS NOT NULL",
    "current_batch": f"SELECT current.batch_id {_FROM} {_WHERE} AND $1 IS NOT NULL",
}


_TYPES = {"frontier_holdings": "text, integer"}


class DatabaseDown(RuntimeError):
    """The publication database does not answer, or all connections are busy."""


class NothingPublished(LookupError):
    """No batch has been published yet."""


class Reader:
    """A pool of at most size read-only connections, to the batch of one product; a question that meets a dead one is asked again on a new one."""

    def __init__(self, dsn: str, size: int, product: Product) -> None:
        self.dsn = dsn
        self._product = product
        # Places, not connections: None is a place where a connection has yet to be opened.
        self._places: queue.LifoQueue[connection | None] = queue.LifoQueue()
        for _ in range(size):
            self._places.put(None)

    def score(self, borrower_id: str) -> Row:
        """The borrower's score, or why there is none, beside the current batch; score columns are null without one."""
        return self._one("score", borrower_id)

    def valuation(self, loan_id: str) -> Row:
        """The listing's valuation beside the current batch; its columns are null without one."""
        return self._one("valuation", loan_id)

    def company_score(self, company_id: str) -> Row:
        """The company's score, or why there is none, beside the current batch; score columns are null without one."""
        return self._one("company_score", company_id)

    def portfolio(self, order_id: str) -> tuple[Row, list[Row]]:
        """The order's summary beside the current batch, and its holdings, both from one snapshot."""

        def read(session: connection) -> tuple[Row | None, list[Row]]:
            with session.cursor() as cursor:
                cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                cursor.execute("EXECUTE summary (%s)", (order_id,))
                summary = cursor.fetchone()
                cursor.execute("EXECUTE holdings (%s)", (order_id,))
                holdings = cursor.fetchall()
                cursor.execute("COMMIT")
            return summary, holdings

        summary, holdings = self._ask(read)
        return _published(summary), holdings

    def standard_order(
        self, currency: str, choose: Callable[[list[Row]], int | None]
    ) -> tuple[Row, list[Row], list[Row], dict[int, float]]:
        """The current batch, the currency's frontier by amount and target, the holdings of the point that choose picks of it
        (none for None), and the caps per risk group, all from one snapshot."""

        def read(session: connection) -> tuple[list[Row], list[Row], list[Row]]:
            holdings, caps = [], []
            with session.cursor() as cursor:
                cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                cursor.execute("EXECUTE frontier (%s)", (currency,))
                rows = cursor.fetchall()
                point = choose(_points(rows))
                if point is not None:
                    cursor.execute("EXECUTE frontier_holdings (%s, %s)", (currency, point))
                    holdings = cursor.fetchall()
                    cursor.execute("EXECUTE risk_group_caps (%s)", (currency,))
                    caps = cursor.fetchall()
                cursor.execute("COMMIT")
            return rows, holdings, caps

        rows, holdings, caps = self._ask(read)
        current = _published(rows[0] if rows else None)
        return current, _points(rows), holdings, {int(row["risk_group"]): float(row["cap"]) for row in caps}

    def publication(self) -> Row:
        """The current batch and its origin."""
        return self._one("publication", "")

    def current_batch(self) -> str:
        """The current batch's name."""
        return str(self._one("current_batch", "")["batch_id"])

    def close(self) -> None:
        """Close the connections that are not in use."""
        while not self._places.empty():
            session = self._places.get()
            if session:
                session.close()

    def _one(self, question: str, identifier: str) -> Row:
        def read(session: connection) -> Row | None:
            with session.cursor() as cursor:
                cursor.execute(f"EXECUTE {question} (%s)", (identifier,))
                return cursor.fetchone()

        return _published(self._ask(read))

    def _ask(self, read: Callable[[connection], Answer]) -> Answer:
        """Raises DatabaseDown when the question cannot be answered on a fresh connection either."""
        try:
            with self._session() as session:
                return read(session)
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as problem:
            if isinstance(problem, psycopg2.extensions.QueryCanceledError):
                raise DatabaseDown(f"the publication database took longer than {STATEMENT_SECONDS} s") from problem
        # The server may have been restarted, so every idle connection is as dead as this one.
        self._forget_idle()
        try:
            with self._session() as session:
                return read(session)
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as problem:
            raise DatabaseDown("the publication database does not answer") from problem

    @contextmanager
    def _session(self) -> Iterator[connection]:
        try:
            session = self._places.get(timeout=WAIT_SECONDS)
        except queue.Empty:
            raise DatabaseDown("all connections to the publication database are busy") from None
        try:
            session = session or self._connect()
            yield session
        except BaseException:
            if session:
                session.close()
            session = None
            raise
        finally:
            self._places.put(session)

    def _connect(self) -> connection:
        session = psycopg2.connect(
            self.dsn, connect_timeout=CONNECT_SECONDS, application_name="mosaic api", cursor_factory=RealDictCursor,
            # Planning over every attached batch costs ten times the look-up: a plan is kept until the next publication.
            options=f"-c default_transaction_read_only=on -c statement_timeout={STATEMENT_SECONDS}s "
            "-c plan_cache_mode=force_generic_plan", **GIVE_UP,
        )
        session.autocommit = True
        with session.cursor() as cursor:
            for name, question in _QUESTIONS.items():
                cursor.execute(f"PREPARE {name} ({_TYPES.get(name, 'text')}) AS {question.format(product=self._product)}")
        return session

    def _forget_idle(self) -> None:
        idle = []
        while True:
            try:
                idle.append(self._places.get_nowait())
            except queue.Empty:
                break
        for session in idle:
            if session:
                session.close()
            self._places.put(None)


def _points(rows: list[Row]) -> list[Row]:
    """Rows of the frontier; the one that stands for none has no point."""
    return [row for row in rows if row["point"] is not None]


def _published(row: Row | None) -> Row:
    if row is None:
        raise NothingPublished("nothing has been published yet: the first night has not ended")
    return row
