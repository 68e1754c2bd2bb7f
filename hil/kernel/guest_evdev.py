"""Runs in the machine: the real shim for input devices on keyboards that the kernel makes (uinput).

What it says, one line a check: `RESULT {"check": name, "ok": bool, "detail": text}`, then `DONE`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from agent.hal.buttons import ButtonEdge, Lamp
from agent.hal.errors import DeviceLostError, DeviceNotFoundError, HardwareError
from firmware_shims.evdev_buttons import ButtonEvdev, EvdevButtons
from firmware_shims.input_device import KEYS, LEDS
from firmware_shims.system_clock import SystemClock
from hil.kernel.console import say
from hil.kernel.uinput import VirtualKeyboard

CLOCK = SystemClock()
ON_SCENE, EMERGENCY, OTHER = KEYS["KEY_KP1"], KEYS["KEY_KP2"], KEYS["KEY_A"]
NAME, PHYS = "Cheap Keys", "usb-1/input0"
SETTINGS = ButtonEvdev.model_validate(
    {
        "device_name": NAME,
        "codes": {"on_scene": ON_SCENE, "emergency": EMERGENCY},
        "lamp_leds": {"on_scene": "scroll"},
    }
)


def keyboard(name: str = NAME, phys: str = PHYS) -> VirtualKeyboard:
    """One like the crew's."""
    return VirtualKeyboard(name, phys, (ON_SCENE, EMERGENCY, OTHER), (LEDS["num"], LEDS["scroll"]))


class Bench:
    """The keyboard that is plugged in, and the driver."""

    def __init__(self) -> None:
        self.keys = keyboard()
        self.panel = EvdevButtons(SETTINGS, CLOCK)

    async def edges(self, quiet_s: float = 0.3) -> list[ButtonEdge]:
        """All edges until there are none for a while."""
        found: list[ButtonEdge] = []
        with suppress(TimeoutError):
            while True:
                async with asyncio.timeout(quiet_s):
                    found += await self.panel.read()
        return found


def shape(edges: list[ButtonEdge]) -> str:
    """Edges for a person: `+on_scene -on_scene`, `?` behind inferred ones."""
    return " ".join(f"{'+' if e.pressed else '-'}{e.key}{'?' if e.inferred else ''}" for e in edges)


async def press_and_release(bench: Bench) -> str:
    """Two edges, stamped by boot time when they happened."""
    before_ns = CLOCK.boottime_ns()
    bench.keys.key(ON_SCENE, down=True)
    middle_ns = CLOCK.boottime_ns()
    await asyncio.sleep(0.1)
    bench.keys.key(ON_SCENE, down=False)
    edges = await bench.edges()
    assert shape(edges) == "+on_scene -on_scene", shape(edges)
    assert before_ns - 1000 <= edges[0].at_boottime_ns <= middle_ns < edges[1].at_boottime_ns
    return f"stamped {(edges[0].at_boottime_ns - before_ns) / 1e6:.2f} ms after it"


async def bounce_is_one_press(bench: Bench) -> str:
    """Contacts that bounce are one press, and counted."""
    for n in range(13):
        bench.keys.key(ON_SCENE, down=n % 2 == 0)
    edges = await bench.edges()
    bench.keys.key(ON_SCENE, down=False)
    edges += await bench.edges()
    assert shape(edges) == "+on_scene -on_scene", shape(edges)
    assert bench.panel.noise()["on_scene"] >= 6
    return f"{shape(edges)}, {bench.panel.noise()['on_scene']} bounces counted"


async def nobody_else_reads_it(bench: Bench) -> str:
    """What is pressed in the cab is typed nowhere, and a second agent is refused in words."""
    del bench
    try:
        await EvdevButtons(SETTINGS, CLOCK).open()
        said = "it was taken twice"
    except DeviceNotFoundError as error:
        said = error.why
    assert "another program" in said, said
    return said


async def lamp_is_an_led(bench: Bench) -> str:
    """Dark, blinking and lit reach the keyboard."""
    await bench.panel.show("on_scene", Lamp.STORED)
    assert bench.keys.look() == {LEDS["scroll"]: True}, bench.keys.look()
    await bench.panel.show("on_scene", Lamp.NOT_STORED)
    seen: set[bool] = set()
    async with asyncio.timeout(5):
        while seen != {True, False}:
            seen.add(bench.keys.look()[LEDS["scroll"]])
            await asyncio.sleep(0.05)
    await bench.panel.show("on_scene", Lamp.OFF)
    assert bench.keys.look() == {LEDS["scroll"]: False}
    return "lit, blinking, dark"


async def overflow_ends_with_the_true_level(bench: Bench) -> str:
    """Beyond the kernel's queue the levels are read anew."""
    for n in range(2001):
        bench.keys.send((1, OTHER, n % 2), (1, ON_SCENE, (n + 1) % 2))
    edges = await bench.edges()
    assert edges[-1].pressed == (2001 % 2 == 1), shape(edges)
    assert bench.panel.noise()["emergency"] > 0, "that something was lost is counted"
    bench.keys.send((1, ON_SCENE, 0), (1, OTHER, 0))
    edges += await bench.edges()
    assert not edges[-1].pressed
    return f"2001 edges, {len(edges)} told"


async def flood_leaves_the_loop_alive(bench: Bench) -> str:
    """A device that says ten thousand things a second for two seconds."""
    loop = asyncio.get_running_loop()
    end, sent, worst = loop.time() + 2, 0, 0.0
    reading = asyncio.create_task(bench.edges(0.6))
    while loop.time() < end:
        for n in range(50):
            bench.keys.key(OTHER, down=n % 2 == 0)
        sent += 50
        before = loop.time()
        await asyncio.sleep(0.005)
        worst = max(worst, loop.time() - before - 0.005)
    edges = await reading
    assert not edges, shape(edges)
    bench.keys.key(EMERGENCY, down=True)
    bench.keys.key(EMERGENCY, down=False)
    assert shape(await bench.edges()) == "+emergency -emergency"
    return f"{sent} presses of a key without a name, the loop at most {worst * 1000:.0f} ms late"


async def key_down_at_open_is_no_press(bench: Bench) -> str:
    """Nobody knows when it was pressed."""
    await bench.panel.close()
    bench.keys.key(EMERGENCY, down=True)
    bench.panel = EvdevButtons(SETTINGS, CLOCK)
    await bench.panel.open()
    assert not await bench.edges()
    bench.keys.key(EMERGENCY, down=False)
    edges = await bench.edges()
    assert shape(edges) == "-emergency", shape(edges)
    return shape(edges)


async def unplugged_and_back_under_another_number(bench: Bench) -> str:
    """It is lost at once, and found again whatever its number is; what was held is let go."""
    bench.keys.key(EMERGENCY, down=True)
    assert shape(await bench.edges()) == "+emergency"
    numbers = _numbers()
    from_ns = CLOCK.boottime_ns()
    asyncio.get_running_loop().call_later(0.2, bench.keys.unplug)
    try:
        async with asyncio.timeout(5):
            while True:  # the kernel lets its keys go first
                await bench.panel.read()
    except DeviceLostError as error:
        said = f"{error.why} after {(CLOCK.boottime_ns() - from_ns) / 1e9 - 0.2:.2f} s"
    await bench.panel.close()
    try:
        await bench.panel.open()
        raise AssertionError("it is not there")
    except DeviceNotFoundError as error:
        said += f"; {error.why}"
    stranger = keyboard("Mouse", "usb-7/input0")  # takes its number
    bench.keys = keyboard()
    assert _numbers() != numbers
    await bench.panel.open()
    await bench.edges(0.1)
    bench.keys.key(ON_SCENE, down=True)
    bench.keys.key(ON_SCENE, down=False)
    edges = await bench.edges()
    assert shape(edges) == "+on_scene -on_scene", shape(edges)
    stranger.unplug()
    return said


async def same_name_twice_is_refused(bench: Bench) -> str:
    """Nobody guesses which of two is the crew's; told its place, it is the one."""
    await bench.panel.close()
    twin = keyboard(phys="usb-2/input0")
    try:
        await bench.panel.open()
        raise AssertionError("one of two was taken")
    except DeviceNotFoundError as error:
        said = error.why
    assert "device_phys" in said, said
    by_place = EvdevButtons(SETTINGS.model_copy(update={"device_phys": "usb-2/input0"}), CLOCK)
    await by_place.open()
    bench.keys.key(ON_SCENE, down=True)
    twin.key(EMERGENCY, down=True)
    async with asyncio.timeout(5):
        edges = list(await by_place.read())
    assert shape(edges) == "+emergency", shape(edges)
    await by_place.close()
    twin.unplug()
    bench.keys.key(ON_SCENE, down=False)
    await bench.panel.open()
    return said


async def wrong_file_is_said(bench: Bench) -> str:
    """A device that is not the one, by its path."""
    await bench.panel.close()
    mouse = keyboard("Mouse", "usb-7/input0")
    path = f"/dev/input/{_numbers('Mouse')[0]}"
    try:
        await EvdevButtons(SETTINGS.model_copy(update={"device": path}), CLOCK).open()
        raise AssertionError("the mouse was taken")
    except DeviceNotFoundError as error:
        said = error.why
    assert "Mouse" in said, said
    mouse.unplug()
    await bench.panel.open()
    return said


def _numbers(name: str = NAME) -> list[str]:
    return sorted(
        one.name
        for one in Path("/sys/class/input").glob("event*")
        if (one / "device/name").read_text().strip() == name
    )


CHECKS: tuple[Callable[[Bench], Awaitable[str]], ...] = (
    press_and_release,
    bounce_is_one_press,
    nobody_else_reads_it,
    lamp_is_an_led,
    overflow_ends_with_the_true_level,
    flood_leaves_the_loop_alive,
    key_down_at_open_is_no_press,
    unplugged_and_back_under_another_number,
    same_name_twice_is_refused,
    wrong_file_is_said,
)


async def main() -> None:
    """Run every check on one keyboard, in order."""
    bench = Bench()
    await bench.panel.open()
    for check in CHECKS:
        try:
            ok, detail = True, await check(bench)
        except (AssertionError, HardwareError, OSError, TimeoutError, KeyError) as error:
            ok, detail = False, f"{type(error).__name__}: {error}"
        say("RESULT", json.dumps({"check": check.__name__, "ok": ok, "detail": detail}))
    await bench.panel.close()
    bench.keys.unplug()
    say("DONE")


if __name__ == "__main__":
    if Path("/dev/uinput").exists():
        asyncio.run(main())
    else:
        say("FAULT", "this kernel has no uinput")
