"""The same cache in Flask: generations are part of the keys, and a load is shared through one Lua script."""

import hashlib
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Annotated, Any, NamedTuple, NoReturn
from urllib.parse import quote

from flask import Flask, Response, abort, request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry
from sqlalchemy import create_engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.exceptions import HTTPException

from shared.models import Base, Product

FIELDS = ("id", "sku", "name", "category", "stock", "description")
PATIENCE = 3.0  # seconds
log = logging.getLogger(__name__)

# Answers the entry and the milliseconds of its life; or, to the first who asks, "load"; or "wait".
LOOK = """
local entry = redis.call("GET", KEYS[1])
if entry then return {"entry", entry, redis.call("PTTL", KEYS[1])} end
if redis.call("SET", KEYS[2], "", "NX", "PX", ARGV[1]) then return {"load", "", 0} end
return {"wait", "", 0}
"""


class Found(NamedTuple):
    body: bytes
    seconds_left: float
    status: str


def text(shortest: int, longest: int) -> StringConstraints:
    return StringConstraints(min_length=shortest, max_length=longest, pattern=r"^[^\x00]*$")


class ProductIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sku: Annotated[str, text(1, 32)]
    name: Annotated[str, text(1, 100)]
    category: Annotated[str, text(1, 50)] = "general"
    price: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,8}(\.[0-9]{1,2})?$")]
    stock: Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)] = 0
    description: Annotated[str, text(0, 2000)] | None = None


class Cache:
    """Keys name the generation of what they are made of: after a change nobody asks for the old ones again."""

    def __init__(self, url: str, ttl: float) -> None:
        retry = Retry(NoBackoff(), 1, (RedisConnectionError,))
        self.redis = Redis.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=retry)
        self.look = self.redis.register_script(LOOK)
        self.ttl = ttl
        self.milliseconds = max(1, int(ttl * 1000))

    def fetch(self, scope: str, key: str, load: Callable[[], bytes]) -> Found:
        """Return what is stored under the key, or load it; `scope` is what a change voids."""
        try:
            generation = self.generation(scope)
            entry_key = f"shop:{scope}:{generation}:{key}"
            found, is_mine = self.wait(entry_key)
        except RedisError:
            log.warning("no cache for %s", key)
            return Found(load(), self.ttl, "MISS")
        if found:
            return found
        try:
            body = load()
            self.store(entry_key, body)
            return Found(body, self.ttl, "MISS")
        finally:
            if is_mine:
                with suppress(RedisError):
                    self.redis.delete(f"{entry_key}:lock")

    def wait(self, entry_key: str) -> tuple[Found | None, bool]:
        """Return the entry, or whether it is ours to load: it is everybody's when another takes too long."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            state, entry, left = self.look([entry_key, f"{entry_key}:lock"], [int(PATIENCE * 1000)])
            digest, _, body = bytes(entry).partition(b":")
            if state == b"entry" and digest == fingerprint(body).encode():
                return Found(body, left / 1000, "HIT"), False
            if state != b"wait":
                return None, state == b"load"
            time.sleep(0.05)
        return None, False

    def generation(self, scope: str) -> str:
        key = f"shop:generation:{scope}"
        value = self.redis.get(key)
        if value is None:
            self.redis.set(key, secrets.token_hex(8), nx=True, px=2 * self.milliseconds)
            value = self.redis.get(key)
        return value.hex() if isinstance(value, bytes) else ""

    def store(self, entry_key: str, body: bytes) -> None:
        with suppress(RedisError):
            self.redis.set(entry_key, fingerprint(body).encode() + b":" + body, px=self.milliseconds)

    def void(self, *scopes: str) -> None:
        try:
            for scope in scopes:
                self.redis.set(f"shop:generation:{scope}", secrets.token_hex(8), px=2 * self.milliseconds)
        except RedisError:
            log.warning("%s may be stale", scopes)


def fingerprint(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def create_app() -> Flask:
    engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///shop.db"))
    Base.metadata.create_all(engine)
    cache = Cache(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"), float(os.environ.get("CACHE_TTL", "60")))
    app = Flask(__name__)
    add_reads(app, sessionmaker(engine), cache)
    add_changes(app, sessionmaker(engine), cache)
    app.register_error_handler(HTTPException, answer_error)
    return app


def add_reads(app: Flask, sessions: sessionmaker[Session], cache: Cache) -> None:
    @app.get("/products")
    def list_products() -> Response:
        category = request.args.get("category")
        if category is not None and not re.fullmatch(r"[^\x00]{1,50}", category, re.DOTALL):
            refuse([{"loc": ["query", "category"], "msg": "it has 1 to 50 characters", "type": "category"}])

        def load() -> bytes:
            query = select(Product).order_by(Product.id)
            if category is not None:
                query = query.where(Product.category == category)
            with sessions() as session:
                return json.dumps([as_json(product) for product in session.scalars(query)]).encode()

        key = "every" if category is None else f"of={quote(category, safe='')}"
        return read(cache, "lists", key, load)

    @app.get("/products/<int:product_id>")
    def read_product(product_id: int) -> Response:
        def load() -> bytes:
            with sessions() as session:
                return json.dumps(as_json(find(session, product_id))).encode()

        return read(cache, f"product-{product_id}", "itself", load)


def add_changes(app: Flask, sessions: sessionmaker[Session], cache: Cache) -> None:
    @app.post("/products")
    def create_product() -> tuple[dict[str, Any], int]:
        with sessions() as session:
            session.add(product := Product(**values()))
            return save(session, product), 201

    @app.put("/products/<int:product_id>")
    def replace_product(product_id: int) -> dict[str, Any]:
        new = values()
        with sessions() as session:
            product = find(session, product_id, is_changed=True)
            for name, value in new.items():
                setattr(product, name, value)
            return save(session, product)

    @app.delete("/products/<int:product_id>")
    def delete_product(product_id: int) -> tuple[str, int]:
        with sessions.begin() as session:
            session.delete(find(session, product_id, is_changed=True))
        cache.void(f"product-{product_id}", "lists")
        return "", 204

    def save(session: Session, product: Product) -> dict[str, Any]:
        try:
            session.flush()
        except IntegrityError:
            abort(409, "this sku is taken")
        stored = as_json(product)
        session.commit()
        cache.void(f"product-{stored['id']}", "lists")
        return stored


def read(cache: Cache, scope: str, key: str, load: Callable[[], bytes]) -> Response:
    if "Authorization" in request.headers:
        found, cache_control = Found(load(), 0, "MISS"), "private, no-store"
    else:
        found = cache.fetch(scope, key, load)
        cache_control = f"public, max-age={int(found.seconds_left)}"
    response = Response(found.body, content_type="application/json")
    response.headers.update({"X-Cache": found.status, "Cache-Control": cache_control, "Vary": "Authorization"})
    response.set_etag(fingerprint(found.body))
    response.make_conditional(request)
    return response


def values() -> dict[str, Any]:
    try:
        body = ProductIn.model_validate(request.get_json(silent=True))
    except ValidationError as error:
        refuse(error.errors(include_url=False, include_context=False, include_input=False))
    except RecursionError:
        abort(400, "the JSON is nested too deeply")
    return body.model_dump() | {"price": Decimal(body.price)}


def refuse(problems: Sequence[object]) -> NoReturn:
    body = json.dumps({"detail": problems})
    abort(Response(body, 422, {"Cache-Control": "no-store"}, content_type="application/json"))


def find(session: Session, product_id: int, *, is_changed: bool = False) -> Product:
    product = session.get(Product, product_id, with_for_update=is_changed or None) if product_id < 2**63 else None
    if product is None:
        abort(404, f"there is no product {product_id}")
    return product


def as_json(product: Product) -> dict[str, Any]:
    return {name: getattr(product, name) for name in FIELDS} | {"price": str(product.price)}


def answer_error(error: HTTPException) -> HTTPException:
    response = error.get_response()
    error.response = Response(json.dumps({"detail": error.description}), response.status, dict(response.headers))
    error.response.content_type = "application/json"
    error.response.headers["Cache-Control"] = "no-store"
    return error


if __name__ == "__main__":
    create_app().run(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000")))
