"""Articles: what each caller may see of them and do with them, in lists, searches and errors too."""

from typing import Annotated, Any, Literal

from access import FORBIDDEN, Caller, CurrentCaller, Permission, requires
from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, StringConstraints
from sqlalchemy import ColumnElement, ForeignKey, and_, delete, or_, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from users import NOT_BLANK, Body, Id, Sessions

from shared.models import BigId, User

router = APIRouter()


class Base(DeclarativeBase):
    pass


class Article(Base):
    __tablename__ = "articles"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey(User.id), index=True)
    title: Mapped[str]
    text: Mapped[str]
    published: Mapped[bool]
    author: Mapped[User] = relationship(lazy="joined", innerjoin=True)


Title = Annotated[str, StringConstraints(max_length=200, pattern=NOT_BLANK)]
Text = Annotated[str, StringConstraints(max_length=10_000, pattern=r"^[^\x00]*$")]
AuthorId = Annotated[int | None, Query(ge=1, le=2**63 - 1)]
Search = Annotated[str, Query(max_length=100, pattern=r"^[^\x00]*$")]


class ArticleChange(Body):
    """`exclude_unset` drops the default of a title that was not sent."""

    title: Title = ""
    text: Text = ""
    published: bool = False


class NewArticle(ArticleChange):
    title: Title


class AuthorOut(BaseModel):
    id: int
    name: str
    email: str = ""


class ArticleOut(BaseModel):
    id: int
    title: str
    text: str
    published: bool
    author: AuthorOut


NO_ARTICLE = "there is no such article"
SHOWN: dict[str, Any] = {"response_model_exclude_unset": True}  # an email that `show` does not set is left out


@router.get("/articles", **SHOWN, **requires(Permission.ARTICLES_READ))
def list_articles(
    caller: CurrentCaller,
    sessions: Sessions,
    author: AuthorId = None,
    status: Literal["draft", "published"] | None = None,
    search: Search = "",
) -> list[ArticleOut]:
    """List what the caller may see. The filters only narrow the condition on visibility."""
    visible = or_(Article.published, caller.where(Permission.DRAFTS_READ, Article.author_id))
    query = select(Article).where(visible).order_by(Article.id)
    if author is not None:
        query = query.where(Article.author_id == author)
    if status is not None:
        query = query.where(Article.published == (status == "published"))
    if search:
        query = query.where(matches(search, caller))
    with sessions() as session:
        return [show(article, caller) for article in session.scalars(query)]


@router.post("/articles", status_code=201, **SHOWN, **requires(Permission.ARTICLES_CREATE, 400))
def create_article(body: NewArticle, caller: CurrentCaller, sessions: Sessions) -> ArticleOut:
    """Create an article of the caller's own: the body has no author."""
    article = Article(**body.model_dump(), author_id=caller.id)
    with sessions.begin() as session:
        session.add(article)
        session.flush()
        return show(article, caller)


@router.get("/articles/{article_id}", **SHOWN, **requires(Permission.ARTICLES_READ, 404))
def read_article(article_id: Id, caller: CurrentCaller, sessions: Sessions) -> ArticleOut:
    with sessions() as session:
        return show(find(session, article_id, caller, Permission.ARTICLES_READ), caller)


@router.patch("/articles/{article_id}", **SHOWN, **requires(Permission.ARTICLES_EDIT, 400, 404))
def change_article(article_id: Id, body: ArticleChange, caller: CurrentCaller, sessions: Sessions) -> ArticleOut:
    with sessions.begin() as session:
        article = find(session, article_id, caller, Permission.ARTICLES_EDIT)
        if values := body.model_dump(exclude_unset=True):
            session.execute(update(Article).where(Article.id == article.id).values(values))
        return show(article, caller)


@router.delete("/articles/{article_id}", status_code=204, **requires(Permission.ARTICLES_DELETE, 404))
def delete_article(article_id: Id, caller: CurrentCaller, sessions: Sessions) -> None:
    with sessions.begin() as session:
        article = find(session, article_id, caller, Permission.ARTICLES_DELETE)
        session.execute(delete(Article).where(Article.id == article.id))


def matches(search: str, caller: Caller) -> ColumnElement[bool]:
    """Search emails only where the caller may see them: else a search for `a`, `an`, `ann` tells an email."""
    by_email = Article.author.has(User.email.icontains(search, autoescape=True))
    return or_(
        Article.title.icontains(search, autoescape=True),
        Article.text.icontains(search, autoescape=True),
        and_(caller.where(Permission.EMAILS_READ, Article.author_id), by_email),
    )


def find(session: Session, article_id: int, caller: Caller, permission: Permission) -> Article:
    """Return the article. Raises HTTPException: 404 where the caller may not see it, and 403 where only not do this."""
    article = session.get(Article, article_id)
    if article is None:
        raise HTTPException(404, NO_ARTICLE)
    if not article.published and not caller.may(Permission.DRAFTS_READ, article.author_id):
        raise caller.denied(404, NO_ARTICLE, "the draft of somebody else", Permission.DRAFTS_READ)
    if not caller.may(permission, article.author_id):
        raise caller.denied(403, FORBIDDEN, "the article of somebody else", permission)
    return article


def show(article: Article, caller: Caller) -> ArticleOut:
    """Return the article with the fields that the caller may see."""
    author = AuthorOut(id=article.author.id, name=article.author.name)
    if caller.may(Permission.EMAILS_READ, article.author_id):
        author.email = article.author.email
    return ArticleOut(id=article.id, title=article.title, text=article.text, published=article.published, author=author)
