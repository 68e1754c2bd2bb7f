"""A batch of journal records, as values; `agent.wire.codec` puts it into bytes and back."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domain.record import Body, Opaque, Stream, token_of
from agent.domain.stamp import UtcSource

MAX_RECORDS = 4_096
"""Most records in one batch."""
MAX_BYTES = 1024 * 1024
"""Most bytes of a payload, before and after inflating."""
MAX_SEQ = 1 << 62
"""Every sequence number is below."""


class CodecError(ValueError):
    """A payload is not what its topic promises, or a value can not be put into one."""


@dataclass(frozen=True, slots=True)
class BatchHeader:
    """What all records of a batch have in common.

    Attributes:
        unit: the unit's name, as in the topic.
        stream: the stream, as in the topic.
        journal: identity of the store whose sequences these are, 32 bits.
        boot: the store's count of boots at which all these records were made.
        history: sent late, from the backlog.
        replay: sent again, on request.
    """

    unit: str
    stream: Stream
    journal: int
    boot: int
    history: bool = False
    replay: bool = False


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """One record as a reader gets it.

    Attributes:
        unit: the unit's name.
        stream: the stream.
        seq: sequence number; (journal, stream, seq) is the record's identity within the unit.
        journal: identity of the store.
        boot: count of the boot at which it happened.
        boottime_ms: CLOCK_BOOTTIME of the event in milliseconds.
        utc_ms: derived UTC in Unix milliseconds; None when not known.
        utc_source: where that came from.
        utc_uncertainty_ms: half-width of the interval the true time is believed to lie in; None when unknown.
        kind: number of its `agent.domain.record.Kind`, or of one that is not known here; 0 when a kind that
            is not known came without its number.
        body: what happened; an `agent.domain.record.Opaque` when it can not be read.
        history: it came late, from the backlog.
        replay: it came again, on request.
        conflict: a reader sets it: another record was read under the same number before.
    """

    unit: str
    stream: Stream
    seq: int
    journal: int
    boot: int
    boottime_ms: int
    utc_ms: int | None
    utc_source: UtcSource
    utc_uncertainty_ms: int | None
    kind: int
    body: Body
    history: bool = False
    replay: bool = False
    conflict: bool = False

    @property
    def token(self) -> str:
        """The word for its kind."""
        return (self.body.token if isinstance(self.body, Opaque) else None) or token_of(self.kind)


@dataclass(frozen=True, slots=True)
class Batch:
    """A decoded payload of a journal topic.

    Attributes:
        header: what the records have in common.
        records: at least one, strictly ascending in `seq`.
    """

    header: BatchHeader
    records: list[JournalRecord]
