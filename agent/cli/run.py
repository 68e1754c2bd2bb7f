"""mdt run: the daemon."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.app.devices import load, validate
from agent.app.patches import Patches, configured
from agent.cli.exit_code import ExitCode
from agent.config import Config, ConfigError
from agent.runtime.log import EventLog, set_up
from agent.runtime.plain_text import told
from agent.runtime.shortage import is_passing
from agent.supervision.staged_stop import end_threads, end_within

if TYPE_CHECKING:
    from agent.app.platform import Platform

AGAIN = 75
"""A restart by command; EX_TEMPFAIL of sysexits.h, should the program not be run anew."""


AGAIN_AFTER_S = 1.0
"""From one try to start to the next, while the computer lacks what a start needs."""


def run(config_path: Path) -> int:
    """Run the agent until SIGTERM or SIGINT. Returns the exit code.

    While no descriptor is free, or the disk can not be read, a start is tried again and again: systemd would
    restart the whole computer after 200 of them, which mends neither.
    """
    said = ""
    while True:
        try:
            return _run(config_path)
        except (OSError, ImportError, MemoryError) as error:
            if not is_passing(error):
                raise
            why = told(error)
            if why != said:
                print(f"the agent can not start now, and tries again: {why}", file=sys.stderr)
            said = why
        end_threads(ExitCode.FAILED)
        threading.Event().wait(AGAIN_AFTER_S)


def _run(config_path: Path) -> int:
    try:
        config, patches = configured(config_path, load, validate)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return ExitCode.BAD_CONFIG

    from agent.app.vehicle_platform import VehiclePlatform
    from firmware_shims.process_memory import one_malloc_arena

    one_malloc_arena()
    set_up(config.log.level)
    code = run_daemon(config, VehiclePlatform(), patches)
    if code == AGAIN:
        sys.stdout.flush()
        sys.stderr.flush()
        # The same process, a fresh program: nothing of this run is left, whoever started it sees no end.
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # what was run before
    return code


def run_daemon(config: Config, platform: Platform, patches: Patches | None = None) -> int:
    """Run the agent on a platform until SIGTERM or SIGINT. Returns the exit code, AGAIN for a restart.

    Once a stop began, this process ends within the deadlines of the configuration, whatever hangs: at the
    last with exit code 1 and the place where each thread stood.

    Raises:
        OSError, ImportError, MemoryError: it could not start for what this computer lacks at the moment.
    """
    from agent.app.daemon import Daemon
    from agent.supervision.status_socket import DaemonRunningError
    from agent.supervision.supervisor import BudgetSpentError

    async def serve() -> int:
        daemon: Daemon | None = None
        try:
            daemon = Daemon(config, platform, patches=patches, end_within=end_within)
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(_unhandled)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, daemon.stop)
            await daemon.run()
        except ConfigError as error:
            for problem in error.problems:
                print(problem, file=sys.stderr)
            return AGAIN if _taken_back(patches, error) else ExitCode.BAD_CONFIG
        except BudgetSpentError:
            return ExitCode.SOFTWARE
        except DaemonRunningError as error:
            print(error, file=sys.stderr)
            return ExitCode.UNAVAILABLE
        except (OSError, ImportError, MemoryError) as error:
            if daemon is None or not daemon.was_ready:
                raise
            # systemd was told of the stop, and waits for our end.
            EventLog("daemon").error("ended", error=error, exc=error)
            return ExitCode.FAILED
        return AGAIN if daemon.again else ExitCode.OK

    others = threading.enumerate()
    return end_threads(asyncio.run(serve()), spare=others)


def _taken_back(patches: Patches | None, error: ConfigError) -> bool:
    """Whether a change that is on trial may be why nothing runs, and is not in use any more.

    One that was confirmed has run before: then it is something else, which the person must be told.
    """
    if patches is None or patches.trial is None:
        return False
    try:
        patches.roll_back(error.problems[0])
    except OSError as refusal:
        print(f"a change from afar can not be taken back: {refusal.strerror}", file=sys.stderr)
        return False
    return True


def _unhandled(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody caught, as a line of our log: asyncio's own would show the repr of what was raised."""
    EventLog("daemon").error("unhandled", what=context["message"], exc=context.get("exception"))
