"""A cluster's replicated stream as the source of the journal; everything else goes by MQTT as elsewhere.

The one module of dispatch that imports pika. RabbitMQ writes what units publish to a stream on several nodes;
a reader says at which offset it goes on. That offset is stored in the transaction that stores what was read
up to there, so a service that starts again, on this computer or another, goes on exactly where the rows end.
Published by MQTT, read by AMQP: a routing key is the topic with dots for slashes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pika
from pika.exceptions import AMQPError, ChannelClosedByBroker

from agent.config.uplink import Broker
from agent.dispatch.intake import Message
from agent.dispatch.mqtt_source import SourceState
from agent.runtime.log import EventLog
from agent.wire.topics import ROOT

if TYPE_CHECKING:
    from pika.adapters.blocking_connection import BlockingChannel

    from agent.dispatch.settings import JournalStream

PREFETCH = 500
"""Messages that are read and not yet stored: what bounds this side's memory."""
LOOK_EVERY_S = 0.5
"""How often a silent connection looks whether it is to end."""
NEWEST_WITHIN_S = 5.0
CONNECT_TIMEOUT_S = 5.0
HEARTBEAT_S = 10
RETRY_S = (0.5, 15.0)
_NOT_FOUND = 404
_EXCHANGE = "amq.topic"

log = EventLog("dispatch")


class _Token(NamedTuple):
    """Which delivery a message was."""

    generation: int
    tag: int


class StreamSource:
    """Connects to one node after the other until closed. Used from one event loop.

    Args:
        settings: the stream and its nodes.
        agency: only this agency's units; None for all.
        now_ms: this computer's time in Unix milliseconds.
        read_to: the offset that is stored now; None when nothing of the stream is.
        on_message: called on the loop for every message, in order.
        on_state: called on the loop when either connection comes or goes.
        mqtt: makes the source of states and answers, which also sends commands.
    """

    def __init__(
        self,
        settings: JournalStream,
        *,
        agency: str | None,
        now_ms: Callable[[], int],
        read_to: Callable[[], int | None],
        on_message: Callable[[Message], None],
        on_state: Callable[[SourceState], None],
        mqtt: Callable[[Callable[[Message], None], Callable[[SourceState], None]], Any],
    ) -> None:
        self._settings = settings
        self._pattern = f"{ROOT}/{agency or '*'}/*/journal/*".replace("/", ".")
        self._now_ms = now_ms
        self._read_to = read_to
        self._on_message = on_message
        self._on_state = on_state
        self._states = {
            "mqtt": SourceState(False, "not connected yet"),
            "stream": SourceState(False, "not connected yet"),
        }
        self._mqtt = mqtt(on_message, partial(self._note, "mqtt"))
        self._generation = 0
        self._reading: _Reading | None = None

    @property
    def connected(self) -> bool:
        """Whether messages can be published now."""
        return bool(self._mqtt.connected)

    async def run(self) -> None:
        """Read until cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._mqtt.run(), name="dispatch-mqtt")
            both.create_task(self._read(), name="dispatch-stream")

    def confirm(self, message: Message) -> None:
        """It is stored: the broker may send more."""
        if not isinstance(message.token, _Token):
            self._mqtt.confirm(message)
        elif self._reading is not None and message.token.generation == self._generation:
            self._reading.confirm(message.token.tag)

    def publish(self, topic: str, payload: bytes, on_taken: Callable[[], None] | None = None) -> bool:
        """See `mqtt_source.MqttSource.publish`."""
        return bool(self._mqtt.publish(topic, payload, on_taken))

    def send_kept(self, topic: str, payload: bytes, retain: bool, expiry_s: int | None) -> bool:
        """See `mqtt_source.MqttSource.send_kept`."""
        return bool(self._mqtt.send_kept(topic, payload, retain, expiry_s))

    def reconnect(self, why: str) -> None:
        """Drop both connections: what was not stored comes again."""
        self._mqtt.reconnect(why)
        if self._reading is not None:
            self._reading.end(why)

    async def _read(self) -> None:
        nodes = self._settings.nodes
        at, failed, wait_s = 0, 0, RETRY_S[0]
        while True:
            self._generation += 1
            self._reading = reading = _Reading(
                self._settings,
                nodes[at],
                self._pattern,
                self._generation,
                now_ms=self._now_ms,
                on_stands=self._stands,
                on_message=self._received,
            )
            thread = asyncio.create_task(asyncio.to_thread(reading.run, self._read_to()))
            try:
                held, why = await asyncio.shield(thread)
            finally:
                reading.end("the service ends")
                await thread
            self._note("stream", SourceState(False, f"{nodes[at].host}:{nodes[at].port}: {why}"))
            # The next node at once; once round without any that answers, a pause that grows.
            at = (at + 1) % len(nodes)
            failed = 0 if held else failed + 1
            if failed and failed % len(nodes) == 0:
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311  # spreads reconnections
                wait_s = min(RETRY_S[1], wait_s * 2)
            elif held:
                wait_s = RETRY_S[0]

    def _note(self, which: str, state: SourceState) -> None:
        self._states[which] = state
        whole = [one for one in self._states.values() if not one.connected]
        self._on_state(whole[0] if whole else state)

    # ------------------------------------------------------------------ called on the loop by the thread

    def _stands(self, generation: int) -> None:
        if generation == self._generation:
            self._note("stream", SourceState(True, ""))

    def _received(self, message: Message) -> None:
        if message.token.generation == self._generation:
            self._on_message(message)


class _Reading:
    """One connection to one node, on a thread of its own; `confirm` and `end` are called on the loop."""

    def __init__(
        self,
        settings: JournalStream,
        node: Broker,
        pattern: str,
        generation: int,
        *,
        now_ms: Callable[[], int],
        on_stands: Callable[[int], None],
        on_message: Callable[[Message], None],
    ) -> None:
        self._settings = settings
        self._node = node
        self._pattern = pattern
        self._generation = generation
        self._now_ms = now_ms
        self._on_stands = on_stands
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._ended = threading.Event()
        self._why = ""
        self._connection: pika.BlockingConnection | None = None
        self._channel: BlockingChannel | None = None
        self._stored_tag = 0
        self._acked_tag = 0

    def confirm(self, tag: int) -> None:
        """Everything up to this delivery is stored."""
        self._stored_tag = max(self._stored_tag, tag)

    def end(self, why: str) -> None:
        """Have the thread end soon. Idempotent."""
        self._why = self._why or why
        self._ended.set()

    def run(self, read_to: int | None) -> tuple[bool, str]:
        """Read until the connection is lost; whether it stood, and why it ended."""
        stood = False
        try:
            self._connection = pika.BlockingConnection(_parameters(self._node))
            try:
                first = self._first_offset(read_to)
                channel = self._channel = self._connection.channel()
                channel.basic_qos(prefetch_count=PREFETCH)
                stood = True
                self._tell(self._on_stands, self._generation)
                self._take(channel, first)
            finally:
                with contextlib.suppress(AMQPError, OSError):
                    self._connection.close()
        except (AMQPError, OSError, ValueError, KeyError) as error:
            self._why = self._why or f"{type(error).__name__} {error}".strip()
        return stood, self._why

    def _take(self, channel: BlockingChannel, first: int | str) -> None:
        for method, properties, body in channel.consume(
            self._settings.name, arguments={"x-stream-offset": first}, inactivity_timeout=LOOK_EVERY_S
        ):
            if self._ended.is_set():
                return
            if self._stored_tag > self._acked_tag:
                self._acked_tag = self._stored_tag
                channel.basic_ack(self._acked_tag, multiple=True)
            if method is None:
                continue
            message = Message(
                method.routing_key.replace(".", "/"),
                body,
                self._now_ms(),
                False,
                _Token(self._generation, method.delivery_tag),
                (properties.headers or {})["x-stream-offset"],
            )
            self._tell(self._on_message, message)
        if not self._ended.is_set():
            raise AMQPError("the broker ended the delivery")

    def _first_offset(self, read_to: int | None) -> int | str:
        """Where to go on. A stream that ends before that is another one, and read from its start."""
        assert self._connection is not None
        self._declare()
        if read_to is None:
            return "first"
        if self._reaches(read_to):
            return read_to + 1
        log.error("stream_begun_anew", stream=self._settings.name, read_to=read_to)
        return "first"

    def _declare(self) -> None:
        """A stream that is not there is made: a broker with nothing bound takes nothing from units."""
        assert self._connection is not None
        one = self._settings
        channel = self._connection.channel()
        try:
            channel.queue_declare(one.name, passive=True)
        except ChannelClosedByBroker as error:
            if error.reply_code != _NOT_FOUND:
                raise
            channel = self._connection.channel()
            channel.queue_declare(one.name, durable=True, arguments=stream_arguments(one.replicas, one.keep))
        channel.queue_bind(one.name, _EXCHANGE, self._pattern)
        channel.close()

    def _reaches(self, read_to: int) -> bool:
        """Whether the stream holds a message at or behind this offset; a reader is told its last chunk."""
        assert self._connection is not None
        channel = self._connection.channel()
        channel.basic_qos(prefetch_count=PREFETCH)
        reaches = False
        for method, properties, _ in channel.consume(
            self._settings.name, arguments={"x-stream-offset": "last"}, inactivity_timeout=NEWEST_WITHIN_S
        ):
            if method is None or self._ended.is_set():
                break
            channel.basic_ack(method.delivery_tag)
            if (properties.headers or {})["x-stream-offset"] >= read_to:
                reaches = True
                break
        channel.cancel()
        channel.close()
        return reaches

    def _tell(self, call: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(call, *arguments)


def stream_arguments(replicas: int, keep: str) -> dict[str, Any]:
    """What a stream is declared with.

    Args:
        replicas: nodes that hold it.
        keep: how long at least, as RabbitMQ writes it ("14D").
    """
    return {
        "x-queue-type": "stream",
        "x-initial-cluster-size": replicas,
        "x-max-age": keep,
        "x-stream-max-segment-size-bytes": 50_000_000,
    }


def _parameters(node: Broker) -> pika.ConnectionParameters:
    tls = None
    if node.tls is not None:
        context = ssl.create_default_context(cafile=node.tls.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if node.tls.certificate_file is not None:
            context.load_cert_chain(node.tls.certificate_file, node.tls.key_file)
        tls = pika.SSLOptions(context, node.host)
    more: dict[str, Any] = {}
    if node.username is not None:
        password = "" if node.password is None else node.password.read()
        more["credentials"] = pika.PlainCredentials(node.username, password)
    elif tls is not None:
        more["credentials"] = pika.credentials.ExternalCredentials()
    return pika.ConnectionParameters(
        host=node.host,
        port=node.port,
        ssl_options=tls,
        heartbeat=HEARTBEAT_S,
        socket_timeout=CONNECT_TIMEOUT_S,
        stack_timeout=2 * CONNECT_TIMEOUT_S,
        blocked_connection_timeout=CONNECT_TIMEOUT_S,
        **more,
    )
