"""A real browser for tests: headless Chromium, and web sites of the test's own to open in it.

What a browser does with a header or a script is shown by a browser. Playwright (https://playwright.dev/python) drives
it; the Chromium is the one of CHROMIUM, or of the PATH, or the one that `playwright install chromium` fetched. Without
any, tests that need a browser are skipped; where CI is set, they fail.
"""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE_MS = 5000
# Nothing outside of this machine is asked: all other names lead nowhere.
LOCAL_ONLY = "MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1"


@dataclass
class Site:
    """A web site of a test's own, such as a foreign front end: it serves `pages` and notes what it is asked for."""

    origin: str
    pages: dict[str, str] = field(default_factory=dict)
    """HTML by path; any other path is a 404."""
    headers: dict[str, str] = field(default_factory=dict)
    """Response headers of all pages."""
    requests: list[str] = field(default_factory=list)
    """What was asked for, like `GET /stolen?cookie=…`."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        site = cast("_Server", self.server).site
        site.requests.append(f"{self.command} {self.path}")
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        page = site.pages.get(self.path.partition("?")[0])
        body = (page or "").encode()
        self.send_response(404 if page is None else 200)
        for name, value in ({"Content-Type": "text/html; charset=utf-8"} | site.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = answer  # noqa: N815

    def log_message(self, *_arguments: object) -> None:
        """Say nothing: `Site.requests` has it."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a browser keeps its connections open

    def __init__(self, host: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.site = Site(f"http://{host}:{self.server_address[1]}")


def find_chromium() -> str | None:
    """The path of a Chromium or Chrome: CHROMIUM when it is set, else one on the PATH, else Playwright's own."""
    named = os.environ.get("CHROMIUM")
    if named:
        if not shutil.which(named):
            raise FileNotFoundError(f"CHROMIUM names no program: {named}")
        return named
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """A headless Chromium, started once a run: it takes a second and a half."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  only exercises with a browser have it

    with sync_playwright() as playwright:
        program = find_chromium() or playwright.chromium.executable_path
        if not Path(program).exists():
            no_browser()
        with playwright.chromium.launch(
            executable_path=program, chromium_sandbox=False, args=[f"--host-resolver-rules={LOCAL_ONLY}"]
        ) as browser:
            yield browser


def no_browser() -> None:
    """Skip the test, or fail it in CI, which must not pass without having looked."""
    message = "there is no Chromium: install one, or name it in CHROMIUM"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture
def context(browser: "Browser") -> "Iterator[BrowserContext]":
    """A browser profile of this test's own: its cookies, storage and cache are empty."""
    with browser.new_context() as context:
        context.set_default_timeout(PATIENCE_MS)
        yield context


@pytest.fixture
def page(context: "BrowserContext") -> "Page":
    """A tab in that profile."""
    return context.new_page()


@contextmanager
def serve_site(pages: dict[str, str], host: str = "localhost", **headers: str) -> Iterator[Site]:
    """Serve a web site on a port, and so an origin, of its own. `Content_Type="…"` is a header of all its pages."""
    with _Server(host) as server:
        server.site.pages = pages
        server.site.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
        thread.start()
        yield server.site
        server.shutdown()
        thread.join()


@pytest.fixture
def site() -> Iterator[Callable[..., Site]]:
    """Start web sites: `site({"/": "<p>Hello"}, host="localhost")`; see `serve_site`.

    127.0.0.1 and localhost are two sites to a browser, so their cookies are apart; two ports of one host are two
    origins of one site, whose cookies are shared.
    """
    with ExitStack() as servers:

        def start(pages: dict[str, str], host: str = "localhost", **headers: str) -> Site:
            return servers.enter_context(serve_site(pages, host, **headers))

        yield start
