"""`mdt decode can`: the vehicle signals of a recorded bus, one JSON line each time one changes."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from agent.cli.can_recording import read_frames, time_of
from agent.cli.exit_code import ExitCode
from agent.config import ConfigError
from agent.domain.record import SignalValue
from agent.sources.can.can_decoder import CanDecoder, DecodeCounts
from agent.sources.can.decoder_compiler import compile_decoder
from agent.sources.can.j1939_speakers import Speakers
from agent.sources.can.vehicle_file import load_vehicle_file
from firmware_shims.can_log import CanLogError, LogCounts, LoggedFrame


def decode_can(
    path: Path,
    vehicle_toml: Path,
    out: TextIO,
    err: TextIO,
    *,
    dbc: Path | None = None,
    bus: str | None = None,
) -> int:
    """Decode the wanted signals of a CAN log.

    Every change of a value is written, also those that the vehicle file's deadbands keep from dispatch.

    Args:
        path: a recording of `mdt record`, or a log that `read_can_log` knows.
        vehicle_toml: the vehicle file.
        out: gets one JSON object a changed signal: time (ISO 8601 with offset, or seconds where the log
            counts from its own start), bus, name, value (null: the bus says that there is none), unit.
        err: gets a summary, or what is wrong.
        dbc: takes the place of the vehicle file's own DBC.
        bus: only this channel of the log.

    Returns:
        The exit code: OK, NO_INPUT when the log can not be read, or BAD_CONFIG for a bad vehicle file.
    """
    try:
        vehicle = load_vehicle_file(vehicle_toml, dbc=dbc)
        decoder = compile_decoder(vehicle, vehicle_toml)
    except ConfigError as error:
        err.writelines(f"{problem}\n" for problem in error.problems)
        return ExitCode.BAD_CONFIG
    changes = _Changes(decoder, out)
    frames_of: Counter[str] = Counter()
    met = LogCounts()
    try:
        for logged in read_frames(path, met):
            frames_of[logged.bus] += 1
            if bus is None or logged.bus == bus:
                changes.take(logged)
    except (OSError, CanLogError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        why = f"{path}: can not be read: {error.strerror}" if isinstance(error, OSError) else str(error)
        err.write(f"{why}\n")
        return ExitCode.NO_INPUT
    if bus is not None and bus not in frames_of:
        err.write(f"{path}: no bus {bus!r}; there are {', '.join(sorted(frames_of)) or 'none'}\n")
        return ExitCode.NO_INPUT
    err.write(
        f"{_count(frames_of.total(), 'frame')} on {_count(len(frames_of), 'bus', 'buses')}, "
        f"{_count(changes.written, 'change')}\n"
    )
    err.writelines(f"{line}\n" for line in _remarks(decoder.counts, met))
    silent = sorted({signal.name for signal in decoder.signals} - changes.heard)
    err.writelines(f"never heard: {name}\n" for name in silent)
    return ExitCode.OK


def _remarks(counts: DecodeCounts, met: LogCounts) -> Iterator[str]:
    """What a person should know about the frames that gave nothing."""
    for number, singular, plural, what in (
        (counts.unwanted, "frame", "frames", "of other messages (`mdt bus FILE` shows which)"),
        (counts.short, "frame", "frames", "shorter than the DBC says: only what arrived is used"),
        (counts.other_pages, "frame", "frames", "with a multiplexer page that is not asked for"),
        (counts.unusable, "value", "values", "that can not be true: told as no value"),
        (met.error_frames, "error frame", "error frames", "of the controller"),
        (met.remote_frames, "remote frame", "remote frames", "without data"),
        (met.unreadable, "line", "lines", "unreadable"),
    ):
        if number:
            yield f"{_count(number, singular, plural)} {what}"


def _count(number: int, singular: str, plural: str | None = None) -> str:
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


class _Changes:
    """Writes a line when a signal of a bus has another value than before."""

    def __init__(self, decoder: CanDecoder, out: TextIO) -> None:
        self._decoder = decoder
        self._out = out
        self._speakers: defaultdict[str, Speakers] = defaultdict(Speakers)
        self._last: dict[tuple[str, str], SignalValue | None] = {}
        self.heard: set[str] = set()
        self.written = 0

    def take(self, logged: LoggedFrame) -> None:
        frame = logged.frame
        for signal, value in self._decoder.values_of(frame):
            key = (logged.bus, signal.name)
            if self._decoder.protocol == "j1939" and not self._speakers[logged.bus].believes(
                signal.name, frame.can_id & 0xFF, value, frame.received_boottime_ns
            ):
                continue
            if key in self._last and self._last[key] == value:
                continue
            self._last[key] = value
            self.heard.add(signal.name)
            self.written += 1
            line = {
                "time": time_of(logged),
                "bus": logged.bus,
                "name": signal.name,
                "value": value,
                "unit": signal.unit,
            }
            self._out.write(json.dumps(line) + "\n")
