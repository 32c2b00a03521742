"""How many runs of a slow job are in progress at once, with and without the rule of one run at a time?"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import matplotlib as mpl
from redis import Redis

from shared import services

HERE = Path(__file__).parent
INTERVAL = 1
ANSWER_SECONDS = 2.5
WORKERS = 3
MEASURED_SECONDS = 15.0


@dataclass
class Executions:
    """When runs began and ended, in seconds, as the external service saw them; and what became of the due times."""

    spans: list[tuple[float, float]]
    due: int = 0
    skipped: int = 0

    @property
    def most_at_once(self) -> int:
        return max(sum(begin <= moment < end for begin, end in self.spans) for moment, _ in self.spans)


@contextmanager
def slow_service(spans: list[tuple[float, float]]) -> Iterator[str]:
    """An external service that needs ANSWER_SECONDS for each answer and notes when it was busy."""
    started = time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            begin = time.monotonic() - started
            time.sleep(ANSWER_SECONDS)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"cursor": 1, "items": []}')
            spans.append((begin, time.monotonic() - started))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def execute(folder: Path) -> Executions:
    """Let the solution in `folder` work for MEASURED_SECONDS."""
    executions = Executions([])
    with (
        tempfile.TemporaryDirectory() as data,
        services.redis() as redis_url,
        slow_service(executions.spans) as sync_url,
    ):
        environment = os.environ | {
            "REDIS_URL": redis_url,
            "DATABASE_URL": f"sqlite:///{data}/shop.db",
            "SYNC_URL": sync_url,
            "SYNC_SECONDS": str(INTERVAL),
            "POLL_SECONDS": "0.1",
        }
        app = [sys.executable, str(folder / "app.py")]
        processes = [subprocess.Popen([*app, "worker"], env=environment) for _ in range(WORKERS)]
        with Redis.from_url(redis_url) as redis:
            while redis.scard("rq:workers") < WORKERS:
                time.sleep(0.05)
        subprocess.run([*app, "schedule"], env=environment, check=True)
        processes.append(subprocess.Popen([*app, "scheduler"], env=environment))
        while not executions.spans:
            time.sleep(0.05)
        time.sleep(MEASURED_SECONDS - ANSWER_SECONDS)
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait()
        output = subprocess.run([*app, "status"], env=environment, check=True, capture_output=True).stdout
    status = json.loads(output)["jobs"]["sync"]
    executions.due, executions.skipped = len(status["runs"]), status["skips"]
    return executions


def without_lock(folder: Path) -> Path:
    """A copy of the solution with the mistake that makes every due run."""
    shutil.copytree(HERE, folder, ignore=shutil.ignore_patterns("tests", "__pycache__"))
    subprocess.run(["git", "apply", "mistakes/runs_overlap.patch"], cwd=folder, check=True)
    return folder


def draw(results: dict[str, Executions]) -> None:
    mpl.use("Agg")
    mpl.rcParams |= {"svg.hashsalt": "scheduled jobs", "svg.fonttype": "none"}
    from matplotlib import pyplot as plt  # noqa: PLC0415  after the backend is chosen

    figure, panels = plt.subplots(len(results), 1, figsize=(8, 4.2), sharex=True, layout="constrained")
    for panel, (name, executions) in zip(panels, results.items(), strict=True):
        first = min(begin for begin, _ in executions.spans)
        rows: list[float] = []
        for begin, end in sorted(executions.spans):
            row = next((number for number, free in enumerate(rows) if free <= begin), len(rows))
            rows[row:] = [end, *rows[row + 1 :]]
            panel.barh(row + 1, end - begin, left=begin - first, height=0.7, color="tab:blue", edgecolor="white")
        panel.set(title=f"{name}: at most {executions.most_at_once} at once", ylabel="at once")
        panel.set(yticks=range(1, WORKERS + 1), ylim=(0.4, WORKERS + 0.6))
    panels[-1].set_xlabel(f"seconds; a run is due every {INTERVAL} s and takes {ANSWER_SECONDS:g} s")
    figure.savefig(HERE / "measure.svg", metadata={"Date": None})


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folders = {"Without the rule of one run at a time": without_lock(Path(temporary) / "copy"), "With it": HERE}
        results = {}
        for name, folder in folders.items():
            print(f"measuring: {name.lower()}", file=sys.stderr)
            results[name] = execute(folder)
    draw(results)
    print("| | Due | Begun | Skipped and recorded | In progress at once, at most |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, executions in results.items():
        begun = len(executions.spans)
        print(f"| {name} | {executions.due} | {begun} | {executions.skipped} | {executions.most_at_once} |")


if __name__ == "__main__":
    main()
