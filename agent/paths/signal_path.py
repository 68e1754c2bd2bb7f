"""From vehicle signals to telemetry records and the live vehicle state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from agent.domain.power import IGNITION
from agent.domain.record import Draft, SignalValue
from agent.domain.state import VehicleState
from agent.domain.telemetry import TelemetryPolicy
from agent.domain.time_base import TimeBase
from agent.domain.vehicle import Signal
from agent.hal.clock import Clock
from agent.outbox.outbox import Outbox
from agent.paths.state_sink import StateSink

_TICK_S = 1.0
WHOLE_EVERY_S = 300.0
"""The whole picture is told anew after so long, for whoever came late or missed something."""
_OFF_AGAIN_NS = 10_000_000_000
"""An ignition that goes off again sooner is told only then: a sense that flaps must not wear the card."""
_ENGINE_MAY_RUN = ("ON", "START")
"""Values of that VSS signal; with any other the supply of the computer may go away soon."""


class SignalPath:
    """Collects signals; once a second it looks whether a record or a new state is due."""

    def __init__(
        self,
        policy: TelemetryPolicy,
        clock: Clock,
        time_base: TimeBase,
        *,
        outbox: Outbox,
        states: StateSink,
        state_interval_s: float = 10.0,
        on_ignition: Callable[[bool], None] = lambda _: None,
        on_tick: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Store the parts.

        Args:
            policy: which signals become a record, and when.
            clock: boot time.
            time_base: gives a boot time its UTC.
            outbox: where records go.
            states: where the live state goes.
            state_interval_s: least time between two states.
            on_ignition: told when the ignition is switched, of one that flaps now and then.
            on_tick: called once a second with the boot time.
        """
        self._policy = policy
        self._clock = clock
        self._time_base = time_base
        self._outbox = outbox
        self._states = states
        self._on_ignition = on_ignition
        self._on_tick = on_tick
        self._ignition_now: bool | None = None
        self._ignition_on: bool | None = None
        """As it was told last."""
        self._off_ns: int | None = None
        self._interval_s = state_interval_s
        self._state_interval_ns = round(state_interval_s * 1e9)
        self._told: dict[str, SignalValue | None] = {}
        self._told_ns: int | None = None
        self._whole_ns: int | None = None

    def on_signals(self, signals: Sequence[Signal]) -> None:
        """Take changed signals."""
        self._policy.take(signals)
        for at_ns, telemetry in self._policy.edges():
            self._outbox.stage(Draft(self._time_base.stamp(at_ns), telemetry))
        for signal in signals:
            if signal.name == IGNITION and isinstance(signal.value, str):
                self._ignition_now = signal.value in _ENGINE_MAY_RUN
                self._look_at_ignition(signal.received_boottime_ns)

    def rest(self, interval_s: float | None) -> None:
        """Tell the vehicle's state this seldom from now on; None for as often as configured."""
        self._state_interval_ns = round((interval_s or self._interval_s) * 1e9)

    async def run(self, progress: Callable[[], None]) -> None:
        """The unit's loop."""
        try:
            while True:
                progress()
                self.tick()
                await asyncio.sleep(_TICK_S)
        finally:
            self.close()

    def tick(self) -> None:
        """What time brings; once a second."""
        now_ns = self._clock.boottime_ns()
        self._on_tick(now_ns)
        self._look_at_ignition(now_ns)
        self._record(at_once=False)
        self._tell()

    def close(self) -> None:
        """Record what changed last."""
        self._record(at_once=True)

    def _record(self, *, at_once: bool) -> None:
        now_ns = self._clock.boottime_ns()
        telemetry = self._policy.due(now_ns, at_once=at_once)
        if telemetry is not None:
            self._outbox.stage(Draft(self._time_base.stamp(now_ns), telemetry))

    def snapshot(self) -> dict[str, object]:
        """Current signals, for `mdt status`."""
        return dict(self._policy.snapshot())

    def _look_at_ignition(self, now_ns: int) -> None:
        on = self._ignition_now
        if on is None or self._ignition_on is None or on is self._ignition_on:
            self._ignition_on = on if self._ignition_on is None else self._ignition_on
            return
        if not on:
            lately = self._off_ns is not None and 0 <= now_ns - self._off_ns < _OFF_AGAIN_NS
            if lately:
                return  # looked at again a second later
            self._off_ns = now_ns
        self._ignition_on = on
        # What went off with the ignition is to be on the disk before the supply goes, too.
        self._record(at_once=True)
        self._on_ignition(on)

    def _tell(self) -> None:
        """The signals that changed since they were told, at intervals; now and then all of them."""
        newest_ns, now_ns = self._policy.newest_boottime_ns(), self._clock.boottime_ns()
        if newest_ns is None or _is_within(now_ns, self._told_ns, self._state_interval_ns):
            return
        signals = self._policy.snapshot()
        changed = tuple(pair for pair in signals if not _is_told(self._told, *pair))
        whole = not _is_within(now_ns, self._whole_ns, round(WHOLE_EVERY_S * 1e9))
        if not changed and not (whole and self._told_ns != self._whole_ns):
            return
        self._told.update(changed)
        self._told_ns = now_ns
        self._whole_ns = now_ns if whole else self._whole_ns
        self._states.set_state(
            VehicleState(
                boottime_ms=newest_ns // 1_000_000,
                utc=self._time_base.utc(newest_ns),
                signals=signals if whole else changed,
                complete=whole,
            )
        )


def _is_within(now_ns: int, since_ns: int | None, span_ns: int) -> bool:
    # A tick that comes a little early is still the one that was meant.
    return since_ns is not None and now_ns - since_ns < span_ns - round(_TICK_S * 5e8)


def _is_told(told: Mapping[str, SignalValue | None], name: str, value: SignalValue | None) -> bool:
    # 1 == True in Python; on the wire they differ.
    known = told.get(name)
    return name in told and known == value and isinstance(known, bool) == isinstance(value, bool)
