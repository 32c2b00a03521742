"""The same uploads in FastAPI, read from the stream: an UploadFile is there only when all of the body has been read."""

import hashlib
import os
import re
from pathlib import Path
from typing import IO, Any
from uuid import UUID, uuid4

import filetype  # type: ignore[import-untyped]  # it has no types
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, Response
from PIL import Image
from pydantic import BaseModel
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

MAX_PIXELS = 25_000_000
MAX_NAME = 100
MAX_PARTS = 100
MAX_FIELD_BYTES = 100_000
PNG = ("image/png", "PNG", (".png",))
KINDS: dict[str | None, tuple[str, str | None, tuple[str, ...]]] = {
    "image/png": PNG,
    "image/apng": PNG,
    "image/jpeg": ("image/jpeg", "JPEG", (".jpg", ".jpeg")),
    "image/gif": ("image/gif", "GIF", (".gif",)),
    "image/webp": ("image/webp", "WEBP", (".webp",)),
    "application/pdf": ("application/pdf", None, (".pdf",)),
}
FORM_SCHEMA = {"type": "object", "required": ["file"], "properties": {"file": {"type": "string", "format": "binary"}}}
UPLOAD = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FORM_SCHEMA}}}}
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The form is broken, or has not exactly one file"},
    413: {"description": "The file is too large"},
    415: {"description": "Not a form, or none of the five types"},
    422: {"description": "The image is broken, or has too many pixels"},
}
BYTES = {"schema": {"type": "string", "format": "binary"}}
FILES = {content_type: BYTES for content_type, _, _ in KINDS.values()}
DOWNLOADS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file", "content": FILES},
    206: {"description": "A range of it", "content": FILES},
    400: {"description": "The range is malformed"},
    404: {"description": "No such file"},
    416: {"description": "The range is outside the file"},
}


class Stored(BaseModel):
    url: str
    filename: str
    content_type: str
    size: int
    sha256: str


class FormReader:
    """Feeds a form's bytes to a parser and writes its file, as far as it has come, to `file`."""

    def __init__(self, boundary: bytes, file: IO[bytes], limit: int) -> None:
        self.filename: str | None = None
        self.size = 0
        self.hash = hashlib.sha256()
        self._file = file
        self._limit = limit
        self._parts = self._field_bytes = 0
        self._header: tuple[bytearray, bytearray] = bytearray(), bytearray()
        self._disposition = ""
        self._in_file = self._complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_end": self._on_end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        self._parser.write(chunk)

    def finish(self) -> None:
        """Check that the form is whole and has a file with something in it."""
        if not self._complete:
            raise HTTPException(400, "the form is cut short")
        if self.filename is None or not self.size:
            raise HTTPException(400, "the file is empty" if self.filename else 'there is no file called "file"')
        self._file.flush()

    def _on_part_begin(self) -> None:
        self._parts += 1
        self._field_bytes = 0
        self._disposition = ""
        if self._parts > MAX_PARTS:
            raise HTTPException(413, f"the form has more than {MAX_PARTS} parts")

    def _on_header_end(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = value.decode("latin-1")
        self._header = bytearray(), bytearray()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._in_file = b"filename" in options
        if not self._in_file:
            return
        if self.filename is not None or options.get(b"name") != b"file":
            raise HTTPException(400, 'send one file, called "file"')
        self.filename = options[b"filename"].decode(errors="replace")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if not self._in_file:
            self._field_bytes += end - start
            if self._field_bytes > MAX_FIELD_BYTES:
                raise HTTPException(413, "a field of the form is too long")
            return
        self.size += end - start
        if self.size > self._limit:
            raise HTTPException(413, f"the file has more than {self._limit} bytes")
        piece = data[start:end]
        self.hash.update(piece)
        self._file.write(piece)

    def _on_end(self) -> None:
        self._complete = True


async def receive(request: Request, file: IO[bytes], limit: int) -> FormReader:
    """Read the body piece by piece; parsing and writing happen in a thread, and the loop stays free."""
    content_type, options = parse_options_header(request.headers.get("content-type"))
    if content_type != b"multipart/form-data":
        raise HTTPException(415, "send multipart/form-data")
    try:
        reader = FormReader(options.get(b"boundary", b"") or b"none given", file, limit)
        async for chunk in request.stream():
            await run_in_threadpool(reader.feed, chunk)
    except FormParserError:
        raise HTTPException(400, "this is not multipart/form-data") from None
    except ClientDisconnect:
        raise HTTPException(400, "the client has hung up") from None
    reader.finish()
    return reader


def identify(path: Path) -> tuple[str, tuple[str, ...]]:
    """The content's type and extensions; an image has to decode."""
    kind = KINDS.get(filetype.guess_mime(str(path)))
    if kind is None:
        raise HTTPException(415, "the content is none of PNG, JPEG, GIF, WebP and PDF")
    content_type, image_format, extensions = kind
    if image_format:
        try:
            with Image.open(path, formats=[image_format]) as image:
                small_enough = image.width * image.height <= MAX_PIXELS
                if small_enough:
                    image.load()
        except Exception as error:
            raise HTTPException(422, "the image does not decode") from error
        if not small_enough:
            raise HTTPException(422, f"the image has more than {MAX_PIXELS:,} pixels")
    return content_type, extensions


def shown_name(name: str, extensions: tuple[str, ...]) -> str:
    visible = "".join(filter(str.isprintable, re.split(r"[/\\]", name)[-1])).strip(". ")
    if not visible.lower().endswith(extensions):
        visible += extensions[0]
    stem, _, extension = visible.rpartition(".")
    return f"{stem[: MAX_NAME - len(extension) - 1] or 'file'}.{extension}"


class HeadIsGet:
    """Answers HEAD as GET; the server in front leaves the body out."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send)


async def answer_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


def create_app() -> FastAPI:
    """Return the app that keeps files in UPLOAD_DIR, each of at most MAX_UPLOAD_BYTES."""
    folder = Path(os.environ.get("UPLOAD_DIR", "uploads")).absolute()
    limit = int(os.environ.get("MAX_UPLOAD_BYTES", "5242880"))
    folder.mkdir(parents=True, exist_ok=True)
    app = FastAPI(title="Uploads")
    app.add_middleware(HeadIsGet)
    app.add_exception_handler(StarletteHTTPException, answer_error)
    add_routes(app, folder, limit)
    return app


def add_routes(app: FastAPI, folder: Path, limit: int) -> None:
    @app.post("/upload", status_code=201, openapi_extra=UPLOAD, responses=REFUSALS)
    async def upload(request: Request, response: Response) -> Stored:
        key = str(uuid4())
        part = folder / f"{key}.part"
        try:
            with part.open("wb") as file:
                reader = await receive(request, file, limit)
            content_type, extensions = await run_in_threadpool(identify, part)
            url = str(request.app.url_path_for("download", key=key))
            name = shown_name(reader.filename or "", extensions)
            stored = Stored(
                url=url, filename=name, content_type=content_type, size=reader.size, sha256=reader.hash.hexdigest()
            )
            (folder / f"{key}.json").write_text(stored.model_dump_json(), encoding="utf-8")
            part.rename(folder / key)  # last: a file is there when its bytes are
        finally:
            part.unlink(missing_ok=True)
        response.headers["Location"] = url
        return stored

    @app.get("/files/{key:uuid}", response_class=FileResponse, responses=DOWNLOADS)
    def download(key: UUID) -> FileResponse:
        path = folder / str(key)
        if not path.exists():
            raise HTTPException(404, "there is no such file")
        stored = Stored.model_validate_json((folder / f"{key}.json").read_bytes())
        headers = {"X-Content-Type-Options": "nosniff"}
        return FileResponse(path, media_type=stored.content_type, filename=stored.filename, headers=headers)


def main() -> None:
    """Serve the app on HOST and PORT."""
    uvicorn.run(create_app(), host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ.get("PORT", "8000")))


if __name__ == "__main__":
    main()
