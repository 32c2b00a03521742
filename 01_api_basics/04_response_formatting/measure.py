"""Of many odd requests, how many are answered in the envelope, by what frameworks do on their own and by app.py?"""

import http.client
import json
import logging
import os
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any
from unittest import mock
from urllib.parse import quote_from_bytes

import uvicorn
from app import NoteIn, Notes, create_app
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from flask import Flask, request
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from pydantic import ValidationError
from werkzeug.serving import make_server

REQUESTS = 1000
SEED = 1
ROUTES = (
    "GET /notes",
    "GET /latest",
    "GET /notes/{}",
    "DELETE /notes/{}",
    "GET /faults/unhandled",
    *["POST /notes"] * 4,
)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
PATHS = ("/notes", "/latest", "/notes/{}", "/faults/unhandled", "/notes/", "/notes//{}", "/static/{}", "/", "/{}")


@dataclass(frozen=True)
class Sent:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


def failure(status: int, code: str) -> tuple[dict[str, Any], int]:
    error = {"code": code, "message": "This does not work"}
    return {"status": "error", "data": None, "error": error}, status


def flask_on_its_own() -> Flask:
    """What one writes when one thinks of one's own answers only."""
    app, notes = Flask(__name__), Notes()
    app.config["MAX_CONTENT_LENGTH"] = 65_536

    @app.get("/notes")
    def list_notes() -> dict[str, Any]:
        return {"status": "success", "data": [asdict(note) for note in notes.all()]}

    @app.post("/notes")
    def create_note() -> tuple[dict[str, Any], int]:
        try:
            sent = NoteIn.model_validate(request.get_json())
        except ValidationError:
            return failure(422, "validation_failed")
        return {"status": "success", "data": asdict(notes.add(sent.title, sent.text))}, 201

    @app.get("/latest")
    def read_latest_note() -> dict[str, Any]:
        return {"status": "success", "data": next((asdict(note) for note in reversed(notes.all())), None)}

    @app.get("/notes/<int:note_id>")
    def read_note(note_id: int) -> dict[str, Any] | tuple[dict[str, Any], int]:
        note = notes.find(str(note_id))
        return {"status": "success", "data": asdict(note)} if note else failure(404, "note_not_found")

    @app.delete("/notes/<int:note_id>")
    def delete_note(note_id: int) -> tuple[str | dict[str, Any], int]:
        return ("", 204) if notes.remove(str(note_id)) else failure(404, "note_not_found")

    @app.get("/faults/unhandled")
    def fail() -> str:
        raise RuntimeError("on purpose")

    return app


def fastapi_on_its_own() -> FastAPI:
    """The same in FastAPI."""
    app, notes = FastAPI(max_body_size=65_536), Notes()

    @app.get("/notes")
    def list_notes() -> dict[str, Any]:
        return {"status": "success", "data": [asdict(note) for note in notes.all()]}

    @app.post("/notes", status_code=201)
    def create_note(sent: NoteIn) -> dict[str, Any]:
        return {"status": "success", "data": asdict(notes.add(sent.title, sent.text))}

    @app.get("/latest")
    def read_latest_note() -> dict[str, Any]:
        return {"status": "success", "data": next((asdict(note) for note in reversed(notes.all())), None)}

    @app.get("/notes/{note_id}", response_model=None)
    def read_note(note_id: int) -> dict[str, Any] | JSONResponse:
        note = notes.find(str(note_id))
        return {"status": "success", "data": asdict(note)} if note else JSONResponse(*failure(404, "note_not_found"))

    @app.delete("/notes/{note_id}", status_code=204, response_model=None)
    def delete_note(note_id: int) -> JSONResponse | None:
        return None if notes.remove(str(note_id)) else JSONResponse(*failure(404, "note_not_found"))

    @app.get("/faults/unhandled")
    def fail() -> None:
        raise RuntimeError("on purpose")

    return app


def requests() -> list[Sent]:
    """The same requests in every run: what the routes expect, what they nearly expect, and what nobody does."""
    lines = st.sampled_from(ROUTES) | st.builds("{} {}".format, st.sampled_from(METHODS), st.sampled_from(PATHS))
    segments = st.integers(1, 12).map(str) | st.binary(min_size=1, max_size=10).map(quote_from_bytes)
    note = st.fixed_dictionaries({"title": st.text(max_size=110)}, optional={"text": st.text() | st.integers()})
    odd = st.sampled_from(["", "{", "[]", "null", '{"title": NaN}', r'{"title": "\ud800"}', "[" * 9999, " " * 70_000])
    bodies = st.one_of(note.map(json.dumps), note.map(json.dumps), odd).map(str.encode)
    types = st.sampled_from(["application/json"] * 5 + ["text/plain", ""])
    headers = st.fixed_dictionaries({"Content-Type": types}, optional={"If-None-Match": st.sampled_from(["*", '"a"'])})
    found: list[Sent] = []

    @seed(SEED)
    @settings(max_examples=REQUESTS, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(lines, segments, headers, bodies)
    def keep(line: str, segment: str, headers: dict[str, str], body: bytes) -> None:
        method, target = line.format(segment).split(" ")
        found.append(Sent(method, target, headers, body))

    keep()
    return found


@contextmanager
def served(app: Any) -> Iterator[int]:
    """Serve a WSGI or ASGI app from a thread; yield its port."""
    if isinstance(app, Flask):
        wsgi = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=wsgi.serve_forever, args=[0.02])
        port, stop = wsgi.port, wsgi.shutdown
    else:
        asgi = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
        thread = threading.Thread(target=asgi.run)
        port, stop = 0, lambda: setattr(asgi, "should_exit", True)
    thread.start()
    try:
        while not port:
            time.sleep(0.01)
            port = asgi.servers[0].sockets[0].getsockname()[1] if asgi.started else 0
        yield port
    finally:
        stop()
        thread.join()


def conforms(port: int, sent: Sent) -> tuple[int, bool]:
    """Send it; return the status, and whether the answer is as the README has it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with suppress(ConnectionError):  # answered before all was read
        connection.request(sent.method, sent.target, sent.body, sent.headers | {"Connection": "close"})
    response = connection.getresponse()
    content_type, body = response.headers.get("Content-Type", ""), response.read()
    connection.close()
    if response.status in (204, 304):
        return response.status, not body
    if content_type.partition(";")[0] != "application/json":
        return response.status, False
    if sent.method == "HEAD":  # of its body nothing is seen, but it has to work wherever GET does
        return response.status, response.status != 405
    return response.status, is_envelope(json.loads(body), response.status)


def is_envelope(found: Any, status: int) -> bool:
    if not isinstance(found, dict):
        return False
    if status < 400:
        return found.keys() - {"meta"} == {"status", "data"} and found["status"] == "success"
    return found.keys() == {"status", "data", "error"} and {"code", "message"} <= found["error"].keys()


def main() -> None:
    logging.disable()  # of failures made on purpose
    with tempfile.TemporaryDirectory() as temporary:
        set_hypothesis_home_dir(temporary)  # it would leave a folder here
        everything = requests()
    apps = {"Flask's defaults": flask_on_its_own(), "FastAPI's defaults": fastapi_on_its_own()}
    with mock.patch.dict(os.environ, {"ENVIRONMENT": "testing"}):
        apps["app.py"] = create_app()
    results: dict[str, list[tuple[int, bool]]] = {}
    for name, app in apps.items():
        print(f"measuring: {len(everything)} requests to {name}", file=sys.stderr)
        with served(app) as port:
            results[name] = [conforms(port, sent) for sent in everything]
    shares: dict[Any, list[tuple[bool, ...]]] = defaultdict(list)
    for index, (status, _) in enumerate(results["app.py"]):
        row = tuple(result[index][1] for result in results.values())
        for key in (status, "all"):
            shares[key].append(row)
    print(f"| Status in app.py | Requests | {' | '.join(apps)} |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for key in [*sorted(key for key in shares if key != "all"), "all"]:
        cells = (f"{100 * sum(column) / len(column):.0f} %" for column in zip(*shares[key], strict=True))
        print(f"| {key} | {len(shares[key])} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
