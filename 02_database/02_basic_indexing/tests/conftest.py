"""Databases with orders, without indexes and with the solution's, and the plans that PostgreSQL makes in them."""

import contextlib
import functools
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from grader.solution import Finished, Solution
from shared import services

ROWS = 30_000  # enough for plans as with millions


def plain(url: str) -> str:
    return re.sub(r"^postgresql\+\w+://", "postgresql://", url)


@dataclass(frozen=True)
class IndexInfo:
    """An index of the table of orders, from the catalog."""

    oid: int
    name: str
    keys: list[str]
    is_unique: bool
    is_valid: bool
    predicate: str | None


class Plan:
    """What EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) says of a query on the orders."""

    def __init__(self, explained: dict[str, Any]) -> None:
        self.nodes = list(self._walk(explained))
        self.scan = next(node for node in self.nodes if node.get("Relation Name") == "orders")
        self.kind: str = self.scan["Node Type"]
        self.index: str | None = next((node["Index Name"] for node in self.nodes if "Index Name" in node), None)
        self.condition: str = next((node["Index Cond"] for node in self.nodes if "Index Cond" in node), "")
        self.searches: int = sum(node.get("Index Searches", 0) for node in self.nodes)
        self.rows = round(self.scan["Actual Rows"] * self.scan["Actual Loops"])
        self.estimate: int = self.scan["Plan Rows"]
        removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
        self.removed = sum(round(self.scan.get(why, 0) * self.scan["Actual Loops"]) for why in removed)
        self.heap_fetches: int = self.scan.get("Heap Fetches", 0)
        self.blocks_read: int = explained["Shared Read Blocks"]
        self.blocks: int = explained["Shared Hit Blocks"] + self.blocks_read

    @property
    def reads_all(self) -> bool:
        """Whether it looks at every row and throws away what nobody asked for."""
        return not self.condition and self.kind in ("Seq Scan", "Index Scan", "Index Only Scan")

    @property
    def sorts(self) -> bool:
        return any("Sort" in node["Node Type"] for node in self.nodes)

    def _walk(self, node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield node
        for below in node.get("Plans", []):
            yield from self._walk(below)


@dataclass
class Database:
    """A database, and the solution's commands on it."""

    url: str
    solution: Solution

    def run(self, *arguments: str) -> Finished:
        return self.solution.run(*arguments, DATABASE_URL=self.url)

    def succeed(self, *arguments: str) -> Finished:
        """Run a command that must succeed."""
        finished = self.run(*arguments)
        assert finished.exit_code == 0, finished.stderr
        return finished

    def json(self, *arguments: str) -> Any:
        return self.succeed(*arguments).json()

    def refuse(self, *arguments: str) -> str:
        """Run a command that must fail, and not by a traceback; return its message."""
        finished = self.run(*arguments)
        assert finished.exit_code != 0
        assert finished.stdout == ""
        assert finished.stderr.strip()
        assert "Traceback" not in finished.stderr
        return finished.stderr

    def connect(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(plain(self.url), autocommit=True)
        connection.execute("SET max_parallel_workers_per_gather = 0")  # so that counts add up
        return connection

    def query(self, statement: str, *values: object) -> list[Any]:
        with self.connect() as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def set(self, setting: str, value: str) -> None:
        """Give a setting this value in all connections to come to this database."""
        [(name,)] = self.query("SELECT current_database()")
        self.query(f"ALTER DATABASE {name} SET {setting} = '{value}'")

    def plan(self, statement: str, *preparation: str) -> Plan:
        """Run a query after these statements, and undo them; return the plan of its second run."""
        command = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {statement}".encode()
        with self.connect() as connection, connection.transaction(force_rollback=True):
            for prepared in preparation:
                connection.execute(prepared.encode())
            connection.execute(command)  # finds the catalog and the blocks, and leaves them in the cache
            [(explained,)] = connection.execute(command).fetchall()
        return Plan(explained[0]["Plan"])

    def indexes(self) -> dict[str, IndexInfo]:
        """The indexes of the orders, apart from that of the primary key, by name."""
        found = self.query("""
            SELECT indexrelid::bigint, relname,
                ARRAY(SELECT pg_get_indexdef(indexrelid, n, true) FROM generate_series(1, indnkeyatts) AS n ORDER BY n),
                indisunique, indisvalid, pg_get_expr(indpred, indrelid)
            FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
            WHERE indrelid = to_regclass('orders') AND NOT indisprimary
        """)
        return {row[1]: IndexInfo(*row) for row in found}

    def blocks(self) -> int:
        """How many blocks the table has."""
        return int(self.query("SELECT pg_relation_size('orders') / 8192")[0][0])


@pytest.fixture
def plan_of() -> type[Plan]:
    """Reads a plan that EXPLAIN has given."""
    return Plan


@pytest.fixture
def database(solution: Solution, postgres_url: str) -> Database:
    """An empty database that only this test has."""
    return Database(postgres_url, solution)


@pytest.fixture(scope="session")
def shared_url(postgres_server: str) -> Iterator[Callable[[str, str], str]]:
    """URLs of databases by name, made from a template when first asked for, for all tests that only look."""
    with contextlib.ExitStack() as databases:

        def make(_name: str, template: str) -> str:
            return databases.enter_context(services.new_database(postgres_server, template))

        yield functools.cache(make)


@pytest.fixture
def bare(solution: Solution, shared_url: Callable[[str, str], str]) -> Database:
    """Orders without indexes. Tests leave it as it is."""
    bare = Database(shared_url("bare", "template1"), solution)
    if bare.query("SELECT to_regclass('orders')") == [(None,)]:
        bare.succeed("load", "--rows", str(ROWS))
    return bare


@pytest.fixture
def indexed(bare: Database, shared_url: Callable[[str, str], str]) -> Database:
    """The same orders with the solution's indexes. Tests leave it as it is."""
    indexed = Database(shared_url("indexed", bare.url), bare.solution)
    if not indexed.indexes():
        indexed.succeed("indexes", "--create")
    return indexed


@pytest.fixture
def untouched(solution: Solution, shared_url: Callable[[str, str], str]) -> Database:
    """An empty database, for commands that fail and leave it so."""
    return Database(shared_url("untouched", "template1"), solution)


@pytest.fixture
def few(solution: Solution, shared_url: Callable[[str, str], str], postgres_server: str) -> Iterator[Database]:
    """A copy of a few orders without indexes, which only this test has."""
    template = Database(shared_url("few", "template1"), solution)
    if template.query("SELECT to_regclass('orders')") == [(None,)]:
        template.succeed("load", "--rows", "3000")
    with services.new_database(postgres_server, template.url) as url:
        yield Database(url, solution)


@pytest.fixture(scope="session")
def measured() -> dict[str, Any]:
    """What commands have measured, for all tests that look at the same."""
    return {}


@pytest.fixture
def report(indexed: Database, measured: dict[str, Any]) -> list[dict[str, Any]]:
    """The report on orders that have their indexes."""
    if "indexed" not in measured:
        measured["indexed"] = indexed.json("report", "--format", "json")
    return list(measured["indexed"])


@pytest.fixture
def first_report(
    bare: Database, shared_url: Callable[[str, str], str], measured: dict[str, Any]
) -> list[dict[str, Any]]:
    """The report on orders that have no indexes."""
    if "bare" not in measured:
        copy = Database(shared_url("first report", bare.url), bare.solution)
        measured["bare"] = copy.json("report", "--format", "json")
    return list(measured["bare"])


@pytest.fixture
def writes(bare: Database, measured: dict[str, Any]) -> list[dict[str, Any]]:
    """What 2,000 orders cost."""
    if "writes" not in measured:
        measured["writes"] = bare.json("writes", "--rows", "2000", "--format", "json")
    return list(measured["writes"])


@pytest.fixture
def cold(indexed: Database, postgres_server: str) -> Iterator[Database]:
    """A copy that PostgreSQL has no block of in its cache, since the files were copied behind its back."""
    name, template = "cold_" + uuid.uuid4().hex, urlsplit(indexed.url).path.strip("/")
    plain_url = plain(postgres_server)
    with psycopg.connect(plain_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY".encode())
    try:
        yield Database(urlsplit(indexed.url)._replace(path=f"/{name}").geturl(), indexed.solution)
    finally:
        with psycopg.connect(plain_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
