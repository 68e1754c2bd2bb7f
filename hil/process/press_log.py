"""Every press of a run: when it was made, when its lamp said stored, when dispatch had it."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domain.crew import EMERGENCY
from agent.domain.record import Emergency, StatusChange
from agent.hal.buttons import Lamp
from firmware_shims.simulated.button_box import BoxFirmware
from hil.dispatch import Dispatch


@dataclass(slots=True)
class LoggedPress:
    """One press. Times are the loop's; None for what did not happen (yet).

    Attributes:
        key: which button.
        session: power-up of the box.
        seq: the box's sequence number of the press.
        pressed_s: when the button went down.
        stored_s: when its lamp said stored (or delivered or received, when that came first). The emergency
            key's stays dark: of its presses it is when the box was told that it may forget them.
        delivered_s: when its lamp said delivered or received; never known of the emergency key.
        dispatched_s: when dispatch had its record.
        released_s: when the button went up.
    """

    key: str
    session: int
    seq: int
    pressed_s: float
    stored_s: float | None = None
    delivered_s: float | None = None
    dispatched_s: float | None = None
    released_s: float | None = None


class PressLog:
    """Ties presses to lamps and records."""

    def __init__(self) -> None:
        self.presses: list[LoggedPress] = []
        self._lamps_seen = 0
        self._acknowledgements_seen = 0
        self._arrivals_seen = 0

    def pressed(self, key: str, at_s: float, firmware: BoxFirmware) -> None:
        """A button just went down; the box has numbered it."""
        self.presses.append(LoggedPress(key, firmware.session, firmware.last_seq, at_s))

    def released(self, key: str, at_s: float) -> None:
        """A button just went up."""
        press = next((one for one in reversed(self.presses) if one.key == key), None)
        if press is not None and press.released_s is None:
            press.released_s = at_s

    def see(self, firmware: BoxFirmware, dispatch: Dispatch) -> None:
        """Look at what became of the presses since the last look."""
        changes = firmware.changes[self._lamps_seen :]
        self._lamps_seen += len(changes)
        for change in changes:
            if change.key != EMERGENCY and change.lamp not in (Lamp.OFF, Lamp.NOT_STORED):
                self._lit(change.key, change.lamp, change.at_s)
        acknowledgements = firmware.acknowledgements[self._acknowledgements_seen :]
        self._acknowledgements_seen += len(acknowledgements)
        for one in acknowledgements:
            for press in self.presses:
                kept = press.key == EMERGENCY and press.session == one.session and press.seq <= one.through
                if kept and press.stored_s is None:
                    press.stored_s = one.at_s
        arrivals = dispatch.arrivals[self._arrivals_seen :]
        self._arrivals_seen += len(arrivals)
        for arrival in arrivals:
            body = arrival.record.body
            if isinstance(body, StatusChange | Emergency):
                for press in self.presses:
                    if (press.session, press.seq) == (body.press_session, body.press_seq):
                        press.dispatched_s = press.dispatched_s or arrival.at_s

    def _lit(self, key: str, lamp: Lamp, at_s: float) -> None:
        press = next(
            (one for one in reversed(self.presses) if one.key == key and one.pressed_s <= at_s), None
        )
        if press is None:
            return
        # Presses of one key are stored in their order: what holds for the last holds for those before it.
        for earlier in self.presses:
            if earlier.key == key and earlier.pressed_s <= at_s and earlier.stored_s is None:
                earlier.stored_s = at_s
        if lamp in (Lamp.DELIVERED, Lamp.RECEIVED):
            press.delivered_s = press.delivered_s or at_s


def percentile_ms(durations_s: list[float], percent: float) -> float | None:
    """Nearest-rank percentile in milliseconds; None of nothing."""
    if not durations_s:
        return None
    ordered = sorted(durations_s)
    rank = max(1, -(-len(ordered) * percent // 100))
    return round(ordered[int(rank) - 1] * 1000, 2)
