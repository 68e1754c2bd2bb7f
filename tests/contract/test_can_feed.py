"""One suite for every vehicle bus: an SLCAN adapter on a PTY, and SocketCAN where the kernel has a vcan."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import pytest

from agent.hal.can import CanFeed, CanFilter, CanFrame
from agent.hal.errors import DeviceLostError, DeviceNotFoundError, HardwareError
from firmware_shims.can_bus import CanBus, Slcan, SocketCan, import_can, socketcan_available
from firmware_shims.simulated.slcan_adapter import PtySlcanAdapter
from firmware_shims.system_clock import SystemClock

Frame = tuple[int, bool, bytes]
DEADLINE_S = 10


class Rig(Protocol):
    """A bus with something on it."""

    def plug(self) -> None: ...
    def unplug(self) -> None: ...
    def bus(self, wanted: tuple[CanFilter, ...] = ()) -> CanBus: ...
    async def ready(self) -> None: ...
    def send(self, frames: Iterable[Frame]) -> int: ...
    def sent_by_agent(self) -> list[bytes]: ...


class SlcanRig:
    """An adapter on a PTY."""

    def __init__(self, folder: Path) -> None:
        self.adapter = PtySlcanAdapter(folder / "slcan0")

    def plug(self) -> None:
        self.adapter.plug()

    def unplug(self) -> None:
        self.adapter.unplug()

    def bus(self, wanted: tuple[CanFilter, ...] = ()) -> CanBus:
        bus = CanBus(Slcan(device=str(self.adapter.link), vehicle=Path("unused")), SystemClock())
        bus.listen_for(wanted)
        return bus

    async def ready(self) -> None:
        await self.adapter.wait_open()

    def send(self, frames: Iterable[Frame]) -> int:
        return self.adapter.send(frames)

    def sent_by_agent(self) -> list[bytes]:
        return self.adapter.transmit_requests


class SocketCanRig:
    """vcan0 of this machine's kernel."""

    def plug(self) -> None:
        self.socket = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
        self.socket.bind(("vcan0",))

    def unplug(self) -> None:
        self.socket.close()

    def bus(self, wanted: tuple[CanFilter, ...] = ()) -> CanBus:
        bus = CanBus(SocketCan(channel="vcan0", vehicle=Path("unused")), SystemClock())
        bus.listen_for(wanted)
        return bus

    async def ready(self) -> None:
        pass

    def send(self, frames: Iterable[Frame]) -> int:
        sent = 0
        for can_id, extended, data in frames:
            header = can_id | (0x80000000 if extended else 0)
            self.socket.send(struct.pack("=IB3x8s", header, len(data), data))
            sent += 1
        return sent

    def sent_by_agent(self) -> list[bytes]:
        return []


@pytest.fixture(params=["slcan", "socketcan"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    if request.param == "slcan":
        yield SlcanRig(tmp_path)
        return
    if not socketcan_available("vcan0"):
        pytest.skip("the kernel has no vcan0")
    yield SocketCanRig()


def run(script: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await script()

    asyncio.run(main())


async def collect(feed: CanFeed, count: int) -> list[CanFrame]:
    frames: list[CanFrame] = []
    while len(frames) < count:
        batch = await feed.read()
        assert batch
        frames += batch
    return frames


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # the adapter has no events for all that a test may wait for
        await asyncio.sleep(0.005)


FRAMES: list[Frame] = [
    (0x120, False, bytes(range(8))),
    (0x7FF, False, b""),
    (0x18FEF100, True, b"\xff\x00\x32"),
    (0x000, False, b"\x01"),
]


def test_frames_arrive_as_they_were_with_a_boot_time(rig: Rig) -> None:
    async def script() -> None:
        rig.plug()
        feed = rig.bus()
        before_ns = SystemClock().boottime_ns()
        await feed.open()
        await rig.ready()
        assert rig.send(FRAMES) == len(FRAMES)
        frames = await collect(feed, len(FRAMES))
        assert [(frame.can_id, frame.extended, frame.data) for frame in frames] == FRAMES
        for frame in frames:
            assert before_ns < frame.received_boottime_ns <= SystemClock().boottime_ns()
        assert feed.overruns == 0
        await feed.close()
        rig.unplug()
        assert rig.sent_by_agent() == []

    run(script)


def test_only_wanted_frames_arrive(rig: Rig) -> None:
    async def script() -> None:
        rig.plug()
        feed = rig.bus(((0x120, 0x7FF, False), (0x00FEF100, 0x03FFFF00, True)))
        await feed.open()
        await rig.ready()
        rig.send([*FRAMES, (0x121, False, b""), (0x120, True, b""), (0x120, False, b"end")])
        frames = await collect(feed, 3)
        assert [frame.can_id for frame in frames] == [0x120, 0x18FEF100, 0x120]
        await feed.close()
        rig.unplug()

    run(script)


def test_a_cancelled_read_loses_nothing(rig: Rig) -> None:
    async def script() -> None:
        rig.plug()
        feed = rig.bus()
        await feed.open()
        await rig.ready()
        received: list[CanFrame] = []
        for number in range(60):
            rig.send([(number, False, bytes([number]))])
            reading = asyncio.ensure_future(feed.read())
            await asyncio.sleep(0.0007 * (number % 7))
            if not reading.done():
                reading.cancel()
            with suppress(asyncio.CancelledError):
                received += await reading
        received += await collect(feed, 60 - len(received))
        assert [frame.can_id for frame in received] == list(range(60))
        await feed.close()
        rig.unplug()

    run(script)


def test_a_burst_arrives_in_order_and_whole(rig: Rig) -> None:
    async def script() -> None:
        rig.plug()
        feed = rig.bus()
        await feed.open()
        await rig.ready()
        sent = rig.send((number, False, number.to_bytes(8, "big")) for number in range(100))
        frames = await collect(feed, sent)
        assert [frame.can_id for frame in frames] == list(range(100))
        await feed.close()
        rig.unplug()

    run(script)


def test_close_ends_a_waiting_read_and_can_be_repeated(rig: Rig) -> None:
    async def script() -> None:
        rig.plug()
        feed = rig.bus()
        await feed.close()  # never opened
        await feed.open()
        await feed.open()  # open already
        reading = asyncio.ensure_future(feed.read())
        await asyncio.sleep(0.05)
        await feed.close()
        await feed.close()
        with pytest.raises(DeviceLostError):
            await reading
        with pytest.raises(DeviceLostError):
            await feed.read()
        await feed.open()  # and again
        await rig.ready()
        rig.send([(1, False, b"")])
        assert len(await collect(feed, 1)) == 1
        await feed.close()
        rig.unplug()

    run(script)


# What only an adapter can do.


def test_an_adapter_is_opened_listening_only_at_the_bit_rate(tmp_path: Path) -> None:
    async def script() -> None:
        adapter = PtySlcanAdapter(tmp_path / "slcan0")
        adapter.plug()
        settings = Slcan(device=str(adapter.link), bitrate=250_000, vehicle=Path("unused"))
        feed = CanBus(settings, SystemClock())
        await feed.open()
        await adapter.wait_open()
        assert adapter.firmware.bitrate == 250_000
        assert adapter.firmware.listens_only
        await feed.close()
        await until(lambda: not adapter.firmware.is_open)  # the command goes out before the line is closed
        adapter.unplug()

    run(script)


def test_an_unplugged_adapter_is_lost_and_found_again(tmp_path: Path) -> None:
    async def script() -> None:
        rig = SlcanRig(tmp_path)
        feed = rig.bus()
        with pytest.raises(DeviceNotFoundError, match="slcan0: No such file or directory"):
            await feed.open()
        for _ in range(2):
            rig.plug()
            await feed.open()
            await rig.ready()
            reading = asyncio.ensure_future(feed.read())
            rig.unplug()
            with pytest.raises(DeviceLostError):
                await reading
            with pytest.raises(HardwareError):
                await feed.read()
            await feed.close()

    run(script)


def test_an_adapter_in_use_is_refused(tmp_path: Path) -> None:
    async def script() -> None:
        rig = SlcanRig(tmp_path)
        rig.plug()
        feed, second = rig.bus(), rig.bus()
        await feed.open()
        await rig.ready()
        with pytest.raises(DeviceNotFoundError, match="in use by another program"):
            await second.open()
        assert rig.send([(1, False, b"")]) == 1  # the one who has it is not disturbed
        assert len(await collect(feed, 1)) == 1
        await feed.close()
        rig.unplug()

    run(script)


def test_damage_on_the_line_counts_as_loss(tmp_path: Path) -> None:
    async def script() -> None:
        rig = SlcanRig(tmp_path)
        rig.plug()
        feed = rig.bus()
        await feed.open()
        await rig.ready()
        rig.send([(1, False, b"")])
        await collect(feed, 1)
        rig.adapter.send_bytes(b"t0081122\rt00G0\r")
        rig.send([(2, False, b"")])
        assert [frame.can_id for frame in await collect(feed, 1)] == [2]
        assert feed.overruns == 2
        await feed.close()
        rig.unplug()

    run(script)


def test_a_cancelled_opening_leaves_nothing_open(tmp_path: Path) -> None:
    async def script() -> None:
        rig = SlcanRig(tmp_path)
        rig.plug()
        settings = Slcan(device=str(rig.adapter.link), settle_s=0.3, vehicle=Path("unused"))
        feed = CanBus(settings, SystemClock())
        opening = asyncio.ensure_future(feed.open())
        await asyncio.sleep(0.1)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await rig.ready()
        await until(lambda: not rig.adapter.firmware.is_open)
        rig.unplug()

    run(script)


def test_the_adapter_without_hardware_refuses_to_send(tmp_path: Path) -> None:
    """The proof that nothing is sent would be worth nothing if the adapter did not notice."""

    async def script() -> None:
        rig = SlcanRig(tmp_path)
        rig.plug()
        can = import_can()
        bus = await asyncio.to_thread(
            can.Bus, interface="slcan", channel=str(rig.adapter.link), sleep_after_open=0, ignore_config=True
        )
        await rig.ready()
        bus.send(can.Message(arbitration_id=0x123, data=b"\x01", is_extended_id=False))
        await until(rig.sent_by_agent)
        assert rig.sent_by_agent() == [b"t123101"]
        await asyncio.to_thread(bus.shutdown)
        rig.unplug()

    run(script)


@pytest.mark.parametrize("channel", ["nonesuch0", "lo"])
def test_an_interface_that_is_none_is_not_found(channel: str) -> None:
    async def script() -> None:
        feed = CanBus(SocketCan(channel=channel, vehicle=Path("unused")), SystemClock())
        with pytest.raises(DeviceNotFoundError, match=channel):
            await feed.open()
        assert not socketcan_available(channel)

    run(script)


def test_the_drivers_do_not_load_asammdf() -> None:
    import subprocess

    code = (
        "import sys; from firmware_shims.can_bus import import_can; import_can(); "
        "import agent.sources.can.decoder_compiler; print('asammdf' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.split() == ["False", "False"]
