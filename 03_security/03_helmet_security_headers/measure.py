"""How many scripts, injected and own, run in Chromium under which headers, and how a scanner grades those headers."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from app import create_app
from flask import Flask
from flask_talisman import Talisman
from playwright.sync_api import Page, Route, sync_playwright
from rich.console import Console
from rich.progress import Progress

from grader.browser import find_chromium

XSS = json.loads((Path(__file__).parent / "tests" / "xss.json").read_text(encoding="utf-8"))
PLACES = {
    "text": "<div>{}</div>",
    "attribute": '<div><style>@keyframes spin {{}}</style><input class="target" value="{}"></div>',
    "link": '<a class="target" href="{}">link</a>',
    "script": '<script nonce="NONCE">{{\nconst query = "{}"\n}}</script>',
}
OWN = '<script nonce="NONCE">window.own = true</script>'
SETTINGS = ("FORCE_HTTPS", "TRUSTED_PROXIES", "EMBED_ORIGINS", "HSTS_PRELOAD")
URL = "http://localhost/"
NOTE_ALERTS = "window.ran = new Set(); window.alert = number => top.ran.add(Number(number));"
SETTLE = """async () => {
    for (const target of document.querySelectorAll('.target')) { target.click(); target.focus(); }
    for (let round = 0; round < 3; round++) {
        await new Promise(done => { const image = new Image(); image.onerror = done; image.src = '/last?' + round; });
        await new Promise(done => setTimeout(done));
    }
    return window.ran.size;
}"""
Headers = dict[str, str]


def plain() -> Flask:
    """Flask as it comes."""
    app = Flask("plain")
    app.add_url_rule("/", view_func=lambda: "hello")
    return app


def talisman(policy: object = None, **options: object) -> Flask:
    """Talisman with its defaults, or another policy."""
    app = plain()
    Talisman(app, **options, **({"content_security_policy": policy} if policy else {}))
    return app


def talisman_with_nonces() -> Flask:
    """Talisman's default policy, whose scripts may have a nonce instead."""
    policy = {"default-src": "'self'", "object-src": "'none'", "script-src": "'self'"}
    return talisman(policy, content_security_policy_nonce_in=["script-src"])


APPS = {
    "none (Flask alone)": plain,
    "`'unsafe-inline'`": lambda: talisman({"default-src": "'self' 'unsafe-inline'"}),
    "Talisman's defaults": talisman,
    "Talisman with nonces": talisman_with_nonces,
    "this app's": create_app,
}


def headers_of(app: Flask) -> tuple[Headers, bool]:
    """The page's headers over HTTPS, and whether plain HTTP is redirected there."""
    client = app.test_client()
    redirected = client.get("/").headers.get("Location", "").startswith("https:")
    return dict(client.get("/", base_url="https://localhost").headers), redirected


def score(headers: Headers, *, redirected: bool) -> int:
    """The modifiers of Mozilla's HTTP Observatory for these headers; bonuses count from 90 on."""
    policy = headers.get("Content-Security-Policy", "")
    penalty = 25 * (not policy) + 20 * ("'unsafe-inline'" in policy) + 20 * (not redirected)
    penalty += 20 * ("Strict-Transport-Security" not in headers) + 5 * ("X-Content-Type-Options" not in headers)
    framing = "frame-ancestors" in policy
    penalty += 20 * (not framing and "X-Frame-Options" not in headers)
    safe = bool(policy) and "'unsafe-inline'" not in policy
    bonus = (10 if "default-src 'none'" in policy else 5) * safe + 5 * framing + 5 * ("Referrer-Policy" in headers)
    return max(100 - penalty, 0) + bonus * (penalty <= 10)


def ran(page: Page, place: str, headers: Headers) -> tuple[int, bool]:
    """How many payloads run in that place of a page with these headers, and whether the page's own script does."""
    policy = headers.get("Content-Security-Policy", "")
    nonce = policy.partition("'nonce-")[2].partition("'")[0]
    forms = [PLACES[place].format(payload.replace("N", str(number))) for number, payload in enumerate(XSS[place])]
    html = f"<!doctype html><body>{OWN}{''.join(forms)}</body>".replace('"NONCE"', f'"{nonce}"')
    answer = {"content-type": "text/html", "content-security-policy": policy}

    def serve(route: Route) -> None:
        if route.request.url == URL:
            route.fulfill(body=html, headers=answer)
        else:
            route.fulfill(status=404)

    page.route("**/*", serve)
    page.goto(URL)
    page.wait_for_load_state()
    return cast("int", page.evaluate(SETTLE)), cast("bool", page.evaluate("window.own === true"))


@contextmanager
def pages() -> Iterator[Page]:
    """A page in Chromium that notes what `alert` is called with."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), chromium_sandbox=False)
        page = browser.new_page()
        page.add_init_script(NOTE_ALERTS)
        yield page
        browser.close()


def main() -> None:
    for name in [name for name in os.environ if name in SETTINGS or name.startswith("FLASK_")]:
        del os.environ[name]
    console = Console(file=sys.stderr)
    rows = []
    with pages() as page, Progress(console=console) as progress:
        task = progress.add_task("policies", total=len(APPS) * len(PLACES))
        for name, make in APPS.items():
            headers, redirected = headers_of(make())
            cells = []
            for place in PLACES:
                count, own = ran(page, place, headers)
                cells.append(f"{count} of {len(XSS[place])}")
                progress.advance(task)
            cells.append("yes" if own else "no")
            rows.append(f"| {name} | {score(headers, redirected=redirected)} | {' | '.join(cells)} |")
    print("| Headers | Score | in text | in an attribute | in a link | in a script | the page's own script runs |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
