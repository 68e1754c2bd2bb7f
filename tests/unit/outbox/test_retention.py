"""What goes first, what goes last, and what never goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent.domain.record import Kind, Stream
from agent.outbox.entry import entry_of
from agent.outbox.fault import StoreDamagedError
from agent.outbox.gaps import gap_of
from agent.outbox.retention import Retention
from agent.outbox.store import Store

DAY_MS = 86_400_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path, synchronous="OFF")
    store.open("boot-a")
    yield store
    store.file.abandon()


def keeper(store: Store, *, budget: int = 1 << 30, replay: int = 1 << 30, days: float = 7) -> Retention:
    return Retention(store, budget_bytes=budget, replay_budget_bytes=replay, replay_days=days)


def work_off(retention: Retention, now_utc_ms: int | None = None) -> int:
    slices = 0
    while retention.due:
        retention.slice(now_utc_ms)
        slices += 1
        assert slices < 10_000
    return slices


def fill(store: Store, scribe: Any, count: int) -> None:
    store.append([entry_of(draft) for draft in scribe.trail(count)])


def kinds(store: Store, stream: Stream) -> Counter[str]:
    return Counter(Kind(row.kind).token for row in store.rows(stream, 0, 1 << 40, 1 << 30))


def told(store: Store, stream: Stream = Stream.TRAIL) -> Counter[str]:
    """Records by kind, those in gaps among them."""
    total: Counter[str] = Counter()
    for row in store.rows(stream, 0, 1 << 40, 1 << 30):
        total.update(dict(gap_of(row).counts) if row.kind == Kind.GAP else {Kind(row.kind).token: 1})
    return total


def test_nothing_goes_within_the_budget(store: Store, scribe: Any) -> None:
    fill(store, scribe, 500)
    assert work_off(keeper(store)) == 0


def test_positions_are_thinned_before_telemetry_goes(store: Store, scribe: Any) -> None:
    fill(store, scribe, 3000)
    before = kinds(store, Stream.TRAIL)
    retention = keeper(store, budget=int(retention_bytes(store) * 0.8))
    work_off(retention)
    after = kinds(store, Stream.TRAIL)
    assert after["position"] < before["position"]
    assert (after["telemetry"], after["health"]) == (before["telemetry"], before["health"])
    assert told(store) == before
    assert {
        gap_of(row).reason for row in store.rows(Stream.TRAIL, 0, 1 << 40, 1 << 30) if row.kind == Kind.GAP
    } == {"thinned"}
    assert retention.waiting_bytes <= retention_budget(retention)


def retention_bytes(store: Store) -> int:
    return keeper(store).waiting_bytes


def retention_budget(retention: Retention) -> int:
    return retention._budget_bytes


def test_the_oldest_stretch_goes_first(store: Store, scribe: Any) -> None:
    fill(store, scribe, 5000)
    work_off(keeper(store, budget=int(retention_bytes(store) * 0.9)))
    rows = store.rows(Stream.TRAIL, 0, 1 << 40, 1 << 30)
    gaps = [row.seq for row in rows if row.kind == Kind.GAP]
    assert max(gaps) < store.counters[Stream.TRAIL].last_seq / 2


def test_at_last_a_point_a_minute_and_the_events_remain(store: Store, scribe: Any) -> None:
    fill(store, scribe, 3000)
    store.append([entry_of(scribe.press()) for _ in range(50)])
    before = told(store)
    retention = keeper(store, budget=1)
    work_off(retention)
    after = kinds(store, Stream.TRAIL)
    assert set(after) == {"position", "gap"}
    kept = [
        row.boottime_ms for row in store.rows(Stream.TRAIL, 0, 1 << 40, 1 << 30) if row.kind == Kind.POSITION
    ]
    assert all(later - earlier <= 60_000 for earlier, later in pairwise(kept))
    assert after["position"] < 3000 / 15, "two points nearer than a minute stay where the next is further"
    assert told(store) == before
    assert kinds(store, Stream.EVENTS) == {"status": 50}
    assert not retention.due, "over budget, but there is nothing left that may go"
    assert retention.over_budget


def test_a_stationary_unit_with_telemetry_keeps_to_a_point_a_minute(store: Store, scribe: Any) -> None:
    retention = keeper(store, budget=1)
    for _ in range(3):
        entries = []
        for _ in range(2100):
            scribe.clock.now_ms += 5_000
            entries += [entry_of(scribe.position()), entry_of(scribe.telemetry())]
        store.append(entries)
        work_off(retention)
    minutes = 3 * 2100 * 7_000 / 60_000
    after = kinds(store, Stream.TRAIL)
    assert set(after) == {"position", "gap"}
    assert after["position"] < 1.15 * minutes
    assert after["gap"] <= after["position"]
    assert told(store) == {"position": 6300, "telemetry": 6300}


def test_a_count_without_records_is_damage(store: Store, scribe: Any) -> None:
    fill(store, scribe, 10)
    store.confirm({Stream.TRAIL: 10})
    with store.transaction() as connection:
        connection.execute("DELETE FROM trail WHERE seq <= 10")
    with pytest.raises(StoreDamagedError, match="holds none"):
        work_off(keeper(store, replay=0))


def test_one_wrong_date_makes_nothing_old(store: Store, scribe: Any) -> None:
    now_utc_ms = 1_773_471_600_000 + scribe.clock.now_ms
    entries = [entry_of(scribe.position()) for _ in range(100)]
    entries[60] = entries[60]._replace(utc_ms=now_utc_ms - 7000 * DAY_MS)
    store.append(entries)
    store.confirm({Stream.TRAIL: 100})
    retention = keeper(store, days=1)
    retention.slice(now_utc_ms)
    assert store.counters[Stream.TRAIL].replay_records == 100


def test_a_date_from_the_future_keeps_nothing_from_going(store: Store, scribe: Any) -> None:
    now_utc_ms = 1_773_471_600_000 + scribe.clock.now_ms
    entries = [entry_of(scribe.position()) for _ in range(100)]
    entries[0] = entries[0]._replace(utc_ms=now_utc_ms + 7000 * DAY_MS)
    store.append(entries)
    store.confirm({Stream.TRAIL: 100})
    retention = keeper(store, days=1)
    retention.slice(now_utc_ms + 2 * DAY_MS)
    assert store.counters[Stream.TRAIL].replay_records == 0


def test_delivered_trail_goes_before_anything_undelivered(store: Store, scribe: Any) -> None:
    fill(store, scribe, 3000)
    store.append([entry_of(scribe.press()) for _ in range(5)])
    last_seq = store.counters[Stream.TRAIL].last_seq
    store.confirm({Stream.TRAIL: last_seq // 2, Stream.EVENTS: 5})
    retention = keeper(store, budget=int(retention_bytes(store) * 0.95))
    while store.counters[Stream.TRAIL].replay_bytes:
        assert retention.due
        retention.slice(None)
        assert "gap" not in kinds(store, Stream.TRAIL)
    assert store.counters[Stream.TRAIL].floor_seq == last_seq // 2 + 1
    assert store.counters[Stream.EVENTS].replay_records == 5
    work_off(retention)
    assert "gap" in kinds(store, Stream.TRAIL)


def test_the_replay_window_keeps_to_its_budget_oldest_first(store: Store, scribe: Any) -> None:
    fill(store, scribe, 3000)
    last_seq = store.counters[Stream.TRAIL].last_seq
    store.confirm({Stream.TRAIL: last_seq})
    retention = keeper(store, replay=50_000)
    work_off(retention)
    assert 0.9 * 50_000 < retention.replay_bytes <= 50_000
    first = store.counters[Stream.TRAIL].floor_seq
    rows = store.read(Stream.TRAIL, 0, max_records=2, max_bytes=1 << 20)
    assert gap_of(rows[0]).reason == "trimmed"
    assert gap_of(rows[0]).last_seq == first - 1
    assert rows[1].seq == first


def test_delivered_records_go_after_their_time_when_the_time_is_known(store: Store, scribe: Any) -> None:
    fill(store, scribe, 100)
    store.append([entry_of(scribe.press())])
    now_utc_ms = 1_773_471_600_000 + scribe.clock.now_ms
    retention = keeper(store, days=1)
    for _ in range(3):
        retention.slice(now_utc_ms + 2 * DAY_MS)
    assert store.counters[Stream.TRAIL].replay_records == 0
    store.confirm({Stream.TRAIL: store.counters[Stream.TRAIL].last_seq, Stream.EVENTS: 1})
    replay = store.counters[Stream.TRAIL].replay_records
    retention.slice(None)
    retention.slice(now_utc_ms)
    assert store.counters[Stream.TRAIL].replay_records == replay
    retention.slice(now_utc_ms + 2 * DAY_MS)
    work_off(retention, now_utc_ms + 2 * DAY_MS)
    assert store.counters[Stream.TRAIL].replay_records == 0
    assert store.counters[Stream.EVENTS].replay_records == 0
    assert store.read(Stream.EVENTS, 0, max_records=5, max_bytes=99)[0].kind == Kind.GAP


def test_the_newest_event_outlives_the_window(store: Store, scribe: Any) -> None:
    store.append(
        [entry_of(scribe.press("en_route")), entry_of(scribe.emergency()), entry_of(scribe.press("on_scene"))]
    )
    store.confirm({Stream.EVENTS: 3})
    retention = keeper(store, replay=0)
    work_off(retention)
    assert store.counters[Stream.EVENTS].replay_records == 0
    latest = store.latest(Kind.STATUS)
    assert latest is not None
    assert latest.seq == 3
    assert store.latest(Kind.EMERGENCY) is not None
    store.append([entry_of(scribe.press("available"))])
    assert {row.seq for row in store.rows(Stream.EVENTS, 0, 1 << 40, 99)} == {2, 4}, "a superseded event goes"


def test_a_gap_thinned_under_way_is_split_at_the_watermark(store: Store, scribe: Any) -> None:
    store.append([entry_of(scribe.position()) for _ in range(600)])
    work_off(keeper(store, budget=1))
    before = [row for row in store.rows(Stream.TRAIL, 0, 1 << 40, 1 << 30) if row.kind == Kind.GAP]
    inside = before[0].seq + 5
    end = gap_of(before[0]).last_seq
    store.confirm({Stream.TRAIL: inside})
    rows = store.read(Stream.TRAIL, inside, max_records=2, max_bytes=1 << 20)
    assert rows[0].seq == inside + 1
    assert gap_of(rows[0]).last_seq == end
    assert gap_of(rows[0]).counts == (("position", end - inside),)
    assert rows[1].seq == end + 1


def test_a_slice_is_short(store: Store, scribe: Any) -> None:
    fill(store, scribe, 5000)
    retention = keeper(store, budget=1)
    rows = 0
    while retention.due:
        before = store.file.connection.total_changes
        retention.slice(None)
        rows = max(rows, store.file.connection.total_changes - before)
    assert 0 < rows < 1100
