"""Expectations on what is true now, on positions, and on the agent's own health."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from agent.domain.health import HealthReason
from agent.domain.record import Health, Position, PositionQuality
from agent.domain.state import HealthState, LinkState, LocationState, StatusState
from agent.runtime.plain_text import counted, how_often
from hil.drive.items import TruthItem
from hil.drive.route import distance_m
from hil.process.press_log import LoggedPress
from hil.scenario.expectation import Expectation, Verdict, listed
from hil.scenario.expected_presses import CANCELLED, MOMENTARY, RAISED, expected_events
from hil.scenario.observation import FaultSpan, Observation
from hil.scenario.picture import picture_error

EPOCH_S = 1.0
SILENCE_S = 4.0
"""A device that stops talking is told as silent a little later than this."""


class NoPositionWithoutFix(Expectation):
    """No position record for an epoch at which the receiver had no fix or did not speak; and the live state
    says so, at the latest `grace_s` after the fix went.
    """

    kind: Literal["no_position_without_fix"]
    grace_s: float = Field(8, ge=0)

    def check(self, seen: Observation) -> Verdict:
        """Compare with the truth and the faults that took the fix."""
        problems, looked = [], 0
        for record in seen.records:
            if not isinstance(record.body, Position):
                continue
            looked += 1
            truth = seen.truth_of(record)
            if truth is None:
                problems.append(f"position {record.seq} is of no epoch that the receiver told")
            elif not truth.has_fix or _taken(seen, truth, EPOCH_S):
                problems.append(f"position {record.seq} at {_drive_s(seen, truth):.0f} s, without a fix")
        problems += self._live(seen)
        return listed(problems, f"{looked} positions, each of an epoch with a fix")

    def _live(self, seen: Observation) -> list[str]:
        problems = []
        for arrival in seen.state_history:
            state = arrival.state
            if not isinstance(state, LocationState) or state.position is None or state.utc is None:
                continue
            if state.position.quality == PositionQuality.ESTIMATED:
                continue  # it says itself that it is none
            truth = seen.truth_at.get(state.utc.unix_ms)
            if truth is not None and (not truth.has_fix or _taken(seen, truth, self.grace_s * seen.speed)):
                problems.append(f"state/location has a position at {_drive_s(seen, truth):.0f} s")
        return problems


class PositionsNearTruth(Expectation):
    """Every published position lies within `metres` of where the vehicle was, but for a `share` of them."""

    kind: Literal["positions_near_truth"]
    metres: float = Field(gt=0)
    share: float = Field(0, ge=0, le=1)
    """So many may lie further off."""
    at_least: int = Field(10, ge=0)
    """So many positions there must be."""

    def check(self, seen: Observation) -> Verdict:
        """Measure each."""
        errors = position_errors(seen)
        if len(errors) < self.at_least:
            return Verdict(False, f"only {counted(len(errors), 'position')}")
        far = [error for error in errors if error > self.metres]
        ordered = sorted(errors)
        text = (
            f"{counted(len(errors), 'position')}: median {ordered[len(ordered) // 2]:.1f} m, "
            f"worst {ordered[-1]:.1f} m, {len(far)} beyond {self.metres:g} m"
        )
        return Verdict(len(far) <= self.share * len(errors), text)


class QualityTold(Expectation):
    """So many live positions at least said that something is wrong with them, in this word."""

    kind: Literal["quality_told"]
    quality: PositionQuality
    at_least: int = Field(1, ge=1)

    def check(self, seen: Observation) -> Verdict:
        """Count them."""
        told = sum(
            isinstance(arrival.state, LocationState)
            and arrival.state.position is not None
            and arrival.state.position.quality == self.quality
            for arrival in seen.state_history
        )
        return Verdict(told >= self.at_least, f"{counted(told, 'position')} told as {self.quality}")


class EstimatesHonest(Expectation):
    """Positions that are estimated without a fix are off by no more than they say, for a `share` of them."""

    kind: Literal["estimates_honest"]
    share: float = Field(0.95, ge=0, le=1)
    at_least: int = Field(10, ge=1)
    longest_s: float = Field(61, gt=0)
    """None is of later after the last fix."""

    def check(self, seen: Observation) -> Verdict:
        """Compare each with the truth of its second."""
        inside, told, longest_s = 0, 0, 0.0
        for arrival in seen.state_history:
            state = arrival.state
            if not isinstance(state, LocationState) or state.position is None or state.utc is None:
                continue
            if state.position.quality != PositionQuality.ESTIMATED:
                continue
            drive_s = (state.utc.unix_ms - seen.start_utc_ms) / 1000
            truth = seen.truth_at.get(seen.start_utc_ms + round(drive_s) * 1000)
            if truth is None:
                continue
            told += 1
            place = state.position.lat_deg, state.position.lon_deg
            # A second of the drive passes between the truths, and the position is of some moment in it.
            slack_m = truth.speed_mps
            inside += distance_m(place, truth.point) <= (state.position.uncertainty_m or 0) + slack_m
            fixed = [one.utc_ms for one in seen.truth if one.has_fix and one.utc_ms <= truth.utc_ms]
            longest_s = max(longest_s, (truth.utc_ms - max(fixed, default=truth.utc_ms)) / 1000)
        held = told >= self.at_least and inside >= self.share * told and longest_s <= self.longest_s
        return Verdict(
            held, f"{inside} of {told} within what they say, up to {longest_s:.0f} s without a fix"
        )


class PictureWithin(Expectation):
    """Dispatch's map draws the unit straight on from its last report, within `metres` of the truth."""

    kind: Literal["picture_within"]
    metres: float = Field(25, gt=0)
    fewer: float = Field(1, ge=1)
    """There are so many times fewer reports than seconds with a fix."""

    def check(self, seen: Observation) -> Verdict:
        """Look at it four times a second."""
        picture = picture_error(seen)
        if not picture.errors_m:
            return Verdict(False, "there was no picture")
        worst_m, ratio = picture.errors_m[-1], picture.fix_s / max(1, picture.reports)
        hours = picture.fix_s / 3600
        text = (
            f"median {picture.share_m(0.5):.1f} m, p95 {picture.share_m(0.95):.1f} m, worst {worst_m:.1f} m; "
            f"{picture.reports} reports in {picture.fix_s} s with a fix, {picture.reports / hours:.0f} "
            f"an hour, {ratio:.1f} times fewer than seconds"
        )
        return Verdict(worst_m <= self.metres and ratio >= self.fewer, text)


class BackLiveWithin(Expectation):
    """After each fault that cuts dispatch off, a state of after its end arrives within `seconds`."""

    kind: Literal["back_live_within"]
    seconds: float = Field(gt=0)

    def check(self, seen: Observation) -> Verdict:
        """Measure from the end of each such fault."""
        waits: list[float] = []
        problems = []
        for span in seen.faults:
            if span.fault.cuts_off and not _still_cut_off(seen, span):
                wait_s = back_live_s(seen, span)
                if wait_s is None or wait_s > self.seconds:
                    told = "never" if wait_s is None else f"after {wait_s:.1f} s"
                    problems.append(f"{span.fault.name} at {span.fault.at_s:g} s: back {told}")
                waits += [] if wait_s is None else [wait_s]
        if not waits and not problems:
            return Verdict(False, "no fault cut dispatch off")
        worst = f"worst {max(waits):.1f} s" if waits else ""
        return listed(problems, f"cut off {how_often(len(waits))}, back live {worst}")


class OfflineTold(Expectation):
    """Dispatch is told that the vehicle is gone while it is: `state/link` says offline."""

    kind: Literal["offline_told"]

    def check(self, seen: Observation) -> Verdict:
        """Look for it."""
        told = [
            one for one in seen.state_history if isinstance(one.state, LinkState) and not one.state.online
        ]
        return Verdict(bool(told), f"told {how_often(len(told))}")


class OfflineToldWithin(Expectation):
    """While dispatch is cut off from the vehicle, `state/link` says offline within `seconds` of the fault.

    A fault that is over sooner is not looked at: the vehicle may be back before anybody had to be told.
    """

    kind: Literal["offline_told_within"]
    seconds: float = Field(gt=0)

    def check(self, seen: Observation) -> Verdict:
        """Measure from the beginning of each such fault."""
        waits: list[float] = []
        problems = []
        for span in seen.faults:
            if not span.fault.cuts_off or span.to_s - span.from_s < self.seconds:
                continue
            told_s = next((at_s for at_s in _offline_at_s(seen) if span.from_s <= at_s), None)
            if told_s is None or told_s - span.from_s > self.seconds:
                told = "never" if told_s is None else f"after {told_s - span.from_s:.1f} s"
                problems.append(f"{span.fault.name} at {span.fault.at_s:g} s: told {told}")
            else:
                waits.append(told_s - span.from_s)
        if not waits and not problems:
            return Verdict(False, f"no fault cut dispatch off for {self.seconds:g} s")
        return listed(problems, f"told {how_often(len(waits))}, worst after {max(waits, default=0):.1f} s")


def _offline_at_s(seen: Observation) -> list[float]:
    return [
        one.at_s for one in seen.state_history if isinstance(one.state, LinkState) and not one.state.online
    ]


def _before(one: LoggedPress, press: LoggedPress) -> bool:
    return one.key == press.key and one.pressed_s < press.pressed_s


class LampsTrue(Expectation):
    """No lamp says more than is so: what a lamp calls delivered, dispatch has within `seconds` of it.

    A lamp that says stored is looked at by `nothing_lost` and `every_press_once_in_order`: what it stood for
    must reach dispatch, whatever happens afterwards.
    """

    kind: Literal["lamps_true"]
    seconds: float = Field(gt=0)

    def check(self, seen: Observation) -> Verdict:
        """Compare each press's lamp with dispatch."""
        problems, looked = [], 0
        # A press that says nothing new has no record; its lamp is that of the press which does.
        events = expected_events(seen.presses, seen.daemon_ends_s, list(seen.boot_began_s.values()))
        for press in (event.press for event in events if event.token != CANCELLED):
            if press.delivered_s is None:
                continue
            looked += 1
            # A press to be sure says nothing new: its lamp speaks of the one before it.
            dispatched_s = press.dispatched_s or max(
                (one.dispatched_s for one in seen.presses if _before(one, press) and one.dispatched_s),
                default=None,
            )
            if dispatched_s is None:
                problems.append(f"{press.key} #{press.seq} is delivered, and dispatch does not have it")
            elif dispatched_s - press.delivered_s > self.seconds:
                late_s = dispatched_s - press.delivered_s
                problems.append(
                    f"{press.key} #{press.seq}: dispatch has it {late_s:.1f} s after its lamp said so"
                )
        if not looked:
            return Verdict(False, "no lamp ever said delivered")
        return listed(problems, f"{looked} lamps said delivered, and all were")


class HealthReasonSeen(Expectation):
    """A health record raises `reason`, within `seconds` of the first fault's beginning if that is given."""

    kind: Literal["health_reason_seen"]
    reason: HealthReason
    seconds: float | None = Field(None, gt=0)

    def check(self, seen: Observation) -> Verdict:
        """Look for it."""
        raised = [
            seen.made_at_s(one) for one in seen.records
            if isinstance(one.body, Health) and self.reason in one.body.raised
        ]  # fmt: skip
        if not raised:
            return Verdict(False, f"{self.reason} was never raised")
        begins = [span.from_s for span in seen.faults]
        times = [at_s - begins[0] for at_s in raised if at_s is not None and begins and at_s >= begins[0] - 1]
        if self.seconds is None:
            return Verdict(True, f"raised {how_often(len(raised))}")
        first = min(times, default=None)
        told = "never after the fault" if first is None else f"{first:.1f} s after the fault"
        return Verdict(first is not None and first <= self.seconds, f"raised {told}")


class HealthReasonCleared(Expectation):
    """`reason` does not hold in the end, by the last health record and by the live state."""

    kind: Literal["health_reason_cleared"]
    reason: HealthReason

    def check(self, seen: Observation) -> Verdict:
        """Look at the newest."""
        # With the drive over the devices are silent, which is told as well: then what held at its end counts.
        problems = self._named(seen, seen.drive_over_s + SILENCE_S)
        if problems:
            problems = self._named(seen, math.inf)
        return listed(problems, f"{self.reason} does not hold")

    def _named(self, seen: Observation, until_s: float) -> list[str]:
        """Where the reason was still named, by what was made until then."""
        records = sorted(seen.records, key=lambda one: (one.journal, one.seq))
        made = [one for one in records if (seen.made_at_s(one) or 0.0) <= until_s]
        last = next((one.body for one in reversed(made) if isinstance(one.body, Health)), None)
        states = [one.state for one in seen.state_history if one.at_s <= until_s]
        state = next((one for one in reversed(states) if isinstance(one, HealthState)), None)
        problems = []
        if last is not None and self.reason in last.reasons:
            problems.append("the last health record still names it")
        if state is not None and self.reason in state.reasons:
            problems.append("state/health still names it")
        return problems


class HealthReasonNotSeen(Expectation):
    """No health record and no live state ever names `reason`."""

    kind: Literal["health_reason_not_seen"]
    reason: HealthReason

    def check(self, seen: Observation) -> Verdict:
        """Look for it."""
        return _never(seen, self.reason)


class NoUnitRestarts(Expectation):
    """No part of the agent failed unexpectedly."""

    kind: Literal["no_unit_restarts"]

    def check(self, seen: Observation) -> Verdict:
        """Look for the reason that tells it."""
        return _never(seen, HealthReason.UNIT_RESTARTED)


class StateTrueAtEnd(Expectation):
    """In the end the live states are what is so: status, emergency, link, and location within `metres`."""

    kind: Literal["state_true_at_end"]
    metres: float = Field(30, gt=0)
    max_age_s: float = Field(60, ge=0)
    """How old the location may be: of a parked unit it is told once a minute."""
    location: bool = True
    """Whether the location is looked at; not where the drive ends without a fix."""

    def check(self, seen: Observation) -> Verdict:
        """Compare with presses and truth."""
        link, status = seen.states.get("link"), seen.states.get("status")
        problems = []
        if not isinstance(link, LinkState) or not link.online:
            problems.append("state/link does not say online")
        events = expected_events(seen.presses, seen.daemon_ends_s, list(seen.boot_began_s.values()))
        statuses = [one.token for one in events if not one.token.startswith(RAISED)]
        lasting = [token for token in statuses if token not in MOMENTARY]
        alarms = [one.token for one in events if one.token.startswith(RAISED)]
        if not isinstance(status, StatusState):
            problems.append("there is no state/status")
        else:
            wanted = lasting[-1] if lasting else None
            if status.status != wanted:
                problems.append(f"state/status says {status.status}, pressed was {wanted}")
            if status.emergency != (alarms[-1:] == [RAISED]):
                problems.append(f"state/status says emergency={status.emergency}, pressed was {alarms[-1:]}")
        if self.location:
            problems += self._location(seen)
        return listed(problems, f"online, {lasting[-1] if lasting else 'no status'}, location true")

    def _location(self, seen: Observation) -> list[str]:
        location = seen.states.get("location")
        if not isinstance(location, LocationState):
            return ["there is no state/location"]
        # With the drive over, the receiver is silent: the last position is then told as the last known.
        position, utc = location.position, location.utc
        if position is None:
            position, utc = location.last_known, location.last_known_utc
        if position is None or utc is None:
            return ["state/location has no position"]
        truth = seen.truth_at.get(utc.unix_ms)
        if truth is None:
            return ["state/location is of no epoch that the receiver told"]
        off_m = distance_m((position.lat_deg, position.lon_deg), truth.point)
        problems = [] if off_m <= self.metres else [f"state/location is {off_m:.0f} m off"]
        late_s = (seen.truth[-1].utc_ms - truth.utc_ms) / 1000 / seen.speed
        if late_s > self.max_age_s + 2 * EPOCH_S:
            problems.append(f"state/location is {late_s:.0f} s old")
        return problems


class BoundedMemory(Expectation):
    """The daemon's resident memory grows by at most `growth_mib` after its first `settle_s` seconds."""

    rigs: tuple[Literal["sim", "process"], ...] = ("process",)
    kind: Literal["bounded_memory"]
    growth_mib: float = Field(12, gt=0)
    most_mib: float = Field(80, gt=0)
    settle_s: float = Field(4, ge=0)

    def check(self, seen: Observation) -> Verdict:
        """Look at the samples."""
        sizes = [(one.at_s, one.memory_kib / 1024) for one in seen.samples if one.memory_kib is not None]
        settled = [size for at_s, size in sizes if at_s >= seen.began_s + self.settle_s]
        if not settled:
            return Verdict(False, "no samples")
        growth = max(settled) - settled[0]
        held = growth <= self.growth_mib and max(settled) <= self.most_mib
        return Verdict(held, f"{settled[0]:.1f} MiB, at most {max(settled):.1f} MiB ({growth:+.1f})")


class DaemonStarts(Expectation):
    """The daemon was started exactly `times` times."""

    kind: Literal["daemon_starts"]
    times: int = Field(1, ge=1)

    def check(self, seen: Observation) -> Verdict:
        """Count."""
        return Verdict(seen.starts == self.times, f"started {how_often(seen.starts)}")


def position_errors(seen: Observation) -> list[float]:
    """Metres between each position record and the truth of its epoch."""
    errors = []
    for record in seen.records:
        if isinstance(record.body, Position) and record.utc_ms is not None:
            if record.body.quality == PositionQuality.JUMPED:
                continue  # it says itself that it can not be true
            truth = seen.truth_at.get(record.utc_ms)
            if truth is not None:
                errors.append(distance_m((record.body.lat_deg, record.body.lon_deg), truth.point))
    return errors


def back_live_s(seen: Observation, span: FaultSpan) -> float | None:
    """Seconds from the end of a fault to the first live word of the vehicle; None when there was none."""
    for arrival in seen.state_history:
        state = arrival.state
        if arrival.at_s < span.to_s or (isinstance(state, LinkState) and not state.online):
            continue
        # A retained state of before would prove nothing.
        utc = state.utc
        fresh = utc is None or utc.unix_ms >= seen.utc_ms(span.from_s) or isinstance(state, LinkState)
        if fresh:
            return arrival.at_s - span.to_s
    return None


def _still_cut_off(seen: Observation, ended: FaultSpan) -> bool:
    """Whether another fault goes on to cut dispatch off when one ends."""
    return any(
        span is not ended and span.fault.cuts_off and span.from_s <= ended.to_s < span.to_s
        for span in seen.faults
    )


def _never(seen: Observation, reason: HealthReason) -> Verdict:
    told = [one.seq for one in seen.records if isinstance(one.body, Health) and reason in one.body.reasons]
    shown = [
        dict(one.state.details).get(reason, "") for one in seen.state_history
        if isinstance(one.state, HealthState) and reason in one.state.reasons
    ]  # fmt: skip
    if not told and not shown:
        return Verdict(True, f"{reason} was never told")
    return Verdict(
        False, f"{reason} in {len(told)} health records, {len(shown)} states: {'; '.join(shown[:1])}"
    )


def _taken(seen: Observation, truth: TruthItem, slack_drive_s: float) -> bool:
    """Whether a fault had taken the fix at an epoch; `slack_drive_s` after its beginning, before its end."""
    at_s = _drive_s(seen, truth)
    return any(
        span.fault.takes_fix and span.from_drive_s + slack_drive_s < at_s < span.to_drive_s - EPOCH_S
        for span in seen.faults
    )


def _drive_s(seen: Observation, truth: TruthItem) -> float:
    return (truth.utc_ms - seen.start_utc_ms) / 1000
