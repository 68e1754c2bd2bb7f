"""The receiver's time for chrony, by its SOCK reference clock: a datagram a sample."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

from agent.hal.clock import Clock
from agent.hal.errors import DeviceLostError

_SAMPLE = struct.Struct("@lldiiii")
"""struct sock_sample of chrony: the system time of the sample (seconds, microseconds), the true time less it
in seconds, whether it is a pulse, the leap second announced, padding, and a magic number."""
_MAGIC = 0x534F434B


class ChronySocket:
    """Tells chrony how far the system clock is off. What becomes of that, and in which steps, is chrony's.

    Args:
        path: the socket that chrony made.
        clock: the system's.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    def tell(self, offset_s: float) -> None:
        """Send one sample: the true time less that of the system clock. Raises DeviceLostError."""
        seconds, millis = divmod(self._clock.system_utc().unix_ms, 1000)
        sample = _SAMPLE.pack(seconds, millis * 1000, offset_s, 0, 0, 0, _MAGIC)
        try:
            # By name each time: chrony makes another one when it is started anew.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
                way.setblocking(False)
                way.sendto(sample, str(self._path))
        except OSError as error:
            raise DeviceLostError(str(self._path), os.strerror(error.errno or 0)) from error
