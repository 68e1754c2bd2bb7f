"""Tokens, times and sizes in a person's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ABBREVIATIONS = {"gnss": "GNSS", "can": "CAN", "io": "I/O", "tls": "TLS", "utc": "UTC"}

UNITS = {"s": "s", "ms": "ms", "m": "m", "mib": "MiB", "hz": "Hz"}
"""Endings of setting names."""
WHOLE_UNITS = {"seconds": "s", "milliseconds": "ms", "metres": "m"}
NOTHING: tuple[Any, ...] = (None, 0, False, "all", (), [])
"""Values of settings that say nothing to a reader."""


def in_words(token: str) -> str:
    """ "gnss_silent" as "GNSS silent"."""
    return " ".join(ABBREVIATIONS.get(word, word) for word in token.replace("-", "_").split("_"))


def settings_in_words(settings: Mapping[str, Any]) -> str:
    """Settings with their units: "2 s, presses outside faults, after 3 s". What says nothing is left out."""
    told = {name: value for name, value in settings.items() if value not in NOTHING}
    return ", ".join(_setting(name, value) for name, value in told.items())


def value_in_words(name: str, value: Any) -> str:
    """A setting's value with the unit that its name tells: "2 s", "GNSS silent"."""
    unit = WHOLE_UNITS.get(name) or (UNITS.get(name.rpartition("_")[2]) if "_" in name else None)
    return f"{_value(value)} {unit}" if unit else _value(value)


def _setting(name: str, value: Any) -> str:
    stem, _, suffix = name.rpartition("_")
    words = value_in_words(name, value)
    if name in WHOLE_UNITS:
        return words
    return f"{in_words(stem if stem and suffix in UNITS else name)} {words}"


def _value(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return f"{value:g}"
        case str():
            return in_words(value)
        case list() | tuple():
            return " ".join(_value(one) for one in value)
        case _:
            return str(value)


def clock(t_s: float) -> str:
    """Time on the axis: "2:07", or "1:02:07" beyond an hour."""
    sign, whole = ("\u2212" if round(t_s) < 0 else ""), abs(round(t_s))
    hours, minutes, seconds = whole // 3600, whole % 3600 // 60, whole % 60
    return f"{sign}{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{sign}{minutes}:{seconds:02d}"


def duration(seconds: float) -> str:
    """A duration with two or three digits that matter: "8 ms", "2.4 s", "3 min 5 s", "2 h 10 min"."""
    if 0 <= seconds < 0.0005:
        return "< 1 ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"


def length(metres: float) -> str:
    """ "12 m", "1.4 km"."""
    if metres < 9.95:
        return f"{metres:.1f} m"
    return f"{metres:.0f} m" if metres < 999.5 else f"{metres / 1000:.1f} km"


def count(number: int, noun: str, plural: str = "") -> str:
    """ "1 press", "3 presses"; thousands are set apart."""
    grouped = f"{number:,}".replace(",", "\u202f")
    return f"{grouped} {noun if number == 1 else plural or noun + 's'}"


def listing(words: Sequence[str]) -> str:
    """ "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""
