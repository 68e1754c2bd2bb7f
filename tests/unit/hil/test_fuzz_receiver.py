"""The fuzz target runs, finds positions, and would see one that nobody gave."""

from __future__ import annotations

import random

import pytest

from hil import fuzz_receiver


def test_a_fixed_number_of_inputs_raises_nothing_and_invents_nothing() -> None:
    assert fuzz_receiver.fuzz(1500, seed=1) > 500


def test_a_position_that_nobody_gave_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_receiver, "places_given", lambda _: set())
    with pytest.raises(ValueError, match="in no valid sentence"):
        fuzz_receiver.fuzz(50, seed=1)


def test_what_is_given_is_found_in_whole_inputs() -> None:
    rng = random.Random(3)
    data = b"".join(fuzz_receiver.nmea(rng, second) for second in range(20))
    assert len(fuzz_receiver.places_given(data)) > 5
