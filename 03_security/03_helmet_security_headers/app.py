"""A page, a widget and an API, whose every response carries the security headers that fit it."""

import os
import sys
from typing import NoReturn

from flask import Blueprint, Flask, Response, abort, current_app, json, jsonify, render_template, request
from flask.typing import ResponseReturnValue
from flask_talisman import DENY, Talisman
from security import (
    NOTHING,
    PAGE,
    TrustedProxies,
    embeddable_by,
    finish,
    flag,
    force_https,
    networks,
    origins,
    port,
)
from werkzeug.exceptions import HTTPException
from werkzeug.serving import run_simple

LONGEST_NAME = 100
LARGEST_BODY = 10_000  # bytes

api = Blueprint("api", __name__)


def add_pages(app: Flask, talisman: Talisman, embedders: list[str]) -> None:
    """Add the pages, each with the policy that it needs. All other endpoints have the policy of `create_app`."""

    @app.get("/")
    @talisman(content_security_policy=PAGE)  # type: ignore[untyped-decorator]
    def page() -> str:
        return render_template("page.html")

    @app.get("/embed-me")
    @talisman(content_security_policy=embeddable_by(embedders))  # type: ignore[untyped-decorator]
    def widget() -> str:
        return render_template("widget.html")


@api.get("/api/data")
def read_items() -> Response:  # given
    return jsonify(items=current_app.extensions["items"])


@api.post("/api/data")
def add_item() -> tuple[Response, int]:  # given
    """Add an item: `{"name": …}` with 1 to 100 characters."""
    try:
        body = request.get_json()
    except (RecursionError, OSError):
        abort(400, "the body is nested too deeply or ends early")
    name = body.get("name") if isinstance(body, dict) else None
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_NAME:
        abort(422, f"name must be a text of 1 to {LONGEST_NAME} characters")
    current_app.extensions["items"].append(name)
    return jsonify(name=name), 201


@api.get("/echo")
def echo() -> Response:  # given
    """Return the parameter as text. It may look like a script, and must not be run as one."""
    return Response(request.args.get("text", ""), content_type="text/plain; charset=utf-8")


@api.get("/broken")
def broken() -> NoReturn:  # given
    """Fail, to show what a 500 looks like."""
    raise RuntimeError("this endpoint always fails")


def answer_error(error: HTTPException) -> ResponseReturnValue:  # given
    """Describe an error as JSON to clients of the API, and as Werkzeug's small page to all others."""
    if not request.path.startswith("/api/"):
        return error
    response = Response(json.dumps({"detail": error.description}), error.code, error.get_response().headers)
    response.content_type = "application/json"
    return response


def create_app() -> Flask:
    """Return the app. Raises ValueError for wrong settings."""
    app = Flask(__name__)
    app.debug = False  # FLASK_DEBUG=1 would make a 500 a traceback without headers
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    app.extensions["items"] = ["keyboard", "mouse"]
    if flag("FORCE_HTTPS", "1"):
        app.before_request(force_https)
    app.after_request(finish)  # functions of after_request run in reverse order: this one is the last
    talisman = Talisman()
    talisman.init_app(
        app,
        force_https=False,  # it would redirect the API too, and change the URL: see https_url
        frame_options=DENY,
        strict_transport_security_preload=flag("HSTS_PRELOAD", "0"),
        content_security_policy=NOTHING,
        content_security_policy_nonce_in=["script-src", "style-src"],
    )
    add_pages(app, talisman, origins("EMBED_ORIGINS"))
    app.register_blueprint(api)
    app.register_error_handler(HTTPException, answer_error)
    app.wsgi_app = TrustedProxies(app.wsgi_app, networks("TRUSTED_PROXIES"))  # type: ignore[method-assign]
    return app


def main() -> None:  # given
    """Serve the app on HOST and PORT."""
    try:
        app, number = create_app(), port("PORT", "8000")
    except ValueError as error:
        sys.exit(f"error: {error}")
    # Not app.run, which reads FLASK_DEBUG again.
    run_simple(os.environ.get("HOST", "127.0.0.1"), number, app, threaded=True)


if __name__ == "__main__":
    main()
