"""Reads of a shop served from a shared cache that every change keeps true, with the headers for the caches outside."""

import math
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

import uvicorn
from cache import Cache
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from http_rules import add_http_rules, respond
from models import LARGEST_ID, Category, ProductIn, ProductOut
from pydantic import TypeAdapter
from sqlalchemy import create_engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.sql.dml import ReturningDelete, ReturningInsert, ReturningUpdate

from shared.models import Base, Product

router = APIRouter()
products_json = TypeAdapter(list[ProductOut])

LONGEST_TTL = 365 * 86_400.0  # seconds
LISTS = "lists"  # the tag of every list: a change may move a product in or out of any of them


@dataclass(frozen=True)
class Shop:
    sessions: sessionmaker[Session]
    cache: Cache


def get_shop(request: Request) -> Shop:  # given
    """What `create_app` leaves in the app's state."""
    shop: Shop = request.app.state.shop
    return shop


ShopOf = Annotated[Shop, Depends(get_shop)]
ProductId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
Responses = dict[int | str, dict[str, Any]]
NOT_MODIFIED: Responses = {304: {"description": "If-None-Match names it: use your copy"}}
NOT_FOUND: Responses = {404: {"description": "No such product"}}
BODY_ERRORS: Responses = {
    400: {"description": "The body cannot be read"},
    409: {"description": "The sku is taken"},
}


@router.get("/products", response_model=list[ProductOut], responses=NOT_MODIFIED)
async def list_products(
    request: Request, shop: ShopOf, category: Annotated[Category | None, Query()] = None
) -> Response:
    """All products, oldest first, or those of one category."""
    query = f"?{urlencode({'category': category})}" if category is not None else ""

    def load() -> bytes:
        with shop.sessions() as session:
            rows = select(Product).order_by(Product.id)
            if category is not None:
                rows = rows.where(Product.category == category)
            products = [ProductOut.model_validate(product) for product in session.scalars(rows)]
            return products_json.dump_json(products)

    return await answer(request, shop, f"/products{query}", LISTS, load)


@router.get("/products/{product_id}", response_model=ProductOut, responses=NOT_MODIFIED | NOT_FOUND)
async def read_product(product_id: ProductId, request: Request, shop: ShopOf) -> Response:
    def load() -> bytes:
        with shop.sessions() as session:
            product = session.get(Product, product_id)
            if product is None:
                raise HTTPException(404, f"there is no product {product_id}")
            return ProductOut.model_validate(product).model_dump_json().encode()

    return await answer(request, shop, f"/products/{product_id}", tag_of(product_id), load)


@router.post("/products", status_code=201, responses=BODY_ERRORS)
async def create_product(body: ProductIn, shop: ShopOf) -> ProductOut:
    return await change(shop, insert(Product).values(**body.row()).returning(Product))


@router.put("/products/{product_id}", responses=NOT_FOUND | BODY_ERRORS)
async def replace_product(product_id: ProductId, body: ProductIn, shop: ShopOf) -> ProductOut:
    statement = update(Product).where(Product.id == product_id).values(**body.row())
    return await change(shop, statement.returning(Product))


@router.delete("/products/{product_id}", status_code=204, responses=NOT_FOUND | {409: {"description": "It is needed"}})
async def delete_product(product_id: ProductId, shop: ShopOf) -> None:
    await change(shop, delete(Product).where(Product.id == product_id).returning(Product))


async def answer(request: Request, shop: Shop, key: str, tag: str, load: Callable[[], bytes]) -> Response:
    """Answer a read from the cache; one that may be personal, from the database and for this client alone."""
    if "Authorization" in request.headers:
        return respond(request, await run_in_threadpool(load), "private, no-store", "MISS")
    cached = await shop.cache.fetch(key, tag, lambda: run_in_threadpool(load))
    # No copy outside lives longer than the entry that it was made from.
    cache_control = f"public, max-age={math.floor(cached.seconds_left)}"
    return respond(request, cached.body, cache_control, "HIT" if cached.hit else "MISS")


Change = ReturningInsert[Product] | ReturningUpdate[Product] | ReturningDelete[Product]


async def change(shop: Shop, statement: Change) -> ProductOut:
    """Change one row, then void what the cache made of it: 404 without such a row, 409 when the database refuses."""

    def execute() -> ProductOut:
        with shop.sessions.begin() as session:
            product = session.scalar(statement)
            if product is None:
                raise HTTPException(404, "there is no such product")
            return ProductOut.model_validate(product)

    try:
        product = await run_in_threadpool(execute)
    except IntegrityError:
        raise HTTPException(409, "this sku is taken, or the product is in an order") from None
    await shop.cache.invalidate(tag_of(product.id), LISTS)
    return product


def tag_of(product_id: int) -> str:
    return f"product {product_id}"


def seconds_from(value: str) -> float:
    """Read CACHE_TTL. Raises ValueError for what is no time to live."""
    seconds = float(value)
    if not 0 < seconds <= LONGEST_TTL:
        raise ValueError(f"CACHE_TTL must be a number of seconds, above 0 and up to {LONGEST_TTL:g}, not {value}")
    return seconds


def create_app() -> FastAPI:
    """Return the app on DATABASE_URL, by default a file beside the caller, with its cache in REDIS_URL."""
    engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///shop.db"))
    redis_url = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
    ttl = seconds_from(os.environ.get("CACHE_TTL", "60"))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        Base.metadata.create_all(engine)
        cache = Cache.connect(redis_url, ttl)
        app.state.shop = Shop(sessionmaker(engine), cache)
        yield
        await cache.close()
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
