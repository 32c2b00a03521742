"""An example runs as its Procfile says."""

import os
from pathlib import Path

import pytest

from grader.exercises import CourseError, Exercise
from grader.run import processes


def exercise(folder: Path, procfile: str) -> Exercise:
    (folder / "Procfile").write_text(procfile)
    return Exercise(folder)


def test_release_has_ended_before_the_others_start(tmp_path: Path) -> None:
    (tmp_path / "fill.py").write_text("import pathlib, time; time.sleep(0.3); pathlib.Path('filled').touch()")
    (tmp_path / "app.py").write_text("import pathlib; pathlib.Path('filled').rename('served')")
    example = exercise(tmp_path, "web: python app.py\nrelease: python fill.py\n")

    with processes(example, tmp_path, dict(os.environ)) as running:
        assert list(running) == ["web"]
        assert running["web"].wait(10) == 0

    assert (tmp_path / "served").exists()


def test_nothing_is_served_when_release_fails(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import pathlib; pathlib.Path('served').touch()")
    example = exercise(tmp_path, "release: python -c 'raise SystemExit(3)'\nweb: python app.py\n")

    with pytest.raises(CourseError, match="exit code 3"), processes(example, tmp_path, dict(os.environ)):
        pass

    assert not (tmp_path / "served").exists()


def test_what_the_exercise_gives_need_not_be_in_the_solution(tmp_path: Path) -> None:
    (tmp_path / "fill.py").write_text("import os, pathlib; pathlib.Path(os.environ['FILE']).touch()")
    example = exercise(tmp_path, "release: python fill.py\n")
    solution = tmp_path / "alternative"
    solution.mkdir()

    with processes(example, solution, os.environ | {"FILE": str(tmp_path / "filled")}):
        pass

    assert (tmp_path / "filled").exists()


def test_settings_before_a_program_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import os, pathlib; pathlib.Path('token').write_text(os.environ['ADMIN_TOKEN'])")
    example = exercise(tmp_path, "web: ADMIN_TOKEN='let me in' python app.py\n")

    with processes(example, tmp_path, dict(os.environ)) as running:
        assert running["web"].wait(10) == 0

    assert (tmp_path / "token").read_text() == "let me in"
