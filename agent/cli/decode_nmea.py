"""`mdt decode nmea`: a log of a receiver as one JSON fix a line."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TextIO

from agent.cli.exit_code import ExitCode
from agent.domain.fix import Fix
from agent.hal.gnss import NmeaBytes
from agent.sources.gnss.receiver_decoder import ReceiverDecoder

READ_BYTES = 65_536
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def decode_nmea(path: str, out: TextIO, err: TextIO) -> int:
    """Decode the NMEA sentences and UBX messages of a file, or of a recording of `mdt record`.

    Lines that begin with `#` are comments. Epochs without a fix are written too, with null coordinates.

    Args:
        path: the file, or "-" for standard input.
        out: gets one JSON object a fix: time (ISO 8601 with offset, or null), lat, lon (degrees), alt_m,
            speed_mps, course_deg, mode (1 none, 2, 3), satellites, hdop.
        err: gets a summary of what was rejected, by reason.

    Returns:
        The exit code: OK, or NO_INPUT when the file can not be read.
    """
    decoder = ReceiverDecoder()
    counts = {True: 0, False: 0}
    try:
        with _opened(path) as log:
            for fix in _fixes(decoder, log):
                counts[fix.has_position] += 1
                out.write(json.dumps(fix_as_json(fix)) + "\n")
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        err.write(f"{path}: can not be read: {error.strerror}\n")
        return ExitCode.NO_INPUT
    binary = f", {decoder.ubx.messages} UBX messages" if decoder.ubx.messages else ""
    counted = f"{counts[True]} fixes, {counts[False]} epochs without a fix"
    err.write(f"{counted}, {decoder.sentences} sentences{binary}\n")
    err.writelines(f"rejected: {reason} {count}\n" for reason, count in sorted(decoder.rejections.items()))
    return ExitCode.OK


def read_log(path: str) -> list[Fix]:
    """All epochs of a log. Raises OSError."""
    with _opened(path) as log:
        return list(_fixes(ReceiverDecoder(), log))


def _opened(path: str) -> AbstractContextManager[BinaryIO]:
    """The bytes of a log; of a recording of `mdt record` those that its receivers gave. Raises OSError."""
    if path == "-":
        return nullcontext(sys.stdin.buffer)
    if Path(path).suffix.lower() != ".mcap":
        return Path(path).open("rb")
    from agent.cli.can_recording import receiver_bytes

    return BytesIO(receiver_bytes(Path(path)))


def _fixes(decoder: ReceiverDecoder, log: BinaryIO) -> Iterator[Fix]:
    # A file does not tell when its bytes were received, so pauses play no part: every time is 0.
    begins_line, is_comment = True, False
    while data := log.readline(READ_BYTES):
        if begins_line:
            # In a binary message a line that begins with `#` is none.
            is_comment = data.startswith(b"#") and not decoder.is_inside_frame and not _BINARY.search(data)
        begins_line = data.endswith(b"\n")
        if not is_comment:
            yield from decoder.feed(NmeaBytes(data, received_boottime_ns=0))
    yield from decoder.finish()


def fix_as_json(fix: Fix) -> dict[str, str | float | int | None]:
    """The fix as a JSON object; numbers are rounded below what any receiver resolves."""
    time = None
    if fix.utc_ms is not None:
        time = (_EPOCH + timedelta(milliseconds=fix.utc_ms)).isoformat(timespec="milliseconds")
    return {
        "time": time,
        "lat": _rounded(fix.lat_deg, 9),
        "lon": _rounded(fix.lon_deg, 9),
        "alt_m": _rounded(fix.alt_m, 3),
        "speed_mps": _rounded(fix.speed_mps, 3),
        "course_deg": _rounded(fix.course_deg, 3),
        "mode": int(fix.mode),
        "satellites": fix.satellites,
        "hdop": fix.hdop,
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
