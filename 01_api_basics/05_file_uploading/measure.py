"""What tells a file's type, how does the server's memory grow with an upload, and what does a small PNG become?"""

import io
import mimetypes
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import filetype  # type: ignore[import-untyped]  # it has no types
import httpx2
import psutil  # type: ignore[import-untyped]  # its types are a package of their own
import puremagic
from content import KINDS, identify
from PIL import Image
from werkzeug.exceptions import HTTPException

APP = [str(Path(__file__).with_name("app.py"))]
READS_IT_ALL = """
import hashlib, flask
app = flask.Flask("app")
@app.post("/upload")
def upload():
    content = flask.request.files["file"].read()
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
app.run(port=0)
"""
MIB = 1024 * 1024
END = b"\r\n--frontier--\r\n"
PDF = b"%PDF-1.4\n"


def image(kind: str, frames: int = 1) -> bytes:
    pictures = [Image.effect_noise((32, 32), 50 + number).convert("RGB") for number in range(frames)]
    file = io.BytesIO()
    pictures[0].save(file, kind, **({"save_all": True, "append_images": pictures[1:]} if frames > 1 else {}))
    return file.getvalue()


def black_png(side: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress(bytes((side // 8 + 1) * side), 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "a")
    return file.getvalue()


# What it is, what its name is, and what the content type ought to be.
FILES = [
    ("PNG", "a.png", image("PNG"), "image/png"),
    ("animated PNG", "a.png", image("PNG", 2), "image/png"),
    ("JPEG", "a.jpg", image("JPEG"), "image/jpeg"),
    ("GIF", "a.gif", image("GIF"), "image/gif"),
    ("WebP", "a.webp", image("WEBP"), "image/webp"),
    ("PDF", "a.pdf", PDF + b"%%EOF", "application/pdf"),
    ("PNG called a.pdf", "a.pdf", image("PNG"), "image/png"),
    ("HTML called a.png", "a.png", b"<!doctype html><script>alert(1)</script>", None),
    ("SVG", "a.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>', None),
    ("ZIP called a.pdf", "a.pdf", zipped(), None),
    ("JPEG 2000", "a.jp2", b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 ", None),
    ("WAV called a.webp", "a.webp", b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0", None),
    ("script after GIF89a", "a.gif", b"GIF89a=1;alert(1)", None),
    ("half a JPEG", "a.jpg", image("JPEG")[:500], None),
]


def by_puremagic(content: bytes) -> str | None:
    try:
        return puremagic.from_string(content, mime=True) or None
    except puremagic.PureError:
        return None


def decoded(content: bytes) -> str | None:
    """As the app does it: filetype, then Pillow."""
    try:
        return identify(io.BytesIO(content)).content_type
    except HTTPException:
        return None


DETECTORS: dict[str, Callable[[str, bytes], str | None]] = {
    "file name": lambda name, _: mimetypes.guess_type(name)[0],
    "puremagic": lambda _, content: by_puremagic(content),
    "filetype": lambda _, content: filetype.guess_mime(content),
    "filetype, then decoded": lambda _, content: decoded(content),
}


def verdict(found: str | None, right: str | None) -> str:
    """What happens when the answer is looked up in the list of the five types."""
    allowed = {kind.content_type for kind in KINDS.values()}
    if found in allowed:
        return "right" if found == right else f"**taken for {found}**"
    return "right" if right is None else f"**refused as {found}**"


@contextmanager
def served(program: list[str]) -> Iterator[tuple[httpx2.Client, psutil.Process]]:
    """Run a program that serves as a process of its own; yield a client on it and the process."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PORT": "0", "UPLOAD_DIR": folder, "MAX_UPLOAD_BYTES": str(500 * MIB)}
        command = [sys.executable, *program]
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            try:
                assert process.stderr
                address = next(found[0] for line in process.stderr if (found := re.search(rb"http://\S+\d", line)))
                with httpx2.Client(base_url=address.decode(), timeout=60, trust_env=False) as client:
                    yield client, psutil.Process(process.pid)
            finally:
                process.terminate()
                process.communicate()


def upload(client: httpx2.Client, content: Iterator[bytes]) -> httpx2.Response:
    def form() -> Iterator[bytes]:
        yield b'--frontier\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        yield from content
        yield END

    return client.post("/upload", content=form(), headers={"Content-Type": "multipart/form-data; boundary=frontier"})


def large_pdf(mebibytes: int) -> Iterator[bytes]:
    yield PDF
    for _ in range(mebibytes):
        yield bytes(MIB)


def large_webp(mebibytes: int) -> Iterator[bytes]:
    """A small image with a large chunk behind it that nobody knows."""
    body = image("WEBP")[8:] + b"XTRA" + struct.pack("<I", mebibytes * MIB)
    yield b"RIFF" + struct.pack("<I", len(body) + mebibytes * MIB) + body
    for _ in range(mebibytes):
        yield bytes(MIB)


def memory_growth(program: list[str], mebibytes: int, make: Callable[[int], Iterator[bytes]] = large_pdf) -> float:
    """How many MiB the server's own memory (USS) grows during an upload of so many MiB."""
    print(f"uploading {mebibytes} MiB", file=sys.stderr)
    with served(program) as (client, process), ThreadPoolExecutor(1) as other:
        upload(client, iter([image("PNG")])).raise_for_status()
        before = peak = process.memory_full_info().uss
        answer = other.submit(upload, client, make(mebibytes))
        while not answer.done():
            peak = max(peak, process.memory_full_info().uss)
            time.sleep(0.005)
        answer.result().raise_for_status()
    return float(peak - before) / MIB


def bomb() -> str:
    """What a small PNG becomes when it is decoded, and how long the server takes to refuse it."""
    content = black_png(12_000)
    with served(APP) as (client, _):
        upload(client, iter([image("PNG")])).raise_for_status()
        start = time.perf_counter()
        status = upload(client, iter([content])).status_code
        elapsed = time.perf_counter() - start
    with Image.open(io.BytesIO(content)) as opened:
        pixels = opened.width * opened.height
    return (
        f"A PNG of {len(content) / 1000:.0f} kB that says it is 12,000 pixels wide and high would take "
        f"{pixels * 4 / MIB:,.0f} MiB in RGBA, and was answered with {status} after {elapsed * 1000:.0f} ms."
    )


def main() -> None:
    print("| File | " + " | ".join(f"By {name}" for name in DETECTORS) + " |")
    print("| --- |" + " --- |" * len(DETECTORS))
    for label, name, content, right in FILES:
        print(f"deciding: {label}", file=sys.stderr)
        verdicts = [verdict(detect(name, content), right) for detect in DETECTORS.values()]
        print(f"| {label} | " + " | ".join(verdicts) + " |")
    growth = [f"{memory_growth(APP, size):.1f} MiB during an upload of {size} MiB" for size in (1, 20, 200)]
    naive = f"{memory_growth(['-c', READS_IT_ALL], 200):.0f} MiB"
    webp = f"{memory_growth(APP, 20, large_webp):.0f} MiB during one of 20 MiB of WebP"
    memory = f"{', '.join(growth)} of PDF, by {webp}, and by {naive} where an app reads it all"
    print(f"\nThe server's memory grew by {memory}. {bomb()}")


if __name__ == "__main__":
    main()
