"""Deriving UTC from boot time: the best source wins, and a stepping wall clock moves nothing."""

from __future__ import annotations

from agent.domain.stamp import Stamp, Utc, UtcSource

GNSS_ARRIVAL_MS = 500
"""A receiver at 9600 baud tells an epoch up to half a second late."""
GNSS_HOLD_NS = 3_600 * 1_000_000_000
"""How long the last GNSS time is preferred to the network's: a Pi's crystal drifts under 0.2 s in it."""
DRIFT_PPM = 50
WINDOW_NS = 300 * 1_000_000_000
"""A crystal that is 50 ppm off moves by 15 ms in it."""
_RESYNC_MS = 1000


class TimeBase:
    """Relation of boot time and UTC within one boot. Not thread-safe."""

    def __init__(self) -> None:
        self._gnss_offset_ms: int | None = None
        self._gnss_at_ns = 0
        self._window_best_ms: int | None = None
        self._window_began_ns = 0
        self._system: Utc | None = None
        self._system_at_ns = 0

    def learn_gnss(self, utc_ms: int, received_boottime_ns: int) -> None:
        """Take the UTC of a valid fix.

        An epoch is always received after it happened, so in a window the largest difference is nearest to
        the truth. Windows follow each other: a drifting crystal and a single early stamp are forgotten.
        A difference that moved by more than a second is a different truth and replaces the old at once.
        """
        offset_ms = utc_ms - received_boottime_ns // 1_000_000
        current, best = self._gnss_offset_ms, self._window_best_ms
        if current is None or best is None or abs(offset_ms - current) > _RESYNC_MS:
            self._gnss_offset_ms = self._window_best_ms = offset_ms
            self._window_began_ns = received_boottime_ns
        else:
            self._window_best_ms = max(best, offset_ms)
            # Within the window only better; at its end whatever the window found, better or not.
            self._gnss_offset_ms = max(current, offset_ms)
            if received_boottime_ns - self._window_began_ns > WINDOW_NS:
                self._gnss_offset_ms = self._window_best_ms
                self._window_best_ms = offset_ms
                self._window_began_ns = received_boottime_ns
        self._gnss_at_ns = received_boottime_ns

    def learn_stored(self, utc: Utc, boottime_ns: int) -> None:
        """Take the pedigreed UTC of a record of this boot, after the agent was restarted within it."""
        if utc.source is UtcSource.GNSS and self._gnss_offset_ms is None:
            self.learn_gnss(utc.unix_ms, boottime_ns)

    def learn_system(self, unix_ms: int, *, synchronised: bool, max_error_ms: int, boottime_ns: int) -> None:
        """Take what the system clock says."""
        source = UtcSource.NTP if synchronised else UtcSource.LAST_KNOWN
        self._system = Utc(unix_ms, source, max_error_ms if synchronised else None)
        self._system_at_ns = boottime_ns

    def source(self, boottime_ns: int) -> UtcSource:
        """The source that `stamp` would use at this moment."""
        utc = self.utc(boottime_ns)
        return UtcSource.NONE if utc is None else utc.source

    def utc(self, boottime_ns: int) -> Utc | None:
        """UTC of a moment of this boot, past or present; None while nothing is known."""
        age_ns = abs(boottime_ns - self._gnss_at_ns)
        if self._gnss_offset_ms is not None and (
            age_ns <= GNSS_HOLD_NS or self._system is None or self._system.source is not UtcSource.NTP
        ):
            uncertainty_ms = GNSS_ARRIVAL_MS + age_ns * DRIFT_PPM // 1_000_000_000_000
            return Utc(boottime_ns // 1_000_000 + self._gnss_offset_ms, UtcSource.GNSS, uncertainty_ms)
        if self._system is None:
            return None
        passed_ms = (boottime_ns - self._system_at_ns) // 1_000_000
        return Utc(self._system.unix_ms + passed_ms, self._system.source, self._system.uncertainty_ms)

    def stamp(self, boottime_ns: int) -> Stamp:
        """A stamp for an event at this boot time."""
        return Stamp(boottime_ns, self.utc(boottime_ns))
