"""Where errors are caught, and how each is logged once: a handler, a boundary around the rest, and JSON lines."""

import asyncio
import json
import logging
import re
import uuid
from datetime import UTC, datetime
from typing import Any

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from problems import CRITICAL, UNEXPECTED, Entry, Problem, describe, look_up, respond
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Beside Exception: what a library may raise into a request without meaning to end the service.
CAUGHT = (Exception, BaseExceptionGroup, asyncio.CancelledError, SystemExit)
HALF_A_TRACE = 20_000  # characters; endless recursion makes long ones

logger = logging.getLogger("shop.errors")


class CutOffError(Exception):
    """Ends an answer that has begun, so that the client sees it is incomplete; the cause has been logged."""


class StreamFailedError(Exception):
    """Carries an error out of the task of a stream; its cause is that error."""


class Stream(StreamingResponse):
    """A stream whose errors all reach the boundary: Starlette runs it in a task of its own.

    asyncio ends the whole event loop for a SystemExit in a task, and drops a CancelledError.
    """

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except (SystemExit, asyncio.CancelledError) as error:
            if is_cancelled():
                raise
            raise StreamFailedError from error


def is_cancelled() -> bool:
    """Whether somebody cancels the current task: the client has left, or the server stops."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def answer(request: Request, error: BaseException) -> Response:
    """Log the error and return its answer, also when making that answer fails."""
    if isinstance(error, HTTPException) and error.status_code < 400:  # noqa: PLR2004
        return Response(status_code=error.status_code, headers=error.headers)  # a redirect, say, is no error
    try:
        problem = describe(error)
        response = respond(problem, request)
    except Exception as failure:  # noqa: BLE001  the handler itself is at fault
        error = failure
        problem = Problem(CRITICAL, CRITICAL.detail)
        response = respond(problem, request)
    log(request, error, problem)
    return response


def log_without_answer(request: Request, error: BaseException) -> None:
    """Log what fails after the answer has begun: it is our error, whatever it would be for a client."""
    if isinstance(error.__cause__, (HTTPException, SystemExit, asyncio.CancelledError)):
        error = error.__cause__  # the error around it, by Starlette or Stream, only says where it was raised
    level = max(look_up(error).level, UNEXPECTED.level)
    log(request, error, Problem(Entry(UNEXPECTED.status, level), ""))


def log(request: Request, error: BaseException, problem: Problem) -> None:
    """Write one line; with the trace where the fault is ours."""
    fields = {
        "type": type(error).__name__,
        "status": problem.entry.status,
        "method": request.state.method,
        "path": request.scope["path"],
        "route": getattr(request.scope.get("route"), "path", None),
        "request_id": request.state.request_id,
        "error_id": problem.error_id,
    }
    trace = error if problem.entry.status >= 500 else None  # noqa: PLR2004
    logger.log(problem.entry.level, problem.title, exc_info=trace, extra={"fields": fields})


class ErrorBoundary:
    """Catches what no handler did, also after the answer has begun or ended, and does not raise it again."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = ended = False

        async def watch(message: Message) -> None:
            nonlocal begun, ended
            begun = True
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, receive, watch)
        except ClientDisconnect:
            return  # the client has left halfway through its body
        except CAUGHT as error:
            if is_cancelled():
                raise
            if not begun:
                response = await answer(Request(scope), error)
                await response(scope, receive, send)
                return
            log_without_answer(Request(scope), error)
            if not ended:
                raise CutOffError from None


class RequestContext:
    """Gives each request an ID that comes back in every answer, and answers HEAD as GET (RFC 9110 §9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = ", ".join(Headers(scope=scope).getlist("x-request-id"))
        request_id = sent if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", sent) else str(uuid.uuid4())
        method = scope["method"]
        state = {**scope.get("state", {}), "request_id": request_id, "method": method}

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        # The server leaves the body of an answer to HEAD out.
        scope = {**scope, "state": state, "method": "GET" if method == "HEAD" else method}
        await self.app(scope, receive, send_with_id)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: json.dumps escapes newlines, so nobody forges a line (CWE-117)."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            is_long = len(trace) > 2 * HALF_A_TRACE
            line["trace"] = f"{trace[:HALF_A_TRACE]}\n...\n{trace[-HALF_A_TRACE:]}" if is_long else trace
        return json.dumps(line)


def is_not_cut_off(record: logging.LogRecord) -> bool:
    """Filters out the server's report of a CutOffError: its cause is in the log already."""
    return not (record.exc_info and isinstance(record.exc_info[1], CutOffError))


def logging_config() -> dict[str, Any]:
    """For logging.config: everything, the server's messages included, goes to standard error as JSON."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "filters": {"not cut off": {"()": lambda: is_not_cut_off}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"level": "INFO", "handlers": ["stderr"]},
        "loggers": {"uvicorn.error": {"filters": ["not cut off"]}},
    }
