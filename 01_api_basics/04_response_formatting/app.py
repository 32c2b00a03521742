"""Notes over HTTP, to show one thing: whatever is asked for, the answer has the same shape."""

import itertools
import os
import threading
from dataclasses import asdict, dataclass
from typing import Annotated

from envelope import ApiError, make_app, sent_body, success, success_without_body
from flask import Blueprint, Flask, Response, current_app, request, url_for
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError
from werkzeug.exceptions import UnsupportedMediaType

routes = Blueprint("notes", __name__)
faults = Blueprint("faults", __name__)


def not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "String should not be blank")
    return text


class NoteIn(BaseModel):
    """What a client may send."""

    model_config = ConfigDict(extra="forbid")

    title: Annotated[str, StringConstraints(max_length=100), AfterValidator(not_blank)]
    text: Annotated[str, StringConstraints(max_length=5_000)] = ""


@dataclass(frozen=True)
class Note:
    id: int
    title: str
    text: str


class Notes:
    """All notes, in the memory of this process. The server's threads share them, hence the lock."""

    def __init__(self) -> None:  # given
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._notes: dict[str, Note] = {}

    def add(self, title: str, text: str) -> Note:  # given
        with self._lock:
            note = Note(next(self._ids), title, text)
            self._notes[str(note.id)] = note
        return note

    def all(self) -> list[Note]:  # given
        """Return all notes, oldest first."""
        with self._lock:
            return list(self._notes.values())

    def find(self, note_id: str) -> Note | None:  # given
        """Return the note whose id is written like this in a URL, if there is one."""
        return self._notes.get(note_id)

    def remove(self, note_id: str) -> bool:  # given
        """Forget the note; return whether it was there."""
        with self._lock:
            return self._notes.pop(note_id, None) is not None


def all_notes() -> Notes:  # given
    """The notes that `create_app` made."""
    notes: Notes = current_app.extensions["notes"]
    return notes


@routes.get("/notes")
def list_notes() -> Response:
    notes = [asdict(note) for note in all_notes().all()]
    return success(notes, meta={"count": len(notes)})


@routes.post("/notes")
def create_note() -> Response:
    sent = sent_note()
    note = all_notes().add(sent.title, sent.text)
    response = success(asdict(note), 201)
    response.headers["Location"] = url_for("notes.read_note", note_id=note.id)
    return response


@routes.get("/latest")
def read_latest_note() -> Response:
    """The newest note. That there is none yet is not an error: nobody asked for a note that does not exist."""
    notes = all_notes().all()
    return success(asdict(notes[-1]) if notes else None)


@routes.get("/notes/<note_id>")
def read_note(note_id: str) -> Response:
    note = all_notes().find(note_id)
    if note is None:
        raise note_not_found()
    return success(asdict(note))


@routes.delete("/notes/<note_id>")
def delete_note(note_id: str) -> Response:
    if not all_notes().remove(note_id):
        raise note_not_found()
    return success_without_body()


@faults.get("/faults/unhandled")
def fail() -> Response:  # given
    """What nobody foresaw; only for tests."""
    raise RuntimeError("cannot open /srv/notes.db: the disk is full")


def note_not_found() -> ApiError:
    return ApiError(404, "note_not_found", "There is no note with this id")


def sent_note() -> NoteIn:
    """Return the note in the request's body. What is no such note ends in a 400, 413, 415 or 422."""
    if request.mimetype != "application/json":
        raise UnsupportedMediaType
    try:
        return NoteIn.model_validate_json(sent_body())
    except ValidationError as error:
        problems = error.errors(include_input=False, include_context=False, include_url=False)
    if problems[0]["type"] == "json_invalid":
        raise ApiError(400, "malformed_json", "The body is no JSON")
    fields = [{"field": ".".join(map(str, problem["loc"])), "message": problem["msg"]} for problem in problems]
    raise ApiError(422, "validation_failed", "The note is not valid; see its fields", fields)


def create_app() -> Flask:
    """Return the app, without notes; with ENVIRONMENT=testing it has a route that fails."""
    app = make_app()
    app.extensions["notes"] = Notes()
    app.register_blueprint(routes)
    if os.environ.get("ENVIRONMENT") == "testing":
        app.register_blueprint(faults)
    return app


def main() -> None:  # given
    """Serve the app on HOST and PORT. Werkzeug's debugger would answer in the app's place: it stays off."""
    create_app().run(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000")), debug=False)


if __name__ == "__main__":
    main()
