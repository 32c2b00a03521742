"""What a client does to an inline server stays the app's to deal with."""

import ast
import socket
import threading
import time
from collections.abc import Iterable
from typing import Any

import pytest

from grader import serving
from grader.solution import wait_until


def test_a_chunk_that_is_cut_short_is_an_error_and_not_what_lies_in_memory() -> None:
    """Werkzeug 3.1 counts what it did not get of the chunk; Python 3.11.2 then crashes."""
    read: list[object] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        try:
            read.append(environ["wsgi.input"].read(60_000))
        except OSError:
            read.append("an error")
        start_response("200 OK", [])
        return [b""]

    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    server = serving.serve(app, listener)
    try:
        with socket.create_connection(address) as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\nshort")
        wait_until(lambda: read)
    finally:
        server.stop()
        server.join(5)

    assert read == ["an error"]


def test_two_threads_do_not_parse_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsing, most = 0, 0

    def parse(_source: str) -> None:
        nonlocal parsing, most
        parsing += 1
        most = max(most, parsing)
        time.sleep(0.01)
        parsing -= 1

    monkeypatch.setattr(ast, "parse", parse)
    serving.parse_one_at_a_time()
    threads = [threading.Thread(target=ast.parse, args=["x = 1"]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == 1
