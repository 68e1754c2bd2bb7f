"""UTC as text: ISO 8601 with milliseconds and an explicit offset."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc_text(unix_ms: int) -> str:
    """`2026-11-22T01:13:09.250+00:00`. Raises OverflowError outside the years 1 to 9999."""
    return (_EPOCH + timedelta(milliseconds=unix_ms)).isoformat(timespec="milliseconds")


def unix_ms(text: str) -> int:
    """The inverse. Raises ValueError when it is not a time with an offset."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset from UTC")
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def unix_ms_of(text: str | None) -> int | None:
    """The same of what somebody else wrote: None for what is no time with an offset."""
    try:
        return None if text is None else unix_ms(text)
    except (ValueError, OverflowError):
        return None
