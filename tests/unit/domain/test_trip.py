"""Trips from ignition on to off: what the vehicle tells, and None for what it does not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.record import SignalValue, TripRecord
from agent.domain.trip import IGNITION, TripMeter
from agent.domain.vehicle import Signal

S = 1_000_000_000


def drive(
    meter: TripMeter, said: list[tuple[float, str, SignalValue | None]], **events: int
) -> list[TripRecord]:
    ended = []
    for at_s, name, value in said:
        ended += [record for _, record in meter.take([Signal(name, value, round(at_s * S))], events)]
    return ended


def test_a_trip_with_everything() -> None:
    meter = TripMeter()
    said: list[tuple[float, str, SignalValue | None]] = [
        (10, "TraveledDistance", 48_000_000),
        (10, IGNITION, "ON"),
        (10, "Powertrain.CombustionEngine.IsRunning", True),
        (10, "Ambulance.EmergencyLights.IsOn", False),
        (10, "Ambulance.Siren.IsOn", False),
    ]
    said += [(11 + n, "Speed", 0) for n in range(60)]
    said += [(71, "Ambulance.EmergencyLights.IsOn", True), (71, "Ambulance.Siren.IsOn", True)]
    said += [(71 + n, "Speed", 72) for n in range(100)]
    said += [(171, "Ambulance.Siren.IsOn", False), (172, "Speed", 0), (181, "Speed", 0)]
    said += [(181, "TraveledDistance", 48_002_000), (182, IGNITION, "START"), (190, "Speed", 0)]
    assert drive(meter, said) == []
    (trip,) = drive(meter, [(191, IGNITION, "OFF")], braking=2)
    assert trip.from_boottime_ms == 10_000
    assert (trip.duration_s, trip.distance_m, trip.odometer_m) == (181, 2000, 48_002_000)
    assert trip.top_speed_mps == 20
    assert trip.idle_s is not None
    assert 75 <= trip.idle_s <= 82
    assert (trip.lights_s, trip.siren_s) == (120, 100)
    assert trip.events == (("braking", 2),)
    assert drive(meter, [(200, IGNITION, "OFF"), (300, IGNITION, "LOCK")]) == []


def test_without_an_odometer_the_speed_tells_the_distance() -> None:
    said: list[tuple[float, str, SignalValue | None]] = [(0, IGNITION, "ON")]
    said += [(n / 10, "Speed", 36) for n in range(1, 1001)]
    (trip,) = drive(TripMeter(), [*said, (100, IGNITION, "OFF")])
    assert trip.distance_m is not None
    assert abs(trip.distance_m - 999) <= 1


def test_what_the_vehicle_does_not_tell_stays_unknown() -> None:
    (trip,) = drive(TripMeter(), [(0, IGNITION, "ON"), (30, IGNITION, "OFF")])
    assert trip == TripRecord(from_boottime_ms=0, duration_s=30, distance_m=None)


def test_a_silence_of_the_bus_is_no_distance_and_no_idling() -> None:
    said: list[tuple[float, str, SignalValue | None]] = [
        (0, IGNITION, "ON"), (0, "Powertrain.CombustionEngine.IsRunning", True),
        (1, "Speed", 72), (500, "Speed", 72), (501, "Speed", 0), (502, IGNITION, "OFF"),
    ]  # fmt: skip
    (trip,) = drive(TripMeter(), said)
    assert trip.distance_m == 10
    assert trip.idle_s == 1


@given(
    st.lists(
        st.tuples(
            st.floats(0, 30),
            st.sampled_from([IGNITION, "Speed", "TraveledDistance", "Ambulance.Siren.IsOn"]),
            st.none() | st.booleans() | st.floats(0, 200) | st.sampled_from(["ON", "OFF", "LOCK"]),
        ),
        max_size=100,
    )
)
def test_no_signals_raise_and_times_are_within_the_trip(
    steps: list[tuple[float, str, SignalValue | None]],
) -> None:
    meter, at_s = TripMeter(), 0.0
    for pause_s, name, value in steps:
        at_s += pause_s
        for trip in drive(meter, [(at_s, name, value)]):
            assert 0 <= trip.duration_s <= at_s + 1
            assert trip.distance_m is None or trip.distance_m >= 0
            assert trip.siren_s is None or trip.siren_s <= trip.duration_s + 1


def test_a_trip_tells_who_drove_what_for_and_how_long_in_each_status() -> None:
    meter = TripMeter()
    meter.take([Signal("LowVoltageSystemState", "ON", 0)], {})
    for second in range(1, 61):
        status, driver = ("en_route", "m1") if second <= 20 else ("on_scene", "m2")
        meter.note(second * S, status, "4711", driver)
    ((_, trip),) = meter.take([Signal("LowVoltageSystemState", "OFF", 61 * S)], {})
    assert (trip.driver, trip.drivers, trip.incidents) == (None, ("m1", "m2"), ("4711",))
    assert trip.statuses == (("en_route", 19), ("on_scene", 40))
    meter.take([Signal("LowVoltageSystemState", "ON", 70 * S)], {})
    meter.note(71 * S, None, None, "m2")
    ((_, trip),) = meter.take([Signal("LowVoltageSystemState", "OFF", 80 * S)], {})
    assert (trip.driver, trip.drivers, trip.incidents, trip.statuses) == ("m2", ("m2",), None, None)


def test_fuel_is_what_the_engine_used_else_what_the_tank_lost_and_never_less_than_nothing() -> None:
    def fuel(*said: tuple[str, float]) -> float | None:
        meter = TripMeter()
        meter.take([Signal("LowVoltageSystemState", "ON", 0)], {})
        for second, (name, value) in enumerate(said):
            meter.take([Signal(name, value, (second + 1) * S)], {})
        ((_, trip),) = meter.take([Signal("LowVoltageSystemState", "OFF", 60 * S)], {})
        return trip.fuel_l

    tank, used = "Powertrain.FuelSystem.AbsoluteLevel", "Ambulance.Chassis.FuelUsed"
    assert fuel() is None
    assert fuel((tank, 60.0), (tank, 51.5)) == 8.5
    assert fuel((tank, 20.0), (tank, 70.0)) is None  # filled up
    assert fuel((tank, 60.0), (used, 9000.0), (used, 9007.5), (tank, 70.0)) == 7.5
