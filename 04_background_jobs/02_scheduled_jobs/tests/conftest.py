"""A shop with a clock that tests set, an external service that they delay, and processes that they kill."""

import contextlib
import json
import os
import signal
import socket
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import pytest
import redis

from grader.launch import Process
from grader.solution import Finished, Solution, wait_until

Json = dict[str, Any]
HELD_SECONDS = 20
READS = set(
    b"AUTH CLIENT COMMAND EXISTS GET HELLO HEXISTS HGET HGETALL HMGET INFO KEYS LINDEX LLEN LPOS LRANGE MGET PING PTTL "
    b"SCARD SCRIPT SELECT SISMEMBER SMEMBERS TTL TYPE UNWATCH WATCH ZCARD ZCOUNT ZRANGE ZRANGEBYSCORE ZSCORE".split()
)


class Service:
    """The external service: what it knows by cursor, what it was asked, and how many asked at the same time."""

    def __init__(self) -> None:
        self.changes: dict[int, Json] = {}
        self.answer: tuple[int, bytes] | None = None
        """Status and body of every answer, instead of the changes."""
        self.asked: list[int] = []
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        self.open = threading.Event()
        self.open.set()
        self.trickles = False
        """Whether an answer that is held comes byte by byte meanwhile."""

    def add(self, cursor: int, name: str = "Teapot", number: int = 1, price: str = "19.90") -> None:
        self.changes[cursor] = {"id": number, "name": name, "price": price}

    def hold(self) -> threading.Event:
        """Delay the answers to those who ask from now on until the event is set; answers are made when they ask."""
        self.open = threading.Event()
        return self.open

    def reply(self, after: int) -> tuple[int, bytes]:
        with self._lock:
            self.asked.append(after)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            door, answer = self.open, self.answer or (200, self._body(after))
        if not self.trickles:
            door.wait(HELD_SECONDS)
        with self._lock:
            self._now -= 1
        return answer

    def _body(self, after: int) -> bytes:
        items = [item for cursor, item in sorted(self.changes.items()) if cursor > after]
        return json.dumps({"cursor": max([after, *self.changes]), "items": items}).encode()


@pytest.fixture(scope="session")
def service_address() -> Iterator[tuple[str, dict[str, Service]]]:
    services: dict[str, Service] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            _, name, path = parts.path.split("/", 2)
            found = path == "changes" and name in services
            status, body = services[name].reply(int(parse_qs(parts.query)["after"][0])) if found else (404, b"")
            with contextlib.suppress(OSError):  # the client may have been killed
                self.send_response(status)
                if status == HTTPStatus.FOUND:
                    self.send_header("Location", self.path)
                if not (found and services[name].trickles):  # else the answer ends with the connection
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                while found and services[name].trickles and not services[name].open.wait(0.2):
                    self.wfile.write(b" ")
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", services
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def service(service_address: tuple[str, dict[str, Service]], tmp_path: Path) -> Iterator[Service]:
    name = tmp_path.name
    service = service_address[1][name] = Service()
    yield service
    service.open.set()


@pytest.fixture
def data() -> Iterator[Path]:
    """A folder for the database, in memory where Linux has such folders: each commit would wait for a disk."""
    memory = Path("/dev/shm")  # noqa: S108  a folder of its own is made in it
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture
def environment(
    redis_url: str, tmp_path: Path, data: Path, service: Service, service_address: tuple[str, dict[str, Service]]
) -> dict[str, str]:
    """A failed run has one more attempt, after a minute. A lock lasts for two seconds."""
    assert service
    return {
        "REDIS_URL": redis_url,
        "DATABASE_URL": f"sqlite:///{data}/shop.db",
        "SYNC_URL": f"{service_address[0]}/{tmp_path.name}",
        "CLOCK_FILE": str(tmp_path / "clock"),
        "RETRY_SECONDS": "[60]",
        "LOCK_SECONDS": "2",
        "POLL_SECONDS": "0.05",
    }


class Shop:
    """The solution's commands, with the same environment each, and the tables."""

    def __init__(self, environment: dict[str, str], solution: Solution) -> None:
        self.environment = environment
        self.solution = solution
        self.processes: list[Process] = []

    def set_clock(self, time: str) -> None:
        """Set the time, on 1 March 2026 where there is no date."""
        file = Path(self.environment["CLOCK_FILE"])
        part = file.with_suffix(".part")
        part.write_text(time if "T" in time else f"2026-03-01T{time}Z")
        part.replace(file)

    def run(self, *arguments: str, **changes: str) -> Finished:
        environment: dict[str, Any] = self.environment | changes
        return self.solution.run(*arguments, **environment)

    def do(self, *arguments: str, **changes: str) -> None:
        """Run a command that must succeed."""
        finished = self.run(*arguments, **changes)
        assert finished.exit_code == 0, finished.stderr

    def at(self, time: str, *, work: bool = True, **changes: str) -> None:
        """Set the clock, let the scheduler look at it, and a worker run what is queued."""
        self.set_clock(time)
        self.do("scheduler", "--once", **changes)
        if work:
            self.do("worker", "--once", **changes)

    def start(self, *arguments: str, **changes: str) -> Process:
        self.processes.append(self.solution.start(*arguments, **self.environment | changes))
        return self.processes[-1]

    def statuses(self) -> dict[str, Json]:
        """The status of each job, its runs turned round: the oldest first."""
        finished = self.run("status")
        assert finished.exit_code == 0, finished.stderr
        jobs: dict[str, Json] = finished.json()["jobs"]
        for status in jobs.values():
            status["runs"].reverse()
        return jobs

    def status(self, job: str) -> Json:
        return self.statuses()[job]

    def runs(self, job: str) -> list[Json]:
        return list(self.status(job)["runs"])

    def last_run(self, job: str) -> Json:
        last_run = self.status(job)["last_run"]
        assert last_run, f"{job} has not run"
        return dict(last_run)

    def wait_for_run(self, job: str, due: str, status: str) -> Json:
        """Wait until the run that is due at this time has the status, and return it. The date may be left out."""

        def reached() -> Json | None:
            time.sleep(0.05)  # leaves the processor to those that are waited for
            runs = self.runs(job)
            return next((run for run in runs if run["due"].endswith(f"{due}Z") and run["status"] == status), None)

        run: Json = wait_until(reached, message=f"the {job} of {due} is not {status}")
        return run

    def freeze(self, process: Process) -> None:
        """Suspend the process and all that it has started, as a machine that sleeps does."""
        self.signal(process, signal.SIGSTOP)

    def thaw(self, process: Process) -> None:
        self.signal(process, signal.SIGCONT)

    def kill(self, process: Process) -> None:
        """Kill the process and all that it has started, as a power cut does."""
        self.signal(process, signal.SIGKILL)
        process.kill()

    def signal(self, process: Process, number: int) -> None:
        for pid in _family(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement on the database and return its rows."""
        path = self.environment["DATABASE_URL"].removeprefix("sqlite:///")
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
            return database.execute(statement, values).fetchall()

    def refuse(self, change: str, when: str = "TRUE") -> None:
        """Let the database refuse such a change, INSERT ON reports for example, as one that is full does."""
        name = f"refuse {change}"
        self.sql(f"CREATE TRIGGER \"{name}\" BEFORE {change} WHEN {when} BEGIN SELECT RAISE(ABORT, 'it is full'); END")

    def refuse_nothing(self) -> None:
        for (name,) in self.sql("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            self.sql(f'DROP TRIGGER "{name}"')


@pytest.fixture
def new_shop(environment: dict[str, str], solution: Solution) -> Iterator[Shop]:
    """A shop on Sunday, 1 March 2026, at midnight, without a schedule. Its processes end with the test."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    shop = Shop(environment, solution)
    shop.set_clock("00:00:00")
    yield shop
    for process in shop.processes:
        shop.kill(process)
    # For a moment Redis takes a killed worker for one that waits, and would give it the next test's first job.
    with redis.Redis.from_url(environment["REDIS_URL"]) as connection:
        wait_until(lambda: connection.info("clients")["blocked_clients"] == 0)
    for number, handler in handlers.items():  # a worker that ran in this process has left its own
        signal.signal(number, handler)


@pytest.fixture
def shop(new_shop: Shop) -> Shop:
    """A shop with the schedule in place."""
    new_shop.do("schedule")
    return new_shop


@pytest.fixture
def killed_after(environment: dict[str, str], shop: Shop) -> Iterator[Callable[..., int]]:
    """Run a command and kill it around a write to Redis. Return how many it sent.

    It is killed when it sends the next write after so many; or, not answered, when the last of them is carried out and
    before it learns so. A command that writes less ends by itself.
    """
    with contextlib.ExitStack() as stack:

        def killed_after(writes: int, *arguments: str, answered: bool = True) -> int:
            proxy = stack.enter_context(_Proxy(environment["REDIS_URL"], writes, answered=answered))
            process = shop.start(*arguments, REDIS_URL=proxy.url)
            wait_until(lambda: proxy.is_full.is_set() or process.exit_code is not None)
            shop.kill(process)
            return proxy.passed

        yield killed_after


@pytest.fixture
def stopped_at(environment: dict[str, str], shop: Shop) -> Iterator[Callable[..., int]]:
    """Run a command and send it SIGTERM while it waits for the answer to its n-th write. Return its exit code."""
    with contextlib.ExitStack() as stack:

        def stopped_at(write: int, *arguments: str) -> int:
            proxy = stack.enter_context(_Proxy(environment["REDIS_URL"], write, answered=False))
            process = shop.start(*arguments, REDIS_URL=proxy.url)
            wait_until(lambda: proxy.is_full.is_set() or process.exit_code is not None)
            process.terminate()
            proxy.goes_on.set()
            return process.wait()

        yield stopped_at


@pytest.fixture
def empty_redis(redis_url: str) -> Callable[[], None]:
    """Take from Redis all that it knows, as a restart without persistence does."""

    def empty_redis() -> None:
        with redis.Redis.from_url(redis_url) as connection:
            connection.flushdb()

    return empty_redis


class _Proxy:
    """Passes so many writes of a process on to Redis, and nothing after them, or not the answer to the last of them."""

    def __init__(self, redis_url: str, writes: int, *, answered: bool) -> None:
        parts = urlsplit(redis_url)
        self.target = parts.hostname or "127.0.0.1", parts.port or 6379
        self.writes = writes
        self.answered = answered
        self.passed = 0
        self.goes_on = threading.Event()
        self.is_full = threading.Event()
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        user = "".join(parts.netloc.rpartition("@")[:2])
        self.url = parts._replace(netloc=f"{user}127.0.0.1:{self.listener.getsockname()[1]}").geturl()
        self.sockets: list[socket.socket] = [self.listener]
        self.threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._begin(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.goes_on.set()
        for each in self.sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self.threads:
            thread.join()

    def _begin(self, target: Callable[..., None], *arguments: object) -> None:
        self.threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self.threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.target)
                self.sockets += [client, server]
                self._begin(self._pass_on, client, server, True)
                self._begin(self._pass_on, server, client, False)

    def _pass_on(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not (self._may_be_sent(data) if counted else self._may_be_answered()):
                    self.is_full.set()
                    self.goes_on.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def _may_be_sent(self, data: bytes) -> bool:
        with self.lock:
            if data[:1] != b"*" or data.split(b"\r\n", 3)[2].upper() in READS:
                return True
            if self.passed == self.writes and self.answered:
                return False
            self.passed += 1
            return True

    def _may_be_answered(self) -> bool:
        return self.answered or self.passed < self.writes


def _family(leader: int) -> list[int]:
    """The process and those of its session, where Linux tells them."""
    found = [leader]
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == leader:
                found.append(int(folder.name))
    return found
