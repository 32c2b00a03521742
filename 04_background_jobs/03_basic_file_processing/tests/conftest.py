"""Files of orders to convert, and what came of them. Web servers are shared; workers are a test's own."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import redis

from grader.launch import Process
from grader.solution import Client, Solution, wait_until

Json = dict[str, Any]


def orders_in(content: bytes, file_format: str) -> list[Json]:
    """What a reader that knows nothing of our rules finds in a file."""
    text = content.decode()
    if file_format == "json":
        found: list[Json] = json.loads(text)
        return found
    if file_format == "jsonl":
        return [json.loads(line) for line in text.split("\n") if line]  # not splitlines(): it knows eight more ends
    if file_format == "csv":
        cells = list(csv.DictReader(io.StringIO(text, newline="")))
    else:
        root = ET.fromstring(content)  # noqa: S314  the solution has written it
        assert (root.tag, {element.tag for element in root}) in [("orders", {"order"}), ("orders", set())]
        cells = [{cell.tag: cell.text or "" for cell in element} for element in root]
    return [each | {"id": int(each["id"]), "quantity": int(each["quantity"])} for each in cells]


@dataclass
class Outcome:
    """What a command came to."""

    exit_code: int
    report: Json
    stderr: str
    target: Path

    @property
    def written(self) -> list[Json]:
        return orders_in(self.target.read_bytes(), self.target.suffix[1:])

    @property
    def error(self) -> Json:
        error = self.report["error"]
        assert error, "no error is reported"
        return dict(error)

    @property
    def problem(self) -> Json:
        """The only problem."""
        (problem,) = self.report["problems"]
        return dict(problem)


Convert = Callable[..., Outcome]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where IN and OUT are, and nothing else."""
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


@pytest.fixture
def convert(solution: Solution, folder: Path) -> Convert:
    """Write content to IN in the folder, convert it to OUT there, and return what that came to."""

    def convert(content: bytes, source: str, target: str = "out.jsonl", limit: int | None = None) -> Outcome:
        (folder / source).write_bytes(content)
        most = None if limit is None else str(limit)
        finished = solution.run("convert", str(folder / source), str(folder / target), MAX_FILE_BYTES=most)
        assert "Traceback" not in finished.stderr, finished.stderr
        return Outcome(finished.exit_code, finished.json(), finished.stderr, folder / target)

    return convert


# In the background.


@pytest.fixture
def environment(redis_url: str, shared_path: Path) -> Json:
    """Ask for it before `solution`: fixtures end in the opposite order, workers before Redis is emptied."""
    return {"REDIS_URL": redis_url, "DATA_DIR": str(shared_path / "data"), "HEARTBEAT_SECONDS": "1"}


@pytest.fixture
def client(environment: Json, solution: Solution) -> Client:
    return solution.serve_shared(**environment)


@pytest.fixture
def start_worker(environment: Json, solution: Solution) -> Iterator[Callable[..., Process]]:
    """Start a worker with these variables. At the end of the test all of them are killed."""
    workers: list[Process] = []

    def start_worker(**changes: str) -> Process:
        workers.append(solution.start("worker", **environment | changes))
        return workers[-1]

    yield start_worker
    for worker in workers:
        worker.kill()
    # For a moment Redis takes one that was killed for one that waits, and would give it the next test's first job.
    with redis.Redis.from_url(environment["REDIS_URL"]) as connection:
        database = str(connection.get_connection_kwargs()["db"])

        def waiting() -> list[Json]:
            clients: list[Json] = connection.client_list()
            return [each for each in clients if each["db"] == database and "b" in each["flags"]]

        wait_until(lambda: not waiting())


@pytest.fixture
def submit(client: Client) -> Callable[..., str]:
    """Upload a file, expect that the job is accepted, and return where its state is."""

    def submit(content: bytes, source: str, target: str = "jsonl", on: Client = client) -> str:
        response = on.post("/files", params={"from": source, "to": target}, content=content)
        assert response.status_code == 202, response.text
        location: str = response.headers["Location"]
        return location

    return submit


@pytest.fixture
def wait_for(client: Client) -> Callable[..., Json]:
    """Wait until the job has ended, or what is said of it is as wanted, and return that."""

    def has_ended(job: Json) -> bool:
        return job["state"] in ("finished", "failed")

    def wait_for(location: str, wanted: Callable[[Json], bool] = has_ended, timeout: float = 10) -> Json:
        seen: list[Json] = []

        def reached() -> bool:
            seen[:] = [client.get(location).json()]
            return wanted(seen[0])

        try:
            wait_until(reached, timeout)
        except AssertionError:
            raise AssertionError(f"this is not what was waited for, after {timeout:g} s: {seen}") from None
        return seen[0]

    return wait_for
