"""Reports that join tables, and what each of them costs: how many queries, how many rows, which plan."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import psycopg
from joins import JOINS
from models import create, load
from pages import PAGES
from sqlalchemy import Connection, NullPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.orm import Session

EXPLAIN = "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) "  # what is the same every time
MOST_ROWS = 100_000


@dataclass
class Watch:
    """The statements sent during a report, and how many rows came back."""

    statements: list[tuple[str, Any]] = field(default_factory=list)
    rows: int = 0


def answer(connection: Connection, name: str) -> list[dict[str, Any]]:
    """The rows of a report. Each has a session of its own, in which nothing is loaded yet."""
    with Session(connection) as session:
        if name in PAGES:
            return PAGES[name](session)
        return [dict(row) for row in session.execute(JOINS[name]()).mappings()]


@contextmanager
def watched(connection: Connection) -> Iterator[Watch]:
    """Note every statement, also those that relationships send when they are first read."""
    watch = Watch()

    def note(_connection: Connection, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        watch.statements.append((statement, parameters))
        watch.rows += cursor.rowcount

    event.listen(connection, "after_cursor_execute", note)
    try:
        yield watch
    finally:
        event.remove(connection, "after_cursor_execute", note)


def count_queries(connection: Connection, name: str) -> dict[str, int]:
    """How many statements a report sends, and how many rows all of them fetch."""
    with watched(connection) as watch:
        answer(connection, name)
    return {"queries": len(watch.statements), "rows": watch.rows}


def explain(connection: Connection, name: str) -> list[dict[str, Any]]:
    """Each statement of a report with the plan by which PostgreSQL ran it, and the rows that each step gave."""
    with watched(connection) as watch:
        answer(connection, name)
    return [
        {"sql": statement, "plan": list(connection.exec_driver_sql(EXPLAIN + statement, parameters).scalars())}
        for statement, parameters in watch.statements
    ]


def report(connection: Connection, wanted: argparse.Namespace) -> str:  # given
    """One report as JSON, a row on each line, or all of them by name."""
    run = explain if wanted.explain else count_queries if wanted.count_queries else answer
    if wanted.name is None:
        return json.dumps({name: run(connection, name) for name in [*JOINS, *PAGES]}, default=as_json)
    result = run(connection, wanted.name)
    if wanted.explain or isinstance(result, dict):
        return json.dumps(result, indent=2 if wanted.explain else None)
    return "[" + ",\n ".join(json.dumps(row, default=as_json) for row in result) + "]"


def as_json(value: Any) -> str:  # given
    """Money with its cents, dates as ISO 8601 has them."""
    if isinstance(value, Decimal):
        return f"{value:.2f}"
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{value!r} has no place in a report")


@contextmanager
def transaction(*, readonly: bool) -> Iterator[Connection]:  # given
    """A transaction on DATABASE_URL. A report sees one snapshot, however many statements it takes."""
    try:
        url = make_url(os.environ.get("DATABASE_URL", ""))
    except (ArgumentError, ValueError):
        sys.exit("error: set DATABASE_URL, for instance to postgresql://user:password@host/database")
    if url.get_backend_name() not in ("postgres", "postgresql"):
        sys.exit(f"error: DATABASE_URL names {url.get_backend_name()}, not PostgreSQL")
    # psycopg 3, also for postgres://
    url = url.set(drivername="postgresql+psycopg", query={"connect_timeout": "10", **url.query})
    level = "REPEATABLE READ" if readonly else "READ COMMITTED"
    engine = create_engine(url, poolclass=NullPool, isolation_level=level)
    with engine.connect().execution_options(postgresql_readonly=readonly) as connection, connection.begin():
        yield connection


def main() -> None:  # given
    """Run one command: JSON on standard output, or an error on standard error and a non-zero exit."""
    wanted = parse_arguments()
    try:
        with transaction(readonly=wanted.command == "report") as connection:
            if wanted.command == "report":
                print(report(connection, wanted), flush=True)
                return
            create(connection)
            if wanted.command == "load":
                load(connection, wanted.rows)
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.errors.UndefinedTable):
            sys.exit("error: the tables are missing: create them with `python app.py create`")
        sys.exit(f"error: the database says: {str(error.orig).partition(chr(10))[0]}")
    except KeyboardInterrupt:
        sys.exit("interrupted")
    except BrokenPipeError:  # whoever read the report has had enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at the end
        sys.exit(1)


def parse_arguments() -> argparse.Namespace:  # given
    parser = argparse.ArgumentParser(description="Reports on a shop.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("create", help="create the tables that do not exist yet")
    loading = commands.add_parser("load", help="put sample data into empty tables")
    loading.add_argument("--rows", type=row_count, help="this many generated customers instead of the sample shop")
    reporting = commands.add_parser("report", help="answer a question, or all of them")
    reporting.add_argument("name", nargs="?", choices=[*JOINS, *PAGES], metavar="NAME", help="a question; all without")
    how = reporting.add_mutually_exclusive_group()
    how.add_argument("--explain", action="store_true", help="show the statements and their plans")
    how.add_argument("--count-queries", action="store_true", help="count the statements and the rows they fetch")
    return parser.parse_args()


def row_count(value: str) -> int:  # given
    with suppress(ValueError):
        if 1 <= int(value) <= MOST_ROWS:
            return int(value)
    raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {MOST_ROWS}")


if __name__ == "__main__":
    main()
