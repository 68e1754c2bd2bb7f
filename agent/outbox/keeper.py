"""What the outbox's worker does: the store, mended when it is damaged and kept within its budget."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from agent import config
from agent.domain.health import HealthReason
from agent.domain.record import Kind, Stream
from agent.domain.stamp import UtcSource
from agent.hal.clock import Clock
from agent.outbox.counters import Counters
from agent.outbox.entry import Entry
from agent.outbox.fault import (
    RowDamagedError,
    StoreDamagedError,
    StoreFaultError,
    StoreMovedError,
    StoreVersionError,
    named_faults,
)
from agent.outbox.retention import Retention
from agent.outbox.salvage import (
    Found,
    Moment,
    Why,
    carry_over,
    finish_interrupted,
    is_stray,
    move_strays,
    set_aside,
)
from agent.outbox.store import Store
from agent.runtime.log import EventLog
from agent.wire.row import Row

T = TypeVar("T")
log = EventLog("outbox")

_VACUUM_PAGES = 32
_MOST_ROWS_REPLACED = 64
"""Damaged records in the way of one piece of work; where there are more, the whole store is gone through."""
_LOOK_BACK = 11_000
"""Events among which deposits are looked for in another store: what a salvage leaves out, and a shift's."""
_READ_TRIES = 3
_READ_TRIED_FOR_NS = 3_000_000_000
"""A card that is reset answers within this; a sector that is dead does not."""
_LOOK_ROWS = 2_000


_NO_COUNTERS = MappingProxyType({stream: Counters() for stream in Stream})


class Report(NamedTuple):
    """What the worker tells the event loop after each piece of work; made on every commit, so it is cheap.

    A named tuple: a frozen dataclass of so many fields takes three times as long to make.

    Attributes:
        journal: see Outbox.journal.
        boot: see Outbox.boot.
        boot_ids: see Outbox.boot_ids.
        counters: of each stream, as they lie on the disk.
        oldest: the first record of each stream that was not delivered.
        stored_bytes: size of the store's file.
        over_budget: undelivered records take more than they may.
        work_due: there is maintenance to do.
        log_full: the log is to be brought home before it outgrows its size.
        set_asides: how often a damaged store was set aside since the start.
        replaced: how often another store was found in the place of ours since the start.
        moves: how often a file that had lost its name was carried over since the start.
        replaced_rows: how many damaged records were replaced by gap records since the start.
        events: number and content (kind, boottime_ms, body) of the newest events, once after they may be
            other ones than before; None at all other times.
    """

    journal: int = 0
    boot: int = 0
    boot_ids: Mapping[int, str] = MappingProxyType({})
    counters: Mapping[Stream, Counters] = _NO_COUNTERS
    oldest: Mapping[Stream, Row | None] = MappingProxyType(dict.fromkeys(Stream))
    stored_bytes: int = 0
    over_budget: bool = False
    work_due: bool = False
    log_full: bool = False
    set_asides: int = 0
    replaced: int = 0
    moves: int = 0
    replaced_rows: int = 0
    events: Sequence[tuple[int, tuple[int, int, bytes]]] | None = None

    def last_seq(self, stream: Stream) -> int:
        """Newest sequence number on the disk."""
        return self.counters[stream].last_seq

    def confirmed_seq(self, stream: Stream) -> int:
        """Delivered watermark as it lies on the disk."""
        return self.counters[stream].confirmed_seq


class _Unreadable:
    """Counts how often the same thing could not be read, to tell a dead sector from a bad moment."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[int, int]] = {}

    def given_up(self, what: str, fault: StoreFaultError, now_ns: int) -> bool:
        """True when it was tried often enough, for long enough."""
        if not fault.unreadable:
            return False
        tries, since_ns = self._since.get(what, (0, now_ns))
        self._since[what] = tries + 1, since_ns
        return tries + 1 >= _READ_TRIES and now_ns - since_ns >= _READ_TRIED_FOR_NS

    def forget(self, what: str) -> None:
        """It could be read."""
        self._since.pop(what, None)


class Keeper:
    """Synchronous; called by one worker, one call at a time.

    Raises what Store raises, but not StoreDamagedError and StoreVersionError: a store that is not as it was
    written, or is none, is set aside here, and the work is done with the one that takes its place.
    """

    def __init__(self, settings: config.Store, clock: Clock, *, entropy: Callable[[int], bytes]) -> None:
        self._settings = settings
        self._clock = clock
        self._store = Store(settings.directory, synchronous=settings.synchronous, entropy=entropy)
        self._retention = self._new_retention()
        self.mending = False
        self._entropy = entropy
        self._known_journal = 0
        self._known_asides = 0
        self._unseen: list[tuple[Stream, int]] = []
        self._spare_space = False
        self._stored_bytes = 0
        self._set_asides = 0
        self._replaced = 0
        self._moves = 0
        self._replaced_rows = 0
        self._unreadable = _Unreadable()
        self._events_changed = False
        self._taken_up = False
        self._begun_journal = 0
        self._oldest: dict[Stream, tuple[int, Row | None]] = {}

    def _new_retention(self) -> Retention:
        return Retention(
            self._store,
            budget_bytes=self._settings.budget_mib << 20,
            replay_budget_bytes=self._settings.replay_budget_mib << 20,
            replay_days=self._settings.replay_days,
        )

    def open(self) -> None:
        """Open the store, whatever the folder holds. Raises StoreFaultError alone."""
        self._guarded(self._open, "open")

    def _open(self) -> None:
        """Open what is there. All but a refusal of the disk is damage: the steps of opening are right."""
        self._clear_the_way()
        try:
            self._store.open(self._clock.boot_id)
            self._take_up()
        except (StoreFaultError, StoreDamagedError, StoreVersionError):
            raise
        except Exception as error:
            self._store.file.abandon()
            raise StoreDamagedError(f"{self._store.path}: {type(error).__name__}: {error}") from error

    def _clear_the_way(self) -> None:
        folder = self._store.folder
        with named_faults(str(folder)):
            move_strays(folder)
            # A salvage may have been refused between its renames; opening would begin an empty store.
            self._set_asides += finish_interrupted(folder)
            if is_stray(folder):
                raise StoreVersionError(f"{self._store.path} is no file")

    def _take_up(self) -> None:
        """Begin with the store that is open now; nothing learnt of another one holds for it."""
        self._events_changed, self._taken_up = self._taken_up, True
        if self._known_journal not in (0, self._store.journal):
            self._retention = self._new_retention()
            expected = self._store.journal == self._begun_journal or self._set_asides != self._known_asides
            self._replaced += not expected
        self._known_journal, self._known_asides = self._store.journal, self._set_asides
        self._oldest.clear()
        self._stored_bytes = self._store.file.stored_bytes()
        self._unseen = [] if self._store.was_clean else [(stream, 0) for stream in Stream]

    def append(
        self,
        entries: Sequence[Entry],
        *,
        confirmed: Mapping[Stream, int],
        dropped: Sequence[tuple[str, int]],
        most_confirmed: int = sys.maxsize,
    ) -> list[int]:
        """See Store.append."""
        seqs = self._guarded(
            lambda: self._store.append(
                entries, confirmed=confirmed, dropped=dropped, most_confirmed=most_confirmed
            ),
            "append",
        )
        if len(entries) > 1:
            self._stored_bytes = self._store.file.stored_bytes()
        return seqs

    def begin_journal(
        self, alert: Entry, *, confirmed: Mapping[Stream, int], resend_after: Mapping[Stream, int]
    ) -> None:
        """See Store.begin_journal; the identity is made here."""
        self._begun_journal = int.from_bytes(self._entropy(4), "big") or 1
        self._guarded(
            lambda: self._store.begin_journal(
                self._begun_journal, alert, confirmed=confirmed, resend_after=resend_after
            )
        )
        self._take_up()

    def recover(self) -> bool:
        """See Store.recover; on a full disk delivered trail gives way first."""
        if not self._known_journal:
            self.open()
            return False
        return self._guarded(self._recover, "recover")

    def _recover(self) -> bool:
        if not self._store.is_open:
            self._clear_the_way()
        came_through = self._recover_with_room()
        if self._store.journal != self._known_journal:
            self._take_up()
        return came_through

    def _recover_with_room(self) -> bool:
        try:
            return self._store.recover()
        except StoreFaultError as fault:
            if fault.reason is not HealthReason.STORE_FULL or not self._store.is_open:
                raise
            try:
                if not self._retention.give_way():
                    raise
                self._store.file.give_back(_VACUUM_PAGES)
            except StoreFaultError:
                # Making room needs a write of its own; what the disk said first is the reason to tell.
                raise fault from None
            return self._store.recover()

    def read(
        self, stream: Stream, after_seq: int, *, max_records: int, max_bytes: int, last_seq: int | None
    ) -> list[Row]:
        """See Store.read."""
        return self._guarded(
            lambda: self._store.read(
                stream, after_seq, max_records=max_records, max_bytes=max_bytes, last_seq=last_seq
            ),
            f"{stream} {after_seq}",
        )

    def latest(self, kind: Kind) -> Row | None:
        """See Store.latest."""
        return self._guarded(lambda: self._store.latest(kind), kind.token)

    def maintain(self, now_utc_ms: int | None) -> None:
        """One bounded slice of upkeep, the most pressing first.

        Args:
            now_utc_ms: trusted UTC in Unix milliseconds, None when there is none.
        """
        self._guarded(lambda: self._maintain(now_utc_ms), "upkeep")

    def _maintain(self, now_utc_ms: int | None) -> None:
        store = self._store
        if store.file.checkpoint_due:
            store.file.checkpoint()
        elif self._retention.due or not (self._spare_space or self._unseen):
            self._retention.slice(now_utc_ms)
            self._spare_space = True
        elif self._spare_space:
            self._spare_space = store.file.give_back(_VACUUM_PAGES)
        else:
            stream, after_seq = self._unseen[0]
            seen = store.look_through(stream, after_seq, _LOOK_ROWS)
            self._unseen[:1] = [] if seen is None else [(stream, seen)]
        self._stored_bytes = store.file.stored_bytes()

    def close(self) -> None:
        """See Store.close. A store that is found damaged now is set aside by the next start."""
        try:
            if self._store.file.moved:
                self._carry_over(StoreMovedError(f"{self._store.path} is gone"))
            self._store.close()
        except StoreDamagedError as damage:
            raise StoreFaultError(HealthReason.STORE_IO_ERROR, str(damage)) from damage

    def report(self) -> Report:
        """How things stand now; reads at most one row a stream."""
        store, retention = self._store, self._retention
        log_full = store.file.checkpoint_due
        return Report(
            journal=store.journal,
            boot=store.boot,
            boot_ids=store.boot_ids,
            counters=store.counters,
            oldest={
                stream: self._oldest_waiting(stream, counters) for stream, counters in store.counters.items()
            },
            stored_bytes=self._stored_bytes,
            over_budget=retention.over_budget,
            work_due=log_full or self._spare_space or bool(self._unseen) or retention.due,
            log_full=log_full,
            set_asides=self._set_asides,
            replaced=self._replaced,
            moves=self._moves,
            replaced_rows=self._replaced_rows,
            events=self._newest_events(),
        )

    def _newest_events(self) -> Sequence[tuple[int, tuple[int, int, bytes]]] | None:
        store = self._store
        if not self._events_changed or not store.is_open:
            return None
        last_seq = store.counters[Stream.EVENTS].last_seq
        try:
            rows = store.rows(Stream.EVENTS, last_seq - _LOOK_BACK, last_seq, _LOOK_BACK)
        except (StoreFaultError, StoreDamagedError):
            return None  # the next work meets it, and mends it
        self._events_changed = False
        return [(row.seq, (row.kind, row.boottime_ms, row.body)) for row in rows]

    def _oldest_waiting(self, stream: Stream, counters: Counters) -> Row | None:
        if counters.waiting_records == 0:
            return None
        confirmed_seq, oldest = self._oldest.get(stream, (-1, None))
        if (confirmed_seq != counters.confirmed_seq or oldest is None) and self._store.is_open:
            # The work that is reported was done: what can not be read here is met, and mended, by the next.
            with contextlib.suppress(StoreFaultError, StoreDamagedError):
                oldest = self._store.oldest_waiting(stream)
                self._oldest[stream] = (counters.confirmed_seq, oldest)
        return oldest

    # ------------------------------------------------------------------ what goes wrong

    def _guarded(self, work: Callable[[], T], what: str = "") -> T:
        """Do `work`; mend what it meets and do it again.

        Args:
            work: with the store; of what raises, nothing has happened.
            what: by which it is known when it is tried again, for what can not be read.
        """
        try:
            done = self._with_sound_rows(work)
        except StoreMovedError as moved:
            self._carry_over(moved)
            done = self._with_sound_rows(work)
        except (StoreDamagedError, StoreVersionError) as trouble:
            self._try_what_is_unreadable(what, trouble)
            done = self._mended(work, trouble)
        except StoreFaultError as fault:
            if not self._unreadable.given_up(what, fault, self._clock.boottime_ns()):
                raise
            done = self._mended(work, StoreDamagedError(f"given up reading: {fault.detail}"))
        self._unreadable.forget(what)
        return done

    def _try_what_is_unreadable(self, what: str, trouble: Exception) -> None:
        """SQLite takes a page that the disk does not give for a damaged one, and it may be a bad moment.

        Raises StoreFaultError while it may. The store is closed then, and opened again by the next work.
        """
        where = self._store.file.unreadable() if isinstance(trouble, StoreDamagedError) else None
        if where is not None:
            fault = StoreFaultError(HealthReason.STORE_IO_ERROR, where, unreadable=True)
            if not self._unreadable.given_up(what, fault, self._clock.boottime_ns()):
                raise fault from trouble

    def _open_again(self) -> None:
        """A store that was closed to be looked at goes on; of a commit in doubt the writer asks."""
        if self._known_journal and not (self._store.is_open or self._store.in_doubt):
            self._recover()

    def _with_sound_rows(self, work: Callable[[], T]) -> T:
        """Do `work`; single records that are damaged become gap records, and it is done again."""
        for _ in range(_MOST_ROWS_REPLACED):
            try:
                if work not in (self._open, self._recover):
                    self._open_again()
                return work()
            except RowDamagedError as row:
                if not self._store.is_open or not isinstance(row.seq, int):
                    raise
                log.error("record_damaged", stream=row.stream.value, seq=row.seq)
                self._replace_row(row.stream, row.seq)
                self._replaced_rows += 1
                self._events_changed = True
                self._oldest.clear()
        return work()

    def _replace_row(self, stream: Stream, seq: int) -> None:
        """Put a gap into the place of a damaged record; a commit in doubt is looked into here and now.

        Nobody waits for this one: whether it came through shows when the record is read again.
        """
        try:
            self._store.replace_row(stream, seq)
        except StoreFaultError as fault:
            if not fault.in_doubt:
                raise
            self._recover()

    def _mended(self, work: Callable[[], T], trouble: Exception) -> T:
        """Put a new store into the place of this one and do the work with it.

        What was carried over may be what troubles: then the mended store is set aside as well, and nothing is
        carried over. So this ends, whatever there was.
        """
        self.mending = True
        try:
            for carry in (True, False):
                try:
                    self._set_aside(trouble, carry=carry)
                    if work != self._open:
                        self._open()
                    return work()
                except (StoreDamagedError, StoreVersionError) as again:
                    trouble = again
        finally:
            self.mending = False
        raise StoreFaultError(HealthReason.STORE_IO_ERROR, f"a new store is no better: {trouble}")

    def _carry_over(self, moved: StoreMovedError) -> None:
        """The file has lost its name: all of it goes into a new one, while it can still be read."""
        log.error("store_moved", why=str(moved))
        self.mending = True
        try:
            try:
                carry_over(self._store.file, self._now())
            except StoreDamagedError as damage:
                log.error("store_lost", why=str(damage))
                self._store.file.abandon()
            self._moves += 1
            if not self._store.in_doubt:
                self._store.recover()
        finally:
            self.mending = False

    def _now(self) -> Moment:
        utc = self._clock.system_utc()
        return Moment(
            self._clock.boot_id,
            self._clock.boottime_ns() // 1_000_000,
            utc.unix_ms,
            UtcSource.NTP if utc.synchronised else UtcSource.LAST_KNOWN,
        )

    def _set_aside(self, trouble: Exception, *, carry: bool) -> None:
        """Set the store aside with all that is beside the point of `trouble`. Raises StoreFaultError."""
        store = self._store
        log.error("store_set_aside", why=str(trouble))
        known = Found()
        if self._known_journal and store.journal == self._known_journal:
            known = Found(journal=self._known_journal, counters=dict(store.counters))
        store.forget()
        now = self._now()
        why: Why = "damaged"
        if isinstance(trouble, StoreVersionError):
            why, carry = trouble.why, False
        try:
            set_aside(store.folder, now, known, self._entropy, why=why, carry=carry)
        except StoreFaultError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is in the old file, the agent needs a store
            log.error("salvage_failed", why=str(error))
            set_aside(store.folder, now, Found(), self._entropy, why=why, carry=False)
        self._set_asides += 1
        self._oldest.clear()
