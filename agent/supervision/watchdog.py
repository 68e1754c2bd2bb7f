"""Feeds systemd's watchdog, and only when every unit reported progress."""

from __future__ import annotations

import asyncio

from agent.runtime.log import EventLog
from agent.supervision.service_manager import ServiceManager
from agent.supervision.supervisor import Supervisor

log = EventLog("watchdog")


async def feed(manager: ServiceManager, supervisor: Supervisor) -> None:
    """Run until cancelled. Without a watchdog in the unit file it still watches, for the log."""
    interval_s = (manager.watchdog_interval_s or 10) / 3
    starving = False
    while True:
        laggards = supervisor.laggards()
        if not laggards:
            manager.alive()
        elif not starving:
            log.error("watchdog_starves", units=",".join(laggards))
        starving = bool(laggards)
        await asyncio.sleep(interval_s)
