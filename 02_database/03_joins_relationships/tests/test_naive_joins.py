"""Every report against a naive join in Python: nested loops, that are slow and easy to believe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from conftest import Database

Rows = list[Any]

# Words whose order does not depend on the collation of the server.
CITIES, TAGS, SKUS = ["Bern", "Lima", "Oslo"], ["paper", "gift", "new"], ["PEN", "BOOK", "LAMP", "INK"]
NAMES = ["Kim", "Carl", "Ünal"]


class Shop(SimpleNamespace):
    """The tables, each a list of rows with an attribute for each column."""

    customers: Rows
    profiles: Rows
    products: Rows
    tags: Rows
    product_tags: Rows
    orders: Rows
    order_items: Rows
    payments: Rows

    def as_tuples(self) -> dict[str, list[tuple[object, ...]]]:
        return {table: [tuple(vars(row).values()) for row in rows] for table, rows in vars(self).items()}


def numbered(draw: st.DrawFn, most: int) -> range:
    return range(1, draw(st.integers(0, most)) + 1)


@st.composite
def shops(draw: st.DrawFn) -> Shop:
    row = SimpleNamespace
    customer_ids, product_ids, tag_ids = numbered(draw, 4), range(1, len(SKUS) + 1), range(1, len(TAGS) + 1)
    order_ids = numbered(draw, 6 if customer_ids else 0)
    money = st.decimals("0.01", "20.00", places=2)
    days = st.dates(date(2026, 1, 1), date(2026, 1, 3))

    def one_of(values: Sequence[Any]) -> Any:
        return draw(st.sampled_from(values))

    def pairs(left: Sequence[int], right: Sequence[int]) -> list[tuple[int, int]]:
        every = [(first, second) for first in left for second in right]
        return sorted(draw(st.sets(st.sampled_from(every), max_size=12))) if every else []

    return Shop(
        customers=[row(id=n, name=one_of(NAMES), referred_by=one_of([None, *range(1, n)])) for n in customer_ids],
        profiles=[row(customer_id=n, city=one_of(CITIES)) for n in customer_ids if draw(st.booleans())],
        products=[row(id=n, sku=SKUS[n - 1]) for n in product_ids],
        tags=[row(id=n, name=TAGS[n - 1]) for n in tag_ids],
        product_tags=[row(product_id=product, tag_id=tag) for product, tag in pairs(product_ids, tag_ids)],
        orders=[
            row(id=n, customer_id=one_of(customer_ids), status=one_of(["open", "shipped"]), placed_on=draw(days))
            for n in order_ids
        ],
        order_items=[
            row(order_id=order, product_id=product, quantity=draw(st.integers(1, 3)), unit_price=draw(money))
            for order, product in pairs(order_ids, product_ids)
        ],
        payments=[row(id=n, order_number=one_of([None, *range(1, 8)]), amount=draw(money)) for n in numbered(draw, 5)],
    )


def total(amounts: list[Decimal]) -> str:
    return f"{sum(amounts, Decimal(0)):.2f}"


def due(shop: Shop, order_ids: list[int]) -> str:
    return total([item.quantity * item.unit_price for item in shop.order_items if item.order_id in order_ids])


def paid(shop: Shop, numbers: list[int | None]) -> str | None:
    amounts = [payment.amount for payment in shop.payments if payment.order_number in numbers]
    return total(amounts) if amounts else None


def order_lines(shop: Shop) -> Rows:
    return [
        {
            "order_id": order.id,
            "customer": customer.name,
            "sku": product.sku,
            "quantity": item.quantity,
            "total": total([item.quantity * item.unit_price]),
        }
        for order in shop.orders
        for product in shop.products
        for item in shop.order_items
        for customer in shop.customers
        if item.order_id == order.id and item.product_id == product.id and order.customer_id == customer.id
    ]


def order_counts(shop: Shop) -> Rows:
    return [
        {
            "customer_id": customer.id,
            "name": customer.name,
            "orders": sum(order.customer_id == customer.id for order in shop.orders),
        }
        for customer in shop.customers
    ]


def open_orders(shop: Shop) -> Rows:
    return [
        {"customer_id": customer.id, "name": customer.name, "order_id": order_id}
        for customer in shop.customers
        for order_id in [o.id for o in shop.orders if o.customer_id == customer.id and o.status == "open"] or [None]
    ]


def product_sales(shop: Shop) -> Rows:
    shipped = [order.id for order in shop.orders if order.status == "shipped"]
    sold = {
        p.id: [i for i in shop.order_items if i.product_id == p.id and i.order_id in shipped] for p in shop.products
    }
    return [
        {
            "sku": product.sku,
            "units": sum(item.quantity for item in sold[product.id]),
            "revenue": total([item.quantity * item.unit_price for item in sold[product.id]]),
        }
        for product in shop.products
    ]


def payment_differences(shop: Shop) -> Rows:
    orders = {order.id for order in shop.orders}
    written = {payment.order_number for payment in shop.payments}
    numbers = sorted(orders | written - {None}) + [None] * (None in written)
    both = [(n, due(shop, [n]) if n in orders else None, paid(shop, [n])) for n in numbers]
    return [{"number": number, "due": owed, "paid": given} for number, owed, given in both if owed != given]


def city_tag_units(shop: Shop) -> Rows:
    return [
        {
            "city": city,
            "tag": tag.name,
            "units": sum(
                item.quantity
                for profile in shop.profiles
                for order in shop.orders
                for item in shop.order_items
                for link in shop.product_tags
                if profile.city == city and order.customer_id == profile.customer_id and item.order_id == order.id
                if link.product_id == item.product_id and link.tag_id == tag.id
            ),
        }
        for city in sorted({profile.city for profile in shop.profiles})
        for tag in shop.tags
    ]


def referrals(shop: Shop) -> Rows:
    names = {customer.id: customer.name for customer in shop.customers}
    return [
        {"customer_id": customer.id, "name": customer.name, "referrer": names.get(customer.referred_by)}
        for customer in shop.customers
    ]


def bought_together(shop: Shop) -> Rows:
    ordered = {(item.order_id, item.product_id) for item in shop.order_items}
    pairs = [
        (-sum((order.id, a.id) in ordered and (order.id, b.id) in ordered for order in shop.orders), a.id, b.id)
        for a in shop.products
        for b in shop.products
        if a.id < b.id
    ]
    return [
        {"first": SKUS[first - 1], "second": SKUS[second - 1], "orders": -times}
        for times, first, second in sorted(pairs)
        if times
    ]


def latest_orders(shop: Shop) -> Rows:
    newest = sorted(shop.orders, key=lambda order: (order.placed_on, order.id), reverse=True)
    nothing = SimpleNamespace(id=None, placed_on=None)
    return [
        {"customer_id": customer.id, "order_id": order.id, "placed_on": order.placed_on and order.placed_on.isoformat()}
        for customer in shop.customers
        for order in [order for order in newest if order.customer_id == customer.id][:2] or [nothing]
    ]


def never_referred(shop: Shop) -> Rows:
    referrers = [customer.referred_by for customer in shop.customers]
    return [{"customer_id": c.id, "name": c.name} for c in shop.customers if c.id not in referrers]


def gift_buyers(shop: Shop) -> Rows:
    gifts = {link.product_id for link in shop.product_tags if TAGS[link.tag_id - 1] == "gift"}
    orders = {item.order_id for item in shop.order_items if item.product_id in gifts}
    buyers = {order.customer_id for order in shop.orders if order.id in orders}
    return [{"customer_id": c.id, "name": c.name} for c in shop.customers if c.id in buyers]


def balances(shop: Shop) -> Rows:
    orders = {c.id: [order.id for order in shop.orders if order.customer_id == c.id] for c in shop.customers}
    return [
        {
            "customer_id": c.id,
            "name": c.name,
            "due": due(shop, orders[c.id]),
            "paid": paid(shop, orders[c.id]) or "0.00",
        }
        for c in shop.customers
    ]


def customer_cards(shop: Shop) -> Rows:
    cities = {profile.customer_id: profile.city for profile in shop.profiles}

    def line(item: Any) -> dict[str, Any]:
        tags = [TAGS[link.tag_id - 1] for link in shop.product_tags if link.product_id == item.product_id]
        return {"sku": SKUS[item.product_id - 1], "quantity": item.quantity, "tags": tags}

    return [
        {
            "customer_id": customer.id,
            "name": customer.name,
            "city": cities.get(customer.id),
            "referred": [other.name for other in shop.customers if other.referred_by == customer.id],
            "orders": [
                {"order_id": order.id, "items": [line(item) for item in shop.order_items if item.order_id == order.id]}
                for order in shop.orders
                if order.customer_id == customer.id
            ],
        }
        for customer in shop.customers
    ]


def tag_pages(shop: Shop) -> Rows:
    return [
        {"tag": tag.name, "skus": [SKUS[link.product_id - 1] for link in shop.product_tags if link.tag_id == tag.id]}
        for tag in shop.tags
    ]


NAIVE: dict[str, Callable[[Shop], Rows]] = {
    "order-lines": order_lines,
    "order-counts": order_counts,
    "open-orders": open_orders,
    "product-sales": product_sales,
    "payment-differences": payment_differences,
    "city-tag-units": city_tag_units,
    "referrals": referrals,
    "bought-together": bought_together,
    "latest-orders": latest_orders,
    "never-referred": never_referred,
    "gift-buyers": gift_buyers,
    "balances": balances,
    "customer-cards": customer_cards,
    "tag-pages": tag_pages,
}


@pytest.mark.requirement(3)
# The same shops in every run, and no search for a smaller one: each costs a fresh look at the database.
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(shop=shops())
def test_every_report_agrees_with_nested_loops_over_any_shop(shared: Callable[[str], Database], shop: Shop) -> None:
    database = shared("any")
    database.fill(shop.as_tuples())

    reports = database.report()

    wrong = {name: reports.get(name) for name, naive in NAIVE.items() if reports.get(name) != naive(shop)}
    assert wrong == {name: NAIVE[name](shop) for name in wrong}
