"""Three ways into the bucket: through the app in a stream, straight to S3 with a signed form, and in parts."""

from base64 import b64encode
from contextlib import closing, suppress
from typing import Annotated, Any

from boto3.s3.transfer import TransferConfig  # type: ignore[import-untyped]  # it has no types
from fastapi import HTTPException
from http_rules import BEGINNING, ContentType, Incoming, identify
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from storage import NAME, FileOut, NotFoundError, OwnFiles, labels, new_id, not_found

FORM_SECONDS = 300  # for which a signed form is valid


def printable(name: str) -> str:  # given
    if not name.isprintable() or {"/", "\\", "\ufffd"} & set(name):  # the last one replaces bytes that are not UTF-8
        raise ValueError("a file name has printable characters of UTF-8 only, and no / or \\")
    return name


Filename = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(printable)]
Category = Annotated[str, Field(pattern=f"^{NAME}$")]


class UploadIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    filename: Filename
    category: Category
    content_type: ContentType
    size: Annotated[int, Field(strict=True, ge=1)]


class FormIn(UploadIn):
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class FormOut(BaseModel):
    id: str
    url: str
    fields: dict[str, str]
    expires_in: int


class UploadOut(UploadIn):
    id: str
    part_bytes: int
    parts: list[int]
    missing: list[int]
    received: int


class Note(UploadIn):
    """What must be known of an unfinished upload. It is an object in the bucket, so any instance of the app has it."""

    upload_id: str
    part_bytes: int

    @property
    def numbers(self) -> range:
        return range(1, -(-self.size // self.part_bytes) + 1)

    def size_of(self, number: int) -> int:
        """Bytes of a part; the last one has the rest. Raises NotFoundError for a number that the upload lacks."""
        if number not in self.numbers:
            raise NotFoundError
        return min(self.part_bytes, self.size - (number - 1) * self.part_bytes)


# Through the app.


def store(mine: OwnFiles, category: str, filename: str, incoming: Incoming) -> FileOut:
    """Pass the body on in parts as it comes. If anything goes wrong before the end, there is no file and no part."""
    file_id, kept = new_id(category), labels(identify(incoming.peek()), filename)
    size = mine.settings.part_bytes
    here = TransferConfig(multipart_threshold=size, multipart_chunksize=size, use_threads=False)  # one part in memory
    extra = {"ChecksumAlgorithm": "SHA256", **kept}
    mine.s3.upload_fileobj(incoming, **mine.at("files", file_id), ExtraArgs=extra, Config=here)
    return mine.find(file_id)


# With a signed form.


def sign_form(mine: OwnFiles, promise: FormIn) -> FormOut:
    """A POST policy: S3 accepts this key, this type and exactly these bytes, for some minutes.

    The object is not a file yet: `confirm` has to look at it first.
    """
    require_size(mine, promise.size)
    file_id, kept = new_id(promise.category), labels(promise.content_type, promise.filename)
    fields = {
        "Content-Type": kept["ContentType"],
        **{f"x-amz-meta-{name}": value for name, value in kept["Metadata"].items()},
        "x-amz-checksum-sha256": b64encode(bytes.fromhex(promise.sha256)).decode(),
    }
    length = ["content-length-range", promise.size, promise.size]
    form = mine.s3.generate_presigned_post(
        **mine.at("incoming", file_id),
        Fields=fields,
        Conditions=[*({name: value} for name, value in fields.items()), length],
        ExpiresIn=FORM_SECONDS,
    )
    return FormOut(id=file_id, url=form["url"], fields=form["fields"], expires_in=FORM_SECONDS)


def confirm(mine: OwnFiles, file_id: str) -> FileOut:
    """Make a file of what was sent with a form, or delete it if its type is another one than was promised.

    S3 has compared size and checksum. The type is what it cannot tell: the first bytes do.
    """
    with suppress(NotFoundError):
        file = mine.find(file_id)
        mine.delete("incoming", file_id)  # sent again, or left when deleting it failed: the file stays as it is
        return file
    try:
        upload = mine.open("incoming", file_id, Range=f"bytes=0-{BEGINNING - 1}")
    except NotFoundError:  # nothing has arrived, or another request has just confirmed it
        return mine.find(file_id)
    with closing(upload["Body"]) as body:
        beginning = body.read()
    try:
        require_type(beginning, upload["ContentType"])
    except HTTPException:
        mine.delete("incoming", file_id)
        raise
    unchanged = {"CopySource": mine.at("incoming", file_id), "CopySourceIfMatch": upload["ETag"]}
    with suppress(NotFoundError), not_found():  # asked twice at once, the other one may be done with it
        mine.s3.copy_object(**mine.at("files", file_id), **unchanged, ChecksumAlgorithm="SHA256")
    mine.delete("incoming", file_id)
    return mine.find(file_id)


# In parts: S3's multipart upload. Parts come in any order and can be replaced; there is no object before the end.


def begin_upload(mine: OwnFiles, body: UploadIn) -> UploadOut:
    """Begin, then note it. If the app dies between the two, a lifecycle rule removes what is left."""
    require_size(mine, body.size)
    file_id = new_id(body.category)
    kept = labels(body.content_type, body.filename)
    begun = mine.s3.create_multipart_upload(**mine.at("files", file_id), ChecksumAlgorithm="SHA256", **kept)
    note = Note(**body.model_dump(), upload_id=begun["UploadId"], part_bytes=mine.settings.part_bytes)
    mine.put("uploads", file_id, note.model_dump_json().encode(), {"ContentType": "application/json"})
    return progress(file_id, note, [])


def find_note(mine: OwnFiles, file_id: str) -> Note:
    with closing(mine.open("uploads", file_id)["Body"]) as body:
        return Note.model_validate_json(body.read())


def take_part(mine: OwnFiles, file_id: str, number: int, incoming: Incoming) -> None:
    """Read a part to its end before S3 gets it: 413 or 422 for another size, 415 for another type in the first."""
    note = find_note(mine, file_id)
    size = note.size_of(number)
    part = incoming.read(size + 1)
    if len(part) != size:
        raise HTTPException(422, f"part {number} has {size} bytes")
    if number == 1:
        require_type(part, note.content_type)
    with not_found():
        where = mine.at("files", file_id) | {"UploadId": note.upload_id}
        mine.s3.upload_part(**where, PartNumber=number, Body=part, ChecksumAlgorithm="SHA256")


def list_parts(mine: OwnFiles, file_id: str, note: Note) -> list[dict[str, Any]]:
    """The parts that S3 has, by number. Raises NotFoundError when the upload is complete, aborted or expired."""
    with not_found():
        pages = mine.s3.get_paginator("list_parts").paginate(**mine.at("files", file_id), UploadId=note.upload_id)
        return [part for page in pages for part in page.get("Parts", [])]  # a thousand on each page


def read_upload(mine: OwnFiles, file_id: str) -> UploadOut:
    note = find_note(mine, file_id)
    return progress(file_id, note, list_parts(mine, file_id, note))


def progress(file_id: str, note: Note, parts: list[dict[str, Any]]) -> UploadOut:
    there = [part["PartNumber"] for part in parts]
    return UploadOut(
        **note.model_dump(exclude={"upload_id"}),
        id=file_id,
        parts=there,
        missing=sorted({*note.numbers}.difference(there)),
        received=sum(part["Size"] for part in parts),
    )


def complete_upload(mine: OwnFiles, file_id: str) -> FileOut:
    """Make the file of its parts: 409 while some are missing. Asked again, it answers the same."""
    try:
        note = find_note(mine, file_id)
        parts = list_parts(mine, file_id, note)
        if missing := progress(file_id, note, parts).missing:
            raise HTTPException(409, f"not yet: part {missing[0]} is missing")
        names = ("PartNumber", "ETag", "ChecksumSHA256")
        chosen = {"Parts": [{name: part[name] for name in names if name in part} for part in parts]}
        with not_found():
            where = mine.at("files", file_id) | {"UploadId": note.upload_id}
            mine.s3.complete_multipart_upload(**where, MultipartUpload=chosen)
    except NotFoundError:
        mine.find(file_id)  # it was completed before; if not, there is no such upload
    mine.delete("uploads", file_id)
    return mine.find(file_id)


def abort_upload(mine: OwnFiles, file_id: str) -> None:
    """The parts first: they cost money, and only the note says where they are."""
    note = find_note(mine, file_id)
    with suppress(NotFoundError), not_found():
        mine.s3.abort_multipart_upload(**mine.at("files", file_id), UploadId=note.upload_id)
    mine.delete("uploads", file_id)
    with suppress(NotFoundError):
        mine.find(file_id)  # it was completed before, and only deleting the note had failed
        raise HTTPException(409, "the upload is complete: delete the file")


def require_size(mine: OwnFiles, size: int) -> None:
    if size > mine.settings.max_file_bytes:
        raise HTTPException(413, f"a file has at most {mine.settings.max_file_bytes} bytes")


def require_type(beginning: bytes, promised: str) -> None:
    if identify(beginning) != promised:
        raise HTTPException(415, f"the content is not {promised}")
