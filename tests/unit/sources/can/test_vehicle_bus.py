"""The bus as a unit: what it tells, and what it says of its health."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.domain.health import HealthBoard, HealthReason
from agent.domain.vehicle import Signal
from agent.hal.can import CanFilter, CanFrame
from agent.hal.errors import DeviceLostError
from agent.recorder.window_ring import WindowRing
from agent.sources.can import vehicle_bus
from agent.sources.can.can_decoder import BitField, CanDecoder, MessageLayout, SignalLayout
from agent.sources.can.decoder_compiler import compile_decoder
from agent.sources.can.impact_tap import ImpactTap
from agent.sources.can.signal_changes import SignalChanges
from agent.sources.can.vehicle_bus import VehicleBus
from agent.sources.can.vehicle_file import load_vehicle_file
from agent.sources.diagnostics.j1939_diagnostics import FILTERS, ActiveFaults, FaultTap

BYTE = SignalLayout(name="Speed", unit="km/h", bits=BitField(0, 0xFF, False), min_interval_ns=50_000_000)
DECODER_MESSAGE = MessageLayout("M", 1, False, 1, (BYTE,), 0xFF, False)


class ScriptedBus:
    """A feed that gives what the test puts in."""

    def __init__(self) -> None:
        self.name = "can-test"
        self.overruns = 0
        self.error_frames = 0
        self.is_open = False
        self.wanted: Sequence[CanFilter] = ()
        self.queue: asyncio.Queue[Sequence[CanFrame] | Exception] = asyncio.Queue()

    def listen_for(self, wanted: Sequence[CanFilter]) -> None:
        self.wanted = wanted

    async def open(self) -> None:
        self.is_open = True

    async def read(self) -> Sequence[CanFrame]:
        item = await self.queue.get()
        if isinstance(item, Exception):
            raise item
        return item

    async def close(self) -> None:
        self.is_open = False


class Bench:
    """A bus under test, running."""

    def __init__(self, silent_after_s: float = 60) -> None:
        self.feed = ScriptedBus()
        self.health = HealthBoard()
        self.signals: list[Signal] = []
        self.progress = 0
        self.bus = VehicleBus(self.feed, self.decoder, self.health, silent_after_s=silent_after_s)
        self.may_decode = asyncio.Event()
        self.may_decode.set()

    async def decoder(self) -> CanDecoder:
        await self.may_decode.wait()
        return CanDecoder([DECODER_MESSAGE])

    def hear(self, value: int, at_ns: int = 1, can_id: int = 1) -> None:
        self.feed.queue.put_nowait([CanFrame(can_id, False, bytes([value]), at_ns)])

    def progressed(self) -> None:
        self.progress += 1

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # conditions of many objects, without events
                await asyncio.sleep(0.005)

    def run(self, script: Callable[[Bench], Awaitable[None]]) -> None:
        async def main() -> None:
            running = asyncio.create_task(self.bus.run(self.signals.extend, self.progressed))
            try:
                await script(self)
            finally:
                running.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running
            assert not self.feed.is_open
            assert self.health.reasons() == ()

        asyncio.run(main())


@pytest.fixture(autouse=True)
def quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vehicle_bus, "TICK_S", 0.02)


def test_signals_are_told_and_progress_goes_on_in_silence() -> None:
    async def script(bench: Bench) -> None:
        bench.hear(7)
        await bench.until(lambda: bench.signals)
        assert bench.signals == [Signal("Speed", 7, 1)]
        before = bench.progress
        await bench.until(lambda: bench.progress > before + 3)

    Bench().run(script)


def test_a_held_change_is_told_although_nothing_follows() -> None:
    async def script(bench: Bench) -> None:
        bench.hear(7, at_ns=1_000_000_000)
        bench.hear(8, at_ns=1_001_000_000)
        await bench.until(lambda: len(bench.signals) == 2)
        assert bench.signals[-1] == Signal("Speed", 8, 1_001_000_000)

    Bench().run(script)


def test_silence_is_told_and_ends_with_a_wanted_frame() -> None:
    async def script(bench: Bench) -> None:
        await bench.until(lambda: bench.health.reasons() == (HealthReason.CAN_SILENT,))
        assert "can-test: no wanted frame for 0.05 s" in bench.health.details().values()
        bench.hear(1, can_id=2)
        await bench.until(bench.feed.queue.empty)
        assert bench.health.reasons() == (HealthReason.CAN_SILENT,)
        bench.hear(1)
        await bench.until(lambda: bench.health.reasons() == ())

    Bench(silent_after_s=0.05).run(script)


def test_lost_frames_are_told_and_forgotten_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vehicle_bus, "OVERRUN_LASTS_S", 0.1)

    async def script(bench: Bench) -> None:
        await bench.until(lambda: bench.progress)
        bench.feed.overruns = 3
        await bench.until(lambda: bench.health.reasons() == (HealthReason.CAN_OVERRUN,))
        assert bench.health.details()[HealthReason.CAN_OVERRUN].startswith("can-test: 3 frames lost")
        await bench.until(lambda: bench.health.reasons() == ())

    Bench().run(script)


def test_a_lost_device_is_raised_and_the_feed_closed() -> None:
    async def main() -> None:
        bench = Bench(silent_after_s=0.01)
        bench.feed.queue.put_nowait(DeviceLostError("can-test", "gone"))
        with pytest.raises(DeviceLostError):
            await bench.bus.run(bench.signals.extend, bench.progressed)
        assert not bench.feed.is_open
        assert bench.health.reasons() == (HealthReason.CAN_LOST,)

    asyncio.run(main())


def test_opening_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vehicle_bus, "OPEN_TIMEOUT_S", 0.02)

    async def main() -> None:
        bench = Bench()

        async def never() -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(bench.feed, "open", never)
        with pytest.raises(Exception, match="opening takes too long"):
            await bench.bus.run(bench.signals.extend, bench.progressed)
        assert bench.progress == 0  # it is not well before it is open

    asyncio.run(main())


def test_the_rest_goes_on_while_the_decoder_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vehicle_bus, "TICK_S", 0.01)
    bench = Bench()

    async def script(bench: Bench) -> None:
        await bench.until(lambda: bench.progress > 3)  # the watchdog sees a unit that is well
        assert not bench.feed.is_open
        assert bench.bus.report() == {}
        bench.may_decode.set()
        bench.hear(7)
        await bench.until(lambda: bench.signals)

    bench.may_decode.clear()
    bench.run(script)


def test_stopping_while_the_decoder_is_made_ends_the_making() -> None:
    bench = Bench()
    bench.may_decode.clear()

    async def script(bench: Bench) -> None:
        await bench.until(lambda: bench.progress)

    bench.run(script)


def test_the_report_tells_what_came_and_what_never_did() -> None:
    bench = Bench()

    async def script(bench: Bench) -> None:
        await bench.until(lambda: bench.feed.is_open)
        assert bench.bus.report()["signals_never_heard"] == ["Speed"]
        bench.hear(7)
        bench.hear(7, can_id=2)
        await bench.until(lambda: bench.bus.report()["heard"] == 2)
        report = bench.bus.report()
        assert (report["unwanted"], report["short"], report["lost"]) == (1, 0, 0)
        assert report["signals_never_heard"] == []

    bench.run(script)


def test_a_disturbed_bus_is_told_and_a_plug_that_is_plugged_in_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vehicle_bus, "TICK_S", 0.01)
    monkeypatch.setattr(vehicle_bus, "OVERRUN_LASTS_S", 0.2)
    bench = Bench()

    async def script(bench: Bench) -> None:
        bench.feed.error_frames = 9
        await bench.until(lambda: bench.progress > 3)
        assert HealthReason.CAN_ERRORS not in bench.health.reasons()
        bench.feed.error_frames = 40
        await bench.until(lambda: HealthReason.CAN_ERRORS in bench.health.reasons())
        assert "40 error frames" in bench.health.details()[HealthReason.CAN_ERRORS]
        assert bench.bus.report()["error_frames"] == 40
        await bench.until(lambda: HealthReason.CAN_ERRORS not in bench.health.reasons())

    bench.run(script)


def test_trouble_codes_are_heard_beside_the_signals() -> None:
    bench = Bench()
    heard: list[tuple[int, list[int]]] = []

    def on_faults(said: ActiveFaults) -> None:
        heard.append((said.controller, [code.spn for code in said.codes]))

    bench.bus = VehicleBus(
        bench.feed, bench.decoder, bench.health, silent_after_s=60, taps=[FaultTap(on_faults)]
    )

    async def script(bench: Bench) -> None:
        await bench.until(lambda: bench.feed.is_open)
        assert set(FILTERS) < set(bench.feed.wanted)
        data = bytes.fromhex("40FF6E000301FFFF")
        bench.feed.queue.put_nowait([CanFrame(0x18FECA21, True, data, 5), CanFrame(1, False, b"\x07", 6)])
        await bench.until(lambda: bench.signals)
        assert heard == [(0x21, [110])]
        assert bench.signals[0].value == 7

    bench.run(script)


CHASSIS = Path(__file__).resolve().parents[4] / "config" / "vehicles" / "j1939_chassis.toml"


def test_storms_of_a_j1939_bus_change_nothing_and_grow_nothing() -> None:
    """Address claims of everybody, announcements without end, and each parameter group from each address."""
    told: list[ActiveFaults] = []
    tap = FaultTap(told.append)
    layouts = compile_decoder(load_vehicle_file(CHASSIS), CHASSIS)
    changes = SignalChanges(layouts)
    ring = WindowRing(60_000_000_000, most_bytes=200_000)
    impact = ImpactTap(lambda: layouts, lambda frames: ring.frames("can/can0", frames), lambda _: None)

    def storm(turn: int) -> list[CanFrame]:
        at_ns = turn * 10_000_000
        claims = [CanFrame(0x18EEFF00 | one, True, bytes([turn % 256] * 8), at_ns) for one in range(256)]
        announced = b"\x20\xff\x00\x25\xff\xca\xfe\x00"
        bams = [CanFrame(0x1CECFF00 | one, True, announced, at_ns) for one in range(256)]
        speeds = [CanFrame(0x18FEF100 | one, True, b"\xff" * 8, at_ns) for one in range(256)]
        return claims + bams + speeds

    def held() -> int:
        return sum(len(message.heard) for message in changes._messages.values()) + len(changes._known)

    sizes = []
    for turn in range(60):
        frames = storm(turn)
        tap.take(frames)
        impact.take(frames)
        assert all(signal.value is None for signal in changes.take(frames))
        sizes.append(held())
    assert told == []
    assert sizes[-1] == sizes[1]
    assert len(tap._diagnostics.transport._open) <= 32
    assert ring._size <= 200_000 + 10_000


def test_what_a_bus_said_is_unknown_once_it_is_lost() -> None:
    bench = Bench()
    bench.hear(7, at_ns=5)
    bench.feed.queue.put_nowait(DeviceLostError("bus", "gone"))

    async def main() -> None:
        with pytest.raises(DeviceLostError):
            await bench.bus.run(bench.signals.extend, bench.progressed)

    asyncio.run(main())
    assert bench.signals == [Signal("Speed", 7, 5), Signal("Speed", None, 5)]
