"""A rate limit: so many requests in a window for each client, counted in Redis, told in fields, refused with 429."""

import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import uvicorn
from clients import client_key, parse_networks
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from limiter import Decision, Limit, Limiter

POLICY = "default"
QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"
PROBLEM = "application/problem+json"
FIELDS = {name: {"schema": {"type": "string"}} for name in ("RateLimit", "RateLimit-Policy")}
RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 1}}}
API_KEY = {"parameters": [{"name": "X-API-Key", "in": "header", "schema": {"type": "string"}}]}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"headers": FIELDS},
    429: {
        "description": "This client has used its quota",
        "headers": FIELDS | RETRY_AFTER,
        "content": {PROBLEM: {"schema": {"type": "object", "required": ["type", "title", "status", "detail"]}}},
    },
}

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
router = APIRouter()


def get_and_head(path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:  # given
    """Route GET and HEAD, which go together (RFC 9110 §9.3.2). FastAPI can document only one method of an endpoint."""

    def register(endpoint: Endpoint) -> Endpoint:
        router.add_api_route(path, endpoint, methods=["GET", "HEAD"], include_in_schema=False, **options)
        router.add_api_route(path, endpoint, methods=["GET"], **options)
        return endpoint

    return register


class QuotaExceededError(Exception):
    def __init__(self, decision: Decision) -> None:
        super().__init__()
        self.decision = decision


def limit_rate(request: Request, response: Response) -> None:
    """Count the request and say in the answer what is left. Raises QuotaExceededError when nothing was."""
    state = request.app.state
    client = client_key(
        api_key=",".join(filter(None, request.headers.getlist("X-API-Key"))),
        peer=request.client.host if request.client else "",
        forwarded_for=",".join(request.headers.getlist("X-Forwarded-For")),  # it may come on several lines
        proxies=state.proxies,
    )
    decision = state.limiter.hit(client)
    if decision is None:
        return  # Redis is down: a service without its limit is better than none
    if not decision.passes:
        raise QuotaExceededError(decision)
    response.headers.update(rate_limit_fields(state.limiter.limit, decision))


@get_and_head("/resource", dependencies=[Depends(limit_rate)], responses=RESPONSES, openapi_extra=API_KEY)
def read_resource() -> dict[str, str]:
    return {"message": "Here you are"}


@get_and_head("/health")
async def read_health() -> dict[str, str]:
    """Answer whoever watches over this process. It waits for no thread, so it answers also when all of them do."""
    return {"status": "ok"}


def rate_limit_fields(limit: Limit, decision: Decision) -> dict[str, str]:
    """What the policy is and what is left of it (draft-ietf-httpapi-ratelimit-headers-11 §3, §4)."""
    return {
        "RateLimit-Policy": f'"{POLICY}";q={limit.quota};w={limit.window}',
        "RateLimit": f'"{POLICY}";r={decision.remaining};t={decision.wait}',
    }


def answer_exceeded(request: Request, error: Exception) -> JSONResponse:
    """Refuse with 429 (RFC 6585 §4) and say why in the form of RFC 9457."""
    assert isinstance(error, QuotaExceededError)
    limit: Limit = request.app.state.limiter.limit
    wait = error.decision.wait
    problem = {
        "type": QUOTA_EXCEEDED,
        "title": "Too many requests",
        "status": 429,
        "detail": f"{limit.quota} requests in {limit.window} s are allowed: try again in {wait} s",
        "violated-policies": [POLICY],
    }
    fields = rate_limit_fields(limit, error.decision) | {"Retry-After": str(wait)}
    return JSONResponse(problem, 429, fields, media_type=PROBLEM)


def create_app() -> FastAPI:
    """Return the app. Raises ValueError when RATE_LIMIT, TRUSTED_PROXIES or REDIS_URL make no sense."""
    limit = Limit.parse(os.environ.get("RATE_LIMIT", "100/3600"))
    proxies = parse_networks(os.environ.get("TRUSTED_PROXIES", ""))
    limiter = Limiter(limit, os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        limiter.close()

    app = FastAPI(title="Rate limiting", lifespan=lifespan)
    app.state.limiter, app.state.proxies = limiter, proxies
    app.include_router(router)
    app.add_exception_handler(QuotaExceededError, answer_exceeded)
    return app


def main() -> None:  # given
    """Serve the app on HOST and PORT."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))
    try:
        app = create_app()
    except ValueError as error:
        sys.exit(str(error))
    # By default uvicorn believes X-Forwarded-For from 127.0.0.1, and puts that in place of the address that we look at.
    uvicorn.run(app, host=host, port=port, proxy_headers=False)


if __name__ == "__main__":
    main()
