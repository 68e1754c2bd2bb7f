"""From fix to position record and live location."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from agent.domain.dead_reckoning import DeadReckoning
from agent.domain.fix import Fix, FixMode
from agent.domain.fix_quality import FixQuality
from agent.domain.gnss_alarm import SignalLoss
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.plausibility import FixGate
from agent.domain.privacy import Privacy
from agent.domain.record import AlertCode, Draft, Kind, Position, PositionQuality, SourceSwitch
from agent.domain.reporting import SIGMAS, LivePolicy, TrailPolicy, error_m, position_of
from agent.domain.stamp import Stamp, Utc, UtcSource
from agent.domain.state import LocationState, State, StatusState
from agent.domain.status import UnitStatus
from agent.domain.time_base import TimeBase
from agent.domain.vehicle import Signal
from agent.outbox.fault import StoreFaultError
from agent.outbox.outbox import Outbox
from agent.paths.odometer_path import OdometerPath
from agent.paths.state_sink import StateSink
from agent.runtime.log import EventLog
from agent.wire.body import unpack_body
from agent.wire.row import Row

log = EventLog("fix")

WHEEL_SPEED = "Speed"
ODOMETER = "TraveledDistance"
RATE_OF_TURN = "AngularVelocity.Yaw"
KMH_PER_MPS = 3.6
STALE_MS = 3_000
"""An epoch that is read so much later than it was waited somewhere."""
LOSS = "satellites"
"""Who says of jamming that all satellites were lost: the receiver itself has its own name."""
UNKNOWN_M = 15.0
"""Radius about a fix of which nobody says how good it is."""
ON_INCIDENT = frozenset(
    {
        UnitStatus.DISPATCHED,
        UnitStatus.ACKNOWLEDGED,
        UnitStatus.EN_ROUTE,
        UnitStatus.STAGED,
        UnitStatus.ON_SCENE,
        UnitStatus.AT_PATIENT,
        UnitStatus.TRANSPORTING,
        UnitStatus.AT_DESTINATION,
    }
)
"""Statuses in which dispatch looks at a unit all the time."""


class FixPath:
    """Takes every fix; keeps `state/location` as true as dispatch needs it, and stages the trail."""

    def __init__(
        self,
        live: LivePolicy,
        trail: TrailPolicy[Draft],
        time_base: TimeBase,
        *,
        outbox: Outbox,
        states: StateSink,
        health: HealthBoard,
        odometer: OdometerPath | None = None,
        on_believed: Callable[[Fix], None] = lambda _: None,
        wheels_keep_pace: bool = True,
    ) -> None:
        self._odometer = odometer
        self._wheels_keep_pace = wheels_keep_pace
        self._on_believed = on_believed
        self._live = live
        self._trail = trail
        self._time_base = time_base
        self._outbox = outbox
        self._states = states
        self._health = health
        self._gate = FixGate()
        self._mode: FixMode | None = None
        self._last: Position | None = None
        self._last_utc: Utc | None = None
        self._status: tuple[str | None, bool] = (None, False)
        self._quality = FixQuality()
        self._reckoning = DeadReckoning()
        self._estimating = False
        self.newest: Fix | None = None
        self.heard: Callable[[], tuple[int, int] | None] = lambda: None
        """Satellites that the receiver in use hears, and hears well; None when it does not tell."""
        self.on_sign: Callable[[AlertCode, str], None] = lambda _code, _text: None
        """Called at a single sign that the position is forged."""
        self._loss = SignalLoss(self._heard)

    async def open(self, boottime_ns: int) -> None:
        """Say that no position is known yet, and which was the last: what a run before said is over."""
        # A disk that can not be read has its reason: then no last position is known, until there is a fix.
        with contextlib.suppress(StoreFaultError):
            self._restore(await self._outbox.latest(Kind.POSITION))
        if self._odometer is not None:
            self._quality.scale = self._odometer.scale
        self._mode = FixMode.NONE
        utc = self._time_base.utc(boottime_ns)
        self._states.set_state(self._state(boottime_ns, utc, None, FixMode.NONE))

    def _restore(self, row: Row | None) -> None:
        if row is None:
            return
        try:
            body = unpack_body(Kind.POSITION, row.body)
            utc = None
            if row.utc_ms is not None:
                utc = Utc(row.utc_ms, UtcSource(row.utc_source), row.utc_uncertainty_ms)
        except ValueError as error:
            log.error("position_unreadable", seq=row.seq, why=str(error))
            return
        self._last = body if isinstance(body, Position) else None
        self._last_utc = utc
        if utc is None:
            return
        if utc.source >= UtcSource.NTP:
            self._time_base.floor.learn_stored(utc.unix_ms)
        if row.boot == self._outbox.boot:
            self._time_base.learn_stored(utc, row.boottime_ms * 1_000_000)

    def on_fix(self, fix: Fix) -> None:
        """Take one epoch of the receiver."""
        stamp = self._learn_time(fix)
        self._look_for_loss(fix)
        if not self._gate.admits(fix):
            self._on_jump(fix, stamp)
            return
        if fix.has_position:
            self._health.clear(HealthReason.GNSS_IMPLAUSIBLE)
        if self._gate.jumped_m is not None:
            away_km = self._gate.jumped_m / 1000
            self.on_sign(AlertCode.GNSS_SPOOFED, f"The position jumped by {away_km:.1f} km and stayed.")
        self.newest = fix
        position = self._judged(fix, stamp)
        if position is None or position.quality is None:
            self._on_believed(fix)
            if self._odometer is not None and self._wheels_keep_pace:
                self._odometer.on_fix(fix)
        if position is None:
            self._lose(fix.received_boottime_ns, stamp.utc)
            return
        self._last, self._last_utc = position, stamp.utc
        self._mode, self._estimating = fix.mode, False
        self._publish(fix, position, stamp)

    def _on_jump(self, fix: Fix, stamp: Stamp) -> None:
        """Tell a fix that can not be true as what it is; nothing else goes by it."""
        self._health.raise_(HealthReason.GNSS_IMPLAUSIBLE, f"{fix.lat_deg:.4f} {fix.lon_deg:.4f}")
        self.newest = replace(fix, mode=FixMode.NONE, lat_deg=None, lon_deg=None)
        position = position_of(fix)
        if position is None:
            return
        self._mode, self._estimating = fix.mode, False
        self._publish(fix, replace(position, quality=PositionQuality.JUMPED), stamp)

    def _publish(self, fix: Fix, position: Position, stamp: Stamp) -> None:
        at_ns = _moment_ns(stamp)
        if self._live.decide(fix, position, at_ns) is not None:
            self._tell(fix, stamp, position)
        self._stage(self._trail.take(position, at_ns, Draft(stamp, position)))

    def _heard(self) -> tuple[int, int] | None:
        return self.heard()

    def _look_for_loss(self, fix: Fix) -> None:
        self._loss.take(fix, standing=self._quality.stands(fix.received_boottime_ns))
        if self._loss.sign is None:
            self._health.clear(HealthReason.GNSS_JAMMED, owner=LOSS)
        else:
            self._health.raise_(HealthReason.GNSS_JAMMED, self._loss.sign, owner=LOSS)

    def on_signals(self, signals: Sequence[Signal]) -> None:
        """Take the wheels' speed: it judges fixes, and carries on where there are none."""
        for signal in signals:
            value, at_ns = signal.value, signal.received_boottime_ns
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if signal.name == ODOMETER and self._odometer is not None:
                self._odometer.on_vehicle(value, at_ns)
            elif signal.name == RATE_OF_TURN and self._wheels_keep_pace:
                self._reckoning.turn(value, at_ns)
            elif signal.name == WHEEL_SPEED and self._wheels_keep_pace:
                self._on_wheels(value / KMH_PER_MPS, at_ns)

    def _on_wheels(self, told_mps: float, at_ns: int) -> None:
        self._quality.speed(told_mps, at_ns)
        speed_mps = told_mps * self._quality.scale
        self._reckoning.speed(speed_mps, at_ns)
        if self._odometer is not None:
            self._odometer.scale = self._quality.scale
            self._odometer.on_wheels(speed_mps, at_ns)

    def _judged(self, fix: Fix, stamp: Stamp) -> Position | None:
        """The fix's position with what is wrong with it and how far off it may be; None without one."""
        position = position_of(fix)
        if position is None:
            return None
        quality, own_m = self._quality.judge(fix), error_m(fix)
        now = self._time_base.utc(fix.received_boottime_ns)
        if quality is None and now is not None and stamp.utc is not None:
            stale = stamp.utc.source is UtcSource.GNSS and now.unix_ms - stamp.utc.unix_ms > STALE_MS
            quality = PositionQuality.STALE if stale else None
        uncertainty_m = None if own_m is None else SIGMAS * own_m
        if quality in (PositionQuality.FROZEN, PositionQuality.CONTRADICTED):
            self._health.raise_(HealthReason.GNSS_DOUBTED, f"{quality}: {quality.sentence}")
        else:
            self._health.clear(HealthReason.GNSS_DOUBTED)
            self._reckoning.fix(position, fix.received_boottime_ns, uncertainty_m or UNKNOWN_M)
        return replace(position, quality=quality, uncertainty_m=uncertainty_m)

    def on_switch(self, before: str, after: str | None, reason: str, boottime_ns: int) -> None:
        """Another receiver tells the position from now on."""
        log.info("receiver_switched", before=before, after=after)
        switch = SourceSwitch("position", after, before, reason)
        self._outbox.stage(Draft(self._time_base.stamp(boottime_ns), switch))

    def on_silence(self, boottime_ns: int) -> None:
        """The receiver is gone or says nothing: the last position is no longer what is true now."""
        self._lose(boottime_ns, self._time_base.utc(boottime_ns))

    def on_status(self, status: str | None, *, emergency: bool) -> None:
        """The crew said something: the point of the trail it refers to stays, and the next fix is told."""
        if (status, emergency) == self._status:
            return
        self._status = status, emergency
        self._live.on_incident = emergency or status in ON_INCIDENT
        self.tell_next()

    def hurry(self, owner: str, max_age_s: float | None) -> None:
        """Let no report of the position be older than this while `owner` wants it; None ends that."""
        self._live.hurry(owner, max_age_s)

    def tell_next(self) -> None:
        """Tell the next fix whatever it says, and keep the point of the trail that is newest now."""
        self._live.request()
        self._stage(self._trail.flush())

    def rest(self, interval_s: float | None) -> None:
        """Report a unit that stands this seldom from now on; None for as often as configured."""
        self._live.resting_s = interval_s
        self._trail.rest(interval_s)

    def _lose(self, boottime_ns: int, utc: Utc | None) -> None:
        """There is no fix: carry on by the wheels for a while, marked as such, and else say so once."""
        if self._mode is None or (self._mode is FixMode.NONE and not self._estimating):
            return
        if self._mode is not FixMode.NONE:
            self._live.lost()
            self._stage(self._trail.flush())
        self._mode = FixMode.NONE
        estimate = self._reckoning.estimate(boottime_ns)
        self._estimating = estimate is not None
        if estimate is not None:
            estimate = replace(estimate, mode=FixMode.NONE)
        self._states.set_state(self._state(boottime_ns, utc, estimate, FixMode.NONE))

    def _stage(self, drafts: list[Draft]) -> None:
        for draft in drafts:
            self._outbox.stage(draft)

    def _tell(self, fix: Fix, stamp: Stamp, position: Position) -> None:
        self._states.set_state(self._state(fix.received_boottime_ns, stamp.utc, position, fix.mode))

    def _state(
        self, boottime_ns: int, utc: Utc | None, position: Position | None, mode: FixMode
    ) -> LocationState:
        lost = position is None
        return LocationState(
            boottime_ms=boottime_ns // 1_000_000,
            utc=utc,
            position=position,
            mode=mode,
            last_known=self._last if lost else None,
            last_known_utc=self._last_utc if lost else None,
        )

    def _learn_time(self, fix: Fix) -> Stamp:
        """The fix's stamp, once the time base has heard of it."""
        if fix.utc_ms is None or not fix.has_position:
            return self._time_base.stamp(fix.received_boottime_ns)
        return self._time_base.take_epoch(fix.utc_ms, fix.received_boottime_ns)


class StatusWatch:
    """A sink beside the uplink's that lets positions heed the crew's status.

    Args:
        sink: gets every state.
        fixes: hears of the crew's.
        privacy: likewise.
    """

    def __init__(self, sink: StateSink, fixes: FixPath, privacy: Privacy | None = None) -> None:
        self._sink = sink
        self._fixes = fixes
        self._privacy = privacy

    def set_state(self, state: State) -> None:
        """Pass it on."""
        if isinstance(state, StatusState) and self._privacy is not None:
            needed = state.emergency or state.status in ON_INCIDENT
            self._privacy.on_status(state.status, needed=needed)
        self._sink.set_state(state)
        if isinstance(state, StatusState):
            self._fixes.on_status(state.status, emergency=state.emergency)


def _moment_ns(stamp: Stamp) -> int:
    """When it was, for intervals between fixes: by the epochs' own times where they have them."""
    utc = stamp.utc
    if utc is not None and utc.source is UtcSource.GNSS:
        return utc.unix_ms * 1_000_000
    return stamp.boottime_ns
