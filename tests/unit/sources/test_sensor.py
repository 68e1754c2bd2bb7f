"""A sensor as part of the agent: units, silence, loss."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from agent.domain.health import HealthBoard, HealthReason
from agent.domain.vehicle import Signal
from agent.hal.errors import HardwareError
from agent.hal.samples import Sample
from agent.sources.sensor import SensorSource
from firmware_shims.simulated.scripted_feed import ScriptedFeed
from hil.sim.virtual_loop import VirtualLoop

NAME = "Ambulance.PatientCompartment.Temperature"


class Bench:
    def __init__(self) -> None:
        self.feed: ScriptedFeed[Sample] = ScriptedFeed("probe")
        self.health = HealthBoard()
        self.signals: list[Signal] = []
        self.progress = 0
        self.source = SensorSource(self.feed, self.health, silent_after_s=5)

    def take(self, signals: Sequence[Signal]) -> None:
        self.signals += signals

    def progressed(self) -> None:
        self.progress += 1

    async def run(self, act: Callable[[], Awaitable[None]]) -> BaseException | None:
        task = asyncio.create_task(self.source.run(self.take, self.progressed))
        await asyncio.sleep(0)
        await act()
        if not task.done():
            task.cancel()
        await asyncio.wait([task])
        return None if task.cancelled() else task.exception()


def on_virtual_time(main: Callable[[], Awaitable[None]]) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_a_reading_becomes_a_signal_in_the_unit_of_its_name() -> None:
    bench = Bench()

    async def act() -> None:
        bench.feed.say(Sample(NAME, 68.0, "fahrenheit", 7))
        bench.feed.say(Sample(NAME, 21.5, "celsius", 8))
        bench.feed.say(Sample("Acme.Thing", True, None, 9))
        await asyncio.sleep(1)

    async def main() -> None:
        assert await bench.run(act) is None

    on_virtual_time(main)
    assert bench.signals[0].value == pytest.approx(20.0)
    assert bench.signals[1:] == [Signal(NAME, 21.5, 8), Signal("Acme.Thing", True, 9)]


def test_silence_is_named_and_ends_with_the_next_reading() -> None:
    bench = Bench()

    async def act() -> None:
        bench.feed.say(Sample(NAME, 21.5, "celsius", 8))
        await asyncio.sleep(4)
        assert bench.health.reasons() == ()
        await asyncio.sleep(3)
        assert bench.health.reasons() == (HealthReason.SENSOR_SILENT,)
        assert "probe" in bench.health.details()[HealthReason.SENSOR_SILENT]
        bench.feed.say(Sample(NAME, None, "celsius", 8))
        await asyncio.sleep(1)
        assert bench.health.reasons() == (HealthReason.SENSOR_SILENT,)
        bench.feed.say(Sample(NAME, 22.0, "celsius", 9))
        await asyncio.sleep(1)
        assert bench.health.reasons() == ()

    async def main() -> None:
        assert await bench.run(act) is None

    on_virtual_time(main)
    assert bench.progress > 10


def test_a_lost_sensor_is_named_and_what_it_gave_is_unknown_at_once() -> None:
    bench = Bench()

    async def act() -> None:
        bench.feed.say(Sample(NAME, 21.5, "celsius", 8))
        await asyncio.sleep(1)
        bench.feed.unplug()
        await asyncio.sleep(1)

    async def main() -> None:
        assert isinstance(await bench.run(act), HardwareError)

    on_virtual_time(main)
    assert bench.signals[-1].value is None
    assert bench.health.reasons() == (HealthReason.SENSOR_LOST,)


def test_one_sensor_does_not_clear_what_another_raised() -> None:
    health = HealthBoard()

    async def main() -> None:
        absent: ScriptedFeed[Sample] = ScriptedFeed("absent")
        absent.unplug()
        present: ScriptedFeed[Sample] = ScriptedFeed("present")
        with pytest.raises(HardwareError):
            await SensorSource(absent, health, silent_after_s=5).run(lambda _: None, lambda: None)
        well = asyncio.create_task(
            SensorSource(present, health, silent_after_s=5).run(lambda _: None, lambda: None)
        )
        await asyncio.sleep(0)
        present.say(Sample(NAME, 21.5, "celsius", 8))
        await asyncio.sleep(1)
        assert "absent" in health.details()[HealthReason.SENSOR_LOST]
        well.cancel()
        await asyncio.wait([well])

    on_virtual_time(main)


def test_a_unit_that_the_signal_can_not_have_is_a_defect() -> None:
    bench = Bench()

    async def act() -> None:
        bench.feed.say(Sample(NAME, 3.3, "V", 8))
        await asyncio.sleep(1)

    async def main() -> None:
        assert isinstance(await bench.run(act), ValueError)

    on_virtual_time(main)


def test_a_reading_without_an_end_is_no_value() -> None:
    bench = Bench()

    async def act() -> None:
        for at_ns, value in enumerate((float("inf"), float("nan"), 21.5)):
            bench.feed.say(Sample(NAME, value, "celsius", at_ns))
        await asyncio.sleep(1)

    on_virtual_time(lambda: _ended_well(bench, act))
    assert [signal.value for signal in bench.signals] == [None, None, 21.5]


async def _ended_well(bench: Bench, act: Callable[[], Awaitable[None]]) -> None:
    assert await bench.run(act) is None
