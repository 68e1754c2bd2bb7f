"""The HTTP interface: the live picture, the past, and what may be told to a unit.

Described by itself, as OpenAPI 3.1, at /api/openapi.json. Annotations are evaluated here: the framework reads
those that name something local.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

import agent
from agent.dispatch.access import Access, Who
from agent.dispatch.api_actions import add_actions
from agent.dispatch.api_live import add_live
from agent.dispatch.api_past import add_past
from agent.dispatch.gate import AsciiJson, allowed, tell_roles, who_of
from agent.dispatch.page_files import add_page
from agent.dispatch.service import Service
from agent.dispatch.store.engine import StoreError

COOKIE = "mdt_token"
MAX_BODY_BYTES = 65_536


class Token(BaseModel):
    """What lets somebody in."""

    model_config = ConfigDict(extra="forbid")
    token: str = Field(min_length=1, max_length=200)


def create_app(service: Service, access: Access) -> FastAPI:
    """The application over a running service."""
    app = FastAPI(
        title="Ambulance dispatch",
        version=agent.__version__,
        summary="Where the units are, what they do, and what they are told.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        default_response_class=AsciiJson,
    )
    app.middleware("http")(_guard)

    @app.exception_handler(StoreError)
    async def store_is_away(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": f"the store can not be read now: {error}"}, status_code=503)

    _add_session(app, access)

    @app.exception_handler(RequestValidationError)
    async def not_as_described(_: Request, error: Exception) -> JSONResponse:
        """What is wrong and where, without what was given: that may be anything."""
        wrong = error.errors() if isinstance(error, RequestValidationError) else []
        detail = [{key: one[key] for key in ("type", "loc", "msg")} for one in wrong]
        return AsciiJson({"detail": detail}, status_code=422)

    for add in (add_live, add_past, add_actions):
        add(app, service, access)
    if service.settings.metrics:
        _add_metrics(app, service, access)
    tell_roles(app)
    add_page(app, service.settings.streets)
    return app


async def _guard(request: Request, handle: Callable[[Request], Awaitable[Response]]) -> Response:
    """No huge bodies, and no other site's page that acts with our cookie."""
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MAX_BODY_BYTES or "transfer-encoding" in request.headers:
        return JSONResponse({"detail": "too large"}, status_code=413)
    if request.method not in ("GET", "HEAD"):
        origin, host = request.headers.get("origin"), request.headers.get("host", "")
        if origin is not None and origin.partition("://")[2] != host:
            return JSONResponse({"detail": "another site's page may not do this"}, status_code=403)
    response = await handle(request)
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _add_session(app: FastAPI, access: Access) -> None:
    @app.post("/api/session", tags=["session"])
    def come_in(request: Request, response: Response, given: Token) -> dict[str, str]:
        """Keep a token in a cookie that no script can read, for the page."""
        who = access.by_token(given.token)
        if who is None:
            raise HTTPException(401, "this token is not known")
        response.set_cookie(
            COOKIE,
            given.token,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            max_age=30 * 86_400,
        )
        return {"name": who.name, "role": who.role}

    @app.get("/api/session", tags=["session"])
    def who_am_i(who: Annotated[Who, Depends(who_of(access))]) -> dict[str, str]:
        """Who I am here, and as what."""
        return {"name": who.name, "role": who.role}

    @app.delete("/api/session", tags=["session"])
    def leave(response: Response) -> dict[str, str]:
        """Forget the cookie."""
        response.delete_cookie(COOKIE)
        return {}


def _add_metrics(app: FastAPI, service: Service, access: Access) -> None:
    from agent.dispatch.metrics import CONTENT_TYPE, exposition

    @app.get("/metrics", include_in_schema=False)
    async def metrics(_: Annotated[Who, allowed(access, "live")]) -> Response:
        """For Prometheus, with a bearer token."""
        return Response(exposition(service), media_type=CONTENT_TYPE)
