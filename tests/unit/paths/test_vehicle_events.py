"""What the vehicle says becomes records, with their own time, place and odometer."""

from __future__ import annotations

from typing import Any

from agent.config import Driving, Watch
from agent.domain.fix import Fix, FixMode
from agent.domain.odometer import OdometerReading
from agent.domain.record import Body, Draft, Excursion, OdometerSource, TripRecord, TroubleCode
from agent.domain.record import Driving as DrivingRecord
from agent.domain.time_base import TimeBase
from agent.domain.trouble_codes import Code, Lamps
from agent.domain.vehicle import Signal
from agent.paths.vehicle_events import Around, VehicleEvents

S = 1_000_000_000
LAMPS = Lamps(malfunction=True, stop=False, warning=False, protect=False)


class Shelf:
    """An outbox that keeps what is staged."""

    def __init__(self) -> None:
        self.drafts: list[Draft] = []

    def stage(self, draft: Draft) -> None:
        self.drafts.append(draft)

    def bodies(self) -> list[Body]:
        return [draft.body for draft in self.drafts]


def fix(at_ns: int) -> Fix:
    return Fix(None, 42.35, -71.06, None, 10.0, None, FixMode.FIX_3D, 9, 0.9, at_ns)


class Bench:
    def __init__(self, driving: Driving | None = None, *watches: Watch) -> None:
        self.shelf = Shelf()
        self.fix: Fix | None = None
        self.odometer: OdometerReading | None = None
        outbox: Any = self.shelf
        self.events = VehicleEvents(
            driving,
            watches,
            TimeBase(),
            outbox,
            newest_fix=lambda: self.fix,
            odometer=lambda: self.odometer,
            around=lambda: Around("transporting", "4711", "m1"),
        )

    def say(self, at_s: float, name: str, value: Any) -> None:
        self.events.on_signals([Signal(name, value, round(at_s * S))])


def test_a_trouble_code_has_place_time_and_odometer() -> None:
    bench = Bench()
    bench.fix = fix(99 * S)
    bench.odometer = OdometerReading(48_213_700.0, OdometerSource.VEHICLE)
    bench.events.on_faults(0, LAMPS, [Code(110, 3, 1)], 100 * S)
    bench.events.look(200 * S)
    came, gone = bench.shelf.bodies()
    assert isinstance(came, TroubleCode)
    assert isinstance(gone, TroubleCode)
    assert (came.active, came.spn, came.odometer_m) == (True, 110, 48_213_700)
    assert (came.status, came.incident, came.stage) == ("transporting", "4711", "confirmed")
    assert came.position is not None
    assert came.position.lat_deg == 42.35
    assert bench.shelf.drafts[0].stamp.boottime_ns == 100 * S
    assert (gone.active, gone.position) == (False, None)  # the fix is too old to say where
    assert bench.events.snapshot() == {"trouble_codes": [], "outside_limits": [], "excursions": []}


def test_driving_is_judged_only_where_it_is_configured() -> None:
    for driving, expected in ((None, 0), (Driving(), 1)):
        bench = Bench(driving)
        for step in range(100):
            bench.fix = fix(step * S // 10)
            bench.say(step / 10, "Speed", 60 if step < 50 else max(0, 60 - (step - 50) * 2.5))
        found = [body for body in bench.shelf.bodies() if isinstance(body, DrivingRecord)]
        assert len(found) == expected
        for event in found:
            assert event.event == "braking"
            assert event.position is not None


def test_an_excursion_is_told_from_its_beginning() -> None:
    watch = Watch(name="drug_fridge", signal="Ambulance.DrugFridge.Temperature", low=2, high=8, dwell_s=60)
    bench = Bench(None, watch)
    for at_s in range(0, 200, 10):
        bench.say(at_s, watch.signal, 5 if at_s < 50 else 9)
    (excursion,) = bench.shelf.bodies()
    assert isinstance(excursion, Excursion)
    assert (excursion.place, excursion.open, excursion.extreme) == ("drug_fridge", True, 9)
    assert bench.shelf.drafts[0].stamp.boottime_ns == 50 * S
    assert bench.events.snapshot()["outside_limits"] == ["drug_fridge"]


def test_a_trip_has_both_its_ends() -> None:
    bench = Bench()
    bench.fix = fix(10 * S)
    bench.say(10, "LowVoltageSystemState", "ON")
    bench.fix = None
    bench.say(100, "LowVoltageSystemState", "OFF")
    (trip,) = bench.shelf.bodies()
    assert isinstance(trip, TripRecord)
    assert (trip.duration_s, trip.distance_m) == (90, None)
    assert trip.begin is not None
    assert trip.end is None


def test_a_trip_is_as_long_as_the_odometer_says_and_says_by_what_it_counted() -> None:
    bench = Bench()
    bench.odometer = OdometerReading(1_000.2, OdometerSource.WHEELS)
    bench.say(0, "LowVoltageSystemState", "ON")
    bench.odometer = OdometerReading(3_400.4, OdometerSource.GNSS)
    bench.say(200, "LowVoltageSystemState", "OFF")
    (trip,) = bench.shelf.bodies()
    assert isinstance(trip, TripRecord)
    assert (trip.distance_m, trip.odometer_m, trip.odometer_source) == (2_400, 3_400, "gnss")
