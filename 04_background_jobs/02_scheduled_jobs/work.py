"""What jobs do, one attempt at a time: the lock, the transaction, and the three jobs."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Any, cast
from urllib.request import HTTPRedirectHandler, Request, build_opener
from uuid import uuid4

from database import (
    Item,
    JobSettings,
    LoginSession,
    Order,
    Report,
    Run,
    Status,
    Watermark,
    change_run,
    end_attempt,
    writing,
)
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError
from redis import Redis, RedisError
from sqlalchemy import CursorResult, Engine, delete, select, update
from sqlalchemy.orm import Session

RENEW = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2]) or 0"
RELEASE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"

logger = logging.getLogger(__name__)


def lock_key(job: str) -> str:  # given
    return f"lock:{job}"


@contextmanager
def holding(redis: Redis, job: str, seconds: float) -> Iterator[bool]:
    """Hold the job's lock while the block runs, and yield True; or yield False when another owner has it.

    The lock expires `seconds` after it was last renewed. A script renews or releases it only for its owner, in one
    step: between two commands it might expire and get another owner.
    """
    key, owner, milliseconds = lock_key(job), uuid4().hex, int(seconds * 1000)
    if not redis.set(key, owner, nx=True, px=milliseconds):
        yield False
        return
    done = threading.Event()

    def renew() -> None:
        while not done.wait(seconds / 3):
            with suppress(RedisError):
                redis.eval(RENEW, 1, key, owner, milliseconds)

    renewal = threading.Thread(target=renew, daemon=True)
    renewal.start()
    try:
        yield True
    finally:
        done.set()
        renewal.join()
        redis.eval(RELEASE, 1, key, owner)


class LostRunError(Exception):
    """Another attempt of the run has been planned since: this one must write nothing."""


class Attempt:
    """What a job needs for one attempt of a run."""

    def __init__(self, engine: Engine, settings: JobSettings, run: Run) -> None:
        self.engine = engine
        self.settings = settings
        self.run = run
        self.now = settings.now()
        with Session(engine) as session:
            self.watermark = session.get_one(Watermark, run.job).position
        self.result: dict[str, Any] = {}

    @contextmanager
    def success(self) -> Iterator[Session]:
        """One transaction for the job's effect, its watermark and the run's success.

        Raises LostRunError, and stores nothing, when this attempt is no longer the run's latest.
        """
        with writing(self.engine) as session:
            yield session
            changes = {"result": self.result, "error": None, "finished_at": self.settings.now()}
            if not change_run(session, self.run, Status.SUCCEEDED, **changes):
                raise LostRunError
            session.execute(update(Watermark).where(Watermark.job == self.run.job).values(position=self.watermark))


def clean_up(attempt: Attempt) -> None:
    """Delete the login sessions that have expired."""
    with attempt.success() as session:
        expired = delete(LoginSession).where(LoginSession.expires_at <= attempt.now)
        attempt.result = {"deleted": cast("CursorResult[Any]", session.execute(expired)).rowcount}


def write_report(attempt: Attempt) -> None:
    """Report on each day that has ended after the watermark, which is the last day reported."""
    last, yesterday = date.fromisoformat(attempt.watermark), attempt.now.date() - timedelta(days=1)
    days = [last + timedelta(days=number + 1) for number in range((yesterday - last).days)]
    with attempt.success() as session:
        done = set(session.scalars(select(Report.day).where(Report.day > last)))
        days = [day for day in days if day not in done]
        for day in days:
            midnight = datetime.combine(day, time(), UTC)
            of_the_day = Order.created_at >= midnight, Order.created_at < midnight + timedelta(days=1)
            totals = session.scalars(select(Order.total).where(*of_the_day)).all()
            session.add(Report(day=day, orders=len(totals), revenue=sum(totals, Decimal())))
        attempt.result = {"days": [str(day) for day in days]}
        attempt.watermark = str(max(last, yesterday))


class NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> Request | None:
        """Follow no redirect: its status is an error like others."""
        return None


class ItemIn(BaseModel):
    model_config = ConfigDict(strict=True)

    id: Annotated[int, Field(gt=0, lt=2**63)]
    name: str
    price: Annotated[str, Field(pattern=r"^[0-9]{1,10}(\.[0-9]{1,2})?$")]


class Changes(BaseModel):
    model_config = ConfigDict(strict=True)

    cursor: NonNegativeInt
    items: list[ItemIn]


def synchronise(attempt: Attempt) -> None:
    """Ask the external service what has changed since the watermark, and store it."""
    url = f"{attempt.settings.sync_url}/changes?after={attempt.watermark}"
    with build_opener(NoRedirects).open(url, timeout=attempt.settings.job_timeout) as answer:
        if answer.status != HTTPStatus.OK:
            raise ValueError(f"the service answers {answer.status}")
        changes = Changes.model_validate_json(answer.read())
    with attempt.success() as session:
        for item in changes.items:
            session.merge(Item(id=item.id, name=item.name, price=Decimal(item.price)))
        attempt.result = {"items": len(changes.items)}
        attempt.watermark = str(changes.cursor)


def run_job(job: str, due: str) -> None:
    """Make one attempt of a run. When RQ delivers it twice, the second finds it locked, or no longer queued."""
    jobs = {"cleanup": clean_up, "report": write_report, "sync": synchronise}
    settings = JobSettings()
    engine = settings.engine()
    with Redis.from_url(settings.redis_url) as redis, holding(redis, job, settings.lock_seconds) as is_ours:
        run = claim(engine, job, datetime.fromisoformat(due)) if is_ours else None
        if run is None:
            return
        try:
            jobs[job](Attempt(engine, settings, run))
        except LostRunError:
            logger.warning("%s of %s, attempt %d: lost, nothing is written", job, due, run.attempts)
        except Exception as error:  # whatever a job raises, RQ's timeout included
            logger.warning("%s of %s, attempt %d", job, due, run.attempts, exc_info=True)
            with writing(engine) as session:
                end_attempt(session, run, describe(error), settings.now(), settings.retry_seconds)


def claim(engine: Engine, job: str, due: datetime) -> Run | None:
    """Begin the next attempt of a run that is queued, and return the run; None when it is not."""
    with writing(engine) as session:
        run = session.get(Run, (job, due))
        if run is None or run.status != Status.QUEUED:
            return None
        run.status, run.attempts = Status.RUNNING, run.attempts + 1
        return run


def describe(error: Exception) -> str:  # given
    """The error in one line. SQLAlchemy's own text has ten: take the database's. Pydantic's: take the first mistake."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{type(error).__name__}: {'.'.join(map(str, first['loc']))}: {first['msg']}"[:500]
    return f"{type(error).__name__}: {getattr(error, 'orig', error)}".splitlines()[0][:500]
