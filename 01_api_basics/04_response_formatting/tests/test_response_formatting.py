"""The specification of the envelope, requirement by requirement."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from httpx2 import Response

from grader.solution import Client, Solution, wait_until

Create = Callable[..., Any]
Json = dict[str, Any]

AS_JSON = {"Content-Type": "application/json"}
LARGEST_BODY = 65_536
# Traces of code: a traceback, a file, HTML, the text of the fault, the name of a class.
INTERNALS = re.compile(
    r"Traceback|\.py\b|notes\.db|disk is full|<[a-z!/]|\w(Error|Exception)\b|\b[A-Z][a-z]+([A-Z][a-z]+)+\b"
)


def envelope(response: Response) -> Json:
    """The answer's JSON, which must be an object that says that it is JSON."""
    content_type = response.headers.get("Content-Type", "")
    assert content_type.partition(";")[0].strip() == "application/json"
    parsed = response.json()
    assert isinstance(parsed, dict)
    return parsed


def data(response: Response) -> Any:
    """What a success carries."""
    assert response.is_success
    found = envelope(response)
    assert found.keys() - {"meta"} == {"status", "data"}
    assert found["status"] == "success"
    assert isinstance(found.get("meta", {}), dict)
    return found["data"]


def error(response: Response) -> Json:
    """What an error carries."""
    assert response.is_error
    found = envelope(response)
    assert found.keys() == {"status", "data", "error"}
    assert (found["status"], found["data"]) == ("error", None)
    error: Json = found["error"]
    assert error.keys() - {"fields"} == {"code", "message"}
    assert isinstance(error["message"], str)
    assert error["message"].strip()
    return error


def url(note: Json) -> str:
    return f"/notes/{note['id']}"


def note_of(size: int) -> bytes:
    """A valid note of that many bytes: blanks between the fields count as well."""
    start, end = b'{"title": "Large",', b'"text": ""}'
    return start + b" " * (size - len(start) - len(end)) + end


def in_chunks(body: bytes) -> Iterator[bytes]:
    """The body in pieces, which makes the client send no Content-Length."""
    for start in range(0, len(body), 10_000):
        yield body[start : start + 10_000]


class Kind(NamedTuple):
    """A kind of error: how to get it, its status and its code."""

    method: str
    path: str
    options: Json
    status: int
    code: str

    def get(self, client: Client) -> Response:
        return client.request(self.method, self.path, **self.options)


ERRORS = [
    pytest.param(
        Kind("POST", "/notes", {"content": "{", "headers": AS_JSON}, 400, "malformed_json"), id="malformed JSON"
    ),
    pytest.param(Kind("GET", "/nowhere", {}, 404, "route_not_found"), id="an unknown route"),
    pytest.param(Kind("GET", "/notes/999999", {}, 404, "note_not_found"), id="an unknown note"),
    pytest.param(Kind("DELETE", "/notes/999999", {}, 404, "note_not_found"), id="an unknown note that is deleted"),
    pytest.param(Kind("PUT", "/notes", {"json": {"title": "Milk"}}, 405, "method_not_allowed"), id="a wrong method"),
    pytest.param(Kind("POST", "/notes", {"data": {"title": "Milk"}}, 415, "unsupported_media_type"), id="a form"),
    pytest.param(Kind("POST", "/notes", {"json": {}}, 422, "validation_failed"), id="an invalid note"),
    pytest.param(Kind("GET", "/faults/unhandled", {}, 500, "internal_error"), id="a failure of the app"),
]

UNKNOWN_ROUTES = [
    *("/", "/nowhere", "/notes/", "/notes//", "/notes//1", "/latest/", "/notes/1/2", "/NOTES"),
    *("/static/app.css", "/static/", "/favicon.ico", "/faults", "/faults/unhandled/", "/%00", "/%ff"),
]


# 1. The structure.


@pytest.mark.requirement(1)
def test_every_success_with_a_body_is_in_the_envelope(client: Client, create: Create) -> None:
    path = url(create())

    created = client.post("/notes", json={"title": "Bread"})
    fetched = [client.get("/notes"), client.get("/latest"), client.get(path)]

    for response in (created, *fetched):
        data(response)


@pytest.mark.requirement(1)
@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_is_in_the_envelope(client: Client, kind: Kind) -> None:
    response = kind.get(client)

    error(response)


@pytest.mark.requirement(1)
@pytest.mark.parametrize("path", UNKNOWN_ROUTES)
def test_a_url_that_nobody_thought_of_is_a_404_in_the_envelope_and_no_redirect(client: Client, path: str) -> None:
    responses = [client.get(path), client.delete(path)]

    assert [response.status_code for response in responses] == [404, 404]
    assert {error(response)["code"] for response in responses} == {"route_not_found"}


@pytest.mark.requirement(1)
@pytest.mark.parametrize("path", ["/notes", "/notes/1"])
@pytest.mark.parametrize("method", ["PATCH", "TRACE", "PROPFIND"])
def test_a_method_that_a_url_lacks_is_answered_in_the_envelope(client: Client, method: str, path: str) -> None:
    response = client.request(method, path)

    assert response.status_code == 405
    error(response)


@pytest.mark.requirement(1)
@pytest.mark.parametrize("path", ["/notes", "/notes/1"])
def test_options_does_not_escape_the_envelope(client: Client, path: str) -> None:
    response = client.options(path)

    assert response.status_code in (200, 204, 405)
    if response.status_code == 204:
        assert response.content == b""
    elif response.status_code == 200:
        assert data(response) is None
    else:
        error(response)


@pytest.mark.requirement(1)
def test_the_route_that_fails_is_an_unknown_one_outside_of_tests(empty: Client) -> None:
    response = empty.get("/faults/unhandled")

    assert response.status_code == 404
    assert error(response)["code"] == "route_not_found"


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "name, value",
    [
        pytest.param("If-Match", '"other"', id="If-Match"),
        pytest.param("If-Match", "*", id="If-Match, any"),
        pytest.param("If-Unmodified-Since", "Mon, 01 Jan 2024 00:00:00 GMT", id="If-Unmodified-Since"),
        pytest.param("If-Modified-Since", "Mon, 01 Jan 2024 00:00:00 GMT", id="If-Modified-Since"),
        pytest.param("Range", "bytes=0-3", id="Range"),
        pytest.param("Range", "bytes=9999-", id="a Range that is not there"),
        pytest.param("Accept", "text/html", id="Accept"),
    ],
)
def test_status_and_envelope_agree_whatever_the_headers_ask(
    client: Client, create: Create, name: str, value: str
) -> None:
    response = client.get(url(create()), headers={name: value})

    if response.is_error:
        error(response)
    elif response.status_code != 304:
        data(response)


@pytest.mark.requirement(1)
def test_fields_are_only_where_single_fields_are_wrong(client: Client) -> None:
    assert "fields" not in error(client.get("/nowhere"))
    assert "fields" not in error(client.get("/notes/999999"))


# 2. The errors.


@pytest.mark.requirement(2)
@pytest.mark.parametrize("kind", ERRORS)
def test_every_kind_of_error_has_its_status_and_its_code(client: Client, kind: Kind) -> None:
    response = kind.get(client)

    assert (response.status_code, error(response)["code"]) == (kind.status, kind.code)


@pytest.mark.requirement(2)
@pytest.mark.parametrize("kind", ERRORS)
def test_no_error_shows_anything_of_the_inside(client: Client, kind: Kind) -> None:
    response = kind.get(client)

    assert not INTERNALS.search(json.dumps(error(response)))


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "method, path, allowed",
    [
        pytest.param("PUT", "/notes", {"GET", "HEAD", "POST"}, id="the list"),
        pytest.param("POST", "/notes/1", {"GET", "HEAD", "DELETE"}, id="a note"),
        pytest.param("PATCH", "/notes/999999", {"GET", "HEAD", "DELETE"}, id="a note that does not exist"),
    ],
)
def test_a_405_lists_all_methods_of_the_url(client: Client, method: str, path: str, allowed: set[str]) -> None:
    response = client.request(method, path)

    error(response)
    assert set(response.headers["Allow"].replace(" ", "").split(",")) >= allowed
    assert method not in response.headers["Allow"]


@pytest.mark.requirement(2)
@pytest.mark.parametrize("framing", ["with a Content-Length", "in chunks"])
def test_a_body_of_65536_bytes_is_taken_and_one_byte_more_is_413(client: Client, framing: str) -> None:
    fits, too_large = note_of(LARGEST_BODY), note_of(LARGEST_BODY + 1)
    send = in_chunks if framing == "in chunks" else bytes

    taken = client.post("/notes", content=send(fits), headers=AS_JSON)
    refused = client.post("/notes", content=send(too_large), headers=AS_JSON)

    assert taken.status_code == 201
    assert (refused.status_code, error(refused)["code"]) == (413, "content_too_large")


@pytest.mark.requirement(2)
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""])
def test_a_body_that_is_not_declared_as_json_is_415(client: Client, content_type: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}

    response = client.post("/notes", content='{"title": "Milk"}', headers=headers)

    assert (response.status_code, error(response)["code"]) == (415, "unsupported_media_type")


@pytest.mark.requirement(2)
@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_may_be_declared_in_other_words(client: Client, content_type: str) -> None:
    response = client.post("/notes", content='{"title": "Milk"}', headers={"Content-Type": content_type})

    assert data(response)["title"] == "Milk"


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b'{"title": "Milk"', id="cut short"),
        pytest.param(b"{'title': 'Milk'}", id="single quotes"),
        pytest.param(b'{"title": "Milk"} {}', id="two values"),
        pytest.param(b"title=Milk", id="a form"),
        pytest.param(b'{"title": "\xff"}', id="no UTF-8"),
    ],
)
def test_a_body_that_is_no_json_is_400(client: Client, body: bytes) -> None:
    response = client.post("/notes", content=body, headers=AS_JSON)

    assert (response.status_code, error(response)["code"]) == (400, "malformed_json")


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param('{"title": NaN}', id="NaN"),
        pytest.param('{"title": "Milk", "text": 1e999}', id="a number beyond a float"),
        pytest.param('{"title": ' + "9" * 5000 + "}", id="a number of 5,000 digits"),
        pytest.param(r'{"title": "\ud800"}', id="half a surrogate"),
        pytest.param(r'{"title": "Milk", "\ud800": 1}', id="half a surrogate as a field"),
        pytest.param("[" * 60_000, id="deep nesting"),
        pytest.param('{"title": "Milk", "x": ' + "[" * 30_000 + "]" * 30_000 + "}", id="deep nesting in a field"),
    ],
)
def test_what_a_parser_trips_over_is_400_or_422(client: Client, body: str) -> None:
    response = client.post("/notes", content=body, headers=AS_JSON)

    assert response.status_code in (400, 422)
    assert not INTERNALS.search(json.dumps(error(response)))


INVALID = [
    pytest.param({}, {"title"}, id="no title"),
    pytest.param({"title": ""}, {"title"}, id="an empty title"),
    pytest.param({"title": " \n\t"}, {"title"}, id="a blank title"),
    pytest.param({"title": "x" * 101}, {"title"}, id="a title of 101 characters"),
    pytest.param({"title": 7}, {"title"}, id="a number as title"),
    pytest.param({"title": None}, {"title"}, id="null as title"),
    pytest.param({"title": "Milk", "text": "x" * 5_001}, {"text"}, id="a text of 5,001 characters"),
    pytest.param({"title": "Milk", "text": None}, {"text"}, id="null as text"),
    pytest.param({"title": "Milk", "text": {"a": "b"}}, {"text"}, id="an object as text"),
    pytest.param({"title": "Milk", "id": 7}, {"id"}, id="an id"),
    pytest.param({"titel": "Milk"}, {"title", "titel"}, id="a field that nobody knows"),
    pytest.param({"title": " ", "text": 7, "colour": "red"}, {"title", "text", "colour"}, id="three at once"),
    pytest.param([{"title": "Milk"}], {""}, id="a list"),
    pytest.param("Milk", {""}, id="a string"),
    pytest.param(None, {""}, id="null"),
]


@pytest.mark.requirement(2)
@pytest.mark.parametrize("body, wrong", INVALID)
def test_a_422_tells_for_every_wrong_field_what_is_wrong(client: Client, body: object, wrong: set[str]) -> None:
    response = client.post("/notes", content=json.dumps(body), headers=AS_JSON)

    assert response.status_code == 422
    problem = error(response)
    assert {each["field"] for each in problem["fields"]} == wrong
    assert all(each.keys() == {"field", "message"} and each["message"].strip() for each in problem["fields"])
    assert not INTERNALS.search(json.dumps(problem))


@pytest.mark.requirement(2)
def test_a_note_at_its_limits_is_valid_however_it_is_escaped(client: Client) -> None:
    note = {"title": "👋" * 100, "text": "👋" * 5_000}

    response = client.post("/notes", content=json.dumps(note), headers=AS_JSON)

    created = data(response)
    assert {name: created[name] for name in note} == note


@pytest.mark.requirement(2)
@pytest.mark.parametrize("note_id", ["0", "-1", "1.5", "abc", "9" * 30, "9" * 5000, "%00", "%ff", "٣", "None"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_id_that_cannot_be_one_is_404(client: Client, method: str, note_id: str) -> None:
    response = client.request(method, f"/notes/{note_id}")

    assert response.status_code == 404
    assert not INTERNALS.search(json.dumps(error(response)))


@pytest.mark.requirement(2)
@pytest.mark.parametrize("spelling", ["0{}", "+{}", "{}.0", "%20{}", "{}%20", "{}_", "0x{}"])
def test_an_id_has_one_spelling(client: Client, create: Create, spelling: str) -> None:
    note = create()

    assert client.get(f"/notes/{spelling.format(note['id'])}").status_code == 404
    assert client.delete(f"/notes/{spelling.format(note['id'])}").status_code == 404
    assert client.get(url(note)).status_code == 200


@pytest.mark.requirement(2)
def test_digits_of_another_script_are_no_id(client: Client, create: Create) -> None:
    number = str(create()["id"]).translate({48 + digit: 0x660 + digit for digit in range(10)})

    assert client.get(f"/notes/{number}").status_code == 404


@pytest.mark.requirement(2)
def test_debug_switches_do_not_open_a_500(solution: Solution) -> None:
    client = solution.serve(ENVIRONMENT="testing", FLASK_DEBUG="1", DEBUG="1", PYTHONDEVMODE="1")

    response = client.get("/faults/unhandled")

    assert (response.status_code, error(response)["code"]) == (500, "internal_error")
    assert not INTERNALS.search(response.text)


@pytest.mark.requirement(2)
def test_the_traceback_of_a_500_is_in_the_log(solution: Solution) -> None:
    client = solution.serve(isolated=True, ENVIRONMENT="testing")

    response = client.get("/faults/unhandled")

    assert response.status_code == 500
    wait_until(lambda: "Traceback" in client.output and "disk is full" in client.output, 5, "no traceback is logged")


# 3. The successes.


@pytest.mark.requirement(3)
def test_an_empty_list_is_data(empty: Client) -> None:
    response = empty.get("/notes")

    assert data(response) == []
    assert response.json()["meta"]["count"] == 0


@pytest.mark.requirement(3)
def test_null_is_data(empty: Client) -> None:
    response = empty.get("/latest")

    assert response.status_code == 200
    assert data(response) is None


@pytest.mark.requirement(3)
def test_a_created_note_is_the_data_and_location_leads_to_it(client: Client) -> None:
    response = client.post("/notes", json={"title": "Milk"})

    assert response.status_code == 201
    note = data(response)
    assert isinstance(note["id"], int)
    assert note == {"id": note["id"], "title": "Milk", "text": ""}
    assert data(client.get(response.headers["Location"])) == note


@pytest.mark.requirement(3)
def test_the_list_has_every_note_and_its_count(client: Client, create: Create) -> None:
    notes = [create(title) for title in ("Milk", "Bread", "Salt")]

    response = client.get("/notes")

    listed = data(response)
    assert [note for note in listed if note in notes] == notes
    assert response.json()["meta"]["count"] == len(listed)


@pytest.mark.requirement(3)
def test_the_latest_note_is_the_one_that_came_last(client: Client, create: Create) -> None:
    create("Milk")
    last = create("Bread")

    response = client.get("/latest")

    assert data(response) == last


@pytest.mark.requirement(3)
def test_the_latest_note_is_never_one_that_was_deleted(client: Client, create: Create) -> None:
    milk, bread = create("Milk"), create("Bread")
    client.delete(url(bread))

    assert data(client.get("/latest")) == milk


@pytest.mark.requirement(3)
def test_an_id_is_never_given_twice(client: Client, create: Create) -> None:
    milk, bread = create("Milk"), create("Bread")
    client.delete(url(milk))

    salt = create("Salt")

    assert salt["id"] not in (milk["id"], bread["id"])
    assert data(client.get(url(bread))) == bread


@pytest.mark.requirement(3)
def test_deleting_is_a_204_without_a_body_and_then_a_404(client: Client, create: Create) -> None:
    path = url(create())

    deleted, again = client.delete(path), client.delete(path)

    assert (deleted.status_code, deleted.content) == (204, b"")
    assert error(again)["code"] == "note_not_found"
    assert error(client.get(path))["code"] == "note_not_found"


@pytest.mark.requirement(3)
@pytest.mark.parametrize("path", ["/notes", "/latest", "/notes/{id}"])
@pytest.mark.parametrize("form", ["{etag}", "W/{etag}", '"other", {etag}', "*"])
def test_what_the_client_has_already_is_a_304_without_a_body(
    client: Client, create: Create, path: str, form: str
) -> None:
    path = path.format(id=create()["id"])
    etag = client.get(path).headers["ETag"]
    headers = {"If-None-Match": form.format(etag=etag.removeprefix("W/"))}

    responses = [client.get(path, headers=headers), client.head(path, headers=headers)]

    assert [(response.status_code, response.content) for response in responses] == [(304, b"")] * 2
    assert {response.headers["ETag"] for response in responses} == {etag}


@pytest.mark.requirement(3)
@pytest.mark.parametrize("value", ['"other"', '"*"', '"a*b"', '"x{tag}"', '"{tag}x"'])
def test_another_etag_is_no_304(client: Client, create: Create, value: str) -> None:
    path = url(create())
    etag = client.get(path).headers["ETag"]
    assert re.fullmatch(r'(W/)?"[!#-~]*"', etag)

    response = client.get(path, headers={"If-None-Match": value.format(tag=etag.removeprefix("W/").strip('"'))})

    assert response.status_code == 200


@pytest.mark.requirement(3)
def test_what_has_changed_since_is_sent_again(client: Client, create: Create) -> None:
    create("Milk")
    etag = client.get("/latest").headers["ETag"]
    bread = create("Bread")

    response = client.get("/latest", headers={"If-None-Match": etag})

    assert response.status_code == 200
    assert data(response) == bread


@pytest.mark.requirement(3)
@pytest.mark.parametrize("path, status", [("/notes/999999", 404), ("/nowhere", 404), ("/faults/unhandled", 500)])
def test_an_error_is_never_a_304(client: Client, path: str, status: int) -> None:
    response = client.get(path, headers={"If-None-Match": "*"})

    assert response.status_code == status
    error(response)


@pytest.mark.requirement(3)
@pytest.mark.parametrize("path", ["/notes", "/latest", "/notes/{id}", "/notes/999999", "/faults/unhandled"])
def test_head_is_get_without_the_body(client: Client, create: Create, path: str) -> None:
    path = path.format(id=create()["id"])

    head, get = client.head(path), client.get(path)

    assert (head.status_code, head.content) == (get.status_code, b"")
    for name in ("Content-Type", "Content-Length", "ETag"):
        assert head.headers.get(name) == get.headers.get(name)
