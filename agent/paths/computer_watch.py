"""From what the computer tells of itself to health reasons."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict

from agent.domain.device_health import REASONS, ComputerState, unwell
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.modem import MODEM_REASONS, modem_unwell
from agent.domain.tamper import TamperWatch
from agent.runtime.worker import Worker

EVERY_S = 10.0
TICK_S = 1.0


class ComputerWatch:
    """Looks at the computer now and then.

    Args:
        read: reads it anew; may block as long as a hung disk does, which holds up nothing else.
        worker: where it is read.
        health: is told what is not well of the computer and its modem, and TAMPER.
    """

    def __init__(self, read: Callable[[], ComputerState], worker: Worker, health: HealthBoard) -> None:
        self._read = read
        self._worker = worker
        self._health = health
        self._state = ComputerState()
        self._had_modem = False
        self._tamper = TamperWatch()

    async def run(self, progress: Callable[[], None]) -> None:
        """The unit's loop."""
        while True:
            reading = asyncio.ensure_future(self._worker.run(self._read))
            try:
                while not reading.done():
                    progress()
                    await asyncio.wait({reading}, timeout=TICK_S)
            finally:
                reading.cancel()
            self._judge(reading.result())
            for _ in range(round(EVERY_S / TICK_S)):
                progress()
                self._look_for_tampering()
                await asyncio.sleep(TICK_S)

    async def close(self) -> None:
        """Release the worker, once `run` has ended."""
        await self._worker.close()

    def snapshot(self) -> dict[str, object]:
        """What was read last, for `mdt status`; None for what the computer does not tell."""
        return asdict(self._state)

    def _judge(self, state: ComputerState) -> None:
        self._state = state
        self._had_modem |= state.modem is not None and state.modem.is_there
        found = unwell(state) | modem_unwell(state.modem, was_there=self._had_modem)
        for reason in (*REASONS, *MODEM_REASONS):
            if reason in found:
                self._health.raise_(reason, found[reason])
            else:
                self._health.clear(reason)

    def _look_for_tampering(self) -> None:
        gone = self._tamper.look(self._health.details(), asyncio.get_running_loop().time())
        if gone:
            self._health.raise_(HealthReason.TAMPER, gone)
        else:
            self._health.clear(HealthReason.TAMPER)
