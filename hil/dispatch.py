"""Dispatch's end of the line: subscribes, removes duplicates, asks for what is missing, remembers all."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from agent.config import Broker
from agent.dispatch.commands import COMMANDS, encode
from agent.domain.state import State
from agent.reader.consumer import Consumer, Outgoing
from agent.uplink.link.link import Closed, Link, LinkEvent, Message, Opened, Opening, Received
from agent.wire.batch import JournalRecord
from agent.wire.reader_request import Reply
from agent.wire.topics import Area, Topics, parse_topic, subscriptions

RECONNECT_S = 0.3
ASK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A record, and when dispatch had it.

    Attributes:
        at_s: loop time.
        record: the record.
    """

    at_s: float
    record: JournalRecord


@dataclass(frozen=True, slots=True)
class StateArrival:
    """A state, and when dispatch had it."""

    at_s: float
    name: str
    state: State


class Dispatch:
    """A consumer of the journal and the states. Used from one event loop.

    Attributes:
        consumer: reads what comes, and says what to publish.
        reader: its journal reader, which removes duplicates and finds holes.
        arrivals: every record that was new, in the order it came.
        states: the newest state of each name.
        state_history: every state that came, oldest first.
        replies: what units answered to requests.
        refused: payloads that could not be read, with the reason.
    """

    def __init__(
        self,
        link: Link,
        broker: Broker,
        *,
        receipts: bool = False,
        client_id: str = "dispatch",
        unit: Topics | None = None,
    ) -> None:
        self._link = link
        self._broker = broker
        self._receipts = receipts
        self._client_id = client_id
        self._filters = subscriptions() if unit is None else subscriptions(unit.agency, unit.unit)
        self._connected = False
        self._open = False
        self._task: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        self.consumer = Consumer(want_history=True)
        self.reader = self.consumer.reader
        self.arrivals: list[Arrival] = []
        self.states: dict[str, State] = {}
        self.state_history: list[StateArrival] = []
        self.replies: list[Reply] = []
        self.refused: list[str] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever something arrived."""
        self._listeners.append(listener)

    @property
    def connected(self) -> bool:
        """True while subscribed."""
        return self._connected

    async def start(self) -> None:
        """Connect, and again whenever the connection is lost, until `stop`."""
        self._open = True
        self._task = asyncio.get_running_loop().create_task(self._keep_connected(), name="dispatch")

    async def stop(self) -> None:
        """Disconnect. Idempotent."""
        self._open = False
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self._link.close()

    async def _keep_connected(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._closed.clear()
            opening = Opening(
                broker=self._broker,
                client_id=f"{self._client_id}-{random.getrandbits(32):08x}",
                keepalive_s=10,
                connect_timeout_s=5,
                subscriptions=self._filters,
            )
            self._link.open(opening, self._on_event)
            while not self._closed.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ASK_EVERY_S):
                        await self._closed.wait()
                if self._connected:
                    self._publish(self.consumer.due(loop.time()))
            await asyncio.sleep(RECONNECT_S)

    def command(
        self, topics: Topics, name: str, command_id: str, *, by: str | None = None, **fields: Any
    ) -> None:
        """Tell a unit something, as the service at dispatch does; ValueError for what that would refuse."""
        checked = COMMANDS[name].fields(**fields)
        payload = encode(command_id, checked.model_dump(exclude_none=True, exclude_defaults=True), by=by)
        self._link.publish(Message(topics.command(name), payload, content_type="application/json"))

    def say(
        self,
        topic: str,
        payload: bytes,
        *,
        response_topic: str | None = None,
        correlation: bytes | None = None,
    ) -> None:
        """Publish anything, as whoever has the right to write there may."""
        self._link.publish(Message(topic, payload, response_topic=response_topic, correlation=correlation))

    def _publish(self, outgoing: Iterable[Outgoing]) -> None:
        for one in outgoing:
            encoded = one.encoded
            self._link.publish(Message(one.topic, encoded.payload, content_type=encoded.content_type))

    def _on_event(self, event: LinkEvent) -> None:
        match event:
            case Opened():
                self._connected = True
            case Closed():
                self._connected = False
                self._closed.set()
            case Received():
                self._receive(event)
            case _:
                pass

    def _receive(self, message: Received) -> None:
        now_s = asyncio.get_running_loop().time()
        arrival = self.consumer.take(message.topic, message.payload, now_s)
        if arrival is not None:
            self.arrivals += [Arrival(now_s, record) for record in arrival.records]
            if arrival.state is not None:
                self.states[arrival.state.name] = arrival.state
                self.state_history.append(StateArrival(now_s, arrival.state.name, arrival.state))
            if arrival.reply is not None:
                self.replies.append(arrival.reply)
            if arrival.problem:
                self.refused.append(arrival.problem)
        parsed = parse_topic(message.topic)
        if self._receipts and parsed is not None and parsed.area is Area.JOURNAL:
            self._publish(self.consumer.receipts(parsed.topics))
        for listener in self._listeners:
            listener()
