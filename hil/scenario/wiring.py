"""Between a drive and a rig: here the world is hurt before the devices pass it on."""

from __future__ import annotations

from collections.abc import Callable

from hil.drive.items import ButtonItem, CanItem, NmeaItem
from hil.drive.player import Sink
from hil.rig import Rig

NmeaFilter = Callable[[bytes], bytes]
"""Takes what the receiver would send, gives what it sends instead; b"" for nothing."""


class Wiring:
    """Sinks for a drive's items that end in a rig.

    Attributes:
        nmea: what becomes of the receiver's bytes, in order.
        can_silent: the bus says nothing while this is above 0.
        held: keys that a fault holds down; the crew's own release does not lift them.
    """

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.nmea: list[NmeaFilter] = []
        self.can_silent = 0
        self.held: set[str] = set()

    def sinks(self) -> dict[type, Sink]:
        """Item type to its sink."""
        return {NmeaItem: self._nmea, CanItem: self._can, ButtonItem: self._button}

    def _nmea(self, item: NmeaItem) -> None:
        data = item.data
        for becomes in self.nmea:
            data = becomes(data)
        if data:
            self._rig.say_nmea(data)

    def _can(self, item: CanItem) -> None:
        if not self.can_silent:
            self._rig.say_can(item.bus, item.can_id, extended=item.extended, data=item.data)

    def _button(self, item: ButtonItem) -> None:
        if item.pressed:
            self._rig.press(item.key)
        elif item.key not in self.held:
            self._rig.release(item.key)
