"""What indexes give and cost among a million orders: a Markdown table on standard output, and measure.svg."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import psycopg
from indexes import create, drop
from orders import QUERIES, Connection, load
from plans import COUNTS, do_without_workers, key_columns, writes
from plans import measure as measure_query
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn

from shared import services

ROWS = 1_000_000
WRITTEN = 50_000
READ_ROUNDS = 5
WRITE_ROUNDS = 4
WRITES = {"insert": "inserts", "update_note": "updates of a note", "update_status": "updates of a status"}

Entries = list[dict[str, Any]]


def measure() -> tuple[Entries, Entries]:
    """The quickest of some runs: of each query without and with indexes, of writes with each number of indexes.

    What is compared takes turns, so that a slow moment of the machine does not meet one side only.
    """
    with (
        database() as connection,
        Progress(
            SpinnerColumn(), *Progress.get_default_columns(), TimeElapsedColumn(), console=Console(stderr=True)
        ) as progress,
    ):
        bar = progress.add_task(f"Writing {WRITTEN:,} orders", total=WRITE_ROUNDS + 4 + READ_ROUNDS)
        written = []
        for number in range(WRITE_ROUNDS):
            counts = COUNTS if number % 2 else COUNTS[::-1]
            written.append(sorted(writes(connection, WRITTEN, counts), key=lambda entry: int(entry["indexes"])))
            progress.advance(bar)
        progress.update(bar, description=f"Loading {ROWS:,} orders")
        load(connection, ROWS)
        progress.update(bar, advance=2, description="Creating the indexes")
        create(connection, how="")
        progress.update(bar, advance=2, description="Asking without indexes, and with them")
        asked = []
        for _ in range(READ_ROUNDS):
            asked.append((ask(connection, indexed=False), ask(connection, indexed=True)))
            progress.advance(bar)
        reported = [compare(connection, name, asked) for name in QUERIES]
    return reported, [quickest(list(runs)) for runs in zip(*written, strict=True)]


def ask(connection: Connection, *, indexed: bool) -> dict[str, dict[str, Any]]:
    """What each query did in its second run."""
    with connection.transaction(force_rollback=True):
        do_without_workers(connection)
        if not indexed:
            drop(connection, how="")
        return {name: measure_query(connection, sql, runs=2) for name, sql in QUERIES.items()}


def compare(connection: Connection, name: str, asked: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """The quickest run of a query without indexes, and the quickest with them."""
    before, after = (min((pair[side][name] for pair in asked), key=lambda run: float(run["ms"])) for side in (0, 1))
    return {"query": name, "columns": key_columns(connection, after["index"]), "before": before, "after": after}


@contextmanager
def database() -> Iterator[Connection]:
    with (
        services.postgres() as server,
        services.new_database(server) as url,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        connection.execute("SET maintenance_work_mem = '256MB'")  # for building indexes
        yield connection


def quickest(runs: Entries) -> dict[str, Any]:
    """Of each statement the run that took the shortest time; counts and sizes are the same in all."""
    return runs[0] | {
        what: min((run[what] for run in runs), key=lambda written: float(written["ms"])) for what in WRITES
    }


def rounded(number: float) -> str:
    """Two significant digits: the next ones are different every time."""
    return f"{float(f'{number:.2g}'):,.10g}"


def print_table(reported: Entries, written: Entries) -> None:
    print("| what | indexes | ms without | ms with | change | blocks or WAL without | with |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for entry in reported:
        before, after = entry["before"], entry["after"]
        change = f"{rounded(before['ms'] / after['ms'])} times as fast" if entry["columns"] else ""
        columns = ", ".join(entry["columns"]) or "not indexed"
        times = f"{rounded(before['ms'])} | {rounded(after['ms'])} | {change}"
        print(f"| {entry['query']} | {columns} | {times} | {before['blocks']:,} | {after['blocks']:,} |")
    none, most = written[0], written[-1]
    for what, name in WRITES.items():
        for entry in {"insert": written[1:], "update_note": written[3:], "update_status": written[2:]}[what]:
            then, now = none[what], entry[what]
            hot = "" if what == "insert" else f", {now['hot']:,} HOT"
            times = f"{rounded(then['ms'])} | {rounded(now['ms'])} | {rounded(now['ms'] / then['ms'])} times as long"
            wal = f"{then['wal_bytes'] / 2**20:.1f} MB | {now['wal_bytes'] / 2**20:.1f} MB"
            print(f"| {now['rows']:,} {name}{hot} | {entry['indexes']} | {times} | {wal} |")
    table, key, others = most["table_bytes"], none["index_bytes"], most["index_bytes"] - none["index_bytes"]
    print(
        f"\n{WRITTEN:,} orders take {table / 2**20:.0f} MB, their primary key {key / 2**20:.0f} MB"
        f" and the six indexes beside it {others / 2**20:.0f} MB."
    )


def plot(reported: Entries, written: Entries, path: Path) -> None:
    mpl.use("Agg")
    mpl.rcParams |= {"svg.hashsalt": "indexing", "svg.fonttype": "none"}  # the same file for the same figures
    from matplotlib import pyplot as plt  # noqa: PLC0415  after the choice of the backend

    figure, (reading, writing) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", width_ratios=[3, 2])
    places = range(len(reported))
    for when, shift, color, label in (
        ("before", -0.2, "#888888", "without"),
        ("after", 0.2, "#3b6ea5", "with indexes"),
    ):
        times = [entry[when]["ms"] for entry in reported]
        reading.barh([place + shift for place in places], times, height=0.4, color=color, label=label)
    reading.set(xscale="log", xlabel="ms (logarithmic)", title=f"A query among {ROWS:,} orders", xlim=(0.005, 1000))
    reading.set_yticks(places, [entry["query"] for entry in reported])
    reading.invert_yaxis()
    reading.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.5, -0.15), frameon=False)
    times = [entry["insert"]["ms"] for entry in written]
    bars = writing.bar([str(entry["indexes"]) for entry in written], times, color="#3b6ea5")
    writing.bar_label(bars, [rounded(time) for time in times], padding=3)
    writing.set(xlabel="indexes beside the primary key", ylabel="ms", title=f"{WRITTEN:,} inserts")
    for axes in (reading, writing):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    reported, written = measure()
    print_table(reported, written)
    plot(reported, written, Path(__file__).with_suffix(".svg"))


if __name__ == "__main__":
    main()
