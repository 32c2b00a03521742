"""What clients may send and what they get; the row itself is shared.models.Product."""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

LARGEST_ID = 2**63 - 1
LARGEST_INTEGER = 2**31 - 1  # of PostgreSQL's integer
ANY_TEXT = r"^[^\x00]*$"  # PostgreSQL cannot store the NUL character
PRICE = r"^[0-9]{1,8}(\.[0-9]{1,2})?$"

Sku = Annotated[str, StringConstraints(min_length=1, max_length=32, pattern=ANY_TEXT)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=ANY_TEXT)]
Category = Annotated[str, StringConstraints(min_length=1, max_length=50, pattern=ANY_TEXT)]
Price = Annotated[str, StringConstraints(pattern=PRICE)]
Stock = Annotated[int, Field(strict=True, ge=0, le=LARGEST_INTEGER)]
Description = Annotated[str, StringConstraints(max_length=2000, pattern=ANY_TEXT)]


class ProductIn(BaseModel):
    """POST and PUT: a whole product; what may be left out has its default."""

    model_config = ConfigDict(extra="forbid")

    sku: Sku
    name: Name
    category: Category = "general"
    price: Price
    stock: Stock = 0
    description: Description | None = None

    def row(self) -> dict[str, Any]:
        return self.model_dump() | {"price": Decimal(self.price)}


class ProductOut(BaseModel):
    """The price is a string in JSON, since a JSON number loses cents in most parsers."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    sku: str
    name: str
    category: str
    price: Decimal
    stock: int
    description: str | None
