"""mdt run: the daemon."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.app.devices import load
from agent.cli.exit_code import ExitCode
from agent.config import Config, ConfigError

if TYPE_CHECKING:
    from agent.app.platform import Platform


def run(config_path: Path) -> int:
    """Run the agent until SIGTERM or SIGINT. Returns the exit code."""
    try:
        config = load(config_path)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return ExitCode.BAD_CONFIG

    from agent.app.vehicle_platform import VehiclePlatform
    from agent.runtime import log
    from firmware_shims.process_memory import one_malloc_arena

    one_malloc_arena()
    log.set_up(config.log.level)
    return run_daemon(config, VehiclePlatform())


def run_daemon(config: Config, platform: Platform) -> int:
    """Run the agent on a platform until SIGTERM or SIGINT. Returns the exit code.

    Once a stop began, this process ends within the deadlines of the configuration, whatever hangs: at the
    last with exit code 1 and the place where each thread stood.
    """
    from agent.app.daemon import Daemon
    from agent.supervision.staged_stop import end_threads, end_within
    from agent.supervision.status_socket import DaemonRunningError
    from agent.supervision.supervisor import BudgetSpentError

    async def serve() -> int:
        try:
            daemon = Daemon(config, platform, end_within=end_within)
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(_unhandled)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, daemon.stop)
            await daemon.run()
        except ConfigError as error:
            for problem in error.problems:
                print(problem, file=sys.stderr)
            return ExitCode.BAD_CONFIG
        except BudgetSpentError:
            return ExitCode.SOFTWARE
        except DaemonRunningError as error:
            print(error, file=sys.stderr)
            return ExitCode.UNAVAILABLE
        return ExitCode.OK

    others = threading.enumerate()
    return end_threads(asyncio.run(serve()), spare=others)


def _unhandled(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody caught, as a line of our log: asyncio's own would show the repr of what was raised."""
    from agent.runtime.log import EventLog

    EventLog("daemon").error("unhandled", what=context["message"], exc=context.get("exception"))
