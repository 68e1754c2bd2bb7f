"""How a crew presses: late, early, not at all, the wrong key, twice.

That crews' times are wrong often enough to be changed by hand is documented (594 and 89 times in one service
in fifteen months), how they are distributed is not. All shares and delays here are assumed; the report names
them, and its figures hold for them alone.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import NamedTuple

TAP_MS = (110, 220)
"""How long a finger stays on a button."""
EARLY_S = 20.0
DOUBLED_S = (0.2, 1.2)
PUT_RIGHT_S = (4.0, 15.0)
"""After a wrong key, the right one."""
HINT_HEEDED_S = (5.0, 40.0)
"""From the page's question to the press that was forgotten."""
NEIGHBOUR = {
    "acknowledged": "en_route",
    "en_route": "on_scene",
    "on_scene": "at_patient",
    "at_patient": "transporting",
    "transporting": "at_destination",
    "at_destination": "transfer_of_care",
    "transfer_of_care": "available",
    "available": "in_quarters",
    "in_quarters": "available",
    "out_of_service": "available",
}
"""The key beside the one that was meant."""


@dataclass(frozen=True, slots=True)
class Habits:
    """The error model. Shares are of presses that should be made.

    Attributes:
        missed: not made at all, unless the page asks.
        wrong: another key first.
        doubled: the key twice within about a second.
        early: pressed up to `EARLY_S` before it is so, of what the crew sees coming.
        late_median_s: of a log-normal delay.
        late_sigma: of its logarithm.
        heeds: how often a crew that is asked by the page about a press it forgot makes it.
    """

    missed: float = 0.05
    wrong: float = 0.008
    doubled: float = 0.02
    early: float = 0.12
    late_median_s: float = 9.0
    late_sigma: float = 1.1
    heeds: float = 0.6


FLAWLESS = Habits(missed=0.0, wrong=0.0, doubled=0.0, early=0.0, late_median_s=2.0, late_sigma=0.1)
FORESEEN = frozenset({"en_route", "on_scene", "transporting", "at_destination", "in_quarters"})
NEVER_MISSED = frozenset({"acknowledged", "out_of_service"})
"""The first is asked for until it comes; with the second goes a conversation."""


class Press(NamedTuple):
    """A press that a crew is going to make.

    Attributes:
        at_s: when the button goes down.
        key: which.
        held_ms: for how long.
        means: the status that is meant; another than `key` for a slip.
        order: of the event within the shift; what comes later makes what came before pointless.
        true_s: since when that is so.
        incident: that the crew works for.
    """

    at_s: float
    key: str
    held_ms: int
    means: str
    order: int
    true_s: float
    incident: str | None


def presses_of(
    habits: Habits, rng: random.Random, status: str, true_s: float, *, order: int, incident: str | None
) -> list[Press]:
    """The presses that a crew makes for something that is so from `true_s` on; none when it forgets."""
    # Every draw is made whatever comes of the others, so that one habit can be changed alone.
    missed, wrong, doubled, early = (rng.random() for _ in range(4))
    late_s = habits.late_median_s * math.exp(habits.late_sigma * rng.gauss(0, 1))
    early_s, again_s, right_s = rng.uniform(0, EARLY_S), rng.uniform(*DOUBLED_S), rng.uniform(*PUT_RIGHT_S)
    held_ms = rng.randint(*TAP_MS)
    if missed < habits.missed and status not in NEVER_MISSED:
        return []
    at_s = true_s - early_s if early < habits.early and status in FORESEEN else true_s + min(late_s, 1800.0)
    press = Press(at_s, status, held_ms, status, order, true_s, incident)
    if wrong < habits.wrong:
        return [press._replace(key=NEIGHBOUR[status]), press._replace(at_s=at_s + right_s)]
    if doubled < habits.doubled:
        return [press, press._replace(at_s=at_s + again_s)]
    return [press]


def log_normal(rng: random.Random, median: float, sigma: float, least: float, most: float) -> float:
    """A duration that is never below or above what makes sense."""
    return min(max(median * math.exp(sigma * rng.gauss(0, 1)), least), most)
