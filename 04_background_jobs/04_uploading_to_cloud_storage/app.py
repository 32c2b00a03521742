"""Files of users in cloud storage: uploaded through the app, past it or in parts, and downloaded by their owners."""

import argparse
import os
import sys
from typing import Annotated

import storage
import uploads
import uvicorn
from anyio import CapacityLimiter
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]  # it has no types
from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse
from fastapi.security import HTTPBearer
from http_rules import Gate, Incoming, add_answers, attachment, chunks, created, headers_of, receive, requested_range
from storage import FileOut, FolderOut, OwnFiles, read_settings
from uploads import Category, Filename, FormIn, FormOut, UploadIn, UploadOut

BEARER = HTTPBearer(auto_error=False)  # for the OpenAPI document only: Gate is what checks
BYTES = {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string"}}}}}

router = APIRouter(responses={status: {} for status in (400, 401, 404, 408, 409, 413, 415, 422, 503)})


def own_files(request: Request, _: Annotated[object, Depends(BEARER)]) -> OwnFiles:  # given
    return OwnFiles(request.app.state.s3, request.app.state.settings, request.state.owner)


Mine = Annotated[OwnFiles, Depends(own_files)]
FileId = Annotated[str, Path(pattern=storage.FILE_ID)]
Digest = Annotated[str | None, Header(alias="Content-Digest")]


@router.post("/files", status_code=201, response_model=FileOut, openapi_extra=BYTES)
async def create_file(
    *, request: Request, mine: Mine, category: Category, filename: Filename, content_digest: Digest = None
) -> Response:
    """Through the app. Bodies that come slowly have threads of their own: other requests do not wait for them."""
    body = Incoming(request, mine.settings.max_file_bytes, content_digest)
    return created(await receive(body, uploads.store, mine, category, filename))


@router.post("/files/presign")
def presign(mine: Mine, body: FormIn) -> FormOut:
    """Past the app: a signed form for this one file, to be sent to S3 and then confirmed."""
    return uploads.sign_form(mine, body)


@router.post("/files/{file_id}/confirm", status_code=201, response_model=FileOut)
def confirm(mine: Mine, file_id: FileId) -> Response:
    return created(uploads.confirm(mine, file_id))


@router.get("/files")
def list_files(
    mine: Mine,
    folder: Annotated[str, Query(pattern=storage.FOLDER)] = "",
    after: Annotated[str, Query(pattern="^[a-z0-9-]{0,36}$")] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> FolderOut:
    """What is in a folder: categories at the top, dates in a category, files in a date."""
    return mine.list_folder(folder, after, limit)


@router.get("/files/{file_id}", response_class=StreamingResponse, responses={206: {}, 416: {}})
def download(request: Request, mine: Mine, file_id: FileId) -> Response:
    """Through the app: the file, or the range of it that is asked for. S3 itself knows what a range means."""
    file = mine.find(file_id)
    headers = headers_of(file)
    if request.state.is_head:
        return Response(headers=headers)
    part = mine.open_part(file, requested_range(request, file.etag))
    if "ContentRange" in part:
        headers |= {"Content-Range": part["ContentRange"], "Content-Length": str(part["ContentLength"])}
    return StreamingResponse(chunks(part["Body"]), 206 if "ContentRange" in part else 200, headers)


@router.get("/files/{file_id}/link", status_code=307, response_class=RedirectResponse)
def link(mine: Mine, file_id: FileId) -> RedirectResponse:
    """Past the app: to a signed URL, which for a minute works for everyone who has it."""
    file = mine.find(file_id)
    return RedirectResponse(mine.sign_link(file, attachment(file.filename)), 307, {"Cache-Control": "no-store"})


@router.delete("/files/{file_id}", status_code=204)
def delete_file(mine: Mine, file_id: FileId) -> None:
    mine.find(file_id)  # S3 answers 204 also for what was never there
    mine.delete("files", file_id)


@router.post("/uploads", status_code=201, response_model=UploadOut)
def begin_upload(mine: Mine, body: UploadIn) -> Response:
    upload = uploads.begin_upload(mine, body)
    return JSONResponse(upload.model_dump(mode="json"), 201, {"Location": f"/uploads/{upload.id}"})


@router.get("/uploads/{file_id}")
def read_upload(mine: Mine, file_id: FileId) -> UploadOut:
    return uploads.read_upload(mine, file_id)


@router.put("/uploads/{file_id}/parts/{number}", status_code=204, openapi_extra=BYTES)
async def put_part(
    *, request: Request, mine: Mine, file_id: FileId, number: int, content_digest: Digest = None
) -> None:
    """Take a part whole or not at all. The same number again replaces it, until the upload is complete."""
    body = Incoming(request, storage.LARGEST_PART, content_digest or "")
    await receive(body, uploads.take_part, mine, file_id, number)


@router.post("/uploads/{file_id}/complete", status_code=201, response_model=FileOut)
def complete_upload(mine: Mine, file_id: FileId) -> Response:
    return created(uploads.complete_upload(mine, file_id))


@router.delete("/uploads/{file_id}", status_code=204)
def abort_upload(mine: Mine, file_id: FileId) -> None:
    uploads.abort_upload(mine, file_id)


def create_app() -> FastAPI:
    """Return the app on the bucket that S3_BUCKET names, which `python app.py setup` has made."""
    app = FastAPI(title="Files", redoc_url=None)
    settings = app.state.settings = read_settings()
    app.state.s3 = storage.connect(settings)
    app.state.receivers = CapacityLimiter(20)  # bodies at a time, each with a part in memory; others wait
    app.include_router(router)
    app.add_middleware(Gate, tokens=settings.owner_tokens)
    add_answers(app)
    return app


def main() -> None:  # given
    """Serve the app on HOST and PORT, or set up the bucket."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", nargs="?", choices=["setup"], help="create and configure the bucket")
    try:
        command, settings = parser.parse_args().command, read_settings()
        if command == "setup":
            storage.set_up(storage.connect(settings), settings.s3_bucket)
        else:
            uvicorn.run(create_app(), host=os.environ.get("HOST", "127.0.0.1"), port=settings.port)
    except (ValueError, BotoCoreError, ClientError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
