"""Makes a learner's starting point from a solution: the same files and signatures, the bodies taken out."""

import ast
import hashlib
import itertools
import shutil
from datetime import UTC, datetime
from pathlib import Path

from grader.exercises import WORKSPACE, CourseError, Exercise

# What in an exercise's folder is about the exercise, not part of its solution.
NOT_THE_SOLUTION = {
    "README.md",
    "tests",
    "mistakes",
    "measure.py",
    "measure.svg",
    "alternative",
    "__pycache__",
}
# Files whose names begin with a dot are a machine's or a tool's, except for these.
DOT_FILES = {".dockerignore", ".env.example", ".gitignore"}
GIVEN = "# given"
YOURS = "# yours"


def solution_files(folder: Path) -> list[Path]:
    """The files and folders of a solution; databases, and what begins with a dot but is not in DOT_FILES, are none."""
    return sorted(
        entry
        for entry in folder.iterdir()
        if entry.name in DOT_FILES
        or (
            entry.name not in NOT_THE_SOLUTION
            and not entry.name.startswith(".")
            and entry.suffix not in (".db", ".pyc")
        )
    )


def copy_solution(source: Path, target: Path) -> None:
    """Copy a solution's files to the folder `target`, which is made."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in solution_files(source):
        if entry.is_dir():
            shutil.copytree(entry, target / entry.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(entry, target / entry.name)


def strip_bodies(source: str) -> str:
    """Replace each function's body by `raise NotImplementedError`.

    Signatures, decorators, docstrings, classes and everything outside of functions stay, and so does a function that
    says `# given` beside its `def`: it is not what the exercise teaches. A class that says `# yours` is itself what
    the exercise teaches, and becomes a comment with its name and docstring.
    """
    lines = source.splitlines(keepends=True)
    for node in reversed(_what_is_stripped(ast.parse(source), lines)):
        if isinstance(node, ast.ClassDef):
            lines[_line_of(node) - 1 : node.end_lineno] = _described(node)
        else:
            _strip_body(node, lines)
    return "".join(lines)


def strip_lines(text: str) -> str:
    """Keep the comment at the top of a file that says `# yours` in its first line: the rest is what is to be written.

    Such a file is no Python: a Dockerfile, a .gitignore. Other files stay as they are.
    """
    lines = text.splitlines(keepends=True)
    if not lines or not lines[0].startswith(YOURS):
        return text
    return "".join(itertools.takewhile(lambda line: line.startswith("#"), lines))


def _strip_body(function: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> None:
    first = function.body[0]
    before_body = lines[first.lineno - 1][: first.col_offset]
    if before_body.strip():  # the body stands behind the colon
        lines[first.lineno - 1 : function.end_lineno] = [
            f"{before_body.rstrip()}\n",
            f"{_indent(function)}raise NotImplementedError\n",
        ]
        return
    has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    start = (first.end_lineno or first.lineno) if has_docstring else _line_of(first) - 1
    lines[start : function.end_lineno] = [f"{_indent(function)}raise NotImplementedError\n"]


def _described(node: ast.ClassDef) -> list[str]:
    """What stands where a class of the learner's own goes: its first line and its docstring, as a comment."""
    head = f"class {node.name}({', '.join(map(ast.unparse, node.bases))})"
    return [f"# {line}".rstrip() + "\n" for line in f"{head}: {ast.get_docstring(node) or ''}".splitlines()]


def _indent(function: ast.stmt) -> str:
    return " " * (function.col_offset + 4)


def _line_of(statement: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])


def _what_is_stripped(
    module: ast.Module, lines: list[str]
) -> list[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """The outermost functions that are not given, and the classes of the learner's own, from top to bottom."""
    found: list[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef] = []
    waiting: list[ast.stmt] = list(module.body)
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if not any(GIVEN in line for line in lines[node.lineno - 1 : node.body[0].lineno]):
                found.append(node)
        elif isinstance(node, ast.ClassDef):
            if YOURS in lines[node.lineno - 1]:
                found.append(node)
            else:
                waiting += node.body
    return sorted(found, key=lambda node: node.lineno)


def make_starter(exercise: Exercise, target: Path) -> None:
    """Write the starter to the folder `target`, which must not exist yet."""
    copy_solution(exercise.path, target)
    for file in target.rglob("*.py"):
        file.write_text(strip_bodies(file.read_text(encoding="utf-8")), encoding="utf-8")
    for file in target.iterdir():
        if file.suffix != ".py" and file.is_file() and file.read_bytes().startswith(YOURS.encode()):
            file.write_text(strip_lines(file.read_text(encoding="utf-8")), encoding="utf-8")


def start(exercise: Exercise) -> str:
    """Put the starter into the workspace; CourseError when there is work already."""
    if exercise.workspace.exists():
        raise CourseError(
            f"{shown(exercise.workspace)} exists, and your work is left alone. Go on with it: nox -s check -- "
            f"{exercise.name}; or start over: nox -s reset -- {exercise.name} (it keeps a backup)"
        )
    make_starter(exercise, exercise.workspace)
    return (
        f"Your copy is in {shown(exercise.workspace)}. The task: {shown(exercise.path / 'README.md')}\n"
        "Write the bodies that are missing, and the classes and files that only a comment describes; functions marked "
        "`# given` are done.\n"
        f"Then: nox -s check -- {exercise.name}\n"
        f"To see it run: nox -s run -- {exercise.name} --solution {shown(exercise.workspace)}"
    )


def reset(exercise: Exercise) -> str:
    """Move the work aside and start anew; CourseError when there is none."""
    if not exercise.workspace.exists():
        raise CourseError(f"there is nothing to reset: nox -s start -- {exercise.name} makes your copy")
    moment = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    backup = WORKSPACE / ".backup" / f"{exercise.name}-{moment}"
    backup.parent.mkdir(parents=True, exist_ok=True)
    exercise.workspace.rename(backup)
    make_starter(exercise, exercise.workspace)
    return (
        f"Your work is kept in {shown(backup)}; {shown(exercise.workspace)} is as new.\n"
        f"Next: edit it, then nox -s check -- {exercise.name}"
    )


def fingerprint(folder: Path) -> str:
    """A digest of all of a solution's files: the same as long as none of them changes."""
    digest = hashlib.sha256()
    for entry in solution_files(folder):
        for file in sorted(entry.rglob("*")) if entry.is_dir() else [entry]:
            if file.is_file():
                digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def shown(path: Path) -> str:
    """A path as the person at the terminal would write it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
