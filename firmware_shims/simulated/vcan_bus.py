"""The other modules of a vehicle on a virtual SocketCAN interface, where the kernel has one."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable

_FRAME = struct.Struct("=IB3x8s")
_EXTENDED = 0x80000000


class VcanBus:
    """Sends frames on a vcan interface and counts what anybody else sends there.

    Attributes:
        channel: the interface, e.g. "vcan0".
        transmit_requests: frames that others sent: the agent must never be among them.
    """

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.transmit_requests: list[bytes] = []
        self._socket: socket.socket | None = None

    def plug(self) -> None:
        """Join the bus. Raises OSError."""
        if self._socket is None:
            self._socket = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
            self._socket.setblocking(False)
            self._socket.bind((self.channel,))

    def unplug(self) -> None:
        """Leave the bus: it falls silent, the interface stays. Idempotent."""
        if self._socket is not None:
            self._hear()
            self._socket.close()
            self._socket = None

    def send(self, frames: Iterable[tuple[int, bool, bytes]]) -> int:
        """Send frames (identifier, extended, data); returns how many the kernel took."""
        if self._socket is None:
            return 0
        self._hear()
        sent = 0
        for can_id, extended, data in frames:
            raw_id = can_id | _EXTENDED if extended else can_id
            with contextlib.suppress(BlockingIOError):
                self._socket.send(_FRAME.pack(raw_id, len(data), data.ljust(8, b"\0")))
                sent += 1
        return sent

    def _hear(self) -> None:
        # A raw socket hears every other socket on the interface, and not itself.
        with contextlib.suppress(BlockingIOError):
            while self._socket is not None:
                self.transmit_requests.append(self._socket.recv(_FRAME.size))
