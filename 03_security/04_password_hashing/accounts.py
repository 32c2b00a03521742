"""Users and their passwords in a database: registered, checked, upgraded, changed."""

import logging
import sqlite3
from typing import Any, cast

from hashing import Hasher, Verdict
from policy import Policy
from sqlalchemy import CursorResult, Engine, create_engine, event, select, update
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import sessionmaker

from shared.models import User

log = logging.getLogger("accounts")


class EmailTakenError(Exception):
    """Somebody else has registered with this email address."""


class Accounts:
    """All users. No session is open while a password is hashed: a hash takes too long to hold a connection."""

    def __init__(self, engine: Engine, hasher: Hasher, policy: Policy) -> None:
        self._sessions = sessionmaker(engine, expire_on_commit=False)
        self._hasher = hasher
        self._policy = policy

    def register(self, email: str, name: str, password: str) -> User:
        """Store a new user. Raises WeakPasswordError and EmailTakenError.

        It does not look first whether the address is free: another request could take it before this one writes.
        """
        self._policy.check(password, name, email)
        user = User(email=email, name=name, password_hash=self._hasher.hash(password))
        try:
            with self._sessions.begin() as session:
                session.add(user)
        except IntegrityError:
            raise EmailTakenError from None
        return user

    def log_in(self, email: str, password: str) -> User | None:
        """Return the user whose password this is, or None. The only moment at which an old hash can be upgraded."""
        user, verdict = self._check(email, password)
        if user and verdict.is_outdated:
            self._upgrade(user, password)
        return user

    def change_password(self, email: str, password: str, new_password: str) -> bool:
        """Replace the password; False when `password` is not the current one. Raises WeakPasswordError.

        When another request has replaced the hash meanwhile, `password` is checked again, against the new one.
        """
        while user := self._check(email, password)[0]:
            self._policy.check(new_password, user.name, user.email)
            if self._replace(user, self._hasher.hash(new_password)):
                return True
        return False

    def _check(self, email: str, password: str) -> tuple[User | None, Verdict]:
        with self._sessions() as session:
            user = session.scalar(select(User).where(User.email == email))
        verdict = self._hasher.check(password, user.password_hash if user else None)
        return user if verdict.matches else None, verdict

    def _upgrade(self, user: User, password: str) -> None:
        """Store a new hash of the same password. The password was right, so a failure here is not the user's."""
        try:
            self._replace(user, self._hasher.hash(password))
        except SQLAlchemyError as error:
            log.warning("the password hash of user %d is still the old one: %s", user.id, type(error).__name__)

    def _replace(self, user: User, new_hash: str) -> bool:
        """Store the hash where the one that was checked is still stored; return whether it did.

        Without that condition an upgrade would bring back the old password when the user changes it at that moment.
        """
        is_unchanged = (User.id == user.id) & (User.password_hash == user.password_hash)
        with self._sessions.begin() as session:
            result = session.execute(update(User).where(is_unchanged).values(password_hash=new_hash))
            return cast("CursorResult[Any]", result).rowcount == 1


def make_engine(url: str) -> Engine:
    """Return an engine on the database that `url` names. Raises ValueError where it names none that can be used."""
    try:
        # hide_parameters: or the text of a database error, which goes to the log, has the hash in it.
        engine = create_engine(url, hide_parameters=True)
    except (ArgumentError, ImportError):
        raise ValueError("DATABASE_URL is not the URL of a database, or its driver is not installed") from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", replace_what_is_not_utf8)
    return engine


def replace_what_is_not_utf8(connection: sqlite3.Connection, _record: object) -> None:
    """Read text that is not UTF-8 as well: sqlite3 would raise, with the text in the message."""
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
