"""What the crew does on its page in the middle of a drive; no fault, but it comes at a time like one."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, ClassVar, Literal

from pydantic import Field

from agent.panel.daemon_link import DaemonAwayError, DaemonLink
from hil.process.process_rig import ProcessRig
from hil.rig import NotOnThisRigError, RigKind
from hil.scenario.fault import Fault, Site

WITHIN_S = 30.0


class CrewDoes(Fault):
    """The page asks the daemon to `do` something, with `fields`, as docs/panel.md lists them."""

    rigs: ClassVar[tuple[RigKind, ...]] = ("process",)

    kind: Literal["crew_does"]
    do: str
    fields: dict[str, Any] = Field(default_factory=dict)
    refused: bool = False
    """Whether the daemon is to refuse it."""

    async def apply(self, site: Site) -> None:
        """Do it. Raises AssertionError when the daemon answers otherwise than it is to."""
        if not isinstance(site.rig, ProcessRig):
            raise NotOnThisRigError("the page's socket needs the process rig")
        link = DaemonLink(site.rig.directory / "panel.sock")
        running = asyncio.create_task(link.run(), name="crew-does")
        try:
            async with asyncio.timeout(WITHIN_S):
                answer = await self._answer(link)
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
        if ("error" in answer) != self.refused:
            raise AssertionError(f"crew_does {self.do}: {answer}")

    async def _answer(self, link: DaemonLink) -> dict[str, Any]:
        while True:
            try:
                return await link.act({"do": self.do, **self.fields})
            except DaemonAwayError:
                await asyncio.sleep(0.05)
