"""HTTP Basic: a name and a password come with every request and are checked against a bcrypt hash."""

import os
import re
import sys
from typing import Any, NoReturn

from basic import CHALLENGE, parse
from flask import Blueprint, Flask, Response, abort, current_app, json, jsonify, make_response, request
from sqlalchemy import create_engine
from users import InvalidError, UsernameTakenError, Users, validate
from werkzeug.exceptions import HTTPException

CHEAPEST, DEAREST = 4, 16  # bcrypt begins at 4; at 16 a hash takes seconds

routes = Blueprint("accounts", __name__)


def users() -> Users:  # given
    """The users that `create_app` opened."""
    opened: Users = current_app.extensions["users"]
    return opened


@routes.get("/public")
def public() -> dict[str, str]:
    """Open to all: nobody looks at Authorization here."""
    return {"message": "everybody may read this"}


@routes.get("/me")
def me() -> Response:
    """Who is asking. No cache keeps the answer: the next one to ask may be somebody else."""
    response = jsonify(username=require_user())
    response.headers["Cache-Control"] = "no-store"
    return response


@routes.post("/users")
def register() -> tuple[dict[str, str], int]:
    """Take a new user; 409 when the name is taken, 422 with a message for each wrong field."""
    try:
        credentials = validate(json_body())
        users().add(credentials)
    except InvalidError as error:
        abort(make_response({"detail": error.problems}, 422))
    except UsernameTakenError:
        abort(409, "this username is taken")
    return {"username": credentials.username}, 201


def require_user() -> str:
    """Return the name of the user whose credentials came with the request, or answer 401."""
    credentials = parse(request.headers.get("Authorization"))
    if credentials is None or not users().authenticate(credentials):
        challenge()
    return credentials.username


def challenge() -> NoReturn:
    """Answer 401: the same one for all that can be wrong, so that it tells nobody which names exist.

    WWW-Authenticate says what is asked for (RFC 9110 §11.6.1); without it a browser never asks its user.
    """
    headers = {"WWW-Authenticate": CHALLENGE, "Cache-Control": "no-store"}
    abort(make_response({"detail": "a valid username and password are needed"}, 401, headers))


def json_body() -> Any:
    """The request's JSON: 415 when it is not declared as such, 400 when it is none."""
    try:
        return request.get_json()
    except RecursionError:
        abort(400, "the JSON is nested too deeply")
    except OSError:
        abort(400, "the body breaks off")


def answer_error(error: HTTPException) -> Response:
    """Keep the error's status and headers, and say what it is in JSON."""
    response = Response(json.dumps({"detail": error.description}), error.code, error.get_response().headers)
    response.content_type = "application/json"
    return response


def read_rounds() -> int:
    """The cost of a hash from BCRYPT_ROUNDS, 12 unless set: each step up doubles the time. Raises ValueError."""
    text = os.environ.get("BCRYPT_ROUNDS", "12")
    if not re.fullmatch("[0-9]{1,2}", text) or not CHEAPEST <= int(text) <= DEAREST:
        raise ValueError(f"BCRYPT_ROUNDS is a whole number from {CHEAPEST} to {DEAREST}, not {text!r}")
    return int(text)


def create_app() -> Flask:
    """Return the app on the database that DATABASE_URL names. Raises ValueError for bad BCRYPT_ROUNDS."""
    rounds = read_rounds()
    # hide_parameters: or the text of a database error, which goes to the log, has the hash in it.
    engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///users.db"), hide_parameters=True)
    app = Flask(__name__)
    app.extensions["users"] = Users(engine, rounds)
    app.register_blueprint(routes)
    app.register_error_handler(HTTPException, answer_error)
    return app


def main() -> None:  # given
    """Serve the app on HOST and PORT."""
    try:
        app = create_app()
    except ValueError as error:
        sys.exit(str(error))
    app.run(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000")))


if __name__ == "__main__":
    main()
