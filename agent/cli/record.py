"""mdt record: everything the drivers read, in one file."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from agent.app.devices import load
from agent.cli.exit_code import ExitCode
from agent.config import ConfigError


def record(config_path: Path, out: Path, for_s: float | None) -> int:
    """Record until SIGINT, SIGTERM or `for_s` seconds have passed. Returns the exit code."""
    try:
        config = load(config_path)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return ExitCode.BAD_CONFIG
    if out.exists():
        print(f"{out}: exists already; a recording is never overwritten", file=sys.stderr)
        return ExitCode.FAILED

    from agent.app import recording
    from agent.app.vehicle_platform import VehiclePlatform
    from agent.runtime import log

    log.set_up(config.log.level)

    async def until_stopped() -> str | None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        if for_s is not None:
            loop.call_later(for_s, stop.set)
        return await recording.record(config, VehiclePlatform(), out, stop)

    problem = asyncio.run(until_stopped())
    if problem is not None:
        print(f"{out}: not whole: {problem}", file=sys.stderr)
        return ExitCode.FAILED
    return ExitCode.OK
