"""The specification of file processing, requirement by requirement."""

import contextlib
import csv
import gzip
import io
import json
import os
import resource
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import pytest

from grader.launch import Process
from grader.solution import Client, Solution, wait_until

if TYPE_CHECKING:
    from conftest import Outcome

Json = dict[str, Any]
Convert = Callable[..., "Outcome"]
Submit = Callable[..., str]
StartWorker = Callable[..., Process]
WaitFor = Callable[..., Json]
Grow = Callable[..., tuple[Json, float]]

NOBODYS_ID = "5f0c1b52-1111-4222-8333-abcdefabcdef"

GOOD: Json = {
    "id": 1,
    "ordered_at": "2026-02-01T09:30:00Z",
    "customer": "Anna",
    "status": "paid",
    "quantity": 2,
    "amount": "19.90",
    "note": "",
}


def order(**changes: Any) -> Json:
    return GOOD | changes


def csv_of(*orders: Json) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(GOOD))
    writer.writeheader()
    writer.writerows(orders)
    return text.getvalue().encode()


def jsonl_of(*orders: Json) -> bytes:
    return b"".join(json.dumps(each, ensure_ascii=False).encode() + b"\n" for each in orders)


def json_of(*orders: Json) -> bytes:
    return json.dumps(orders, ensure_ascii=False).encode()


def xml_of(*orders: Json) -> bytes:
    def element(each: Json) -> str:
        cells = (f"<{name}>{escape(str(value), {chr(13): '&#13;'})}</{name}>" for name, value in each.items())
        return f"<order>{''.join(cells)}</order>\n"

    return f"<orders>\n{''.join(map(element, orders))}</orders>\n".encode()


FILES: dict[str, Callable[..., bytes]] = {"csv": csv_of, "json": json_of, "jsonl": jsonl_of, "xml": xml_of}
FRAMES = {"csv": (csv_of(), b""), "json": (b"[", b"]"), "jsonl": (b"", b""), "xml": (b"<orders>\n", b"</orders>\n")}


def rows_alone(file_format: str, *orders: Json) -> bytes:
    head, tail = FRAMES[file_format]
    return FILES[file_format](*orders).removeprefix(head).removesuffix(tail)


CSV, JSON, JSONL, XML = csv_of(GOOD), json_of(GOOD), jsonl_of(GOOD), xml_of(GOOD)
XML_ORDER = rows_alone("xml", GOOD)
ANOTHER_ORDER = b"""note,amount,id,quantity,status,"customer",ordered_at
,19.90,1,2,paid,Anna,2026-02-01T09:30:00Z
"""

# Also the wide forms of = - + @.
FORMULAS = [
    "=1+1", "=", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "\uff0d1", "\uff0b1", "\uff20A",
    '=cmd|" /C calc"!A0',
]  # fmt: skip

# By the kinds of the JSON conformance suites: structures, numbers, strings, literals.
NOT_JSON = [
    b"{", b"}", b"]", b"[1,]", b"[,1]", b"[1 2]", b"[1", b'{"a":1,}', b'{"a" 1}', b'{"a":}', b"{1:1}", b"{a:1}",
    b"{'a':1}", b'{"a":1 "b":2}', b'{,"a":1}', b'{"a":1}}', b"[1]x", b"<orders/>", b"/* x */ {}", b"// x", b"# x",
    b"01", b"-01", b"+1", b".5", b"1.", b"-", b"--1", b"1e", b"1e+", b"1.e5", b"0x1F", b"1_000", b"NaN", b"-NaN",
    b"Infinity", b"-Infinity", b'{"a": NaN}', "\uff11".encode(), b'"', b'"x', b"'x'", b'"\\x41"', b'"\\u12"',
    b'"\\u12G4"', b'"\\U0041"', b'"\\"', b'"a\x00"', b'"a\x1f"', b'"a\tb"', b"\\u0041", b"nul", b"True", b"TRUE",
    b"undefined", b"truefalse", b"\x00", b"\x0c{}", b"\xc2\xa0{}", b"\xef\xbb\xbf{}",
]  # fmt: skip


def cases(table: dict[str, Any]) -> list[Any]:
    """A table for parametrize, each row by its name."""
    return [pytest.param(*(row if isinstance(row, tuple) else (row,)), id=name) for name, row in table.items()]


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def others_in(folder: Path, *known: str) -> list[Path]:
    return [file for file in folder.iterdir() if file.name not in known]


def files_below(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


# 1. Four formats, both ways.

VARIED = [
    order(id=1, customer='Anna "Ann" O\'Neil, Ltd.', note="<b>&amp; & ]]></b> \\ / \\u0041"),
    order(id=2, customer="Zoë 東京 😀", note="line\nline\r\nline\rline\ttab", amount="-19.90"),
    order(id=5, customer="\U0001f600" * 100, note="\U0001f600" * 1000),
    order(id=3, customer=" spaces ", status="cancelled", note="  ", quantity=999),
    order(id=999_999_999_999_999, customer="\u2028\u0085\u00a0\ufeff\u007f", amount="99999999.99"),
]


@pytest.mark.requirement(1)
@pytest.mark.parametrize("source, target", [("csv", "xml"), ("xml", "json"), ("json", "jsonl"), ("jsonl", "csv")])
def test_each_format_becomes_another(convert: Convert, source: str, target: str) -> None:
    outcome = convert(FILES[source](*VARIED), f"in.{source}", f"out.{target}")

    lines = outcome.target.read_bytes().split(b"\r\n")
    assert outcome.exit_code == 0
    assert target != "csv" or (lines[0].startswith(b"id,"), lines[-1]) == (True, b"")
    assert outcome.report == {"good": len(VARIED), "bad": 0, "problems": [], "problems_left_out": 0, "error": None}
    assert outcome.written == VARIED


@pytest.mark.requirement(1)
def test_the_way_through_all_formats_and_back_changes_no_byte(convert: Convert) -> None:
    texts = ["", "x", "'", "'x", "\t", "\r", "\n", '"', "0", "null", "NaN", "\\", "\\n", "\u2028", "\x85"]
    rows = [order(note=text) for text in texts]
    first = convert(csv_of(*rows), "in.csv", "out.csv").target.read_bytes()

    content = first
    for source, target in [("csv", "xml"), ("xml", "json"), ("json", "jsonl"), ("jsonl", "csv")]:
        outcome = convert(content, f"in.{source}", f"out.{target}")
        assert outcome.report["good"] == len(rows)
        content = outcome.target.read_bytes()

    assert content == first


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "source, content",
    cases({
        "CSV, columns in another order": ("csv", ANOTHER_ORDER),
        "CSV, lines that end with LF, and a last one that does not end": ("csv", CSV.replace(b"\r\n", b"\n").rstrip()),
        "CSV, empty lines": ("csv", CSV.replace(b"\r\n", b"\r\n\r\n")),
        "CSV, byte order mark": ("csv", b"\xef\xbb\xbf" + CSV),
        "CSV, byte order mark before a quote": ("csv", b'\xef\xbb\xbf"id"' + CSV[2:]),
        "CSV, the name in capitals": ("CSV", CSV),
        "JSON, indented": ("json", json.dumps([GOOD], indent=4).encode()),
        "JSON, tabs and CR LF": ("json", json.dumps([GOOD], indent="\t").replace("\n", "\r\n").encode()),
        "JSON, no space": ("json", json.dumps([GOOD], separators=(",", ":")).encode()),
        "JSON, space around everything": ("json", b" \n\t\r[ " + JSONL + b" ] \n"),
        "JSON, much space": ("json", b"[" + b" " * 150_000 + JSONL + b" " * 400_000 + b"]"),
        "JSON, byte order mark": ("json", b"\xef\xbb\xbf" + JSON),
        "JSON, names in another order": ("json", json_of(dict(reversed(GOOD.items())))),
        "JSON, escapes in a value": ("json", JSON.replace(b"Anna", rb"\u0041n\u006Ea")),
        "JSON, escapes in a name": ("json", JSON.replace(b"customer", rb"c\u0075stomer")),
        "JSON, strings for numbers": ("json", json_of(order(id="1", quantity="2"))),
        "JSON Lines, CR LF": ("jsonl", JSONL.replace(b"\n", b"\r\n")),
        "JSON Lines, empty lines, and a last one that does not end": ("jsonl", b"\n \n" + JSONL.rstrip()),
        "JSON Lines, byte order mark": ("jsonl", b"\xef\xbb\xbf" + JSONL),
        "JSON Lines, CR for space": ("jsonl", JSONL.replace(b", ", b",\r")),
        "XML, indented": ("xml", XML.replace(b"><", b">\n\t<").replace(b"<note>\n\t<", b"<note><")),
        "XML, byte order mark": ("xml", b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?>' + XML),
        "XML, CDATA and references": ("xml", XML.replace(b"Anna", b"A<![CDATA[n]]>&#110;&#x61;")),
        "XML, comments": ("xml", b"<!--x-->" + XML.replace(b"Anna", b"An<!-- <b> -->n<?x y?>a") + b"<?x?>"),
        "XML, an empty element": ("xml", XML.replace(b"<note></note>", b"<note />")),
        "XML, columns in another order": ("xml", xml_of(dict(reversed(GOOD.items())))),
    }),
)  # fmt: skip
def test_a_format_may_be_written_in_many_ways(convert: Convert, source: str, content: bytes) -> None:
    outcome = convert(content, f"in.{source}")

    assert outcome.report["problems"] == []
    assert (outcome.exit_code, outcome.written) == (0, [GOOD])


@pytest.mark.requirement(1)
@pytest.mark.parametrize("file_format", FILES)
def test_gzip_is_read_and_written(convert: Convert, file_format: str) -> None:
    content = FILES[file_format](*VARIED)
    packed = gzip.compress(content[:50]) + gzip.compress(content[50:])  # two members are one file (RFC 1952 §2.2)

    plain = convert(packed, f"in.{file_format}.gz", f"out.{file_format}")
    outcome = convert(packed, f"in.{file_format}.gz", f"out.{file_format}.gz")

    assert (plain.exit_code, outcome.exit_code) == (0, 0)
    assert plain.written == VARIED
    assert gzip.decompress(outcome.target.read_bytes()) == plain.target.read_bytes()


WRITTEN_AS = [
    ("ordered_at", "2024-02-29T23:59:59Z", "2024-02-29T23:59:59Z"),
    ("amount", "5", "5.00"),
    ("amount", "-0.5", "-0.50"),
    ("amount", "-0.00", "0.00"),
    ("amount", "-0", "0.00"),
    ("id", "999999999999999", 999_999_999_999_999),
]


@pytest.mark.requirement(1)
def test_equal_values_are_written_alike(convert: Convert) -> None:
    outcome = convert(csv_of(*(order(**{column: value}) for column, value, _ in WRITTEN_AS)), "in.csv")

    assert outcome.written == [order(**{column: written}) for column, _, written in WRITTEN_AS]


@pytest.mark.requirement(1)
def test_a_summary_adds_up_the_good_rows_exactly(solution: Solution, folder: Path) -> None:
    good = [order(amount="0.10", quantity=1) for _ in range(3)] + [order(amount="-5", status="shipped", quantity=7)]
    large = [order(status="pending", amount="99999999.99")] * 10_000 + [order(status="pending", amount="0.01")] * 3
    (folder / "in.csv").write_bytes(csv_of(*good, *large, order(quantity=0)))

    finished = solution.run("summarise", str(folder / "in.csv"))

    amounts = {"pending": "999999999900.03", "paid": "0.30", "shipped": "-5.00", "cancelled": "0.00"}
    assert finished.exit_code == 3
    assert finished.json()["summary"] == {"quantity": 10 + 2 * 10_003, "amounts": amounts}
    assert (finished.json()["good"], finished.json()["bad"]) == (10_007, 1)


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "arguments",
    cases({
        "an unknown target format": (["convert", "in.csv", "out.txt"]),
        "an unknown source format": (["convert", "in.tsv", "out.csv"]),
        "nothing but gzip": (["convert", "in.gz", "out.csv"]),
        "no target": (["convert", "in.csv"]),
        "an unknown schema": (["validate", "in.csv", "--schema", "people"]),
        "no file": (["validate"]),
        "an unknown command": (["destroy", "in.csv"]),
    }),
)  # fmt: skip
def test_a_command_that_makes_no_sense_is_exit_code_2(solution: Solution, arguments: list[str]) -> None:
    finished = solution.run(*arguments)

    assert (finished.exit_code, finished.stdout) == (2, "")
    assert finished.stderr
    assert "Traceback" not in finished.stderr


# 2. Bad rows.


BAD_TEXTS = {
    "id": ["", "0", "01", "-1", "+1", " 1", "1 ", "1.0", "1e2", "x", "1_0", "\uff11", "1" * 16, "1" * 5000],
    "ordered_at": [
        "", "2026-02-01", "2026-02-01T09:30:00", "2026-02-01 09:30:00Z", "20260201T093000Z", "2026-W05-7T09:30:00Z",
        "2026-02-30T09:30:00Z", "2026-02-01T24:00:00Z", "2026-02-01T09:30:60Z", "2026-02-01T09:30:00.5Z",
        "2026-02-01T09:30:00+25:00", "2026-02-01T09:30:00+01:99", "2026-02-01T09:30:00z", "1999-12-31T09:30:00Z",
        "2100-01-01T00:00:00Z", "2026-02-01T09:30:00+01:00", "2026-02-29T09:30:00Z",
    ],
    "customer": ["", "x" * 101, "a\0b", "a\x1bb", "a\uffff", "\ufffe"],
    "status": ["", "PAID", "paid ", "lost"],
    "quantity": ["", "0", "1000", "-1", "2.0", "two", "02"],
    "amount": ["", "NaN", "Infinity", "1e3", "1,50", "1.505", "1.", ".5", "+1", "00.50", "123456789", "5 EUR", "-",
        "'-19.90",
    ],
    "note": ["x" * 1001, "a\0"],
}  # fmt: skip
WRONG_KINDS = ["null", "true", "[]", "[1, 2]", '{"a": 1}', '["x"]', r'"\ud800"', r'"\udc00\ud800"', r'"\u0000"']
BAD_JSON = {
    "id": [*WRONG_KINDS, "1.0", "1e2", "-1", "-0", "1E400", "1" * 4000, r'"1\n"'],
    "quantity": [*WRONG_KINDS, "0", "1000", "2.0", "2e0"],
    "amount": [*WRONG_KINDS, "5", "19.90", "1e1", "1E400", "0.1e-999999999", "123456789"],
} | {column: [*WRONG_KINDS, "7"] for column in ["ordered_at", "customer", "status", "note"]}


def places(report: Json) -> list[tuple[object, ...]]:
    return [(problem["line"], problem["record"], problem["column"]) for problem in report["problems"]]


@pytest.mark.requirement(2)
@pytest.mark.parametrize("column", BAD_TEXTS)
@pytest.mark.parametrize("source", ["csv", "jsonl"])
def test_a_bad_value_is_reported_with_its_place_and_costs_no_other_row(
    convert: Convert, source: str, column: str
) -> None:
    values = BAD_TEXTS[column]
    content = FILES[source](order(id=1), *(order(**{column: value}) for value in values), order(id=3))

    outcome = convert(content, f"in.{source}")

    first = 1 if source == "jsonl" else 2
    assert places(outcome.report) == [(first + number, 1 + number, column) for number in range(1, len(values) + 1)]
    assert all(0 < len(problem["reason"]) < 200 for problem in outcome.report["problems"])
    assert (outcome.exit_code, outcome.report["bad"]) == (3, len(values))
    assert [row["id"] for row in outcome.written] == [1, 3]


@pytest.mark.requirement(2)
@pytest.mark.parametrize("column", BAD_JSON)
def test_a_json_value_of_the_wrong_kind_is_a_bad_row(convert: Convert, column: str) -> None:
    template = json.dumps(order(**{column: "PLACE"}))
    bad = [template.replace('"PLACE"', value) for value in BAD_JSON[column]]

    outcome = convert(("[" + ",\n".join([json.dumps(GOOD), *bad, json.dumps(order(id=3))]) + "]").encode(), "in.json")

    assert places(outcome.report) == [(1 + number, 1 + number, column) for number in range(1, len(bad) + 1)]
    assert (outcome.exit_code, outcome.report["bad"]) == (3, len(bad))
    assert [row["id"] for row in outcome.written] == [1, 3]


BAD_SHAPES: dict[str, dict[str, tuple[bytes, str | None]]] = {
    "csv": {
        "a short row": (b"2,2026-02-01T09:30:00Z,paid,2,19.90,\n", None),
        "a row without its last cell": (b"2,2026-02-01T09:30:00Z,Anna,paid,2,19.90\n", None),
        "a long row": (b"2,2026-02-01T09:30:00Z,Anna,paid,2,19.90,,\n", None),
        "a blank": (b" \n", None),
    },
    "json": {
        "a missing column": (jsonl_of({k: v for k, v in GOOD.items() if k != "note"}), "note"),
        "an unknown column": (jsonl_of(order(colour="red")), "colour"),
        "a name twice": (JSONL.replace(b'{"id"', b'{"id": 5, "id"'), None),
        "null": (b"null\n", None),
        "a string": (b'"x"\n', None),
        "an array": (b"[]\n", None),
        "an array that looks like an object": (b"[[1, 2]]\n", None),
        "a number": (b"-1.5e3\n", None),
    },
    "xml": {
        "a missing column": (XML_ORDER.replace(b"<note></note>", b""), "note"),
        "an unknown column": (xml_of(order(colour="red"))[9:-10], "colour"),
        "a column twice": (XML_ORDER.replace(b"</id>", b"</id><id>5</id>"), None),
        "an element within a column": (XML_ORDER.replace(b"Anna", b"<b>Anna</b>"), None),
        "elements nested deeply": (XML_ORDER.replace(b"Anna", b"<a>" * 500 + b"</a>" * 500), None),
        "text between columns": (XML_ORDER.replace(b"</id>", b"</id>text"), None),
        "an attribute of a column": (XML_ORDER.replace(b"<id>", b'<id unit="x">'), None),
        "an attribute of an order": (XML_ORDER.replace(b"<order>", b'<order id="1">'), None),
        "a namespace": (XML_ORDER.replace(b"<order>", b'<order xmlns="x">'), None),
        "a prefix": (XML_ORDER.replace(b"order>", b"x:order>"), None),
        "another element": (b"<person/>\n", None),
        "an empty order": (b"<order/>\n", "id"),
    },
}  # fmt: skip


@pytest.mark.requirement(2)
@pytest.mark.parametrize("source", BAD_SHAPES)
def test_a_record_of_another_shape_is_a_bad_row(convert: Convert, source: str) -> None:
    bad = [content.rstrip(b"\r\n") for content, _ in BAD_SHAPES[source].values()]
    rows = [rows_alone(source, order(id=1)).rstrip(), *bad, rows_alone(source, order(id=3))]
    head, tail = FRAMES[source]

    outcome = convert(head + (b",\n" if source == "json" else b"\n").join(rows) + tail, f"in.{source}")

    # Some miss several columns: the first one is enough here. Without a name, any place within the record will do.
    seen = {record: (line, column) for line, record, column in reversed(places(outcome.report))}
    shapes = dict(enumerate(BAD_SHAPES[source].values(), start=2))
    before = 0 if source == "json" else 1  # lines
    assert {record: line for record, (line, _) in seen.items()} == {record: before + record for record in shapes}
    named = {record: column for record, (_, column) in shapes.items() if column}
    assert {record: seen[record][1] for record in named} == named
    assert (outcome.exit_code, outcome.report["bad"]) == (3, len(bad))
    assert [row["id"] for row in outcome.written] == [1, 3]


@pytest.mark.requirement(2)
def test_a_line_that_is_not_json_is_a_bad_row_of_json_lines(convert: Convert) -> None:
    outcome = convert(JSONL + b"\n".join(NOT_JSON) + b"\n" + jsonl_of(order(id=3)), "in.jsonl")

    assert places(outcome.report) == [(1 + number, 1 + number, None) for number in range(1, len(NOT_JSON) + 1)]
    assert (outcome.exit_code, outcome.report["bad"]) == (3, len(NOT_JSON))
    assert [row["id"] for row in outcome.written] == [1, 3]


@pytest.mark.requirement(2)
@pytest.mark.parametrize("newline", [b"\r\n", b"\n"], ids=repr)
def test_lines_are_counted_within_quotes_too(convert: Convert, newline: bytes) -> None:
    rows = csv_of(order(note="1\n2\n3"), order(quantity=0, note="5\n6"), order(status="?"))

    outcome = convert(rows.replace(b"\r\n", b"\n").replace(b"\n", newline), "in.csv")

    assert places(outcome.report) == [(5, 2, "quantity"), (7, 3, "status")]


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "source, content",
    [
        ("json", json.dumps([GOOD, order(status="?"), GOOD], indent=1).encode()),
        ("xml", xml_of(GOOD, order(status="?"), GOOD).replace(b"><", b">\n<")),
        ("jsonl", b"\n" * 10 + jsonl_of(GOOD, order(status="?"))),
    ],
)
def test_a_record_of_several_lines_has_the_first_ones_number(convert: Convert, source: str, content: bytes) -> None:
    outcome = convert(content, f"in.{source}")

    assert places(outcome.report) == [({"json": 11, "xml": 12, "jsonl": 12}[source], 2, "status")]


@pytest.mark.requirement(2)
def test_everything_that_is_wrong_with_a_row_is_told(convert: Convert) -> None:
    bad = order(id=0, quantity="many", colour="red") | {"amount": None}
    del bad["status"]

    outcome = convert(jsonl_of(bad), "in.jsonl")

    columns = sorted(problem["column"] for problem in outcome.report["problems"])
    assert columns == ["amount", "colour", "id", "quantity", "status"]
    assert (outcome.report["bad"], outcome.written) == (1, [])


@pytest.mark.requirement(2)
def test_a_report_stays_short_and_counts_what_it_leaves_out(convert: Convert) -> None:
    long = {"n" * 5000: 1, "\ud800": 2} | order(customer="secret" * 1000)

    outcome = convert(f"{json.dumps(long)}\n".encode() * 250, "in.jsonl")

    assert (outcome.report["bad"], len(outcome.report["problems"])) == (250, 100)
    assert outcome.report["problems_left_out"] == 650
    assert {problem["record"] for problem in outcome.report["problems"]} == set(range(1, 35))
    assert max(len(str(problem)) for problem in outcome.report["problems"]) < 250
    assert max(len(problem["column"]) for problem in outcome.report["problems"]) <= 40
    assert "secret" not in str(outcome.report)


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "source, content",
    cases({
        "a line that is not JSON": ("jsonl", b'{"secret\n'),
        "JSON": ("json", JSON.replace(b'"Anna"', b'"secret" x')),
        "an unknown child": ("xml", XML.replace(b"</id>", b"</id><b>secret</b>")),
        "text between columns": ("xml", XML.replace(b"</id>", b"</id>secret")),
        "a broken quote": ("csv", CSV.replace(b"Anna", b'"secret"secret')),
        "broken XML": ("xml", XML.replace(b"Anna", b"secret & secret")),
    }),
)  # fmt: skip
def test_no_value_is_repeated_in_the_report_or_on_stderr(convert: Convert, source: str, content: bytes) -> None:
    outcome = convert(content, f"in.{source}")

    assert outcome.exit_code in (1, 3)
    assert "secret" not in str(outcome.report) + outcome.stderr


@pytest.mark.requirement(2)
def test_validation_reports_and_writes_nothing(solution: Solution, folder: Path) -> None:
    (folder / "good.csv").write_bytes(CSV)
    (folder / "bad.csv").write_bytes(csv_of(GOOD, order(quantity=0)))

    good, bad = (
        solution.run("validate", str(folder / f"{name}.csv"), "--schema", "orders") for name in ("good", "bad")
    )

    assert (good.exit_code, bad.exit_code) == (0, 3)
    assert [problem["line"] for problem in bad.json()["problems"]] == [3]
    assert names_in(folder) == ["bad.csv", "good.csv"]


# 3. Edges.

LAUGHS = b'<!DOCTYPE orders [<!ENTITY a "ha">' + b"".join(
    b'<!ENTITY %c "%s">' % (97 + level, b"&%c;" % (96 + level) * 10) for level in range(1, 10)
)
EXTERNAL = b'<!DOCTYPE orders [<!ENTITY e SYSTEM "file:///etc/hostname">]>'
ROW = CSV.partition(b"\r\n")[2]
LIMIT = 131_072


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "source, content, line",
    cases({
        "CSV, empty": ("csv", b"", 1),
        "CSV, only a byte order mark": ("csv", b"\xef\xbb\xbf", 1),
        "CSV, a column is missing": ("csv", CSV.replace(b",note", b""), 1),
        "CSV, a column too many": ("csv", CSV.replace(b",note", b",note,colour"), 1),
        "CSV, a column twice": ("csv", CSV.replace(b",note", b",id"), 1),
        "CSV, no header": ("csv", ROW, 1),
        "CSV, semicolons": ("csv", CSV.replace(b",", b";"), 1),
        "CSV, UTF-16": ("csv", CSV.decode().encode("utf-16"), 1),
        "CSV, UTF-16 without a mark": ("csv", CSV.decode().encode("utf-16-le"), 1),
        "CSV, Latin-1": ("csv", csv_of(GOOD, order(customer="Zoë")).decode().encode("latin-1"), 3),
        "CSV, a surrogate in UTF-8": ("csv", CSV + b"\xed\xa0\x80", 3),
        "CSV, half a character at the end": ("csv", CSV + b"\xc3", 3),
        "CSV, an unclosed quote": ("csv", CSV + b'2,"unclosed\n' + ROW, 3),
        "CSV, a quote unclosed over megabytes": ("csv", CSV + b'2,"unclosed\n' + ROW * 50_000, 3),
        "CSV, text behind a quote": ("csv", CSV + ROW.replace(b"Anna", b'"An"na') + ROW, 3),
        "CSV, a line of megabytes": ("csv", CSV + b"x" * 3_000_000, 3),
        "CSV, a line of millions of cells": ("csv", CSV + b"," * 3_000_000, 3),
        "CSV, a header of megabytes": ("csv", b"x" * 3_000_000, 1),
        "JSON, empty": ("json", b"", 1),
        "JSON, only space": ("json", b" \n\n ", 3),
        "JSON, an object": ("json", b"{}", 1),
        "JSON, objects in no array": ("json", jsonl_of(GOOD, GOOD), 1),
        "JSON, an unclosed array": ("json", b"[\n" + JSONL, 3),
        "JSON, a trailing comma": ("json", b"[\n" + JSONL + b",\n]", 4),
        "JSON, a leading comma": ("json", b"[\n,\n" + JSONL + b"]", 2),
        "JSON, two commas": ("json", b"[\n" + JSONL + b",,\n" + JSONL + b"]", 3),
        "JSON, a comma is missing": ("json", b"[\n" + jsonl_of(GOOD, GOOD) + b"]", 3),
        "JSON, closed by a brace": ("json", b"[\n" + JSONL + b"}", 3),
        "JSON, two ends": ("json", b"[]\n]", 2),
        "JSON, two arrays": ("json", b"[]\n[]", 2),
        "JSON, NUL at the end": ("json", b"[]\n\0", 2),
        "JSON, two byte order marks": ("json", b"\xef\xbb\xbf\xef\xbb\xbf[]", 1),
        "JSON, UTF-16": ("json", JSON.decode().encode("utf-16"), 1),
        "JSON, UTF-16 without a mark": ("json", JSON.decode().encode("utf-16-be"), 1),
        "JSON, Latin-1": ("json", b"[\n" + JSONL.replace(b"Anna", b"Zo\xeb") + b"]", 2),
        "JSON, overlong UTF-8": ("json", b"[\n" + JSONL.replace(b"Anna", b"\xc0\xaf") + b"]", 2),
        "JSON, brackets without an end": ("json", b"[" * 1_000_000, 1),
        "JSON, a string of megabytes": ("json", b'[\n"' + b"x" * 3_000_000 + b'"]', 2),
        "JSON, a number of megabytes": ("json", b"[\n" + b"1" * 3_000_000 + b"]", 2),
        "JSON, a record of megabytes": ("json", b"[\n" + JSONL.replace(b", ", b"," + b" " * 300_000) + b"]", 2),
        "JSON Lines, Latin-1": ("jsonl", JSONL + JSONL.replace(b"Anna", b"Zo\xeb"), 2),
        "JSON Lines, UTF-16": ("jsonl", JSONL.decode().encode("utf-16"), 1),
        "JSON Lines, a line of megabytes": ("jsonl", JSONL + b'"' + b"x" * 3_000_000 + b'"', 2),
        "XML, empty": ("xml", b"", 1),
        "XML, no XML": ("xml", b"order,id", 1),
        "XML, only a beginning": ("xml", b"<orders>\n", 2),
        "XML, cut off in a row": ("xml", XML[:-30], 2),
        "XML, cut off before its end": ("xml", XML[:-10], 3),
        "XML, two roots": ("xml", XML + b"<orders/>", 4),
        "XML, text at the end": ("xml", XML + b"more", 4),
        "XML, a wrong end": ("xml", XML.replace(b"</note>", b"</id>"), 2),
        "XML, a bare ampersand": ("xml", XML.replace(b"Anna", b"A & B"), 2),
        "XML, NUL": ("xml", XML.replace(b"Anna", b"A\0B"), 2),
        "XML, a reference to NUL": ("xml", XML.replace(b"Anna", b"&#0;"), 2),
        "XML, a reference to a surrogate": ("xml", XML.replace(b"Anna", b"&#xD800;"), 2),
        "XML, an unknown entity": ("xml", XML.replace(b"Anna", b"&nbsp;"), 2),
        "XML, Latin-1": ("xml", XML.replace(b"Anna", b"Zo\xeb"), 2),
        "XML, declared as Latin-1": ("xml", b"<?xml version='1.0' encoding='ISO-8859-1'?>\n" + XML, 1),
        "XML, declared as UTF-16": ("xml", b"<?xml version='1.0' encoding='UTF-16'?>\n" + XML, 1),
        "XML, UTF-16": ("xml", XML.decode().encode("utf-16"), 1),
        "XML, another root": ("xml", b"<people/>", 1),
        "XML, a namespace": ("xml", XML.replace(b"<orders>", b'<orders xmlns="urn:x">'), 1),
        "XML, text between orders": ("xml", XML.replace(b"<orders>\n", b"<orders>\ntext"), 2),
        "XML, a document type": ("xml", b"<!DOCTYPE orders>\n" + XML, 1),
        "XML, a billion laughs": ("xml", LAUGHS + b"]>\n" + XML.replace(b"Anna", b"&j;"), 1),
        "XML, an entity": ("xml", b'<!DOCTYPE orders [<!ENTITY a "Anna">]>' + XML.replace(b"Anna", b"&a;"), 1),
        "XML, a file of the server": ("xml", EXTERNAL + XML.replace(b"Anna", b"&e;"), 1),
        "XML, elements without an end": ("xml", b"<orders>\n<order>\n" + b"<a>" * 500_000, 3),
        "XML, a text of megabytes": ("xml", b"<orders>\n<order><note>" + b"x" * 3_000_000, 2),
    }),
)  # fmt: skip
def test_a_malformed_file_is_an_error_with_its_line_and_changes_nothing(
    convert: Convert, folder: Path, source: str, content: bytes, line: int
) -> None:
    (folder / "out.jsonl").write_text("what was there before\n", encoding="utf-8")

    outcome = convert(content, f"in.{source}")

    assert outcome.exit_code == 1
    assert abs(outcome.error["line"] - line) <= (1 if source in ("json", "xml") else 0)
    assert 0 < len(outcome.error["reason"]) < 500
    assert outcome.stderr
    assert outcome.target.read_text(encoding="utf-8") == "what was there before\n"
    assert names_in(folder) == [f"in.{source}", "out.jsonl"]


@pytest.mark.requirement(3)
@pytest.mark.parametrize("source", FILES)
def test_rows_before_a_wrong_byte_are_counted(convert: Convert, source: str) -> None:
    rows = [order(id=number) for number in range(1, 51)]
    content = FILES[source](*rows, order(customer="Zo\xeb")).replace("\xeb".encode(), b"\xeb")

    outcome = convert(content, f"in.{source}")

    assert (outcome.exit_code, outcome.report["good"], outcome.error["record"]) == (1, 50, 51)


@pytest.mark.requirement(3)
@pytest.mark.parametrize("source", FILES)
def test_a_record_has_a_limit(convert: Convert, source: str) -> None:
    """The largest is a bad row, as its note is too long; one of more than twice the limit is an error."""
    overhead = len(rows_alone(source, order(note="")).rstrip())
    largest, larger = order(note="x" * (LIMIT - overhead)), order(note="x" * 2 * LIMIT)

    outcomes = [convert(FILES[source](GOOD, each, GOOD), f"in.{source}") for each in (largest, larger)]

    assert [outcome.exit_code for outcome in outcomes] == [3, 1]
    assert (outcomes[0].report["good"], outcomes[0].problem["column"]) == (2, "note")
    assert outcomes[1].report["good"] == 1


@pytest.mark.requirement(3)
@pytest.mark.parametrize("value", [b"NaN", *NOT_JSON[::4]], ids=lambda value: repr(value)[2:20])
def test_a_value_that_is_not_json_ends_a_json_file(convert: Convert, value: bytes) -> None:
    outcome = convert(b"[\n" + JSONL + b",\n" + value + b"\n]", "in.json")

    assert (outcome.exit_code, outcome.target.exists()) == (1, False)
    assert outcome.error["line"] in (3, 4, 5)
    assert outcome.report["good"] == 1


@pytest.mark.requirement(3)
@pytest.mark.parametrize("nested", [b"[" * 60_000 + b"]" * 60_000, b'{"a":' * 20_000 + b"1" + b"}" * 20_000], ids=len)
@pytest.mark.parametrize("source", ["json", "jsonl"])
def test_json_that_is_nested_too_deeply_is_a_bad_row_or_an_error(convert: Convert, source: str, nested: bytes) -> None:
    outcome = convert(FRAMES[source][0] + nested + FRAMES[source][1], f"in.{source}")

    assert (outcome.exit_code, outcome.report["bad"]) in [(1, 0), (3, 1)]


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "content",
    cases({
        "empty": (b""),
        "not gzip": (b"id,ordered_at"),
        "cut off in its head": (gzip.compress(CSV)[:5]),
        "cut off in a row": (gzip.compress(CSV)[:-12]),
        "cut off behind the rows": (gzip.compress(CSV)[:-4]),
        "wrong checksum": (gzip.compress(CSV)[:-8] + bytes(8)),
        "something behind it": (gzip.compress(CSV) + b"more"),
        "the second member cut off": (gzip.compress(CSV) + gzip.compress(ROW)[:9]),
    }),
)  # fmt: skip
def test_gzip_that_is_not_whole_is_an_error(convert: Convert, folder: Path, content: bytes) -> None:
    outcome = convert(content, "in.csv.gz")

    assert (outcome.exit_code, outcome.error["line"]) == (1, None)
    assert names_in(folder) == ["in.csv.gz"]


@pytest.mark.requirement(3)
@pytest.mark.parametrize("packed", [False, True])
def test_content_has_a_limit_that_counts_after_decompression(convert: Convert, packed: bool) -> None:
    content, name = csv_of(*[GOOD] * 100), "in.csv" + ".gz" * packed
    largest = gzip.compress(content) if packed else content
    larger = gzip.compress(content + b"\r\n") if packed else content + b"\r\n"

    outcomes = [convert(file, name, limit=len(content)) for file in (largest, larger)]

    assert [outcome.exit_code for outcome in outcomes] == [0, 1]
    assert (outcomes[0].report["good"], outcomes[1].error["line"]) == (100, None)


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "source, content, target",
    [("csv", csv_of(), "json"), ("json", b"[\n]", "xml"), ("xml", b"<orders/>", "jsonl"), ("jsonl", b"", "csv")],
    ids=FILES,
)
def test_no_rows_become_a_file_without_rows(convert: Convert, source: str, content: bytes, target: str) -> None:
    outcome = convert(content, f"in.{source}", f"out.{target}")

    assert (outcome.exit_code, outcome.written) == (0, [])
    assert outcome.target.read_bytes().startswith(b"id,ordered_at" if target == "csv" else b"")


@pytest.mark.requirement(3)
def test_no_text_is_a_formula_in_csv(convert: Convert) -> None:
    rows = [order(note=formula, customer=formula) for formula in FORMULAS]

    outcome = convert(jsonl_of(*rows), "in.jsonl", "out.csv")

    assert outcome.target.read_bytes().endswith(b"\r\n")
    assert outcome.written == [order(note=f"'{formula}", customer=f"'{formula}") for formula in FORMULAS]


@pytest.mark.requirement(3)
def test_what_is_no_formula_stays_as_it_is_in_csv(convert: Convert) -> None:
    texts = ["", "'s-Hertogenbosch", "'", "a=1", " =1", "1-1", "''", "'x=1", "0", "(1)"]
    rows = [order(note=text, amount="-19.90") for text in texts]

    outcome = convert(jsonl_of(*rows), "in.jsonl", "out.csv")

    assert outcome.written == rows
    assert convert(csv_of(*rows), "in.csv").written == rows


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "source, target",
    cases({
        "IN is missing": ("missing.csv", "out.jsonl"),
        "IN is a folder": ("folder.csv", "out.jsonl"),
        "IN is a pipe": ("pipe.csv", "out.jsonl"),
        "OUT is a folder": ("in.csv", "folder.csv"),
        "OUT is a pipe": ("in.csv", "pipe.csv"),
        "OUT is in no folder": ("in.csv", "missing/out.jsonl"),
        "OUT is in a file": ("in.csv", "in.csv/out.jsonl"),
        "OUT has a name that is too long": ("in.csv", f"{'x' * 300}.csv"),
        "OUT is IN": ("in.csv", "in.csv"),
        "OUT is IN by another way": ("in.csv", "folder.csv/../in.csv"),
        "OUT is another name of IN": ("in.csv", "hardlink.jsonl"),
        "OUT is a link to IN": ("in.csv", "symlink.jsonl"),
    }),
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_an_error(solution: Solution, folder: Path, source: str, target: str) -> None:
    content = csv_of(GOOD, order(quantity=0))
    (folder / "in.csv").write_bytes(content)
    (folder / "folder.csv").mkdir()
    os.mkfifo(folder / "pipe.csv")
    (folder / "hardlink.jsonl").hardlink_to(folder / "in.csv")
    (folder / "symlink.jsonl").symlink_to(folder / "in.csv")
    before = names_in(folder)

    finished = solution.run("convert", str(folder / source), str(folder / target), timeout=5)

    assert (finished.exit_code, "Traceback" in finished.stderr) == (1, False)
    assert finished.json()["error"]["reason"]
    assert (names_in(folder), (folder / "in.csv").read_bytes()) == (before, content)


@pytest.mark.requirement(3)
def test_out_is_replaced_not_overwritten(convert: Convert, folder: Path) -> None:
    (folder / "out.jsonl").write_bytes(b"what was there before")
    (folder / "link.jsonl").hardlink_to(folder / "out.jsonl")

    outcome = convert(CSV, "in.csv")

    assert (folder / "link.jsonl").read_bytes() == b"what was there before"
    assert outcome.written == [GOOD]


@pytest.mark.requirement(3)
def test_two_runs_with_one_target_both_succeed(solution: Solution, folder: Path) -> None:
    (folder / "a.csv").write_bytes(CSV + ROW * 10_000)
    (folder / "b.csv").write_bytes(CSV + ROW * 12_000)
    runs = [solution.start("convert", str(folder / f"{name}.csv"), str(folder / "out.csv")) for name in "ab"]

    exit_codes = [run.wait() for run in runs]

    assert exit_codes == [0, 0], [run.stderr for run in runs]
    assert (folder / "out.csv").read_bytes() in (CSV + ROW * 10_000, CSV + ROW * 12_000)
    assert names_in(folder) == ["a.csv", "b.csv", "out.csv"]


@pytest.mark.requirement(3)
def test_a_run_that_is_killed_leaves_the_old_file_and_the_next_one_cleans_up(solution: Solution, folder: Path) -> None:
    (folder / "in.csv").write_bytes(CSV + ROW * 100_000)
    (folder / "out.xml").write_bytes(b"what was there before")
    arguments = "convert", str(folder / "in.csv"), str(folder / "out.xml")
    process = solution.start(*arguments)

    wait_until(lambda: any(0 < file.stat().st_size != 21 for file in others_in(folder, "in.csv")))
    process.kill()
    left = (folder / "out.xml").read_bytes()
    (folder / "in.csv").write_bytes(CSV)
    finished = solution.run(*arguments)

    assert (left, finished.exit_code) == (b"what was there before", 0)
    assert names_in(folder) == ["in.csv", "out.xml"]


@pytest.mark.requirement(3)
@pytest.mark.skipif(sys.platform != "linux", reason="the limit of a running process can only be set there")
def test_a_disk_that_is_full_is_an_error_and_leaves_the_old_file(solution: Solution, folder: Path) -> None:
    (folder / "in.csv").write_bytes(CSV + ROW * 100_000)
    (folder / "out.xml").write_bytes(b"what was there before")
    process = solution.start("convert", str(folder / "in.csv"), str(folder / "out.xml"))

    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))  # no room for more

    assert process.wait() == 1
    assert json.loads(process.stdout)["error"]["reason"]
    assert (folder / "out.xml").read_bytes() == b"what was there before"
    assert names_in(folder) == ["in.csv", "out.xml"]


# 4. In the background.

MEDIA_TYPES = {"csv": "text/csv", "json": "application/json", "jsonl": "application/jsonl", "xml": "application/xml"}


def has_begun(job: Json) -> bool:
    return bool(job["state"] == "started" and job["progress"] > 0)


@pytest.mark.requirement(4)
def test_the_answer_is_202_before_anything_is_done(client: Client) -> None:
    response = client.post("/files?from=csv&to=json", content=CSV)

    job = client.get(response.headers["Location"]).json()
    assert response.status_code == 202
    assert (job["state"], job["progress"], job["report"], job["result"]) == ("queued", 0, None, None)
    assert response.headers["Location"] == f"/jobs/{job['id']}"
    assert client.get(f"/jobs/{job['id']}/result").status_code == 409


@pytest.mark.requirement(4)
def test_a_worker_converts_the_upload_and_the_result_can_be_downloaded(
    client: Client, submit: Submit, start_worker: StartWorker, wait_for: WaitFor
) -> None:
    start_worker()
    jobs = {target: submit(xml_of(*VARIED, order(quantity=0)), "xml", target) for target in (*FILES, "csv.gz")}

    ended = {target: wait_for(job) for target, job in jobs.items()}
    results = {target: client.get(job["result"]) for target, job in ended.items()}

    assert {(job["state"], job["progress"]) for job in ended.values()} == {("finished", 100)}
    assert {(job["report"]["good"], job["report"]["problems"][0]["line"]) for job in ended.values()} == {(5, 9)}
    types = {target: result.headers["Content-Type"].partition(";")[0] for target, result in results.items()}
    assert types == MEDIA_TYPES | {"csv.gz": "application/gzip"}
    assert all("attachment" in result.headers["Content-Disposition"] for result in results.values())
    assert json.loads(results["json"].content) == VARIED
    assert gzip.decompress(results["csv.gz"].content) == results["csv"].content


BAD_UPLOADS = {
    "an unclosed quote": ("csv", CSV + b'2,"unclosed\n', 3),
    "nothing": ("csv", b"", 1),
    "no gzip": ("json.gz", b"[]", None),
    "a bomb": ("csv.gz", gzip.compress(CSV + b"\n" * 3_000_000, 1), None),
}


@pytest.mark.requirement(4)
def test_a_malformed_upload_is_a_job_that_failed_with_a_report(
    client: Client, submit: Submit, start_worker: StartWorker, wait_for: WaitFor
) -> None:
    start_worker(MAX_FILE_BYTES="100000")
    jobs = {name: submit(content, source) for name, (source, content, _) in BAD_UPLOADS.items()}

    ended = {name: wait_for(job) for name, job in jobs.items()}

    assert {(job["state"], job["progress"], job["result"]) for job in ended.values()} == {("failed", 100, None)}
    lines = {name: job["report"]["error"]["line"] for name, job in ended.items()}
    assert lines == {name: line for name, (_, _, line) in BAD_UPLOADS.items()}
    assert {client.get(f"{job}/result").status_code for job in jobs.values()} == {409}


@pytest.mark.requirement(4)
def test_progress_is_the_share_of_the_upload_that_has_been_read(
    client: Client, submit: Submit, start_worker: StartWorker
) -> None:
    start_worker()
    long = [order(note="x" + secrets.token_urlsafe(749)) for _ in range(3000)]  # most of the bytes; gzip packs little
    content = csv_of(*long) + ROW * 9000

    for upload, source in [(content, "csv"), (gzip.compress(content, 1), "csv.gz")]:
        job, seen = submit(upload, source), list[Json]()
        while not seen or seen[-1]["state"] in ("queued", "started"):
            seen.append(client.get(job).json())
        progress = [each["progress"] for each in seen]
        between = sorted({value for value in progress if 0 < value < 100})
        assert progress == sorted(progress)
        assert len(between) >= 3
        assert between[-1] > 60, "the last thousands of rows are the last few percent"
        assert (seen[-1]["state"], seen[-1]["report"]["good"], progress[-1]) == ("finished", 12_000, 100)


@pytest.mark.requirement(4)
def test_the_job_of_a_worker_that_was_killed_is_done_again_by_another(
    client: Client, submit: Submit, start_worker: StartWorker, wait_for: WaitFor
) -> None:
    victim = start_worker()
    job = submit(CSV + ROW * 40_000, "csv")
    wait_for(job, has_begun)

    children = Path(f"/proc/{victim.pid}/task/{victim.pid}/children")  # RQ's child leaves the process group
    pids = children.read_text(encoding="ascii").split() if children.exists() else []
    victim.signal(signal.SIGKILL)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    start_worker()

    ended = wait_for(job, timeout=60)
    assert (ended["state"], ended["report"]["good"]) == ("finished", 40_001)
    assert client.get(ended["result"]).content.count(b"\n") == 40_001


@pytest.mark.requirement(4)
def test_a_worker_that_is_told_to_stop_ends_its_job_first(
    submit: Submit, start_worker: StartWorker, wait_for: WaitFor
) -> None:
    worker = start_worker()
    job = submit(CSV + ROW * 30_000, "csv")
    wait_for(job, has_begun)

    worker.terminate()
    exit_code = worker.wait()

    assert exit_code == 0
    assert wait_for(job)["state"] == "finished"


@pytest.mark.requirement(4)
def test_a_job_that_takes_too_long_fails_and_is_not_tried_again(
    client: Client, submit: Submit, start_worker: StartWorker, wait_for: WaitFor
) -> None:
    start_worker(JOB_TIMEOUT="1")
    job = submit(CSV + ROW * 300_000, "csv")

    ended = wait_for(job, timeout=20)

    assert (ended["state"], ended["result"], ended["report"]["error"]["line"]) == ("failed", None, None)
    assert client.get(f"{job}/result").status_code == 409


@pytest.mark.requirement(4)
def test_an_upload_has_a_limit(solution: Solution, environment: Json, tmp_path: Path) -> None:
    content = csv_of(*[GOOD] * 1000)
    client = solution.serve(**environment | {"MAX_UPLOAD_BYTES": str(len(content)), "DATA_DIR": str(tmp_path / "data")})

    larger = content + b"\n"
    chunked = iter([larger[:1000], larger[1000:]])  # without Content-Length
    answers = [client.post("/files?from=csv&to=xml", content=body) for body in (content, larger, chunked)]

    assert [answer.status_code for answer in answers] == [202, 413, 413]
    assert sum(file.stat().st_size >= 1000 for file in files_below(tmp_path / "data")) == 1


@pytest.mark.requirement(4)
def test_an_upload_that_breaks_off_leaves_nothing(solution: Solution, environment: Json, tmp_path: Path) -> None:
    client = solution.serve(**environment | {"DATA_DIR": str(tmp_path / "data")})
    head = "POST /files?from=csv&to=xml HTTP/1.1\r\nHost: shop\r\nContent-Length: 5000000\r\n\r\n"

    with socket.create_connection(client.address) as connection:
        connection.sendall(head.encode() + bytes(2_000_000))
        wait_until(lambda: files_below(tmp_path / "data"), message="nothing is written while it comes")

    wait_until(lambda: not files_below(tmp_path / "data"), message="it is still there")


BAD_QUERIES = [
    "", "from=csv", "to=csv", "from=csv&to=secret", "from=pdf&to=csv",
    "from=gz&to=csv", "from=../csv&to=csv", "from=csv&to=", "from=csv&to=csv%00",
]  # fmt: skip


@pytest.mark.requirement(4)
def test_a_job_is_queued_only_when_its_upload_is_whole(
    environment: Json, client: Client, submit: Submit, start_worker: StartWorker, wait_for: WaitFor
) -> None:
    start_worker()
    content = CSV + ROW * 5000
    head = f"POST /files?from=csv&to=xml HTTP/1.1\r\nHost: shop\r\nContent-Length: {len(content)}\r\n\r\n"
    folder = Path(environment["DATA_DIR"])
    before = set(files_below(folder))

    with socket.create_connection(client.address) as connection:
        connection.sendall(head.encode() + content[:-1000])
        wait_until(lambda: set(files_below(folder)) - before)
        wait_for(submit(CSV, "csv"))  # it was queued later than the first one, if that was
        connection.sendall(content[-1000:])
        answer = connection.recv(10_000).decode()

    location = answer.lower().partition("location: ")[2].partition("\r\n")[0]
    assert wait_for(location)["report"]["good"] == 5001


@pytest.mark.requirement(4)
@pytest.mark.parametrize("query", BAD_QUERIES)
def test_an_unknown_format_is_422_and_not_repeated(client: Client, query: str) -> None:
    response = client.post(f"/files?{query}", content=CSV)

    assert response.status_code == 422
    assert "secret" not in response.text


@pytest.mark.requirement(4)
@pytest.mark.parametrize("job_id", [NOBODYS_ID, "1", "None", "%00", "x" * 500])
def test_an_id_that_was_never_given_out_is_404(client: Client, job_id: str) -> None:
    answers = [client.get(f"/jobs/{job_id}"), client.get(f"/jobs/{job_id}/result")]

    assert [answer.status_code for answer in answers] == [404, 404]


@pytest.mark.requirement(4)
def test_without_a_queue_the_answer_is_503_and_nothing_is_kept(solution: Solution, tmp_path: Path) -> None:
    # Nobody listens on port 1.
    client = solution.serve(REDIS_URL="redis://127.0.0.1:1/0", DATA_DIR=str(tmp_path / "data"))

    answers = [client.post("/files?from=csv&to=xml", content=CSV), client.get(f"/jobs/{NOBODYS_ID}")]

    assert [answer.status_code for answer in answers] == [503, 503]
    assert files_below(tmp_path / "data") == []


# 5. Memory.

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
BLOCK = 1000


def rows_of(file_format: str, number: int, **changes: Any) -> Iterator[bytes]:
    """The pieces of a large file, made quickly: the same rows again and again."""
    size = min(number, BLOCK)
    block = [order(id=each, **changes) for each in range(1, size + 1)]
    rows, (head, tail) = rows_alone(file_format, *block), FRAMES[file_format]
    yield head
    for count in range(number // size):
        unique = rows.replace(b"MARK", b"%08d" % count)  # rows of different blocks differ
        yield (b"," if file_format == "json" and count else b"") + unique
    yield tail


def peak_of(process: Process) -> float:
    """The most MiB that a process has held, looked up until its end."""
    status, seen = Path(f"/proc/{process.pid}/status"), [0.0]
    deadline = time.monotonic() + 60  # generous
    while process.exit_code is None:
        assert time.monotonic() < deadline, "it has not ended after 60 s"
        with contextlib.suppress(OSError, IndexError):
            seen.append(int(status.read_text(encoding="ascii").split("VmHWM:")[1].split()[0]) / 1024)
        time.sleep(0.005)
    return max(seen)


@pytest.fixture
def grow(solution: Solution, folder: Path) -> Grow:
    """Convert a large file, and one with a row; return the large one's report and how many MiB more it has taken."""

    def grow(source: str, target: str, pieces: Iterator[bytes]) -> tuple[Json, float]:
        one = rows_of(source.partition(".")[0], 1)
        for name, content in [("one", one), ("in", pieces)]:
            path = folder / f"{name}.{source}"
            with gzip.open(path, "wb", 1) if source.endswith(".gz") else path.open("wb") as file:
                file.writelines(content)
        small, large = (
            solution.start("convert", str(folder / f"{name}.{source}"), str(folder / f"{name}-out.{target}"))
            for name in ("one", "in")
        )
        peaks = [peak_of(small), peak_of(large)]
        assert large.exit_code in (0, 3), large.stderr
        return json.loads(large.stdout), peaks[1] - peaks[0]

    return grow


@on_linux
@pytest.mark.requirement(5)
@pytest.mark.parametrize("source, target", [("csv.gz", "xml"), ("json", "csv.gz"), ("jsonl", "json"), ("xml", "jsonl")])
def test_each_format_is_read_and_written_as_a_stream(grow: Grow, source: str, target: str) -> None:
    # 26 MB of rows that differ; as Python's strings they take as much again and more.
    large = rows_of(source.partition(".")[0], 6000, customer="MARK" + "x" * 90, note="\U0001f600" * 1000)

    report, grown = grow(source, target, large)

    assert report["good"] == 6000
    assert grown < 20


@on_linux
@pytest.mark.requirement(5)
def test_many_short_rows_do_not_fill_the_memory(grow: Grow) -> None:
    """Of 100,000 short rows no more than some 200 bytes each may stay: kept as Python's objects they take 50 MiB."""
    report, grown = grow("csv", "jsonl", rows_of("csv", 100_000, customer="MARK"))

    assert report["good"] == 100_000
    assert grown < 20


@on_linux
@pytest.mark.requirement(5)
@pytest.mark.parametrize(
    "source, content",
    [("jsonl", b"[]\n" * 150_000), ("xml", b"<orders>" + b"<order a=''/>" * 320_000 + b"</orders>")],
    ids=["jsonl", "xml"],
)
def test_bad_rows_do_not_fill_the_memory(grow: Grow, source: str, content: bytes) -> None:
    report, grown = grow(source, "csv", iter([content]))

    assert report["bad"] >= 150_000
    assert grown < 20


@on_linux
@pytest.mark.requirement(5)
def test_an_upload_is_not_kept_in_memory(solution: Solution, environment: Json, tmp_path: Path) -> None:
    server = solution.serve(isolated=True, **environment | {"DATA_DIR": str(tmp_path / "data")})
    assert server.process
    status = Path(f"/proc/{server.process.pid}/status")

    def peak() -> float:
        return int(status.read_text(encoding="ascii").split("VmHWM:")[1].split()[0]) / 1024

    server.post("/files?from=csv&to=xml", content=CSV)
    before = peak()
    response = server.post("/files?from=csv&to=xml", content=iter([bytes(2**20)] * 64))

    assert response.status_code == 202
    assert peak() - before < 20
