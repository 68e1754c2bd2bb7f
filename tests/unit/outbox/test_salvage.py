"""A damaged store is set aside, never deleted; what can be read goes on."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import config
from agent.domain.record import Alert, Kind, Stream
from agent.domain.stamp import UtcSource
from agent.outbox import database
from agent.outbox.entry import Entry, entry_of
from agent.outbox.fault import StoreDamagedError, named_faults
from agent.outbox.gaps import gap_of
from agent.outbox.keeper import Keeper
from agent.outbox.salvage import SALVAGE_NAME, Found, Moment, set_aside
from agent.outbox.store import Store
from agent.wire.body import unpack_body
from agent.wire.row import Row

PAGE = database.PAGE_BYTES


def make_store(
    folder: Path, scribe: Any, *, trail: int = 2000, presses: int = 200
) -> dict[Stream, dict[int, Entry]]:
    """A closed store with delivered and undelivered records; returns all of them."""
    store = Store(folder, synchronous="OFF", entropy=lambda size: b"\x07" * size)
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
            elif not is_telling(row):
                records[row.seq] = Entry(row.kind, *row[3:])
    return records, after_seq


def is_telling(row: Row) -> bool:
    return row.kind == Kind.ALERT and b"store_set_aside" in row.body


def told(keeper: Keeper) -> list[str]:
    """What the store's own alerts say."""
    rows = keeper.read(Stream.EVENTS, 0, max_records=1 << 30, max_bytes=1 << 40, last_seq=None)
    bodies = [unpack_body(Kind.ALERT, row.body) for row in rows if is_telling(row)]
    return [body.text for body in bodies if isinstance(body, Alert)]


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
    texts = told(keeper)
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
    assert report.set_asides == 1
    assert aside(tmp_path)[0].name in texts[0]
    assert len(texts) == 1
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


def damage_at_random(rng: random.Random, path: Path) -> None:
    """What cards do: flipped bits, lost and erased sectors, pages written to the wrong place."""
    size = path.stat().st_size
    pages = size // PAGE
    kind = rng.choice(["noise", "bits", "zeroed sector", "erased sector", "misplaced page"])
    if kind == "misplaced page":
        start = rng.randrange(pages) * PAGE
        overwrite(path, rng.randrange(pages) * PAGE, path.read_bytes()[start : start + PAGE])
        return
    for _ in range(rng.choice([1, 3, 20])):
        at = rng.randrange(size)
        if kind == "noise":
            overwrite(path, at, rng.randbytes(rng.choice([1, 16, 512])))
        elif kind == "bits":
            overwrite(path, at, bytes([path.read_bytes()[at] ^ 1 << rng.randrange(8)]))
        else:
            overwrite(path, at // 512 * 512, (b"\x00" if kind == "zeroed sector" else b"\xff") * 512)


@pytest.mark.parametrize("seed", range(12))
def test_random_damage_never_keeps_the_store_from_opening(tmp_path: Path, scribe: Any, seed: int) -> None:
    sound = tmp_path / "sound"
    make_store(sound, scribe, trail=400, presses=60)
    rng = random.Random(seed)
    for number in range(6):
        folder = tmp_path / str(number)
        shutil.copytree(sound, folder)
        path = folder / database.FILE_NAME
        damage_at_random(rng, path)
        keeper = keeper_of(folder, scribe)
        keeper.open()
        entries = [entry_of(scribe.press()), entry_of(scribe.position())]
        seqs = keeper.append(entries, confirmed={}, dropped=())
        for stream, seq, entry in zip((Stream.EVENTS, Stream.TRAIL), seqs, entries, strict=True):
            rows = keeper.read(stream, seq - 1, max_records=1, max_bytes=999, last_seq=None)
            assert [Entry(row.kind, *row[3:]) for row in rows] == [entry]
        keeper.close()
        shutil.rmtree(folder)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fill", [b"\x00", b"\xff"], ids=["zeroed", "erased"])
def test_a_lost_sector_costs_only_records_of_its_page(
    tmp_path: Path, scribe: Any, fill: bytes, seed: int
) -> None:
    written = make_store(tmp_path, scribe)
    rng = random.Random(seed)
    leaf = rng.choice(pages_of(tmp_path, "trail"))
    overwrite(tmp_path / database.FILE_NAME, (leaf - 1) * PAGE + 512 * rng.randrange(1, 7), fill * 512)
    keeper = keeper_of(tmp_path, scribe)
    keeper.open()
    trail, _ = everything(keeper, Stream.TRAIL)
    assert everything(keeper, Stream.EVENTS)[0] == written[Stream.EVENTS]
    keeper.close()
    assert len(set(written[Stream.TRAIL]) - set(trail)) < 120


@pytest.mark.parametrize(("to", "of"), [(20, 5), (5, 20), (20, 21), (21, 20), (2, -1), (-1, 2)])
def test_a_page_in_the_wrong_place_costs_only_what_it_overwrote(
    tmp_path: Path, scribe: Any, to: int, of: int
) -> None:
    written = make_store(tmp_path, scribe)
    path, leaves = tmp_path / database.FILE_NAME, pages_of(tmp_path, "trail")
    start = (leaves[of] - 1) * PAGE
    overwrite(path, (leaves[to] - 1) * PAGE, path.read_bytes()[start : start + PAGE])
    keeper = keeper_of(tmp_path, scribe)
    keeper.open()
    trail, _ = everything(keeper, Stream.TRAIL)
    assert everything(keeper, Stream.EVENTS)[0] == written[Stream.EVENTS]
    keeper.close()
    assert all(written[Stream.TRAIL][seq] == entry for seq, entry in trail.items())
    lost = set(written[Stream.TRAIL]) - set(trail)
    assert len(lost) < 200, "its own records, and at most those of one page beside it"


def test_records_newer_than_the_counters_of_the_file_are_carried_over(tmp_path: Path, scribe: Any) -> None:
    written = make_store(tmp_path, scribe, presses=1500)
    alter(tmp_path, "UPDATE stream SET last_seq = 800, waiting_records = 50 WHERE name = 'events'")
    keeper = keeper_of(tmp_path, scribe)
    keeper.open()
    events, _ = everything(keeper, Stream.EVENTS)
    report = keeper.report()
    keeper.close()
    assert events == written[Stream.EVENTS]
    assert report.confirmed_seq(Stream.EVENTS) == 750
    assert report.last_seq(Stream.EVENTS) > 1500


def alter(folder: Path, statement: str) -> None:
    """Change a closed store behind its back, its own text included."""
    connection = sqlite3.connect(folder / database.FILE_NAME, isolation_level=None)
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(statement)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "PRAGMA application_id = 0x454d5331",
        "UPDATE sqlite_schema SET sql = replace(sql, 'confirmed_seq', 'confirned_seq')",
        "UPDATE sqlite_schema SET sql = replace(sql, 'boottime_ms', 'boottime_mw')",
        "UPDATE sqlite_schema SET sql = replace(sql, 'boot_id', 'coot_id')",
        "UPDATE sqlite_schema SET sql = replace(sql, 'id = 1', 'id = 3')",
        "UPDATE sqlite_schema SET sql = replace(sql, 'TABLE trail', cast(x'5441424c4520ff72fe696c' AS TEXT))",
        "UPDATE store SET journal = -7",
        "UPDATE stream SET newest = '{\"2\": 99999999999999999999}'",
    ],
)
def test_garbled_tables_are_damage(tmp_path: Path, scribe: Any, statement: str) -> None:
    written = make_store(tmp_path, scribe)
    alter(tmp_path, statement.replace("0x454d5331", str(0x454D5331 ^ 1 << 9)))
    keeper = keeper_of(tmp_path, scribe)
    keeper.open()
    events, _ = everything(keeper, Stream.EVENTS)
    assert keeper.report().set_asides == 1
    assert keeper.append([entry_of(scribe.press())], confirmed={}, dropped=())[0] not in events
    keeper.close()
    assert events.items() <= written[Stream.EVENTS].items()
    assert len(aside(tmp_path)) == 1


def test_a_text_that_is_none_is_damage_also_while_running() -> None:
    connection = sqlite3.connect(":memory:")
    with pytest.raises(StoreDamagedError, match="UTF-8"), named_faults("outbox.db"):
        connection.execute("SELECT cast(x'ff' AS TEXT)").fetchone()
    connection.close()


def test_a_garbled_column_costs_only_its_record(tmp_path: Path, scribe: Any) -> None:
    written = make_store(tmp_path, scribe)
    path = tmp_path / database.FILE_NAME
    data = path.read_bytes()
    # Record headers: after the row number come header size, NULL for seq, and the type of each column. The
    # type of boottime_ms becomes a text of as many bytes; of another row utc_source becomes 40.
    for seq, column in ((50, 3), (60, 5)):
        entry = written[Stream.EVENTS][seq]
        body = data.index(entry.body)
        header = data.rindex(bytes([10, 0]), 0, body)
        types = header + 1
        assert data[types + 1] in (1, 8, 9)
        if column == 3:
            size = {1: 1, 2: 2, 3: 3, 4: 4}[data[types + 3]]
            overwrite(path, types + 3, bytes([13 + 2 * size]))
        else:
            overwrite(path, body - 2, b"\x28")
    keeper = keeper_of(tmp_path, scribe)
    keeper.open()
    events, _ = everything(keeper, Stream.EVENTS)
    keeper.close()
    assert set(written[Stream.EVENTS]) - set(events) == {50, 60}


def test_a_misplaced_page_that_fits_where_it_lies_is_noticed(tmp_path: Path, scribe: Any) -> None:
    written = make_store(tmp_path, scribe, trail=10, presses=10)
    # What a leaf of an earlier state leaves behind: every row in order, some of them missing.
    alter(tmp_path, "DELETE FROM events WHERE seq BETWEEN 4 AND 6")
    keeper = keeper_of(tmp_path, scribe)
    keeper.open()
    events, _ = everything(keeper, Stream.EVENTS)
    assert keeper.report().set_asides == 1
    keeper.close()
    assert set(written[Stream.EVENTS]) - set(events) == {4, 5, 6}


@pytest.mark.parametrize("kept_id", [True, False])
def test_a_store_that_lost_its_tables_is_set_aside(tmp_path: Path, scribe: Any, kept_id: bool) -> None:
    written = make_store(tmp_path, scribe)
    path = tmp_path / database.FILE_NAME
    # No cells on the first page, which lists the tables.
    overwrite(path, 103, b"\x00\x00")
    if not kept_id:
        overwrite(path, 68, bytes(4))
    damaged = path.read_bytes()
    keeper = keeper_of(tmp_path, scribe)
    keeper.open()
    assert everything(keeper, Stream.EVENTS)[0] == written[Stream.EVENTS]
    keeper.close()
    assert aside(tmp_path)[0].read_bytes() == damaged


def test_damage_met_while_running_is_mended_at_once(tmp_path: Path, scribe: Any) -> None:
    written = make_store(tmp_path, scribe, trail=40_000)
    keeper = keeper_of(tmp_path, scribe)
    keeper.open()
    assert keeper.report().set_asides == 0
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
    assert report.set_asides == 1


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


class PowerCutError(BaseException):
    """The power goes."""


def crashed_store(folder: Path, scribe: Any, *, in_log: int = 20) -> dict[int, Entry]:
    """A store as a power cut leaves it, the newest presses in its log only; returns the presses."""
    store = Store(folder / "live", synchronous="OFF", entropy=lambda size: b"\x07" * size)
    store.open("boot-a")
    presses = [entry_of(scribe.press()) for _ in range(520)]
    seqs = store.append(presses[:-in_log])
    store.file.checkpoint()
    for press in presses[-in_log:]:
        seqs += store.append([press])
    for file in (folder / "live").iterdir():
        shutil.copy(file, folder)
    store.file.abandon()
    shutil.rmtree(folder / "live")
    return dict(zip(seqs, presses, strict=True))


@pytest.mark.parametrize("renames", range(5))
def test_a_power_cut_between_the_renames_of_a_salvage_costs_nothing(
    tmp_path: Path, scribe: Any, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    written = crashed_store(tmp_path, scribe)
    done: list[Path] = []
    rename = Path.rename

    def cut(path: Path, target: Path) -> Path:
        if len(done) == renames:
            raise PowerCutError
        moved = rename(path, target)
        done.append(moved)
        return moved

    monkeypatch.setattr(Path, "rename", cut)
    with pytest.raises(PowerCutError) if renames < 4 else contextlib.nullcontext():
        now = Moment("0" * 32, 5, 1_773_471_600_000, UtcSource.LAST_KNOWN)
        set_aside(tmp_path, now, Found(), lambda size: b"\x09" * size)
    assert len(done) == renames
    monkeypatch.undo()
    keeper = keeper_of(tmp_path, scribe)
    keeper.open()
    assert everything(keeper, Stream.EVENTS)[0] == written
    assert keeper.report().set_asides == (0 < renames < 4), "whoever knows of the old store looks again"
    assert len(told(keeper)) == (renames > 0), "once, whenever the power went"
    assert keeper.append([entry_of(scribe.press())], confirmed={}, dropped=())[0] > max(written)
    keeper.close()
    for path in aside(tmp_path):
        # Nothing was deleted: the set aside store is whole, log and all.
        set_aside_store = sqlite3.connect(path)
        assert set_aside_store.execute("SELECT count(*) FROM events").fetchone() == (520,)
        set_aside_store.close()


def test_a_lost_first_page_does_not_cost_the_log(tmp_path: Path, scribe: Any) -> None:
    written = crashed_store(tmp_path, scribe, in_log=2)
    overwrite(tmp_path / database.FILE_NAME, 0, bytes(PAGE))
    keeper = keeper_of(tmp_path, scribe)
    keeper.open()
    events, last = everything(keeper, Stream.EVENTS)
    keeper.close()
    assert events == written
    assert last > 520


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
