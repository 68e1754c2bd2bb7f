"""Makes a report of what dispatch had, what the crew pressed, and what was really so."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.domain.record import Gap, Health, Position
from agent.domain.stamp import UtcSource
from agent.domain.state import HealthState, LinkState, LocationState
from agent.wire.batch import JournalRecord
from hil.dispatch import Arrival, StateArrival
from hil.drive.items import TruthItem
from hil.drive.route import distance_m
from hil.process.press_log import LoggedPress
from hil.report.model import (
    BacklogPoint,
    ExpectationRow,
    FaultBar,
    LatencyPoint,
    LinkSpan,
    LinkView,
    LivePosition,
    PressMark,
    PublishedPosition,
    ReasonSpan,
    RunReport,
    RunVerdict,
    TrackPoint,
)
from hil.rig import Sample
from hil.scenario.expected_presses import expected_events

LIVE_KIND = "live position"
NEAR_TRUTH_S = 1.5
"""A position is compared with the truth at most so far away in time; the truth comes once a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMaterial:
    """What a rig has to give after a run. Times are the loop's unless said otherwise.

    Attributes:
        title: of the scenario.
        why: why it is there.
        rig: which rig.
        seed: it ran with.
        start_utc_ms: true UTC at the start of the drive.
        began_s: when the drive began.
        truth: what was really so, once a second.
        arrivals: every record dispatch had.
        state_history: every state dispatch had.
        presses: of the crew.
        daemon_ends_s: when a daemon ended, however it came.
        samples: of the agent; empty when none were taken.
        faults: in seconds of the drive.
        boot_began_s: kernel boot id to when its CLOCK_BOOTTIME was 0.
        expectations: with what was found.
        drive: what was driven.
        speed: seconds of the drive in one second of the rig.
        log: of the daemon.
        digest: of the journal.
        notes: sentences for the summary.
        wall_s: how long it took.
        broken: the run did not come to its end.
    """

    title: str
    why: str
    rig: str
    seed: int
    start_utc_ms: int
    began_s: float
    truth: Sequence[TruthItem]
    arrivals: Sequence[Arrival]
    state_history: Sequence[StateArrival]
    presses: Sequence[LoggedPress]
    boot_began_s: Mapping[str, float]
    daemon_ends_s: Sequence[float] = ()
    samples: Sequence[Sample] = ()
    faults: Sequence[FaultBar] = ()
    expectations: Sequence[ExpectationRow] = ()
    drive: str = ""
    speed: float = 1.0
    log: str = ""
    digest: str = ""
    notes: Sequence[str] = ()
    wall_s: float | None = None
    broken: bool = False

    def axis_s(self, at_s: float) -> float:
        """Seconds of the drive at a loop time."""
        return (at_s - self.began_s) * self.speed


def build_report(material: RunMaterial) -> RunReport:
    """The report of a run."""
    moments = _Moments(material)
    end_s = _end_s(material)
    started = datetime.fromtimestamp(material.start_utc_ms / 1000, UTC)
    return RunReport(
        title=material.title,
        why=material.why,
        rig=material.rig,
        seed=material.seed,
        started_utc=started.isoformat(timespec="seconds"),
        duration_s=end_s,
        verdict=_verdict(material),
        drive=material.drive,
        speed=material.speed,
        track=tuple(_track(material)),
        positions=tuple(_positions(material, moments)),
        live=tuple(_live(material)),
        faults=tuple(material.faults),
        presses=tuple(_presses(material)),
        links=(*_dispatch_links(material, end_s), *_vehicle_links(material)),
        backlog=tuple(
            BacklogPoint(material.axis_s(one.at_s), one.backlog)
            for one in material.samples
            if one.backlog is not None
        ),
        latencies=tuple(sorted(_latencies(material, moments), key=lambda point: point.t_s)),
        reasons=tuple(_reasons(material, moments, end_s)),
        expectations=tuple(material.expectations),
        notes=tuple(material.notes),
        log=tuple(material.log.splitlines()),
        digest=material.digest,
        wall_s=material.wall_s,
    )


class _Moments:
    """When the events of records happened."""

    def __init__(self, material: RunMaterial) -> None:
        self._material = material
        self._began_s: dict[tuple[int, int], float] = {}
        for arrival in material.state_history:
            state = arrival.state
            if isinstance(state, LinkState) and state.boot_id in material.boot_began_s:
                self._began_s[state.boot, state.journal] = material.boot_began_s[state.boot_id]

    def axis_s(self, record: JournalRecord) -> float | None:
        """Seconds of the drive, by the boot clock, else by a trusted UTC; None when neither is known."""
        began_s = self._began_s.get((record.boot, record.journal))
        if began_s is not None:
            return self._material.axis_s(began_s + record.boottime_ms / 1000)
        if record.utc_ms is not None and record.utc_source >= UtcSource.NTP:
            return (record.utc_ms - self._material.start_utc_ms) / 1000
        return None


def _verdict(material: RunMaterial) -> RunVerdict:
    if material.broken:
        return RunVerdict.BROKEN
    if not material.expectations:
        return RunVerdict.OBSERVED
    held = all(row.held for row in material.expectations)
    return RunVerdict.PASSED if held else RunVerdict.FAILED


def _end_s(material: RunMaterial) -> float:
    ends = [1.0]
    ends += [item.t_ns / 1e9 for item in material.truth[-1:]]
    ends += [material.axis_s(arrival.at_s) for arrival in material.arrivals[-1:]]
    ends += [material.axis_s(sample.at_s) for sample in material.samples[-1:]]
    ends += [fault.to_s for fault in material.faults]
    return max(ends)


def _track(material: RunMaterial) -> Iterator[TrackPoint]:
    for item in material.truth:
        yield TrackPoint(item.t_ns / 1e9, item.lat_deg, item.lon_deg, item.has_fix)


class _Truth:
    """Where the vehicle was at any time."""

    def __init__(self, truth: Sequence[TruthItem]) -> None:
        self._truth = truth
        self._times = [item.t_ns / 1e9 for item in truth]

    def error_m(self, t_s: float, lat_deg: float, lon_deg: float) -> float | None:
        """Metres from the truth, which is interpolated; None far from any."""
        after = bisect_right(self._times, t_s)
        if not 0 < after < len(self._times):
            return None
        a, b = self._truth[after - 1], self._truth[after]
        span_s = self._times[after] - self._times[after - 1]
        if span_s > NEAR_TRUTH_S:
            return None
        part = (t_s - self._times[after - 1]) / span_s
        lat = a.lat_deg + (b.lat_deg - a.lat_deg) * part
        lon = a.lon_deg + (b.lon_deg - a.lon_deg) * part
        return distance_m((lat_deg, lon_deg), (lat, lon))


def _positions(material: RunMaterial, moments: _Moments) -> Iterator[PublishedPosition]:
    truth = _Truth(material.truth)
    for arrival in material.arrivals:
        record = arrival.record
        body, t_s = record.body, _epoch_s(material, record, moments)
        if isinstance(body, Position) and t_s is not None:
            yield PublishedPosition(
                t_s=t_s,
                dispatched_s=material.axis_s(arrival.at_s),
                lat_deg=body.lat_deg,
                lon_deg=body.lon_deg,
                history=record.history,
                error_m=truth.error_m(t_s, body.lat_deg, body.lon_deg),
            )


def _epoch_s(material: RunMaterial, record: JournalRecord, moments: _Moments) -> float | None:
    """A position is of its epoch, which the receiver tells a moment later."""
    if record.utc_ms is not None and record.utc_source is UtcSource.GNSS:
        return (record.utc_ms - material.start_utc_ms) / 1000
    return moments.axis_s(record)


def _live(material: RunMaterial) -> Iterator[LivePosition]:
    for arrival in material.state_history:
        state = arrival.state
        if isinstance(state, LocationState):
            t_s = None if state.utc is None else (state.utc.unix_ms - material.start_utc_ms) / 1000
            where = None if state.position is None else (state.position.lat_deg, state.position.lon_deg)
            yield LivePosition(t_s, material.axis_s(arrival.at_s), where)


def _presses(material: RunMaterial) -> Iterator[PressMark]:
    meaningful = {
        (one.press.session, one.press.seq)
        for one in expected_events(
            material.presses, material.daemon_ends_s, list(material.boot_began_s.values())
        )
    }
    for press in material.presses:

        def after(at_s: float | None, pressed_s: float = press.pressed_s) -> float | None:
            return None if at_s is None else at_s - pressed_s

        yield PressMark(
            t_s=material.axis_s(press.pressed_s),
            key=press.key,
            stored_after_s=after(press.stored_s),
            delivered_after_s=after(press.delivered_s),
            dispatched_after_s=after(press.dispatched_s),
            said_nothing_new=(press.session, press.seq) not in meaningful,
        )


def _dispatch_links(material: RunMaterial, end_s: float) -> Iterator[LinkSpan]:
    since: tuple[float, bool] | None = None
    session: int | None = None
    for arrival in material.state_history:
        state = arrival.state
        if not isinstance(state, LinkState):
            continue
        # A late will of an old connection says nothing of the present one.
        if not state.online and session not in (None, state.session):
            continue
        session = state.session
        at_s = material.axis_s(arrival.at_s)
        if since is not None and since[1] != state.online:
            yield LinkSpan(LinkView.DISPATCH, since[0], min(at_s, end_s), since[1])
        if since is None or since[1] != state.online:
            since = at_s, state.online
    # The orderly stop after the end of the axis is no loss of the link.
    if since is not None and since[0] < end_s:
        yield LinkSpan(LinkView.DISPATCH, since[0], end_s, since[1])


def _vehicle_links(material: RunMaterial) -> Iterator[LinkSpan]:
    since: tuple[float, bool] | None = None
    for sample in material.samples:
        at_s = material.axis_s(sample.at_s)
        if since is not None and since[1] != sample.connected:
            yield LinkSpan(LinkView.VEHICLE, since[0], at_s, since[1])
            since = None
        if since is None and sample.connected is not None:
            since = at_s, sample.connected
    if since is not None:
        yield LinkSpan(LinkView.VEHICLE, since[0], material.axis_s(material.samples[-1].at_s), since[1])


def _latencies(material: RunMaterial, moments: _Moments) -> Iterator[LatencyPoint]:
    for arrival in material.arrivals:
        record = arrival.record
        t_s = moments.axis_s(record)
        if t_s is not None and not isinstance(record.body, Gap):
            latency_s = (material.axis_s(arrival.at_s) - t_s) / material.speed
            yield LatencyPoint(t_s, latency_s, record.token, record.history)
    told: float | None = None
    for live in _live(material):
        # A retained state comes again whenever dispatch subscribes anew; only its first coming is a delivery.
        if live.where is not None and live.t_s is not None and (told is None or live.t_s > told):
            told = live.t_s
            latency_s = (live.dispatched_s - live.t_s) / material.speed
            if math.isfinite(latency_s) and latency_s >= 0:
                yield LatencyPoint(live.t_s, latency_s, LIVE_KIND, history=False)


def _reasons(material: RunMaterial, moments: _Moments, end_s: float) -> Iterator[ReasonSpan]:
    details = _reason_details(material.state_history)
    told = [
        (t_s, one.record.body.reasons)
        for one in material.arrivals
        if isinstance(one.record.body, Health) and (t_s := moments.axis_s(one.record)) is not None
    ]
    since: dict[str, float] = {}
    for t_s, reasons in sorted(told):
        for reason in [one for one in since if one not in reasons]:
            yield ReasonSpan(reason, since.pop(reason), t_s, details.get(reason, ""))
        for reason in reasons:
            since.setdefault(reason, t_s)
    for reason, from_s in [one for one in since.items() if one[1] < end_s]:
        yield ReasonSpan(reason, from_s, end_s, details.get(reason, ""))


def _reason_details(history: Iterable[StateArrival]) -> dict[str, str]:
    """The first sentence told of each reason."""
    details: dict[str, str] = {}
    for arrival in history:
        if isinstance(arrival.state, HealthState):
            for reason, text in arrival.state.details:
                details.setdefault(reason, text)
    return details
