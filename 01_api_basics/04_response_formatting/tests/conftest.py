"""Two servers serve nearly all tests: one in which each test makes notes of its own, and one that stays empty."""

from collections.abc import Callable
from typing import Any

import pytest

from grader.solution import Client, Solution


@pytest.fixture
def client(solution: Solution) -> Client:
    return solution.serve_shared(ENVIRONMENT="testing")


@pytest.fixture
def empty(solution: Solution) -> Client:
    """An app without notes, in no test environment; nobody adds any."""
    return solution.serve_shared()


@pytest.fixture
def create(client: Client) -> Callable[..., Any]:
    """Create a note and return it."""

    def create(title: str = "Milk", text: str = "two bottles") -> Any:
        response = client.post("/notes", json={"title": title, "text": text})
        assert response.status_code == 201
        return response.json()["data"]

    return create
