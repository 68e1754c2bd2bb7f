"""Routes of what is live: units, their stream of events, and how the service itself is.

Annotations are evaluated here: the framework reads those that name something local.
"""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse, StreamingResponse

from agent.dispatch import queries
from agent.dispatch.access import Access, Who
from agent.dispatch.gate import Agency, AsciiJson, UnitName, allowed, read
from agent.dispatch.hub import frame
from agent.dispatch.outputs.geojson_file import collection
from agent.dispatch.service import Service
from agent.dispatch.store.engine import StoreError
from agent.wire.topics import Topics

EVENT_PERMISSIONS = {"records": "events", "calls": "events", "replies": "vehicle"}
"""Of the live stream: what is not for everybody who may look."""


def add_live(app: FastAPI, service: Service, access: Access) -> None:
    """Routes of the live picture."""
    live = allowed(access, "live")

    @app.get("/api/v1/live", tags=["live"], response_class=StreamingResponse)
    async def follow(who: Annotated[Who, live]) -> StreamingResponse:
        """Server-sent events: `snapshot`, then `units`, `records`, `alarms`, `calls`, `replies`, `service`.

        Who may not read events gets neither records nor calls, and of a unit's call the incident alone.
        """
        return StreamingResponse(_frames(service, who), media_type="text/event-stream")

    @app.get("/api/v1/units", tags=["live"])
    async def units(who: Annotated[Who, live]) -> list[dict[str, Any]]:
        """Every unit, with how fresh its picture is."""
        now_ms = service.now_ms()
        units = [unit.told(now_ms, service.settings.picture) for unit in service.fleet]
        return units if who.may("events") else [_without_call(one) for one in units]

    @app.get("/api/v1/units.geojson", tags=["live"])
    async def units_geojson(_: Annotated[Who, live]) -> JSONResponse:
        """The units that have a position; `freshness` other than `live` is where it was, not where it is."""
        return AsciiJson(geojson(service), media_type="application/geo+json")

    @app.get("/api/v1/units/{agency}/{unit}", tags=["live"])
    async def one_unit(agency: Agency, unit: UnitName, who: Annotated[Who, live]) -> dict[str, Any]:
        """One unit with all its states."""
        found = service.fleet.get(Topics(agency, unit))
        if found is None:
            raise HTTPException(404, "no such unit has ever been heard")
        told = found.told(service.now_ms(), service.settings.picture) | {"states": found.states}
        return told if who.may("events") else _without_call(told)

    @app.get("/api/v1/service", tags=["live"])
    async def how_is_it(_: Annotated[Who, live]) -> dict[str, Any]:
        """How the service itself is."""
        return service.service_state() | {"sizes": await _sizes(service)}


async def _frames(service: Service, who: Who) -> AsyncIterator[str]:
    hidden = {f"event: {event}" for event, needed in EVENT_PERMISSIONS.items() if not who.may(needed)}
    async for text in service.hub.follow(lambda: _seen_by(who, service.snapshot())):
        event, _, data = text.partition("\ndata: ")
        if event == "event: units" and not who.may("events"):
            yield frame("units", [_without_call(one) for one in json.loads(data)])
        elif event not in hidden:
            yield text


def _without_call(unit: dict[str, Any]) -> dict[str, Any]:
    """A unit for those whom a caller's address and notes do not concern."""
    call = unit["call"]
    return unit if call is None else unit | {"call": {"incident": call["incident"], "fields": {}}}


def _seen_by(who: Who, snapshot: dict[str, Any]) -> dict[str, Any]:
    """The whole picture, as far as somebody may see it."""
    if who.may("events"):
        return snapshot
    return snapshot | {"units": [_without_call(one) for one in snapshot["units"]], "calls": []}


async def _sizes(service: Service) -> dict[str, Any] | None:
    """How much is stored; None while the store is away, which `store` tells."""
    try:
        return await read(service, queries.sizes)
    except StoreError:
        return None


def geojson(service: Service) -> dict[str, Any]:
    """The fleet as a FeatureCollection."""
    now_ms = service.now_ms()
    return collection([unit.told(now_ms, service.settings.picture) for unit in service.fleet])
