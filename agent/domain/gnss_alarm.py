"""When dispatch is told that somebody disturbs or forges the unit's position, and how often at most."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.domain.fix import Fix
from agent.domain.health import HealthReason
from agent.domain.record import Alert, AlertCode, PositionQuality

S = 1_000_000_000
AWAY_NS = 60 * S
"""What was away for less goes on."""
AGAIN_NS = 600 * S
"""One alert of a kind in this time, and of a sign that holds on and on one altogether."""
AT_ONCE, REFILL_NS = 6, 3600 * S
"""So many alerts, and then one an hour: a unit beside a jammer must not fill the journal."""
SIGNS = {
    HealthReason.GNSS_JAMMED: (AlertCode.GNSS_JAMMED, 5 * S),
    HealthReason.GNSS_SPOOFED: (AlertCode.GNSS_SPOOFED, 5 * S),
    HealthReason.GNSS_DOUBTED: (AlertCode.GNSS_SPOOFED, 20 * S),
}
"""Which reason is told as what, once it held for so long."""

LOST_WITHIN_NS = 3 * S
"""From the last fix to the first epoch without one: all at once."""
LOOK_AFTER_NS = 9 * S
"""By then what is remembered of the sky is of after the loss."""
WELL_HEARD = 4
"""Satellites heard well enough for a fix."""


def _contradicts(detail: str) -> bool:
    """A receiver that hangs is doubted, too; nobody forges that."""
    return detail.startswith(PositionQuality.CONTRADICTED)


@dataclass(slots=True)
class _Sign:
    since_ns: int
    seen_ns: int
    told: bool = False


class GnssAlarm:
    """Makes alerts of health reasons that hold, and of single signs. Fed once a second; not thread-safe."""

    def __init__(self) -> None:
        self._signs: dict[HealthReason, _Sign] = {}
        self._told_ns: dict[AlertCode, int] = {}
        self._spent = 0.0
        self._spent_ns = 0

    def look(self, details: Mapping[HealthReason, str], now_ns: int) -> list[Alert]:
        """The alerts that are due by what holds now: reasons with words for a person."""
        alerts: list[Alert] = []
        for reason, (code, hold_ns) in SIGNS.items():
            sign = self._signs.get(reason)
            detail = details.get(reason)
            if detail is None or (reason is HealthReason.GNSS_DOUBTED and not _contradicts(detail)):
                if sign is not None and now_ns - sign.seen_ns > AWAY_NS:
                    del self._signs[reason]
                continue
            if sign is None:
                sign = self._signs[reason] = _Sign(now_ns, now_ns)
            sign.seen_ns = now_ns
            if not sign.told and now_ns - sign.since_ns >= hold_ns:
                found = self.sign(code, f"{reason.sentence} {detail}".strip(), now_ns)
                sign.told = bool(found)
                alerts += found
        return alerts

    def sign(self, code: AlertCode, text: str, now_ns: int) -> list[Alert]:
        """An alert of something that happened in a moment; none when there was one of its kind lately."""
        told_ns = self._told_ns.get(code)
        if told_ns is not None and now_ns - told_ns < AGAIN_NS:
            return []
        spent = max(0.0, self._spent - (now_ns - self._spent_ns) / REFILL_NS)
        if spent + 1 > AT_ONCE:
            return []
        self._spent, self._spent_ns, self._told_ns[code] = spent + 1, now_ns, now_ns
        return [Alert(code, text[:500])]


class SignalLoss:
    """Tells a loss of all satellites that no tunnel explains. Fed with every epoch in its order.

    Args:
        heard: satellites that the receiver hears at all, and those it hears well; None when it tells nothing.
    """

    def __init__(self, heard: Callable[[], tuple[int, int] | None]) -> None:
        self._heard = heard
        self._fix: Fix | None = None
        self._lost_ns: int | None = None
        self._well_before = 0
        self._stood = False
        self.sign: str | None = None
        """What is wrong, in words for a person, until there is a fix again."""

    def take(self, fix: Fix, *, standing: bool) -> None:
        """Take an epoch, and whether the wheels are known to stand."""
        now_ns = fix.received_boottime_ns
        if fix.has_position:
            self._fix, self._lost_ns, self.sign = fix, None, None
            return
        last, self._fix = self._fix, None
        if last is not None and now_ns - last.received_boottime_ns <= LOST_WITHIN_NS:
            before = self._heard()
            self._lost_ns, self._stood = now_ns, standing
            self._well_before = 0 if before is None else before[1]
        if self._lost_ns is None:
            return
        self._stood = self._stood and standing
        if now_ns - self._lost_ns < LOOK_AFTER_NS:
            return
        self._lost_ns = None
        after = self._heard()
        if after is None or self._well_before < WELL_HEARD:
            return
        if after[1] >= WELL_HEARD:
            self.sign = f"no fix any more, although {after[1]} satellites are heard well"
        elif not after[0] and self._stood:
            self.sign = f"all {self._well_before} satellites were lost at once while the unit stood"
