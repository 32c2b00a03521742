"""One server serves all tests: the app stores nothing, so no test can be in another one's way."""

from typing import Any

import pytest

from grader.solution import Client, Solution


@pytest.fixture
def client(solution: Solution) -> Client:
    return solution.serve_shared()


@pytest.fixture
def keyboard() -> dict[str, Any]:
    """A product that is right in every field."""
    return {
        "name": "Keyboard",
        "price": 49.9,
        "quantity": 3,
        "tags": ["usb", "87 keys"],
        "dimensions": {"width": 360, "height": 140},
    }


@pytest.fixture
def ada() -> dict[str, Any]:
    """A user who is right in every field."""
    return {
        "name": "Ada",
        "email": "ada@example.com",
        "age": 36,
        "password": "correct horse battery",
        "referral": "A1B2C3D4",
    }


@pytest.fixture
def bodies(keyboard: dict[str, Any], ada: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A right body for each path."""
    return {"/products": keyboard, "/users": ada}
