"""What receivers say of satellites, and what a technician is told of it."""

from __future__ import annotations

import asyncio
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli import sky as command
from agent.cli.exit_code import ExitCode
from agent.domain.fix import Fix, FixMode
from agent.domain.health import HealthBoard
from agent.hal.gnss import NmeaBytes
from agent.sources.gnss.gnss_source import GnssSource
from agent.sources.gnss.gpsd_json import GpsdDecoder
from agent.sources.gnss.nmea_framing import checksum
from agent.sources.gnss.receiver_decoder import ReceiverDecoder
from agent.sources.gnss.sky import FRESH_NS, MOST_SATELLITES, Satellite, Sky
from agent.sources.gnss.ubx import SYNC
from agent.sources.gnss.ubx import checksum as ubx_checksum
from tests.unit.sources.gnss.test_nmea_gnss_source import TimedFeed, simulate

S = 1_000_000_000


def nmea(*bodies: str) -> bytes:
    return b"".join(f"${body}*{checksum(body.encode()):02X}\r\n".encode() for body in bodies)


def test_satellites_of_nmea_are_told_with_the_best_of_their_signals() -> None:
    decoder = ReceiverDecoder()
    decoder.feed(
        NmeaBytes(
            nmea(
                "GPGSV,2,1,05,01,40,083,46,02,17,308,,12,07,344,39,14,22,228,45,1",
                "GPGSV,2,2,05,24,,,31,1",
                "GPGSV,1,1,01,01,40,083,49,6",
                "GAGSV,1,1,01,01,05,010,20,7",
                "GLGSV,1,1,00",
            ),
            S,
        )
    )
    satellites = decoder.sky.satellites(2 * S)
    assert satellites is not None
    assert satellites[0] == Satellite("GPS", 1, 40, 83, 49)
    assert [(one.system, one.number, one.signal_dbhz) for one in satellites[1:]] == [
        ("GPS", 14, 45),
        ("GPS", 12, 39),
        ("GPS", 24, 31),
        ("Galileo", 1, 20),
        ("GPS", 2, None),
    ]
    assert decoder.sky.satellites(S + FRESH_NS + 1) is None  # no longer the sky


def test_satellites_of_ubx_say_whether_they_are_used() -> None:
    payload = struct.pack("<IBBH", 0, 1, 2, 0)
    payload += struct.pack("<BBBbhhI", 6, 9, 33, 51, 120, 0, 1 << 3)
    payload += struct.pack("<BBBbhhI", 0, 7, 0, -91, 0, 0, 0)
    body = bytes([0x01, 0x35]) + struct.pack("<H", len(payload)) + payload
    decoder = ReceiverDecoder()
    decoder.feed(NmeaBytes(SYNC + body + ubx_checksum(body), S))
    assert decoder.sky.satellites(S) == [
        Satellite("GLONASS", 9, 51, 120, 33, True),
        Satellite("GPS", 7, None, None, None, False),
    ]


def test_satellites_of_gpsd() -> None:
    decoder = GpsdDecoder()
    said = {
        "class": "SKY",
        "satellites": [
            {"PRN": 5, "gnssid": 2, "svid": 5, "el": 30.0, "az": 12.0, "ss": 41.5, "used": True},
            {"PRN": 9},
            {"PRN": "x"},
            7,
        ],
    }
    decoder.feed(NmeaBytes(json.dumps(said).encode() + b"\n", S))
    assert decoder.sky.satellites(S) == [Satellite("Galileo", 5, 30, 12, 42, True), Satellite("?", 9)]


@given(
    st.lists(st.text(max_size=80), max_size=80),
    st.binary(max_size=3000),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    ),
)
def test_no_input_breaks_it_or_makes_it_grow(bodies: list[str], payload: bytes, satellites: Any) -> None:
    one = Sky()
    for body in bodies:
        one.take_gsv("GPGSV," + body, S)
    one.take_nav_sat(payload, S)
    one.take_gpsd(satellites, S)
    told = one.satellites(S)
    assert told is not None
    assert len(told) <= MOST_SATELLITES


def why(*bodies: str, fix: bool = False) -> tuple[dict[str, Any], str]:
    """The snapshot after an epoch with these sentences."""
    source = GnssSource(TimedFeed([]), HealthBoard(), silent_after_s=3)
    decoder = source._decoder = ReceiverDecoder()
    decoder.feed(NmeaBytes(nmea(*bodies), S))
    lat_deg, lon_deg = (42.0, -71.0) if fix else (None, None)
    mode = FixMode.FIX_3D if fix else FixMode.NONE
    source._last = Fix(
        None, lat_deg, lon_deg, None, None, None, mode, 7 if fix else 0, 0.9 if fix else None, S
    )
    snapshot = source.snapshot(2 * S)
    return snapshot, " ".join(snapshot["why_no_fix"])


def test_why_there_is_no_fix() -> None:
    assert "does not tell" in why()[1]
    assert "no satellite is heard" in why("GPGSV,1,1,02,01,40,083,,02,17,308,")[1]
    weak = why("GPGSV,1,1,03,01,40,083,20,02,17,308,31,03,17,308,29")[1]
    assert "3 satellites are heard, 1 of them" in weak
    strong = why("GPGSV,1,1,04,01,40,083,40,02,17,308,31,03,17,308,39,04,17,308,39")[1]
    assert "a minute or two" in strong
    placed, none = why(fix=True)
    assert (placed["fix"], placed["satellites_used"], placed["hdop"], none) == ("3D", 7, 0.9, "")
    gone = GnssSource(TimedFeed([]), HealthBoard(), silent_after_s=3).snapshot(S)
    assert "not there" in gone["why_no_fix"][0]


def test_snapshot_follows_a_receiver_that_runs() -> None:
    async def work() -> None:
        gga = nmea("GPGSV,1,1,01,01,40,083,46", "GPGGA,120010.00,4221.5,N,07103.9,W,1,07,0.9,12,M,,M,,")
        source = GnssSource(TimedFeed([(1.0, gga)]), HealthBoard(), silent_after_s=3)
        running = asyncio.create_task(source.run(lambda _: None, lambda: None))
        while source._last is None:
            await asyncio.sleep(0.1)
        told = source.snapshot(source._last.received_boottime_ns)
        assert (told["fix"] != "none", told["satellites"][0]["number"]) == (True, 1)
        running.cancel()
        await asyncio.wait({running})
        assert source.snapshot(0)["satellites"] is None

    simulate(work())


def test_page_and_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    snapshot, _ = why("GPGSV,1,1,02,01,40,083,46,02,17,308,")
    answer = {"current": "roof", "receivers": {"roof": json.loads(json.dumps(snapshot))}}
    lines = command.page(answer)
    assert lines[0] == "roof"
    assert any("GPS        1   40   83  46 dBHz  ####" in line for line in lines)
    assert any("not heard" in line for line in lines)
    assert command.page({"receivers": {}}) == ["no receiver is configured"]
    monkeypatch.setattr(command, "asked", lambda *_: answer)
    assert command.sky(None, tmp_path, as_json=True, live=False) is ExitCode.OK
    assert json.loads(capsys.readouterr().out) == answer
