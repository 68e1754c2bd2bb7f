"""Driving events out of speeds, belts and doors: what a drive has, and nothing that it has not."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.driving import DrivingLimits, DrivingWatch, grade
from agent.domain.record import Driving, DrivingKind, ResponseMode, SignalValue
from agent.domain.vehicle import Signal

S = 1_000_000_000
DRIVER = "Cabin.Seat.Row1.DriverSide"


class Drive:
    """A drive at ten speeds a second."""

    def __init__(self, **limits: object) -> None:
        self.watch = DrivingWatch(DrivingLimits(**limits))  # type: ignore[arg-type]
        self.at_ns = 0
        self.kmh = 0.0
        self.told: list[tuple[int, Driving]] = []

    def say(self, name: str, value: SignalValue | None) -> None:
        self.told += self.watch.take([Signal(name, value, self.at_ns)])

    def to(self, kmh: float, in_s: float) -> None:
        """Change the speed evenly."""
        steps = max(1, round(in_s * 10))
        begun = self.kmh
        for step in range(1, steps + 1):
            self.at_ns += S // 10
            self.kmh = begun + (kmh - begun) * step / steps
            self.say("Speed", self.kmh)

    def stay(self, for_s: float) -> None:
        self.to(self.kmh, for_s)

    def events(self) -> list[tuple[str, int | None]]:
        return [(event.event, event.grade) for _, event in self.told]


def test_a_calm_drive_has_no_events() -> None:
    drive = Drive()
    for kmh, in_s in ((50, 9), (50, 20), (30, 4), (80, 12), (0, 12)):
        drive.to(kmh, in_s)
    assert drive.events() == []


def test_braking_and_acceleration_in_two_grades() -> None:
    drive = Drive()
    drive.to(40, 10)
    drive.to(0, 2.7)  # 4.1 m/s2
    drive.stay(3)
    drive.to(60, 14)
    drive.to(0, 2.6)  # 6.4 m/s2
    drive.stay(3)
    drive.to(50, 4)  # 3.5 m/s2
    drive.stay(3)
    assert drive.events() == [("braking", 1), ("braking", 2), ("acceleration", 1)]
    begun_ns, event = drive.told[1]
    assert event.value is not None
    assert 6 < event.value < 7
    assert event.limit == 3.5
    assert event.duration_ms is not None
    assert 1500 < event.duration_ms < 3500
    assert abs(begun_ns - 29.7 * S) < 1.5 * S


def test_a_speed_that_jumps_is_no_event() -> None:
    drive = Drive()
    drive.to(60, 10)
    drive.to(0, 0.1)
    drive.to(60, 0.1)
    drive.stay(3)
    assert drive.events() == []
    drive.at_ns += 60 * S  # the bus was silent for a minute
    drive.kmh = 0
    drive.to(0, 0.1)
    drive.stay(3)
    assert drive.events() == []


def test_overspeed_goes_by_response_mode() -> None:
    drive = Drive(overspeed_mps=((ResponseMode.NORMAL, 28.0), (ResponseMode.LIGHTS_AND_SIREN, 36.0)))
    drive.say("Ambulance.EmergencyLights.IsOn", True)
    drive.say("Ambulance.Siren.IsOn", True)
    drive.to(115, 25)
    drive.stay(10)
    assert drive.events() == []
    drive.say("Ambulance.EmergencyLights.IsOn", False)
    drive.stay(10)
    drive.to(70, 15)
    (event,) = [one for _, one in drive.told]
    assert (event.event, event.limit, event.response) == ("overspeed", 28, "normal")
    assert event.value is not None
    assert abs(event.value - 115 / 3.6) < 0.1


def test_nothing_is_judged_by_a_mode_that_is_not_known() -> None:
    drive = Drive(overspeed_mps=((ResponseMode.NORMAL, 10.0),))
    drive.to(100, 20)
    drive.stay(10)
    assert drive.events() == []
    assert drive.watch.mode is None


def test_belts_of_taken_seats_and_doors_count_in_motion() -> None:
    drive = Drive()
    seat = "Ambulance.PatientCompartment.Seat.Attendant"
    drive.say(f"{DRIVER}.IsBelted", True)
    drive.say(f"{seat}.IsOccupied", False)
    drive.say(f"{seat}.IsBelted", False)
    drive.say("Ambulance.PatientCompartment.Door.IsOpen", True)
    drive.stay(20)
    assert drive.events() == []
    drive.say("Ambulance.PatientCompartment.Door.IsOpen", False)
    drive.to(50, 10)
    drive.stay(10)
    assert drive.events() == []  # nobody sits there
    drive.say(f"{seat}.IsOccupied", True)
    drive.stay(12)
    drive.say(f"{seat}.IsBelted", True)
    drive.stay(3)
    drive.say("Ambulance.PatientCompartment.Door.IsOpen", True)
    drive.stay(8)
    drive.to(0, 10)
    drive.stay(3)
    assert [(event.event, event.seat) for _, event in drive.told] == [
        ("belt", seat),
        ("door", "Ambulance.PatientCompartment.Door"),
    ]
    belt = drive.told[0][1]
    assert belt.duration_ms is not None
    assert 11_000 <= belt.duration_ms <= 13_500


def test_fast_reversing() -> None:
    drive = Drive()
    drive.say("Powertrain.Transmission.SelectedGear", -1)
    drive.to(12, 4)
    drive.stay(2)
    drive.to(0, 3)
    drive.stay(2)
    assert drive.events() == [("reversing", 1)]


def test_cornering_by_an_accelerometer() -> None:
    drive = Drive()
    for lateral in [0.3] * 10 + [-4.1] * 10 + [0.1] * 20 + [99.0] * 10:
        drive.at_ns += S // 10
        drive.say("Acceleration.Lateral", lateral)
    assert drive.events() == [("cornering", 1)]


speeds = st.none() | st.floats(-20, 300) | st.booleans() | st.text(max_size=3)
names = st.sampled_from(
    ["Speed", "Speed", "Speed", "Acceleration.Lateral", f"{DRIVER}.IsBelted", "Body.Trunk.Rear.IsOpen",
     "Ambulance.EmergencyLights.IsOn", "Powertrain.Transmission.SelectedGear"]
)  # fmt: skip


@given(st.lists(st.tuples(names, speeds, st.integers(0, 3 * S)), max_size=150))
def test_no_signals_raise_and_what_is_told_is_bounded(
    said: list[tuple[str, SignalValue | None, int]],
) -> None:
    watch = DrivingWatch(DrivingLimits(overspeed_mps=((ResponseMode.NORMAL, 20.0),)))
    at_ns, told = 0, []
    for name, value, pause_ns in said:
        at_ns += pause_ns
        told += watch.take([Signal(name, value, at_ns)])
    told += watch.end(at_ns)
    for begun_ns, event in told:
        assert 0 <= begun_ns <= at_ns
        assert event.duration_ms is not None
        assert event.duration_ms >= 0
    for kind in DrivingKind:
        number = sum(event.event == kind for _, event in told)
        assert number <= 20 + at_ns / (120 * S) + 1


def events_of(signals: list[Signal]) -> list[str]:
    watch = DrivingWatch(DrivingLimits())
    return [str(event.event) for _, event in watch.take(signals)] + [
        str(event.event) for _, event in watch.end(signals[-1].received_boottime_ns)
    ]


def every(tenth: float, count: int, name: str, value: Any) -> list[Signal]:
    return [Signal(name, value, round((tick * tenth) * S)) for tick in range(count)]


def in_order(*signals: list[Signal]) -> list[Signal]:
    return sorted((one for some in signals for one in some), key=lambda one: one.received_boottime_ns)


def test_cornering_is_seen_by_the_rate_of_turn_where_there_is_no_accelerometer() -> None:
    turning = in_order(every(0.1, 40, "Speed", 54.0), every(0.1, 40, "AngularVelocity.Yaw", 20.0))  # 5.2 m/s2
    assert events_of(turning) == ["cornering"]
    both = in_order(turning, every(0.1, 40, "Acceleration.Lateral", 1.0))
    assert events_of(both) == []  # the sensor knows better


def test_cornering_is_seen_by_the_course_where_nothing_else_tells() -> None:
    watch = DrivingWatch(DrivingLimits())
    told = []
    for second in range(12):
        course = (350 + 20 * min(second, 5)) % 360  # 20 degrees a second through north, at 15 m/s
        told += watch.take_course(course, 15.0, second * S)
    assert [event.event for _, event in told] == ["cornering"]
    assert told[0][1].value is not None
    assert 5 < told[0][1].value < 5.5
    still = DrivingWatch(DrivingLimits())
    assert [still.take_course(90.0 * (second % 4), 1.0, second * S) for second in range(20)] == [[]] * 20


def test_an_accelerometer_tells_of_braking_where_the_wheels_do_not() -> None:
    braking = every(0.02, 100, "Acceleration.Longitudinal", -4.0)
    assert events_of(braking) == ["braking"]
    assert events_of(in_order(braking, every(0.1, 20, "Speed", 50.0))) == []
    shaken = [
        Signal("Acceleration.Longitudinal", -9.0 if tick % 5 else 3.0, tick * S // 50) for tick in range(200)
    ]
    assert events_of(shaken) == []


def test_reversing_without_the_spotters_button_is_told_of_a_vehicle_that_has_one() -> None:
    back = in_order(every(0.1, 1, "Powertrain.Transmission.SelectedGear", -1), every(0.1, 40, "Speed", 5.0))
    assert events_of(back) == []
    alone = [Signal("Ambulance.Spotter.IsPressed", False, 0), *back]
    assert events_of(alone) == ["spotter"]
    spotted = [
        Signal("Ambulance.Spotter.IsPressed", True, 0),
        Signal("Ambulance.Spotter.IsPressed", False, 1),
        *back,
    ]
    assert events_of(spotted) == []


def test_a_grade_says_how_many_events_a_distance_has() -> None:
    assert grade({}, {}, 50_000) == 10
    assert grade({"braking": 10}, {}, 100_000) == 5
    assert grade({"braking": 4}, {"braking": 3}, 100_000) == 5
    assert grade({"braking": 1}, {}, 900) is None
    assert grade({}, {}, None) is None
