"""From press to record, lamp and live status."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from agent.domain.crew import ButtonEdge, CrewRules, CrewState
from agent.domain.record import Body, Draft, Emergency, Kind, StatusChange
from agent.domain.stamp import Stamp, Utc, UtcSource
from agent.domain.state import StatusState
from agent.domain.status import MOMENTARY
from agent.domain.time_base import TimeBase
from agent.hal.buttons import Lamp
from agent.hal.clock import Clock
from agent.outbox.deposit import Deposit, Fate
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
_LAMP = {Fate.NOT_STORED: Lamp.NOT_STORED, Fate.STORED: Lamp.STORED, Fate.DELIVERED: Lamp.DELIVERED}


@dataclass(frozen=True, slots=True)
class _Held:
    """The newest press of its kind, as `state/status` tells it.

    Attributes:
        body: what it said.
        utc: when, as well as it was known then; None when it was not.
        boottime_ns: when, for a press of this boot, so that a better clock can still date it; else None.
        deposit: what became of it; None for what only follows from another press.
    """

    body: StatusChange | Emergency
    utc: Utc | None
    boottime_ns: int | None
    deposit: Deposit | None


def _look_at(written: Deposit) -> None:
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
        self._shown: dict[str, Deposit] = {}
        """The newest press of each key that is lit: its lamp says what is true of that."""
        self._told_journal = 0
        self._lamps: dict[str, Lamp] = {}
        self._writing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Take up what was true before a restart, if the store can be read already."""
        await self._restore()

    async def run(self, progress: Progress) -> None:
        """The unit's loop: restores as soon as the store can be read, and dates presses when it can."""
        source = UtcSource.NONE
        while True:
            progress()
            await self._restore()
            self._tell_what_is_due()
            now = self._time_base.source(self._clock.boottime_ns())
            if self._restored and (now > source or self._outbox.journal != self._told_journal):
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

    async def _restore(self) -> None:
        """Status, emergency, lamps and the presses on record; nothing is published before they are known."""
        if self._restored or not self._outbox.boot:
            return
        try:
            found = [await self._outbox.latest(kind) for kind in (Kind.STATUS, Kind.EMERGENCY)]
        except StoreFaultError:
            return  # a disk that can not be read has its reason; it is asked again a second later
        rows = sorted((row for row in found if row is not None), key=lambda row: row.seq)
        held = [one for row in rows if (one := self._held(row)) is not None]
        recorded_at_ns = {
            one.body.input: one.boottime_ns
            for one in held
            if one.boottime_ns is not None and _can_be_repeated(one.body)
        }
        self._rules.adopt(CrewState().after(one.body for one in held), recorded_at_ns)
        self._restored = True
        for one in held:
            newer = self._emergency if isinstance(one.body, Emergency) else self._status
            if newer is None and one.deposit is not None:
                self._remember(one)
                lit = isinstance(one.body, StatusChange) or one.body.active
                if lit and one.body.input not in self._shown:
                    self._shown[one.body.input] = one.deposit
                    self._light(one.body.input)
        self._publish()

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
        deposit = self._outbox.follow(row)
        deposit.listen(self._on_fate)
        return _Held(body, utc, boottime_ns, deposit)

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
        darkened = {key: self._shown.get(key) for key in outcome.darken}
        # Each record is handed over now, in order; only the waiting for the disk is a task.
        deposits = [self._deposit(body, stamp, outcome.show) for body in outcome.bodies]
        if presses:
            # Told at once, without a sequence number: a disk that refuses must not keep it from dispatch.
            self._publish()
        task = asyncio.get_running_loop().create_task(
            self._settle(voice, edge, deposits, darkened), name="crew-press"
        )
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    def _deposit(self, body: Body, stamp: Stamp, show: str | None) -> Deposit:
        deposit = self._outbox.put(Draft(stamp, body))
        if isinstance(body, StatusChange | Emergency):
            self._remember(_Held(body, stamp.utc, stamp.boottime_ns, deposit))
            deposit.listen(self._on_fate)
            if show is not None:
                self._shown[show] = deposit
                self._light(show)
        return deposit

    async def _settle(
        self,
        voice: PanelVoice,
        edge: ButtonEdge,
        deposits: list[Deposit],
        darkened: dict[str, Deposit | None],
    ) -> None:
        for deposit in deposits:
            kind = Kind(deposit.entry.kind).token
            try:
                # Shielded: the record is written whether or not anyone still waits for it.
                seq = await asyncio.shield(deposit)
            except OutboxClosedError:
                log.error("press_not_stored", key=edge.key, kind=kind)
                return
            log.info("press_stored", key=edge.key, kind=kind, seq=seq)
        voice.acknowledge(edge)
        for key, shown in darkened.items():
            # Unless it was pressed again meanwhile.
            if shown is not None and self._shown.get(key) is shown:
                del self._shown[key]
                self._show(key, Lamp.OFF)
        self._publish()

    def _on_fate(self, deposit: Deposit) -> None:
        """Something else is true of a press than before."""
        for key, shown in self._shown.items():
            if shown is deposit:
                self._light(key)
        if deposit.done():
            # The first time it is told when all of the press is stored.
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

    def _publish(self) -> None:
        self._told_journal = self._outbox.journal
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
        """Its sequence number in the journal in use."""
        return None if held is None or held.deposit is None else held.deposit.seq

    def _utc_of(self, held: _Held | None) -> Utc | None:
        if held is None or held.boottime_ns is None:
            return None if held is None else held.utc
        better = self._time_base.utc(held.boottime_ns)
        if held.utc is None or (better is not None and better.source > held.utc.source):
            return better
        return held.utc

    # ------------------------------------------------------------------ lamps

    def _light(self, key: str) -> None:
        """Show what is true of the newest press of a key, which is stored after all earlier ones."""
        self._show(key, _LAMP[self._shown[key].fate])

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
