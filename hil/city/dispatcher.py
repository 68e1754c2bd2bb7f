"""The centre: the real service with its store, and a dispatcher who sends the nearest unit by its picture."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from agent.dispatch.access import Who
from agent.dispatch.fleet import Unit
from agent.dispatch.intake import Heard, Message
from agent.dispatch.mqtt_source import SourceState
from agent.dispatch.service import Service
from agent.dispatch.settings import DispatchFile
from agent.dispatch.store.sqlite import SqliteEngine
from agent.domain.fix import FixMode
from agent.domain.picture import extrapolated
from agent.domain.record import CallRecord, Position
from agent.wire.topics import Topics, parse_topic
from hil.city.sim_unit import AGENCY, POLICIES_S, Truth
from hil.city.streets import Point, Streets
from hil.city.worker import Order, Told
from hil.city.world import START_UTC_MS, Call, World, unit_name
from hil.sim.virtual_loop import VirtualLoop

DECIDES_AFTER_S = (40.0, 80.0)
"""From the first ring to the choice of a unit: what is asked and typed meanwhile. Assumed."""
UNHEARD_AFTER_S = 30.0
"""A call that the vehicle did not confirm is given to the next unit."""
FREE_STATUSES = frozenset({"available", "in_quarters"})
DISPATCHER = Who("the dispatcher", "dispatch")
_TURNS = 40


class CentreLoop(VirtualLoop):
    """A loop in simulated time on which the service's writing thread is this thread."""

    def run_in_executor(self, executor: Executor | None, func: Any, *args: Any) -> Any:  # type: ignore[override]  # the thread that is not there
        """Do it now."""
        del executor
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  # raised to whoever awaits
            done.set_exception(error)
        return done


class CitySource:
    """Where the service's messages come from, and its commands go; implements `service.Source`."""

    def __init__(
        self, on_message: Callable[[Message], None], on_state: Callable[[SourceState], None]
    ) -> None:
        self._on_message = on_message
        self._on_state = on_state
        self.connected = True
        self.fed = 0
        self.confirmed = 0
        self.commands: list[tuple[Topics, str, bytes]] = []

    async def run(self) -> None:
        """Say that there is a broker."""
        self._on_state(SourceState(True, ""))
        await asyncio.Event().wait()

    def feed(self, message: Message) -> None:
        """A unit's message."""
        self.fed += 1
        self._on_message(message)

    def confirm(self, message: Message) -> None:
        """It is stored."""
        del message
        self.confirmed += 1

    def publish(self, topic: str, payload: bytes, on_taken: Callable[[], None] | None = None) -> bool:
        """Keep a command until the next step; receipts are nothing to a unit that goes by PUBACK."""
        parsed = parse_topic(topic)
        assert parsed is not None
        if parsed.name:
            self.commands.append((parsed.topics, parsed.name, payload))
        if on_taken is not None:
            on_taken()
        return True

    def send_kept(self, topic: str, payload: bytes, retain: bool, expiry_s: int | None) -> bool:
        """Nobody listens."""
        del topic, payload, retain, expiry_s
        return True

    def reconnect(self, why: str) -> None:
        """Raises RuntimeError: this store does not fail, and if it does the run is worth nothing."""
        raise RuntimeError(why)


class Picked(NamedTuple):
    """Whom a way of reporting would have sent.

    Attributes:
        unit: index; None when dispatch knew of nobody.
        off_m: how much farther it really was than the nearest of the same units.
    """

    unit: int | None
    off_m: float


@dataclass(frozen=True, slots=True)
class Choice:
    """One decision, and what others would have decided at the same moment about the same units.

    Attributes:
        incident: the call.
        at_s: when.
        unit: who was sent.
        free: indices of the units that dispatch took for free.
        by: the choice by each way of reporting; the first is dispatch's own.
        left_out: indices of units that really were free and not in `free`, with why.
        nearer_left_out_m: how much nearer the nearest of those was; 0 when none was nearer.
    """

    incident: str
    at_s: float
    unit: int
    free: tuple[int, ...]
    by: dict[str, Picked]
    left_out: dict[int, str]
    nearer_left_out_m: float


BY_DRAWN, BY_TOLD = "25 m, drawn on", "25 m, as told"
BY_INTERVAL = tuple(f"every {interval_s} s" for interval_s in POLICIES_S)
"""Names of the ways of reporting that are compared."""


@dataclass(slots=True)
class _Open:
    call: Call
    due_s: float
    tried: set[int] = field(default_factory=set)


class Centre:
    """Dispatch. Used as `async with`, on a CentreLoop.

    Args:
        world: the city.
        store: the SQLite file.

    Attributes:
        choices: all decisions.
        unanswered: times that a unit did not confirm a call.
        digest: of every message and decision, in order.
    """

    def __init__(self, world: World, store: Path) -> None:
        self._world = world
        self._open = [_Open(call, call.at_s + self._decides_s(call)) for call in world.calls]
        self._asked: dict[str, tuple[int, float, _Open]] = {}
        self._received: set[tuple[str, int]] = set()
        self._source: CitySource
        self._settings = DispatchFile.model_validate(
            {
                "store": str(store),
                "agency": AGENCY,
                "broker": {"host": "memory", "port": 1, "allow_plaintext": True},
            }
        )
        self._made = 0
        self._hash = hashlib.sha256()
        self.service = Service(
            self._settings, SqliteEngine(store), self._new_source, self.now_ms, new_id=self._new_id
        )
        self.choices: list[Choice] = []
        self.unanswered = 0
        self._stirred = False
        """Whether the service has something to tell units: an answer to a press, a call."""
        self.messages = 0

    @property
    def digest(self) -> str:
        """SHA-256 of what came and what was decided."""
        return self._hash.hexdigest()

    async def __aenter__(self) -> Centre:
        await self.service.__aenter__()
        self.service.on_stored.append(self._note)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.service.__aexit__(*exc)

    def now_ms(self) -> int:
        """UTC of the simulation."""
        return START_UTC_MS + round(asyncio.get_running_loop().time() * 1000)

    async def take(self, told: Sequence[Told]) -> None:
        """Store what units said, in the order in which it came."""
        for one in told:
            self._hash.update(f"{one.at_ns} {one.topic} ".encode() + one.payload)
            self._source.feed(Message(one.topic, one.payload, START_UTC_MS + one.at_ns // 1_000_000))
        self.messages += len(told)
        self._stirred = self._stirred or any(one.topic.endswith("/journal/events") for one in told)
        turns = 0
        while self._source.confirmed < self._source.fed:
            await asyncio.sleep(0)
            turns += 1
            if turns > 1000 * _TURNS:
                raise RuntimeError(f"the service does not store: {self.service.service_state()}")

    async def decide(self, now_s: float, truth: dict[int, Truth]) -> list[Order]:
        """Send units to the calls that are due; everything that the service tells units."""
        await self._give_up_on_the_unheard(now_s)
        for one in [one for one in self._open if one.due_s <= now_s]:
            choice = self._choose(one, now_s, truth)
            if choice is None:
                continue  # nobody is free: looked at again with the next step
            self._open.remove(one)
            self.choices.append(choice)
            self._hash.update(f"{now_s} {choice.incident} {choice.unit} ".encode())
            self._asked[one.call.incident] = choice.unit, now_s + UNHEARD_AFTER_S, one
            self._stirred = True
            await self._assign(one.call, choice.unit)
        for _ in range(_TURNS if self._stirred else 1):
            await asyncio.sleep(0)
        self._stirred = False
        orders = [
            Order(int(topics.unit[1:]) - 1, name, payload) for topics, name, payload in self._source.commands
        ]
        self._source.commands.clear()
        return orders

    def unit(self, index: int) -> Unit | None:
        """A unit as dispatch sees it."""
        return self.service.fleet.get(Topics(AGENCY, unit_name(index)))

    @property
    def waiting(self) -> int:
        """Calls that nobody was found for yet."""
        return len(self._open)

    # ------------------------------------------------------------------ choosing

    def _choose(self, one: _Open, now_s: float, truth: dict[int, Truth]) -> Choice | None:
        seen = {index: self.unit(index) for index in range(self._world.units)}
        why = {index: _not_free(unit) for index, unit in seen.items()}
        free = [index for index in seen if not why[index] and index not in one.tried]
        drawn, as_told = {}, {}
        for index in free:
            seen_unit = seen[index]
            assert seen_unit is not None
            drawn[index], as_told[index] = places(seen_unit, self._world.streets, START_UTC_MS + now_s * 1000)
        free = [index for index in free if drawn[index] is not None]
        if not free:
            return None
        metres = Metres(self._world.streets, one.call.node)
        pictures: dict[str, dict[int, Point | None]] = {BY_DRAWN: drawn, BY_TOLD: as_told}
        for at, name in enumerate(BY_INTERVAL):
            pictures[name] = {index: truth[index].told[at] for index in free}
        really = {index: metres(truth[index].point) for index in free}
        nearest_m = min(really.values())
        by = {}
        for name, picture in pictures.items():
            # Dispatch does not send units of which it does not know where they are.
            known = {index: metres(point) for index in free if (point := picture[index]) is not None}
            picked = min(known, key=lambda index: (known[index], index), default=None)
            by[name] = Picked(picked, 0.0 if picked is None else really[picked] - nearest_m)
        unit = by[BY_DRAWN].unit
        assert unit is not None
        left_out = {
            index: why[index] or "not located"
            for index in seen
            if truth[index].free and index not in free and index not in one.tried
        }
        nearest_left_m = min((metres(truth[index].point) for index in left_out), default=float("inf"))
        return Choice(
            one.call.incident,
            now_s,
            unit,
            tuple(free),
            by,
            left_out,
            max(0.0, really[unit] - nearest_left_m),
        )

    async def _assign(self, call: Call, index: int) -> None:
        lat_deg, lon_deg = self._world.streets.lat_lon(self._world.streets.points[call.node])
        hospital = self._world.nearest_hospital(call.node)
        await self.service.command(
            DISPATCHER,
            "assign",
            Topics(AGENCY, unit_name(index)),
            {
                "incident": call.incident,
                "priority": call.priority,
                "response_mode": "none" if call.priority == "3" else "lights_and_siren",
                "lat_deg": round(lat_deg, 6),
                "lon_deg": round(lon_deg, 6),
                "destination": hospital.id,
            },
        )

    async def _give_up_on_the_unheard(self, now_s: float) -> None:
        for incident, (index, until_s, one) in list(self._asked.items()):
            if (incident, index) in self._received:
                del self._asked[incident]
            elif now_s >= until_s:
                self.unanswered += 1
                del self._asked[incident]
                one.tried.add(index)
                one.due_s = now_s
                self._open.append(one)
                topics = Topics(AGENCY, unit_name(index))
                self._stirred = True
                await self.service.command(DISPATCHER, "cancel", topics, {"incident": incident})

    def _note(self, heard: Heard) -> None:
        """Which units confirmed which calls."""
        for batch in heard.batches:
            for record in batch.records:
                if isinstance(record.body, CallRecord) and record.body.step == "received":
                    self._received.add((record.body.incident, int(batch.topics.unit[1:]) - 1))

    # ------------------------------------------------------------------ inside

    def _decides_s(self, call: Call) -> float:
        digits = int(hashlib.sha256(f"{self._world.seed}/{call.incident}".encode()).hexdigest()[:8], 16)
        least_s, most_s = DECIDES_AFTER_S
        return least_s + (most_s - least_s) * digits / 0xFFFFFFFF

    def _new_source(
        self,
        on_message: Callable[[Message], None],
        on_state: Callable[[SourceState], None],
        _read_to: Callable[[], int | None],
    ) -> CitySource:
        self._source = CitySource(on_message, on_state)
        return self._source

    def _new_id(self) -> str:
        self._made += 1
        return f"{self._made:032x}"


class Metres:
    """The way along the streets to one node, from any place: to the nearest node, and from there."""

    def __init__(self, streets: Streets, node: int) -> None:
        self._streets = streets
        self._node = node
        self._known: dict[int, float] = {}

    def __call__(self, point: Point) -> float:
        """Metres from a place."""
        near = self._streets.nearest(point)
        if near not in self._known:
            self._known.update(self._streets.metres_from(self._node, [near]))
        return self._known[near]


def places(unit: Unit, streets: Streets, now_ms: float) -> tuple[Point | None, Point | None]:
    """Where dispatch's map draws a unit, and where it was told last; None when nobody knows."""
    place = unit.place
    if place is None:
        return None, None
    fields = place.fields
    told = fields["lat_deg"], fields["lon_deg"]
    drawn = told
    if place.at_ms is not None and place.fix:
        position = Position(
            *told, None, fields["speed_mps"], fields["course_deg"], FixMode.FIX_3D, None, None
        )
        drawn = extrapolated(position, (now_ms - place.at_ms) / 1000)
    return streets.point_at(*drawn), streets.point_at(*told)


def _not_free(unit: Unit | None) -> str:
    """Why dispatch would not send a unit; empty when it would."""
    if unit is None:
        return "never heard of"
    against = {
        "offline": unit.online is not True,
        "status": unit.status not in FREE_STATUSES,
        "on a call": unit.call is not None,
        "emergency": unit.emergency,
    }
    return next((word for word, holds in against.items() if holds), "")
