"""Fills the database that DATABASE_URL names with products to page through; a second run adds nothing."""

import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session

from shared.models import Base, Product

CATEGORIES = ["books", "games", "home & garden"]
OPENING = datetime(2026, 1, 1, 9, tzinfo=UTC)


def product(number: int) -> Product:  # given
    """Three products come in at a time, so the time alone does not order them."""
    return Product(
        sku=f"P-{number}",
        name=f"Product {number}",
        category=CATEGORIES[number % 3],
        price=Decimal(number) + Decimal("0.90"),
        created_at=OPENING + timedelta(hours=(number - 1) // 3),
    )


def main(count: int = 45) -> None:  # given
    engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///shop.db"))
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        known = set(session.scalars(select(Product.sku)))
        products = [product(number) for number in range(1, count + 1)]
        session.add_all(product for product in products if product.sku not in known)
        session.flush()
        print(session.scalar(select(func.count()).select_from(Product)), "products")
    engine.dispose()


if __name__ == "__main__":
    main()
