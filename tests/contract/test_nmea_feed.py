"""What every NMEA feed must do, on a PTY, on TCP and without a device: one suite for all."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import pytest

from agent.domain.fix import Fix
from agent.domain.health import HealthBoard, HealthReason
from agent.hal.clock import SystemUtc
from agent.hal.errors import DeviceLostError, DeviceNotFoundError
from agent.hal.gnss import NmeaBytes, NmeaFeed
from agent.sources.gnss.gnss_source import GnssSource
from agent.sources.gnss.nmea_framing import checksum
from firmware_shims.serial_line import SerialLine
from firmware_shims.serial_nmea import SerialNmea
from firmware_shims.simulated.nmea_receiver import PtyReceiver, paced_epochs
from firmware_shims.simulated.scripted_feed import ScriptedFeed

DEADLINE_S = 10


class CountingClock:
    """Each look at it is a nanosecond later."""

    boot_id = "0" * 32

    def __init__(self) -> None:
        self._now_ns = 0

    def boottime_ns(self) -> int:
        self._now_ns += 1
        return self._now_ns

    def suspended_ns(self) -> int:
        return 0

    def system_utc(self) -> SystemUtc:
        return SystemUtc(0, synchronised=False, max_error_ms=0)


class Receiver(Protocol):
    """The far end of a feed."""

    feed: NmeaFeed

    async def plug(self) -> None: ...

    async def unplug(self) -> None: ...

    async def send(self, data: bytes) -> None: ...

    async def stop(self) -> None: ...


class OnPty:
    def __init__(self, folder: Path) -> None:
        self._receiver = PtyReceiver(folder / "gnss0")
        self.feed: NmeaFeed = SerialNmea(SerialLine(str(folder / "gnss0"), 9600), CountingClock())

    async def plug(self) -> None:
        self._receiver.plug()

    async def unplug(self) -> None:
        self._receiver.unplug()

    async def send(self, data: bytes) -> None:
        self._receiver.send(data)

    async def stop(self) -> None:
        self._receiver.unplug()


class OnTcp:
    """A router that forwards NMEA to whoever connects."""

    feed: NmeaFeed

    def __init__(self, folder: Path) -> None:
        self._listener: socket.socket | None = None
        self._connection: socket.socket | None = None
        self._port = 0

    async def plug(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._listener.setblocking(False)
        if not self._port:
            self._port = self._listener.getsockname()[1]
            self.feed = SerialNmea(SerialLine(f"socket://127.0.0.1:{self._port}", 9600), CountingClock())

    async def unplug(self) -> None:
        for end in (self._listener, self._connection):
            if end is not None:
                end.close()
        self._listener = self._connection = None

    async def send(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        if self._connection is None:
            assert self._listener is not None
            self._connection, _ = await loop.sock_accept(self._listener)
        await loop.sock_sendall(self._connection, data)

    async def stop(self) -> None:
        await self.unplug()


class Scripted:
    def __init__(self, folder: Path) -> None:
        self._feed: ScriptedFeed[NmeaBytes] = ScriptedFeed(str(folder))
        self._feed.unplug()
        self._clock = CountingClock()
        self.feed: NmeaFeed = self._feed

    async def plug(self) -> None:
        self._feed.plug_in()

    async def unplug(self) -> None:
        self._feed.unplug()

    async def send(self, data: bytes) -> None:
        self._feed.say(NmeaBytes(data, self._clock.boottime_ns()))

    async def stop(self) -> None:
        self._feed.unplug()


Check = Callable[[Receiver], Coroutine[Any, Any, None]]
Rig = Callable[[Check], None]


@pytest.fixture(params=[OnPty, OnTcp, Scripted])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    """Runs a check against a plugged-in receiver of each kind."""

    def run(check: Check) -> None:
        async def guarded() -> None:
            receiver: Receiver = request.param(tmp_path)
            await receiver.plug()
            try:
                async with asyncio.timeout(DEADLINE_S):
                    await check(receiver)
            finally:
                await receiver.feed.close()
                await receiver.stop()

        asyncio.run(guarded())

    return run


async def read_bytes(feed: NmeaFeed, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += b"".join(chunk.data for chunk in await feed.read())
    return data


def sentence(body: str) -> bytes:
    return f"${body}*{checksum(body.encode()):02X}\r\n".encode()


def test_bytes_arrive_in_order_with_ascending_boot_time(rig: Rig) -> None:
    async def check(receiver: Receiver) -> None:
        feed = receiver.feed
        await feed.open()
        stamps: list[int] = []
        for number in range(20):
            await receiver.send(b"%03d" % number)
            chunks = await feed.read()
            assert chunks
            assert all(chunk.data for chunk in chunks)
            assert b"".join(chunk.data for chunk in chunks) == b"%03d" % number
            stamps += [chunk.received_boottime_ns for chunk in chunks]
        assert stamps == sorted(set(stamps))

    rig(check)


def test_a_cancelled_read_loses_nothing(rig: Rig) -> None:
    async def check(receiver: Receiver) -> None:
        feed = receiver.feed
        await feed.open()
        for _ in range(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.002):
                    await feed.read()
        await receiver.send(b"$GPRMC")
        assert await read_bytes(feed, 6) == b"$GPRMC"

    rig(check)


def test_unplugging_ends_a_waiting_read_and_plugging_in_brings_it_back(rig: Rig) -> None:
    async def check(receiver: Receiver) -> None:
        feed = receiver.feed
        await feed.open()
        await receiver.send(b"a")
        assert await read_bytes(feed, 1) == b"a"
        reading = asyncio.ensure_future(feed.read())
        await asyncio.sleep(0)
        await receiver.unplug()
        with pytest.raises(DeviceLostError):
            await reading
        await feed.close()
        with pytest.raises(DeviceNotFoundError):
            await feed.open()
        await receiver.plug()
        await feed.open()
        await receiver.send(b"b")
        assert await read_bytes(feed, 1) == b"b"

    rig(check)


def test_close_is_idempotent_and_needs_no_open(rig: Rig) -> None:
    async def check(receiver: Receiver) -> None:
        await receiver.feed.close()
        await receiver.feed.open()
        await receiver.feed.close()
        await receiver.feed.close()

    rig(check)


def test_errors_name_the_device(rig: Rig) -> None:
    async def check(receiver: Receiver) -> None:
        await receiver.unplug()
        with pytest.raises(DeviceNotFoundError) as caught:
            await receiver.feed.open()
        assert caught.value.device == receiver.feed.name
        assert caught.value.why

    rig(check)


def test_the_source_makes_fixes_of_it_and_survives_a_loss(rig: Rig) -> None:
    async def check(receiver: Receiver) -> None:
        health, fixes, got = HealthBoard(), list[Fix](), asyncio.Event()

        def on_fix(fix: Fix) -> None:
            fixes.append(fix)
            got.set()

        source = GnssSource(receiver.feed, health, silent_after_s=5)
        for minute in range(2):
            running = asyncio.ensure_future(source.run(on_fix, lambda: None))
            data = sentence(f"GNRMC,12{minute:02d}00,A,4221.5,N,07103.6,W,0.1,,210726,,,A")
            got.clear()
            while not got.is_set():  # the line may not be open yet, and what nobody hears is gone
                await receiver.send(data)
                with suppress(TimeoutError):
                    await asyncio.wait_for(got.wait(), 0.25)
            assert health.reasons() == ()
            await receiver.unplug()
            with pytest.raises(DeviceLostError):
                await running
            assert health.reasons() == (HealthReason.GNSS_LOST,)
            await receiver.plug()
        assert [fix.utc_ms for fix in fixes] == [1784635200_000, 1784635260_000]

    rig(check)


def test_a_recording_is_paced_by_its_own_times() -> None:
    log = b"# comment\r\n" + b"".join(
        sentence(body)
        for body in (
            "GPRMC,235958.50,V,,,,,,,210726,,,N",
            "GPGSV,1,1,00",
            "GPGLL,,,,,235959.00,V,N",
            "GPGGA,000000,,,,,0,,,,,,,,",
            "GPGGA,120000,,,,,0,,,,,,,,",
        )
    )
    epochs = list(paced_epochs(log))
    assert [at_s for at_s, _ in epochs] == [0, 0.5, 1.5, 2.5]
    assert b"".join(data for _, data in epochs) == log.removeprefix(b"# comment\r\n")


def test_a_played_recording_arrives_whole(tmp_path: Path) -> None:
    log = b"".join(sentence(f"GPGGA,1200{second:02d},,,,,0,,,,,,,,") for second in range(20))

    async def check() -> None:
        receiver = PtyReceiver(tmp_path / "gnss0")
        receiver.plug()
        line = SerialLine(str(tmp_path / "gnss0"), 9600)
        await line.open()
        assert receiver.is_heard
        playing = asyncio.ensure_future(receiver.play(log, speed=1000))
        got = b""
        async with asyncio.timeout(DEADLINE_S):
            while len(got) < len(log):
                got += await line.read()
            await playing
        assert got == log
        await line.close()
        receiver.send(b"nobody hears this")
        receiver.unplug()

    asyncio.run(check())
