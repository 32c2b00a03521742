"""What do labels cost, what does a monitored request cost, how wrong is a p95, and what did the optimisation bring?"""

import asyncio
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import inf
from pathlib import Path
from statistics import quantiles

import httpx2
from fastapi import FastAPI
from metrics import REQUEST_BUCKETS, Metrics, Monitor
from prometheus_fastapi_instrumentator import Instrumentator
from report import quantile, rank
from starlette.types import ASGIApp, Message, Scope

HERE = Path(__file__).parent
IDS = 10_000
CALLS = 2000
TOKEN = "measure"  # noqa: S105  of an app that lives for seconds


def small_app() -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.get("/products/{product_id}")
    async def read_product(product_id: int) -> dict[str, int]:
        return {"id": product_id}

    return app


async def call(app: ASGIApp, path: str) -> None:
    """A request without a server, so that only the app's own work is timed."""
    asgi = {"asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": ""}
    scope: Scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], **asgi}

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: Message) -> None:
        pass

    await app(scope, receive, send)


def series_and_size(route_of: Callable[[int], str]) -> tuple[int, float, float]:
    """Series, megabytes and CPU seconds of a scrape after a request for each of so many products."""
    metrics = Metrics()
    for number in range(IDS):
        labels = "GET", route_of(number), "2xx"
        metrics.requests.labels(*labels).inc()
        metrics.duration.labels(*labels).observe(0.01)
    started = time.process_time()
    text, _ = metrics.render("")
    seconds = time.process_time() - started
    return sum(not line.startswith(b"#") for line in text.splitlines()), len(text) / 1e6, seconds


def microseconds(app: ASGIApp) -> float:
    """CPU time of a request, the best of five rounds."""

    async def rounds() -> float:
        best = inf
        for _ in range(5):
            started = time.process_time()
            for _ in range(CALLS):
                await call(app, "/products/7")
            best = min(best, (time.process_time() - started) / CALLS)
        return best * 1e6

    return asyncio.run(rounds())


def instrumented() -> ASGIApp:
    app = small_app()
    Instrumentator().instrument(app)
    return app


def with_files() -> float:
    """The overhead of a worker among several, whose metrics are in mapped files. A process decides that at import."""
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"PROMETHEUS_MULTIPROC_DIR": folder}
        command = [sys.executable, __file__, "one-monitored-app"]
        return float(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)


LAYOUTS = {
    "1 s, 5 s, 10 s": (1, 5, 10),
    "of this exercise": REQUEST_BUCKETS,
    "of this exercise, with 0.15 and 0.2": tuple(sorted({*REQUEST_BUCKETS, 0.15, 0.2})),
}


def p95_by_layout() -> tuple[float, dict[str, float]]:
    """The p95 of 20,000 requests around 80 ms, and what each layout makes of it."""
    source = random.Random(7)
    seconds = [source.lognormvariate(-2.5, 0.4) for _ in range(20_000)]
    found = {}
    for name, layout in LAYOUTS.items():
        found[name] = quantile(0.95, {bound: sum(each <= bound for each in seconds) for bound in (*layout, inf)})
    return quantiles(seconds, n=100)[94], found


@contextmanager
def served(**env: str) -> Iterator[httpx2.Client]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(HERE / "app.py")],
        env=os.environ | {"PORT": str(port), "METRICS_TOKEN": TOKEN, **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            wait_for(client)
            yield client
    finally:
        process.terminate()
        process.wait()


def wait_for(client: httpx2.Client) -> None:
    for _ in range(1000):
        try:
            client.get("/health")
        except httpx2.TransportError:
            time.sleep(0.02)
        else:
            return
    raise TimeoutError("the app does not answer")


def orders(optimised: str) -> tuple[float, float, float]:
    """Queries for a request, mean seconds, and requests a second of GET /orders, for 4 clients."""
    with served(OPTIMISED=optimised) as client, ThreadPoolExecutor(4) as clients:
        list(clients.map(client.get, ["/orders"] * 20))  # warm up
        before = scrape(client)
        started = time.perf_counter()
        list(clients.map(client.get, ["/orders"] * 200))
        seconds = time.perf_counter() - started
        after = scrape(client)
    (then,), (now,) = rank(before), rank(after)
    mean = (now["total_seconds"] - then["total_seconds"]) / (now["requests"] - then["requests"])
    return (queries(after) - queries(before)) / 200, mean, 200 / seconds


def scrape(client: httpx2.Client) -> str:
    return client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text


def queries(text: str) -> float:
    return float(next(line for line in text.splitlines() if line.startswith("database_queries_total ")).split()[1])


def progress(question: str) -> None:
    print(f"measuring: {question}", file=sys.stderr)


def main() -> None:
    if sys.argv[1:] == ["one-monitored-app"]:
        print(microseconds(Monitor(small_app(), Metrics(), 10)))
        return
    progress("labels")
    rows = []
    for name, route_of in (("raw path", "/products/{}".format), ("template", lambda _: "/products/{product_id}")):
        count, megabytes, seconds = series_and_size(route_of)
        result = f"{count:,} series, {megabytes:.3f} MB, {1000 * seconds:,.1f} ms of CPU"
        rows.append((f"A scrape after requests for {IDS:,} products", f"{name} as label", result))
    progress("overhead")
    bare = microseconds(small_app())
    overheads = {
        "this exercise, one process": microseconds(Monitor(small_app(), Metrics(), 10)) - bare,
        "this exercise, one of several workers": with_files() - bare,
        "prometheus-fastapi-instrumentator": microseconds(instrumented()) - bare,
    }
    rows += [("Overhead a request", name, f"{each:.0f} µs") for name, each in overheads.items()]
    progress("percentiles")
    true, by_layout = p95_by_layout()
    for name, found in by_layout.items():
        rows.append((f"A p95 of {1000 * true:.0f} ms", f"buckets: {name}", f"{1000 * found:.0f} ms"))
    progress("the optimisation")
    for name, optimised in (("a query for each customer", "0"), ("one query, OPTIMISED=1", "1")):
        per_request, mean, rate = orders(optimised)
        result = f"queries a request: {per_request:.0f}, mean {1000 * mean:.0f} ms, {rate:.0f} requests a second"
        rows.append(("GET /orders, 4 clients", name, result))
    print("| Question | Variant | Result |")
    print("| --- | --- | --- |")
    print("\n".join(f"| {' | '.join(row)} |" for row in rows))


if __name__ == "__main__":
    main()
