"""What pages of a trusted origin, another origin and another site can do in Chromium, by how the API is protected."""

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from app import make_api
from cors import METHODS, REQUEST_HEADERS, with_cors
from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.progress import Progress
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from grader.browser import find_chromium, serve_site

FETCH = """async ([url, options]) => {
    try {
        const response = await fetch(url, {credentials: 'include', ...options});
        return {ok: response.ok, text: await response.text()};
    } catch (error) {
        return null;
    }
}"""
FORM = {"method": "POST", "body": "name=new", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}
JSON = {"method": "POST", "body": '{"name": "new"}', "headers": {"Content-Type": "application/json"}}
SANDBOX = "<iframe sandbox=allow-scripts srcdoc='<p>frame'></iframe>"
KINDS = {
    "GET with the visitor's cookie": {},
    "form (no preflight)": FORM,
    "JSON (preflight)": JSON,
    "GET from a sandboxed frame": {},
}
Make = Callable[[str], ASGIApp]


def this_app(origin: str) -> ASGIApp:
    return with_cors(make_api(), [origin])


def cors_alone(origin: str) -> ASGIApp:
    return CORSMiddleware(
        make_api(),
        allow_origins=[origin],
        allow_methods=METHODS,
        allow_headers=REQUEST_HEADERS,
        allow_credentials=True,
    )


def star_with_credentials(_origin: str) -> ASGIApp:
    return CORSMiddleware(
        make_api(), allow_origins=["*"], allow_methods=["*"], allow_headers=["*"], allow_credentials=True
    )


# What sends the request, and how the API is protected.
COLUMNS: list[tuple[str, str, Make]] = [
    ("trusted", "Trusted page, this app", this_app),
    ("other", "Other origin of the same site, this app", this_app),
    ("other", "Other origin of the same site, CORSMiddleware alone", cors_alone),
    ("other", "Other origin of the same site, `*` with credentials", star_with_credentials),
    ("another site", "Another site, `*` with credentials", star_with_credentials),
]


@contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """Serve the app on a free port; yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://localhost:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def outcome(page: Page, origin: str, home: str, api: str, kind: str) -> str:
    """What comes of a request from a page of this origin, when its visitor has a session."""
    page.goto(home)
    page.evaluate(FETCH, [f"{api}/session", {"method": "POST"}])
    page.goto(f"{origin}/frame" if "frame" in kind else origin)
    frame = page.frames[-1]
    answer = frame.evaluate(FETCH, [f"{api}/items", KINDS[kind]])
    page.goto(home)
    written = json.loads(page.evaluate(FETCH, [f"{api}/items", {}])["text"])["items"]
    return f"{'written' if written else 'not written'}, {readable(answer)}" if KINDS[kind] else readable(answer)


def readable(answer: dict[str, Any] | None) -> str:
    """What the page could read of the answer; without the visitor's cookie that is an error at most."""
    if answer is None:
        return "unreadable"
    return "readable" if answer["ok"] else "only an error is readable"


def main() -> None:
    console = Console(file=sys.stderr)
    pages = {"/": "<p>page", "/frame": SANDBOX}
    rows = {kind: [kind] for kind in KINDS}
    with (
        sync_playwright() as playwright,
        serve_site(pages) as front,
        serve_site(pages) as other,
        serve_site(pages, "127.0.0.1") as another_site,
        Progress(console=console) as progress,
    ):
        task = progress.add_task("requests", total=len(KINDS) * len(COLUMNS))
        origins = {"trusted": front.origin, "other": other.origin, "another site": another_site.origin}
        browser = playwright.chromium.launch(executable_path=find_chromium(), chromium_sandbox=False)
        for sender, _title, make in COLUMNS:
            with served(make(front.origin)) as api:
                for kind in KINDS:
                    context = browser.new_context()
                    rows[kind].append(outcome(context.new_page(), origins[sender], front.origin, api, kind))
                    context.close()
                    progress.advance(task)
        browser.close()
    print("| Request | " + " | ".join(title for _sender, title, _make in COLUMNS) + " |")
    print("| --- |" + " --- |" * len(COLUMNS))
    print("\n".join(f"| {' | '.join(cells)} |" for cells in rows.values()))


if __name__ == "__main__":
    main()
