"""What does a log of requests cost: processor time a request, and bytes, by middleware and by setting?"""

import asyncio
import contextlib
import io
import json
import logging
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from unittest import mock

from app import configure_logging
from request_log import RequestLog, choose_id
from shop import make_shop
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Scope

ROUNDS = 15
REQUESTS = 200  # a round
BODY = json.dumps(
    {"product": "KB-1", "quantity": 2, "ship_to": {"city": "Aarhus", "street": "Banegårdspladsen 1"}}
).encode()
HEADERS = {
    "host": "shop.example",
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0",
    "accept": "application/json",
    "accept-language": "en",
    "authorization": f"Bearer {'x' * 40}",
    "content-type": "application/json",
    "content-length": str(len(BODY)),
}


class LogFromDispatch(BaseHTTPMiddleware):
    """The usual way, as far as this measures it: nothing is logged at WARNING."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        started = time.perf_counter()
        response = await call_next(request)
        response.headers["X-Request-ID"] = choose_id(request.headers.getlist("x-request-id"))
        milliseconds = (time.perf_counter() - started) * 1000
        logging.getLogger("shop.requests").info("request", extra={"duration_ms": milliseconds})
        return response


class Counted(io.StringIO):
    """Standard output that counts what is written, and keeps none of it."""

    written = 0

    def write(self, text: str) -> int:
        self.written += len(text)
        return len(text)


@dataclass
class Variant:
    label: str
    app: ASGIApp
    level: str = "WARNING"
    is_masked: bool = True
    output: Counted = field(default_factory=Counted)
    seconds: list[float] = field(default_factory=list)

    @contextlib.contextmanager
    def configured(self) -> Iterator[None]:
        with contextlib.redirect_stdout(self.output):
            configure_logging(self.level)
        unmasked = mock.patch("app.mask_named", lambda _name, value: value)
        with contextlib.nullcontext() if self.is_masked else unmasked:
            yield

    @property
    def microseconds(self) -> float:
        return statistics.median(self.seconds) / REQUESTS * 1e6


async def post_upload(app: ASGIApp) -> None:
    """One request, without a server: the app and its middleware alone."""
    messages: list[Message] = [{"type": "http.request", "body": BODY, "more_body": False}]
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/upload",
        "raw_path": b"/upload",
        "query_string": b"page=1&sort=newest",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in HEADERS.items()],
        "client": ("192.0.2.1", 50000),
        "server": ("127.0.0.1", 8000),
    }

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(_message: Message) -> None: ...

    await app(scope, receive, send)


async def measure(variants: list[Variant]) -> None:
    """Take turns, so that whatever else the machine does falls on all of them alike."""
    for number in range(ROUNDS + 1):
        print(f"round {number} of {ROUNDS}", file=sys.stderr)
        for variant in variants:
            with variant.configured():
                started = time.process_time()
                for _ in range(REQUESTS):
                    await post_upload(variant.app)
                seconds = time.process_time() - started
            if number:  # the first one warms up
                variant.seconds.append(seconds)


def main() -> None:
    variants = [
        Variant("no middleware", make_shop()),
        Variant("pure ASGI, `LOG_LEVEL=WARNING`: nothing logged", RequestLog(make_shop(), 2048, 1)),
        Variant("BaseHTTPMiddleware, `LOG_LEVEL=WARNING`: nothing logged", LogFromDispatch(make_shop())),
        Variant("pure ASGI, `LOG_SAMPLE=0.1`", RequestLog(make_shop(), 2048, 0.1), "INFO"),
        Variant("pure ASGI, `LOG_LEVEL=INFO`", RequestLog(make_shop(), 2048, 1), "INFO"),
        Variant(
            "pure ASGI, `LOG_LEVEL=INFO`, without masking", RequestLog(make_shop(), 2048, 1), "INFO", is_masked=False
        ),
        Variant("pure ASGI, `LOG_LEVEL=DEBUG`", RequestLog(make_shop(), 2048, 1), "DEBUG"),
    ]
    asyncio.run(measure(variants))
    print("| Requests to `POST /upload` with | µs a request | compared | log, bytes per 1,000 requests |")
    print("| --- | ---: | ---: | ---: |")
    for variant in variants:
        times = variant.microseconds / variants[0].microseconds
        log = variant.output.written * 1000 // (REQUESTS * (ROUNDS + 1))
        print(f"| {variant.label} | {variant.microseconds:.0f} | {times:.1f} | {log:,} |")


if __name__ == "__main__":
    main()
