"""How fast users get into PostgreSQL, by method: a Markdown table on standard output, and measure.svg."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from database import Row
from faker import Faker
from loading import driver_of, insert_missing
from samples import YEAR_START, make_user
from sqlalchemy import Connection, NullPool, create_engine, insert, text
from sqlalchemy.orm import Session

from shared import services
from shared.models import Base, User

Method = Callable[[Connection, list[Row]], None]

COLUMNS = ["email", "name", "role", "created_at"]
REPEATS = 5


def commit_per_row(connection: Connection, rows: list[Row]) -> None:
    with Session(connection) as session:
        for row in rows:
            session.add(User(**row))
            session.commit()


def add_all(connection: Connection, rows: list[Row]) -> None:
    with Session(connection) as session:
        session.add_all([User(**row) for row in rows])
        session.commit()


def insert_many(connection: Connection, rows: list[Row]) -> None:
    connection.execute(insert(Base.metadata.tables["users"]), rows)
    connection.commit()


def copy_new(connection: Connection, rows: list[Row]) -> None:
    insert_missing(connection, Base.metadata.tables["users"], rows)
    connection.commit()


def copy(connection: Connection, rows: list[Row]) -> None:
    command = f"COPY users ({', '.join(COLUMNS)}) FROM STDIN"
    with driver_of(connection).cursor() as cursor, cursor.copy(command.encode()) as stream:
        for row in rows:
            stream.write_row(list(row.values()))
    connection.commit()


def binary_copy(connection: Connection, rows: list[Row]) -> None:
    command = f"COPY users ({', '.join(COLUMNS)}) FROM STDIN (FORMAT binary)"
    with driver_of(connection).cursor() as cursor, cursor.copy(command.encode()) as stream:
        stream.set_types(["varchar", "varchar", "varchar", "timestamptz"])
        for row in rows:
            stream.write_row(list(row.values()))
    connection.commit()


METHODS: list[tuple[str, Method, int]] = [
    ("ORM, a commit per row", commit_per_row, 500),
    ("ORM, add_all and one commit", add_all, 5_000),
    ("Core, insert with a list of rows", insert_many, 20_000),
    ("COPY and ON CONFLICT DO NOTHING (app.py)", copy_new, 20_000),
    ("COPY", copy, 20_000),
    ("binary COPY", binary_copy, 20_000),
]


def make_rows(count: int) -> list[Row]:
    fixed = {"name": "Ada Lovelace", "role": "user", "created_at": YEAR_START}
    return [{"email": f"ada.{number}@example.com", **fixed} for number in range(count)]


@contextmanager
def empty_users() -> Iterator[Connection]:
    with services.postgres() as server, services.new_database(server) as url:
        engine = create_engine(url, poolclass=NullPool)
        with engine.connect() as connection:
            Base.metadata.create_all(connection)
            connection.commit()
            yield connection


def rows_a_second(connection: Connection, method: Method, count: int) -> float:
    """The median of some runs, each into an empty table."""
    rows = make_rows(count)
    seconds = []
    for _ in range(REPEATS):
        connection.execute(text("TRUNCATE users CASCADE"))
        connection.commit()
        begin = time.perf_counter()
        method(connection, rows)
        seconds.append(time.perf_counter() - begin)
    return count / statistics.median(seconds)


def made_a_second(count: int = 5_000) -> float:
    """How many rows Faker makes; nothing is stored."""
    fake = Faker("en_US", use_weighting=False)
    begin = time.perf_counter()
    for number in range(count):
        make_user(fake, 1, number)
    return count / (time.perf_counter() - begin)


def plot(speeds: dict[str, float], path: Path) -> None:
    mpl.use("Agg")
    mpl.rcParams |= {"svg.hashsalt": "seeding", "svg.fonttype": "none"}  # the same file for the same figures
    from matplotlib import pyplot as plt  # noqa: PLC0415  after the choice of the backend

    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    bars = axes.barh(list(speeds), list(speeds.values()), color=["#888888", *["#3b6ea5"] * len(METHODS)])
    axes.bar_label(bars, fmt="{:,.0f}", padding=3)
    axes.set(xscale="log", xlabel="rows a second (logarithmic)", xlim=(100, 3_000_000))
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    speeds = {"Faker, without a database": made_a_second()}
    with empty_users() as connection:
        for name, method, count in METHODS:
            print(name, file=sys.stderr)
            speeds[name] = rows_a_second(connection, method, count)
    slowest = speeds[METHODS[0][0]]
    print("| method | rows a second | times as fast |")
    print("| --- | ---: | ---: |")
    for name, speed in speeds.items():
        print(f"| {name} | {speed:,.0f} | {speed / slowest:,.0f} |")
    plot(speeds, Path(__file__).with_suffix(".svg"))


if __name__ == "__main__":
    main()
