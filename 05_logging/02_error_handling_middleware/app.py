"""Errors in one place: what clients are told, what the log says, and an ID that leads from one to the other."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Any

import uvicorn
from errors import ErrorBoundary, RequestContext, answer, logging_config
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from faults import add_faults
from problems import ConflictError, NotFoundError
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import create_engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

ENVIRONMENTS = ("production", "development", "testing")

router = APIRouter()


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "products"

    sku: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    stock: Mapped[int]


class ProductBody(BaseModel):
    """A product, as it comes and as it goes. Other fields are ignored."""

    model_config = ConfigDict(from_attributes=True)

    sku: Annotated[str, Field(pattern=r"^[A-Z0-9-]{1,32}$")]
    name: Annotated[str, Field(min_length=1, max_length=100)]
    stock: Annotated[int, Field(strict=True, ge=0, lt=2**31)] = 0


def get_sessions(request: Request) -> sessionmaker[Session]:  # given
    """The factory that `create_app` leaves in the app's state."""
    sessions: sessionmaker[Session] = request.app.state.sessions
    return sessions


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:  # given
    """For the OpenAPI document: what an operation may answer beside its success."""
    content: dict[str, Any] = {"application/problem+json": {}, "text/html": {}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


Sessions = Annotated[sessionmaker[Session], Depends(get_sessions)]


@router.get("/products", responses=problems(503))
def list_products(sessions: Sessions) -> list[ProductBody]:  # given
    with sessions.begin() as session:
        return [ProductBody.model_validate(product) for product in session.scalars(select(Product))]


@router.post("/products", status_code=201, responses=problems(400, 409, 422, 503))
def create_product(body: ProductBody, sessions: Sessions) -> ProductBody:
    """Raises ConflictError when there is a product with this sku."""
    try:
        with sessions.begin() as session:
            session.add(Product(**body.model_dump()))
    except IntegrityError:
        raise ConflictError("This sku is taken.") from None
    return body


@router.get("/products/{sku}", responses=problems(404, 422, 503))
def read_product(sku: str, sessions: Sessions) -> ProductBody:
    """Raises NotFoundError when there is no such product."""
    with sessions.begin() as session:
        product = session.get(Product, sku)
        if product is None:
            raise NotFoundError("There is no such product.")
        return ProductBody.model_validate(product)


def create_app() -> FastAPI:
    """Return the app. Raises ValueError for an unknown ENVIRONMENT.

    The order of the middleware is part of the lesson: what is outside of the boundary sees its answers too, so that
    they have the headers of CORS and the request ID.
    """
    environment = os.environ.get("ENVIRONMENT", "production")
    if environment not in ENVIRONMENTS:
        raise ValueError(f"ENVIRONMENT is one of {', '.join(ENVIRONMENTS)}, not {environment!r}")
    engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///shop.db"))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        Base.metadata.create_all(engine)
        app.state.sessions = sessionmaker(engine)
        yield
        engine.dispose()

    origins = [os.environ["ALLOWED_ORIGIN"]] if "ALLOWED_ORIGIN" in os.environ else []
    middleware = [
        Middleware(RequestContext),
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["Content-Type", "X-Request-ID"],
            expose_headers=["X-Request-ID"],
        ),
        Middleware(ErrorBoundary),
    ]
    app = FastAPI(title="Products", lifespan=lifespan, redirect_slashes=False, middleware=middleware)
    app.include_router(router)
    # Only what FastAPI would answer itself; the boundary has the rest.
    app.add_exception_handler(HTTPException, answer)
    app.add_exception_handler(RequestValidationError, answer)
    if environment == "testing":
        add_faults(app, os.environ.get("FAULT_SECRET", "a secret"), engine)
    return app


def main() -> None:  # given
    """Serve the app on HOST and PORT, with the log on standard error."""
    try:
        app = create_app()
    except ValueError as error:
        sys.exit(str(error))
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))
    uvicorn.run(app, host=host, port=port, log_config=logging_config(), access_log=False)


if __name__ == "__main__":
    main()
