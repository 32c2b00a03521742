"""What does it cost to read a million rows whole, to read them as a stream, and to convert them?"""

import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from jobs import convert
from orders import Order, render
from reading import Source

HERE = Path(__file__).parent
ROWS = 1_000_000
MOST = 20  # MiB for a conversion, as requirement 5 says
BLOCK = 1000  # so many rows are made, and written again and again
FORMATS = ("csv", "jsonl", "json", "xml")
WAYS = ("whole", "stream")


def orders() -> Iterator[Order]:
    for number in range(1, BLOCK + 1):
        yield Order(str(number), "2026-02-01T09:30:00Z", f"Customer {number}", "paid", "2", "19.90", "Ring twice")


def write_file(path: Path, file_format: str) -> None:
    head, *rows, tail = render(orders(), file_format)
    block = "".join(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(head + block)
        for _ in range(ROWS // BLOCK - 1):
            file.write(("," if file_format == "json" else "") + block)
        file.write(tail)


# What is measured, in a process of its own each.


def read_whole(path: Path, file_format: str) -> int:
    """The usual one-liner. It has no line numbers, no limits, and does not look at the columns."""
    rows: list[Any]
    if file_format == "csv":
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    elif file_format == "jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    elif file_format == "json":
        rows = json.loads(path.read_text(encoding="utf-8"))
    else:
        root = ET.parse(path).getroot()  # noqa: S314  we have written it
        rows = list(root)
    return len(rows)


def read_stream(path: Path, file_format: str) -> int:
    return sum(1 for _ in Source(path, file_format, sys.maxsize))


def convert_stream(path: Path, file_format: str) -> int:
    """Read, check and write as JSON Lines: what the command does."""
    return convert(Source(path, file_format, sys.maxsize), path.with_name("out.jsonl"), "jsonl").good


def run(way: str, path: Path, file_format: str) -> tuple[float, float]:
    """The processor seconds and the peak of memory in MiB of a process that reads a file in this way."""
    command = [sys.executable, __file__, way, str(path), file_format]
    seconds, memory = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.split()
    return float(seconds), float(memory)


def peak() -> float:
    """The most MiB that this process has held. ru_maxrss would begin with what the parent had at the fork."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text(encoding="ascii").split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def draw(figures: dict[str, dict[str, tuple[float, float]]]) -> None:
    import matplotlib as mpl  # noqa: PLC0415  the processes that are measured do without it
    from matplotlib import pyplot as plt  # noqa: PLC0415

    mpl.use("Agg")
    mpl.rcParams |= {"svg.hashsalt": "file processing", "svg.fonttype": "none"}
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for axis, index, label in zip(axes, (0, 1), ("processor time (s)", "memory (MiB)"), strict=True):
        for offset, way in zip((-0.2, 0.2), WAYS, strict=True):
            places = [number + offset for number in range(len(FORMATS))]
            axis.bar(places, [figures[each][way][index] for each in FORMATS], 0.38, label=way)
        axis.set(ylabel=label, xticks=range(len(FORMATS)), xticklabels=FORMATS)
    axes[1].legend()
    figure.suptitle(f"Reading {ROWS:,} rows")
    figure.savefig(HERE / "measure.svg", metadata={"Date": None})


def read(way: str, path: Path, file_format: str) -> None:
    """In a process of its own: read the file, and print what that has cost, without start and imports."""
    began, idle = time.process_time(), peak()
    found = {"whole": read_whole, "stream": read_stream, "convert": convert_stream}[way](path, file_format)
    if found != ROWS:
        raise RuntimeError(f"{way} has found {found} rows")
    print(time.process_time() - began, max(peak() - idle, 0))


def main() -> None:
    figures: dict[str, dict[str, tuple[float, float]]] = {}
    sizes, converted = {}, None
    with tempfile.TemporaryDirectory() as folder:
        for file_format in FORMATS:
            print(f"measuring: {file_format}", file=sys.stderr)
            path = Path(folder) / f"orders.{file_format}"
            write_file(path, file_format)
            sizes[file_format] = path.stat().st_size / 2**20
            figures[file_format] = {way: run(way, path, file_format) for way in WAYS}
            converted = converted or run("convert", path, file_format)  # of the first format
            path.unlink()
    draw(figures)
    print("| A million rows in | File | Whole: time | Memory | Stream: time | Memory |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for file_format, ways in figures.items():
        cells = " | ".join(f"{seconds:.1f} s | {memory:.0f} MiB" for seconds, memory in ways.values())
        print(f"| {file_format} | {sizes[file_format]:.0f} MiB | {cells} |")
    assert converted
    seconds, memory = converted
    if memory > MOST:
        raise RuntimeError(f"the conversion of {ROWS:,} rows has taken {memory:.0f} MiB, more than {MOST}")
    print(f"\nTo convert the CSV to JSON Lines, with all checks, takes {seconds:.1f} s and {memory:.0f} MiB.")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        read(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
    else:
        main()
