"""Recordings as items: written by the harness, and read from wherever they come, also when damaged."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mcap.records import Channel, Message, Metadata

from agent.recorder import recording_format as form
from agent.recorder.mcap_records import DamagedError, read_records
from agent.recorder.recording_file import RecordingFile
from hil.drive.items import ButtonItem, TimedItem
from hil.recording.messages import item_of, message_of

LOOK_AHEAD_NS = 10_000_000_000
"""So much can an item stand behind a later one in the file; they are given in the order of their times."""


class RecordingWriter:
    """Writes items to a new recording. Use as a context manager."""

    def __init__(self, path: Path, metadata: Mapping[str, str]) -> None:
        self._file = RecordingFile(path, metadata)

    def __enter__(self) -> RecordingWriter:
        """Create the file. Raises OSError, FileExistsError among them."""
        self._file.open()
        return self

    def __exit__(self, *exc: object) -> None:
        """Write the index and close. Raises OSError."""
        self._file.close()

    def write(self, item: TimedItem) -> None:
        """Append an item. Raises OSError."""
        topic, payload = message_of(item)
        self._file.add(topic, item.t_ns, item.at_ns if isinstance(item, ButtonItem) else item.t_ns, payload)

    def write_all(self, items: Iterable[TimedItem]) -> None:
        """Append items. Raises OSError."""
        for item in items:
            self.write(item)


@dataclass(frozen=True, slots=True)
class Damage:
    """Where reading had to end before the end of the file.

    Attributes:
        offset: byte at which the first record that can not be used begins.
        size_bytes: of the whole file.
        last_ns: time of the last item before it, None when there was none.
        why: what is wrong there.
    """

    offset: int
    size_bytes: int
    last_ns: int | None
    why: str

    def __str__(self) -> str:
        until = "no items" if self.last_ns is None else f"items up to t = {self.last_ns / 1e9:.3f} s"
        return (
            f"damaged at byte {self.offset} of {self.size_bytes}: {self.why}; {until} were read, "
            f"{self.size_bytes - self.offset} bytes are not used"
        )


@dataclass(slots=True)
class Found:
    """What a reader has met so far.

    Attributes:
        metadata: of the recording.
        damage: where the file ends or goes wrong before its end, None when all was read and right.
        unknown: topic of each channel that is not of this format, with the number of its messages.
        bad: messages of known channels that could not be decoded, by topic.
    """

    metadata: dict[str, str] = field(default_factory=dict)
    damage: Damage | None = None
    unknown: dict[str, int] = field(default_factory=dict)
    bad: dict[str, int] = field(default_factory=dict)


class RecordingReader:
    """Reads a recording from its beginning; `found` is filled while `items` is consumed.

    A file that was cut off, or has wrong bytes, is read up to the first record that can not be trusted: each
    chunk is used only when its checksum is right, and everything before it is given.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found = Found()

    def items(self) -> Iterator[TimedItem]:
        """All items, ascending in time (the time of the agent's boot clock). Raises OSError."""
        self.found = Found()
        waiting: list[tuple[int, int, TimedItem]] = []
        newest_ns = 0
        for count, item in enumerate(self._in_file_order()):
            newest_ns = max(newest_ns, item.t_ns)
            heapq.heappush(waiting, (item.t_ns, count, item))
            while waiting[0][0] < newest_ns - LOOK_AHEAD_NS:
                yield heapq.heappop(waiting)[2]
        while waiting:
            yield heapq.heappop(waiting)[2]

    def _in_file_order(self) -> Iterator[TimedItem]:
        topics: dict[int, str] = {}
        last_ns: int | None = None
        size = self.path.stat().st_size
        with self.path.open("rb") as stream:
            try:
                for record in read_records(stream, size):
                    match record:
                        case Channel(id=channel_id, topic=topic):
                            topics[channel_id] = topic
                        case Metadata(name=form.METADATA_NAME, metadata=metadata):
                            self.found.metadata = dict(metadata)
                        case Message():
                            item = self._decoded(topics.get(record.channel_id, ""), record)
                            if item is not None:
                                last_ns = item.t_ns if last_ns is None else max(last_ns, item.t_ns)
                                yield item
            except DamagedError as error:
                self.found.damage = Damage(error.offset, size, last_ns, error.why)

    def _decoded(self, topic: str, message: Message) -> TimedItem | None:
        try:
            item = item_of(topic, message)
        except (ValueError, KeyError, TypeError):
            self.found.bad[topic] = self.found.bad.get(topic, 0) + 1
            return None
        if item is None:
            self.found.unknown[topic] = self.found.unknown.get(topic, 0) + 1
        return item
