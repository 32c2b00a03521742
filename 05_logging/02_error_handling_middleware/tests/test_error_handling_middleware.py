"""The specification of error answers and their log, requirement by requirement."""

import itertools
import json
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from grader.solution import Solution, SolutionCrashedError

if TYPE_CHECKING:
    from conftest import Answer, App, Sweep

FAULTS: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("faults.json").read_text(encoding="utf-8"))
BEFORE_THE_ANSWER = [name for name, fault in FAULTS.items() if fault["status"] >= 400]
AFTER_ITS_BEGIN = [name for name, fault in FAULTS.items() if fault["status"] == 200]
SERVER_ERRORS = [name for name, fault in FAULTS.items() if fault["level"] != "INFO"]
CLIENT_ERRORS = [name for name, fault in FAULTS.items() if fault["level"] == "INFO"]
ORIGIN = "https://shop.example"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
NEVER_TOLD = (
    "traceback (most",
    "select number",
    "from cards",
    "insert into",
    "sqlite3",
    "sqlalchemy",
    "redis://",
    "errno",
    "127.0.0.1",
    ".py",
)
CLASS = re.compile(r"[a-z](?:error|exception|exit)\b|exceptiongroup", re.IGNORECASE)
LEAVERS = {"endless", "half-a-body"}
MARKUP = """<script>alert("1")</script>&'"""

ENVIRONMENTS = ["production", "development", None]

numbers = itertools.count(1)


class Page(HTMLParser):
    """What a browser makes of a page: its texts and its elements."""

    def __init__(self, answer: "Answer") -> None:
        super().__init__()
        assert answer.headers["Content-Type"].lower().startswith("text/html")
        self.texts, self.elements = "", set[str]()
        self.feed(answer.text)
        self.close()

    def handle_starttag(self, tag: str, _attrs: object) -> None:
        self.elements.add(tag)
        self.texts += "\n"

    def handle_data(self, data: str) -> None:
        self.texts += data


def leaks(answer: "Answer", *more: str) -> list[str]:
    """What the answer gives away."""
    told = f"{list(answer.headers.raw)}{answer.text}".lower()
    return [each for each in (*NEVER_TOLD, *more) if each.lower() in told] + CLASS.findall(told)


@contextmanager
def locked(database: Path, begin: str = "BEGIN EXCLUSIVE") -> Iterator[None]:
    """Nobody writes meanwhile. A database in WAL mode can still be read."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(begin)
        yield
        connection.rollback()


def names(header: str) -> set[str]:
    """The members of a list in a header, in lower case."""
    return set(re.split(r"\s*,\s*", header.lower()))


def new_product(**fields: object) -> dict[str, object]:
    return {"sku": f"KB-{next(numbers)}", "name": "Keyboard", "stock": 3} | fields


def short(value: object) -> str:
    return str(value)[:24]


# 1. Every error is caught.


@pytest.mark.requirement(1)
@pytest.mark.parametrize("fault", BEFORE_THE_ANSWER)
def test_every_error_becomes_an_answer(app: "App", fault: str) -> None:
    answer = app.ask(f"/faults/{fault}")

    assert answer.status == FAULTS[fault]["status"]
    assert answer.problem["status"] == FAULTS[fault]["status"]


@pytest.mark.requirement(1)
@pytest.mark.parametrize("fault", ["background", "clean-up"])
def test_an_error_behind_the_answer_does_not_break_it(app: "App", fault: str) -> None:
    answer = app.ask(f"/faults/{fault}")

    assert answer.status in ((200,) if fault == "background" else (200, 500))
    assert not answer.is_cut_off


@pytest.mark.requirement(1)
@pytest.mark.parametrize("fault", [fault for fault in AFTER_ITS_BEGIN if fault.startswith("stream")])
def test_an_answer_that_fails_on_the_way_is_seen_to_be_cut_off(sweep: "Sweep", fault: str) -> None:
    answer = sweep.answers[fault]

    assert (answer.status, answer.text) == (200, "first line\n")
    assert answer.is_cut_off


@pytest.mark.requirement(1)
def test_the_app_serves_on_after_all_of_them(app: "App") -> None:
    for fault in FAULTS:
        app.ask(f"/faults/{fault}")
    product = new_product()

    created = app.client.post("/products", json=product)

    assert created.status_code == 201
    assert app.client.get(f"/products/{product['sku']}").json() == product
    assert product in app.client.get("/products").json()


@pytest.mark.requirement(1)
def test_what_a_real_client_does_wrong_is_a_4xx(app: "App") -> None:
    product = new_product()
    assert app.client.post("/products", json=product).is_success

    answers = [
        app.ask("/products", "POST", json=product),
        app.ask("/products", "POST", json=product | {"sku": "not a sku"}),
        app.ask("/products/KB-404"),
        app.ask("/nothing"),
        app.ask("/products", "DELETE"),
    ]

    assert [answer.problem["status"] for answer in answers] == [409, 422, 404, 404, 405]


@pytest.mark.requirement(1)
def test_a_database_that_is_locked_is_a_503_until_it_is_not(app: "App") -> None:
    product = new_product()

    with locked(app.database):
        during = app.ask("/products", "POST", json=product)

    assert (during.status, during.problem["status"]) == (503, 503)
    assert app.ask("/products", "POST", json=product).status == 201


@pytest.mark.requirement(1)
def test_of_equal_products_at_the_same_time_one_is_created(solution: Solution, env: dict[str, Any], app: "App") -> None:
    patient = solution.serve(**env | {"DATABASE_URL": f"sqlite:///{app.database}?timeout=5"})
    product = new_product()

    # All have looked for the sku, and wait to write, when the lock is released.
    with ThreadPoolExecutor(4) as pool:
        with locked(app.database, "BEGIN IMMEDIATE"):
            answers = [pool.submit(patient.post, "/products", json=product) for _ in range(4)]
            time.sleep(0.3)
        statuses = [answer.result().status_code for answer in answers]

    assert sorted(statuses) == [201, 409, 409, 409]


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "content, content_type",
    [
        pytest.param(b'{"sku": "KB-1"', "application/json", id="JSON cut short"),
        pytest.param(b"[" * 100_000, "application/json", id="nested deeply"),
        pytest.param(b'{"sku": "KB-1", "name": "\\ud800"}', "application/json", id="half a character"),
        pytest.param(b'{"sku": "KB-1", "name": "Lamp", "stock": NaN}', "application/json", id="NaN"),
        pytest.param(b'{"sku": "KB-1", "name": "Lamp", "stock": 1e999}', "application/json", id="infinity"),
        pytest.param(b'{"sku": "KB-1", "name": "Lamp", "stock": 9223372036854775808}', "application/json", id="2^63"),
        pytest.param(b"\xff\xfe", "application/json", id="no UTF-8"),
        pytest.param(b"null", "application/json", id="null"),
        pytest.param(b"sku=KB-1", "application/x-www-form-urlencoded", id="a form"),
        pytest.param(b"", "", id="nothing"),
    ],
)
def test_a_body_that_cannot_be_read_is_a_4xx(app: "App", content: bytes, content_type: str) -> None:
    answer = app.ask("/products", "POST", content=content, headers={"Content-Type": content_type})

    assert answer.status in (400, 415, 422)
    assert answer.problem["status"] == answer.status


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "fields",
    [
        {"sku": ""},
        {"sku": "A" * 33},
        {"sku": "kb-1"},
        {"sku": "KB-1\n"},
        {"sku": 7},
        {"name": ""},
        {"name": "n" * 101},
        {"name": None},
        {"stock": -1},
        {"stock": 2**31},
        {"stock": "3"},
        {"stock": 3.5},
        {"stock": True},
        {"stock": None},
    ],
    ids=short,
)
def test_a_product_that_is_not_valid_is_a_422(app: "App", fields: dict[str, object]) -> None:
    answer = app.ask("/products", "POST", json=new_product(**fields))

    assert answer.problem["status"] == 422


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "fields", [{"sku": "0-" * 16}, {"name": "n" * 100}, {"name": "\xe9"}, {"stock": 0}, {"stock": 2**31 - 1}], ids=short
)
def test_a_product_within_the_limits_is_created(app: "App", fields: dict[str, object]) -> None:
    product = new_product(**fields)

    created = app.client.post("/products", json=product | {"colour": "red"})

    assert (created.status_code, created.json()) == (201, product)


@pytest.mark.requirement(1)
def test_a_product_without_a_stock_has_none_in_stock(app: "App") -> None:
    product = new_product()
    del product["stock"]

    assert app.client.post("/products", json=product).json() == product | {"stock": 0}


@pytest.mark.requirement(1)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_faults_exist_in_tests_only(solution: Solution, env: dict[str, Any], environment: str | None) -> None:
    client = solution.serve_shared(**env | {"ENVIRONMENT": environment})

    assert [client.get(f"/faults/{fault}").status_code for fault in FAULTS] == [404] * len(FAULTS)
    assert client.get("/products").status_code == 200


@pytest.mark.requirement(1)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_errors_are_answered_in_every_environment(
    solution: Solution, env: dict[str, Any], app: "App", environment: str | None
) -> None:
    served = replace(app, client=solution.serve_shared(**env | {"ENVIRONMENT": environment}))
    product = new_product()
    assert served.client.post("/products", json=product).is_success

    with locked(app.database):
        answers = [served.ask("/products", "POST", json=new_product())]
    answers += [
        served.ask("/products", "POST", json=product),
        served.ask("/products", "POST", json={"name": "Lamp"}),
        served.ask("/products/KB-404"),
        served.ask("/products", "DELETE"),
    ]

    assert [answer.problem["status"] for answer in answers] == [503, 409, 422, 404, 405]
    assert [leaks(answer, "locked", str(app.database), str(app.folder)) for answer in answers] == [[]] * 5


@pytest.mark.requirement(1)
@pytest.mark.parametrize("environment", ["staging", "TESTING"])
def test_an_unknown_environment_is_refused_at_the_start(
    solution: Solution, env: dict[str, Any], environment: str
) -> None:
    with pytest.raises(SolutionCrashedError, match="ENVIRONMENT"):
        solution.serve(**env | {"ENVIRONMENT": environment})


# 2. Messages help and give nothing away.


@pytest.mark.requirement(2)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_an_answer_holds_nothing_of_the_error(app: "App", secret: str, fault: str, accept: str) -> None:
    hidden = (secret, str(app.database), str(app.folder))

    for method in ("GET", "HEAD", "POST", "OPTIONS"):
        answer = app.ask(f"/faults/{fault}", method, headers={"Accept": accept})

        assert leaks(answer, *hidden) == []


@pytest.mark.requirement(2)
@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_an_answer_about_the_database_holds_nothing_of_it(app: "App", accept: str) -> None:
    with locked(app.database):
        answer = app.ask("/products", "POST", json=new_product(), headers={"Accept": accept})

    assert answer.status == 503
    assert leaks(answer, "is locked", str(app.database)) == []


@pytest.mark.requirement(2)
@pytest.mark.parametrize("accept", ["application/json", "text/html"])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param('{"sku": "%s", "name": "Lamp"}', id="a wrong pattern"),
        pytest.param('{"sku": "KB-1", "name": "Lamp", "stock": "%s"}', id="a wrong type"),
        pytest.param('{"sku": "KB-1", "name": ["%s"]}', id="in a list"),
        pytest.param('{"sku": "KB-1", "%s": "Lamp"}', id="as a name"),
        pytest.param('["%s"]', id="not in an object"),
        pytest.param('{"sku": "%s"', id="in JSON cut short"),
    ],
)
def test_a_refusal_does_not_repeat_what_was_sent(app: "App", secret: str, accept: str, body: str) -> None:
    headers = {"Accept": accept, "Content-Type": "application/json"}

    answer = app.ask("/products", "POST", content=body.replace("%s", secret), headers=headers)

    assert answer.status in (400, 422)
    assert leaks(answer, secret) == []


@pytest.mark.requirement(2)
def test_a_422_names_each_wrong_field_and_what_is_wrong_with_it(app: "App") -> None:
    answer = app.ask("/products", "POST", json={"sku": "not a sku", "name": "Lamp", "stock": -1})

    errors = answer.problem["errors"]
    assert sorted(error["field"].rpartition(".")[2] for error in errors) == ["sku", "stock"]
    assert all(error["message"].strip() for error in errors)
    assert all(set(error) == {"field", "message"} for error in errors)


@pytest.mark.requirement(2)
def test_different_mistakes_have_different_messages(app: "App") -> None:
    fields: list[dict[str, object]] = [{"stock": -1}, {"stock": 2**31}, {"stock": "many"}, {"name": ""}]

    answers = [app.ask("/products", "POST", json=new_product(**each)) for each in fields]

    assert len({answer.problem["errors"][0]["message"] for answer in answers}) == 4


@pytest.mark.requirement(2)
def test_an_expected_error_tells_what_the_client_can_do(app: "App") -> None:
    taken, missing = app.ask("/faults/conflict"), app.ask("/faults/not-found", params={"sku": "KB-7"})

    assert taken.problem["detail"] == "This sku is taken."
    assert missing.problem["detail"] == "There is no product KB-7."


@pytest.mark.requirement(2)
def test_all_unexpected_errors_look_alike(app: "App") -> None:
    faults = [name for name in BEFORE_THE_ANSWER if FAULTS[name]["status"] == 500]

    problems = [app.ask(f"/faults/{fault}").problem for fault in faults]

    assert len({problem["detail"] for problem in problems}) == 1
    assert len({problem["title"] for problem in problems}) == 1


# 3. The log has the context.


@pytest.mark.requirement(3)
def test_the_log_is_json_objects_line_by_line(sweep: "Sweep") -> None:
    lines = sweep.lines

    assert len([line for line in lines if "error_id" in line]) >= len(FAULTS)


@pytest.mark.requirement(3)
@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_is_logged_with_its_request(sweep: "Sweep", fault: str) -> None:
    line = sweep.error(fault)

    assert (line["method"], line["path"]) == ("GET", f"/faults/{fault}")
    assert line["route"] in ((line["path"], None) if fault == "middleware" else (line["path"],))
    assert line["error_id"]
    assert line["type"]
    assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta(0)
    assert line["status"] == (sweep.answers[fault].status if fault in BEFORE_THE_ANSWER else 500)


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "fault, kind",
    [
        ("unexpected", "RuntimeError"),
        ("value", "ValueError"),
        ("key", "KeyError"),
        ("file", "FileNotFoundError"),
        ("model", "ValidationError"),
        ("stream", "RuntimeError"),
        ("stream-dependency", "ConnectionError"),
        ("stream-http", "HTTPException|Conflict"),
        ("stream-exit", "SystemExit"),
        ("stream-cancelled", "CancelledError"),
        ("background", "RuntimeError"),
        ("middleware", "RuntimeError"),
        ("recursion", "RecursionError"),
        ("memory", "MemoryError"),
        ("exit", "SystemExit"),
        ("cancelled", "CancelledError"),
        ("group", "ExceptionGroup"),
        ("database", "OperationalError"),
        ("timeout", "TimeoutError"),
        ("dependency", "ConnectionError"),
    ],
)
def test_the_type_is_that_of_the_error(sweep: "Sweep", fault: str, kind: str) -> None:
    assert re.fullmatch(kind, sweep.error(fault)["type"])


@pytest.mark.requirement(3)
@pytest.mark.parametrize("fault", SERVER_ERRORS)
def test_an_error_of_ours_has_its_trace(sweep: "Sweep", fault: str) -> None:
    trace = sweep.error(fault)["trace"]

    assert trace.startswith(("Traceback", "  + Exception Group Traceback"))
    assert len(re.findall(r'^[ |+]*File "[^"\n]+", line \d+', trace, re.MULTILINE)) >= 2
    assert len(trace) < 50_000


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "fault",
    [
        "dependency",
        "database",
        "http",
        "unexpected",
        "key",
        "model",
        "group",
        "stream",
        "stream-dependency",
        "stream-exit",
        "background",
        "middleware",
        "handler",
    ],
)
def test_the_trace_has_the_text_that_the_client_did_not_get(sweep: "Sweep", secret: str, fault: str) -> None:
    assert secret in sweep.error(fault)["trace"]


@pytest.mark.requirement(3)
def test_a_trace_has_the_errors_behind_the_error(sweep: "Sweep") -> None:
    assert "ConnectionRefusedError" in sweep.error("dependency")["trace"]
    assert "ValueError" in sweep.error("group")["trace"]


@pytest.mark.requirement(3)
@pytest.mark.parametrize("request_id", [*CLIENT_ERRORS, "unknown-route", "unknown-method", "product"])
def test_an_error_of_the_client_has_no_trace(sweep: "Sweep", request_id: str) -> None:
    assert not sweep.error(request_id).get("trace")


@pytest.mark.requirement(3)
def test_what_was_sent_is_not_logged_with_an_error_of_the_client(sweep: "Sweep", secret: str) -> None:
    lines = json.dumps([sweep.error(name) for name in [*CLIENT_ERRORS, "invalid-product", "forged-text"]])

    assert [text for text in (secret, "of ours", "CRITICAL") if text in lines] == []


@pytest.mark.requirement(3)
def test_the_route_is_a_template_and_the_path_what_was_asked_for(sweep: "Sweep") -> None:
    line = sweep.error("product")

    assert line["path"] == "/products/KB-404"
    assert line["route"].startswith("/products/")
    assert "KB-404" not in line["route"]
    assert sweep.error("unknown-route")["route"] is None


@pytest.mark.requirement(3)
def test_the_method_is_the_one_that_was_sent(sweep: "Sweep") -> None:
    assert sweep.error("head")["method"] == "HEAD"
    assert sweep.error("unknown-method")["method"] == "DELETE"


@pytest.mark.requirement(3)
def test_a_newline_in_a_request_forges_no_line(sweep: "Sweep") -> None:
    assert sweep.answers["forged-path"].status == 404
    assert "forged" not in [line.get("error_id") for line in sweep.lines]
    assert "\n{" in sweep.error("forged-path")["path"]


# 4. Each status has its answer, as JSON and as a page.

STATUSES = [
    pytest.param("GET", "/faults/not-found", 404, id="404"),
    pytest.param("GET", "/nothing", 404, id="404 of an unknown route"),
    pytest.param("DELETE", "/products", 405, id="405"),
    pytest.param("GET", "/faults/conflict", 409, id="409"),
    pytest.param("GET", "/faults/validation?quantity=11", 422, id="422"),
    pytest.param("GET", "/faults/unexpected", 500, id="500"),
    pytest.param("GET", "/faults/handler", 500, id="500 of a handler"),
    pytest.param("GET", "/faults/middleware", 500, id="500 of a middleware"),
    pytest.param("GET", "/faults/dependency", 503, id="503"),
]


@pytest.mark.requirement(4)
@pytest.mark.parametrize("method, path, status", STATUSES)
def test_an_api_client_gets_a_problem_document(app: "App", method: str, path: str, status: int) -> None:
    answer = app.ask(path, method, headers={"Accept": "application/json"})

    problem = answer.problem
    assert (answer.status, problem["status"]) == (status, status)
    assert {"type", "title", "detail", "instance", "error_id"} <= set(problem)
    assert all(isinstance(problem[name], str) and problem[name] for name in set(problem) - {"status", "errors"})


@pytest.mark.requirement(4)
@pytest.mark.parametrize("method, path, status", STATUSES)
def test_a_browser_gets_a_page(app: "App", method: str, path: str, status: int) -> None:
    told = app.ask(path, method).problem

    answer = app.ask(path, method, headers={"Accept": BROWSER})

    assert answer.status == status
    page = Page(answer)
    assert "title" in page.elements
    assert [text for text in (str(status), told["title"], told["detail"]) if text not in page.texts] == []
    assert re.search(r"\w{8,}", page.texts.partition("Error ID:")[2])


@pytest.mark.requirement(4)
def test_the_page_of_a_422_has_the_fields_and_the_messages(app: "App") -> None:
    body = {"name": "Lamp", "stock": -1}
    told = app.ask("/products", "POST", json=body).problem

    page = Page(app.ask("/products", "POST", json=body, headers={"Accept": BROWSER}))

    assert [text for error in told["errors"] for text in error.values() if text not in page.texts] == []
    assert len(told["errors"]) == 2


@pytest.mark.requirement(4)
def test_a_page_shows_markup_as_text(app: "App") -> None:
    answer = app.ask("/faults/not-found", params={"sku": MARKUP}, headers={"Accept": BROWSER})

    page = Page(answer)
    assert f"There is no product {MARKUP}." in page.texts
    assert "script" not in page.elements


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "accept, media_type",
    [
        pytest.param([], "application/problem+json", id="no Accept"),
        pytest.param(["*/*"], "application/problem+json", id="anything"),
        pytest.param(["application/json"], "application/problem+json", id="JSON"),
        pytest.param(["application/problem+json"], "application/problem+json", id="a problem"),
        pytest.param(["image/png"], "application/problem+json", id="something else"),
        pytest.param([BROWSER], "text/html", id="a browser"),
        pytest.param(["text/html"], "text/html", id="HTML"),
        pytest.param(["TEXT/HTML"], "text/html", id="HTML in capitals"),
        pytest.param(["text/*"], "text/html", id="any text"),
        pytest.param(["text/html, application/json"], "application/problem+json", id="both alike"),
        pytest.param(["text/html;q=0.5, application/json"], "application/problem+json", id="rather JSON"),
        pytest.param(["application/json;q=0.5, text/html"], "text/html", id="rather HTML"),
        pytest.param(["application/json ; q=0.25 ,text/html ; q=0.3"], "text/html", id="with spaces"),
        pytest.param(["text/html;q=0.9, application/problem+json"], "application/problem+json", id="rather a problem"),
        pytest.param(["text/html;q=0.2, */*;q=0.1"], "text/html", id="the narrower range counts"),
        pytest.param(["text/html;q=0.1, */*;q=0.2"], "application/problem+json", id="the narrower range counts less"),
        pytest.param(["application/*;q=0.5, text/html"], "text/html", id="rather HTML than any application"),
        pytest.param(["text/html;q=0.5, application/*"], "application/problem+json", id="any application"),
        pytest.param(["text/html;q=0"], "application/problem+json", id="no HTML"),
        pytest.param(["text/html;q=0, */*;q=0.5"], "application/problem+json", id="anything but HTML"),
        pytest.param(["application/json;q=0.5", "text/html"], "text/html", id="on two lines"),
    ],
)
def test_accept_decides_the_format(app: "App", accept: list[str], media_type: str) -> None:
    request = app.client.build_request("GET", "/faults/conflict", headers=[("Accept", each) for each in accept])
    if not accept:
        del request.headers["Accept"]

    answer = app.client.send(request)

    assert answer.status_code == 409
    assert answer.headers["Content-Type"].partition(";")[0].lower() == media_type


@pytest.mark.requirement(4)
@pytest.mark.parametrize("accept", [";;q=x,,/", "text/html;q=much", "q=1", "\xff", "text/html;" * 500])
def test_an_accept_that_cannot_be_read_changes_no_status(app: "App", accept: str) -> None:
    headers = [(b"Accept", accept.encode("latin-1"))]

    assert app.client.get("/faults/conflict", headers=headers).status_code == 409


@pytest.mark.requirement(4)
@pytest.mark.parametrize("method, path, status", STATUSES)
@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_an_error_is_not_cached_and_depends_on_accept(
    app: "App", method: str, path: str, status: int, accept: str
) -> None:
    answer = app.ask(path, method, headers={"Accept": accept})

    assert answer.status == status
    headers = answer.headers

    assert "no-store" in headers["Cache-Control"]
    assert "accept" in names(headers["Vary"])


@pytest.mark.requirement(4)
@pytest.mark.parametrize("accept", ["application/json", "text/html"])
@pytest.mark.parametrize(
    "method, path, allowed",
    [
        ("DELETE", "/products", {"GET", "HEAD", "POST"}),
        ("PUT", "/products/KB-1", {"GET", "HEAD"}),
        ("POST", "/faults/unexpected", {"GET", "HEAD"}),
    ],
)
def test_a_405_lists_all_methods_in_allow(app: "App", method: str, path: str, accept: str, allowed: set[str]) -> None:
    answer = app.ask(path, method, headers={"Accept": accept})

    assert answer.status == 405
    assert set(re.split(r",\s*", answer.headers["Allow"])) - {"OPTIONS"} == allowed


@pytest.mark.requirement(4)
@pytest.mark.parametrize("fault", ["dependency", "database", "timeout", "busy"])
@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_a_503_says_when_to_try_again(app: "App", fault: str, accept: str) -> None:
    answer = app.ask(f"/faults/{fault}", headers={"Accept": accept})

    assert re.fullmatch("[1-9][0-9]*", answer.headers["Retry-After"])


@pytest.mark.requirement(4)
@pytest.mark.parametrize("path", ["/faults/unexpected", "/faults/not-found", "/nothing", "/products"])
def test_head_is_answered_as_get_without_the_body(app: "App", path: str) -> None:
    get, head = app.ask(path), app.ask(path, "HEAD")

    assert (head.status, head.text) == (get.status, "")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]


@pytest.mark.requirement(4)
@pytest.mark.parametrize("method, path, status", [*STATUSES, pytest.param("GET", "/products", 200, id="200")])
def test_a_page_of_the_allowed_origin_may_read_every_answer(app: "App", method: str, path: str, status: int) -> None:
    allowed = app.ask(path, method, headers={"Origin": ORIGIN})
    other = app.ask(path, method, headers={"Origin": "https://evil.example"})

    assert (allowed.status, other.status) == (status, status)
    assert allowed.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "x-request-id" in names(allowed.headers["Access-Control-Expose-Headers"])
    assert "origin" in names(allowed.headers["Vary"])
    assert "Access-Control-Allow-Origin" not in other.headers


@pytest.mark.requirement(4)
def test_a_page_of_the_allowed_origin_may_send_a_product(app: "App") -> None:
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type, x-request-id",
    }

    allowed = app.ask("/products", "OPTIONS", headers=asked)
    other = app.ask("/products", "OPTIONS", headers=asked | {"Origin": "https://evil.example"})

    assert 200 <= allowed.status < 300
    assert allowed.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "post" in names(allowed.headers["Access-Control-Allow-Methods"])
    assert {"content-type", "x-request-id"} <= names(allowed.headers["Access-Control-Allow-Headers"])
    assert "Access-Control-Allow-Origin" not in other.headers


@pytest.mark.requirement(4)
@pytest.mark.parametrize("path", ["/products", "/nothing"])
def test_without_an_allowed_origin_no_page_may_read_answers(solution: Solution, env: dict[str, Any], path: str) -> None:
    client = solution.serve_shared(**env | {"ENVIRONMENT": "production", "ALLOWED_ORIGIN": None})

    assert "Access-Control-Allow-Origin" not in client.get(path, headers={"Origin": ORIGIN}).headers


@pytest.mark.requirement(4)
@pytest.mark.parametrize("method, path, status", [*STATUSES, pytest.param("GET", "/products", 200, id="200")])
def test_the_request_id_comes_back(app: "App", method: str, path: str, status: int) -> None:
    answer = app.ask(path, method, headers={"X-Request-ID": "Order_7.of-9"})

    assert answer.status == status
    assert answer.headers.get_list("X-Request-ID") == ["Order_7.of-9"]


@pytest.mark.requirement(4)
@pytest.mark.parametrize("sent", ["7", "a" * 64, "Z.y_x-0"])
def test_a_well_formed_request_id_is_kept(app: "App", sent: str) -> None:
    assert app.ask("/faults/conflict", headers={"X-Request-ID": sent}).headers["X-Request-ID"] == sent


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "sent",
    [
        pytest.param([], id="none"),
        pytest.param([""], id="an empty one"),
        pytest.param(["a" * 65], id="too long"),
        pytest.param(["two words"], id="with a space"),
        pytest.param(['"quoted"'], id="with quotes"),
        pytest.param(["<b>"], id="with markup"),
        pytest.param(["\xe4".encode()], id="not in ASCII"),
        pytest.param(["one", "two"], id="on two lines"),
    ],
)
def test_a_request_id_is_made_without_a_well_formed_one(app: "App", sent: list[str]) -> None:
    headers = [("X-Request-ID", each) for each in sent]

    ids = [app.client.get("/faults/conflict", headers=headers).headers["X-Request-ID"] for _ in range(2)]

    assert ids[0] != ids[1]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{16,64}", each) for each in ids)


# 5. Every error is ranked, logged once, and found by its ID.


@pytest.mark.requirement(5)
@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_has_the_level_of_its_kind(sweep: "Sweep", fault: str) -> None:
    assert sweep.error(fault)["level"] == FAULTS[fault]["level"]


@pytest.mark.requirement(5)
@pytest.mark.parametrize("request_id", ["unknown-route", "unknown-method", "product", "invalid-product"])
def test_what_a_real_client_does_wrong_is_only_information(sweep: "Sweep", request_id: str) -> None:
    assert sweep.error(request_id)["level"] == "INFO"


@pytest.mark.requirement(5)
@pytest.mark.parametrize("request_id", [*FAULTS, "unknown-route", "unknown-method", "head", "product"])
def test_an_error_is_logged_once(sweep: "Sweep", request_id: str) -> None:
    assert len(sweep.errors(request_id)) == 1


@pytest.mark.requirement(5)
def test_the_log_has_as_many_errors_as_there_were(sweep: "Sweep") -> None:
    failed = [answer for name, answer in sweep.answers.items() if answer.status >= 400 or name in FAULTS]
    expected = Counter(answer.headers["X-Request-ID"] for answer in failed)

    logged = Counter(line.get("request_id") for line in sweep.lines if "error_id" in line)

    assert {name: count for name, count in logged.items() if name not in LEAVERS} == expected


@pytest.mark.requirement(5)
def test_no_other_line_repeats_an_error(sweep: "Sweep", secret: str) -> None:
    others = [line for line in sweep.lines if "error_id" not in line]
    written = json.dumps(others) + sweep.stdout

    assert [line for line in others if line.get("level") not in ("DEBUG", "INFO")] == []
    assert [text for text in (secret, "SELECT", "Traceback") if text in written] == []
    assert CLASS.findall(written) == []


@pytest.mark.requirement(5)
@pytest.mark.parametrize("fault", BEFORE_THE_ANSWER)
def test_the_error_id_of_the_answer_finds_the_line(sweep: "Sweep", fault: str) -> None:
    error_id = sweep.answers[fault].problem["error_id"]

    found = [line["request_id"] for line in sweep.lines if line.get("error_id") == error_id]

    assert found == [fault]


@pytest.mark.requirement(5)
@pytest.mark.parametrize("name", ["page", "client-page"])
def test_the_error_id_of_a_page_finds_the_line(sweep: "Sweep", name: str) -> None:
    page = Page(sweep.answers[name])

    assert sweep.error(name)["error_id"] in page.texts


@pytest.mark.requirement(5)
@pytest.mark.parametrize("name", ["without-id", "malformed-id"])
def test_the_line_has_the_request_id_that_the_app_made(sweep: "Sweep", name: str) -> None:
    answer = sweep.answers[name]

    assert sweep.error(answer.headers["X-Request-ID"])["error_id"] == answer.problem["error_id"]


@pytest.mark.requirement(5)
def test_two_errors_of_one_request_id_have_two_error_ids(sweep: "Sweep") -> None:
    told = [sweep.answers[name].problem["error_id"] for name in ("repeated-1", "repeated-2")]

    assert told[0] != told[1]
    assert [line["error_id"] for line in sweep.errors("repeated")] == told


@pytest.mark.requirement(5)
def test_every_error_has_an_id_of_its_own(sweep: "Sweep") -> None:
    ids = [line["error_id"] for line in sweep.lines if "error_id" in line]

    assert len(ids) == len(set(ids))
    assert all(len(each) >= 16 for each in ids)


@pytest.mark.requirement(5)
def test_errors_at_once_are_not_mixed_up(sweep: "Sweep") -> None:
    answers = {name: answer for name, answer in sweep.answers.items() if name.startswith("at-once-")}

    logged = {name: [(line["error_id"], line["status"]) for line in sweep.errors(name)] for name in answers}

    told = {name: [(answer.problem["error_id"], answer.status)] for name, answer in answers.items()}
    assert logged == told


@pytest.mark.requirement(5)
@pytest.mark.parametrize("name", sorted(LEAVERS))
def test_a_client_that_leaves_is_not_an_error(sweep: "Sweep", name: str) -> None:
    assert sweep.answers["endless"].text.startswith("one more line")
    assert [line for line in sweep.errors(name) if line["level"] != "INFO"] == []
