"""Every command of the course. Exercises are found in their folders, and a session is named after each.

An exercise's environment is made once, in .nox, and made anew when its requirements change.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import nox

sys.path.insert(0, str(Path(__file__).parent))  # grader/ needs only the standard library for what is used here

from grader import course as shape
from grader import docs as readmes
from grader import progress as path
from grader import starter
from grader.environments import grader, install, refuse_unknown_sessions
from grader.exercises import ROOT, CourseError, Exercise, exercises, find

nox.needs_version = ">=2026.4"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_external_run = True
nox.options.sessions = [*(exercise.name for exercise in exercises()), "grader", "lint", "types", "course"]

PROJECT = nox.project.load_toml("pyproject.toml")


def group(name: str) -> list[str]:
    return list(nox.project.dependency_groups(PROJECT, name))


def tests_of(exercise: Exercise) -> Callable[[nox.Session], None]:
    def session(session: nox.Session) -> None:
        install(session, *group("random"), of=[exercise])
        session.run("pytest", str(exercise.path.relative_to(ROOT)), "-q", *session.posargs)

    session.__doc__ = f"{exercise.title}: test the solution."
    return session


for each in exercises():
    nox.session(name=each.name, tags=["exercises", each.section], allow_parallel=True)(tests_of(each))


def named(session: nox.Session) -> Exercise:
    """The exercise that the first argument names."""
    if not session.posargs:
        session.error(f"name an exercise: nox -s {session.name} -- {exercises()[0].name}")
    try:
        return find(session.posargs[0])
    except CourseError as error:
        return session.error(str(error))


def named_or_all(session: nox.Session) -> list[Exercise]:
    return [named(session)] if session.posargs else exercises()


@nox.session(venv_backend="none")
def run(session: nox.Session) -> None:
    """Run an example with the services that it needs: nox -s run -- NAME [ARGUMENTS]."""
    grader(session, "run", named(session), *session.posargs[1:])


@nox.session(venv_backend="none")
def start(session: nox.Session) -> None:
    """Make your own copy of an exercise, the bodies taken out: nox -s start -- NAME."""
    try:
        print(starter.start(named(session)))
    except CourseError as error:
        session.error(str(error))


@nox.session(venv_backend="none")
def check(session: nox.Session) -> None:
    """Check your copy, requirement by requirement: nox -s check -- NAME [--watch] [--hints] [--solution FOLDER]."""
    grader(session, "check", named(session), *session.posargs[1:])


@nox.session(venv_backend="none")
def reset(session: nox.Session) -> None:
    """Start an exercise over; your work is kept as a backup: nox -s reset -- NAME."""
    try:
        print(starter.reset(named(session)))
    except CourseError as error:
        session.error(str(error))


@nox.session(venv_backend="none")
def progress(session: nox.Session) -> None:  # noqa: ARG001
    """Show the path, with what you have done."""
    print("\n".join(path.progress()))


@nox.session(venv_backend="none")
def mistakes(session: nox.Session) -> None:
    """Prove the tests: each known-wrong solution is caught by the requirement it breaks: nox -s mistakes [-- NAME]."""
    for exercise in named_or_all(session):
        grader(session, "mistakes", exercise)


@nox.session
def measure(session: nox.Session) -> None:
    """Rerun an exercise's experiment and write its figures into the README: nox -s measure -- NAME."""
    exercise = named(session)
    install(session, *group("measure"), of=exercises())
    session.run("python", "-m", "grader", "measure", exercise.name)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Send the running app what nobody expects, and hold its answers against its OpenAPI document.

    nox -s fuzz [-- NAME] [--seconds N] [--seed N]
    """
    names = [name for name in session.posargs[:1] if not name.startswith("-")]
    install(session, *group("fuzz"), of=exercises())
    for exercise in [named(session)] if names else exercises():
        session.run("python", "-m", "grader", "fuzz", exercise.name, *session.posargs[len(names) :])


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """Rewrite the generated parts of the READMEs: nox -s docs [-- NAME]."""
    for exercise in named_or_all(session):
        grader(session, "docs", exercise)
    session.log(f"tables rewritten: {', '.join(readmes.write_tables(check=False)) or 'none'}")


@nox.session
def course(session: nox.Session) -> None:
    """Check the shape of the course: folders, READMEs, requirements and their tests, starters, outputs, secrets."""
    problems = shape.problems() + [f"{name} is out of date: nox -s docs" for name in readmes.write_tables(check=True)]
    if problems:
        session.error("\n".join(["the course has problems", *problems]))
    install(session, *group("course"), of=[])
    session.run("python", "-m", "grader.leaks")
    for exercise in named_or_all(session):
        grader(session, "starter", exercise)
        grader(session, "docs", exercise, "--check")


@nox.session(name="grader")
def grader_tests(session: nox.Session) -> None:
    """Test the grader and the shared package themselves."""
    install(session, *group("grader"), of=exercises())
    session.run("pytest", "-q", "grader/tests", "shared/tests", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Lint and check the format of everything: ruff, and zizmor and the schema for the workflows."""
    install(session, *group("lint"), of=[])
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("zizmor", "--offline", "--quiet", ".github")
    workflows = sorted(str(file.relative_to(ROOT)) for file in ROOT.glob(".github/workflows/*.yml"))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)


@nox.session
def types(session: nox.Session) -> None:
    """Check types strictly, folder by folder."""
    install(session, *group("types"), *group("measure"), *group("grader"), of=exercises())
    session.run("mypy", "shared", "grader", "noxfile.py")
    env = {"MYPYPATH": os.pathsep.join([str(ROOT), "tests"]), "MYPY_CACHE_DIR": str(ROOT / ".mypy_cache")}
    for exercise in exercises():
        for folder in (exercise.path, exercise.path / "alternative"):
            files = sorted(file.name for file in folder.glob("*.py"))
            if files:
                with session.chdir(folder):
                    files += [name for name in ("migrations", "tests") if (folder / name).exists()]
                    session.run("mypy", "--config-file", str(ROOT / "pyproject.toml"), *files, env=env)


@nox.session
def lock(session: nox.Session) -> None:
    """Compile constraints.txt from all requirements: nox -s lock [-- --upgrade]."""
    requirements = Path(session.create_tmp()) / "requirements.in"
    requirements.write_text("\n".join(shape.requirement_lines()))
    output = requirements.with_name("constraints.txt")
    if (ROOT / "constraints.txt").exists():
        output.write_text((ROOT / "constraints.txt").read_text())  # uv keeps the versions that it finds there
    session.install("-q", "uv")
    options = ["--universal", "--python-version", "3.11", "--no-header", "--no-annotate", "--strip-extras"]
    session.run("uv", "pip", "compile", "-q", *options, "-o", str(output), *session.posargs, str(requirements))
    shape.lock(output)


refuse_unknown_sessions()
