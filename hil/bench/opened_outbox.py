"""The real outbox on a folder, with its upkeep running, as the daemon has it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from agent import config
from agent.domain.health import HealthBoard
from agent.outbox.outbox import Outbox
from agent.runtime.worker import ThreadWorker
from firmware_shims.system_clock import SystemClock

AMPLE_MIB = 16_384
"""A budget that no benchmark reaches: thinning is not what they measure."""


@contextlib.asynccontextmanager
async def opened_outbox(folder: Path) -> AsyncIterator[Outbox]:
    """The outbox, opened; closed in order at the end."""
    settings = config.Store(directory=folder, budget_mib=AMPLE_MIB, replay_budget_mib=AMPLE_MIB)
    outbox = Outbox(settings, SystemClock(), ThreadWorker(), HealthBoard())
    await outbox.open()
    upkeep = asyncio.create_task(outbox.run(lambda: None))
    try:
        yield outbox
    finally:
        upkeep.cancel()
        await asyncio.gather(upkeep, return_exceptions=True)
        await outbox.close()
