"""Who may do what: one table of roles and permissions, and a guard that every request passes before any route runs."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any, Self

from fastapi import Depends, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from sqlalchemy import ColumnElement, false, true
from sqlalchemy.orm import InstrumentedAttribute
from starlette.concurrency import run_in_threadpool
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

ROLES = GUEST, USER, ADMIN = "guest", "user", "admin"  # a guest sends no token; the others are stored with the user
Reach = StrEnum("Reach", ["NONE", "OWN", "ANY"])  # on whose objects a role has a permission
NONE, OWN, ANY = Reach.NONE, Reach.OWN, Reach.ANY
FORBIDDEN = "you may not do this"


class Permission(StrEnum):
    """The table. Nothing else in this app knows what a role may do."""

    # fmt: off
    #                  name                guest user  admin
    DOCUMENT_READ =    "document:read",    ANY,  ANY,  ANY
    TOKENS_CREATE =    "tokens:create",    ANY,  ANY,  ANY
    ARTICLES_READ =    "articles:read",    ANY,  ANY,  ANY
    DRAFTS_READ =      "drafts:read",      NONE, OWN,  ANY
    EMAILS_READ =      "emails:read",      NONE, OWN,  ANY
    ARTICLES_CREATE =  "articles:create",  NONE, ANY,  ANY
    ARTICLES_EDIT =    "articles:edit",    NONE, OWN,  ANY
    ARTICLES_DELETE =  "articles:delete",  NONE, NONE, ANY
    ACCOUNT_MANAGE =   "account:manage",   NONE, OWN,  OWN
    USERS_MANAGE =     "users:manage",     NONE, NONE, ANY
    PERMISSIONS_READ = "permissions:read", NONE, NONE, ANY
    # fmt: on

    reaches: dict[str, Reach]

    def __new__(cls, name: str, *reaches: Reach) -> Self:  # given
        member = str.__new__(cls, name)
        member._value_ = name
        member.reaches = dict(zip(ROLES, reaches, strict=True))
        return member


class InvalidTokenError(Exception):
    """The Authorization header has no valid token. The text says why; it is for the log only."""


@dataclass(frozen=True)
class Caller:
    """Who sends a request, and the request's method and path. The role was read from the database for this request."""

    id: int | None
    role: str
    method: str
    path: str

    def reach(self, permission: Permission) -> Reach:
        """Return what the table says. A role that is not in the table has no permission."""
        return permission.reaches.get(self.role, NONE)

    def may(self, permission: Permission, owner: int) -> bool:
        """Whether the caller has this permission on an object of this owner."""
        return self.reach(permission) is ANY or (self.reach(permission) is OWN and self.id == owner)

    def where(self, permission: Permission, owner: InstrumentedAttribute[int]) -> ColumnElement[bool]:
        """Return the same decision as an SQL condition; `owner` is the column with the owner's id."""
        return {ANY: true(), OWN: owner == self.id, NONE: false()}[self.reach(permission)]

    def denied(self, status: int, detail: str, reason: str, permission: Permission | None) -> HTTPException:
        """Log a denial as one line of JSON, without the query, which may hold a token; return the error to answer."""
        entry = {"event": "denied", "who": self.id, "role": self.role, "method": self.method, "path": self.path[:200]}
        entry |= {"permission": permission, "status": status, "reason": reason}
        sys.stderr.write(json.dumps(entry) + "\n")
        headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
        return HTTPException(status, detail, headers)


def get_caller(request: Request) -> Caller:  # given
    caller: Caller = request.state.caller
    return caller


CurrentCaller = Annotated[Caller, Depends(get_caller)]


def requires(permission: Permission, *errors: int) -> dict[str, Any]:  # given
    """Return a route's options: its permission, for the guard and the OpenAPI document, and the errors it answers."""
    return {"openapi_extra": {"x-permission": permission}, "responses": {error: {} for error in errors}}


class Guard:
    """Middleware around all routes: it decides before the body is read, and refuses routes without a permission."""

    def __init__(self, app: ASGIApp, identify: Callable[[Request], tuple[int | None, str]]) -> None:  # given
        self.app = app
        self.identify = identify

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # this API has none
            await send({"type": "websocket.close", "code": 1008})
            return
        app = self.app
        if scope["type"] == "http":
            method = scope["method"]
            scope = {**scope, "method": "GET" if method == "HEAD" else method}  # the server leaves out the body
            try:
                request = Request(scope)
                request.state.caller = await run_in_threadpool(self.authorize, request, method)
            except HTTPException as error:
                app = JSONResponse({"detail": error.detail}, error.status_code, error.headers)
        await app(scope, receive, send)

    def authorize(self, request: Request, method: str) -> Caller:
        """Return the caller. Raises HTTPException for a request that must not reach its endpoint."""
        permission, path = find_permission(request), request.scope["path"]
        try:
            caller = Caller(*self.identify(request), method, path)
        except InvalidTokenError as error:
            guest = Caller(None, GUEST, method, path)
            raise guest.denied(401, "this token is not valid", str(error), permission) from None
        if permission and caller.reach(permission) is not NONE:
            return caller
        if caller.id is None:
            raise caller.denied(401, "sign in first", "no token", permission)
        reason = "the role lacks the permission" if permission else "no permission is declared for this route"
        raise caller.denied(403, FORBIDDEN, reason, permission)


def find_permission(request: Request) -> Permission | None:
    """Return the permission of the route that the router will choose. Raises HTTPException 404 or 405 without one."""
    methods: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        match, _ = route.matches(request.scope)
        if match is Match.FULL:
            permission: Permission | None = (getattr(route, "openapi_extra", None) or {}).get("x-permission")
            return permission
        if match is Match.PARTIAL:
            methods |= {*(route.methods or ()), *["HEAD"] * ("GET" in (route.methods or ()))}
    if methods:
        raise HTTPException(405, "this path has other methods", {"Allow": ", ".join(sorted(methods))})
    raise HTTPException(404, "there is nothing at this path")
