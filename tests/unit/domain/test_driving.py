"""Driving events out of speeds, belts and doors: what a drive has, and nothing that it has not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.driving import DrivingLimits, DrivingWatch
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
