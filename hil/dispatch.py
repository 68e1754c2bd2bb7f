"""Dispatch's end of the line: subscribes, removes duplicates, asks for what is missing, remembers all."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass

from agent.config import Broker
from agent.domain.state import State
from agent.reader.journal_reader import JournalReader, encode_receipt, encode_replay_request
from agent.uplink.link.link import Closed, Link, LinkEvent, Message, Opened, Opening, Received
from agent.wire.batch import CodecError, JournalRecord
from agent.wire.codec import decode_state
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
        reader: removes duplicates and finds holes.
        arrivals: every record that was new, in the order it came.
        states: the newest state of each name.
        state_history: every state that came, oldest first.
        refused: payloads that could not be read, with the reason.
    """

    def __init__(
        self, link: Link, broker: Broker, *, receipts: bool = False, client_id: str = "dispatch"
    ) -> None:
        self._link = link
        self._broker = broker
        self._receipts = receipts
        self._client_id = client_id
        self._connected = False
        self._open = False
        self._task: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        self.reader = JournalReader(want_history=True)
        self.arrivals: list[Arrival] = []
        self.states: dict[str, State] = {}
        self.state_history: list[StateArrival] = []
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
                subscriptions=subscriptions(),
            )
            self._link.open(opening, self._on_event)
            while not self._closed.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ASK_EVERY_S):
                        await self._closed.wait()
                if self._connected:
                    self._ask(loop.time())
            await asyncio.sleep(RECONNECT_S)

    def _ask(self, now_s: float) -> None:
        for ask in self.reader.asks(now_s):
            encoded = encode_replay_request(ask.request)
            self._link.publish(Message(ask.topic, encoded.payload, content_type=encoded.content_type))

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
        parsed = parse_topic(message.topic)
        if parsed is None:
            return
        try:
            records = self.reader.feed(message.topic, message.payload)
            self.arrivals += [Arrival(now_s, record) for record in records]
            if parsed.area is Area.STATE and message.payload:
                state = decode_state(parsed.name, message.payload)
                self.states[parsed.name] = state
                self.state_history.append(StateArrival(now_s, parsed.name, state))
        except CodecError as error:
            self.refused.append(f"{message.topic}: {error}")
        if self._receipts and parsed.area is Area.JOURNAL:
            self._send_receipts(parsed.topics)
        for listener in self._listeners:
            listener()

    def _send_receipts(self, topics: Topics) -> None:
        for receipt in self.reader.receipts(topics):
            encoded = encode_receipt(receipt)
            self._link.publish(Message(topics.receipt, encoded.payload, content_type=encoded.content_type))
