"""A simulated ambulance shift: everything its devices say, on one timeline, from a scenario and a seed."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from hil.drive.can_writer import bus_messages
from hil.drive.devices import Vehicle, button_items, can_items, clock_items, coverage_items, ignition_items
from hil.drive.drive_file import DriveFile, read_drive_file
from hil.drive.gnss_receiver import EPOCH_S, Receiver
from hil.drive.items import NmeaItem, Press, TimedItem, TruthItem
from hil.drive.nmea_writer import epoch_sentences
from hil.drive.shift_plan import plan_shift
from hil.drive.timeline import NS, Timeline, status_at

SOLVE_S = 0.06
"""From the epoch to the first bit of its first sentence."""
VIEW_EVERY = 5
"""The satellites in view are sent with every fifth epoch: 9600 baud has no room for more."""
OFF_BEFORE_END_S = 5.0


@dataclass(frozen=True, slots=True)
class Options:
    """How a shift is put on its devices.

    Attributes:
        baud: of the receiver; its sentences come no faster.
        bus: name of the vehicle bus.
        can_hz_scale: 1 for every frame; 0.1 sends a tenth of them, 0 none, for long runs.
    """

    baud: int = 9600
    bus: str = "can0"
    can_hz_scale: float = 1.0


class Shift:
    """A simulated shift. The same scenario, seed and options give the same items, byte for byte.

    Attributes:
        name: title of the scenario.
        seed: seed it was made with.
        timeline: phases and motion, for whoever needs the truth at any time.
    """

    def __init__(self, file: DriveFile, seed: int, timeline: Timeline, options: Options) -> None:
        self.name = file.title
        self.seed = seed
        self.timeline = timeline
        self._file = file
        self._options = options

    @property
    def start_utc_ms(self) -> int:
        """UTC at t_ns = 0."""
        return round(self._file.start_utc.timestamp() * 1000)

    @property
    def duration_s(self) -> float:
        """Length of the shift."""
        return self.timeline.duration_s

    @property
    def presses(self) -> Sequence[Press]:
        """Every press of the crew."""
        return self.timeline.presses

    @property
    def coverage_gaps(self) -> Sequence[tuple[float, float]]:
        """Where the radio network does not reach, in seconds from the start."""
        return self.timeline.coverage_gaps

    def items(self) -> Iterator[TimedItem]:
        """Everything, ascending in t_ns. Each call begins anew."""
        file, options, course = self._file, self._options, self.timeline
        vehicle = Vehicle(
            file.odometer_km,
            file.fuel_percent,
            self.duration_s - OFF_BEFORE_END_S if file.ignition_off_at_end else None,
        )
        clock_ms = self.start_utc_ms + round(file.clock_error_s * 1000)
        messages = bus_messages() if options.can_hz_scale > 0 else []
        streams: list[Iterator[TimedItem]] = [
            ignition_items(vehicle),
            clock_items(clock_ms, self.duration_s),
            coverage_items(self.coverage_gaps),
            self._gnss(),
            button_items(self.presses),
        ]
        streams += [
            can_items(
                course, vehicle, message, bus=options.bus, hz_scale=options.can_hz_scale, seed=f"{self.seed}"
            )
            for message in messages
        ]
        return heapq.merge(*streams, key=attrgetter("t_ns"))

    def _gnss(self) -> Iterator[TimedItem]:
        receiver = Receiver(random.Random(f"{self.seed}/gnss"), self._file.first_fix_s)
        for count in range(int(self.duration_s / EPOCH_S)):
            t_s = count * EPOCH_S
            situation = self.timeline.at(t_s)
            solution, satellites = receiver.epoch(situation)
            utc_ms = self.start_utc_ms + round(t_s * 1000)
            yield TruthItem(
                t_ns=round(t_s * NS),
                utc_ms=utc_ms,
                lat_deg=situation.point[0],
                lon_deg=situation.point[1],
                speed_mps=situation.speed_mps,
                course_deg=situation.course_deg,
                status=status_at(self.presses, round(t_s * NS)),
                activity=situation.activity,
                sky=situation.sky,
                odometer_m=self._file.odometer_km * 1000 + situation.travelled_m,
                has_fix=solution is not None,
            )
            out_s = t_s + SOLVE_S
            with_view = count % VIEW_EVERY == 0
            for data in epoch_sentences(utc_ms, solution, satellites, with_view=with_view):
                out_s += len(data) * 10 / self._options.baud
                yield NmeaItem(round(out_s * NS), data)


def load_shift(name: str | Path, seed: int, options: Options | None = None) -> Shift:
    """A shift by the name of a shipped drive or the path of a drive file.

    Raises:
        ConfigError: the file is missing or wrong.
    """
    file = read_drive_file(name)
    return Shift(file, seed, plan_shift(file, seed), options or Options())
