"""The same in Flask: its handlers take every Exception, and a WSGI middleware around it takes the rest."""

import logging.config
import os
import sys
from typing import Annotated, Any

from errors import ErrorBoundary, JsonFormatter, answer
from faults import add_faults
from flask import Flask, request
from problems import ConflictError, NotFoundError, parse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import create_engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from werkzeug.exceptions import BadRequest
from werkzeug.serving import WSGIRequestHandler

ENVIRONMENTS = ("production", "development", "testing")


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "products"

    sku: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    stock: Mapped[int]


class ProductBody(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    sku: Annotated[str, Field(pattern=r"^[A-Z0-9-]{1,32}$")]
    name: Annotated[str, Field(min_length=1, max_length=100)]
    stock: Annotated[int, Field(strict=True, ge=0, lt=2**31)] = 0


def create_app() -> Flask:
    environment = os.environ.get("ENVIRONMENT", "production")
    if environment not in ENVIRONMENTS:
        raise ValueError(f"ENVIRONMENT is one of {', '.join(ENVIRONMENTS)}, not {environment!r}")
    engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///shop.db"))
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)
    app = Flask(__name__)

    @app.get("/products")
    def list_products() -> list[dict[str, Any]]:
        with sessions.begin() as session:
            return [ProductBody.model_validate(product).model_dump() for product in session.scalars(select(Product))]

    @app.post("/products")
    def create_product() -> tuple[dict[str, Any], int]:
        try:
            body = parse(ProductBody, request.get_json())
        except RecursionError:
            raise BadRequest("The JSON is nested too deeply.") from None
        try:
            with sessions.begin() as session:
                session.add(Product(**body.model_dump()))
        except IntegrityError:
            raise ConflictError("This sku is taken.") from None
        return body.model_dump(), 201

    @app.get("/products/<sku>")
    def read_product(sku: str) -> dict[str, Any]:
        with sessions.begin() as session:
            product = session.get(Product, sku)
            if product is None:
                raise NotFoundError("There is no such product.")
            return ProductBody.model_validate(product).model_dump()

    @app.before_request
    def remember_the_route() -> None:
        request.environ["shop.route"] = request.url_rule.rule if request.url_rule else None

    if environment == "testing":
        add_faults(app, os.environ.get("FAULT_SECRET", "a secret"), engine)
    app.register_error_handler(Exception, lambda error: answer(request, error))
    app.wsgi_app = ErrorBoundary(app.wsgi_app, os.environ.get("ALLOWED_ORIGIN"))  # type: ignore[method-assign]
    return app


class Http11(WSGIRequestHandler):
    """Sends streams in chunks, so that a client sees where one breaks off."""

    protocol_version = "HTTP/1.1"


def main() -> None:
    try:
        app = create_app()
    except ValueError as error:
        sys.exit(str(error))
    stderr = {"class": "logging.StreamHandler", "formatter": "json"}
    config = {"version": 1, "disable_existing_loggers": False, "formatters": {"json": {"()": JsonFormatter}}}
    root = {"level": "INFO", "handlers": ["stderr"]}
    logging.config.dictConfig(config | {"handlers": {"stderr": stderr}, "root": root})
    app.run(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000")), request_handler=Http11)


if __name__ == "__main__":
    main()
