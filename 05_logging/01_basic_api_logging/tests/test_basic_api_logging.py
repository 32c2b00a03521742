"""The specification of a log of requests: requirements 1, 2, 4 and 5; test_masking.py has 3."""

import hashlib
import json
import re
import secrets
import socket
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from grader.solution import Client, Solution, SolutionCrashedError

if TYPE_CHECKING:
    from conftest import Json, Log, Serve

ORDER = {"product": "KB-1", "quantity": 2}
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def send_raw(client: Client, *parts: bytes, answered: bool = True) -> bytes:
    """Send bytes as they are; return the answer, or close the connection at once."""
    with socket.create_connection(client.address, timeout=5) as connection:
        for part in parts:
            connection.sendall(part)
        answer = b""
        while answered and (received := connection.recv(65536)):
            answer += received
    return answer


def head(method: str, target: str, *headers: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: shop", "Connection: close", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n"


# 1. What was asked.


@pytest.mark.requirement(1)
@pytest.mark.parametrize("path", ["/orders/999", "/nowhere/at-all", "/"])
def test_method_and_path_of_every_request_are_logged(log: "Log", path: str) -> None:
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"]

    for method in methods:
        log.client.request(method, path)

    assert [(entry["method"], entry["path"]) for entry in log.requests()] == [(method, path) for method in methods]


@pytest.mark.requirement(1)
def test_the_query_is_logged_decoded_with_all_values_of_each_name(log: "Log") -> None:
    log.client.get("/orders/999?page=1&page=2&q=caf%C3%A9+au%20lait&empty=")

    assert log.request()["query"] == {"page": ["1", "2"], "q": ["café au lait"], "empty": [""]}


@pytest.mark.requirement(1)
def test_a_path_is_logged_decoded_and_without_its_query(log: "Log") -> None:
    log.client.get("/caf%C3%A9/a%20b?page=1")

    assert log.request(path="/café/a b")["query"] == {"page": ["1"]}


@pytest.mark.requirement(1)
def test_headers_are_logged_in_lower_case_and_repeated_ones_joined(log: "Log") -> None:
    headers = [("User-Agent", "tests/1.0"), ("X-Tag", "one"), ("X-Tag", "two")]

    log.client.get("/orders/999", headers=headers)

    logged = log.request()["headers"]
    assert logged["user-agent"] == "tests/1.0"
    assert logged["x-tag"] == "one, two"
    assert logged["host"]


@pytest.mark.requirement(1)
@pytest.mark.parametrize("content_type", [JSON, "application/json; charset=utf-8", "Application/Vnd.Shop+JSON"])
def test_a_json_body_is_logged_at_debug(debug_log: "Log", content_type: str) -> None:
    body = {**ORDER, "gift": {"wrapped": True, "notes": ["für Ada", None, 1.5]}}

    debug_log.post(json.dumps(body), content_type)

    assert debug_log.request(path="/orders")["body"] == body


@pytest.mark.requirement(1)
def test_a_form_is_logged_at_debug_like_a_query(debug_log: "Log") -> None:
    debug_log.post("username=ada+l.&team=a&team=%C3%A9", FORM, "/login")

    assert debug_log.request(path="/login")["body"] == {"username": ["ada l."], "team": ["a", "é"]}


@pytest.mark.requirement(1)
@pytest.mark.parametrize("is_chunked", [False, True], ids=["with its length", "chunked"])
@pytest.mark.parametrize("size", [0, 1, 100_000, 1_000_000])
def test_the_handler_gets_every_byte_of_the_body(debug_log: "Log", size: int, is_chunked: bool) -> None:
    body = secrets.token_bytes(size)

    response = debug_log.client.post("/upload", content=iter([body[:1000], body[1000:]]) if is_chunked else body)

    assert response.json() == {"bytes": size, "sha256": hashlib.sha256(body).hexdigest()}
    assert debug_log.request(path="/upload")["request_bytes"] == size


@pytest.mark.requirement(1)
def test_an_order_whose_body_is_logged_is_still_created(debug_log: "Log") -> None:
    response = debug_log.client.post("/orders", json=ORDER)

    assert response.status_code == 201
    assert response.json().items() >= ORDER.items()
    assert debug_log.request()["body"] == ORDER


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "content_type, body",
    [
        pytest.param("text/plain", b"plain text", id="text"),
        pytest.param("application/octet-stream", b"\x00\xff\xfe", id="bytes"),
        pytest.param("multipart/form-data; boundary=b", b"--b--\r\n", id="multipart"),
        pytest.param("", b'{"product": "KB-1"}', id="without a type"),
        pytest.param(JSON, b'{"product": "KB-1"', id="broken JSON"),
        pytest.param(JSON, b"\xff\xfe\xfd", id="bytes as JSON"),
        pytest.param(JSON, b"[" * 2000, id="JSON that is too deep for any parser"),
    ],
)
def test_of_any_other_body_size_and_type_are_logged(debug_log: "Log", content_type: str, body: bytes) -> None:
    headers = {"Content-Type": content_type} if content_type else {}

    debug_log.client.post("/upload", content=body, headers=headers)

    entry = debug_log.request(path="/upload")
    assert entry["body"] is None
    assert entry["request_bytes"] == len(body)
    assert entry["headers"].get("content-type", "") == content_type


# 2. What was answered.


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "method, target, status",
    [
        ("GET", "/health?x", 200),
        ("POST", "/orders", 422),
        ("GET", "/orders/999", 404),
        ("GET", "/orders/first", 422),
        ("GET", "/nowhere", 404),
        ("DELETE", "/orders/999", 405),
        ("GET", "/fail", 500),
        ("GET", "/slow?seconds=0", 200),
    ],
)
def test_the_status_is_logged_and_the_id_that_finds_the_line_returned(
    log: "Log", method: str, target: str, status: int
) -> None:
    response = log.client.request(method, target)

    assert response.status_code == status
    identifier = response.headers["X-Request-ID"]
    assert re.fullmatch("[A-Za-z0-9_-]{8,64}", identifier)
    if "/health" not in target:
        assert log.request(request_id=identifier)["status"] == status


@pytest.mark.requirement(2)
def test_the_size_of_an_answer_is_that_of_its_body(log: "Log") -> None:
    answers = [log.client.get("/slow?seconds=0"), log.client.get("/orders/999"), log.client.get("/fail")]

    entries = [log.request(request_id=answer.headers["X-Request-ID"]) for answer in answers]

    assert [entry["response_bytes"] for entry in entries] == [len(answer.content) for answer in answers]
    assert [entry["complete"] for entry in entries] == [True, True, True]


@pytest.mark.requirement(2)
def test_an_answer_to_head_has_no_bytes(log: "Log") -> None:
    response = log.client.head("/slow?seconds=0")

    entry = log.request(method="HEAD")
    assert (entry["status"], entry["response_bytes"], entry["complete"]) == (response.status_code, 0, True)


@pytest.mark.requirement(2)
def test_the_duration_is_in_milliseconds(log: "Log") -> None:
    log.client.get("/slow?seconds=0.1")

    assert 100 <= log.request(path="/slow")["duration_ms"] < 5000


@pytest.mark.requirement(2)
def test_a_streamed_answer_is_logged_once_with_the_size_and_duration_of_the_whole(log: "Log") -> None:
    response = log.client.get("/export?rows=10")

    entry = log.request(path="/export")
    assert entry["request_id"] == response.headers["X-Request-ID"]
    assert entry["response_bytes"] == len(response.content)
    assert 200 <= entry["duration_ms"] < 5000
    assert entry["complete"] is True


@pytest.mark.requirement(2)
def test_an_answer_that_fails_in_its_middle_is_logged_once_as_not_complete(log: "Log") -> None:
    answer = send_raw(log.client, head("GET", "/export?rows=2&fail=true"))

    entry = log.request(path="/export")
    assert b"2,KB-2" in answer
    assert not answer.endswith(b"0\r\n\r\n")
    assert (entry["level"], entry["status"], entry["complete"]) == ("ERROR", 200, False)
    assert "the database went away" in entry["trace"]
    log.settle()
    assert log.text().count("RuntimeError: the database went away") == 1


@pytest.mark.requirement(2)
def test_a_client_that_leaves_in_the_middle_of_an_answer_is_logged_once(log: "Log") -> None:
    with socket.create_connection(log.client.address, timeout=5) as connection:
        connection.sendall(head("GET", "/export?rows=100"))
        received = b""
        while b"KB-1" not in received:
            received += (part := connection.recv(65536))
            assert part, f"the app closed the connection after {received!r}"

    entry = log.request(path="/export")
    assert (entry["level"], entry["status"], entry["complete"]) == ("WARNING", 200, False)
    assert 0 < entry["response_bytes"] < 1000
    assert "trace" not in entry


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "path, content_type, part",
    [
        pytest.param("/upload", JSON, b'{"product": "KB', id="JSON"),
        pytest.param("/upload", JSON, b'{"product": "KB-1"}', id="JSON that could be whole"),
        pytest.param("/upload", FORM, b"note=visible&pass", id="a form"),
        pytest.param("/orders", JSON, b'{"product": "KB', id="an order"),
        pytest.param("/login", FORM, b"username=ada&pass", id="a login"),
        pytest.param("/nowhere", JSON, b'{"product": "KB', id="a body that nobody reads"),
    ],
)
def test_a_body_that_the_client_cuts_short_is_logged_once_and_is_no_error_of_ours(
    debug_log: "Log", path: str, content_type: str, part: bytes
) -> None:
    cut = head("POST", path, f"Content-Type: {content_type}", "Content-Length: 100") + part

    send_raw(debug_log.client, cut, answered=False)

    entry = debug_log.request(path=path)
    assert (entry["level"], entry["body"]) == ("WARNING", None)
    assert entry["request_bytes"] <= len(part)
    assert entry["complete"] is False or path == "/nowhere"
    assert "trace" not in entry


@pytest.mark.requirement(2)
def test_a_client_that_leaves_while_the_app_works_is_logged_once(log: "Log") -> None:
    send_raw(log.client, head("GET", "/slow?seconds=0.1"), answered=False)

    entry = log.request(path="/slow")
    assert (entry["level"], entry["complete"]) in [("INFO", True), ("WARNING", False)]
    assert "trace" not in entry


@pytest.mark.requirement(2)
@pytest.mark.parametrize("path", ["/orders/999", "/fail"])
def test_a_request_that_asks_for_a_websocket_is_logged_like_any_other(log: "Log", path: str) -> None:
    upgrade = ["Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]

    answer = send_raw(
        log.client, head("GET", path, *upgrade).replace(b"Connection: close", b"Connection: Upgrade, close")
    )

    assert log.request(path=path)["status"] == int(answer.split()[1])


@pytest.mark.requirement(2)
def test_a_request_whose_body_nobody_reads_is_logged_once(debug_log: "Log") -> None:
    response = debug_log.client.post("/nowhere", json=ORDER)

    entry = debug_log.request(request_id=response.headers["X-Request-ID"])
    assert entry["status"] == 404


@pytest.mark.requirement(2)
@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded"])
def test_the_client_is_the_address_of_the_connection_whatever_it_claims(log: "Log", header: str) -> None:
    log.client.get("/orders/999", headers={header: "for=203.0.113.9" if header == "Forwarded" else "203.0.113.9"})

    assert log.request()["client"] == "127.0.0.1"


@pytest.mark.requirement(2)
@pytest.mark.parametrize("identifier", ["abcdefgh", "A-b_0-9-", "x" * 64, "0123456789"])
@pytest.mark.parametrize("path", ["/orders/999", "/slow?seconds=0", "/fail"])
def test_a_well_formed_request_id_is_kept_and_returned(log: "Log", path: str, identifier: str) -> None:
    response = log.client.get(path, headers={"X-Request-ID": identifier})

    assert response.headers.get_list("X-Request-ID") == [identifier]
    assert log.request(request_id=identifier)


BAD_IDS = [
    pytest.param(["x" * 7], id="too short"),
    pytest.param(["x" * 65], id="too long"),
    pytest.param([""], id="empty"),
    pytest.param(["abcd efgh"], id="a space"),
    pytest.param(["abcd.efgh"], id="a dot"),
    pytest.param(['abcdefgh","level":"ERROR'], id="a part of JSON"),
    pytest.param(["äbcdefgh"], id="a letter beyond ASCII"),
    pytest.param(["abcdefgh", "ijklmnop"], id="two of them"),
    pytest.param(["abcdefgh", "abcdefgh"], id="the same twice"),
    pytest.param(["4111111111111111"], id="a card number"),
]


@pytest.mark.requirement(2)
@pytest.mark.parametrize("sent", BAD_IDS)
def test_any_other_request_id_is_replaced(log: "Log", sent: list[str]) -> None:
    headers = [(b"X-Request-ID", value.encode("latin-1")) for value in sent]

    response = log.client.get("/orders/999", headers=headers)

    (identifier,) = response.headers.get_list("X-Request-ID")
    assert re.fullmatch("[A-Za-z0-9_-]{8,64}", identifier)
    assert identifier not in sent
    assert log.request()["request_id"] == identifier


@pytest.mark.requirement(2)
def test_every_request_gets_an_id_of_its_own_also_from_another_process(served_alone: "Serve") -> None:
    logs = [served_alone(), served_alone()]

    identifiers = {log.client.get("/orders/999").headers["X-Request-ID"] for log in logs for _ in range(5)}

    assert len(identifiers) == 10


@pytest.mark.requirement(2)
def test_fifty_requests_at_once_keep_their_ids_also_in_threads(log: "Log") -> None:
    names = {f"request-{number:04}": f"report-{number}" for number in range(50)}

    def ask(identifier: str) -> str:
        path = f"/slow?seconds=0.05&name={names[identifier]}"
        return str(log.client.get(path, headers={"X-Request-ID": identifier}).headers["X-Request-ID"])

    with ThreadPoolExecutor(50) as clients:
        returned = list(clients.map(ask, names))

    assert returned == list(names)
    assert {entry["request_id"]: entry["query"]["name"] for entry in log.requests(path="/slow")} == {
        identifier: [name] for identifier, name in names.items()
    }
    assert {entry["request_id"]: entry["report"] for entry in log.lines(50, message="report ready")} == names


@pytest.mark.requirement(2)
def test_a_connection_that_is_used_again_has_an_id_for_each_request(log: "Log") -> None:
    first = b"GET /orders/999 HTTP/1.1\r\nHost: shop\r\nX-Request-ID: first-request\r\n\r\n"

    answer = send_raw(log.client, first + head("GET", "/orders/999"))

    ids = re.findall(r"(?i)x-request-id: ([\w-]+)", answer.decode())
    assert ids[0] == "first-request"
    assert {entry["request_id"] for entry in log.lines(2, path="/orders/999")} == set(ids)
    assert len(log.requests(path="/orders/999")) == len(ids) == 2


# 4. Levels, and lines that every program can read.


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "target, level",
    [
        ("/slow?seconds=0", "INFO"),
        ("/export?rows=1", "INFO"),
        ("/orders/999", "WARNING"),
        ("/orders/first", "WARNING"),
        ("/fail", "ERROR"),
    ],
)
def test_the_level_says_whose_fault_it_is(log: "Log", target: str, level: str) -> None:
    response = log.client.get(target)

    assert log.request(request_id=response.headers["X-Request-ID"])["level"] == level


@pytest.mark.requirement(4)
def test_an_exception_is_logged_in_one_line_with_its_trace(log: "Log") -> None:
    reason = secrets.token_hex(8)

    response = log.client.get(f"/fail?why={reason}")

    log.settle()
    (entry,) = [entry for entry in log.entries() if reason in json.dumps(entry)]
    assert (entry["message"], entry["level"], entry["status"]) == ("request", "ERROR", 500)
    assert "Traceback" in entry["trace"]
    assert f"RuntimeError: the payment was refused: {reason}" in entry["trace"]
    assert reason not in response.text
    assert log.client.process
    assert reason not in log.client.process.stderr


@pytest.mark.requirement(4)
def test_only_an_exception_has_a_trace(log: "Log") -> None:
    log.client.get("/orders/999")

    assert "trace" not in log.request(path="/orders/999")


@pytest.mark.requirement(4)
def test_bodies_are_logged_at_debug_only(log: "Log") -> None:
    secret = secrets.token_hex(8)

    log.client.post("/orders", json={**ORDER, "note": secret})

    assert "body" not in log.request(path="/orders")
    assert secret not in log.output()


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "level, logged",
    [
        ("DEBUG", ["/slow", "/orders/999", "/fail"]),
        ("WARNING", ["/orders/999", "/fail"]),
        ("ERROR", ["/fail"]),
    ],
)
def test_log_level_leaves_out_what_is_below_it(served: "Serve", level: str, logged: list[str]) -> None:
    log = served(LOG_LEVEL=level)

    for path in ("/slow?seconds=0", "/orders/999", "/fail"):
        log.client.get(path)
    log.client.post("/login", data={"username": "ada", "password": "short"})

    assert [entry["path"] for entry in log.requests() if entry["path"] != "/login"] == logged
    assert bool(log.entries(message="report ready")) == (level == "DEBUG")
    assert bool(log.entries(message="login failed: ada")) == (level != "ERROR")


@pytest.mark.requirement(4)
def test_a_level_holds_for_the_lines_of_the_server_too(served_alone: "Serve") -> None:
    log = served_alone(LOG_LEVEL="ERROR")

    log.client.get("/slow?seconds=0")
    log.client.stop()

    assert log.entries() == []


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "name, value",
    [
        ("LOG_LEVEL", "LOUD"),
        ("LOG_LEVEL", ""),
        ("LOG_BODY_BYTES", "many"),
        ("LOG_BODY_BYTES", "-1"),
        ("LOG_BODY_BYTES", "1.5"),
        ("LOG_SAMPLE", "half"),
        ("LOG_SAMPLE", "1.1"),
        ("LOG_SAMPLE", "-0.1"),
        ("LOG_SAMPLE", "nan"),
    ],
)
def test_a_setting_that_is_wrong_is_named_at_the_start(solution: Solution, name: str, value: str) -> None:
    with pytest.raises(SolutionCrashedError) as refused:
        solution.serve(isolated=True, **{name: value})

    assert name in str(refused.value)
    assert not re.search(r"exit code 0\b", str(refused.value))


ODD_REQUESTS = [
    pytest.param(head("GET", "/a%0A%7B%22level%22:%20%22ERROR%22%7D%0D%0Ab"), id="a newline in the path"),
    pytest.param(head("GET", "/orders/999?q=a%0A%7B%22message%22:%22request%22%7D%0A"), id="a newline in the query"),
    pytest.param(head("GET", "/a%E2%80%A8b%E2%80%A9c%C2%85d"), id="Unicode's line separators"),
    pytest.param(head("GET", "/a%00%1B%5B31m%7F%9B"), id="control characters"),
    pytest.param(head("GET", "/a%FF%FE%C3?%FF=%ED%A0%80"), id="bytes that are not UTF-8"),
    pytest.param(head("GET", "/%2e%2e/%2525?a=1;b=2&&=&%"), id="odd escapes"),
    pytest.param(head("GET", "/a", "X-Note: \xff\xfe\xe9\x85"), id="a header in Latin-1"),
    pytest.param(head("GET", "/a", 'X-Note: "},{"level": "ERROR'), id="a header with JSON"),
    pytest.param(head("GET", "/a", "Content-Type: a", "Content-Type: b"), id="a header that comes twice"),
    pytest.param(head("GET", "/a", "User-Agent:"), id="an empty header"),
    pytest.param(head("BREW", "/a"), id="an odd method"),
    pytest.param(head("GET", "/" + "a" * 20_000), id="a path of 20,000 characters"),
]


@pytest.mark.requirement(4)
@pytest.mark.parametrize("request_bytes", ODD_REQUESTS)
def test_an_odd_request_is_one_line_of_json(log: "Log", request_bytes: bytes) -> None:
    send_raw(log.client, request_bytes)

    assert log.request()["level"] == "WARNING"


ODD_BODIES = [
    pytest.param('{"a": NaN, "b": [Infinity, -Infinity]}', id="NaN"),
    pytest.param('{"a": 1e999, "b": -1e999}', id="1e999"),
    pytest.param(r'{"a": "\ud800", "\udfff": 1}', id="unpaired surrogates"),
    pytest.param(r'{"a": "\u2028\u2029\u0085\u0000\n\r\u001b"}', id="control characters"),
    pytest.param('{"a": ' + "9" * 400 + "}", id="a number of 400 digits"),
    pytest.param('{"a": ' + "9" * 1900 + ".5e9}", id="a number of 1,900 digits"),
    pytest.param("[" * 900 + "]" * 900, id="900 levels"),
    pytest.param('{"a":' * 250 + "1" + "}" * 250, id="250 levels"),
    pytest.param("null", id="null"),
    pytest.param('"text"', id="a string"),
    pytest.param('\ufeff{"a": 1}', id="a byte order mark"),
    pytest.param('{"message": "request", "level": "ERROR"}', id="names of fields"),
]


@pytest.mark.requirement(4)
@pytest.mark.parametrize("body", ODD_BODIES)
def test_an_odd_body_is_one_line_of_json(debug_log: "Log", body: str) -> None:
    debug_log.post(body, JSON, "/upload")

    assert debug_log.request(path="/upload")["status"] == 200


@pytest.mark.requirement(4)
def test_every_line_has_the_time_in_utc_and_says_where_it_comes_from(log: "Log") -> None:
    before = datetime.now(UTC)
    log.client.get("/slow?seconds=0")

    after, entries = datetime.now(UTC), [log.request(path="/slow"), *log.lines(1, message="report ready")]

    assert len(entries) == 2
    for entry in entries:
        moment = datetime.fromisoformat(entry["timestamp"])
        assert moment.utcoffset() == timedelta(0)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|\+00:00)", entry["timestamp"])
        assert before - timedelta(seconds=1) < moment < after + timedelta(seconds=1)
        assert entry["logger"]
        assert entry["level"] == "INFO"


@pytest.mark.requirement(4)
def test_what_the_server_says_is_json_too_from_its_start_to_its_end(served_alone: "Serve") -> None:
    log = served_alone()
    client = log.client
    send_raw(client, b"this is not HTTP\r\n\r\n")
    send_raw(client, b"GET /orders/999 HTTP/1.1\r\nHost: shop\r\n\r\nthis is not HTTP\r\n\r\n")

    client.stop()

    entries = log.entries()
    assert [entry["status"] for entry in entries if entry["message"] == "request"] == [404]
    for entry in entries:
        assert {"timestamp", "level", "logger", "message", "request_id"} <= entry.keys()
        assert (entry["request_id"] is None) == (entry["message"] != "request")
    assert [entry for entry in entries if "orders" in json.dumps(entry)] == [
        entry for entry in entries if entry["message"] == "request"
    ]


# 5. Enough, and not too much.


@pytest.mark.requirement(5)
@pytest.mark.parametrize("limit", [40, 2048, 200_000])
def test_a_body_is_logged_up_to_the_limit_and_not_beyond(served: "Serve", limit: int) -> None:
    log = served(LOG_LEVEL="DEBUG", **({} if limit == 2048 else {"LOG_BODY_BYTES": str(limit)}))
    bodies = [{"a": "x" * (size - len('{"a": ""}'))} for size in (limit, limit + 1, limit * 3)]

    for body in bodies:
        log.post(json.dumps(body), JSON, "/upload")

    assert [entry["body"] for entry in log.requests(path="/upload")] == [bodies[0], None, None]


@pytest.mark.requirement(5)
def test_the_limit_counts_bytes_and_not_characters(served: "Serve") -> None:
    log = served(LOG_LEVEL="DEBUG", LOG_BODY_BYTES="40")

    log.post('{"a": "' + "é" * 20 + '"}', JSON, "/upload")

    assert log.request(path="/upload")["body"] is None


@pytest.mark.requirement(5)
def test_a_limit_of_zero_logs_no_body(served: "Serve") -> None:
    log = served(LOG_LEVEL="DEBUG", LOG_BODY_BYTES="0")

    log.post("{}", JSON, "/upload")

    assert log.request(path="/upload")["body"] is None


@pytest.mark.requirement(5)
@pytest.mark.parametrize("is_chunked", [False, True], ids=["with its length", "chunked"])
def test_a_body_of_50_megabytes_passes_without_being_kept(served_alone: "Serve", is_chunked: bool) -> None:
    client = served_alone(LOG_LEVEL="DEBUG").client
    size, chunk, last = 50_000_000, b"x" * 100_000, b""
    parts = size // len(chunk)
    length = f"Content-Length: {size}"
    if is_chunked:
        length, chunk, last = "Transfer-Encoding: chunked", b"%x\r\n%s\r\n" % (len(chunk), chunk), b"0\r\n\r\n"
    before = peak_memory(client)

    answer = send_raw(client, head("POST", "/upload", f"Content-Type: {JSON}", length), *[chunk] * parts, last)

    assert json.loads(answer.rpartition(b"\r\n")[2])["bytes"] == size
    assert peak_memory(client) - before < 20_000_000


def peak_memory(client: Client) -> int:
    """The most memory that the app has had, in bytes."""
    assert client.process
    status = Path(f"/proc/{client.process.pid}/status")
    if not status.exists():
        pytest.skip("only Linux tells how much memory a process has had")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
    assert found
    return int(found[1]) * 1024


@pytest.mark.requirement(5)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_health_check_is_not_logged(log: "Log", method: str) -> None:
    assert log.client.request(method, "/health").status_code == 200

    assert log.requests(path="/health") == []


@pytest.mark.requirement(5)
def test_a_health_check_that_fails_is_logged(log: "Log") -> None:
    log.client.post("/health")

    entry = log.request(path="/health")
    assert (entry["status"], entry["level"]) == (405, "WARNING")


@pytest.mark.requirement(5)
def test_only_the_health_check_itself_is_left_out(log: "Log") -> None:
    for path in ("/health/", "/healthy", "/orders/health"):
        log.client.get(path)

    assert [entry["path"] for entry in log.requests()] == ["/health/", "/healthy", "/orders/health"]


def is_slow(entry: "Json") -> bool:
    return bool(entry["duration_ms"] >= 500)


@pytest.mark.requirement(5)
@pytest.mark.parametrize("is_sent", [True, False], ids=["sent", "new"])
def test_a_sample_is_chosen_by_the_request_id(served: "Serve", is_sent: bool) -> None:
    log = served(LOG_SAMPLE="0.3")
    headers = [{"X-Request-ID": f"sampled-{number:03}"} if is_sent else {} for number in range(40)]

    identifiers = [log.client.get("/slow?seconds=0", headers=sent).headers["X-Request-ID"] for sent in headers]

    chosen = {identifier for identifier in identifiers if zlib.crc32(identifier.encode()) / 2**32 < 0.3}
    log.lines(len(chosen), path="/slow")
    assert {entry["request_id"] for entry in log.requests(path="/slow") if not is_slow(entry)} <= chosen
    assert {entry["request_id"] for entry in log.requests(path="/slow")} >= chosen


@pytest.mark.requirement(5)
def test_without_a_setting_every_request_is_logged(log: "Log") -> None:
    for _ in range(20):
        log.client.get("/slow?seconds=0")

    assert len(log.requests(path="/slow")) == 20


@pytest.mark.requirement(5)
def test_successes_may_be_left_out_and_errors_never(served: "Serve") -> None:
    log = served(LOG_SAMPLE="0")

    for target in ("/slow?seconds=0", "/orders/999", "/fail", "/nowhere"):
        log.client.get(target)

    assert [entry["path"] for entry in log.requests() if entry["path"] != "/slow" or not is_slow(entry)] == [
        "/orders/999",
        "/fail",
        "/nowhere",
    ]


@pytest.mark.requirement(5)
def test_a_slow_request_is_always_logged(served: "Serve") -> None:
    log = served(LOG_SAMPLE="0")

    for seconds in (0.52, 0.4):
        log.client.get(f"/slow?seconds={seconds}")

    entries = [
        entry for entry in log.lines(1, path="/slow") if is_slow(entry) or entry["query"] == {"seconds": ["0.4"]}
    ]
    assert [(entry["query"], entry["level"]) for entry in entries if not is_slow(entry)] == []
    assert {"seconds": ["0.52"]} in [entry["query"] for entry in entries if entry["level"] == "INFO"]


@pytest.mark.requirement(5)
def test_an_answer_that_is_not_complete_is_always_logged(served: "Serve") -> None:
    log = served(LOG_SAMPLE="0")

    send_raw(log.client, head("POST", "/upload", "Content-Length: 100") + b"x", answered=False)

    assert log.request(path="/upload")["level"] == "WARNING"


@pytest.mark.requirement(5)
@pytest.mark.parametrize(
    "piece", ["a", "4 ", "4111 1111 1111 1112 ", "eyJ-", "eyJ", "token=[", "password", "token=' ", "a@a.", "://a"]
)
def test_no_header_keeps_the_app_busy_however_it_is_made(log: "Log", piece: str) -> None:
    note = (piece * 50_000)[:50_000].strip()

    send_raw(log.client, head("GET", "/orders/999", f"X-Note: {note}"))

    assert send_raw(log.client, head("GET", "/health")).startswith(b"HTTP/1.1 200")  # within seconds
    assert log.request()
