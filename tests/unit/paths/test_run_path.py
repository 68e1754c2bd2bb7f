"""Calls, messages, crew, places and hints become records, states and what the panel shows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent.config.crew import Crew
from agent.domain.call import Call
from agent.domain.fix import Fix, FixMode
from agent.domain.odometer import OdometerReading
from agent.domain.places import Place, Places
from agent.domain.record import (
    Body,
    CallRecord,
    CommandResult,
    CrewRecord,
    Draft,
    Emergency,
    HintRecord,
    MessageRecord,
    MotionRecord,
    OdometerSource,
    PlaceRecord,
    StatusChange,
    Telemetry,
)
from agent.domain.state import DestinationState, State, StatusState, UnitState
from agent.domain.time_base import TimeBase
from agent.paths.run_path import RunPath
from agent.wire.orders import Assign, Cancel, SignOn, Text, Update
from hil.sim.manual_clock import ManualClock

S = 1_000_000_000
SCENE = (42.36, -71.06)
HOSPITAL = Place("bmc", "BMC", "hospital", 42.38, -71.06, dwell_s=5)


class Bench:
    """A run path with everything around it caught."""

    def __init__(self) -> None:
        self.now_ns = 100 * S
        self.clock = ManualClock(lambda: self.now_ns, boot_id="b" * 32, unix_ms=0)
        self.bodies: list[Body] = []
        self.states: list[State] = []
        self.changes = 0
        self.crossings = 0
        self.signals: dict[str, Any] = {}
        self.odometer: OdometerReading | None = None
        self.path = RunPath(
            Crew(vehicle="V-17", capabilities=("als",)),
            "A1",
            Places([HOSPITAL]),
            self.clock,
            TimeBase(),
            records=self,
            states=self,
            on_change=self._changed,
            signals=lambda: self.signals,
            odometer=lambda: self.odometer,
            on_crossing=self._crossed,
        )
        self.path.open()

    def put(self, draft: Draft) -> None:
        assert draft.kind.durable_at_once
        self.bodies.append(draft.body)

    def stage(self, draft: Draft) -> None:
        assert not draft.kind.durable_at_once
        self.bodies.append(draft.body)

    def set_state(self, state: State) -> None:
        self.states.append(state)

    def _crossed(self) -> None:
        self.crossings += 1

    def _changed(self) -> None:
        self.changes += 1

    def of(self, kind: type[Body]) -> list[Any]:
        return [body for body in self.bodies if isinstance(body, kind)]

    def steps(self) -> list[str]:
        return [body.step for body in self.of(CallRecord)]

    def drive(self, seconds: int, *, speed_mps: float, north_m: float = 0.0) -> None:
        for _ in range(seconds):
            self.now_ns += S
            now_ns = self.clock.boottime_ns()
            lat = SCENE[0] + north_m / 111_195
            self.path.on_fix(Fix(None, lat, SCENE[1], None, speed_mps, None, FixMode.FIX_3D, 8, 1.0, now_ns))
            self.path.tick()


def press(status: str, previous: str | None = None) -> StatusChange:
    return StatusChange(status, previous, status, None)


def test_a_call_has_three_times_and_its_number_stands_on_the_status() -> None:
    bench = Bench()
    bench.path.calls.on_assign(Assign("1", Call("I-7", lat_deg=SCENE[0], lon_deg=SCENE[1])))
    actions = bench.path.actions()
    actions["shown"]({"incident": "I-7"})
    actions["acknowledge_call"]({"incident": "I-7"})
    assert bench.steps() == ["received", "shown", "acknowledged"]
    dressed = bench.path.dressed(press("en_route", "available"), bench.clock.boottime_ns())
    assert isinstance(dressed, StatusChange)
    assert dressed.incident == "I-7"
    assert bench.path.dressed(Emergency(True, "emergency", None), 0).incident == "I-7"  # type: ignore[attr-defined]


def test_a_press_by_the_crew_acknowledges_and_the_last_one_ends_the_call_but_still_belongs_to_it() -> None:
    bench = Bench()
    bench.path.calls.on_assign(Assign("1", Call("I-7")))
    bench.path.status_holds("en_route", pressed=True)
    free = bench.path.dressed(press("available", "on_scene"), bench.clock.boottime_ns())
    bench.path.status_holds("available", pressed=True)
    assert bench.steps() == ["received", "acknowledged", "ended"]
    assert isinstance(free, StatusChange)
    assert free.incident == "I-7"
    assert bench.path.incident is None


def test_a_diversion_is_told_on_both_calls() -> None:
    bench = Bench()
    bench.path.calls.on_assign(Assign("1", Call("I-7")))
    bench.path.calls.on_assign(Assign("2", Call("I-8")))
    assert bench.steps() == ["received", "diverted", "received"]
    assert bench.of(CallRecord)[-1].diverted_from == "I-7"
    assert bench.path.incident == "I-8"


def test_commands_that_come_twice_too_late_or_for_nobody_change_nothing_and_say_so() -> None:
    bench = Bench()
    bench.path.calls.on_assign(Assign("1", Call("I-7")))
    bench.path.calls.on_assign(Assign("1", Call("I-7")))
    bench.path.calls.on_update(Update("2", "I-9", {"notes": "x"}))
    bench.path.calls.on_cancel(Cancel("3", "I-7", None))
    bench.path.calls.on_cancel(Cancel("4", "I-7", None))
    assert bench.steps() == ["received", "cancelled"]
    assert [(one.command, one.reason) for one in bench.of(CommandResult)] == [
        ("update", "unknown_incident"),
        ("cancel", "incident_closed"),
    ]


def test_an_unacknowledged_call_is_told_once() -> None:
    bench = Bench()
    bench.path.calls.on_assign(Assign("1", Call("I-7")))
    bench.drive(90, speed_mps=0)
    assert bench.steps() == ["received", "unacknowledged"]


def test_call_data_never_stands_in_the_journal() -> None:
    bench = Bench()
    bench.path.calls.on_assign(Assign("1", Call("I-7", nature="secret nature", address="secret street")))
    assert "secret" not in repr(bench.bodies)


def test_messages_and_orders_have_their_times() -> None:
    bench = Bench()
    bench.path.calls.on_message(Text("m1", "Back door", None))
    bench.path.calls.on_message(Text("m1", "Back door", None))
    bench.path.calls.on_message(Text("m2", "", "use_radio"))
    (order, text) = bench.path.snapshot()["messages"]
    assert (order["order"], order["text"], order["shown"]) == ("use_radio", "", False)
    for message in ("m1", "m2"):
        for do in ("message_shown", "message_shown", "acknowledge_message", "message_shown"):
            assert bench.path.actions()[do]({"message": message}) == {"ok": True}
    bench.path.actions()["message_shown"]({"message": "nobody's"})
    told = [(body.step, body.message, body.code) for body in bench.of(MessageRecord)]
    assert told == [
        ("received", "m1", None),
        ("received", "m2", "use_radio"),
        ("shown", "m1", None),
        ("acknowledged", "m1", None),
        ("shown", "m2", "use_radio"),
        ("acknowledged", "m2", "use_radio"),
    ]
    (order, text) = bench.path.snapshot()["messages"]
    assert (text["text"], text["shown"], text["acknowledged"]) == ("Back door", True, True)


def test_who_acknowledged_is_told_only_where_there_is_one_who_can_have() -> None:
    bench = Bench()
    bench.path.calls.on_assign(Assign("1", Call("I-7")))
    bench.path.aboard.on_sign_on(SignOn("s1", ("c1", "c2"), "c1", None))
    bench.path.actions()["acknowledge_call"]({"incident": "I-7"})
    bench.path.calls.on_assign(Assign("2", Call("I-8")))
    bench.path.aboard.on_sign_on(SignOn("s2", ("c2",), None, None))
    bench.path.actions()["acknowledge_call"]({"incident": "I-8"})
    assert [one.by for one in bench.of(CallRecord) if one.step == "acknowledged"] == [None, "c2"]


def test_a_call_that_is_assigned_once_more_unchanged_is_said_again_to_be_here() -> None:
    bench = Bench()
    bench.path.calls.on_assign(Assign("1", Call("I-7")))
    bench.path.actions()["acknowledge_call"]({"incident": "I-7"})
    bench.path.calls.on_assign(Assign("2", Call("I-7")))
    assert [(one.step, one.request) for one in bench.of(CallRecord)] == [
        ("received", "1"),
        ("acknowledged", None),
        ("received", "2"),
    ]
    assert bench.path.snapshot()["call"]["acknowledged"]


def test_who_is_aboard_is_a_record_and_a_state() -> None:
    bench = Bench()
    bench.path.aboard.on_sign_on(SignOn("s1", ("c1", "c2"), None, "A7"))
    state = bench.states[-1]
    assert isinstance(state, UnitState)
    assert (state.call_sign, state.vehicle, state.crew, state.driver) == ("A7", "V-17", ("c1", "c2"), None)
    assert state.capabilities == ("als",)
    bench.path.actions()["sign_off"]({})
    assert [body.step for body in bench.of(CrewRecord)] == ["on", "off"]


def test_a_sign_on_that_makes_no_sense_is_refused() -> None:
    bench = Bench()
    bench.path.aboard.on_sign_on(SignOn("s1", ("c1",), "c9", None))
    assert [one.reason for one in bench.of(CommandResult)] == ["malformed"]
    assert "error" in bench.path.actions()["sign_on"]({"crew": ["c 1"]})


def test_stops_and_places_are_records_with_the_time_they_began() -> None:
    bench = Bench()
    bench.drive(5, speed_mps=9.0, north_m=2_223.9)
    bench.drive(10, speed_mps=0.0, north_m=2_223.9)
    assert [body.motion for body in bench.of(MotionRecord)] == ["standing"]
    assert [(body.crossing, body.place) for body in bench.of(PlaceRecord)] == [("in", "bmc")]


def test_coming_to_a_place_and_leaving_it_asks_for_a_report_of_the_position() -> None:
    bench = Bench()
    bench.drive(10, speed_mps=9.0, north_m=2_223.9)
    assert bench.crossings == 1
    bench.drive(30, speed_mps=9.0, north_m=9_000)
    assert [body.crossing for body in bench.of(PlaceRecord)] == ["in", "out"]
    assert bench.crossings == 2


def test_arrived_while_rolling_is_flagged_with_its_evidence() -> None:
    bench = Bench()
    bench.drive(5, speed_mps=14.0)
    dressed = bench.path.dressed(press("on_scene", "available"), bench.clock.boottime_ns())
    assert isinstance(dressed, StatusChange)
    assert dressed.flags == ("contradicted",)
    assert dressed.evidence is not None
    assert (dressed.evidence.motion, dressed.evidence.contradictions) == ("rolling", ("rolling",))


def test_wheels_that_say_the_same_for_minutes_are_still_believed() -> None:
    bench = Bench()
    bench.signals = {"Speed": 0.0}
    bench.drive(60, speed_mps=3.0)  # GNSS wanders
    dressed = bench.path.dressed(press("on_scene", "en_route"), bench.clock.boottime_ns())
    assert isinstance(dressed, StatusChange)
    assert dressed.evidence is not None
    assert (dressed.evidence.motion, dressed.evidence.motion_source) == ("standing", "wheels")
    assert dressed.flags is None


def test_a_forgotten_press_is_hinted_and_stands_in_the_status_until_one_is_made() -> None:
    bench = Bench()
    bench.path.calls.on_assign(Assign("1", Call("I-7", lat_deg=SCENE[0], lon_deg=SCENE[1])))
    bench.path.status_holds("en_route", pressed=True)
    bench.drive(60, speed_mps=0.0)
    assert [body.status for body in bench.of(HintRecord)] == ["on_scene"]
    plain = StatusState(boottime_ms=0, utc=None, status="en_route")
    assert bench.path.dressed_state(plain).hint == "on_scene"
    bench.path.status_holds("on_scene", pressed=True)
    assert bench.path.dressed_state(plain).hint is None


def test_a_destination_has_an_arrival_time_only_while_the_unit_moves() -> None:
    bench = Bench()
    bench.path.calls.on_assign(Assign("1", Call("I-7")))
    assert bench.path.actions()["destination"]({"place": "bmc"}) == {"ok": True}
    assert bench.path.snapshot()["call"]["eta_min"] is None
    bench.drive(300, speed_mps=12.0)
    state = [one for one in bench.states if isinstance(one, DestinationState)][-1]
    assert (state.destination, state.remaining_m) == ("bmc", 2224)
    assert bench.path.snapshot()["call"]["eta_min"] == 3
    assert "error" in bench.path.actions()["destination"]({"place": "nowhere"})


def test_what_the_bus_or_the_sky_no_longer_tells_stands_beside_no_press() -> None:
    bench = Bench()
    bench.signals, bench.odometer = {"Speed": 0.0}, OdometerReading(123_456_000.4, OdometerSource.WHEELS)
    bench.drive(5, speed_mps=0.0)

    def evidence() -> Any:
        dressed = bench.path.dressed(press("on_scene"), bench.clock.boottime_ns())
        assert isinstance(dressed, StatusChange)
        return dressed.evidence

    assert (evidence().odometer_m, evidence().odometer_source) == (123_456_000, "wheels")
    assert evidence().position is not None
    bench.signals, bench.odometer = {"Speed": 9.0}, None
    for _ in range(60):
        bench.now_ns += S
        bench.path.tick()
    assert (evidence().odometer_m, evidence().odometer_source, evidence().position) == (None, None, None)
    started = bench.of(MotionRecord)[-1]
    bench.signals = {"Speed": 0.0}
    for _ in range(10):
        bench.now_ns += S
        bench.path.tick()
    stopped = bench.of(MotionRecord)[-1]
    assert (started.motion, stopped.motion) == ("rolling", "standing")
    assert (stopped.position, stopped.odometer_m) == (None, None)


def test_a_vehicle_that_fails_on_a_call_is_an_event_with_what_it_told_last() -> None:
    bench = Bench()
    failed = replace(press("out_of_service", "en_route"), reason="mechanical", made="panel")
    bench.signals = {"Speed": 0.0, "TraveledDistance": 9_000.0, "OBD.CoolantTemperature": 128, "Gone": None}
    bench.odometer = OdometerReading(9_000.2, OdometerSource.WHEELS)
    bench.drive(5, speed_mps=0.0)
    now_ns = bench.clock.boottime_ns()
    assert bench.path.breakdown(failed) is None  # in the garage it is a reason, and no more
    bench.path.calls.on_assign(Assign("1", Call("I-7")))
    dressed = bench.path.dressed(failed, now_ns)
    assert isinstance(dressed, StatusChange)
    told = bench.path.breakdown(dressed)
    assert told is not None
    assert (told.reason, told.incident, told.status, told.made) == (
        "mechanical",
        "I-7",
        "out_of_service",
        "panel",
    )
    assert told.signals == (("OBD.CoolantTemperature", 128), ("Speed", 0.0), ("TraveledDistance", 9_000.0))
    assert (told.odometer_m, told.position is not None) == (9_000, True)
    assert [one.signals for one in bench.of(Telemetry)] == [told.signals]
    # Of many signals the most telling stand on it, and all in the trail.
    bench.signals = {f"Cabin.Door{number}": 1 for number in range(40)} | {"Powertrain.Engine.Speed": 0}
    told = bench.path.breakdown(dressed)
    assert told is not None
    assert told.signals is not None
    assert told.signals[0] == ("Powertrain.Engine.Speed", 0)
    assert (len(told.signals), len(bench.of(Telemetry)[-1].signals)) == (8, 41)
    assert bench.path.breakdown(replace(dressed, reason="meal")) is None


def test_whether_the_crew_takes_calls_is_a_record_apart_from_the_status() -> None:
    bench = Bench()
    act = bench.path.actions()["available_for_calls"]
    plain = StatusState(boottime_ms=0, utc=None, status="available")
    assert bench.path.dressed_state(plain).for_calls is True
    act({"value": False, "reason": "meal"})
    act({"value": False, "reason": "fuel"})
    assert bench.path.dressed_state(plain).for_calls is False
    act({"value": True, "reason": "meal"})
    assert [(one.step, one.reason) for one in bench.of(CrewRecord)] == [
        ("not_for_calls", "meal"),
        ("for_calls", None),
    ]


def on_call(*statuses: str) -> tuple[Bench, StatusChange]:
    """A unit on a call that pressed these; with the last press as it is on record."""
    bench, previous = Bench(), None
    bench.path.calls.on_assign(Assign("1", Call("I-7", address="12 Beacon St")))
    for status in statuses:
        dressed = bench.path.dressed(press(status, previous), bench.clock.boottime_ns())
        bench.path.status_holds(status, pressed=True)
        previous = status
    assert isinstance(dressed, StatusChange)
    return bench, dressed


def test_a_press_that_was_corrected_to_end_the_run_ends_the_call() -> None:
    bench, last = on_call("en_route", "on_scene")
    bench.path.status_amended(last, "cancelled", holds=True)
    assert bench.path.incident is None
    assert bench.steps() == ["received", "acknowledged", "ended"]
    assert bench.of(CallRecord)[-1].made == "dispatch"


def test_a_press_that_was_corrected_not_to_end_the_run_gives_the_unit_its_call_again() -> None:
    bench, last = on_call("en_route", "available")
    bench.path.status_amended(last, "at_patient", holds=True)
    assert bench.path.snapshot()["call"]["address"] == "12 Beacon St"
    assert bench.steps()[-1] == "reopened"
    # The next press belongs to it again.
    dressed = bench.path.dressed(press("transporting", "at_patient"), bench.clock.boottime_ns())
    assert isinstance(dressed, StatusChange)
    assert dressed.incident == "I-7"


def test_an_older_press_that_was_corrected_does_not_end_a_run_that_went_on() -> None:
    bench, last = on_call("en_route")
    bench.path.status_holds("on_scene", pressed=True)
    bench.path.status_amended(last, "cancelled", holds=False)
    assert bench.path.incident == "I-7"


def test_what_dispatch_took_back_or_replaced_is_not_reopened_by_a_correction() -> None:
    bench, last = on_call("en_route", "available")
    bench.path.calls.on_assign(Assign("2", Call("I-8")))
    bench.path.status_amended(last, "at_patient", holds=True)
    assert bench.path.incident == "I-8"
    bench = Bench()
    bench.path.calls.on_assign(Assign("1", Call("I-7")))
    bench.path.calls.on_cancel(Cancel("2", "I-7", None))
    bench.path.status_amended(replace(press("available"), incident="I-7"), "at_patient", holds=True)
    assert bench.path.incident is None


def test_a_call_whose_data_was_erased_is_reopened_by_its_number() -> None:
    bench = Bench()  # started again since the press that ended the call
    bench.path.status_amended(replace(press("available"), incident="I-7"), "at_patient", holds=True)
    assert bench.path.incident == "I-7"
    assert bench.path.snapshot()["call"]["address"] is None
    bench.path.calls.on_update(Update("3", "I-7", {"address": "12 Beacon St"}))
    assert bench.path.snapshot()["call"]["address"] == "12 Beacon St"
    bench.drive(60, speed_mps=0.0)
    assert "unacknowledged" not in bench.steps()
