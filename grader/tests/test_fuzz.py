"""The fuzzer sees a planted fault, and leaves an app without one alone."""

from pathlib import Path
from typing import Any

import hypothesis
import pytest

from grader.exercises import CourseError, Exercise
from grader.fuzz import _targets, documented, find_document, fuzz, template_of

APP = '''"""Items."""

import os
from typing import Annotated

import uvicorn
from fastapi import FastAPI, Path, Response


def create_app() -> FastAPI:
    app = FastAPI()

    @app.get("/items/{number}")
    def read_item(number: Annotated[int, Path(ge=0, le=1000)], word: str = "") -> dict[str, int]:
        FAULT
        return {"number": number}

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(), host=os.environ["HOST"], port=int(os.environ["PORT"]))
'''


def exercise(folder: Path, fault: str = "pass") -> Exercise:
    path = folder / "01_items"
    path.mkdir()
    (path / "app.py").write_text(APP.replace("FAULT", fault))
    (path / "requirements.txt").write_text("-c ../../constraints.txt\nfastapi\n")
    (path / "README.md").write_text("# Items\n")
    return Exercise(path)


def test_an_app_without_a_fault_is_left_alone(tmp_path: Path) -> None:
    assert fuzz(exercise(tmp_path), seconds=2, start=1) == []


@pytest.mark.parametrize(
    "fault",
    ["raise KeyError(number)", "return Response(status_code=418)", "os._exit(1)"],
    ids=["a 500 for large numbers", "an undocumented status", "it ends"],
)
def test_a_fault_is_found(tmp_path: Path, fault: str) -> None:
    items = exercise(tmp_path, f"if number > 500: {fault}")

    assert any(fuzz(items, seconds=seconds, start=1) for seconds in (2, 8, 32))  # a busy machine sends less in a second


def test_a_document_among_the_tests_comes_first(tmp_path: Path) -> None:
    items = exercise(tmp_path)
    (items.path / "app.py").write_text(APP.replace("FastAPI()", "FastAPI(openapi_url=None)").replace("FAULT", "pass"))
    items.tests.mkdir()
    (items.tests / "openapi.json").write_text('{"openapi": "3.1.0", "info": {}, "paths": {}}')

    assert find_document(items)["paths"] == {}


def test_an_alternative_is_held_against_the_document_of_the_other(tmp_path: Path) -> None:
    items = exercise(tmp_path)
    (items.path / "alternative").mkdir()
    without_a_document = APP.replace("FastAPI()", "FastAPI(openapi_url=None)").replace("FAULT", "return word[1000]")
    (items.path / "alternative" / "app.py").write_text(without_a_document)

    found = fuzz(items, seconds=2, start=1)

    assert found
    assert all(problem.startswith("01_items/alternative: ") for problem in found)


def test_without_a_document_there_is_nothing_to_hold_against(tmp_path: Path) -> None:
    items = exercise(tmp_path)
    (items.path / "app.py").write_text(APP.replace("FastAPI()", "FastAPI(openapi_url=None)").replace("FAULT", "pass"))

    with pytest.raises(CourseError, match="openapi"):
        fuzz(items, seconds=1)


def test_a_path_may_have_parameters_of_its_own() -> None:
    number = {"name": "id", "in": "path", "required": True}
    paths = {"/x/{id}": {"parameters": [number], "get": {"parameters": [{"name": "page", "in": "query"}]}}}

    named = hypothesis.find(_targets({"paths": paths}), lambda target: "page=" in target)

    assert named


def test_a_path_with_a_name_comes_before_one_with_a_parameter() -> None:
    feed: dict[str, Any] = {"get": {"responses": {"200": {}, "default": {}}}}
    document: dict[str, Any] = {"paths": {"/items/{number}": {}, "/items/feed": feed}}

    assert template_of(document, "/items/feed?x=1") == "/items/feed"
    assert template_of(document, "/items/7") == "/items/{number}"
    assert template_of(document, "//%2Fitems/7") == "/items/{number}"
    assert template_of(document, "/items/7/8") == ""
    assert documented(document, "/items/feed", "HEAD") == {200}
    assert documented(document, "/items/feed", "POST") == set()


def test_an_app_may_refuse_before_it_looks_for_the_path() -> None:
    document: dict[str, Any] = {"paths": {"/items": {"post": {"responses": {"201": {}, "403": {}}}, "parameters": []}}}

    assert documented(document, "", "GET") == {403}
    assert documented(document, "/items", "POST") == {201, 403}
