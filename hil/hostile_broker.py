"""Brokers that mean no good, one behaviour each: what a unit must survive, and leave.

Each behaviour is a function that is handed the connection after the client's CONNECT was read. The bytes are
those of MQTT 5.0 control packets.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Self

Behaviour = Callable[["Peer"], Awaitable[None]]
_RECEIVE_BUFFER_BYTES = 16_384
CONNACK = b"\x20\x03\x00\x00\x00"
"""Success, no properties."""


def variable_integer(value: int) -> bytes:
    """MQTT 5.0, 1.5.5."""
    out = bytearray()
    while True:
        value, digit = value >> 7, value & 0x7F
        out.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(out)


def publish(
    topic: str, payload: bytes, *, properties: bytes = b"", qos: int = 1, packet_id: int = 1
) -> bytes:
    """A PUBLISH packet, 3.3."""
    name = topic.encode()
    head = len(name).to_bytes(2, "big") + name + (packet_id.to_bytes(2, "big") if qos else b"")
    body = head + variable_integer(len(properties)) + properties + payload
    return bytes([0x30 | qos << 1]) + variable_integer(len(body)) + body


def user_properties(count: int) -> bytes:
    """So many user properties of a few bytes each."""
    return b"\x26\x00\x01k\x00\x01v" * count


class Peer:
    """The client at the other end, after its CONNECT.

    Attributes:
        topics: what it subscribed to, once `welcome` has returned.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.topics: list[str] = []

    async def packet(self) -> tuple[int, bytes]:
        """First byte and body of the next control packet."""
        first = (await self.reader.readexactly(1))[0]
        length = shift = 0
        while True:
            digit = (await self.reader.readexactly(1))[0]
            length |= (digit & 0x7F) << shift
            shift += 7
            if digit < 0x80:
                return first, await self.reader.readexactly(length)

    async def send(self, data: bytes) -> None:
        """Send, as far as the client reads."""
        self.writer.write(data)
        await self.writer.drain()

    async def welcome(self) -> None:
        """Be a good broker up to and with the SUBACK."""
        await self.send(CONNACK)
        first, body = await self.packet()
        if first >> 4 != 8:
            raise ConnectionError("no SUBSCRIBE")
        at = 2 + 1 + body[2]
        while at < len(body):
            length = int.from_bytes(body[at : at + 2], "big")
            self.topics.append(body[at + 2 : at + 2 + length].decode())
            at += 2 + length + 1
        await self.send(
            b"\x90" + bytes([3 + len(self.topics)]) + body[:2] + b"\x00" + b"\x01" * len(self.topics)
        )

    async def until_gone(self) -> None:
        """Read until the client has left."""
        while await self.reader.read(65_536):
            pass


async def silent(peer: Peer) -> None:
    """Accept, and say nothing."""
    await peer.until_gone()


async def endless_packet(peer: Peer) -> None:
    """Announce a packet of 256 MiB, and send it."""
    await peer.welcome()
    await peer.send(b"\x32" + variable_integer((1 << 28) - 1))
    while True:
        await peer.send(bytes(1 << 16))


async def endless_connack(peer: Peer) -> None:
    """The same instead of an answer to CONNECT."""
    await peer.send(b"\x20" + variable_integer((1 << 28) - 1))
    while True:
        await peer.send(bytes(1 << 16))


async def packet_over_the_limit(peer: Peer) -> None:
    """A well-formed message, a little larger than what the client said it takes."""
    await peer.welcome()
    await peer.send(publish(peer.topics[0], bytes(20_000)))
    await peer.until_gone()


async def many_user_properties(peer: Peer) -> None:
    """37,000 of them with one message."""
    await peer.welcome()
    await peer.send(publish(peer.topics[0], b"", properties=user_properties(37_000)))
    await peer.until_gone()


async def many_small_user_properties(peer: Peer) -> None:
    """As many as go into a packet that may be sent, again and again."""
    await peer.welcome()
    while True:
        await peer.send(publish(peer.topics[0], b"", properties=user_properties(2_000)))


async def quality_2(peer: Peer) -> None:
    """Messages that the client would have to keep until they are released, which never happens."""
    await peer.welcome()
    for number in range(1, 60_000):
        await peer.send(publish(peer.topics[0], bytes(10_000), qos=2, packet_id=number))


async def two_connacks(peer: Peer) -> None:
    """A second CONNACK, with other limits."""
    await peer.welcome()
    await peer.send(b"\x20\x06\x00\x00\x03\x21\x00\x01")
    await peer.until_gone()


async def never_reads(peer: Peer) -> None:
    """Send what must be answered, and read nothing."""
    await peer.welcome()
    while True:
        await peer.send(publish(peer.topics[0], b"x") * 1000)


async def requests_without_end(peer: Peer) -> None:
    """Ask for records again as fast as the network takes it, and acknowledge what comes."""
    await peer.welcome()
    request = b'{"stream":"trail","from":1,"to":9}'
    packets = b"".join(publish(peer.topics[0], request, qos=0) for _ in range(200))
    while True:
        await peer.send(packets)


async def garbage(peer: Peer) -> None:
    """Bytes that mean nothing."""
    await peer.welcome()
    while True:
        await peer.send(os.urandom(4096))


LEAVES: dict[str, Behaviour] = {
    "endless packet": endless_packet,
    "endless CONNACK": endless_connack,
    "packet over the limit": packet_over_the_limit,
    "37,000 user properties": many_user_properties,
    "quality of service 2": quality_2,
    "two CONNACKs": two_connacks,
    "garbage": garbage,
}
"""Behaviours for which a client leaves and says why."""

_TURNS_TO_BEGIN = 5


class HostileBroker:
    """Listens on loopback and does one thing to whoever connects. Used from one event loop.

    Attributes:
        connections: how many came.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self.connections = 0
        self.behaviour = behaviour
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen on a port of the system's choice. Raises OSError."""
        listener = socket.create_server((self.host, 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        self._server = await asyncio.start_server(self._serve, sock=listener)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        # What was accepted just now gets its task, and begins it, some turns of the loop later.
        for _turn in range(_TURNS_TO_BEGIN):
            await asyncio.sleep(0)
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            peer = Peer(reader, writer)
            await peer.packet()
            with contextlib.suppress(asyncio.CancelledError):
                await self.behaviour(peer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)
