"""What does each fault give away, and how often is it logged: in FastAPI as it comes, in two common ways, and here?"""

import logging
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import httpx2
import uvicorn
from app import create_app
from errors import is_not_cut_off
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from faults import add_faults
from sqlalchemy import create_engine
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

ORIGIN = "http://localhost:3000"
SECRET = secrets.token_urlsafe()
FOLDER = Path(__file__).parent
# What an answer may give away, and how each is recognised.
LEAKS = {
    "the secret": (SECRET,),
    "SQL": ("SELECT number",),
    "a path": (str(FOLDER), "site-packages"),
    "a trace": ("Traceback", "Exception Group"),
    "a class": (
        "RuntimeError",
        "OperationalError",
        "ValueError",
        "KeyError",
        "MemoryError",
        "TimeoutError",
        "ConnectionError",
        "FileNotFoundError",
        "ValidationError",
        "RecursionError",
        "ExceptionGroup",
        "ConflictError",
        "NotFoundError",
        "HandlerFailsError",
        "UnprintableError",
        "sqlite3",
        "Errno",
    ),
    "the text of the error": (
        "' failed",
        "two of two failed",
        "timed out",
        "maximum recursion",
        "refused",
        "does not answer: ",
        "no such table",
        "No such file",
    ),
}


# The faults that get a row; the sums at the end are over all of them.
SHOWN = ("validation", "not-found", "http", "database", "unexpected", "middleware", "background", "stream")


class Seen(NamedTuple):
    """What one fault showed."""

    status: int
    leaks: int
    lines: int
    may_be_read: bool


class Records(logging.Handler):
    """Counts what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.count = 0

    def emit(self, _record: logging.LogRecord) -> None:
        self.count += 1


def naive_app(handler: Callable[..., Any] | None = None, *, debug: bool = False) -> FastAPI:
    """FastAPI with the faults and CORS, and with a handler for all exceptions or without."""
    middleware = [Middleware(CORSMiddleware, allow_origins=[ORIGIN])]
    app = FastAPI(debug=debug, middleware=middleware, exception_handlers={Exception: handler} if handler else {})
    add_faults(app, SECRET, create_engine(os.environ["DATABASE_URL"]))
    return app


async def str_handler(_request: Request, error: Exception) -> JSONResponse:
    """The handler that many tutorials show."""
    logging.getLogger("shop").error("unhandled error", exc_info=error)
    return JSONResponse({"detail": str(error)}, 500)


@contextmanager
def served(app: FastAPI) -> Iterator[tuple[uvicorn.Server, str]]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the app does not start")
        time.sleep(0.01)
    try:
        yield server, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def look(server: uvicorn.Server, client: httpx2.Client, path: str, records: Records) -> Seen:
    """Ask once, and wait until the server has done all that belongs to the request."""
    before, text = records.count, ""
    with client.stream("GET", path, headers={"Origin": ORIGIN}) as response:
        try:
            for chunk in response.iter_text():
                text += chunk
        except httpx2.TransportError:
            pass  # the stream is cut off, as it should be
    while server.server_state.tasks:
        time.sleep(0.001)
    told = f"{response.headers}{text}"
    leaks = sum(any(sign in told for sign in signs) for signs in LEAKS.values())
    may_be_read = "access-control-allow-origin" in response.headers
    return Seen(response.status_code, leaks, records.count - before, may_be_read)


def sweep(make: Callable[[], FastAPI], names: list[str]) -> list[Seen]:
    """Ask for all faults of an app."""
    records = Records()
    logger = logging.getLogger()
    uvicorns = logging.getLogger("uvicorn.error")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # our own client
    with tempfile.TemporaryDirectory() as folder:
        settings = {"DATABASE_URL": f"sqlite:///{Path(folder) / 'shop.db'}", "ENVIRONMENT": "testing"}
        with mock.patch.dict(os.environ, settings | {"FAULT_SECRET": SECRET, "ALLOWED_ORIGIN": ORIGIN}):
            app = make()
        logger.handlers[:] = [records]
        logger.setLevel(logging.INFO)
        if make is create_app:
            uvicorns.addFilter(is_not_cut_off)  # as logging_config does
        with served(app) as (server, url), httpx2.Client(base_url=url) as client:
            # What else a route does not read; /faults/validation refuses it.
            return [look(server, client, f"/faults/{name}?quantity={SECRET}", records) for name in names]


def faults() -> list[str]:
    """The names of the routes, in the order of faults.py."""
    with mock.patch.dict(os.environ, {"DATABASE_URL": "sqlite://"}):
        routes = naive_app().routes
    paths = [getattr(route, "path", "") for route in routes]
    found = [path.removeprefix("/faults/") for path in paths if path.startswith("/faults/")]
    return [name for name in found if name != "endless"]


def main() -> None:
    names = faults()
    apps: dict[str, Callable[[], FastAPI]] = {
        "FastAPI alone": naive_app,
        "`debug=True`": lambda: naive_app(debug=True),
        "`str(exc)`": lambda: naive_app(str_handler),
        "this app": create_app,
    }
    results: dict[str, list[Seen]] = {}
    for label, make in apps.items():
        print(f"measuring: {label}", file=sys.stderr)
        results[label] = sweep(make, names)
    print(f"| Fault: status / kinds of leaks / lines | {' | '.join(apps)} |")
    print(f"| --- |{' ---: |' * len(apps)}")
    for name in SHOWN:
        number = names.index(name)
        cells = [f"{seen[number].status} / {seen[number].leaks} / {seen[number].lines}" for seen in results.values()]
        print(f"| {name} | {' | '.join(cells)} |")
    rows: dict[str, Callable[[Seen], bool]] = {
        "**answers that leak**": lambda each: each.leaks > 0,
        "**not logged, or more than once**": lambda each: each.lines != 1,
        "**pages of the front end cannot read it (CORS)**": lambda each: not each.may_be_read,
    }
    for title, counts in rows.items():
        print(f"| {title} | {' | '.join(f'{sum(map(counts, seen))} of {len(names)}' for seen in results.values())} |")


if __name__ == "__main__":
    main()
