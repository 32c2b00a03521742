"""A shop that most tests share, each with accounts of its own, and the faults that may befall it."""

import contextlib
import http.client
import json
import re
import select
import socket
import socketserver
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx2
import psycopg
import pytest
from psycopg import sql

from grader.solution import Client, Solution, wait_until
from shared import services

PATIENT = "10000"  # milliseconds: tests of other things shall not run into the lock timeout
GATE = 4711
COMMIT = re.compile(rb"\bCOMMIT\b", re.IGNORECASE)  # and not the level READ COMMITTED, which a BEGIN may name

Connection = psycopg.Connection[tuple[Any, ...]]


def connect(url: str) -> Connection:
    return psycopg.connect(re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url), autocommit=True)


@dataclass
class Shop:
    """The solution on a database, and ways to look at both."""

    url: str
    connection: Connection
    solution: Solution
    client: Client

    def connect(self) -> Connection:
        return connect(self.url)

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def account(self, balance: str = "100.00") -> int:
        return int(self.query("INSERT INTO accounts (balance) VALUES (%s) RETURNING id", balance)[0][0])

    def product(self, price: str = "10.00", stock: int = 10, most_per_account: int | None = None) -> int:
        statement = "INSERT INTO products (price, stock, most_per_account) VALUES (%s, %s, %s) RETURNING id"
        return int(self.query(statement, price, stock, most_per_account)[0][0])

    def products(self, count: int) -> list[int]:
        made = "INSERT INTO products (price, stock) SELECT 0.01, 10 FROM generate_series(1, %s) RETURNING id"
        return [number for (number,) in self.query(made, count)]

    def balance(self, account: int) -> Any:
        return self.client.get(f"/accounts/{account}").json()["balance"]

    def balances(self, *accounts: int) -> list[Any]:
        return [self.balance(account) for account in accounts]

    def stock(self, product: int) -> Any:
        return self.query("SELECT stock FROM products WHERE id = %s", product)[0][0]

    def transfers(self, source: int) -> list[tuple[Any, ...]]:
        """The transfers from an account: where to, and how much."""
        return self.query("SELECT to_account, amount::text FROM transfers WHERE from_account = %s ORDER BY id", source)

    def orders(self, account: int) -> list[tuple[Any, ...]]:
        """The items of an account's orders."""
        return self.query(
            "SELECT product_id, quantity, unit_price::text, total::text FROM orders "
            "LEFT JOIN order_items ON order_id = orders.id WHERE account_id = %s ORDER BY orders.id, product_id",
            account,
        )

    def transfer(
        self, source: int, target: int, amount: str = "10.00", key: str = "", client: Client | None = None
    ) -> httpx2.Response:
        """Ask for a transfer; without a key, with a new one."""
        body = {"from": source, "to": target, "amount": amount}
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        return (client or self.client).post("/transfers", json=body, headers=headers)

    def order(
        self, account: int, quantities: dict[int, int], key: str = "", client: Client | None = None
    ) -> httpx2.Response:
        items = [{"product": product, "quantity": quantity} for product, quantity in quantities.items()]
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        return (client or self.client).post("/orders", json={"account": account, "items": items}, headers=headers)

    def other(self, operation: str) -> int:
        """What an account may transfer money to, or order."""
        return self.account() if operation == "transfer" else self.product()

    def ask(
        self, operation: str, account: int, other: int, key: str = "", client: Client | None = None
    ) -> httpx2.Response:
        """Ask for a transfer of 10.00 to another account, or for an order of one piece of a product."""
        if operation == "transfer":
            return self.transfer(account, other, key=key, client=client)
        return self.order(account, {other: 1}, key, client)

    def effects(self, operation: str, account: int, other: int) -> set[Any]:
        """How often it was paid, how often it was given, and how often it was written down."""
        paid = (100 - Decimal(self.balance(account))) / 10
        if operation == "transfer":
            return {paid, (Decimal(self.balance(other)) - 100) / 10, len(self.transfers(account))}
        return {paid, 10 - self.stock(other), len(self.orders(account))}

    def killable(self) -> Client:
        """The solution on the same database in a process of its own."""
        return self.solution.serve(isolated=True, DATABASE_URL=self.url, LOCK_TIMEOUT_MS=PATIENT)

    def waiting(self, connection: Connection | None = None) -> int:
        """How many backends of this database wait for a lock."""
        statement = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        rows = connection.execute(statement).fetchall() if connection else self.query(statement)
        return int(rows[0][0])

    def let_the_other_lose(self, connection: Connection) -> None:
        """Let the other side of a deadlock find it, which ends the finder's transaction.

        Who waited first finds it first, so where the server's user may not say this, it only takes longer.
        """
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute("SET deadlock_timeout = 5000")

    @contextlib.contextmanager
    def gate(self, table: str) -> Iterator["Gate"]:
        """Whoever writes to this table stops right behind that, in the middle of its transaction, until it opens."""
        with self.connect() as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", [GATE])
            with trigger(connection, table, f"PERFORM pg_advisory_xact_lock_shared({GATE});"):
                gate = Gate(self, connection)
                try:
                    yield gate
                finally:
                    gate.open()

    @contextlib.contextmanager
    def fault(
        self, table: str, sqlstate: str = "53100", times: int = 10_000, *, sparing: int = 0, at_commit: bool = False
    ) -> Iterator[Callable[[], int]]:
        """Writing to this table fails so many times, after those that are spared. Yields a count of the rows tried."""
        with self.connect() as connection:
            connection.execute("CREATE SEQUENCE tries")
            # Not `BETWEEN`, which asks for two numbers.
            is_hit = f"width_bucket(nextval('tries'), {sparing + 1}, {sparing + times + 1}, 1) = 1"
            body = f"IF {is_hit} THEN RAISE EXCEPTION 'injected' USING ERRCODE = '{sqlstate}'; END IF;"
            try:
                with trigger(connection, table, body, at_commit=at_commit):
                    yield lambda: int(self.query("SELECT last_value FROM tries")[0][0])
            finally:
                connection.execute("DROP SEQUENCE tries")


@contextlib.contextmanager
def trigger(connection: Connection, table: str, body: str, *, at_commit: bool = False) -> Iterator[None]:
    moment = "DEFERRABLE INITIALLY DEFERRED" if at_commit else ""
    connection.execute(
        f"CREATE FUNCTION befall() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$;"
        f"CREATE CONSTRAINT TRIGGER befall AFTER INSERT OR UPDATE ON {table} {moment}"
        " FOR EACH ROW EXECUTE FUNCTION befall()".encode()
    )
    try:
        yield
    finally:
        connection.execute("DROP FUNCTION befall CASCADE")


@dataclass
class Gate:
    shop: Shop
    connection: Connection

    def stopped(self) -> list[int]:
        """The backends that stand at the gate."""
        waiting = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted"
        return [pid for (pid,) in self.connection.execute(waiting, [GATE])]

    def wait_for_one(self) -> int:
        """Return the backend that comes to the gate first."""
        return cast("int", wait_until(self.stopped, message="no transaction wrote to the table")[0])

    def wait_for(self, count: int) -> None:
        """Wait until so many backends of this database wait, at the gate or for somebody who does."""
        wait_until(
            lambda: self.shop.waiting(self.connection) >= count, message=f"there were not {count} transactions at once"
        )

    def open(self) -> None:
        self.connection.execute("SELECT pg_advisory_unlock_all()")


@pytest.fixture(scope="session")
def shared_url(postgres_server: str) -> Iterator[str]:
    with services.new_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def connection(shared_url: str) -> Iterator[Connection]:
    with connect(shared_url) as connection:
        yield connection


@pytest.fixture
def shop(solution: Solution, shared_url: str, connection: Connection) -> Shop:
    """A shop that tests share: leave the accounts of others alone."""
    client = solution.serve_shared(DATABASE_URL=shared_url, LOCK_TIMEOUT_MS=PATIENT)
    return Shop(shared_url, connection, solution, client)


@pytest.fixture
def own_connection(postgres_url: str) -> Iterator[Connection]:
    with connect(postgres_url) as connection:
        yield connection


@pytest.fixture
def own_shop(solution: Solution, postgres_url: str, own_connection: Connection) -> Shop:
    """A shop that only this test has. Deadlocks are found in 0.4 s instead of 1 s, where we may say so."""
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
        name = sql.Identifier(own_connection.info.dbname)
        own_connection.execute(sql.SQL("ALTER DATABASE {} SET deadlock_timeout = 400").format(name))
    client = solution.serve(DATABASE_URL=postgres_url, LOCK_TIMEOUT_MS=PATIENT)
    return Shop(postgres_url, own_connection, solution, client)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


class Wire(socketserver.ThreadingTCPServer):
    """A way to PostgreSQL that breaks when told to.

    `cut` says for each COMMIT that comes along, by its number, whether the wire breaks before the server has got it,
    or after the server has answered and before the app has that answer, or goes silent until `released`.
    """

    allow_reuse_address = True
    daemon_threads = False

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), Ends)
        with connect(url) as connection:
            self.server_host, self.server_port = connection.info.host, connection.info.port
        parts = urlsplit(url)
        login = f"{parts.netloc.rpartition('@')[0]}@".removeprefix("@")
        kept = {name: value for name, value in parse_qsl(parts.query) if name not in ("host", "port")}
        query = urlencode(kept | {"sslmode": "disable", "gssencmode": "disable"})
        netloc = f"{login}127.0.0.1:{self.server_address[1]}"
        self.url = parts._replace(netloc=netloc, query=query).geturl()
        self.cut: Callable[[int], str] = lambda _number: ""
        self.commits = 0
        self.cuts = 0
        self.is_down = False
        self.released = threading.Event()
        self.is_closed = False
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.serve_forever, args=[0.01], daemon=True)
        self.thread.start()

    def connect_to_server(self) -> socket.socket:
        if self.server_host.startswith("/"):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(f"{self.server_host}/.s.PGSQL.{self.server_port}")
            return connection
        return socket.create_connection((self.server_host, self.server_port))

    def fate(self, data: bytes) -> str:
        """What happens to these bytes of the app: nothing, or one of the fates above."""
        if not COMMIT.search(data):
            return ""
        with self.lock:
            self.commits += 1
            fate = self.cut(self.commits)
            self.cuts += bool(fate)
            return fate

    def close(self) -> None:
        self.is_closed = True
        self.shutdown()
        self.server_close()
        self.thread.join()


class Ends(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        """Pass on what comes from either end, until one of them closes or the wire is cut."""
        wire = cast("Wire", self.server)
        app: socket.socket = self.request
        app.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError), wire.connect_to_server() as server:
            while not (wire.is_closed or wire.is_down):
                for end in select.select([app, server], [], [], 0.05)[0]:
                    data = end.recv(65536)
                    fate = wire.fate(data) if end is app else ""
                    if fate == "silent":
                        wire.released.wait(10)
                    if not data or wire.is_down or fate in ("before", "silent"):
                        return
                    (server if end is app else app).sendall(data)
                    if fate == "after":
                        server.recv(65536)
                        return


@pytest.fixture
def wire(shared_url: str) -> Iterator[Wire]:
    """A wire to the shared shop's database."""
    wire = Wire(shared_url)
    yield wire
    wire.close()


class Storm:
    """A shop whose server, backends and wires end again and again, and clients that retry."""

    def __init__(self, wire: Wire, connection: Connection, url: str, solution: Solution) -> None:
        self.wire = wire
        self.is_up = threading.Event()
        self.shop = Shop(url, connection, solution, self.serve(solution))
        self.is_up.set()
        self.wire.cut = self.cut
        self.answers = 0
        self.lock = threading.Lock()

    def serve(self, solution: Solution) -> Client:
        return solution.serve(isolated=True, DATABASE_URL=self.wire.url, LOCK_TIMEOUT_MS=PATIENT)

    def cut(self, number: int) -> str:
        """Nothing is cut while the app starts."""
        return {0: "before", 75: "after"}.get(number % 150, "") if self.is_up.is_set() else ""

    def kill_the_server(self) -> None:
        assert self.shop.client.process
        self.is_up.clear()
        self.shop.client.process.kill()
        self.shop.client = self.serve(self.shop.solution)
        self.is_up.set()

    def end_a_backend(self) -> None:
        self.shop.query(
            "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND datname = current_database() AND backend_type = 'client backend' ORDER BY random() LIMIT 1) AS unlucky"
        )

    def has_answers(self, count: int) -> bool:
        return self.answers >= count

    def retry(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Ask for a transfer with one key until the answer is not that it did not work just now."""
        key = str(uuid.uuid4())
        answer = wait_until(lambda: self.ask(json.dumps(body), key), 30, "there was no answer")
        with self.lock:
            self.answers += 1
        return cast("tuple[int, dict[str, Any]]", answer)

    def ask(self, body: str, key: str) -> tuple[int, dict[str, Any]] | None:
        """Return status and body; nothing when the server is gone or says that it is its fault."""
        self.is_up.wait(10)
        connection = http.client.HTTPConnection(*self.shop.client.address, timeout=10)
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("POST", "/transfers", body, headers)
            response = connection.getresponse()
            if response.status < 500:
                return response.status, json.loads(response.read())
        return None


@pytest.fixture
def storm(solution: Solution, postgres_url: str, own_connection: Connection) -> Iterator[Storm]:
    wire = Wire(postgres_url)
    try:
        yield Storm(wire, own_connection, postgres_url, solution)
    finally:
        wire.close()
