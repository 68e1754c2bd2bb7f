"""Clock records at the reader."""

from __future__ import annotations

from agent.domain.record import ClockCorrection, Emergency, Kind, Stream
from agent.domain.stamp import UtcSource
from agent.reader.clock_corrections import BOOTS_REMEMBERED, ClockCorrections, corrected
from agent.wire.batch import JournalRecord

NOON = 1_773_500_400_000


def record(seq: int, boottime_ms: int, *, boot: int = 3, journal: int = 7, unit: str = "A1") -> JournalRecord:
    return JournalRecord(
        unit, Stream.EVENTS, seq, journal, boot, boottime_ms, 5, UtcSource.LAST_KNOWN, None,
        int(Kind.EMERGENCY), Emergency(active=True, input="emergency", press_seq=None),
    )  # fmt: skip


def clock(seq: int, *, of_boot: int = 3, journal: int = 7) -> JournalRecord:
    body = ClockCorrection(of_boot, 0, 90_000, NOON, int(UtcSource.GNSS), 500)
    return JournalRecord(
        "A1", Stream.EVENTS, seq, journal, of_boot, 90_000, NOON + 90_000, UtcSource.GNSS, 500,
        int(Kind.CLOCK), body,
    )  # fmt: skip


def test_what_comes_after_the_clock_record_of_its_boot_is_put_right() -> None:
    """[MDT-B-04]"""

    clocks = ClockCorrections()
    assert clocks.apply("boston", record(1, 1_000)).utc_ms == 5
    assert clocks.apply("boston", clock(2)).utc_ms == NOON + 90_000
    late = clocks.apply("boston", record(3, 2_000))
    assert (late.utc_ms, late.utc_source, late.utc_uncertainty_ms) == (NOON + 2_000, UtcSource.GNSS, 500)


def test_another_boot_journal_unit_or_agency_is_left_alone() -> None:
    clocks = ClockCorrections()
    clocks.apply("boston", clock(2))
    assert clocks.apply("boston", record(3, 2_000, boot=4)).utc_ms == 5
    assert clocks.apply("boston", record(3, 2_000, journal=8)).utc_ms == 5
    assert clocks.apply("boston", record(3, 2_000, unit="A2")).utc_ms == 5
    assert clocks.apply("lowell", record(3, 2_000)).utc_ms == 5


def test_what_was_handed_on_before_is_put_right_by_whoever_has_it() -> None:
    body = clock(2).body
    assert isinstance(body, ClockCorrection)
    assert corrected(record(1, 1_000), body).utc_ms == NOON + 1_000
    assert corrected(record(1, 91_000), body) == record(1, 91_000)


def test_the_memory_is_bounded() -> None:
    clocks = ClockCorrections()
    for boot in range(BOOTS_REMEMBERED + 10):
        clocks.apply("boston", clock(boot, of_boot=boot))
    assert clocks.apply("boston", record(1, 2_000, boot=0)).utc_ms == 5
    assert clocks.apply("boston", record(1, 2_000, boot=BOOTS_REMEMBERED)).utc_ms == NOON + 2_000
