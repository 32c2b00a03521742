"""The specification of uploading to cloud storage, continued: signed forms and links, and uploads in parts."""

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from storage_client import (
    LARGE,
    MIB,
    PART,
    PDF,
    PNG,
    SMALL,
    Json,
    begun,
    break_off,
    content,
    digest,
    files_in,
    head,
    listed,
    part_of,
    promise,
    put_part,
    send_form,
    signed_form,
    uploaded,
)

from grader.solution import Client

if TYPE_CHECKING:
    from conftest import Bucket
    from s3_verifier import S3Verifier

Serve = Callable[..., Client]


# 4. Signed forms and links.


@pytest.mark.requirement(4)
def test_what_a_form_sends_becomes_a_file_when_its_owner_confirms_it(
    client: Client, bucket: "Bucket", outside: httpx2.Client, category: str, bob: dict[str, str]
) -> None:
    form = signed_form(client, category, filename="été.pdf")
    confirm = f"/files/{form['id']}/confirm"
    early = client.post(confirm)
    refused = send_form(outside, form)
    theirs = client.post(confirm, headers=bob)
    listed_before = files_in(client, category)

    answers = [client.post(confirm) for _ in range(2)]
    send_form(outside, form)
    answers.append(client.post(confirm))

    assert (early.status_code, refused, theirs.status_code, listed_before) == (404, "", 404, [])
    assert {answer.status_code for answer in answers} <= {200, 201}
    file: Json = answers[0].json()
    assert [answer.json() for answer in answers] == [file] * 3
    assert listed(client, listed(client, category)["folders"][0])["files"] == [file]
    assert file["filename"] == "été.pdf"
    assert client.get(answers[0].headers["Location"]).content == SMALL
    assert [key for key in bucket.objects() if category in key] == list(bucket.objects(f"files/anna/{category}/"))


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "body, fields, codes",
    [
        pytest.param(SMALL + b"x", {}, "EntityTooLarge", id="a byte more"),
        pytest.param(SMALL[:-1], {}, "EntityTooSmall BadDigest", id="a byte less"),
        pytest.param(SMALL[:-1] + b"x", {}, "BadDigest", id="other content"),
        pytest.param(SMALL, {"Content-Type": "text/html"}, "AccessDenied", id="another type"),
        pytest.param(SMALL, {"key": "files/bob/stolen"}, "AccessDenied", id="another key"),
        pytest.param(SMALL, {"acl": "public-read"}, "AccessDenied", id="public"),
        pytest.param(SMALL, {"x-amz-meta-owner": "bob"}, "AccessDenied", id="other metadata"),
        pytest.param(SMALL, {"x-amz-meta-filename": "other.pdf"}, "AccessDenied", id="another name"),
        pytest.param(SMALL, {"success_action_redirect": "https://example.com"}, "AccessDenied", id="a redirect"),
    ],
)
def test_s3_refuses_what_a_form_does_not_promise(  # noqa: PLR0917  the table has three columns
    client: Client, outside: httpx2.Client, category: str, body: bytes, fields: dict[str, str], codes: str
) -> None:
    form = signed_form(client, category)

    code = send_form(outside, form, body, **fields)

    assert code in codes.split()
    assert client.post(f"/files/{form['id']}/confirm").status_code == 404


@pytest.mark.requirement(4)
def test_a_form_is_for_one_key_only(client: Client, outside: httpx2.Client, category: str) -> None:
    form = signed_form(client, category)
    key = form["fields"]["key"]

    codes = [send_form(outside, form, key=other) for other in (f"{key}x", key[:-1], key.rpartition("/")[0] + "/x")]

    assert codes == ["AccessDenied"] * 3


@pytest.mark.requirement(4)
def test_a_form_can_be_sent_for_some_minutes(
    client: Client, outside: httpx2.Client, s3: "S3Verifier", category: str
) -> None:
    form = signed_form(client, category)

    with s3.later(601):
        late = send_form(outside, form)
    with s3.later(50):
        early = send_form(outside, form)

    assert (late, early) == ("AccessDenied", "")
    assert 60 <= form["expires_in"] <= 600


@pytest.mark.requirement(4)
@pytest.mark.parametrize("sha256", ["", "0" * 63, "0" * 65, "g" * 64, "A" * 64, None, 1])
def test_a_form_needs_a_sha256(client: Client, category: str, sha256: Any) -> None:
    response = client.post("/files/presign", json=promise(category, sha256=sha256))

    assert response.status_code == 422


@pytest.mark.requirement(4)
@pytest.mark.parametrize("body", [b"<!doctype html>", content(300, PNG)], ids=["a page", "a png"])
def test_a_form_or_a_part_does_not_bring_in_another_type_than_was_promised(
    client: Client, bucket: "Bucket", outside: httpx2.Client, category: str, body: bytes
) -> None:
    form = signed_form(client, category, body)
    send_form(outside, form, body)
    path = begun(client, category, len(body))

    confirmed = client.post(f"/files/{form['id']}/confirm")
    part = client.put(f"{path}/parts/1", content=body, headers=digest(body))

    assert (confirmed.status_code, part.status_code) == (415, 415)
    assert files_in(client, category) == []
    assert not [key for key in bucket.objects() if category in key and bucket.read(key) == body]


@pytest.mark.requirement(4)
def test_what_is_not_confirmed_lies_where_a_lifecycle_rule_removes_it(
    client: Client, outside: httpx2.Client, bucket: "Bucket", category: str, ready: "Bucket"
) -> None:
    before = bucket.objects()

    send_form(outside, signed_form(client, category))
    begun(client, category)

    left = bucket.objects() - before
    assert not [key for key in left if not key.startswith(tuple(ready.expiring_prefixes()))]


@pytest.mark.requirement(4)
def test_a_link_works_for_a_minute(client: Client, outside: httpx2.Client, s3: "S3Verifier", kept: str) -> None:
    answer = client.get(f"{kept}/link")

    with s3.later(40):
        early = outside.get(answer.headers["Location"])
    with s3.later(62):
        late = outside.get(answer.headers["Location"])

    assert answer.status_code in (302, 303, 307)
    assert "no-store" in answer.headers["Cache-Control"]
    assert (early.status_code, early.content) == (200, SMALL)
    assert late.status_code == 403


@pytest.mark.requirement(4)
def test_a_link_opens_no_other_file(
    client: Client, outside: httpx2.Client, bucket: "Bucket", category: str, kept: str
) -> None:
    link = client.get(f"/files/{uploaded(client, category)['id']}/link").headers["Location"]
    (key,) = bucket.objects(f"files/anna/{category}/")
    (wanted,) = bucket.objects("files/anna/kept/")

    others = [outside.get(link.replace(key, wanted)), outside.get(link.partition("?")[0]), outside.delete(link)]

    assert key in link
    assert client.get(kept).status_code == 200
    assert [answer.status_code for answer in others] == [403, 403, 403]


# 6. Large files: in parts, resumable.


@pytest.mark.requirement(6)
def test_parts_in_any_order_become_the_file(client: Client, bucket: "Bucket", s3: "S3Verifier", category: str) -> None:
    path = begun(client, category, filename="film.pdf")
    progress = [client.get(path).json()]
    statuses, early = [put_part(client, path, 2)], client.post(f"{path}/complete")
    progress.append(client.get(path).json())
    statuses.append(put_part(client, path, 1))
    progress.append(client.get(path).json())
    before = files_in(client, category)

    response = client.post(f"{path}/complete")

    assert [(each["parts"], each["missing"]) for each in progress] == [([], [1, 2]), ([2], [1]), ([1, 2], [])]
    assert [each["received"] for each in progress] == [0, 1000, len(LARGE)]
    assert progress[0] | {"filename": "film.pdf", "size": len(LARGE), "part_bytes": PART} == progress[0]
    assert (statuses, early.status_code, before) == ([204, 204], 409, [])
    assert response.status_code in (200, 201)
    assert response.json()["filename"] == "film.pdf"
    assert files_in(client, category) == [response.json()["id"]]
    assert client.get(response.headers["Location"]).content == LARGE
    assert all("x-amz-checksum-sha256" in request.headers for request in s3.requests("PutObject UploadPart", category))
    assert [key for key in bucket.objects() if category in key] == list(bucket.objects(f"files/anna/{category}/"))


@pytest.mark.requirement(6)
def test_only_missing_parts_are_sent_again_after_a_cut_and_to_another_instance(
    client: Client, restart: Serve, s3: "S3Verifier", category: str
) -> None:
    first = restart()
    path = begun(first, category)
    put_part(first, path, 2)
    break_off(first, "PUT", f"{path}/parts/1", PART, part_of(LARGE, 1)[: 2 * MIB])
    after_the_cut = first.get(path).json()["missing"]
    with socket.create_connection(first.address, timeout=5) as connection:
        connection.sendall(head(first, "PUT", f"{path}/parts/1", PART) + PDF)
        assert first.process
        first.process.kill()

    missing = client.get(path).json()["missing"]
    put_part(client, path, 1)
    response = client.post(f"{path}/complete")

    assert after_the_cut == missing == [1]
    assert client.get(response.headers["Location"]).content == LARGE
    assert sum(request.size for request in s3.requests("UploadPart", category)) == len(LARGE)


@pytest.mark.requirement(6)
def test_a_part_can_be_sent_again_until_the_upload_is_complete(client: Client, category: str) -> None:
    first, second = content(500, PNG), content(500, PNG)
    path = begun(client, category, 500, content_type="image/png")

    statuses = [put_part(client, path, 1, body) for body in (first, second)]
    received = client.get(path).json()["received"]
    location = client.post(f"{path}/complete").headers["Location"]
    late = put_part(client, path, 1, first)

    assert (statuses, received) == ([204, 204], 500)
    assert late in (404, 409)
    assert client.get(location).content == second
    assert client.head(location).headers["Content-Type"] == "image/png"


@pytest.mark.requirement(6)
def test_a_part_that_is_not_what_it_should_be_is_refused(client: Client, category: str) -> None:
    path, body = begun(client, category), PDF + bytes(PART - len(PDF)) + SMALL
    for number in (1, 2):
        put_part(client, path, number, body)
    cases: list[tuple[int, bytes, dict[str, str], set[int]]] = [
        (2, SMALL, {}, {400}),
        (2, SMALL[:-1] + b"x", digest(SMALL), {400}),
        (2, SMALL[:-1], digest(SMALL[:-1]), {413, 422}),
        (2, SMALL + b"x", digest(SMALL + b"x"), {413, 422}),
        (2, b"", digest(b""), {413, 422}),
        (1, SMALL, digest(SMALL), {413, 422}),
        *[(number, SMALL, digest(SMALL), {404, 422}) for number in (0, 3, -1, 10001, 2**70)],
    ]

    answers = [client.put(f"{path}/parts/{each[0]}", content=each[1], headers=each[2]) for each in cases]

    wrong = [(each, answer.status_code) for each, answer in zip(cases, answers, strict=True)]
    assert not [(each, status) for each, status in wrong if status not in each[3]]
    assert client.get(client.post(f"{path}/complete").headers["Location"]).content == body


@pytest.mark.requirement(6)
@pytest.mark.parametrize("kind", ["", "lose_answer"])
def test_completing_again_answers_the_same(client: Client, s3: "S3Verifier", category: str, kind: str) -> None:
    path = begun(client, category, len(SMALL))
    put_part(client, path, 1, SMALL)

    with s3.fails(kind, "CompleteMultipartUpload", 1 if kind else 0):
        answers = [client.post(f"{path}/complete") for _ in range(2)]

    assert {answer.status_code for answer in answers} <= {200, 201}
    assert answers[0].json() == answers[1].json()
    assert files_in(client, category) == [answers[0].json()["id"]]


@pytest.mark.requirement(6)
def test_an_aborted_upload_leaves_nothing(client: Client, bucket: "Bucket", category: str) -> None:
    before = bucket.everything()
    path = begun(client, category)
    put_part(client, path, 2)

    response = client.delete(path)

    assert response.status_code == 204
    assert bucket.everything() == before
    again = [client.get(path), client.post(f"{path}/complete"), client.delete(path)]
    assert [answer.status_code for answer in again] == [404, 404, 404]
    assert put_part(client, path, 2) == 404


@pytest.mark.requirement(6)
@pytest.mark.parametrize("times", [0, 9], ids=["complete", "complete, and then S3 failed"])
def test_a_complete_upload_cannot_be_aborted(client: Client, s3: "S3Verifier", category: str, times: int) -> None:
    path = begun(client, category, len(SMALL))
    put_part(client, path, 1, SMALL)
    with s3.fails("deny", "DeleteObject DeleteObjects", times):
        client.post(f"{path}/complete", timeout=20)

    response = client.delete(path)

    assert response.status_code in (404, 409)
    (file,) = files_in(client, category)
    assert client.get(f"/files/{file}").content == SMALL
