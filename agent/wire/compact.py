"""The compact form of a batch: a record alone as a short row, several as columns of differences.

Everything that is done for each record is done by C code (map, zip, msgpack, zlib): a drain of a long backlog
costs a few microseconds a record. docs/wire-format.md describes the bytes for readers in other languages.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import accumulate, chain, repeat, zip_longest
from operator import add, mul, sub
from typing import Any

import msgpack

from agent.domain.record import Body, Opaque, Position, Stream
from agent.domain.stamp import UtcSource
from agent.wire.batch import MAX_BYTES, MAX_RECORDS, BatchHeader, CodecError
from agent.wire.body import body_from_fields, unpack_body
from agent.wire.fields import layout
from agent.wire.row import Row
from agent.wire.unpacking import unpack, unpack_own
from agent.wire.uvarint import take_uvarint, uvarint

VERSION = 1
ZLIB_FIRST_BYTE = 0x78

_HISTORY, _REPLAY, _ROW, _TRAIL = 1, 2, 4, 8
_POSITION = 4
_POSITION_COLUMNS_MAX = 64
_SOURCES = 8
"""A tag is kind * 8 + UTC source."""
_SMOOTH_COLUMNS = 2
_PREFIX_BYTES = 5
_DEFLATE_FROM_BYTES = 80
_DEFLATE_LEVEL = 6
_FIXARRAY_MAX = 15
_ELEMENTS = {int, type(None)}
_SHORT_LIMIT = 1 << 60
"""Numbers of the row form are below, with room for a sign and for null."""
_KIND_MAX = (1 << 16) - 1
_UTC_SOURCES = {source.value for source in UtcSource}

Column = Sequence[Any]


def encode_compact(header: BatchHeader, rows: Sequence[Row]) -> bytes:
    """Encode rows of one boot, ascending in `seq`.

    Every row is read once, since a reader refuses a batch as a whole: one body that went bad on the disk
    would take all the others with it, after the broker has taken them.

    Raises:
        CodecError, OverflowError, TypeError, ValueError: a row that the outbox can not have made.
    """
    flags = (
        _HISTORY * header.history
        | _REPLAY * header.replay
        | _TRAIL * (header.stream is Stream.TRAIL)
        | _ROW * (row_form := len(rows) == 1 and _fits_row_form(rows[0]))
    )
    payload = b"".join(
        (
            bytes((VERSION << 4 | flags,)),
            header.journal.to_bytes(4, "big"),
            uvarint(header.boot),
            _row(rows[0]) if row_form else _columns(rows),
        )
    )
    if len(payload) > MAX_BYTES:
        raise CodecError(f"a batch of {len(payload)} bytes; no reader takes more than {MAX_BYTES}")
    if len(payload) >= _DEFLATE_FROM_BYTES:
        deflated = zlib.compress(payload, _DEFLATE_LEVEL)
        if len(deflated) < len(payload):
            return deflated
    return payload


def decode_compact(payload: bytes, unit: str) -> tuple[BatchHeader, list[Row], list[Body]]:
    """Decode to header, rows with empty bodies, and the bodies.

    A body that is not as its kind should be costs no other: it is handed on as an `Opaque` that says so.

    Raises:
        CodecError: not a batch, of another version, or inflating beyond MAX_BYTES.
        ValueError, TypeError, IndexError: not a batch either.
    """
    if len(payload) > MAX_BYTES:
        raise CodecError(f"a batch of {len(payload)} bytes")
    if payload[0] == ZLIB_FIRST_BYTE:
        payload = _inflate(payload)
    version, flags = divmod(payload[0], 16)
    if version != VERSION:
        raise CodecError(f"batch of version {version}; this reader knows {VERSION}")
    boot, at = take_uvarint(payload, _PREFIX_BYTES)
    header = BatchHeader(
        unit=unit,
        stream=Stream.TRAIL if flags & _TRAIL else Stream.EVENTS,
        journal=int.from_bytes(payload[1:_PREFIX_BYTES], "big"),
        boot=boot,
        history=bool(flags & _HISTORY),
        replay=bool(flags & _REPLAY),
    )
    rows, bodies = _take_row(payload, at, boot) if flags & _ROW else _take_columns(payload[at:], boot)
    return header, rows, bodies


def _inflate(payload: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(payload, MAX_BYTES)
    except zlib.error as error:
        raise CodecError(f"not deflated data: {error}") from error
    if not stream.eof or stream.unused_data:
        raise CodecError("deflated data is cut off, too large, or followed by something")
    if not plain:
        raise CodecError("nothing inside")
    return plain


# --- one record -----------------------------------------------------------------------------------


def _fits_row_form(row: Row) -> bool:
    header = row.seq, row.boottime_ms, row.utc_ms or 0, row.utc_uncertainty_ms or 0
    if min(header) < 0 or max(header) >= _SHORT_LIMIT:
        return False
    if row.kind != _POSITION:
        return True
    fields = unpack(row.body)
    # A receiver that is mad may say a height of 1e17 m: columns hold what the short form has no room for.
    return set(map(type, fields)) <= _ELEMENTS and all(abs(field or 0) < _SHORT_LIMIT for field in fields)


def _row(row: Row) -> bytes:
    """Sequence, tag, boot time, UTC + 1, uncertainty + 1 (0 stands for none), then the body."""
    _check_tags((row.kind,), (row.utc_source,))
    unpack_body(row.kind, row.body)
    return b"".join(
        (
            uvarint(row.seq),
            uvarint(row.kind * _SOURCES + row.utc_source),
            uvarint(row.boottime_ms),
            uvarint(0 if row.utc_ms is None else row.utc_ms + 1),
            uvarint(0 if row.utc_uncertainty_ms is None else row.utc_uncertainty_ms + 1),
            _short_position(row.body) if row.kind == _POSITION else row.body,
        )
    )


def _short_position(body: bytes) -> bytes:
    """A live position goes out each second: its fields without msgpack's tags take four bytes less."""
    fields: Sequence[int | None] = unpack(body)
    return b"".join(uvarint(0 if field is None else _zigzag(field) + 1) for field in fields)


def _take_short_position(payload: bytes, at: int) -> list[int | None]:
    fields: list[int | None] = []
    while at < len(payload):
        value, at = take_uvarint(payload, at)
        fields.append(_unzigzag(value - 1) if value else None)
    if len(fields) > _POSITION_COLUMNS_MAX:
        raise CodecError(f"a position of {len(fields)} fields")
    return fields


def _zigzag(value: int) -> int:
    return 2 * value if value >= 0 else -2 * value - 1


def _unzigzag(value: int) -> int:
    return -(value + 1) // 2 if value % 2 else value // 2


def _take_row(payload: bytes, at: int, boot: int) -> tuple[list[Row], list[Body]]:
    seq, at = take_uvarint(payload, at)
    tag, at = take_uvarint(payload, at)
    boottime_ms, at = take_uvarint(payload, at)
    utc_ms, at = take_uvarint(payload, at)
    uncertainty_ms, at = take_uvarint(payload, at)
    kind, source = divmod(tag, _SOURCES)
    row = Row(
        seq,
        kind,
        boot,
        boottime_ms,
        utc_ms - 1 if utc_ms else None,
        source,
        uncertainty_ms - 1 if uncertainty_ms else None,
        b"",
    )
    if kind == _POSITION:
        return [row], [_body(kind, _take_short_position(payload, at))]
    return [row], [_body(kind, unpack(payload[at:]))]


def _body(kind: int, fields: Any) -> Body:
    """The body; what is none is handed on as it came."""
    try:
        return body_from_fields(kind, fields)
    except ValueError as error:
        return Opaque(kind, None, msgpack.packb(fields), str(error))


# --- several records ------------------------------------------------------------------------------


def _columns(rows: Sequence[Row]) -> bytes:
    seqs, kinds, _, boottimes, utcs, sources, uncertainties, bodies = zip(*rows, strict=True)
    _check_tags(kinds, sources)
    if kinds.count(_POSITION) == len(kinds):
        others: list[bytes] = []
    else:
        others = [body for kind, body in zip(kinds, bodies, strict=True) if kind != _POSITION]
        for kind, body in zip(kinds, bodies, strict=True):
            if kind != _POSITION:
                unpack_body(kind, body)
        bodies = tuple(body for kind, body in zip(kinds, bodies, strict=True) if kind == _POSITION)
    positions = _position_columns(bodies) if bodies else []
    # Either UTC follows boot time, or it is the fix's own and boot time is when that arrived: boot time less
    # UTC carries the jitter of the one or the other once.
    offsets = [at - (utc or 0) for at, utc in zip(boottimes, utcs, strict=True)]
    stamps = (
        _column(seqs, 1),
        _column(list(map(add, map(mul, kinds, repeat(_SOURCES)), sources)), 1),
        _column(utcs, 1),
        _column(offsets, 1),
        _column(uncertainties, 1),
    )
    try:
        packed = msgpack.packb(list(map(_column, positions, chain(_orders(), repeat(0)))))
    except OverflowError:  # a difference of absurd values does not fit 64 bits; the values themselves do
        packed = msgpack.packb([_column(column, 0) for column in positions])
    return b"".join(
        (
            _array_header(4),
            msgpack.packb(len(rows)),
            msgpack.packb(stamps),
            packed,
            _array_header(len(others)),
            *others,
        )
    )


@cache
def _orders() -> tuple[int, ...]:
    """Order of differences of each position column: a moving vehicle's coordinates have a smooth slope."""
    rows = layout(Position).rows
    return tuple((2 if at < _SMOOTH_COLUMNS else 1) if row.is_whole else 0 for at, row in enumerate(rows))


def _position_columns(bodies: Sequence[bytes]) -> list[Column]:
    """The fields of all bodies, unpacked in one go. Raises CodecError when one is no position."""
    columns: list[Column] = list(zip_longest(*unpack_own(_array_header(len(bodies)) + b"".join(bodies))))
    if len(columns) > _POSITION_COLUMNS_MAX or not layout(Position).fits_columns(columns):
        raise CodecError("the body of a position is not one")
    return columns


def _check_tags(kinds: Iterable[int], sources: Iterable[int]) -> None:
    if not (_UTC_SOURCES.issuperset(sources) and all(0 < kind <= _KIND_MAX for kind in set(kinds))):
        raise CodecError("a record of no kind, or a UTC from nowhere")


def _take_columns(packed: bytes, boot: int) -> tuple[list[Row], list[Body]]:
    count, stamps, positions, others = unpack(packed)[:4]
    if type(count) is not int or not 0 < count <= MAX_RECORDS:
        raise CodecError(f"a batch of {count!r} records")
    seqs, tags, utcs, offsets, uncertainties = (_whole_values(column, count) for column in stamps[:5])
    if None in seqs or None in tags or None in offsets or min(tags) < 0:
        raise CodecError("a record lacks its sequence, tag or boot time")
    boottimes = [offset + (utc or 0) for offset, utc in zip(offsets, utcs, strict=True)]
    kinds = [tag // _SOURCES for tag in tags]
    sources = [tag % _SOURCES for tag in tags]
    rows = list(map(Row, seqs, kinds, repeat(boot), boottimes, utcs, sources, uncertainties, repeat(b"")))
    fixes = kinds.count(_POSITION)
    if len(others) != count - fixes:
        raise CodecError("bodies do not match the kinds")
    places = _take_positions(positions, fixes)
    if fixes == count:
        return rows, list(places)
    fixed, rest = iter(places), iter(others)
    return rows, [next(fixed) if kind == _POSITION else _body(kind, next(rest)) for kind in kinds]


def _take_positions(positions: Any, count: int) -> Sequence[Body]:
    if not count:
        return ()
    if not isinstance(positions, list) or not 0 < len(positions) <= _POSITION_COLUMNS_MAX:
        raise CodecError("the columns of positions are none")
    columns = [_values(column, count) for column in positions]
    return layout(Position).unpack_columns(columns) or [
        _body(_POSITION, list(row)) for row in zip(*columns, strict=True)
    ]


def _column(values: Column, order: int) -> Any:
    """One value for all, or the order of differences followed by the values; None keeps its place.

    Values that are no whole numbers come with order 0.
    """
    first = values[0]
    if values.count(first) == len(values) and (order or _is_plain(values)):
        return first
    if not order:
        return [0, *values]
    if None in values:
        there: list[Any] = [value for value in values if value is not None]
        differences = iter(_differences(there, order))
        return [order, *(None if value is None else next(differences) for value in values)]
    return [order, *_differences(values, order)]


def _is_plain(values: Column) -> bool:
    # 1 == True in Python; on the wire they differ. A list would be taken for the column itself.
    return len(set(map(type, values))) == 1 and not isinstance(values[0], list)


def _differences(values: Sequence[int], order: int) -> Sequence[int]:
    for _ in range(order):
        values = [values[0], *map(sub, values[1:], values)]
    return values


def _values(column: Any, count: int) -> list[Any]:
    """The inverse of `_column`. Raises CodecError unless it gives `count` values."""
    if not isinstance(column, list):
        return [column] * count
    if len(column) != count + 1 or column[0] not in (0, 1, 2):
        raise CodecError("a column is not one")
    order, values = column[0], column[1:]
    if not order:
        return values
    there = values if None not in values else [value for value in values if value is not None]
    if set(map(type, there)) - {int}:
        raise CodecError("a column of differences holds something else")
    for _ in range(order):
        there = list(accumulate(there))
    if len(there) == count:
        return there
    given = iter(there)
    return [None if value is None else next(given) for value in values]


def _whole_values(column: Any, count: int) -> list[Any]:
    values = _values(column, count)
    if not set(map(type, values)) <= _ELEMENTS:
        raise CodecError("a column of numbers holds something else")
    return values


def _array_header(count: int) -> bytes:
    """The msgpack header of an array (fixarray or array 16), so that bodies can follow as they are stored."""
    return bytes((0x90 | count,)) if count <= _FIXARRAY_MAX else b"\xdc" + count.to_bytes(2, "big")
