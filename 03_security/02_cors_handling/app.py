"""An API with a session cookie that front ends of trusted origins may use, and pages of all other origins may not."""

import itertools
import os
import sys

import uvicorn
from cors import read_origins, with_cors
from fastapi import FastAPI
from items import answer_error, router
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp


def make_api() -> FastAPI:  # given
    """Return the API with no sessions yet and without any protection: every origin may write."""
    api = FastAPI(title="Items of a session")
    api.state.sessions, api.state.numbers = {}, itertools.count(1)
    api.include_router(router)
    api.add_exception_handler(StarletteHTTPException, answer_error)
    return api


def create_app() -> ASGIApp:
    """Return the API for the origins in ALLOWED_ORIGINS. Raises ValueError when one of them is not an origin."""
    return with_cors(make_api(), read_origins())


def main() -> None:  # given
    """Serve the app on HOST and PORT."""
    try:
        app = create_app()
    except ValueError as error:
        sys.exit(f"error: {error}")
    uvicorn.run(app, host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ.get("PORT", "8000")))


if __name__ == "__main__":
    main()
