"""A log of NMEA text, paced by the times in its own sentences."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from hil.drive.items import NmeaItem

MS = 1_000_000
DAY_MS = 86_400_000
LONGEST_INTERVAL_MS = 10_000
BYTE_MS = 10 / 38.4
"""Within an epoch the sentences follow each other as at 38,400 baud."""
_TIMED = re.compile(rb"\$[A-Z]{2}(?:(RMC|GGA|GNS|ZDA),|GLL,(?:[^,]*,){4})(\d{6}(?:\.\d*)?)?,")
_RMC_DATE = re.compile(rb"\$[A-Z]{2}RMC,\d[^,]*,(?:[^,]*,){7}(\d\d)(\d\d)(\d\d),")
_ZDA_DATE = re.compile(rb"\$[A-Z]{2}ZDA,\d[^,]*,(\d\d),(\d\d),(\d{4}),")


@dataclass(frozen=True, slots=True)
class NmeaText:
    """A log.

    Attributes:
        items: its lines with their times, from 0.
        start_utc_ms: UTC of the first fix's time, None when the log has no date.
    """

    items: tuple[NmeaItem, ...]
    start_utc_ms: int | None


def read_nmea_text(path: Path) -> NmeaText:
    """Read a log. Lines that are no sentence (comments of a logger) are left out.

    An epoch whose sentences lack a time, as without a fix, takes as long as the epoch before it did.

    Raises:
        OSError: it can not be read.
        ValueError: no sentence in it has a time.
    """
    lines = [line + b"\r\n" for line in path.read_bytes().splitlines() if line[:1] in (b"$", b"!")]
    pacer = _Pacer()
    items: list[NmeaItem] = []
    start_utc_ms: int | None = None
    for line in lines:
        items.append(NmeaItem(round(pacer.out_ms(line) * MS), line))
        if start_utc_ms is None and (day := _date(line)) is not None:
            # A date belongs to the time in its own sentence; midnight may lie between the start and here.
            midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
            start_utc_ms = round(midnight.timestamp() * 1000 + pacer.of_day_ms - pacer.epoch_ms)
    if not pacer.knows_time:
        raise ValueError(f"{path}: no sentence with a time in it")
    return NmeaText(tuple(items), start_utc_ms)


class _Pacer:
    """Follows the epochs of a log, line by line."""

    def __init__(self) -> None:
        self.knows_time = False
        self.of_day_ms = 0
        """UTC since midnight of the last epoch with a time."""
        self.epoch_ms = 0.0
        """Where the current epoch began, from the first one."""
        self._known_ms = 0.0
        """Where the last epoch with a time began."""
        self._interval_ms = 1000.0
        self._untimed = 0
        self._leader: bytes | None = None
        """The sentence type that opens an epoch; without a time in it, it still tells that one begins."""
        self._sent_ms = 0.0

    def out_ms(self, line: bytes) -> float:
        """When `line` is out, milliseconds from the first epoch; never less than for the line before."""
        if timed := _TIMED.match(line):
            kind, text = timed[1] or b"GLL", timed[2]
            self._leader = self._leader or kind
            if text:
                self._timed(_of_day_ms(text))
            elif kind == self._leader:
                self._untimed += 1
                self._begin(self.epoch_ms + self._interval_ms)
        self._sent_ms = min(self._sent_ms + len(line) * BYTE_MS, max(0.9 * self._interval_ms, self._sent_ms))
        return self.epoch_ms + self._sent_ms

    def _timed(self, of_day_ms: int) -> None:
        if not self.knows_time:
            self.knows_time, self.of_day_ms = True, of_day_ms
        if of_day_ms == self.of_day_ms:
            return
        step_ms = float((of_day_ms - self.of_day_ms) % DAY_MS)
        if step_ms > DAY_MS / 2:
            # A receiver that set its clock back; nobody waited for most of a day.
            step_ms = self._interval_ms
        elif self._untimed == 0 and step_ms <= LONGEST_INTERVAL_MS:
            self._interval_ms = step_ms
        # Epochs without a time may have been taken for longer than they were: never go back.
        self._begin(max(self._known_ms + step_ms, self.epoch_ms + self._sent_ms))
        self._known_ms, self.of_day_ms, self._untimed = self.epoch_ms, of_day_ms, 0

    def _begin(self, epoch_ms: float) -> None:
        self.epoch_ms, self._sent_ms = epoch_ms, 0.0


def _of_day_ms(text: bytes) -> int:
    return int(text[:2]) * 3_600_000 + int(text[2:4]) * 60_000 + round(float(text[4:]) * 1000)


def _date(line: bytes) -> date | None:
    try:
        if found := _RMC_DATE.match(line):
            day, month, year = map(int, found.groups())
            return date(2000 + year, month, day)
        if found := _ZDA_DATE.match(line):
            day, month, year = map(int, found.groups())
            return date(year, month, day)
    except ValueError:
        return None
    return None
