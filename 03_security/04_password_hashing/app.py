"""Accounts over HTTP: register, log in, change the password; no password is ever kept, logged or repeated."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from accounts import Accounts, EmailTakenError, make_engine
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from hashing import Hasher
from policy import MOST_SENT, Policy, WeakPasswordError, normalize
from pydantic import AfterValidator, BaseModel, Field, SecretStr, StringConstraints

from shared.models import Base

ONE_AT_SIGN = r"^[!-?A-~]+@[!-?A-~]+$"  # between printable ASCII characters
NO_CONTROLS = r"^[^\x00-\x1f\x7f-\x9f]+$"

router = APIRouter()


def get_accounts(request: Request) -> Accounts:  # given
    """The accounts that `create_app` leaves in the app's state."""
    accounts: Accounts = request.app.state.accounts
    return accounts


AccountsOfApp = Annotated[Accounts, Depends(get_accounts)]
Responses = dict[int | str, dict[str, Any]]
NO_JSON: Responses = {400: {"description": "The body is not JSON"}}
REFUSED: Responses = {401: {"description": "No such email address, or another password; it is not said which"}}
TAKEN: Responses = {409: {"description": "The email address is taken"}}
# SecretStr shows asterisks in repr, and so in logs. What a new password must be is for the policy to say.
Password = Annotated[
    SecretStr,
    Field(max_length=MOST_SENT),
    AfterValidator(lambda password: SecretStr(normalize(password.get_secret_value()))),
]


class Credentials(BaseModel):
    email: Annotated[str, StringConstraints(max_length=254, pattern=ONE_AT_SIGN, to_lower=True)]
    password: Password


class Registration(Credentials):
    name: Annotated[str, StringConstraints(max_length=100, pattern=NO_CONTROLS)]


class PasswordChange(Credentials):
    new_password: Password


class Account(BaseModel):
    email: str
    name: str


# Plain `def`: FastAPI runs these in threads, and bcrypt releases the GIL while it works, so nobody else waits.


@router.post("/register", status_code=201, responses=NO_JSON | TAKEN)
def register(body: Registration, accounts: AccountsOfApp) -> Account:
    """Take a new user: 409 when the email address is taken, 422 with the reason for a password that is too weak."""
    try:
        user = accounts.register(body.email, body.name, body.password.get_secret_value())
    except WeakPasswordError as error:
        raise weak("password", error) from None
    except EmailTakenError:
        raise HTTPException(409, "this email address is taken") from None
    return Account(email=user.email, name=user.name)


@router.post("/login", responses=NO_JSON | REFUSED)
def log_in(body: Credentials, accounts: AccountsOfApp) -> Account:
    """Check a password. Unknown address or wrong password: the same 401 after the same time."""
    user = accounts.log_in(body.email, body.password.get_secret_value())
    if user is None:
        raise refused()
    return Account(email=user.email, name=user.name)


@router.post("/password", status_code=204, responses=NO_JSON | REFUSED)
def change_password(body: PasswordChange, accounts: AccountsOfApp) -> None:
    """Change a password. The current one is asked for again: a session alone may be somebody else's."""
    try:
        changed = accounts.change_password(
            body.email, body.password.get_secret_value(), body.new_password.get_secret_value()
        )
    except WeakPasswordError as error:
        raise weak("new_password", error) from None
    if not changed:
        raise refused()


def refused() -> HTTPException:
    return HTTPException(401, "wrong email address or password")


def weak(field: str, error: WeakPasswordError) -> HTTPException:
    """A 422 that reads like those of the validation."""
    return HTTPException(422, [{"loc": ["body", field], "msg": str(error), "type": "weak_password"}])


def answer_invalid(_request: Request, error: Exception) -> JSONResponse:
    """Name each wrong field and why. FastAPI's own answer repeats what was sent, and that may be a password."""
    assert isinstance(error, RequestValidationError)
    problems = [{"loc": problem["loc"], "msg": problem["msg"], "type": problem["type"]} for problem in error.errors()]
    return JSONResponse({"detail": problems}, 400 if problems[0]["type"] == "json_invalid" else 422)


def create_app() -> FastAPI:
    """Return the app on the database that DATABASE_URL names. Raises ValueError for settings that cannot be used."""
    hasher = Hasher.from_environment()
    policy = Policy.read(Path(__file__).with_name("common_passwords.txt"))
    engine = make_engine(os.environ.get("DATABASE_URL", "sqlite:///accounts.db"))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        Base.metadata.create_all(engine)
        app.state.accounts = Accounts(engine, hasher, policy)
        yield
        engine.dispose()

    # Without redirect_slashes=False, /login/?password=… would be answered with the password in `Location`.
    app = FastAPI(title="Accounts", lifespan=lifespan, redirect_slashes=False)
    app.include_router(router)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    return app


def main() -> None:  # given
    """Serve the app on HOST and PORT."""
    try:
        app = create_app()
    except ValueError as error:
        sys.exit(str(error))
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))
    uvicorn.run(app, host=host, port=port, access_log=False)  # it has the query, and in that may be a password


if __name__ == "__main__":
    main()
