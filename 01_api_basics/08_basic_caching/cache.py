"""A shared cache in Redis: entries that expire, generations that void them, one load for a hundred misses."""

import asyncio
import hashlib
import logging
import math
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.lock import Lock
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

REDIS_SECONDS = 0.5  # a Redis that takes longer is of no use to a cache
LOAD_SECONDS = 3.0  # how long one load may keep the others waiting
PREFIX = "shop:v1"  # another format of entries is another version

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cached:
    """A body, the seconds that are left of its life, and whether the cache had it."""

    body: bytes
    seconds_left: float
    hit: bool


class Cache:
    """Entries belong to a tag. An entry carries the generation of its tag in which its load began.

    A change gives the tag a new generation, and every entry of an older one is void from then on, also one that
    is stored later by a reader who began before the change. A generation is a random name: were it a number, it
    would begin anew when Redis evicts it, and void entries would come back to life.
    """

    def __init__(self, redis: Redis, ttl: float) -> None:
        self.redis = redis
        self.ttl = ttl

    @classmethod
    def connect(cls, url: str, ttl: float) -> Self:
        """Return a cache whose entries live `ttl` seconds. Redis is not asked for anything yet."""
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=20,
            timeout=REDIS_SECONDS,
            socket_timeout=REDIS_SECONDS,
            socket_connect_timeout=REDIS_SECONDS,
            retry=Retry(NoBackoff(), 1, (RedisConnectionError,)),  # a broken connection once more, silence never
        )
        return cls(Redis.from_pool(pool), ttl)

    async def fetch(self, key: str, tag: str, load: Callable[[], Awaitable[bytes]]) -> Cached:
        """Return the entry; without one load it and store it, alone if Redis says who.

        What `load` raises goes to the caller, and nothing is stored.
        """
        try:
            found, generation, lock = await self._find_or_lock(key, tag)
        except RedisError as error:
            log.warning("loading %s without the cache: %s", key, error)
            return Cached(await load(), self.ttl, hit=False)
        try:
            if found:
                return found
            body = await load()
            await self._store(key, tag, generation, body)
            return Cached(body, self.ttl, hit=False)
        finally:
            if lock:
                with suppress(RedisError):  # it expires by itself
                    await lock.release()

    async def invalidate(self, *tags: str) -> None:
        """Void all entries of these tags. Call it after the commit: before it, a reader would store the old row anew.

        Raises nothing when Redis is away: the entries live on until their time is over.
        """
        try:
            async with self.redis.pipeline() as pipeline:
                for tag in tags:
                    pipeline.set(self._generation_key(tag), new_generation(), px=self._milliseconds(2))
                await pipeline.execute()
        except RedisError as error:
            log.warning("%s may be stale for %g s: %s", ", ".join(tags), self.ttl, error)

    async def close(self) -> None:
        await self.redis.aclose()

    async def _find_or_lock(self, key: str, tag: str) -> tuple[Cached | None, bytes, Lock | None]:
        """Return the entry, or the lock that gives the right to load it, or neither: load then without asking anybody.

        The lock is of one generation, so who comes after a change never waits for a load from before it. Nobody waits
        twice: when the lock is gone and has left no entry, its load failed or took too long.
        """
        deadline = time.monotonic() + LOAD_SECONDS
        pause, waited_for = 0.04, None
        while True:
            found, generation = await self._find(key, tag)
            if found or time.monotonic() > deadline:
                return found, generation, None
            lock = self.redis.lock(f"{PREFIX}:lock:{generation.hex()}:{key}", timeout=LOAD_SECONDS)
            if generation != waited_for:
                if await lock.acquire(blocking=False):
                    found, _ = await self._find(key, tag)  # who had it before may have stored the entry since we looked
                    return found, generation, lock
            elif not await lock.locked():
                found, _ = await self._find(key, tag)
                return found, generation, None
            waited_for = generation
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.3)  # nobody waits much longer than the load takes

    async def _find(self, key: str, tag: str) -> tuple[Cached | None, bytes]:
        """Return the entry if it is whole and of the tag's generation, and that generation."""
        async with self.redis.pipeline() as pipeline:
            pipeline.mget(self._generation_key(tag), self._entry_key(key))
            pipeline.pttl(self._entry_key(key))
            (generation, entry), milliseconds_left = await pipeline.execute()
        if generation is None:
            return None, await self._begin_generation(tag)
        written_in, _, rest = (entry or b"").partition(b"\n")
        checksum, _, body = rest.partition(b"\n")
        if written_in != generation or checksum != checksum_of(body):
            return None, generation
        return Cached(body, milliseconds_left / 1000, hit=True), generation

    async def _begin_generation(self, tag: str) -> bytes:
        """Return the tag's first generation, or the first since Redis forgot it; of two who begin one, one wins."""
        key = self._generation_key(tag)
        await self.redis.set(key, new_generation(), nx=True, px=self._milliseconds(2))
        generation = await self.redis.get(key)
        return generation if isinstance(generation, bytes) else b""

    async def _store(self, key: str, tag: str, generation: bytes, body: bytes) -> None:
        """Store the entry, and let its generation live longer than it does."""
        entry = b"\n".join([generation, checksum_of(body), body])
        with suppress(RedisError):
            async with self.redis.pipeline() as pipeline:
                pipeline.set(self._entry_key(key), entry, px=self._milliseconds())
                pipeline.pexpire(self._generation_key(tag), self._milliseconds(2))
                await pipeline.execute()

    def _milliseconds(self, lives: int = 1) -> int:
        return math.ceil(self.ttl * lives * 1000)

    def _entry_key(self, key: str) -> str:
        return f"{PREFIX}:entry:{key}"

    def _generation_key(self, tag: str) -> str:
        return f"{PREFIX}:generation:{tag}"


def new_generation() -> str:
    return uuid.uuid4().hex


def checksum_of(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()
