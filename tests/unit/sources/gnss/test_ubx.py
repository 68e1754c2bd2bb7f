"""u-blox's binary protocol, against messages that another implementation of it made."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyubx2 import GET, UBXMessage  # type: ignore[import-untyped]  # as its authors left it

from agent.domain.fix import Fix, FixMode
from agent.hal.gnss import NmeaBytes
from agent.sources.gnss.receiver_decoder import ReceiverDecoder
from agent.sources.gnss.ubx import MAX_PAYLOAD_BYTES, UbxFrame, UbxSplitter, geodetic

RMC = b"$GPRMC,113258,A,3238.9148,N,10822.4466,W,005.3,247.1,181022,009.3,E*6B\r\n"


def message(name: str, **fields: Any) -> bytes:
    data: bytes = UBXMessage(name.partition("-")[0], name, GET, **fields).serialize()
    return data


def pvt(second: int = 0, **fields: Any) -> bytes:
    told: dict[str, Any] = {
        "iTOW": 1000 * second,
        "year": 2026,
        "month": 9,
        "day": 14,
        "hour": 12,
        "min": 0,
        "second": second,
        "validDate": 1,
        "validTime": 1,
        "nano": 0,
        "fixType": 3,
        "gnssFixOk": 1,
        "numSV": 11,
        "lat": 42.3583333,
        "lon": -71.065,
        "hMSL": 12_300,
        "hAcc": 1_400,
        "gSpeed": 10_289,
        "headMot": 310.5,
    }
    return message("NAV-PVT", **(told | fields))


def decode(*chunks: bytes) -> list[Fix]:
    decoder = ReceiverDecoder()
    return [fix for chunk in chunks for fix in decoder.feed(NmeaBytes(chunk, 5))] + decoder.finish()


def utc(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def test_pvt_is_a_fix_at_once() -> None:
    (fix,) = ReceiverDecoder().feed(NmeaBytes(pvt(10), 5))
    assert fix.utc_ms == utc("2026-09-14T12:00:10")
    assert fix.lat_deg == pytest.approx(42.3583333, abs=1e-9)
    assert fix.lon_deg == pytest.approx(-71.065, abs=1e-9)
    assert (fix.alt_m, fix.speed_mps) == (12.3, 10.289)
    assert fix.course_deg == pytest.approx(310.5)
    assert (fix.mode, fix.satellites, fix.error_m, fix.hdop) == (FixMode.FIX_3D, 11, 1.4, None)
    assert fix.received_boottime_ns == 5


@pytest.mark.parametrize(
    "fields",
    [
        {"gnssFixOk": 0},
        {"fixType": 0},
        {"fixType": 1},
        {"fixType": 5},
    ],
)
def test_what_is_no_measured_position_is_none(fields: dict[str, Any]) -> None:
    (fix,) = decode(pvt(10, **fields))
    assert (fix.mode, fix.lat_deg, fix.speed_mps, fix.error_m) == (FixMode.NONE, None, None, None)
    assert fix.utc_ms is not None


def test_a_time_that_is_not_valid_is_none_and_a_second_may_be_rounded_up() -> None:
    assert decode(pvt(10, validTime=0))[0].utc_ms is None
    assert decode(pvt(10, nano=-300_000_000))[0].utc_ms == utc("2026-09-14T12:00:09.700")
    assert decode(pvt(10, nano=-300_000))[0].utc_ms == utc("2026-09-14T12:00:10")
    assert decode(pvt(10, month=13)) == []
    assert decode(pvt(10, lat=0, lon=0)) == [], "no road leads to 0/0"


def older(itow_ms: int, *, fix_type: int = 3, ok: int = 1) -> bytes:
    """An epoch of a u-blox 5 or 6, which has no NAV-PVT."""
    return (
        message("NAV-POSLLH", iTOW=itow_ms, lon=-71.065, lat=42.3583333, hMSL=12_300, hAcc=2_500)
        + message("NAV-STATUS", iTOW=itow_ms, gpsFix=fix_type, gpsFixOk=ok)
        + message("NAV-DOP", iTOW=itow_ms, hDOP=1.1)
        + message("NAV-VELNED", iTOW=itow_ms, gSpeed=1029, heading=310.5)
        + message(
            "NAV-TIMEUTC", iTOW=itow_ms, year=2026, month=9, day=14, hour=12, min=0,
            sec=itow_ms // 1000 % 60, nano=0, validUTC=1,
        )
    )  # fmt: skip


def test_the_messages_of_one_epoch_of_an_older_receiver_are_one_fix() -> None:
    first, second = decode(older(129_610_000) + older(129_611_000))
    assert (first.utc_ms, second.utc_ms) == (utc("2026-09-14T12:00:10"), utc("2026-09-14T12:00:11"))
    assert first.lat_deg == pytest.approx(42.3583333, abs=1e-9)
    assert first.speed_mps == 10.29
    assert first.course_deg == pytest.approx(310.5)
    assert (first.hdop, first.error_m, first.mode) == (1.1, 2.5, FixMode.FIX_3D)
    assert not decode(older(129_610_000, ok=0))[0].has_position
    assert not decode(older(129_610_000, fix_type=0))[0].has_position


def test_a_position_in_ecef_with_week_and_leap_seconds_is_a_fix_too() -> None:
    lat, lon = math.radians(42.3583333), math.radians(-71.065)
    n_m = 6_378_137.0 / math.sqrt(1 - 0.00669437999014 * math.sin(lat) ** 2)
    x, y = n_m * math.cos(lat) * math.cos(lon), n_m * math.cos(lat) * math.sin(lon)
    z = n_m * (1 - 0.00669437999014) * math.sin(lat)
    itow_ms = 129_628_000  # Monday 2026-09-14 12:00:10 UTC, 18 leap seconds later
    data = message("NAV-TIMEGPS", iTOW=itow_ms, week=2436, leapS=18, towValid=1, weekValid=1, leapSValid=1)
    data += message(
        "NAV-SOL", iTOW=itow_ms, week=2436, gpsFix=3, gpsfixOK=1, wknSet=1, towSet=1, numSV=7,
        ecefX=round(x * 100), ecefY=round(y * 100), ecefZ=round(z * 100), pAcc=420,
    )  # fmt: skip
    (fix,) = decode(data)
    assert fix.utc_ms == utc("2026-09-14T12:00:10")
    assert fix.lat_deg == pytest.approx(42.3583333, abs=2e-7)
    assert fix.lon_deg == pytest.approx(-71.065, abs=2e-7)
    assert (fix.satellites, fix.error_m) == (7, 4.2)


@given(st.floats(-89.9, 89.9), st.floats(-179.9, 179.9), st.floats(-100, 9000))
def test_an_earth_centred_point_is_found_on_the_ellipsoid(
    lat_deg: float, lon_deg: float, height_m: float
) -> None:
    lat, lon = math.radians(lat_deg), math.radians(lon_deg)
    n_m = 6_378_137.0 / math.sqrt(1 - 0.0066943799901413 * math.sin(lat) ** 2)
    found = geodetic(
        (n_m + height_m) * math.cos(lat) * math.cos(lon),
        (n_m + height_m) * math.cos(lat) * math.sin(lon),
        (n_m * (1 - 0.0066943799901413) + height_m) * math.sin(lat),
    )
    assert found[0] == pytest.approx(lat_deg, abs=1e-8)
    assert found[1] == pytest.approx(lon_deg, abs=1e-8)
    assert found[2] == pytest.approx(height_m, abs=1e-3)


def test_an_epoch_that_nmea_and_ubx_both_tell_is_one_fix() -> None:
    def rmc(second: int) -> bytes:
        body = f"GNRMC,1200{second}.00,A,4221.5000,N,07103.9000,W,20.0,310.0,140926,,,A"
        total = 0
        for letter in body.encode():
            total ^= letter
        return f"${body}*{total:02X}\r\n".encode()

    fixes = decode(*(rmc(second) + pvt(second) for second in range(10, 20)))
    assert [fix.utc_ms for fix in fixes] == [utc(f"2026-09-14T12:00:{second}") for second in range(10, 20)]


def test_what_the_receiver_says_of_its_radio_is_kept() -> None:
    decoder = ReceiverDecoder()
    rf = message(
        "MON-RF", version=0, nBlocks=2, blockId_01=0, jammingState_01=1, antStatus_01=2, blockId_02=1,
        jammingState_02=3, antStatus_02=4,
    )  # fmt: skip
    decoder.feed(NmeaBytes(rf + message("NAV-STATUS", iTOW=1, gpsFix=3, gpsFixOk=1, spoofDetState=2), 0))
    assert (decoder.ubx.radio.jamming, decoder.ubx.radio.spoofing) == (3, 2)
    assert decoder.ubx.radio.antenna == "open"


PIECES = st.one_of(
    st.sampled_from(
        [pvt(1), pvt(2), older(129_610_000), RMC, b"\xb5", b"\xb5\x62", b"\xb5\x62\x01\x07\xff\xff", b"\r\n"]
    ),
    st.binary(max_size=20),
    st.tuples(st.sampled_from([pvt(1), older(129_610_000)]), st.integers(0, 400)).map(
        lambda cut: cut[0][: cut[1]]
    ),
)


@given(st.lists(PIECES, max_size=12).map(b"".join), st.lists(st.integers(1, 90), min_size=1, max_size=30))
def test_no_bytes_raise_and_how_they_are_split_does_not_matter(data: bytes, sizes: list[int]) -> None:
    chunks, rest = [], data
    for size in sizes:
        chunks.append(rest[:size])
        rest = rest[size:]
    fixes = decode(*chunks, rest)
    assert fixes == decode(data)
    truths = {(42.3583333, -71.065), (32.64858, -108.37411)}
    for fix in fixes:
        if fix.lat_deg is not None and fix.lon_deg is not None:
            assert (round(fix.lat_deg, 7), round(fix.lon_deg, 7)) in truths


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_a_flipped_bit_makes_no_position(at: int, bit: int) -> None:
    data = bytearray(pvt(10) + pvt(11))
    data[at % len(data)] ^= 1 << bit
    for fix in decode(bytes(data)):
        if fix.has_position:
            assert fix.lat_deg == pytest.approx(42.3583333, abs=1e-9)


def test_a_length_that_no_message_has_holds_nothing_up() -> None:
    splitter = UbxSplitter()
    parts = splitter.feed(
        b"\xb5\x62\x01\x07" + (MAX_PAYLOAD_BYTES + 1).to_bytes(2, "little") + RMC + pvt(1), 0
    )
    assert [part for part in parts if isinstance(part, UbxFrame)]
    assert b"$GPRMC" in b"".join(part for part in parts if isinstance(part, bytes))
