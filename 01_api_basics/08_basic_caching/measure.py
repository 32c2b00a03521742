"""What does a longer life of entries buy while the shop changes, and how often does a stampede load?"""

import asyncio
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from statistics import median, quantiles

import httpx2
import matplotlib as mpl
from cache import Cache
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from shared import services
from shared.models import Base, Product

HERE = Path(__file__).parent
TTLS = (0.05, 0.2, 0.5, 1, 2, 5)  # seconds
SECONDS = 5.0  # that each is measured for
CLIENTS = 2
PAUSE = 0.002  # of a client between two reads
CATEGORIES = 50
PRODUCTS = 5000
PAUSE_OF_THE_SHOP = 0.5  # between two changes, each of which voids one product and all lists
CROWD = 100
LOAD_TAKES = 0.1


@dataclass(frozen=True)
class Read:
    seconds: float
    is_hit: bool


def fill(database_url: str) -> None:
    engine = create_engine(database_url)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(
            Product(sku=f"S-{number}", name=f"Product {number}", category=f"c{number % CATEGORIES}", price=Decimal(1))
            for number in range(1, PRODUCTS + 1)
        )
        session.commit()
    engine.dispose()


@contextmanager
def served(port: int, **env: str) -> Iterator[str]:
    """Serve the app in a process of its own; yield its URL."""
    address = {"HOST": "127.0.0.1", "PORT": str(port)}
    command = [sys.executable, str(HERE / "app.py")]
    with subprocess.Popen(
        command, env=os.environ | env | address, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        url = f"http://127.0.0.1:{port}"
        try:
            while server.poll() is None:
                with suppress(httpx2.TransportError):
                    httpx2.get(f"{url}/products/1")
                    break
                time.sleep(0.05)
            yield url
        finally:
            server.terminate()


def read(url: str, number: int, end: float, headers: dict[str, str]) -> list[Read]:
    """Read like a visitor: lists and products, a few of them much more often than the others."""
    choice = random.Random(number)
    reads = []
    with httpx2.Client(base_url=url, headers=headers, timeout=10) as client:
        while time.monotonic() < end:
            popular = min(int(choice.paretovariate(0.8)), CATEGORIES)
            path = f"/products?category=c{popular % CATEGORIES}" if choice.random() < 0.5 else f"/products/{popular}"
            started = time.perf_counter()
            answer = client.get(path).raise_for_status()
            reads.append(Read(time.perf_counter() - started, answer.headers["X-Cache"] == "HIT"))
            time.sleep(PAUSE)
    return reads


def keep_changing(url: str, end: float) -> None:
    with httpx2.Client(base_url=url, timeout=10) as client:
        stop = threading.Event()
        stock = 0
        while time.monotonic() < end:
            stock += 1
            body = {"sku": "S-7", "name": "Product 7", "category": "c7", "price": "1.00", "stock": stock}
            client.put("/products/7", json=body).raise_for_status()
            stop.wait(PAUSE_OF_THE_SHOP)


def visit(url: str, headers: dict[str, str]) -> list[Read]:
    """All reads of all clients, while the shop changes a product now and then."""
    end = time.monotonic() + SECONDS
    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        shop = pool.submit(keep_changing, url, end)
        visitors = [pool.submit(read, url, number, end, headers) for number in range(CLIENTS)]
        reads = [answer for visitor in visitors for answer in visitor.result()]
        shop.result()
    return reads


class Unlocked(Cache):
    """The same cache, in which everybody who misses loads."""

    async def _find_or_lock(self, key: str, tag: str) -> tuple[None, bytes, None]:
        _, generation = await self._find(key, tag)
        return None, generation, None


async def stampede(kind: type[Cache], redis_url: str) -> int:
    """Loads, when a crowd asks at once for what is not there; half of it through another process's cache."""
    caches = [kind.connect(redis_url, 60) for _ in range(2)]
    loads = 0

    async def load() -> bytes:
        nonlocal loads
        loads += 1
        await asyncio.sleep(LOAD_TAKES)
        return b"{}"

    key = f"a page for {kind.__name__}"
    await asyncio.gather(*(caches[number % 2].fetch(key, "pages", load) for number in range(CROWD)))
    for cache in caches:
        await cache.close()
    return loads


def milliseconds(reads: list[Read], *, hits: bool) -> str:
    times = [answer.seconds for answer in reads if answer.is_hit is hits]
    return f"{median(times) * 1000:.1f}" if times else ""


def p95(reads: list[Read]) -> float:
    return quantiles([answer.seconds for answer in reads], n=20)[-1] * 1000


def hit_ratio(reads: list[Read]) -> float:
    return sum(answer.is_hit for answer in reads) / len(reads)


def row(label: str, reads: list[Read]) -> str:
    misses = sum(not answer.is_hit for answer in reads)
    hit, miss = milliseconds(reads, hits=True), milliseconds(reads, hits=False)
    return f"| {label} | {len(reads)} | {misses} | {hit_ratio(reads):.0%} | {hit} | {miss} | {p95(reads):.1f} |"


def draw(by_ttl: dict[float, list[Read]], uncached: list[Read]) -> None:
    mpl.use("Agg")
    mpl.rcParams |= {"svg.hashsalt": "basic caching", "svg.fonttype": "none"}
    from matplotlib import pyplot as plt  # noqa: PLC0415  after the backend is chosen

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    left.plot(list(by_ttl), [100 * hit_ratio(reads) for reads in by_ttl.values()], "o-")
    left.set(xlabel="time to live (s)", ylabel="hits (% of reads)", title="Hit ratio", xscale="log", ylim=(0, 100))
    right.plot(list(by_ttl), [p95(reads) for reads in by_ttl.values()], "o-", label="with the cache")
    right.axhline(p95(uncached), linestyle="--", color="gray", label="without it")
    right.set(xlabel="time to live (s)", ylabel="95 of 100 are answered in (ms)", title="Latency", xscale="log")
    right.set_ylim(bottom=0)
    right.legend()
    for axes in (left, right):
        axes.set_xticks(TTLS, [f"{ttl:g}" for ttl in TTLS])
        axes.minorticks_off()
    figure.savefig(HERE / "measure.svg", metadata={"Date": None})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    by_ttl: dict[float, list[Read]] = {}
    with tempfile.TemporaryDirectory() as folder, services.redis() as redis_url:
        env = {"DATABASE_URL": f"sqlite:///{Path(folder) / 'shop.db'}", "REDIS_URL": redis_url}
        fill(env["DATABASE_URL"])
        for ttl in TTLS:
            print(f"measuring: {ttl:g} s", file=sys.stderr)
            with served(free_port(), **env, CACHE_TTL=str(ttl)) as url:
                by_ttl[ttl] = visit(url, {})
        print("measuring: no cache, stampedes", file=sys.stderr)
        with served(free_port(), **env) as url:
            uncached = visit(url, {"Authorization": "Bearer x"})
        crowds = {kind: asyncio.run(stampede(kind, redis_url)) for kind in (Unlocked, Cache)}
    draw(by_ttl, uncached)
    print("| Experiment | Reads | Loads | Hits | Median of a hit, ms | Median of a miss, ms | 95 of 100 within, ms |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    print(row("no cache", uncached))
    for ttl, reads in by_ttl.items():
        print(row(f"entries live {ttl:g} s", reads))
    print(f"| {CROWD} at once, everybody loads | {CROWD} | {crowds[Unlocked]} | | | | |")
    print(f"| {CROWD} at once, one loads | {CROWD} | {crowds[Cache]} | | | | |")


if __name__ == "__main__":
    main()
