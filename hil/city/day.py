"""A day of the city: units in two processes, the centre in this one, all on one clock."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hil.city.crew import Habits
from hil.city.dispatcher import Centre, CentreLoop, Choice, places
from hil.city.sim_unit import Happened, Pressed
from hil.city.streets import Streets
from hil.city.worker import ShareHere, ShareProcess, Step, Sums, Told
from hil.city.world import START_UTC_MS, World, draw_world

STEP_S = 5
"""Units and centre meet so often; the centre decides at these moments, and its words arrive with the next."""
DRAIN_S = 180
"""After the day every unit is in coverage and on for so long, so that what was left can come."""
OFF_MOST_M = 2_000


@dataclass(frozen=True, slots=True)
class Options:
    """What day it is to be.

    Attributes:
        units: at the peak.
        calls: of the whole time.
        hours: that it lasts.
        seed: of everything.
        workers: processes of units; 0 for none but this one.
        streets: files of streets; none for a made-up city.
        habits: of the crews.
        agent: over the configuration of every agent.
        sweep: whether hints are tried with many radii and dwell times.
    """

    units: int = 24
    calls: int = 300
    hours: float = 24.0
    seed: int = 1
    workers: int = 2
    streets: tuple[Path, ...] = ()
    habits: Habits = field(default_factory=Habits)
    agent: Mapping[str, Any] = field(default_factory=dict)
    sweep: bool = False


@dataclass(slots=True)
class Spread:
    """Distances counted by the metre; what is beyond the last counts there."""

    counts: list[int] = field(default_factory=lambda: [0] * (OFF_MOST_M + 1))
    cases: int = 0

    def add(self, metres: float) -> None:
        """One more."""
        self.counts[min(int(metres), OFF_MOST_M)] += 1
        self.cases += 1

    def quantile(self, share: float) -> int | None:
        """Metres that a share of the cases does not go beyond; None of no cases."""
        if not self.cases:
            return None
        wanted, seen = share * self.cases, 0
        for metres, count in enumerate(self.counts):
            seen += count
            if seen >= wanted:
                return metres + 1
        return OFF_MOST_M

    def share_within(self, metres: int) -> float | None:
        """Share of the cases that are within so many metres."""
        return sum(self.counts[:metres]) / self.cases if self.cases else None


@dataclass(slots=True)
class Day:
    """All that is known of a day once it is over.

    Attributes:
        options: what was asked for.
        world: the city.
        store: the service's file.
        digest: equal for equal days.
        pressed: every press.
        happened: everything that became so.
        choices: every decision.
        sums: of the units.
        picture: how far dispatch's map was from the truth, by the unit's freshness.
        free_hours: duty hours of all units.
        bytes_of: packet bytes by the end of the topic.
        messages_of: messages likewise.
        unanswered: calls that a unit did not confirm.
        unheard: commands that reached nobody, by name.
        without_unit: calls for which nobody was found to the end.
        wall_s: how long it took.
        cpu_s: processor time of all processes.
        rss_mib: largest of each process.
    """

    options: Options
    world: World
    store: Path
    digest: str = ""
    pressed: list[Pressed] = field(default_factory=list)
    happened: list[Happened] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    sums: Sums = field(default_factory=Sums)
    picture: dict[str, Spread] = field(default_factory=lambda: defaultdict(Spread))
    bytes_of: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    messages_of: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    unanswered: int = 0
    unheard: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    without_unit: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    rss_mib: float = 0.0

    @property
    def duty_hours(self) -> float:
        """Of all units together."""
        return sum(duty.end_s - duty.start_s for duty in self.world.duties) / 3600

    @property
    def end_ms(self) -> int:
        """UTC of the end, with the drain."""
        return START_UTC_MS + (self.world.duration_s + DRAIN_S) * 1000


def run_day(options: Options, folder: Path, tell: Callable[[float], None] = lambda _: None) -> Day:
    """Live through a day.

    Args:
        options: which.
        folder: for the store and the places file; made if need be.
        tell: called now and then with the share that is done.

    Raises:
        OSError, ValueError: the streets can not be read, or the folder has a day in it.
        RuntimeError: a process of units failed.
    """
    began_s, began_cpu_s = time.monotonic(), _cpu_s()
    folder.mkdir(parents=True, exist_ok=True)
    streets = Streets.load(*options.streets) if options.streets else Streets.made_up(options.seed)
    world = draw_world(
        streets, units=options.units, calls=options.calls, hours=options.hours, seed=options.seed
    )
    places_file = folder / "places.geojson"
    places_file.write_text(json.dumps(world.places()), encoding="utf-8")
    store = folder / "dispatch.db"
    if store.exists():
        raise ValueError(f"{store}: there is a day already; give a folder of its own to each")
    day = Day(options, world, store)
    count = max(1, min(options.workers, options.units))
    new_share = ShareProcess if options.workers else ShareHere
    shares: list[ShareProcess | ShareHere] = [
        # Neighbours by number work the same hours: dealt out in turn, every process has as much to do.
        new_share(
            world,
            range(at, options.units, count),
            places_file,
            options.habits,
            dict(options.agent),
            options.sweep,
        )
        for at in range(count)
    ]
    loop = CentreLoop()
    try:
        logging.disable(logging.CRITICAL)
        loop.run_until_complete(_live(day, shares, tell))
        for share in shares:
            _add_sums(day.sums, share.sums())
    finally:
        for share in shares:
            share.close()
        loop.close()
        logging.disable(logging.NOTSET)
    day.wall_s, day.cpu_s = time.monotonic() - began_s, _cpu_s() - began_cpu_s
    day.rss_mib = max(
        resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return day


async def _live(day: Day, shares: Sequence[ShareProcess | ShareHere], tell: Callable[[float], None]) -> None:
    """Step after step: while the centre deals with one, the units live through the next."""
    loop = asyncio.get_running_loop()
    async with Centre(day.world, day.store) as centre:
        end_s = day.world.duration_s + DRAIN_S
        for share in shares:
            share.begin(STEP_S, ())
        orders: list[Any] = []
        for now_s in range(STEP_S, end_s + STEP_S, STEP_S):
            steps = [share.end() for share in shares]
            if now_s < end_s:
                for share in shares:
                    share.begin(now_s + STEP_S, orders)
            await asyncio.sleep(now_s - loop.time())
            step = _together(day, steps)
            await centre.take(step.told)
            orders = await centre.decide(float(now_s), step.truth)
            _compare(day, centre, step, now_s)
            if now_s % 600 == 0:
                tell(now_s / end_s)
        day.digest, day.choices = centre.digest, centre.choices
        day.unanswered, day.without_unit = centre.unanswered, centre.waiting


def _together(day: Day, steps: Sequence[Step]) -> Step:
    whole = Step()
    for step in steps:
        whole.told += step.told
        whole.truth |= step.truth
        day.pressed += step.pressed
        day.happened += step.happened
        for order in step.unheard:
            day.unheard[order.name] += 1
    whole.told.sort(key=_in_time)
    for told in whole.told:
        kind = told.topic.split("/", 4)[4]
        day.bytes_of[kind] += told.packet_bytes
        day.messages_of[kind] += 1
    return whole


def _in_time(told: Told) -> tuple[int, int, int]:
    return told.at_ns, told.unit, told.number


def _compare(day: Day, centre: Centre, step: Step, now_s: int) -> None:
    """How far dispatch's map is from the truth at this moment."""
    now_ms = START_UTC_MS + now_s * 1000
    picture = centre.service.settings.picture
    streets = day.world.streets
    for index, truth in step.truth.items():
        unit = centre.unit(index)
        if unit is None or not truth.on:
            continue
        drawn, _ = places(unit, streets, now_ms)
        if drawn is not None:
            east_m, north_m = drawn[0] - truth.point[0], drawn[1] - truth.point[1]
            day.picture[unit.freshness(now_ms, picture)].add((east_m * east_m + north_m * north_m) ** 0.5)


def _add_sums(sums: Sums, more: Sums) -> None:
    sums.made |= more.made
    sums.lost_staged |= more.lost_staged
    sums.dark |= more.dark
    sums.sent_again |= more.sent_again
    sums.forgotten += more.forgotten
    sums.waiting |= more.waiting
    sums.hints += more.hints


def quick_folder() -> Path | None:
    """Memory where there is some: a day is a hundred thousand commits, and no card is measured here."""
    memory = Path("/dev/shm")  # noqa: S108  # a folder of its own is made in it
    return memory if memory.is_dir() else None


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
