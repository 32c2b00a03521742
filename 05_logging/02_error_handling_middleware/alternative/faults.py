"""The same faults in Flask, where a background task runs as the response is closed, and clean-up is a teardown."""

import asyncio
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Flask, Response, jsonify, request
from problems import ConflictError, NotFoundError, parse
from pydantic import BaseModel, Field
from sqlalchemy import Engine, text
from werkzeug.exceptions import BadGateway, Conflict, HTTPException, ServiceUnavailable

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError(f"no text for {self.args}")


class HandlerFailsError(UnprintableError, ConflictError):
    pass


class Card(BaseModel):
    number: int


class UnlistedStatus(HTTPException):
    code = 499
    description = "A status that is in no list."


class Quantity(BaseModel):
    quantity: int = Field(ge=1, le=10)


class Faults:
    """Each public method is a route."""

    def __init__(self, secret: str, engine: Engine) -> None:
        self._secret, self._engine = secret, engine

    def validation(self) -> str:
        return str(parse(Quantity, request.args.to_dict()).quantity)

    def not_found(self) -> str:
        raise NotFoundError(f"There is no product {request.args.get('sku', 'KB-0')}.")

    def conflict(self) -> str:
        raise ConflictError("This sku is taken.")

    def detail(self) -> str:
        raise Conflict({"card": self._secret, "by": object()})  # type: ignore[arg-type]

    def dependency(self) -> str:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            try:
                socket.create_connection(closed.getsockname()).close()
            except OSError as error:
                raise ConnectionError(f"redis://:{self._secret}@127.0.0.1 does not answer: {error}") from error
        return ""

    def database(self) -> str:
        with self._engine.connect() as connection:
            connection.execute(text("SELECT number FROM cards WHERE number = :number"), {"number": self._secret})
        return ""

    def timeout(self) -> str:
        with (
            socket.create_server(("127.0.0.1", 0)) as silent,
            socket.create_connection(silent.getsockname(), timeout=0.05) as connection,
        ):
            return str(connection.recv(1))

    def http(self) -> str:
        raise BadGateway(f"The payment service refused the key {self._secret}")

    def unexpected(self) -> str:
        query = f"SELECT number FROM cards WHERE number = '{self._secret}'"  # noqa: S608  it is never executed
        raise RuntimeError(f"{query} failed\nin {__file__}")

    def group(self) -> str:
        raise ExceptionGroup("two of two failed", [RuntimeError(self._secret), ValueError("another")])

    def value(self) -> str:
        raise ValueError(self._secret)

    def key(self) -> str:
        return dict[str, str]()[self._secret]

    def file(self) -> str:
        return Path(__file__).with_name(self._secret).read_text(encoding="utf-8")

    def model(self) -> str:
        return str(Card.model_validate({"number": self._secret}))

    def half_text(self) -> str:
        raise NotFoundError("There is no product \ud800.")

    def status(self) -> str:
        raise UnlistedStatus

    def busy(self) -> str:
        raise ServiceUnavailable(self._secret)

    def recursion(self) -> str:
        def there() -> str:
            return self.recursion()

        return there()

    def no_text(self) -> str:
        raise UnprintableError(self._secret)

    def response(self) -> Response:
        return jsonify(stock=object())

    def _stream(self, fail: Callable[[], str]) -> Response:
        def lines() -> Iterator[str]:
            yield "first line\n"
            yield fail()

        return Response(lines(), mimetype="text/plain")

    def stream(self) -> Response:
        return self._stream(self.unexpected)

    def stream_dependency(self) -> Response:
        return self._stream(self.dependency)

    def stream_http(self) -> Response:
        return self._stream(self.detail)

    def stream_exit(self) -> Response:
        return self._stream(self.exit)

    def stream_cancelled(self) -> Response:
        return self._stream(self.cancelled)

    def endless(self) -> Response:
        def lines() -> Iterator[str]:
            while True:
                yield "one more line\n"
                time.sleep(0.01)

        return Response(lines(), mimetype="text/plain")

    def background(self) -> Response:
        response = Response()
        response.call_on_close(self.unexpected)
        return response

    def cancelled(self) -> str:
        raise asyncio.CancelledError

    def exit(self) -> str:
        sys.exit(f"{self._secret} is not valid")

    def memory(self) -> str:
        raise MemoryError(self._secret)

    def handler(self) -> str:
        raise HandlerFailsError(self._secret)


def add_faults(app: Flask, secret: str, engine: Engine) -> None:
    faults = Faults(secret, engine)
    wsgi_app: WSGIApplication = app.wsgi_app

    def before() -> None:
        if request.path == "/faults/set-up":
            faults.unexpected()

    def after(_error: BaseException | None) -> None:
        if request.path == "/faults/clean-up":
            faults.unexpected()

    def middleware(environ: "WSGIEnvironment", start_response: "StartResponse") -> "Iterator[bytes]":
        if environ["PATH_INFO"] == "/faults/middleware":
            faults.unexpected()
        return iter(wsgi_app(environ, start_response))

    app.wsgi_app = middleware  # type: ignore[method-assign]
    app.before_request(before)
    app.teardown_request(after)
    for name in filter(lambda name: not name.startswith("_"), dir(faults)):
        app.add_url_rule(f"/faults/{name.replace('_', '-')}", name, getattr(faults, name))
    for name in ("set-up", "clean-up", "middleware"):
        app.add_url_rule(f"/faults/{name}", name, lambda: "")
