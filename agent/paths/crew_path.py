"""From press to record, lamp and live status."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from agent.domain.crew import EMERGENCY, ButtonEdge, CrewOutcome, CrewRules, CrewState
from agent.domain.record import Body, Draft, Emergency, Kind, Made, StatusChange, Withdrawal
from agent.domain.roster import CREW_ID
from agent.domain.stamp import Stamp, Utc, UtcSource
from agent.domain.state import StatusState
from agent.domain.status import MOMENTARY, REASON
from agent.domain.time_base import TimeBase
from agent.hal.buttons import Lamp
from agent.hal.clock import Clock
from agent.outbox.deposit import Deposit, Fate
from agent.outbox.fault import OutboxClosedError, StoreFaultError
from agent.outbox.outbox import Outbox
from agent.paths.crew_corrections import Corrections, Told, look_at
from agent.paths.crew_lamps import CrewLamps
from agent.paths.crew_standing import Held, Standing
from agent.paths.panel_voice import NoVoice, Voice
from agent.paths.run_records import RunRecords
from agent.paths.state_sink import StateSink
from agent.runtime.log import EventLog
from agent.supervision.supervisor import Progress
from agent.wire.body import unpack_body
from agent.wire.orders import CancelEmergency
from agent.wire.row import Row
from agent.wire.time_text import utc_text

log = EventLog("crew")
_TICK_S = 1.0
_TEST_HOLD_NS = 1_500_000_000
"""The page says again within so long that its test button is held; else it is taken for let go."""
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

    def status_amended(self, before: StatusChange, status: str, *, holds: bool) -> None:
        """A press was corrected to be another status; `holds` where it is the one that holds."""
        ...

    def breakdown(self, press: StatusChange) -> Body | None:
        """What is told beside a press that says that the vehicle failed on a call."""
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

    def status_amended(self, before: StatusChange, status: str, *, holds: bool) -> None:
        """Nobody is told."""

    def breakdown(self, press: StatusChange) -> Body | None:
        """Nothing is known of a call."""
        del press
        return None

    def dressed_state(self, state: StatusState) -> StatusState:
        """The state as it is."""
        return state


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
        system: Callable[[], Lamp | None] = lambda: None,
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
            system: what the system lamp is to show; None leaves it alone.
        """
        self._system = system
        self._context: Context = NoContext() if context is None else context
        self._receipts = receipts
        self._silent = silent
        self._test_from_ns, self._test_until_ns = 0, -1
        """While an emergency is a test, by CLOCK_BOOTTIME of its edge."""
        self._on_change = on_change
        self._keys = keys
        self._clock = clock
        self._time_base = time_base
        self._outbox = outbox
        self._states = states
        self._rules = CrewRules(keys, CrewState(), undo_ns=round(undo_s * 1e9))
        self._standing = Standing(clock, time_base, outbox)
        self._lamps = CrewLamps(keys, receipts=receipts, silent=silent, on_change=on_change)
        self._records = RunRecords(clock, time_base, outbox)
        self.corrections = Corrections(
            self._standing,
            self._lamps,
            time_base,
            outbox,
            records=self._records,
            told=Told(self._on_fate, self._corrected, self._reasoned, self._publish, on_change, self._begin),
        )
        self._restored = False
        self._told_journal = 0
        self._source = UtcSource.NONE
        """Of the time, at the last tick."""
        self._writing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Take up what was true before a restart, if the store can be read already."""
        await self._restore()

    async def run(self, progress: Progress) -> None:
        """The unit's loop: restores as soon as the store can be read, and dates presses when it can."""
        while True:
            progress()
            await self._restore()
            self.tick()
            await asyncio.sleep(_TICK_S)

    def tick(self) -> None:
        """What time brings, once a second: a hold that counts is shown, what no press brings is told.

        That is: what chattered is quiet now, what was lost was the last, when a press was by a better clock,
        and the lamp of the whole.
        """
        now_ns = self._clock.boottime_ns()
        self._lamps.tell_that_holds_count(self._rules.cancelling(now_ns))
        system = self._system()
        if system is not None:
            self._lamps.tell_system(system)
        for alert in self._rules.due(now_ns):
            log.warning("panel", code=alert.code, text=alert.text)
            self._outbox.put(Draft(self._time_base.stamp(now_ns), alert)).add_done_callback(look_at)
        before, self._source = self._source, self._time_base.source(now_ns)
        if self._restored and (self._source > before or self._outbox.journal != self._told_journal):
            self._publish()

    def attach(self, voice: Voice) -> Callable[[ButtonEdge], None]:
        """Tell `voice` what its lamps are to show, now and from now on; returns what takes its edges."""
        self._lamps.attach(voice)
        return partial(self._on_edge, voice)

    def sleep_over(self) -> None:
        """The computer slept."""
        self._rules.sleep_over()

    def snapshot(self) -> dict[str, object]:
        """For `mdt status`."""
        return {
            "status": self._rules.state.status,
            "emergency": self._rules.state.emergency,
            "presses_not_stored": len(self._writing),
            "lamps": self._lamps.snapshot(),
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
            await self._standing.look_back(None if found[0] is None else found[0].seq)
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
            standing = self._standing
            newer = standing.emergency if isinstance(one.body, Emergency) else standing.status
            if newer is not None:
                continue
            standing.remember(one)
            lit = isinstance(one.body, StatusChange) or one.body.active
            if lit and one.deposit is not None and self._lamps.press_of(one.body.input) is None:
                self._lamps.follow(one.body.input, one.deposit)
        self._standing.find_status(self._rules.state.status)
        seq = self._standing.seq_of(self._standing.status)
        self._context.status_holds(self._rules.state.status, pressed=False, seq=seq)
        self._publish()
        await self.corrections.light_again()

    def _held(self, row: Row, withdrawal: Row | None) -> Held | None:
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
            return Held(replace(body, status=taken_back.status), None, None, None)
        boottime_ns = row.boottime_ms * 1_000_000 if row.boot == self._outbox.boot else None
        deposit = self._outbox.follow(row)
        deposit.listen(self._on_fate)
        return self._standing.as_corrected(Held(body, utc, boottime_ns, deposit))

    # ------------------------------------------------------------------ a press

    def _on_edge(self, voice: Voice, edge: ButtonEdge) -> None:
        test = self._test_from_ns <= edge.at_boottime_ns <= self._test_until_ns
        self._take(voice, edge, self._rules.handle(edge, self._clock.boottime_ns(), test=test))

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
            voice.show(outcome.show, self._lamps.of(outcome.show))
        if not outcome.bodies:
            voice.acknowledge(edge)
            return
        stamp = self._time_base.stamp(edge.at_boottime_ns)
        darkened = {key: self._lamps.press_of(key) for key in outcome.darken}
        # Each record is handed over now, in order; only the waiting for the disk is a task.
        bodies = [self._worded(body, edge, made, reason) for body in outcome.bodies]
        statuses = [body for body in bodies if isinstance(body, StatusChange)]
        failed = [self._context.breakdown(one) for one in statuses]
        bodies += [one for one in failed if one is not None]
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
            body = replace(body, silent=self._silent or None)
        if made is not None and isinstance(body, StatusChange | Emergency):
            body = replace(body, made=str(made))
        return replace(body, reason=reason) if reason and isinstance(body, StatusChange) else body

    def _hold_test(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Somebody holds the page's test button, or let it go: what the key says meanwhile is a test."""
        if self._rules.state.emergency:
            return {"error": "emergency_stands", "text": "An emergency stands: it is not made a test."}
        now_ns = self._clock.boottime_ns()
        if given["held"] is not True:
            self._test_until_ns = min(self._test_until_ns, now_ns)
        else:
            if now_ns > self._test_until_ns:
                self._test_from_ns = now_ns
            self._test_until_ns = now_ns + _TEST_HOLD_NS
        return {"ok": True}

    def _withdraw(self, voice: Voice, edge: ButtonEdge, outcome: CrewOutcome, made: Made | None) -> None:
        """Take the status that holds back; what was before it holds again, at once."""
        taken = self._standing.go_back()
        for key in outcome.darken:
            self._lamps.forget(key)
        status = self._rules.state.status
        self._context.taken_back(status)
        self._publish()
        if taken is None or taken.deposit is None:
            voice.acknowledge(edge)
            return
        self._begin(self.corrections.take_back(voice, edge, taken.deposit, made, status))

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work, name="crew-press")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    def _deposit(self, body: Body, stamp: Stamp, show: str | None) -> Deposit:
        deposit = self._outbox.put(Draft(stamp, body))
        if isinstance(body, StatusChange | Emergency):
            self._standing.remember(Held(body, stamp.utc, stamp.boottime_ns, deposit))
            deposit.listen(self._on_fate)
            if show is not None:
                self._lamps.follow(show, deposit)
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
        self._standing.keep_for_amendments(deposits)
        for key, shown in darkened.items():
            self._lamps.darken(key, shown)
        self._publish()

    def _on_fate(self, deposit: Deposit) -> None:
        """Something else is true of a press than before."""
        self._lamps.on_fate(deposit)
        if deposit.done():
            # The first time it is told when all of the press is stored.
            self._publish()

    # ------------------------------------------------------------------ dispatch and the page

    def publish(self) -> None:
        """Say `state/status` anew: something of the run changed."""
        if self._restored:
            self._publish()

    def on_cancel_emergency(self, order: CancelEmergency) -> None:
        """Dispatch knows that the emergency is over, and means the one that stands."""
        held = self._standing.emergency
        if not self._rules.state.emergency:
            self._records.refuse("cancel-emergency", order.id, "no_emergency")
        elif (order.journal, order.seq) != (self._outbox.journal, self._standing.seq_of(held)):
            self._records.refuse(
                "cancel-emergency",
                order.id,
                "other_emergency",
                "It was raised again since, or is another one.",
            )
        else:
            body = _with_each(self._rules.cancel_emergency(), by=order.by, request=order.id, why=order.why)
            self._touched(body, Made.DISPATCH)

    def actions(self, cancel_code: str | None) -> dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]:
        """What the crew's page may ask for, by its word (docs/panel.md)."""
        return {
            "press": lambda given: self._touch(str(given["key"]), given.get("reason")),
            "undo": lambda _: self._touched(self._rules.undo(self._clock.boottime_ns()), Made.PANEL),
            "emergency": self._page_emergency,
            "emergency_test": self._hold_test,
            "cancel_emergency": lambda given: self._cancel(given, cancel_code),
            **self.corrections.actions(),
        }

    def page(self, tiles: Sequence[str] | None = None) -> dict[str, Any]:
        """The presses' part of what the page shows, JSON-able; `tiles`: keys that have one, None for all."""
        now_ns = self._clock.boottime_ns()
        status, emergency, state = self._standing.status, self._standing.emergency, self._rules.state
        shown, more = self._tiles(tiles)
        refusal = None if status is None else self._lamps.refusal_of(status.body.input)
        fate = None if emergency is None or emergency.deposit is None else emergency.deposit.fate
        return {
            "status": {
                "token": state.status,
                "age_s": self._age_s(status, now_ns),
                "reason": status.body.reason if status and isinstance(status.body, StatusChange) else None,
                "undo_s": round(self._rules.undo_left_ns(now_ns) / 1e9, 1),
                "refused": None if refusal is None else {"reason": refusal.reason, "text": refusal.text},
            },
            "keys": [self._tile(key) for key in shown],
            "more_keys": [self._tile(key) for key in more],
            "emergency": {
                "active": state.emergency,
                "sent": fate is Fate.DELIVERED,
                "received": fate is Fate.DELIVERED and self._receipts,
                "test_held": now_ns <= self._test_until_ns,
                "is_test": state.emergency_test,
                "silent": self._silent,
            },
            "recent": [
                {"seq": seq, "token": one.body.status, "time": self._time_of_day(one)}
                for one in reversed(self._standing.recent)
                if isinstance(one.body, StatusChange) and (seq := self._standing.seq_of(one)) is not None
            ],
        }

    def _tiles(self, wanted: Sequence[str] | None) -> tuple[list[str], list[str]]:
        """Keys that have a tile, and the others; of keys with one meaning one is enough.

        What is wanted is a key by its name, or the first with that status. Where none of it is there, a page
        without tiles would help nobody: then it is the first keys.
        """
        by_status: dict[str, str] = {}
        for key, token in self._keys.items():
            if token != EMERGENCY:
                by_status.setdefault(token, key)
        keys = list(by_status.values())
        if wanted is None:
            return keys, []
        found = (one if one in self._keys else by_status.get(one) for one in wanted)
        shown = list(dict.fromkeys(key for key in found if key is not None and self._keys[key] != EMERGENCY))
        shown = shown or keys[: len(wanted)]
        told = {self._keys[key] for key in shown}
        return shown, [key for key in keys if self._keys[key] not in told]

    def _age_s(self, held: Held | None, now_ns: int) -> float | None:
        """How long the status holds; of one whose time was corrected, or of another boot, by UTC."""
        if held is not None and held.boottime_ns is not None:
            return round((now_ns - held.boottime_ns) / 1e9, 1)
        since, utc = self._standing.utc_of(held), self._time_base.utc(now_ns)
        return None if since is None or utc is None else round((utc.unix_ms - since.unix_ms) / 1000, 1)

    def _tile(self, key: str) -> dict[str, str]:
        return {"key": key, "token": self._keys[key], "lamp": str(self._lamps.of(key))}

    def _time_of_day(self, held: Held) -> str:
        utc = self._standing.utc_of(held)
        return "" if utc is None else utc_text(utc.unix_ms)[11:19]

    def _touch(self, key: str, reason: object, *, test: bool = False) -> Mapping[str, Any]:
        if key not in self._keys:
            return {"error": "unknown_key", "text": "There is no such key."}
        edge = ButtonEdge(key, True, None, self._clock.boottime_ns())
        outcome = self._rules.handle(edge, test=test)
        # A press counts whatever stands beside it.
        is_word = isinstance(reason, str) and REASON.fullmatch(reason) is not None
        self._take(_NO_VOICE, edge, outcome, Made.PANEL, str(reason) if is_word else None)
        self._rules.handle(replace(edge, pressed=False))
        return {"ok": True}

    def _touched(self, outcome: CrewOutcome, made: Made) -> Mapping[str, Any]:
        if not outcome.withdraws and not outcome.bodies:
            return {"error": "too_late", "text": "There is nothing left to take back."}
        key = outcome.darken[0] if outcome.darken else ""
        edge = ButtonEdge(key, True, None, self._clock.boottime_ns())
        self._take(_NO_VOICE, edge, outcome, made)
        return {"ok": True}

    def _page_emergency(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The guard of the page was passed; only what says so itself is a test."""
        key = next((key for key, token in self._keys.items() if token == EMERGENCY), EMERGENCY)
        test = given.get("test") is True
        if test and self._rules.state.emergency:
            return {"error": "emergency_stands", "text": "An emergency stands: it is not made a test."}
        return self._touch(key, None, test=test)

    def _cancel(self, given: Mapping[str, Any], code: str | None) -> Mapping[str, Any]:
        if code is None or not hmac.compare_digest(str(given.get("code", "")).encode(), code.encode()):
            return {"error": "wrong_code", "text": "That is not the code."}
        outcome = self._rules.cancel_emergency()
        by = given.get("by")
        if isinstance(by, str) and CREW_ID.fullmatch(by):
            outcome = _with_each(outcome, by=by)
        return self._touched(outcome, Made.PANEL)

    def _corrected(self, before: StatusChange, status: str, holds: bool) -> None:  # a callback
        if holds:
            self._rules.amend_status(status)
        self._context.status_amended(before, status, holds=holds)

    def _reasoned(self, press: StatusChange) -> None:
        """A reason was given afterwards: it may be that the vehicle failed."""
        failed = self._context.breakdown(press)
        if failed is not None:
            self._records.put(failed)

    def _publish(self) -> None:
        self._told_journal = self._outbox.journal
        self._states.set_state(self._context.dressed_state(self._standing.state(self._rules.state)))
        self._on_change()


def _with_each(outcome: CrewOutcome, **changes: Any) -> CrewOutcome:
    """The outcome with these fields in each of its emergencies."""
    bodies = tuple(replace(one, **changes) if isinstance(one, Emergency) else one for one in outcome.bodies)
    return replace(outcome, bodies=bodies)
