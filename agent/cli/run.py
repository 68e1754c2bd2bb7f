"""mdt run: the daemon."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from agent.app.devices import load
from agent.cli.exit_code import ExitCode
from agent.config import ConfigError


def run(config_path: Path) -> int:
    """Run the agent until SIGTERM or SIGINT. Returns the exit code."""
    try:
        config = load(config_path)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return ExitCode.BAD_CONFIG

    from agent.app.daemon import Daemon
    from agent.app.vehicle_platform import VehiclePlatform
    from agent.runtime import log
    from agent.supervision.status_socket import DaemonRunningError
    from agent.supervision.supervisor import BudgetSpentError
    from firmware_shims.process_memory import one_malloc_arena

    one_malloc_arena()
    log.set_up(config.log.level)

    async def serve() -> int:
        try:
            daemon = Daemon(config, VehiclePlatform())
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, daemon.stop)
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

    return asyncio.run(serve())
