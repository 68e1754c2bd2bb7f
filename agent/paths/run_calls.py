"""Calls and messages of dispatch: their records, where the unit is going, and what the page shows of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from agent.config.crew import Crew
from agent.domain.call import Call, CallBook, CallNews, Refusal
from agent.domain.geodesy import distance_m
from agent.domain.messages import Message, MessageBook
from agent.domain.record import Body, CallRecord, CallStep, Made, MessageRecord
from agent.domain.stamp import Utc
from agent.domain.state import DestinationState
from agent.paths.run_aboard import RunAboard
from agent.paths.run_records import RunRecords
from agent.paths.run_surroundings import RunSurroundings, whole_metres
from agent.paths.state_sink import StateSink
from agent.runtime.log import EventLog
from agent.wire.orders import Assign, Cancel, Text, Update

log = EventLog("run")

ETA_EVERY_S = 15.0
SLOWEST_MPS = 3.0
"""For an arrival time a unit in traffic is not slower than this; below it nobody can say."""
Kept = asyncio.Future[None] | None
"""Done when what changed outlives a kill, or the disk refused it; None where nothing has to be waited for."""
_SAYING_MODE = (CallStep.RECEIVED, CallStep.UPDATED)


class RunCalls:
    """The unit's call, its destination and its messages. Used from the event loop.

    Args:
        settings: the table `[crew]`.
        records: where records go.
        states: where `state/destination` is published.
        around: where the unit is, and the places it may go to.
        aboard: who drives.
        on_change: called after each change; returns what is done when it is kept for a restart.
        newest_seq: newest sequence number of the events on the disk.
    """

    def __init__(
        self,
        settings: Crew,
        records: RunRecords,
        states: StateSink,
        around: RunSurroundings,
        aboard: RunAboard,
        *,
        on_change: Callable[[], Kept],
        newest_seq: Callable[[], int],
    ) -> None:
        keep_s = settings.keep_calls_h * 3600
        self.book = CallBook(remind_after_s=settings.remind_after_s, keep_s=keep_s)
        self.messages = MessageBook(keep_s=keep_s)
        self.after_seq = 0
        """Newest press on the disk when the call came: one after it may have ended the call."""
        self.on_call: Callable[[CallNews], None] = lambda _: None
        """Called with all that becomes of a call, also when the crew is only asked once more."""
        self._records = records
        self._states = states
        self._around = around
        self._aboard = aboard
        self._on_change = on_change
        self._newest_seq = newest_seq
        self._eta_told_ns: int | None = None
        self._unkept: deque[tuple[Kept, int, list[Body]]] = deque()
        """Records of what is not kept for a restart yet, with their time: that it came is said afterwards."""
        self.alerted_ns: int | None = None
        """CLOCK_BOOTTIME of the newest alert that the crew hears."""

    # ------------------------------------------------------------------ commands of dispatch

    # Each returns what is done when the command is kept, so that the broker keeps it until then.

    def on_assign(self, order: Assign) -> Kept:
        """A call for the unit."""
        news = self.book.assign(order.id, order.call, self._records.now_ns())
        return self._ordered("assign", order.id, news)

    def on_update(self, order: Update) -> Kept:
        """Fields of a call changed."""
        news = self.book.update(order.id, order.incident, order.fields, self._records.now_ns())
        return self._ordered("update", order.id, news)

    def on_cancel(self, order: Cancel) -> Kept:
        """The call is no longer the unit's."""
        news = self.book.cancel(order.id, order.incident, self._records.now_ns())
        return self._ordered("cancel", order.id, news)

    def on_message(self, order: Text) -> Kept:
        """A text or a coded order for the crew."""
        message = self.messages.take(order.id, order.text, order.code, self._records.now_ns())
        return None if message is None else self._message(CallStep.RECEIVED, message)

    def _ordered(self, name: str, request: str, news: tuple[CallNews, ...] | Refusal) -> Kept:
        if not isinstance(news, Refusal):
            return self._told(news, Made.DISPATCH, request)
        if news is not Refusal.REPEATED:  # what was done before is not done again, and not told again
            self._records.refuse(name, request, str(news))
        return None

    # ------------------------------------------------------------------ presses

    def status_set(self, status: str, made: Made = Made.BUTTON) -> None:
        """A status was set, or corrected to be one: it acknowledges the call, or ends it."""
        self._told(self.book.status_set(status, self._records.now_ns()), made)

    def reopen_amended(self, incident: str) -> None:
        """The press that ended this call was corrected: it did not."""
        self._told(self.book.reopen_amended(incident, self._records.now_ns()), Made.DISPATCH)

    def reopen(self) -> None:
        """The newest press was taken back, and so is the end of a call by it."""
        self._told(self.book.reopen(), Made.BUTTON)

    def tick(self) -> None:
        """What time brings; once a second."""
        now_ns = self._records.now_ns()
        self._told(self.book.due(now_ns), None)
        self.messages.forget(now_ns)

    def tell_arrival(self) -> None:
        """Say `state/destination` anew, when it is time to."""
        if self._eta_told_ns is not None and self._records.now_ns() - self._eta_told_ns >= ETA_EVERY_S * 1e9:
            self._tell_destination()

    # ------------------------------------------------------------------ the page

    def actions(self) -> dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]:
        """What the crew's page may ask for, by its word."""
        return {
            "shown": lambda given: self._said(self.book.shown(str(given["incident"]))),
            "acknowledge_call": lambda given: self._said(self.book.acknowledge(str(given["incident"]))),
            "message_shown": lambda given: self._message_said(self.messages.shown(str(given["message"]))),
            "acknowledge_message": lambda given: self._message_said(
                self.messages.acknowledge(str(given["message"]))
            ),
            "destination": lambda given: self._choose(str(given["place"])),
        }

    def snapshot(self) -> dict[str, Any]:
        """This part of what the page shows, JSON-able."""
        call = self.book.current
        return {
            "incident": self.book.incident,
            "call": None if call is None else self._call_snapshot(call),
            "messages": [
                {
                    "id": one.id,
                    "text": one.text,
                    "order": one.order,
                    "shown": one.shown,
                    "acknowledged": one.acknowledged,
                }
                for one in self.messages.messages
            ],
            "hospitals": [
                {"id": place.id, "name": place.name}
                for place in self._around.places
                if place.kind == "hospital"
            ],
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
            "shown": self.book.is_shown,
            "acknowledged": self.book.acknowledged,
        }

    def _said(self, news: tuple[CallNews, ...]) -> Mapping[str, Any]:
        self._told(news, Made.PANEL)
        return {"ok": True}

    def _message_said(self, message: Message | None) -> Mapping[str, Any]:
        if message is not None:
            self._message(CallStep.ACKNOWLEDGED if message.acknowledged else CallStep.SHOWN, message)
        return {"ok": True}

    def _choose(self, place_id: str) -> Mapping[str, Any]:
        place = self._around.places.by_id(place_id)
        if place is None or self.book.incident is None:
            return {"error": "unknown_place", "text": "There is no such place, or no call."}
        now_ns = self._records.now_ns()
        news = self.book.update(f"panel-{now_ns}", self.book.incident, {"destination": place.id}, now_ns)
        if not isinstance(news, Refusal):
            self._told(tuple(replace(one, sound=False) for one in news), Made.PANEL)
        self._tell_destination()
        return {"ok": True}

    # ------------------------------------------------------------------ records and states

    def _told(self, news: tuple[CallNews, ...], made: Made | None, request: str | None = None) -> Kept:
        diverted = next((one.call.incident for one in news if one.event is CallStep.DIVERTED), None)
        bodies: list[Body] = []
        for one in news:
            self.on_call(one)
            if "again" in one.changed:
                continue  # the crew is asked once more; dispatch knows
            bodies.append(
                CallRecord(
                    step=str(one.event),
                    incident=one.call.incident,
                    request=request,
                    made=None if made is None else str(made),
                    by=self._aboard.roster.alone if made in (Made.PANEL, Made.BUTTON) else None,
                    diverted_from=diverted if one.event is CallStep.RECEIVED else None,
                    response_mode=one.call.response_mode if one.event in _SAYING_MODE else None,
                )
            )
            log.info("call", step=one.event.value)  # never what the call says
        if any(one.sound for one in news):
            self.alerted_ns = self._records.now_ns()
        if not news:
            return None
        if any(one.event is CallStep.RECEIVED for one in news):
            self.after_seq = self._newest_seq()
        if self.book.current is None:
            self._eta_told_ns = None
        return self._record_when_kept(bodies)

    def _message(self, step: CallStep, message: Message) -> Kept:
        pressed = step is CallStep.ACKNOWLEDGED
        body = MessageRecord(
            str(step),
            message.id,
            code=message.order,
            incident=self.book.incident,
            made=str(Made.PANEL) if pressed else None,
            by=self._aboard.roster.alone if pressed else None,
        )
        return self._record_when_kept([body])

    def _record_when_kept(self, bodies: list[Body]) -> Kept:
        """Put records once what they tell of outlives a kill: what dispatch reads as received is here."""
        kept = self._on_change()
        self._unkept.append((kept, self._records.now_ns(), bodies))
        if kept is None or kept.done():
            self._record_kept()
        else:
            kept.add_done_callback(lambda _: self._record_kept())
        return kept

    def _record_kept(self) -> None:
        while self._unkept and ((kept := self._unkept[0][0]) is None or kept.done()):
            _, at_ns, bodies = self._unkept.popleft()
            for body in bodies:
                self._records.put(body, at_ns)

    def _tell_destination(self) -> None:
        call, now_ns = self.book.current, self._records.now_ns()
        if call is None:
            return
        self._eta_told_ns = now_ns
        name, remaining_m, seconds = self._arrival(call)
        utc = self._records.utc()
        eta = None
        if utc is not None and seconds is not None:
            eta = Utc(utc.unix_ms + round(seconds * 1000), utc.source, None)
        self._states.set_state(
            DestinationState(
                boottime_ms=now_ns // 1_000_000,
                utc=utc,
                destination=name,
                eta=eta,
                remaining_m=whole_metres(remaining_m),
                method="distance_over_speed" if eta is not None else None,
                incident=call.incident,
            )
        )

    def _arrival(self, call: Call) -> tuple[str | None, float | None, float | None]:
        """Destination, remaining metres as the crow flies, and seconds at the speed of the last minutes."""
        place = None if call.destination is None else self._around.places.by_id(call.destination)
        position = self._around.position
        if place is None or position is None:
            return call.destination, None, None
        remaining_m = distance_m(position.lat_deg, position.lon_deg, place.lat_deg, place.lon_deg)
        mean_mps = self._around.mean_mps
        return call.destination, remaining_m, remaining_m / mean_mps if mean_mps >= SLOWEST_MPS else None
