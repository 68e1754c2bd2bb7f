"""The records of an MCAP file, each checked before it is given: for files that may be damaged.

The library's own readers skip what they do not know and give what they can, which hides holes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any, BinaryIO

from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Attachment, Channel, Chunk, Header, Message, Metadata, Schema
from mcap.stream_reader import CRCValidationError, breakup_chunk
from mcap.writer import MCAP0_MAGIC
from zstandard import ZstdError

_HEAD = struct.Struct("<BQ")
_CRC = struct.Struct("<I")
_INDEX_HEAD = struct.Struct("<HI")
_INDEX_ENTRY_BYTES = 16
_READERS: dict[int, Any] = {
    Opcode.HEADER: Header,
    Opcode.SCHEMA: Schema,
    Opcode.CHANNEL: Channel,
    Opcode.CHUNK: Chunk,
    Opcode.ATTACHMENT: Attachment,
    Opcode.METADATA: Metadata,
}
_FROM_LIBRARY = (McapError, ZstdError, struct.error, ValueError, OverflowError, MemoryError, RuntimeError)
"""What the libraries raise on wrong bytes; undecodable text is a ValueError, lz4 raises RuntimeError."""


class DamagedError(Exception):
    """From here on the file can not be trusted.

    Attributes:
        offset: byte at which the first record begins that is not as it should be.
        why: what is wrong with it.
    """

    def __init__(self, offset: int, why: str) -> None:
        super().__init__(f"at byte {offset}: {why}")
        self.offset = offset
        self.why = why


def read_records(stream: BinaryIO, size: int) -> Iterator[Metadata | Channel | Message]:
    """The records of the data section of a file of `size` bytes, those of chunks among them.

    Raises:
        DamagedError: after everything that stands before the damage was given.
    """
    magic = stream.read(len(MCAP0_MAGIC))
    if magic != MCAP0_MAGIC:
        raise DamagedError(0, "this is not the beginning of an MCAP file")
    checksum = zlib.crc32(magic)
    while True:
        offset = stream.tell()
        head, opcode, body = _read_record(stream, offset, size)
        if opcode == Opcode.DATA_END:
            _check_end(stream, offset, size, body, checksum)
            return
        checksum = zlib.crc32(body, zlib.crc32(head, checksum))
        try:
            yield from _records_in(opcode, body)
        except CRCValidationError as error:
            raise DamagedError(offset, "the chunk's checksum is wrong") from error
        except _FROM_LIBRARY as error:
            raise DamagedError(offset, f"not a record: {error or type(error).__name__}") from error


def _read_record(stream: BinaryIO, offset: int, size: int) -> tuple[bytes, int, bytes]:
    if offset >= size:
        raise DamagedError(offset, "the end is missing")
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise DamagedError(offset, "the file ends inside a record")
    opcode, length = _HEAD.unpack(head)
    if length > size - offset - _HEAD.size:
        raise DamagedError(offset, "the file ends inside a record, or its length is wrong")
    return head, opcode, stream.read(length)


def _records_in(opcode: int, body: bytes) -> list[Metadata | Channel | Message]:
    """What a record holds. Raises what the libraries raise."""
    if opcode == Opcode.MESSAGE:
        record = Message.read(ReadDataStream(BytesIO(body)), len(body))
        return [record]
    if opcode == Opcode.MESSAGE_INDEX:
        _, entries = _INDEX_HEAD.unpack_from(body)
        if len(body) != _INDEX_HEAD.size + entries or entries % _INDEX_ENTRY_BYTES:
            raise ValueError("an index of the wrong length")
        return []
    if opcode not in _READERS:
        raise ValueError(f"kind {opcode} does not belong here")
    data = ReadDataStream(BytesIO(body))
    record = _READERS[opcode].read(data)
    if data.count != len(body):
        raise ValueError("it is longer than it says")
    if isinstance(record, Chunk):
        return [one for one in breakup_chunk(record, validate_crc=True) if isinstance(one, Channel | Message)]
    return [record] if isinstance(record, Metadata | Channel) else []


def _check_end(stream: BinaryIO, offset: int, size: int, body: bytes, checksum: int) -> None:
    if len(body) != _CRC.size:
        raise DamagedError(offset, "not a record: the end of the data has the wrong length")
    (expected,) = _CRC.unpack(body)
    if expected not in (0, checksum):
        raise DamagedError(offset, "the checksum of the whole is wrong; each chunk's own was right")
    stream.seek(max(size - len(MCAP0_MAGIC), 0))
    if stream.read() != MCAP0_MAGIC:
        raise DamagedError(offset, "the index at the end is damaged; no item is missing")
