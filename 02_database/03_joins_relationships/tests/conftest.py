"""Databases with rows that a test has put there, and a proxy that sees what a report asks PostgreSQL for."""

import contextlib
import functools
import os
import re
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, urlencode, urlsplit

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from grader.solution import Finished, Solution
from shared import services

# Each table after those that it refers to.
COLUMNS = {
    "customers": ["id", "name", "referred_by"],
    "profiles": ["customer_id", "city"],
    "products": ["id", "sku"],
    "tags": ["id", "name"],
    "product_tags": ["product_id", "tag_id"],
    "orders": ["id", "customer_id", "status", "placed_on"],
    "order_items": ["order_id", "product_id", "quantity", "unit_price"],
    "payments": ["id", "order_number", "amount"],
}
OF_THE_SHOP = re.compile(rf"\b({'|'.join(COLUMNS)})\b")
SSL_REQUEST, GSS_REQUEST = 80877103, 80877104
MESSAGE_LINES, MESSAGE_CHARACTERS = 3, 400


@dataclass
class Statement:
    """A statement that PostgreSQL has answered."""

    sql: str
    tag: str
    plan: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many rows went to whoever asked."""
        return int(self.tag.split()[-1])


@dataclass
class Asked:
    """What a client has sent and the server will answer; an end is a Sync or a function call."""

    sql: str = ""
    is_simple: bool = False
    is_end: bool = False


@dataclass
class Observed:
    """A command that has ended, and what it had from the shop's tables meanwhile."""

    finished: Finished
    statements: list[Statement]

    @property
    def queries(self) -> list[Statement]:
        return [statement for statement in self.statements if statement.tag.split()[0] in ("SELECT", "FETCH", "COPY")]

    @property
    def explained(self) -> list[Statement]:
        return [statement for statement in self.statements if statement.tag == "EXPLAIN"]

    @property
    def rows(self) -> int:
        return sum(query.rows for query in self.queries)


class Proxy:
    """Passes on what a client and PostgreSQL send each other, and notes the statements.

    See "Message Flow" and "Message Formats" in PostgreSQL's documentation of its protocol. It speaks no TLS.
    """

    def __init__(self, url: str) -> None:
        self.statements: list[Statement] = []
        self._server = address_of_server(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._is_closing = False
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)
        self.url = self._through(url)

    def close(self) -> None:
        self._is_closing = True
        socket.create_connection(self._listener.getsockname()).close()  # so that accept returns, on every platform
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for end in (self._listener, *self._sockets):
            end.close()

    def _through(self, url: str) -> str:
        """The URL of the same database by way of this proxy."""
        parts = urlsplit(url)
        user = parts.netloc.rpartition("@")[0]
        replaced = ("host", "hostaddr", "port", "sslmode", "gssencmode", "channel_binding")
        query = [(name, value) for name, value in parse_qsl(parts.query) if name not in replaced]
        query += [("sslmode", "disable"), ("gssencmode", "disable")]
        address = f"{user}@127.0.0.1:{self._listener.getsockname()[1]}"
        return parts._replace(netloc=address, query=urlencode(query)).geturl()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            self._sockets.append(client)
            if self._is_closing:
                return
            server = self._connect()
            self._sockets.append(server)
            for end in (client, server):
                if end.family in (socket.AF_INET, socket.AF_INET6):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            asked: deque[Asked] = deque()
            self._start(self._from_client, client, server, asked)
            self._start(self._from_server, server, client, asked)

    def _connect(self) -> socket.socket:
        host, port = self._server
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(os.path.join(host, f".s.PGSQL.{port}"))  # noqa: PTH118  so libpq names it
        return server

    def _from_client(self, client: socket.socket, server: socket.socket, asked: deque[Asked]) -> None:
        prepared: dict[bytes, str] = {}
        portals: dict[bytes, str] = {}
        with passing(client, server) as stream:
            while (startup := read_message(stream, with_type=False))[4:8] in requests_of_encryption():
                client.sendall(b"N")
            server.sendall(startup)
            while message := read_message(stream):
                first, _, rest = message[5:].partition(b"\0")
                match message[:1]:
                    case b"Q":
                        asked.append(Asked(first.decode(), is_simple=True))
                    case b"P":
                        prepared[first] = rest.partition(b"\0")[0].decode()
                    case b"B":
                        portals[first] = prepared[rest.partition(b"\0")[0]]
                    case b"E":
                        asked.append(Asked(portals.get(first, "")))
                    case b"S" | b"F":
                        asked.append(Asked(is_end=True))
                server.sendall(message)

    def _from_server(self, server: socket.socket, client: socket.socket, asked: deque[Asked]) -> None:
        plan: list[str] = []
        with passing(server, client) as stream:
            while message := read_message(stream):
                match message[:1]:
                    case b"D" if asked and asked[0].sql.lstrip().upper().startswith("EXPLAIN"):
                        plan.append(message[11:].decode())  # one column: a count and a length stand before it
                    case b"C" if asked:
                        # A simple message may hold several statements, so it stays until the server is ready.
                        text = (asked[0] if asked[0].is_simple else asked.popleft()).sql
                        tag = message[5:-1].decode()
                        if OF_THE_SHOP.search(text) or tag.startswith("FETCH"):
                            self.statements.append(Statement(text, tag, plan))
                        plan = []
                    case b"I" | b"s" if asked and not asked[0].is_simple:
                        asked.popleft()
                    case b"Z":  # after an error the server has skipped what stood before the end
                        while asked and not (ended := asked.popleft()).is_simple and not ended.is_end:
                            pass
                client.sendall(message)


@functools.cache
def address_of_server(url: str) -> tuple[str, int]:
    """The host, or the folder of the socket, and the port that libpq finds behind a URL, which may name several."""
    if conninfo_to_dict(plain(url)).get("sslmode") in ("require", "verify-ca", "verify-full"):
        pytest.fail("the tests' proxy speaks no TLS: use a server without sslmode=require in DATABASE_URL")
    with psycopg.connect(plain(url)) as connection:
        return connection.info.hostaddr or connection.info.host, connection.info.port


def requests_of_encryption() -> tuple[bytes, bytes]:
    return struct.pack("!i", SSL_REQUEST), struct.pack("!i", GSS_REQUEST)


@contextlib.contextmanager
def passing(source: socket.socket, target: socket.socket) -> Iterator[BinaryIO]:
    """A stream of what `source` sends. When it ends, whoever listens at the other side learns of it."""
    with contextlib.suppress(OSError), source.makefile("rb") as stream:
        yield stream
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def read_message(stream: BinaryIO, *, with_type: bool = True) -> bytes:
    """The next message with its type and length, nothing at the end. The first of a client has no type."""
    head = stream.read(5 if with_type else 4)
    if len(head) < 4:
        return b""
    length: int = struct.unpack("!i", head[-4:])[0]
    return head + stream.read(length - 4)


def plain(url: str) -> str:
    return re.sub(r"^postgresql\+\w+://", "postgresql://", url)


@dataclass
class Database:
    """A database, and the solution's commands on it."""

    url: str
    solution: Solution

    def run(self, *arguments: str, **env: str | None) -> Finished:
        return self.solution.run(*arguments, DATABASE_URL=env.get("DATABASE_URL", self.url))

    def succeed(self, *arguments: str) -> Finished:
        finished = self.run(*arguments)
        assert finished.exit_code == 0, finished.stderr
        return finished

    def report(self, *arguments: str) -> Any:
        return self.succeed("report", *arguments).json()

    def observe(self, *arguments: str) -> Observed:
        """Run a report that must succeed, and see what passes between it and PostgreSQL."""
        with contextlib.closing(Proxy(self.url)) as proxy:
            finished = self.solution.run("report", *arguments, DATABASE_URL=proxy.url)
        assert finished.exit_code == 0, finished.stderr
        return Observed(finished, proxy.statements)

    def refuse(self, *arguments: str, **env: str | None) -> str:
        """Run a command that must fail, with a message that one can read; return its last line."""
        finished = self.run(*arguments, **env)
        lines = finished.stderr.strip().splitlines()
        assert finished.exit_code != 0
        assert finished.stdout == ""
        assert lines, "there is no message on standard error"
        assert "Traceback" not in finished.stderr
        assert len(lines) <= MESSAGE_LINES or lines[0].startswith("usage:"), finished.stderr
        assert len(lines[-1]) <= MESSAGE_CHARACTERS, finished.stderr
        return lines[-1]

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(plain(self.url))

    def query(self, statement: str) -> list[Any]:
        with self.connect() as connection:
            return connection.execute(statement.encode()).fetchall()

    def execute(self, script: str) -> None:
        with self.connect() as connection:
            connection.execute(script.encode())

    def empty_tables(self) -> list[str]:
        with self.connect() as connection:
            one = sql.SQL("SELECT FROM {} LIMIT 1")
            return [table for table in COLUMNS if not connection.execute(one.format(sql.Identifier(table))).rowcount]

    def fill(self, shop: Mapping[str, Sequence[Sequence[object]]]) -> None:
        """Replace all rows of the shop by these. The last one is stored first."""
        with self.connect() as connection, connection.cursor() as cursor:
            for table in reversed(COLUMNS):  # of few rows, quicker than TRUNCATE
                cursor.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
            for table, columns in COLUMNS.items():
                names = sql.SQL(", ").join(map(sql.Identifier, columns))
                row = sql.SQL("({})").format(sql.SQL(", ").join(sql.Placeholder() * len(columns)))
                if rows := list(reversed(shop.get(table, ()))):
                    values = sql.SQL(", ").join([row] * len(rows))
                    insert = sql.SQL("INSERT INTO {} ({}) VALUES {}").format(sql.Identifier(table), names, values)
                    cursor.execute(insert, [value for row in rows for value in row])


@pytest.fixture
def database(solution: Solution, postgres_url: str) -> Database:
    """An empty database that only this test has, without tables."""
    return Database(postgres_url, solution)


@pytest.fixture(scope="session")
def shared_url(postgres_server: str) -> Iterator[Callable[[str], str]]:
    """URLs of databases by name, made when first asked for, for all tests that leave them as they are."""
    with contextlib.ExitStack() as databases:
        yield functools.cache(lambda _name: databases.enter_context(services.new_database(postgres_server)))


@pytest.fixture
def shared(solution: Solution, shared_url: Callable[[str], str]) -> Callable[[str], Database]:
    """Databases by name; the first test that asks for one has the solution create its tables."""

    def with_tables(name: str) -> Database:
        shared = Database(shared_url(name), solution)
        if shared.query("SELECT to_regclass('customers')") == [(None,)]:
            shared.succeed("create")
        return shared

    return with_tables


@pytest.fixture(scope="session", autouse=True)
def hypothesis_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hypothesis writes files beside the caller unless told otherwise; a run leaves nothing behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYPOTHESIS_STORAGE_DIRECTORY", str(tmp_path_factory.mktemp("hypothesis")))
        yield
