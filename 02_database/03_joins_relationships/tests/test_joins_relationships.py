"""The specification of the reports, requirement by requirement: answers worked out by hand, and what they cost."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

if TYPE_CHECKING:
    from conftest import Database

    Shared = Callable[[str], Database]

FLAT = [
    "order-lines",
    "order-counts",
    "open-orders",
    "product-sales",
    "payment-differences",
    "city-tag-units",
    "referrals",
    "bought-together",
    "latest-orders",
    "never-referred",
    "gift-buyers",
    "balances",
]
NESTED = ["customer-cards", "tag-pages"]

# Two customers have the same name; Dora has no profile and no orders, order 14 has no items, LAMP has no tags and was
# never sold. Order 10 has two items and two equal payments; one payer wrote a wrong number, two wrote none. A gift wrap
# is not a gift.
SHOP: dict[str, list[tuple[object, ...]]] = {
    "customers": [(1, "Kim", None), (2, "Kim", 1), (3, "Carl", 1), (4, "Dora", 2)],
    "profiles": [(1, "Bern"), (2, "Oslo"), (3, "Bern")],
    "products": [(1, "PEN"), (2, "INK"), (3, "LAMP"), (4, "BOOK")],
    "tags": [(1, "gift"), (2, "paper"), (3, "new"), (4, "gift wrap")],
    "product_tags": [(1, 1), (2, 3), (2, 4), (4, 1), (4, 2)],
    "orders": [
        (10, 1, "shipped", "2026-03-01"),
        (11, 1, "open", "2026-03-04"),
        (12, 1, "shipped", "2026-03-04"),
        (13, 2, "shipped", "2026-02-01"),
        (14, 3, "open", "2026-03-02"),
    ],
    "order_items": [
        (10, 1, 3, "2.00"),
        (10, 4, 1, "12.50"),
        (11, 4, 2, "12.00"),
        (12, 1, 1, "2.20"),
        (12, 2, 1, "7.00"),
        (12, 4, 1, "11.00"),
        (13, 2, 2, "7.10"),
    ],
    "payments": [
        (1, 10, "9.25"),
        (2, 10, "9.25"),
        (3, 12, "20.00"),
        (4, 13, "14.20"),
        (5, 31, "14.20"),
        (6, None, "1.00"),
        (7, None, "2.50"),
    ],
}

# By number 9 comes before 10, by letter and by age after it. All orders are of one day.
NUMBERED: dict[str, list[tuple[object, ...]]] = {
    "customers": [(1, "Kim", None), (9, "Zoe", 1), (10, "Ada", 1)],
    "products": [(9, "PEN"), (10, "INK")],
    "tags": [(9, "new"), (10, "gift")],
    "product_tags": [(9, 9), (9, 10), (10, 9)],
    "orders": [(number, 1, "open", "2026-03-01") for number in (3, 9, 10, 2, 11, 8)],
    "order_items": [(9, 9, 1, "1.00"), (9, 10, 1, "1.00"), (10, 9, 1, "1.00")],
}

# One customer has referred eleven and ordered thirty times, five products of ten tags; the others have an order each.
PLENTY: dict[str, list[tuple[object, ...]]] = {
    "customers": [(1, "Kim", None), *((number, "Carl", 1) for number in range(2, 13))],
    "profiles": [(number, "Bern") for number in range(1, 13)],
    "products": [(number, f"P-{number}") for number in range(1, 13)],
    "tags": [(number, f"tag {number}") for number in range(1, 13)],
    "product_tags": [(product, tag) for product in range(1, 6) for tag in range(1, 11)],
    "orders": [(number, max(1, number - 29), "open", "2026-03-01") for number in range(1, 42)],
    "order_items": [(order, product, 1, "1.00") for order in range(1, 42) for product in range(1, 6)],
}

# What one customer ordered and paid, many times over: an order has five items and five payments.
CROWD = """
    INSERT INTO customers (id, name) SELECT id, 'Customer ' || id FROM generate_series(1, 10) AS id;
    INSERT INTO products (id, sku) SELECT id, 'P-' || id FROM generate_series(1, 5) AS id;
    INSERT INTO tags (id, name) VALUES (1, 'gift'), (2, 'paper');
    INSERT INTO product_tags (product_id, tag_id) SELECT products.id, tags.id FROM products, tags;
    INSERT INTO orders (id, customer_id, status, placed_on)
        SELECT id, 1 + id % 10, 'shipped', date '2026-01-01' + id FROM generate_series(1, 1000) AS id;
    INSERT INTO order_items (order_id, product_id, quantity, unit_price)
        SELECT orders.id, products.id, 1, 2.00 FROM orders, products;
    INSERT INTO payments (id, order_number, amount)
        SELECT orders.id * 5 + part, orders.id, 1.00 FROM orders, generate_series(0, 4) AS part;
    ANALYZE;
"""
CROWD_CUSTOMERS, CROWD_LARGEST = 10, 5000
MOST_QUERIES = 10

ORDER = "INSERT INTO orders (id, customer_id, status, placed_on) VALUES "
ITEM = "INSERT INTO order_items (order_id, product_id, quantity, unit_price) VALUES "


@pytest.fixture
def shop(shared: Shared) -> Database:
    """The shop above, for tests that leave it as it is."""
    shop = shared("shop")
    if shop.query("SELECT count(*) FROM customers") == [(0,)]:
        shop.fill(SHOP)
    return shop


@pytest.fixture
def refilled(shared: Shared) -> Database:
    """A database with tables, whose rows each test replaces by its own. No index puts them in order by chance."""
    refilled = shared("refilled")
    refilled.execute("""
        DO $$ BEGIN
            EXECUTE format('ALTER DATABASE %I SET enable_indexscan = off', current_database());
            EXECUTE format('ALTER DATABASE %I SET enable_indexonlyscan = off', current_database());
        END $$
    """)
    return refilled


@pytest.fixture(params=[(), ("--rows", "30")], ids=["the small shop", "30 customers"])
def sample(shared: Shared, request: pytest.FixtureRequest) -> Database:
    """What `load` has put into a database, for tests that leave it as it is."""
    sample = shared(f"sample {request.param}")
    if sample.query("SELECT count(*) FROM customers") == [(0,)]:
        sample.succeed("load", *request.param)
    return sample


@pytest.fixture
def crowd(shared: Shared) -> Database:
    crowd = shared("crowd")
    if crowd.query("SELECT count(*) FROM customers") == [(0,)]:
        crowd.execute(CROWD)
    return crowd


def rows(columns: str, *values: tuple[object, ...]) -> list[dict[str, object]]:
    return [dict(zip(columns.split(), row, strict=True)) for row in values]


def steps_of(database: Database, name: str) -> list[tuple[int, str, float]]:
    """Each step of a report's plan: how far it is indented, what it is, and how many rows it gave in all its runs."""
    explained = database.observe(name, "--explain").explained
    assert len(explained) == 1, f"PostgreSQL was asked to explain {len(explained)} queries, not one"
    pattern = r"(\s*(?:->\s+)?)(.+?) \(.*?actual (?:time=\S+ )?rows=([\d.]+) loops=(\d+)\)"
    found = [step for line in explained[0].plan if (step := re.match(pattern, line))]
    assert found, f"there are no rows of each step in {explained[0].plan}"
    return [(len(step[1]), step[2], float(step[3]) * int(step[4])) for step in found]


def without_explain(statement: str) -> str:
    return " ".join(re.sub(r"^\s*EXPLAIN\s*\(.*?\)\s*", "", statement, flags=re.IGNORECASE | re.DOTALL).split())


def is_the_same(shown: str, sent: str) -> bool:
    """Whether a statement that a report shows is the one that PostgreSQL got, whatever stands for its parameters."""
    pieces = re.split(r"%\(\w+\)s|%s|\$\d+", " ".join(shown.split()))
    return re.fullmatch(".+?".join(re.escape(piece) for piece in pieces), sent) is not None


# 1. A question for each kind of join.


@pytest.mark.requirement(1)
def test_the_number_of_orders_is_zero_for_who_has_none(shop: Database) -> None:
    assert shop.report("order-counts") == rows(
        "customer_id name orders", (1, "Kim", 3), (2, "Kim", 1), (3, "Carl", 1), (4, "Dora", 0)
    )


@pytest.mark.requirement(1)
def test_who_has_no_open_order_stays_in_the_list(shop: Database) -> None:
    assert shop.report("open-orders") == rows(
        "customer_id name order_id", (1, "Kim", 11), (2, "Kim", None), (3, "Carl", 14), (4, "Dora", None)
    )


@pytest.mark.requirement(1)
def test_products_that_were_never_shipped_have_sold_nothing(shop: Database) -> None:
    assert shop.report("product-sales") == rows(
        "sku units revenue", ("PEN", 4, "8.20"), ("INK", 3, "21.20"), ("LAMP", 0, "0.00"), ("BOOK", 2, "23.50")
    )


@pytest.mark.requirement(1)
def test_differences_are_found_on_both_sides(shop: Database) -> None:
    # 10 and 13 were paid to the cent. Nobody paid 11, nor 14, which has no items.
    assert shop.report("payment-differences") == rows(
        "number due paid",
        (11, "24.00", None),
        (12, "20.20", "20.00"),
        (14, "0.00", None),
        (31, None, "14.20"),
        (None, None, "3.50"),
    )


@pytest.mark.requirement(1)
def test_a_city_has_a_row_for_each_tag(shop: Database) -> None:
    # BOOK has two tags and counts for both.
    assert shop.report("city-tag-units") == rows(
        "city tag units",
        ("Bern", "gift", 8),
        ("Bern", "paper", 4),
        ("Bern", "new", 1),
        ("Bern", "gift wrap", 1),
        ("Oslo", "gift", 0),
        ("Oslo", "paper", 0),
        ("Oslo", "new", 2),
        ("Oslo", "gift wrap", 2),
    )


@pytest.mark.requirement(1)
def test_customers_are_shown_beside_their_referrer_or_none(shop: Database) -> None:
    assert shop.report("referrals") == rows(
        "customer_id name referrer", (1, "Kim", None), (2, "Kim", "Kim"), (3, "Carl", "Kim"), (4, "Dora", "Kim")
    )


@pytest.mark.requirement(1)
def test_a_pair_of_products_is_counted_once_for_each_order(shop: Database) -> None:
    assert shop.report("bought-together") == rows(
        "first second orders", ("PEN", "BOOK", 2), ("PEN", "INK", 1), ("INK", "BOOK", 1)
    )


@pytest.mark.requirement(1)
def test_the_latest_two_orders_of_each_customer_are_found(shop: Database) -> None:
    assert shop.report("latest-orders") == rows(
        "customer_id order_id placed_on",
        (1, 12, "2026-03-04"),
        (1, 11, "2026-03-04"),
        (2, 13, "2026-02-01"),
        (3, 14, "2026-03-02"),
        (4, None, None),
    )


@pytest.mark.requirement(1)
def test_who_has_referred_nobody_is_found_though_some_came_alone(shop: Database) -> None:
    assert shop.report("never-referred") == rows("customer_id name", (3, "Carl"), (4, "Dora"))


@pytest.mark.requirement(1)
def test_a_buyer_of_several_gifts_is_named_once(shop: Database) -> None:
    assert shop.report("gift-buyers") == rows("customer_id name", (1, "Kim"))


@pytest.mark.requirement(1)
def test_a_shop_without_rows_has_empty_reports(shared: Shared) -> None:
    assert shared("empty").report() == {name: [] for name in FLAT + NESTED}


@pytest.mark.requirement(1)
def test_a_report_without_a_name_is_all_of_them_by_name(shop: Database) -> None:
    reports = shop.report()

    assert sorted(reports) == sorted(FLAT + NESTED)
    assert reports["gift-buyers"] == [{"customer_id": 1, "name": "Kim"}]


@pytest.mark.requirement(1)
def test_tables_that_exist_are_left_as_they_are(database: Database) -> None:
    database.succeed("create")
    database.succeed("create")
    database.succeed("load")

    database.succeed("create")

    assert database.report("never-referred") != []


@pytest.mark.requirement(1)
def test_a_sample_has_rows_in_every_table_and_report(sample: Database) -> None:
    assert sample.empty_tables() == []
    assert [name for name, found in sample.report().items() if not found] == []


@pytest.mark.requirement(1)
def test_as_many_customers_are_loaded_as_were_asked_for(refilled: Database) -> None:
    refilled.fill({})

    refilled.succeed("load", "--rows", "3")

    assert refilled.query("SELECT count(*) FROM customers") == [(3,)]


@pytest.mark.requirement(1)
@pytest.mark.parametrize("table", ["products", "tags", "payments"])
def test_samples_go_into_empty_tables_only(refilled: Database, table: str) -> None:
    row = {"products": (500, "PEN"), "tags": (500, "new"), "payments": (500, None, "1.00")}[table]
    refilled.fill({table: [row]})

    refilled.refuse("load")

    assert refilled.query("SELECT count(*) FROM customers") == [(0,)]


@pytest.mark.requirement(1)
def test_a_load_that_fails_leaves_no_rows(database: Database) -> None:
    database.succeed("create")
    database.execute("ALTER TABLE payments ADD CHECK (amount < 0)")
    empty = database.empty_tables()

    database.refuse("load")

    assert database.empty_tables() == empty


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "url",
    [
        pytest.param(None, id="not set"),
        pytest.param("shop", id="no URL"),
        pytest.param("postgresql://nobody@127.0.0.1:1/shop", id="nobody listens"),
        pytest.param("sqlite://", id="another database"),
    ],
)
def test_a_wrong_database_url_is_said_in_a_sentence(shop: Database, url: str | None) -> None:
    shop.refuse("report", "referrals", DATABASE_URL=url)


@pytest.mark.requirement(1)
def test_missing_tables_are_said_in_a_sentence(database: Database) -> None:
    database.refuse("report", "referrals")


@pytest.mark.requirement(1)
def test_an_unknown_report_is_refused(shop: Database) -> None:
    assert "order-sums" in shop.refuse("report", "order-sums")


@pytest.mark.requirement(1)
@pytest.mark.parametrize("rows", ["0", "many", "100001"])
def test_a_number_of_rows_that_cannot_be_is_refused(refilled: Database, rows: str) -> None:
    refilled.fill({})

    refilled.refuse("load", "--rows", rows)

    assert refilled.query("SELECT count(*) FROM customers") == [(0,)]


@pytest.mark.requirement(1)
def test_postgres_is_a_scheme_too(shop: Database) -> None:
    url = re.sub(r"^postgresql(\+\w+)?://", "postgres://", shop.url)

    finished = shop.solution.run("report", "gift-buyers", DATABASE_URL=url)

    assert finished.json() == [{"customer_id": 1, "name": "Kim"}]


# 2. Relationships.


@pytest.mark.requirement(2)
def test_cards_follow_all_relationships_of_a_customer(shop: Database) -> None:
    pen, book = {"sku": "PEN", "tags": ["gift"]}, {"sku": "BOOK", "tags": ["gift", "paper"]}
    ink = {"sku": "INK", "tags": ["new", "gift wrap"]}

    kim, *_ = shop.report("customer-cards")

    assert kim == {
        "customer_id": 1,
        "name": "Kim",
        "city": "Bern",
        "referred": ["Kim", "Carl"],
        "orders": [
            {"order_id": 10, "items": [pen | {"quantity": 3}, book | {"quantity": 1}]},
            {"order_id": 11, "items": [book | {"quantity": 2}]},
            {"order_id": 12, "items": [pen | {"quantity": 1}, ink | {"quantity": 1}, book | {"quantity": 1}]},
        ],
    }


@pytest.mark.requirement(2)
def test_there_is_one_card_for_each_customer_also_with_nothing_on_it(shop: Database) -> None:
    _, *others = shop.report("customer-cards")

    assert [card["customer_id"] for card in others] == [2, 3, 4]
    assert others[1]["orders"] == [{"order_id": 14, "items": []}]
    assert others[2] == {"customer_id": 4, "name": "Dora", "city": None, "referred": [], "orders": []}


@pytest.mark.requirement(2)
def test_a_tag_knows_its_products(shop: Database) -> None:
    assert shop.report("tag-pages") == rows(
        "tag skus", ("gift", ["PEN", "BOOK"]), ("paper", ["BOOK"]), ("new", ["INK"]), ("gift wrap", ["INK"])
    )


@pytest.mark.requirement(2)
def test_cards_and_the_lists_in_them_are_in_the_order_of_their_ids(refilled: Database) -> None:
    refilled.fill(NUMBERED)

    kim, *others = refilled.report("customer-cards")
    pages = refilled.report("tag-pages")

    assert [card["customer_id"] for card in others] == [9, 10]
    assert kim["referred"] == ["Zoe", "Ada"]
    assert [order["order_id"] for order in kim["orders"]] == [2, 3, 8, 9, 10, 11]
    assert [(item["sku"], item["tags"]) for item in kim["orders"][3]["items"]] == [
        ("PEN", ["new", "gift"]),
        ("INK", ["new"]),
    ]
    assert pages == rows("tag skus", ("new", ["PEN", "INK"]), ("gift", ["PEN"]))


@pytest.mark.requirement(2)
def test_a_product_without_tags_and_a_tag_without_products_have_none(refilled: Database) -> None:
    shop: dict[str, Any] = {
        "customers": [(1, "Kim", None)],
        "products": [(1, "PEN")],
        "tags": [(1, "gift")],
        "orders": [(1, 1, "open", "2026-03-01")],
        "order_items": [(1, 1, 1, "2.00")],
    }
    refilled.fill(shop)

    [card] = refilled.report("customer-cards")

    assert card["orders"][0]["items"] == [{"sku": "PEN", "quantity": 1, "tags": []}]
    assert refilled.report("tag-pages") == [{"tag": "gift", "skus": []}]


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("INSERT INTO profiles (customer_id, city) VALUES (1, 'Rome')", id="a second profile"),
        pytest.param("INSERT INTO profiles (customer_id, city) VALUES (99, 'Rome')", id="a profile of nobody"),
        pytest.param("INSERT INTO product_tags (product_id, tag_id) VALUES (4, 1)", id="the same tag again"),
        pytest.param("INSERT INTO product_tags (product_id, tag_id) VALUES (4, 99)", id="a tag that is not there"),
        pytest.param("INSERT INTO product_tags (product_id, tag_id) VALUES (99, 1)", id="a tag on no product"),
        pytest.param("INSERT INTO product_tags (product_id, tag_id) VALUES (4, NULL)", id="half a link"),
        pytest.param(ITEM + "(10, 1, 1, 2)", id="the same product again in an order"),
        pytest.param(ITEM + "(99, 1, 1, 2)", id="an item of no order"),
        pytest.param(ITEM + "(10, 99, 1, 2)", id="an item without a product"),
        pytest.param(ORDER + "(99, NULL, 'open', '2026-01-01')", id="an order without a customer"),
        pytest.param(ORDER + "(99, 99, 'open', '2026-01-01')", id="an order of nobody who exists"),
        pytest.param(ORDER + "(99, 1, 'Open', '2026-01-01')", id="another status"),
        pytest.param("INSERT INTO products (id, sku) VALUES (99, 'PEN')", id="two products of one sku"),
        pytest.param("INSERT INTO tags (id, name) VALUES (99, 'gift')", id="two tags of one name"),
        pytest.param("UPDATE customers SET referred_by = 99 WHERE id = 4", id="referred by nobody who exists"),
        pytest.param("DELETE FROM products WHERE id = 1", id="a product that was ordered goes"),
        pytest.param("DELETE FROM orders WHERE id = 10", id="an order with items goes"),
        pytest.param(
            "DELETE FROM profiles WHERE customer_id = 3; DELETE FROM customers WHERE id = 3",
            id="a customer with orders goes",
        ),
    ],
)
def test_the_database_refuses_what_a_relationship_cannot_be(shop: Database, statement: str) -> None:
    with (
        shop.connect() as connection,
        pytest.raises((psycopg.errors.IntegrityError, psycopg.errors.InvalidTextRepresentation)),  # the second: an enum
        connection.transaction(force_rollback=True),
    ):
        connection.execute(statement.encode())


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("INSERT INTO customers (name) VALUES ('Edsger')", id="customers"),
        pytest.param("INSERT INTO products (sku) VALUES ('NEW')", id="products"),
        pytest.param("INSERT INTO tags (name) VALUES ('another')", id="tags"),
        pytest.param("INSERT INTO payments (amount) VALUES (1)", id="payments"),
        pytest.param(
            "INSERT INTO orders (customer_id, status, placed_on) SELECT min(id), 'open', '2026-01-01' FROM customers",
            id="orders",
        ),
    ],
)
def test_a_new_row_gets_a_free_id_after_a_load(sample: Database, statement: str) -> None:
    with sample.connect() as connection, connection.transaction(force_rollback=True):
        try:
            added = connection.execute(statement.encode()).rowcount
        except psycopg.errors.UniqueViolation as error:
            pytest.fail(f"the next id is taken: {error}")

    assert added == 1


# 3. Several tables.


@pytest.mark.requirement(3)
def test_a_line_joins_order_customer_item_and_product(shop: Database) -> None:
    assert shop.report("order-lines") == rows(
        "order_id customer sku quantity total",
        (10, "Kim", "PEN", 3, "6.00"),
        (10, "Kim", "BOOK", 1, "12.50"),
        (11, "Kim", "BOOK", 2, "24.00"),
        (12, "Kim", "PEN", 1, "2.20"),
        (12, "Kim", "INK", 1, "7.00"),
        (12, "Kim", "BOOK", 1, "11.00"),
        (13, "Kim", "INK", 2, "14.20"),
    )


@pytest.mark.requirement(3)
def test_rows_are_in_the_order_of_their_ids(refilled: Database) -> None:
    refilled.fill(NUMBERED)

    lines, opened, latest = (refilled.report(name) for name in ("order-lines", "open-orders", "latest-orders"))

    assert [(line["order_id"], line["sku"]) for line in lines] == [(9, "PEN"), (9, "INK"), (10, "PEN")]
    assert [row["order_id"] for row in opened] == [2, 3, 8, 9, 10, 11, None, None]
    assert [row["order_id"] for row in latest] == [11, 10, None, None]


@pytest.mark.requirement(3)
def test_two_items_and_two_payments_count_once_each(shop: Database) -> None:
    # Joined to each other they would be four rows, and everything would count double.
    assert shop.report("balances") == rows(
        "customer_id name due paid",
        (1, "Kim", "62.70", "38.50"),
        (2, "Kim", "14.20", "14.20"),
        (3, "Carl", "0.00", "0.00"),
        (4, "Dora", "0.00", "0.00"),
    )


@pytest.mark.requirement(3)
def test_sums_are_exact_to_the_cent(refilled: Database) -> None:
    shop: dict[str, Any] = {
        "customers": [(1, "Kim", None)],
        "products": [(1, "PEN"), (2, "INK")],
        "orders": [(1, 1, "shipped", "2026-03-01"), (2, 1, "shipped", "2026-03-01")],
        "order_items": [(1, 1, 1, "0.10"), (1, 2, 1, "0.20"), (2, 1, 1, "9999999999.99"), (2, 2, 1, "0.01")],
        "payments": [(1, 1, "0.30"), (2, 2, "9999999999.99"), (3, 2, "0.01")],
    }
    refilled.fill(shop)

    assert refilled.report("payment-differences") == []
    assert refilled.report("balances") == rows(
        "customer_id name due paid", (1, "Kim", "10000000000.30", "10000000000.30")
    )


# 4. What it costs.


@pytest.mark.requirement(4)
@pytest.mark.parametrize("name", FLAT)
def test_a_join_is_one_query(shop: Database, name: str) -> None:
    assert len(shop.observe(name).queries) == 1


@pytest.mark.requirement(4)
@pytest.mark.parametrize("name", NESTED)
def test_more_rows_make_neither_more_queries_nor_rows_twice(shop: Database, refilled: Database, name: str) -> None:
    refilled.fill(PLENTY)

    few, many = shop.observe(name), refilled.observe(name)

    assert 1 <= len(few.queries) == len(many.queries) <= MOST_QUERIES
    assert many.rows <= 2 * sum(len(table) for table in PLENTY.values())


@pytest.mark.requirement(4)
@pytest.mark.parametrize("name", ["balances", "customer-cards", "tag-pages"])
def test_queries_and_rows_are_counted_as_postgresql_sees_them(shop: Database, name: str) -> None:
    observed = shop.observe(name, "--count-queries")

    assert observed.finished.json() == {"queries": len(observed.queries), "rows": observed.rows}


@pytest.mark.requirement(4)
@pytest.mark.parametrize("option", ["--count-queries", "--explain"])
def test_what_all_reports_cost_is_told_by_name(shop: Database, option: str) -> None:
    costs = shop.report(option)

    assert sorted(costs) == sorted(FLAT + NESTED)
    if option == "--explain":
        assert [len(costs[name]) for name in FLAT] == [1] * len(FLAT)
        assert all(step["sql"] and step["plan"] for steps in costs.values() for step in steps)
    else:
        assert [costs[name] for name in ("never-referred", "order-counts")] == rows("queries rows", (1, 2), (1, 4))


@pytest.mark.requirement(4)
@pytest.mark.parametrize("name", ["balances", "customer-cards"])
def test_explain_shows_the_plan_of_each_query(shop: Database, name: str) -> None:
    sent = [without_explain(query.sql) for query in shop.observe(name).queries]

    observed = shop.observe(name, "--explain")

    shown = observed.finished.json()
    assert [without_explain(statement.sql) for statement in observed.explained] == sent
    assert [step["plan"] for step in shown] == [statement.plan for statement in observed.explained]
    assert [step["sql"] for step, query in zip(shown, sent, strict=True) if not is_the_same(step["sql"], query)] == []


@pytest.mark.requirement(4)
def test_a_plan_shows_only_what_is_the_same_every_time(shop: Database) -> None:
    [step] = shop.report("never-referred", "--explain")

    changing = r"cost=|time=|Buffers:|Planning|Execution Time"
    assert [line for line in step["plan"] if re.search(changing, line)] == []
    assert "actual rows=" in step["plan"][0]


@pytest.mark.requirement(4)
def test_a_semi_join_never_multiplies_the_customers(crowd: Database) -> None:
    steps = steps_of(crowd, "gift-buyers")

    # From where customers are read up to the top, no step may give more rows than there are customers.
    reading = next((index for index, (_, step, _) in enumerate(steps) if " on customers" in step), None)
    assert reading is not None, f"no step reads customers: {steps}"
    indent, above = steps[reading][0] + 1, []
    for depth, step, given in reversed(steps[: reading + 1]):
        if depth < indent:
            indent = depth
            above.append((step, given))
    assert [step for step in above if step[1] > CROWD_CUSTOMERS] == []


@pytest.mark.requirement(4)
@pytest.mark.parametrize("name", ["balances", "payment-differences"])
def test_sums_are_made_before_the_join(crowd: Database, name: str) -> None:
    made = [(step, given) for _, step, given in steps_of(crowd, name) if re.search("Join|Loop|Aggregate|Group", step)]

    assert made, "no step joins or sums"
    assert [step for step in made if step[1] > CROWD_LARGEST] == []


@pytest.mark.requirement(4)
def test_the_latest_orders_are_found_without_reading_the_others(crowd: Database) -> None:
    scans = [
        (step, given) for _, step, given in steps_of(crowd, "latest-orders") if re.search(r"Scan.* on orders\b", step)
    ]

    assert scans, "no step reads orders"
    assert [scan for scan in scans if scan[1] > 2 * CROWD_CUSTOMERS] == []


@pytest.mark.requirement(4)
def test_every_foreign_key_has_an_index(shop: Database) -> None:
    without = shop.query("""
        SELECT conrelid::regclass, conkey FROM pg_constraint
        WHERE contype = 'f' AND NOT EXISTS (
            SELECT FROM pg_index WHERE indrelid = conrelid AND indkey[0] = conkey[1] AND indpred IS NULL)
    """)

    assert without == []
