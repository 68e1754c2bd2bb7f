"""What the crew's presses must become, told by a reading of the rules of its own, not by the agent's code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hil.process.press_log import LoggedPress

RAISED: Final = "emergency"
CANCELLED: Final = "emergency cancelled"
MOMENTARY = frozenset({"talk_request"})
SAME_WITHIN_S = 2.0
"""An emergency or momentary key pressed again within this, in one boot of the computer, says nothing new."""
HOLD_S = (5.0, 20.0)
"""A hold between these cancels an emergency..."""
LEFT_ALONE_S = 10.0
"""...when the button was not touched for so long before, and was touched in this run of the daemon: one that
was just started can not know that the button was left alone."""


@dataclass(frozen=True, slots=True)
class ExpectedEvent:
    """A record that must reach dispatch.

    Attributes:
        token: status token, RAISED or CANCELLED.
        press: the press it comes from.
    """

    token: str
    press: LoggedPress


def expected_events(
    presses: Sequence[LoggedPress], daemon_ends_s: Sequence[float], boots_s: Sequence[float] = ()
) -> list[ExpectedEvent]:
    """The records that these presses must become, in order; keys are named like their status.

    Args:
        presses: every press.
        daemon_ends_s: loop times at which a daemon ended; what is pressed after one is the next one's.
        boots_s: loop times at which the computer was started. Presses of two boots can not be compared.
    """

    def boot_of(run: int) -> int:
        ends_s = daemon_ends_s[run] if run < len(daemon_ends_s) else float("inf")
        return sum(began_s < ends_s for began_s in boots_s)

    moments = [(one.pressed_s, True, one) for one in presses]
    moments += [(one.released_s, False, one) for one in presses if one.released_s is not None]
    events: list[ExpectedEvent] = []
    status: str | None = None
    recorded: dict[str, tuple[float, int]] = {}
    touched_s, touched_run = 0.0, -1
    raised = may_cancel = False
    for at_s, down, press in sorted(moments, key=lambda moment: (moment[0], moment[1])):
        key = press.key
        run = sum(end_s <= at_s for end_s in daemon_ends_s)
        last_s, last_run = recorded.get(key, (0.0, -1))
        again = last_run >= 0 and boot_of(last_run) == boot_of(run) and at_s - last_s < SAME_WITHIN_S
        if key == RAISED and down:
            may_cancel = raised and run == touched_run and at_s - touched_s >= LEFT_ALONE_S
            touched_s, touched_run = at_s, run
            if not (raised and again):
                recorded[key], raised = (at_s, run), True
                events.append(ExpectedEvent(RAISED, press))
        elif key == RAISED:
            held = HOLD_S[0] <= at_s - press.pressed_s < HOLD_S[1]
            # A daemon that did not see the button go down can not know for how long it was held.
            pressed_run = sum(end_s <= press.pressed_s for end_s in daemon_ends_s)
            if raised and may_cancel and held and run == pressed_run:
                raised = False
                events.append(ExpectedEvent(CANCELLED, press))
        elif down and key in MOMENTARY:
            if not again:
                recorded[key] = (at_s, run)
                events.append(ExpectedEvent(key, press))
        elif down and key != status:
            status = key
            events.append(ExpectedEvent(key, press))
    return events
