"""What is true now, as dispatch sees it: one value a retained topic, newest wins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agent.domain.fix import FixMode
from agent.domain.record import Position, SignalValue
from agent.domain.stamp import Utc


@dataclass(frozen=True, slots=True)
class LinkState:
    """Whether the unit can be reached, and which sequences its journal is counted in.

    Birth and last will of one connection carry the same session number, so that a late will of an old
    connection is told from the present one.

    Attributes:
        boottime_ms: CLOCK_BOOTTIME when the state was made, in milliseconds.
        utc: the UTC of that moment; None while no source is trusted.
        session: random number of the connection attempt.
        online: True in the birth message, False in the will and after an orderly stop.
        boot_id: the kernel's id of this boot, 32 hexadecimal digits.
        boot: the store's own count of boots, the `boot` of journal records.
        journal: the store's random identity, the `journal` of journal records.
        agent_version: version of the agent.
        mqtt_version: 5, or 4 for MQTT 3.1.1; None in a will, which is made before the broker answers.
        planned: True when the agent itself said that it goes offline.
        events_seq: every record of the events up to this sequence number was delivered by an earlier
            connection, and does not come again by itself; None when not told.
        trail_seq: the same of the trail.
    """

    name: ClassVar[str] = "link"

    boottime_ms: int
    utc: Utc | None
    session: int
    online: bool
    boot_id: str
    boot: int
    journal: int
    agent_version: str
    mqtt_version: int | None = None
    planned: bool = False
    events_seq: int | None = None
    trail_seq: int | None = None


@dataclass(frozen=True, slots=True)
class LocationState:
    """Where the unit is, or that it is not known.

    Attributes:
        boottime_ms: CLOCK_BOOTTIME of the fix, or of the moment the fix was lost, in milliseconds.
        utc: the UTC of that moment; None while no source is trusted.
        position: the live position; None without a fix, never 0/0.
        mode: kind of fix now.
        last_known: the newest position there was, while `position` is None.
        last_known_utc: the UTC of `last_known`.
    """

    name: ClassVar[str] = "location"

    boottime_ms: int
    utc: Utc | None
    position: Position | None
    mode: FixMode
    last_known: Position | None = None
    last_known_utc: Utc | None = None


@dataclass(frozen=True, slots=True)
class StatusState:
    """What the crew last said.

    Attributes:
        boottime_ms: CLOCK_BOOTTIME when the state was made, in milliseconds.
        utc: the UTC of that moment; None while no source is trusted.
        status: token of `agent.domain.status.UnitStatus`; None when no status was ever set.
        since: the UTC of the press; None when it was not known.
        seq: the press's sequence number in the events stream; None while it is not stored.
        emergency: True while the crew's emergency is active.
        emergency_since: the UTC at which it was raised.
        emergency_seq: the sequence number of the newest emergency record.
        journal: identity of the store that the sequence numbers are of; None while they are not known.
    """

    name: ClassVar[str] = "status"

    boottime_ms: int
    utc: Utc | None
    status: str | None
    since: Utc | None = None
    seq: int | None = None
    emergency: bool = False
    emergency_since: Utc | None = None
    emergency_seq: int | None = None
    journal: int | None = None


@dataclass(frozen=True, slots=True)
class VehicleState:
    """Newest value of each vehicle signal.

    Attributes:
        boottime_ms: CLOCK_BOOTTIME of the newest signal, in milliseconds.
        utc: the UTC of that moment; None while no source is trusted.
        signals: (name, value) pairs as in `agent.domain.record.Telemetry`, None for "not available".
    """

    name: ClassVar[str] = "vehicle"

    boottime_ms: int
    utc: Utc | None
    signals: tuple[tuple[str, SignalValue | None], ...]


@dataclass(frozen=True, slots=True)
class HealthState:
    """How the device is, and how far behind dispatch's picture may be.

    Attributes:
        boottime_ms: CLOCK_BOOTTIME when the state was made, in milliseconds.
        utc: the UTC of that moment; None while no source is trusted.
        reasons: all named reasons that hold now, sorted tokens of `agent.domain.health.HealthReason`.
        details: (reason, sentence) pairs for a person.
        backlog_records: records that wait to be delivered; None when not counted.
        backlog_oldest_utc: the UTC of the oldest of them; None when there is none or it is not known.
    """

    name: ClassVar[str] = "health"

    boottime_ms: int
    utc: Utc | None
    reasons: tuple[str, ...]
    details: tuple[tuple[str, str], ...] = ()
    backlog_records: int | None = None
    backlog_oldest_utc: Utc | None = None


State = LinkState | LocationState | StatusState | VehicleState | HealthState

STATE_TYPES: dict[str, type[State]] = {
    kind.name: kind for kind in (LinkState, LocationState, StatusState, VehicleState, HealthState)
}
"""The state of each topic name."""
