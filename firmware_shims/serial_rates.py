"""At which speed a receiver speaks: heard by its sentences, tried one after another."""

from __future__ import annotations

import re
from functools import reduce
from operator import xor

RATES = (9600, 38_400, 115_200, 4800, 57_600, 19_200, 230_400, 460_800)
"""Usual speeds, the most usual first."""
_SENTENCE = re.compile(rb"\$([^*$\r\n]{5,120})\*([0-9A-Fa-f]{2})")
_UBX = re.compile(rb"\xb5\x62", re.DOTALL)
_UBX_AROUND = 8


def good_messages(data: bytes) -> int:
    """How many NMEA sentences or UBX messages with a right checksum are in some bytes."""
    right = sum(reduce(xor, found[1], 0) == int(found[2], 16) for found in _SENTENCE.finditer(data))
    return right + sum(_is_ubx(data[found.start() :]) for found in _UBX.finditer(data))


def _is_ubx(data: bytes) -> bool:
    length = int.from_bytes(data[4:6], "little")
    if len(data) < length + _UBX_AROUND:
        return False
    one = two = 0
    for byte in data[2 : 6 + length]:
        one = (one + byte) & 0xFF
        two = (two + one) & 0xFF
    return data[6 + length : 8 + length] == bytes((one, two))


class RateSearch:
    """Which speed to use next. Pure; fed with what is heard.

    Args:
        first: the speed that is tried first; any other usual one follows.
    """

    DWELL_NS = 3_500_000_000
    """Receivers speak every second; one that is slow to wake gets a little more."""
    LOST_NS = 6_000_000_000
    """One that was understood may have a bad moment, which is no reason to look elsewhere."""
    ENOUGH_BYTES = 64
    """Of fewer nothing can be said: a receiver that is off makes a byte or two of noise."""
    REMEMBERED = 2048

    def __init__(self, first: int) -> None:
        self._rates = (first, *(rate for rate in RATES if rate != first))
        self._index = 0
        self._heard = b""
        self._bytes = 0
        self._since_ns: int | None = None
        self.settled = False
        """True once it was understood at the present speed."""

    @property
    def rate(self) -> int:
        """The speed to use now."""
        return self._rates[self._index]

    def take(self, data: bytes, now_ns: int) -> bool:
        """Take what was read at the present speed; True when another one is to be tried: see `rate`."""
        if self._since_ns is None:
            self._since_ns = now_ns
        self._heard = (self._heard + data)[-self.REMEMBERED :]
        self._bytes += len(data)
        if good_messages(self._heard):
            self._heard, self._bytes, self._since_ns, self.settled = b"", 0, now_ns, True
            return False
        patience_ns = self.LOST_NS if self.settled else self.DWELL_NS
        if now_ns - self._since_ns < patience_ns or self._bytes < self.ENOUGH_BYTES:
            return False
        self._index = (self._index + 1) % len(self._rates)
        self._heard, self._bytes, self._since_ns, self.settled = b"", 0, None, False
        return True
