"""The specification of a shop's schema, requirement by requirement."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
import pytest

from grader.solution import Solution, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Database, Shop

    At = Callable[[str], Database]

# The tables of the task: each column with its type, `?` where it may be NULL.
TABLES = {
    "users": "id bigint, email text, name text, created_at timestamptz",
    "profiles": "user_id bigint, phone text?, birth_date date?",
    "addresses": "id bigint, user_id bigint, street text, postal_code text, city text, country text,"
    " is_default boolean",
    "categories": "id bigint, parent_id bigint?, slug text, name text",
    "products": "id bigint, sku text, name text, description text?, price numeric(12,2), stock integer,"
    " created_at timestamptz",
    "product_categories": "product_id bigint, category_id bigint",
    "orders": "id bigint, user_id bigint, status status, shipping_address text, created_at timestamptz",
    "order_items": "order_id bigint, product_id bigint, product_name text, unit_price numeric(12,2), quantity integer",
    "payments": "id bigint, order_id bigint, reference text, amount numeric(12,2), status status,"
    " created_at timestamptz",
    "reviews": "id bigint, product_id bigint, user_id bigint?, rating smallint, body text?, created_at timestamptz",
}
NUMBERED = [table for table, columns in TABLES.items() if columns.startswith("id ")]

# What becomes of a child whose parent is deleted.
ON_DELETE = {
    "profiles.user_id": ("users", "cascade"),
    "addresses.user_id": ("users", "cascade"),
    "categories.parent_id": ("categories", "restrict"),
    "product_categories.product_id": ("products", "cascade"),
    "product_categories.category_id": ("categories", "cascade"),
    "orders.user_id": ("users", "restrict"),
    "order_items.order_id": ("orders", "cascade"),
    "order_items.product_id": ("products", "restrict"),
    "payments.order_id": ("orders", "restrict"),
    "reviews.product_id": ("products", "cascade"),
    "reviews.user_id": ("users", "set null"),
}

FOREIGN_KEYS: LiteralString = """
    SELECT child.relname AS child, attname AS column, parent.relname AS parent, array_length(conkey, 1) AS width
    FROM pg_constraint JOIN pg_class child ON child.oid = conrelid JOIN pg_class parent ON parent.oid = confrelid
    JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
    WHERE contype = 'f'
"""
# Foreign keys that no whole, valid index begins with.
WITHOUT_INDEX: LiteralString = """
    SELECT conrelid::regclass::text || '.' || attname AS key
    FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
    WHERE contype = 'f' AND NOT EXISTS (
        SELECT FROM pg_index WHERE indrelid = conrelid AND indkey[0] = conkey[1] AND indpred IS NULL AND indisvalid
    )
"""
NAMES: LiteralString = """
    SELECT CASE contype WHEN 'p' THEN 'pk' WHEN 'f' THEN 'fk' WHEN 'u' THEN 'uq' ELSE 'ck' END AS prefix,
        relname AS table, conname AS name
    FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid WHERE contype IN ('p', 'f', 'u', 'c')
    AND relnamespace = current_schema()::regnamespace
    UNION ALL
    SELECT CASE WHEN indisunique THEN 'uq' ELSE 'ix' END, indexed.relname, index.relname
    FROM pg_index JOIN pg_class index ON index.oid = indexrelid JOIN pg_class indexed ON indexed.oid = indrelid
    WHERE NOT indisprimary AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
    AND indexed.relnamespace = current_schema()::regnamespace
"""
COLUMNS: LiteralString = """
    SELECT attname AS name, format_type(atttypid, atttypmod) AS type, attnotnull AS not_null, attidentity AS identity,
        typtype = 'e' AS is_enum
    FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
    WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
"""


def columns_of(table: str) -> list[str]:
    return [column.split()[0] for column in TABLES[table].split(", ")]


def relations(diagram: str) -> dict[tuple[str, str], str]:
    """The relations of a Mermaid diagram: parent, child and column, with the cardinality between them."""
    found = re.findall(r'^\s*(\w+)\s+([|o}{]+(?:--|\.\.)[|o}{]+)\s+(\w+)\s*:\s*"?(\w+)', diagram, re.MULTILINE)
    assert {parent for parent, *_ in found} <= set(TABLES)
    return {(parent, f"{child}.{column}"): sign.replace("..", "--") for parent, sign, child, column in found}


# 1. The entities.


@pytest.mark.requirement(1)
@pytest.mark.parametrize("made_by", ["created", "migrated"])
def test_the_database_has_the_ten_tables_and_no_other(request: pytest.FixtureRequest, made_by: str) -> None:
    database: Database = request.getfixturevalue(made_by)

    relations = [line for line in database.catalog()["relations"] if not line.startswith(("['i'", "['S'"))]

    assert [re.findall(r"'(\w+)'", line)[:2] for line in relations] == [["r", table] for table in sorted(TABLES)]


@pytest.mark.requirement(1)
@pytest.mark.parametrize("table", TABLES)
def test_a_table_takes_a_row_that_has_what_it_needs(shop: Shop, table: str) -> None:
    row = shop.add(table)

    assert set(row) == set(columns_of(table))
    assert shop.rows(table) == [row]


@pytest.mark.requirement(1)
def test_the_diagram_shows_every_table_with_its_columns(solution: Solution) -> None:
    diagram = solution.run("diagram").stdout

    assert diagram.split()[0] == "erDiagram"
    entities = dict(re.findall(r"^\s*(\w+)\s*\{\n(.*?)^\s*\}", diagram, re.DOTALL | re.MULTILINE))
    shown = {name: [line.split()[1] for line in body.splitlines()] for name, body in entities.items()}
    assert {name: sorted(columns) for name, columns in shown.items()} == {
        name: sorted(columns_of(name)) for name in TABLES
    }


# 2. The attributes, each fact once.


@pytest.mark.requirement(2)
@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_the_columns_of_the_task_and_no_other(shop: Shop, table: str) -> None:
    columns = shop.query(COLUMNS, table)

    assert sorted(column["name"] for column in columns) == sorted(columns_of(table))


@pytest.mark.requirement(2)
def test_no_column_is_computed_from_others(migrated: Database) -> None:
    catalog = migrated.catalog()

    assert catalog["triggers"] == []
    assert [line for line in catalog["columns"] if re.search(r", '[sv]', ", line)] == []


@pytest.mark.requirement(2)
def test_no_column_has_a_default_but_those_of_the_task(shop: Shop) -> None:
    defaults = shop.query("""
        SELECT relname || '.' || attname AS name
        FROM pg_attrdef JOIN pg_attribute ON (attrelid, attnum) = (adrelid, adnum)
        JOIN pg_class ON pg_class.oid = adrelid
        WHERE relnamespace = current_schema()::regnamespace AND attidentity = '' AND relname !~ 'version|migration'
    """)

    by_the_task = {f"{table}.created_at" for table in TABLES if "created_at" in TABLES[table]}
    by_the_task |= {"addresses.is_default", "products.stock", "orders.status", "payments.status"}
    assert {row["name"] for row in defaults} == by_the_task


@pytest.mark.requirement(2)
def test_an_order_item_keeps_the_price_and_the_name_of_its_day(shop: Shop) -> None:
    item = shop.add("order_items", product_name="Lamp", unit_price="9.90")

    shop.query("UPDATE products SET price = 12, name = 'Bright lamp' WHERE id = %s", item["product_id"])

    assert shop.rows("order_items") == [item]


@pytest.mark.requirement(2)
@pytest.mark.parametrize("copy", ["unit_price", "product_name"])
def test_an_order_item_is_refused_without_what_it_copies(shop: Shop, copy: str) -> None:
    item = {"unit_price": 1, "product_name": "Lamp", "quantity": 1}
    keys = {"order_id": shop.add("orders")["id"], "product_id": shop.add("products")["id"]}

    with shop.refuses():
        shop.insert("order_items", keys | {name: value for name, value in item.items() if name != copy})


@pytest.mark.requirement(2)
def test_an_order_keeps_its_address_when_the_user_moves(shop: Shop) -> None:
    address = shop.add("addresses")
    order = shop.add("orders", user_id=address["user_id"], shipping_address=address["street"])

    shop.query("UPDATE addresses SET street = '2 Side Street' WHERE id = %s", address["id"])
    shop.delete("addresses", address["id"])

    assert shop.rows("orders") == [order]


# 3. The relationships.


@pytest.mark.requirement(3)
def test_the_foreign_keys_are_those_of_the_task(shop: Shop) -> None:
    keys = shop.query(FOREIGN_KEYS)

    assert {f"{key['child']}.{key['column']}": key["parent"] for key in keys} == {
        key: parent for key, (parent, _) in ON_DELETE.items()
    }
    assert {key["width"] for key in keys} == {1}


@pytest.mark.requirement(3)
@pytest.mark.parametrize("key", ON_DELETE)
def test_a_child_of_nobody_is_refused(shop: Shop, key: str) -> None:
    table, column = key.split(".")

    with shop.refuses():
        shop.add(table, **{column: 4_000_000_000})


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "table, columns",
    [
        pytest.param("profiles", ["user_id"], id="a user's profile"),
        pytest.param("product_categories", ["product_id", "category_id"], id="a product in a category"),
        pytest.param("order_items", ["order_id", "product_id"], id="a product in an order"),
        pytest.param("reviews", ["user_id", "product_id"], id="a user's review of a product"),
    ],
)
def test_there_is_only_one(shop: Shop, table: str, columns: list[str]) -> None:
    first = shop.add(table)

    with shop.refuses():
        shop.add(table, **{column: first[column] for column in columns})

    for shared in columns[: len(columns) - 1] + columns[1:]:  # one column of two is free to recur
        shop.add(table, **{shared: first[shared]})


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "table, key",
    [
        ("profiles", {"user_id"}),
        ("product_categories", {"product_id", "category_id"}),
        ("order_items", {"order_id", "product_id"}),
    ],
)
def test_a_table_between_others_has_their_keys_as_its_own(shop: Shop, table: str, key: set[str]) -> None:
    columns = shop.query(
        """
        SELECT attname AS name FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY (conkey)
        WHERE contype = 'p' AND conrelid = %s::regclass
        """,
        table,
    )

    assert {column["name"] for column in columns} == key


@pytest.mark.requirement(3)
def test_a_user_has_many_addresses_and_at_most_one_default(shop: Shop) -> None:
    user_id = shop.add("addresses", is_default=True)["user_id"]
    shop.add("addresses", user_id=user_id)
    shop.add("addresses", user_id=user_id)
    shop.add("addresses", is_default=True)

    with shop.refuses():
        shop.add("addresses", user_id=user_id, is_default=True)

    assert len(shop.rows("addresses")) == 4


@pytest.mark.requirement(3)
def test_an_order_has_many_payments_and_at_most_one_that_succeeded(shop: Shop) -> None:
    order_id = shop.add("payments", status="failed")["order_id"]
    for status in ("failed", "pending", "pending", "refunded", "refunded", "succeeded"):
        shop.add("payments", order_id=order_id, status=status)

    with shop.refuses():
        shop.add("payments", order_id=order_id, status="succeeded")

    assert len(shop.rows("payments")) == 7


@pytest.mark.requirement(3)
def test_a_category_may_be_in_another_one_but_not_in_itself(shop: Shop) -> None:
    outer = shop.add("categories")
    inner = shop.add("categories", parent_id=outer["id"])

    with shop.refuses():
        shop.query("UPDATE categories SET parent_id = id WHERE id = %s", inner["id"])

    assert inner["parent_id"] == outer["id"]


@pytest.mark.requirement(3)
def test_the_diagram_shows_every_foreign_key_and_how_many_there_may_be(solution: Solution) -> None:
    shown = relations(solution.run("diagram").stdout)

    expected = {(parent, key): "||--o{" for key, (parent, _) in ON_DELETE.items()}
    expected["users", "profiles.user_id"] = "||--o|"
    expected["users", "reviews.user_id"] = "|o--o{"
    expected["categories", "categories.parent_id"] = "|o--o{"
    assert shown == expected


# 4. Types, constraints, indexes, names.


@pytest.mark.requirement(4)
@pytest.mark.parametrize("table", TABLES)
def test_columns_have_the_type_of_the_task(shop: Shop, table: str) -> None:
    columns = {column["name"]: column for column in shop.query(COLUMNS, table)}

    for wanted in TABLES[table].split(", "):
        name, kind = wanted.split()
        column = columns[name]
        taken = {"timestamptz": "timestamp with time zone", "status": "text"}.get(kind, kind.rstrip("?"))
        is_status = kind == "status" and column["is_enum"]
        assert is_status or column["type"] == taken, f"{table}.{wanted}: {column['type']}"
        assert column["not_null"] is not kind.endswith("?"), f"{table}.{wanted}"


# Text that may not be NULL, how long it may be, and the character to fill it with.
TEXTS = {
    "users.name": (100, "ü"),
    "addresses.street": (200, "ü"),
    "addresses.postal_code": (20, "ü"),
    "addresses.city": (100, "ü"),
    "categories.slug": (50, "x"),
    "categories.name": (100, "ü"),
    "products.sku": (32, "X"),
    "products.name": (100, "ü"),
    "orders.shipping_address": (500, "ü"),
    "order_items.product_name": (100, "ü"),
    "payments.reference": (100, "ü"),
}


@pytest.mark.requirement(4)
@pytest.mark.parametrize("name", TEXTS)
def test_text_has_the_length_of_the_task_and_is_not_blank(shop: Shop, name: str) -> None:
    (table, column), (limit, letter) = name.split("."), TEXTS[name]

    row = shop.add(table, **{column: letter * limit})

    assert row[column] == letter * limit
    for wrong in (letter * (limit + 1), "", " ", "\t", "\n", " \t\n"):
        with shop.refuses():
            shop.add(table, **{column: wrong})


@pytest.mark.requirement(4)
@pytest.mark.parametrize("table", NUMBERED)
def test_ids_come_from_an_identity_column(shop: Shop, table: str) -> None:
    [column] = [column for column in shop.query(COLUMNS, table) if column["name"] == "id"]

    assert column["identity"] in ("a", "d")


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "table, column, value",
    [
        ("users", "email", "ada"),
        ("users", "email", "ada@home@example.com"),
        ("users", "email", "ada lovelace@example.com"),
        ("users", "email", "@example.com"),
        ("users", "email", "ada@"),
        ("users", "email", "a" * 250 + "@b.de"),
        ("profiles", "phone", "0123 456789"),
        ("profiles", "phone", "+0123456"),
        ("profiles", "phone", "+123456"),
        ("profiles", "phone", "+4912345678901234"),
        ("addresses", "country", "us"),
        ("addresses", "country", "USA"),
        ("categories", "slug", "Desk Lamps"),
        ("categories", "slug", "lamps-"),
        ("categories", "slug", "-lamps"),
        ("categories", "slug", "desk--lamps"),
        ("products", "sku", "sku-1"),
        ("products", "sku", "SKU-1\n"),
        ("products", "price", "-0.01"),
        ("products", "price", "NaN"),
        ("products", "price", "10000000000"),
        ("products", "stock", -1),
        ("orders", "status", "lost"),
        ("orders", "status", "PAID"),
        ("order_items", "unit_price", "-0.01"),
        ("order_items", "unit_price", "NaN"),
        ("order_items", "quantity", 0),
        ("payments", "amount", "0"),
        ("payments", "amount", "NaN"),
        ("payments", "status", "maybe"),
        ("reviews", "rating", 0),
        ("reviews", "rating", 6),
        ("reviews", "body", "x" * 5001),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_wrong_value_is_refused(shop: Shop, table: str, column: str, value: Any) -> None:
    with shop.refuses():
        shop.add(table, **{column: value})


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "table, column, value",
    [
        ("users", "email", "ada+shop@sub.example.com"),
        ("users", "email", "a" * 248 + "@b.exa"),
        ("users", "name", "X"),
        ("users", "name", "Ærøskøbing-Ngũgĩ 李"),
        ("profiles", "phone", "+1234567"),
        ("profiles", "phone", "+123456789012345"),
        ("addresses", "country", "DE"),
        ("categories", "slug", "desk-lamps-2"),
        ("products", "price", "0"),
        ("products", "price", "9999999999.99"),
        ("orders", "status", "paid"),
        ("orders", "status", "shipped"),
        ("orders", "status", "delivered"),
        ("orders", "status", "cancelled"),
        ("payments", "amount", "0.01"),
        ("payments", "status", "failed"),
        ("payments", "status", "refunded"),
        ("reviews", "rating", 1),
        ("reviews", "body", "x" * 5000),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_value_at_the_limit_is_taken(shop: Shop, table: str, column: str, value: Any) -> None:
    row = shop.add(table, **{column: value})

    assert str(row[column]).removesuffix(".00") == str(value)


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "table, column, first, second",
    [
        ("users", "email", "ada@example.com", "ada@example.com"),
        ("users", "email", "ada@example.com", "Ada@Example.COM"),
        ("categories", "slug", "lamps", "lamps"),
        ("products", "sku", "LAMP", "LAMP"),
        ("payments", "reference", "p-1", "p-1"),
    ],
)
def test_what_identifies_a_row_is_unique(shop: Shop, table: str, column: str, first: str, second: str) -> None:
    shop.add(table, **{column: first})

    with shop.refuses():
        shop.add(table, **{column: second})


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "table, column, value",
    [
        ("addresses", "is_default", False),
        ("products", "stock", 0),
        ("orders", "status", "pending"),
        ("payments", "status", "pending"),
    ],
)
def test_the_database_fills_in_the_default(shop: Shop, table: str, column: str, value: Any) -> None:
    assert shop.add(table)[column] == value


@pytest.mark.requirement(4)
@pytest.mark.parametrize("table", [table for table in TABLES if "created_at" in TABLES[table]])
def test_the_database_notes_when_a_row_came_in(shop: Shop, table: str) -> None:
    created_at = shop.add(table)["created_at"]

    assert abs(created_at - datetime.now(UTC)) < timedelta(minutes=10)


@pytest.mark.requirement(4)
def test_every_foreign_key_has_an_index(shop: Shop) -> None:
    missing = shop.query(WITHOUT_INDEX)

    assert [row["key"] for row in missing] == []


LOOKUPS: dict[str, tuple[LiteralString, set[str]]] = {
    "a user by address": ("SELECT * FROM users WHERE lower(email) = lower('Ada@example.com')", {"lower(email)"}),
    "a product by sku": ("SELECT * FROM products WHERE sku = 'LAMP'", {"sku"}),
    "a category by slug": ("SELECT * FROM categories WHERE slug = 'lamps'", {"slug"}),
    "a user's newest orders": (
        "SELECT * FROM orders WHERE user_id = 1 ORDER BY created_at DESC LIMIT 10",
        {"user_id"},
    ),
    "the oldest orders to ship": (
        "SELECT * FROM orders WHERE status = 'paid' ORDER BY created_at LIMIT 10",
        {"created_at", "status"},
    ),
    "a product's newest reviews": (
        "SELECT * FROM reviews WHERE product_id = 1 ORDER BY created_at DESC LIMIT 10",
        {"product_id"},
    ),
    "a category's products": ("SELECT * FROM product_categories WHERE category_id = 1", {"category_id"}),
}


@pytest.mark.requirement(4)
@pytest.mark.parametrize("name", LOOKUPS)
def test_a_frequent_lookup_has_an_index_that_begins_with_what_is_looked_up(shop: Shop, name: str) -> None:
    lookup, beginnings = LOOKUPS[name]

    plan = shop.plan(lookup)

    used = re.findall(r'"Index Name": "(\w+)"', plan)
    first = [shop.query("SELECT pg_get_indexdef(%s::regclass, 1, true) AS first", index)[0]["first"] for index in used]
    assert len(used) == 1
    assert set(first) <= beginnings
    assert not re.search('"Filter"|Seq Scan|Sort', plan)


@pytest.mark.requirement(4)
@pytest.mark.parametrize("status", ["pending", "shipped", "delivered", "cancelled"])
def test_the_index_of_the_orders_to_ship_has_no_other_orders(shop: Shop, status: str) -> None:
    indexes = shop.query("SELECT indexdef FROM pg_indexes WHERE tablename = 'orders'")

    to_ship = [row["indexdef"] for row in indexes if "'paid'" in row["indexdef"]]
    assert len(to_ship) == 1
    assert f"'{status}'" not in to_ship[0]


@pytest.mark.requirement(4)
def test_constraints_and_indexes_are_named_by_kind_and_table(shop: Shop) -> None:
    names = shop.query(NAMES)

    wrong = [row["name"] for row in names if not f"{row['name']}_".startswith(f"{row['prefix']}_{row['table']}_")]
    assert [name for name in wrong if not re.search("version|migration", name)] == []


# 5. Migrations.


@pytest.mark.requirement(5)
def test_the_migrations_make_what_the_models_make(migrated: Database, created: Database) -> None:
    by_migrations, by_models = migrated.catalog(), created.catalog()

    for kind, objects in by_models.items():
        assert by_migrations[kind] == objects, kind


@pytest.mark.requirement(5)
def test_migrations_go_up_down_and_up_again(database: Database, migrated: Database) -> None:
    up = database.succeed("upgrade")

    down = database.succeed("downgrade", "base")
    left = database.catalog()
    database.succeed("upgrade")

    assert (up, down) == ({"revision": "0005"}, {"revision": None})
    assert {kind: objects for kind, objects in left.items() if objects} == {}
    assert database.catalog() == migrated.catalog()


@pytest.mark.requirement(5)
def test_each_migration_is_undone_by_its_downgrade(database: Database) -> None:
    revisions = ["0001", "0002", "0003", "0004", "0005"]
    on_the_way_up = {}
    for revision in revisions:
        assert database.succeed("upgrade", revision) == {"revision": revision}
        on_the_way_up[revision] = database.catalog()

    for revision in reversed(revisions[:-1]):
        assert database.succeed("downgrade", revision) == {"revision": revision}
        assert database.catalog() == on_the_way_up[revision], revision


@pytest.mark.requirement(5)
def test_migrations_keep_the_rows(database_at: At) -> None:
    database = database_at("0005")
    with database.shop() as shop:
        item = shop.add("order_items", product_name="Chair", product_id=shop.add("products", name="Stool")["id"])

    database.succeed("downgrade", "0002")
    database.succeed("upgrade")

    with database.shop() as shop:
        assert shop.rows("order_items") == [item]


@pytest.mark.requirement(5)
def test_the_column_comes_with_the_second_migration(database_at: At) -> None:
    def has_product_name(revision: str) -> bool:
        with database_at(revision).shop() as shop:
            return "product_name" in [column["name"] for column in shop.query(COLUMNS, "order_items")]

    assert (has_product_name("0001"), has_product_name("0002")) == (False, True)


@pytest.mark.requirement(5)
def test_the_application_that_does_not_know_the_column_goes_on_until_the_contract(database: Database) -> None:
    for revision in ["0001", "0002", "0003"]:
        database.succeed("upgrade", revision)
        with database.shop() as shop:
            keys = {"order_id": shop.add("orders")["id"], "product_id": shop.add("products")["id"]}

            item = shop.insert("order_items", keys | {"unit_price": 1, "quantity": 1})

        assert item.get("product_name") is None


@pytest.mark.requirement(5)
def test_the_backfill_names_the_items_from_before_and_leaves_the_others_alone(database_at: At) -> None:
    database = database_at("0002")
    with database.shop() as shop:
        old = shop.add("order_items", product_name=None, product_id=shop.add("products", name="Desk")["id"])
        new = shop.add("order_items", product_name="Chair", product_id=shop.add("products", name="Stool")["id"])

    database.succeed("upgrade", "0003")

    with database.shop() as shop:
        names = {row["order_id"]: row["product_name"] for row in shop.rows("order_items")}
    assert names == {old["order_id"]: "Desk", new["order_id"]: "Chair"}


def add_items(shop: Shop, count: int) -> None:
    """That many order items of the time before product_name, each in an order of its own."""
    user_id, product_id = shop.add("users")["id"], shop.add("products")["id"]
    shop.query(
        """
        WITH placed AS (
            INSERT INTO orders (user_id, shipping_address) SELECT %s, 'x' FROM generate_series(1, %s) RETURNING id
        )
        INSERT INTO order_items (order_id, product_id, unit_price, quantity) SELECT id, %s, 1, 1 FROM placed
        """,
        user_id,
        count,
        product_id,
    )


@pytest.mark.requirement(5)
def test_the_backfill_commits_in_batches_and_goes_on_where_it_was_interrupted(database_at: At) -> None:
    database = database_at("0002")
    with database.shop() as shop:
        add_items(shop, 2500)

    with database.shop() as other:
        [middle] = other.query("SELECT order_id FROM order_items ORDER BY order_id OFFSET 1250 LIMIT 1")
        other.query("SELECT FROM order_items WHERE order_id = %s FOR UPDATE", middle["order_id"])
        database.refuse("upgrade", "0003", LOCK_TIMEOUT="100ms")
        [filled] = other.query("SELECT count(product_name) FROM order_items")
    database.succeed("upgrade", "0003")

    with database.shop() as shop:
        # Each row knows the transaction that wrote it last.
        batches = shop.query("SELECT count(*), count(product_name) AS filled FROM order_items GROUP BY xmin::text")
    assert filled["count"] >= 1000
    assert sum(batch["filled"] for batch in batches) == 2500
    assert max(batch["count"] for batch in batches) <= 1000


@pytest.mark.requirement(5)
def test_the_backfill_does_not_overwrite_a_name_that_is_committed_meanwhile(database_at: At) -> None:
    database = database_at("0002")
    with database.shop() as shop:
        shop.add("order_items", product_name=None)

    with database.shop() as application:
        application.query("UPDATE order_items SET product_name = 'Chair'")
        migration = database.start("upgrade", "0003", LOCK_TIMEOUT="20s")
        wait_until(lambda: "Lock" in database.others() or migration.exit_code is not None)

    assert migration.wait(10) == 0, migration.stderr
    with database.shop() as shop:
        assert [item["product_name"] for item in shop.rows("order_items")] == ["Chair"]


@pytest.mark.requirement(5)
def test_a_statement_that_takes_long_without_waiting_for_a_lock_goes_on(database_at: At) -> None:
    database = database_at("0002")
    with database.shop() as shop:
        shop.add("order_items", product_name=None)
        shop.query("""
            CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END';
            CREATE TRIGGER linger BEFORE UPDATE ON order_items FOR EACH ROW EXECUTE FUNCTION linger()
        """)

    assert database.succeed("upgrade", "0003", LOCK_TIMEOUT="100ms") == {"revision": "0003"}


@pytest.mark.requirement(5)
def test_a_contract_that_comes_too_early_fails_and_leaves_the_old_application_at_work(database_at: At) -> None:
    database = database_at("0003")
    before = database.catalog()
    with database.shop() as shop:
        late = shop.add("order_items", product_name=None)

    database.refuse("upgrade", "0004")

    assert database.catalog() == before
    database.succeed("downgrade", "0002")
    assert database.succeed("upgrade", "0004") == {"revision": "0004"}
    with database.shop() as shop:
        assert shop.rows("order_items") == [late | {"product_name": "Lamp"}]


UNVALIDATED: LiteralString = (
    "SELECT conname FROM pg_constraint WHERE conrelid = 'order_items'::regclass AND NOT convalidated"
)


@pytest.mark.requirement(5)
def test_the_contract_commits_its_rules_before_it_reads_the_rows(database_at: At) -> None:
    database = database_at("0003")
    with database.shop() as shop:
        shop.add("order_items")

    with database.turns("order_items") as turns:
        turns.begin()
        migration = database.start("upgrade", "0004", LOCK_TIMEOUT="20s")
        seen = [bool(shop.query(UNVALIDATED)) for shop in turns.take(migration)]

    assert migration.exit_code == 0, migration.stderr
    assert True in seen, "there was no constraint that is NOT VALID and committed"


@pytest.mark.requirement(5)
def test_a_contract_whose_process_is_killed_halfway_can_be_run_again(database_at: At, migrated: Database) -> None:
    database = database_at("0003")
    with database.shop() as shop:
        shop.add("order_items")

    with database.turns("order_items") as turns:
        turns.begin()
        migration = database.start("upgrade", "0004", LOCK_TIMEOUT="20s")
        for shop in turns.take(migration):
            if shop.query(UNVALIDATED):
                break
        migration.kill()
        turns.end()
    wait_until(lambda: not database.others(), message="the migration's connection stays")
    database.succeed("upgrade")

    assert database.catalog() == migrated.catalog()


@pytest.mark.requirement(5)
def test_a_contract_that_fails_while_others_are_in_the_way_takes_its_rules_back(database_at: At) -> None:
    database = database_at("0003")
    before = database.catalog()

    with database.turns("order_items") as turns:
        turns.begin()
        migration = database.start("upgrade", "0004", LOCK_TIMEOUT="1s")
        for shop in turns.take(migration):
            if shop.query(UNVALIDATED):
                break
        wait_until(turns.waiting)
        validating = turns.wanted()
        # Then it gives up, and wants its rules back.
        wait_until(lambda: turns.wanted() not in ([], validating) or migration.exit_code is not None)
        turns.end()

    assert migration.wait(10) != 0
    assert database.catalog() == before


@pytest.mark.requirement(5)
def test_orders_are_placed_while_their_index_is_made(database_at: At) -> None:
    database = database_at("0004")
    with database.shop() as slow:
        user_id = slow.add("orders")["user_id"]
        slow.connection.commit()
        slow.add("orders", user_id=user_id)  # not committed yet, and the migration waits for it

        migration = database.start("upgrade", "0005", LOCK_TIMEOUT="30s")
        wait_until(lambda: "Lock" in database.others() or migration.exit_code is not None)
        with database.shop() as quick:
            quick.query("SET lock_timeout = '1s'")
            try:
                quick.add("orders", user_id=user_id)
            except psycopg.errors.LockNotAvailable:
                pytest.fail("the migration keeps orders out", pytrace=False)

    assert migration.wait(10) == 0, migration.stderr


@pytest.mark.requirement(5)
def test_an_index_that_was_left_half_done_is_made_anew(database_at: At, migrated: Database) -> None:
    database = database_at("0004")
    with database.shop() as slow:
        slow.add("orders")
        database.refuse("upgrade", "0005", LOCK_TIMEOUT="100ms")

    database.succeed("upgrade", "0005")

    assert database.catalog() == migrated.catalog()


@pytest.mark.requirement(5)
def test_a_migration_gives_up_when_it_waits_for_a_lock_and_goes_through_later(
    database_at: At, migrated: Database
) -> None:
    database = database_at("0004")
    with database.shop() as reader:
        reader.rows("payments")
        reader.rows("order_items")
        database.refuse("downgrade", "base", LOCK_TIMEOUT="100ms")

    database.succeed("upgrade")

    assert database.catalog() == migrated.catalog()


@pytest.mark.requirement(5)
def test_without_a_lock_timeout_a_migration_waits_a_second(database_at: At) -> None:
    database = database_at("0001")
    with database.shop() as reader:
        reader.rows("order_items")

        database.refuse("upgrade", "0002")


def has_come(database: Database, known: list[int]) -> bool:
    """Whether another connection has been there for long enough to have found that it must wait."""
    with database.shop() as shop:
        others = shop.query(
            """
            SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'
            AND pid <> pg_backend_pid() AND pid <> ALL (%s) AND backend_start < clock_timestamp() - interval '0.7 s'
            """,
            known,
        )
    return bool(others)


@pytest.mark.requirement(5)
def test_the_lock_timeout_holds_after_waiting_for_another_migration(database_at: At) -> None:
    database = database_at("0001")
    with database.shop() as reader:
        reader.rows("order_items")
        first = database.start("upgrade", "0002", LOCK_TIMEOUT="20s")
        wait_until(lambda: "Lock" in database.others(), message="the migration does not wait for the reader")
        [pid] = reader.query("SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'order_items'::regclass")
        known = [pid["pid"], reader.connection.info.backend_pid]
        second = database.start("upgrade", "0002", LOCK_TIMEOUT="100ms")
        wait_until(lambda: has_come(database, known), message="the second migration did not come")
        reader.query("SELECT pg_terminate_backend(%s)", pid["pid"])
        wait_until(lambda: second.exit_code is not None, 5, "the second migration waits for ever")

    assert first.wait(10) != 0
    assert second.exit_code != 0


@pytest.mark.requirement(5)
def test_of_two_migrations_at_once_the_second_waits_and_both_succeed(database_at: At, migrated: Database) -> None:
    database = database_at("0001")
    with database.shop() as reader:
        reader.rows("order_items")
        both = [database.start("upgrade", LOCK_TIMEOUT="20s") for _ in range(2)]
        wait_until(lambda: len(database.others()) >= 3, message="the two migrations and the reader do not meet")
        wait_until(lambda: "Lock" in database.others(), message="no migration waits for the reader")

    assert [migration.wait(15) for migration in both] == [0, 0], [migration.stderr for migration in both]
    assert database.catalog() == migrated.catalog()


@pytest.mark.requirement(5)
def test_a_database_that_was_created_needs_no_migration(created: Database) -> None:
    before = created.catalog()

    upgraded = created.succeed("upgrade")

    assert upgraded == {"revision": "0005"}
    assert created.catalog() == before


@pytest.mark.requirement(5)
def test_create_refuses_a_database_that_has_tables(database_at: At) -> None:
    database = database_at("0002")
    before = database.catalog()

    database.refuse("create")

    assert database.catalog() == before
    assert database.succeed("upgrade") == {"revision": "0005"}


@pytest.mark.requirement(5)
def test_create_refuses_a_database_with_a_table_of_somebody_else(database: Database) -> None:
    with database.shop() as shop:
        shop.query("CREATE TABLE notes (note text)")
    before = database.catalog()

    database.refuse("create")

    assert database.catalog() == before


@pytest.mark.requirement(5)
def test_of_two_creations_at_once_one_makes_the_tables(database: Database, created: Database) -> None:
    both = [database.start("create") for _ in range(2)]
    codes = sorted(creation.wait(15) for creation in both)

    assert codes[0] == 0
    assert codes[1] > 0
    assert "Traceback" not in both[0].stderr + both[1].stderr
    assert database.catalog() == created.catalog()
    assert database.succeed("upgrade") == {"revision": "0005"}


@pytest.mark.requirement(5)
@pytest.mark.parametrize(
    "arguments, env",
    [
        pytest.param(["upgrade", "9999"], {}, id="an unknown revision"),
        pytest.param(["downgrade"], {}, id="no revision"),
        pytest.param(["upgrade", ""], {}, id="an empty revision"),
        pytest.param(["migrate"], {}, id="an unknown command"),
        pytest.param(["upgrade"], {"LOCK_TIMEOUT": "soon"}, id="no duration"),
        pytest.param(["upgrade"], {"DATABASE_URL": ""}, id="no database"),
        pytest.param(["create"], {"DATABASE_URL": "nonsense"}, id="no URL"),
        pytest.param(["upgrade"], {"DATABASE_URL": "sqlite:///shop.db"}, id="not PostgreSQL"),
        pytest.param(["create"], {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/shop"}, id="no server"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(
    migrated: Database, arguments: list[str], env: dict[str, str]
) -> None:
    message = migrated.refuse(*arguments, **env)

    assert len(message.strip().splitlines()) <= 5


@pytest.mark.requirement(5)
def test_an_address_that_begins_with_postgres_means_the_same(migrated: Database) -> None:
    url = re.sub(r"^postgresql(\+\w+)?://", "postgres://", migrated.url)

    assert migrated.succeed("upgrade", DATABASE_URL=url) == {"revision": "0005"}


# 6. What becomes of the children.


@pytest.mark.requirement(6)
@pytest.mark.parametrize("key", ON_DELETE)
def test_a_foreign_key_says_what_a_deletion_does(shop: Shop, key: str) -> None:
    table, column = key.split(".")
    rules = shop.query(
        """
        SELECT CASE confdeltype WHEN 'r' THEN 'restrict' WHEN 'c' THEN 'cascade' WHEN 'n' THEN 'set null' END AS rule
        FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = ALL (conkey)
        WHERE contype = 'f' AND conrelid = %s::regclass AND attname = %s
        """,
        table,
        column,
    )

    assert [rule["rule"] for rule in rules] == [ON_DELETE[key][1]]


@pytest.mark.requirement(6)
@pytest.mark.parametrize("key", [key for key, (_, rule) in ON_DELETE.items() if rule == "cascade"])
def test_deleting_the_parent_deletes_the_child_and_nobody_else(shop: Shop, key: str) -> None:
    table, column = key.split(".")
    child, other = shop.add(table), shop.add(table)

    shop.delete(ON_DELETE[key][0], child[column])

    assert shop.rows(table) == [other]
    for parent_column, parent in ((name.split(".")[1], of) for name, (of, _) in ON_DELETE.items() if table in name):
        if parent_column != column and parent_column in child:
            assert child[parent_column] in [row["id"] for row in shop.rows(parent)]


@pytest.mark.requirement(6)
@pytest.mark.parametrize("key", [key for key, (_, rule) in ON_DELETE.items() if rule == "restrict"])
def test_a_parent_with_children_cannot_be_deleted(shop: Shop, key: str) -> None:
    table, column = key.split(".")
    parent = ON_DELETE[key][0]
    child = shop.add(table, **{column: shop.add(parent)["id"]})

    with shop.refuses():
        shop.delete(parent, child[column])

    assert child in shop.rows(table)


@pytest.mark.requirement(6)
@pytest.mark.parametrize("key", [key for key, (_, rule) in ON_DELETE.items() if rule == "restrict"])
def test_a_parent_can_be_deleted_after_its_children(shop: Shop, key: str) -> None:
    table, column = key.split(".")
    parent = ON_DELETE[key][0]
    child = shop.add(table, **{column: shop.add(parent)["id"]})

    if "id" in child:
        shop.delete(table, child["id"])
    else:
        shop.delete("orders", child["order_id"])
    shop.delete(parent, child[column])

    assert child[column] not in [row["id"] for row in shop.rows(parent)]


@pytest.mark.requirement(6)
def test_a_review_outlives_its_author_without_a_name(shop: Shop) -> None:
    review, other = shop.add("reviews"), shop.add("reviews")

    shop.delete("users", review["user_id"])

    reviews = {row["id"]: row for row in shop.rows("reviews")}
    assert reviews == {review["id"]: review | {"user_id": None}, other["id"]: other}


@pytest.mark.requirement(6)
def test_a_product_has_room_for_the_reviews_of_several_deleted_users(shop: Shop) -> None:
    product_id = shop.add("products")["id"]
    authors = [shop.add("reviews", product_id=product_id)["user_id"] for _ in range(2)]

    for author in authors:
        shop.delete("users", author)

    assert [row["user_id"] for row in shop.rows("reviews")] == [None, None]


@pytest.mark.requirement(6)
def test_a_user_goes_with_profile_and_addresses_but_not_while_there_are_orders(shop: Shop) -> None:
    user_id = shop.add("profiles")["user_id"]
    shop.add("addresses", user_id=user_id)
    order = shop.add("orders", user_id=user_id)

    with shop.refuses():
        shop.delete("users", user_id)
    assert len(shop.rows("profiles")) == len(shop.rows("addresses")) == 1
    shop.delete("orders", order["id"])
    shop.delete("users", user_id)

    assert shop.rows("profiles") == shop.rows("addresses") == []


@pytest.mark.requirement(6)
def test_an_order_that_was_paid_stays_with_its_items(shop: Shop) -> None:
    item = shop.add("order_items")
    shop.add("payments", order_id=item["order_id"])

    with shop.refuses():
        shop.delete("orders", item["order_id"])

    assert shop.rows("order_items") == [item]
