"""A long list in pages: by number with totals and links, and as a feed that a cursor leads through."""

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from http_rules import add_http_rules
from paging import Feed, Page, ProductOut, decode_cursor, encode_cursor, link_header, number_of_pages
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError
from sqlalchemy import ColumnElement, Select, create_engine, func, select, text, true, tuple_
from sqlalchemy.orm import Session, aliased, sessionmaker

from shared.models import Base, Product

LARGEST_PAGE = 10**9  # times the largest size still fits into the 64 bits of an OFFSET
LARGEST_SIZE = 100

router = APIRouter()


def in_digits(value: str) -> str:  # given
    """Refuse what Pydantic would read as a whole number, too: `+1`, `1.0`, `1_0`, digits of other scripts."""
    if not re.fullmatch("[0-9]+", value):
        raise PydanticCustomError("digits", "Input should be a whole number in digits")
    return value


def get_sessions(request: Request) -> sessionmaker[Session]:  # given
    """The factory that `create_app` leaves in the app's state."""
    sessions: sessionmaker[Session] = request.app.state.sessions
    return sessions


Sessions = Annotated[sessionmaker[Session], Depends(get_sessions)]
PageNumber = Annotated[int, BeforeValidator(in_digits), Query(ge=1, le=LARGEST_PAGE)]
Size = Annotated[int, BeforeValidator(in_digits), Query(ge=1, le=LARGEST_SIZE)]
Category = Annotated[str | None, Query(min_length=1, max_length=50, pattern=r"^[^\x00]*$")]
After = Annotated[str | None, Query(description="The `next` of a part of the same feed")]
LINKED: dict[int | str, dict[str, Any]] = {
    200: {"headers": {"Link": {"description": "first, prev, next, last (RFC 8288)", "schema": {"type": "string"}}}}
}


@router.get("/products", responses=LINKED)
def list_products(
    *,
    sessions: Sessions,
    request: Request,
    response: Response,
    page: PageNumber = 1,
    size: Size = 20,
    category: Category = None,
) -> Page:
    """A page of the products, newest first, with totals in the body and the neighbours in Link."""
    with sessions() as session:
        total, products = read_page(session, category, page, size)
        items = [ProductOut.model_validate(product) for product in products]
    pages = number_of_pages(total, size)
    response.headers["Link"] = link_header(request.scope["query_string"], page, pages)
    return Page(items=items, total=total, page=page, size=size, pages=pages)


@router.get("/products/feed")
def read_feed(sessions: Sessions, size: Size = 20, after: After = None, category: Category = None) -> Feed:
    """The products after a cursor, newest first; what came or went since the last part shifts nothing."""
    found = select(Product).where(*matches(category)).order_by(*newest_first(Product)).limit(size + 1)
    if after is not None:
        found = found.where(tuple_(Product.created_at, Product.id) < read_cursor(after, category))
    with sessions() as session:
        products = session.scalars(found).all()
        items = [ProductOut.model_validate(product) for product in products[:size]]
    has_more = len(products) > size
    return Feed(items=items, next=encode_cursor(items[-1].created_at, items[-1].id, category) if has_more else None)


def matches(category: str | None) -> list[ColumnElement[bool]]:
    """The conditions for WHERE; none at all for all products, which a database counts fastest."""
    return [] if category is None else [Product.category == category]


def newest_first(product: type[Product]) -> list[ColumnElement[Any]]:
    """The order of both endpoints. The id decides between products of one moment, or pages would overlap."""
    return [product.created_at.desc(), product.id.desc()]


def read_page(session: Session, category: str | None, page: int, size: int) -> tuple[int, list[Product]]:
    """Count and fetch in one statement, so that both see the table in the same moment.

    The outer join keeps the count also when the page has no products.
    """
    counted = select(func.count().label("total")).select_from(Product).where(*matches(category)).subquery()
    found = select(Product).where(*matches(category)).order_by(*newest_first(Product))
    product = aliased(Product, found.limit(size).offset((page - 1) * size).subquery())
    both: Select[int, Product | None] = select(counted.c.total, product)
    rows = session.execute(both.outerjoin_from(counted, product, true()).order_by(*newest_first(product))).all()
    return rows[0].total, [product for _, product in rows if product is not None]


def read_cursor(cursor: str, category: str | None) -> tuple[datetime, int]:
    """Where the cursor points to; a cursor that this feed did not give is a 422."""
    try:
        return decode_cursor(cursor, category)
    except ValueError as error:
        raise RequestValidationError([{"loc": ("query", "after"), "msg": str(error), "type": "cursor"}]) from None


def create_app() -> FastAPI:
    """Return the app on the database that DATABASE_URL names; by default a file beside the caller."""
    engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///shop.db"))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        Base.metadata.create_all(engine)
        with engine.begin() as connection:  # an index in the order of the feed, one for all and one by category
            for columns in ("created_at, id", "category, created_at, id"):
                name = f"ix_products_{columns.replace(', ', '_')}"
                connection.execute(text(f"CREATE INDEX IF NOT EXISTS {name} ON products ({columns})"))
        app.state.sessions = sessionmaker(engine)
        yield
        engine.dispose()

    app = FastAPI(title="Products", lifespan=lifespan)
    app.include_router(router)
    add_http_rules(app)
    return app


def main() -> None:  # given
    """Serve the app on HOST and PORT."""
    uvicorn.run(create_app(), host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ.get("PORT", "8000")))


if __name__ == "__main__":
    main()
