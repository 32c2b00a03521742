"""The course's own checks see what is wrong with an exercise."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from grader import course, docs, run
from grader.exercises import CourseError, Exercise, find
from grader.launch import wait_for
from grader.mistakes import Mistake


@pytest.fixture
def crud(tmp_path: Path) -> Path:
    """A copy of an exercise that is as it should be."""
    folder = tmp_path / "01_api_basics" / "01_crud_api"
    shutil.copytree(find("01_crud_api").path, folder, ignore=shutil.ignore_patterns("__pycache__", "*.db"))
    return folder


def problems(folder: Path) -> str:
    return "\n".join(course._exercise_problems(Exercise(folder)))


def test_the_pattern_has_no_problems(crud: Path) -> None:
    assert problems(crud) == ""


def edit(file: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))

    return change


@pytest.mark.parametrize(
    "change, told",
    [
        (edit("README.md", "## Hints", "## Tips"), "headings"),
        (edit("README.md", "2. **Each", "5. **Each"), "numbered"),
        (edit("README.md", "Requirement 4:", "Requirement 1:"), "requirement 4 has no hint"),
        (edit("README.md", "](https://fastapi", "](no_such_file/"), "no_such_file"),
        (edit("tests/test_crud_api.py", "@pytest.mark.requirement(1)\n", ""), "names 0 requirements"),
        (
            edit("tests/test_crud_api.py", "requirement(1)", "requirement(9)"),
            "requirement 9, which the README lacks",
        ),
        (
            edit("tests/test_crud_api.py", "import json\n", "import json\nfrom models import Product\n"),
            "imports the solution",
        ),
        (edit("requirements.txt", "-c ../../constraints.txt\n", ""), "does not begin with"),
        (edit("requirements.txt", "fastapi", "fastapi==0.1"), "pins a version"),
        (edit("app.py", '"""A resource', 'X = 1\n"""A resource'), "does not begin with a sentence"),
        (lambda folder: (folder / "measure.py").unlink(), "there is no measure.py"),
        (edit("mistakes/put_merges.patch", "Breaks: 2", "Breaks: 8"), "breaks requirement 8"),
    ],
)
def test_what_is_wrong_is_told(crud: Path, change: Callable[[Path], None], told: str) -> None:
    try:
        change(crud)
        found = problems(crud)
    except SyntaxError as error:
        found = str(error)

    assert told in found


def test_the_tests_that_a_section_names_exist(crud: Path) -> None:
    section = crud.parent
    (section / "README.md").write_text("`test_the_body_is_kept` and `test_the_tests_are_there`")
    (crud / "tests" / "test_crud_api.py").write_text("def test_the_tests_are_there() -> None: ...\n")

    found = list(course._section_problems(section))

    assert found == ["the README of 01_api_basics names test_the_body_is_kept, which none of its exercises has"]


def test_a_mistake_must_say_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "bad.patch").write_text("Breaks: 1\n\n--- a/app.py\n+++ b/app.py\n")

    with pytest.raises(CourseError, match="what is wrong"):
        Mistake.read(tmp_path / "bad.patch")


def test_generated_parts_replace_what_stood_there() -> None:
    text = "before\n<!-- path -->\nold\n<!-- /path -->\nafter"

    assert docs.replace_part(text, "path", "new") == "before\n<!-- path -->\nnew\n<!-- /path -->\nafter"


def test_a_missing_marker_is_an_error() -> None:
    with pytest.raises(CourseError, match="missing"):
        docs.replace_part("text", "path", "new")


def test_commands_are_read_from_console_blocks_with_their_continuations() -> None:
    text = "```console\n$ echo one\none\n$ cat <<X\n> two\n> X\ntwo\n```\n```python\n$ no\n```\n"

    assert run.console_blocks(text) == [["echo one", "cat <<X\ntwo\nX"]]


def test_a_diagram_below_a_console_block_takes_the_last_output() -> None:
    text = "```console\n$ echo one\n$ draw\n```\n\n```mermaid\nold\n```\n\n```console\n$ echo two\n```\n"

    assert docs._fill(text, ["one", "erDiagram\n    a", "two"]) == (
        "```console\n$ echo one\none\n$ draw\n```\n\n```mermaid\nerDiagram\n    a\n```\n\n"
        "```console\n$ echo two\ntwo\n```\n"
    )


@pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")
def test_what_a_readme_leaves_running_ends_with_it(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# X\n\n## Try it\n\n```console\n$ sleep 60 > log & echo $!\n1\n```\n")

    (pid,) = run.outputs(Exercise(tmp_path), tmp_path, dict(os.environ), 8000)

    assert wait_for(lambda: not Path("/proc", pid).exists() or " Z " in Path("/proc", pid, "stat").read_text(), 5)


def test_outputs_are_made_repeatable() -> None:
    one, two = "6f1c1d5e-8a3b-4c57-9a55-0d8f6a1f3c01", "0b2ea0ac-7c8e-4b6f-8d4b-6b1f9c2d3e4f"
    text = f"HTTP/1.1 200 OK\r\nDate: today\r\nserver: x\r\nid: {two} {one}  \r\nhttp://localhost:23456/\r\n"

    assert run._repeatable(text, 23456, f"{one}{two}").splitlines() == [
        "HTTP/1.1 200 OK",
        "id: 00000000-0000-4000-8000-000000000002 00000000-0000-4000-8000-000000000001",
        "http://localhost:8000/",
    ]
