"""From what dispatch tells the crew, and from what surrounds the unit, to records, states and the panel.

Calls, messages, who is aboard, places, stops and forgotten presses. It also dresses each press: the incident
it belongs to, who made it, and what the vehicle itself knew (`dressed`). It never makes or changes a press.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from agent.config.crew import Crew
from agent.domain.call import ENDING, Call, CallBook, CallNews, Refusal
from agent.domain.evidence import Evidence, contradictions
from agent.domain.fix import Fix
from agent.domain.geodesy import distance_m
from agent.domain.messages import MessageBook
from agent.domain.missed_press import Hint, MissedPress
from agent.domain.motion import MotionChange
from agent.domain.places import PlaceEvent, Places
from agent.domain.record import (
    Body,
    CallRecord,
    CallStep,
    CommandResult,
    CrewRecord,
    CrewStep,
    Crossing,
    Draft,
    Emergency,
    EvidenceRecord,
    HintRecord,
    Made,
    MessageRecord,
    MotionRecord,
    MotionWord,
    Outcome,
    PlaceRecord,
    Position,
    StatusChange,
    StatusFlag,
)
from agent.domain.reporting import position_of
from agent.domain.roster import Roster
from agent.domain.run_order import is_expected
from agent.domain.stamp import Utc, UtcSource
from agent.domain.state import DestinationState, StatusState, UnitState
from agent.domain.status import MOMENTARY
from agent.domain.surroundings import Surroundings
from agent.domain.time_base import TimeBase
from agent.domain.vehicle import Signal
from agent.hal.clock import Clock
from agent.outbox.fault import OutboxClosedError
from agent.paths.state_sink import StateSink
from agent.runtime.log import EventLog
from agent.wire.orders import Assign, Cancel, SignOn, Text, Update

log = EventLog("run")

TICK_S = 1.0
ETA_EVERY_S = 15.0
KM_H = 3.6
SPEED_SIGNAL = "Speed"
"""VSS path below `Vehicle.` of the speed by the wheels, in km/h."""
ODOMETER_SIGNAL = "TraveledDistance"
SLOWEST_MPS = 3.0
"""For an arrival time a unit in traffic is not slower than this; below it nobody can say."""
_SPEED_SMOOTHING = 0.02
_SAYING_MODE = (CallStep.RECEIVED, CallStep.UPDATED)


class Records(Protocol):
    """Where records go; the outbox."""

    def put(self, draft: Draft) -> Any:
        """Store a record of the events."""
        ...

    def stage(self, draft: Draft) -> None:
        """Store a record of the trail with the next group."""
        ...


class RunPath:
    """What belongs to a run. Used from the event loop.

    Args:
        settings: the table `[crew]`.
        call_sign: of this unit, by the configuration.
        places: known places.
        clock: boot time.
        time_base: derives UTC.
        records: the outbox.
        states: where states are published.
        on_change: called when the panel has something new to show.
        signals: newest signals of the vehicle by name, None where there is no fresh one.
        newest_seq: newest sequence number of the events on the disk.
        keep: given, whenever it changed, what `restore` must be given after a restart.
        on_crossing: called when the unit came to a known place or left it.
    """

    def __init__(
        self,
        settings: Crew,
        call_sign: str,
        places: Places,
        clock: Clock,
        time_base: TimeBase,
        *,
        records: Records,
        states: StateSink,
        on_change: Callable[[], None] = lambda: None,
        signals: Callable[[], Mapping[str, Any]] = dict,
        newest_seq: Callable[[], int] = lambda: 0,
        keep: Callable[[Mapping[str, Any]], None] = lambda _: None,
        on_crossing: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_crossing = on_crossing
        self._signals = signals
        self._newest_seq = newest_seq
        self._keep = keep
        self._call_after_seq = 0
        """Newest press on the disk when the call came."""
        self._settings = settings
        self._call_sign = call_sign
        self._clock = clock
        self._time_base = time_base
        self._records = records
        self._states = states
        self._on_change = on_change
        self._around = Surroundings(places, MissedPress() if settings.hints else None)
        self._calls = CallBook(remind_after_s=settings.remind_after_s, keep_s=settings.keep_calls_h * 3600)
        self._messages = MessageBook(keep_s=settings.keep_calls_h * 3600)
        self._roster = Roster(call_sign, settings.vehicle or call_sign)
        self._shift_since: Utc | None = None
        self._status: str | None = None
        self._position: Position | None = None
        self._mean_mps = 0.0
        self._hint: Hint | None = None
        self._eta_told_ns: int | None = None
        self._on_state: Callable[[], None] = lambda: None

    # ------------------------------------------------------------------ for the rest of the agent

    @property
    def incident(self) -> str | None:
        """Number of the incident that the unit is assigned to."""
        return self._calls.incident

    @property
    def position(self) -> Position | None:
        """The newest position, however old."""
        return self._position

    @property
    def has_fix(self) -> bool:
        """Whether the unit knows where it is now."""
        return self._around.evidence(self._now_ns(), None).lat_deg is not None

    def listen(self, on_state: Callable[[], None]) -> None:
        """Call `on_state` when something changed that `state/status` says."""
        self._on_state = on_state

    def open(self, remembered: Mapping[str, Any] | None = None) -> None:
        """Take up where the last run ended, and say who and what this unit is.

        Args:
            remembered: what `keep` was given last; what makes no sense in it is left out, and logged.
        """
        given = remembered or {}
        now_ns, same_boot = self._now_ns(), given.get("boot_id") == self._clock.boot_id
        for name, restore in (
            ("calls", lambda one: self._calls.restore(one, now_ns, same_boot=same_boot)),
            ("messages", lambda one: self._messages.restore(one, now_ns, same_boot=same_boot)),
            ("roster", self._restore_roster),
            ("call_after_seq", self._restore_call_after_seq),
        ):
            try:
                if given.get(name) is not None:
                    restore(given[name])
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                log.error("not_remembered", what=name, why=type(error).__name__)
        self._tell_unit()

    def _remembered(self) -> dict[str, Any]:
        roster, since = self._roster, self._shift_since
        return {
            "boot_id": self._clock.boot_id,
            "calls": self._calls.remembered(),
            "call_after_seq": self._call_after_seq,
            "messages": self._messages.remembered(),
            "roster": {
                "call_sign": roster.call_sign,
                "crew": list(roster.crew),
                "driver": roster.driver,
                "for_calls": roster.available_for_calls,
                "since": None if since is None else [since.unix_ms, int(since.source)],
            },
        }

    def _restore_roster(self, given: Mapping[str, Any]) -> None:
        roster = replace(self._roster, available_for_calls=given["for_calls"] is True)
        if given["crew"]:
            roster = roster.signed_on(given["crew"], given["driver"], str(given["call_sign"]))
        since = given["since"]
        self._shift_since = None if since is None else Utc(int(since[0]), UtcSource(since[1]), None)
        self._roster = roster

    def _restore_call_after_seq(self, given: int) -> None:
        self._call_after_seq = int(given)

    def on_fix(self, fix: Fix) -> None:
        """Take a believed fix."""
        self._position = position_of(fix) or self._position
        if fix.speed_mps is not None:
            self._mean_mps += (fix.speed_mps - self._mean_mps) * _SPEED_SMOOTHING
        for news in self._around.take_fix(fix):
            if isinstance(news, MotionChange):
                self._moved(news)
            else:
                self._crossed(news)

    def on_signals(self, signals: Sequence[Signal]) -> None:
        """Take changed signals of the vehicle."""
        for signal in signals:
            if isinstance(signal.value, bool) or not isinstance(signal.value, int | float):
                continue
            if signal.name == SPEED_SIGNAL:
                self._wheels(signal.received_boottime_ns, signal.value)

    def _fresh_odometer_m(self) -> int | None:
        """The odometer as the bus tells it now; of a bus that is silent nothing is known."""
        value = self._signals().get(ODOMETER_SIGNAL)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 53:
            return None
        return round(value)

    def _fresh_position(self) -> Position | None:
        """Where the unit is now; an old position is not where it stopped."""
        return self._position if self.has_fix else None

    def _wheels(self, boottime_ns: int, speed_kmh: float) -> None:
        change = self._around.take_wheel_speed(boottime_ns, speed_kmh / KM_H)
        if change is not None:
            self._moved(change)

    def dressed(self, body: Body, boottime_ns: int) -> Body:
        """A press with what stands beside it; anything else as it is."""
        if not isinstance(body, StatusChange | Emergency):
            return body
        evidence = self._around.evidence(boottime_ns, self._incident_position())
        against = contradictions(body.status, evidence) if isinstance(body, StatusChange) else ()
        record = self._evidence_record(evidence, boottime_ns, tuple(str(one) for one in against))
        if isinstance(body, Emergency):
            return replace(body, incident=self.incident, evidence=record)
        flags = []
        if not is_expected(body.previous, body.status):
            flags.append(str(StatusFlag.UNEXPECTED))
        if against:
            flags.append(str(StatusFlag.CONTRADICTED))
        return replace(body, incident=self.incident, evidence=record, flags=tuple(flags) or None)

    def status_holds(self, status: str | None, *, pressed: bool, seq: int | None = None) -> None:
        """A status holds from now on.

        Args:
            status: its token; None when there is none any more.
            pressed: True when somebody set it just now.
            seq: number of its record, of one that was read after a restart: the press may have ended the call
                and the end came before that could be kept.
        """
        if status is not None and status in MOMENTARY:
            return
        self._status, self._hint = status, None
        ended = status in ENDING and seq is not None and seq > self._call_after_seq
        if status is not None and (pressed or ended):
            self._told(self._calls.status_set(status, self._now_ns()), Made.BUTTON)
        self._changed()

    def taken_back(self, status: str | None) -> None:
        """The newest press was taken back: `status` holds again, and so does the call that it had ended."""
        self._told(self._calls.reopen(), Made.BUTTON)
        self.status_holds(status, pressed=False)

    def dressed_state(self, state: StatusState) -> StatusState:
        """The status as dispatch sees it, with the incident and what belongs to it."""
        return replace(
            state,
            incident=self.incident,
            for_calls=self._roster.available_for_calls,
            call_acknowledged=self._calls.acknowledged if self.incident is not None else None,
            hint=None if self._hint is None else str(self._hint.suggests),
        )

    async def run(self, progress: Callable[[], None]) -> None:
        """The unit's loop: reminders, hints, arrival times, and what may no longer be kept."""
        while True:
            progress()
            self.tick()
            await asyncio.sleep(TICK_S)

    def tick(self) -> None:
        """What time brings; once a second."""
        now_ns = self._now_ns()
        # Signals come when they change: what still holds is taken again, or a unit at rest knew nothing.
        speed_kmh = self._signals().get(SPEED_SIGNAL)
        if isinstance(speed_kmh, int | float) and not isinstance(speed_kmh, bool):
            self._wheels(now_ns, speed_kmh)
        self._told(self._calls.due(now_ns), None)
        self._messages.forget(now_ns)
        hint = self._around.hint(now_ns, self._status, self._incident_position())
        if hint is not None:
            self._hinted(hint)
        if self._eta_told_ns is not None and now_ns - self._eta_told_ns >= ETA_EVERY_S * 1e9:
            self._tell_destination()

    # ------------------------------------------------------------------ commands of dispatch

    def on_assign(self, order: Assign) -> None:
        """A call for the unit."""
        self._ordered("assign", order.id, self._calls.assign(order.id, order.call, self._now_ns()))

    def on_update(self, order: Update) -> None:
        """Fields of a call changed."""
        news = self._calls.update(order.id, order.incident, order.fields, self._now_ns())
        self._ordered("update", order.id, news)

    def on_cancel(self, order: Cancel) -> None:
        """The call is no longer the unit's."""
        self._ordered("cancel", order.id, self._calls.cancel(order.id, order.incident, self._now_ns()))

    def on_message(self, order: Text) -> None:
        """A text or a coded order for the crew."""
        message = self._messages.take(order.id, order.text, order.code, self._now_ns())
        if message is not None:
            self._message(CallStep.RECEIVED, message.id, message.order)

    def on_sign_on(self, order: SignOn) -> None:
        """Dispatch says who is aboard."""
        try:
            self._sign_on(order.crew, order.driver, order.call_sign, Made.DISPATCH)
        except ValueError as error:
            self._result("sign-on", order.id, Outcome.REFUSED, "malformed", str(error))

    def _ordered(self, name: str, request: str, news: tuple[CallNews, ...] | Refusal) -> None:
        if isinstance(news, Refusal):
            # What was done before is not done again, and not told again.
            if news is not Refusal.REPEATED:
                self._result(name, request, Outcome.REFUSED, str(news), None)
            return
        self._told(news, Made.DISPATCH, request)

    # ------------------------------------------------------------------ actions of the panel

    def actions(self) -> dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]:
        """What the panel may ask for, by its word (docs/panel.md)."""
        return {
            "shown": lambda given: self._said(self._calls.shown(str(given["incident"]))),
            "acknowledge_call": lambda given: self._said(self._calls.acknowledge(str(given["incident"]))),
            "acknowledge_message": lambda given: self._acknowledge_message(str(given["message"])),
            "destination": lambda given: self._choose(str(given["place"])),
            "available_for_calls": lambda given: self._for_calls(value=given["value"] is True),
            "sign_on": lambda given: self._panel_sign_on(given["crew"]),
            "sign_off": lambda _: self._sign_off(),
        }

    def snapshot(self) -> dict[str, Any]:
        """The panel's part of the truth, JSON-able."""
        now_ns = self._now_ns()
        call = self._calls.current
        return {
            "unit": {"call_sign": self._roster.call_sign, "vehicle": self._roster.vehicle},
            "incident": self.incident,
            "call": None if call is None else self._call_snapshot(call),
            "messages": [
                {"id": one.id, "text": one.text or one.order, "acknowledged": one.acknowledged}
                for one in self._messages.messages
            ],
            "hint": None if self._hint is None else {"suggests": str(self._hint.suggests)},
            "hospitals": [
                {"id": place.id, "name": place.name}
                for place in self._around.places
                if place.kind == "hospital"
            ],
            "available_for_calls": self._roster.available_for_calls,
            "crew": list(self._roster.crew),
            "driver": self._roster.driver,
            "reasons": {status: list(reasons) for status, reasons in self._settings.reasons.items()},
            "motion": {"driving": self._around.is_driving(now_ns)},
        }

    def _call_snapshot(self, call: Call) -> dict[str, Any]:
        _, _, seconds = self._arrival(call)
        return {
            "incident": call.incident,
            "priority": call.priority,
            "response_mode": call.response_mode,
            "nature": call.nature,
            "address": call.address,
            "notes": call.notes,
            "destination": call.destination,
            "eta_min": None if seconds is None else max(1, round(seconds / 60)),
            "alternates": list(call.alternates),
            "acknowledged": self._calls.acknowledged,
        }

    def _said(self, news: tuple[CallNews, ...]) -> Mapping[str, Any]:
        self._told(news, Made.PANEL)
        return {"ok": True}

    def _acknowledge_message(self, message_id: str) -> Mapping[str, Any]:
        message = self._messages.acknowledge(message_id)
        if message is not None:
            self._message(CallStep.ACKNOWLEDGED, message.id, message.order)
        return {"ok": True}

    def _choose(self, place_id: str) -> Mapping[str, Any]:
        place = self._around.places.by_id(place_id)
        if place is None or self.incident is None:
            return {"error": "unknown_place", "text": "There is no such place, or no call."}
        fields = {"destination": place.id}
        news = self._calls.update(f"panel-{self._now_ns()}", self.incident, fields, self._now_ns())
        if not isinstance(news, Refusal):
            self._told(tuple(replace(one, sound=False) for one in news), Made.PANEL)
        self._tell_destination()
        return {"ok": True}

    def _for_calls(self, *, value: bool) -> Mapping[str, Any]:
        self._roster = replace(self._roster, available_for_calls=value)
        self._changed()
        return {"ok": True}

    def _panel_sign_on(self, crew: Any) -> Mapping[str, Any]:
        if not isinstance(crew, list) or not crew:
            return {"error": "malformed", "text": "Give the crew ids, the driver first."}
        try:
            self._sign_on(tuple(crew), crew[0], None, Made.PANEL)
        except ValueError as error:
            return {"error": "malformed", "text": str(error)}
        return {"ok": True}

    def _sign_on(self, crew: tuple[str, ...], driver: str | None, call_sign: str | None, made: Made) -> None:
        before = self._roster
        if not crew:
            self._sign_off(made)
            return
        self._roster = before.signed_on(crew, driver, call_sign)
        step = CrewStep.DRIVER if set(crew) == set(before.crew) and driver != before.driver else CrewStep.ON
        if before.crew != crew:
            self._shift_since = self._time_base.utc(self._now_ns())
        self._crew_record(step, made)

    def _sign_off(self, made: Made = Made.PANEL) -> Mapping[str, Any]:
        self._roster, self._shift_since = self._roster.signed_off(self._call_sign), None
        self._crew_record(CrewStep.OFF, made)
        return {"ok": True}

    # ------------------------------------------------------------------ records and states

    def _told(self, news: tuple[CallNews, ...], made: Made | None, request: str | None = None) -> None:
        diverted = next((one.call.incident for one in news if one.event is CallStep.DIVERTED), None)
        for one in news:
            if "again" in one.changed:
                continue  # the crew is asked once more; dispatch knows
            self._put(
                CallRecord(
                    step=str(one.event),
                    incident=one.call.incident,
                    request=request,
                    made=None if made is None else str(made),
                    by=self._roster.driver if made in (Made.PANEL, Made.BUTTON) else None,
                    diverted_from=diverted if one.event is CallStep.RECEIVED else None,
                    response_mode=one.call.response_mode if one.event in _SAYING_MODE else None,
                )
            )
            log.info("call", step=one.event.value)  # never what the call says
        if news:
            if any(one.event is CallStep.RECEIVED for one in news):
                self._call_after_seq = self._newest_seq()
            if self._calls.current is None:
                self._eta_told_ns = None
            self._changed()

    def _message(self, step: CallStep, message_id: str, code: str | None) -> None:
        made = str(Made.PANEL) if step is CallStep.ACKNOWLEDGED else None
        self._put(MessageRecord(str(step), message_id, code=code, incident=self.incident, made=made))
        self._changed()

    def _crew_record(self, step: CrewStep, made: Made) -> None:
        roster = self._roster
        self._put(
            CrewRecord(
                str(step), roster.crew, driver=roster.driver, call_sign=roster.call_sign, made=str(made)
            )
        )
        self._tell_unit()
        self._changed()

    def _result(self, name: str, request: str, outcome: Outcome, reason: str, text: str | None) -> None:
        self._stage(
            CommandResult(name, str(outcome), request=request, by="dispatch", reason=reason, text=text)
        )

    def _moved(self, change: MotionChange) -> None:
        word = MotionWord.ROLLING if change.rolling else MotionWord.STANDING
        body = MotionRecord(
            str(word),
            source=str(change.source),
            odometer_m=self._fresh_odometer_m(),
            position=self._fresh_position(),
            incident=self.incident,
        )
        self._stage(body, change.at_boottime_ns)
        self._on_change()

    def _crossed(self, event: PlaceEvent) -> None:
        crossing = Crossing.IN if event.entered else Crossing.OUT
        body = PlaceRecord(
            str(crossing),
            event.place.id,
            category=event.place.kind,
            position=self._fresh_position(),
            incident=self.incident,
        )
        self._stage(body, event.since_boottime_ns)
        self._on_crossing()

    def _hinted(self, hint: Hint) -> None:
        self._hint = hint
        now_ns = self._now_ns()
        evidence = self._around.evidence(now_ns, self._incident_position())
        self._stage(
            HintRecord(
                str(hint.suggests),
                str(hint.because),
                confidence=hint.confidence,
                place=hint.place,
                dwell_s=round(hint.dwell_s),
                radius_m=round(hint.radius_m),
                since_boottime_ms=hint.since_boottime_ns // 1_000_000,
                current=self._status,
                incident=self.incident,
                evidence=self._evidence_record(evidence, now_ns, ()),
            )
        )
        self._changed()

    def _evidence_record(
        self, evidence: Evidence, boottime_ns: int, against: tuple[str, ...]
    ) -> EvidenceRecord:
        motion = evidence.motion
        word = (
            None if motion.rolling is None else MotionWord.ROLLING if motion.rolling else MotionWord.STANDING
        )
        since_ns = motion.since_boottime_ns
        return EvidenceRecord(
            position=self._position if evidence.position_age_ms is not None else None,
            position_age_ms=evidence.position_age_ms,
            odometer_m=self._fresh_odometer_m(),
            motion=None if word is None else str(word),
            motion_for_ms=None if since_ns is None else max(0, boottime_ns - since_ns) // 1_000_000,
            speed_mps=motion.speed_mps,
            incident_distance_m=_metres(evidence.incident_distance_m),
            place=evidence.place,
            place_distance_m=_metres(evidence.place_distance_m),
            motion_source=None if motion.source is None else str(motion.source),
            contradictions=against or None,
        )

    def _tell_unit(self) -> None:
        now_ns = self._now_ns()
        self._states.set_state(
            UnitState(
                boottime_ms=now_ns // 1_000_000,
                utc=self._time_base.utc(now_ns),
                call_sign=self._roster.call_sign,
                vehicle=self._roster.vehicle,
                capabilities=self._settings.capabilities or None,
                crew=self._roster.crew or None,
                driver=self._roster.driver,
                shift_since=self._shift_since,
            )
        )

    def _tell_destination(self) -> None:
        now_ns, call = self._now_ns(), self._calls.current
        if call is None:
            return
        self._eta_told_ns = now_ns
        name, remaining_m, seconds = self._arrival(call)
        utc = self._time_base.utc(now_ns)
        eta = None
        if utc is not None and seconds is not None:
            eta = Utc(utc.unix_ms + round(seconds * 1000), utc.source, None)
        self._states.set_state(
            DestinationState(
                boottime_ms=now_ns // 1_000_000,
                utc=utc,
                destination=name,
                eta=eta,
                remaining_m=_metres(remaining_m),
                method="distance_over_speed" if eta is not None else None,
                incident=call.incident,
            )
        )

    def _arrival(self, call: Call) -> tuple[str | None, float | None, float | None]:
        """Destination, remaining metres as the crow flies, and seconds at the speed of the last minutes."""
        place = None if call.destination is None else self._around.places.by_id(call.destination)
        goal = (place.lat_deg, place.lon_deg) if place is not None else None
        position = self._position
        if goal is None or position is None:
            return call.destination, None, None
        remaining_m = distance_m(position.lat_deg, position.lon_deg, *goal)
        seconds = remaining_m / self._mean_mps if self._mean_mps >= SLOWEST_MPS else None
        return call.destination, remaining_m, seconds

    def _incident_position(self) -> tuple[float, float] | None:
        call = self._calls.current
        return None if call is None else call.position

    def _put(self, body: Body) -> None:
        try:
            self._records.put(Draft(self._time_base.stamp(self._now_ns()), body))
        except OutboxClosedError:
            log.error("record_not_stored", body=type(body).__name__)

    def _stage(self, body: Body, boottime_ns: int | None = None) -> None:
        at_ns = self._now_ns() if boottime_ns is None else boottime_ns
        try:
            self._records.stage(Draft(self._time_base.stamp(at_ns), body))
        except OutboxClosedError:
            log.error("record_not_stored", body=type(body).__name__)

    def _changed(self) -> None:
        self._keep(self._remembered())
        self._on_state()
        self._on_change()

    def _now_ns(self) -> int:
        return self._clock.boottime_ns()


def _metres(value: float | None) -> int | None:
    return None if value is None else round(value)
