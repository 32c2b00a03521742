"""Runs an example as its README tells: its services, its processes, and what to try."""

import contextlib
import itertools
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from grader.exercises import ROOT, CourseError, Exercise
from grader.launch import free_address
from shared import services

START_SECONDS = 20
RELEASE_SECONDS = 60
TRY_SECONDS = 120


def run(exercise: Exercise, folder: Path, arguments: list[str]) -> int:
    """Run `app.py ARGUMENTS` in `folder`; without arguments serve it, or play "Try it" where there is no HTTP face.

    Returns an exit code. Raises CourseError when the port is taken or a service is not to be had.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    with contextlib.ExitStack() as stack:
        if arguments:
            env = stack.enter_context(environment(exercise, data=ROOT / ".data" / exercise.name))
            command = [sys.executable, "app.py", *arguments]
            return subprocess.run(command, cwd=folder, env=env, check=False).returncode
        if "HTTP" not in exercise.faces:
            return play(exercise, folder)
        host, port = os.environ.get("HOST", "127.0.0.1"), os.environ.get("PORT", "8000")
        require_free_port(host, port)
        if exercise.services:
            print(f"Starting {' and '.join(exercise.services)} …", flush=True)
        env = stack.enter_context(environment(exercise))
        print(f"{exercise.title} is served on http://{host}:{port}. Try, in another terminal:\n")
        print("\n".join(f"    {line.replace('localhost:8000', f'{host}:{port}')}" for line in commands(exercise)))
        print("\nCtrl-C ends it.\n", flush=True)
        with processes(exercise, folder, env | {"HOST": host, "PORT": port}) as running:
            return wait_for_any(running)


@contextlib.contextmanager
def environment(exercise: Exercise, data: Path | None = None) -> Iterator[dict[str, str]]:
    """Yield the variables that the example runs with: ours, this Python first, and its services' URLs.

    Every run has a new database; with a folder `data`, PostgreSQL's lives there and is kept.
    """
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    env |= {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    with contextlib.ExitStack() as stack:
        if "sqlalchemy" in exercise.packages and "PostgreSQL" not in exercise.services and not data:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="run-", ignore_cleanup_errors=True))
            env.setdefault("DATABASE_URL", f"sqlite:///{folder}/run.db")
        try:
            if "PostgreSQL" in exercise.services:
                env["DATABASE_URL"] = stack.enter_context(services.postgres(data / "postgres" if data else None))
            if "Redis (Valkey)" in exercise.services:
                env["REDIS_URL"] = stack.enter_context(services.redis())
            if "S3 (moto)" in exercise.services:
                env["S3_ENDPOINT_URL"] = stack.enter_context(services.s3())
        except services.ServiceUnavailableError as error:
            raise CourseError(str(error)) from None
        yield env


def require_free_port(host: str, port: str) -> None:
    if not port.isdecimal() or int(port) not in range(1, 65536):
        raise CourseError(f"PORT={port} is no port number")
    try:
        with socket.socket() as probe:
            if os.name == "posix":  # elsewhere it would let us share a port that is taken
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, int(port)))
    except OSError as error:
        reason = error.strerror or error
        raise CourseError(
            f"cannot listen on {host}:{port} ({reason}); choose another: PORT=8001 nox -s run -- …"
        ) from None


@dataclass(frozen=True)
class Command:
    """A line of a Procfile: settings of its own (`NAME=value` before the program), the program, and its arguments."""

    settings: dict[str, str]
    program: str
    arguments: list[str]

    @classmethod
    def read(cls, line: str) -> "Command":
        words = shlex.split(line)
        settings = list(itertools.takewhile(re.compile(r"[A-Z_]\w*=").match, words))
        program, *arguments = words[len(settings) :]
        return cls(dict(word.split("=", 1) for word in settings), program, arguments)


def procfile(exercise: Exercise) -> dict[str, Command]:
    """The example's processes, as Procfile names them; without one, the app alone."""
    file = exercise.path / "Procfile"
    text = file.read_text(encoding="utf-8") if file.exists() else "web: python app.py"
    lines = [line.partition(":") for line in text.splitlines() if line.strip()]
    return {name.strip(): Command.read(command) for name, _, command in lines}


@contextlib.contextmanager
def processes(
    exercise: Exercise, folder: Path, env: dict[str, str], output: int | None = None
) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Run the example's processes; at the end ask each to stop, and kill what does not within five seconds.

    The one called `release` runs first, to its end, as Procfiles have it: what must be there before the app serves.
    """
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in sorted(procfile(exercise).items(), key=lambda item: item[0] != "release"):
            program = sys.executable if command.program == "python" else command.program
            # A solution need not have what the exercise gives beside it, such as the file that fills the database.
            given = name == "release" and not all((folder / file).exists() for file in command.arguments[:1])
            here, own = exercise.path if given else folder, env | command.settings
            line = [program, *command.arguments]
            running[name] = subprocess.Popen(line, cwd=here, env=own, stdout=output, stderr=output)
            if name == "release":
                if code := running[name].wait(RELEASE_SECONDS):
                    raise CourseError(f"`{command.program} {' '.join(command.arguments)}` failed with exit code {code}")
                del running[name]
        yield running
    finally:
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        for process in running.values():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        for process in running.values():
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Server:
    """An example that is served from a copy of its folder."""

    folder: Path
    port: int
    log: Path
    running: dict[str, subprocess.Popen[bytes]]

    @property
    def output(self) -> str:
        """What its processes have written."""
        return self.log.read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def copied(folder: Path) -> Iterator[Path]:
    """Yield a temporary copy of an example's folder: what it writes beside itself goes with it."""
    with tempfile.TemporaryDirectory(prefix="try-", ignore_cleanup_errors=True) as temporary:
        copy = Path(temporary) / folder.name
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.db", "__pycache__"))
        yield copy


@contextlib.contextmanager
def served(exercise: Exercise, folder: Path, env: dict[str, str]) -> Iterator[Server]:
    """Serve a copy of `folder` on a free port with the exercise's processes. Raises CourseError when it does not."""
    with copied(folder) as copy:
        _, port = free_address()
        log = copy.parent / "log"
        with (
            log.open("wb") as file,
            processes(exercise, copy, {**env, "HOST": "127.0.0.1", "PORT": str(port)}, file.fileno()) as running,
        ):
            server = Server(copy, port, log, running)
            _wait_for(server)
            yield server


def _wait_for(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
        except OSError as error:
            if time.monotonic() > deadline or any(process.poll() is not None for process in server.running.values()):
                raise CourseError(f"the example does not serve:\n{server.output}") from error
            time.sleep(0.02)
        else:
            return


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def wait_for_any(running: dict[str, subprocess.Popen[bytes]]) -> int:
    """Return when a process ends, with its exit code; 0 when a person ends it with Ctrl-C."""
    try:
        while all(process.poll() is None for process in running.values()):
            time.sleep(0.1)
    except KeyboardInterrupt:
        return 0
    name, ended = next((name, process) for name, process in running.items() if process.poll() is not None)
    if ended.returncode:
        print(f"{name} ended with exit code {ended.returncode}", file=sys.stderr)
    return ended.returncode


# "Try it": the commands in a README, and what comes of them.

COMMAND_SEPARATOR = "\x1e"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def console_blocks(text: str) -> list[list[str]]:
    """The commands of each ```console block; a line that starts with `> ` goes on with the command above it."""
    return [_commands_of(block) for block in re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)]


def _commands_of(block: str) -> list[str]:
    found: list[str] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append(line[2:])
        elif line.startswith("> ") and found:
            found[-1] += "\n" + line[2:]
    return found


def commands(exercise: Exercise) -> list[str]:
    """The command lines of "Try it", as they stand in the README."""
    return [command for block in console_blocks(exercise.part("Try it")) for command in block]


def outputs(exercise: Exercise, folder: Path, env: dict[str, str], port: int) -> list[str]:
    """Run all commands of "Try it" in one shell in `folder`; return what each printed, made repeatable.

    `localhost:8000` stands for `port`. Header lines that change with every answer are dropped, UUIDs are numbered.
    """
    lines = []
    for command in commands(exercise):
        actual = command.replace("localhost:8000", f"localhost:{port}").replace("127.0.0.1:8000", f"127.0.0.1:{port}")
        lines += [f"printf '{COMMAND_SEPARATOR}'", actual]
    shell = subprocess.Popen(
        ["bash"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=env | {"COLUMNS": "100", "NO_COLOR": "1"},
        encoding="utf-8",
        start_new_session=True,
    )
    try:
        said, _ = shell.communicate("\n".join(lines), timeout=TRY_SECONDS)
    except subprocess.TimeoutExpired:
        raise CourseError(f'{exercise.name}: "Try it" takes more than {TRY_SECONDS} s') from None
    finally:
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)  # what the commands left running in the background
        shell.wait()
    return [_repeatable(text, port, said) for text in said.split(COMMAND_SEPARATOR)[1:]]


def _repeatable(text: str, port: int, whole: str) -> str:
    text = text.replace("\r", "")
    text = re.sub(r"^(date|server): .*\n", "", text, flags=re.MULTILINE | re.IGNORECASE)
    text = re.sub(rf"(localhost|127\.0\.0\.1):{port}", r"\1:8000", text)
    for number, uuid in enumerate(dict.fromkeys(UUID.findall(whole)), start=1):
        text = text.replace(uuid, f"00000000-0000-4000-8000-{number:012}")
    return re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE).rstrip("\n")


def play(exercise: Exercise, folder: Path) -> int:
    """Run the commands of "Try it" before the reader's eyes, against services that are new."""
    print(
        f'{exercise.title}: the commands of "Try it", on {" and ".join(exercise.services) or "this machine"}.\n',
        flush=True,
    )
    with environment(exercise) as env:
        for command in commands(exercise):
            print(f"$ {command}", flush=True)
            subprocess.run(["bash", "-c", command], cwd=folder, env=env, check=False)
            print(flush=True)
    kept = "is temporary, as you are root" if os.name == "posix" and os.geteuid() == 0 else "is kept in .data/"
    print(f"Your turn: nox -s run -- {exercise.name} --help  (with arguments, its data {kept})")
    return 0
