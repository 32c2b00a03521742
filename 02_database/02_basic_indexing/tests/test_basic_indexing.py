"""The specification of indexes and of their measurement, requirement by requirement."""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from grader.solution import Solution, wait_until

if TYPE_CHECKING:
    from conftest import Database, Plan

ROWS = 30_000  # of the databases `bare` and `indexed`
QUERIES = {
    "order-by-number": "SELECT id, status, total FROM orders WHERE number = 'R00000042'",
    "orders-by-email": "SELECT number, total FROM orders WHERE lower(email) = 'customer42@example.com'",
    "orders-of-product": "SELECT number, total FROM orders WHERE product_id = 42",
    "newest-orders": """SELECT number, total, created_at FROM orders
        WHERE customer_id = 42 ORDER BY created_at DESC LIMIT 10""",
    "orders-to-ship": "SELECT number, email FROM orders WHERE status = 'paid' ORDER BY created_at LIMIT 50",
    "revenue-of-country": """SELECT sum(total) FROM orders WHERE country = 'PT'
        AND created_at >= '2025-06-01 00:00+00' AND created_at < '2025-07-01 00:00+00'""",
    "revenue-of-day": """SELECT sum(total) FROM orders
        WHERE created_at >= '2025-06-15 00:00+00' AND created_at < '2025-06-16 00:00+00'""",
    "revenue-of-date": "SELECT sum(total) FROM orders WHERE (created_at AT TIME ZONE 'UTC')::date = '2025-06-15'",
    "revenue-of-domain": "SELECT sum(total) FROM orders WHERE email LIKE '%.org'",
    "revenue-delivered": "SELECT sum(total) FROM orders WHERE status = 'delivered'",
}
UNINDEXED = ["revenue-of-date", "revenue-of-domain", "revenue-delivered"]
INDEXED = [name for name in QUERIES if name not in UNINDEXED]

COLUMNS = "number, customer_id, product_id, email, country, status, total, created_at, note"
ONE_MORE = f"INSERT INTO orders ({COLUMNS}) VALUES (%s, 1, 1, 'a@example.com', 'PT', 'paid', 1, now(), '')"  # noqa: S608
NOT_THERE = "postgresql://127.0.0.1:1/shop"


# 1. The commands, the queries, and what each needs indexed.


@pytest.mark.requirement(1)
def test_load_fills_the_table_with_as_many_rows_as_asked_for(database: Database) -> None:
    answer = database.json("load", "--rows", "1200")

    assert answer == {"rows": 1200}
    assert database.query("SELECT count(*), count(DISTINCT number), max(id) FROM orders") == [(1200, 1200, 1200)]


@pytest.mark.requirement(1)
def test_the_rows_are_those_of_the_task(bare: Database) -> None:
    [first, other] = bare.query(f"SELECT {COLUMNS} FROM orders WHERE id IN (42, 30000) ORDER BY id")  # noqa: S608
    statuses = dict(bare.query("SELECT status, count(*) FROM orders GROUP BY status"))

    year = datetime(2025, 1, 1, tzinfo=UTC)
    assert first[:3] == ("R00000042", 42 * 104729 % 600 + 1, 42 * 7919 % 5000 + 1)
    assert first[3:7] == (f"Customer{first[1]}@Example.com", "BG", "delivered", Decimal("500.82"))
    assert first[7] == year + timedelta(days=365) * 41 / ROWS
    assert (other[0], other[5], other[8]) == ("R00030000", "paid", "")
    assert statuses == {"paid": 300, "cancelled": 900, "delivered": 28800}


@pytest.mark.requirement(1)
def test_after_load_the_planner_knows_the_table_and_which_blocks_all_may_see(bare: Database) -> None:
    [(rows, pages, visible)] = bare.query(
        "SELECT reltuples, relpages, relallvisible FROM pg_class WHERE relname = 'orders'"
    )
    [(columns,)] = bare.query("SELECT count(*) FROM pg_stats WHERE tablename = 'orders'")

    assert (rows, pages, visible) == (ROWS, bare.blocks(), pages)
    assert columns == 10


@pytest.mark.requirement(1)
def test_rows_that_are_there_are_replaced_only_when_that_is_asked_for(few: Database) -> None:
    few.succeed("indexes", "--create")
    indexes = set(few.indexes())

    few.refuse("load", "--rows", "1")
    before = few.query("SELECT count(*) FROM orders")
    answer = few.json("load", "--rows", "1", "--replace")

    assert before == [(3000,)]
    assert answer == {"rows": 1}
    assert few.query("SELECT id, number FROM orders") == [(1, "R00000001")]
    assert set(few.indexes()) == indexes


@pytest.mark.requirement(1)
def test_a_load_that_fails_changes_nothing(database: Database) -> None:
    database.query("CREATE TABLE orders AS SELECT 'of somebody else' AS dish")

    database.refuse("load", "--rows", "7", "--replace")

    assert database.query("SELECT * FROM orders") == [("of somebody else",)]


@pytest.mark.requirement(1)
def test_a_load_that_is_interrupted_leaves_no_table(database: Database) -> None:
    database.set("statement_timeout", "200ms")

    database.refuse("load", "--rows", "10000000")

    assert database.query("SELECT to_regclass('orders')") == [(None,)]


@pytest.mark.requirement(1)
@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_the_url_may_be_written_in_each_of_the_usual_ways(bare: Database, solution: Solution, scheme: str) -> None:
    url = re.sub(r"^[\w+]+://", f"{scheme}://", bare.url)

    finished = solution.run("indexes", "--drop", DATABASE_URL=url)

    assert finished.exit_code == 0, finished.stderr
    assert finished.json() == {"dropped": []}


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="no command"),
        pytest.param(["tune"], id="an unknown command"),
        pytest.param(["load"], id="load without rows"),
        pytest.param(["load", "--rows", "0"], id="no rows"),
        pytest.param(["load", "--rows", "-5"], id="negative rows"),
        pytest.param(["load", "--rows", "10000001"], id="too many rows"),
        pytest.param(["load", "--rows", "9" * 30], id="more rows than bigint holds"),
        pytest.param(["load", "--rows", "many"], id="rows that are no number"),
        pytest.param(["load", "--rows", "1.5"], id="half a row"),
        pytest.param(["writes", "--rows", "0"], id="writes of nothing"),
        pytest.param(["indexes"], id="indexes without a choice"),
        pytest.param(["indexes", "--create", "--drop"], id="indexes with both choices"),
        pytest.param(["report", "--format", "xml"], id="an unknown format"),
    ],
)
def test_a_wrong_command_line_is_refused(bare: Database, arguments: list[str]) -> None:
    bare.refuse(*arguments)


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "arguments, url",
    [
        pytest.param(["report"], None, id="no URL"),
        pytest.param(["report"], "mysql://localhost/shop", id="of another kind"),
        pytest.param(["report"], "postgresql://[", id="not to be parsed"),
        pytest.param(["report"], NOT_THERE, id="report"),
        pytest.param(["load", "--rows", "10"], NOT_THERE, id="load"),
        pytest.param(["indexes", "--create"], NOT_THERE, id="indexes --create"),
        pytest.param(["writes", "--rows", "10"], NOT_THERE, id="writes"),
    ],
)
def test_a_database_that_is_not_to_be_had_is_an_error(
    solution: Solution, arguments: list[str], url: str | None
) -> None:
    finished = solution.run(*arguments, DATABASE_URL=url)

    assert finished.exit_code != 0
    assert finished.stdout == ""
    assert len(finished.stderr.splitlines()) == 1


@pytest.mark.requirement(1)
@pytest.mark.parametrize("arguments", [["indexes", "--create"], ["indexes", "--drop"], ["report"]], ids=" ".join)
def test_a_missing_table_is_an_error(untouched: Database, arguments: list[str]) -> None:
    assert len(untouched.refuse(*arguments).splitlines()) == 1


@pytest.mark.requirement(1)
def test_the_report_names_the_queries_and_their_sql(report: list[dict[str, Any]]) -> None:
    named = {entry["query"]: " ".join(entry["sql"].rstrip("; \n").split()) for entry in report}

    assert named == {name: " ".join(sql.split()) for name, sql in QUERIES.items()}


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "name, columns",
    [
        ("order-by-number", ["number"]),
        ("orders-by-email", ["lower(email)"]),
        ("orders-of-product", ["product_id"]),
        ("newest-orders", ["customer_id", "created_at"]),
        ("revenue-of-country", ["country", "created_at"]),
    ],
)
def test_the_columns_that_a_query_asks_by_are_indexed(indexed: Database, name: str, columns: list[str]) -> None:
    index = indexed.plan(QUERIES[name]).index

    assert index is not None
    assert indexed.indexes()[index].keys[: len(columns)] == columns


@pytest.mark.requirement(1)
def test_the_report_tells_the_columns_of_the_index_that_served(indexed: Database, report: list[dict[str, Any]]) -> None:
    plans = {name: indexed.plan(sql) for name, sql in QUERIES.items()}
    indexes = indexed.indexes()

    keys = {name: indexes[plan.index].keys if plan.index else [] for name, plan in plans.items()}
    assert {entry["query"]: entry["columns"] for entry in report} == keys
    assert [name for name in QUERIES if not keys[name]] == UNINDEXED


# 2. Kinds of indexes, and when they do not help. Tests that make indexes of their own in `bare`, and those of generic
# plans, VACUUM and other expressions, examine PostgreSQL: they hold the README to what it says.


@pytest.mark.requirement(2)
@pytest.mark.parametrize("name", INDEXED)
def test_with_its_index_a_query_reads_nothing_that_it_does_not_need(indexed: Database, name: str) -> None:
    plan = indexed.plan(QUERIES[name])

    assert plan.index
    assert plan.removed == 0
    assert plan.blocks < indexed.blocks() / 4


@pytest.mark.requirement(2)
def test_single_an_index_on_one_column_finds_the_rows_with_its_value(indexed: Database) -> None:
    plan = indexed.plan(QUERIES["orders-of-product"])

    assert plan.kind != "Seq Scan"
    assert plan.condition == "(product_id = 42)"
    assert plan.rows == 6


@pytest.mark.requirement(2)
def test_unique_there_is_one_row_for_a_number_and_the_planner_knows_it(indexed: Database) -> None:
    plan = indexed.plan(QUERIES["order-by-number"])

    assert indexed.indexes()[plan.index or ""].is_unique
    assert plan.estimate == 1


@pytest.mark.requirement(2)
def test_composite_the_index_has_the_order_so_that_nothing_is_sorted(bare: Database, indexed: Database) -> None:
    without = bare.plan(QUERIES["newest-orders"])
    plan = indexed.plan(QUERIES["newest-orders"])

    assert (without.sorts, without.rows) == (True, 50)
    assert (plan.sorts, plan.rows) == (False, 10)


@pytest.mark.requirement(2)
def test_composite_the_index_serves_its_first_column_alone(indexed: Database) -> None:
    plan = indexed.plan("SELECT number FROM orders WHERE customer_id = 42")

    assert plan.condition == "(customer_id = 42)"


@pytest.mark.requirement(2)
def test_composite_with_the_columns_the_other_way_round_more_is_read(bare: Database, indexed: Database) -> None:
    plan = indexed.plan(QUERIES["newest-orders"])
    turned = bare.plan(QUERIES["newest-orders"], "CREATE INDEX turned ON orders (created_at, customer_id)")

    assert turned.blocks > 2 * plan.blocks


@pytest.mark.requirement(2)
def test_composite_a_first_column_of_few_values_may_be_skipped(indexed: Database) -> None:
    plan = indexed.plan(QUERIES["revenue-of-day"])
    indexes = indexed.indexes()

    assert plan.index
    assert indexes[plan.index].keys == ["country", "created_at"]
    assert 20 <= plan.searches <= 60  # some for each country


@pytest.mark.requirement(2)
def test_composite_skipping_reads_more_than_an_index_of_its_own(bare: Database, indexed: Database) -> None:
    skipping = indexed.plan(QUERIES["revenue-of-day"])
    direct = bare.plan(QUERIES["revenue-of-day"], "CREATE INDEX by_time ON orders (created_at) INCLUDE (total)")

    assert direct.blocks < skipping.blocks < bare.blocks() / 4


@pytest.mark.requirement(2)
def test_composite_a_first_column_of_many_values_is_not_skipped(bare: Database) -> None:
    by_customer = "CREATE INDEX by_customer ON orders (customer_id, created_at)"

    plan = bare.plan(QUERIES["revenue-of-day"], by_customer)

    assert plan.reads_all


@pytest.mark.requirement(2)
def test_partial_the_index_has_the_rows_of_the_query_only(bare: Database, indexed: Database) -> None:
    plan = indexed.plan(QUERIES["orders-to-ship"])
    index = indexed.indexes()[plan.index or ""]
    [(blocks,)] = indexed.query("SELECT pg_relation_size(%s::bigint::regclass) / 8192", index.oid)
    entries = indexed.query(f"SELECT status, count(*) FROM orders WHERE {index.predicate} GROUP BY status")  # noqa: S608

    with bare.connect() as connection, connection.transaction(force_rollback=True):
        connection.execute("CREATE INDEX whole ON orders (created_at)")
        [(most,)] = connection.execute("SELECT pg_relation_size('whole') / 8192").fetchall()
    assert index.predicate
    assert entries == [("paid", 300)]
    assert "Filter" not in plan.scan
    assert blocks < most / 10
    assert (plan.sorts, plan.rows) == (False, 50)


@pytest.mark.requirement(2)
def test_partial_a_query_for_other_rows_cannot_use_it(indexed: Database) -> None:
    partial = indexed.plan(QUERIES["orders-to-ship"]).index

    plan = indexed.plan(QUERIES["orders-to-ship"].replace("paid", "cancelled"))

    assert plan.index != partial
    assert plan.reads_all


@pytest.mark.requirement(2)
def test_partial_a_generic_plan_loses_it(indexed: Database) -> None:
    asked = QUERIES["orders-to-ship"].replace("'paid'", "$1")

    [custom, generic] = [
        indexed.plan("EXECUTE to_ship ('paid')", f"SET plan_cache_mode = {mode}", f"PREPARE to_ship (text) AS {asked}")
        for mode in ("force_custom_plan", "force_generic_plan")
    ]

    assert custom.index == indexed.plan(QUERIES["orders-to-ship"]).index is not None
    assert generic.reads_all


@pytest.mark.requirement(2)
def test_covering_the_answer_comes_from_the_index_alone(indexed: Database) -> None:
    plan = indexed.plan(QUERIES["revenue-of-country"])

    assert plan.kind == "Index Only Scan"
    assert plan.heap_fetches == 0
    assert indexed.indexes()[plan.index or ""].keys == ["country", "created_at"]  # total is carried, not ordered by


@pytest.mark.requirement(2)
def test_covering_changed_rows_are_looked_up_until_the_next_vacuum(few: Database) -> None:
    few.succeed("indexes", "--create")
    few.query("ALTER TABLE orders SET (autovacuum_enabled = false)")
    fresh = few.plan(QUERIES["revenue-of-country"])

    few.query("UPDATE orders SET note = 'a gift' WHERE country = 'PT'")
    changed = few.plan(QUERIES["revenue-of-country"])
    few.query("VACUUM orders")
    vacuumed = few.plan(QUERIES["revenue-of-country"])

    assert fresh.heap_fetches == vacuumed.heap_fetches == 0
    assert (changed.kind, changed.heap_fetches >= changed.rows > 0) == ("Index Only Scan", True)


@pytest.mark.requirement(2)
def test_expression_the_index_serves_the_very_same_expression_only(indexed: Database) -> None:
    asked = "SELECT number FROM orders WHERE {} = '{}'"

    assert indexed.plan(asked.format("lower(email)", "customer42@example.com")).index
    assert indexed.plan(asked.format("upper(email)", "CUSTOMER42@EXAMPLE.COM")).reads_all
    assert indexed.plan(asked.format("email", "Customer42@Example.com")).reads_all


@pytest.mark.requirement(2)
def test_expression_the_planner_knows_how_many_rows_it_finds(bare: Database, indexed: Database) -> None:
    without = bare.plan(QUERIES["orders-by-email"])
    plan = indexed.plan(QUERIES["orders-by-email"])

    assert plan.rows == 50
    assert without.estimate == ROWS / 200  # half a percent: a guess
    assert 25 <= plan.estimate <= 100


@pytest.mark.requirement(2)
@pytest.mark.parametrize("name", UNINDEXED)
def test_some_queries_read_every_row_with_all_indexes_too(indexed: Database, name: str) -> None:
    plan = indexed.plan(QUERIES[name])

    assert plan.reads_all
    assert plan.rows + plan.removed == ROWS


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "name, index",
    [
        pytest.param("orders-by-email", "(email)", id="a function on the column"),
        pytest.param("revenue-of-date", "(created_at)", id="a conversion of the column"),
        pytest.param("revenue-of-domain", "(email text_pattern_ops)", id="LIKE with a wildcard in front"),
        pytest.param("revenue-delivered", "(status)", id="most of the rows"),
    ],
)
def test_an_index_on_the_bare_column_does_not_help_with(bare: Database, name: str, index: str) -> None:
    plan = bare.plan(QUERIES[name], f"CREATE INDEX useless ON orders {index}")

    assert plan.reads_all
    assert plan.rows + plan.removed == ROWS


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "sql, index",
    [
        pytest.param(QUERIES["revenue-of-day"], "(created_at)", id="a range of the column"),
        pytest.param("SELECT total FROM orders WHERE email LIKE 'Customer42@%'", "(email text_pattern_ops)", id="LIKE"),
        pytest.param("SELECT total FROM orders WHERE status = 'paid'", "(status)", id="few of the rows"),
        pytest.param(QUERIES["revenue-of-date"], "(((created_at AT TIME ZONE 'UTC')::date))", id="the conversion"),
        pytest.param(QUERIES["revenue-of-domain"], "(id) INCLUDE (total) WHERE email LIKE '%.org'", id="the pattern"),
    ],
)
def test_an_index_helps_with(bare: Database, sql: str, index: str) -> None:
    assert bare.plan(sql, f"CREATE INDEX useful ON orders {index}").index == "useful"


@pytest.mark.requirement(2)
def test_a_day_is_the_same_as_a_range_and_as_a_date(bare: Database) -> None:
    assert bare.query(QUERIES["revenue-of-day"]) == bare.query(QUERIES["revenue-of-date"])


# 3. What indexes cost.


@pytest.mark.requirement(3)
def test_there_are_six_indexes_and_each_serves_a_query(indexed: Database) -> None:
    used = {indexed.plan(sql).index for sql in QUERIES.values()}

    indexes = indexed.indexes()
    assert len(indexes) == 6
    assert set(indexes) - used == set()


@pytest.mark.requirement(3)
def test_creating_twice_is_as_once(indexed: Database) -> None:
    before = indexed.indexes()

    answer = indexed.json("indexes", "--create")

    assert answer == {"created": []}
    assert indexed.indexes() == before


@pytest.mark.requirement(3)
def test_dropping_takes_what_was_created_and_nothing_of_others(few: Database) -> None:
    few.query("CREATE INDEX of_somebody_else ON orders (total)")
    for columns in ("(number)", "(product_id)", "(customer_id, created_at)"):
        few.query(f"CREATE INDEX ON orders {columns}")  # PostgreSQL gives the name
    others = set(few.indexes())

    created = few.json("indexes", "--create")["created"]
    present = few.indexes()
    dropped = few.json("indexes", "--drop")["dropped"]
    again = few.json("indexes", "--drop")["dropped"]

    assert set(present) - others == set(created) == set(dropped)
    assert len(created) == 6
    assert again == []
    assert set(few.indexes()) == others
    assert few.query("SELECT count(*) FROM pg_index WHERE indrelid = 'orders'::regclass AND indisprimary") == [(1,)]


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "what, before, left",
    [
        pytest.param("--create", "", 6, id="created"),
        pytest.param("--drop", "valid", 0, id="dropped"),
        pytest.param("--create", "invalid", 6, id="replaced"),
    ],
)
def test_orders_are_placed_while_indexes_are(
    few: Database, solution: Solution, what: str, before: str, left: int
) -> None:
    if before == "valid":
        few.succeed("indexes", "--create")
    elif before == "invalid":
        fail_to_create(few)
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with few.connect() as open_transaction, few.connect() as other:
        open_transaction.execute("BEGIN")
        open_transaction.execute(ONE_MORE.encode(), ["A1"])
        changing = solution.start("indexes", what, DATABASE_URL=few.url)
        wait_until(lambda: few.query(waiting) or changing.exit_code is not None)
        other.execute("SET lock_timeout = '1s'")
        placed = attempt(other, "A2")
        open_transaction.execute("COMMIT")

    assert placed == "placed"
    assert changing.wait(10) == 0, changing.stderr
    assert [index.is_valid for index in few.indexes().values()] == [True] * left


def attempt(connection: psycopg.Connection[Any], number: str) -> str:
    """Place an order with this number, or tell why it cannot be."""
    try:
        connection.execute(ONE_MORE.encode(), [number])
    except psycopg.Error as error:
        return str(error)
    return "placed"


@pytest.mark.requirement(3)
def test_an_index_that_could_not_be_built_is_built_the_next_time(few: Database) -> None:
    fail_to_create(few)

    few.succeed("indexes", "--create")

    assert [index.is_valid for index in few.indexes().values()] == [True] * 6
    assert few.plan(QUERIES["order-by-number"]).index
    with few.connect() as connection:
        assert attempt(connection, "R00000042") != "placed"


def fail_to_create(database: Database) -> None:
    """Have the solution create its indexes while a number is there twice."""
    database.query(ONE_MORE, "R00000042")
    database.refuse("indexes", "--create")
    database.query("DELETE FROM orders WHERE id > 3000")


@pytest.mark.requirement(3)
def test_dropping_takes_what_could_not_be_built_unless_it_is_of_others(few: Database) -> None:
    few.query(ONE_MORE, "R00000042")
    with few.connect() as other, pytest.raises(psycopg.errors.UniqueViolation):
        other.execute("CREATE UNIQUE INDEX CONCURRENTLY of_somebody_else ON orders (number)")
    few.refuse("indexes", "--create")

    few.refuse("indexes", "--create")
    after_creating = set(few.indexes())
    few.succeed("indexes", "--drop")

    assert "of_somebody_else" in after_creating
    assert set(few.indexes()) == {"of_somebody_else"}


@pytest.mark.requirement(3)
def test_an_update_is_hot_unless_an_index_has_to_do_with_its_column(few: Database) -> None:
    few.succeed("indexes", "--create")

    hot = "SELECT n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'orders'"
    with few.connect() as connection, connection.transaction():
        connection.execute("UPDATE orders SET note = 'a gift' WHERE mod(id, 25) = 0")
        notes = connection.execute(hot).fetchall()
        connection.execute("UPDATE orders SET status = 'returned' WHERE mod(id, 25) = 12")
        notes_and_statuses = connection.execute(hot).fetchall()

    assert notes == [(120,)]
    assert notes_and_statuses == [(120,)]


@pytest.mark.requirement(3)
def test_writes_are_measured_with_0_1_3_and_6_indexes(writes: list[dict[str, Any]]) -> None:
    assert [entry["indexes"] for entry in writes] == [0, 1, 3, 6]
    assert [entry["insert"]["rows"] for entry in writes] == [2000] * 4
    assert [entry["update_note"]["rows"] for entry in writes] == [80] * 4
    assert [entry["update_status"]["rows"] for entry in writes] == [80] * 4
    assert all(entry[what]["ms"] > 0 for entry in writes for what in ("insert", "update_note", "update_status"))


@pytest.mark.requirement(3)
def test_each_index_takes_space_and_has_to_be_written(writes: list[dict[str, Any]]) -> None:
    table_bytes = {entry["table_bytes"] for entry in writes}
    index_bytes = [entry["index_bytes"] for entry in writes]
    wal_bytes = [entry["insert"]["wal_bytes"] for entry in writes]

    assert len(table_bytes) == 1
    assert index_bytes[0] > 0  # the primary key
    assert index_bytes == sorted(set(index_bytes))
    assert wal_bytes == sorted(set(wal_bytes))
    assert wal_bytes[3] > 2 * wal_bytes[0]


@pytest.mark.requirement(3)
def test_hot_updates_are_lost_to_the_index_on_their_column_and_not_to_the_number_of_indexes(
    writes: list[dict[str, Any]],
) -> None:
    assert [entry["update_note"]["hot"] for entry in writes] == [80] * 4
    assert writes[0]["update_status"]["hot"] == 80
    assert writes[3]["update_status"]["hot"] == 0


@pytest.mark.requirement(3)
def test_an_update_that_is_not_hot_has_to_write_to_every_index(bare: Database, writes: list[dict[str, Any]]) -> None:
    again = functools.partial(bare.json, "writes", "--rows", "2000", "--format", "json")

    assert is_dearer(writes) or is_dearer(again())  # a checkpoint in between makes all writes dear


def is_dearer(entries: list[dict[str, Any]]) -> bool:
    """Whether an update of the status writes more than twice as much with six indexes as without."""
    none, most = (entries[place]["update_status"]["wal_bytes"] for place in (0, 3))
    return bool(most > 2 * none > 0)


@pytest.mark.requirement(3)
def test_what_writes_says_is_what_postgresql_says(indexed: Database, writes: list[dict[str, Any]]) -> None:
    definitions = indexed.query("SELECT indexdef FROM pg_indexes WHERE tablename = 'orders'")
    insert = f"INSERT INTO copy SELECT id, {COLUMNS} FROM orders ORDER BY id LIMIT 2000"  # noqa: S608
    with indexed.connect() as connection, connection.transaction(force_rollback=True):
        connection.execute("CREATE TABLE copy (LIKE orders) WITH (fillfactor = 90)")
        for (definition,) in definitions:
            connection.execute(re.sub(r"INDEX \S+ ON \S+", "INDEX ON copy", definition).encode())
        [(explained,)] = connection.execute(f"EXPLAIN (ANALYZE, WAL, FORMAT JSON) {insert}".encode()).fetchall()
        [(index_bytes, table_bytes)] = connection.execute("SELECT pg_indexes_size('copy'), pg_relation_size('copy')")

    assert writes[3]["insert"]["wal_bytes"] == pytest.approx(explained[0]["Plan"]["WAL Bytes"], rel=0.2)
    assert writes[3]["index_bytes"] == pytest.approx(index_bytes, rel=0.2)
    assert writes[3]["table_bytes"] == pytest.approx(table_bytes, rel=0.1)


@pytest.mark.requirement(3)
def test_more_rows_cost_more(bare: Database, writes: list[dict[str, Any]]) -> None:
    more = bare.json("writes", "--rows", "4000", "--format", "json")

    assert [entry["update_note"]["hot"] for entry in more] == [160] * 4
    for few_rows, many_rows in zip(writes, more, strict=True):
        assert 1.5 < many_rows["insert"]["wal_bytes"] / few_rows["insert"]["wal_bytes"] < 2.5
        assert 1.5 < many_rows["table_bytes"] / few_rows["table_bytes"] < 2.5


@pytest.mark.requirement(3)
def test_measuring_writes_gives_a_table_and_leaves_nothing_behind(few: Database) -> None:
    relations = "SELECT relname, oid, reltuples, pg_relation_size(oid) FROM pg_class WHERE relname !~ '^pg_' ORDER BY 1"
    before = few.query(relations), few.query("SELECT count(*) FROM orders")

    table = few.succeed("writes", "--rows", "500").stdout

    assert [number for number in "0136" if re.search(rf"^\W*{number}\b", table, re.MULTILINE)] == list("0136")
    assert (few.query(relations), few.query("SELECT count(*) FROM orders")) == before


@pytest.mark.requirement(3)
def test_nobody_else_ever_sees_the_table_that_is_written(bare: Database, solution: Solution) -> None:
    tables = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname !~ '^(pg|sql)_'"

    with bare.connect() as observer:
        writing = solution.start("writes", "--rows", "1000", DATABASE_URL=bare.url)
        seen: set[str] = set()
        while writing.exit_code is None:
            seen.update(name for (name,) in observer.execute(tables).fetchall())

    assert writing.exit_code == 0, writing.stderr
    assert seen == {"orders"}


# 4. Before and after.


@pytest.mark.requirement(4)
def test_before_is_without_indexes_and_after_with_them_whether_they_are_there_or_not(
    report: list[dict[str, Any]], first_report: list[dict[str, Any]]
) -> None:
    for entries in (report, first_report):
        assert [entry["query"] for entry in entries if entry["before"]["index"]] == []
        assert [entry["query"] for entry in entries if not entry["after"]["index"]] == UNINDEXED


@pytest.mark.requirement(4)
def test_before_every_row_is_read_and_most_are_thrown_away(bare: Database, report: list[dict[str, Any]]) -> None:
    for entry in report:
        before = entry["before"]
        assert before["scan"] == "Seq Scan"
        assert before["rows"] + before["rows_removed"] == ROWS
        assert 0 <= before["blocks"] - bare.blocks() < 20


@pytest.mark.requirement(4)
@pytest.mark.parametrize("name", QUERIES)
def test_the_report_says_what_postgresql_says(
    bare: Database, indexed: Database, report: list[dict[str, Any]], name: str
) -> None:
    [entry] = [entry for entry in report if entry["query"] == name]

    for when, database in (("before", bare), ("after", indexed)):
        told, plan = entry[when], database.plan(QUERIES[name])
        assert [told["scan"], told["index"]] == [plan.kind, plan.index]
        assert [told["rows"], told["rows_removed"], told["heap_fetches"]] == [plan.rows, plan.removed, 0]
        assert told["blocks"] == pytest.approx(plan.blocks, abs=5)


@pytest.mark.requirement(4)
def test_the_report_has_the_plans_that_were_run(report: list[dict[str, Any]], plan_of: type[Plan]) -> None:
    for told in (entry[when] for entry in report for when in ("before", "after")):
        plan = plan_of(told["plan"])
        assert all("Actual Rows" in node and "Shared Hit Blocks" in node for node in plan.nodes)
        assert [told["scan"], told["index"]] == [plan.kind, plan.index]
        assert [told["rows"], told["rows_removed"], told["heap_fetches"]] == [
            plan.rows,
            plan.removed,
            plan.heap_fetches,
        ]
        assert [told["blocks"], told["blocks_read"]] == [plan.blocks, plan.blocks_read]


@pytest.mark.requirement(4)
def test_times_are_milliseconds(report: list[dict[str, Any]]) -> None:
    assert all(0.1 < entry["before"]["ms"] < 5000 for entry in report)
    assert all(0 < entry["after"]["ms"] < 5000 for entry in report)


@pytest.mark.requirement(4)
def test_heap_fetches_are_those_of_rows_that_not_everybody_may_see_yet(few: Database, plan_of: type[Plan]) -> None:
    few.succeed("indexes", "--create")
    with few.connect() as other:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT 1")  # from now on VACUUM must keep what this transaction sees
        few.query("UPDATE orders SET note = 'a gift' WHERE created_at >= '2025-06-10' AND created_at < '2025-06-14'")
        [told] = [
            entry["after"] for entry in few.json("report", "--format", "json") if entry["query"] == "revenue-of-country"
        ]

    assert told["scan"] == "Index Only Scan"
    assert told["heap_fetches"] == plan_of(told["plan"]).heap_fetches > 0


@pytest.mark.requirement(4)
def test_the_planner_knows_the_expression_of_an_index_that_the_report_makes(
    first_report: list[dict[str, Any]], plan_of: type[Plan]
) -> None:
    [plan] = [plan_of(entry["after"]["plan"]) for entry in first_report if entry["query"] == "orders-by-email"]

    assert plan.rows == 50
    assert 25 <= plan.estimate <= 100


@pytest.mark.requirement(4)
def test_before_is_with_the_indexes_of_others_and_after_with_all_of_yours(few: Database) -> None:
    created = few.json("indexes", "--create")["created"]
    [lost] = [index.name for index in few.indexes().values() if index.keys == ["product_id"]]
    few.query(f"DROP INDEX {lost}")
    few.query("CREATE INDEX of_somebody_else ON orders (customer_id)")
    present = few.indexes()

    entries = {entry["query"]: entry for entry in few.json("report", "--format", "json")}

    assert few.indexes() == present
    assert {name: entry["before"]["index"] for name, entry in entries.items() if entry["before"]["index"]} == {
        "newest-orders": "of_somebody_else"
    }
    assert entries["orders-of-product"]["after"]["index"] == lost
    assert {entries[name]["after"]["index"] for name in INDEXED} - {"of_somebody_else"} <= set(created)


@pytest.mark.requirement(4)
def test_each_report_is_measured_anew(report: list[dict[str, Any]], first_report: list[dict[str, Any]]) -> None:
    times = [
        [entry[when]["ms"] for entry in entries for when in ("before", "after")] for entries in (report, first_report)
    ]

    assert times[0] != times[1]


@pytest.mark.requirement(4)
def test_both_measurements_find_their_blocks_in_the_cache(cold: Database, plan_of: type[Plan]) -> None:
    told = {
        (entry["query"], when): entry[when]
        for entry in cold.json("report", "--format", "json")
        for when in ("before", "after")
    }

    assert {which: entry["blocks_read"] for which, entry in told.items()} == dict.fromkeys(told, 0)
    assert {which: plan_of(entry["plan"]).blocks_read for which, entry in told.items()} == dict.fromkeys(told, 0)


@pytest.mark.requirement(4)
def test_the_planner_knows_the_table_as_it_is_now(few: Database) -> None:
    few.query("ALTER TABLE orders SET (autovacuum_enabled = false)")
    few.succeed("indexes", "--create")
    few.query("UPDATE orders SET product_id = 42, note = 'a gift'")

    entries = {entry["query"]: entry["after"] for entry in few.json("report", "--format", "json")}

    assert entries["orders-of-product"]["scan"] == "Seq Scan"
    assert entries["revenue-of-country"]["scan"] == "Index Only Scan"
    assert entries["revenue-of-country"]["heap_fetches"] == 0


@pytest.mark.requirement(4)
def test_counts_are_those_of_the_whole_query_where_workers_would_share_it(few: Database, plan_of: type[Plan]) -> None:
    for setting in ("min_parallel_table_scan_size", "parallel_setup_cost", "parallel_tuple_cost"):
        few.set(setting, "0")

    entries = few.json("report", "--format", "json")

    plans = [plan_of(entry[when]["plan"]) for entry in entries for when in ("before", "after")]
    assert [node["Node Type"] for plan in plans for node in plan.nodes if "Gather" in node["Node Type"]] == []
    assert {entry["before"]["rows"] + entry["before"]["rows_removed"] for entry in entries} == {3000}


@pytest.mark.requirement(4)
def test_a_report_leaves_no_index_where_there_was_none(few: Database) -> None:
    few.succeed("report")

    assert few.indexes() == {}
    assert few.query("SELECT count(*) FROM orders") == [(3000,)]


@pytest.mark.requirement(4)
def test_nobody_else_ever_sees_the_table_without_its_indexes(indexed: Database, solution: Solution) -> None:
    before = indexed.indexes()

    oids = "SELECT indexrelid::bigint FROM pg_index WHERE indrelid = 'orders'::regclass AND NOT indisprimary"
    with indexed.connect() as observer:
        reporting = solution.start("report", DATABASE_URL=indexed.url)
        seen = set()
        while reporting.exit_code is None:
            seen.add(frozenset(oid for (oid,) in observer.execute(oids).fetchall()))

    assert reporting.exit_code == 0, reporting.stderr
    assert seen == {frozenset(index.oid for index in before.values())}
    assert indexed.indexes() == before


@pytest.mark.requirement(4)
def test_a_person_gets_a_table(indexed: Database, report: list[dict[str, Any]]) -> None:
    lines = indexed.succeed("report").stdout.splitlines()

    for entry in report:
        [line] = [line for line in lines if entry["query"] in line]
        numbers = re.findall(r"[\d.]+", line.replace(",", ""))
        for told in (entry["before"], entry["after"]):
            assert told["scan"] in line
            assert {str(told["rows_removed"]), str(told["blocks"])} <= set(numbers)
