"""What the agent says of itself, in words and units, with what is not well first."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import Any

from agent.cli.what_to_do import what_to_do
from agent.runtime.plain_text import counted, harmless

_UNITS = {
    "Speed": "km/h", "TraveledDistance": "m", "Temperature": "degrees", "AirTemperature": "degrees",
    "CurrentVoltage": "V", "Voltage": "V", "RelativeLevel": "%", "Level": "%", "EngineHours": "h",
    "IdleHours": "h", "Pressure": "kPa", "EOP": "kPa", "PedalPosition": "%",
}  # fmt: skip
"""Unit by the last word of a signal's name; the engine's speed is the one exception."""
_CLOCKS = {
    "gnss": "from the receiver",
    "ntp": "from a time server",
    "last_known": "not trusted: the last known",
}


def status_page(answer: dict[str, Any]) -> list[str]:
    """The page of `mdt status`."""
    lines = list(_well(answer))
    facts = dict(_facts(answer))
    width = max((len(name) for name in facts), default=0)
    lines += ["", *(f"{name:<{width}}  {text}" for name, text in facts.items())]
    vehicle = _table(answer, "vehicle")
    if vehicle:
        lines += ["", "vehicle"]
        lines += [f"  {harmless(str(name))}  {_signal(str(name), value)}" for name, value in vehicle.items()]
    return lines


def _well(answer: dict[str, Any]) -> Iterator[str]:
    health = _table(answer, "health")
    troubled = {
        str(name): str(state)
        for name, state in _table(answer, "units").items()
        if state not in ("running", "starting")
    }
    if not health and not troubled:
        yield "All is well."
        return
    yield f"{counted(len(health) or len(troubled), 'thing')} not well:"
    for reason, detail in health.items():
        advice = what_to_do(str(reason))
        about = f" ({harmless(str(detail))})" if detail else ""
        yield f"  {harmless(advice.sentence)}{about}"
        yield f"    -> {advice.do}"
    for name, state in troubled.items() if not health else ():
        yield f"  {harmless(name)}: {harmless(state)}"


def _facts(answer: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "unit", harmless(str(answer.get("unit", "?")))
    crew = _table(answer, "crew")
    if crew:
        yield "status", harmless(str(crew.get("status") or "none yet"))
        if crew.get("emergency"):
            yield "EMERGENCY", "active"
    yield "position", _position(answer.get("position"))
    yield "dispatch", _link(_table(answer, "link"))
    backlog = _table(answer, "backlog")
    waiting = sum(number for number in backlog.values() if isinstance(number, int))
    yield "waiting", "nothing" if not waiting else f"{counted(waiting, 'record')} to be delivered"
    clock = _table(answer, "clock")
    yield "time", _CLOCKS.get(str(clock.get("utc_source")), "not known yet")
    for name, report in _table(answer, "buses").items():
        if isinstance(report, dict) and report:
            yield f"bus {harmless(str(name))}", _bus(report)
    uptime = clock.get("boottime_s")
    if isinstance(uptime, int):
        yield "computer up", _duration(uptime)
    yield from _modem(_table(_table(answer, "computer"), "modem"))
    starts = answer.get("starts")
    if isinstance(starts, int) and starts > 1:
        yield "agent started", f"{starts} times since the computer started"
    changed = _table(_table(answer, "config"), "changed")
    if changed:
        keys = ", ".join(f"{harmless(str(key))} = {harmless(str(value))}" for key, value in changed.items())
        on_trial = " (on trial)" if _table(answer, "config").get("on_trial") else ""
        yield "changed from afar", keys + on_trial
    if "version" in answer:
        yield "version", harmless(str(answer["version"]))


def _modem(modem: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if not modem:
        return
    if not modem.get("is_there"):
        yield "modem", "none"
        return
    percent = modem.get("signal_percent")
    parts = [modem.get("state") or "state not known", modem.get("technology"), modem.get("operator")]
    signal = "signal not known" if percent is None else f"signal {percent} %"
    yield "modem", harmless(", ".join([*(str(part) for part in parts if part), signal]))


def _position(position: Any) -> str:
    if not isinstance(position, dict):
        return "none: no fix"
    speed = position.get("speed_mps")
    moving = "" if not isinstance(speed, int | float) else f", {speed * 3.6:.0f} km/h"
    satellites = position.get("satellites")
    sky = "" if satellites is None else f", {satellites} satellites"
    return harmless(
        f"{position.get('lat_deg')} {position.get('lon_deg')}{moving}{sky}, {position.get('age_s')} s ago"
    )


def _link(link: dict[str, Any]) -> str:
    where = harmless(str(link.get("endpoint") or "no broker"))
    if link.get("connected"):
        for_s = link.get("connected_for_s")
        return f"connected to {where}" + (
            f" for {_duration(for_s)}" if isinstance(for_s, int | float) else ""
        )
    why = link.get("last_failure")
    return f"not connected ({where})" + (f": {harmless(str(why))}" if why else "")


def _bus(report: dict[str, Any]) -> str:
    parts = [counted(_number(report, "heard"), "frame")]
    for key, what in (
        ("lost", "lost"),
        ("short", "shorter than described"),
        ("unusable", "values not usable"),
    ):
        if _number(report, key):
            parts.append(f"{_number(report, key)} {what}")
    unheard = report.get("signals_never_heard")
    if isinstance(unheard, list) and unheard:
        parts.append(f"{counted(len(unheard), 'signal')} never heard (mdt diag)")
    return ", ".join(parts)


def _signal(name: str, value: Any) -> str:
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    last = name.rsplit(".", 1)[-1]
    unit = "rpm" if name.endswith("Engine.Speed") else _UNITS.get(last, "")
    text = f"{value:.6g}" if isinstance(value, float) else harmless(str(value))
    return f"{text} {unit}".rstrip()


def _duration(seconds: float) -> str:
    if not isfinite(seconds):
        return "?"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if hours >= 48:  # noqa: PLR2004
        return f"{hours // 24} days"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"


def _number(table: dict[str, Any], key: str) -> int:
    value = table.get(key)
    return value if isinstance(value, int) else 0


def _table(answer: dict[str, Any], key: str) -> dict[str, Any]:
    value = answer.get(key)
    return value if isinstance(value, dict) else {}
