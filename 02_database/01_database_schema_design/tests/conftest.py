"""A migrated database that tests share and leave as it is, databases of a test's own, and rows for both."""

import contextlib
import functools
import itertools
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from grader.launch import Process
from grader.solution import Finished, Solution, wait_until
from shared import services

Row = dict[str, Any]

# Everything that a schema consists of, but for the order of columns and the tool's own table for its versions.
CATALOG: dict[str, LiteralString] = {
    "relations": "SELECT relkind, relname, obj_description(oid, 'pg_class') FROM pg_class WHERE {of_the_schema}",
    "columns": """
        SELECT relname, attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated,
            pg_get_expr(adbin, adrelid), col_description(attrelid, attnum)
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid LEFT JOIN pg_attrdef ON (adrelid, adnum) =
            (attrelid, attnum)
        WHERE attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p', 'v', 'm') AND {of_the_schema}
    """,
    "constraints": """
        SELECT relname, conname, contype, pg_get_constraintdef(pg_constraint.oid), convalidated
        FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
        WHERE contype <> 'n' AND {of_the_schema}
    """,
    "indexes": """
        SELECT relname, pg_get_indexdef(indexrelid), indisvalid, indisunique
        FROM pg_index JOIN pg_class ON pg_class.oid = indrelid WHERE {of_the_schema}
    """,
    "enums": """
        SELECT typname, array_agg(enumlabel ORDER BY enumsortorder)
        FROM pg_enum JOIN pg_type ON pg_type.oid = enumtypid GROUP BY typname
    """,
    "other types": """
        SELECT typname FROM pg_type
        WHERE typtype IN ('d', 'r') AND typnamespace = current_schema()::regnamespace
    """,
    "functions": """
        SELECT proname, prosrc FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace
        AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
    """,
    "triggers": "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
}
OF_THE_SCHEMA: LiteralString = """
    (relnamespace = current_schema()::regnamespace AND relname !~ 'version|migration')
"""

NUMBERS = itertools.count(1)

# What a row needs, beside its parents. Numbers make unique what must be.
NEEDED: dict[str, dict[str, Any]] = {
    "users": {"email": "ada.{}@example.com", "name": "Ada"},
    "profiles": {},
    "addresses": {"street": "1 Main Street", "postal_code": "12345", "city": "Springfield", "country": "US"},
    "categories": {"slug": "shelf-{}", "name": "Shelf"},
    "products": {"sku": "SKU-{}", "name": "Lamp", "price": "9.90"},
    "product_categories": {},
    "orders": {"shipping_address": "1 Main Street, 12345 Springfield, US"},
    "order_items": {"unit_price": "9.90", "quantity": 1, "product_name": "Lamp"},
    "payments": {"reference": "payment-{}", "amount": "9.90"},
    "reviews": {"rating": 5},
}
PARENTS: dict[str, dict[str, str]] = {
    "profiles": {"user_id": "users"},
    "addresses": {"user_id": "users"},
    "product_categories": {"product_id": "products", "category_id": "categories"},
    "orders": {"user_id": "users"},
    "order_items": {"order_id": "orders", "product_id": "products"},
    "payments": {"order_id": "orders"},
    "reviews": {"product_id": "products", "user_id": "users"},
}


@dataclass
class Shop:
    """Rows in a database that has the tables; who opened the connection decides whether they stay."""

    connection: psycopg.Connection[Row]

    def add(self, table: str, /, **values: Any) -> Row:
        """Insert a row with these values, what it needs beside them and the parents that are not given."""
        needed = {column: _numbered(value) for column, value in NEEDED[table].items()}
        parents = {column: name for column, name in PARENTS.get(table, {}).items() if column not in values}
        return self.insert(table, needed | {column: self.add(name)["id"] for column, name in parents.items()} | values)

    def insert(self, table: str, values: Row) -> Row:
        """Insert exactly these values."""
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING *").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, values)),
            sql.SQL(", ").join(sql.Placeholder() * len(values)),
        )
        [row] = self.query(statement, *values.values())
        return row

    def query(self, statement: LiteralString | sql.Composed, *values: object) -> list[Row]:
        cursor = self.connection.execute(statement, values)
        return cursor.fetchall() if cursor.description else []

    def rows(self, table: str) -> list[Row]:
        return self.query(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table)))

    def delete(self, table: str, row_id: object) -> None:
        self.query(sql.SQL("DELETE FROM {} WHERE id = %s").format(sql.Identifier(table)), row_id)

    @contextlib.contextmanager
    def refuses(self) -> Iterator[None]:
        """The database must refuse what happens inside; the transaction goes on."""
        with (
            pytest.raises((psycopg.IntegrityError, psycopg.DataError)),
            self.connection.transaction(),
        ):
            yield

    def plan(self, statement: LiteralString) -> str:
        """How the statement would be answered if only an index would do, as JSON."""
        with self.connection.transaction(force_rollback=True):
            for way in ("seqscan", "bitmapscan", "sort"):
                self.query(sql.SQL("SET LOCAL enable_{} = off").format(sql.SQL(way)))
            return json.dumps(self.query(sql.SQL("EXPLAIN (FORMAT JSON) {}").format(sql.SQL(statement))))


def _numbered(value: Any) -> Any:
    return value.format(next(NUMBERS)) if isinstance(value, str) and "{}" in value else value


@dataclass
class Turns:
    """Two connections that take turns in locking a table; a migration gets it in between, for one transaction.

    PostgreSQL grants locks in the order of asking. So each asks while the other holds the lock and the migration waits
    for it: when the other lets go, the migration has its turn, and this one what comes after the migration's COMMIT.
    The lock keeps out whoever changes, validates or indexes the table, and nobody who reads and writes rows.
    """

    database: "Database"
    table: str
    shops: list[Shop]
    pool: ThreadPoolExecutor

    def lock(self, shop: Shop) -> None:
        shop.query(sql.SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(sql.Identifier(self.table)))

    def begin(self) -> None:
        self.lock(self.shops[0])

    def waiting(self) -> int:
        return self.database.others().count("Lock")

    def wanted(self) -> list[str]:
        """The locks on the table that somebody waits for."""
        with self.database.shop() as shop:
            waiting = "SELECT mode FROM pg_locks WHERE NOT granted AND relation = %s::regclass"
            return [row["mode"] for row in shop.query(waiting, self.table)]

    def take(self, migration: Process) -> Iterator[Shop]:
        """After each transaction of the migration a look at what it has committed, until it ends."""
        while True:
            wait_until(lambda: self.waiting() or migration.exit_code is not None, 10, "the migration goes nowhere")
            if migration.exit_code is not None:
                break
            holding, coming = self.shops
            asked = self.pool.submit(self.lock, coming)
            wait_until(lambda: self.waiting() == 2, 10, "the two do not wait for the table")
            holding.connection.rollback()
            asked.result(10)
            yield coming
            self.shops.reverse()
        self.end()

    def end(self) -> None:
        for shop in self.shops:
            shop.connection.rollback()


@dataclass
class Database:
    """A database, and the solution's commands on it."""

    url: str
    solution: Solution

    def run(self, *arguments: str, **env: str) -> Finished:
        return self.solution.run(*arguments, timeout=15, **{"DATABASE_URL": self.url, **env})

    def start(self, *arguments: str, **env: str) -> Process:
        return self.solution.start(*arguments, **{"DATABASE_URL": self.url, **env})

    def succeed(self, *arguments: str, **env: str) -> Any:
        """Run a command that must succeed; return its JSON."""
        finished = self.run(*arguments, **env)
        assert finished.exit_code == 0, finished.stderr
        return finished.json()

    def refuse(self, *arguments: str, **env: str) -> str:
        """Run a command that must fail, and not by a traceback; return its message."""
        finished = self.run(*arguments, **env)
        assert finished.exit_code != 0
        assert finished.stderr.strip()
        assert "Traceback" not in finished.stderr
        return finished.stderr

    @contextlib.contextmanager
    def shop(self) -> Iterator[Shop]:
        """A connection whose rows are committed at the end."""
        with self.connect() as connection:
            yield Shop(connection)

    def connect(self) -> psycopg.Connection[Row]:
        plain_url = re.sub(r"^postgresql\+\w+://", "postgresql://", self.url)
        return psycopg.connect(plain_url, row_factory=dict_row)

    def catalog(self) -> dict[str, list[str]]:
        """The schema, by kind of object, each object in a line."""
        with self.shop() as shop:
            of_the_schema = sql.SQL(OF_THE_SCHEMA)
            queries = {kind: sql.SQL(query).format(of_the_schema=of_the_schema) for kind, query in CATALOG.items()}
            return {kind: sorted(str(list(row.values())) for row in shop.query(q)) for kind, q in queries.items()}

    @contextlib.contextmanager
    def turns(self, table: str) -> Iterator["Turns"]:
        """Let a migration change this table one transaction at a time."""
        with self.shop() as first, self.shop() as second, ThreadPoolExecutor(1) as pool:
            yield Turns(self, table, [first, second], pool)

    def others(self) -> list[str]:
        """What each connection to this database waits for: Lock, or something else, or nothing."""
        with self.shop() as shop:
            return [
                row["waits_for"]
                for row in shop.query("""
                    SELECT coalesce(wait_event_type, '') AS waits_for FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
                """)
            ]


@pytest.fixture
def database(solution: Solution, postgres_url: str) -> Database:
    """An empty database that only this test has."""
    return Database(postgres_url, solution)


@pytest.fixture(scope="session")
def shared_url(postgres_server: str) -> Iterator[Callable[..., str]]:
    """URLs of databases by the command that prepares them, for all tests that leave them as they are."""
    with contextlib.ExitStack() as databases:
        yield functools.cache(lambda *_command: databases.enter_context(services.new_database(postgres_server)))


@pytest.fixture(scope="session")
def done() -> dict[str, Finished]:
    """What came of the commands that prepared databases, by URL."""
    return {}


@pytest.fixture
def prepared(solution: Solution, shared_url: Callable[..., str], done: dict[str, Finished]) -> Callable[..., Database]:
    """The first test that asks for it runs the command; those after it look at what came of it."""

    def prepare(*command: str) -> Database:
        database = Database(shared_url(*command), solution)
        if database.url not in done:
            done[database.url] = database.run(*command)
        assert done[database.url].exit_code == 0, done[database.url].stderr
        return database

    return prepare


@pytest.fixture
def migrated(prepared: Callable[..., Database]) -> Database:
    """A database that `upgrade` has made, to look at."""
    return prepared("upgrade")


@pytest.fixture
def created(prepared: Callable[..., Database]) -> Database:
    """A database that `create` has made, to look at."""
    return prepared("create")


@pytest.fixture
def database_at(
    solution: Solution, prepared: Callable[..., Database], postgres_server: str
) -> Iterator[Callable[[str], Database]]:
    """Databases of this test's own at a revision: copies of one that `upgrade` has brought there."""
    with contextlib.ExitStack() as databases:

        def copy(revision: str) -> Database:
            template = prepared("upgrade", revision).url
            return Database(databases.enter_context(services.new_database(postgres_server, template)), solution)

        yield copy


@pytest.fixture(scope="session")
def shops() -> Iterator[list[Shop]]:
    """The connection of `shop`, once there is one."""
    shops: list[Shop] = []
    yield shops
    for shop in shops:
        shop.connection.close()


@pytest.fixture
def shop(migrated: Database, shops: list[Shop]) -> Iterator[Shop]:
    """Rows in the migrated database, which go when the test ends."""
    if not shops:
        shops.append(Shop(migrated.connect()))
    with shops[0].connection.transaction(force_rollback=True):
        yield shops[0]
