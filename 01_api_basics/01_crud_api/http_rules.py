"""What HTTP asks of a resource and FastAPI leaves to the app: HEAD, Allow, 415, and errors that echo nothing."""

from fastapi import FastAPI, HTTPException, Request, status
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"


class HeadIsGet:
    """Answers HEAD as GET (RFC 9110 §9.3.2); the server in front leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send)


def require_json(request: Request) -> None:
    """Refuse a body that does not say that it is JSON with 415 (RFC 9110 §15.5.16); a patch may be a merge patch."""
    types = [JSON, MERGE_PATCH] if request.method == "PATCH" else [JSON]
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in types:
        accepted = {"Accept-Patch" if request.method == "PATCH" else "Accept": ", ".join(types)}  # RFC 5789 §2.2
        raise HTTPException(415, f"send {' or '.join(types)}, not {content_type or 'a body without a type'}", accepted)


def allowed_methods(request: Request) -> str:
    """All methods of the path, for Allow (RFC 9110 §10.2.1); each route knows only its own."""
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    allowed = [
        method
        for method, scope in scopes.items()
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    ]
    return ", ".join(allowed + ["HEAD"] * ("GET" in allowed))


def answer_http_error(request: Request, error: Exception) -> JSONResponse:
    """Keep the error's status, text and headers, and complete Allow on a 405."""
    assert isinstance(error, StarletteHTTPException)
    headers = dict(error.headers or {})
    if error.status_code == status.HTTP_405_METHOD_NOT_ALLOWED:
        headers["Allow"] = allowed_methods(request)
    return JSONResponse({"detail": error.detail}, error.status_code, headers)


def answer_invalid(_request: Request, error: Exception) -> JSONResponse:
    """Name each wrong field and why, without the input: NaN in it would break the answer itself.

    422 is for what can be read and is wrong; what is no JSON is a 400 (RFC 9110 §15.5.1, §15.5.21).
    """
    assert isinstance(error, RequestValidationError)
    problems = [{"loc": problem["loc"], "msg": problem["msg"], "type": problem["type"]} for problem in error.errors()]
    return JSONResponse({"detail": problems}, 400 if problems[0]["type"] == "json_invalid" else 422)


def add_http_rules(app: FastAPI) -> None:
    """Add all of the above to the app, but for `require_json`, which the endpoints with a body depend on."""
    app.add_middleware(HeadIsGet)
    app.add_exception_handler(StarletteHTTPException, answer_http_error)
    app.add_exception_handler(RequestValidationError, answer_invalid)
