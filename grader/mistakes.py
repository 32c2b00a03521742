"""Known-wrong solutions: each is a patch that names the requirement it breaks, and the tests must see that."""

import os
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from grader.exercises import CourseError, Exercise, cores
from grader.judge import Judge, warm_judge
from grader.results import TestResult
from grader.starter import copy_solution, fingerprint, make_starter


@dataclass(frozen=True)
class Mistake:
    """A patch: prose, `Breaks: N`, and a diff that `git apply` takes in the exercise's folder."""

    path: Path
    prose: str
    breaks: int

    @property
    def name(self) -> str:
        return self.path.stem

    @classmethod
    def read(cls, path: Path) -> "Mistake":
        """Read a patch; CourseError when its head lacks the prose or the requirement."""
        head = re.split(r"^(?:diff |--- )", path.read_text(encoding="utf-8"), maxsplit=1, flags=re.MULTILINE)[0]
        breaks = re.search(r"^Breaks: (\d+)$", head, re.MULTILINE)
        prose = " ".join(re.sub(r"^Breaks:.*$", "", head, flags=re.MULTILINE).split())
        if not breaks or not prose:
            raise CourseError(f"{path.name} must begin with what is wrong, and a line `Breaks: N`")
        return cls(path, prose, int(breaks[1]))


def prove(exercise: Exercise) -> list[str]:
    """Run the tests against each mistake; return what is wrong with the mistakes or the tests, a line each."""
    if not exercise.mistakes:
        return [f"{exercise.name}: there are no mistakes to prove the tests with"]
    with warm_judge(exercise) as judge, ThreadPoolExecutor(cores()) as pool:
        problems = list(pool.map(lambda path: prove_one(judge, path), exercise.mistakes))
    return [problem for problem in problems if problem]


def prove_one(judge: Judge, path: Path) -> str:
    """Run the tests of the requirement that a mistake breaks; return what is wrong, or nothing if they catch it."""
    try:
        mistake = Mistake.read(path)
        with tempfile.TemporaryDirectory(prefix="mistake-", ignore_cleanup_errors=True) as temporary:
            folder = Path(temporary) / "solution"
            _make(judge.exercise, mistake, folder)
            _catch(judge, mistake, folder)
    except CourseError as error:
        return f"{judge.exercise.name}: {path.name}: {error}"
    return ""


def _make(exercise: Exercise, mistake: Mistake, folder: Path) -> None:
    """Write the solution with the mistake in it to `folder`; CourseError when that cannot be done."""
    if mistake.breaks not in exercise.requirements:
        raise CourseError(f"it breaks requirement {mistake.breaks}, which the README lacks")
    copy_solution(exercise.path, folder)
    applied = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", str(mistake.path)],
        cwd=folder,
        env=os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    if applied.returncode:
        raise CourseError(f"it does not apply: {applied.stderr.strip()}")
    if fingerprint(folder) == fingerprint(exercise.path):
        raise CourseError("it changes no file of the solution: are its paths a/app.py and b/app.py?")


def _catch(judge: Judge, mistake: Mistake, folder: Path) -> None:
    """Name the test that catches it; CourseError when there is none. A crash is not an answer that is wrong."""
    failures = _failures(judge, folder, mistake, "--exitfirst")
    if failures and not any(failure.kind == "wrong" for failure in failures):  # others may come after a crash
        failures = _failures(judge, folder, mistake)
    for failure in failures:
        if failure.kind == "wrong":
            print(f"  caught  {mistake.name}: {failure.name}", flush=True)
            return
    print(f"  MISSED  {mistake.name}", flush=True)
    kinds = ", ".join(sorted({failure.kind or "failed" for failure in failures}))
    raise CourseError(f"it is not caught by requirement {mistake.breaks}" + (f" ({kinds})" if kinds else ""))


def _failures(judge: Judge, folder: Path, mistake: Mistake, *options: str) -> list[TestResult]:
    """The tests of the broken requirement that fail."""
    result = judge.judge(folder, f"--requirement={mistake.breaks}", *options)
    return next(item for item in result.requirements if item.number == mistake.breaks).failures


def prove_starter(exercise: Exercise) -> list[str]:
    """The starter must fail every requirement; return a line for each that it meets."""
    with tempfile.TemporaryDirectory(prefix="starter-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary) / "solution"
        make_starter(exercise, folder)
        result = Judge(exercise).judge(folder)
    return [
        f"{exercise.name}: the starter does not fail requirement {item.number} (it is {item.status})"
        for item in result.requirements
        if item.status != "not met"
    ]
