"""What HTTP asks of the app: tokens, HEAD, Allow, bodies as streams, digests, ranges, names, answers to errors."""

import base64
import binascii
import hashlib
import hmac
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from http import HTTPStatus
from typing import Any, Literal, TypeVar, get_args
from urllib.parse import quote

import filetype  # type: ignore[import-untyped]  # it has no types
from anyio import fail_after, from_thread, to_thread
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]  # it has no types
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import SecretStr
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send
from storage import FileOut, NotFoundError

T = TypeVar("T")
METHODS = ("GET", "POST", "PUT", "DELETE")
ContentType = Literal["application/pdf", "image/jpeg", "image/png", "video/mp4"]
TYPES = get_args(ContentType)
CHUNK = 64 * 1024
BEGINNING = 8192  # bytes by which a type is told
PAUSE = 10  # seconds for which a client may send nothing
OPEN = ("/openapi.json", "/docs")
TOO_LARGE = "this is larger than it may be"


class Gate:
    """Lets nobody in without a token, whatever the path, and answers HEAD as GET (RFC 9110 §9.3.2)."""

    def __init__(self, app: ASGIApp, tokens: dict[str, SecretStr]) -> None:
        self.app, self.tokens = app, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        owner = self.owner_of(dict(scope["headers"]).get(b"authorization", b""))
        if owner is None and scope["path"] not in OPEN:
            refusal = JSONResponse({"detail": "send Authorization: Bearer TOKEN"}, 401, {"WWW-Authenticate": "Bearer"})
            return await refusal(scope, receive, send)
        scope["state"] = {**scope.get("state", {}), "owner": owner, "is_head": scope["method"] == "HEAD"}
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        return await self.app({**scope, "method": method}, receive, send)

    def owner_of(self, authorization: bytes) -> str | None:
        """Whose token it is. All are compared, each in constant time: neither tells how much was right."""
        scheme, _, sent = authorization.partition(b" ")
        right = [
            owner
            for owner, token in self.tokens.items()
            if hmac.compare_digest(token.get_secret_value().encode(), sent.strip())
        ]
        return right[0] if right and scheme.lower() == b"bearer" else None


class Incoming:
    """The body of a request as a file, for boto3 to read in a worker thread (see `read`)."""

    def __init__(self, request: Request, limit: int, digest: str | None) -> None:
        self.request, self.chunks, self.ahead = request, request.stream(), bytearray()
        self.room, self.digest, self.sha256 = limit, digest, hashlib.sha256()
        if int(request.headers.get("content-length", "0")) > limit:
            raise HTTPException(413, TOO_LARGE)

    async def begin(self) -> None:
        """Wait for the first bytes, or for all of a small body."""
        while len(self.ahead) < BEGINNING and (chunk := await self.next_chunk()):
            self.take(chunk)

    def peek(self) -> bytes:
        """The first bytes, without taking them away."""
        self.ahead[:0] = beginning = self.read(BEGINNING)
        return beginning

    def read(self, size: int = -1) -> bytes:
        """So many bytes; fewer, or none, only at the end. 413 for more than `limit`, 400 for another digest."""
        while size < 0 or len(self.ahead) < size:
            chunk = from_thread.run(self.next_chunk)
            if not chunk:
                require_digest(self.digest, self.sha256.digest())
                break
            self.take(chunk)
        size = len(self.ahead) if size < 0 else size
        taken = bytes(self.ahead[:size])
        del self.ahead[:size]
        return taken

    def take(self, chunk: bytes) -> None:
        self.room -= len(chunk)
        if self.room < 0:
            raise HTTPException(413, TOO_LARGE)
        self.sha256.update(chunk)
        self.ahead += chunk

    async def next_chunk(self) -> bytes:
        try:
            with fail_after(PAUSE):
                return await anext(self.chunks, b"")
        except TimeoutError:
            raise HTTPException(408, "nothing came for too long", {"Connection": "close"}) from None


async def receive(body: Incoming, function: Callable[..., T], *arguments: Any) -> T:
    """Run it in a thread with the body, when that has begun to come.

    Bodies have threads of their own, so that other requests have theirs. A client that stops keeps one for `PAUSE`.
    """
    await body.begin()
    return await to_thread.run_sync(partial(function, *arguments, body), limiter=body.request.app.state.receivers)


def identify(beginning: bytes) -> str:
    """The type by the first bytes; nothing that the client says counts. 415 for a type that is not allowed."""
    found = str(filetype.guess_mime(beginning[:BEGINNING]))
    if found not in TYPES:
        raise HTTPException(415, f"the content is none of {', '.join(TYPES)}")
    return found


def require_digest(header: str | None, digest: bytes) -> None:
    """Compare with what the client computed, if it did (Content-Digest, RFC 9530): 400 where it differs."""
    if header is None:
        return
    found = re.search(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]*):", header)
    try:
        sent = base64.b64decode(found[1], validate=True) if found else b""
    except binascii.Error:
        sent = b""
    if sent != digest:
        raise HTTPException(400, "Content-Digest is not the sha-256 of the content")


def requested_range(request: Request, etag: str) -> dict[str, str]:
    """`Range` for S3: one range in bytes, unless If-Range names another version (RFC 9110 §13.1.5, §14.2)."""
    sent = request.headers.get("range", "")
    same = request.headers.get("if-range", etag) == etag
    return {"Range": sent} if same and re.fullmatch("bytes=[0-9]*-[0-9]*", sent) else {}


def attachment(filename: str) -> str:
    """Content-Disposition: the name in ASCII for old clients, and as it is (RFC 6266, RFC 8187)."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def headers_of(file: FileOut) -> dict[str, str]:
    """To be saved under its name, not shown; and never taken for another type than its own."""
    return {
        "Content-Type": file.content_type,
        "Content-Length": str(file.size),
        "Content-Disposition": attachment(file.filename),
        "X-Content-Type-Options": "nosniff",
        "Accept-Ranges": "bytes",
        "ETag": file.etag,
    }


def chunks(body: Any) -> Iterator[bytes]:
    with closing(body):
        yield from body.iter_chunks(CHUNK)


def created(file: FileOut) -> JSONResponse:
    return JSONResponse(file.model_dump(mode="json"), 201, {"Location": f"/files/{file.id}"})


def allowed_methods(request: Request) -> str:
    """All methods of the path, for Allow (RFC 9110 §10.2.1); each route knows only its own."""
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    allowed = [
        method
        for method, scope in scopes.items()
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    ]
    return ", ".join(allowed + ["HEAD"] * ("GET" in allowed))


def answer_problem(request: Request, error: Exception) -> JSONResponse:  # given
    """One shape for all errors, complete and without the input: NaN in it would break the answer itself."""
    if isinstance(error, RequestValidationError):
        problems = [{"loc": each["loc"], "msg": each["msg"], "type": each["type"]} for each in error.errors()]
        return JSONResponse({"detail": problems}, 422)
    if isinstance(error, StarletteHTTPException):
        allow = {"Allow": allowed_methods(request)} if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED else {}
        return JSONResponse({"detail": error.detail}, error.status_code, {**(error.headers or {}), **allow})
    if isinstance(error, NotFoundError):
        return JSONResponse({"detail": "you have no such file"}, 404)
    if isinstance(error, ClientDisconnect):
        return JSONResponse({"detail": "the upload broke off"}, 400)
    logging.getLogger(__name__).error("the storage fails: %s", error)
    return JSONResponse({"detail": "the storage is not available"}, 503, {"Retry-After": "5"})


def add_answers(app: FastAPI) -> None:  # given
    ours = (RequestValidationError, StarletteHTTPException, NotFoundError, ClientDisconnect)
    for problem in (*ours, BotoCoreError, ClientError):
        app.add_exception_handler(problem, answer_problem)
