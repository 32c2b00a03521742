"""A forked solution behaves as `python app.py` would, and ends when it is told to."""

import os
import signal
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from grader.launch import Launcher, Process, clean_environment, imported_libraries, wait_for

Start = Callable[..., Process]


@pytest.fixture(params=["forked", "cold"])
def start(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    if request.param == "cold":
        monkeypatch.setattr("grader.launch.CAN_FORK", False)
    folder = tmp_path / "solution"
    folder.mkdir()
    launcher = Launcher(folder)
    started: list[Process] = []

    def start(source: str, *arguments: str, stdin: bytes = b"", **env: str) -> Process:
        (folder / "app.py").write_text(textwrap.dedent(source))
        scratch = tmp_path / f"scratch-{len(started)}"
        started.append(launcher.start(folder / "app.py", list(arguments), clean_environment(dict(env)), scratch, stdin))
        return started[-1]

    yield start
    for process in started:
        process.kill()
    launcher.close()


def test_arguments_input_and_environment_arrive_and_output_comes_back(start: Start) -> None:
    process = start(
        "import os, sys; print(sys.argv[1:], sys.stdin.read(), os.environ['COLOUR'], __name__)",
        "seed",
        "--rows=3",
        stdin=b"typed",
        COLOUR="red",
    )

    assert process.wait() == 0
    assert process.stdout.split() == ["['seed',", "'--rows=3']", "typed", "red", "__main__"]


def test_the_judges_environment_stays_with_the_judge(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGES_SECRET", "hidden")

    process = start("import os; print(os.environ)")

    assert process.wait() == 0
    assert "hidden" not in process.stdout


@pytest.mark.parametrize(
    "source, code",
    [
        pytest.param("pass", 0, id="the end"),
        pytest.param("import sys; sys.exit(3)", 3, id="sys.exit"),
        pytest.param("import sys; sys.exit('sorry')", 1, id="sys.exit with a text"),
        pytest.param("raise ValueError('bad')", 1, id="an error"),
        pytest.param("import os; os._exit(4)", 4, id="os._exit"),
        pytest.param("import os; os.kill(os.getpid(), 9)", -9, id="a signal"),
        pytest.param("def (", 1, id="a syntax error"),
    ],
)
def test_the_exit_code_is_what_python_would_give(start: Start, source: str, code: int) -> None:
    assert start(source).wait() == code


def test_threads_and_atexit_end_as_in_any_program(start: Start) -> None:
    process = start(
        """
        import atexit, threading, time
        atexit.register(print, "bye")
        threading.Thread(target=lambda: (time.sleep(0.1), print("thread"))).start()
        """
    )

    assert process.wait() == 0
    assert process.stdout.split() == ["thread", "bye"]


def test_modules_beside_the_app_can_be_imported(start: Start, tmp_path: Path) -> None:
    (tmp_path / "solution" / "helper.py").write_text("VALUE = 42")

    process = start("import helper; print(helper.VALUE)")

    assert process.wait() == 0, process.stderr
    assert process.stdout == "42\n"


def test_one_process_does_not_see_what_another_changed(start: Start) -> None:
    start("import json; json.loads = None").wait()

    process = start("import json; print(json.loads('1'))")

    assert process.wait() == 0, process.stderr


def test_kill_ends_a_process_that_refuses_and_its_children(start: Start) -> None:
    process = start(
        """
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = os.fork()
        if child:
            print(child, flush=True)
        time.sleep(60)
        """
    )
    assert wait_for(lambda: process.stdout.endswith("\n"), 5)
    child = int(process.stdout)

    process.kill()

    assert process.wait() == -signal.SIGKILL
    assert wait_for(lambda: not is_running(child), 5)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_process_that_takes_longer_than_asked_is_told_from_one_that_ended(start: Start) -> None:
    process = start("import time; time.sleep(60)")

    with pytest.raises(TimeoutError):
        process.wait(0.1)


def test_a_signal_reaches_the_process(start: Start) -> None:
    process = start(
        """
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        print("ready")
        time.sleep(60)
        """
    )
    assert wait_for(lambda: "ready" in process.stdout, 5)

    process.terminate()

    assert process.wait() == 7


def test_the_warm_process_imports_libraries_and_never_the_solutions_own_modules(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import json, models, no_such_library\nfrom sqlalchemy.orm import Session")
    (tmp_path / "models.py").write_text("raise SystemExit")

    assert imported_libraries(tmp_path) == ["json", "sqlalchemy.orm"]


def test_the_pid_is_the_processes_own(start: Start) -> None:
    process = start("import os; print(os.getpid(), os.getpgid(0))")

    process.wait()

    assert process.stdout.split() == [str(process.pid)] * 2
    assert process.pid != os.getpid()


def test_a_time_zone_in_the_environment_counts(start: Start) -> None:
    process = start("import time; print(time.strftime('%H', time.localtime(0)))", TZ="Asia/Tokyo")

    process.wait()

    assert process.stdout == "09\n"
