"""The same envelope in FastAPI, which has the shape as models, and describes it in /openapi.json."""

import hashlib
import itertools
import os
from typing import Annotated, Any, Generic, Literal, TypeVar

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

JSON = "application/json"
MAX_BODY_BYTES = 65_536
METHODS = ("GET", "POST", "DELETE")
# Starlette's and our own: the code, and what it means to a person.
ERRORS = {
    404: ("route_not_found", "No route fits this URL"),
    405: ("method_not_allowed", "Allow lists the methods of this URL"),
    413: ("content_too_large", f"Send at most {MAX_BODY_BYTES} bytes"),
    415: ("unsupported_media_type", f"Send {JSON}, and declare it"),
    500: ("internal_error", "The app has failed"),
}
Data = TypeVar("Data")


def not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "This must not be blank")
    return text


class NoteIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: Annotated[str, Field(max_length=100, json_schema_extra={"pattern": r"\S"}), AfterValidator(not_blank)]
    text: Annotated[str, Field(max_length=5_000)] = ""


class Note(BaseModel):
    id: int
    title: str
    text: str


class Success(BaseModel, Generic[Data]):
    model_config = ConfigDict(extra="forbid")

    status: Literal["success"] = "success"
    data: Data


class Count(BaseModel):
    count: int


class Listing(Success[list[Note]]):
    meta: Count


class FieldError(BaseModel):
    field: str
    message: str


class Error(BaseModel):
    model_config = ConfigDict(extra="forbid")

    code: str
    message: str
    fields: list[FieldError] = Field(default=[], min_length=1)


class Failure(BaseModel):
    model_config = ConfigDict(extra="forbid")

    status: Literal["error"] = "error"
    data: None = None
    error: Error


class ApiError(Exception):
    def __init__(self, status: int, code: str, message: str, fields: list[FieldError] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error = Error(code=code, message=message, **({} if fields is None else {"fields": fields}))


def answer(status: int, envelope: BaseModel, headers: dict[str, str] | None = None) -> Response:
    return Response(envelope.model_dump_json(), status, headers, media_type=JSON)


def failure(status: int, error: Error, headers: dict[str, str] | None = None) -> Response:
    envelope = {"status": "error", "data": None, "error": error.model_dump(exclude_unset=True)}
    return JSONResponse(envelope, status, headers)


def found(request: Request, envelope: BaseModel) -> Response:
    """A 200 with its ETag, or a 304 where the client has it (weak comparison, RFC 9110 §13.1.2)."""
    response = answer(200, envelope)
    etag = f'"{hashlib.sha256(response.body).hexdigest()[:32]}"'
    known = [tag.strip().removeprefix("W/") for tag in ",".join(request.headers.getlist("if-none-match")).split(",")]
    if etag in known or known == ["*"]:
        return Response(status_code=304, headers={"ETag": etag})
    response.headers["ETag"] = etag
    return response


class HeadIsGet:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # the server leaves the body out
        await self.app(scope, receive, send)


def allowed_methods(request: Request) -> str:
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    routes = request.app.routes
    allowed = [method for method in METHODS if any(route.matches(scopes[method])[0] is Match.FULL for route in routes)]
    return ", ".join(allowed + ["HEAD"] * ("GET" in allowed))


async def sent_note(request: Request) -> NoteIn:
    """Read the body here, since FastAPI would read one of any size, and repeat it in its errors."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise HTTPException(415)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise HTTPException(413)
    except ClientDisconnect:
        raise ApiError(400, "incomplete_body", "The body is cut short") from None
    try:
        return NoteIn.model_validate_json(bytes(body))
    except ValidationError as error:
        problems = error.errors(include_input=False, include_context=False, include_url=False)
    if problems[0]["type"] == "json_invalid":
        raise ApiError(400, "malformed_json", "This is no JSON")
    fields = [FieldError(field=".".join(map(str, each["loc"])), message=each["msg"]) for each in problems]
    raise ApiError(422, "validation_failed", "This is no valid note", fields)


async def answer_api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return failure(error.status, error.error)


async def answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code, message = ERRORS.get(error.status_code, ("bad_request", "The request cannot be understood"))
    headers = {"Allow": allowed_methods(request)} if error.status_code == 405 else dict(error.headers or {})  # noqa: PLR2004
    return failure(error.status_code, Error(code=code, message=message), headers)


async def answer_crash(_request: Request, _error: Exception) -> Response:
    """Starlette raises the error again after this, and the server logs it."""
    code, message = ERRORS[500]
    return failure(500, Error(code=code, message=message))


async def fail() -> None:
    raise RuntimeError("cannot open /srv/notes.db: the disk is full")


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"description": "You have it"} if status == 304 else {"model": Failure}  # noqa: PLR2004
        for status in statuses
    }


# Id and body are read by hand: FastAPI would promise a 422 of its own for a parameter that it knows.
NOTE = "/notes/{note_id}"
ID = {"parameters": [{"name": "note_id", "in": "path", "required": True, "schema": {"type": "string"}}]}
BODY = {"requestBody": {"required": True, "content": {JSON: {"schema": NoteIn.model_json_schema()}}}}


def make_routes() -> APIRouter:
    """All endpoints run on the event loop, one at a time, so the notes need no lock."""
    router = APIRouter()
    notes: dict[str, Note] = {}
    ids = itertools.count(1)

    @router.get("/notes", response_model=Listing, responses=responses(304))
    async def list_notes(request: Request) -> Response:
        return found(request, Listing(data=list(notes.values()), meta=Count(count=len(notes))))

    @router.post(
        "/notes",
        status_code=201,
        response_model=Success[Note],
        responses=responses(400, 413, 415, 422),
        openapi_extra=BODY,
    )
    async def create_note(sent: Annotated[NoteIn, Depends(sent_note)]) -> Response:
        note = Note(id=next(ids), title=sent.title, text=sent.text)
        notes[str(note.id)] = note
        return answer(201, Success(data=note), {"Location": f"/notes/{note.id}"})

    @router.get("/latest", response_model=Success[Note | None], responses=responses(304))
    async def read_latest_note(request: Request) -> Response:
        return found(request, Success(data=next(reversed(notes.values()), None)))

    @router.get(NOTE, response_model=Success[Note], responses=responses(304, 404), openapi_extra=ID)
    async def read_note(request: Request) -> Response:
        return found(request, Success(data=the_note(request)))

    @router.delete(NOTE, status_code=204, responses=responses(404), openapi_extra=ID)
    async def delete_note(request: Request) -> None:
        del notes[str(the_note(request).id)]

    def the_note(request: Request) -> Note:
        note = notes.get(request.path_params["note_id"])
        if note is None:
            raise ApiError(404, "note_not_found", "This note does not exist")
        return note

    return router


def create_app() -> FastAPI:
    """Return the app; with ENVIRONMENT=testing it has a route that fails."""
    app = FastAPI(title="Notes", docs_url=None, redoc_url=None, redirect_slashes=False)
    app.include_router(make_routes())
    if os.environ.get("ENVIRONMENT") == "testing":
        app.add_api_route("/faults/unhandled", fail, include_in_schema=False)
    app.add_middleware(HeadIsGet)
    app.add_exception_handler(ApiError, answer_api_error)
    app.add_exception_handler(HTTPException, answer_http_error)
    app.add_exception_handler(Exception, answer_crash)
    return app


def main() -> None:
    """Serve the app on HOST and PORT."""
    uvicorn.run(create_app(), host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ.get("PORT", "8000")))


if __name__ == "__main__":
    main()
