"""A question for each kind of join, answered by one statement each."""

from collections.abc import Callable

from models import Customer, Order, OrderItem, Payment, Product, Profile, Tag, product_tags
from sqlalchemy import Executable, Subquery, and_, exists, func, select, text, true
from sqlalchemy.orm import aliased

LATEST = 2  # orders of each customer


def order_lines() -> Executable:
    """INNER JOIN: what was ordered, by whom? A row for each item; what has no partner does not appear."""
    return (
        select(
            Order.id.label("order_id"),
            Customer.name.label("customer"),
            Product.sku,
            OrderItem.quantity,
            (OrderItem.quantity * OrderItem.unit_price).label("total"),
        )
        .join(Order.customer)
        .join(Order.items)
        .join(OrderItem.product)
        .order_by(Order.id, Product.id)
    )


def order_counts() -> Executable:
    """LEFT JOIN: how many orders has each customer? Who has none still gets a row, and count(*) would count it."""
    return (
        select(Customer.id.label("customer_id"), Customer.name, func.count(Order.id).label("orders"))
        .outerjoin(Customer.orders)
        .group_by(Customer.id)
        .order_by(Customer.id)
    )


def open_orders() -> Executable:
    """LEFT JOIN with a condition: which orders of each customer are open? In WHERE it would drop the others."""
    return (
        select(Customer.id.label("customer_id"), Customer.name, Order.id.label("order_id"))
        .outerjoin(Order, and_(Order.customer_id == Customer.id, Order.status == "open"))
        .order_by(Customer.id, Order.id)
    )


def product_sales() -> Executable:
    """RIGHT JOIN: how much of each product was shipped? Written in SQL, as SQLAlchemy offers no RIGHT JOIN."""
    return text("""
        SELECT products.sku, coalesce(sum(quantity), 0) AS units, coalesce(sum(quantity * unit_price), 0) AS revenue
        FROM order_items
        JOIN orders ON orders.id = order_items.order_id AND orders.status = 'shipped'
        RIGHT JOIN products ON products.id = order_items.product_id
        GROUP BY products.id
        ORDER BY products.id
    """)


def payment_differences() -> Executable:
    """FULL JOIN: where does what is due differ from what was paid? Both sides may be alone."""
    due, paid = due_by_order(), paid_by_order()
    return (
        select(func.coalesce(due.c.order_id, paid.c.order_number).label("number"), due.c.due, paid.c.paid)
        .select_from(due)
        .join(paid, paid.c.order_number == due.c.order_id, full=True)
        .where(due.c.due.is_distinct_from(paid.c.paid))
        .order_by("number")
    )


def city_tag_units() -> Executable:
    """CROSS JOIN: how many units of each tag were ordered in each city? A pair without orders has a row, too."""
    cities = select(Profile.city).distinct().subquery()
    sold = (
        select(Profile.city, product_tags.c.tag_id, func.sum(OrderItem.quantity).label("units"))
        .join(Order, Order.customer_id == Profile.customer_id)
        .join(Order.items)
        .join(product_tags, product_tags.c.product_id == OrderItem.product_id)
        .group_by(Profile.city, product_tags.c.tag_id)
        .subquery()
    )
    return (
        select(cities.c.city, Tag.name.label("tag"), func.coalesce(sold.c.units, 0).label("units"))
        .select_from(cities)
        .join(Tag, true())
        .outerjoin(sold, and_(sold.c.city == cities.c.city, sold.c.tag_id == Tag.id))
        .order_by(cities.c.city, Tag.id)
    )


def referrals() -> Executable:
    """SELF JOIN: who referred each customer? The same table under a second name; LEFT, as many have no referrer."""
    referrer = aliased(Customer)
    return (
        select(Customer.id.label("customer_id"), Customer.name, referrer.name.label("referrer"))
        .outerjoin(Customer.referrer.of_type(referrer))
        .order_by(Customer.id)
    )


def bought_together() -> Executable:
    """SELF JOIN on an inequality: how many orders contain both of two products? `<` gives each pair once."""
    item, other_item = aliased(OrderItem), aliased(OrderItem)
    product, other_product = aliased(Product), aliased(Product)
    times = func.count().label("orders")
    same_order = and_(other_item.order_id == item.order_id, item.product_id < other_item.product_id)
    return (
        select(product.sku.label("first"), other_product.sku.label("second"), times)
        .select_from(item)
        .join(other_item, same_order)
        .join(product, product.id == item.product_id)
        .join(other_product, other_product.id == other_item.product_id)
        .group_by(product.id, other_product.id)
        .order_by(times.desc(), product.id, other_product.id)
    )


def latest_orders() -> Executable:
    """LATERAL: what are the latest two orders of each customer? The subquery runs for each, and ends after two."""
    latest = (
        select(Order.id, Order.placed_on)
        .where(Order.customer_id == Customer.id)
        .order_by(Order.placed_on.desc(), Order.id.desc())
        .limit(LATEST)
        .lateral()
    )
    return (
        select(Customer.id.label("customer_id"), latest.c.id.label("order_id"), latest.c.placed_on)
        .outerjoin(latest, true())
        .order_by(Customer.id, latest.c.placed_on.desc(), latest.c.id.desc())
    )


def never_referred() -> Executable:
    """Anti-join: who has referred nobody? NOT IN would give nothing as soon as one referred_by is null."""
    other = aliased(Customer)
    has_referred = exists().where(other.referred_by == Customer.id)
    return select(Customer.id.label("customer_id"), Customer.name).where(~has_referred).order_by(Customer.id)


def gift_buyers() -> Executable:
    """Semi-join: who has ever ordered something with the tag "gift"? Each once, however often."""
    gifts = (
        select(Order.id)
        .join(Order.items)
        .join(product_tags, product_tags.c.product_id == OrderItem.product_id)
        .join(Tag, Tag.id == product_tags.c.tag_id)
        .where(Order.customer_id == Customer.id, Tag.name == "gift")
    )
    return select(Customer.id.label("customer_id"), Customer.name).where(gifts.exists()).order_by(Customer.id)


def balances() -> Executable:
    """Aggregates before joins: what has each customer ordered and paid? Items times payments would be too much."""
    due, paid = due_by_order(), paid_by_order()
    return (
        select(
            Customer.id.label("customer_id"),
            Customer.name,
            func.coalesce(func.sum(due.c.due), 0).label("due"),
            func.coalesce(func.sum(paid.c.paid), 0).label("paid"),
        )
        .outerjoin(Customer.orders)
        .outerjoin(due, due.c.order_id == Order.id)
        .outerjoin(paid, paid.c.order_number == Order.id)
        .group_by(Customer.id)
        .order_by(Customer.id)
    )


def due_by_order() -> Subquery:
    """One row for each order, also for one without items: order_id, due."""
    due = func.coalesce(func.sum(OrderItem.quantity * OrderItem.unit_price), 0)
    return select(Order.id.label("order_id"), due.label("due")).outerjoin(Order.items).group_by(Order.id).subquery()


def paid_by_order() -> Subquery:
    """One row for each number that a payer wrote, and one for those who wrote none: order_number, paid."""
    paid = func.sum(Payment.amount).label("paid")
    return select(Payment.order_number, paid).group_by(Payment.order_number).subquery()


JOINS: dict[str, Callable[[], Executable]] = {
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
}
