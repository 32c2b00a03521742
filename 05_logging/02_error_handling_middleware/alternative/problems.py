"""The same catalogue for Flask, and its answers: Werkzeug reads Accept and Jinja escapes the page."""

import logging
import uuid
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import responses
from typing import Any, TypeVar

from flask import Request, Response, json
from jinja2 import Environment
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.exceptions import HTTPException

UNEXPECTED = "Something went wrong on our side. Tell us the error ID."
UNAVAILABLE = "A service that we need does not answer. Try again later."
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{{ status }} {{ title }}</title>
<h1>{{ status }} {{ title }}</h1>
<p>{{ detail }}</p>
<ul>{% for error in errors %}<li>{{ error.field }}: {{ error.message }}</li>{% endfor %}</ul>
<p>Error ID: <code>{{ error_id }}</code></p>
</html>
"""


class ShopError(Exception):
    """Its text is written for the client."""


class InvalidError(ShopError):
    """What a client sent is not valid. A ValidationError from anywhere else is a bug of ours."""

    def __init__(self, error: ValidationError) -> None:
        super().__init__("The request has values that are not valid.")
        found = error.errors(include_input=False, include_context=False, include_url=False)
        self.errors = [{"field": ".".join(map(str, each["loc"])), "message": each["msg"]} for each in found]


Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model], sent: object) -> Model:
    """Raises InvalidError."""
    try:
        return model.model_validate(sent)
    except ValidationError as error:
        raise InvalidError(error) from None


class NotFoundError(ShopError):
    pass


class ConflictError(ShopError):
    pass


CATALOGUE: dict[type[BaseException], tuple[int, int, str]] = {
    NotFoundError: (404, logging.INFO, ""),
    ConflictError: (409, logging.INFO, ""),
    InvalidError: (422, logging.INFO, ""),
    ConnectionError: (503, logging.WARNING, UNAVAILABLE),
    TimeoutError: (503, logging.WARNING, UNAVAILABLE),
    OperationalError: (503, logging.WARNING, UNAVAILABLE),
    PoolTimeoutError: (503, logging.WARNING, UNAVAILABLE),
    MemoryError: (500, logging.CRITICAL, UNEXPECTED),
    SystemExit: (500, logging.CRITICAL, UNEXPECTED),
}


@dataclass(frozen=True)
class Problem:
    status: int
    level: int
    detail: str
    errors: list[dict[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    error_id: str = field(default_factory=lambda: str(uuid.uuid4()))


FAILED = (500, logging.CRITICAL, UNEXPECTED)


def describe(error: BaseException) -> Problem:
    if isinstance(error, HTTPException):
        return describe_http(error)
    known = (CATALOGUE[kind] for kind in type(error).__mro__ if kind in CATALOGUE)
    status, level, detail = next(known, (500, logging.ERROR, UNEXPECTED))
    errors = error.errors if isinstance(error, InvalidError) else []
    headers = {"Retry-After": "30"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    text = (detail or str(error)).encode(errors="replace").decode()
    return Problem(status, level, text, errors, headers)


def describe_http(error: HTTPException) -> Problem:
    status = error.code or 500
    allow = {name: value for name, value in error.get_response().headers.items() if name == "Allow"}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return Problem(status, logging.WARNING, UNAVAILABLE, headers={"Retry-After": "30"})
    if status >= 500:  # noqa: PLR2004
        return Problem(status, logging.ERROR, UNEXPECTED, headers=allow)
    # Werkzeug's stubs say that a description is a text; nothing checks it.
    text: Any = error.description
    return Problem(
        status, logging.INFO, text if isinstance(text, str) else responses.get(status, "Error"), headers=allow
    )


def respond(problem: Problem, request: Request) -> Response:
    title, status = responses.get(problem.status, "Error"), problem.status
    told = {"title": title, "status": status, "detail": problem.detail, "error_id": problem.error_id}
    quality = request.accept_mimetypes.quality
    if quality("text/html") > max(quality("application/problem+json"), quality("application/json")):
        page = Environment(autoescape=True).from_string(PAGE).render(told, errors=problem.errors)
        response = Response(page, f"{status} {title}", mimetype="text/html")
    else:
        document = {"type": "about:blank", **told, "instance": f"urn:uuid:{problem.error_id}"}
        document |= {"errors": problem.errors} if problem.errors else {}
        response = Response(json.dumps(document), f"{status} {title}", mimetype="application/problem+json")
    response.headers.update({**problem.headers, "Vary": "Accept", "Cache-Control": "no-store"})
    return response
