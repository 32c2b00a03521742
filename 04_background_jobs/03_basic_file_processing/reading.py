"""Four formats read as streams: one record at a time, with its line, whatever the size of the file."""

import csv
import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal
from xml.parsers import expat

from orders import COLUMNS

RECORD_LIMIT = 131_072  # characters: a longer record is no order, but a quote that nobody closed, or an attack
TOO_LONG = f"a record has more than {RECORD_LIMIT} characters"
WINDOW = 4 * RECORD_LIMIT
CHUNK = 65_536  # bytes, or characters
ORDER, CELL = 2, 3  # how deep in an XML file their elements are
SPACE = re.compile(r"[ \t\n\r]*")  # what JSON and XML call whitespace; \s has more
SOLID = re.compile(r"[^ \t\n\r]")
SURROGATE = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of a byte that is not UTF-8

FileFormat = Literal["csv", "json", "jsonl", "xml", "csv.gz", "json.gz", "jsonl.gz", "xml.gz"]
Record = dict[str, Any]
Found = tuple[int, Record | str]  # the line on which a record begins, and the record, or what is wrong with it


class MalformedError(Exception):
    """Nothing more can be read: from here on nobody knows where a record begins."""

    def __init__(self, line: int | None, reason: str) -> None:
        super().__init__(reason)
        self.line = line


@dataclass
class Source:
    """A file of records in a format like "csv.gz". `on_share` hears now and then how much is read, from 0 to 1."""

    path: Path
    file_format: str
    limit: int
    on_share: Callable[[float], None] | None = None

    def __iter__(self) -> Iterator[Found]:
        """Yield what is found. Raises OSError, and MalformedError where nothing more can be found."""
        file_format, _, packing = self.file_format.partition(".")
        if self.path.exists() and not self.path.is_file():
            raise OSError(f"{self.path.name} is not a file")  # a pipe may never end
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if packing and not size:
                raise MalformedError(None, "gzip: the file is empty")
            content = Limited(gzip.GzipFile(fileobj=file) if packing else file, self.limit)
            try:
                for number, found in enumerate(READERS[file_format](io.BufferedReader(content, CHUNK))):
                    if self.on_share and number % 1000 == 0:
                        self.on_share(file.tell() / size)
                    yield found
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                raise MalformedError(None, f"gzip: {error}") from None


class Limited(io.RawIOBase):
    """A stream that ends with an error after so many bytes: gzip packs a thousand into one."""

    def __init__(self, stream: Any, limit: int) -> None:  # given
        self.stream, self.limit, self.left = stream, limit, limit

    def readable(self) -> bool:  # given
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self.stream.read(len(buffer))
        self.left -= len(piece)
        if self.left < 0:
            raise MalformedError(None, f"the file has more than {self.limit} bytes")
        buffer[: len(piece)] = piece
        return len(piece)


def as_text(stream: BinaryIO, newline: str | None = None) -> io.TextIOWrapper:
    """UTF-8, perhaps with a byte order mark. Other bytes become surrogates, for `require_utf8` to find."""
    return io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline=newline)


def require_utf8(text: str, line: int) -> None:
    """Raises MalformedError: whoever wrote one character in another encoding may have written them all."""
    if not text.isascii() and (found := SURROGATE.search(text)):
        raise MalformedError(line + text.count("\n", 0, found.start()), "the text is not UTF-8")


class Lines:
    """The lines of a text, counted. A record may take several, but no more than RECORD_LIMIT characters."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self.text, self.number = text, 0
        self.begin_record()

    def begin_record(self) -> None:
        self.start, self.left = self.number + 1, RECORD_LIMIT

    def __iter__(self) -> Iterator[str]:
        while line := self.text.readline(max(self.left, 0) + 3):  # without a limit, a file of one line is read whole
            self.left -= len(line)
            if self.left + len(line) - len(line.rstrip("\r\n")) < 0:
                raise MalformedError(self.start, TOO_LONG)
            self.number += 1
            require_utf8(line, self.number)
            yield line


def read_csv(stream: BinaryIO) -> Iterator[Found]:
    """Read what RFC 4180 describes. A broken quote is the end: behind one, nobody knows where a row begins."""
    lines = Lines(as_text(stream, newline=""))  # line breaks within quotes are data
    rows = csv.reader(lines, strict=True)
    try:
        header = next(rows, [])
        if sorted(header) != sorted(COLUMNS):
            raise MalformedError(1, f"the first line must name the columns {', '.join(COLUMNS)}, each once")
        lines.begin_record()
        for cells in rows:
            line = lines.start
            lines.begin_record()
            if len(cells) == len(header):
                yield line, dict(zip(header, cells, strict=True))
            elif cells:  # an empty line is no row
                yield line, f"has {len(cells)} cells, not {len(header)}"
    except csv.Error as error:
        raise MalformedError(lines.start, f"CSV: {error}") from None


def refuse_constant(name: str) -> None:
    """Python's decoder takes NaN and Infinity. Raises ValueError, since JSON has none (RFC 8259 §6)."""
    raise ValueError(f"{name} is not JSON")


# An object becomes a tuple of its pairs: a dict would hide that a name came twice.
DECODER = json.JSONDecoder(object_pairs_hook=tuple, parse_constant=refuse_constant)


def as_record(value: object) -> Record | str:
    """Which of two values with one name counts differs from reader to reader (RFC 8259 §4), so neither does."""
    if not isinstance(value, tuple):
        return "is not an object"
    record = dict(value)
    return record if len(record) == len(value) else "has a name twice"


def read_jsonl(stream: BinaryIO) -> Iterator[Found]:
    """Read an object from each line. One that is not JSON is a bad row: the next begins where the line ends."""
    lines = Lines(as_text(stream, newline="\n"))  # not splitlines(), which splits at eight more characters
    for text in lines:
        lines.begin_record()
        try:
            if not SPACE.fullmatch(text):
                yield lines.number, as_record(DECODER.decode(text))
        except (ValueError, RecursionError) as error:
            yield lines.number, f"is not JSON: {getattr(error, 'msg', error)}"


class Window:
    """The part of a text that is in memory. Beyond `at` it has RECORD_LIMIT characters, or all that are left.

    So a value is decoded once. To try again with every piece that comes takes four times as long for twice the value.
    """

    def __init__(self, text: io.TextIOWrapper) -> None:
        self.text, self.piece, self.at, self.line, self.ended = text, "", 0, 1, False

    def move(self, end: int) -> None:
        """Go on to `end`, and read on where too little is left."""
        self.line += self.piece.count("\n", self.at, end)
        self.at = end
        if not self.ended and len(self.piece) - end <= RECORD_LIMIT:
            rest, more = self.piece[end:], self.text.read(WINDOW)
            self.piece, self.at, self.ended = rest + more, 0, len(more) < WINDOW

    def peek(self) -> str:
        """The next character that is no whitespace, or nothing at the end."""
        while self.at < len(self.piece) or not self.ended:
            found = SOLID.search(self.piece, self.at)
            self.move(found.start() if found else len(self.piece))
            if found:
                return found[0]
        return ""

    def take(self, *expected: str) -> str:
        """Take one of these characters. Raises MalformedError for any other."""
        character = self.peek()
        if character not in expected:
            raise MalformedError(self.line, f"JSON: {' or '.join(expected)} is missing")
        self.move(self.at + 1)
        return character

    def take_value(self) -> object:
        """Take a value. Raises MalformedError with the line on which it goes wrong."""
        try:
            value, end = DECODER.raw_decode(self.piece, self.at)
        except (ValueError, RecursionError) as error:
            pos = getattr(error, "pos", self.at)
            require_utf8(self.piece[self.at : pos], self.line)
            line = self.line + self.piece.count("\n", self.at, pos)
            # A value that is cut off, because `piece` ends here, looks like one that is wrong.
            reason = f"JSON: {getattr(error, 'msg', error)}{'' if self.ended else f', or {TOO_LONG}'}"
            raise MalformedError(line, reason) from None
        require_utf8(self.piece[self.at : end], self.line)
        if end - self.at > RECORD_LIMIT:
            raise MalformedError(self.line, TOO_LONG)
        self.move(end)
        return value


def read_json(stream: BinaryIO) -> Iterator[Found]:
    """Read an array of objects, one object at a time."""
    window = Window(as_text(stream))
    separator = window.take("[")
    if window.peek() == "]":
        separator = window.take("]")
    while separator != "]":
        window.peek()
        yield window.line, as_record(window.take_value())
        separator = window.take(",", "]")
    if window.peek():
        raise MalformedError(window.line, "JSON: something follows the array")


class OrdersParser:
    """Expat's handlers. They build no tree: `found` has the orders that have ended since it was cleared."""

    def __init__(self) -> None:
        self.found: list[Found] = []
        self.depth = self.line = self.fed = self.last_end = 0
        self.record: Record = {}
        self.text: list[str] = []
        self.problem = ""
        self.expat = expat.ParserCreate("utf-8")  # it refuses other bytes in their place, among the rows
        self.expat.buffer_text = True
        if hasattr(self.expat, "SetReparseDeferralEnabled"):  # expat 2.6 reports some rows later, unless told not to
            self.expat.SetReparseDeferralEnabled(False)
        self.expat.XmlDeclHandler = self.declare
        self.expat.StartDoctypeDeclHandler = self.refuse_doctype
        self.expat.StartElementHandler = self.start
        self.expat.CharacterDataHandler = self.add_text
        self.expat.EndElementHandler = self.end

    def feed(self, chunk: bytes) -> MalformedError | None:
        """Parse a piece, the last one being empty. Return what makes the rest unreadable; `found` holds until there."""
        self.fed += len(chunk)
        try:
            self.expat.Parse(chunk, not chunk)
        except expat.ExpatError as error:
            return MalformedError(error.lineno, f"XML: {expat.ErrorString(error.code)}")
        except MalformedError as error:
            return error
        return self.malformed(TOO_LONG) if self.fed - self.last_end > RECORD_LIMIT + CHUNK else None

    def malformed(self, reason: str) -> MalformedError:
        return MalformedError(self.expat.CurrentLineNumber, f"XML: {reason}")

    def declare(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding and encoding.lower() != "utf-8":
            raise self.malformed("the declared encoding is not UTF-8")

    def refuse_doctype(self, *_: object) -> None:
        """Without one there is no entity: no billion laughs, and no file of the server's (OWASP, XXE)."""
        raise self.malformed("a document type declaration is refused")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth == CELL:
            self.text.clear()
            if name in self.record:
                self.problem = "has a column twice"
        elif self.depth == ORDER:
            self.line, self.record = self.expat.CurrentLineNumber, {}
            self.problem = "" if name == "order" else "is not an <order>"
        elif self.depth > CELL:
            self.problem = "has an element within a column"
        elif name != "orders" or attributes:
            raise self.malformed("the root is not <orders>, without attributes or namespaces")
        if attributes:
            self.problem = "has attributes"

    def add_text(self, text: str) -> None:
        if self.depth == CELL:
            self.text.append(text)
        elif not SPACE.fullmatch(text):
            self.problem = "has text outside its columns"
            if self.depth < ORDER:
                raise self.malformed("there is text between two orders")

    def end(self, name: str) -> None:
        if self.depth == CELL:
            self.record[name] = "".join(self.text)
        elif self.depth == ORDER:
            if self.expat.CurrentByteIndex - self.last_end > RECORD_LIMIT + CHUNK:
                raise self.malformed(TOO_LONG)
            self.last_end = self.expat.CurrentByteIndex
            self.found.append((self.line, self.problem or self.record))
        self.depth -= 1


def read_xml(stream: BinaryIO) -> Iterator[Found]:
    """Read <orders><order><id>1</id>…</order>…</orders>."""
    orders, chunk = OrdersParser(), b"first"
    while chunk:
        chunk = stream.read(CHUNK)
        if not orders.fed and b"\0" in chunk[:4]:  # expat would read UTF-16 whatever it was told
            raise MalformedError(1, "the text is not UTF-8")
        error = orders.feed(chunk)
        yield from orders.found
        orders.found.clear()
        if error:
            raise error


READERS = {"csv": read_csv, "json": read_json, "jsonl": read_jsonl, "xml": read_xml}
