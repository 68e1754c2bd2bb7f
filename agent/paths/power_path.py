"""From the ignition to a parked unit, and to a computer that is turned off when nothing is left to lose."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from agent.config.power import Power
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.power import BATTERY, IGNITION, Hold, PowerOrder, PowerRules, PowerSight, ignition_of
from agent.domain.vehicle import Signal
from agent.hal.clock import Clock
from agent.hal.errors import HardwareError
from agent.hal.power import PowerSwitch
from agent.runtime.log import EventLog

log = EventLog("power")

TICK_S = 1.0
FLUSH_WITHIN_S = 10.0
_GONE = (HealthReason.SENSOR_LOST, HealthReason.CAN_LOST)
"""With one of these a sense that says nothing is broken; without, a bus that said off has gone to sleep."""


class PowerPath:
    """Looks at the ignition, tells when the unit parks, and asks for the power to go. Event loop only.

    Args:
        settings: the table `[power]`.
        clock: boot time.
        health: gets IGNITION_DOUBTED and POWER_DOWN_FAILED; its reasons tell of a sense that is gone.
        signals: newest vehicle signals by name, None where there is no fresh value.
        moving: whether the unit moves, as far as anybody knows.
        holds: why the computer must stay on now.
        flush: has everything written to the disk; returns when the disk took or refused it.
        on_parked: told when the unit parks, and when it no longer does.
        switch: asks the system.
    """

    def __init__(
        self,
        settings: Power,
        clock: Clock,
        health: HealthBoard,
        *,
        signals: Callable[[], Mapping[str, Any]],
        moving: Callable[[], bool],
        holds: Callable[[], frozenset[Hold]],
        flush: Callable[[], Awaitable[None]],
        on_parked: Callable[[bool], None],
        switch: PowerSwitch,
    ) -> None:
        self._rules = PowerRules(
            off_after_ns=round(settings.off_after_s * 1e9),
            low_off_after_ns=round(settings.low_battery_off_after_s * 1e9),
            low_v=settings.low_battery_v,
            may_turn_off=settings.shut_down,
        )
        self._clock = clock
        self._health = health
        self._signals = signals
        self._moving = moving
        self._holds = holds
        self._flush = flush
        self._on_parked = on_parked
        self._switch = switch
        self._ignition: bool | None = None
        self._flushing: asyncio.Future[None] | None = None
        self._wake = asyncio.Event()
        self._order = PowerOrder()

    @property
    def parked(self) -> bool:
        """Whether the unit parks."""
        return self._order.parked

    def snapshot(self) -> dict[str, Any]:
        """For `mdt status`."""
        order = self._order
        return {
            "ignition_on": self._ignition,
            "parked": order.parked,
            "off_in_s": None if order.off_in_s is None else round(order.off_in_s),
            "held_by": [str(one) for one in order.holds],
            "asked_to_turn_off": self._rules.asked,
        }

    def on_signals(self, signals: Sequence[Signal]) -> None:
        """Take changed signals: an ignition that comes on is not waited for."""
        for signal in signals:
            if signal.name != IGNITION:
                continue
            on = ignition_of(signal.value)
            if on is not None and self._ignition is not None and on is not self._ignition:
                self._rules.switched(signal.received_boottime_ns)
                self._ignition = on
            if on and (self._order.parked or self._rules.asked):
                self._wake.set()

    def resumed(self) -> None:
        """The computer slept."""
        self._ignition = None
        self._rules.forget_sense()

    async def run(self, progress: Callable[[], None]) -> None:
        """The unit's loop."""
        self._withdraw()  # an agent that was killed may have left its wish behind
        try:
            while True:
                progress()
                order = self.look()
                if order.turn_off:
                    await self._turn_off(progress)
                self._wake.clear()
                try:
                    async with asyncio.timeout(TICK_S):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            if self._flushing is not None:
                self._flushing.cancel()

    def look(self) -> PowerOrder:
        """Take in what is true now, and do all of what follows but the turning off."""
        order = self._rules.look(self._clock.boottime_ns(), self._sight())
        before, self._order = self._order, order
        if order.withdraw:
            self._withdraw()
        if order.parked is not before.parked:
            log.info("parked" if order.parked else "awake")
            self._on_parked(order.parked)
        self._say(HealthReason.IGNITION_DOUBTED, order.doubt)
        self._say(HealthReason.POWER_DOWN_FAILED, order.failure)
        return order

    def _sight(self) -> PowerSight:
        signals = self._signals()
        told = ignition_of(signals.get(IGNITION))
        if told is not None:
            self._ignition = told
        elif self._ignition is not False or any(reason in _GONE for reason in self._health.reasons()):
            self._ignition = None
        battery_v = signals.get(BATTERY)
        known = isinstance(battery_v, int | float) and not isinstance(battery_v, bool)
        return PowerSight(
            ignition_on=self._ignition,
            battery_v=battery_v if known else None,
            moving=self._moving(),
            holds=self._holds(),
        )

    async def _turn_off(self, progress: Callable[[], None]) -> None:
        """Write everything, look once more, and ask. What goes wrong leaves the computer on, and is told."""
        if not await self._flushed(progress):
            self._failed("the disk does not take what is to be written")
            return
        # A press may have come meanwhile, or the ignition.
        if not self.look().turn_off:
            return
        try:
            self._switch.ask()
        except HardwareError as error:
            self._failed(str(error))
            return
        log.warning("asked_to_turn_off")
        self._rules.ask_done(self._clock.boottime_ns())

    async def _flushed(self, progress: Callable[[], None]) -> bool:
        """Whether the store was written in time; what hangs goes on in its own time, once."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + FLUSH_WITHIN_S
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.ensure_future(self._flush())
        while not self._flushing.done():
            progress()
            left_s = deadline - loop.time()
            if left_s <= 0 or not self.look().turn_off:
                return False
            await asyncio.wait({self._flushing}, timeout=min(TICK_S, left_s))
        self._flushing.result()
        return True

    def _failed(self, why: str) -> None:
        if self._order.turn_off:
            log.error("not_turned_off", why=why)
            self._rules.ask_failed(self._clock.boottime_ns(), why)

    def _withdraw(self) -> None:
        try:
            self._switch.withdraw()
        except HardwareError as error:
            log.error("not_withdrawn", why=str(error))

    def _say(self, reason: HealthReason, detail: str) -> None:
        if detail:
            self._health.raise_(reason, detail)
        else:
            self._health.clear(reason)
