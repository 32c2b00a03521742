"""Judges solutions: the tests of an exercise, run by a pytest of their own against each solution.

A judge of many solutions does its imports once: pytest and what the tests import in one warm process, what solutions
import in another. Each judgement is a fork of the first, which gets a branch of the second for its solution alone.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from grader.exercises import CourseError, Exercise
from grader.launch import CAN_FORK, WARM, Launcher, clean_environment, imported_libraries, start_zygote
from grader.results import Result
from shared import services

SECONDS = 600
LIBRARIES = ("pytest", "httpx2", "asyncio", "ssl", "unittest.mock", "pydantic_settings")  # of the plugin itself


@dataclass
class Judge:
    """Runs the tests of one exercise against solutions. Threads may share it."""

    exercise: Exercise
    env: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    launcher: Launcher | None = None

    def judge(self, folder: Path, *options: str) -> Result:
        """Run the tests against the solution in `folder`; CourseError when they report nothing.

        `options` are more of pytest's, such as --requirement=2.
        """
        with tempfile.TemporaryDirectory(prefix="judge-", ignore_cleanup_errors=True) as temporary:
            scratch = Path(temporary)
            file = scratch / "results.json"
            arguments = ["--isolated", f"--solution={folder}", f"--results={file}", "-q", *options]
            arguments.append(str(self.exercise.tests))
            try:
                output = self._fork(arguments, scratch) if self.launcher else self._spawn(arguments)
            except TimeoutError:
                raise CourseError(f"the tests still ran after {SECONDS} s") from None
            if not file.exists():
                raise CourseError(f"the tests did not run:\n{output[-4000:]}")
            return Result.read(file)

    def _fork(self, arguments: list[str], scratch: Path) -> str:
        assert self.launcher
        import pytest  # noqa: PLC0415  nox reads the course without it

        program = Path(pytest.__file__).with_name("__main__.py")
        process = self.launcher.start(program, arguments, self.env, scratch, b"")
        try:
            process.wait(SECONDS)
        finally:
            process.kill()
        return process.output

    def _spawn(self, arguments: list[str]) -> str:
        command = [sys.executable, "-m", "pytest", *arguments]
        try:
            run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS, env=self.env)
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        return run.stdout + run.stderr


@contextlib.contextmanager
def warm_judge(exercise: Exercise) -> Iterator[Judge]:
    """Yield a judge for many solutions that are ours: they share one PostgreSQL server too, whose start costs most.

    A judge of strangers' solutions must not do that: who has the server's password has everybody's database.
    """
    with contextlib.ExitStack() as stack:
        env = dict(os.environ)
        if "PostgreSQL" in exercise.services:
            env["DATABASE_URL"] = stack.enter_context(services.postgres())
        if not CAN_FORK:
            yield Judge(exercise, env)
            return
        tests = Launcher(exercise.tests, limits={})
        stack.callback(tests.close)
        used = imported_libraries(exercise.tests)
        used = [name for name in used if not name.startswith("grader.")]  # pytest imports these itself
        tests.warm_up(*LIBRARIES, *used, env=env)
        address = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="warm-"))) / "socket"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(address))
        listener.listen(64)
        modules = imported_libraries(exercise.path)
        solutions = start_zygote(listener, modules, clean_environment({}), stdin=subprocess.PIPE)
        stack.callback(solutions.communicate)
        yield Judge(exercise, env | {WARM: str(address)}, tests)
