"""The shop's tables: each fact once, with the types, keys and rules that let only right rows in."""

from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Enum,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Id = Annotated[int, mapped_column(Identity(always=True), primary_key=True)]
Now = Annotated[datetime, mapped_column(server_default=func.now())]


class Base(DeclarativeBase):
    """What all tables share: the type that a Python type becomes, and how constraints are named."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {
        int: BigInteger,
        str: Text,
        Decimal: Numeric(12, 2),
        datetime: DateTime(timezone=True),
    }
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        }
    )


class OrderStatus(StrEnum):
    PENDING = "pending"
    PAID = "paid"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"


def values(statuses: type[OrderStatus]) -> list[str]:  # given
    """What the database stores; SQLAlchemy's choice would be the names, in capitals."""
    return [status.value for status in statuses]


class User(Base):  # yours
    """Somebody who may sign in; the e-mail address is theirs, however they write it."""

    __tablename__ = "users"
    __table_args__ = (
        Index("uq_users_email", text("lower(email)"), unique=True),
        CheckConstraint(r"email ~ '^[^@\s]+@[^@\s]+$' AND length(email) <= 254", "email"),
        CheckConstraint(r"name ~ '\S' AND length(name) <= 100", "name"),
    )

    id: Mapped[Id]
    email: Mapped[str]
    name: Mapped[str]
    created_at: Mapped[Now]


class Profile(Base):  # yours
    """What a user may tell about themselves. One to one: its key is the user's."""

    __tablename__ = "profiles"
    __table_args__ = (CheckConstraint(r"phone ~ '^\+[1-9][0-9]{6,14}$'", "phone"),)

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    phone: Mapped[str | None]
    birth_date: Mapped[date | None]


class Address(Base):  # yours
    """Where a user lives or works. Many to one; at most one of a user's is the default."""

    __tablename__ = "addresses"
    __table_args__ = (
        Index("uq_addresses_default", "user_id", unique=True, postgresql_where=text("is_default")),
        CheckConstraint(r"street ~ '\S' AND length(street) <= 200", "street"),
        CheckConstraint(r"postal_code ~ '\S' AND length(postal_code) <= 20", "postal_code"),
        CheckConstraint(r"city ~ '\S' AND length(city) <= 100", "city"),
        CheckConstraint("country ~ '^[A-Z]{2}$'", "country"),
    )

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    street: Mapped[str]
    postal_code: Mapped[str]
    city: Mapped[str]
    country: Mapped[str]
    is_default: Mapped[bool] = mapped_column(server_default=text("false"))


class Category(Base):  # yours
    """A shelf, which may stand inside another one."""

    __tablename__ = "categories"
    __table_args__ = (
        CheckConstraint("slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND length(slug) <= 50", "slug"),
        CheckConstraint(r"name ~ '\S' AND length(name) <= 100", "name"),
        CheckConstraint("parent_id <> id", "parent"),
    )

    id: Mapped[Id]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("categories.id", ondelete="RESTRICT"), index=True)
    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]


class Product(Base):  # yours
    """What is for sale now, at today's price."""

    __tablename__ = "products"
    __table_args__ = (
        CheckConstraint("sku ~ '^[A-Z0-9-]{1,32}$'", "sku"),
        CheckConstraint(r"name ~ '\S' AND length(name) <= 100", "name"),
        # Not `price >= 0`: numeric knows NaN, and holds it for greater than every number.
        CheckConstraint("price BETWEEN 0 AND 9999999999.99", "price"),
        CheckConstraint("stock >= 0", "stock"),
    )

    id: Mapped[Id]
    sku: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    description: Mapped[str | None]
    price: Mapped[Decimal]
    stock: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    created_at: Mapped[Now]


class ProductCategory(Base):  # yours
    """Many to many: a product is in a category once. The key finds categories, the index products."""

    __tablename__ = "product_categories"

    product_id: Mapped[int] = mapped_column(ForeignKey("products.id", ondelete="CASCADE"), primary_key=True)
    category_id: Mapped[int] = mapped_column(
        ForeignKey("categories.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class Order(Base):  # yours
    """What a user ordered. The address is copied: where a parcel went does not change when the user moves."""

    __tablename__ = "orders"
    __table_args__ = (
        Index(None, "user_id", "created_at"),  # a user's orders by age, and the index of the foreign key
        Index("ix_orders_to_ship", "created_at", postgresql_where=text("status = 'paid'")),
        CheckConstraint(r"shipping_address ~ '\S' AND length(shipping_address) <= 500", "shipping_address"),
    )

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
    status: Mapped[OrderStatus] = mapped_column(
        Enum(OrderStatus, name="order_status", values_callable=values), server_default=OrderStatus.PENDING
    )
    shipping_address: Mapped[str]
    created_at: Mapped[Now]


class OrderItem(Base):  # yours
    """Many to many with facts of its own: a product in an order, its name and price as they were then."""

    __tablename__ = "order_items"
    __table_args__ = (
        CheckConstraint("unit_price BETWEEN 0 AND 9999999999.99", "unit_price"),
        CheckConstraint("quantity > 0", "quantity"),
        CheckConstraint(r"product_name ~ '\S' AND length(product_name) <= 100", "product_name"),
    )

    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"), primary_key=True)
    product_id: Mapped[int] = mapped_column(
        ForeignKey("products.id", ondelete="RESTRICT"), primary_key=True, index=True
    )
    unit_price: Mapped[Decimal]
    quantity: Mapped[int] = mapped_column(Integer)
    product_name: Mapped[str]


class Payment(Base):  # yours
    """An attempt to pay an order; at most one of them succeeds."""

    __tablename__ = "payments"
    __table_args__ = (
        Index("uq_payments_succeeded", "order_id", unique=True, postgresql_where=text("status = 'succeeded'")),
        CheckConstraint("amount BETWEEN 0.01 AND 9999999999.99", "amount"),
        CheckConstraint("status IN ('pending', 'succeeded', 'failed', 'refunded')", "status"),
        CheckConstraint(r"reference ~ '\S' AND length(reference) <= 100", "reference"),
    )

    id: Mapped[Id]
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id", ondelete="RESTRICT"), index=True)
    reference: Mapped[str] = mapped_column(unique=True)
    amount: Mapped[Decimal]
    status: Mapped[str] = mapped_column(server_default="pending")
    created_at: Mapped[Now]


class Review(Base):  # yours
    """What a user says of a product, once. It outlives its author, whose name goes."""

    __tablename__ = "reviews"
    __table_args__ = (
        UniqueConstraint("user_id", "product_id"),  # and the index of the foreign key to users
        Index(None, "product_id", "created_at"),
        CheckConstraint("rating BETWEEN 1 AND 5", "rating"),
        CheckConstraint("length(body) <= 5000", "body"),
    )

    id: Mapped[Id]
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id", ondelete="CASCADE"))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    rating: Mapped[int] = mapped_column(SmallInteger)
    body: Mapped[str | None]
    created_at: Mapped[Now]
