"""What becomes of presses afterwards: taken back, corrected, refused by dispatch. The record itself stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
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
from agent.domain.status import UnitStatus
from agent.domain.time_base import TimeBase
from agent.hal.clock import Clock
from agent.outbox.deposit import Deposit
from agent.outbox.fault import OutboxClosedError, StoreFaultError
from agent.outbox.outbox import Outbox
from agent.paths.crew_lamps import CrewLamps
from agent.paths.crew_standing import Held, Standing
from agent.paths.panel_voice import Voice
from agent.runtime.log import EventLog
from agent.wire.orders import Amend, Answer
from agent.wire.time_text import utc_text

log = EventLog("crew")
_MOST_ANSWERED = 256
_MOST_EARLIER_S = 6 * 3600.0


class Corrections:
    """Writes withdrawals, amendments and dispatch's answers. Used from the event loop.

    Args:
        standing: what holds.
        lamps: of the keys.
        clock: boot time.
        time_base: derives UTC.
        outbox: where records go.
        on_fate: called when something else is true of a press than before.
        on_corrected: given the status that holds by a correction, before `publish`.
        publish: says `state/status` anew.
        on_change: called when the crew's page has something new to show.
    """

    def __init__(
        self,
        standing: Standing,
        lamps: CrewLamps,
        clock: Clock,
        time_base: TimeBase,
        outbox: Outbox,
        *,
        on_fate: Callable[[Deposit], None],
        on_corrected: Callable[[str], None],
        publish: Callable[[], None],
        on_change: Callable[[], None],
    ) -> None:
        self._standing = standing
        self._lamps = lamps
        self._clock = clock
        self._time_base = time_base
        self._outbox = outbox
        self._on_fate = on_fate
        self._on_corrected = on_corrected
        self._publish = publish
        self._on_change = on_change
        self._answered: dict[int, tuple[bool, str | None, str | None]] = {}
        """What dispatch said of the newest records, by their number."""

    # ------------------------------------------------------------------ dispatch's word

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
        self._put(Verdict(order.seq, order.accepted, order.reason, order.text, order.id or None))
        self._lamps.answered(order)
        self._on_change()

    def on_amend(self, order: Amend) -> None:
        """Dispatch corrects a status; the original stays beside it."""
        held = self._standing.recent_press(order.seq)
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
            held = self._put_in_place(held, replace(held, body=replace(held.body, status=order.status)))
        if order.unix_ms is not None:
            self._amend_time(held, order.unix_ms, Made.DISPATCH, order.why, order.id)

    # ------------------------------------------------------------------ the crew's

    def amend_earlier(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The crew says on its page how much earlier a press should have been."""
        seq, earlier_s = given["seq"], given["earlier_s"]
        held = self._standing.recent_press(seq)
        if held is None or not isinstance(earlier_s, int | float) or not 0 < earlier_s <= _MOST_EARLIER_S:
            return {"error": "malformed", "text": "Choose a press, and say how many minutes earlier."}
        utc = self._standing.utc_of(held)
        if utc is None:
            return {"error": "no_time", "text": "The time of that press is not known."}
        self._amend_time(held, utc.unix_ms - round(earlier_s * 1000), Made.PANEL, "crew", None)
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
        await self._light_again()

    async def _light_again(self) -> None:
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
            deposit.listen(self._on_fate)
            self._standing.status = replace(held, deposit=deposit, place=None)
            self._lamps.follow(held.body.input, deposit, again=True)
            self._publish()

    # ------------------------------------------------------------------ both

    def _amend_time(self, held: Held, unix_ms: int, made: Made, why: str, request: str | None) -> None:
        utc, seq = self._standing.utc_of(held), self._standing.seq_of(held)
        assert seq is not None
        before, after = None if utc is None else utc_text(utc.unix_ms), utc_text(unix_ms)
        self._put(
            Amendment(seq, Kind.STATUS.token, "utc", before, after, str(made), why=why, request=request)
        )
        source = UtcSource.LAST_KNOWN if utc is None else utc.source
        self._put_in_place(held, replace(held, utc=Utc(unix_ms, source, None), boottime_ns=None))

    def _put_in_place(self, held: Held, by: Held) -> Held:
        """Take `by` for `held` wherever it stands, and say so at once."""
        if self._standing.put_in_place(held, by) and isinstance(by.body, StatusChange):
            self._on_corrected(by.body.status)
        self._publish()
        return by

    def _put(self, body: Body) -> None:
        stamp = self._time_base.stamp(self._clock.boottime_ns())
        self._outbox.put(Draft(stamp, body)).add_done_callback(look_at)


def look_at(written: Deposit) -> None:
    """Take the result of a record that nobody waits for: what the disk refused, the outbox tells."""
    if not written.cancelled():
        written.exception()
