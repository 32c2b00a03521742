"""One server serves most tests. A worker is a test's own: it starts within moments and ends with the test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from grader.launch import Process
from grader.solution import Client, Solution, wait_until

Json = dict[str, Any]


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    """The mail servers of this test: example.com is up, every other one is down until it gets a folder."""
    folder = tmp_path / "outbox"
    (folder / "example.com").mkdir(parents=True)
    return folder


@pytest.fixture
def environment(redis_url: str, shared_path: Path, outbox: Path) -> dict[str, str]:
    """Quick by default: a failed job has one more attempt, at once, and reports are written without delay.

    Ask for it before `solution`: fixtures end in the opposite order, and workers must end before Redis is emptied.
    """
    return {
        "REDIS_URL": redis_url,
        "DATA_DIR": str(shared_path / "data"),
        "OUTBOX_DIR": str(outbox),
        "RETRY_SECONDS": "[0]",
        "JOB_TIMEOUT": "30",
        "HEARTBEAT_SECONDS": "1",
        "ROW_SECONDS": "0",
    }


@pytest.fixture
def serve(environment: dict[str, str], solution: Solution) -> Callable[..., Client]:
    """Return a client on a server with these variables, which tests that ask for the same ones share."""

    def serve(**changes: str) -> Client:
        # Mail is the workers' business; without its folder, which is the test's own, servers can be shared.
        variables = {name: value for name, value in environment.items() if name != "OUTBOX_DIR"}
        return solution.serve_shared(**variables | changes)

    return serve


@pytest.fixture
def client(serve: Callable[..., Client]) -> Client:
    return serve()


@pytest.fixture
def start_worker(environment: dict[str, str], solution: Solution) -> Iterator[Callable[..., Process]]:
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
        wait_until(lambda: connection.info("clients")["blocked_clients"] == 0)


@pytest.fixture
def submit(client: Client) -> Callable[..., str]:
    """Post to a path, expect that the job is accepted, and return where its status is."""

    def submit(path: str, json: Json | None = None, on: Client = client, **request: Any) -> str:
        response = on.post(path, json=json, **request) if json else on.post(path, **request)
        assert response.status_code == 202, response.text
        location: str = response.headers["Location"]
        return location

    return submit


@pytest.fixture
def wait_for(client: Client) -> Callable[..., Json]:
    """Wait until the job has one of the statuses, and return what is said of it then."""

    def wait_for(location: str, *statuses: str, timeout: float = 10) -> Json:
        seen: list[Json] = []

        def reached() -> bool:
            status = client.get(location).json()
            seen[:] = [status]
            # A job that has just been started still has its attempt to count.
            return status["status"] in statuses and (status["status"] != "started" or status["attempts"] > 0)

        try:
            wait_until(reached, timeout)
        except AssertionError:
            raise AssertionError(f"the job is not {' or '.join(statuses)} after {timeout:g} s: {seen}") from None
        return seen[0]

    return wait_for
