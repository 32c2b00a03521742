"""One server for most tests; and a sweep over all faults by a process of its own, whose answers and log are kept."""

import json
import secrets
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from grader.solution import Client, Solution

FAULTS = json.loads(Path(__file__).with_name("faults.json").read_text(encoding="utf-8"))
ORIGIN = "https://shop.example"
FORGED = '{"level": "CRITICAL", "error_id": "forged"}'
AT_ONCE = 40


@dataclass(frozen=True)
class Answer:
    """What came back, as far as it came."""

    status: int
    headers: httpx2.Headers
    text: str
    is_cut_off: bool = False

    @property
    def problem(self) -> dict[str, Any]:
        """The problem document of RFC 9457."""
        assert self.headers.get("Content-Type", "").lower().startswith("application/problem+json")
        document: dict[str, Any] = json.loads(self.text)
        return document


@dataclass(frozen=True)
class App:
    """The app, with a database that tests may lock."""

    client: Client
    database: Path
    folder: Path

    def ask(self, path: str, method: str = "GET", *, chunks: int = 1000, **options: Any) -> Answer:
        """Send a request and read the answer: so many chunks of it, or up to where it breaks off."""
        text = ""
        with self.client.stream(method, path, **options) as response:
            try:
                for _, chunk in zip(range(chunks), response.iter_text(), strict=False):
                    text += chunk
            except httpx2.TransportError:
                return Answer(response.status_code, response.headers, text, is_cut_off=True)
        return Answer(response.status_code, response.headers, text)


@dataclass
class Sweep:
    """Answers to requests that each have a name as their ID, and all that the app wrote."""

    answers: dict[str, Answer] = field(default_factory=dict)
    output: str = ""  # standard error
    stdout: str = ""

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log. Raises AssertionError when a line is not a JSON object."""
        return [_json_object(line) for line in self.output.splitlines()]

    def errors(self, request_id: str) -> list[dict[str, Any]]:
        """The lines about errors of that request."""
        return [line for line in self.lines if "error_id" in line and line.get("request_id") == request_id]

    def error(self, request_id: str) -> dict[str, Any]:
        """The first of them."""
        lines = self.errors(request_id)
        assert lines, f"no line of the log has the request ID {request_id}"
        return lines[0]


def _json_object(line: str) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        found = json.loads(line, parse_constant=refuse)
    except ValueError:
        found = None
    assert isinstance(found, dict), f"a line of standard error is not a JSON object: {line[:200]!r}"
    return found


@pytest.fixture(scope="session")
def secret() -> str:
    return secrets.token_urlsafe()


@pytest.fixture
def env(secret: str, shared_path: Path) -> dict[str, Any]:
    database = f"sqlite:///{shared_path / 'shop.db'}?timeout=0.1"
    return {"ENVIRONMENT": "testing", "FAULT_SECRET": secret, "ALLOWED_ORIGIN": ORIGIN, "DATABASE_URL": database}


@pytest.fixture
def app(solution: Solution, env: dict[str, Any], shared_path: Path) -> App:
    return App(solution.serve_shared(**env), shared_path / "shop.db", solution.path)


@pytest.fixture(scope="session")
def swept() -> dict[Path, Sweep]:
    """The sweep of the solution in a folder, once it was made."""
    return {}


@pytest.fixture
def sweep(solution: Solution, env: dict[str, Any], tmp_path: Path, swept: dict[Path, Sweep]) -> Sweep:
    """In a process of its own also inline, so that what it writes is all its own, and read when it has ended."""
    if solution.path not in swept:
        database = tmp_path / "sweep.db"
        client = solution.serve(isolated=True, **env | {"DATABASE_URL": f"sqlite:///{database}"})
        swept[solution.path] = make_sweep(App(client, database, solution.path))
    solution.transcript.append(f"The log, from an earlier run of all faults:\n{swept[solution.path].output[-3000:]}")
    return swept[solution.path]


def leave_halfway(address: tuple[str, int]) -> None:
    """Announce a body, send half of it, and leave."""
    with socket.create_connection(address) as connection:
        head = (
            b"POST /products HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\nX-Request-ID: half-a-body\r\n"
        )
        connection.sendall(head + b'Content-Length: 1000\r\n\r\n{"sku": ')


def make_sweep(app: App) -> Sweep:
    """Ask for everything that fails. Each request ID is the name of the fault, or as here."""
    sweep = Sweep()

    def ask(name: str, path: str, method: str = "GET", accept: str = "*/*", **options: Any) -> None:
        headers = {"Accept": accept, **options.pop("headers", {"X-Request-ID": name})}
        sweep.answers[name] = app.ask(path, method, headers=headers, **options)

    for name in FAULTS:
        ask(name, f"/faults/{name}")
    ask("endless", "/faults/endless", chunks=1)
    leave_halfway(app.client.address)
    ask("unknown-route", "/nothing")
    ask("unknown-method", "/products", "DELETE")
    ask("head", "/faults/unexpected", "HEAD")
    ask("page", "/faults/unexpected", accept="text/html")
    ask("client-page", "/faults/conflict", accept="text/html")
    ask("repeated-1", "/faults/unexpected", headers={"X-Request-ID": "repeated"})
    ask("repeated-2", "/faults/unexpected", headers={"X-Request-ID": "repeated"})
    ask("without-id", "/faults/unexpected", headers={})
    ask("malformed-id", "/faults/unexpected", headers={"X-Request-ID": "two words"})
    ask("product", "/products/KB-404")
    ask("invalid-product", "/products", "POST", json={"sku": "kb", "name": "Lamp", "stock": "of ours"})
    ask("forged-path", f"/nothing%0a{FORGED}%0d{FORGED}%e2%80%a8{FORGED}%ff")
    ask("forged-text", f"/faults/not-found?sku=%0a{FORGED}%0d%0a{FORGED}")
    with ThreadPoolExecutor(8) as pool:
        names = [f"at-once-{number}" for number in range(AT_ONCE)]
        list(pool.map(ask, names, ["/faults/unexpected", "/faults/conflict"] * (AT_ONCE // 2)))
    app.client.stop()
    assert app.client.process
    sweep.output, sweep.stdout = app.client.process.stderr, app.client.process.stdout
    return sweep
