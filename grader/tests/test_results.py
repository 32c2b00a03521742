"""A requirement is met when all of its tests passed and at least one ran."""

from pathlib import Path

import pytest

from grader.results import Outcome, RequirementResult, Result, Status, TestResult


@pytest.mark.parametrize(
    "outcomes, status",
    [
        (["passed"], "met"),
        (["passed", "passed"], "met"),
        (["passed", "skipped"], "met"),
        (["passed", "failed"], "not met"),
        (["failed", "not reached"], "not met"),
        (["passed", "not reached"], "not reached"),
        (["skipped"], "not reached"),
        (["not reached"], "not reached"),
        ([], "not reached"),
    ],
)
def test_the_status_follows_from_the_tests(outcomes: list[Outcome], status: Status) -> None:
    tests = [TestResult("a test", 1, outcome) for outcome in outcomes]

    assert RequirementResult(1, "It works", tests).status == status


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    test = TestResult("a test", 1, "failed", "wrong", "test_x.py:3", ["GET /"], "1 == 2", "1", "", 0.1)
    result = Result("01_crud_api", "here", isolated=True, requirements=[RequirementResult(1, "It works", [test])])

    result.write(tmp_path / "results.json")

    assert Result.read(tmp_path / "results.json") == result
