"""Money and stock that stay right: transfers and orders as transactions, whatever fails in the middle of them."""

import argparse
import os
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

import uvicorn
from anomalies import as_table, observe
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from models import (
    LARGEST_ID,
    Account,
    AccountOut,
    OrderIn,
    OrderOut,
    Problem,
    TransferIn,
    TransferOut,
    create_tables,
    seed,
)
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session
from transactions import Answer, Key, RefusedError, make_engine, once, place_order, transact, transfer

router = APIRouter()
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
RETRY_AFTER = {"Retry-After": "1"}
ID = "^[1-9][0-9]{0,18}$"
NOT_NOW: dict[int | str, dict[str, Any]] = {
    503: {"model": Problem, "description": "A lock or the database is not available: send the same request again"}
}
REFUSALS = NOT_NOW | {
    400: {"model": Problem, "description": "The body is not JSON, or Idempotency-Key is missing or invalid"},
    409: {"model": Problem, "description": "There is not enough money or stock"},
    422: {"model": Problem, "description": "The body is wrong, or the key was used with another one"},
}
# "4XX" keeps FastAPI from promising a 422, which there is none of.
MISSING = NOT_NOW | {code: {"model": Problem, "description": "No such account"} for code in (404, "4XX")}


def get_and_head(path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:  # given
    """Route GET and HEAD, which go together (RFC 9110 §9.3.2). FastAPI can document only one method of an endpoint."""

    def register(endpoint: Endpoint) -> Endpoint:
        router.add_api_route(path, endpoint, methods=["GET", "HEAD"], include_in_schema=False, **options)
        router.add_api_route(path, endpoint, methods=["GET"], **options)
        return endpoint

    return register


def get_engine(request: Request) -> Engine:  # given
    engine: Engine = request.app.state.engine
    return engine


def idempotency_key(
    request: Request, key: Annotated[str, Header(alias="Idempotency-Key", pattern=r"^[!-+\--~]{1,255}$")]
) -> str:  # given
    """The client's key, which is required: a retry without one would pay twice.

    It has no comma, since some servers join two headers of one name by a comma (RFC 9110 §5.3).
    """
    if len(request.headers.getlist("Idempotency-Key")) > 1:
        raise HTTPException(400, "send one Idempotency-Key")
    return key


def account_number(account_id: Annotated[str, Path(json_schema_extra={"pattern": ID})]) -> int:  # given
    """The number in the path. Only one way to write it is an account's address: 01, +1 and 1.0 are no account."""
    if not re.fullmatch(ID, account_id) or int(account_id) > LARGEST_ID:
        raise HTTPException(404, "there is no such account")
    return int(account_id)


TheEngine = Annotated[Engine, Depends(get_engine)]
KeyText = Annotated[str, Depends(idempotency_key)]
AccountId = Annotated[int, Depends(account_number)]


@router.post("/transfers", status_code=201, response_model=TransferOut, responses=REFUSALS)
def create_transfer(body: TransferIn, key_text: KeyText, engine: TheEngine) -> JSONResponse:
    """Move money from one account to another, once for each key."""
    key = Key("transfer", body.source, key_text)
    return as_response(
        transact(engine, "READ COMMITTED", lambda session: once(session, key, body, lambda: transfer(session, body)))
    )


@router.post("/orders", status_code=201, response_model=OrderOut, responses=REFUSALS)
def create_order(body: OrderIn, key_text: KeyText, engine: TheEngine) -> JSONResponse:
    """Buy products: all of them or none, once for each key."""
    key = Key("order", body.account, key_text)
    return as_response(
        transact(engine, "SERIALIZABLE", lambda session: once(session, key, body, lambda: place_order(session, body)))
    )


@get_and_head("/accounts/{account_id}", responses=MISSING)
def read_account(number: AccountId, engine: TheEngine) -> AccountOut:
    """One statement sees one moment at any level: READ COMMITTED does."""

    def read(session: Session) -> AccountOut | None:
        account = session.get(Account, number)
        return AccountOut.model_validate(account) if account else None

    account = transact(engine, "READ COMMITTED", read)
    if account is None:
        raise HTTPException(404, f"there is no account {number}")
    return account


def as_response(answer: Answer) -> JSONResponse:  # given
    return JSONResponse(answer.body, answer.status)


def answer_refused(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RefusedError)
    return JSONResponse({"detail": str(error)}, error.status)


def answer_invalid(_request: Request, error: Exception) -> JSONResponse:
    """Say what is wrong without echoing it. 400 is for a wrong header and for what is not JSON, 422 for the rest."""
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    unreadable = any(problem["loc"][0] == "header" or problem["type"] == "json_invalid" for problem in problems)
    detail = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems)
    return JSONResponse({"detail": detail}, 400 if unreadable else 422)


def answer_not_now(_request: Request, error: Exception) -> JSONResponse:
    """A lock timeout, too many retries, no connection: a 503. What is our own fault is raised again: a 500."""
    if isinstance(error, DBAPIError) and not isinstance(error, OperationalError) and not error.connection_invalidated:
        raise error
    return JSONResponse({"detail": "not now: send the same request again, with the same key"}, 503, RETRY_AFTER)


def create_app() -> FastAPI:
    """Return the app, its tables made. Raises ValueError for wrong settings, SQLAlchemyError without a database."""
    engine = make_engine()
    create_tables(engine)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        engine.dispose()

    app = FastAPI(title="Transfers and orders", lifespan=lifespan)
    app.state.engine = engine
    app.include_router(router)
    app.add_exception_handler(RefusedError, answer_refused)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    for not_now in (DBAPIError, PoolTimeoutError):
        app.add_exception_handler(not_now, answer_not_now)
    return app


def main() -> None:  # given
    """Serve the app on HOST and PORT, or run a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", nargs="?", choices=["serve", "seed", "anomalies"], default="serve")
    command = parser.parse_args().command
    try:
        if command == "serve":
            host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))
            uvicorn.run(create_app(), host=host, port=port)
        else:
            engine = make_engine()
            seed(engine) if command == "seed" else print(as_table(observe(engine)))
            engine.dispose()
    except (ValueError, SQLAlchemyError) as error:
        sys.exit(f"error: {' '.join(str(getattr(error, 'orig', None) or error).split())}")


if __name__ == "__main__":
    main()
