from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from agent.config import Power
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.power import BATTERY, IGNITION, Hold
from agent.domain.vehicle import Signal
from agent.hal.clock import SystemUtc
from agent.paths.power_path import PowerPath
from hil.sim.sim_platform import SimSwitch
from hil.sim.virtual_loop import VirtualLoop


class Vehicle:
    """A vehicle on a loop whose time is a number, with what the path needs of it."""

    boot_id = "0" * 32

    def __init__(self, loop: VirtualLoop, **settings: Any) -> None:
        self.loop = loop
        self.signals: dict[str, Any] = {IGNITION: "ON", BATTERY: 12.6}
        self.moving = False
        self.holds: set[Hold] = set()
        self.health = HealthBoard()
        self.switch = SimSwitch()
        self.parked: list[bool] = []
        self.flushes = 0
        self.disk_hangs = False
        self.on_flush: Callable[[], None] = lambda: None
        self.path = PowerPath(
            Power(**{"shut_down": True, "off_after_s": 60, "low_battery_off_after_s": 20} | settings),
            self,
            self.health,
            signals=lambda: self.signals,
            moving=lambda: self.moving,
            holds=lambda: frozenset(self.holds),
            flush=self._flush,
            on_parked=self.parked.append,
            switch=self.switch,
        )

    def wanted(self) -> bool:
        """Whether the computer is to be turned off now."""
        return self.switch.wanted

    def asked(self) -> int:
        """How often the computer was to be turned off."""
        return self.switch.asked

    def boottime_ns(self) -> int:
        return self.loop.now_ns

    def suspended_ns(self) -> int:
        return 0

    def system_utc(self) -> SystemUtc:
        raise NotImplementedError

    async def _flush(self) -> None:
        self.flushes += 1
        self.on_flush()
        while self.disk_hangs:
            await asyncio.sleep(1)

    def ignition(self, value: str | None) -> None:
        """The signal changes, as the bus tells it."""
        self.signals[IGNITION] = value
        self.path.on_signals([Signal(IGNITION, value, self.boottime_ns())])


def in_vehicle(test: Callable[[Vehicle], Coroutine[Any, Any, None]], **settings: Any) -> None:
    loop = VirtualLoop()
    progress: list[float] = []

    async def run() -> None:
        vehicle = Vehicle(loop, **settings)
        running = loop.create_task(vehicle.path.run(lambda: progress.append(loop.time())))
        await asyncio.sleep(1)
        await test(vehicle)
        assert not running.done()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    try:
        loop.run_until_complete(run())
    finally:
        loop.close()
    assert max(later - earlier for earlier, later in itertools.pairwise(progress)) <= 2


def test_everything_is_written_before_the_system_is_asked() -> None:
    async def test(vehicle: Vehicle) -> None:
        vehicle.on_flush = lambda: vehicle.parked.append(vehicle.wanted())
        vehicle.ignition("OFF")
        await asyncio.sleep(70)
        assert vehicle.parked == [True, False], "parked, written, and not asked by then"
        assert (vehicle.wanted(), vehicle.switch.asked, vehicle.flushes) == (True, 1, 1)
        assert vehicle.path.snapshot() == {
            "ignition_on": False, "parked": True, "off_in_s": None, "held_by": [], "asked_to_turn_off": True,
        }  # fmt: skip

    in_vehicle(test)


def test_ignition_that_comes_on_is_not_waited_for() -> None:
    async def test(vehicle: Vehicle) -> None:
        vehicle.ignition("OFF")
        await asyncio.sleep(70.5)
        assert vehicle.wanted()
        vehicle.ignition("ON")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not vehicle.wanted()
        assert vehicle.parked == [True, False]

    in_vehicle(test)


def test_disk_that_hangs_keeps_the_computer_on_and_is_told_and_tried_again_later() -> None:
    async def test(vehicle: Vehicle) -> None:
        vehicle.disk_hangs = True
        vehicle.ignition("OFF")
        await asyncio.sleep(90)
        assert not vehicle.asked()
        assert "disk" in vehicle.health.details()[HealthReason.POWER_DOWN_FAILED]
        vehicle.disk_hangs = False
        await asyncio.sleep(700)
        assert vehicle.asked() == 1

    in_vehicle(test)


def test_press_during_the_flush_keeps_the_computer_on() -> None:
    async def test(vehicle: Vehicle) -> None:
        vehicle.on_flush = lambda: vehicle.holds.add(Hold.NOT_STORED)
        vehicle.ignition("OFF")
        await asyncio.sleep(90)
        assert not vehicle.asked()
        assert HealthReason.POWER_DOWN_FAILED not in vehicle.health.reasons()
        vehicle.on_flush = lambda: None
        vehicle.holds.clear()
        await asyncio.sleep(70)
        assert vehicle.wanted()

    in_vehicle(test)


def test_ignition_that_comes_on_while_the_disk_hangs_ends_the_wait() -> None:
    async def test(vehicle: Vehicle) -> None:
        vehicle.disk_hangs = True
        vehicle.ignition("OFF")
        await asyncio.sleep(63)
        vehicle.ignition("ON")
        await asyncio.sleep(30)
        assert not vehicle.asked()
        assert vehicle.health.reasons() == ()
        assert vehicle.parked == [True, False]

    in_vehicle(test)


def test_system_that_refuses_is_told() -> None:
    async def test(vehicle: Vehicle) -> None:
        vehicle.switch.refuses = True
        vehicle.ignition("OFF")
        await asyncio.sleep(70)
        assert "permission denied" in vehicle.health.details()[HealthReason.POWER_DOWN_FAILED]
        vehicle.switch.refuses = False
        await asyncio.sleep(650)
        assert vehicle.wanted()
        await asyncio.sleep(70)
        assert not vehicle.wanted(), "nothing came of it, and it is taken back"
        assert HealthReason.POWER_DOWN_FAILED in vehicle.health.reasons()

    in_vehicle(test)


def test_bus_that_said_off_and_went_to_sleep_is_off_and_one_that_is_gone_is_not() -> None:
    async def test(vehicle: Vehicle) -> None:
        vehicle.ignition("OFF")
        await asyncio.sleep(10)
        vehicle.signals[IGNITION] = None
        vehicle.health.raise_(HealthReason.CAN_SILENT)
        await asyncio.sleep(70)
        assert vehicle.wanted()
        vehicle.health.raise_(HealthReason.CAN_LOST)
        await asyncio.sleep(2)
        assert not vehicle.wanted()
        assert vehicle.parked == [True, False]

    in_vehicle(test)


def test_sense_that_never_spoke_turns_nothing_off_and_is_told() -> None:
    async def test(vehicle: Vehicle) -> None:
        vehicle.signals.clear()
        vehicle.path.resumed()
        await asyncio.sleep(3600)
        assert not vehicle.asked()
        assert HealthReason.IGNITION_DOUBTED in vehicle.health.reasons()
        vehicle.ignition("ON")
        await asyncio.sleep(2)
        assert vehicle.health.reasons() == ()

    in_vehicle(test)


def test_voltage_of_nonsense_shortens_nothing_and_a_low_one_does() -> None:
    async def test(vehicle: Vehicle) -> None:
        for nonsense in (None, 1e9, float("nan"), "low", True, 0):
            vehicle.signals[BATTERY] = nonsense
            vehicle.ignition("OFF")
            await asyncio.sleep(50)
            assert not vehicle.parked
            vehicle.ignition("ON")
            await asyncio.sleep(11)
        vehicle.signals[BATTERY] = 11.1
        vehicle.ignition("OFF")
        await asyncio.sleep(25)
        assert vehicle.wanted()

    in_vehicle(test)


def test_ignition_that_flaps_ten_times_a_second_asks_for_nothing() -> None:
    async def test(vehicle: Vehicle) -> None:
        for n in range(1000):
            vehicle.ignition("ON" if n % 2 else "OFF")
            await asyncio.sleep(0.1)
        vehicle.ignition("OFF")
        await asyncio.sleep(300)
        assert not vehicle.asked()
        assert "switched" in vehicle.health.details()[HealthReason.IGNITION_DOUBTED]
        await asyncio.sleep(600)
        assert vehicle.asked() == 1, "it rested in off"

    in_vehicle(test)


def test_unit_that_may_not_be_turned_off_parks_and_wakes() -> None:
    async def test(vehicle: Vehicle) -> None:
        vehicle.ignition("LOCK")
        await asyncio.sleep(600)
        assert vehicle.parked == [True]
        assert not vehicle.asked()
        assert not vehicle.flushes
        vehicle.holds.add(Hold.RUN)
        await asyncio.sleep(2)
        assert vehicle.parked == [True, False]

    in_vehicle(test, shut_down=False)
