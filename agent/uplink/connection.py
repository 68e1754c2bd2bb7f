"""What one connection to a broker carries: made when it is open, dropped when it is closed."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent import config
from agent.domain.record import Stream
from agent.domain.state import State
from agent.uplink.batching import Batcher
from agent.uplink.link.link import Acknowledged, Link, Message, Opened
from agent.uplink.pacing import TokenBucket
from agent.uplink.packet_limit import PacketLimit
from agent.uplink.receipts import Receipts
from agent.uplink.records import Records
from agent.uplink.sender import Outlet, ReplayRequests, ReplaySender, Sender, StreamSender
from agent.uplink.state_sender import StateSender
from agent.uplink.window import Window
from agent.wire.topics import Topics

MOST_REPLIES = 32
"""Answers that may wait for room."""


@dataclass(frozen=True, slots=True)
class Carried:
    """What outlives a connection, and each of them works on.

    Attributes:
        settings: the uplink's table of the configuration.
        topics: of this unit.
        records: where they come from.
        link: how they go out.
        rng: spreads what is offered again over the fleet.
        states: what is true now, by name.
        batchers: one a stream; they remember how many records fit into a packet.
        requests: what readers asked for again.
        limit: how large packets may be.
        bucket: pace of the backlog.
    """

    settings: config.Uplink
    topics: Topics
    records: Records
    link: Link
    rng: random.Random
    states: Mapping[str, State]
    batchers: Mapping[Stream, Batcher]
    requests: Mapping[Stream, ReplayRequests]
    limit: PacketLimit
    bucket: TokenBucket


class Connection:
    """A window, and whoever sends through it. Used from the event loop only."""

    def __init__(
        self,
        carried: Carried,
        opened: Opened,
        now: float,
        *,
        use_room: Callable[[], None],
        held: Callable[[], bool],
        answered: Callable[[Stream, int], None],
        ended: Callable[[asyncio.Task[None]], None],
    ) -> None:
        """Store the parts.

        Args:
            carried: what outlives the connection.
            opened: what the broker said of itself.
            now: time of the loop in seconds.
            use_room: asks for a call of `use_room` in the loop's next round.
            held: true while records must not go, because their numbers were given out before.
            answered: told of the reason code of each PUBACK that moves a stream on or holds it up.
            ended: told of each task that ended, which it does by an error unless it was cancelled.
        """
        self.opened = opened
        self.opened_at = now
        self._carried = carried
        self._ended = ended
        self.window = Window(min(carried.settings.window, opened.receive_maximum), use_room)
        outlet = Outlet(
            carried.settings,
            carried.records,
            carried.link,
            self.window,
            carried.limit,
            carried.bucket,
            carried.rng,
            held,
            answered,
        )
        self.states = StateSender(
            carried.settings,
            carried.topics,
            carried.states,
            carried.link,
            self.window,
            carried.limit,
            carried.rng,
        )
        self.streams = {
            stream: StreamSender(outlet, carried.batchers[stream], stream, landed=self._on_landed)
            for stream in Stream
        }
        replays = [
            ReplaySender(outlet, carried.batchers[stream], stream, carried.requests[stream])
            for stream in Stream
        ]
        self._replays = dict(zip(Stream, replays, strict=True))
        self._senders: list[Sender] = [*self.streams.values(), *replays]
        self.receipts = Receipts(carried.records, self.streams, now)
        self._tasks: list[asyncio.Task[None]] = []
        self._replies: deque[Message] = deque(maxlen=MOST_REPLIES)

    def start(self) -> None:
        """Send: the states at once, the streams on tasks of their own. Idempotent."""
        self.states.send()
        if not self._tasks:
            names = [*(stream.value for stream in Stream), *(f"replay-{stream.value}" for stream in Stream)]
            self._tasks = [
                asyncio.create_task(sender.run(), name=f"uplink-{name}")
                for name, sender in zip(names, self._senders, strict=True)
            ]
            for task in self._tasks:
                task.add_done_callback(self._ended)

    def halt(self) -> list[asyncio.Task[None]]:
        """Send nothing of the streams any more; returns tasks that are ending."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        return tasks

    def acknowledged(self, event: Acknowledged, now: float) -> None:
        """A PUBACK came: there is room."""
        self.window.landed(event.token, event.reason_code, now)
        self._send_replies(now)
        self.states.send()
        for sender in self._senders:
            sender.wake()

    def use_room(self) -> None:
        """Someone in line gave up the place: those behind look again."""
        self.states.send()
        for sender in self._senders:
            if sender.in_line:
                sender.wake()

    def reply(self, message: Message, now: float) -> None:
        """Answer a command as soon as there is room; of many the oldest is forgotten, and asked for again."""
        self._replies.append(message)
        self._send_replies(now)

    @property
    def has_better_to_do(self) -> bool:
        """Whether something large has to wait: for a press, a backlog, an answer, or a window half full."""
        return bool(
            self._replies
            or self.catching_up
            or not self.streams[Stream.EVENTS].settled
            or self.window.is_busy
        )

    def piece(self, message: Message, landed: Callable[[int], None], now: float) -> None:
        """Send a piece of something large; to be asked for only while `has_better_to_do` is False."""
        token = self._carried.link.publish(message)
        self.window.sent(landed, token, landed, now)

    def _send_replies(self, now: float) -> None:
        while self._replies and self.window.has_room(first_class=False):
            token = self._carried.link.publish(self._replies.popleft())
            self.window.sent(self._replies, token, lambda _: None, now)

    def wake(self) -> None:
        """What held the records is over."""
        for sender in self._senders:
            sender.wake()

    def replay(self, stream: Stream) -> None:
        """There is a new request."""
        self._replays[stream].wake()

    def tend(self, now: float) -> None:
        """What is due by time alone."""
        self.states.tend(now)
        if self._carried.settings.confirm == "dispatch":
            self.receipts.tend(now)

    @property
    def largest_under_way_bytes(self) -> int:
        """Size of the largest packet that was not answered; 0 when there is none."""
        of_records = max(sender.largest_under_way_bytes for sender in self._senders)
        return max(self.states.largest_under_way_bytes, of_records)

    @property
    def records_settled(self) -> bool:
        """True when all that is stored was delivered."""
        return all(sender.settled for sender in self.streams.values())

    @property
    def catching_up(self) -> bool:
        """True while a backlog is being sent."""
        return any(sender.catching_up for sender in self.streams.values())

    @property
    def nothing_due(self) -> bool:
        """True when nothing is left to send but a backlog."""
        events, trail = self.streams[Stream.EVENTS], self.streams[Stream.TRAIL]
        return self.states.settled and events.settled and (trail.settled or trail.catching_up)

    def _on_landed(self, sender: StreamSender) -> None:
        if self._carried.settings.confirm == "puback":
            self._carried.records.confirm(sender.stream, sender.landed_seq)
