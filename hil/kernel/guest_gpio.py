"""Runs in the machine: the real GPIO shim on a simulated chip, its buttons pressed through the kernel.

What it says, one line a check: `RESULT {"check": name, "ok": bool, "detail": text}`, then `DONE`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from agent.hal.buttons import ButtonEdge, Lamp
from agent.hal.errors import DeviceLostError, DeviceNotFoundError, HardwareError
from firmware_shims.gpio_buttons import ButtonGpio, GpioButtons
from firmware_shims.system_clock import SystemClock
from hil.kernel.console import say

LIVE = Path("/sys/kernel/config/gpio-sim/panel/live")
CLOCK = SystemClock()
CHIP = Path("/run/buttons-gpio")
SETTINGS = ButtonGpio(chip=str(CHIP), lines={"on_scene": 2, "emergency": 3}, lamp_lines={"on_scene": 4})


class Wires:
    """The far ends of the simulated chip's lines. The keys connect to ground, as in a vehicle."""

    def __init__(self) -> None:
        (self._lines,) = Path("/sys/devices/platform/gpio-sim.0").glob("gpiochip*")

    def key(self, offset: int, *, down: bool) -> None:
        """Push a key down or let it go."""
        (self._lines / f"sim_gpio{offset}" / "pull").write_text("pull-down" if down else "pull-up")

    def lamp(self, offset: int) -> bool:
        """Whether a lamp has current."""
        return (self._lines / f"sim_gpio{offset}" / "value").read_text().strip() == "1"


async def edges_of(panel: GpioButtons, quiet_s: float = 0.3) -> list[ButtonEdge]:
    """All edges until there are none for `quiet_s`."""
    found: list[ButtonEdge] = []
    with suppress(TimeoutError):
        while True:
            async with asyncio.timeout(quiet_s):
                found += await panel.read()
    return found


def shape(edges: list[ButtonEdge]) -> str:
    """Edges for a person: `+on_scene -on_scene`, `?` behind inferred ones."""
    return " ".join(f"{'+' if e.pressed else '-'}{e.key}{'?' if e.inferred else ''}" for e in edges)


async def press_and_release(panel: GpioButtons, wires: Wires) -> str:
    """Two edges, stamped when they happened."""
    before_ns = CLOCK.boottime_ns()
    wires.key(2, down=True)
    await asyncio.sleep(0.1)
    middle_ns = CLOCK.boottime_ns()
    wires.key(2, down=False)
    edges = await edges_of(panel)
    assert shape(edges) == "+on_scene -on_scene", shape(edges)
    assert before_ns < edges[0].at_boottime_ns < middle_ns < edges[1].at_boottime_ns < CLOCK.boottime_ns()
    return f"press stamped {(edges[0].at_boottime_ns - before_ns) / 1e6:.1f} ms after it, debounced"


async def bounce_is_one_press(panel: GpioButtons, wires: Wires) -> str:
    """The kernel's debounce makes one press of many contacts."""
    for n in range(12):
        wires.key(2, down=n % 2 == 0)
        await asyncio.sleep(0.003)
    wires.key(2, down=True)
    down = await edges_of(panel)
    wires.key(2, down=False)
    up = await edges_of(panel)
    assert shape(down + up) == "+on_scene -on_scene", shape(down + up)
    return shape(down + up)


async def stuck_key_blocks_no_other(panel: GpioButtons, wires: Wires) -> str:
    """A key that is held leaves the others working."""
    wires.key(2, down=True)
    wires.key(3, down=True)
    wires.key(3, down=False)
    await asyncio.sleep(0.1)
    wires.key(3, down=True)
    await asyncio.sleep(0.1)
    wires.key(3, down=False)
    edges = await edges_of(panel)
    assert shape(edges) == "+on_scene +emergency -emergency", shape(edges)
    wires.key(2, down=False)
    assert shape(await edges_of(panel)) == "-on_scene"
    return shape(edges)


async def lamp_shows(panel: GpioButtons, wires: Wires) -> str:
    """Dark, blinking and lit reach the line."""
    await panel.show("on_scene", Lamp.STORED)
    assert wires.lamp(4)
    await panel.show("on_scene", Lamp.NOT_STORED)
    seen: set[bool] = set()
    async with asyncio.timeout(3):
        while seen != {True, False}:
            seen.add(wires.lamp(4))
            await asyncio.sleep(0.05)
    await panel.show("on_scene", Lamp.OFF)
    await asyncio.sleep(0.6)
    assert not wires.lamp(4)
    await panel.show("emergency", Lamp.STORED)  # has no lamp
    return "lit, blinking, dark"


async def overflow_ends_with_the_true_level(panel: GpioButtons, wires: Wires) -> str:
    """Edges beyond the kernel's queue are known to be lost, and the end is true."""
    await panel.close()
    raw = GpioButtons(SETTINGS.model_copy(update={"debounce_ms": 0}), CLOCK)
    await raw.open()
    try:
        for n in range(161):
            wires.key(2, down=n % 2 == 0)
            await asyncio.sleep(0.015)  # the simulated chip merges what comes faster
        edges = await edges_of(raw)
        told = f"161 edges, {len(edges)} told, {raw.lost_edges} known to be lost"
        assert edges[-1].pressed, told
        assert all(a.pressed != b.pressed for a, b in pairwise(edges)), told
        assert raw.lost_edges > 0, told
        return told
    finally:
        await raw.close()
        wires.key(2, down=False)
        await panel.open()
        await edges_of(panel)


async def key_down_at_open_is_no_press(panel: GpioButtons, wires: Wires) -> str:
    """Nobody knows when it was pressed."""
    await panel.close()
    wires.key(3, down=True)
    # The simulated chip obeys a bias as if it were the key: asked to pull up, it would let the key go.
    fresh = GpioButtons(SETTINGS.model_copy(update={"bias": "as_is"}), CLOCK)
    await fresh.open()
    edges = await edges_of(fresh, 1.3)
    assert not edges, shape(edges)
    wires.key(3, down=False)
    edges = await edges_of(fresh)
    assert shape(edges) == "-emergency", shape(edges)
    await fresh.close()
    await panel.open()
    return shape(edges)


async def line_in_use_is_said(panel: GpioButtons, wires: Wires) -> str:
    """A second program gets a named error."""
    del wires
    try:
        await GpioButtons(SETTINGS, CLOCK).open()
    except DeviceNotFoundError as error:
        return str(error)
    raise AssertionError(f"{panel.name} was requested twice")


def plug_in() -> None:
    """Make the chip appear, under a name that stays the same, as udev's do: its number may not."""
    if LIVE.read_text().strip() != "1":
        LIVE.write_text("1")
    (chip,) = Path("/dev").glob("gpiochip*")
    CHIP.unlink(missing_ok=True)
    CHIP.symlink_to(chip)


async def removal_is_noticed(panel: GpioButtons, wires: Wires) -> str:
    """A chip that goes away is lost."""
    del wires
    asyncio.get_running_loop().call_later(0.2, LIVE.write_text, "0")
    from_ns = CLOCK.boottime_ns()
    try:
        async with asyncio.timeout(5):
            await panel.read()
    except DeviceLostError as error:
        return f"{error} after {(CLOCK.boottime_ns() - from_ns) / 1e9 - 0.2:.2f} s"
    finally:
        await panel.close()
    raise AssertionError("read gave edges of a chip that is gone")


async def plugged_in_again(panel: GpioButtons, wires: Wires) -> str:
    """And it is there again when it comes back."""
    try:
        await panel.open()
    except DeviceNotFoundError as error:
        said = str(error)
    plug_in()
    wires = Wires()
    for offset in (2, 3):
        wires.key(offset, down=False)
    await panel.open()
    await edges_of(panel)  # the simulated lines came back pulled down for a moment
    wires.key(2, down=True)
    edges = await edges_of(panel)
    assert shape(edges) == "+on_scene", shape(edges)
    return f"{said}; then {shape(edges)}"


CHECKS: tuple[Callable[[GpioButtons, Wires], Awaitable[str]], ...] = (
    press_and_release,
    bounce_is_one_press,
    stuck_key_blocks_no_other,
    lamp_shows,
    overflow_ends_with_the_true_level,
    key_down_at_open_is_no_press,
    line_in_use_is_said,
    removal_is_noticed,
    plugged_in_again,
)


async def main() -> None:
    """Run every check on one panel, in order."""
    plug_in()
    wires = Wires()
    for offset in (2, 3):
        wires.key(offset, down=False)
    panel = GpioButtons(SETTINGS, CLOCK)
    await panel.open()
    for check in CHECKS:
        try:
            ok, detail = True, await check(panel, wires)
        except (AssertionError, HardwareError, OSError, TimeoutError) as error:
            ok, detail = False, f"{type(error).__name__}: {error}"
        say("RESULT", json.dumps({"check": check.__name__, "ok": ok, "detail": detail}))
    await panel.close()
    say("DONE")


if __name__ == "__main__":
    asyncio.run(main())
