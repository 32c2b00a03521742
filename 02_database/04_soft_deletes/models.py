"""What is stored, with a mark for what is deleted, and the bodies that go in and out."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, PlainSerializer, StringConstraints
from sqlalchemy import BigInteger, CheckConstraint, Engine, ForeignKey, Identity, Index, String, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from shared.models import Money, UtcDateTime

LARGEST_ID = 2**63 - 1
LIVE, DELETED = text("deleted_at IS NULL"), text("deleted_at IS NOT NULL")


class Base(DeclarativeBase):
    pass


class SoftDeletes:
    """For tables whose rows are marked instead of deleted.

    All rows that one deletion marked have its `deletion_id`, by which a restore finds them. Their `deleted_at` would
    not do: two deletions can fall on the same microsecond, and clocks are set back.
    """

    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    deletion_id: Mapped[UUID | None]


class Customer(SoftDeletes, Base):
    """Unique is the e-mail of those who are there; the deleted ones may have shared it."""

    __tablename__ = "customers"
    __table_args__ = (
        CheckConstraint("(deleted_at IS NULL) = (deletion_id IS NULL)"),
        Index("uq_customers_live_email", text("lower(email)"), unique=True, postgresql_where=LIVE),
        Index("ix_customers_deleted_at", "deleted_at", postgresql_where=DELETED),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    email: Mapped[str] = mapped_column(String(254))
    name: Mapped[str] = mapped_column(String(100))

    orders: Mapped[list["Order"]] = relationship(back_populates="customer", order_by="Order.id")


class Order(SoftDeletes, Base):
    """The foreign key neither cascades nor nulls: rows go for good only by `purge`, children first."""

    __tablename__ = "orders"
    __table_args__ = (
        CheckConstraint("(deleted_at IS NULL) = (deletion_id IS NULL)"),
        # Readers use this one; the one on all rows is for the foreign key, restores and the purge.
        Index("ix_orders_live_customer_id", "customer_id", postgresql_where=LIVE),
        Index("uq_orders_live_number", "number", unique=True, postgresql_where=LIVE),
        Index("ix_orders_deleted_at", "deleted_at", postgresql_where=DELETED),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id", ondelete="RESTRICT"), index=True)
    number: Mapped[str] = mapped_column(String(32))
    amount: Mapped[Decimal] = mapped_column(Money)
    paid: Mapped[bool] = mapped_column(default=False)

    customer: Mapped[Customer] = relationship(back_populates="orders")


def create_tables(engine: Engine) -> None:  # given
    """Create what is missing, one process at a time: two that start together would both try."""
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('create_tables'))"))
        Base.metadata.create_all(connection)


# Decimal itself takes "1e2", "1_000" and full-width digits too.
Amount = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,8}(\.[0-9]{1,2})?$")]
Email = Annotated[str, StringConstraints(max_length=254, pattern="^[!-?A-~]+@[!-?A-~]+$")]
Name = Annotated[str, StringConstraints(max_length=100, pattern=r"^[^\x00]*[^\x00\s][^\x00]*$")]
Number = Annotated[str, StringConstraints(pattern="^[0-9A-Z-]{1,32}$")]
MoneyOut = Annotated[Decimal, PlainSerializer(lambda amount: f"{amount:.2f}", return_type=str)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CustomerIn(Body):
    email: Email
    name: Name


class OrderIn(Body):
    number: Number
    amount: Amount


class Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class OrderOut(Out):
    id: int
    number: str
    amount: MoneyOut
    paid: bool


class DeletedOrderOut(OrderOut):
    deleted_at: datetime


class CustomerName(Out):
    id: int
    email: str
    name: str


class CustomerOut(CustomerName):
    orders: list[OrderOut]


class CustomerSummary(CustomerName):
    order_count: int
    order_total: MoneyOut


class DeletedCustomerOut(CustomerName):
    deleted_at: datetime


class PaidOut(Out):
    paid: int


class Report(Out):
    """What the shop has: `without_orders` and `in_debt` count customers."""

    customers: int
    without_orders: int
    in_debt: int
    orders: int
    total: MoneyOut


class Problem(Out):
    detail: str
