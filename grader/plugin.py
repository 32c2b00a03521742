"""The pytest plugin: requirement marks, the `solution` fixture, backing services, results by requirement.

Options: --solution FOLDER tests another solution than the exercise's own; --isolated drives it as separate processes;
--results FILE writes the results as JSON; --requirement N runs that requirement's tests only.
"""

import contextlib
import re
import tempfile
import traceback
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from grader.exercises import Exercise, owner_of
from grader.launch import Launcher
from grader.results import Kind, Result, TestResult, gather
from grader.serving import PARSES_IN_THREADS, parse_one_at_a_time
from grader.solution import (
    START_SECONDS,
    Patience,
    SharedServers,
    Solution,
    SolutionCrashedError,
    SolutionTimedOutError,
)
from shared import services

pytest_plugins = ["grader.browser"]

SEEN = pytest.StashKey[TestResult]()
SUBJECT = pytest.StashKey[Solution]()
RUN = pytest.StashKey["Run"]()


class Run:
    """What this pytest process knows of the exercise that it tests."""

    def __init__(self, config: pytest.Config) -> None:
        self.isolated: bool = config.getoption("isolated")
        self.solution: Path | None = config.getoption("solution")
        self.tests: dict[Exercise, list[TestResult]] = {}
        self.launchers: dict[Path, Launcher] = {}
        self.patience = Patience(config.getoption("start_seconds"))
        self.shared = SharedServers()
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self.on_test: Callable[[TestResult], None] | None = None

    def folder(self, exercise: Exercise) -> Path:
        return (self.solution or exercise.path).resolve()

    def launcher(self, folder: Path) -> Launcher:
        return self.launchers.setdefault(folder, Launcher(folder))

    def results(self) -> list[Result]:
        return [
            gather(exercise, self.folder(exercise), tests, isolated=self.isolated)
            for exercise, tests in self.tests.items()
        ]

    @property
    def scratch(self) -> Path:
        """A folder for what running solutions write, gone at the end; one a run, since one a test costs 2 ms."""
        self._scratch = self._scratch or tempfile.TemporaryDirectory(prefix="solution-", ignore_cleanup_errors=True)
        return Path(self._scratch.name)

    def close(self) -> None:
        self.shared.cleanup.close()
        for launcher in self.launchers.values():
            launcher.close()
        if self._scratch:
            self._scratch.cleanup()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("exercises")
    group.addoption("--solution", type=Path, help="the folder of the solution to test (default: the exercise's own)")
    group.addoption("--isolated", action="store_true", help="run the solution as separate processes")
    group.addoption("--start-seconds", type=float, default=START_SECONDS, help="how long an app may take to listen")
    group.addoption("--results", type=Path, help="write the results by requirement to this file, as JSON")
    group.addoption("--requirement", type=int, action="append", help="run only this requirement's tests (repeatable)")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "requirement(number): the numbered requirement of the README that a test proves")
    config.stash[RUN] = Run(config)
    if not PARSES_IN_THREADS:
        parse_one_at_a_time()
    results = config.getoption("results")
    if results:
        results.unlink(missing_ok=True)  # an old file must not pass for the results of a run that did not start
    if results and any("::" in argument for argument in config.args):
        raise pytest.UsageError("--results needs all tests of an exercise, not chosen ones")
    folder = config.getoption("solution")
    if folder and not (folder / "app.py").is_file():
        raise pytest.UsageError(f"there is no app.py in {folder}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each test its requirement. A test without one, or with one that the README lacks, is the course's error."""
    run = config.stash[RUN]
    wanted = config.getoption("requirement")
    for item in list(items):
        exercise = owner_of(item.path)
        if exercise is None:
            continue
        numbers = [mark.args[0] for mark in item.iter_markers("requirement")]
        unknown = set(numbers) - set(exercise.requirements)
        if not numbers or unknown:
            problem = f"names requirement {unknown}, which the README lacks" if unknown else "names no requirement"
            raise pytest.UsageError(f"{item.nodeid} {problem}: mark it with @pytest.mark.requirement(n)")
        if wanted and numbers[0] not in wanted:
            items.remove(item)
            config.hook.pytest_deselected(items=[item])
            continue
        item.stash[SEEN] = TestResult(_sentence(item.name), numbers[0])
        run.tests.setdefault(exercise, []).append(item.stash[SEEN])
    if config.getoption("results") and len(run.tests) > 1:
        raise pytest.UsageError("--results takes the tests of one exercise at a time")


def _sentence(name: str) -> str:
    """`test_a_taken_sku_is_refused[on PUT]` → `a taken sku is refused [on PUT]`."""
    name, bracket, parameters = name.removeprefix("test_").partition("[")
    return name.replace("_", " ") + (f" [{parameters}" if bracket else "")


# What a test gets.


@pytest.fixture
def solution(request: pytest.FixtureRequest) -> Iterator[Solution]:
    """The solution under test; see grader.solution.Solution for what one may do with it."""
    run = request.config.stash[RUN]
    exercise = owner_of(request.path)
    assert exercise, "the solution fixture belongs to the tests of an exercise"
    folder = run.folder(exercise)
    subject = Solution(folder, run.isolated, run.scratch, run.launcher(folder), run.patience, run.shared)
    if request.config.getoption("usepdb"):
        subject.patience.seconds = 3600.0  # a person is thinking
    request.node.stash[SUBJECT] = subject
    if SEEN in request.node.stash:
        request.node.stash[SEEN].sent = subject.transcript
    with contextlib.closing(subject):
        yield subject


@pytest.fixture(scope="session")
def shared_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the files of a server that tests share; see Solution.serve_shared."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server: DATABASE_URL, else an embedded one, started once a run."""
    with services.postgres() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database that only this test has."""
    with services.new_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The URL of a server that speaks the Redis protocol: REDIS_URL, else an embedded Valkey, started once a run."""
    with services.redis() as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> Iterator[str]:
    """The URL of a Redis database that is empty before and after this test."""
    import redis  # noqa: PLC0415  only exercises with Redis have it

    with redis.Redis.from_url(redis_server) as connection:
        if connection.dbsize():
            pytest.fail(
                f"the Redis database {redis_server} is not empty; tests empty it, so name one that is", pytrace=False
            )
        yield redis_server
        connection.flushdb()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The URL of an S3 API: S3_ENDPOINT_URL, else moto's server, started once a run."""
    with services.s3() as url:
        yield url


# What a test showed.


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    seen = item.stash.get(SEEN, None)
    if seen is None:
        return report
    seen.seconds += report.duration
    if report.failed and seen.outcome != "failed":
        assert call.excinfo
        seen.outcome = "failed"
        _explain(seen, item, call.excinfo)
        seen.output = "\n".join(text for title, text in report.sections if "teardown" not in title)[-2000:]
        subject = item.stash.get(SUBJECT, None)
        if subject and "\n→ 5" in "\n".join(seen.sent[-3:]):  # an error of the server: its traceback says more
            seen.output += subject.errors()
        report.sections.insert(0, ("what was sent and what came", "\n\n".join(seen.sent) or "(nothing)"))
    elif report.skipped:
        seen.outcome = "skipped"
    elif report.when == "call" and report.passed:
        seen.outcome = "passed"
    if report.when == "teardown":
        run = item.config.stash[RUN]
        if run.on_test:
            run.on_test(seen)
    return report


def _explain(seen: TestResult, item: pytest.Item, caught: pytest.ExceptionInfo[BaseException]) -> None:
    error = caught.value
    seen.kind = _kind(error)
    frames = traceback.extract_tb(error.__traceback__)
    ours = next((frame for frame in reversed(frames) if frame.filename == str(item.path)), frames[-1])
    seen.where = f"{Path(ours.filename).name}:{ours.lineno}"
    seen.expected = _statement(ours).removeprefix("assert ")
    message = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
    message = re.sub(r"\n[^\n]*(?:Use -v |, use -vv? | where )[^\n]*", "", message)  # pytest's notes to itself
    seen.got = re.sub(r"^assert ", "", message.strip()) or "it does not hold"


def _kind(error: BaseException) -> Kind:
    if isinstance(error, SolutionTimedOutError):
        return "timed out"
    return "crashed" if isinstance(error, SolutionCrashedError) else "wrong"


def _statement(frame: traceback.FrameSummary) -> str:
    """The whole statement that failed, which may span lines."""
    lines = Path(frame.filename).read_text(encoding="utf-8").splitlines()
    start, end = frame.lineno or 1, frame.end_lineno or frame.lineno or 1
    return " ".join(line.strip() for line in lines[start - 1 : end])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    run = config.stash[RUN]
    if config.getoption("collectonly") or any("::" in argument for argument in config.args):
        return  # a verdict on requirements takes all of their tests
    for result in run.results():
        how = "isolated" if result.isolated else "inline"
        terminalreporter.section(f"{result.exercise}, {how}: {result.met} of {result.total} requirements met")
        for requirement in result.requirements:
            markup = {"met": {"green": True}, "not met": {"red": True}, "not reached": {"yellow": True}}
            terminalreporter.write(f"{requirement.status:>11}", **markup[requirement.status])
            terminalreporter.write_line(f"  {requirement.number}. {requirement.sentence}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    run = session.config.stash[RUN]
    run.close()
    file = session.config.getoption("results")
    if file and run.tests:
        run.results()[0].write(file)
