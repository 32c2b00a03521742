"""Transactions that happen whole or not at all, are retried when the database asks for it, and count once."""

import logging
import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

from models import (
    MOST_MONEY,
    Account,
    Base,
    ItemIn,
    ItemOut,
    Order,
    OrderIn,
    OrderItem,
    OrderOut,
    Product,
    Receipt,
    Transfer,
    TransferIn,
    TransferOut,
)
from pydantic import BaseModel
from sqlalchemy import Engine, create_engine, func, make_url, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

ATTEMPTS = 10
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.1  # seconds
RETRYABLE = {"40001", "40P01"}  # serialization_failure, deadlock_detected
# libpq's settings for a server that cannot be reached, or stops answering: some 8 s, in seconds and, the last, in ms.
NETWORK = {"connect_timeout": "3", "keepalives_idle": "5", "keepalives_interval": "1", "keepalives_count": "3"}
NETWORK |= {"tcp_user_timeout": "8000"}

Result = TypeVar("Result")
Row = TypeVar("Row", bound=Base)

logger = logging.getLogger(__name__)


class RefusedError(Exception):
    """What was asked cannot be done, and the client is told why."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(frozen=True)
class Key:
    """What makes two requests the same one: the operation, the account that pays, and the client's key."""

    operation: str
    account: int
    text: str


@dataclass(frozen=True)
class Answer:
    status: int
    body: dict[str, Any]


def make_engine() -> Engine:
    """An engine for DATABASE_URL. Raises ValueError when DATABASE_URL or LOCK_TIMEOUT_MS make no sense.

    A connection that waits LOCK_TIMEOUT_MS for a lock gives up. The server ends a transaction that is left idle for
    five times as long: the app that it belongs to may be gone, and its locks are not. TCP tells the app the same.
    """
    named = os.environ.get("DATABASE_URL", "")
    if not re.match(r"postgres(ql(\+\w+)?)?://", named):
        raise ValueError("DATABASE_URL must name a PostgreSQL database, like postgresql://user:password@host/database")
    url = make_url(named).set(drivername="postgresql+psycopg")  # some hosts still write postgres://
    wait = os.environ.get("LOCK_TIMEOUT_MS", "1000")
    if not re.fullmatch(r"[1-9][0-9]{0,4}", wait):
        raise ValueError(f"LOCK_TIMEOUT_MS must be from 1 to 99999: {wait!r}")
    settings = f"-c lock_timeout={wait} -c idle_in_transaction_session_timeout={5 * int(wait)}"
    query = {**NETWORK, **url.query, "options": f"{url.query.get('options', '')} {settings}"}
    return create_engine(url.set(query=query), pool_size=20, max_overflow=0, pool_timeout=3)


def transact(engine: Engine, level: IsolationLevel, work: Callable[[Session], Result]) -> Result:
    """Do `work` in a transaction of that isolation level, and all of it again in a new one when the database says so.

    COMMIT may fail like any other statement, so it is inside of the `try`. When the connection is lost during COMMIT,
    nobody knows whether it happened: so `work` must be safe to retry even then, as `once` makes it. Raises the
    DBAPIError that a retry does not cure, and the last one after ATTEMPTS.
    """
    attempt = 1
    while True:
        try:
            with Session(engine.execution_options(isolation_level=level)) as session, session.begin():
                return work(session)
        except DBAPIError as error:
            if attempt == ATTEMPTS or not is_worth_a_retry(error):
                raise
            logger.info("attempt %s failed and is retried: %s", attempt, error.orig)
        # Random, so that those who collided do not meet again (full jitter).
        time.sleep(random.uniform(0, min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)))  # noqa: S311
        attempt += 1


def is_worth_a_retry(error: DBAPIError) -> bool:
    """Whether the same transaction may go through now: it lost to another one, or its connection was lost."""
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in RETRYABLE


def once(session: Session, key: Key, request: BaseModel, work: Callable[[], BaseModel]) -> Answer:
    """Do `work` and keep its answer under the key, both in one transaction; or return the answer that is there.

    Of two requests with one key, the second waits at its INSERT until the first one's transaction has ended. A refusal
    is an answer too; the savepoint undoes what `work` had done by then. Raises RefusedError for a key that was used
    for another request.
    """
    identity = {"operation": key.operation, "account_id": key.account, "key": key.text}
    asked = request.model_dump(mode="json", by_alias=True)
    claim = insert(Receipt).values(**identity, request=asked).on_conflict_do_nothing().returning(Receipt)
    receipt = session.scalars(claim).one_or_none()
    if receipt is None:
        earlier = session.get_one(Receipt, identity)
        if earlier.request != asked:
            raise RefusedError(422, "this Idempotency-Key was used for another request")
        return Answer(earlier.status, earlier.answer)
    try:
        with session.begin_nested():
            answer = Answer(201, work().model_dump(mode="json", by_alias=True))
    except RefusedError as refusal:
        answer = Answer(refusal.status, {"detail": str(refusal)})
    receipt.status, receipt.answer = answer.status, answer.body
    return answer


def transfer(session: Session, wanted: TransferIn) -> TransferOut:
    """Move money. For READ COMMITTED: everything that the decision depends on is locked before it is read.

    The rows are locked by id, whatever the direction, so transfers cannot deadlock each other. FOR NO KEY UPDATE
    (`key_share`) lets others insert rows that refer to these accounts. Without `populate_existing` a session that had
    read an account before would go on with the balance of then.
    """
    both = select(Account).where(Account.id.in_([wanted.source, wanted.target])).order_by(Account.id)
    locking = both.with_for_update(key_share=True).execution_options(populate_existing=True)
    locked = {account.id: account for account in session.scalars(locking)}
    source, target = (found(locked.get(number), f"account {number}") for number in (wanted.source, wanted.target))
    if source.balance < wanted.amount:
        raise RefusedError(409, f"account {source.id} has not enough money")
    if target.balance + wanted.amount > MOST_MONEY:
        raise RefusedError(409, f"account {target.id} cannot hold so much money")
    source.balance -= wanted.amount
    target.balance += wanted.amount
    done = Transfer(from_account=source.id, to_account=target.id, amount=wanted.amount)
    session.add(done)
    session.flush()
    return TransferOut.model_validate(wanted.model_dump() | {"id": done.id, "balance": source.balance})


def place_order(session: Session, wanted: OrderIn) -> OrderOut:
    """Take the items from stock and the money from the account. For SERIALIZABLE: nothing is locked.

    The limit per account depends on rows of other orders, also on those that are being inserted right now, which no
    row lock holds. So PostgreSQL watches who read what, and ends one of two orders that disturb each other.
    """
    account = found(session.get(Account, wanted.account), f"account {wanted.account}")
    order = Order(account_id=account.id, total=Decimal(0))
    session.add(order)
    session.flush()
    items = [take(session, order, item) for item in sorted(wanted.items, key=lambda item: item.product)]
    order.total = sum((item.quantity * item.unit_price for item in items), Decimal(0))
    if account.balance < order.total:
        raise RefusedError(409, f"account {account.id} has not enough money")
    account.balance -= order.total
    session.flush()
    return OrderOut(id=order.id, account=account.id, items=items, total=order.total, balance=account.balance)


def take(session: Session, order: Order, wanted: ItemIn) -> ItemOut:
    """Take one item from stock. Raises RefusedError when there is too little, or the account has its share."""
    product = found(session.get(Product, wanted.product), f"product {wanted.product}")
    if product.stock < wanted.quantity:
        raise RefusedError(409, f"there are not {wanted.quantity} pieces of product {product.id}")
    if product.most_per_account is not None:
        pieces = select(func.sum(OrderItem.quantity)).join(Order).filter_by(account_id=order.account_id)
        had = session.scalar(pieces.where(OrderItem.product_id == product.id)) or 0
        if had + wanted.quantity > product.most_per_account:
            raise RefusedError(409, f"an account may have {product.most_per_account} pieces of product {product.id}")
    product.stock -= wanted.quantity
    line = {"product_id": product.id, "quantity": wanted.quantity, "unit_price": product.price}
    session.add(OrderItem(order_id=order.id, **line))
    return ItemOut(product=product.id, quantity=wanted.quantity, unit_price=product.price)


def found(row: Row | None, name: str) -> Row:
    """Return the row that the request names. Raises RefusedError when there is none."""
    if row is None:
        raise RefusedError(422, f"there is no {name}")
    return row
