"""The specification of CORS, requirement by requirement."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Page

from grader.browser import Site
from grader.solution import Client, Solution, SolutionCrashedError

SHOP, ADMIN = "https://shop.example", "https://admin.shop.example:8443"
ALLOWED = f"{SHOP}, {ADMIN},http://localhost:3000"
UNUSUAL = ["http://[::1]:3000", "http://10.0.0.7", "https://shop_2.example", "http://shop.example:443"]
EVIL = "https://evil.example"
JSON = {"Content-Type": "application/json"}
LOOK_ALIKES = [
    pytest.param(EVIL, id="another host"),
    pytest.param("https://shop.example.evil.example", id="begins like ours"),
    pytest.param("https://evilshop.example", id="ends like ours"),
    pytest.param("https://www.shop.example", id="a subdomain"),
    pytest.param("https://shop.exampl", id="the beginning of ours"),
    pytest.param("http://localhost:300", id="the beginning of a port"),
    pytest.param("http://localhost:30000", id="a longer port"),
    pytest.param("https://shopXexample", id="a dot is any character"),
    pytest.param("http://localhost", id="localhost without its port"),
    pytest.param("http://127.0.0.1:3000", id="another name of this machine"),
    pytest.param("http://shop.example", id="another scheme"),
    pytest.param("https://shop.example:8443", id="another port"),
    pytest.param("https://admin.shop.example", id="no port"),
    pytest.param("https://shop.example:443", id="the default port"),
    pytest.param("https://shop.example/", id="a slash"),
    pytest.param("https://shop.example.", id="a final dot"),
    pytest.param("https://SHOP.example", id="capitals"),
    pytest.param("HTTPS://shop.example", id="a scheme in capitals"),
    pytest.param("chrome-extension://abcdefghijklmnopabcdefghijklmnop", id="an extension"),
    pytest.param("https://shop.example@evil.example", id="ours as a user name"),
    pytest.param(f"{SHOP}, {ADMIN}", id="a list"),
    pytest.param(f"{SHOP} {EVIL}", id="two with a space"),
    pytest.param("null", id="null"),
    pytest.param("file://", id="a file"),
    pytest.param("*", id="a star"),
    pytest.param("", id="nothing"),
]
READ = """async ([url, options]) => {
    try {
        const response = await fetch(url, {credentials: 'include', ...options});
        return {status: response.status, text: await response.text(), location: response.headers.get('Location')};
    } catch (error) {
        return error.name;
    }
}"""
WRITES = [("POST", "/items"), ("PUT", "/items/1"), ("DELETE", "/items/1"), ("POST", "/session"), ("PATCH", "/items/1")]


class Visitor:
    """A browser's session with the API: what it has stored, and a request as a page of some origin would send it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        cookie = client.post("/session").headers["Set-Cookie"].partition(";")[0]
        client.cookies.clear()  # or it would be sent by itself
        self.cookie = {"Cookie": cookie}
        self.number = self.send("POST", "/items", name="lamp").json()["id"]

    def send(self, method: str, path: str, origin: str | None = None, **fields: str) -> httpx2.Response:
        headers = self.cookie | JSON | ({} if origin is None else {"Origin": origin})
        return self.client.request(method, path, content=json.dumps(fields) if fields else None, headers=headers)

    def send_lines(self, method: str, path: str, *lines: tuple[str, str], name: str = "") -> httpx2.Response:
        """Send these header lines beside the cookie; a name may come twice."""
        content = json.dumps({"name": name}) if name else None
        headers = [*self.cookie.items(), *JSON.items(), *lines]
        return self.client.request(method, path, content=content, headers=headers)

    def names(self) -> list[str]:
        return [item["name"] for item in self.send("GET", "/items").json()["items"]]


@pytest.fixture
def client(solution: Solution) -> Client:
    return solution.serve_shared(ALLOWED_ORIGINS=ALLOWED)


@pytest.fixture
def visitor(client: Client) -> Visitor:
    return Visitor(client)


def preflight(
    client: Client, origin: str = SHOP, method: str = "PUT", headers: str = "", path: str = "/items/1"
) -> Any:
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    return client.options(path, headers=asked | ({"Access-Control-Request-Headers": headers} if headers else {}))


def cors_headers(response: httpx2.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("access-control-")}


def listed(response: httpx2.Response, name: str) -> set[str]:
    return {item.strip() for value in response.headers.get_list(name) for item in value.split(",")}


# 1. Front ends.


@pytest.mark.requirement(1)
@pytest.mark.parametrize("origin", [SHOP, ADMIN, "http://localhost:3000"])
def test_an_allowed_origin_may_read_the_answer(visitor: Visitor, origin: str) -> None:
    response = visitor.send("GET", "/items", origin)

    assert response.json()["items"] == [{"id": visitor.number, "name": "lamp"}]
    assert response.headers.get_list("Access-Control-Allow-Origin") == [origin]
    assert response.headers.get_list("Access-Control-Allow-Credentials") == ["true"]


@pytest.mark.requirement(1)
@pytest.mark.parametrize("origin", UNUSUAL)
def test_addresses_and_other_ports_may_be_listed(solution: Solution, origin: str) -> None:
    visitor = Visitor(solution.serve_shared(ALLOWED_ORIGINS=",".join(UNUSUAL)))

    response = visitor.send("POST", "/items", origin, name="rug")

    assert response.status_code == 201
    assert response.headers.get_list("Access-Control-Allow-Origin") == [origin]


@pytest.mark.requirement(1)
@pytest.mark.parametrize("origin", [SHOP, None], ids=["with an origin", "without"])
def test_items_are_written_and_read(visitor: Visitor, origin: str | None) -> None:
    added = visitor.send("POST", "/items", origin, name="rug")
    renamed = visitor.send("PUT", added.headers["Location"], origin, name="carpet")
    deleted = visitor.send("DELETE", f"/items/{visitor.number}", origin)

    assert [added.status_code, renamed.status_code, deleted.status_code] == [201, 200, 204]
    assert visitor.names() == ["carpet"]


@pytest.mark.requirement(1)
def test_a_write_without_an_origin_is_accepted_whatever_its_referer(visitor: Visitor) -> None:
    response = visitor.send_lines("POST", "/items", ("Referer", f"{EVIL}/"), name="rug")

    assert response.status_code == 201
    assert visitor.names() == ["lamp", "rug"]


@pytest.mark.requirement(1)
def test_requests_without_an_origin_get_no_cors_headers(visitor: Visitor) -> None:
    responses = [
        visitor.send("GET", "/items"),
        visitor.send("POST", "/items", name="rug"),
        visitor.send("GET", "/unknown"),
    ]

    assert [response.status_code for response in responses] == [200, 201, 404]
    assert [cors_headers(response) for response in responses] == [{}] * 3


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "method, path, allowed",
    [("DELETE", "/items", {"GET", "HEAD", "POST"}), ("GET", "/items/1", {"PUT", "DELETE"})],
)
def test_a_405_names_the_methods_of_its_path(visitor: Visitor, method: str, path: str, allowed: set[str]) -> None:
    response = visitor.send(method, path)

    assert response.status_code == 405
    assert listed(response, "Allow") - {"OPTIONS"} == allowed


@pytest.mark.requirement(1)
def test_a_form_of_a_trusted_front_end_is_accepted(visitor: Visitor) -> None:
    headers = visitor.cookie | {"Origin": SHOP, "Content-Type": "application/x-www-form-urlencoded"}

    response = visitor.client.post("/items", content="name=rug", headers=headers)

    assert response.status_code == 201
    assert visitor.names() == ["lamp", "rug"]


@pytest.mark.requirement(1)
def test_a_script_may_read_location(visitor: Visitor) -> None:
    response = visitor.send("POST", "/items", SHOP, name="rug")

    assert "location" in {name.lower() for name in listed(response, "Access-Control-Expose-Headers")}


@pytest.mark.requirement(1)
def test_a_front_end_of_another_origin_works_in_a_browser(
    solution: Solution, page: Page, site: Callable[..., Site]
) -> None:
    front = site({"/": "<p>front end"})
    api = solution.serve(ALLOWED_ORIGINS=front.origin)
    url = f"http://localhost:{api.address[1]}"
    page.goto(front.origin)

    def ask(method: str, path: str, **fields: str) -> Any:
        body = {"body": json.dumps(fields), "headers": JSON} if fields else {}
        return page.evaluate(READ, [url + path, {"method": method, **body}])

    assert ask("POST", "/session")["status"] == 201
    added = ask("POST", "/items", name="rug")
    assert ask("PUT", added["location"], name="carpet")["status"] == 200
    assert [item["name"] for item in json.loads(ask("GET", "/items")["text"])["items"]] == ["carpet"]
    assert ask("DELETE", added["location"])["status"] == 204
    assert ask("DELETE", added["location"])["status"] == 404


# 2. Listed, not starred.


@pytest.mark.requirement(2)
def test_the_methods_are_listed(client: Client) -> None:
    methods = listed(preflight(client), "Access-Control-Allow-Methods")

    assert {"PUT", "DELETE"} <= methods <= {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"}


@pytest.mark.requirement(2)
@pytest.mark.parametrize("asked", ["", "content-type", "x-anything", "content-type, authorization"])
def test_the_headers_are_listed(client: Client, asked: str) -> None:
    names = {name.lower() for name in listed(preflight(client, headers=asked), "Access-Control-Allow-Headers")}

    assert names <= {"content-type", "accept", "accept-language", "content-language"}
    assert "content-type" in names or asked not in ("", "content-type")


@pytest.mark.requirement(2)
def test_the_exposed_headers_are_listed(visitor: Visitor) -> None:
    assert "*" not in listed(visitor.send("GET", "/items", SHOP), "Access-Control-Expose-Headers")


# 3. Only trusted origins.


@pytest.mark.requirement(3)
@pytest.mark.parametrize("origin", LOOK_ALIKES)
def test_an_origin_that_is_not_listed_gets_no_cors_headers(visitor: Visitor, origin: str) -> None:
    """Its reads are answered as if they had no Origin: the browser keeps the answer from the page."""
    responses = [
        visitor.send("GET", "/items", origin),
        visitor.send("HEAD", "/items", origin),
        visitor.send("POST", "/items", origin, name="rug"),
        preflight(visitor.client, origin),
    ]

    assert [response.status_code for response in responses[:2]] == [200, 200]
    assert [cors_headers(response) for response in responses] == [{}] * 4


@pytest.mark.requirement(3)
@pytest.mark.parametrize("path", ["/items/1", "/unknown", "/broken", "/session", "/docs", "/openapi.json"])
def test_an_origin_that_is_not_listed_gets_none_with_any_answer(visitor: Visitor, path: str) -> None:
    plain = visitor.send("GET", path)

    for origin in (EVIL, "null"):
        response = visitor.send("GET", path, origin)

        assert response.status_code == plain.status_code
        assert cors_headers(response) == {}


@pytest.mark.requirement(3)
def test_an_origin_that_is_not_listed_gets_none_without_a_session(client: Client) -> None:
    response = client.get("/items", headers={"Origin": EVIL})

    assert response.status_code == 401
    assert cors_headers(response) == {}


@pytest.mark.requirement(3)
@pytest.mark.parametrize("origin", LOOK_ALIKES)
def test_a_write_of_an_origin_that_is_not_listed_is_refused(visitor: Visitor, origin: str) -> None:
    path = f"/items/{visitor.number}"
    responses = [
        visitor.send("POST", "/items", origin, name="rug"),
        visitor.send("PUT", path, origin, name="rug"),
        visitor.send("DELETE", path, origin),
        visitor.send("PATCH", path, origin),
        visitor.send("OPTIONS", path, origin),
        visitor.send("PROPFIND", path, origin),
        visitor.send("POST", "/unknown", origin),
        visitor.send("POST", "/session", origin),
        visitor.client.post("/session", headers={"Origin": origin}),
    ]

    assert [response.status_code for response in responses] == [403] * 9
    assert not any("set-cookie" in response.headers for response in responses)
    assert visitor.names() == ["lamp"]


@pytest.mark.requirement(3)
@pytest.mark.parametrize("host", [None, "evil.example"], ids=["its own", "a name that leads to it"])
def test_the_origin_of_the_api_itself_is_not_trusted_unless_it_is_listed(visitor: Visitor, host: str | None) -> None:
    host = host or visitor.client.base_url.netloc.decode()

    response = visitor.send_lines("POST", "/items", ("Host", host), ("Origin", f"http://{host}"), name="rug")

    assert response.status_code == 403
    assert visitor.names() == ["lamp"]


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "name, value",
    [
        ("Referer", f"{SHOP}/"),
        ("X-Forwarded-Origin", SHOP),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Requested-With", "XMLHttpRequest"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("Sec-Fetch-Site", "same-origin"),
    ],
)
def test_no_other_header_makes_an_origin_trusted(visitor: Visitor, name: str, value: str) -> None:
    written = visitor.send_lines("POST", "/items", ("Origin", EVIL), (name, value), name="rug")
    read = visitor.send_lines("GET", f"/items/{visitor.number}", ("Origin", EVIL), (name, value))

    assert written.status_code == 403
    assert [cors_headers(written), cors_headers(read)] == [{}, {}]
    assert visitor.names() == ["lamp"]


@pytest.mark.requirement(3)
def test_scripts_and_other_sites_have_no_use_of_the_cookie(client: Client) -> None:
    _, *attributes = client.post("/session").headers["Set-Cookie"].split(";")

    assert {"httponly", "samesite=lax"} <= {attribute.strip().lower() for attribute in attributes}


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "content_type, body",
    [
        ("application/x-www-form-urlencoded", "name=rug"),
        ("text/plain", '{"name": "rug"}'),
        (
            "multipart/form-data; boundary=x",
            '--x\r\nContent-Disposition: form-data; name="name"\r\n\r\nrug\r\n--x--\r\n',
        ),
        (None, '{"name": "rug"}'),
    ],
    ids=["form", "text", "multipart", "no type"],
)
def test_a_write_that_needs_no_preflight_is_refused(visitor: Visitor, content_type: str | None, body: str) -> None:
    headers = visitor.cookie | {"Origin": EVIL} | ({"Content-Type": content_type} if content_type else {})

    response = visitor.client.post("/items", content=body, headers=headers)

    assert response.status_code == 403
    assert visitor.names() == ["lamp"]


@pytest.mark.requirement(3)
@pytest.mark.parametrize("origins", [(SHOP, EVIL), (EVIL, SHOP)], ids=["ours first", "ours last"])
def test_two_origins_are_not_trusted(visitor: Visitor, origins: tuple[str, str]) -> None:
    lines = [("Origin", origin) for origin in origins]

    written = visitor.send_lines("POST", "/items", *lines, name="rug")
    read = visitor.send_lines("GET", "/items", *lines)
    asked = visitor.send_lines("OPTIONS", "/items", *lines, ("Access-Control-Request-Method", "PUT"))

    assert [written.status_code, read.status_code, asked.status_code // 100] == [403, 200, 4]
    assert [cors_headers(response) for response in (written, read, asked)] == [{}] * 3
    assert visitor.names() == ["lamp"]


@pytest.mark.requirement(3)
@pytest.mark.parametrize("unlisted", [None, "", " , "], ids=["not set", "empty", "commas"])
def test_no_origin_is_trusted_unless_it_is_listed(solution: Solution, unlisted: str | None) -> None:
    visitor = Visitor(solution.serve_shared(ALLOWED_ORIGINS=unlisted))

    read, written = visitor.send("GET", "/items", SHOP), visitor.send("POST", "/items", SHOP, name="rug")

    assert cors_headers(read) == {}
    assert written.status_code == 403


@pytest.mark.requirement(3)
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["another port", "another site"])
def test_a_page_of_another_origin_cannot_read_or_write_in_a_browser(
    solution: Solution, page: Page, site: Callable[..., Site], host: str
) -> None:
    front, evil = site({"/": "<p>front end"}), site({"/": "<p>evil"}, host)
    api = solution.serve(ALLOWED_ORIGINS=front.origin)
    careless = site(
        {"/items": "secret"}, Access_Control_Allow_Origin=evil.origin, Access_Control_Allow_Credentials="true"
    )
    url = f"http://localhost:{api.address[1]}"
    form = {"method": "POST", "body": "name=evil", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}
    page.goto(front.origin)
    page.evaluate(READ, [f"{url}/session", {"method": "POST"}])

    page.goto(evil.origin)
    stolen = page.evaluate(READ, [f"{careless.origin}/items", {}])
    read = page.evaluate(READ, [f"{url}/items", {}])
    written = page.evaluate(READ, [f"{url}/items", form])
    unseen = page.evaluate(READ, [f"{url}/items", form | {"mode": "no-cors"}])
    page.evaluate(READ, [f"{careless.origin}/items", form | {"mode": "no-cors"}])
    page.goto(front.origin)
    kept = page.evaluate(READ, [f"{url}/items", {}])

    assert stolen["text"] == "secret"  # the attack works where the server lets it
    assert careless.requests[-1] == "POST /items"
    assert (read, written, unseen["status"]) == ("TypeError", "TypeError", 0)
    assert json.loads(kept["text"]) == {"items": []}


@pytest.mark.requirement(3)
def test_a_form_of_another_origin_is_refused_in_a_browser(
    solution: Solution, page: Page, site: Callable[..., Site]
) -> None:
    front = site({"/": "<p>front end"})
    api = solution.serve(ALLOWED_ORIGINS=front.origin)
    url = f"http://localhost:{api.address[1]}"
    form = f"<form method=post action={url}/items><input name=name value=rug></form>"
    evil, front.pages["/form"] = site({"/form": form}), form
    page.goto(front.origin)
    page.evaluate(READ, [f"{url}/session", {"method": "POST"}])

    statuses = []
    for origin in (front.origin, evil.origin):
        page.goto(f"{origin}/form")
        with page.expect_navigation() as navigation:
            page.evaluate("document.forms[0].submit()")
        response = navigation.value
        assert response
        statuses.append(response.status)

    assert statuses == [201, 403]


@pytest.mark.requirement(3)
def test_a_sandboxed_frame_reads_nothing_in_a_browser(
    solution: Solution, page: Page, site: Callable[..., Site]
) -> None:
    """Its origin is null, and so is that of a data: URL, and of anybody's sandboxed frame."""
    front = site({"/": "<p>front end"})
    api = solution.serve(ALLOWED_ORIGINS=front.origin)
    careless = site({"/items": "secret"}, Access_Control_Allow_Origin="null", Access_Control_Allow_Credentials="true")
    front.pages["/frame"] = "<iframe sandbox=allow-scripts srcdoc='<p>frame'></iframe>"
    page.goto(f"{front.origin}/frame")

    outcomes = [
        page.frames[1].evaluate(READ, [f"{origin}/items", {}])
        for origin in (careless.origin, f"http://localhost:{api.address[1]}")
    ]

    assert outcomes[0]["text"] == "secret"
    assert outcomes[1] == "TypeError"


# 4. Preflight.


@pytest.mark.requirement(4)
@pytest.mark.parametrize("origin", [SHOP, ADMIN])
@pytest.mark.parametrize(
    "method, path", [("POST", "/items"), ("PUT", "/items/7"), ("DELETE", "/items/7"), ("GET", "/items")]
)
def test_a_preflight_of_an_allowed_request_is_accepted(client: Client, origin: str, method: str, path: str) -> None:
    response = preflight(client, origin, method, "content-type", path)

    assert response.status_code in (200, 204)
    assert response.headers.get_list("Access-Control-Allow-Origin") == [origin]
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert method in listed(response, "Access-Control-Allow-Methods")
    assert 60 <= int(response.headers["Access-Control-Max-Age"]) <= 86_400


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "origin, method, headers",
    [
        (EVIL, "PUT", "content-type"),
        ("null", "PUT", "content-type"),
        (SHOP, "PATCH", "content-type"),
        (SHOP, "TRACE", ""),
        (SHOP, "put", "content-type"),
        (SHOP, "PU", "content-type"),
        (SHOP, "PUT", "authorization"),
        (SHOP, "PUT", "content-type,x-evil"),
        (SHOP, "PUT", "content-type-x"),
        (SHOP, "PUT", "content"),
    ],
    ids=[
        "origin",
        "null",
        "PATCH",
        "TRACE",
        "lower case",
        "part of a method",
        "header",
        "one of two headers",
        "a longer header",
        "part of a header",
    ],
)
def test_a_preflight_of_anything_else_is_refused(client: Client, origin: str, method: str, headers: str) -> None:
    response = preflight(client, origin, method, headers)

    assert 400 <= response.status_code < 500
    assert not {"PATCH", "TRACE", "put", "PU"} & listed(response, "Access-Control-Allow-Methods")
    assert not {"authorization", "x-evil"} & {name.lower() for name in listed(response, "Access-Control-Allow-Headers")}


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "names, hundreds",
    [(["content-type", "accept"], 2), (["content-type", "x-evil"], 4), (["x-evil", "content-type"], 4)],
    ids=["both allowed", "the last is not", "the first is not"],
)
def test_two_lines_of_requested_headers_are_one_list(visitor: Visitor, names: list[str], hundreds: int) -> None:
    lines = [("Access-Control-Request-Headers", name) for name in names]

    response = visitor.send_lines(
        "OPTIONS", "/items/1", ("Origin", SHOP), ("Access-Control-Request-Method", "PUT"), *lines
    )

    assert response.status_code // 100 == hundreds


@pytest.mark.requirement(4)
@pytest.mark.parametrize("path", ["/items", "/items/1", "/session", "/unknown"])
def test_a_preflight_needs_no_session(client: Client, path: str) -> None:
    """It never has one: browsers send preflights without cookies (Fetch standard, 4.8)."""
    assert preflight(client, path=path).status_code in (200, 204)


@pytest.mark.requirement(4)
def test_a_preflight_changes_nothing(visitor: Visitor) -> None:
    for method, path in WRITES:
        preflight(visitor.client, SHOP, method, "content-type", path)

    assert visitor.names() == ["lamp"]


@pytest.mark.requirement(4)
def test_a_browser_asks_before_it_writes_and_obeys(solution: Solution, page: Page, site: Callable[..., Site]) -> None:
    front = site({"/": "<p>front end"})
    api = solution.serve(ALLOWED_ORIGINS=front.origin)
    url = f"http://localhost:{api.address[1]}/items"
    page.goto(front.origin)
    page.evaluate(READ, [url.replace("items", "session"), {"method": "POST"}])

    def outcome(method: str, **headers: str) -> Any:
        body = {"body": '{"name": "rug"}'} if method == "POST" else {}
        return page.evaluate(READ, [url, {"method": method, "headers": headers, **body}])

    assert outcome("POST", **JSON)["status"] == 201
    assert outcome("GET", **{"X-Anything": "1"}) == "TypeError"
    assert outcome("PATCH") == "TypeError"


# 5. Safe configuration.


@pytest.mark.requirement(5)
@pytest.mark.parametrize(
    "origins",
    [
        "*",
        f"{SHOP},*",
        f"*,{SHOP}",
        "null",
        f"{SHOP}, null",
        f"null,{SHOP}",
        f"{SHOP}/,{ADMIN}",
        "https://*.shop.example",
        r"https://.*\.shop\.example",
        "shop.example",
        "//shop.example",
        "https://shop.example/",
        "https://shop.example/path",
        "https://shop.example?",
        "https://shop.example:",
        "https://shop.example:443",
        "http://shop.example:80",
        "https://shop.example:0443",
        "https://shop.example:65536",
        "https://shop.example:port",
        "https://Shop.example",
        "HTTPS://shop.example",
        "https://user@shop.example",
        "https://",
        "ftp://shop.example",
        "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        f"{SHOP} {ADMIN}",
        "http://127.1",
        "http://127.0.0.1.",
        "http://2130706433",
        "http://256.1.1.1",
        "http://[0::1]:3000",
        "http://[::1",
        "http://::1",
    ],
)
@pytest.mark.usefixtures("client")  # with a good list it starts
def test_the_app_does_not_start_with_what_is_not_an_origin(solution: Solution, origins: str) -> None:
    with pytest.raises(SolutionCrashedError):
        solution.serve(ALLOWED_ORIGINS=origins)


@pytest.mark.requirement(5)
@pytest.mark.usefixtures("client")
def test_the_command_ends_with_what_is_not_an_origin(solution: Solution) -> None:
    with pytest.raises(SolutionCrashedError):
        solution.serve(isolated=True, ALLOWED_ORIGINS=f"null,{SHOP}")


@pytest.mark.requirement(5)
def test_create_app_raises_also_where_another_server_calls_it(solution: Solution) -> None:
    def exit_code(origins: str) -> int:
        command = [sys.executable, "-c", "import app; app.create_app()"]
        env = os.environ | {"ALLOWED_ORIGINS": origins, "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(command, cwd=solution.path, env=env, capture_output=True, check=False).returncode

    assert exit_code(SHOP) == 0
    assert exit_code("*") != 0


@pytest.mark.requirement(5)
@pytest.mark.parametrize("origin", [SHOP, EVIL, "null", None], ids=["allowed", "other", "null", "none"])
@pytest.mark.parametrize(
    "method, path, status",
    [("GET", "/items", 200), ("GET", "/items/1", 405), ("GET", "/unknown", 404), ("GET", "/broken", 500)],
)
def test_caches_are_told_that_answers_depend_on_the_origin(
    visitor: Visitor, method: str, path: str, status: int, origin: str | None
) -> None:
    response = visitor.send(method, path, origin)

    assert response.status_code == status
    assert "origin" in {name.lower() for name in listed(response, "Vary")}


@pytest.mark.requirement(5)
@pytest.mark.parametrize("origin", [SHOP, EVIL, None], ids=["allowed", "other", "none"])
def test_caches_are_told_so_of_writes_and_without_a_session(visitor: Visitor, origin: str | None) -> None:
    stranger = visitor.client.get("/items", headers={} if origin is None else {"Origin": origin})
    responses = [stranger, *(visitor.send(method, path, origin, name="rug") for method, path in WRITES)]

    assert stranger.status_code == 401
    assert all("origin" in {name.lower() for name in listed(response, "Vary")} for response in responses)


@pytest.mark.requirement(5)
@pytest.mark.parametrize(
    "origin, method",
    [(SHOP, "PUT"), (SHOP, "PATCH"), (EVIL, "PUT")],
    ids=["accepted", "refused", "other origin"],
)
def test_caches_are_told_so_of_preflights(client: Client, origin: str, method: str) -> None:
    assert "origin" in {name.lower() for name in listed(preflight(client, origin, method), "Vary")}


@pytest.mark.requirement(5)
@pytest.mark.parametrize(
    "method, path, fields, status",
    [
        ("GET", "/unknown", {}, 404),
        ("DELETE", "/items/0", {}, 404),
        ("DELETE", "/items", {}, 405),
        ("GET", "/items/1", {}, 405),
        ("POST", "/items", {"name": ""}, 422),
        ("GET", "/broken", {}, 500),
    ],
    ids=["unknown path", "unknown item", "method", "method of an item", "invalid", "server error"],
)
def test_a_front_end_may_read_errors(
    visitor: Visitor, method: str, path: str, fields: dict[str, str], status: int
) -> None:
    response = visitor.send(method, path, SHOP, **fields)

    assert response.status_code == status
    assert response.headers.get_list("Access-Control-Allow-Origin") == [SHOP]
    assert response.headers.get_list("Access-Control-Allow-Credentials") == ["true"]


@pytest.mark.requirement(5)
def test_a_front_end_may_read_that_it_has_no_session(client: Client) -> None:
    response = client.get("/items", headers={"Origin": SHOP})

    assert response.status_code == 401
    assert response.headers.get_list("Access-Control-Allow-Origin") == [SHOP]
    assert response.headers.get_list("Access-Control-Allow-Credentials") == ["true"]
