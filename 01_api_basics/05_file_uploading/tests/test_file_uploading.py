"""The specification of file uploads, requirement by requirement."""

import contextlib
import hashlib
import io
import os
import re
import socket
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from httpx2 import Response
from PIL import Image

from grader.launch import Process
from grader.solution import Client, Solution, wait_until

Upload = Callable[..., Any]
MIB = 1024 * 1024
END = b"--frontier--\r\n"
FORM = {"Content-Type": "multipart/form-data; boundary=frontier"}
PDF = b"%PDF-1.4\n1 0 obj <</Type /Catalog>> endobj\ntrailer <</Root 1 0 R>>\n%%EOF\n"


# Files and forms. Forms are written by hand: a client library sends only good ones.


def image(kind: str, frames: int = 1, size: int = 32, **options: Any) -> bytes:
    """A noisy image, so that half of it is not by chance all of it."""
    pictures = [Image.effect_noise((size, size), 50 + number).convert("RGB") for number in range(frames)]
    file = io.BytesIO()
    animation = {"save_all": True, "append_images": pictures[1:], "duration": 100} if frames > 1 else {}
    pictures[0].save(file, kind, **animation, **options)
    return file.getvalue()


def black_png(width: int, height: int) -> bytes:
    """A PNG of one bit a pixel, which takes next to nothing, however large it says it is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(((width + 7) // 8 + 1) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def large_webp(width: int, height: int) -> bytes:
    """A WebP animation whose canvas is large and whose one frame is small."""
    still = image("WEBP", size=8, lossless=True)[12:]
    frame = bytes(6) + b"\x07\0\0\x07\0\0" + b"\x64\0\0\0" + still
    canvas = b"\2\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = [(b"VP8X", canvas), (b"ANIM", bytes(6)), (b"ANMF", frame)]
    body = b"WEBP" + b"".join(name + struct.pack("<I", len(data)) + data for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("page.html", "<script>alert(1)</script>")
    return file.getvalue()


def pdf(size: int) -> bytes:
    """A PDF of so many bytes."""
    return PDF.ljust(size, b"%")


def part(content: bytes, name: str = "file", filename: str | None = "file") -> bytes:
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
    return b"--frontier\r\nContent-Disposition: " + disposition.encode() + b"\r\n\r\n" + content + b"\r\n"


def post(client: Client, body: bytes | Iterator[bytes], **headers: str) -> Response:
    """Post a form; an iterator without a Content-Length is sent in chunks."""
    return client.post("/upload", content=body, headers=FORM | headers)


def pieces(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 65_536):
        yield body[start : start + 65_536]


def entries(folder: Path) -> set[Path]:
    """All that lies in a folder. rglob fails when a folder goes away under it (Python 3.11); os.walk does not."""
    return {Path(parent, name) for parent, folders, names in os.walk(folder) for name in folders + names}


def files(folder: Path) -> set[Path]:
    return {path for path in entries(folder) if path.is_file()}


def path_of(upload: Any) -> str:
    return urlsplit(str(upload["url"])).path


def saved_as(response: Response) -> str:
    """The name that Content-Disposition gives a file (RFC 6266): `filename*` counts more than `filename`."""
    disposition = response.headers["Content-Disposition"]
    if extended := re.search(r"filename\*=utf-8''([^;\s]+)", disposition, re.IGNORECASE):
        return unquote(extended[1], errors="strict")
    plain = re.search(r'filename=(?:"((?:[^"\\]|\\.)*)"|([^;\s]+))', disposition)
    assert plain, f"no file name in {disposition!r}"
    return re.sub(r"\\(.)", r"\1", plain[1]) if plain[1] is not None else plain[2]


# 1. The endpoint.


@pytest.mark.requirement(1)
def test_an_upload_is_answered_with_201_its_url_and_what_it_is(client: Client) -> None:
    content = image("PNG")

    response = client.post("/upload", files={"file": ("cat.png", content, "image/png")})

    assert response.status_code == 201
    answer = response.json()
    assert response.headers["Location"] == answer.pop("url")
    digest = hashlib.sha256(content).hexdigest()
    assert answer == {"filename": "cat.png", "content_type": "image/png", "size": len(content), "sha256": digest}


@pytest.mark.requirement(1)
def test_text_fields_beside_the_file_are_ignored(client: Client) -> None:
    fields = [part(b"text" * 12_000, f"field{number}", filename=None) for number in range(10)]

    response = post(client, b"".join(fields[:5]) + part(PDF) + b"".join(fields[5:]) + END)

    assert response.status_code == 201
    assert response.json()["size"] == len(PDF)


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "content_type, body",
    [
        pytest.param(None, PDF, id="no type at all"),
        pytest.param("application/pdf", PDF, id="the file itself"),
        pytest.param("application/json", b'{"file": "x"}', id="JSON"),
        pytest.param("application/x-www-form-urlencoded", b"file=x", id="a form without files"),
        pytest.param("multipart/mixed; boundary=frontier", part(PDF) + END, id="another multipart"),
    ],
)
def test_what_is_no_form_with_files_is_a_415(client: Client, content_type: str | None, body: bytes) -> None:
    headers = {"Content-Type": content_type} if content_type else {}

    response = client.post("/upload", content=body, headers=headers)

    assert response.status_code == 415


BAD_FORMS = [
    pytest.param(END, id="without anything in it"),
    pytest.param(part(PDF, "photo") + END, id="whose file has another name"),
    pytest.param(part(PDF, filename=None) + END, id="whose file is a text field"),
    pytest.param(part(b"") + END, id="whose file is empty"),
    pytest.param(part(b"", filename="") + END, id="in which no file was chosen"),
    pytest.param(part(PDF) + part(PDF) + END, id="with two files"),
    pytest.param(part(PDF, "photo") + part(PDF) + END, id="with a second file of another name"),
    pytest.param(b"", id="that is empty"),
    pytest.param(b"\0\r\n--\r\n\xff", id="that is noise"),
    pytest.param(part(PDF).replace(b"frontier", b"elsewhere") + END, id="with another boundary than it says"),
    pytest.param(part(PDF) + END[:-6], id="cut short after the file"),
    pytest.param(part(PDF)[:-20], id="cut short in the file"),
    pytest.param(part(PDF)[:30], id="cut short in the header"),
]


@pytest.mark.requirement(1)
@pytest.mark.parametrize("form", BAD_FORMS)
def test_a_bad_form_is_a_400(client: Client, form: bytes) -> None:
    response = post(client, form)

    assert response.status_code == 400


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "parameter",
    [
        pytest.param("", id="missing"),
        pytest.param("; boundary=", id="empty"),
        pytest.param("; boundary=é", id="no ASCII"),
    ],
)
def test_a_form_whose_boundary_is_not_told_is_a_400(client: Client, parameter: str) -> None:
    content_type = f"multipart/form-data{parameter}".encode()

    response = client.post("/upload", content=part(PDF) + END, headers={b"Content-Type": content_type})

    assert response.status_code == 400


# 2. The types.


ACCEPTED = [
    pytest.param("image/png", image("PNG"), id="PNG"),
    pytest.param("image/png", image("PNG", frames=2), id="animated PNG"),
    pytest.param("image/jpeg", image("JPEG"), id="JPEG"),
    pytest.param("image/jpeg", image("JPEG", progressive=True, exif=Image.Exif()), id="progressive JPEG"),
    pytest.param("image/gif", image("GIF"), id="GIF"),
    pytest.param("image/gif", b"GIF87a" + image("GIF")[6:], id="GIF of 1987"),
    pytest.param("image/gif", image("GIF", frames=3), id="animated GIF"),
    pytest.param("image/webp", image("WEBP"), id="WebP"),
    pytest.param("image/webp", image("WEBP", lossless=True), id="lossless WebP"),
    pytest.param("image/webp", image("WEBP", frames=3), id="animated WebP"),
    pytest.param("application/pdf", PDF, id="PDF"),
    pytest.param(
        "application/pdf", b"%PDF-2.0\n\r\n--frontie\r\n--\xff\r\r\n\0", id="PDF with almost a boundary in it"
    ),
    pytest.param("image/gif", image("GIF") + b"<script>alert(1)</script>", id="GIF with HTML after it"),
    pytest.param("image/png", image("PNG") + zipped(), id="PNG with a ZIP after it"),
]


@pytest.mark.requirement(2)
@pytest.mark.parametrize("content_type, content", ACCEPTED)
def test_a_file_is_accepted_and_comes_back_byte_for_byte(
    client: Client, upload: Upload, content_type: str, content: bytes
) -> None:
    uploaded = upload(content)

    assert uploaded["content_type"] == content_type
    assert client.get(path_of(uploaded)).content == content


@pytest.mark.requirement(2)
def test_a_file_may_come_byte_by_byte(client: Client) -> None:
    content = image("PNG", size=4)
    form = part(content, filename="tiny.png") + END

    response = post(client, (form[index : index + 1] for index in range(len(form))))

    assert response.status_code == 201
    assert client.get(path_of(response.json())).content == content


# 3. Size and type.


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "size, status", [pytest.param(5 * MIB, 201, id="5 MiB"), pytest.param(5 * MIB + 1, 413, id="one byte more")]
)
def test_a_file_has_at_most_5_mib_if_nothing_else_is_said(
    solution: Solution, shared_path: Path, size: int, status: int
) -> None:
    client = solution.serve_shared(UPLOAD_DIR=str(shared_path / "default"), MAX_UPLOAD_BYTES=None)

    response = client.post("/upload", files={"file": ("large.pdf", pdf(size))})

    assert response.status_code == status


@pytest.mark.requirement(3)
@pytest.mark.parametrize("one_more, status", [pytest.param(0, 201, id="at"), pytest.param(1, 413, id="one byte over")])
@pytest.mark.parametrize("chunked", [pytest.param(False, id="with a length"), pytest.param(True, id="in chunks")])
@pytest.mark.parametrize("fields", [pytest.param(0, id="a short form"), pytest.param(5, id="a long form")])
def test_only_the_bytes_of_the_file_count(
    client: Client, limit: int, *, fields: int, chunked: bool, one_more: int, status: int
) -> None:
    framing = part(b"x" * 900, "note", filename=None) * fields
    form = framing + part(pdf(limit + one_more)) + framing + END

    response = post(client, pieces(form) if chunked else form)

    assert response.status_code == status


@pytest.mark.requirement(3)
@pytest.mark.parametrize("chunked", [pytest.param(False, id="with a length"), pytest.param(True, id="in chunks")])
def test_a_413_does_not_wait_for_the_end_of_the_upload(client: Client, limit: int, chunked: bool) -> None:
    started = part(pdf(limit + MIB))
    length = "Transfer-Encoding: chunked\r\n\r\nfffffff" if chunked else f"Content-Length: {limit + 2 * MIB}\r\n"
    head = f"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM['Content-Type']}\r\n{length}\r\n"

    with socket.create_connection(client.address, timeout=5) as connection:
        connection.sendall(head.encode() + started)
        answer = connection.recv(100)  # the upload has not ended: it is the server's turn to speak

    assert answer.split()[1] == b"413"


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(part(b"x" * 2 * MIB, "note", filename=None), id="a field of 2 MiB"),
        pytest.param(part(b"", "note", filename=None) * 1100, id="1,100 fields"),
    ],
)
def test_a_form_has_an_end_besides_its_file(client: Client, fields: bytes) -> None:
    response = post(client, fields + part(PDF) + END)

    assert response.is_client_error


def peak_memory(process: Process | None) -> float:
    """The most memory that the process has had so far, in MiB."""
    assert process
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@pytest.mark.requirement(3)
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory_stays_flat_however_large_the_upload(solution: Solution, tmp_path: Path) -> None:
    server = solution.serve(isolated=True, UPLOAD_DIR=str(tmp_path / "uploads"), MAX_UPLOAD_BYTES=str(100 * MIB))
    start, end = part(PDF)[:-2], b"\r\n" + END
    assert post(server, start + end).status_code == 201
    before = peak_memory(server.process)

    def large() -> Iterator[bytes]:
        yield start
        for _ in range(64):
            yield bytes(MIB)
        yield end

    response = post(server, large(), **{"Content-Length": str(len(start) + 64 * MIB + len(end))})

    assert response.status_code == 201
    assert peak_memory(server.process) - before < 24


@pytest.mark.requirement(3)
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(solution: Solution, tmp_path: Path) -> None:
    server = solution.serve(isolated=True, UPLOAD_DIR=str(tmp_path / "uploads"))
    assert post(server, part(image("PNG")) + END).status_code == 201
    before = peak_memory(server.process)

    response = post(server, part(black_png(12_000, 12_000)) + END)

    assert response.status_code == 422
    assert peak_memory(server.process) - before < 72  # decoded, it would take 144 MB at least


NONE_OF_THE_FIVE = [
    pytest.param(b"hello", id="text"),
    pytest.param(b"%", id="one byte"),
    pytest.param(bytes(1000), id="zeros"),
    pytest.param(b"<!doctype html><script>alert(1)</script>", id="HTML"),
    pytest.param(b"<html><!-- %PDF-1.4 -->", id="HTML with a PDF's mark in it"),
    pytest.param(b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', id="SVG"),
    pytest.param(b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', id="SVG with an XML declaration"),
    pytest.param(zipped(), id="ZIP"),
    pytest.param(b"MZ\x90\0" + bytes(200), id="Windows program"),
    pytest.param(b"\x7fELF\2\1\1" + bytes(200), id="Linux program"),
    pytest.param(image("BMP"), id="BMP"),
    pytest.param(image("TIFF"), id="TIFF"),
    pytest.param(image("ICO"), id="icon"),
    pytest.param(b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 \0\0\0\0jp2 ", id="JPEG 2000"),
    pytest.param(b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", id="AVIF"),
    pytest.param(b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0", id="sound in a RIFF, as WebP is"),
]


@pytest.mark.requirement(3)
@pytest.mark.parametrize("content", NONE_OF_THE_FIVE)
@pytest.mark.parametrize(
    "filename, claimed",
    [pytest.param("a.png", "image/png", id="PNG"), pytest.param("a.pdf", "application/pdf", id="PDF")],
)
def test_another_type_is_a_415_whatever_it_says_it_is(
    client: Client, content: bytes, filename: str, claimed: str
) -> None:
    response = client.post("/upload", files={"file": (filename, content, claimed)})

    assert response.status_code == 415


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "filename, claimed",
    [
        pytest.param("report.pdf", "application/pdf", id="PDF"),
        pytest.param("page.html", "text/html", id="HTML"),
        pytest.param("drawing.svg", "image/svg+xml", id="SVG"),
        pytest.param("noext", "nonsense", id="nothing that there is"),
    ],
)
def test_the_type_is_what_the_content_is(client: Client, upload: Upload, filename: str, claimed: str) -> None:
    uploaded = upload(image("PNG"), filename, claimed)

    assert uploaded["content_type"] == "image/png"
    assert client.get(path_of(uploaded)).headers["Content-Type"] == "image/png"


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


BROKEN = [
    pytest.param(half(image("PNG")), id="half a PNG"),
    pytest.param(half(image("JPEG")), id="half a JPEG"),
    pytest.param(half(image("GIF")), id="half a GIF"),
    pytest.param(half(image("WEBP")), id="half a WebP"),
    pytest.param(image("PNG").replace(b"\r\n", b"\n"), id="a PNG sent as if it were text"),
    pytest.param(b"\x89PNG\r\n\x1a\n", id="the first bytes of a PNG"),
    pytest.param(b"\xff\xd8\xff\xe0\0\x10JFIF\0" + b"<script>alert(1)</script>", id="HTML in a JPEG's clothes"),
    pytest.param(b"GIF89a/*" + bytes(8) + b"*/=1;alert(1)", id="JavaScript in a GIF's clothes"),
    pytest.param(b"RIFF\xff\0\0\0WEBPVP8 " + bytes(300), id="a WebP of zeros"),
]


@pytest.mark.requirement(3)
@pytest.mark.parametrize("content", BROKEN)
def test_an_image_that_does_not_decode_is_a_422(client: Client, content: bytes) -> None:
    response = client.post("/upload", files={"file": ("image", content)})

    assert response.status_code == 422


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "content, status",
    [
        pytest.param(black_png(5000, 5000), 201, id="25,000,000"),
        pytest.param(black_png(5000, 5001), 422, id="a row more"),
        pytest.param(black_png(1_000_000, 26), 422, id="few rows, but long ones"),
        pytest.param(large_webp(6000, 5000), 422, id="on a WebP's canvas"),
        pytest.param(image("GIF")[:6] + b"\xff\xff\xff\xff" + image("GIF")[10:], 422, id="on a GIF's screen"),
    ],
)
def test_an_image_has_at_most_25_million_pixels(client: Client, content: bytes, status: int) -> None:
    response = client.post("/upload", files={"file": ("image", content)})

    assert response.status_code == status


@pytest.mark.requirement(3)
def test_the_frames_of_an_animation_are_not_added_up(client: Client) -> None:
    black, white = (Image.new("1", (2000, 2000), colour) for colour in (0, 1))
    file = io.BytesIO()
    black.save(file, "GIF", save_all=True, append_images=[white, black] * 4)

    response = client.post("/upload", files={"file": ("animation.gif", file.getvalue())})

    assert response.status_code == 201


# 4. Storage and URL.


@pytest.mark.requirement(4)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_url_answers_with_headers_that_do_no_harm(client: Client, upload: Upload, method: str) -> None:
    content = image("GIF") + b"<script>alert(1)</script>"
    uploaded = upload(content, "cat.gif", "text/html")

    response = client.request(method, path_of(uploaded))

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "image/gif"
    assert response.headers["Content-Length"] == str(len(content))
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Disposition"].partition(";")[0] == "attachment"
    assert response.content == (content if method == "GET" else b"")


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "filename", ["cat.png", "日本.png", "naïve café (1).png", "it's 50% off; really.png", "CAT.PNG", "👋🏽.png"]
)
def test_a_file_keeps_its_name_to_be_saved_under(client: Client, upload: Upload, filename: str) -> None:
    uploaded = upload(image("PNG"), filename)

    assert uploaded["filename"] == filename
    assert saved_as(client.get(path_of(uploaded))) == filename


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "content, filename, saved",
    [
        pytest.param(image("GIF"), "page.html", "page.html.gif", id="GIF"),
        pytest.param(PDF, "photo.png", "photo.png.pdf", id="PDF"),
        pytest.param(image("JPEG"), "photo.jpeg", "photo.jpeg", id="JPEG, the longer way"),
        pytest.param(image("WEBP"), "photo", "photo.webp", id="WebP"),
        pytest.param(image("PNG"), "/home/me/photo.png", "photo.png", id="PNG in a folder"),
    ],
)
def test_a_name_ends_as_the_content_asks(upload: Upload, content: bytes, filename: str, saved: str) -> None:
    uploaded = upload(content, filename)

    assert uploaded["filename"] == saved


DANGEROUS = [
    pytest.param("../../etc/passwd", id="up and away"),
    pytest.param("../../../evil.png", id="up and away with the right end"),
    pytest.param("/etc/cron.d/evil.png", id="absolute"),
    pytest.param("..\\..\\evil.png", id="up with backslashes"),
    pytest.param("C:\\Windows\\evil.png", id="with a drive"),
    pytest.param("..", id="the folder above"),
    pytest.param(".", id="the folder itself"),
    pytest.param(".htaccess", id="a hidden file"),
    pytest.param("evil.php\0.png", id="with a NUL"),
    pytest.param("gnp.\u202eexe", id="written from right to left"),
    pytest.param("a\x1b[31m\x7f\u2028b.png", id="with control characters"),
    pytest.param("%2e%2e%2fevil.png", id="in URL encoding"),
    pytest.param("n" * 3000 + ".png", id="of 3,000 letters"),
    pytest.param("日" * 300, id="of 300 long letters"),
    pytest.param("", id="empty"),
]


@pytest.mark.requirement(4)
@pytest.mark.parametrize("filename", DANGEROUS)
def test_a_dangerous_name_is_only_a_name(client: Client, outside: Path, upload_dir: Path, filename: str) -> None:
    around = files(outside) - files(upload_dir)
    content = image("PNG")

    response = post(client, part(content, filename=filename) + END)

    assert response.status_code == 201
    shown = response.json()["filename"]
    assert shown.isprintable()
    assert re.fullmatch(r"[^/\\]{1,96}\.png", shown)
    assert saved_as(fetched := client.get(path_of(response.json()))) == shown
    assert fetched.content == content
    assert files(outside) - files(upload_dir) == around


@pytest.mark.requirement(4)
def test_a_name_that_is_no_text_is_answered(client: Client) -> None:
    form = part(image("PNG"), filename="NAME.png").replace(b"NAME", b"\xff\xfe\xed\xa0\x80") + END

    response = post(client, form)

    assert response.status_code in (201, 400)
    assert response.status_code == 400 or client.get(path_of(response.json())).status_code == 200


@pytest.mark.requirement(4)
def test_a_file_is_in_the_upload_folder_under_a_name_of_the_servers(upload: Upload, upload_dir: Path) -> None:
    before = files(upload_dir)
    content = pdf(1234)

    uploaded = upload(content, "my-own-name.pdf")

    new = files(upload_dir) - before
    assert content in [path.read_bytes() for path in new]
    assert "my-own-name" not in " ".join(map(str, new)) + uploaded["url"]


@pytest.mark.requirement(4)
def test_two_files_of_one_name_are_two_files(client: Client, upload: Upload) -> None:
    first, second = pdf(1000), pdf(2000)

    uploads = [upload(first, "日本.pdf"), upload(second, "日本.pdf")]

    assert [client.get(path_of(uploaded)).content for uploaded in uploads] == [first, second]


@pytest.mark.requirement(4)
def test_files_that_come_at_once_do_not_disturb_each_other(client: Client, limit: int) -> None:
    content = pdf(limit)

    with ThreadPoolExecutor(8) as clients:
        responses = list(clients.map(lambda _: post(client, part(content) + END), range(8)))

    assert [response.status_code for response in responses] == [201] * 8
    paths = {path_of(response.json()) for response in responses}
    assert len(paths) == 8
    assert all(client.get(path).content == content for path in paths)


@pytest.mark.requirement(4)
def test_a_file_is_there_after_a_restart(solution: Solution, tmp_path: Path) -> None:
    folder = str(tmp_path / "not" / "there" / "yet")
    before = solution.serve(UPLOAD_DIR=folder)
    response = before.post("/upload", files={"file": ("日本.pdf", PDF)})
    before.stop()

    after = solution.serve(UPLOAD_DIR=folder).get(path_of(response.json()))

    assert after.content == PDF
    assert after.headers["Content-Type"] == "application/pdf"
    assert saved_as(after) == "日本.pdf"


REFUSED = [
    pytest.param(part(pdf(300_000)) + END, 413, id="too large"),
    pytest.param(part(b"hello") + END, 415, id="of no type that is accepted"),
    pytest.param(part(half(image("PNG", size=200))) + END, 422, id="half an image"),
    pytest.param(part(black_png(6000, 6000)) + END, 422, id="with too many pixels"),
    pytest.param(part(pdf(100_000))[:-20], 400, id="cut short"),
    pytest.param(part(PDF) + part(PDF, "second") + END, 400, id="one of two"),
]


@pytest.mark.requirement(4)
@pytest.mark.parametrize("form, status", REFUSED)
def test_nothing_stays_of_a_refused_file(client: Client, upload_dir: Path, form: bytes, status: int) -> None:
    before = entries(upload_dir)

    response = post(client, form)

    assert response.status_code == status
    wait_until(lambda: entries(upload_dir) == before, 2, "the upload folder is not as it was before")


@pytest.mark.requirement(4)
@pytest.mark.parametrize("chunked", [pytest.param(False, id="with a length"), pytest.param(True, id="in chunks")])
def test_nothing_stays_when_the_client_hangs_up(client: Client, upload_dir: Path, chunked: bool) -> None:
    before = entries(upload_dir)
    length = "Transfer-Encoding: chunked\r\n\r\nffffff" if chunked else "Content-Length: 199000\r\n"
    head = f"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM['Content-Type']}\r\n{length}\r\n"

    with socket.create_connection(client.address, timeout=5) as connection:
        connection.sendall(head.encode() + part(pdf(190_000))[:-100])
        with contextlib.suppress(AssertionError):  # it may be written elsewhere first
            wait_until(lambda: entries(upload_dir) != before, 0.3)
    client.get("/")

    wait_until(lambda: entries(upload_dir) == before, 2, "the upload folder is not as it was before")


@pytest.mark.requirement(4)
def test_a_url_that_was_never_given_is_a_404(client: Client, upload: Upload, outside: Path) -> None:
    (outside / "secret.txt").write_text("secret", encoding="ascii")
    path = path_of(upload(PDF))
    folder, _, name = path.rpartition("/")
    up = "%2e%2e%2f"
    other = name.translate(str.maketrans("0123456789abcdef", "123456789abcdef0"))

    paths = [f"{path}x", f"{folder}/{other}", f"{folder}/%00", f"{folder}/%ff", f"{folder}/unknown"]
    paths += [f"{folder}/{up * 3}secret.txt", f"{path}/{up * 4}secret.txt", f"{folder}/{up * 9}etc/passwd"]

    assert {path: client.get(path).status_code for path in paths} == dict.fromkeys(paths, 404)
