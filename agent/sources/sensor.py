"""A sensor as a part of the agent that is supervised: samples in, vehicle signals out."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import NoReturn

from agent.domain.health import HealthBoard, HealthReason
from agent.domain.record import SignalValue
from agent.domain.vehicle import Signal
from agent.hal.errors import DeviceNotFoundError, HardwareError
from agent.hal.samples import Sample, SampleFeed
from agent.sources.can import vss

TICK_S = 0.5
OPEN_TIMEOUT_S = 15.0


class SensorSource:
    """Reads a sensor for as long as it is there. Event loop only.

    Args:
        feed: the sensor.
        health: gets SENSOR_LOST and SENSOR_SILENT.
        silent_after_s: without a reading for longer, the sensor counts as silent.
    """

    def __init__(self, feed: SampleFeed, health: HealthBoard, *, silent_after_s: float) -> None:
        self._feed = feed
        self._health = health
        self._silent_after_s = silent_after_s
        self._given: set[str] = set()

    async def run(
        self, on_signals: Callable[[Sequence[Signal]], None], progress: Callable[[], None]
    ) -> NoReturn:
        """Open the sensor and hand on what it reads, in the unit that VSS gives the signal.

        `progress` is called at least once a second once it is open. When the sensor is lost, what it gave is
        told as unknown at once.

        Raises:
            HardwareError: the sensor is not there or went away; SENSOR_LOST then holds until it reads again.
            ValueError: the driver gives a unit that its signal can not have: a defect.
        """
        newest_ns = 0
        try:
            await self._open()
            loop = asyncio.get_running_loop()
            heard_at_s = loop.time()
            while True:
                progress()
                samples = await self._read()
                if samples:
                    on_signals([_signal(sample) for sample in samples])
                    self._given.update(sample.signal for sample in samples)
                    newest_ns = samples[-1].received_boottime_ns
                    if any(sample.value is not None for sample in samples):
                        heard_at_s = loop.time()
                        self._clear()
                if loop.time() - heard_at_s > self._silent_after_s:
                    detail = f"{self._feed.name}: no reading for {self._silent_after_s:g} s"
                    self._health.raise_(HealthReason.SENSOR_SILENT, detail, owner=self._feed.name)
        except HardwareError as error:
            self._health.clear(HealthReason.SENSOR_SILENT, owner=self._feed.name)
            self._health.raise_(HealthReason.SENSOR_LOST, str(error), owner=self._feed.name)
            on_signals([Signal(name, None, newest_ns) for name in sorted(self._given)])
            self._given.clear()
            raise
        finally:
            await self._feed.close()

    def _clear(self) -> None:
        self._health.clear(HealthReason.SENSOR_LOST, HealthReason.SENSOR_SILENT, owner=self._feed.name)

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await self._feed.open()
        except TimeoutError as error:
            raise DeviceNotFoundError(self._feed.name, "opening takes too long") from error

    async def _read(self) -> Sequence[Sample]:
        try:
            async with asyncio.timeout(TICK_S):
                return await self._feed.read()
        except TimeoutError:
            return ()


def _signal(sample: Sample) -> Signal:
    known = vss.SIGNALS.get(sample.signal)
    value: SignalValue | None = sample.value
    if known is not None and sample.unit != known.unit and value is not None:
        scale_offset = vss.conversion(sample.unit or "", known.unit or "")
        if scale_offset is None or isinstance(value, str):
            raise ValueError(f"{sample.signal} in {sample.unit}: VSS gives it in {known.unit}")
        scale, offset = scale_offset
        value = value * scale + offset
    if isinstance(value, float) and not math.isfinite(value):
        value = None  # what a driver divided by nothing is no reading
    return Signal(sample.signal, value, sample.received_boottime_ns)
