"""The specification of a list in pages, requirement by requirement.

One server and one database serve most tests; each has products of a category of its own.
"""

import contextlib
import itertools
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
from httpx2 import Response
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, NullPool, create_engine, delete, event, text, update
from sqlalchemy.orm import Session

from grader.solution import Client, Solution
from shared.models import Base, Product

Json = dict[str, Any]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
numbers = itertools.count(1)
LONGEST_WALK = 20  # for solutions that lead in circles


class Shop:
    """The database beside the solution."""

    def __init__(self, file: Path) -> None:
        self.url = f"sqlite:///{file}"
        self.engine: Engine = create_engine(self.url, poolclass=NullPool)
        event.listen(self.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
        with self.engine.connect() as connection:
            connection.execute(text("PRAGMA journal_mode = WAL"))  # the file keeps it: readers and writers do not wait
        Base.metadata.create_all(self.engine)

    def add(self, category: str, minutes: Iterable[float]) -> list[int]:
        """Insert a product for each number of minutes after noon; return the ids in the order of the list."""
        products = [
            Product(
                sku=f"P-{next(numbers)}",
                name="Product",
                category=category,
                price=Decimal("19.90"),
                created_at=NOON + timedelta(minutes=minute),
            )
            for minute in minutes
        ]
        with Session(self.engine) as session, session.begin():
            session.add_all(products)
            session.flush()
            keys = sorted(((product.created_at, product.id) for product in products), reverse=True)
        return [product_id for _, product_id in keys]

    def delete(self, ids: list[int]) -> None:
        with self.engine.begin() as connection:
            connection.execute(delete(Product).where(Product.id.in_(ids)))

    def drop_indexes(self) -> None:
        """Drop those that somebody created; UNIQUE constraints keep theirs."""
        wanted = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'products' AND sql IS NOT NULL"
        with self.engine.begin() as connection:
            for name in connection.scalars(text(wanted)).all():
                connection.execute(text(f"DROP INDEX {name}"))


@pytest.fixture(scope="session", autouse=True)
def hypothesis_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hypothesis writes files beside the caller unless told otherwise; a run leaves nothing behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYPOTHESIS_STORAGE_DIRECTORY", str(tmp_path_factory.mktemp("hypothesis")))
        yield


@pytest.fixture(scope="session")
def shared_shop(shared_path: Path) -> Shop:
    return Shop(shared_path / "shop.db")


@pytest.fixture
def shop(shared_shop: Shop) -> Shop:
    """The database of the shared server: use a category of your own."""
    return shared_shop


@pytest.fixture
def client(solution: Solution, shop: Shop) -> Client:
    return solution.serve_shared(DATABASE_URL=shop.url)


@pytest.fixture
def own_shop(tmp_path: Path) -> Shop:
    """A database that only this test has."""
    return Shop(tmp_path / "shop.db")


@pytest.fixture
def category() -> str:
    """A category that no other test has."""
    return f"category {next(numbers)}"


def get(client: Client, path: str = "/products", **parameters: object) -> Any:
    response = client.get(path, params={name: str(value) for name, value in parameters.items()})
    assert response.status_code == 200
    return response.json()


def ids(answer: Json) -> list[int]:
    return [item["id"] for item in answer["items"]]


def all_pages(client: Client, category: str, size: int) -> Iterator[Json]:
    """Pages 1, 2, 3 … up to the number of pages that the first one tells."""
    first = get(client, category=category, size=size)
    yield first
    for page in range(2, min(first["pages"], LONGEST_WALK) + 1):
        yield get(client, category=category, size=size, page=page)


def all_parts(client: Client, category: str, size: int) -> Iterator[Json]:
    """The parts of the feed, cursor after cursor, as long as they lead on."""
    part = get(client, "/products/feed", category=category, size=size)
    yield part
    for _ in range(LONGEST_WALK):
        if part["next"] is None:
            break
        part = get(client, "/products/feed", category=category, size=size, after=part["next"])
        yield part


@contextlib.contextmanager
def moving(shop: Shop, moved: list[int], category: str) -> Iterator[None]:
    """Move products into the category and out of it, all at once, over and over."""
    done = threading.Event()

    def move() -> None:
        with shop.engine.connect() as connection:
            for target in itertools.cycle([category, f"not {category}"]):
                connection.execute(update(Product).where(Product.id.in_(moved)).values(category=target))
                connection.commit()
                if done.is_set():
                    return

    mover = threading.Thread(target=move)
    mover.start()
    try:
        yield
    finally:
        done.set()
        mover.join()


def links(response: Response) -> dict[str, str]:
    """The absolute URLs of the Link header by relation (RFC 8288)."""
    found: dict[str, str] = {}
    for target, parameters in re.findall(r"<([^<>\s]*)>([^<]*)", response.headers["Link"]):
        relations = re.search(r';\s*rel\s*=\s*"?([^";,]+)', parameters)
        assert relations, f"a link without rel: {target}"
        found |= {relation: urljoin(str(response.url), target) for relation in relations[1].split()}
    return found


def query(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query, keep_blank_values=True, errors="strict")


# 1. The list comes in pages.


@pytest.mark.requirement(1)
@pytest.mark.parametrize("path", ["/products", "/products/feed"])
def test_an_item_has_the_attributes_of_its_row(client: Client, shop: Shop, category: str, path: str) -> None:
    [product_id] = shop.add(category, [0.5])

    [item] = get(client, path, category=category)["items"]

    assert item["id"] == product_id
    assert (item["name"], item["category"], item["price"]) == ("Product", category, "19.90")
    assert item["sku"].startswith("P-")
    assert (datetime.fromisoformat(item["created_at"]) - NOON).total_seconds() == 30


@pytest.mark.requirement(1)
def test_pages_are_counted_from_one_and_follow_each_other(client: Client, shop: Shop, category: str) -> None:
    expected = shop.add(category, range(5))

    pages = [ids(get(client, category=category, size=2, page=page)) for page in (1, 2, 3)]

    assert pages == [expected[:2], expected[2:4], expected[4:]]


@pytest.mark.requirement(1)
@pytest.mark.parametrize("path", ["/products", "/products/feed"])
def test_the_newest_comes_first(client: Client, shop: Shop, category: str, path: str) -> None:
    expected = shop.add(category, [3, -1, 2, 1_000_000, 0])

    assert ids(get(client, path, category=category)) == expected


@pytest.mark.requirement(1)
@pytest.mark.parametrize("path", ["/products", "/products/feed"])
@pytest.mark.parametrize("filtered", [True, False], ids=["in a category", "in all"])
def test_of_one_moment_the_largest_id_comes_first_whatever_indexes_there_are(
    solution: Solution, own_shop: Shop, category: str, path: str, filtered: bool
) -> None:
    client = solution.serve(DATABASE_URL=own_shop.url)
    expected = own_shop.add(category, [0, 0, 0, 1, 1, 1])
    own_shop.drop_indexes()

    answer = get(client, path, **({"category": category} if filtered else {}))

    assert ids(answer) == expected


@pytest.mark.requirement(1)
@pytest.mark.parametrize("walk", [all_pages, all_parts], ids=["pages", "feed"])
@settings(
    max_examples=8,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # making a failure smaller would take a thousand requests
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(minutes=st.lists(st.integers(0, 3), max_size=15), size=st.integers(1, 7))
def test_all_pages_together_are_the_whole_list_once(
    client: Client, shop: Shop, walk: Callable[..., Iterator[Json]], minutes: list[int], size: int
) -> None:
    category = f"drawn {next(numbers)}"
    expected = shop.add(category, minutes)

    pages = [ids(page) for page in walk(client, category, size)]

    assert [product_id for page in pages for product_id in page] == expected
    assert [len(page) for page in pages[:-1]] == [size] * (len(pages) - 1)


@pytest.mark.requirement(1)
@pytest.mark.parametrize("count", [0, 3, 6])
def test_the_last_part_of_the_feed_has_no_next(client: Client, shop: Shop, category: str, count: int) -> None:
    shop.add(category, range(count))

    parts = list(all_parts(client, category, size=3))

    assert len(parts) == max(1, count // 3)
    assert [part["next"] for part in parts].index(None) == len(parts) - 1


@pytest.mark.requirement(1)
def test_the_feed_of_all_categories_goes_on_across_them(solution: Solution, own_shop: Shop) -> None:
    client = solution.serve(DATABASE_URL=own_shop.url)
    expected = [*own_shop.add("late", [3, 3]), *own_shop.add("early", [2, 2, 2])]

    first = get(client, "/products/feed", size=3)
    second = get(client, "/products/feed", size=3, after=first["next"])

    assert ids(first) + ids(second) == expected


@pytest.mark.requirement(1)
def test_the_feed_tells_moments_apart_by_microseconds(client: Client, shop: Shop, category: str) -> None:
    microsecond = 1 / 60_000_000
    expected = shop.add(category, [step * microsecond for step in (3, 1, 4, 2, 5)])

    parts = list(all_parts(client, category, size=2))

    assert [product_id for part in parts for product_id in ids(part)] == expected


@pytest.mark.requirement(1)
def test_what_is_inserted_above_does_not_shift_the_feed(client: Client, shop: Shop, category: str) -> None:
    expected = shop.add(category, range(6))
    first = get(client, "/products/feed", category=category, size=3)

    shop.add(category, [10, 11])
    second = get(client, "/products/feed", category=category, size=3, after=first["next"])

    assert ids(first) + ids(second) == expected


@pytest.mark.requirement(1)
@pytest.mark.parametrize("deleted", [slice(0, 1), slice(2, 3), slice(0, 3)], ids=["first", "last", "all"])
def test_what_is_deleted_above_does_not_shift_the_feed(
    client: Client, shop: Shop, category: str, deleted: slice
) -> None:
    expected = shop.add(category, range(6))
    first = get(client, "/products/feed", category=category, size=3)

    shop.delete(ids(first)[deleted])
    second = get(client, "/products/feed", category=category, size=3, after=first["next"])

    assert ids(second) == expected[3:]


@pytest.mark.requirement(1)
def test_what_is_inserted_further_down_still_comes(client: Client, shop: Shop, category: str) -> None:
    old = shop.add(category, [0, 5, 6])
    first = get(client, "/products/feed", category=category, size=2)

    late = shop.add(category, [3])
    second = get(client, "/products/feed", category=category, size=2, after=first["next"])

    assert ids(second) == [*late, old[-1]]


# 2. page and size.


@pytest.mark.requirement(2)
def test_without_parameters_it_is_the_first_page_of_20(client: Client, shop: Shop, category: str) -> None:
    expected = shop.add(category, range(25))

    answer = get(client, category=category)

    assert (answer["page"], answer["size"]) == (1, 20)
    assert ids(answer) == expected[:20]


@pytest.mark.requirement(2)
def test_without_a_size_the_feed_gives_20(client: Client, shop: Shop, category: str) -> None:
    expected = shop.add(category, range(25))

    assert ids(get(client, "/products/feed", category=category)) == expected[:20]


@pytest.mark.requirement(2)
@pytest.mark.parametrize("path", ["/products", "/products/feed"])
@pytest.mark.parametrize("size", [1, 7, 100])
def test_size_says_how_many_items_a_page_has(client: Client, shop: Shop, category: str, path: str, size: int) -> None:
    expected = shop.add(category, range(101))

    assert ids(get(client, path, category=category, size=size)) == expected[:size]


@pytest.mark.requirement(2)
@pytest.mark.parametrize("path", ["/products", "/products/feed"])
@pytest.mark.parametrize("size", [101, 1_000_000])
def test_nobody_gets_more_than_100_items_at_once(
    client: Client, shop: Shop, category: str, path: str, size: int
) -> None:
    shop.add(category, range(101))

    response = client.get(path, params={"category": category, "size": str(size)})

    assert len(response.json().get("items", [])) <= 100


# 3. Where in the whole a page stands.


@pytest.mark.requirement(3)
@pytest.mark.parametrize("count, pages", [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_total_page_size_and_pages_are_told(client: Client, shop: Shop, category: str, count: int, pages: int) -> None:
    shop.add(category, range(count))

    answer = get(client, category=category, size=2, page=pages)

    told = {name: answer[name] for name in ("total", "page", "size", "pages")}
    assert told == {"total": count, "page": pages, "size": 2, "pages": pages}


@pytest.mark.requirement(3)
def test_items_and_total_keep_to_the_category(client: Client, shop: Shop, category: str) -> None:
    mine = shop.add(category, range(3))
    shop.add(f"{category} more", range(4))

    answer = get(client, category=category)

    assert (answer["total"], answer["pages"], ids(answer)) == (3, 1, mine)


@pytest.mark.requirement(3)
@pytest.mark.parametrize("path", ["/products", "/products/feed"])
@pytest.mark.parametrize("other", ["Books {}", " books {}", "books {} "], ids=["case", "space before", "space after"])
def test_a_category_is_exactly_that_one(client: Client, shop: Shop, path: str, other: str) -> None:
    number = next(numbers)
    books = shop.add(f"books {number}", range(2))
    others = shop.add(other.format(number), range(3))

    found = [ids(get(client, path, category=name.format(number))) for name in ("books {}", other)]

    assert found == [books, others]


@pytest.mark.requirement(3)
@pytest.mark.parametrize("letter", ["x", "ü", "👋"])
def test_a_category_may_have_50_characters(client: Client, shop: Shop, letter: str) -> None:
    books = shop.add(letter * 50, range(2))

    assert ids(get(client, category=letter * 50)) == books


@pytest.mark.requirement(3)
def test_without_a_category_everything_counts(solution: Solution, own_shop: Shop) -> None:
    client = solution.serve(DATABASE_URL=own_shop.url)
    own_shop.add("one", range(3))
    own_shop.add("two", range(4))

    answer = get(client, size=5)

    assert (answer["total"], answer["pages"], len(answer["items"])) == (7, 2, 5)


@pytest.mark.requirement(3)
def test_total_and_items_of_an_answer_are_of_one_moment(client: Client, shop: Shop, category: str) -> None:
    shop.add(category, range(3))

    with moving(shop, shop.add(f"not {category}", range(4)), category):
        answers = [get(client, category=category, size=100) for _ in range(60)]

    told = [(answer["total"], len(answer["items"])) for answer in answers]
    assert [(total, count) for total, count in told if total != count] == []


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "page, expected",
    [
        pytest.param(1, {"first": "1", "next": "2", "last": "3"}, id="first of three"),
        pytest.param(2, {"first": "1", "prev": "1", "next": "3", "last": "3"}, id="second of three"),
        pytest.param(3, {"first": "1", "prev": "2", "last": "3"}, id="last of three"),
        pytest.param(4, {"first": "1", "prev": "3", "last": "3"}, id="just past the end"),
        pytest.param(99, {"first": "1", "prev": "3", "last": "3"}, id="far past the end"),
    ],
)
def test_link_leads_to_the_neighbours(
    client: Client, shop: Shop, category: str, page: int, expected: dict[str, str]
) -> None:
    shop.add(category, range(5))

    response = client.get("/products", params={"category": category, "size": "2", "page": str(page)})

    assert {relation: query(url)["page"] for relation, url in links(response).items()} == {
        relation: [number] for relation, number in expected.items()
    }


@pytest.mark.requirement(3)
def test_following_next_visits_every_item_once(client: Client, shop: Shop, category: str) -> None:
    expected = shop.add(category, range(7))
    response = client.get("/products", params={"category": category, "size": "3"})

    seen = ids(response.json())
    for _ in range(3):
        if following := links(response).get("next"):
            response = client.get(following)
            seen += ids(response.json())

    assert seen == expected


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "name",
    ["home & garden", "größer 日本 👋", "a+b=c?d#e", "50% off", '<b>; rel="next", x', "a/b\\c'd"],
)
def test_link_keeps_the_other_parameters_encoded(client: Client, shop: Shop, name: str) -> None:
    shop.add(name, range(3))
    sent = {"category": name, "size": "1", "other": "x & ÿ", "empty": ""}

    response = client.get("/products", params={**sent, "page": "2"})

    kept = [{key: values for key, values in query(url).items() if key != "page"} for url in links(response).values()]
    assert kept == [{key: [value] for key, value in sent.items()}] * 4
    assert response.headers["Link"].isascii()


@pytest.mark.requirement(3)
def test_link_keeps_a_parameter_that_comes_twice(client: Client, shop: Shop, category: str) -> None:
    shop.add(category, range(3))

    response = client.get("/products?tag=b&tag=a&size=1&page=2")

    assert {tuple(query(url)["tag"]) for url in links(response).values()} == {("b", "a")}


@pytest.mark.requirement(3)
def test_link_leads_back_to_the_same_resource(client: Client, shop: Shop, category: str) -> None:
    shop.add(category, range(3))

    response = client.get("/products", params={"category": category, "size": "1", "page": "2"})

    assert {urlsplit(url).path for url in links(response).values()} == {"/products"}
    assert {client.get(url).status_code for url in links(response).values()} == {200}


# 4. Edges.


NO_NUMBERS = [
    pytest.param("0", id="zero"),
    pytest.param("-1", id="negative"),
    pytest.param("-9223372036854775809", id="below 64 bits"),
    pytest.param("two", id="text"),
    pytest.param("1.5", id="a fraction"),
    pytest.param("", id="empty"),
    pytest.param("1e2", id="an exponent"),
    pytest.param("1.0", id="a whole number with a point"),
    pytest.param("+1", id="with a plus"),
    pytest.param(" 1", id="behind a space"),
    pytest.param("1_0", id="with an underscore"),
    pytest.param("１", id="a digit of full width"),  # noqa: RUF001
    pytest.param("٣", id="a digit of another script"),
    pytest.param("NaN", id="NaN"),
    pytest.param("1\x00", id="with a NUL"),
    pytest.param("9223372036854775807", id="the largest of 64 bits"),
    pytest.param("9223372036854775808", id="beyond 64 bits"),
    pytest.param("9" * 5000, id="of 5,000 digits"),
]


@pytest.mark.requirement(4)
@pytest.mark.parametrize("value", [*NO_NUMBERS, pytest.param("1000000001", id="over the largest page")])
def test_a_page_that_cannot_be_is_422(client: Client, value: str) -> None:
    response = client.get("/products", params={"page": value})

    assert response.status_code == 422
    assert "page" in response.text


@pytest.mark.requirement(4)
@pytest.mark.parametrize("path", ["/products", "/products/feed"])
@pytest.mark.parametrize("value", [*NO_NUMBERS, pytest.param("101", id="over the cap")])
def test_a_size_that_cannot_be_is_422(client: Client, path: str, value: str) -> None:
    response = client.get(path, params={"size": value})

    assert response.status_code == 422
    assert "size" in response.text


@pytest.mark.requirement(4)
@pytest.mark.parametrize("path", ["/products", "/products/feed"])
@pytest.mark.parametrize("value", ["", "x" * 51, "a\x00b"], ids=["empty", "too long", "with a NUL"])
def test_a_category_that_cannot_be_is_422(client: Client, path: str, value: str) -> None:
    response = client.get(path, params={"category": value})

    assert response.status_code == 422
    assert "category" in response.text


@pytest.mark.requirement(4)
@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize("page", [3, 1_000_000, 1_000_000_000])
def test_past_the_end_there_are_no_items(client: Client, shop: Shop, category: str, page: int, size: int) -> None:
    shop.add(category, range(2))

    answer = get(client, category=category, size=size, page=page)

    pages = 2 if size == 1 else 1
    assert answer == {"items": [], "total": 2, "page": page, "size": size, "pages": pages}


@pytest.mark.requirement(4)
def test_a_database_without_tables_is_an_empty_list(solution: Solution, tmp_path: Path) -> None:
    client = solution.serve(DATABASE_URL=f"sqlite:///{tmp_path / 'new.db'}")

    response = client.get("/products")

    assert response.json() == {"items": [], "total": 0, "page": 1, "size": 20, "pages": 0}
    assert {relation: query(url)["page"] for relation, url in links(response).items()} == {
        "first": ["1"],
        "last": ["1"],
    }
    assert get(client, "/products/feed") == {"items": [], "next": None}


@pytest.mark.requirement(4)
@pytest.mark.parametrize("name", ["100 %", "' OR 1=1 --", "x' UNION SELECT 1", "%", "_"])
def test_a_category_without_products_is_an_empty_list(client: Client, name: str) -> None:
    assert get(client, category=name) == {"items": [], "total": 0, "page": 1, "size": 20, "pages": 0}
    assert get(client, "/products/feed", category=name) == {"items": [], "next": None}


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "cursor",
    [
        pytest.param("", id="empty"),
        pytest.param("1", id="a number"),
        pytest.param("hello world", id="text"),
        pytest.param("größer", id="not ASCII"),
        pytest.param("\x00", id="a NUL"),
        pytest.param("A" * 32, id="of zero bits"),
        pytest.param("_" * 32, id="of one bits"),
        pytest.param("A" * 10_000, id="oversized"),
        pytest.param("eyJpZCI6IDF9", id="JSON in base64"),
        pytest.param("W10", id="a list in base64"),
        pytest.param("null", id="null"),
    ],
)
def test_a_cursor_that_nobody_gave_is_422(client: Client, shop: Shop, category: str, cursor: str) -> None:
    shop.add(category, range(3))

    response = client.get("/products/feed", params={"category": category, "after": cursor})

    assert response.status_code == 422
    assert "after" in response.text


@pytest.fixture
def cursor(client: Client, shop: Shop, category: str) -> str:
    """A cursor of the feed of `category`."""
    shop.add(category, range(3))
    return str(get(client, "/products/feed", category=category, size=2)["next"])


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda cursor: cursor[:-1], id="without its end"),
        pytest.param(lambda cursor: cursor[1:], id="without its start"),
        pytest.param(lambda cursor: cursor[: len(cursor) // 2], id="one half"),
        pytest.param(lambda cursor: cursor + cursor, id="twice"),
        pytest.param(lambda cursor: cursor + "A", id="with one more character"),
        pytest.param(lambda cursor: cursor + "=", id="with padding"),
        pytest.param(lambda cursor: f" {cursor}", id="behind a space"),
        pytest.param(lambda cursor: f"{cursor}\n", id="before a line break"),
        pytest.param(lambda cursor: cursor[:3] + "é" + cursor[3:], id="with a letter that is not ASCII"),
    ],
)
def test_a_damaged_cursor_is_422(client: Client, category: str, cursor: str, damage: Callable[[str], str]) -> None:
    response = client.get("/products/feed", params={"category": category, "after": damage(cursor)})

    assert response.status_code == 422


@pytest.mark.requirement(4)
def test_a_cursor_with_one_character_changed_is_422(client: Client, category: str, cursor: str) -> None:
    changed = [
        cursor[:place] + ("B" if cursor[place] == "A" else "A") + cursor[place + 1 :] for place in range(len(cursor))
    ]

    answers = [client.get("/products/feed", params={"category": category, "after": text}) for text in changed]

    assert {answer.status_code for answer in answers} == {422}


@pytest.mark.requirement(4)
@pytest.mark.parametrize("other", [{"category": "another"}, {}], ids=["another category", "all categories"])
def test_a_cursor_of_another_feed_is_422(client: Client, cursor: str, other: dict[str, str]) -> None:
    response = client.get("/products/feed", params={**other, "after": cursor})

    assert response.status_code == 422


@pytest.mark.requirement(1)
def test_a_cursor_holds_after_a_restart_and_in_another_process(solution: Solution, own_shop: Shop) -> None:
    expected = own_shop.add("books", range(4))
    one, other = (solution.serve(isolated=True, DATABASE_URL=own_shop.url) for _ in range(2))

    cursor = get(one, "/products/feed", size=2)["next"]
    one.stop()

    assert ids(get(other, "/products/feed", size=2, after=cursor)) == expected[2:]


@pytest.mark.requirement(1)
def test_the_size_may_change_from_part_to_part(client: Client, shop: Shop, category: str) -> None:
    expected = shop.add(category, range(6))
    cursor = get(client, "/products/feed", category=category, size=2)["next"]

    rest = get(client, "/products/feed", category=category, size=3, after=cursor)

    assert ids(rest) == expected[2:5]
