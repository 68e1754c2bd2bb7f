"""Parking, the end of the power and the sleep of the computer, through the whole agent in simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.domain.health import HealthReason
from agent.domain.record import Kind, StatusChange
from agent.domain.state import HealthState, LinkState, LocationState
from agent.hal.buttons import Lamp
from agent.hal.samples import Sample
from hil.drive.nmea_writer import sentence
from hil.rig import NetworkCondition
from hil.sim.sim_rig import SimRig
from hil.sim.virtual_loop import VirtualLoop

pytestmark = pytest.mark.timeout(240)
START = datetime(2026, 3, 14, 12, tzinfo=UTC)
START_MS = round(START.timestamp() * 1000)
IGNITION = "LowVoltageSystemState"
BATTERY = "LowVoltageBattery.CurrentVoltage"


class Parked:
    """A vehicle with a wire from its ignition, a voltmeter, and a receiver that stands still.

    Attributes:
        ignition: what the wire says; None for a wire that says nothing.
        battery_v: what the voltmeter says.
    """

    def __init__(self, rig: SimRig) -> None:
        self.rig = rig
        self.ignition: str | None = "ON"
        self.battery_v: float | None = 12.6
        self.speed_kn = 0.0
        self.utc_lead_ms = 0

    async def live(self) -> None:
        """The devices speak once a second."""
        while True:
            if self.rig.daemon is not None:
                now_ns = self.rig.clock.boottime_ns()
                for name, signal, value in (
                    ("wire", IGNITION, self.ignition),
                    ("volts", BATTERY, self.battery_v),
                ):
                    if value is not None:
                        unit = None if name == "wire" else "volt"
                        self.rig.platform.sensor(name).say(Sample(signal, value, unit, now_ns))
                self.rig.say_nmea(self.rmc())
            await asyncio.sleep(1)

    def rmc(self) -> bytes:
        """The receiver's epoch: true time, and a place."""
        unix_ms = START_MS + round(asyncio.get_running_loop().time() * 1000) + self.utc_lead_ms
        at = datetime.fromtimestamp(unix_ms // 1000, UTC)
        body = f"GPRMC,{at:%H%M%S}.00,A,4221.00,N,07103.00,W,{self.speed_kn:.1f},90.0,{at:%d%m%y},,,A"
        return sentence(body)

    @property
    def link(self) -> LinkState:
        """What dispatch knows of the connection."""
        state = self.rig.dispatch.states["link"]
        assert isinstance(state, LinkState)
        return state

    @property
    def reasons(self) -> set[str]:
        """Health reasons as dispatch has them."""
        state = self.rig.dispatch.states["health"]
        assert isinstance(state, HealthState)
        return set(state.reasons)

    def parked(self) -> bool:
        """Whether dispatch knows that the unit parks."""
        assert self.link.parked is not None
        return self.link.parked

    def asked(self) -> int:
        """How often the computer was to be turned off."""
        return self.rig.platform.switch.asked

    def wanted(self) -> bool:
        """Whether the computer is to be turned off."""
        return self.rig.platform.switch.wanted

    async def press(self, key: str) -> None:
        """A short press."""
        self.rig.press(key)
        await asyncio.sleep(0.2)
        self.rig.release(key)
        await asyncio.sleep(2)


def in_vehicle(tmp_path: Path, test: Callable[[Parked], Awaitable[None]], **power: Any) -> None:
    overrides = {
        "power": {"shut_down": True, "off_after_s": 60, "low_battery_off_after_s": 20} | power,
        "device": [
            {"kind": "gnss_serial", "device": "sim-gnss"},
            {"kind": "button_box", "device": "sim-box"},
            {"kind": "switch_gpio", "name": "wire", "line": 4},
            {"kind": "temperature_w1", "name": "volts", "path": "volts", "signal": BATTERY},
        ],
    }

    async def main() -> None:
        async with SimRig(tmp_path, unix_ms=START_MS, overrides=overrides) as rig:
            await rig.boot()
            vehicle = Parked(rig)
            living = asyncio.create_task(vehicle.live())
            try:
                await asyncio.sleep(30)
                await test(vehicle)
                assert await rig.wait_delivered(600)
            finally:
                living.cancel()
                await asyncio.gather(living, return_exceptions=True)
            assert rig.dispatch.refused == []

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


def test_unit_parks_and_is_turned_off_and_the_ignition_takes_it_all_back(
    tmp_path: Path,
) -> None:
    async def test(vehicle: Parked) -> None:
        assert not vehicle.parked()
        vehicle.ignition = "OFF"
        await asyncio.sleep(55)
        assert not vehicle.wanted()
        await asyncio.sleep(15)
        assert vehicle.wanted()
        assert vehicle.parked()
        assert vehicle.link.online
        vehicle.ignition = "ON"
        await asyncio.sleep(3)
        assert not vehicle.wanted()
        assert not vehicle.parked()

    in_vehicle(tmp_path, test)


def test_parked_unit_tells_little_and_everything_once_it_moves(tmp_path: Path) -> None:
    async def test(vehicle: Parked) -> None:
        loop, told = asyncio.get_running_loop(), []

        def note(topic_name: str) -> None:
            told.append((loop.time(), topic_name))

        vehicle.rig.dispatch.listen(lambda: note(str(vehicle.rig.dispatch.states["location"].boottime_ms)))
        vehicle.ignition = "OFF"
        await asyncio.sleep(70)
        assert vehicle.parked()
        before = vehicle.rig.dispatch.states["location"].boottime_ms
        positions = len([a for a in vehicle.rig.dispatch.arrivals if a.record.kind is Kind.POSITION])
        await asyncio.sleep(360)
        seen = {name for at_s, name in told if at_s > loop.time() - 360 and int(name) > before}
        assert 2 <= len(seen) <= 4, "about one in two minutes"
        later = len([a for a in vehicle.rig.dispatch.arrivals if a.record.kind is Kind.POSITION])
        assert later - positions <= 4
        vehicle.speed_kn = 20
        await asyncio.sleep(5)
        assert not vehicle.parked(), "somebody drives off with it"
        location = vehicle.rig.dispatch.states["location"]
        assert isinstance(location, LocationState)
        assert location.position is not None
        assert (location.position.speed_mps or 0) > 5
        await asyncio.sleep(60)
        assert HealthReason.IGNITION_DOUBTED in vehicle.reasons

    in_vehicle(tmp_path, test, shut_down=False, parked_report_s=120)


def test_run_an_emergency_and_a_press_that_is_not_stored_keep_the_computer_on(tmp_path: Path) -> None:
    async def test(vehicle: Parked) -> None:
        await vehicle.press("on_scene")
        vehicle.ignition = "OFF"
        await asyncio.sleep(200)
        assert not vehicle.asked(), "on a run"
        assert not vehicle.parked()
        await vehicle.press("available")
        await asyncio.sleep(30)
        assert not vehicle.wanted()
        await asyncio.sleep(60)
        assert vehicle.wanted()
        await vehicle.press("emergency")
        assert not vehicle.wanted(), "an emergency takes back what was asked"
        await asyncio.sleep(200)
        assert vehicle.asked() == 1

    in_vehicle(tmp_path, test)


def test_disk_that_takes_no_press_keeps_the_computer_on(tmp_path: Path) -> None:
    async def test(vehicle: Parked) -> None:
        vehicle.rig.set_disk("full")
        await vehicle.press("available")
        vehicle.ignition = "OFF"
        await asyncio.sleep(200)
        assert not vehicle.asked()
        vehicle.rig.set_disk(None)
        await asyncio.sleep(120)
        assert vehicle.wanted()
        assert vehicle.rig.box.firmware.lamps["available"] is Lamp.DELIVERED

    in_vehicle(tmp_path, test)


def test_system_that_refuses_is_told_to_dispatch(tmp_path: Path) -> None:
    async def test(vehicle: Parked) -> None:
        vehicle.rig.platform.switch.refuses = True
        vehicle.ignition = "OFF"
        await asyncio.sleep(80)
        assert HealthReason.POWER_DOWN_FAILED in vehicle.reasons
        vehicle.ignition = "ON"
        await asyncio.sleep(130)
        assert HealthReason.POWER_DOWN_FAILED not in vehicle.reasons

    in_vehicle(tmp_path, test)


def test_sense_that_is_gone_keeps_the_computer_on_and_is_told_to_dispatch(tmp_path: Path) -> None:
    async def test(vehicle: Parked) -> None:
        vehicle.ignition = "OFF"
        await asyncio.sleep(30)
        vehicle.rig.platform.sensor("wire").unplug()
        await asyncio.sleep(200)
        assert not vehicle.asked()
        assert HealthReason.IGNITION_DOUBTED in vehicle.reasons
        vehicle.rig.platform.sensor("wire").plug_in()
        await asyncio.sleep(80)
        assert vehicle.wanted()

    in_vehicle(tmp_path, test)


def test_low_battery_turns_the_computer_off_sooner_and_nonsense_does_not(tmp_path: Path) -> None:
    async def test(vehicle: Parked) -> None:
        vehicle.battery_v, vehicle.ignition = 1e9, "OFF"
        await asyncio.sleep(40)
        assert not vehicle.wanted()
        vehicle.battery_v = 11.0
        await asyncio.sleep(15)
        assert vehicle.wanted()

    in_vehicle(tmp_path, test)


def test_end_by_the_system_is_said_as_planned_and_parked(tmp_path: Path) -> None:
    async def test(vehicle: Parked) -> None:
        vehicle.ignition = "OFF"
        await asyncio.sleep(70)
        assert vehicle.wanted()
        await vehicle.rig.shut_down()
        assert (vehicle.link.online, vehicle.link.planned, vehicle.link.parked) == (False, True, True)
        await vehicle.rig.boot()
        await asyncio.sleep(20)
        assert (vehicle.link.online, vehicle.link.parked) == (True, False)

    in_vehicle(tmp_path, test)


@pytest.mark.parametrize("slept_s", [5, 3600, 86_400])
def test_sleep_of_the_computer_invents_no_time_and_no_fault(tmp_path: Path, slept_s: int) -> None:
    async def test(vehicle: Parked) -> None:
        rig, loop = vehicle.rig, asyncio.get_running_loop()
        await vehicle.press("en_route")
        raised = rig.daemon.health.raises() if rig.daemon else {}
        # The clocks and the world go on while nothing in the computer does; its connection dies of it.
        rig.clock.suspend(slept_s * 10**9)
        vehicle.utc_lead_ms += slept_s * 1000
        await rig.drop_connections()
        woke_s = loop.time()
        connections = rig.daemon.publisher.snapshot().connections if rig.daemon else 0
        await asyncio.sleep(2)
        assert rig.daemon is not None
        assert rig.daemon.publisher.snapshot().connected
        assert rig.daemon.publisher.snapshot().connections > connections
        location = rig.dispatch.states["location"]
        assert isinstance(location, LocationState)
        assert location.position is not None, "live again"
        assert location.boottime_ms >= (woke_s + slept_s - 2) * 1000 - 1000
        await vehicle.press("on_scene")
        await asyncio.sleep(20)
        assert await rig.wait_delivered(60)
        presses = [one.record for one in rig.dispatch.arrivals if isinstance(one.record.body, StatusChange)]
        first, second = presses[0], presses[-1]
        assert first.utc_ms is not None
        assert second.utc_ms is not None
        assert second.utc_ms - first.utc_ms == second.boottime_ms - first.boottime_ms
        true_ms = START_MS + (woke_s + 2) * 1000 + slept_s * 1000
        assert abs(second.utc_ms - true_ms) <= 100 + (second.utc_uncertainty_ms or 0)
        new = {
            reason for reason, times in rig.daemon.health.raises().items() if times > raised.get(reason, 0)
        }
        assert new <= {HealthReason.BROKER_UNREACHABLE}, new
        assert rig.daemon.status()["units"]["crew"] == "running"

    in_vehicle(tmp_path, test)


def test_sleep_with_the_ignition_off_is_no_time_towards_the_end(tmp_path: Path) -> None:
    async def test(vehicle: Parked) -> None:
        vehicle.ignition = "OFF"
        await asyncio.sleep(30)
        vehicle.rig.clock.suspend(7200 * 10**9)
        vehicle.utc_lead_ms += 7_200_000
        await asyncio.sleep(30)
        assert not vehicle.wanted()
        await asyncio.sleep(50)
        assert vehicle.asked()

    in_vehicle(tmp_path, test)


def test_sleep_without_a_network_is_taken_up_when_there_is_one(tmp_path: Path) -> None:
    async def test(vehicle: Parked) -> None:
        await vehicle.rig.set_network(NetworkCondition(half_open=True))
        await vehicle.press("on_scene")
        vehicle.rig.clock.suspend(600 * 10**9)
        vehicle.utc_lead_ms += 600_000
        await asyncio.sleep(10)
        await vehicle.rig.set_network(NetworkCondition())
        assert await vehicle.rig.wait_delivered(120)

    in_vehicle(tmp_path, test)
