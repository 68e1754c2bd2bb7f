"""A broker and a network in memory, for simulated time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from agent.uplink.link.link import Acknowledged, Closed, LinkEvent, Message, Opened, Opening, Received
from agent.uplink.link.refusal import NO_MATCHING_SUBSCRIBERS


def matches(topic_filter: str, topic: str) -> bool:
    """MQTT topic matching with + and #."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(levels) or level not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)


class Network:
    """The way between one client and the broker.

    Attributes:
        reachable: False refuses what is new.
        swallowing: a half-open path: packets vanish, nothing is closed.
        delay_s: one way.
        jitter_s: up to this much more, at random.
        bytes_per_s: bottleneck, None for none.

    Args:
        delay_s: one way, without any fault.
        rng: draws the jitter.
    """

    def __init__(self, delay_s: float = 0.03, rng: random.Random | None = None) -> None:
        self.reachable = True
        self.swallowing = False
        self.delay_s = delay_s
        self.jitter_s = 0.0
        self.bytes_per_s: float | None = None
        self._own_delay_s = delay_s
        self._rng = rng or random.Random(0)
        self._connections: set[MemoryLink] = set()

    def carries(self, link: MemoryLink, *, connected: bool) -> None:
        """A connection came to be, or ended."""
        (self._connections.add if connected else self._connections.discard)(link)

    def way_s(self) -> float:
        """How long something takes from one end to the other, but for the bottleneck."""
        return self.delay_s + (self._rng.uniform(0, self.jitter_s) if self.jitter_s else 0.0)

    def cut(self) -> None:
        """Go away under every connection, and refuse new ones."""
        self.reachable = False
        self.drop_connections()

    def drop_connections(self) -> None:
        """End every connection; new ones are taken."""
        for link in sorted(self._connections, key=lambda one: one.number):
            link.lose("connection reset")

    def set(
        self,
        *,
        cut: bool,
        swallowing: bool,
        delay_s: float,
        jitter_s: float,
        bytes_per_s: float | None,
    ) -> None:
        """Take on a new condition; `delay_s` comes on top of the network's own delay."""
        self.reachable, self.swallowing = not cut, swallowing
        self.delay_s, self.jitter_s = self._own_delay_s + delay_s, jitter_s
        self.bytes_per_s = bytes_per_s
        if cut:
            self.drop_connections()

    def lift(self) -> None:
        """Back to a network without faults; connections that were swallowed end when they notice."""
        self.set(cut=False, swallowing=False, delay_s=0.0, jitter_s=0.0, bytes_per_s=None)


NOBODYS_PORT = 9
"""At which no broker listens, here as on any computer."""


class MemoryBroker:
    """Keeps retained messages and hands messages to subscribers. Used from one loop."""

    def __init__(self) -> None:
        self.up = True
        self.refusing = False
        self.retained: dict[str, Message] = {}
        self.on_message: Callable[[Message], None] | None = None
        # A dict for its order: what happens first must not depend on addresses in memory.
        self._links: dict[MemoryLink, None] = {}
        self._made = 0

    def number(self) -> int:
        """A number for a new client."""
        self._made += 1
        return self._made

    def attach(self, link: MemoryLink) -> None:
        """A client connected."""
        self._links[link] = None

    def detach(self, link: MemoryLink, *, orderly: bool) -> None:
        """A client went; without an orderly disconnect its will is published, after its delay."""
        self._links.pop(link, None)
        opening = link.opening
        if not orderly and opening is not None and opening.will is not None:
            will, client_id = opening.will, opening.client_id
            asyncio.get_running_loop().call_later(opening.will_delay_s, self._publish_will, will, client_id)

    def _publish_will(self, will: Message, client_id: str) -> None:
        back = any(link.opening is not None and link.opening.client_id == client_id for link in self._links)
        if self.up and not back:
            self.take(will)

    def take(self, message: Message) -> bool:
        """A message arrived; False when nobody is subscribed to it."""
        if message.retain:
            self.retained[message.topic] = message
        if self.on_message is not None:
            self.on_message(message)
        heard = [link.offer(message) for link in tuple(self._links)]
        return any(heard)

    def stop(self) -> None:
        """The broker goes down; retained messages survive, as in a broker that saves them."""
        self.up = False
        for link in tuple(self._links):
            link.lose("the broker closed the connection")

    def kill(self) -> None:
        """The broker dies before it saved anything: what it acknowledged and retained is gone."""
        self.stop()
        self.retained.clear()

    def start(self) -> None:
        """The broker comes back."""
        self.up = True


class MemoryLink:
    """Implements agent.uplink.link.link.Link over a MemoryBroker."""

    def __init__(self, broker: MemoryBroker, network: Network) -> None:
        self._broker = broker
        self._network = network
        self.number = broker.number()
        self.opening: Opening | None = None
        self._on_event: Callable[[LinkEvent], None] | None = None
        self._connected = False
        self._token = 0
        self._busy_until = 0.0
        self._arrived_by = 0.0
        self._heard_by = 0.0
        self._dead = False
        self._generation = 0
        self._watch: asyncio.TimerHandle | None = None

    def open(self, opening: Opening, on_event: Callable[[LinkEvent], None]) -> None:
        """Start connecting."""
        self.opening, self._on_event = opening, on_event
        self._generation += 1
        broker, network = self._broker, self._network
        if self._dead:
            return
        if network.swallowing:
            self._later(opening.connect_timeout_s, self._failed, "broker_unreachable", "timed out")
        elif not network.reachable or not broker.up or opening.broker.port == NOBODYS_PORT:
            self._later(network.delay_s, self._failed, "broker_unreachable", "connection refused")
        elif broker.refusing:
            self._later(2 * network.delay_s, self._failed, "broker_refused", "not authorised")
        else:
            self._later(2 * network.delay_s, self._opened)

    def publish(self, message: Message) -> int:
        """Send; the PUBACK comes after a round trip."""
        self._token += 1
        loop = asyncio.get_running_loop()
        network = self._network
        if self._connected and not network.swallowing:
            sent_at = max(loop.time(), self._busy_until)
            if network.bytes_per_s:
                sent_at += (len(message.payload) + len(message.topic) + 60) / network.bytes_per_s
            self._busy_until = sent_at
            # Jitter never reorders what is sent on one connection.
            self._arrived_by = max(self._arrived_by, sent_at + network.way_s())
            self._later(self._arrived_by - loop.time(), self._arrive, message, self._token)
        elif self._connected:
            self._watch_silence()
        return self._token

    def network_changed(self) -> None:
        """The computer at this end has another address now: the path to the broker is no longer there."""
        if self._connected:
            self.lose("the network of this computer changed")

    async def close(self) -> None:
        """Disconnect in an orderly way."""
        if self._connected:
            self._connected = False
            self._network.carries(self, connected=False)
            self._broker.detach(self, orderly=True)
        self._end(Closed("", "closed by us"))
        self._generation += 1
        self._stop_watch()

    def die(self) -> None:
        """The computer at this end loses its power: nothing is sent any more, not even a farewell."""
        self.lose("the computer has no power")
        self._dead = True
        self._generation += 1

    def lose(self, why: str) -> None:
        """The connection breaks."""
        if self._connected:
            self._connected = False
            self._network.carries(self, connected=False)
            self._broker.detach(self, orderly=False)
            self._end(Closed("broker_unreachable", why))

    def offer(self, message: Message, *, kept: bool = False) -> bool:
        """A message for whoever subscribed to its topic; whether this one did."""
        wanted = self.opening is not None and any(
            matches(wish, message.topic) for wish in self.opening.subscriptions
        )
        if wanted:
            received = Received(
                message.topic,
                message.payload,
                kept,
                message.content_type,
                response_topic=message.response_topic,
                correlation=message.correlation,
            )
            loop = asyncio.get_running_loop()
            self._heard_by = max(self._heard_by, loop.time() + self._network.way_s())
            self._later(self._heard_by - loop.time(), self._hear, received)
        return wanted

    def _later(self, delay_s: float, call: Callable[..., None], *args: object) -> None:
        generation = self._generation

        def now() -> None:
            if generation == self._generation:
                call(*args)

        asyncio.get_running_loop().call_later(delay_s, now)

    def _opened(self) -> None:
        if not self._network.reachable or not self._broker.up:
            self._failed("broker_unreachable", "connection reset")
            return
        self._connected = True
        self._network.carries(self, connected=True)
        self._broker.attach(self)
        self._tell(Opened(mqtt_version=5, receive_maximum=100))
        for message in tuple(self._broker.retained.values()):
            self.offer(message, kept=True)
        self._watch_silence()

    def _failed(self, reason: str, detail: str) -> None:
        self._end(Closed(reason, detail))

    def _arrive(self, message: Message, token: int) -> None:
        if not self._connected or self._network.swallowing:
            self._watch_silence()
            return
        code = 0 if self._broker.take(message) else NO_MATCHING_SUBSCRIBERS
        if message.qos:
            self._later(self._network.delay_s, self._hear, Acknowledged(token, code))

    def _watch_silence(self) -> None:
        """Notice a half-open path within 1.5 keep-alives, as the real link does."""
        if self._watch is None and self.opening is not None:
            loop = asyncio.get_running_loop()
            self._watch = loop.call_later(
                1.4 * self.opening.keepalive_s, self._silence_over, self._generation
            )

    def _silence_over(self, generation: int) -> None:
        self._watch = None
        if generation != self._generation or not self._connected:
            return
        if self._network.swallowing:
            self.lose("nothing heard for 1.4 keep-alives")
        else:
            self._watch_silence()

    def _stop_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _end(self, closed: Closed) -> None:
        self._stop_watch()
        self._generation += 1
        on_event, self._on_event = self._on_event, None
        if on_event is not None:
            on_event(closed)

    def _hear(self, event: LinkEvent) -> None:
        if self._network.swallowing:
            self._watch_silence()
        else:
            self._tell(event)

    def _tell(self, event: LinkEvent) -> None:
        if self._on_event is not None:
            self._on_event(event)
