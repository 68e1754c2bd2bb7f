"""Cutting rows into messages that the broker takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent import config
from agent.domain.record import TOO_LARGE, Gap, Kind, Stream
from agent.domain.stamp import UtcSource
from agent.outbox.body import pack_body
from agent.outbox.fault import StoreDamagedError
from agent.outbox.gaps import gap_of
from agent.outbox.row import Row
from agent.uplink.codec import BatchHeader, CodecError, encode_batch
from agent.uplink.interval_set import IntervalSet
from agent.uplink.link import Message
from agent.uplink.topics import Topics

_KINDS = frozenset(kind.value for kind in Kind)
_MAX_BOOT = (1 << 32) - 1

LEARN_ABOVE_BYTES = 512
"""A packet up to this size is never taken for the reason why a connection ended."""
LONE_LOSSES = 3
"""Connections in a row that must end under the same record before that, alone, is taken for the reason."""
WITHHELD_INTERVALS = 1_000
"""Intervals of withheld sequence numbers that are remembered; beyond them the oldest are forgotten."""
GROW_AFTER_BATCHES = 64
GROW_AFTER_BATCHES_MAX = 65_536


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

    def last_seq(self, stream: Stream) -> int:
        """Newest sequence number of a stream."""
        ...


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message and what it carries.

    Attributes:
        message: ready to publish.
        count: rows of the given ones that it holds, from the first.
        first_seq: sequence number of its first record.
        last_seq: sequence number that a reader has everything up to once it landed.
        withheld: sequence numbers for which it holds a gap record only, for their size.
    """

    message: Message
    count: int
    first_seq: int
    last_seq: int
    withheld: tuple[int, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Size of the packet."""
        return self.message.packet_bytes()


class Batcher:
    """Makes batches of one stream; learns how many records fit the broker's maximum packet size.

    A record that alone is too large for the broker, or that can not be encoded, is told by a gap record in
    its place ("too_large", "damaged"): it stays in the store's replay window, and those after it go on. What
    is too large for one broker may fit another, or the same with other settings: a reader asks for it after
    each birth, and until it has landed `withheld` counts it.

    A broker may as well hang up on a packet that it finds too large; with MQTT 3.1.1 it can say nothing else.
    So a batch that was under way when a connection ended, larger than all that landed before, halves the size
    of the next ones, and a record under which, alone, several connections in a row ended is withheld. Both
    are tried again once enough has landed, after twice as much each time that was too early.
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
        self._endpoint = ""
        self._ceiling: int | None = None
        self._lone_ceiling: int | None = None
        self._suspect = 0
        self._suspected_times = 0
        self._largest_landed = 0
        self._good = 0
        self._grow_after = GROW_AFTER_BATCHES
        self._withheld = IntervalSet()
        self._withheld_of = 0

    @property
    def withheld(self) -> int:
        """Records of the store that no broker took for their size, as far as this process knows."""
        return self._withheld.count() if self._withheld_of == self._identity.journal else 0

    def open(self, endpoint: str, maximum_packet_bytes: int | None) -> None:
        """A connection was opened to a broker that takes packets of this size; None when it did not say."""
        if endpoint != self._endpoint:
            self._endpoint = endpoint
            self._ceiling = self._lone_ceiling = None
            self._suspect = self._suspected_times = 0
            self._grow_after = GROW_AFTER_BATCHES
        self._limit = maximum_packet_bytes
        self._most = self._settings.batch_records
        self._unfit.clear()
        self._largest_landed = 0

    def landed(self, parcel: Parcel) -> None:
        """The broker took it."""
        self._largest_landed = max(self._largest_landed, parcel.size_bytes)
        if parcel.first_seq <= self._suspect <= parcel.last_seq:
            self._suspect = self._suspected_times = 0
        self._note_withheld(parcel)
        if self._ceiling is None and self._lone_ceiling is None:
            return
        self._good += 1
        if self._good >= self._grow_after:
            self._good = 0
            self._ceiling = self._grown(self._ceiling)
            self._lone_ceiling = self._grown(self._lone_ceiling)

    def lost(self, parcel: Parcel) -> None:
        """The connection ended with this under way, the largest that was."""
        learn_above = max(LEARN_ABOVE_BYTES, self._largest_landed)
        if parcel.size_bytes <= learn_above:
            return
        if parcel.count > 1:
            self._ceiling = max(learn_above, parcel.size_bytes // 2)
        else:
            self._suspected_times = self._suspected_times + 1 if parcel.first_seq == self._suspect else 1
            self._suspect = parcel.first_seq
            if self._suspected_times < LONE_LOSSES:
                return
            self._lone_ceiling = max(learn_above, parcel.size_bytes - 1)
        self._good = 0
        self._grow_after = min(GROW_AFTER_BATCHES_MAX, 2 * self._grow_after)

    def _grown(self, ceiling: int | None) -> int | None:
        return None if ceiling is None or 2 * ceiling > self._settings.batch_bytes else 2 * ceiling

    def _note_withheld(self, parcel: Parcel) -> None:
        if self._withheld_of != self._identity.journal:
            self._withheld, self._withheld_of = IntervalSet(), self._identity.journal
        if len(self._withheld):
            self._withheld.remove(parcel.first_seq, parcel.last_seq)
        for seq in parcel.withheld:
            self._withheld.add(seq, seq)
        while len(self._withheld) > WITHHELD_INTERVALS:
            self._withheld.pop_lowest()

    def too_large(self, parcel: Parcel) -> bool:
        """The broker refused it for its size.

        Returns False when it was a lone gap record already: there is nothing smaller to try.
        """
        self._most = max(1, parcel.count // 2)
        if parcel.count > 1:
            return True
        new = parcel.first_seq not in self._unfit
        self._unfit.add(parcel.first_seq)
        return new

    def make(self, rows: Sequence[Row], *, history: bool, replay: bool) -> Parcel | None:
        """The next message from the beginning of `rows`; None when not even a gap record fits the broker."""
        cut = self._with_sound_gaps(rows, self._cut(rows))
        unfit = self._unfit
        while True:
            fitting = [_in_place_of(row, TOO_LARGE) if _is_unfit(row, unfit) else row for row in cut]
            try:
                message = self._encode(fitting, history=history, replay=replay)
            except CodecError:
                if len(cut) == 1 and cut[0].kind == Kind.GAP:
                    raise
                cut = cut[: len(cut) // 2] or [_in_place_of(cut[0], "damaged")]
                continue
            if self._fits(message.packet_bytes(), len(cut)):
                self._most = min(self._settings.batch_records, max(self._most, len(cut) + 1 + len(cut) // 8))
                withheld = tuple(row.seq for row in cut if _is_unfit(row, unfit))
                return Parcel(message, len(cut), cut[0].seq, _last_seq(cut[-1]), withheld)
            if len(cut) > 1:
                cut = cut[: len(cut) // 2]
                self._most = len(cut)
            elif fitting[0].kind == Kind.GAP:
                return None
            else:
                unfit = {cut[0].seq}

    def _cut(self, rows: Sequence[Row]) -> list[Row]:
        cut = list(rows[: self._most])
        boot = cut[0].boot
        cut = cut[: next((index for index, row in enumerate(cut) if row.boot != boot), None)]
        left = self._settings.batch_bytes
        for index, row in enumerate(cut):
            left -= len(row.body)
            if left < 0 and index:
                del cut[index:]
                break
        if boot == self._identity.boot:
            resolve = self._resolve_utc
            # A wall clock that nobody set is no better than none: such a row gets its UTC here as well.
            cut = [resolve(row) if row.utc_source < UtcSource.NTP else row for row in cut]
        return cut

    def _fits(self, size_bytes: int, count: int) -> bool:
        """Whether a packet may go: what was learnt of several records does not hold for one alone."""
        ceiling = self._ceiling if count > 1 else self._lone_ceiling
        if ceiling is not None and size_bytes > ceiling:
            return False
        return self._limit is None or size_bytes <= self._limit

    def _with_sound_gaps(self, rows: Sequence[Row], cut: list[Row]) -> list[Row]:
        """`cut`, with a gap that went bad told as such: believed, it would take what follows it for gone."""
        for index, row in enumerate(cut):
            if row.kind != Kind.GAP:
                continue
            following = rows[index + 1].seq if index + 1 < len(rows) else None
            end = self._identity.last_seq(self._stream) if following is None else following - 1
            try:
                sound = row.seq <= gap_of(row).last_seq <= max(row.seq, end)
            except StoreDamagedError:
                sound = False
            if not sound:
                cut[index] = _in_place_of(row, "damaged", row.seq if following is None else end)
        return cut

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


def _is_unfit(row: Row, unfit: set[int]) -> bool:
    return row.seq in unfit and row.kind != Kind.GAP


def _in_place_of(row: Row, reason: str, last_seq: int | None = None) -> Row:
    """A gap record that says what stood at this sequence number, and up to `last_seq`."""
    counts = ((Kind(row.kind).token, 1),) if row.kind in _KINDS and row.kind != Kind.GAP else ()
    gap = row._replace(
        kind=Kind.GAP, body=pack_body(Gap(row.seq if last_seq is None else last_seq, reason, counts))
    )
    if reason != "damaged":
        return gap
    # What went bad may as well be the stamp: a gap with that could be sent no more than the record itself.
    boot = row.boot if 0 <= row.boot <= _MAX_BOOT else 0
    return gap._replace(
        boot=boot, boottime_ms=0, utc_ms=None, utc_source=UtcSource.NONE.value, utc_uncertainty_ms=None
    )


def _last_seq(row: Row) -> int:
    """Where a reader stands after this row: a gap record covers further numbers."""
    return gap_of(row).last_seq if row.kind == Kind.GAP else row.seq
