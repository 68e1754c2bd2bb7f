"""A recording as a drive that can be played."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hil.drive.items import ButtonItem, ClockItem, CoverageItem, Press, TimedItem, TruthItem
from hil.recording.mcap_file import Damage, RecordingReader

NS = 1_000_000_000
MS = 1_000_000


@dataclass(frozen=True, slots=True)
class RecordedDrive:
    """A `hil.drive.items.Drive` whose items come from a file, moved so that the first is at 0.

    Attributes:
        name: title or file name.
        start_utc_ms: UTC at t_ns = 0, from the simulated truth, else from the recorded system clock.
        duration_s: from the first to the last item.
        presses: those recorded.
        coverage_gaps: those that a simulated drive has; a real recording tells none.
        damage: why the recording ends before its end, None when it is whole.
    """

    name: str
    start_utc_ms: int
    duration_s: float
    presses: Sequence[Press]
    coverage_gaps: Sequence[tuple[float, float]]
    damage: Damage | None
    path: Path
    first_ns: int

    def items(self) -> Iterator[TimedItem]:
        """Everything, ascending in t_ns."""
        for item in RecordingReader(self.path).items():
            yield _moved(item, self.first_ns)


def open_recording(path: Path) -> RecordedDrive:
    """Look through a recording once and make a drive of it.

    Raises:
        OSError: the file can not be read.
        ValueError: there is nothing in it, or nothing that tells its UTC.
    """
    reader = RecordingReader(path)
    first_ns: int | None = None
    last_ns = 0
    truth_utc_ms: int | None = None
    clock_utc_ms: int | None = None
    told: list[ButtonItem | CoverageItem] = []
    for item in reader.items():
        first_ns = item.t_ns if first_ns is None else first_ns
        last_ns = item.t_ns
        since_ms = (item.t_ns - first_ns) // MS
        if isinstance(item, TruthItem) and truth_utc_ms is None:
            truth_utc_ms = item.utc_ms - since_ms
        elif isinstance(item, ClockItem) and (clock_utc_ms is None or item.synchronised):
            clock_utc_ms = item.unix_ms - since_ms
        elif isinstance(item, ButtonItem | CoverageItem):
            told.append(item)
    utc_ms = clock_utc_ms if truth_utc_ms is None else truth_utc_ms
    if first_ns is None or utc_ms is None:
        raise ValueError(f"{path}: nothing in it that tells its UTC")
    moved = [_moved(item, first_ns) for item in told]
    duration_s = (last_ns - first_ns) / NS
    return RecordedDrive(
        name=reader.found.metadata.get("title") or path.stem,
        start_utc_ms=utc_ms,
        duration_s=duration_s,
        presses=tuple(_presses([item for item in moved if isinstance(item, ButtonItem)])),
        coverage_gaps=tuple(
            _coverage_gaps([item for item in moved if isinstance(item, CoverageItem)], duration_s)
        ),
        damage=reader.found.damage,
        path=path,
        first_ns=first_ns,
    )


def _moved(item: TimedItem, by_ns: int) -> TimedItem:
    if isinstance(item, ButtonItem):
        return replace(item, t_ns=item.t_ns - by_ns, at_ns=item.at_ns - by_ns)
    return replace(item, t_ns=item.t_ns - by_ns)


def _presses(edges: Sequence[ButtonItem]) -> Iterator[Press]:
    """A press for each edge down; one whose release is not recorded counts as held for no time."""
    for index, down in enumerate(edges):
        if down.pressed:
            later = (edge for edge in edges[index + 1 :] if edge.key == down.key and not edge.pressed)
            up = next(later, None)
            yield Press(down.at_ns, down.key, (up.at_ns - down.at_ns) // MS if up else 0)


def _coverage_gaps(items: Sequence[CoverageItem], duration_s: float) -> Iterator[tuple[float, float]]:
    lost_s: float | None = None
    for item in items:
        if not item.covered:
            lost_s = item.t_ns / NS
        elif lost_s is not None:
            yield lost_s, item.t_ns / NS
            lost_s = None
    if lost_s is not None:
        yield lost_s, duration_s
