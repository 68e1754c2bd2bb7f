"""Cutting rows into messages that the broker takes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import itemgetter

from agent import config
from agent.domain.record import Gap, Kind, Stream, token_of
from agent.domain.stamp import UtcSource
from agent.outbox.fault import StoreDamagedError
from agent.outbox.gaps import gap_of
from agent.uplink.link.link import Message
from agent.uplink.packet_limit import PacketLimit
from agent.uplink.records import Records
from agent.wire.body import pack_body
from agent.wire.codec import BatchHeader, CodecError, encode_batch
from agent.wire.row import Row
from agent.wire.topics import Topics

_MAX_BOOT = (1 << 32) - 1
_KIND, _BOOT, _UTC_SOURCE, _BODY = map(
    itemgetter, map(Row._fields.index, ("kind", "boot", "utc_source", "body"))
)
_GAP = Kind.GAP.value


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message and what it carries.

    Attributes:
        message: ready to publish.
        count: rows of the given ones that it carries, from the first.
        last_seq: sequence number that a reader has everything up to once it landed.
    """

    message: Message
    count: int
    last_seq: int

    @property
    def size_bytes(self) -> int:
        """Size of the packet."""
        return self.message.packet_bytes()


class Batcher:
    """Makes batches of one stream that are no larger than the broker's packets may be.

    One that can not be encoded is told by a gap record in its place ("damaged"), and those after it go on.
    """

    def __init__(  # noqa: PLR0917  # the parts of the uplink that it stands between
        self,
        settings: config.Uplink,
        topics: Topics,
        records: Records,
        stream: Stream,
        limit: PacketLimit,
        resolve_utc: Callable[[Row], Row],
    ) -> None:
        self._settings = settings
        self._topic = topics.journal(stream)
        self._unit = topics.unit
        self._records = records
        self._stream = stream
        self._limit = limit
        self._resolve_utc = resolve_utc
        self._most = settings.batch_records

    def make(self, rows: Sequence[Row], *, history: bool, replay: bool) -> Outgoing | None:
        """What to send next from the beginning of `rows`.

        None when one record alone is larger than what the broker takes, which no broker that is used does to
        a record of the present store.
        """
        cut = self._with_sound_gaps(rows, self._cut(rows))
        while True:
            try:
                message = self._encode(cut, history=history, replay=replay)
            except CodecError:
                if len(cut) == 1 and cut[0].kind == Kind.GAP:
                    raise
                cut = cut[: len(cut) // 2] or [_damaged(cut[0])]
                continue
            if self._limit.fits(message.packet_bytes()):
                self._most = min(self._settings.batch_records, max(self._most, len(cut) + 1 + len(cut) // 8))
                return Outgoing(message, len(cut), _last_seq(cut[-1]))
            if len(cut) == 1:
                return None
            cut = cut[: len(cut) // 2]
            self._most = len(cut)

    def _cut(self, rows: Sequence[Row]) -> list[Row]:
        """The rows of the next message; a long backlog passes through here, so that C code looks at each."""
        cut = list(rows[: self._most])
        boot = cut[0].boot
        boots = list(map(_BOOT, cut))
        if boots.count(boot) < len(boots):
            del cut[next(index for index, other in enumerate(boots) if other != boot) :]
        sizes = list(accumulate(map(len, map(_BODY, cut))))
        if sizes[-1] > self._settings.batch_bytes:
            del cut[max(1, bisect_right(sizes, self._settings.batch_bytes)) :]
        if boot == self._records.boot and min(map(_UTC_SOURCE, cut)) < UtcSource.NTP:
            resolve = self._resolve_utc
            # A wall clock that nobody set is no better than none: such a row gets its UTC here as well.
            cut = [resolve(row) if row.utc_source < UtcSource.NTP else row for row in cut]
        return cut

    def _with_sound_gaps(self, rows: Sequence[Row], cut: list[Row]) -> list[Row]:
        """`cut`, with a gap that went bad told as such: believed, it would take what follows it for gone."""
        if _GAP not in map(_KIND, cut):
            return cut
        for index, row in enumerate(cut):
            if row.kind != Kind.GAP:
                continue
            following = rows[index + 1].seq if index + 1 < len(rows) else None
            end = self._records.last_seq(self._stream) if following is None else following - 1
            try:
                sound = row.seq <= gap_of(row).last_seq <= max(row.seq, end)
            except StoreDamagedError:
                sound = False
            if not sound:
                cut[index] = _damaged(row, row.seq if following is None else end)
        return cut

    def _encode(self, rows: Sequence[Row], *, history: bool, replay: bool) -> Message:
        header = BatchHeader(
            unit=self._unit,
            stream=self._stream,
            journal=self._records.journal,
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


def _damaged(row: Row, last_seq: int | None = None) -> Row:
    """A gap record that says what stood at this sequence number, and up to `last_seq`."""
    counts = () if row.kind == Kind.GAP else ((token_of(row.kind), 1),)
    # What went bad may as well be the stamp: a gap with that could be sent no more than the record itself.
    return Row(
        seq=row.seq,
        kind=Kind.GAP,
        boot=row.boot if 0 <= row.boot <= _MAX_BOOT else 0,
        boottime_ms=0,
        utc_ms=None,
        utc_source=UtcSource.NONE.value,
        utc_uncertainty_ms=None,
        body=pack_body(Gap(row.seq if last_seq is None else last_seq, "damaged", counts)),
    )


def _last_seq(row: Row) -> int:
    """Where a reader stands after this row: a gap record covers further numbers."""
    return gap_of(row).last_seq if row.kind == Kind.GAP else row.seq
