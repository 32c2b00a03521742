"""The specification of the security headers, requirement by requirement."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qsl, unquote_to_bytes

import httpx2
import pytest
from playwright.sync_api import Page

from grader.browser import Site
from grader.solution import Client, Solution, SolutionCrashedError

YEAR = 31_536_000
LARGEST_BODY = 10_000
JSON = "application/json"
WRONG = {400, 415, 422}  # the statuses that README allows for a wrong body


def named(text: str) -> str:
    return json.dumps({"name": text})


@dataclass(frozen=True)
class Ask:
    """A request, and the statuses that README allows for the answer."""

    method: str
    path: str
    status: set[int]
    body: str | None = None
    media_type: str | None = JSON

    def of(self, client: Client, **headers: str) -> httpx2.Response:
        if self.body is not None and self.media_type:
            headers["Content-Type"] = self.media_type
        return client.request(self.method, self.path, content=self.body, headers=headers)


WRONG_BODIES = {
    "no JSON": Ask("POST", "/api/data", WRONG, "{"),
    "no body": Ask("POST", "/api/data", WRONG),
    "no media type": Ask("POST", "/api/data", WRONG, named("lamp"), None),
    "a form": Ask("POST", "/api/data", WRONG, "name=lamp", "application/x-www-form-urlencoded"),
    "a list": Ask("POST", "/api/data", WRONG, "[]"),
    "no name": Ask("POST", "/api/data", WRONG, "{}"),
    "a number": Ask("POST", "/api/data", WRONG, '{"name": 1}'),
    "an empty name": Ask("POST", "/api/data", WRONG, named("")),
    "101 characters": Ask("POST", "/api/data", WRONG, named("x" * 101)),
    "more than 10 kB": Ask("POST", "/api/data", {413}, named("lamp").ljust(LARGEST_BODY + 1)),
}
# All that the API answers, then the rest: no page is among them.
API_ANSWERS = {
    "API": Ask("GET", "/api/data", {200}),
    "HEAD of the API": Ask("HEAD", "/api/data", {200}),
    "OPTIONS of the API": Ask("OPTIONS", "/api/data", {200, 204, 405}),
    "created": Ask("POST", "/api/data", {201}, named("lamp")),
    "missing in the API": Ask("GET", "/api/missing", {404}),
    "wrong method in the API": Ask("DELETE", "/api/data", {405}),
    **WRONG_BODIES,
}
NO_PAGES = {
    **API_ANSWERS,
    "text": Ask("GET", "/echo?text=hello", {200}),
    "missing page": Ask("GET", "/missing", {404}),
    "wrong method": Ask("POST", "/", {405}),
    "server error": Ask("GET", "/broken", {500}),
}
ANSWERS = {
    **NO_PAGES,
    "page": Ask("GET", "/", {200}),
    "HEAD of the page": Ask("HEAD", "/", {200}),
    "OPTIONS of the page": Ask("OPTIONS", "/", {200, 204, 405}),
    "widget": Ask("GET", "/embed-me", {200}),
}
PAGES = ["/", "/embed-me"]
FROM_A_PROXY = {"X-Forwarded-Proto": "https"}
BEHIND_A_PROXY = {"TRUSTED_PROXIES": "127.0.0.1"}
PARTNERS = ["https://partner.example", "https://other.example:8443"]
# Settings of a server that is asked over HTTPS.
SETTINGS: dict[str, dict[str, str]] = {
    "default": {},
    "partners": {"EMBED_ORIGINS": ", ".join(PARTNERS)},
    "HTTP allowed": {"FORCE_HTTPS": "0"},
    "FLASK_DEBUG": {"FLASK_DEBUG": "1"},
    "preload": {"HSTS_PRELOAD": "1"},
}
# Directives that fall back to others (CSP 3 §6.8.3), all of them to default-src in the end.
FALLBACKS = {
    "script-src-elem": ["script-src"],
    "script-src-attr": ["script-src"],
    "style-src-elem": ["style-src"],
    "style-src-attr": ["style-src"],
    "worker-src": ["child-src", "script-src"],
    "frame-src": ["child-src"],
}
SCRIPTS = {"script-src", "script-src-elem", "script-src-attr", "worker-src"}
FETCHES = {"default-src", "style-src", "connect-src", "img-src", "font-src", "media-src", "manifest-src", *FALLBACKS}
XSS: dict[str, list[str]] = json.loads(Path(__file__).with_name("xss.json").read_text(encoding="utf-8"))
# What `alert` is given is noted, in the page and in frames of its origin.
NOTE_ALERTS = "window.ran = []; window.alert = number => top.ran.push(Number(number));"
# Every load that was started before has succeeded or failed when this ends.
SETTLE = """async () => {
    for (const link of document.querySelectorAll('.target')) { link.click(); link.focus(); }
    for (let round = 0; round < 3; round++) {
        await new Promise(done => { const image = new Image(); image.onerror = done; image.src = '/last?' + round; });
        await new Promise(done => setTimeout(done));
    }
}"""
FORMS = {
    "text": "<div>{}</div>",
    "attribute": '<div><style>@keyframes spin {{}}</style><input class="target" value="{}"></div>',
    "link": '<a class="target" href="{}">link</a>',
}


def each(asks: dict[str, Ask]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("ask", asks.values(), ids=list(asks))


@dataclass(frozen=True)
class Policy:
    """A Content-Security-Policy, as a browser reads it: the first of two equal directives counts.

    Names and sources are in lower case, except for nonces, whose case matters.
    """

    directives: dict[str, list[str]]

    @classmethod
    def of(cls, response: httpx2.Response) -> "Policy":
        found: dict[str, list[str]] = {}
        for part in filter(None, map(str.split, header(response, "Content-Security-Policy").split(";"))):
            sources = [x if x.lower().startswith("'nonce-") else x.lower() for x in part[1:]]
            found.setdefault(part[0].lower(), sources)
        return cls(found)

    def sources(self, directive: str) -> list[str]:
        """What may be loaded; without any directive that applies, everything may."""
        fallbacks = [*FALLBACKS.get(directive, []), "default-src"] if "-src" in directive else []
        return next((self.directives[name] for name in [directive, *fallbacks] if name in self.directives), ["*"])

    def loads(self) -> dict[str, set[str]]:
        """The sources of each directive that says what may load; a nonce is `'nonce'`."""
        names = FETCHES | {name for name in self.directives if "-src" in name}
        return {name: {"'nonce'" if "nonce-" in x else x for x in self.sources(name)} for name in names | SCRIPTS}

    def nonces(self, *directives: str) -> set[str]:
        chosen = [self.sources(name) for name in directives] or self.directives.values()
        return {source[7:-1] for sources in chosen for source in sources if source.lower().startswith("'nonce-")}

    @property
    def nonce(self) -> str:
        (nonce,) = self.nonces("script-src")
        return nonce


class Scripts(HTMLParser):
    """The nonces of a page's scripts, None for one that has none. A block of JSON is data, not a script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.nonces: list[str | None] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "script" and not (attributes.get("type") or "").lower().endswith("json"):
            self.nonces.append(attributes.get("nonce"))


def injected(html: str, payloads: list[str], form: str) -> str:
    """The page with these payloads at its end, as if it did not escape a text; each has its number for N."""
    numbered = [form.format(payload.replace("N", str(number))) for number, payload in enumerate(payloads)]
    end = html.lower().rfind("</body>")
    end = len(html) if end < 0 else end  # the tag may be left out
    return "\n".join([html[:end], *numbered, html[end:]])


@dataclass
class Attack:
    """Opens a page with payloads in it, and says which of them ran."""

    page: Page
    site: Callable[..., Site]
    html: str

    def ran(self, place: str, **headers: str) -> set[int]:
        return self.run(injected(self.html, XSS[place], FORMS[place]), **headers)

    def run(self, html: str, **headers: str) -> set[int]:
        self.page.goto(self.site({"/": html}, **headers).origin)
        self.page.evaluate(SETTLE)
        numbers: list[int] = self.page.evaluate("window.ran")
        return set(numbers)


@pytest.fixture
def client(solution: Solution) -> Client:
    """A server that takes plain HTTP, so that a browser can be used without a certificate."""
    return solution.serve_shared(FORCE_HTTPS="0")


@pytest.fixture
def http(solution: Solution) -> Client:
    """A server that is asked over plain HTTP and wants HTTPS."""
    return solution.serve_shared()


@pytest.fixture
def behind_a_proxy(solution: Solution) -> Callable[..., Client]:
    """Makes servers that are asked over HTTPS, by a proxy on this machine."""

    def serve(**settings: str) -> Client:
        client = solution.serve_shared(**BEHIND_A_PROXY, **settings)
        client.headers.update(FROM_A_PROXY)
        return client

    return serve


@pytest.fixture
def https(behind_a_proxy: Callable[..., Client]) -> Client:
    return behind_a_proxy()


@pytest.fixture
def servers(client: Client, http: Client, behind_a_proxy: Callable[..., Client]) -> dict[str, Client]:
    """The servers whose policies must be equally strict."""
    partners = behind_a_proxy(**SETTINGS["partners"])
    return {"http": client, "HTTPS forced": http, "https": behind_a_proxy(), "partners": partners}


@pytest.fixture
def attack(page: Page, site: Callable[..., Site], client: Client) -> Attack:
    page.add_init_script(NOTE_ALERTS)
    return Attack(page, site, client.get("/").text)


def origin(client: Client) -> str:
    return str(client.base_url).rstrip("/")


def framing(url: str) -> str:
    return f"<body><iframe src='{url}'></iframe></body>"


def shows_a_page(page: Page, url: str) -> bool:
    """Whether the frame on the page at this URL has loaded what it frames: every page of ours has a title."""
    page.goto(url)
    return page.frames[1].title() in ("Items", "Widget")


def header(response: httpx2.Response, name: str) -> str:
    """The header's value. Two headers of one name fail: browsers disagree on which one counts."""
    (value,) = response.headers.get_list(name)
    return str(value)


def wrong_headers(response: httpx2.Response) -> dict[str, list[str]]:
    """The headers that have one value everywhere and do not have it here."""
    wanted = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "X-XSS-Protection": "0"}
    found = {name: response.headers.get_list(name) for name in wanted}
    return {name: values for name, values in found.items() if values != [wanted[name]]}


def hsts(response: httpx2.Response) -> dict[str, str]:
    """The directives of Strict-Transport-Security, once each."""
    pairs = [part.strip().lower().partition("=") for part in header(response, "Strict-Transport-Security").split(";")]
    assert len({name for name, *_ in pairs}) == len(pairs)
    return {name: value.strip('"') for name, _, value in pairs}


# 1. On every response.


@pytest.mark.requirement(1)
@each(ANSWERS)
def test_every_response_has_all_five_headers(behind_a_proxy: Callable[..., Client], ask: Ask) -> None:
    responses = {name: ask.of(behind_a_proxy(**settings)) for name, settings in SETTINGS.items()}

    assert {response.status_code for response in responses.values()} <= ask.status
    assert {name: wrong_headers(response) for name, response in responses.items()} == {name: {} for name in SETTINGS}
    assert all("max-age" in hsts(response) for response in responses.values())
    assert all(Policy.of(response).directives for response in responses.values())


@pytest.mark.requirement(1)
@each(ANSWERS)
def test_a_response_to_plain_http_has_the_other_four(http: Client, ask: Ask) -> None:
    response = ask.of(http)

    assert response.status_code in (301, 308, 403)
    assert wrong_headers(response) == {}
    assert Policy.of(response).directives


@pytest.mark.requirement(1)
def test_a_server_error_shows_no_traceback_when_flask_is_told_to_debug(behind_a_proxy: Callable[..., Client]) -> None:
    response = behind_a_proxy(FLASK_DEBUG="1").get("/broken")

    assert response.status_code == 500
    assert "Traceback" not in response.text
    assert "create_app" not in response.text


@pytest.mark.requirement(1)
@each({name: ask for name, ask in API_ANSWERS.items() if min(ask.status) >= 400})
def test_the_api_answers_errors_as_json(client: Client, ask: Ask) -> None:
    response = ask.of(client)

    assert response.status_code in ask.status
    assert response.headers["Content-Type"].startswith(JSON)
    assert "detail" in response.json()


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "body", [named("x"), named("é" * 100), named("desk").ljust(LARGEST_BODY)], ids=["shortest", "longest", "10 kB"]
)
def test_the_api_adds_an_item(client: Client, body: str) -> None:
    response = Ask("POST", "/api/data", {201}, body).of(client)

    assert response.status_code == 201
    assert json.loads(body)["name"] in client.get("/api/data").json()["items"]


# 2. The policy.


@pytest.mark.requirement(2)
@each(ANSWERS)
def test_no_policy_allows_plugins_bases_forms_or_frames(servers: dict[str, Client], ask: Ask) -> None:
    for name, server in servers.items():
        policy = Policy.of(ask.of(server))

        assert policy.sources("object-src") == ["'none'"]
        assert policy.sources("base-uri") == ["'none'"]
        assert policy.sources("form-action") == ["'none'"]
        assert policy.sources("frame-ancestors") == ["'none'"] or (name, ask.path) == ("partners", "/embed-me")


@pytest.mark.requirement(2)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", PAGES)
def test_a_page_loads_by_nonce_or_from_its_own_origin(servers: dict[str, Client], path: str, method: str) -> None:
    loads = {name: Policy.of(server.request(method, path)).loads() for name, server in servers.items()}

    wrong = {
        (name, directive): sources - {"'none'", "'nonce'", "'self'", "'report-sample'"}
        for name, policy in loads.items()
        for directive, sources in policy.items()
    }
    assert {place: sources for place, sources in wrong.items() if sources} == {}


@pytest.mark.requirement(2)
@pytest.mark.parametrize("path", PAGES)
def test_a_script_needs_the_nonce(servers: dict[str, Client], path: str) -> None:
    """Where it comes from is not enough: /echo is of our own origin, too."""
    loads = {name: Policy.of(server.get(path)).loads() for name, server in servers.items()}

    wrong = {
        (name, directive): policy[directive] - {"'none'", "'nonce'", "'report-sample'"}
        for name, policy in loads.items()
        for directive in SCRIPTS
    }
    assert {place: sources for place, sources in wrong.items() if sources} == {}


@pytest.mark.requirement(2)
@each(NO_PAGES)
def test_what_is_no_page_loads_nothing(servers: dict[str, Client], ask: Ask) -> None:
    loads = {name: Policy.of(ask.of(server)).loads() for name, server in servers.items()}

    assert {(name, *sources) for name, policy in loads.items() for sources in policy.values()} == {
        (name, "'none'") for name in servers
    }


@pytest.mark.requirement(2)
def test_the_scripts_of_the_page_have_the_nonce_of_the_response(client: Client, https: Client) -> None:
    for server in (client, https):
        response = server.get("/")

        assert set(Scripts(response.text).nonces) == {Policy.of(response).nonce}


@pytest.mark.requirement(2)
def test_nonces_cannot_be_guessed(client: Client) -> None:
    nonces = [Policy.of(client.get("/")).nonce for _ in range(20)]

    changing = [place for place in zip(*nonces, strict=False) if len(set(place)) > 5]
    assert len(set(nonces)) == 20
    assert len(changing) >= 21  # 128 bits are 21 characters of base64, and two bits


@pytest.mark.requirement(2)
@pytest.mark.parametrize("path", PAGES)
def test_no_nonce_comes_twice(solution: Solution, path: str) -> None:
    first, second = (solution.serve_shared(FORCE_HTTPS="0", START=start) for start in ("1", "2"))

    nonces = [Policy.of(server.get(path)).nonces() for server in (first, second) for _ in range(5)]

    assert len(set().union(*nonces)) == sum(map(len, nonces))


@pytest.mark.requirement(2)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", PAGES)
def test_a_page_with_a_nonce_is_not_cached(servers: dict[str, Client], path: str, method: str) -> None:
    responses = [server.request(method, path) for server in servers.values()]

    with_a_nonce = [response for response in responses if Policy.of(response).nonces()]
    assert with_a_nonce or path == "/embed-me"
    assert [response for response in with_a_nonce if "no-store" not in response.headers.get("Cache-Control", "")] == []


@pytest.mark.requirement(2)
def test_only_the_named_origins_may_frame_the_widget(servers: dict[str, Client]) -> None:
    policy = Policy.of(servers["partners"].get("/embed-me"))

    assert sorted(policy.sources("frame-ancestors")) == sorted(PARTNERS)


# 3. HTTPS.


@pytest.mark.requirement(3)
@each(ANSWERS)
def test_https_is_asked_for_a_year_and_for_subdomains(behind_a_proxy: Callable[..., Client], ask: Ask) -> None:
    directives = {name: hsts(ask.of(behind_a_proxy(**settings))) for name, settings in SETTINGS.items()}

    assert min(int(found["max-age"]) for found in directives.values()) >= YEAR
    assert all("includesubdomains" in found for found in directives.values())
    assert [name for name, found in directives.items() if "preload" in found] == ["preload"]


@pytest.mark.requirement(3)
@each(ANSWERS)
def test_plain_http_does_not_ask_for_https(client: Client, http: Client, ask: Ask) -> None:
    """RFC 6797 §7.2: anybody on the network could have written it."""
    responses = [ask.of(client), ask.of(http)]

    assert [response.headers.get_list("Strict-Transport-Security") for response in responses] == [[], []]


@pytest.mark.requirement(3)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/embed-me",
        "/missing%20page?a=1&b=%20%C3%A9",
        "/echo?text=https%3A%2F%2Fa%26b",
        "/echo?text=1&text=2&b&text=1",
        "/50%25?a=50%25&b=%2526",
        "/a%2520b",
        "/?a=%FF",
        "/apis/data",
    ],
)
def test_pages_redirect_plain_http_to_the_same_url_on_https(http: Client, method: str, path: str) -> None:
    """The URLs are compared as bytes, since a character may be percent-encoded or not."""
    response = http.request(method, path)

    there, (asked, _, query) = httpx2.URL(header(response, "Location")), path.partition("?")
    assert response.status_code in (301, 308)
    assert (there.scheme, there.netloc) == ("https", http.base_url.netloc)
    assert unquote_to_bytes(there.raw_path.partition(b"?")[0]) == unquote_to_bytes(asked)
    assert parse_qsl(there.query.decode(), True, encoding="latin-1") == parse_qsl(query, True, encoding="latin-1")


@pytest.mark.requirement(3)
@pytest.mark.parametrize("host", ["a b", "evil.example/x?", "shop.example@evil.example", "<script>"])
def test_a_page_does_not_redirect_to_what_is_no_host(http: Client, host: str) -> None:
    response = http.get("/", headers={"Host": host})

    assert response.status_code == 400
    assert "location" not in response.headers


@pytest.mark.requirement(3)
@pytest.mark.parametrize("proxies", [None, "127.0.0.1"], ids=["a client", "a proxy"])
def test_a_redirect_keeps_the_host_of_the_request(solution: Solution, proxies: str | None) -> None:
    http = solution.serve_shared(TRUSTED_PROXIES=proxies)
    headers = {"X-Forwarded-Proto": "http", "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}

    response = http.get("/", headers=headers)

    assert httpx2.URL(header(response, "Location")).netloc == http.base_url.netloc


@pytest.mark.requirement(3)
@each(
    {
        **API_ANSWERS,
        "unknown method": Ask("PROPFIND", "/api/data", {405}),
        "unknown path": Ask("PUT", "/api/missing", {404}),
        "write to a page": Ask("POST", "/", {405}),
        "OPTIONS of the page": ANSWERS["OPTIONS of the page"],
    }
)
def test_everything_else_refuses_plain_http(http: Client, ask: Ask) -> None:
    response = ask.of(http)

    assert response.status_code == 403
    assert "location" not in response.headers
    assert ask.method == "HEAD" or "detail" in response.json()


@pytest.mark.requirement(3)
def test_a_refused_request_has_no_effect(https: Client) -> None:
    ask = Ask("POST", "/api/data", {201}, named("kettle"))

    refused = ask.of(https, **{"X-Forwarded-Proto": "http"})

    assert refused.status_code == 403
    assert "kettle" not in https.get("/api/data").json()["items"]
    assert ask.of(https).status_code == 201


@pytest.mark.requirement(3)
@pytest.mark.parametrize("debug", [None, "1"], ids=["normal", "FLASK_DEBUG"])
def test_https_is_forced_unless_it_is_switched_off(solution: Solution, debug: str | None) -> None:
    assert solution.serve_shared(FLASK_DEBUG=debug).get("/").status_code in (301, 308)
    assert solution.serve_shared(FLASK_DEBUG=debug, FORCE_HTTPS="1").get("/").status_code in (301, 308)
    assert solution.serve_shared(FLASK_DEBUG=debug, FORCE_HTTPS="0").get("/").status_code == 200


OTHER_CLAIMS = {
    "Forwarded": {"Forwarded": "for=10.0.0.1;proto=https"},
    "X-Forwarded-Ssl": {"X-Forwarded-Ssl": "on", "Front-End-Https": "on"},
    "X-Forwarded-Scheme": {"X-Forwarded-Scheme": "https", "X-Url-Scheme": "https", "X-Forwarded-Port": "443"},
}
CLAIMS = {
    "https": FROM_A_PROXY,
    "list": {"X-Forwarded-Proto": "http, https"},
    "for a proxy": FROM_A_PROXY | {"X-Forwarded-For": "10.0.0.1", "X-Real-Ip": "10.0.0.1", "Client-Ip": "10.0.0.1"},
    "two proxies": FROM_A_PROXY | {"X-Forwarded-For": "127.0.0.1, 10.0.0.1", "Forwarded": "for=10.0.0.1"},
    **OTHER_CLAIMS,
}


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "proxies, headers",
    [
        *[
            pytest.param(proxies, headers, id=f"{claim} without {name}")
            for claim, headers in CLAIMS.items()
            for name, proxies in {"proxies": None, "a network": "10.0.0.0/8", "others": "127.0.0.2, ::1"}.items()
        ],
        *[pytest.param("127.0.0.1", headers, id=f"{name} of a proxy") for name, headers in OTHER_CLAIMS.items()],
    ],
)
def test_nothing_else_says_that_a_request_came_over_https(
    solution: Solution, proxies: str | None, headers: dict[str, str]
) -> None:
    client = solution.serve_shared(TRUSTED_PROXIES=proxies)
    headers = {"X-Forwarded-Proto": ""} | headers

    responses = [client.get("/", headers=headers), client.post("/api/data", json={"name": "rug"}, headers=headers)]

    assert responses[0].status_code in (301, 308)
    assert responses[1].status_code == 403
    assert [response.headers.get_list("Strict-Transport-Security") for response in responses] == [[], []]


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "lines, secure",
    [
        (["https"], True),
        (["HTTPS"], True),
        (["http, https"], True),
        (["http,https"], True),
        (["http", "https"], True),
        (["http"], False),
        (["https, http"], False),
        (["https", "http"], False),
        (["https, https", "http"], False),
        (["httpsx"], False),
        ([""], False),
    ],
    ids=str,
)
def test_the_last_value_of_a_proxy_counts(solution: Solution, lines: list[str], secure: bool) -> None:
    """A proxy appends its value; what stands before that came from the client."""
    client = solution.serve_shared(TRUSTED_PROXIES="10.1.2.3, 127.0.0.0/8")

    response = client.get("/", headers=[("X-Forwarded-Proto", line) for line in lines])

    assert (response.status_code == 200) is secure
    assert ("strict-transport-security" in response.headers) is secure


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "name, value",
    [
        ("FORCE_HTTPS", "sometimes"),
        ("HSTS_PRELOAD", "2"),
        ("TRUSTED_PROXIES", "everybody"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("EMBED_ORIGINS", "*"),
        ("EMBED_ORIGINS", "https://*"),
        ("EMBED_ORIGINS", "https://*.example"),
        ("EMBED_ORIGINS", "partner.example"),
        ("EMBED_ORIGINS", "https://partner.example/path"),
        ("EMBED_ORIGINS", "https://partner..example"),
        ("EMBED_ORIGINS", "https://partner.example:99999"),
        ("EMBED_ORIGINS", "https://a.example; script-src *"),
    ],
)
def test_the_app_is_not_made_of_settings_that_make_no_sense(solution: Solution, name: str, value: str) -> None:
    with pytest.raises(SolutionCrashedError, match=f"(?i){name}"):
        solution.serve(isolated=None, **{name: value})


@pytest.mark.requirement(3)
@pytest.mark.parametrize("name, value", [("FORCE_HTTPS", "sometimes"), ("EMBED_ORIGINS", "*"), ("PORT", "abc")])
def test_the_program_ends_and_names_the_setting(solution: Solution, name: str, value: str) -> None:
    with pytest.raises(SolutionCrashedError, match=f"(?i){name}"):
        solution.serve(isolated=True, **{name: value})


# 4. In a browser.


@pytest.mark.requirement(4)
def test_the_page_works_under_its_policy(page: Page, client: Client) -> None:
    client.post("/api/data", json={"name": "<b>shelf</b>"})
    page.goto(origin(client))

    page.get_by_text("<b>shelf</b>").wait_for()

    assert page.locator("#items li").count() >= 3


@pytest.mark.requirement(4)
def test_an_injected_script_does_not_run(attack: Attack, client: Client) -> None:
    policy = client.get("/").headers["Content-Security-Policy"]

    defended = {place: attack.ran(place, Content_Security_Policy=policy) for place in FORMS}
    undefended = {place: attack.ran(place) for place in FORMS}

    assert undefended == {place: set(range(len(XSS[place]))) for place in FORMS}
    assert defended == {place: set() for place in FORMS}


@pytest.mark.requirement(4)
def test_the_nonce_of_one_response_opens_no_other(attack: Attack, client: Client) -> None:
    policy, other = client.get("/").headers["Content-Security-Policy"], Policy.of(client.get("/"))
    html = "<body><script nonce='{}'>alert(1)</script></body>"

    stale = attack.run(html.format(other.nonce), Content_Security_Policy=policy)
    fresh = attack.run(html.format(Policy.of(client.get("/")).nonce))

    assert fresh == {1}
    assert stale == set()


@pytest.mark.requirement(4)
@pytest.mark.parametrize("path", PAGES)
def test_a_page_does_not_load_in_a_frame(page: Page, site: Callable[..., Site], client: Client, path: str) -> None:
    """Not on another site, and not on another port of the same one."""
    bare = site({path: client.get(path).text})
    pages = {"/undefended": framing(bare.origin + path), "/defended": framing(origin(client) + path)}
    origins = [site(pages, host).origin for host in ("localhost", "127.0.0.1")]

    undefended = [shows_a_page(page, f"{foreign}/undefended") for foreign in origins]
    defended = [shows_a_page(page, f"{foreign}/defended") for foreign in origins]

    assert undefended == [True, True]
    assert defended == [False, False]


@pytest.mark.requirement(4)
def test_the_widget_loads_in_the_frames_of_a_named_origin_only(
    solution: Solution, page: Page, site: Callable[..., Site]
) -> None:
    partner, stranger = site({}), site({})
    client = solution.serve(FORCE_HTTPS="0", EMBED_ORIGINS=partner.origin)
    partner.pages["/"] = stranger.pages["/"] = framing(f"{origin(client)}/embed-me")

    at_the_partner = shows_a_page(page, partner.origin)
    at_the_stranger = shows_a_page(page, stranger.origin)

    assert at_the_partner
    assert not at_the_stranger


@pytest.mark.requirement(4)
@pytest.mark.parametrize("text", ["alert(1)", "<h1>é&amp;</h1>"])
def test_a_text_is_returned_as_plain_text(client: Client, text: str) -> None:
    response = client.get("/echo", params={"text": text})

    assert response.headers["Content-Type"].split(";")[0] == "text/plain"
    assert response.text == text


@pytest.mark.requirement(4)
def test_a_script_that_is_served_as_text_does_not_run(
    attack: Attack, client: Client, site: Callable[..., Site]
) -> None:
    bare = site({"/echo": "alert(2)"}, Content_Type="text/plain; charset=utf-8")
    html = "<body><script src='{}/echo?text=alert({})'></script></body>"

    undefended = attack.run(html.format(bare.origin, 2))
    defended = attack.run(html.format(origin(client), 1))

    assert undefended == {2}
    assert defended == set()
