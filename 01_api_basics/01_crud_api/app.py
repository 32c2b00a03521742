"""A resource over HTTP: products that are created, read, updated and deleted, each with the status HTTP has for it."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Path, Request, Response
from http_rules import install, require_json
from models import Base, Product, ProductIn, ProductOut, ProductPatch
from sqlalchemy import create_engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.orm.exc import StaleDataError

router = APIRouter()


def get_session(request: Request) -> Iterator[Session]:
    """A session for the length of a request, from the factory that `create_app` leaves in the app's state."""
    with request.app.state.sessions() as session:
        yield session


Database = Annotated[Session, Depends(get_session)]
ProductId = Annotated[int, Path(ge=1, le=2**63 - 1)]
IfMatch = Annotated[str | None, Header()]
Responses = dict[int | str, dict[str, Any]]
JSON_ONLY = [Depends(require_json)]
ERRORS: Responses = {404: {"description": "No such product"}, 412: {"description": "It has changed since If-Match"}}
BODY_ERRORS: Responses = {409: {"description": "The sku is taken"}, 415: {"description": "The body is not JSON"}}


@router.get("/products")
def list_products(session: Database) -> list[ProductOut]:
    """All products, oldest first; 02_basic_pagination is about what happens when there are many."""
    products = session.scalars(select(Product).order_by(Product.id))
    return [ProductOut.model_validate(product) for product in products]


@router.post("/products", status_code=201, dependencies=JSON_ONLY, responses=BODY_ERRORS)
def create_product(body: ProductIn, session: Database, request: Request, response: Response) -> ProductOut:
    """Create a product; Location says where it is (RFC 9110 §15.3.2)."""
    product = Product(**body.model_dump())
    session.add(product)
    commit(session, conditional=False)
    response.headers["Location"] = str(request.app.url_path_for("read_product", product_id=str(product.id)))
    return represent(product, response)


@router.get("/products/{product_id}", responses={404: ERRORS[404]})
def read_product(product_id: ProductId, session: Database, response: Response) -> ProductOut:
    return represent(find(session, product_id), response)


@router.put("/products/{product_id}", dependencies=JSON_ONLY, responses=ERRORS | BODY_ERRORS)
def replace_product(
    product_id: ProductId, body: ProductIn, session: Database, response: Response, if_match: IfMatch = None
) -> ProductOut:
    """Replace the whole product: what the body leaves out goes back to its default (RFC 9110 §9.3.4)."""
    product = find(session, product_id, if_match)
    return change(session, product, body.model_dump(), response, conditional=if_match is not None)


@router.patch("/products/{product_id}", dependencies=JSON_ONLY, responses=ERRORS | BODY_ERRORS)
def merge_product(
    product_id: ProductId, body: ProductPatch, session: Database, response: Response, if_match: IfMatch = None
) -> ProductOut:
    """Change what the body names and nothing else; null clears (RFC 7396)."""
    product = find(session, product_id, if_match)
    return change(session, product, body.model_dump(exclude_unset=True), response, conditional=if_match is not None)


@router.delete("/products/{product_id}", status_code=204, responses=ERRORS)
def delete_product(product_id: ProductId, session: Database, if_match: IfMatch = None) -> None:
    session.delete(find(session, product_id, if_match))
    commit(session, conditional=if_match is not None)


def find(session: Session, product_id: int, if_match: str | None = None) -> Product:
    """Return the product: 404 without one, 412 when If-Match names another version (RFC 9110 §13.1.1)."""
    product = session.get(Product, product_id)
    if product is None:
        raise HTTPException(404, f"there is no product {product_id}")
    if if_match is not None and not {"*", etag(product)} & {tag.strip() for tag in if_match.split(",")}:
        raise HTTPException(412, f"product {product_id} has changed: fetch it again, then repeat your change")
    return product


def change(
    session: Session, product: Product, values: dict[str, object], response: Response, *, conditional: bool
) -> ProductOut:
    """Set these values, store them and answer with the product as it is now."""
    for name, value in values.items():
        setattr(product, name, value)
    commit(session, conditional=conditional)
    return represent(product, response)


def commit(session: Session, *, conditional: bool) -> None:
    """Store the change: 409 for a taken sku, 412 or 409 when another writer came between our read and our write.

    `conditional` says whether the client sent If-Match: only then is the answer 412 (RFC 9110 §15.5.13).
    """
    try:
        session.commit()
    except IntegrityError:
        raise HTTPException(409, "this sku is taken") from None
    except StaleDataError:
        raise HTTPException(412 if conditional else 409, "the product has just changed: fetch it again") from None


def represent(product: Product, response: Response) -> ProductOut:
    """The product as JSON, and the name of this version in ETag."""
    response.headers["ETag"] = etag(product)
    return ProductOut.model_validate(product)


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
    install(app)
    return app


def main() -> None:  # given
    """Serve the app on HOST and PORT."""
    uvicorn.run(create_app(), host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ.get("PORT", "8000")))


if __name__ == "__main__":
    main()
