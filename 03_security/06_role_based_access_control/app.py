"""Roles and permissions: articles and users behind a guard that refuses whatever the table does not allow."""

import json
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import articles
import jwt
import users
import uvicorn
from access import ADMIN, CurrentCaller, Guard, Permission, Reach, requires
from fastapi import APIRouter, FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from sqlalchemy import Engine, create_engine, func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import sessionmaker

from shared.models import User

router = APIRouter()


class Login(users.Body):
    email: str
    password: str


@router.post("/login", **requires(Permission.TOKENS_CREATE, 400))
def login(body: Login, caller: CurrentCaller, sessions: users.Sessions, request: Request) -> dict[str, str | int]:
    """Give a token for an email and a password. The error does not tell which of them is wrong."""
    state = request.app.state
    with sessions() as session:  # SQLite's lower() changes only ASCII, as emails here are
        user = session.scalar(select(User).where(User.email == func.lower(body.email)))
    stored = user.password_hash if user else None
    if not users.is_password(body.password, stored or state.dummy_hash) or user is None or stored is None:
        raise caller.denied(401, "wrong email or password", "wrong email or password", Permission.TOKENS_CREATE)
    token = users.issue_token(user.id, state.key)
    return {"access_token": token, "token_type": "bearer", "expires_in": users.TOKEN_SECONDS}


@router.get("/permissions", **requires(Permission.PERMISSIONS_READ))
def read_permissions() -> dict[str, dict[str, Reach]]:
    """Return the table, as the guard enforces it."""
    return {permission.value: permission.reaches for permission in Permission}


@router.get("/openapi.json", **requires(Permission.DOCUMENT_READ), include_in_schema=False)
def read_document(request: Request) -> dict[str, Any]:
    document: dict[str, Any] = request.app.openapi()
    return document


def add_reports(app: FastAPI, prefix: str) -> None:  # given
    """Add a route of each kind, as a colleague adds them in a hurry: none has a declared permission."""

    def report(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("for internal use only")

    async def live(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("for internal use only")

    later = APIRouter(prefix=prefix)
    later.add_api_route("/monthly", report, response_class=PlainTextResponse)
    app.include_router(later)
    app.add_route(f"{prefix}/raw", report)  # not in the OpenAPI document
    app.add_api_websocket_route(f"{prefix}/live", live)
    app.mount(f"{prefix}/files", PlainTextResponse("for internal use only"))


def answer_invalid(_request: Request, error: Exception) -> JSONResponse:  # given
    """Say what is wrong without repeating it: the input may be a password, or NaN, which is not JSON."""
    assert isinstance(error, RequestValidationError)
    problems = [{"loc": problem["loc"], "msg": problem["msg"], "type": problem["type"]} for problem in error.errors()]
    return JSONResponse({"detail": problems}, 400 if problems[0]["type"] == "json_invalid" else 422)


def make_engine() -> Engine:
    """Return an engine on the database that DATABASE_URL names, with its tables. Raises ValueError for no SQLite."""
    url = os.environ.get("DATABASE_URL", "sqlite:///articles.db")
    if not url.startswith("sqlite:"):
        raise ValueError("DATABASE_URL must name an SQLite database, like sqlite:///articles.db")
    engine = create_engine(url, hide_parameters=True)  # or the text of an error has password hashes
    User.metadata.create_all(engine, [User.metadata.tables["users"]])
    articles.Base.metadata.create_all(engine)
    return engine


def read_rounds() -> int:  # given
    return int(os.environ.get("BCRYPT_ROUNDS", "12"))


def create_app() -> FastAPI:
    """Return the app. Raises ValueError when SECRET_KEY is missing or too short, or BCRYPT_ROUNDS is not 4 to 31."""
    key, rounds = os.fsencode(os.environ.get("SECRET_KEY", "")), read_rounds()
    if len(key) < 32:  # noqa: PLR2004  bytes, as many as SHA-256 returns (RFC 7518 §3.2)
        raise ValueError("SECRET_KEY must be set, to at least 32 bytes")
    users.issue_token(0, key)  # raises InvalidKeyError for a public key
    dummy_hash = users.hash_password(secrets.token_urlsafe(), rounds)
    engine = make_engine()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        engine.dispose()

    app = FastAPI(title="Articles", lifespan=lifespan, openapi_url=None, responses={401: {}, 403: {}})
    app.state.key, app.state.rounds, app.state.dummy_hash = key, rounds, dummy_hash
    app.state.sessions = sessionmaker(engine, expire_on_commit=False)
    app.add_middleware(Guard, identify=users.identify)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    for part in (router, users.router, articles.router):
        app.include_router(part)
    add_reports(app, os.environ.get("REPORTS_PREFIX", "/reports"))
    return app


def seed() -> bool:
    """Make the first admin, and return True, or False where there is one. Raises ValueError for invalid settings."""
    email, password = os.environ.get("ADMIN_EMAIL", ""), os.environ.get("ADMIN_PASSWORD", "")
    admin = users.new_user(users.NewUser(email=email, name="Admin", password=password, role="admin"), read_rounds())
    with sessionmaker(make_engine()).begin() as session:
        session.execute(text("BEGIN IMMEDIATE"))  # nobody else writes between the question and the answer
        if session.scalar(select(User).where(User.role == ADMIN).limit(1)):
            return False
        session.add(admin)
        return True


def main() -> None:  # given
    """Serve the app on HOST and PORT, or make the first admin: JSON on standard output, errors on standard error."""
    try:
        if sys.argv[1:] == ["seed"]:
            print(json.dumps({"created": seed()}))
        elif sys.argv[1:]:
            sys.exit("usage: python app.py [seed]")
        else:
            host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))
            uvicorn.run(create_app(), host=host, port=port, access_log=False)  # it would have the queries
    except (ValueError, SQLAlchemyError, jwt.InvalidKeyError) as error:
        sys.exit(f"error: {' '.join(str(getattr(error, 'orig', None) or error).split())}")


if __name__ == "__main__":
    main()
