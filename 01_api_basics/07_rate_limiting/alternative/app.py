"""The same limit in Flask: one hook before the limited endpoint, and a sorted set in place of the list."""

import hashlib
import logging
import os
import re
import sys
import time
from ipaddress import IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

import redis
from flask import Flask, Response, g, jsonify, request
from redis.backoff import NoBackoff
from redis.retry import Retry

QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"
LARGEST = 100_000
TIMEOUT = 0.4
PAUSE = 1.0

# A request that passes is a member of the set, its score is when. Two may pass in one microsecond, so members are
# numbered: INCR gives each a name of its own. Both keys end together.
HIT = """
local now = redis.call('TIME')
local micros = now[1] * 1000000 + now[2]
local quota, window = tonumber(ARGV[1]), tonumber(ARGV[2]) * 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', micros - window))
local used = redis.call('ZCARD', KEYS[1])
local passes = 0
if used < quota then
    local number = redis.call('INCR', KEYS[2])
    redis.call('ZADD', KEYS[1], string.format('%.0f', micros), number)
    redis.call('EXPIRE', KEYS[1], ARGV[2] + 1)
    redis.call('EXPIRE', KEYS[2], ARGV[2] + 1)
    used, passes = used + 1, 1
end
local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
return {passes, quota - used, oldest + window - micros}
"""

log = logging.getLogger(__name__)


class Result(NamedTuple):
    passes: bool
    remaining: int
    seconds: int


class Limiter:
    """Asks Redis, and leaves it alone for a moment after it has failed to answer."""

    def __init__(self, rate: str, url: str) -> None:
        found = re.fullmatch(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})", rate, re.ASCII)
        self.quota, self.window = map(int, found.groups()) if found else (0, 0)
        if not 1 <= min(self.quota, self.window) <= max(self.quota, self.window) <= LARGEST:
            raise ValueError(f"RATE_LIMIT: {rate!r} is not REQUESTS/SECONDS, both from 1 to {LARGEST}")
        try:
            connection = redis.Redis.from_url(
                url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0)
            )
        except ValueError:
            raise ValueError("REDIS_URL: a URL like redis://127.0.0.1:6379/0 is needed") from None
        self.script = connection.register_script(HIT)
        self.asleep_until = 0.0

    def hit(self, client: str) -> Result | None:
        if time.monotonic() < self.asleep_until:
            return None
        key = f"hits:{self.quota}:{self.window}:{client}"
        try:
            passes, remaining, micros = self.script(keys=[key, f"{key}:number"], args=[self.quota, self.window])
        except redis.RedisError as error:
            if time.monotonic() >= self.asleep_until:
                log.warning("no answer from Redis, nothing is limited: %s", error)
            self.asleep_until = time.monotonic() + PAUSE
            return None
        return Result(passes == 1, remaining, (micros + 999_999) // 1_000_000)


class Proxies:
    """Tells the client's address from what trusted proxies say."""

    def __init__(self, text: str) -> None:
        try:
            self.networks = [ip_network(item.strip()) for item in text.split(",") if item.strip()]
        except ValueError as error:
            raise ValueError(f"TRUSTED_PROXIES: {error}") from None

    def client(self, peer: str, forwarded: str) -> str:
        client = None
        for text in [peer, *reversed([entry for entry in forwarded.split(",") if entry.strip()])]:
            address = read_address(text)
            if address is None:
                break
            client = address
            if not any(address in network for network in self.networks):
                break
        if isinstance(client, IPv6Address):
            return str(IPv6Network((client.packed, 64), strict=False))
        return str(client)


def read_address(text: str) -> object | None:
    found = re.fullmatch(r"\s*(?:\[(?P<six>[^]]*)\](?::\d+)?|(?P<four>[0-9.]+):\d+|(?P<bare>\S+))\s*", text)
    if not found:
        return None
    try:
        address = ip_address((found["six"] or found["four"] or found["bare"] or "").partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address


def create_app() -> Flask:
    """Return the app; ValueError when a variable makes no sense."""
    limiter = Limiter(os.environ.get("RATE_LIMIT", "100/3600"), os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
    proxies = Proxies(os.environ.get("TRUSTED_PROXIES", ""))
    app = Flask(__name__)

    @app.get("/resource")
    def read_resource() -> Response:
        return jsonify(message="Here you are")

    @app.get("/health")
    def read_health() -> Response:
        return jsonify(status="ok")

    @app.before_request
    def count() -> Response | None:
        if request.endpoint != "read_resource" or request.method not in ("GET", "HEAD"):
            return None
        g.result = limiter.hit(identify(proxies))
        return refusal(limiter, g.result) if g.result and not g.result.passes else None

    @app.after_request
    def tell(response: Response) -> Response:
        result: Result | None = g.get("result")
        if result:
            response.headers["RateLimit-Policy"] = f'"per-client";q={limiter.quota};w={limiter.window}'
            response.headers["RateLimit"] = f'"per-client";r={result.remaining};t={result.seconds}'
        return response

    return app


def identify(proxies: Proxies) -> str:
    key = request.headers.get("X-API-Key", "")
    if key:
        return "key-" + hashlib.sha256(key.encode()).hexdigest()
    return "address-" + proxies.client(request.remote_addr or "", request.headers.get("X-Forwarded-For", ""))


def refusal(limiter: Limiter, result: Result) -> Response:
    response = jsonify(
        {
            "type": QUOTA_EXCEEDED,
            "title": "Quota exceeded",
            "status": 429,
            "detail": f"{limiter.quota} requests in {limiter.window} seconds are enough; wait {result.seconds} s",
            "violated-policies": ["per-client"],
        }
    )
    response.status_code = 429
    response.content_type = "application/problem+json"
    response.headers["Retry-After"] = str(result.seconds)
    return response


def main() -> None:
    """Serve the app on HOST and PORT."""
    try:
        app = create_app()
    except ValueError as error:
        sys.exit(str(error))
    app.run(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000")), threaded=True)


if __name__ == "__main__":
    main()
