"""How long do clients wait for an answer when the work is done in the request or queued, and what do workers add?"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from statistics import median

import httpx2
import matplotlib as mpl
import uvicorn
from app import create_app
from fastapi import FastAPI
from tasks import sales_of

from shared import services

HERE = Path(__file__).parent
CLIENTS = 100
WORKERS = (1, 2, 4)
JOBS = {0.0: 40, 0.2: 12, 1.0: 8}  # how many jobs of each length, in seconds, the workers get
DAYS = 28


def create_synchronous_app(seconds: float) -> FastAPI:
    """The same report, written while the client waits."""
    app = FastAPI()

    @app.post("/reports", status_code=202)
    def create_report() -> None:
        for day in range(DAYS):
            sales_of(date(2026, 2, day + 1), seconds / DAYS)

    return app


@contextmanager
def served(app: FastAPI) -> Iterator[httpx2.Client]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    limits = httpx2.Limits(max_connections=CLIENTS)
    try:
        with httpx2.Client(base_url=url, limits=limits, timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


def typical_wait(client: httpx2.Client) -> float:
    """Seconds until the answer, the median of so many clients that come at once."""

    def order(_client: int) -> float:
        started = time.perf_counter()
        client.post("/reports", json={"month": "2026-02"}).raise_for_status()
        return time.perf_counter() - started

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(order, range(CLIENTS)))  # open the connections
        return median(clients.map(order, range(CLIENTS)))


@contextmanager
def working(seconds: float) -> Iterator[list[subprocess.Popen[bytes]]]:
    """A list for worker processes; those in it are stopped at the end."""
    workers: list[subprocess.Popen[bytes]] = []
    os.environ["ROW_SECONDS"] = str(seconds / DAYS)
    try:
        yield workers
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait()


def rates_by_workers(client: httpx2.Client, seconds: float) -> list[float]:
    """Jobs a second, with more and more workers."""
    rates = []
    command = [sys.executable, str(HERE / "app.py"), "worker"]
    with working(seconds) as workers:
        for number in WORKERS:
            while len(workers) < number:
                workers.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            while client.get("/queue").json()["workers"] < number:
                time.sleep(0.05)
            rates.append(jobs_a_second(client, JOBS[seconds]))
    return rates


def jobs_a_second(client: httpx2.Client, number: int) -> float:
    started = time.perf_counter()
    answers = [client.post("/reports", json={"month": "2026-02"}) for _ in range(number)]
    for answer in answers:
        while client.get(answer.headers["Location"]).json()["status"] != "finished":
            time.sleep(0.02)
    return number / (time.perf_counter() - started)


def draw(waits: dict[float, tuple[float, float]], rates: dict[float, list[float]]) -> None:
    mpl.use("Agg")
    mpl.rcParams |= {"svg.hashsalt": "background jobs", "svg.fonttype": "none"}
    from matplotlib import pyplot as plt  # noqa: PLC0415  after the backend is chosen

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    left.plot(list(waits), [wait[0] for wait in waits.values()], "o-", label="in the request")
    left.plot(list(waits), [wait[1] for wait in waits.values()], "s-", label="queued")
    left.set(xlabel="the job takes (s)", ylabel="the client waits (s)", title=f"{CLIENTS} clients at once")
    left.set_ylim(bottom=0)
    left.legend()
    for seconds, rate in rates.items():
        right.plot(WORKERS, rate, "o-", label=f"{seconds:g} s")
    right.set(xlabel="workers", ylabel="jobs a second", xticks=WORKERS, title="Throughput")
    right.set_ylim(bottom=0)
    right.legend(title="the job takes", loc="center right")
    figure.savefig(HERE / "measure.svg", metadata={"Date": None})


def main() -> None:
    waits: dict[float, tuple[float, float]] = {}
    rates: dict[float, list[float]] = {}
    with ExitStack() as stack:
        os.environ["DATA_DIR"] = stack.enter_context(tempfile.TemporaryDirectory())
        for seconds in JOBS:
            print(f"measuring: jobs of {seconds:g} s", file=sys.stderr)
            with served(create_synchronous_app(seconds)) as client:
                synchronous = typical_wait(client)
            with services.redis() as os.environ["REDIS_URL"], served(create_app()) as client:
                rates[seconds] = rates_by_workers(client, seconds)
                waits[seconds] = synchronous, typical_wait(client)
            del os.environ["REDIS_URL"]
    draw(waits, rates)
    print("| The job takes | Wait, in the request | Wait, queued | Jobs/s, 1 worker | 2 workers | 4 workers |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for seconds, (synchronous, queued) in waits.items():
        figures = " | ".join(f"{rate:.1f}" for rate in rates[seconds])
        print(f"| {seconds:g} s | {synchronous:.2f} s | {queued:.2f} s | {figures} |")


if __name__ == "__main__":
    main()
