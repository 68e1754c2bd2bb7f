"""Bytes of an SLCAN adapter to frames: cut anywhere, damaged anywhere."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.hal.can import CanFrame
from firmware_shims.simulated.slcan_adapter import frame_line
from firmware_shims.slcan_line import SlcanLine


def line(*, joined: bool = True) -> SlcanLine:
    made = SlcanLine(lambda _can_id, _extended: True)
    if joined:
        made.frames(b"\r", 0)
    return made


def one(data: bytes) -> CanFrame | None:
    frames = line().frames(data, 9)
    return frames[0] if frames else None


def test_frames() -> None:
    assert one(b"t1230\r") == CanFrame(0x123, False, b"", 9)
    assert one(b"t7FF81122334455667788\r") == CanFrame(0x7FF, False, bytes.fromhex("1122334455667788"), 9)
    assert one(b"T18FEF1002ABcd\r") == CanFrame(0x18FEF100, True, b"\xab\xcd", 9)
    assert one(b"t1231AA1F3C\r") == CanFrame(0x123, False, b"\xaa", 9)  # with a timestamp
    assert one(b"\at1231AA\r") == CanFrame(0x123, False, b"\xaa", 9)
    assert one(b"d1239" + b"5A" * 12 + b"\r") == CanFrame(0x123, False, b"\x5a" * 12, 9)
    assert one(b"B18FEF100F" + b"5A" * 64 + b"\r") == CanFrame(0x18FEF100, True, b"\x5a" * 64, 9)


def test_what_is_no_frame_and_no_damage() -> None:
    slcan = line()
    assert slcan.frames(b"\r\r\aV1013\rNA123\rF00\rr1238\rz\r", 0) == []
    assert slcan.damaged_lines == 0


def test_damage_is_counted_and_never_a_frame() -> None:
    slcan = line()
    bad = [
        b"t1231",
        b"t1231A",
        b"t1239" + b"00" * 9,
        b"t1YZ0",
        b"T1231AA",
        b"t 120",
        b"T3FFFFFFF0",
        b"t1231AABB",
        b"?",
    ]
    assert slcan.frames(b"\r".join(bad) + b"\r", 0) == []
    assert slcan.damaged_lines == len(bad)
    assert slcan.frames(b"x" * 1000, 0) == []
    assert slcan.damaged_lines == len(bad) + 1


@pytest.mark.parametrize("end", [b"\r", b"\r\n", b"\n", b"\n\r"])
def test_every_line_end_of_an_adapter_is_one(end: bytes) -> None:
    slcan = line()
    data = end.join([b"t1231AA", b"t1231BB", b"T000001230", b""])
    assert [frame.data for frame in slcan.frames(data, 0)] == [b"\xaa", b"\xbb", b""]
    assert slcan.damaged_lines == 0


@pytest.mark.parametrize(
    "said",
    [
        b"CANable slcan firmware v1.3",
        b"bitrate 500000 set",
        b"# ready",
        b"READY, LISTEN",
        b"dropped frames: none",
    ],
)
def test_what_an_adapter_says_to_people_costs_no_frame_and_is_no_damage(said: bytes) -> None:
    slcan = line()
    frames = slcan.frames(b"t1231AA\r" + said + b"\r\nt1231BB\r\n", 0)
    assert [frame.data for frame in frames] == [b"\xaa", b"\xbb"]
    assert (slcan.damaged_lines, slcan.chatter_lines) == (0, 1)


def test_joining_in_the_middle_of_a_line_is_no_damage() -> None:
    slcan = line(joined=False)
    assert slcan.frames(b"55667788\rt1230\r", 0) == [CanFrame(0x123, False, b"", 0)]
    assert slcan.damaged_lines == 0


def test_unwanted_frames_are_not_made() -> None:
    slcan = SlcanLine(lambda can_id, extended: can_id == 0x123 and not extended)
    frames = slcan.frames(b"t1220\rt1230\rT000001230\r", 0)
    assert frames == [CanFrame(0x123, False, b"", 0)]
    assert slcan.damaged_lines == 0


@given(
    frames=st.lists(
        st.one_of(
            st.tuples(st.integers(0, 0x7FF), st.just(False), st.binary(max_size=8)),
            st.tuples(st.integers(0, 0x1FFFFFFF), st.just(True), st.binary(max_size=8)),
        )
    ),
    cuts=st.lists(st.integers(0, 400)),
)
def test_cuts_do_not_matter(frames: list[tuple[int, bool, bytes]], cuts: list[int]) -> None:
    data = b"".join(frame_line(*frame) for frame in frames)
    slcan = line()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found = [frame for start, end in pairwise(edges) for frame in slcan.frames(data[start:end], 0)]
    assert found == [CanFrame(*frame, 0) for frame in frames]
    assert slcan.damaged_lines == 0


@given(st.lists(st.binary(max_size=300)))
def test_no_bytes_raise(chunks: list[bytes]) -> None:
    slcan = line(joined=False)
    for chunk in chunks:
        for frame in slcan.frames(chunk, 0):
            assert frame.can_id <= (0x1FFFFFFF if frame.extended else 0x7FF)
            assert len(frame.data) <= 64
