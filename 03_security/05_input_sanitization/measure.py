"""How many scripts run in Chromium, and how many injections reach the database, behind which defence; and its cost."""

import json
import os
import re
import sqlite3
import sys
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from html import unescape
from pathlib import Path
from unittest import mock
from urllib.parse import quote, unquote

import nh3
from app import create_app
from fields import is_http_url
from flask import Flask
from markupsafe import escape
from playwright.sync_api import Page, Route, sync_playwright
from rich.console import Console
from rich.progress import Progress

from grader.browser import find_chromium

HERE = Path(__file__).parent
XSS: dict[str, list[str]] = json.loads((HERE / "tests" / "xss.json").read_text(encoding="utf-8"))
SQL: dict[str, list[str]] = json.loads((HERE / "tests" / "sql.json").read_text(encoding="utf-8"))
SCRIPTS = [(place, text) for place, texts in XSS.items() for text in texts]
INJECTIONS = [(place, text) for place, texts in SQL.items() for text in texts]

# What a defence must not change: in every place these come out as they went in.
HARMLESS = ["O'Brien", "<b>", "5 < 6", "A&B", 'say "hi"', "100%", "a_b", "`${1}`"]
HARMLESS_URL = "https://example.com/?a=1&b=O'Brien"

# Scripts.

PLACES = {
    "text": "<div>{}</div>",
    "quoted attribute": '<input value="{}">',
    "unquoted attribute": "<input value={}>",
    "link": '<a href="{}">link</a>',
    "rich text": "<div>{}</div>",
    "query of a link": '<a href="/search?q={}&sort=author">link</a>',
    "script": '<script>window.search = {{"q": "{}"}};</script>',
    "event handler": "<button onclick=\"console.log('{}')\">button</button>",
    "template literal": "<script>document.title = `{}`;</script>",
}
QUERY_OF = "new URL(document.querySelector('a').getAttribute('href'), 'http://localhost').searchParams.get('q')"
# What stands in a place, to a reader or to a script; the other places have no text of their own.
SHOWN = {
    "text": "document.querySelector('div').textContent",
    "quoted attribute": "document.querySelector('input').value",
    "unquoted attribute": "document.querySelector('input').value",
    "link": "document.querySelector('a').getAttribute('href')",
    "query of a link": QUERY_OF,
    "script": "window.search?.q",
    "event handler": """(() => {
        let text = null;
        console.log = given => { text = given; };
        document.querySelector('button').click();
        return text;
    })()""",
    "template literal": "document.title",
}
SHOWN_BY_THE_APP = {
    "text": "document.querySelector('.author').textContent",
    "quoted attribute": "document.querySelector('.author').title",
    "query of a link": QUERY_OF.replace("'a'", "'.author'"),
    "script": "window.search?.q",
    "link": "document.querySelector('.website').getAttribute('href')",
}
URL = "http://localhost/"
NOTE_ALERTS = "window.ran = []; window.alert = number => { top.ran.push(Number(number)); };"
PROVOKE = """async () => {
    const leaves = event => /^(https?|mailto):/.test(event.target.closest('a')?.href);
    document.addEventListener('click', event => { if (leaves(event)) event.preventDefault(); }, true);
    document.addEventListener('submit', event => event.preventDefault(), true);
    for (const element of document.querySelectorAll('*')) {
        for (const {name} of [...element.attributes])
            if (name.startsWith('on')) element.dispatchEvent(new Event(name.slice(2)));
        element.dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true}));
    }
    for (let round = 0; round < 3; round++) {
        await new Promise(done => { const image = new Image(); image.onerror = done; image.src = '/last?' + round; });
        await new Promise(done => setTimeout(done));
    }
    return window.ran;
}"""


def without_scripts(_place: str, text: str) -> str:
    return re.sub(r"<script.*?>.*?</script>", "", text, flags=re.IGNORECASE | re.DOTALL)


def escaped(_place: str, text: str) -> str:
    return str(escape(text))


def escaped_with_url_check(place: str, text: str) -> str:
    return str(escape(text)) if place != "link" or is_http_url(text) else ""


ENCODERS: dict[str, Callable[[str, str], str]] = {
    "none": lambda _place, text: text,
    "a regex that removes `<script>`": without_scripts,
    "nh3, everywhere": lambda _place, text: nh3.clean(text),
    "autoescaping, everywhere": escaped,
    "autoescaping, and URLs checked": escaped_with_url_check,
}


def numbered() -> list[tuple[str, str]]:
    return [(place, text.replace("N", str(number))) for number, (place, text) in enumerate(SCRIPTS)]


def page_of(encode: Callable[[str, str], str]) -> str:
    """A page with all scripts in their places, encoded by a defence."""
    return "<body>" + "\n".join(PLACES[place].format(encode(place, text)) for place, text in numbered())


def pages_of_the_app(app: Flask) -> str:
    """All scripts as author, body and website of a comment, and as what is searched for, on the pages of the app."""
    for _, text in numbered():
        app.extensions["comments"].add({"author": text, "body": text, "website": text, "email": "ann@example.com"})
    client = app.test_client()
    searches = [client.get("/search", query_string={"q": text}).text for _, text in numbered()]
    return "\n".join([client.get("/comments").text, *searches])


def ran(page: Page, html: str) -> Counter[str]:
    """How many scripts run, by the place that they were written for."""

    def serve(route: Route) -> None:
        if route.request.url == URL:
            route.fulfill(body=html, content_type="text/html; charset=utf-8")
        else:
            route.fulfill(status=404)

    page.route("**/*", serve)
    page.goto(URL)
    return Counter(SCRIPTS[number][0] for number in set(page.evaluate(PROVOKE)))


def shown(page: Page, html: str, expression: str) -> object:
    page.evaluate("window.search = null; document.title = ''")
    page.set_content(html)
    return page.evaluate(expression)


def unchanged(page: Page, encode: Callable[[str, str], str]) -> str:
    """How many of the harmless texts come out of their places as they went in."""
    cases = [(place, text) for place in SHOWN for text in ([HARMLESS_URL] if place == "link" else HARMLESS)]
    right = [shown(page, PLACES[place].format(encode(place, text)), SHOWN[place]) == text for place, text in cases]
    return f"{sum(right)} of {len(right)}"


def unchanged_by_the_app(page: Page, app: Flask) -> str:
    client, right = app.test_client(), []
    for text in HARMLESS:
        values = {"author": text, "email": "ann@example.com", "body": text, "website": HARMLESS_URL}
        client.post("/comments", json=values)
        html = client.get("/search", query_string={"q": text}).text
        for place, expression in SHOWN_BY_THE_APP.items():
            right.append(shown(page, html, expression) == (HARMLESS_URL if place == "link" else text))
    return f"{sum(right)} of {len(right)}"


@contextmanager
def chromium() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), chromium_sandbox=False)
        page = browser.new_page()
        page.add_init_script(NOTE_ALERTS)
        yield page
        browser.close()


# Injections.

ROWS = [
    ("Ann", "ann@example.com", "first"),
    ("Bob", "bob@example.com", "second"),
    ("Cid", "al@example.com", "third"),
]
COLUMNS = "SELECT id, author, body FROM comments"
STATEMENTS = dict.fromkeys(SQL, f"{COLUMNS} WHERE author = '{{}}'") | {
    "search": f"{COLUMNS} WHERE body LIKE '%{{}}%'",
    "wildcard": f"{COLUMNS} WHERE author || body LIKE '%{{}}%'",
    "sort": f"{COLUMNS} ORDER BY {{}}",
    "number": f"{COLUMNS} WHERE id = {{}}",
    "insert": "INSERT INTO comments (author, email, body) VALUES ('{}', 'eve@example.com', 'text')",
}
IN_ORDER = [(number, author, body) for number, (author, _, body) in enumerate(ROWS, start=1)]


def decode(text: str) -> str:
    """What careless code does after a check: it normalises, and decodes once more."""
    text = unescape(unquote(unquote(unicodedata.normalize("NFKC", text))))
    return text.replace("\\u0027", "'").replace("\\x27", "'")


def in_an_f_string(place: str, text: str) -> tuple[str, list[str]]:
    return STATEMENTS[place].format(decode(text) if place == "encoded" else text), []


def with_doubled_quotes(place: str, text: str) -> tuple[str, list[str]]:
    return in_an_f_string(place, text.replace("'", "''"))


def bound(place: str, text: str) -> tuple[str, list[str]]:
    value = f"%{text}%" if "%{}%" in STATEMENTS[place] else text
    return re.sub(r"'%?\{\}%?'|\{\}", "?", STATEMENTS[place]), [value]


def gets_through(statement: str, values: list[str], place: str, text: str) -> bool:
    """Whether the statement does anything else than look for this text, or store it."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE comments (id INTEGER PRIMARY KEY, author, email, body, website)")
        database.executemany("INSERT INTO comments (author, email, body) VALUES (?, ?, ?)", ROWS)
        before, expected = list(database.iterdump()), IN_ORDER if place == "sort" else []
        try:
            found = database.execute(statement, values).fetchall()
        except (sqlite3.Warning, sqlite3.ProgrammingError):  # several statements, which other drivers take
            database.executescript(statement)
            found = expected
        except sqlite3.Error:
            return True
        if place == "insert":
            stored = database.execute("SELECT author, email, body FROM comments WHERE id > 3").fetchall()
            return stored != [(text, "eve@example.com", "text")]
        return found != expected or list(database.iterdump()) != before


# Another comment that a text with a wildcard would find, too.
USES = [(place, text) for place in ("insert", "search") for text in HARMLESS] + [("number", "2"), ("sort", "id DESC")]


def is_right(statement: str, values: list[str], place: str, text: str) -> bool:
    """Whether the statement stores this harmless text, finds it only, or sorts by it."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE comments (id INTEGER PRIMARY KEY, author, email, body, website)")
        database.executemany("INSERT INTO comments (author, email, body) VALUES (?, ?, ?)", ROWS)
        if place == "search":
            both = [("Dan", "dan@example.com", "1000 axb"), ("Eve", "eve@example.com", text)]
            database.executemany("INSERT INTO comments (author, email, body) VALUES (?, ?, ?)", both)
        try:
            found = database.execute(statement, values).fetchall()
        except sqlite3.Error:
            return False
        if place == "insert":
            return database.execute("SELECT author FROM comments WHERE id > 3").fetchall() == [(text,)]
        return found == {"search": [(5, "Eve", text)], "number": [IN_ORDER[1]], "sort": IN_ORDER[::-1]}[place]


def is_right_in_the_app(app: Flask, place: str, text: str) -> bool:
    """The same, of a request: what it stores, or the authors on the page that it returns."""
    client = app.test_client()
    if place == "insert":
        values = {"author": text, "email": "eve@example.com", "body": text}
        return bool(client.post("/comments", json=values).get_json().get("author") == text)
    if place == "number":
        return bool(client.get(f"/api/comments/{text}").get_json().get("author") == "Bob")
    query = {"q": text} if place == "search" else {"sort": "newest"}
    page = client.get("/search", query_string=query).text
    authors = [unescape(author) for author in re.findall(r'class="author".*title="(.*)"', page)]
    return authors == ([text] if place == "search" else [*HARMLESS[::-1], "Cid", "Bob", "Ann"])


BUILDERS = {"an f-string": in_an_f_string, "quotes doubled": with_doubled_quotes, "bound parameters": bound}


def gets_through_the_app(app: Flask, file: Path, place: str, text: str) -> bool:
    """Whether the app does anything else than look for this text, store it, or refuse it."""
    client = app.test_client()
    with closing(sqlite3.connect(file)) as database:
        if place == "insert":
            client.post("/comments", json={"author": text, "email": "eve@example.com", "body": text})
            stored = database.execute("SELECT author, body FROM comments ORDER BY id").fetchall()
            return bool(stored[-1] != (text, text))
        before = list(database.iterdump())
        if place == "number":
            harmless = client.get(f"/api/comments/{quote(text, safe='')}").status_code == 404
        elif place == "sort":
            harmless = client.get("/search", query_string={"sort": text}).status_code == 422
        else:
            contain = "SELECT count(*) FROM comments WHERE instr(author, ?1) OR instr(body, ?1)"
            found = client.get("/search", query_string={"q": text}).text.count('class="comment"')
            harmless = database.execute(contain, [text]).fetchone() == (found,)
        return not harmless or list(database.iterdump()) != before


@contextmanager
def app_of_its_own() -> Iterator[tuple[Flask, Path]]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "comments.db"
        with mock.patch.dict(os.environ, {"DATABASE_URL": f"sqlite:///{file}"}):
            yield create_app(), file


def row(attack: str, defence: str, through: Counter[str], total: int, harmless: str) -> str:
    places = ", ".join(f"{place} {count}" for place, count in through.items()) or "nowhere"
    return f"| {attack} | {defence} | {through.total()} of {total} | {places} | {harmless} |"


def main() -> None:
    console = Console(file=sys.stderr)
    rows = []
    with Progress(console=console) as progress:
        task = progress.add_task("defences", total=len(ENCODERS) + len(BUILDERS) + 2)
        with chromium() as page, app_of_its_own() as (app, _), app_of_its_own() as (another, _):
            for name, encode in ENCODERS.items():
                rows.append(row("script", name, ran(page, page_of(encode)), len(SCRIPTS), unchanged(page, encode)))
                progress.advance(task)
            through, harmless = ran(page, pages_of_the_app(app)), unchanged_by_the_app(page, another)
            rows.append(row("script", "this app", through, len(SCRIPTS), harmless))
            progress.advance(task)
        for name, build in BUILDERS.items():
            through = Counter(place for place, text in INJECTIONS if gets_through(*build(place, text), place, text))
            right = [is_right(*build(place, text), place, text) for place, text in USES]
            rows.append(row("injection", name, through, len(INJECTIONS), f"{sum(right)} of {len(right)}"))
            progress.advance(task)
        with app_of_its_own() as (app, file):
            for author, email, body in ROWS:
                app.extensions["comments"].add({"author": author, "email": email, "body": body})
            right = [is_right_in_the_app(app, place, text) for place, text in USES]
            through = Counter(place for place, text in INJECTIONS if gets_through_the_app(app, file, place, text))
            rows.append(row("injection", "this app", through, len(INJECTIONS), f"{sum(right)} of {len(right)}"))
            progress.advance(task)
    print("| Attack | Defence | Get through | Where | Harmless texts unchanged |")
    print("| --- | --- | ---: | --- | ---: |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
