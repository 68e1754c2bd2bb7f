"""What dispatch does to the vehicle in the middle of a drive; no fault, but it comes at a time like one."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from agent.dispatch.commands import COMMANDS
from agent.wire.topics import Topics
from hil.process.vehicle_config import AGENCY, UNIT
from hil.scenario.fault import Fault, Site


class DispatchTells(Fault):
    """Dispatch gives a `command` with its `fields`, `times` times over, as a broker may deliver it."""

    kind: Literal["dispatch_tells"]
    command: str
    fields: dict[str, Any]
    times: int = Field(1, ge=1, le=100)

    @model_validator(mode="after")
    def _as_dispatch_would(self) -> DispatchTells:
        if self.command not in COMMANDS:
            raise ValueError(f"command is none of {', '.join(sorted(COMMANDS))}")
        COMMANDS[self.command].fields(**self.fields)
        return self

    async def apply(self, site: Site) -> None:
        """Tell it."""
        for _ in range(self.times):
            command_id = f"{self.command}-{self.at_s:g}"
            site.rig.dispatch.command(Topics(AGENCY, UNIT), self.command, command_id, **self.fields)
