"""The SLCAN serial protocol (Lawicel), as far as a listener needs it: bytes to frames.

A frame is a line that ends in CR, with some adapters in LF or both: `t` + 3 hexadecimal digits of
identifier, or `T` + 8, then one digit of length, the data as hexadecimal digits and, when the adapter adds
them, 4 digits of timestamp. `d`, `D`, `b`, `B` are CAN FD with a length code of one hexadecimal digit. `r`
and `R` are remote frames, without data. CR alone and BEL answer commands.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from agent.hal.can import CanFrame

MAX_LINE_BYTES = 160
"""Longer than any frame (CAN FD: 1 + 8 + 1 + 128 + 4): what follows no CR is not SLCAN."""
FD_LENGTHS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64)
MAX_CLASSIC_LENGTH = 8
MAX_EXTENDED_ID = 0x1FFFFFFF

# x is how the CANDapter writes T.
_FRAME = re.compile(
    rb"(?:([tdb])([0-9A-Fa-f]{3})|([TDBx])([0-9A-Fa-f]{8}))([0-9A-Fa-f])((?:[0-9A-Fa-f]{2})*)"
)
_CLASSIC = frozenset(b"tTx")
_NOT_A_FRAME = re.compile(rb"\Z|[rR][0-9A-Fa-f]+|[VNFzZ]\w*")
"""Remote frames, and answers to commands: version, serial number, status flags."""
_CHATTER = re.compile(
    rb"(?![tTdDbBx](?:[0-9A-Fa-f]{3}|[0-9]))"
    rb"(?=.*(?=[A-Za-z]{3})[A-Za-z]{0,20}[g-qsu-wyzG-QSU-Z])[\x20-\x7e\t]+"
)
"""What an adapter says to people ("CANable ready"): readable, has a word, does not begin as a frame does."""
_LINE_END = re.compile(rb"[\r\n]")


class SlcanLine:
    """Cuts bytes into frames. Bytes may be cut anywhere.

    Args:
        is_wanted: `is_wanted(can_id, extended)` says which frames to make.

    Attributes:
        damaged_lines: lines that were neither a frame nor an answer: bytes were lost on the way. The very
            first line does not count, for a listener joins in the middle of it.
        chatter_lines: lines of text that the adapter's firmware says to people.
    """

    def __init__(self, is_wanted: Callable[[int, bool], bool]) -> None:
        self._is_wanted = is_wanted
        self._rest = b""
        self._has_joined = False
        self.damaged_lines = 0
        self.chatter_lines = 0

    def frames(self, data: bytes, received_boottime_ns: int) -> list[CanFrame]:
        """The wanted frames that `data` completes."""
        *lines, self._rest = _LINE_END.split(self._rest + data)
        frames: list[CanFrame] = []
        for line in lines:
            frame = self._frame(line.lstrip(b"\a"), received_boottime_ns)
            if frame is not None:
                frames.append(frame)
        if len(self._rest) > MAX_LINE_BYTES:
            self._rest = b""
            self._damaged()
        return frames

    def _frame(self, line: bytes, at_ns: int) -> CanFrame | None:
        match = _FRAME.fullmatch(line)
        if match is None:
            if _CHATTER.fullmatch(line):
                self.chatter_lines += 1
            elif not _NOT_A_FRAME.fullmatch(line):
                self._damaged()
            self._has_joined = True
            return None
        self._has_joined = True
        short_kind, short_id, long_kind, long_id, length_code, payload = match.groups()
        extended = short_kind is None
        can_id = int(long_id if extended else short_id, 16)
        length = FD_LENGTHS[int(length_code, 16)]
        is_classic = (long_kind if extended else short_kind)[0] in _CLASSIC
        extra = len(payload) - 2 * length
        if extra not in (0, 4) or can_id > MAX_EXTENDED_ID or (is_classic and length > MAX_CLASSIC_LENGTH):
            self._damaged()
            return None
        if not self._is_wanted(can_id, extended):
            return None
        return CanFrame(can_id, extended, bytes.fromhex(payload[: 2 * length].decode("ascii")), at_ns)

    def _damaged(self) -> None:
        self.damaged_lines += self._has_joined
