"""A worker that says often that it lives, so that another soon takes up its job when it is killed."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from redis import Redis
from rq import Queue, Worker
from rq.job import Job
from rq.serializers import JSONSerializer

from shared.config import Settings

HEARTBEATS_MISSED = 3
RQ_HEADROOM = 15  # an idle RQ worker looks up from its queue this many seconds before its worker_ttl


class JobSettings(Settings):
    """The environment of web app and worker, as README.md tells it. Read when it is made, never at import."""

    redis_url: str = "redis://127.0.0.1:6379/0"
    data_dir: Path = Path("data")
    outbox_dir: Path = Path("outbox")
    retry_seconds: Annotated[list[NonNegativeInt], Field(min_length=1)] = [5, 25, 125]  # noqa: RUF012  copied
    job_timeout: PositiveInt = 60
    result_ttl: PositiveInt = 3600
    heartbeat_seconds: PositiveInt = 10
    row_seconds: NonNegativeFloat = 0.05


class VigilantWorker(Worker):
    """RQ forks a process for each job, the horse, and renews the job's lease while that runs."""

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:  # noqa: ARG002  RQ's signature
        """Seconds without a heartbeat after which a job counts as abandoned; RQ says a minute and more."""
        return HEARTBEATS_MISSED * int(self.job_monitoring_interval)

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        """Run the job, in the horse, for as long as there is somebody to renew its lease."""
        threading.Thread(target=die_with, args=(os.getppid(),), daemon=True).start()
        super().main_work_horse(job, queue)


def die_with(parent: int) -> None:
    """End this process when `parent` has gone: another worker is about to run the same job."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)


def connect_queue(connection: Redis) -> Queue:
    """The queue that all share. JSON, because to unpickle is to run what anyone wrote into Redis."""
    return Queue("shop", connection=connection, serializer=JSONSerializer)


def run_worker(settings: JobSettings) -> None:
    """Work until SIGTERM or SIGINT, which let the job that runs come to its end."""
    worker = VigilantWorker(
        [connect_queue(Redis.from_url(settings.redis_url))],
        serializer=JSONSerializer,
        job_monitoring_interval=settings.heartbeat_seconds,
        maintenance_interval=settings.heartbeat_seconds,
        worker_ttl=settings.heartbeat_seconds + RQ_HEADROOM,
    )
    # Without the scheduler a retry that is to wait would wait for ever.
    worker.work(with_scheduler=True)
