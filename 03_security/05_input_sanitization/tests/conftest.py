"""The app and its database, a reader of its pages, and the attacks, each shown to work where there is no defence."""

import html
import json
import sqlite3
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx2
import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from grader.browser import serve_site
from grader.solution import Client, Solution

HERE = Path(__file__).parent
XSS: dict[str, list[str]] = json.loads((HERE / "xss.json").read_text(encoding="utf-8"))
SQL: dict[str, list[str]] = json.loads((HERE / "sql.json").read_text(encoding="utf-8"))
VALID = {"author": "Ann", "email": "ann@example.com", "body": "Hello."}
VOID = {"br", "hr", "img", "input", "link", "meta", "source", "wbr"}


@dataclass
class Shown:
    """A comment as a page shows it, its character references read once."""

    author: str = ""
    author_link: str = ""
    author_title: str = ""
    website: dict[str, str] | None = None
    source: str = ""
    text: str = ""
    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """The elements in the body: names and attributes."""


class Reader(HTMLParser):
    """Reads a page of the app. It knows the classes that README.md names, and nothing else of the page."""

    def __init__(self, response: httpx2.Response) -> None:
        super().__init__()
        assert response.status_code == 200
        assert response.headers["Content-Type"].lower().startswith("text/html")
        self.comments: list[Shown] = []
        self.sorts: list[str] = []
        self.q: str | None = None
        self._open: list[tuple[str, list[str]]] = []
        self.feed(response.text)
        self.close()

    def _inside(self, name: str) -> bool:
        return any(name in classes for _, classes in self._open)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        classes = values.get("class", "").split()
        if "comment" in classes:
            self.comments.append(Shown())
        shown = self.comments[-1] if self.comments else Shown()
        if self._inside("body"):
            shown.elements.append((tag, values))
        elif "author" in classes:
            shown.author_link, shown.author_title = values.get("href", ""), values.get("title", "")
        elif "website" in classes:
            shown.website = values
        elif "quote" in classes:
            shown.source = values.get("data-source", "")
        elif "sort" in classes:
            self.sorts.append(values.get("href", ""))
        elif values.get("name") == "q":
            self.q = values.get("value", "")
        if tag not in VOID:
            self._open.append((tag, classes))

    def handle_endtag(self, tag: str) -> None:
        if tag in [name for name, _ in self._open]:
            while self._open.pop()[0] != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self.comments and self._inside("author"):
            self.comments[-1].author += data
        if self.comments and self._inside("body"):
            self.comments[-1].text += data


@dataclass(frozen=True)
class App:
    """The app, and the database that it keeps its comments in."""

    client: Client
    file: Path

    def request(self, kind: str = "json", /, **fields: Any) -> httpx2.Request:
        """A comment as json, form or multipart, valid but for these fields; one that is None is left out."""
        sent = {name: value for name, value in (VALID | fields).items() if value is not None}
        if kind == "multipart":
            return self.client.build_request("POST", "/comments", files={name: (None, sent[name]) for name in sent})
        if kind == "form":
            return self.client.build_request("POST", "/comments", data=sent)
        # json.dumps writes ASCII, and so can send a lone surrogate, which UTF-8 cannot.
        headers = {"Content-Type": "application/json"}
        return self.client.build_request("POST", "/comments", content=json.dumps(sent), headers=headers)

    def send(self, kind: str = "json", /, **fields: Any) -> httpx2.Response:
        return self.client.send(self.request(kind, **fields))

    def write(self, *comments: dict[str, Any]) -> None:
        """Put the first rows into the table, as another program might, without any check; an author as text."""
        rows = [{**VALID, "website": None, **comment, "id": number} for number, comment in enumerate(comments, start=1)]
        with closing(sqlite3.connect(self.file)) as database, database:
            statement = """INSERT INTO comments (id, author, email, body, website)
                VALUES (:id, CAST(:author AS TEXT), :email, :body, :website)"""
            database.executemany(statement, rows)

    def rows(self) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self.file)) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute("SELECT * FROM comments ORDER BY id")]

    def dump(self) -> list[str]:
        """All that is in the database, as SQL."""
        with closing(sqlite3.connect(self.file)) as database:
            return list(database.iterdump())

    def page(self) -> list[Shown]:
        """All comments on the page, oldest first."""
        return Reader(self.client.get("/comments")).comments[::-1]

    def search(self, **parameters: str) -> Reader:
        return Reader(self.client.get("/search", params=parameters))

    def newest(self) -> dict[str, Any]:
        """The newest comment, in JSON."""
        newest: dict[str, Any] = self.client.get("/api/comments").json()["comments"][0]
        return newest


@pytest.fixture
def app(solution: Solution, shared_path: Path) -> App:
    """The app without any comment. Tests share the server, and each begins with an empty table."""
    file = shared_path / "comments.db"
    app = App(solution.serve_shared(DATABASE_URL=f"sqlite:///{file}"), file)
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("DELETE FROM comments")
    return app


# Scripts in a browser.

# The places where a page without any defence would put them.
RAW = {
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
# What `alert` is given is noted, in the page and in frames of its origin.
NOTE_ALERTS = "window.ran = []; window.alert = number => { top.ran.push(Number(number)); };"
# Call every handler, click everything without leaving the page, and wait for what was asked to load before.
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


@dataclass(frozen=True)
class Tab:
    """A tab of Chromium that obeys no Content-Security-Policy: the encoding is tested, not what comes after it."""

    page: Page

    def executes(self, url: str) -> set[int]:
        """Open the page; return the numbers that `alert` was called with."""
        self.page.goto(url)
        return set(self.page.evaluate(PROVOKE))


@pytest.fixture(scope="session")
def profile(browser: Browser) -> Iterator[BrowserContext]:
    with browser.new_context(bypass_csp=True) as profile:
        profile.add_init_script(NOTE_ALERTS)
        yield profile


@pytest.fixture
def tab(profile: BrowserContext) -> Iterator[Tab]:
    with profile.new_page() as page:
        yield Tab(page)


@pytest.fixture(scope="session")
def attacks() -> list[str]:
    """All scripts, each with its number for N."""
    texts = [text for place in XSS.values() for text in place]
    return [text.replace("N", str(number)) for number, text in enumerate(texts)]


@pytest.fixture(scope="session")
def undefended(profile: BrowserContext, attacks: list[str]) -> set[int]:
    """The scripts that are executed where nothing is encoded, though the policy of the page forbids all scripts."""
    forms = [RAW[place] for place, texts in XSS.items() for _ in texts]
    raw = "\n".join(form.format(text) for form, text in zip(forms, attacks, strict=True))
    pages = {"/": f"<body>{raw}</body>"}
    with serve_site(pages, Content_Security_Policy="default-src 'none'") as site, profile.new_page() as page:
        return Tab(page).executes(site.origin)


# Injections into SQL.

ROWS = [
    {"author": "Ann", "email": "ann@example.com", "body": "first"},
    {"author": "Bob", "email": "bob@example.com", "body": "second"},
    {"author": "Cid", "email": "al@example.com", "body": "third"},
]
WHERE = "SELECT id, author, body FROM comments WHERE author = '{}'"
NAIVE = dict.fromkeys(SQL, WHERE) | {
    "search": "SELECT id, author, body FROM comments WHERE body LIKE '%{}%'",
    "wildcard": "SELECT id, author, body FROM comments WHERE author || body LIKE '%{}%'",
    "sort": "SELECT id, author, body FROM comments ORDER BY {}",
    "number": "SELECT id, author, body FROM comments WHERE id = {}",
    "insert": "INSERT INTO comments (author, email, body) VALUES ('{}', 'eve@example.com', 'text')",
}


def decode(text: str) -> str:
    """What careless code does after the quotes were doubled: it normalises, and decodes once more."""
    text = html.unescape(unquote(unquote(unicodedata.normalize("NFKC", text))))
    return text.replace("\\u0027", "'").replace("\\x27", "'")


def bites(place: str, payload: str) -> bool:
    """Whether an f-string with this payload finds, stores or changes something else than the payload, or fails."""
    text = decode(payload.replace("'", "''")) if place == "encoded" else payload
    statement = NAIVE[place].format(text)
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE comments (id INTEGER PRIMARY KEY, author, email, body, website)")
        database.executemany("INSERT INTO comments (author, email, body) VALUES (:author, :email, :body)", ROWS)
        before = list(database.iterdump())
        expected = {"sort": [(1, "Ann", "first"), (2, "Bob", "second"), (3, "Cid", "third")]}.get(place, [])
        try:
            found = database.execute(statement).fetchall()
        except (sqlite3.Warning, sqlite3.ProgrammingError):  # several statements, which other drivers take
            database.executescript(statement)
            found = expected
        except sqlite3.Error:
            return True
        if place == "insert":
            stored = database.execute("SELECT author, email, body FROM comments WHERE id > 3").fetchall()
            return stored != [(payload, "eve@example.com", "text")]
        return found != expected or list(database.iterdump()) != before


@pytest.fixture(scope="session")
def injections() -> list[str]:
    """All SQL payloads, each shown to do something to a query that is an f-string."""
    harmless = [(place, text) for place, texts in SQL.items() for text in texts if not bites(place, text)]
    assert harmless == []
    return [text for texts in SQL.values() for text in texts]


@pytest.fixture
def filled(app: App) -> App:
    """The app with the three comments that the payloads know of."""
    app.write(*ROWS)
    return app
