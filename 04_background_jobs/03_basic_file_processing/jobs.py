"""What is done with a file, row after row from a reader to a writer: in a command, or by a worker."""

import contextlib
import fcntl
import gzip
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast
from uuid import UUID

from orders import STATUSES, Flaw, Order, check, render
from pydantic import PositiveInt
from reading import Found, MalformedError, Source
from redis import Redis
from rq import Queue, Retry, Worker, get_current_job
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.timeouts import JobTimeoutException, UnixSignalDeathPenalty

from shared.config import Settings

PROBLEMS_LISTED = 100
NAME_SHOWN = 40  # characters of a name that comes from a file
KEPT = 24 * 3600  # seconds for which a job is known when it has ended
HEARTBEATS_MISSED = 3
RQ_HEADROOM = 15  # an idle RQ worker looks up from its queue this many seconds before its worker_ttl


@dataclass
class Problem:
    """What is wrong, and where: the line on which a record begins, its number, a column or the record as a whole."""

    line: int | None
    record: int | None
    column: str | None
    reason: str


@dataclass
class Report:
    """How many rows were good and bad, the first problems of bad ones, and the error that ended it all."""

    good: int = 0
    bad: int = 0
    problems: list[Problem] = field(default_factory=list)
    problems_left_out: int = 0
    error: Problem | None = None

    @property
    def exit_code(self) -> int:
        return 1 if self.error else 3 if self.bad else 0

    def good_orders(self, found: Iterable[Found]) -> Iterator[Order]:
        """Yield the orders that hold, and count them and the others."""
        for line, record in found:
            checked = [(None, record)] if isinstance(record, str) else check(record)
            if isinstance(checked, Order):
                yield checked
                self.good += 1
            else:
                self.add_bad(line, checked)

    def add_bad(self, line: int, flaws: Iterable[Flaw]) -> None:
        """Count a bad row. A file that has nothing else must not fill the memory with its problems."""
        for column, reason in flaws:
            if len(self.problems) < PROBLEMS_LISTED:
                self.problems.append(Problem(line, self.record, column and printable(column), reason))
            else:
                self.problems_left_out += 1
        self.bad += 1

    @property
    def record(self) -> int:
        """The number of the record that is being read."""
        return self.good + self.bad + 1

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Note what makes the file unreadable, or the target unwritable, as the error of this report."""
        try:
            yield
        except MalformedError as error:
            self.error = Problem(error.line, self.record, None, str(error))
        except OSError as error:
            name = f": {Path(error.filename).name}" if error.filename else ""
            self.error = Problem(None, None, None, f"{error.strerror or error}{name}")


def printable(name: str) -> str:
    """A name from a file, cut short. Half a surrogate pair cannot be sent to anyone."""
    return name[:NAME_SHOWN].encode("utf-8", "replace").decode()


def convert(source: Source, target: Path, target_format: str) -> Report:
    """Write the good rows of the source to the target: all of them, or, with an error in the report, none."""
    report = Report()
    file_format, _, packing = target_format.partition(".")
    with report.errors():
        if target.exists() and target.samefile(source.path):
            raise OSError("IN and OUT are the same file: its bad rows would be lost")
        with replacing(target, packed=bool(packing)) as file:
            file.writelines(render(report.good_orders(source), file_format))
    return report


@contextlib.contextmanager
def replacing(target: Path, *, packed: bool) -> Iterator[TextIO]:
    """Yield a file beside the target, which takes its place when it is whole and on the disk, or goes."""
    if target.exists() and not target.is_file():
        raise OSError(f"{target.name} is not a file")
    part = target.with_name(f".{target.name}.part")
    with lock(part) as raw:
        try:
            # With no name and no time in it, the same rows are the same bytes.
            packer = gzip.GzipFile("", "wb", 6, raw, mtime=0) if packed else raw
            text = io.TextIOWrapper(cast("io.BufferedWriter", packer), "utf-8", newline="")
            yield text
            text.flush()
            if packed:
                packer.close()
            raw.flush()
            os.fsync(raw.fileno())
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def lock(part: Path) -> BinaryIO:
    """Open the temporary file, empty, for this run alone. The system drops the lock of a run that is killed."""
    while True:
        raw = part.open("ab")
        fcntl.flock(raw, fcntl.LOCK_EX)  # waits for another run with the same OUT
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(raw.fileno()), part.stat()):  # else that run has renamed or removed it
                raw.truncate(0)
                return raw
        raw.close()


def summarise(source: Source) -> tuple[Report, dict[str, Any]]:
    """Sums over the good rows. What is kept meanwhile does not grow with the file."""
    report, quantity, amounts = Report(), 0, dict.fromkeys(STATUSES, Decimal("0.00"))
    with report.errors():
        for order in report.good_orders(source):
            quantity += int(order.quantity)
            amounts[order.status] += Decimal(order.amount)
    return report, {"quantity": quantity, "amounts": {status: str(amount) for status, amount in amounts.items()}}


# In the background.


class FileSettings(Settings):
    """The environment, as README.md tells it. Read when it is made, never at import."""

    redis_url: str = "redis://127.0.0.1:6379/0"
    data_dir: Path = Path("data")
    max_file_bytes: PositiveInt = 2**30
    max_upload_bytes: PositiveInt = 100 * 2**20
    job_timeout: PositiveInt = 3600
    heartbeat_seconds: PositiveInt = 10

    def upload(self, job_id: object) -> Path:  # given
        return self.data_dir / "uploads" / str(job_id)

    def result(self, job_id: object) -> Path:  # given
        return self.data_dir / "results" / str(job_id)


def connect_queue(connection: Redis) -> Queue:  # given
    """The queue that web app and workers share. JSON, because to unpickle is to run what anyone wrote into Redis."""
    return Queue("files", connection=connection, serializer=JSONSerializer)


def submit(queue: Queue, job_id: UUID, source_format: str, target_format: str) -> Job:
    """Queue the conversion of an upload that is on the disk. A worker that is killed costs it one of its attempts."""
    return queue.enqueue_call(
        convert_upload,
        (str(job_id), source_format, target_format),
        job_id=str(job_id),
        timeout=-1,  # the worker has its own, see below: RQ would try again what takes too long
        result_ttl=KEPT,
        failure_ttl=KEPT,
        retry=Retry(max=3),
        meta={"format": target_format},
    )


def convert_upload(job_id: str, source_format: str, target_format: str) -> dict[str, Any]:
    """Convert an upload and return the report. Done twice it has the same effect, so it may be done again."""
    settings, job = FileSettings(), get_current_job()
    assert job, "convert_upload runs in a worker"

    def note_progress(share: float) -> None:
        percent = min(int(share * 100), 99)  # 100 is for when the result is there
        if percent != job.meta.get("progress"):
            job.meta["progress"] = percent
            job.save_meta()  # type: ignore[no-untyped-call]

    target = settings.result(job_id)
    target.parent.mkdir(parents=True, exist_ok=True)
    source = Source(settings.upload(job_id), source_format, settings.max_file_bytes, note_progress)
    try:
        with UnixSignalDeathPenalty(settings.job_timeout, JobTimeoutException):  # type: ignore[no-untyped-call]
            return asdict(convert(source, target, target_format))
    except JobTimeoutException:
        return asdict(Report(error=Problem(None, None, None, f"took longer than {settings.job_timeout} seconds")))


class FileWorker(Worker):
    """RQ's worker runs each job in a child process and sends a heartbeat meanwhile."""

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:  # noqa: ARG002  RQ's signature
        """Seconds without a heartbeat after which a job is queued again; RQ says a minute and more."""
        return HEARTBEATS_MISSED * int(self.job_monitoring_interval)


def run_worker(settings: FileSettings) -> None:  # given
    """Work until SIGTERM or SIGINT. The current job is finished first."""
    worker = FileWorker(
        [connect_queue(Redis.from_url(settings.redis_url))],
        serializer=JSONSerializer,
        job_monitoring_interval=settings.heartbeat_seconds,
        maintenance_interval=settings.heartbeat_seconds,
        worker_ttl=settings.heartbeat_seconds + RQ_HEADROOM,
    )
    worker.work()
