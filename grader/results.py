"""One result model: what a run saw of each test, and so of each requirement."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from grader.exercises import Exercise

Status = Literal["met", "not met", "not reached"]
Outcome = Literal["passed", "failed", "skipped", "not reached"]
Kind = Literal["wrong", "crashed", "timed out"]


@dataclass
class TestResult:
    """One test: what it asked, and what came."""

    __test__ = False  # not a test, whatever pytest thinks of its name

    name: str
    requirement: int
    outcome: Outcome = "not reached"
    kind: Kind | None = None
    where: str = ""
    sent: list[str] = field(default_factory=list)
    expected: str = ""
    got: str = ""
    output: str = ""
    seconds: float = 0.0


@dataclass
class RequirementResult:
    number: int
    sentence: str
    tests: list[TestResult]

    @property
    def status(self) -> Status:
        """Met when every test of it passed and at least one ran; a failure decides at once."""
        outcomes = [test.outcome for test in self.tests]
        if "failed" in outcomes:
            return "not met"
        complete = "passed" in outcomes and all(outcome in ("passed", "skipped") for outcome in outcomes)
        return "met" if complete else "not reached"

    @property
    def failures(self) -> list[TestResult]:
        return [test for test in self.tests if test.outcome == "failed"]


@dataclass
class Result:
    """A run of one exercise's tests against one solution."""

    exercise: str
    solution: str
    isolated: bool
    requirements: list[RequirementResult]

    @property
    def met(self) -> int:
        return sum(requirement.status == "met" for requirement in self.requirements)

    @property
    def total(self) -> int:
        return len(self.requirements)

    def to_json(self) -> dict[str, Any]:
        data = asdict(self)
        for requirement, own in zip(data["requirements"], self.requirements, strict=True):
            requirement["status"] = own.status
        return data | {"met": self.met, "total": self.total}

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Result":
        data = json.loads(path.read_text(encoding="utf-8"))
        requirements = [
            RequirementResult(item["number"], item["sentence"], [TestResult(**test) for test in item["tests"]])
            for item in data["requirements"]
        ]
        return cls(data["exercise"], data["solution"], data["isolated"], requirements)


def gather(exercise: Exercise, solution: Path, tests: Iterable[TestResult], *, isolated: bool) -> Result:
    """Sort test results by the requirement that they belong to; one without tests is not reached."""
    by_number: dict[int, list[TestResult]] = {number: [] for number in exercise.requirements}
    for test in tests:
        by_number[test.requirement].append(test)
    requirements = [
        RequirementResult(number, exercise.requirements[number].sentence, found) for number, found in by_number.items()
    ]
    return Result(exercise.name, str(solution), isolated, requirements)
