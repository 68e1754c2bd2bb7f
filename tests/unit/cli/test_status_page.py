"""`mdt status` in words: first whether all is well, then the facts with their units."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.cli.status_page import status_page
from agent.cli.what_to_do import ELSE, what_to_do
from agent.domain.health import HealthReason

ANSWER: dict[str, Any] = {
    "unit": "demo/T1",
    "crew": {"status": "en_route", "emergency": False},
    "position": {
        "lat_deg": 42.35, "lon_deg": -71.06, "speed_mps": 10, "satellites": 9, "age_s": 0.4, "mode": "fix_3d",
    },
    "link": {"connected": True, "endpoint": "broker:8883", "connected_for_s": 7500},
    "backlog": {"events": 0, "trail": 3},
    "health": {},
    "clock": {"boottime_s": 90_000, "utc_source": "gnss"},
    "vehicle": {
        "Speed": 36.004, "Powertrain.CombustionEngine.Speed": 690.25, "Body.Trunk.Rear.IsOpen": False,
        "Ambulance.DrugStore.Temperature": None,
    },
    "buses": {"can0": {"heard": 12, "lost": 2, "short": 0, "unusable": 1, "signals_never_heard": ["A", "B"]}},
    "units": {"outbox": "running"},
    "version": "1.2.3",
}  # fmt: skip


def page(**changes: Any) -> str:
    return "\n".join(status_page(ANSWER | changes))


def test_it_says_first_that_all_is_well() -> None:
    assert page().startswith("All is well.\n")


def test_it_says_first_what_is_not_well_and_what_to_do() -> None:
    text = page(health={"gnss_lost": "/dev/gnss0: No such file", "disk_worn": ""})
    lines = text.splitlines()
    assert lines[0] == "2 things not well:"
    assert lines[1] == "  The receiver is gone or can not be opened (/dev/gnss0: No such file)"
    assert lines[2] == "    -> check its cable; then its name in agent.toml"
    assert page(units={"device-can0": "waiting: /dev/slcan0: absent"}).startswith("1 thing not well:")


def test_facts_stand_in_words_with_units() -> None:
    text = page()
    assert "42.35 -71.06, 36 km/h, 9 satellites, 0.4 s ago" in text
    assert "connected to broker:8883 for 2 h 5 min" in text
    assert "3 records to be delivered" in text
    assert "from the receiver" in text
    assert "Speed  36.004 km/h" in text
    assert "Powertrain.CombustionEngine.Speed  690.25 rpm" in text
    assert "Body.Trunk.Rear.IsOpen  no" in text
    assert "Ambulance.DrugStore.Temperature  not known" in text
    assert "12 frames, 2 lost, 1 values not usable, 2 signals never heard" in text
    assert "25 h 0 min" in text
    assert "not connected (b:1): refused" in page(
        link={"connected": False, "endpoint": "b:1", "last_failure": "refused"}
    )
    assert "none: no fix" in page(position=None)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from([*ANSWER, *ANSWER["link"], "heard", "x"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(list(ANSWER)), json_like))
def test_whatever_an_agent_of_another_version_says_is_shown(answer: dict[str, Any]) -> None:
    for line in status_page(answer):
        assert line == "" or line.isprintable()


def test_every_reason_has_a_sentence_and_something_to_do() -> None:
    for reason in HealthReason:
        advice = what_to_do(reason)
        assert advice.sentence
        assert advice.do
    assert what_to_do("something_new").sentence == "something new"
    assert what_to_do("something_new").do == ELSE


def test_what_was_changed_from_afar_and_the_modem_are_shown() -> None:
    modem: dict[str, object] = {"is_there": True, "state": "connected", "technology": "LTE"}
    answer: dict[str, Any] = {
        "config": {"changed": {"reporting.max_age_s": "5"}, "on_trial": True},
        "starts": 3,
        "computer": {"modem": {**modem, "signal_percent": 61}},
    }
    page = "\n".join(status_page(answer))
    assert "reporting.max_age_s = 5 (on trial)" in page
    assert "connected, LTE, signal 61 %" in page
    assert "3 times since the computer started" in page
    answer["computer"]["modem"] = {"is_there": True, "signal_percent": None}
    assert "signal not known" in "\n".join(status_page(answer))
