"""Input devices of the kernel (evdev): who they are, which keys are down, what happens to them, their LEDs.

The few requests that a box of buttons needs, as linux/input.h has them; layouts are those of a 64-bit kernel.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SYN, KEY, LED = 0, 1, 17
"""Types of events."""
SYN_REPORT, SYN_DROPPED = 0, 3
UP, DOWN = 0, 1
"""Values of a key; 2 is the repeat of a key that is held."""
MOST_KEY = 0x2FF
MOST_LED = 0xF
_EVENT = struct.Struct("@llHHi")
_EVENTS_AT_ONCE: Final = 64
_TEXT_BYTES: Final = 256
_READ, _WRITE = 2, 1

LEDS: Final = {
    name: number
    for number, name in enumerate(
        ("num", "caps", "scroll", "compose", "kana", "sleep", "suspend", "mute", "misc", "mail", "charging")
    )
}
"""Names of LEDs, as on keyboards."""


def _run(first: int, names: str) -> dict[str, int]:
    return {f"KEY_{name}": first + offset for offset, name in enumerate(names.split())}


KEYS: Final[dict[str, int]] = {
    **_run(1, "ESC 1 2 3 4 5 6 7 8 9 0 MINUS EQUAL BACKSPACE TAB"),
    **_run(16, "Q W E R T Y U I O P LEFTBRACE RIGHTBRACE ENTER LEFTCTRL"),
    **_run(30, "A S D F G H J K L SEMICOLON APOSTROPHE GRAVE LEFTSHIFT BACKSLASH"),
    **_run(44, "Z X C V B N M COMMA DOT SLASH RIGHTSHIFT KPASTERISK LEFTALT SPACE CAPSLOCK"),
    **_run(59, "F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 NUMLOCK SCROLLLOCK"),
    **_run(71, "KP7 KP8 KP9 KPMINUS KP4 KP5 KP6 KPPLUS KP1 KP2 KP3 KP0 KPDOT"),
    **_run(86, "102ND F11 F12"),
    **_run(96, "KPENTER RIGHTCTRL KPSLASH SYSRQ RIGHTALT"),
    **_run(102, "HOME UP PAGEUP LEFT RIGHT END DOWN PAGEDOWN INSERT DELETE"),
    **_run(113, "MUTE VOLUMEDOWN VOLUMEUP POWER KPEQUAL KPPLUSMINUS PAUSE"),
    **_run(183, " ".join(f"F{number}" for number in range(13, 25))),
    **{f"BTN_{number}": 0x100 + number for number in range(10)},
    **{f"BTN_JOYSTICK{number + 1}": 0x120 + number for number in range(16)},
    **{f"BTN_GAMEPAD{number + 1}": 0x130 + number for number in range(15)},
    **{f"KEY_MACRO{number + 1}": 0x290 + number for number in range(30)},
    **{f"BTN_TRIGGER_HAPPY{number + 1}": 0x2C0 + number for number in range(40)},
}
"""Key codes that have a name here; any other is given by its number."""
_NAMES: Final = {code: name for name, code in KEYS.items()}


def key_name(code: int) -> str:
    """The name of a key code, or its number where it has none."""
    return _NAMES.get(code, str(code))


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Attributes:
        kind: type of the event, such as `KEY`.
        code: which key.
        value: what it did.
        at_boottime_ns: CLOCK_BOOTTIME, as the kernel stamped it.
    """

    kind: int
    code: int
    value: int
    at_boottime_ns: int


class InputDevice:
    """An open input device. Used from one thread; whoever opens it closes it.

    Args:
        path: its device file.
        ioctl: makes a request; the system's but for tests.

    Raises:
        OSError: it can not be opened, or is no input device.
    """

    def __init__(self, path: Path, ioctl: Callable[..., Any] = fcntl.ioctl) -> None:
        self._ioctl = ioctl
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self.name = self._text(0x06)
            self.phys = self._text(0x07)
            self.keys = self._bits(0x20 + KEY, MOST_KEY)
            self.leds = self._bits(0x20 + LED, MOST_LED)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of it; the grab ends with it. Idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def claim(self) -> None:
        """Have it for ourselves, its events stamped by CLOCK_BOOTTIME. Raises OSError: EBUSY when taken."""
        self._ioctl(self.fd, _request(_WRITE, 0x90, 4), 1)
        self._ioctl(self.fd, _request(_WRITE, 0xA0, 4), struct.pack("@i", time.CLOCK_BOOTTIME))

    def down(self) -> frozenset[int]:
        """Keys that are down now. Forgets events of keys that wait to be read. Raises OSError."""
        return self._bits(0x18, MOST_KEY)

    def events(self) -> list[Event]:
        """Events that wait, at most 64; none when none does. Raises OSError once the device is gone."""
        try:
            data = os.read(self.fd, _EVENT.size * _EVENTS_AT_ONCE)
        except (BlockingIOError, InterruptedError):
            return []
        if not data:
            raise OSError(19, "No such device")
        whole = len(data) - len(data) % _EVENT.size
        return [
            Event(kind, code, value, (seconds * 1_000_000 + micros) * 1000)
            for seconds, micros, kind, code, value in _EVENT.iter_unpack(data[:whole])
        ]

    def light(self, lit: dict[int, bool]) -> None:
        """Light and darken LEDs. Raises OSError."""
        events = [(LED, led, int(on)) for led, on in lit.items()] + [(SYN, SYN_REPORT, 0)]
        os.write(self.fd, b"".join(_EVENT.pack(0, 0, *event) for event in events))

    def _text(self, number: int) -> str:
        room = bytearray(_TEXT_BYTES)
        try:
            self._ioctl(self.fd, _request(_READ, number, len(room)), room)
        except FileNotFoundError:
            return ""  # virtual devices have no place
        return bytes(room).partition(b"\0")[0].decode("utf-8", "replace")

    def _bits(self, number: int, most: int) -> frozenset[int]:
        room = bytearray(most // 8 + 1)
        self._ioctl(self.fd, _request(_READ, number, len(room)), room)
        return frozenset(bit for bit in range(most + 1) if room[bit // 8] >> bit % 8 & 1)


def input_devices(folder: Path = Path("/dev/input")) -> tuple[list[InputDevice], OSError | None]:
    """Every input device that can be opened, by its number, and why another could not."""
    found: list[InputDevice] = []
    refused: OSError | None = None
    for path in sorted(folder.glob("event*"), key=_number):
        try:
            found.append(InputDevice(path))
        except OSError as error:
            refused = error
    return found, refused


def close_all(devices: Iterable[InputDevice]) -> None:
    """Let go of several."""
    for device in devices:
        device.close()


def _number(path: Path) -> tuple[int, str]:
    digits = path.name.removeprefix("event")
    return (int(digits) if digits.isdecimal() else 1 << 30, path.name)


def _request(direction: int, number: int, size: int) -> int:
    """A request number of linux/ioctl.h, of the group "E"."""
    return direction << 30 | size << 16 | ord("E") << 8 | number
