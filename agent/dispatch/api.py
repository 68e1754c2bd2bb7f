"""The HTTP interface: the live picture, the past, and what may be told to a unit.

Described by itself, as OpenAPI 3.1, at /api/openapi.json. Annotations are evaluated here: the framework reads
those that name something local.
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, TypeVar

from fastapi import Body, Cookie, Depends, FastAPI, Header, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

import agent
from agent.dispatch import queries, vital
from agent.dispatch.access import Access, Who
from agent.dispatch.commands import COMMANDS, Answer, Command, Fields, told
from agent.dispatch.outputs.geojson_file import collection
from agent.dispatch.page_files import add_page
from agent.dispatch.service import Service
from agent.dispatch.store.engine import Connection, StoreError
from agent.domain.record import Kind
from agent.wire.topics import Topics

T = TypeVar("T")

COOKIE = "mdt_token"
DAY_MS = 86_400_000
MAX_BODY_BYTES = 65_536
SHELVE_MOST_S = 8 * 3600
_NAME = r"^[A-Za-z0-9._-]{1,64}$"

Agency = Annotated[str, Path(pattern=_NAME)]
UnitName = Annotated[str, Path(pattern=_NAME)]
Milliseconds = Annotated[int, Query(ge=0, lt=1 << 53)]
Limit = Annotated[int, Query(ge=1, le=queries.MOST_ROWS)]


class Token(BaseModel):
    """What lets somebody in."""

    model_config = ConfigDict(extra="forbid")
    token: str = Field(min_length=1, max_length=200)


class AlarmStep(BaseModel):
    """What a dispatcher does with an alarm."""

    model_config = ConfigDict(extra="forbid")
    step: Annotated[str, Field(pattern="^(acknowledge|close|shelve)$")]
    for_s: Annotated[int, Field(ge=60, le=SHELVE_MOST_S)] = 900


def create_app(service: Service, access: Access) -> FastAPI:
    """The application over a running service."""
    app = FastAPI(
        title="Ambulance dispatch",
        version=agent.__version__,
        summary="Where the units are, what they do, and what they are told.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.middleware("http")(_guard)

    @app.exception_handler(StoreError)
    async def store_is_away(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": f"the store can not be read now: {error}"}, status_code=503)

    _add_session(app, access)
    _add_live(app, service, access)
    _add_past(app, service, access)
    _add_statistics(app, service, access)
    _add_actions(app, service, access)
    for name, command in COMMANDS.items():
        _add_command(app, service, access, name, command)
    if service.settings.metrics:
        _add_metrics(app, service, access)
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


def _who(access: Access) -> Callable[..., Who]:
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


def _allowed(access: Access, permission: str) -> Any:
    who = _who(access)

    def check(somebody: Annotated[Who, Depends(who)]) -> Who:
        if not somebody.may(permission):
            raise HTTPException(403, f"the role {somebody.role} may not do this")
        return somebody

    return Depends(check)


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
    def who_am_i(who: Annotated[Who, Depends(_who(access))]) -> dict[str, str]:
        """Who I am here, and as what."""
        return {"name": who.name, "role": who.role}

    @app.delete("/api/session", tags=["session"])
    def leave(response: Response) -> dict[str, str]:
        """Forget the cookie."""
        response.delete_cookie(COOKIE)
        return {}


def _add_live(app: FastAPI, service: Service, access: Access) -> None:
    live = _allowed(access, "live")

    @app.get("/api/v1/live", tags=["live"], response_class=StreamingResponse)
    async def follow(who: Annotated[Who, live]) -> StreamingResponse:
        """Server-sent events: `snapshot` first, then `units`, `records`, `alarms`, `calls`, `service`."""
        may_see_records = who.may("events")

        async def frames() -> Any:
            async for text in service.hub.follow(service.snapshot):
                if may_see_records or not text.startswith("event: records"):
                    yield text

        return StreamingResponse(frames(), media_type="text/event-stream")

    @app.get("/api/v1/units", tags=["live"])
    async def units(_: Annotated[Who, live]) -> list[dict[str, Any]]:
        """Every unit, with how fresh its picture is."""
        now_ms = service.now_ms()
        return [unit.told(now_ms, service.settings.picture) for unit in service.fleet]

    @app.get("/api/v1/units.geojson", tags=["live"])
    async def units_geojson(_: Annotated[Who, live]) -> JSONResponse:
        """The units that have a position; `freshness` other than `live` is where it was, not where it is."""
        return JSONResponse(geojson(service), media_type="application/geo+json")

    @app.get("/api/v1/units/{agency}/{unit}", tags=["live"])
    async def one_unit(agency: Agency, unit: UnitName, _: Annotated[Who, live]) -> dict[str, Any]:
        """One unit with all its states."""
        found = service.fleet.get(Topics(agency, unit))
        if found is None:
            raise HTTPException(404, "no such unit has ever been heard")
        return found.told(service.now_ms(), service.settings.picture) | {"states": found.states}

    @app.get("/api/v1/service", tags=["live"])
    async def how_is_it(_: Annotated[Who, live]) -> dict[str, Any]:
        """How the service itself is."""
        return service.service_state() | {"sizes": await _sizes(service)}


async def _sizes(service: Service) -> dict[str, Any] | None:
    """How much is stored; None while the store is away, which `store` tells."""
    try:
        return await _read(service, queries.sizes)
    except StoreError:
        return None


def _add_past(app: FastAPI, service: Service, access: Access) -> None:
    tracks, events = _allowed(access, "tracks"), _allowed(access, "events")

    @app.get("/api/v1/units/{agency}/{unit}/days/{day}", tags=["past"])
    async def a_day(agency: Agency, unit: UnitName, day: date, _: Annotated[Who, events]) -> dict[str, Any]:
        """Everything that a unit told on one day of UTC."""
        since_ms, until_ms = _day(day)
        rows = await _read(
            service,
            lambda c: queries.records(c, since_ms=since_ms, until_ms=until_ms, topics=Topics(agency, unit)),
        )
        return {"complete": len(rows) < queries.MOST_ROWS, "records": rows}

    @app.get("/api/v1/units/{agency}/{unit}/track", tags=["past"])
    async def track(
        agency: Agency, unit: UnitName, since: Milliseconds, until: Milliseconds, _: Annotated[Who, tracks]
    ) -> JSONResponse:
        """Where a unit was between two times (Unix ms), as GeoJSON."""
        rows = await _read(
            service,
            lambda c: queries.records(
                c, since_ms=since, until_ms=until, topics=Topics(agency, unit), kinds=(Kind.POSITION,)
            ),
        )
        return JSONResponse(track_geojson(rows), media_type="application/geo+json")

    @app.get("/api/v1/events", tags=["past"])
    async def all_events(
        since: Milliseconds, until: Milliseconds, _: Annotated[Who, events], limit: Limit = 5000
    ) -> list[dict[str, Any]]:
        """Presses, emergencies, alerts and gaps of all units between two times (Unix ms), oldest first."""
        return await _read(
            service, lambda c: queries.rare_records(c, since_ms=since, until_ms=until, limit=limit)
        )

    @app.get("/api/v1/replay", tags=["past"])
    async def replay(since: Milliseconds, until: Milliseconds, _: Annotated[Who, tracks]) -> dict[str, Any]:
        """Positions, statuses and emergencies of all units between two times, to be played on the page."""
        if until - since > 2 * DAY_MS:
            raise HTTPException(422, "at most two days at once")
        kinds = (Kind.POSITION, Kind.STATUS, Kind.EMERGENCY)
        rows = await _read(service, lambda c: queries.records(c, since_ms=since, until_ms=until, kinds=kinds))
        return {"complete": len(rows) < queries.MOST_ROWS, "records": rows}

    @app.get("/api/v1/calls", tags=["past"])
    async def calls(
        _: Annotated[Who, events], since: Milliseconds = 0, *, open_only: bool = False
    ) -> list[dict[str, Any]]:
        """Calls as they were assigned here, newest first."""
        return await _read(service, lambda c: queries.calls(c, open_only=open_only, since_ms=since))

    @app.get("/api/v1/alarms", tags=["past"])
    async def alarms(_: Annotated[Who, events], *, open_only: bool = True) -> list[dict[str, Any]]:
        """Alarms, newest first."""
        return await _read(service, lambda c: queries.alarms(c, open_only=open_only))

    @app.get("/api/v1/actions", tags=["past"])
    async def actions(_: Annotated[Who, _allowed(access, "actions")]) -> list[dict[str, Any]]:
        """Who did what, newest first."""
        return await _read(service, queries.actions)

    @app.get("/api/v1/answers", tags=["past"])
    async def waiting(_: Annotated[Who, events]) -> list[dict[str, Any]]:
        """Statuses on which nobody has decided yet."""
        return await _read(service, queries.waiting_answers)


def _add_statistics(app: FastAPI, service: Service, access: Access) -> None:
    @app.get("/api/v1/statistics", tags=["past"])
    async def statistics(
        since: Milliseconds, until: Milliseconds, _: Annotated[Who, _allowed(access, "statistics")]
    ) -> list[dict[str, Any]]:
        """Vital statistics between two times, each with its definition and its number of cases."""
        return [asdict(one) for one in await _read(service, lambda c: vital.figures(c, since, until))]

    @app.get("/api/v1/statistics.csv", tags=["past"])
    async def statistics_csv(
        since: Milliseconds, until: Milliseconds, _: Annotated[Who, _allowed(access, "statistics")]
    ) -> Response:
        """The same for a spreadsheet."""
        found = await _read(service, lambda c: vital.figures(c, since, until))
        return Response(vital.as_csv(found), media_type="text/csv")


def _add_actions(app: FastAPI, service: Service, access: Access) -> None:
    @app.post("/api/v1/alarms/{alarm_id}", tags=["actions"])
    async def alarm_step(
        alarm_id: int, given: AlarmStep, who: Annotated[Who, _allowed(access, "alarm")]
    ) -> dict[str, Any]:
        """Acknowledge, close or shelve an alarm. An acknowledged emergency is told to the crew."""
        until_ms = service.now_ms() + given.for_s * 1000
        refusal = await service.alarm_step(who, alarm_id, given.step, until_ms)
        if refusal is not None:
            raise HTTPException(409, refusal)
        return {}


def _add_command(app: FastAPI, service: Service, access: Access, name: str, command: Command) -> None:
    """One route a row of the table."""

    async def give(
        agency: Agency,
        unit: UnitName,
        who: Annotated[Who, _allowed(access, command.permission)],
        fields: Annotated[Fields, Body()],
        idempotency_key: Annotated[str | None, Header(pattern=r"^[A-Za-z0-9_-]{8,64}$")] = None,
    ) -> dict[str, Any]:
        topics = Topics(agency, unit)
        if service.fleet.get(topics) is None:
            raise HTTPException(404, "no such unit has ever been heard")
        done = await service.command(who, name, topics, told(fields), idempotency_key)
        if isinstance(fields, Answer) and not done["done"]:
            raise HTTPException(409, "there is no such status, or it was decided")
        return done

    give.__annotations__["fields"] = Annotated[command.fields, Body()]
    give.__doc__ = command.sentence
    app.post(f"/api/v1/units/{{agency}}/{{unit}}/{name}", tags=["actions"], operation_id=name)(give)


def _add_metrics(app: FastAPI, service: Service, access: Access) -> None:
    from agent.dispatch.metrics import CONTENT_TYPE, exposition

    @app.get("/metrics", include_in_schema=False)
    async def metrics(_: Annotated[Who, _allowed(access, "live")]) -> Response:
        """For Prometheus, with a bearer token."""
        return Response(exposition(service), media_type=CONTENT_TYPE)


async def _read(service: Service, query: Callable[[Connection], T]) -> T:
    return await run_in_threadpool(service.reading.ask, query)


def _day(day: date) -> tuple[int, int]:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    since_ms = round(start.timestamp() * 1000)
    return since_ms, since_ms + int(timedelta(days=1).total_seconds() * 1000)


def geojson(service: Service) -> dict[str, Any]:
    """The fleet as a FeatureCollection."""
    now_ms = service.now_ms()
    return collection([unit.told(now_ms, service.settings.picture) for unit in service.fleet])


def track_geojson(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Positions as one line with the time of each point beside it."""
    points = [row for row in rows if row["data"].get("lat_deg") is not None]
    coordinates = [[row["data"]["lon_deg"], row["data"]["lat_deg"]] for row in points]
    geometry = {"type": "LineString", "coordinates": coordinates} if len(points) > 1 else None
    properties = {
        "at_ms": [row["at_ms"] for row in points],
        "utc_source": [row["utc_source"] for row in points],
        "speed_mps": [row["data"].get("speed_mps") for row in points],
    }
    return {"type": "Feature", "geometry": geometry, "properties": properties}
