"""A starter has the same shape as the solution, and none of its work."""

from pathlib import Path

import pytest

from grader import starter
from grader.exercises import CourseError, Exercise, exercises
from grader.starter import strip_bodies, strip_lines

SOURCE = '''"""A module."""

LIMIT = 3  # stays


@decorated("x")
async def add(a: int, b: int = 1) -> int:
    """Add."""
    total = a + b

    return total


class Shop:
    name: str = "shop"

    def open(self) -> None:
        for _ in range(3):
            def inner() -> None: ...
            inner()

    @property
    def closed(self) -> bool:
        # why
        return True


def main() -> None:  # given
    add(1)


@mapped
class Order(Base, Named):  # yours
    """What a customer wants.

    With a price.
    """

    number: int

    def total(self) -> int:
        return 1


def last(): return 1
'''

STARTER = '''"""A module."""

LIMIT = 3  # stays


@decorated("x")
async def add(a: int, b: int = 1) -> int:
    """Add."""
    raise NotImplementedError


class Shop:
    name: str = "shop"

    def open(self) -> None:
        raise NotImplementedError

    @property
    def closed(self) -> bool:
        # why
        raise NotImplementedError


def main() -> None:  # given
    add(1)


# class Order(Base, Named): What a customer wants.
#
# With a price.


def last():
    raise NotImplementedError
'''


def test_bodies_go_and_everything_else_stays() -> None:
    assert strip_bodies(SOURCE) == STARTER


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("# yours: what git ignores\n# and what it takes\n.env\n# the example\n!.env.example\n",
         "# yours: what git ignores\n# and what it takes\n"),
        ("# yours: nothing else", "# yours: nothing else"),
        ("flask\n# yours\n", "flask\n# yours\n"),
        ("", ""),
    ],
    ids=["comment at the top stays", "only a comment", "not in the first line", "empty"],
)  # fmt: skip
def test_of_a_file_of_the_learners_own_the_comment_at_the_top_stays(text: str, left: str) -> None:
    assert strip_lines(text) == left


def test_a_starter_has_the_dot_files_of_the_solution_and_no_others(tmp_path: Path) -> None:
    solution = tmp_path / "solution"
    solution.mkdir()
    for name in (".gitignore", ".env.example", ".env", ".env.production"):
        (solution / name).write_text("# yours: to be written\nA=1\n")

    starter.copy_solution(solution, tmp_path / "copy")

    assert sorted(file.name for file in (tmp_path / "copy").iterdir()) == [".env.example", ".gitignore"]


@pytest.mark.parametrize("exercise", exercises(), ids=lambda exercise: exercise.name)
def test_the_starter_of_every_exercise_is_python(exercise: Exercise, tmp_path: Path) -> None:
    starter.make_starter(exercise, tmp_path / "starter")

    for file in (tmp_path / "starter").rglob("*.py"):
        compile(file.read_text(encoding="utf-8"), file, "exec")


@pytest.fixture
def exercise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Exercise:
    for module in ("grader.exercises", "grader.starter"):
        monkeypatch.setattr(f"{module}.WORKSPACE", tmp_path / "workspace")
    return exercises()[0]


def test_start_never_overwrites_work(exercise: Exercise) -> None:
    starter.start(exercise)
    (exercise.workspace / "app.py").write_text("mine")

    with pytest.raises(CourseError, match="reset"):
        starter.start(exercise)

    assert (exercise.workspace / "app.py").read_text() == "mine"


def test_reset_keeps_the_work_as_a_backup(exercise: Exercise) -> None:
    starter.start(exercise)
    (exercise.workspace / "app.py").write_text("mine")

    starter.reset(exercise)

    assert "NotImplementedError" in (exercise.workspace / "app.py").read_text()
    [backup] = exercise.workspace.parent.glob(".backup/*/app.py")
    assert backup.read_text() == "mine"


def test_reset_without_work_says_how_to_begin(exercise: Exercise) -> None:
    with pytest.raises(CourseError, match="nox -s start"):
        starter.reset(exercise)
