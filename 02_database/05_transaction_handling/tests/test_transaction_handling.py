"""What must hold for money and stock, whatever happens at the same time and whatever fails."""

from __future__ import annotations

import json
import random
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any

import pytest

from grader.solution import Solution, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conftest import Connection, Shop, Storm, Wire

# 1. Transfers and orders.


@pytest.mark.requirement(1)
def test_a_transfer_takes_from_one_account_what_it_gives_to_the_other(shop: Shop) -> None:
    source, target = shop.account("100.00"), shop.account("0.50")

    response = shop.transfer(source, target, "30.25")

    assert response.status_code == 201
    assert response.json() == {
        "id": response.json()["id"],
        "from": source,
        "to": target,
        "amount": "30.25",
        "balance": "69.75",
    }
    assert shop.balances(source, target) == ["69.75", "30.75"]
    assert shop.transfers(source) == [(target, "30.25")]


@pytest.mark.requirement(1)
def test_an_order_takes_stock_and_money(shop: Shop) -> None:
    account, mouse, cable = shop.account("100.00"), shop.product("19.90", 5), shop.product("0.05", 9)

    response = shop.order(account, {mouse: 2, cable: 9})

    assert response.status_code == 201
    assert (response.json()["account"], response.json()["total"], response.json()["balance"]) == (
        account,
        "40.25",
        "59.75",
    )
    assert sorted(response.json()["items"], key=lambda item: item["product"]) == [
        {"product": mouse, "quantity": 2, "unit_price": "19.90"},
        {"product": cable, "quantity": 9, "unit_price": "0.05"},
    ]
    assert (shop.balance(account), shop.stock(mouse), shop.stock(cable)) == ("59.75", 3, 0)
    assert shop.orders(account) == [(mouse, 2, "19.90", "40.25"), (cable, 9, "0.05", "40.25")]


@pytest.mark.requirement(1)
def test_all_money_can_be_taken_and_not_a_cent_more(shop: Shop) -> None:
    source, target = shop.account("10.10"), shop.account("0.00")

    too_much = shop.transfer(source, target, "10.11")
    everything = shop.transfer(source, target, "10.10")

    assert (too_much.status_code, everything.status_code) == (409, 201)
    assert shop.balances(source, target) == ["0.00", "10.10"]


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    ("balance", "stock", "most"),
    [("19.99", 9, None), ("99.00", 1, None), ("99.00", 9, 1)],
    ids=["too little money", "too little stock", "more than an account may have"],
)
def test_an_order_that_cannot_be_met_is_a_conflict(shop: Shop, balance: str, stock: int, most: int | None) -> None:
    account, product = shop.account(balance), shop.product("10.00", stock, most)

    response = shop.order(account, {product: 2})

    assert response.status_code == 409
    assert (shop.balance(account), shop.stock(product), shop.orders(account)) == (balance, stock, [])


@pytest.mark.requirement(1)
def test_a_limit_counts_all_orders_of_an_account_and_of_no_other(shop: Shop) -> None:
    account, other, product = shop.account(), shop.account(), shop.product(most_per_account=3)

    statuses = [shop.order(who, {product: 2}).status_code for who in (account, account, other)]

    assert statuses == [201, 409, 201]
    assert shop.order(account, {product: 1}).status_code == 201


@pytest.mark.requirement(1)
def test_an_order_that_costs_more_than_any_account_can_have_is_a_conflict(shop: Shop) -> None:
    account, product = shop.account("9999999999.99"), shop.product("9999999999.99")

    response = shop.order(account, {product: 2})

    assert response.status_code == 409
    assert (shop.stock(product), shop.orders(account)) == (10, [])


@pytest.mark.requirement(1)
def test_an_account_that_cannot_hold_more_gets_no_more(shop: Shop) -> None:
    source, target = shop.account("1.00"), shop.account("9999999999.50")

    response = shop.transfer(source, target, "0.50")

    assert response.status_code == 409
    assert shop.balances(source, target) == ["1.00", "9999999999.50"]


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    ("amount", "paid"), [("99999999.99",) * 2, ("5.5", "5.50"), ("00000005", "5.00"), ("0.01",) * 2]
)
def test_an_amount_may_be_written_with_fewer_or_more_digits(shop: Shop, amount: str, paid: str) -> None:
    source, target = shop.account("100000000.00"), shop.account("0.00")

    response = shop.transfer(source, target, amount)

    assert (response.status_code, response.json().get("amount")) == (201, paid)
    assert shop.balance(target) == paid


AMOUNTS: dict[str, Any] = {
    "zero": "0.00",
    "negative": "-1.00",
    "three places": "1.001",
    "a number": 1.5,
    "no number": "ten",
    "an exponent": "1e1",
    "infinite": "Infinity",
    "no digit after the point": "1.",
    "spaces": " 1",
    "a line break at the end": "1\n",
    "digits of another script": "\u0661",
    "too large": "100000000.00",
    "null": None,
}


@pytest.mark.requirement(1)
@pytest.mark.parametrize("amount", AMOUNTS.values(), ids=AMOUNTS)
def test_an_amount_that_is_no_amount_of_money_is_refused(shop: Shop, amount: Any) -> None:
    source, target = shop.account(), shop.account()

    response = shop.transfer(source, target, amount)

    assert response.status_code == 422
    assert shop.balances(source, target) == ["100.00", "100.00"]


TRANSFERS: dict[str, Any] = {
    "to itself": {"from": 1, "to": 1, "amount": "1.00"},
    "to nobody": {"from": 1, "to": 10**18, "amount": "1.00"},
    "from nobody": {"from": 10**18, "to": 1, "amount": "1.00"},
    "to a number too large": {"from": 1, "to": 2**63, "amount": "1.00"},
    "from text": {"from": "1", "to": 2, "amount": "1.00"},
    "from true": {"from": True, "to": 2, "amount": "1.00"},
    "no target": {"from": 1, "amount": "1.00"},
    "an unknown field": {"from": 1, "to": 2, "amount": "1.00", "fee": "0.10"},
    "a list": [],
}


@pytest.mark.requirement(1)
@pytest.mark.parametrize("body", TRANSFERS.values(), ids=TRANSFERS)
def test_a_transfer_that_makes_no_sense_is_refused(shop: Shop, body: Any) -> None:
    key = {"Idempotency-Key": str(uuid.uuid4())}
    if isinstance(body, dict):
        names = {1: shop.account(), 2: shop.account()}
        body = {name: names.get(value, value) if type(value) is int else value for name, value in body.items()}

    response = shop.client.post("/transfers", json=body, headers=key)

    assert response.status_code == 422


OURS = "a product that there is"
ORDERS: dict[str, dict[str, Any]] = {
    "no items": {"items": []},
    "null": {"items": None},
    "an unknown account": {"account": 10**18},
    "an unknown product": {"items": [{"product": 10**18, "quantity": 1}]},
    "an unknown field": {"coupon": "HALF"},
    "an unknown field of an item": {"items": [{"product": OURS, "quantity": 1, "unit_price": "0.01"}]},
    "no piece": {"items": [{"product": OURS, "quantity": 0}]},
    "too many pieces": {"items": [{"product": OURS, "quantity": 1001}]},
    "half a piece": {"items": [{"product": OURS, "quantity": 1.5}]},
    "pieces as text": {"items": [{"product": OURS, "quantity": "1"}]},
    "pieces that are true": {"items": [{"product": OURS, "quantity": True}]},
    "no quantity": {"items": [{"product": OURS}]},
    "a product twice": {"items": [{"product": OURS, "quantity": 1}, {"product": OURS, "quantity": 2}]},
}


@pytest.mark.requirement(1)
@pytest.mark.parametrize("changes", ORDERS.values(), ids=ORDERS)
def test_an_order_that_makes_no_sense_is_refused(shop: Shop, changes: dict[str, Any]) -> None:
    account, product = shop.account(), shop.product()
    order = {"account": account, "items": [{"product": product, "quantity": 1}]} | changes
    body = json.loads(json.dumps(order).replace(f'"{OURS}"', str(product)))

    response = shop.client.post("/orders", json=body, headers={"Idempotency-Key": "order"})

    assert response.status_code == 422
    assert (shop.balance(account), shop.stock(product), shop.orders(account)) == ("100.00", 10, [])


@pytest.mark.requirement(1)
def test_an_order_has_up_to_a_hundred_items(shop: Shop) -> None:
    account, products = shop.account(), shop.products(101)

    too_many = shop.order(account, dict.fromkeys(products, 1))
    enough = shop.order(account, dict.fromkeys(products[:100], 1))

    assert (too_many.status_code, enough.status_code) == (422, 201)
    assert shop.balance(account) == "99.00"


@pytest.mark.requirement(1)
def test_an_account_that_does_not_exist_is_not_found(shop: Shop) -> None:
    number = shop.account()

    missing = [
        "0",
        f"0{number}",
        f"+{number}",
        f"-{number}",
        f"{number}.0",
        f"{number}%20",
        "abc",
        10**18,
        2**63,
        10**30,
    ]
    statuses = {name: shop.client.get(f"/accounts/{name}").status_code for name in missing}

    assert statuses == dict.fromkeys(missing, 404)
    assert shop.client.get(f"/accounts/{number}").status_code == 200


@pytest.mark.requirement(1)
@pytest.mark.parametrize("path", ["/transfers", "/orders"])
@pytest.mark.parametrize("content", [b"", b'{"from": 1', b"\xff"], ids=["nothing", "cut short", "not UTF-8"])
def test_a_body_that_is_not_json_is_refused(shop: Shop, path: str, content: bytes) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": "not json"}

    response = shop.client.post(path, content=content, headers=headers)

    assert response.status_code in (400, 422)


@pytest.mark.requirement(1)
def test_transfers_at_once_do_not_take_more_than_there_is(shop: Shop, threads: ThreadPoolExecutor) -> None:
    source, target = shop.account("100.00"), shop.account("0.00")

    statuses = [answer.status_code for answer in threads.map(shop.transfer, [source] * 16, [target] * 16)]

    assert (statuses.count(201), statuses.count(409)) == (10, 6)
    assert shop.balances(source, target) == ["0.00", "100.00"]


@pytest.mark.requirement(1)
def test_a_transfer_that_waits_for_another_one_sees_what_that_left(shop: Shop, threads: ThreadPoolExecutor) -> None:
    source, first, second = shop.account("100.00"), shop.account("0.00"), shop.account("0.00")

    with shop.gate("transfers") as gate:
        answers = [threads.submit(shop.transfer, source, target, "60.00") for target in (first, second)]
        gate.wait_for(2)
        gate.open()
        statuses = sorted(answer.result().status_code for answer in answers)

    assert statuses == [201, 409]
    assert shop.balance(source) == "40.00"
    assert sorted(shop.balances(first, second)) == ["0.00", "60.00"]


@pytest.mark.requirement(1)
def test_the_last_piece_is_sold_once(shop: Shop, threads: ThreadPoolExecutor) -> None:
    accounts, product = [shop.account() for _ in range(4)], shop.product(stock=1)

    with shop.gate("order_items") as gate:
        answers = [threads.submit(shop.order, account, {product: 1}) for account in accounts]
        gate.wait_for(2)
        gate.open()
        statuses = sorted(answer.result().status_code for answer in answers)

    assert statuses == [201, 409, 409, 409]
    assert shop.stock(product) == 0


@pytest.mark.requirement(1)
def test_two_orders_of_one_account_both_take_their_money(shop: Shop, threads: ThreadPoolExecutor) -> None:
    account, products = shop.account("100.00"), [shop.product("10.00"), shop.product("20.00")]

    with shop.gate("order_items") as gate:
        answers = [threads.submit(shop.order, account, {product: 1}) for product in products]
        gate.wait_for(2)
        gate.open()
        statuses = [answer.result().status_code for answer in answers]

    assert statuses == [201, 201]
    assert shop.balance(account) == "70.00"


# 2. All or nothing.


@pytest.mark.requirement(2)
@pytest.mark.parametrize("at_commit", [False, True], ids=["at the statement", "at COMMIT"])
@pytest.mark.parametrize("table", ["accounts", "transfers"])
def test_a_transfer_that_fails_leaves_nothing_behind(shop: Shop, table: str, at_commit: bool) -> None:
    source, target = shop.account(), shop.account()

    with shop.fault(table, at_commit=at_commit):
        failed = shop.transfer(source, target, key="again")
        left = (shop.balances(source, target), shop.transfers(source))
    retried = shop.transfer(source, target, key="again")

    assert failed.status_code >= 500
    assert left == (["100.00", "100.00"], [])
    assert retried.status_code == 201
    assert shop.balances(source, target) == ["90.00", "110.00"]


@pytest.mark.requirement(2)
@pytest.mark.parametrize("at_commit", [False, True], ids=["at the statement", "at COMMIT"])
@pytest.mark.parametrize("table", ["accounts", "products", "orders", "order_items"])
def test_an_order_that_fails_leaves_nothing_behind(shop: Shop, table: str, at_commit: bool) -> None:
    account, one, two = shop.account(), shop.product(), shop.product()

    with shop.fault(table, at_commit=at_commit):
        failed = shop.order(account, {one: 1, two: 1}, key="again")
        left = (shop.balance(account), shop.stock(one), shop.stock(two), shop.orders(account))
    retried = shop.order(account, {one: 1, two: 1}, key="again")

    assert failed.status_code >= 500
    assert left == ("100.00", 10, 10, [])
    assert retried.status_code == 201
    assert (shop.balance(account), shop.stock(one), shop.stock(two)) == ("80.00", 9, 9)


@pytest.mark.requirement(2)
def test_a_transfer_whose_second_half_fails_leaves_nothing_behind(shop: Shop) -> None:
    source, target = shop.account(), shop.account()

    with shop.fault("accounts", sparing=1) as tries:
        failed = shop.transfer(source, target)
        count = tries()

    assert count >= 2
    assert failed.status_code >= 500
    assert shop.balances(source, target) == ["100.00", "100.00"]


@pytest.mark.requirement(2)
@pytest.mark.parametrize("missing", ["stock", "money", "the product"])
def test_an_order_that_is_refused_halfway_leaves_nothing_behind(shop: Shop, missing: str) -> None:
    account, plenty = shop.account("100.00"), shop.product("10.00", 10)
    scarce = shop.product("95.00" if missing == "money" else "10.00", 0 if missing == "stock" else 10)
    wanted = {plenty: 1, 10**18 if missing == "the product" else scarce: 1}

    response = shop.order(account, wanted)

    assert response.status_code in (409, 422)
    assert (shop.balance(account), shop.stock(plenty), shop.orders(account)) == ("100.00", 10, [])


@pytest.mark.requirement(2)
def test_nobody_sees_half_a_transfer(shop: Shop, threads: ThreadPoolExecutor) -> None:
    source, target = shop.account(), shop.account()

    with shop.gate("transfers") as gate:
        answer = threads.submit(shop.transfer, source, target)
        gate.wait_for_one()
        during = shop.balances(source, target)
        gate.open()
        answer.result()

    assert during == ["100.00", "100.00"]
    assert shop.balances(source, target) == ["90.00", "110.00"]


# 3. Isolation levels.

# PostgreSQL, chapter "Transaction Isolation": reads are never dirty, REPEATABLE READ is a snapshot that shows no
# phantoms either and refuses to update what has changed since, SERIALIZABLE refuses what no order could have done.
DOCUMENTED = {
    "dirty read": ["prevented", "prevented", "prevented"],
    "non-repeatable read": ["possible", "prevented", "prevented"],
    "phantom": ["possible", "prevented", "prevented"],
    "lost update": ["possible", "error 40001", "error 40001"],
    "write skew": ["possible", "possible", "error 40001"],
}


@pytest.mark.requirement(3)
def test_the_anomalies_are_those_that_postgresql_documents(shop: Shop) -> None:
    finished = shop.solution.run("anomalies", DATABASE_URL=shop.url)

    assert finished.exit_code == 0, finished.stderr
    header, _, *lines = (line.strip("|").split("|") for line in finished.stdout.strip().splitlines())
    assert [cell.strip() for cell in header] == ["anomaly", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
    assert {name.strip(): [cell.strip() for cell in cells] for name, *cells in lines} == DOCUMENTED


@pytest.mark.requirement(3)
def test_the_anomalies_are_tried_out(own_shop: Shop) -> None:
    """They write and are rolled back. Whether the table is made from what was seen cannot be told from outside."""
    counters = (
        "SELECT xact_rollback, tup_inserted + tup_updated FROM pg_stat_database WHERE datname = current_database()"
    )
    rollbacks, writes = own_shop.query(counters)[0]

    finished = own_shop.solution.run("anomalies", DATABASE_URL=own_shop.url)

    def were_counted() -> bool:
        rollbacks_now, writes_now = own_shop.query(counters)[0]
        return bool(rollbacks_now - rollbacks >= 3 and writes_now - writes >= 10)

    assert finished.exit_code == 0, finished.stderr
    wait_until(were_counted, message="PostgreSQL has not counted the rollbacks and writes of the anomalies")


@pytest.mark.requirement(3)
def test_trying_out_the_anomalies_leaves_the_database_as_it_was(shop: Shop) -> None:
    account = shop.account()
    relations = "SELECT relnamespace::regnamespace::text, relname FROM pg_class WHERE relnamespace::regnamespace::text"
    listed = f"{relations} NOT LIKE 'pg\\_%%' ORDER BY 1, 2"
    before = shop.query(listed), shop.query("SELECT count(*), sum(balance) FROM accounts")

    finished = shop.solution.run("anomalies", DATABASE_URL=shop.url)

    assert finished.exit_code == 0
    assert (shop.query(listed), shop.query("SELECT count(*), sum(balance) FROM accounts")) == before
    assert shop.balance(account) == "100.00"


@pytest.mark.requirement(3)
def test_trying_out_the_anomalies_leaves_an_empty_database_empty(
    solution: Solution, postgres_url: str, own_connection: Connection
) -> None:
    """And a URL may begin with postgres://, as that of some hosts does."""
    finished = solution.run("anomalies", DATABASE_URL=postgres_url.replace("postgresql://", "postgres://"))

    assert finished.exit_code == 0
    relations = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert own_connection.execute(relations).fetchall() == []


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "url",
    [None, "sqlite:///shop.db", "rubbish", "postgresql://nobody@127.0.0.1:1/nothing"],
    ids=["no URL", "another kind of database", "no URL at all", "no server"],
)
def test_a_command_without_a_database_fails_in_a_sentence(solution: Solution, url: str | None) -> None:
    finished = solution.run("anomalies", DATABASE_URL=url)

    assert finished.exit_code != 0
    assert finished.stdout == ""
    assert finished.stderr.strip()
    assert "Traceback" not in finished.stderr


@pytest.mark.requirement(3)
def test_a_limit_holds_for_orders_that_do_not_see_each_other(shop: Shop, threads: ThreadPoolExecutor) -> None:
    account, product = shop.account(), shop.product(stock=10, most_per_account=1)

    with shop.gate("order_items") as gate:
        answers = [threads.submit(shop.order, account, {product: 1}) for _ in range(2)]
        gate.wait_for(2)
        gate.open()
        statuses = sorted(answer.result().status_code for answer in answers)

    assert statuses == [201, 409]
    assert len(shop.orders(account)) == 1
    assert (shop.balance(account), shop.stock(product)) == ("90.00", 9)


@pytest.mark.requirement(3)
def test_orders_of_one_product_all_get_through(shop: Shop, threads: ThreadPoolExecutor) -> None:
    accounts, product = [shop.account() for _ in range(6)], shop.product(stock=6)

    answers = list(threads.map(shop.order, accounts, repeat({product: 1}), map(str, accounts)))
    late = [shop.order(account, {product: 1}, str(account)) for account in accounts]

    assert {answer.status_code for answer in answers} <= {201, 503}
    assert [answer.status_code for answer in late] == [201] * 6
    assert shop.stock(product) == 0


# 4. Edges: other transactions.


def locked_while_waiting(shop: Shop, threads: ThreadPoolExecutor, source: int, target: int, held: int) -> bool:
    """Whether a transfer that waits for the account `held` has the other one locked meanwhile."""
    (other,) = {source, target} - {held}
    with shop.connect() as connection, connection.transaction():
        connection.execute("SELECT 1 FROM accounts WHERE id = %s FOR UPDATE", [held])
        answer = threads.submit(shop.transfer, source, target, "1.00")
        wait_until(shop.waiting, message="the transfer did not wait for the account")
        is_locked = not shop.query("SELECT 1 FROM accounts WHERE id = %s FOR UPDATE SKIP LOCKED", other)
    assert answer.result().status_code == 201
    return is_locked


@pytest.mark.requirement(4)
def test_accounts_are_locked_in_one_order_whatever_the_direction(shop: Shop, threads: ThreadPoolExecutor) -> None:
    one, two = shop.account(), shop.account()

    there = locked_while_waiting(shop, threads, one, two, held=one)
    back = locked_while_waiting(shop, threads, two, one, held=one)

    assert there == back


@pytest.mark.requirement(4)
def test_the_order_of_locks_does_not_depend_on_where_the_rows_lie(own_shop: Shop, threads: ThreadPoolExecutor) -> None:
    """Without indexes PostgreSQL finds rows where they lie, and an UPDATE puts a row behind all others."""
    shop = own_shop
    one, two = shop.account(), shop.account()
    for scan in ("indexscan", "indexonlyscan", "bitmapscan"):
        shop.query(
            f"ALTER DATABASE {shop.query('SELECT quote_ident(current_database())')[0][0]} SET enable_{scan} = off"
        )
    shop.client = shop.solution.serve(DATABASE_URL=shop.url, LOCK_TIMEOUT_MS="10000")

    are_locked = []
    for moved in (two, one, two):
        shop.query("UPDATE accounts SET balance = balance WHERE id = %s", moved)
        are_locked.append(locked_while_waiting(shop, threads, one, two, held=one))

    assert len(set(are_locked)) == 1


@pytest.mark.requirement(4)
def test_the_loser_of_a_deadlock_is_retried(own_shop: Shop, threads: ThreadPoolExecutor) -> None:
    shop = own_shop
    one, two = shop.account(), shop.account()

    with shop.connect() as probe, shop.connect() as rival, rival.transaction():
        shop.let_the_other_lose(rival)
        rival.execute("SELECT 1 FROM accounts WHERE id = %s FOR UPDATE", [two])
        answer = threads.submit(shop.transfer, one, two)
        wait_until(partial(shop.waiting, probe), message="the transfer did not wait for the account")
        rival.execute("SELECT 1 FROM accounts WHERE id = %s FOR UPDATE", [one])

    assert answer.result().status_code == 201
    assert shop.balances(one, two) == ["90.00", "110.00"]


WRITTEN_BY = {"transfer": "transfers", "order": "order_items"}


@pytest.mark.requirement(4)
@pytest.mark.parametrize("at_commit", [False, True], ids=["at the statement", "at COMMIT"])
@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
@pytest.mark.parametrize("operation", WRITTEN_BY)
def test_a_transaction_is_retried_as_a_whole(shop: Shop, operation: str, sqlstate: str, at_commit: bool) -> None:
    account, other = shop.account(), shop.other(operation)

    with shop.fault(WRITTEN_BY[operation], sqlstate, times=2, at_commit=at_commit):
        response = shop.ask(operation, account, other)

    assert response.status_code == 201
    assert shop.effects(operation, account, other) == {1}


@pytest.mark.requirement(4)
@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
@pytest.mark.parametrize("operation", WRITTEN_BY)
def test_a_transaction_is_not_retried_for_ever(shop: Shop, operation: str, sqlstate: str) -> None:
    account, other = shop.account(), shop.other(operation)

    with shop.fault(WRITTEN_BY[operation], sqlstate, times=30) as tries:
        response = shop.ask(operation, account, other, key="again")
        count = tries()

    assert response.status_code == 503
    assert response.headers["Retry-After"].isdecimal()
    assert 3 <= count <= 26
    assert shop.ask(operation, account, other, key="again").status_code == 201


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    ("sqlstate", "statuses"),
    [("23514", range(500, 600)), ("55P03", [503])],
    ids=["a violated constraint", "a lock timeout"],
)
def test_what_is_no_collision_is_not_retried(shop: Shop, sqlstate: str, statuses: Sequence[int]) -> None:
    source, target = shop.account(), shop.account()

    with shop.fault("transfers", sqlstate) as tries:
        response = shop.transfer(source, target)
        count = tries()

    assert response.status_code in statuses
    assert count == 1
    assert shop.balances(source, target) == ["100.00", "100.00"]


LOCKS = {
    "transfer": "SELECT 1 FROM accounts WHERE id = %s FOR UPDATE",
    "order": "SELECT 1 FROM products WHERE id = %s FOR UPDATE",
}


@pytest.mark.requirement(4)
@pytest.mark.parametrize("operation", LOCKS)
def test_a_lock_that_is_not_available_is_a_503_that_may_be_retried(shop: Shop, operation: str) -> None:
    account, other = shop.account(), shop.other(operation)
    impatient = shop.solution.serve_shared(DATABASE_URL=shop.url, LOCK_TIMEOUT_MS="100")

    with shop.connect() as connection, connection.transaction():
        connection.execute(LOCKS[operation], [other])
        refused = shop.ask(operation, account, other, "again", impatient)
    granted = shop.ask(operation, account, other, "again", impatient)

    assert refused.status_code == 503
    assert refused.headers["Retry-After"].isdecimal()
    assert granted.status_code == 201
    assert shop.effects(operation, account, other) == {1}


@pytest.mark.requirement(4)
def test_a_lock_is_waited_for_for_a_second_when_nothing_else_is_said(shop: Shop) -> None:
    source, target = shop.account(), shop.account()
    client = shop.solution.serve_shared(DATABASE_URL=shop.url, LOCK_TIMEOUT_MS=None)

    with shop.connect() as connection, connection.transaction():
        connection.execute(LOCKS["transfer"], [target])
        begin = time.monotonic()
        response = shop.transfer(source, target, client=client)
        waited = time.monotonic() - begin

    assert response.status_code == 503
    assert 0.8 < waited < 4


# 4. Edges: processes and wires.


@pytest.mark.requirement(4)
@pytest.mark.parametrize("table", ["accounts", "transfers"])
def test_a_transfer_in_a_process_that_is_killed_is_undone_and_can_be_retried(
    shop: Shop, threads: ThreadPoolExecutor, table: str
) -> None:
    source, target, doomed = shop.account(), shop.account(), shop.killable()
    assert doomed.process

    with shop.gate(table) as gate:
        answer = threads.submit(shop.transfer, source, target, "10.00", "again", doomed)
        gate.wait_for_one()
        doomed.process.kill()
        assert answer.exception()
    left = shop.balances(source, target)
    retried = shop.transfer(source, target, key="again")

    assert left == ["100.00", "100.00"]
    assert retried.status_code == 201
    assert shop.balances(source, target) == ["90.00", "110.00"]


@pytest.mark.requirement(4)
@pytest.mark.parametrize("table", ["accounts", "products", "orders", "order_items"])
def test_an_order_whose_backend_is_ended_happens_once(shop: Shop, threads: ThreadPoolExecutor, table: str) -> None:
    account, product = shop.account(), shop.product()

    with shop.gate(table) as gate:
        answer = threads.submit(shop.order, account, {product: 1}, "again")
        shop.query("SELECT pg_terminate_backend(%s)", gate.wait_for_one())
        gate.open()
        first = answer.result()
    retried = shop.order(account, {product: 1}, "again")

    assert first.status_code in (201, 503)
    assert retried.status_code == 201
    assert (shop.balance(account), shop.stock(product)) == ("90.00", 9)
    assert len(shop.orders(account)) == 1


@pytest.mark.requirement(4)
def test_connections_that_were_ended_while_idle_are_replaced(shop: Shop) -> None:
    source, target = shop.account(), shop.account()
    shop.transfer(source, target)
    others = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    ended = [pid for (pid,) in shop.query(others)]
    shop.query("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", ended)
    wait_until(lambda: not {pid for (pid,) in shop.query(others)} & {*ended}, message="the connections did not end")

    statuses = [shop.transfer(source, target, "1.00", str(number)).status_code for number in range(3)]
    retried = [shop.transfer(source, target, "1.00", str(number)).status_code for number in range(3)]

    assert set(statuses) <= {201, 503}
    assert retried == [201, 201, 201]
    assert shop.balance(source) == "87.00"


@pytest.mark.requirement(4)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("operation", WRITTEN_BY)
def test_what_lost_its_wire_at_commit_happens_once(shop: Shop, wire: Wire, operation: str, when: str) -> None:
    account, other = shop.account(), shop.other(operation)
    client = shop.solution.serve(DATABASE_URL=wire.url)
    before = wire.commits
    wire.cut = lambda number: when if number == before + 1 else ""

    first = shop.ask(operation, account, other, "again", client)
    retried = shop.ask(operation, account, other, "again", client)

    assert wire.cuts == 1
    assert first.status_code in (201, 503)
    assert retried.status_code == 201
    assert shop.effects(operation, account, other) == {1}


@pytest.mark.requirement(4)
def test_without_a_database_the_answer_is_503_until_it_is_back(shop: Shop, wire: Wire) -> None:
    source, target = shop.account(), shop.account()
    client = shop.solution.serve(DATABASE_URL=wire.url)
    wire.is_down = True

    down = [shop.transfer(source, target, key="again", client=client), client.get(f"/accounts/{source}")]
    wire.is_down = False
    up = shop.transfer(source, target, key="again", client=client)

    assert [response.status_code for response in down] == [503, 503]
    assert all(response.headers["Retry-After"].isdecimal() for response in down)
    assert up.status_code == 201
    assert shop.balance(source) == "90.00"


@pytest.mark.requirement(4)
def test_a_transaction_whose_wire_went_silent_does_not_keep_its_locks(
    shop: Shop, wire: Wire, threads: ThreadPoolExecutor
) -> None:
    source, target = shop.account(), shop.account()
    cut_off = shop.solution.serve(DATABASE_URL=wire.url, LOCK_TIMEOUT_MS="100")
    impatient = shop.solution.serve_shared(DATABASE_URL=shop.url, LOCK_TIMEOUT_MS="2000")
    before = wire.commits
    wire.cut = lambda number: "silent" if number == before + 1 else ""

    answer = threads.submit(shop.transfer, source, target, "10.00", "again", cut_off)
    wait_until(lambda: wire.cuts, message="there was no COMMIT")
    status = shop.transfer(source, target, "1.00", client=impatient).status_code
    wire.released.set()

    assert status == 201
    assert answer.result().status_code in (201, 503)
    assert shop.transfer(source, target, "10.00", "again").status_code == 201
    assert shop.balance(source) == "89.00"


@pytest.mark.requirement(4)
def test_a_thousand_transfers_survive_kills_lost_backends_and_cut_wires(
    storm: Storm, threads: ThreadPoolExecutor
) -> None:
    accounts = [storm.shop.account("100.00") for _ in range(8)]
    transfers = [random_transfer(accounts) for _ in range(1000)]

    answers = threads.map(storm.retry, transfers)
    for count in range(50, 1000, 50):  # faults follow the work that is done, so a slow machine has as many
        wait_until(partial(storm.has_answers, count), 30, "the transfers did not get on")
        storm.kill_the_server() if count % 200 == 0 else storm.end_a_backend()
    done = [answer["id"] for status, answer in answers if status == 201]

    assert storm.wire.cuts >= 10
    ledger = storm.shop.query("SELECT id, from_account, to_account, amount FROM transfers")
    balances = dict(storm.shop.query("SELECT id, balance FROM accounts"))
    assert sum(balances.values()) == Decimal("800.00")
    assert sorted(number for number, *_ in ledger) == sorted(done)
    assert balances == balances_after(accounts, ledger)


def random_transfer(accounts: list[int]) -> dict[str, Any]:
    source, target = random.sample(accounts, 2)
    return {"from": source, "to": target, "amount": f"{random.randint(1, 4000) / 100:.2f}"}  # noqa: S311


def balances_after(accounts: list[int], ledger: list[tuple[Any, ...]]) -> dict[int, Decimal]:
    """What 100.00 each become by these transfers."""
    balances = dict.fromkeys(accounts, Decimal("100.00"))
    for _, source, target, amount in ledger:
        balances[source] -= amount
        balances[target] += amount
    return balances


# 4. Edges: once for each key.


@pytest.mark.requirement(4)
def test_the_same_request_again_has_the_same_answer_and_no_effect(shop: Shop) -> None:
    source, target = shop.account(), shop.account()

    first = shop.transfer(source, target, key="again")
    shop.transfer(source, target, "5.00")
    second = shop.transfer(source, target, key="again")

    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json() == first.json()
    assert shop.balance(source) == "85.00"


@pytest.mark.requirement(4)
def test_the_same_order_again_has_the_same_answer_and_no_effect(shop: Shop) -> None:
    account, product = shop.account(), shop.product()

    first = shop.order(account, {product: 3}, "again")
    shop.query("UPDATE products SET price = 99, stock = 0 WHERE id = %s", product)
    second = shop.order(account, {product: 3}, "again")

    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json() == first.json()
    assert (shop.balance(account), len(shop.orders(account))) == ("70.00", 1)


@pytest.mark.requirement(4)
@pytest.mark.parametrize(("amount", "target"), [("10.01", 0), ("10.00", 1)], ids=["another amount", "another target"])
def test_another_request_with_the_same_key_is_refused(shop: Shop, amount: str, target: int) -> None:
    source, targets = shop.account(), [shop.account(), shop.account()]
    shop.transfer(source, targets[0], "10.00", "again")

    response = shop.transfer(source, targets[target], amount, "again")

    assert response.status_code == 422
    assert shop.balances(source, *targets) == ["90.00", "110.00", "100.00"]


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "quantities", [[2, 1], [1], [1, 1]], ids=["another quantity", "fewer items", "items in another order"]
)
def test_another_order_with_the_same_key_is_refused(shop: Shop, quantities: list[int]) -> None:
    account, products = shop.account(), [shop.product("1.00"), shop.product("1.00")]
    shop.order(account, dict.fromkeys(products, 1), "again")

    others = reversed(products) if quantities == [1, 1] else products
    response = shop.order(account, dict(zip(others, quantities, strict=False)), "again")

    assert response.status_code == 422
    assert shop.balance(account) == "98.00"


@pytest.mark.requirement(4)
def test_a_request_is_the_same_however_it_is_written(shop: Shop) -> None:
    source, target = shop.account(), shop.account()
    shop.transfer(source, target, "10.00", "again")

    response = shop.client.post(
        "/transfers",
        content=f'{{ "amount": "10",\n"to": {target}, "from": {source} }}',
        headers={"Content-Type": "application/json", "Idempotency-Key": "again"},
    )

    assert response.status_code == 201
    assert shop.balance(source) == "90.00"


@pytest.mark.requirement(4)
def test_a_refusal_stays_one_for_its_key(shop: Shop) -> None:
    source, target = shop.account("1.00"), shop.account()

    first = shop.transfer(source, target, key="again")
    shop.transfer(target, source, "50.00")
    second, with_new_key = shop.transfer(source, target, key="again"), shop.transfer(source, target)

    assert (first.status_code, second.status_code, with_new_key.status_code) == (409, 409, 201)
    assert second.json() == first.json()
    assert shop.balance(source) == "41.00"


APPEARS = {
    "transfer": "INSERT INTO accounts (id, balance) OVERRIDING SYSTEM VALUE VALUES (%s, 0)",
    "order": "INSERT INTO products (id, price, stock) OVERRIDING SYSTEM VALUE VALUES (%s, 10, 10)",
    "order of what was sold out": "UPDATE products SET stock = 1 WHERE id = %s",
}


@pytest.mark.requirement(4)
@pytest.mark.parametrize("operation", APPEARS)
def test_what_was_not_there_stays_refused_for_its_key(shop: Shop, operation: str) -> None:
    account, status = shop.account(), 409 if "sold out" in operation else 422
    other = shop.product(stock=0) if "sold out" in operation else uuid.uuid4().int >> 66

    first = shop.ask(operation, account, other, "again")
    shop.query(APPEARS[operation], other)
    second, with_new_key = shop.ask(operation, account, other, "again"), shop.ask(operation, account, other)

    assert (first.status_code, second.status_code, with_new_key.status_code) == (status, status, 201)
    assert second.json() == first.json()


@pytest.mark.requirement(4)
def test_the_same_key_of_another_account_or_operation_is_another_key(shop: Shop) -> None:
    one, two, product = shop.account(), shop.account(), shop.product()

    there, back = shop.transfer(one, two, "10.00", "same"), shop.transfer(two, one, "20.00", "same")
    order = shop.order(one, {product: 1}, "same")

    assert [response.status_code for response in (there, back, order)] == [201, 201, 201]
    assert shop.balances(one, two) == ["100.00", "90.00"]


@pytest.mark.requirement(4)
@pytest.mark.parametrize("path", ["/transfers", "/orders"])
@pytest.mark.parametrize(
    "keys",
    [[], [""], ["two words"], ["a,b"], ["k" * 256], ["caf\u00e9".encode()], ["one", "two"]],
    ids=["no key", "empty", "with a space", "with a comma", "too long", "not ASCII", "two keys"],
)
def test_a_request_without_a_usable_key_is_a_400(shop: Shop, path: str, keys: list[str | bytes]) -> None:
    source, target, product = shop.account(), shop.account(), shop.product()
    transfer = {"from": source, "to": target, "amount": "1.00"}
    order = {"account": source, "items": [{"product": product, "quantity": 1}]}
    headers = [(b"Idempotency-Key", key.encode() if isinstance(key, str) else key) for key in keys]

    response = shop.client.post(path, json=transfer if path == "/transfers" else order, headers=headers)

    assert response.status_code == 400
    assert shop.balance(source) == "100.00"


@pytest.mark.requirement(4)
def test_keys_that_differ_in_one_character_are_different_keys(shop: Shop) -> None:
    source, target = shop.account(), shop.account()

    keys = ["~" * 254 + "!", "~" * 255, "k", "K"]
    statuses = [shop.transfer(source, target, "1.00", key).status_code for key in keys]

    assert statuses == [201] * 4
    assert shop.balance(source) == "96.00"


@pytest.mark.requirement(4)
def test_requests_at_once_with_one_key_have_one_effect(shop: Shop, threads: ThreadPoolExecutor) -> None:
    source, target = shop.account(), shop.account()

    with shop.gate("transfers") as gate:
        answers = [threads.submit(shop.transfer, source, target, "10.00", "again") for _ in range(8)]
        gate.wait_for(2)
        gate.open()
        responses = [answer.result() for answer in answers]

    assert [response.status_code for response in responses] == [201] * 8
    assert len({response.text for response in responses}) == 1
    assert shop.balances(source, target) == ["90.00", "110.00"]


@pytest.mark.requirement(4)
def test_orders_at_once_with_one_key_have_one_effect(shop: Shop, threads: ThreadPoolExecutor) -> None:
    account, product = shop.account(), shop.product()

    responses = list(threads.map(shop.order, [account] * 8, repeat({product: 1}), ["again"] * 8))
    after = shop.order(account, {product: 1}, "again")

    assert {response.status_code for response in responses} <= {201, 503}
    assert after.status_code == 201
    assert {response.text for response in responses if response.status_code == 201} == {after.text}
    assert (shop.balance(account), shop.stock(product)) == ("90.00", 9)


@pytest.mark.requirement(4)
def test_another_server_process_knows_the_key(shop: Shop) -> None:
    source, target, other = shop.account(), shop.account(), shop.killable()

    first = shop.transfer(source, target, key="again", client=other)
    other.stop()
    second = shop.transfer(source, target, key="again")

    assert first.json() == second.json()
    assert shop.balance(source) == "90.00"
