"""What must hold for rows that are deleted, and may come back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from grader.solution import Solution

if TYPE_CHECKING:
    from conftest import Shop

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"

# 1. The schema.


@pytest.mark.requirement(1)
@pytest.mark.parametrize("table", ["customers", "orders"])
def test_deleted_at_is_a_time_with_zone_that_may_be_null(shop: Shop, table: str) -> None:
    columns = shop.query(
        "SELECT data_type, is_nullable FROM information_schema.columns "
        "WHERE table_schema = 'public' AND table_name = %s AND column_name = 'deleted_at'",
        table,
    )

    assert columns == [("timestamp with time zone", "YES")]


@pytest.mark.requirement(1)
def test_an_amount_has_twelve_digits_and_two_places(shop: Shop) -> None:
    amount = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'orders'::regclass"

    assert shop.query(f"{amount} AND attname = 'amount'") == [("numeric(12,2)",)]


@pytest.mark.requirement(1)
@pytest.mark.parametrize("table", ["customers", "orders"])
def test_there_is_a_unique_index_on_the_rows_that_are_not_deleted(shop: Shop, table: str) -> None:
    predicates = shop.query(
        "SELECT pg_get_expr(indpred, indrelid) FROM pg_index "
        "WHERE indrelid = %s::regclass AND indisunique AND indpred IS NOT NULL",
        table,
    )

    assert [text for (text,) in predicates if "deleted_at IS NULL" in text] != []


@pytest.mark.requirement(1)
def test_customers_and_orders_are_stored_and_answered(shop: Shop) -> None:
    created = shop.client.post("/customers", json={"email": "Ada@example.com", "name": "Ada Lovelace"})
    customer = created.json()["id"]
    ordered = shop.ask_for_order(customer, "49.9", "2026-0001")
    order = ordered.json()["id"]

    assert (created.status_code, ordered.status_code) == (201, 201)
    assert created.json() == {"id": customer, "email": "Ada@example.com", "name": "Ada Lovelace", "orders": []}
    assert ordered.json() == {"id": order, "number": "2026-0001", "amount": "49.90", "paid": False}
    assert shop.rows(customer) == [
        [(customer, "Ada@example.com", "Ada Lovelace", None)],
        [(order, "2026-0001", Decimal("49.90"), False, None)],
    ]


@pytest.mark.requirement(1)
def test_an_email_belongs_to_one_customer_in_whatever_case(shop: Shop) -> None:
    shop.customer(email="grace@example.com")

    response = shop.client.post("/customers", json={"email": "GRACE@Example.com", "name": "Grace"})

    assert response.status_code == 409
    assert len(shop.query("SELECT id FROM customers WHERE lower(email) = 'grace@example.com'")) == 1


@pytest.mark.requirement(1)
def test_a_number_belongs_to_one_order_of_all_customers(shop: Shop) -> None:
    number = shop.number(shop.order(shop.customer()))
    other = shop.customer()

    response = shop.ask_for_order(other, number=number)

    assert response.status_code == 409
    assert shop.rows(other)[1] == []


@pytest.mark.requirement(1)
def test_the_email_of_a_deleted_customer_can_be_taken_again_and_again(shop: Shop) -> None:
    owners = []
    for _ in range(3):
        owners.append(shop.customer(email="next@example.com"))
        shop.delete(owners[-1])

    last = shop.customer(email="Next@example.com")

    assert len({*owners, last}) == 4
    assert shop.read(last)["email"] == "Next@example.com"


@pytest.mark.requirement(1)
def test_the_number_of_a_deleted_order_can_be_taken_again(shop: Shop) -> None:
    customer, other, gone = shop.customer(), shop.customer(), shop.customer()
    alone, along = shop.order(customer), shop.order(gone)
    shop.delete(customer, alone)
    shop.delete(gone)

    responses = [shop.ask_for_order(other, number=shop.number(order)) for order in (alone, along)]

    assert [response.status_code for response in responses] == [201, 201]


@pytest.mark.requirement(1)
def test_the_database_itself_refuses_an_email_that_is_taken(shop: Shop) -> None:
    first, second, gone = shop.customer(), shop.customer(), shop.customer()
    shop.delete(gone)
    take = "UPDATE customers SET email = upper(%s) WHERE id = %s"

    with pytest.raises(psycopg.errors.UniqueViolation):
        shop.query(take, shop.email(first), second)

    shop.query(take, shop.email(gone), second)


@pytest.mark.requirement(1)
def test_the_database_itself_refuses_a_number_that_is_taken(shop: Shop) -> None:
    customer, other = shop.customer(), shop.customer()
    first, second, gone = shop.order(customer), shop.order(other), shop.order(customer)
    shop.delete(customer, gone)
    take = "UPDATE orders SET number = %s WHERE id = %s"

    with pytest.raises(psycopg.errors.UniqueViolation):
        shop.query(take, shop.number(first), second)

    shop.query(take, shop.number(gone), second)


@pytest.mark.requirement(1)
def test_of_two_customers_who_want_one_email_at_once_one_gets_it(shop: Shop) -> None:
    ask = partial(shop.client.post, "/customers", json={"email": "wanted@example.com", "name": "Somebody"})

    with shop.gate("INSERT ON customers") as gate:
        first, second = gate.meet(ask, ask)

    assert (first.status_code, second.status_code) == (201, 409)


CUSTOMERS: dict[str, dict[str, Any]] = {
    "no at sign": {"email": "nobody"},
    "two at signs": {"email": "a@b@example.com"},
    "a space": {"email": "a b@example.com"},
    "nothing before the at sign": {"email": "@b.de"},
    "nothing behind the at sign": {"email": "a@"},
    "not ASCII": {"email": "ä@b.de"},
    "a line break": {"email": "a@b.de\n"},
    "an email too long": {"email": f"{'a' * 250}@b.de"},
    "a blank name": {"name": " \n"},
    "a name too long": {"name": "x" * 101},
    "NUL": {"name": "A\x00"},
    "null": {"name": None},
    "an unknown field": {"deleted_at": None},
}


@pytest.mark.requirement(1)
@pytest.mark.parametrize("fields", CUSTOMERS.values(), ids=CUSTOMERS)
def test_a_customer_that_makes_no_sense_is_refused(shop: Shop, fields: dict[str, Any]) -> None:
    count = shop.query("SELECT count(*) FROM customers")

    response = shop.client.post("/customers", json={"email": "odd@example.com", "name": "Odd"} | fields)

    assert response.status_code == 422
    assert shop.query("SELECT count(*) FROM customers") == count


ORDERS: dict[str, dict[str, Any]] = {
    "a number for an amount": {"amount": 1.5},
    "three places": {"amount": "1.001"},
    "negative": {"amount": "-1.00"},
    "an exponent": {"amount": "1e2"},
    "nine digits": {"amount": "100000000.00"},
    "nothing after the point": {"amount": "1."},
    "a line break after an amount": {"amount": "1.00\n"},
    "digits of another script": {"amount": "\u0661"},
    "an empty number": {"number": ""},
    "a number too long": {"number": "A" * 33},
    "a line break after a number": {"number": "A\n"},
    "small letters": {"number": "a-1"},
    "an unknown field": {"paid": True},
}


@pytest.mark.requirement(1)
@pytest.mark.parametrize("fields", ORDERS.values(), ids=ORDERS)
def test_an_order_that_makes_no_sense_is_refused(shop: Shop, fields: dict[str, Any]) -> None:
    customer = shop.customer()

    response = shop.client.post(f"/customers/{customer}/orders", json={"number": "ODD-1", "amount": "1.00"} | fields)

    assert response.status_code == 422
    assert shop.rows(customer)[1] == []


@pytest.mark.requirement(1)
def test_the_tables_are_made_once_and_outlive_the_app(solution: Solution, postgres_url: str) -> None:
    url = postgres_url.replace("postgresql://", "postgres://")
    before = solution.serve(DATABASE_URL=url)
    customer = before.post("/customers", json={"email": "ada@example.com", "name": "Ada"}).json()
    before.stop()

    after = solution.serve(DATABASE_URL=url)

    assert after.get(f"/customers/{customer['id']}").json() == customer


# 2. Deleting and restoring.


@pytest.mark.requirement(2)
def test_a_deleted_customer_stays_as_a_row_that_says_when(shop: Shop) -> None:
    customer = shop.customer()
    [(_, email, name, _)], _ = shop.rows(customer)
    [(before,)] = shop.query("SELECT clock_timestamp()")

    response = shop.delete(customer)

    assert response.status_code == 204
    [(_, kept_email, kept_name, deleted_at)], _ = shop.rows(customer)
    [(after,)] = shop.query("SELECT clock_timestamp()")
    assert (kept_email, kept_name) == (email, name)
    assert before - timedelta(seconds=1) <= deleted_at <= after + timedelta(seconds=1)


@pytest.mark.requirement(2)
def test_a_deleted_order_stays_as_a_row_and_leaves_the_others_alone(shop: Shop) -> None:
    customer = shop.customer()
    order, _ = shop.order(customer), shop.order(customer)
    customers, [before, other] = shop.rows(customer)

    response = shop.delete(customer, order)

    assert response.status_code == 204
    [(*after, deleted_at), *others] = shop.rows(customer)[1]
    assert (after, deleted_at is None) == ([*before[:-1]], False)
    assert (shop.rows(customer)[0], others) == (customers, [other])


@pytest.mark.requirement(2)
def test_restoring_a_customer_brings_back_the_orders_too(shop: Shop) -> None:
    customer = shop.customer()
    shop.order(customer)
    shop.order(customer)
    shop.pay(customer)
    shop.order(customer)
    before, rows, line = shop.read(customer), shop.rows(customer), shop.line(customer)
    shop.delete(customer)

    response = shop.restore(customer)

    assert (response.status_code, response.json()) == (200, before)
    assert (shop.read(customer), shop.rows(customer), shop.line(customer)) == (before, rows, line)


@pytest.mark.requirement(2)
def test_restoring_an_order_brings_back_that_one_and_no_other(shop: Shop) -> None:
    customer = shop.customer()
    wanted, unwanted = shop.order(customer), shop.order(customer)
    before = shop.client.get(f"/customers/{customer}/orders/{wanted}").json()
    shop.delete(customer, wanted)
    shop.delete(customer, unwanted)

    response = shop.restore(customer, wanted)

    assert (response.status_code, response.json()) == (200, before)
    assert shop.orders(customer) == shop.live_orders(customer) == [wanted]


@pytest.mark.requirement(2)
def test_what_was_deleted_before_on_its_own_stays_deleted(shop: Shop) -> None:
    customer = shop.customer()
    early, late = shop.order(customer), shop.order(customer)
    shop.delete(customer, early)
    early_row = shop.rows(customer)[1][0]
    shop.delete(customer)

    response = shop.restore(customer)

    assert [order["id"] for order in response.json()["orders"]] == [late]
    assert shop.orders(customer) == shop.live_orders(customer) == [late]
    assert shop.rows(customer)[1][0] == early_row


@pytest.mark.requirement(2)
def test_two_deletions_at_the_same_microsecond_are_still_two(shop: Shop) -> None:
    customer = shop.customer()
    early, late = shop.order(customer), shop.order(customer)
    shop.delete(customer, early)
    shop.delete(customer)
    shop.query("UPDATE customers SET deleted_at = '2026-01-01T00:00Z' WHERE id = %s", customer)
    shop.query("UPDATE orders SET deleted_at = '2026-01-01T00:00Z' WHERE customer_id = %s", customer)

    shop.restore(customer)

    assert shop.orders(customer) == shop.live_orders(customer) == [late]


@pytest.mark.requirement(2)
def test_each_deletion_is_restored_for_itself_round_after_round(shop: Shop) -> None:
    customer = shop.customer()
    first, second, third = shop.order(customer), shop.order(customer), shop.order(customer)
    shop.delete(customer)
    shop.restore(customer)
    shop.delete(customer, first)
    shop.delete(customer, second)
    shop.restore(customer, second)
    shop.delete(customer)

    shop.restore(customer)

    assert shop.orders(customer) == shop.live_orders(customer) == [second, third]


@pytest.mark.requirement(2)
def test_a_customer_whose_email_is_taken_cannot_come_back(shop: Shop) -> None:
    customer = shop.customer(email="back@example.com")
    shop.order(customer)
    shop.delete(customer)
    other = shop.customer(email="BACK@example.com")
    rows = shop.rows(customer)

    refused = shop.restore(customer)

    assert (refused.status_code, shop.rows(customer)) == (409, rows)
    shop.delete(other)
    assert shop.restore(customer).status_code == 200
    assert shop.line(customer)["order_count"] == 1


@pytest.mark.requirement(2)
def test_a_customer_comes_back_with_all_orders_or_not_at_all(shop: Shop) -> None:
    customer, other = shop.customer(), shop.customer()
    shop.order(customer)
    number = shop.number(shop.order(customer))
    shop.order(customer)
    shop.delete(customer)
    taken = shop.order(other, number=number)
    rows = shop.rows(customer)

    refused = shop.restore(customer)

    assert (refused.status_code, shop.rows(customer)) == (409, rows)
    shop.delete(other, taken)
    assert shop.restore(customer).status_code == 200
    assert len(shop.live_orders(customer)) == 3


@pytest.mark.requirement(2)
def test_an_order_whose_number_is_taken_cannot_come_back(shop: Shop) -> None:
    customer = shop.customer()
    order = shop.order(customer)
    shop.delete(customer, order)
    taken = shop.order(customer, number=shop.number(order))

    refused = shop.restore(customer, order)

    assert refused.status_code == 409
    assert shop.live_orders(customer) == [taken]


@pytest.mark.requirement(2)
def test_a_customer_and_a_newcomer_who_want_one_email_at_once_do_not_share_it(shop: Shop) -> None:
    customer = shop.customer(email="shared@example.com")
    shop.delete(customer)
    newcomer = partial(shop.client.post, "/customers", json={"email": "Shared@example.com", "name": "New"})

    with shop.gate("INSERT ON customers") as gate:
        new, restored = gate.meet(newcomer, partial(shop.restore, customer))

    assert (new.status_code, restored.status_code) == (201, 409)
    assert shop.line(customer) is None


@pytest.mark.requirement(2)
def test_an_order_of_a_deleted_customer_cannot_come_back_alone(shop: Shop) -> None:
    customer = shop.customer()
    early, late = shop.order(customer), shop.order(customer)
    shop.delete(customer, early)
    shop.delete(customer)
    rows = shop.rows(customer)

    refused = [shop.restore(customer, order).status_code for order in (early, late)]

    assert refused == [409, 409]
    assert shop.rows(customer) == rows


@pytest.mark.requirement(2)
def test_deleting_twice_is_a_404_and_does_not_touch_the_first_deletion(shop: Shop) -> None:
    customer = shop.customer()
    alone, along = shop.order(customer), shop.order(customer)
    first = [shop.delete(customer, alone).status_code, shop.delete(customer).status_code]
    rows = shop.rows(customer)

    second = [shop.delete(customer, alone).status_code, shop.delete(customer).status_code]

    assert (first, second) == ([204, 204], [404, 404])
    assert shop.rows(customer) == rows
    shop.restore(customer)
    assert shop.live_orders(customer) == [along]


@pytest.mark.requirement(2)
def test_of_two_deletions_at_once_one_counts(shop: Shop) -> None:
    customer = shop.customer()
    order = shop.order(customer)

    with shop.gate("UPDATE ON customers") as gate:
        answers = gate.meet(partial(shop.delete, customer), partial(shop.delete, customer))

    assert [answer.status_code for answer in answers] == [204, 404]
    assert shop.restore(customer).status_code == 200
    assert shop.orders(customer) == [order]


@pytest.mark.requirement(2)
def test_of_two_deletions_of_an_order_at_once_one_counts(shop: Shop) -> None:
    customer = shop.customer()
    delete = partial(shop.delete, customer, shop.order(customer))

    with shop.gate("UPDATE ON orders") as gate:
        answers = gate.meet(delete, delete)

    assert [answer.status_code for answer in answers] == [204, 404]


@pytest.mark.requirement(2)
@pytest.mark.parametrize("event", ["UPDATE ON customers", "UPDATE ON orders"])
def test_an_order_that_goes_with_its_customer_is_not_deleted_again(shop: Shop, event: str) -> None:
    customer = shop.customer()
    order = shop.order(customer)

    with shop.gate(event) as gate:
        answers = gate.meet(partial(shop.delete, customer), partial(shop.delete, customer, order))

    assert [answer.status_code for answer in answers] == [204, 404]
    shop.restore(customer)
    assert shop.live_orders(customer) == [order]


@pytest.mark.requirement(2)
def test_of_two_restores_that_want_each_others_numbers_one_wins(shop: Shop) -> None:
    one, two = shop.customer(), shop.customer()
    first, second = shop.number(shop.order(one)), shop.number(shop.order(one))
    shop.delete(one)
    shop.order(two, number=second)
    shop.order(two, number=first)
    shop.delete(two)

    with shop.gate("UPDATE ON orders") as gate:
        answers = gate.meet(partial(shop.restore, one), partial(shop.restore, two))

    assert sorted(answer.status_code for answer in answers) == [200, 409]


@pytest.mark.requirement(2)
def test_restoring_what_is_not_deleted_changes_nothing(shop: Shop) -> None:
    customer = shop.customer()
    deleted, live = shop.order(customer), shop.order(customer)
    shop.delete(customer, deleted)
    before, rows = shop.read(customer), shop.rows(customer)

    responses = [shop.restore(customer), shop.restore(customer, live)]

    assert [response.status_code for response in responses] == [200, 200]
    assert responses[0].json() == before
    assert shop.rows(customer) == rows


@pytest.mark.requirement(2)
def test_what_does_not_exist_or_belongs_to_another_customer_is_a_404(shop: Shop) -> None:
    customer, other = shop.customer(), shop.customer()
    live, deleted = shop.order(customer), shop.order(customer)
    shop.delete(customer, deleted)
    rows = shop.rows(customer)

    answers = [shop.delete(other, live), shop.restore(other, deleted)]
    answers += [shop.restore(10**15), shop.restore(customer, 10**15), shop.delete(10**15)]

    assert {answer.status_code for answer in answers} == {404}
    assert shop.rows(customer) == rows


@pytest.mark.requirement(2)
def test_admins_see_what_is_deleted_and_nothing_else(shop: Shop) -> None:
    live, gone = shop.customer("Live"), shop.customer("Gone")
    kept, alone, along = shop.order(live, "1.00"), shop.order(live, "2.00"), shop.order(gone, "3.00")
    shop.delete(live, alone)
    shop.delete(gone)

    customers, orders = shop.deleted("/customers"), shop.deleted(f"/customers/{live}/orders")

    assert (live in customers, kept in orders) == (False, False)
    assert customers[gone].items() >= {"email": shop.email(gone), "name": "Gone"}.items()
    assert orders[alone].items() >= {"number": shop.number(alone), "amount": "2.00", "paid": False}.items()
    assert list(shop.deleted(f"/customers/{gone}/orders")) == [along]
    [(gone_at,)] = shop.query("SELECT deleted_at FROM customers WHERE id = %s", gone)
    [(alone_at,)] = shop.query("SELECT deleted_at FROM orders WHERE id = %s", alone)
    assert datetime.fromisoformat(customers[gone]["deleted_at"]) == gone_at
    assert datetime.fromisoformat(orders[alone]["deleted_at"]) == alone_at


AUTHORIZATIONS = {
    "without a token": None,
    "with another token": "Bearer incorrect horse battery staple",
    "with the beginning of the token": "Bearer correct",
    "with the token and one more character": "Bearer correct horse battery staples",
    "with a token of odd characters": "Bearer ünsinn",
    "with another scheme": "Basic correct horse battery staple",
    "with the scheme alone": "Bearer",
}


@pytest.mark.requirement(2)
@pytest.mark.parametrize("authorization", AUTHORIZATIONS.values(), ids=AUTHORIZATIONS)
def test_who_is_no_admin_can_neither_see_nor_restore(shop: Shop, authorization: str | None) -> None:
    customer = shop.customer()
    order = shop.order(customer)
    shop.delete(customer, order)
    headers = {} if authorization is None else {b"Authorization": authorization.encode("latin-1")}
    requests = [("GET", "/customers?deleted=only"), ("GET", f"/customers/{customer}/orders?deleted=only")]
    requests += [("POST", f"/customers/{customer}/restore"), ("POST", f"/customers/{customer}/orders/{order}/restore")]
    requests += [("POST", "/customers/999999999/restore"), ("GET", "/customers/999999999/orders?deleted=only")]

    answers = [shop.client.request(method, path, headers=headers) for method, path in requests]

    assert [answer.status_code for answer in answers] == [401] * 6
    assert all("Bearer" in answer.headers["WWW-Authenticate"] for answer in answers)
    assert shop.live_orders(customer) == []


@pytest.mark.requirement(2)
@pytest.mark.parametrize("token", [None, ""], ids=["no token", "an empty token"])
@pytest.mark.parametrize("authorization", ["Bearer", "Bearer None", "Bearer let-me-in"])
def test_nobody_is_an_admin_where_no_token_is_set(
    solution: Solution, shared_url: str, token: str | None, authorization: str
) -> None:
    client = solution.serve_shared(DATABASE_URL=shared_url, ADMIN_TOKEN=token)

    response = client.get("/customers?deleted=only", headers={"Authorization": authorization})

    assert response.status_code == 401


@pytest.mark.requirement(2)
@pytest.mark.parametrize("value", ["true", "all", "ONLY", ""])
def test_only_is_the_only_value_of_deleted(shop: Shop, value: str) -> None:
    customers = shop.ask_as_admin(f"/customers?deleted={value}")
    orders = shop.ask_as_admin(f"/customers/{shop.customer()}/orders?deleted={value}")

    assert (customers.status_code, orders.status_code) == (422, 422)


@pytest.mark.requirement(2)
def test_deleted_customers_can_be_searched_too(shop: Shop) -> None:
    found, other = shop.customer("Wilhelmina"), shop.customer("Other")
    shop.delete(found)
    shop.delete(other)

    response = shop.ask_as_admin("/customers?deleted=only&search=wilhelm")

    assert [row["id"] for row in response.json()] == [found]


# 3. Reading and changing what is not deleted.


@pytest.mark.requirement(3)
def test_the_list_counts_and_adds_only_what_is_there(shop: Shop) -> None:
    customer, gone = shop.customer(), shop.customer()
    shop.order(customer, "10.00")
    shop.order(customer, "20.50")
    shop.order(customer, "0.00")
    shop.delete(customer, shop.order(customer, "100.00"))
    shop.order(gone)
    shop.delete(gone)

    line = shop.line(customer)

    assert (line["order_count"], line["order_total"]) == (3, "30.50")
    assert shop.line(gone) is None


@pytest.mark.requirement(3)
def test_a_customer_stays_in_the_list_when_all_orders_are_deleted(shop: Shop) -> None:
    customer = shop.customer("Cleo")
    shop.delete(customer, shop.order(customer))
    expected = {"id": customer, "email": shop.email(customer), "name": "Cleo", "order_count": 0, "order_total": "0.00"}

    assert shop.line(customer) == expected


@pytest.mark.requirement(3)
def test_deleted_orders_are_not_among_the_orders_of_a_customer(shop: Shop) -> None:
    customer = shop.customer()
    kept = shop.order(customer)
    shop.delete(customer, shop.order(customer))

    nested, listed = shop.read(customer)["orders"], shop.client.get(f"/customers/{customer}/orders").json()

    assert [order["id"] for order in nested] == [kept]
    assert listed == nested


@pytest.mark.requirement(3)
def test_a_deleted_order_is_not_there_by_its_id(shop: Shop) -> None:
    customer, other = shop.customer(), shop.customer()
    kept, deleted = shop.order(customer), shop.order(customer)
    shop.delete(customer, deleted)

    statuses = [
        shop.client.get(f"/customers/{owner}/orders/{order}").status_code
        for owner, order in [(customer, kept), (customer, deleted), (other, kept)]
    ]

    assert statuses == [200, 404, 404]


@pytest.mark.requirement(3)
@pytest.mark.parametrize("rest", ["", "/orders", "/orders/{order}"], ids=["itself", "its orders", "one of its orders"])
def test_a_deleted_customer_is_not_there_by_its_id(shop: Shop, rest: str) -> None:
    customer = shop.customer()
    order = shop.order(customer)
    url = f"/customers/{customer}{rest.format(order=order)}"
    before = shop.client.get(url)
    shop.delete(customer)

    after = shop.client.get(url)

    assert (before.status_code, after.status_code) == (200, 404)


@pytest.mark.requirement(3)
def test_a_search_finds_names_and_emails_of_those_who_are_there(shop: Shop) -> None:
    by_name, by_email = shop.customer("Dr. Who"), shop.customer(email="dr.who@example.com")
    gone, other = shop.customer("Dr. Who"), shop.customer("Dr Whoever")
    shop.delete(gone)

    found = [line["id"] for line in shop.client.get("/customers?search=DR.WHO").json()]
    spaced = [line["id"] for line in shop.client.get("/customers?search=r.%20w").json()]

    assert (found, spaced) == ([by_email], [by_name])
    assert other not in found + spaced


@pytest.mark.requirement(3)
def test_a_search_may_be_a_whole_email(shop: Shop) -> None:
    email = f"{'long' * 60}@example.com"
    customer = shop.customer(email=email)

    found = shop.client.get("/customers", params={"search": email}).json()

    assert [line["id"] for line in found] == [customer]


@pytest.mark.requirement(3)
@pytest.mark.parametrize("text", ["%", "_", "\\"])
def test_a_search_is_text_and_no_pattern(shop: Shop, text: str) -> None:
    plain, odd = shop.customer("Plain"), shop.customer(f"10{text}")

    found = [line["id"] for line in shop.client.get("/customers", params={"search": text}).json()]

    assert (odd in found, plain in found) == (True, False)


@pytest.mark.requirement(3)
def test_the_report_is_about_what_is_there(shop: Shop) -> None:
    before = shop.report()
    buyer, gone, former = shop.customer(), shop.customer(), shop.customer()
    shop.order(buyer, "10.00")
    shop.delete(buyer, shop.order(buyer, "100.00"))
    shop.order(gone, "1000.00")
    shop.delete(gone)
    shop.delete(former, shop.order(former, "10000.00"))

    after = shop.report()

    counts = ("customers", "without_orders", "in_debt", "orders")
    assert {name: after[name] - before[name] for name in counts} == {
        "customers": 2,
        "without_orders": 1,
        "in_debt": 1,
        "orders": 1,
    }
    assert Decimal(after["total"]) - Decimal(before["total"]) == Decimal("10.00")


@pytest.mark.requirement(3)
def test_nobody_is_in_debt_for_an_order_that_is_deleted(shop: Shop) -> None:
    customer = shop.customer()
    shop.order(customer)
    shop.pay(customer)
    open_order = shop.order(customer)
    before = shop.report()["in_debt"]

    shop.delete(customer, open_order)

    assert shop.report()["in_debt"] == before - 1


@pytest.mark.requirement(3)
def test_paying_all_orders_leaves_deleted_ones_alone(shop: Shop) -> None:
    customer, other = shop.customer(), shop.customer()
    first, second, deleted = shop.order(customer), shop.order(customer), shop.order(customer)
    of_other = shop.order(other)
    shop.delete(customer, deleted)

    response = shop.pay(customer)

    assert (response.status_code, response.json()) == (200, {"paid": 2})
    assert [shop.is_paid(order) for order in (first, second, deleted, of_other)] == [True, True, False, False]
    assert shop.restore(customer, deleted).json()["paid"] is False
    assert shop.pay(customer).json() == {"paid": 1}


@pytest.mark.requirement(3)
def test_an_order_that_is_just_being_deleted_is_not_paid(shop: Shop) -> None:
    customer = shop.customer()
    deleted, kept = shop.order(customer), shop.order(customer)

    with shop.gate("UPDATE ON orders") as gate:
        gone, paid = gate.meet(partial(shop.delete, customer, deleted), partial(shop.pay, customer))

    assert (gone.status_code, paid.status_code, paid.json()) == (204, 200, {"paid": 1})
    assert [shop.is_paid(order) for order in (deleted, kept)] == [False, True]


@pytest.mark.requirement(3)
def test_of_two_who_pay_at_once_one_pays(shop: Shop) -> None:
    customer = shop.customer()
    shop.order(customer)

    with shop.gate("UPDATE ON orders") as gate:
        answers = gate.meet(partial(shop.pay, customer), partial(shop.pay, customer))

    assert [answer.json() for answer in answers] == [{"paid": 1}, {"paid": 0}]


@pytest.mark.requirement(3)
def test_ids_go_as_far_as_the_database_has_them(shop: Shop) -> None:
    largest, too_large = (shop.client.get(f"/customers/{number}").status_code for number in (2**63 - 1, 2**63))

    assert largest == 404
    assert too_large in (404, 422)


@pytest.mark.requirement(3)
def test_nothing_is_paid_for_a_deleted_customer(shop: Shop) -> None:
    customer = shop.customer()
    order = shop.order(customer)
    shop.delete(customer)

    response = shop.pay(customer)

    assert response.status_code == 404
    assert shop.is_paid(order) is False


@pytest.mark.requirement(3)
def test_what_is_restored_counts_again_everywhere(shop: Shop) -> None:
    customer, _ = shop.customer("Phoenix"), shop.customer("Somebody after that")
    order = shop.order(customer, "10.00")
    with_customer = shop.report()
    lines = shop.client.get("/customers").json()
    shop.delete(customer)

    shop.restore(customer)

    assert shop.report() == with_customer
    assert shop.client.get("/customers").json() == lines == sorted(lines, key=lambda line: int(line["id"]))
    assert [line["order_count"] for line in shop.client.get("/customers?search=phoenix").json()] == [1]
    assert shop.client.get(f"/customers/{customer}/orders/{order}").status_code == 200


# 4. Parents, children, and the purge.


@pytest.mark.requirement(4)
def test_the_orders_of_a_deleted_customer_are_marked_too(shop: Shop) -> None:
    customer, other = shop.customer(), shop.customer()
    shop.order(customer)
    shop.order(customer)
    of_other = shop.order(other)

    shop.delete(customer)

    assert shop.live_orders(customer) == []
    assert shop.live_orders(other) == [of_other]


@pytest.mark.requirement(4)
@pytest.mark.parametrize("event", ["UPDATE ON customers", "UPDATE ON orders"])
def test_a_deletion_that_is_killed_has_deleted_nothing(shop: Shop, event: str) -> None:
    customer = shop.customer()
    shop.order(customer)
    rows = shop.rows(customer)

    with shop.gate(event) as gate, ThreadPoolExecutor(1) as threads:
        threads.submit(shop.delete, customer)
        gate.end(gate.wait_for_one())

    assert shop.rows(customer) == rows


@pytest.mark.requirement(4)
def test_a_deleted_customer_gets_no_new_orders(shop: Shop) -> None:
    customer = shop.customer()
    shop.delete(customer)

    responses = [shop.ask_for_order(customer), shop.ask_for_order(10**15)]

    assert [response.status_code for response in responses] == [404, 404]
    assert shop.rows(customer)[1] == []


@pytest.mark.requirement(4)
@pytest.mark.parametrize("event", ["INSERT ON orders", "UPDATE ON orders"], ids=["a new one", "a restored one"])
def test_an_order_that_comes_while_its_customer_goes_is_not_left_behind(shop: Shop, event: str) -> None:
    customer = shop.customer()
    order = shop.order(customer)
    shop.delete(customer, order)
    is_new = event.startswith("INSERT")
    come = partial(shop.ask_for_order, customer) if is_new else partial(shop.restore, customer, order)

    with shop.gate(event) as gate:
        came, gone = gate.meet(come, partial(shop.delete, customer))

    assert came.status_code in (200, 201, 404, 409)
    assert gone.status_code == 204
    assert shop.live_orders(customer) == []


@pytest.mark.requirement(4)
@pytest.mark.parametrize("event", ["UPDATE ON customers", "UPDATE ON orders"])
@pytest.mark.parametrize("kind", ["a new order", "a restored order"])
def test_a_customer_who_is_just_being_deleted_gets_no_orders(shop: Shop, event: str, kind: str) -> None:
    customer = shop.customer()
    shop.order(customer)
    order = shop.order(customer)
    shop.delete(customer, order)
    come = partial(shop.ask_for_order, customer) if kind == "a new order" else partial(shop.restore, customer, order)

    with shop.gate(event) as gate:
        gone, came = gate.meet(partial(shop.delete, customer), come)

    # It may also come first, if the deletion then takes it along.
    assert gone.status_code == 204
    assert came.status_code in ((201, 404) if kind == "a new order" else (200, 409))
    assert shop.live_orders(customer) == []


@pytest.mark.requirement(4)
def test_an_order_that_goes_on_its_own_just_before_its_customer_stays_gone(shop: Shop) -> None:
    customer = shop.customer()
    alone, along = shop.order(customer), shop.order(customer)

    with shop.gate("UPDATE ON orders") as gate:
        answers = gate.meet(partial(shop.delete, customer, alone), partial(shop.delete, customer))

    assert [answer.status_code for answer in answers] == [204, 204]
    shop.restore(customer)
    assert shop.live_orders(customer) == [along]


@pytest.mark.requirement(4)
def test_the_database_itself_keeps_parents_of_orders_and_refuses_orphans(shop: Shop) -> None:
    customer = shop.customer()
    order = shop.order(customer)
    shop.delete(customer)
    rows = shop.rows(customer)

    for statement in (
        "DELETE FROM customers WHERE id = %s",
        "UPDATE orders SET customer_id = -1 WHERE customer_id = %s",
    ):
        with pytest.raises(psycopg.IntegrityError):
            shop.query(statement, customer)

    assert shop.rows(customer) == rows
    assert rows[1][0][0] == order


@pytest.mark.requirement(4)
def test_a_purge_removes_what_was_deleted_long_ago_and_keeps_the_rest(empty_shop: Shop) -> None:
    shop = empty_shop
    live, young, old = shop.customer(), shop.customer(), shop.customer()
    kept, recent, ancient = shop.order(live), shop.order(live), shop.order(live)
    along_young, along_old, alone_old = shop.order(young), shop.order(old), shop.order(old)
    for thing in [(live, recent), (live, ancient), (old, alone_old), (young,), (old,)]:
        shop.delete(*thing)
    for days, thing in [(29, (live, recent)), (31, (live, ancient)), (29, (young,)), (31, (old,))]:
        shop.age(days, *thing)

    purged = shop.purge(30)

    assert purged == {"customers": 1, "orders": 3}
    assert shop.query("SELECT id FROM customers ORDER BY id") == [(live,), (young,)]
    assert shop.query("SELECT id FROM orders ORDER BY id") == [(kept,), (recent,), (along_young,)]
    assert shop.restore(old).status_code == shop.restore(old, along_old).status_code == 404
    assert shop.restore(young).status_code == 200


@pytest.mark.requirement(4)
def test_an_order_that_went_with_its_customer_is_purged_with_its_customer(empty_shop: Shop) -> None:
    shop = empty_shop
    customer = shop.customer()
    alone, along = shop.order(customer), shop.order(customer)
    shop.delete(customer, alone)
    shop.delete(customer)
    shop.age(31, customer, alone, along)

    purged = shop.purge(30)

    assert purged == {"customers": 0, "orders": 1}
    assert shop.restore(customer).json()["orders"][0]["id"] == along


@pytest.mark.requirement(4)
@pytest.mark.parametrize("batch", [[], ["--batch", "2"]], ids=["at once", "in batches"])
def test_a_purge_of_everything_deleted_leaves_what_is_not(empty_shop: Shop, batch: list[str]) -> None:
    shop = empty_shop
    live = shop.customer()
    kept = shop.order(live)
    for _ in range(3):
        shop.delete(live, shop.order(live))
        gone = shop.customer()
        shop.order(gone)
        shop.order(gone)
        shop.delete(gone)

    purged = shop.purge(0, *batch)

    assert purged == {"customers": 3, "orders": 9}
    assert shop.query("SELECT id FROM customers") == [(live,)]
    assert shop.query("SELECT id FROM orders") == [(kept,)]
    assert shop.purge(0, *batch) == {"customers": 0, "orders": 0}


@pytest.mark.requirement(4)
@pytest.mark.parametrize("sparing", [0, 2], ids=["at the first customer", "at the third"])
def test_a_purge_that_is_killed_leaves_each_customer_whole_or_gone(empty_shop: Shop, sparing: int) -> None:
    shop = empty_shop
    customers = [shop.customer() for _ in range(3)]
    for customer in customers:
        shop.order(customer)
        shop.order(customer)
        shop.delete(customer)

    with shop.gate("DELETE ON customers", sparing) as gate:
        purge = shop.solution.start("purge", "--older-than", "0", "--batch", "1", DATABASE_URL=shop.url)
        backend = gate.wait_for_one()
        purge.kill()
        gate.end(backend)

    left = [customer for customer in customers if shop.rows(customer)[0]]
    assert len(left) == 3 - sparing
    assert [len(shop.rows(customer)[1]) for customer in customers if customer not in left] == [0] * sparing
    assert [len(shop.restore(customer).json()["orders"]) for customer in left[1:]] == [2] * (len(left) - 1)
    assert shop.purge(0) == {"customers": 1, "orders": 2}


TOGETHER = [("customer", "customers"), ("customer", "orders"), ("order", "orders")]


@pytest.mark.requirement(4)
@pytest.mark.parametrize("kind, table", TOGETHER)
def test_what_is_just_being_restored_is_not_purged(empty_shop: Shop, kind: str, table: str) -> None:
    shop = empty_shop
    customer = shop.customer()
    order = shop.order(customer)
    thing = (customer,) if kind == "customer" else (customer, order)
    shop.delete(*thing)

    with shop.gate(f"UPDATE ON {table}") as gate:
        restored, exit_code = gate.meet(partial(shop.restore, *thing), shop.purge_in_background)

    assert (restored.status_code, exit_code) == (200, 0)
    assert shop.orders(customer) == [order]


@pytest.mark.requirement(4)
@pytest.mark.parametrize("kind, table", TOGETHER)
def test_what_is_just_being_purged_is_not_restored(empty_shop: Shop, kind: str, table: str) -> None:
    shop = empty_shop
    customer = shop.customer()
    order = shop.order(customer)
    thing = (customer,) if kind == "customer" else (customer, order)
    shop.delete(*thing)

    with shop.gate(f"DELETE ON {table}") as gate:
        exit_code, refused = gate.meet(shop.purge_in_background, partial(shop.restore, *thing))

    assert (exit_code, refused.status_code) == (0, 404)
    assert shop.query("SELECT id FROM orders") == []


@pytest.mark.requirement(4)
def test_a_purge_of_orders_that_is_killed_keeps_what_it_has_done(empty_shop: Shop) -> None:
    shop = empty_shop
    customer = shop.customer()
    for _ in range(3):
        shop.delete(customer, shop.order(customer))

    with shop.gate("DELETE ON orders", sparing=2) as gate:
        purge = shop.solution.start("purge", "--older-than", "0", "--batch", "1", DATABASE_URL=shop.url)
        backend = gate.wait_for_one()
        purge.kill()
        gate.end(backend)

    assert len(shop.rows(customer)[1]) == 1
    assert shop.purge(0) == {"customers": 0, "orders": 1}


@pytest.mark.requirement(4)
@pytest.mark.parametrize("hours, purged", [(23, 0), (25, 1)])
def test_a_day_has_24_hours(empty_shop: Shop, hours: int, purged: int) -> None:
    shop = empty_shop
    shop.delete(shop.customer())
    shop.query("UPDATE customers SET deleted_at = now() - %s * interval '1 hour'", hours)

    assert shop.purge(1) == {"customers": purged, "orders": 0}


ARGUMENTS = {
    "no age": [],
    "a negative age": ["--older-than", "-1"],
    "no number": ["--older-than", "soon"],
    "too many days": ["--older-than", "9" * 20],
    "an empty batch": ["--older-than", "30", "--batch", "0"],
}


@pytest.mark.requirement(4)
@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
def test_a_purge_that_makes_no_sense_is_refused(shop: Shop, arguments: list[str]) -> None:
    customer = shop.customer()
    shop.delete(customer)

    finished = shop.run("purge", *arguments)

    assert finished.exit_code != 0
    assert finished.stderr
    assert len(finished.stderr) < 1000
    assert "Traceback" not in finished.stderr
    assert len(shop.rows(customer)[0]) == 1


@pytest.mark.requirement(4)
@pytest.mark.parametrize("url", ["", "sqlite://", "nonsense", NOWHERE, "without tables"])
def test_a_purge_without_its_database_fails_with_a_sentence(solution: Solution, postgres_server: str, url: str) -> None:
    named = postgres_server if url == "without tables" else url

    finished = solution.run("purge", "--older-than", "30", DATABASE_URL=named)

    assert finished.exit_code != 0
    assert finished.stderr.strip()
    assert "Traceback" not in finished.stderr
    assert finished.stdout == ""
