"""Runs in the machine: the real SocketCAN shim on vcan0.

What it says, one line a check: `RESULT {"check": name, "ok": bool, "detail": text}`, then `DONE`.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import subprocess
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

from agent.hal.can import CanFilter, CanFrame
from agent.hal.errors import DeviceLostError, DeviceNotFoundError
from firmware_shims.can_bus import CanBus, SocketCan
from firmware_shims.obd_line import ObdIsotp, ObdLine
from firmware_shims.simulated.obd_ecu import PlayedEcu
from firmware_shims.system_clock import SystemClock
from hil.kernel.console import say

CHANNEL = "vcan0"
FRAME = struct.Struct("=IB3x8s")
BURST = 20_000
ANSWERS = {
    b"\x01\x0d": b"\x41\x0d\x32",
    b"\x03": bytes([0x43, 60]) + bytes(range(1, 121)),
    b"\x09\x02": b"\x49\x02\x01" + b"1FDXE4FS8HDC12345",
}
STAMP_ERROR_NS = 1_000_000


class Vehicle:
    """The other end of the bus."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
        self._socket.bind((CHANNEL,))

    def send(self, can_id: int, data: bytes) -> None:
        """Put one data frame on the bus; an identifier beyond 11 bits goes as an extended one."""
        flagged = can_id | (socket.CAN_EFF_FLAG if can_id > socket.CAN_SFF_MASK else 0)
        while True:
            try:
                self._socket.send(FRAME.pack(flagged, len(data), data))
            except OSError:  # the transmit queue is full: as on a bus, wait for a free slot
                continue
            return

    def close(self) -> None:
        """Leave the bus."""
        self._socket.close()


def set_link(state: str) -> None:
    """Set the interface "up" or "down"."""
    subprocess.run(["ip", "link", "set", CHANNEL, state], check=True)


def open_bus(wanted: tuple[CanFilter, ...] = (), channel: str = CHANNEL) -> CanBus:
    """The shim under test."""
    bus = CanBus(SocketCan(channel=channel, vehicle=Path("unused.toml")), SystemClock())
    bus.listen_for(wanted)
    return bus


async def frames_of(bus: CanBus, quiet_s: float = 0.5) -> list[CanFrame]:
    """All frames until there are none for `quiet_s`."""
    found: list[CanFrame] = []
    try:
        while True:
            async with asyncio.timeout(quiet_s):
                found += await bus.read()
    except TimeoutError:
        return found


async def frames_arrive_as_sent() -> str:
    """Both identifier lengths, all data lengths, in order, stamped."""
    bus, vehicle = open_bus(), Vehicle()
    await bus.open()
    sent = [(0x123, b"")] + [(0x18FEF100 + n, bytes(range(n))) for n in range(9)]
    before_ns = SystemClock().boottime_ns()
    for can_id, data in sent:
        vehicle.send(can_id, data)
    got = await frames_of(bus)
    await bus.close()
    vehicle.close()
    assert [(f.can_id, f.data) for f in got] == sent, got
    assert [f.extended for f in got] == [False] + [True] * 9
    # The kernel's stamps are of the wall clock; bringing them to boot time errs by as long as the
    # process was kept from the processor between two readings.
    stamps = [before_ns - STAMP_ERROR_NS, *(f.received_boottime_ns for f in got), SystemClock().boottime_ns()]
    assert stamps == sorted(stamps), stamps
    return f"{len(got)} frames"


async def unwanted_frames_stay_in_the_kernel() -> str:
    """The filters of the vehicle file are the kernel's."""
    bus, vehicle = open_bus(((0x100, 0x7FF, False),)), Vehicle()
    await bus.open()
    for can_id in (0x100, 0x101, 0x100 | 0x10000):
        vehicle.send(can_id, b"x")
    got = await frames_of(bus)
    await bus.close()
    vehicle.close()
    assert [f.can_id for f in got] == [0x100], got
    return "one of three passed"


async def an_overflow_is_counted() -> str:
    """What the kernel had no room for is known, frame by frame."""
    bus, vehicle = open_bus(), Vehicle()
    await bus.open()
    for n in range(BURST):
        vehicle.send(n % 0x700, b"12345678")
    got = await frames_of(bus)
    vehicle.send(0x1, b"")  # the count comes with the next frame
    got += await frames_of(bus)
    lost = bus.overruns
    await bus.close()
    vehicle.close()
    assert len(got) + lost == BURST + 1, f"{len(got)} read + {lost} lost of {BURST + 1}"
    return f"{len(got)} read, {lost} known to be lost"


async def a_dead_interface_is_told_and_comes_back() -> str:
    """Down is a state with a name, also while waiting; after up, a new open reads again."""
    bus = open_bus()
    await bus.open()
    asyncio.get_running_loop().call_later(0.2, set_link, "down")
    try:
        async with asyncio.timeout(5):
            await bus.read()
    except DeviceLostError:
        pass
    else:
        raise AssertionError("read returned on a dead interface")
    await bus.close()
    try:
        await bus.open()
    except DeviceNotFoundError as error:
        told = error.why
    else:
        raise AssertionError("opened an interface that is down")
    set_link("up")
    await bus.open()
    vehicle = Vehicle()
    vehicle.send(0x7, b"back")
    got = await frames_of(bus)
    await bus.close()
    vehicle.close()
    assert [f.data for f in got] == [b"back"], got
    return f"told: {told}"


async def an_absent_interface_is_named() -> str:
    """No such interface is an expected fault."""
    bus = open_bus(channel="can9")
    try:
        await bus.open()
    except DeviceNotFoundError as error:
        return str(error)
    raise AssertionError("opened an interface that is not there")


class Ecu(threading.Thread):
    """The played control unit on the real bus."""

    def __init__(self) -> None:
        super().__init__(name="ecu")
        self.ecu = PlayedEcu(ANSWERS)
        self._socket = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
        self._socket.bind((CHANNEL,))
        self._socket.settimeout(0.05)
        self._over = threading.Event()

    def run(self) -> None:
        """Answer until it is over."""
        while not self._over.is_set():
            try:
                can_id, length, data = FRAME.unpack(self._socket.recv(FRAME.size))
            except TimeoutError:
                continue
            self.ecu.take(can_id, data[:length])
            while self.ecu.frames:
                answer_id, answer = self.ecu.frames.popleft()
                self._socket.send(FRAME.pack(answer_id, len(answer), answer))

    def stop(self) -> None:
        """Leave the bus."""
        self._over.set()
        self.join()
        self._socket.close()


async def _asked(*, by_kernel: bool) -> str:
    ecu = Ecu()
    ecu.start()
    line = ObdLine(ObdIsotp(channel=CHANNEL, vehicle=Path("unused.toml")), SystemClock(), by_kernel=by_kernel)
    try:
        await line.open()
        for request, answer in ANSWERS.items():
            got = await line.ask(0x7E0, request, 3)
            assert got == answer, (request, got)
        assert await line.ask(0x7E0, b"\x01\x99", 0.3) is None
        assert ecu.ecu.padded, "frames of less than eight bytes"
    finally:
        await line.close()
        ecu.stop()
    return f"{len(ANSWERS)} answers, one of several frames"


async def control_units_are_asked_by_the_kernels_iso_tp() -> str:
    """CAN_ISOTP, where this kernel has it."""
    try:
        socket.socket(socket.AF_CAN, socket.SOCK_DGRAM, socket.CAN_ISOTP).close()
    except OSError:
        return "this kernel has none"
    return await _asked(by_kernel=True)


async def control_units_are_asked_by_the_library() -> str:
    """The can-isotp library on a raw socket."""
    return await _asked(by_kernel=False)


CHECKS: tuple[Callable[[], Awaitable[str]], ...] = (
    frames_arrive_as_sent,
    unwanted_frames_stay_in_the_kernel,
    an_overflow_is_counted,
    a_dead_interface_is_told_and_comes_back,
    an_absent_interface_is_named,
    control_units_are_asked_by_the_kernels_iso_tp,
    control_units_are_asked_by_the_library,
)


async def run() -> None:
    """Run all checks, each on its own."""
    for check in CHECKS:
        try:
            ok, detail = True, await check()
        except Exception as error:  # noqa: BLE001 - whatever went wrong is this check's result
            ok, detail = False, repr(error)
        say("RESULT", json.dumps({"check": check.__name__, "ok": ok, "detail": detail}))
    say("DONE")


if __name__ == "__main__":
    asyncio.run(run())
