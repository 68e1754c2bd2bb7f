"""What had worked and is gone is told as what a hand may have done; what never worked is not."""

from __future__ import annotations

from agent.domain.health import HealthReason
from agent.domain.tamper import WORKED_S, TamperWatch

LOST = {HealthReason.GNSS_ANTENNA: "the antenna is open"}


def test_what_never_worked_is_a_fault_of_fitting() -> None:
    watch = TamperWatch()
    for second in range(600):
        assert watch.look(LOST, float(second)) == ""


def test_what_worked_and_is_gone_is_told_until_it_is_back() -> None:
    watch = TamperWatch()
    assert watch.look({}, 0.0) == ""
    assert watch.look(LOST, WORKED_S + 1) == "gnss_antenna the antenna is open"
    assert watch.look(LOST, WORKED_S + 1000) != ""
    assert watch.look({}, WORKED_S + 1001) == ""


def test_what_flaps_at_once_has_not_worked() -> None:
    watch = TamperWatch()
    for second in range(0, 600, 2):
        assert watch.look({}, float(second)) == ""
        assert watch.look(LOST, second + 1.0) == ""
