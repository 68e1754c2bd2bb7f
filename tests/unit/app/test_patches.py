"""A change of the configuration from afar: on trial, confirmed, taken back, whatever the disk does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.app.devices import load, validate
from agent.app.patches import MOST_STARTS, Patches, patches_of
from agent.config import Config
from agent.config.patch import PatchError, joined

SLOW = {"reporting": {"health_interval_s": 7}}


def vehicle(folder: Path, more: str = "") -> Path:
    file = folder / "agent.toml"
    file.write_text(
        'unit = { agency = "a", unit = "A1" }\nstore = { directory = "store" }\n'
        + more
        + '[[uplink.brokers]]\nhost = "h"\nallow_plaintext = true\n',
        encoding="utf-8",
    )
    return file


def start(file: Path) -> tuple[Config, Patches]:
    """One start of the agent."""
    patches = patches_of(file, load(file), validate)
    return patches.begin(), patches


def test_a_trial_that_is_confirmed_holds_and_one_that_is_taken_back_does_not(tmp_path: Path) -> None:
    file = vehicle(tmp_path)
    _, patches = start(file)
    patches.propose("c", SLOW, 60)
    config, patches = start(file)
    assert config.reporting.health_interval_s == 7
    assert patches.trial is not None
    patches.confirm()
    assert patches.verdict is not None
    assert patches.verdict.why == ""
    patches.told()
    config, patches = start(file)
    assert config.reporting.health_interval_s == 7
    patches.propose("d", {"reporting": {"health_interval_s": 9}}, 60)
    _, patches = start(file)
    patches.roll_back("no link")
    config, patches = start(file)
    assert config.reporting.health_interval_s == 7, "what was confirmed before still holds"
    assert patches.verdict is not None
    assert (patches.verdict.id, patches.verdict.why) == ("d", "no link")


def test_an_agent_that_does_not_stay_up_under_a_trial_comes_up_without_it(tmp_path: Path) -> None:
    file = vehicle(tmp_path)
    _, patches = start(file)
    patches.propose("c", SLOW, 60)
    for _ in range(MOST_STARTS):
        config, patches = start(file)  # and the power goes, or it crashes
        assert config.reporting.health_interval_s == 7
    config, patches = start(file)
    assert config.reporting.health_interval_s == 60
    assert patches.verdict is not None
    assert "did not stay up" in patches.verdict.why


def test_a_person_who_edits_the_file_has_the_last_word(tmp_path: Path) -> None:
    file = vehicle(tmp_path)
    _, patches = start(file)
    patches.propose("c", SLOW, 60)
    _, patches = start(file)
    patches.confirm()
    vehicle(tmp_path, "# a remark\n")
    config, patches = start(file)
    assert config.reporting.health_interval_s == 60
    assert "changed since" in patches.left_out
    _, patches = start(file)
    assert not patches.left_out, "told once"


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'{"v": 2}', b'{"v":1,"kept":[]}', b"\xff" * 100, b"[" * 5000]
)
def test_a_garbled_file_is_told_and_the_vehicles_own_runs(tmp_path: Path, raw: bytes) -> None:
    file = vehicle(tmp_path)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "patch.json").write_bytes(raw)
    config, patches = start(file)
    assert config == load(file)
    assert "garbled" in patches.left_out
    patches.propose("c", SLOW, 60)
    config, _ = start(file)
    assert config.reporting.health_interval_s == 7


def test_a_kept_change_that_is_no_good_any_more_is_left_out_and_told(tmp_path: Path) -> None:
    file = vehicle(tmp_path)
    _, patches = start(file)
    patches.propose("c", SLOW, 60)
    _, patches = start(file)
    patches.confirm()
    path = tmp_path / "store" / "patch.json"
    path.write_text(path.read_text(encoding="utf-8").replace(": 7", ": -7"), encoding="utf-8")
    config, patches = start(file)
    assert config == load(file)
    assert "health_interval_s" in patches.left_out


def test_a_disk_that_can_not_count_a_start_gets_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = vehicle(tmp_path)
    _, patches = start(file)
    patches.propose("c", SLOW, 60)

    def refuse(*_: object) -> None:
        raise OSError(30, "read-only")

    monkeypatch.setattr("agent.app.patches.write_whole", refuse)
    config, patches = start(file)
    assert config.reporting.health_interval_s == 60
    assert patches.trial is None


def test_two_changes_are_not_tried_at_once(tmp_path: Path) -> None:
    file = vehicle(tmp_path)
    _, patches = start(file)
    patches.propose("c", SLOW, 60)
    with pytest.raises(PatchError, match="another change"):
        patches.propose("d", SLOW, 60)


def test_a_password_is_shown_only_to_hosts_that_the_file_names(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(
        'unit = { agency = "a", unit = "A1" }\nstore = { directory = "store" }\n'
        '[[uplink.brokers]]\nhost = "h"\nusername = "u"\npassword = { environment = "P" }\n'
        'redirect_hosts = ["b2"]\nallow_plaintext = true\n',
        encoding="utf-8",
    )
    _, patches = start(file)
    with pytest.raises(PatchError, match="password is shown only"):
        patches.propose("c", {"uplink": {"brokers": {"0": {"host": "evil"}}}}, 60)
    patches.propose("c", {"uplink": {"brokers": {"0": {"host": "b2"}}}}, 60)
    config, _ = start(file)
    assert config.uplink.brokers[0].host == "b2"


def test_null_gives_a_key_back_to_the_file() -> None:
    kept = {"reporting": {"max_age_s": 5, "health_interval_s": 7}}
    assert joined(kept, {"reporting": {"max_age_s": None}}) == {"reporting": {"health_interval_s": 7}}
    assert joined(kept, {"reporting": {"max_age_s": None, "health_interval_s": None}}) == {}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=5), one, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(
    ["reporting", "uplink", "brokers", "0", "port", "unit", "device", "max_age_s", "password", "log"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    st.dictionaries(
        keys, st.dictionaries(keys, st.dictionaries(keys, values, max_size=3) | values, max_size=3)
    )
)
def test_no_patch_raises_anything_else_or_touches_who_the_unit_is(
    tmp_path: Path, patch: dict[str, Any]
) -> None:
    patch = json.loads(json.dumps(patch))
    file = vehicle(tmp_path)
    (tmp_path / "store" / "patch.json").unlink(missing_ok=True)
    _, patches = start(file)
    try:
        patches.propose("c", patch, 60)
    except PatchError:
        return
    config, _ = start(file)
    own = load(file)
    assert config.unit == own.unit
    assert config.store.directory == own.store.directory
    assert [one.password for one in config.uplink.brokers] == [one.password for one in own.uplink.brokers]
