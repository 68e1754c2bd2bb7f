"""SAE J1939-21 transport, listened to: messages of more than eight bytes, out of their packets.

Both ways are heard: announced to all (BAM), and between two control units (RTS, CTS, end). Nothing is sent.
What a bus may do wrong is bounded: so many messages at a time, of at most 1,785 bytes, each with its time.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.hal.can import CanFrame

CONNECTION_GROUP, DATA_GROUP = 0xEC00, 0xEB00
_RTS, _END, _BAM, _ABORT = 16, 19, 32, 255
PACKET_BYTES = 7
EVERYBODY = 0xFF
"""Destination of what is announced to all."""
LEAST_BYTES, MOST_BYTES = 9, 1785
MOST_AT_A_TIME = 32
"""Control units of a vehicle that send a long message at the same moment are a handful."""
SILENCE_NS = 1_250_000_000
"""A sender that pauses for longer has given up: T2 and T3 of the standard."""


@dataclass(frozen=True, slots=True)
class LongMessage:
    """A message that was put together.

    Attributes:
        group: its parameter group number.
        source: address of the control unit that sent it.
        destination: to whom, 255 for all.
        data: all of it.
        at_ns: CLOCK_BOOTTIME of its last packet.
    """

    group: int
    source: int
    destination: int
    data: bytes
    at_ns: int


@dataclass(slots=True)
class _Assembly:
    group: int
    length: int
    packets: int
    heard_ns: int
    parts: dict[int, bytes]


class Reassembler:
    """Takes frames of the two transport groups. Pure state, no clock: the frames carry the time.

    Attributes:
        broken: messages that were announced and never completed, or announced with numbers that can not be.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], _Assembly] = {}
        self.broken = 0

    def take(self, frame: CanFrame) -> LongMessage | None:
        """Take a 29-bit frame; the message that it completes, if it does. Other groups are passed over."""
        group, destination, source = (
            (frame.can_id >> 8) & 0x3FF00, (frame.can_id >> 8) & 0xFF, frame.can_id & 0xFF
        )  # fmt: skip
        if not frame.extended or len(frame.data) < PACKET_BYTES + 1:
            return None
        if group == CONNECTION_GROUP:
            self._connection(frame, (source, destination))
        elif group == DATA_GROUP:
            return self._packet(frame, (source, destination))
        return None

    def _connection(self, frame: CanFrame, pair: tuple[int, int]) -> None:
        data, control = frame.data, frame.data[0]
        if control in (_RTS, _BAM):
            length, packets = int.from_bytes(data[1:3], "little"), data[3]
            if pair in self._open:
                self._give_up(pair)
            fits = LEAST_BYTES <= length <= MOST_BYTES and packets == -(-length // PACKET_BYTES)
            if not fits or (control == _BAM) != (pair[1] == EVERYBODY):
                self.broken += 1
                return
            self._make_room(frame.received_boottime_ns)
            group = int.from_bytes(data[5:8], "little") & 0x3FFFF
            self._open[pair] = _Assembly(group, length, packets, frame.received_boottime_ns, {})
        elif control == _ABORT:
            # Either side may abort: the receiver's frame has the pair the other way round.
            for one in (pair, (pair[1], pair[0])):
                if one in self._open:
                    self._give_up(one)
        elif control != _END and (assembly := self._open.get((pair[1], pair[0]))) is not None:
            assembly.heard_ns = (
                frame.received_boottime_ns
            )  # CTS: the receiver may hold the sender for a while

    def _packet(self, frame: CanFrame, pair: tuple[int, int]) -> LongMessage | None:
        assembly = self._open.get(pair)
        if assembly is None:
            return None
        at_ns = frame.received_boottime_ns
        number = frame.data[0]
        if at_ns - assembly.heard_ns > SILENCE_NS or not 1 <= number <= assembly.packets:
            self._give_up(pair)
            return None
        assembly.heard_ns = at_ns
        assembly.parts[number] = frame.data[
            1 : PACKET_BYTES + 1
        ]  # sent again after a CTS: the newest is right
        if len(assembly.parts) < assembly.packets:
            return None
        del self._open[pair]
        data = b"".join(assembly.parts[one] for one in range(1, assembly.packets + 1))[: assembly.length]
        return LongMessage(assembly.group, pair[0], pair[1], data, at_ns)

    def _make_room(self, now_ns: int) -> None:
        for pair, assembly in list(self._open.items()):
            if now_ns - assembly.heard_ns > SILENCE_NS:
                self._give_up(pair)
        if len(self._open) >= MOST_AT_A_TIME:
            self._give_up(min(self._open, key=lambda pair: self._open[pair].heard_ns))

    def _give_up(self, pair: tuple[int, int]) -> None:
        del self._open[pair]
        self.broken += 1
