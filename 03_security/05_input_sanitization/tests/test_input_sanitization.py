"""The specification of comments and their search, by requirement; the attacks are in xss.json and sql.json."""

import html
import json
import string
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from grader.browser import Site

if TYPE_CHECKING:
    from conftest import App, Tab

XSS, SQL = (json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8")) for name in ("xss.json", "sql.json"))
ALLOWED = {"a", "b", "code", "em", "i", "strong"}
NO_LINK_BACK = {"nofollow", "noopener", "noreferrer"}
KINDS = ["json", "form", "multipart"]
CONTROLS = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)]))
BIDIRECTIONAL = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
NEVER = CONTROLS + BIDIRECTIONAL + "\u2028\u2029\ud800\udbff\udc00\udfff"
INVISIBLE = "\u00ad\u061c\u180e\u200b\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff"


def shown_as(value: object) -> str:
    """The readable id of a parametrised text."""
    return ascii(value)[1:50] if isinstance(value, str) else ""


# 1. Encoded for the place where it stands.


@pytest.mark.requirement(1)
def test_no_stored_comment_is_executed(app: "App", tab: "Tab", undefended: set[int], attacks: list[str]) -> None:
    app.write(*[{"author": text, "body": text, "website": text} for text in attacks])

    executed = tab.executes(f"{app.client.base_url}/comments")

    sources, titles = (f"[...document.querySelectorAll('{css}')]" for css in (".quote", ".author"))
    assert undefended == set(range(len(attacks)))
    assert executed == set()
    assert tab.page.evaluate(f"{sources}.map(element => element.dataset.source)") == attacks[::-1]
    assert tab.page.evaluate(f"{titles}.map(element => element.title)") == attacks[::-1]


@pytest.mark.requirement(1)
def test_no_search_is_executed(
    app: "App", tab: "Tab", undefended: set[int], attacks: list[str], site: Callable[..., Site]
) -> None:
    """The pages are put into one page, which is quicker; a script of the app that reads the URL needs real ones."""
    queries = [text for text in attacks if text.isprintable()] + ["\\", "\\\\", "O'Brien", "]]>", "<!--<script>"]
    pages = [app.client.get("/search", params={"q": q}).text for q in queries]
    collect = "<script>(window.all ??= []).push(window.search); window.search = null;</script>"

    one_page = tab.executes(site({"/": collect.join([*pages, ""])}).origin)
    returned = tab.page.evaluate("window.all")
    real = [
        "<img src=missing onerror=alert(1)>",
        "javascript:alert(1)",
        '"};alert(1);//',
        "'-alert(1)-'",
        "${alert(1)}",
    ]
    executed = [tab.executes(f"{app.client.base_url}/search?q={quote(q, safe='')}") for q in real]

    assert undefended == set(range(len(attacks)))
    assert one_page == set()
    assert returned == [{"q": q, "sort": "newest", "count": 0} for q in queries]
    assert executed == [set()] * len(real)


@pytest.mark.requirement(1)
def test_scripts_can_read_the_search(app: "App", tab: "Tab") -> None:
    app.write({"author": "Zoë 山田", "body": "two\r\nlines\rO'Brien"}, {"body": "O'Brien & Sons"}, {})

    tab.page.goto(f"{app.client.base_url}/search?q=O%27Brien&sort=oldest")

    assert tab.page.evaluate("window.search") == {"q": "O'Brien", "sort": "oldest", "count": 2}
    assert tab.page.locator(".author").first.inner_text().strip() == "Zoë 山田"
    assert tab.page.locator(".quote").first.get_attribute("data-source") == "two\r\nlines\rO'Brien"


@pytest.mark.requirement(1)
def test_comments_in_json_are_not_read_as_html(app: "App", tab: "Tab", site: Callable[..., Site]) -> None:
    app.write({"author": "<script>alert(1)</script>", "body": "<img src=missing onerror=alert(1)>"})
    api = f"{app.client.base_url}/api/comments"

    as_a_page = tab.executes(site({"/": app.client.get("/api/comments").text}).origin)
    as_json = tab.executes(api)

    assert as_a_page == {1}
    assert as_json == set()
    assert app.client.get(f"{api}/1").headers["Content-Type"].startswith("application/json")


@pytest.mark.requirement(1)
def test_every_attack_is_shown_unchanged(app: "App", attacks: list[str]) -> None:
    app.write(*[{"author": text, "body": text} for text in attacks])

    shown = app.page()

    assert [comment.author.strip() for comment in shown] == [text.strip() for text in attacks]
    assert [comment.author_title for comment in shown] == attacks
    assert [comment.source for comment in shown] == attacks


@pytest.mark.requirement(1)
@pytest.mark.parametrize("kind", KINDS)
def test_a_comment_is_shown_unchanged(app: "App", kind: str) -> None:
    text = "<script>alert(1)</script> \"' onclick='alert(1)' & &lt;"

    response = app.send(kind, author=text, body=f"{text}\r\ntwo\rthree\n")

    shown = app.page()[-1]
    assert response.status_code == (201 if kind == "json" else 303)
    assert (shown.author.strip(), shown.author_title, shown.source) == (text, text, f"{text}\r\ntwo\rthree\n")
    assert app.rows()[-1]["body"] == app.newest()["body"] == f"{text}\r\ntwo\rthree\n"
    assert shown.elements == []


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "text", ["{{ 7191 * 7193 }}", "{{ config }}", "{% if 7 %}7{% endif %}", "${7191 * 7193}", "{7191 * 7193}", "%s%d"]
)
def test_no_text_is_executed_as_a_template(app: "App", text: str) -> None:
    app.send(author=text, body=text)

    page, answer = app.search(q=text), app.client.get("/search", params={"q": text}).text

    assert page.q == text
    assert [comment.author.strip() for comment in page.comments] == [text]
    assert text in html.unescape(answer)
    assert not any(result in answer for result in ["51724863", "<Config", "&lt;Config"])


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "author",
    ["O'Brien", "A&B", "a&sort=author", "a=b#c", "100%", "50%25", "a+b c", "?q=x", "Zoë", "山田", '"><b>', "a/../b"],
)
def test_a_name_is_one_value_in_the_query_of_a_link(app: "App", author: str) -> None:
    app.send(author=author)

    url = urlsplit(app.page()[-1].author_link)

    assert url.path.endswith("/search")
    assert parse_qs(url.query, keep_blank_values=True) == {"q": [author]}
    assert url.fragment == ""


@pytest.mark.requirement(1)
@pytest.mark.parametrize("q", ["O'Brien", "a&sort=newest", "a=b#c", "100%", "a+b c", '"><b onclick="x">b</b>', "&lt;"])
def test_what_was_searched_for_stands_in_the_field_and_in_the_links(app: "App", q: str) -> None:
    page = app.search(q=q)

    queries = [parse_qs(urlsplit(url).query, keep_blank_values=True) for url in page.sorts]
    assert page.q == q
    assert sorted((query["q"], query["sort"]) for query in queries) == [
        ([q], [s]) for s in ("author", "newest", "oldest")
    ]


# fmt: off
WRONG_URLS = [
    *XSS["link"],
    "vbscript:msgbox(1)", "data:text/html,<script>alert(1)</script>", "view-source:https://example.com/",
    "file:///etc/passwd", "ftp://example.com/", "mailto:ann@example.com", "//example.com/", "/path", "example.com",
    "https:example.com", "https:/example.com", "https://", "https:///path",
    "http\ufeffs://example.com", "http\u017f://example.com/", "\uff48ttps://example.com/",
    " https://example.com/", "https://example.com/ ", "https://example.com/\n", "https://exam\tple.com/",
    "https:\\\\example.com/", "https://example.com\\@evil.example/",
    "https://example.com@evil.example/", "https://ann:word@example.com/",
    "https://-example.com/", "https://exämple.com/", "https://a..b/", "https://a_b.com/", "https://a./", "https://[::1]/",
    f"https://{'a' * 64}.com/", f"https://{'a.' * 127}a/",
    "https://example.com:port/", "https://example.com:/", "https://example.com:65536/", "https://example.com:99999/",
    'https://example.com/"onclick="alert(1)', "https://example.com/<b>", "https://example.com/[a]",
    "https://example.com/%zz", "https://example.com/100%", "https://example.com/#b#c",
    f"https://example.com/{'a' * 481}",
]
# fmt: on


@pytest.mark.requirement(1)
@pytest.mark.parametrize("website", WRONG_URLS, ids=shown_as)
def test_a_website_that_breaks_the_rule_is_refused(app: "App", website: str) -> None:
    response = app.send(website=website)

    assert response.status_code == 422
    assert list(response.json()["detail"]) == ["website"]
    assert app.rows() == []


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "website",
    [
        *["https://example.com", "http://localhost:8000/", "HTTPS://Example.COM/O'Brien?a=1&b=2#c"],
        "https://xn--exmple-cua.com:65535/%22%3Cb%3E?q=(1)*2;3,4!$@~?#a/b?c",
        *["https://example.com/javascript:alert(1)", f"https://{'a' * 63}.com?a#b", f"https://example.com/{'a' * 480}"],
    ],
    ids=shown_as,
)
def test_a_website_becomes_a_link_with_rel_nofollow(app: "App", website: str) -> None:
    response = app.send(website=website)

    link = app.page()[-1].website
    assert response.status_code == 201
    assert link
    assert link["href"] == app.newest()["website"] == website
    assert set(link["rel"].split()) >= NO_LINK_BACK


@pytest.mark.requirement(1)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("website", [None, ""], ids=["left out", "empty"])
def test_a_comment_needs_no_website(app: "App", kind: str, website: str | None) -> None:
    app.send(kind, website=website)

    assert app.newest()["website"] is None
    assert app.page()[-1].website is None


@pytest.mark.requirement(1)
def test_a_website_in_the_table_that_breaks_the_rule_is_no_link(app: "App") -> None:
    app.write(*[{"website": website} for website in WRONG_URLS], {"website": "https://example.com/"})

    links = [comment.website for comment in app.page()]

    assert links[:-1] == [None] * len(WRONG_URLS)
    assert links[-1]


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "body, elements",
    [
        ("<b>b</b> <i>i</i>", ["b", "i"]),
        ("<em>e <strong>s</strong></em>", ["em", "strong"]),
        ("<code>a &lt; b</code>", ["code"]),
        ("<B onclick='alert(1)' class='quote' id='y' style='color: red'>b</B>", ["b"]),
        ("<b title='t' lang='de' dir='rtl' data-x='x'>b</b>", ["b"]),
        ("<b>never closed", ["b"]),
        ("<p>p</p><h1>h</h1><div>d</div>", []),
        ("<img src='https://evil.example/pixel'>", []),
        ("<form action='https://evil.example'><input name='word'><button>b</button></form>", []),
        ("<style>* { display: none }</style><link rel='stylesheet' href='https://evil.example'>", []),
        ("<base href='https://evil.example'><meta http-equiv='refresh' content='0; https://evil.example'>", []),
        ("</div></article></main></body></html><b>b</b>", ["b"]),
        ("<!-- never closed", []),
        ("<textarea>t", []),
    ],
    ids=shown_as,
)
def test_rich_text_keeps_the_tags_of_the_list_and_no_others(app: "App", body: str, elements: list[str]) -> None:
    app.write({"author": "Before"}, {"body": body}, {"author": "After"})

    before, shown, after = app.page()

    assert shown.elements == [(name, {}) for name in elements]
    assert [each.author.strip() for each in (before, after)] == ["Before", "After"]
    assert [each.text.strip() for each in (before, after)] == ["Hello.", "Hello."]


@pytest.mark.requirement(1)
def test_no_attack_leaves_anything_else_in_rich_text(app: "App", attacks: list[str]) -> None:
    app.write(*[{"body": text} for text in attacks])

    elements = [element for comment in app.page() for element in comment.elements]

    links = {values["href"] for _, values in elements if "href" in values}
    assert {name for name, _ in elements} <= ALLOWED
    assert {name for _, values in elements for name in values} <= {"href", "rel"}
    assert links <= {"https://example.com/"}


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "href, kept",
    [
        *[(href, True) for href in ["https://example.com/?a=1&amp;b=O'Brien", "http://a.b/", "mailto:ann@example.com"]],
        *[(href, False) for href in ["ftp://example.com/", "tel:112", "data:text/html,hello", "vbscript:msgbox(1)"]],
        *[(href, False) for href in ["//evil.example/", "/comments", "#top"]],
    ],
)
def test_links_in_rich_text_lead_to_the_web_or_to_mail(app: "App", href: str, kept: bool) -> None:
    app.send(body=f'<a href="{href}" target="x" rel="opener">a link</a>')

    shown = app.page()[-1]
    links = [values for _, values in shown.elements if "href" in values]
    assert shown.text.strip() == "a link"
    assert [link["href"] for link in links] == [html.unescape(href)] * kept
    assert all(set(link["rel"].split()) >= NO_LINK_BACK and "target" not in link for link in links)
    assert "opener" not in str(links).replace("noopener", "")


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "path, status",
    [("/{}", 404), ("/api/comments/{}", 404), ("/search?sort={}", 422), ("/search?q={}%00", 422)],
)
def test_errors_are_json(app: "App", path: str, status: int) -> None:
    response = app.client.get(path.format("<script>alert(1)</script>"))

    assert response.status_code == status
    assert response.headers["Content-Type"].startswith("application/json")
    assert "detail" in response.json()


# 2. SQL.


@pytest.mark.requirement(2)
def test_a_search_for_an_injection_finds_what_contains_it(filled: "App", injections: list[str]) -> None:
    before, texts = filled.dump(), [(row["author"], row["body"]) for row in filled.rows()]
    queries = [text for text in [*SQL["search"], *SQL["wildcard"], *injections[::2]] if text.isprintable()]

    found = {q: [comment.author.strip() for comment in filled.search(q=q, sort="oldest").comments] for q in queries}

    assert found == {q: [text[0] for text in texts if any(q.lower() in each.lower() for each in text)] for q in queries}
    assert filled.dump() == before


@pytest.mark.requirement(2)
def test_an_injection_as_sort_is_refused(filled: "App", injections: list[str]) -> None:
    before = filled.dump()

    texts = [*SQL["sort"], *injections[::3]]

    answers = {text: filled.client.get("/search", params={"sort": text}).status_code for text in texts}

    assert answers == dict.fromkeys(texts, 422)
    assert filled.dump() == before


@pytest.mark.requirement(2)
def test_an_injection_as_id_finds_nothing(filled: "App", injections: list[str]) -> None:
    before = filled.dump()

    texts = [*SQL["number"], *injections[::3]]

    answers = {text: filled.client.get(f"/api/comments/{quote(text, safe='')}").status_code for text in texts}

    assert answers == dict.fromkeys(texts, 404)
    assert filled.dump() == before


@pytest.mark.requirement(2)
def test_an_injection_is_stored_unchanged(filled: "App", injections: list[str]) -> None:
    texts = [text for text in injections if text.isprintable()][::2]
    before = filled.rows()

    for number, text in enumerate(texts):
        filled.send(KINDS[number % 3], author=text, body=text)

    stored = filled.rows()
    names = [unicodedata.normalize("NFKC", text) for text in texts]
    assert [row["body"] for row in stored[len(before) :]] == texts
    assert [row["author"] for row in stored[len(before) :]] == names
    assert stored[: len(before)] == before


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "q, found",
    [
        *[("", "a b c d e f"), ("%", "b c"), ("_", "d e"), ("\\_", "e"), ("0%", "b"), ("\\%", ""), ("%%", "")],
        *[("x_z", "d"), ("C:\\t", "f"), ("XYZ", "a"), ("example", "")],
    ],
)
def test_a_search_finds_what_contains_the_text(app: "App", q: str, found: str) -> None:
    bodies = ["xyz", "100%", "%x", "x_z", "x\\_y", "c:\\temp"]
    app.write(*[{"author": name, "body": body} for name, body in zip("abcdef", bodies, strict=True)])

    page = app.search(q=q, sort="oldest")

    assert " ".join(comment.author.strip() for comment in page.comments) == found


@pytest.mark.requirement(2)
def test_every_character_of_a_search_means_itself(app: "App") -> None:
    app.write(*[{"body": f"x{character}y"} for character in string.punctuation])

    found = {q: [comment.source for comment in app.search(q=q).comments] for q in string.punctuation}

    assert found == {character: [f"x{character}y"] for character in string.punctuation}


@pytest.mark.requirement(2)
@pytest.mark.parametrize("q", ["O'Brien", "o'brien", "O'B", "'"])
def test_a_search_finds_names_too(app: "App", q: str) -> None:
    app.write({"author": "Ann O'Brien"}, {"author": "Ann OBrien"})

    page = app.search(q=q)

    assert [comment.author.strip() for comment in page.comments] == ["Ann O'Brien"]


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "sort, order",
    [
        ({}, "5 4 3 2 1"),
        ({"sort": "newest"}, "5 4 3 2 1"),
        ({"sort": "oldest"}, "1 2 3 4 5"),
        ({"sort": "author"}, "2 4 5 1 3"),
    ],
    ids=["default", "newest", "oldest", "author"],
)
def test_results_come_in_the_order_that_was_asked_for(app: "App", sort: dict[str, str], order: str) -> None:
    names = enumerate(["Cid", "Ann", "ann", "Ann", "Bob"], start=1)
    app.write(*[{"author": name, "body": str(n), "email": f"{'edcba'[n - 1]}@b.c"} for n, name in names])

    page = app.search(**sort)

    assert " ".join(comment.text.strip() for comment in page.comments) == order


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "sort", ["", "id", "email", "metadata", "__class__", "NEWEST", "newest ", "newest,oldest", "-newest"]
)
def test_a_sort_that_is_not_in_the_list_is_refused(app: "App", sort: str) -> None:
    response = app.client.get("/search", params={"sort": sort})

    assert response.status_code == 422
    assert list(response.json()["detail"]) == ["sort"]


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "number",
    [
        *["0", "-1", "4", "+1", "1.0", "01", "1_0"],
        *["9" * 18, "9" * 19, "9" * 30, "9" * 5000, "1%00", "1%20", "1%0A", "1%27", "%D9%A1", "%C2%B2"],
    ],
)
def test_any_other_number_finds_nothing(filled: "App", number: str) -> None:
    responses = [filled.client.get(f"/api/comments/{each}") for each in ("3", number)]

    assert [response.status_code for response in responses] == [200, 404]
    assert responses[0].json()["author"] == "Cid"


@pytest.mark.requirement(2)
def test_a_list_has_the_first_100_of_its_order(app: "App") -> None:
    names = [f"{number:03}" for number in range(105)]
    app.write(*[{"author": name} for name in names])

    returned = [comment["author"] for comment in app.client.get("/api/comments").json()["comments"]]
    queries = [{"q": "hello"}, {"sort": "oldest"}, {"sort": "author"}, {"q": "000"}]
    found = [[comment.author.strip() for comment in app.search(**query).comments] for query in queries]

    assert returned == names[:4:-1]
    assert [comment.author.strip() for comment in app.page()[::-1]] == returned
    assert found == [returned, names[:100], names[:100], ["000"]]


@pytest.mark.requirement(2)
def test_what_other_programs_store_is_no_error(app: "App") -> None:
    blobs: dict[str, Any] = {"body": b"<b>\x00\xff", "website": b"https://example.com/", "email": b"\xff"}
    app.write({"author": "Ann"}, blobs, {"author": b"not UTF-8: \xff"})

    returned = app.client.get("/api/comments").json()["comments"]
    pages = [app.page()[::-1], app.search().comments]

    assert [comment["id"] for comment in returned] == [3, 2, 1]
    assert [[comment.author.strip() for comment in page][-1] for page in pages] == ["Ann", "Ann"]
    assert [len(page) for page in pages] == [3, 3]
    assert [app.client.get(f"/api/comments/{number}").status_code for number in (2, 3)] == [200, 200]


# 3. Validated.


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "author",
    [
        *["O'Brien", "D\u2019Arcy", "Jean-Luc", "X Æ A-12", "-", "a" * 100],
        *["Nguyễn Thị Minh Khai", "山田 太郎", "\u0645\u062d\u0645\u062f", "\u0645\u06cc\u200c\u062e", "👩\u200d🚀"],
        *["<b>Ann</b>", "&amp;", "Robert'); DROP TABLE comments;--"],
    ],
    ids=shown_as,
)
def test_names_of_all_kinds_are_taken(app: "App", author: str) -> None:
    app.send(author=author)

    assert app.newest()["author"] == app.rows()[-1]["author"] == author


# fmt: off
WRONG_VALUES: dict[str, list[str | None]] = {
    "author": [
        None, "", " ", "\u00a0", "\u3000", " Ann", "Ann ", "Ann\u3000", "Ann\n", "\u00b4Ann", "\u00a8Ann",
        "A\x00n", "A\nn", "\u202eAnn", "A\u200bn",
        "a" * 101, "\ufdfa" * 6, "é" * 101, "e\u0301" * 101, "a" * 20_000,
    ],
    "email": [
        None, "", "ann", "ann@", "@example.com", "ann@example", "ann@@example.com", ".ann@example.com",
        "ann.@example.com", "a..n@example.com", "ann@.com", "ann@example..com", "ann@example.com.",
        "ann@-example.com", "ann@example-.com", "<ann@example.com>", '"ann"@example.com', "ann@[127.0.0.1]",
        "a,b@example.com", "an n@example.com", "ann@exam ple.com", " ann@example.com", "ann@example.com ",
        "ann@example.com\n", "ann@example.com\r\nBcc: bob@example.com", "ann\x00@a.com",
        "änn@example.com", "ann@exämple.com", "ann\uff20example.com", "ann@example\u3002com",
        "a" * 65 + "@example.com", f"ann@{'a' * 64}.com", f"a@{'a.b' * 84}.c",
        f"{'a' * 64}@{'b' * 63}.{'b' * 63}.{'b' * 62}",
    ],
    "body": [None, "", " ", " \r\n\t\u3000", "a" * 2001, "a\x00", "a\x1b[2J"],
}
# fmt: on
WRONG = [(name, value) for name, values in WRONG_VALUES.items() for value in values]


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "kind, name, value",
    [
        *[("json", *wrong) for wrong in WRONG],
        *[("form", *wrong) for wrong in [*WRONG[::5], ("website", "javascript:0")]],
    ],
    ids=shown_as,
)
def test_what_breaks_a_rule_is_refused_and_named(app: "App", kind: str, name: str, value: str | None) -> None:
    response = app.send(kind, **{name: value})

    assert response.status_code == 422
    assert list(response.json()["detail"]) == [name]
    assert app.rows() == []


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "name, text, characters",
    [
        ("author", "A{}n", NEVER[::2] + INVISIBLE),
        ("email", "an{}n@example.com", NEVER[::8] + INVISIBLE[::4]),
        ("body", "Hel{}lo", "".join(set(NEVER) - set("\t\r\n"))),
        ("website", "https://example.com/a{}", NEVER[::8] + INVISIBLE[::4]),
    ],
    ids=["author", "email", "body", "website"],
)
def test_no_field_has_a_forbidden_character(app: "App", name: str, text: str, characters: str) -> None:
    answers = {character: app.send(**{name: text.format(character)}) for character in characters}

    assert [ascii(each) for each, answer in answers.items() if answer.status_code != 422] == []
    assert [ascii(each) for each, answer in answers.items() if list(answer.json()["detail"]) != [name]] == []
    assert app.rows() == []


@pytest.mark.requirement(3)
@pytest.mark.parametrize("name", ["author", "email", "body", "website"])
def test_a_json_value_that_is_not_a_string_is_refused(app: "App", name: str) -> None:
    values = [1, 0, True, False, 1.5, ["Ann"], {"a": "b"}, [], {}]

    responses = [app.send(**{name: value}) for value in values]

    assert [response.status_code for response in responses] == [422] * len(values)
    assert [list(response.json()["detail"]) for response in responses] == [[name]] * len(values)
    assert app.rows() == []


@pytest.mark.requirement(3)
@pytest.mark.parametrize("kind", KINDS)
def test_all_wrong_fields_are_named_at_once_and_none_is_repeated(app: "App", kind: str) -> None:
    wrong = dict.fromkeys(["author", "email", "body", "website"], "parrot \x00")

    response = app.send(kind, **wrong)

    assert response.status_code == 422
    assert response.headers["Content-Type"].startswith("application/json")
    assert sorted(response.json()["detail"]) == sorted(wrong)
    assert "parrot" not in response.text


@pytest.mark.requirement(3)
def test_both_parameters_of_a_search_are_named_and_none_is_repeated(app: "App") -> None:
    response = app.client.get("/search", params={"q": "parrot \x00", "sort": "parrot"})

    assert response.status_code == 422
    assert sorted(response.json()["detail"]) == ["q", "sort"]
    assert "parrot" not in response.text


@pytest.mark.requirement(3)
@pytest.mark.parametrize("kind", KINDS)
def test_other_fields_are_ignored(app: "App", kind: str) -> None:
    response = app.send(kind, id="9223372036854775807", created_at="1999-12-31", admin="true")

    row = app.rows()[-1]
    assert response.status_code == (201 if kind == "json" else 303)
    assert (row["author"], row["email"], row["body"]) == ("Ann", "ann@example.com", "Hello.")
    assert row["id"] < 10**9
    assert "1999" not in str(row)


@pytest.mark.requirement(3)
def test_parameters_of_the_query_are_no_fields(app: "App") -> None:
    response = app.client.post("/comments?body=Hello.", data={"author": "Ann", "email": "ann@example.com"})

    assert response.status_code == 422
    assert list(response.json()["detail"]) == ["body"]


@pytest.mark.requirement(3)
@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON;charset=UTF-8"])
def test_a_media_type_may_have_parameters(app: "App", content_type: str) -> None:
    content = app.request("json").read()

    response = app.client.post("/comments", content=content, headers={"Content-Type": content_type})

    assert (response.status_code, len(app.rows())) == (201, 1)


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "email",
    [
        *["o'brien@example.com", "ann.b+tag@mail.example.co.uk", "!#$%&'*+-/=?^_`{|}~@example.com", "a@b.c"],
        *["ann@xn--exmple-cua.com", f"{'a' * 64}@example.com", f"ann@{'a' * 63}.com"],
        f"{'a' * 64}@{'b' * 63}.{'b' * 63}.{'b' * 61}",
    ],
    ids=shown_as,
)
def test_usual_email_addresses_are_taken(app: "App", email: str) -> None:
    app.send(email=email)

    assert app.rows()[-1]["email"] == email


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "name, sent, stored",
    [
        ("author", "Zoe\u0308", "Zoë"),
        ("author", "\uff21\uff4e\uff4e", "Ann"),
        ("author", "\ufb01ona", "fiona"),
        ("author", "Ann\u00a0Lee", "Ann Lee"),
        ("author", "\uff1cb\uff1e", "<b>"),
        ("author", "e\u0301" * 100, "é" * 100),
        ("author", "\ufdfa" * 5, unicodedata.normalize("NFKC", "\ufdfa") * 5),
        ("email", "\u212a@b.c", "K@b.c"),
        ("body", "cafe\u0301", "café"),
        ("body", "e\u0301" * 2000, "é" * 2000),
        ("body", "½ \ufb01 \uff1cb\uff1e", "½ \ufb01 \uff1cb\uff1e"),
        ("body", " two\r\nlines,\ta tab ", " two\r\nlines,\ta tab "),
        ("body", "👩\u200d🚀 \u200e\u05d0", "👩\u200d🚀 \u200e\u05d0"),
    ],
    ids=shown_as,
)
def test_text_is_normalised_before_it_is_checked(app: "App", name: str, sent: str, stored: str) -> None:
    response = app.send(**{name: sent})

    assert response.json()[name] == app.rows()[-1][name] == stored


@pytest.mark.requirement(3)
def test_a_search_is_validated_too(app: "App") -> None:
    values = ["a" * 101, "a" * 10_000, *[f"a{character}b" for character in CONTROLS[::3]]]
    values += [f"a{character}b" for character in "\t\n\r\x7f\x85" + BIDIRECTIONAL + "\u2028\u2029"]

    answers = {q: app.client.get("/search", params={"q": q}) for q in values}

    assert [ascii(q) for q, answer in answers.items() if answer.status_code != 422] == []
    assert all(list(answer.json()["detail"]) == ["q"] for answer in answers.values())


@pytest.mark.requirement(3)
@pytest.mark.parametrize("q", ["Zoe\u0308", "Zoë", "e\u0308" * 100], ids=ascii)
def test_a_search_is_normalised_too(app: "App", q: str) -> None:
    app.write({"author": "Zoë"}, {"body": "Zoë " + "ë" * 100})

    assert len(app.search(q=q).comments) == (1 if len(q) > 100 else 2)


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "content_type, content, statuses",
    [
        *[
            ("application/json", text, {400, 422})
            for text in [b"{", b"", b'{"author": "\xff"}', b"[" * 30_000, b"1" * 5000]
        ],
        *[("application/json", text, {422}) for text in [b"[]", b"null", b'"author"']],
        ("application/json", b'{"author": NaN, "email": 1e999, "body": ' + b"9" * 400 + b"}", {400, 422}),
        ("application/json", b'{"body": "' + b"a" * 40_000 + b'"}', {413}),
        ("application/x-www-form-urlencoded", b"body=" + b"a" * 40_000, {413}),
        ("application/x-www-form-urlencoded", b"author=%ff&email=%00&body=%", {400, 422}),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=author\r\n\r\nA", {400, 422}),
        ("multipart/form-data", b"--x", {400, 422}),
        ("text/plain", b'{"author": "Ann"}', {415}),
        ("application/ld+json", b'{"author": "Ann", "email": "ann@example.com", "body": "Hello."}', {415}),
        ("", b'{"author": "Ann"}', {415}),
    ],
    ids=shown_as,
)
def test_a_body_that_cannot_be_used_is_refused(
    app: "App", content_type: str, content: bytes, statuses: set[int]
) -> None:
    response = app.client.post("/comments", content=content, headers={"Content-Type": content_type})

    assert response.status_code in statuses
    assert "detail" in response.json()
    assert app.rows() == []


@pytest.mark.requirement(3)
@pytest.mark.parametrize("kind", KINDS)
def test_a_large_body_of_unknown_length_is_refused(app: "App", kind: str) -> None:
    request = app.request(kind, x="a" * 40_000)
    headers = {"Content-Type": request.headers["Content-Type"]}

    response = app.client.post("/comments", content=iter([request.read()]), headers=headers)  # chunked

    assert response.status_code == 413
    assert app.rows() == []


# 4. Stored raw, encoded at output.


@pytest.mark.requirement(4)
@pytest.mark.parametrize("kind", KINDS)
def test_obrien_stays_obrien(app: "App", kind: str) -> None:
    body = 'O\'Brien & <b>Sons</b> say: "1 < 2"'

    app.send(kind, author="O'Brien", email="o'brien@example.com", body=body, website="https://example.com/O'Brien")

    row, returned, shown = app.rows()[-1], app.newest(), app.page()[-1]
    stored = ("O'Brien", body, "https://example.com/O'Brien")
    assert (row["author"], row["body"], row["website"]) == stored
    assert (returned["author"], returned["body"], returned["website"]) == stored
    assert (shown.author.strip(), shown.author_title, shown.source) == ("O'Brien", "O'Brien", body)
    assert shown.text.strip() == 'O\'Brien & Sons say: "1 < 2"'
    assert shown.website
    assert shown.website["href"] == "https://example.com/O'Brien"


@pytest.mark.requirement(4)
def test_obrien_is_found_and_encoded_once(app: "App") -> None:
    app.send(author="O'Brien")

    pages = [app.client.get(path).text for path in ("/comments", "/search?q=O'Brien", "/search?q=o%27brien")]

    assert all("O'Brien" in html.unescape(page) for page in pages)
    assert not any("&amp;#" in page for page in pages)
    assert len(app.search(q="O'Brien").comments) == 1


@pytest.mark.requirement(4)
def test_an_attack_is_stored_unchanged(app: "App", attacks: list[str]) -> None:
    texts = [text for text in attacks if text.isprintable()][::2]

    for number, text in enumerate(texts):
        app.send(KINDS[number % 3], author=f"A {text} Z", body=text)

    returned = app.client.get("/api/comments").json()["comments"][::-1]
    assert [row["body"] for row in app.rows()] == texts
    assert [row["author"] for row in app.rows()] == [f"A {text} Z" for text in texts]
    assert [comment["body"] for comment in returned] == texts


@pytest.mark.requirement(4)
@pytest.mark.parametrize("text", ["&lt;b&gt;", "&amp;#39;", "%3Cb%3E", "\\u003cb\\u003e", "\\'", "''", "{{ 7 * 7 }}"])
def test_text_that_looks_encoded_is_unchanged(app: "App", text: str) -> None:
    app.send(author=text, body=text)

    shown = app.page()[-1]
    assert (shown.author.strip(), shown.author_title, shown.source) == (text, text, text)
    assert app.newest()["author"] == app.newest()["body"] == app.rows()[-1]["body"] == text
    assert [comment.author.strip() for comment in app.search(q=text).comments] == [text]


@pytest.mark.requirement(4)
def test_a_program_gets_its_comment_and_a_browser_is_led_to_the_page(app: "App") -> None:
    by_json, by_form = app.send("json", author="<i>Ann</i>", website=None), app.send("form")

    found = app.client.get(by_json.headers["Location"])
    assert by_json.status_code == 201
    assert by_json.headers["Content-Type"].startswith("application/json")
    assert by_json.json() == found.json() | {"email": "ann@example.com"}
    assert found.json() == {"id": found.json()["id"], "author": "<i>Ann</i>", "body": "Hello.", "website": None}
    assert (by_form.status_code, by_form.headers["Location"].rpartition("/")[2]) == (303, "comments")


@pytest.mark.requirement(4)
def test_only_the_sender_gets_the_email(app: "App") -> None:
    created = app.send(email="secret-address@example.com")

    paths = ["/comments", "/search?q=hello", "/api/comments", created.headers["Location"]]
    answers = [app.client.get(path) for path in paths]
    assert created.json()["email"] == "secret-address@example.com"
    assert [answer.status_code for answer in answers] == [200] * 4
    assert not any("secret-address" in answer.text for answer in answers)
    assert [app.search(q=q).comments for q in ("secret-address", "secret-address@example.com")] == [[], []]
