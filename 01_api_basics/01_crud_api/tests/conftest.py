"""One server serves all tests; each makes products of its own, so none depends on another's."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grader.solution import Client, Solution

numbers = itertools.count(1)


@pytest.fixture
def client(solution: Solution, shared_path: Path) -> Client:
    return solution.serve_shared(DATABASE_URL=f"sqlite:///{shared_path / 'shop.db'}")


@pytest.fixture
def keyboard() -> dict[str, Any]:
    """A product that may be sent, with a sku that no other test has."""
    sku = f"KB-{next(numbers)}"
    return {"sku": sku, "name": "Keyboard", "price": "49.90", "stock": 3, "description": "87 keys"}


@pytest.fixture
def create(client: Client, keyboard: dict[str, Any]) -> Callable[..., Any]:
    """Create a product, the keyboard unless told otherwise, and return the answer's JSON."""

    def create(**fields: object) -> Any:
        response = client.post("/products", json=keyboard | fields)
        assert response.is_success
        return response.json()

    return create
