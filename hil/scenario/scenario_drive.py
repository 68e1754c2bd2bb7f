"""What a scenario drives: a simulated shift or a recording, with the scenario's own presses put in."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from operator import attrgetter
from pathlib import Path

from agent.config import ConfigError
from hil.drive.drive_file import drive_names
from hil.drive.items import ButtonItem, CoverageItem, Drive, Press, TimedItem, TruthItem
from hil.drive.shift import Options, load_shift
from hil.drive.timeline import NS
from hil.recording.mcap_file import RecordingReader
from hil.scenario.scenario_file import ExtraPress, Scenario

MS = 1_000_000


class RecordedDrive:
    """A `Drive` from a recording; its time line begins with its first item."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self._path = path
        items = list(self._read())
        if not items:
            raise ConfigError([f"{path}: nothing in it that can be played"])
        truths = [item for item in items if isinstance(item, TruthItem)]
        self.start_utc_ms = truths[0].utc_ms - truths[0].t_ns // MS if truths else 0
        self.duration_s = items[-1].t_ns / NS
        self.presses = tuple(
            Press(item.t_ns, item.key, 150) for item in items if isinstance(item, ButtonItem) and item.pressed
        )
        edges = [item for item in items if isinstance(item, CoverageItem)]
        gaps = [(one.t_ns / NS, other.t_ns / NS) for one, other in pairwise(edges)]
        self.coverage_gaps = tuple(gap for gap, edge in zip(gaps, edges, strict=False) if not edge.covered)

    def items(self) -> Iterator[TimedItem]:
        """Everything, ascending in t_ns."""
        return self._read()

    def _read(self) -> Iterator[TimedItem]:
        first_ns: int | None = None
        for item in RecordingReader(self._path).items():
            first_ns = item.t_ns if first_ns is None else first_ns
            yield _moved(item, first_ns)


def load_drive(scenario: Scenario, folder: Path, seed: int) -> Drive:
    """The drive of a scenario that lies in `folder`. Raises ConfigError, OSError."""
    if scenario.recording is not None:
        return RecordedDrive(folder / scenario.recording)
    name = scenario.drive or ""
    where: str | Path = name if name in drive_names() else folder / name
    return load_shift(where, seed, Options(baud=scenario.baud, can_hz_scale=scenario.can_scale))


def with_presses(items: Iterator[TimedItem], presses: Sequence[ExtraPress]) -> Iterator[TimedItem]:
    """The drive's items and the scenario's presses, ascending in time."""
    edges: list[TimedItem] = []
    for press in presses:
        for at_ns, pressed in (
            (round(press.at_s * NS), True),
            (round(press.at_s * NS) + press.held_ms * MS, False),
        ):
            edges.append(ButtonItem(at_ns, press.key, pressed, None, None, at_ns))
    edges.sort(key=attrgetter("t_ns"))
    return heapq.merge(items, edges, key=attrgetter("t_ns"))


def _moved(item: TimedItem, first_ns: int) -> TimedItem:
    if isinstance(item, ButtonItem):
        return replace(item, t_ns=item.t_ns - first_ns, at_ns=item.at_ns - first_ns)
    return replace(item, t_ns=item.t_ns - first_ns)
