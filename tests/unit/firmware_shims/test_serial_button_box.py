"""The box's driver on a line that harms, with a clock that drifts: sequence, time, lamps."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from agent.hal.buttons import ButtonEdge, Lamp
from agent.hal.clock import SystemUtc
from agent.hal.errors import DeviceLostError, DeviceNotFoundError, DeviceProtocolError
from firmware_shims.button_box_protocol import Acknowledge, Event, Hello, SetLamp, encode, lamps_digest
from firmware_shims.serial_button_box import BoxClock, SerialButtonBox
from firmware_shims.simulated.memory_button_box import MemoryButtonBox

SESSION = 0x5EAF00D


class ManualClock:
    """Boot time as it is set."""

    boot_id = "0" * 32

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000_000

    def boottime_ns(self) -> int:
        return self.now_ns

    def suspended_ns(self) -> int:
        return 0

    def system_utc(self) -> SystemUtc:
        raise NotImplementedError


class ScriptedLine:
    """Gives what the test puts in, keeps what the driver writes."""

    device = "scripted"

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self.written: list[bytes] = []

    async def open(self) -> None:
        pass

    async def read(self) -> bytes:
        return await self.incoming.get()

    async def write(self, data: bytes) -> None:
        self.written.append(data)

    async def close(self) -> None:
        pass


class Bench:
    """A driver on a scripted line."""

    def __init__(self, silent_after_s: float = 5.0) -> None:
        self.line = ScriptedLine()
        self.clock = ManualClock()
        self.panel = SerialButtonBox(self.line, self.clock, silent_after_s=silent_after_s)

    def hello(self, last: int = 0, oldest: int = 1, sent_ms: int = 1000, **values: int) -> None:
        lamps = values.get("lamps", lamps_digest({}))
        version, session = values.get("version", 1), values.get("session", SESSION)
        self.line.incoming.put_nowait(encode(Hello(version, session, last, oldest, sent_ms, lamps)))

    def event(
        self,
        seq: int,
        *,
        oldest: int = 1,
        sent_ms: int = 1000,
        at_ms: int | None = None,
        session: int = SESSION,
    ) -> None:
        at_ms = sent_ms if at_ms is None else at_ms
        pressed = seq % 2 == 1
        self.line.incoming.put_nowait(encode(Event(session, seq, oldest, sent_ms, at_ms, pressed, "scene")))

    async def edges(self) -> list[ButtonEdge]:
        """All edges in what was put in."""
        found: list[ButtonEdge] = []
        with suppress(TimeoutError):
            while True:
                async with asyncio.timeout(0.02):
                    found += await self.panel.read()
        return found


def on_bench(test: Callable[[Bench], Coroutine[Any, Any, None]], silent_after_s: float = 5.0) -> None:
    async def run() -> None:
        bench = Bench(silent_after_s)
        bench.hello()
        await bench.panel.open()
        await test(bench)
        await bench.panel.close()

    asyncio.run(run())


def test_edges_out_of_sequence_wait_for_the_one_that_was_damaged() -> None:
    async def run(bench: Bench) -> None:
        bench.event(2)
        bench.event(3)
        assert await bench.edges() == []
        for seq in (1, 2, 3):
            bench.event(seq)
        assert [edge.device_seq for edge in await bench.edges()] == [1, 2, 3]

    on_bench(run)


def test_edges_the_box_no_longer_keeps_are_skipped_and_seen_as_a_gap() -> None:
    async def run(bench: Bench) -> None:
        bench.event(1)
        bench.event(7, oldest=7)
        assert [edge.device_seq for edge in await bench.edges()] == [1, 7]
        bench.hello(last=11, oldest=10)
        bench.event(10, oldest=10)
        (edge,) = await bench.edges()
        assert edge.device_seq == 10
        await bench.panel.acknowledge(edge)
        assert bench.line.written[-1] == encode(Acknowledge(SESSION, 10))

    on_bench(run)


def test_repeat_of_an_acknowledged_edge_is_acknowledged_again_others_are_not() -> None:
    async def run(bench: Bench) -> None:
        bench.event(1)
        bench.event(2)
        first, _ = await bench.edges()
        await bench.panel.acknowledge(first)
        bench.line.written.clear()
        bench.event(1)
        bench.event(2)
        assert await bench.edges() == []
        assert bench.line.written == [encode(Acknowledge(SESSION, 1))]
        bench.line.written.clear()
        bench.event(2, oldest=2)
        assert await bench.edges() == []
        assert bench.line.written == []

    on_bench(run)


def test_last_edges_of_a_power_up_and_first_of_the_next_in_one_read() -> None:
    async def run(bench: Bench) -> None:
        bench.event(1)
        assert len(await bench.edges()) == 1
        old = encode(Event(SESSION, 2, 1, 1100, 1100, False, "scene"))
        new = encode(Event(99, 1, 1, 5, 5, True, "route"))
        bench.line.incoming.put_nowait(old + new)
        assert [(edge.device_session, edge.device_seq) for edge in await bench.edges()] == [
            (SESSION, 2),
            (99, 1),
        ]

    on_bench(run)


def test_resent_press_has_the_time_it_was_pressed() -> None:
    async def run(bench: Bench) -> None:
        bench.clock.now_ns = 50_000_000_000
        bench.hello(sent_ms=600_000)
        bench.event(1, sent_ms=600_001, at_ms=580_000)
        (edge,) = await bench.edges()
        assert edge.at_boottime_ns == 29_999_000_000

    on_bench(run)


def test_press_from_before_the_computer_started_has_a_negative_boot_time() -> None:
    async def run(bench: Bench) -> None:
        bench.clock.now_ns = 8_000_000_000
        bench.event(1, sent_ms=600_000, at_ms=590_000)
        (edge,) = await bench.edges()
        assert edge.at_boottime_ns == -2_000_000_000

    on_bench(run)


def test_press_is_never_stamped_later_than_it_was_received() -> None:
    async def run(bench: Bench) -> None:
        bench.event(1, sent_ms=1000, at_ms=90_000)  # a box that contradicts itself
        (edge,) = await bench.edges()
        assert edge.at_boottime_ns == bench.clock.now_ns

    on_bench(run)


@pytest.mark.parametrize("drift_ppm", [-100, 0, 100])
def test_clock_estimate_follows_a_drifting_crystal_through_jitter(drift_ppm: int) -> None:
    rng = random.Random(drift_ppm)
    clock, worst_ms = BoxClock(), 0.0
    for second in range(6 * 3600):
        true_ns = 77_000_000_000 + second * 1_000_000_000
        box_ms = int(second * 1000 * (1 + drift_ppm * 1e-6))
        clock.sample(box_ms, true_ns + round(rng.expovariate(1 / 8e6)))  # 8 ms on the way, on average
        if second > 10:
            worst_ms = max(worst_ms, abs(clock.boottime_ns(box_ms) - true_ns) / 1e6)
    assert worst_ms < 10


def test_delay_of_lines_that_waited_together_does_not_count() -> None:
    async def run(bench: Bench) -> None:
        bench.clock.now_ns = 100_000_000_000
        waited = [encode(Event(7, 1, 1, 1000, 1000, True, "scene"))]
        waited += [
            encode(Hello(1, 7, 1, 1, sent_ms, lamps_digest({}))) for sent_ms in range(2000, 9000, 1000)
        ]
        bench.line.incoming.put_nowait(b"".join(waited))
        (edge,) = await bench.edges()
        assert edge.at_boottime_ns == 93_000_000_000

    on_bench(run)


def test_lamps_are_told_again_only_when_they_differ_and_the_box_holds_no_news() -> None:
    async def run(bench: Bench) -> None:
        await bench.panel.show("scene", Lamp.STORED)
        bench.line.written.clear()
        bench.hello(lamps=lamps_digest({"scene": Lamp.STORED}))
        bench.hello(last=1, lamps=lamps_digest({"scene": Lamp.NOT_STORED}))
        assert await bench.edges() == []
        assert bench.line.written == []
        bench.hello(lamps=lamps_digest({}))
        assert await bench.edges() == []
        assert bench.line.written == [encode(SetLamp("scene", Lamp.STORED))]

    on_bench(run)


def test_dark_lamp_that_stays_dark_is_not_told() -> None:
    async def run(bench: Bench) -> None:
        await bench.panel.show("scene", Lamp.OFF)
        assert bench.line.written == []
        bench.event(1)
        await bench.edges()
        await bench.panel.show("scene", Lamp.OFF)  # the box lit it when the key went down
        assert len(bench.line.written) == 1

    on_bench(run)


def test_silent_box_is_lost_and_garbage_is_silence() -> None:
    async def run(bench: Bench) -> None:
        for _ in range(20):
            bench.line.incoming.put_nowait(b"\x00\xff garbage \n")
        with pytest.raises(DeviceLostError, match=r"silent for 0\.1 s"):
            await bench.panel.read()
        assert bench.panel.bad_lines == 20

    on_bench(run, silent_after_s=0.1)


def test_line_without_a_box_is_not_found() -> None:
    async def run() -> None:
        bench = Bench(silent_after_s=0.05)
        with pytest.raises(DeviceNotFoundError, match="spoke like a button box"):
            await bench.panel.open()

    asyncio.run(run())


def test_box_of_another_version_is_named() -> None:
    async def run() -> None:
        bench = Bench()
        bench.hello(version=2)
        with pytest.raises(DeviceProtocolError, match="version 2"):
            await bench.panel.open()

    asyncio.run(run())


def test_box_in_memory_behaves_as_the_one_on_a_pty() -> None:
    async def run() -> None:
        box = MemoryButtonBox(random.Random(1))
        box.start()
        clock = ManualClock()
        panel = SerialButtonBox(box, clock, silent_after_s=5)
        await panel.open()
        box.press("scene")
        (edge,) = await panel.read()
        await panel.acknowledge(edge)
        await panel.show("scene", Lamp.STORED)
        assert box.firmware.lamps == {"scene": Lamp.STORED}
        assert box.firmware.unacknowledged == 0
        box.unplug()
        with pytest.raises(DeviceLostError):
            await panel.read()
        with pytest.raises(DeviceLostError):
            await panel.show("scene", Lamp.OFF)
        await panel.close()
        with pytest.raises(DeviceNotFoundError):
            await panel.open()
        box.plug()
        box.release("scene")
        await panel.open()
        (edge,) = await panel.read()
        assert edge.device_seq == 2
        await panel.close()
        box.stop()

    asyncio.run(run())
