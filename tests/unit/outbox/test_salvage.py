"""A damaged store is set aside, never deleted; what can be read goes on."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import config
from agent.domain.record import Kind, Stream
from agent.outbox import database
from agent.outbox.body import unpack_body
from agent.outbox.entry import Entry, entry_of
from agent.outbox.fault import StoreVersionError
from agent.outbox.gaps import gap_of
from agent.outbox.keeper import Keeper
from agent.outbox.salvage import SALVAGE_NAME
from agent.outbox.store import Store

PAGE = database.PAGE_BYTES


def make_store(
    folder: Path, scribe: Any, *, trail: int = 2000, presses: int = 200
) -> dict[Stream, dict[int, Entry]]:
    """A closed store with delivered and undelivered records; returns all of them."""
    store = Store(folder, entropy=lambda size: b"\x07" * size)
    store.open("boot-a")
    events = [entry_of(scribe.press()) for _ in range(presses)]
    track = [entry_of(draft) for draft in scribe.trail(trail)]
    written = {
        Stream.EVENTS: dict(zip(store.append(events), events, strict=True)),
        Stream.TRAIL: dict(zip(store.append(track), track, strict=True)),
    }
    store.confirm({Stream.EVENTS: presses // 2, Stream.TRAIL: trail // 2})
    store.close()
    return written


def keeper_of(folder: Path, scribe: Any) -> Keeper:
    settings = config.Store(directory=folder, synchronous="OFF")
    return Keeper(settings, scribe.clock, entropy=lambda size: b"\x09" * size)


def everything(keeper: Keeper, stream: Stream) -> tuple[dict[int, Entry], int]:
    """Records by sequence number, and the last number that is accounted for; checks that there is no hole."""
    records = {}
    after_seq = 0
    while rows := keeper.read(stream, after_seq, max_records=500, max_bytes=1 << 20, last_seq=None):
        for row in rows:
            assert row.seq == after_seq + 1
            after_seq = row.seq
            if row.kind == Kind.GAP:
                after_seq = gap_of(row).last_seq
            else:
                records[row.seq] = Entry(row.kind, *row[3:])
    return records, after_seq


def aside(folder: Path) -> list[Path]:
    return sorted(folder.glob("outbox-damaged-*.db"))


def pages_of(folder: Path, table: str) -> list[int]:
    """Page numbers below a table's root, from 1: its leaves, unless the table is large."""
    connection = database.connect(folder / database.FILE_NAME, "OFF")
    root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()[0]
    connection.close()
    data = (folder / database.FILE_NAME).read_bytes()
    cells = int.from_bytes(data[(root - 1) * PAGE + 3 : (root - 1) * PAGE + 5], "big")
    pointers = (root - 1) * PAGE + 12
    leaves = []
    for cell in range(cells):
        at = int.from_bytes(data[pointers + 2 * cell : pointers + 2 * cell + 2], "big")
        start = (root - 1) * PAGE + at
        leaves.append(int.from_bytes(data[start : start + 4], "big"))
    return leaves


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_a_ruined_leaf_costs_only_its_own_records(tmp_path: Path, scribe: Any) -> None:
    written = make_store(tmp_path, scribe)
    leaf = pages_of(tmp_path, "trail")[20]
    overwrite(tmp_path / database.FILE_NAME, (leaf - 1) * PAGE, b"\xa5" * PAGE)
    keeper = keeper_of(tmp_path, scribe)
    keeper.open()
    report = keeper.report()
    events, last_event = everything(keeper, Stream.EVENTS)
    trail, last_trail = everything(keeper, Stream.TRAIL)
    keeper.close()
    assert events == written[Stream.EVENTS]
    lost = set(written[Stream.TRAIL]) - set(trail)
    assert 20 < len(lost) < 120
    assert max(lost) - min(lost) == len(lost) - 1
    assert all(written[Stream.TRAIL][seq] == entry for seq, entry in trail.items())
    assert report.journal == int.from_bytes(b"\x07" * 4, "big"), "the journal goes on"
    assert last_trail == report.last_seq(Stream.TRAIL) > max(written[Stream.TRAIL])
    assert last_event == report.last_seq(Stream.EVENTS) > max(written[Stream.EVENTS])
    assert (report.confirmed_seq(Stream.EVENTS), report.confirmed_seq(Stream.TRAIL)) == (100, 1000)
    assert len(report.alerts) == 1
    assert aside(tmp_path)[0].name in report.alerts[0]
    assert "20260314T" in aside(tmp_path)[0].name


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda _: b"not a database at all" * 500, id="not a database"),
        pytest.param(lambda data: data[:100], id="cut in the header"),
        pytest.param(lambda data: data[: len(data) // 2], id="cut in half"),
        pytest.param(lambda data: bytes(PAGE) + data[PAGE:], id="first page zeroed"),
        pytest.param(lambda data: bytes(len(data)), id="all zeros"),
    ],
)
def test_whatever_is_left_of_the_file_the_store_opens(
    tmp_path: Path, scribe: Any, damage: Callable[[bytes], bytes]
) -> None:
    make_store(tmp_path, scribe)
    path = tmp_path / database.FILE_NAME
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    keeper = keeper_of(tmp_path, scribe)
    keeper.open()
    seqs = keeper.append([entry_of(scribe.press())], confirmed={}, dropped=())
    assert (
        keeper.read(Stream.EVENTS, seqs[0] - 1, max_records=1, max_bytes=99, last_seq=None)[0].seq == seqs[0]
    )
    for stream in Stream:
        everything(keeper, stream)
    keeper.close()
    if damaged:
        assert len(aside(tmp_path)) == 1
        if not damaged.startswith(b"SQLite"):
            assert aside(tmp_path)[0].read_bytes() == damaged, "what is set aside is not touched"


@pytest.mark.parametrize("seed", range(12))
def test_random_damage_never_keeps_the_store_from_opening(tmp_path: Path, scribe: Any, seed: int) -> None:
    written = make_store(tmp_path, scribe, trail=600, presses=60)
    path = tmp_path / database.FILE_NAME
    rng = random.Random(seed)
    size = path.stat().st_size
    for _ in range(rng.choice([1, 3, 20])):
        overwrite(path, rng.randrange(size), rng.randbytes(rng.choice([1, 16, 512])))
    keeper = keeper_of(tmp_path, scribe)
    try:
        keeper.open()
    except StoreVersionError:
        assert len(path.read_bytes()) == size
        return
    for stream in Stream:
        everything(keeper, stream)
    seqs = keeper.append([entry_of(scribe.press()), entry_of(scribe.position())], confirmed={}, dropped=())
    assert (
        all(seq not in written[stream] for seq, stream in zip(seqs, Stream, strict=True))
        or keeper.report().journal
    )
    keeper.close()


def test_damage_met_while_running_is_mended_at_once(tmp_path: Path, scribe: Any) -> None:
    written = make_store(tmp_path, scribe, trail=40_000)
    keeper = keeper_of(tmp_path, scribe)
    keeper.open()
    assert keeper.report().alerts == ()
    data = (tmp_path / database.FILE_NAME).read_bytes()
    # A leaf in the middle of a large store: opening does not see it, reading does.
    leaves = [page for page in range(10, len(data) // PAGE) if data[(page - 1) * PAGE] == 13]
    overwrite(tmp_path / database.FILE_NAME, (leaves[len(leaves) // 2] - 1) * PAGE, b"\xff" * PAGE)
    trail, _ = everything_after_mending(keeper)
    report = keeper.report()
    keeper.close()
    lost = set(written[Stream.TRAIL]) - set(trail)
    assert 20 < len(lost) < 120
    assert report.journal == int.from_bytes(b"\x07" * 4, "big")
    assert len(report.alerts) == 1


def everything_after_mending(keeper: Keeper) -> tuple[dict[int, Entry], int]:
    keeper.read(Stream.TRAIL, 0, max_records=1 << 30, max_bytes=1 << 40, last_seq=None)
    return everything(keeper, Stream.TRAIL)


def test_a_lost_first_page_costs_no_record(tmp_path: Path, scribe: Any) -> None:
    written = make_store(tmp_path, scribe)
    overwrite(tmp_path / database.FILE_NAME, 0, bytes(PAGE))
    keeper = keeper_of(tmp_path, scribe)
    keeper.open()
    assert everything(keeper, Stream.EVENTS)[0] == written[Stream.EVENTS]
    assert everything(keeper, Stream.TRAIL)[0] == written[Stream.TRAIL]
    report = keeper.report()
    keeper.close()
    assert report.journal == int.from_bytes(b"\x07" * 4, "big")
    assert (report.confirmed_seq(Stream.EVENTS), report.confirmed_seq(Stream.TRAIL)) == (100, 1000)
    assert not list(tmp_path.glob("outbox-salvage*"))


def test_a_salvage_interrupted_between_its_renames_is_finished(tmp_path: Path, scribe: Any) -> None:
    written = make_store(tmp_path, scribe)
    (tmp_path / database.FILE_NAME).rename(tmp_path / SALVAGE_NAME)
    keeper = keeper_of(tmp_path, scribe)
    keeper.open()
    assert everything(keeper, Stream.EVENTS)[0] == written[Stream.EVENTS]
    keeper.close()


def test_a_salvage_interrupted_while_copying_begins_again(tmp_path: Path, scribe: Any) -> None:
    written = make_store(tmp_path, scribe)
    shutil.copy(tmp_path / database.FILE_NAME, tmp_path / SALVAGE_NAME)
    leaf = pages_of(tmp_path, "trail")[3]
    overwrite(tmp_path / database.FILE_NAME, (leaf - 1) * PAGE, b"\xa5" * PAGE)
    keeper = keeper_of(tmp_path, scribe)
    keeper.open()
    assert everything(keeper, Stream.EVENTS)[0] == written[Stream.EVENTS]
    keeper.close()
    assert not (tmp_path / SALVAGE_NAME).exists()
    assert len(aside(tmp_path)) == 1


def test_two_damages_on_one_day_get_two_names(tmp_path: Path, scribe: Any) -> None:
    for _ in range(2):
        make_store(tmp_path, scribe, trail=10, presses=1)
        (tmp_path / database.FILE_NAME).write_bytes(b"ruin" * 2000)
        keeper = keeper_of(tmp_path, scribe)
        keeper.open()
        keeper.close()
        (tmp_path / database.FILE_NAME).unlink()
    assert len(aside(tmp_path)) == 2


def test_events_carried_over_read_as_they_were(tmp_path: Path, scribe: Any) -> None:
    make_store(tmp_path, scribe)
    leaf = pages_of(tmp_path, "trail")[3]
    overwrite(tmp_path / database.FILE_NAME, (leaf - 1) * PAGE, b"\xa5" * PAGE)
    keeper = keeper_of(tmp_path, scribe)
    keeper.open()
    latest = keeper.latest(Kind.STATUS)
    keeper.close()
    assert latest is not None
    assert getattr(unpack_body(Kind.STATUS, latest.body), "press_seq", None) == 200
