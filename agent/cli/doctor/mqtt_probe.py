"""A broker asked for its rights, without the agent's session, state or journal being touched.

MQTT 5 only, for only there does a broker say why (reason codes, MQTT 5.0, 2.4). Blocking, a packet at a time:
this runs in a technician's command and never in the daemon.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from types import TracebackType

from agent.config import Broker
from agent.uplink.link.credentials import tls_context

_CONNECT, _CONNACK, _PUBLISH, _PUBACK, _SUBSCRIBE, _SUBACK, _DISCONNECT = 1, 2, 3, 4, 8, 9, 14
_REFUSED_FROM = 0x80
_QOS_1 = 0x02
_MAX_PACKET = 1 << 20
_EXPIRY_INTERVAL = 0x02
REASONS = {
    0x10: "taken; nobody is subscribed",
    0x80: "unspecified error",
    0x81: "malformed packet",
    0x82: "protocol error",
    0x83: "not accepted",
    0x84: "protocol version not supported",
    0x85: "client identifier not valid",
    0x86: "wrong user or password",
    0x87: "not authorised",
    0x88: "server unavailable",
    0x89: "server busy",
    0x8A: "banned",
    0x8C: "bad authentication method",
    0x8F: "topic filter not valid",
    0x90: "topic name not valid",
    0x95: "packet too large",
    0x97: "quota exceeded",
    0x9C: "use another server",
    0x9D: "server moved",
    0x9F: "connection rate exceeded",
}


class RefusedError(Exception):
    """The broker said no; the text says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the broker said to one request.

    Attributes:
        code: MQTT 5 reason code.
    """

    code: int

    @property
    def is_allowed(self) -> bool:
        """True unless it was refused."""
        return self.code < _REFUSED_FROM

    @property
    def words(self) -> str:
        """The reason in words."""
        return REASONS.get(self.code, "granted" if self.is_allowed else f"reason code {self.code:#04x}")


class MqttProbe:
    """One connection. Use as a context manager.

    Args:
        broker: where to, with TLS and credentials as configured.
        client_id: must not be the agent's, whose connection the broker would end.
        timeout_s: bound for each step.
    """

    def __init__(self, broker: Broker, client_id: str, timeout_s: float) -> None:
        self._broker = broker
        self._client_id = client_id
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._packet_id = 0

    def __enter__(self) -> MqttProbe:
        """Connect.

        Raises:
            OSError: no way to it, or TLS failed (ssl.SSLError is one).
            RefusedError: it answered and said no.
        """
        broker = self._broker
        plain = socket.create_connection((broker.host, broker.port), timeout=self._timeout_s)
        self._socket = plain
        try:
            if broker.tls is not None:
                self._socket = tls_context(broker.tls).wrap_socket(plain, server_hostname=broker.host)
            self._send(_CONNECT << 4, self._connect())
            body = self._receive(_CONNACK)
            if body[1]:
                raise RefusedError(Answer(body[1]).words)  # noqa: TRY301  # the socket is closed below
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take leave."""
        try:
            self._send(_DISCONNECT << 4, b"")
        except OSError:
            pass
        finally:
            self._close()

    def subscribe(self, topic: str) -> Answer:
        """Ask for a topic. Raises OSError, RefusedError."""
        self._packet_id += 1
        self._send(_SUBSCRIBE << 4 | 2, struct.pack(">HB", self._packet_id, 0) + _text(topic) + b"\x01")
        return Answer(self._receive(_SUBACK)[-1])

    def publish(self, topic: str) -> Answer:
        """Publish an empty message that is not kept and expires at once. Raises OSError, RefusedError."""
        self._packet_id += 1
        properties = struct.pack(">BI", _EXPIRY_INTERVAL, 1)
        head = _text(topic) + struct.pack(">HB", self._packet_id, len(properties)) + properties
        self._send(_PUBLISH << 4 | _QOS_1, head)
        body = self._receive(_PUBACK)
        return Answer(body[2] if len(body) > 2 else 0)  # noqa: PLR2004  # a short PUBACK means success

    def _connect(self) -> bytes:
        broker = self._broker
        flags = 0x02  # clean start
        payload = _text(self._client_id)
        if broker.username is not None:
            flags |= 0x80
            payload += _text(broker.username)
        if broker.password is not None:
            try:
                payload += _text(broker.password.read())
            except KeyError as error:
                raise OSError(f"the environment has no {broker.password.environment}") from error
            flags |= 0x40
        return _text("MQTT") + struct.pack(">BBHB", 5, flags, 30, 0) + payload

    def _send(self, first: int, body: bytes) -> None:
        length, left = bytearray(), len(body)
        while True:
            left, digit = left >> 7, left & 0x7F
            length.append(digit | (0x80 if left else 0))
            if not left:
                break
        self._connection.sendall(bytes([first]) + bytes(length) + body)

    def _receive(self, wanted: int) -> bytes:
        while True:
            first = self._exactly(1)[0]
            length = shift = 0
            while True:
                digit = self._exactly(1)[0]
                length |= (digit & 0x7F) << shift
                shift += 7
                if not digit & 0x80 or shift > 21:  # noqa: PLR2004  # at most four bytes
                    break
            if length > _MAX_PACKET:
                raise RefusedError("it sends more than was asked for")
            body = self._exactly(length)
            if first >> 4 == wanted:
                return body
            if first >> 4 == _DISCONNECT:
                raise RefusedError(Answer(body[0] if body else 0).words)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._connection.recv(count - len(data))
            if not part:
                raise ConnectionResetError("it hung up: no MQTT 5, or not for this client")
            data += part
        return data

    @property
    def _connection(self) -> socket.socket:
        if self._socket is None:
            raise OSError("not connected")
        return self._socket

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">H", len(data)) + data
