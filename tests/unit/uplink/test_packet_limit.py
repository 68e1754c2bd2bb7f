"""What a broker takes is learnt from what it says and does, forgotten in time, and never costs a record."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.uplink.packet_limit import (
    GROW_AFTER_PACKETS,
    GROW_AFTER_PACKETS_MAX,
    LEAST_BYTES,
    PacketLimit,
)


def bytes_of(limit: PacketLimit) -> int | None:
    """The limit; a call, because it changes behind the type checker's back."""
    return limit.most_bytes


def opened(told_bytes: int | None = None, configured_bytes: int | None = None) -> PacketLimit:
    limit = PacketLimit(configured_bytes)
    limit.open("b:1883", told_bytes)
    return limit


def test_the_smaller_of_what_is_told_and_configured_holds() -> None:
    assert opened().most_bytes is None
    for told_bytes, configured_bytes in [(500, None), (None, 500), (500, 900), (900, 500)]:
        assert opened(told_bytes, configured_bytes).most_bytes == 500
    assert opened(500).fits(500)
    assert not opened(500).fits(501)


@given(st.integers(LEAST_BYTES, 100_000), st.integers(LEAST_BYTES, 200_000))
def test_a_limit_that_nobody_tells_is_found_in_few_connections(theirs: int, largest: int) -> None:
    limit = opened()
    hang_ups = 0
    while True:
        size_bytes = min(largest, limit.most_bytes or largest)
        if size_bytes <= theirs:
            break
        limit.hung_up(size_bytes)
        limit.open("b:1883", None)
        hang_ups += 1
    assert hang_ups <= 7


def test_what_it_took_before_in_the_same_connection_is_not_suspected() -> None:
    limit = opened()
    limit.taken(5000)
    limit.hung_up(5000)
    assert bytes_of(limit) is None
    limit.hung_up(6000)
    assert bytes_of(limit) == 5000
    limit.open("b:1883", None)
    limit.hung_up(LEAST_BYTES)
    assert bytes_of(limit) == 5000


def test_the_ceiling_rises_with_what_is_taken_and_later_when_that_was_too_early() -> None:
    limit, needed = opened(), []
    for _ in range(12):
        limit.hung_up(20_000)
        taken = 0
        while limit.most_bytes == 10_000:
            limit.taken(300)
            taken += 1
        limit.open("b:1883", None)
        needed.append(taken)
    assert needed[:3] == [GROW_AFTER_PACKETS, 2 * GROW_AFTER_PACKETS, 4 * GROW_AFTER_PACKETS]
    assert needed[-1] == GROW_AFTER_PACKETS_MAX
    for _ in range(10 * GROW_AFTER_PACKETS_MAX):
        limit.taken(300)
    assert bytes_of(limit) is None


def test_each_broker_has_a_memory_of_its_own() -> None:
    limit = opened()
    limit.hung_up(20_000)
    limit.open("other:1883", None)
    assert bytes_of(limit) is None
    limit.open("b:1883", None)
    assert bytes_of(limit) == 10_000
    for number in range(20):
        limit.open(f"n{number}:1883", None)
    limit.open("b:1883", None)
    assert bytes_of(limit) is None, "the memory is bounded"


def test_a_refusal_halves_until_nothing_is_left_to_try() -> None:
    limit, size_bytes, refusals = opened(), 100_000, 0
    while limit.refused(size_bytes):
        refusals += 1
        size_bytes = limit.most_bytes or size_bytes
    assert size_bytes == LEAST_BYTES
    assert refusals < 10
