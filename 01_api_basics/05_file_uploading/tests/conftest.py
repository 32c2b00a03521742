"""One server for most tests, with a low limit, and a folder for its files that lies deep in another one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grader.solution import Client, Solution

LIMIT = 200_000


@pytest.fixture
def limit() -> int:
    """How many bytes the client's server lets a file have."""
    return LIMIT


@pytest.fixture
def outside(shared_path: Path) -> Path:
    """The folder around the upload folder, where nothing may come to lie."""
    return shared_path


@pytest.fixture
def upload_dir(outside: Path) -> Path:
    return outside / "some" / "where" / "uploads"


@pytest.fixture
def client(solution: Solution, upload_dir: Path) -> Client:
    return solution.serve_shared(UPLOAD_DIR=str(upload_dir), MAX_UPLOAD_BYTES=str(LIMIT))


@pytest.fixture
def upload(client: Client) -> Callable[..., Any]:
    """Upload a file that is to be accepted; return the JSON of the answer."""

    def post(content: bytes, filename: str = "file", content_type: str = "application/octet-stream") -> Any:
        response = client.post("/upload", files={"file": (filename, content, content_type)})
        assert response.status_code == 201, response.text
        return response.json()

    return post
