"""A record that is not what was written is told as damaged, and never given out as true."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from agent import config
from agent.domain.record import Kind, Stream
from agent.outbox import database
from agent.outbox.entry import Entry, entry_of
from agent.outbox.gaps import gap_of
from agent.outbox.keeper import Keeper
from agent.outbox.record_table import seal
from agent.outbox.store import Store

PAGE = database.PAGE_BYTES


def make_store(
    folder: Path, scribe: Any, *, presses: int = 40, trail: int = 200
) -> dict[Stream, list[Entry]]:
    store = Store(folder, synchronous="OFF")
    store.open("boot-a")
    written = {
        Stream.EVENTS: [entry_of(scribe.press()) for _ in range(presses)],
        Stream.TRAIL: [entry_of(draft) for draft in scribe.trail(trail)],
    }
    for entries in written.values():
        store.append(entries)
    store.confirm({Stream.EVENTS: presses // 2, Stream.TRAIL: trail // 2})
    store.close()
    return written


def opened_keeper(folder: Path, scribe: Any) -> Keeper:
    keeper = Keeper(
        config.Store(directory=folder, synchronous="OFF"), scribe.clock, entropy=lambda size: b"\x09" * size
    )
    keeper.open()
    return keeper


def given_out(keeper: Keeper, stream: Stream) -> tuple[dict[int, Entry], set[int]]:
    """Records by number, and the numbers that gaps tell of as damaged; there is no hole."""
    records, damaged, after_seq = {}, set(), 0
    while rows := keeper.read(stream, after_seq, max_records=50, max_bytes=1 << 20, last_seq=None):
        for row in rows:
            assert row.seq == after_seq + 1
            after_seq = row.seq
            if row.kind == Kind.GAP:
                gap = gap_of(row)
                assert gap.reason == "damaged"
                after_seq = gap.last_seq
                damaged |= set(range(row.seq, gap.last_seq + 1))
            else:
                records[row.seq] = Entry(row.kind, *row[3:])
    return records, damaged


CHANGES = (
    "kind = 1",
    "boot = 3",
    "boottime_ms = boottime_ms + 1",
    "utc_ms = utc_ms + 60000",
    "utc_ms = NULL",
    "utc_source = 1",
    "utc_uncertainty_ms = NULL",
    "body = cast(replace(body, 'scene', 'scent') AS BLOB)",
    "body = x''",
    "crc = crc + 1",
    "crc = NULL",
)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("seq", [7, 20, 21, 40])
def test_any_column_that_changed_is_told_as_damage_of_its_record_alone(
    tmp_path: Path, scribe: Any, change: str, seq: int
) -> None:
    written = make_store(tmp_path, scribe)
    connection = sqlite3.connect(tmp_path / database.FILE_NAME)
    connection.execute(f"UPDATE events SET {change} WHERE seq = {seq}")
    connection.commit()
    connection.close()
    keeper = opened_keeper(tmp_path, scribe)
    records, damaged = given_out(keeper, Stream.EVENTS)
    latest = keeper.latest(Kind.STATUS)
    report = keeper.report()
    keeper.close()
    assert damaged == {seq}
    assert records == {at: entry for at, entry in enumerate(written[Stream.EVENTS], 1) if at != seq}
    assert latest is not None
    assert latest.seq == (39 if seq == 40 else 40), "what is known is the newest that is true"
    assert (report.set_asides, report.replaced_rows) == (0, 1)
    again = opened_keeper(tmp_path, scribe)
    assert given_out(again, Stream.EVENTS) == (records, damaged)
    counters, table = again.report().counters[Stream.EVENTS], again._store.tables[Stream.EVENTS]
    delivered, waiting = (
        table.amount(again._store.file.connection, *span) for span in ((0, 20), (20, counters.last_seq))
    )
    counted = counters.replay_bytes - 32 * delivered.records, counters.waiting_bytes - 32 * waiting.records
    if change != "body = x''":  # how long a body was that lost its length nobody knows
        assert counted == (delivered.body_bytes, waiting.body_bytes)
    assert again.report().set_asides == 0, "the counters are true"
    again.close()


def test_records_in_each_others_place_are_damage(tmp_path: Path, scribe: Any) -> None:
    make_store(tmp_path, scribe)
    connection = sqlite3.connect(tmp_path / database.FILE_NAME)
    connection.execute("DELETE FROM events WHERE seq = 9")
    connection.execute("UPDATE events SET seq = 9 WHERE seq = 10")
    connection.execute("UPDATE events SET seq = 10 WHERE seq = 11")
    connection.execute(
        "INSERT INTO events SELECT 11, kind, boot, boottime_ms, utc_ms, utc_source,"
        " utc_uncertainty_ms, body, crc FROM events WHERE seq = 12"
    )
    connection.commit()
    connection.close()
    keeper = opened_keeper(tmp_path, scribe)
    _, damaged = given_out(keeper, Stream.EVENTS)
    keeper.close()
    assert damaged == {9, 10, 11}


def test_flipped_bits_never_come_out_as_true(tmp_path: Path, scribe: Any) -> None:
    written = make_store(tmp_path / "sound", scribe)
    content = (tmp_path / "sound" / database.FILE_NAME).read_bytes()
    rng, changed = random.Random(5), 0
    for number in range(150):
        folder = tmp_path / str(number)
        folder.mkdir()
        hurt = bytearray(content)
        hurt[rng.randrange(PAGE, len(hurt))] ^= 1 << rng.randrange(8)
        (folder / database.FILE_NAME).write_bytes(hurt)
        keeper = opened_keeper(folder, scribe)
        for stream, entries in written.items():
            records, damaged = given_out(keeper, stream)
            own = {seq: entry for seq, entry in records.items() if seq <= len(entries)}
            assert all(entry == entries[seq - 1] for seq, entry in own.items())
            assert set(range(1, len(entries) + 1)) <= set(own) | damaged
            changed += len(damaged)
        keeper.close()
    assert changed, "some bits hit records"


def test_a_store_from_before_seals_keeps_its_records_and_seals_new_ones(tmp_path: Path, scribe: Any) -> None:
    written = make_store(tmp_path, scribe)
    connection = sqlite3.connect(tmp_path / database.FILE_NAME, isolation_level=None)
    for stream in Stream:
        connection.execute(f"ALTER TABLE {stream.value} DROP COLUMN crc")
    connection.execute("ALTER TABLE stream DROP COLUMN unsealed_seq")
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    keeper = opened_keeper(tmp_path, scribe)
    records, damaged = given_out(keeper, Stream.EVENTS)
    assert list(records.values()) == written[Stream.EVENTS]
    assert not damaged
    (seq,) = keeper.append([entry_of(scribe.press())], confirmed={}, dropped=())
    keeper._store.file.connection.execute("UPDATE events SET crc = NULL WHERE seq = ?", (seq,))
    assert given_out(keeper, Stream.EVENTS)[1] == {seq}, "a new record without a seal is none"
    keeper.close()


def test_a_seal_is_of_one_stream_one_number_and_every_column() -> None:
    row = (5, 2, 1, 1000, 1_773_471_600_000, 3, 50, b"body")
    seals = {seal(stream, row) for stream in Stream}
    for column, value in enumerate((6, 3, 2, 1001, None, 2, None, b"bodx")):
        seals.add(seal(Stream.EVENTS, (*row[:column], value, *row[column + 1 :])))
    assert len(seals) == 10
    # Another program, or the same in ten years, finds the same.
    assert seal(Stream.EVENTS, row) == SEAL_OF_ROW
    assert seal(Stream.EVENTS, (5, 2, 1, 1000, None, 0, None, b"body")) == SEAL_WITHOUT_UTC


SEAL_OF_ROW = 582834171
SEAL_WITHOUT_UTC = 3298059333
