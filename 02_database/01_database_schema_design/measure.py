"""What a foreign key costs without an index: users are deleted whose orders PostgreSQL has to look for."""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from models import Base, Order
from rich.console import Console
from rich.progress import Progress
from sqlalchemy import create_engine, make_url

from shared import services

ORDERS = [10_000, 100_000, 1_000_000]
ORDERS_A_USER = 10
WITHOUT_ORDERS = 100  # users who can be deleted
DELETES = 15
INDEX = next(index for index in Order.__table__.indexes if "user_id" in index.columns).name  # type: ignore[attr-defined]

FOREIGN_KEY = "fk_orders_user_id"

ADD_USERS = """
    INSERT INTO users (email, name) SELECT n || '@example.com', 'Ada' FROM generate_series(1, %s) AS n
"""
ADD_ORDERS = """
    INSERT INTO orders (user_id, shipping_address)
    SELECT 1 + n %% %s, '1 Main Street, 12345 Springfield, US' FROM generate_series(1, %s) AS n
"""


@contextmanager
def shop(server: str, orders: int) -> Iterator[psycopg.Connection]:
    """A database with that many orders, and some users who have none."""
    users = orders // ORDERS_A_USER
    with services.new_database(server) as url:
        engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
        Base.metadata.create_all(engine)
        engine.dispose()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(ADD_USERS, [users + WITHOUT_ORDERS])
            connection.execute(ADD_ORDERS, [users, orders])
            connection.execute("VACUUM ANALYZE")
            yield connection


def delete(connection: psycopg.Connection, user_id: int) -> tuple[float, float]:
    """Delete a user who has no orders; how long the search for orders and the whole statement took, in ms."""
    explain = "EXPLAIN (ANALYZE, FORMAT JSON) DELETE FROM users WHERE id = %s"
    [[[found]]] = connection.execute(explain, [user_id]).fetchall()
    assert found["Plan"]["Plans"][0]["Actual Rows"] == 1
    [search] = [trigger["Time"] for trigger in found["Triggers"] if trigger["Constraint Name"] == FOREIGN_KEY]
    return search, found["Execution Time"]


def medians(connection: psycopg.Connection, users: Iterator[int]) -> tuple[float, float]:
    searches, deletes = zip(*(delete(connection, next(users)) for _ in range(DELETES)), strict=True)
    return statistics.median(searches), statistics.median(deletes)


def measure(server: str, orders: int) -> str:
    """A row of the table: with the index, then without it."""
    with shop(server, orders) as connection:
        users = iter(range(orders // ORDERS_A_USER + 1, orders))
        size = connection.execute("SELECT pg_size_pretty(pg_relation_size(%s::regclass))", [INDEX]).fetchall()[0][0]
        search, whole = medians(connection, users)
        connection.execute(f"DROP INDEX {INDEX}".encode())
        slow_search, slow_whole = medians(connection, users)
    times = slow_search / search
    return f"| {orders:,} | {search:.3f} | {whole:.2f} | {slow_search:.3f} | {slow_whole:.2f} | {times:,.0f} | {size} |"


def main() -> None:
    rows = []
    with services.postgres() as server, Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("Deleting users", total=sum(ORDERS))
        for orders in ORDERS:
            rows.append(measure(server, orders))
            progress.advance(bar, orders)
    print("| orders | search, ms | DELETE, ms | search without the index, ms | DELETE, ms | search, times | index |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
