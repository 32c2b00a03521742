"""What pages are made of: their JSON, their number, the links between them, and the cursor that marks a place."""

import base64
import hashlib
import struct
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.parse import parse_qsl, urlencode

from pydantic import BaseModel, ConfigDict

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
PLACE = struct.Struct(">qq")  # created_at in microseconds, id


class ProductOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    sku: str
    name: str
    category: str
    price: Decimal
    created_at: datetime


class Page(BaseModel):
    """One page of the list, and where in the whole it stands."""

    items: list[ProductOut]
    total: int
    page: int
    size: int
    pages: int


class Feed(BaseModel):
    """A part of the feed, and the cursor for what comes after it; null at the end."""

    items: list[ProductOut]
    next: str | None


def number_of_pages(total: int, size: int) -> int:
    """How many pages of `size` hold `total` items, rounded up without floats, which end at 2**53; 0 for none."""
    return -(-total // size)


def link_header(query: bytes, page: int, pages: int) -> str:
    """The value of Link (RFC 8288) with first, prev, next and last, for the request with this `query` and `page`.

    prev of a page past the end is the last page. Of no pages at all, page 1 is both first and last.
    """
    last = max(pages, 1)
    numbers = {"first": 1, "prev": min(page - 1, last), "next": page + 1, "last": last}
    links = {relation: number for relation, number in numbers.items() if 1 <= number <= last}
    return ", ".join(f'<{with_page(query, number)}>; rel="{relation}"' for relation, number in links.items())


def with_page(query: bytes, page: int) -> str:
    """The same URL with another `page`, as a reference relative to it; all other parameters keep their values."""
    text = query.decode(errors="surrogateescape")
    parameters = parse_qsl(text, keep_blank_values=True, errors="surrogateescape")
    others = [(name, value) for name, value in parameters if name != "page"]
    return "?" + urlencode([("page", page), *others], errors="surrogateescape")


def encode_cursor(created_at: datetime, product_id: int, category: str | None) -> str:
    """The place after this product in the feed of this category, as text that needs no escaping in a URL."""
    place = PLACE.pack((created_at - EPOCH) // MICROSECOND, product_id)
    checksum = hashlib.blake2b(place + (category or "").encode(), digest_size=8, person=b"products/feed")
    return base64.urlsafe_b64encode(place + checksum.digest()).decode()


def decode_cursor(cursor: str, category: str | None) -> tuple[datetime, int]:
    """Return `created_at` and `id` of the place; ValueError unless `encode_cursor` would write the very same cursor.

    The checksum is against accidents: a cursor shows nothing that the feed does not, so it needs no secret.
    """
    try:
        microseconds, product_id = PLACE.unpack_from(base64.urlsafe_b64decode(cursor))
        created_at = EPOCH + microseconds * MICROSECOND
        if encode_cursor(created_at, product_id, category) == cursor:
            return created_at, product_id
    except (ValueError, struct.error, OverflowError):
        pass
    raise ValueError("this feed gave no such cursor")
