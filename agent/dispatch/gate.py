"""Who may call what: what stands before every route, and the parts that routes share.

Annotations are evaluated here: the framework reads those that name something local.
"""

import json
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import Cookie, Depends, FastAPI, Header, HTTPException, Path, Query, Request
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from agent.dispatch import queries
from agent.dispatch.access import PERMISSIONS, Access, Who
from agent.dispatch.service import Service
from agent.dispatch.store.engine import Connection

T = TypeVar("T")

_NAME = r"^[A-Za-z0-9._-]{1,64}$"
Agency = Annotated[str, Path(pattern=_NAME)]
UnitName = Annotated[str, Path(pattern=_NAME)]
MaybeName = Annotated[str | None, Query(pattern=_NAME)]
Milliseconds = Annotated[int, Query(ge=0, lt=1 << 53)]
Limit = Annotated[int, Query(ge=1, le=queries.MOST_ROWS)]


class AsciiJson(JSONResponse):
    """JSON in ASCII: half of a surrogate pair, of a caller or of an old record, breaks no answer."""

    def render(self, content: object) -> bytes:
        """See the base class."""
        return json.dumps(content, separators=(",", ":")).encode("ascii")


def who_of(access: Access) -> Callable[..., Who]:
    """What tells who asks, by certificate, bearer token or cookie; 401 for nobody."""

    def who(
        request: Request,
        authorization: Annotated[str | None, Header()] = None,
        mdt_token: Annotated[str | None, Cookie()] = None,
    ) -> Who:
        """Whoever asks, by certificate, header or cookie."""
        found = access.by_certificate(request.scope.get("client_common_name", ""))
        scheme, _, given = (authorization or "").partition(" ")
        if found is None and scheme.lower() == "bearer":
            found = access.by_token(given)
        if found is None and mdt_token is not None:
            found = access.by_token(mdt_token)
        if found is None:
            raise HTTPException(401, "a token is needed", headers={"WWW-Authenticate": "Bearer"})
        return found

    return who


def allowed(access: Access, permission: str) -> Any:
    """What lets a request through to a route, and says who it is; 403 for a role without the permission."""
    who = who_of(access)

    def check(somebody: Annotated[Who, Depends(who)]) -> Who:
        if not somebody.may(permission):
            raise HTTPException(403, f"the role {somebody.role} may not do this")
        return somebody

    check.permission = permission  # type: ignore[attr-defined]  # read by `tell_roles`
    return Depends(check)


def tell_roles(app: FastAPI) -> None:
    """Each operation of the document says who may use it, taken from what guards it."""
    for route in app.routes:
        if isinstance(route, APIRoute):
            for guard in route.dependant.dependencies:
                permission = getattr(guard.call, "permission", None)
                if permission is not None:
                    route.openapi_extra = {"x-roles": sorted(PERMISSIONS[permission])}


async def read(service: Service, query: Callable[[Connection], T]) -> T:
    """The answer of a query, asked on another thread."""
    return await run_in_threadpool(service.reading.ask, query)
