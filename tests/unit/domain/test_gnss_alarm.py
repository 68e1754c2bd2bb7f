"""Jamming and forging are told once, late enough to be true, and too seldom to fill the journal."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.fix import Fix, FixMode
from agent.domain.gnss_alarm import GnssAlarm, SignalLoss
from agent.domain.health import HealthReason
from agent.domain.record import Alert, AlertCode

S = 1_000_000_000
GOOD = Fix(None, 42.0, -71.0, None, 0.0, None, FixMode.FIX_3D, 11, 0.8, 0)


def alerts(
    alarm: GnssAlarm, begin_s: int, end_s: int, *holds: HealthReason, detail: str = "x"
) -> list[Alert]:
    return [
        alert
        for second in range(begin_s, end_s)
        for alert in alarm.look(dict.fromkeys(holds, detail), second * S)
    ]


def test_what_holds_is_told_once_and_what_flickers_not_at_all() -> None:
    alarm = GnssAlarm()
    assert alerts(alarm, 0, 4, HealthReason.GNSS_JAMMED) == []
    assert alerts(alarm, 4, 80) == []
    told = alerts(alarm, 100, 4000, HealthReason.GNSS_JAMMED, detail="roof: no fix")
    assert [alert.code for alert in told] == [AlertCode.GNSS_JAMMED]
    assert told[0].text.endswith("roof: no fix")
    assert alerts(alarm, 4000, 4030) == []  # away too shortly to be over
    assert alerts(alarm, 4030, 4100, HealthReason.GNSS_JAMMED) == []
    assert alerts(alarm, 4100, 4200) == []
    assert len(alerts(alarm, 4200, 4300, HealthReason.GNSS_JAMMED)) == 1


def test_a_speed_at_odds_with_the_wheels_is_a_sign_of_forging_and_a_hung_receiver_none() -> None:
    doubted = HealthReason.GNSS_DOUBTED
    assert alerts(GnssAlarm(), 0, 100, doubted, detail="frozen: repeats itself") == []
    (alert,) = alerts(GnssAlarm(), 0, 100, doubted, detail="contradicted: at odds")
    assert alert.code == AlertCode.GNSS_SPOOFED


@given(st.lists(st.tuples(st.sampled_from([*AlertCode]), st.integers(0, 300)), max_size=400))
def test_whatever_happens_a_day_has_a_bounded_number_of_alerts(signs: list[tuple[AlertCode, int]]) -> None:
    alarm, now_s, told = GnssAlarm(), 0, 0
    for code, passed_s in signs:
        now_s += passed_s
        told += len(alarm.sign(code, "a sign", now_s * S))
    assert told <= 6 + now_s / 3600


class Sky:
    """Epochs, and what is heard in them."""

    def __init__(self) -> None:
        self.heard: tuple[int, int] | None = (12, 9)
        self.loss = SignalLoss(lambda: self.heard)
        self.second = 0

    def epochs(self, count: int, *, placed: bool, standing: bool) -> None:
        for _ in range(count):
            self.second += 1
            fix = replace(GOOD, received_boottime_ns=self.second * S)
            if not placed:
                fix = Fix.without_position(None, 0, self.second * S)
            self.loss.take(fix, standing=standing)


@pytest.mark.parametrize(
    ("standing", "after", "told"),
    [
        (True, (0, 0), "all 9 satellites were lost at once while the unit stood"),
        (False, (0, 0), None),  # a tunnel
        (False, (8, 6), "no fix any more, although 6 satellites are heard well"),
        (True, (3, 1), None),  # a garage
        (True, None, None),  # a receiver that does not tell
    ],
)
def test_a_loss_that_no_tunnel_explains_is_a_sign(
    standing: bool, after: tuple[int, int] | None, told: str | None
) -> None:
    sky = Sky()
    sky.epochs(30, placed=True, standing=standing)
    sky.epochs(2, placed=False, standing=standing)
    sky.heard = after
    sky.epochs(20, placed=False, standing=standing)
    assert sky.loss.sign == told
    sky.epochs(1, placed=True, standing=standing)
    assert sky.loss.sign is None


def test_what_fades_before_is_no_sudden_loss() -> None:
    sky = Sky()
    sky.epochs(30, placed=True, standing=True)
    sky.heard = (4, 2)
    sky.epochs(2, placed=False, standing=True)
    sky.heard = (0, 0)
    sky.epochs(20, placed=False, standing=True)
    assert sky.loss.sign is None
