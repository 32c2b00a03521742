"""Work off the request path: the web app queues jobs and tells what became of them, workers run them."""

import argparse
import os
import sys
from typing import Annotated
from uuid import UUID, uuid4

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from jobs import EmailIn, Jobs, JobStatusOut, QueueOut, ReportIn, UnknownJobError
from redis import exceptions as errors
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from starlette.requests import ClientDisconnect
from tasks import generate_report, make_thumbnail, send_email, store_once
from worker import JobSettings, run_worker

LARGEST_UPLOAD = 10 * 1024 * 1024  # bytes
IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp")
UNAVAILABLE = (errors.ConnectionError, errors.TimeoutError, errors.OutOfMemoryError)

router = APIRouter(responses={status: {} for status in (400, 404, 409, 503)})  # what the OpenAPI document shall name


def get_jobs(request: Request) -> Jobs:  # given
    jobs: Jobs = request.app.state.jobs
    return jobs


async def read_upload(request: Request) -> bytes:
    """The whole body: 415 for another type, 413 for too much, 422 for nothing, 400 when it breaks off."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in IMAGE_TYPES:
        raise HTTPException(415, f"send {' or '.join(IMAGE_TYPES)}")
    upload = bytearray()
    try:
        async for chunk in request.stream():
            upload += chunk
            if len(upload) > LARGEST_UPLOAD:
                raise HTTPException(413, f"send {LARGEST_UPLOAD} bytes or less")
    except ClientDisconnect:
        raise HTTPException(400, "the upload broke off") from None
    if not upload:
        raise HTTPException(422, "send an image")
    return bytes(upload)


Queued = Annotated[Jobs, Depends(get_jobs)]
Upload = Annotated[bytes, Depends(read_upload)]


@router.post("/reports", status_code=202)
def create_report(body: ReportIn, jobs: Queued, response: Response) -> JobStatusOut:
    return accept(jobs.submit("report", generate_report, body.month), response)


@router.post("/emails", status_code=202)
def create_email(body: EmailIn, jobs: Queued, response: Response) -> JobStatusOut:
    return accept(jobs.submit("email", send_email, body.to, body.subject, body.body), response)


@router.post("/thumbnails", status_code=202, responses={413: {}, 415: {}, 422: {}})
def create_thumbnail(upload: Upload, jobs: Queued, response: Response) -> JobStatusOut:
    """Store the upload first, then queue: a worker may take the job before this function returns."""
    job_id = uuid4()
    store_once(jobs.settings.data_dir / "uploads" / str(job_id), upload)
    return accept(jobs.submit("thumbnail", make_thumbnail, job_id=job_id), response)


@router.get("/jobs/{job_id:uuid}")
def read_job(job_id: UUID, jobs: Queued) -> JobStatusOut:
    return jobs.status(job_id)


@router.delete("/jobs/{job_id:uuid}", status_code=202)
def cancel_job(job_id: UUID, jobs: Queued) -> JobStatusOut:
    """Ask for the end of a job: 202, since a worker needs a moment; 409 for one that has ended already."""
    jobs.cancel(job_id)
    return jobs.status(job_id)


@router.get("/queue")
def read_queue(jobs: Queued) -> QueueOut:
    return jobs.overview()


@router.get("/dead-letters")
def list_dead_letters(jobs: Queued) -> list[JobStatusOut]:
    return [jobs.describe(job) for job in jobs.dead_letters()]


@router.post("/dead-letters/{job_id:uuid}/requeue", status_code=202)
def requeue_job(job_id: UUID, jobs: Queued, response: Response) -> JobStatusOut:
    """Give a dead letter all its attempts again; 409 for a job that is none."""
    jobs.requeue(job_id)
    return accept(jobs.status(job_id), response)


def accept(status: JobStatusOut, response: Response) -> JobStatusOut:
    """Say where the outcome will be: 202 promises only that someone will try (RFC 9110 §15.3.3)."""
    response.headers["Location"] = f"/jobs/{status.id}"
    return status


def answer_problem(_request: Request, error: Exception) -> JSONResponse:
    """Tell apart: no such job, a job in another state, and no queue, where nothing was accepted."""
    if isinstance(error, UNAVAILABLE):
        return JSONResponse({"detail": "the queue does not answer"}, 503, {"Retry-After": "5"})
    if isinstance(error, UnknownJobError):
        return JSONResponse({"detail": "there is no such job"}, 404)
    return JSONResponse({"detail": "the job's state does not allow that"}, 409)


def answer_invalid(_request: Request, error: Exception) -> JSONResponse:
    """Name each wrong field and why, without the input: NaN in it would break the answer itself."""
    assert isinstance(error, RequestValidationError)
    problems = [{"loc": problem["loc"], "msg": problem["msg"], "type": problem["type"]} for problem in error.errors()]
    return JSONResponse({"detail": problems}, 422)


def create_app() -> FastAPI:
    """Return the app on the queue that REDIS_URL names; it connects with the first request."""
    app = FastAPI(title="Jobs")
    app.state.jobs = Jobs(JobSettings())
    app.include_router(router)
    for problem in [UnknownJobError, InvalidJobOperation, NoSuchJobError, *UNAVAILABLE]:
        app.add_exception_handler(problem, answer_problem)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    return app


def main() -> None:  # given
    """Serve the app on HOST and PORT, or run a worker."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", nargs="?", choices=["worker"], help="run a worker instead of the web app")
    try:
        if parser.parse_args().command == "worker":
            run_worker(JobSettings())
        else:
            host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))
            uvicorn.run(create_app(), host=host, port=port)
    except (ValueError, errors.ConnectionError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
