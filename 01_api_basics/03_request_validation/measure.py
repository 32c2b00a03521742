"""What do odd bodies get from FastAPI as it comes, what from this app, and what does checking a right one cost?"""

import asyncio
import json
import sys
import timeit
from decimal import Decimal
from typing import Annotated, Any

import httpx2
import msgspec
from app import create_app
from fastapi import FastAPI
from json_body import read_json
from models import Product
from pydantic import BaseModel, Field

SECRET = "correct horse battery"  # noqa: S105  it has to be found in answers
USER = {"name": "Ada", "email": "ada@example.com", "age": 36, "password": SECRET}
PRODUCT = (
    b'{"name": "Keyboard", "price": 49.90, "quantity": 3, "tags": ["usb", "black"], '
    b'"dimensions": {"width": 360, "height": 140}}'
)


class PlainUser(BaseModel):
    """As one writes it on the first day."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    email: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")]
    age: Annotated[int, Field(gt=18, le=150)]
    password: Annotated[str, Field(min_length=12, max_length=128)]
    referral: str | None = None


def plain_app() -> FastAPI:
    app = FastAPI()

    @app.post("/users", status_code=201)
    def create_user(user: PlainUser) -> dict[str, Any]:
        return user.model_dump(exclude={"password"})

    return app


def user(**literals: str) -> bytes:
    """The user as JSON, some fields as they are written here, or added."""
    fields = {name: json.dumps(value) for name, value in USER.items()} | literals
    return ("{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}").encode("latin-1")


BODIES = {
    "right": user(),
    "age 18": user(age="18"),
    'age "36"': user(age='"36"'),
    "name of spaces": user(name='"  "'),
    "misspelt `referal`": user(referal='"A1B2C3D4"'),
    "password in a list": user(password=f'["{SECRET}"]'),
    "age NaN": user(age="NaN"),
    "age 1e999": user(age="1e999"),
    "half a surrogate": user(name=r'"\ud800"'),
    "`age` twice": user()[:-1] + b', "age": 99}',
    "5,000 digits": user(age="9" * 5000),
    "100,000 levels deep": user(referral="[" * 100_000),
    "a list": b"[" + user() + b"]",
    "cut off": user()[:-10],
    "in Latin-1": user(name='"Zo\xeb"'),
    "empty": b"",
    "sent as text/plain": user(),
}


async def answers(app: FastAPI) -> dict[str, str]:
    """For each body the status, and whether the answer repeats the password."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    found = {}
    async with httpx2.AsyncClient(transport=transport, base_url="http://measure") as client:
        for name, body in BODIES.items():
            content_type = "text/plain" if name == "sent as text/plain" else "application/json"
            answer = await client.post("/users", content=body, headers={"Content-Type": content_type})
            found[name] = f"{answer.status_code}{', with the password' if SECRET in answer.text else ''}"
    return found


class FastDimensions(msgspec.Struct, forbid_unknown_fields=True):
    width: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    height: Annotated[int, msgspec.Meta(ge=1, le=10_000)]


class FastProduct(msgspec.Struct, forbid_unknown_fields=True):
    """The same product for msgspec, which has no limits for Decimal and no rule for blanks and duplicates."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=r"^[^\x00]*[^\x00\s][^\x00]*$")]
    price: Decimal
    quantity: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1
    tags: Annotated[
        list[Annotated[str, msgspec.Meta(min_length=1, max_length=30, pattern=r"^[^\x00]*[^\x00\s][^\x00]*$")]],
        msgspec.Meta(max_length=10),
    ] = []
    dimensions: FastDimensions | None = None

    def __post_init__(self) -> None:
        if not 0 < self.price <= Decimal("99999999.99") or self.price != self.price.quantize(Decimal("0.01")):
            raise ValueError("price")
        if len({tag.casefold() for tag in self.tags}) < len(self.tags):
            raise ValueError("tags")


def microseconds(statement: str, **names: object) -> float:
    """The best of seven runs."""
    timer = timeit.Timer(statement, globals=names)
    return min(timer.repeat(7, 5000)) / 5000 * 1e6


def main() -> None:
    print("measuring: the answers", file=sys.stderr)
    plain, strict = asyncio.run(answers(plain_app())), asyncio.run(answers(create_app()))
    print("| The body of `POST /users` | FastAPI and Pydantic as they come | This app |")
    print("| --- | --- | --- |")
    for name in BODIES:
        print(f"| {name} | {plain[name]} | {strict[name]} |")
    print("measuring: the time", file=sys.stderr)
    ours = microseconds("model.model_validate(read(body))", model=Product, read=read_json, body=PRODUCT)
    bare = microseconds("model.model_validate(value)", model=Product, value=read_json(PRODUCT))
    fast = microseconds("decoder.decode(body)", decoder=msgspec.json.Decoder(FastProduct), body=PRODUCT)
    print(
        f"\nA right product costs {ours:.0f} µs here: {ours - bare:.0f} to read the JSON, {bare:.0f} for Pydantic. ",
        end="",
    )
    print(f"msgspec reads and checks it in {fast:.1f} µs, and stops at the first error.")


if __name__ == "__main__":
    main()
