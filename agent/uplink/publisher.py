"""The uplink unit: keeps a connection to a broker and carries states and records over it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from agent import config
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.record import Outcome, Stream
from agent.domain.stamp import Utc
from agent.domain.state import State, StatusState, VehicleState
from agent.hal.clock import Clock
from agent.runtime.log import EventLog
from agent.uplink.batching import Batcher
from agent.uplink.broker.connector import Connector, Probe
from agent.uplink.commands import Asker, Command, CommandTable
from agent.uplink.connection import Carried, Connection
from agent.uplink.identity import Identity
from agent.uplink.link.credentials import judged_at_unix_s
from agent.uplink.link.link import (
    Acknowledged,
    Closed,
    Flooded,
    Link,
    LinkEvent,
    Message,
    Opened,
    Opening,
    Received,
)
from agent.uplink.link.tcp import reachable
from agent.uplink.pacing import Allowance, TokenBucket
from agent.uplink.packet_limit import LEAST_BYTES, PacketLimit
from agent.uplink.presence import Presence
from agent.uplink.records import Records
from agent.uplink.sender import ReplayRequests
from agent.wire.batch import CodecError
from agent.wire.reader_request import (
    JournalRequest,
    RefusalReason,
    ReplayRequest,
    Reply,
    decode_journal_request,
    decode_receipt,
    decode_replay_request,
    encode_map,
)
from agent.wire.row import Row
from agent.wire.topics import NEW_JOURNAL, REPLAY, Topics

log = EventLog("uplink")

TICK_S = 1.0
STALL_KEEPALIVES = 2.0
STALL_MIN_S = 30.0
"""A broker that answers pings but acknowledges nothing for this long is left."""
DONE_WITHIN_S = 10.0
"""After so long a command is acknowledged to the broker although it is not kept yet."""
OFFLINE_ACK_S = 1.0
NEW_JOURNAL_EVERY_S = 600.0
"""A reader may have a new journal begun once in so long."""
LOOK_S = 0.7
"""How long the first connection waits for what the broker keeps of this unit: it comes with the SUBACK."""
INBOUND_PACKET_BYTES = 16_384
"""Largest packet that a unit takes: what it is told and what it looks up is far smaller."""
INBOUND_PER_S = 20.0
"""Messages that a unit takes in the long run, whoever sends them."""
_NOT_TAKEN = "not taken"
"""Owner of the reasons for states that are too large or refused, beside those of the streams' topics."""


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
        landed: (stream, sequence number) delivered without a hole.
        catching_up: whether a backlog is being sent.
        replays_waiting: replay requests not answered in full.
        no_subscriber: streams that the broker has nobody for.
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
    no_subscriber: tuple[str, ...]
    last_failure: str


class _Once:
    """Calls something the first time that it is called."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work: Callable[[], None] | None = work

    def __call__(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work()


class Publisher:
    """The uplink. Used from the event loop only.

    `run` is the unit's loop. After it was cancelled, or beside it, `drain` ends the connection in good order.
    Whatever goes wrong in a callback of the link, the outbox or a sender ends `run`, which forgets the
    connection: the supervisor starts it again.
    """

    def __init__(  # noqa: PLR0917  # the parts of the unit, as they are wired everywhere
        self,
        settings: config.Uplink,
        topics: Topics,
        records: Records,
        link: Link,
        clock: Clock,
        health: HealthBoard,
        *,
        rng: random.Random,
        agent_version: str = "",
        utc_now: Callable[[], Utc | None] = lambda: None,
        certificate_utc: Callable[[], Utc | None] | None = None,
        resolve_utc: Callable[[Row], Row] = lambda row: row,
        probe: Probe = reachable,
        commands: Sequence[Command] = (),
    ) -> None:
        """Store the parts.

        Args:
            settings: the uplink's table of the configuration.
            topics: of this unit.
            records: what is to be delivered.
            link: how brokers are reached.
            clock: boot time and boot id.
            health: where broker and certificate reasons are raised.
            rng: session numbers and jitter.
            agent_version: told in the birth.
            utc_now: the derived UTC of this moment, None while none is trusted.
            certificate_utc: by which certificates are judged; `utc_now` when left out.
            resolve_utc: gives a row of this boot its UTC when it has none and one is known by now.
            probe: looks whether the preferred broker can be reached again.
            commands: what dispatch may tell the unit beside asking for records again.

        Raises:
            ValueError: a row of `commands` is incomplete.
        """
        self._settings = settings
        self._topics = topics
        self._records = records
        self._link = link
        self._clock = clock
        self._health = health
        self._presence = Presence(records, clock, rng, agent_version=agent_version, utc_now=utc_now)
        self._certificate_utc = certificate_utc or utc_now
        self._connector = Connector(settings, health, rng, utc_now=self._certificate_utc, probe=probe)
        self._states: dict[str, State] = {}
        self._requests = {stream: ReplayRequests(records) for stream in Stream}
        limit = PacketLimit(settings.max_packet_bytes)
        self._carried = Carried(
            settings,
            topics,
            records,
            link,
            rng,
            self._states,
            {stream: Batcher(settings, topics, records, stream, limit, resolve_utc) for stream in Stream},
            self._requests,
            limit,
            TokenBucket(settings.drain_bytes_per_s),
        )
        rows = [
            Command(REPLAY, decode_replay_request, self._on_replay_request),
            Command(NEW_JOURNAL, decode_journal_request, self._on_journal_request),
        ]
        self._identity = Identity(records, topics, health, self._changed_identity)
        self._commands = CommandTable(topics, [*rows, *commands], self.reply)
        self._new_journals = Allowance(1 / NEW_JOURNAL_EVERY_S, 1)
        self._changed = asyncio.Event()
        self._failure: Exception | None = None
        self._listening = False
        self._sending = False
        self._stopping = False
        self._session: int | None = None
        self._connection: Connection | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._connections = 0
        self._last_failure = ""
        self._looking: tuple[Opened, float] | None = None
        """A connection that is open and waits for that, and until when."""
        self._looked = False

    # ------------------------------------------------------------------ for the rest of the agent

    @property
    def connected(self) -> bool:
        """Whether a broker took us."""
        return self._connection is not None

    def set_state(self, state: State) -> None:
        """Set what is true now. Sent at once while connected, else with the next connection; newest wins.

        Of the vehicle's signals the changes alone will do: a new connection begins with the whole picture.
        """
        known = self._states.get(state.name)
        if isinstance(state, VehicleState) and isinstance(known, VehicleState):
            self._states[state.name] = state.over(known)
        else:
            self._states[state.name] = state
        with self._failing_run():
            if self._connection is not None:
                self._connection.states.changed(state.name, state)
            elif isinstance(state, StatusState):
                self._hurry()

    def set_parked(self, parked: bool) -> None:
        """Say that the unit parks, or no longer does: it reports seldom, and may go away on purpose."""
        with self._failing_run():
            self._presence.parked = parked
            if self._connection is not None:
                self.set_state(self._presence.birth(self._connection.opened.mqtt_version))

    def tell_states(self) -> None:
        """Send every state again as it is now: somebody asked. Without a connection the next one does it."""
        with self._failing_run():
            if self._connection is not None:
                for name in self._states:
                    self._connection.states.changed(name)

    @property
    def asker(self) -> Asker:
        """Who asked for the command that is being handled now; for an answer that comes later."""
        return self._commands.asker

    @property
    def stands_for_s(self) -> float:
        """For how long a connection has stood over which everything that is true was told; 0 without one."""
        connection = self._connection
        if connection is None or not connection.states.settled or connection.states.refused:
            return 0.0
        return asyncio.get_running_loop().time() - connection.opened_at

    @property
    def connections(self) -> int:
        """How many connections were opened since the start."""
        return self._connections

    def reply(self, reply: Reply, to: Asker | None = None) -> bool:
        """Answer a command: that being handled now, unless `to` says whose.

        Without a connection the answer goes nowhere, and False is returned; whoever asked asks again.
        """
        if self._connection is None:
            return False
        message = self._reply_message(reply, to or self._commands.asker)
        self._connection.reply(message, asyncio.get_running_loop().time())
        return True

    def piece(self, reply: Reply, to: Asker, landed: Callable[[int], None]) -> int:
        """Send a piece of something large, if nothing else has to go first.

        Args:
            reply: the answer that carries it.
            to: who wants it.
            landed: called with the PUBACK's reason code; never, when the connection ends before.

        Returns:
            Bytes of its packet; 0 when it was not sent: there is no connection, a press or a backlog waits,
            or the window has no place.
        """
        connection = self._connection
        if connection is None or connection.has_better_to_do:
            return 0
        message = self._reply_message(reply, to)
        connection.piece(message, landed, asyncio.get_running_loop().time())
        return message.packet_bytes()

    @property
    def most_packet_bytes(self) -> int | None:
        """The largest packet that the broker takes; None for no limit."""
        return self._carried.limit.most_bytes

    def commands_snapshot(self) -> dict[str, dict[str, int]]:
        """What became of the commands that came, by name."""
        return self._commands.snapshot()

    def _reply_message(self, reply: Reply, to: Asker) -> Message:
        whole = replace(reply, journal=self._records.journal) if reply.journal is None else reply
        encoded = encode_map(whole, self._settings.encoding)
        topic = to.topic or self._topics.reply(reply.command)
        return Message(topic, encoded.payload, content_type=encoded.content_type, correlation=to.correlation)

    def network_changed(self) -> None:
        """An interface, address or route of this computer changed: nothing is waited for any more."""
        with self._failing_run():
            self._link.network_changed()
            self._connector.network_changed(asyncio.get_running_loop().time())
            self._changed.set()

    def snapshot(self) -> UplinkSnapshot:
        """The uplink as it is now."""
        connection, now = self._connection, asyncio.get_running_loop().time()
        return UplinkSnapshot(
            connected=connection is not None,
            endpoint=self._connector.endpoint,
            mqtt_version=None if connection is None else connection.opened.mqtt_version,
            session=None if connection is None else self._presence.session,
            connected_for_s=None if connection is None else now - connection.opened_at,
            connections=self._connections,
            in_flight=0 if connection is None else len(connection.window),
            landed=tuple((stream.value, self._landed_seq(stream)) for stream in Stream),
            catching_up=connection is not None and connection.catching_up,
            replays_waiting=sum(len(requests) for requests in self._requests.values()),
            no_subscriber=tuple(
                stream.value
                for stream in Stream
                if self._topics.journal(stream) in self._connector.without_subscriber
            ),
            last_failure=self._last_failure,
        )

    def _landed_seq(self, stream: Stream) -> int:
        if self._connection is not None:
            return self._connection.streams[stream].landed_seq
        return self._records.confirmed(stream)

    async def run(self, progress: Callable[[], None]) -> None:
        """Keep a connection and send what there is to send; until cancelled.

        Args:
            progress: called at least once a second.
        """
        self._stopping = False
        if not self._listening:
            self._listening = True
            self._records.on_appended(self._on_appended)
        self._start_sending()
        try:
            while True:
                progress()
                self._changed.clear()
                self._raise_failure()
                wait_s = await self._tick(asyncio.get_running_loop().time())
                await self._wait(wait_s)
        except Exception:
            await self._forget_connection()
            await self._stop_sending()
            self._failure = None  # told by what is raised here; what the end of it brought up is no news
            raise
        finally:
            await self._stop_sending()

    async def drain(self, deadline_s: float) -> None:
        """Send what is due, say that we go offline, disconnect. Returns within `deadline_s`, done or not.

        Due is everything stored, except a backlog that is being caught up with: the next start sends it.
        """
        self._stopping = True
        beside_run = self._sending
        try:
            async with asyncio.timeout(deadline_s):
                self._start_sending()
                await self._until(self._nothing_due, max(0.0, deadline_s - 2 * OFFLINE_ACK_S))
                await self._say_offline()
                await self._link.close()
        except TimeoutError:
            log.warning("uplink_drain_cut_short", deadline_s=deadline_s)
        finally:
            if not beside_run:
                await self._stop_sending()

    # ------------------------------------------------------------------ the loop

    def _start_sending(self) -> None:
        self._sending = True
        if self._connection is not None:
            self._connection.start()

    async def _stop_sending(self) -> None:
        self._sending = False
        if self._connection is not None:
            self._ending.update(self._connection.halt())
        if self._ending:
            await asyncio.wait(set(self._ending))
        await self._identity.stop()
        await self._connector.stop()

    async def _forget_connection(self) -> None:
        """After a failure: begin anew, whatever state link and connection are in."""
        if self._session is None:
            return
        # From here on what the link still tells is of a connection that is gone.
        self._session = self._looking = None
        self._drop_connection()
        self._connector.closed(Closed("", "the uplink failed"), asyncio.get_running_loop().time())
        try:
            await self._link.close()
        except Exception as error:  # noqa: BLE001  # what made `run` fail matters, and goes to the supervisor
            log.error("link_not_closed", error=type(error).__name__, exc=error)

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._ending.update(connection.halt())

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait for a condition while the connection stands, but not longer than `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._connection is not None and self._failure is None and not condition():
                    self._changed.clear()
                    await self._changed.wait()

    async def _tick(self, now: float) -> float:
        """Do what is due; returns the time until the next look."""
        self._tell_of_what_is_not_taken()
        self._identity.tend(now)
        if self._looking is not None:
            wait_s = self._looking[1] - now
            if wait_s > 0:
                return wait_s
            self._begin(self._looking[0], now)
        if self._connection is not None:
            await self._tend(self._connection, now)
        elif self._session is None and not self._stopping:
            due_in_s = self._connector.due_in_s(now, press_waits=self._press_waits)
            if due_in_s > 0:
                return min(TICK_S, due_in_s)
            self._open(now)
        return TICK_S

    def _open(self, now: float) -> None:
        session = self._presence.begin()
        self._identity.speak(session)
        subscriptions = [self._commands.filter, *self._identity.topics]
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
            inbound_packet_bytes=INBOUND_PACKET_BYTES,
            inbound_per_s=INBOUND_PER_S,
            acknowledge_when_done=True,
            least_packet_bytes=LEAST_BYTES,
            certificates_at_unix_s=judged_at_unix_s(
                self._certificate_utc(), self._clock.system_utc().unix_ms / 1000
            ),
        )
        self._connector.tried(now)
        try:
            self._link.open(opening, partial(self._on_event, session))
        except OSError as error:
            # This computer has no descriptor or thread left: as with any broker that can not be reached.
            why = error.strerror or type(error).__name__
            log.warning("uplink_not_opened", broker=self._connector.endpoint, why=why)
            self._tell_closed(Closed("broker_unreachable", f"{self._connector.endpoint}: {why}"), now)
        else:
            self._session = session

    async def _tend(self, connection: Connection, now: float) -> None:
        """What a standing connection needs besides its traffic."""
        if self._presence.outdated:
            self.set_state(self._presence.birth(connection.opened.mqtt_version))
        patience_s = max(STALL_MIN_S, STALL_KEEPALIVES * self._settings.keepalive_s)
        stalled_s = connection.window.stalled_s(now)
        if stalled_s > patience_s:
            self._last_failure = f"{self._connector.endpoint}: answers, but acknowledges nothing"
            log.warning("uplink_stalled", broker=self._connector.endpoint, for_s=round(stalled_s))
            self._connector.stalled(stalled_s, now)
            await self._link.close()
        elif self._connector.tend(now, due=not connection.records_settled):
            # Whoever looks at the broker that we leave is not to believe that we are still there.
            await self._say_offline()
            self._connector.leave(now)
            await self._link.close()
        else:
            connection.tend(now)

    def _tell_of_what_is_not_taken(self) -> None:
        """Raise or clear the reason for states that this broker will not have."""
        refused = frozenset[str]() if self._connection is None else self._connection.states.refused
        if refused:
            detail = "refused: state " + ", ".join(sorted(refused))
            self._health.raise_(HealthReason.BROKER_REFUSED, detail, owner=_NOT_TAKEN)
        else:
            self._health.clear(HealthReason.BROKER_REFUSED, owner=_NOT_TAKEN)

    def _nothing_due(self) -> bool:
        return self._connection is None or self._connection.nothing_due

    @property
    def _press_waits(self) -> bool:
        return self._records.last_seq(Stream.EVENTS) > self._records.confirmed(Stream.EVENTS)

    def _hurry(self) -> None:
        """Somebody pressed something while there is no connection: try at once."""
        self._connector.hurry(asyncio.get_running_loop().time())
        self._changed.set()

    # ------------------------------------------------------------------ events

    @contextlib.contextmanager
    def _failing_run(self) -> Iterator[None]:
        """What goes wrong in a callback ends `run`, and not whoever calls."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  # on its way to the supervisor
            self._fail(error)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._changed.set()

    def _on_event(self, session: int, event: LinkEvent) -> None:
        if session != self._session:
            return
        self._changed.set()
        with self._failing_run():
            now = asyncio.get_running_loop().time()
            match event:
                case Acknowledged():
                    if self._connection is not None:
                        self._connection.acknowledged(event, now)
                case Received():
                    self._on_received(event, now)
                case Opened():
                    self._on_opened(event, now)
                case Closed():
                    self._on_closed(event, now)
                case Flooded(dropped):
                    log.warning("messages_dropped", broker=self._connector.endpoint, dropped=dropped)

    def _on_opened(self, opened: Opened, now: float) -> None:
        self._connections += 1
        # What is kept of us can be looked at or not: a broker that does not let us is as good as any.
        refused = tuple(one for one in opened.refused_subscriptions if one not in self._identity.topics)
        self._connector.opened(replace(opened, refused_subscriptions=refused), now)
        log.info("uplink_opened", broker=self._connector.endpoint, mqtt=opened.mqtt_version)
        self._carried.limit.open(self._connector.endpoint, opened.maximum_packet_bytes)
        if self._looked or self._identity.seen or not self._identity.topics_granted(opened):
            self._begin(opened, now)
        else:
            self._looking = opened, now + LOOK_S

    def _begin(self, opened: Opened, now: float) -> None:
        """Say that we are there, and send."""
        self._looking, self._looked = None, True
        self._drop_connection()  # there is none, unless a link tells twice that it is open
        self._identity.look()
        birth = self._presence.birth(opened.mqtt_version)
        self._states[birth.name] = birth
        session = self._presence.session
        self._connection = Connection(
            self._carried,
            opened,
            now,
            use_room=partial(self._want_room, session),
            held=lambda: self._identity.forked,
            answered=self._on_answered,
            ended=self._on_ended,
        )
        if self._sending:
            self._connection.start()
        else:
            self._connection.states.send()

    def _changed_identity(self) -> None:
        """The store may have another journal by now."""
        self._changed.set()
        if self._connection is not None:
            self._connection.wake()

    def _want_room(self, session: int) -> None:
        asyncio.get_running_loop().call_soon(self._use_room, session)

    def _use_room(self, session: int) -> None:
        with self._failing_run():
            if session == self._session and self._connection is not None:
                self._connection.use_room()

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        """A sender's task: it ends only by an error, or because nothing is to be sent any more."""
        self._ending.discard(task)
        if not task.cancelled():
            error = task.exception()
            self._fail(error if isinstance(error, Exception) else RuntimeError("a sender ended by itself"))

    def _on_closed(self, closed: Closed, now: float) -> None:
        if closed.hung_up and self._connection is not None:
            self._carried.limit.hung_up(self._connection.largest_under_way_bytes)
        was_open, self._session = self._connection is not None, None
        self._looking = None
        self._identity.lost(closed, now)
        self._drop_connection()
        self._tell_closed(closed, now)
        if closed.reason:
            log.warning("uplink_closed", reason=closed.reason, was_open=was_open, why=closed.detail)

    def _tell_closed(self, closed: Closed, now: float) -> None:
        self._connector.closed(closed, now)
        if closed.reason:
            self._last_failure = closed.detail

    def _on_received(self, received: Received, now: float) -> None:
        """Take a message, and let the broker forget it once what it says is done.

        What fails is acknowledged, too: sent again it would fail again.
        """
        doing: asyncio.Future[Any] | None = None
        acknowledge = received.acknowledge or (lambda: None)
        try:
            doing = self._do(received, now)
        finally:
            if doing is None or doing.done():
                acknowledge()
            else:
                # A disk that hangs must not fill the broker's window: receipts come the same way.
                once = _Once(acknowledge)
                doing.add_done_callback(lambda _: once())
                asyncio.get_running_loop().call_later(DONE_WITHIN_S, once)

    def _do(self, received: Received, now: float) -> asyncio.Future[Any] | None:
        """Requests from outside: whatever is not well-formed, or not for this store, is dropped."""
        if received.topic in self._identity.topics:
            self._identity.take(received, now)
            if self._looking is None:
                self._identity.look()
            elif self._identity.seen:
                self._begin(self._looking[0], now)
        elif received.topic != self._topics.receipt:
            return self._commands.take(
                received.topic,
                received.payload,
                now,
                retained=received.retain,
                response_topic=received.response_topic,
                correlation=received.correlation,
            )
        elif received.retain:
            log.warning("retained_receipt")  # what dispatch had at some time, perhaps before it lost it
        elif self._settings.confirm == "dispatch":
            self._on_receipt(received.payload, now)
        return None

    def _on_receipt(self, payload: bytes, now: float) -> None:
        try:
            receipt = decode_receipt(payload)
        except CodecError as error:
            log.warning("bad_receipt", why=error)
        else:
            if self._connection is not None:
                self._connection.receipts.take(receipt, now)

    def _on_replay_request(self, request: ReplayRequest) -> None:
        """Send again what has landed; what has not comes by itself. What can not be sent is answered."""
        connection, newest = self._connection, self._records.last_seq(request.stream)
        if connection is None:
            return
        refuse = partial(Reply, REPLAY, Outcome.REFUSED, request.id, stream=request.stream.value, last=newest)
        if self._records.journal == 0:
            self.reply(refuse(RefusalReason.STORE_FAULT))
        elif request.journal not in (None, self._records.journal):
            self.reply(refuse(RefusalReason.OTHER_JOURNAL))
        elif request.first > newest:
            self.reply(refuse(RefusalReason.BEYOND_END))
        else:
            first = max(1, request.first)
            last = min(request.last, connection.streams[request.stream].landed_seq)
            if first <= last and not self._requests[request.stream].ask(first, last):
                self.reply(refuse(RefusalReason.BUSY))
                return
            connection.replay(request.stream)
            log.info("replay", stream=request.stream, first=first, last=last)
            if request.id is not None or request.last > newest:
                self._promise(request, min(request.last, newest))

    def _promise(self, request: ReplayRequest, last: int) -> None:
        whole = last == request.last
        self.reply(
            Reply(
                REPLAY,
                Outcome.ACCEPTED if whole else Outcome.PARTLY,
                request.id,
                None if whole else RefusalReason.BEYOND_END,
                stream=request.stream.value,
                first=request.first,
                last=last,
            )
        )

    def _on_journal_request(self, request: JournalRequest) -> None:
        """A reader has two records under one number."""
        reason = None
        if request.journal != self._records.journal:
            reason = RefusalReason.OTHER_JOURNAL
        elif not self._new_journals.take(asyncio.get_running_loop().time()):
            reason = RefusalReason.BUSY
        else:
            self._identity.begin_new_journal(f"a reader asked for it: {request.why or 'it did not say why'}")
        outcome = Outcome.ACCEPTED if reason is None else Outcome.REFUSED
        self.reply(Reply(NEW_JOURNAL, outcome, request.id, reason))

    def _on_appended(self, stream: Stream) -> None:
        with self._failing_run():
            if self._connection is not None:
                self._connection.streams[stream].appended()
            elif stream is Stream.EVENTS:
                self._hurry()

    def _on_answered(self, stream: Stream, code: int) -> None:
        now = asyncio.get_running_loop().time()
        self._connector.stream_answered(self._topics.journal(stream), code, now)

    async def _say_offline(self) -> None:
        """Publish that we go, and wait shortly for the broker to have it."""
        connection = self._connection
        if connection is not None:
            self.set_state(self._presence.farewell(connection.opened.mqtt_version))
            await self._until(lambda: connection.states.settled, OFFLINE_ACK_S)
