"""Several receivers, one position."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.fix import Fix, FixMode
from agent.domain.receiver_choice import LOST_NS, ReceiverChoice

S = 1_000_000_000


def fix(second: float, *, placed: bool = True) -> Fix:
    return Fix(
        utc_ms=None, lat_deg=42.0 if placed else None, lon_deg=-71.0 if placed else None, alt_m=None,
        speed_mps=None, course_deg=None, mode=FixMode.FIX_3D if placed else FixMode.NONE, satellites=None,
        hdop=None, received_boottime_ns=round(second * S),
    )  # fmt: skip


def test_the_first_of_the_list_is_used_while_it_is_well() -> None:
    choice = ReceiverChoice(["roof", "modem"])
    for second in range(20):
        assert choice.offer("roof", fix(second))
        assert not choice.offer("modem", fix(second + 0.1))


def test_another_stands_in_and_the_first_comes_back_when_it_is_well_for_a_while() -> None:
    choice = ReceiverChoice(["roof", "modem"])
    choice.offer("roof", fix(0))
    used = [second for second in range(1, 12) if choice.offer("modem", fix(second))]
    assert used[0] == 6, "after five seconds without the first"
    assert choice.reason == "lost"
    back = []
    for second in range(12, 40):
        back += [second] if choice.offer("roof", fix(second)) else []
        choice.offer("modem", fix(second + 0.1))
    assert back[0] == 22, "and not at its first word"
    assert choice.current == "roof"
    assert choice.reason == "preferred"


def test_without_any_fix_one_says_so() -> None:
    choice = ReceiverChoice(["roof", "modem"])
    assert choice.offer("modem", fix(0, placed=False))
    assert not choice.offer("roof", fix(0.1, placed=False))
    assert choice.is_silent("modem")
    assert not choice.is_silent("roof")
    assert choice.offer("roof", fix(1)), "whoever has a fix is better than who has none"


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.booleans(), st.floats(0.1, 3)), max_size=80))
def test_a_receiver_with_a_fix_is_never_passed_over_for_one_that_lost_it(
    words: list[tuple[str, bool, float]],
) -> None:
    choice = ReceiverChoice(["a", "b", "c"])
    now_s, placed_at = 0.0, {}
    for name, placed, passed_s in words:
        now_s += passed_s
        used = choice.offer(name, fix(now_s, placed=placed))
        if placed:
            placed_at[name] = now_s
        assert used == (choice.current == name)
        well = [one for one, at_s in placed_at.items() if now_s - at_s <= LOST_NS / S]
        if well:
            assert choice.current in well
