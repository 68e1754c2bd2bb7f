"""The last minute of what was read, packed, so that a window of it can be kept when something happens."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from agent.hal.can import CanFrame
from agent.recorder.recording_format import pack_can

Message = tuple[str, int, int, bytes]
"""Topic, log time, publish time, payload."""

_HEAD = struct.Struct("<QIB")
_EXTENDED = 1 << 31
SEGMENT_NS = 1_000_000_000
MOST_SHARE = 32
"""A segment holds at most this part of all bytes, so that giving up the oldest gives up little."""
MOST_BYTES = 8 * 1024 * 1024
"""A minute of 4,500 frames a second is 6 MiB."""


@dataclass(slots=True)
class Segment:
    """A second of it, or less; once it was taken it does not change any more."""

    number: int
    begun_ns: int
    newest_ns: int
    frames: dict[str, bytearray] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    size: int = 0

    def unpacked(self) -> Iterator[Message]:
        """Its messages, those of each channel in their order."""
        yield from self.messages
        for topic, packed in self.frames.items():
            at, data = 0, bytes(packed)
            while at < len(data):
                at_ns, can_id, length = _HEAD.unpack_from(data, at)
                at += _HEAD.size
                payload = pack_can(can_id & ~_EXTENDED, can_id >= _EXTENDED, data[at : at + length])
                yield topic, at_ns, at_ns, payload
                at += length


class WindowRing:
    """Frames and messages of the last `span_ns`, at most `most_bytes` of them. Event loop only.

    A frame costs 13 bytes and its own: what is kept as objects would cost ten times that.

    Attributes:
        dropped_bytes: what went before its time, because there was more than the ring holds.
    """

    def __init__(self, span_ns: int, most_bytes: int = MOST_BYTES) -> None:
        self._span_ns = span_ns
        self._most_bytes = most_bytes
        self._segments: deque[Segment] = deque()
        self._size = 0
        self._sealed = self._made = 0
        self.dropped_bytes = 0

    def frames(self, topic: str, frames: Sequence[CanFrame]) -> None:
        """Add frames of a bus, oldest first."""
        if not frames:
            return
        segment = self._segment(frames[-1].received_boottime_ns)
        packed = segment.frames.get(topic)
        if packed is None:
            packed = segment.frames[topic] = bytearray()
        before, head = len(packed), _HEAD.pack
        for can_id, extended, data, at_ns in frames:
            packed += head(max(at_ns, 0), can_id | _EXTENDED if extended else can_id, len(data))
            packed += data
        self._grew(segment, len(packed) - before)

    def message(self, topic: str, at_ns: int, payload: bytes) -> None:
        """Add a message of another channel."""
        segment = self._segment(at_ns)
        segment.messages.append((topic, at_ns, at_ns, payload))
        self._grew(segment, len(payload) + 100)

    def oldest_ns(self, default: int) -> int:
        """CLOCK_BOOTTIME of the oldest that is held; `default` when there is nothing."""
        return self._segments[0].begun_ns if self._segments else default

    def taken_after(self, number: int) -> tuple[int, list[Segment]]:
        """What came after segment `number`, sealed: it does not change any more.

        Returns:
            The number to ask with next, and the segments, to be unpacked by `messages_of`, also elsewhere.
        """
        fresh = [segment for segment in self._segments if segment.number > number]
        if fresh:
            number = self._sealed = fresh[-1].number
        return number, fresh

    def _segment(self, at_ns: int) -> Segment:
        last = self._segments[-1] if self._segments else None
        is_full = last is not None and (
            last.number <= self._sealed
            or at_ns - last.begun_ns >= SEGMENT_NS
            or last.size >= self._most_bytes // MOST_SHARE
        )
        if last is None or is_full:
            self._made += 1
            last = Segment(self._made, at_ns, at_ns)
            self._segments.append(last)
        last.newest_ns = max(last.newest_ns, at_ns)
        return last

    def _grew(self, segment: Segment, by: int) -> None:
        segment.size += by
        self._size += by
        segments = self._segments
        while len(segments) > 1 and segment.newest_ns - segments[0].newest_ns > self._span_ns:
            self._size -= segments.popleft().size
        while len(segments) > 1 and self._size > self._most_bytes:
            gone = segments.popleft()
            self._size -= gone.size
            self.dropped_bytes += gone.size


def messages_of(segments: Sequence[Segment], from_ns: int) -> list[Message]:
    """The messages of segments from a time on, in the order of time."""
    found = [one for segment in segments for one in segment.unpacked() if one[1] >= from_ns]
    found.sort(key=lambda one: one[1])
    return found
