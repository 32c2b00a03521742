"""The specification of Basic authentication, requirement by requirement."""

import base64
import itertools
import json
import re
import sqlite3
import statistics
import threading
import time
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import pytest
from httpx2 import Response

from grader.solution import Client, Solution, SolutionCrashedError

BCRYPT_HASH = re.compile(r"\$2[abxy]\$\d\d\$")
PASSWORD = "open: sesame"
SECRET = "hunter2-hunter2"

numbers = itertools.count(1)


@dataclass(frozen=True)
class Account:
    username: str
    password: str

    @property
    def token(self) -> str:
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    @property
    def header(self) -> dict[str, str]:
        return {"Authorization": f"Basic {self.token}"}

    def with_password(self, password: str) -> "Account":
        return Account(self.username, password)


Register = Callable[..., Account]


def post_user(client: Client, **fields: object) -> Response:
    """Register. Written by hand: httpx refuses to write half a surrogate, and JSON can."""
    return client.post("/users", content=json.dumps(fields), headers={"Content-Type": "application/json"})


def new_account(client: Client, password: str = PASSWORD) -> Account:
    """Register somebody whose `username:password` is 22 bytes long by default, so base64 needs padding."""
    account = Account(f"user-{next(numbers):04}", password)
    assert post_user(client, username=account.username, password=password).status_code == 201
    return account


def basic(content: str | bytes) -> str:
    """The header's value for these bytes, or this text in UTF-8, whatever they are."""
    return f"Basic {base64.b64encode(content.encode() if isinstance(content, str) else content).decode()}"


def sign_in(client: Client, authorization: str | bytes) -> Response:
    value = authorization.encode() if isinstance(authorization, str) else authorization
    return client.get("/me", headers=[(b"Authorization", value)])


def stored_hash(database: Path, username: str) -> str:
    """What the table has for this user's password."""
    with closing(sqlite3.connect(database)) as connection:
        (found,) = connection.execute("SELECT password_hash FROM users WHERE username = ?", [username]).fetchone()
        return found.decode() if isinstance(found, bytes) else str(found)


def assert_challenge(response: Response) -> None:
    """401, and one challenge that names the scheme, a realm and the charset (RFC 7617 §2, §2.1)."""
    assert response.status_code == 401
    challenge = response.headers.get("WWW-Authenticate", "")
    assert re.match("Basic +", challenge, re.IGNORECASE)
    assert re.search(r'\brealm="[^"]+"', challenge)
    assert re.search(r'\bcharset="?UTF-8\b', challenge, re.IGNORECASE)


def answered(response: Response) -> tuple[int, dict[str, str], str]:
    """All of an answer but the time of day."""
    headers = {name.lower(): value for name, value in response.headers.items() if name.lower() != "date"}
    return response.status_code, headers, response.text


@pytest.fixture
def database(shared_path: Path) -> Path:
    return shared_path / "users.db"


@pytest.fixture
def client(solution: Solution, database: Path) -> Client:
    return solution.serve_shared(DATABASE_URL=f"sqlite:///{database}", BCRYPT_ROUNDS="4")


@pytest.fixture
def slow_client(solution: Solution, shared_path: Path) -> Client:
    """A server that hashes for so long that nothing else counts."""
    return solution.serve_shared(DATABASE_URL=f"sqlite:///{shared_path / 'slow.db'}", BCRYPT_ROUNDS="9")


@pytest.fixture
def register(client: Client) -> Register:
    """Register somebody new, with this password if one is given."""

    def register(password: str = PASSWORD) -> Account:
        return new_account(client, password)

    return register


@pytest.fixture
def ann(client: Client) -> Account:
    """Somebody who is registered."""
    return new_account(client)


# 1. Registering, signing in, and what is open.


@pytest.mark.requirement(1)
def test_who_has_registered_can_sign_in(client: Client, ann: Account) -> None:
    response = client.get("/me", headers=ann.header)

    assert response.status_code == 200
    assert response.json()["username"] == ann.username


@pytest.mark.requirement(1)
def test_each_user_is_told_their_own_name(client: Client, register: Register) -> None:
    accounts = [register(f"password {number}") for number in range(3)]

    answers = [client.get("/me", headers=account.header).json()["username"] for account in accounts]

    assert answers == [account.username for account in accounts]


@pytest.mark.requirement(1)
def test_nobody_signs_in_with_another_users_password(client: Client, register: Register) -> None:
    ann, bob = register("password of ann"), register("password of bob")

    response = client.get("/me", headers=ann.with_password(bob.password).header)

    assert response.status_code == 401


@pytest.mark.requirement(1)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_protected_endpoint_does_not_open_without_credentials(client: Client, method: str) -> None:
    response = client.request(method, "/me")

    assert response.status_code in ((401,) if method == "GET" else (401, 405))


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="without a header"),
        pytest.param({"Authorization": basic("nobody:wrong password")}, id="with wrong credentials"),
        pytest.param({"Authorization": "Basic !"}, id="with a garbled header"),
    ],
)
def test_the_open_endpoint_answers_everybody(client: Client, headers: dict[str, str]) -> None:
    response = client.get("/public", headers=headers)

    assert response.status_code == 200
    response.json()


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "username",
    [
        pytest.param("a", id="1 character"),
        pytest.param("x" * 64, id="64 characters"),
        pytest.param("Jürgen-日本-👋🏽", id="of many scripts"),
        pytest.param("ann@example.com", id="an email address"),
        pytest.param("O'Brien--%s{0}<b>", id="what other languages quote"),
    ],
)
def test_a_name_within_the_rules_can_register_and_sign_in(client: Client, username: str) -> None:
    created = post_user(client, username=username, password=PASSWORD)

    assert created.status_code == 201
    assert created.json()["username"] == username
    assert client.get("/me", headers=Account(username, PASSWORD).header).json()["username"] == username


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "username",
    [
        pytest.param("", id="empty"),
        pytest.param("x" * 65, id="65 characters"),
        pytest.param("ann:smith", id="with a colon"),
        pytest.param("ann smith", id="with a space"),
        pytest.param(" ann", id="with a space before it"),
        pytest.param("ann ", id="with a space after it"),
        pytest.param("ann\u00a0smith", id="with a no-break space"),
        pytest.param("ann\n", id="with a line break at the end"),
        pytest.param("ann\x00", id="with NUL"),
        pytest.param("ann\x7f", id="with DEL"),
        pytest.param("ann\x9b", id="with a C1 control"),
        pytest.param(None, id="null"),
        pytest.param(7, id="a number"),
        pytest.param(["ann"], id="a list"),
    ],
)
def test_a_name_that_breaks_the_rules_is_a_422_that_says_so(client: Client, username: object) -> None:
    response = post_user(client, username=username, password=PASSWORD)

    assert response.status_code == 422
    assert "username" in response.json()["detail"]
    assert "password" not in response.json()["detail"]


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "password",
    [
        pytest.param("12345678", id="8 characters"),
        pytest.param("x" * 72, id="72 bytes"),
        pytest.param("é" * 36, id="72 bytes that are 36 characters"),
        pytest.param("  spaces around  ", id="spaces around it"),
        pytest.param("日本語のパスワード", id="Japanese"),
        pytest.param("👋🏽👋🏽👋🏽👋🏽", id="8 code points of emoji"),
    ],
)
def test_a_password_within_the_rules_works(client: Client, register: Register, password: str) -> None:
    account = register(password)

    assert client.get("/me", headers=account.header).status_code == 200


@pytest.mark.requirement(1)
def test_a_password_works_only_as_it_is(client: Client, register: Register) -> None:
    account = register(" Open sesame ")

    others = ["", "Open sesame", " open sesame ", " Open sesame", " Open sesame  ", " Open sesamf "]

    answers = [client.get("/me", headers=account.with_password(other).header) for other in others]
    assert {answer.status_code for answer in answers} == {401}


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "password",
    [
        pytest.param("", id="empty"),
        pytest.param("1234567", id="7 characters"),
        pytest.param("e\u0301" * 7, id="7 characters in NFC"),
        pytest.param("x" * 73, id="73 bytes"),
        pytest.param("é" * 37, id="74 bytes that are 37 characters"),
        pytest.param("open sesame\x00", id="with NUL"),
        pytest.param("open\tsesame", id="with a tab"),
        pytest.param(None, id="null"),
        pytest.param(12345678, id="a number"),
        pytest.param({"value": "open sesame"}, id="an object"),
    ],
)
def test_a_password_that_breaks_the_rules_is_a_422_that_says_so(client: Client, password: object) -> None:
    response = post_user(client, username="somebody", password=password)

    assert response.status_code == 422
    assert "password" in response.json()["detail"]
    assert "username" not in response.json()["detail"]


@pytest.mark.requirement(1)
@pytest.mark.parametrize("missing", ["username", "password"])
def test_a_registration_without_a_field_is_a_422_that_names_it(client: Client, missing: str) -> None:
    fields = {"username": "somebody", "password": PASSWORD}
    del fields[missing]

    response = post_user(client, **fields)

    assert response.status_code == 422
    assert missing in response.json()["detail"]


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"username": "ann", "password": "open', id="cut off"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"null", id="null"),
        pytest.param(b'"text"', id="a string"),
        pytest.param(b"[" * 100_000, id="deeply nested"),
        pytest.param(b'{"username": "\xff", "password": "open sesame"}', id="no UTF-8"),
        pytest.param(rb'{"username": "\ud800", "password": "open sesame"}', id="half a surrogate in the name"),
        pytest.param(rb'{"username": "half", "password": "open sesame\udfff"}', id="half a surrogate in the password"),
        pytest.param(b'{"username": NaN, "password": 1e999}', id="numbers that are none"),
    ],
)
def test_a_body_that_is_no_registration_is_a_400_or_422(client: Client, body: bytes) -> None:
    response = client.post("/users", content=body, headers={"Content-Type": "application/json"})

    assert response.status_code in (400, 422)


@pytest.mark.requirement(1)
def test_a_taken_name_is_a_409_and_keeps_its_password(client: Client, ann: Account) -> None:
    response = post_user(client, username=ann.username, password="another password")

    assert response.status_code == 409
    assert client.get("/me", headers=ann.header).status_code == 200
    assert client.get("/me", headers=ann.with_password("another password").header).status_code == 401


@pytest.mark.requirement(1)
def test_of_many_who_ask_for_a_name_at_once_exactly_one_gets_it(slow_client: Client) -> None:
    """A hash takes long here: who asks first whether the name is free is told yes before anybody has written it."""
    rivals = [Account("wanted", f"password {number}") for number in range(8)]
    start = threading.Barrier(len(rivals))

    def ask(rival: Account) -> int:
        start.wait()
        return post_user(slow_client, username=rival.username, password=rival.password).status_code

    with ThreadPoolExecutor(len(rivals)) as pool:
        statuses = list(pool.map(ask, rivals))

    assert sorted(statuses) == [201] + [409] * 7
    assert [slow_client.get("/me", headers=rival.header).status_code == 200 for rival in rivals] == [
        status == 201 for status in statuses
    ]


@pytest.mark.requirement(1)
def test_users_survive_a_restart_of_the_app(solution: Solution, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'users.db'}"
    before = solution.serve(DATABASE_URL=database, BCRYPT_ROUNDS="4")
    account = new_account(before)
    before.stop()

    after = solution.serve(DATABASE_URL=database, BCRYPT_ROUNDS="4")

    assert after.get("/me", headers=account.header).status_code == 200


def longest_wait(client: Client, others: Sequence[Future[Response]]) -> float:
    """Ask for /public until all others have their answers; return the longest wait in seconds."""
    waits: list[float] = []
    while not (waits and all(other.done() for other in others)):
        asked = time.perf_counter()
        assert client.get("/public").status_code == 200
        waits.append(time.perf_counter() - asked)
    return max(waits)


@pytest.mark.requirement(1)
def test_other_requests_are_answered_while_passwords_are_hashed(slow_client: Client) -> None:
    account = new_account(slow_client)

    def longest_wait_in_proportion() -> float:
        """The longest wait for /public while eight sign in at once, as a part of the time that these take."""
        with ThreadPoolExecutor(8) as pool:
            start = time.perf_counter()
            sign_ins = [pool.submit(slow_client.get, "/me", headers=account.header) for _ in range(8)]
            wait = longest_wait(slow_client, sign_ins)
            assert [each.result().status_code for each in sign_ins] == [200] * 8
            return wait / (time.perf_counter() - start)

    assert any(longest_wait_in_proportion() < 0.5 for _attempt in range(3))


@pytest.mark.requirement(1)
def test_a_text_that_is_costly_to_normalise_keeps_nobody_waiting(client: Client) -> None:
    """Combining marks of two classes, in the wrong order: putting them right takes the square of their number."""
    marks = "a" + "\u0301" * 11_000 + "\u0316" * 11_000  # as much as fits into a header

    def wait_during_attacks() -> float:
        """The longest wait for /public while one signs in and one registers."""
        with ThreadPoolExecutor(2) as pool:
            attacks = [
                pool.submit(sign_in, client, basic(marks + ":open sesame")),
                pool.submit(post_user, client, username=marks, password=marks),
            ]
            wait = longest_wait(client, attacks)
            assert [attack.result().status_code for attack in attacks] == [401, 422]
            return wait

    assert any(wait_during_attacks() < 0.5 for _attempt in range(3))


# 2. The header.


@pytest.mark.requirement(2)
@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC", "bAsIc"])
def test_the_scheme_may_be_in_any_case(client: Client, ann: Account, scheme: str) -> None:
    assert sign_in(client, f"{scheme} {ann.token}").status_code == 200


@pytest.mark.requirement(2)
@pytest.mark.parametrize("spaces", [1, 2, 5])
def test_one_or_more_spaces_follow_the_scheme(client: Client, ann: Account, spaces: int) -> None:
    assert sign_in(client, f"Basic{' ' * spaces}{ann.token}").status_code == 200


@pytest.mark.requirement(2)
@pytest.mark.parametrize("password", ["open:sesame", ":::::::::", "password:", ":password"])
def test_a_password_may_hold_colons(client: Client, register: Register, password: str) -> None:
    account = register(password)

    assert client.get("/me", headers=account.header).status_code == 200


@pytest.mark.requirement(2)
@pytest.mark.parametrize("password", ["pässwörter", "пароль-пароль", "密码密码密码密码", "🔑🔑🔑🔑🔑🔑🔑🔑"])
def test_credentials_are_read_as_utf_8(client: Client, register: Register, password: str) -> None:
    account = register(password)

    assert client.get("/me", headers=account.header).status_code == 200


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "password",
    [
        pytest.param("??>>~~~~", id="that needs + and / in base64"),
        pytest.param("12345678", id="with one length"),
        pytest.param("123456789", id="with another length"),
        pytest.param("1234567890", id="with a third length"),
    ],
)
def test_all_of_base64_is_read_with_every_padding(client: Client, register: Register, password: str) -> None:
    account = register(password)

    assert client.get("/me", headers=account.header).status_code == 200


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "registered, sent",
    [
        pytest.param("caf\u00e9-caf\u00e9", "cafe\u0301-cafe\u0301", id="registered composed, sent decomposed"),
        pytest.param("cafe\u0301-caf\u00e9", "caf\u00e9-cafe\u0301", id="mixed"),
        pytest.param("\u212b-\u1e9b\u0323-A", "\u00c5-\u1e9b\u0323-A", id="the Ångström sign"),
    ],
)
def test_name_and_password_are_the_same_however_their_letters_are_composed(
    client: Client, register: Register, registered: str, sent: str
) -> None:
    prefix = register().username  # so that no other test has this name
    created = post_user(client, username=f"{prefix}-{registered}", password=f"password {registered}")

    response = client.get("/me", headers=Account(f"{prefix}-{sent}", f"password {sent}").header)

    assert response.status_code == 200
    name = unicodedata.normalize("NFC", f"{prefix}-{registered}")
    assert (created.json(), response.json()) == ({"username": name}, {"username": name})
    taken = post_user(client, username=f"{prefix}-{sent}", password="another password")
    assert taken.status_code == 409


@pytest.mark.requirement(2)
def test_lengths_count_in_nfc(client: Client) -> None:
    number = f"{next(numbers):04}"
    account = Account(number + "e\u0301" * 60, "e\u0301" * 36)

    created = post_user(client, username=account.username, password=account.password)

    assert created.status_code == 201
    assert client.get("/me", headers=account.header).json() == {"username": number + "é" * 60}


@pytest.mark.requirement(2)
def test_letters_that_only_look_alike_stay_different(client: Client, register: Register) -> None:
    account = register("file 1 in ﬁle")

    response = client.get("/me", headers=account.with_password("file 1 in file").header)

    assert response.status_code == 401  # NFKC would have made them equal; NFC does not


@pytest.mark.requirement(2)
def test_case_counts_in_names(client: Client, ann: Account) -> None:
    response = client.get("/me", headers=Account(ann.username.upper(), ann.password).header)

    assert response.status_code == 401


# 3. What fails.


@pytest.mark.requirement(3)
def test_no_credentials_are_a_401_with_a_challenge(client: Client) -> None:
    assert_challenge(client.get("/me"))


@pytest.mark.requirement(3)
def test_a_wrong_password_is_a_401_with_a_challenge(client: Client, ann: Account) -> None:
    assert_challenge(client.get("/me", headers=ann.with_password("close sesame").header))


@pytest.mark.requirement(3)
def test_an_unknown_name_and_a_wrong_password_get_the_same_answer(client: Client, ann: Account) -> None:
    wrong = client.get("/me", headers=ann.with_password("close sesame").header)

    unknown = client.get("/me", headers=Account("nobody-here", "close sesame").header)

    assert answered(unknown) == answered(wrong)


def without_padding(token: str) -> str:
    return f"Basic {token.rstrip('=')}"


def with_more_padding(token: str) -> str:
    return f"Basic {token}="


def with_a_stranger_inside(token: str) -> str:
    return f"Basic {token[:4]}!{token[4:]}"


def with_a_space_inside(token: str) -> str:
    return f"Basic {token[:4]} {token[4:]}"


def with_something_after_it(token: str) -> str:
    return f"Basic {token}, Basic {token}"


def with_a_tab_for_a_space(token: str) -> str:
    return f"Basic\t{token}"


def with_a_space_before_the_name(token: str) -> str:
    return basic(b" " + base64.b64decode(token))


def without_a_space(token: str) -> str:
    return f"Basic{token}"


def without_a_scheme(token: str) -> str:
    return token


def as_bearer(token: str) -> str:
    return f"Bearer {token}"


def with_nul_at_the_end(token: str) -> str:
    return basic(base64.b64decode(token) + b"\x00")


def with_a_line_break_at_the_end(token: str) -> str:
    return basic(base64.b64decode(token) + b"\n")


def without_a_colon(token: str) -> str:
    return basic(base64.b64decode(token).replace(b":", b""))


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "spoil",
    [
        without_padding,
        with_more_padding,
        with_a_stranger_inside,
        with_a_space_inside,
        with_something_after_it,
        with_a_tab_for_a_space,
        with_a_space_before_the_name,
        without_a_space,
        without_a_scheme,
        as_bearer,
        with_nul_at_the_end,
        with_a_line_break_at_the_end,
        without_a_colon,
    ],
)
def test_right_credentials_in_a_garbled_header_get_the_answer_of_a_wrong_password(
    client: Client, ann: Account, spoil: Callable[[str], str]
) -> None:
    wrong = client.get("/me", headers=ann.with_password("close sesame").header)

    response = sign_in(client, spoil(ann.token))

    assert_challenge(response)
    assert answered(response) == answered(wrong)


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"Basic", id="only the scheme"),
        pytest.param(b"Basic =", id="only padding"),
        pytest.param(b"Basic a", id="one letter"),
        pytest.param(b"Basic ***", id="no base64"),
        pytest.param(b"Basic \xe9\xff", id="bytes above ASCII"),
        pytest.param("Basic é".encode(), id="UTF-8 outside of base64"),
        pytest.param(b"B\xe4sic YTpi", id="a scheme above ASCII"),
        pytest.param(basic(b"gr\xfcn:password"), id="Latin-1 in base64"),
        pytest.param(basic(b":"), id="only a colon"),
        pytest.param(basic(b":open sesame"), id="no name"),
        pytest.param(basic(b"nobody:"), id="no password"),
        pytest.param(basic(b"nobody"), id="no colon"),
        pytest.param(basic(b"no\x00body:open sesame"), id="NUL in the name"),
        pytest.param(basic(b"\xed\xa0\x80:open sesame"), id="half a surrogate"),
        pytest.param(basic("n" * 5000 + ":open sesame"), id="a name of 5,000 characters"),
        pytest.param(basic("nobody:" + "p" * 5000), id="a password of 5,000 characters"),
        pytest.param(b'Basic username="ann", password="open sesame"', id="parameters"),
        pytest.param(b'Digest username="ann", realm="users"', id="Digest"),
        pytest.param(b"Bearer abc.def.ghi", id="a bearer token"),
    ],
)
def test_a_header_that_cannot_be_right_is_a_401_with_a_challenge(client: Client, authorization: bytes) -> None:
    assert_challenge(sign_in(client, authorization))


@pytest.mark.requirement(3)
@pytest.mark.parametrize("first, second", [("right", "wrong"), ("wrong", "right"), ("right", "right")])
def test_two_authorization_headers_are_none(client: Client, ann: Account, first: str, second: str) -> None:
    values = {"right": f"Basic {ann.token}", "wrong": basic("nobody:open sesame")}

    response = client.get("/me", headers=[("Authorization", values[first]), ("Authorization", values[second])])

    assert_challenge(response)


@pytest.mark.requirement(3)
@pytest.mark.parametrize("registered", ["p" * 72, "é" * 36], ids=["of ASCII", "of two-byte letters"])
@pytest.mark.parametrize("more", ["x", "x" * 1000])
def test_the_first_72_bytes_of_a_password_are_not_enough(
    client: Client, register: Register, registered: str, more: str
) -> None:
    account = register(registered)

    assert_challenge(client.get("/me", headers=account.with_password(registered + more).header))


@pytest.mark.requirement(3)
def test_credentials_in_the_wrong_bytes_are_a_401(client: Client, register: Register) -> None:
    account = register("pässwörter")

    response = sign_in(client, basic(f"{account.username}:{account.password}".encode("latin-1")))

    assert_challenge(response)


# 4. Nothing sensitive leaves.


@pytest.mark.requirement(4)
def test_a_password_is_stored_as_its_bcrypt_hash(database: Path, ann: Account) -> None:
    stored = stored_hash(database, ann.username)

    assert re.fullmatch(r"\$2[aby]\$04\$[./A-Za-z0-9]{53}", stored)
    assert bcrypt.checkpw(ann.password.encode(), stored.encode())


@pytest.mark.requirement(4)
def test_nothing_in_the_database_can_be_turned_back_into_a_password(database: Path, register: Register) -> None:
    account = register(SECRET)

    with closing(sqlite3.connect(database)) as connection:
        rows = "\n".join(connection.iterdump())

    assert account.username in rows
    forms = (SECRET, SECRET[::-1], SECRET.encode().hex(), base64.b64encode(SECRET.encode()).decode(), account.token)
    assert [form for form in forms if form in rows] == []


@pytest.mark.requirement(4)
def test_two_users_with_one_password_have_two_hashes(database: Path, register: Register) -> None:
    ann, bob = register(SECRET), register(SECRET)

    assert stored_hash(database, ann.username) != stored_hash(database, bob.username)


@pytest.mark.requirement(4)
@pytest.mark.parametrize("rounds, cost", [("5", "05"), (None, "12")], ids=["as configured", "12 by default"])
def test_the_cost_of_a_hash_is(solution: Solution, tmp_path: Path, rounds: str | None, cost: str) -> None:
    database = tmp_path / "users.db"
    client = solution.serve(DATABASE_URL=f"sqlite:///{database}", BCRYPT_ROUNDS=rounds)

    account = new_account(client)

    assert stored_hash(database, account.username).split("$")[2] == cost


@pytest.mark.requirement(4)
@pytest.mark.parametrize("rounds", ["3", "17", "12.5", "many"])
def test_the_app_does_not_start_with_a_cost_that_is_none(solution: Solution, tmp_path: Path, rounds: str) -> None:
    with pytest.raises(SolutionCrashedError):
        solution.serve(DATABASE_URL=f"sqlite:///{tmp_path / 'users.db'}", BCRYPT_ROUNDS=rounds)


@pytest.mark.requirement(4)
def test_no_answer_about_a_user_holds_password_or_hash(client: Client, database: Path) -> None:
    account = Account("careful", SECRET)

    answers = [
        post_user(client, username=account.username, password=SECRET),
        post_user(client, username=account.username, password=SECRET),
        client.get("/me", headers=account.header),
        client.get("/me", headers=Account("careless", SECRET).header),
        client.get("/me", headers={"Authorization": f"Basic {account.token}!"}),
    ]

    assert [answer.status_code for answer in answers] == [201, 409, 200, 401, 401]
    told = "\n".join(f"{answer.headers} {answer.text}" for answer in answers)
    secrets = (SECRET, account.token, stored_hash(database, account.username))
    assert [secret for secret in secrets if secret in told] == []
    assert not BCRYPT_HASH.search(told)


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "content_type, body",
    [
        pytest.param("application/json", json.dumps({"username": "a b", "password": SECRET}), id="a bad name"),
        pytest.param("application/json", json.dumps({"password": SECRET}), id="no name"),
        pytest.param("application/json", json.dumps({"username": "ann", "password": SECRET * 6}), id="too long"),
        pytest.param("application/json", json.dumps({"username": "ann", "password": SECRET + "\x00"}), id="with NUL"),
        pytest.param("application/json", json.dumps({"username": "ann", "password": [SECRET]}), id="in a list"),
        pytest.param("application/json", json.dumps({"username": "ann", "passwort": SECRET}), id="under another name"),
        pytest.param("application/json", json.dumps([SECRET]), id="in no object"),
        pytest.param("application/json", json.dumps(SECRET), id="alone"),
        pytest.param("application/json", f'{{"password": "{SECRET}"', id="in JSON cut short"),
        pytest.param("application/x-www-form-urlencoded", f"username=ann&password={SECRET}", id="in a form"),
        pytest.param("text/plain", f'{{"username": "a b", "password": "{SECRET}"}}', id="as plain text"),
    ],
)
def test_a_refused_registration_does_not_repeat_the_password(client: Client, content_type: str, body: str) -> None:
    response = client.post("/users", content=body, headers={"Content-Type": content_type})

    assert 400 <= response.status_code < 500
    assert SECRET not in response.text


@pytest.mark.requirement(4)
def test_what_the_app_writes_holds_no_credentials(solution: Solution, tmp_path: Path) -> None:
    database = tmp_path / "users.db"
    client = solution.serve(isolated=True, DATABASE_URL=f"sqlite:///{database}", BCRYPT_ROUNDS="4")
    account = new_account(client, SECRET)
    stored = stored_hash(database, account.username)

    post_user(client, username=account.username, password=SECRET)
    post_user(client, username="a b", password=SECRET)
    for authorization in (f"Basic {account.token}", f"Basic {account.token}!", f"Bearer {account.token}"):
        sign_in(client, authorization)
        client.get("/public", headers={"Authorization": authorization})
    sign_in(client, Account("nobody", SECRET).header["Authorization"])
    client.stop()

    assert [secret for secret in (SECRET, account.token, stored) if secret in client.output] == []
    assert not BCRYPT_HASH.search(client.output)


@pytest.mark.requirement(4)
def test_a_database_that_fails_does_not_make_the_app_tell(solution: Solution, tmp_path: Path) -> None:
    database = tmp_path / "users.db"
    client = solution.serve(isolated=True, DATABASE_URL=f"sqlite:///{database}", BCRYPT_ROUNDS="4")
    account = new_account(client, SECRET)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("DROP TABLE users")

    answers = [post_user(client, username="bob", password=SECRET), client.get("/me", headers=account.header)]
    client.stop()

    told = client.output + "\n".join(answer.text for answer in answers)
    assert [secret for secret in (SECRET, account.token) if secret in told] == []
    assert not BCRYPT_HASH.search(told)


@pytest.mark.requirement(4)
def test_no_cache_keeps_an_answer_about_a_user(client: Client, ann: Account) -> None:
    answers = [client.get("/me", headers=ann.header), client.get("/me")]

    for answer in answers:
        assert "no-store" in re.split(r"\s*,\s*", answer.headers.get("Cache-Control", "").lower())


@pytest.mark.requirement(4)
def test_an_unknown_name_takes_as_long_to_refuse_as_a_wrong_password(slow_client: Client) -> None:
    known = Account(new_account(slow_client).username, "close sesame")
    unknown = Account("nobody-here", "close sesame")

    def seconds(account: Account) -> float:
        start = time.perf_counter()
        assert slow_client.get("/me", headers=account.header).status_code == 401
        return time.perf_counter() - start

    def ratio() -> float:
        """Of the medians; asked in turn, so that a busy moment hits both."""
        pairs = [(seconds(unknown), seconds(known)) for _ in range(5)]
        return statistics.median(first for first, _ in pairs) / statistics.median(second for _, second in pairs)

    assert any(0.7 < ratio() < 1.4 for _attempt in range(3))
