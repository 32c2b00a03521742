"""Users in a database: what a name and a password may be, how they are stored, and how they are checked."""

import re
import secrets

import bcrypt
from basic import CONTROL_CHARACTERS, LONGEST_TEXT, Credentials, to_nfc
from sqlalchemy import Engine, String
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

SURROGATES = r"\ud800-\udfff"  # JSON can write half a character; UTF-8 cannot
USERNAME = re.compile(rf"[^:\s{CONTROL_CHARACTERS}{SURROGATES}]{{1,64}}")
PASSWORD = re.compile(rf"[^{CONTROL_CHARACTERS}{SURROGATES}]{{8,}}")
LONGEST_PASSWORD = 72  # bytes of UTF-8: bcrypt reads no further, and since version 5 refuses more
RULES = {
    "username": "1 to 64 characters, without white space, colons and control characters",
    "password": "at least 8 characters and at most 72 bytes of UTF-8, without control characters",
}


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    username: Mapped[str] = mapped_column(String(64), primary_key=True)
    password_hash: Mapped[str] = mapped_column(String(60))


class InvalidError(Exception):
    """What was sent cannot be registered; `problems` has a message for each wrong field, and never its value."""

    def __init__(self, problems: dict[str, str]) -> None:
        super().__init__(problems)
        self.problems = problems


class UsernameTakenError(Exception):
    """Somebody else has this name."""


class Users:
    """All users, in the database of `engine`. A hash takes 2 to the power of `rounds` steps of bcrypt."""

    def __init__(self, engine: Engine, rounds: int) -> None:
        Base.metadata.create_all(engine)
        self._sessions = sessionmaker(engine)
        self._rounds = rounds
        self._nobodys_hash = hash_password(secrets.token_urlsafe(), rounds)

    def add(self, credentials: Credentials) -> None:
        """Store a new user. Raises UsernameTakenError.

        Whether the name is free is not asked first: another request can come between the question and the write.
        """
        user = User(username=credentials.username, password_hash=hash_password(credentials.password, self._rounds))
        try:
            with self._sessions.begin() as session:
                session.add(user)
        except IntegrityError:
            raise UsernameTakenError from None

    def authenticate(self, credentials: Credentials) -> bool:
        """Whether this is a user's name and password. An unknown name takes as long as a wrong password.

        The connection goes back before the hashing: a quarter of a second is long to hold one.
        """
        with self._sessions() as session:
            user = session.get(User, credentials.username)
        matches = password_matches(credentials.password, user.password_hash if user else self._nobodys_hash)
        return matches and user is not None


def validate(body: object) -> Credentials:
    """Return the body's credentials in NFC, ready to be registered. Raises InvalidError."""
    if not isinstance(body, dict):
        raise InvalidError({"body": "send an object with username and password"})
    sent = [body.get(field) for field in RULES]
    username, password = (to_nfc(text) if isinstance(text, str) and len(text) <= LONGEST_TEXT else "" for text in sent)
    right = {
        "username": USERNAME.fullmatch(username),
        "password": PASSWORD.fullmatch(password) and len(password.encode()) <= LONGEST_PASSWORD,
    }
    if not all(right.values()):
        raise InvalidError({field: rule for field, rule in RULES.items() if not right[field]})
    return Credentials(username, password)


def hash_password(password: str, rounds: int) -> str:
    """Return a bcrypt hash with a salt of its own."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds)).decode()


def password_matches(password: str, password_hash: str) -> bool:
    """Compare in constant time. A longer password than any user's never matches, and bcrypt would raise."""
    encoded = password.encode()
    return len(encoded) <= LONGEST_PASSWORD and bcrypt.checkpw(encoded, password_hash.encode())
