"""The quick reader of usual sentences says what the thorough one says, on all that was ever recorded."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import pynmea2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sources.gnss.nmea_framing import Frame, NmeaFramer
from agent.sources.gnss.nmea_sentence import parse_thoroughly
from agent.sources.gnss.nmea_usual import read_usual
from agent.sources.gnss.sentence import MPS_PER_KNOT

FEEDS = Path(__file__).resolve().parents[3] / "shared" / "feeds"


@cache
def recorded() -> list[str]:
    """Every sentence with a right checksum of the recorded logs, once each."""
    bodies: dict[str, None] = {}
    for log in sorted([*FEEDS.glob("gpsd/*.log"), *FEEDS.glob("nmea_drives/*"), *FEEDS.glob("cases/*.nmea")]):
        framer = NmeaFramer()
        for frame in [*framer.feed(log.read_bytes(), 0), *framer.finish()]:
            if isinstance(frame, Frame):
                bodies[frame.body] = None
    return list(bodies)


def test_on_every_recorded_sentence_both_say_the_same(feeds: Path) -> None:
    assert feeds == FEEDS
    quick = [(body, sentence) for body in recorded() if (sentence := read_usual(body)) is not None]
    assert len(quick) > 2000
    for body, sentence in quick:
        assert sentence == parse_thoroughly(body), body


def test_on_every_recorded_position_pynmea2_agrees(feeds: Path) -> None:
    compared = 0
    for body in recorded():
        sentence = read_usual(body)
        if sentence is None or sentence.lat_deg is None or sentence.lon_deg is None:
            continue
        theirs = pynmea2.parse("$" + body)
        assert sentence.lat_deg == pytest.approx(theirs.latitude, abs=1e-9), body
        assert sentence.lon_deg == pytest.approx(theirs.longitude, abs=1e-9), body
        if sentence.type == "RMC":
            assert sentence.speed_mps == pytest.approx(float(theirs.spd_over_grnd) * MPS_PER_KNOT), body
        compared += 1
    assert compared > 1500


LETTERS = ["", "A", "V", "N", "E", "S", "W", "D", "M", "T", "K", " ", "1e5", "1_0", "-5.3"]
NUMBERS = ["0", "1", "3", "00", "08", "12", "1.1", "99.99", "0.0", "360.0", "359.99", "140926", "310226"]
TIMES_AND_PLACES = [
    "123519", "123519.123", "235960", "240000", "4221.5000", "4260.0", "9000.00", "07103.9000", "18000.00",
    "00000.0000", "0000.00",
]  # fmt: skip
TEXTS = [*LETTERS, *NUMBERS, *TIMES_AND_PLACES]
"""What a field may hold: usual, empty, at the edge and beyond."""


@given(
    st.sampled_from(
        [
            "GNRMC,123519.12,A,4221.5000,N,07103.9000,W,20.0,310.0,140926,,,A,V",
            "GPGGA,123519,4221.50000,N,07103.90000,W,1,08,1.1,12.0,M,-33.0,M,,0000",
            "GNRMC,123519.12,V,,,,,,,140926,,,N,V",
            "GNGGA,123519.00,,,,,0,03,99.99,,M,,M,,",
            "GNGSA,A,1,,,,,,,,,,,,,99.99,99.99,99.99,2",
            "GNGLL,4221.5000,N,07103.9000,W,123519.00,A,D",
            "GNGSA,A,3,29,20,18,16,51,13,44,26,,,,,0.99,0.54,0.83,1",
            "GPVTG,310.0,T,,M,20.0,N,37.0,K,A",
        ]
    ),
    st.lists(st.tuples(st.integers(0, 19), st.sampled_from(TEXTS)), max_size=3),
)
def test_on_whatever_may_be_written_both_say_the_same(body: str, changes: list[tuple[int, str]]) -> None:
    fields = body.split(",")
    for at, text in changes:
        fields[1 + at % (len(fields) - 1)] = text
    changed = ",".join(fields)
    quick = read_usual(changed)
    assert quick is None or quick == parse_thoroughly(changed)


def test_on_mangled_recordings_both_say_the_same(feeds: Path) -> None:
    assert feeds == FEEDS
    rng, letters, quick = random.Random(6), "0123456789.,-+NSEWAVDM T", 0
    bodies = [body for body in recorded() if read_usual(body) is not None]
    for _ in range(20_000):
        mangled = list(rng.choice(bodies))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(5, len(mangled))
            mangled[at : at + rng.randrange(2)] = [rng.choice(letters)] * rng.randrange(2)
        body = "".join(mangled)
        if (sentence := read_usual(body)) is not None:
            assert sentence == parse_thoroughly(body), body
            quick += 1
    assert quick > 2000
