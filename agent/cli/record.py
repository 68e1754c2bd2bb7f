"""mdt record: everything the drivers read, in one file."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from agent.app.devices import load
from agent.cli.exit_code import ExitCode
from agent.config import Config, ConfigError


def record(config_path: Path, out: Path, for_s: float | None) -> int:
    """Record until SIGINT, SIGTERM or `for_s` seconds have passed. Returns the exit code.

    Only one program can read a device: beside a running agent nothing is recorded, and that is said.
    """
    try:
        config = load(config_path)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return ExitCode.BAD_CONFIG
    refusal = _refusal(config, config_path, out)
    if refusal is not None:
        code, why = refusal
        print(why, file=sys.stderr)
        return code

    from agent.app import recording
    from agent.app.vehicle_platform import VehiclePlatform
    from agent.runtime import log

    log.set_up(config.log.level)

    async def until_stopped() -> recording.Recorded:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        if for_s is not None:
            loop.call_later(for_s, stop.set)
        return await recording.record(config, VehiclePlatform(), out, stop)

    recorded = asyncio.run(until_stopped())
    for name, why in recorded.silent.items():
        print(f"{name}: nothing was heard{': ' * bool(why)}{why}", file=sys.stderr)
    if recorded.problem is not None:
        print(f"{out}: not whole: {recorded.problem}", file=sys.stderr)
        return ExitCode.FAILED
    if not recorded.heard:
        out.unlink(missing_ok=True)
        print(f"{out}: not made: no device said anything", file=sys.stderr)
        return ExitCode.FAILED
    return ExitCode.OK


def _refusal(config: Config, config_path: Path, out: Path) -> tuple[ExitCode, str] | None:
    """Why nothing can be recorded, with the exit code; None when it can."""
    from agent.supervision.daemon_answer import DaemonAwayError, ask

    if not config.devices:
        return ExitCode.BAD_CONFIG, f"{config_path}: there is no [[device]] to record"
    if out.exists():
        return ExitCode.FAILED, f"{out}: exists already; a recording is never overwritten"
    try:
        ask(config.status_socket, "status")
    except DaemonAwayError:
        return None
    box = (
        "its black box is off (no [recorder] in the configuration)"
        if config.recorder is None
        else f"its black box records the same to {config.recorder.directory}"
    )
    return ExitCode.UNAVAILABLE, f"the agent is running and has the devices: stop it first; {box}"
