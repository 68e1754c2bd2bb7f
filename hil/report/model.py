"""What a report shows of one run, in values that need no rig to be understood."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RunVerdict(StrEnum):
    """How a run ended."""

    PASSED = "passed"
    FAILED = "failed"
    BROKEN = "broken"
    """The run itself did not come to its end, so that nothing can be said of the agent."""
    OBSERVED = "observed"
    """Nothing was expected of it."""


class LinkView(StrEnum):
    """Whose picture of the link it is."""

    DISPATCH = "dispatch"
    """By the retained link state that dispatch had."""
    VEHICLE = "vehicle"
    """By what the agent said of itself."""


@dataclass(frozen=True, slots=True)
class TrackPoint:
    """Where the vehicle really was.

    Attributes:
        t_s: on the run's time axis.
        lat_deg: true WGS 84 latitude.
        lon_deg: true WGS 84 longitude.
        has_fix: False where the receiver had no fix; the line from here to the next point is drawn as a gap.
    """

    t_s: float
    lat_deg: float
    lon_deg: float
    has_fix: bool = True


@dataclass(frozen=True, slots=True)
class PublishedPosition:
    """A position record as dispatch had it.

    Attributes:
        t_s: when the fix was, on the time axis.
        dispatched_s: when dispatch had it, on the time axis.
        lat_deg: WGS 84 latitude that was published.
        lon_deg: WGS 84 longitude that was published.
        history: it came late, from the backlog.
        error_m: metres from where the vehicle was at that moment; None when that is not known.
    """

    t_s: float
    dispatched_s: float
    lat_deg: float
    lon_deg: float
    history: bool
    error_m: float | None = None


@dataclass(frozen=True, slots=True)
class LivePosition:
    """A location state as dispatch had it: what its map showed from then on.

    Attributes:
        t_s: when the fix was, on the time axis; None when the state had no UTC.
        dispatched_s: when dispatch had it, on the time axis.
        where: WGS 84 latitude and longitude; None where the state says that there is no fix.
    """

    t_s: float | None
    dispatched_s: float
    where: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class FaultBar:
    """A fault that was put on the rig.

    Attributes:
        kind: token, e.g. "network_cut".
        from_s: when it began, on the time axis.
        to_s: when it was lifted, on the time axis; equal to `from_s` for what has no duration.
        detail: its settings, for a person.
    """

    kind: str
    from_s: float
    to_s: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PressMark:
    """A press of the crew, and how long until each step. Durations are the rig's seconds; None: never.

    Attributes:
        t_s: when the button went down, on the time axis.
        key: which button.
        stored_after_s: until its lamp said "stored".
        delivered_after_s: until its lamp said "delivered".
        dispatched_after_s: until dispatch had its record.
        said_nothing_new: the rules make no record of it (a repeat, a bounce), so none is missed.
    """

    t_s: float
    key: str
    stored_after_s: float | None
    delivered_after_s: float | None
    dispatched_after_s: float | None
    said_nothing_new: bool = False


@dataclass(frozen=True, slots=True)
class LinkSpan:
    """A stretch of time in which the link was up or down, by one view of it."""

    view: LinkView
    from_s: float
    to_s: float
    online: bool


@dataclass(frozen=True, slots=True)
class BacklogPoint:
    """Records that waited in the vehicle at one moment."""

    t_s: float
    records: int


@dataclass(frozen=True, slots=True)
class LatencyPoint:
    """How long something took to reach dispatch.

    Attributes:
        t_s: when it happened in the vehicle, on the time axis.
        latency_s: rig seconds until dispatch had it.
        kind: token of the record's kind, e.g. "position".
        history: it came late, from the backlog.
    """

    t_s: float
    latency_s: float
    kind: str
    history: bool


@dataclass(frozen=True, slots=True)
class ReasonSpan:
    """A stretch of time in which a health reason held in the vehicle."""

    reason: str
    from_s: float
    to_s: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ExpectationRow:
    """Something that was expected of the run.

    Attributes:
        text: what was expected, for a person.
        held: it was so.
        found: what was found, in one line.
        bound: the bounds, e.g. "2 s"; empty without any.
        meaning: what it says in a whole sentence.
    """

    text: str
    held: bool
    found: str
    bound: str = ""
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number worth a place at the top.

    Attributes:
        label: what it is.
        value: with its unit, ready to read.
        note: what to know about it; empty when nothing.
    """

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run. Every `t_s`, `from_s` and `to_s` is in seconds of the drive since its start.

    Attributes:
        title: of the scenario.
        why: why the scenario is there, a sentence or a few.
        rig: which rig, e.g. "sim".
        seed: it ran with.
        started_utc: true UTC at the start of the drive, ISO 8601.
        duration_s: end of the time axis.
        verdict: how it ended.
        drive: what was driven.
        speed: seconds of the drive in one second of the rig.
        track: where the vehicle was, ascending in time.
        positions: the journal's positions as dispatch had them, in the order they came.
        live: the live positions dispatch had, in the order they came.
        faults: as they happened.
        presses: of the crew, ascending in time.
        links: link state by either view.
        backlog: ascending in time.
        latencies: of records and live positions.
        reasons: health reasons.
        expectations: all of them, in the scenario's order.
        notes: sentences for the summary beyond those made of the values above.
        log: the end of the daemon's log, oldest line first.
        digest: of the journal; empty where the rig tells none.
        wall_s: how long the run took; None when not measured.
    """

    title: str
    why: str
    rig: str
    seed: int
    started_utc: str
    duration_s: float
    verdict: RunVerdict
    drive: str = ""
    speed: float = 1.0
    track: tuple[TrackPoint, ...] = ()
    positions: tuple[PublishedPosition, ...] = ()
    live: tuple[LivePosition, ...] = ()
    faults: tuple[FaultBar, ...] = ()
    presses: tuple[PressMark, ...] = ()
    links: tuple[LinkSpan, ...] = ()
    backlog: tuple[BacklogPoint, ...] = ()
    latencies: tuple[LatencyPoint, ...] = ()
    reasons: tuple[ReasonSpan, ...] = ()
    expectations: tuple[ExpectationRow, ...] = ()
    notes: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    digest: str = ""
    wall_s: float | None = None
