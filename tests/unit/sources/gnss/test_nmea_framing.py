"""Framing: any bytes, split anywhere, give the same sentences and the same rejections."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sources.gnss.nmea_framing import MAX_SENTENCE_BYTES, Frame, NmeaFramer, Rejection, checksum

RMC = b"$GPRMC,113258,A,3238.9148,N,10822.4466,W,005.3,247.1,181022,009.3,E*6B"
GSA = b"$GPGSA,A,3,02,05,11,12,18,20,25,29,,,,,1.4,1.1,0.9*3D"

PIECES = st.sampled_from(
    [
        RMC,
        GSA,
        b"\r\n",
        b"\n",
        b"\r",
        b"$",
        b"*",
        b"$GPGGA,1",
        b"*7",
        b"\xb5\x62\x01",
        b"x" * 300,
        b" ",
        b"\0",
    ]
)
STREAMS = st.one_of(st.lists(PIECES, max_size=30).map(b"".join), st.binary(max_size=600))


def framed(*chunks: bytes) -> list[Frame | Rejection]:
    framer = NmeaFramer()
    return [item for chunk in chunks for item in framer.feed(chunk, 7)] + framer.finish()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (RMC + b"\r\n", [Frame(RMC[1:-3].decode(), 7)]),
        (RMC + b"\n", [Frame(RMC[1:-3].decode(), 7)]),
        (RMC + b"\r", [Frame(RMC[1:-3].decode(), 7)]),
        (RMC.replace(b"*6B", b"*6b") + b" \r\n", [Frame(RMC[1:-3].decode(), 7)]),
        (RMC.replace(b"247.1", b"247.2") + b"\r\n", [Rejection.BAD_CHECKSUM]),
        (RMC[:-3] + b"\r\n", [Rejection.NO_CHECKSUM]),
        (RMC[:-1] + b"\r\n", [Rejection.MALFORMED]),
        (RMC + b"0\r\n", [Rejection.MALFORMED]),
        (b"GPRMC,1*00\r\n", [Rejection.MALFORMED]),
        (b"$GP\xffMC,1*00\r\n", [Rejection.NOT_ASCII]),
        (b"$" + b"A" * MAX_SENTENCE_BYTES + b"\r\n", [Rejection.TOO_LONG]),
        (b"!AIVDM,1,1,,A,14eG,0*7D\r\n\r\n \r\n", []),
        (b"$GPRM" + RMC + b"\r\n", [Rejection.NO_CHECKSUM, Frame(RMC[1:-3].decode(), 7)]),
        (b"\x00\x9f" * 500 + RMC + b"\r\n", [Rejection.TOO_LONG, Frame(RMC[1:-3].decode(), 7)]),
        (b"\\s:rx1*5C\\" + RMC + b"\r\n", [Frame(RMC[1:-3].decode(), 7)]),
    ],
)
def test_each_kind_of_line(data: bytes, expected: list[Frame | Rejection]) -> None:
    assert framed(data) == expected


def test_a_sentence_is_stamped_with_the_read_of_its_first_byte() -> None:
    framer = NmeaFramer()
    assert framer.feed(b"\r\n" + RMC[:9], 1) == []
    assert framer.feed(RMC[9:20], 2) == []
    first, second = framer.feed(RMC[20:] + b"\r\n" + GSA + b"\r\n" + RMC, 3)
    assert isinstance(first, Frame)
    assert isinstance(second, Frame)
    assert (first.received_boottime_ns, second.received_boottime_ns) == (1, 3)
    (third,) = framer.feed(b"\r\n", 4)
    assert isinstance(third, Frame)
    assert third.received_boottime_ns == 3


def test_memory_is_bounded_without_a_line_end() -> None:
    framer = NmeaFramer()
    for _ in range(1000):
        assert framer.feed(b"A" * 1000, 0) == []
    assert len(framer._tail) <= MAX_SENTENCE_BYTES + 1
    assert framer.feed(b"\n" + RMC + b"\n", 0) == [Rejection.TOO_LONG, Frame(RMC[1:-3].decode(), 0)]


@given(STREAMS, st.lists(st.integers(1, 40), min_size=1, max_size=50))
def test_how_the_bytes_are_split_does_not_matter(data: bytes, sizes: list[int]) -> None:
    chunks, rest = [], data
    for size in sizes:
        chunks.append(rest[:size])
        rest = rest[size:]
    assert framed(*chunks, rest) == framed(data)


@given(st.integers(1, len(RMC) - 4), st.integers(1, 255))
def test_no_flipped_byte_passes(index: int, flip: int) -> None:
    changed = bytearray(RMC)
    changed[index] ^= flip
    assert not any(
        isinstance(item, Frame) and item.body == RMC[1:-3].decode() for item in framed(bytes(changed))
    )
    for item in framed(bytes(changed)):
        # A flip to `*`, `$` or a line end cuts the sentence; what is left must still carry its own checksum.
        assert isinstance(item, Rejection) or checksum(item.body.encode()) == 0x6B
