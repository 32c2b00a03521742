"""Prometheus metrics of an ASGI app: each request is counted and timed once, until the end of its response."""

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import uuid4

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The objective is 0.25 s, so it must be a bound: how many requests met it can then be read exactly.
REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
TASK_BUCKETS = (0.1, 0.5, 1, 5, 10, 60, 300)
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
NOT_COUNTED = {"/metrics", "/health"}  # probes every few seconds would hide what users see

log = logging.getLogger("shop.slow")


class Metrics:
    """The metrics of one app, in a registry of their own; with PROMETHEUS_MULTIPROC_DIR, of all its workers."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # two more series for each combination of labels
        registry = self.registry = CollectorRegistry()
        labels = ["method", "route", "status_class"]
        self.requests = Counter("http_requests_total", "Requests that have ended.", labels, registry=registry)
        self.duration = Histogram(
            "http_request_duration_seconds",
            "Time from the arrival of a request to the end of its response.",
            labels,
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )
        self.in_progress = Gauge(
            "http_requests_in_progress",
            "Requests whose response has not ended.",
            ["method"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.task_duration = Histogram(
            "task_duration_seconds", "Duration of background tasks.", ["task"], buckets=TASK_BUCKETS, registry=registry
        )
        self.task_failures = Counter(
            "task_failures_total", "Background tasks that raised an error.", ["task"], registry=registry
        )
        self.queries = Counter("database_queries_total", "Queries sent to the database.", registry=registry)

    @contextmanager
    def task(self, name: str) -> Iterator[None]:
        """Time a background task, and count it if it fails; the error goes on."""
        failures = self.task_failures.labels(name)  # now it exists: a rate needs the 0 before the 1
        with failures.count_exceptions(BaseException), self.task_duration.labels(name).time():
            yield

    def render(self, accept: str) -> tuple[bytes, str]:
        """The metrics in the format that an Accept header asks for, and its media type."""
        registry = self.registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        try:
            encode, media_type = choose_encoder(accept)
        except TypeError:  # prometheus-client 0.26 fails on `version=abc`
            encode, media_type = choose_encoder("")
        return encode(registry), media_type


class Monitor:
    """Wraps an app. It has to be the outermost layer: it then sees the answers that the other layers make, too."""

    def __init__(self, app: ASGIApp, metrics: Metrics, slow_seconds: float) -> None:
        self.app, self.metrics, self.slow_seconds = app, metrics, slow_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in NOT_COUNTED:
            await self.app(scope, receive, send)
            return
        exchange = Exchange(self, scope, receive, send)
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except BaseException:  # asyncio.CancelledError is no Exception
            exchange.status = 500
            raise
        finally:
            exchange.end()


class Exchange:
    """One request and its response."""

    def __init__(self, monitor: Monitor, scope: Scope, receive: Receive, send: Send) -> None:
        self.monitor, self.scope, self._receive, self._send = monitor, scope, receive, send
        self.method = scope["method"] if scope["method"] in METHODS else "other"
        self.request_id = str(uuid4())
        self.status = 0  # no answer yet
        self.client_is_gone = self.has_ended = False
        self.started = time.perf_counter()
        self.in_progress = monitor.metrics.in_progress.labels(self.method)
        self.in_progress.inc()

    async def receive(self) -> Message:
        message = await self._receive()
        self.client_is_gone |= message["type"] == "http.disconnect"
        return message

    async def send(self, message: Message) -> None:
        """Pass a part of the response on. With the last one the request has ended, whatever the app does next."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", []), (b"x-request-id", self.request_id.encode())]
        try:
            await self._send(message)
        except OSError:  # so some servers say that the client has gone; uvicorn only says it to `receive`
            self.client_is_gone = True
            self.end()
            raise
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.end(complete=True)

    def end(self, *, complete: bool = False) -> None:
        """Count and time the request; once, although this is called after the last part and when the app returns."""
        if self.has_ended:
            return
        self.has_ended, seconds = True, time.perf_counter() - self.started
        # The template, such as /products/{product_id}: one series for all products, and one for all unknown paths.
        route = getattr(self.scope.get("route"), "path", "unmatched")
        labels = {"method": self.method, "route": route, "status_class": self.status_class(complete)}
        self.in_progress.dec()
        self.monitor.metrics.requests.labels(**labels).inc()
        self.monitor.metrics.duration.labels(**labels).observe(seconds)
        if seconds > self.monitor.slow_seconds:
            line = {"time": datetime.now(UTC).isoformat(), "level": "WARNING", "message": "slow request"}
            line |= labels | {"request_id": self.request_id, "duration_seconds": round(seconds, 6)}
            log.warning(json.dumps(line))

    def status_class(self, complete: bool) -> str:
        """`5xx` also for a response that broke off, unless its client did that: `client_gone`."""
        by_status = f"{self.status // 100}xx"
        if by_status == "5xx" or (complete and not self.client_is_gone):
            return by_status
        return "client_gone" if self.client_is_gone else "5xx"
