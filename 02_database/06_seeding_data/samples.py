"""Where the rows come from: CSV files for what people wrote, Faker for customers and their orders."""

import csv
import hashlib
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from database import Row, SeedError
from faker import Faker
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

CATEGORIES = Path(__file__).parent / "data" / "categories.csv"
PRODUCTS = Path(__file__).parent / "data" / "products.csv"

# All that is generated happened in this year. Nothing asks what time it is now.
YEAR_START, YEAR_END = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)


def text(longest: int | None = None) -> StringConstraints:  # given
    """Some text; PostgreSQL cannot store the NUL character."""
    return StringConstraints(strip_whitespace=True, min_length=1, max_length=longest, pattern=r"^[^\x00]*$")


class Line(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CategoryLine(Line):
    id: int
    slug: Annotated[str, text(50)]
    name: Annotated[str, text(100)]
    parent_id: int | None


class ProductLine(Line):
    sku: Annotated[str, text(32)]
    name: Annotated[str, text(100)]
    category: Annotated[str, text(50)]
    price: Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=2)]
    stock: Annotated[int, Field(ge=0, le=2**31 - 1)]
    description: Annotated[str, text()] | None


def read_csv(path: Path, form: type[Line]) -> list[Row]:
    """Return the file's rows: RFC 4180, UTF-8, an empty field is NULL. Raises SeedError for a wrong line."""
    line = 0
    rows = []
    try:
        # utf-8-sig drops the mark that Excel writes first; newline="" leaves line breaks in quotes to csv.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="more fields than columns", strict=True)
            for fields in reader:
                line = reader.line_num
                values = {name: value or None for name, value in fields.items()}
                rows.append(form.model_validate(values).model_dump())
    except ValidationError as error:
        problem = error.errors()[0]
        raise SeedError(f"{path.name}, line {line}, {problem['loc'][0]}: {problem['msg']}") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise SeedError(f"{path.name}, after line {line}: {error}") from None
    except OSError as error:
        raise SeedError(f"{path}: {error.strerror}") from None
    return rows


def read_products(path: Path, categories: Sequence[Row]) -> list[Row]:
    """Return the file's products. Raises SeedError for none at all, a sku twice or an unknown category."""
    products = read_csv(path, ProductLine)
    slugs = {category["slug"] for category in categories}
    unknown = [product for product in products if product["category"] not in slugs]
    if unknown:
        raise SeedError(f"{path.name}, {unknown[0]['sku']}: there is no category {unknown[0]['category']!r}")
    if not 0 < len(products) == len({product["sku"] for product in products}):
        raise SeedError(f"{path.name} has no products, or a sku twice")
    return [{**product, "created_at": YEAR_START} for product in products]


def make_administrator(environment: str) -> list[Row]:
    """One, except in production. The password that anybody can read here opens it in development alone."""
    if environment == "production":
        return []
    password_hash = hash_password("development") if environment == "development" else None
    known = {"email": "admin@example.com", "name": "Administrator", "role": "admin"}
    return [{**known, "password_hash": password_hash, "created_at": YEAR_START}]


def hash_password(password: str) -> str:
    salt = secrets.token_bytes(16)
    key = hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)
    return f"scrypt$16384$8$1${salt.hex()}${key.hex()}"


def make_user(fake: Faker, random_seed: int, number: int) -> Row:
    """Customer `number` of that seed: always the same one, however many are made and in whichever order."""
    fake.seed_instance(f"{random_seed}/{number}")
    first, last = fake.first_name(), fake.last_name()
    # The number makes it unique. Nobody gets mail at example.com, .net and .org (RFC 2606 §3).
    email = f"{first}.{last}.{number}@{fake.safe_domain_name()}".lower()
    joined = random_moment(fake, YEAR_START)
    return {
        "email": email,
        "name": f"{first} {last}",
        "password_hash": None,
        "role": "user",
        "created_at": joined,
    }


def make_orders(fake: Faker, user: Row, products: Sequence[Any]) -> list[tuple[Row, list[Row]]]:
    """Up to three orders of that user, each with one to four of the products, none older than its user."""
    fake.seed_instance(user["email"])
    return [make_order(fake, user, products) for _ in range(fake.random.randint(0, 3))]


def make_order(fake: Faker, user: Row, products: Sequence[Any]) -> tuple[Row, list[Row]]:
    status = fake.random.choice(["pending", "paid", "shipped", "cancelled"])
    order = {"user_id": user["id"], "status": status, "created_at": random_moment(fake, user["created_at"])}
    bought = fake.random.sample(products, k=min(fake.random.randint(1, 4), len(products)))
    return order, [
        {"product_id": product.id, "quantity": fake.random.randint(1, 5), "unit_price": product.price}
        for product in bought
    ]


def random_moment(fake: Faker, after: datetime) -> datetime:
    return after + timedelta(seconds=fake.random.randrange(int((YEAR_END - after).total_seconds())))
