"""What HTTP asks for and FastAPI leaves to the app: HEAD, Allow, and errors that do not repeat what was sent."""

from fastapi import FastAPI, Request, status
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send


class HeadIsGet:
    """Answers HEAD as GET (RFC 9110 §9.3.2); the server in front leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:  # given
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # given
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send)


def answer_http_error(_request: Request, error: Exception) -> JSONResponse:  # given
    """Keep the error's status, text and headers; all that this app has can be read and nothing else."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == status.HTTP_405_METHOD_NOT_ALLOWED:
        headers["Allow"] = "GET, HEAD"
    return JSONResponse({"detail": error.detail}, error.status_code, headers)


def answer_invalid(_request: Request, error: Exception) -> JSONResponse:  # given
    """Name each wrong parameter and why."""
    assert isinstance(error, RequestValidationError)
    problems = [{"loc": problem["loc"], "msg": problem["msg"], "type": problem["type"]} for problem in error.errors()]
    return JSONResponse({"detail": problems}, 422)


def add_http_rules(app: FastAPI) -> None:  # given
    """Add all of the above to the app."""
    app.add_middleware(HeadIsGet)
    app.add_exception_handler(HTTPException, answer_http_error)
    app.add_exception_handler(RequestValidationError, answer_invalid)
