"""The two doors of the vehicle: what is stored and what is live, with the place as it may be told."""

from __future__ import annotations

from dataclasses import replace

from agent.domain.fix import FixMode
from agent.domain.privacy import OffDuty, Privacy, PrivacyRule
from agent.domain.record import Draft, Emergency, PlaceRecord, Position, RecordingKept, StatusChange
from agent.domain.stamp import Stamp
from agent.domain.state import LocationState, State
from agent.domain.time_base import TimeBase
from agent.paths.private_place import PrivatePlace
from hil.sim.manual_clock import ManualClock

S = 1_000_000_000
HERE = Position(42.3601, -71.0589, 12.0, 11.0, 90.0, FixMode.FIX_3D, 9, 0.8)


class Doors:
    """Both doors, of a unit that is out of service."""

    def __init__(self, off_duty: OffDuty = OffDuty.WITHHOLD) -> None:
        self.now_ns = 0
        self.told: list[State] = []
        privacy = Privacy(PrivacyRule(off_duty, 1000, frozenset({"out_of_service"})))
        privacy.on_status("out_of_service", needed=False)
        clock = ManualClock(lambda: self.now_ns, boot_id="ab" * 16, unix_ms=0)
        self.place = PrivatePlace(privacy, self, TimeBase(), clock)

    def set_state(self, state: State) -> None:
        self.told.append(state)

    def at(self, second: float, lat_deg: float) -> None:
        self.now_ns = round(second * S)
        where = replace(HERE, lat_deg=lat_deg)
        self.place.set_state(LocationState(round(second * 1000), None, where, FixMode.FIX_3D))


def test_how_often_a_hidden_place_is_told_says_nothing_of_how_the_unit_moves() -> None:
    doors = Doors()
    for second in range(300):
        doors.at(second, 42.36 + second * 1e-4)
    assert len(doors.told) == 5
    assert all(isinstance(state, LocationState) and state.withheld for state in doors.told)
    blurred = Doors(OffDuty.BLUR)
    for second in range(300):
        blurred.at(second, 42.36 + second * 1e-4)  # 3.3 km: three or four squares
    assert 5 <= len(blurred.told) <= 9


def test_signals_and_records_lose_the_place_and_nothing_else() -> None:
    doors = Doors()
    assert doors.place.signals({"Speed": 1.0, "CurrentLocation.Latitude": 42.0}) == {"Speed": 1.0}
    press = Draft(Stamp(1, None), StatusChange("out_of_service", None, "k", 1, 1))
    assert doors.place.before_store(press) == press
    assert doors.place.before_store(Draft(Stamp(1, None), PlaceRecord("in", "bmc"))) is None


def test_an_emergency_and_an_impact_bring_the_place_back_for_an_hour() -> None:
    for body in (Emergency(True, "k", 1), RecordingKept("r", "impact")):
        doors = Doors()
        assert doors.place.holds
        doors.place.before_store(Draft(Stamp(1, None), body))
        doors.at(1, 42.36)
        state = doors.told[-1]
        assert isinstance(state, LocationState)
        assert state.position is not None
        doors.now_ns = 3601 * S
        assert doors.place.holds
    doors = Doors()
    doors.place.before_store(Draft(Stamp(1, None), RecordingKept("r", "dispatch")))
    assert doors.place.holds  # who asks for a recording does not lift what the agency decided
