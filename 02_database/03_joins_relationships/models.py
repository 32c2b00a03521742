"""The shop's tables, and what Python sees of them: one-to-one, one-to-many and many-to-many relationships."""

import sys
from datetime import date
from decimal import Decimal
from pathlib import Path

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    Table,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {int: BigInteger, Decimal: Numeric(12, 2)}  # noqa: RUF012  SQLAlchemy's own way


class Customer(Base):
    """One-to-many with itself: a customer was referred by one other, or by nobody, and may refer many."""

    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str]
    referred_by: Mapped[int | None] = mapped_column(ForeignKey("customers.id"), index=True)

    profile: Mapped["Profile | None"] = relationship(back_populates="customer")
    orders: Mapped[list["Order"]] = relationship(back_populates="customer", order_by="Order.id")
    referred: Mapped[list["Customer"]] = relationship(back_populates="referrer", order_by="Customer.id")
    referrer: Mapped["Customer | None"] = relationship(back_populates="referred", remote_side="Customer.id")


class Profile(Base):
    """One-to-one: the customer's key is the profile's own, so there cannot be two of one customer."""

    __tablename__ = "profiles"

    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), primary_key=True)
    city: Mapped[str]

    customer: Mapped[Customer] = relationship(back_populates="profile")


# Many-to-many: a pair is its own key, so it is there once. The index is for the way back, from a tag to products.
product_tags = Table(
    "product_tags",
    Base.metadata,
    Column("product_id", ForeignKey("products.id"), primary_key=True),
    Column("tag_id", ForeignKey("tags.id"), primary_key=True, index=True),
)


class Product(Base):
    __tablename__ = "products"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    sku: Mapped[str] = mapped_column(unique=True)

    tags: Mapped[list["Tag"]] = relationship(secondary=product_tags, back_populates="products", order_by="Tag.id")


class Tag(Base):
    __tablename__ = "tags"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)

    products: Mapped[list[Product]] = relationship(secondary=product_tags, back_populates="tags", order_by="Product.id")


class Order(Base):
    __tablename__ = "orders"
    __table_args__ = (
        CheckConstraint("status IN ('open', 'shipped')", name="status"),
        Index(
            None, "customer_id", "placed_on", "id"
        ),  # a customer's latest orders are the last entries of that customer
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    status: Mapped[str]
    placed_on: Mapped[date]

    customer: Mapped[Customer] = relationship(back_populates="orders")
    items: Mapped[list["OrderItem"]] = relationship(back_populates="order", order_by="OrderItem.product_id")


class OrderItem(Base):
    """Many-to-many with something to say about the pair, so it is a class of its own."""

    __tablename__ = "order_items"
    __table_args__ = (CheckConstraint("quantity > 0", name="quantity"),)

    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"), primary_key=True, index=True)
    quantity: Mapped[int] = mapped_column(Integer)
    unit_price: Mapped[Decimal]

    order: Mapped[Order] = relationship(back_populates="items")
    product: Mapped[Product] = relationship()


class Payment(Base):
    """What the bank reports. The order's number is what the payer wrote: no foreign key, it may be wrong or missing."""

    __tablename__ = "payments"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    order_number: Mapped[int | None] = mapped_column(index=True)
    amount: Mapped[Decimal]


def create(connection: Connection) -> None:  # given
    """Create the tables that do not exist yet. Of several commands at once, one works and the others wait."""
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('create_tables'))"))
    Base.metadata.create_all(connection)


def load(connection: Connection, rows: int | None) -> None:  # given
    """Put the sample shop into empty tables, or a generated one with this many customers."""
    if any(connection.execute(table.select().limit(1)).first() for table in Base.metadata.tables.values()):
        sys.exit("error: there are rows in the tables already: samples go into empty ones only")
    script = Path(__file__).parent / "sample" / ("shop.sql" if rows is None else "many.sql")
    connection.execute(text("SELECT set_config('sample.customers', :rows, true)"), {"rows": str(rows or 0)})
    # Without parameters a script of several statements goes through as it is.
    connection.execution_options(no_parameters=True).exec_driver_sql(script.read_text(encoding="utf-8"))
