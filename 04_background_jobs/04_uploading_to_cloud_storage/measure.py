"""How long do 40 MiB take over a slow link, what is sent again after a cut, and how much memory does the app need?"""

import asyncio
import base64
import hashlib
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx2
import matplotlib as mpl
import psutil  # type: ignore[import-untyped]  # its types are a package of their own

from shared import services

HERE = Path(__file__).parent
MIB = 1024 * 1024
SIZE = 40 * MIB
CONNECTION = 6 * MIB  # bytes a second, of one connection
LINE = 18 * MIB  # of all together
CUT = 39 * MIB  # bytes after which the connection breaks, once
CONNECTIONS = (1, 2, 3, 6)
PARTS = (5, 10, 20)  # MiB
UPLOADS = (10, 100)  # MiB
TOKEN = secrets.token_urlsafe()
READS_IT_ALL = """
import os, boto3, fastapi, uvicorn
app = fastapi.FastAPI()
s3 = boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT_URL"])
@app.post("/files", status_code=201)
async def upload(request: fastapi.Request):
    s3.put_object(Bucket=os.environ["S3_BUCKET"], Key="naive", Body=await request.body())
uvicorn.run(app, port=int(os.environ["PORT"]))
"""


class Link:
    """A line to the app that can be slow, on which each connection is slower still, and that can break once."""

    def __init__(self, port: int) -> None:
        self.app_port, self.port, self.sent, self.cut_at = port, 0, 0, 0
        self.is_slow, self.free = True, 0.0
        self.loop = asyncio.new_event_loop()

    async def serve(self, ready: threading.Event) -> None:
        server = await asyncio.start_server(self.connect, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        with suppress(asyncio.CancelledError):
            await server.serve_forever()

    async def connect(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        app, to_app = await asyncio.open_connection("127.0.0.1", self.app_port)
        answers = asyncio.create_task(self.answer(app, to_client))
        with suppress(ConnectionError):
            await self.send(client, to_app)
        answers.cancel()
        to_app.transport.abort()
        to_client.transport.abort()

    async def send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        free = 0.0
        while chunk := await reader.read(16 * 1024):
            now = time.perf_counter()
            free = max(free, now) + len(chunk) / CONNECTION
            self.free = max(self.free, now) + len(chunk) / LINE
            if self.is_slow:
                await asyncio.sleep(max(free, self.free) - now)
            self.sent += len(chunk)
            if self.cut_at and self.sent > self.cut_at:
                self.cut_at = 0
                return
            writer.write(chunk)
            await writer.drain()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(64 * 1024):
                writer.write(chunk)
                await writer.drain()


@contextmanager
def linked(port: int) -> Iterator[Link]:
    link, ready = Link(port), threading.Event()
    task = link.loop.create_task(link.serve(ready))
    thread = threading.Thread(target=link.loop.run_until_complete, args=(task,))
    thread.start()
    ready.wait()
    try:
        yield link
    finally:
        link.loop.call_soon_threadsafe(task.cancel)
        thread.join()
        for left in asyncio.all_tasks(link.loop):
            left.cancel()
            with suppress(asyncio.CancelledError):
                link.loop.run_until_complete(left)
        link.loop.close()


@contextmanager
def served(program: list[str], part_mib: int = 5) -> Iterator[tuple[int, psutil.Process]]:
    """Run a program that serves; yield its port and process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PORT": str(port), "PART_BYTES": str(part_mib * MIB)}
    command = [sys.executable, *program]
    with subprocess.Popen(
        command, cwd=HERE, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            while True:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.05)
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()


def client(port: int) -> httpx2.Client:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=120, trust_env=False)


def digest(part: bytes) -> dict[str, str]:
    return {"Content-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(part).digest()).decode()}:"}


def again(send: Callable[[], httpx2.Response]) -> None:
    """Send until it arrives, as a client does whose connection breaks."""
    while True:
        with suppress(httpx2.TransportError):
            send().raise_for_status()
            return


def in_one(port: int, content: bytes) -> None:
    with client(port) as http:
        parameters = {"category": "films", "filename": "film.pdf"}
        again(lambda: http.post("/files", params=parameters, content=content))


def in_parts(port: int, content: bytes, connections: int) -> None:
    with client(port) as http, ThreadPoolExecutor(connections) as pool:
        film = {"filename": "film.pdf", "category": "films", "content_type": "application/pdf", "size": len(content)}
        begun = http.post("/uploads", json=film).raise_for_status()
        size, path = begun.json()["part_bytes"], begun.headers["Location"]

        def send(number: int) -> None:
            part = content[(number - 1) * size : number * size]
            again(lambda: http.put(f"{path}/parts/{number}", content=part, headers=digest(part)))

        list(pool.map(send, begun.json()["missing"]))
        http.post(f"{path}/complete").raise_for_status()


def seconds_for(link: Link, send: Callable[[], None]) -> float:
    link.is_slow = True
    start = time.perf_counter()
    send()
    return time.perf_counter() - start


def sent_twice(link: Link, send: Callable[[], None]) -> float:
    """MiB that went over the line beyond those of the file, when the connection breaks shortly before its end."""
    link.is_slow, link.sent, link.cut_at = False, 0, CUT
    send()
    return (link.sent - SIZE) / MIB


def memory_growth(program: list[str], mib: int) -> float:
    """By how many MiB a server grows during an upload of so many."""
    print(f"measuring memory: {mib} MiB", file=sys.stderr)

    def pieces(number: int) -> Iterator[bytes]:
        yield b"%PDF-1.7\n"
        yield from (bytes(MIB) for _ in range(number))

    def upload(http: httpx2.Client, number: int) -> None:
        http.post("/files?category=films&filename=film.pdf", content=pieces(number)).raise_for_status()

    with served(program) as (port, process), client(port) as http, ThreadPoolExecutor(1) as other:
        upload(http, 1)
        before = peak = process.memory_info().rss
        done = other.submit(upload, http, mib)
        while not done.done():
            peak = max(peak, process.memory_info().rss)
            time.sleep(0.005)
        done.result()
    return float(peak - before) / MIB


def draw(seconds: dict[str, float], resent: dict[str, float]) -> None:
    mpl.use("Agg")
    mpl.rcParams |= {"svg.hashsalt": "uploading to cloud storage", "svg.fonttype": "none"}
    from matplotlib import pyplot as plt  # noqa: PLC0415  after the backend is chosen

    one, *parts = seconds.values()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    left.axhline(one, color="C1", linestyle="--", label="one request")
    left.plot(CONNECTIONS, parts, "o-", label="parts of 5 MiB")
    left.set(xlabel="connections at a time", ylabel="seconds", xticks=CONNECTIONS, title="40 MiB over a slow line")
    left.set_ylim(bottom=0)
    left.legend()
    right.bar(
        [name.replace(" of ", " of\n") for name in resent], list(resent.values()), color=["C1", *["C0"] * len(PARTS)]
    )
    right.set(ylabel="MiB sent twice", title="Cut after 39 of 40 MiB")
    figure.savefig(HERE / "measure.svg", metadata={"Date": None})


def main() -> None:
    content = b"%PDF-1.7\n" + os.urandom(SIZE - 9)
    os.environ |= {"AWS_ACCESS_KEY_ID": "learner", "AWS_SECRET_ACCESS_KEY": TOKEN, "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {"S3_BUCKET": "measured", "OWNER_TOKENS": json.dumps({"anna": TOKEN})}
    app = [str(HERE / "app.py")]
    seconds, resent = {}, {}
    with services.s3() as os.environ["S3_ENDPOINT_URL"]:
        subprocess.run([sys.executable, *app, "setup"], check=True)
        for mib in PARTS:
            print(f"measuring: parts of {mib} MiB", file=sys.stderr)
            with served(app, mib) as (port, _), linked(port) as link:
                if mib == PARTS[0]:
                    seconds["one request"] = seconds_for(link, partial(in_one, link.port, content))
                    resent["one request"] = sent_twice(link, partial(in_one, link.port, content))
                    for number in CONNECTIONS:
                        way = partial(in_parts, link.port, content, number)
                        seconds[f"parts of {mib} MiB, {number} at a time"] = seconds_for(link, way)
                resent[f"parts of {mib} MiB"] = sent_twice(link, partial(in_parts, link.port, content, 1))
        growth = [memory_growth(app, mib) for mib in UPLOADS]
        naive = memory_growth(["-c", READS_IT_ALL], UPLOADS[-1])
    draw(seconds, resent)
    print("| 40 MiB in | Time on the slow line | Sent twice when cut after 39 MiB |")
    print("| --- | ---: | ---: |")
    for name, time_taken in seconds.items():
        twice = resent.pop(name.removesuffix(", 1 at a time"), None)
        print(f"| {name} | {time_taken:.1f} s | {'' if twice is None else f'{twice:.1f} MiB'} |")
    for name, twice in resent.items():
        print(f"| {name} | | {twice:.1f} MiB |")
    small, large = (f"{mib:.0f} MiB during an upload of {size} MiB" for mib, size in zip(growth, UPLOADS, strict=True))
    print("\nOn the slow line a connection carries 6 MiB a second, and all together 18. ", end="")
    print(f"The app's memory grew by {small} and by {large}; that of one that reads bodies whole by {naive:.0f} MiB.")


if __name__ == "__main__":
    main()
