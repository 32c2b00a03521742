"""An order: what each column may hold, the one form in which it is kept, and how each format writes it."""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

STATUSES = ("pending", "paid", "shipped", "cancelled")
# XML 1.0 §2.2 cannot write the other control characters; a surrogate is half a character.
CHARACTER = "[^\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]"
# A spreadsheet takes a cell that begins like this for a formula, and a formula can start programs (OWASP).
FORMULA = re.compile("[=+\\-@\t\r\n＝＋－＠]")  # noqa: RUF001  spreadsheets read the wide forms too


Flaw = tuple[str | None, str]  # a column, or None for the record as a whole, and what is wrong; no value is repeated


class Order(NamedTuple):
    """Each column as the text that all formats write for it."""

    id: str
    ordered_at: str
    customer: str
    status: str
    quantity: str
    amount: str
    note: str


def is_moment(text: str) -> bool:
    """Whether the calendar has such a day, and the day such a second."""
    try:
        return bool(datetime.fromisoformat(text))
    except ValueError:
        return False


@dataclass(frozen=True)
class Column:
    """What a value must look like, as text. In JSON some may also be an integer."""

    description: str
    pattern: re.Pattern[str]
    integer: bool = False


COLUMNS = {
    "id": Column("a whole number from 1, of at most 15 digits", re.compile("[1-9][0-9]{0,14}"), integer=True),
    "ordered_at": Column(
        "a date and time of 2000 to 2099 in UTC, like 2026-02-01T09:30:00Z",
        re.compile("20[0-9]{2}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z"),
    ),
    "customer": Column("1 to 100 characters without control characters", re.compile(f"{CHARACTER}{{1,100}}")),
    "status": Column(f"one of {', '.join(STATUSES)}", re.compile("|".join(STATUSES))),
    "quantity": Column("a whole number from 1 to 999", re.compile("[1-9][0-9]{0,2}"), integer=True),
    "amount": Column(
        "an amount of at most 8 digits before the point and 2 after, like -19.90",
        re.compile(r"-?(0|[1-9][0-9]{0,7})(\.[0-9]{1,2})?"),
    ),
    "note": Column("at most 1000 characters without control characters", re.compile(f"{CHARACTER}{{0,1000}}")),
}


def check(record: dict[str, Any]) -> Order | list[Flaw]:
    """Return the order as it is written, or everything that is wrong with it."""
    if wrong := list(flaws(record)):
        return wrong
    order = Order(*(str(record[name]) for name in COLUMNS))
    return order._replace(amount=f"{Decimal(order.amount) + 0:.2f}")  # -0 + 0 is 0


def flaws(record: dict[str, Any]) -> Iterator[Flaw]:
    """Yield what is wrong, column by column."""
    for name, column in COLUMNS.items():
        value: Any = record.get(name)
        is_kind = type(value) is str or (column.integer and type(value) is int)  # not isinstance: True is an int too
        if name not in record:
            yield name, "is missing"
        elif not is_kind or not column.pattern.fullmatch(str(value)) or (name == "ordered_at" and not is_moment(value)):
            yield name, f"is not {column.description}"
    yield from ((name, "is not a column of orders") for name in record if name not in COLUMNS)


# How the formats write it.


def defuse(cell: str) -> str:
    """A text that a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{cell}" if FORMULA.match(cell) else cell


class Echo:
    """A file for csv.writer, whose writerow returns what the file's write returns."""

    def write(self, line: str) -> str:  # given
        return line


CSV_LINE = csv.writer(Echo()).writerow
JSON_TEXT = json.JSONEncoder(ensure_ascii=False).encode


def csv_line(order: Order) -> str:
    """Only the texts of customers need care. An amount like -19.90 is a number to a spreadsheet too."""
    line: str = CSV_LINE((*order[:2], defuse(order.customer), *order[3:6], defuse(order.note)))
    return line


def json_line(order: Order) -> str:
    """The amount is a string: most readers would make a number with a fraction a float."""
    number, ordered_at, customer, status, quantity, amount, note = order
    return (
        f'{{"id": {number}, "ordered_at": "{ordered_at}", "customer": {JSON_TEXT(customer)}, "status": "{status}", '
        f'"quantity": {quantity}, "amount": "{amount}", "note": {JSON_TEXT(note)}}}\n'
    )


def xml_line(order: Order) -> str:
    cells = zip(Order._fields, order, strict=True)
    return f"<order>{''.join(f'<{name}>{xml_text(cell)}</{name}>' for name, cell in cells)}</order>\n"


def xml_text(text: str) -> str:
    """CR is written as a reference: a parser makes a line feed of the character (XML 1.0 §2.11)."""
    return escape(text).replace("\r", "&#13;")


LINES = {"csv": csv_line, "json": json_line, "jsonl": json_line, "xml": xml_line}
HEADS = {
    "csv": ",".join(COLUMNS) + "\r\n",
    "json": "[\n",
    "jsonl": "",
    "xml": '<?xml version="1.0" encoding="UTF-8"?>\n<orders>\n',
}
TAILS = {"csv": "", "json": "]\n", "jsonl": "", "xml": "</orders>\n"}


def render(orders: Iterable[Order], file_format: str) -> Iterator[str]:
    """Yield the text of a file of these orders, piece by piece."""
    line = LINES[file_format]
    yield HEADS[file_format]
    for count, order in enumerate(orders):
        yield f",{line(order)}" if count and file_format == "json" else line(order)
    yield TAILS[file_format]
