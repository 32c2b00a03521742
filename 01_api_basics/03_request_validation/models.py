"""What a right product and a right user are. Pydantic is lax unless told otherwise, so much of this tells it."""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, WithJsonSchema
from pydantic_core import PydanticCustomError

CENT = Decimal("0.01")
HIGHEST_PRICE = Decimal("99999999.99")
LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
EMAIL = rf"[a-zA-Z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{LABEL}(?:\.{LABEL})*"  # of <input type=email> in the HTML standard


def written_as_number(value: object) -> object:
    """Refuse what Decimal would take as well, strings first of all; `read_json` makes no floats."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise PydanticCustomError("number_type", "must be a number")
    return value


def in_cents(price: Decimal) -> Decimal:
    return price.quantize(CENT)


def without_nul(text: str) -> str:
    """Databases written in C end a text at the NUL character, or refuse it."""
    if "\0" in text:
        raise PydanticCustomError("nul", "must not have the NUL character")
    return text


def not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "must not be blank")
    return text


def address(text: str) -> str:
    """`fullmatch`, since `$` would let a line break through at the end."""
    if not re.fullmatch(EMAIL, text):
        raise PydanticCustomError("email", "must be an email address like ada@example.com")
    return text


def secret_without_nul(secret: SecretStr) -> SecretStr:
    without_nul(secret.get_secret_value())
    return secret


def all_different(tags: list[str]) -> list[str]:
    """Tags that differ only in case are the same tag."""
    if len({tag.casefold() for tag in tags}) < len(tags):
        raise PydanticCustomError("duplicate", "must not have the same tag twice")
    return tags


# The second half of each is for /openapi.json, which does not see what functions refuse.
NOT_BLANK: dict[str, Any] = {"pattern": r"^[^\x00]*[^\x00\s][^\x00]*$"}
NUMBER = {"type": "number", "exclusiveMinimum": 0, "maximum": float(HIGHEST_PRICE), "multipleOf": 0.01}

Name = Annotated[
    str,
    Field(max_length=100, json_schema_extra=NOT_BLANK),
    AfterValidator(without_nul),
    AfterValidator(not_blank),
]
Tag = Annotated[
    str,
    Field(max_length=30, json_schema_extra=NOT_BLANK),
    AfterValidator(without_nul),
    AfterValidator(not_blank),
]
Tags = Annotated[
    list[Tag],
    Field(max_length=10, json_schema_extra={"uniqueItems": True}),
    AfterValidator(all_different),
]
Price = Annotated[
    Decimal,
    Field(gt=0, le=HIGHEST_PRICE, decimal_places=2),
    BeforeValidator(written_as_number),
    AfterValidator(in_cents),
    WithJsonSchema(NUMBER, mode="validation"),
]
Email = Annotated[str, Field(max_length=254, json_schema_extra={"pattern": f"^{EMAIL}$"}), AfterValidator(address)]
Password = Annotated[
    SecretStr,
    Field(min_length=12, max_length=128, json_schema_extra={"pattern": r"^[^\x00]*$"}),
    AfterValidator(secret_without_nul),
]
# strict: neither "3" nor true nor 3.0 is a whole number
Quantity = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
Millimetres = Annotated[int, Field(strict=True, ge=1, le=10_000)]
Age = Annotated[int, Field(strict=True, gt=18, le=150)]
Referral = Annotated[str, Field(pattern="^[A-Z0-9]{8}$")]


class Body(BaseModel):
    """A field that nobody knows is a client's mistake, often a misspelt optional one: say so instead of dropping it."""

    model_config = ConfigDict(extra="forbid")


class Dimensions(Body):
    width: Millimetres
    height: Millimetres


class Product(Body):
    """What may be left out has its default. A default is not validated, and only `dimensions` may be null."""

    name: Name
    price: Price
    quantity: Quantity = 1
    tags: Tags = []
    dimensions: Dimensions | None = None


class User(Body):
    """A user as the world sees it."""

    name: Name
    email: Email
    age: Age
    referral: Referral | None = None


class NewUser(User):
    """SecretStr shows as stars where a model is printed or logged by mistake."""

    password: Password
