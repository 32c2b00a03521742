"""What is stored, and what a client may ask for."""

import re
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator
from sqlalchemy import JSON, BigInteger, CheckConstraint, Engine, ForeignKey, Identity, String, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from shared.models import Money

LARGEST_ID = 2**63 - 1
MOST_MONEY = Decimal("9999999999.99")  # what numeric(12, 2) holds


class Base(DeclarativeBase):
    pass


class Account(Base):
    """The CHECK is not how an overdraft is found out, it is what stops us if our own check is wrong."""

    __tablename__ = "accounts"
    __table_args__ = (CheckConstraint("balance >= 0"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    balance: Mapped[Decimal] = mapped_column(Money)


class Transfer(Base):
    __tablename__ = "transfers"
    __table_args__ = (CheckConstraint("amount > 0"), CheckConstraint("from_account <> to_account"))

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    from_account: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    to_account: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    amount: Mapped[Decimal] = mapped_column(Money)


class Product(Base):
    """`most_per_account` limits how many pieces one account may have in all its orders; null means no limit."""

    __tablename__ = "products"
    __table_args__ = (CheckConstraint("stock >= 0"), CheckConstraint("price >= 0"))

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    price: Mapped[Decimal] = mapped_column(Money)
    stock: Mapped[int]
    most_per_account: Mapped[int | None]


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    total: Mapped[Decimal] = mapped_column(Money)


class OrderItem(Base):
    __tablename__ = "order_items"
    __table_args__ = (CheckConstraint("quantity > 0"),)

    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"), primary_key=True, index=True)
    quantity: Mapped[int]
    unit_price: Mapped[Decimal] = mapped_column(Money)


class Receipt(Base):
    """What was asked under an idempotency key, and what was answered.

    There is no foreign key to accounts: a request for an account that does not exist has its answer, too.
    """

    __tablename__ = "receipts"

    operation: Mapped[str] = mapped_column(String(20), primary_key=True)
    account_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request: Mapped[dict[str, Any]] = mapped_column(JSON)
    # Both are null until the transaction knows them; nobody else ever sees them null.
    status: Mapped[int] = mapped_column(nullable=True)
    answer: Mapped[dict[str, Any]] = mapped_column(JSON, nullable=True)


def create_tables(engine: Engine) -> None:  # given
    """Create what is missing, one process at a time: two that start together would both try."""
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('create_tables'))"))
        Base.metadata.create_all(connection)


def seed(engine: Engine) -> None:  # given
    """Two accounts and two products to try things with, in a database that has no account."""
    create_tables(engine)
    with Session(engine) as session, session.begin():
        if session.scalars(select(Account).limit(1)).first() is None:
            session.add_all([Account(balance=100), Account(balance=50)])
            session.add_all([Product(price=30, stock=5), Product(price=5, stock=10, most_per_account=2)])


AMOUNT = r"^[0-9]{1,8}(\.[0-9]{1,2})?$"


def written_as_money(value: object) -> object:  # given
    """Let through only what reads like 49.90: Decimal takes JSON numbers, "1e2", "1_000" and full-width digits too."""
    if not isinstance(value, str) or not re.fullmatch(AMOUNT, value):
        raise ValueError('an amount is a string like "49.90"')
    return value


Id = Annotated[int, Field(strict=True, ge=1, le=LARGEST_ID)]  # strict: neither true nor "3" is a number
Quantity = Annotated[int, Field(strict=True, ge=1, le=1000)]
MoneyOut = Annotated[Decimal, PlainSerializer(lambda amount: f"{amount:.2f}", return_type=str)]
Amount = Annotated[
    MoneyOut,  # "5" and "5.00" are the same request
    BeforeValidator(written_as_money, json_schema_input_type=Annotated[str, Field(pattern=AMOUNT)]),
    Field(gt=0),
]


class Body(BaseModel):
    """A field that nobody knows is a client's mistake: say so instead of dropping it."""

    model_config = ConfigDict(extra="forbid")


class TransferIn(Body):
    """In Python `from` is a keyword, so the fields have other names here."""

    source: Id = Field(alias="from")
    target: Id = Field(alias="to")
    amount: Amount

    @model_validator(mode="after")
    def goes_somewhere(self) -> Self:  # given
        if self.source == self.target:
            raise ValueError("a transfer needs two accounts")
        return self


class ItemIn(Body):
    product: Id
    quantity: Quantity


class OrderIn(Body):
    account: Id
    items: list[ItemIn] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def names_each_product_once(self) -> Self:  # given
        if len({item.product for item in self.items}) < len(self.items):
            raise ValueError("an order may name a product once")
        return self


class TransferOut(BaseModel):
    """`balance` is what the first account had left."""

    model_config = ConfigDict(validate_by_name=True)

    id: int
    source: int = Field(alias="from")
    target: int = Field(alias="to")
    amount: MoneyOut
    balance: MoneyOut


class ItemOut(BaseModel):
    product: int
    quantity: int
    unit_price: MoneyOut


class OrderOut(BaseModel):
    """`balance` is what the account had left."""

    id: int
    account: int
    items: list[ItemOut]
    total: MoneyOut
    balance: MoneyOut


class AccountOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    balance: MoneyOut


class Problem(BaseModel):
    """Every error, whatever its status: what is wrong, for people."""

    detail: str
