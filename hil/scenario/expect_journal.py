"""Expectations on the journal: presses, sequences, losses, times."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

from pydantic import Field

from agent.domain.record import Emergency, Gap, Kind, StatusChange
from agent.domain.stamp import UtcSource
from agent.runtime.plain_text import counted
from hil.process.press_log import LoggedPress
from hil.scenario.expectation import Expectation, Verdict, listed, within
from hil.scenario.expected_presses import CANCELLED, RAISED, expected_events
from hil.scenario.observation import Observation

MOST_TOKENS = 12
Presses = Literal["all", "outside_faults"]


def _token(body: StatusChange | Emergency) -> str:
    if isinstance(body, StatusChange):
        return body.status
    return RAISED if body.active else CANCELLED


class EveryPressOnceInOrder(Expectation):
    """Each press that means something is one record, in the order of pressing, and there are no others."""

    kind: Literal["every_press_once_in_order"]

    def check(self, seen: Observation) -> Verdict:
        """Compare dispatch's events, in the order of their sequence, with the presses."""
        events = expected_events(seen.presses, seen.daemon_ends_s, list(seen.boot_began_s.values()))
        wanted = [
            (event.token, None if event.token == CANCELLED else event.press.session) for event in events
        ]
        arrivals = [one.record for one in seen.of(Kind.STATUS, Kind.EMERGENCY)]
        arrivals.sort(key=lambda record: (record.journal, record.seq))
        have = [
            (_token(one.body), None if _token(one.body) == CANCELLED else one.body.press_session)
            for one in arrivals
            if isinstance(one.body, StatusChange | Emergency)
        ]
        if have == wanted:
            tokens = [token for token, _ in have]
            more = ", ..." if len(tokens) > MOST_TOKENS else ""
            return Verdict(True, f"{counted(len(have), 'press')}: {', '.join(tokens[:MOST_TOKENS])}{more}")
        return Verdict(
            False,
            f"dispatch has {', '.join(token for token, _ in have) or 'nothing'}; "
            f"pressed was {', '.join(token for token, _ in wanted) or 'nothing'}",
        )


class _PressTime(Expectation):
    seconds: float = Field(gt=0)
    presses: Presses = "all"
    after_s: float = Field(0, ge=0)
    """With "outside_faults": so long after a fault a press still counts as hit by it."""

    def times(self, press: LoggedPress) -> float | None:
        """Loop time of what is waited for."""
        raise NotImplementedError

    def check(self, seen: Observation) -> Verdict:
        """Measure every press that means something."""
        events = expected_events(seen.presses, seen.daemon_ends_s, list(seen.boot_began_s.values()))
        events = [one for one in events if one.token != CANCELLED]  # it has no press of its own
        counted = [
            event.press
            for event in events
            if self.presses == "all" or not seen.in_fault(event.press.pressed_s, after_s=self.after_s)
        ]
        ends = [(press, self.times(press)) for press in counted]
        durations = [end - press.pressed_s for press, end in ends if end is not None]
        missing = sum(end is None for _, end in ends)
        return within(durations, self.seconds, missing)


class PressToStoredWithin(_PressTime):
    """From the button to the lamp that says "stored", at most `seconds`."""

    kind: Literal["press_to_stored_within"]

    def times(self, press: LoggedPress) -> float | None:
        """The lamp."""
        return press.stored_s


class PressToDispatchWithin(_PressTime):
    """From the button to dispatch, at most `seconds`."""

    kind: Literal["press_to_dispatch_within"]

    def times(self, press: LoggedPress) -> float | None:
        """The record."""
        return press.dispatched_s


class NothingLost(Expectation):
    """What the store made is with dispatch, or told as gone by a gap record; nothing is unreadable."""

    kind: Literal["nothing_lost"]

    def check(self, seen: Observation) -> Verdict:
        """Compare the store's own counters with what dispatch has."""
        problems = [] if seen.delivered else ["records still waited in the end"]
        problems += [f"unreadable: {text}" for text in seen.refused]
        if seen.counts.holes_open:
            problems.append(f"{seen.counts.holes_open} sequence numbers are missing")
        covered = _covered(seen)
        newest = {(one.journal, one.stream): one.seq for one in seen.records}
        for stream, last in seen.made.items():
            have = max((len(n) for (_, of), n in covered.items() if of == stream.value), default=0)
            if have < last:
                problems.append(f"{stream}: {last} made, {have} received or told as gone")
        made = sum(seen.made.values())
        told = f", {seen.counts.told_gone} of them told as gone" if seen.counts.told_gone else ""
        again = f", {seen.counts.duplicates_removed} came twice" if seen.counts.duplicates_removed else ""
        return listed(
            problems, f"{made} made, {made} accounted for{told}{again} ({counted(len(newest), 'stream')})"
        )


class SequenceWithoutHoles(Expectation):
    """Each stream's sequence begins at 1 and has no hole that is not told, and no number twice."""

    kind: Literal["sequence_without_holes"]

    def check(self, seen: Observation) -> Verdict:
        """Count."""
        problems = []
        for (journal, stream), numbers in _covered(seen).items():
            missing = sorted(set(range(1, max(numbers) + 1)) - numbers)
            if missing:
                problems.append(f"{stream} of {journal:08x}: {missing[:5]} missing")
        identities = [(one.journal, one.stream, one.seq) for one in seen.records]
        doubled = len(identities) - len(set(identities))
        if doubled:
            problems.append(f"{doubled} records were handed on twice")
        return listed(problems, f"{counted(len(identities), 'record')}, no hole, none twice")


class GapTold(Expectation):
    """At least one gap record tells what is gone, for one of `reasons`."""

    kind: Literal["gap_told"]
    reasons: tuple[str, ...] = ("thinned", "evicted")

    def check(self, seen: Observation) -> Verdict:
        """Look for gap records."""
        gaps = [(one.seq, one.body) for one in seen.records if isinstance(one.body, Gap)]
        good = [gap for _, gap in gaps if gap.reason in self.reasons]
        gone = sum(gap.last_seq - seq + 1 for seq, gap in gaps)
        reasons = ", ".join(sorted({gap.reason for _, gap in gaps})) or "none"
        return Verdict(
            bool(good), f"{counted(len(gaps), 'gap record')} over {counted(gone, 'record')} ({reasons})"
        )


class PressesNeverEvicted(Expectation):
    """No gap record covers an emergency, a status or an alert."""

    kind: Literal["presses_never_evicted"]

    def check(self, seen: Observation) -> Verdict:
        """Look into the gap records."""
        never = {"emergency", "status", "alert"}
        problems = [
            f"gap at {one.seq}: {count} {token}"
            for one in seen.records
            if isinstance(one.body, Gap)
            for token, count in one.body.counts
            if token in never
        ]
        return listed(problems, "no emergency, status or alert is gone")


class FilledByReplay(Expectation):
    """Dispatch found holes, asked, and got at least `records` again."""

    kind: Literal["filled_by_replay"]
    records: int = Field(1, ge=1)

    def check(self, seen: Observation) -> Verdict:
        """Look at the reader's counts."""
        return Verdict(seen.counts.filled >= self.records, f"{seen.counts.filled} records came on request")


ARRIVAL_MS = 250
"""How late the first byte of an epoch may be read in a rig: the receiver computes, the line is slow."""


class TimeRightWithin(Expectation):
    """The UTC of every record that has a trusted one is the true time, within `milliseconds`."""

    kind: Literal["time_right_within"]
    milliseconds: float = Field(gt=0)
    trusted_share: float = Field(0.95, ge=0, le=1)
    """So many of the records must have a trusted UTC at all."""

    def check(self, seen: Observation) -> Verdict:
        """Compare with the true time of each record's boot clock."""
        worst, problems, trusted = 0.0, [], 0
        for record in seen.records:
            at_s = seen.made_at_s(record)
            if at_s is None or isinstance(record.body, Gap):
                continue
            if record.utc_ms is None or record.utc_source < UtcSource.NTP:
                continue
            trusted += 1
            error_ms = record.utc_ms - seen.utc_ms(at_s)
            worst = max(worst, abs(error_ms))
            if abs(error_ms) > self.milliseconds:
                problems.append(f"{record.stream} {record.seq} ({record.token}): {error_ms:+.0f} ms")
        share = trusted / max(1, len(seen.records))
        if share < self.trusted_share:
            problems.append(f"only {share:.0%} of the records have a trusted UTC")
        return listed(problems, f"{trusted} records, worst {worst:.0f} ms, {share:.0%} trusted")


class TimeAsTold(Expectation):
    """The true time lies within the uncertainty that is told, for a `share` of the trusted records."""

    kind: Literal["time_as_told"]
    share: float = Field(0.999, ge=0, le=1)

    def check(self, seen: Observation) -> Verdict:
        """Compare with the true time of each record's boot clock."""
        trusted, wrong = 0, []
        for record in seen.records:
            at_s = seen.made_at_s(record)
            if at_s is None or record.utc_ms is None or record.utc_source < UtcSource.NTP:
                continue
            trusted += 1
            error_ms = abs(record.utc_ms - seen.utc_ms(at_s))
            # A record's epoch happened before its first byte arrived: the boot clock is late by that.
            if error_ms > (record.utc_uncertainty_ms or 0) + ARRIVAL_MS:
                wrong.append(
                    f"{record.stream} {record.seq}: {error_ms:.0f} ms, told {record.utc_uncertainty_ms}"
                )
        if not trusted:
            return Verdict(False, "no record has a trusted UTC")
        held = len(wrong) <= (1 - self.share) * trusted
        text = f"{trusted - len(wrong)} of {trusted} records"
        return Verdict(held, text if held else f"{text}; {'; '.join(wrong[:3])}")


def _covered(seen: Observation) -> dict[tuple[int, str], set[int]]:
    """Sequence numbers received or told as gone, of each journal and stream."""
    numbers: dict[tuple[int, str], set[int]] = defaultdict(set)
    for one in seen.records:
        key = one.journal, one.stream.value
        numbers[key].add(one.seq)
        if isinstance(one.body, Gap):
            numbers[key].update(range(one.seq, one.body.last_seq + 1))
    return numbers
