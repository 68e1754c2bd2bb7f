"""J1939's long messages put together, and the trouble codes in them, also from a hostile bus."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.trouble_codes import TOLD_AT_ONCE, Code, Lamps, PreviousCodes
from agent.hal.can import CanFrame
from agent.sources.diagnostics.j1939_diagnostics import DM1, J1939Diagnostics, decode_dm1
from agent.sources.diagnostics.j1939_transport import MOST_AT_A_TIME, LongMessage, Reassembler
from firmware_shims.can_log import read_can_log

FEEDS = Path(__file__).resolve().parents[5] / "shared" / "feeds"
MS = 1_000_000
LAMPS = Lamps(malfunction=True, stop=False, warning=False, protect=False)


def packets(
    data: bytes, *, group: int = DM1, source: int = 0, destination: int = 0xFF, at_ms: int = 0
) -> list[CanFrame]:
    """A message as its sender cuts it: BAM to all, RTS to one."""
    count = -(-len(data) // 7)
    control = 32 if destination == 0xFF else 16
    head = (
        bytes([control])
        + len(data).to_bytes(2, "little")
        + bytes([count, 0xFF])
        + group.to_bytes(3, "little")
    )
    frames = [frame(0xEC, source, destination, head, at_ms)]
    for number in range(count):
        part = data[number * 7 : number * 7 + 7].ljust(7, b"\xff")
        frames.append(frame(0xEB, source, destination, bytes([number + 1]) + part, at_ms + 50 * (number + 1)))
    return frames


def frame(pdu: int, source: int, destination: int, data: bytes, at_ms: int) -> CanFrame:
    return CanFrame(0x1C000000 | pdu << 16 | destination << 8 | source, True, data, at_ms * MS)


def put_together(frames: list[CanFrame]) -> tuple[list[LongMessage], Reassembler]:
    transport = Reassembler()
    return [message for one in frames if (message := transport.take(one)) is not None], transport


@given(st.binary(min_size=9, max_size=1785), st.sampled_from([0xFF, 0x21]))
def test_a_message_of_any_length_is_put_together(data: bytes, destination: int) -> None:
    (message,), transport = put_together(packets(data, destination=destination))
    assert (message.group, message.source, message.destination) == (DM1, 0, destination)
    assert message.data == data
    assert transport.broken == 0


@given(
    st.lists(st.binary(min_size=9, max_size=60), min_size=2, max_size=8), st.randoms(use_true_random=False)
)
def test_messages_of_several_senders_may_interleave(messages: list[bytes], rng: object) -> None:
    queues = [packets(data, source=source) for source, data in enumerate(messages)]
    frames: list[CanFrame] = []
    while any(queues):
        queue = rng.choice([one for one in queues if one])  # type: ignore[attr-defined]
        frames.append(queue.pop(0)._replace(received_boottime_ns=len(frames) * MS))
    found, transport = put_together(frames)
    assert {message.source: message.data for message in found} == dict(enumerate(messages))
    assert transport.broken == 0


def test_a_receiver_may_ask_for_packets_again_and_hold_the_sender() -> None:
    data = bytes(range(20))
    head, *parts = packets(data, destination=0x21)
    clear_to_send = frame(0xEC, 0x21, 0x00, b"\x11\x03\x01\xff\xff\xca\xfe\x00", 1100)
    late = [part._replace(received_boottime_ns=2000 * MS) for part in parts]
    (message,), transport = put_together([head, parts[0], clear_to_send, late[0], late[1], late[2]])
    assert message.data == data
    assert transport.broken == 0


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (lambda frames: frames[:-1], 0),  # the last packet is missing: still waited for
        (lambda frames: [frames[0], frames[2], frames[3]], 0),
        (lambda frames: frames[1:], 0),  # never announced
        (lambda frames: [frames[0], *(f._replace(received_boottime_ns=9000 * MS) for f in frames[1:])], 1),
        (lambda frames: [frames[0], frames[1]._replace(data=b"\x00" + bytes(7)), *frames[1:]], 1),
        (lambda frames: [frames[0], frame(0xEC, 0, 0xFF, b"\xff" + bytes(7), 1), *frames[1:]], 1),  # aborted
        (lambda frames: [frames[0]._replace(data=b"\x20\xff\xff\x03\xff\xca\xfe\x00"), *frames[1:]], 1),
        (lambda frames: [frames[0]._replace(data=b"\x20\x14\x00\x09\xff\xca\xfe\x00"), *frames[1:]], 1),
        (lambda frames: [frames[0]._replace(data=b"\x10\x14\x00\x03\xff\xca\xfe\x00"), *frames[1:]], 1),
        (lambda frames: [frames[0]._replace(data=b"\x20\x14\x00"), *frames[1:]], 0),  # cut short
    ],
)
def test_what_is_not_whole_gives_nothing(change: object, broken: int) -> None:
    found, transport = put_together(change(packets(bytes(range(20)))))  # type: ignore[operator]
    assert found == []
    assert transport.broken == broken


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0xEC, 0xEB, 0xFE]), st.integers(0, 255), st.integers(0, 255),
            st.binary(max_size=8), st.integers(0, 2000),
        ),
        max_size=80,
    )
)  # fmt: skip
def test_no_bus_raises_or_takes_memory(raw: list[tuple[int, int, int, bytes, int]]) -> None:
    diagnostics = J1939Diagnostics()
    at_ms = 0
    for pdu, source, destination, data, pause_ms in raw:
        at_ms += pause_ms
        diagnostics.take([frame(pdu, source, destination, data, at_ms)])
        assert len(diagnostics.transport._open) <= MOST_AT_A_TIME


def test_a_flood_of_announcements_keeps_the_newest_few() -> None:
    transport = Reassembler()
    for source in range(250):
        transport.take(packets(bytes(1785), source=source, at_ms=source)[0])
    assert len(transport._open) == MOST_AT_A_TIME
    assert transport.broken == 250 - MOST_AT_A_TIME


@pytest.mark.parametrize(
    ("data", "lamps", "codes"),
    [
        ("40FF 00000000 FFFF", Lamps(True, False, False, False), []),
        ("00FF 00000000 FFFF", Lamps(False, False, False, False), []),
        ("44FF 6E00 0381 FFFF", Lamps(True, False, True, False), [Code(110, 3, 1)]),
        ("D3FF BE00 E2FF FFFF", Lamps(None, True, False, None), [Code(190 | 7 << 16, 2, None)]),
        (
            "44FF 6E000301 5B000402 B7000A7F",
            Lamps(True, False, True, False),
            [Code(110, 3, 1), Code(91, 4, 2), Code(183, 10, None)],
        ),
    ],
)
def test_dm1_is_decoded(data: str, lamps: Lamps, codes: list[Code]) -> None:
    assert decode_dm1(bytes.fromhex(data)) == (lamps, codes)


def test_a_dm1_that_is_too_short_is_counted() -> None:
    diagnostics = J1939Diagnostics()
    assert diagnostics.take([CanFrame(0x18FECA00, True, b"\x40\xff\x6e", 0)]) == []
    assert diagnostics.malformed == 1


def test_many_codes_come_as_a_long_message_and_one_as_a_frame() -> None:
    diagnostics = J1939Diagnostics()
    long = bytes.fromhex("44FF") + b"".join(bytes([spn, 0, 3, 1]) for spn in (100, 110, 190))
    found = diagnostics.take(
        [CanFrame(0x18FECA03, True, bytes.fromhex("40FF64000201FFFF"), 5), *packets(long, source=0x21)]
    )
    assert [(one.controller, [code.spn for code in one.codes]) for one in found] == [
        (3, [100]),
        (0x21, [100, 110, 190]),
    ]


def test_long_messages_of_a_recorded_truck_are_put_together() -> None:
    pytest.importorskip("asammdf", reason="MF4 needs asammdf")
    log = FEEDS / "can" / "css_nmea2000_j1939_demo.MF4"
    if not log.is_file():
        pytest.skip("the recorded feeds are not on this machine")
    by_bus: dict[str, Reassembler] = {}
    messages = []
    announced = 0
    for logged in read_can_log(log):
        transport = by_bus.setdefault(logged.bus, Reassembler())
        announced += (
            re.match(r"1CEC", f"{logged.frame.can_id:08X}") is not None and logged.frame.data[:1] == b"\x20"
        )
        message = transport.take(logged.frame)
        if message is not None:
            messages.append(message)
    assert announced == len(messages) == 16
    assert all(9 <= len(message.data) <= 28 for message in messages)


def test_codes_of_earlier_are_told_apart_from_those_of_now() -> None:
    diagnostics = J1939Diagnostics()
    data = bytes.fromhex("40FF6E000301FFFF")
    now, earlier = diagnostics.take(
        [CanFrame(0x18FECA00, True, data, 1), CanFrame(0x18FECB00, True, data, 2)]
    )
    assert (now.previous, earlier.previous) == (False, True)
    assert earlier.codes == [Code(110, 3, 1)]
    long = bytes.fromhex("40FF") + bytes.fromhex("6E000301") * 3
    (from_packets,) = diagnostics.take(packets(long, group=65_227, at_ms=10))
    assert from_packets.previous


@pytest.mark.parametrize(("said", "heard"), [
    (b"1FDXE4FS8HDC12345*", "1FDXE4FS8HDC12345"),
    (b"\x00" * 18, None),
    (b"*" * 18, None),
    (b"1FDXE4FS8HDC1234567890*", None),
])  # fmt: skip
def test_the_vehicles_number_is_heard_when_a_tester_asks_for_it(said: bytes, heard: str | None) -> None:
    diagnostics = J1939Diagnostics()
    diagnostics.take(packets(said, group=65_260))
    assert diagnostics.vin == heard


def test_each_code_of_earlier_is_told_once() -> None:
    codes = PreviousCodes()
    (told,) = codes.take(0, LAMPS, [Code(110, 3, 1)], 0)
    assert (told.active, told.stage, told.spn) == (False, "previous", 110)
    assert codes.take(0, LAMPS, [Code(110, 3, 2)], 1) == []
    hostile = [Code(spn, 1, None) for spn in range(1, 10_000)]
    assert len(codes.take(0, LAMPS, hostile, 2)) < TOLD_AT_ONCE
