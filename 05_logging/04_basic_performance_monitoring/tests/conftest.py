"""One server serves most tests, which compare the metrics before and after; workers and Prometheus start once a run."""

import json
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client import mmap_dict
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from grader.launch import Process, clean_environment, free_address, wait_for
from grader.solution import Client, Solution, SolutionCrashedError, SolutionTimedOutError

TOKEN = secrets.token_urlsafe()
START_SECONDS = 60
REQUESTS, DURATION_METRIC = "http_requests_total", "http_request_duration_seconds"
COMPRESSION = 150  # the real Prometheus sees an hour as 24 seconds, and five minutes as two
DURATION = re.compile(r"(?<![\w.])(?:\d+(?:ms|[smhdwy]))+(?!\w)")
MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}


@dataclass(frozen=True)
class Samples:
    """What /metrics said at one moment."""

    samples: list[Sample]

    @classmethod
    def parse(cls, text: str) -> "Samples":
        return cls([sample for family in text_string_to_metric_families(text) for sample in family.samples])

    def total(self, name: str, **labels: str) -> float:
        """The sum of all series of that name that have these labels."""
        return sum(sample.value for sample in self.matching(name, labels))

    def values_of(self, label: str, name: str = REQUESTS) -> set[str]:
        return {sample.labels[label] for sample in self.matching(name, {})}

    def matching(self, name: str, labels: dict[str, str]) -> list[Sample]:
        return [
            sample for sample in self.samples if sample.name == name and labels.items() <= dict(sample.labels).items()
        ]


@pytest.fixture
def token() -> str:
    return TOKEN


@pytest.fixture
def client(solution: Solution) -> Client:
    return solution.serve_shared(METRICS_TOKEN=TOKEN)


@pytest.fixture
def scrape() -> Callable[[Client], Samples]:
    """What the metrics of a server are now."""

    def scrape(client: Client) -> Samples:
        response = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        assert response.status_code == 200
        return Samples.parse(response.text)

    return scrape


# Several workers.


@dataclass
class Workers:
    """`serve --workers N`, with a connection to each worker by its process ID."""

    process: Process
    address: tuple[str, int]
    number: int
    folder: Path
    connections: dict[int, HTTPConnection] = field(default_factory=dict)

    def connect(self) -> dict[int, HTTPConnection]:
        """A new connection to each worker."""
        self.close()
        deadline = time.monotonic() + START_SECONDS
        while len(self.connections) < self.number:
            if time.monotonic() > deadline:
                answering = f"only {len(self.connections)} of {self.number} workers answer"
                raise SolutionTimedOutError(f"{answering} /health with their pid")
            if self.process.exit_code is not None:
                raise SolutionCrashedError(f"serve --workers {self.number} ended: {self.process.output[-1000:]}")
            for idle in self.connections.values():
                self.get(idle, "/health")  # or the worker closes it after five seconds
            connection = HTTPConnection(*self.address, timeout=10)
            try:
                pid = json.loads(self.get(connection, "/health"))["pid"]
            except (OSError, HTTPException, ValueError, KeyError):
                pid = None
                time.sleep(0.05)
            if pid is None or pid in self.connections:
                connection.close()
            else:
                self.connections[pid] = connection
        return self.connections

    def get(self, connection: HTTPConnection, path: str) -> str:
        connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
        return connection.getresponse().read().decode()

    def scrape(self, connection: HTTPConnection) -> Samples:
        return Samples.parse(self.get(connection, "/metrics"))

    def close(self) -> None:
        for connection in self.connections.values():
            connection.close()
        self.connections.clear()


_workers: dict[tuple[Path, int], Workers | Exception] = {}


@pytest.fixture(scope="session")
def for_the_run() -> Iterator[ExitStack]:
    """What is started once ends with the test run."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def left_overs() -> Callable[[Path], None]:
    """Put into a folder what a process of an earlier start left there, and a file that is not one of these."""
    return _leave_files


@pytest.fixture
def workers(solution: Solution, for_the_run: ExitStack) -> Workers:
    """Two workers on one port. In the folder of their metrics something is left of an earlier start."""
    return _workers_of(solution, for_the_run, 2)


@pytest.fixture
def three_workers(solution: Solution, for_the_run: ExitStack) -> Workers:
    """Three workers, to which PROMETHEUS_MULTIPROC_DIR names no folder."""
    return _workers_of(solution, for_the_run, 3)


def _workers_of(solution: Solution, stack: ExitStack, number: int) -> Workers:
    key = solution.path, number
    if key not in _workers:
        _workers[key] = _start_workers(solution, stack, number)
    started = _workers[key]
    if isinstance(started, Exception):
        raise started
    try:
        started.connect()
    except (SolutionCrashedError, SolutionTimedOutError) as error:
        _workers[key] = error
        raise
    return started


def _start_workers(solution: Solution, stack: ExitStack, number: int) -> Workers:
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="workers-", ignore_cleanup_errors=True)))
    folder = scratch / "metrics"
    folder.mkdir()
    _leave_files(folder)
    address = free_address()
    env = {"HOST": address[0], "PORT": str(address[1]), "METRICS_TOKEN": TOKEN, "SLOW_SECONDS": "0.2"}
    env |= {"PROMETHEUS_MULTIPROC_DIR": str(folder)} if number == 2 else {"TMPDIR": str(scratch)}
    environment = clean_environment({"HOME": str(scratch), **env})
    process = solution.launcher.start(solution.app, ["serve", "--workers", str(number)], environment, scratch, b"")
    stack.callback(process.kill)
    workers = Workers(process, address, number, folder)
    stack.callback(workers.close)
    return workers


def _leave_files(folder: Path) -> None:
    library: Any = mmap_dict  # it has no types
    request = {"method": "GET", "route": "/left-over", "status_class": "2xx"}
    for file, metric, name, labels in (
        ("counter_1.db", "http_requests", REQUESTS, request),
        ("histogram_1.db", DURATION_METRIC, f"{DURATION_METRIC}_sum", request),
        ("gauge_livesum_1.db", "http_requests_in_progress", "http_requests_in_progress", {"method": "LEFT-OVER"}),
    ):
        old = library.MmapedDict(str(folder / file))
        old.write_value(library.mmap_key(metric, name, list(labels), list(labels.values()), ""), 99, 0)
        old.close()
    (folder / "notes.txt").write_text("not a worker's", encoding="utf-8")


# promtool and Prometheus.


@pytest.fixture
def promtool(tmp_path: Path) -> Callable[..., str]:
    """Run promtool; return what it says if it fails, and nothing if it succeeds."""
    program = find("promtool")

    def run(*arguments: str | Path, stdin: str = "", folder: Path = tmp_path) -> str:
        done = subprocess.run(
            [program, *arguments],
            input=stdin,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        return done.stdout if done.returncode else ""

    return run


def find(program: str) -> str:
    """The path of a program. Without it the test is skipped, or fails in CI, which must not pass without a look."""
    path = shutil.which(program)
    if path is None:
        message = f"there is no {program}: install Prometheus (Debian: apt-get install prometheus)"
        if os.environ.get("CI"):
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    return path


@dataclass
class Prometheus:
    """A Prometheus that scrapes two apps, as the jobs `failing` and `healthy`, five times a second."""

    address: tuple[str, int]
    failing: Client
    healthy: Client

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query. Raises AssertionError for one that is not PromQL."""
        status, body = _get(self.address, f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
        assert status == 200, f"{expression}: {body}"
        result: list[dict[str, Any]] = json.loads(body)["data"]["result"]
        return result

    def firing(self, job: str) -> set[str]:
        """The names of the alerts that fire for a job."""
        found = self.query(f'ALERTS{{alertstate="firing", job="{job}"}}')
        return {alert["metric"]["alertname"] for alert in found}


_prometheus: dict[Path, tuple[tuple[str, int], subprocess.Popen[bytes]]] = {}


@pytest.fixture
def prometheus(solution: Solution, for_the_run: ExitStack) -> Prometheus:
    """A real Prometheus with the solution's prometheus.yml and alerts.yml, all durations in them divided by 150."""
    return _prometheus_of(solution, find("prometheus"), for_the_run)


@pytest.fixture(autouse=True)
def slow_starters_start_early(request: pytest.FixtureRequest, solution: Solution, for_the_run: ExitStack) -> None:
    """Workers import for seconds, and Prometheus looks for its targets after five: let other tests run meanwhile."""
    needed = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    with suppress(Exception):  # the tests that need them will say what is wrong
        program = shutil.which("prometheus")
        if program and "prometheus" in needed and solution.path not in _prometheus:
            _prometheus_of(solution, program, for_the_run)
        for name, number in (("workers", 2), ("three_workers", 3)):
            if name in needed and (solution.path, number) not in _workers:
                _workers[solution.path, number] = _start_workers(solution, for_the_run, number)


def _prometheus_of(solution: Solution, program: str, stack: ExitStack) -> Prometheus:
    failing = solution.serve_shared(METRICS_TOKEN=TOKEN, SLOW_SECONDS="10")
    healthy = solution.serve_shared(METRICS_TOKEN=TOKEN, SLOW_SECONDS="11")
    targets = {"failing": failing.address, "healthy": healthy.address}
    running = _prometheus.get(solution.path)
    if running is None or running[1].poll() is not None:
        running = _prometheus[solution.path] = _start_prometheus(program, solution.path, targets, stack)
    return Prometheus(running[0], failing, healthy)


def _start_prometheus(
    program: str, solution: Path, targets: dict[str, tuple[str, int]], stack: ExitStack
) -> tuple[tuple[str, int], subprocess.Popen[bytes]]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="prometheus-", ignore_cleanup_errors=True)))
    rules = yaml.safe_load((solution / "alerts.yml").read_text(encoding="utf-8"))
    (folder / "alerts.yml").write_text(json.dumps(compressed(rules)), encoding="utf-8")
    config = yaml.safe_load((solution / "prometheus.yml").read_text(encoding="utf-8"))
    scraped = config["scrape_configs"][0]
    scraped["authorization"] = {"type": "Bearer", "credentials": TOKEN}
    config["scrape_configs"] = [
        {**scraped, "job_name": job, "static_configs": [{"targets": [f"{host}:{port}"]}]}
        for job, (host, port) in targets.items()
    ]
    config["global"] = {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"}
    config["rule_files"] = ["alerts.yml"]
    (folder / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")
    address = free_address()
    listen = "{}:{}".format(*address)
    options = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={listen}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, *options], cwd=folder, stdout=log, stderr=log)
    stack.callback(process.wait, 10)
    stack.callback(process.kill)
    if not wait_for(lambda: _is_ready(address) or process.poll() is not None, START_SECONDS, pause=0.02):
        pytest.fail("Prometheus does not start")
    assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
    return address, process


def _is_ready(address: tuple[str, int]) -> bool:
    try:
        return _get(address, "/-/ready")[0] == 200
    except OSError:
        return False


def _get(address: tuple[str, int], path: str) -> tuple[int, str]:
    with closing(HTTPConnection(*address, timeout=10)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def compressed(rules: Any) -> Any:
    """The rules with every duration in `expr`, `for` and `interval` divided by COMPRESSION."""
    if isinstance(rules, list):
        return [compressed(each) for each in rules]
    if not isinstance(rules, dict):
        return rules
    return {
        key: DURATION.sub(_shorter, value)
        if key in ("expr", "for", "interval", "keep_firing_for") and isinstance(value, str)
        else compressed(value)
        for key, value in rules.items()
    }


def _shorter(found: re.Match[str]) -> str:
    parts = re.findall(r"(\d+)(ms|[smhdwy])", found[0])
    milliseconds = sum(int(number) * MILLISECONDS[unit] for number, unit in parts) / COMPRESSION
    return f"{max(round(milliseconds), 200)}ms"
