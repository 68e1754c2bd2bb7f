"""Routes of what people do: steps of alarms, commands to units, and what became of those.

Annotations are evaluated here: the framework reads those that name something local.
"""

from typing import Annotated, Any

from fastapi import Body, FastAPI, Header, HTTPException, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from agent.dispatch import pieces, queries
from agent.dispatch.access import Access, Who
from agent.dispatch.commands import COMMANDS, WEEK_S, Answer, Command, Fields, told
from agent.dispatch.gate import Agency, MaybeName, UnitName, allowed, read
from agent.dispatch.service import Service
from agent.wire.topics import Topics

SHELVE_MOST_S = 8 * 3600
WAIT_MOST_S = 30.0


class AlarmStep(BaseModel):
    """What a dispatcher does with an alarm."""

    model_config = ConfigDict(extra="forbid")
    step: Annotated[str, Field(pattern="^(acknowledge|close|shelve)$")]
    for_s: Annotated[int, Field(ge=60, le=SHELVE_MOST_S)] = 900


def add_actions(app: FastAPI, service: Service, access: Access) -> None:
    """Routes of what people do."""
    _add_alarm_steps(app, service, access)
    for name, command in COMMANDS.items():
        _add_command(app, service, access, name, command)
    _add_outcomes(app, service, access)


def _add_alarm_steps(app: FastAPI, service: Service, access: Access) -> None:
    @app.post("/api/v1/alarms/{alarm_id}", tags=["actions"])
    async def alarm_step(
        alarm_id: int, given: AlarmStep, who: Annotated[Who, allowed(access, "alarm")]
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
        *,
        agency: Agency,
        unit: UnitName,
        who: Annotated[Who, allowed(access, command.permission)],
        fields: Annotated[Fields, Body()],
        idempotency_key: Annotated[str | None, Header(pattern=r"^[A-Za-z0-9_-]{8,64}$")] = None,
        wait_s: Annotated[float, Query(ge=0, le=WAIT_MOST_S)] = 0.0,
        valid_s: Annotated[float | None, Query(gt=0, le=WEEK_S)] = None,
    ) -> dict[str, Any]:
        topics = Topics(agency, unit)
        if service.fleet.get(topics) is None:
            raise HTTPException(404, "no such unit has ever been heard")
        done = await service.command(who, name, topics, told(fields), idempotency_key, valid_s=valid_s)
        if isinstance(fields, Answer) and not done["done"]:
            raise HTTPException(409, "there is no such status, or it was decided")
        if wait_s == 0:
            return done
        return done | (await service.outcome(done["id"], wait_s) or {})

    give.__annotations__["fields"] = Annotated[command.fields, Body()]
    give.__doc__ = f"{command.sentence} `wait_s`: how long to wait for what becomes of it."
    app.post(f"/api/v1/units/{{agency}}/{{unit}}/{name}", tags=["actions"], operation_id=name)(give)


def _add_outcomes(app: FastAPI, service: Service, access: Access) -> None:
    def names_of(who: Who) -> list[str]:
        return [name for name, row in COMMANDS.items() if who.may(row.permission) or who.may("events")]

    vehicle = allowed(access, "vehicle")

    @app.get("/api/v1/commands", tags=["actions"])
    async def commands(
        who: Annotated[Who, vehicle],
        agency: MaybeName = None,
        unit: MaybeName = None,
    ) -> list[dict[str, Any]]:
        """What units were told, newest first, each with its last outcome; of one unit when both are given."""
        topics = None if agency is None or unit is None else Topics(agency, unit)
        return await read(service, lambda c: queries.commands(c, topics=topics, names=names_of(who)))

    async def one_command(who: Who, command_id: str, wait_s: float) -> dict[str, Any]:
        told_of = await service.outcome(command_id, wait_s)
        if told_of is None or told_of["name"] not in names_of(who):
            raise HTTPException(404, "no such command")
        return told_of

    @app.get("/api/v1/commands/{command_id}", tags=["actions"])
    async def command(
        command_id: str,
        who: Annotated[Who, vehicle],
        wait_s: Annotated[float, Query(ge=0, le=WAIT_MOST_S)] = 0.0,
    ) -> dict[str, Any]:
        """A command with every answer of the unit; `outcome` unanswered says that its time is over."""
        return await one_command(who, command_id, wait_s)

    @app.get("/api/v1/commands/{command_id}/file", tags=["actions"])
    async def fetched(command_id: str, who: Annotated[Who, vehicle]) -> Response:
        """What a `fetch` brought, put together and held against its digest."""
        try:
            name, content = pieces.whole(await one_command(who, command_id, 0))
        except pieces.IncompleteError as error:
            raise HTTPException(409, str(error)) from error
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(content, media_type="application/octet-stream", headers=headers)
