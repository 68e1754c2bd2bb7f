"""When the UTC of records that left is known better, and what that makes of each of them."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domain.record import ClockCorrection
from agent.domain.stamp import Utc, UtcSource
from agent.domain.time_base import DRIFT_PPM

EVERY_NS = 60 * 1_000_000_000
"""A receiver that changes its mind all the time is told of once a minute."""
AT_MOST = 20
"""And so often a boot: then it is the receiver that wants mending."""


@dataclass(frozen=True, slots=True)
class _Belief:
    offset_ms: int
    uncertainty_ms: int


class CorrectionRule:
    """Decides when a clock record is due. Asked once a second; not thread-safe.

    It is when time becomes trusted and records left without it, and when the time that is believed moves by
    more than what was told as uncertain.
    """

    def __init__(self) -> None:
        self._believed: _Belief | None = None
        self._owed = False
        self._not_before_ns = 0
        self._told = 0

    def due(
        self, utc: Utc | None, boottime_ns: int, *, boot: int, untimed_left: bool
    ) -> ClockCorrection | None:
        """The record to store now, or None.

        Args:
            utc: what is believed at this moment.
            boottime_ns: this moment.
            boot: the store's count of this boot.
            untimed_left: whether records of this boot left the vehicle without a trusted UTC since the last
                record that this gave.
        """
        if utc is None or utc.source < UtcSource.NTP or utc.uncertainty_ms is None:
            return None
        boottime_ms = boottime_ns // 1_000_000
        now, before = _Belief(utc.unix_ms - boottime_ms, utc.uncertainty_ms), self._believed
        self._believed = now
        if before is not None and abs(now.offset_ms - before.offset_ms) > (
            now.uncertainty_ms + before.uncertainty_ms
        ):
            self._owed = True
        if not (self._owed or untimed_left) or boottime_ns < self._not_before_ns or self._told >= AT_MOST:
            return None
        self._owed, self._not_before_ns, self._told = False, boottime_ns + EVERY_NS, self._told + 1
        return ClockCorrection(
            of_boot=boot,
            from_boottime_ms=0,
            to_boottime_ms=boottime_ms,
            offset_ms=now.offset_ms,
            source=int(utc.source),
            # At the beginning of the boot the crystal was off by what it drifted since.
            uncertainty_ms=now.uncertainty_ms + boottime_ms * DRIFT_PPM // 1_000_000,
        )


def corrected_utc(boottime_ms: int, utc: Utc | None, correction: ClockCorrection) -> Utc | None:
    """The UTC of a record of the boot that a correction is of: corrected, or its own where that is as good.

    A record keeps its own when that is of no lesser source and does not contradict the correction: an epoch's
    own time is better than any that is derived later.
    """
    if not correction.from_boottime_ms <= boottime_ms <= correction.to_boottime_ms:
        return utc
    if correction.source not in (UtcSource.NTP, UtcSource.GNSS):
        return utc
    better = Utc(boottime_ms + correction.offset_ms, UtcSource(correction.source), correction.uncertainty_ms)
    if utc is None or utc.source < correction.source or utc.uncertainty_ms is None:
        return better
    agrees = abs(utc.unix_ms - better.unix_ms) <= utc.uncertainty_ms + (correction.uncertainty_ms or 0)
    return utc if agrees else better
