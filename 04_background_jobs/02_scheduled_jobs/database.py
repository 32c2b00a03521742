"""What is stored: the shop's data, a watermark for each job, and each run, identified by its job and due time."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from croniter import CroniterError, croniter  # type: ignore[import-untyped]
from pydantic import AfterValidator, Field
from sqlalchemy import JSON, Engine, Index, NullPool, create_engine, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from shared.config import Settings
from shared.models import Money, UtcDateTime

Definition = int | str  # every so many seconds, or a cron string
YEAR = 366 * 24 * 60 * 60


def five_fields(cron: str) -> str:  # given
    """Raise ValueError for what is not a cron string, and for one that is never due, such as 31 February."""
    if len(cron.split()) != 5:  # noqa: PLR2004  minute, hour, day, month, weekday
        raise ValueError("a cron string has five fields")
    if re.search("(?i)(?<![a-z])[hr](?![a-z])", cron):
        raise ValueError("croniter's H and R are other times in each process")
    try:
        croniter(cron, datetime(2026, 1, 1, tzinfo=UTC)).get_next(datetime)
    except CroniterError as error:
        raise ValueError(str(error)) from None
    return cron


Cron = Annotated[str, AfterValidator(five_fields)]
Seconds = Annotated[int, Field(ge=1, le=YEAR)]
Pause = Annotated[int, Field(ge=0, le=YEAR)]


class JobSettings(Settings):
    """The environment, as README.md tells it. Read when it is made, never at import."""

    database_url: Annotated[str, Field(pattern="^sqlite:///.")] = "sqlite:///shop.db"
    redis_url: str = "redis://127.0.0.1:6379/0"
    sync_url: Annotated[str, Field(pattern="^https?://")] = "http://127.0.0.1:8001"
    clock_file: Path | None = None
    sync_seconds: Seconds = 900
    report_cron: Cron = "0 6 * * *"
    cleanup_cron: Cron = "0 3 * * 0"
    retry_seconds: list[Pause] = [60, 300]  # noqa: RUF012  pydantic copies it
    lock_seconds: Annotated[float, Field(ge=0.1, le=YEAR)] = 30
    job_timeout: Seconds = 60
    poll_seconds: Annotated[float, Field(ge=0.01, le=3600)] = 1

    def definitions(self) -> dict[str, Definition]:  # given
        return {"cleanup": self.cleanup_cron, "report": self.report_cron, "sync": self.sync_seconds}

    def engine(self) -> Engine:  # given
        return create_engine(self.database_url, poolclass=NullPool, connect_args={"timeout": 30})

    def now(self) -> datetime:  # given
        """The time in UTC: what CLOCK_FILE says, else the system's. Raises ValueError for one that makes no sense."""
        if self.clock_file is None:
            return datetime.now(UTC)
        now = datetime.fromisoformat(self.clock_file.read_text(encoding="utf-8").strip())
        if now.tzinfo is None:
            raise ValueError(f"{now} in CLOCK_FILE has no offset from UTC")
        if not 1970 < now.year < 3000:  # noqa: PLR2004  croniter and time stamps end somewhere
            raise ValueError(f"{now} in CLOCK_FILE is not between 1971 and 2999")
        return now.astimezone(UTC)


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"


class Base(DeclarativeBase):
    pass


class LoginSession(Base):
    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    total: Mapped[Decimal] = mapped_column(Money)


class Report(Base):
    __tablename__ = "reports"

    day: Mapped[date] = mapped_column(primary_key=True)
    orders: Mapped[int]
    revenue: Mapped[Decimal] = mapped_column(Money)


class Item(Base):
    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    price: Mapped[Decimal] = mapped_column(Money)


class Watermark(Base):
    """How far a job has come: the last day reported, the last change synchronised; and when it is due next."""

    __tablename__ = "watermarks"

    job: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[str]
    next_due: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Run(Base):
    """One run, identified by its job and due time. The index allows one run of a job at a time."""

    __tablename__ = "runs"
    __table_args__ = (
        Index("one_run_at_a_time", "job", unique=True, sqlite_where=text("status IN ('queued', 'running', 'waiting')")),
    )

    job: Mapped[str] = mapped_column(primary_key=True)
    due: Mapped[datetime] = mapped_column(UtcDateTime, primary_key=True)
    status: Mapped[str]
    attempts: Mapped[int] = mapped_column(default=0)
    missed: Mapped[int] = mapped_column(default=0)
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    error: Mapped[str | None]
    next_attempt_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


@contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """A transaction that excludes other writers from its beginning, so what it reads is true until its end."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        session.execute(text("BEGIN IMMEDIATE"))
        yield session


def change_run(session: Session, run: Run, status: Status, **changes: object) -> bool:
    """Change a run whose status and attempt are still those of `run`. Return whether they were.

    The attempt's number is the fencing token: an attempt that is no longer the run's latest changes nothing.
    """
    unchanged = Run.job == run.job, Run.due == run.due, Run.status == run.status, Run.attempts == run.attempts
    changed = update(Run).where(*unchanged).values(status=status, **changes).returning(Run.attempts)
    return session.scalar(changed, execution_options={"synchronize_session": False}) is not None


def end_attempt(session: Session, run: Run, error: str, now: datetime, pauses: list[int]) -> None:
    """Store why the attempt failed. The next one follows after the next pause; after the last the run has failed."""
    if run.attempts <= len(pauses):
        at = now + timedelta(seconds=pauses[run.attempts - 1])
        change_run(session, run, Status.WAITING, error=error, next_attempt_at=at)
    else:
        change_run(session, run, Status.FAILED, error=error, finished_at=now)
