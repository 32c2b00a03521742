"""What the database is: its tables, how many rows they have, and which environment it belongs to."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    Connection,
    ForeignKey,
    NullPool,
    String,
    create_engine,
    func,
    insert,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Mapped, mapped_column

from shared.models import Base, BigId

Row = dict[str, Any]  # column names and values, on their way in


class Category(Base):
    """Reference data: the same rows and ids in every environment. products.category has the slug."""

    __tablename__ = "categories"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    slug: Mapped[str] = mapped_column(String(50), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("categories.id"))


class DatabaseEnvironment(Base):
    """One row that says what this database is for, whatever the command line says."""

    __tablename__ = "database_environment"

    name: Mapped[str] = mapped_column(String(20), primary_key=True)


class SeedError(Exception):
    """What was asked for cannot or must not be done; the message says why."""


@contextmanager
def transaction() -> Iterator[Connection]:
    """One transaction on DATABASE_URL. Raises SeedError when that is no URL of a PostgreSQL database."""
    try:
        url = make_url(os.environ.get("DATABASE_URL", ""))
    except (ArgumentError, ValueError):
        raise SeedError("set DATABASE_URL, for instance to postgresql://user:password@host/database") from None
    if url.get_backend_name() not in ("postgres", "postgresql"):
        raise SeedError(f"DATABASE_URL names {url.get_backend_name()}, not PostgreSQL")
    url = url.set(drivername="postgresql+psycopg")
    engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 10})
    with engine.begin() as connection:
        yield connection


def wait_for_others(connection: Connection) -> None:
    """Of two seedings at once the second starts when the first has committed, and finds nothing to do."""
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('seeding'))"))


def claim(connection: Connection, environment: str) -> None:
    """Note what the database is for. Raises SeedError when it is for something else."""
    current = environment_of(connection)
    if current not in (None, environment):
        raise SeedError(f"this is a {current} database: nothing for {environment} goes into it")
    if connection.scalar(select(DatabaseEnvironment.name)) is None:
        connection.execute(insert(DatabaseEnvironment).values(name=environment))


def environment_of(connection: Connection) -> str | None:
    """What the database is for, None for an empty one. With rows that nobody explains, it is production."""
    noted = None
    if DatabaseEnvironment.__tablename__ in existing_tables(connection):
        noted = connection.scalar(select(DatabaseEnvironment.name))
    return noted or ("production" if any(count_rows(connection).values()) else None)


def count_rows(connection: Connection) -> dict[str, int]:
    """How many rows each table has; none when it does not exist yet."""
    present = existing_tables(connection)
    tables = [table for table in Base.metadata.sorted_tables if table.name != DatabaseEnvironment.__tablename__]
    counts = {table.name: select(func.count()).select_from(table) for table in tables}
    return {name: connection.scalar(count) or 0 if name in present else 0 for name, count in counts.items()}


def existing_tables(connection: Connection) -> list[str]:
    present = set(inspect(connection).get_table_names())
    return [table.name for table in Base.metadata.sorted_tables if table.name in present]
