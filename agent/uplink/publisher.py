"""The uplink unit: keeps a connection to a broker and carries states and the journal over it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from agent import config
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.record import Stream
from agent.domain.stamp import Utc
from agent.domain.state import State
from agent.hal.clock import Clock
from agent.uplink.batching import Batcher
from agent.uplink.broker.connector import Connector, Probe
from agent.uplink.lane import Course, Journal, Lane, ReplayLane, StreamLane, Way
from agent.uplink.link.link import Acknowledged, Closed, Link, LinkEvent, Opened, Opening, Received
from agent.uplink.link.tcp import reachable
from agent.uplink.pacing import TokenBucket
from agent.uplink.packet_limit import PacketLimit
from agent.uplink.presence import Presence
from agent.uplink.receipts import Receipts
from agent.uplink.state_sender import StateSender
from agent.uplink.window import Window
from agent.wire.batch import CodecError
from agent.wire.reader_request import decode_replay_request
from agent.wire.row import Row
from agent.wire.topics import REPLAY, Topics

LOG = logging.getLogger("mdt.uplink")

TICK_S = 1.0
STALL_KEEPALIVES = 2.0
STALL_MIN_S = 30.0
"""A broker that answers pings but acknowledges nothing for this long is left."""
OFFLINE_ACK_S = 1.0
_NOT_TAKEN = "not taken"
"""Owner of the reasons for states that are too large or refused, beside those of the journal's topics."""
LANES = (*(stream.value for stream in Stream), *(f"replay-{stream.value}" for stream in Stream))


@dataclass(frozen=True, slots=True)
class UplinkSnapshot:
    """What `mdt status` says about the uplink.

    Attributes:
        connected: whether a broker took us.
        endpoint: "host:port" in use or tried now.
        mqtt_version: 5 or 4 while connected.
        session: session number of the birth, while connected.
        connected_for_s: how long the connection has stood.
        connections: how many were opened since the start.
        in_flight: messages that wait for a PUBACK.
        landed: (stream, sequence number) acknowledged without a hole.
        catching_up: whether a backlog is being sent.
        replays_waiting: replay requests not answered in full.
        last_failure: why the last connection ended or did not come to be; empty when none ever failed.
    """

    connected: bool
    endpoint: str
    mqtt_version: int | None
    session: int | None
    connected_for_s: float | None
    connections: int
    in_flight: int
    landed: tuple[tuple[str, int], ...]
    catching_up: bool
    replays_waiting: int
    last_failure: str


class Publisher:
    """The uplink. Used from the event loop only.

    `run` is the unit's loop. After it was cancelled, or beside it, `drain` ends the connection in good order.
    """

    def __init__(  # noqa: PLR0917  # the parts of the unit, as they are wired everywhere
        self,
        settings: config.Uplink,
        topics: Topics,
        outbox: Journal,
        link: Link,
        clock: Clock,
        health: HealthBoard,
        *,
        rng: random.Random,
        agent_version: str = "",
        utc_now: Callable[[], Utc | None] = lambda: None,
        resolve_utc: Callable[[Row], Row] = lambda row: row,
        probe: Probe = reachable,
    ) -> None:
        """Store the parts.

        Args:
            settings: the uplink's table of the configuration.
            topics: of this unit.
            outbox: where records come from.
            link: how brokers are reached.
            clock: boot time and boot id.
            health: where broker and certificate reasons are raised.
            rng: session numbers and jitter.
            agent_version: told in the birth.
            utc_now: the derived UTC of this moment, None while none is trusted.
            resolve_utc: gives a row of this boot its UTC when it has none and one is known by now.
            probe: looks whether the preferred broker can be reached again.
        """
        self._settings = settings
        self._topics = topics
        self._outbox = outbox
        self._link = link
        self._health = health
        self._presence = Presence(outbox, clock, rng, agent_version=agent_version, utc_now=utc_now)
        self._connector = Connector(settings, health, rng, utc_now=utc_now, probe=probe)
        self._window = Window(self._on_freed)
        self._limit = PacketLimit(settings.max_packet_bytes)
        self._states = StateSender(settings, topics, link, self._window, self._limit, rng)
        bucket = TokenBucket(settings.drain_bytes_per_s)
        way = Way(settings, outbox, link, self._window, self._limit, bucket, rng, self._on_answered)
        batchers = {
            stream: Batcher(settings, topics, outbox, stream, self._limit, resolve_utc) for stream in Stream
        }
        self._streams = {
            stream: StreamLane(
                way, batchers[stream], stream, first_class=stream is Stream.EVENTS, landed=self._on_landed
            )
            for stream in Stream
        }
        self._receipts = Receipts(outbox, self._streams)
        self._replays = {stream: ReplayLane(way, batchers[stream], stream) for stream in Stream}
        self._lanes: list[Lane] = [*self._streams.values(), *self._replays.values()]
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._listening = False
        self._opening = False
        self._stopping = False
        self._opened: Opened | None = None
        self._opened_at = 0.0
        self._connections = 0
        self._last_failure = ""

    # ------------------------------------------------------------------ for the rest of the agent

    @property
    def connected(self) -> bool:
        """Whether a broker took us."""
        return self._opened is not None

    def set_state(self, state: State) -> None:
        """Set what is true now. Sent at once while connected, else with the next connection; newest wins."""
        self._states.set(state)

    def snapshot(self) -> UplinkSnapshot:
        """The uplink as it is now."""
        opened = self._opened
        return UplinkSnapshot(
            connected=opened is not None,
            endpoint=self._connector.endpoint,
            mqtt_version=None if opened is None else opened.mqtt_version,
            session=None if opened is None else self._presence.session,
            connected_for_s=None if opened is None else asyncio.get_running_loop().time() - self._opened_at,
            connections=self._connections,
            in_flight=len(self._window),
            landed=tuple((stream.value, lane.landed_seq) for stream, lane in self._streams.items()),
            catching_up=any(lane.catching_up for lane in self._streams.values()),
            replays_waiting=sum(lane.waiting for lane in self._replays.values()),
            last_failure=self._last_failure,
        )

    async def run(self, progress: Callable[[], None]) -> None:
        """Keep a connection and send what there is to send; until cancelled.

        Args:
            progress: called at least once a second.
        """
        self._stopping = False
        if not self._listening:
            self._listening = True
            self._outbox.on_appended(self._on_appended)
        self._start_lanes()
        try:
            while True:
                progress()
                self._changed.clear()
                wait_s = await self._tick(asyncio.get_running_loop().time())
                await self._wait(wait_s)
                for task in self._tasks:
                    if task.done():
                        task.result()  # a lane ends only by an error: it is the supervisor's
        finally:
            await self._stop_lanes()

    async def drain(self, deadline_s: float) -> None:
        """Send what is due, say that we go offline, disconnect. Returns within `deadline_s`, done or not.

        Due is everything stored, except a backlog that is being caught up with: the next start sends it.
        """
        self._stopping = True
        own_lanes = not self._tasks
        try:
            async with asyncio.timeout(deadline_s):
                if own_lanes:
                    self._start_lanes()
                await self._until(self._nothing_due, max(0.0, deadline_s - 2 * OFFLINE_ACK_S))
                await self._say_offline()
                await self._link.close()
        except TimeoutError:
            LOG.warning("uplink_drain_cut_short deadline_s=%s", deadline_s)
        finally:
            if own_lanes:
                await self._stop_lanes()

    # ------------------------------------------------------------------ the loop

    def _start_lanes(self) -> None:
        self._tasks = [
            asyncio.create_task(lane.run(), name=f"uplink-{name}")
            for name, lane in zip(LANES, self._lanes, strict=True)
        ]
        for task in self._tasks:
            task.add_done_callback(lambda _: self._changed.set())

    async def _stop_lanes(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._connector.stop()

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait for a condition while the connection stands, but not longer than `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._opened is not None and not condition():
                    self._changed.clear()
                    await self._changed.wait()

    async def _tick(self, now: float) -> float:
        """Do what is due; returns the time until the next look."""
        self._tell_of_what_is_not_taken()
        if self._opened is not None:
            await self._tend(self._opened, now)
        elif not self._opening and not self._stopping:
            due_in_s = self._connector.due_in_s(now)
            if due_in_s > 0:
                return min(TICK_S, due_in_s)
            self._open()
        return TICK_S

    def _open(self) -> None:
        self._opening = True
        self._presence.begin()
        subscriptions = [self._topics.command(REPLAY)]
        if self._settings.confirm == "dispatch":
            subscriptions.append(self._topics.receipt)
        opening = Opening(
            broker=self._connector.broker,
            client_id=f"mdt-{self._topics.agency}-{self._topics.unit}",
            keepalive_s=self._settings.keepalive_s,
            connect_timeout_s=self._settings.connect_timeout_s,
            will=self._presence.will(self._topics, self._settings.encoding),
            will_delay_s=self._settings.will_delay_s,
            subscriptions=tuple(subscriptions),
            resume=self._connector.may_resume,
        )
        self._link.open(opening, self._on_event)

    async def _tend(self, opened: Opened, now: float) -> None:
        """What a standing connection needs besides its traffic."""
        if self._presence.outdated:
            self._states.set(self._presence.birth(opened.mqtt_version))
        patience_s = max(STALL_MIN_S, STALL_KEEPALIVES * self._settings.keepalive_s)
        if self._window.stalled_s(now) > patience_s:
            self._last_failure = f"{self._connector.endpoint}: answers, but acknowledges nothing"
            LOG.warning("uplink_stalled %s", self._last_failure)
            self._connector.stalled(self._window.stalled_s(now), now)
            await self._link.close()
        elif self._connector.tend(now, due=not all(lane.settled for lane in self._streams.values())):
            # Whoever looks at the broker that we leave is not to believe that we are still there.
            await self._say_offline()
            self._connector.leave(now)
            await self._link.close()
        elif self._settings.confirm == "dispatch":
            self._receipts.tend(now)

    def _tell_of_what_is_not_taken(self) -> None:
        """Raise or clear the reasons for states that this broker will not have; the journal has its own."""
        self._tell(
            HealthReason.PACKET_TOO_LARGE, "larger than the broker takes: state ", self._states.too_large
        )
        self._tell(HealthReason.BROKER_REFUSED, "refused: state ", self._states.refused)

    def _tell(self, reason: HealthReason, what: str, names: frozenset[str]) -> None:
        if names:
            self._health.raise_(reason, what + ", ".join(sorted(names)), owner=_NOT_TAKEN)
        else:
            self._health.clear(reason, owner=_NOT_TAKEN)

    def _nothing_due(self) -> bool:
        events, trail = self._streams[Stream.EVENTS], self._streams[Stream.TRAIL]
        return self._states.settled and events.settled and (trail.settled or trail.catching_up)

    # ------------------------------------------------------------------ events

    def _on_event(self, event: LinkEvent) -> None:
        match event:
            case Acknowledged(token, reason_code):
                self._window.landed(token, reason_code, asyncio.get_running_loop().time())
                self._states.send()
                for lane in self._lanes:
                    lane.wake()
            case Received():
                self._on_received(event)
            case Opened():
                self._on_opened(event)
            case Closed():
                self._on_closed(event)
        self._changed.set()

    def _on_freed(self) -> None:
        asyncio.get_running_loop().call_soon(self._use_room)

    def _use_room(self) -> None:
        """Someone in line gave up the place: those behind look again."""
        self._states.send()
        for lane in self._lanes:
            if lane.in_line:
                lane.wake()

    def _on_opened(self, opened: Opened) -> None:
        now = asyncio.get_running_loop().time()
        self._opened, self._opened_at = opened, now
        self._connections += 1
        self._receipts.open(now)
        self._connector.opened(opened, now)
        LOG.info("uplink_opened broker=%s mqtt=%s", self._connector.endpoint, opened.mqtt_version)
        self._window.open(min(self._settings.window, opened.receive_maximum))
        self._states.set(self._presence.birth(opened.mqtt_version))
        self._limit.open(self._connector.endpoint, opened.maximum_packet_bytes)
        self._states.open()
        for lane in self._lanes:
            lane.open()

    def _on_closed(self, closed: Closed) -> None:
        was_open, self._opened, self._opening = self._opened is not None, None, False
        if closed.hung_up:
            of_journal = max(lane.largest_under_way_bytes for lane in self._lanes)
            self._limit.hung_up(max(self._states.largest_under_way_bytes, of_journal))
        self._window.close()
        self._states.close()
        for lane in self._lanes:
            lane.close()
        self._connector.closed(closed, asyncio.get_running_loop().time())
        if closed.reason:
            self._last_failure = closed.detail
            LOG.warning(
                "uplink_closed reason=%s was_open=%s detail=%s", closed.reason, was_open, closed.detail
            )

    def _on_received(self, received: Received) -> None:
        """Requests from outside: whatever is not well-formed, or not for this store, is dropped."""
        try:
            if received.retain:
                # A retained request would be answered again after every reconnection, and a retained
                # receipt says what dispatch had at some time, perhaps before it lost it.
                LOG.warning("uplink_retained_request topic=%s", received.topic)
            elif received.topic == self._topics.receipt and self._settings.confirm == "dispatch":
                self._receipts.take(received.payload, asyncio.get_running_loop().time())
            elif received.topic == self._topics.command(REPLAY):
                self._on_replay_request(received.payload)
        except CodecError as error:
            LOG.warning("uplink_bad_request topic=%s why=%s", received.topic, error)

    def _on_replay_request(self, payload: bytes) -> None:
        request = decode_replay_request(payload)
        if request.journal not in (None, self._outbox.journal):
            return
        # What has not landed yet is going to come by itself.
        first, last = max(1, request.first), min(request.last, self._streams[request.stream].landed_seq)
        if first <= last:
            taken = self._replays[request.stream].ask(first, last)
            LOG.info("uplink_replay stream=%s from=%s to=%s taken=%s", request.stream, first, last, taken)

    def _on_appended(self, stream: Stream) -> None:
        self._streams[stream].appended()

    def _on_landed(self, course: Course) -> None:
        if self._settings.confirm == "puback":
            self._outbox.confirm(course.stream, course.landed)

    def _on_answered(self, stream: Stream, code: int) -> None:
        now = asyncio.get_running_loop().time()
        self._connector.journal_answered(self._topics.journal(stream), code, now)

    async def _say_offline(self) -> None:
        """Publish that we go, and wait shortly for the broker to have it."""
        if self._opened is not None:
            self._states.set(self._presence.farewell(self._opened.mqtt_version))
            await self._until(lambda: self._states.settled, OFFLINE_ACK_S)
