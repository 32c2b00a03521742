"""What does each role get at each route of the running app? And what does one decision cost, here and with pycasbin?"""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import casbin  # type: ignore[import-untyped]
import httpx2
import matplotlib as mpl
import uvicorn
from access import ROLES, Caller, Permission, Reach, find_permission
from app import create_app, seed
from fastapi import FastAPI, Request
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session
from users import issue_token, read_token

from shared.models import User

PASSWORD = "correct horse battery staple"  # noqa: S105  of a database that lives for a minute
COLUMNS = ["guest", "user,\nanother's", "user,\ntheir own", "admin"]
HIDDEN = ["GET /openapi.json", "GET /reports/raw", "GET /reports/files/2026.csv"]  # not in the OpenAPI document
COLORS = {200: "#7fb77e", 401: "#d9d9d9", 403: "#e58e6d", 404: "#b8a1cf"}
SECONDS = 0.3
MODEL = """
[request_definition]
r = role, permission, sub, owner
[policy_definition]
p = role, permission, reach
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.role == p.role && r.permission == p.permission && (p.reach == "any" || r.sub == r.owner)
"""


@contextmanager
def served() -> Iterator[tuple[httpx2.Client, FastAPI, str]]:
    """Serve the example on a new database; yield a client, the app, and the database's URL."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/articles.db"
        environment = {"DATABASE_URL": url, "SECRET_KEY": PASSWORD * 2, "BCRYPT_ROUNDS": "4"}
        environment |= {"ADMIN_EMAIL": "admin@example.com", "ADMIN_PASSWORD": PASSWORD}
        with mock.patch.dict(os.environ, environment), mock.patch("access.sys"):
            seed()
            app = create_app()
            server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
            thread = threading.Thread(target=server.run)
            thread.start()
            while not server.started:
                time.sleep(0.01)
            address = server.servers[0].sockets[0].getsockname()
            try:
                with httpx2.Client(base_url=f"http://{address[0]}:{address[1]}", trust_env=False) as client:
                    yield client, app, url
            finally:
                server.should_exit = True
                thread.join()


class Visitors:
    """Somebody of each role, and objects for them to ask for."""

    def __init__(self, client: httpx2.Client) -> None:
        self.client = client
        self.count = 0
        self.admin = self.sign_in("admin@example.com")
        self.ann, self.bob = (self.sign_in(self.new_user()["email"]) for _ in range(2))

    def sign_in(self, email: str) -> dict[str, str]:
        token = self.client.post("/login", json={"email": email, "password": PASSWORD}).json()["access_token"]
        return {"Authorization": f"Bearer {token}"}

    def new_user(self) -> dict[str, Any]:
        self.count += 1
        body = {"email": f"user{self.count}@example.com", "name": "Somebody", "password": PASSWORD}
        user: dict[str, Any] = self.client.post("/users", json=body, headers=self.admin).json()
        return user

    def new_article(self, author: dict[str, str], *, published: bool) -> int:
        body = {"title": "A title", "published": published}
        number: int = self.client.post("/articles", json=body, headers=author).json()["id"]
        return number

    def status(self, operation: str, state: str, column: str) -> int:
        """What somebody gets for an operation on a new object: 2xx counts as 200, and so does a 422 for no body."""
        who = {"guest": {}, "admin": self.admin}.get(column, self.bob)
        method, path = operation.split()
        if "{article_id}" in path:
            owner = self.bob if "own" in column else self.ann
            path = path.format(article_id=self.new_article(owner, published=state == "published"))
        elif "{user_id}" in path:
            me = self.client.get("/users/me", headers=self.bob).json()
            path = path.format(user_id=me["id"] if "own" in column else self.new_user()["id"])
        body: dict[str, Any] = {"json": {}} if method in {"POST", "PATCH"} else {}
        status = self.client.request(method, path, headers=who, **body).status_code
        return 200 if status < 300 or status == 422 else status


def heat_map(client: httpx2.Client) -> dict[str, list[int]]:
    """Walk the running app's OpenAPI document, and what is not in it; return the statuses by operation."""
    visitors = Visitors(client)
    paths = client.get("/openapi.json").json()["paths"]
    operations = [f"{method.upper()} {path}" for path, item in paths.items() for method in item] + HIDDEN
    rows = {}
    for operation in sorted(operations, key=lambda each: (each.split()[1], each)):
        print(f"measuring: {operation}", file=sys.stderr)
        for state in ("published", "draft") if "{article_id}" in operation else ("",):
            title = f"{operation.replace('_id', '').replace('{article}', '{id}')} {state}".strip()
            rows[title] = [visitors.status(operation, state, column) for column in COLUMNS]
    return rows


def draw(rows: dict[str, list[int]]) -> None:
    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "06_role_based_access_control", "svg.fonttype": "none", "font.size": 9})
    figure = Figure(figsize=(7, 0.28 * len(rows) + 0.8), layout="constrained")
    axes = figure.subplots()
    statuses = list(COLORS)
    cells = [[statuses.index(status) for status in row] for row in rows.values()]
    axes.imshow(cells, cmap=ListedColormap(list(COLORS.values())), vmin=0, vmax=len(COLORS) - 1, aspect="auto")
    for y, row in enumerate(rows.values()):
        for x, status in enumerate(row):
            axes.text(x, y, "allowed" if status == 200 else str(status), ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(COLUMNS)), COLUMNS)
    axes.set_yticks(range(len(rows)), list(rows), family="monospace", fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_xticks([x + 0.5 for x in range(len(COLUMNS) - 1)], minor=True)
    axes.set_yticks([y + 0.5 for y in range(len(rows) - 1)], minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    figure.savefig(Path(__file__).with_name("measure.svg"), metadata={"Date": None})


def microseconds(decide: Callable[[], object]) -> float:
    """The processor's time for a call, the best of five rounds: other processes count for little."""
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS / 5:
        decide()
        calls += 1
    rounds = []
    for _ in range(5):
        start = time.thread_time()
        for _ in range(calls):
            decide()
        rounds.append((time.thread_time() - start) / calls * 1e6)
    return min(rounds)


def enforcer(more_rules: int = 0, *, indexed: bool = False) -> Any:
    """Pycasbin with the same table, behind rules for permissions that nobody asks for; FastEnforcer indexes them."""
    keys = [0, 1]  # the places of role and permission in a request and in a rule
    model = casbin.FastModel(keys) if indexed else casbin.Model()
    model.load_model_from_text(MODEL)
    made = casbin.FastEnforcer(model, cache_key_order=keys) if indexed else casbin.Enforcer(model)
    rules = [
        [role, each.value, each.reaches[role].value]
        for each in Permission
        for role in ROLES
        if each.reaches[role] is not Reach.NONE
    ]
    made.add_policies([["user", f"more:{number}", "any"] for number in range(more_rules)] + rules)
    return made


def costs(app: FastAPI, url: str) -> dict[str, Callable[[], object]]:
    caller = Caller(7, "user", "PATCH", "/articles/1")
    small, large, indexed = enforcer(), enforcer(1000), enforcer(1000, indexed=True)
    asked = "user", Permission.ARTICLES_EDIT.value, "7", "7"
    key, engine = (PASSWORD * 2).encode(), create_engine(url)
    token = issue_token(1, key)
    request = Request({"type": "http", "method": "PATCH", "path": "/articles/1", "headers": [], "app": app})

    def look_up() -> None:
        with Session(engine) as session:
            session.scalar(select(User.role).where(User.id == 1))

    deciders = (small, large, indexed)
    allowed = {each.enforce(*asked) for each in deciders} | {caller.may(Permission.ARTICLES_EDIT, 7)}
    refused = {each.enforce(*asked[:3], "8") for each in deciders} | {caller.may(Permission.ARTICLES_EDIT, 8)}
    if (allowed, refused) != ({True}, {False}):
        raise RuntimeError("they do not agree")
    return {
        "the table, own article": lambda: caller.may(Permission.ARTICLES_EDIT, 7),
        f"pycasbin, the same {len(small.get_policy())} rules": lambda: small.enforce(*asked),
        f"pycasbin, {len(large.get_policy()):,} rules": lambda: large.enforce(*asked),
        f"pycasbin's FastEnforcer, {len(large.get_policy()):,} rules": lambda: indexed.enforce(*asked),
        "before it: find the route": lambda: find_permission(request),
        "before it: check the token's signature": lambda: read_token(token, key),
        "before it: read the role from SQLite": look_up,
    }


def main() -> None:
    with served() as (client, app, url):
        rows = heat_map(client)
        print("| One decision | µs of processor time |\n| --- | ---: |")
        for name, decide in costs(app, url).items():
            print(f"measuring: {name}", file=sys.stderr)
            print(f"| {name} | {microseconds(decide):,.1f} |")
    draw(rows)


if __name__ == "__main__":
    main()
