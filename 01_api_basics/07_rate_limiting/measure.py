"""How many requests pass in the worst stretch of time, by algorithm, and what does a decision cost?"""

import statistics
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import matplotlib as mpl
import redis
from limiter import Limit, Limiter
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    RateLimiter,
    SlidingWindowCounterRateLimiter,
)
from matplotlib import pyplot as plt

from shared import services

QUOTA, WINDOW = 100, 60
MOMENT = 2  # seconds
TICKS = 128  # a second; powers of two are exact, and so are differences of their multiples
CLIENTS = 20
HERE = Path(__file__).parent

mpl.use("Agg")

Hit = Callable[[str], bool]
STRATEGIES: dict[str, type[RateLimiter]] = {
    "fixed window (`limits`)": FixedWindowRateLimiter,
    "sliding counter (`limits`)": SlidingWindowCounterRateLimiter,
    "sliding log (`limits`)": MovingWindowRateLimiter,
}
BUCKET, LOG, OURS = "token bucket", "sliding log in a `deque`", "sliding log in Lua (this exercise)"


def token_bucket() -> Hit:
    """As GCRA has it: one number for each client, the time at which its bucket will be full again."""
    full_at: dict[str, float] = {}

    def hit(client: str) -> bool:
        now = time.time()
        full = max(full_at.get(client, 0.0), now) + WINDOW / QUOTA
        passes = full - now <= WINDOW
        if passes:
            full_at[client] = full
        return passes

    return hit


def sliding_log() -> Hit:
    logs: dict[str, deque[float]] = {}

    def hit(client: str) -> bool:
        now = time.time()
        log = logs.setdefault(client, deque())
        while log and log[0] <= now - WINDOW:
            log.popleft()
        passes = len(log) < QUOTA
        if passes:
            log.append(now)
        return passes

    return hit


def of_library(strategy: type[RateLimiter], storage: MemoryStorage | RedisStorage) -> Hit:
    limiter, item = strategy(storage), RateLimitItemPerMinute(QUOTA)
    return lambda client: limiter.hit(item, client)


def in_memory_of(strategy: type[RateLimiter]) -> Callable[[], Hit]:
    return lambda: of_library(strategy, MemoryStorage())


def of_exercise(url: str) -> tuple[Hit, Limiter]:
    limiter = Limiter(Limit(QUOTA, WINDOW), url)

    def hit(client: str) -> bool:
        decision = limiter.hit(client)
        if decision is None:
            raise RuntimeError("Redis does not answer")
        return decision.passes

    return hit, limiter


def passed_under_attack(make: Callable[[], Hit]) -> list[int]:
    """The ticks at which requests pass of a client that asks once, keeps still, and from second 59 on never stops.

    The clock is not the machine's: two minutes take moments.
    """
    start = 1_000_000 * WINDOW
    passed = []
    with mock.patch("time.time") as clock:
        clock.return_value = start
        hit = make()
        for tick in [0, *range((WINDOW - 1) * TICKS, 140 * TICKS)]:
            clock.return_value = start + tick / TICKS
            if hit("attacker"):
                passed.append(tick)
    return passed


def most_in(seconds: int, passed: list[int]) -> int:
    return max(in_last(seconds, passed, tick) for tick in passed)


def in_last(seconds: int, passed: list[int], now: int) -> int:
    return sum(now - seconds * TICKS < tick <= now for tick in passed)


def microseconds(hit: Hit) -> float:
    """The median cost of a hit that passes."""
    costs = []
    for number in range(QUOTA * CLIENTS):
        start = time.perf_counter_ns()
        hit(f"client-{number % CLIENTS}")
        costs.append(time.perf_counter_ns() - start)
    return statistics.median(costs) / 1000


def bytes_of_a_client(connection: "redis.Redis", hit: Hit) -> int:
    """What Redis keeps of a client that has used its quota."""
    connection.flushdb()
    for _ in range(QUOTA):
        hit("client")
    return sum(int(connection.memory_usage(key) or 0) for key in connection.scan_iter())


def plot(passed: dict[str, list[int]]) -> None:
    mpl.rcParams["svg.hashsalt"] = "07_rate_limiting"
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    seconds = [half / 2 for half in range(100, 280)]
    for (name, ticks), style in zip(passed.items(), ["-", "--", "-.", "-"], strict=True):
        counts = [in_last(WINDOW, ticks, int(second * TICKS)) for second in seconds]
        axes.plot(seconds, counts, style, label=name.split(" (")[0])
    axes.axhline(QUOTA, color="black", linewidth=0.8, linestyle=":")
    axes.set(xlabel="seconds", ylabel=f"passed in the last {WINDOW} s", ylim=(0, 2.4 * QUOTA))
    axes.legend(loc="upper center", ncols=4, fontsize="small")
    figure.savefig(HERE / "measure.svg", metadata={"Date": None})


def cost_in_redis() -> dict[str, tuple[float, int]]:
    """The microseconds of a hit and the bytes of a client, by algorithm."""
    costs = {}
    with services.redis() as url, redis.Redis.from_url(url) as connection:
        ours, limiter = of_exercise(url)
        hits = {name: of_library(strategy, RedisStorage(url)) for name, strategy in STRATEGIES.items()} | {OURS: ours}
        for name, hit in hits.items():
            print(f"measuring in Redis: {name}", file=sys.stderr)
            costs[name] = microseconds(hit), bytes_of_a_client(connection, hit)
            connection.flushdb()
        limiter.close()
    return costs


def main() -> None:
    in_memory = {name: in_memory_of(strategy) for name, strategy in STRATEGIES.items()}
    in_memory |= {BUCKET: token_bucket, LOG: sliding_log}
    passed = {}
    for name, make in in_memory.items():
        print(f"attacking: {name}", file=sys.stderr)
        passed[name] = passed_under_attack(make)
    plot({name: passed[name] for name in passed if name != LOG})
    in_redis = cost_in_redis()

    titles = [
        "Algorithm",
        f"Most passed in {WINDOW} s",
        f"in {MOMENT} s",
        "µs in memory",
        "µs in Redis",
        "bytes a client",
    ]
    print("|", " | ".join(titles), "|")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in [*passed, OURS]:
        ticks = passed.get(name, passed[LOG])
        memory = f"{microseconds(in_memory[name]()):.1f}" if name in in_memory else ""
        cost, size = (f"{figure:.0f}" for figure in in_redis[name]) if name in in_redis else ("", "")
        print(f"| {name} | {most_in(WINDOW, ticks)} | {most_in(MOMENT, ticks)} | {memory} | {cost} | {size} |")
    print(f"\nThe limit is {QUOTA} requests in {WINDOW} seconds.")


if __name__ == "__main__":
    main()
