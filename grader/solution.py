"""What a test may do with a solution: serve it, run a command of it, start a process of it.

Tests know only an exercise's face, so the same tests drive a solution inside the test process (inline, the default)
and as separate processes (isolated). Everything that was sent and that came back is kept for the report.
"""

import contextlib
import importlib.util
import io
import json
import logging
import os
import re
import runpy
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any
from unittest import mock

import httpx2

from grader import serving
from grader.launch import Launcher, Process, clean_environment, free_address, wait_for

START_SECONDS = 10.0
ANSWER_SECONDS = 5.0
SHOWN_CHARACTERS = 1000
_JUDGES_FRAMES = re.compile(r'  File "[^"\n]*zygote\.py".*?File "<frozen runpy>", line \d+, in _run_code\n', re.DOTALL)


class SolutionCrashedError(AssertionError):
    """The solution ended, or never came up, where it should have answered."""


class SolutionTimedOutError(AssertionError):
    """The solution did not answer, end or listen in time."""


@dataclass
class Finished:
    """A command that has ended."""

    exit_code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """Standard output as JSON. Raises AssertionError when it is none."""
        try:
            return json.loads(self.stdout)
        except ValueError as error:
            raise AssertionError(f"standard output is not JSON ({error}): {_cut(self.stdout)!r}") from None


class Client(httpx2.Client):
    """An HTTP client on a running solution; paths are enough. Redirects are not followed."""

    def __init__(self, address: tuple[str, int], transcript: list[str], log: "_Log", stop: Callable[[], None]) -> None:
        host, port = address
        # Straight to the solution, whatever proxy the environment names, and without loading certificates: 40 ms.
        # A connection a request: a server closes it after an error, and the next request would be the one to learn it.
        super().__init__(
            base_url=f"http://{host}:{port}",
            timeout=log.patience.seconds,
            trust_env=False,
            verify=False,
            limits=httpx2.Limits(max_keepalive_connections=0),
        )
        self.address = address
        self.stop = stop
        """End the server and wait until it has: a process is asked by SIGTERM, then made to."""
        self._transcript = transcript
        self._log = log

    @property
    def output(self) -> str:
        """What the solution has written to standard output and error; inline, pytest's capsys has it instead."""
        return self._log.process.output if self._log.process else ""

    @property
    def process(self) -> Process | None:
        """The process that serves; None inline."""
        return self._log.process

    @property
    def is_lost(self) -> bool:
        """Whether the server has ended or failed to answer once."""
        return self._log.is_lost

    def record_to(self, transcript: list[str]) -> None:
        """Note from now on what is sent and what comes in `transcript`; forget cookies, which were another test's."""
        self._transcript = transcript
        self.cookies.clear()

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        # Noted as a whole, since several threads may be sending.
        exchange = [_describe_request(request)]
        try:
            response = super().send(request, **options)
            if not options.get("stream"):
                exchange.append(_describe_response(response))
        except httpx2.TimeoutException:
            self._log.patience.lose()
            self._log.hangs = True
            asked = f"{request.method} {request.url.raw_path.decode()}"
            raise SolutionTimedOutError(f"no answer to {asked} within {self.timeout.read:g} s") from None
        except httpx2.TransportError as error:
            process = self._log.process
            # A connection that breaks because the process ends breaks a moment before it has ended.
            if process and wait_for(lambda: process.exit_code is not None, timeout=0.2):
                message = f"the app ended with exit code {process.exit_code} instead of answering"
                raise SolutionCrashedError(f"{message}\n{_cut_start(process.stderr)}") from None
            raise AssertionError(f"the app's answer is not HTTP: {error}") from None
        finally:
            self._transcript.append("\n".join(exchange))
        return response


@dataclass
class Patience:
    """How long to wait for an answer: five seconds, then one, once an answer failed to come.

    A solution that hangs would otherwise keep its learner waiting in every test. The first wait is long, so nothing
    that is merely slow loses it.
    """

    start_seconds: float = START_SECONDS
    seconds: float = ANSWER_SECONDS
    never_listened: str = ""

    def lose(self) -> None:
        self.seconds = 1.0


@dataclass
class _Log:
    patience: Patience
    process: Process | None = None
    hangs: bool = False

    @property
    def is_lost(self) -> bool:
        return self.hangs or (self.process is not None and self.process.exit_code is not None)


@dataclass
class SharedServers:
    """Servers that several tests use, until one of them ends or hangs; all end with the test run."""

    clients: dict[object, Client] = field(default_factory=dict)
    crashes: dict[object, str] = field(default_factory=dict)
    cleanup: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    joins: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __post_init__(self) -> None:
        self.cleanup.callback(self.joins.close)  # last, so that all have been told to stop before one is waited for


@dataclass
class Solution:
    """A solution under test. Everything that it starts ends with the test."""

    path: Path
    isolated: bool
    scratch: Path
    launcher: Launcher
    patience: Patience
    shared: SharedServers
    transcript: list[str] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    _cleanup: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def app(self) -> Path:
        return self.path / "app.py"

    def serve(self, *, isolated: bool | None = None, **env: str | None) -> Client:
        """Serve the app with these environment variables; return a client on it.

        `isolated=True` asks for a process of its own also in an inline run, for what only a process can show: two
        servers side by side, memory, signals. Raises SolutionCrashedError, SolutionTimedOutError.
        """
        if self.isolated if isolated is None else isolated:
            return self._serve_process(env)
        return self._serve_inline(env)

    def serve_shared(self, **env: str | None) -> Client:
        """Return a client on a server that all tests share that ask for it with the same variables.

        A start costs as much as twenty requests, so tests that leave each other's data alone share one. A server
        that has ended or hangs is replaced: one test's crash is not the next one's.
        """
        key = (self.path, self.isolated, *sorted(env.items()))
        client = self.shared.clients.get(key)
        if client is None or client.is_lost:
            if key in self.shared.crashes:  # the same start would end the same way, a tenth of a second later
                raise SolutionCrashedError(self.shared.crashes[key])
            mine, self._cleanup = self._cleanup, self.shared.cleanup
            try:
                client = self.shared.clients[key] = self.serve(isolated=None, **env)
            except SolutionCrashedError as error:
                self.shared.crashes[key] = str(error)
                raise
            finally:
                self._cleanup = mine
        client.record_to(self.transcript)
        self.processes += [client.process] if client.process else []
        return client

    def run(self, *arguments: str, stdin: str = "", timeout: float = 30, **env: str | None) -> Finished:
        """Run `python app.py ARGUMENTS` to its end, at most `timeout` seconds. Raises SolutionTimedOutError."""
        self.transcript.append(" ".join(["$ python app.py", *arguments]))
        finished = (self._run_process if self.isolated else self._run_inline)(arguments, stdin, timeout, env)
        self.transcript[-1] += f"\n{_cut(finished.stdout + finished.stderr)}\nexit code {finished.exit_code}"
        return finished

    def start(self, *arguments: str, stdin: str = "", **env: str | None) -> Process:
        """Start `python app.py ARGUMENTS` in the background, as a process of its own in both kinds of run."""
        self.transcript.append(" ".join(["$ python app.py", *arguments, "&"]))
        return self._launch(arguments, stdin, env)

    def errors(self) -> str:
        """What the servers of this test wrote to standard error last: where the traceback of a 500 stands."""
        return "\n".join(_cut_start(process.stderr) for process in self.processes)

    def close(self) -> None:
        """End whatever still runs."""
        self._cleanup.close()

    # Isolated: separate processes.

    def _launch(self, arguments: tuple[str, ...], stdin: str, env: dict[str, str | None]) -> Process:
        scratch = Path(tempfile.mkdtemp(prefix="process-", dir=self.scratch))
        environment = clean_environment({"HOME": str(self.scratch), "USERPROFILE": str(self.scratch), **env})
        process = self.launcher.start(self.app, list(arguments), environment, scratch, stdin.encode())
        self._cleanup.callback(process.kill)
        return process

    def _serve_process(self, env: dict[str, str | None]) -> Client:
        if self.patience.never_listened:
            raise SolutionTimedOutError(f"{self.patience.never_listened} (not tried again)")
        address = free_address()
        host, port = address
        process = self._launch((), "", {"HOST": host, "PORT": str(port), **env})
        seconds = self.patience.start_seconds
        answered = wait_for(lambda: _listens(address) or process.exit_code is not None, seconds)
        if process.exit_code is not None:
            message = f"app.py ended with exit code {process.exit_code} instead of serving"
            raise SolutionCrashedError(f"{message}\n{_cut_start(process.output)}")
        if not answered:
            self.patience.never_listened = f"nothing listens on HOST={host} PORT={port} after {seconds:g} s"
            raise SolutionTimedOutError(f"{self.patience.never_listened}\n{_cut_start(process.output)}")

        def stop() -> None:
            process.terminate()
            with contextlib.suppress(TimeoutError):
                process.wait(5)
            process.kill()

        return self._client(address, _Log(self.patience, process), stop)

    def _run_process(
        self, arguments: tuple[str, ...], stdin: str, timeout: float, env: dict[str, str | None]
    ) -> Finished:
        process = self._launch(arguments, stdin, env)
        try:
            code = process.wait(timeout)
        except TimeoutError:
            process.kill()
            raise SolutionTimedOutError(f"`app.py {' '.join(arguments)}` still ran after {timeout:g} s") from None
        return Finished(code, process.stdout, process.stderr)

    # Inline: in this process, where a debugger can follow.

    def _serve_inline(self, env: dict[str, str | None]) -> Client:
        with self._environment(env, []):
            try:
                app = _load(self.app).create_app()
                listener = _listener()
                address = listener.getsockname()
                server = serving.serve(app, listener)
            except TimeoutError as error:
                raise SolutionTimedOutError(str(error)) from None
            except (Exception, SystemExit) as error:
                raise SolutionCrashedError(_crash(error)) from error
        self.shared.joins.callback(server.join, 2)  # its end takes 0.2 s: nobody waits for it between tests
        self._cleanup.callback(server.stop)

        def stop() -> None:
            server.stop()
            server.join(5)

        return self._client(address, _Log(self.patience), stop)

    def _run_inline(
        self, arguments: tuple[str, ...], stdin: str, timeout: float, env: dict[str, str | None]
    ) -> Finished:
        out, err = _text_stream(), _text_stream()
        with (
            _own_logging(),
            self._environment(env, [str(self.app), *arguments]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch("sys.stdin", _text_stream(stdin)),
            _time_limit(timeout, " ".join(arguments)),
        ):
            try:
                runpy.run_path(str(self.app), run_name="__main__")
                code = 0
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else int(error.code is not None)
                if isinstance(error.code, str):
                    print(error.code, file=sys.stderr)
            except SolutionTimedOutError:
                raise
            except Exception:  # noqa: BLE001  the interpreter would print it and end with 1
                traceback.print_exc()
                code = 1
        return Finished(code, _written(out), _written(err))

    @contextlib.contextmanager
    def _environment(self, env: dict[str, str | None], argv: list[str]) -> Iterator[None]:
        """As a process of its own would see it: environment, arguments, folder, import path."""
        _forget_other_solutions(self.path)
        environment = clean_environment({"HOME": str(self.scratch), "USERPROFILE": str(self.scratch), **env})
        try:
            with (
                mock.patch.dict(os.environ, environment, clear=True),
                mock.patch("sys.argv", argv or sys.argv),
                mock.patch("sys.path", [str(self.path), *sys.path]),
                mock.patch("sys.dont_write_bytecode", True),
                contextlib.chdir(self.scratch),
            ):
                _read_time_zone()
                yield
        finally:
            _read_time_zone()

    def _client(self, address: tuple[str, int], log: _Log, stop: Callable[[], None]) -> Client:
        client = Client(address, self.transcript, log, stop)
        self.processes += [log.process] if log.process else []
        self._cleanup.callback(client.close)
        return client


_loaded: dict[Path, ModuleType] = {}


def _load(app: Path) -> ModuleType:
    """Import app.py once, under the name `app`, as its sibling modules would."""
    if app not in _loaded:
        spec = importlib.util.spec_from_file_location("app", app)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules["app"] = module
        spec.loader.exec_module(module)
        _loaded[app] = module
    return _loaded[app]


_current: Path | None = None


def _forget_other_solutions(path: Path) -> None:
    """Two exercises in one test run may both have a models.py: forget the modules of the one before."""
    global _current  # noqa: PLW0603  sys.modules is as global as it gets
    if _current not in (None, path):
        _forget_modules(_current)
        _loaded.clear()
    _current = path


def _forget_modules(folder: Path | None) -> None:
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).parent == folder:
            del sys.modules[name]


def _text_stream(text: str = "") -> io.TextIOWrapper:
    """A stream in memory that has a `buffer` of bytes behind it, as a program's streams have."""
    return io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8", write_through=True)


def _written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode(errors="replace") if isinstance(stream.buffer, io.BytesIO) else ""


def _read_time_zone() -> None:
    """Let the C library look at TZ again, which it reads once."""
    if hasattr(time, "tzset"):
        time.tzset()


@contextlib.contextmanager
def _own_logging() -> Iterator[None]:
    """Give a command a root logger as new: basicConfig does nothing to one that has handlers."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@contextlib.contextmanager
def _time_limit(seconds: float, command: str) -> Iterator[None]:
    """Interrupt what runs in the main thread for too long, where the platform has timers."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(_number: int, _frame: FrameType | None) -> None:
        raise SolutionTimedOutError(f"`app.py {command}` still ran after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _listener() -> socket.socket:
    """A listening socket that says it speaks TCP: asyncio turns Nagle's delay of 40 ms off only on such a one."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)
    return listener


def _listens(address: tuple[str, int]) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=1):
        return True
    return False


def _crash(error: BaseException) -> str:
    """The error and the line of the solution that it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1]
    return f"{type(error).__name__}: {error}\nin {last.name}, {Path(last.filename).name}:{last.lineno}"


def _describe_request(request: httpx2.Request) -> str:
    plain = {"host", "accept", "accept-encoding", "connection", "user-agent", "content-length"}
    headers = [f"{name}: {value}" for name, value in request.headers.items() if name not in plain]
    try:
        body = request.content.decode(errors="replace")
    except httpx2.RequestNotRead:
        body = "(a stream)"
    return "\n".join(filter(None, [f"{request.method} {request.url.raw_path.decode()}", *headers, _cut(body)]))


def _describe_response(response: httpx2.Response) -> str:
    plain = {"date", "server", "connection", "content-length"}
    headers = [f"{name}: {value}" for name, value in response.headers.items() if name not in plain]
    return "\n".join(
        filter(None, [f"→ {response.status_code} {response.reason_phrase}", *headers, _cut(response.text)])
    )


def _cut(text: str) -> str:
    text = text.strip()
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} … ({len(text)} characters)"


def _cut_start(text: str) -> str:
    """The end of a program's output, where the error stands, without the frames that are the judge's."""
    text = _JUDGES_FRAMES.sub("", text.strip())
    return text if len(text) <= SHOWN_CHARACTERS else f"… {text[-SHOWN_CHARACTERS:]}"


def wait_until(condition: Any, timeout: float = 10, message: str = "it did not happen") -> Any:
    """For tests: return the first true value of `condition()`; AssertionError with `message` after `timeout` s."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{message} within {timeout:g} s")
        time.sleep(0.01)
    return value
