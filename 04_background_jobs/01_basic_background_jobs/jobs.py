"""The queue as the web app sees it: submit, look up, cancel and requeue jobs, with RQ behind it."""

import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry as ConnectionRetry
from rq import Retry, Worker
from rq.command import send_stop_job_command
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Job, JobStatus
from worker import JobSettings, connect_queue

REMEMBERED = 30 * 24 * 3600  # seconds for which a job's id is known, and a dead letter kept


def without_repeats(addresses: list[str]) -> list[str]:  # given
    if len(set(addresses)) != len(addresses):
        raise ValueError("name each address once")
    return addresses


Address = Annotated[str, Field(max_length=254, pattern=r"^[A-Za-z0-9_.+-]{1,64}@[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+$")]


ONE_LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ReportIn(Body):
    month: Annotated[str, Field(pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])$")]


class EmailIn(Body):
    """The subject is one line, for Unicode too: a line break in it would begin another header."""

    to: Annotated[list[Address], Field(min_length=1, max_length=50), AfterValidator(without_repeats)]
    subject: Annotated[str, Field(min_length=1, max_length=200, pattern=ONE_LINE)]
    body: Annotated[str, Field(max_length=10_000)]


class JobStatusOut(BaseModel):
    id: UUID
    kind: str
    status: str
    progress: int
    attempts: int | None = None
    result: dict[str, Any] | None = None
    error: str | None = None
    next_attempt_at: datetime | None = None
    expired: bool = False


class QueueOut(BaseModel):
    queued: int
    started: int
    scheduled: int
    failed: int
    workers: int


class UnknownJobError(Exception):
    """The id was never given out, or more than 30 days ago."""


class Jobs:
    def __init__(self, settings: JobSettings) -> None:
        # A client waits for our answer: rather a quick 503 than redis-py's ten patient retries.
        impatient = ConnectionRetry(NoBackoff(), 1)
        self.settings = settings
        self.connection = Redis.from_url(settings.redis_url, retry=impatient, socket_timeout=2)
        self.queue = connect_queue(self.connection)

    def submit(
        self, kind: str, task: Callable[..., object], *arguments: object, job_id: UUID | None = None
    ) -> JobStatusOut:
        """Queue the task. In the same transaction its id becomes known, for longer than RQ knows it."""
        job_id = job_id or uuid4()
        pauses = self.settings.retry_seconds
        with self.connection.pipeline() as transaction:
            job = self.queue.enqueue_call(
                task,
                arguments,
                job_id=str(job_id),
                timeout=self.settings.job_timeout,
                result_ttl=self.settings.result_ttl,
                failure_ttl=REMEMBERED,
                retry=Retry(max=len(pauses), interval=pauses),
                description=kind,  # RQ's own would log the arguments, addresses among them
                pipeline=transaction,
            )
            transaction.set(known(job_id), kind, ex=REMEMBERED)
            transaction.execute()
        return self.describe(job)

    def status(self, job_id: UUID) -> JobStatusOut:
        """What is known of the job. Raises UnknownJobError."""
        if job := self.queue.fetch_job(str(job_id)):
            return self.describe(job)
        kind = self.connection.get(known(job_id))
        if kind is None:
            raise UnknownJobError
        # RQ forgets before `known` does only what has succeeded: see `submit` and `cancel`.
        return JobStatusOut(id=job_id, kind=as_text(kind), status="finished", progress=100, expired=True)

    def describe(self, job: Job) -> JobStatusOut:
        """Tell it from what was read with the job; what that points at may be gone by now."""
        status = job.get_status(refresh=False)
        answer = JobStatusOut(
            id=UUID(job.id),
            kind=job.description or "",
            status="canceled" if status is JobStatus.STOPPED else status.value,
            progress=job.meta.get("progress", 0),
            attempts=job.meta.get("attempts", 0),
        )
        if status is JobStatus.FINISHED:
            answer.progress, answer.result = 100, job.return_value()
            answer.expired = answer.result is None
        if status in (JobStatus.FAILED, JobStatus.SCHEDULED):
            # Python's errors are in meta; a job whose process was killed could not write there.
            answer.error = job.meta.get("error") or (job.exc_info or "").strip().rpartition("\n")[2] or None
        if status is JobStatus.SCHEDULED:
            with contextlib.suppress(NoSuchJobError):
                answer.next_attempt_at = self.queue.scheduled_job_registry.get_scheduled_time(job)
        return answer

    def cancel(self, job_id: UUID) -> None:
        """End a job that waits, ask for the end of one that runs. Raises InvalidJobOperation for others."""
        job = self.fetch(job_id)
        if job.is_started:
            send_stop_job_command(self.connection, job.id, serializer=self.queue.serializer)
        elif job.is_queued or job.is_scheduled:
            job.cancel()
            # RQ keeps cancelled jobs, and the list of them, for ever.
            self.queue.canceled_job_registry.remove(job)
            job.cleanup(REMEMBERED)
        else:
            raise InvalidJobOperation

    def dead_letters(self) -> list[Job]:
        """The jobs that have failed for good. RQ keeps those that were stopped on request with them."""
        ids = self.queue.failed_job_registry.get_job_ids()
        jobs = Job.fetch_many(ids, self.connection, self.queue.serializer)
        return [job for job in jobs if job and job.get_status(refresh=False) is JobStatus.FAILED]

    def requeue(self, job_id: UUID) -> None:
        """Queue a dead letter again, with all its retries. Raises InvalidJobOperation for any other job."""
        job = self.fetch(job_id)
        if not job.is_failed:
            raise InvalidJobOperation
        job.retries_left = len(job.retry_intervals or [])
        self.queue.failed_job_registry.requeue(job)

    def fetch(self, job_id: UUID) -> Job:
        """Return what RQ knows. Raises UnknownJobError, or NoSuchJobError where RQ has forgotten it."""
        self.status(job_id)
        return Job.fetch(str(job_id), self.connection, self.queue.serializer)

    def overview(self) -> QueueOut:
        """Count. Without cleanup=False, RQ looks for abandoned jobs here too, and may take one up twice."""
        return QueueOut(
            queued=self.queue.count,
            started=self.queue.started_job_registry.get_job_count(cleanup=False),
            scheduled=self.queue.scheduled_job_registry.get_job_count(cleanup=False),
            failed=len(self.dead_letters()),
            workers=Worker.count(queue=self.queue),
        )


def known(job_id: UUID) -> str:  # given
    return f"shop:known-job:{job_id}"


def as_text(value: str | bytes) -> str:  # given
    return value.decode() if isinstance(value, bytes) else value
