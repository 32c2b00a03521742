"""The path with what is done; only the standard library, so that it needs no environment."""

import json
from collections.abc import Iterator
from pathlib import Path

from grader.exercises import WORKSPACE, Exercise, exercises
from grader.starter import fingerprint


def progress() -> Iterator[str]:
    """Yield the lines of the table: every exercise in learning order, with what its last check said."""
    known = exercises()
    width = max(len(exercise.name) for exercise in known)
    section = ""
    for exercise in known:
        if exercise.section != section:
            section = exercise.section
            yield f"\n{section}"
        yield f"  {exercise.name:{width}}  {state(exercise)}"
    done = sum(state(exercise) == "done" for exercise in known)
    yield f"\n{done} of {len(known)} exercises done."
    following = next((exercise for exercise in known if state(exercise) != "done"), None)
    if following:
        yield f"Next: nox -s {'check' if following.workspace.exists() else 'start'} -- {following.name}"


def state(exercise: Exercise) -> str:
    """`done`, `3 of 4 requirements met`, `started`, or `-`, and whether the work has changed since."""
    if not exercise.workspace.exists():
        return "-"
    try:
        result = json.loads(results_file(exercise).read_text(encoding="utf-8"))
        met, total = result["met"], result["total"]
    except (OSError, ValueError, KeyError):
        return "started, not checked yet"
    verdict = "done" if met == total else f"{met} of {total} requirements met"
    return verdict + ("" if _unchanged(exercise) else ", changed since")


def results_file(exercise: Exercise) -> Path:
    """Where the results of the last check of a learner's copy are."""
    return WORKSPACE / ".results" / f"{exercise.name}.json"


def _unchanged(exercise: Exercise) -> bool:
    file = results_file(exercise).with_suffix(".sha256")
    return file.exists() and file.read_text(encoding="utf-8") == fingerprint(exercise.workspace)
