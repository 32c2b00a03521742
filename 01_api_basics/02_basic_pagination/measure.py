"""What does a page cost, the deeper it lies in a million products: by OFFSET, with the total, and by cursor?"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import matplotlib as mpl
from app import create_app, newest_first, read_feed, read_page
from paging import encode_cursor
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from shared.models import Product

ROWS = 1_000_000
SIZE = 20
DEPTHS = [0, 1_000, 10_000, 100_000, 250_000, 500_000, 750_000, ROWS - SIZE]
REPEATS = 7
WAYS = ["OFFSET", "OFFSET and total", "cursor"]

# Three products a second, so that many share their moment.
FILL = """
INSERT INTO products (id, sku, name, category, price, stock, created_at)
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :rows)
SELECT n, 'P-' || n, 'Product ' || n, 'category ' || n % 10, 1990, 1,
       strftime('%Y-%m-%d %H:%M:%S.000000', 1700000000 + n / 3, 'unixepoch')
FROM numbers
"""


def milliseconds(read: Callable[[], object]) -> float:
    """The shortest time of some calls: what is longer, others on this machine have caused."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        read()
        times.append(1000 * (time.perf_counter() - start))
    return min(times)


def by_offset(session: Session, depth: int) -> object:
    return session.scalars(select(Product).order_by(*newest_first(Product)).limit(SIZE).offset(depth)).all()


def cursor_at(session: Session, depth: int) -> str | None:
    """The cursor behind the first `depth` products; none for the top."""
    if depth == 0:
        return None
    last = session.scalars(select(Product).order_by(*newest_first(Product)).limit(1).offset(depth - 1)).one()
    return encode_cursor(last.created_at, last.id, None)


def measure(sessions: sessionmaker[Session]) -> dict[str, list[float]]:
    """Milliseconds of the three ways at each depth."""
    figures: dict[str, list[float]] = {way: [] for way in WAYS}
    for depth in DEPTHS:
        print(f"measuring behind {depth:,} products", file=sys.stderr)
        with sessions() as session:
            after = cursor_at(session, depth)
            reads: list[Callable[[], object]] = [
                partial(by_offset, session, depth),
                partial(read_page, session, None, depth // SIZE + 1, SIZE),
                partial(read_feed, sessions, SIZE, after),
            ]
            for way, read in zip(WAYS, reads, strict=True):
                figures[way].append(milliseconds(read))
    return figures


async def experiment(database: str) -> dict[str, list[float]]:
    """Fill a new database with the app's tables and indexes, and measure there."""
    with mock.patch.dict(os.environ, {"DATABASE_URL": database}):
        app = create_app()
    async with app.router.lifespan_context(app):
        sessions: sessionmaker[Session] = app.state.sessions
        print(f"inserting {ROWS:,} products", file=sys.stderr)
        with sessions.begin() as session:
            session.execute(text(FILL), {"rows": ROWS})
        return measure(sessions)


def plot(figures: dict[str, list[float]], file: Path) -> None:
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "pagination"
    from matplotlib import pyplot as plt  # noqa: PLC0415  after the backend is chosen

    figure, axes = plt.subplots(figsize=(7, 4))
    for way, marker in zip(WAYS, "osD", strict=True):
        axes.plot([depth / 1000 for depth in DEPTHS], figures[way], marker=marker, label=way)
    axes.set(yscale="log", xlabel="thousands of products before the page")
    axes.set(ylabel="milliseconds", title=f"A page of {SIZE} out of {ROWS:,}")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(experiment(f"sqlite:///{folder}/shop.db"))
    plot(figures, Path(__file__).with_name("measure.svg"))
    print(f"| Products before the page | {' | '.join(f'{way} (ms)' for way in WAYS)} |")
    print(f"| ---: |{' ---: |' * len(WAYS)}")
    for place, depth in enumerate(DEPTHS):
        print(f"| {depth:,} | {' | '.join(f'{figures[way][place]:.2f}' for way in WAYS)} |")


if __name__ == "__main__":
    main()
