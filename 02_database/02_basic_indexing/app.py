"""Indexes for the queries of a shop: what they speed up, what they cost, and when they do not help."""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from indexes import create, drop
from orders import CommandError, Connection, load
from plans import report, writes

MOST_ROWS = 10_000_000
PATIENCE = 5.0  # seconds
POSTGRESQL = re.compile(r"^postgres(ql)?(\+\w+)?://")


def run(connection: Connection, wanted: argparse.Namespace) -> str:  # given
    """Run one command; return what it has to say."""
    if wanted.command == "load":
        return json.dumps(load(connection, wanted.rows, replace=wanted.replace))
    if wanted.command == "indexes":
        return json.dumps({"created": create(connection)} if wanted.create else {"dropped": drop(connection)})
    if wanted.command == "writes":
        measured = writes(connection, wanted.rows)
        return json.dumps(measured) if wanted.format == "json" else writes_table(measured)
    reported = report(connection)
    return json.dumps(reported) if wanted.format == "json" else report_table(reported)


def report_table(reported: list[dict[str, Any]]) -> str:  # given
    """Figures without indexes, then with them; the times come last."""
    head = ["query", "without indexes", "removed", "blocks", "with indexes", "on", "removed", "blocks", "ms", "ms"]
    lines = [head]
    for entry in reported:
        cells = [entry["query"]]
        for when in ("before", "after"):
            on = [", ".join(entry["columns"])] if when == "after" else []
            cells += [entry[when]["scan"], *on, f"{entry[when]['rows_removed']:,}", f"{entry[when]['blocks']:,}"]
        lines.append([*cells, f"{entry['before']['ms']:.2f}", f"{entry['after']['ms']:.2f}"])
    return as_table(lines)


def writes_table(measured: list[dict[str, Any]]) -> str:  # given
    """A line for each number of indexes; the times come last."""
    lines = [["indexes", "index bytes", "HOT, note", "HOT, status", "WAL bytes of INSERT", "ms"]]
    for entry in measured:
        cells = [entry["indexes"], entry["index_bytes"], entry["update_note"]["hot"], entry["update_status"]["hot"]]
        lines.append(
            [f"{cell:,}" for cell in [*cells, entry["insert"]["wal_bytes"]]] + [f"{entry['insert']['ms']:.2f}"]
        )
    return as_table(lines)


def as_table(lines: list[list[str]]) -> str:  # given
    """Lines of cells as wide as the widest of their column, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        [
            cell.rjust(width) if cell[:1].isdecimal() else cell.ljust(width)
            for cell, width in zip(line, widths, strict=True)
        ]
        for line in lines
    ]
    return "\n".join(" | ".join(cells).rstrip() for cells in padded)


@contextmanager
def connected() -> Iterator[Connection]:  # given
    """A connection to DATABASE_URL, for one command at a time. Raises CommandError when that cannot be."""
    url, is_postgresql = POSTGRESQL.subn("postgresql://", os.environ.get("DATABASE_URL", ""))
    if not is_postgresql:
        raise CommandError("set DATABASE_URL, for instance to postgresql://user:password@host/database")
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        wait_for_others(connection)
        yield connection


def wait_for_others(connection: Connection) -> None:  # given
    """Be alone in this database. Raises CommandError when another command is at work for longer than PATIENCE.

    pg_advisory_lock() would wait in a statement, and CREATE INDEX CONCURRENTLY waits in turn for all statements.
    """
    deadline = time.monotonic() + PATIENCE
    while connection.execute("SELECT pg_try_advisory_lock(hashtext('indexing'))").fetchall() != [(True,)]:
        if time.monotonic() > deadline:
            raise CommandError("another command is at work in this database")
        time.sleep(0.02)


def main() -> None:  # given
    """Run one command: results on standard output, or an error on standard error and a non-zero exit."""
    wanted = parse_arguments()
    try:
        with connected() as connection:
            print(run(connection, wanted), flush=True)
    except CommandError as error:
        sys.exit(f"error: {error}")
    except psycopg.errors.UndefinedTable:
        sys.exit("error: there is no table of orders: make it with `python app.py load --rows 50000`")
    except (psycopg.Error, UnicodeError) as error:
        sys.exit(f"error: the database says: {str(error).partition(chr(10))[0]}")
    except KeyboardInterrupt:
        sys.exit("interrupted")
    except BrokenPipeError:  # whoever read the table has had enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at the end
        sys.exit(1)


def parse_arguments() -> argparse.Namespace:  # given
    parser = argparse.ArgumentParser(description="Indexes for the queries of a shop.")
    commands = parser.add_subparsers(dest="command", required=True)
    loading = commands.add_parser("load", help="fill the table of orders")
    loading.add_argument("--rows", type=row_count, required=True)
    loading.add_argument("--replace", action="store_true", help="delete the rows that are there")
    indexing = commands.add_parser("indexes", help="create or drop the indexes")
    what = indexing.add_mutually_exclusive_group(required=True)
    what.add_argument("--create", action="store_true", help="create those that are missing")
    what.add_argument("--drop", action="store_true", help="drop all of them")
    reporting = commands.add_parser("report", help="measure the queries without and with indexes")
    writing = commands.add_parser("writes", help="measure inserts and updates with 0, 1, 3 and 6 indexes")
    writing.add_argument("--rows", type=row_count, default=100_000)
    for measuring in (reporting, writing):
        measuring.add_argument("--format", choices=["table", "json"], default="table")
    return parser.parse_args()


def row_count(value: str) -> int:  # given
    with suppress(ValueError):
        if 1 <= int(value) <= MOST_ROWS:
            return int(value)
    raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {MOST_ROWS}")


if __name__ == "__main__":
    main()
