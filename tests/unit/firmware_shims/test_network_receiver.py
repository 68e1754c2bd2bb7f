"""gpsd and UDP, with real sockets on this computer."""

from __future__ import annotations

import asyncio
import socket

import pytest

from agent.hal.errors import DeviceLostError, DeviceNotFoundError
from firmware_shims.network_receiver import WATCH, GnssGpsd, GnssUdp, UdpReceiver, gpsd_receiver
from firmware_shims.system_clock import SystemClock

SENTENCE = b"$GPRMC,113258,A,3238.9148,N,10822.4466,W,005.3,247.1,181022,009.3,E*6B\r\n"


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def heard(receiver: UdpReceiver, datagrams: int) -> list[bytes]:
    chunks: list[bytes] = []
    async with asyncio.timeout(20):
        while len(chunks) < datagrams:
            chunks += [chunk.data for chunk in await receiver.read()]
    return chunks


def test_datagrams_arrive_and_those_of_others_are_not_heard() -> None:
    async def run() -> None:
        port = free_port(socket.SOCK_DGRAM)
        receiver = UdpReceiver(GnssUdp(bind="127.0.0.1", port=port, sender="127.0.0.1"), SystemClock())
        await receiver.open()
        await receiver.open()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as router:
            router.bind(("127.0.0.1", 0))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.bind(("127.0.0.2", 0))
                stranger.sendto(b"$GPRMC,spoofed\r\n", ("127.0.0.1", port))
                router.sendto(SENTENCE, ("127.0.0.1", port))
                router.sendto(SENTENCE, ("127.0.0.1", port))
                assert await heard(receiver, 2) == [SENTENCE, SENTENCE]
        waiting = asyncio.ensure_future(receiver.read())
        await asyncio.sleep(0)
        await receiver.close()
        with pytest.raises(DeviceLostError):
            await waiting
        await receiver.close()
        with pytest.raises(DeviceLostError):
            await receiver.read()

    asyncio.run(run())


def test_a_port_that_is_taken_is_told() -> None:
    async def run() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            receiver = UdpReceiver(GnssUdp(bind="127.0.0.1", port=taken.getsockname()[1]), SystemClock())
            with pytest.raises(DeviceNotFoundError, match="in use"):
                await receiver.open()

    asyncio.run(run())


def test_gpsd_is_asked_for_its_reports() -> None:
    async def run() -> None:
        asked: list[bytes] = []
        over = asyncio.Event()

        async def daemon(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.readline())
            writer.write(b'{"class":"TPV","mode":1}\r\n')
            await writer.drain()
            await reader.read()  # until the other end is closed
            writer.close()
            over.set()

        server = await asyncio.start_server(daemon, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        receiver = gpsd_receiver(GnssGpsd(port=port), SystemClock())
        async with asyncio.timeout(20):
            await receiver.open()
            chunks = await receiver.read()
        assert asked == [WATCH]
        assert b"TPV" in b"".join(chunk.data for chunk in chunks)
        await receiver.close()
        async with asyncio.timeout(20):
            await over.wait()
        server.close()
        await server.wait_closed()

    asyncio.run(run())
