"""A resource over HTTP: products that are created, read, updated and deleted, each with the status HTTP has for it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Path, Request, Response
from http_rules import add_http_rules, require_json
from models import Base, Product, ProductIn, ProductOut, ProductPatch
from sqlalchemy import create_engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.orm.exc import StaleDataError

router = APIRouter()


def get_sessions(request: Request) -> sessionmaker[Session]:  # given
    """The factory that `create_app` leaves in the app's state. `with sessions.begin()` commits at its end."""
    sessions: sessionmaker[Session] = request.app.state.sessions
    return sessions


Sessions = Annotated[sessionmaker[Session], Depends(get_sessions)]
ProductId = Annotated[int, Path(ge=1, le=2**63 - 1)]
IfMatch = Annotated[list[str] | None, Header()]  # a list, since a header may come on several lines
Responses = dict[int | str, dict[str, Any]]
JSON_ONLY = [Depends(require_json)]
NOT_FOUND: Responses = {404: {"description": "No such product"}}
BODY_ERRORS: Responses = {
    400: {"description": "The body is no JSON"},
    409: {"description": "The sku is taken, or another writer came between"},
    415: {"description": "The body does not say that it is JSON"},
}
CHANGE_ERRORS = NOT_FOUND | BODY_ERRORS | {412: {"description": "It has changed since If-Match"}}


@router.get("/products")
def list_products(sessions: Sessions) -> list[ProductOut]:
    """All products, oldest first; 02_basic_pagination is about what happens when there are many."""
    with sessions.begin() as session:
        products = session.scalars(select(Product).order_by(Product.id))
        return [ProductOut.model_validate(product) for product in products]


@router.post("/products", status_code=201, dependencies=JSON_ONLY, responses=BODY_ERRORS)
def create_product(body: ProductIn, sessions: Sessions, request: Request, response: Response) -> ProductOut:
    """Create a product; Location says where it is (RFC 9110 §15.3.2)."""
    with sessions.begin() as session:
        product = Product(**body.model_dump())
        session.add(product)
        store(session)
        session.refresh(product)
        response.headers["Location"] = str(request.app.url_path_for("read_product", product_id=str(product.id)))
        response.headers["ETag"] = etag(product)
        return ProductOut.model_validate(product)


@router.get("/products/{product_id}", responses=NOT_FOUND)
def read_product(product_id: ProductId, sessions: Sessions, response: Response) -> ProductOut:
    with sessions.begin() as session:
        product = find(session, product_id)
        response.headers["ETag"] = etag(product)
        return ProductOut.model_validate(product)


@router.put("/products/{product_id}", dependencies=JSON_ONLY, responses=CHANGE_ERRORS)
def replace_product(product_id: ProductId, body: ProductIn, sessions: Sessions, if_match: IfMatch = None) -> ProductOut:
    """Replace the whole product: what the body leaves out goes back to its default.

    No ETag here: it would say that the body was stored just as it came, no default added (RFC 9110 §9.3.4).
    """
    with sessions.begin() as session:
        product = change(session, product_id, body.model_dump(), if_match)
        return ProductOut.model_validate(product)


@router.patch("/products/{product_id}", dependencies=JSON_ONLY, responses=CHANGE_ERRORS)
def merge_product(
    product_id: ProductId, body: ProductPatch, sessions: Sessions, response: Response, if_match: IfMatch = None
) -> ProductOut:
    """Change what the body names and nothing else; null clears (RFC 7396)."""
    with sessions.begin() as session:
        product = change(session, product_id, body.model_dump(exclude_unset=True), if_match)
        response.headers["ETag"] = etag(product)
        return ProductOut.model_validate(product)


@router.delete("/products/{product_id}", status_code=204, responses=CHANGE_ERRORS)
def delete_product(product_id: ProductId, sessions: Sessions, if_match: IfMatch = None) -> None:
    with sessions.begin() as session:
        session.delete(find(session, product_id, if_match))
        store(session, if_match)


def find(session: Session, product_id: int, if_match: list[str] | None = None) -> Product:
    """Return the product: 404 without one, 412 when If-Match names another version (RFC 9110 §13.1.1)."""
    product = session.get(Product, product_id)
    if product is None:
        raise HTTPException(404, f"there is no product {product_id}")
    if if_match is not None and not {"*", etag(product)} & {tag.strip() for tag in ",".join(if_match).split(",")}:
        raise HTTPException(412, f"product {product_id} has changed: fetch it again, then repeat your change")
    return product


def change(session: Session, product_id: int, values: dict[str, object], if_match: list[str] | None) -> Product:
    """Give the product these values and return it as it is stored now."""
    product = find(session, product_id, if_match)
    for name, value in values.items():
        setattr(product, name, value)
    store(session, if_match)
    session.refresh(product)
    return product


def store(session: Session, if_match: list[str] | None = None) -> None:
    """Write the change: 409 for a taken sku; when another writer came between our read and this, 412 or 409."""
    try:
        session.flush()
    except IntegrityError:
        raise HTTPException(409, "this sku is taken") from None
    except StaleDataError:
        reason = "somebody has just changed or deleted it: fetch it again"
        raise HTTPException(412 if if_match else 409, reason) from None


def etag(product: Product) -> str:
    """A strong entity tag: it changes with every change (RFC 9110 §8.8.3)."""
    return f'"{product.version}"'


def create_app() -> FastAPI:
    """Return the app on the database that DATABASE_URL names; by default a file beside the caller."""
    engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///shop.db"))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        Base.metadata.create_all(engine)
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
