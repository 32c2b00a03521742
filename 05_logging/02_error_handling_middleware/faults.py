"""Routes that fail on purpose, each in another way, most with a secret in the error. For ENVIRONMENT=testing only."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Annotated

from errors import Stream
from fastapi import BackgroundTasks, Depends, FastAPI, Query
from problems import ConflictError, NotFoundError
from pydantic import BaseModel
from sqlalchemy import Engine, text
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send


class UnprintableError(Exception):
    def __str__(self) -> str:  # given
        raise RuntimeError(f"no text for {self.args}")


class HandlerFailsError(UnprintableError, ConflictError):
    """It is expected, but its handler fails: the text for the client cannot be made."""


class Card(BaseModel):
    number: int


class Faults:
    """Each public method is a route: GET /faults/not-found calls `not_found`."""

    def __init__(self, secret: str, engine: Engine) -> None:  # given
        self._secret, self._engine = secret, engine

    def validation(self, quantity: Annotated[int, Query(ge=1, le=10)]) -> int:  # given
        return quantity

    def not_found(self, sku: str = "KB-0") -> None:  # given
        raise NotFoundError(f"There is no product {sku}.")

    def conflict(self) -> None:  # given
        raise ConflictError("This sku is taken.")

    def detail(self) -> None:  # given
        raise HTTPException(409, {"card": self._secret, "by": object()})  # type: ignore[arg-type]

    def dependency(self) -> None:  # given
        """Connect to a port on which nobody listens, and fail as many clients do: with the password in the text."""
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            try:
                socket.create_connection(closed.getsockname()).close()
            except OSError as error:
                raise ConnectionError(f"redis://:{self._secret}@127.0.0.1 does not answer: {error}") from error

    def database(self) -> None:  # given
        with self._engine.connect() as connection:
            connection.execute(text("SELECT number FROM cards WHERE number = :number"), {"number": self._secret})

    def timeout(self) -> None:  # given
        """Wait for a server that accepts a connection and says nothing."""
        with (
            socket.create_server(("127.0.0.1", 0)) as silent,
            socket.create_connection(silent.getsockname(), timeout=0.05) as connection,
        ):
            connection.recv(1)

    def http(self) -> None:  # given
        raise HTTPException(502, f"The payment service refused the key {self._secret}")

    def unexpected(self) -> None:  # given
        query = f"SELECT number FROM cards WHERE number = '{self._secret}'"  # noqa: S608  it is never executed
        raise RuntimeError(f"{query} failed\nin {__file__}")

    def group(self) -> None:  # given
        raise ExceptionGroup("two of two failed", [RuntimeError(self._secret), ValueError("another")])

    def value(self) -> None:  # given
        raise ValueError(self._secret)

    def key(self) -> None:  # given
        dict[str, str]()[self._secret]

    def file(self) -> None:  # given
        Path(__file__).with_name(self._secret).read_text(encoding="utf-8")

    def model(self) -> None:  # given
        Card.model_validate({"number": self._secret})

    def half_text(self) -> None:  # given
        raise NotFoundError("There is no product \ud800.")

    def status(self) -> None:  # given
        raise HTTPException(499, "A status that is in no list.")

    def busy(self) -> None:  # given
        raise HTTPException(503, self._secret)

    def recursion(self) -> None:  # given
        """Two functions that call each other: Python does not shorten their trace."""

        def there() -> None:
            self.recursion()

        there()

    def no_text(self) -> None:  # given
        raise UnprintableError(self._secret)

    def response(self) -> int:  # given
        return self._secret  # type: ignore[return-value]

    def _stream(self, fail: Callable[[], None]) -> Stream:  # given
        def lines() -> Iterator[str]:
            yield "first line\n"
            fail()

        return Stream(lines(), media_type="text/plain")

    def stream(self) -> Stream:  # given
        return self._stream(self.unexpected)

    def stream_dependency(self) -> Stream:  # given
        return self._stream(self.dependency)

    def stream_http(self) -> Stream:  # given
        return self._stream(self.detail)

    def stream_exit(self) -> Stream:  # given
        return self._stream(self.exit)

    def stream_cancelled(self) -> Stream:  # given
        async def lines() -> AsyncIterator[str]:
            yield "first line\n"
            await self.cancelled()

        return Stream(lines(), media_type="text/plain")

    def endless(self) -> Stream:  # given
        async def lines() -> AsyncIterator[str]:
            while True:
                yield "one more line\n"
                await asyncio.sleep(0.01)

        return Stream(lines(), media_type="text/plain")

    def background(self, tasks: BackgroundTasks) -> None:  # given
        tasks.add_task(self.unexpected)

    async def cancelled(self) -> None:  # given
        """Wait for a task that has been cancelled."""
        task = asyncio.create_task(asyncio.sleep(1))
        task.cancel()
        await task

    def exit(self) -> None:  # given
        sys.exit(f"{self._secret} is not valid")

    def memory(self) -> None:  # given
        raise MemoryError(self._secret)

    def handler(self) -> None:  # given
        raise HandlerFailsError(self._secret)


def add_faults(app: FastAPI, secret: str, engine: Engine) -> None:  # given
    """Add the routes, and a middleware that fails: the last in the list is the innermost."""
    faults = Faults(secret, engine)
    app.user_middleware.append(Middleware(FaultyMiddleware, faults))

    def before() -> Iterator[None]:
        faults.unexpected()
        yield

    def after() -> Iterator[None]:
        yield
        faults.unexpected()

    def succeed() -> None:
        """What fails is around it."""

    for name in filter(lambda name: not name.startswith("_"), dir(faults)):
        app.add_api_route(f"/faults/{name.replace('_', '-')}", getattr(faults, name), include_in_schema=False)
    app.add_api_route("/faults/set-up", succeed, dependencies=[Depends(before)], include_in_schema=False)
    app.add_api_route("/faults/clean-up", succeed, dependencies=[Depends(after)], include_in_schema=False)
    app.add_api_route("/faults/middleware", succeed, include_in_schema=False)


class FaultyMiddleware:
    def __init__(self, app: ASGIApp, faults: Faults) -> None:  # given
        self.app, self.faults = app, faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # given
        if scope["type"] == "http" and scope["path"] == "/faults/middleware":
            self.faults.unexpected()
        await self.app(scope, receive, send)
