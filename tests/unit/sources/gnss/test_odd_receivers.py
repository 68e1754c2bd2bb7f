"""Receivers that speak oddly: what stands between, in front of and in place of the usual sentences."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.domain.fix import Fix, FixMode
from agent.hal.gnss import NmeaBytes
from agent.sources.gnss.nmea_framing import checksum
from agent.sources.gnss.receiver_decoder import ReceiverDecoder

EPOCHS = 8
S = 1_000_000_000


def line(body: str) -> bytes:
    return f"${body}*{checksum(body.encode()):02X}\r\n".encode()


def place(epoch: int) -> tuple[float, float]:
    return 42 + (10 + epoch / 100) / 60, -71 - (5 + epoch / 100) / 60


def where(epoch: int) -> str:
    return f"42{10 + epoch / 100:07.4f},N,071{5 + epoch / 100:07.4f},W"


def rmc(epoch: int, talker: str = "GP", status: str = "A") -> bytes:
    if status == "V":
        return line(f"{talker}RMC,1200{epoch:02d}.00,V,,,,,,,140926,,,N")
    return line(f"{talker}RMC,1200{epoch:02d}.00,A,{where(epoch)},20.0,310.0,140926,,,A")


def gga(epoch: int, talker: str = "GP", quality: int = 1, satellites: int = 8) -> bytes:
    at = where(epoch) if quality else ",,,"
    return line(f"{talker}GGA,1200{epoch:02d}.00,{at},{quality},{satellites:02d},0.9,12.0,M,-33.0,M,,")


def gsa(talker: str, mode: int, satellites: int, system: str = "") -> bytes:
    used = ",".join([f"{n + 1:02d}" for n in range(satellites)] + [""] * (12 - satellites))
    return line(f"{talker}GSA,A,{mode},{used},1.9,0.9,1.6{system}")


UBX = bytes.fromhex("b5620501020006010f38")
ODD: dict[str, Callable[[int], bytes]] = {
    "rmc only": rmc,
    "rmc only, another talker each second": lambda e: rmc(e, ("GP", "GN", "GL", "GA", "GB")[e % 5]),
    "mixed talkers": lambda e: rmc(e, "GN") + gga(e, "GP") + line(f"GLGLL,{where(e)},1200{e:02d}.00,A,A"),
    "a gsa of each constellation, those not used without a fix": lambda e: (
        gga(e, "GN") + gsa("GN", 3, 6, ",1") + gsa("GN", 1, 0, ",2") + gsa("GN", 1, 0, ",3") + rmc(e, "GN")
    ),
    "gn and gp gsa": lambda e: rmc(e) + gga(e) + gsa("GP", 3, 6) + gsa("GL", 3, 4) + gsa("GN", 3, 10),
    "two constellations with a gga each": lambda e: (
        gga(e, "GP", satellites=5) + gga(e, "GL", satellites=4) + rmc(e, "GN")
    ),
    "one of two constellations without a position": lambda e: (
        gga(e, "GP", satellites=5) + gga(e, "GL", 0, 0) + rmc(e, "GN")
    ),
    "zda first": lambda e: line(f"GPZDA,1200{e:02d}.00,14,09,2026,00,00") + gga(e) + rmc(e),
    "proprietary between": lambda e: (
        line("PMTK010,001") + rmc(e) + line("PGRME,3.0,M,5.0,M,6.0,M") + line("PQGSA,A,1") + gga(e)
        + line("PUBX,00,120000.00,4210.0,N,07105.0,W,NF,5,5,0,0,0,0,0,0,0,0,0,0,0")
    ),
    "garmin's mode and a map": lambda e: rmc(e) + line("PGRMM,WGS 84") + line("GPBOD,,T,,M,,") + gga(e),
    "binary between": lambda e: UBX + rmc(e) + b"\x10\x02\x8f\x20\x00\x10\x03" + UBX + gga(e),
    "a checksum missing": lambda e: rmc(e) + b"$GPGLL,0000.000,N,00000.000,E,120000,A\r\n" + gga(e),
    "a wrong checksum with another place": lambda e: (
        rmc(e) + gga(e).replace(b"42", b"43", 1) + gga(e)
    ),
    "nothing but line feeds": lambda e: (rmc(e) + gga(e)).replace(b"\r\n", b"\n"),
    "empty lines and blanks": lambda e: b"\r\n \r\n" + rmc(e) + b"\r\n\n" + gga(e) + b"\0\0",
    "tag blocks": lambda e: b"\\s:rx,c:1*00\\" + rmc(e) + b"\\g:1-2-3*00\\" + gga(e),
    "ais between": lambda e: rmc(e) + b"!AIVDM,1,1,,A,14eG;o@034o8sd<L9i:a;WF>062D,0*7D\r\n" + gga(e),
    "fields of later standards": lambda e: (
        line(f"GNRMC,1200{e:02d}.00,A,{where(e)},20.0,310.0,140926,1.5,W,D,V,C,9") + gga(e, "GN")
    ),
    "every sentence twice": lambda e: rmc(e) * 2 + gga(e) * 2,
}  # fmt: skip


def heard(data: list[bytes], *, paused: bool, at_once: bool) -> list[Fix]:
    decoder, fixes = ReceiverDecoder(), list[Fix]()
    if at_once:
        data = [b"".join(data)]
    for number, chunk in enumerate(data):
        fixes += decoder.feed(NmeaBytes(chunk, number * S if paused else 0))
    return fixes + decoder.finish()


@pytest.mark.parametrize("how", ["live", "file", "at once"])
@pytest.mark.parametrize("name", ODD)
def test_each_epoch_is_one_fix_with_its_own_place(name: str, how: str) -> None:
    said = [ODD[name](epoch) for epoch in range(EPOCHS)]
    fixes = heard(said, paused=how == "live", at_once=how == "at once")
    placed = [fix for fix in fixes if fix.has_position]
    assert len(placed) == EPOCHS
    for epoch, fix in enumerate(placed):
        assert (fix.lat_deg, fix.lon_deg) == pytest.approx(place(epoch), abs=5e-7)
        assert fix.utc_ms is not None
        assert fix.utc_ms % 60_000 == epoch * 1000
        assert fix.speed_mps == pytest.approx(10.289, abs=0.001)


@pytest.mark.parametrize("how", ["live", "file", "at once"])
def test_epochs_without_a_fix_have_their_time_and_no_place(how: str) -> None:
    said = [
        rmc(e, status="V") + gga(e, quality=0) + gsa("GP", 1, 0)
        if e % 3
        else rmc(e) + gga(e) + gsa("GP", 3, 6)
        for e in range(EPOCHS)
    ]  # fmt: skip
    fixes = heard(said, paused=how == "live", at_once=how == "at once")
    assert [fix.has_position for fix in fixes] == [e % 3 == 0 for e in range(EPOCHS)]
    assert [(fix.utc_ms or 0) % 60_000 for fix in fixes] == [e * 1000 for e in range(EPOCHS)]
    assert all(fix.mode is FixMode.NONE for fix in fixes if not fix.has_position)


def test_a_mark_of_byte_order_in_front_of_a_log_costs_nothing() -> None:
    said = [b"\xef\xbb\xbf" + rmc(0) + gga(0), *(rmc(e) + gga(e) for e in range(1, EPOCHS))]
    fixes = heard(said, paused=False, at_once=True)
    assert len([fix for fix in fixes if fix.has_position]) == EPOCHS


def test_a_leap_second_is_an_epoch_of_its_own() -> None:
    times = ["235958", "235959", "235960", "000000", "000001"]
    said = []
    for epoch, time in enumerate(times):
        day = "311226" if time.startswith("23") else "010127"
        said.append(line(f"GPRMC,{time}.00,A,{where(epoch)},20.0,310.0,{day},,,A"))
    placed = [fix for fix in heard(said, paused=True, at_once=False) if fix.has_position]
    assert [(fix.lat_deg, fix.lon_deg) for fix in placed] == [
        pytest.approx(place(epoch), abs=5e-7) for epoch in range(5)
    ]
