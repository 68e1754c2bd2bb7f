"""What a fault is: settings from a scenario, with a way to apply it to a rig and to lift it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import Field

from agent.config import Section
from hil.rig import Rig, RigKind
from hil.scenario.wiring import Wiring


@dataclass(slots=True)
class Site:
    """Where a fault is applied.

    Attributes:
        rig: the rig.
        wiring: the way from the drive to the rig.
        rng: the fault's own randomness.
        tasks: what the fault has running; ended when it is lifted.
        notes: for `lift`, whatever `apply` left.
    """

    rig: Rig
    wiring: Wiring
    rng: random.Random
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    def run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Keep `work` running until the fault is lifted."""
        self.tasks.append(asyncio.get_running_loop().create_task(work, name=name))

    async def end_tasks(self) -> None:
        """End what runs."""
        for task in self.tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self.tasks.clear()


class Fault(Section):
    """Settings that every fault has. Times are seconds of the drive."""

    rigs: ClassVar[tuple[RigKind, ...]] = ("sim", "process")
    """Rigs that can do it."""
    cuts_off: ClassVar[bool] = False
    """Dispatch can not hear of the vehicle while it lasts."""
    takes_fix: ClassVar[bool] = False
    """There is no true position to be had while it lasts."""

    at_s: float = Field(ge=0)
    for_s: float = Field(0, ge=0)

    @property
    def name(self) -> str:
        """The kind."""
        return str(getattr(self, "kind", type(self).__name__))

    async def apply(self, site: Site) -> None:
        """Begin. Raises NotOnThisRigError."""
        raise NotImplementedError

    async def lift(self, site: Site) -> None:
        """End: the rig is as before."""
        await site.end_tasks()
