"""One connection over paho-mqtt: the one module that imports it.

paho is used as a protocol engine only. Sockets, waiting, keep-alive, reconnection and the in-flight window
are ours: paho's own thread can hang while it still calls itself connected, and its reconnection
publishes again what the publisher is going to publish again. Every attempt gets a fresh paho client.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from time import monotonic
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.uplink.link import tcp
from agent.uplink.link.credentials import tls_context
from agent.uplink.link.link import Acknowledged, Closed, Message, Opened, Opening, Received
from agent.uplink.link.link_thread import LinkThread
from agent.uplink.link.refusal import (
    PACKET_TOO_LARGE,
    RETAIN_NOT_SUPPORTED,
    UNSUPPORTED_VERSION,
    closed_by_reason,
)

MQTT_5 = 5
MQTT_3_1_1 = 4

SILENCE = 0.9
"""Share of the keep-alive after which a PINGREQ goes out when either side was silent."""
DEAD = 1.4
"""Share of the keep-alive after which a silent broker is given up: under the 1.5 that is allowed."""
INBOUND_PACKET_BYTES = 1 << 20
"""Largest packet that we take (MQTT 5 maximum packet size of our side)."""
GOODBYE_S = 2.0
"""How long an orderly end may take."""
_PACKED_PROPERTIES = 64


class _Engine(paho.Client):
    """paho's protocol engine over a socket that is connected already."""

    def __init__(self, sock: socket.socket, client_id: str, version: int) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion(version),
            reconnect_on_failure=False,
        )
        self.max_inflight_messages = 0  # no limit in paho: the window is the publisher's
        self.failure: OSError | None = None
        self.tls = isinstance(sock, ssl.SSLSocket)
        self._prepared = sock

    def ping(self) -> None:
        """Send a PINGREQ."""
        self._send_pingreq()

    def _create_socket(self) -> socket.socket:
        return self._prepared

    def _sock_recv(self, bufsize: int) -> bytes:
        try:
            return super()._sock_recv(bufsize)
        except BlockingIOError:
            raise
        except OSError as error:
            self.failure = error  # paho would only log it
            raise

    def _sock_send(self, buf: bytes | bytearray) -> int:
        try:
            return super()._sock_send(buf)
        except BlockingIOError:
            raise
        except OSError as error:
            if not isinstance(error, ssl.SSLError):  # what TLS has to say comes by reading
                self.failure = error
            raise


class Phase(Enum):
    """How far a session is."""

    CONNECTING = "waits for CONNACK"
    SUBSCRIBING = "waits for SUBACK"
    OPEN = "open"


class Session:
    """One TCP connection in one MQTT version, on the thread."""

    def __init__(
        self, thread: LinkThread, opening: Opening, version: int, on_opened: Callable[[], None] = lambda: None
    ) -> None:
        self.phase = Phase.CONNECTING
        self.refused_version = False
        self.refused_retain = False
        self.unanswered = False
        self._thread = thread
        self._opening = opening
        self._version = version
        self._on_opened = on_opened
        self._opened: Opened | None = None
        self._closed: Closed | None = None
        self._subscribed = False
        self._keepalive_s = opening.keepalive_s
        self._tokens: dict[int, int] = {}
        self._packed: dict[tuple[object, ...], Properties | None] = {}
        self._heard_at = self._said_at = self._pinged_at = self._answer_by = 0.0

    def run(self) -> Closed:
        """Connect and serve the connection until it ends. Raises InterruptedByCloseError while connecting."""
        if self._thread.closing:
            raise tcp.InterruptedByCloseError
        try:
            sock, certificate_expires = self._connect()
        except _NotConnectedError as why:
            return why.closed
        engine = _Engine(sock, self._opening.client_id, self._version)
        try:
            self._introduce(engine)
            self._serve(engine, sock, certificate_expires)
            self._closed = self._closed or self._broken(engine)
        finally:
            self._drop(engine, sock)
        return self._closed

    def _connect(self) -> tuple[socket.socket, int | None]:
        """A socket ready for CONNECT, and when the broker's certificate ends."""
        broker, timeout_s = self._opening.broker, self._opening.connect_timeout_s
        interrupt = self._thread.wake_read.fileno()
        try:
            context = None if broker.tls is None else tls_context(broker.tls)
        except (OSError, ValueError) as error:
            raise _NotConnectedError(self._ended("tls_failed", f"TLS can not be set up: {error}")) from error
        try:
            sock = tcp.connect(broker.host, broker.port, timeout_s, interrupt)
            tcp.tune(sock, round(self._keepalive_s * DEAD * 1000))
            if context is None:
                return sock, None
            secured = tcp.start_tls(sock, context, broker.host, timeout_s, interrupt)
        except ssl.SSLError as error:
            raise _NotConnectedError(self._tls_failed(error)) from error
        except OSError as error:
            raise _NotConnectedError(self._lost(error.strerror or str(error))) from error
        return secured, tcp.certificate_expires_unix_s(secured)

    def _introduce(self, engine: _Engine) -> None:
        """Send CONNECT."""
        o = self._opening
        engine.on_connect = self._on_connect
        engine.on_subscribe = self._on_subscribe
        engine.on_publish = self._on_publish
        engine.on_message = self._on_message
        engine.on_disconnect = self._on_disconnect
        if o.broker.username is not None:
            try:
                password = None if o.broker.password is None else o.broker.password.read()
            except (OSError, KeyError, UnicodeDecodeError) as error:
                self._closed = self._ended("broker_refused", f"the password can not be read: {error!r}")
                return
            engine.username_pw_set(o.broker.username, password)
        connect = _properties(PacketTypes.CONNECT) if self._version == MQTT_5 else None
        if connect is not None:
            connect.MaximumPacketSize = INBOUND_PACKET_BYTES
        if o.will is not None:
            will = self._properties(o.will, PacketTypes.WILLMESSAGE)
            if will is not None and connect is not None and o.will_delay_s:
                will.WillDelayInterval = o.will_delay_s
                # A will waits no longer than its session lasts, and a session lasts 0 s unless told.
                connect.SessionExpiryInterval = o.will_delay_s
            engine.will_set(o.will.topic, o.will.payload, o.will.qos, o.will.retain, will)
        keepalive_s = max(1, round(o.keepalive_s))
        engine.connect_async(
            o.broker.host, o.broker.port, keepalive_s, clean_start=not o.resume, properties=connect
        )
        engine.reconnect()

    # Waiting

    def _serve(self, engine: _Engine, sock: socket.socket, certificate_expires: int | None) -> None:
        self._heard_at = self._said_at = monotonic()
        self._answer_by = self._heard_at + self._opening.connect_timeout_s
        while engine.socket() is not None and self._closed is None:
            if self._thread.closing and self.phase is not Phase.OPEN:
                self._closed = Closed("", f"{self._thread.endpoint}: closed while connecting")
            elif self._thread.closing:
                self._say_goodbye(engine, sock)
            else:
                self._advance(engine, certificate_expires)
                self._send(engine)
                self._wait(engine, sock)
                self._check_alive(engine)

    def _advance(self, engine: _Engine, certificate_expires: int | None) -> None:
        """Subscribe after CONNACK, tell `Opened` after SUBACK; paho's callbacks must not write."""
        topics = self._opening.subscriptions
        if self.phase is Phase.CONNECTING and self._opened is not None:
            self._opened = replace(self._opened, server_certificate_expires_unix_s=certificate_expires)
            self.phase = Phase.SUBSCRIBING
            self._answer_by = monotonic() + self._opening.connect_timeout_s
            if topics:
                engine.subscribe([(topic, 1) for topic in topics])
        if self.phase is Phase.SUBSCRIBING and self._opened is not None and (self._subscribed or not topics):
            self.phase = Phase.OPEN
            self._on_opened()
            self._thread.listen()
            self._thread.post(self._opened)

    def _wait(self, engine: _Engine, sock: socket.socket) -> None:
        """Sleep until there are bytes, room for bytes, a call of the loop, or a deadline."""
        if engine.socket() is None:
            return
        wake = self._thread.wake_read
        flooded = self._thread.flooded()
        poller = select.poll()
        poller.register(wake, select.POLLIN)
        poller.register(
            sock, (0 if flooded else select.POLLIN) | (select.POLLOUT if engine.want_write() else 0)
        )
        # poll counts whole milliseconds; one more, or it would wake just before the deadline and spin.
        ready = dict(poller.poll(max(0.0, self._next_deadline() - monotonic()) * 1000 + 1))
        if wake.fileno() in ready:
            self._thread.swallow_wake()
        if flooded:
            self._heard_at = monotonic()  # nothing can be said about a broker that is not read
        seen = ready.get(sock.fileno(), 0)
        if seen & select.POLLOUT:
            engine.loop_write()
        if seen & ~select.POLLOUT:
            self._heard_at = monotonic()
            engine.loop_read()
            # What OpenSSL has decrypted already can not be seen by poll.
            while isinstance(sock, ssl.SSLSocket) and engine.socket() is not None and sock.pending():
                engine.loop_read()

    def _next_deadline(self) -> float:
        if self.phase is not Phase.OPEN:
            return self._answer_by
        heard_share = DEAD if self._pinged_at >= self._heard_at else SILENCE
        return min(
            self._heard_at + heard_share * self._keepalive_s, self._said_at + SILENCE * self._keepalive_s
        )

    def _check_alive(self, engine: _Engine) -> None:
        now = monotonic()
        if engine.socket() is None or self._closed is not None:
            return
        if self.phase is not Phase.OPEN:
            if now >= self._answer_by and not (self._opened and self._subscribed):
                self.unanswered = self._no_answer_to_5
                self._closed = self._lost(f"{self.phase.value} in vain")
        elif now >= self._heard_at + DEAD * self._keepalive_s:
            self._closed = self._lost(f"silent for {now - self._heard_at:.1f} s")
        elif now >= self._next_deadline():
            self._pinged_at = self._said_at = now
            engine.ping()

    def _send(self, engine: _Engine) -> None:
        """Write what waits until the network is full; the rest stays where urgent messages overtake it."""
        if self.phase is not Phase.OPEN or self._opened is None:
            return
        limit = self._opened.maximum_packet_bytes
        while not engine.want_write() and engine.socket() is not None:
            item = self._thread.next_outgoing()
            if item is None:
                return
            token, message = item
            if limit is not None and message.packet_bytes() > limit:
                self._thread.post(Acknowledged(token, PACKET_TOO_LARGE))
                continue
            retain = message.retain and self._opened.retain_available
            info = engine.publish(
                message.topic, message.payload, message.qos, retain, self._publish_properties(message)
            )
            if message.qos > 0:
                self._tokens[info.mid] = token  # known in time: its PUBACK is read by this same thread
            self._said_at = monotonic()

    # The end

    def _say_goodbye(self, engine: _Engine, sock: socket.socket) -> None:
        """DISCONNECT, and wait until the broker has closed.

        Bytes of the broker's that nobody read would make the kernel reset the connection, and a broker that
        meets the reset before the DISCONNECT publishes the will. So a twin of the socket outlives paho's.
        """
        deadline = monotonic() + GOODBYE_S
        self._closed = Closed("", f"{self._thread.endpoint}: closed")
        with socket.socket(fileno=os.dup(sock.fileno())) as twin, contextlib.suppress(OSError):
            while True:
                self._send(engine)
                if (
                    engine.socket() is None
                    or not engine.want_write()
                    or not _ready(sock, select.POLLOUT, deadline)
                ):
                    break
                engine.loop_write()
            engine.disconnect()
            twin.shutdown(socket.SHUT_WR)
            while _ready(twin, select.POLLIN, deadline) and twin.recv(65_536):
                pass

    def _drop(self, engine: _Engine, sock: socket.socket) -> None:
        """Close the socket, whatever happened. Unsent bytes go with it: they are going to be sent anew."""
        engine.on_disconnect = None
        if sock.fileno() >= 0:
            if self._closed is None or self._closed.reason:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()

    def _broken(self, engine: _Engine) -> Closed:
        """Why the connection broke, when nobody said so."""
        if isinstance(engine.failure, ssl.SSLError) and self.phase is not Phase.OPEN:
            # With TLS 1.3 a broker's refusal of our certificate arrives after the handshake.
            return self._tls_failed(engine.failure)
        self.unanswered = self._no_answer_to_5
        sentence = str(engine.failure or "the broker closed the connection")
        if self._opened is None and engine.tls:
            sentence += " before it answered; it may have refused our certificate"
        by_broker = engine.failure is None or isinstance(engine.failure, ConnectionError | ssl.SSLEOFError)
        return replace(self._lost(sentence), hung_up=by_broker and self.phase is Phase.OPEN)

    @property
    def _no_answer_to_5(self) -> bool:
        return self._opened is None and self._version == MQTT_5

    def _ended(self, reason: str, sentence: str) -> Closed:
        return Closed(reason, f"{self._thread.endpoint}: {sentence}")

    def _lost(self, sentence: str) -> Closed:
        return self._ended("broker_unreachable", sentence)

    def _tls_failed(self, error: ssl.SSLError) -> Closed:
        if isinstance(error, ssl.SSLCertVerificationError):
            words = f"{error.verify_message} (a wrong clock makes a good certificate look bad)"
            return self._ended("tls_failed", f"the broker's certificate: {words}")
        return self._ended("tls_failed", f"TLS: {error.reason or error}")

    # paho's callbacks, on the thread

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            self.refused_version = reason.value == UNSUPPORTED_VERSION and self._version == MQTT_5
            self.refused_retain = reason.value == RETAIN_NOT_SUPPORTED
            self._closed = self._refused(reason, properties)
            return
        if getattr(properties, "MaximumQoS", 1) == 0:
            self._closed = self._ended("broker_refused", "takes QoS 0 only, and so acknowledges nothing")
            return
        # 0 means that the broker does not look after us; we look after it all the same. And a broker that is
        # content to hear from us less often does not make us notice its end later.
        theirs = float(getattr(properties, "ServerKeepAlive", 0)) or self._keepalive_s
        self._keepalive_s = min(self._keepalive_s, theirs)
        self._opened = Opened(
            mqtt_version=self._version,
            receive_maximum=getattr(properties, "ReceiveMaximum", 65_535),
            maximum_packet_bytes=getattr(properties, "MaximumPacketSize", None),
            topic_alias_maximum=getattr(properties, "TopicAliasMaximum", 0),
            retain_available=bool(getattr(properties, "RetainAvailable", 1)),
        )

    def _on_subscribe(
        self, _client: Any, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        answers = zip(self._opening.subscriptions, reasons, strict=False)
        refused = tuple(topic for topic, code in answers if code.is_failure)
        if self._opened is not None:
            self._opened = replace(self._opened, refused_subscriptions=refused)
        self._subscribed = True

    def _on_publish(self, _client: Any, _data: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        token = self._tokens.pop(mid, None)
        if token is not None:
            self._thread.post(Acknowledged(token, reason.value))

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return  # MQTT forbids it; nothing of ours has such a topic
        properties = message.properties
        self._thread.post(
            Received(
                topic=topic,
                payload=bytes(message.payload),
                retain=message.retain,
                content_type=getattr(properties, "ContentType", None),
                user_properties=tuple(getattr(properties, "UserProperty", ())),
            )
        )

    def _on_disconnect(
        self, _client: Any, _data: Any, flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        if flags.is_disconnect_packet_from_server and self._closed is None:
            self._closed = self._refused(reason, properties)

    def _refused(self, reason: ReasonCode, properties: Any) -> Closed:
        reference = getattr(properties, "ServerReference", None)
        return closed_by_reason(self._thread.endpoint, reason.value, str(reason), reference)

    # Properties

    def _publish_properties(self, message: Message) -> Properties | None:
        key = (message.content_type, message.expiry_s, message.user_properties)
        if key not in self._packed:
            if len(self._packed) >= _PACKED_PROPERTIES:
                self._packed.clear()
            self._packed[key] = self._properties(message, PacketTypes.PUBLISH)
        return self._packed[key]

    def _properties(self, message: Message, packet_type: int) -> Properties | None:
        if self._version != MQTT_5:
            return None
        properties = _properties(packet_type)
        if message.content_type is not None:
            properties.ContentType = message.content_type
        if message.expiry_s is not None:
            properties.MessageExpiryInterval = message.expiry_s
        if message.user_properties:
            properties.UserProperty = list(message.user_properties)
        return properties


class _NotConnectedError(Exception):
    """There is no connection; `closed` says why."""

    def __init__(self, closed: Closed) -> None:
        super().__init__(closed.detail)
        self.closed = closed


def _properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call]  # paho left it without types


def _ready(sock: socket.socket, events: int, deadline: float) -> bool:
    poller = select.poll()
    poller.register(sock, events)
    return bool(poller.poll(max(0.0, deadline - monotonic()) * 1000))
