"""A server with an admin and two users, and what tests do with it."""

import http.client
import itertools
import json
import re
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Response

from grader.solution import Client, Solution, wait_until

Json = dict[str, Any]
numbers = itertools.count(1)


@dataclass(frozen=True)
class Account:
    id: int
    email: str
    name: str
    password: str
    token: str

    @property
    def header(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@dataclass
class Site:
    """A running app, its first admin, and requests in somebody's name (None: a guest)."""

    client: Client
    key: str
    reports: str
    database: Path
    admin: Account

    def ask(self, who: Account | None, method: str, path: str, body: object = None, **options: Any) -> Response:
        headers = {**(who.header if who else {}), **options.pop("headers", {})}
        if body is not None:
            options |= {"content": body if isinstance(body, bytes) else json.dumps(body)}
            headers |= {"Content-Type": "application/json"}
        return self.client.request(method, path, headers=headers, **options)

    def status(self, who: Account | None, method: str, path: str, body: object = None) -> int:
        return self.ask(who, method, path, body).status_code

    def raw(self, who: Account | None, method: str, target: str, headers: dict[str, str] | None = None) -> int:
        """The status for a request target that no client library has normalised."""
        connection = http.client.HTTPConnection(*self.client.address, timeout=10)
        try:
            connection.request(method, target, headers={**(who.header if who else {}), **(headers or {})})
            return connection.getresponse().status
        finally:
            connection.close()

    def sql(self, statement: str, *values: object) -> list[Any]:
        """What somebody does in the database while the app runs."""
        with closing(sqlite3.connect(self.database, timeout=10)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def register(self, role: str = "user", prefix: str = "somebody") -> Account:
        """A new account of this role, signed in."""
        email, password = f"{prefix}{next(numbers)}-{secrets.token_hex(4)}@example.com", secrets.token_urlsafe()
        new = {"email": email, "name": f"Name {next(numbers)}", "password": password, "role": role}
        created = self.ask(self.admin, "POST", "/users", new)
        assert created.status_code == 201, created.text
        return Account(created.json()["id"], email, new["name"], password, self.sign_in(email, password))

    def sign_in(self, email: str, password: str) -> str:
        response = self.ask(None, "POST", "/login", {"email": email, "password": password})
        assert response.status_code == 200, response.text
        return str(response.json()["access_token"])

    def write(self, who: Account, *, published: bool, **fields: object) -> Json:
        """A new article with words that nothing else has."""
        article = {"title": f"Title{secrets.token_hex(6)}", "text": f"Text{secrets.token_hex(6)}"} | fields
        response = self.ask(who, "POST", "/articles", article | {"published": published})
        assert response.status_code == 201, response.text
        created: Json = response.json()
        return created

    def operations(self) -> dict[str, Json]:
        """What the OpenAPI document has: `GET /articles/{}` and the like, whatever the parameters are called."""
        methods = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
        paths: Json = self.ask(None, "GET", "/openapi.json").json()["paths"]
        return {
            f"{method.upper()} {re.sub('{.*?}', '{}', path)}": operation
            for path, item in paths.items()
            for method, operation in item.items()
            if method in methods
        }

    def denials(self, count: int) -> list[Json]:
        """The lines of the log about denials, once there are `count` of them."""

        def read() -> list[Json] | None:
            lines = [json.loads(line) for line in self.client.output.splitlines() if line.startswith("{")]
            found = [entry for entry in lines if entry.get("event") == "denied"]
            return found if len(found) >= count else None

        found: list[Json] = wait_until(read)
        return found

    def me(self, who: Account) -> Json:
        account: Json = self.ask(who, "GET", "/users/me").json()
        return account


@dataclass
class Settings:
    """The same for all servers of a test run: servers with the same settings are shared."""

    key: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    reports: str = field(default_factory=lambda: f"/internal-{secrets.token_hex(4)}")
    accounts: dict[tuple[Path, str], Account] = field(default_factory=dict)


@pytest.fixture(scope="session")
def run_settings() -> Settings:
    return Settings()


Serve = Callable[..., Site]


@pytest.fixture
def serve(solution: Solution, run_settings: Settings, tmp_path: Path) -> Serve:
    """Serve on a database of the test's own, with a first admin."""

    def serve(key: str = run_settings.key, *, isolated: bool | None = None) -> Site:
        environment = settings_for(tmp_path / "own.db")
        admin = first_admin(solution, environment)
        client = solution.serve(isolated=isolated, SECRET_KEY=key, REPORTS_PREFIX=run_settings.reports, **environment)
        return signed_in(Site(client, key, run_settings.reports, tmp_path / "own.db", admin))

    return serve


@pytest.fixture
def site(solution: Solution, run_settings: Settings, shared_path: Path) -> Site:
    """The server that tests share which leave each other's accounts and articles alone."""
    environment, key = settings_for(shared_path / "articles.db"), (solution.path, "admin")
    known = run_settings.accounts
    if key not in known:
        known[key] = first_admin(solution, environment)
    client = solution.serve_shared(SECRET_KEY=run_settings.key, REPORTS_PREFIX=run_settings.reports, **environment)
    site = Site(client, run_settings.key, run_settings.reports, shared_path / "articles.db", known[key])
    if not known[key].token:
        known[key] = signed_in(site).admin
    return site


def settings_for(database: Path) -> dict[str, Any]:
    return {"DATABASE_URL": f"sqlite:///{database}", "BCRYPT_ROUNDS": "4"}


def first_admin(solution: Solution, environment: Json) -> Account:
    email, password = "first.admin@example.com", secrets.token_urlsafe()
    seeded = solution.run("seed", ADMIN_EMAIL=email, ADMIN_PASSWORD=password, **environment)
    assert seeded.exit_code == 0, seeded.stderr
    return Account(0, email, "", password, "")


def signed_in(site: Site) -> Site:
    known = site.admin
    token = site.sign_in(known.email, known.password)
    account = site.me(Account(0, "", "", "", token))
    site.admin = Account(account["id"], known.email, account["name"], known.password, token)
    return site


def member(site: Site, run_settings: Settings, solution: Solution, name: str) -> Account:
    known, key = run_settings.accounts, (solution.path, name)
    if key not in known:
        known[key] = site.register()
    return known[key]


@pytest.fixture
def admin(site: Site) -> Account:
    return site.admin


@pytest.fixture
def ann(site: Site, run_settings: Settings, solution: Solution) -> Account:
    return member(site, run_settings, solution, "ann")


@pytest.fixture
def bob(site: Site, run_settings: Settings, solution: Solution) -> Account:
    return member(site, run_settings, solution, "bob")
