"""A keyboard that the kernel makes for a program (uinput): the driver meets a device of the kernel's."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterable
from typing import Final

from firmware_shims.input_device import KEY, LED, SYN, SYN_REPORT

_SET_EVBIT, _SET_KEYBIT, _SET_LEDBIT, _SET_PHYS = 0x40045564, 0x40045565, 0x40045569, 0x4008556C
_SETUP, _CREATE, _DESTROY = 0x405C5503, 0x5501, 0x5502
_EVENT: Final = struct.Struct("@llHHi")
_USB: Final = 3


class VirtualKeyboard:
    """A keyboard; it is there from the beginning until `unplug`.

    Args:
        name: what it calls itself.
        phys: where it says it is.
        keys: codes of the keys that it has.
        leds: numbers of its LEDs.
    """

    def __init__(self, name: str, phys: str, keys: Iterable[int], leds: Iterable[int] = ()) -> None:
        self._fd = os.open("/dev/uinput", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.lit: dict[int, bool] = {}
        fcntl.ioctl(self._fd, _SET_EVBIT, KEY)
        for code in keys:
            fcntl.ioctl(self._fd, _SET_KEYBIT, code)
        for led in leds:
            fcntl.ioctl(self._fd, _SET_EVBIT, LED)
            fcntl.ioctl(self._fd, _SET_LEDBIT, led)
        fcntl.ioctl(self._fd, _SET_PHYS, phys.encode() + b"\0")
        fcntl.ioctl(self._fd, _SETUP, struct.pack("@HHHH80sI", _USB, 0x16C0, 0x27DB, 1, name.encode(), 0))
        fcntl.ioctl(self._fd, _CREATE)

    def key(self, code: int, *, down: bool) -> None:
        """Push a key down or let it go."""
        self.send((KEY, code, int(down)))

    def send(self, *events: tuple[int, int, int]) -> None:
        """Events as they are, and the report that ends them."""
        os.write(self._fd, b"".join(_EVENT.pack(0, 0, *event) for event in (*events, (SYN, SYN_REPORT, 0))))

    def look(self) -> dict[int, bool]:
        """What the LEDs show now."""
        while True:
            try:
                data = os.read(self._fd, _EVENT.size * 64)
            except BlockingIOError:
                return self.lit
            for _, _, kind, code, value in _EVENT.iter_unpack(data):
                if kind == LED:
                    self.lit[code] = bool(value)

    def unplug(self) -> None:
        """It is gone. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            fcntl.ioctl(fd, _DESTROY)
            os.close(fd)
