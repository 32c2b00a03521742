"""Writes the parts of the READMEs that come from somewhere else: the path, the mistakes, what "Try it" prints.

`nox -s docs` writes them, `nox -s course` only compares. Figures of experiments are written by `nox -s measure`.
"""

import platform
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

from grader.exercises import ROOT, CourseError, Exercise, cores, exercises, sections
from grader.launch import free_address
from grader.mistakes import Mistake
from grader.run import commands, copied, environment, outputs, served


def replace_part(text: str, name: str, content: str) -> str:
    """Put `content` between `<!-- name -->` and `<!-- /name -->`. Raises CourseError when they are missing."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if start not in text or end not in text:
        raise CourseError(f"the markers {start} and {end} are missing")
    before, _, rest = text.partition(start)
    return f"{before}{start}\n{content.strip()}\n{end}{rest.partition(end)[2]}"


def path_table(of: list[Exercise], relative_to: Path) -> str:
    """The path: each exercise with what one learns there, its face and its services."""
    rows = ["| Exercise | What you learn | Face | Services |", "| --- | --- | --- | --- |"]
    for exercise in of:
        link = exercise.path.relative_to(relative_to).as_posix()
        services = ", ".join(exercise.services) or "none"
        rows.append(f"| [{exercise.name}]({link}) | {exercise.summary} | {', '.join(exercise.faces)} | {services} |")
    return "\n".join(rows)


def write_tables(*, check: bool) -> list[str]:
    """Write the path into the root's README, and path and diagram into the sections'.

    Returns the names of the files that changed (would change).
    """
    stale = []
    everything = exercises()
    readmes = [(ROOT / "README.md", everything)]
    readmes += [
        (section / "README.md", [exercise for exercise in everything if exercise.path.parent == section])
        for section in sections()
        if (section / "README.md").exists()
    ]
    for readme, of in readmes:
        text = replace_part(readme.read_text(encoding="utf-8"), "path", path_table(of, readme.parent))
        if "<!-- diagram -->" in text:
            text = replace_part(text, "diagram", diagram_of(of))
        stale += _update(readme, text, check=check)
    return stale


def write_exercise(exercise: Exercise, *, check: bool) -> list[str]:
    """Write the generated parts of an exercise's README; return its name if that changed it (would change it)."""
    readme = exercise.path / "README.md"
    text = replace_part(readme.read_text(encoding="utf-8"), "mistakes", mistakes_table(exercise))
    try_it = exercise.part("Try it")
    return _update(readme, text.replace(try_it, _fill(try_it, try_outputs(exercise))), check=check)


def _update(file: Path, text: str, *, check: bool) -> list[str]:
    if text == file.read_text(encoding="utf-8"):
        return []
    if not check:
        file.write_text(text, encoding="utf-8")
    return [str(file.relative_to(ROOT))]


def mistakes_table(exercise: Exercise) -> str:
    rows = ["| Mistake | What is wrong | Breaks |", "| --- | --- | --- |"]
    for mistake in map(Mistake.read, exercise.mistakes):
        sentence = exercise.requirements[mistake.breaks].sentence if mistake.breaks in exercise.requirements else "?"
        link = f"[{mistake.name.replace('_', ' ')}](mistakes/{mistake.name}.patch)"
        rows.append(f"| {link} | {mistake.prose} | {mistake.breaks}. {sentence} |")
    return "\n".join(rows)


def try_outputs(exercise: Exercise) -> list[str]:
    """What the commands of "Try it" print, in a copy of the folder, with the app running if it has an HTTP face."""
    if not shutil.which("curl") and any("curl" in command for command in commands(exercise)):
        raise CourseError("curl is needed to run the README's commands, and is not installed")
    with environment(exercise) as env:
        if "HTTP" not in exercise.faces:
            with copied(exercise.path) as folder:
                _, port = free_address()
                return outputs(exercise, folder, env, port)
        with served(exercise, exercise.path, env) as server:
            return outputs(exercise, server.folder, env, server.port)


def _fill(text: str, results: list[str]) -> str:
    """Put each command's output below it, in place of what stands there.

    A ```mermaid block right after a ```console block takes what the last command printed: GitHub draws it.
    """
    remaining = iter(results)

    def fill(found: re.Match[str]) -> str:
        lines: list[str] = []
        output = ""
        for line in found[1].splitlines():
            if line.startswith("$ "):
                lines += output.splitlines()
                lines.append(line)
                output = next(remaining)
            elif line.startswith("> "):
                lines.append(line)
        if found[2]:
            return "```console\n" + "\n".join(lines) + "\n```\n\n```mermaid\n" + output + "\n```"
        return "```console\n" + "\n".join(lines + output.splitlines()) + "\n```"

    return re.sub(r"^```console\n(.*?)^```(\n\n```mermaid\n.*?^```)?", fill, text, flags=re.DOTALL | re.MULTILINE)


def diagram_of(of: list[Exercise]) -> str:
    """The first ```mermaid block in the exercises' READMEs. Raises CourseError when there is none."""
    for exercise in of:
        if found := re.search(r"^```mermaid\n.*?^```", exercise.readme, re.DOTALL | re.MULTILINE):
            return found[0]
    raise CourseError("no exercise of the section has a ```mermaid block")


def write_measured(exercise: Exercise, figures: str) -> None:
    """Put an experiment's figures into the README, with the day and the kind of machine."""
    readme = exercise.path / "README.md"
    today = datetime.now(UTC).date().isoformat()
    machine = f"{platform.system()} {platform.machine()}, {cores()} cores, Python {platform.python_version()}"
    content = f"{figures.strip()}\n\nMeasured on {today} ({machine}) by `nox -s measure -- {exercise.name}`."
    readme.write_text(replace_part(readme.read_text(encoding="utf-8"), "measured", content), encoding="utf-8")
