"""Validation of request bodies: every wrong field is named in one answer, and nothing that was sent is repeated."""

import os
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from json_body import BodyError, JsonRoute
from models import NewUser, Product, User
from pydantic import BaseModel


class FieldError(BaseModel):
    """What is wrong with the field at this path; the empty path is the whole body."""

    field: str
    code: str
    message: str


class Errors(BaseModel):
    """The body of every 400, 415 and 422."""

    errors: list[FieldError]


BODY_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Errors, "description": "The body is no JSON"},
    415: {"model": Errors, "description": "The body does not say that it is JSON"},
    422: {"model": Errors, "description": "The body is JSON, and some of it is wrong"},
}

# What Pydantic says of these was written for programmers. The names in braces are limits that it hands over.
PLAIN_WORDS = {
    "missing": "is required",
    "extra_forbidden": "is no field of this object",
    "model_attributes_type": "must be an object",
    "int_type": "must be a whole number",
    "string_type": "must be a string",
    "string_unicode": "must not have half surrogates",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "list_type": "must be a list",
    "too_short": "must not be shorter than {min_length}",  # of a secret, whose length Pydantic would tell
    "too_long": "must not be longer than {max_length}",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "decimal_max_places": "must have at most {decimal_places} decimals",
}

MOST_ERRORS = 100  # nobody reads more, and a small body of 100,000 unknown fields must not make a large answer

router = APIRouter(route_class=JsonRoute, responses=BODY_ERRORS)


@router.post("/products", status_code=201)
def create_product(product: Product) -> Product:
    """Answer with the product as it was understood: defaults filled in, the price with two decimals."""
    return product


@router.post("/users", status_code=201)
def create_user(user: NewUser) -> User:
    """Answer with everything but the password."""
    return User(**user.model_dump(exclude={"password"}))


def answer_invalid(_request: Request, error: Exception) -> JSONResponse:
    """Name every wrong field and why. Pydantic's `input` stays here: a password may be in it, or NaN."""
    assert isinstance(error, RequestValidationError)
    errors = [
        FieldError(field=path_of(problem["loc"]), code=problem["type"], message=message_of(problem))
        for problem in error.errors()[:MOST_ERRORS]
    ]
    return answer_errors(422, errors)


def answer_unreadable(_request: Request, error: Exception) -> JSONResponse:
    """A body that cannot be read has one error, and it is about the whole."""
    assert isinstance(error, BodyError)
    return answer_errors(error.status, [FieldError(field="", code=error.code, message=error.message)])


def answer_errors(status: int, errors: list[FieldError]) -> JSONResponse:
    return JSONResponse(Errors(errors=errors).model_dump(), status)


def path_of(location: tuple[str | int, ...]) -> str:
    """("body", "tags", 1) is "tags.1": FastAPI puts in front where in the request a value was found."""
    return ".".join(str(part) for part in location[1:])


def message_of(problem: dict[str, Any]) -> str:
    """Our own words for Pydantic's codes; the words of models.py come through as they are."""
    words = PLAIN_WORDS.get(problem["type"])
    return words.format(**problem.get("ctx", {})) if words else str(problem["msg"])


def create_app() -> FastAPI:
    """Return the app. It stores nothing and needs no configuration."""
    app = FastAPI(title="Request validation")
    app.include_router(router)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_exception_handler(BodyError, answer_unreadable)
    return app


def main() -> None:  # given
    """Serve the app on HOST and PORT."""
    uvicorn.run(create_app(), host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ.get("PORT", "8000")))


if __name__ == "__main__":
    main()
