"""The commands behind the nox sessions that need an exercise's environment: `python -m grader COMMAND NAME …`."""

import argparse
import io
import signal
import subprocess
import sys
from pathlib import Path

from grader.exercises import CourseError, Exercise, find


def main(arguments: list[str]) -> int:
    """Run a command; return its exit code. What a person did wrong is told in a sentence on standard error."""
    parser = argparse.ArgumentParser(prog="grader", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("check", "run", "mistakes", "starter", "measure", "docs", "fuzz"):
        command = commands.add_parser(name)
        command.add_argument("exercise", type=find)
        if name == "check":
            command.add_argument("--watch", action="store_true", help="check again whenever a file changes")
            command.add_argument("--hints", action="store_true", help="show all hints")
            command.add_argument("--solution", type=Path, help="a folder to check instead of your workspace")
        if name == "docs":
            command.add_argument("--check", action="store_true", help="compare only; fail when something would change")
        if name == "fuzz":
            command.add_argument("--seconds", type=_seconds, default=120, help="how long each solution is fuzzed")
            command.add_argument("--seed", type=int, help="repeat the run that named this number")
        if name == "run":
            command.add_argument("--solution", type=Path, help="a folder to run instead of the worked solution")
    options, rest = parser.parse_known_args(arguments)
    options.arguments = rest
    if options.arguments and options.command != "run":  # whose other arguments are app.py's
        parser.error(f"unknown arguments: {' '.join(options.arguments)}")
    return COMMANDS[options.command](options)


def check(options: argparse.Namespace) -> int:
    from grader import check  # noqa: PLC0415  each command imports what it needs: check shall be quick

    if options.watch:
        rest = ["--hints"] * options.hints + [f"--solution={options.solution}"] * bool(options.solution)
        check.watch(options.exercise, options.solution, rest)
    return check.check(options.exercise, options.solution, hints=options.hints)


def run(options: argparse.Namespace) -> int:
    from grader import run  # noqa: PLC0415

    return run.run(options.exercise, options.solution or options.exercise.path, options.arguments)


def mistakes(options: argparse.Namespace) -> int:
    from grader.mistakes import prove  # noqa: PLC0415

    return _report(prove(options.exercise))


def starter(options: argparse.Namespace) -> int:
    from grader.mistakes import prove_starter  # noqa: PLC0415

    return _report(prove_starter(options.exercise))


def docs(options: argparse.Namespace) -> int:
    from grader.docs import write_exercise  # noqa: PLC0415

    changed = write_exercise(options.exercise, check=options.check)
    if options.check:
        return _report([f"{name} is out of date: nox -s docs -- {options.exercise.name}" for name in changed])
    print(f"{options.exercise.name}: {'rewritten' if changed else 'up to date'}")
    return 0


def fuzz(options: argparse.Namespace) -> int:
    from grader.fuzz import fuzz  # noqa: PLC0415

    return _report(fuzz(options.exercise, options.seconds, options.seed))


def measure(options: argparse.Namespace) -> int:
    from grader.docs import write_measured  # noqa: PLC0415

    exercise: Exercise = options.exercise
    command = [sys.executable, "measure.py"]
    experiment = subprocess.run(command, cwd=exercise.path, stdout=subprocess.PIPE, text=True, check=False)
    print(experiment.stdout)
    if experiment.returncode == 0:
        write_measured(exercise, experiment.stdout)
    return experiment.returncode


def _seconds(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number of seconds from 1")
    return int(text)


def _report(problems: list[str]) -> int:
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


COMMANDS = {
    "check": check,
    "run": run,
    "mistakes": mistakes,
    "starter": starter,
    "docs": docs,
    "fuzz": fuzz,
    "measure": measure,
}

if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        sys.exit(main(sys.argv[1:]))
    except CourseError as error:
        sys.exit(f"{error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
