"""The specification of a log of requests: requirement 3, what must not be in it."""

import json
import re
import secrets
import uuid
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    from conftest import Log, Serve

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def card_number(length: int = 16) -> str:
    """A number that passes Luhn's check and belongs to nobody."""
    digits = "4" + "".join(secrets.choice("0123456789") for _ in range(length - 2))
    doubled = [int(digit) * (2 - position % 2) for position, digit in enumerate(reversed(digits))]
    return digits + str(-sum(sum(divmod(digit, 10)) for digit in doubled) % 10)


@pytest.mark.requirement(3)
def test_headers_with_a_sensitive_name_are_masked(log: "Log") -> None:
    secret = secrets.token_urlsafe()
    headers = {
        "Authorization": f"Bearer {secret}",
        "Proxy-Authorization": f"Basic {secret}",
        "Cookie": f"theme=dark; session={secret}",
        "X-Api-Key": secret,
        "X_API_KEY": secret,
        "x-auth-token": secret,
        "X-Client-Secret": secret,
        "X-Session-Id": secret,
    }

    log.client.get("/orders/999", headers=headers)

    logged = log.request()["headers"]
    assert {name: logged[name.lower()] for name in headers} == dict.fromkeys(headers, "***")
    assert secret not in log.output()


@pytest.mark.requirement(3)
def test_the_second_of_two_sensitive_headers_is_masked_too(log: "Log") -> None:
    first, second = secrets.token_urlsafe(), secrets.token_urlsafe()

    log.client.get("/orders/999", headers=[("Cookie", f"a={first}"), ("Cookie", f"b={second}")])

    assert log.request()["headers"]["cookie"] == "***"
    assert not [secret for secret in (first, second) if secret in log.output()]


SENSITIVE = (
    "password Password new_password passwd passphrase pwd client_secret SECRET token access-token accessToken "
    "authorization cookie session_id credentials X-Amz-Signature api_key apiKey Api.Key access_key PRIVATE-KEY "
    "card card_number creditCard cvv CVC email E-Mail user[password]"
)


MASKED = dict.fromkeys(SENSITIVE.split(), "***")


@pytest.mark.requirement(3)
def test_sensitive_names_are_masked_in_the_query(log: "Log") -> None:
    secret = secrets.token_urlsafe()

    log.client.get("/orders/999", params=[*dict.fromkeys(MASKED, secret).items(), ("token", secret)])

    assert log.request()["query"] == MASKED
    assert secret not in log.output()


@pytest.mark.requirement(3)
def test_sensitive_names_are_masked_at_any_depth_of_json(debug_log: "Log") -> None:
    secret = secrets.token_urlsafe()

    debug_log.post(json.dumps({"user": [{"account": dict.fromkeys(MASKED, secret)}]}))

    assert debug_log.request()["body"] == {"user": [{"account": MASKED}]}
    assert secret not in debug_log.output()


@pytest.mark.requirement(3)
def test_json_of_twenty_levels_is_logged_with_what_is_not_sensitive(debug_log: "Log") -> None:
    body: object = {"token": "***", "note": "visible"}
    for _ in range(19):
        body = {"inside": body}

    debug_log.post(json.dumps(body).replace("***", secrets.token_urlsafe()))

    assert debug_log.request()["body"] == body


@pytest.mark.requirement(3)
def test_sensitive_names_are_masked_in_texts(served: "Serve") -> None:
    log = served(LOG_LEVEL="DEBUG", LOG_BODY_BYTES="200000")
    secret, names = secrets.token_hex(), [*MASKED, f"token_{'a' * 45}"]
    texts = [text for name in names for text in (f"{name}={secret}", f"{{'a': 1, '{name}': '{secret}'}}")]

    log.client.post("/orders", json={"notes": [f"see {text} there" for text in texts]})

    notes = log.request()["body"]["notes"]
    assert len(notes) == len(texts)
    assert [note for note in notes if secret in note or not re.fullmatch("see .* there", note)] == []
    assert secret not in log.output()


@pytest.mark.requirement(3)
def test_sensitive_names_are_masked_in_a_form(debug_log: "Log") -> None:
    secret = secrets.token_urlsafe()

    debug_log.client.post("/login", data=dict.fromkeys(MASKED, secret))

    assert debug_log.request()["body"] == MASKED
    assert secret not in debug_log.output()


@pytest.mark.requirement(3)
def test_other_names_are_not_masked(debug_log: "Log") -> None:
    harmless = dict.fromkeys(["author", "username", "quantity", "passenger", "key", "path", "id", "code"], "visible")

    debug_log.client.post("/orders", params=harmless, json=harmless)

    entry = debug_log.request()
    assert entry["query"] == {name: [value] for name, value in harmless.items()}
    assert entry["body"] == harmless


@pytest.mark.requirement(3)
def test_a_name_that_is_percent_encoded_is_masked(log: "Log") -> None:
    secret = secrets.token_urlsafe()

    log.client.get(f"/orders/999?to%6ben={secret}&page=1")

    assert log.request()["query"] == {"token": "***", "page": ["1"]}
    assert secret not in log.output()


@pytest.mark.requirement(3)
@pytest.mark.parametrize("shape", ["a number", "an object", "a list"])
def test_a_sensitive_value_is_masked_whatever_its_type(debug_log: "Log", shape: str) -> None:
    number = secrets.randbelow(10**12) + 10**12
    value = {"a number": number, "an object": {"number": number}, "a list": ["x", [number]]}[shape]

    debug_log.post(json.dumps({"card": value}))

    assert debug_log.request(path="/orders")["body"] == {"card": "***"}
    assert str(number) not in debug_log.output()


def secret_texts(secret: str) -> dict[str, tuple[str, str, str]]:
    """Texts with a secret, the part of each that must not be logged, and a pattern of what is to be logged."""
    card = card_number()
    groups = re.findall("....", card)
    return {
        "an email address": (f"ada.{secret}+shop@example.com", secret, r"\*{3}"),
        "an address with an apostrophe": (f"o'{secret}@mail.example.co.uk", secret, r"\*{3}"),
        "an address with an ampersand": (f"{secret}&bob@example.com", secret, r"\*{3}"),
        "an encoded address": (f"{secret}%40example.com", secret, r"\*{3}"),
        "a card number": (card, card, r"\*{3}"),
        "a card number in groups": (" ".join(groups), " ".join(groups), r"\*{3}"),
        "a card number with hyphens": ("-".join(groups), "-".join(groups), r"\*{3}"),
        "a card number of 19 digits": (long := card_number(19), long, r"\*{3}"),
        "a card number behind digits": ("2000 5105 1051 0510 5100", "5105 1051 0510 5100", r"2000 \*{3}"),
        "a card number with unlike separators": (mixed := "{} {}-{} {}".format(*groups), mixed, r"\*{3}"),
        "a JWT": (f"eyJ{secret}.eyJ{secret}.{secret}", secret, r"\*{3}"),
        "a JWT behind a word": (f"jwt_eyJ{secret}.eyJ{secret}.{secret}", secret, r".*\*{3}"),
        "a JWE of five parts": (f"eyJ{secret[:9]}..{secret[:9]}.{secret[:9]}.{secret}", secret, r"\*{3}"),
        "a bearer token": (f"Bearer {secret}", secret, r".*\*{3}"),
        "a password in a URL": (f"postgresql://shop:{secret}@localhost/shop", secret, r".*\*{3}@localhost/shop"),
        "a user in a URL": (f"https://{secret}@git.example/shop", secret, r".*\*{3}@git.example/shop"),
        "a user and password in a URL": (f"redis://{secret}:p@ss@localhost/0", secret, r".*\*{3}@localhost/0"),
        "a token in a URL": (f"https://shop.example/?page=1&token={secret}", secret, r".*page=1.*\*{3}"),
        "a pair": (f"api_key={secret}", secret, r".*\*{3}"),
        "a pair with a comma": (f"password=x,{secret};y", secret, r".*\*{3}"),
        "a pair with an encoded name": (f"to%6ben={secret}&page=1", secret, r".*\*{3}&page=1"),
        "a pair with an escaped quote": (f'{{"password": "ab\\"cd {secret}"}}', secret, r".*\*{3}.*"),
        "a pair inside of a text in JSON": (rf"{{\"password\": \"x {secret}\"}}", secret, r".*\*{3}.*"),
        "a pair as Python writes it": (f"{{'password': 'two {secret}'}}", secret, r".*\*{3}.*"),
        "a pair as JSON writes it": (f'{{"password": "two {secret}"}}', secret, r".*\*{3}.*"),
    }


KINDS = list(secret_texts(""))


@pytest.mark.requirement(3)
@pytest.mark.parametrize("kind", KINDS)
def test_what_looks_like_a_secret_is_masked_in_any_text(debug_log: "Log", kind: str) -> None:
    part, secret, masked = secret_texts(secrets.token_hex(12))[kind]
    text, client = f"see {part} there", debug_log.client

    client.get(f"/notes/{quote(text, safe='')}")
    client.get("/orders/999", params={"note": text}, headers={"X-Note": text})
    client.post("/orders", json={"notes": [text]})
    client.get("/slow", params={"seconds": 0, "name": text})
    client.get("/fail", params={"why": text})
    client.post("/login", data={"username": text, "password": "short"})

    path, order, created, slow, failed, login = debug_log.requests()
    (own,) = debug_log.lines(1, message="report ready")
    (message,) = [entry["message"] for entry in debug_log.entries(request_id=login["request_id"]) if entry != login]
    logged = {
        "path": path["path"].removeprefix("/notes/"),
        "query": order["query"]["note"][0],
        "header": order["headers"]["x-note"],
        "body": created["body"]["notes"][0],
        "the app's own line": own["report"],
        "query of the own line": slow["query"]["name"][0],
        "exception": failed["trace"].rpartition("refused: ")[2].strip(),
        "form": login["body"]["username"][0],
        "message": message.removeprefix("login failed: "),
    }
    assert secret not in debug_log.output()
    assert not {where: text for where, text in logged.items() if not re.fullmatch(f"see {masked} there", text)}


@pytest.mark.requirement(3)
def test_every_secret_of_a_text_is_masked(served: "Serve") -> None:
    log = served(LOG_LEVEL="DEBUG", LOG_BODY_BYTES="200000")
    cases = {kind: [secret_texts(secrets.token_hex(12))[kind] for _ in range(2)] for kind in KINDS}

    log.client.post("/orders", json={"notes": [f"see {one[0]} and {two[0]} too" for one, two in cases.values()]})

    logged, output = dict(zip(KINDS, log.request()["body"]["notes"], strict=True)), log.output()
    assert not [kind for kind, texts in cases.items() if any(secret in output for _, secret, _ in texts)]
    assert not [kind for kind, note in logged.items() if not re.fullmatch(r"see .*\*{3}.* and .*\*{3}.* too", note)]


CARDS = (
    "5555555555554444, 2223003122003222, 6011111111111117, 378282246310005, 36227206271667, 4222222222222, "
    "3782 822463 10005, 3782-822463-10005, 6011+1111+1111+1117, 5555%205555%205555%204444"
)


@pytest.mark.requirement(3)
def test_card_numbers_of_all_networks_are_masked(log: "Log") -> None:
    log.client.get("/orders/999", params={"note": [f"see {card}." for card in CARDS.split(", ")]})

    assert set(log.request()["query"]["note"]) == {"see ***."}


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("order 4111111111111112 of 49.90", id="16 digits that fail the check"),
        pytest.param("at 1732270000000 for 3 days", id="a time in milliseconds"),
        pytest.param("x4111111111111111 4111111111111111y é4111111111111111", id="a card number beside a letter"),
        pytest.param("41111111111111110000 1 1411 1111 1111 1111 1", id="a card number in a longer number"),
        pytest.param("8111111111111111 0000000000000000", id="first digits that no card has"),
        pytest.param("5111 222222 33334", id="the groups of another card"),
        pytest.param("the bearer of bad news, token: see below", id="a sentence"),
        pytest.param(uuid.uuid4().hex, id="a UUID"),
        pytest.param("the author @work, 2 tokens & 1 card", id="words"),
        pytest.param("https://shop.example/orders?page=2", id="a URL"),
    ],
)
def test_other_texts_are_not_masked(debug_log: "Log", text: str) -> None:
    debug_log.client.post("/orders", params={"note": text}, json={"note": text})

    entry = debug_log.request()
    assert (entry["query"], entry["body"]) == ({"note": [text]}, {"note": text})


@pytest.mark.requirement(3)
def test_a_card_number_and_an_address_are_masked_as_a_number_and_as_a_name(debug_log: "Log") -> None:
    card, address = card_number(), f"{secrets.token_hex()}@example.com"

    debug_log.post(f'{{"number": {card}, "by": {{"{address}": 1}}}}')

    assert debug_log.request(path="/orders")["body"] == {"number": "***", "by": {"***": 1}}
    assert address not in debug_log.output()


@pytest.mark.requirement(3)
def test_names_that_are_masked_alike_keep_their_values(debug_log: "Log") -> None:
    debug_log.post('{"ada@example.com": 1, "bob@example.com": 2, "eve@example.com": 3}')

    body = debug_log.request(path="/orders")["body"]
    assert sorted(body.values()) == [1, 2, 3]
    assert "example" not in json.dumps(body)


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "content_type, body",
    [
        pytest.param("text/plain", "hunter2 {}", id="text"),
        pytest.param("multipart/form-data; boundary=b", '--b\r\nname="password"\r\n\r\n{}\r\n--b--', id="multipart"),
        pytest.param("text/plain", '{{"password": "{}"}}', id="JSON that does not say so"),
        pytest.param(JSON, '{{"password": "{}"', id="JSON that is broken"),
        pytest.param(JSON, '{{"password": "{}", "padding": "' + "x" * 3000 + '"}}', id="JSON over the limit"),
        pytest.param(FORM, "password={}&padding=" + "x" * 3000, id="a form over the limit"),
        pytest.param(FORM, "x=" + "x" * 2035 + "&p=ada@{}.example", id="a form whose cut hides an address"),
        pytest.param(JSON, '{{"a":' * 50 + '{{"password": "{}"}}' + "}}" * 50, id="deep inside of JSON"),
        pytest.param(JSON, '{{"a": "{{\\"password\\": \\"{}\\"}}"}}', id="JSON inside of JSON"),
        pytest.param(JSON, '{{"password": "{}", "password": "other"}}', id="a name that comes twice"),
    ],
)
def test_a_body_that_cannot_be_masked_by_names_leaks_nothing(debug_log: "Log", content_type: str, body: str) -> None:
    secret = secrets.token_hex(16)

    debug_log.post(body.format(secret), content_type, "/upload")

    assert debug_log.request(path="/upload")
    assert secret not in debug_log.output()


@pytest.mark.requirement(3)
def test_the_secrets_of_an_answer_are_not_logged(debug_log: "Log") -> None:
    response = debug_log.client.post("/login", data={"username": "ada", "password": secrets.token_urlsafe()})

    assert debug_log.request(path="/login")["status"] == 200
    assert response.json()["token"] not in debug_log.output()
    assert response.cookies["session"] not in debug_log.output()
