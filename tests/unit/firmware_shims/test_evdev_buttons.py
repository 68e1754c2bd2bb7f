"""The shim for input devices above the kernel's requests: which device, edges, bounces, a queue run over.

Events are the kernel's own bytes on a socket. The kernel's side is tried in the kernel rig, with uinput.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from agent.domain.health import HealthBoard, HealthReason
from agent.hal.buttons import ButtonEdge, Lamp
from agent.hal.errors import DeviceLostError, DeviceNotFoundError
from agent.sources.crew_panel import CrewPanel
from firmware_shims.evdev_buttons import ButtonEvdev, EvdevButtons
from firmware_shims.input_device import KEY, KEYS, SYN, SYN_DROPPED, SYN_REPORT, InputDevice, key_name
from firmware_shims.system_clock import SystemClock

ON_SCENE, EMERGENCY, STRANGER = KEYS["KEY_KP1"], KEYS["KEY_KP2"], KEYS["KEY_A"]
SETTINGS: dict[str, Any] = {
    "device_name": "Cheap Keys",
    "codes": {"on_scene": "KEY_KP1", "emergency": EMERGENCY},
    "lamp_leds": {"on_scene": "scroll"},
}


class FakeDevice(InputDevice):
    """An input device whose events are written into a socket."""

    def __init__(
        self,
        name: str = "Cheap Keys",
        phys: str = "usb-1/input0",
        keys: Iterable[int] = (ON_SCENE, EMERGENCY, STRANGER),
        leds: Iterable[int] = (2,),
    ) -> None:
        ours, self.far = socket.socketpair()
        ours.setblocking(False)
        self.fd = ours.detach()
        self.path = Path("/dev/input/event7")
        self.name, self.phys, self.keys, self.leds = name, phys, frozenset(keys), frozenset(leds)
        self.held: set[int] = set()
        self.taken = False
        self.lit: list[dict[int, bool]] = []

    def claim(self) -> None:
        if self.taken:
            raise OSError(errno.EBUSY, "Device or resource busy")

    def down(self) -> frozenset[int]:
        return frozenset(self.held)

    def light(self, lit: dict[int, bool]) -> None:
        if self.far.fileno() < 0:
            raise OSError(errno.ENODEV, "No such device")
        self.lit.append(dict(lit))

    def send(self, *events: tuple[int, int, int], at_ns: int | None = None, report: bool = True) -> None:
        """Events as the kernel packs them, and the report that ends them."""
        at_us = (SystemClock().boottime_ns() if at_ns is None else at_ns) // 1000
        all_events = [*events, (SYN, SYN_REPORT, 0)] if report else events
        self.far.sendall(
            b"".join(struct.pack("@llHHi", *divmod(at_us, 1_000_000), *event) for event in all_events)
        )

    def key(self, code: int, *, down: bool, at_ns: int | None = None) -> None:
        self.send((KEY, code, int(down)), at_ns=at_ns)
        (self.held.add if down else self.held.discard)(code)

    def unplug(self) -> None:
        self.far.close()


def settings(**changes: Any) -> ButtonEvdev:
    return ButtonEvdev.model_validate(SETTINGS | changes)


def on_panel(
    test: Callable[[EvdevButtons, FakeDevice], Coroutine[Any, Any, None]],
    *,
    opened: bool = True,
    strangers: bool = False,
    **changes: Any,
) -> None:
    async def run() -> None:
        device = FakeDevice()
        panel = EvdevButtons(settings(**changes), SystemClock(), devices=lambda: ([device], None))
        panel.strangers = strangers
        try:
            if opened:
                await panel.open()
            await test(panel, device)
        finally:
            await panel.close()
            device.close()
            device.far.close()

    asyncio.run(run())


async def edges_of(panel: EvdevButtons, count: int) -> list[ButtonEdge]:
    found: list[ButtonEdge] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            found += await panel.read()
    return found


async def nothing_comes(panel: EvdevButtons, for_s: float = 0.1) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(for_s):
            await panel.read()


def shape(edges: Iterable[ButtonEdge]) -> str:
    return " ".join(f"{'+' if e.pressed else '-'}{e.key}{'?' if e.inferred else ''}" for e in edges)


def test_press_and_release_carry_the_kernels_time() -> None:
    async def test(panel: EvdevButtons, device: FakeDevice) -> None:
        at_ns = (SystemClock().boottime_ns() - 3_000_000_000) // 1000 * 1000
        device.key(ON_SCENE, down=True, at_ns=at_ns)
        device.send((KEY, ON_SCENE, 2))  # the repeat of a key that is held
        device.key(ON_SCENE, down=False, at_ns=at_ns + 500_000_000)
        edges = await edges_of(panel, 2)
        assert shape(edges) == "+on_scene -on_scene"
        assert [edge.at_boottime_ns for edge in edges] == [at_ns, at_ns + 500_000_000]

    on_panel(test)


def test_stamp_of_the_future_is_not_handed_on() -> None:
    async def test(panel: EvdevButtons, device: FakeDevice) -> None:
        device.key(ON_SCENE, down=True, at_ns=SystemClock().boottime_ns() + 3600 * 10**9)
        (edge,) = await edges_of(panel, 1)
        assert edge.at_boottime_ns <= SystemClock().boottime_ns()

    on_panel(test)


def test_bounce_is_one_press_and_is_counted() -> None:
    async def test(panel: EvdevButtons, device: FakeDevice) -> None:
        now_ns = SystemClock().boottime_ns() - 10**9
        for n in range(12):
            device.key(ON_SCENE, down=n % 2 == 0, at_ns=now_ns + n * 3_000_000)
        device.key(ON_SCENE, down=True, at_ns=now_ns + 40_000_000)
        device.key(ON_SCENE, down=False, at_ns=now_ns + 400_000_000)
        edges = await edges_of(panel, 2)
        assert shape(edges) == "+on_scene -on_scene"
        assert edges[0].at_boottime_ns // 1000 == now_ns // 1000, "a press never waits"
        assert panel.noise() == {"on_scene": 6}

    on_panel(test)


def test_two_presses_a_tenth_of_a_second_apart_are_two() -> None:
    async def test(panel: EvdevButtons, device: FakeDevice) -> None:
        now_ns = SystemClock().boottime_ns() - 10**9
        for n in range(4):
            device.key(ON_SCENE, down=n % 2 == 0, at_ns=now_ns + n * 100_000_000)
        assert shape(await edges_of(panel, 4)) == "+on_scene -on_scene +on_scene -on_scene"
        assert not panel.noise()

    on_panel(test)


def test_queue_that_ran_over_ends_with_the_true_levels() -> None:
    async def test(panel: EvdevButtons, device: FakeDevice) -> None:
        device.key(ON_SCENE, down=True)
        await edges_of(panel, 1)
        device.held = {EMERGENCY}
        device.send((SYN, SYN_DROPPED, 0), (KEY, STRANGER, 1), (KEY, ON_SCENE, 1))
        edges = await edges_of(panel, 2)
        assert {(edge.key, edge.pressed, edge.inferred) for edge in edges} == {
            ("on_scene", False, True),
            ("emergency", True, True),
        }
        device.key(EMERGENCY, down=False)
        assert shape(await edges_of(panel, 1)) == "-emergency"

    on_panel(test)


def test_key_without_a_name_is_nothing_but_to_an_installer() -> None:
    async def test(panel: EvdevButtons, device: FakeDevice) -> None:
        device.key(STRANGER, down=True)
        await nothing_comes(panel)

    on_panel(test)

    async def look(panel: EvdevButtons, device: FakeDevice) -> None:
        device.key(STRANGER, down=True)
        assert shape(await edges_of(panel, 1)) == f"+code {STRANGER}"

    on_panel(look, strangers=True)


def test_flood_of_a_mad_device_holds_nothing_up_and_loses_no_key() -> None:
    async def test(panel: EvdevButtons, device: FakeDevice) -> None:
        device.far.setblocking(False)
        stopped = asyncio.Event()
        turns = 0

        async def flood() -> None:
            while not stopped.is_set():
                with suppress(BlockingIOError):
                    for n in range(500):
                        device.send((KEY, ON_SCENE, n % 2), (2, 0, 5), (4, 4, 30))
                await asyncio.sleep(0.01)

        async def beat() -> None:
            nonlocal turns
            while not stopped.is_set():
                turns += 1
                await asyncio.sleep(0.005)

        tasks = [asyncio.create_task(flood()), asyncio.create_task(beat())]
        first = await edges_of(panel, 1)
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                while True:
                    first += await panel.read()
        stopped.set()
        await asyncio.gather(*tasks)
        assert turns > 20, "the loop went on"
        assert first[0].pressed
        assert len(first) < 200
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                while True:
                    await panel.read()
        device.far.setblocking(True)
        device.key(EMERGENCY, down=True)
        assert "+emergency" in shape(await edges_of(panel, 1))

    on_panel(test)


def test_key_down_at_open_is_no_press_and_what_changed_while_it_was_away_is_told() -> None:
    async def test(panel: EvdevButtons, device: FakeDevice) -> None:
        device.held = {EMERGENCY}
        await panel.open()
        await nothing_comes(panel)
        device.unplug()
        with pytest.raises(DeviceLostError):
            await panel.read()
        await panel.close()
        again = FakeDevice()
        again.held = {ON_SCENE}
        panel._devices = lambda: ([again], None)
        await panel.open()
        edges = await edges_of(panel, 2)
        assert {(edge.key, edge.pressed, edge.inferred) for edge in edges} == {
            ("emergency", False, True),
            ("on_scene", True, True),
        }
        again.far.close()

    on_panel(test, opened=False)


def found_in(devices: list[FakeDevice], **changes: Any) -> str:
    """Which device is opened, by its place, or why none is."""

    async def run() -> str:
        panel = EvdevButtons(settings(**changes), SystemClock(), devices=lambda: (list(devices), None))
        try:
            await panel.open()
            return next(device.phys for device in devices if device.fd >= 0)
        except DeviceNotFoundError as error:
            assert all(device.fd < 0 for device in devices), "nothing is left open"
            return error.why
        finally:
            await panel.close()
            for device in devices:
                device.far.close()

    return asyncio.run(run())


def test_device_is_found_by_what_it_calls_itself_and_has() -> None:
    assert found_in([FakeDevice("Mouse", "usb-0/input0"), FakeDevice(phys="usb-9/input0")]) == "usb-9/input0"
    consumer = FakeDevice(phys="usb-9/input1", keys=(KEYS["KEY_MUTE"],))
    assert found_in([consumer, FakeDevice(phys="usb-9/input0")]) == "usb-9/input0", "its second interface"


def test_device_of_the_same_name_twice_is_refused_in_words_until_its_place_is_said() -> None:
    twins = [FakeDevice(phys="usb-1/input0"), FakeDevice(phys="usb-2/input0")]
    why = found_in(twins)
    assert "usb-1/input0, usb-2/input0" in why
    assert "device_phys" in why
    twins = [FakeDevice(phys="usb-1/input0"), FakeDevice(phys="usb-2/input0")]
    assert found_in(twins, device_phys="usb-2/input0") == "usb-2/input0"


def test_device_that_is_not_the_one_is_said() -> None:
    assert found_in([FakeDevice("Mouse")]) == "there is no such input device"
    assert "has no KEY_KP2" in found_in([FakeDevice(keys=(ON_SCENE,))])
    assert "has no LED scroll" in found_in([FakeDevice(leds=())])
    assert found_in([]) == "there is no such input device"
    taken = FakeDevice()
    taken.taken = True
    assert "another program" in found_in([taken])


def test_file_that_is_no_input_device_is_said(tmp_path: Path) -> None:
    plain_file = tmp_path / "event0"
    plain_file.write_text("nothing")
    for path, words in ((plain_file, "no input device"), (tmp_path / "event1", "No such file")):

        async def run(path: Path = path) -> str:
            panel = EvdevButtons(settings(device=str(path), device_name=None), SystemClock())
            with pytest.raises(DeviceNotFoundError) as told:
                await panel.open()
            return told.value.why

        assert words in asyncio.run(run())
    assert not [fd for fd in Path("/proc/self/fd").iterdir() if _is(fd, plain_file)], "it is left open"


def _is(fd: Path, path: Path) -> bool:
    with suppress(OSError):
        return fd.readlink() == path
    return False


def test_lamp_is_an_led_that_blinks_and_goes_dark_at_the_end() -> None:
    async def test(panel: EvdevButtons, device: FakeDevice) -> None:
        await panel.show("on_scene", Lamp.STORED)
        assert device.lit[-1] == {2: True}
        await panel.show("on_scene", Lamp.NOT_STORED)
        seen = len(device.lit)
        async with asyncio.timeout(10):
            while {one[2] for one in device.lit[seen:]} != {True, False}:
                await asyncio.sleep(0.05)
        await panel.show("on_scene", Lamp.OFF)
        assert device.lit[-1] == {2: False}
        await panel.show("emergency", Lamp.STORED)  # has none
        await panel.show("on_scene", Lamp.RECEIVED)
        await panel.close()
        assert device.lit[-1] == {2: False}

    on_panel(test)


def test_lamp_of_a_device_that_is_gone_is_shown_when_it_is_back() -> None:
    async def test(panel: EvdevButtons, device: FakeDevice) -> None:
        device.unplug()
        with pytest.raises(DeviceLostError):
            await panel.show("on_scene", Lamp.STORED)
        await panel.close()
        again = FakeDevice()
        panel._devices = lambda: ([again], None)
        await panel.open()
        assert again.lit[-1] == {2: True}
        again.far.close()

    on_panel(test)


def test_part_of_the_agent_tells_of_stuck_and_bouncing_keys_and_goes_on_after_an_unplug() -> None:
    async def test(panel: EvdevButtons, device: FakeDevice) -> None:
        health = HealthBoard()
        seen: list[ButtonEdge] = []
        crew = CrewPanel(panel, SystemClock(), health, stuck_after_s=0.2)

        async def until(condition: Callable[[], bool]) -> None:
            async with asyncio.timeout(20):
                while not condition():
                    await asyncio.sleep(0.01)

        running = asyncio.create_task(crew.run(seen.append, lambda: None))
        await until(lambda: bool(device.lit))
        device.key(ON_SCENE, down=True)
        await until(lambda: health.details().get(HealthReason.BUTTON_STUCK) == "on_scene")
        device.key(ON_SCENE, down=False)
        await until(lambda: HealthReason.BUTTON_STUCK not in health.reasons())
        now_ns = SystemClock().boottime_ns()
        for n in range(60):
            device.key(EMERGENCY, down=n % 2 == 0, at_ns=now_ns - 10**9 + n * 2_000_000)
        await until(lambda: health.details().get(HealthReason.BUTTON_CHATTER) == "emergency")
        assert shape(seen) == "+on_scene -on_scene +emergency -emergency"
        device.unplug()
        with pytest.raises(DeviceLostError):
            await running
        assert HealthReason.BUTTONS_LOST in health.reasons()

    on_panel(test, opened=False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"device_name": None},
        {"codes": {}},
        {"codes": {"on_scene": "KEY_NONSENSE"}},
        {"codes": {"on_scene": 0}},
        {"codes": {"on_scene": 0x300}},
        {"codes": {"on_scene": True}},
        {"codes": {"on_scene": 79, "en_route": "KEY_KP1"}},
        {"lamp_leds": {"on_scene": "purple"}},
        {"lamp_leds": {"en_route": "num"}},
        {"lamp_leds": {"on_scene": "num", "emergency": "num"}},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**wrong)


def test_where_a_key_is_connected_is_told_to_an_installer() -> None:
    assert settings().wiring("on_scene") == "KEY_KP1 (code 79)"
    assert settings().wiring("nothing") == ""
    assert key_name(0x2FE) == "766"
