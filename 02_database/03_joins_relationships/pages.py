"""Navigating relationships: nested answers from objects, with the number of statements known in advance."""

from collections.abc import Callable
from typing import Any

from models import Customer, Order, OrderItem, Product, Tag
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload, raiseload, selectinload


def customer_cards(session: Session) -> list[dict[str, Any]]:
    """One-to-one, one-to-many and many-to-many: each customer with city, whom they referred, and their orders."""
    # To-one relationships by a join, which adds no rows. To-many ones by a statement each, which multiply nothing.
    products = selectinload(Customer.orders).selectinload(Order.items).joinedload(OrderItem.product, innerjoin=True)
    statement = (
        select(Customer)
        .options(
            joinedload(Customer.profile),
            selectinload(Customer.referred),
            products.selectinload(Product.tags),
            raiseload("*"),  # what was forgotten above is an error, and not a statement for each row
        )
        .order_by(Customer.id)
    )
    return [card(customer) for customer in session.scalars(statement)]


def card(customer: Customer) -> dict[str, Any]:
    return {
        "customer_id": customer.id,
        "name": customer.name,
        "city": customer.profile.city if customer.profile else None,
        "referred": [other.name for other in customer.referred],
        "orders": [{"order_id": order.id, "items": [line(item) for item in order.items]} for order in customer.orders],
    }


def line(item: OrderItem) -> dict[str, Any]:
    return {"sku": item.product.sku, "quantity": item.quantity, "tags": [tag.name for tag in item.product.tags]}


def tag_pages(session: Session) -> list[dict[str, Any]]:
    """Many-to-many from the other side: each tag with its products."""
    statement = select(Tag).options(selectinload(Tag.products), raiseload("*")).order_by(Tag.id)
    return [{"tag": tag.name, "skus": [product.sku for product in tag.products]} for tag in session.scalars(statement)]


PAGES: dict[str, Callable[[Session], list[dict[str, Any]]]] = {
    "customer-cards": customer_cards,
    "tag-pages": tag_pages,
}
