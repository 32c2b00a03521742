"""The same validation in Flask and by hand: small checks that are put together to larger ones and collect errors."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import ClientDisconnected

REQUIRED = object()
MOST_PROBLEMS = 100
EMAIL = re.compile(
    r"[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@"
    r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*"
)
REFERRAL = re.compile("[A-Z0-9]{8}")


@dataclass(frozen=True)
class Problem:
    """What is wrong at a path. The message is made of constants, so that nothing of the body can be in it."""

    field: str
    code: str
    message: str


class InvalidError(Exception):
    """The request is answered with this status and these problems."""

    def __init__(self, status: int, problems: list[Problem]) -> None:
        super().__init__(status)
        self.status = status
        self.problems = problems


class Checking:
    """A check in progress: where it is, and what it has found. A check returns the value that the app goes on with."""

    def __init__(self, path: str = "", problems: list[Problem] | None = None) -> None:
        self.path = path
        self.problems: list[Problem] = [] if problems is None else problems

    def at(self, part: object) -> "Checking":
        return Checking(f"{self.path}.{part}" if self.path else str(part), self.problems)

    def wrong(self, code: str, message: str) -> None:
        self.problems.append(Problem(self.path, code, message))


Check = Callable[[Any, Checking], Any]


def text(longest: int, shortest: int = 1, *, blank: bool = False, form: re.Pattern[str] | None = None) -> Check:
    def check(value: Any, here: Checking) -> Any:
        if not isinstance(value, str):
            here.wrong("type", "must be a string")
        elif not shortest <= len(value) <= longest:
            limits = f"exactly {longest}" if shortest == longest else f"{shortest} to {longest}"
            here.wrong("length", f"must have {limits} characters")
        elif "\0" in value or is_half_a_character(value):
            here.wrong("character", "must not have NUL or half surrogates")
        elif not blank and value.isspace():
            here.wrong("blank", "must have more than white space")
        elif form and not form.fullmatch(value):
            here.wrong("form", "does not have the right form")
        return value

    return check


def whole(lowest: int, highest: int) -> Check:
    def check(value: Any, here: Checking) -> Any:
        if isinstance(value, bool) or not isinstance(value, int):
            here.wrong("type", "must be a whole number")
        elif not lowest <= value <= highest:
            here.wrong("range", f"must be from {lowest} to {highest}")
        return value

    return check


def price(value: Any, here: Checking) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        here.wrong("type", "must be a number")
        return value
    if not 0 < value <= Decimal("99999999.99"):
        here.wrong("range", "must be above 0 and at most 99999999.99")
        return value
    cents = Decimal(value).quantize(Decimal("0.01"))
    if cents != value:
        here.wrong("decimals", "must have at most two decimals")
    return str(cents)


def list_of(item: Check, longest: int) -> Check:
    def check(value: Any, here: Checking) -> Any:
        if not isinstance(value, list):
            here.wrong("type", "must be a list")
        elif len(value) > longest:
            here.wrong("length", f"must have at most {longest} items")
        else:
            before = len(here.problems)
            value = [item(each, here.at(index)) for index, each in enumerate(value)]
            if len(here.problems) == before and len({each.casefold() for each in value}) < len(value):
                here.wrong("duplicate", "must not have the same item twice")
        return value

    return check


def or_null(check: Check) -> Check:
    return lambda value, here: None if value is None else check(value, here)


def object_with(**fields: tuple[Check, Any]) -> Check:
    """Check an object of these fields, each a check and a default, or REQUIRED."""

    def check(value: Any, here: Checking) -> Any:
        if not isinstance(value, dict):
            here.wrong("type", "must be an object")
            return value
        for name in value.keys() - fields.keys():
            # Half a character cannot be repeated: no answer in UTF-8 can have it.
            where = here if is_half_a_character(name) else here.at(name)
            where.wrong("unknown", "is unknown, or has a field that is")
        result = {}
        for name, (check_field, default) in fields.items():
            if name in value:
                result[name] = check_field(value[name], here.at(name))
            elif default is REQUIRED:
                here.at(name).wrong("missing", "is required")
            else:
                result[name] = default
        return result

    return check


def is_half_a_character(value: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in value)


NAME = text(100)
PRODUCT = object_with(
    name=(NAME, REQUIRED),
    price=(price, REQUIRED),
    quantity=(whole(1, 1_000_000), 1),
    tags=(list_of(text(30), 10), []),
    dimensions=(or_null(object_with(width=(whole(1, 10_000), REQUIRED), height=(whole(1, 10_000), REQUIRED))), None),
)
USER = object_with(
    name=(NAME, REQUIRED),
    email=(text(254, form=EMAIL), REQUIRED),
    age=(whole(19, 150), REQUIRED),
    password=(text(128, 12, blank=True), REQUIRED),
    referral=(or_null(text(8, 8, form=REFERRAL)), None),
)


def body(check: Check) -> Any:
    """The request's body, read and checked. Raises InvalidError."""
    if request.mimetype != "application/json":
        raise InvalidError(415, [Problem("", "content_type", "must be sent as application/json")])
    try:
        data = request.get_data()
    except (ClientDisconnected, OSError):  # Werkzeug raises OSError for chunks that are none
        raise InvalidError(400, [Problem("", "cut_short", "ended before its Content-Length")]) from None
    here = Checking()
    value = check(read_json(data), here)
    if here.problems:
        raise InvalidError(422, here.problems)
    return value


def read_json(data: bytes) -> Any:
    """Raise InvalidError for what is no JSON, or not the same JSON for everybody."""
    try:
        return json.loads(
            data.decode(), parse_float=Decimal, parse_constant=refuse, object_pairs_hook=without_repetition
        )
    except (ValueError, ArithmeticError, RecursionError):
        raise InvalidError(400, [Problem("", "json", "is no JSON that can be read")]) from None


def refuse(_constant: str) -> NoReturn:
    raise ValueError


def without_repetition(members: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(members)) < len(members):
        raise ValueError
    return dict(members)


def create_product() -> tuple[Response, int]:
    return jsonify(body(PRODUCT)), 201


def create_user() -> tuple[Response, int]:
    user = body(USER)
    del user["password"]
    return jsonify(user), 201


def answer_invalid(error: InvalidError) -> tuple[Response, int]:
    return jsonify({"errors": error.problems[:MOST_PROBLEMS]}), error.status


def create_app() -> Flask:
    app = Flask(__name__)
    app.post("/products")(create_product)
    app.post("/users")(create_user)
    app.register_error_handler(InvalidError, answer_invalid)
    return app


def main() -> None:
    """Serve the app on HOST and PORT."""
    create_app().run(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000")))


if __name__ == "__main__":
    main()
