"""The lines between agent and box: round trips, damage, garbage."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.hal.buttons import Lamp
from firmware_shims.button_box_protocol import (
    MAX_LINE_BYTES,
    Acknowledge,
    BadLineError,
    Event,
    Hello,
    LineReader,
    Message,
    SetLamp,
    crc16,
    decode,
    encode,
    lamps_digest,
)

sessions = st.integers(0, 2**32 - 1)
counts = st.integers(0, 2**32 - 1)
times = st.integers(0, 10**15 - 1)
keys = st.from_regex(r"[A-Za-z0-9_-]{1,32}", fullmatch=True)
lamps = st.sampled_from(Lamp)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Hello, st.integers(0, 999), sessions, counts, counts, times, st.integers(0, 0xFFFF)),
    st.builds(Event, sessions, counts, counts, times, times, st.booleans(), keys),
    st.builds(Acknowledge, sessions, counts),
    st.builds(SetLamp, keys, lamps),
)


def test_known_lines() -> None:
    assert crc16(b"123456789") == 0x29B1
    assert encode(Acknowledge(0x1A2B3C4D, 17)) == b"A,1A2B3C4D,17*B9EC\n"
    assert encode(Event(0x1A2B3C4D, 17, 15, 61_400, 61_250, True, "on_scene")) == (
        b"E,1A2B3C4D,17,15,61400,61250,P,on_scene*0FFF\n"
    )
    assert encode(Hello(1, 0x1A2B3C4D, 17, 15, 62_000, lamps_digest({}))) == (
        b"H,1,1A2B3C4D,17,15,62000,FFFF*8012\n"
    )
    assert encode(SetLamp("on_scene", Lamp.STORED)) == b"L,on_scene,stored*8F37\n"
    assert lamps_digest({"b": Lamp.STORED, "a": Lamp.NOT_STORED, "c": Lamp.OFF}) == crc16(
        b"a=not_stored,b=stored,"
    )


@given(messages)
def test_round_trip(message: Message) -> None:
    line = encode(message)
    assert len(line) <= MAX_LINE_BYTES
    assert decode(line.rstrip(b"\n")) == message


@given(messages, st.data())
def test_flipped_bit_is_never_a_message(message: Message, data: st.DataObject) -> None:
    line = bytearray(encode(message)[:-1])
    bit = data.draw(st.integers(0, len(line) * 8 - 1))
    line[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadLineError):
        decode(bytes(line))


@given(st.binary(max_size=2000))
def test_garbage_gives_nothing_and_is_bounded(garbage: bytes) -> None:
    reader = LineReader()
    assert reader.feed(garbage) == []
    assert reader.feed(b"\n") == []
    assert reader.feed(encode(Acknowledge(1, 2))) == [Acknowledge(1, 2)]


@settings(max_examples=50)
@given(st.lists(messages, max_size=8), st.lists(st.integers(1, 40), min_size=1))
def test_cutting_changes_nothing(sent: list[Message], cuts: list[int]) -> None:
    stream = b"".join(encode(message) for message in sent)
    reader, got, start = LineReader(), list[Message](), 0
    for n in range(len(stream) + 1):
        cut = cuts[n % len(cuts)]
        got += reader.feed(stream[start : start + cut])
        start += cut
    assert got == sent
    assert reader.bad_lines == 0


def test_damage_costs_one_line_and_is_counted() -> None:
    reader = LineReader()
    good = encode(Acknowledge(1, 2))
    assert reader.feed(good + b"A,00000001,3*0000\n" + b"x" * 5000 + b"\n" + good) == [Acknowledge(1, 2)] * 2
    assert reader.bad_lines == 2
    assert reader.feed(b"y" * 300) == []
    assert reader.feed(b"y" * 300 + good) == [], "the tail of a line that is too long is no line"
    assert reader.feed(b"\r\n" + good.replace(b"\n", b"\r\n")) == [Acknowledge(1, 2)]


@pytest.mark.parametrize(
    "body", [b"E,1A2B3C4D,1,1,5,5,P,", b"E,1A2B3C4D,1,1,5,5,X,a", b"L,a,on", b"Z,1", b"A,1a2b3c4d,1", b"H,1"]
)
def test_good_checksum_is_not_enough(body: bytes) -> None:
    with pytest.raises(BadLineError):
        decode(b"%b*%04X" % (body, crc16(body)))
