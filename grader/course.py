"""The shape of the course: what every exercise folder must have, checked without running anything."""

import ast
import hashlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from grader.exercises import ROOT, Exercise, exercises, sections
from grader.mistakes import Mistake

HEADINGS = [
    "Task",
    "Requirements",
    "Run it",
    "Try it",
    "How it works",
    "Questions",  # only where the exercise asks any
    "Hints",
    "Common mistakes",
    "Measure it",
    "In production",
    "References",
]
OPTIONAL = {"Questions"}
README_LINES = range(80, 201)
MOST_MODULES = 4
CONSTRAINT_LINE = "-c ../../constraints.txt"


def problems() -> list[str]:
    """All that is wrong with the shape of the course, a line each."""
    found = list(_course_problems())
    for exercise in exercises():
        found += [f"{exercise.name}: {problem}" for problem in _exercise_problems(exercise)]
    return found


def _course_problems() -> Iterator[str]:
    names = [exercise.name for exercise in exercises()]
    yield from (
        f"two exercises are called {name}" for name in sorted({name for name in names if names.count(name) > 1})
    )
    for section in sections():
        for folder in sorted(section.iterdir()):
            if folder.is_dir() and folder.name != "__pycache__" and not (folder / "app.py").exists():
                yield f"{folder.relative_to(ROOT)} is no exercise: it has no app.py"
        yield from _section_problems(section)
    if recorded_digest() != requirements_digest():
        yield "constraints.txt is older than the requirements that it is compiled from: nox -s lock"
    front_door = (ROOT / "README.md").read_text(encoding="utf-8")
    pattern = r'^@nox\.session(?:\((?:[^)]*name="(\w+)")?[^)]*\))?\ndef (\w+)'
    sessions = re.findall(pattern, _noxfile(), re.MULTILINE)
    for given, function in sessions:
        if f"nox -s {given or function}" not in front_door:
            yield f"the session {given or function} is not in README.md"


def _section_problems(section: Path) -> Iterator[str]:
    if not (section / "README.md").exists():
        yield f"{section.name} has no README.md"
        return
    tests = "\n".join(file.read_text(encoding="utf-8") for file in sorted(section.glob("*/tests/test_*.py")))
    named = re.findall(r"`(test_\w+)`", (section / "README.md").read_text(encoding="utf-8"))
    yield from (
        f"the README of {section.name} names {name}, which none of its exercises has"
        for name in named
        if f"def {name}(" not in tests
    )


def _noxfile() -> str:
    return (ROOT / "noxfile.py").read_text(encoding="utf-8")


def _exercise_problems(exercise: Exercise) -> Iterator[str]:
    for name in ("README.md", "requirements.txt", "measure.py"):
        if not (exercise.path / name).exists():
            yield f"there is no {name}"
            return
    yield from _readme_problems(exercise)
    yield from _test_problems(exercise)
    yield from _file_problems(exercise)
    for mistake in map(Mistake.read, exercise.mistakes):
        if mistake.breaks not in exercise.requirements:
            yield f"{mistake.path.name} breaks requirement {mistake.breaks}, which the README lacks"


def _readme_problems(exercise: Exercise) -> Iterator[str]:
    headings = re.findall(r"^## (.+)$", exercise.readme, re.MULTILINE)
    expected = [heading for heading in HEADINGS if heading in headings or heading not in OPTIONAL]
    if headings != expected:
        yield f"the README's headings are {', '.join(headings)}; they should be {', '.join(expected)}"
    generated = r"<!-- (\w+) -->.*?<!-- /\1 -->|^```(?:console|mermaid)\n.*?^```$"
    lines = re.sub(generated, "", exercise.readme, flags=re.DOTALL | re.MULTILINE).count("\n")
    if lines not in README_LINES:
        yield f"the README has {lines} lines of its own, not {README_LINES.start} to {README_LINES.stop - 1}"
    if not exercise.summary or exercise.summary.startswith("#"):
        yield "the README has no paragraph below its title"
    if list(exercise.requirements) != list(range(1, len(exercise.requirements) + 1)) or not exercise.requirements:
        yield f"the requirements are numbered {list(exercise.requirements)}"
    yield from (f"requirement {number} has no hint" for number in exercise.requirements if number not in exercise.hints)
    if "<!-- measured -->\n<!-- /measured -->" in exercise.readme:
        yield "the README has no figures yet: nox -s measure -- " + exercise.name
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", exercise.readme):
        if not (exercise.path / target).exists():
            yield f"the README links to {target}, which does not exist"


def _test_problems(exercise: Exercise) -> Iterator[str]:
    proven: set[int] = set()
    for file in sorted(exercise.tests.rglob("test_*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        for function in functions:
            if function.name.startswith("test_"):
                marks = [number for decorator in function.decorator_list for number in _requirement(decorator)]
                proven.update(marks)
                if len(marks) != 1:
                    yield f"{file.name}: {function.name} names {len(marks)} requirements, not one"
        if re.search(r"^\s*(?:from|import) (?:app|models)\b", file.read_text(encoding="utf-8"), re.MULTILINE):
            yield f"{file.name} imports the solution"
    yield from (f"requirement {number} has no test" for number in sorted(set(exercise.requirements) - proven))
    yield from (
        f"tests name requirement {number}, which the README lacks" for number in proven - set(exercise.requirements)
    )


def _requirement(decorator: ast.expr) -> list[int]:
    match decorator:
        case ast.Call(func=ast.Attribute(attr="requirement"), args=[ast.Constant(value=int(number))]):
            return [number]
    return []


def _file_problems(exercise: Exercise) -> Iterator[str]:
    modules = [file for file in exercise.path.glob("*.py") if file.name != "measure.py"]
    if len(modules) > MOST_MODULES:
        yield f"the solution has {len(modules)} modules; {MOST_MODULES} are the most"
    for file in [*modules, *exercise.path.glob("alternative/*.py"), exercise.path / "measure.py"]:
        if not ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))):
            yield f"{file.relative_to(exercise.path)} does not begin with a sentence on what it shows"
    lines = (exercise.path / "requirements.txt").read_text(encoding="utf-8").splitlines()
    if lines[:1] != [CONSTRAINT_LINE]:
        yield f"requirements.txt does not begin with {CONSTRAINT_LINE!r}"
    yield from (f"requirements.txt pins a version: {line}" for line in lines[1:] if re.search(r"[=<>~]=|[<>]", line))


# constraints.txt: its first line remembers what it was compiled from, so freshness needs no network.


def requirement_lines() -> list[str]:
    """Every requirement of the project and of all exercises, sorted, without comments."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = set(project["project"]["dependencies"])
    for group in project["dependency-groups"].values():
        found.update(group)
    for exercise in exercises():
        lines = (exercise.path / "requirements.txt").read_text(encoding="utf-8").splitlines()
        found.update(line.partition("#")[0].strip() for line in lines if not line.startswith(("-", "#")))
    return sorted(found - {""})


def requirements_digest() -> str:
    return hashlib.sha256("\n".join(requirement_lines()).encode()).hexdigest()


def recorded_digest() -> str:
    file = ROOT / "constraints.txt"
    found = (
        re.search(r"^# compiled from requirements with sha256 (\w+)$", file.read_text(), re.MULTILINE)
        if file.exists()
        else None
    )
    return found[1] if found else ""


def lock(compiled: Path) -> None:
    """Write constraints.txt from what uv compiled, with the digest of its requirements."""
    head = "# One version of everything, for every exercise. Written by nox -s lock.\n"
    head += f"# compiled from requirements with sha256 {requirements_digest()}\n"
    (ROOT / "constraints.txt").write_text(head + compiled.read_text(encoding="utf-8"), encoding="utf-8")
