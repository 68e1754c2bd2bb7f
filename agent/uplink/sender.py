"""Sending a stream over one connection, batch by batch, in its order."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from agent import config
from agent.domain.record import Stream
from agent.outbox.fault import StoreFaultError
from agent.uplink.batching import Batcher, Outgoing
from agent.uplink.link.link import Link
from agent.uplink.link.refusal import FAILURE, NO_MATCHING_SUBSCRIBERS, PACKET_TOO_LARGE
from agent.uplink.pacing import TokenBucket
from agent.uplink.packet_limit import PacketLimit
from agent.uplink.records import Records
from agent.uplink.window import Window
from agent.wire.row import Row

AHEAD_BATCHES = 4
"""Batches that one read of the store fetches."""
HOLD_MIN_S = 1.0
HOLD_MAX_S = 60.0
"""Longest wait before what the broker refused is offered again."""
UNHEARD_EVENTS_MAX_S = 10.0
"""Longest wait before an event that nobody was subscribed to is offered again: 150 bytes each time."""
STORE_RETRY_S = 1.0


def undelivered(code: int) -> bool:
    """Whether a PUBACK with this reason code leaves a record undelivered.

    "No matching subscribers" is a success in MQTT; but then nobody has the record, and nobody will.
    """
    return code >= FAILURE or code == NO_MATCHING_SUBSCRIBERS


@dataclass(frozen=True, slots=True)
class Outlet:
    """What all senders of a connection share."""

    settings: config.Uplink
    records: Records
    link: Link
    window: Window
    limit: PacketLimit
    bucket: TokenBucket
    rng: random.Random
    held: Callable[[], bool]
    """True while records must not go, because their numbers were given out before."""
    answered: Callable[[Stream, int], None]
    """Told of the reason code of each PUBACK that moves a stream on or holds it up."""


@dataclass(slots=True)
class _Flight:
    outgoing: Outgoing
    code: int | None = None


@dataclass(eq=False, slots=True)
class Span:
    """Sequence numbers of one store on their way to the broker.

    Attributes:
        journal: of which store.
        landed: delivered without a hole up to here.
        last: end of the span; None for a stream that goes on.
        cursor: sent up to here.
        rows: read and not yet sent.
        flights: sent and not yet done with, in their order.
        failed: something of it was not delivered: nothing more is sent until all that is in flight came in.
        stuck: the front of it was not delivered, and what landed behind it does not count.
    """

    journal: int
    landed: int
    last: int | None = None
    cursor: int = field(init=False)
    rows: list[Row] = field(init=False, default_factory=list)
    flights: deque[_Flight] = field(init=False, default_factory=deque)
    failed: bool = field(init=False, default=False)
    stuck: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.rewind()

    def rewind(self) -> None:
        """Begin anew after what was delivered."""
        self.cursor = self.landed
        self.rows = []
        self.flights.clear()
        self.failed = self.stuck = False


class Sender:
    """Sends a span in ascending order; goes back to what was not delivered. Used from the event loop only."""

    def __init__(self, outlet: Outlet, batcher: Batcher, stream: Stream, *, first_class: bool) -> None:
        self.stream = stream
        self._outlet = outlet
        self._batcher = batcher
        self._first_class = first_class
        self._wake = asyncio.Event()
        self._failures = 0
        self._hold_until = 0.0
        self._refused_at = 0.0
        self._unheard = False
        self._in_line = False

    # What differs between senders

    def span(self) -> Span | None:
        """What to send now."""
        raise NotImplementedError

    def history(self, span: Span) -> bool:
        """Whether what comes next is sent late, and so at the backlog's pace."""
        raise NotImplementedError

    def paced(self, span: Span) -> bool:
        """Whether what comes next must wait for the token bucket."""
        raise NotImplementedError

    def landed(self, span: Span) -> None:
        """`span.landed` moved."""

    def exhausted(self, span: Span) -> None:
        """The store has nothing more for this span, and nothing of it is in flight."""

    def answered(self, code: int) -> None:
        """The broker answered with this reason code, or can not be offered anything (0x95)."""

    # For the connection

    @property
    def largest_under_way_bytes(self) -> int:
        """Size of the largest packet that was not answered; 0 when there is none."""
        span = self.span()
        flights = () if span is None else span.flights
        return max((one.outgoing.size_bytes for one in flights if one.code is None), default=0)

    def wake(self) -> None:
        """Something changed: look again."""
        self._wake.set()

    @property
    def in_line(self) -> bool:
        """True while a place in the window is waited for."""
        return self._in_line

    async def run(self) -> None:
        """Send whenever there is something and room for it; until cancelled."""
        while True:
            self._wake.clear()
            self._in_line = False
            wait_s = await self._step()
            if wait_s != 0.0 and not self._in_line:
                self._outlet.window.withdraw(self)
            if wait_s is None:
                await self._wake.wait()
            elif wait_s > 0:
                try:
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
                except TimeoutError:
                    pass  # due

    # Sending

    async def _step(self) -> float | None:
        """One batch. Returns seconds until the next look, None to be woken."""
        span = self.span()
        if span is None or not self._ready(span):
            return None
        now = asyncio.get_running_loop().time()
        wait_s = max(self._hold_until - now, self._outlet.bucket.delay_s(now) if self.paced(span) else 0.0)
        if wait_s > 0:
            return wait_s
        if not span.rows and span.cursor >= self._end(span):
            return self._nothing_left(span)
        if not self._outlet.window.may_send(self, first_class=self._first_class):
            # The rows are read once it is our turn: until then more may come, for the same message.
            self._in_line = True
            return None
        if not span.rows:
            return await self._fetch(span)
        self._send(span, now)
        # Between two batches everything else gets its turn, a press above all.
        await asyncio.sleep(0)
        return 0.0

    def _ready(self, span: Span) -> bool:
        """True when sending makes sense; after a failure, once all that is in flight has come in.

        While nobody is subscribed one message at a time asks whether that is still so.
        """
        if self._outlet.records.journal == 0 or self._outlet.held():
            return False
        if span.failed and not span.flights:
            span.rewind()
        return not span.failed and not (self._unheard and span.flights)

    def _end(self, span: Span) -> int:
        return self._outlet.records.last_seq(self.stream) if span.last is None else span.last

    async def _fetch(self, span: Span) -> float | None:
        settings = self._outlet.settings
        try:
            rows = await self._outlet.records.read(
                self.stream,
                span.cursor,
                max_records=1 if self._unheard else AHEAD_BATCHES * settings.batch_records,
                max_bytes=AHEAD_BATCHES * settings.batch_bytes,
                last_seq=span.last,
            )
        except StoreFaultError:
            return STORE_RETRY_S  # the outbox has named the reason and mends it
        if span is not self.span() or span.failed:
            return 0.0
        span.rows = rows
        return 0.0 if rows else self._nothing_left(span)

    def _nothing_left(self, span: Span) -> float | None:
        if not span.flights:
            self.exhausted(span)
            return None if self.span() is span else 0.0
        return None

    def _send(self, span: Span, now: float) -> None:
        outlet = self._outlet
        replay = span.last is not None
        outgoing = self._batcher.make(span.rows, history=self.history(span), replay=replay)
        if outgoing is None:
            self._hold(PACKET_TOO_LARGE, now)
            return
        flight = _Flight(outgoing)
        if self.paced(span):
            outlet.bucket.take(outgoing.size_bytes, now)
        span.flights.append(flight)
        span.cursor = max(span.cursor, outgoing.last_seq)
        del span.rows[: outgoing.count]
        landed = partial(self._on_landed, span, flight)
        outlet.window.sent(self, outlet.link.publish(outgoing.message), landed, now)

    def _on_landed(self, span: Span, flight: _Flight, code: int) -> None:
        self.wake()
        if span is not self.span():
            return  # of a store, or for a request, that is gone
        flight.code = code
        if code < FAILURE:
            self._outlet.limit.taken(flight.outgoing.size_bytes)
        if undelivered(code):
            first, span.failed = not span.failed, True
            smaller = code == PACKET_TOO_LARGE and self._outlet.limit.refused(flight.outgoing.size_bytes)
            if first and not smaller:
                self._hold(code, asyncio.get_running_loop().time())
        elif not span.failed:
            self._failures = 0
            self._unheard = False
            self.answered(code)
        before = span.landed
        while span.flights and span.flights[0].code is not None:
            done = span.flights.popleft()
            span.stuck = span.stuck or undelivered(done.code or 0)
            if not span.stuck:
                span.landed = max(span.landed, done.outgoing.last_seq)
        if span.landed > before:
            self.landed(span)

    def _hold(self, code: int, now: float) -> None:
        """Nobody has it: wait, longer each time, and spread over the fleet."""
        self._unheard = code == NO_MATCHING_SUBSCRIBERS
        most_s = UNHEARD_EVENTS_MAX_S if self._unheard and self._first_class else HOLD_MAX_S
        limit_s = min(most_s, HOLD_MIN_S * 2.0 ** min(self._failures, 16))
        self._hold_until = now + self._outlet.rng.uniform(limit_s / 2, limit_s)
        self._refused_at = now
        self._failures += 1
        self.answered(code)


class StreamSender(Sender):
    """Sends a stream as it grows."""

    def __init__(
        self, outlet: Outlet, batcher: Batcher, stream: Stream, *, landed: Callable[[StreamSender], None]
    ) -> None:
        super().__init__(outlet, batcher, stream, first_class=stream is Stream.EVENTS)
        self._landed = landed
        self._horizon = 0
        self._span = self._after_what_was_delivered()

    def _after_what_was_delivered(self) -> Span:
        """The whole stream from there on; what is there already is history."""
        records = self._outlet.records
        self._horizon = records.last_seq(self.stream)
        return Span(records.journal, records.confirmed(self.stream))

    def send_again(self) -> None:
        """Begin after what was delivered, once what is in flight has come in."""
        self._span.landed = min(self._span.landed, self._outlet.records.confirmed(self.stream))
        self._span.failed = self._span.stuck = True
        self._horizon = self._outlet.records.last_seq(self.stream)
        self.wake()

    def span(self) -> Span:
        """The stream; begun anew when the store was opened only now, or replaced by another."""
        if self._span.journal != self._outlet.records.journal:
            self._span = self._after_what_was_delivered()
        return self._span

    def history(self, span: Span) -> bool:
        """What was there when the connection was opened, and what came while that was being sent."""
        last_seq = self._outlet.records.last_seq(self.stream)
        if span.cursor >= self._horizon and last_seq - span.cursor > self._outlet.settings.batch_records:
            self._horizon = last_seq
        return span.cursor < self._horizon

    def paced(self, span: Span) -> bool:
        """Events never wait: there are few of them, and a press may stand behind them."""
        return self.stream is not Stream.EVENTS and self.history(span)

    def landed(self, span: Span) -> None:  # noqa: ARG002  # there is but one
        """Told to the connection."""
        self._landed(self)

    def answered(self, code: int) -> None:
        """Told to the connection. Of a replay nobody is told: it says nothing of how live records fare."""
        self._outlet.answered(self.stream, code)

    def appended(self) -> None:
        """There is more to send.

        A fresh press does not sit out the long wait that the refusal of an earlier one has brought on.
        """
        if self._first_class:
            self._hold_until = min(self._hold_until, self._refused_at + HOLD_MIN_S)
        self.wake()

    @property
    def landed_seq(self) -> int:
        """Taken by the broker, for somebody, without a hole up to here."""
        return self.span().landed

    @property
    def settled(self) -> bool:
        """True when all that is stored has landed."""
        span = self.span()
        at_rest = not span.flights and not span.failed
        return at_rest and span.landed >= self._outlet.records.last_seq(self.stream)

    @property
    def catching_up(self) -> bool:
        """True while a backlog is being sent."""
        return self.span().landed < self._horizon


class ReplayRequests:
    """What readers asked for again of one stream; outlives a connection, but not the store it is of."""

    MOST = 32
    """Requests that may wait; further ones are dropped, and the reader asks again."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._waiting: deque[Span] = deque()

    def __len__(self) -> int:
        """Requests not yet answered in full."""
        self._forget_other_stores()
        return len(self._waiting)

    def ask(self, first: int, last: int) -> bool:
        """Take a request for a range that was sent before; False when too many wait.

        A range that is being sent already, or waits, is not sent twice.
        """
        self._forget_other_stores()
        if any(one.landed < first and last <= (one.last or 0) for one in self._waiting):
            return True
        if len(self._waiting) >= self.MOST:
            return False
        self._waiting.append(Span(self._records.journal, first - 1, last))
        return True

    def oldest(self) -> Span | None:
        """The request to answer now."""
        self._forget_other_stores()
        return self._waiting[0] if self._waiting else None

    def done(self, span: Span) -> None:
        """A request was answered in full."""
        if self._waiting and self._waiting[0] is span:
            self._waiting.popleft()

    def _forget_other_stores(self) -> None:
        while self._waiting and self._waiting[0].journal != self._records.journal:
            self._waiting.popleft()


class ReplaySender(Sender):
    """Sends again what a reader asks for of one stream; the delivered watermark does not move."""

    def __init__(self, outlet: Outlet, batcher: Batcher, stream: Stream, requests: ReplayRequests) -> None:
        super().__init__(outlet, batcher, stream, first_class=False)
        self._requests = requests
        span = requests.oldest()
        if span is not None:
            span.rewind()  # what the last connection had in flight

    def span(self) -> Span | None:
        """The oldest request."""
        return self._requests.oldest()

    def history(self, span: Span) -> bool:
        """A replay is always late."""
        return span.last is not None

    def paced(self, span: Span) -> bool:  # noqa: ARG002  # a stream's own sender needs it
        """As the backlog is: a few events never wait, the trail does."""
        return self.stream is not Stream.EVENTS

    def exhausted(self, span: Span) -> None:
        """On to the next request."""
        self._requests.done(span)
