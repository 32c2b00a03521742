"""A warm judge gives the verdicts of a cold one, lets no solution see another, and leaves nothing behind."""

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from grader.exercises import CourseError, exercises
from grader.judge import Judge, warm_judge
from grader.launch import WARM
from grader.starter import copy_solution

CRUD = next(exercise for exercise in exercises() if exercise.name == "01_crud_api")


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with warm_judge(CRUD) as judge:
        yield judge


@pytest.fixture
def solution(tmp_path: Path) -> Path:
    """A copy of the worked solution."""
    copy_solution(CRUD.path, tmp_path / "solution")
    return tmp_path / "solution"


def change(folder: Path, old: str, new: str) -> Path:
    text = (folder / "app.py").read_text(encoding="utf-8")
    assert old in text
    (folder / "app.py").write_text(text.replace(old, new), encoding="utf-8")
    return folder


def test_a_warm_judge_says_what_a_cold_one_says(judge: Judge, solution: Path) -> None:
    change(solution, "status_code=201", "status_code=200")

    warm, cold = (one.judge(solution, "--requirement=3") for one in (judge, Judge(CRUD)))

    verdicts = [[(test.name, test.outcome, test.got) for test in each.requirements[2].tests] for each in (warm, cold)]
    assert verdicts[0] == verdicts[1]
    assert warm.requirements[2].status == "not met"


def test_a_solution_does_not_see_the_modules_of_the_one_before(judge: Judge, solution: Path, tmp_path: Path) -> None:
    shutil.copytree(solution, tmp_path / "changed")
    change(tmp_path / "changed", "status_code=201", "status_code=200")

    with ThreadPoolExecutor(2) as pool:
        met = pool.map(
            lambda folder: judge.judge(folder, "--requirement=3").met,
            [solution, tmp_path / "changed", solution, tmp_path / "changed"],
        )

    assert list(met) == [1, 0, 1, 0]


def test_a_solution_may_import_what_the_worked_one_does_not(judge: Judge, solution: Path) -> None:
    change(solution, "\nimport ", "\nimport sched\nimport ")

    assert judge.judge(solution, "--requirement=3").met == 1


def test_a_solution_knows_nothing_of_the_warm_process(judge: Judge, solution: Path) -> None:
    change(solution, "\nimport ", f"\nimport os\nassert {WARM!r} not in os.environ\nimport ")

    assert judge.judge(solution, "--requirement=3").met == 1


def test_tests_that_do_not_run_are_an_error(judge: Judge, solution: Path) -> None:
    with pytest.raises(CourseError, match="no app"):
        judge.judge(solution / "nowhere")


@pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")
def test_nothing_is_left_running(solution: Path) -> None:
    before = warm_processes()

    with warm_judge(CRUD) as judge:
        judge.judge(solution, "--requirement=3")
        started = warm_processes() - before

    assert started
    assert not [process for process in started if is_running(process)]
    assert not Path(judge.env[WARM]).parent.exists()


def warm_processes() -> set[Path]:
    """The folders in /proc of this process's descendants that run zygote.py."""
    return {
        folder
        for folder in Path("/proc").glob("[0-9]*")
        if descends_from(folder, os.getpid()) and "zygote.py" in (folder / "cmdline").read_text(errors="replace")
    }


def descends_from(folder: Path, ancestor: int) -> bool:
    try:
        parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return False
    return parent == ancestor or (parent > 1 and descends_from(Path("/proc") / str(parent), ancestor))


def is_running(folder: Path) -> bool:
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
