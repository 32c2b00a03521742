"""Files of orders, converted as streams: on the command line, and in the background for those that are uploaded."""

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal, get_args
from uuid import UUID, uuid4

import anyio
import uvicorn
from fastapi import APIRouter, FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from jobs import FileSettings, Problem, Report, connect_queue, convert, run_worker, submit, summarise
from pydantic import BaseModel
from reading import FileFormat, Source
from redis import Redis
from redis import exceptions as errors
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq.job import Job, JobStatus
from starlette.requests import ClientDisconnect

MEDIA_TYPES = {"csv": "text/csv", "json": "application/json", "jsonl": "application/jsonl", "xml": "application/xml"}
UNAVAILABLE = (errors.ConnectionError, errors.TimeoutError, errors.OutOfMemoryError)

router = APIRouter(responses={status: {} for status in (404, 503)})


class JobOut(BaseModel):
    id: UUID
    state: Literal["queued", "started", "finished", "failed"]
    progress: int
    report: Report | None = None
    result: str | None = None


async def store(request: Request, path: Path, limit: int) -> None:
    """Write the body to the disk as it comes: 413 beyond the limit, 400 when it breaks off."""
    size = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        async with await anyio.open_file(path, "wb") as file:
            async for piece in request.stream():
                size += len(piece)
                if size > limit:
                    raise HTTPException(413, f"send {limit} bytes or less")
                await file.write(piece)
    except ClientDisconnect:
        raise HTTPException(400, "the upload broke off") from None


@router.post("/files", status_code=202, responses={400: {}, 413: {}, 422: {}})
async def create_job(
    request: Request,
    response: Response,
    source_format: Annotated[FileFormat, Query(alias="from")],
    target_format: Annotated[FileFormat, Query(alias="to")],
) -> JobOut:
    """Store the upload, then queue its conversion, and say where the outcome will be (RFC 9110 §15.3.3)."""
    settings: FileSettings = request.app.state.settings
    job_id = uuid4()
    upload = settings.upload(job_id)
    try:
        await store(request, upload, settings.max_upload_bytes)
        job = await run_in_threadpool(submit, request.app.state.queue, job_id, source_format, target_format)
    except BaseException:
        upload.unlink(missing_ok=True)
        raise
    response.headers["Location"] = f"/jobs/{job_id}"
    return describe(job)


def find_job(job_id: UUID, request: Request) -> Job:
    """The job of the path. 404 where there is none, or none any more."""
    job: Job | None = request.app.state.queue.fetch_job(str(job_id))
    if job is None:
        raise HTTPException(404, "there is no such job")
    return job


@router.get("/jobs/{job_id:uuid}")
def read_job(job_id: UUID, request: Request) -> JobOut:
    return describe(find_job(job_id, request))


@router.get("/jobs/{job_id:uuid}/result", responses={409: {}}, response_class=FileResponse)
def download(job_id: UUID, request: Request) -> FileResponse:
    """The converted file; 409 where there is none yet, or will be none."""
    settings: FileSettings = request.app.state.settings
    job, file = find_job(job_id, request), settings.result(job_id)
    if describe(job).state != "finished" or not file.is_file():
        raise HTTPException(409, "there is no result")
    target_format = str(job.meta["format"])
    plain, _, packing = target_format.partition(".")
    media_type = "application/gzip" if packing else MEDIA_TYPES[plain]
    return FileResponse(file, media_type=media_type, filename=f"orders.{target_format}")


def describe(job: Job) -> JobOut:
    """What the job has come to. One that has read a malformed file has done its work, but failed for its owner."""
    status = job.get_status(refresh=False)
    if status in (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED):
        lost = Problem(None, None, None, "the conversion was given up")
        report = job.return_value() or asdict(Report(error=lost))  # a job that has failed returns nothing
        outcome = {"state": "failed"} if report["error"] else {"state": "finished", "result": f"/jobs/{job.id}/result"}
        return JobOut.model_validate({"id": job.id, "progress": 100, "report": report, **outcome})
    state: Literal["started", "queued"] = "started" if status is JobStatus.STARTED else "queued"
    return JobOut(id=UUID(job.id), state=state, progress=job.meta.get("progress", 0))


def answer_unavailable(_request: Request, _error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "the queue does not answer"}, 503, {"Retry-After": "5"})


def answer_invalid(_request: Request, _error: Exception) -> JSONResponse:
    """FastAPI's own answer repeats the input."""
    return JSONResponse({"detail": f"from and to must each be one of {', '.join(get_args(FileFormat))}"}, 422)


def create_app() -> FastAPI:
    """Return the app on the queue that REDIS_URL names; it connects with the first request."""
    app = FastAPI(title="Files")
    settings = app.state.settings = FileSettings()
    # A client waits for the answer: one retry, then 503; redis-py's default is ten retries.
    connection = Redis.from_url(settings.redis_url, retry=Retry(NoBackoff(), 1), socket_timeout=2)
    app.state.queue = connect_queue(connection)
    app.include_router(router)
    for problem in UNAVAILABLE:
        app.add_exception_handler(problem, answer_unavailable)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    return app


def run_command(command: str, source: Path, target: Path | None) -> int:
    """Run a command, print its report, and return the exit code."""
    records = Source(source, format_of(source.name), FileSettings().max_file_bytes)
    if target:
        report, more = convert(records, target, format_of(target.name)), {}
    else:
        report, summary = summarise(records)
        more = {"summary": None if report.error else summary} if command == "summarise" else {}
    print(json.dumps(asdict(report) | more), flush=True)
    if report.error:
        print(f"error: {source.name}: {report.error.reason}", file=sys.stderr)
    return report.exit_code


def format_of(name: str) -> str:  # given
    """The format that a file's name ends with. Raises argparse.ArgumentTypeError."""
    for file_format in get_args(FileFormat):
        if name.lower().endswith(f".{file_format}"):
            return str(file_format)
    raise argparse.ArgumentTypeError(f"the name must end with {', '.join(f'.{each}' for each in get_args(FileFormat))}")


def file_path(name: str) -> Path:  # given
    format_of(name)
    return Path(name)


def main() -> None:  # given
    """Serve the app on HOST and PORT, run a worker, or run a command on a file."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("worker", help="do the jobs that the web app queues")
    for name in ("convert", "validate", "summarise"):
        command = commands.add_parser(name)
        command.add_argument("source", type=file_path, metavar="IN")
        if name == "convert":
            command.add_argument("target", type=file_path, metavar="OUT")
        if name == "validate":
            command.add_argument("--schema", choices=["orders"], default="orders")
    arguments = parser.parse_args()
    try:
        if arguments.command == "worker":
            run_worker(FileSettings())
        elif arguments.command:
            sys.exit(run_command(arguments.command, arguments.source, getattr(arguments, "target", None)))
        else:
            host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))
            uvicorn.run(create_app(), host=host, port=port)
    except OSError as error:  # stdout cannot be written; without another one Python tries again when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(f"the report cannot be written: {error.strerror}")
    except (ValueError, errors.ConnectionError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
