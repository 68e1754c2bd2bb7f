"""From signs that the position is disturbed or forged to alerts."""

from __future__ import annotations

from agent.domain.gnss_alarm import GnssAlarm
from agent.domain.health import HealthBoard
from agent.domain.record import Alert, AlertCode, Draft
from agent.domain.time_base import Jump, TimeBase
from agent.hal.clock import Clock
from agent.outbox.fault import OutboxClosedError
from agent.outbox.outbox import Outbox
from agent.runtime.log import EventLog

log = EventLog("gnss-alarm")
TIME_JUMP_MS = 30_000
"""Less is a leap second or a receiver that just learned how many there were."""


class GnssAlarmPath:
    """Looks once a second, and stores an alert when one is due. Used from the event loop."""

    def __init__(self, clock: Clock, time_base: TimeBase, health: HealthBoard, outbox: Outbox) -> None:
        self._clock = clock
        self._time_base = time_base
        self._health = health
        self._outbox = outbox
        self._alarm = GnssAlarm()
        self._jump: Jump | None = None

    def look(self, now_ns: int) -> None:
        """Look at what holds; once a second."""
        jump = self._time_base.jump
        if jump is not None and jump is not self._jump:
            self._jump = jump
            if abs(jump.by_ms) >= TIME_JUMP_MS:
                by_s = jump.by_ms / 1000
                self.on_sign(AlertCode.GNSS_SPOOFED, f"The receiver's time jumped by {by_s:.0f} s.")
        self._store(self._alarm.look(self._health.details(), now_ns), now_ns)

    def on_sign(self, code: AlertCode, text: str) -> None:
        """Take a single sign."""
        now_ns = self._clock.boottime_ns()
        self._store(self._alarm.sign(code, text, now_ns), now_ns)

    def _store(self, alerts: list[Alert], now_ns: int) -> None:
        for alert in alerts:
            log.warning("alert", code=alert.code, text=alert.text)
            try:
                self._outbox.put(Draft(self._time_base.stamp(now_ns), alert))
            except OutboxClosedError:
                log.error("alert_not_stored", code=alert.code)
