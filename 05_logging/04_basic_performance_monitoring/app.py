"""An API that is monitored: /metrics for Prometheus, a report on its slow endpoints, and several worker processes."""

import argparse
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from metrics import Metrics, Monitor
from prometheus_client.multiprocess import mark_process_dead
from pydantic import NonNegativeFloat
from pydantic_settings import BaseSettings, SettingsConfigDict
from report import ReportError, print_report
from shop import Shop, answer_invalid, get, router
from starlette.types import ASGIApp
from uvicorn.supervisors import Multiprocess

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
NO_STORE = {"Cache-Control": "no-store"}
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {
        "stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"},
        "stderr": {"class": "logging.StreamHandler"},
    },
    "loggers": {"shop": {"handlers": ["stdout"], "propagate": False}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}


class Settings(BaseSettings):
    """What the environment says. Raises ValidationError, a ValueError."""

    model_config = SettingsConfigDict(env_ignore_empty=True, hide_input_in_errors=True)

    metrics_token: str = ""
    slow_seconds: NonNegativeFloat = 0.5
    query_seconds: NonNegativeFloat = 0.002
    optimised: bool = False


def create_app() -> ASGIApp:
    """Return the app inside its monitor. Raises ValueError when the environment makes no sense."""
    settings = Settings()
    metrics = Metrics()
    shop = Shop(settings.query_seconds, metrics.queries.inc)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        shop.close()

    # `routes`, since include_router of FastAPI 0.165 builds them again when the first request comes.
    app = FastAPI(routes=router.routes, lifespan=lifespan, openapi_url=None, redirect_slashes=False)
    app.state.settings, app.state.metrics, app.state.shop = settings, metrics, shop
    app.state.scraping = anyio.CapacityLimiter(1)  # a thread of its own: slow requests may hold all others
    app.add_exception_handler(RequestValidationError, answer_invalid)
    return Monitor(app, metrics, settings.slow_seconds)


@get("/metrics")
async def show_metrics(request: Request) -> Response:
    """The metrics, for those who have METRICS_TOKEN; the page does not exist when no token is set."""
    state = request.app.state
    token: str = state.settings.metrics_token
    if not token:
        raise HTTPException(404, "Not Found", NO_STORE)
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secrets.compare_digest(given.strip().encode(), token.encode()):
        raise HTTPException(401, "a valid token is needed", NO_STORE | {"WWW-Authenticate": "Bearer"})
    accept = request.headers.get("accept", "")
    body, media_type = await anyio.to_thread.run_sync(state.metrics.render, accept, limiter=state.scraping)
    return Response(body, headers=NO_STORE | {"Content-Type": media_type})


@get("/health")
async def show_health() -> dict[str, object]:  # given
    return {"status": "ok", "pid": os.getpid()}


class Supervisor(Multiprocess):
    """uvicorn's, which starts and replaces workers; this one takes the gauges of those that have ended out of sums."""

    known: frozenset[int | None] = frozenset()

    def keep_subprocess_alive(self) -> None:
        super().keep_subprocess_alive()
        running = frozenset(worker.pid for worker in self.processes)
        for pid in self.known - running:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]
        self.known = running


def serve(workers: int) -> None:
    """Serve on HOST and PORT until SIGTERM. Raises ValueError when the environment makes no sense."""
    Settings()  # once here, not once in each worker
    if os.environ.get(FOLDER) == "":  # prometheus_client would take it for the current folder
        raise ValueError(f"{FOLDER} is empty; name a folder or unset it")
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))
    options: dict[str, Any] = {"log_config": LOGGING, "access_log": False, "timeout_worker_healthcheck": 20}
    config = uvicorn.Config("app:create_app", factory=True, workers=workers, host=host, port=port, **options)
    with ExitStack() as stack:
        if workers > 1 and FOLDER not in os.environ:
            os.environ[FOLDER] = stack.enter_context(tempfile.TemporaryDirectory())
        if FOLDER in os.environ:
            begin_empty(Path(os.environ[FOLDER]))
        if workers == 1:
            uvicorn.Server(config).run()
            return
        bound = config.bind_socket()
        # asyncio turns Nagle's delay, 40 ms, off on a socket that says it speaks TCP; uvicorn's does not say it.
        listener = socket.socket(bound.family, bound.type, socket.IPPROTO_TCP, fileno=bound.detach())
        Supervisor(config, sockets=[listener]).run()


def begin_empty(folder: Path) -> None:
    """Make the folder of the workers' metrics, or take out what an earlier start left in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in [*folder.glob("counter_*.db"), *folder.glob("gauge_*.db"), *folder.glob("histogram_*.db")]:
        file.unlink()


def main() -> None:  # given
    """Serve, or report."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", metavar="serve|report")
    serving = commands.add_parser("serve", help="serve on HOST and PORT")
    serving.add_argument("--workers", type=int, default=1, metavar="N", help="how many processes")
    reporting = commands.add_parser("report", help="rank endpoints by the time that they took")
    reporting.add_argument("source", nargs="?", default="http://127.0.0.1:8000/metrics", help="a URL, a file, or -")
    reporting.add_argument("--json", action="store_true", help="for programs")
    arguments = parser.parse_args()
    if getattr(arguments, "workers", 1) < 1:
        parser.error("--workers must be 1 or more")
    try:
        if arguments.command == "report":
            print_report(arguments.source, os.environ.get("METRICS_TOKEN"), as_json=arguments.json)
        else:
            serve(getattr(arguments, "workers", 1))
    except (OSError, ValueError, ReportError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
