"""The crew's buttons on an input device of the kernel: a key matrix, or a box that is a USB keyboard.

The device is taken for ourselves alone, so that what is pressed in the cab is typed nowhere. It is found
again whatever number it comes back under. The kernel stamps each event with boot time; only its queue can
overflow, which it says, and then the levels are read anew.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from agent.config import ButtonDevice, DevicePath
from agent.config.plain_words import did_you_mean
from agent.hal.buttons import SYSTEM_LAMP, ButtonEdge, Lamp
from agent.hal.clock import Clock
from agent.hal.errors import DeviceLostError, DeviceNotFoundError
from firmware_shims.input_device import (
    DOWN,
    KEY,
    KEYS,
    LEDS,
    MOST_KEY,
    SYN,
    SYN_DROPPED,
    SYN_REPORT,
    UP,
    Event,
    InputDevice,
    close_all,
    input_devices,
    key_name,
)
from firmware_shims.plain_lamps import PlainLamps

ROUNDS = 8
"""Bound of one visit to the queue: a key that chatters must not hold the loop."""
REST_S = 0.02
"""After a visit that found nothing but chatter; what comes meanwhile waits in the kernel."""
MANY_EVENTS = 64


def _code(given: object) -> object:
    if not isinstance(given, str):
        return given
    if given not in KEYS:
        hint = did_you_mean(given, list(KEYS)) or '; "KEY_KP1" is one, and `mdt buttons` shows numbers'
        raise ValueError(f"no key has this name{hint}")
    return KEYS[given]


def _led(name: str) -> str:
    if name not in LEDS:
        raise ValueError(f"no LED has this name; there are {', '.join(LEDS)}")
    return name


KeyCode = Annotated[int, BeforeValidator(_code), Field(ge=1, le=MOST_KEY)]
"""A key of an input device: its name in the kernel, such as "KEY_KP1", or its number."""
LedName = Annotated[str, AfterValidator(_led)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=255)]


class ButtonEvdev(ButtonDevice):
    """A key matrix, or a box of buttons that is a USB keyboard; `mdt buttons --list` shows what there is."""

    kind: Literal["button_evdev"] = "button_evdev"
    device: DevicePath | None = None
    """Its file, by a name that stays: /dev/input/by-id/... or by-path/..., not eventN, whose number moves."""
    device_name: Text | None = None
    """What it calls itself; instead of `device`, or to make sure that it is the one."""
    device_phys: Text | None = None
    """Where it is plugged in, as the kernel words it; of several of one name it tells which."""
    codes: dict[str, KeyCode] = Field(min_length=1)
    """Key name to key code: `{ on_scene = "KEY_KP1" }`."""
    lamp_leds: dict[str, LedName] = Field(default_factory=dict)
    """Key name to the LED that is its lamp (num, caps, scroll, ...): dark = off, blinking = not stored, lit,
    two blinks and a pause = refused."""
    debounce_ms: int = Field(20, ge=0, le=500)
    """A key that goes down again sooner has not been up: its contact bounces."""

    @model_validator(mode="after")
    def _one_purpose_a_key(self) -> ButtonEvdev:
        if self.device is None and self.device_name is None and self.device_phys is None:
            raise ValueError("give one of device, device_name and device_phys: which device is it?")
        if len(set(self.codes.values())) != len(self.codes):
            raise ValueError("a key code is used twice")
        if len(set(self.lamp_leds.values())) != len(self.lamp_leds):
            raise ValueError("an LED is used twice")
        if strangers := set(self.lamp_leds) - set(self.codes) - {SYSTEM_LAMP}:
            raise ValueError(f"lamp_leds without a button: {', '.join(sorted(strangers))}")
        return self

    def files(self) -> tuple[str, ...]:
        """The device, where it is known before anybody looked."""
        return () if self.device is None else (self.device,)

    def takes(self) -> tuple[str, ...]:
        """The whole device."""
        return (" ".join(one for one in (self.device, self.device_name, self.device_phys) if one),)

    def keys(self) -> tuple[str, ...]:
        """The keys that have a code."""
        return tuple(self.codes)

    def wiring(self, key: str) -> str:
        """The code of a key."""
        code = self.codes.get(key)
        return "" if code is None else f"{key_name(code)} (code {code})"

    def has_lamp(self, key: str) -> bool:
        """Whether it has an LED for it."""
        return key in self.lamp_leds


class EvdevButtons:
    """Implements `ButtonPanel`. A keyboard keeps no edges: an acknowledgement is no news to it.

    A key that is down when the device is first opened is no press: nobody knows when it was pressed. Every
    later change is reported, as an edge if the kernel saw one, else as inferred.

    Args:
        settings: which device, and its keys.
        clock: for boot-time stamps.
        devices: gives the input devices there are; the system's but for tests.

    Attributes:
        strangers: whether keys without a name are reported as well, as `code N`, for an installer.
    """

    def __init__(
        self,
        settings: ButtonEvdev,
        clock: Clock,
        *,
        devices: Callable[[], tuple[list[InputDevice], OSError | None]] = input_devices,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._devices = devices
        self.strangers = False
        self._keys = {code: key for key, code in settings.codes.items()}
        self._debounce_ns = settings.debounce_ms * 1_000_000
        self._device: InputDevice | None = None
        self._down: frozenset[int] | None = None
        self._released_ns: dict[int, int] = {}
        """Keys that went up so lately that they may only bounce, and when."""
        self._dropped = False
        self._edges: deque[ButtonEdge] = deque()
        self._noise: dict[str, int] = {}
        self._waiting: asyncio.Future[None] | None = None
        self._lamps = PlainLamps(self.name, settings.lamp_leds, self._light)

    @property
    def name(self) -> str:
        """The device as configured."""
        given = self._settings
        return given.device or given.device_name or f"input device at {given.device_phys}"

    async def open(self) -> None:
        """Find and take the device.

        Raises:
            DeviceNotFoundError: there is none, several, one that is not it, no permission, or it is in use.
        """
        if self._device is not None:
            return
        device = self._found()
        try:
            device.claim()
            down = device.down()
            self._device, self._dropped = device, False
            self._released_ns.clear()
            if self._down is None:
                self._down = down & self._keys.keys()
            else:
                self._compare(down)
            self._lamps.begin()
        except OSError as error:
            self._device = None
            device.close()
            raise DeviceNotFoundError(self.name, _plain(error)) from error

    async def read(self) -> Sequence[ButtonEdge]:
        """Wait for edges. Safe to cancel. Raises DeviceLostError when the device is gone."""
        while not self._edges:
            await self._readable(self._opened())
            try:
                seen = self._drain(self._opened())
            except OSError as error:
                raise DeviceLostError(self.name, _plain(error)) from error
            if not self._edges and seen >= MANY_EVENTS:
                await asyncio.sleep(REST_S)
        edges = tuple(self._edges)
        self._edges.clear()
        return edges

    def noise(self) -> Mapping[str, int]:
        """How often so far a key bounced, or what it did was lost."""
        return self._noise

    async def show(self, key: str, lamp: Lamp) -> None:
        """Light the lamp of `key`. Raises DeviceLostError."""
        try:
            self._lamps.show(key, lamp, now=self._device is not None)
        except OSError as error:
            raise DeviceLostError(self.name, _plain(error)) from error

    async def acknowledge(self, edge: ButtonEdge) -> None:
        """Nothing to do: a keyboard keeps nothing."""

    async def sound(self, pattern_ms: Sequence[int]) -> None:
        """Nothing to do: it has no buzzer."""

    async def close(self) -> None:
        """Let go of the device, LEDs dark. Idempotent, never raises."""
        device, self._device = self._device, None
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(DeviceLostError(self.name, "closed"))
        await self._lamps.end()
        if device is not None:
            asyncio.get_running_loop().remove_reader(device.fd)
            with suppress(OSError):  # it is gone, and its LEDs with it
                device.light(dict.fromkeys((LEDS[led] for led in self._settings.lamp_leds.values()), False))
            device.close()

    # ------------------------------------------------------------------ which device

    def _found(self) -> InputDevice:
        """The one device that is meant, open. Raises DeviceNotFoundError."""
        path = self._settings.device
        if path is not None:
            try:
                there, refused = [InputDevice(Path(path))], None
            except OSError as error:
                raise DeviceNotFoundError(self.name, _plain(error)) from error
        else:
            there, refused = self._devices()
        wrong = {device: self._differs(device) for device in there}
        fitting = [device for device, why in wrong.items() if why is None]
        if len(fitting) == 1:
            close_all(device for device in there if device is not fitting[0])
            return fitting[0]
        why = self._why_not(fitting, [text for text in wrong.values() if text], refused)
        close_all(there)
        raise DeviceNotFoundError(self.name, why)

    def _why_not(self, fitting: list[InputDevice], wrong: list[str], refused: OSError | None) -> str:
        if fitting:
            places = ", ".join(device.phys or str(device.path) for device in fitting)
            return f"{len(fitting)} devices fit, at {places}: give device_phys"
        nearly = [text for text in wrong if text.startswith("has no")]
        if self._settings.device is not None or nearly:
            return f"not the device that is meant: {(nearly or wrong)[0]}"
        if refused is not None:
            return f"none of the input devices that may be opened is it ({_plain(refused)})"
        return "there is no such input device"

    def _differs(self, device: InputDevice) -> str | None:
        """Why a device is not the one that is meant; None when it is."""
        given = self._settings
        if given.device_name is not None and device.name != given.device_name:
            return f"calls itself {device.name!r}"
        if given.device_phys is not None and device.phys != given.device_phys:
            return f"is at {device.phys!r}"
        if missing := sorted(set(self._keys) - device.keys):
            return f"has no {', '.join(key_name(code) for code in missing[:4])}"
        if missing := sorted({LEDS[led] for led in given.lamp_leds.values()} - device.leds):
            return f"has no LED {', '.join(name for name, number in LEDS.items() if number in missing)}"
        return None

    # ------------------------------------------------------------------ what happens to it

    async def _readable(self, device: InputDevice) -> None:
        """Wait until there are events, or a key that went up has rested."""
        if self._released_ns:
            rested_ns = min(self._released_ns.values()) + self._debounce_ns
            timeout_s = max(0, rested_ns - self._clock.boottime_ns()) / 1e9
        else:
            timeout_s = None
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(device.fd, _wake, ready)
        self._waiting = ready
        try:
            await asyncio.wait({ready}, timeout=timeout_s)
            if ready.done():
                ready.result()
        finally:
            self._waiting = None
            if self._device is device:
                loop.remove_reader(device.fd)
            ready.cancel()

    def _drain(self, device: InputDevice) -> int:
        """Take what waits; returns how many events that were."""
        seen = 0
        for _ in range(ROUNDS):
            events = device.events()
            if not events:
                break
            seen += len(events)
            for event in events:
                self._take(device, event)
        now_ns = self._clock.boottime_ns()
        for code, up_ns in sorted(self._released_ns.items(), key=lambda one: one[1]):
            if now_ns - up_ns >= self._debounce_ns:
                self._release(code)
        return seen

    def _take(self, device: InputDevice, event: Event) -> None:
        if event.kind == SYN:
            if event.code == SYN_DROPPED:
                # Until the next report what comes is a torso; after it the levels tell.
                self._dropped = True
            elif event.code == SYN_REPORT and self._dropped:
                self._dropped = False
                self._lost()
                self._compare(device.down())
        elif event.kind == KEY and not self._dropped and event.value in (UP, DOWN):
            # A stamp of the future would be a defect of the kernel; it is not handed on.
            at_ns = min(event.at_boottime_ns, self._clock.boottime_ns())
            if event.code in self._keys:
                self._moved(event.code, event.value == DOWN, at_ns)
            elif self.strangers:
                self._edges.append(ButtonEdge(f"code {event.code}", event.value == DOWN, None, at_ns))

    def _moved(self, code: int, down: bool, at_ns: int) -> None:
        is_down = self._down is not None and code in self._down
        if down and code in self._released_ns:
            if at_ns - self._released_ns[code] < self._debounce_ns:
                del self._released_ns[code]
                self._count(code)
                return
            self._release(code)
            is_down = False
        if down and not is_down:
            self._change(code, pressed=True, at_ns=at_ns)
        elif not down and is_down:
            # Told once it has rested; a press never waits.
            self._released_ns.setdefault(code, at_ns)
            if not self._debounce_ns:
                self._release(code)

    def _release(self, code: int) -> None:
        self._change(code, pressed=False, at_ns=self._released_ns.pop(code))

    def _compare(self, down: frozenset[int]) -> None:
        """Report levels that no event has told of."""
        now_ns = self._clock.boottime_ns()
        for code in self._keys:
            known = self._down is not None and code in self._down
            if code in self._released_ns and code not in down:
                self._release(code)
            elif known != (code in down):
                self._change(code, pressed=code in down, at_ns=now_ns, inferred=True)
            self._released_ns.pop(code, None)

    def _change(self, code: int, *, pressed: bool, at_ns: int, inferred: bool = False) -> None:
        down = self._down or frozenset()
        self._down = down | {code} if pressed else down - {code}
        self._edges.append(ButtonEdge(self._keys[code], pressed, None, at_ns, inferred=inferred))

    def _count(self, code: int) -> None:
        key = self._keys[code]
        self._noise[key] = self._noise.get(key, 0) + 1

    def _lost(self) -> None:
        """The kernel's queue ran over: of any key something may have been lost."""
        for code in self._keys:
            self._count(code)

    def _light(self, lit: Mapping[str, bool]) -> None:
        device = self._opened()
        device.light({LEDS[self._settings.lamp_leds[key]]: on for key, on in lit.items()})

    def _opened(self) -> InputDevice:
        if self._device is None:
            raise DeviceLostError(self.name, "not open")
        return self._device


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _plain(error: OSError) -> str:
    if error.errno == errno.ENODEV:
        return "the device was unplugged"
    if error.errno == errno.EBUSY:
        return "another program has it for itself"
    if error.errno in (errno.ENOTTY, errno.EINVAL):
        return "this is no input device"
    return error.strerror or str(error)
