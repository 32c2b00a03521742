"""How long does a refusal take, for a known and an unknown name? And who waits while passwords are being hashed?"""

import base64
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import bcrypt
import httpx2
import matplotlib as mpl
import uvicorn
from app import create_app
from basic import Credentials
from fastapi import FastAPI
from flask import Flask
from matplotlib.figure import Figure
from users import User, Users, password_matches
from werkzeug.serving import make_server

ROUNDS = 10  # a quarter of what the default costs, so that a minute is enough; the shape is the same
REFUSALS = 60
AT_ONCE = 8


def authenticate_at_once(users: Users, credentials: Credentials) -> bool:
    """The mistake: without a user there is nothing to hash."""
    with users._sessions() as session:  # noqa: SLF001  it stands in for the method
        user = session.get(User, credentials.username)
    return user is not None and password_matches(credentials.password, user.password_hash)


@contextmanager
def flask_served() -> Iterator[httpx2.Client]:
    """Serve the example on a free port and a new database; yield a client on it."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"DATABASE_URL": f"sqlite:///{Path(folder) / 'users.db'}", "BCRYPT_ROUNDS": str(ROUNDS)}
        with mock.patch.dict(os.environ, environment):
            app: Flask = create_app()
        with mock.patch("werkzeug.serving.WSGIRequestHandler.log_request"):
            server = make_server("127.0.0.1", 0, app, threaded=True)
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                with httpx2.Client(base_url=f"http://127.0.0.1:{server.server_port}", timeout=60) as client:
                    yield client
            finally:
                server.shutdown()
                thread.join()
                server.server_close()


@contextmanager
def fastapi_served(app: FastAPI) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the app does not start")
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def milliseconds(request: Callable[[], httpx2.Response], status: int) -> float:
    start = time.perf_counter()
    answer = request()
    elapsed = (time.perf_counter() - start) * 1000
    if answer.status_code != status:
        raise RuntimeError(f"{answer.status_code} instead of {status}")
    return elapsed


def refusals() -> tuple[list[float], list[float]]:
    """The times of refusals for an unknown name and for a known one, asked in turn."""
    with flask_served() as client:
        client.post("/users", json={"username": "ann", "password": "open: sesame"})

        def refuse(username: str) -> float:
            token = base64.b64encode(f"{username}:close sesame".encode()).decode()
            return milliseconds(lambda: client.get("/me", headers={"Authorization": f"Basic {token}"}), 401)

        pairs = [(refuse("bob"), refuse("ann")) for _ in range(REFUSALS)]
    return [unknown for unknown, _ in pairs], [known for _, known in pairs]


def hashing_app() -> FastAPI:
    """Two ways to hash in FastAPI, and an endpoint that needs no hash."""
    app = FastAPI()
    stored = bcrypt.hashpw(b"open: sesame", bcrypt.gensalt(ROUNDS))

    @app.get("/def")
    def in_a_thread() -> bool:
        return bcrypt.checkpw(b"open: sesame", stored)

    @app.get("/async")
    async def on_the_loop() -> bool:
        return bcrypt.checkpw(b"open: sesame", stored)

    @app.get("/public")
    async def public() -> None:
        return None

    return app


def waits(path: str | None) -> list[float]:
    """The times of /public, asked again and again while AT_ONCE clients sign in at `path` (None: while nobody does)."""
    with (
        fastapi_served(hashing_app()) as url,
        httpx2.Client(base_url=url, timeout=60) as signing_in,
        httpx2.Client(base_url=url, timeout=60) as client,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        milliseconds(lambda: client.get("/public"), 200)
        if path is None:
            return [milliseconds(lambda: client.get("/public"), 200) for _ in range(50)]
        times = []
        for _ in range(5):
            sign_ins = [pool.submit(signing_in.get, path) for _ in range(AT_ONCE)]
            while not all(sign_in.done() for sign_in in sign_ins):
                times.append(milliseconds(lambda: client.get("/public"), 200))
        return times


def draw(panels: dict[str, tuple[list[float], list[float]]]) -> None:
    """Write measure.svg: a histogram for each way to answer, known and unknown names in it."""
    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "06_basic_authentication", "svg.fonttype": "none", "font.size": 9})
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots(len(panels), sharex=True)
    longest = 1.3 * max(statistics.quantiles(times, n=20)[-1] for pair in panels.values() for times in pair)
    bins = [longest * step / 60 for step in range(61)]
    for axis, (title, (unknown, known)) in zip(axes, panels.items(), strict=True):
        axis.hist(unknown, bins, histtype="stepfilled", alpha=0.6, color="#c44e52", label="unknown name")
        axis.hist(known, bins, histtype="stepfilled", alpha=0.6, color="#4c72b0", label="known name, wrong password")
        axis.set_title(title, fontsize=9, loc="left")
        axis.set_ylabel("requests")
    axes[0].legend(frameon=False)
    axes[-1].set_xlabel(f"milliseconds to the 401 (cost {ROUNDS})")
    figure.savefig(Path(__file__).with_name("measure.svg"), metadata={"Date": None})


def row(request: str, how: str, times: list[float]) -> str:
    return f"| {request} | {how} | {statistics.median(times):.0f} | {statistics.quantiles(times, n=20)[-1]:.0f} |"


def main() -> None:
    print("measuring: refusals, unknown names answered at once", file=sys.stderr)
    with mock.patch.object(Users, "authenticate", authenticate_at_once):
        at_once = refusals()
    print("measuring: refusals, unknown names hashed for", file=sys.stderr)
    hashed = refusals()
    draw({"without a hash for unknown names": at_once, "with a hash for unknown names": hashed})
    print(f"| What is asked (cost {ROUNDS}) | How it is answered | Median, ms | 95 of 100 within, ms |")
    print("| --- | --- | ---: | ---: |")
    for how, (unknown, known) in {"no hash for unknown names": at_once, "a hash for unknown names": hashed}.items():
        print(row("`/me`, unknown name", how, unknown))
        print(row("`/me`, wrong password", how, known))
    for how, path in {"nobody signs in": None, "`def`": "/def", "`async def`": "/async"}.items():
        print(f"measuring: waits, {how}", file=sys.stderr)
        while_signing_in = f"{AT_ONCE} sign in with {how}" if path else how
        print(row("`/public`", while_signing_in, waits(path)))


if __name__ == "__main__":
    main()
