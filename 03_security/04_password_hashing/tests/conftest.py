"""Servers, users of a test's own on them, and what the database has about these."""

import base64
import hmac
import itertools
import json
import re
import secrets
import sqlite3
import unicodedata
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import pytest
from httpx2 import Response

from grader.solution import Client, Solution

PEPPER = secrets.token_urlsafe(32)
STORED = re.compile(r"hmac-sha384(\$2b\$([0-9]{2})\$([./A-Za-z0-9]{22})[./A-Za-z0-9]{31})")
numbers = itertools.count(1001)


def digest(password: str, pepper: str) -> bytes:
    """What bcrypt gets instead of the password."""
    nfc = unicodedata.normalize("NFC", password)
    return base64.b64encode(hmac.digest(pepper.encode(), nfc.encode(), "sha384"))


@dataclass(frozen=True)
class Server:
    """The app, served at one cost with one pepper, and its database."""

    client: Client
    database: Path
    pepper: str = PEPPER
    name: str = "Rosalind Franklin"

    def post(self, path: str, **fields: object) -> Response:
        """With a body of our own: httpx refuses to write a lone surrogate, which JSON can."""
        return self.client.post(path, content=json.dumps(fields), headers={"Content-Type": "application/json"})

    def new_email(self) -> str:
        return f"rosalind.{next(numbers)}@example.com"

    def register(self, password: str) -> str:
        """Register somebody new and return the email address."""
        email = self.new_email()
        assert self.post("/register", email=email, name=self.name, password=password).status_code == 201
        return email

    def log_in(self, email: str, password: str) -> Response:
        return self.post("/login", email=email, password=password)

    def status(self, email: str, password: str) -> int:
        return self.log_in(email, password).status_code

    def change(self, email: str, password: str, new: object) -> Response:
        return self.post("/password", email=email, password=password, new_password=new)

    # What is stored.

    def stored(self, email: str) -> str:
        with closing(sqlite3.connect(self.database)) as connection:
            connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
            query = "SELECT password_hash FROM users WHERE email = ?"
            (found,) = connection.execute(query, [email]).fetchone()
            return str(found)

    def plant(self, email: str, stored: object) -> None:
        """Write this into the table instead of the hash that is there. U+DCFF in a text becomes the byte FF."""
        query = "UPDATE users SET password_hash = ? WHERE email = ?"
        if isinstance(stored, str):
            query, stored = query.replace("?", "CAST(? AS TEXT)", 1), stored.encode("utf-8", "surrogateescape")
        with closing(sqlite3.connect(self.database)) as connection, connection:
            assert connection.execute(query, [stored, email]).rowcount == 1

    def hash(self, password: str, cost: int) -> str:
        """What the README says is to be stored for this password."""
        return "hmac-sha384" + bcrypt.hashpw(digest(password, self.pepper), bcrypt.gensalt(cost)).decode()

    def parts(self, email: str) -> re.Match[str]:
        found = STORED.fullmatch(self.stored(email))
        assert found, "what is stored has not the form of the README"
        return found

    def stores(self, email: str, password: str) -> bool:
        """Whether what is stored is the hash of this password."""
        return bcrypt.checkpw(digest(password, self.pepper), self.parts(email)[1].encode())

    def cost(self, email: str) -> int:
        return int(self.parts(email)[2])

    def salt(self, email: str) -> str:
        return self.parts(email)[3]


Serve = Callable[..., Server]


@pytest.fixture
def serve(solution: Solution, tmp_path: Path) -> Serve:
    """Serve the app on a database of the test's own; also again, at another cost or with another pepper."""

    def serve(
        cost: object = 4, *, database: str = "accounts.db", isolated: bool | None = None, **env: str | None
    ) -> Server:
        file = tmp_path / database
        settings = {"PEPPER": PEPPER, "BCRYPT_COST": None if cost is None else str(cost)}
        settings |= {"DATABASE_URL": f"sqlite:///{file}", **env}
        return Server(solution.serve(isolated=isolated, **settings), file, settings["PEPPER"] or "")

    return serve


@pytest.fixture
def server(solution: Solution, shared_path: Path) -> Server:
    """A server with the cheapest hashes, which tests share."""
    file = shared_path / "accounts.db"
    return Server(solution.serve_shared(DATABASE_URL=f"sqlite:///{file}", PEPPER=PEPPER, BCRYPT_COST="4"), file)


@pytest.fixture
def slow_server(solution: Solution, shared_path: Path) -> Server:
    """A server that hashes for so long that nothing else counts; tests share it, too."""
    file = shared_path / "slow.db"
    return Server(solution.serve_shared(DATABASE_URL=f"sqlite:///{file}", PEPPER=PEPPER, BCRYPT_COST="9"), file)
