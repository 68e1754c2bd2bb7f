"""mdt sky: which satellites the receivers hear, how well, and why there is no fix."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from agent.cli.daemon_reports import asked
from agent.cli.exit_code import ExitCode
from agent.runtime.plain_text import harmless

EVERY_S = 1.0
_CLEAR = "\x1b[2J\x1b[H"
_BAR_FROM, _BAR_STEP = 10, 2


def sky(socket_path: Path | None, config_path: Path, *, as_json: bool, live: bool) -> int:
    """Print what the receivers hear, once or again every second until interrupted. Returns the exit code."""
    while True:
        answer = asked("sky", socket_path, config_path)
        if isinstance(answer, ExitCode):
            return answer
        text = json.dumps(answer, indent=None if live else 2) if as_json else "\n".join(page(answer))
        print((_CLEAR if live and not as_json else "") + text, flush=True)
        if not live:
            return ExitCode.OK
        threading.Event().wait(EVERY_S)


def page(answer: dict[str, Any]) -> list[str]:
    """The daemon's answer as lines for a person."""
    receivers = answer.get("receivers") or {}
    if not receivers:
        return ["no receiver is configured"]
    lines: list[str] = []
    for name, one in receivers.items():
        used = "  (tells the position)" if name == answer.get("current") and len(receivers) > 1 else ""
        lines += [f"{harmless(str(name))}{used}", *(f"  {line}" for line in _receiver(one)), ""]
    return lines[:-1]


def _receiver(one: dict[str, Any]) -> list[str]:
    fix = harmless(str(one["fix"]))
    lines = [f"fix        {fix}" + ("" if one["age_s"] is None else f", {one['age_s']:.0f} s ago")]
    lines += [f"           {harmless(str(why))}" for why in one["why_no_fix"]]
    hdop = "not told" if one["hdop"] is None else f"{one['hdop']:.1f}"
    used = "not told" if one["satellites_used"] is None else one["satellites_used"]
    lines += [
        f"used       {used} satellites, HDOP {hdop}",
        f"antenna    {harmless(str(one['antenna'] or 'not told'))}",
        f"jamming    {harmless(str(one['jamming']))}",
        f"forging    {harmless(str(one['spoofing']))}",
    ]
    if one["satellites"] is None:
        return [*lines, "satellites not told by this receiver (NMEA: switch GSV on)"]
    heard = sum(sat["signal_dbhz"] is not None for sat in one["satellites"])
    lines.append(f"satellites {len(one['satellites'])} known, {heard} heard")
    lines += [_satellite(sat) for sat in one["satellites"]]
    return lines


def _satellite(sat: dict[str, Any]) -> str:
    signal, place = sat["signal_dbhz"], "  -    -"
    if sat["elevation_deg"] is not None and sat["azimuth_deg"] is not None:
        place = f"{sat['elevation_deg']:>3} {sat['azimuth_deg']:>4}"
    bar = "" if signal is None else "#" * max(1, (signal - _BAR_FROM) // _BAR_STEP)
    heard = "not heard" if signal is None else f"{signal:>2} dBHz"
    mark = "*" if sat["used"] else " "
    return f"  {mark} {harmless(str(sat['system'])):<8}{sat['number']:>4}  {place}  {heard}  {bar}".rstrip()
