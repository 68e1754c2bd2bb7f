"""A run in plain words, and the few numbers worth a place at the top."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from hil.drive.route import distance_m
from hil.report.model import FaultBar, Figure, LinkView, PressMark, RunReport, RunVerdict
from hil.report.thinning import is_jump
from hil.report.words import clock, count, duration, in_words, length, listing

MOST_NAMED = 4
"""So many of a kind are named one by one."""

SIMULATED = "Its time is simulated: what the computer and its disk need themselves is not in the durations."


def headline(run: RunReport) -> str:
    """The verdict in one sentence."""
    failed, total = sum(not row.held for row in run.expectations), len(run.expectations)
    match run.verdict:
        case RunVerdict.PASSED:
            return f"All {total} expectations held." if total > 1 else "The one expectation held."
        case RunVerdict.FAILED:
            return f"{failed} of {count(total, 'expectation')} did not hold."
        case RunVerdict.BROKEN:
            return "The run did not come to its end."
        case RunVerdict.OBSERVED:
            return "Nothing was expected of this run; it was only observed."


def sentences(run: RunReport) -> list[str]:
    """What happened, in the order a person would tell it."""
    told = [_drive(run), _faults(run), _presses(run), _positions(run), _link(run), _reasons(run), *run.notes]
    return [sentence for sentence in told if sentence]


def figures(run: RunReport) -> list[Figure]:
    """The numbers at the top; only those there are."""
    return list(_figures(run))


def _drive(run: RunReport) -> str:
    steps = [(a, b) for a, b in pairwise(run.track) if not is_jump(a, b)]
    metres = sum(distance_m((a.lat_deg, a.lon_deg), (b.lat_deg, b.lon_deg)) for a, b in steps)
    drive = f"“{run.drive}”, " if run.drive else ""
    speed = f", played {run.speed:g} times as fast" if run.speed != 1 else ""
    text = f"The drive: {drive}{length(metres)} in {duration(run.duration_s)}{speed}, on the {run.rig} rig."
    jumps = len(run.track) - 1 - len(steps)
    if run.track and jumps:
        times = "once" if jumps == 1 else f"{jumps} times"
        text += f" Its own track jumps {times}, which no vehicle can; the map leaves that out."
    return text + (" " + SIMULATED if run.rig == "sim" else "")


def _faults(run: RunReport) -> str:
    if not run.faults:
        return "No fault was put on it."
    if len(run.faults) > MOST_NAMED:
        kinds = sorted({in_words(fault.kind) for fault in run.faults})
        return f"{len(run.faults)} faults were put on it: {listing(kinds)}."
    named = [_fault_words(fault) for fault in run.faults]
    begin = "One fault was" if len(named) == 1 else f"{len(named)} faults were"
    return f"{begin} put on it: {listing(named)}."


def _fault_words(fault: FaultBar) -> str:
    if fault.to_s - fault.from_s < 0.5:
        return f"{in_words(fault.kind)} at {clock(fault.from_s)}"
    return f"{in_words(fault.kind)} from {clock(fault.from_s)} to {clock(fault.to_s)}"


def _presses(run: RunReport) -> str:
    if not run.presses:
        return "The crew pressed no button."
    counted = [press for press in run.presses if not press.said_nothing_new]
    reached = [(press.dispatched_after_s, press) for press in counted if press.dispatched_after_s is not None]
    text = f"The crew made {count(len(run.presses), 'press', 'presses')}"
    if len(counted) < len(run.presses):
        text += f", {len(run.presses) - len(counted)} of which said nothing new and make no record"
    if len(reached) < len(counted):
        missing = [press.key for press in counted if press.dispatched_after_s is None]
        text += f". {len(missing)} never reached dispatch: {listing([in_words(key) for key in missing])}"
    elif reached:
        text += ". Every one that says something reached dispatch"
    if reached:
        slowest_s, slowest = max(reached, key=lambda one: one[0])
        text += f"; the slowest, {in_words(slowest.key)} at {clock(slowest.t_s)}, took {duration(slowest_s)}"
        text += _during(run, slowest)
    return text + "."


def _during(run: RunReport, press: PressMark) -> str:
    kinds = [in_words(fault.kind) for fault in run.faults if fault.from_s <= press.t_s <= fault.to_s]
    return f" (pressed during {listing(kinds)})" if kinds else ""


def _positions(run: RunReport) -> str:
    if not run.positions:
        return "Dispatch has no position in its journal."
    errors = sorted(one.error_m for one in run.positions if one.error_m is not None)
    late = sum(one.history for one in run.positions)
    text = f"Dispatch's journal has {count(len(run.positions), 'position')}"
    if errors:
        half, worst = length(_middle(errors)), length(errors[-1])
        text += f": half of them within {half} of the truth, the worst {worst} off"
    return text + (f"; {late} came late, from the backlog." if late else ".")


def _link(run: RunReport) -> str:
    offline = [span for span in run.links if span.view is LinkView.DISPATCH and not span.online]
    away = [span for span in run.links if span.view is LinkView.VEHICLE and not span.online]
    most = max((point.records for point in run.backlog), default=0)
    parts = []
    if away:
        total_s = sum(span.to_s - span.from_s for span in away) / run.speed
        stretches = f" in {len(away)} stretches" if len(away) > 1 else ""
        parts.append(f"The vehicle was without a connection for {duration(total_s)}{stretches}")
    if offline:
        total_s = sum(span.to_s - span.from_s for span in offline) / run.speed
        parts.append(f"dispatch was told that it is offline for {duration(total_s)}")
    if most:
        parts.append(f"at most {count(most, 'record')} waited")
    text = ", ".join(parts)
    return text[:1].upper() + text[1:] + "." if text else ""


def _reasons(run: RunReport) -> str:
    totals: dict[str, float] = {}
    for span in run.reasons:
        totals[span.reason] = totals.get(span.reason, 0.0) + (span.to_s - span.from_s) / run.speed
    if not totals:
        return "The vehicle reported no trouble of its own."
    ordered = sorted(totals.items(), key=lambda item: -item[1])
    return f"The vehicle reported {listing([f'{in_words(one)} ({duration(s)})' for one, s in ordered])}."


def _figures(run: RunReport) -> Iterator[Figure]:
    if run.expectations:
        held = sum(row.held for row in run.expectations)
        yield Figure("Expectations held", f"{held} of {len(run.expectations)}")
    counted = [press for press in run.presses if not press.said_nothing_new]
    stored = sorted(one.stored_after_s for one in counted if one.stored_after_s is not None)
    reached = sorted(one.dispatched_after_s for one in counted if one.dispatched_after_s is not None)
    if counted:
        yield Figure("Presses at dispatch", f"{len(reached)} of {len(counted)}")
    if stored and run.rig != "sim":
        yield Figure("Press to “stored”", duration(_middle(stored)), f"median; worst {duration(stored[-1])}")
    if reached:
        note = f"median; worst {duration(reached[-1])}"
        yield Figure("Press to dispatch", duration(_middle(reached)), note)
    live = sorted(one.latency_s for one in run.latencies if one.kind == "live position")
    if live:
        note = f"median; worst {duration(live[-1])}"
        yield Figure("Live position's age on arrival", duration(_middle(live)), note)
    errors = sorted(one.error_m for one in run.positions if one.error_m is not None)
    if errors:
        yield Figure(
            "Positions off the truth", length(_middle(errors)), f"median; worst {length(errors[-1])}"
        )
    if run.backlog:
        yield Figure("Most that waited", count(max(point.records for point in run.backlog), "record"))


def _middle(ordered: Sequence[float]) -> float:
    return ordered[len(ordered) // 2]
