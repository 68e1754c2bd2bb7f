from __future__ import annotations

import pytest

from hil.kernel.block_replay import Campaign, replay_campaign
from hil.kernel.linux import Linux, RigUnavailable, find_linux
from hil.kernel.wear import measure_wear

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(240)]


@pytest.fixture
def linux() -> Linux:
    try:
        return find_linux()
    except RigUnavailable as reason:
        pytest.skip(str(reason))


def replayed(linux: Linux, campaign: Campaign) -> dict[str, object]:
    """The campaign's report; what the rig lacks is found only when the kernel is about to boot."""
    try:
        return replay_campaign(linux, campaign)
    except RigUnavailable as reason:
        pytest.skip(str(reason))


def test_no_crash_state_of_the_disk_loses_a_stored_press(linux: Linux) -> None:
    report = replayed(linux, Campaign(states=500, seed=5))
    assert report["faults"] == []
    assert isinstance(judged := report["states_judged"], int)
    assert judged > 500, "the tears of superblocks come on top"


@pytest.mark.parametrize(
    "weakness",
    [{"synchronous": "NORMAL"}, {"lying": True}, {"metadata_checksums": True}],
    ids=["NORMAL", "lying card", "torn superblock with a checksum"],
)
def test_a_weak_store_a_lying_card_and_a_brittle_file_system_are_caught(
    linux: Linux, weakness: dict[str, object]
) -> None:
    report = replayed(linux, Campaign(states=60, seed=6, **weakness))  # type: ignore[arg-type]  # two options
    assert isinstance(lost := report["presses_lost"], int)
    assert lost > 0


def test_a_trail_spares_the_card() -> None:
    try:
        linux = find_linux(purpose_built=True)
    except RigUnavailable as reason:
        pytest.skip(str(reason))
    wear = measure_wear(linux, duration_s=1800)
    assert wear["records"] > 1000
    assert wear["bytes_per_record"] <= 2000
    assert wear["flushes_per_record"] <= 0.12


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fifteen_thousand_crash_states(linux: Linux) -> None:
    for seed in range(5):
        report = replayed(linux, Campaign(states=3000, presses=300, seed=100 + seed))
        assert report["faults"] == []
