"""A log file that several processes write: rotation loses and cuts no line, old files are gzipped and removed."""

import contextlib
import fcntl
import gzip
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

NAME = "api.log"
TIME = "%Y-%m-%dT%H-%M-%S.%fZ"
ROTATED = re.compile(r"api\.log\.[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}-[0-9]{2}\.[0-9]{6}Z(|\.gz)")


@dataclass(frozen=True)
class Limits:
    """When to rotate, and what to keep."""

    by_day: bool
    max_bytes: int
    backups: int
    retention_days: int
    total_bytes: int


class RotatedFile:
    """`api.log` in a folder. Whoever writes to it or renames it holds an exclusive flock(2) on it."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.path = folder / NAME
        self.limits = limits
        self.has_rotated = False
        self._descriptor: int | None = None

    def append(self, line: bytes) -> None:
        """Write one line, and rotate before if due. Raises OSError, with nothing written."""
        try:
            while True:
                descriptor = self._lock()
                status = os.fstat(descriptor)
                ends_whole = not status.st_size or os.pread(descriptor, 1, status.st_size - 1) == b"\n"
                text = line if ends_whole else b"\n" + line  # a killed process left half a line
                if not self._is_due(status, len(text)):
                    write_whole(descriptor, status.st_size, text)
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
                    return
                rename(self.path, status.st_mtime)
                self.has_rotated = True
        except BaseException:  # also what a signal raises: the lock must not stay
            self.close()
            raise

    def close(self) -> None:
        """Close the file, which also unlocks it; the next line opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _lock(self) -> int:
        """Lock the file that has the name now. Another process may have renamed ours while we waited for the lock."""
        while True:
            if self._descriptor is None:
                self.path.parent.mkdir(0o750, parents=True, exist_ok=True)
                self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._descriptor), self.path.stat()):
                    return self._descriptor
            self.close()

    def _is_due(self, status: os.stat_result, more: int) -> bool:
        is_of_another_day = time.time() // 86_400 != status.st_mtime // 86_400  # the epoch began at midnight UTC
        is_full = status.st_size + more > self.limits.max_bytes
        return status.st_size > 0 and (is_full or (self.limits.by_day and is_of_another_day))


def write_whole(descriptor: int, size: int, line: bytes) -> None:
    """Append the whole line, or nothing when that fails."""
    try:
        while line:
            line = line[os.write(descriptor, line) :]
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def rename(path: Path, last_written: float) -> None:
    """Give the file a name with the time of its last line, which no other file has."""
    moment = datetime.fromtimestamp(last_written, UTC)
    while True:
        target = path.with_name(f"{path.name}.{moment.strftime(TIME)}")
        if not os.path.lexists(target) and not os.path.lexists(f"{target}.gz"):
            path.rename(target)
            return
        moment += timedelta(microseconds=1)


def tidy(folder: Path, limits: Limits) -> tuple[list[str], OSError | None]:
    """Compress rotated files and remove those over the limits; return their names and the last error in compressing."""
    failed = None
    with os.fdopen(os.open(folder / f"{NAME}.lock", os.O_RDWR | os.O_CREAT, 0o640)) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process at a time
        for file in rotated_files(folder, ""):
            try:
                compress(file)
            except OSError as error:  # go on: a full disk needs the removal all the more
                failed = error
        removed = list(over_limits(folder, limits))
        for file in removed:
            file.unlink()
    return [file.name for file in removed], failed


def rotated_files(folder: Path, *endings: str) -> list[Path]:
    """Our rotated files, oldest first: regular files, never what a symbolic link points to."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    return [folder / name for name in sorted(names) if (found := ROTATED.fullmatch(name)) and found[1] in endings]


def compress(file: Path) -> None:
    """Replace the file by a gzipped one. At every moment one of them is there, and whole."""
    temporary = Path(f"{file}.gz.tmp")  # it may be there: a process was killed
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o640)
    try:
        with os.fdopen(descriptor, "wb") as raw, file.open("rb") as source:
            with gzip.open(raw, "wb") as packed:
                shutil.copyfileobj(source, packed)
            raw.flush()
            os.fsync(raw.fileno())
        temporary.replace(f"{file}.gz")
    except OSError:
        temporary.unlink()
        raise
    file.unlink()


def over_limits(folder: Path, limits: Limits) -> Iterator[Path]:
    """The rotated files that are too many, too old or too large, with room left for a full `api.log`."""
    room = limits.total_bytes - limits.max_bytes
    oldest = datetime.now(UTC) - timedelta(days=limits.retention_days)
    for number, file in enumerate(reversed(rotated_files(folder, "", ".gz"))):
        room -= file.lstat().st_size
        if number >= limits.backups or room < 0 or file.name < f"{NAME}.{oldest.strftime(TIME)}":
            yield file
