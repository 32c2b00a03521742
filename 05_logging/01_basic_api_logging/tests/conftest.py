"""Tests read what the app writes to standard output, so it runs as a process of its own, also in an inline run."""

import dataclasses
import itertools
import json
from collections.abc import Callable
from typing import Any, NoReturn

import httpx2
import pytest

from grader.launch import wait_for
from grader.solution import Client, Solution

Json = dict[str, Any]
MARK = "/mark-"
marks = itertools.count(1)


def no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def parsed(line: str) -> Json:
    """A line of the log. AssertionError when it is not one JSON object, as RFC 8259 has it, in valid UTF-8."""
    try:
        entry = json.loads(line, parse_constant=no_constant)
        json.dumps(entry, ensure_ascii=False).encode()
    except ValueError as error:
        raise AssertionError(f"a line of the log is not JSON ({error}): {line[:300]!r}") from None
    assert isinstance(entry, dict), f"a line of the log is not an object: {line[:300]!r}"
    return entry


class Log:
    """What a running app has logged since this test began."""

    patience = 5.0

    def __init__(self, client: Client, env: dict[str, str], start: int | None = None) -> None:
        self.client = client
        least = {"WARNING": 400, "ERROR": 500}.get(env.get("LOG_LEVEL", "INFO"), 100)
        self.least_status = max(least, 400 if "LOG_SAMPLE" in env else 100)
        self.start = self._written().rfind("\n") + 1 if start is None else start
        self.answers: dict[str, bool] = {}
        """The IDs of the answers to this test's requests, in their order, and whether each must have a line."""
        client.event_hooks = {"response": [self._note]}

    def _note(self, response: httpx2.Response) -> None:
        is_health = response.status_code < 400 and response.request.url.path == "/health"
        is_wanted = response.status_code >= self.least_status and not is_health
        self.answers[response.headers.get("X-Request-ID", "")] = is_wanted

    def post(self, body: str | bytes, content_type: str = "application/json", path: str = "/orders") -> None:
        self.client.post(path, content=body, headers={"Content-Type": content_type})

    def _written(self) -> str:
        assert self.client.process
        return self.client.process.stdout

    def text(self) -> str:
        return self._written()[self.start :]

    def output(self) -> str:
        """All that the app has written so far, to standard error as well."""
        self.settle()
        return self.client.output

    def settle(self) -> None:
        """Wait for the line of each answer that must have one, in any order; one more request comes last."""
        self.client.get(f"{MARK}{next(marks)}-end")
        wanted = {identifier for identifier, is_wanted in self.answers.items() if is_wanted and identifier}
        found = self.wait_for(lambda: wanted <= {entry.get("request_id") for entry in self.entries(message="request")})
        assert found, "a request that has been answered is not logged, or not with the ID of its answer"

    def wait_for(self, condition: Callable[[], bool]) -> bool:
        """Wait for some seconds, later for less: a solution that logs nothing need not keep its learner waiting."""
        found = wait_for(condition, Log.patience)
        Log.patience = Log.patience if found else 0.5
        return found

    def entries(self, **fields: object) -> list[Json]:
        """The lines with these fields."""
        lines = map(parsed, self.text().rpartition("\n")[0].splitlines())
        return [entry for entry in lines if all(entry.get(name) == value for name, value in fields.items())]

    def lines(self, count: int, **fields: object) -> list[Json]:
        """The lines with these fields, once there are so many, or after some seconds."""
        self.wait_for(lambda: len(self.entries(**fields)) >= count)
        return self.entries(**fields)

    def requests(self, **fields: object) -> list[Json]:
        """The lines of this test's requests with these fields, once all have been logged, in the answers' order."""
        self.settle()
        order = list(self.answers)
        found = [entry for entry in self.entries(message="request", **fields) if not entry["path"].startswith(MARK)]
        return sorted(found, key=lambda entry: order.index(entry["request_id"]) if entry["request_id"] in order else -1)

    def request(self, **fields: object) -> Json:
        """The line of the one request with these fields. AssertionError when there is none, or more than one."""
        self.wait_for(lambda: bool(self.entries(message="request", **fields)))
        found = self.requests(**fields)
        assert len(found) == 1, f"{len(found)} lines are logged for one request"
        return found[0]


Serve = Callable[..., Log]


@pytest.fixture
def served(solution: Solution) -> Serve:
    """Serve the app as a process that all tests share which ask for the same settings; return its log."""
    processes = dataclasses.replace(solution, isolated=True)

    def served(**env: Any) -> Log:
        return Log(processes.serve_shared(**env), env)

    return served


@pytest.fixture
def served_alone(solution: Solution) -> Serve:
    """Serve the app as a process that only this test has; return its log from the first line on."""

    def served_alone(**env: str) -> Log:
        return Log(solution.serve(isolated=True, **env), env, start=0)

    return served_alone


@pytest.fixture
def log(served: Serve) -> Log:
    """The log of an app with default settings."""
    return served()


@pytest.fixture
def client(log: Log) -> Client:
    return log.client


@pytest.fixture
def debug_log(served: Serve) -> Log:
    """The log of an app that logs bodies too."""
    return served(LOG_LEVEL="DEBUG")
