"""What does a hash cost, what does a refusal tell, and who waits while passwords are being hashed?"""

import asyncio
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock
from urllib.parse import urlsplit

import httpx2
import matplotlib as mpl
import uvicorn
from argon2 import PasswordHasher
from argon2.low_level import Type
from fastapi import FastAPI
from hashing import Hasher
from matplotlib.figure import Figure

PASSWORD = "velvet otter river lamp"  # noqa: S105  an example
PEPPER = b"a pepper for this measurement only"
COSTS = range(6, 15)
SHOWN_COSTS = (8, 10, 12, 14)
DEFAULT = 12
AT_ONCE = 6
EVERY = 0.01  # seconds between the starts of two other requests
OTHERS = 50  # other requests while nobody logs in
ARGON2ID = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, type=Type.ID)


@dataclass(frozen=True)
class Row:
    """What was timed, and how long it took each time, in milliseconds."""

    what: str
    how: str
    times: list[float]

    def __str__(self) -> str:
        median, longest = statistics.median(self.times), max(self.times)
        return f"| {self.what} | {self.how} | {len(self.times)} | {median:.1f} | {longest:.1f} |"


def hasher(cost: int) -> Hasher:
    return Hasher(cost, PEPPER)


def milliseconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000


def repeated(action: Callable[[], object], seconds: float = 1) -> list[float]:
    """The times of as many runs as fit into `seconds`, five at least."""
    times: list[float] = []
    while len(times) < 5 or sum(times) < seconds * 1000:
        times.append(milliseconds(action))
    return times


def hashes() -> tuple[dict[int, list[float]], list[float]]:
    """The times of a bcrypt hash by cost, and those of an Argon2id hash."""
    by_cost = {}
    for cost in COSTS:
        print(f"measuring: bcrypt, cost {cost}", file=sys.stderr)
        by_cost[cost] = repeated(lambda cost=cost: hasher(cost).hash(PASSWORD), 0.5)  # type: ignore[misc]
    print("measuring: Argon2id", file=sys.stderr)
    return by_cost, repeated(lambda: ARGON2ID.hash(PASSWORD))


def refusals() -> Iterator[Row]:
    """The times of `Hasher.check` for refusals, by what is stored, taken in turn."""
    print("measuring: refusals", file=sys.stderr)
    checking, new, old = hasher(DEFAULT), hasher(DEFAULT).hash(PASSWORD), hasher(DEFAULT - 2).hash(PASSWORD)
    stored = {
        "unknown address": None,
        f"wrong password, cost {DEFAULT} is stored": new,
        f"wrong password, cost {DEFAULT - 2} is stored": old,
    }
    times: dict[str, list[float]] = {how: [] for how in [*stored, "the same without `_equalise_time`"]}
    for _ in range(7):
        for how, text in stored.items():
            times[how].append(milliseconds(lambda text=text: checking.check("wrong", text)))  # type: ignore[misc]
        with mock.patch.object(Hasher, "_equalise_time"):
            times["the same without `_equalise_time`"].append(milliseconds(lambda: checking.check("wrong", old)))
    yield from (Row(f"`Hasher.check` refuses, cost {DEFAULT} is configured", how, each) for how, each in times.items())


def logging_in() -> FastAPI:
    """Two ways to check a password in FastAPI, and an endpoint that needs no hash."""
    app = FastAPI()
    checking, stored = hasher(DEFAULT), hasher(DEFAULT).hash(PASSWORD)

    @app.get("/def")
    def in_a_thread() -> bool:
        return checking.check(PASSWORD, stored).matches

    @app.get("/async-def")
    async def on_the_event_loop() -> bool:
        return checking.check(PASSWORD, stored).matches

    @app.get("/other")
    async def other() -> None:
        return None

    return app


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
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


async def waits(url: str, path: str | None) -> list[float]:
    """The times of /other, started every 10 ms while AT_ONCE people log in at `path` (None: while nobody does).

    A request is started whether or not those before it are answered, and its time counts from the planned moment: or
    the longer the server answers nobody, the fewer requests would wait for it.
    """
    host, port = urlsplit(url).hostname, urlsplit(url).port

    async def other(planned: float) -> float:
        """Without an HTTP library: that would take more of the processor than the server does."""
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET /other HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200 ")
        return (time.perf_counter() - planned) * 1000

    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
        await other(time.perf_counter())
        log_ins = [asyncio.create_task(client.get(path)) for _ in range(AT_ONCE)] if path else []
        others: list[asyncio.Task[float]] = []
        start = time.perf_counter()
        while len(others) < OTHERS if path is None else not all(log_in.done() for log_in in log_ins):
            planned = start + len(others) * EVERY
            await asyncio.sleep(planned - time.perf_counter())
            others.append(asyncio.create_task(other(planned)))
        return await asyncio.gather(*others)


def draw(by_cost: dict[int, list[float]], argon2id: list[float], waited: dict[str, list[float]]) -> None:
    """Write measure.svg: time by cost, and how long the others wait."""
    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "04_password_hashing", "svg.fonttype": "none", "font.size": 9})
    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    medians = [statistics.median(times) for times in by_cost.values()]
    left.plot(list(by_cost), medians, "o-", color="#4c72b0", label="bcrypt")
    left.axhline(statistics.median(argon2id), color="#55a868", linestyle="--", label="Argon2id, 19 MiB, t=2, p=1")
    left.set_yscale("log")
    left.set_xlabel("cost of bcrypt")
    left.set_ylabel("milliseconds for a hash")
    left.legend(frameon=False)
    for label, color in (("def", "#4c72b0"), ("async def", "#c44e52")):
        times = sorted(waited[label])
        right.step(times, [(rank + 1) / len(times) for rank in range(len(times))], color=color, label=label)
    right.set_xscale("log")
    right.set_xlabel(f"milliseconds to another answer, {AT_ONCE} log in")
    right.set_ylabel("part of the requests")
    right.legend(frameon=False)
    figure.savefig(Path(__file__).with_name("measure.svg"), metadata={"Date": None})


def main() -> None:
    by_cost, argon2id = hashes()
    rows = [Row("One hash", f"bcrypt, cost {cost}", by_cost[cost]) for cost in SHOWN_COSTS]
    rows.append(Row("One hash", "Argon2id, 19 MiB, t=2, p=1", argon2id))
    rows += refusals()
    waited = {}
    for how, path in {"nobody": None, "def": "/def", "async def": "/async-def"}.items():
        print(f"measuring: waits, {how}", file=sys.stderr)
        with served(logging_in()) as url:
            waited[how] = asyncio.run(waits(url, path))
        doing = f"{AT_ONCE} log in, `{how}`" if path else "nobody logs in"
        rows.append(Row("Another request", doing, waited[how]))
    draw(by_cost, argon2id, waited)
    print("| What is timed | How | Samples | Median, ms | Longest, ms |")
    print("| --- | --- | ---: | ---: | ---: |")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
