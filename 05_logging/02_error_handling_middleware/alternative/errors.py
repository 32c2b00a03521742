"""One error handler for every Exception, and a WSGI middleware around Flask for what comes before and after it."""

import asyncio
import json
import logging
import re
import sys
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from http.client import responses
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from flask import Request, Response
from problems import FAILED, UNEXPECTED, Problem, describe, respond

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HALF_A_TRACE = 20_000  # characters
CAUGHT = (Exception, BaseExceptionGroup, asyncio.CancelledError, SystemExit)
ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None] | None

logger = logging.getLogger("shop.errors")


def answer(request: Request, error: BaseException) -> Response:
    """Log the error and return its answer, also when making that answer fails."""
    try:
        problem = describe(error)
        response = respond(problem, request)
    except Exception as failure:  # noqa: BLE001
        error, problem = failure, Problem(*FAILED)
        response = respond(problem, request)
    log(request, error, problem)
    return response


def log_without_answer(environ: "WSGIEnvironment", error: BaseException) -> None:
    """Log what fails after the answer has begun: it is our error, whatever it would be for a client."""
    log(Request(environ), error, Problem(500, max(describe(error).level, logging.ERROR), UNEXPECTED))


def log(request: Request, error: BaseException, problem: Problem) -> None:
    fields = {
        "type": type(error).__name__,
        "status": problem.status,
        "method": request.method,
        "path": request.path,
        "route": request.environ.get("shop.route"),
        "request_id": request.environ["shop.request_id"],
        "error_id": problem.error_id,
    }
    trace = error if problem.status >= 500 else None  # noqa: PLR2004
    logger.log(problem.level, responses.get(problem.status, "Error"), exc_info=trace, extra={"fields": fields})


class ErrorBoundary:
    """Catches what Flask does not; the headers that it adds are on every answer."""

    def __init__(self, app: "WSGIApplication", origin: str | None) -> None:
        self.app, self.origin = app, origin

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        sent = environ.get("HTTP_X_REQUEST_ID", "")
        request_id = sent if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", sent) else str(uuid.uuid4())
        environ["shop.request_id"] = request_id
        added = [("X-Request-ID", request_id)]
        if self.origin and environ.get("HTTP_ORIGIN") == self.origin:
            added += [("Access-Control-Allow-Origin", self.origin), ("Access-Control-Expose-Headers", "X-Request-ID")]
            added += [("Access-Control-Allow-Methods", "GET, HEAD, POST"), ("Vary", "Origin")]
            added += [("Access-Control-Allow-Headers", "Content-Type, X-Request-ID")]

        def start(status: str, headers: list[tuple[str, str]], exc_info: ExcInfo = None) -> Any:
            # Called a second time, it replaces headers that have not been sent yet (PEP 3333).
            return start_response(status, headers + added, exc_info or sys.exc_info())

        try:
            return Body(self.app(environ, start), environ)
        except CAUGHT as error:
            return answer(Request(environ), error)(environ, start)


class Body:
    """The body of an answer. An error in it has the server close the connection."""

    def __init__(self, chunks: Iterable[bytes], environ: "WSGIEnvironment") -> None:
        self.chunks, self.environ = chunks, environ

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self.chunks
        except CAUGHT as error:
            log_without_answer(self.environ, error)
            raise ConnectionAbortedError from None  # the one error that Werkzeug's server takes in silence

    def close(self) -> None:
        try:
            if hasattr(self.chunks, "close"):
                self.chunks.close()
        except CAUGHT as error:
            log_without_answer(self.environ, error)


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        timestamp = datetime.fromtimestamp(record.created, UTC).isoformat()
        line: dict[str, Any] = {"timestamp": timestamp, "level": record.levelname, "message": record.getMessage()}
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            is_long = len(trace) > 2 * HALF_A_TRACE
            line["trace"] = f"{trace[:HALF_A_TRACE]}\n...\n{trace[-HALF_A_TRACE:]}" if is_long else trace
        return json.dumps(line | getattr(record, "fields", {}))
