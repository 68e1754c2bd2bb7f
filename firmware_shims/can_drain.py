"""Frames that wait in a descriptor: taken many at a time, from a CAN socket or an adapter's serial line."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from agent.hal.can import CanFilter, CanFrame
from agent.hal.clock import Clock
from firmware_shims.slcan_line import SlcanLine

MAX_BATCH = 1000
MAX_WAIT_NS = 250_000_000
"""A frame can not have waited longer; an older stamp means that the wall clock was set meanwhile."""
MANY_FRAMES = 50
LINE_BYTES = 22
"""Of a frame with 8 bytes of data on a serial line."""
LINE_READ_BYTES = 4095
"""What the kernel's line discipline holds at most."""
MAX_LINE_READS = 8

# linux/socket.h; the socket module has no names for them. python-can asks for the stamps.
_SO_TIMESTAMPNS, SO_RXQ_OVFL = 35, 40
_TIMESPEC = struct.Struct("@ll")
_CAN_FRAME = struct.Struct("=IB3x8s")
_CAN_FD_FRAME = struct.Struct("=IB3x64s")
_EXTENDED, _REMOTE, _ERROR = 0x80000000, 0x40000000, 0x20000000
_EXTENDED_ID, _STANDARD_ID = 0x1FFFFFFF, 0x7FF
_COUNTER = struct.Struct("=I")


class WantedFrames:
    """Filters for a line that has none in the kernel: a look-up, and masks for J1939."""

    def __init__(self, filters: Sequence[CanFilter]) -> None:
        self._all = not filters
        self._exact = {
            (can_id, extended)
            for can_id, mask, extended in filters
            if mask == (_EXTENDED_ID if extended else _STANDARD_ID)
        }
        self._masked = [one for one in filters if (one[0], one[2]) not in self._exact]

    def includes(self, can_id: int, extended: bool) -> bool:
        """True when a frame is to be passed."""
        if self._all or (can_id, extended) in self._exact:
            return True
        return any(can_id & mask == wanted and extended == of for wanted, mask, of in self._masked)


@dataclass(slots=True)
class SocketCanDrain:
    """Takes frames from a raw CAN socket.

    Attributes:
        socket: bound, with stamps and the drop counter asked for.
        lost: frames that the kernel dropped for want of room.
        error_frames: error frames of the controller.
        was_busy: True when the last batch was a large one.
    """

    socket: socket.socket
    lost: int = 0
    error_frames: int = 0
    was_busy: bool = False
    _failure: OSError | None = None

    @property
    def fileno(self) -> int:
        """The descriptor that becomes readable."""
        return self.socket.fileno()

    def frames(self, clock: Clock) -> list[CanFrame]:
        """Every data frame that waits, at most `MAX_BATCH`. Raises OSError.

        The kernel stamps frames with its wall clock, which may be wrong but not by how long they have waited.
        """
        if self._failure is not None:
            raise self._failure
        now_ns, now_utc_ns = clock.boottime_ns(), clock.system_utc().unix_ms * 1_000_000
        frames: list[CanFrame] = []
        receive = self.socket.recvmsg
        for _ in range(MAX_BATCH):
            try:
                raw, ancillary, _, _ = receive(_CAN_FD_FRAME.size, 64, socket.MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if not frames:
                    raise
                # The kernel says it once: first give what came before.
                self._failure = error
                break
            waited_ns = self._note(ancillary, now_utc_ns)
            layout = _CAN_FRAME if len(raw) == _CAN_FRAME.size else _CAN_FD_FRAME
            can_id, length, payload = layout.unpack(raw)
            if can_id & _ERROR:
                self.error_frames += 1
            elif not can_id & _REMOTE:
                extended = bool(can_id & _EXTENDED)
                can_id &= _EXTENDED_ID if extended else _STANDARD_ID
                frames.append(CanFrame(can_id, extended, payload[:length], now_ns - waited_ns))
        self.was_busy = len(frames) >= MANY_FRAMES
        return frames

    def _note(self, ancillary: list[tuple[int, int, bytes]], now_utc_ns: int) -> int:
        """Take the drop counter; returns how long the frame has waited, in nanoseconds."""
        waited_ns = 0
        for _, kind, data in ancillary:
            if kind == _SO_TIMESTAMPNS:
                seconds, nanoseconds = _TIMESPEC.unpack_from(data)
                waited_ns = now_utc_ns - seconds * 1_000_000_000 - nanoseconds
            elif kind == SO_RXQ_OVFL:
                (self.lost,) = _COUNTER.unpack_from(data)
        return waited_ns if 0 <= waited_ns <= MAX_WAIT_NS else 0


@dataclass(slots=True)
class SlcanDrain:
    """Takes frames from an adapter's serial line.

    Attributes:
        fileno: the line's descriptor, not blocking.
        line: cuts its bytes into frames.
        was_busy: True when the last batch was a large one, wanted or not.
    """

    fileno: int
    line: SlcanLine
    was_busy: bool = False

    @property
    def lost(self) -> int:
        """Frames lost so far, as damaged lines tell."""
        return self.line.damaged_lines

    def frames(self, clock: Clock) -> list[CanFrame]:
        """Every wanted frame that waits, to a bound. Raises OSError, and EOFError when the device hung up."""
        at_ns = clock.boottime_ns()
        frames: list[CanFrame] = []
        taken = 0
        for _ in range(MAX_LINE_READS):
            try:
                data = os.read(self.fileno, LINE_READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                if frames:
                    break  # the next read meets it again
                raise
            if not data:
                if frames:
                    break
                raise EOFError
            taken += len(data)
            frames += self.line.frames(data, at_ns)
            if len(data) < LINE_READ_BYTES:
                break
        self.was_busy = taken >= MANY_FRAMES * LINE_BYTES
        return frames
