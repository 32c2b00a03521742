"""Serves a WSGI or ASGI app from a thread of this process, over real HTTP on a port of its own.

Real sockets, because an app that is called directly shows neither what a server makes of its headers nor what HEAD,
204 and a broken connection look like to a client.
"""

import ast
import functools
import inspect
import socket
import sys
import threading
from collections.abc import Callable
from typing import IO, Any, Protocol, cast

START_SECONDS = 10.0
PARSES_IN_THREADS = sys.version_info >= (3, 12, 2) or (3, 11, 8) <= sys.version_info < (3, 12)


class Server(Protocol):
    """A thread that serves until it is told to stop."""

    def stop(self) -> None: ...
    def join(self, timeout: float) -> None: ...
    @property
    def error(self) -> BaseException | None: ...


def parse_one_at_a_time() -> None:
    """Let one thread at a time parse Python: older versions raise SystemError in a thread that another one interrupts.

    A server that logs the traceback of an error parses its lines, and pytest does so for a test that fails, just then.
    See https://github.com/python/cpython/issues/106905.
    """
    lock, parse = threading.RLock(), ast.parse

    @functools.wraps(parse)
    def alone(*arguments: Any, **options: Any) -> Any:
        with lock:
            return parse(*arguments, **options)

    ast.parse = alone


def is_asgi(app: Any) -> bool:
    """Whether the app is called as `await app(scope, receive, send)`; what is not is taken for WSGI."""
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(getattr(app, "__call__", None))  # noqa: B004


def serve(app: Any, listener: socket.socket) -> Server:
    """Serve the app on a listening socket. Returns when it answers.

    Raises what the app raised at its start-up, and TimeoutError when that takes more than START_SECONDS.
    """
    return (_AsgiServer if is_asgi(app) else _WsgiServer)(app, listener)


class _Thread:
    def __init__(self, target: Callable[[], None]) -> None:
        self.error: BaseException | None = None
        self._target = target
        self._thread = threading.Thread(target=self._run, daemon=True, name="solution")
        self._thread.start()

    def _run(self) -> None:
        try:
            self._target()
        except BaseException as error:  # noqa: BLE001  SystemExit included: it must not vanish in a thread
            self.error = error

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)


class _AsgiServer(_Thread):
    def __init__(self, app: Any, listener: socket.socket) -> None:
        import uvicorn  # noqa: PLC0415  WSGI solutions do without

        ready = threading.Event()

        class Announcing(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                ready.set()

        # No proxy is before it: an app that reads X-Forwarded-For shall see the address that it comes from.
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="auto", proxy_headers=False)
        self._server = Announcing(config)

        def run() -> None:
            try:
                self._server.run([listener])
            finally:
                ready.set()

        super().__init__(run)
        if not ready.wait(START_SECONDS):
            raise TimeoutError(f"the app's start-up takes more than {START_SECONDS:g} s")
        if not self._server.started:
            self.join(1)
            raise self.error or RuntimeError("the app's start-up failed")

    def stop(self) -> None:
        """Ask the server to end; connections to it close within a fraction of a second."""
        self._server.should_exit = True


class _WsgiServer(_Thread):
    def __init__(self, app: Any, listener: socket.socket) -> None:
        from werkzeug.serving import (  # noqa: PLC0415  ASGI solutions do without
            DechunkedInput,
            WSGIRequestHandler,
            make_server,
        )

        class WholeChunks(DechunkedInput):
            """Werkzeug 3.1 counts what a client does not send of a chunk, and the interpreter reads past the buffer."""

            def readinto(self, buffer: Any) -> int:
                size = len(buffer)
                count = super().readinto(buffer)
                if len(buffer) < size:
                    raise OSError("the body ends in the middle of a chunk")
                return count

        class Handler(WSGIRequestHandler):
            def make_environ(self) -> dict[str, Any]:
                environ = super().make_environ()
                if isinstance(environ["wsgi.input"], DechunkedInput):
                    environ["wsgi.input"] = WholeChunks(cast("IO[bytes]", self.rfile))
                return environ

        host, port = listener.getsockname()
        self._server = make_server(host, port, app, threaded=True, fd=listener.fileno(), request_handler=Handler)
        listener.close()  # the server has a copy
        super().__init__(lambda: self._server.serve_forever(poll_interval=0.02))

    def stop(self) -> None:
        """Stop accepting; requests in flight end with their threads."""
        self._server.shutdown()
        self._server.server_close()
