"""A control unit that answers OBD-II requests, below the raw line: frames in, frames out."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

SINGLE, FIRST, CONSECUTIVE, FLOW = 0, 1, 2, 3
SINGLE_BYTES, FIRST_BYTES, CONSECUTIVE_BYTES = 7, 6, 7


class PlayedEcu:
    """Answers what `answers` has; refuses what it has an empty answer for, and is silent on all else.

    Args:
        answers: request to answer, as whole messages.
        listens: identifier that it listens to; it answers with 8 more.

    Attributes:
        requests: what it was asked, oldest first.
        padded: whether every frame that came was of eight bytes, as OBD-II wants them.
        frames: what it wants to send.
    """

    def __init__(self, answers: Mapping[bytes, bytes], listens: int = 0x7E0) -> None:
        self.answers = dict(answers)
        self.listens = listens
        self.requests: list[bytes] = []
        self.padded = True
        self.frames: deque[tuple[int, bytes]] = deque()
        self._rest: deque[bytes] = deque()

    def take(self, can_id: int, data: bytes) -> None:
        """A frame is on the bus."""
        if can_id != self.listens or not data:
            return
        self.padded = self.padded and len(data) == 8  # noqa: PLR2004
        kind = data[0] >> 4
        if kind == SINGLE:
            self._asked(data[1 : 1 + (data[0] & 0xF)])
        elif kind == FLOW and data[0] & 0xF == 0:
            count = data[1] or len(self._rest)
            for _ in range(min(count, len(self._rest))):
                self._say(self._rest.popleft())

    def _asked(self, request: bytes) -> None:
        self.requests.append(request)
        answer = self.answers.get(request)
        if answer is None:
            return
        answer = answer or bytes([0x7F, request[0], 0x12])
        if len(answer) <= SINGLE_BYTES:
            self._say(bytes([len(answer)]) + answer)
            return
        self._say(bytes([FIRST << 4 | len(answer) >> 8, len(answer) & 0xFF]) + answer[:FIRST_BYTES])
        rest = answer[FIRST_BYTES:]
        self._rest = deque(
            bytes([CONSECUTIVE << 4 | (number + 1) & 0xF])
            + rest[number * CONSECUTIVE_BYTES : (number + 1) * CONSECUTIVE_BYTES]
            for number in range(-(-len(rest) // CONSECUTIVE_BYTES))
        )

    def _say(self, data: bytes) -> None:
        self.frames.append((self.listens + 8, data.ljust(8, b"\xaa")))


class PlayedFrames:
    """A raw line with a control unit at its end; implements firmware_shims.obd_line.FrameLine."""

    def __init__(self, ecu: PlayedEcu) -> None:
        self._ecu = ecu
        self.is_open = True

    def send(self, can_id: int, data: bytes) -> None:
        """To the control unit."""
        self._ecu.take(can_id, data)

    def receive(self, timeout_s: float) -> tuple[int, bytes] | None:
        """From it."""
        del timeout_s
        return self._ecu.frames.popleft() if self._ecu.frames else None

    def close(self) -> None:
        """Closed."""
        self.is_open = False
