"""The strict S3 of the other tests is as strict as it should be: boto3's requests pass, and changed ones do not."""

import base64
import hashlib
import secrets
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from botocore.exceptions import ClientError  # type: ignore[import-untyped]  # it has no types

if TYPE_CHECKING:
    from conftest import Bucket
    from s3_verifier import S3Verifier

Connect = Callable[..., Any]
KEY = "verifier/a b+ü%.txt"


@pytest.fixture(scope="session")
def through(connect: Connect, s3: "S3Verifier") -> Any:
    """A client of S3 on the verifier."""
    return connect(s3.url, s3.access_key, s3.secret_key)


def code_of(answer: httpx2.Response) -> str:
    return answer.text.partition("<Code>")[2].partition("</Code>")[0] if answer.status_code >= 400 else ""


@pytest.mark.requirement(4)
def test_what_boto3_signs_passes(through: Any, bucket: "Bucket", outside: httpx2.Client) -> None:
    where = {"Bucket": bucket.name, "Key": KEY}

    through.put_object(**where, Body=b"text", ChecksumAlgorithm="SHA256", Metadata={"a": "b  c"})
    url = through.generate_presigned_url(
        "get_object", Params={**where, "ResponseContentDisposition": "attachment; a=ü"}
    )

    assert through.get_object(**where)["Body"].read() == b"text"
    assert through.list_objects_v2(Bucket=bucket.name, Prefix="verifier/a b+")["KeyCount"] == 1
    assert outside.get(url).content == b"text"


@pytest.mark.requirement(4)
def test_another_secret_is_refused(connect: Connect, s3: "S3Verifier", bucket: "Bucket") -> None:
    stranger = connect(s3.url, s3.access_key, secrets.token_urlsafe())

    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        stranger.put_object(Bucket=bucket.name, Key=KEY, Body=b"text")


@pytest.mark.requirement(4)
def test_without_a_signature_nothing_is_allowed(s3: "S3Verifier", bucket: "Bucket", outside: httpx2.Client) -> None:
    url = f"{s3.url}/{bucket.name}"

    answers = [outside.get(url), outside.put(f"{url}/x", content=b"x"), outside.post(url, data={"key": "x"})]

    assert [answer.status_code for answer in answers] == [403, 403, 412]


@pytest.mark.requirement(4)
@pytest.mark.parametrize("changed", ["key", "method", "expiry", "query", "signature", "time"])
def test_a_changed_url_is_refused(
    through: Any, s3: "S3Verifier", bucket: "Bucket", outside: httpx2.Client, changed: str
) -> None:
    url = through.generate_presigned_url("get_object", Params={"Bucket": bucket.name, "Key": "a"}, ExpiresIn=60)
    replaced = {
        "key": ("/a?", "/b?"),
        "expiry": ("Expires=60", "Expires=6000"),
        "query": ("X-Amz-Algorithm", "response-content-type=text%2Fhtml&X-Amz-Algorithm"),
        "signature": (url[-4:], "0000"),
    }

    with s3.later(61 if changed == "time" else 0):
        answer = outside.request("PUT" if changed == "method" else "GET", url.replace(*replaced.get(changed, ("", ""))))

    assert code_of(answer) == ("AccessDenied" if changed == "time" else "SignatureDoesNotMatch")


@pytest.mark.requirement(4)
def test_damage_on_the_way_is_noticed(through: Any, s3: "S3Verifier", bucket: "Bucket") -> None:
    with s3.fails("corrupt", "PutObject"), pytest.raises(ClientError, match=r"Mismatch|BadDigest"):
        through.put_object(Bucket=bucket.name, Key=KEY, Body=b"text")


@pytest.mark.requirement(4)
def test_an_acl_is_refused(through: Any, bucket: "Bucket") -> None:
    with pytest.raises(ClientError, match="AccessControlListNotSupported"):
        through.put_object(Bucket=bucket.name, Key=KEY, Body=b"text", ACL="public-read")


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "body, fields, seconds, code",
    [
        pytest.param(b"12345", {}, 0, "", id="as promised"),
        pytest.param(b"12345", {}, 61, "AccessDenied", id="too late"),
        pytest.param(b"123456", {}, 0, "EntityTooLarge", id="too long"),
        pytest.param(b"1", {}, 0, "EntityTooSmall", id="too short"),
        pytest.param(b"54321", {}, 0, "BadDigest", id="another checksum"),
        pytest.param(b"12345", {"Content-Type": "text/html"}, 0, "AccessDenied", id="not equal"),
        pytest.param(b"12345", {"key": "other/x"}, 0, "AccessDenied", id="does not start with"),
        pytest.param(b"12345", {"acl": "public-read"}, 0, "AccessDenied", id="an extra field"),
        pytest.param(b"12345", {"x-amz-signature": "0" * 64}, 0, "SignatureDoesNotMatch", id="not signed"),
        pytest.param(b"12345", {"policy": "e30="}, 0, "SignatureDoesNotMatch", id="another policy"),
    ],
)
def test_the_conditions_of_a_form_are_checked(  # noqa: PLR0917  the table has four columns
    through: Any,
    s3: "S3Verifier",
    bucket: "Bucket",
    outside: httpx2.Client,
    body: bytes,
    fields: dict[str, str],
    seconds: int,
    code: str,
) -> None:
    checksum = base64.b64encode(hashlib.sha256(b"12345").digest()).decode()
    given = {"Content-Type": "text/plain", "x-amz-checksum-sha256": checksum}
    equal = [{name: value} for name, value in given.items()]
    conditions = [*equal, ["content-length-range", 2, 5], ["starts-with", "$key", "forms/"]]
    form = through.generate_presigned_post(bucket.name, "forms/${filename}", given, conditions, 60)

    with s3.later(seconds):
        answer = outside.post(form["url"], data=form["fields"] | fields, files={"file": ("x", body)})

    assert code_of(answer) == code


@pytest.mark.requirement(6)
@pytest.mark.parametrize(
    "begun, sent, completed, code",
    [
        pytest.param("SHA256", "SHA256", "SHA256", "", id="one algorithm"),
        pytest.param("SHA256", "CRC32", "SHA256", "InvalidRequest", id="a part with another"),
        pytest.param("SHA256", "SHA256", "", "InvalidRequest", id="completed without"),
        pytest.param("SHA256", "SHA256", "damaged", "InvalidPart", id="completed with another checksum"),
    ],
)
def test_the_checksums_of_parts_are_checked(  # noqa: PLR0917  the table has four columns
    through: Any, bucket: "Bucket", begun: str, sent: str, completed: str, code: str
) -> None:
    upload = through.create_multipart_upload(Bucket=bucket.name, Key=KEY, ChecksumAlgorithm=begun)
    where = {"Bucket": bucket.name, "Key": KEY, "UploadId": upload["UploadId"]}

    def send() -> None:
        through.upload_part(**where, PartNumber=1, Body=b"text", ChecksumAlgorithm=sent)
        (part,) = through.list_parts(**where)["Parts"]
        chosen = {name: part[name] for name in ("PartNumber", "ETag", *["ChecksumSHA256"] * bool(completed))}
        if completed == "damaged":
            chosen["ChecksumSHA256"] = base64.b64encode(bytes(32)).decode()
        through.complete_multipart_upload(**where, MultipartUpload={"Parts": [chosen]})

    with pytest.raises(ClientError, match=code) if code else nullcontext():
        send()
    if code:
        through.abort_multipart_upload(**where)
