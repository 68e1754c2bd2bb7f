"""What a technician is told of a bus: identifiers, rates, the bit rate, and which known signals appear."""

from __future__ import annotations

import random

import pytest

from agent.hal.can import CanFrame
from agent.sources.can.bus_survey import BusSurvey, in_order
from agent.sources.can.can_decoder import BitField, CanDecoder, MessageLayout, SignalLayout
from agent.sources.can.dbc_excerpt import parse_dbc

MS = 1_000_000


def layout(name: str, can_id: int, signal: str) -> MessageLayout:
    byte = SignalLayout(name=signal, unit="km/h", bits=BitField(0, 0xFF, False), values={255: None})
    return MessageLayout(name, can_id, False, 1, (byte,), 0xFF, False)


def queued(bit_rate: int, *, extended: bool, count: int = 400, share: float = 0.3) -> list[CanFrame]:
    """Frames with the stamps of a controller: some queue behind the one before, most come later."""
    rng = random.Random(7)
    at_ns, frames = 0.0, []
    for _ in range(count):
        data = rng.randbytes(8)
        bits = (67 if extended else 47) + 64 + rng.randrange(4, 16)
        at_ns += bits / bit_rate * 1e9 + (0 if rng.random() < share else rng.uniform(0.3, 4) * MS)
        frames.append(CanFrame(rng.randrange(0x100, 0x140), extended, data, round(at_ns)))
    return frames


@pytest.mark.parametrize("bit_rate", [1_000_000, 500_000, 250_000, 125_000])
@pytest.mark.parametrize("extended", [False, True])
def test_the_bit_rate_is_guessed_from_frames_that_queue(bit_rate: int, extended: bool) -> None:
    survey = BusSurvey()
    for frame in queued(bit_rate, extended=extended):
        survey.take(frame)
    assert survey.guess().bit_rate == bit_rate
    assert "follow each other" in survey.guess().why


def test_without_fine_stamps_the_usual_rate_is_guessed_and_said_so() -> None:
    for extended, expected in ((False, 500_000), (True, 250_000)):
        survey = BusSurvey()
        for number in range(500):
            survey.take(CanFrame(0x100, extended, bytes(8), number // 10 * 20 * MS))
        assert survey.guess().bit_rate == expected
        assert "the stamps do not tell" in survey.guess().why


def test_a_load_rules_out_what_is_too_low() -> None:
    survey = BusSurvey()
    for number in range(6000):  # 3,000 extended frames a second in batches: more than 250 kbit/s
        survey.take(CanFrame(0x100, True, bytes(8), number // 60 * 20 * MS))
    assert survey.guess().bit_rate == 500_000
    assert "rule out less" in survey.guess().why


def test_too_little_tells_nothing() -> None:
    survey = BusSurvey()
    assert (survey.guess().bit_rate, survey.bits_per_s, survey.span_s) == (None, None, 0)
    survey.take(CanFrame(1, False, b"", 5))
    assert survey.guess().bit_rate is None
    assert survey.identifiers[1, False].rate_per_s is None


def test_identifiers_with_rates_and_what_they_are() -> None:
    decoder = CanDecoder([layout("MOTION", 0x120, "Speed"), layout("HEAT", 0x130, "Exterior.AirTemperature")])
    dbc = parse_dbc('BO_ 288 MOTION: 8 X\nBO_ 512 OTHER: 8 X\n SG_ A : 0|8@1+ (1,0) [0|0] "" X\n')
    survey = BusSurvey(decoder, dbc)
    for number in range(11):
        survey.take(CanFrame(0x120, False, bytes([number // 4]), number * 100 * MS))
        survey.take(CanFrame(0x200, False, b"\0" * (1 + number % 2), number * 100 * MS))
    survey.take(CanFrame(0x18FEF100, True, b"", 1001 * MS))
    first, second, third = in_order(survey.identifiers.values())
    assert (first.text, first.frames, first.changes, first.rate_per_s) == ("120", 11, 2, 10)
    assert (second.text, second.lengths) == ("200", {1, 2})
    assert (third.text, third.rate_per_s) == ("18FEF100", None)
    assert [survey.what_is(one) for one in (first, second, third)] == ["Speed", "(OTHER)", ""]
    assert survey.signals == {"Speed": 2}
    assert [signal.name for signal in survey.unheard()] == ["Exterior.AirTemperature"]


def test_a_hostile_bus_takes_no_memory() -> None:
    survey = BusSurvey()
    for number in range(10_000):
        survey.take(CanFrame(number * 997 % 0x1FFFFFFF, True, b"", number))
    assert len(survey.identifiers) == 4096
    assert survey.left_out == 10_000 - 4096
