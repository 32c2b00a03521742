"""The learner's check: what of the requirements holds, and for the first that does not, what came instead."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from grader.exercises import CourseError, Exercise
from grader.progress import results_file
from grader.results import RequirementResult, Result, TestResult
from grader.starter import fingerprint, shown

SHOWN_EXCHANGES = 2
SHOWN_LINES = 14
MARKS = {"met": ("✓", "32"), "not met": ("✗", "31"), "not reached": ("-", "33")}


def check(exercise: Exercise, folder: Path | None, *, hints: bool) -> int:
    """Grade the workspace, or the solution in `folder`; print a verdict for each requirement as it falls.

    Returns 0 when all are met, else 1. Raises CourseError when there is nothing to check.
    """
    solution = folder or exercise.workspace
    if not (solution / "app.py").is_file():
        how = f"make your copy first: nox -s start -- {exercise.name}" if folder is None else "a solution has one"
        raise CourseError(f"there is no app.py in {shown(solution)}; {how}")
    print(f"{exercise.name}: {shown(solution)}\n", flush=True)
    reporter = Reporter(exercise, hints=hints)
    arguments = ["-p", "no:terminal", "--isolated", f"--solution={solution}", str(exercise.tests)]
    code = pytest.main(arguments, plugins=[reporter])
    if reporter.result is None:
        raise CourseError(f"the tests did not run (pytest ended with {code!r}); this is not your solution's fault")
    result = reporter.result
    if folder is None:
        remember(exercise, result)
    _print_summary(exercise, result)
    return 0 if result.met == result.total else 1


class Reporter:
    """A pytest plugin that prints a requirement's verdict once its last test has ended."""

    def __init__(self, exercise: Exercise, *, hints: bool) -> None:
        self._exercise = exercise
        self._all_hints = hints
        self._ended: dict[int, int] = {}
        self._told: set[str] = set()
        self._results: Callable[[], list[Result]] = list
        self.result: Result | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        from grader.plugin import RUN  # noqa: PLC0415  pytest has to import it first, to rewrite its assertions

        config.option.verbose = 1  # values in full
        config.option.tbstyle = "line"  # our report shows the failure; a rendered traceback would cost 20 ms each
        run = config.stash[RUN]
        run.on_test = self._note
        self._results = run.results

    def pytest_sessionfinish(self) -> None:
        self.result = next(iter(self._results()), None)

    def _note(self, test: TestResult) -> None:
        number = test.requirement
        self._ended[number] = self._ended.get(number, 0) + 1
        own = next(item for item in self._results()[0].requirements if item.number == number)
        if self._ended[number] == len(own.tests):
            print_requirement(self._exercise, own, all_hints=self._all_hints, told_before=self._told)


def print_requirement(
    exercise: Exercise, requirement: RequirementResult, *, all_hints: bool, told_before: set[str]
) -> None:
    """Print the verdict, and the first failure in full: one thing to mend at a time.

    `told_before` has the crashes that were told already; one more is added to it.
    """
    mark, colour = MARKS[requirement.status]
    passed = sum(test.outcome == "passed" for test in requirement.tests)
    count = f"{passed} of {len(requirement.tests)} tests passed"
    print(f"{coloured(mark, colour)} {requirement.number}. {requirement.sentence} ({count})", flush=True)
    if not requirement.failures:
        return
    first, *more = sorted(requirement.failures, key=lambda test: test.kind != "crashed")
    print_failure(first, told_before)
    if more:
        print(f"    and {len(more)} more, for instance: {more[0].name}")
    hints = exercise.hints.get(requirement.number, []) if first.kind == "wrong" else []
    for hint in hints if all_hints else hints[:1]:
        print(_block("hint", hint, "36"))
    if len(hints) > 1 and not all_hints:
        print(f"    (more hints: nox -s check -- {exercise.name} --hints)")
    print(flush=True)


def print_failure(test: TestResult, told: set[str]) -> None:
    """What was sent, what was expected, what came; a crash and a time-out have nothing else to tell."""
    print(f"    {coloured(test.kind or 'failed', '31')}: {test.name}  ({test.where})")
    if test.kind != "wrong" and test.got in told:
        print(_block("got", "the same as above"))
        return
    told.add(test.got)
    if test.sent:
        print(_block("sent", "\n".join(test.sent[-SHOWN_EXCHANGES:])))
    if test.kind == "wrong":
        print(_block("expected", test.expected))
    print(_block("got", test.got))
    if test.output:
        print(_block("it said", test.output))


def _block(title: str, text: str, colour: str = "1") -> str:
    lines = text.strip().splitlines()
    if len(lines) > SHOWN_LINES:
        lines = [*lines[: SHOWN_LINES // 2], "…", *lines[-SHOWN_LINES // 2 :]]
    body = textwrap.indent("\n".join(line[:200] for line in lines), " " * 15).strip()
    return f"      {coloured(f'{title:8}', colour)} {body}"


def _print_summary(exercise: Exercise, result: Result) -> None:
    unreached = [item for item in result.requirements if item.status == "not reached"]
    for requirement in unreached:
        print_requirement(exercise, requirement, all_hints=False, told_before=set())
    print(f"{result.met} of {result.total} requirements met.")
    if result.met < result.total:
        number = next(item.number for item in result.requirements if item.status != "met")
        print(f"Next: requirement {number}. The task and more hints: {shown(exercise.path / 'README.md')}")


def remember(exercise: Exercise, result: Result) -> None:
    """Keep the result for `progress`, with a fingerprint of what it judges."""
    file = results_file(exercise)
    result.write(file)
    file.with_suffix(".sha256").write_text(fingerprint(exercise.workspace), encoding="utf-8")


def watch(exercise: Exercise, folder: Path | None, arguments: list[str]) -> None:
    """Check again whenever a file of the solution changes, until Ctrl-C."""
    solution = folder or exercise.workspace
    if not solution.is_dir():
        raise CourseError(f"there is no {shown(solution)}; make your copy first: nox -s start -- {exercise.name}")
    seen = ""
    while True:
        try:
            now = fingerprint(solution)
        except OSError:  # an editor that saves by renaming, in the middle of it
            now = seen
        if now != seen:
            seen = now
            print("\033[2J\033[H" if sys.stdout.isatty() else "\n", end="", flush=True)
            subprocess.run([sys.executable, "-m", "grader", "check", exercise.name, *arguments], check=False)
            print("Watching for changes; Ctrl-C ends.", flush=True)
        time.sleep(0.2)


def coloured(text: str, code: str) -> str:
    wanted = "FORCE_COLOR" in os.environ or (sys.stdout.isatty() and "NO_COLOR" not in os.environ)
    return f"\033[{code}m{text}\033[0m" if wanted else text
