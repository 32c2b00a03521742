"""A warm process that forks solutions: the imports are done once, each start costs a fork.

Run as a program: `python -P zygote.py FD MODULE…`. It imports the modules, then serves requests that arrive on the
socket FD: a JSON line with argv, env, cwd and limits, and with it four file descriptors: standard input, output,
error, and a pipe on which the pid is written at once and the exit code when the process has ended.
A solution's own modules are never imported here, only in the children.

When FD listens, each connection gets a branch of the process to itself, which serves as told above after a first
message with the names of more modules. It all ends when the starter closes its end of standard input.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import sys
import time

# Modules that a library imports only when the first server, connection or job needs them.
LATE = {
    "uvicorn": [
        "uvicorn.lifespan.on",
        "uvicorn.loops.asyncio",
        "uvicorn.protocols.http.auto",
        "uvicorn.protocols.websockets.auto",
    ],
    "fastapi": ["anyio._backends._asyncio", "fastapi.openapi.utils", "pydantic.v1"],
    "pydantic": [
        "pydantic.main",
        "pydantic.types",
        "pydantic._internal._generate_schema",
        "pydantic._internal._validators",
    ],
    "faker": ["faker.providers.person.en_US", "faker.providers.internet.en_US"],
    "flask": ["werkzeug.serving", "flask.json.provider"],
    "sqlalchemy": ["sqlalchemy.dialects.sqlite", "sqlite3.dbapi2"],
    "psycopg": ["sqlalchemy.dialects.postgresql.psycopg", "psycopg.types.json"],
    "rq": ["rq.worker", "rq.scheduler", "rq.registry"],
}

# Libraries that read the environment when they are imported, and the solution's is not there yet.
TOO_EARLY = {"prometheus_client", "prometheus_fastapi_instrumentator"}


def main() -> dict[str, object]:
    """Serve until the judge hangs up. Returns only in a child, with what that child shall run."""
    control = socket.socket(fileno=int(sys.argv[1]))
    import_libraries(sys.argv[2:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.collect()
    gc.freeze()  # pages that the collector does not touch stay shared with the children
    if control.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        control = branch(control)
    return serve(control)


def branch(listener: socket.socket) -> socket.socket:
    """Fork for each connection, until standard input ends. Returns only in a child, with its connection."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the children
    while True:
        readable, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in readable:
            os._exit(0)
        control, _ = listener.accept()
        if os.fork() == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
            listener.close()
            os.setsid()
            import_libraries(json.loads(control.recv(1 << 20)))
            return control
        control.close()


def serve(control: socket.socket) -> dict[str, object]:
    """Fork a child for each request. Returns only in the children."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphans become ours, not init's
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    reports: dict[int, int] = {}
    while True:
        readable, _, _ = select.select([control.fileno(), wake], [], [])
        if wake in readable:
            os.read(wake, 4096)
            reap(reports)
        if control.fileno() in readable:
            message, descriptors, _, _ = socket.recv_fds(control, 1 << 20, 4)
            if not message:
                end_children()
                os._exit(0)
            request = json.loads(message)
            pid = os.fork()
            if pid == 0:
                control.close()
                os.close(wake)
                signal.set_wakeup_fd(-1)
                os.close(waker)
                for report in reports.values():
                    os.close(report)
                become(request, descriptors)
                return dict(request)
            for descriptor in descriptors[:3]:
                os.close(descriptor)
            reports[pid] = descriptors[3]
            os.write(reports[pid], f"{pid}\n".encode())


def import_libraries(modules: list[str]) -> None:
    for module in modules:
        if module.partition(".")[0] in TOO_EARLY:
            continue
        for name in [module, *LATE.get(module, [])]:
            # A library that is not there, or does not import, is the solution's to complain about.
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def reap(reports: dict[int, int]) -> None:
    """Tell the judge the exit code of every child that has ended, as subprocess counts them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid in reports:
            report = reports.pop(pid)
            with contextlib.suppress(BrokenPipeError):
                os.write(report, f"{os.waitstatus_to_exitcode(status)}\n".encode())
            os.close(report)


def end_children() -> None:
    """Kill what is left when the judge has gone, daemons that left their process group included (on Linux)."""
    listing = f"/proc/{os.getpid()}/task/{os.getpid()}/children"
    while os.path.exists(listing):  # noqa: PTH110  pathlib is one import too many here
        with open(listing) as file:  # noqa: PTH123
            children = file.read().split()
        if not children:
            return
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def become(request: dict[str, object], descriptors: list[int]) -> None:
    """Turn this child into what `python app.py …` would have been."""
    os.setsid()
    for number in (signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for target, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, target)
    for descriptor in descriptors:
        os.close(descriptor)
    for name, value in dict(request["limits"]).items():  # type: ignore[call-overload]
        with contextlib.suppress(ValueError):  # a stricter limit is in force already
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    os.chdir(str(request["cwd"]))
    os.environ.clear()
    os.environ.update(dict(request["env"]))  # type: ignore[call-overload]
    time.tzset()  # TZ may be among them
    sys.argv = list(request["argv"])  # type: ignore[call-overload]
    sys.path.insert(0, os.path.dirname(sys.argv[0]))  # noqa: PTH120  pathlib is one import too many here
    sys.dont_write_bytecode = True
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


if __name__ == "__main__":
    todo = main()
    # At the top level and last, so that errors, sys.exit, atexit and threads end as they do in any program.
    runpy.run_path(str(todo["argv"][0]), run_name="__main__")  # type: ignore[index]
