"""What the tests send: bodies, digests, uploads through the app, signed forms, uploads in parts, listings."""

import base64
import hashlib
import os
import re
import socket
from contextlib import suppress
from typing import Any

import httpx2

from grader.solution import Client

Json = dict[str, Any]

MIB = 1024 * 1024
PART = 5 * MIB  # the smallest that S3 takes
PDF = b"%PDF-1.7\n"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"


def content(size: int, beginning: bytes = PDF) -> bytes:
    return beginning + os.urandom(size - len(beginning))


SMALL = content(1000)
LARGE = content(PART + 1000)  # two parts


def digest(body: bytes) -> dict[str, str]:
    return {"Content-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"}


# Through the app.


def upload(client: Client, category: str, body: Any = SMALL, name: str = "bill.pdf", **options: Any) -> httpx2.Response:
    return client.post("/files", params={"category": category, "filename": name}, content=body, **options)


def uploaded(client: Client, category: str, body: Any = SMALL, name: str = "bill.pdf", **options: Any) -> Json:
    """Upload through the app, expect that it works, and return what the app says of the file."""
    response = upload(client, category, body, name, **options)
    assert response.status_code == 201, response.text
    file: Json = response.json()
    return file


# With a signed form.


def promise(category: str, body: bytes = SMALL, **changes: Any) -> Json:
    """The body of a request for a form."""
    return described(category, len(body)) | {"sha256": hashlib.sha256(body).hexdigest()} | changes


def signed_form(client: Client, category: str, body: bytes = SMALL, **changes: Any) -> Json:
    response = client.post("/files/presign", json=promise(category, body, **changes))
    assert response.status_code == 200, response.text
    form: Json = response.json()
    return form


def send_form(outside: httpx2.Client, form: Json, body: bytes = SMALL, **fields: str) -> str:
    """Send a form to S3 as a browser does, and return the code of its error, or nothing."""
    answer = outside.post(form["url"], data=form["fields"] | fields, files={"file": ("x", body)})
    code = re.search("<Code>(.*)</Code>", answer.text)
    assert code or answer.status_code in (200, 201, 204)
    return code[1] if code else ""


# In parts.


def described(category: str, size: int = len(LARGE), **changes: Any) -> Json:
    """The body of a request that begins an upload in parts."""
    return {"filename": "bill.pdf", "category": category, "content_type": "application/pdf", "size": size} | changes


def begun(client: Client, category: str, size: int = len(LARGE), **changes: Any) -> str:
    """Begin an upload in parts and return its path."""
    response = client.post("/uploads", json=described(category, size, **changes))
    assert response.status_code == 201, response.text
    path: str = response.headers["Location"]
    return path


def part_of(body: bytes, number: int) -> bytes:
    return body[(number - 1) * PART : number * PART]


def put_part(client: Client, path: str, number: int, body: bytes = LARGE) -> int:
    part = part_of(body, number)
    return client.put(f"{path}/parts/{number}", content=part, headers=digest(part)).status_code


# Folders.


def listed(client: Client, folder: str, **options: Any) -> Json:
    response = client.get("/files", params={"folder": folder, **options})
    assert response.status_code == 200, response.text
    page: Json = response.json()
    return page


def files_in(client: Client, category: str) -> list[str]:
    """The ids of all files of a category, found by its folders."""
    return [file["id"] for day in listed(client, category)["folders"] for file in listed(client, day)["files"]]


# Requests that are cut.


def head(client: Client, method: str, path: str, length: int | None, **more: str) -> bytes:
    """The beginning of a request whose body has so many bytes, or comes in chunks."""
    framing = {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
    headers = {"Host": "files", "Authorization": client.headers["Authorization"]} | framing | more
    return "\r\n".join([f"{method} {path} HTTP/1.1", *map(": ".join, headers.items()), "", ""]).encode()


def break_off(client: Client, method: str, path: str, length: int | None, sent: bytes) -> None:
    """Announce so many bytes, or chunks, send some and no more, and wait for the server to end the connection."""
    with socket.create_connection(client.address, timeout=10) as connection, suppress(ConnectionError):
        connection.sendall(head(client, method, path, length) + sent)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1024):
            pass
