"""The same resource in Flask, which knows HEAD, Allow and 415 by itself, and leaves validation to the app."""

import json
import os
import re
from decimal import Decimal
from typing import Annotated, Any

from flask import Flask, Response, abort, jsonify, request, url_for
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from sqlalchemy import String, create_engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.orm.exc import StaleDataError
from werkzeug.exceptions import HTTPException

from shared.models import BigId, Money

LARGEST_ID = 2**63 - 1


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "products"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012  SQLAlchemy reads it once

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    sku: Mapped[str] = mapped_column(String(32), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    price: Mapped[Decimal] = mapped_column(Money)
    stock: Mapped[int]
    description: Mapped[str | None]
    version: Mapped[int] = mapped_column()

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012  SQLAlchemy reads it once

    @property
    def etag(self) -> str:
        return str(self.version)


def text(longest: int, pattern: str = r"^[^\x00]*[^\x00\s][^\x00]*$") -> StringConstraints:
    return StringConstraints(max_length=longest, pattern=pattern)


def written_as_price(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,8}(\.[0-9]{1,2})?", value):
        raise ValueError('a price is a string like "49.90"')
    return value


Price = Annotated[Decimal, BeforeValidator(written_as_price)]


class ProductPatch(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sku: Annotated[str, text(32)] = ""
    name: Annotated[str, text(100)] = ""
    price: Price = Decimal(0)
    stock: Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)] = 0
    description: Annotated[str, text(2000, r"^[^\x00]*$")] | None = None


class ProductIn(ProductPatch):
    """A whole product: three fields lose their defaults."""

    sku: Annotated[str, text(32)]
    name: Annotated[str, text(100)]
    price: Price


def create_app() -> Flask:
    """Return the app on the database that DATABASE_URL names; by default a file beside the caller."""
    engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///shop.db"))
    Base.metadata.create_all(engine)
    app = Flask(__name__)
    add_routes(app, sessionmaker(engine))
    app.register_error_handler(HTTPException, answer_http_error)
    app.register_error_handler(ValidationError, answer_invalid)
    return app


def add_routes(app: Flask, sessions: sessionmaker[Session]) -> None:
    @app.get("/products")
    def list_products() -> Response:
        with sessions.begin() as session:
            return jsonify([as_json(product) for product in session.scalars(select(Product).order_by(Product.id))])

    @app.post("/products")
    def create_product() -> tuple[Response, int, dict[str, str]]:
        values = ProductIn.model_validate(body()).model_dump()
        with sessions.begin() as session:
            product = Product(**values)
            session.add(product)
            store(session)
            session.refresh(product)
            return with_etag(product), 201, {"Location": url_for("read_product", product_id=product.id)}

    @app.get("/products/<int:product_id>")
    def read_product(product_id: int) -> Response:
        with sessions.begin() as session:
            return with_etag(find(session, product_id))

    @app.put("/products/<int:product_id>")
    def replace_product(product_id: int) -> Response:
        values = ProductIn.model_validate(body()).model_dump()
        with sessions.begin() as session:
            return jsonify(as_json(change(session, product_id, values)))

    @app.patch("/products/<int:product_id>")
    def merge_product(product_id: int) -> Response:
        values = ProductPatch.model_validate(body()).model_dump(exclude_unset=True)
        with sessions.begin() as session:
            return with_etag(change(session, product_id, values))

    @app.delete("/products/<int:product_id>")
    def delete_product(product_id: int) -> tuple[str, int]:
        with sessions.begin() as session:
            session.delete(find(session, product_id))
            store(session)
        return "", 204


def body() -> Any:
    """The request's JSON: 415 when it is not declared as such, 400 when it is none."""
    try:
        return request.get_json()
    except RecursionError:
        abort(400, "the JSON is nested too deeply")


def find(session: Session, product_id: int) -> Product:
    """The product: 404 without one, 412 when the request's If-Match names another version."""
    product = session.get(Product, product_id) if product_id <= LARGEST_ID else None
    if product is None:
        abort(404, f"there is no product {product_id}")
    if request.if_match and not request.if_match.contains(product.etag):
        abort(412, f"product {product_id} has changed: fetch it again, then repeat your change")
    return product


def change(session: Session, product_id: int, values: dict[str, object]) -> Product:
    product = find(session, product_id)
    for name, value in values.items():
        setattr(product, name, value)
    store(session)
    session.refresh(product)
    return product


def store(session: Session) -> None:
    """Write the change: 409 for a taken sku; when another writer came between, 412 or 409."""
    try:
        session.flush()
    except IntegrityError:
        abort(409, "this sku is taken")
    except StaleDataError:
        abort(412 if request.if_match else 409, "somebody has just changed or deleted it: fetch it again")


def as_json(product: Product) -> dict[str, object]:
    fields = ("id", "sku", "name", "stock", "description")
    return {name: getattr(product, name) for name in fields} | {"price": str(product.price)}


def with_etag(product: Product) -> Response:
    response = jsonify(as_json(product))
    response.set_etag(product.etag)
    return response


def answer_http_error(error: HTTPException) -> HTTPException:
    """Keep status and headers, Allow among them; say it in JSON."""
    response = error.get_response()
    error.response = Response(json.dumps({"detail": error.description}), response.status, dict(response.headers))
    error.response.content_type = "application/json"
    return error


def answer_invalid(error: ValidationError) -> tuple[Response, int]:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return jsonify({"detail": problems}), 422


def main() -> None:
    """Serve the app on HOST and PORT."""
    create_app().run(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000")))


if __name__ == "__main__":
    main()
