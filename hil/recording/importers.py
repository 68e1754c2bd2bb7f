"""Items from logs of other tools."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from agent.config import ConfigError, Section, validate
from firmware_shims.can_log import CanLogError, read_can_log
from hil.drive.devices import button_items
from hil.drive.items import CanItem, Press, TimedItem
from hil.drive.nmea_text import read_nmea_text

NS = 1_000_000_000
UTC_FROM_S = 1e9
"""A log's time stamp above this is UTC (2001 and later), below it a count from the logger's start."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A log as items whose times count from its own beginning.

    Attributes:
        start_utc_s: UTC of that beginning, None when the log does not tell.
        items: ascending in time. Can be consumed once.
    """

    start_utc_s: float | None
    items: Iterator[TimedItem]


def import_nmea(path: Path) -> Imported:
    """NMEA text, paced by the times in it. Raises OSError, ValueError."""
    text = read_nmea_text(path)
    start_utc_s = None if text.start_utc_ms is None else text.start_utc_ms / 1000
    return Imported(start_utc_s, iter(text.items))


def import_can(path: Path, bus: str | None = None) -> Imported:
    """A log that `read_can_log` knows: candump (.log), .asc, .blf, .trc, .mf4.

    Args:
        path: the log.
        bus: name for all frames; without it the log's own channel, where it tells one.

    Raises:
        OSError: it can not be read.
        ValueError: it is not of a kind that can be read, or has no frames or no times.
    """
    frames = _frames(path, bus)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"{path}: no CAN data frames in it")
    first_s = first[0]
    return Imported(first_s if first_s > UTC_FROM_S else None, _can_items(first, frames))


def _can_items(first: tuple[float, CanItem], frames: Iterator[tuple[float, CanItem]]) -> Iterator[TimedItem]:
    begun_s, item = first
    yield item
    last_ns = 0
    for at_s, frame in frames:
        # Loggers that merge buses write a few frames out of order; a timeline only goes forward.
        last_ns = max(last_ns, round((at_s - begun_s) * NS))
        yield CanItem(last_ns, frame.bus, frame.can_id, frame.extended, frame.data)


def _frames(path: Path, bus: str | None) -> Iterator[tuple[float, CanItem]]:
    try:
        for logged in read_can_log(path):
            if logged.log_s is None:
                raise ValueError(f"{path}: its frames have no times")
            frame = logged.frame
            yield logged.log_s, CanItem(0, bus or _bus(logged.bus), frame.can_id, frame.extended, frame.data)
    except CanLogError as error:
        raise ValueError(str(error)) from error


def _bus(channel: str) -> str:
    text = f"can{channel or 0}" if channel.isdigit() or not channel else channel
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in text)


class PressEntry(Section):
    """One press of a press list."""

    at_s: float = Field(ge=0)
    key: str = Field(min_length=1)
    held_ms: int = Field(150, gt=0)


class PressList(Section):
    """The TOML form: `[[press]]` tables."""

    press: tuple[PressEntry, ...] = Field(min_length=1)


def _number(key: str, text: Any) -> Any:
    """The number that a column holds; what is none stays text, which the check then names."""
    kind = {"at_s": float, "held_ms": int}.get(key)
    try:
        return text if kind is None else kind(text)
    except (TypeError, ValueError):
        return text


def import_presses(path: Path) -> Imported:
    """A press list: TOML with `[[press]]` tables, or CSV with the columns at_s, key and, if wanted, held_ms.

    Raises:
        OSError: it can not be read.
        ConfigError: it is not a press list.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix.lower() == ".csv":
        rows = csv.DictReader(text.splitlines())
        table: dict[str, Any] = {
            "press": [
                {key: _number(key, value) for key, value in row.items() if value not in ("", None)}
                for row in rows
            ]
        }
    else:
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError([f"{path}: not TOML: {error}"]) from error
    entries = sorted(validate(PressList, table, path).press, key=lambda entry: entry.at_s)
    presses = [Press(round(entry.at_s * NS), entry.key, entry.held_ms) for entry in entries]
    return Imported(None, button_items(presses))
