"""What HTTP says of caching: ETag, 304, Cache-Control and Vary; and what FastAPI leaves to the app: HEAD, Allow."""

import hashlib
import re

from fastapi import FastAPI, Request, Response, status
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

METHODS = ("GET", "POST", "PUT", "DELETE")
VARY = "Authorization"  # the one header of a request that changes the answer


def respond(request: Request, body: bytes, cache_control: str, cache_status: str) -> Response:
    """Return the body as JSON, or a 304 with the same headers when the client has it already (RFC 9110 §15.4.5)."""
    etag = etag_of(body)
    headers = {"ETag": etag, "Cache-Control": cache_control, "Vary": VARY, "X-Cache": cache_status}
    if names(request.headers.getlist("If-None-Match"), etag):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def etag_of(body: bytes) -> str:
    """A strong entity tag: the same bytes have the same one, in every process and after every restart."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def names(if_none_match: list[str], etag: str) -> bool:
    """Whether If-None-Match, which may come on several lines, names the tag.

    The comparison is weak: W/ does not count (RFC 9110 §8.8.3.2, §13.1.2). A comma may stand inside a tag.
    """
    value = ",".join(if_none_match).strip()
    return value == "*" or etag in re.findall(r'(?:W/)?("[^"]*")', value)


class HeadIsGet:
    """Answers HEAD as GET (RFC 9110 §9.3.2); the server in front leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:  # given
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # given
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send)


def answer_http_error(request: Request, error: Exception) -> JSONResponse:
    """Keep the error's status and text, complete Allow on a 405, and let nobody keep it.

    A 404 and a 405 may be stored unless they forbid it (RFC 9110 §15.1).
    """
    assert isinstance(error, StarletteHTTPException)
    headers = {**(error.headers or {}), "Cache-Control": "no-store"}
    if error.status_code == status.HTTP_405_METHOD_NOT_ALLOWED:
        headers["Allow"] = allowed_methods(request)
    return JSONResponse({"detail": error.detail}, error.status_code, headers)


def answer_invalid(_request: Request, error: Exception) -> JSONResponse:
    """Name each wrong field and why, without the input: NaN in it would break the answer itself."""
    assert isinstance(error, RequestValidationError)
    problems = [{"loc": problem["loc"], "msg": problem["msg"], "type": problem["type"]} for problem in error.errors()]
    return JSONResponse({"detail": problems}, 422, {"Cache-Control": "no-store"})


def allowed_methods(request: Request) -> str:  # given
    """All methods of the path, for Allow (RFC 9110 §10.2.1); each route knows only its own."""
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    allowed = [
        method
        for method, scope in scopes.items()
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    ]
    return ", ".join(allowed + ["HEAD"] * ("GET" in allowed))


def add_http_rules(app: FastAPI) -> None:  # given
    """Add what holds for every answer of the app."""
    app.add_middleware(HeadIsGet)
    app.add_exception_handler(StarletteHTTPException, answer_http_error)
    app.add_exception_handler(RequestValidationError, answer_invalid)
