"""A mistake is caught when a test of the requirement that it breaks says that the answer is wrong."""

import difflib
from pathlib import Path

import pytest

from grader.exercises import exercises
from grader.judge import Judge
from grader.mistakes import prove_one

CRUD = next(exercise for exercise in exercises() if exercise.name == "01_crud_api")


def patch(folder: Path, old: str, new: str) -> Path:
    """A mistake that puts `new` in the place of `old`, said to break requirement 1."""
    before = (CRUD.path / "app.py").read_text(encoding="utf-8")
    assert old in before
    lines = before.splitlines(keepends=True), before.replace(old, new, 1).splitlines(keepends=True)
    file = folder / "slip.patch"
    file.write_text("A slip.\n\nBreaks: 1\n\n" + "".join(difflib.unified_diff(*lines, "a/app.py", "b/app.py")))
    return file


def test_a_mistake_is_caught_by_a_test_which_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    problem = prove_one(Judge(CRUD), CRUD.path / "mistakes" / "put_merges.patch")

    assert problem == ""
    assert "caught  put_merges: put replaces" in capsys.readouterr().out


def test_what_no_test_sees_is_reported(tmp_path: Path) -> None:
    problem = prove_one(Judge(CRUD), patch(tmp_path, '"""', '"""Beware. '))

    assert "slip.patch: it is not caught by requirement 1" in problem
