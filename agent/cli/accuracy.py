"""`mdt accuracy`: how far a receiver's log is from a surveyed truth, as tenders ask for it."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from agent.cli.decode_nmea import read_log
from agent.cli.exit_code import ExitCode
from agent.domain.fix import Fix
from agent.domain.geodesy import distance_m
from agent.domain.picture import STANDS_BELOW_MPS

LONGEST_GAP_MS = 2_000
"""Between two points of the truth that are further apart nobody knows where the vehicle was."""


@dataclass(frozen=True, slots=True)
class _Truth:
    """Where the vehicle was: one place, or places by their times, ascending."""

    times_ms: Sequence[int]
    places: Sequence[tuple[float, float]]

    def at(self, utc_ms: int | None) -> tuple[float, float] | None:
        """The place at a time, on the straight way between the two points around it; None where not known."""
        if not self.times_ms:
            return self.places[0]
        if utc_ms is None:
            return None
        after = bisect_right(self.times_ms, utc_ms)
        if after and self.times_ms[after - 1] == utc_ms:
            return self.places[after - 1]
        if not 0 < after < len(self.times_ms):
            return None
        began_ms, ended_ms = self.times_ms[after - 1], self.times_ms[after]
        if ended_ms - began_ms > LONGEST_GAP_MS:
            return None
        share = (utc_ms - began_ms) / (ended_ms - began_ms)
        (lat_1, lon_1), (lat_2, lon_2) = self.places[after - 1], self.places[after]
        return lat_1 + (lat_2 - lat_1) * share, lon_1 + (lon_2 - lon_1) * share


def accuracy(log: str, truth: str, out: TextIO, err: TextIO, *, as_json: bool = False) -> int:
    """Compare the fixes of a log with the truth.

    Args:
        log: path of a log of NMEA or UBX.
        truth: "LAT,LON" of a surveyed point, or path of a log of a better receiver on the same vehicle.
        out: gets the statement: number, median, 95 % and largest error at rest, in motion and together, and
            the share within 2.5, 5 and 10 m.
        err: gets what is wrong.
        as_json: write one JSON object instead of a table.

    Returns:
        The exit code: OK; NO_INPUT when a file can not be read or nothing can be compared.
    """
    try:
        fixes, known = read_log(log), _truth(truth)
    except OSError as error:
        err.write(f"{error.filename}: can not be read: {error.strerror}\n")
        return ExitCode.NO_INPUT
    errors = _errors(fixes, known)
    if not any(errors.values()):
        err.write(f"nothing to compare: no fix of {log} is at a time at which {truth} has one\n")
        return ExitCode.NO_INPUT
    errors["together"] = sorted(errors["at rest"] + errors["in motion"])
    rows = {name: _row(sorted(values)) for name, values in errors.items() if values}
    if as_json:
        out.write(json.dumps(rows) + "\n")
        return ExitCode.OK
    out.write(f"{'':10} {'fixes':>7} {'median':>8} {'95 %':>8} {'largest':>8}   within 2.5 m    5 m   10 m\n")
    out.writelines(
        f"{name:10} {row['fixes']:7.0f} {row['median_m']:7.2f}m {row['p95_m']:7.2f}m {row['max_m']:7.2f}m"
        f"   {row['within_2_5_m']:12.1%} {row['within_5_m']:6.1%} {row['within_10_m']:6.1%}\n"
        for name, row in rows.items()
    )
    return ExitCode.OK


def _truth(text: str) -> _Truth:
    parts = text.split(",")
    try:
        lat_deg, lon_deg = (float(part) for part in parts)
    except ValueError:
        placed = {
            fix.utc_ms: (fix.lat_deg, fix.lon_deg)
            for fix in read_log(text)
            if fix.utc_ms is not None and fix.lat_deg is not None and fix.lon_deg is not None
        }
        times = sorted(placed)
        return _Truth(times or [0], [placed[time] for time in times] or [(0.0, 0.0)])
    return _Truth((), [(lat_deg, lon_deg)])


def _errors(fixes: Sequence[Fix], truth: _Truth) -> dict[str, list[float]]:
    errors: dict[str, list[float]] = {"at rest": [], "in motion": []}
    for fix in fixes:
        place = truth.at(fix.utc_ms)
        if fix.lat_deg is None or fix.lon_deg is None or place is None:
            continue
        moves = fix.speed_mps is not None and fix.speed_mps >= STANDS_BELOW_MPS
        errors["in motion" if moves else "at rest"].append(distance_m(fix.lat_deg, fix.lon_deg, *place))
    return errors


def _row(ordered: Sequence[float]) -> dict[str, float]:
    count = len(ordered)
    return {
        "fixes": count,
        "median_m": ordered[count // 2],
        "p95_m": ordered[min(count - 1, int(count * 0.95))],
        "max_m": ordered[-1],
        "within_2_5_m": bisect_right(ordered, 2.5) / count,
        "within_5_m": bisect_right(ordered, 5) / count,
        "within_10_m": bisect_right(ordered, 10) / count,
    }
