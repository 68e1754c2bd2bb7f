"""A consumer with a connection: reads what units say, asks for what is missing, sends receipts.

    with Client("mqtts://broker.example", ca_file="ca.crt") as client:
        for arrival in client:
            for record in arrival.records:
                print(record.unit, record.seq, record.token, record.body)
            client.confirm(arrival.topics)

The loop ends when `close` is called, from any thread or a signal handler.
"""

from __future__ import annotations

import queue
import ssl
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.reader.consumer import Arrival, Consumer, Outgoing
from agent.wire.batch import MAX_BYTES
from agent.wire.topics import Topics, subscriptions

ASK_EVERY_S = 1.0
MAX_WAITING = 1_000
"""Messages that wait for the loop; the broker is slowed down beyond them."""
RECONNECT_S = (1, 30)
KEEPALIVE_S = 20
_PORTS = {"mqtt": 1883, "mqtts": 8883}


class Client:
    """Connects, and again whenever the connection is lost. Iterated by one thread.

    Args:
        url: mqtt://[user@]host[:port] or mqtts://...
        client_id: name of a durable session, which the broker keeps while this program is away; None for a
            session that ends with the connection.
        session_s: how long the broker keeps a durable session.
        agency: only this agency's units.
        unit: only this unit.
        want_history: see `Consumer`.
        password: of the user in the URL.
        ca_file: authority to trust for mqtts, instead of the system's.
        cert_file: certificate of this program, with `key_file`.
        key_file: its key.

    Raises:
        ValueError: the URL is none.
    """

    def __init__(
        self,
        url: str,
        *,
        client_id: str | None = None,
        session_s: int = 86_400,
        agency: str | None = None,
        unit: str | None = None,
        want_history: bool = False,
        password: str | None = None,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError(f"{url!r} is neither mqtt://host nor mqtts://host")
        self.consumer = Consumer(want_history=want_history)
        self.problem = "not connected yet"
        self._address = parts.hostname, parts.port or _PORTS[parts.scheme]
        self._filters = [(one, 1) for one in subscriptions(agency, unit)]
        self._arrived: queue.Queue[tuple[str, bytes] | None] = queue.Queue(MAX_WAITING)
        self._closed = threading.Event()
        self._properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho
        if client_id is not None:
            self._properties.SessionExpiryInterval = session_s
        self._properties.MaximumPacketSize = MAX_BYTES
        self._clean_start = client_id is None
        self._paho = paho.Client(
            CallbackAPIVersion.VERSION2, client_id or "", protocol=MQTTProtocolVersion.MQTTv5
        )
        if parts.username is not None:
            self._paho.username_pw_set(unquote(parts.username), password)
        if parts.scheme == "mqtts":
            context = ssl.create_default_context(cafile=ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if cert_file is not None:
                context.load_cert_chain(cert_file, key_file)
            self._paho.tls_set_context(context)
        self._paho.reconnect_delay_set(*RECONNECT_S)
        self._paho.on_connect = self._on_connect
        self._paho.on_connect_fail = lambda *_: self._note("the broker can not be reached")
        self._paho.on_disconnect = lambda _client, _data, _flags, reason, _properties: self._note(str(reason))
        self._paho.on_message = self._on_message

    def __enter__(self) -> Self:
        """Begin to connect."""
        host, port = self._address
        self._paho.connect_async(
            host, port, KEEPALIVE_S, clean_start=self._clean_start, properties=self._properties
        )
        self._paho.loop_start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect and end the thread."""
        self.close()
        self._paho.disconnect()
        self._paho.loop_stop()
        # paho closes its wake-up sockets when it goes; a callback of ours would keep it in a circle with us.
        self._paho.on_connect = self._paho.on_connect_fail = None
        self._paho.on_disconnect = self._paho.on_message = None

    @property
    def connected(self) -> bool:
        """Whether the broker took us and gave us what we subscribe to; else `problem` says why not."""
        return not self.problem

    def close(self) -> None:
        """End the loop. Idempotent."""
        self._closed.set()

    def __iter__(self) -> Iterator[Arrival]:
        """What arrives, until `close`."""
        ask_at_s = time.monotonic() + ASK_EVERY_S
        while not self._closed.is_set():
            now_s = time.monotonic()
            if now_s >= ask_at_s:
                ask_at_s = now_s + ASK_EVERY_S
                if self.connected:
                    self._publish(self.consumer.due(now_s))
            try:
                message = self._arrived.get(timeout=min(0.1, max(0.0, ask_at_s - now_s)))
            except queue.Empty:
                continue
            arrival = None if message is None else self.consumer.take(*message, now_s)
            if arrival is not None:
                yield arrival

    def confirm(self, topics: Topics) -> None:
        """Tell a unit that everything which was handed on is stored for good."""
        self._publish(self.consumer.receipts(topics))

    def request_new_journal(self, topics: Topics, journal: int, why: str) -> None:
        """Ask a unit to begin a new journal: two records stood under one number."""
        self._publish([self.consumer.request_new_journal(topics, journal, why)])

    def _publish(self, outgoing: list[Outgoing]) -> None:
        for one in outgoing:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho
            properties.ContentType = one.encoded.content_type
            self._paho.publish(one.topic, one.encoded.payload, qos=1, properties=properties)

    def _note(self, problem: str) -> None:
        self.problem = problem or "the connection was lost"

    def _on_connect(
        self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            self._note(f"the broker says: {reason}")
            return
        code, _ = client.subscribe(self._filters)
        self.problem = "" if code == MQTTErrorCode.MQTT_ERR_SUCCESS else "the subscription was not sent"

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        while not self._closed.is_set():
            try:
                self._arrived.put((message.topic, bytes(message.payload)), timeout=0.2)
            except queue.Full:
                continue
            return
