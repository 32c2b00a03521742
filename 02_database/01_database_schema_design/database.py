"""One connection for those who change the schema: one at a time, and not for long in anybody's way."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from alembic.util import CommandError
from sqlalchemy import Connection, Engine, NullPool, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError


@contextmanager
def alone() -> Iterator[Connection]:
    """Connect and keep others out until the end; wait, without a limit, while somebody else is in.

    A statement that waits longer than LOCK_TIMEOUT for a lock fails: everybody who wants the table queues behind it.
    Raises CommandError when DATABASE_URL is none, sqlalchemy.exc.SQLAlchemyError when the database does not answer.
    """
    with make_engine().connect() as connection:
        lock_timeout = os.environ.get("LOCK_TIMEOUT") or "1s"
        connection.execute(text("SELECT set_config('lock_timeout', :value, false)"), {"value": lock_timeout})
        connection.commit()  # a ROLLBACK takes settings back, too
        # Not pg_advisory_lock: a statement that waits has a snapshot, CREATE INDEX CONCURRENTLY waits for all older
        # snapshots, and the two would wait for each other.
        take = text("SELECT pg_try_advisory_lock(hashtext('schema'))")
        if not connection.scalar(take):
            print("another migration is running, waiting for its end", file=sys.stderr)
            while not connection.scalar(take):
                connection.rollback()
                time.sleep(0.1)
        connection.commit()
        yield connection


def make_engine() -> Engine:  # given
    """An engine on DATABASE_URL; CommandError when that names no PostgreSQL database."""
    try:
        url = make_url(os.environ.get("DATABASE_URL", ""))
    except (ArgumentError, ValueError):
        raise CommandError("set DATABASE_URL, for instance to postgresql://user:password@host/database") from None
    if url.get_backend_name() not in ("postgres", "postgresql"):
        raise CommandError(f"DATABASE_URL names {url.get_backend_name()}, not PostgreSQL")
    url = url.set(drivername="postgresql+psycopg")
    return create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 10})
