"""What deleted rows cost those who read the others: a Markdown table on standard output, and measure.svg."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import psycopg
from models import Base
from rich.console import Console
from rich.progress import Progress
from sqlalchemy import NullPool, create_engine

from shared import services

LIVE = 10_000
CUSTOMERS = 100
SHARES = {0: 1, 50: 2, 90: 10, 99: 100}  # percent deleted, and how many rows there are for each live one
SECONDS = 0.5  # for each figure
QUERIES = {
    "a customer's orders": "SELECT id, number, amount, paid FROM orders"
    " WHERE customer_id = 7 AND deleted_at IS NULL ORDER BY id",
    "sum of all": "SELECT count(*), sum(amount) FROM orders WHERE deleted_at IS NULL",
}
INDEXES = {
    "index on all rows": "CREATE INDEX measured ON orders (customer_id)",
    "partial index": "CREATE INDEX measured ON orders (customer_id) WHERE deleted_at IS NULL",
}

Connection = psycopg.Connection[tuple[Any, ...]]
Figures = dict[tuple[str, str], dict[int, float]]  # by index and query: milliseconds by percent deleted


@contextmanager
def orders() -> Iterator[Connection]:
    """The table orders without its indexes and its foreign key, which would be most of the time of filling it."""
    with services.postgres() as server, services.new_database(server) as url:
        Base.metadata.create_all(create_engine(url, poolclass=NullPool))
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER TABLE orders DROP CONSTRAINT orders_customer_id_fkey")
            found = connection.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'orders'").fetchall()
            others = ", ".join(name for (name,) in found if name != "orders_pkey")
            connection.execute(f"DROP INDEX {others}".encode())
            connection.execute("SET maintenance_work_mem = '256MB'")
            connection.execute(
                "SET max_parallel_workers_per_gather = 0"
            )  # the same plans, however many cores there are
            connection.execute("SET jit = off")
            yield connection


def fill(connection: Connection, rows_per_live: int) -> None:
    """Put LIVE live rows among so many deleted ones, evenly mixed, which is the worst case."""
    connection.execute("TRUNCATE orders")
    connection.execute("SELECT setseed(0.5)")
    connection.execute(
        """
        INSERT INTO orders (customer_id, number, amount, paid, deleted_at, deletion_id)
        SELECT 1 + floor(random() * %(customers)s), 'N-' || n, 10, true,
            CASE WHEN n %% %(each)s > 0 THEN timestamptz '2025-01-01' END,
            CASE WHEN n %% %(each)s > 0 THEN uuid '00000000-0000-4000-8000-000000000000' END
        FROM generate_series(1, %(rows)s) AS n
        """,
        {"customers": CUSTOMERS, "each": rows_per_live, "rows": LIVE * rows_per_live},
    )
    connection.execute("VACUUM ANALYZE orders")


def milliseconds(connection: Connection, query: str) -> float:
    """The median of as many runs as fit into the time, five at least."""
    seconds: list[float] = []
    while sum(seconds) < SECONDS or len(seconds) < 5:
        begin = time.perf_counter()
        connection.execute(query.encode(), prepare=True).fetchall()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds) * 1000


def measure() -> tuple[Figures, dict[tuple[str, int], int]]:
    """Return the milliseconds, and the size of each index in bytes by its name and the percentage."""
    figures: Figures = {(index, query): {} for query in QUERIES for index in INDEXES}
    sizes = {}
    with orders() as connection, Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=len(SHARES) * len(INDEXES))
        for share, rows_per_live in SHARES.items():
            progress.update(bar, description=f"{share} % deleted")
            fill(connection, rows_per_live)
            for index, create in INDEXES.items():
                connection.execute(create.encode())
                for query, text in QUERIES.items():
                    figures[index, query][share] = milliseconds(connection, text)
                [[sizes[index, share]]] = connection.execute("SELECT pg_relation_size('measured')").fetchall()
                connection.execute("DROP INDEX measured")
                progress.advance(bar)
    return figures, sizes


def plot(figures: Figures, path: Path) -> None:
    mpl.use("Agg")
    mpl.rcParams |= {"svg.hashsalt": "soft deletes", "svg.fonttype": "none"}  # the same file for the same figures
    from matplotlib import pyplot as plt  # noqa: PLC0415  after the choice of the backend

    figure, panes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained", sharey=True)
    for axes, query in zip(panes, QUERIES, strict=True):
        for index, color, marker in zip(INDEXES, ["#c2703d", "#3b6ea5"], "so", strict=True):
            values = figures[index, query]
            axes.plot(range(len(values)), list(values.values()), color=color, marker=marker, label=index)
        axes.set_xticks(range(len(SHARES)), [f"{share} %" for share in SHARES])
        axes.set(title=query, xlabel="deleted rows", yscale="log")
        axes.spines[["top", "right"]].set_visible(False)
    panes[0].set_ylabel("milliseconds (logarithmic)")
    panes[0].legend()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    figures, sizes = measure()
    columns = [f"{query}, {index}" for query, index in ((query, index) for query in QUERIES for index in INDEXES)]
    print(f"| deleted | rows | {' | '.join(columns)} | size of the index on all rows | of the partial one |")
    print(f"| ---: |{' ---: |' * (len(columns) + 3)}")
    for share, rows_per_live in SHARES.items():
        times = " | ".join(f"{values[share]:.2f} ms" for values in figures.values())
        bytes_used = " | ".join(f"{sizes[index, share] / 2**10:,.0f} kB" for index in INDEXES)
        print(f"| {share} % | {LIVE * rows_per_live:,} | {times} | {bytes_used} |")
    each = LIVE // CUSTOMERS
    print(f"\nThere are always {LIVE:,} live rows, {each} of each customer, evenly mixed with the deleted ones.")
    plot(figures, Path(__file__).with_suffix(".svg"))


if __name__ == "__main__":
    main()
