"""The report of a scenario's run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from agent.runtime.plain_text import counted, how_often
from hil.report.builder import RunMaterial, build_report
from hil.report.model import ExpectationRow, FaultBar, RunReport
from hil.report.words import in_words, settings_in_words, value_in_words
from hil.scenario.expectation import Expectation, Verdict
from hil.scenario.fault import Fault
from hil.scenario.observation import Observation


def observed_run(
    seen: Observation,
    *,
    why: str,
    results: Sequence[tuple[Expectation, Verdict]],
    wall_s: float | None = None,
) -> RunReport:
    """The report of an observation.

    Args:
        seen: what was observed.
        why: why the scenario is there.
        results: every expectation that was looked at, with what was found.
        wall_s: how long the run took.
    """
    notes = (
        [f"Dispatch could not read {counted(len(seen.refused), 'payload')}: {seen.refused[0]}."]
        if seen.refused
        else []
    )
    if not seen.delivered:
        notes.append("When the run ended, records still waited in the vehicle or dispatch missed some.")
    if seen.counts.told_gone:
        gone = seen.counts.told_gone
        are = "is" if gone == 1 else "are"
        notes.append(f"{counted(gone, 'record')} {are} gone, and gap records tell dispatch which.")
    if seen.starts > 1:
        notes.append(f"The daemon was started {how_often(seen.starts)}.")
    return build_report(
        RunMaterial(
            title=seen.title,
            why=why,
            rig=seen.rig,
            seed=seen.seed,
            start_utc_ms=seen.start_utc_ms,
            began_s=seen.began_s,
            truth=seen.truth,
            arrivals=seen.arrivals,
            state_history=seen.state_history,
            presses=seen.presses,
            boot_began_s=seen.boot_began_s,
            daemon_ends_s=seen.daemon_ends_s,
            samples=seen.samples,
            faults=[
                FaultBar(one.fault.name, one.from_drive_s, one.to_drive_s, fault_detail(one.fault))
                for one in seen.faults
            ],
            expectations=[expectation_row(expectation, verdict) for expectation, verdict in results],
            drive=seen.drive_name,
            speed=seen.speed,
            log=seen.agent_log,
            digest=seen.digest,
            notes=notes,
            wall_s=wall_s,
        )
    )


def fault_detail(fault: Fault) -> str:
    """What the fault is, with those of its settings that its description does not name."""
    described = type(fault).__doc__ or ""
    settings = fault.model_dump(exclude={"kind", "at_s", "for_s", "rigs"})
    rest = settings_in_words({name: one for name, one in settings.items() if f"`{name}`" not in described})
    meaning = _meaning(fault, fault.model_dump())
    return f"{meaning} ({rest})" if rest else meaning


def expectation_row(expectation: Expectation, verdict: Verdict) -> ExpectationRow:
    """An expectation for a person."""
    kind = str(getattr(expectation, "kind", type(expectation).__name__))
    bounds = expectation.model_dump(exclude={"kind", "rigs"})
    return ExpectationRow(
        text=in_words(kind),
        held=verdict.held,
        found=verdict.measured,
        bound=settings_in_words(bounds),
        meaning=_meaning(expectation, bounds),
    )


def _meaning(setting: Fault | Expectation, settings: Mapping[str, Any]) -> str:
    """The first paragraph of a kind's description, with the values of the settings it names."""
    paragraph = (type(setting).__doc__ or "").strip().partition("\n\n")[0]

    def told(match: re.Match[str]) -> str:
        value = settings.get(match[1])
        return value_in_words(match[1], value) if value else match[1]

    return re.sub(r"`([^`]+)`", told, " ".join(paragraph.split()))
