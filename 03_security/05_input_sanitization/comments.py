"""Comments in a database: what came from outside is only ever a bound parameter, or a key of a dictionary."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnExpressionArgument, Dialect, Engine, String, TypeDecorator, event, or_, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from sqlalchemy.schema import CreateTable

MOST = 100
LARGEST_ID = 2**63 - 1  # of SQLite's integers


class Base(DeclarativeBase):
    pass


def decode(stored: bytes) -> str:
    return stored.decode(errors="replace")


class AnyText(TypeDecorator[str]):
    """Text. Other programs may have stored a BLOB: SQLite has no fixed types of columns."""

    impl = String
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        return decode(value) if isinstance(value, bytes) else value


class Comment(Base):
    """A comment as it was sent: no markup is escaped or removed here, since no output is known yet."""

    __tablename__ = "comments"

    id: Mapped[int] = mapped_column(primary_key=True)
    author: Mapped[str] = mapped_column(AnyText(100))
    email: Mapped[str] = mapped_column(AnyText(254))
    body: Mapped[str] = mapped_column(AnyText(2000))
    website: Mapped[str | None] = mapped_column(AnyText(500))


# A parameter cannot stand for a column. So what is asked for chooses one of these, and never becomes SQL itself.
SORTS: dict[str, list[ColumnExpressionArgument[Any]]] = {
    "newest": [Comment.id.desc()],
    "oldest": [Comment.id.asc()],
    "author": [Comment.author, Comment.id],
}


class Comments:
    """All comments, in the database of `engine`."""

    def __init__(self, engine: Engine) -> None:
        # Else a TEXT that is not UTF-8 would be an error, and with it the whole list.
        event.listen(engine, "connect", lambda connection, _: setattr(connection, "text_factory", decode))
        with engine.begin() as connection:  # IF NOT EXISTS: several processes may start at the same time
            connection.execute(CreateTable(Base.metadata.tables["comments"], if_not_exists=True))
        self._sessions = sessionmaker(engine, expire_on_commit=False)

    def add(self, values: Mapping[str, str | None]) -> Comment:
        """Store a comment of valid values."""
        comment = Comment(**values)
        with self._sessions.begin() as session:
            session.add(comment)
        return comment

    def get(self, number: int) -> Comment | None:
        """The comment with this number, 1 to LARGEST_ID."""
        with self._sessions() as session:
            return session.get(Comment, number)

    def search(self, text: str = "", sort: str = "newest") -> list[Comment]:
        """The first MOST comments with this text in author or body. Raises KeyError for an unknown sort.

        `autoescape` writes the wildcards % and _, and the escape character itself, so that they mean themselves:
        a bound parameter does not do that, because for the database the pattern is a value like any other.
        """
        contains = or_(Comment.author.icontains(text, autoescape=True), Comment.body.icontains(text, autoescape=True))
        with self._sessions() as session:
            return list(session.scalars(select(Comment).where(contains).order_by(*SORTS[sort]).limit(MOST)))
