"""Recorded CAN logs: candump's own forms here; .asc, .blf, .trc, .mf4 and what else there is by python-can.

A log that lost power in the middle of a line goes on behind it: what can not be read is counted.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from agent.hal.can import CanFrame
from firmware_shims.can_bus import import_can

_MF4 = (".mf4", ".mdf")
_CANDUMP = (".log", ".txt", ".candump", "")
_ID = r"(?P<id>[0-9A-Fa-f]{3}|[0-9A-Fa-f]{8})"
_LOG_LINE = re.compile(
    rf"\((?P<time>\d+\.\d+)\)\s+(?P<bus>\S+)\s+{_ID}#(?:(?P<remote>R[0-9A-Fa-f]?)|"
    r"(?P<fd>#[0-9A-Fa-f])?(?P<data>(?:[0-9A-Fa-f]{2})*))(?:_[0-9A-Fa-f])?(?:\s+[RT])?\s*$"
)
_VIEW_LINE = re.compile(
    rf"(?:\((?P<time>[\d.: -]+)\)\s+)?(?P<bus>[A-Za-z]\S*)\s+(?:[RT]X\s+\S\s+\S\s+)?{_ID}\s+"
    r"\[(?P<length>\d{1,2})\](?P<rest>.*)$"
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_TOKEN = re.compile(r"[ `]*([01]{8}|[0-9A-Fa-f]{2})(?=[ `]|$)")
_BEHIND_DATA = re.compile(r"\s*(?:'.*'|ERRORFRAME.*)?")
_ERROR, _EXTENDED_ID, _STANDARD_ID, _MAX_BYTES = 0x20000000, 0x1FFFFFFF, 0x7FF, 64
_STANDARD_DIGITS, _BINARY_DIGITS = 3, 8
_HOPELESS = 1000
"""So many lines that say nothing, and none that does: this is no log."""
_MAX_TORN_LINES = 100
"""Of the formats that python-can reads: each costs reading the file anew up to there."""
_BEFORE_UNIX_S = 315_532_800
"""1980-01-01, before any log was written: a smaller time counts from the start of the log."""


class CanLogError(Exception):
    """A log can not be read; the message is for a person."""


@dataclass(frozen=True, slots=True)
class LoggedFrame:
    """A data frame of a log.

    Attributes:
        frame: the frame, with the log's time in nanoseconds in place of a boot time.
        bus: the channel as the log names it.
        unix_s: when, in Unix seconds; None when the log counts from its own start, or in a local time.
        log_s: when, in the log's own seconds; None when it has no times.
    """

    frame: CanFrame
    bus: str
    unix_s: float | None
    log_s: float | None


@dataclass(slots=True)
class LogCounts:
    """What a log had beside data frames.

    Attributes:
        error_frames: the controller's own words: the bus was disturbed.
        remote_frames: requests, without data.
        unreadable: lines that were torn or mean nothing; what stood whole behind a torn one is given.
    """

    error_frames: int = 0
    remote_frames: int = 0
    unreadable: int = 0


def read_can_log(path: Path, met: LogCounts | None = None) -> Iterator[LoggedFrame]:
    """The data frames of a log in its own order.

    `met` is filled while the frames are consumed.

    Raises:
        CanLogError: not a log that can be read, damaged, or its reader is not installed.
        OSError: the file can not be read.
    """
    met = LogCounts() if met is None else met
    if _kind(path) in _CANDUMP:
        yield from _candump(path, met)
        return
    can = import_can()
    reader_type = _reader_type(can, path)
    torn: set[int] = set()
    given = 0
    while True:
        # The file is opened here and not by the reader, which would leave it open when it does not like it.
        with _open(path, can, reader_type) as file:
            lines = _Lines(file, torn) if hasattr(file, "readline") and hasattr(file, "encoding") else None
            try:
                with _reading(reader_type(lines or file), stops=lines is None) as messages:
                    for number, message in enumerate(messages):
                        if number >= given:
                            given += 1
                            yield from _of_message(message, met)
            except OSError:
                raise
            except Exception as error:  # the readers raise whatever their parsing runs into
                if lines is None or not given or lines.number in torn or len(torn) >= _MAX_TORN_LINES:
                    raise CanLogError(f"{path}: damaged, or not what its name says: {error}") from error
                torn.add(lines.number)
                met.unreadable += 1
                continue
        return


@contextlib.contextmanager
def _reading(reader: Any, *, stops: bool) -> Iterator[Any]:
    """A reader that is stopped afterwards: some of them open more than the file (SQLite's a connection)."""
    try:
        yield reader
    finally:
        if stops:
            reader.stop()


class _Lines:
    """A text file that leaves out lines which the reader can not stand."""

    def __init__(self, file: Any, torn: set[int]) -> None:
        self._file = file
        self._torn = torn
        self.number = 0
        self.name = getattr(file, "name", "")
        self.encoding = file.encoding

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def readline(self) -> str:
        """The next line, empty at the end."""
        while True:
            line: str = self._file.readline()
            self.number += 1
            if self.number not in self._torn:
                return line

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _candump(path: Path, met: LogCounts) -> Iterator[LoggedFrame]:
    opener: Callable[..., Any] = gzip.open if path.suffix.lower() == ".gz" else open
    said = False
    with opener(path, "rt", encoding="utf-8", errors="replace", newline="\n") as file:
        lines = iter(file)
        while True:
            try:
                line = next(lines, None)
            except (EOFError, gzip.BadGzipFile) as error:
                if not said:
                    raise CanLogError(f"{path}: {error}") from error
                met.unreadable += 1  # a packed log that was cut off
                return
            if line is None:
                break
            text = _COLOUR.sub("", line).strip("\0 \t\r\n")
            if not text:
                continue
            found = _candump_line(text, met)
            said = said or found is not None
            if isinstance(found, LoggedFrame):
                yield found
            elif not said and met.unreadable >= _HOPELESS:
                break
    if not said:
        raise CanLogError(
            f"{path}: not a candump log (lines such as `(1533226488.230547) can0 0B4#00000000`, "
            "or `can0  0B4   [4]  00 00 00 00`)"
        )


def _candump_line(text: str, met: LogCounts) -> LoggedFrame | bool | None:
    """The data frame of a line; True when it says something else, None when nothing can be read."""
    found = _parse(text, met)
    if found is None:
        met.unreadable += 1
        # Power went in the middle of a line, and the next one was written behind it.
        for begin in reversed([at for at, letter in enumerate(text) if letter == "(" and at]):
            found = _parse(text[begin:], met)
            if found is not None:
                break
    return found


def _parse(text: str, met: LogCounts) -> LoggedFrame | bool | None:
    found = _LOG_LINE.match(text)
    if found is not None:
        data, is_remote = bytes.fromhex(found["data"] or ""), found["remote"] is not None
    else:
        found = _VIEW_LINE.match(text)
        seen = None if found is None else _data_of_view(int(found["length"]), found["rest"])
        if found is None or seen is None:
            return None
        data, is_remote = seen, "remote request" in found["rest"]
    can_id, extended = int(found["id"], 16), len(found["id"]) > _STANDARD_DIGITS
    if extended and can_id & _ERROR:
        met.error_frames += 1
        return True
    if len(data) > _MAX_BYTES or can_id > (_EXTENDED_ID if extended else _STANDARD_ID):
        return None
    if is_remote:
        met.remote_frames += 1
        return True
    unix_s, log_s = _time(found["time"])
    frame = CanFrame(can_id, extended, data, round((log_s or 0) * 1e9))
    return LoggedFrame(frame, found["bus"], unix_s, log_s)


def _data_of_view(length: int, rest: str) -> bytes | None:
    """The bytes behind "[8]", which may be binary, or swapped with a grave accent between; None if torn."""
    if "remote request" in rest:
        return b""
    values: list[int] = []
    at = 0
    while len(values) < length and (token := _TOKEN.match(rest, at)) is not None:
        values.append(int(token[1], 2 if len(token[1]) == _BINARY_DIGITS else 16))
        at = token.end()
    if len(values) != length or not _BEHIND_DATA.fullmatch(rest, at):
        return None
    return bytes(reversed(values)) if "`" in rest[:at] else bytes(values)


def _time(text: str | None) -> tuple[float | None, float | None]:
    """(Unix seconds, the log's own seconds). A date of the screen is in a zone that nobody knows."""
    if text is None:
        return None, None
    try:
        at_s = float(text)
    except ValueError:
        try:
            return None, datetime.fromisoformat(text.strip()).replace(tzinfo=UTC).timestamp()
        except ValueError:
            return None, None
    return (at_s if at_s >= _BEFORE_UNIX_S else None), at_s


def _reader_type(can: Any, path: Path) -> Any:
    kind = _kind(path)
    if kind in _MF4:
        return _mf4_reader(path)
    readers = can.io.MESSAGE_READERS
    if kind not in readers:
        raise CanLogError(f"{path}: not a log by its name; known are {', '.join(sorted(readers))}")
    return readers[kind]


def _kind(path: Path) -> str:
    named = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return named.suffix.lower()


def _mf4_reader(path: Path) -> Any:
    # Elsewhere python-can is kept from loading asammdf; here it is wanted, so its reader is loaded afresh.
    module: ModuleType = importlib.import_module("can.io.mf4")
    if module.asammdf is None:
        module = importlib.reload(module)
    if module.asammdf is None:
        raise CanLogError(f"{path}: reading MF4 needs asammdf: pip install asammdf")
    return module.MF4Reader


def _open(path: Path, can: Any, reader_type: Any) -> contextlib.AbstractContextManager[Any]:
    is_packed = path.suffix.lower() == ".gz"
    if issubclass(reader_type, can.io.generic.TextIOMessageReader):
        if is_packed:
            return gzip.open(path, "rt", encoding="utf-8", errors="replace")
        return path.open(encoding="utf-8", errors="replace")
    if issubclass(reader_type, can.io.generic.BinaryIOMessageReader):
        return gzip.open(path, "rb") if is_packed else path.open("rb")
    path.stat()  # a database opens its file by itself
    return contextlib.nullcontext(str(path))


def _of_message(message: Any, met: LogCounts) -> Iterator[LoggedFrame]:
    if message.is_error_frame:
        met.error_frames += 1
    elif message.is_remote_frame:
        met.remote_frames += 1
    else:
        yield _logged(message)


def _logged(message: Any) -> LoggedFrame:
    at_s = float(message.timestamp)
    frame = CanFrame(
        can_id=message.arbitration_id,
        extended=message.is_extended_id,
        data=bytes(message.data),
        received_boottime_ns=round(at_s * 1e9),
    )
    bus = "" if message.channel is None else str(message.channel)
    return LoggedFrame(frame, bus, at_s if at_s >= _BEFORE_UNIX_S else None, at_s)
