"""What a drive or a recording consists of: items on one timeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.domain.record import SignalValue
from hil.drive.route import GeoPoint, Sky


@dataclass(frozen=True, slots=True)
class NmeaItem:
    """Bytes that the GNSS receiver sent; `t_ns` is when the last of them was out."""

    t_ns: int
    data: bytes


@dataclass(frozen=True, slots=True)
class CanItem:
    """A data frame on a vehicle bus; `bus` is its name in the configuration, e.g. "can0"."""

    t_ns: int
    bus: str
    can_id: int
    extended: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class ButtonItem:
    """A button of the crew went down or up.

    Attributes:
        key: the button's name, e.g. "on_scene".
        pressed: True on press, False on release.
        device_session: which power-up of the device, where it tells.
        device_seq: the device's own sequence number within it, where it has one.
        at_ns: when it happened, on the timeline of `t_ns`; before `t_ns` when the agent heard of it late.
    """

    t_ns: int
    key: str
    pressed: bool
    device_session: int | None
    device_seq: int | None
    at_ns: int


@dataclass(frozen=True, slots=True)
class SampleItem:
    """A sensor gave a reading; `device` is its name in the configuration, the rest as in a `Sample`."""

    t_ns: int
    device: str
    signal: str
    value: SignalValue | None
    unit: str | None


@dataclass(frozen=True, slots=True)
class IgnitionItem:
    """The ignition was switched."""

    t_ns: int
    on: bool


@dataclass(frozen=True, slots=True)
class ClockItem:
    """What the vehicle computer's wall clock said; fields as in `agent.hal.clock.SystemUtc`."""

    t_ns: int
    unix_ms: int
    synchronised: bool
    max_error_ms: int


@dataclass(frozen=True, slots=True)
class CoverageItem:
    """The vehicle entered or left the reach of the radio network."""

    t_ns: int
    covered: bool


@dataclass(frozen=True, slots=True)
class TruthItem:
    """What was really so, for comparing with what was reported. Once a second.

    Attributes:
        utc_ms: true UTC, Unix milliseconds.
        lat_deg: true WGS 84 latitude.
        lon_deg: true WGS 84 longitude.
        speed_mps: true speed.
        course_deg: direction in which the vehicle points.
        status: token of the last unit status the crew pressed, "" before the first.
        activity: what the unit is doing, a token of `hil.drive.timeline.Activity`.
        sky: what the antenna sees.
        odometer_m: distance the vehicle has travelled in its life.
        has_fix: False where the receiver has no fix.
    """

    t_ns: int
    utc_ms: int
    lat_deg: float
    lon_deg: float
    speed_mps: float
    course_deg: float
    status: str
    activity: str
    sky: Sky
    odometer_m: float
    has_fix: bool

    @property
    def point(self) -> GeoPoint:
        """Latitude and longitude."""
        return self.lat_deg, self.lon_deg


TimedItem = NmeaItem | CanItem | ButtonItem | SampleItem | IgnitionItem | ClockItem | CoverageItem | TruthItem


@dataclass(frozen=True, slots=True)
class Press:
    """A press that the crew makes.

    Attributes:
        at_ns: when the button goes down, on the drive's timeline.
        key: which button.
        held_ms: for how long.
    """

    at_ns: int
    key: str
    held_ms: int


class Drive(Protocol):
    """A shift that can be played: simulated, or made from a recording."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def start_utc_ms(self) -> int:
        """UTC at t_ns = 0, Unix milliseconds."""
        ...

    @property
    def duration_s(self) -> float:
        """From t_ns = 0 to its end."""
        ...

    @property
    def presses(self) -> Sequence[Press]:
        """Every press of the crew in order."""
        ...

    @property
    def coverage_gaps(self) -> Sequence[tuple[float, float]]:
        """Where the radio network does not reach: (from, to) in seconds from the start."""
        ...

    def items(self) -> Iterator[TimedItem]:
        """Everything that happens, ascending in t_ns, from its beginning; can be called again."""
        ...
