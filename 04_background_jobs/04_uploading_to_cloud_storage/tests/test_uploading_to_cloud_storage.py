"""The specification of uploading to cloud storage: the bucket, the app itself and its files. See also the next file."""

import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

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
    described,
    digest,
    files_in,
    head,
    listed,
    part_of,
    promise,
    upload,
    uploaded,
)

from grader.solution import Client, Solution, wait_until

if TYPE_CHECKING:
    from conftest import Bucket
    from s3_verifier import S3Verifier

Serve = Callable[..., Client]
Command = Callable[..., None]

PAGE = b"<!doctype html><script>alert(document.cookie)</script>"
BEGINNINGS = {
    "application/pdf": PDF,
    "image/jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
    "image/png": PNG,
    "video/mp4": b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom",
}


# 1. A bucket, set up and configured.


@pytest.mark.requirement(1)
def test_the_bucket_is_closed_encrypted_without_acls_and_in_its_region(ready: "Bucket") -> None:
    blocks, encryption, ownership, _ = configuration(ready)

    names = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
    assert {name: blocks[name] for name in names} == dict.fromkeys(names, True)
    by_default = encryption["Rules"][0]["ApplyServerSideEncryptionByDefault"]
    assert by_default["SSEAlgorithm"] in ("AES256", "aws:kms")
    assert [rule["ObjectOwnership"] for rule in ownership["Rules"]] == ["BucketOwnerEnforced"]
    assert ready.api.get_bucket_location(Bucket=ready.name)["LocationConstraint"] == "eu-central-1"


@pytest.mark.requirement(1)
def test_abandoned_multipart_uploads_are_aborted_within_a_week(ready: "Bucket") -> None:
    rules = [rule for rule in ready.lifecycle() if ready.prefix_of(rule) == ""]

    aborts = [rule["AbortIncompleteMultipartUpload"] for rule in rules if "AbortIncompleteMultipartUpload" in rule]
    assert min((abort["DaysAfterInitiation"] for abort in aborts), default=99) <= 7


@pytest.mark.requirement(1)
def test_no_lifecycle_rule_removes_files(ready: "Bucket") -> None:
    expiring = ready.expiring_prefixes()

    assert not [prefix for prefix in expiring if "files/".startswith(prefix) or prefix.startswith("files/")]


@pytest.mark.requirement(1)
def test_a_bucket_that_somebody_else_made_in_the_first_region_is_configured(
    new_bucket: "Bucket", set_up: Command
) -> None:
    new_bucket.api.create_bucket(Bucket=new_bucket.name)

    set_up(new_bucket, AWS_DEFAULT_REGION="us-east-1")

    assert configuration(new_bucket)[0]["BlockPublicAcls"]
    assert new_bucket.lifecycle()


@pytest.mark.requirement(1)
def test_setting_up_a_bucket_that_exists_keeps_the_files_and_restores_what_was_changed(
    ready: "Bucket", new_bucket: "Bucket", set_up: Command
) -> None:
    api, name = new_bucket.api, new_bucket.name
    api.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    api.put_object(Bucket=name, Key="files/anna/kept", Body=b"kept")
    ownership = {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
    api.put_bucket_ownership_controls(Bucket=name, OwnershipControls=ownership)
    rule = {"ID": "a", "Status": "Enabled", "Filter": {"Prefix": "files/"}, "Expiration": {"Days": 1}}
    api.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [rule]})

    set_up(new_bucket)

    assert configuration(new_bucket) == configuration(ready)
    assert new_bucket.objects() == {"files/anna/kept"}


def configuration(bucket: "Bucket") -> list[Any]:
    where = {"Bucket": bucket.name}
    return [
        bucket.api.get_public_access_block(**where)["PublicAccessBlockConfiguration"],
        bucket.api.get_bucket_encryption(**where)["ServerSideEncryptionConfiguration"],
        bucket.api.get_bucket_ownership_controls(**where)["OwnershipControls"],
        sorted(repr(sorted({**rule, "ID": ""}.items())) for rule in bucket.lifecycle()),
    ]


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "arguments, changes",
    [
        pytest.param(["setup"], {"S3_BUCKET": None}, id="no bucket"),
        pytest.param(["setup"], {"OWNER_TOKENS": None}, id="no tokens"),
        pytest.param([], {"OWNER_TOKENS": None, "PORT": "0"}, id="no tokens when serving"),
        pytest.param([], {"PORT": "99999"}, id="no port"),
        pytest.param(["setup"], {"OWNER_TOKENS": "{}"}, id="no owner"),
        pytest.param(["setup"], {"OWNER_TOKENS": '{"anna": "short"}'}, id="a token of five characters"),
        pytest.param(
            ["setup"], {"OWNER_TOKENS": '{"../bob": "long-enough-to-be-a-token"}'}, id="an owner with a slash"
        ),
        pytest.param(["setup"], {"OWNER_TOKENS": '{"anna": "a-token-of-anna-the-first"'}, id="no JSON"),
        pytest.param(
            ["setup"],
            {"OWNER_TOKENS": '{"anna": "one-token-for-both", "bob": "one-token-for-both"}'},
            id="equal tokens",
        ),
        pytest.param(
            ["setup"], {"OWNER_TOKENS": '{"Bob": "a-token-of-bob-number-1", "anna": "x-token-of-anna-1"}'}, id="one bad"
        ),
        pytest.param(["setup"], {"MAX_FILE_BYTES": str(5 * 1024 * MIB + 1)}, id="files that are too large for S3"),
        pytest.param(["setup"], {"MAX_FILE_BYTES": "0"}, id="no bytes"),
        pytest.param(["setup"], {"PART_BYTES": str(64 * MIB + 1)}, id="parts that are too large"),
        pytest.param(["setup"], {"PART_BYTES": str(PART - 1)}, id="parts that are too small for S3"),
    ],
)
def test_a_missing_or_wrong_variable_is_an_error_that_does_not_show_tokens(
    solution: Solution, environment: Json, arguments: list[str], changes: dict[str, str | None]
) -> None:
    finished = solution.run(*arguments, **{**environment, **changes})

    assert finished.exit_code != 0
    assert finished.stderr.strip()
    assert "Traceback" not in finished.stderr
    tokens = re.findall(r"[\w-]{16,}", str((environment | changes)["OWNER_TOKENS"]))
    assert not [token for token in tokens if token in finished.stderr]


# 2. Uploads through the app, streamed.


@pytest.mark.requirement(2)
@pytest.mark.parametrize("body", [SMALL, content(PART), LARGE], ids=["small", "one part", "two parts"])
def test_what_is_uploaded_is_in_the_bucket_and_came_with_checksums(
    client: Client, bucket: "Bucket", s3: "S3Verifier", category: str, body: bytes
) -> None:
    response = upload(client, category, body, "bill.pdf", headers=digest(body))

    file = response.json()
    assert response.status_code == 201
    assert response.headers["Location"] == f"/files/{file['id']}"
    assert file | {"filename": "bill.pdf", "category": category, "size": len(body)} == file
    (key,) = bucket.objects(f"files/anna/{category}/")
    assert bucket.api.get_object(Bucket=bucket.name, Key=key)["Body"].read() == body
    sent = s3.requests("PutObject UploadPart", category)
    assert sent
    assert all("x-amz-checksum-sha256" in request.headers for request in sent)


@pytest.mark.requirement(2)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of a process's memory from /proc")
def test_memory_does_not_grow_with_the_file(restart: Serve, category: str) -> None:
    client = restart()
    uploaded(client, category, LARGE)
    before = peak_memory(client)

    def pieces() -> Iterator[bytes]:
        yield PDF
        yield from (bytes(MIB) for _ in range(32))

    file = uploaded(client, category, pieces())
    with client.stream("GET", f"/files/{file['id']}") as answer:
        size = sum(len(chunk) for chunk in answer.iter_raw())

    assert size == file["size"]
    assert peak_memory(client) - before < 28 * MIB


def peak_memory(client: Client) -> int:
    """The most memory that the server has ever had, in bytes."""
    assert client.process
    status = Path(f"/proc/{client.process.pid}/status").read_text(encoding="ascii")
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024


@pytest.mark.requirement(2)
def test_an_upload_that_breaks_off_leaves_nothing(restart: Serve, bucket: "Bucket", category: str) -> None:
    client, before = restart(), bucket.everything()

    for sent in (SMALL, LARGE):  # in the first part, in a later one
        break_off(client, "POST", f"/files?category={category}&filename=a.pdf", 3 * PART, sent)
        chunk = f"{len(sent):x}\r\n".encode() + sent + b"\r\n"
        break_off(client, "POST", f"/files?category={category}&filename=a.pdf", None, chunk)

    client.get("/files")
    client.stop()  # it ends its requests first: what is in the bucket now stays
    assert bucket.everything() == before


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "kind, operations, body",
    [("cut", "PutObject", SMALL), ("lose_answer", "PutObject", SMALL), ("slow_down", "UploadPart", LARGE)],
)
def test_one_failure_on_the_way_to_s3_goes_unnoticed(  # noqa: PLR0917  the table has three columns
    client: Client, s3: "S3Verifier", category: str, kind: str, operations: str, body: bytes
) -> None:
    with s3.fails(kind, operations):
        file = uploaded(client, category, body)

    assert client.get(f"/files/{file['id']}").content == body
    assert files_in(client, category) == [file["id"]]


@pytest.mark.requirement(2)
def test_while_s3_is_down_the_answer_is_503_and_says_when_to_try_again(serve: Serve, kept: str, category: str) -> None:
    asked: list[tuple[str, str, Json]] = [
        ("POST", f"/files?category={category}&filename=a.pdf", {"content": SMALL}),
        ("POST", "/uploads", {"json": described(category)}),
        *[("GET", path, {}) for path in ("/files", kept)],
        ("DELETE", kept, {}),
    ]

    with socket.socket() as nobody, ThreadPoolExecutor(len(asked)) as pool:
        nobody.bind(("127.0.0.1", 0))
        alone = serve(S3_ENDPOINT_URL=f"http://127.0.0.1:{nobody.getsockname()[1]}")
        answers = list(pool.map(lambda each: alone.request(*each[:2], timeout=20, **each[2]), asked))

    assert [answer.status_code for answer in answers] == [503] * len(asked)
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)


@pytest.mark.requirement(2)
def test_when_s3_fails_in_the_middle_nothing_is_left(
    client: Client, bucket: "Bucket", s3: "S3Verifier", category: str
) -> None:
    before = bucket.everything()

    with s3.fails("slow_down", "CompleteMultipartUpload", 99):
        response = upload(client, category, LARGE, timeout=20)

    assert response.status_code == 503
    assert bucket.everything() == before


@pytest.mark.requirement(2)
@pytest.mark.parametrize("method", ["POST", "PUT"], ids=["files", "parts"])
def test_uploads_that_come_slowly_do_not_keep_others_waiting(
    client: Client, outside: httpx2.Client, category: str, method: str
) -> None:
    create = f"/files?category={category}&filename=a.pdf"
    path = create if method == "POST" else f"{begun(client, category)}/parts/1"
    sent = head(client, method, path, PART, **digest(part_of(LARGE, 1))) + PDF
    with ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(socket.create_connection(client.address, timeout=5)).sendall(sent)

        listings = [answer_within_seconds(client, outside, "GET", "/files?limit=1") for _ in range(3)]
        uploads = answer_within_seconds(client, outside, "POST", create, content=SMALL)

    assert listings == [200] * 3
    assert uploads == 201


def answer_within_seconds(client: Client, outside: httpx2.Client, method: str, path: str, **sent: Any) -> int:
    """The status of the answer; 0 when it does not come."""
    try:
        url = f"{client.base_url}{path}"
        return outside.request(method, url, headers=client.headers, timeout=3, **sent).status_code
    except httpx2.TimeoutException:
        return 0


@pytest.mark.requirement(2)
def test_while_s3_is_slow_others_do_not_wait(client: Client, s3: "S3Verifier", category: str) -> None:
    storing = "PutObject CreateMultipartUpload UploadPart"
    with ThreadPoolExecutor(1) as pool, s3.fails("hold", storing) as fault:
        first = pool.submit(upload, client, category)
        wait_until(lambda: fault.times == 0)

        response, waits = client.get("/files?limit=1"), not first.done()

    assert (response.status_code, waits) == (200, True)
    assert first.result().status_code == 201


# 3. Organised by owner, category and date.


@pytest.mark.requirement(3)
@pytest.mark.parametrize("name", ["bill.pdf", "..-..-bob-bill.pdf", "résumé 简历.pdf"])
def test_keys_have_owner_category_and_date_and_not_the_name(
    client: Client, bucket: "Bucket", category: str, name: str
) -> None:
    uploaded(client, category, name=name)

    (key,) = bucket.objects(f"files/anna/{category}/")
    assert re.fullmatch(rf"files/anna/{category}/\d{{4}}-\d\d-\d\d/.+", key)
    assert not [word for word in re.findall(r"\w+", name) if word in key]


@pytest.mark.requirement(3)
def test_dates_are_in_utc(serve: Serve, bucket: "Bucket", category: str) -> None:
    noon = datetime.now(UTC).hour < 12  # before it, it is still yesterday in the west; after it, tomorrow in the east
    client = serve(TZ="<-12>12" if noon else "<+14>-14")

    file = uploaded(client, category)

    (key,) = bucket.objects(f"files/anna/{category}/")
    assert key.split("/")[3] in (file["created_at"][:10], datetime.now(UTC).date().isoformat())
    assert abs((datetime.now(UTC) - datetime.fromisoformat(file["created_at"])).total_seconds()) < 60


@pytest.mark.requirement(3)
@pytest.mark.parametrize("kind", BEGINNINGS)
def test_name_time_and_type_by_the_content_are_kept(client: Client, category: str, kind: str) -> None:
    body, claimed = content(500, BEGINNINGS[kind]), {"Content-Type": "text/html"}

    file = uploaded(client, category, body, "Übersicht “5%” 简历.x", headers=claimed)

    (day,) = listed(client, category)["folders"]
    assert listed(client, day)["files"] == [file]
    assert file["filename"] == "Übersicht “5%” 简历.x"
    assert file["content_type"] == kind
    assert abs((datetime.now(UTC) - datetime.fromisoformat(file["created_at"])).total_seconds()) < 60


@pytest.mark.requirement(3)
def test_a_folder_has_only_what_is_in_it(client: Client, category: str) -> None:
    file = uploaded(client, category)
    for neighbour in (f"{category}-2", f"{category}a"):
        uploaded(client, neighbour)

    inside = listed(client, category)

    assert inside == {"folders": [f"{category}/{file['created_at'][:10]}"], "files": [], "next": None}
    assert listed(client, inside["folders"][0]) == {"folders": [], "files": [file], "next": None}
    assert listed(client, f"{category}0") == {"folders": [], "files": [], "next": None}


@pytest.mark.requirement(3)
def test_pages_of_files_have_each_file_once(client: Client, category: str) -> None:
    expected = {uploaded(client, category)["id"] for _ in range(4)}
    (day,) = listed(client, category)["folders"]

    pages = list(pages_of(client, day, 2))

    assert [len(page["files"]) for page in pages] == [2, 2]
    assert [len(page["files"]) for page in pages_of(client, day, 3)] == [3, 1]
    assert {file["id"] for page in pages for file in page["files"]} == expected


@pytest.mark.requirement(3)
def test_pages_of_folders_have_each_folder_once(client: Client, category: str, carla: dict[str, str]) -> None:
    expected = [category, f"{category}-2", f"{category}0", f"{category}a"]
    for each in expected:
        uploaded(client, each, headers=carla)

    pages = list(pages_of(client, "", 3, headers=carla))

    assert [len(page["folders"]) for page in pages] == [3, 1]
    assert sorted(folder for page in pages for folder in page["folders"]) == expected
    assert not [file for page in pages for file in page["files"]]


def pages_of(client: Client, folder: str, limit: int, **options: Any) -> Iterator[Json]:
    after: Json = {}
    for _ in range(9):
        page = client.get("/files", params={"folder": folder, "limit": limit, **after}, **options).json()
        yield page
        if page["next"] is None:
            return
        after = {"after": page["next"]}
    raise AssertionError("there is no end of pages")


@pytest.mark.requirement(3)
@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", ""])
def test_a_limit_is_from_1_to_100(client: Client, limit: str) -> None:
    assert client.get("/files", params={"limit": limit}).status_code == 422


@pytest.mark.requirement(3)
def test_a_deleted_file_is_gone(client: Client, bucket: "Bucket", category: str) -> None:
    file = f"/files/{uploaded(client, category)['id']}"

    response = client.delete(file)

    assert response.status_code == 204
    assert [client.get(file).status_code, client.delete(file).status_code] == [404, 404]
    assert files_in(client, category) == []
    assert bucket.objects(f"files/anna/{category}/") == set()


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"category": "../bob"}, id="category with dots"),
        pytest.param({"category": "a/b"}, id="category with a slash"),
        pytest.param({"category": ""}, id="empty category"),
        pytest.param({"category": "Bills"}, id="upper case"),
        pytest.param({"category": "a" * 33}, id="long category"),
        pytest.param({"category": "a\n"}, id="category with a line feed"),
        pytest.param({"filename": ""}, id="empty name"),
        pytest.param({"filename": "a" * 101}, id="long name"),
        pytest.param({"filename": "a/b.pdf"}, id="name with a slash"),
        pytest.param({"filename": "a\\b.pdf"}, id="name with a backslash"),
        pytest.param({"filename": "a\r\nSet-Cookie: b=c"}, id="name with line ends"),
        pytest.param({"filename": "a\0.pdf"}, id="name with NUL"),
        pytest.param({"filename": "a\u202efdp.exe"}, id="name written from right to left"),
    ],
)
def test_bad_categories_and_names_are_refused_on_every_path(
    client: Client, s3: "S3Verifier", category: str, changes: dict[str, str]
) -> None:
    written = s3.written()
    named: Json = {"category": category, "filename": "bill.pdf"} | changes

    through = client.post("/files", params=named, content=SMALL)
    form = client.post("/files/presign", json=promise(**named))
    parts = client.post("/uploads", json=described(**named))

    assert [through.status_code, form.status_code, parts.status_code] == [422, 422, 422]
    assert s3.written() == written


@pytest.mark.requirement(3)
def test_malformed_json_other_fields_and_names_not_in_utf8_are_refused(client: Client, category: str) -> None:
    kind = {"Content-Type": "application/json"}

    answers = [client.post(path, content=b'{"size', headers=kind) for path in ("/files/presign", "/uploads")]
    answers.append(client.post("/files/presign", json=promise(category, owner="bob")))
    answers.append(client.post("/uploads", json=described(category, owner="bob")))
    answers.append(client.post(f"/files?category={category}&filename=%FF.pdf", content=SMALL))

    assert [answer.status_code for answer in answers] == [422] * 5


# 4. Secure: owners, types, sizes, digests.


@pytest.mark.requirement(4)
def test_without_a_valid_token_nothing_is_allowed(
    client: Client, s3: "S3Verifier", outside: httpx2.Client, kept: str, tokens: dict[str, str]
) -> None:
    asked = [*requests_for(kept, begun(client, "tokens")), ("GET", "/files"), ("POST", "/files/presign")]
    asked += [("POST", "/uploads"), ("POST", "/files?category=tokens&filename=a.pdf")]
    token, written = tokens["anna"], s3.written()
    wrong = ["", "Bearer", f"Bearer {token}x", f"Bearer {token[:20]}", f"Basic {token}", token, "Bearer anna"]

    answers = {
        (sent, *each): outside.request(
            each[0],
            f"{client.base_url}{each[1]}",
            headers={"Authorization": sent} if sent else {},
            json=promise("tokens"),
        )
        for sent in wrong
        for each in asked
    }

    assert {each: answer.status_code for each, answer in answers.items()} == dict.fromkeys(answers, 401)
    assert {answer.headers["WWW-Authenticate"].split()[0] for answer in answers.values()} == {"Bearer"}
    assert s3.written() == written


def requests_for(file: str, path: str) -> list[tuple[str, str]]:
    """All that can be done with a file and with an upload in parts."""
    asked = [("GET", file), ("HEAD", file), ("GET", f"{file}/link"), ("DELETE", file), ("POST", f"{file}/confirm")]
    return [*asked, ("GET", path), ("PUT", f"{path}/parts/1"), ("POST", f"{path}/complete"), ("DELETE", path)]


@pytest.mark.requirement(4)
def test_what_is_somebody_elses_is_not_found(
    client: Client, s3: "S3Verifier", kept: str, category: str, bob: dict[str, str]
) -> None:
    path = begun(client, category, len(SMALL))
    written = s3.written()

    answers = {
        (method, each): client.request(
            method, each, headers=digest(SMALL) | bob, content=SMALL if method == "PUT" else None
        ).status_code
        for method, each in requests_for(kept, path)
    }

    assert answers == dict.fromkeys(answers, 404)
    assert s3.written() == written


@pytest.mark.requirement(4)
def test_listings_have_only_the_owners_files(client: Client, category: str, bob: dict[str, str]) -> None:
    mine = uploaded(client, category)
    theirs = uploaded(client, category, headers=bob)

    assert files_in(client, category) == [mine["id"]]
    (day,) = listed(client, category)["folders"]
    assert [file["id"] for file in client.get(f"/files?folder={day}", headers=bob).json()["files"]] == [theirs["id"]]


@pytest.mark.requirement(4)
def test_other_types_are_refused_whatever_name_and_header_say(client: Client, bucket: "Bucket", category: str) -> None:
    before, bodies = bucket.everything(), [PAGE, b"GIF89a" + bytes(50), b"MZ" + bytes(50), b"plain text", b""]

    answers = [upload(client, category, body, headers={"Content-Type": "application/pdf"}) for body in bodies]

    assert [answer.status_code for answer in answers] == [415] * len(bodies)
    assert bucket.everything() == before


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "changes",
    [
        *[{"content_type": kind} for kind in ("text/html", "application/pdf; charset=utf-8", "", None, 1)],
        *[{"size": size} for size in (0, -1, 1.5, "1000", True, None)],
    ],
    ids=str,
)
def test_other_types_and_sizes_cannot_be_promised(client: Client, category: str, changes: Json) -> None:
    form = client.post("/files/presign", json=promise(category, **changes))
    parts = client.post("/uploads", json=described(category) | changes)

    assert [form.status_code, parts.status_code] == [422, 422]


@pytest.mark.requirement(4)
def test_no_path_takes_more_than_the_limit(serve: Serve, bucket: "Bucket", category: str) -> None:
    client, before = serve(MAX_FILE_BYTES="999"), bucket.everything()

    answers = [
        upload(client, category, SMALL),
        upload(client, category, iter([SMALL[:500], SMALL[500:]])),
        client.post("/files/presign", json=promise(category)),
        client.post("/uploads", json=described(category, 1000)),
    ]

    assert [answer.status_code for answer in answers] == [413, 413, 413, 413]
    assert bucket.everything() == before
    assert upload(client, category, SMALL[:999]).status_code == 201


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "body, header",
    [
        pytest.param(SMALL[:-1], digest(SMALL), id="small"),
        pytest.param(LARGE[:-1] + bytes([LARGE[-1] ^ 1]), digest(LARGE), id="two parts"),
        *[
            pytest.param(SMALL, {"Content-Digest": header}, id=header)
            for header in ("sha-256=::", "sha-256=:!:", "sha-256=:YQ:", "nonsense", "sha-256")
        ],
    ],
)
def test_a_body_that_is_not_what_its_digest_says_is_refused(
    client: Client, bucket: "Bucket", category: str, body: bytes, header: dict[str, str]
) -> None:
    response = upload(client, category, body, headers=header)

    assert response.status_code == 400
    assert not [key for key in bucket.everything() if category in key]


# 5. Downloads.


def saved_as(response: httpx2.Response) -> str:
    """The name in Content-Disposition (RFC 8187), as a browser reads it."""
    header = response.headers["Content-Disposition"]
    assert header.startswith("attachment")
    encoded = re.search(r"filename\*=UTF-8''([^;\s]+)", header, re.IGNORECASE)
    plain = re.search(r'filename="((?:[^"\\]|\\.)*)"|filename=([^\s";]+)', header)
    return unquote(encoded[1]) if encoded else re.sub(r"\\(.)", r"\1", plain[1] or plain[2]) if plain else ""


@pytest.mark.requirement(5)
@pytest.mark.parametrize("name", ["bill.pdf", "été 100%.pdf", "简历.pdf", 'a "b"; c=d.pdf', "Ω'*.pdf", "😀.pdf"])
def test_a_file_is_saved_under_its_name(client: Client, outside: httpx2.Client, category: str, name: str) -> None:
    path = f"/files/{uploaded(client, category, name=name)['id']}"

    through = client.get(path)
    past = outside.get(client.get(f"{path}/link").headers["Location"])

    for response in (through, past):
        assert response.content == SMALL
        assert saved_as(response) == name
        assert response.headers["Content-Type"] == "application/pdf"


@pytest.mark.requirement(5)
def test_a_download_is_described(client: Client, kept: str) -> None:
    response, described_only = client.get(kept), client.head(kept)

    assert response.content == SMALL
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Accept-Ranges"] == "bytes"
    assert response.headers["Content-Length"] == "1000"
    assert re.fullmatch('"[^"]+"', response.headers["ETag"])
    assert (described_only.status_code, described_only.content) == (200, b"")
    names = ("Content-Length", "Content-Type", "Content-Disposition", "ETag", "Accept-Ranges", "X-Content-Type-Options")
    assert [described_only.headers[name] for name in names] == [response.headers[name] for name in names]


@pytest.mark.requirement(5)
@pytest.mark.parametrize(
    "asked, first, last",
    [
        pytest.param("bytes=0-0", 0, 0, id="the first byte"),
        pytest.param("bytes=100-299", 100, 299, id="some in the middle"),
        pytest.param("bytes=990-", 990, 999, id="from there on"),
        pytest.param("bytes=-10", 990, 999, id="the last ten"),
        pytest.param("bytes=900-5000", 900, 999, id="beyond the end"),
        pytest.param("bytes=-5000", 0, 999, id="more than there is"),
    ],
)
def test_a_range_is_a_206(client: Client, kept: str, asked: str, first: int, last: int) -> None:
    whole = client.head(kept).headers

    response = client.get(kept, headers={"Range": asked})

    assert response.status_code == 206
    for name in ("Content-Type", "Content-Disposition", "ETag", "X-Content-Type-Options"):
        assert response.headers[name] == whole[name]
    assert response.headers["Content-Range"] == f"bytes {first}-{last}/1000"
    assert response.headers["Content-Length"] == str(last - first + 1)
    assert response.content == SMALL[first : last + 1]


@pytest.mark.requirement(5)
@pytest.mark.parametrize("asked", ["bytes=1000-", "bytes=5000-6000", "bytes=-0", f"bytes={10**30}-"])
def test_a_range_beyond_the_end_is_a_416(client: Client, kept: str, asked: str) -> None:
    response = client.get(kept, headers={"Range": asked})

    assert response.status_code == 416
    assert response.headers["Content-Range"] == "bytes */1000"


@pytest.mark.requirement(5)
@pytest.mark.parametrize("asked", ["bytes=a-b", "bytes=-", "bytes", "items=0-1", "bytes=5-2", ""])
def test_a_range_that_means_nothing_is_ignored(client: Client, kept: str, asked: str) -> None:
    response = client.get(kept, headers={"Range": asked})

    assert (response.status_code, response.content) == (200, SMALL)


@pytest.mark.requirement(5)
def test_a_download_that_broke_off_goes_on_only_with_the_same_file(client: Client, kept: str) -> None:
    etag = client.head(kept).headers["ETag"]
    conditions = [etag, '"another"', f"W/{etag}", "Mon, 01 Jan 2024 00:00:00 GMT"]

    same, *others = [client.get(kept, headers={"Range": "bytes=500-", "If-Range": each}) for each in conditions]

    assert (same.status_code, same.content) == (206, SMALL[500:])
    assert [(each.status_code, len(each.content)) for each in others] == [(200, 1000)] * 3


@pytest.mark.requirement(5)
@pytest.mark.parametrize("file_id", ["x", "a.2026-01-01.5f0c1b52-1111-4222-8333-abcdefabcdef", "..%2F..%2Fbob", "%00"])
def test_what_is_not_there_is_not_found(client: Client, file_id: str) -> None:
    answers = [client.get(f"/files/{file_id}"), client.get(f"/files/{file_id}/link"), client.get(f"/uploads/{file_id}")]

    assert {answer.status_code for answer in answers} <= {404, 422}
