"""Sentences: exact values, and nothing invented where the receiver said nothing."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.fix import FixMode
from agent.sources.gnss.nmea_framing import Rejection
from agent.sources.gnss.nmea_sentence import parse_thoroughly as parse
from agent.sources.gnss.sentence import Sentence

TELLING = (
    ",A,V,N,E,W,S,0,1,3,M,T,K,4901.5940,01203.9163,165744,110410,0000.0000,00000.0000,nan,inf,1e5,1_0,-1,"
    "36000.0000,235960,NN"
)
FIELDS = st.one_of(
    st.sampled_from(TELLING.split(",")),
    st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="*$,"), max_size=12),
)


def values(body: str) -> Sentence:
    sentence = parse(body)
    assert isinstance(sentence, Sentence), sentence
    return sentence


def test_rmc_in_full() -> None:
    rmc = values("GNRMC,092542.00,A,4846.4008666,N,00854.7249096,W,19.438,131.9,200420,,,R,V")
    assert (rmc.talker, rmc.type, rmc.is_solution, rmc.valid) == ("GN", "RMC", True, True)
    assert rmc.time_of_day_ms == ((9 * 60 + 25) * 60 + 42) * 1000
    assert rmc.day == date(2020, 4, 20).toordinal() - date(1970, 1, 1).toordinal()
    assert rmc.lat_deg == pytest.approx(48.773347777, abs=1e-9)
    assert rmc.lon_deg == pytest.approx(-8.912081827, abs=1e-9)
    assert rmc.speed_mps == pytest.approx(10.0, abs=1e-3)
    assert rmc.course_deg == 131.9


def test_gga_in_full() -> None:
    gga = values("GPGGA,030719.5,3747.0873,S,17518.8938,E,2,08,1.1,59.9,M,23.7,M,,0000")
    assert (gga.valid, gga.satellites, gga.hdop, gga.alt_m, gga.day) == (True, 8, 1.1, 59.9, None)
    assert gga.time_of_day_ms == 11_239_500
    assert gga.lat_deg == pytest.approx(-37.784788333, abs=1e-9)


def test_zda_has_the_whole_year() -> None:
    zda = values("GPZDA,235960,31,12,2016,00,00")
    assert zda.time_of_day_ms == 86_400_000, "a leap second is the first of the next day, as in Unix time"
    assert zda.has_full_year
    assert zda.valid is None


def test_gsa_and_vtg() -> None:
    gsa = values("GNGSA,A,2,29,20,18,16,51,13,44,26,,,,,0.99,0.54,0.83,1")
    assert (gsa.mode, gsa.hdop, gsa.is_solution) == (FixMode.FIX_2D, 0.54, False)
    assert values("GPGSA,A,1,,,,,,,,,,,,,99.99,99.99,99.99").hdop is None
    vtg = values("GPVTG,360.0,T,,M,3.6,N,6.7,K,A")
    assert vtg.speed_mps == pytest.approx(1.852)
    assert vtg.course_deg == 0.0
    assert values("GPVTG,,,,,,,,,N").speed_mps is None


@pytest.mark.parametrize(
    "body",
    [
        "GPRMC,165744,V,4901.5940,N,01203.9163,E,10.0,131.9,110410,1.6,E,A",
        "GPRMC,165744,A,4901.5940,N,01203.9163,E,10.0,131.9,110410,1.6,E,N",
        "GPRMC,165744,A,4901.5940,N,01203.9163,E,10.0,131.9,110410,1.6,E,S",
        "GPRMC,165744,A,4901.5940,N,01203.9163,E,10.0,131.9,110410,1.6,E,M",
        "GPRMC,165744,,4901.5940,N,01203.9163,E,10.0,131.9,110410,1.6,E,A",
        "GPRMC,000416.984,V,36000.0000,N,72000.0000,E,0.000000,,260120,,",
        "GPGGA,165744,4901.5940,N,01203.9163,E,0,07,1.0,336.7,M,46.6,M,,",
        "GPGGA,165744,4901.5940,N,01203.9163,E,,07,1.0,336.7,M,46.6,M,,",
        "GPGGA,165744,4901.5940,N,01203.9163,E,8,07,1.0,336.7,M,46.6,M,,",
        "GPGLL,4901.5940,N,01203.9163,E,165744,V,A",
        "GPGLL,4901.5940,N,01203.9163,E,165744,A,N",
        "GNGNS,165744,4901.5940,N,01203.9163,E,NNN,07,1.0,336.7,46.6,,,V",
    ],
)
def test_what_is_not_valid_has_no_position_speed_or_height(body: str) -> None:
    sentence = values(body)
    assert sentence.valid is False
    assert (sentence.lat_deg, sentence.lon_deg, sentence.alt_m, sentence.speed_mps) == (
        None,
        None,
        None,
        None,
    )
    assert sentence.time_of_day_ms is not None


def test_an_empty_position_is_none_and_not_zero() -> None:
    gga = values("GPGGA,165744,,,,,1,07,1.0,336.7,M,46.6,M,,")
    assert (gga.valid, gga.lat_deg, gga.lon_deg) == (True, None, None)


def test_the_gns_of_one_constellation_says_nothing_about_validity() -> None:
    gns = values("GPGNS,235647.00,,,,,,6,,,,1.0,0")
    assert (gns.valid, gns.satellites) == (None, 6)
    assert values("GNGNS,051347.00,6001.336799,N,03014.169008,E,NAN,09,0.9,16.5,18.0,,,V").valid is True


@pytest.mark.parametrize(
    "body",
    [
        "GPRMC,16:57:44,A,4901.5940,N,01203.9163,E,0.0,131.9,110410,1.6,E,A",
        "GPRMC,246000,A,4901.5940,N,01203.9163,E,0.0,131.9,110410,1.6,E,A",
        "GPRMC,165760,A,4901.5940,N,01203.9163,E,0.0,131.9,110410,1.6,E,A",
        "GPRMC,165744,X,4901.5940,N,01203.9163,E,0.0,131.9,110410,1.6,E,A",
        "GPRMC,165744,A,4960.0000,N,01203.9163,E,0.0,131.9,110410,1.6,E,A",
        "GPRMC,165744,A,9000.0001,N,01203.9163,E,0.0,131.9,110410,1.6,E,A",
        "GPRMC,165744,A,4901.59.40,N,01203.9163,E,0.0,131.9,110410,1.6,E,A",
        "GPRMC,165744,A,-901.5940,S,01203.9163,E,0.0,131.9,110410,1.6,E,A",
        "GPRMC,165744,A,901.5940,N,-01203.9163,W,0.0,131.9,110410,1.6,E,A",
        "GPRMC,165744,A,901.5940,N,+01203.9163,W,0.0,131.9,110410,1.6,E,A",
        "GPRMC,165744,A,901.5940,N,--1203.9163,E,0.0,131.9,110410,1.6,E,A",
        "GPRMC,165744,A,901.5940,N,.,E,0.0,131.9,110410,1.6,E,A",
        "GPRMC,165744,A,901.5940,N,0001203.9163,E,0.0,131.9,110410,1.6,E,A",
        "GPRMC,5744,A,4901.5940,N,01203.9163,E,0.0,131.9,110410,1.6,E,A",
        "GPRMC,165744,A,4901.5940,E,01203.9163,E,0.0,131.9,110410,1.6,E,A",
        "GPRMC,165744,A,4901.5940,,01203.9163,,0.0,131.9,110410,1.6,E,A",
        "GPRMC,165744,A,4901.5940,N,,E,0.0,131.9,110410,1.6,E,A",
        "GPRMC,165744,A,0000.0000,N,00000.0000,E,0.0,131.9,110410,1.6,E,A",
        "GPRMC,165744,A,4901.5940,N,01203.9163,E,0.0,131.9,310410,1.6,E,A",
        "GPGGA,165744,4901.5940,N,01203.9163,E,x,07,1.0,336.7,M,46.6,M,,",
        "GPGSA,A,7,,05,08,,15,,18,,,26,27,28,2.0,1.0,1.5",
        "GPZDA,165744,32,01,2010,00,00",
        "GPZDA,165744,3x,01,2010,00,00",
    ],
)
def test_a_malformed_field_that_matters_rejects_the_sentence(body: str) -> None:
    assert parse(body) is Rejection.BAD_FIELD


@pytest.mark.parametrize(
    ("latitude", "longitude", "lat_deg", "lon_deg"),
    [
        ("901.5", "7.5", 9.025, 0.125),
        ("1.5", ".75", 0.025, 0.0125),
        ("-0901.5", "-00007.5", -9.025, -0.125),
        ("+0901.5", "-7.5", 9.025, -0.125),
        ("4901", "13", 49 + 1 / 60, 13 / 60),
    ],
)
def test_leading_zeros_may_be_missing_and_a_sign_counts(
    latitude: str, longitude: str, lat_deg: float, lon_deg: float
) -> None:
    rmc = values(f"GPRMC,65744,A,{latitude},N,{longitude},E,0.0,131.9,10410,1.6,E,A")
    assert rmc.lat_deg == pytest.approx(lat_deg)
    assert rmc.lon_deg == pytest.approx(lon_deg)
    assert rmc.time_of_day_ms == ((6 * 60 + 57) * 60 + 44) * 1000
    assert rmc.day == date(2010, 4, 1).toordinal() - date(1970, 1, 1).toordinal()


def test_gst_tells_the_receivers_own_error() -> None:
    gst = values("GNGST,181141.00,46,,,,4.7,1.9,5.3")
    assert gst.error_m == pytest.approx(5.07, abs=0.01)
    assert not gst.is_solution
    assert values("GPGST,232712.000,,,,,,,").error_m is None


def test_a_malformed_course_does_not_cost_the_position() -> None:
    rmc = values("GPRMC,165744,A,4901.5940,N,01203.9163,E,nan,-5,110410,1.6,E,A")
    assert (rmc.speed_mps, rmc.course_deg, rmc.bad_fields) == (None, None, 2)
    assert rmc.lat_deg is not None


def test_course_is_none_when_the_receiver_leaves_it_empty() -> None:
    assert values("GNRMC,181141.00,A,5230.88855,N,01327.85591,E,0.031,,190615,,,A").course_deg is None


@pytest.mark.parametrize(("digits", "year"), [("80", 1980), ("99", 1999), ("00", 2000), ("79", 2079)])
def test_two_digit_years_begin_with_gps_time(digits: str, year: int) -> None:
    rmc = values(f"GPRMC,165744,A,4901.5940,N,01203.9163,E,0.0,131.9,0104{digits},1.6,E,A")
    assert rmc.day == date(year, 4, 1).toordinal() - date(1970, 1, 1).toordinal()


@pytest.mark.parametrize(
    "body", ["GPGSV,1,1,00", "PQGSA,A,3,12", "PGRME,7.6,M,41.7,M,42.4,M", "", "GP", "GPRMB,A"]
)
def test_other_sentences_are_not_looked_at(body: str) -> None:
    assert parse(body) is None


@pytest.mark.parametrize(
    "body", ["GPRMC", "GPRMC,165744,A", "GPGSA,A,3", "GPVTG,131.9,130.3,0.0,0.0", "GPZDA"]
)
def test_missing_fields_are_told(body: str) -> None:
    assert parse(body) is Rejection.MALFORMED


@given(
    st.sampled_from(["GP", "GN", "GL", "GA", "BD", "GB"]),
    st.sampled_from(["RMC", "GGA", "GNS", "GLL", "GSA", "VTG", "ZDA"]),
    st.lists(FIELDS, max_size=20),
)
def test_no_fields_raise_and_none_give_zero_zero(talker: str, kind: str, fields: list[str]) -> None:
    sentence = parse(",".join([talker + kind, *fields]))
    if not isinstance(sentence, Sentence):
        assert isinstance(sentence, Rejection)
        return
    assert (sentence.lat_deg, sentence.lon_deg) != (0, 0)
    assert (sentence.lat_deg is None) == (sentence.lon_deg is None)
    if sentence.lat_deg is not None and sentence.lon_deg is not None:
        assert sentence.valid
        assert abs(sentence.lat_deg) <= 90
        assert abs(sentence.lon_deg) <= 180
    if sentence.course_deg is not None:
        assert 0 <= sentence.course_deg < 360
