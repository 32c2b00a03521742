"""One server for each configuration serves most tests; each test's clients are its own."""

import itertools
import select
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit, urlunsplit

import pytest

from grader.solution import Client, Solution

numbers = itertools.count(1)


@pytest.fixture
def serve(redis_url: str, solution: Solution) -> Callable[..., Client]:
    """Return a client on a server with these variables, which tests that ask for the same ones share.

    `alone=True` asks for a process of its own, for what only that can show. A test with a Redis of its own has a server
    of its own.
    """

    def serve(*, alone: bool = False, **variables: str) -> Client:
        environment: dict[str, str | None] = {"REDIS_URL": redis_url, **variables}
        if alone:
            return solution.serve(isolated=True, **environment)
        if "REDIS_URL" in variables:
            return solution.serve(isolated=None, **environment)
        return solution.serve_shared(**environment)

    return serve


@pytest.fixture
def api_key() -> dict[str, str]:
    """The header of a client that no other test has."""
    return {"X-API-Key": f"client-{next(numbers)}"}


class Wire(socketserver.ThreadingTCPServer):
    """A way to Redis that can be cut: its port refuses then, and connections over it end."""

    allow_reuse_address = True
    daemon_threads = False

    def __init__(self, port: int, redis: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", port), Ends)
        self.redis = redis
        self.is_cut = False
        self.thread = threading.Thread(target=self.serve_forever, args=[0.01])
        self.thread.start()

    def cut(self) -> None:
        self.is_cut = True
        self.shutdown()
        self.server_close()
        self.thread.join()


class Ends(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        """Pass on what comes from either end, until one of them closes or the wire is cut."""
        wire = cast("Wire", self.server)
        with socket.create_connection(wire.redis) as redis:
            other = {self.request: redis, redis: self.request}
            while not wire.is_cut:
                for end in select.select(list(other), [], [], 0.01)[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    other[end].sendall(data)


@dataclass
class Line:
    """A Redis that goes down and comes up again at the same URL, as a real one behind a wire."""

    server_url: str
    port: int
    wire: Wire | None = None

    @property
    def url(self) -> str:
        parts = urlsplit(self.server_url)
        login = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{self.port}".removeprefix("@")))

    def up(self) -> None:
        parts = urlsplit(self.server_url)
        self.wire = Wire(self.port, (parts.hostname or "127.0.0.1", parts.port or 6379))

    def down(self) -> None:
        if self.wire:
            self.wire.cut()
            self.wire = None


@pytest.fixture
def line(redis_url: str) -> Iterator[Line]:
    """A way to Redis that is down until the test says `up`."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    line = Line(redis_url, port)
    yield line
    line.down()


@pytest.fixture
def silent_redis() -> Iterator[str]:
    """The URL of something that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
