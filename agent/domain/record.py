"""What the journal holds: kinds, streams, and the body of each kind."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from agent.domain.fix import FixMode
from agent.domain.stamp import Stamp


class Stream(StrEnum):
    """A journal stream; each has a sequence of its own, strictly ascending, without holes."""

    EVENTS = "events"
    TRAIL = "trail"


class Kind(IntEnum):
    """Kind of a record; the class order is emergency > status > alert > position > telemetry > health.

    The numbers are stored and sent: never renumber.
    """

    EMERGENCY = 1
    STATUS = 2
    ALERT = 3
    POSITION = 4
    TELEMETRY = 5
    HEALTH = 6
    GAP = 7
    """Stands in the place of records that were thinned or evicted; belongs to either stream."""

    @property
    def durable_at_once(self) -> bool:
        """True for kinds that are committed by themselves before `put` returns."""
        return self in (Kind.EMERGENCY, Kind.STATUS, Kind.ALERT)

    @property
    def stream(self) -> Stream:
        """The stream a new record of this kind is appended to."""
        return Stream.EVENTS if self.durable_at_once else Stream.TRAIL

    @property
    def token(self) -> str:
        """The word on the wire in JSON form."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Emergency:
    """The crew's emergency button.

    Attributes:
        active: True when raised, False when the crew cancelled it.
        input: which button, e.g. "emergency".
        press_seq: the button device's own sequence number, None when it has none.
        press_session: the device's power-up that `press_seq` counts in, None when it never repeats itself.
    """

    active: bool
    input: str
    press_seq: int | None
    press_session: int | None = None


@dataclass(frozen=True, slots=True)
class StatusChange:
    """A unit status set by the crew.

    Attributes:
        status: token of `agent.domain.status.UnitStatus`.
        previous: the token before, None at the first press of a fresh store.
        input: which button.
        press_seq: the button device's own sequence number, None when it has none.
        press_session: the device's power-up that `press_seq` counts in, None when it never repeats itself.
    """

    status: str
    previous: str | None
    input: str
    press_seq: int | None
    press_session: int | None = None


@dataclass(frozen=True, slots=True)
class Alert:
    """Something dispatch or fleet services must be told once.

    Attributes:
        code: stable token, e.g. "store_set_aside".
        text: one plain sentence for a person.
    """

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Position:
    """A reported position; units as in `agent.domain.fix.Fix`."""

    lat_deg: float
    lon_deg: float
    alt_m: float | None
    speed_mps: float | None
    course_deg: float | None
    mode: FixMode
    satellites: int | None
    hdop: float | None


SignalValue = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Vehicle signals that changed since the last telemetry record.

    Attributes:
        signals: (name, value) pairs; the name is the VSS path below `Vehicle.`, the value in the VSS unit,
            None where the bus says "not available".
    """

    signals: tuple[tuple[str, SignalValue | None], ...]


@dataclass(frozen=True, slots=True)
class Health:
    """The device's own health.

    Attributes:
        reasons: all named reasons that hold now, sorted.
        raised: those that are new since the last health record.
        cleared: those that went away since.
    """

    reasons: tuple[str, ...]
    raised: tuple[str, ...]
    cleared: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """Tells a reader what it does not have, standing at the first sequence number that went.

    Attributes:
        last_seq: last sequence number covered (the record's own number is the first).
        reason: "thinned", "evicted", "trimmed" (from the replay window), or "damaged", which stands for what
            could not be read or sent.
        counts: (kind token, number of records) pairs that went.
    """

    last_seq: int
    reason: str
    counts: tuple[tuple[str, int], ...]


Body = Emergency | StatusChange | Alert | Position | Telemetry | Health | Gap

KIND_OF_BODY: dict[type, Kind] = {
    Emergency: Kind.EMERGENCY,
    StatusChange: Kind.STATUS,
    Alert: Kind.ALERT,
    Position: Kind.POSITION,
    Telemetry: Kind.TELEMETRY,
    Health: Kind.HEALTH,
    Gap: Kind.GAP,
}


@dataclass(frozen=True, slots=True)
class Draft:
    """A record before the outbox gave it a sequence number."""

    stamp: Stamp
    body: Body

    @property
    def kind(self) -> Kind:
        """The kind, from the body's type."""
        return KIND_OF_BODY[type(self.body)]
