"""The endpoints, all given: sessions, named by a cookie, and the items of each. They do not look at Origin."""

import json
import secrets
from collections.abc import Callable
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import APIRouter, Cookie, Depends, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
MOST_BYTES = 10_000
ALLOW = {"/items": "GET, HEAD, POST"}
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


class ItemIn(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=100)]


class ItemOut(BaseModel):
    id: int
    name: str


class ItemsOut(BaseModel):
    items: list[ItemOut]


class Problem(BaseModel):
    detail: str


Items = dict[int, str]
SCHEMA = {"schema": ItemIn.model_json_schema()}
BODY = {"requestBody": {"required": True, "content": {JSON: SCHEMA, FORM: SCHEMA}}}
PROBLEM = {"model": Problem}
REFUSED: dict[int | str, dict[str, Any]] = {401: PROBLEM, 403: PROBLEM}
INVALID: dict[int | str, dict[str, Any]] = {400: PROBLEM, 413: PROBLEM, 415: PROBLEM, 422: PROBLEM}
MISSING: dict[int | str, dict[str, Any]] = {404: PROBLEM, "4XX": PROBLEM}  # "4XX" keeps FastAPI from adding its 422

router = APIRouter()


def get_and_head(path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:  # given
    """Route GET and HEAD, which go together (RFC 9110 §9.3.2). FastAPI can document only one method of an endpoint."""

    def register(endpoint: Endpoint) -> Endpoint:
        router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False, **options)
        router.add_api_route(path, endpoint, methods=["GET"], **options)
        return endpoint

    return register


async def my_items(request: Request, session: Annotated[str, Cookie()] = "") -> Items:  # given
    """The items of the session that the cookie names; 401 without one."""
    items: Items | None = request.app.state.sessions.get(session)
    if items is None:
        raise HTTPException(401, "start a session first: POST /session", {"WWW-Authenticate": "Cookie"})
    return items


async def item_in(request: Request) -> ItemIn:  # given
    """The item in the body, which is JSON or a form."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in (JSON, FORM):
        raise HTTPException(415, f"send {JSON} or {FORM}")
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BYTES:
                raise HTTPException(413, f"send {MOST_BYTES} bytes at most")
        fields = json.loads(body) if content_type == JSON else dict(parse_qsl(body.decode(), keep_blank_values=True))
        return ItemIn.model_validate(fields)
    except ValidationError as error:
        raise HTTPException(422, f"name: {error.errors()[0]['msg']}") from None
    except (ValueError, RecursionError, ClientDisconnect):
        raise HTTPException(400, "the body cannot be read") from None


MyItems = Annotated[Items, Depends(my_items)]
Item = Annotated[ItemIn, Depends(item_in)]


@router.post("/session", status_code=201, responses={403: PROBLEM})
async def start_session(request: Request, response: Response) -> dict[str, str]:  # given
    """Start a session with no items; its key is in a cookie that scripts cannot read."""
    token = secrets.token_urlsafe(32)
    request.app.state.sessions[token] = {}
    response.set_cookie("session", token, httponly=True, samesite="lax", secure=request.url.scheme == "https")
    return {"detail": "a session has begun"}


@get_and_head("/items", responses={401: PROBLEM})
async def list_items(items: MyItems) -> ItemsOut:  # given
    return ItemsOut(items=[ItemOut(id=number, name=name) for number, name in items.items()])


@router.post("/items", status_code=201, responses=REFUSED | INVALID, openapi_extra=BODY)
async def add_item(request: Request, response: Response, items: MyItems, item: Item) -> ItemOut:  # given
    number = next(request.app.state.numbers)
    items[number] = item.name
    response.headers["Location"] = f"/items/{number}"
    return ItemOut(id=number, name=item.name)


@router.put("/items/{number}", responses=REFUSED | MISSING | INVALID, openapi_extra=BODY)
async def rename_item(number: str, items: MyItems, item: Item) -> ItemOut:  # given
    found = known(number, items)
    items[found] = item.name
    return ItemOut(id=found, name=item.name)


@router.delete("/items/{number}", status_code=204, responses=REFUSED | MISSING)
async def delete_item(number: str, items: MyItems) -> None:  # given
    del items[known(number, items)]


@router.api_route("/broken", methods=["GET", "HEAD"], include_in_schema=False)
async def broken() -> dict[str, str]:  # given
    """Fail, as any endpoint may one day."""
    raise RuntimeError("this endpoint always fails")


def known(number: str, items: Items) -> int:  # given
    """The number of an item of this session; 404 for all else."""
    found = next((each for each in items if str(each) == number), None)
    if found is None:
        raise HTTPException(404, "you have no such item")
    return found


def answer_error(request: Request, error: Exception) -> JSONResponse:  # given
    """Describe the error, and name all methods of the path in Allow; each route knows only its own."""
    assert isinstance(error, StarletteHTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:  # noqa: PLR2004
        path = request.url.path
        headers["Allow"] = "PUT, DELETE" if path.startswith("/items/") else ALLOW.get(path, headers["Allow"])
    return JSONResponse({"detail": error.detail}, error.status_code, headers)
