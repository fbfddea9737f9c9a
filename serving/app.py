"""The look-up API: scores, portfolios and valuations, or companies' scores, of the batch that is published now. Nothing is computed here."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel
from starlette.convertors import PathConvertor, register_url_convertor

from conf.database import role_dsn
from conf.settings import Settings, load_settings
from conf.source import load_source
from conf.tables import MAX_ID
from serving.answers import (
    Alive,
    CompanyScore,
    Holding,
    Portfolio,
    Problem,
    Publication,
    Quote,
    Ready,
    Score,
    TableContent,
    Valuation,
)
from serving.cache import Cache, CachedAnswer, CurrentBatch, ProcessCache, RedisCache
from serving.quotes import NoQuote, chosen_point, quote
from serving.reader import DatabaseDown, NothingPublished, Reader, Row


class _IdentifierConvertor(PathConvertor):
    """Any text, a slash or a newline in it too: what is an identifier, Identifier says."""

    regex = "(?s:.*)"


register_url_convertor("identifier", _IdentifierConvertor())
# No control characters: PostgreSQL's text holds no NUL, and no identifier has any.
Identifier = Annotated[str, Path(min_length=1, max_length=MAX_ID, pattern=r"^[^\x00-\x1f\x7f]+$")]
# No more digits than an order's amount has, and targets that a rate could be.
Amount = Annotated[Decimal, Query(gt=0, max_digits=18, decimal_places=2, description="of the order")]
TargetReturn = Annotated[float, Query(ge=-1, le=10, description="net a year, a fraction: 0.06")]
Currency = Annotated[str | None, Query(pattern="^[A-Z]{3}$", description="where it is not the market's own")]
_PROBLEMS = {
    404: {"model": Problem, "description": "Not in the published batch"},
    422: {"model": Problem, "description": "Not an identifier"},
    503: {"model": Problem, "description": "Nothing published yet, or the database does not answer"},
}
_NO_KEY = {401: {"model": Problem, "description": "The X-API-Key header is missing or wrong"}}


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application for one market.

    Raises conf.database.NoPassword before set-up has made the roles.
    """
    settings = settings or load_settings()
    dsn = role_dsn(settings, "reader")
    reader = Reader(dsn, settings.serving.pool_size, settings.product)
    current = CurrentBatch(dsn, settings.product)
    own_currency = load_source(settings.source).currency
    cache: Cache = (
        RedisCache(settings.redis_url.get_secret_value(), settings.source)
        if settings.redis_url
        else ProcessCache(settings.serving.cache_entries)
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        current.start()
        try:
            yield
        finally:
            current.stop()
            reader.close()

    # Its documentation pages fetch nothing from outside.
    app = FastAPIOffline(
        title="MosaicLoan",
        summary=f"Published scores and portfolios of the market {settings.source}.",
        version=settings.publication.contract_version,
        lifespan=lifespan,
    )
    app.state.current = current
    _handle_problems(app)
    guarded = [Depends(_key_check(settings))]

    def answer(kind: str, identifier: str, ask: Callable[[str], tuple[str, CachedAnswer]]) -> Response:
        """The kept answer of the current batch, else a fresh one, kept under the batch that it came from."""
        batch_id = current.batch_id
        found = cache.get(batch_id, kind, identifier) if batch_id else None
        if found is None:
            read_batch_id, found = ask(identifier)
            cache.put(read_batch_id, kind, identifier, found)
        return Response(found.body, found.status, media_type="application/json")

    def ask_score(borrower_id: str) -> tuple[str, CachedAnswer]:
        row = reader.score(borrower_id)
        return _batch(row), _found(Score, row, "borrower", borrower_id, _unscored("borrower", borrower_id, row))

    def ask_valuation(loan_id: str) -> tuple[str, CachedAnswer]:
        row = reader.valuation(loan_id)
        return _batch(row), _found(Valuation, row, "loan", loan_id)

    def ask_company_score(company_id: str) -> tuple[str, CachedAnswer]:
        row = reader.company_score(company_id)
        return _batch(row), _found(CompanyScore, row, "company", company_id, _unscored("company", company_id, row))

    def ask_portfolio(order_id: str) -> tuple[str, CachedAnswer]:
        row, holdings = reader.portfolio(order_id)
        return _batch(row), _found(
            Portfolio, row | {"holdings": [Holding.model_validate(holding) for holding in holdings]}, "order", order_id
        )

    def ask_quote(currency: str, amount: Decimal, target_return: float) -> tuple[str, CachedAnswer]:
        batch, *found = reader.standard_order(currency, lambda points: chosen_point(points, amount, target_return))
        try:
            return _batch(batch), CachedAnswer(200, quote(*found, amount, target_return).model_dump_json().encode())
        except NoQuote as problem:
            where = f"no quote in {currency} from the published batch {batch['current_batch_id']} (as of {batch['current_as_of_date']})"
            return _batch(batch), CachedAnswer(404, Problem(detail=f"{where}: {problem}").model_dump_json().encode())

    @app.get("/health", tags=["service"])
    def health() -> Alive:
        """Whether the process answers; asks nothing of the database."""
        return Alive(status="ok")

    @app.get("/ready", tags=["service"], responses={503: _PROBLEMS[503]})
    def ready() -> Ready:
        """Whether look-ups can be answered: the database is there and something is published."""
        return Ready(status="ready", batch_id=reader.current_batch())

    @app.get(
        "/v1/borrowers/{borrower_id:identifier}/score", tags=["look-ups"], dependencies=guarded, response_model=Score,
        responses=_PROBLEMS | _NO_KEY,
    )
    def borrower_score(borrower_id: Identifier) -> Response:
        """A borrower's latest score."""
        return answer("score", borrower_id, ask_score)

    @app.get(
        "/v1/orders/{order_id:identifier}/portfolio", tags=["look-ups"], dependencies=guarded, response_model=Portfolio,
        responses=_PROBLEMS | _NO_KEY,
    )
    def order_portfolio(order_id: Identifier) -> Response:
        """What an order was allocated, listing by listing; summary and holdings come from one batch."""
        return answer("portfolio", order_id, ask_portfolio)

    @app.get(
        "/v1/loans/{loan_id:identifier}/valuation", tags=["look-ups"], dependencies=guarded, response_model=Valuation,
        responses=_PROBLEMS | _NO_KEY,
    )
    def loan_valuation(loan_id: Identifier) -> Response:
        """What an open listing is worth over its term."""
        return answer("valuation", loan_id, ask_valuation)

    @app.get(
        "/v1/quotes", tags=["look-ups"], dependencies=guarded, response_model=Quote,
        responses=_PROBLEMS | {422: {"model": Problem, "description": "No amount or no return"}} | _NO_KEY,
    )
    def quotes(amount: Amount, target_return: TargetReturn, currency: Currency = None) -> Response:
        """What an order would get of what the night's orders have left, looked up: nothing is optimised here."""
        asked, in_cents = currency or own_currency, amount.quantize(Decimal("0.01"))
        return answer(
            "quote", f"{asked} {in_cents} {target_return!r}", lambda _: ask_quote(asked, in_cents, target_return)
        )

    @app.get(
        "/v1/companies/{company_id:identifier}/score", tags=["look-ups"], dependencies=guarded, response_model=CompanyScore,
        responses=_PROBLEMS | _NO_KEY,
    )
    def company_score(company_id: Identifier) -> Response:
        """A company's latest probabilities of distress."""
        return answer("company_score", company_id, ask_company_score)

    @app.get(
        "/v1/publication", tags=["look-ups"], dependencies=guarded, responses={503: _PROBLEMS[503]} | _NO_KEY
    )
    def publication() -> Publication:
        """Which batch is published, from what it was made, and since when."""
        row = reader.publication()
        content = {
            name: TableContent(rows=table["rows"], digest=str(table["digest"]))
            for name, table in dict(row["content"]).items()
        }
        return Publication.model_validate(row | {"content": content})

    return app


def _batch(row: Row) -> str:
    return str(row["current_batch_id"])


def _unscored(what: str, identifier: str, row: Row) -> str | None:
    return f"{what} {identifier} has no score: {row['reason']}" if row["reason"] else None


def _found(model: type[BaseModel], row: Row, what: str, identifier: str, why: str | None = None) -> CachedAnswer:
    """The row as an answer; one without a batch of its own is not there, which is a 404 that says why."""
    if row["batch_id"] is not None:
        return CachedAnswer(200, model.model_validate(row).model_dump_json().encode())
    missing = why or (
        f"{what} {identifier} is not in the published batch {row['current_batch_id']} (as of {row['current_as_of_date']})"
    )
    return CachedAnswer(404, Problem(detail=missing).model_dump_json().encode())


def _key_check(settings: Settings) -> Callable[[str | None], None]:
    """A dependency that lets a request pass when no key is set, or when it brings the right one."""
    wanted = settings.api_key.get_secret_value().encode() if settings.api_key else None

    def check(given: Annotated[str | None, Depends(APIKeyHeader(name="X-API-Key", auto_error=False))]) -> None:
        # In constant time: how long a refusal takes must not tell how much of the key was right.
        if wanted is not None and not secrets.compare_digest((given or "").encode(), wanted):
            raise HTTPException(401, "send the API key in the header X-API-Key")

    return check


def _handle_problems(app: FastAPI) -> None:
    @app.exception_handler(DatabaseDown)
    @app.exception_handler(NothingPublished)
    def unavailable(_: Request, problem: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(problem)}, 503, headers={"Retry-After": "5"})

    @app.exception_handler(RequestValidationError)
    def not_understood(_: Request, problem: RequestValidationError) -> JSONResponse:
        said = "; ".join(f"{error['loc'][-1]}: {error['msg']}" for error in problem.errors())
        return JSONResponse({"detail": said}, 422)
