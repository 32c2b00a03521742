"""A sliding log in Redis: the times of the requests that passed, so that no stretch of the window holds too many."""

import logging
import re
import threading
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

LARGEST = 100_000
ANSWER_SECONDS = 0.5  # how long one request may wait for Redis
PAUSE_SECONDS = 1.0  # how long the others do without Redis after that
QUIET_SECONDS = 60.0  # how long the log keeps quiet about an outage that it has told

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limit:
    """At most `quota` requests in any `window` seconds."""

    quota: int
    window: int

    @classmethod
    def parse(cls, text: str) -> "Limit":
        """Read QUOTA/SECONDS. Raises ValueError unless both are whole numbers from 1 to LARGEST."""
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        numbers = [int(number) for number in found.groups()] if found else []
        if not found or not all(1 <= number <= LARGEST for number in numbers):
            raise ValueError(f"RATE_LIMIT must be REQUESTS/SECONDS, each from 1 to {LARGEST}, like 100/3600: {text!r}")
        return cls(*numbers)


@dataclass(frozen=True)
class Decision:
    """Whether a request passes, how many more would, and the seconds until that number grows, rounded up."""

    passes: bool
    remaining: int
    wait: int


def sliding_log() -> str:
    """Return the Lua script that decides. Redis runs it as one step: no other request comes between its lines.

    The time is Redis's own, since the clocks of two servers differ. Only a request that passes is written down, so
    asking too often prolongs nothing. The list expires when the last entry has: a second later, to be on the safe side.
    """
    return """
        local quota, window = tonumber(ARGV[1]), tonumber(ARGV[2]) * 1000000
        local clock = redis.call('TIME')
        local now = clock[1] * 1000000 + clock[2]

        -- The times are in order: halving finds the first one that still counts.
        local first, last = 0, redis.call('LLEN', KEYS[1])
        while first < last do
            local middle = math.floor((first + last) / 2)
            if redis.call('LINDEX', KEYS[1], middle) + window <= now then first = middle + 1 else last = middle end
        end
        redis.call('LTRIM', KEYS[1], first, -1)
        local oldest = redis.call('LINDEX', KEYS[1], 0)

        local used = redis.call('LLEN', KEYS[1])
        local passes = used < quota
        if passes then
            redis.call('RPUSH', KEYS[1], string.format('%.0f', now))
            redis.call('EXPIRE', KEYS[1], ARGV[2] + 1)
            used = used + 1
        end
        return {passes and 1 or 0, quota - used, (oldest or now) + window - now}
    """


class Limiter:
    """Counts requests in Redis. Without Redis it cannot tell, and never takes long to say so."""

    def __init__(self, limit: Limit, redis_url: str) -> None:
        """Connect with the first request. Raises ValueError for what is no URL of a Redis."""
        self.limit = limit
        self.outage = Outage()
        try:
            (urlsplit(redis_url).hostname or "").encode("idna")  # a label of 64 letters would raise at each request
            self.redis = redis.Redis.from_url(
                redis_url,
                socket_connect_timeout=ANSWER_SECONDS,
                socket_timeout=ANSWER_SECONDS,
                retry=Retry(NoBackoff(), 0),  # by default it tries eleven times, five seconds each
            )
            pool = self.redis.connection_pool
            pool.connection_class(**pool.connection_kwargs)  # connects to nothing yet, but refuses unknown options
        except (ValueError, TypeError):  # the message may have parts of the password
            raise ValueError("REDIS_URL must be a URL like redis://localhost:6379/0") from None
        self.script = self.redis.register_script(sliding_log())

    def hit(self, client: str) -> Decision | None:
        """Count a request of this client, if it passes. None while Redis does not answer."""
        if not self.outage.may_ask():
            return None
        limit = self.limit
        try:
            passes, remaining, wait = self.script(
                keys=[f"rate-limit:{limit.quota}/{limit.window}:{client}"], args=[limit.quota, limit.window]
            )
        except redis.RedisError as error:
            self.outage.begin(error)
            return None
        self.outage.end()
        return Decision(bool(passes), remaining, -(-wait // 1_000_000))

    def close(self) -> None:
        self.redis.close()


class Outage:
    """Remembers that Redis did not answer: until it does, one request in PAUSE_SECONDS tries, and none other waits."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lasts = False
        self.is_told = False
        self.next_try = 0.0
        self.next_line = 0.0

    def may_ask(self) -> bool:
        with self.lock:
            if self.lasts and time.monotonic() < self.next_try:
                return False
            self.next_try = time.monotonic() + PAUSE_SECONDS
            return True

    def begin(self, error: redis.RedisError) -> None:
        with self.lock:
            self.lasts = True
            if time.monotonic() >= self.next_line:
                log.warning("Redis does not answer, so requests are not limited: %s", error)
                self.next_line = time.monotonic() + QUIET_SECONDS
                self.is_told = True

    def end(self) -> None:
        with self.lock:
            if self.is_told:
                log.warning("Redis answers again, so requests are limited")
            self.lasts = self.is_told = False
