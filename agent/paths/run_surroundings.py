"""From fixes and wheels to stops, places, hints, and the evidence that stands beside a press."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from agent.domain.call import Call
from agent.domain.evidence import Evidence, contradictions
from agent.domain.fix import Fix
from agent.domain.missed_press import Hint, MissedPress
from agent.domain.motion import MotionChange
from agent.domain.odometer import OdometerReading, told
from agent.domain.places import PlaceEvent, Places
from agent.domain.record import (
    Breakdown,
    Crossing,
    EvidenceRecord,
    HintRecord,
    MotionRecord,
    MotionWord,
    PlaceRecord,
    Position,
    StatusChange,
    Telemetry,
)
from agent.domain.reporting import position_of
from agent.domain.surroundings import Surroundings
from agent.domain.vehicle import Signal
from agent.paths.run_records import RunRecords

KM_H = 3.6
SPEED_SIGNAL = "Speed"
"""VSS path below `Vehicle.` of the speed by the wheels, in km/h."""
_SPEED_SMOOTHING = 0.02
MOST_TELLING: Final = 8
TELLING: Final = ("Engine", "Coolant", "Oil", "Battery", "Transmission", "Fuel", "Brake", "Speed")
"""Parts of names of signals that tell most of a failure."""


class RunSurroundings:
    """Where the unit is and how it moves, on record and on demand. Used from the event loop.

    `call` is the call that the unit belongs to, wherever it is asked for; None without.

    Args:
        places: known places.
        hints: whether presses that were probably forgotten are suggested.
        records: where records go.
        signals: newest signals of the vehicle by name, None where there is no fresh one.
        odometer: what the odometer says; None while that is not known.
        on_motion: called when the unit stopped or started.
        on_crossing: called when it came to a known place or left it.
    """

    def __init__(
        self,
        places: Places,
        *,
        hints: bool,
        records: RunRecords,
        signals: Callable[[], Mapping[str, Any]],
        odometer: Callable[[], OdometerReading | None],
        on_motion: Callable[[], None],
        on_crossing: Callable[[], None],
    ) -> None:
        self._around = Surroundings(places, MissedPress() if hints else None)
        self._records = records
        self._signals = signals
        self._odometer = odometer
        self._on_motion = on_motion
        self._on_crossing = on_crossing
        self._position: Position | None = None
        self.mean_mps = 0.0
        """Speed of the last minutes."""
        self.hint: Hint | None = None
        """The press that seems to be missing."""

    @property
    def places(self) -> Places:
        """All known places."""
        return self._around.places

    @property
    def position(self) -> Position | None:
        """The newest position, however old."""
        return self._position

    @property
    def has_fix(self) -> bool:
        """Whether the unit knows where it is now."""
        return self._around.evidence(self._records.now_ns(), None).lat_deg is not None

    @property
    def is_driving(self) -> bool:
        """Whether the unit moves faster than a walk; False when nobody can tell."""
        return self._around.is_driving(self._records.now_ns())

    # ------------------------------------------------------------------ what comes in

    def on_fix(self, fix: Fix, call: Call | None) -> None:
        """Take a believed fix."""
        self._position = position_of(fix) or self._position
        if fix.speed_mps is not None:
            self.mean_mps += (fix.speed_mps - self.mean_mps) * _SPEED_SMOOTHING
        for news in self._around.take_fix(fix):
            if isinstance(news, MotionChange):
                self._moved(news, call)
            else:
                self._crossed(news, call)

    def on_signals(self, signals: Sequence[Signal], call: Call | None) -> None:
        """Take changed signals of the vehicle."""
        for signal in signals:
            if signal.name == SPEED_SIGNAL:
                self._wheels(signal.received_boottime_ns, signal.value, call)

    def tick(self, status: str | None, call: Call | None) -> bool:
        """What time brings; once a second. Returns whether there is a new hint beside `status`."""
        now_ns = self._records.now_ns()
        # Signals come when they change: what still holds is taken again, or a unit at rest knew nothing.
        self._wheels(now_ns, self._signals().get(SPEED_SIGNAL), call)
        hint = self._around.hint(now_ns, status, _position_of(call))
        if hint is None:
            return False
        self.hint = hint
        self._hinted(hint, status, call)
        return True

    def _wheels(self, boottime_ns: int, speed_kmh: Any, call: Call | None) -> None:
        if isinstance(speed_kmh, bool) or not isinstance(speed_kmh, int | float):
            return
        change = self._around.take_wheel_speed(boottime_ns, speed_kmh / KM_H)
        if change is not None:
            self._moved(change, call)

    # ------------------------------------------------------------------ beside a press

    def breakdown(self, press: StatusChange, reason: str, incident: str) -> Breakdown:
        """What the vehicle tells while its crew says that it failed; all of it goes to the trail as well."""
        signals = tuple(sorted((name, value) for name, value in self._signals().items() if value is not None))
        if signals:
            self._records.stage(Telemetry(signals))
        telling = sorted(signals, key=lambda one: not any(word in one[0] for word in TELLING))
        odometer_m, odometer_source = told(self._odometer())
        return Breakdown(
            reason,
            incident,
            status=press.status,
            signals=tuple(telling[:MOST_TELLING]) or None,
            position=self._fresh_position(),
            odometer_m=odometer_m,
            odometer_source=odometer_source,
            made=press.made,
            by=press.by,
        )

    def evidence(self, boottime_ns: int, call: Call | None, status: str | None) -> EvidenceRecord:
        """What the vehicle says at this moment, and what in it is against the status that is pressed."""
        evidence = self._around.evidence(boottime_ns, _position_of(call))
        against = () if status is None else contradictions(status, evidence)
        return self._evidence_record(evidence, boottime_ns, tuple(str(one) for one in against))

    # ------------------------------------------------------------------ records

    def _moved(self, change: MotionChange, call: Call | None) -> None:
        word = MotionWord.ROLLING if change.rolling else MotionWord.STANDING
        odometer_m, odometer_source = told(self._odometer())
        body = MotionRecord(
            str(word),
            source=str(change.source),
            odometer_m=odometer_m,
            position=self._fresh_position(),
            incident=None if call is None else call.incident,
            odometer_source=odometer_source,
        )
        self._records.stage(body, change.at_boottime_ns)
        self._on_motion()

    def _crossed(self, event: PlaceEvent, call: Call | None) -> None:
        crossing = Crossing.IN if event.entered else Crossing.OUT
        body = PlaceRecord(
            str(crossing),
            event.place.id,
            category=event.place.kind,
            position=self._fresh_position(),
            incident=None if call is None else call.incident,
        )
        self._records.stage(body, event.since_boottime_ns)
        self._on_crossing()

    def _hinted(self, hint: Hint, status: str | None, call: Call | None) -> None:
        self._records.stage(
            HintRecord(
                str(hint.suggests),
                str(hint.because),
                confidence=hint.confidence,
                place=hint.place,
                dwell_s=round(hint.dwell_s),
                radius_m=round(hint.radius_m),
                since_boottime_ms=hint.since_boottime_ns // 1_000_000,
                current=status,
                incident=None if call is None else call.incident,
                evidence=self.evidence(self._records.now_ns(), call, None),
            )
        )

    def _evidence_record(
        self, evidence: Evidence, boottime_ns: int, against: tuple[str, ...]
    ) -> EvidenceRecord:
        motion = evidence.motion
        word = (
            None if motion.rolling is None else MotionWord.ROLLING if motion.rolling else MotionWord.STANDING
        )
        since_ns = motion.since_boottime_ns
        odometer_m, odometer_source = told(self._odometer())
        return EvidenceRecord(
            position=self._position if evidence.position_age_ms is not None else None,
            position_age_ms=evidence.position_age_ms,
            odometer_m=odometer_m,
            motion=None if word is None else str(word),
            motion_for_ms=None if since_ns is None else max(0, boottime_ns - since_ns) // 1_000_000,
            speed_mps=motion.speed_mps,
            incident_distance_m=whole_metres(evidence.incident_distance_m),
            place=evidence.place,
            place_distance_m=whole_metres(evidence.place_distance_m),
            motion_source=None if motion.source is None else str(motion.source),
            contradictions=against or None,
            odometer_source=odometer_source,
        )

    def _fresh_position(self) -> Position | None:
        """Where the unit is now; an old position is not where it stopped."""
        return self._position if self.has_fix else None


def whole_metres(value: float | None) -> int | None:
    """Rounded; None stays None."""
    return None if value is None else round(value)


def _position_of(call: Call | None) -> tuple[float, float] | None:
    return None if call is None else call.position
