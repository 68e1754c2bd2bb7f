"""From press to record, lamp and live status."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from agent.domain.crew import EMERGENCY, ButtonEdge, CrewOutcome, CrewRules, CrewState
from agent.domain.record import (
    Amendment,
    Body,
    Draft,
    Emergency,
    Kind,
    Made,
    StatusChange,
    Stream,
    Verdict,
    Withdrawal,
)
from agent.domain.stamp import Stamp, Utc, UtcSource
from agent.domain.state import StatusState
from agent.domain.status import MOMENTARY, UnitStatus
from agent.domain.time_base import TimeBase
from agent.hal.buttons import Lamp
from agent.hal.clock import Clock
from agent.outbox.deposit import Deposit, Fate
from agent.outbox.fault import OutboxClosedError, StoreFaultError
from agent.outbox.outbox import Outbox
from agent.paths.panel_voice import NoVoice, Voice
from agent.paths.state_sink import StateSink
from agent.runtime.log import EventLog
from agent.supervision.supervisor import Progress
from agent.wire.body import unpack_body
from agent.wire.orders import Amend, Answer
from agent.wire.row import Row
from agent.wire.time_text import utc_text

log = EventLog("crew")
_TICK_S = 1.0
_MOST_ANSWERED = 256
_MOST_RECENT = 8
"""Presses that can be amended on the page."""
_MOST_EARLIER_S = 6 * 3600.0
_TEST_WITHIN_NS = 60_000_000_000
"""So long after it was announced the next emergency is a test; the one after that never is."""
_NO_VOICE = NoVoice()


class Context(Protocol):
    """What belongs to a run beside the presses; see `agent.paths.run_path`."""

    def dressed(self, body: Body, boottime_ns: int) -> Body:
        """A press with the incident it belongs to and the vehicle's own evidence."""
        ...

    def status_holds(self, status: str | None, *, pressed: bool, seq: int | None = None) -> None:
        """A status holds from now on; `pressed` when somebody set it just now, else `seq` of its record."""
        ...

    def taken_back(self, status: str | None) -> None:
        """The newest press was taken back: `status` holds again."""
        ...

    def dressed_state(self, state: StatusState) -> StatusState:
        """The status as dispatch sees it, with what belongs to the run."""
        ...


class NoContext:
    """Presses alone: no incident, no evidence."""

    def dressed(self, body: Body, boottime_ns: int) -> Body:
        """The body as it is."""
        del boottime_ns
        return body

    def status_holds(self, status: str | None, *, pressed: bool, seq: int | None = None) -> None:
        """Nobody is told."""

    def taken_back(self, status: str | None) -> None:
        """Nobody is told."""

    def dressed_state(self, state: StatusState) -> StatusState:
        """The state as it is."""
        return state


@dataclass(frozen=True, slots=True)
class _Held:
    """The newest press of its kind, as `state/status` tells it.

    Attributes:
        body: what it said.
        utc: when, as well as it was known then; None when it was not.
        boottime_ns: when, for a press of this boot, so that a better clock can still date it; else None.
        deposit: what became of it; None for what only follows from another press, or lies in the past. The
            outbox keeps true, and stores again, only what somebody still holds: the presses that are shown.
        place: journal and sequence number of one that lies in the past.
    """

    body: StatusChange | Emergency
    utc: Utc | None
    boottime_ns: int | None
    deposit: Deposit | None
    place: tuple[int, int] | None = None


def _look_at(written: Deposit) -> None:
    """Take the result of a record that nobody waits for: what the disk refused, the outbox tells."""
    if not written.cancelled():
        written.exception()


def _of(row: Row | None) -> Withdrawal | None:
    """What a stored withdrawal says; None for none, and for one that makes no sense."""
    if row is None:
        return None
    try:
        body = unpack_body(row.kind, row.body)
    except ValueError:
        return None
    return body if isinstance(body, Withdrawal) else None


def _can_be_repeated(body: StatusChange | Emergency) -> bool:
    """Whether a second press of its key at once would be a record of its own, were it not for the first."""
    return body.active if isinstance(body, Emergency) else body.status in MOMENTARY


class CrewPath:
    """Writes presses, tells lamps and panels what is true of them, and keeps `state/status`."""

    def __init__(
        self,
        keys: dict[str, str],
        clock: Clock,
        time_base: TimeBase,
        outbox: Outbox,
        states: StateSink,
        *,
        context: Context | None = None,
        undo_s: float = 0.0,
        receipts: bool = False,
        silent: bool = False,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Store the parts.

        Args:
            keys: key name to unit status token, or to "emergency".
            clock: boot time.
            time_base: derives UTC.
            outbox: where presses are stored.
            states: where `state/status` is published.
            context: what belongs to the run; None for presses alone.
            undo_s: how long a status can be taken back; 0 for never.
            receipts: whether delivered means that dispatch's receipt came, and not the broker's PUBACK.
            silent: whether the lamps of emergency keys stay dark, so that nobody in the cab sees that one was
                pressed; told as such.
            on_change: called when the crew's page has something new to show.
        """
        self._context: Context = NoContext() if context is None else context
        self._undo_ns = round(undo_s * 1e9)
        self._receipts = receipts
        self._silent = silent
        self._test_until_ns = 0
        self._cancelling: tuple[str, ...] = ()
        """Emergency keys whose lamps say that the hold counts: let go now, and it is cancelled."""
        self._on_change = on_change
        self._before: _Held | None = None
        """The status before the one that holds, to go back to."""
        self._refused: dict[str, Answer] = {}
        """Dispatch's refusal of the newest press of a key."""
        self._recent: list[_Held] = []
        self._answered: dict[int, tuple[bool, str | None, str | None]] = {}
        """What dispatch said of the newest records, by their number."""
        self._keys = keys
        self._clock = clock
        self._time_base = time_base
        self._outbox = outbox
        self._states = states
        self._voices: list[Voice] = []
        self._rules = CrewRules(keys, CrewState(), undo_ns=self._undo_ns)
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
            self._tell_that_holds_count()
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

    def _tell_that_holds_count(self) -> None:
        """The lamp flickers while letting the emergency key go would cancel, also where it is dark else."""
        before, self._cancelling = self._cancelling, self._rules.cancelling(self._clock.boottime_ns())
        for key in {*before, *self._cancelling}:
            counts = key in self._cancelling
            if counts != (key in before):
                for voice in self._voices:
                    voice.show(key, Lamp.NOT_STORED if counts else self._lamps.get(key, Lamp.OFF))

    def attach(self, voice: Voice) -> Callable[[ButtonEdge], None]:
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
            withdrawal = await self._outbox.latest(Kind.WITHDRAWAL)
        except StoreFaultError:
            return  # a disk that can not be read has its reason; it is asked again a second later
        rows = sorted((row for row in found if row is not None), key=lambda row: row.seq)
        held = [one for row in rows if (one := self._held(row, withdrawal)) is not None]
        recorded_at_ns = {
            one.body.input: one.boottime_ns
            for one in held
            if one.boottime_ns is not None and _can_be_repeated(one.body)
        }
        self._rules.adopt(CrewState().after(one.body for one in held), recorded_at_ns)
        self._restored = True
        for one in held:
            newer = self._emergency if isinstance(one.body, Emergency) else self._status
            if newer is None and one.deposit is None:
                self._remember(one)
            elif newer is None:
                self._remember(one)
                lit = isinstance(one.body, StatusChange) or one.body.active
                if lit and one.deposit is not None and one.body.input not in self._shown:
                    self._shown[one.body.input] = one.deposit
                    self._light(one.body.input)
        self._context.status_holds(self._rules.state.status, pressed=False, seq=self._seq_of(self._status))
        self._publish()

    def _held(self, row: Row, withdrawal: Row | None) -> _Held | None:
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
        taken_back = _of(withdrawal)
        if taken_back is not None and taken_back.of_seq == row.seq and isinstance(body, StatusChange):
            if taken_back.status is None:
                return None
            return _Held(replace(body, status=taken_back.status), None, None, None)
        boottime_ns = row.boottime_ms * 1_000_000 if row.boot == self._outbox.boot else None
        deposit = self._outbox.follow(row)
        deposit.listen(self._on_fate)
        return _Held(body, utc, boottime_ns, deposit)

    # ------------------------------------------------------------------ a press

    def _on_edge(self, voice: Voice, edge: ButtonEdge) -> None:
        self._take(voice, edge, self._rules.handle(edge, self._clock.boottime_ns()))

    def _take(
        self,
        voice: Voice,
        edge: ButtonEdge,
        outcome: CrewOutcome,
        made: Made | None = None,
        reason: str | None = None,
    ) -> None:
        """Do what an edge led to; `made` and `reason` are of a press that came by the page."""
        if outcome.withdraws:
            self._withdraw(voice, edge, outcome, made)
            return
        presses = [body for body in outcome.bodies if isinstance(body, StatusChange | Emergency)]
        if outcome.show is not None and not presses:
            voice.show(outcome.show, self._lamp_of(outcome.show))
        if not outcome.bodies:
            voice.acknowledge(edge)
            return
        stamp = self._time_base.stamp(edge.at_boottime_ns)
        darkened = {key: self._shown.get(key) for key in outcome.darken}
        # Each record is handed over now, in order; only the waiting for the disk is a task.
        bodies = [self._worded(body, edge, made, reason) for body in outcome.bodies]
        deposits = [self._deposit(body, stamp, outcome.show) for body in bodies]
        for body in presses:
            if isinstance(body, StatusChange):
                self._context.status_holds(body.status, pressed=True)
        if self._silent and any(isinstance(body, Emergency) for body in presses):
            voice.show(edge.key, Lamp.OFF)  # a box lights it by itself when the key goes down
        if presses:
            # Told at once, without a sequence number: a disk that refuses must not keep it from dispatch.
            self._publish()
        self._begin(self._settle(voice, edge, deposits, darkened))

    def _worded(self, body: Body, edge: ButtonEdge, made: Made | None, reason: str | None) -> Body:
        body = self._context.dressed(body, edge.at_boottime_ns)
        if isinstance(body, Emergency):
            body = replace(body, silent=self._silent or None, test=self._is_test(body) or None)
        if made is not None and isinstance(body, StatusChange | Emergency):
            body = replace(body, made=str(made))
        return replace(body, reason=reason) if reason and isinstance(body, StatusChange) else body

    def _is_test(self, body: Emergency) -> bool:
        """Whether it was announced as a test, or ends one. Whoever presses again means it."""
        standing = self._emergency
        if not body.active:
            return standing is not None and isinstance(standing.body, Emergency) and bool(standing.body.test)
        until_ns, self._test_until_ns = self._test_until_ns, 0
        return not body.repeat and self._clock.boottime_ns() < until_ns

    def _announce_test(self) -> Mapping[str, Any]:
        if self._rules.state.emergency:
            return {"error": "emergency_stands", "text": "An emergency stands: it is not made a test."}
        self._test_until_ns = self._clock.boottime_ns() + _TEST_WITHIN_NS
        return {"ok": True}

    def _withdraw(self, voice: Voice, edge: ButtonEdge, outcome: CrewOutcome, made: Made | None) -> None:
        """Take the status that holds back; what was before it holds again, at once."""
        taken, self._status, self._before = self._status, self._before, None
        for key in outcome.darken:
            self._shown.pop(key, None)
            self._refused.pop(key, None)
            self._show(key, Lamp.OFF)
        self._context.taken_back(self._rules.state.status)
        self._publish()
        if taken is None or taken.deposit is None:
            voice.acknowledge(edge)
            return
        self._recent = [one for one in self._recent if self._seq_of(one) != taken.deposit.seq]
        self._begin(self._put_withdrawal(voice, edge, taken.deposit, made))

    async def _put_withdrawal(
        self, voice: Voice, edge: ButtonEdge, taken: Deposit, made: Made | None
    ) -> None:
        try:
            of_seq = await asyncio.shield(taken)
            body = Withdrawal(
                of_seq if taken.seq is None else taken.seq,
                Kind.STATUS.token,
                made=None if made is None else str(made),
                status=self._rules.state.status,
                input=edge.key,
                press_seq=edge.device_seq,
                press_session=edge.device_session,
            )
            await asyncio.shield(self._outbox.put(Draft(self._time_base.stamp(edge.at_boottime_ns), body)))
        except OutboxClosedError:
            log.error("press_not_stored", key=edge.key, kind=Kind.WITHDRAWAL.token)
            return
        voice.acknowledge(edge)
        await self._light_again()

    async def _light_again(self) -> None:
        """The lamp of the status that holds again tells of its press, as before."""
        held, seq = self._status, self._seq_of(self._status)
        if held is None or held.deposit is not None or seq is None:
            return
        try:
            rows = await self._outbox.read(Stream.EVENTS, seq - 1, max_records=1, max_bytes=1)
        except StoreFaultError:
            return  # the disk has its reason; the lamp stays dark
        if rows and rows[0].seq == seq and self._status is held:
            deposit = self._outbox.follow(rows[0])
            deposit.listen(self._on_fate)
            self._status = replace(held, deposit=deposit, place=None)
            self._shown[held.body.input] = deposit
            self._light(held.body.input)
            self._publish()

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work, name="crew-press")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    def _deposit(self, body: Body, stamp: Stamp, show: str | None) -> Deposit:
        deposit = self._outbox.put(Draft(stamp, body))
        if isinstance(body, StatusChange | Emergency):
            self._remember(_Held(body, stamp.utc, stamp.boottime_ns, deposit))
            deposit.listen(self._on_fate)
            if show is not None:
                self._shown[show] = deposit
                self._refused.pop(show, None)
                self._light(show)
        return deposit

    async def _settle(
        self,
        voice: Voice,
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
        self._keep_for_amendments(deposits)
        for key, shown in darkened.items():
            # Unless it was pressed again meanwhile.
            if shown is not None and self._shown.get(key) is shown:
                del self._shown[key]
                self._show(key, Lamp.OFF)
        self._publish()

    def _keep_for_amendments(self, deposits: list[Deposit]) -> None:
        held = self._status
        if held is not None and held.deposit in deposits:
            self._recent = [*self._recent[-_MOST_RECENT + 1 :], self._past(held)]

    def _past(self, held: _Held) -> _Held:
        """The same press without keeping the outbox busy with it."""
        seq = self._seq_of(held)
        return replace(held, deposit=None, place=None if seq is None else (self._outbox.journal, seq))

    def _on_fate(self, deposit: Deposit) -> None:
        """Something else is true of a press than before."""
        for key, shown in self._shown.items():
            if shown is deposit:
                self._light(key)
        if deposit.done():
            # The first time it is told when all of the press is stored.
            self._publish()

    # ------------------------------------------------------------------ dispatch and the page

    def publish(self) -> None:
        """Say `state/status` anew: something of the run changed."""
        if self._restored:
            self._publish()

    def on_answer(self, order: Answer) -> None:
        """Dispatch took or refused a record of ours: kept as a record, shown by the lamp and on the page."""
        if order.journal != self._outbox.journal:
            log.warning("answer_for_another_journal", seq=order.seq)
            return
        if not 1 <= order.seq <= self._outbox.last_seq(Stream.EVENTS):
            log.warning("answer_to_nothing", seq=order.seq)
            return
        said = (order.accepted, order.reason, order.text)
        if self._answered.get(order.seq) == said:
            return  # what is kept for ever is kept once
        self._answered[order.seq] = said
        if len(self._answered) > _MOST_ANSWERED:
            del self._answered[next(iter(self._answered))]
        verdict = Verdict(order.seq, order.accepted, order.reason, order.text, order.id or None)
        self._put(verdict)
        for key, deposit in self._shown.items():
            if deposit.seq == order.seq:
                if order.accepted:
                    self._refused.pop(key, None)
                else:
                    self._refused[key] = order
                self._light(key)
        self._on_change()

    def on_amend(self, order: Amend) -> None:
        """Dispatch corrects a status; the original stays beside it."""
        held = next((one for one in self._recent if self._seq_of(one) == order.seq), None)
        if order.journal != self._outbox.journal or held is None or not isinstance(held.body, StatusChange):
            log.warning("amendment_of_nothing", seq=order.seq)
            return
        if order.status is not None:
            if order.status not in set(UnitStatus):
                log.warning("amendment_unknown_status", seq=order.seq)
                return
            self._put(
                Amendment(
                    order.seq,
                    Kind.STATUS.token,
                    "status",
                    held.body.status,
                    order.status,
                    made=str(Made.DISPATCH),
                    why=order.why,
                    request=order.id,
                )
            )
            held = self._replaced(held, replace(held, body=replace(held.body, status=order.status)))
        if order.unix_ms is not None:
            self._amend_time(held, order.unix_ms, Made.DISPATCH, order.why, order.id)

    def actions(self, cancel_code: str | None) -> dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]:
        """What the crew's page may ask for, by its word (docs/panel.md)."""
        return {
            "press": lambda given: self._touch(str(given["key"]), given.get("reason")),
            "undo": lambda _: self._touched(self._rules.undo(self._clock.boottime_ns())),
            "emergency": lambda _: self._touch(self._emergency_key(), None),
            "emergency_test": lambda _: self._announce_test(),
            "cancel_emergency": lambda given: self._cancel(str(given.get("code", "")), cancel_code),
            "amend": self._amend_earlier,
        }

    def page(self) -> dict[str, Any]:
        """The presses' part of what the page shows, JSON-able."""
        now_ns = self._clock.boottime_ns()
        status, state = self._status, self._rules.state
        refusal = None if status is None else self._refused.get(status.body.input)
        age_ns = None if status is None or status.boottime_ns is None else now_ns - status.boottime_ns
        fate = (
            None
            if self._emergency is None or self._emergency.deposit is None
            else self._emergency.deposit.fate
        )
        return {
            "status": {
                "token": state.status,
                "age_s": None if age_ns is None else round(age_ns / 1e9, 1),
                "undo_s": round(self._rules.undo_left_ns(now_ns) / 1e9, 1),
                "refused": None if refusal is None else {"reason": refusal.reason, "text": refusal.text},
            },
            "keys": [
                {"key": key, "token": token, "lamp": str(self._lamp_of(key))}
                for key, token in self._keys.items()
                if token != EMERGENCY
            ],
            "emergency": {
                "active": state.emergency,
                "sent": fate is Fate.DELIVERED,
                "received": fate is Fate.DELIVERED and self._receipts,
                "test": now_ns < self._test_until_ns,
                "silent": self._silent,
            },
            "recent": [
                {"seq": seq, "token": one.body.status, "time": self._time_of_day(one)}
                for one in reversed(self._recent)
                if isinstance(one.body, StatusChange) and (seq := self._seq_of(one)) is not None
            ],
        }

    def _time_of_day(self, held: _Held) -> str:
        utc = self._utc_of(held)
        return "" if utc is None else utc_text(utc.unix_ms)[11:19]

    def _touch(self, key: str, reason: object) -> Mapping[str, Any]:
        if key not in self._keys:
            return {"error": "unknown_key", "text": "There is no such key."}
        edge = ButtonEdge(key, True, None, self._clock.boottime_ns())
        outcome = self._rules.handle(edge)
        self._take(_NO_VOICE, edge, outcome, Made.PANEL, reason if isinstance(reason, str) else None)
        self._rules.handle(replace(edge, pressed=False))
        return {"ok": True}

    def _touched(self, outcome: CrewOutcome) -> Mapping[str, Any]:
        if not outcome.withdraws and not outcome.bodies:
            return {"error": "too_late", "text": "There is nothing left to take back."}
        key = outcome.darken[0] if outcome.darken else ""
        edge = ButtonEdge(key, True, None, self._clock.boottime_ns())
        self._take(_NO_VOICE, edge, outcome, Made.PANEL)
        return {"ok": True}

    def _emergency_key(self) -> str:
        return next((key for key, token in self._keys.items() if token == EMERGENCY), EMERGENCY)

    def _cancel(self, given: str, code: str | None) -> Mapping[str, Any]:
        if code is None or not hmac.compare_digest(given.encode(), code.encode()):
            return {"error": "wrong_code", "text": "That is not the code."}
        return self._touched(self._rules.cancel_emergency())

    def _amend_earlier(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        seq, earlier_s = given["seq"], given["earlier_s"]
        held = next((one for one in self._recent if self._seq_of(one) == seq), None)
        if held is None or not isinstance(earlier_s, int | float) or not 0 < earlier_s <= _MOST_EARLIER_S:
            return {"error": "malformed", "text": "Choose a press, and say how many minutes earlier."}
        utc = self._utc_of(held)
        if utc is None:
            return {"error": "no_time", "text": "The time of that press is not known."}
        self._amend_time(held, utc.unix_ms - round(earlier_s * 1000), Made.PANEL, "crew", None)
        return {"ok": True}

    def _amend_time(self, held: _Held, unix_ms: int, made: Made, why: str, request: str | None) -> None:
        utc, seq = self._utc_of(held), self._seq_of(held)
        assert seq is not None
        before, after = None if utc is None else utc_text(utc.unix_ms), utc_text(unix_ms)
        self._put(
            Amendment(seq, Kind.STATUS.token, "utc", before, after, str(made), why=why, request=request)
        )
        source = UtcSource.LAST_KNOWN if utc is None else utc.source
        self._replaced(held, replace(held, utc=Utc(unix_ms, source, None), boottime_ns=None))

    def _replaced(self, held: _Held, by: _Held) -> _Held:
        """Take `by` for `held` wherever it stands, and say so at once."""
        self._recent = [by if one is held else one for one in self._recent]
        if self._seq_of(self._status) == self._seq_of(held) and self._status is not None:
            self._status = replace(by, deposit=self._status.deposit, place=self._status.place)
            if isinstance(by.body, StatusChange):
                self._rules.amend_status(by.body.status)
                self._context.status_holds(by.body.status, pressed=False)
        self._publish()
        return by

    def _put(self, body: Body) -> None:
        stamp = self._time_base.stamp(self._clock.boottime_ns())
        self._outbox.put(Draft(stamp, body)).add_done_callback(_look_at)

    # ------------------------------------------------------------------ what holds

    def _remember(self, held: _Held) -> None:
        if isinstance(held.body, Emergency):
            self._emergency = held
        elif held.body.status not in MOMENTARY:
            self._before = None if self._status is None else self._past(self._status)
            self._status = held
        elif self._status is None and held.body.previous is not None:
            # After a restart only the newest press is read: a momentary one tells what holds, not since when.
            self._status = _Held(replace(held.body, status=held.body.previous), None, None, None)

    def _publish(self) -> None:
        self._told_journal = self._outbox.journal
        now_ns = self._clock.boottime_ns()
        status, emergency, standing = self._status, self._emergency, self._standing()
        state = StatusState(
            boottime_ms=now_ns // 1_000_000,
            utc=self._time_base.utc(now_ns),
            status=status.body.status if status and isinstance(status.body, StatusChange) else None,
            since=self._utc_of(status),
            seq=self._seq_of(status),
            emergency=self._rules.state.emergency,
            emergency_since=self._utc_of(emergency) if self._rules.state.emergency else None,
            emergency_seq=self._seq_of(emergency),
            journal=self._outbox.journal or None,
            reason=status.body.reason if status and isinstance(status.body, StatusChange) else None,
            emergency_silent=None if standing is None else standing.silent,
            emergency_test=None if standing is None else standing.test,
        )
        self._states.set_state(self._context.dressed_state(state))
        self._on_change()

    def _standing(self) -> Emergency | None:
        """The newest record of the emergency that stands; None without one."""
        held = self._emergency
        if held is None or not self._rules.state.emergency or not isinstance(held.body, Emergency):
            return None
        return held.body

    def _seq_of(self, held: _Held | None) -> int | None:
        """Its sequence number in the journal in use."""
        if held is None:
            return None
        if held.deposit is not None:
            return held.deposit.seq
        return None if held.place is None or held.place[0] != self._outbox.journal else held.place[1]

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
        if self._silent and self._keys.get(key) == EMERGENCY:
            return
        lamp = {
            Fate.NOT_STORED: Lamp.NOT_STORED,
            Fate.STORED: Lamp.STORED,
            Fate.DELIVERED: Lamp.RECEIVED if self._receipts else Lamp.DELIVERED,
        }[self._shown[key].fate]
        self._show(key, Lamp.REFUSED if key in self._refused else lamp)

    def _show(self, key: str, lamp: Lamp) -> None:
        if self._lamps.get(key, Lamp.OFF) is not lamp:
            self._lamps[key] = lamp
            self._on_change()
            for voice in self._voices:
                voice.show(key, lamp)

    def _lamp_of(self, key: str) -> Lamp:
        """The key's lamp; of two keys with one meaning, the one that was pressed speaks for both."""
        lamp, meaning = self._lamps.get(key, Lamp.OFF), self._keys.get(key)
        if lamp is not Lamp.OFF or meaning is None:
            return lamp
        others = (self._lamps.get(other, Lamp.OFF) for other, token in self._keys.items() if token == meaning)
        return next((other for other in others if other is not Lamp.OFF), Lamp.OFF)
