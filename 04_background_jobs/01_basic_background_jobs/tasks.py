"""The jobs themselves: functions that a worker runs, perhaps twice, and that have their effect once."""

import calendar
import io
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from PIL import Image, ImageOps
from rq import get_current_job
from rq.job import Job
from rq.timeouts import JobTimeoutException
from worker import JobSettings

THUMBNAIL_SIZE = (128, 128)
LARGEST_IMAGE = 40_000_000  # pixels, at four bytes each in memory

Result = dict[str, Any]


class PermanentError(Exception):
    """It will fail the same way each time: straight to the dead letters, without another attempt."""


@contextmanager
def attempt() -> Iterator[Job]:
    """Yield the running job; count its attempts and keep the reason when one fails.

    JobTimeoutException is an Exception too: whoever catches that must raise it again.
    """
    job = get_current_job()
    assert job, "tasks run in a worker"
    note(job, attempts=job.meta.get("attempts", 0) + 1, progress=0, error=None)
    try:
        yield job
    except Exception as error:
        if isinstance(error, PermanentError):
            job.retries_left = 0
        note(job, error=f"{type(error).__name__}: {error}")
        raise


def note(job: Job, **facts: object) -> None:
    """Store facts about the running job where anyone who fetches it sees them at once."""
    job.meta |= facts
    job.save_meta()  # type: ignore[no-untyped-call]


def generate_report(month: str) -> Result:
    """Write the sales of a month ("2026-02"), a line a day, to DATA_DIR/reports/{job id}.csv."""
    with attempt() as job:
        settings = JobSettings()
        year, number = map(int, month.split("-"))
        days = [date(year, number, day + 1) for day in range(calendar.monthrange(year, number)[1])]
        lines = ["day,orders,revenue"]
        for day in days:
            orders, revenue = sales_of(day, settings.row_seconds)
            lines.append(f"{day},{orders},{revenue}")
            note(job, progress=100 * len(lines) // (len(days) + 2))  # 100 is for when the result is there
        file = f"reports/{job.id}.csv"
        store_once(settings.data_dir / file, "\n".join([*lines, ""]).encode())
        return {"file": file, "rows": len(days)}


def sales_of(day: date, seconds: float) -> tuple[int, Decimal]:  # given
    """The orders of a day and their worth: made up, the same for everyone, and as slow as a large query."""
    time.sleep(seconds)
    orders = zlib.crc32(day.isoformat().encode()) % 50
    return orders, orders * Decimal("19.90")


def make_thumbnail() -> Result:
    """Shrink DATA_DIR/uploads/{job id} to fit into 128 by 128 pixels, as DATA_DIR/thumbnails/{job id}.png."""
    with attempt() as job:
        data = JobSettings().data_dir
        upload = (data / "uploads" / job.id).read_bytes()
        try:
            thumbnail = shrink(upload)
        except JobTimeoutException:
            raise
        except Exception as error:  # a broken file may lead Pillow into any
            raise PermanentError("the upload is no image that can be read") from error
        file = f"thumbnails/{job.id}.png"
        content = io.BytesIO()
        thumbnail.save(content, "PNG")
        store_once(data / file, content.getvalue())
        return {"file": file, "width": thumbnail.width, "height": thumbnail.height}


def shrink(upload: bytes) -> Image.Image:
    """The image upright, as its EXIF data asks, and small. Raises what Pillow raises for a broken one."""
    with Image.open(io.BytesIO(upload), formats=("JPEG", "PNG", "WEBP")) as image:
        if image.width * image.height > LARGEST_IMAGE:
            raise ValueError(f"{image.width} by {image.height} pixels are too many")
        thumbnail = ImageOps.exif_transpose(image).convert("RGBA")
    thumbnail.thumbnail(THUMBNAIL_SIZE)
    return thumbnail


def send_email(to: list[str], subject: str, body: str) -> Result:
    """Deliver to each recipient. One whose server is down waits for the next attempt; the others do not."""
    with attempt() as job:
        outbox = JobSettings().outbox_dir
        unreachable = []
        for number, recipient in enumerate(to):
            server = outbox / recipient.partition("@")[2]
            if server.is_dir():
                # The name is the key that makes it one e-mail however often the job runs.
                name = f"{job.id}-{number}"
                store_once(server / f"{name}.eml", write_email(name, recipient, subject, body))
            else:
                unreachable.append(server.name)
            note(job, progress=100 * (number + 1) // (len(to) + 1))
        if unreachable:
            raise ConnectionError(f"no answer from {', '.join(unreachable)}")
        return {"sent": len(to)}


def write_email(name: str, recipient: str, subject: str, body: str) -> bytes:
    message = EmailMessage()
    message["From"] = "shop@shop.example"
    message["To"] = recipient
    message["Subject"] = subject
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = f"<{name}@shop.example>"
    message.set_content(body)
    return message.as_bytes()


def store_once(file: Path, content: bytes) -> None:
    """Write the file, whole or not at all; leave it alone when an earlier attempt has written it."""
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{uuid4().hex}.part")
    part.write_bytes(content)
    part.replace(file)
