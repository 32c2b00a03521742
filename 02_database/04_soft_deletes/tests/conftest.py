"""A shop that most tests share, each with customers of its own, and a gate at which transactions stop."""

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import httpx2
import psycopg
import pytest

from grader.solution import Client, Finished, Solution, wait_until
from shared import services

TOKEN = "correct horse battery staple"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}
GATE = 4711
SECONDS = 20  # until a process that waits for nobody must have done its work, also on a busy machine

numbers = itertools.count(1)

Connection = psycopg.Connection[tuple[Any, ...]]
Rows = list[tuple[Any, ...]]
First = TypeVar("First")
Second = TypeVar("Second")


@dataclass
class Shop:
    """The solution on a database, and ways to look at both."""

    url: str
    connection: Connection
    solution: Solution
    client: Client

    # Rows.

    def query(self, statement: str, *values: object) -> Rows:
        cursor = self.connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def rows(self, customer: int) -> list[Rows]:
        """All that is stored of a customer: the row, and those of the orders."""
        return [
            self.query("SELECT id, email, name, deleted_at FROM customers WHERE id = %s", customer),
            self.query(
                "SELECT id, number, amount, paid, deleted_at FROM orders WHERE customer_id = %s ORDER BY id", customer
            ),
        ]

    def live_orders(self, customer: int) -> list[int]:
        """The ids of the customer's orders that are not marked as deleted."""
        found = self.query("SELECT id FROM orders WHERE customer_id = %s AND deleted_at IS NULL ORDER BY id", customer)
        return [order for (order,) in found]

    def is_paid(self, order: int) -> Any:
        return self.query("SELECT paid FROM orders WHERE id = %s", order)[0][0]

    def age(self, days: int, customer: int, *orders: int) -> None:
        """Make it look as if these orders, or else the customer and all orders, had been deleted days earlier."""
        earlier = "SET deleted_at = deleted_at - %s * interval '1 day' WHERE"
        if orders:
            self.query(f"UPDATE orders {earlier} id = ANY(%s)", days, list(orders))
        else:
            self.query(f"UPDATE orders {earlier} customer_id = %s", days, customer)
            self.query(f"UPDATE customers {earlier} id = %s", days, customer)

    # Requests.

    def customer(self, name: str = "Ada Lovelace", email: str = "") -> int:
        """Create a customer and return the id."""
        body = {"email": email or f"customer-{next(numbers)}@example.com", "name": name}
        return created(self.client.post("/customers", json=body))

    def order(self, customer: int, amount: str = "10.00", number: str = "") -> int:
        """Create an order and return the id."""
        return created(self.ask_for_order(customer, amount, number))

    def ask_for_order(self, customer: int, amount: str = "10.00", number: str = "") -> httpx2.Response:
        body = {"number": number or f"N-{next(numbers)}", "amount": amount}
        return self.client.post(f"/customers/{customer}/orders", json=body)

    def email(self, customer: int) -> str:
        return str(self.query("SELECT email FROM customers WHERE id = %s", customer)[0][0])

    def number(self, order: int) -> str:
        return str(self.query("SELECT number FROM orders WHERE id = %s", order)[0][0])

    def read(self, customer: int) -> Any:
        return self.client.get(f"/customers/{customer}").json()

    def orders(self, customer: int) -> list[int]:
        return [order["id"] for order in self.read(customer)["orders"]]

    def line(self, customer: int) -> Any:
        """The customer's line in the list, None when there is none."""
        return next((line for line in self.client.get("/customers").json() if line["id"] == customer), None)

    def report(self) -> dict[str, Any]:
        return cast("dict[str, Any]", self.client.get("/report").json())

    def delete(self, customer: int, order: int | None = None) -> httpx2.Response:
        return self.client.delete(path(customer, order))

    def restore(self, customer: int, order: int | None = None) -> httpx2.Response:
        # Patiently: while it stands at a gate, a process may have to start.
        return self.client.post(f"{path(customer, order)}/restore", headers=ADMIN, timeout=SECONDS)

    def pay(self, customer: int) -> httpx2.Response:
        return self.client.post(f"/customers/{customer}/pay")

    def deleted(self, kind: str) -> Any:
        """The deleted ones of /customers or /customers/ID/orders, as an admin sees them, by id."""
        return {row["id"]: row for row in self.ask_as_admin(f"{kind}?deleted=only").json()}

    def ask_as_admin(self, path: str) -> httpx2.Response:
        return self.client.get(path, headers=ADMIN)

    def run(self, *arguments: str) -> Finished:
        return self.solution.run(*arguments, DATABASE_URL=self.url)

    def purge(self, days: int, *options: str) -> Any:
        """Run a purge that must succeed; return its JSON."""
        finished = self.run("purge", "--older-than", str(days), *options)
        assert finished.exit_code == 0, finished.stderr
        return finished.json()

    def purge_in_background(self) -> int:
        """Purge everything that is deleted, in a process of its own; return the exit code."""
        return self.solution.start("purge", "--older-than", "0", DATABASE_URL=self.url).wait(SECONDS)

    # At the same time.

    def waiting(self, connection: Connection) -> int:
        """How many backends of this database wait for a lock."""
        waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return int(connection.execute(waits).fetchall()[0][0])

    @contextlib.contextmanager
    def gate(self, event: str, sparing: int = 0) -> Iterator["Gate"]:
        """Whoever does this to a row, `UPDATE ON orders` say, stops right behind it, in the middle of the transaction.

        So many rows may pass first.
        """
        with connect(self.url) as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", [GATE])
            connection.execute(
                "CREATE SEQUENCE passed; CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"IF nextval('passed') > {sparing} THEN PERFORM pg_advisory_xact_lock_shared({GATE}); END IF;"
                f"RETURN NULL; END $$; CREATE TRIGGER stop AFTER {event} FOR EACH ROW EXECUTE FUNCTION stop()".encode()
            )
            try:
                yield Gate(self, connection)
            finally:
                connection.execute("SELECT pg_advisory_unlock_all()")
                connection.execute("DROP FUNCTION stop CASCADE")
                connection.execute("DROP SEQUENCE passed")


@dataclass
class Gate:
    shop: Shop
    connection: Connection

    def stopped(self) -> list[int]:
        """The backends that stand at the gate."""
        waiting = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted"
        waiting += " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        return [pid for (pid,) in self.connection.execute(waiting, [GATE])]

    def wait_for_one(self) -> int:
        """Return the backend that comes to the gate first."""
        return cast("int", wait_until(self.stopped, SECONDS, "no transaction came to the gate")[0])

    def wait_for_another(self, is_done: Callable[[], object]) -> None:
        """Wait until somebody else waits for a lock too, or is done without."""
        wait_until(lambda: is_done() or self.shop.waiting(self.connection) > 1, SECONDS, "the second one hangs")

    def open(self) -> None:
        self.connection.execute("SELECT pg_advisory_unlock_all()")

    def end(self, backend: int) -> None:
        """End a backend, as the server does when it notices that the process at the other end is gone."""
        self.connection.execute("SELECT pg_terminate_backend(%s)", [backend])
        alive = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
        wait_until(lambda: not self.connection.execute(alive, [backend]).fetchall(), message="the backend lives on")

    def meet(self, first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
        """Do the second while the transaction of the first stands at the gate; return what both return."""
        with ThreadPoolExecutor(2) as threads:
            try:
                early = threads.submit(first)
                self.wait_for_one()
                late = threads.submit(second)
                self.wait_for_another(late.done)
            finally:
                self.open()
            return early.result(), late.result()


def connect(url: str) -> Connection:
    connection = psycopg.connect(re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url), autocommit=True)
    connection.execute("SET lock_timeout = '5s'")  # a solution that keeps its locks shall fail, not hang
    return connection


def path(customer: int, order: int | None = None) -> str:
    return f"/customers/{customer}" if order is None else f"/customers/{customer}/orders/{order}"


def created(response: httpx2.Response) -> int:
    assert response.is_success
    return int(response.json()["id"])


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
    """A shop that tests share: leave the customers of others alone."""
    client = solution.serve_shared(DATABASE_URL=shared_url, ADMIN_TOKEN=TOKEN)
    return Shop(shared_url, connection, solution, client)


@pytest.fixture
def empty_shop(shop: Shop) -> Shop:
    """The same without any rows: a purge is about all customers."""
    shop.query("TRUNCATE customers, orders CASCADE")
    return shop
