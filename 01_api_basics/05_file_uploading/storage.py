"""Where uploads are kept: what the app asks of a storage, and one that is a folder on disk."""

import json
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Protocol
from uuid import UUID, uuid4


@dataclass(frozen=True)
class Description:
    """What is known of an upload besides its bytes. The client's file name is here and nowhere else."""

    filename: str
    content_type: str
    size: int
    sha256: str


class Draft(Protocol):
    """An upload on its way in, which nobody can fetch yet."""

    @property
    def file(self) -> IO[bytes]: ...

    def publish(self, description: Description) -> UUID:
        """Make it an upload that can be fetched, all of it at once, and return its key."""


class Storage(Protocol):
    """All that the app knows of where files are, so that they can be elsewhere one day."""

    def draft(self) -> AbstractContextManager[Draft]:
        """A new draft. What is not published by the end of the `with` block is gone."""

    def open(self, key: UUID) -> tuple[IO[bytes], Description]:
        """Return an upload, to read and to close. Raises KeyError when there is none."""


@dataclass(frozen=True)
class DiskDraft:
    file: IO[bytes]
    folder: Path
    key: UUID

    def publish(self, description: Description) -> UUID:
        """Rename the folder: one step, which has happened or has not, whoever looks on."""
        self.file.close()
        (self.folder / "description.json").write_text(json.dumps(asdict(description)), encoding="utf-8")
        self.folder.rename(self.folder.with_name(str(self.key)))
        return self.key


class DiskStorage:
    """One folder an upload, named by a random UUID, with its bytes in `content`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def draft(self) -> Iterator[DiskDraft]:
        key = uuid4()
        folder = self.folder / f"{key}.part"  # beside the others, since a rename works within one file system only
        folder.mkdir()
        try:
            with (folder / "content").open("w+b") as file:
                yield DiskDraft(file, folder, key)
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # nothing is there once it has been published

    def open(self, key: UUID) -> tuple[IO[bytes], Description]:
        folder = self.folder / str(key)
        try:
            description = Description(**json.loads((folder / "description.json").read_bytes()))
        except FileNotFoundError:
            raise KeyError(key) from None
        return (folder / "content").open("rb"), description
