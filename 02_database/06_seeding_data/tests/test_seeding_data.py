"""The specification of a seeding command, requirement by requirement."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import psycopg
import pytest

from grader.solution import Solution, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Database

SEED = ["seed", "--environment", "testing", "--rows"]
PRODUCTION = ["seed", "--environment", "production"]
NOTHING = {"categories": 0, "products": 0, "users": 0, "orders": 0, "order_items": 0}

# What production asks for, in so many words.
SAMPLES = "put sample data into production"
EMPTY = "delete everything in production"

# What was seeded, told without ids.
CATEGORIES = "SELECT id, slug, name, parent_id FROM categories ORDER BY id"
PRODUCTS = "SELECT sku, name, category, price, stock, description FROM products ORDER BY sku"
CUSTOMERS = "SELECT email, name, created_at FROM users WHERE role = 'user' ORDER BY email"
ORDERS = """
    SELECT email, status, orders.created_at, sku, quantity, unit_price
    FROM users JOIN orders ON user_id = users.id
    JOIN order_items ON order_id = orders.id JOIN products ON product_id = products.id
    ORDER BY email, orders.created_at, sku
"""


def add_user(database: Database, email: str, user_id: int | None = None) -> int:
    """Add a user whom no seeding made, with an id of the sequence unless one is given; return the id."""
    columns = "email, name, role, created_at" + ", id" * (user_id is not None)
    values = "%s, 'Own', 'own', now()" + ", %s" * (user_id is not None)
    statement = f"INSERT INTO users ({columns}) VALUES ({values}) RETURNING id"  # noqa: S608  constants
    [(number,)] = database.query(statement, email, *filter(None, [user_id]))
    return int(number)


def file_with(**fields: str) -> str:
    """A CSV file with one product, a mouse unless told otherwise; fields are written as they are given."""
    mouse = {"sku": "MO-1", "name": "Mouse", "category": "mice", "price": "9.90", "stock": "3", "description": ""}
    product = mouse | fields
    return ",".join(product) + "\n" + ",".join(product.values()) + "\n"


# 1. The commands.


@pytest.mark.requirement(1)
def test_seeding_a_new_database_puts_rows_into_every_table(development: Database) -> None:
    assert [table for table, count in development.counts().items() if count == 0] == []


@pytest.mark.requirement(1)
def test_development_has_a_hundred_customers_and_testing_ten(development: Database, testing: Database) -> None:
    assert len(development.query(CUSTOMERS)) == 100
    assert len(testing.query(CUSTOMERS)) == 10


@pytest.mark.requirement(1)
def test_rows_says_how_many_customers_and_the_answer_what_went_in(database: Database) -> None:
    finished = database.run(*SEED, "1200")

    assert finished.exit_code == 0
    assert len(database.query(CUSTOMERS)) == 1200
    assert finished.json()["inserted"] == database.counts()
    assert finished.stderr == ""


@pytest.mark.requirement(1)
@pytest.mark.parametrize("environment", ["development", "testing", "production"])
def test_status_tells_the_environment_and_the_number_of_rows(request: pytest.FixtureRequest, environment: str) -> None:
    database: Database = request.getfixturevalue(environment)

    status = database.succeed("status")

    assert status == {"environment": environment, "rows": database.counts()}


@pytest.mark.requirement(1)
def test_the_status_of_an_empty_database_is_told_and_changes_nothing(untouched: Database) -> None:
    status = untouched.succeed("status")

    assert status == {"environment": None, "rows": NOTHING}
    assert untouched.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []


@pytest.mark.requirement(1)
def test_reset_empties_the_tables_so_that_seeding_begins_anew(database: Database) -> None:
    database.succeed(*SEED, "5")
    first = database.content()

    reset = database.succeed("reset")
    database.succeed(*SEED, "5")

    assert reset == {"environment": None, "rows": NOTHING}
    assert database.content() == first


@pytest.mark.requirement(1)
def test_reset_of_an_empty_database_is_no_error(untouched: Database) -> None:
    assert untouched.succeed("reset")["rows"] == NOTHING


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["sow"], id="an unknown command"),
        pytest.param(["seed"], id="no environment"),
        pytest.param(["seed", "--environment", "staging"], id="an unknown environment"),
        pytest.param([*SEED, "-1"], id="negative rows"),
        pytest.param([*SEED, "many"], id="rows is a word"),
        pytest.param([*SEED, "1", "--random-seed", "x"], id="the random seed is a word"),
    ],
)
def test_a_wrong_command_line_is_an_error_and_changes_nothing(untouched: Database, arguments: list[str]) -> None:
    untouched.refuse(*arguments)

    assert untouched.counts() == NOTHING


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "url",
    [
        pytest.param(None, id="unset"),
        pytest.param("shop", id="no URL"),
        pytest.param("sqlite:///shop.db", id="another database"),
        pytest.param("postgresql://shop:s3cret@127.0.0.1:port/shop", id="a port that is none"),
        pytest.param("postgresql://shop:s3cret@127.0.0.1:1/shop", id="nobody listens"),
    ],
)
def test_a_database_that_cannot_be_used_is_an_error_that_keeps_the_password(
    solution: Solution, url: str | None
) -> None:
    finished = solution.run(*PRODUCTION, DATABASE_URL=url)

    assert finished.exit_code != 0
    assert finished.stdout == ""
    assert finished.stderr.strip()
    assert "Traceback" not in finished.stderr
    assert "s3cret" not in finished.stderr


@pytest.mark.requirement(1)
@pytest.mark.parametrize("scheme", ["postgres://", "postgresql://"])
def test_both_names_of_the_scheme_are_accepted(solution: Solution, production: Database, scheme: str) -> None:
    url = scheme + production.url.partition("://")[2]

    finished = solution.run("status", DATABASE_URL=url)

    assert finished.exit_code == 0, finished.stderr


@pytest.mark.requirement(1)
def test_a_seeding_that_is_cut_off_halfway_leaves_nothing(solution: Solution, database: Database) -> None:
    database.succeed(*SEED, "0")
    before = database.content()

    with psycopg.connect(database.url) as other:
        other.execute("LOCK TABLE order_items IN EXCLUSIVE MODE")
        seeding = solution.start(*SEED, "20", DATABASE_URL=database.url)
        waiting = "SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'order_items'::regclass"
        pids = wait_until(lambda: database.query(waiting), timeout=30, message="no row for order_items came")
        database.query("SELECT pg_terminate_backend(%s)", pids[0][0])
        exit_code = seeding.wait(30)

    assert exit_code != 0
    assert "Traceback" not in seeding.stderr
    assert database.content() == before


@pytest.mark.requirement(1)
def test_two_seedings_of_a_new_database_at_once_are_as_one(
    solution: Solution, database: Database, development: Database
) -> None:
    arguments = ["seed", "--environment", "development"]

    seedings = [solution.start(*arguments, DATABASE_URL=database.url) for _ in range(2)]
    exit_codes = [seeding.wait(30) for seeding in seedings]

    assert exit_codes == [0, 0], [seeding.stderr for seeding in seedings]
    assert database.counts() == development.counts()


@pytest.mark.requirement(1)
def test_two_seedings_that_add_the_same_customers_at_once_are_as_one(
    solution: Solution, database: Database, testing: Database
) -> None:
    database.succeed(*SEED, "0")

    with psycopg.connect(database.url) as other:
        other.execute("LOCK TABLE users IN EXCLUSIVE MODE")
        seedings = [solution.start(*SEED, "10", DATABASE_URL=database.url) for _ in range(2)]
        waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        wait_until(
            lambda: len(database.query(waiting)) >= 2, timeout=30, message="two seedings did not come to the users"
        )
    exit_codes = [seeding.wait(30) for seeding in seedings]

    assert exit_codes == [0, 0], [seeding.stderr for seeding in seedings]
    assert database.query(ORDERS) == testing.query(ORDERS)
    assert database.counts() == testing.counts()


# 2. Relationships and sequences.


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "children, parents",
    [
        ("SELECT user_id FROM orders", "SELECT id FROM users"),
        ("SELECT order_id FROM order_items", "SELECT id FROM orders"),
        ("SELECT product_id FROM order_items", "SELECT id FROM products"),
        ("SELECT parent_id FROM categories WHERE parent_id IS NOT NULL", "SELECT id FROM categories"),
        ("SELECT category FROM products", "SELECT slug FROM categories"),
    ],
    ids=["users", "orders", "products", "parent categories", "categories"],
)
def test_what_a_row_refers_to_exists(development: Database, children: str, parents: str) -> None:
    references = development.query(children)

    assert references
    assert set(references) <= set(development.query(parents))


@pytest.mark.requirement(2)
def test_postgresql_itself_guards_the_relationships(development: Database) -> None:
    guards = "SELECT conrelid::regclass::text FROM pg_constraint WHERE contype = 'f' AND convalidated ORDER BY 1"

    tables = [table for (table,) in development.query(guards)]

    assert tables == ["categories", "order_items", "order_items", "orders"]


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "table, insert",
    [
        ("categories", "(slug, name) VALUES ('own', 'Own')"),
        ("users", "(email, name, role, created_at) VALUES ('own@example.com', 'Own', 'own', now())"),
        ("products", "(sku, name, category, price, stock, created_at) VALUES ('X', 'X', 'mice', 1, 1, now())"),
        ("orders", "(user_id, status, created_at) SELECT min(id), 'paid', now() FROM users"),
    ],
)
def test_the_next_row_gets_an_id_that_is_free(development: Database, table: str, insert: str) -> None:
    [(largest,)] = development.query(f"SELECT max(id) FROM {table}")  # noqa: S608  a constant

    with psycopg.connect(development.url) as connection, connection.transaction(force_rollback=True):
        try:
            new = connection.execute(f"INSERT INTO {table} {insert} RETURNING id".encode()).fetchall()
        except psycopg.errors.UniqueViolation as error:
            pytest.fail(f"the sequence gave an id that is taken: {error}")

    assert new > [(largest,)]


@pytest.mark.requirement(2)
def test_an_id_is_never_given_twice_even_when_its_row_is_gone(database: Database) -> None:
    database.succeed(*SEED, "3")
    before = add_user(database, "before@example.com")
    database.query("DELETE FROM users WHERE id = %s", before)

    database.succeed(*SEED, "3")

    assert add_user(database, "after@example.com") > before


@pytest.mark.requirement(2)
def test_ids_ahead_of_the_sequence_do_not_stop_a_seeding(database: Database) -> None:
    database.succeed(*SEED, "3")
    [(last,)] = database.query("SELECT max(id) FROM users")
    for number in range(1, 4):
        add_user(database, f"own{number}@example.com", last + number)

    database.succeed(*SEED, "10")

    assert len(database.query(CUSTOMERS)) == 10


@pytest.mark.requirement(2)
def test_no_order_is_older_than_its_user(development: Database) -> None:
    older = "SELECT * FROM orders JOIN users ON users.id = user_id WHERE orders.created_at < users.created_at"

    assert development.query(older) == []


@pytest.mark.requirement(2)
def test_every_order_has_items_at_the_price_of_their_product(development: Database) -> None:
    empty = "SELECT id FROM orders WHERE id NOT IN (SELECT order_id FROM order_items)"
    wrong = "SELECT * FROM order_items JOIN products ON id = product_id WHERE unit_price <> price OR quantity < 1"

    assert development.query(empty) == []
    assert development.query(wrong) == []


# 3. Generated data, and data from a file.


@pytest.mark.requirement(3)
def test_the_same_random_seed_gives_the_same_customers_however_many_and_another_gives_others(
    database: Database, development: Database
) -> None:
    database.succeed(*SEED, "12", "--random-seed", "1")
    same, orders = database.query(CUSTOMERS), database.query(ORDERS)
    database.succeed(*SEED, "12", "--random-seed", "2")
    both = database.query(CUSTOMERS)

    emails = {email for email, *_ in same}
    assert len(same) == 12
    assert same == [row for row in development.query(CUSTOMERS) if row[0] in emails]
    assert orders == [row for row in development.query(ORDERS) if row[0] in emails]
    assert len(both) == 24


@pytest.mark.requirement(3)
def test_customers_differ_from_each_other(development: Database) -> None:
    [(names, moments)] = development.query("SELECT count(DISTINCT name), count(DISTINCT created_at) FROM users")

    assert names > 50
    assert moments > 50


@pytest.mark.requirement(3)
def test_nobody_gets_mail_at_a_generated_address(development: Database) -> None:
    domains = {email.rpartition("@")[2] for (email,) in development.query("SELECT email FROM users")}

    assert domains <= {"example.com", "example.net", "example.org"}


@pytest.mark.requirement(3)
@pytest.mark.parametrize("table", ["users", "products", "orders"])
def test_everything_happened_in_2025_whatever_the_time_is_now(development: Database, table: str) -> None:
    moments = [moment for (moment,) in development.query(f"SELECT created_at FROM {table}")]  # noqa: S608

    assert min(moments) >= datetime(2025, 1, 1, tzinfo=UTC)
    assert max(moments) < datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.requirement(3)
def test_the_products_are_those_of_the_sample_file(development: Database, solution: Solution) -> None:
    with (solution.path / "data" / "products.csv").open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file))

    assert len(lines) >= 10
    assert development.query(PRODUCTS) == [
        (
            line["sku"],
            line["name"],
            line["category"],
            Decimal(line["price"]),
            int(line["stock"]),
            line["description"] or None,
        )
        for line in sorted(lines, key=lambda line: line["sku"])
    ]


@pytest.mark.requirement(3)
def test_a_file_of_excel_comes_in_to_the_letter(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    text = 'Small, "quiet"\nand grün, 日本, \\N'
    quoted = text.replace('"', '""')
    lines = ["stock,description,price,category,name,sku"]  # in an order of its own
    lines += [f'3,"{quoted}",0.10,mice,Mouse,MO-1', "0,,9.90,mice,O'Brien %s,MO-2"]
    file.write_bytes(("\ufeff" + "\r\n".join(lines)).encode())

    database.succeed(*SEED, "5", "--products", str(file))

    assert database.query(PRODUCTS) == [
        ("MO-1", "Mouse", "mice", Decimal("0.10"), 3, text),
        ("MO-2", "O'Brien %s", "mice", Decimal("9.90"), 0, None),
    ]


WRONG_FILES = [
    pytest.param(None, id="no file"),
    pytest.param("", id="empty"),
    pytest.param(file_with().splitlines()[0], id="no product"),
    pytest.param("sku,name\nMO-1,Mouse\n", id="columns are missing"),
    pytest.param(file_with() + "MO-2,Mouse,mice,9.90\n", id="a line is short"),
    pytest.param(file_with() + file_with().splitlines()[1], id="a sku twice"),
    pytest.param(file_with(price="free"), id="the price is a word"),
    pytest.param(file_with(price="-1.00"), id="the price is negative"),
    pytest.param(file_with(price="9.999"), id="the price has three decimals"),
    pytest.param(file_with(price="NaN"), id="the price is NaN"),
    pytest.param(file_with(name=""), id="the name is empty"),
    pytest.param(file_with(name="x" * 101), id="the name is too long"),
    pytest.param(file_with(name="a\x00b"), id="the name has a NUL"),
    pytest.param(file_with(category="spaceships"), id="the category is unknown"),
    pytest.param(file_with(description='"open'), id="a quote is not closed"),
    pytest.param(file_with(name="Größe").encode("latin-1"), id="not UTF-8"),
]


@pytest.mark.requirement(3)
@pytest.mark.parametrize("content", WRONG_FILES)
def test_a_wrong_file_is_named_and_nothing_of_it_is_stored(
    untouched: Database, tmp_path: Path, content: str | bytes | None
) -> None:
    file = tmp_path / "own.csv"
    if content is not None:
        file.write_bytes(content.encode() if isinstance(content, str) else content)

    message = untouched.refuse(*SEED, "5", "--products", str(file))

    assert file.name in message
    assert untouched.counts() == NOTHING


# 4. Environments, and what is there already.


@pytest.mark.requirement(4)
def test_production_gets_the_categories_of_development_and_nothing_else(
    production: Database, development: Database
) -> None:
    categories = production.query(CATEGORIES)

    assert categories == development.query(CATEGORIES)
    assert production.counts() == NOTHING | {"categories": len(categories)}


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--rows", "5"], id="rows"),
        pytest.param(["--products", "{folder}/data/products.csv"], id="products"),
        pytest.param(["--rows", "5", "--confirm", "yes"], id="confirmed in other words"),
        pytest.param(["--rows", "5", "--confirm", EMPTY], id="confirmed for something else"),
        pytest.param(["--rows", "5", "--conf", SAMPLES], id="confirmed in an abbreviation"),
    ],
)
def test_sample_data_in_production_is_refused(production: Database, solution: Solution, arguments: list[str]) -> None:
    before = production.content()

    production.refuse(*PRODUCTION, *(argument.format(folder=solution.path) for argument in arguments))

    assert production.content() == before


@pytest.mark.requirement(4)
def test_sample_data_in_production_may_be_forced_and_nobody_can_log_in(database: Database) -> None:
    database.succeed(*PRODUCTION, "--rows", "5", "--confirm", SAMPLES)

    assert database.query("SELECT role, password_hash FROM users") == [("user", None)] * 5


@pytest.mark.requirement(4)
def test_development_has_an_administrator_whose_password_is_stored_as_a_hash(development: Database) -> None:
    administrators = "SELECT email, password_hash FROM users WHERE role = 'admin'"

    [(email, password_hash)] = development.query(administrators)

    assert email == "admin@example.com"
    assert password_hash
    assert "development" not in password_hash


@pytest.mark.requirement(4)
def test_testing_has_an_administrator_without_a_known_password(testing: Database) -> None:
    assert testing.query("SELECT email FROM users WHERE role = 'admin'") == [("admin@example.com",)]
    assert testing.query("SELECT email FROM users WHERE password_hash IS NOT NULL") == []


@pytest.mark.requirement(4)
@pytest.mark.parametrize("environment", ["development", "testing", "production"])
def test_twice_is_as_once(request: pytest.FixtureRequest, environment: str) -> None:
    database: Database = request.getfixturevalue(environment)
    before = database.content()

    told = database.succeed("seed", "--environment", environment)

    assert database.content() == before
    assert sum(told["inserted"].values()) == 0


@pytest.mark.requirement(4)
def test_what_was_done_to_seeded_rows_since_is_kept(database: Database) -> None:
    database.succeed(*SEED, "5")
    database.query("DELETE FROM orders WHERE id = (SELECT min(id) FROM orders)")
    database.query("UPDATE orders SET status = 'ours', created_at = now()")
    database.query("UPDATE order_items SET quantity = 99, unit_price = 0")
    database.query("UPDATE users SET name = 'Ours', password_hash = 'ours', role = 'ours'")
    database.query("UPDATE products SET name = 'Ours', price = 1, stock = 0, description = NULL")
    database.query("UPDATE categories SET name = 'Ours', parent_id = 8 WHERE id = 2")
    before = database.content()

    database.succeed(*SEED, "5")

    assert database.content() == before


@pytest.mark.requirement(4)
def test_reference_data_that_is_missing_is_put_in(database: Database) -> None:
    database.succeed(*PRODUCTION)
    complete = database.query(CATEGORIES)
    database.query("DELETE FROM categories WHERE parent_id IS NOT NULL")

    database.succeed(*PRODUCTION)

    assert database.query(CATEGORIES) == complete


@pytest.mark.requirement(4)
def test_more_rows_add_customers_and_no_orders_to_those_who_are_there(
    database: Database, development: Database
) -> None:
    database.succeed(*SEED, "10")

    database.succeed(*SEED, "100")

    assert database.query(CUSTOMERS) == development.query(CUSTOMERS)
    assert database.query(ORDERS) == development.query(ORDERS)


@pytest.mark.requirement(4)
def test_users_whom_no_seeding_made_are_left_alone_and_get_no_orders(database: Database) -> None:
    database.succeed(*SEED, "2")
    own = [add_user(database, f"own{number}@example.com") for number in range(20)]
    before = database.query("SELECT * FROM users WHERE role = 'own' ORDER BY id")

    database.succeed(*SEED, "40")

    assert database.query("SELECT * FROM users WHERE role = 'own' ORDER BY id") == before
    assert database.query("SELECT id FROM orders WHERE user_id = ANY(%s)", own) == []
    assert len(database.query(CUSTOMERS)) == 40


@pytest.mark.requirement(4)
@pytest.mark.parametrize("environment", ["development", "testing"])
def test_a_production_database_takes_nothing_for_another_environment(production: Database, environment: str) -> None:
    before = production.content()

    production.refuse("seed", "--environment", environment)

    assert production.content() == before
    assert production.succeed("status")["environment"] == "production"


@pytest.mark.requirement(4)
def test_a_development_database_is_not_taken_for_production(development: Database) -> None:
    before = development.content()

    development.refuse(*PRODUCTION)

    assert development.content() == before
    assert development.succeed("status")["environment"] == "development"


@pytest.mark.requirement(4)
def test_a_database_with_rows_that_says_nothing_counts_as_production(database: Database) -> None:
    database.query("CREATE TABLE users (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, email text)")
    database.query("INSERT INTO users (email) VALUES ('customer@example.com')")

    database.refuse("reset")
    database.refuse(*SEED, "3")

    assert database.counts() == NOTHING | {"users": 1}


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="not confirmed"),
        pytest.param(["--confirm", "yes"], id="confirmed in other words"),
        pytest.param(["--confirm", SAMPLES], id="confirmed for something else"),
        pytest.param(["--conf", EMPTY], id="confirmed in an abbreviation"),
    ],
)
def test_reset_of_production_is_refused(production: Database, arguments: list[str]) -> None:
    before = production.content()

    production.refuse("reset", *arguments)

    assert production.content() == before


@pytest.mark.requirement(4)
def test_reset_of_production_may_be_forced(database: Database) -> None:
    database.succeed(*PRODUCTION)

    assert database.succeed("reset", "--confirm", EMPTY) == {"environment": None, "rows": NOTHING}
