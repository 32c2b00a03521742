"""Users: their passwords and tokens, who sends a request, and the endpoints for accounts."""

import time
from typing import Annotated, Literal

import bcrypt
import jwt
from access import ADMIN, GUEST, CurrentCaller, InvalidTokenError, Permission, requires
from fastapi import APIRouter, Depends, HTTPException, Path, Request
from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from shared.models import User

TOKEN_SECONDS = 15 * 60
router = APIRouter()


def get_sessions(request: Request) -> sessionmaker[Session]:  # given
    sessions: sessionmaker[Session] = request.app.state.sessions
    return sessions


Sessions = Annotated[sessionmaker[Session], Depends(get_sessions)]
NOT_BLANK = r"^[^\x00]*[^\x00\s][^\x00]*$"
Name = Annotated[str, StringConstraints(max_length=100, pattern=NOT_BLANK)]
Email = Annotated[str, StringConstraints(max_length=254, to_lower=True, pattern=r"^[!-?A-~]+@[!-?A-~]+$")]
Password = Annotated[str, StringConstraints(pattern=r"^[ -~]{15,72}$")]  # bcrypt takes at most 72 bytes
Role = Literal["user", "admin"]
Id = Annotated[int, Path(ge=1, le=2**63 - 1)]
ID: TypeAdapter[int] = TypeAdapter(Id)


class Body(BaseModel):  # a field that the class does not name, like `role` in most bodies, is a 422
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class NewUser(Body):
    email: Email
    name: Name
    password: Password
    role: Role = "user"


class AccountChange(Body):  # what users may change of themselves; `exclude_unset` drops the default
    name: Name = ""


class UserChange(AccountChange):  # what admins may change of every user
    role: Role = "user"


class UserOut(BaseModel):  # as `response_model` it leaves out the password's hash
    id: int
    email: str
    name: str
    role: str


def hash_password(password: str, rounds: int) -> str:  # given
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds)).decode()


def is_password(password: str, stored: str) -> bool:  # given
    try:
        return bcrypt.checkpw(password.encode(), stored.encode())
    except ValueError:  # more than 72 bytes, or a stored hash that bcrypt cannot read
        return False


def issue_token(user_id: int, key: bytes) -> str:
    """Return a signed token that expires. It has no role: that is read from the database with each request."""
    return jwt.encode({"sub": str(user_id), "exp": int(time.time()) + TOKEN_SECONDS}, key, "HS256")


def read_token(token: str, key: bytes) -> int:
    """Return the user's id. Raises InvalidTokenError for a token that has expired or that this key has not signed."""
    try:
        return ID.validate_python(jwt.decode(token, key, ["HS256"], {"require": ["exp", "sub"]})["sub"])
    except (jwt.PyJWTError, ValueError) as error:
        raise InvalidTokenError(type(error).__name__) from None


def identify(request: Request) -> tuple[int | None, str]:
    """Return the id and role of whoever sends the request, a guest without a token. Raises InvalidTokenError."""
    headers = request.headers.getlist("authorization")
    if not headers:
        return None, GUEST
    scheme, _, token = headers[0].partition(" ")
    if len(headers) > 1 or scheme.lower() != "bearer":
        raise InvalidTokenError("not one Bearer token")
    user_id = read_token(token.strip(" "), request.app.state.key)
    with request.app.state.sessions() as session:
        role = session.scalar(select(User.role).where(User.id == user_id))
    if role is None:
        raise InvalidTokenError("there is no such user")
    return user_id, role


@router.get("/users/me", response_model=UserOut, **requires(Permission.ACCOUNT_MANAGE))
def read_account(caller: CurrentCaller, sessions: Sessions) -> User:
    with sessions() as session:
        return session.get_one(User, caller.id)


@router.patch("/users/me", response_model=UserOut, **requires(Permission.ACCOUNT_MANAGE, 400))
def change_account(body: AccountChange, caller: CurrentCaller, sessions: Sessions) -> User:
    return change(sessions, caller.id, body)


@router.get("/users", response_model=list[UserOut], **requires(Permission.USERS_MANAGE))
def list_users(sessions: Sessions) -> list[User]:
    with sessions() as session:
        return list(session.scalars(select(User).order_by(User.id)))


@router.post("/users", response_model=UserOut, status_code=201, **requires(Permission.USERS_MANAGE, 400, 409))
def create_user(body: NewUser, sessions: Sessions, request: Request) -> User:
    user = new_user(body, request.app.state.rounds)
    try:
        with sessions.begin() as session:
            session.add(user)
    except IntegrityError:
        raise HTTPException(409, "this email is taken") from None
    return user


@router.patch("/users/{user_id}", response_model=UserOut, **requires(Permission.USERS_MANAGE, 400, 404, 409))
def change_user(user_id: Id, body: UserChange, sessions: Sessions) -> User:
    return change(sessions, user_id, body)


def new_user(new: NewUser, rounds: int) -> User:
    return User(**new.model_dump(exclude={"password"}), password_hash=hash_password(new.password, rounds))


def change(sessions: sessionmaker[Session], user_id: int | None, values: Body) -> User:
    """Give the user these values and return what is stored then. Raises HTTPException 404 or 409."""
    with sessions.begin() as session:
        user = session.get(User, user_id)
        if user is None:
            raise HTTPException(404, "there is no such user")
        for name, value in values.model_dump(exclude_unset=True).items():
            setattr(user, name, value)
        session.flush()
        if values.model_fields_set >= {"role"} and not session.scalar(select(User).where(User.role == ADMIN).limit(1)):
            raise HTTPException(409, "this is the last admin")
    return user
