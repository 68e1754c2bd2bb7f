"""Routes of the past: days, tracks, events, incidents, trips, what people did, and statistics.

Annotations are evaluated here: the framework reads those that name something local.
"""

from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Response
from fastapi.responses import JSONResponse

from agent.dispatch import queries, vital
from agent.dispatch.access import Access, Who
from agent.dispatch.gate import Agency, AsciiJson, Limit, Milliseconds, UnitName, allowed, read
from agent.dispatch.service import Service
from agent.dispatch.store.engine import Connection
from agent.domain.health import HealthReason
from agent.domain.record import Kind
from agent.wire.topics import Topics

DAY_MS = 86_400_000


def add_past(app: FastAPI, service: Service, access: Access) -> None:
    """Routes of the past."""
    for add in (_add_days, _add_vehicles, _add_happenings, _add_doings, _add_statistics):
        add(app, service, access)


def _add_days(app: FastAPI, service: Service, access: Access) -> None:
    tracks, events = allowed(access, "tracks"), allowed(access, "events")

    @app.get("/api/v1/units/{agency}/{unit}/days/{day}", tags=["past"])
    async def a_day(agency: Agency, unit: UnitName, day: date, _: Annotated[Who, events]) -> dict[str, Any]:
        """Everything that a unit told on one day of UTC."""
        since_ms, until_ms = _day(day)
        rows = await read(
            service,
            lambda c: queries.records(c, since_ms=since_ms, until_ms=until_ms, topics=Topics(agency, unit)),
        )
        return {"complete": len(rows) < queries.MOST_ROWS, "records": rows}

    @app.get("/api/v1/units/{agency}/{unit}/track", tags=["past"])
    async def track(
        agency: Agency, unit: UnitName, since: Milliseconds, until: Milliseconds, _: Annotated[Who, tracks]
    ) -> JSONResponse:
        """Where a unit was between two times (Unix ms), as GeoJSON."""
        rows = await read(
            service,
            lambda c: queries.records(
                c, since_ms=since, until_ms=until, topics=Topics(agency, unit), kinds=(Kind.POSITION,)
            ),
        )
        return AsciiJson(track_geojson(rows), media_type="application/geo+json")


def _add_vehicles(app: FastAPI, service: Service, access: Access) -> None:
    vehicle = allowed(access, "vehicle")

    @app.get("/api/v1/units/{agency}/{unit}/trips", tags=["past"])
    async def trips(
        agency: Agency, unit: UnitName, since: Milliseconds, until: Milliseconds, _: Annotated[Who, vehicle]
    ) -> list[dict[str, Any]]:
        """Trips that ended between two times (Unix ms): distance, idling, fuel, top speed, driving events."""
        return await read(service, lambda c: _of_kind(c, Kind.TRIP, Topics(agency, unit), since, until))

    @app.get("/api/v1/units/{agency}/{unit}/health", tags=["past"])
    async def health(
        agency: Agency, unit: UnitName, since: Milliseconds, until: Milliseconds, _: Annotated[Who, vehicle]
    ) -> dict[str, Any]:
        """How the vehicle's computer is now, in words, and what it told between two times (Unix ms)."""
        found = service.fleet.get(Topics(agency, unit))
        if found is None:
            raise HTTPException(404, "no such unit has ever been heard")
        now = found.states.get("health")
        return {
            "online": found.online,
            "now": now,
            "words": [sentence_of(reason) for reason in (now or {}).get("reasons", [])],
            "history": await read(
                service, lambda c: _of_kind(c, Kind.HEALTH, Topics(agency, unit), since, until)
            ),
        }


def _add_happenings(app: FastAPI, service: Service, access: Access) -> None:
    tracks, events = allowed(access, "tracks"), allowed(access, "events")

    @app.get("/api/v1/events", tags=["past"])
    async def all_events(
        since: Milliseconds, until: Milliseconds, _: Annotated[Who, events], limit: Limit = 5000
    ) -> list[dict[str, Any]]:
        """Presses, emergencies, alerts and gaps of all units between two times (Unix ms), oldest first."""
        return await read(
            service, lambda c: queries.rare_records(c, since_ms=since, until_ms=until, limit=limit)
        )

    @app.get("/api/v1/incidents", tags=["past"])
    async def incidents(
        since: Milliseconds, until: Milliseconds, _: Annotated[Who, events]
    ) -> list[dict[str, Any]]:
        """Incidents between two times (Unix ms), each with its units and when they reached each step."""
        return await read(service, lambda c: vital.incidents(c, since, until))

    @app.get("/api/v1/replay", tags=["past"])
    async def replay(since: Milliseconds, until: Milliseconds, _: Annotated[Who, tracks]) -> dict[str, Any]:
        """Positions, statuses and emergencies of all units between two times, to be played on the page."""
        if until - since > 2 * DAY_MS:
            raise HTTPException(422, "at most two days at once")
        kinds = (Kind.POSITION, Kind.STATUS, Kind.EMERGENCY)
        rows = await read(service, lambda c: queries.records(c, since_ms=since, until_ms=until, kinds=kinds))
        return {"complete": len(rows) < queries.MOST_ROWS, "records": rows}


def _add_doings(app: FastAPI, service: Service, access: Access) -> None:
    events = allowed(access, "events")

    @app.get("/api/v1/calls", tags=["past"])
    async def calls(
        _: Annotated[Who, events], since: Milliseconds = 0, *, open_only: bool = False
    ) -> list[dict[str, Any]]:
        """Calls as they were assigned here, newest first."""
        return await read(service, lambda c: queries.calls(c, open_only=open_only, since_ms=since))

    @app.get("/api/v1/alarms", tags=["past"])
    async def alarms(_: Annotated[Who, events], *, open_only: bool = True) -> list[dict[str, Any]]:
        """Alarms, newest first."""
        return await read(service, lambda c: queries.alarms(c, open_only=open_only))

    @app.get("/api/v1/actions", tags=["past"])
    async def actions(_: Annotated[Who, allowed(access, "actions")]) -> list[dict[str, Any]]:
        """Who did what, newest first."""
        return await read(service, queries.actions)

    @app.get("/api/v1/answers", tags=["past"])
    async def waiting(_: Annotated[Who, events]) -> list[dict[str, Any]]:
        """Statuses on which nobody has decided yet."""
        return await read(service, queries.waiting_answers)


def _add_statistics(app: FastAPI, service: Service, access: Access) -> None:
    allowed_to = allowed(access, "statistics")

    def found_by(connection: Connection, since_ms: int, until_ms: int) -> list[vital.Figure]:
        file = service.settings.districts
        shapes = None if file is None else vital.read_districts(file)
        return vital.figures(connection, since_ms, until_ms, shapes, now_ms=service.now_ms())

    @app.get("/api/v1/statistics", tags=["past"])
    async def statistics(
        since: Milliseconds, until: Milliseconds, _: Annotated[Who, allowed_to]
    ) -> list[dict[str, Any]]:
        """Vital statistics between two times, each with its definition and its number of cases."""
        return [asdict(one) for one in await read(service, lambda c: found_by(c, since, until))]

    @app.get("/api/v1/statistics.csv", tags=["past"])
    async def statistics_csv(
        since: Milliseconds, until: Milliseconds, _: Annotated[Who, allowed_to]
    ) -> Response:
        """The same for a spreadsheet."""
        found = await read(service, lambda c: found_by(c, since, until))
        return Response(vital.as_csv(found), media_type="text/csv")


def _of_kind(
    connection: Connection, kind: Kind, topics: Topics, since_ms: int, until_ms: int
) -> list[dict[str, Any]]:
    return queries.records(connection, since_ms=since_ms, until_ms=until_ms, topics=topics, kinds=(kind,))


def sentence_of(reason: str) -> str:
    """A health reason in a sentence; the token itself where a vehicle knows more of them than we do."""
    try:
        return HealthReason(reason).sentence
    except ValueError:
        return reason.replace("_", " ")


def _day(day: date) -> tuple[int, int]:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    since_ms = round(start.timestamp() * 1000)
    return since_ms, since_ms + int(timedelta(days=1).total_seconds() * 1000)


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
