"""Gap rows: where they stand, what they cover, how they merge."""

from __future__ import annotations

import pytest

from agent.domain.record import Gap, Kind
from agent.outbox.fault import StoreDamagedError
from agent.outbox.gaps import Replacement, gap_of, without
from agent.wire.body import pack_body
from agent.wire.row import Row


def row(seq: int, kind: Kind = Kind.POSITION, body: bytes = b"x") -> Row:
    return Row(seq, kind.value, 1, seq * 1000, None, 0, None, body)


def gap_row(seq: int, last_seq: int, reason: str = "thinned", **counts: int) -> Row:
    return row(seq, Kind.GAP, pack_body(Gap(last_seq, reason, tuple(counts.items()))))


def told(replacement: Replacement) -> list[tuple[int, int, str, dict[str, int]]]:
    gaps = [(gap.seq, gap_of(gap)) for gap in replacement.gaps]
    return [(seq, gap.last_seq, gap.reason, dict(gap.counts)) for seq, gap in gaps]


def test_each_run_becomes_one_gap_at_its_first_number() -> None:
    rows = [row(1), row(2), row(3), row(4, Kind.TELEMETRY), row(5), row(6)]
    replacement = without(rows, {2, 3, 5}, "evicted")
    assert told(replacement) == [(2, 3, "evicted", {"position": 2}), (5, 5, "evicted", {"position": 1})]
    assert [gone.seq for gone in replacement.removed] == [2, 3, 5]
    assert replacement.gaps[0].boottime_ms == 2000


def test_touching_gaps_merge_and_the_graver_reason_is_told() -> None:
    rows = [gap_row(10, 14, position=5), row(15, Kind.TELEMETRY), gap_row(16, 20, position=5), row(21)]
    replacement = without(rows, {15}, "evicted")
    assert told(replacement) == [(10, 20, "evicted", {"position": 10, "telemetry": 1})]


def test_gaps_merge_without_anything_new_going() -> None:
    assert told(without([gap_row(1, 4, position=4), gap_row(5, 9, position=5)], (), "thinned")) == [
        (1, 9, "thinned", {"position": 9})
    ]


def test_a_gap_alone_is_left_as_it_is() -> None:
    assert without([row(1), gap_row(2, 5, position=4), row(6)], (), "thinned") == Replacement()


def test_short_runs_stay_when_asked() -> None:
    replacement = without(
        [row(1), row(2), row(3, Kind.HEALTH), row(4), row(5)], {2, 4, 5}, "thinned", shortest=2
    )
    assert told(replacement) == [(4, 5, "thinned", {"position": 2})]


def test_only_a_gap_has_a_gap() -> None:
    with pytest.raises(StoreDamagedError, match="gap at 1"):
        gap_of(row(1, Kind.POSITION, b"\x98" + bytes(8)))
