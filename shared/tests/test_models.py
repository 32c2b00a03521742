"""The shop's models store the same values in SQLite and in PostgreSQL."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Session

from shared.models import Base, Order, OrderItem, Product, User


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    url = "sqlite://" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.mark.parametrize("price", ["0.00", "0.10", "19.99", "1234567890.12"])
def test_a_price_keeps_its_cents(engine: Engine, price: str) -> None:
    with Session(engine) as session:
        session.add(Product(id=1, sku="KB-1", name="Keyboard", price=Decimal(price)))
        session.commit()
        session.expire_all()

        assert str(session.get_one(Product, 1).price) == price


def test_a_time_comes_back_in_utc(engine: Engine) -> None:
    noon_in_berlin = datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    with Session(engine) as session:
        session.add(User(id=1, email="ada@example.com", name="Ada", created_at=noon_in_berlin))
        session.commit()
        session.expire_all()

        stored = session.get_one(User, 1).created_at
        assert (stored, stored.tzinfo) == (datetime(2026, 7, 1, 10, tzinfo=UTC), UTC)


def test_a_naive_time_is_refused(engine: Engine) -> None:
    with Session(engine) as session:
        session.add(User(email="ada@example.com", name="Ada", created_at=datetime(2026, 7, 1)))  # noqa: DTZ001

        with pytest.raises(StatementError, match="no time zone"):
            session.flush()


def test_an_order_knows_its_user_and_its_items(engine: Engine) -> None:
    with Session(engine) as session:
        keyboard = Product(sku="KB-1", name="Keyboard", price=Decimal("49.90"))
        item = OrderItem(product=keyboard, quantity=2, unit_price=keyboard.price)
        order = Order(user=User(email="ada@example.com", name="Ada"), items=[item])
        session.add(order)
        session.commit()

        assert order.user.orders == [order]
        assert order.items[0].product is keyboard
