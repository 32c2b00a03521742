"""Reading an upload piece by piece: counted and hashed on its way to the disk, and ended where the limit is."""

import hashlib
import io
from typing import IO, Any, cast

from flask import Request
from werkzeug.exceptions import BadRequest, ClientDisconnected, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.formparser import FormDataParser

FORM = "multipart/form-data"
# What a request may hold besides the file; without these the form itself could fill the memory.
MAX_PARTS = 100
MAX_FIELD_BYTES = 128 * 1024
MAX_OTHER_BYTES = 1024 * 1024


class Incoming:
    """Stands between the form parser and a file, and sees all that is written."""

    def __init__(self, file: IO[bytes], filename: str, limit: int) -> None:
        self.filename = filename
        self.size = 0
        self._file = file
        self._limit = limit
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: bytes) -> int:
        """Write one piece. Raises RequestEntityTooLarge for the first byte over the limit."""
        self.size += len(data)
        if self.size > self._limit:
            raise RequestEntityTooLarge(f"the file has more than {self._limit} bytes")
        self._hash.update(data)
        return self._file.write(data)

    def seek(self, offset: int) -> int:
        return self._file.seek(offset)


class WholeChunks(io.RawIOBase):
    """What Werkzeug's own server reads of a body in chunks, up to where the client hangs up.

    In a chunk that is cut short that server (3.1) counts bytes which it did not get, and `read` would then return
    whatever lies in memory behind the buffer, or crash.
    """

    def __init__(self, source: io.RawIOBase) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer. Raises ClientDisconnected."""
        target = memoryview(buffer)
        piece = bytearray(len(target))
        size = self._source.readinto(piece) or 0
        if len(piece) < len(target):
            raise ClientDisconnected
        target[:size] = piece[:size]
        return size


def receive(request: Request, file: IO[bytes], limit: int) -> Incoming:
    """Read the request's one file, of at most `limit` bytes, into `file`; drop the other fields.

    Raises UnsupportedMediaType for what is no form, RequestEntityTooLarge, and BadRequest for a form that is broken or
    has not exactly one file, which is called `file` and not empty.
    """
    if request.mimetype != FORM:
        raise UnsupportedMediaType(f"send {FORM}, not {request.mimetype or 'a body without a type'}")
    if isinstance(source := request.environ["wsgi.input"], io.RawIOBase):
        request.environ["wsgi.input"] = WholeChunks(source)
    request.max_content_length = limit + MAX_OTHER_BYTES  # refuses by Content-Length before anything is read
    incoming: list[Incoming] = []

    def open_part(  # the parser's stream_factory: what it reads of a file goes to what this returns
        total_content_length: int | None,  # noqa: ARG001
        content_type: str | None,  # noqa: ARG001
        filename: str | None,
        content_length: int | None = None,  # noqa: ARG001
    ) -> IO[bytes]:
        if incoming:
            raise BadRequest("send one file, not several")
        incoming.append(Incoming(file, filename or "", limit))
        return cast("IO[bytes]", incoming[0])

    parser = FormDataParser(open_part, max_form_memory_size=MAX_FIELD_BYTES, max_form_parts=MAX_PARTS, silent=False)
    try:
        _, _, files = parser.parse(request.stream, FORM, request.content_length, request.mimetype_params)
    except ValueError as error:
        raise BadRequest(f"this is not {FORM}, or not all of it") from error
    if "file" not in files:
        raise BadRequest('the form has no file called "file"')
    if incoming[0].size == 0:
        raise BadRequest("the file is empty")
    return incoming[0]
