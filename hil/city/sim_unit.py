"""One unit of the city: vehicle, crew and agent, second by second; and what was really so."""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from agent.config import Config
from agent.domain.crew import ButtonEdge
from agent.domain.fix import Fix
from agent.domain.vehicle import Signal
from hil.city.crew import HINT_HEEDED_S, Habits, Press, log_normal, presses_of
from hil.city.hint_sweep import HintSweep
from hil.city.leg import Leg, Moment
from hil.city.light_store import NS, Sent
from hil.city.light_unit import LightUnit
from hil.city.receiver import FixReceiver
from hil.city.streets import Point
from hil.city.world import START_UTC_MS, Call, Spot, World, unit_name
from hil.drive.vehicle_motion import EMERGENCY, NORMAL, WITH_PATIENT, Manner

AGENCY = "city"
POLICIES_S = (5, 10, 30, 60, 120)
"""Intervals of the reporting that others do: the unit tells where it is so often, and no more."""
FIX_AFTER_NS = 350_000_000
SIGNALS_AFTER_NS = 500_000_000
FIRST_FIX_S = (3.0, 35.0)
REHEARD_S = 5
"""Signals that do not change are heard again after so long, as a bus repeats them."""
IGNITION_OFF_AFTER_S = 300.0
"""At its post the crew switches the engine off."""
TURNOUT_MEDIAN_S = {True: 85.0, False: 55.0}
"""At night, and by day."""
PATIENT_MEDIAN_S = 126.0
"""From arrival to the patient: a median of 2.1 minutes (New York, n = 449). The others are assumed."""
SCENE_MEDIAN_S = 960.0
HOSPITAL_MEDIAN_S = 1320.0
POWER_CUTS_A_DAY = 0.8
DARK_S = (15.0, 120.0)
SIGN_ON_S, FIRST_STATUS_S, SIGN_OFF_S = 40.0, 60.0, 45.0


class Phase(StrEnum):
    """What a unit does."""

    OFF = "off"
    WAITING = "waiting"
    TURNOUT = "turnout"
    RESPONDING = "responding"
    SCENE = "scene"
    TRANSPORTING = "transporting"
    HOSPITAL = "hospital"
    RETURNING = "returning"


FREE = frozenset({Phase.WAITING, Phase.RETURNING})
"""Phases in which a unit can really be sent."""


class Pressed(NamedTuple):
    """A button went down.

    Attributes:
        unit: index.
        at_s: when, in seconds of the simulation.
        key: which.
        means: the status that was meant.
        true_s: since when that was really so; later than `at_s` when the crew was early.
        incident: that the crew was working for.
    """

    unit: int
    at_s: float
    key: str
    means: str
    true_s: float
    incident: str | None


class Happened(NamedTuple):
    """Something became so, whether or not anybody pressed for it."""

    unit: int
    at_s: float
    status: str
    incident: str | None


class Truth(NamedTuple):
    """A unit at one moment.

    Attributes:
        point: where it really is.
        speed_mps: how fast.
        free: whether it could really be sent.
        on: whether its computer runs.
        covered: whether the radio network reaches it.
        told: for each of POLICIES_S the place that dispatch would have last; None before any.
    """

    point: Point
    speed_mps: float
    free: bool
    on: bool
    covered: bool
    told: tuple[Point | None, ...]


@dataclass(slots=True)
class _Task:
    """What the crew works for."""

    call: Call
    hospital: Spot


class SimUnit:
    """A unit from its first to its last second; asked for every second in order.

    Args:
        world: the city.
        index: which unit.
        configuration: of its agent.
        habits: of its crew.
        sweep: whether hints are tried with many radii and dwell times.

    Attributes:
        light: its agent.
        pressed: presses since they were taken last.
        happened: what became so since it was taken last.
    """

    def __init__(
        self, world: World, index: int, configuration: Config, habits: Habits, *, sweep: bool = False
    ) -> None:
        self.index = index
        self._world = world
        self._habits = habits
        self._rng = random.Random(f"{world.seed}/unit/{index}")
        self._human = random.Random(f"{world.seed}/crew/{index}")
        self._calls = {call.incident: call for call in world.calls}
        self._now_ns = 0
        self.light = LightUnit(
            configuration,
            unix_ms=START_UTC_MS,
            seed=f"{world.seed}/{index}",
            now_ns=lambda: self._now_ns,
        )
        self._receiver = FixReceiver(self._rng, 0.0)
        self._home = world.posts[world.homes[index]]
        self._node = self._goal = self._home.node
        self._phase = Phase.OFF
        self._phase_from_s = 0.0
        self._phase_until_s = 0.0
        self._leg: Leg | None = None
        self._leg_from_s = 0
        self._moment = Moment(world.streets.points[self._node], 0.0, 0.0, 0.0)
        self._stood = (self._moment.point, 0.0, world.streets.lat_lon(self._moment.point), True)
        self._driven_m = 0.0
        self._odometer_m = 40_000_000.0 + 1_000_000.0 * index
        self._task: _Task | None = None
        self._next: Call | None = None
        self._ahead: list[Press] = []
        self._later: list[tuple[float, str]] = []
        """What becomes so within the present phase."""
        self._order = 0
        self._box_seq = 0
        self._power_since_s = 0.0
        self._power_at_s: float | None = None
        self._dark_at = sorted(self._draw_cuts())
        self._closing_at_s: float | None = None
        self._signed_on = False
        self._hint_seen: str | None = None
        self._heard: dict[str, Any] = {}
        self._told: list[Point | None] = [None] * len(POLICIES_S)
        self._offsets = [self._rng.randrange(interval_s) for interval_s in POLICIES_S]
        self._was_live = False
        self._covered = False
        self.pressed: list[Pressed] = []
        self.happened: list[Happened] = []
        self.forgotten: list[Happened] = []
        self._made_up: set[Happened] = set()
        """What the crew forgot, and pressed when the page asked."""
        self.sweep = HintSweep(world, index) if sweep else None
        self._incident_at: tuple[float, float] | None = None
        self.crossed_dark = 0

    # ------------------------------------------------------------------ for the worker

    def truth(self) -> Truth:
        """How it really is."""
        return Truth(
            self._moment.point,
            self._moment.speed_mps,
            self._is_free,
            self.light.is_on,
            self._covered,
            tuple(self._told),
        )

    @property
    def _is_free(self) -> bool:
        at_work = self._signed_on and self._closing_at_s is None
        return at_work and self._phase in FREE and self._task is None and self._next is None

    def hear(self, name: str, payload: bytes, now_s: float) -> bool:
        """A command of dispatch; whether anybody heard it."""
        self._now_ns = round(now_s * NS)
        if not self.light.command(name, payload):
            return False
        if name == "assign":
            given = json.loads(payload)
            self._next = self._calls[given["incident"]]
            self._incident_at = given["lat_deg"], given["lon_deg"]
        elif name == "cancel":
            self._called_off(json.loads(payload)["incident"], now_s)
        return True

    async def step(self, second: int) -> bool:
        """Live through one second; True when presses were made, whose waiting tasks want their turn."""
        self._power(second)
        if self._power_at_s is not None and second >= self._power_at_s:
            self._power_at_s = None
            await self._power_on(second)
        self._move(second)
        self._now_ns = second * NS
        self._cover(second)
        if not self.light.is_on:
            if self._phase is not Phase.OFF:
                self._work(second)
            self.light.tick()
            return False
        self.light.tick()
        self._work(second)
        made = self._press(second, FIX_AFTER_NS)
        self._now_ns = second * NS + FIX_AFTER_NS
        self._tell_fix(second)
        made += self._press(second, SIGNALS_AFTER_NS)
        self._now_ns = second * NS + SIGNALS_AFTER_NS
        self._tell_signals(second)
        made += self._press(second, NS)
        self._heed_hint(second)
        return made > 0

    def sent(self) -> list[Sent]:
        """What the broker got since the last call."""
        return self.light.taken()

    # ------------------------------------------------------------------ power and duty

    def _draw_cuts(self) -> Iterable[float]:
        duty = self._world.duties[self.index]
        hours = (duty.end_s - duty.start_s) / 3600
        at_s = float(duty.start_s)
        while hours:
            at_s += self._rng.expovariate(POWER_CUTS_A_DAY / 86_400)
            if at_s >= duty.end_s:
                return
            yield at_s

    def _power(self, second: int) -> None:
        duty = self._world.duties[self.index]
        if second == self._world.duration_s and not self.light.is_on:
            # The next day's first minute: what a unit still had on its disk.
            self._power_at_s = second + 5.0
        if self._phase is Phase.OFF:
            if second == duty.start_s and second < duty.end_s:
                self._phase, self._phase_from_s = Phase.WAITING, second
                self._power_at_s = second + self._rng.uniform(0, 20)
                self._stand()
            return
        if self._dark_at and second >= self._dark_at[0]:
            self._dark_at.pop(0)
            if self.light.is_on and self._signed_on and self._closing_at_s is None:
                self._now_ns = second * NS
                self.light.power_off(orderly=False)
                self.crossed_dark += 1
                self._power_at_s = second + self._rng.uniform(*DARK_S)
        over = second >= duty.end_s and duty.end_s < self._world.duration_s
        idle = self._phase is Phase.WAITING and self._task is None and self._next is None
        if over and idle and self._closing_at_s is None and self.light.is_on:
            self._plan("out_of_service", second, None)
            self._closing_at_s = second + SIGN_OFF_S
        if self._closing_at_s is not None and second >= self._closing_at_s and self.light.is_on:
            if self._next is not None:
                self._closing_at_s = None
                self._plan("available", second, None)
                return
            if any(press.means == "out_of_service" for press in self._ahead):
                return
            self._now_ns = second * NS
            self.light.touch("sign_off", {})
            self.light.power_off(orderly=True)
            self._phase, self._signed_on = Phase.OFF, False
            self._ahead.clear()

    async def _power_on(self, second: int) -> None:
        self._now_ns = second * NS
        self._power_since_s = second
        self._receiver = FixReceiver(self._rng, self._rng.uniform(*FIRST_FIX_S))
        self._heard.clear()
        self.light.cover(covered=self._covered)
        await self.light.power_on()
        if not self._signed_on and self._closing_at_s is None:
            self._plan("available", second + FIRST_STATUS_S, None, surely=True)

    def _cover(self, second: int) -> None:
        point = self._moment.point
        if point != self._stood[0] or self._stood[1] < 0:
            streets = self._world.streets
            self._stood = (point, 0.0, streets.lat_lon(point), self._world.covered(point))
        covered = self._stood[3] or second >= self._world.duration_s
        if covered is not self._covered:
            self._covered = covered
            self.light.cover(covered=self._covered)

    # ------------------------------------------------------------------ the run

    def _move(self, second: int) -> None:
        if self._leg is not None:
            self._moment = self._leg.at(second - self._leg_from_s)

    def _work(self, second: int) -> None:
        """Go on to the next phase when its time has come."""
        if self._phase is Phase.OFF:
            return
        if not self._signed_on:
            if self.light.is_on and second >= self._power_since_s + SIGN_ON_S:
                self._signed_on = True
                self.light.touch(
                    "sign_on", {"crew": [f"c{self.index * 2 + 101}", f"c{self.index * 2 + 102}"]}
                )
            return
        while self._later and second >= self._later[0][0]:
            self._so(self._later[0][1], self._later.pop(0)[0])
        if self._phase in FREE and self._next is not None and self._task is None:
            self._take_call(second)
        elif self._phase is not Phase.WAITING and second >= self._phase_until_s:
            self._advance(second)

    def _take_call(self, second: int) -> None:
        call, self._next = self._next, None
        assert call is not None
        if self.light.is_on:
            self.light.touch("shown", {"incident": call.incident})
        self._task = _Task(call, self._world.nearest_hospital(call.node))
        hour = (6 + second / 3600) % 24
        turnout_s = log_normal(self._human, TURNOUT_MEDIAN_S[hour < 6 or hour >= 22], 0.4, 15.0, 240.0)
        self._enter(Phase.TURNOUT, second, turnout_s)
        self._so("dispatched", second)
        self._plan("acknowledged", second + self._human.uniform(4, 12), call.incident)
        self._plan("en_route", second + turnout_s, call.incident)

    def _advance(self, second: int) -> None:
        task = self._task
        if self._phase is Phase.RETURNING:
            self._leave_leg()
            self._enter(Phase.WAITING, second, 0.0)
            self._so("in_quarters", second)
            return
        assert task is not None
        match self._phase:
            case Phase.TURNOUT:
                self._so("en_route", second)
                manner = NORMAL if task.call.priority == "3" else EMERGENCY
                self._drive(Phase.RESPONDING, second, task.call.node, manner)
                self._plan("on_scene", self._phase_until_s, task.call.incident)
            case Phase.RESPONDING:
                self._leave_leg()
                self._so("on_scene", second)
                self._at_scene(second, task)
            case Phase.SCENE if task.call.transported:
                self._so("transporting", second)
                manner = WITH_PATIENT if task.call.priority == "1" else NORMAL
                self._drive(Phase.TRANSPORTING, second, task.hospital.node, manner)
                self._plan("at_destination", self._phase_until_s, task.call.incident)
            case Phase.TRANSPORTING:
                self._leave_leg()
                self._so("at_destination", second)
                stay_s = log_normal(self._human, HOSPITAL_MEDIAN_S, 0.35, 300.0, 5400.0)
                self._enter(Phase.HOSPITAL, second, stay_s)
                handed_s = second + stay_s * self._human.uniform(0.3, 0.5)
                self._later.append((handed_s, "transfer_of_care"))
                self._plan("transfer_of_care", handed_s, task.call.incident)
                self._plan("available", second + stay_s, task.call.incident)
            case _:
                self._so("available", second)
                self._go_home(second)

    def _at_scene(self, second: int, task: _Task) -> None:
        patient_s = log_normal(self._human, PATIENT_MEDIAN_S, 0.5, 20.0, 900.0)
        stay_s = patient_s + log_normal(self._human, SCENE_MEDIAN_S, 0.4, 120.0, 5400.0)
        self._enter(Phase.SCENE, second, stay_s)
        incident = task.call.incident
        self._later.append((second + patient_s, "at_patient"))
        self._plan("at_patient", second + patient_s, incident)
        self._plan("transporting" if task.call.transported else "available", second + stay_s, incident)

    def _go_home(self, second: int) -> None:
        self._task = None
        self._drive(Phase.RETURNING, second, self._home.node, NORMAL)
        self._plan("in_quarters", self._phase_until_s, None)

    def _called_off(self, incident: str, now_s: float) -> None:
        if self._next is not None and self._next.incident == incident:
            self._next = None
        if self._task is None or self._task.call.incident != incident:
            return
        if self._phase not in (Phase.TURNOUT, Phase.RESPONDING):
            return  # who is with the patient stays
        self._ahead.clear()
        second = int(now_s)
        self._so("available", second)
        self._plan("available", second + 5, incident, surely=True)
        self._go_home(second)

    def _enter(self, phase: Phase, second: int, lasts_s: float) -> None:
        self._phase, self._phase_from_s, self._phase_until_s = phase, second, second + lasts_s

    def _drive(self, phase: Phase, second: int, node: int, manner: Manner) -> None:
        streets, rolling = self._world.streets, None
        if self._leg is not None:
            # On the road already: on to the next junction, and from there the new way.
            rolling = self._moment.point, self._moment.speed_mps
            self._node = self._leg.node_ahead(second - self._leg_from_s)
            self._driven_m += self._moment.along_m
        self._leg = Leg(streets, streets.route(self._node, node), manner, self._rng, rolling=rolling)
        self._leg_from_s, self._goal = second, node
        self._enter(phase, second, self._leg.duration_s)

    def _leave_leg(self) -> None:
        """Stand at the leg's end."""
        if self._leg is not None:
            self._driven_m += self._leg.length_m
            self._node, self._leg = self._goal, None
        self._stand()

    def _stand(self) -> None:
        point = self._world.streets.points[self._node]
        self._moment = Moment(point, 0.0, self._moment.course_deg, 0.0)

    def _so(self, status: str, second: float) -> None:
        incident = None if self._task is None else self._task.call.incident
        self.happened.append(Happened(self.index, second, status, incident))

    # ------------------------------------------------------------------ presses

    def _plan(self, status: str, true_s: float, incident: str | None, *, surely: bool = False) -> None:
        self._order += 1
        habits = Habits(missed=0.0, wrong=0.0, doubled=0.0, early=0.0) if surely else self._habits
        presses = presses_of(habits, self._human, status, true_s, order=self._order, incident=incident)
        if not presses:
            self.forgotten.append(Happened(self.index, true_s, status, incident))
        for press in presses:
            heapq.heappush(self._ahead, press)

    def _press(self, second: int, until_ns: int) -> int:
        """Make the presses until a moment of this second; how many there were.

        In a car without power nobody presses: it is made up for later.
        """
        made = 0
        until_s = second + until_ns / NS
        while self._ahead and self._ahead[0].at_s < until_s:
            press = heapq.heappop(self._ahead)
            lit_s = self._power_since_s + SIGN_ON_S / 2
            if press.at_s < lit_s:
                later_s = lit_s + self._human.uniform(0, 30)
                heapq.heappush(self._ahead, press._replace(at_s=later_s))
                continue
            self._ahead = [one for one in self._ahead if one.order >= press.order]
            heapq.heapify(self._ahead)
            self._push(press, max(press.at_s, float(second)))
            made += 1
        return made

    def _push(self, press: Press, at_s: float) -> None:
        self._now_ns = round(at_s * NS)
        boottime_ns = self.light.boottime_ns
        self.light.edge(ButtonEdge(press.key, True, self._box_seq + 1, boottime_ns, 1))
        up_ns = boottime_ns + press.held_ms * 1_000_000
        self.light.edge(ButtonEdge(press.key, False, self._box_seq + 2, up_ns, 1))
        self._box_seq += 2
        self.pressed.append(Pressed(self.index, at_s, press.key, press.means, press.true_s, press.incident))

    def _heed_hint(self, second: int) -> None:
        """The page asks about a press that seems forgotten: most crews make it when it is right."""
        hint = self.light.hint
        if hint == self._hint_seen:
            return
        self._hint_seen = hint
        if hint is None:
            return
        missed = next(
            (
                one
                for one in reversed(self.forgotten)
                if one.status == hint
                and one not in self._made_up
                and one.at_s <= second
                and second - one.at_s < 1800
            ),
            None,
        )
        if missed is None or self._human.random() >= self._habits.heeds:
            return
        self._made_up.add(missed)
        at_s = second + self._human.uniform(*HINT_HEEDED_S)
        order = min((one.order for one in self._ahead), default=self._order)
        heapq.heappush(self._ahead, Press(at_s, hint, 150, hint, order, missed.at_s, missed.incident))

    # ------------------------------------------------------------------ devices

    def _tell_fix(self, second: int) -> None:
        moment = self._moment
        fix = self._receiver.fix(
            second - self._power_since_s,
            START_UTC_MS + second * 1000,
            self.light.boottime_ns,
            place=self._stood[2],
            speed_mps=moment.speed_mps,
            course_deg=moment.course_deg,
            sky=self._world.sky(moment.point),
        )
        self.light.fix(fix)
        self._tell_others(second, fix)
        if self.sweep is not None:
            incident = None if self.light.incident is None else self._incident_at
            self.sweep.look(second + FIX_AFTER_NS / NS, fix, self.light.status, incident)

    def _tell_others(self, second: int, fix: Fix) -> None:
        """What dispatch would have been told by an interval alone."""
        live = self._covered and fix.has_position
        back, self._was_live = live and not self._was_live, live
        if not live or fix.lat_deg is None or fix.lon_deg is None:
            return
        point: Point | None = None
        for at, interval_s in enumerate(POLICIES_S):
            if back or (second + self._offsets[at]) % interval_s == 0:
                point = point or self._world.streets.point_at(fix.lat_deg, fix.lon_deg)
                self._told[at] = point

    def _tell_signals(self, second: int) -> None:
        standing_s = second - self._phase_from_s
        ignition = self._phase is not Phase.WAITING or standing_s < IGNITION_OFF_AFTER_S
        if not ignition and self._heard.get("LowVoltageSystemState") == "OFF":
            return  # the bus sleeps
        lights = self._phase is Phase.RESPONDING or (
            self._phase is Phase.TRANSPORTING and self._task is not None and self._task.call.priority == "1"
        )
        if self._phase is Phase.RESPONDING and self._task is not None and self._task.call.priority == "3":
            lights = False
        speed_kmh = round(self._moment.speed_mps * 3.6, 1)
        values: dict[str, Any] = {
            "Speed": speed_kmh,
            "LowVoltageSystemState": "ON" if ignition else "OFF",
            "Ambulance.EmergencyLights.IsOn": lights,
            "Ambulance.Siren.IsOn": lights and self._moment.speed_mps > 2,
            "TraveledDistance": round(self._odometer_m + self._driven_m + self._moment.along_m, -2),
        }
        boottime_ns = self.light.boottime_ns
        again = second % REHEARD_S == 0
        said = [
            Signal(name, value, boottime_ns)
            for name, value in values.items()
            if again or self._heard.get(name) != value
        ]
        if said:
            self._heard.update(values)
            self.light.signals(said)
            if self.sweep is not None:
                self.sweep.wheels(boottime_ns, self._moment.speed_mps)


def configuration(index: int, places: Path, overrides: dict[str, Any] | None = None) -> Config:
    """The configuration of a unit's agent: as shipped, with the demo's bus and the city's places."""
    from agent.app.devices import validate
    from hil.process.vehicle_config import merged
    from hil.sim.sim_rig import DEMO_VEHICLE

    base: dict[str, Any] = {
        "status_socket": str(places.parent / "mdt.sock"),
        "unit": {"agency": AGENCY, "unit": unit_name(index)},
        "store": {"directory": str(places.parent / unit_name(index))},
        "places": {"file": str(places)},
        "device": [{"kind": "can_socketcan", "channel": "sim", "vehicle": str(DEMO_VEHICLE)}],
        "uplink": {"brokers": [{"host": "memory", "port": 1, "allow_plaintext": True}]},
    }
    return validate(merged(base, overrides or {}), places.parent / "agent.toml")
