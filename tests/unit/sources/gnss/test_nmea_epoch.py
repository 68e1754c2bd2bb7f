"""Epochs: one fix each, as early as can be, and no position that any sentence denies."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.fix import Fix, FixMode
from agent.hal.gnss import NmeaBytes
from agent.sources.gnss.nmea_epoch import IDLE_GAP_NS
from agent.sources.gnss.nmea_framing import Rejection, checksum
from agent.sources.gnss.receiver_decoder import ReceiverDecoder

WHERE = "4221.5000,N,07103.6000,W"
MS = 1_000_000


def line(body: str) -> bytes:
    return f"${body}*{checksum(body.encode()):02X}\r\n".encode()


def rmc(
    time: str, *, status: str = "A", date: str = "210726", talker: str = "GN", where: str = WHERE
) -> bytes:
    return line(f"{talker}RMC,{time},{status},{where},10.0,90.0,{date},,,{'A' if status == 'A' else 'N'}")


def gga(time: str, *, quality: int = 1, talker: str = "GN", where: str = WHERE, alt: str = "12.5") -> bytes:
    return line(f"{talker}GGA,{time},{where},{quality},09,0.9,{alt},M,-33.0,M,,")


def gsa(mode: int = 3, talker: str = "GN") -> bytes:
    return line(f"{talker}GSA,A,{mode},01,02,03,04,,,,,,,,,1.5,0.9,1.2")


def decode(*chunks: bytes, decoder: ReceiverDecoder | None = None) -> list[Fix]:
    decoder = decoder or ReceiverDecoder()
    fixes = [fix for chunk in chunks for fix in decoder.feed(NmeaBytes(chunk, 5))]
    return fixes + decoder.finish()


def utc(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def test_the_sentences_of_an_epoch_are_one_fix() -> None:
    (fix,) = decode(rmc("120000.25") + gga("120000.25") + gsa(2))
    assert fix.utc_ms == utc("2026-07-21T12:00:00.250")
    assert fix.lat_deg == pytest.approx(42 + 21.5 / 60)
    assert fix.lon_deg == pytest.approx(-71 - 3.6 / 60)
    assert fix.speed_mps == pytest.approx(5.1444, abs=1e-4)
    assert (fix.alt_m, fix.course_deg, fix.mode) == (12.5, 90.0, FixMode.FIX_2D)
    assert (fix.satellites, fix.hdop, fix.received_boottime_ns) == (9, 0.9, 5)


@pytest.mark.parametrize(
    "epoch",
    [
        rmc("120000", status="V") + gga("120000"),
        rmc("120000") + gga("120000", quality=0),
        rmc("120000") + gga("120000") + line(f"GNGLL,{WHERE},120000,V,N"),
        rmc("120000", status="V") + gga("120000") + gsa(3),
        gsa(1) + rmc("120000", where=",,,"),
    ],
)
def test_one_denial_is_enough(epoch: bytes) -> None:
    (fix,) = decode(epoch)
    assert not fix.has_position
    assert fix.mode is FixMode.NONE
    assert (fix.lat_deg, fix.lon_deg, fix.alt_m, fix.speed_mps, fix.course_deg, fix.hdop) == (None,) * 6
    assert fix.utc_ms == utc("2026-07-21T12:00:00")


def test_what_has_no_time_may_be_older_and_contradicts_nothing() -> None:
    (fix,) = decode(gsa(1) + rmc("120000") + gga("120000") + gsa(1))
    assert fix.has_position
    assert fix.mode is FixMode.FIX_3D, "it has a height, and who says no fix says nothing of dimensions"
    (fix,) = decode(rmc("120000") + gga("", quality=0, where=",,,"))
    assert fix.has_position


def test_the_common_solution_outranks_a_single_constellation() -> None:
    void_galileo = rmc("120000", talker="GA", status="V") + gsa(1, "GA")
    assert decode(rmc("120000", talker="GP") + void_galileo + gsa(3, "GP"))[0].has_position
    assert decode(rmc("120000", talker="GA", status="V") + rmc("120000") + gsa(3))[0].has_position
    assert not decode(rmc("120000", talker="GP") + rmc("120000", status="V") + gsa(3))[0].has_position
    assert not decode(rmc("120000", status="V") + rmc("120000", talker="GP") + gsa(3))[0].has_position


def test_empty_times_before_the_first_fix_still_make_epochs() -> None:
    epoch = line("GPGGA,,,,,,0,00,99.99,,,,,,") + line("GPRMC,,V,,,,,,,,,,N") + line("GPGLL,,,,,,V,N")
    fixes = decode(epoch * 3)
    assert len(fixes) == 3
    assert all(fix.utc_ms is None and fix.mode is FixMode.NONE for fix in fixes)


def test_sentences_that_say_nothing_of_a_fix_make_none() -> None:
    assert decode(line("GPVTG,,,,,,,,,N") + gsa(1) + line("GPZDA,120000,21,07,2026,,") + gsa(1)) == []


def test_the_date_is_carried_to_epochs_that_do_not_tell_it_and_over_midnight() -> None:
    fixes = decode(rmc("235959") + gga("000000") + gga("000001") + rmc("000002", date="220726"))
    assert [fix.utc_ms for fix in fixes] == [
        utc("2026-07-21T23:59:59"),
        utc("2026-07-22T00:00:00"),
        utc("2026-07-22T00:00:01"),
        utc("2026-07-22T00:00:02"),
    ]
    assert decode(gga("120000"))[0].utc_ms is None, "a time without a date is no UTC"


def test_a_four_digit_year_wins() -> None:
    (fix,) = decode(rmc("120000", date="210706") + line("GNZDA,120000,21,07,2026,00,00"))
    assert fix.utc_ms == utc("2026-07-21T12:00:00")


def test_a_fix_comes_with_the_last_sentence_once_the_habit_is_known() -> None:
    decoder = ReceiverDecoder()
    for second in range(4):
        burst = [rmc(f"12000{second}"), gga(f"12000{second}"), gsa(), gsa()]
        at_ns = second * 1000 * MS
        fixes = [fix for chunk in burst for fix in decoder.feed(NmeaBytes(chunk, at_ns))]
        if second < 3:
            assert fixes == []
            assert decoder.idle_gap_s == IDLE_GAP_NS / 1e9
            fixes = decoder.idle()
        assert [fix.received_boottime_ns for fix in fixes] == [at_ns]
        assert decoder.idle_gap_s is None


def test_a_pause_between_reads_ends_the_epoch_like_a_timer_would() -> None:
    decoder = ReceiverDecoder()
    assert decoder.feed(NmeaBytes(rmc("120000"), 0)) == []
    assert len(decoder.feed(NmeaBytes(b"$", IDLE_GAP_NS))) == 1


def test_what_comes_after_a_wrongly_learned_end_is_dropped_and_learned() -> None:
    decoder = ReceiverDecoder()
    for second in range(3):
        decoder.feed(NmeaBytes(rmc(f"12000{second}"), 0))
        assert len(decoder.idle()) == 1
    assert len(decoder.feed(NmeaBytes(rmc("120003"), 0))) == 1
    assert decoder.feed(NmeaBytes(gga("120003"), 0)) == [], "its fix is out already"
    assert decoder.feed(NmeaBytes(rmc("120004") + gga("120004"), 0)) == []
    (fix,) = decoder.idle()
    assert fix.alt_m == 12.5


def test_stragglers_of_the_last_epoch_do_not_set_the_next_ones_arrival() -> None:
    decoder = ReceiverDecoder()
    for second in range(3):
        decoder.feed(NmeaBytes(rmc(f"12000{second}"), 0))
        decoder.idle()
    (before,) = decoder.feed(NmeaBytes(rmc("120003") + gsa(), 10 * MS))
    (fix,) = decoder.feed(NmeaBytes(rmc("120004"), 100 * MS))
    assert (before.received_boottime_ns, fix.received_boottime_ns) == (10 * MS, 100 * MS)


def test_a_sentence_of_an_epoch_before_does_not_turn_time_back() -> None:
    late = line(f"GNGLL,{WHERE},120000,A,A")
    fixes = decode(rmc("120000") + rmc("120001") + late + gga("120001") + rmc("120002"))
    assert [fix.utc_ms for fix in fixes] == [utc(f"2026-07-21T12:00:0{second}") for second in range(3)]
    assert fixes[1].alt_m == 12.5
    fixes = decode(rmc("120000") + rmc("110000") + rmc("110001"))
    assert len(fixes) == 3, "a receiver that corrects its clock is believed"


def test_a_frozen_receiver_makes_no_new_fixes() -> None:
    decoder = ReceiverDecoder()
    fixes = []
    for second in range(10):
        fixes += decoder.feed(NmeaBytes(rmc("120000") + gga("120000"), second * 1000 * MS))
    assert len(fixes) == 1


def test_where_sentences_differ_gga_counts_before_rmc_and_rmc_before_gll() -> None:
    here, there, nowhere = (f"4221.{number}000,N,07103.6000,W" for number in (1, 2, 3))
    gll = line(f"GNGLL,{nowhere},120000,A,A")
    for epoch in (rmc("120000", where=there) + gga("120000", where=here, talker="GP") + gll,):
        assert decode(epoch)[0].lat_deg == pytest.approx(42 + 21.1 / 60)
    assert decode(gll + rmc("120000", where=there))[0].lat_deg == pytest.approx(42 + 21.2 / 60)


def test_a_receiver_that_set_its_clock_back_onto_times_it_had_before_is_heard_again() -> None:
    """As with leap seconds that arrive with the almanac: eighteen seconds are lived twice."""
    before = b"".join(rmc(f"1200{second}") for second in range(20, 45))
    fixes = decode(before + b"".join(rmc(f"1200{second}") for second in range(27, 50)))
    assert [fix.utc_ms for fix in fixes[-22:]] == [
        utc(f"2026-07-21T12:00:{second}") for second in range(28, 50)
    ]
    assert len(fixes) == 25 + 22, "one epoch is doubted, the second convinces"


def test_a_leap_second_is_an_epoch_of_its_own() -> None:
    fixes = decode(
        rmc("235959") + rmc("235960") + rmc("000000", date="220726") + rmc("000001", date="220726")
    )
    assert [fix.utc_ms for fix in fixes] == [
        utc("2026-07-21T23:59:59"),
        utc("2026-07-22T00:00:00"),
        utc("2026-07-22T00:00:00"),
        utc("2026-07-22T00:00:01"),
    ]


def test_what_came_too_late_makes_the_next_end_harder_to_believe() -> None:
    decoder = ReceiverDecoder()
    fixes = []
    for second in range(10, 26):
        fixes += decoder.feed(NmeaBytes(rmc(f"1200{second}"), second * 1000 * MS))
        if second >= 14:
            fixes += decoder.feed(NmeaBytes(gga(f"1200{second}"), second * 1000 * MS + 50 * MS))
    fixes += decoder.finish()
    assert [fix.alt_m for fix in fixes] == [None] * 5 + [12.5] * 11, "only the first height was missed"


def test_rejections_are_counted_by_reason() -> None:
    decoder = ReceiverDecoder()
    decode(rmc("120000")[:-5] + b"\r\n", rmc("12:00"), line("GNVTG,x,T,,M,1,N,2,K"), decoder=decoder)
    assert decoder.rejections == {Rejection.NO_CHECKSUM: 1, Rejection.BAD_FIELD: 2}
    assert decoder.sentences == 2


SENTENCES = st.sampled_from(
    [
        make(time)
        for time in ("120000.00", "120001.00", "235959.90", "000000.00", "")
        for make in (
            rmc,
            gga,
            lambda time: rmc(time, status="V"),
            lambda time: gga(time, quality=0),
            lambda time: rmc(time, talker="GA"),
            lambda time: line(f"GNZDA,{time},21,07,2026,00,00"),
        )
    ]
    + [gsa(), gsa(1), gsa(2, "GL"), b"$GNRMC,12\r\n", b"\xb5\x62\x05\x01\x00", line("GPGSV,1,1,00")]
    + [rmc("120000", where="0000.0000,N,00000.0000,E"), gga("120000", where="0,N,0,E")]
)
STREAMS = st.one_of(st.lists(SENTENCES, max_size=25).map(b"".join), st.binary(max_size=400))


@given(STREAMS)
def test_no_bytes_raise_and_no_fix_is_inconsistent(data: bytes) -> None:
    for fix in decode(data):
        assert (fix.lat_deg, fix.lon_deg) != (0, 0)
        assert (fix.lat_deg is None) == (fix.lon_deg is None) == (fix.mode is FixMode.NONE)
        if not fix.has_position:
            assert (fix.alt_m, fix.speed_mps, fix.course_deg, fix.hdop) == (None,) * 4


@given(STREAMS, st.lists(st.integers(1, 60), min_size=1, max_size=40))
def test_how_the_bytes_are_split_does_not_matter(data: bytes, sizes: list[int]) -> None:
    chunks, rest = [], data
    for size in sizes:
        chunks.append(rest[:size])
        rest = rest[size:]
    assert decode(*chunks, rest) == decode(data)


@given(st.integers(0, 255), st.data())
def test_a_flipped_bit_never_moves_a_position(bit: int, data: st.DataObject) -> None:
    good = b"".join(rmc(f"12000{second}") + gga(f"12000{second}") for second in range(3))
    index = data.draw(st.integers(0, len(good) - 1))
    changed = bytearray(good)
    changed[index] ^= 1 << bit % 8
    positions = {(fix.lat_deg, fix.lon_deg) for fix in decode(bytes(changed))}
    assert positions <= {(fix.lat_deg, fix.lon_deg) for fix in decode(good)}
