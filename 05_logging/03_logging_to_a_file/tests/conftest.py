"""Tests read the files that the app writes. It runs as a process of its own, since logging is one for a process."""

import contextlib
import dataclasses
import fcntl
import gzip
import json
import logging
import os
import re
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest

from grader.solution import Client, Solution, wait_until

Json = dict[str, Any]
TIME = "%Y-%m-%dT%H-%M-%S.%fZ"
ROTATED = re.compile(r"api\.log\.\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{6}Z\.gz")


def no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def parsed(line: bytes) -> Json:
    """A line of the log. AssertionError when it is not one JSON object in UTF-8."""
    try:
        entry = json.loads(line.decode(), parse_constant=no_constant)
        json.dumps(entry, ensure_ascii=False).encode()
    except ValueError as error:
        raise AssertionError(f"a line of the log is not JSON ({error}): {line[:200]!r}") from None
    assert isinstance(entry, dict), f"a line of the log is not an object: {line[:200]!r}"
    return entry


class LogFolder:
    """The files in LOG_DIR."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.current = path / "api.log"

    def rotated(self) -> list[Path]:
        """The gzipped files, oldest first."""
        return sorted(file for file in self.path.glob("api.log.*") if ROTATED.fullmatch(file.name))

    def unfinished(self) -> list[str]:
        """What is neither `api.log` nor gzipped, apart from lock files."""
        allowed = {"api.log", *(file.name for file in self.rotated())}
        return [file.name for file in self.path.iterdir() if file.name not in allowed and "lock" not in file.name]

    def texts(self) -> list[bytes]:
        """What is in each file, oldest first, `api.log` last."""
        texts = [gzip.decompress(content_of(file)) for file in self.rotated()]
        return [*texts, content_of(self.current)]

    def lines(self) -> list[bytes]:
        return [line for text in self.texts() for line in text.split(b"\n")[:-1]]

    def entries(self, **fields: object) -> list[Json]:
        """The lines with these fields."""
        return [entry for entry in map(parsed, self.lines()) if entry.items() >= fields.items()]

    def messages(self) -> list[str]:
        return [entry["message"] for entry in self.entries()]

    def entry(self, **fields: object) -> Json:
        """The one line with these fields, as soon as it is there."""
        found = wait_until(lambda: self.entries(**fields), 5, f"no line with {fields} came into the log")
        assert len(found) == 1, f"{len(found)} lines with {fields}"
        return dict(found[0])

    def add(self, age: float, content: bytes = b"", ending: str = ".gz") -> Path:
        """A rotated file whose last line was written `age` days ago. It was copied since: its mtime says nothing."""
        self.path.mkdir(exist_ok=True)
        now = datetime.now(UTC)
        file = self.path / f"api.log.{(now - timedelta(days=age)).strftime(TIME)}{ending}"
        file.write_bytes(gzip.compress(content) if ending == ".gz" else content)
        touch(file, now - timedelta(days=500 - age))
        return file

    def leave(self, content: bytes, last_change: datetime) -> None:
        """An `api.log` from before."""
        self.path.mkdir(exist_ok=True)
        self.current.write_bytes(content)
        touch(self.current, last_change)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock on `api.log`: nobody writes to it meanwhile, as on a disk that hangs."""
        self.path.mkdir(exist_ok=True)
        with self.current.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def touch(file: Path, changed: datetime) -> None:
    os.utime(file, (changed.timestamp(), changed.timestamp()))


def content_of(file: Path) -> bytes:
    """What is in the file; nothing when it has just been renamed or removed."""
    with contextlib.suppress(FileNotFoundError):
        return file.read_bytes()
    return b""


Serve = Callable[..., Client]


@pytest.fixture
def folder(tmp_path: Path) -> LogFolder:
    """The log folder of this test's processes, which is not there yet."""
    return LogFolder(tmp_path / "logs")


@pytest.fixture
def env(folder: LogFolder) -> dict[str, Any]:
    """Production, with the log in this test's folder."""
    return {"ENVIRONMENT": "production", "LOG_DIR": str(folder.path)}


@pytest.fixture
def serve(solution: Solution, env: dict[str, Any]) -> Serve:
    """Serve the app for this test only, as a process."""

    def serve(**more: str | None) -> Client:
        return solution.serve(isolated=True, **(env | more))

    return serve


@pytest.fixture
def shop_log(shared_path: Path) -> LogFolder:
    """The log folder of the server that tests share."""
    return LogFolder(shared_path / "logs")


@pytest.fixture
def shop(solution: Solution, shop_log: LogFolder) -> Client:
    """A server that tests share, each with request IDs of its own."""
    processes = dataclasses.replace(solution, isolated=True)
    return processes.serve_shared(ENVIRONMENT="production", LOG_DIR=str(shop_log.path))


@pytest.fixture(autouse=True)
def _own_root_logger_and_signals() -> Iterator[None]:
    """What an app that runs inline does to the root logger, and to signals, ends with the test."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for handler in [handler for handler in root.handlers if handler not in before]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    for number, action in signals.items():
        signal.signal(number, action)
