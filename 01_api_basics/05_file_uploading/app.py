"""Files from strangers: read to disk within a limit, told by their content, handed out so that they do no harm."""

import os
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

from content import identify, shown_name
from flask import Blueprint, Flask, Response, abort, current_app, json, request, send_file, url_for
from receiving import receive
from storage import Description, DiskStorage, Storage
from werkzeug.exceptions import HTTPException

routes = Blueprint("uploads", __name__)


def storage() -> Storage:  # given
    """The storage that `create_app` chose: nothing else in this module knows that it is a disk."""
    chosen: Storage = current_app.config["STORAGE"]
    return chosen


@routes.post("/upload")
def upload() -> tuple[dict[str, Any], int, dict[str, str]]:
    """Take one file. Only after the last check does it get a URL (OWASP File Upload Cheat Sheet)."""
    with storage().draft() as draft:
        incoming = receive(request, draft.file, current_app.config["MAX_UPLOAD_BYTES"])
        kind = identify(draft.file)
        name = shown_name(incoming.filename, kind)
        description = Description(name, kind.content_type, incoming.size, incoming.sha256)
        key = draft.publish(description)
    url = url_for("uploads.download", key=key)
    return {"url": url, **asdict(description)}, 201, {"Location": url}


@routes.get("/files/<uuid:key>")
def download(key: UUID) -> Response:
    """Hand a file out as what we found it to be, to be saved and not shown; HEAD and If-None-Match work."""
    try:
        file, description = storage().open(key)
    except KeyError:
        abort(404, "there is no such file")
    response = send_file(
        file,
        mimetype=description.content_type,
        as_attachment=True,  # with filename* where the name needs it (RFC 6266 §4.3)
        download_name=description.filename,
        etag=description.sha256,
        conditional=False,
    )
    response.headers["X-Content-Type-Options"] = "nosniff"  # or a browser may find HTML in it
    response.content_length = description.size
    response.make_conditional(request)
    return response


def answer_error(error: HTTPException) -> Response:
    """Keep the error's status and headers, and say what it is in JSON."""
    response = Response(json.dumps({"detail": error.description}), error.code, error.get_response().headers)
    response.content_type = "application/json"
    return response


def read_limit() -> int:
    """The most bytes of a file from MAX_UPLOAD_BYTES, 5 MiB unless set. Raises ValueError."""
    text = os.environ.get("MAX_UPLOAD_BYTES", "5242880")
    if not re.fullmatch("[1-9][0-9]{0,14}", text):
        raise ValueError(f"MAX_UPLOAD_BYTES is a whole number from 1, not {text!r}")
    return int(text)


def create_app() -> Flask:
    """Return the app that keeps files in UPLOAD_DIR. Raises ValueError for bad MAX_UPLOAD_BYTES."""
    app = Flask(__name__)
    app.config["MAX_UPLOAD_BYTES"] = read_limit()
    app.config["STORAGE"] = DiskStorage(Path(os.environ.get("UPLOAD_DIR", "uploads")))
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
