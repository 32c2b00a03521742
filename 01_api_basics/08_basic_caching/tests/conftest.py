"""One server on SQLite serves most tests, with an empty Redis; on PostgreSQL a test can stop the app half-way."""

import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from httpx2 import Response
from sqlalchemy import Engine, create_engine, text, update
from sqlalchemy.orm import Session

from grader.launch import Launcher
from grader.solution import Client, Solution, wait_until
from shared.models import Product

Json = dict[str, Any]
Env = dict[str, Any]  # of strings; mypy would think that `isolated` could be among them
numbers = itertools.count(1)


@pytest.fixture
def environment(shared_path: Path, redis_url: str) -> Env:
    return {"DATABASE_URL": f"sqlite:///{shared_path / 'shop.db'}", "REDIS_URL": redis_url, "CACHE_TTL": "60"}


@pytest.fixture
def client(environment: Env, solution: Solution) -> Client:
    return solution.serve_shared(**environment)


@pytest.fixture
def two_processes(environment: Env, solution: Solution) -> tuple[Client, Client]:
    """Two servers on one database and one Redis, each a process of its own."""
    return solution.serve(isolated=True, **environment), solution.serve(isolated=True, **environment)


@pytest.fixture
def another_interpreter(environment: Env, solution: Solution) -> Iterator[Client]:
    """A server of an interpreter that was started for it: those that are forked from a warm one share its `hash()`."""
    with closing(Launcher(solution.path, fresh=True)) as launcher, ExitStack() as cleanup:
        yield replace(solution, launcher=launcher, _cleanup=cleanup).serve(isolated=True, **environment)


@pytest.fixture
def keyboard() -> Json:
    """A product that may be sent, with a sku, a name and a category that no other test has."""
    number = next(numbers)
    return {"sku": f"KB-{number}", "name": f"Keyboard {number}", "category": f"category {number}", "price": "49.90"}


@pytest.fixture
def changed(keyboard: Json) -> Json:
    """The same with another name."""
    return keyboard | {"name": f"Changed {keyboard['name']}"}


@pytest.fixture
def create(client: Client, keyboard: Json) -> Callable[..., Any]:
    """Create a product, the keyboard unless told otherwise, and return the answer's JSON."""

    def create(on: Client = client, **fields: object) -> Any:
        response = on.post("/products", json=keyboard | {"sku": f"KB-{next(numbers)}"} | fields)
        assert response.status_code == 201, response.text
        return response.json()

    return create


@pytest.fixture
def rename_row(environment: Env) -> Iterator[Callable[[Json], str]]:
    """Give a product's row a new name, behind the app's back, and return it: who says the old one did not look."""
    engine = create_engine(environment["DATABASE_URL"])

    def rename_row(product: Json) -> str:
        name = f"Renamed {product['name']}"
        with Session(engine) as session:
            session.execute(update(Product).where(Product.id == product["id"]).values(name=name))
            session.commit()
        return name

    yield rename_row
    engine.dispose()


@pytest.fixture
def background() -> Iterator[Callable[..., Future[Response]]]:
    """Call a function in a thread."""
    with ThreadPoolExecutor(100) as pool:
        yield pool.submit


@pytest.fixture
def soon(background: Callable[..., Future[Response]]) -> Callable[..., Response]:
    """Call a function in a thread and return its result, which must come within so many seconds."""

    def soon(function: Callable[..., Response], *arguments: Any, within: float = 4, **options: Any) -> Response:
        future = background(function, *arguments, **options)
        wait_until(future.done, within, f"no answer to {arguments[0]}")
        return future.result()

    return soon


class Line:
    """The line between an app and Redis, which can be cut."""

    def __init__(self, redis_url: str) -> None:
        address = urlsplit(redis_url)
        self.redis = (address.hostname or "127.0.0.1", address.port or 6379)
        self.listener = socket.create_server(("127.0.0.1", 0))
        credentials = address.netloc.rpartition("@")[0]
        here = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.url = address._replace(netloc=f"{credentials}@{here}" if credentials else here).geturl()
        self.is_cut = False
        self.ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self.is_cut = True
        for end in self.ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self.is_cut = False

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                if self.is_cut:
                    near.close()
                    continue
                far = socket.create_connection(self.redis)
                self.ends += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def line(redis_url: str) -> Iterator[Line]:
    line = Line(redis_url)
    yield line
    line.cut()
    line.listener.shutdown(socket.SHUT_RDWR)
    line.listener.close()
    for end in line.ends:
        end.close()


class Postgres:
    """A database in which a test can make a statement of the app wait, and see that it does."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def waiting(self) -> int:
        """How many statements wait for a lock at this moment."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        with self.engine.connect() as connection:
            count: int = connection.scalar(text(query)) or 0
            return count

    @contextmanager
    def lock_products(self) -> Iterator[None]:
        """Make every statement on products wait before it reads anything."""
        with self._hold("LOCK TABLE products IN ACCESS EXCLUSIVE MODE"):
            yield

    @contextmanager
    def lock_row(self, product: Json) -> Iterator[None]:
        """Make changes of this product wait; who reads it need not."""
        with self._hold("SELECT id FROM products WHERE id = :id FOR UPDATE", id=product["id"]):
            yield

    @contextmanager
    def hold_first_reader(self) -> Iterator[None]:
        """Make the next statement that reads a product wait when it has seen the row but not yet returned it.

        A view takes the place of the table. Its condition waits, for the first who asks, on a lock that we hold; what a
        statement sees was settled when it began.
        """
        with self.engine.begin() as connection:
            for statement in (
                "ALTER TABLE products RENAME TO stored_products",
                "CREATE SEQUENCE readers",
                """CREATE FUNCTION may_pass() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$ BEGIN
                    IF nextval('readers') = 1 THEN PERFORM pg_advisory_xact_lock_shared(1); END IF;
                    RETURN true;
                END $$""",
                "CREATE VIEW products AS SELECT * FROM stored_products WHERE may_pass()",
            ):
                connection.execute(text(statement))
        with self._hold("SELECT pg_advisory_xact_lock(1)"):
            yield

    @contextmanager
    def _hold(self, statement: str, **values: object) -> Iterator[None]:
        with self.engine.begin() as connection:
            connection.execute(text(statement), values)
            yield


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Postgres]:
    engine = create_engine(postgres_url)
    yield Postgres(engine)
    engine.dispose()


@pytest.fixture
def on_postgres(environment: Env, postgres_url: str, solution: Solution) -> Callable[[], Client]:
    """Start a server with the database of `postgres`: a process of its own, whose connections end with it."""

    def serve() -> Client:
        return solution.serve(isolated=True, **environment | {"DATABASE_URL": postgres_url})

    return serve


@pytest.fixture
def one_on_postgres(on_postgres: Callable[[], Client]) -> Client:
    return on_postgres()


@pytest.fixture
def two_on_postgres(on_postgres: Callable[[], Client]) -> tuple[Client, Client]:
    return on_postgres(), on_postgres()
