"""Runs in the machine: the computer sleeps and is woken by its clock chip, with a real daemon inside.

What it says, one line a check: `RESULT {"check": name, "ok": bool, "detail": text}`, then `DONE`.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path

from agent.app.daemon import Daemon
from agent.app.devices import validate
from agent.app.vehicle_platform import VehiclePlatform
from agent.domain.record import Draft, StatusChange
from agent.hal.errors import HardwareError
from firmware_shims.system_clock import SystemClock
from hil.kernel.console import say

STATE, ALARM = Path("/sys/power/state"), Path("/sys/class/rtc/rtc0/wakealarm")
CLOCK = SystemClock()
SLEEPS_S = 12
LIVES_WITHIN_S = 2.0


def sleep_for(seconds: int) -> None:
    """Suspend the computer; returns once its clock chip has woken it."""
    ALARM.write_text("0")
    ALARM.write_text(f"+{seconds}")
    STATE.write_text("mem")


def clocks_differ_by_the_sleep() -> str:
    """Boot time counts it, monotonic time does not."""
    before_s, monotonic_s, boot_s = CLOCK.suspended_ns() / 1e9, time.monotonic(), CLOCK.boottime_ns() / 1e9
    sleep_for(SLEEPS_S)
    slept_s = CLOCK.suspended_ns() / 1e9 - before_s
    passed_s, awake_s = CLOCK.boottime_ns() / 1e9 - boot_s, time.monotonic() - monotonic_s
    told = f"slept {slept_s:.2f} s by the clocks, awake {awake_s:.2f} s, boot time passed {passed_s:.2f} s"
    # A chip that tells whole seconds, read before and after.
    assert SLEEPS_S - 2.1 <= slept_s <= SLEEPS_S + 2.1, told
    assert abs(passed_s - slept_s - awake_s) < 0.1, told
    return told


def agent_lives_again_within_two_seconds() -> str:
    """The daemon notices, its timers are not fooled, and what is recorded over the sleep has its own time."""
    return asyncio.run(_over_a_sleep())


async def _over_a_sleep() -> str:
    folder = Path("/run/agent")
    config = validate(
        {
            "status_socket": str(folder / "mdt.sock"),
            "unit": {"agency": "rig", "unit": "A1"},
            "store": {"directory": str(folder / "store")},
            "uplink": {"brokers": [{"host": "127.0.0.1", "port": 9, "allow_plaintext": True}]},
        },
        folder / "agent.toml",
    )
    daemon = Daemon(config, VehiclePlatform())
    loop = asyncio.get_running_loop()
    noticed: asyncio.Future[float] = loop.create_future()
    tell = daemon.publisher.network_changed

    def network_changed() -> None:
        if CLOCK.suspended_ns() - slept_ns > 1e9 and not noticed.done():
            noticed.set_result(loop.time())
        tell()

    daemon.publisher.network_changed = network_changed  # type: ignore[method-assign]  # to see that it is called
    slept_ns = CLOCK.suspended_ns()
    running = loop.create_task(daemon.run())
    async with asyncio.timeout(40):
        while not daemon.outbox.boot or "running" not in daemon.status()["units"].values():
            await asyncio.sleep(0.05)
        before_ns = CLOCK.boottime_ns()
        sleeping = threading.Thread(target=sleep_for, args=(SLEEPS_S,))
        sleeping.start()
        # Commits go on until the computer sleeps, and after it wakes: one of them is under way.
        stamps = []
        while CLOCK.suspended_ns() - slept_ns < 1e9:
            stamps.append(CLOCK.boottime_ns())
            await daemon.outbox.put(Draft(daemon.time_base.stamp(stamps[-1]), _press(len(stamps))))
        woke_s = loop.time()
        after_ns = CLOCK.boottime_ns()
        stored = await daemon.outbox.put(Draft(daemon.time_base.stamp(after_ns), _press(0)))
        took_s = await noticed - woke_s
        sleeping.join()
    report = daemon.status()
    daemon.stop()
    await running
    told = (
        f"noticed {took_s:.2f} s after it woke; {stored} presses stored over it, "
        f"{(after_ns - before_ns) / 1e9:.1f} s of boot time"
    )
    assert took_s < LIVES_WITHIN_S, told
    assert stored == len(stamps) + 1, told
    assert after_ns - before_ns >= (SLEEPS_S - 2.1) * 1e9, told
    assert not {"store_slow", "unit_restarted", "store_io_error"} & set(report["health"]), report["health"]
    assert all(state == "running" for name, state in report["units"].items() if name != "network"), report
    return told


def _press(number: int) -> StatusChange:
    return StatusChange("on_scene" if number % 2 else "en_route", None, "key", None, None)


def main() -> None:
    """Run every check, in order."""
    for check in (clocks_differ_by_the_sleep, agent_lives_again_within_two_seconds):
        try:
            ok, detail = True, check()
        except (AssertionError, HardwareError, OSError, TimeoutError) as error:
            ok, detail = False, f"{type(error).__name__}: {error}"
        say("RESULT", json.dumps({"check": check.__name__, "ok": ok, "detail": detail}))
    say("DONE")


if __name__ == "__main__":
    if STATE.exists() and ALARM.exists():
        main()
    else:
        say("FAULT", "this kernel has no sleep that a clock chip ends")
