"""When jobs run: rq-scheduler's loop, with steps that may be interrupted anywhere and repeated."""

import signal
import sys
from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import takewhile
from typing import cast
from uuid import uuid4

from croniter import croniter  # type: ignore[import-untyped]
from database import Definition, JobSettings, Run, Status, Watermark, change_run, end_attempt, writing
from redis import Redis
from redis.client import Pipeline
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer
from rq_scheduler import Scheduler  # type: ignore[import-untyped]
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session
from work import lock_key, run_job


def next_due(definition: Definition, after: datetime) -> datetime:
    """The first due time later than `after`. Intervals count from 1970, so 900 seconds means :00, :15, :30 and :45."""
    if isinstance(definition, int):
        return datetime.fromtimestamp((after.timestamp() // definition + 1) * definition, UTC)
    return cast("datetime", croniter(definition, after).get_next(datetime))


def due_times(definition: Definition, after: datetime, now: datetime) -> Sequence[float]:
    """The due times later than `after`, up to now, in seconds since 1970."""
    if isinstance(definition, int):
        return range(int(next_due(definition, after).timestamp()), int(now.timestamp()) + 1, definition)
    return list(takewhile(lambda due: due <= now.timestamp(), croniter(definition, after).all_next(float)))


class ReliableScheduler(Scheduler):  # type: ignore[misc]
    """Keeps its entries as rq-scheduler does: a sorted set of names by due time, and a job with the definition each."""

    def __init__(self, settings: JobSettings, connection: Redis, engine: Engine) -> None:
        queue = Queue("scheduled", connection=connection, serializer=JSONSerializer)
        super().__init__(queue=queue, connection=connection, interval=settings.poll_seconds)
        self.settings = settings
        self.engine = engine

    # Entries.

    def put(self, name: str, definition: Definition) -> None:
        """Add the entry, or change its definition. An entry that is overdue keeps its due time.

        The due time is in the database too, in case Redis loses its data.
        """

        def change(transaction: Pipeline) -> None:
            now, score = self.settings.now(), transaction.zscore(self.scheduled_jobs_key, name)
            if score is not None and self.definition_of(name) == definition:
                return
            with writing(self.engine) as session:
                watermark = session.get_one(Watermark, name)
                due = watermark.next_due if score is None else datetime.fromtimestamp(score, UTC)
                if due is None or due > now:
                    due = next_due(definition, now)
                watermark.next_due = due
            connection, meta = self.connection, {"definition": definition}
            entry = Job.create(run_job, id=name, meta=meta, connection=connection, serializer=JSONSerializer)
            transaction.multi()
            entry.save(pipeline=transaction)
            transaction.zadd(self.scheduled_jobs_key, {name: due.timestamp()})

        self.connection.transaction(change, self.scheduled_jobs_key, Job.key_for(name))

    def definition_of(self, name: str) -> Definition | None:
        """What `put` was given, or None where there is no such entry."""
        try:
            return cast("Definition", Job.fetch(name, self.connection, JSONSerializer).meta["definition"])
        except NoSuchJobError:
            return None

    def next_run(self, name: str) -> datetime | None:
        score = self.connection.zscore(self.scheduled_jobs_key, name)
        return None if score is None else datetime.fromtimestamp(score, UTC)

    # What rq-scheduler's loop calls.

    def acquire_lock(self) -> bool:
        """Say yes: no step needs a lock. rq-scheduler's has no owner, and who holds it too long removes another's."""
        return True

    def register_birth(self) -> None:
        """Tell Redis nothing about this process. rq-scheduler would from its signal handler, in mid-message."""

    register_death = heartbeat = register_birth

    def _install_signal_handlers(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: sys.exit(0))

    def enqueue_jobs(self) -> None:
        """Do what the time asks for. Each step may be repeated, by this scheduler or another one."""
        now = self.settings.now()
        self.end_dead_attempts(now)
        for name in self.connection.zrangebyscore(self.scheduled_jobs_key, 0, now.timestamp()):
            self.plan_due_run(name.decode(), now)
        self.resume_waiting_runs(now)
        self.queue_runs()

    def plan_due_run(self, name: str, now: datetime) -> None:
        """Plan the run, then move the entry to its next due time.

        rq-scheduler queues the job, removes the entry and adds it again: killed in between, it forgets the job or
        queues it twice. Here, after a kill between the two steps, the entry is due again and its run known.
        """

        def move_on(transaction: Pipeline) -> None:
            score, definition = transaction.zscore(self.scheduled_jobs_key, name), self.definition_of(name)
            if score is None or definition is None or score > now.timestamp():
                return  # another scheduler was here
            first, following = datetime.fromtimestamp(score, UTC), next_due(definition, now)
            later = due_times(definition, first, now)  # may take seconds: before other writers are excluded
            with writing(self.engine) as session:
                plan(session, name, first, later, now)
                session.get_one(Watermark, name).next_due = following
            transaction.multi()
            transaction.zadd(self.scheduled_jobs_key, {name: following.timestamp()})

        self.connection.transaction(move_on, self.scheduled_jobs_key, Job.key_for(name))

    def runs(self, status: Status) -> Sequence[Run]:
        with Session(self.engine) as session:
            return session.scalars(select(Run).where(Run.status == status).order_by(Run.due)).all()

    def end_dead_attempts(self, now: datetime) -> None:
        """End the attempts that run without a lock: their worker has died, or was suspended for too long."""
        for run in self.runs(Status.RUNNING):
            if not self.connection.exists(lock_key(run.job)):
                with writing(self.engine) as session:
                    end_attempt(session, run, "the worker has lost its lock", now, self.settings.retry_seconds)

    def resume_waiting_runs(self, now: datetime) -> None:
        for run in self.runs(Status.WAITING):
            if run.next_attempt_at and run.next_attempt_at <= now:
                with writing(self.engine) as session:
                    change_run(session, run, Status.QUEUED, next_attempt_at=None)

    def queue_runs(self) -> None:
        """Put runs into the queue that are not in it: new ones, and those that a worker took but did not begin.

        A run may then be delivered twice, under two ids: RQ forgets a job's id when the first of them is done.
        """
        runs = self.runs(Status.QUEUED)
        queued = [job_id.rpartition("-")[0] for job_id in self._queue.get_job_ids()] if runs else []
        for run in runs:
            name = f"{run.job}-{run.due:%Y%m%dT%H%M%SZ}"
            if name not in queued:
                arguments, timeout = (run.job, run.due.isoformat()), self.settings.job_timeout
                job_id = f"{name}-{uuid4().hex}"
                self._queue.enqueue_call(run_job, arguments, job_id=job_id, timeout=timeout, result_ttl=0)


def plan(session: Session, name: str, first: datetime, later: Sequence[float], now: datetime) -> None:
    """Make one run for the last of these due times. Those before it were missed, and are counted.

    A run that waits for another attempt is given up for it. While another run is queued or runs, it is skipped.
    """
    newest = session.scalar(select(func.max(Run.due)).where(Run.job == name))
    if newest is not None:
        later = later[bisect_right(later, newest.timestamp()) :]
    number = len(later) + (newest is None or first > newest)
    if number == 0:
        return
    last = datetime.fromtimestamp(later[-1], UTC) if later else first
    runs = select(Run).where(Run.job == name)
    for waiting in session.scalars(runs.where(Run.status == Status.WAITING)).all():
        change_run(session, waiting, Status.FAILED, next_attempt_at=None, finished_at=now)
    active = session.scalar(runs.where(Run.status.in_([Status.QUEUED, Status.RUNNING])))
    session.add(Run(job=name, due=last, missed=number - 1, status=Status.SKIPPED if active else Status.QUEUED))
