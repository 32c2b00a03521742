"""Jobs at fixed times: `schedule` sets the times, `scheduler` queues what is due, `worker` runs it."""

import argparse
import json
import logging
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from database import Base, JobSettings, Run, Status, Watermark, writing
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer
from schedule import ReliableScheduler
from sqlalchemy import Engine, func, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

RUNS_SHOWN = 50


def schedule(settings: JobSettings, redis: Redis, engine: Engine) -> None:
    """Make the missing tables and watermarks, and bring the schedule in line with the environment."""
    scheduler = ReliableScheduler(settings, redis, engine)
    yesterday = settings.now().date() - timedelta(days=1)
    with writing(engine) as session:
        Base.metadata.create_all(session.connection())
        for job, position in {"cleanup": "", "report": str(yesterday), "sync": "0"}.items():
            session.execute(insert(Watermark).values(job=job, position=position).on_conflict_do_nothing())
    for job, definition in settings.definitions().items():
        scheduler.put(job, definition)


def run_scheduler(settings: JobSettings, redis: Redis, engine: Engine, *, once: bool) -> None:
    """Queue what is due, every POLL_SECONDS until SIGTERM, or once."""
    scheduler = ReliableScheduler(settings, redis, engine)
    if once:
        scheduler.enqueue_jobs()
    else:
        scheduler.run()


class QuietWorker(SimpleWorker):
    """Runs jobs in its own process, without a fork: when that dies, the lock's renewal ends with it."""

    def subscribe(self) -> None:
        """Do not listen for RQ's remote commands: to stop listening takes a fifth of a second."""


def run_worker(redis: Redis, *, once: bool) -> None:
    """Run what is queued until SIGTERM, after which a run in progress still ends; or until the queue is empty."""
    queue = Queue("scheduled", connection=redis, serializer=JSONSerializer)
    QuietWorker([queue], connection=redis, serializer=JSONSerializer).work(burst=once, logging_level="WARNING")


def read_status(settings: JobSettings, redis: Redis, engine: Engine) -> dict[str, Any]:
    """For each job when it runs next, and the runs so far."""
    scheduler = ReliableScheduler(settings, redis, engine)
    with Session(engine) as session:
        jobs = {
            job: {
                "schedule": scheduler.definition_of(job),
                "next_run": scheduler.next_run(job),
                **history(session, job),
            }
            for job in settings.definitions()
        }
    return {"now": settings.now(), "jobs": jobs}


def history(session: Session, job: str) -> dict[str, Any]:
    """The newest runs, the newest that was not skipped, and how many due times were missed or skipped."""
    of_job = select(Run).where(Run.job == job).order_by(Run.due.desc())
    last = session.scalar(of_job.where(Run.status != Status.SKIPPED).limit(1))
    runs = session.scalars(of_job.limit(RUNS_SHOWN))
    return {
        "last_run": describe(last) if last else None,
        "misses": session.scalar(select(func.sum(Run.missed)).where(Run.job == job)) or 0,
        "skips": session.scalar(select(func.count()).where(Run.job == job, Run.status == Status.SKIPPED)),
        "runs": [describe(run) for run in runs],
    }


def describe(run: Run) -> dict[str, Any]:
    columns = ("due", "status", "attempts", "missed", "result", "error", "next_attempt_at", "finished_at")
    return {column: getattr(run, column) for column in columns}


def written(moment: object) -> str:  # given
    """RFC 3339 in UTC: 2026-03-01T06:00:00Z."""
    assert isinstance(moment, datetime)
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def main() -> None:  # given
    """Run a command. Errors go to standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("schedule", help="set up the tables and the schedule")
    commands.add_parser("status", help="print the schedule and its runs as JSON")
    for name, does in {"scheduler": "queue what is due", "worker": "run what is queued"}.items():
        commands.add_parser(name, help=does).add_argument("--once", action="store_true", help="and exit")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    try:
        settings = JobSettings()
        settings.now()  # a missing clock or database is an error before anything is done
        engine = settings.engine()
        with engine.connect(), Redis.from_url(settings.redis_url) as redis:
            if arguments.command == "schedule":
                schedule(settings, redis, engine)
            elif arguments.command == "scheduler":
                run_scheduler(settings, redis, engine, once=arguments.once)
            elif arguments.command == "worker":
                run_worker(redis, once=arguments.once)
            else:
                print(json.dumps(read_status(settings, redis, engine), indent=2, default=written))
    except (OSError, ValueError, RedisError, SQLAlchemyError) as error:
        sys.exit(f"{type(error).__name__}: {getattr(error, 'orig', error)}")  # SQLAlchemy's own text is ten lines


if __name__ == "__main__":
    main()
