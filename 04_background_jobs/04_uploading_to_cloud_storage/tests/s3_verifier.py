"""S3 as strict as AWS: a proxy that checks what moto does not, breaks on request, and notes what passes.

It verifies signatures (in headers, in URLs, of forms), their expiry, a POST policy's conditions, and checksums. It
refuses what AWS refuses in a bucket with public access blocked and ownership enforced: the anonymous, and ACLs.
"""

import base64
import hashlib
import hmac
import http.client
import json
import re
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

HOP_BY_HOP = {"connection", "transfer-encoding", "expect", "keep-alive"}
CHECKSUMS: dict[str, Callable[[bytes], bytes]] = {
    "x-amz-checksum-crc32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
    "x-amz-checksum-sha1": lambda body: hashlib.sha1(body).digest(),  # noqa: S324
    "x-amz-checksum-sha256": lambda body: hashlib.sha256(body).digest(),
}
LONGEST = 604_800  # seconds for which a URL may be signed


class RefusedError(Exception):
    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(f"{status} {code} {message}")
        self.status, self.code, self.message = status, code, message


REFUSALS = {
    "slow_down": RefusedError(503, "SlowDown", "Please reduce your request rate."),
    "deny": RefusedError(403, "AccessDenied", "Access Denied"),
}


@dataclass
class Request:
    """One request to S3, with the name that AWS has for it."""

    method: str
    target: str
    headers: dict[str, str]
    size: int = 0
    status: int = 0

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def bucket(self) -> str:
        return unquote(self.path).strip("/").partition("/")[0]

    @property
    def key(self) -> str:
        return unquote(self.path).lstrip("/").partition("/")[2]

    @property
    def operation(self) -> str:
        has = self.query.keys()
        if self.key:
            names = {
                "POST": "CreateMultipartUpload" if "uploads" in has else "CompleteMultipartUpload",
                "PUT": "UploadPart" if "partNumber" in has else "PutObject",
                "GET": "ListParts" if "uploadId" in has else "GetObject",
                "DELETE": "AbortMultipartUpload" if "uploadId" in has else "DeleteObject",
                "HEAD": "HeadObject",
            }
            copies = "x-amz-copy-source" in self.headers
            return "CopyObject" if copies and self.method == "PUT" else names.get(self.method, self.method)
        if self.method == "POST":
            return "DeleteObjects" if "delete" in has else "PostObject"
        return "ListObjects" if self.method == "GET" and has <= LISTING else "Bucket"


LISTING = {"list-type", "prefix", "delimiter", "max-keys", "start-after", "continuation-token", "encoding-type"}


@dataclass
class Fault:
    """What happens to the next so many requests of these operations, whose names are separated by spaces.

    `cut`: the connection ends in the middle of the body. `corrupt`: a byte changes on the way. `slow_down`: 503, as
    when AWS throttles. `deny`: 403, which is not worth another try. `lose_answer`: it is done, and the connection
    ends before the answer. `hold`: it is done when `released` is set.
    """

    kind: str
    operations: str
    times: int
    released: threading.Event = field(default_factory=threading.Event)


@dataclass
class MultipartUpload:
    """What AWS knows of the checksums of an upload in parts, and moto forgets."""

    algorithm: str
    """In lower case, as in the name of the header; empty when none was chosen at the beginning."""
    checksums: dict[str, str] = field(default_factory=dict)
    """By number of the part."""

    @property
    def header(self) -> str:
        return f"x-amz-checksum-{self.algorithm}"

    @property
    def element(self) -> str:
        return f"Checksum{self.algorithm.upper()}"


@dataclass
class S3Verifier:
    upstream: str
    access_key: str
    secret_key: str
    ahead: timedelta = timedelta()
    """How far the verifier's clock is ahead of everybody else's."""
    seen: list[Request] = field(default_factory=list)
    """The requests that were let through."""
    faults: list[Fault] = field(default_factory=list)
    uploads: dict[str, "MultipartUpload"] = field(default_factory=dict)
    """The multipart uploads that were begun, by their id."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    # What tests ask for.

    @contextmanager
    def running(self) -> Iterator["S3Verifier"]:
        class Handler(_Handler):
            verifier = self

        class Server(ThreadingHTTPServer):
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                """A client that hangs up is no news."""

        server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    @contextmanager
    def fails(self, kind: str, operations: str, times: int = 1) -> Iterator[Fault]:
        """The next so many requests of these operations fail; see Fault. Afterwards none does."""
        fault = Fault(kind, operations, times)
        self.faults.append(fault)
        try:
            yield fault
        finally:
            fault.released.set()
            self.faults.remove(fault)

    @contextmanager
    def later(self, seconds: float) -> Iterator[None]:
        """By this verifier's clock it is so many seconds later."""
        self.ahead = timedelta(seconds=seconds)
        try:
            yield
        finally:
            self.ahead = timedelta()

    def requests(self, operations: str, part_of_key: str) -> list[Request]:
        return [each for each in list(self.seen) if each.operation in operations.split() and part_of_key in each.key]

    def written(self) -> int:
        """How many requests have changed something."""
        return sum(each.method not in {"GET", "HEAD"} for each in list(self.seen))

    # What S3 checks.

    def take_fault(self, request: Request) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if request.operation in fault.operations.split() and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def check(self, request: Request, body: bytes) -> None:
        """Raise RefusedError for what AWS would not do."""
        form = parse_form(request, body) if request.operation == "PostObject" else None
        if form is not None:
            self.check_form(request, form)
        elif "X-Amz-Signature" in request.query:
            self.check_url(request)
        elif "authorization" in request.headers:
            self.check_header(request, body)
        else:
            raise RefusedError(403, "AccessDenied", "Access Denied")
        named = request.headers if form is None else form
        if named.get("acl", named.get("x-amz-acl", "")) not in ("", "bucket-owner-full-control"):
            raise RefusedError(400, "AccessControlListNotSupported", "The bucket does not allow ACLs")
        content = body if form is None else form["file"].encode("latin-1")
        for name, algorithm in CHECKSUMS.items():
            if name in named and named[name] != base64.b64encode(algorithm(content)).decode():
                raise RefusedError(400, "BadDigest", f"The {name} you specified did not match")
        upload = self.uploads.get(request.query.get("uploadId", ""))
        if upload and request.operation == "UploadPart":
            self.check_part(upload, request)
        if upload and request.operation == "CompleteMultipartUpload" and upload.algorithm:
            self.check_completion(upload, body.decode())

    def check_part(self, upload: MultipartUpload, request: Request) -> None:
        """A part has a checksum of the algorithm that the upload was begun with, or none if it has none."""
        sent = {name for name in CHECKSUMS if name in request.headers}
        if sent != ({upload.header} if upload.algorithm else set()):
            raise RefusedError(400, "InvalidRequest", f"Checksum Type mismatch occurred, expected {upload.algorithm!r}")

    def check_completion(self, upload: MultipartUpload, body: str) -> None:
        """The request names the checksum of each part."""
        for part in re.findall("<Part>(.*?)</Part>", body, re.DOTALL):
            number, checksum = text_of("PartNumber", part), text_of(upload.element, part)
            if not checksum:
                raise RefusedError(
                    400, "InvalidRequest", "The complete request must include the checksum for each part"
                )
            if checksum != upload.checksums.get(number):
                raise RefusedError(400, "InvalidPart", f"The checksum of part {number} is another one")

    def note_checksums(self, request: Request, answer: str) -> str:
        """Note those that an answered request brought, and add to a list of parts what moto leaves out."""
        if request.operation == "CreateMultipartUpload":
            algorithm = request.headers.get("x-amz-checksum-algorithm", "").lower()
            self.uploads[text_of("UploadId", answer)] = MultipartUpload(algorithm)
        upload = self.uploads.get(request.query.get("uploadId", ""))
        if upload and upload.algorithm and request.operation == "UploadPart":
            upload.checksums[request.query["partNumber"]] = request.headers[upload.header]
        if upload and request.operation == "ListParts":
            known, element = upload.checksums, upload.element

            def add(part: re.Match[str]) -> str:
                checksum = known.get(text_of("PartNumber", part[1]))
                return f"<Part>{part[1]}<{element}>{checksum}</{element}></Part>" if checksum else part[0]

            return re.sub("<Part>((?:(?!<Checksum).)*?)</Part>", add, answer, flags=re.DOTALL)
        return answer

    def check_header(self, request: Request, body: bytes) -> None:
        pattern = r"AWS4-HMAC-SHA256 Credential=([^,]+), ?SignedHeaders=([^,]+), ?Signature=(\w+)"
        found = re.fullmatch(pattern, request.headers["authorization"])
        if not found:
            raise RefusedError(400, "InvalidRequest", "Please use AWS4-HMAC-SHA256")
        payload = request.headers.get("x-amz-content-sha256", "")
        if re.fullmatch("[0-9a-f]{64}", payload) and payload != hashlib.sha256(body).hexdigest():
            raise RefusedError(400, "XAmzContentSHA256Mismatch")
        moment = request.headers.get("x-amz-date", "")
        self.compare(found[3], self.sign(found[1], moment, canonical(request, found[2], payload, request.query)))

    def check_url(self, request: Request) -> None:
        query = request.query
        signature = query.pop("X-Amz-Signature")
        try:
            signed = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            lasts, credential, names = (
                int(query["X-Amz-Expires"]),
                query["X-Amz-Credential"],
                query["X-Amz-SignedHeaders"],
            )
        except (KeyError, ValueError):
            raise RefusedError(400, "AuthorizationQueryParametersError") from None
        if not 0 < lasts <= LONGEST:
            raise RefusedError(400, "AuthorizationQueryParametersError", "X-Amz-Expires is out of range")
        if self.now() > signed + timedelta(seconds=lasts):
            raise RefusedError(403, "AccessDenied", "Request has expired")
        text = canonical(request, names, "UNSIGNED-PAYLOAD", query)
        self.compare(signature, self.sign(credential, query["X-Amz-Date"], text))

    def check_form(self, request: Request, form: dict[str, str]) -> None:
        """A POST policy: signed, not expired, and each condition met; no field but those that it names."""
        if not {"policy", "x-amz-signature", "x-amz-credential", "file", "key"} <= form.keys():
            raise RefusedError(403, "AccessDenied", "Access Denied")
        scope = form["x-amz-credential"]
        self.compare(form["x-amz-signature"], hmac_sha256(self.signing_key(scope), form["policy"]).hex())
        policy = json.loads(base64.b64decode(form["policy"]))
        expires = datetime.fromisoformat(policy["expiration"])
        if self.now() > expires:
            raise RefusedError(403, "AccessDenied", "Invalid according to Policy: Policy expired.")
        values = form | {"bucket": request.bucket}
        named = {"policy", "x-amz-signature", "file", "bucket"}
        for condition in policy["conditions"]:
            named |= self.check_condition(condition, values, len(form["file"]))
        extra = {name for name in form if name not in named and not name.startswith("x-ignore-")}
        if extra:
            raise RefusedError(403, "AccessDenied", f"Invalid according to Policy: Extra input fields: {extra}")

    def check_condition(self, condition: Any, values: dict[str, str], length: int) -> set[str]:
        """Return the fields that the condition is about."""
        if isinstance(condition, dict):
            condition = next(["eq", f"${name}", value] for name, value in condition.items())
        kind, name, value = condition
        if kind == "content-length-range":
            if length > int(value):
                raise RefusedError(400, "EntityTooLarge")
            if length < int(name):
                raise RefusedError(400, "EntityTooSmall")
            return set()
        name = name.removeprefix("$").lower()
        sent = values.get(name, "")
        if not (sent == value if kind == "eq" else kind == "starts-with" and sent.startswith(value)):
            raise RefusedError(403, "AccessDenied", f"Invalid according to Policy: Condition failed: {condition}")
        return {name}

    def signing_key(self, credential: str) -> bytes:
        access_key, _, scope = credential.partition("/")
        if access_key != self.access_key or not re.fullmatch(r"\d{8}/[\w-]+/s3/aws4_request", scope):
            raise RefusedError(403, "InvalidAccessKeyId")
        key = f"AWS4{self.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac_sha256(key, part)
        return key

    def sign(self, credential: str, moment: str, canonical_request: str) -> str:
        scope = credential.partition("/")[2]
        digest = hashlib.sha256(canonical_request.encode()).hexdigest()
        return hmac_sha256(self.signing_key(credential), f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}").hex()

    def compare(self, sent: str, computed: str) -> None:
        if not hmac.compare_digest(sent, computed):
            raise RefusedError(403, "SignatureDoesNotMatch")


def text_of(element: str, xml: str) -> str:
    found = re.search(f"<{element}>(.*?)</{element}>", xml)
    return found[1] if found else ""


def hmac_sha256(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def canonical(request: Request, names: str, payload: str, query: dict[str, str]) -> str:
    """The canonical request of signature version 4; query parameters that come twice are not in it."""
    if "host" not in names.split(";"):
        raise RefusedError(403, "AccessDenied", "There were headers present in the request which were not signed")
    path = quote(unquote(request.path), safe="/~")
    pairs = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in query.items())
    headers = "".join(f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in names.split(";"))
    return "\n".join([request.method, path, "&".join(map("=".join, pairs)), headers, names, payload])


def parse_form(request: Request, body: bytes) -> dict[str, str]:
    """The fields of multipart/form-data, names in lower case, up to the file; S3 ignores what follows it."""
    found = re.search(r'boundary="?([^";]+)', request.headers.get("content-type", ""))
    if not found:
        raise RefusedError(412, "PreconditionFailed", "Bucket POST must be of the enclosure-type multipart/form-data")
    form: dict[str, str] = {}
    for part in (b"\r\n" + body).split(b"\r\n--" + found[1].encode())[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        name = re.search(rb'\bname="([^"]*)"', head)
        field_name = name[1].decode().lower() if name else ""
        form[field_name] = content.decode("latin-1" if field_name == "file" else "utf-8")
        if "file" in form:
            break
    return form


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms for the end of the one before
    verifier: S3Verifier

    def log_message(self, *_: object) -> None:
        pass

    def answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, size=int(headers.get("content-length", "0")))
        taken = self.verifier.take_fault(request)
        fault = taken.kind if taken else ""
        body = self.rfile.read(request.size // 2 if fault == "cut" else request.size)
        if fault == "cut":
            self.hang_up()
            return
        if taken and fault == "hold":
            taken.released.wait(10)
        if fault == "corrupt":
            body = body[:-1] + bytes([body[-1] ^ 1])
        try:
            if fault in REFUSALS:
                raise REFUSALS[fault]
            self.verifier.check(request, body)
        except RefusedError as error:
            text = f"<Error><Code>{error.code}</Code><Message>{error.message}</Message></Error>".encode()
            self.reply(error.status, {"content-type": "application/xml"}, text)
            return
        request.status, answered, content = self.forward(request, body)
        if request.status == 200 and request.operation in ("CreateMultipartUpload", "UploadPart", "ListParts"):
            content = self.verifier.note_checksums(request, content.decode()).encode()
        self.verifier.seen.append(request)
        if fault == "lose_answer":
            self.hang_up()
        else:
            self.reply(request.status, answered, content)

    def forward(self, request: Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upstream = urlsplit(self.verifier.upstream)
        connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port, timeout=30)
        try:
            sent = {name: value for name, value in request.headers.items() if name not in HOP_BY_HOP}
            connection.request(request.method, request.target, body or None, sent)
            response = connection.getresponse()
            answered = {name.lower(): value for name, value in response.getheaders()}
            return response.status, answered, response.read()
        finally:
            connection.close()

    def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        length = headers.get("content-length", "0") if self.command == "HEAD" else str(len(body))
        for name, value in {**headers, "content-length": length}.items():
            if name not in HOP_BY_HOP:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer  # noqa: N815
