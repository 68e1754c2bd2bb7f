"""From fixes to what dispatch is told: live, trail, marks and estimates."""

from __future__ import annotations

from typing import Any, cast

from agent.domain.fix import Fix, FixMode
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.record import AlertCode, Draft, Position, PositionQuality, SourceSwitch
from agent.domain.reporting import Bounds, LivePolicy, TrailPolicy
from agent.domain.stamp import UtcSource
from agent.domain.state import LocationState, State, StatusState
from agent.domain.time_base import TimeBase
from agent.domain.vehicle import Signal
from agent.outbox.outbox import Outbox
from agent.paths.fix_path import FixPath, StatusWatch

S = 1_000_000_000
NOON = 1_773_500_400_000


class Told:
    """Keeps what is told and staged."""

    def __init__(self) -> None:
        self.states: list[State] = []
        self.trail: list[Draft] = []

    def set_state(self, state: State) -> None:
        self.states.append(state)

    def stage(self, draft: Draft) -> None:
        self.trail.append(draft)

    @property
    def locations(self) -> list[LocationState]:
        return [state for state in self.states if isinstance(state, LocationState)]


class Vehicle:
    """A path, and fixes and wheels for it, second by second."""

    def __init__(self, *, wheels_keep_pace: bool = True) -> None:
        self.told, self.health = Told(), HealthBoard()
        self.path = FixPath(
            LivePolicy(Bounds()),
            TrailPolicy(tolerance_m=5, moving_interval_s=1, stationary_interval_s=60, moving_above_mps=0.7),
            TimeBase(),
            outbox=cast("Outbox", self.told),
            states=self.told,
            health=self.health,
            wheels_keep_pace=wheels_keep_pace,
        )

    def wheels(self, second: float, speed_mps: float) -> None:
        self.path.on_signals([Signal("Speed", speed_mps * 3.6, round(second * S))])

    def fix(self, second: int, *, lat_deg: float | None = None, speed_mps: float = 11.1) -> None:
        where: dict[str, Any] = {
            "lat_deg": 42 + second * 1e-4 if lat_deg is None else lat_deg,
            "lon_deg": -71.0,
        }
        self._give(second, FixMode.FIX_3D, speed_mps, where)

    def no_fix(self, second: int) -> None:
        self._give(second, FixMode.NONE, None, {"lat_deg": None, "lon_deg": None})

    def _give(self, second: int, mode: FixMode, speed_mps: float | None, where: dict[str, Any]) -> None:
        self.path.on_fix(
            Fix(
                utc_ms=NOON + second * 1000, alt_m=None, speed_mps=speed_mps,
                course_deg=None if speed_mps is None else 0.0, mode=mode, satellites=9, hdop=0.8,
                received_boottime_ns=second * S, **where,
            )
        )  # fmt: skip


def positions(told: Told) -> list[Position]:
    return [state.position for state in told.locations if state.position is not None]


def test_straight_on_a_position_is_told_every_ten_seconds_with_its_uncertainty() -> None:
    vehicle = Vehicle()
    for second in range(30):
        vehicle.fix(second)
    told = [state.boottime_ms // 1000 for state in vehicle.told.locations]
    assert told[0] == 0
    assert 3 <= len(told) <= 5, "the first, once the time is believed, and every ten seconds"
    assert all(position.quality is None for position in positions(vehicle.told))
    assert all((position.uncertainty_m or 0) > 0 for position in positions(vehicle.told))
    last = vehicle.told.locations[-1].utc
    assert last is not None
    assert last.source is UtcSource.GNSS


def test_a_press_keeps_the_point_of_the_trail_and_has_the_next_fix_told() -> None:
    vehicle = Vehicle()
    crew = StatusWatch(vehicle.told, vehicle.path)
    for second in range(5):
        vehicle.fix(second)
    staged, told = len(vehicle.told.trail), len(vehicle.told.locations)
    crew.set_state(StatusState(5000, None, "en_route"))
    assert len(vehicle.told.trail) == staged + 1
    vehicle.fix(5)
    assert len(vehicle.told.locations) == told + 1
    crew.set_state(StatusState(5500, None, "en_route"))
    vehicle.fix(6)
    assert len(vehicle.told.locations) == told + 1, "the same status again is no news"


def test_a_loss_is_told_once_and_without_wheels_nothing_is_estimated() -> None:
    vehicle = Vehicle()
    for second in range(5):
        vehicle.fix(second)
    told = len(vehicle.told.locations)
    for second in range(5, 10):
        vehicle.no_fix(second)
    lost = vehicle.told.locations[told:]
    assert [state.position for state in lost] == [None]
    assert lost[0].last_known is not None
    assert abs(lost[0].last_known.lat_deg - 42.0004) < 1e-9


def test_in_a_tunnel_the_wheels_carry_on_for_a_minute_and_never_as_a_fix() -> None:
    vehicle = Vehicle()
    for second in range(5):
        vehicle.wheels(second, 11.1)
        vehicle.fix(second)
    told = len(vehicle.told.locations)
    for second in range(5, 80):
        vehicle.wheels(second, 11.1)
        vehicle.no_fix(second)
    states = vehicle.told.locations[told:]
    estimates = [state for state in states if state.position is not None]
    assert 55 <= len(estimates) <= 61
    for state in estimates:
        assert state.position is not None
        assert state.position.quality == PositionQuality.ESTIMATED
        assert state.mode is state.position.mode is FixMode.NONE
    assert states[-1].position is None
    assert states[-1].last_known is not None
    assert states[-1].last_known.quality is None, "what is known is the last fix"
    vehicle.fix(80, lat_deg=42.0080)
    assert vehicle.told.locations[-1].mode is FixMode.FIX_3D


def test_wheels_that_do_not_keep_pace_with_the_receiver_neither_judge_nor_estimate() -> None:
    vehicle = Vehicle(wheels_keep_pace=False)
    for second in range(20):
        vehicle.wheels(second, 30)
        vehicle.fix(second)
    assert vehicle.health.reasons() == ()
    told = len(vehicle.told.locations)
    for second in range(20, 30):
        vehicle.wheels(second, 30)
        vehicle.no_fix(second)
    assert all(state.position is None for state in vehicle.told.locations[told:])


def test_a_frozen_receiver_is_marked_told_in_health_and_forgiven() -> None:
    vehicle = Vehicle()
    for second in range(20):
        vehicle.wheels(second, 11.1)
        vehicle.fix(second, lat_deg=42.0)
    assert HealthReason.GNSS_DOUBTED in vehicle.health.reasons()
    assert positions(vehicle.told)[-1].quality == PositionQuality.FROZEN
    vehicle.wheels(20, 11.1)
    vehicle.fix(20, lat_deg=42.0001)
    assert HealthReason.GNSS_DOUBTED not in vehicle.health.reasons()


def test_a_change_of_receiver_is_a_record() -> None:
    vehicle = Vehicle()
    vehicle.path.on_switch("roof", "modem", "lost", 5 * S)
    assert [draft.body for draft in vehicle.told.trail] == [SourceSwitch("position", "modem", "roof", "lost")]


def test_a_jump_is_told_as_one_and_nothing_else_goes_by_it() -> None:
    vehicle, signs = Vehicle(), []
    vehicle.path.on_sign = lambda code, text: signs.append((code, text))
    for second in range(10):
        vehicle.fix(second)
    vehicle.fix(10, lat_deg=43.0)
    jumped = vehicle.told.locations[-1].position
    assert jumped is not None
    assert (jumped.lat_deg, jumped.quality) == (43.0, PositionQuality.JUMPED)
    newest = vehicle.path.newest
    assert newest is not None
    assert not newest.has_position
    assert HealthReason.GNSS_IMPLAUSIBLE in vehicle.health.reasons()
    vehicle.fix(11)
    back = vehicle.told.locations[-1].position
    assert back is not None
    assert back.quality is None
    assert HealthReason.GNSS_IMPLAUSIBLE not in vehicle.health.reasons()
    assert signs == []
    for second in range(12, 16):
        vehicle.fix(second, lat_deg=43.0 + second * 1e-4)
    assert [code for code, _ in signs] == [AlertCode.GNSS_SPOOFED]
    assert "111" in signs[0][1]


def test_a_mark_is_told_at_once_when_it_comes_and_when_it_goes() -> None:
    vehicle = Vehicle()
    told: list[str | None] = []
    for second in range(40):
        vehicle.wheels(second, 11.1)
        vehicle.fix(second, lat_deg=42.001 if 10 <= second < 25 else 42 + second * 1e-4)
        position = vehicle.told.locations[-1].position
        if position is not None and told[-1:] != [position.quality]:
            told.append(position.quality)
    assert told == [None, PositionQuality.FROZEN, None]
    assert HealthReason.GNSS_DOUBTED not in vehicle.health.reasons()
