"""What a client is told about an error: one catalogue, and answers in JSON (RFC 9457) or as a page."""

import html
import logging
import re
import uuid
from dataclasses import dataclass, field
from http import HTTPMethod, HTTPStatus
from http.client import responses

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.routing import Match


class ShopError(Exception):
    """An error that the client can do something about; its text is written for the client."""


class NotFoundError(ShopError):
    pass


class ConflictError(ShopError):
    pass


@dataclass(frozen=True)
class Entry:
    """What the catalogue says of a class of errors. Without a `detail` the client gets the error's own text."""

    status: int
    level: int
    detail: str = ""


UNEXPECTED = Entry(500, logging.ERROR, "Something went wrong on our side. Tell us the error ID.")
CRITICAL = Entry(500, logging.CRITICAL, UNEXPECTED.detail)
UNAVAILABLE = Entry(503, logging.WARNING, "A service that we need does not answer. Try again later.")

# An error that is not here has the entry of its nearest base class, and is unexpected without one.
CATALOGUE: dict[type[BaseException], Entry] = {
    NotFoundError: Entry(404, logging.INFO),
    ConflictError: Entry(409, logging.INFO),
    RequestValidationError: Entry(422, logging.INFO, "The request has values that are not valid."),
    ConnectionError: UNAVAILABLE,
    TimeoutError: UNAVAILABLE,
    OperationalError: UNAVAILABLE,
    PoolTimeoutError: UNAVAILABLE,
    MemoryError: CRITICAL,
    SystemExit: CRITICAL,
}


@dataclass(frozen=True)
class Problem:
    """One error as a client may see it, and how serious it is."""

    entry: Entry
    detail: str
    errors: list[dict[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    error_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def title(self) -> str:  # given
        return responses.get(self.entry.status, "Error")  # HTTPStatus has no 499

    @property
    def document(self) -> dict[str, object]:
        """The fields of RFC 9457 §3.1, and ours: the error ID and, for a 422, the fields that are wrong."""
        return {
            "type": "about:blank",
            "title": self.title,
            "status": self.entry.status,
            "detail": self.detail,
            "instance": f"urn:uuid:{self.error_id}",
            "error_id": self.error_id,
            **({"errors": self.errors} if self.errors else {}),
        }


def describe(error: BaseException) -> Problem:
    """Return what the catalogue allows to be told about the error."""
    entry = look_up(error)
    errors = wrong_fields(error) if isinstance(error, RequestValidationError) else []
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if entry.status == UNAVAILABLE.status:
        headers.setdefault("Retry-After", "30")  # seconds
    detail = (entry.detail or str(error)).encode(errors="replace").decode()  # UTF-8 has no half characters
    return Problem(entry, detail, errors, headers)


def look_up(error: BaseException) -> Entry:
    """The catalogue's entry. An HTTPException has its own status; its detail is only told when it is a 4xx's text."""
    if not isinstance(error, HTTPException):
        return next((CATALOGUE[kind] for kind in type(error).__mro__ if kind in CATALOGUE), UNEXPECTED)
    if error.status_code == UNAVAILABLE.status:
        return UNAVAILABLE
    if error.status_code >= UNEXPECTED.status:
        return Entry(error.status_code, logging.ERROR, UNEXPECTED.detail)
    text = error.detail if isinstance(error.detail, str) else responses.get(error.status_code, "Error")
    return Entry(error.status_code, logging.INFO, text)


def wrong_fields(error: RequestValidationError) -> list[dict[str, str]]:
    """Where and why, without `input`, `ctx` and `url`: the input may be a password."""
    return [{"field": ".".join(map(str, problem["loc"])), "message": str(problem["msg"])} for problem in error.errors()]


def respond(problem: Problem, request: Request) -> Response:
    """The answer in the format that the client prefers; no cache keeps it, since its error ID is this request's."""
    headers = {**problem.headers, "Vary": "Accept", "Cache-Control": "no-store"}
    if problem.entry.status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = allowed_methods(request)
    if prefers_html(",".join(request.headers.getlist("accept"))):
        return HTMLResponse(page(problem), problem.entry.status, headers)
    return JSONResponse(problem.document, problem.entry.status, headers, media_type="application/problem+json")


def allowed_methods(request: Request) -> str:
    """All methods of the path (RFC 9110 §10.2.1); each route of FastAPI knows only its own."""
    routes = request.app.routes
    scopes = [{**request.scope, "method": method.value} for method in HTTPMethod]
    allowed = [scope["method"] for scope in scopes if any(route.matches(scope)[0] is Match.FULL for route in routes)]
    return ", ".join(allowed + ["HEAD"] * ("GET" in allowed))


def page(problem: Problem) -> str:
    """The same for people. Every text is escaped: a detail may repeat what the client sent."""
    title, detail = html.escape(f"{problem.entry.status} {problem.title}"), html.escape(problem.detail)
    errors = "".join(f"<li>{html.escape(': '.join(each.values()))}</li>" for each in problem.errors)
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>\n<h1>{title}</h1>\n'
        f"<p>{detail}</p>\n<ul>{errors}</ul>\n<p>Error ID: <code>{problem.error_id}</code></p>\n</html>\n"
    )


def prefers_html(accept: str) -> bool:
    """Whether text/html is wanted more than JSON; JSON is the default (RFC 9110 §12.5.1)."""
    wanted: dict[str, float] = {}
    for each in accept.lower().split(","):
        media_range, *parameters = [part.strip() for part in each.split(";")]
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        wanted[media_range] = float(weight) if re.fullmatch(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", weight) else 0.0

    def quality(media_type: str) -> float:
        ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
        return next((wanted[each] for each in ranges if each in wanted), 0.0)

    return quality("text/html") > max(quality("application/problem+json"), quality("application/json"))
