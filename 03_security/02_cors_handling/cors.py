"""Who may use the API from a browser: the list of trusted origins, checked when it is read and when it is used."""

import ipaddress
import os
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
REQUEST_HEADERS = ("Content-Type",)
RESPONSE_HEADERS = ("Location",)
PREFLIGHT_SECONDS = 600
SAFE = ("GET", "HEAD")
HOST = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:]+\]"
ORIGIN = re.compile(rf"(https?)://({HOST})(?::([1-9][0-9]{{0,4}}))?")
NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
DEFAULT_PORTS = {"http": 80, "https": 443}
LAST_PORT = 65_535


def read_origins() -> list[str]:
    """The origins in ALLOWED_ORIGINS, comma-separated; none when it is not set. Raises ValueError.

    A browser sends an origin in one form only (RFC 6454 §6.2). Anything else in the list would never match, or, like
    `*` and `null`, match everybody.
    """
    origins = [item.strip() for item in os.environ.get("ALLOWED_ORIGINS", "").split(",") if item.strip()]
    for origin in origins:
        if not is_origin(origin):
            raise ValueError(f"ALLOWED_ORIGINS must hold origins like https://shop.example:8443, not {origin!r}")
    return origins


def is_origin(text: str) -> bool:
    """Whether a browser sends this for a web page: lower case, no path, no default port, addresses in short form."""
    match = ORIGIN.fullmatch(text)
    if not match:
        return False
    scheme, host, port = match[1], match[2], int(match[3] or 0)
    if port == DEFAULT_PORTS[scheme] or port > LAST_PORT:
        return False
    return is_canonical_address(host) if is_address(host) else True


def is_address(host: str) -> bool:  # given
    """Whether browsers take the host for an IP address: it has brackets, or its last part is a number."""
    return host.startswith("[") or bool(NUMBER.fullmatch(host.rpartition(".")[2]))


def is_canonical_address(host: str) -> bool:  # given
    """Whether the address is written as browsers write it: 127.0.0.1 and not 127.1, [::1] and not [0::1]."""
    address = host.strip("[]")
    try:
        return str(ipaddress.ip_address(address)) == address
    except ValueError:
        return False


def with_cors(app: ASGIApp, origins: list[str]) -> ASGIApp:
    """Wrap the app. Nothing of it is outside, so errors have the headers as well, and no login comes before them."""
    cors = CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=REQUEST_HEADERS,
        expose_headers=RESPONSE_HEADERS,
        allow_credentials=True,
        max_age=PREFLIGHT_SECONDS,
    )
    return OriginGuard(cors, origins)


class OriginGuard:
    """Keeps pages of origins that are not trusted from writing, and from reading answers.

    CORS only keeps a page from reading. A form, or a fetch of a simple type, is sent without a preflight, with
    cookies, and works. So the server itself looks at Origin, which a page cannot forge, before it does anything.
    Browsers send Origin with every write, so a write without it comes from no browser. They leave it out of some
    reads: a GET must never change anything.
    """

    def __init__(self, app: ASGIApp, origins: list[str]) -> None:
        self.app = app
        self.origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # CORS does not apply to them, and this API has none
            await WebSocketClose()(scope, receive, send)
        elif scope["type"] == "http":
            await self.answer(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an HTTP request as its Origin allows."""
        found = Headers(scope=scope).getlist("origin")
        is_trusted = len(found) == 1 and found[0] in self.origins

        async def send_with_vary(message: Message) -> None:
            if message["type"] == "http.response.start":
                vary_by_origin(MutableHeaders(scope=message))
            await send(message)

        if is_trusted or not found:
            await self.app(with_one_list(scope), receive, send_with_vary)
        elif scope["method"] in SAFE:
            await self.app(without(scope, "origin"), receive, send_with_vary)
        else:
            refusal = JSONResponse({"detail": "this origin may not do that"}, 403)
            await refusal(scope, receive, send_with_vary)


def without(scope: Scope, name: str) -> Scope:  # given
    """The same request without this header. Without Origin, the answer has no CORS headers."""
    return {**scope, "headers": [line for line in scope["headers"] if line[0].lower() != name.encode()]}


def with_one_list(scope: Scope) -> Scope:  # given
    """The same request, its Access-Control-Request-Headers in one line: CORSMiddleware looks at the first only."""
    name = "access-control-request-headers"
    lines = ",".join(Headers(scope=scope).getlist(name)).split(",")
    names = ",".join(item.strip() for item in lines if item.strip())
    merged = without(scope, name)
    return {**merged, "headers": [*merged["headers"], (name.encode(), names.encode("latin-1"))]} if names else merged


def vary_by_origin(headers: MutableHeaders) -> None:
    """Tell caches that the answer depends on Origin, also when there was none.

    See https://fetch.spec.whatwg.org/#cors-protocol-and-http-caches.
    """
    names = [name.strip().lower() for value in headers.getlist("Vary") for name in value.split(",")]
    if "origin" not in names:
        headers.add_vary_header("Origin")
