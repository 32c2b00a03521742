"""Deleted rows stay: a filter that every statement of a session passes, deletions, restores, and the purge."""

from collections import Counter
from datetime import timedelta
from typing import TypeVar
from uuid import uuid4

from models import Customer, Order, SoftDeletes
from sqlalchemy import Select, delete, exists, func, select, update
from sqlalchemy.orm import ORMExecuteState, Session, joinedload, sessionmaker, with_loader_criteria

Row = TypeVar("Row", Customer, Order)


def hide_deleted(state: ORMExecuteState) -> None:
    """Add `deleted_at IS NULL` wherever a statement names a table that has it; to be called on `do_orm_execute`.

    That covers SELECT with its joins and subqueries, what relationships load, `session.get`, and UPDATE and DELETE of
    many rows; a LEFT JOIN has it in its ON. Not covered: text(), Core tables, INSERT … SELECT, and `session.get` of
    what the session holds already. `with_deleted` is the way around it.
    """
    if state.is_column_load or state.execution_options.get("include_deleted", False):
        return
    if state.is_select or state.is_update or state.is_delete:
        live = with_loader_criteria(SoftDeletes, lambda table: table.deleted_at.is_(None), include_aliases=True)
        state.statement = state.statement.options(live)


def with_deleted(statement: Select[Row]) -> Select[Row]:
    """The same statement, deleted rows included."""
    return statement.execution_options(include_deleted=True)


def read_with_orders(session: Session, customer_id: int) -> Customer | None:
    """A customer with the orders, in one statement: between two, somebody could delete both."""
    statement = select(Customer).where(Customer.id == customer_id).options(joinedload(Customer.orders))
    return session.scalars(statement).unique().one_or_none()


def lock_customer(session: Session, customer_id: int, *, deleted: bool = False) -> Customer | None:
    """Lock a customer until the transaction ends. Whoever changes one, or the orders of one, begins with this.

    FOR NO KEY UPDATE. The lock that a foreign key takes by itself, FOR KEY SHARE, keeps the parent from being deleted
    for good, but not from being marked: that is an UPDATE like any other.
    """
    return _lock(session, select(Customer).where(Customer.id == customer_id), deleted=deleted)


def lock_order(session: Session, customer_id: int, order_id: int, *, deleted: bool = False) -> Order | None:
    statement = select(Order).where(Order.id == order_id, Order.customer_id == customer_id)
    return _lock(session, statement, deleted=deleted)


def _lock(session: Session, statement: Select[Row], *, deleted: bool) -> Row | None:
    locking = (with_deleted(statement) if deleted else statement).with_for_update(key_share=True)
    return session.scalars(locking).one_or_none()


def delete_order(session: Session, order: Order) -> None:
    order.deleted_at, order.deletion_id = func.now(), uuid4()
    session.flush()


def delete_customer(session: Session, customer: Customer) -> None:
    """Mark a locked customer and the orders as one deletion. Orders that are deleted already keep their own mark."""
    mark = {"deleted_at": func.now(), "deletion_id": uuid4()}
    session.execute(update(Order).where(Order.customer_id == customer.id).values(mark))
    session.execute(update(Customer).where(Customer.id == customer.id).values(mark))


def restore_order(session: Session, order: Order) -> None:
    """Unmark a locked order. Raises IntegrityError when its number is taken now."""
    order.deleted_at, order.deletion_id = None, None
    session.flush()


def restore_customer(session: Session, customer: Customer) -> None:
    """Unmark a locked customer, and the orders that the same deletion marked; one who is not deleted stays as is.

    Raises IntegrityError when the e-mail or a number is taken now.
    """
    if customer.deletion_id is None:
        return
    marked = update(Order).where(Order.customer_id == customer.id, Order.deletion_id == customer.deletion_id)
    unmark = marked.values(deleted_at=None, deletion_id=None)
    session.execute(unmark, execution_options={"include_deleted": True})
    customer.deleted_at, customer.deletion_id = None, None
    session.flush()


def purge(sessions: sessionmaker[Session], age: timedelta, batch: int) -> Counter[str]:
    """Delete for good what was deleted at least `age` ago by the database's clock; return how many rows of each table.

    Each transaction takes at most `batch` customers, with all of their orders, or `batch` orders. So it may end
    anywhere, and nobody can restore a customer whose orders are gone. `sessions` must not hide what is deleted.
    """
    purged = Counter(customers=0, orders=0)
    for purge_batch in (purge_customers, purge_orders):
        done = Counter(rows=1)
        while done.total():
            with sessions.begin() as session:
                done = purge_batch(session, age, batch)
            purged.update(done)
    return purged


def purge_customers(session: Session, age: timedelta, batch: int) -> Counter[str]:
    """Purge customers with their orders, which the foreign key wants gone first.

    The lock waits for a restore that is under way, and then reads anew whether the row is deleted.
    """
    old = select(Customer.id).where(Customer.deleted_at <= func.now() - age).order_by(Customer.id)
    ids = list(session.scalars(old.limit(batch).with_for_update()))
    orders = delete(Order).where(Order.customer_id.in_(ids), Order.deleted_at.is_not(None)).returning(Order.id)
    gone = len(session.scalars(orders).all())
    session.execute(delete(Customer).where(Customer.id.in_(ids)))
    return Counter(customers=len(ids), orders=gone)


def purge_orders(session: Session, age: timedelta, batch: int) -> Counter[str]:
    """Purge orders that were deleted on their own; those that went with a customer go with the customer."""
    went_along = exists().where(Customer.id == Order.customer_id, Customer.deletion_id == Order.deletion_id)
    old = select(Order.id).where(Order.deleted_at <= func.now() - age, ~went_along).order_by(Order.id)
    ids = list(session.scalars(old.limit(batch).with_for_update()))
    session.execute(delete(Order).where(Order.id.in_(ids)))
    return Counter(orders=len(ids))
