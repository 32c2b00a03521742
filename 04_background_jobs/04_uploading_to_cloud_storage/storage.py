"""A bucket of S3: how it is set up, what its keys look like, and what one owner may see of it."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote, unquote
from uuid import uuid4

import boto3  # type: ignore[import-untyped]  # it has no types
from botocore.config import Config  # type: ignore[import-untyped]  # it has no types
from botocore.exceptions import ClientError  # type: ignore[import-untyped]  # it has no types
from fastapi import HTTPException
from pydantic import AfterValidator, BaseModel, Field, SecretStr

from shared.config import Settings

LINK_SECONDS = 60  # for which a signed link is valid
MIB = 1024 * 1024
LARGEST_PART = 64 * MIB
NAME = "[a-z][a-z0-9-]{0,31}"  # of an owner or a category: it becomes part of keys
DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
FILE_ID = rf"^{NAME}\.{DATE}\.[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$"
FOLDER = rf"^({NAME}(/{DATE})?)?$"
# They remove what an app or a client leaves behind that stops halfway. S3 applies them once a day.
LIFECYCLE = [
    {"ID": "abandoned parts", "Filter": {"Prefix": ""}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}},
    {"ID": "abandoned notes", "Filter": {"Prefix": "uploads/"}, "Expiration": {"Days": 8}},
    {"ID": "unconfirmed", "Filter": {"Prefix": "incoming/"}, "Expiration": {"Days": 1}},
]

Owner = Annotated[str, Field(pattern=f"^{NAME}$")]
Token = Annotated[SecretStr, Field(min_length=16)]


def different(tokens: dict[str, SecretStr]) -> dict[str, SecretStr]:  # given
    if len({token.get_secret_value() for token in tokens.values()}) < len(tokens):
        raise ValueError("two owners have the same token")
    return tokens


class FileSettings(Settings):
    """The environment; README.md says what it means. boto3 itself reads AWS's own variables."""

    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    s3_bucket: Annotated[str, Field(min_length=3)]
    owner_tokens: Annotated[dict[Owner, Token], Field(min_length=1), AfterValidator(different)]
    max_file_bytes: Annotated[int, Field(ge=1, le=5 * 1024 * MIB)] = 1024 * MIB  # S3 copies 5 GiB in one request
    part_bytes: Annotated[int, Field(ge=5 * MIB, le=LARGEST_PART)] = 8 * MIB  # S3 wants 5 MiB, except for the last part


def read_settings() -> FileSettings:  # given
    return FileSettings()  # type: ignore[call-arg]  # the values come from the environment


class NotFoundError(Exception):
    """This owner has no such file or upload."""


class FileOut(BaseModel):
    id: str
    filename: str
    category: str
    content_type: str
    size: int
    created_at: datetime
    etag: str


class FolderOut(BaseModel):
    folders: list[str]
    files: list[FileOut]
    next: str | None


@contextmanager
def not_found() -> Iterator[None]:  # given
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NoSuchUpload"):
            raise NotFoundError from None
        raise


def connect(settings: FileSettings) -> Any:
    """A client of S3. Servers other than AWS have one host name for all buckets: the bucket goes into the path."""
    config = Config(
        signature_version="s3v4",  # for URLs too, which otherwise get an older one in some regions
        s3={"addressing_style": "path" if settings.s3_endpoint_url else "auto"},
        retries={"mode": "standard", "total_max_attempts": 3},
        connect_timeout=3,
        read_timeout=20,
        max_pool_connections=50,
    )
    return boto3.session.Session().client("s3", endpoint_url=settings.s3_endpoint_url, config=config)


def set_up(s3: Any, bucket: str) -> None:
    """Create the bucket if it is missing, and configure it. A bucket that was changed by hand is set right."""
    region = s3.meta.region_name
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=bucket, **place)
    blocks = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=dict.fromkeys(blocks, True))
    ownership = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}  # objects have no ACLs of their own
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=ownership)
    encryption = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=encryption)
    lifecycle = {"Rules": [{"Status": "Enabled", **rule} for rule in LIFECYCLE]}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=lifecycle)


def new_id(category: str) -> str:
    """An id that says where the file is, so that no table has to. The owner is not in it: the token says that."""
    return f"{category}.{datetime.now(UTC).date()}.{uuid4()}"


def labels(content_type: str, filename: str) -> dict[str, Any]:
    """What S3 keeps with an object. Metadata are sent as headers, in ASCII, so the name is percent-encoded."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")  # S3's own time changes when an object is copied
    return {"ContentType": content_type, "Metadata": {"filename": quote(filename, safe=""), "created-at": now}}


@dataclass(frozen=True)
class OwnFiles:
    """The bucket as one owner sees it. Every key begins with the owner's name, so no endpoint can forget to check."""

    s3: Any
    settings: FileSettings
    owner: str

    def at(self, kind: str, file_id: str) -> dict[str, str]:
        """Where it is, as `files/anna/invoices/2026-11-23/UUID`. The client's file name is not part of it."""
        return {"Bucket": self.settings.s3_bucket, "Key": f"{kind}/{self.owner}/{file_id.replace('.', '/')}"}

    def put(self, kind: str, file_id: str, body: bytes | bytearray, kept: dict[str, Any]) -> None:
        """Write an object, all of it or nothing. S3 compares the checksum before it answers."""
        self.s3.put_object(**self.at(kind, file_id), Body=body, ChecksumAlgorithm="SHA256", **kept)

    def open(self, kind: str, file_id: str, **options: str) -> dict[str, Any]:
        """An object with its metadata, and a `Body` to stream from and to close. Raises NotFoundError."""
        with not_found():
            answer: dict[str, Any] = self.s3.get_object(**self.at(kind, file_id), **options)
        return answer

    def open_part(self, file: FileOut, wanted: dict[str, str]) -> dict[str, Any]:
        """The file, or the `Range` of it that is wanted: 416 for one beyond its end."""
        try:
            return self.open("files", file.id, IfMatch=file.etag, **wanted)
        except ClientError as error:
            if error.response["Error"]["Code"] != "InvalidRange":
                raise
            raise HTTPException(416, "the file ends before that", {"Content-Range": f"bytes */{file.size}"}) from None

    def sign_link(self, file: FileOut, disposition: str) -> str:
        """A URL that gives the file to everyone who has it, under its type and name, for a minute."""
        shown = {"ResponseContentType": file.content_type, "ResponseContentDisposition": disposition}
        parameters = {**self.at("files", file.id), **shown}
        return str(self.s3.generate_presigned_url("get_object", Params=parameters, ExpiresIn=LINK_SECONDS))

    def delete(self, kind: str, file_id: str) -> None:
        self.s3.delete_object(**self.at(kind, file_id))

    def find(self, file_id: str) -> FileOut:
        """Describe a file. Raises NotFoundError."""
        with not_found():
            head = self.s3.head_object(**self.at("files", file_id))
        return FileOut(
            id=file_id,
            filename=unquote(head["Metadata"]["filename"]),
            category=file_id.partition(".")[0],
            content_type=head["ContentType"],
            size=head["ContentLength"],
            created_at=head["Metadata"]["created-at"],
            etag=head["ETag"],
        )

    def find_some(self, file_ids: list[str]) -> list[FileOut]:
        """Describe files, some at a time: a listing has no metadata. One that was deleted meanwhile is left out."""

        def find(file_id: str) -> FileOut | None:
            with suppress(NotFoundError):
                return self.find(file_id)
            return None

        with ThreadPoolExecutor(8) as pool:
            return [file for file in pool.map(find, file_ids) if file]

    def list_folder(self, folder: str, after: str, limit: int) -> FolderOut:
        """A page of a folder, by key; `after` is the last entry of the page before.

        S3 has no folders. With Delimiter it gives one entry for all keys that are equal up to the next slash.
        """
        root = f"files/{self.owner}/"
        prefix = f"{root}{folder}/" if folder else root
        start = f"{prefix}{after}/~" if after else prefix  # "~" comes after all keys in that folder
        page = self.s3.list_objects_v2(
            Bucket=self.settings.s3_bucket, Prefix=prefix, Delimiter="/", MaxKeys=limit, StartAfter=start
        )
        folders = [entry["Prefix"].removeprefix(root).rstrip("/") for entry in page.get("CommonPrefixes", [])]
        ids = [entry["Key"].removeprefix(root).replace("/", ".") for entry in page.get("Contents", [])]
        last = re.split("[/.]", [*folders, *ids][-1])[-1] if page["IsTruncated"] else None
        return FolderOut(folders=folders, files=self.find_some(ids), next=last)
