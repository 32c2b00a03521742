"""Comments and a search that take any text, and encode it for each place where it comes out again."""

import os
import re
from typing import Any

import nh3
from comments import LARGEST_ID, SORTS, Comment, Comments
from fields import QUERY, Field, InvalidError, is_http_url, read_fields, validate
from flask import Blueprint, Flask, Response, abort, current_app, json, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from markupsafe import Markup, escape
from sqlalchemy import create_engine
from werkzeug.exceptions import HTTPException

LARGEST_REQUEST = 32 * 1024
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
SORT = Field(re.compile("|".join(SORTS)), range(1, 11), f"one of {', '.join(SORTS)}")

routes = Blueprint("routes", __name__)


def comments() -> Comments:  # given
    """The comments that `create_app` opened."""
    opened: Comments = current_app.extensions["comments"]
    return opened


@routes.post("/comments")
def add_comment() -> ResponseReturnValue:
    """Take a comment: a program gets 201 and the comment, a browser that sent a form is led back to the page."""
    comment = comments().add(validate(read_body()))
    if request.mimetype in FORMS:
        return redirect(url_for(".list_comments"), 303)
    # The only answer with the e-mail: it goes to who sent it.
    return as_json(comment) | {"email": comment.email}, 201, {"Location": url_for(".read_comment", number=comment.id)}


@routes.get("/comments")
def list_comments() -> str:
    return render_template("comments.html", comments=comments().search())


@routes.get("/search")
def search() -> str:
    """The comments with a text in them. An unknown sort is a 422 like any other wrong value."""
    values = read_fields({"q": "", "sort": "newest"} | request.args.to_dict(), {"q": QUERY, "sort": SORT})
    found = comments().search(values["q"], values["sort"])
    return render_template("search.html", comments=found, sorts=list(SORTS), **values)


@routes.get("/api/comments")
def list_as_json() -> dict[str, Any]:
    """JSON has quotes of its own: the text is neither escaped for HTML nor cleaned here."""
    return {"comments": [as_json(comment) for comment in comments().search()]}


@routes.get("/api/comments/<number>")
def read_comment(number: str) -> dict[str, Any]:
    known = re.fullmatch("[1-9][0-9]{0,18}", number) and int(number) <= LARGEST_ID
    comment = comments().get(int(number)) if known else None
    if comment is None:
        abort(404, "there is no such comment")
    return as_json(comment)


def as_json(comment: Comment) -> dict[str, Any]:
    """What everybody may read of a comment."""
    return {name: getattr(comment, name) for name in ("id", "author", "body", "website")}


def rich_text(body: str) -> Markup:
    """Return the body as HTML that may stand in an element: the tags of the allow-list stay, and nothing else.

    It is safe there only. In an attribute it is not: a double quote in the text stays one.
    """
    clean = nh3.clean(
        body,
        tags={"a", "b", "code", "em", "i", "strong"},
        attributes={"a": {"href"}, "*": set()},  # without "*", nh3 keeps title and lang everywhere
        url_schemes={"http", "https", "mailto"},
        url_relative="deny",
        link_rel="nofollow noopener noreferrer",
    )
    return Markup(clean)  # noqa: S704  nh3 has cleaned it


def in_attribute(text: str) -> Markup:
    """Encode for a quoted attribute, CR as well: browsers read CR and CRLF in HTML as LF, but not a reference to CR."""
    return escape(text).replace("\r", Markup("&#13;"))


def read_body() -> Any:  # given
    """The form or the JSON of the request: 400 when it cannot be read, 413 when too large, 415 for another type."""
    if request.mimetype not in (*FORMS, "application/json"):  # get_json would also read application/x+json
        abort(415)
    try:
        # Werkzeug cuts a chunked body off at MAX_CONTENT_LENGTH without an error, so that is one byte more.
        if len(request.get_data()) > LARGEST_REQUEST:
            abort(413)
        return request.form.to_dict() if request.mimetype in FORMS else request.get_json()
    except RecursionError:
        abort(400, "the JSON is nested too deeply")
    except OSError:
        abort(400, "the body breaks off")


def answer_invalid(error: InvalidError) -> tuple[dict[str, Any], int]:
    return {"detail": error.problems}, 422


def answer_error(error: HTTPException) -> Response:  # given
    """Keep the error's status and headers, and say what it is in JSON."""
    response = Response(json.dumps({"detail": error.description}), error.code, error.get_response().headers)
    response.content_type = "application/json"
    return response


def create_app() -> Flask:
    """Return the app on the database that DATABASE_URL names; by default a file beside the caller."""
    # hide_parameters: the text of a database error goes to the log, and would have e-mail addresses in it.
    engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///comments.db"), hide_parameters=True)
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_REQUEST + 1
    app.extensions["comments"] = Comments(engine)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters |= {"rich_text": rich_text, "in_attribute": in_attribute}
    app.jinja_env.tests["http_url"] = is_http_url
    app.register_blueprint(routes)
    app.register_error_handler(InvalidError, answer_invalid)
    app.register_error_handler(HTTPException, answer_error)
    return app


def main() -> None:  # given
    """Serve the app on HOST and PORT."""
    create_app().run(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000")))


if __name__ == "__main__":
    main()
