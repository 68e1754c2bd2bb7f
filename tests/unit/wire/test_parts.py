"""A payload in parts comes together again, whatever is lost, repeated or mixed, and nothing else does."""

from __future__ import annotations

import json
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire import parts
from agent.wire.batch import CodecError
from agent.wire.codec import Encoding
from agent.wire.parts import Part, PartCollector, decode_part, split

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
        assert part is None or 0 <= part.offset < part.offset + len(part.data) <= part.total


@given(
    st.binary(min_size=1, max_size=2000), st.lists(st.integers(14, 300), min_size=1, max_size=4), st.randoms()
)
def test_attempts_that_cut_differently_go_together(
    payload: bytes, rooms: list[int], dice: random.Random
) -> None:
    attempts = [split(payload, "msgpack", room) or [] for room in rooms]
    sent = [decode_part(one.payload) for attempt in attempts for one in attempt]
    whole_one = [part for part in sent if part is not None]
    # Of all but the first attempt some parts are lost.
    kept = whole_one[: len(attempts[0])] + [p for p in whole_one[len(attempts[0]) :] if dice.random() < 0.5]
    dice.shuffle(kept)
    collector, got = PartCollector(), []
    for part in kept:
        got += [whole] if (whole := collector.take(part)) is not None else []
    assert got
    assert set(got) == {payload}


@pytest.mark.parametrize(
    "given_part",
    [
        {"part": 2, "of": 4, "crc": 1, "base64": "AAAA"},
        {"part": -1, "of": 9, "crc": 1, "base64": "AAAA"},
        {"part": 0, "of": 1 << 30, "crc": 1, "base64": "AAAA"},
        {"part": 0, "of": 9, "crc": 1 << 32, "base64": "AAAA"},
        {"part": True, "of": 9, "crc": 1, "base64": "AAAA"},
        {"part": 0, "of": 9, "crc": 1, "base64": ""},
        {"part": 0, "of": 9, "crc": 1, "base64": "no base64"},
        {"part": 0, "of": 9},
    ],
    ids=str,
)
def test_absurd_parts_are_refused(given_part: dict[str, object]) -> None:
    with pytest.raises(CodecError):
        decode_part(json.dumps(given_part, separators=(",", ":")).encode())


def test_a_part_that_is_nested_too_deep_is_refused() -> None:
    with pytest.raises(CodecError):
        decode_part(parts.JSON_BEGINS + b"[" * 100_000)


def test_parts_that_do_not_belong_together_are_refused_and_forgotten() -> None:
    collector = PartCollector()
    whole = b"abcdef"
    assert collector.take(Part(zlib.crc32(whole), 0, 6, b"abc")) is None
    with pytest.raises(CodecError, match="do not make up"):
        collector.take(Part(zlib.crc32(whole), 3, 6, b"xyz"))
    assert not collector
    assert collector.take(Part(zlib.crc32(whole), 3, 6, b"def")) is None
    assert collector.take(Part(zlib.crc32(whole), 0, 6, b"abc")) == whole


def test_what_never_becomes_whole_is_bounded() -> None:
    collector = PartCollector()
    for crc in range(100):
        assert collector.take(Part(crc, 0, 6, b"abc")) is None
    assert len(collector) == parts.MOST_INCOMPLETE
