"""One connection over paho-mqtt: the one module of the uplink that imports it.

paho is used as a protocol engine only. Sockets, waiting, keep-alive, reconnection and the in-flight window
are ours: paho's own thread can hang while it still calls itself connected, and its reconnection
publishes again what the publisher is going to publish again. Every attempt gets a fresh paho client.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from functools import partial
from time import monotonic
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.client import PUBLISH
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.uplink.link import tcp
from agent.uplink.link.credentials import (
    DatesError,
    check_dates,
    tls_context,
    verified_chain,
)
from agent.uplink.link.link import Acknowledged, Closed, Flooded, Message, Opened, Opening, Received
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
ANSWER_PACKET_BYTES = 8_192
"""Largest packet taken that is no PUBLISH: a CONNACK with all that a sensible broker may say in it."""
PROPERTIES_BYTES = 4_096
"""Most bytes of properties taken with a message: paho unpacks them at a cost that grows with their square.
One with more is acknowledged and not looked at."""
UNREAD_ANSWERS = 256
"""PUBACKs that a broker may leave unread while it goes on sending."""
LOOK_WITHIN_S = 5.0
"""Within so long a broker must answer once the computer's network has changed."""
INBOUND_PACKETS_BUFFERED = 2
"""The kernel takes in so many of the largest packets before a unit has read them."""
FLOOD_TOLD_EVERY_S = 1.0
BURST_S = 10.0
"""The inbound rate may be exceeded by what comes in so long at that rate."""
GOODBYE_S = 2.0
"""How long an orderly end may take."""
_PACKED_PROPERTIES = 64
_DATE_ERRORS = (9, 10)
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL."""
_REFUSED_US = {
    "CERTIFICATE_EXPIRED": "the broker refuses our certificate: it has expired",
    "CERTIFICATE_REVOKED": "the broker refuses our certificate: it is revoked",
    "UNKNOWN_CA": "the broker refuses our certificate: it does not know who signed it",
    "CERTIFICATE_REQUIRED": "the broker wants a certificate, and we have none",
    "BAD_CERTIFICATE": "the broker refuses our certificate: damaged, or not for a client",
    "UNSUPPORTED_CERTIFICATE": "the broker refuses our certificate: it is not for a client",
    "CERTIFICATE_UNKNOWN": "the broker refuses our certificate and does not say why",
}
"""What a broker's TLS alert means for the administrator of the vehicle."""


class _ExcessError(OSError):
    """The broker sends more than we take."""


class _Engine(paho.Client):
    """paho's protocol engine over a socket that is connected already.

    It overrides private methods of paho, which `tests/contract/test_paho_engine.py` holds to what is relied
    on: where the socket comes from, where bytes come in and go out, where a packet that was read is looked
    at. paho reads a packet of any size whole; here it is stopped once its length is known.
    """

    def __init__(self, sock: socket.socket, opening: Opening, version: int) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=opening.client_id,
            protocol=MQTTProtocolVersion(version),
            reconnect_on_failure=False,
            manual_ack=opening.acknowledge_when_done,
        )
        self.max_inflight_messages = 0  # no limit in paho: the window is the publisher's
        self.failure: OSError | None = None
        self.excess = ""
        self.on_passed_over: Callable[[], None] = lambda: None
        self._inbound_packet_bytes = opening.inbound_packet_bytes
        self.tls = isinstance(sock, ssl.SSLSocket)
        self._prepared = sock

    def ping(self) -> None:
        """Send a PINGREQ."""
        self._send_pingreq()

    def _create_socket(self) -> socket.socket:
        return self._prepared

    def _sock_recv(self, bufsize: int) -> bytes:
        # The first call for the body of a packet asks for all of it.
        if bufsize > self._inbound_packet_bytes:
            self.excess = f"sends a packet of {bufsize} bytes, {self._inbound_packet_bytes} at most are taken"
            raise _ExcessError(self.excess)
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
        except ConnectionError as error:
            # Why the broker closed may lie in what was received and not read yet: paho would close at once.
            self.failure = error
            raise BlockingIOError from error
        except OSError as error:
            if not isinstance(error, ssl.SSLError):  # what TLS has to say comes by reading
                self.failure = error
            raise

    def _packet_handle(self) -> MQTTErrorCode:
        command, body = self._in_packet["command"], self._in_packet["packet"]
        self.excess = _excess(command, body)
        if self.excess:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        if self._protocol == MQTTProtocolVersion.MQTTv5 and _is_overdressed(command, body):
            # Whoever may write to one of our topics can send such: the connection is not his to end.
            self.on_passed_over()
            at = 2 + int.from_bytes(body[:2], "big")
            mid = int.from_bytes(body[at : at + 2], "big")
            return self._send_puback(mid) if command & 0x06 else MQTTErrorCode.MQTT_ERR_SUCCESS
        return super()._packet_handle()


def _excess(command: int, body: bytes | bytearray) -> str:
    """What is too much about a packet that was read, before it is unpacked; empty when it may be."""
    if command & 0xF0 != PUBLISH:
        too_large = len(body) > ANSWER_PACKET_BYTES
        return (
            f"sends an answer of {len(body)} bytes, {ANSWER_PACKET_BYTES} at most are taken"
            if too_large
            else ""
        )
    qos = command >> 1 & 3
    return f"sends with QoS {qos} what was subscribed to with QoS 1" if qos > 1 else ""


def _is_overdressed(command: int, body: bytes | bytearray) -> bool:
    """Whether a message of MQTT 5 has more properties than are unpacked for anybody."""
    if command & 0xF0 != PUBLISH:
        return False
    at = 2 + int.from_bytes(body[:2], "big") + 2 * (command >> 1 & 3)
    length = shift = 0
    for byte in body[at : at + 4]:  # a variable byte integer, MQTT 5.0, 1.5.5
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            break
    return length > PROPERTIES_BYTES


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
        self.hung_up_on = False
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
        self._look_by = math.inf
        self._allowance = (opening.inbound_per_s or 0.0) * BURST_S
        self._allowed_at = 0.0
        self._dropped = 0
        self._told_of_flood_at = -math.inf
        self._unread_answers = 0

    def run(self) -> Closed:
        """Connect and serve the connection until it ends. Raises InterruptedByCloseError while connecting."""
        if self._thread.closing:
            raise tcp.InterruptedByCloseError
        try:
            sock, certificate_expires = self._connect()
        except _NotConnectedError as why:
            return why.closed
        engine = _Engine(sock, self._opening, self._version)
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
        judged_at = self._opening.certificates_at_unix_s
        try:
            context = None if broker.tls is None else tls_context(broker.tls, judged_at)
        except (OSError, ValueError) as error:
            raise _NotConnectedError(self._ended("tls_failed", f"TLS can not be set up: {error}")) from error
        try:
            sock = tcp.connect(broker.host, broker.port, timeout_s, interrupt)
            tcp.tune(sock, round(self._keepalive_s * DEAD * 1000))
            if self._opening.inbound_per_s is not None:
                # What is flooded at us waits in front of a PUBACK: little may.
                buffer_bytes = INBOUND_PACKETS_BUFFERED * self._opening.inbound_packet_bytes
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
            if context is None:
                return sock, None
            secured = tcp.start_tls(sock, context, broker.host, timeout_s, interrupt)
        except ssl.SSLError as error:
            raise _NotConnectedError(self._tls_failed(error)) from error
        except OSError as error:
            raise _NotConnectedError(self._lost(error.strerror or str(error))) from error
        if judged_at is not None:
            self._check_dates(secured, judged_at)
        return secured, tcp.certificate_expires_unix_s(secured)

    def _check_dates(self, secured: ssl.SSLSocket, judged_at: float) -> None:
        """What OpenSSL was told to leave to us, before a password or a byte of MQTT goes out."""
        try:
            check_dates(verified_chain(secured), judged_at)
        except DatesError as error:
            secured.close()
            raise _NotConnectedError(
                self._ended("tls_failed", f"the broker's certificate: {error}")
            ) from error

    def _introduce(self, engine: _Engine) -> None:
        """Send CONNECT."""
        o = self._opening
        engine.on_connect = self._on_connect
        engine.on_subscribe = self._on_subscribe
        engine.on_publish = self._on_publish
        engine.on_message = self._on_message
        engine.on_disconnect = self._on_disconnect
        engine.on_passed_over = self._drop_message
        if o.broker.username is not None:
            try:
                password = None if o.broker.password is None else o.broker.password.read()
            except (OSError, KeyError, ValueError) as error:
                # Of its content nothing may be said.
                why = error.strerror if isinstance(error, OSError) else type(error).__name__
                self._closed = self._ended("broker_refused", f"the password can not be read: {why}")
                return
            engine.username_pw_set(o.broker.username, password)
        connect = _properties(PacketTypes.CONNECT) if self._version == MQTT_5 else None
        if connect is not None:
            connect.MaximumPacketSize = o.inbound_packet_bytes
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
                self._look_at_the_way(engine, sock)
                self._check_alive(engine, sock)

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

    def _look_at_the_way(self, engine: _Engine, sock: socket.socket) -> None:
        """After a change of this computer's network: would the connection still be made the same way?"""
        if not self._thread.network_changed or engine.socket() is None or self._closed is not None:
            return
        self._thread.network_changed = False
        if self.phase is not Phase.OPEN or tcp.way_changed(sock):
            self._closed = self._lost("the network of this computer changed")
            return
        now = monotonic()
        self._look_by = now + LOOK_WITHIN_S
        self._pinged_at = self._said_at = now
        engine.ping()

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
        wait_s = max(0.0, self._next_deadline() - monotonic())
        if self._waits_for_answer:
            wait_s = min(wait_s, tcp.DARK_LOOK_S)
        ready = dict(poller.poll(wait_s * 1000 + 1))
        if wake.fileno() in ready:
            self._thread.swallow_wake()
        if flooded:
            self._heard_at = monotonic()  # nothing can be said about a broker that is not read
        seen = ready.get(sock.fileno(), 0)
        if seen & select.POLLOUT:
            engine.loop_write()
        if seen & ~select.POLLOUT:
            self._heard_at, self._look_by = monotonic(), math.inf
            engine.loop_read()
            # What OpenSSL has decrypted already can not be seen by poll.
            while isinstance(sock, ssl.SSLSocket) and engine.socket() is not None and sock.pending():
                engine.loop_read()

    def _next_deadline(self) -> float:
        if self.phase is not Phase.OPEN:
            return self._answer_by
        heard_share = DEAD if self._pinged_at >= self._heard_at else SILENCE
        return min(
            self._heard_at + heard_share * self._keepalive_s,
            self._said_at + SILENCE * self._keepalive_s,
            self._look_by,
        )

    @property
    def _waits_for_answer(self) -> bool:
        """Whether we said something after what we heard last."""
        return self.phase is not Phase.OPEN or self._said_at > self._heard_at

    def _check_alive(self, engine: _Engine, sock: socket.socket) -> None:
        now = monotonic()
        if engine.socket() is None or self._closed is not None:
            return
        if now >= self._look_by or (self._waits_for_answer and tcp.dark(sock)):
            self._closed = self._lost("nothing gets through any more")
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
        while (packet_id := self._thread.next_done()) is not None:
            engine.ack(packet_id, 1)
            self._said_at = monotonic()
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
        try:
            twin = socket.socket(fileno=os.dup(sock.fileno()))
        except OSError:  # no descriptor left: the broker may publish the will
            engine.disconnect()
            return
        with twin, contextlib.suppress(OSError):
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
        if engine.excess:
            return self._ended("broker_refused", engine.excess)
        self.hung_up_on = self._no_answer_to_5
        sentence = str(engine.failure or "the broker closed the connection")
        if self._opened is None and engine.tls:
            refused = (
                "refused our certificate" if self._has_certificate else "wanted a certificate: we have none"
            )
            sentence += f" before it answered; it may have {refused}"
        by_broker = engine.failure is None or isinstance(engine.failure, ConnectionError | ssl.SSLEOFError)
        return replace(self._lost(sentence), hung_up=by_broker and self.phase is Phase.OPEN)

    @property
    def _has_certificate(self) -> bool:
        tls = self._opening.broker.tls
        return tls is not None and tls.certificate_file is not None

    @property
    def _no_answer_to_5(self) -> bool:
        return self._opened is None and self._version == MQTT_5

    def _ended(self, reason: str, sentence: str) -> Closed:
        return Closed(reason, f"{self._thread.endpoint}: {sentence}")

    def _lost(self, sentence: str) -> Closed:
        return self._ended("broker_unreachable", sentence)

    def _tls_failed(self, error: ssl.SSLError) -> Closed:
        if isinstance(error, ssl.SSLCertVerificationError):
            words = error.verify_message
            if error.verify_code in _DATE_ERRORS:
                words += " by this computer's clock (judged anew when GNSS tells another time)"
            return self._ended("tls_failed", f"the broker's certificate: {words}")
        alert = str(error.reason or "").rpartition("ALERT_")[2]
        return self._ended("tls_failed", _REFUSED_US.get(alert, f"TLS: {error.reason or error}"))

    # paho's callbacks, on the thread

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: ReasonCode, properties: Any) -> None:
        if self._opened is not None:
            self._closed = self._ended("broker_refused", "sends a second CONNACK")
            return
        if reason.is_failure:
            self.refused_version = reason.value == UNSUPPORTED_VERSION and self._version == MQTT_5
            self.refused_retain = reason.value == RETAIN_NOT_SUPPORTED
            self._closed = self._refused(reason, properties)
            return
        if getattr(properties, "MaximumQoS", 1) == 0:
            self._closed = self._ended("broker_refused", "takes QoS 0 only, and so acknowledges nothing")
            return
        most_bytes = getattr(properties, "MaximumPacketSize", None)
        if most_bytes is not None and most_bytes < self._opening.least_packet_bytes:
            least = self._opening.least_packet_bytes
            why = f"takes packets of {most_bytes} bytes at most, {least} are needed"
            self._closed = self._ended("packet_too_large", why)
            return
        # 0 means that the broker does not look after us; we look after it all the same. And a broker that is
        # content to hear from us less often does not make us notice its end later.
        theirs = float(getattr(properties, "ServerKeepAlive", 0)) or self._keepalive_s
        self._keepalive_s = min(self._keepalive_s, theirs)
        self._opened = Opened(
            mqtt_version=self._version,
            receive_maximum=getattr(properties, "ReceiveMaximum", 65_535),
            maximum_packet_bytes=most_bytes,
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

    def _on_message(self, engine: Any, _data: Any, message: paho.MQTTMessage) -> None:
        if message.qos:
            self._unread_answers = self._unread_answers + 1 if engine.want_write() else 0
            if self._unread_answers > UNREAD_ANSWERS:
                self._closed = self._ended("broker_refused", "sends, but does not read what we answer")
                return
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""  # MQTT forbids it; nothing of ours has such a topic
        if not topic or not self._has_allowance():
            engine.ack(message.mid, message.qos)
            return
        acknowledge = None
        if message.qos and self._opening.acknowledge_when_done:
            acknowledge = partial(self._thread.acknowledge, message.mid)
        properties = message.properties
        self._thread.post(
            Received(
                topic=topic,
                payload=bytes(message.payload),
                retain=message.retain,
                content_type=getattr(properties, "ContentType", None),
                user_properties=tuple(getattr(properties, "UserProperty", ())),
                response_topic=getattr(properties, "ResponseTopic", None),
                correlation=getattr(properties, "CorrelationData", None),
                acknowledge=acknowledge,
            )
        )

    def _has_allowance(self) -> bool:
        """Whether a message may be taken; one that comes too fast costs nothing beyond this thread."""
        rate = self._opening.inbound_per_s
        if rate is None:
            return True
        now = monotonic()
        self._allowance = min(rate * BURST_S, self._allowance + (now - self._allowed_at) * rate)
        self._allowed_at = now
        if self._allowance >= 1:
            self._allowance -= 1
            return True
        self._drop_message()
        return False

    def _drop_message(self) -> None:
        """Nobody looks at it; the loop is told now and then."""
        self._dropped += 1
        now = monotonic()
        if now - self._told_of_flood_at >= FLOOD_TOLD_EVERY_S:
            self._told_of_flood_at = now
            self._thread.post(Flooded(self._dropped))
            self._dropped = 0

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
        if message.correlation is not None or message.response_topic is not None:
            return self._properties(message, PacketTypes.PUBLISH)
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
        if message.response_topic is not None:
            properties.ResponseTopic = message.response_topic
        if message.correlation is not None:
            properties.CorrelationData = message.correlation
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
