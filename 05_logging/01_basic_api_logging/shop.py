"""The shop whose requests are logged: a few endpoints, each with something that a log must get right."""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, FastAPI, Form, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field

logger = logging.getLogger("shop")
router = APIRouter()
READ = ["GET", "HEAD"]
ROW_SECONDS = 0.02
SHORTEST_PASSWORD = 8


class Order(BaseModel):
    """What the shop keeps of an order. Other fields, such as a card, are accepted and forgotten."""

    product: str = Field(min_length=1, max_length=100)
    quantity: int = Field(strict=True, ge=1, le=1000)


@router.post("/orders", status_code=201)
def create_order(order: Order, request: Request) -> dict[str, object]:  # given
    orders: list[Order] = request.app.state.orders
    orders.append(order)
    return {"id": len(orders), **order.model_dump()}


@router.api_route("/orders/{order_id}", methods=READ)
def read_order(order_id: Annotated[int, Path(ge=1, le=2**31)], request: Request) -> dict[str, object]:  # given
    orders: list[Order] = request.app.state.orders
    if order_id > len(orders):
        raise HTTPException(404, f"there is no order {order_id}")
    return {"id": order_id, **orders[order_id - 1].model_dump()}


@router.post("/login")
def log_in(
    username: Annotated[str, Form(max_length=100)], password: Annotated[str, Form()], response: Response
) -> dict[str, str]:  # given
    """Let in whoever has a password of at least 8 characters: the exercise is about the log."""
    if len(password) < SHORTEST_PASSWORD:
        logger.warning("login failed: %s", username)
        raise HTTPException(401, f"wrong user name or password for {username}", {"WWW-Authenticate": "Form"})
    token = secrets.token_urlsafe(32)
    response.set_cookie("session", token, httponly=True, samesite="lax")
    return {"token": token}


@router.api_route("/slow", methods=READ)
async def make_report(
    seconds: Annotated[float, Query(ge=0, le=1)] = 0.6, name: Annotated[str, Query(max_length=400)] = "sales"
) -> dict[str, str]:  # given
    """Take some time, and log from another thread."""
    await asyncio.sleep(seconds)
    await asyncio.to_thread(logger.info, "report ready", extra={"report": name})
    return {"report": name}


@router.api_route("/export", methods=READ)
async def export_rows(rows: Annotated[int, Query(ge=1, le=100)] = 3, fail: bool = False) -> StreamingResponse:  # given
    """Stream rows as they come; with `fail`, break off after the last one."""

    async def stream() -> AsyncIterator[str]:
        for number in range(1, rows + 1):
            yield f"{number},KB-{number},49.90\n"
            await asyncio.sleep(ROW_SECONDS)
        if fail:
            raise RuntimeError("the database went away")

    return StreamingResponse(stream(), media_type="text/csv")


@router.post("/upload")
async def upload(request: Request) -> dict[str, object]:  # given
    """Read a body of any size, a chunk at a time."""
    digest, size = hashlib.sha256(), 0
    async for chunk in request.stream():
        digest.update(chunk)
        size += len(chunk)
    return {"bytes": size, "sha256": digest.hexdigest()}


@router.api_route("/fail", methods=READ)
def fail(why: str = "") -> None:  # given
    raise RuntimeError(f"the payment was refused: {why}")


@router.api_route("/health", methods=READ)
def health() -> dict[str, str]:  # given
    return {"status": "ok"}


def answer_invalid(_request: Request, error: Exception) -> JSONResponse:  # given
    """Say what is wrong without the input: NaN in it would break the answer itself."""
    assert isinstance(error, RequestValidationError)
    problems = [{"loc": problem["loc"], "msg": problem["msg"], "type": problem["type"]} for problem in error.errors()]
    return JSONResponse({"detail": problems}, 422)


def make_shop() -> FastAPI:  # given
    """Return the shop without orders, and without pages of documentation."""
    shop = FastAPI(title="Shop", openapi_url=None)
    shop.state.orders = []
    shop.include_router(router)
    shop.add_exception_handler(RequestValidationError, answer_invalid)
    return shop
