"""The specification of requirement 2, as far as it is about tokens, the key that signs them, and logins."""

from __future__ import annotations

import base64
import hmac
import json
import os
import secrets
import time
from typing import TYPE_CHECKING, Any

import pytest

from grader.solution import SolutionCrashedError

if TYPE_CHECKING:
    from conftest import Account, Json, Serve, Site
    from httpx2 import Response

    from grader.solution import Solution

LARGEST = 2**63 - 1


def encode(part: Any) -> str:
    content = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def parts(token: str) -> tuple[Json, Json]:
    """The header and the claims of a token."""
    header, claims, _ = token.split(".")
    read = (json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in (header, claims))
    return next(read), next(read)


def sign(header: Json, claims: Any, key: str, digest: str = "sha256") -> str:
    """A token as its issuer makes it (RFC 7515 §3), with any header, claims and key."""
    content = f"{encode(header)}.{encode(claims)}"
    return f"{content}.{encode(hmac.digest(os.fsencode(key), content.encode(), digest))}"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def same(response: Response) -> tuple[int, dict[str, str], bytes]:
    """All of an answer but the time of day."""
    headers = {name: value for name, value in response.headers.items() if name != "date"}
    return response.status_code, headers, response.content


@pytest.mark.requirement(2)
def test_a_token_is_a_jwt_of_hs256_that_ends_within_an_hour_and_has_no_role_or_hash(site: Site) -> None:
    boss = site.register("admin")
    response = site.ask(None, "POST", "/login", {"email": boss.email, "password": boss.password})
    header, claims = parts(response.json()["access_token"])
    [[stored]] = site.sql("SELECT password_hash FROM users WHERE id = ?", boss.id)

    assert response.json()["token_type"].lower() == "bearer"
    assert header["alg"] == "HS256"
    assert 0 < claims["exp"] - time.time() <= 3600
    assert response.json()["expires_in"] == pytest.approx(claims["exp"] - time.time(), abs=5)
    assert claims["sub"] == str(boss.id)
    assert not any(secret in json.dumps([header, claims]) for secret in ("admin", stored))


FORGERIES: dict[str, Any] = {
    "alg none, no signature": lambda h, c, _: f"{encode(h | {'alg': 'none'})}.{encode(c)}.",
    "alg nOnE, no signature": lambda h, c, _: f"{encode(h | {'alg': 'nOnE'})}.{encode(c)}.",
    "alg none, still signed": lambda h, c, key: sign(h | {"alg": "none"}, c, key),
    "no alg": lambda _, c, key: sign({"typ": "JWT"}, c, key),
    "HS512, the right key": lambda h, c, key: sign(h | {"alg": "HS512"}, c, key, "sha512"),
    "no signature": lambda h, c, _: f"{encode(h)}.{encode(c)}.",
    "another key": lambda h, c, _: sign(h, c, secrets.token_urlsafe(48)),
    "a key in the header": lambda h, c, _: sign(h | {"jwk": {"kty": "oct", "k": encode(b"k" * 32)}}, c, "k" * 32),
    "no exp": lambda h, c, key: sign(h, {k: v for k, v in c.items() if k != "exp"}, key),
    "exp is null": lambda h, c, key: sign(h, c | {"exp": None}, key),
    "expired a second ago": lambda h, c, key: sign(h, c | {"exp": int(time.time()) - 1}, key),
    "an id that does not exist": lambda h, c, key: sign(h, c | {"sub": str(LARGEST - 7)}, key),
    "an id that is too large": lambda h, c, key: sign(h, c | {"sub": str(LARGEST + 1)}, key),
    "a sub that is not an id": lambda h, c, key: sign(h, c | {"sub": "admin"}, key),
    "no sub": lambda h, c, key: sign(h, {k: v for k, v in c.items() if k != "sub"}, key),
    "claims that are a list": lambda h, _, key: sign(h, [1], key),
    "two parts": lambda h, c, _: f"{encode(h)}.{encode(c)}",
    "deeply nested": lambda _, c, __: f"{encode(b'[' * 2000)}.{encode(c)}.x",
}


@pytest.mark.requirement(2)
@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_token_that_the_key_has_not_signed_or_that_has_expired_is_a_401(
    site: Site, admin: Account, forgery: str
) -> None:
    header, claims = parts(admin.token)
    control = sign(header, claims, site.key)
    forged = FORGERIES[forgery](header, claims, site.key)

    assert site.client.get("/users", headers=bearer(control)).status_code == 200
    assert site.client.get("/users", headers=bearer(forged)).status_code == 401


@pytest.mark.requirement(2)
@pytest.mark.parametrize("scheme", ["", "Basic ", "Token ", "Bearer", "Bearer Bearer ", "changed"])
def test_an_authorization_header_that_is_not_a_valid_token_is_a_401_also_where_guests_may_go(
    site: Site, ann: Account, admin: Account, scheme: str
) -> None:
    article = site.write(ann, published=True)["id"]
    header, claims = parts(ann.token)
    other = f"{encode(header)}.{encode(claims | {'sub': str(admin.id)})}.{ann.token.split('.')[2]}"
    value = {"Authorization": f"Bearer {other}" if scheme == "changed" else f"{scheme}{admin.token}"}

    responses = [
        site.client.get(path, headers=value)
        for path in ("/users", "/articles", f"/articles/{article}", "/openapi.json")
    ]
    login = {"email": ann.email, "password": ann.password}
    responses += [site.ask(None, "POST", "/login", login, headers=value)]

    assert [response.status_code for response in responses] == [401] * 5
    assert all(response.headers["WWW-Authenticate"].lower().startswith("bearer") for response in responses)


@pytest.mark.requirement(2)
def test_the_token_of_a_user_who_is_gone_is_a_401(site: Site) -> None:
    somebody = site.register("admin")

    site.sql("DELETE FROM users WHERE id = ?", somebody.id)

    assert site.status(somebody, "GET", "/users") == 401
    assert site.status(somebody, "GET", "/articles") == 401


@pytest.mark.requirement(2)
def test_ids_are_valid_up_to_the_largest_that_the_database_has(site: Site, admin: Account, ann: Account) -> None:
    columns = "email, name, password_hash, role, created_at"
    site.sql(f"INSERT INTO users (id, {columns}) SELECT ?, 'z' || {columns} FROM users WHERE id = ?", LARGEST, ann.id)  # noqa: S608
    header, claims = parts(ann.token)

    response = site.client.get("/users/me", headers=bearer(sign(header, claims | {"sub": str(LARGEST)}, site.key)))
    site.sql("DELETE FROM users WHERE id = ?", LARGEST)

    assert (response.status_code, response.json()["id"]) == (200, LARGEST)
    assert site.status(None, "GET", f"/articles/{LARGEST}") == 404
    assert site.status(admin, "PATCH", f"/users/{LARGEST}", {"name": "X"}) == 404


@pytest.mark.requirement(2)
def test_a_failed_login_does_not_tell_whether_the_email_is_known(site: Site, ann: Account) -> None:
    wrong = {"password": "not the right one"}
    known = site.ask(None, "POST", "/login", wrong | {"email": ann.email})
    unknown = site.ask(None, "POST", "/login", wrong | {"email": "nobody@example.com"})
    long = site.ask(None, "POST", "/login", {"email": ann.email, "password": ann.password + "x" * 99})

    assert known.status_code == 401
    assert same(known) == same(unknown) == same(long)


@pytest.mark.requirement(2)
@pytest.mark.parametrize("stored", [None, "", "not a hash", "$2b$99$" + "x" * 53])
def test_with_a_stored_hash_that_cannot_be_read_a_login_fails(site: Site, stored: str | None) -> None:
    somebody = site.register()

    site.sql("UPDATE users SET password_hash = ? WHERE id = ?", stored, somebody.id)

    assert site.status(None, "POST", "/login", {"email": somebody.email, "password": somebody.password}) == 401


@pytest.mark.requirement(2)
def test_the_case_of_an_emails_letters_does_not_matter(site: Site, admin: Account) -> None:
    somebody = site.register(prefix="KIM")
    login = {"password": somebody.password, "email": somebody.email.lower()}

    assert site.me(somebody)["email"] == somebody.email.lower()
    assert site.status(None, "POST", "/login", login) == 200
    assert site.status(None, "POST", "/login", login | {"email": somebody.email.replace("K", "\u212a")}) == 401
    assert site.status(admin, "POST", "/users", login | {"name": "Kim", "password": secrets.token_urlsafe()}) == 409


@pytest.mark.requirement(2)
@pytest.mark.parametrize("key", [None, "", "k" * 31, "é" * 15], ids=["none", "empty", "31 bytes", "30 bytes"])
def test_without_a_long_enough_secret_key_the_app_does_not_start(
    solution: Solution, shared_path: Any, key: str
) -> None:
    with pytest.raises(SolutionCrashedError):
        solution.serve(SECRET_KEY=key, DATABASE_URL=f"sqlite:///{shared_path / 'never.db'}", BCRYPT_ROUNDS="4")


@pytest.mark.requirement(2)
@pytest.mark.parametrize("key", ["é" * 16, os.fsdecode(b"\xff\x80" * 16)], ids=["not ASCII", "not UTF-8"])
def test_the_secret_key_is_bytes_of_any_value(serve: Serve, key: str) -> None:
    site = serve(key)

    signed = sign(*parts(site.admin.token), key)

    assert site.client.get("/users", headers=bearer(signed)).status_code == 200
