"""Recorded CAN logs, by python-can's readers: candump, .asc, .blf, .trc, .mf4 and what else it knows."""

from __future__ import annotations

import gzip
import importlib
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from agent.hal.can import CanFrame
from firmware_shims.can_bus import import_can

_MF4 = (".mf4", ".mdf")
_CANDUMP = (".log", ".txt", ".candump", "")
_CANDUMP_LINE = re.compile(r"\s*\(\d+\.\d+\)\s+\S+\s+[0-9A-Fa-f]{3,8}#")
_HUMAN_CANDUMP_LINE = re.compile(r"\s*(?:\([\d.: -]+\)\s+)?\S+\s+[0-9A-Fa-f]{3,8}\s+\[\d+\]")
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
        unix_s: when, in Unix seconds; None when the log counts from its own start.
        log_s: when, in the log's own seconds.
    """

    frame: CanFrame
    bus: str
    unix_s: float | None
    log_s: float


def read_can_log(path: Path) -> Iterator[LoggedFrame]:
    """The data frames of a log in its own order; error and remote frames are left out.

    Raises:
        CanLogError: not a log that can be read, damaged, or its reader is not installed.
        OSError: the file can not be read.
    """
    can = import_can()
    reader_type = _reader_type(can, path)
    # The file is opened here and not by the reader, which would leave it open when it does not like it.
    with _open(path, can, reader_type) as file:
        if reader_type is can.CanutilsLogReader:
            _check_candump(path, file)
        try:
            reader = reader_type(file)
            for message in reader:
                if not (message.is_error_frame or message.is_remote_frame):
                    yield _logged(message)
            reader.stop()
        except OSError:
            raise
        except Exception as error:  # the readers raise whatever their parsing runs into
            raise CanLogError(f"{path}: damaged, or not what its name says: {error}") from error


def _reader_type(can: Any, path: Path) -> Any:
    kind = _kind(path)
    if kind in _MF4:
        return _mf4_reader(path)
    if kind in _CANDUMP:
        return can.CanutilsLogReader
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


def _open(path: Path, can: Any, reader_type: Any) -> AbstractContextManager[Any]:
    is_packed = path.suffix.lower() == ".gz"
    if issubclass(reader_type, can.io.generic.TextIOMessageReader):
        if is_packed:
            return gzip.open(path, "rt", encoding="utf-8", errors="replace")
        return path.open(encoding="utf-8", errors="replace")
    if issubclass(reader_type, can.io.generic.BinaryIOMessageReader):
        return gzip.open(path, "rb") if is_packed else path.open("rb")
    path.stat()  # a database opens its file by itself
    return nullcontext(str(path))


def _check_candump(path: Path, text: TextIO) -> None:
    first = next((line for line in text if line.strip()), "")
    text.seek(0)
    if _CANDUMP_LINE.match(first):
        return
    if _HUMAN_CANDUMP_LINE.match(first):
        why = "candump's output for people; record with `candump -l`, or `candump -L > FILE`"
    else:
        why = "not a candump log (lines such as `(1533226488.230547) can0 0B4#00000000`)"
    raise CanLogError(f"{path}: {why}")


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
