"""The frames of a recorded bus, whatever it was recorded with: `mdt record`, candump, or another tool."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.hal.can import CanFrame
from agent.recorder import recording_format as form
from firmware_shims.can_log import CanLogError, LogCounts, LoggedFrame, read_can_log

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATED_FROM_S = 315_532_800
"""A log's own time from here on is a date, if not one of a known zone."""


def read_frames(path: Path, met: LogCounts) -> Iterator[LoggedFrame]:
    """The data frames of a log or recording in its own order; `met` is filled meanwhile.

    Raises:
        CanLogError: not a log that can be read, damaged, or its reader is not installed.
        OSError: the file can not be read.
    """
    if path.suffix.lower() == ".mcap":
        yield from _recording(path, met)
    else:
        yield from read_can_log(path, met)


def time_of(logged: LoggedFrame) -> str | float | None:
    """When a frame was, for JSON.

    ISO 8601 with an offset where the log tells Unix time, without one where it tells a local time; else the
    log's own seconds; None for a log without times.
    """
    if logged.log_s is None:
        return None
    if logged.unix_s is None and logged.log_s < _DATED_FROM_S:
        return round(logged.log_s, 6)
    moment = _EPOCH + timedelta(microseconds=round((logged.unix_s or logged.log_s) * 1e6))
    return (moment if logged.unix_s is not None else moment.replace(tzinfo=None)).isoformat(
        timespec="microseconds"
    )


def _recording(path: Path, met: LogCounts) -> Iterator[LoggedFrame]:
    from mcap.records import Channel, Message

    from agent.recorder.mcap_records import DamagedError, read_records

    topics: dict[int, str] = {}
    unix_less_boot_ns: int | None = None
    try:
        with path.open("rb") as stream:
            for record in read_records(stream, path.stat().st_size):
                if isinstance(record, Channel):
                    topics[record.id] = record.topic
                elif isinstance(record, Message):
                    topic = topics.get(record.channel_id, "")
                    try:
                        if topic == form.CLOCK_TOPIC:
                            unix_less_boot_ns = _offset(record.data, record.log_time, unix_less_boot_ns)
                        elif topic.startswith(form.CAN_TOPIC_PREFIX):
                            yield _frame(topic, record.log_time, record.data, unix_less_boot_ns)
                    except (ValueError, KeyError, TypeError):
                        met.unreadable += 1
    except DamagedError as error:
        if not topics:
            raise CanLogError(f"{path}: {error.why}") from error
        met.unreadable += 1  # what power took with it: the end of the file


def receiver_bytes(path: Path) -> bytes:
    """What the receivers of a recording gave, up to where it is damaged. Raises OSError."""
    from mcap.records import Channel, Message

    from agent.recorder.mcap_records import DamagedError, read_records

    topics: dict[int, str] = {}
    parts: list[bytes] = []
    with path.open("rb") as stream, suppress(DamagedError):
        for record in read_records(stream, path.stat().st_size):
            if isinstance(record, Channel):
                topics[record.id] = record.topic
            elif isinstance(record, Message) and topics.get(record.channel_id, "").endswith(form.NMEA_SUFFIX):
                with suppress(ValueError):
                    parts.append(form.unpack_nmea(record.data))
    return b"".join(parts)


def _offset(message: bytes, at_ns: int, known: int | None) -> int | None:
    clock = form.unpack_json(message)
    return int(clock["unix_ms"]) * 1_000_000 - at_ns if clock["synchronised"] else known


def _frame(topic: str, at_ns: int, message: bytes, unix_less_boot_ns: int | None) -> LoggedFrame:
    frame = CanFrame(*form.unpack_can(message), at_ns)
    unix_s = None if unix_less_boot_ns is None else (at_ns + unix_less_boot_ns) / 1e9
    bus = topic.removeprefix(form.CAN_TOPIC_PREFIX)
    return LoggedFrame(frame, bus, unix_s, unix_s if unix_s is not None else at_ns / 1e9)
