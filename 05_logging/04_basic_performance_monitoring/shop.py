"""What is monitored: a shop whose data is in SQLite, where each query takes as long as one over a network."""

import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, BackgroundTasks, HTTPException, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from metrics import Metrics

CUSTOMERS, PRODUCTS, ORDERS = 50, 200, 1000
FIRST_YEAR, LAST_YEAR = 2020, 2025  # the years that have orders
SCHEMA = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT NOT NULL, cents INTEGER NOT NULL);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL, year INTEGER NOT NULL,
    month INTEGER NOT NULL, cents INTEGER NOT NULL);
CREATE INDEX orders_by_month ON orders (year, month);
"""

ProductId = Annotated[int, Path(ge=1, le=2**31 - 1)]
Year = Annotated[int, Path(ge=2000, le=2100)]
router = APIRouter()
get = partial(router.api_route, methods=["GET", "HEAD"])


class Shop:
    """The same data in every process. `on_query` is called before each query, which then takes `query_seconds`."""

    def __init__(self, query_seconds: float, on_query: Callable[[], None]) -> None:  # given
        self.query_seconds = query_seconds
        self.on_query = on_query
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        self._connection.executescript(SCHEMA)
        years = LAST_YEAR - FIRST_YEAR + 1
        orders = [
            (number, number % CUSTOMERS + 1, FIRST_YEAR + number % years, number % 12 + 1, cents(number))
            for number in range(1, ORDERS + 1)
        ]
        customers = [(number, f"Customer {number}") for number in range(1, CUSTOMERS + 1)]
        products = [(number, f"Product {number}", cents(number)) for number in range(1, PRODUCTS + 1)]
        self._connection.executemany("INSERT INTO customers VALUES (?, ?)", customers)
        self._connection.executemany("INSERT INTO products VALUES (?, ?, ?)", products)
        self._connection.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", orders)

    def close(self) -> None:  # given
        self._connection.close()

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:  # given
        """The rows of a query. It blocks, so call it in a thread."""
        self.on_query()
        time.sleep(self.query_seconds)
        with self._lock:
            return self._connection.execute(sql, parameters).fetchall()

    def orders_one_by_one(self) -> list[dict[str, Any]]:  # given
        """The last 50 orders; their customers are read one by one, which makes 51 queries."""
        orders = self.query("SELECT id, customer_id, cents FROM orders ORDER BY id DESC LIMIT 50")
        return [{"id": number, "customer": self.customer(key), "cents": cents} for number, key, cents in orders]

    def customer(self, customer_id: int) -> Any:  # given
        return self.query("SELECT name FROM customers WHERE id = ?", customer_id)[0][0]

    def orders_joined(self) -> list[dict[str, Any]]:
        """The same orders, with one query."""
        orders = self.query(
            "SELECT orders.id, customers.name, orders.cents FROM orders"
            " JOIN customers ON customers.id = orders.customer_id ORDER BY orders.id DESC LIMIT 50"
        )
        return [{"id": number, "customer": customer, "cents": cents} for number, customer, cents in orders]

    async def export(self, rows: int, fail_at: int | None) -> AsyncIterator[str]:  # given
        """Orders as CSV, a row each `query_seconds`. Raises RuntimeError in place of the row `fail_at`."""
        yield "order,cents\n"
        for number in range(1, rows + 1):
            await anyio.sleep(self.query_seconds)
            if number == fail_at:
                raise RuntimeError(f"the export fails at row {number}")
            yield f"{number},{cents(number)}\n"

    def yearly_report(self, year: int) -> int:  # given
        """The revenue of a year in cents, with a query for each month. Raises LookupError for a year without orders."""
        sql = "SELECT sum(cents) FROM orders WHERE year = ? AND month = ?"
        months = [self.query(sql, year, month)[0][0] or 0 for month in range(1, 13)]
        if not any(months):
            raise LookupError(f"{year} has no orders")
        return sum(months)


def cents(number: int) -> int:  # given
    return 100 * (number % 90 + 10)


@get("/products/{product_id}")
def read_product(product_id: ProductId, request: Request) -> dict[str, Any]:  # given
    rows = request.app.state.shop.query("SELECT id, name, cents FROM products WHERE id = ?", product_id)
    if not rows:
        raise HTTPException(404, "there is no such product")
    return dict(zip(("id", "name", "cents"), rows[0], strict=True))


@get("/orders")
def list_orders(request: Request) -> list[dict[str, Any]]:
    """The last 50 orders, with the names of their customers."""
    shop: Shop = request.app.state.shop
    return shop.orders_joined() if request.app.state.settings.optimised else shop.orders_one_by_one()


@get("/slow")
async def wait(seconds: Annotated[float, Query(ge=0, le=2)] = 0.3) -> dict[str, float]:  # given
    await anyio.sleep(seconds)
    return {"seconds": seconds}


@get("/fail")
def fail() -> None:  # given
    raise RuntimeError("this endpoint always fails")


@get("/export")
def export_orders(  # given
    request: Request, rows: Annotated[int, Query(ge=1, le=1000)] = 100, fail_at: int | None = None
) -> StreamingResponse:
    return StreamingResponse(request.app.state.shop.export(rows, fail_at), media_type="text/csv")


@router.post("/reports/{year}", status_code=202)
def order_report(year: Year, request: Request, tasks: BackgroundTasks) -> dict[str, str]:
    """Accept a report. It is made in the background, when the response has been sent."""
    tasks.add_task(make_report, request.app.state.shop, request.app.state.metrics, year)
    return {"status": "accepted"}


def make_report(shop: Shop, metrics: Metrics, year: int) -> None:
    with metrics.task("yearly_report"):
        shop.yearly_report(year)


def answer_invalid(_request: Request, error: Exception) -> JSONResponse:  # given
    """Name what is wrong without repeating it."""
    assert isinstance(error, RequestValidationError)
    return JSONResponse({"detail": [{"loc": each["loc"], "msg": each["msg"]} for each in error.errors()]}, 422)
