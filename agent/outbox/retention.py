"""What goes, in which order, when the store outgrows its budget; and delivered records after their time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from agent.domain.record import Kind, Position, Stream
from agent.domain.stamp import UtcSource
from agent.outbox.counters import ROW_BYTES
from agent.outbox.fault import StoreDamagedError
from agent.outbox.gaps import without
from agent.outbox.simplify import TrackPoint, points_to_keep
from agent.outbox.store import Store
from agent.wire.body import unpack_body
from agent.wire.row import Row

_TRIM_ROWS = 1000
_THIN_ROWS = 256
"""Rows looked at in one slice: about 3 ms on a PC."""
_STRETCH_ROWS = 4096
"""New records to wait for before another stretch is begun; shorter ones would consist of ends, which stay."""
_LOW_WATER = 31 / 32
"""Upkeep goes on until this part of a budget is reached, not to start again with the next record."""
_DAY_MS = 86_400_000

_KNOWN = frozenset(kind.value for kind in Kind)


class _Stage(NamedTuple):
    """One step of giving up.

    Attributes:
        tolerance_m: positions are thinned to within so many metres; None when other kinds go.
        kinds: numbers of the kinds that go; empty for those that are not known, of another version.
    """

    tolerance_m: float | None
    kinds: frozenset[int] = frozenset()


def _stages() -> tuple[_Stage, ...]:
    """What is given up, mildest first, from the table of kinds.

    The trail's shape to within so many metres, then all but a point a minute, then the other kinds in their
    order, last those that only another version of the agent knows. A point between two records that stay is
    left alone, since its gap would take about its place; when those have gone it goes with them. The events
    lie in the other stream and are never touched.
    """
    thinned = _Stage(math.inf)
    orders = sorted({kind.given_up for kind in Kind if kind.given_up and kind is not Kind.POSITION})
    stages = [_Stage(5.0), _Stage(20.0), _Stage(80.0), thinned]
    for order in orders:
        stages += [_Stage(None, frozenset(kind.value for kind in Kind if kind.given_up == order)), thinned]
    return (*stages, _Stage(None), thinned)


_STAGES = _stages()


class Retention:
    """Upkeep in slices of a few milliseconds, each a transaction of its own.

    Older rows go through all stages before newer ones meet the first: the stages work on everything up to
    `_end`, and only when they are through is the next stretch begun.
    """

    def __init__(
        self, store: Store, *, budget_bytes: int, replay_budget_bytes: int, replay_days: float
    ) -> None:
        self._store = store
        self._budget_bytes = budget_bytes
        self._replay_budget_bytes = replay_budget_bytes
        self._replay_ms = replay_days * _DAY_MS
        self._thinning = False
        self._trimming = False
        self._more_aged = False
        self._stage = 0
        self._cursor = 0
        self._start = 0
        self._end = 0

    @property
    def waiting_bytes(self) -> int:
        """What undelivered records of both streams take."""
        return sum([counters.waiting_bytes for counters in self._store.counters.values()])

    @property
    def replay_bytes(self) -> int:
        """What delivered records of both streams take."""
        return sum([counters.replay_bytes for counters in self._store.counters.values()])

    @property
    def over_budget(self) -> bool:
        """True from when undelivered records outgrow their budget until they are well within it."""
        waiting_bytes = self.waiting_bytes
        if not self._thinning:
            return waiting_bytes > self._budget_bytes
        return waiting_bytes > self._budget_bytes * _LOW_WATER

    @property
    def due(self) -> bool:
        """True when `slice` has something to do, the age of delivered records aside."""
        if self.over_budget and (self._can_thin() or self._replay_of(Stream.TRAIL)):
            return True
        return self._over_replay_budget() or self._more_aged

    def slice(self, now_utc_ms: int | None) -> None:
        """Do the most pressing bit of work.

        Args:
            now_utc_ms: trusted UTC in Unix milliseconds; None when there is none, and nothing is old then.
        """
        over_budget = self.over_budget
        self._thinning = over_budget
        if over_budget and self._replay_of(Stream.TRAIL):
            self._trim(Stream.TRAIL, self._seqs_of_bytes(Stream.TRAIL, self._replay_of(Stream.TRAIL)))
        elif over_budget and self._can_thin():
            self._thin()
        elif self._over_replay_budget():
            self._trimming = True
            stream = Stream.TRAIL if self._replay_of(Stream.TRAIL) else Stream.EVENTS
            excess = self.replay_bytes - int(self._replay_budget_bytes * _LOW_WATER)
            self._trim(stream, self._seqs_of_bytes(stream, excess))
        else:
            self._trimming = False
            self._trim_aged(now_utc_ms)

    def give_way(self) -> bool:
        """Delete delivered trail to make room for what can not be written. False when there is none."""
        if not self._replay_of(Stream.TRAIL):
            return False
        self._trim(Stream.TRAIL, self._seqs_of_bytes(Stream.TRAIL, self._replay_of(Stream.TRAIL)))
        return True

    # ------------------------------------------------------------------ delivered records

    def _replay_of(self, stream: Stream) -> int:
        return self._store.counters[stream].replay_bytes

    def _over_replay_budget(self) -> bool:
        return self.replay_bytes > self._replay_budget_bytes * (_LOW_WATER if self._trimming else 1.0)

    def _delivered(self, stream: Stream) -> list[Row]:
        counters = self._store.counters[stream]
        return self._store.rows(stream, counters.floor_seq - 1, counters.confirmed_seq, _TRIM_ROWS)

    def _seqs_of_bytes(self, stream: Stream, excess_bytes: int) -> list[Row]:
        taken = []
        for row in self._delivered(stream):
            if excess_bytes <= 0:
                break
            taken.append(row)
            excess_bytes -= ROW_BYTES + len(row.body)
        return taken

    def _trim_aged(self, now_utc_ms: int | None) -> None:
        self._more_aged = False
        if now_utc_ms is None:
            return
        cutoff_ms = now_utc_ms - self._replay_ms
        for stream in Stream:
            rows = self._delivered(stream)
            # Sequence order is the order of time, so a row without UTC is older than one after it that has
            # one, and an old date behind a recent one is wrong, as is one from the future.
            aged = 0
            for at, row in enumerate(rows, 1):
                if row.utc_ms is None or row.utc_source < UtcSource.NTP or row.utc_ms > now_utc_ms + _DAY_MS:
                    continue
                if row.utc_ms >= cutoff_ms:
                    break
                aged = at
            if aged:
                self._more_aged = True
                self._trim(stream, rows[:aged])
                return

    def _trim(self, stream: Stream, rows: Sequence[Row]) -> None:
        """Delete delivered rows from the floor on. The newest of each kind of event stays for `latest`."""
        store = self._store
        if not rows:
            raise StoreDamagedError(f"{stream} counts delivered records, but holds none")
        with store.transaction() as connection:
            counters = store.counters[stream]
            newest = set(counters.newest.values()) if stream is Stream.EVENTS else set()
            table = store.tables[stream]
            table.delete(connection, [row.seq for row in rows if row.seq not in newest])
            following = table.nth_after(connection, rows[-1].seq, 1)
            counters.floor_seq = min(counters.confirmed_seq + 1, following or counters.last_seq + 1)
            counters.replay_records -= len(rows)
            counters.replay_bytes -= sum(ROW_BYTES + len(row.body) for row in rows)
        store.file.note_written(len(rows) // 32)

    # ------------------------------------------------------------------ undelivered records

    def _can_thin(self) -> bool:
        if not self._store.counters[Stream.TRAIL].waiting_records:
            return False
        if self._stage < len(_STAGES) and self._end:
            return True
        return self._store.counters[Stream.TRAIL].last_seq - self._end >= (_STRETCH_ROWS if self._end else 1)

    def _begin_stretch(self) -> None:
        self._start = max(self._end, self._store.counters[Stream.TRAIL].confirmed_seq)
        self._cursor = self._start
        self._end = self._store.counters[Stream.TRAIL].last_seq
        self._stage = 0

    def _thin(self) -> None:
        store = self._store
        counters = store.counters[Stream.TRAIL]
        if self._end == 0 or self._stage == len(_STAGES):
            self._begin_stretch()
        self._cursor = max(self._cursor, counters.confirmed_seq)
        rows = store.rows(Stream.TRAIL, self._cursor, self._end, _THIN_ROWS)
        if not rows:
            self._stage += 1
            self._cursor = max(self._start, counters.confirmed_seq)
            return
        stage = _STAGES[self._stage]
        thinned = stage.tolerance_m is not None
        going = (
            _all_of(rows, stage.kinds)
            if stage.tolerance_m is None
            else _positions_to_drop(rows, stage.tolerance_m)
        )
        earlier = store.row_before(Stream.TRAIL, rows[0].seq)
        if earlier is not None and earlier.seq > counters.confirmed_seq:
            rows.insert(0, earlier)
        self._replace(rows, going, thinned=thinned)
        self._cursor = rows[-1].seq

    def _replace(self, rows: Sequence[Row], going: set[int], *, thinned: bool) -> None:
        store = self._store
        replacement = without(rows, going, "thinned" if thinned else "evicted", shortest=2 if thinned else 1)
        if not replacement.removed:
            return
        with store.transaction() as connection:
            counters = store.counters[Stream.TRAIL]
            table = store.tables[Stream.TRAIL]
            table.delete(connection, [row.seq for row in replacement.removed])
            table.insert(connection, replacement.gaps)
            counters.waiting_records += len(replacement.gaps) - len(replacement.removed)
            counters.waiting_bytes += sum(ROW_BYTES + len(row.body) for row in replacement.gaps)
            counters.waiting_bytes -= sum(ROW_BYTES + len(row.body) for row in replacement.removed)
        store.file.note_written(len(rows) // 32)


def _positions_to_drop(rows: Sequence[Row], tolerance_m: float) -> set[int]:
    seqs, points = [], []
    for row in rows:
        if row.kind == Kind.POSITION:
            try:
                body = unpack_body(Kind.POSITION, row.body)
            except ValueError as error:
                raise StoreDamagedError(f"the position at {row.seq} can not be read: {error}") from error
            assert isinstance(body, Position)
            seqs.append(row.seq)
            points.append(TrackPoint(row.boottime_ms, row.boot, body.lat_deg, body.lon_deg))
    keep = points_to_keep(points, tolerance_m)
    return {seq for seq, stays in zip(seqs, keep, strict=True) if not stays}


def _all_of(rows: Sequence[Row], kinds: frozenset[int]) -> set[int]:
    if not kinds:
        return {row.seq for row in rows if row.kind not in _KNOWN}
    return {row.seq for row in rows if row.kind in kinds}
