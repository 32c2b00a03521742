"""Commands on databases: one of its own for a test that changes something, shared ones for those that only look."""

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql

from grader.solution import Finished, Solution
from shared import services

TABLES = ["categories", "order_items", "orders", "products", "users"]


@dataclass
class Database:
    """A database, and the solution's commands on it."""

    url: str
    solution: Solution

    def run(self, *arguments: str) -> Finished:
        return self.solution.run(*arguments, DATABASE_URL=self.url)

    def succeed(self, *arguments: str) -> Any:
        """Run a command that must succeed; return its JSON."""
        finished = self.run(*arguments)
        assert finished.exit_code == 0, finished.stderr
        return finished.json()

    def refuse(self, *arguments: str) -> str:
        """Run a command that must fail, and not by a traceback; return its message."""
        finished = self.run(*arguments)
        assert finished.exit_code != 0
        assert finished.stderr.strip()
        assert "Traceback" not in finished.stderr
        return finished.stderr

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement and commit; return the rows, if it has any."""
        with psycopg.connect(re.sub(r"^postgresql\+\w+://", "postgresql://", self.url)) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def content(self) -> dict[str, list[Any]]:
        """All rows of all tables of the exercise that exist."""
        existing = {name for (name,) in self.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
        statement = sql.SQL("SELECT * FROM {} ORDER BY 1, 2")
        return {
            name: self.query(statement.format(sql.Identifier(name)).as_string()) if name in existing else []
            for name in TABLES
        }

    def counts(self) -> dict[str, int]:
        return {name: len(rows) for name, rows in self.content().items()}


@pytest.fixture
def database(solution: Solution, postgres_url: str) -> Database:
    """An empty database that only this test has."""
    return Database(postgres_url, solution)


@pytest.fixture(scope="session")
def shared_url(postgres_server: str) -> Iterator[Callable[[str], str]]:
    """URLs of databases by name, made when first asked for, for all tests that leave them as they are."""
    with contextlib.ExitStack() as databases:
        yield functools.cache(lambda _name: databases.enter_context(services.new_database(postgres_server)))


@pytest.fixture
def untouched(solution: Solution, shared_url: Callable[[str], str]) -> Database:
    """An empty database, for commands that fail and leave it so."""
    return Database(shared_url("untouched"), solution)


def seeded(database: Database, environment: str) -> Database:
    """The first test that asks for it has it seeded; those after it look at it, and leave it as it is."""
    if not any(database.counts().values()):
        database.succeed("seed", "--environment", environment)
    return database


@pytest.fixture
def development(solution: Solution, shared_url: Callable[[str], str]) -> Database:
    return seeded(Database(shared_url("development"), solution), "development")


@pytest.fixture
def testing(solution: Solution, shared_url: Callable[[str], str]) -> Database:
    return seeded(Database(shared_url("testing"), solution), "testing")


@pytest.fixture
def production(solution: Solution, shared_url: Callable[[str], str]) -> Database:
    return seeded(Database(shared_url("production"), solution), "production")
