"""Cutting rows into messages that the broker takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent import config
from agent.domain.record import Gap, Kind, Stream
from agent.domain.stamp import UtcSource
from agent.outbox.body import pack_body
from agent.outbox.gaps import gap_of
from agent.outbox.row import Row
from agent.uplink.codec import BatchHeader, CodecError, encode_batch
from agent.uplink.link import Message
from agent.uplink.topics import Topics


class JournalIdentity(Protocol):
    """Which store the rows are from; the outbox."""

    @property
    def journal(self) -> int:
        """Identity of its sequences."""
        ...

    @property
    def boot(self) -> int:
        """Its count of this boot."""
        ...


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message and what it carries.

    Attributes:
        message: ready to publish.
        count: rows of the given ones that it holds, from the first.
        last_seq: sequence number that a reader has everything up to once it landed.
    """

    message: Message
    count: int
    last_seq: int


class Batcher:
    """Makes batches of one stream; learns how many records fit the broker's maximum packet size.

    A record that alone is too large for the broker, or that can not be encoded, is told by a gap record in
    its place ("too_large", "damaged"): it stays in the store's replay window, and those after it go on.
    """

    def __init__(
        self,
        settings: config.Uplink,
        topics: Topics,
        identity: JournalIdentity,
        stream: Stream,
        resolve_utc: Callable[[Row], Row],
    ) -> None:
        self._settings = settings
        self._topic = topics.journal(stream)
        self._unit = topics.unit
        self._identity = identity
        self._stream = stream
        self._resolve_utc = resolve_utc
        self._limit: int | None = None
        self._most = settings.batch_records
        self._unfit: set[int] = set()

    def open(self, maximum_packet_bytes: int | None) -> None:
        """A connection was opened to a broker that takes packets of this size."""
        self._limit = maximum_packet_bytes
        self._most = self._settings.batch_records
        self._unfit.clear()

    def too_large(self, first_seq: int, count: int) -> bool:
        """The broker refused a batch of `count` records from `first_seq` for its size.

        Returns False when it was a lone gap record already: there is nothing smaller to try.
        """
        self._most = max(1, count // 2)
        if count > 1:
            return True
        new = first_seq not in self._unfit
        self._unfit.add(first_seq)
        return new

    def make(self, rows: Sequence[Row], *, history: bool, replay: bool) -> Parcel | None:
        """The next message from the beginning of `rows`; None when not even a gap record fits the broker."""
        cut = self._cut(rows)
        while True:
            try:
                message = self._encode([self._fitting(row) for row in cut], history=history, replay=replay)
            except CodecError:
                if len(cut) == 1 and cut[0].kind == Kind.GAP:
                    raise
                cut = cut[: len(cut) // 2] or [_in_place_of(cut[0], "damaged")]
                continue
            if self._limit is None or message.packet_bytes() <= self._limit:
                self._most = min(self._settings.batch_records, max(self._most, len(cut) + 1 + len(cut) // 8))
                return Parcel(message, len(cut), _last_seq(cut[-1]))
            if len(cut) > 1:
                cut = cut[: len(cut) // 2]
                self._most = len(cut)
            elif cut[0].kind == Kind.GAP:
                return None
            else:
                cut = [_in_place_of(cut[0], "too_large")]

    def _cut(self, rows: Sequence[Row]) -> list[Row]:
        cut = list(rows[: self._most])
        if cut[0].boot != cut[-1].boot:
            boot = cut[0].boot
            cut = cut[: next(index for index, row in enumerate(cut) if row.boot != boot)]
        left = self._settings.batch_bytes
        for index, row in enumerate(cut):
            left -= len(row.body)
            if left < 0 and index:
                del cut[index:]
                break
        if cut[0].boot == self._identity.boot:
            resolve = self._resolve_utc
            # A wall clock that nobody set is no better than none: such a row gets its UTC here as well.
            cut = [resolve(row) if row.utc_source < UtcSource.NTP else row for row in cut]
        return cut

    def _fitting(self, row: Row) -> Row:
        return _in_place_of(row, "too_large") if row.seq in self._unfit else row

    def _encode(self, rows: Sequence[Row], *, history: bool, replay: bool) -> Message:
        header = BatchHeader(
            unit=self._unit,
            stream=self._stream,
            journal=self._identity.journal,
            boot=rows[0].boot,
            history=history,
            replay=replay,
        )
        encoded = encode_batch(header, rows, self._settings.encoding)
        return Message(
            self._topic,
            encoded.payload,
            content_type=encoded.content_type,
            urgent=self._stream is Stream.EVENTS and not replay,
        )


def _in_place_of(row: Row, reason: str) -> Row:
    """A gap record that says what stood at this sequence number."""
    body = pack_body(Gap(row.seq, reason, ((Kind(row.kind).token, 1),)))
    return row._replace(kind=Kind.GAP, body=body)


def _last_seq(row: Row) -> int:
    """Where a reader stands after this row: a gap record covers further numbers."""
    return gap_of(row).last_seq if row.kind == Kind.GAP else row.seq
