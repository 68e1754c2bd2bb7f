from __future__ import annotations

import pytest

from hil.kernel.machine import Message
from hil.kernel.power_cuts import Ledger


def hear(ledger: Ledger, text: str, run: int = 1) -> None:
    word, *rest = text.split()
    ledger.hear(Message(word, tuple(rest)), run)


def pressed(*numbers: int) -> Ledger:
    """A ledger after these presses were stored as records 1, 2, ... and the power went."""
    ledger = Ledger()
    hear(ledger, "OPEN 7 1 0 0")
    for seq, number in enumerate(numbers, 1):
        hear(ledger, f"PUT {number} {number * 11}")
        hear(ledger, f"ACK {number} {seq} 0")
    return ledger


def test_all_there_all_delivered_is_clean() -> None:
    ledger = pressed(1, 2)
    hear(ledger, "OPEN 7 2 2 0", 2)
    hear(ledger, "ROW 1 1 11", 2)
    hear(ledger, "ROW 2 2 22", 2)
    assert ledger.audit() == 0
    # At least once: the same record may be delivered again.
    for text in ("SENT 1 1 11", "SENT 2 2 22", "SENT 2 2 22"):
        hear(ledger, text, 2)
    ledger.close()
    assert ledger.faults == []
    assert ledger.audited_seq == 2


def test_a_press_that_was_never_called_stored_may_be_there_or_not() -> None:
    ledger = pressed(1)
    hear(ledger, "PUT 2 22")
    hear(ledger, "PUT 3 33")
    hear(ledger, "ROW 1 1 11", 2)
    hear(ledger, "ROW 2 2 22", 2)
    assert ledger.audit() == 0
    hear(ledger, "SENT 1 1 11", 2)
    hear(ledger, "SENT 2 2 22", 2)
    ledger.close()
    assert ledger.faults == []


def test_a_boot_that_was_cut_before_it_had_told_all_is_told_again() -> None:
    ledger = pressed(1, 2)
    hear(ledger, "ROW 1 1 11", 2)
    hear(ledger, "ROW 1 1 11", 3)
    hear(ledger, "ROW 2 2 22", 3)
    assert ledger.audit() == 0
    assert ledger.faults == []


@pytest.mark.parametrize(
    ("rows", "lost", "fault"),
    [
        (["1 1 11"], 1, "not in the store"),
        (["2 2 22"], 1, "records 1 to 1 are missing"),
        (["1 1 99", "2 2 22"], 0, "not as it was put"),
        (["1 2 22", "2 1 11"], 0, "was acknowledged as"),
        (["1 1 11", "2 2 22", "3 - 5"], 0, "the store was repaired"),
    ],
)
def test_what_the_store_owes_is_noticed(rows: list[str], lost: int, fault: str) -> None:
    ledger = pressed(1, 2)
    for row in rows:
        hear(ledger, f"ROW {row}", 2)
    assert ledger.audit() == lost
    assert any(fault in text for text in ledger.faults), ledger.faults


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (["1 1 11"], "never reached dispatch"),
        (["1 1 11", "2 2 22", "3 1 11"], "two sequence numbers"),
        (["1 2 22", "2 1 11"], "out of order"),
        (["1 1 11", "1 2 22"], "different content"),
        (["1 1 11", "3 2 22"], "has holes"),
        (["1 1 12"], "reached dispatch altered"),
    ],
)
def test_what_dispatch_lacks_is_noticed(sent: list[str], fault: str) -> None:
    ledger = pressed(1, 2)
    for record in sent:
        hear(ledger, f"SENT {record}")
    ledger.close()
    assert any(fault in text for text in ledger.faults), ledger.faults


def test_a_new_journal_and_a_counter_that_went_back_are_noticed() -> None:
    ledger = pressed(1, 2)
    hear(ledger, "OPEN 8 1 1 0", 2)
    assert any("new journal" in fault for fault in ledger.faults)
    assert any("counts to 1, but 2" in fault for fault in ledger.faults)


def test_positions_that_a_press_committed_are_owed() -> None:
    ledger = pressed()
    hear(ledger, "PUT 1 11", 1)
    hear(ledger, "ACK 1 1 40", 1)
    hear(ledger, "ROW 1 1 11", 2)
    hear(ledger, "TRAIL 1 1 39 39", 2)
    ledger.audit()
    assert ledger.positions_lost == 1
    hear(ledger, "TRAIL 1 1 41 40", 3)
    assert "positions 1 to 41 are 40" in ledger.faults[-1]
