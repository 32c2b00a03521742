"""The face: customers and orders over HTTP, none of which says `deleted_at IS NULL`, since the session does."""

import secrets
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

import models
import soft_delete
from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from models import LARGEST_ID, Customer, Order
from soft_delete import lock_customer, lock_order, read_with_orders, with_deleted
from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session, sessionmaker

router = APIRouter()
Row = TypeVar("Row", Customer, Order)


def get_sessions(request: Request) -> sessionmaker[Session]:  # given
    sessions: sessionmaker[Session] = request.app.state.sessions
    return sessions


def require_admin(request: Request) -> None:
    """Raise a 401 unless the request bears ADMIN_TOKEN (RFC 6750 §2.1); while that is not set, nobody is an admin."""
    token: bytes = request.app.state.admin_token
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    # Bytes, since of text the function takes only ASCII; latin-1 is how Starlette read them.
    is_right = secrets.compare_digest(given.strip(" ").encode("latin-1"), token)
    if not (token and is_right and scheme.lower() == "bearer"):
        raise HTTPException(401, "this is for admins", {"WWW-Authenticate": "Bearer"})


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:  # given
    """What an endpoint may answer beside success, for the OpenAPI document."""
    return {status: {"model": models.Problem} for status in statuses}


Sessions = Annotated[sessionmaker[Session], Depends(get_sessions)]
Id = Annotated[int, Path(ge=1, le=LARGEST_ID)]
Search = Annotated[str, Query(max_length=254, pattern=r"^[^\x00]*$")]
Deleted = Annotated[Literal["only"] | None, Query()]
TOTAL = func.coalesce(func.sum(Order.amount), 0)
ADMINS = [Depends(require_admin)]


@router.get("/customers", responses=problems(401, 422))
def list_customers(
    request: Request, sessions: Sessions, search: Search = "", deleted: Deleted = None
) -> list[models.CustomerSummary] | list[models.DeletedCustomerOut]:
    """Customers with the number and the sum of their orders; for admins, the deleted ones."""
    matches = or_(*(text.icontains(search, autoescape=True) for text in (Customer.name, Customer.email)))
    if deleted:
        require_admin(request)
        gone = select(Customer).where(matches, Customer.deleted_at.is_not(None)).order_by(Customer.id)
        with sessions.begin() as session:
            return [models.DeletedCustomerOut.model_validate(row) for row in session.scalars(with_deleted(gone))]
    count, total = func.count(Order.id).label("order_count"), TOTAL.label("order_total")
    lines = select(Customer.id, Customer.email, Customer.name, count, total).outerjoin(Customer.orders)
    with sessions.begin() as session:
        rows = session.execute(lines.where(matches).group_by(Customer.id).order_by(Customer.id))
        return [models.CustomerSummary.model_validate(row) for row in rows]


@router.post("/customers", status_code=201, responses=problems(400, 409, 422))
def create_customer(body: models.CustomerIn, sessions: Sessions, response: Response) -> models.CustomerOut:
    with sessions.begin() as session:
        customer = Customer(**body.model_dump(), orders=[])
        session.add(customer)
        session.flush()
        response.headers["Location"] = f"/customers/{customer.id}"
        return models.CustomerOut.model_validate(customer)


@router.get("/customers/{customer_id}", responses=problems(404, 422))
def read_customer(customer_id: Id, sessions: Sessions) -> models.CustomerOut:
    with sessions.begin() as session:
        return models.CustomerOut.model_validate(found(read_with_orders(session, customer_id)))


@router.delete("/customers/{customer_id}", status_code=204, responses=problems(404, 422))
def delete_customer(customer_id: Id, sessions: Sessions) -> None:
    with sessions.begin() as session:
        soft_delete.delete_customer(session, found(lock_customer(session, customer_id)))


@router.post("/customers/{customer_id}/restore", dependencies=ADMINS, responses=problems(401, 404, 409, 422))
def restore_customer(customer_id: Id, sessions: Sessions) -> models.CustomerOut:
    with sessions.begin() as session:
        soft_delete.restore_customer(session, found(lock_customer(session, customer_id, deleted=True)))
        return models.CustomerOut.model_validate(found(read_with_orders(session, customer_id)))


@router.post("/customers/{customer_id}/pay", responses=problems(404, 422))
def pay(customer_id: Id, sessions: Sessions) -> models.PaidOut:
    """Mark all open orders of a customer as paid, in one UPDATE."""
    with sessions.begin() as session:
        customer = found(lock_customer(session, customer_id))
        open_orders = update(Order).where(Order.customer_id == customer.id, Order.paid.is_(False))
        return models.PaidOut(paid=len(session.scalars(open_orders.values(paid=True).returning(Order.id)).all()))


@router.get("/customers/{customer_id}/orders", responses=problems(401, 404, 422))
def list_orders(
    customer_id: Id, request: Request, sessions: Sessions, deleted: Deleted = None
) -> list[models.OrderOut] | list[models.DeletedOrderOut]:
    """A customer's orders; for admins the deleted ones, also of a deleted customer."""
    with sessions.begin() as session:
        if not deleted:
            return models.CustomerOut.model_validate(found(read_with_orders(session, customer_id))).orders
        require_admin(request)
        customer = found(session.scalars(with_deleted(select(Customer).filter_by(id=customer_id))).one_or_none())
        gone = select(Order).where(Order.customer_id == customer.id, Order.deleted_at.is_not(None)).order_by(Order.id)
        return [models.DeletedOrderOut.model_validate(row) for row in session.scalars(with_deleted(gone))]


@router.post("/customers/{customer_id}/orders", status_code=201, responses=problems(400, 404, 409, 422))
def create_order(customer_id: Id, body: models.OrderIn, sessions: Sessions, response: Response) -> models.OrderOut:
    """Create an order. The lock keeps its customer from being deleted at the same time."""
    with sessions.begin() as session:
        customer = found(lock_customer(session, customer_id))
        order = Order(customer_id=customer.id, number=body.number, amount=Decimal(body.amount), paid=False)
        session.add(order)
        session.flush()
        response.headers["Location"] = f"/customers/{customer_id}/orders/{order.id}"
        return models.OrderOut.model_validate(order)


@router.get("/customers/{customer_id}/orders/{order_id}", responses=problems(404, 422))
def read_order(customer_id: Id, order_id: Id, sessions: Sessions) -> models.OrderOut:
    with sessions.begin() as session:
        order = session.scalars(select(Order).filter_by(id=order_id, customer_id=customer_id)).one_or_none()
        return models.OrderOut.model_validate(found(order))


@router.delete("/customers/{customer_id}/orders/{order_id}", status_code=204, responses=problems(404, 422))
def delete_order(customer_id: Id, order_id: Id, sessions: Sessions) -> None:
    with sessions.begin() as session:
        found(lock_customer(session, customer_id))
        soft_delete.delete_order(session, found(lock_order(session, customer_id, order_id)))


@router.post(
    "/customers/{customer_id}/orders/{order_id}/restore",
    dependencies=ADMINS,
    responses=problems(401, 404, 409, 422),
)
def restore_order(customer_id: Id, order_id: Id, sessions: Sessions) -> models.OrderOut:
    with sessions.begin() as session:
        customer = found(lock_customer(session, customer_id, deleted=True))
        order = found(lock_order(session, customer_id, order_id, deleted=True))
        if customer.deleted_at is not None:
            raise HTTPException(409, f"customer {customer_id} is deleted: restore that")
        soft_delete.restore_order(session, order)
        return models.OrderOut.model_validate(order)


@router.get("/report")
def read_report(sessions: Sessions) -> models.Report:
    """One statement, so that all figures are of the same moment."""
    customers = select(func.count()).select_from(Customer)
    figures = {
        "customers": customers,
        "without_orders": customers.where(~Customer.orders.any()),
        "in_debt": customers.where(Customer.orders.any(Order.paid.is_(False))),
        "orders": select(func.count()).select_from(Order),
        "total": select(TOTAL),
    }
    with sessions.begin() as session:
        row = session.execute(select(*(figure.label(name) for name, figure in figures.items()))).one()
        return models.Report.model_validate(row)


def found(row: Row | None) -> Row:
    """Return the row. Raises a 404 when there is none, or none for this reader."""
    if row is None:
        raise HTTPException(404, "there is no such customer or order")
    return row
