"""The same pages in Flask: parameters checked by hand, a transaction for the total, JSON inside the cursor."""

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

from flask import Flask, Response, jsonify, request
from sqlalchemy import Connection, Engine, NullPool, Select, and_, create_engine, event, func, or_, select, text
from sqlalchemy.orm import Session
from werkzeug.exceptions import HTTPException

from shared.models import Base, Product

LIMITS = {"page": 1_000_000_000, "size": 100}
DEFAULTS = {"page": 1, "size": 20}
LONGEST_CATEGORY = 50
LARGEST_ID = 2**63 - 1


class InvalidError(Exception):
    """A query parameter that cannot be answered, and why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name


def create_app() -> Flask:
    """Return the app on the database that DATABASE_URL names; by default a file beside the caller."""
    engine = connect(os.environ.get("DATABASE_URL", "sqlite:///shop.db"))
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for name, columns in [("newest", "created_at, id"), ("newest_by_category", "category, created_at, id")]:
            connection.execute(text(f"CREATE INDEX IF NOT EXISTS ix_products_{name} ON products ({columns})"))
    app = Flask(__name__)
    app.add_url_rule("/products", view_func=listing(engine))
    app.add_url_rule("/products/feed", view_func=feed(engine))
    app.register_error_handler(HTTPException, answer_http_error)
    app.register_error_handler(InvalidError, answer_invalid)
    return app


def connect(url: str) -> Engine:
    """An engine whose transactions read from one snapshot, whatever is written meanwhile."""
    if not url.startswith("sqlite"):
        return create_engine(url, isolation_level="REPEATABLE READ")
    engine = create_engine(url, poolclass=NullPool)  # opening a file costs little, and none stays open

    @event.listens_for(engine, "connect")
    def leave_transactions_to_us(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # or the driver begins one at the first write only

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def listing(engine: Engine) -> Callable[[], Response]:
    def list_products() -> Response:
        page, size, category = number("page"), number("size"), category_asked()
        with Session(engine) as session:
            counting = select(func.count()).select_from(Product)
            total = session.scalar(within(counting, category)) or 0
            found = within(select(Product), category).order_by(Product.created_at.desc(), Product.id.desc())
            items = [as_json(product) for product in session.scalars(found.limit(size).offset((page - 1) * size))]
        pages = (total + size - 1) // size
        response = jsonify(items=items, total=total, page=page, size=size, pages=pages)
        response.headers["Link"] = ", ".join(link(relation, to) for relation, to in neighbours(page, pages).items())
        return response

    return list_products


def feed(engine: Engine) -> Callable[[], Response]:
    def read_feed() -> Response:
        size, category, after = number("size"), category_asked(), request.args.get("after")
        found = within(select(Product), category).order_by(Product.created_at.desc(), Product.id.desc())
        if after is not None:
            created_at, product_id = read_cursor(after, category)
            older_twin = and_(Product.created_at == created_at, Product.id < product_id)
            found = found.where(or_(Product.created_at < created_at, older_twin))
        with Session(engine) as session:
            products = session.scalars(found.limit(size + 1)).all()
        given = products[:size]
        more = len(products) > size
        following = cursor(given[-1].created_at, given[-1].id, category) if more else None
        return jsonify(items=[as_json(product) for product in given], next=following)

    return read_feed


def within(query: Select[Any], category: str | None) -> Select[Any]:
    return query if category is None else query.where(Product.category == category)


def number(name: str) -> int:
    """The whole number that a parameter gives, or its default."""
    written = request.args.get(name)
    if written is None:
        return DEFAULTS[name]
    if not re.fullmatch(r"[0-9]{1,10}", written, re.ASCII) or not 1 <= int(written) <= LIMITS[name]:
        raise InvalidError(name, f"a whole number from 1 to {LIMITS[name]}, please")
    return int(written)


def category_asked() -> str | None:
    category = request.args.get("category")
    if category is not None and (not 1 <= len(category) <= LONGEST_CATEGORY or "\0" in category):
        raise InvalidError("category", f"a text of 1 to {LONGEST_CATEGORY} characters, please")
    return category


def neighbours(page: int, pages: int) -> dict[str, int]:
    """The pages that this one links to, by relation."""
    last = max(pages, 1)
    found = {"first": 1, "last": last}
    if page > 1:
        found["prev"] = min(page - 1, last)
    if page < pages:
        found["next"] = page + 1
    return found


def link(relation: str, page: int) -> str:
    sent = parse_qsl(request.query_string.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    parameters = [(name, value) for name, value in sent if name != "page"] + [("page", str(page))]
    return f'<{request.path}?{urlencode(parameters, encoding="latin-1")}>; rel="{relation}"'


def cursor(created_at: datetime, product_id: int, category: str | None) -> str:
    """The place behind this product as JSON, with a checksum in front, in base64."""
    place = json.dumps([created_at.astimezone(UTC).isoformat(), product_id, category]).encode()
    return base64.urlsafe_b64encode(hashlib.sha256(b"feed" + place).digest()[:6] + place).decode().rstrip("=")


def read_cursor(written: str, category: str | None) -> tuple[datetime, int]:
    """The `created_at` and the id in a cursor. Raises InvalidError for one that the feed would not have written."""
    try:
        place = json.loads(base64.urlsafe_b64decode(written + "=" * (-len(written) % 4))[6:])
        created_at, product_id = datetime.fromisoformat(place[0]), int(place[1])
        if cursor(created_at, product_id, category) == written and 0 < product_id <= LARGEST_ID:
            return created_at, product_id
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        pass
    raise InvalidError("after", "no cursor of this feed")


def as_json(product: Product) -> dict[str, object]:
    plain = {name: getattr(product, name) for name in ("id", "sku", "name", "category")}
    return plain | {"price": str(product.price), "created_at": product.created_at.isoformat()}


def answer_invalid(error: InvalidError) -> tuple[Response, int]:
    return jsonify(detail=[{"loc": ["query", error.name], "msg": str(error), "type": "invalid"}]), 422


def answer_http_error(error: HTTPException) -> HTTPException:
    """Keep status and headers, Allow among them; say it in JSON."""
    response = error.get_response()
    error.response = Response(json.dumps({"detail": error.description}), response.status, dict(response.headers))
    error.response.content_type = "application/json"
    return error


def main() -> None:
    """Serve the app on HOST and PORT."""
    create_app().run(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000")))


if __name__ == "__main__":
    main()
