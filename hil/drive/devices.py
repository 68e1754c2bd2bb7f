"""What the devices of the vehicle say over the course of a shift, each as a stream of items."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hil.drive.can_writer import BusMessage
from hil.drive.items import ButtonItem, CanItem, ClockItem, CoverageItem, IgnitionItem, Press, TimedItem
from hil.drive.timeline import NS, Course
from hil.drive.vehicle_state import vehicle_state

MS = 1_000_000
CLOCK_EVERY_S = 60.0
CLOCK_MAX_ERROR_MS = 16_000
"""What Linux reports for a clock that no service disciplines."""
BUS_SLEEPS_S = 2.0
"""The modules go on talking for a moment after the ignition is off."""
BUS_JITTER_S = 0.0008


@dataclass(frozen=True, slots=True)
class Vehicle:
    """The vehicle at the start of the shift.

    Attributes:
        odometer_km: its odometer.
        fuel_percent: its fuel.
        ignition_off_s: when in the shift it is switched off, None when it stays on.
    """

    odometer_km: float
    fuel_percent: float
    ignition_off_s: float | None


def ignition_items(vehicle: Vehicle) -> Iterator[TimedItem]:
    """On at the start, off where the shift says so."""
    yield IgnitionItem(0, on=True)
    if vehicle.ignition_off_s is not None:
        yield IgnitionItem(round(vehicle.ignition_off_s * NS), on=False)


def clock_items(start_unix_ms: int, duration_s: float) -> Iterator[TimedItem]:
    """The wall clock of a computer that no time service disciplines."""
    for count in range(int(duration_s / CLOCK_EVERY_S) + 1):
        t_ms = round(count * CLOCK_EVERY_S * 1000)
        yield ClockItem(t_ms * MS, start_unix_ms + t_ms, synchronised=False, max_error_ms=CLOCK_MAX_ERROR_MS)


def coverage_items(gaps: Sequence[tuple[float, float]]) -> Iterator[TimedItem]:
    """Radio coverage lost and back."""
    for start_s, end_s in gaps:
        yield CoverageItem(round(start_s * NS), covered=False)
        yield CoverageItem(round(end_s * NS), covered=True)


def button_items(presses: Sequence[Press]) -> Iterator[TimedItem]:
    """Both edges of every press, numbered as the button box does."""
    edges = [(press.at_ns, True, press.key) for press in presses]
    edges += [(press.at_ns + press.held_ms * MS, False, press.key) for press in presses]
    for count, (at_ns, pressed, key) in enumerate(sorted(edges), start=1):
        yield ButtonItem(at_ns, key, pressed, device_session=None, device_seq=count, at_ns=at_ns)


def can_items(
    course: Course, vehicle: Vehicle, message: BusMessage, *, bus: str, hz_scale: float, seed: str
) -> Iterator[TimedItem]:
    """One message's frames at its own rate, with the jitter of a busy bus."""
    rng = random.Random(f"{seed}/can/{message.name}")
    cycle_s = message.cycle_s / hz_scale
    off_s = course.duration_s if vehicle.ignition_off_s is None else vehicle.ignition_off_s
    t_s, count = rng.uniform(0, cycle_s), 0
    while t_s < min(course.duration_s, off_s + BUS_SLEEPS_S):
        state = vehicle_state(
            course.at(t_s),
            ignition_off_s=off_s,
            odometer_km=vehicle.odometer_km,
            fuel_percent=vehicle.fuel_percent,
        )
        at_ns = round((t_s + rng.uniform(0, BUS_JITTER_S)) * NS)
        yield CanItem(at_ns, bus, message.can_id, message.extended, message.encode(state, count))
        t_s += cycle_s
        count += 1
