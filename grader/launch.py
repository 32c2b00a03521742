"""Starts a solution as a process of its own: forked from a warm one where the platform can, else cold."""

import ast
import contextlib
import importlib.util
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

CAN_FORK = hasattr(os, "fork") and sys.platform != "darwin"  # macOS forbids much after a fork
LIMITS = {"CPU": 120, "FSIZE": 1 << 29, "CORE": 0}  # seconds, bytes, bytes
WARM = "GRADER_WARM"  # names the socket of a warm process that the judges of many solutions share
KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "VIRTUAL_ENV", "SSL_CERT_FILE")


def clean_environment(variables: dict[str, str | None]) -> dict[str, str]:
    """The environment of a solution: what a program needs to run at all, and what the test gives; no more."""
    base = {name: os.environ[name] for name in KEPT if name in os.environ}
    base |= {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8"}
    return base | {name: value for name, value in variables.items() if value is not None}


class Process:
    """A running solution, with its output in files. It leads a process group of its own."""

    def __init__(self, pid: int, scratch: Path, wait: Callable[[float | None], int | None], kill_group: bool) -> None:
        self.pid = pid
        self._stdout, self._stderr = scratch / "stdout", scratch / "stderr"
        self._wait = wait
        self._kill_group = kill_group

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal, or None while the process lives."""
        return self._wait(0)

    def wait(self, timeout: float = 10) -> int:
        """Return the exit code. Raises TimeoutError when the process outlives `timeout` seconds."""
        code = self._wait(timeout)
        if code is None:
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
        return code

    def signal(self, number: int) -> None:
        """Send a signal to the process alone, as `kill -NUMBER PID` would; none if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            if self.exit_code is None:
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the whole process group at once, whatever it thinks of that, and wait for it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._kill_group:
                os.killpg(self.pid, signal.SIGKILL)
            else:
                os.kill(self.pid, signal.SIGTERM)  # on Windows this is TerminateProcess
        self._wait(10)

    @property
    def stdout(self) -> str:
        return self._stdout.read_text(encoding="utf-8", errors="replace")

    @property
    def stderr(self) -> str:
        return self._stderr.read_text(encoding="utf-8", errors="replace")

    @property
    def output(self) -> str:
        """What it has written so far, errors last."""
        return self.stdout + self.stderr


class Launcher:
    """Starts processes for the solution in `folder`; the warm process behind it starts with the first of them.

    `limits` are those of each process, by the names that the resource module gives them. `fresh` asks for an
    interpreter of its own: processes of one interpreter have one seed for `hash()`.
    """

    def __init__(self, folder: Path, limits: dict[str, int] = LIMITS, *, fresh: bool = False) -> None:
        self.folder = folder
        self._limits = limits
        self._fresh = fresh
        self._control: socket.socket | None = None
        self._zygote: subprocess.Popen[bytes] | None = None

    def start(self, program: Path, arguments: list[str], env: dict[str, str], scratch: Path, stdin: bytes) -> Process:
        """Start `python PROGRAM ARGUMENTS` with just this environment, in the folder `scratch`."""
        scratch.mkdir(parents=True, exist_ok=True)
        (scratch / "stdin").write_bytes(stdin)
        with (
            (scratch / "stdin").open("rb") as standard_in,
            (scratch / "stdout").open("ab") as out,
            (scratch / "stderr").open("ab") as err,
        ):
            argv = [str(program), *arguments]
            streams = [standard_in.fileno(), out.fileno(), err.fileno()]
            return self._fork(argv, env, scratch, streams) if CAN_FORK else self._spawn(argv, env, scratch, streams)

    def _fork(self, argv: list[str], env: dict[str, str], scratch: Path, streams: list[int]) -> Process:
        control = self._control or self.warm_up(*imported_libraries(self.folder))
        reading, writing = os.pipe()
        request = {"argv": argv, "env": env, "cwd": str(scratch), "limits": self._limits}
        socket.send_fds(control, [json.dumps(request).encode()], [*streams, writing])
        os.close(writing)
        report = _Report(reading)
        return Process(report.pid(), scratch, report.wait, kill_group=True)

    def _spawn(self, argv: list[str], env: dict[str, str], scratch: Path, streams: list[int]) -> Process:
        standard_in, out, err = streams
        process = subprocess.Popen(
            [sys.executable, *argv],
            stdin=standard_in,
            stdout=out,
            stderr=err,
            env=env,
            cwd=scratch,
            start_new_session=True,
        )

        def wait(timeout: float | None) -> int | None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(timeout)
            return None

        return Process(process.pid, scratch, wait, kill_group=hasattr(os, "killpg"))

    def warm_up(self, *modules: str, env: dict[str, str] | None = None) -> socket.socket:
        """Start the warm process, or branch it off from the one that judges share, and import the modules in it."""
        if WARM in os.environ and not self._fresh:
            self._control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._control.connect(os.environ[WARM])
            self._control.send(json.dumps(modules).encode())
            return self._control
        # Packets keep the border between two requests; macOS does without them, and without forks.
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._zygote = start_zygote(theirs, list(modules), clean_environment({}) if env is None else env)
        return self._control

    def close(self) -> None:
        """End the warm process, and wait for its end; running children are their starter's to end."""
        if self._control:
            with contextlib.suppress(OSError):  # it may have been killed
                self._control.shutdown(socket.SHUT_WR)
                self._control.settimeout(10)
                self._control.recv(1)
            self._control.close()
        if self._zygote:
            self._zygote.wait(10)


def start_zygote(
    channel: socket.socket, modules: list[str], env: dict[str, str], stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Start the program zygote.py on its end of a socket pair, or on a socket that listens; it is closed here."""
    program = Path(__file__).with_name("zygote.py")
    with channel:
        return subprocess.Popen(
            [sys.executable, "-P", program, str(channel.fileno()), *modules],
            pass_fds=[channel.fileno()],
            stdin=stdin,
            env=env,
            start_new_session=True,
        )


class _Report:
    """The judge's end of a child's pipe: its pid comes first, its exit code when it has ended."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "rb", buffering=0)
        self._exit_code: int | None = None
        self._lock = threading.Lock()  # a test's threads may all ask at once whether the process has ended

    def pid(self) -> int:
        return int(self._file.readline())

    def wait(self, timeout: float | None) -> int | None:
        with self._lock:
            if self._exit_code is None and select.select([self._file], [], [], timeout)[0]:
                self._exit_code = int(self._file.readline() or -signal.SIGKILL)
                self._file.close()
            return self._exit_code


def imported_libraries(folder: Path) -> list[str]:
    """The libraries that the solution's files import, found without running them; never its own modules."""
    names: dict[str, None] = {}
    for file in sorted(file for file in folder.glob("*.py") if file.is_file()):
        # Whatever is wrong with the file is for the solution's own process to stumble over.
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError, OSError):
            for node in ast.walk(ast.parse(file.read_bytes())):
                if isinstance(node, ast.Import):
                    names |= dict.fromkeys(alias.name for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                    names |= {node.module: None}
    own = {file.stem for file in folder.iterdir()}
    return [name for name in names if name.partition(".")[0] not in own and _is_installed(name.partition(".")[0])]


def _is_installed(package: str) -> bool:
    with contextlib.suppress(ImportError, ValueError):
        return importlib.util.find_spec(package) is not None
    return False


def wait_for(condition: Callable[[], bool], timeout: float, pause: float = 0.002) -> bool:
    """Return whether `condition` came true within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def free_address() -> tuple[str, int]:
    """A free port below those that the kernel gives out by itself: a probe of such a one may reach itself."""
    while True:
        address = ("127.0.0.1", random.SystemRandom().randint(20_000, 32_000))
        with contextlib.suppress(OSError), socket.socket() as probe:
            if os.name == "posix":  # elsewhere it would let us share a port that is taken
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return address
