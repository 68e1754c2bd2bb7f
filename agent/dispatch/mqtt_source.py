"""The broker as a source: a durable session in which a message is confirmed after it was stored.

The one module of dispatch that imports paho. paho would confirm what comes by itself; here a PUBACK is sent
by `confirm`, so what this service did not store the broker keeps, and sends again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.config.uplink import Broker
from agent.dispatch.intake import Message

KEEPALIVE_S = 20
CONNECT_TIMEOUT_S = 10.0
RECEIVE_MAXIMUM = 1000
"""Messages that the broker may have under way to us: what bounds this side's memory."""
PACKET_BYTES = 1 << 20
RETRY_S = (0.5, 30.0)
_REFUSALS = 0x80
_UNSUPPORTED_VERSION = (0x84, 1)


@dataclass(frozen=True, slots=True)
class SourceState:
    """Whether the broker is there.

    Attributes:
        connected: subscribed and reading.
        detail: one sentence for a person when not.
    """

    connected: bool
    detail: str


class MqttSource:
    """Connects, and again whenever the connection is lost, until closed. Used from one event loop.

    Args:
        brokers: where to; of several, nodes of one cluster, the next is tried when one is gone.
        client_id: the durable session's name.
        session_s: how long the broker keeps the session while nobody is there.
        filters: what to read.
        now_ms: this computer's time in Unix milliseconds.
        on_message: called on the loop for every message, in order.
        on_state: called on the loop when the connection comes and goes.
    """

    def __init__(
        self,
        brokers: Sequence[Broker],
        *,
        client_id: str,
        session_s: float,
        filters: Sequence[str],
        now_ms: Callable[[], int],
        on_message: Callable[[Message], None],
        on_state: Callable[[SourceState], None],
    ) -> None:
        self._brokers = tuple(brokers)
        self._broker = self._brokers[0]
        self._client_id = client_id
        self._session_s = session_s
        self._filters = tuple(filters)
        self._now_ms = now_ms
        self._on_message = on_message
        self._on_state = on_state
        self._client: paho.Client | None = None
        self._generation = 0
        self._ended = asyncio.Event()
        self._published: dict[int, Callable[[], None]] = {}
        self._why = ""
        self._version = MQTTProtocolVersion.MQTTv5
        self._stood = False
        self._answered: bool | None = None
        self._refused_five = False

    @property
    def connected(self) -> bool:
        """Whether messages can be published now."""
        return self._client is not None and self._client.is_connected()

    async def run(self) -> None:
        """Read until cancelled."""
        wait_s, at, failed = RETRY_S[0], 0, 0
        try:
            while True:
                held = await self._one_connection()
                if held and not self._refused_five:
                    self._version = MQTTProtocolVersion.MQTTv5
                wait_s = RETRY_S[0] if held else min(RETRY_S[1], wait_s * 2)
                self._on_state(SourceState(False, self._why))
                failed = 0 if held else failed + 1
                at = (at + 1) % len(self._brokers)
                self._broker = self._brokers[at]
                if len(self._brokers) > 1 and failed % len(self._brokers):
                    continue  # another node may well be there: at once
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311  # spreads reconnections
        finally:
            await asyncio.shield(self._drop())

    def confirm(self, message: Message) -> None:
        """It is stored: the broker may forget it."""
        generation, mid = message.token
        if generation == self._generation and mid and self._client is not None:
            self._client.ack(mid, 1)

    def publish(self, topic: str, payload: bytes, on_taken: Callable[[], None] | None = None) -> bool:
        """Send at QoS 1; False while there is no connection. `on_taken` is called at the broker's PUBACK."""
        return self.send(topic, payload, on_taken)

    def send(
        self,
        topic: str,
        payload: bytes,
        on_taken: Callable[[], None] | None = None,
        *,
        retain: bool = False,
        expiry_s: int | None = None,
    ) -> bool:
        """The same, kept by the broker where wanted, and forgotten by it after a while (MQTT 5)."""
        if not self.connected or self._client is None:
            return False
        properties = None
        if expiry_s is not None and self._version is MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = expiry_s
        info = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return False
        if on_taken is not None:
            self._published[info.mid] = on_taken  # its PUBACK comes through this loop, so not before now
        return True

    def send_kept(self, topic: str, payload: bytes, retain: bool, expiry_s: int | None) -> bool:
        """For feeds to others; see `outputs.output.Publish`.

        A broker of MQTT 3.1.1 forgets nothing: there it is sent but not kept, or it would look live for ever.
        """
        forgets = expiry_s is None or self._version is MQTTProtocolVersion.MQTTv5
        return self.send(topic, payload, retain=retain and forgets, expiry_s=expiry_s)

    def reconnect(self, why: str) -> None:
        """Drop the connection: what was not confirmed comes again."""
        self._why = why
        self._ended.set()

    async def _one_connection(self) -> bool:
        """Whether it ever stood."""
        loop = asyncio.get_running_loop()
        self._generation += 1
        self._ended.clear()
        self._published.clear()
        self._client = client = self._new_client(loop, self._generation)
        where = f"{self._broker.host}:{self._broker.port}"
        self._stood, self._answered = False, None
        try:
            await asyncio.to_thread(self._connect, client)
            self._answered = False
            client.loop_start()
            await self._ended.wait()
        except (OSError, ValueError, ssl.SSLError) as error:
            self._why = f"{where}: {error}"
        finally:
            await asyncio.shield(self._drop())
        if not self._stood and self._answered is False:
            # An old broker hangs up on what it does not know: the other version is tried next.
            five = self._version is MQTTProtocolVersion.MQTTv5
            self._version = MQTTProtocolVersion.MQTTv311 if five else MQTTProtocolVersion.MQTTv5
        return self._stood

    def _connect(self, client: paho.Client) -> None:
        broker = self._broker
        if broker.tls is not None:
            context = ssl.create_default_context(cafile=broker.tls.ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if broker.tls.certificate_file is not None:
                context.load_cert_chain(broker.tls.certificate_file, broker.tls.key_file)
            client.tls_set_context(context)
        if broker.username is not None:
            client.username_pw_set(
                broker.username, None if broker.password is None else broker.password.read()
            )
        client.connect_timeout = CONNECT_TIMEOUT_S
        if self._version is MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = min(int(self._session_s), 0xFFFF_FFFE)
            properties.ReceiveMaximum = RECEIVE_MAXIMUM
            properties.MaximumPacketSize = PACKET_BYTES
            client.connect(broker.host, broker.port, KEEPALIVE_S, clean_start=False, properties=properties)
        else:
            client.connect(broker.host, broker.port, KEEPALIVE_S)

    def _new_client(self, loop: asyncio.AbstractEventLoop, generation: int) -> paho.Client:
        """A client whose callbacks, on paho's thread, only hand on to the loop."""
        five = self._version is MQTTProtocolVersion.MQTTv5
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=None if five else False,
            protocol=self._version,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        filters = [(one, 1) for one in self._filters]

        def tell(call: Callable[..., None], *arguments: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(call, generation, *arguments)

        def connected(_c: object, _u: object, _f: object, code: ReasonCode, _p: object) -> None:
            if code.is_failure:
                tell(self._refused, code.value, str(code))
            else:
                client.subscribe(filters)

        def subscribed(_c: object, _u: object, _m: int, codes: list[ReasonCode], _p: object) -> None:
            tell(self._subscribed, [code.value for code in codes])

        def received(_c: object, _u: object, message: paho.MQTTMessage) -> None:
            now_ms = self._now_ms()
            mid = message.mid if message.qos else 0
            tell(
                self._received,
                Message(message.topic, bytes(message.payload), now_ms, message.retain, (generation, mid)),
            )

        client.on_connect = connected
        client.on_subscribe = subscribed
        client.on_message = received
        client.on_publish = lambda _c, _u, mid, _r, _p: tell(self._taken, mid)
        client.on_disconnect = lambda _c, _u, _f, code, _p: tell(self._lost, str(code))
        return client

    # Everything below runs on the loop. What an earlier connection still had to say is old news.

    def _refused(self, generation: int, code: int, words: str) -> None:
        if generation == self._generation:
            self._answered = True
            if code in _UNSUPPORTED_VERSION and self._version is MQTTProtocolVersion.MQTTv5:
                self._version = MQTTProtocolVersion.MQTTv311
                self._refused_five = True
            self._why = f"{self._broker.host}:{self._broker.port}: {words}"
            self._ended.set()

    def _subscribed(self, generation: int, codes: list[int]) -> None:
        if generation == self._generation:
            refused = [code for code in codes if code >= _REFUSALS]
            self._stood = True
            detail = "the broker does not let us read" if refused else ""
            self._on_state(SourceState(not refused, detail))

    def _received(self, generation: int, message: Message) -> None:
        if generation == self._generation:
            self._on_message(message)

    def _taken(self, generation: int, mid: int) -> None:
        if generation == self._generation:
            taken = self._published.pop(mid, None)
            if taken is not None:
                taken()

    def _lost(self, generation: int, words: str) -> None:
        if generation == self._generation and not self._ended.is_set():
            self._why = f"{self._broker.host}:{self._broker.port}: connection lost: {words}"
            self._ended.set()

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            await asyncio.to_thread(client.loop_stop)
