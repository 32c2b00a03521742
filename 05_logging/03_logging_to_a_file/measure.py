"""How many lines are lost when processes write and rotate together, and what does a call cost the one who logs?"""

import contextlib
import dataclasses
import logging
import logging.handlers
import multiprocessing
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from gzip import compress, decompress
from multiprocessing.synchronize import Barrier
from pathlib import Path

import matplotlib as mpl
from concurrent_log_handler import ConcurrentRotatingFileHandler
from handlers import QueuedFile, RotatedFileHandler
from rotation import Limits

mpl.use("Agg")
from matplotlib import pyplot as plt

PROCESSES = (1, 2, 4, 8)
LINES = 1500  # by each process
MANY_LINES = 20_000  # by each process, in the last row
CALLS = 3000
MAX_BYTES = 20_000
MANY = 200
LINE = re.compile(rb"process (\d+) line (\d+) x{60}")
FORK = multiprocessing.get_context("fork")
FORMAT = "process %(worker)d line %(number)d " + 60 * "x"


@dataclass(frozen=True)
class Approach:
    label: str
    make: Callable[[Path], logging.Handler]
    pause: float = 0.0005
    """Seconds between two lines, so that the processes take turns also where they have few cores."""
    lines: int = LINES
    moves: bool = False
    """Whether another process moves the file, as logrotate does."""


def rotated(folder: Path) -> RotatedFileHandler:
    return RotatedFileHandler(
        folder, Limits(by_day=False, max_bytes=MAX_BYTES, backups=10_000, retention_days=1, total_bytes=10**12)
    )


APPROACHES = [
    Approach(
        "RotatingFileHandler",
        lambda folder: logging.handlers.RotatingFileHandler(folder / "api.log", "a", MAX_BYTES, MANY),
    ),
    Approach(
        "TimedRotatingFileHandler, every second",
        lambda folder: logging.handlers.TimedRotatingFileHandler(folder / "api.log", "S", 1),
        pause=0.002,  # a quarter of the rate of the others, so that some seconds pass
    ),
    Approach(
        "WatchedFileHandler, moved and gzipped from outside",
        lambda folder: logging.handlers.WatchedFileHandler(folder / "api.log"),
        moves=True,
    ),
    Approach(
        "concurrent-log-handler",
        lambda folder: ConcurrentRotatingFileHandler(str(folder / "api.log"), "a", MAX_BYTES, MANY),
    ),
    Approach("this exercise, without a queue", rotated),
    Approach("this exercise", lambda folder: QueuedFile(rotated(folder), 10_000, waits=True)),
]


def write(approach: Approach, folder: Path, worker: int, start: Barrier) -> None:
    """What each worker process does."""
    handler = formatted(approach.make(folder))
    start.wait()
    for number in range(approach.lines):
        handler.handle(record_of(worker, number))
        if approach.pause:
            time.sleep(approach.pause)
    handler.close()


def formatted(handler: logging.Handler) -> logging.Handler:
    target = handler.file if isinstance(handler, QueuedFile) else handler
    target.setFormatter(logging.Formatter(FORMAT))
    return handler


def record_of(worker: int, number: int) -> logging.LogRecord:
    fields = {"levelno": logging.INFO, "levelname": "INFO", "worker": worker, "number": number}
    return logging.makeLogRecord(fields)


@contextlib.contextmanager
def new_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="measure-") as name:
        yield Path(name)


def share_lost(approach: Approach, processes: int) -> float:
    """The share of lines that are in no file afterwards, or not whole, from 0 to 1."""
    with new_folder() as folder:
        start = FORK.Barrier(processes)
        workers = [FORK.Process(target=write, args=(approach, folder, worker, start)) for worker in range(processes)]
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            time.sleep(0.02)
            if approach.moves and (folder / "api.log").exists():
                move(folder)
        texts = [file.read_bytes() for file in folder.iterdir() if file.is_file()]
        lines = {
            line for text in texts for line in (decompress(text) if text[:2] == b"\x1f\x8b" else text).split(b"\n")
        }
        return 1 - len([line for line in lines if LINE.fullmatch(line)]) / (processes * approach.lines)


def move(folder: Path) -> None:
    """Rename and compress the file, as logrotate does without `delaycompress`."""
    target = folder / f"api.log.{datetime.now(UTC):%H-%M-%S.%f}"
    (folder / "api.log").rename(target)
    target.with_name(f"{target.name}.gz").write_bytes(compress(target.read_bytes()))
    target.unlink()


def microseconds(approach: Approach) -> tuple[float, float]:
    """The median and the 99th percentile of the time of a call, in one process and without a pause."""
    seconds: list[float] = []
    with new_folder() as folder:
        handler = formatted(approach.make(folder))
        for number in range(CALLS):
            record = record_of(0, number)
            started = time.perf_counter()
            handler.handle(record)
            seconds.append(time.perf_counter() - started)
        handler.close()
    return statistics.median(seconds) * 1e6, statistics.quantiles(seconds, n=100)[-1] * 1e6


def plot(lost: dict[str, list[float]]) -> None:
    plt.rcParams["svg.hashsalt"] = "logging_to_a_file"
    figure, axes = plt.subplots(figsize=(7, 3.6))
    for (label, shares), marker in zip(lost.items(), "osvDx+", strict=True):
        axes.plot(PROCESSES, [share * 100 for share in shares], marker=marker, label=label)
    axes.set(xlabel="processes", ylabel="lines lost, %", xticks=PROCESSES)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(Path(__file__).with_name("measure.svg"), metadata={"Date": None})


def main() -> None:
    logging.raiseExceptions = False  # the handlers of the standard library complain when their file is gone
    lost: dict[str, list[float]] = {}
    rows = []
    for approach in APPROACHES:
        print(approach.label, file=sys.stderr)
        lost[approach.label] = [share_lost(approach, processes) for processes in PROCESSES]
        shares = " | ".join(f"{share * 100:.1f} %" for share in lost[approach.label])
        median, slowest = microseconds(approach)
        rows.append(f"| {approach.label} | {shares} | {median:.0f} | {slowest:.0f} |")
    plot(lost)
    many = dataclasses.replace(APPROACHES[-1], pause=0, lines=MANY_LINES)
    share = share_lost(many, PROCESSES[-1])
    rows.append(f"| this exercise, {MANY_LINES:,} lines by each process, no pause | | | | {share * 100:.1f} % | | |")
    print("| Handler | lines lost: 1 process | 2 processes | 4 processes | 8 processes | µs a call: median | p99 |")
    print("| --- |" + " ---: |" * (len(PROCESSES) + 2))
    print("\n".join(rows))


if __name__ == "__main__":
    main()
