"""Reads a request's body as JSON, more strictly than Python does: no NaN, no name twice, no digit lost."""

import json
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect


class BodyError(Exception):
    """The body as a whole cannot be used; `message` says why without repeating any of it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class JsonRequest(Request):
    """A request whose `json()` is the strict one below."""

    async def json(self) -> Any:  # given
        if not hasattr(self, "_json"):
            try:
                body = await self.body()
            except ClientDisconnect:
                raise BodyError(400, "body_cut_short", "ended before its Content-Length") from None
            self._json = read_json(body)
        return self._json


class JsonRoute(APIRoute):
    """A route that takes JSON only: FastAPI's way to put another Request under a signature like `product: Product`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:  # given
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            require_json(request)
            json_request = JsonRequest(request.scope, request.receive)
            await json_request.json()  # before FastAPI does: it would answer what it cannot read in its own shape
            return await handle(json_request)

        return handle_json


def require_json(request: Request) -> None:
    """Raise BodyError for a body that does not say that it is JSON (415, RFC 9110 §15.5.16)."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise BodyError(415, "unsupported_media_type", "must be sent as Content-Type: application/json")


def read_json(body: bytes) -> object:
    """Return the value that the body holds, numbers with a point or an exponent as Decimal.

    Raises BodyError for what is no JSON (RFC 8259), and for what parsers read differently: an object that has a
    name twice, nesting without an end, integers of thousands of digits.
    """
    try:
        return json.loads(
            body.decode("utf-8"),
            parse_float=Decimal,  # a float has lost the digits of 9.9900000000000000001 already
            parse_constant=refuse_constant,
            object_pairs_hook=object_of,
        )
    except json.JSONDecodeError as error:
        raise BodyError(400, "no_json", f"is no JSON at line {error.lineno}, column {error.colno}") from None
    except (ValueError, ArithmeticError, RecursionError):  # not UTF-8, or numbers and nesting without an end
        raise BodyError(400, "unreadable", "is no JSON in UTF-8 that this server can read") from None


def refuse_constant(name: str) -> NoReturn:
    """Python reads NaN, Infinity and -Infinity, which JSON does not have (RFC 8259 §6)."""
    raise BodyError(400, "no_json", f"is no JSON: {name} is no number there")


def object_of(members: list[tuple[str, object]]) -> dict[str, object]:
    """Refuse a name that comes twice: one parser takes the first, another one the last (RFC 8259 §4)."""
    result = dict(members)
    if len(result) < len(members):
        raise BodyError(400, "duplicate_name", "has an object with the same name twice")
    return result
