"""Soft deletes: an app and a command on one database, where what is deleted is marked, and gone for good only later."""

import argparse
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, status
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from models import create_tables
from routes import router
from soft_delete import hide_deleted, purge
from sqlalchemy import Engine, NullPool, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import sessionmaker
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

TAKEN = {
    "uq_customers_live_email": "this e-mail belongs to another customer",
    "uq_orders_live_number": "this number belongs to another order",
}
DEADLOCK = "40P01"
METHODS = ("GET", "POST", "DELETE")


def make_engine(**options: Any) -> Engine:
    """An engine for DATABASE_URL. Raises ValueError when that names no PostgreSQL database."""
    named = os.environ.get("DATABASE_URL", "")
    if not re.match(r"postgres(ql(\+\w+)?)?://", named):
        raise ValueError("DATABASE_URL must name a PostgreSQL database, like postgresql://user:password@host/database")
    url = make_url(named).set(drivername="postgresql+psycopg")  # some hosts still write postgres://
    return create_engine(url.update_query_dict({"connect_timeout": "5"} | dict(url.query)), **options)


def create_app() -> FastAPI:
    """Return the app, its tables made. Raises ValueError for a wrong setting, SQLAlchemyError without a database."""
    engine = make_engine()
    create_tables(engine)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        engine.dispose()

    app = FastAPI(title="Customers that can be brought back", lifespan=lifespan)
    app.state.sessions = sessionmaker(engine)
    event.listen(app.state.sessions, "do_orm_execute", hide_deleted)
    app.state.admin_token = os.fsencode(os.environ.get("ADMIN_TOKEN", ""))
    app.include_router(router)
    app.add_middleware(HeadIsGet)
    app.add_exception_handler(StarletteHTTPException, answer_problem)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_exception_handler(DBAPIError, answer_conflict)
    return app


class HeadIsGet:
    """Answers HEAD as GET (RFC 9110 §9.3.2); the server in front leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:  # given
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # given
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send)


def allowed_methods(request: Request) -> str:  # given
    """All methods of the path, for Allow (RFC 9110 §10.2.1); each route knows only its own."""
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    allowed = [
        method
        for method, scope in scopes.items()
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    ]
    return ", ".join(allowed + ["HEAD"] * ("GET" in allowed))


def answer_problem(request: Request, error: Exception) -> JSONResponse:  # given
    assert isinstance(error, StarletteHTTPException)
    headers = dict(error.headers or {})
    if error.status_code == status.HTTP_405_METHOD_NOT_ALLOWED:
        headers["Allow"] = allowed_methods(request)
    return JSONResponse({"detail": str(error.detail)}, error.status_code, headers)


def answer_invalid(_request: Request, error: Exception) -> JSONResponse:  # given
    """Say what is wrong without repeating it: NaN in the input would break the answer itself."""
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    detail = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems)
    return JSONResponse({"detail": detail}, 400 if problems[0]["type"] == "json_invalid" else 422)


def answer_conflict(_request: Request, error: Exception) -> JSONResponse:
    """Turn what the database refused into a 409, by the constraint's name; what we did not foresee stays a 500.

    Two restores at once may want each other's numbers: PostgreSQL ends one of them as a deadlock.
    """
    assert isinstance(error, DBAPIError)
    if isinstance(error, IntegrityError):
        diagnosis = getattr(error.orig, "diag", None)
        detail = TAKEN.get(getattr(diagnosis, "constraint_name", None) or "")
    else:
        is_deadlock = getattr(error.orig, "sqlstate", None) == DEADLOCK
        detail = "another request changes the same rows: try again" if is_deadlock else None
    if detail is None:
        raise error
    return JSONResponse({"detail": detail}, 409)


def main() -> None:  # given
    """Serve the app on HOST and PORT, or purge: JSON on standard output, or one sentence on standard error."""
    wanted = parse_arguments()
    try:
        if wanted.command == "purge":
            sessions = sessionmaker(make_engine(poolclass=NullPool))
            print(json.dumps(purge(sessions, timedelta(days=wanted.older_than), wanted.batch)))
        else:
            host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))
            uvicorn.run(create_app(), host=host, port=port)
    except (ValueError, SQLAlchemyError) as error:
        sys.exit(f"error: {' '.join(str(getattr(error, 'orig', None) or error).split())}")
    except KeyboardInterrupt:
        sys.exit("interrupted: what is purged stays so")


def parse_arguments() -> argparse.Namespace:  # given
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command")
    purging = commands.add_parser("purge", help="delete for good what was deleted long ago")
    purging.add_argument("--older-than", type=whole_number(0, 36_500), metavar="DAYS", required=True)
    purging.add_argument("--batch", type=whole_number(1, 10_000), metavar="ROWS", default=1000)
    return parser.parse_args()


def whole_number(least: int, most: int) -> Callable[[str], int]:  # given
    def read(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}")
        return int(text)

    return read


if __name__ == "__main__":
    main()
