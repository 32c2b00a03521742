"""Whatever a learner's copy does, `check` ends, says what happened in a sentence, and fails."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from grader.exercises import ROOT, find
from grader.results import Result
from grader.starter import copy_solution

CRUD = find("01_crud_api")


def judge(folder: Path, *options: str) -> Result:
    file = folder.parent / "results.json"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--isolated",
        f"--solution={folder}",
        f"--results={file}",
    ]
    subprocess.run([*command, *options, str(CRUD.tests)], cwd=ROOT, capture_output=True, check=False)
    return Result.read(file)


def check(folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "grader", "check", CRUD.name, "--solution", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def solution(tmp_path: Path) -> Path:
    folder = tmp_path / "solution"
    copy_solution(CRUD.path, folder)
    return folder


def test_the_worked_solution_meets_everything(solution: Path) -> None:
    run = check(solution)

    assert run.returncode == 0, run.stdout + run.stderr
    assert "4 of 4 requirements met" in run.stdout


def test_another_framework_meets_everything(tmp_path: Path) -> None:
    copy_solution(CRUD.path / "alternative", tmp_path / "flask")

    assert check(tmp_path / "flask").returncode == 0


def test_a_correct_solution_may_be_chatty_and_slow_to_start(solution: Path) -> None:
    app = solution / "app.py"
    noise = "import sys, time\nprint('starting ' * 1000)\nprint('warning', file=sys.stderr)\ntime.sleep(2)\n"
    app.write_text(app.read_text().replace("import os\n", f"import os\n{noise}", 1))

    assert judge(solution).met == 4


@pytest.mark.parametrize(
    "source, kind, told",
    [
        pytest.param("def (", "crashed", "SyntaxError", id="a syntax error"),
        pytest.param("import no_such_library", "crashed", "no_such_library", id="an import that fails"),
        pytest.param("raise SystemExit(0)", "crashed", "exit code 0", id="an end without an error"),
        pytest.param("import os; os._exit(0)", "crashed", "exit code 0", id="a hard end"),
        pytest.param("while True: pass", "timed out", "nothing listens", id="an endless loop"),
        pytest.param("import time; time.sleep(60)", "timed out", "nothing listens", id="an app that never listens"),
        pytest.param(
            "from http.server import *; HTTPServer(('127.0.0.1', 0), BaseHTTPRequestHandler).serve_forever()",
            "timed out",
            "nothing listens",
            id="an app on the wrong port",
        ),
        pytest.param(
            "import os; from http.server import *;"
            " HTTPServer(('127.0.0.1', int(os.environ['PORT'])), BaseHTTPRequestHandler).serve_forever()",
            "wrong",
            "501",
            id="an app that refuses everything",
        ),
        pytest.param(
            "import os, socket\n"
            "server = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))\n"
            "kept = []\n"
            "while True: kept.append(server.accept())",
            "timed out",
            "no answer",
            id="an app that never answers",
        ),
        pytest.param(
            "import os, socket\n"
            "server = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))\n"
            "server.accept(); server.accept()\n"
            "os._exit(3)",
            "crashed",
            "exit code 3",
            id="an app that dies when asked",
        ),
    ],
)
def test_a_broken_solution_fails_everything_and_the_reason_is_told(
    tmp_path: Path, source: str, kind: str, told: str
) -> None:
    folder = tmp_path / "solution"
    folder.mkdir()
    (folder / "app.py").write_text(source)

    started = time.monotonic()
    result = judge(folder, "--start-seconds=1", "--requirement=1")

    failures = result.requirements[0].failures
    assert result.requirements[0].status == "not met"
    assert kind in {failure.kind for failure in failures}
    assert any(told in "\n".join([failure.got, *failure.sent]) for failure in failures)
    assert time.monotonic() - started < 40


def test_a_failure_shows_what_was_sent_expected_and_got_and_a_hint(solution: Path) -> None:
    app = solution / "app.py"
    app.write_text(app.read_text().replace("exclude_unset=True", "exclude_unset=True, exclude_none=True"))

    run = check(solution)

    assert run.returncode == 1
    for part in ("sent     PATCH /products/", '{"description":null}', "expected", "got", "hint", "3 of 4"):
        assert part in run.stdout


def test_check_without_a_solution_says_how_to_get_one(tmp_path: Path) -> None:
    run = check(tmp_path)

    assert run.returncode == 1
    assert "there is no app.py" in run.stderr


def test_the_results_file_has_every_test_of_every_requirement(solution: Path) -> None:
    judge(solution)

    data = json.loads((solution.parent / "results.json").read_text())
    assert (data["met"], data["total"], data["isolated"]) == (4, 4, True)
    assert all(test["outcome"] == "passed" for item in data["requirements"] for test in item["tests"])
