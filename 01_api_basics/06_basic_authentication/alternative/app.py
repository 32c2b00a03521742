"""The same in FastAPI: endpoints and the credentials check are `def`, so hashing never stops the event loop."""

import base64
import os
import secrets
import sys
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import bcrypt
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.models import HTTPBase
from fastapi.responses import JSONResponse
from fastapi.security.base import SecurityBase
from pydantic import AfterValidator, BaseModel, Field
from sqlalchemy import Engine, String, create_engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

CHEAPEST, DEAREST = 4, 16
LONGEST_PASSWORD = 72  # bytes
LONGEST_TEXT = 1000  # more than any right name or password has before NFC
CHALLENGE = {"WWW-Authenticate": 'Basic realm="users", charset="UTF-8"', "Cache-Control": "no-store"}


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    username: Mapped[str] = mapped_column(String(64), primary_key=True)
    password_hash: Mapped[str] = mapped_column(String(60))


@dataclass
class Settings:
    """What the endpoints need; the app keeps it in its state."""

    engine: Engine
    rounds: int
    nobodys_hash: bytes


def nfc(text: str) -> str:
    """Return the text in NFC, and what is far too long as it is: the time for NFC grows with the square of it."""
    if len(text) > LONGEST_TEXT:
        return text
    return unicodedata.normalize("NFC", text)


def is_unprintable(text: str) -> bool:
    """Whether there is a control character in it, or half a surrogate, which UTF-8 cannot write."""
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def as_username(text: str) -> str:
    text = nfc(text)
    if is_unprintable(text) or not 1 <= len(text) <= 64 or ":" in text or any(map(str.isspace, text)):  # noqa: PLR2004
        raise ValueError("1 to 64 characters, without white space, colons and control characters")
    return text


def as_password(text: str) -> str:
    text = nfc(text)
    if is_unprintable(text) or len(text) < 8 or len(text.encode()) > LONGEST_PASSWORD:  # noqa: PLR2004
        raise ValueError("at least 8 characters and at most 72 bytes of UTF-8, without control characters")
    return text


class Registration(BaseModel):
    # Lengths are counted in NFC, which a JSON Schema cannot say; so the document promises less.
    username: Annotated[str, AfterValidator(as_username), Field(min_length=1, pattern=r"^[^:]*$")]
    password: Annotated[str, AfterValidator(as_password), Field(json_schema_extra={"format": "password"})]


class UserOut(BaseModel):
    username: str


class Message(BaseModel):
    detail: str


class Problems(BaseModel):
    detail: dict[str, str]


def settings_of(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def parse(headers: list[str]) -> tuple[str, str] | None:
    """The name and password of exactly one well-formed Basic header, else None."""
    if len(headers) != 1:
        return None
    scheme, _, encoded = headers[0].partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(encoded.strip(" "), validate=True).decode()
    except ValueError:
        return None
    username, colon, password = text.partition(":")
    return (nfc(username), nfc(password)) if colon and not is_unprintable(text) else None


class BasicAuth(SecurityBase):
    """A dependency that gives the user's name or answers 401; being a SecurityBase puts it into the document."""

    def __init__(self) -> None:
        self.model = HTTPBase(scheme="basic")
        self.scheme_name = "basic"

    def __call__(self, request: Request) -> str:
        credentials = parse(request.headers.getlist("authorization"))
        if credentials is None or not is_right(settings_of(request), *credentials):
            raise HTTPException(401, "a valid username and password are needed", CHALLENGE)
        return credentials[0]


def is_right(settings: Settings, username: str, password: str) -> bool:
    """Whether this is a user's password. Hashes for an unknown name as well, and holds no connection meanwhile."""
    with Session(settings.engine) as session:
        user = session.get(User, username)
    encoded = password.encode()
    if len(encoded) > LONGEST_PASSWORD:
        return False
    matches = bcrypt.checkpw(encoded, user.password_hash.encode() if user else settings.nobodys_hash)
    return matches and user is not None


router = APIRouter()
Responses = dict[int | str, dict[str, Any]]
REGISTRATION_ERRORS: Responses = {
    400: {"model": Message, "description": "The body is no JSON"},
    409: {"model": Message, "description": "The username is taken"},
    415: {"model": Message, "description": "The body does not say that it is JSON"},
    422: {"model": Problems, "description": "What is wrong, field by field"},
}
UNAUTHORIZED: Responses = {401: {"model": Message, "description": "No valid credentials"}}


@router.get("/public")
def public() -> dict[str, str]:
    return {"message": "everybody may read this"}


@router.get("/me", responses=UNAUTHORIZED)
def me(username: Annotated[str, Depends(BasicAuth())], response: Response) -> UserOut:
    response.headers["Cache-Control"] = "no-store"
    return UserOut(username=username)


@router.post("/users", status_code=201, responses=REGISTRATION_ERRORS)
def register(body: Registration, request: Request) -> UserOut:
    settings = settings_of(request)
    password_hash = bcrypt.hashpw(body.password.encode(), bcrypt.gensalt(settings.rounds)).decode()
    try:
        with Session(settings.engine) as session, session.begin():
            session.add(User(username=body.username, password_hash=password_hash))
    except IntegrityError:
        raise HTTPException(409, "this username is taken") from None
    return UserOut(username=body.username)


class HeadIsGet:
    """Answers HEAD as GET (RFC 9110 §9.3.2); the server in front leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send)


def answer_http_error(_request: Request, error: Exception) -> JSONResponse:
    """As FastAPI does, but Allow has HEAD where it has GET."""
    assert isinstance(error, StarletteHTTPException)
    headers = dict(error.headers or {})
    if headers.get("Allow") == "GET":
        headers["Allow"] = "GET, HEAD"
    return JSONResponse({"detail": error.detail}, error.status_code, headers)


def answer_invalid(_request: Request, error: Exception) -> JSONResponse:
    """A message for each wrong field, and never the input: there is a password in it."""
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    if problems[0]["type"] == "json_invalid":
        return JSONResponse({"detail": "the body is no JSON"}, 400)
    return JSONResponse({"detail": {str(problem["loc"][-1]): problem["msg"] for problem in problems}}, 422)


def read_rounds() -> int:
    text = os.environ.get("BCRYPT_ROUNDS", "12")
    if not (text.isascii() and text.isdecimal()) or not CHEAPEST <= int(text[:9]) <= DEAREST:
        raise ValueError(f"BCRYPT_ROUNDS is a whole number from {CHEAPEST} to {DEAREST}, not {text!r}")
    return int(text)


def create_app() -> FastAPI:
    """Return the app on the database that DATABASE_URL names. Raises ValueError for bad BCRYPT_ROUNDS."""
    rounds = read_rounds()
    engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///users.db"), hide_parameters=True)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        Base.metadata.create_all(engine)
        nobodys_hash = bcrypt.hashpw(secrets.token_bytes(16), bcrypt.gensalt(rounds))
        app.state.settings = Settings(engine, rounds, nobodys_hash)
        yield
        engine.dispose()

    app = FastAPI(title="Users", lifespan=lifespan)
    app.include_router(router)
    app.add_middleware(HeadIsGet)
    app.add_exception_handler(StarletteHTTPException, answer_http_error)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    return app


def main() -> None:
    """Serve the app on HOST and PORT."""
    try:
        app = create_app()
    except ValueError as error:
        sys.exit(str(error))
    uvicorn.run(app, host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ.get("PORT", "8000")))


if __name__ == "__main__":
    main()
