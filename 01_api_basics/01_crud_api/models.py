"""What a product is: the row that is stored, and the bodies that clients may send."""

import re
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from sqlalchemy import String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.models import BigId, Money

LARGEST_INTEGER = 2**31 - 1  # of PostgreSQL's integer; SQLite's end at 2**63 - 1


class Base(DeclarativeBase):
    pass


class Product(Base):
    """The version counts changes: SQLAlchemy adds it to the WHERE of every UPDATE and DELETE."""

    __tablename__ = "products"
    # Without it SQLite gives the id of a deleted row to the next one, and an old ETag would fit a new product.
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012  SQLAlchemy reads it once

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    sku: Mapped[str] = mapped_column(String(32), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    price: Mapped[Decimal] = mapped_column(Money)
    stock: Mapped[int]
    description: Mapped[str | None]
    version: Mapped[int] = mapped_column()

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012  SQLAlchemy reads it once


# Text is kept as it was sent. PostgreSQL cannot store the NUL character.
ANY_TEXT = r"^[^\x00]*$"
NOT_BLANK = r"^[^\x00]*[^\x00\s][^\x00]*$"

Sku = Annotated[str, StringConstraints(max_length=32, pattern=NOT_BLANK)]
Name = Annotated[str, StringConstraints(max_length=100, pattern=NOT_BLANK)]
Description = Annotated[str, StringConstraints(max_length=2000, pattern=ANY_TEXT)]


def written_as_price(value: object) -> object:  # given
    """Let through only what reads like 49.90: Decimal takes JSON numbers, "1e2", "1_000" and full-width digits too."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,8}(\.[0-9]{1,2})?", value):
        raise ValueError('a price is a string like "49.90"')
    return value


Price = Annotated[Decimal, BeforeValidator(written_as_price)]
Stock = Annotated[int, Field(strict=True, ge=0, le=LARGEST_INTEGER)]  # strict: neither true nor "3" is a number


class Body(BaseModel):
    """A field that nobody knows is a client's mistake, an id among them: say so instead of dropping it."""

    model_config = ConfigDict(extra="forbid")


class ProductIn(Body):
    """POST and PUT: a whole product; what may be left out has its default."""

    sku: Sku
    name: Name
    price: Price
    stock: Stock = 0
    description: Description | None = None


class ProductPatch(Body):
    """PATCH: any part of a product (RFC 7396). Only `description` may be null: that clears it."""

    # The defaults are never read: `model_dump(exclude_unset=True)` tells left out from null.
    sku: Sku = ""
    name: Name = ""
    price: Price = Decimal(0)
    stock: Stock = 0
    description: Description | None = None


class ProductOut(BaseModel):
    """The price is a string in JSON, since a JSON number loses cents in most parsers."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    sku: str
    name: str
    price: Decimal
    stock: int
    description: str | None
