"""What dispatch does to the vehicle in the middle of a drive; no fault, but it comes at a time like one."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from agent.dispatch.commands import COMMANDS
from agent.domain.crew import EMERGENCY
from agent.domain.record import Emergency, StatusChange
from agent.wire.topics import Topics
from hil.process.vehicle_config import AGENCY, UNIT
from hil.scenario.fault import Fault, Site


class DispatchTells(Fault):
    """Dispatch gives a `command` with its `fields`, `times` times over, as a broker may deliver it.

    With `of` it is about the newest record that dispatch has of that status, or of an emergency: its journal
    and number are put among the fields.
    """

    kind: Literal["dispatch_tells"]
    command: str
    fields: dict[str, Any]
    times: int = Field(1, ge=1, le=100)
    of: str | None = None
    by: str | None = None

    @model_validator(mode="after")
    def _as_dispatch_would(self) -> DispatchTells:
        if self.command not in COMMANDS:
            raise ValueError(f"command is none of {', '.join(sorted(COMMANDS))}")
        COMMANDS[self.command].fields(**self.fields, **({} if self.of is None else {"journal": 1, "seq": 1}))
        return self

    async def apply(self, site: Site) -> None:
        """Tell it."""
        for _ in range(self.times):
            command_id = f"{self.command}-{self.at_s:g}"
            fields = {**self.fields, **self._about(site)}
            site.rig.dispatch.command(Topics(AGENCY, UNIT), self.command, command_id, by=self.by, **fields)

    def _about(self, site: Site) -> dict[str, int]:
        """Journal and number of what it is about. Raises AssertionError when dispatch has nothing of it."""
        if self.of is None:
            return {}
        for arrival in reversed(site.rig.dispatch.arrivals):
            body = arrival.record.body
            if isinstance(body, Emergency if self.of == EMERGENCY else StatusChange) and (
                isinstance(body, Emergency) or body.status == self.of
            ):
                return {"journal": arrival.record.journal, "seq": arrival.record.seq}
        raise AssertionError(f"dispatch has no record of {self.of} yet")
