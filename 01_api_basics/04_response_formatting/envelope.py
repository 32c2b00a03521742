"""The envelope: one shape for what succeeds and what fails, the framework's own errors included."""

import json
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

MAX_BODY_BYTES = 64 * 1024

# What the framework may raise: the code that programs go by, and a sentence for people. Neither is taken from the
# framework: its names and words change with its versions, a code must not.
ERRORS = {
    400: ("bad_request", "The request cannot be understood"),
    404: ("route_not_found", "There is nothing at this URL"),
    405: ("method_not_allowed", "This URL has other methods; the Allow header lists them"),
    413: ("content_too_large", f"A body may have at most {MAX_BODY_BYTES} bytes"),
    415: ("unsupported_media_type", "Send application/json, and say so in Content-Type"),
    500: ("internal_error", "Something failed on our side, and we have a record of it"),
}

Fields = list[dict[str, str]]


class ApiError(Exception):
    """An error that the app itself raises, with a code of its own."""

    def __init__(self, status: int, code: str, message: str, fields: Fields | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.fields = fields


class EnvelopeFlask(Flask):
    def make_default_options_response(self) -> Response:
        """Flask answers OPTIONS by itself, with an empty page of HTML: keep its Allow only."""
        response = success(None)
        response.headers["Allow"] = super().make_default_options_response().headers["Allow"]
        return response


def success(data: object, status: int = 200, meta: dict[str, object] | None = None) -> Response:
    """Wrap what the client asked for. `data` is there also when it is an empty list or null."""
    envelope = {"status": "success", "data": data}
    return answer(envelope if meta is None else envelope | {"meta": meta}, status)


def success_without_body() -> Response:
    """There is nothing to say, not even of which type it is (RFC 9110 §15.3.5)."""
    response = Response(status=HTTPStatus.NO_CONTENT)
    del response.headers["Content-Type"]
    return response


def failure(status: int, code: str, message: str, fields: Fields | None = None) -> Response:
    """Say what went wrong: by `code` to programs, by `message` and `fields` to people."""
    error = {"code": code, "message": message}
    envelope = {"status": "error", "data": None, "error": error if fields is None else error | {"fields": fields}}
    return answer(envelope, status)


def answer(envelope: dict[str, Any], status: int) -> Response:
    return Response(json.dumps(envelope), status, mimetype="application/json")


def answer_api_error(error: ApiError) -> Response:
    return failure(error.status, error.code, error.message, error.fields)


def answer_http_error(error: HTTPException) -> Response:
    """Keep the status and the headers of the framework's error, Allow among them; its text and its HTML go."""
    status = error.code or 500
    response = failure(status, *ERRORS.get(status, ERRORS[status // 100 * 100]))  # a 406, say, has the code of 400
    response.headers.extend((name, value) for name, value in error.get_headers() if name != "Content-Type")
    return response


def answer_crash(error: Exception) -> Response:
    """Tell the log everything and the client nothing.

    A handler for Exception also holds where one for 500 does not: with TESTING or DEBUG set, Flask raises again what
    it would else hand to the handler for 500, and the server in front makes a page of it.
    """
    current_app.logger.error("%s %s failed", request.method, request.path, exc_info=error)
    return failure(500, *ERRORS[500])


def answer_conditionally(response: Response) -> Response:
    """Give what can be fetched an ETag; a client that has it already gets a 304 without a body (RFC 9110 §13)."""
    if request.method in ("GET", "HEAD") and response.status_code == HTTPStatus.OK:
        response.add_etag()
        # Not `make_conditional`, which also knows If-Match: it makes a 412 of this success and leaves its envelope on.
        if request.if_none_match.contains_weak(response.get_etag()[0] or ""):
            response.status_code = HTTPStatus.NOT_MODIFIED
    return response


def sent_body() -> bytes:
    """Return the request's body. Raises RequestEntityTooLarge when it is too large, also when it comes in chunks.

    Werkzeug compares a Content-Length with its limit, but what comes in chunks it cuts off there and says nothing.
    """
    body = request.get_data()
    if len(body) > MAX_BODY_BYTES:
        raise RequestEntityTooLarge
    return body


def make_app() -> Flask:
    """Return an app without routes whose every answer wears the envelope."""
    app = EnvelopeFlask(__name__, static_folder=None)  # or /static would be a route that nobody wrote
    app.url_map.merge_slashes = False  # or /notes//1 would be a redirect, as HTML, past all handlers
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES + 1  # one more than we take: see `sent_body`
    app.register_error_handler(ApiError, answer_api_error)
    app.register_error_handler(HTTPException, answer_http_error)
    app.register_error_handler(Exception, answer_crash)
    app.after_request(answer_conditionally)
    return app
