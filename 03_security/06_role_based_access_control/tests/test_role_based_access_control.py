"""The specification of role-based access control, requirement by requirement."""

from __future__ import annotations

import base64
import re
import secrets
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Account, Json, Serve, Site
    from httpx2 import Response

    from grader.solution import Solution

    Pair = dict[str, Json]
    Viewers = dict[str, Account | None]

NOWHERE = 2**62  # an id that does not exist
GUESTS_MAY = {"POST /login", "GET /articles", "GET /articles/{}"}  # and GET /openapi.json, which is not in itself
ROLES = ["guest", "user", "admin"]
# The README's table: what a guest, a user and an admin get.
ROUTES = {
    "GET /articles": (200, 200, 200),
    "GET /articles/{published}": (200, 200, 200),
    "POST /articles": (401, 201, 201),
    "PATCH /articles/{own}": (401, 200, 200),
    "PATCH /articles/{published}": (401, 403, 200),
    "DELETE /articles/{published}": (401, 403, 204),
    "DELETE /articles/{own}": (401, 403, 204),
    "GET /users/me": (401, 200, 200),
    "PATCH /users/me": (401, 200, 200),
    "GET /users": (401, 403, 200),
    "HEAD /users": (401, 403, 200),
    "POST /users": (401, 403, 201),
    "PATCH /users/{user}": (401, 403, 200),
    "GET /permissions": (401, 403, 200),
    "GET /openapi.json": (200, 200, 200),
}
WITH_BODY = {"POST", "PUT", "PATCH"}


def same(response: Response) -> tuple[int, dict[str, str], bytes]:
    """All of an answer but the time of day."""
    headers = {name: value for name, value in response.headers.items() if name != "date"}
    return response.status_code, headers, response.content


@pytest.fixture
def pair(site: Site, ann: Account) -> Pair:
    """An article of ann's that is published, and one that is a draft."""
    return {kind: site.write(ann, published=kind == "published") for kind in ("published", "draft")}


@pytest.fixture
def viewers(ann: Account, bob: Account, admin: Account) -> Viewers:
    return {"guest": None, "another user": bob, "author": ann, "admin": admin}


# 1. One table.


@pytest.mark.requirement(1)
def test_an_admin_can_read_the_table_of_roles_and_permissions(site: Site, admin: Account) -> None:
    table, found = site.ask(admin, "GET", "/permissions").json(), site.operations()
    named = {operation["x-permission"] for operation in found.values() if "x-permission" in operation}
    edit, delete = (table[found[f"{method} /articles/{{}}"]["x-permission"]] for method in ("PATCH", "DELETE"))

    assert len(named) >= 5
    assert named <= set(table)
    assert all(set(reaches) == set(ROLES) for reaches in table.values())
    assert {reach for reaches in table.values() for reach in reaches.values()} == {"none", "own", "any"}
    assert edit == {"guest": "none", "user": "own", "admin": "any"}
    assert delete == {"guest": "none", "user": "none", "admin": "any"}


@pytest.mark.requirement(1)
@pytest.mark.parametrize("role", ROLES)
def test_what_the_table_says_is_what_the_app_does(site: Site, ann: Account, admin: Account, role: str) -> None:
    table = site.ask(admin, "GET", "/permissions").json()
    who = {"user": ann, "admin": admin}.get(role)

    for name, operation in site.operations().items():
        method, path = name.format(NOWHERE).split()
        refused = site.status(who, method, path, {} if method in WITH_BODY else None) in {401, 403}
        allowed = "x-permission" in operation and table[operation["x-permission"]][role] != "none"
        assert (name, refused) == (name, not allowed)


@pytest.mark.requirement(1)
@pytest.mark.parametrize("role", ["root", "Admin", "admin ", "guest2", ""])
def test_a_role_that_the_table_does_not_have_may_do_nothing(site: Site, role: str) -> None:
    somebody = site.register()

    site.sql("UPDATE users SET role = ? WHERE id = ?", role, somebody.id)

    for path in ("/users", "/users/me", "/articles", "/openapi.json"):
        assert site.status(somebody, "GET", path) == 403
    assert site.status(somebody, "POST", "/articles", {"title": "A title"}) == 403


# 2. Roles decide, and cannot be forged.


@pytest.mark.requirement(2)
@pytest.mark.parametrize("route", ROUTES)
def test_each_role_gets_what_the_readme_says(
    site: Site, ann: Account, bob: Account, admin: Account, route: str
) -> None:
    statuses = []
    for who in (None, ann, admin):
        method, path = route.split()
        body: Json | None = {"POST": {"title": "A title"}, "PATCH": {}}.get(method)
        if "{user}" in path:
            path = path.format(user=bob.id)
        elif "{" in path:
            author = (who or ann) if "{own}" in path else bob
            article = site.write(author, published=author is bob)["id"]
            path = path.format(own=article, published=article)
        elif route == "POST /users":
            address = f"{secrets.token_hex()}@example.com"
            body = {"email": address, "name": "New", "password": secrets.token_urlsafe()}
        response = site.ask(who, method, path, body)
        statuses.append(response.status_code)
        assert ("WWW-Authenticate" in response.headers) is (response.status_code == 401)

    assert tuple(statuses) == ROUTES[route]


@pytest.mark.requirement(2)
def test_only_admins_delete_and_what_is_deleted_is_gone(site: Site, ann: Account, bob: Account, admin: Account) -> None:
    article = site.write(ann, published=True)
    path = f"/articles/{article['id']}"

    assert [site.status(who, "DELETE", path) for who in (None, ann, bob)] == [401, 403, 403]
    assert site.ask(bob, "GET", path).json()["title"] == article["title"]
    assert [site.status(admin, "DELETE", path) for _ in range(2)] == [204, 404]
    assert site.status(ann, "GET", path) == 404


CLAIMS: dict[str, Json] = {
    "in headers": {"headers": {"X-Role": "admin", "Role": "admin", "X-User-Role": "admin"}},
    "as a proxy would say it": {"headers": {"X-User-Id": "1", "X-Forwarded-User": "admin"}},
    "in the query": {"params": {"role": "admin", "user_id": "1", "is_admin": "true"}},
    "in a cookie": {"headers": {"Cookie": "role=admin; user=1; admin=true"}},
}


@pytest.mark.requirement(2)
@pytest.mark.parametrize("claim", CLAIMS)
def test_a_role_that_the_request_claims_counts_for_nothing(site: Site, ann: Account, claim: str) -> None:
    article = site.write(ann, published=True)

    for who, status in ((None, 401), (ann, 403)):
        assert site.ask(who, "GET", "/users", **CLAIMS[claim]).status_code == status
        assert site.ask(who, "DELETE", f"/articles/{article['id']}", **CLAIMS[claim]).status_code == status
    assert site.status(None, "GET", f"/articles/{article['id']}") == 200


@pytest.mark.requirement(2)
def test_a_new_role_counts_from_the_next_request_on_whoever_changes_it(site: Site, admin: Account) -> None:
    somebody = site.register("admin")
    statuses = [site.status(somebody, "GET", "/users")]

    for role in ("user", "admin"):
        site.ask(admin, "PATCH", f"/users/{somebody.id}", {"role": role})
        statuses.append(site.status(somebody, "GET", "/users"))
    for role in ("user", "admin"):
        site.sql("UPDATE users SET role = ? WHERE id = ?", role, somebody.id)
        statuses.append(site.status(somebody, "GET", "/users"))

    assert statuses == [200, 403, 200, 403, 200]


@pytest.mark.requirement(2)
def test_the_last_admin_cannot_be_demoted(serve: Serve) -> None:
    site = serve()
    second, before = site.register("admin"), site.me(site.admin)

    others = site.status(site.admin, "PATCH", f"/users/{second.id}", {"role": "user"})
    last = site.status(site.admin, "PATCH", f"/users/{before['id']}", {"name": "New name", "role": "user"})

    assert (others, last) == (200, 409)
    assert site.me(site.admin) == before


@pytest.mark.requirement(2)
def test_seed_makes_an_admin_only_where_there_is_none_and_repeats_no_password(
    solution: Solution, tmp_path: Any
) -> None:
    short, long = secrets.token_urlsafe(6), secrets.token_urlsafe()
    database: Any = {"DATABASE_URL": f"sqlite:///{tmp_path / 'new.db'}", "BCRYPT_ROUNDS": "4"}

    def seed(password: str | None) -> Any:
        return solution.run("seed", ADMIN_EMAIL="boss@example.com", ADMIN_PASSWORD=password, **database)

    refused = [seed(password) for password in (None, "", short)]
    made = [seed(long), seed(long)]

    assert all(run.exit_code and run.stderr and "Traceback" not in run.stderr for run in refused)
    assert [run.json()["created"] for run in made] == [True, False]
    assert not any(password in run.stdout + run.stderr for run in refused + made for password in (short, long))


# 3. Every route passes the guard.


@pytest.mark.requirement(3)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PROPFIND", "INVENTED"])
def test_a_route_without_a_declared_permission_is_refused(site: Site, ann: Account, method: str) -> None:
    for path in ("monthly", "raw", "files", "files/", "files/2026.csv"):
        responses = [site.ask(who, method, f"{site.reports}/{path}") for who in (None, ann, site.admin)]

        assert not any(response.is_success or "internal use" in response.text for response in responses)
        if method == "GET" and path != "files":
            assert [response.status_code for response in responses] == [401, 403, 403]


@pytest.mark.requirement(3)
def test_a_websocket_without_a_declared_permission_is_refused(site: Site, ann: Account) -> None:
    handshake = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    handshake |= {"Sec-WebSocket-Key": base64.b64encode(secrets.token_bytes(16)).decode()}

    statuses = [site.raw(who, "GET", f"{site.reports}/live", handshake) for who in (None, ann, site.admin)]

    assert all(400 <= status < 500 for status in statuses)


@pytest.mark.requirement(3)
def test_only_the_report_has_no_declared_permission(site: Site) -> None:
    undeclared = [name for name, operation in site.operations().items() if not operation.get("x-permission")]

    assert undeclared == [f"GET {site.reports}/monthly"]


@pytest.mark.requirement(3)
def test_the_document_has_every_route_and_guests_may_use_only_those_that_the_readme_opens(site: Site) -> None:
    statuses = {}
    for name in site.operations():
        method, path = name.format(NOWHERE).split()
        statuses[name] = site.status(None, method, path, {} if method in WITH_BODY else None)

    documented = {re.sub("{.*}", "{}", route) for route in ROUTES} - {"GET /openapi.json", "HEAD /users"} | {
        "POST /login"
    }
    assert documented <= set(statuses)
    assert {name for name, status in statuses.items() if status != 401} == GUESTS_MAY


@pytest.mark.requirement(3)
def test_no_method_of_any_path_is_open_by_accident(site: Site) -> None:
    paths = {name.split()[1].format(1) for name in site.operations()}
    paths |= {f"{site.reports}/raw", f"{site.reports}/files/1", "/", "/admin", "/docs", "/redoc", "/static/x"}
    reading = {"GET", "HEAD", "OPTIONS"}

    for path in sorted(paths):
        for method in sorted(reading | {"POST", "PUT", "PATCH", "DELETE", "PROPFIND", "INVENTED"}):
            if method not in reading or path not in {"/articles", "/articles/1", "/login"}:
                status = site.raw(None, method, path)
                assert 300 <= status < 500, f"{method} {path}: {status}"


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "written",
    [
        "/users/", "//users", "/USERS", "/./users", "/articles/../users", "/articles/%2e%2e/users", "/%75sers",
        "/users%0a", "/users%0d", "/users%20", "/users%00", "/users%2f", "/%2fusers", "/users%3f", "/users;a=1",
        "/users?x=/articles", "/users.json", "/users/me/..", "/articles/..%2fusers", "/openapi.json/../users",
        "http://localhost/users", "/%70ermissions", "/permissions%0a", "{reports}/files/../monthly",
        "{reports}%2fraw", "{reports}/%72aw", "{reports}/monthly%0a",
    ],
)  # fmt: skip
def test_another_spelling_of_a_path_is_guarded_too(site: Site, ann: Account, written: str) -> None:
    statuses = [site.raw(who, "GET", written.replace("{reports}", site.reports)) for who in (None, ann)]

    assert all(300 <= status < 500 for status in statuses)


@pytest.mark.requirement(3)
def test_another_spelling_of_a_delete_is_guarded_too(site: Site, ann: Account) -> None:
    article = site.write(ann, published=True)["id"]
    spellings = ["/articles/{}/", "//articles/{}", "/%61rticles/{}", "/articles/{}%0a", "/articles/{}?a=/login"]

    statuses = [site.raw(who, "DELETE", path.format(article)) for path in spellings for who in (None, ann)]
    override = {"X-HTTP-Method-Override": "DELETE", "X-Original-URL": f"/articles/{article}", "X-Method": "DELETE"}
    site.ask(ann, "GET", f"/articles/{article}", headers=override)
    site.ask(ann, "POST", f"/articles/{article}", {}, headers=override)

    assert all(300 <= status < 500 for status in statuses)
    assert site.status(ann, "GET", f"/articles/{article}") == 200


@pytest.mark.requirement(3)
@pytest.mark.parametrize("body", [b"{", b"\xff", b"", b"[1]", b'{"x": 1}'], ids=repr)
def test_whoever_may_not_is_refused_before_the_input_is_checked(site: Site, ann: Account, body: bytes) -> None:
    guests = [("PATCH", "/users/me", body), ("POST", "/articles", body), ("PATCH", "/articles/none", body)]
    users = [("POST", "/users", body), ("PATCH", "/users/none", body), ("DELETE", "/articles/none", None)]

    assert [site.status(None, *request) for request in guests + users] == [401] * 6
    assert [site.status(ann, *request) for request in users] == [403] * 3


# 4. What each role sees.


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "query",
    [
        "", "status=draft", "author={author}", "search={title}", "search={text}", "status=draft&author={author}",
        "status=draft&search={title}", "author={author}&search={text}", "author={author}&search={text}&status=draft",
    ],
)  # fmt: skip
def test_a_list_has_the_drafts_that_the_reader_may_see_and_no_others(
    site: Site, viewers: Viewers, pair: Pair, query: str
) -> None:
    draft = pair["draft"]
    words = {"author": draft["author"]["id"], "title": draft["title"].lower(), "text": draft["text"]}

    answers = {who: site.ask(viewer, "GET", f"/articles?{query.format(**words)}") for who, viewer in viewers.items()}

    listed = {who: draft["id"] in [article["id"] for article in answer.json()] for who, answer in answers.items()}
    assert listed == {"guest": False, "another user": False, "author": True, "admin": True}
    assert listed == {who: draft["text"] in answer.text for who, answer in answers.items()}


@pytest.mark.requirement(4)
def test_each_filter_narrows_the_list(site: Site, ann: Account, bob: Account, pair: Pair) -> None:
    def ids(query: str) -> set[int]:
        return {article["id"] for article in site.ask(ann, "GET", f"/articles?{query}").json()} & known

    published, draft, of_bob = pair["published"]["id"], pair["draft"]["id"], site.write(bob, published=True)["id"]
    title, known = pair["published"]["title"], {published, draft, of_bob}

    assert ids("") == known
    assert ids("status=published") == {published, of_bob}
    assert ids("status=draft") == {draft}
    assert ids(f"author={ann.id}") == {published, draft}
    assert ids(f"author={ann.id}&status=published") == ids(f"search={title[3:].upper()}") == {published}
    assert ids(f"author={bob.id}&search={title}") == ids(f"status=draft&search={title}") == set()
    assert ids("search=%25") == ids("search=T_tle") == set()


@pytest.mark.requirement(4)
def test_a_draft_is_read_by_its_author_and_admins_also_when_it_was_published(
    site: Site, ann: Account, viewers: Viewers, pair: Pair
) -> None:
    draft, published = (f"/articles/{pair[kind]['id']}" for kind in ("draft", "published"))

    before = [site.status(who, "GET", path) for path in (draft, published) for who in viewers.values()]
    changed = site.status(ann, "PATCH", published, {"published": False})
    after = [site.status(who, "GET", published) for who in viewers.values()]

    assert (before, changed) == ([404, 404, 200, 200] + [200] * 4, 200)
    assert after == [404, 404, 200, 200]


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "who, method, body, status",
    [
        ("guest", "GET", None, 404), ("another user", "GET", None, 404), ("another user", "HEAD", None, 404),
        ("another user", "PATCH", {"title": "Mine"}, 404), ("another user", "PATCH", {"published": True}, 404),
        ("another user", "PATCH", {}, 404), ("another user", "PATCH", {"title": 1}, 422),
        ("another user", "DELETE", None, 403), ("guest", "DELETE", None, 401),
        ("guest", "PATCH", {"title": "Mine"}, 401),
    ],
)  # fmt: skip
def test_a_draft_of_somebody_else_looks_like_one_that_does_not_exist(
    site: Site, viewers: Viewers, pair: Pair, *, who: str, method: str, body: Json, status: int
) -> None:
    draft, caller = pair["draft"], viewers[who]

    hidden = site.ask(caller, method, f"/articles/{draft['id']}", body)
    missing = site.ask(caller, method, f"/articles/{NOWHERE}", body)

    assert hidden.status_code == status
    assert same(hidden) == same(missing)
    assert site.ask(viewers["author"], "GET", f"/articles/{draft['id']}").json() == draft


@pytest.mark.requirement(4)
def test_a_published_article_of_somebody_else_is_a_403_to_change(
    site: Site, ann: Account, bob: Account, pair: Pair
) -> None:
    path = f"/articles/{pair['published']['id']}"

    statuses = [site.status(bob, "PATCH", path, body) for body in ({"title": "Mine"}, {"published": False}, {})]

    assert statuses == [403, 403, 403]
    assert site.ask(ann, "GET", path).json() == pair["published"]


@pytest.mark.requirement(4)
def test_a_user_cannot_tell_which_users_exist(site: Site, ann: Account, bob: Account) -> None:
    answers = [site.ask(bob, "PATCH", f"/users/{number}", {"name": "X"}) for number in (ann.id, bob.id, NOWHERE)]

    assert answers[0].status_code == 403
    assert same(answers[0]) == same(answers[1]) == same(answers[2])
    assert site.status(site.admin, "PATCH", f"/users/{NOWHERE}", {"name": "X"}) == 404


@pytest.mark.requirement(4)
def test_an_email_is_shown_to_its_owner_and_to_admins(site: Site, ann: Account, viewers: Viewers, pair: Pair) -> None:
    article, without = pair["published"], {"id": ann.id, "name": ann.name}

    for who, viewer in viewers.items():
        shown = who in {"author", "admin"}
        one = site.ask(viewer, "GET", f"/articles/{article['id']}").json()
        lists = [site.ask(viewer, "GET", f"/articles{query}") for query in ("", f"?search={article['title']}")]
        assert one["author"] == (without | {"email": ann.email} if shown else without)
        assert [ann.email in answer.text for answer in lists] == [shown, shown]


@pytest.mark.requirement(4)
def test_what_a_change_answers_shows_no_more_than_reading(site: Site, ann: Account, pair: Pair) -> None:
    path = f"/articles/{pair['published']['id']}"

    by_admin = site.ask(site.admin, "PATCH", path, {"title": "Better"}).json()
    by_ann = site.ask(ann, "PATCH", path, {"text": "Longer"}).json()
    of_admin = site.ask(ann, "GET", f"/articles/{site.write(site.admin, published=True)['id']}").json()

    assert pair["published"]["author"] == {"id": ann.id, "name": ann.name, "email": ann.email}
    assert by_admin == pair["published"] | {"title": "Better"}
    assert by_ann == by_admin | {"text": "Longer"}
    assert "email" not in of_admin["author"]


@pytest.mark.requirement(4)
def test_a_search_does_not_find_by_an_email_that_the_reader_may_not_see(
    site: Site, ann: Account, viewers: Viewers, pair: Pair
) -> None:
    article = pair["published"]["id"]

    for part in (ann.email, ann.email.partition("@")[0], ann.email[:12].upper()):
        answers = {who: site.ask(viewer, "GET", f"/articles?search={part}") for who, viewer in viewers.items()}
        found = {who: article in [each["id"] for each in answer.json()] for who, answer in answers.items()}
        assert found == {"guest": False, "another user": False, "author": True, "admin": True}


@pytest.mark.requirement(4)
@pytest.mark.parametrize("field", ["author", "author_id", "user_id", "id", "role", "email", "surprise"])
def test_a_body_sets_no_field_of_an_article_that_it_does_not_have(
    site: Site, ann: Account, bob: Account, pair: Pair, field: str
) -> None:
    path, value = f"/articles/{pair['draft']['id']}", {"author": {"id": bob.id}}.get(field, bob.id)

    statuses = [
        site.status(ann, "POST", "/articles", {"title": "A title", field: value}),
        site.status(ann, "PATCH", path, {"title": "Another", field: value}),
    ]

    assert statuses == [422, 422]
    assert site.ask(ann, "GET", path).json() == pair["draft"]


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "field, value",
    [("role", "admin"), ("is_admin", True), ("id", 1), ("email", "x@example.com"), ("password_hash", "x"),
     ("password", "a new password, long enough"), ("permissions", ["users:manage"])],
)  # fmt: skip
def test_a_body_sets_no_field_of_a_user_that_it_does_not_have(site: Site, field: str, value: object) -> None:
    somebody = site.register()
    before = site.me(somebody)

    assert site.status(somebody, "PATCH", "/users/me", {"name": "New name", field: value}) == 422
    if field != "role":
        assert site.status(site.admin, "PATCH", f"/users/{somebody.id}", {"name": "New name", field: value}) == 422
    assert site.me(somebody) == before
    assert site.status(somebody, "GET", "/users") == 403


# What is not valid: a title, a text or `published` of an article; a name, an email or a password of a user.
INVALID: dict[str, list[Any]] = {
    "title": ["", " \t", "x" * 201, 1, None, ["x"], "\x00"],
    "text": ["x" * 10_001, 1, None, "\x00"],
    "published": ["true", 1, None],
    "name": ["", "   ", "x" * 101, 1, None],
    "email": ["", "ann", "@", "a@", "a@b@c", "a b@c", "ä@b", "\u212a@b", "x" * 250 + "@x.com", 1, None],
    "password": ["x" * 14, "x" * 73, "ä" * 20, "x" * 20 + "\n", 10**20, None],
    "role": ["guest", "root", "Admin", "", True, ["admin"], None],
}


@pytest.mark.requirement(4)
@pytest.mark.parametrize("field", INVALID)
def test_an_invalid_value_is_a_422_that_does_not_repeat_it(site: Site, admin: Account, field: str) -> None:
    secret = secrets.token_urlsafe()
    valid: Json = {"title": "A title"}
    if field in {"name", "email", "password", "role"}:
        valid = {"email": f"{secrets.token_hex()}@example.com", "name": "New", "password": secret}
    path = "/articles" if "title" in valid else "/users"

    for value in [*INVALID[field], {"secret": secret}]:
        response = site.ask(admin, "POST", path, valid | {field: value})
        assert (response.status_code, value) == (422, value)
        assert secret not in response.text
        if field in {"name", "role"}:
            assert site.status(admin, "PATCH", f"/users/{admin.id}", {field: value}) == 422
    assert site.status(admin, "POST", path, valid) == 201


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "path",
    ["/articles/0", "/articles/-1", "/articles/x", f"/articles/{2**63}", "/articles?author=0",
     f"/articles?author={2**63}", "/articles?author=x", "/articles?status=hidden", f"/articles?search={'x' * 101}"],
)  # fmt: skip
def test_an_invalid_id_or_filter_is_a_422(site: Site, path: str) -> None:
    assert site.status(None, "GET", path) == 422


@pytest.mark.requirement(4)
@pytest.mark.parametrize("body", [b"{", b"\xff", b"[1]", b"null", b'"x"', b'{"title": NaN}', b"[" * 5000], ids=range(7))
def test_a_body_that_is_not_a_json_object_is_a_400_or_422(site: Site, ann: Account, body: bytes) -> None:
    assert site.status(ann, "POST", "/articles", body) in {400, 422}


@pytest.mark.requirement(4)
def test_no_answer_about_a_user_has_a_password_or_its_hash(site: Site, admin: Account) -> None:
    password = secrets.token_urlsafe()
    new = {"email": f"{secrets.token_hex()}@example.com", "name": "New", "password": password, "role": "user"}

    created = site.ask(admin, "POST", "/users", new)
    changed = site.ask(admin, "PATCH", f"/users/{created.json()['id']}", {"name": "New"})
    answers = [created, changed, site.ask(admin, "GET", "/users"), site.ask(admin, "POST", "/users", new)]

    assert [answer.status_code for answer in answers] == [201, 200, 200, 409]
    assert {**created.json(), "id": 0} == {"id": 0, "email": new["email"], "name": "New", "role": "user"}
    assert not any(password in answer.text or "$2" in answer.text for answer in answers)


@pytest.mark.requirement(4)
def test_each_denial_is_a_line_of_json_with_who_what_and_why(serve: Serve) -> None:
    site = serve(isolated=True)
    ann, bob, odd = site.register(), site.register(), site.register()
    site.sql("UPDATE users SET role = 'root' WHERE id = ?", odd.id)
    draft, published = (site.write(ann, published=kind)["id"] for kind in (False, True))
    for allowed in (f"/articles/{draft}", f"/articles/{NOWHERE}", "/articles"):
        site.ask(ann, "GET", allowed)
    requests: list[tuple[Account | None, str, str, int, str]] = [
        (None, "GET", "/users", 401, "guest"),
        (None, "HEAD", "/users", 401, "guest"),
        (bob, "DELETE", f"/articles/{published}", 403, "user"),
        (bob, "PATCH", f"/articles/{published}", 403, "user"),
        (bob, "PATCH", f"/articles/{draft}", 404, "user"),
        (None, "GET", f"/articles/{draft}", 404, "guest"),
        (odd, "GET", "/users", 403, "root"),
        (None, "GET", f"{site.reports}/files/a-long-name/2026.csv", 401, "guest"),
        (site.admin, "GET", f"{site.reports}/raw", 403, "admin"),
    ]

    statuses = [site.status(who, method, f"{path}?page=2", {}) for who, method, path, *_ in requests]
    entries = site.denials(len(requests))

    assert statuses == [request[3] for request in requests]
    told = [tuple(entry[name] for name in ("who", "method", "path", "status", "role")) for entry in entries]
    assert told == [(who.id if who else None, *request) for who, *request in requests]
    assert all(entry["reason"] for entry in entries)
    assert [isinstance(entry["permission"], str) for entry in entries] == [True] * 7 + [False] * 2
    assert entries[-1]["permission"] is entries[-2]["permission"] is None


@pytest.mark.requirement(4)
def test_no_token_password_or_body_is_in_the_output(serve: Serve) -> None:
    site = serve(isolated=True)
    somebody, wrong = site.register(), secrets.token_urlsafe()
    changed = f"{somebody.token[:-6]}AAAAAA"

    site.ask(None, "POST", "/login", {"email": somebody.email, "password": [wrong]})
    site.ask(site.admin, "POST", "/users", {"email": wrong, "name": wrong, "password": wrong, "token": wrong})
    site.ask(somebody, "PATCH", "/users/me", f'{{"name": "{wrong}"'.encode())
    site.ask(somebody, "GET", f"/articles?access_token={somebody.token}")
    site.ask(None, "GET", "/users", headers={"Authorization": f"Bearer {changed}"})
    site.ask(somebody, "GET", f"/users?access_token={somebody.token}")
    site.ask(None, "POST", "/login", {"email": somebody.email, "password": wrong})

    entries = site.denials(3)
    assert [(entry["status"], entry["who"]) for entry in entries] == [(401, None), (403, somebody.id), (401, None)]
    hidden = [*changed.split(".")[1:], *somebody.token.split(".")[1:], wrong, somebody.password, site.key]
    assert not any(secret in site.client.output for secret in hidden)
