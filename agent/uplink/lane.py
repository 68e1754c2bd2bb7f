"""Carrying a stream to the broker, batch by batch, in its order."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from agent import config
from agent.domain.record import Stream
from agent.outbox.fault import StoreFaultError
from agent.uplink.batching import Batcher, JournalIdentity, Parcel
from agent.uplink.link.link import Link
from agent.uplink.link.refusal import FAILURE, PACKET_TOO_LARGE
from agent.uplink.pacing import TokenBucket
from agent.uplink.packet_limit import PacketLimit
from agent.uplink.window import Window
from agent.wire.row import Row

AHEAD_BATCHES = 4
"""Batches that one read of the store fetches."""
HOLD_MIN_S = 1.0
HOLD_MAX_S = 60.0
STORE_RETRY_S = 1.0


class Journal(JournalIdentity, Protocol):
    """What the uplink needs of the outbox."""

    async def read(
        self, stream: Stream, after_seq: int, *, max_records: int, max_bytes: int, last_seq: int | None = None
    ) -> list[Row]:
        """Rows after `after_seq`, ascending. Raises StoreFaultError."""
        ...

    def confirm(self, stream: Stream, through_seq: int) -> None:
        """Everything up to `through_seq` was delivered."""
        ...

    def confirmed(self, stream: Stream) -> int:
        """Everything up to here was delivered."""
        ...

    def last_seq(self, stream: Stream) -> int:
        """Newest sequence number that can be read."""
        ...

    def on_appended(self, listener: Callable[[Stream], None]) -> None:
        """Call `listener` after each commit that added to a stream."""
        ...


@dataclass(frozen=True, slots=True)
class Way:
    """What all lanes share."""

    settings: config.Uplink
    journal: Journal
    link: Link
    window: Window
    limit: PacketLimit
    bucket: TokenBucket
    rng: random.Random
    answered: Callable[[Stream, int], None]
    """Told of the reason code of each PUBACK that moves a lane on or holds it up."""


@dataclass(slots=True)
class Course:
    """A range of sequence numbers on its way.

    Attributes:
        stream: of which stream.
        landed: acknowledged without a hole up to here.
        cursor: sent up to here.
        last: end of the range; None for a stream that goes on.
    """

    stream: Stream
    landed: int
    cursor: int
    last: int | None = None


@dataclass(slots=True)
class _Flight:
    parcel: Parcel
    code: int | None = None


class Lane:
    """Sends a course in ascending order; goes back to what did not land. Used from the event loop only."""

    def __init__(self, way: Way, batcher: Batcher, *, first_class: bool) -> None:
        self._way = way
        self._batcher = batcher
        self._first_class = first_class
        self._wake = asyncio.Event()
        self._open = False
        self._epoch = 0
        self._flights: deque[_Flight] = deque()
        self._rows: list[Row] = []
        self._parcels: deque[Parcel] = deque()
        self._failed = False
        self._stuck = False
        self._failures = 0
        self._hold_until = 0.0
        self._refused_at = 0.0
        self._in_line = False

    # What differs between lanes

    def course(self) -> Course | None:
        """What to carry now."""
        raise NotImplementedError

    def history(self, course: Course) -> bool:
        """Whether what comes next is sent late, and so at the backlog's pace."""
        raise NotImplementedError

    def paced(self, course: Course) -> bool:
        """Whether what comes next must wait for the token bucket."""
        raise NotImplementedError

    def landed(self, course: Course) -> None:
        """`course.landed` moved."""

    def exhausted(self, course: Course) -> None:
        """The store has nothing more for this course, and nothing of it is in flight."""

    def answered(self, code: int) -> None:
        """The broker answered with this reason code, or can not be offered anything (0x95)."""

    # Connection

    def open(self) -> None:
        """A connection stands."""
        self._reset()
        self._open = True
        self.wake()

    def close(self) -> None:
        """The connection ended: what was in flight is sent again by the next one."""
        self._reset()

    @property
    def largest_under_way_bytes(self) -> int:
        """Size of the largest packet that was not answered; 0 when there is none."""
        return max((one.parcel.size_bytes for one in self._flights if one.code is None), default=0)

    def wake(self) -> None:
        """Something changed: look again."""
        self._wake.set()

    @property
    def in_line(self) -> bool:
        """True while a place in the window is waited for."""
        return self._in_line

    @property
    def at_rest(self) -> bool:
        """True when nothing is in flight or waits to be sent again."""
        return not self._flights and not self._failed

    def _reset(self) -> None:
        self._open = False
        self._epoch += 1
        self._rewind()
        self._failures = 0
        self._hold_until = 0.0

    def _rewind(self) -> None:
        self._flights.clear()
        self._parcels.clear()
        self._rows = []
        self._failed = self._stuck = False
        course = self.course()
        if course is not None:
            course.cursor = course.landed

    # Sending

    async def run(self) -> None:
        """Send whenever there is something and room for it; until cancelled."""
        while True:
            self._wake.clear()
            self._in_line = False
            wait_s = await self._step()
            if wait_s != 0.0 and not self._in_line:
                self._way.window.withdraw(self)
            if wait_s is None:
                await self._wake.wait()
            elif wait_s > 0:
                try:
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
                except TimeoutError:
                    pass  # due

    async def _step(self) -> float | None:
        """One batch. Returns seconds until the next look, None to be woken."""
        course = self.course()
        if course is None or not self._ready():
            return None
        now = asyncio.get_running_loop().time()
        wait_s = max(self._hold_until - now, self._way.bucket.delay_s(now) if self.paced(course) else 0.0)
        if wait_s > 0:
            return wait_s
        if not self._rows and course.cursor >= self._end(course):
            return self._nothing_left(course)
        if not self._way.window.may_send(self, first_class=self._first_class):
            # The rows are read once it is our turn: until then more may come, for the same message.
            self._in_line = True
            return None
        if not self._rows:
            return await self._fetch(course)
        self._send(course, now)
        # Between two batches everything else gets its turn, a press above all.
        await asyncio.sleep(0)
        return 0.0

    def _ready(self) -> bool:
        """True when sending makes sense; after a failure, once all that is in flight has come in."""
        if not self._open or self._way.journal.journal == 0:
            return False
        if self._failed and not self._flights:
            self._rewind()
        return not self._failed

    def _end(self, course: Course) -> int:
        return self._way.journal.last_seq(course.stream) if course.last is None else course.last

    async def _fetch(self, course: Course) -> float | None:
        journal, settings, epoch = self._way.journal, self._way.settings, self._epoch
        try:
            rows = await journal.read(
                course.stream,
                course.cursor,
                max_records=AHEAD_BATCHES * settings.batch_records,
                max_bytes=AHEAD_BATCHES * settings.batch_bytes,
                last_seq=course.last,
            )
        except StoreFaultError:
            return STORE_RETRY_S  # the outbox has named the reason and mends it
        if epoch != self._epoch or self._failed:
            return 0.0
        self._rows = rows
        return 0.0 if rows else self._nothing_left(course)

    def _nothing_left(self, course: Course) -> float | None:
        if not self._flights:
            self.exhausted(course)
            return None if self.course() is course else 0.0
        return None

    def _send(self, course: Course, now: float) -> None:
        way = self._way
        if not self._parcels:
            replay = course.last is not None
            self._parcels.extend(self._batcher.make(self._rows, history=self.history(course), replay=replay))
        if not self._parcels:
            self._hold(PACKET_TOO_LARGE, now)
            return
        parcel = self._parcels.popleft()
        flight = _Flight(parcel)
        if self.paced(course):
            way.bucket.take(parcel.size_bytes, now)
        self._flights.append(flight)
        course.cursor = max(course.cursor, parcel.last_seq)
        del self._rows[: parcel.count]
        landed = partial(self._on_landed, self._epoch, course, flight)
        way.window.sent(self, way.link.publish(parcel.message), landed, now)

    def _on_landed(self, epoch: int, course: Course, flight: _Flight, code: int) -> None:
        self.wake()
        if epoch != self._epoch:
            return
        flight.code = code
        if code < FAILURE:
            self._way.limit.taken(flight.parcel.size_bytes)
        if code >= FAILURE:
            self._failed = True
            if code != PACKET_TOO_LARGE or not self._way.limit.refused(flight.parcel.size_bytes):
                self._hold(code, asyncio.get_running_loop().time())
        elif not self._failed:
            self._failures = 0
            self.answered(code)
        before = course.landed
        while self._flights and self._flights[0].code is not None:
            done = self._flights.popleft()
            self._stuck = self._stuck or (done.code or 0) >= FAILURE
            if not self._stuck:
                course.landed = max(course.landed, done.parcel.last_seq)
        if course.landed > before:
            self.landed(course)

    def _hold(self, code: int, now: float) -> None:
        """The broker did not take it: wait, longer each time, and spread over the fleet."""
        limit_s = min(HOLD_MAX_S, HOLD_MIN_S * 2.0 ** min(self._failures, 16))
        self._hold_until = now + self._way.rng.uniform(limit_s / 2, limit_s)
        self._refused_at = now
        self._failures += 1
        self.answered(code)


class StreamLane(Lane):
    """Carries a stream as it grows."""

    def __init__(
        self,
        way: Way,
        batcher: Batcher,
        stream: Stream,
        *,
        first_class: bool,
        landed: Callable[[Course], None],
    ) -> None:
        super().__init__(way, batcher, first_class=first_class)
        self.stream = stream
        self._landed = landed
        self._course = Course(stream, 0, 0)
        self._horizon = 0
        self._identity = 0

    def open(self) -> None:
        """Begin after what was delivered; what is there already is history."""
        self.start_over()
        super().open()

    def start_over(self) -> None:
        """Begin after what was delivered; what is in flight is given up."""
        self._identity = self._way.journal.journal
        self._go_back()
        self._epoch += 1
        self._rewind()

    def send_again(self) -> None:
        """Begin after what was delivered, once what is in flight has come in."""
        self._failed = True
        self._go_back()
        self.wake()

    def _go_back(self) -> None:
        journal = self._way.journal
        confirmed = journal.confirmed(self.stream)
        self._course = Course(self.stream, confirmed, confirmed)
        self._horizon = journal.last_seq(self.stream)

    def course(self) -> Course | None:
        """The stream; begun anew when the store was opened only now, or replaced by another."""
        if self._identity != self._way.journal.journal:
            self.start_over()
        return self._course

    def history(self, course: Course) -> bool:
        """What was there when the connection was opened, and what came while that was being sent."""
        last_seq = self._way.journal.last_seq(self.stream)
        if course.cursor >= self._horizon and last_seq - course.cursor > self._way.settings.batch_records:
            self._horizon = last_seq
        return course.cursor < self._horizon

    def paced(self, course: Course) -> bool:
        """Events never wait: there are few of them, and a press may stand behind them."""
        return self.stream is not Stream.EVENTS and self.history(course)

    def landed(self, course: Course) -> None:
        """Told to the publisher, unless the store that it was read from is gone by now."""
        if course is self._course and self._identity == self._way.journal.journal:
            self._landed(course)

    def answered(self, code: int) -> None:
        """Told to the publisher. Of a replay nobody is told: it says nothing of how live records fare."""
        self._way.answered(self.stream, code)

    def appended(self) -> None:
        """There is more to send.

        A fresh press does not sit out the long wait that the refusal of an earlier one has brought on.
        """
        if self._first_class:
            self._hold_until = min(self._hold_until, self._refused_at + HOLD_MIN_S)
        self.wake()

    @property
    def landed_seq(self) -> int:
        """Acknowledged without a hole up to here."""
        return self._course.landed if self._identity == self._way.journal.journal else 0

    @property
    def settled(self) -> bool:
        """True when all that is stored has landed."""
        return self.at_rest and self._course.landed >= self._way.journal.last_seq(self.stream)

    @property
    def catching_up(self) -> bool:
        """True while a backlog is being sent."""
        return self._course.landed < self._horizon


class ReplayLane(Lane):
    """Sends again what a reader asks for of one stream; the delivered watermark does not move."""

    MOST_REQUESTS = 32
    """Requests that may wait; further ones are dropped, and the reader asks again."""

    def __init__(self, way: Way, batcher: Batcher, stream: Stream) -> None:
        super().__init__(way, batcher, first_class=False)
        self.stream = stream
        self._requests: deque[Course] = deque()
        self._identity = 0

    @property
    def waiting(self) -> int:
        """Requests not yet answered in full."""
        return len(self._requests)

    def ask(self, first: int, last: int) -> bool:
        """Take a request for a range that was sent before; False when too many wait.

        A range that is being sent already, or waits, is not sent twice.
        """
        self.course()
        if any(c.landed < first and last <= (c.last or 0) for c in self._requests):
            return True
        if len(self._requests) >= self.MOST_REQUESTS:
            return False
        self._requests.append(Course(self.stream, first - 1, first - 1, last))
        self.wake()
        return True

    def course(self) -> Course | None:
        """The oldest request; none once the store was replaced, since what was asked for is not there."""
        if self._identity != self._way.journal.journal:
            self._identity = self._way.journal.journal
            self._requests.clear()
            self._epoch += 1
            self._rewind()
        return self._requests[0] if self._requests else None

    def history(self, course: Course) -> bool:
        """A replay is always late."""
        return course.last is not None

    def paced(self, course: Course) -> bool:
        """As the backlog is: a few events never wait, the trail does."""
        return course.stream is not Stream.EVENTS

    def exhausted(self, course: Course) -> None:
        """On to the next request."""
        if self._requests and self._requests[0] is course:
            self._requests.popleft()
