"""Everything goes through a strict S3; see s3_verifier.py. Most tests share a server, a bucket and two owners."""

import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]  # it has no types
import httpx2
import pytest
from botocore.config import Config  # type: ignore[import-untyped]  # it has no types

from grader.solution import Client, Solution

sys.path.insert(0, str(Path(__file__).parent))
import storage_client
from s3_verifier import S3Verifier

sys.path.pop(0)

Json = dict[str, Any]

TOKENS = {owner: secrets.token_urlsafe() for owner in ("anna", "bob", "carla")}
AUTHORIZATION = {owner: {"Authorization": f"Bearer {token}"} for owner, token in TOKENS.items()}


@pytest.fixture(scope="session")
def s3(s3_server: str) -> Iterator[S3Verifier]:
    """S3 as the solution sees it."""
    with S3Verifier(s3_server, secrets.token_hex(10), secrets.token_urlsafe()).running() as verifier:
        yield verifier


class Bucket:
    """A bucket as the tests see it: straight from the server, past the solution and the verifier."""

    def __init__(self, api: Any, name: str) -> None:
        self.api, self.name = api, name

    def exists(self) -> bool:
        return self.name in [bucket["Name"] for bucket in self.api.list_buckets()["Buckets"]]

    def objects(self, prefix: str = "") -> set[str]:
        pages = self.api.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return {entry["Key"] for page in pages for entry in page.get("Contents", [])}

    def read(self, key: str) -> bytes:
        body: bytes = self.api.get_object(Bucket=self.name, Key=key)["Body"].read()
        return body

    def unfinished(self) -> set[str]:
        """The multipart uploads that are neither complete nor aborted, by their key."""
        return {upload["Key"] for upload in self.api.list_multipart_uploads(Bucket=self.name).get("Uploads", [])}

    def everything(self) -> set[str]:
        return self.objects() | {f"unfinished {key}" for key in self.unfinished()}

    def lifecycle(self) -> list[Json]:
        """The rules that are in force."""
        rules = self.api.get_bucket_lifecycle_configuration(Bucket=self.name)["Rules"]
        return [rule for rule in rules if rule["Status"] == "Enabled"]

    @staticmethod
    def prefix_of(rule: Json) -> str:
        limited = rule.get("Filter", {})
        return str(rule.get("Prefix", limited.get("Prefix", limited.get("And", {}).get("Prefix", ""))))

    def expiring_prefixes(self) -> list[str]:
        return [self.prefix_of(rule) for rule in self.lifecycle() if "Expiration" in rule]


@pytest.fixture(scope="session")
def connect() -> Callable[..., Any]:
    """Return a client of S3. All have one session: another one would read the description of S3 again."""
    session = boto3.session.Session()

    def connect(url: str, access_key: str, secret_key: str, region: str = "eu-central-1") -> Any:
        config = Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
        keys = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key}
        return session.client("s3", endpoint_url=url, config=config, region_name=region, **keys)

    return connect


@pytest.fixture(scope="session")
def api(connect: Callable[..., Any], s3_server: str) -> Any:
    return connect(s3_server, "tests", secrets.token_urlsafe(), "us-east-1")


@pytest.fixture
def new_bucket(api: Any) -> Bucket:
    """The name of a bucket that does not exist yet."""
    return Bucket(api, f"test-{secrets.token_hex(8)}")


@pytest.fixture
def set_up(solution: Solution, environment: Json) -> Callable[..., None]:
    """Run the command on a bucket, and expect that it works."""

    def set_up(bucket: Bucket, **changes: str) -> None:
        finished = solution.run("setup", **environment | {"S3_BUCKET": bucket.name} | changes)
        assert finished.exit_code == 0, finished.stderr

    return set_up


@pytest.fixture
def ready(set_up: Callable[..., None], bucket_to_read: Bucket) -> Bucket:
    """A bucket that is set up, once for all tests that only read how."""
    if not bucket_to_read.exists():
        set_up(bucket_to_read)
    return bucket_to_read


@pytest.fixture(scope="session")
def bucket_to_read(api: Any) -> Bucket:
    """The name of another one, for all tests that only look how it was set up."""
    return Bucket(api, f"test-{secrets.token_hex(8)}")


@pytest.fixture(scope="session")
def bucket(api: Any) -> Bucket:
    name = f"test-{secrets.token_hex(8)}"
    api.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return Bucket(api, name)


@pytest.fixture(scope="session")
def environment(s3: S3Verifier, bucket: Bucket) -> Json:
    tokens = ", ".join(f'"{owner}": "{token}"' for owner, token in TOKENS.items())
    return {
        "S3_ENDPOINT_URL": s3.url,
        "S3_BUCKET": bucket.name,
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "AWS_DEFAULT_REGION": "eu-central-1",
        "OWNER_TOKENS": f"{{{tokens}}}",
        "PART_BYTES": str(storage_client.PART),
        "MAX_FILE_BYTES": str(100 * storage_client.MIB),
    }


@pytest.fixture
def serve(solution: Solution, environment: Json) -> Callable[..., Client]:
    """Return a client on a server with these variables, which tests that ask for the same ones share. It is anna's."""

    def serve(**changes: str) -> Client:
        return as_anna(solution.serve_shared(**environment | changes))

    return serve


@pytest.fixture
def client(serve: Callable[..., Client]) -> Client:
    return serve()


@pytest.fixture
def restart(solution: Solution, environment: Json) -> Callable[..., Client]:
    """Start a server of this test's own, as a process that can be killed and measured."""

    def restart(**changes: str) -> Client:
        return as_anna(solution.serve(isolated=True, **environment | changes))

    return restart


def as_anna(client: Client) -> Client:
    client.headers.update(AUTHORIZATION["anna"])
    return client


@pytest.fixture
def kept(client: Client, remembered: dict[str, str]) -> str:
    """The path of one small file of anna's, which all tests share that only read it."""
    if "file" not in remembered:
        remembered["file"] = storage_client.uploaded(client, "kept")["id"]
    return f"/files/{remembered['file']}"


@pytest.fixture(scope="session")
def remembered() -> dict[str, str]:
    return {}


@pytest.fixture
def bob() -> dict[str, str]:
    """The headers of another owner's request."""
    return AUTHORIZATION["bob"]


@pytest.fixture
def carla() -> dict[str, str]:
    """Those of an owner who has no other files than one test's."""
    return AUTHORIZATION["carla"]


@pytest.fixture
def tokens() -> dict[str, str]:
    return TOKENS


@pytest.fixture
def category() -> str:
    """A category that no other test uses: tests that share a bucket do not see each other's files in it."""
    return f"c{secrets.token_hex(6)}"


@pytest.fixture
def outside() -> Iterator[httpx2.Client]:
    """A client for signed URLs and forms, which the app has no part in."""
    with httpx2.Client(trust_env=False, verify=False, timeout=20) as client:
        yield client
