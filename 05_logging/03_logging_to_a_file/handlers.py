"""Handlers that keep a request from waiting for the disk, and from failing with it; lost lines are counted."""

import logging
import sys
import time
from contextlib import suppress
from logging.handlers import QueueHandler, QueueListener
from pathlib import Path
from queue import Full, Queue

from rotation import Limits, RotatedFile, tidy

SECONDS_BETWEEN_NOTICES = 1.0


class RotatedFileHandler(logging.Handler):
    """Writes to a RotatedFile. It reports trouble once on standard error, and counts the lines that are lost."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        super().__init__()
        self.file = RotatedFile(folder, limits)
        self.overflowed = 0  # lines for which the queue had no room, counted by the threads that log
        self.failed = 0  # lines that could not be written
        self.told = 0  # how many of both the log says
        self._told_at = -SECONDS_BETWEEN_NOTICES
        self._troubles: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(record)
        except Exception as error:  # noqa: BLE001  a full disk, or a record that cannot be formatted
            self.failed += 1
            self._report("lines are lost", error)
            return
        self._report("lines are lost", None)
        if time.monotonic() >= self._told_at + SECONDS_BETWEEN_NOTICES:
            self.tell_losses()

    def tell_losses(self) -> None:
        """Log how many lines were lost since the last time."""
        lost = self.overflowed + self.failed - self.told
        if lost:
            fields = {"name": "logs", "levelno": logging.WARNING, "levelname": "WARNING", "dropped": lost}
            record = logging.makeLogRecord(fields | {"msg": f"{lost} lines were lost"})
            with suppress(OSError):
                self._write(record)
                self.told += lost
                self._told_at = time.monotonic()

    def _write(self, record: logging.LogRecord) -> None:
        line = self.format(record).encode(errors="replace") + b"\n"
        try:
            self.file.append(line)
        finally:
            if self.file.has_rotated:
                self.file.has_rotated = False
                self._tidy()

    def _tidy(self) -> None:
        error: OSError | None
        try:
            _, error = tidy(self.file.path.parent, self.file.limits)
        except OSError as caught:
            error = caught
        self._report("old files are not compressed or removed", error)

    def _report(self, trouble: str, error: Exception | None) -> None:
        """Say on standard error that a trouble begins. It lasts until it is reported with no error."""
        if error is None:
            self._troubles.discard(trouble)
        elif trouble not in self._troubles:
            self._troubles.add(trouble)
            with suppress(OSError):  # standard error may be a pipe that nobody reads
                print(f"{self.file.path}: {trouble}: {error}", file=sys.stderr)

    def close(self) -> None:
        self.tell_losses()
        self.file.close()
        super().close()


class Listener(QueueListener):
    """The thread that takes records out of the queue."""

    queue: Queue[logging.LogRecord | None]

    def enqueue_sentinel(self) -> None:
        self.queue.put(None)  # QueueListener raises queue.Full instead of waiting


class QueuedFile(QueueHandler):
    """Puts records into a queue of `size`, which a thread writes to the file. When it is full, `waits` or loses one.

    Make it after a fork: a child process would have the queue, and not the thread.
    """

    queue: Queue[logging.LogRecord | None]

    def __init__(self, file: RotatedFileHandler, size: int, *, waits: bool) -> None:
        super().__init__(Queue(size))
        self.file = file
        self.waits = waits
        self._listener: Listener | None = Listener(self.queue, file)
        self._listener.start()

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Make texts of what may change or end with the request; the JSON is made in the other thread."""
        record = logging.makeLogRecord(vars(record))
        try:
            record.msg = record.getMessage()
        except Exception:  # noqa: BLE001  arguments that do not fit the message
            record.msg = f"{record.msg} {record.args!r}"
        record.args = None
        if record.exc_info:
            record.exc_text, record.exc_info = logging.Formatter().formatException(record.exc_info), None
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put(record, block=self.waits)
        except Full:
            self.file.overflowed += 1  # under this handler's lock, as all that emit calls

    def close(self) -> None:
        """Write what is in the queue, and end the thread. The file's handler is closed by whoever made it."""
        if self._listener:
            self._listener.stop()
            self._listener = None
        super().close()
