"""The policies, the rules for HTTPS, and the settings that decide both."""

import os
import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import quote

from flask import Response, abort, jsonify, redirect, request
from flask.typing import ResponseReturnValue

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Policy = dict[str, str]
Network = IPv4Network | IPv6Network

LAST_PORT = 65_535
LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
ORIGIN = re.compile(rf"https?://{LABEL}(\.{LABEL})*(:(?P<port>[0-9]{{1,5}}))?")

# For everything but pages: nothing may load, and no site may frame it. `default-src` does not cover the last three.
NOTHING: Policy = {
    "default-src": "'none'",
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
# For the page: Talisman adds the nonce of the response to script-src and style-src.
PAGE: Policy = NOTHING | {"script-src": "", "style-src": "", "connect-src": "'self'", "img-src": "'self'"}


def embeddable_by(origins: list[str]) -> Policy:
    """The policy of the widget, which pages of these origins may frame. X-Frame-Options cannot name them."""
    return NOTHING | {"style-src": "", "frame-ancestors": " ".join(origins) or "'none'"}


class TrustedProxies:
    """WSGI middleware that accepts X-Forwarded-Proto only from a trusted proxy, the peer of the connection.

    A proxy appends its value, so the last one is that of the nearest proxy; a client may have written the others.
    The header is removed afterwards, because Talisman accepts it from any client.
    """

    def __init__(self, app: "WSGIApplication", networks: list[Network]) -> None:
        self.app = app
        self.networks = networks

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        forwarded = environ.pop("HTTP_X_FORWARDED_PROTO", "").rpartition(",")[2].strip().lower()
        if forwarded in ("http", "https") and self.trusts(environ.get("REMOTE_ADDR", "")):
            environ["wsgi.url_scheme"] = forwarded
        return self.app(environ, start_response)

    def trusts(self, text: str) -> bool:
        try:
            address = ip_address(text)
        except ValueError:  # a Unix socket has no address
            return False
        address = getattr(address, "ipv4_mapped", None) or address  # ::ffff:10.0.0.1 is 10.0.0.1
        return any(address in network for network in self.networks)


def force_https() -> ResponseReturnValue | None:
    """Over plain HTTP, redirect reads of pages to HTTPS and refuse everything else.

    A refused body and its credentials have crossed the network already. A redirect would make the client send them
    again, and its wrong URL would never be corrected.
    """
    if request.is_secure:
        return None
    if request.method in ("GET", "HEAD") and not request.path.startswith("/api/"):
        return redirect(https_url(), 301)
    return jsonify(detail="use HTTPS"), 403


def https_url() -> str:
    """The URL of the request on HTTPS. `request.url` is an IRI: some of its percent-encoding is decoded."""
    if not request.host:  # empty when Host is not a valid host
        abort(400, "the Host header is not a host name")
    path = quote(request.environ["PATH_INFO"].encode("latin-1"), safe="/!$&'()*+,;=:@")
    query = quote(request.query_string, safe="%/!$&'()*+,;=:@?")
    return f"https://{request.host}{path}" + (f"?{query}" if query else "")


def finish(response: Response) -> Response:
    """Set the headers that Talisman cannot.

    X-XSS-Protection is 0: the filter that it controlled was removed from browsers because it could itself be abused
    to disable parts of a page. A page with a nonce must not be cached, or the nonce would be used twice.
    """
    response.headers["X-XSS-Protection"] = "0"
    if "'nonce-" in response.headers.get("Content-Security-Policy", ""):
        response.headers["Cache-Control"] = "no-store"
    return response


def flag(name: str, default: str) -> bool:  # given
    """A setting that is 1 or 0. Raises ValueError."""
    value = os.environ.get(name, default)
    if value not in ("0", "1"):
        raise ValueError(f"{name} must be 1 or 0, not {value!r}")
    return value == "1"


def networks(name: str) -> list[Network]:  # given
    """A comma-separated list of addresses and networks (CIDR). Raises ValueError."""
    try:
        return [ip_network(item) for item in listed(name)]
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def port(name: str, default: str) -> int:  # given
    """A port to listen on. Raises ValueError."""
    value = os.environ.get(name, default)
    if not re.fullmatch("[0-9]{1,5}", value) or int(value) > LAST_PORT:
        raise ValueError(f"{name} must be a number up to {LAST_PORT}, not {value!r}")
    return int(value)


def origins(name: str) -> list[str]:  # given
    """A comma-separated list of origins: scheme, host and perhaps a port. Raises ValueError."""
    for origin in listed(name):
        match = ORIGIN.fullmatch(origin)
        if not match or not 0 < int(match["port"] or "443") <= LAST_PORT:
            raise ValueError(f"{name} must name origins like https://partner.example, not {origin!r}")
    return listed(name)


def listed(name: str) -> list[str]:  # given
    return [item.strip() for item in os.environ.get(name, "").split(",") if item.strip()]
