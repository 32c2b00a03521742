"""An app whose settings come from its environment, are checked before it starts, and never show a secret."""

import argparse
import hmac
import json
import logging
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn, cast
from urllib.parse import quote, unquote

from flask import Blueprint, Flask, Response, abort, current_app, jsonify, request, session
from flask.typing import ResponseReturnValue
from masking import RedactingFormatter
from places import ConfigurationError
from settings import load
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import HTTPException, Unauthorized
from werkzeug.serving import run_simple

if TYPE_CHECKING:
    from settings import Settings

api = Blueprint("api", __name__)
log = logging.getLogger("shop")  # and not app.logger: with DEBUG, Flask sets its level to DEBUG


@api.get("/config")
def show_config() -> Response:
    """Show the settings that are not secret."""
    return jsonify(current_settings().model_dump(mode="json"))


@api.get("/orders")
def list_orders() -> Response:
    """List the orders for a client that sends API_KEY; without one in the settings nobody is let in."""
    key = current_settings().api_key
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    sent = token.strip().encode() if scheme.lower() == "bearer" else b""
    if key is None or not hmac.compare_digest(sent, key.get_secret_value().encode()):
        raise Unauthorized(www_authenticate=WWWAuthenticate("bearer", {"realm": "shop"}))
    return jsonify(orders=[])


@api.get("/visits")
def count_visits() -> Response:
    """Count a client's visits in a cookie that SECRET_KEY signs. Without the key, no cookie could be trusted."""
    if current_settings().secret_key is None:
        abort(503, description="SECRET_KEY is not set")
    session["visits"] = session.get("visits", 0) + 1
    return jsonify(visits=session["visits"])


@api.get("/broken")
def broken() -> NoReturn:  # given
    """Fail as a careless driver does: with the URL, the passwords and the keys in the error's text."""
    settings, url = current_settings(), current_settings().database_url
    given = [unquote(text) for text in (url.passwords() if url else [])]
    given += [key.get_secret_value() for key in (settings.api_key, settings.secret_key) if key]
    texts = [url.get_secret_value() if url else "", *given, *(quote(text, safe="") for text in given)]
    raise RuntimeError(f"cannot connect to {' '.join(texts)} {given!r} {json.dumps(given)}")


def answer_error(error: Exception) -> ResponseReturnValue:
    """Answer in JSON. Log an unexpected error, and show it where DEBUG is set."""
    if isinstance(error, HTTPException):
        response = jsonify(detail=error.description)
        response.headers.extend((name, value) for name, value in error.get_headers() if name != "Content-Type")
        return response, error.code or 500
    settings = current_settings()
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    shown = {"traceback": settings.redact("".join(traceback.format_exception(error)))} if settings.debug else {}
    return jsonify(detail="Internal Server Error", **shown), 500


def current_settings() -> "Settings":  # given
    return cast("Settings", current_app.extensions["settings"])


def create_app() -> Flask:
    """Return the app. Raises ConfigurationError when its settings cannot be used."""
    settings, _ = load()
    app = Flask(__name__)
    app.debug = settings.debug  # and not FLASK_DEBUG, which production would not refuse
    app.extensions["settings"] = settings
    app.secret_key = settings.secret_key and settings.secret_key.get_secret_value()
    app.register_blueprint(api)
    app.register_error_handler(Exception, answer_error)
    logging.basicConfig()  # a handler for standard error, unless the server has set up another
    logging.getLogger().setLevel(settings.log_level)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(RedactingFormatter(settings.redact))
    log.info("settings: %r", settings)
    return app


def check() -> None:
    """Print the settings and where they come from, a line each. Raises ConfigurationError."""
    settings, places = load()
    entries = {name: {"value": value, "from": places.get(name, "default")} for name, value in settings.shown().items()}
    print("{\n" + ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items()) + "\n}")


def main() -> None:  # given
    """Serve the app on HOST and PORT, or check its settings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", nargs="?", choices=["serve", "check"], default="serve")
    try:
        if parser.parse_args().command == "check":
            return check()
        app = create_app()
    except ConfigurationError as error:
        sys.exit("\n".join(f"error: {problem}" for problem in error.problems))
    settings: Settings = app.extensions["settings"]
    # Not app.run, which reads FLASK_DEBUG, and puts a .env file of any folder above into the environment.
    run_simple(str(settings.host), settings.port, app, threaded=True)
    return None


if __name__ == "__main__":
    main()
