"""What becomes of presses afterwards: taken back, corrected, refused by dispatch. The record itself stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any

from agent.domain.crew import ButtonEdge
from agent.domain.record import (
    Amendment,
    Body,
    Draft,
    Kind,
    Made,
    StatusChange,
    Stream,
    Verdict,
    Withdrawal,
)
from agent.domain.stamp import Utc, UtcSource
from agent.domain.status import REASON, UnitStatus
from agent.domain.time_base import TimeBase
from agent.outbox.deposit import Deposit
from agent.outbox.fault import OutboxClosedError, StoreFaultError
from agent.outbox.outbox import Outbox
from agent.paths.crew_lamps import CrewLamps
from agent.paths.crew_standing import Held, Standing
from agent.paths.panel_voice import Voice
from agent.paths.run_records import RunRecords
from agent.runtime.log import EventLog
from agent.wire.orders import Amend, Answer
from agent.wire.time_text import utc_text

log = EventLog("crew")
_MOST_ANSWERED = 256
_MOST_EARLIER_S = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Told:
    """Whom corrections concern beside the records.

    Attributes:
        fate: something else is true of a press than before.
        corrected: given a press as it was, its status from now on, and whether that is the one that holds.
        reason: given a press with the reason that was said of it afterwards.
        publish: says `state/status` anew.
        change: the crew's page has something new to show.
        begin: runs what waits for the disk.
    """

    fate: Callable[[Deposit], None]
    corrected: Callable[[StatusChange, str, bool], None]
    reason: Callable[[StatusChange], None]
    publish: Callable[[], None]
    change: Callable[[], None]
    begin: Callable[[Coroutine[Any, Any, None]], None]


class Corrections:
    """Writes withdrawals, amendments and dispatch's answers. Used from the event loop.

    Args:
        standing: what holds.
        lamps: of the keys.
        time_base: derives UTC.
        outbox: where the presses are.
        records: stamps records and hands them to the outbox.
        told: whom else it concerns.
    """

    def __init__(
        self,
        standing: Standing,
        lamps: CrewLamps,
        time_base: TimeBase,
        outbox: Outbox,
        *,
        records: RunRecords,
        told: Told,
    ) -> None:
        self._standing = standing
        self._lamps = lamps
        self._time_base = time_base
        self._outbox = outbox
        self._records = records
        self._told = told
        self._one_by_one = asyncio.Lock()
        self._newest: Deposit | None = None
        """The newest record of a correction."""
        self._answered: dict[int, tuple[bool, str | None, str | None]] = {}
        """What dispatch said of the newest records, by their number."""

    # ------------------------------------------------------------------ dispatch's word

    def on_answer(self, order: Answer) -> None:
        """Dispatch took or refused a record of ours: kept as a record, shown by the lamp and on the page."""
        if not self._is_ours("answer", order.id, order.journal, order.seq):
            return
        said = (order.accepted, order.reason, order.text)
        if self._answered.get(order.seq) == said:
            return  # what is kept for ever is kept once
        self._answered[order.seq] = said
        if len(self._answered) > _MOST_ANSWERED:
            del self._answered[next(iter(self._answered))]
        self._put(Verdict(order.seq, order.accepted, order.reason, order.text, order.id or None))
        self._lamps.answered(order)
        self._told.change()

    def on_amend(self, order: Amend) -> None:
        """Dispatch corrects a status, of whatever day; the original stays beside it."""
        if order.status is not None and order.status not in set(UnitStatus):
            self._records.refuse("amend", order.id, "unknown_status")
        elif self._is_ours("amend", order.id, order.journal, order.seq):
            self._told.begin(self._amend(order))

    async def _amend(self, order: Amend) -> None:
        async with self._one_by_one:  # the next is to read what this one wrote
            await self._amend_now(order)
            if self._newest is not None and not self._newest.done():
                await asyncio.wait([self._newest])

    async def _amend_now(self, order: Amend) -> None:
        held = self._standing.press(order.seq)
        if held is None:
            try:
                held = await self._standing.read(order.seq)
            except StoreFaultError:
                self._records.refuse("amend", order.id, "store_fault")
                return
        if held is None or not isinstance(held.body, StatusChange):
            self._records.refuse("amend", order.id, "unknown_record", "That is no status, or was taken back.")
            return
        if order.status is not None and order.status != held.body.status:
            self._put(_amendment(order.seq, "status", held.body.status, order.status, order))
            held = self._put_in_place(held, replace(held, body=replace(held.body, status=order.status)))
        if order.unix_ms is not None:
            self._amend_time(held, order.unix_ms, order)

    def _is_ours(self, command: str, request: str, journal: int, seq: int) -> bool:
        """Whether it is of a record that was; refused where it is not."""
        if journal != self._outbox.journal:
            self._records.refuse(command, request, "other_journal")
        elif not 1 <= seq <= self._outbox.last_seq(Stream.EVENTS):
            self._records.refuse(command, request, "unknown_record")
        else:
            return True
        return False

    # ------------------------------------------------------------------ the crew's

    def actions(self) -> dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]:
        """What the crew's page may ask for, by its word."""
        return {"amend": self._amend_earlier, "reason": self._give_reason}

    def _amend_earlier(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The crew says how much earlier a press should have been."""
        seq, earlier_s = given["seq"], given["earlier_s"]
        held = self._standing.press(seq)
        is_number = isinstance(earlier_s, int | float) and not isinstance(earlier_s, bool)
        if held is None or not is_number or not 0 < earlier_s <= _MOST_EARLIER_S:
            return {"error": "malformed", "text": "Choose a press, and say how many minutes earlier."}
        utc = self._standing.utc_of(held)
        if utc is None:
            return {"error": "no_time", "text": "The time of that press is not known."}
        self._amend_time(held, utc.unix_ms - round(earlier_s * 1000), None)
        return {"ok": True}

    def _give_reason(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The crew says afterwards why the status that holds is so: out of service, or a delay."""
        reason, held = given["reason"], self._standing.status
        seq = self._standing.seq_of(held)
        if held is None or seq is None or not isinstance(held.body, StatusChange):
            return {"error": "no_status", "text": "There is no status to give a reason for."}
        if not isinstance(reason, str) or REASON.fullmatch(reason) is None:
            return {"error": "malformed", "text": "A reason is a word."}
        if reason != held.body.reason:
            press = replace(held.body, reason=reason, made=str(Made.PANEL))
            self._put(_amendment(seq, "reason", held.body.reason, reason, None))
            self._put_in_place(self._standing.press(seq) or held, replace(held, body=press))
            self._told.reason(press)
        return {"ok": True}

    async def take_back(
        self, voice: Voice, edge: ButtonEdge, taken: Deposit, made: Made | None, status: str | None
    ) -> None:
        """Put on record that a press was taken back, so that `status` holds again; its lamp is lit again."""
        try:
            of_seq = await asyncio.shield(taken)
            body = Withdrawal(
                of_seq if taken.seq is None else taken.seq,
                Kind.STATUS.token,
                made=None if made is None else str(made),
                status=status,
                input=edge.key,
                press_seq=edge.device_seq,
                press_session=edge.device_session,
            )
            await asyncio.shield(self._outbox.put(Draft(self._time_base.stamp(edge.at_boottime_ns), body)))
        except OutboxClosedError:
            log.error("press_not_stored", key=edge.key, kind=Kind.WITHDRAWAL.token)
            return
        voice.acknowledge(edge)
        await self.light_again()

    async def light_again(self) -> None:
        """The lamp of the status that holds again tells of its press, as before."""
        held, seq = self._standing.status, self._standing.seq_of(self._standing.status)
        if held is None or held.deposit is not None or seq is None:
            return
        try:
            rows = await self._outbox.read(Stream.EVENTS, seq - 1, max_records=1, max_bytes=1)
        except StoreFaultError:
            return  # the disk has its reason; the lamp stays dark
        if rows and rows[0].seq == seq and self._standing.status is held:
            deposit = self._outbox.follow(rows[0])
            deposit.listen(self._told.fate)
            self._standing.status = replace(held, deposit=deposit, place=None)
            self._lamps.follow(held.body.input, deposit, again=True)
            self._told.publish()

    # ------------------------------------------------------------------ both

    def _amend_time(self, held: Held, unix_ms: int, order: Amend | None) -> None:
        utc, seq = self._standing.utc_of(held), self._standing.seq_of(held)
        assert seq is not None
        before, after = None if utc is None else utc_text(utc.unix_ms), utc_text(unix_ms)
        self._put(_amendment(seq, "utc", before, after, order))
        source = UtcSource.LAST_KNOWN if utc is None else utc.source
        self._put_in_place(held, replace(held, utc=Utc(unix_ms, source, None), boottime_ns=None))

    def _put_in_place(self, held: Held, by: Held) -> Held:
        """Take `by` for `held` wherever it stands, and say so at once."""
        holds = self._standing.put_in_place(held, by)
        before, after = held.body, by.body
        match (before, after):
            case (StatusChange(), StatusChange()) if before.status != after.status:
                self._told.corrected(before, after.status, holds)
        self._told.publish()
        return by

    def _put(self, body: Body) -> None:
        written = self._newest = self._records.put(body)
        if written is not None:
            written.add_done_callback(look_at)


def look_at(written: Deposit) -> None:
    """Take the result of a record that nobody waits for: what the disk refused, the outbox tells."""
    if not written.cancelled():
        written.exception()


def _amendment(seq: int, field: str, before: str | None, after: str, order: Amend | None) -> Amendment:
    """Of a status; `order` is dispatch's, None for the crew's own."""
    status = Kind.STATUS.token
    if order is None:
        return Amendment(seq, status, field, before, after, made=str(Made.PANEL), why="crew")
    made = str(Made.DISPATCH)
    return Amendment(
        seq, status, field, before, after, made=made, by=order.by, why=order.why, request=order.id
    )
