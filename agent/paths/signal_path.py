"""From vehicle signals to telemetry records and the live vehicle state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from agent.domain.record import Draft, SignalValue
from agent.domain.state import VehicleState
from agent.domain.telemetry import TelemetryPolicy
from agent.domain.time_base import TimeBase
from agent.domain.vehicle import Signal
from agent.hal.clock import Clock
from agent.outbox.outbox import Outbox
from agent.paths.state_sink import StateSink

_TICK_S = 1.0
IGNITION = "LowVoltageSystemState"
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
        on_ignition: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._time_base = time_base
        self._outbox = outbox
        self._states = states
        self._on_ignition = on_ignition
        self._ignition_on: bool | None = None
        self._told: tuple[tuple[str, SignalValue | None], ...] = ()

    def on_signals(self, signals: Sequence[Signal]) -> None:
        """Take changed signals."""
        self._policy.take(signals)
        for at_ns, telemetry in self._policy.edges():
            self._outbox.stage(Draft(self._time_base.stamp(at_ns), telemetry))
        for signal in signals:
            if signal.name == IGNITION and isinstance(signal.value, str):
                self._ignition(signal.value in _ENGINE_MAY_RUN)

    async def run(self, progress: Callable[[], None]) -> None:
        """The unit's loop."""
        try:
            while True:
                progress()
                self._record(at_once=False)
                self._tell()
                await asyncio.sleep(_TICK_S)
        finally:
            self._record(at_once=True)

    def _record(self, *, at_once: bool) -> None:
        now_ns = self._clock.boottime_ns()
        telemetry = self._policy.due(now_ns, at_once=at_once)
        if telemetry is not None:
            self._outbox.stage(Draft(self._time_base.stamp(now_ns), telemetry))

    def snapshot(self) -> dict[str, object]:
        """Current signals, for `mdt status`."""
        return dict(self._policy.snapshot())

    def _ignition(self, on: bool) -> None:
        if self._ignition_on is not None and on != self._ignition_on:
            # What went off with the ignition is to be on the disk before the supply goes, too.
            self._record(at_once=True)
            self._on_ignition(on)
        self._ignition_on = on

    def _tell(self) -> None:
        signals, newest_ns = self._policy.snapshot(), self._policy.newest_boottime_ns()
        if newest_ns is not None and signals != self._told:
            self._told = signals
            self._states.set_state(
                VehicleState(
                    boottime_ms=newest_ns // 1_000_000,
                    utc=self._time_base.utc(newest_ns),
                    signals=signals,
                )
            )
