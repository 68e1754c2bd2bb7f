"""From press to record, lamp and live status."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from agent.domain.crew import ButtonEdge, CrewOutcome, CrewRules, CrewState
from agent.domain.record import Body, Draft, Emergency, Kind, StatusChange, Stream
from agent.domain.stamp import Utc, UtcSource
from agent.domain.state import StatusState
from agent.domain.status import MOMENTARY
from agent.domain.time_base import TimeBase
from agent.hal.buttons import Lamp
from agent.hal.clock import Clock
from agent.outbox.fault import OutboxClosedError, StoreFaultError
from agent.outbox.outbox import Outbox
from agent.paths.panel_voice import PanelVoice
from agent.paths.state_sink import StateSink
from agent.runtime.log import EventLog
from agent.supervision.supervisor import Progress
from agent.wire.body import unpack_body
from agent.wire.row import Row

log = EventLog("crew")
_TICK_S = 1.0
_PRESSES = frozenset({Kind.STATUS.value, Kind.EMERGENCY.value})
_LOOK_BACK = 11_000
_LOOK_BACK_BYTES = 1 << 20
"""Events among which presses are looked for in another store: what a salvage leaves out, and a shift's."""


class _Place(NamedTuple):
    """Where a press is stored: a sequence number of one store, which means nothing in another."""

    journal: int
    seq: int


@dataclass(frozen=True, slots=True)
class _Held:
    """The newest press of its kind, as `state/status` tells it.

    Attributes:
        body: what it said.
        utc: when, as well as it was known then; None when it was not.
        boottime_ns: when, for a press of this boot, so that a better clock can still date it; else None.
        place: where it is stored; None while it is not.
    """

    body: StatusChange | Emergency
    utc: Utc | None
    boottime_ns: int | None
    place: _Place | None


def _look_at(written: asyncio.Future[int]) -> None:
    """Take the result of a record that nobody waits for: what the disk refused, the outbox tells."""
    if not written.cancelled():
        written.exception()


def _can_be_repeated(body: StatusChange | Emergency) -> bool:
    """Whether a second press of its key at once would be a record of its own, were it not for the first."""
    return body.active if isinstance(body, Emergency) else body.status in MOMENTARY


class CrewPath:
    """Writes presses, tells lamps and panels what is true of them, and keeps `state/status`."""

    def __init__(
        self, keys: dict[str, str], clock: Clock, time_base: TimeBase, outbox: Outbox, states: StateSink
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._time_base = time_base
        self._outbox = outbox
        self._states = states
        self._voices: list[PanelVoice] = []
        self._rules = CrewRules(keys, CrewState())
        self._restored = False
        self._status: _Held | None = None
        self._emergency: _Held | None = None
        self._undelivered: dict[str, _Held] = {}
        self._store = (0, 0)
        """Journal and set-asides of the store in which what is held was last looked up."""
        self._pending: Counter[str] = Counter()
        """Presses of each key that are not on the disk yet: no lamp says stored while one is."""
        self._lamps: dict[str, Lamp] = {}
        self._writing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Take up what was true before a restart, if the store can be read already."""
        self._outbox.on_confirmed(self._delivered)
        await self._look_up()

    async def run(self, progress: Progress) -> None:
        """The unit's loop: restores as soon as the store can be read, and dates presses when it can."""
        source = UtcSource.NONE
        while True:
            progress()
            await self._look_up()
            self._tell_what_is_due()
            now = self._time_base.source(self._clock.boottime_ns())
            if now > source and self._restored:
                self._publish()
            source = now
            await asyncio.sleep(_TICK_S)

    def _tell_what_is_due(self) -> None:
        """Alerts that no press brings along: what chattered is quiet now, what was lost was the last."""
        now_ns = self._clock.boottime_ns()
        for alert in self._rules.due(now_ns):
            log.warning("panel", code=alert.code, text=alert.text)
            self._outbox.put(Draft(self._time_base.stamp(now_ns), alert)).add_done_callback(_look_at)

    def attach(self, voice: PanelVoice) -> Callable[[ButtonEdge], None]:
        """Tell `voice` what its lamps are to show, now and from now on; returns what takes its edges."""
        self._voices.append(voice)
        for key, lamp in self._lamps.items():
            voice.show(key, lamp)
        return partial(self._on_edge, voice)

    def snapshot(self) -> dict[str, object]:
        """For `mdt status`."""
        return {
            "status": self._rules.state.status,
            "emergency": self._rules.state.emergency,
            "presses_not_stored": len(self._writing),
            "lamps": {key: str(lamp) for key, lamp in self._lamps.items()},
        }

    async def close(self) -> None:
        """Give up waiting for the disk; a press that is not stored stays unacknowledged in its box."""
        for task in tuple(self._writing):
            task.cancel()
        await asyncio.gather(*self._writing, return_exceptions=True)

    # ------------------------------------------------------------------ a restart

    async def _look_up(self) -> None:
        """Learn what the store holds, when it could be opened at last, was mended, or replaced by another."""
        store = self._outbox.journal, self._outbox.set_asides
        if not self._outbox.boot or (self._restored and store == self._store):
            return
        # A disk that can not be read has its reason; it is asked again a second later.
        with contextlib.suppress(StoreFaultError):
            await (self._find_again(store) if self._restored else self._restore(store))

    async def _restore(self, store: tuple[int, int]) -> None:
        """Status, emergency, lamps and the presses on record; nothing is published before they are known."""
        status, emergency = await self._outbox.latest(Kind.STATUS), await self._outbox.latest(Kind.EMERGENCY)
        rows = sorted((row for row in (status, emergency) if row is not None), key=lambda row: row.seq)
        held = [one for row in rows if (one := self._held(row)) is not None]
        recorded_at_ns = {
            one.body.input: one.boottime_ns
            for one in held
            if one.boottime_ns is not None and _can_be_repeated(one.body)
        }
        self._rules.adopt(CrewState().after(one.body for one in held), recorded_at_ns)
        self._restored, self._store = True, store
        for one in held:
            newer = self._emergency if isinstance(one.body, Emergency) else self._status
            if newer is None:
                self._remember(one)
                if isinstance(one.body, StatusChange) or one.body.active:
                    self._light(one.body.input, one)
        self._publish()

    async def _find_again(self, store: tuple[int, int]) -> None:
        """The store was mended or replaced: what is held is where it has that now, or it is not stored."""
        held = [
            one for one in (self._status, self._emergency, *self._undelivered.values()) if one is not None
        ]
        places = {id(one): await self._place_now(one, store[0]) for one in held if one.place is not None}
        # From here on nothing else runs; what was pressed meanwhile knows its place.
        self._store = store
        for one in held:
            if id(one) in places:
                self._put_at(one, places[id(one)])
        for key, one in tuple(self._undelivered.items()):
            if id(one) in places:
                del self._undelivered[key]
                self._light(key, replace(one, place=places[id(one)]))
        self._publish()

    async def _place_now(self, held: _Held, journal: int) -> _Place | None:
        """Where a press that was stored is now: where it was, or in another store among the newest events."""
        assert held.place is not None
        if held.place.journal == journal:
            after_seq, last_seq = held.place.seq - 1, held.place.seq
        else:
            after_seq, last_seq = max(0, self._outbox.last_seq(Stream.EVENTS) - _LOOK_BACK), None
        rows = await self._outbox.read(
            Stream.EVENTS, after_seq, max_records=_LOOK_BACK, max_bytes=_LOOK_BACK_BYTES, last_seq=last_seq
        )
        for row in reversed(rows):
            if row.kind in _PRESSES and row.seq > after_seq:
                at_ms = None if held.boottime_ns is None else held.boottime_ns // 1_000_000
                if at_ms in (None, row.boottime_ms) and unpack_body(row.kind, row.body) == held.body:
                    return _Place(journal, row.seq)
        return None

    def _held(self, row: Row) -> _Held | None:
        """What a stored press says; None for one that makes no sense, which must end nothing."""
        try:
            body = unpack_body(row.kind, row.body)
            utc = None
            if row.utc_ms is not None:
                utc = Utc(row.utc_ms, UtcSource(row.utc_source), row.utc_uncertainty_ms)
        except ValueError as error:
            log.error("press_unreadable", seq=row.seq, why=str(error))
            return None
        if not isinstance(body, StatusChange | Emergency):
            return None
        boottime_ns = row.boottime_ms * 1_000_000 if row.boot == self._outbox.boot else None
        return _Held(body, utc, boottime_ns, _Place(self._outbox.journal, row.seq))

    # ------------------------------------------------------------------ a press

    def _on_edge(self, voice: PanelVoice, edge: ButtonEdge) -> None:
        outcome = self._rules.handle(edge, self._clock.boottime_ns())
        presses = [body for body in outcome.bodies if isinstance(body, StatusChange | Emergency)]
        if outcome.show is not None and not presses:
            voice.show(outcome.show, self._lamp_of(outcome.show))
        if not outcome.bodies:
            voice.acknowledge(edge)
            return
        stamp = self._time_base.stamp(edge.at_boottime_ns)
        # Each record is handed over now, in order; only the waiting for the disk is a task.
        waits: list[tuple[Body, _Held | None, asyncio.Future[int]]] = []
        for body in outcome.bodies:
            held = None
            if isinstance(body, StatusChange | Emergency):
                held = _Held(body, stamp.utc, edge.at_boottime_ns, None)
                self._remember(held)
            waits.append((body, held, self._outbox.put(Draft(stamp, body))))
        if outcome.show is not None and presses:
            self._pending[outcome.show] += len(presses)
            self._undelivered.pop(outcome.show, None)
            self._show(outcome.show, Lamp.NOT_STORED)
        if presses:
            # Told at once, without a sequence number: a disk that refuses must not keep it from dispatch.
            self._publish()
        task = asyncio.get_running_loop().create_task(
            self._settle(voice, edge, outcome, waits), name="crew-press"
        )
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _settle(
        self,
        voice: PanelVoice,
        edge: ButtonEdge,
        outcome: CrewOutcome,
        waits: list[tuple[Body, _Held | None, asyncio.Future[int]]],
    ) -> None:
        for body, held, wait in waits:
            try:
                # Shielded: the record is written whether or not anyone still waits for it.
                seq = await asyncio.shield(wait)
            except OutboxClosedError:
                log.error("press_not_stored", key=edge.key, body=type(body).__name__)
                return
            if held is not None:
                log.info("press_stored", key=edge.key, body=type(body).__name__, seq=seq)
                place = _Place(self._outbox.journal, seq)
                self._put_at(held, place)
                if outcome.show is not None:
                    self._pending[outcome.show] -= 1
                    self._light(outcome.show, replace(held, place=place))
        voice.acknowledge(edge)
        for key in outcome.darken:
            if not self._pending[key]:
                self._undelivered.pop(key, None)
                self._show(key, Lamp.OFF)
        self._publish()

    # ------------------------------------------------------------------ what holds

    def _remember(self, held: _Held) -> None:
        if isinstance(held.body, Emergency):
            self._emergency = held
        elif held.body.status not in MOMENTARY:
            self._status = held
        elif self._status is None and held.body.previous is not None:
            # After a restart only the newest press is read: a momentary one tells what holds, not since when.
            self._status = _Held(replace(held.body, status=held.body.previous), None, None, None)

    def _put_at(self, held: _Held, place: _Place | None) -> None:
        if self._status is held:
            self._status = replace(held, place=place)
        elif self._emergency is held:
            self._emergency = replace(held, place=place)

    def _publish(self) -> None:
        now_ns = self._clock.boottime_ns()
        status, emergency = self._status, self._emergency
        self._states.set_state(
            StatusState(
                boottime_ms=now_ns // 1_000_000,
                utc=self._time_base.utc(now_ns),
                status=status.body.status if status and isinstance(status.body, StatusChange) else None,
                since=self._utc_of(status),
                seq=self._seq_of(status),
                emergency=self._rules.state.emergency,
                emergency_since=self._utc_of(emergency) if self._rules.state.emergency else None,
                emergency_seq=self._seq_of(emergency),
                journal=self._outbox.journal or None,
            )
        )

    def _seq_of(self, held: _Held | None) -> int | None:
        """Its sequence number, if it is one of the store in use."""
        if held is None or held.place is None or held.place.journal != self._outbox.journal:
            return None
        return held.place.seq

    def _utc_of(self, held: _Held | None) -> Utc | None:
        if held is None or held.boottime_ns is None:
            return None if held is None else held.utc
        better = self._time_base.utc(held.boottime_ns)
        if held.utc is None or (better is not None and better.source > held.utc.source):
            return better
        return held.utc

    # ------------------------------------------------------------------ lamps

    def _light(self, key: str, held: _Held) -> None:
        if self._pending[key]:
            return
        if held.place is None:
            self._show(key, Lamp.NOT_STORED)
        elif self._is_delivered(held):
            self._show(key, Lamp.DELIVERED)
        else:
            self._undelivered[key] = held
            self._show(key, Lamp.STORED)

    def _is_delivered(self, held: _Held) -> bool:
        """Whether dispatch has it; no press has before a store that was mended is looked through."""
        store = self._outbox.journal, self._outbox.set_asides
        if held.place is None or held.place.journal != store[0] or self._store != store:
            return False
        return held.place.seq <= self._outbox.confirmed(Stream.EVENTS)

    def _delivered(self, stream: Stream, _: int) -> None:
        if stream is not Stream.EVENTS:
            return
        for key, held in tuple(self._undelivered.items()):
            if self._is_delivered(held):
                del self._undelivered[key]
                self._show(key, Lamp.DELIVERED)

    def _show(self, key: str, lamp: Lamp) -> None:
        if self._lamps.get(key, Lamp.OFF) is not lamp:
            self._lamps[key] = lamp
            for voice in self._voices:
                voice.show(key, lamp)

    def _lamp_of(self, key: str) -> Lamp:
        """The key's lamp; of two keys with one meaning, the one that was pressed speaks for both."""
        lamp, meaning = self._lamps.get(key, Lamp.OFF), self._keys.get(key)
        if lamp is not Lamp.OFF or meaning is None:
            return lamp
        others = (self._lamps.get(other, Lamp.OFF) for other, token in self._keys.items() if token == meaning)
        return next((other for other in others if other is not Lamp.OFF), Lamp.OFF)
