"""When a telemetry record is due and what it holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.record import SignalValue, Telemetry
from agent.domain.telemetry import TelemetryPolicy
from agent.domain.vehicle import Signal

S = 1_000_000_000


def test_records_hold_what_changed_since_the_last() -> None:
    policy = TelemetryPolicy(interval_s=5)
    assert policy.due(0) is None
    assert policy.take([Signal("Speed", 10, 0), Signal("Door", False, 0)])
    assert policy.due(0) == Telemetry((("Door", False), ("Speed", 10)))
    assert not policy.take([Signal("Speed", 10, S)])
    policy.take([Signal("Speed", 12, 2 * S)])
    assert policy.due(4 * S) is None
    policy.take([Signal("Speed", 14, 5 * S), Signal("Door", False, 5 * S)])
    assert policy.due(5 * S) == Telemetry((("Speed", 14),))
    policy.take([Signal("Speed", 14, 9 * S), Signal("Door", False, 9 * S)])
    assert policy.due(15 * S) is None
    assert policy.snapshot() == (("Door", False), ("Speed", 14))
    assert policy.newest_boottime_ns() == 9 * S


def test_a_late_asker_does_not_shift_the_grid() -> None:
    policy = TelemetryPolicy(interval_s=5, stale_after_s=100)
    records = 0
    for second in range(61):
        at_ns = second * S + (3_000_000 if second % 2 else 0)
        policy.take([Signal("Speed", second, at_ns)])
        records += policy.due(at_ns) is not None
    assert records == 13


def test_after_a_pause_the_grid_starts_anew() -> None:
    policy = TelemetryPolicy(interval_s=5, stale_after_s=1000)
    policy.take([Signal("Speed", 1, 0)])
    policy.due(0)
    policy.take([Signal("Speed", 2, 62 * S)])
    assert policy.due(62 * S) is not None
    policy.take([Signal("Speed", 3, 66 * S)])
    assert policy.due(66 * S) is None
    assert policy.due(67 * S) is not None


def test_what_is_not_heard_is_not_known() -> None:
    policy = TelemetryPolicy(interval_s=5, stale_after_s=10, stale_after_s_of={"Door": 60})
    policy.take([Signal("Speed", 50, 0), Signal("Door", True, 0)])
    policy.due(0)
    assert policy.due(10 * S) is None
    assert policy.due(10 * S + 1) == Telemetry((("Speed", None),))
    assert policy.snapshot() == (("Door", True), ("Speed", None))
    assert policy.due(60 * S + 1) == Telemetry((("Door", None),))
    policy.take([Signal("Speed", 50, 61 * S)])
    assert policy.due(70 * S) == Telemetry((("Speed", 50),))


def test_true_is_not_one() -> None:
    policy = TelemetryPolicy(interval_s=1)
    policy.take([Signal("A", 1, 0)])
    policy.due(0)
    assert policy.take([Signal("A", True, S)])
    assert policy.edges() == [(S, Telemetry((("A", True),)))]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4000),
            st.lists(st.tuples(st.sampled_from("ABC"), st.none() | st.booleans() | st.integers(0, 3))),
        ),
        max_size=60,
    )
)
def test_a_reader_of_all_records_knows_the_snapshot(
    steps: list[tuple[int, list[tuple[str, SignalValue | None]]]],
) -> None:
    policy = TelemetryPolicy(interval_s=5, stale_after_s=8)
    reader: dict[str, SignalValue | None] = {}
    now_ns, due_ns = 0, []
    for pause_ms, values in steps:
        now_ns += pause_ms * 1_000_000
        policy.take(Signal(name, value, now_ns) for name, value in values)
        for _, edge in policy.edges():
            reader |= dict(edge.signals)
        record = policy.due(now_ns)
        if record is not None:
            assert record.signals
            reader |= dict(record.signals)
            due_ns.append(now_ns)
    final = policy.due(now_ns + 5 * S)
    reader |= dict(final.signals) if final is not None else {}
    assert {name: repr(value) for name, value in reader.items()} == {
        name: repr(value) for name, value in policy.snapshot()
    }
    for index, at_ns in enumerate(due_ns[2:], start=2):
        assert at_ns - due_ns[index - 2] >= 5 * S  # at most one record an interval on the whole


def test_no_change_of_a_switch_between_two_records_is_lost() -> None:
    policy = TelemetryPolicy(interval_s=5)
    policy.take([Signal("Door", False, 0), Signal("Speed", 0, 0)])
    assert policy.edges() == []  # becoming known is no change
    policy.due(0)
    policy.take([Signal("Door", True, S), Signal("Speed", 3, S), Signal("Door", False, S + 60_000_000)])
    assert policy.edges() == [
        (S, Telemetry((("Door", True),))),
        (S + 60_000_000, Telemetry((("Door", False),))),
    ]
    assert policy.edges() == []
    assert policy.due(5 * S) == Telemetry((("Speed", 3),))  # what was told at once is not told again


def test_a_vehicle_file_says_otherwise() -> None:
    policy = TelemetryPolicy(interval_s=5, on_change={"Door": False, "Gear": True})
    policy.take([Signal("Door", False, 0), Signal("Gear", 126, 0)])
    policy.take([Signal("Door", True, S), Signal("Gear", -1, S)])
    assert policy.edges() == [(S, Telemetry((("Gear", -1),)))]


def test_becoming_unknown_is_told_with_the_rest() -> None:
    policy = TelemetryPolicy(interval_s=5)
    policy.take([Signal("Door", True, 0)])
    policy.due(0)
    policy.take([Signal("Door", None, S)])
    assert policy.edges() == []
    assert policy.due(5 * S) == Telemetry((("Door", None),))


@given(st.lists(st.tuples(st.integers(1, 30 * S), st.booleans()), max_size=200))
def test_a_contact_that_chatters_is_bounded_and_never_far_from_the_truth(
    changes: list[tuple[int, bool]],
) -> None:
    policy = TelemetryPolicy(interval_s=5, stale_after_s=10_000)
    at_ns, known, edges = 0, None, 0
    policy.take([Signal("Door", False, 0)])
    for pause_ns, value in changes:
        at_ns += pause_ns
        policy.take([Signal("Door", value, at_ns)])
        for _, telemetry in policy.edges():
            edges += 1
            ((_, known),) = telemetry.signals
        due = policy.due(at_ns)
        known = due.signals[0][1] if due is not None else known
    last = policy.due(at_ns + 5 * S)
    known = last.signals[0][1] if last is not None else known
    assert known == (changes[-1][1] if changes else False)
    assert edges <= 10 + at_ns / (10 * S) + 1
