"""Units speak to the cluster while it is hurt; in the end what was acknowledged is stored, exactly once."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import psycopg

from agent.domain.record import Kind
from agent.wire.topics import Topics
from hil.cluster.site import AGENCY, Site
from hil.cluster.units import Unit

SETTLES_WITHIN_S = 120.0
PRESS_EVERY_S = 0.25
"""Of each unit, on average: a thousand times what crews do."""

Harm = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Outcome:
    """What came of a campaign.

    Attributes:
        pressed: presses of all units.
        acknowledged: those that the broker said to have.
        lost: (unit, press) that were acknowledged and are not stored.
        doubled: (unit, press) that are stored more than once.
        strange: (unit, press) that are stored and nobody pressed.
        settled_s: from the last press until all was acknowledged and stored; None when it never was.
        longest_s: the longest time from a press to its acknowledgement.
        notes: what was done, and when.
    """

    pressed: int = 0
    acknowledged: int = 0
    lost: list[tuple[str, int]] = field(default_factory=list)
    doubled: list[tuple[str, int]] = field(default_factory=list)
    strange: list[tuple[str, int]] = field(default_factory=list)
    settled_s: float | None = None
    longest_s: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Nothing lost, nothing doubled, nothing invented, and all of it arrived."""
        return (
            not (self.lost or self.doubled or self.strange)
            and self.settled_s is not None
            and self.pressed > 0
        )


async def run(
    site: Site, harms: Sequence[tuple[str, Harm]], *, seed: int = 1, between_s: float = 4.0
) -> Outcome:
    """Press all the time; do one harm after the other; wait until everything is where it belongs.

    Args:
        site: the running cluster.
        harms: what is done, in order, with its name; each leaves the site whole again.
        seed: of the presses' times.
        between_s: presses go on undisturbed before each harm, and after the last.
    """
    outcome, rng, begun_s = Outcome(), random.Random(seed), time.monotonic()
    async with AsyncExitStack() as stack:
        units = []
        for number, name in enumerate(site.units):
            brokers = site.brokers_of(name, number % len(site.cluster.nodes))
            unit = Unit(Topics(AGENCY, name), site.folder / "units" / name, brokers)
            units.append(await stack.enter_async_context(unit))
        pressing = asyncio.create_task(_press(units, rng, outcome))
        try:
            for name, harm in harms:
                await asyncio.sleep(between_s)
                outcome.notes.append(f"{time.monotonic() - begun_s:6.1f} s {name}")
                await harm()
            await asyncio.sleep(between_s)
        finally:
            pressing.cancel()
            await asyncio.gather(pressing, return_exceptions=True)
        await _settle(site, units, outcome)
    return outcome


async def _press(units: Sequence[Unit], rng: random.Random, outcome: Outcome) -> None:
    waiting: dict[tuple[str, int], float] = {}
    while True:
        rng.choice(units).press()
        now_s = time.monotonic()
        for unit in units:
            waiting.setdefault((unit.topics.unit, len(unit.presses)), now_s)
            for number in unit.acknowledged:
                since_s = waiting.pop((unit.topics.unit, number), None)
                if since_s is not None:
                    outcome.longest_s = max(outcome.longest_s, now_s - since_s)
        await asyncio.sleep(PRESS_EVERY_S / len(units) * rng.uniform(0.5, 1.5))


async def _settle(site: Site, units: Sequence[Unit], outcome: Outcome) -> None:
    begun_s = time.monotonic()
    pressed = {(unit.topics.unit, number) for unit in units for number in unit.presses}
    stored: Counter[tuple[str, int]] = Counter()
    while time.monotonic() - begun_s < SETTLES_WITHIN_S:
        stored = await asyncio.to_thread(stored_presses, site.database)
        if all(unit.all_acknowledged for unit in units) and pressed <= stored.keys():
            outcome.settled_s = time.monotonic() - begun_s
            break
        await asyncio.sleep(0.5)
    acknowledged = {(unit.topics.unit, number) for unit in units for number in unit.acknowledged}
    outcome.pressed, outcome.acknowledged = len(pressed), len(acknowledged)
    outcome.lost = sorted(acknowledged - stored.keys())
    outcome.doubled = sorted(one for one, times in stored.items() if times > 1)
    outcome.strange = sorted(stored.keys() - pressed)


def stored_presses(database: str) -> Counter[tuple[str, int]]:
    """How often each press of each unit stands among the rows."""
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "SELECT units.unit, records.body FROM records JOIN units USING (unit_id) WHERE kind = %s",
            (int(Kind.STATUS),),
        ).fetchall()
    return Counter((unit, json.loads(body)["press_seq"]) for unit, body in rows)
