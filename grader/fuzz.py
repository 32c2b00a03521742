"""Fuzzes an exercise's HTTP face: no server error, and no answer that its OpenAPI document does not name.

The document is tests/openapi.json, or else the one that the FastAPI solution of an exercise makes of itself.
Schemathesis drives every solution with it; then Hypothesis sends what no document foresees: raw bytes, wrong methods,
odd paths, headers and types.
"""

import http.client
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.error import HTTPError, URLError
from urllib.parse import quote_from_bytes

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from grader.exercises import CourseError, Exercise
from grader.run import Server, environment, served

# Its other checks are wrong about a body that fits and is a taken name (409), and about a DELETE that cancels.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "ignored_auth",
)
# What HTTP itself has for a request that no endpoint foresees (RFC 9110 §15.5, RFC 6585 §5); a router may redirect.
PROTOCOL = {307, 308, 400, 404, 405, 408, 411, 413, 414, 415, 422, 431, 501}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
BATCH = 100
ANSWER_SECONDS = 20


def fuzz(exercise: Exercise, seconds: int, start: int | None = None) -> list[str]:
    """Fuzz the worked solution and the alternative for `seconds` each; return what was found, a line each.

    `start` seeds both runs, so that one can be repeated. Raises CourseError when no solution documents itself.
    """
    if "HTTP" not in exercise.faces:
        print(f"{exercise.name} has no HTTP face: there is nothing to fuzz")
        return []
    number = random.randrange(2**31) if start is None else start  # noqa: S311  it only has to be another one each time
    document = find_document(exercise)
    found = []
    for folder in solutions(exercise):
        name = folder.relative_to(exercise.path.parent).as_posix()
        print(f"{name}: {seconds} s, repeat with --seed {number}", flush=True)
        with environment(exercise) as env, served(exercise, folder, env) as server:
            found += [f"{name}: {problem}" for problem in _schemathesis(server, document, seconds * 3 // 4, number)]
            found += [f"{name}: {problem}" for problem in raw_requests(server, document, seconds / 4, number)]
            ended = [process for process, running in server.running.items() if running.poll() is not None]
            found += [f"{name}: the process {process} has ended:\n{server.output[-2000:]}" for process in ended]
    return found


def solutions(exercise: Exercise) -> list[Path]:
    alternative = exercise.path / "alternative"
    return [exercise.path, *[alternative] * alternative.exists()]


def find_document(exercise: Exercise) -> dict[str, Any]:
    """The OpenAPI document: tests/openapi.json, else that of the first solution that serves one.

    Raises CourseError when there is none.
    """
    written = exercise.tests / "openapi.json"
    if written.exists():
        return cast("dict[str, Any]", json.loads(written.read_text(encoding="utf-8")))
    for folder in solutions(exercise):
        with environment(exercise) as env, served(exercise, folder, env) as server, suppress(HTTPError, URLError):
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/openapi.json", timeout=ANSWER_SECONDS) as got:
                document: dict[str, Any] = json.load(got)
            return document
    raise CourseError(
        f"{exercise.name}: no solution serves /openapi.json and there is no tests/openapi.json, so there is nothing to "
        "hold the answers against"
    )


def _schemathesis(server: Server, document: dict[str, Any], seconds: int, number: int) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        file = Path(temporary) / "openapi.json"
        file.write_text(json.dumps(document), encoding="utf-8")
        command = [
            *(str(Path(sys.executable).with_name("schemathesis")), "run", str(file)),
            f"--url=http://127.0.0.1:{server.port}",
            f"--checks={','.join(CHECKS)}",
            f"--max-time={max(seconds, 1)}",
            f"--seed={number}",
            f"--request-timeout={ANSWER_SECONDS}",
            "--continue-on-failure",
            "--suppress-health-check=all",
            "--warnings=off",
        ]
        # Nothing of this is kept: not its reports, not the database of examples.
        env = os.environ | {"HYPOTHESIS_STORAGE_DIRECTORY": temporary, "NO_COLOR": "1"}
        run = subprocess.run(
            command, cwd=temporary, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    summary = re.search(r"^Test cases:\n(.*?)\n\n", run.stdout, re.DOTALL | re.MULTILINE)
    print(f"  schemathesis: {' '.join(summary[1].split()) if summary else 'see below'}", flush=True)
    return [] if run.returncode == 0 else [f"schemathesis found this\n{run.stdout}"]


@dataclass(frozen=True)
class RawRequest:
    """A request as it goes over the wire: nothing makes it well-formed."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def __str__(self) -> str:
        headers = "".join(f"\n    {name}: {value[:300]!r}" for name, value in self.headers)
        return f"{self.method} {self.target[:300]}{headers}\n    {self.body[:300]!r} ({len(self.body)} bytes)"


@dataclass
class Findings:
    """What was wrong, once each: the same fault shows in many requests."""

    sent: int = 0
    problems: dict[tuple[str, str, str], str] = field(default_factory=dict)


def raw_requests(server: Server, document: dict[str, Any], seconds: float, number: int) -> list[str]:
    """Send requests that no client library would for `seconds`; return what was found."""
    findings = Findings()
    deadline = time.monotonic() + seconds
    requests = request_strategy(document)

    def batch(offset: int) -> Callable[[], None]:
        # No shrinking: the smallest request of a kind matters less than another kind.
        @seed(number + offset)
        @settings(
            max_examples=BATCH,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(requests)
        def send(request: RawRequest) -> None:
            if time.monotonic() < deadline:
                _try(server, document, request, findings)

        return send

    offset = 0
    while time.monotonic() < deadline:
        batch(offset)()
        offset += 1
    print(f"  raw requests: {findings.sent} sent", flush=True)
    return list(findings.problems.values())


def _try(server: Server, document: dict[str, Any], request: RawRequest, findings: Findings) -> None:
    findings.sent += 1
    try:
        status = answer_to(server.port, request)
    except (http.client.HTTPException, OSError) as error:
        kind = type(error).__name__
        findings.problems[request.method, "", kind] = f"no answer ({kind}: {error}) to\n  {request}"
        return
    template = template_of(document, request.target)
    if status not in PROTOCOL | documented(document, template, request.method):
        findings.problems.setdefault(
            (request.method, template, str(status)),
            f"{status} is not documented for {request.method} {template or 'an unknown path'}:\n  {request}",
        )


def answer_to(port: int, request: RawRequest) -> int:
    """Send it and return the answer's status, also when the server answers before it has read everything."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    try:
        connection.connect()
        connection.putrequest(request.method, request.target, skip_accept_encoding=True)
        names = {name.lower() for name, _ in request.headers}
        for name, value in request.headers:
            connection.putheader(name, value.encode("latin-1"))
        if not names & {"content-length", "transfer-encoding"}:
            connection.putheader("Content-Length", str(len(request.body)))
        connection.putheader("Connection", "close")
        with suppress(ConnectionError):
            connection.endheaders(request.body)
        return connection.getresponse().status
    finally:
        connection.close()


def template_of(document: dict[str, Any], target: str) -> str:
    """The document's path that a request's target fits, or nothing. A server may merge slashes, WSGI decodes them."""
    path = re.sub("(?:/|%2f){2,}", "/", target.partition("?")[0], flags=re.IGNORECASE)
    for template in sorted(document["paths"], key=lambda each: each.count("{")):
        if re.fullmatch(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(template)), path):
            return str(template)
    return ""


def documented(document: dict[str, Any], template: str, method: str) -> set[int]:
    """The statuses of an operation; HEAD has GET's (RFC 9110 §9.3.2), OPTIONS may be answered by the framework.

    An app that refuses some operations (401, 403) may refuse before it looks whether there is such an operation.
    """
    operations = document["paths"].get(template, {})
    operation = operations.get(method.lower()) or (operations.get("get", {}) if method == "HEAD" else {})
    others = [each for path in document["paths"].values() for each in path.values() if isinstance(each, dict)]
    refusals = {status for other in others for status in other.get("responses", {}) if status in ("401", "403")}
    statuses = {int(status) for status in refusals.union(operation.get("responses", {})) if status.isdecimal()}
    return statuses | ({200, 204} if method == "OPTIONS" else set())


def request_strategy(document: dict[str, Any]) -> st.SearchStrategy[RawRequest]:
    """Requests at the edges of what the document describes, and beyond."""
    return st.builds(
        RawRequest,
        method=st.sampled_from(METHODS),
        target=_targets(document),
        headers=st.lists(st.one_of(_content_types(document), _headers()), max_size=3).map(tuple),
        body=st.one_of(st.just(b""), st.binary(max_size=200), _json_texts(document), _multipart()),
    )


def _targets(document: dict[str, Any]) -> st.SearchStrategy[str]:
    segments = st.one_of(
        st.integers().map(str),
        st.sampled_from(["1", "0", "-1", "1.0", "%00", "..", "%2e%2e%2f", "%ff", "9" * 30, "9" * 5000, "null"]),
        st.binary(min_size=1, max_size=20).map(quote_from_bytes),
    )
    names = sorted(
        {
            parameter["name"]
            for path in document["paths"].values()
            for operation in [path, *(path[name.lower()] for name in METHODS if name.lower() in path)]
            for parameter in operation.get("parameters", [])
            if parameter.get("in") == "query"
        }
    )
    pairs = st.tuples(st.sampled_from([*names, "x", ""]), st.one_of(st.just(""), segments)).map("=".join)
    queries = st.lists(pairs, max_size=3).map(lambda parts: "?" * bool(parts) + "&".join(parts))

    @st.composite
    def targets(draw: st.DrawFn) -> str:
        path = draw(st.sampled_from([*document["paths"], "/", "//", "/nothing", "*"]))
        filled = re.sub(r"\{[^}]*\}", lambda _: draw(segments), path)
        return filled + draw(st.sampled_from(["", "", "", "/", "//", "/%2f"])) + draw(queries)

    return targets()


def _content_types(document: dict[str, Any]) -> st.SearchStrategy[tuple[str, str]]:
    known = {
        content_type
        for operations in document["paths"].values()
        for operation in operations.values()
        for content_type in operation.get("requestBody", {}).get("content", {})
    }
    odd = ["", "json", "application/json; charset=utf-16", "text/plain", "multipart/form-data", "application/json;;;"]
    boundary = "multipart/form-data; boundary=edge"
    return st.tuples(st.just("Content-Type"), st.sampled_from([*sorted(known), *sorted(known), *odd, boundary]))


def _headers() -> st.SearchStrategy[tuple[str, str]]:
    names = [
        *("Accept", "Accept-Encoding", "Authorization", "Cookie", "Host", "Origin", "Range", "X-API-Key"),
        *("If-Match", "If-None-Match", "If-Modified-Since", "X-Forwarded-For", "Forwarded", "Idempotency-Key"),
    ]
    values = st.one_of(
        st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=50),
        st.sampled_from(["*", '"', '""', 'W/"', "Basic ", "Basic =", "Basic gA==", "bytes=-1", "a" * 5000]),
    )
    return st.tuples(st.sampled_from(names), values)


ODD_JSON = [
    *("NaN", "-Infinity", "1e999", "-0.0", "1" * 400, "9223372036854775808", "1.0", "true", "null", "{}", "[]", '""'),
    *(
        '"\\ud800"',
        '"\\u0000"',
        '" "',
        '"1"',
        '"1e3"',
        '"NaN"',
        '"' + "a" * 5000 + '"',
        "[" * 50_000,
        "[[]]",
        "{",
        "\ufeff1",
    ),
]


def _json_texts(document: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """Objects with the document's field names and values that break careless code, some written twice."""
    schemas = document.get("components", {}).get("schemas", {}).values()
    names = sorted({name for schema in schemas for name in schema.get("properties", {})})
    values = st.one_of(st.sampled_from(ODD_JSON), st.integers().map(str), st.text(max_size=20).map(json.dumps))
    fields = st.tuples(st.sampled_from([*names, "id", ""]), values).map(lambda pair: f'"{pair[0]}": {pair[1]}')
    objects = st.lists(fields, max_size=6).map(lambda all_fields: "{" + ", ".join(all_fields) + "}")
    return st.one_of(objects, values).map(lambda text: text.encode("utf-8", "surrogatepass"))


def _multipart() -> st.SearchStrategy[bytes]:
    """Forms of the boundary `edge`: whole, without an end, with odd names and contents."""
    dispositions = st.sampled_from(
        [
            'form-data; name="file"; filename="a.png"',
            'form-data; name="file"; filename="../../../etc/passwd"',
            "form-data; name=\"file\"; filename*=UTF-8''%ff%00",
            'form-data; name="file"',
            'form-data; name=""',
            "form-data",
            "",
        ]
    )
    contents = st.one_of(st.binary(max_size=50), st.sampled_from([b"\x89PNG\r\n\x1a\n", b"GIF89a", b"%PDF-1.7"]))
    part = st.tuples(dispositions, contents).map(
        lambda pair: b"--edge\r\nContent-Disposition: " + pair[0].encode() + b"\r\n\r\n" + pair[1] + b"\r\n"
    )
    ends = st.sampled_from([b"--edge--\r\n", b"--edge", b""])
    return st.tuples(st.lists(part, max_size=3).map(b"".join), ends).map(b"".join)
