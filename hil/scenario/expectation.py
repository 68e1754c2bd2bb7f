"""What an expectation is: settings from a scenario, and a verdict on an observation."""

from __future__ import annotations

from dataclasses import dataclass

from agent.config import Section
from agent.runtime.plain_text import counted
from hil.process.press_log import percentile_ms
from hil.rig import RigKind
from hil.scenario.observation import Observation

MOST_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an expectation held.

    Attributes:
        held: it did.
        measured: what was found, in one line for a person.
    """

    held: bool
    measured: str


class Expectation(Section):
    """Settings that every expectation has.

    Attributes:
        rigs: where it is looked at; without it on every rig.
    """

    rigs: tuple[RigKind, ...] = ("sim", "process")

    @property
    def name(self) -> str:
        """The kind with its bounds."""
        own = self.model_dump(exclude={"rigs", "kind"}, exclude_unset=True)
        kind = str(getattr(self, "kind", ""))
        return kind + "".join(f" {key}={value}" for key, value in own.items())

    def check(self, seen: Observation) -> Verdict:
        """Judge."""
        raise NotImplementedError


def listed(problems: list[str], good: str) -> Verdict:
    """Held when there are no problems; tells the first few."""
    if not problems:
        return Verdict(True, good)
    more = f" and {len(problems) - MOST_EXAMPLES} more" if len(problems) > MOST_EXAMPLES else ""
    return Verdict(False, "; ".join(problems[:MOST_EXAMPLES]) + more)


def within(durations_s: list[float], bound_s: float, missing: int) -> Verdict:
    """Held when no press is without its end and the longest is within the bound."""
    if not durations_s:
        return Verdict(missing == 0, f"none of {missing} presses came" if missing else "no press to measure")
    text = (
        f"{counted(len(durations_s), 'press')}: p50 {percentile_ms(durations_s, 50):.0f} ms, "
        f"p99 {percentile_ms(durations_s, 99):.0f} ms, worst {max(durations_s):.2f} s"
    )
    if missing:
        text += f"; {missing} never came"
    return Verdict(not missing and max(durations_s) <= bound_s, text)
