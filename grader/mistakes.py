"""Known-wrong solutions: each is a patch that names the requirement it breaks, and the tests must see that."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from grader.exercises import CourseError, Exercise, cores
from grader.results import Result
from grader.starter import copy_solution, fingerprint, make_starter

JUDGE_SECONDS = 600


@dataclass(frozen=True)
class Mistake:
    """A patch: prose, `Breaks: N`, and a diff that `git apply` takes in the exercise's folder."""

    path: Path
    prose: str
    breaks: int

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def summary(self) -> str:
        """The first sentence of its prose."""
        return re.split(r"(?<=[.!?])\s", self.prose, maxsplit=1)[0]

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
    with ThreadPoolExecutor(cores()) as pool:
        problems = list(pool.map(lambda path: _prove_one(exercise, path), exercise.mistakes))
    return [problem for problem in problems if problem]


def _prove_one(exercise: Exercise, path: Path) -> str:
    try:
        mistake = Mistake.read(path)
    except CourseError as error:
        return f"{exercise.name}: {error}"
    if mistake.breaks not in exercise.requirements:
        return f"{exercise.name}: {path.name} breaks requirement {mistake.breaks}, which the README lacks"
    with tempfile.TemporaryDirectory(prefix="mistake-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary) / "solution"
        copy_solution(exercise.path, folder)
        applied = subprocess.run(
            ["git", "apply", "--whitespace=nowarn", str(path)],
            cwd=folder,
            env=os.environ | {"GIT_CEILING_DIRECTORIES": temporary},
            capture_output=True,
            text=True,
            check=False,
        )
        if applied.returncode:
            return f"{exercise.name}: {path.name} does not apply: {applied.stderr.strip()}"
        if fingerprint(folder) == fingerprint(exercise.path):
            return f"{exercise.name}: {path.name} changes no file of the solution: are its paths a/app.py and b/app.py?"
        try:
            result = judge(exercise, folder, f"--requirement={mistake.breaks}")
        except CourseError as error:
            return f"{exercise.name}: {path.name}: {error}"
    broken = next(item for item in result.requirements if item.number == mistake.breaks)
    kinds = sorted({failure.kind or "failed" for failure in broken.failures})
    caught = "wrong" in kinds
    failed = f"{len(broken.failures)} of {len(broken.tests)} tests of requirement {mistake.breaks} fail"
    print(f"  {'caught' if caught else 'MISSED'}  {mistake.name}: {failed}{_of(kinds)}", flush=True)
    return "" if caught else f"{exercise.name}: {path.name} is not caught by requirement {mistake.breaks}{_of(kinds)}"


def _of(kinds: Sequence[str]) -> str:
    return f" ({', '.join(kinds)})" if kinds else ""


def judge(exercise: Exercise, folder: Path, *options: str) -> Result:
    """Run the tests against a solution in a pytest of its own; CourseError when that reports nothing."""
    with tempfile.TemporaryDirectory(prefix="results-") as temporary:
        file = Path(temporary) / "results.json"
        arguments = [
            "--isolated",
            f"--solution={folder}",
            f"--results={file}",
            "-q",
            *options,
            str(exercise.tests),
        ]
        command = [sys.executable, "-m", "pytest", *arguments]
        try:
            run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=JUDGE_SECONDS)
        except subprocess.TimeoutExpired:
            raise CourseError(f"{exercise.name}: the tests still ran after {JUDGE_SECONDS} s") from None
        if not file.exists():
            raise CourseError(f"{exercise.name}: the tests did not run:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
        return Result.read(file)


def prove_starter(exercise: Exercise) -> list[str]:
    """The starter must fail every requirement; return a line for each that it meets."""
    with tempfile.TemporaryDirectory(prefix="starter-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary) / "solution"
        make_starter(exercise, folder)
        result = judge(exercise, folder)
    return [
        f"{exercise.name}: the starter does not fail requirement {item.number} (it is {item.status})"
        for item in result.requirements
        if item.status != "not met"
    ]
