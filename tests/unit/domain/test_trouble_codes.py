"""Codes come and go as records, once each, and a bus that lies is bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.trouble_codes import MOST_CODES, ActiveCodes, Code, Lamps

S = 1_000_000_000
LAMPS = Lamps(malfunction=True, stop=None, warning=False, protect=False)


def test_a_code_comes_once_and_goes_once() -> None:
    codes = ActiveCodes()
    (came,) = codes.take(0, LAMPS, [Code(110, 3, 1)], 0)
    assert (came.active, came.spn, came.fmi, came.occurrences) == (True, 110, 3, 1)
    assert (came.controller, came.lamps) == (0, ("malfunction",))
    assert codes.take(0, LAMPS, [Code(110, 3, 2)], S) == []
    assert codes.snapshot() == ["SPN 110 FMI 3 of control unit 0"]
    assert codes.expire(6 * S) == []
    (gone,) = codes.expire(6 * S + 1)
    assert (gone.active, gone.spn, gone.occurrences) == (False, 110, 2)
    assert codes.snapshot() == []


def test_the_same_code_of_two_control_units_is_two() -> None:
    codes = ActiveCodes()
    assert len(codes.take(0, LAMPS, [Code(110, 3, 1)], 0)) == 1
    assert len(codes.take(3, LAMPS, [Code(110, 3, 1), Code(110, 4, 1)], 0)) == 2


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 400), st.integers(0, 8 * S)), max_size=300))
def test_a_bus_that_lies_makes_few_records_and_each_that_came_goes(
    heard: list[tuple[int, int, int]],
) -> None:
    codes = ActiveCodes()
    at_ns, told = 0, 0
    active: set[tuple[int | None, int | None]] = set()
    for controller, spn, pause_ns in heard:
        at_ns += pause_ns
        for record in [
            *codes.expire(at_ns),
            *codes.take(controller, LAMPS, [Code(spn, 1, None)], at_ns),
        ]:
            told += 1
            key = (record.controller, record.spn)
            assert (key not in active) == record.active
            active ^= {key}
        assert len(codes.snapshot()) <= MOST_CODES
    for record in codes.expire(at_ns + 6 * S):
        active ^= {(record.controller, record.spn)}
    assert active == set()
    assert told <= 2 * (20 + at_ns / (60 * S) + 1)
