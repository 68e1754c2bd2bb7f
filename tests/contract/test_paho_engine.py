"""What the link relies on of paho's private parts: the five methods that it overrides."""

from __future__ import annotations

import inspect
import socket
from typing import Any

import paho.mqtt.client as paho
import pytest

from agent.config import Broker
from agent.uplink.link.link import Opening
from agent.uplink.link.paho_session import MQTT_5, _Engine

RELIED_ON = {
    "_create_socket": [],
    "_sock_recv": ["bufsize"],
    "_sock_send": ["buf"],
    "_packet_handle": [],
    "_send_pingreq": [],
    "_send_puback": ["mid"],
}


@pytest.mark.parametrize("name", RELIED_ON)
def test_method_is_there_with_the_arguments_that_are_overridden(name: str) -> None:
    method = getattr(paho.Client, name)
    assert list(inspect.signature(method).parameters)[1:] == RELIED_ON[name]


class Recording(_Engine):
    """Notes which of the overridden methods paho calls, and with what."""

    def __init__(self, sock: socket.socket) -> None:
        self.calls: list[tuple[str, Any]] = []
        opening = Opening(Broker(host="h", allow_plaintext=True), "veh", 20, 5, inbound_packet_bytes=16_384)
        super().__init__(sock, opening, MQTT_5)

    def _create_socket(self) -> socket.socket:
        self.calls.append(("_create_socket", None))
        return super()._create_socket()

    def _sock_recv(self, bufsize: int) -> bytes:
        self.calls.append(("_sock_recv", bufsize))
        return super()._sock_recv(bufsize)

    def _sock_send(self, buf: bytes | bytearray) -> int:
        self.calls.append(("_sock_send", len(buf)))
        return super()._sock_send(buf)

    def _packet_handle(self) -> Any:
        packet = self._in_packet
        self.calls.append(("_packet_handle", (packet["command"], len(packet["packet"]))))
        return super()._packet_handle()


def test_paho_goes_through_them_and_asks_for_a_body_whole_at_first() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        engine = Recording(ours)
        connected: list[object] = []
        engine.on_connect = lambda *_: connected.append(1)
        engine.connect_async("h", 1, 20)
        engine.reconnect()
        assert ("_create_socket", None) in engine.calls
        assert any(name == "_sock_send" for name, _ in engine.calls)
        assert theirs.recv(4096)[:1] == b"\x10"
        theirs.sendall(b"\x20\x03\x00\x00\x00")
        engine.loop_read()
        assert connected == [1]
        received = [size for name, size in engine.calls if name == "_sock_recv"]
        assert received[:3] == [1, 1, 3], "first byte, length, then all of the body"
        assert ("_packet_handle", (0x20, 3)) in engine.calls
        engine.ping()
        assert theirs.recv(4096) == b"\xc0\x00"


def test_packet_that_is_too_large_is_stopped_before_its_first_byte_is_taken() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        engine = Recording(ours)
        engine.connect_async("h", 1, 20)
        engine.reconnect()
        theirs.recv(4096)
        theirs.sendall(b"\x30\xff\xff\xff\x7f" + bytes(1000))
        engine.loop_read()
        assert engine.socket() is None
        assert "268435455 bytes" in engine.excess
        assert max(size for name, size in engine.calls if name == "_sock_recv" and size < 1 << 20) == 1
