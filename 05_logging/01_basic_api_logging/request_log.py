"""Logs each request once, when it is over: a pure ASGI middleware that lets every message pass and keeps none back."""

import logging
import re
import time
import uuid
import zlib
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from masking import by_name, mask, parse_body
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("shop.requests")
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The ID of the request that is being answered, also in threads that its endpoint starts through asyncio or anyio."""

WELL_FORMED = re.compile(r"[A-Za-z0-9_-]{8,64}")
HEALTH = "/health"
SLOW_MS = 500
CLIENT_ERROR, SERVER_ERROR = 400, 500
LOGGED = "is_logged_with_its_request"  # an attribute of an exception


@dataclass
class Exchange:
    """What is known of a request and its answer so far."""

    keeps: int  # the largest body to keep for the log, in bytes
    started: float = field(default_factory=time.perf_counter)
    ended: float | None = None
    body: bytearray = field(default_factory=bytearray)
    request_bytes: int = 0
    is_read: bool = False
    status: int | None = None
    response_bytes: int = 0
    is_gone: bool = False
    error: Exception | None = None

    def take(self, message: Message) -> None:
        """Note what the app receives."""
        if message["type"] == "http.disconnect":
            self.is_gone = self.ended is None
            return
        chunk = message.get("body", b"")
        self.request_bytes += len(chunk)
        self.is_read = not message.get("more_body", False)
        if self.request_bytes <= self.keeps:
            self.body += chunk

    def give(self, message: Message) -> None:
        """Note what the app sends; nobody receives it when the client has gone."""
        if self.is_gone:
            return
        self.status = message.get("status", self.status)
        self.response_bytes += len(message.get("body", b""))
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.ended = time.perf_counter()

    @property
    def milliseconds(self) -> float:
        return round(((self.ended or time.perf_counter()) - self.started) * 1000, 3)

    @property
    def level(self) -> int:
        """ERROR when we failed; WARNING when the client did, or went away; else INFO."""
        if self.error or (self.status or 0) >= SERVER_ERROR:
            return logging.ERROR
        is_success = self.ended is not None and self.status is not None and self.status < CLIENT_ERROR
        return logging.INFO if is_success else logging.WARNING


class RequestLog:
    """Wraps an app; gives every request an ID and a line in the log."""

    def __init__(self, app: ASGIApp, body_bytes: int, sample: float) -> None:
        self.app = app
        self.body_bytes = body_bytes
        self.sample = sample

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        identifier = choose_id(Headers(scope=scope).getlist("x-request-id"))
        exchange = Exchange(self.body_bytes if logger.isEnabledFor(logging.DEBUG) else 0)

        async def receive_noted() -> Message:
            message = await receive()
            exchange.take(message)
            return message

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = identifier
            await send(message)
            exchange.give(message)

        token = request_id.set(identifier)
        try:
            await self.app(scope, receive_noted, send_noted)
        except ClientDisconnect:  # raised by whoever was reading the body: no failure of ours
            pass
        except Exception as error:
            exchange.error = error
            setattr(error, LOGGED, True)
            raise  # the server has to cut off an answer that has begun
        finally:
            self.log(scope, exchange, identifier)
            request_id.reset(token)

    def log(self, scope: Scope, exchange: Exchange, identifier: str) -> None:
        """Write the line of this request, unless it is one of those that nobody needs."""
        is_routine = exchange.level == logging.INFO
        is_sampled = zlib.crc32(identifier.encode()) / 2**32 < self.sample  # so all services that see the ID agree
        if is_routine and (scope["path"] == HEALTH or (exchange.milliseconds < SLOW_MS and not is_sampled)):
            return
        if logger.isEnabledFor(exchange.level):  # else not even its fields are needed
            logger.log(exchange.level, "request", extra=describe(scope, exchange), exc_info=exchange.error)


def choose_id(sent: list[str]) -> str:
    """Return the client's request ID if there is one, well formed and with nothing in it to mask; else a new one."""
    if len(sent) == 1 and WELL_FORMED.fullmatch(sent[0]) and mask(sent[0]) == sent[0]:
        return sent[0]
    return uuid.uuid4().hex


def describe(scope: Scope, exchange: Exchange) -> dict[str, Any]:
    """The fields of a request's line, not masked yet."""
    headers = Headers(scope=scope)
    fields: dict[str, Any] = {
        "method": scope["method"],
        "path": scope["path"],
        "query": by_name(scope["query_string"].decode("latin-1")),
        "headers": {name: ", ".join(headers.getlist(name)) for name in headers},
        "client": scope["client"][0] if scope.get("client") else None,
        "status": exchange.status,
        "duration_ms": exchange.milliseconds,
        "request_bytes": exchange.request_bytes,
        "response_bytes": 0 if scope["method"] == "HEAD" else exchange.response_bytes,
        "complete": exchange.ended is not None,
    }
    if logger.isEnabledFor(logging.DEBUG):
        is_whole = exchange.is_read and exchange.request_bytes <= exchange.keeps
        fields["body"] = parse_body(headers.get("content-type", ""), exchange.body) if is_whole else None
    return fields
