"""The specification of a cached resource, requirement by requirement."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest
import redis
from httpx2 import Response

from grader.solution import Client, Solution, wait_until

if TYPE_CHECKING:
    from conftest import Line, Postgres

Json = dict[str, Any]
Env = dict[str, Any]  # of strings; mypy would think that `isolated` could be among them
Create = Callable[..., Any]
RenameRow = Callable[[Json], str]
Background = Callable[..., Future[Response]]
Soon = Callable[..., Response]

SOMEBODY = {"Authorization": "Bearer a-token-of-somebody"}


def url(product: Json) -> str:
    return f"/products/{product['id']}"


def list_of(category: str) -> str:
    return f"/products?category={category.replace(' ', '%20')}"


def reads_of(product: Json) -> dict[str, str]:
    return {"one": url(product), "all": "/products", "a category": list_of(product["category"])}


READS = ["one", "all", "a category"]


def names(response: Response) -> list[str]:
    """The names of the product or the products in an answer; none for a 404."""
    if response.status_code == 404:
        return []
    assert response.status_code == 200, response.text
    body = response.json()
    return [product["name"] for product in (body if isinstance(body, list) else [body])]


def is_hit(response: Response) -> bool:
    assert response.headers["X-Cache"] in ("HIT", "MISS")
    return response.headers["X-Cache"] == "HIT"


def cache_control(response: Response) -> dict[str, str]:
    """The directives of Cache-Control by name."""
    parts = response.headers.get("Cache-Control", "").lower().split(",")
    return {name.strip(): value.strip(' "') for name, _, value in (part.partition("=") for part in parts)}


def fresh_seconds(response: Response) -> int:
    """How long a cache outside may use the answer without asking (RFC 9111 §4.2)."""
    directives = cache_control(response)
    if "no-cache" in directives or "no-store" in directives:
        return 0
    lifetime = directives.get("s-maxage") or directives["max-age"]
    return max(0, int(lifetime) - int(response.headers.get("Age", "0")))


# 1. Common reads are cached, personal answers and errors are not.


@pytest.mark.requirement(1)
@pytest.mark.parametrize("what", READS)
def test_the_second_read_is_a_hit_with_the_same_answer(client: Client, create: Create, what: str) -> None:
    path = reads_of(create())[what]

    first, second = client.get(path), client.get(path)

    assert (is_hit(first), is_hit(second)) == (False, True)
    assert second.json() == first.json()
    assert second.headers["Content-Type"] == first.headers["Content-Type"]


@pytest.mark.requirement(1)
@pytest.mark.parametrize("what", READS)
def test_a_hit_does_not_look_into_the_database(
    client: Client, create: Create, rename_row: RenameRow, what: str
) -> None:
    product = create()
    path = reads_of(product)[what]
    first = client.get(path)
    rename_row(product)

    second = client.get(path)

    assert is_hit(second)
    assert second.json() == first.json()


@pytest.mark.requirement(1)
@pytest.mark.parametrize("what", READS)
def test_a_read_with_authorization_is_not_answered_from_the_cache(
    client: Client, create: Create, rename_row: RenameRow, what: str
) -> None:
    product = create()
    path = reads_of(product)[what]
    client.get(path)
    new_name = rename_row(product)

    personal = client.get(path, headers=SOMEBODY)

    assert new_name in names(personal)
    assert not is_hit(personal)


@pytest.mark.requirement(1)
@pytest.mark.parametrize("what", READS)
def test_an_answer_to_authorization_is_not_stored(
    client: Client, create: Create, rename_row: RenameRow, what: str
) -> None:
    product = create()
    path = reads_of(product)[what]
    client.get(path, headers=SOMEBODY)
    new_name = rename_row(product)

    public = client.get(path)

    assert new_name in names(public)
    assert not is_hit(public)


@pytest.mark.requirement(1)
@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer x", "Digest username=a", "x"])
@pytest.mark.parametrize("is_cached", [True, False], ids=["after a public read", "before any"])
def test_an_answer_to_authorization_is_for_no_shared_cache(
    client: Client, create: Create, header: str, is_cached: bool
) -> None:
    path = url(create())
    if is_cached:
        client.get(path)

    directives = cache_control(client.get(path, headers={"authorization": header}))

    assert "public" not in directives
    assert "private" in directives or "no-store" in directives


@pytest.mark.requirement(1)
def test_a_product_that_was_missing_is_found_when_it_appears(client: Client, create: Create) -> None:
    next_path = f"/products/{create()['id'] + 1}"
    missing = [client.get(next_path).status_code for _ in range(2)]

    created = create()

    assert missing == [404, 404]
    assert (url(created), client.get(url(created)).json()) == (next_path, created)


@pytest.mark.requirement(1)
def test_a_missing_product_is_looked_for_each_time(client: Client, create: Create) -> None:
    path = url(create())
    client.delete(path)

    answers = [client.get(path) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert "HIT" not in [answer.headers.get("X-Cache") for answer in answers]


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "path, status",
    [
        pytest.param("/products/999999999", 404, id="a missing product"),
        pytest.param("/products?category=", 422, id="an empty category"),
        pytest.param(f"/products?category={'x' * 51}", 422, id="a category that is too long"),
        pytest.param("/products?category=%00", 422, id="a category with a NUL"),
    ],
)
def test_no_cache_outside_may_keep_an_error(client: Client, path: str, status: int) -> None:
    response = client.get(path)

    assert response.status_code == status
    assert "no-store" in cache_control(response)


# 2. The cache lives in Redis, under keys that name what the answer depends on.


@pytest.mark.requirement(2)
def test_what_one_process_has_loaded_is_a_hit_in_another(
    two_processes: tuple[Client, Client], create: Create, rename_row: RenameRow
) -> None:
    one, other = two_processes
    product = create(on=one)
    loaded = one.get(url(product))
    rename_row(product)

    found = other.get(url(product))

    assert is_hit(found)
    assert found.json() == loaded.json()


@pytest.mark.requirement(2)
def test_the_cache_outlives_the_process(environment: Env, solution: Solution, create: Create) -> None:
    path = url(create())
    before = solution.serve(**environment)
    before.get(path)
    before.stop()

    after = solution.serve(**environment)

    assert is_hit(after.get(path))


@pytest.mark.requirement(2)
def test_with_redis_emptied_everything_is_loaded_anew(
    client: Client, create: Create, rename_row: RenameRow, redis_url: str
) -> None:
    product = create()
    client.get(url(product))
    new_name = rename_row(product)

    with redis.Redis.from_url(redis_url) as connection:
        connection.flushdb()

    assert names(client.get(url(product))) == [new_name]
    assert is_hit(client.get(url(product)))


@pytest.mark.requirement(2)
def test_every_category_has_an_entry_of_its_own(client: Client, create: Create) -> None:
    product = create()
    look_alikes = ["None", "null", "*", "all", "lists", str(product["id"]), f"products/{product['id']}"]
    look_alikes += ["a b", "a+b", "a%20b", "a&category=b", "a", "A", "a:b", "ä", "a\u0308"]
    for category in look_alikes:
        create(category=category, name=f"of {category}")

    everything, one = client.get("/products").json(), client.get(url(product)).json()
    lists = {category: names(client.get("/products", params={"category": category})) for category in look_alikes}

    assert len(everything) > len(look_alikes)
    assert one == product
    assert lists == {category: [f"of {category}"] for category in look_alikes}


@pytest.mark.requirement(2)
@pytest.mark.parametrize("query", ["utm_source=mail", "page=2", "Category=x", "category%5B%5D=x", "_=1700000000"])
@pytest.mark.parametrize("what", READS)
def test_a_parameter_that_nobody_knows_does_not_load_anew(
    client: Client, create: Create, what: str, query: str
) -> None:
    path = reads_of(create())[what]
    client.get(path)

    response = client.get(f"{path}{'&' if '?' in path else '?'}{query}")

    assert is_hit(response)


@pytest.mark.requirement(2)
def test_of_a_hundred_who_miss_at_once_one_loads(
    two_on_postgres: tuple[Client, Client], create: Create, postgres: "Postgres", background: Background
) -> None:
    path = list_of(create(on=two_on_postgres[0])["category"])

    with postgres.lock_products():
        futures = [background(two_on_postgres[number % 2].get, path) for number in range(100)]
        wait_until(postgres.waiting)
        later = [background(server.get, "/nothing") for server in two_on_postgres * 5]
        for _ in until(1.5):  # nobody need wait longer than 3 seconds
            if postgres.waiting() > 1 or all(answer.done() for answer in later):
                break
        most_at_once = max(postgres.waiting() for _ in until(0.3))
    answers = [future.result() for future in futures]

    assert most_at_once == 1
    assert {answer.status_code for answer in answers} == {200}
    assert [is_hit(answer) for answer in answers].count(False) == 1
    assert len({answer.content for answer in answers}) == 1


def until(seconds: float) -> Iterator[None]:
    """Go round for so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield


@pytest.mark.requirement(2)
def test_of_many_who_ask_for_a_missing_product_at_once_all_are_told(client: Client, background: Background) -> None:
    start = threading.Barrier(40)

    def ask() -> Response:
        start.wait()
        return client.get("/products/999999998")

    futures = [background(ask) for _ in range(40)]

    assert {future.result().status_code for future in futures} == {404}


@pytest.mark.requirement(2)
def test_a_process_that_is_killed_while_it_loads_keeps_nobody_waiting(
    two_on_postgres: tuple[Client, Client], create: Create, postgres: "Postgres", background: Background, soon: Soon
) -> None:
    doomed, other = two_on_postgres
    product = create(on=other)
    with postgres.lock_products():
        lost = background(doomed.get, url(product))
        wait_until(postgres.waiting)
        assert doomed.process
        doomed.process.kill()

    response = soon(other.get, url(product), timeout=10, within=8)

    assert response.json() == product
    assert lost.exception()


@pytest.mark.requirement(2)
@pytest.mark.parametrize("how", ["refuses", "is silent"])
def test_without_redis_everything_works_and_nothing_takes_long(  # noqa: PLR0917  fixtures, by name
    environment: Env, solution: Solution, create: Create, changed: Json, soon: Soon, how: str
) -> None:
    product = create()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if how == "refuses":
            listener.close()
        client = solution.serve(**environment | {"REDIS_URL": f"redis://127.0.0.1:{port}/0"})

        before = soon(client.get, url(product))
        change = soon(client.put, url(product), json=changed)
        after = soon(client.get, list_of(product["category"]))

    assert [response.status_code for response in (before, change, after)] == [200, 200, 200]
    assert (names(before), names(after)) == ([product["name"]], [changed["name"]])
    assert (is_hit(before), is_hit(after)) == (False, False)


@pytest.mark.requirement(2)
def test_when_redis_is_back_the_cache_is_too(
    environment: Env, solution: Solution, create: Create, line: "Line"
) -> None:
    client = solution.serve(**environment | {"REDIS_URL": line.url})
    product = create(on=client)
    client.get(url(product))
    line.cut()
    assert names(client.get(url(product))) == [product["name"]]

    line.mend()

    wait_until(lambda: is_hit(client.get(url(product))))


GARBAGE = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"\xff\xfe\x00\x80", id="bytes"),
    pytest.param(b"null", id="null"),
    pytest.param(b"{}", id="an empty object"),
    pytest.param(b"[]", id="an empty list"),
    pytest.param(b"7", id="a number"),
    pytest.param(b'"text"', id="a string"),
    pytest.param(None, id="a half of what was there"),
]


@pytest.mark.requirement(2)
@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("what", ["one", "all"])
def test_garbage_in_redis_is_a_miss(
    client: Client, create: Create, redis_url: str, what: str, garbage: bytes | None
) -> None:
    path = reads_of(create())[what]
    loaded = client.get(path)

    with redis.Redis.from_url(redis_url) as connection:
        for key in connection.scan_iter():
            if connection.type(key) == b"string":
                value = connection.get(key)
                connection.set(key, value[: len(value) // 2] if garbage is None else garbage, keepttl=True)
    found = client.get(path)

    assert found.status_code == 200
    assert found.json() == loaded.json()


@pytest.mark.requirement(2)
def test_keys_of_another_type_in_redis_are_a_miss(client: Client, create: Create, redis_url: str) -> None:
    product = create()
    client.get(url(product))

    with redis.Redis.from_url(redis_url) as connection:
        for key in connection.scan_iter():
            connection.delete(key)
            connection.rpush(key, "a list")
    found = client.get(url(product))

    assert found.status_code == 200
    assert found.json() == product


# 3. Entries expire, and a change voids what it concerns.


@pytest.mark.requirement(3)
def test_an_entry_expires_however_often_it_is_read(
    environment: Env, solution: Solution, create: Create, rename_row: RenameRow
) -> None:
    client = solution.serve(**environment | {"CACHE_TTL": "0.5"})
    product = create()
    paths = reads_of(product).values()
    for path in paths:
        client.get(path)
    new_name = rename_row(product)

    wait_until(lambda: all([new_name in names(client.get(path)) for path in paths]), 3)  # noqa: C419  each is read


@pytest.mark.requirement(3)
@pytest.mark.parametrize("what", READS)
def test_a_changed_product_is_read_as_it_is_now(client: Client, create: Create, changed: Json, what: str) -> None:
    product = create()
    path = reads_of(product)[what]
    client.get(path)

    response = client.put(url(product), json=changed)

    assert response.status_code == 200
    assert response.json() == product | changed
    assert changed["name"] in names(client.get(path))
    assert is_hit(client.get(path))


@pytest.mark.requirement(3)
@pytest.mark.parametrize("what", READS)
def test_a_deleted_product_is_gone(client: Client, create: Create, keyboard: Json, what: str) -> None:
    product = create(name=f"Deleted {keyboard['sku']}")
    path = reads_of(product)[what]
    client.get(path)

    deleted = client.delete(url(product))

    assert deleted.status_code == 204
    assert product["name"] not in names(client.get(path))


@pytest.mark.requirement(3)
@pytest.mark.parametrize("what", ["all", "a category"])
def test_a_created_product_is_in_the_lists(client: Client, create: Create, keyboard: Json, what: str) -> None:
    path = reads_of(create())[what]
    client.get(path)

    created = create(name=f"New {keyboard['sku']}")

    assert created["name"] in names(client.get(path))


@pytest.mark.requirement(3)
def test_a_product_that_moves_leaves_one_list_and_enters_another(
    client: Client, create: Create, keyboard: Json
) -> None:
    product = create()
    old, new = keyboard["category"], f"new {keyboard['category']}"
    before = [names(client.get(list_of(category))) for category in (old, new)]

    client.put(url(product), json=keyboard | {"category": new})

    assert before == [[product["name"]], []]
    assert [names(client.get(list_of(category))) for category in (old, new)] == [[], [product["name"]]]


@pytest.mark.requirement(3)
@pytest.mark.parametrize("change", ["POST", "PUT", "DELETE"])
def test_a_change_leaves_other_products_in_the_cache(
    client: Client, create: Create, keyboard: Json, change: str
) -> None:
    product, other = create(), create()
    client.get(url(other))

    path = "/products" if change == "POST" else url(product)
    assert client.request(change, path, json=None if change == "DELETE" else keyboard).is_success

    assert is_hit(client.get(url(other)))


@pytest.mark.requirement(3)
def test_what_others_keep_in_redis_survives_a_change(
    client: Client, create: Create, keyboard: Json, redis_url: str
) -> None:
    product = create()
    with redis.Redis.from_url(redis_url) as connection:
        connection.set("session:of-another-app", "7")

        client.put(url(product), json=keyboard)
        client.delete(url(product))

        assert connection.get("session:of-another-app") == b"7"


@pytest.mark.requirement(3)
def test_a_change_by_one_process_is_seen_by_the_other(
    two_processes: tuple[Client, Client], create: Create, changed: Json
) -> None:
    one, other = two_processes
    product = create(on=one)
    paths = reads_of(product).values()
    for path in paths:
        other.get(path)
    hits = [is_hit(server.get(path)) for path in paths for server in two_processes]

    one.put(url(product), json=changed)

    assert all(hits)
    assert all(changed["name"] in names(other.get(path)) for path in paths)


@pytest.mark.requirement(3)
@pytest.mark.parametrize("method, what", [("PUT", "one"), ("PUT", "a category"), ("DELETE", "all")])
def test_a_reader_who_is_slower_than_a_change_does_not_bring_the_old_value_back(  # noqa: PLR0917  fixtures, by name
    one_on_postgres: Client,
    create: Create,
    changed: Json,
    postgres: "Postgres",
    background: Background,
    soon: Soon,
    method: str,
    what: str,
) -> None:
    product = create(on=one_on_postgres)
    path = reads_of(product)[what]

    with postgres.hold_first_reader():
        slow = background(one_on_postgres.get, path)
        wait_until(postgres.waiting)
        change = soon(one_on_postgres.request, method, url(product), json=changed if method == "PUT" else None)
        meanwhile = soon(one_on_postgres.get, path)
    slow.result()

    assert change.is_success
    assert product["name"] not in names(meanwhile)
    assert product["name"] not in names(one_on_postgres.get(path))


@pytest.mark.requirement(3)
@pytest.mark.parametrize("what", ["one", "all"])
def test_a_read_during_a_change_does_not_keep_the_old_value(  # noqa: PLR0917  fixtures, by name
    one_on_postgres: Client, create: Create, changed: Json, postgres: "Postgres", background: Background, what: str
) -> None:
    product = create(on=one_on_postgres)
    path = reads_of(product)[what]

    with postgres.lock_row(product):
        change = background(one_on_postgres.put, url(product), json=changed)
        wait_until(postgres.waiting)
        assert names(one_on_postgres.get(path)) == [product["name"]]
    assert change.result().status_code == 200

    assert names(one_on_postgres.get(path)) == [changed["name"]]


@pytest.mark.requirement(3)
def test_nobody_reads_a_value_that_is_older_than_a_finished_change(
    two_processes: tuple[Client, Client], create: Create, keyboard: Json, background: Callable[..., Any]
) -> None:
    product = create(on=two_processes[0])
    paths = [url(product), list_of(product["category"])]
    finished = [0]

    def read(number: int) -> list[tuple[int, int]]:
        """The stock that a change had set before each read, and the stock that was read."""
        seen = []
        while finished[0] < 20:
            before = finished[0]
            body = two_processes[number % 2].get(paths[number // 2]).json()
            seen.append((before, (body if isinstance(body, dict) else body[0])["stock"]))
        return seen

    readers = [background(read, number) for number in range(4)]
    for stock in range(1, 21):
        two_processes[stock % 2].put(url(product), json=keyboard | {"stock": stock})
        finished[0] = stock

    seen = [pair for reader in readers for pair in reader.result()]
    assert [(before, read) for before, read in seen if read < before] == []


@pytest.mark.requirement(3)
def test_a_change_while_redis_is_away_is_seen_when_the_time_to_live_is_over(
    environment: Env, solution: Solution, create: Create, changed: Json, line: "Line"
) -> None:
    client = solution.serve(**environment | {"REDIS_URL": line.url, "CACHE_TTL": "0.5"})
    product = create(on=client)
    paths = reads_of(product).values()
    for path in paths:
        client.get(path)
    line.cut()
    assert client.put(url(product), json=changed).status_code == 200
    assert all(changed["name"] in names(client.get(path)) for path in paths)

    line.mend()

    for path in paths:
        wait_until(lambda path=path: changed["name"] in names(response := client.get(path)) and is_hit(response), 3)


@pytest.mark.requirement(3)
def test_after_an_outage_changes_are_seen_at_once_again(
    environment: Env, solution: Solution, create: Create, changed: Json, line: "Line"
) -> None:
    client = solution.serve(**environment | {"REDIS_URL": line.url})
    product = create(on=client)
    line.cut()
    client.get(url(product))
    line.mend()
    wait_until(lambda: is_hit(client.get(url(product))))

    client.put(url(product), json=changed)

    assert names(client.get(url(product))) == [changed["name"]]


# 4. What clients and the caches between are told.


@pytest.mark.requirement(4)
@pytest.mark.parametrize("what", READS)
def test_the_etag_is_quoted_and_the_same_for_a_miss_and_a_hit(client: Client, create: Create, what: str) -> None:
    path = reads_of(create())[what]

    miss, hit = client.get(path), client.get(path)

    assert re.fullmatch(r'(W/)?"[\x21\x23-\x7e]+"', miss.headers["ETag"])
    assert hit.headers["ETag"] == miss.headers["ETag"]


@pytest.mark.requirement(4)
@pytest.mark.parametrize("what", READS)
def test_the_etag_changes_with_the_content(client: Client, create: Create, changed: Json, what: str) -> None:
    product = create()
    path = reads_of(product)[what]
    before = client.get(path).headers["ETag"]

    client.put(url(product), json=changed)

    assert client.get(path).headers["ETag"] != before


@pytest.mark.requirement(4)
def test_every_process_gives_the_same_content_the_same_etag(
    client: Client, another_interpreter: Client, create: Create, redis_url: str
) -> None:
    paths = reads_of(create()).values()
    etags = []

    with redis.Redis.from_url(redis_url) as connection:
        for process in (client, another_interpreter):
            connection.flushdb()  # or the second would find what the first has stored
            etags.append([process.get(path).headers["ETag"] for path in paths])

    assert etags[0] == etags[1]


MATCHING = [
    pytest.param(["{etag}"], id="it alone"),
    pytest.param(["W/{etag}"], id="it as a weak one"),
    pytest.param(['"other", {etag}'], id="it in a list"),
    pytest.param(['"other",{etag} ,W/"third"'], id="it in a list without spaces"),
    pytest.param(['"with, a comma", W/{etag}'], id="it behind a comma inside a tag"),
    pytest.param(['"other"', "{etag}"], id="it on the second line"),
    pytest.param(["*"], id="any"),
]


@pytest.mark.requirement(4)
@pytest.mark.parametrize("is_cached", [True, False], ids=["on a hit", "on a miss"])
@pytest.mark.parametrize("lines", MATCHING)
def test_if_none_match_that_names_the_etag_is_304(
    client: Client, create: Create, redis_url: str, lines: list[str], is_cached: bool
) -> None:
    path = url(create())
    etag = client.get(path).headers["ETag"].removeprefix("W/")
    if not is_cached:
        with redis.Redis.from_url(redis_url) as connection:
            connection.flushdb()

    response = client.get(path, headers=[("If-None-Match", line.format(etag=etag)) for line in lines])

    assert (response.status_code, response.content) == (304, b"")


@pytest.mark.requirement(4)
@pytest.mark.parametrize("value", ['"other"', 'W/"other"', '""', '"*"', '"other", "third"', "{etag}x", '"x{opaque}"'])
def test_if_none_match_that_does_not_is_200(client: Client, create: Create, value: str) -> None:
    product = create()
    etag = client.get(url(product)).headers["ETag"].removeprefix("W/")
    value = f'"{etag[1:-1]}x"' if value == "{etag}x" else value.format(opaque=etag[1:-1])

    response = client.get(url(product), headers={"If-None-Match": value})

    assert response.status_code == 200
    assert response.json() == product


@pytest.mark.requirement(4)
@pytest.mark.parametrize("what", READS)
def test_a_304_has_the_headers_of_the_200(client: Client, create: Create, what: str) -> None:
    path = reads_of(create())[what]
    full = client.get(path)

    not_modified = client.get(path, headers={"If-None-Match": full.headers["ETag"]})

    assert (not_modified.status_code, not_modified.content) == (304, b"")
    assert not_modified.headers["ETag"] == full.headers["ETag"]
    assert not_modified.headers["Vary"] == full.headers["Vary"]
    assert cache_control(not_modified).keys() == cache_control(full).keys()


@pytest.mark.requirement(4)
@pytest.mark.parametrize("what", READS)
def test_after_a_change_the_old_etag_gets_the_new_content(
    client: Client, create: Create, changed: Json, what: str
) -> None:
    product = create()
    path = reads_of(product)[what]
    etag = client.get(path).headers["ETag"]

    client.put(url(product), json=changed)

    assert changed["name"] in names(client.get(path, headers={"If-None-Match": etag}))


@pytest.mark.requirement(4)
def test_a_missing_product_is_404_whatever_the_client_has(client: Client) -> None:
    response = client.get("/products/999999999", headers={"If-None-Match": "*"})

    assert response.status_code == 404


@pytest.mark.requirement(4)
@pytest.mark.parametrize("what", READS)
def test_every_cache_may_store_a_public_answer(client: Client, create: Create, what: str) -> None:
    path = reads_of(create())[what]

    answers = [client.get(path), client.get(path)]

    assert all("public" in cache_control(answer) for answer in answers)
    assert all(not {"private", "no-store"} & cache_control(answer).keys() for answer in answers)


@pytest.mark.requirement(4)
@pytest.mark.parametrize("what", READS)
def test_no_copy_outside_is_used_longer_than_the_entry_lives(client: Client, create: Create, what: str) -> None:
    path = reads_of(create())[what]

    at_first = fresh_seconds(client.get(path))

    assert at_first <= 60
    wait_until(lambda: fresh_seconds(client.get(path)) < 60, 3, "an older entry gets as long a life as a new one")


@pytest.mark.requirement(4)
@pytest.mark.parametrize("what", READS)
def test_vary_names_authorization_in_public_and_personal_answers(client: Client, create: Create, what: str) -> None:
    path = reads_of(create())[what]
    etag = client.get(path).headers["ETag"]

    answers = [client.get(path), client.get(path, headers=SOMEBODY), client.get(path, headers={"If-None-Match": etag})]

    varied = [answer.headers.get("Vary", "").lower().replace(" ", "").split(",") for answer in answers]
    assert ["authorization" in names or "*" in names for names in varied] == [True, True, True]


@pytest.mark.requirement(4)
@pytest.mark.parametrize("what", READS)
def test_head_has_the_headers_of_get(client: Client, create: Create, what: str) -> None:
    path = reads_of(create())[what]
    get = client.get(path)

    head = client.head(path)
    not_modified = client.head(path, headers={"If-None-Match": get.headers["ETag"]})

    assert (head.status_code, head.content) == (200, b"")
    assert [head.headers[name] for name in ("ETag", "Vary")] == [get.headers[name] for name in ("ETag", "Vary")]
    assert not_modified.status_code == 304
