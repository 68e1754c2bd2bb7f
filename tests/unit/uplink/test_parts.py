"""A payload in parts comes together again, whatever is lost, repeated or mixed, and nothing else does."""

from __future__ import annotations

import json
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.uplink import parts
from agent.uplink.batch import CodecError
from agent.uplink.codec import Encoding
from agent.uplink.parts import Part, PartCollector, decode_part, split

encodings: st.SearchStrategy[Encoding] = st.sampled_from(["msgpack", "json"])


@given(st.binary(min_size=1, max_size=3000), st.integers(0, 400), encodings, st.randoms())
def test_parts_fit_and_come_together_in_any_order(
    payload: bytes, room_bytes: int, encoding: Encoding, dice: random.Random
) -> None:
    encoded = split(payload, encoding, room_bytes)
    if encoded is None:
        assert room_bytes < (20 if encoding == "msgpack" else 80)
        return
    assert all(len(one.payload) <= room_bytes for one in encoded)
    decoded = [decode_part(one.payload) for one in encoded]
    dice.shuffle(decoded)
    collector = PartCollector()
    wholes = [collector.take(part) for part in decoded if part is not None]
    assert len(wholes) == len(encoded)
    assert wholes[-1] == payload
    assert not any(wholes[:-1])


@given(st.binary(max_size=60))
def test_what_is_no_part_is_left_alone_or_refused(noise: bytes) -> None:
    for payload in (noise, parts.FIRST_BYTE + noise, parts.JSON_BEGINS + noise):
        try:
            part = decode_part(payload)
        except CodecError:
            continue
        assert part is None or (0 <= part.index < part.count and part.data)


@pytest.mark.parametrize(
    "given_part",
    [
        {"part": 2, "parts": 2, "crc": 1, "base64": "AAAA"},
        {"part": -1, "parts": 2, "crc": 1, "base64": "AAAA"},
        {"part": 0, "parts": 1 << 20, "crc": 1, "base64": "AAAA"},
        {"part": 0, "parts": 2, "crc": 1 << 32, "base64": "AAAA"},
        {"part": True, "parts": 2, "crc": 1, "base64": "AAAA"},
        {"part": 0, "parts": 2, "crc": 1, "base64": ""},
        {"part": 0, "parts": 2, "crc": 1, "base64": "no base64"},
        {"part": 0, "parts": 2},
    ],
    ids=str,
)
def test_absurd_parts_are_refused(given_part: dict[str, object]) -> None:
    with pytest.raises(CodecError):
        decode_part(json.dumps(given_part, separators=(",", ":")).encode())


def test_parts_that_do_not_belong_together_are_refused_and_forgotten() -> None:
    collector = PartCollector()
    whole = b"abcdef"
    assert collector.take(Part(zlib.crc32(whole), 0, 2, b"abc")) is None
    with pytest.raises(CodecError, match="do not make up"):
        collector.take(Part(zlib.crc32(whole), 1, 2, b"xyz"))
    assert collector.take(Part(zlib.crc32(whole), 1, 2, b"def")) is None
    assert collector.take(Part(zlib.crc32(whole), 0, 2, b"abc")) == whole


def test_what_never_becomes_whole_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    collector = PartCollector()
    for crc in range(100):
        assert collector.take(Part(crc, 0, 2, b"abc")) is None
    assert len(collector._incomplete) == parts.MOST_INCOMPLETE
    monkeypatch.setattr(parts, "MAX_BYTES", 10)
    assert collector.take(Part(1000, 0, 9, b"abcdef")) is None
    with pytest.raises(CodecError, match="2 of 9"):
        collector.take(Part(1000, 1, 9, b"abcdef"))
